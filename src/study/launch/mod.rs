//! Launching: whatever is ready runs, until nothing is left.
//!
//! `dispatch` owns all state and decides; an executor (`local`, one file each) runs one thing and reports how it ended;
//! [`display`] draws and never drives.

mod dispatch;
pub mod display;
mod local;
pub mod slurm;

use std::path::PathBuf;

use crate::run::{self, RunId, exit};

pub use dispatch::run;

/// How runs are executed.
#[derive(Debug, Clone)]
pub struct Options {
    /// Runs side by side.
    pub jobs: u32,
    /// Threads per run.
    pub threads: u32,
    /// The folder with the data sets.
    pub data: PathBuf,
    /// How often a failing run is started again.
    pub retries: u32,
    /// The program `winsign-worker`.
    pub worker: PathBuf,
}

/// What became of a plan.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Summary {
    pub total: usize,
    pub done: usize,
    /// Of those done, how many were computed by this call.
    pub computed: usize,
    pub failed: Vec<Failure>,
    pub blocked: usize,
    /// Neither done nor failed: the call was stopped before.
    pub pending: usize,
    pub seconds: f64,
}

/// A run that failed for good.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Failure {
    pub id: RunId,
    pub label: String,
    pub message: String,
    /// The last lines of its log.
    pub log_end: Vec<String>,
}

impl Summary {
    pub fn exit_code(&self) -> u8 {
        if self.pending > 0 {
            exit::INTERRUPTED
        } else if !self.failed.is_empty() || self.blocked > 0 {
            exit::RUNS_FAILED
        } else {
            exit::SUCCESS
        }
    }
}

/// Why launching had to stop altogether.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] run::Error),
    #[error("cannot start {worker}: {reason}", worker = worker.display())]
    Worker { worker: PathBuf, reason: String },
    /// In the worker's own words.
    #[error("{0}")]
    WorkerIo(String),
}
