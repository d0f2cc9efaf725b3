//! A submission: arrays submitted together, and their directory in the store.
//!
//! ```text
//! STORE/submissions/3f09c2aa/
//!     submission.json     the study, how jobs execute runs, and the runs of each task of each array
//!     arrays/0.json       the runs of an array, and their inputs
//!     arrays/0.sh         the script of its jobs
//!     arrays/0.job        its job number, once it is submitted
//!     log/0_17            the log of task 17 of array 0
//!     cancelled           present if its jobs must neither continue nor submit others
//!     held                present if its jobs must not start before they are released
//!     over                present if it has no jobs any more
//! ```

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use winsign_core::error::Result as StoreResult;
use winsign_core::settings::Settings;
use winsign_core::text::printable;
use winsign_core::{Run, RunId, files, lease};

use super::Error;
use super::profile::Profile;
use super::scheduler::{Job, JobState, Limits, Scheduler};
use crate::Entry;
use crate::launcher::Wanted;

/// The version of the layout above.
const FORMAT: u32 = 1;
const CANCELLED: &str = "cancelled";
const HELD: &str = "held";
const OVER: &str = "over";

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
    pub tasks: Vec<Vec<RunId>>,
    /// Earlier arrays of this submission that must end first.
    pub after: Vec<usize>,
    /// Jobs of earlier submissions that must end first.
    pub after_jobs: Vec<String>,
}

/// The content of `arrays/N.json`: runs, each after its inputs.
#[derive(Debug, Serialize, Deserialize)]
struct ArrayFile {
    runs: Vec<ArrayRun>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ArrayRun {
    pub label: String,
    pub settings: Settings,
    pub inputs: Vec<RunId>,
}

/// A submission's directory, and the content of its file.
#[derive(Debug, Clone)]
pub struct Submission {
    pub id: String,
    pub path: PathBuf,
    pub file: SubmissionFile,
}

/// The outcome of submitting arrays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// The number of submitted arrays, each by one command.
    pub arrays: usize,
    pub tasks: usize,
    /// The number of arrays that do not fit until jobs end.
    pub left: usize,
}

impl std::ops::AddAssign for Sent {
    fn add_assign(&mut self, other: Sent) {
        self.arrays += other.arrays;
        self.tasks += other.tasks;
        self.left += other.left;
    }
}

/// An array with its runs and its script, ready to be written.
pub struct Prepared {
    pub index: ArrayIndex,
    pub runs: Vec<ArrayRun>,
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
}

impl Submission {
    /// Returns a unique name for a new submission.
    pub fn new_id() -> String {
        let token =
            format!("{} {:?} {}", winsign_core::owner::host(), std::time::SystemTime::now(), std::process::id());
        blake3::hash(token.as_bytes()).to_hex()[..8].to_string()
    }

    pub fn path_of(store: &Path, id: &str) -> PathBuf {
        store.join("submissions").join(id)
    }

    /// Writes a submission to the store. It is valid once `submission.json`, the last file, exists.
    pub fn write(store: &Path, id: &str, mut file: SubmissionFile, arrays: Vec<Prepared>) -> StoreResult<Submission> {
        let path = Submission::path_of(store, id);
        files::create_directory(&path.join("arrays"))?;
        files::create_directory(&path.join("log"))?;
        for (number, Prepared { index, runs, script }) in arrays.into_iter().enumerate() {
            let folder = path.join("arrays");
            files::write_ephemeral(&folder.join(format!("{number}.json")), &files::seal(&ArrayFile { runs }))?;
            files::write_ephemeral(&folder.join(format!("{number}.sh")), script.as_bytes())?;
            file.arrays.push(index);
        }
        files::write_atomic(&path.join("submission.json"), &files::seal(&file))?;
        Ok(Submission { id: id.to_string(), path, file })
    }

