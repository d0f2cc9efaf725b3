//! Slurm: turns a plan into job arrays, without a process that keeps running.
//!
//! [`submit`] controls a submission: [`arrays`] groups the runs, [`script`] writes the jobs, [`submission`] keeps them in the
//! store and submits them through [`client`] within the limits of the cluster. In a job, [`task`] executes its runs and then
//! submits what did not fit before. [`queue`] returns the runs that are queued or running in Slurm. The state of a run is in
//! its directory; Slurm is queried only for the jobs that still exist.

pub mod arrays;
pub mod client;
pub mod profile;
pub mod programs;
pub mod queue;
pub mod script;
pub mod submission;
pub mod submit;
pub mod task;

use std::path::PathBuf;

use winsign_core::{Diagnostic, exit};

/// An error of Slurm or of a submission.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot use Slurm on this machine: {command} not found")]
    NoSlurm { command: String },
    /// `words` is the message of Slurm.
    #[error("{command} failed: {words}")]
    Refused { command: String, words: String },
    #[error("cannot parse the output of {command}: {answer}")]
    Strange { command: &'static str, answer: String },
    /// Other jobs of the user use the whole limit.
    #[error("cannot submit more jobs: the limit is {room}, and {used} are queued or running")]
    Full { room: usize, used: usize },
    #[error("cannot query the job queue of Slurm: {reason}")]
    Unasked { reason: String },
    /// Another process is submitting to the same store.
    #[error("cannot submit to this store: {reason}")]
    Busy { reason: String },
    #[error("cannot submit {} to Slurm: {reason}", path.display())]
    Unfit { path: PathBuf, reason: String },
    #[error(transparent)]
    Store(#[from] winsign_core::Error),
}

impl Error {
    /// Whether Slurm has definitely not accepted the job.
    fn is_certain(&self) -> bool {
        match self {
            Error::Refused { words, .. } => !client::is_absence(words),
            Error::Full { .. } | Error::NoSlurm { .. } => true,
            _ => false,
        }
    }

    /// Whether only a limit on the number of jobs was reached, so that submitting can succeed later.
    fn is_limit(&self) -> bool {
        match self {
            Error::Full { .. } => true,
            // `QOSMaxSubmitJobPerUserLimit`, `AssocGrpSubmitJobsLimit` and their like; and the controller's memory for jobs.
            Error::Refused { words, .. } => {
                let known = ["SubmitJob", "unable to accept job", "Resource temporarily unavailable"];
                known.iter().any(|known| words.contains(known))
            }
            _ => false,
        }
    }
}

impl From<Error> for Diagnostic {
    fn from(error: Error) -> Diagnostic {
        let message = error.to_string();
        let help = match error {
            Error::Store(error) => return error.into(),
            Error::NoSlurm { .. } => {
                let help =
                    "run this on a node of the cluster where sbatch works, or use `winsign run` (also with --hosts)";
                return Diagnostic::new(message, help);
            }
            Error::Refused { words, .. } if client::is_absence(&words) => {
                Some("try again later, the controller does not respond; nothing that was submitted is lost")
            }
            Error::Full { .. } => Some("run the same command again when some of them have ended"),
            Error::Unasked { .. } => {
                Some("try again in a moment, on a node of the cluster where sbatch works; nothing was changed")
            }
            Error::Busy { .. } => Some("wait for it, then run the same command again"),
            Error::Refused { .. } | Error::Strange { .. } | Error::Unfit { .. } => None,
        };
        Diagnostic::with_code(exit::FAILURE, message, help)
    }
}
