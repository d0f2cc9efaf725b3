//! A submission: arrays submitted together, and their directory in the store.
//!
//! ```text
//! STORE/submissions/3f09c2aa/
//!     submission.json     the study, how jobs execute runs, and the number of tasks of each array
//!     tasks.json          the identities of the runs of each task of each array
//!     arrays/0.runs       the runs of an array, and their inputs
//!     arrays/0.sh         the script of its jobs
//!     arrays/0.job        its job number, once it is submitted; if it was submitted in parts, a line for each: 17 0-5
//!     log/0_17            the log of task 17 of array 0
//!     cancelled           present if its jobs must neither continue nor submit others
//!     excluded            nodes that failed to start jobs, with the reason
//!     killed              tasks that the scheduler killed: array, task, its words
//!     held                present if its jobs must not start before they are released
//!     failed/0_17         the nodes on which task 17 of array 0 failed, if its job was queued again to run elsewhere
//!     released            written by `winsign release`: failures of nodes before it do not count any more
//!     queried             how many jobs were running when an ending job last queried the scheduler
//!     skipped             a byte for each job that has ended since without a query
//!     left                jobs that have ended and left what did not fit to others
//!     over                present if it has no jobs any more
//! ```

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use winsign_core::clean::{self, Waste};
use winsign_core::error::Result as StoreResult;
use winsign_core::text::printable;
use winsign_core::{Run, RunId, files};

use super::Error;
use super::array_file::{self, ArrayRun};
use super::failed_nodes::FailedNodes;
use super::profile::Profile;
use super::scheduler::{Job, JobTasks, Scheduler};
use super::tasks::Tasks;
use crate::Entry;
use crate::launcher::Wanted;

/// The version of the layout above. In version 1, `submission.json` had the runs of each task, and `arrays/N.json` those of each
/// array, so every job read all runs of its array.
const FORMAT: u32 = 2;
/// The number of hexadecimal digits in the name of a submission.
const ID_LENGTH: usize = 8;
const TASKS: &str = "tasks.json";
const CANCELLED: &str = "cancelled";
const HELD: &str = "held";
const FAILED: &str = "failed";
const RELEASED: &str = "released";
const OVER: &str = "over";
const EXCLUDED: &str = "excluded";
const KILLED: &str = "killed";
const QUERIED: &str = "queried";
const SKIPPED: &str = "skipped";
const LEFT: &str = "left";

/// The interval between queries of the scheduler by ending jobs of one submission.
const QUERY_INTERVAL: Duration = Duration::from_secs(10);

/// The content of `submission.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubmissionFile {
    format: u32,
    pub study: String,
    pub cluster: String,
    /// The number of the user whose jobs these are.
    pub user: u32,
    pub submitted: jiff::Timestamp,
    /// The hash of the programs in the store.
    pub programs: String,
    pub execution: Execution,
    /// Used by `winsign retry` for the next submission of the study.
    pub profile: Profile,
    pub arrays: Vec<ArrayIndex>,
}

/// The settings for executing runs in jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    pub data: PathBuf,
    /// Threads per rank.
    pub threads: u32,
    /// Ranks per run.
    pub ranks: u32,
    /// GPUs per rank.
    pub gpus: Option<f64>,
    pub retries: u32,
}

impl Execution {
    /// Returns what runs want from the launcher of a profile.
    pub fn wanted<'a>(&self, profile: &'a Profile) -> Wanted<'a> {
        let ranks_per_node = self.ranks_on_node(self.ranks, profile);
        Wanted { ranks: self.ranks, ranks_per_node, gpus: self.gpus, mpi: &profile.mpi }
    }

    /// Returns how many of the ranks are placed on one node, by the profile or the GPUs of a node.
    pub fn ranks_on_node(&self, ranks: u32, profile: &Profile) -> u32 {
        let held = || match (profile.gpus_per_node, self.gpus) {
            (Some(gpus), Some(share)) => (f64::from(gpus) / share) as u32,
            _ => ranks,
        };
        profile.ranks_per_node.unwrap_or_else(held).clamp(1, ranks)
    }
}

/// The summary of an array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayIndex {
    pub tasks: TaskList,
    /// Earlier arrays of this submission that must end first.
    pub after: Vec<usize>,
    /// Jobs of earlier submissions that must end first.
    pub after_jobs: Vec<String>,
}

/// The tasks of an array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TaskList {
    /// Their number. Jobs do not read the runs of other tasks.
    Number(usize),
    /// The runs of each task.
    Runs(Vec<Vec<RunId>>),
}

