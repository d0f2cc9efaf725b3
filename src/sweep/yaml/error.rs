//! What is wrong with a file, where, and what to do about it.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::{Deserialize, Serialize};
use winsign_core::text::printable;

/// Lines shown before and after the one an error points at.
const CONTEXT: usize = 2;

/// An error in a file. As text it is one line; [`FileError::render`] shows the place in the file as well, and
/// its serde form is for other programs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileError {
    pub message: String,
    pub file: String,
    /// From 1, as is the column; none where the error is not in the text, such as a file that cannot be read.
    pub line: Option<usize>,
    pub column: Option<usize>,
    /// What to do.
    pub help: String,
    #[serde(skip)]
    excerpt: Option<Box<Excerpt>>,
}

/// The lines around an error.
#[derive(Debug, Clone, PartialEq)]
struct Excerpt {
    text: String,
    first_line: usize,
    /// What to underline, in bytes of `text`.
    span: Range<usize>,
}

/// An error before it is known which file it is in: what the readers of this room return.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostic {
    place: Option<Place>,
    message: String,
    help: String,
}

/// A place in the text: line and column from 1, in characters, and the bytes it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Place {
    pub line: usize,
    pub column: usize,
    pub start: usize,
    pub end: usize,
}

impl Diagnostic {
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Diagnostic {
        Diagnostic { place: None, message: message.into(), help: help.into() }
    }

    pub fn at(place: Place, message: impl Into<String>, help: impl Into<String>) -> Diagnostic {
        Diagnostic { place: Some(place), ..Diagnostic::new(message, help) }
    }

    /// The fault of a text that is in no file.
    pub fn without_place(self) -> Diagnostic {
        Diagnostic { place: None, ..self }
    }

    pub fn in_file(self, file: &str, text: &str) -> FileError {
        FileError {
            message: self.message,
            file: file.to_string(),
            line: self.place.map(|place| place.line),
            column: self.place.map(|place| place.column),
            help: self.help,
            excerpt: self.place.map(|place| Box::new(Excerpt::around(place, text))),
        }
    }
}

impl Excerpt {
    fn around(place: Place, text: &str) -> Excerpt {
        let first_line = place.line.saturating_sub(CONTEXT).max(1);
        let mut lines = text.split_inclusive('\n').skip(first_line - 1);
        let before: String = lines.by_ref().take(place.line - first_line).collect();
        let line = lines.next().unwrap_or_default();
        let after: String = lines.take(CONTEXT).collect();

        // Columns count characters; what is underlined ends with its line.
        let visible = line.trim_end_matches(['\n', '\r']);
        let start = visible.char_indices().nth(place.column.saturating_sub(1)).map_or(visible.len(), |(byte, _)| byte);
        let mut end = start.saturating_add(place.end.saturating_sub(place.start)).min(visible.len());
        while !visible.is_char_boundary(end) {
            end += 1;
        }
        let span = before.len() + start..before.len() + end;
        Excerpt { text: before + line + &after, first_line, span }
    }
}

impl FileError {
    /// The error as people read it: the message, the lines of the file around the place, and what to do.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let snippet = self.excerpt.as_ref().map(|excerpt| {
            Snippet::source(&excerpt.text)
                .line_start(excerpt.first_line)
                .path(&self.file)
                .fold(false)
                .annotation(AnnotationKind::Primary.span(excerpt.span.clone()))
        });
        let title = Level::ERROR.primary_title(self.headline());
        renderer.render(&[title.elements(snippet).element(Level::HELP.message(&self.help))])
    }

    /// The message, preceded by the file's name where no excerpt shows it.
    fn headline(&self) -> String {
        if self.excerpt.is_some() { self.message.clone() } else { format!("{}: {}", self.file, self.message) }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, "{}:{line}:{column}: {} ({})", self.file, self.message, self.help),
            _ => write!(f, "{}: {} ({})", self.file, self.message, self.help),
        }
    }
}

impl std::error::Error for FileError {}

/// Text from the file as it appears in messages, shortened.
pub fn quoted(text: &str) -> String {
    const LONGEST: usize = 40;
    let shown: String = text.chars().take(LONGEST).collect();
    let more = if text.chars().nth(LONGEST).is_some() { "…" } else { "" };
    format!("`{}{more}`", printable(&shown))
}

/// Names as they appear in messages.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// The name that was probably meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A name is no longer than this; the distance of a text of a megabyte would take minutes.
    if name.len() > 64 {
        return None;
    }
    let tolerated = (name.chars().count() / 3).clamp(1, 3);
    let name = name.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, candidate), candidate))
        .filter(|(distance, _)| *distance <= tolerated)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A number with its thousands set apart: 1,234,567.
pub fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
