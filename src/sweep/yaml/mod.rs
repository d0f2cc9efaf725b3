//! Files that people write in YAML: a text becomes a tree in which everything knows its place, and what is wrong with
//! it is told with line, column and a hint. Sweep files and profiles share this.

mod document;
mod words;

use std::fs;
use std::io::{self, Read};
use std::path::Path;

pub use document::{Content, Name, Node};
pub use winsign_core::diagnostic::{Diagnostic, Place};
pub use words::{grouped, listed, nearest, quoted};

/// Larger than any file that people write.
pub const MAX_BYTES: usize = 1 << 20;

/// A sort of file, as messages speak of it.
#[derive(Debug)]
pub struct DocumentKind {
    /// What it is called, as in `a sweep file`.
    pub name: &'static str,
    /// The path of one.
    pub example: &'static str,
    /// How many levels of nesting it needs, in words.
    pub levels: &'static str,
    /// What to do about a key that is given twice.
    pub twice: &'static str,
    /// What to do about a file that is too large.
    pub too_large: &'static str,
}

/// Reads a YAML document.
pub fn parse(text: &str, sort: &DocumentKind) -> Result<Node, Diagnostic> {
    if text.len() > MAX_BYTES {
        return Err(too_large(sort));
    }
    document::read(text, sort)
}

/// The text of a file.
pub fn read_text(path: &Path, sort: &DocumentKind) -> Result<String, Diagnostic> {
    let mut bytes = Vec::new();
    let opened = fs::File::open(path).and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes));
    match opened {
        Ok(_) if bytes.len() > MAX_BYTES => Err(too_large(sort)),
        Ok(_) => String::from_utf8(bytes).map_err(|error| {
            let message =
                format!("cannot read this file as text: byte {} is not UTF-8", error.utf8_error().valid_up_to());
            Diagnostic::new(message, format!("give a {} in YAML, saved as UTF-8", sort.name))
        }),
        Err(error) => Err(unreadable(path, sort, &error)),
    }
}

fn too_large(sort: &DocumentKind) -> Diagnostic {
    let message = format!("this file has more than {} bytes", grouped(MAX_BYTES as u128));
    Diagnostic::new(message, sort.too_large)
}

fn unreadable(path: &Path, sort: &DocumentKind, error: &io::Error) -> Diagnostic {
    match error.kind() {
        io::ErrorKind::NotFound => {
            let help = match similar_file(path) {
                Some(similar) => format!("did you mean {similar}?"),
                None => format!("give the path of a {}, such as {}", sort.name, sort.example),
            };
            Diagnostic::new("the file does not exist", help)
        }
        io::ErrorKind::IsADirectory => {
            Diagnostic::new("this is a directory, not a file", format!("give the path of a {}", sort.name))
        }
        _ => Diagnostic::new(format!("cannot read this file: {error}"), "check its permissions"),
    }
}

/// A file beside a missing one that has nearly its name.
fn similar_file(path: &Path) -> Option<String> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let files = fs::read_dir(directory).ok()?.flatten().filter(|entry| entry.path().is_file());
    let names: Vec<String> = files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let wanted = path.file_name()?.to_str()?;
    let name = nearest(wanted, names.iter().map(String::as_str))?;
    Some(path.with_file_name(name).display().to_string())
}
