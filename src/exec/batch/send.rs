//! Sends the arrays of a submission to the scheduler, in order and within its limits.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

use winsign_core::files;
use winsign_core::lease::{self, Lease};
use winsign_core::text::printable;

use super::Error;
use super::failed_nodes::FailedNodes;
use super::profile::Profile;
use super::scheduler::{Job, JobState, JobTasks, Jobs, Limits, ToSubmit};
use super::submission::{Part, Submission};
use super::tasks::Tasks;

/// The reason for the jobs of a submission that is held.
pub(super) const HELD_BY_USER: &str = "held by `winsign hold`";

/// The outcome of sending arrays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// The number of submitted arrays, each by one command.
    pub arrays: usize,
    pub tasks: usize,
    /// The number of arrays that do not fit until jobs end, or not all of them.
    pub left: usize,
}

impl std::ops::AddAssign for Sent {
    fn add_assign(&mut self, other: Sent) {
        self.arrays += other.arrays;
        self.tasks += other.tasks;
        self.left += other.left;
    }
}

/// Returns how many jobs a user may have in the queue.
pub(super) fn room(profile: &Profile, limits: &Limits) -> u32 {
    profile.max_submit.map_or(limits.room(), |most| limits.room().min(most))
}

/// Sends the remaining arrays in order, within the limits. Those that do not fit are sent by ending jobs of this submission;
/// without such jobs this is an error. `jobs` are those of the user.
pub(super) fn send(
    submission: &Submission,
    limits: &Limits,
    jobs: impl FnOnce() -> Result<Jobs, Error>,
) -> Result<Sent, Error> {
    if submission.is_cancelled() || submission.unsent(&submission.parts()?) == 0 {
        return Ok(Sent::default());
    }
    let lease = take_lease(submission)?;
    let alive = jobs()?.alive;
    let parts = submission.adopt(&alive)?;
    let mut sender = Sender::new(submission, room(&submission.file.profile, limits) as usize, parts, &alive);
    for array in 0..submission.file.arrays.len() {
        while let Some(rest) = submission.rest(array, &sender.parts) {
            // `winsign cancel` may run at the same time, and cancels only the jobs that it finds.
            if submission.is_cancelled() {
                return Ok(sender.sent);
            }
            if !lease.is_ours() {
                return Err(Error::Busy { reason: "another process took over the lock".to_string() });
            }
            if !sender.send_some(array, rest)? {
                // Two jobs that end at the same time must not leave the rest to each other.
                if let Some(own) = alive.iter().find(|job| job.own) {
                    submission.record_left(&own.id)?;
                }
                sender.sent.left = submission.unsent(&sender.parts);
                return Ok(sender.sent);
            }
        }
    }
    Ok(sender.sent)
}

/// The differences of a task that is submitted again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Again<'a> {
    /// The megabytes of memory on each node, instead of those of the script.
    pub memory: Option<u64>,
    /// Why it must not start before it is released.
    pub held: Option<&'a str>,
    /// The nodes that it must avoid.
    pub failed: Option<&'a FailedNodes>,
}

/// Sends a task again.
pub(super) fn send_again(submission: &Submission, array: usize, task: u32, again: Again) -> Result<(), Error> {
    let _lease = take_lease(submission)?;
    let tasks = Tasks::from(task..=task);
    let job = submit(submission, array, &tasks, &[], again)?;
    record(submission, array, Part { job, tasks })
}

/// Adds a job to those of an array.
pub(super) fn record(submission: &Submission, array: usize, part: Part) -> Result<(), Error> {
    let mut parts = submission.parts()?.remove(&array).unwrap_or_default();
    parts.push(part);
    Ok(submission.write_parts(array, &parts)?)
}

/// Keeps other processes from sending the same tasks.
pub(super) fn take_lease(submission: &Submission) -> Result<Lease, Error> {
    lease::take(&submission.path.join("sending"))?
        .map_err(|owner| Error::Busy { reason: format!("{owner} is submitting to it") })
}

struct Sender<'a> {
    submission: &'a Submission,
    /// The maximum number of jobs in the queue.
    room: usize,
    used: usize,
    /// Jobs in the queue other than this process.
    others: usize,
    /// True if another job of the submission will end later, and can send what does not fit now.
    followed: bool,
    /// The maximum number of tasks of one command, as far as is known.
    most: u32,
    parts: BTreeMap<usize, Vec<Part>>,
    /// The arrays that the scheduler knows, with their tasks. It may reject dependencies on others.
    known: HashMap<String, Vec<Tasks>>,
    sent: Sent,
}

