//! Slurm: a plan becomes job arrays, and no process stays behind.
//!
//! `submit` is the story: [`arrays`] arranges what is to be done, [`script`] writes the jobs, [`submission`] keeps them in the
//! store and sends them through [`client`] as the limits allow. In a job [`task`] executes its runs, then sends what did not
//! fit before. [`queue`] tells which runs are in the hands of Slurm. The truth about a run is in its directory; Slurm is
//! asked only whether a job still lives.

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

/// What went wrong with Slurm.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no Slurm here: cannot find {command}")]
    NoSlurm { command: String },
    /// In Slurm's own words.
    #[error("{command} refused: {words}")]
    Refused { command: String, words: String },
    #[error("cannot understand what {command} answered: {answer}")]
    Strange { command: &'static str, answer: String },
    /// Other jobs of the user have all the room there is.
    #[error("there is room for {room} jobs, and {used} are there already")]
    Full { room: usize, used: usize },
    #[error("Slurm cannot be asked what still lives: {reason}")]
    Unasked { reason: String },
    /// Another process is submitting to the same store.
    #[error("somebody else submits to this store at the moment: {owner}")]
    Busy { owner: String },
    #[error("{} cannot be handed to Slurm: {reason}", path.display())]
    Unfit { path: PathBuf, reason: String },
    #[error(transparent)]
    Store(#[from] winsign_core::Error),
}

impl Error {
    /// Whether Slurm certainly has not taken what was sent.
    fn is_certain(&self) -> bool {
        match self {
            Error::Refused { words, .. } => !client::is_absence(words),
            Error::Full { .. } | Error::NoSlurm { .. } => true,
            _ => false,
        }
    }

    /// Whether it is for the number of jobs alone, so that there will be room later.
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

    /// What the user can do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::NoSlurm { .. } => Some(
                "run this on a node of the cluster where sbatch works, or use `winsign run` (also with --hosts)"
                    .to_string(),
            ),
            Error::Refused { words, .. } if client::is_absence(words) => {
                Some("the controller does not answer: try again later; nothing that was submitted is lost".to_string())
            }
            Error::Full { .. } => {
                Some("submit again when some of them have ended; the same command goes on".to_string())
            }
            Error::Unasked { .. } => Some(
                "try again in a moment, on a node of the cluster where sbatch works; nothing was changed".to_string(),
            ),
            Error::Busy { .. } => Some("wait for it, then run the same command again".to_string()),
            Error::Store(error) => error.hint().map(str::to_string),
            Error::Refused { .. } | Error::Strange { .. } | Error::Unfit { .. } => None,
        }
    }
}