impl TaskList {
    pub fn len(&self) -> usize {
        match self {
            TaskList::Number(number) => *number,
            TaskList::Runs(tasks) => tasks.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the runs of each task; returns an empty list if they have not been read.
    pub fn runs(&self) -> &[Vec<RunId>] {
        match self {
            TaskList::Number(_) => &[],
            TaskList::Runs(tasks) => tasks,
        }
    }
}

/// The content of `tasks.json`: the runs of each task of each array.
#[derive(Debug, Serialize, Deserialize)]
struct TasksFile {
    arrays: Vec<Vec<Vec<RunId>>>,
}

/// A submission's directory, and the content of its file.
#[derive(Debug, Clone)]
pub struct Submission {
    pub id: String,
    pub path: PathBuf,
    pub file: SubmissionFile,
}

/// The submissions of a store.
#[derive(Debug, Default)]
pub struct Found {
    /// Oldest first.
    pub submissions: Vec<Submission>,
    pub unreadable: Vec<Unreadable>,
}

/// A submission whose `submission.json` cannot be read, so that nothing is known of its jobs.
#[derive(Debug)]
pub struct Unreadable {
    pub error: winsign_core::Error,
    /// True if this user may change it.
    pub own: bool,
}

/// Tasks of an array that were submitted as one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The number of the job.
    pub job: String,
    pub tasks: Tasks,
}

/// An array with its runs and its script, ready to be written.
pub struct Prepared {
    /// The runs of each task.
    pub tasks: Vec<Vec<RunId>>,
    pub after: Vec<usize>,
    pub after_jobs: Vec<String>,
    /// The runs of all tasks and their inputs, each run after its inputs.
    pub runs: Vec<(RunId, ArrayRun)>,
    pub script: String,
}

impl SubmissionFile {
    pub fn new(study: &str, cluster: &str, programs: &str, execution: Execution, profile: Profile) -> SubmissionFile {
        SubmissionFile {
            format: FORMAT,
            study: study.to_string(),
            cluster: cluster.to_string(),
            user: rustix::process::getuid().as_raw(),
            submitted: jiff::Timestamp::now(),
            programs: programs.to_string(),
            execution,
            profile,
            arrays: vec![],
        }
    }

    fn with_tasks(mut self, tasks: TasksFile) -> SubmissionFile {
        for (index, tasks) in self.arrays.iter_mut().zip(tasks.arrays) {
            index.tasks = TaskList::Runs(tasks);
        }
        self
    }
}

impl Submission {
    /// Returns a unique name for a new submission.
    pub fn new_id() -> String {
        let token =
            format!("{} {:?} {}", winsign_core::owner::host(), std::time::SystemTime::now(), std::process::id());
        blake3::hash(token.as_bytes()).to_hex()[..ID_LENGTH].to_string()
    }

    pub fn path_of(store: &Path, id: &str) -> PathBuf {
        store.join("submissions").join(id)
    }

    /// Writes a submission to the store. It is valid once `submission.json`, the last file, exists.
    pub fn write(store: &Path, id: &str, mut file: SubmissionFile, arrays: Vec<Prepared>) -> StoreResult<Submission> {
        let path = Submission::path_of(store, id);
        files::create_directory(&path.join("arrays"))?;
        files::create_directory(&path.join("log"))?;
        let mut all_tasks = vec![];
        for (number, Prepared { tasks, after, after_jobs, runs, script }) in arrays.into_iter().enumerate() {
            let folder = path.join("arrays");
            files::write_ephemeral(&folder.join(format!("{number}.runs")), &array_file::encode(&runs, &tasks))?;
            files::write_ephemeral(&folder.join(format!("{number}.sh")), script.as_bytes())?;
            file.arrays.push(ArrayIndex { tasks: TaskList::Number(tasks.len()), after, after_jobs });
            all_tasks.push(tasks);
        }
        let tasks = TasksFile { arrays: all_tasks };
        files::write_ephemeral(&path.join(TASKS), &files::seal(&tasks))?;
        files::write_atomic(&path.join("submission.json"), &files::seal(&file))?;
        Ok(Submission { id: id.to_string(), path, file: file.with_tasks(tasks) })
    }

    /// Reads a submission; returns `None` if it does not exist or was not written completely. The runs of its tasks are also in the
    /// files of its arrays, if `tasks.json` is damaged; if they are, too, see [`Submission::has_unknown_runs`].
    pub fn open(path: &Path) -> StoreResult<Option<Submission>> {
        let Some(mut submission) = Submission::open_in_job(path)? else { return Ok(None) };
        if submission.file.format > 1 {
            match intact(files::read_sealed(&path.join(TASKS)))?.flatten() {
                Some(tasks) => submission.file = submission.file.with_tasks(tasks),
                None => submission.read_tasks_of_arrays()?,
            }
        }
        Ok(Some(submission))
    }

