//! What can go wrong with a run on disk.

use std::io;
use std::path::{Path, PathBuf};

use super::{RunId, exit};

/// An error of the hall. Each message says what happened and where; [`Error::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// A file is there but is not what was written: truncated, edited, or of another format version.
    #[error("{path} is damaged: {reason}", path = path.display())]
    Damaged { path: PathBuf, reason: String },
    /// A file was written by a version of winsign this one cannot read.
    #[error("{path} has format {found}, this winsign reads format {expected}", path = path.display())]
    Format { path: PathBuf, found: u32, expected: u32 },
    /// A directory lacks what would make it a run.
    #[error("{path} is not a run directory: it has no run.json, which `winsign run` makes", path = path.display())]
    NotARun { path: PathBuf },
    /// Another attempt at the same run is alive.
    #[error("run {id} is being executed by {owner}")]
    Held { id: RunId, owner: String },
    /// A checkpoint belongs to other data than the run has now. It is left where it is.
    #[error("{path} was computed from other data than there are now", path = path.display())]
    OtherData { path: PathBuf },
    /// A later attempt has taken this run over; what this one writes no longer counts.
    #[error("run {id}: attempt {later} has taken over from attempt {ours}")]
    Superseded { id: RunId, ours: u32, later: u32 },
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An I/O error with what was attempted and where; for `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    pub fn damaged(path: &Path, reason: impl Into<String>) -> Error {
        Error::Damaged { path: path.to_path_buf(), reason: reason.into() }
    }

    /// The exit code that tells this error apart for scripts.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Io { .. } => exit::IO,
            Error::Damaged { .. } => exit::DAMAGED_INPUT,
            Error::Format { .. } | Error::NotARun { .. } => exit::USAGE,
            Error::Held { .. } | Error::Superseded { .. } => exit::HELD,
            Error::OtherData { .. } => exit::FAILURE,
        }
    }

    /// What the user can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Some("free some space, then run the same command again: it goes on where it stopped")
                }
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                    Some("choose another folder that you can write to: --store DIR, or --out DIR for a report")
                }
                _ => None,
            },
            Error::Damaged { .. } => Some("`winsign run` sets damaged files aside and computes them again"),
            Error::Format { .. } => Some("use the version of winsign that wrote it, or another --store"),
            Error::NotARun { .. } => {
                Some("give the directory of a run, STORE/runs/xx/ID; `winsign plan --all` names them")
            }
            Error::OtherData { .. } => {
                Some("say where the data are that it was begun with (--data DIR), or use another --store")
            }
            Error::Held { .. } | Error::Superseded { .. } => None,
        }
    }
}

/// A request that cannot be fulfilled, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// What cannot be done, and why.
    pub message: String,
    /// What to do instead, as an imperative.
    pub help: String,
}

impl Refused {
    /// Makes a refusal of its two sentences.
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Refused {
        Refused { message: message.into(), help: help.into() }
    }
}
