//! Errors as people and other programs read them.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::{Deserialize, Serialize};

use super::exit;
use super::text::{code_point, deceptive, is_invisible};

/// Lines shown before and after the one an error points at.
const CONTEXT: usize = 2;

/// An error that ends a command: what failed on what, where, what to do, and the exit code. Typed errors become one
/// through `From`.
///
/// As text it is one line, `FILE:LINE:COLUMN: MESSAGE; help: HELP`; [`Diagnostic::render`] shows the lines of the file,
/// and the serialized form is for other programs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diagnostic {
    pub message: String,
    pub file: Option<String>,
    /// From 1, as is the column; `None` where the error is not in a text.
    pub line: Option<usize>,
    pub column: Option<usize>,
    /// What to do, as an imperative; `None` if that depends on more than the error.
    pub help: Option<String>,
    pub exit_code: u8,
    #[serde(skip)]
    excerpt: Option<Box<Excerpt>>,
}

/// A place in a text: line and column from 1, in characters, and the bytes it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Place {
    pub line: usize,
    pub column: usize,
    pub start: usize,
    pub end: usize,
}

/// The lines around an error.
#[derive(Debug, Clone, PartialEq)]
struct Excerpt {
    place: Place,
    text: String,
    first_line: usize,
    /// The bytes of `text` to underline.
    span: Range<usize>,
}

impl Diagnostic {
    /// Creates an error in the user's input, with the exit code [`exit::USAGE`].
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Diagnostic {
        Diagnostic { help: Some(help.into()), ..Diagnostic::with_code(exit::USAGE, message, None) }
    }

    /// Creates an error in the user's input at a place of a text; [`Diagnostic::in_file`] adds the file.
    pub fn at(place: Place, message: impl Into<String>, help: impl Into<String>) -> Diagnostic {
        let excerpt = Some(Box::new(Excerpt::around(place, "")));
        Diagnostic { line: Some(place.line), column: Some(place.column), excerpt, ..Diagnostic::new(message, help) }
    }

    /// Creates an error with any exit code.
    pub fn with_code(exit_code: u8, message: impl Into<String>, help: Option<&str>) -> Diagnostic {
        let (message, help) = (message.into(), help.map(str::to_string));
        Diagnostic { message, file: None, line: None, column: None, help, exit_code, excerpt: None }
    }

    /// Adds the name of the file that contains the error, and its lines around the place.
    #[must_use]
    pub fn in_file(self, name: &str, text: &str) -> Diagnostic {
        let excerpt = self.excerpt.map(|excerpt| Box::new(Excerpt::around(excerpt.place, text)));
        let help = excerpt.as_ref().and_then(|excerpt| excerpt.explain_deceptive()).or(self.help);
        Diagnostic { file: Some(name.to_string()), excerpt, help, ..self }
    }

    /// Removes the place, if the text is in no file.
    #[must_use]
    pub fn without_place(self) -> Diagnostic {
        Diagnostic { line: None, column: None, excerpt: None, ..self }
    }

    /// Formats the error for people: the message, the lines of the file around the place, and the help.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let snippet = self.excerpt.as_ref().zip(self.file.as_ref()).map(|(excerpt, file)| {
            Snippet::source(&excerpt.text)
                .line_start(excerpt.first_line)
                .path(file)
                .fold(false)
                .annotation(AnnotationKind::Primary.span(excerpt.span.clone()))
        });
        let headline = match &self.file {
            Some(file) if snippet.is_none() => format!("{file}: {}", self.message),
            _ => self.message.clone(),
        };
        let help = self.help.as_ref().map(|help| Level::HELP.message(help));
        renderer.render(&[Level::ERROR.primary_title(headline).elements(snippet).elements(help)])
    }
}

impl Excerpt {
    fn around(place: Place, text: &str) -> Excerpt {
        let first_line = place.line.saturating_sub(CONTEXT).max(1);
        let mut lines = text.split_inclusive('\n').skip(first_line - 1);
        let before: String = lines.by_ref().take(place.line.saturating_sub(first_line)).collect();
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
        Excerpt { place, text: before + line + &after, first_line, span }
    }
}

impl Excerpt {
    /// Returns the help for a character that is easily taken for another, where the error is.
    fn explain_deceptive(&self) -> Option<String> {
        let character = deceptive(&self.text[self.span.clone()]).into_iter().next()?;
        let code = code_point(character);
        Some(match character {
            space if space.is_whitespace() => format!("replace {code} by a plain space"),
            invisible if is_invisible(invisible) => format!("remove {code}, which cannot be seen"),
            _ => format!("replace {code} by the plain character that it looks like"),
        })
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (&self.file, self.line, self.column) {
            (Some(file), Some(line), Some(column)) => write!(f, "{file}:{line}:{column}: ")?,
            (Some(file), ..) => write!(f, "{file}: ")?,
            (None, ..) => {}
        }
        f.write_str(&self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, "; help: {help}"))
    }
}

impl std::error::Error for Diagnostic {}

#[cfg(test)]
mod tests {
    use super::super::Error;
    use super::*;

    const TEXT: &str = "one\ntwo wörds\nthree\n";

    fn at_second_word() -> Diagnostic {
        let place = Place { line: 2, column: 5, start: 8, end: 14 };
        Diagnostic::at(place, "bad word", "choose another").in_file("a.txt", TEXT)
    }

    #[test]
    fn error_in_a_file_shows_its_lines() {
        let expected = "\
error: bad word
 --> a.txt:2:5
  |
1 | one
2 | two wörds
  |     ^^^^^
3 | three
  |
  = help: choose another";
        assert_eq!(at_second_word().render(false), expected);
        assert!(at_second_word().render(true).contains("\u{1b}["));
    }

    #[test]
    fn error_without_place_or_help_is_its_message() {
        assert_eq!(Diagnostic::with_code(exit::FAILURE, "it failed", None).render(false), "error: it failed");
        let file = Diagnostic::new("it is empty", "write something").in_file("a.txt", "");
        assert_eq!(file.render(false), "error: a.txt: it is empty\n |\n = help: write something");
    }

    #[test]
    fn text_is_one_line_with_place_and_help() {
        assert_eq!(at_second_word().to_string(), "a.txt:2:5: bad word; help: choose another");
        assert_eq!(at_second_word().without_place().to_string(), "a.txt: bad word; help: choose another");
        assert_eq!(Diagnostic::with_code(exit::IO, "it failed", None).to_string(), "it failed");
    }

    #[test]
    fn form_for_programs_always_has_all_keys() {
        let json = serde_json::to_value(Diagnostic::with_code(exit::IO, "it failed", None)).unwrap();
        let expected = serde_json::json!({
            "message": "it failed", "file": null, "line": null, "column": null, "help": null, "exit_code": 74,
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn typed_errors_keep_their_message_and_add_help_and_exit_code() {
        let error = Error::damaged("x.json".as_ref(), "no checksum");
        let message = error.to_string();
        let diagnostic = Diagnostic::from(error);
        assert_eq!((diagnostic.message, diagnostic.exit_code), (message, exit::DAMAGED_INPUT));
        assert!(diagnostic.help.unwrap().contains("`winsign run`"));
    }
}