    fn read_tasks_of_arrays(&mut self) -> StoreResult<()> {
        for array in 0..self.file.arrays.len() {
            let tasks = self.file.arrays[array].tasks.len();
            if let Some(tasks) = intact(array_file::read_tasks(&self.runs_path(array), tasks))? {
                self.file.arrays[array].tasks = TaskList::Runs(tasks);
            }
        }
        Ok(())
    }

    /// Returns true if the files with the runs of its tasks are damaged.
    pub fn has_unknown_runs(&self) -> bool {
        self.file.arrays.iter().any(|index| matches!(index.tasks, TaskList::Number(_)))
    }

    /// Reads a submission like [`Submission::open`], but not which runs its tasks execute, so that the start of a job does not
    /// depend on the size of the study.
    pub fn open_in_job(path: &Path) -> StoreResult<Option<Submission>> {
        let file_path = path.join("submission.json");
        let Some(file) = files::read_sealed::<SubmissionFile>(&file_path)? else { return Ok(None) };
        if file.format > FORMAT {
            return Err(winsign_core::Error::Format { path: file_path, found: file.format, expected: FORMAT });
        }
        let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Some(Submission { id, path: path.to_path_buf(), file }))
    }

    /// Returns the submissions of a store that may still have jobs.
    pub fn all(store: &Path) -> StoreResult<Found> {
        let folder = store.join("submissions");
        let mut found = Found::default();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(winsign_core::Error::io("list", &folder)(error)),
        };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| !path.join(OVER).exists()) {
            match Submission::open(&path) {
                Ok(submission) => found.submissions.extend(submission),
                Err(error) => {
                    let user = rustix::process::getuid();
                    let owner = fs::metadata(&path).map(|folder| std::os::unix::fs::MetadataExt::uid(&folder));
                    let own = user.is_root() || owner.is_ok_and(|owner| owner == user.as_raw());
                    found.unreadable.push(Unreadable { error, own });
                }
            }
        }
        found.submissions.sort_by_key(|submission| submission.file.submitted);
        Ok(found)
    }

    /// Returns the directories of submissions that were not written completely, because a process was killed, and have no jobs.
    pub fn incomplete(store: &Path) -> StoreResult<Vec<Waste>> {
        let folder = store.join("submissions");
        let mut found = vec![];
        for name in files::names(&folder)? {
            let path = folder.join(&name);
            let is_id = name.len() == ID_LENGTH && name.chars().all(|character| character.is_ascii_hexdigit());
            let is_complete = path.join("submission.json").exists() || path.join(OVER).exists();
            if !is_id || is_complete || !path.is_dir() {
                continue;
            }
            // If only its last file was lost, it has jobs.
            let arrays = files::names(&path.join("arrays"))?;
            if files::names(&path.join("log"))?.is_empty() && !arrays.iter().any(|name| name.ends_with(".job")) {
                found.extend(clean::describe_submission(&path)?);
            }
        }
        Ok(found)
    }

    /// Returns the latest submission of this user with any of these runs, even if it is over. Different studies may have the
    /// same name.
    pub fn latest(store: &Path, runs: &HashSet<RunId>) -> Option<Submission> {
        let entries = fs::read_dir(store.join("submissions")).ok()?;
        let opened = entries.filter_map(|entry| Submission::open(&entry.ok()?.path()).ok()?);
        let ours = opened.filter(|submission| submission.is_own() && submission.runs().any(|run| runs.contains(run)));
        ours.max_by_key(|submission| submission.file.submitted)
    }

    /// Returns the runs that a task executes and their inputs, each run after its inputs.
    pub fn entries(&self, array: usize, task: usize) -> StoreResult<Vec<Entry>> {
        let tasks = self.file.arrays.get(array).map_or(0, |index| index.tasks.len());
        let runs = array_file::read_task(&self.runs_path(array), tasks, task)?;
        let entry =
            |ArrayRun { label, settings, inputs }| Entry { run: Run::new(settings, inputs), label, forgiven: 0 };
        Ok(runs.into_iter().map(entry).collect())
    }

    fn runs_path(&self, array: usize) -> PathBuf {
        self.path.join("arrays").join(format!("{array}.runs"))
    }

    /// Returns the runs of all its tasks.
    pub fn runs(&self) -> impl Iterator<Item = &RunId> {
        self.file.arrays.iter().flat_map(|index| index.tasks.runs().iter().flatten())
    }

    /// Returns the runs of a task.
    pub fn runs_of(&self, array: usize, task: u32) -> &[RunId] {
        let index = self.file.arrays.get(array);
        index.and_then(|index| index.tasks.runs().get(task as usize)).map_or(&[], Vec::as_slice)
    }

    /// Returns the runs that are inputs of others in this submission.
    pub fn needed(&self) -> StoreResult<HashSet<RunId>> {
        let mut needed = HashSet::new();
        for (array, index) in self.file.arrays.iter().enumerate() {
            let runs = match self.file.format {
                1 => array_file::read_version_1(&self.path.join("arrays").join(format!("{array}.json")))?,
                _ => array_file::read_all(&self.runs_path(array), index.tasks.len())?,
            };
            needed.extend(runs.into_iter().flat_map(|run| run.inputs));
        }
        Ok(needed)
    }

    /// Returns the name of the jobs of an array, with characters that are safe in all tools.
    pub fn job_name(study: &str, id: &str, array: usize) -> String {
        let plain = |character: char| {
            if character.is_ascii_alphanumeric() || "-_".contains(character) { character } else { '-' }
        };
        let study: String = study.chars().take(40).map(plain).collect();
        format!("{study}.{id}.{array}")
    }

    /// Returns what was submitted of an array, in the order of its tasks. If the file is damaged, as if it did not exist:
    /// [`Submission::adopt`] writes it again from the queue.
    fn parts_of(&self, array: usize) -> StoreResult<Vec<Part>> {
        let path = self.job_path(array);
        let parts = match files::read_if_exists(&path) {
            Ok(None) => Some(vec![]),
            Ok(Some(bytes)) => self.parse_parts(array, &String::from_utf8_lossy(&bytes)),
            Err(winsign_core::Error::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(parts.unwrap_or_else(|| {
            tracing::warn!("{} is damaged; using the job queue instead", path.display());
            vec![]
        }))
    }

    fn parse_parts(&self, array: usize, text: &str) -> Option<Vec<Part>> {
        let is_job = |job: &str| {
            let known = |character: char| character.is_ascii_alphanumeric() || "[].-_".contains(character);
            job.starts_with(|first: char| first.is_ascii_digit()) && job.chars().all(known)
        };
        let all = self.all_tasks(array);
        let part = |line: &str| {
            let (job, tasks) = match line.split_once(' ') {
                Some((job, tasks)) => (job, Tasks::parse(tasks)?),
                None => (line, all.clone()),
            };
            (is_job(job) && tasks.last() <= all.last()).then(|| Part { job: job.to_string(), tasks })
        };
        text.lines().map(part).collect()
    }

    /// Returns what was submitted of each array.
    pub fn parts(&self) -> StoreResult<BTreeMap<usize, Vec<Part>>> {
        let arrays = 0..self.file.arrays.len();
        let parts = arrays.map(|array| Ok((array, self.parts_of(array)?)));
        Ok(parts.collect::<StoreResult<BTreeMap<_, _>>>()?.into_iter().filter(|(_, parts)| !parts.is_empty()).collect())
    }

    /// Records what was submitted of an array.
    pub(super) fn write_parts(&self, array: usize, parts: &[Part]) -> StoreResult<()> {
        let all = self.all_tasks(array);
        let line = |part: &Part| match part.tasks == all {
            true => part.job.clone(),
            false => format!("{} {}", part.job, part.tasks),
        };
        let text = parts.iter().map(line).collect::<Vec<_>>().join("\n");
        files::write_atomic(&self.job_path(array), text.as_bytes())
    }

    fn all_tasks(&self, array: usize) -> Tasks {
        Tasks::from(0..=self.file.arrays[array].tasks.len() as u32 - 1)
    }

    /// Returns the tasks of an array that were not submitted.
    pub fn rest(&self, array: usize, parts: &BTreeMap<usize, Vec<Part>>) -> Option<RangeInclusive<u32>> {
        let next = parts.get(&array).into_iter().flatten().filter_map(|part| part.tasks.last()).max();
        let rest = next.map_or(0, |last| last + 1)..=self.file.arrays[array].tasks.len() as u32 - 1;
        (!rest.is_empty()).then_some(rest)
    }

    /// Returns the number of arrays that were not submitted completely.
    pub fn unsent(&self, parts: &BTreeMap<usize, Vec<Part>>) -> usize {
        (0..self.file.arrays.len()).filter(|&array| self.rest(array, parts).is_some()).count()
    }

    /// Returns the array and the index of each task that was not submitted, in order.
    pub fn unsent_tasks(&self) -> StoreResult<Vec<(usize, u32)>> {
        let parts = self.parts()?;
        let rest = |array| self.rest(array, &parts).into_iter().flatten().map(move |task| (array, task));
        Ok((0..self.file.arrays.len()).flat_map(rest).collect())
    }

    /// Returns what was submitted of each array, and records jobs that a process submitted before it was killed.
    pub(super) fn adopt(&self, alive: &[Job]) -> StoreResult<BTreeMap<usize, Vec<Part>>> {
        let mut all = self.parts()?;
        for job in alive {
            let Some((array, rest)) = self.array_of(job).and_then(|array| Some((array, self.rest(array, &all)?)))
            else {
                continue;
            };
            if all.get(&array).into_iter().flatten().any(|part| part.job == job.id.array) {
                continue;
            }
            // The scheduler lists tasks in different states separately.
            let same = alive.iter().filter(|other| other.id.array == job.id.array);
            let last = same.filter_map(|job| job.id.tasks.as_ref()?.last()).max();
            // Jobs of earlier tasks were submitted by the script of a node that could not start them.
            let Some(last) = last.filter(|last| last >= rest.start()) else { continue };
            let tasks = Tasks::from(*rest.start()..=last);
            let parts = all.entry(array).or_default();
            parts.push(Part { job: job.id.array.clone(), tasks });
            self.write_parts(array, parts)?;
        }
        Ok(all)
    }

    fn job_path(&self, array: usize) -> PathBuf {
        self.path.join("arrays").join(format!("{array}.job"))
    }

    pub fn is_cancelled(&self) -> bool {
        self.path.join(CANCELLED).exists()
    }

    pub fn mark_cancelled(&self) -> StoreResult<()> {
        files::create_exclusive(&self.path.join(CANCELLED), b"").map(drop)
    }

    /// Removes a submission without submitted arrays.
    pub fn remove(&self) -> StoreResult<()> {
        fs::remove_dir_all(&self.path).map_err(winsign_core::Error::io("remove", &self.path))
    }

    pub fn is_held(&self) -> bool {
        self.path.join(HELD).exists()
    }

    pub fn mark_held(&self) -> StoreResult<()> {
        files::create_exclusive(&self.path.join(HELD), b"").map(drop)
    }

    /// Removes the mark that holds jobs, and records the time, by the clock of this machine.
    pub fn mark_released(&self) -> StoreResult<()> {
        let now = jiff::Timestamp::now().to_string();
        files::write_atomic(&self.path.join(RELEASED), now.as_bytes())?;
        files::remove_if_exists(&self.path.join(HELD))
    }

    /// Returns the time of the last `winsign release`.
    pub fn released_at(&self) -> Option<SystemTime> {
        let text = fs::read_to_string(self.path.join(RELEASED)).ok()?;
        let time: jiff::Timestamp = text.trim().parse().ok()?;
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_second().try_into().ok()?))
    }

    /// Returns true if an ending job can leave it to others to query the scheduler: one has just done so, and saw jobs running of
    /// which less than half have ended since. Each that leaves it to others adds a byte to a file.
    pub(super) fn skips_query(&self) -> bool {
        let queried = self.path.join(QUERIED);
        let age = fs::metadata(&queried).and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
        let is_recent = age.is_ok_and(|age| age.is_ok_and(|age| age < QUERY_INTERVAL));
        let running: u64 = fs::read_to_string(&queried).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let skipped = self.path.join(SKIPPED);
        let count = fs::metadata(&skipped).map_or(0, |metadata| metadata.len());
        let append = || fs::OpenOptions::new().create(true).append(true).open(&skipped)?.write_all(b".");
        is_recent && count + 1 < running / 2 && append().is_ok()
    }

    /// Records that the scheduler was queried, and how many other jobs of this submission were running then.
    pub(super) fn record_query(&self, running: usize) {
        // If it fails, more jobs query the scheduler.
        let _ = files::remove_if_exists(&self.path.join(SKIPPED));
        let _ = files::write_ephemeral(&self.path.join(QUERIED), running.to_string().as_bytes());
    }

    /// Records that a job has left the rest of the submission to others, and is ending.
    pub(super) fn record_left(&self, job: &JobTasks) -> StoreResult<()> {
        let path = self.path.join(LEFT);
        let opened = fs::OpenOptions::new().create(true).append(true).open(&path);
        let written = opened.and_then(|mut file| file.write_all(format!("{job}\n").as_bytes()));
        written.map_err(winsign_core::Error::io("write", &path))
    }

    /// Returns the jobs that have left the rest of the submission to others.
    pub(super) fn left(&self) -> HashSet<String> {
        let text = fs::read_to_string(self.path.join(LEFT)).unwrap_or_default();
        text.lines().map(str::to_string).collect()
    }

    /// Returns the nodes on which a task has failed, as far as they count: those in the environment of this process, or those
    /// that [`Submission::record_failed_nodes`] has written since.
    pub fn failed_nodes(&self, array: usize, task: u32) -> Option<FailedNodes> {
        let recorded = fs::read_to_string(self.failed_path(array, task)).ok();
        let recorded = recorded.and_then(|lines| FailedNodes::parse(&lines));
        let latest = recorded.into_iter().chain(FailedNodes::of_this_task()).max_by_key(FailedNodes::last_failure)?;
        latest.since(self.released_at())
    }

    /// Records the nodes on which a task has failed.
    pub(super) fn record_failed_nodes(&self, array: usize, task: u32, failed: &FailedNodes) -> StoreResult<()> {
        files::create_directory(&self.path.join(FAILED))?;
        files::write_atomic(&self.failed_path(array, task), failed.lines().as_bytes())
    }

    fn failed_path(&self, array: usize, task: u32) -> PathBuf {
        self.path.join(FAILED).join(format!("{array}_{task}"))
    }

    pub fn mark_over(&self) -> StoreResult<()> {
        files::create_exclusive(&self.path.join(OVER), b"").map(drop)
    }

    pub fn scheduler(&self) -> &'static dyn Scheduler {
        self.file.profile.scheduler()
    }

    /// Returns the array of a job in this submission. Jobs are matched by their unique name: numbers may be reused if the
    /// scheduler loses its state, and may not have been recorded.
    pub fn array_of(&self, job: &Job) -> Option<usize> {
        let array = job.name.rsplit_once('.')?.1.parse().ok()?;
        let ours = job.name == Submission::job_name(&self.file.study, &self.id, array);
        (ours && array < self.file.arrays.len()).then_some(array)
    }

    /// Returns true if this process may conclude from the scheduler's answers that the submission has no jobs any more.
    pub fn is_own(&self) -> bool {
        self.file.user == rustix::process::getuid().as_raw()
    }

    /// Returns true if this user may change its jobs.
    pub fn may_be_changed(&self) -> bool {
        self.is_own() || rustix::process::getuid().is_root()
    }

    /// Returns true if any of the submitted jobs has not ended, queried by their numbers.
    pub fn has_jobs(&self, parts: &BTreeMap<usize, Vec<Part>>) -> Result<bool, Error> {
        let jobs: Vec<&str> = parts.values().flatten().map(|part| part.job.as_str()).collect();
        Ok(!jobs.is_empty() && self.scheduler().exist(&self.file.cluster, &jobs)?)
    }

    /// Returns the tasks that the scheduler killed, by array and task, with its words: those recorded before, and these.
    pub(super) fn killed(&self, jobs: &[Job]) -> BTreeMap<(usize, u32), String> {
        let recorded = files::read_if_exists(&self.path.join(KILLED)).ok().flatten().unwrap_or_default();
        let parse = |line: &str| {
            let mut words = line.splitn(3, ' ');
            Some(((words.next()?.parse().ok()?, words.next()?.parse().ok()?), words.next()?.to_string()))
        };
        let mut killed: BTreeMap<_, _> = String::from_utf8_lossy(&recorded).lines().filter_map(parse).collect();
        for job in jobs {
            let Some(array) = self.array_of(job) else { continue };
            for task in job.id.tasks.iter().flat_map(Tasks::iter) {
                killed.insert((array, task), job.words.clone());
            }
        }
        killed
    }

    /// Records tasks that the scheduler killed, which it soon forgets.
    pub(super) fn write_killed(&self, killed: &BTreeMap<(usize, u32), String>) {
        let lines: String = killed.iter().map(|((array, task), words)| format!("{array} {task} {words}\n")).collect();
        if !killed.is_empty() {
            // If it fails, only an explanation is lost.
            let _ = files::write_ephemeral(&self.path.join(KILLED), lines.as_bytes());
        }
    }

    /// Returns the nodes that jobs of this submission must not use.
    pub fn excluded(&self) -> StoreResult<Vec<String>> {
        Ok(self.excluded_nodes()?.into_keys().collect())
    }

    /// Returns the nodes that failed to start jobs, with the reason.
    pub fn excluded_nodes(&self) -> StoreResult<BTreeMap<String, String>> {
        let Some(bytes) = files::read_if_exists(&self.path.join(EXCLUDED))? else { return Ok(BTreeMap::new()) };
        let text = String::from_utf8_lossy(&bytes);
        let node = |line: &str| {
            let (node, reason) = line.split_once(' ').unwrap_or((line, ""));
            (node.to_string(), reason.to_string())
        };
        Ok(text.lines().map(node).collect())
    }

    /// Records nodes that failed to start jobs.
    pub fn exclude(&self, nodes: &BTreeMap<String, String>) -> StoreResult<()> {
        if nodes.is_empty() {
            return files::remove_if_exists(&self.path.join(EXCLUDED));
        }
        let lines: String = nodes.iter().map(|(node, reason)| format!("{node} {}\n", printable(reason))).collect();
        files::write_atomic(&self.path.join(EXCLUDED), lines.as_bytes())
    }
}

