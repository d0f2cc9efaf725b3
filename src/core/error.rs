//! Errors of the operations on runs on disk.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{Diagnostic, RunId, exit};

/// An error of this crate. Each message says what failed and on what; as a [`Diagnostic`] it also says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation of the file system failed.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// A file is damaged: truncated, edited, or not what its name says.
    #[error("{path} is damaged: {reason}", path = path.display())]
    Damaged { path: PathBuf, reason: String },
    /// A file was written by a version of winsign whose format this version cannot read.
    #[error("cannot read {path}: it has format {found}, but this version reads {expected}", path = path.display())]
    Format { path: PathBuf, found: u32, expected: u32 },
    /// A directory is not a run directory.
    #[error("{path} is not a run directory: it has no run.json, which `winsign run` creates", path = path.display())]
    NotARun { path: PathBuf },
    /// Another attempt at the same run is alive.
    #[error("run {id} is being executed by {owner}")]
    Held { id: RunId, owner: String },
    /// A checkpoint was computed from other data than the run uses now. It is left in place.
    #[error("cannot resume from {path}: it was computed from other data than the run uses now", path = path.display())]
    OtherData { path: PathBuf },
    /// A later attempt has taken the run over, so that this one must not write any more.
    #[error("run {id}: attempt {later} has taken over from attempt {ours}")]
    Superseded { id: RunId, ours: u32, later: u32 },
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Returns a function that turns an I/O error into [`Error::Io`] with the action and the path; for `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    /// Creates an [`Error::Damaged`].
    pub fn damaged(path: &Path, reason: impl Into<String>) -> Error {
        Error::Damaged { path: path.to_path_buf(), reason: reason.into() }
    }
}

impl From<Error> for Diagnostic {
    fn from(error: Error) -> Diagnostic {
        let (exit_code, help) = match &error {
            Error::Io { source, .. } => {
                let help = match source.kind() {
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                        Some("free some space, then run the same command again: it resumes where it stopped")
                    }
                    ErrorKind::ReadOnlyFilesystem => Some(
                        "make the file system writable, then run the same command again; or choose another directory: --store DIR, or --out DIR for a report",
                    ),
                    ErrorKind::PermissionDenied => {
                        Some("choose a directory that you can write to: --store DIR, or --out DIR for a report")
                    }
                    _ => None,
                };
                (exit::IO, help)
            }
            Error::Damaged { path, .. } => (exit::DAMAGED_INPUT, Some(help_for_damaged(path))),
            Error::Format { .. } => {
                (exit::USAGE, Some("use the version of winsign that wrote it, or choose another --store"))
            }
            Error::NotARun { .. } => {
                (exit::USAGE, Some("pass the directory of a run, STORE/runs/xx/ID; `winsign plan --all` lists them"))
            }
            Error::OtherData { .. } => {
                (exit::FAILURE, Some("pass the directory of the original data (--data DIR), or use another --store"))
            }
            Error::Held { .. } | Error::Superseded { .. } => (exit::HELD, None),
        };
        Diagnostic::with_code(exit_code, error.to_string(), help)
    }
}

/// Returns the help for a damaged file: of a run, or of a submission, whose jobs have to be submitted again.
fn help_for_damaged(path: &Path) -> &'static str {
    // STORE/submissions/ID/FILE or STORE/submissions/ID/arrays/FILE
    let is_of_submission = path.ancestors().skip(1).take(3).any(|folder| folder.ends_with("submissions"));
    match (is_of_submission, path.ends_with("submission.json")) {
        (true, true) => {
            "cancel its jobs by their names, which contain the name of the folder, delete the folder, and run `winsign submit`"
        }
        (true, false) => "run `winsign cancel`, and `winsign submit` when its jobs have ended",
        (false, _) => "run `winsign run`, which sets damaged files aside and computes them again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_of_submissions_have_their_own_help() {
        let help = |path: &str| Diagnostic::from(Error::damaged(Path::new(path), "cut")).help.unwrap();
        for path in ["/s/submissions/3f/tasks.json", "/s/submissions/3f/arrays/0.runs", "/s/submissions/3f"] {
            assert!(help(path).contains("winsign cancel"), "{path}");
        }
        assert!(help("/s/submissions/3f/submission.json").contains("delete the folder"));
        for path in ["/s/runs/3f/3f09/run.json", "/submissions/s/runs/3f/3f09/attempts/1/end.json"] {
            assert!(help(path).contains("winsign run"), "{path}");
        }
    }
}
