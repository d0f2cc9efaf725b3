//! What can be wrong with a data set on disk.

use std::io;
use std::path::{Path, PathBuf};

/// Each message says what is wrong and where; [`Error::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// `looked` lists the places in order.
    #[error("the data set {name} is not there; looked for {looked}")]
    Missing { name: &'static str, looked: String, published: &'static str },
    /// A file of the set is not what its publisher ships; `reason` has the offset where there is one.
    #[error("{path}: {reason}", path = path.display())]
    Malformed { path: PathBuf, reason: String },
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An I/O error with what was attempted and where; for `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    pub fn malformed(path: &Path, reason: impl Into<String>) -> Error {
        Error::Malformed { path: path.to_path_buf(), reason: reason.into() }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Io { .. } => None,
            Error::Missing { published, .. } => {
                Some(format!("it is published at {published}; unpack it there, or say where it is with --data DIR"))
            }
            Error::Malformed { .. } => Some("`winsign data check DIR` examines all of it; fetch it again".to_string()),
        }
    }
}