    /// Reads a submission; returns `None` if it does not exist or was not written completely.
    pub fn open(path: &Path) -> StoreResult<Option<Submission>> {
        let file_path = path.join("submission.json");
        let Some(file) = files::read_sealed::<SubmissionFile>(&file_path)? else { return Ok(None) };
        if file.format != FORMAT {
            return Err(winsign_core::Error::Format { path: file_path, found: file.format, expected: FORMAT });
        }
        let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Some(Submission { id, path: path.to_path_buf(), file }))
    }

    /// Returns the submissions of a store that may still have jobs, oldest first. Damaged ones are reported and skipped.
    pub fn all(store: &Path) -> StoreResult<Vec<Submission>> {
        let folder = store.join("submissions");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            Err(error) => return Err(winsign_core::Error::io("list", &folder)(error)),
        };
        let mut found = vec![];
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| !path.join(OVER).exists()) {
            match Submission::open(&path) {
                Ok(submission) => found.extend(submission),
                Err(error) => {
                    let id = path.file_name().unwrap_or_default().display();
                    tracing::warn!("{error}; ignoring this submission. Cancel its jobs, whose names contain `.{id}.`");
                }
            }
        }
        found.sort_by_key(|submission| submission.file.submitted);
        Ok(found)
    }

    /// Returns the latest submission of a study, even if it is over.
    pub fn latest(store: &Path, study: &str) -> StoreResult<Option<Submission>> {
        let Ok(entries) = fs::read_dir(store.join("submissions")) else { return Ok(None) };
        let opened = entries.filter_map(|entry| Submission::open(&entry.ok()?.path()).ok()?);
        Ok(opened
            .filter(|submission| submission.file.study == study)
            .max_by_key(|submission| submission.file.submitted))
    }

    /// Returns the runs that a task executes and their inputs, each run after its inputs.
    pub fn entries(&self, array: usize, task: usize) -> StoreResult<Vec<Entry>> {
        let path = self.path.join("arrays").join(format!("{array}.json"));
        let missing = |what: &str| {
            let way_out = "run `winsign cancel`, then `winsign submit` to write it again";
            winsign_core::Error::damaged(&path, format!("there is no {what}; {way_out}"))
        };
        let ArrayFile { runs } = files::read_sealed(&path)?.ok_or_else(|| missing("such file"))?;
        let pack = self.file.arrays.get(array).and_then(|index| index.tasks.get(task));
        let mut needed: HashSet<RunId> = pack.ok_or_else(|| missing("such task"))?.iter().cloned().collect();
        let mut entries = vec![];
        // In reverse, so that dependents come before their inputs.
        for ArrayRun { label, settings, inputs } in runs.into_iter().rev() {
            let run = Run::new(settings, inputs);
            if needed.contains(&run.id) {
                needed.extend(run.inputs.iter().cloned());
                entries.push(Entry { run, label, forgiven: 0 });
            }
        }
        entries.reverse();
        Ok(entries)
    }

    /// Returns the runs that are inputs of others in this submission.
    pub fn needed(&self) -> StoreResult<HashSet<RunId>> {
        let mut needed = HashSet::new();
        for array in 0..self.file.arrays.len() {
            let path = self.path.join("arrays").join(format!("{array}.json"));
            let file: Option<ArrayFile> = files::read_sealed(&path)?;
            needed.extend(file.into_iter().flat_map(|file| file.runs).flat_map(|run| run.inputs));
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

    /// Returns the job number of an array, or `None` if it was not submitted yet.
    pub fn job(&self, array: usize) -> StoreResult<Option<String>> {
        let bytes = files::read_if_exists(&self.job_path(array))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_string()))
    }

    /// Returns the job numbers of the submitted arrays.
    pub fn jobs(&self) -> StoreResult<BTreeMap<usize, String>> {
        let arrays = 0..self.file.arrays.len();
        arrays.filter_map(|array| self.job(array).map(|job| Some((array, job?))).transpose()).collect()
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

    pub fn mark_released(&self) -> StoreResult<()> {
        files::remove_if_exists(&self.path.join(HELD))
    }

    pub fn mark_over(&self) -> StoreResult<()> {
        files::create_exclusive(&self.path.join(OVER), b"").map(drop)
    }

    pub fn scheduler(&self) -> &'static dyn Scheduler {
        self.file.profile.scheduler()
    }

    /// Returns the array and task of a job in this submission. Jobs are matched by their unique name: numbers may be reused if
    /// the scheduler loses its state, and may not have been recorded.
    pub fn locate(&self, job: &Job) -> Option<(usize, usize)> {
        let array = job.name.rsplit_once('.')?.1.parse().ok()?;
        let task = job.task.map_or(0, |task| task as usize);
        let ours = job.name == Submission::job_name(&self.file.study, &self.id, array);
        (ours && task < self.file.arrays.get(array)?.tasks.len()).then_some((array, task))
    }

    /// Submits the remaining arrays in order, within the limits. Those that do not fit are submitted by ending jobs of this
    /// submission; without such jobs this is an error.
    pub fn send(&self, limits: &Limits) -> Result<Sent, Error> {
        let mut sent = Sent::default();
        let mut jobs = self.jobs()?;
        if jobs.len() == self.file.arrays.len() || self.is_cancelled() {
            return Ok(sent);
        }
        // Two processes must not submit each array twice.
        let lock = self.path.join("sending");
        let lease = match lease::take(&lock)? {
            Ok(lease) => lease,
            Err(owner) => return Err(Error::Busy { reason: format!("{owner} is submitting to it") }),
        };
        jobs = self.jobs()?;
        let alive = self.scheduler().jobs(&[self.file.user].into())?;
        let mut known: HashSet<String> = alive.iter().flat_map(|job| [job.array.clone(), job.id.clone()]).collect();
        for job in &alive {
            // Submitted by a process that exited before recording it.
            if let Some((array, _)) = self.locate(job).filter(|(array, _)| !jobs.contains_key(array)) {
                self.write_job(array, &job.array)?;
                jobs.insert(array, job.array.clone());
            }
        }
        let room = self.file.profile.max_submit.map_or(limits.room(), |most| limits.room().min(most)) as usize;
        let active: Vec<&Job> = alive.iter().filter(|job| job.state != JobState::Ending).collect();
        let mut used = active.len();
        // This process may be one of the jobs, which submits nothing after it has ended.
        let mut others = active.iter().filter(|job| !job.own).count();
        let mut followed = active.iter().any(|job| !job.own && self.locate(job).is_some());
        for (array, index) in self.file.arrays.iter().enumerate() {
            if jobs.contains_key(&array) {
                continue;
            }
            if !lease.keep() {
                return Err(Error::Busy { reason: "another process took over the lock".to_string() });
            }
            let answer = match used + index.tasks.len() <= room || others == 0 {
                true => self.send_array(array, &jobs, &known),
                false => Err(Error::Full { room, used }),
            };
            let job = match answer {
                // The rest fits when the active jobs end.
                Err(error) if error.is_limit() && followed => {
                    tracing::info!("submitting no more jobs for now: {error}");
                    break;
                }
                other => other?,
            };
            followed = true;
            self.write_job(array, &job)?;
            known.insert(job.clone());
            jobs.insert(array, job);
            sent.arrays += 1;
            sent.tasks += index.tasks.len();
            used += index.tasks.len();
            others += index.tasks.len();
        }
        sent.left = self.file.arrays.len() - jobs.len();
        Ok(sent)
    }

    /// Submits one array and returns its job number. `known` are the jobs that the scheduler knows; it may reject dependencies
    /// on others.
    fn send_array(
        &self,
        array: usize,
        jobs: &BTreeMap<usize, String>,
        known: &HashSet<String>,
    ) -> Result<String, Error> {
        let index = &self.file.arrays[array];
        let before = index.after.iter().filter_map(|before| jobs.get(before)).chain(&index.after_jobs);
        let before: Vec<&str> = before.map(String::as_str).filter(|&job| known.contains(job)).collect();
        let path = self.path.join("arrays").join(format!("{array}.sh"));
        let script =
            files::read_if_exists(&path)?.ok_or_else(|| winsign_core::Error::damaged(&path, "it is missing"))?;
        let script = String::from_utf8_lossy(&script);
        let job = self.scheduler().submit(&script, &before, self.is_held(), &self.path);
        job.map_err(|error| match error {
            Error::Refused { words, .. } => Error::Rejected {
                scheduler: self.scheduler().title(),
                words: words.lines().map(printable).collect::<Vec<_>>().join("; "),
                settings: self.file.profile.settings_to_check(),
            },
            other => other,
        })
    }

    fn write_job(&self, array: usize, job: &str) -> StoreResult<()> {
        files::create_exclusive(&self.job_path(array), job.as_bytes()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let job = |name: String, task| Job {
            array: "12".to_string(),
            task: Some(task),
            id: format!("12_{task}"),
            name,
            state: JobState::Pending,
            words: "PENDING".to_string(),
            held: None,
            own: false,
        };
        assert_eq!(submission.locate(&job(name.clone(), 0)), Some((0, 0)));
        assert_eq!(submission.locate(&job(name, 1)), None);
        assert_eq!(submission.locate(&job("study.other.0".to_string(), 0)), None);
    }
}
