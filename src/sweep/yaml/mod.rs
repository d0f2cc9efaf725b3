//! YAML files: a text becomes a tree in which every node has its place, and errors have line, column and help.

mod document;
mod words;

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use super::keys::Key;

pub use document::{Content, Name, Node};
pub use winsign_core::diagnostic::{Diagnostic, Place};
use winsign_core::text::with_newlines;
pub use words::{grouped, listed, nearest, quoted};

/// The maximum size of a file.
pub const MAX_BYTES: usize = 1 << 20;

/// A kind of file: its name, its keys, and its texts in messages.
#[derive(Debug)]
pub struct DocumentKind {
    /// Its name, as in `a sweep file`.
    pub name: &'static str,
    /// A description in one or two sentences.
    pub description: &'static str,
    /// The path of an example.
    pub example: &'static str,
    pub keys: &'static [Key],
    /// Names of keys in similar files, and the keys that they mean.
    pub other_names: &'static [(&'static str, &'static str)],
    /// The number of levels of nesting that it needs, in words.
    pub levels: &'static str,
    /// The help for a key that is given twice.
    pub twice: &'static str,
    /// The help for a file that is too large.
    pub too_large: &'static str,
}

/// Reads a YAML document.
pub fn parse(text: &str, kind: &DocumentKind) -> Result<Node, Diagnostic> {
    if text.len() > MAX_BYTES {
        return Err(too_large(kind));
    }
    document::read(text, kind)
}

/// Returns the text of a file.
pub fn read_text(path: &Path, kind: &DocumentKind) -> Result<String, Diagnostic> {
    let mut bytes = Vec::new();
    let opened = fs::File::open(path).and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes));
    match opened {
        Ok(_) if bytes.len() > MAX_BYTES => Err(too_large(kind)),
        Ok(_) => String::from_utf8(bytes).map(plain_text).map_err(|error| {
            let message =
                format!("cannot read this file as text: byte {} is not UTF-8", error.utf8_error().valid_up_to());
            Diagnostic::new(message, format!("give a {} in YAML, saved as UTF-8", kind.name))
        }),
        Err(error) => Err(unreadable(path, kind, &error)),
    }
}

/// Returns a text with plain ends of lines, and without the mark with which some editors begin files.
fn plain_text(text: String) -> String {
    with_newlines(text.strip_prefix('\u{feff}').unwrap_or(&text))
}

fn too_large(kind: &DocumentKind) -> Diagnostic {
    let message = format!("this file has more than {} bytes", grouped(MAX_BYTES as u128));
    Diagnostic::new(message, kind.too_large)
}

fn unreadable(path: &Path, kind: &DocumentKind, error: &io::Error) -> Diagnostic {
    match error.kind() {
        io::ErrorKind::NotFound => {
            let help = match similar_file(path) {
                Some(similar) => format!("did you mean {similar}?"),
                None => format!("give the path of a {}, such as {}", kind.name, kind.example),
            };
            Diagnostic::new("the file does not exist", help)
        }
        io::ErrorKind::IsADirectory => {
            Diagnostic::new("this is a directory, not a file", format!("give the path of a {}", kind.name))
        }
        _ => Diagnostic::new(format!("cannot read this file: {error}"), "check its permissions"),
    }
}

/// Returns the path of a file in the same directory with a similar name.
fn similar_file(path: &Path) -> Option<String> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let files = fs::read_dir(directory).ok()?.flatten().filter(|entry| entry.path().is_file());
    let names: Vec<String> = files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let wanted = path.file_name()?.to_str()?;
    let name = nearest(wanted, names.iter().map(String::as_str))?;
    Some(path.with_file_name(name).display().to_string())
}
