//! The seam for batch systems. Each is one folder with a type that implements [`Scheduler`], and one line in [`SCHEDULERS`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use winsign_core::Diagnostic;

use super::Error;
use super::failed_nodes::FailedNodes;
use super::profile::Profile;
use super::script::ArrayJob;
use super::tasks::Tasks;
use crate::hosts::Named;
use crate::pbs::Pbs;
use crate::slurm::Slurm;

/// All schedulers, by their names in profiles. The first is the default.
pub const SCHEDULERS: &[(&str, &dyn Scheduler)] = &[("slurm", &Slurm), ("pbs", &Pbs)];

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

/// A batch system. `docs/guides/adding-a-scheduler.md` lists the duties of each method.
pub trait Scheduler: fmt::Debug + Sync {
    /// Returns the name for messages.
    fn title(&self) -> &'static str;

    /// Returns the launcher for profiles that do not name one.
    fn default_launcher(&self) -> &'static str;

    /// Returns the form of the setting `time`.
    fn time_form(&self) -> TimeForm;

    /// Returns the form of the setting `memory`.
    fn memory_form(&self) -> MemoryForm;

    /// Returns the name of a job in messages, as the commands of the scheduler show it.
    fn name(&self, job: &JobTasks) -> String;

    /// Checks the settings of a profile that only this scheduler can judge, such as further options.
    fn check(&self, profile: &Profile) -> Result<(), Diagnostic>;

    /// Returns the name and the limits of a cluster; `None` is the one that jobs go to unless a profile names another.
    /// [`Error::Elsewhere`] if this machine cannot reach it.
    fn limits(&self, cluster: Option<&str>, patience: Patience) -> Result<Limits, Error>;

    /// Returns how many jobs this user may have in the queue of a cluster, with the settings of a profile; `None` if there is no limit
    /// or it is not known.
    fn user_limit(&self, profile: &Profile, limits: &Limits) -> Option<u32>;

    /// Returns the jobs of these users on a cluster that have not ended, and those that the scheduler killed a moment ago.
    fn jobs(&self, cluster: &str, users: &BTreeSet<u32>) -> Result<Jobs, Error>;

    /// Returns true if any of these arrays has not ended, queried by their numbers. [`Scheduler::jobs`] may not list them.
    fn exist(&self, cluster: &str, arrays: &[&str]) -> Result<bool, Error>;

    /// Returns the parts of a script that only this scheduler understands.
    fn script(&self, array: &ArrayJob) -> ScriptParts;

    /// Submits tasks of an array and returns the number of the job. The options in the script take precedence over all
    /// variables of the environment.
    fn submit(&self, cluster: &str, submitted: &ToSubmit) -> Result<String, Error>;

    /// Returns the variables of the environment that change what [`Scheduler::submit`] submits, and those that it ignores
    /// since the script sets their option.
    fn variables(&self, script: &str) -> Variables;

    /// Changes jobs. A job that has ended meanwhile is not an error.
    fn change(&self, cluster: &str, jobs: &[JobTasks], change: Change) -> Result<(), Error>;

    /// Returns the job that this process is part of: in an array, this task only.
    fn own_job(&self) -> Option<JobTasks>;

    /// Returns the megabytes of memory on each node that this process's job has requested, if that is known.
    fn own_memory(&self) -> Option<u64>;

    /// Returns the name of this node in commands of the scheduler, if this process is part of a job.
    fn own_node(&self) -> Option<String>;

    /// Returns the nodes of the job that this process is part of, if there are several and it is the job's only process.
    fn nodes(&self, threads: u32) -> Result<Option<Vec<Named>>, Diagnostic>;
}

/// The form of time limits of a scheduler.
#[derive(Debug, Clone, Copy)]
pub struct TimeForm {
    /// Describes the texts, as part of a sentence.
    pub expects: &'static str,
    pub example: &'static str,
    /// Returns the seconds of a time limit, 0 for none; `None` if the text is no time limit.
    pub seconds: fn(&str) -> Option<u64>,
}

/// The form of amounts of memory of a scheduler.
#[derive(Debug, Clone, Copy)]
pub struct MemoryForm {
    /// Describes the texts, as part of a sentence.
    pub expects: &'static str,
    pub example: &'static str,
    /// Returns the megabytes of an amount, 0 for all of a node; `None` if the text is no amount.
    pub megabytes: fn(&str) -> Option<u64>,
}