impl Sender<'_> {
    fn new<'a>(
        submission: &'a Submission,
        room: usize,
        parts: BTreeMap<usize, Vec<Part>>,
        alive: &[Job],
    ) -> Sender<'a> {
        let mut known: HashMap<String, Vec<Tasks>> = HashMap::new();
        for job in alive {
            known.entry(job.id.array.clone()).or_default().extend(job.id.tasks.clone());
        }
        let active = alive.iter().filter(|job| job.state != JobState::Ending);
        // This process may be one of the jobs, which sends nothing after it has ended.
        let others = active.clone().filter(|job| !job.own);
        let left = submission.left();
        let follows = |job: &Job| submission.array_of(job).is_some() && !left.contains(&job.id.to_string());
        Sender {
            submission,
            room,
            used: active.map(|job| job.id.len()).sum(),
            others: others.clone().map(|job| job.id.len()).sum(),
            followed: others.clone().any(follows),
            most: u32::MAX,
            parts,
            known,
            sent: Sent::default(),
        }
    }

    /// Sends the first of these tasks, as many as are accepted; returns false if they must wait for the end of jobs.
    fn send_some(&mut self, array: usize, rest: RangeInclusive<u32>) -> Result<bool, Error> {
        let (first, left) = (*rest.start(), rest.end() - rest.start() + 1);
        let mut count = left.min(self.most);
        let free = self.room.saturating_sub(self.used) as u32;
        if !self.followed && free > 0 {
            // No job of the submission would send the rest, so as many tasks as fit must be sent now.
            count = count.min(free);
        }
        loop {
            let tasks = Tasks::from(first..=first + count - 1);
            let answer = match self.used + count as usize <= self.room || self.others == 0 {
                true => self.submit(array, &tasks),
                false => Err(Error::Full { room: self.room, used: self.used }),
            };
            match answer {
                Ok(job) => {
                    self.record(array, job, tasks)?;
                    return Ok(true);
                }
                // The rest fits when the active jobs end.
                Err(error) if error.is_limit() && self.followed => {
                    tracing::info!("submitting no more jobs for now: {error}");
                    return Ok(false);
                }
                // A limit of the account that the array exceeds by itself would reject it forever.
                Err(Error::Limit { words, .. }) if count > 1 => {
                    count /= 2;
                    self.most = count;
                    tracing::info!("submitting at most {count} tasks at once: {words}");
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn record(&mut self, array: usize, job: String, tasks: Tasks) -> Result<(), Error> {
        let count = tasks.len();
        let parts = self.parts.entry(array).or_default();
        parts.push(Part { job: job.clone(), tasks: tasks.clone() });
        self.submission.write_parts(array, parts)?;
        self.known.insert(job, vec![tasks]);
        self.followed = true;
        self.used += count;
        self.others += count;
        self.sent.arrays += 1;
        self.sent.tasks += count;
        Ok(())
    }

    /// Submits tasks of one array, after those that they depend on, and returns their job number.
    fn submit(&self, array: usize, tasks: &Tasks) -> Result<String, Error> {
        let index = &self.submission.file.arrays[array];
        let before = index.after.iter().filter_map(|before| self.parts.get(before)).flatten();
        let before = before.map(|part| JobTasks { array: part.job.clone(), tasks: None });
        let others = index.after_jobs.iter().map(|job| JobTasks::parse(job));
        let before: Vec<JobTasks> = before.chain(others).filter(|job| self.knows(job)).collect();
        submit(self.submission, array, tasks, &before, Again::default())
    }

    /// Returns true if the scheduler knows an array, or these tasks of it.
    fn knows(&self, job: &JobTasks) -> bool {
        let Some(known) = self.known.get(&job.array) else { return false };
        let wanted = job.tasks.iter().flat_map(Tasks::iter);
        wanted.into_iter().all(|task| known.iter().flat_map(Tasks::iter).any(|known| known == task))
    }
}

/// Submits tasks of one array to the scheduler and returns their job number.
fn submit(
    submission: &Submission,
    array: usize,
    tasks: &Tasks,
    after: &[JobTasks],
    again: Again,
) -> Result<String, Error> {
    let Submission { file, path: directory, .. } = submission;
    let path = directory.join("arrays").join(format!("{array}.sh"));
    let script = files::read_if_exists(&path)?.ok_or_else(|| winsign_core::Error::damaged(&path, "it is missing"))?;
    let script = String::from_utf8_lossy(&script);
    let mut excluded = submission.excluded()?;
    let failed = again.failed.iter().flat_map(|failed| failed.names().cloned());
    excluded.extend(failed.filter(|node| !excluded.contains(node)).collect::<Vec<_>>());
    let submitted = ToSubmit {
        script: &script,
        tasks,
        after,
        held: again.held.or(submission.is_held().then_some(HELD_BY_USER)),
        excluded: &excluded,
        memory: again.memory,
        failed: again.failed,
        directory,
    };
    let scheduler = submission.scheduler();
    scheduler.submit(&file.cluster, &submitted).map_err(|error| match error {
        Error::Refused { words, .. } => Error::Rejected {
            scheduler: scheduler.title(),
            words: words.lines().map(printable).collect::<Vec<_>>().join("; "),
            settings: describe_sources(submission, &script),
        },
        other => other,
    })
}

/// Returns what may be wrong if the scheduler rejects a script: the settings of the profile, and variables of the environment.
fn describe_sources(submission: &Submission, script: &str) -> String {
    let profile = &submission.file.profile;
    let mut text = profile.settings_to_check();
    let variables = profile.scheduler().variables(script).used;
    if !variables.is_empty() {
        text += &format!("; these variables apply as well: {}", printable(&variables.join(", ")));
    }
    text
}
