//! Executes the runs of a plan as their inputs become available.
//!
//! `dispatch` owns all state and makes all decisions; a launcher ([`launcher`]) builds the command that executes one run on its
//! seat; `child` starts the command and reports how it ended; `slots` manages the seats; [`display`] only draws. [`batch`]
//! submits runs to a scheduler, whose jobs execute them in the same way.

pub mod batch;
mod child;
mod dispatch;
pub mod display;
pub mod gpus;
pub mod hosts;
pub mod launcher;
pub mod local;
pub mod mpirun;
mod pbs;
pub mod slots;
mod slurm;
pub mod srun;
mod template;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use winsign_core::{Diagnostic, Run, RunId, exit};
use winsign_sweep::plan::Plan;

pub use dispatch::run;
use launcher::Launcher;
use slots::Slots;

/// A run to execute.
#[derive(Debug, Clone)]
pub struct Entry {
    pub run: Run,
    /// The label of the run, for messages.
    pub label: String,
    /// A failure found at the start is retried if its attempt has at most this number; a later one is final.
    pub forgiven: u32,
}

/// Returns all runs of a plan; failed ones are retried.
pub fn entries(plan: &Plan) -> Vec<Entry> {
    let entry = |run: &Run, label: String| Entry { run: run.clone(), label, forgiven: u32::MAX };
    plan.runs.iter().map(|planned| entry(&planned.run, planned.label.to_string())).collect()
}

/// The settings for executing runs.
#[derive(Debug, Clone)]
pub struct Options {
    pub launcher: Arc<dyn Launcher>,
    /// The slots for ranks.
    pub slots: Slots,
    /// Processes per run.
    pub ranks: u32,
    /// Threads per rank.
    pub threads: u32,
    /// The directory with the data sets.
    pub data: PathBuf,
    /// The number of times a failing run is restarted.
    pub retries: u32,
    /// Whether a run that was killed for lack of memory is restarted here, rather than left to a job with more.
    pub retry_out_of_memory: bool,
    /// The program `winsign-worker`.
    pub worker: PathBuf,
}

impl Options {
    /// Returns an error if no run can be placed.
    pub fn check(&self) -> Result<(), Diagnostic> {
        let (ranks, places) = (self.ranks, self.slots.total(self.ranks));
        if places >= ranks as usize {
            return Ok(());
        }
        let message = format!("cannot place a run of {ranks} ranks: only {places} ranks can run at the same time");
        Err(Diagnostic::new(message, "lower --ranks or --gpus, or add --hosts"))
    }

    /// Returns the arguments of a worker. Paths are absolute, since it may start in another directory.
    fn worker_arguments(&self, run: &Path, launch: &str) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![];
        match self.ranks {
            1 => arguments.push("--alone".into()),
            ranks => arguments.extend(["--ranks".into(), ranks.to_string().into()]),
        }
        arguments.extend(["--threads".into(), self.threads.to_string().into(), "--stop-with-stdin".into()]);
        arguments.extend(["--launch".into(), launch.into(), "--data".into(), absolute(&self.data).into()]);
        arguments.extend(["--".into(), absolute(run).into()]);
        arguments
    }
}

/// Makes a path absolute; returns it unchanged if the current directory no longer exists.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// The outcome of executing runs.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Summary {
    pub total: usize,
    pub done: usize,
    /// The number of finished runs that this call computed.
    pub computed: usize,
    pub failed: Vec<Failure>,
    pub blocked: usize,
    /// Runs that are neither done nor failed, since the call was stopped.
    pub pending: usize,
    pub seconds: f64,
    /// True if a signal stopped it, even if no run was left.
    #[serde(skip)]
    pub stopped: bool,
}

/// A run that failed for good.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Failure {
    pub id: RunId,
    pub label: String,
    pub message: String,
    /// The last lines of its log.
    pub log_end: Vec<String>,
    #[serde(skip)]
    pub cause: Cause,
}

/// The cause of the failure of the last attempt of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Everything else, such as an error that the worker reported.
    Other,
    /// The worker was killed.
    Killed,
    /// The worker was killed for lack of memory.
    OutOfMemory,
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