/// The choice to wait for a controller that does not respond, or to fail at once.
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
    /// True if users cannot see the jobs of others.
    pub hides_jobs: bool,
    /// True if users may have limits of their own.
    pub limits_users: bool,
    /// The maximum number of jobs of this user, if it is known; see [`Scheduler::user_limit`].
    pub of_user: Option<u32>,
}

impl Limits {
    /// Returns how many jobs one user may have, leaving some of the total to other users.
    pub fn room(&self) -> u32 {
        let of_cluster = (self.jobs - (self.jobs / 10).min(RESERVE)).max(1);
        self.of_user.map_or(of_cluster, |of_user| of_cluster.min(of_user.max(1)))
    }
}

/// The maximum number of jobs left to other users.
const RESERVE: u32 = 100;

/// A job, or some tasks of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobTasks {
    /// The number of the whole array, as [`Scheduler::submit`] returned it.
    pub array: String,
    /// `None` for a job that is not an array.
    pub tasks: Option<Tasks>,
}

impl JobTasks {
    /// Returns one job for all tasks of the same array.
    pub fn grouped<'a>(jobs: impl IntoIterator<Item = &'a JobTasks>) -> Vec<JobTasks> {
        let mut arrays: BTreeMap<&str, Vec<&JobTasks>> = BTreeMap::new();
        for job in jobs {
            arrays.entry(&job.array).or_default().push(job);
        }
        let group = |(array, jobs): (&str, Vec<&JobTasks>)| {
            let tasks: Option<Vec<&Tasks>> = jobs.iter().map(|job| job.tasks.as_ref()).collect();
            JobTasks { array: array.to_string(), tasks: tasks.map(Tasks::union) }
        };
        arrays.into_iter().map(group).collect()
    }

    /// Returns each task as a job of its own.
    pub fn each(&self) -> Vec<JobTasks> {
        let one = |tasks| JobTasks { array: self.array.clone(), tasks };
        match &self.tasks {
            None => vec![one(None)],
            Some(tasks) => tasks.iter().map(|task| one(Some(Tasks::from(task..=task)))).collect(),
        }
    }

    /// Returns the number of tasks; a job that is not an array is one.
    pub fn len(&self) -> usize {
        self.tasks.as_ref().map_or(1, Tasks::len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl JobTasks {
    /// Parses the text of a job that is not an array, or of one task.
    pub fn parse(text: &str) -> JobTasks {
        let task = text.rsplit_once('_').and_then(|(array, task)| Some((array, task.parse::<u32>().ok()?)));
        match task {
            Some((array, task)) => JobTasks { array: array.to_string(), tasks: Some(Tasks::from(task..=task)) },
            None => JobTasks { array: text.to_string(), tasks: None },
        }
    }
}

/// Formats jobs as `7`, `7_3` or `7_[0-3,5]`. Schedulers may name them in another way.
impl fmt::Display for JobTasks {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match &self.tasks {
            None => write!(formatter, "{}", self.array),
            Some(tasks) if tasks.len() == 1 => write!(formatter, "{}_{tasks}", self.array),
            Some(tasks) => write!(formatter, "{}_[{tasks}]", self.array),
        }
    }
}

/// The jobs that a scheduler knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Jobs {
    pub alive: Vec<Job>,
    /// Jobs that the scheduler ended for lack of memory or time, or with their node. It forgets them soon.
    pub killed: Vec<Job>,
}

/// A job, or tasks of an array that are in the same state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: JobTasks,
    pub name: String,
    pub state: JobState,
    /// The state and the reason for it in the scheduler's words, for people.
    pub words: String,
    /// Why it is held; `None` if it is not.
    pub held: Option<Hold>,
    /// The last node that could not start the program for it; `None` if there is none.
    pub failed_on: Option<NodeFailure>,
    /// True if this process is part of it.
    pub own: bool,
}

impl Job {
    /// Returns true if it is held, and this user can release it.
    pub fn can_be_released(&self) -> bool {
        self.held.is_some() && !self.is_held_by_administrator()
    }

