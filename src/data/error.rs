//! Errors of the operations on data sets.

use std::io;
use std::path::{Path, PathBuf};

use winsign_core::{Diagnostic, exit};

use super::Set;

/// An error of this crate. Each message says what failed and on what; as a [`Diagnostic`] it also says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation of the file system failed.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// A data set was not found. `looked` lists the places that were searched, in order, each with what was expected
    /// there.
    #[error("cannot find {name}; looked for\n{list}", name = set.name(), list = indented(looked))]
    Missing { set: Set, looked: Vec<String> },
    /// A folder contains no data set of any kind.
    #[error(
        "cannot find a data set in {folder}; looked for\n{list}",
        folder = folder.display(),
        list = indented(looked)
    )]
    NoneFound { folder: PathBuf, looked: Vec<String> },
    /// A file of the set differs from what its publisher ships; `reason` includes the offset if there is one.
    #[error("{path}: {reason}", path = path.display())]
    Malformed { path: PathBuf, reason: String },
    /// The path at which a set should be written exists.
    #[error("cannot write {path}: it already exists", path = path.display())]
    Exists { path: PathBuf },
    /// The request is invalid.
    #[error("{0}")]
    Request(String),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Returns a function that turns an I/O error into [`Error::Io`] with the action and the path; for `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    /// Creates an [`Error::Malformed`].
    pub fn malformed(path: &Path, reason: impl Into<String>) -> Error {
        Error::Malformed { path: path.to_path_buf(), reason: reason.into() }
    }
}

impl From<Error> for Diagnostic {
    fn from(error: Error) -> Diagnostic {
        let message = error.to_string();
        match error {
            Error::Io { .. } => Diagnostic::with_code(exit::IO, message, None),
            Error::Request(_) => Diagnostic::with_code(exit::USAGE, message, None),
            Error::Missing { set, .. } => Diagnostic::new(
                message,
                format!(
                    "download it from {} and unpack it there, name its folder with --data DIR, or make a small \
                     synthetic one: `winsign data synth --like {set} --train 2000 --test 500 DIR`",
                    set.published_at()
                ),
            ),
            Error::NoneFound { .. } => Diagnostic::new(
                message,
                "name the folder that holds the sets, or the folder of one set; `winsign data synth` makes small ones",
            ),
            Error::Malformed { .. } => Diagnostic::with_code(
                exit::DAMAGED_INPUT,
                message,
                Some("run `winsign data check DIR` to find all damaged files, and download them again"),
            ),
            Error::Exists { .. } => Diagnostic::new(message, "name another folder, or remove the existing one"),
        }
    }
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
