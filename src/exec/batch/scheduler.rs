//! The seam for batch systems. Each is one folder with a type that implements [`Scheduler`], and one line in [`SCHEDULERS`].

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use winsign_core::Diagnostic;

use super::Error;
use super::profile::Profile;
use super::script::ArrayJob;
use crate::hosts::Named;
use crate::slurm::Slurm;

/// All schedulers, by their names in profiles. The first is the default.
pub const SCHEDULERS: &[(&str, &dyn Scheduler)] = &[("slurm", &Slurm)];

/// The names of [`SCHEDULERS`].
pub const NAMES: &[&str] = &{
    let mut names = [""; SCHEDULERS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = SCHEDULERS[at].0;
        at += 1;
    }
    names
};

/// A batch system. `docs/guides/adding-a-scheduler.md` says what each method must do.
pub trait Scheduler: fmt::Debug + Sync {
    /// Returns the name for messages.
    fn title(&self) -> &'static str;

    /// Returns the form of the setting `time`.
    fn time_form(&self) -> TimeForm;

    /// Returns the form of the setting `memory`.
    fn memory_form(&self) -> MemoryForm;

    /// Checks the settings of a profile that only this scheduler can judge, such as further options.
    fn check(&self, profile: &Profile) -> Result<(), Diagnostic>;

    /// Returns the limits of the cluster.
    fn limits(&self, patience: Patience) -> Result<Limits, Error>;

    /// Returns the jobs of these users that have not ended, with the tasks of arrays separately.
    fn jobs(&self, users: &BTreeSet<u32>) -> Result<Vec<Job>, Error>;

    /// Returns the parts of a script that only this scheduler understands.
    fn script(&self, array: &ArrayJob) -> ScriptParts;

    /// Submits the script of an array from a directory, and returns the number of its job. It starts after these jobs have
    /// ended, successful or not, and if `held` not before it is released.
    fn submit(&self, script: &str, after: &[&str], held: bool, directory: &Path) -> Result<String, Error>;

    /// Changes jobs. A job that has ended meanwhile is not an error.
    fn change(&self, jobs: &[String], change: Change) -> Result<(), Error>;

    /// Returns the job that this process is part of, as [`Scheduler::change`] takes it.
    fn own_job(&self) -> Option<String>;

    /// Returns the nodes of the job that this process is part of, if there are several and it is the job's only process.
    fn nodes(&self, threads: u32) -> Result<Option<Vec<Named>>, Diagnostic>;
}

/// How a scheduler writes time limits.
#[derive(Debug, Clone, Copy)]
pub struct TimeForm {
    /// Describes the texts, as part of a sentence.
    pub expects: &'static str,
    /// Returns the seconds of a time limit, 0 for none; `None` if the text is no time limit.
    pub seconds: fn(&str) -> Option<u64>,
}

/// How a scheduler writes amounts of memory.
#[derive(Debug, Clone, Copy)]
pub struct MemoryForm {
    /// Describes the texts, as part of a sentence.
    pub expects: &'static str,
    pub accepts: fn(&str) -> bool,
}

/// Whether to wait for a controller that does not respond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    None,
    Some,
}

/// The limits of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The name of the cluster. Jobs of submissions to other clusters are unknown here.
    pub cluster: String,
    /// The maximum number of tasks of an array; indices are below it.
    pub array: u32,
    /// The maximum number of jobs in the whole cluster; every task of an array is one.
    pub jobs: u32,
}

impl Limits {
    /// Returns how many jobs one user may have, leaving some of the total to other users.
    pub fn room(&self) -> u32 {
        (self.jobs - (self.jobs / 10).min(RESERVE)).max(1)
    }
}

/// The maximum number of jobs left to other users.
const RESERVE: u32 = 100;

/// A job, or a task of an array, that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The number of the whole array, as [`Scheduler::submit`] returned it.
    pub array: String,
    /// The index of the task; `None` for a job that is not an array.
    pub task: Option<u32>,
    /// The number of this task, as [`Scheduler::change`] takes it.
    pub id: String,
    pub name: String,
    pub state: JobState,
    /// The state and the reason for it in the scheduler's words, for people.
    pub words: String,
    /// Why it is held; `None` if it is not.
    pub held: Option<Hold>,
    /// Whether this process is part of it.
    pub own: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    Pending,
    /// Its script is running and can receive signals.
    Running,
    /// Its script has ended, but its resources are not free yet.
    Ending,
    /// Any other state. The job counts as alive, since the runs of a job that is wrongly considered ended would be started
    /// again.
    Unknown,
}

/// Why a job is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// By a user, or by the job itself. The text is for people.
    Asked(String),
    /// By the scheduler, since nodes could not start it. Another node may do.
    Nodes(String),
}

impl Hold {
    pub fn reason(&self) -> &str {
        let (Hold::Asked(reason) | Hold::Nodes(reason)) = self;
        reason
    }
}

/// A change of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// Removes jobs from the queue and kills running ones.
    Cancel,
    /// Sends SIGUSR1 to the script of running jobs, which then saves checkpoints and exits.
    Stop,
    /// Keeps pending jobs from starting.
    Hold,
    Release,
    /// Ends running jobs and queues them again.
    Requeue,
    /// The same, and holds them with this reason.
    RequeueHeld(&'a str),
}

/// The parts of a script that depend on the scheduler.
#[derive(Debug)]
pub struct ScriptParts {
    /// The lines after the first: what the job needs. They contain only values that were checked to be safe there.
    pub head: Vec<String>,
    /// The index of the task, as a word of the shell.
    pub task: &'static str,
    /// Shell commands, without single quotes, that queue this job again and hold it. The variable `reason` has the reason.
    pub hold: &'static str,
}

/// Returns the scheduler with a name.
pub fn find(name: &str) -> Option<&'static dyn Scheduler> {
    SCHEDULERS.iter().find(|(known, _)| *known == name).map(|(_, scheduler)| *scheduler)
}

/// Returns the nodes of the job of any scheduler that this process is part of, see [`Scheduler::nodes`].
pub fn allocated_nodes(threads: u32) -> Result<Option<Vec<Named>>, Diagnostic> {
    SCHEDULERS.iter().find_map(|(_, scheduler)| scheduler.nodes(threads).transpose()).transpose()
}

/// How many times a job tries to change itself, once per second.
const TRIES: u32 = 30;

/// Changes the job that this process is part of. No other process would, so it waits for a controller that is restarting.
pub fn change_own(scheduler: &dyn Scheduler, job: &str, change: Change) -> Result<(), Error> {
    let mut tries = 0..TRIES;
    loop {
        match scheduler.change(&[job.to_string()], change) {
            Err(Error::Unavailable { .. }) if tries.next().is_some() => std::thread::sleep(Duration::from_secs(1)),
            other => return other,
        }
    }
}