    /// Returns true if only an administrator can release it. What root holds counts as held by one.
    pub fn is_held_by_administrator(&self) -> bool {
        matches!(self.held, Some(Hold::Administrator(_))) && !rustix::process::getuid().is_root()
    }

    /// Returns true if it runs again in place of one that a node could not start.
    pub fn waits_for_another_node(&self) -> bool {
        self.state == JobState::Pending && self.held.is_none() && self.failed_on.is_some()
    }

    /// Returns why it is held or has failed on a node, for people.
    pub fn reason(&self) -> String {
        match (&self.failed_on, &self.held) {
            (Some(NodeFailure { node, reason }), _) => format!("{node} {reason}"),
            (None, Some(hold)) => hold.reason().to_string(),
            (None, None) => self.words.clone(),
        }
    }
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
    /// Ended by the scheduler, for lack of memory or time, or with its node.
    Killed,
}

/// Why a job is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// By a user, or by the job itself. The text is for people.
    Requested(String),
    /// By the scheduler, since nodes could not start it. Another node may do.
    Nodes(String),
    /// By an administrator of the cluster, who alone can release it.
    Administrator(String),
}

impl Hold {
    pub fn reason(&self) -> &str {
        match self {
            Hold::Requested(reason) | Hold::Nodes(reason) | Hold::Administrator(reason) => reason,
        }
    }
}

/// Tasks of an array to submit.
#[derive(Debug)]
pub struct ToSubmit<'a> {
    pub script: &'a str,
    pub tasks: &'a Tasks,
    /// The jobs that must end first, successful or not.
    pub after: &'a [JobTasks],
    /// Why it must not start before it is released; `None` if it may start.
    pub held: Option<&'a str>,
    /// The nodes that it must not use.
    pub excluded: &'a [String],
    /// The megabytes of memory on each node, instead of those of the script.
    pub memory: Option<u64>,
    /// The nodes on which its task has failed, if any; they are excluded as well.
    pub failed: Option<&'a FailedNodes>,
    /// Where it is submitted from.
    pub directory: &'a Path,
}

/// The variables of the environment that a scheduler reads when jobs are submitted, as `NAME=value`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables {
    pub used: Vec<String>,
    pub ignored: Vec<String>,
}

/// A node that could not start the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFailure {
    pub node: String,
    pub reason: String,
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
    /// The same, but they must avoid these nodes instead of being held.
    RequeueElsewhere(&'a FailedNodes),
    /// Keeps pending jobs off these nodes, in addition to those that they avoid already.
    Exclude(&'a [String]),
    /// Lets pending jobs use all nodes, except those that these options of the profile exclude.
    UseAllNodes(&'a [String]),
}

/// The parts of a script that depend on the scheduler.
#[derive(Debug)]
pub struct ScriptParts {
    /// The lines after the first: what the job needs. They contain only values that were checked to be safe there.
    pub head: Vec<String>,
    /// The index of the task, as a word of the shell.
    pub task: &'static str,
    /// Shell commands, without single quotes, that queue this job again and hold it. The variable `reason` has the reason.
    pub hold: String,
}

/// Returns the scheduler with a name.
pub fn find(name: &str) -> Option<&'static dyn Scheduler> {
    SCHEDULERS.iter().find(|(known, _)| *known == name).map(|(_, scheduler)| *scheduler)
}

/// Returns the nodes of the job of any scheduler that this process is part of, see [`Scheduler::nodes`].
pub fn allocated_nodes(threads: u32) -> Result<Option<Vec<Named>>, Diagnostic> {
    SCHEDULERS.iter().find_map(|(_, scheduler)| scheduler.nodes(threads).transpose()).transpose()
}

/// The number of times a job tries to change itself, once per second.
const TRIES: u32 = 30;

/// Changes the job that this process is part of. No other process would, so it waits for a controller that is restarting.
pub fn change_own(scheduler: &dyn Scheduler, cluster: &str, job: &JobTasks, change: Change) -> Result<(), Error> {
    let mut tries = 0..TRIES;
    loop {
        match scheduler.change(cluster, std::slice::from_ref(job), change) {
            Err(Error::Unavailable { .. }) if tries.next().is_some() => std::thread::sleep(Duration::from_secs(1)),
            other => return other,
        }
    }
}
