//! What can be wrong with a data set on disk.

use std::io;
use std::path::{Path, PathBuf};

use super::Set;

/// Each message says what is wrong and where; [`Error::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// `looked` lists all places, in order, each with what was expected there.
    #[error("{name} is not there; looked for\n{list}", name = set.name(), list = indented(looked))]
    Missing { set: Set, looked: Vec<String> },
    /// There is no data set of any kind in a folder, whatever was expected.
    #[error("there is no data set in {folder}; looked for\n{list}", folder = folder.display(), list = indented(looked))]
    NoneFound { folder: PathBuf, looked: Vec<String> },
    /// A file of the set is not what its publisher ships; `reason` has the offset where there is one.
    #[error("{path}: {reason}", path = path.display())]
    Malformed { path: PathBuf, reason: String },
    /// A set is to be written where something lies already.
    #[error("{path} exists; nothing was written", path = path.display())]
    Exists { path: PathBuf },
    /// What was asked for cannot be made.
    #[error("{0}")]
    Request(String),
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
            Error::Io { .. } | Error::Request(_) => None,
            Error::Missing { set, .. } => Some(format!(
                "it is published at {}; unpack it there, say where it is with --data DIR, or make a small one to try \
                 things with: `winsign data synth --like {set} --train 2000 --test 500 DIR`",
                set.published_at()
            )),
            Error::NoneFound { .. } => Some(
                "name the folder that holds the sets, or one set's own folder; `winsign data synth` makes small ones"
                    .to_string(),
            ),
            Error::Malformed { .. } => Some("`winsign data check DIR` examines all of it; fetch it again".to_string()),
            Error::Exists { .. } => Some("name another folder, or remove it yourself".to_string()),
        }
    }
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