/// Returns what was read from a file, or `None` if the file is damaged.
fn intact<T>(read: StoreResult<T>) -> StoreResult<Option<T>> {
    match read {
        Ok(content) => Ok(Some(content)),
        Err(winsign_core::Error::Damaged { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use winsign_sweep::parse;
    use winsign_sweep::plan::build::build;

    use super::*;
    use crate::batch::scheduler::JobState;

    /// Version 0.1 knew one scheduler and no commands as launchers.
    const WRITTEN_BY_0_1: &str = r#"{
        "format": 1, "study": "study", "cluster": "alpha", "user": 1000, "submitted": "2026-11-30T12:00:00Z",
        "programs": "beef",
        "execution": {"data": "/data", "threads": 1, "ranks": 2, "gpus": 0.5, "retries": 1},
        "profile": {
            "path": "mine.yaml", "launcher": "mpirun", "mpi": "pmix", "partition": "gpu", "account": null, "qos": null,
            "constraint": null, "time": "30", "memory": null, "grace": 120, "requeue": true, "gpu_type": null,
            "gpus_per_node": null, "ranks_per_node": null, "pack": 1, "side_by_side": 1, "max_running": null,
            "max_submit": null, "setup": "", "sbatch": ["--nice"],
            "source": {"text": "time: 30", "places": {"time": [{"line": 1, "column": 7, "start": 6, "end": 8}]},
                "overridden": []}
        },
        "arrays": [{"tasks": [["3f09c2aa3f09c2aa"]], "after": [], "after_jobs": ["7_3"]}]
    }"#;

    #[test]
    fn submission_of_the_first_version_is_read() {
        let file: SubmissionFile = serde_json::from_str(WRITTEN_BY_0_1).unwrap();
        let submission = Submission { id: "3f09c2aa".to_string(), path: PathBuf::new(), file };
        assert_eq!((submission.scheduler().title(), submission.file.profile.launcher.as_str()), ("Slurm", "mpirun"));
        let name = Submission::job_name("study", "3f09c2aa", 0);
        let job = |name: String| Job {
            id: JobTasks { array: "12".to_string(), tasks: Tasks::parse("0") },
            name,
            state: JobState::Pending,
            words: "PENDING".to_string(),
            held: None,
            failed_on: None,
            own: false,
        };
        assert_eq!(submission.array_of(&job(name)), Some(0));
        assert_eq!(submission.array_of(&job("study.3f09c2aa.1".to_string())), None);
        assert_eq!(submission.array_of(&job("study.other.0".to_string())), None);
    }

    #[test]
    fn runs_are_read_from_the_arrays_if_tasks_json_is_damaged() {
        let text = "dataset: digits\narchitecture: resnet8\nticket: {method: lrr, levels: 2}\n";
        let plan = build(&parse("study.yaml", text).unwrap());
        let describe = |run: &Run| {
            let Run { id, settings, inputs } = run.clone();
            (id, ArrayRun { label: "a run".to_string(), settings, inputs })
        };
        let runs: Vec<(RunId, ArrayRun)> = plan.runs.iter().map(|planned| describe(&planned.run)).collect();
        let tasks: Vec<Vec<RunId>> = runs.iter().map(|(id, _)| vec![id.clone()]).collect();
        let prepared = Prepared { tasks, after: vec![], after_jobs: vec![], runs, script: String::new() };
        let mut file: SubmissionFile = serde_json::from_str(WRITTEN_BY_0_1).unwrap();
        (file.format, file.arrays) = (FORMAT, vec![]);
        let folder = tempfile::tempdir().unwrap();
        let written = Submission::write(folder.path(), "3f", file, vec![prepared]).unwrap();
        let open = || Submission::open(&written.path).unwrap().unwrap();
        assert_eq!(open().file, written.file);

        fs::write(written.path.join(TASKS), "{").unwrap();
        assert_eq!((open().file, open().has_unknown_runs()), (written.file.clone(), false));
        fs::remove_file(written.path.join(TASKS)).unwrap();
        assert_eq!(open().file, written.file);
        fs::write(written.path.join("arrays/0.runs"), "").unwrap();
        assert!(open().has_unknown_runs());
        assert!(open().needed().is_err());
        assert_eq!(Submission::all(folder.path()).unwrap().submissions.len(), 1);

        fs::write(written.path.join("submission.json"), "{").unwrap();
        let found = Submission::all(folder.path()).unwrap();
        assert!(found.submissions.is_empty() && found.unreadable[0].own);
    }

    fn age(path: &Path) {
        for entry in fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() { age(&entry) } else { set_age(&entry) }
        }
        set_age(path);
    }

    fn set_age(path: &Path) {
        let old = std::time::SystemTime::now() - Duration::from_secs(7200);
        fs::File::open(path).unwrap().set_modified(old).unwrap();
    }

    #[test]
    fn incomplete_submission_is_deleted_once_it_is_old() {
        let store = tempfile::tempdir().unwrap();
        let incomplete = || Submission::incomplete(store.path()).unwrap();
        assert!(incomplete().is_empty());
        let path = Submission::path_of(store.path(), "3f09c2aa");
        for folder in ["arrays", "log"] {
            fs::create_dir_all(path.join(folder)).unwrap();
        }
        fs::write(path.join("arrays/0.runs"), "12345").unwrap();
        assert!(incomplete().is_empty(), "it may still be written");
        for other in ["submission.json", "arrays/0.job", "log/0_1"] {
            fs::write(path.join(other), "").unwrap();
            age(&path);
            assert!(incomplete().is_empty(), "{other}");
            fs::remove_file(path.join(other)).unwrap();
        }
        age(&path);
        let found = incomplete();
        assert_eq!(found.iter().map(|waste| (&waste.path, waste.bytes)).collect::<Vec<_>>(), [(&path, 5)]);
        assert_eq!(found[0].delete().unwrap(), Some(5));
        assert!(!path.exists());
        assert_eq!(found[0].delete().unwrap(), None);
    }

    #[test]
    fn release_records_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = serde_json::from_str(WRITTEN_BY_0_1).unwrap();
        let submission = Submission { id: "3f".to_string(), path: folder.path().to_path_buf(), file };
        submission.mark_held().unwrap();
        assert!(submission.is_held() && submission.released_at().is_none());
        submission.mark_released().unwrap();
        let age = submission.released_at().unwrap().elapsed().unwrap();
        assert!(!submission.is_held() && age < Duration::from_secs(60), "{age:?}");
    }

    #[test]
    fn arrays_are_submitted_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let mut file: SubmissionFile = serde_json::from_str(WRITTEN_BY_0_1).unwrap();
        file.arrays[0].tasks = TaskList::Number(13);
        let submission = Submission { id: "3f".to_string(), path: folder.path().to_path_buf(), file };
        fs::create_dir(folder.path().join("arrays")).unwrap();
        assert_eq!(submission.rest(0, &submission.parts().unwrap()), Some(0..=12));

        let part = |job: &str, tasks: &str| Part { job: job.to_string(), tasks: Tasks::parse(tasks).unwrap() };
        submission.write_parts(0, &[part("7", "0-5")]).unwrap();
        assert_eq!(submission.rest(0, &submission.parts().unwrap()), Some(6..=12));
        // Submitted, but not recorded.
        let job = |tasks: &str, state: JobState| Job {
            id: JobTasks { array: "8".to_string(), tasks: Tasks::parse(tasks) },
            name: Submission::job_name("study", "3f", 0),
            state,
            words: String::new(),
            held: None,
            failed_on: None,
            own: false,
        };
        let elsewhere = submission.adopt(&[job("3", JobState::Pending)]).unwrap();
        assert_eq!(elsewhere[&0], [part("7", "0-5")], "task 3 was submitted again by its own script");
        let running = job("7", JobState::Running);
        let parts = submission.adopt(&[running, job("8-12", JobState::Pending)]).unwrap();
        assert_eq!(parts[&0], [part("7", "0-5"), part("8", "6-12")]);
        assert_eq!((submission.parts().unwrap(), submission.unsent(&parts)), (parts, 0));

        submission.write_parts(0, &[part("9", "0-12")]).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("arrays/0.job")).unwrap(), "9", "as before parts existed");
        assert_eq!(submission.rest(0, &submission.parts().unwrap()), None);
    }

    #[test]
    fn damaged_list_of_jobs_is_written_again_from_the_queue() {
        let folder = tempfile::tempdir().unwrap();
        let mut file: SubmissionFile = serde_json::from_str(WRITTEN_BY_0_1).unwrap();
        file.arrays[0].tasks = TaskList::Number(13);
        let submission = Submission { id: "3f".to_string(), path: folder.path().to_path_buf(), file };
        fs::create_dir(folder.path().join("arrays")).unwrap();
        let job = Job {
            id: JobTasks { array: "8".to_string(), tasks: Tasks::parse("0-12") },
            name: Submission::job_name("study", "3f", 0),
            state: JobState::Pending,
            words: String::new(),
            held: None,
            failed_on: None,
            own: false,
        };
        for damaged in ["8 0-1x", "8 0-13", "8 0-5 6", "\0\0\0", "8 0-5\n\u{fffd}", "job"] {
            fs::write(submission.job_path(0), damaged).unwrap();
            assert!(submission.parts().unwrap().is_empty(), "{damaged}");
            let parts = submission.adopt(std::slice::from_ref(&job)).unwrap();
            assert_eq!(parts[&0], [Part { job: "8".to_string(), tasks: Tasks::from(0..=12) }], "{damaged}");
            assert_eq!(fs::read_to_string(submission.job_path(0)).unwrap(), "8");
        }
        submission.write_parts(0, &[Part { job: "12[].server-1".to_string(), tasks: Tasks::from(0..=12) }]).unwrap();
        assert_eq!(submission.parts().unwrap()[&0][0].job, "12[].server-1", "as PBS names an array");
    }
}
