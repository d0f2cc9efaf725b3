//! Batch systems: turns a plan into job arrays, without a process that keeps running.
//!
//! [`submit`] controls a submission: [`arrays`] groups the runs, [`script`] writes the jobs, [`submission`] keeps them in the
//! store, and [`send`] submits them within the limits of the cluster. In a job, `winsign task` executes its runs and then submits what
//! did not fit before. [`queue`] returns the runs that are queued or running. The state of a run is in its directory; the
//! scheduler is queried only for the jobs that still exist.
//!
//! Everything that depends on the batch system is behind the trait [`scheduler::Scheduler`].

pub mod array_file;
pub mod arrays;
pub(crate) mod command;
pub mod failed_nodes;
pub mod profile;
pub mod programs;
pub mod queue;
pub mod scheduler;
pub mod script;
pub mod send;
pub mod submission;
pub mod submit;
pub mod tasks;

use winsign_core::{Diagnostic, exit};

/// An error of a scheduler or of a submission.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot use {scheduler} on this machine: {command} not found")]
    Missing { scheduler: &'static str, command: String },
    /// The scheduler rejected a command. `words` is its own message.
    #[error("{command} failed: {words}")]
    Refused { command: String, words: String },
    /// The scheduler did not respond, and may have executed the command nevertheless.
    #[error("{command} failed: {words}")]
    Unavailable { command: String, words: String },
    /// The scheduler's own limit on the number of jobs is reached.
    #[error("{command} failed: {words}")]
    Limit { command: String, words: String },
    #[error("cannot parse the output of {command}: {answer}")]
    Unparsable { command: &'static str, answer: String },
    /// The scheduler rejected an array. `settings` are those of the profile that it was submitted with.
    #[error("{scheduler} rejected the jobs: {words}")]
    Rejected { scheduler: &'static str, words: String, settings: String },
    /// Other jobs of the user use the whole limit.
    #[error("cannot submit more jobs: the limit is {room}, and {used} are queued or running")]
    Full { room: usize, used: usize },
    #[error("cannot query the job queue: {reason}")]
    QueueUnavailable { reason: String },
    /// The jobs of another submission may execute the same runs.
    #[error(
        "cannot tell which runs submission {submission} of the study `{study}` of user {user} executes: its files are damaged"
    )]
    UnknownRuns { submission: String, study: String, user: u32 },
    /// The jobs are on another cluster, which does not answer here.
    #[error("cannot reach the cluster {cluster} from here: {words}")]
    Elsewhere { cluster: String, words: String },
    /// Another process is submitting to the same store.
    #[error("cannot submit to this store: {reason}")]
    Busy { reason: String },
    #[error(transparent)]
    Store(#[from] winsign_core::Error),
}

impl Error {
    /// Returns true if the scheduler has definitely not accepted the job.
    fn is_certain(&self) -> bool {
        matches!(
            self,
            Error::Missing { .. }
                | Error::Refused { .. }
                | Error::Rejected { .. }
                | Error::Limit { .. }
                | Error::Full { .. }
        )
    }

    /// Returns true if the scheduler did not respond, and may respond later.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self, Error::Unavailable { .. })
    }

    /// Returns true if only a limit on the number of jobs was reached, so that submitting can succeed later.
    pub fn is_limit(&self) -> bool {
        matches!(self, Error::Full { .. } | Error::Limit { .. })
    }
}

impl From<Error> for Diagnostic {
    fn from(error: Error) -> Diagnostic {
        let message = error.to_string();
        let help = match error {
            Error::Store(error) => return error.into(),
            Error::Missing { command, .. } => {
                let here = format!("run this on a node of the cluster where {command} works");
                return Diagnostic::new(message, format!("{here}, or use `winsign run` (also with --hosts)"));
            }
            Error::Rejected { settings, .. } => return Diagnostic::new(message, settings),
            Error::Unavailable { .. } => {
                Some("try again later, the controller does not respond; nothing that was submitted is lost")
            }
            Error::Full { .. } => Some("run the same command again when some of them have ended"),
            Error::Limit { .. } => {
                Some("run the same command again when jobs have ended, or lower `max_submit` in the profile")
            }
            Error::QueueUnavailable { .. } => {
                Some("try again in a moment, on a node of the cluster where jobs can be submitted; nothing was changed")
            }
            Error::UnknownRuns { study, .. } => {
                let help = format!(
                    "run `winsign cancel` with the sweep file of `{study}`, and submit when its jobs have ended"
                );
                return Diagnostic::new(message, help);
            }
            Error::Elsewhere { .. } => Some("run this on a node of that cluster"),
            Error::Busy { .. } => Some("wait for it, then run the same command again"),
            Error::Unparsable { command: "sbatch", .. } => {
                Some("if it accepted the jobs, the next `winsign submit` finds them")
            }
            Error::Refused { .. } | Error::Unparsable { .. } => None,
        };
        Diagnostic::with_code(exit::FAILURE, message, help)
    }
}
