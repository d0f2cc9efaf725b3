//! Attempts: the executions of a run.
//!
//! After a node is lost, a scheduler starts the next attempt while the old process may still be running. So attempts
//! are numbered, each writes under its own number, and two steps are exclusive: the *claim* (creating `attempts/N.json`
//! makes an attempt, and takes the run over from every earlier one) and the *commit* (creating `result.json`). An
//! attempt that is not the latest finds that out before it saves or commits, and stops. If two attempts commit at the
//! same instant, the first stands; both are results of the run, equal to the last bit if they used as many ranks and
//! threads on the same processors.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::clean;
use super::directory::{FORMAT, RunDirectory};
use super::disk;
use super::error::{Error, Result};
use super::files;
use super::identity::RunId;
use super::owner::{self, Owner};
use super::results::{AttachedFile, EpochMetrics, GpuUtilization, Outcome, Processors, RunResult, Usage};
use super::tensors::TensorFile;

/// The name of the status file, which is also the heartbeat of an attempt.
pub const STATUS: &str = "status.json";
/// The name of the file that records how an attempt ended.
pub const END: &str = "end.json";
/// The name of the log of an attempt.
pub const LOG: &str = "log";
/// The name of the file with the metrics of an attempt, one JSON object per epoch and line.
pub const METRICS: &str = "metrics.jsonl";
pub(super) const CHECKPOINT: &str = "checkpoint.safetensors";
pub(super) const NETWORK: &str = "network.safetensors";

/// The age of a draft that nobody will complete.
const OLD_DRAFT: Duration = Duration::from_secs(3_600);

/// The process that began an attempt, and the time at which it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    pub owner: Owner,
    pub began: jiff::Timestamp,
    /// The version of winsign that the process ran.
    pub version: String,
    /// The token that the launcher gave to the attempt; `None` if the attempt was started without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<String>,
    /// True if the attempt keeps activations in the memory of the host, because an earlier attempt had too little memory of a
    /// GPU.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub activations_on_host: bool,
}

impl Claim {
    /// Creates a claim of this process that begins now.
    fn new() -> Claim {
        let version = env!("CARGO_PKG_VERSION").to_string();
        let (owner, began) = (Owner::this_process(), jiff::Timestamp::now());
        Claim { owner, began, version, launch: None, activations_on_host: false }
    }

    /// Returns a stand-in for a claim whose file is damaged.
    pub(super) fn unreadable() -> Claim {
        let (owner, began, version) = (Owner::unknown(), jiff::Timestamp::UNIX_EPOCH, String::new());
        Claim { owner, began, version, launch: None, activations_on_host: false }
    }
}

/// The progress of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The number of epochs trained, or of batches that the statistics along a path have been computed from.
    pub done: u32,
    /// The total that `done` counts toward, in the same unit; 0 if it is not known yet.
    pub total: u32,
    /// The test error after the last epoch, in percent.
    pub test_error: Option<f64>,
}

/// The content of the status file of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    #[serde(flatten)]
    pub progress: Progress,
    /// The utilization of the GPUs; `None` if it is not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_utilization: Option<GpuUtilization>,
    /// How often the status was written: others see that the attempt is alive as long as the file changes.
    #[serde(default)]
    beat: u64,
}

impl Status {
    pub fn new(progress: Progress) -> Status {
        Status { progress, gpu_utilization: None, beat: 0 }
    }
}

/// The status of an attempt, which its threads share.
struct SharedStatus {
    status: Status,
    /// True if the utilization of the GPUs was recorded since the last heartbeat.
    is_measured: bool,
}

impl SharedStatus {
    fn record(&mut self, utilization: Option<GpuUtilization>) {
        self.status.gpu_utilization = utilization;
        self.is_measured = true;
    }

    /// Returns the status that a heartbeat writes. If the measurement hangs, it has no utilization in the last minute.
    fn at_heartbeat(&mut self) -> &mut Status {
        if let Some(utilization) = &mut self.status.gpu_utilization
            && !std::mem::take(&mut self.is_measured)
        {
            utilization.last_minute = None;
        }
        &mut self.status
    }
}

/// The way in which an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum End {
    /// The attempt committed the result, or found that another attempt had committed it.
    Finished,
    /// The attempt was asked to stop; the run resumes from its checkpoint.
    Interrupted,
    /// The attempt had too little memory of a GPU, as `message` says. The run resumes from its checkpoint, and later attempts
    /// keep activations in the memory of the host.
    OutOfGpuMemory { message: String },
    /// The attempt failed with the error `message`.
    Failed { message: String },
    /// Another process has seen no heartbeat for [`owner::lost_after`], and recorded this. The attempt may be alive after all.
    Lost,
}

/// The metadata of a checkpoint: the metadata of the trainer, the run and the data that the checkpoint belongs to, and
/// the wall time that went into it.
#[derive(Serialize, Deserialize)]
struct CheckpointMetadata {
    run: RunId,
    #[serde(default)]
    data: Option<String>,
    seconds: f64,
    metadata: String,
}

/// The attempt of this process at a run.
pub struct Attempt {
    pub run: RunDirectory,
    pub number: u32,
    /// The identifier of the data that the attempt computes from, once it is known: see [`RunResult::data`].
    pub data: Option<String>,
    /// True if activations are to be kept in the memory of the host: see [`Claim::activations_on_host`].
    pub activations_on_host: bool,
    /// The wall time of the earlier attempts that this one resumes, in seconds.
    seconds_before: f64,
    began: Instant,
    status: Arc<Mutex<SharedStatus>>,
    heartbeat: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Attempt {
    /// Claims a run for this process, with `total` as the number of epochs to train (0 if it is not known yet).
    ///
    /// Fails with [`Error::Held`] if an attempt at the run may be alive: see [`RunDirectory::watch_latest`].
    pub fn claim(run: &RunDirectory, total: u32) -> Result<Attempt> {
        Attempt::claim_as(run, total, None)
    }

    /// Claims a run like [`Attempt::claim`], and records the token by which the launcher of this process finds the
    /// attempt.
    pub fn claim_as(run: &RunDirectory, total: u32, launch: Option<&str>) -> Result<Attempt> {
        let folder = run.path.join("attempts");
        files::create_directory(&folder)?;
        let (number, activations_on_host) = loop {
            let last = run.attempts()?.last().copied().unwrap_or(0);
            if last > 0
                && let Some(claim) = run.claim_unless_lost(last)?
            {
                return Err(Error::Held { id: run.id.clone(), owner: claim.owner.to_string() });
            }
            let next = last + 1;
            let activations_on_host = run.ran_out_of_gpu_memory()?;
            let claim = Claim { launch: launch.map(str::to_string), activations_on_host, ..Claim::new() };
            if files::create_exclusive(&run.claim_path(next), &files::seal(&claim))? {
                break (next, activations_on_host);
            }
            // Another process claimed the same number first: check again which attempt is alive.
        };
        let directory = run.attempt_path(number);
        files::create_directory(&directory)?;
        // What others have committed before must be known from now on.
        files::refresh(&run.path)?;
        // Remove what earlier attempts were writing when they ended. One of them may be alive after all.
        for folder in [run.path.clone(), folder].into_iter().chain((1..number).map(|earlier| run.attempt_path(earlier)))
        {
            files::remove_drafts(&folder, OLD_DRAFT)?;
        }
        let progress = Progress { done: 0, total, test_error: None };
        let mut attempt = Attempt {
            run: run.clone(),
            number,
            data: None,
            activations_on_host,
            seconds_before: 0.0,
            began: Instant::now(),
            status: Arc::new(Mutex::new(SharedStatus { status: Status::new(progress.clone()), is_measured: false })),
            heartbeat: None,
        };
        attempt.report(progress);
        attempt.heartbeat = Some(attempt.start_heartbeat());
        Ok(attempt)
    }

    /// Returns the directory of this attempt.
    pub fn directory(&self) -> PathBuf {
        self.run.attempt_path(self.number)
    }

    /// Returns the wall time that has gone into the run so far, including the attempts that this one resumes, in
    /// seconds.
    pub fn seconds(&self) -> f64 {
        self.seconds_before + self.began.elapsed().as_secs_f64()
    }

    /// Writes the progress of this attempt to its status file. If that fails, only those who look at it miss something; if
    /// the disk remains unavailable, saving the next checkpoint fails.
    pub fn report(&self, progress: Progress) {
        let status = &mut lock(&self.status).status;
        status.progress = progress;
        let _ = write_status(&self.directory(), status);
    }

    /// Returns a function that sets the utilization of the GPUs, which the next heartbeat writes to the status file.
    pub fn gpu_recorder(&self) -> impl Fn(Option<GpuUtilization>) + Send + 'static {
        let status = Arc::clone(&self.status);
        move |utilization| lock(&status).record(utilization)
    }

    /// Returns the utilization of the GPUs as last recorded.
    pub fn gpu_utilization(&self) -> Option<GpuUtilization> {
        lock(&self.status).status.gpu_utilization
    }

    /// Fails with [`Error::Superseded`] if a later attempt has taken the run over.
    pub fn check_current(&self) -> Result<()> {
        match self.run.attempts()?.last() {
            Some(&later) if later > self.number => {
                Err(Error::Superseded { id: self.run.id.clone(), ours: self.number, later })
            }
            _ => Ok(()),
        }
    }

    /// Returns the outcome of an operation; if it failed because a later attempt has taken the run over, it returns that error.
    fn unless_superseded<T>(&self, outcome: Result<T>) -> Result<T> {
        match outcome {
            Err(error @ Error::Io { .. }) => Err(self.check_current().err().unwrap_or(error)),
            other => other,
        }
    }

    /// Replaces the checkpoint of this attempt, then removes those of earlier attempts.
    pub fn save_checkpoint(&self, checkpoint: &TensorFile) -> Result<()> {
        self.unless_superseded(self.try_save_checkpoint(checkpoint))
    }

    fn try_save_checkpoint(&self, checkpoint: &TensorFile) -> Result<()> {
        self.check_current()?;
        let metadata = CheckpointMetadata {
            run: self.run.id.clone(),
            data: self.data.clone(),
            seconds: self.seconds(),
            metadata: checkpoint.metadata.clone(),
        };
        let metadata = serde_json::to_string(&metadata).expect("metadata are plain data");
        let tensors = checkpoint.tensors.clone();
        TensorFile { tensors, metadata }.write(&self.directory().join(CHECKPOINT))?;
        self.remove_checkpoints(1..self.number)
    }

    /// Returns the checkpoint to resume from: the one of the latest attempt that has an intact one. Damaged checkpoints
    /// are set aside.
    pub fn load_checkpoint(&mut self) -> Result<Option<TensorFile>> {
        for attempt in (1..=self.number).rev() {
            let path = self.run.attempt_path(attempt).join(CHECKPOINT);
            match self.read_checkpoint(&path) {
                Ok(Some((checkpoint, seconds))) => {
                    self.seconds_before = seconds;
                    return Ok(Some(checkpoint));
                }
                Ok(None) => {}
                Err(error @ Error::Damaged { .. }) => {
                    tracing::warn!("{error}; setting it aside and looking for an earlier checkpoint");
                    files::set_aside(&path)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Reads a checkpoint and the wall time that went into it, in seconds.
    fn read_checkpoint(&self, path: &Path) -> Result<Option<(TensorFile, f64)>> {
        match read_checkpoint(&self.run, path)? {
            Some((_, found)) if found.data != self.data => Err(Error::OtherData { path: path.to_path_buf() }),
            Some((tensors, found)) => Ok(Some((TensorFile { metadata: found.metadata, ..tensors }, found.seconds))),
            None => Ok(None),
        }
    }

    /// Writes the metrics of all epochs so far, one JSON object per line.
    pub fn write_metrics(&self, metrics: &[EpochMetrics]) -> Result<()> {
        let lines: String = (metrics.iter())
            .map(|epoch| serde_json::to_string(epoch).expect("metrics are plain data") + "\n")
            .collect();
        self.unless_superseded(files::write_atomic(&self.directory().join(METRICS), lines.as_bytes()))
    }

    /// Describes the metrics file of this attempt for the result; returns `None` if there is no such file.
    fn describe_metrics(&self) -> Result<Option<AttachedFile>> {
        let bytes = files::read_if_exists(&self.directory().join(METRICS))?;
        Ok(bytes.map(|bytes| AttachedFile {
            path: format!("attempts/{}/{METRICS}", self.number),
            bytes: bytes.len() as u64,
            digest: files::digest(&bytes),
        }))
    }

    /// Commits the result; returns false if another attempt has already committed one.
    ///
    /// Fails with [`Error::Superseded`] if a later attempt has taken the run over.
    pub fn commit(
        &self,
        outcome: Outcome,
        network: Option<&TensorFile>,
        processors: Processors,
        usage: Option<Usage>,
    ) -> Result<bool> {
        self.unless_superseded(self.try_commit(outcome, network, processors, usage))
    }

    fn try_commit(
        &self,
        outcome: Outcome,
        network: Option<&TensorFile>,
        processors: Processors,
        usage: Option<Usage>,
    ) -> Result<bool> {
        self.check_current()?;
        let network = match network {
            None => None,
            Some(tensors) => {
                let (digest, bytes) = tensors.write(&self.directory().join(NETWORK))?;
                clean::warn_if_different(&self.run, &digest)?;
                let path = format!("attempts/{}/{NETWORK}", self.number);
                Some(AttachedFile { path, bytes, digest })
            }
        };
        let result = RunResult {
            format: FORMAT,
            id: self.run.id.clone(),
            attempt: self.number,
            outcome,
            network,
            metrics: self.describe_metrics()?,
            data: self.data.clone(),
            seconds: self.seconds(),
            host: owner::host(),
            processors,
            usage,
            finished: jiff::Timestamp::now(),
        };
        // Writing the network may have taken long enough for another attempt to start.
        self.check_current()?;
        let committed = files::create_exclusive(&self.run.result_path(), &files::seal(&result))?;
        self.remove_checkpoints(1..self.number + 1)?;
        Ok(committed)
    }

    /// Records how this attempt ended, and stops its heartbeat.
    pub fn end(mut self, end: &End) -> Result<()> {
        self.stop_heartbeat();
        end_attempt(&self.run, self.number, end)
    }

    /// Removes the checkpoints of the attempts with these numbers.
    pub(super) fn remove_checkpoints(&self, attempts: std::ops::Range<u32>) -> Result<()> {
        for attempt in attempts {
            files::remove_if_exists(&self.run.attempt_path(attempt).join(CHECKPOINT))?;
        }
        Ok(())
    }

    fn start_heartbeat(&self) -> (Sender<()>, JoinHandle<()>) {
        let (stop, stopped) = mpsc::channel();
        let status = Arc::clone(&self.status);
        let directory = self.directory();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(owner::heartbeat()) == Err(RecvTimeoutError::Timeout) {
                // A missed heartbeat does no harm.
                let _ = write_status(&directory, lock(&status).at_heartbeat());
            }
        });
        (stop, thread)
    }

    fn stop_heartbeat(&mut self) {
        if let Some((stop, thread)) = self.heartbeat.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.stop_heartbeat();
    }
}

/// Reads a checkpoint of a run. An intact file that is not a checkpoint of this run counts as damaged too.
fn read_checkpoint(run: &RunDirectory, path: &Path) -> Result<Option<(TensorFile, CheckpointMetadata)>> {
    let Some(tensors) = TensorFile::read(path)? else {
        return Ok(None);
    };
    match serde_json::from_str::<CheckpointMetadata>(&tensors.metadata) {
        Ok(metadata) if metadata.run == run.id => Ok(Some((tensors, metadata))),
        _ => Err(Error::damaged(path, "it is not a checkpoint of this run")),
    }
}

/// Returns true if a run can resume from this file.
pub(super) fn is_intact_checkpoint(run: &RunDirectory, path: &Path) -> Result<bool> {
    match read_checkpoint(run, path) {
        Err(Error::Damaged { .. }) => Ok(false),
        other => other.map(|found| found.is_some()),
    }
}

/// Records how an attempt ended, for this process or for one that has ended. An earlier record stays.
pub fn end_attempt(run: &RunDirectory, attempt: u32, end: &End) -> Result<()> {
    let directory = run.attempt_path(attempt);
    files::create_directory(&directory)?;
    files::create_exclusive(&directory.join(END), &files::seal(end)).map(drop)
}

fn lock(status: &Mutex<SharedStatus>) -> MutexGuard<'_, SharedStatus> {
    status.lock().expect("no thread panics while it holds the lock")
}

fn write_status(directory: &Path, status: &mut Status) -> Result<()> {
    status.beat += 1;
    let bytes = serde_json::to_vec(status).expect("a status is plain data");
    disk::at_once(|| files::write_ephemeral(&directory.join(STATUS), &bytes))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::SystemTime;

    use rustix::io::Errno;

    use super::*;
    use crate::disk::faults::{self, Fault};
    use crate::results::TicketOutcome;
    use crate::settings::{Architecture, Dataset, Method, Problem, Schedule, Seeds, Settings, Ticket, Training};
    use crate::tensors::RawTensor;
    use crate::{Run, State, Store};

    const ONE: Processors = Processors { ranks: 1, threads: 1 };

    fn prepared_run(folder: &tempfile::TempDir) -> RunDirectory {
        let training = Training {
            epochs: 4,
            batch: 64,
            optimizer: Default::default(),
            lr: 0.1,
            momentum: 0.9,
            weight_decay: 0.0,
            schedule: Schedule::Constant,
            precision: Default::default(),
        };
        let ticket = Ticket {
            problem: Problem::new(Dataset::Digits, Architecture::ResNet8),
            method: Method::Lrr,
            level: 0,
            prune_ratio: None,
            rewind_epoch: None,
            training,
            seeds: Seeds::from(1),
        };
        let run = Run::new(Settings::Ticket(ticket), vec![]);
        let directory = Store::create(folder.path()).unwrap().run(&run.id);
        directory.prepare(&run, "lrr level 0").unwrap();
        directory
    }

    fn outcome(test_error: f64) -> Outcome {
        Outcome::Ticket(TicketOutcome {
            remaining_ratio: 1.0,
            survivors: 1,
            prunable: 1,
            test_error,
            layers: vec![],
            test_loss: 0.1,
        })
    }

    fn tensors(value: u8) -> TensorFile {
        let tensor = RawTensor { dtype: safetensors::tensor::Dtype::U8, shape: vec![2], bytes: vec![value, value] };
        TensorFile { tensors: [("w".to_string(), tensor)].into(), metadata: String::new() }
    }

    /// Begins an attempt of another process.
    fn begin(run: &RunDirectory, number: u32, owner: Owner) {
        let claim = Claim { owner, ..Claim::new() };
        assert!(files::create_exclusive(&run.claim_path(number), &files::seal(&claim)).unwrap());
    }

    #[test]
    fn run_has_at_most_one_live_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared_run(&folder);
        let first = Attempt::claim(&run, 4).unwrap();
        assert!(matches!(Attempt::claim(&run, 4), Err(Error::Held { .. })));
        assert!(matches!(run.state().unwrap(), State::Running { attempt: 1, .. }));
        first.end(&End::Interrupted).unwrap();
        assert!(matches!(run.state().unwrap(), State::Idle { attempts: 1 }));
        assert_eq!(Attempt::claim(&run, 4).unwrap().number, 2);
    }

    #[test]
    fn claim_with_a_launch_token_records_it() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared_run(&folder);
        Attempt::claim_as(&run, 4, Some("abc.1")).unwrap().end(&End::Interrupted).unwrap();
        Attempt::claim(&run, 4).unwrap().end(&End::Interrupted).unwrap();
        let launch = |attempt| run.claim_of(attempt).unwrap().unwrap().launch;
        assert_eq!((launch(1).as_deref(), launch(2)), (Some("abc.1"), None));
        let text = std::fs::read_to_string(run.claim_path(2)).unwrap();
        assert!(!text.contains("launch"), "a claim without a token has no such field: {text}");
    }

    #[test]
    fn attempts_after_one_without_gpu_memory_keep_activations_on_the_host() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared_run(&folder);
        let ends = [
            (false, End::Interrupted),
            (false, End::OutOfGpuMemory { message: "out of memory on GPU 0 of node3".to_string() }),
            (true, End::Interrupted),
            (true, End::Finished),
        ];
        for (number, (expected, end)) in (1..).zip(ends) {
            let attempt = Attempt::claim(&run, 4).unwrap();
            assert_eq!(attempt.activations_on_host, expected, "attempt {number}");
            assert_eq!(run.claim_of(number).unwrap().unwrap().activations_on_host, expected);
            attempt.end(&end).unwrap();
            assert_eq!(run.end_of(number).unwrap(), Some(end));
            assert!(matches!(run.state().unwrap(), State::Idle { .. }), "the run resumes");
        }
    }

    #[test]
    fn recorded_gpu_utilization_is_in_the_status_and_absent_before() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared_run(&folder);
        let attempt = Attempt::claim(&run, 4).unwrap();
        let progress = Progress { done: 2, total: 4, test_error: Some(12.5) };
        attempt.report(progress.clone());
        let text = std::fs::read_to_string(attempt.directory().join(STATUS)).unwrap();
        assert!(!text.contains("gpu"), "as in versions that did not record it: {text}");
        let measured = GpuUtilization {
            gpus: 2,
            mean: Some(50.0),
            lowest: Some(40.0),
            last_minute: None,
            peak_memory: Some(3 << 30),
        };
        attempt.gpu_recorder()(Some(measured));
        attempt.report(progress.clone());
        assert_eq!(attempt.gpu_utilization(), Some(measured));
        let status = run.status_of(1).unwrap();
        assert_eq!((status.progress, status.gpu_utilization), (progress, Some(measured)));
    }

    #[test]
    fn hanging_measurement_has_no_utilization_in_the_last_minute() {
        let progress = Progress { done: 0, total: 4, test_error: None };
        let status = Status::new(progress);
        let mut shared = SharedStatus { status, is_measured: false };
        let mean = Some(90.0);
        let measured = GpuUtilization { gpus: 1, mean, lowest: mean, last_minute: mean, peak_memory: None };
        shared.record(Some(measured));
        assert_eq!(shared.at_heartbeat().gpu_utilization, Some(measured));
        let stale = GpuUtilization { last_minute: None, ..measured };
        assert_eq!(shared.at_heartbeat().gpu_utilization, Some(stale));
        shared.record(Some(measured));
        assert_eq!(shared.at_heartbeat().gpu_utilization, Some(measured));
    }

    #[test]
    fn simultaneous_claims_make_one_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared_run(&folder);
        let made: Vec<Result<Attempt>> = std::thread::scope(|scope| {
            let contenders: Vec<_> = (0..16).map(|_| scope.spawn(|| Attempt::claim(&run, 4))).collect();
            contenders.into_iter().map(|contender| contender.join().unwrap()).collect()
        });
        assert_eq!(made.iter().filter(|attempt| attempt.is_ok()).count(), 1);
        assert_eq!(run.attempts().unwrap(), [1]);
    }

    /// A node is lost and its run is given to another, but the old process is still running: only one result counts.
    #[test]
    fn superseded_attempt_cannot_save_or_commit() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared_run(&folder);
        let old = Attempt::claim(&run, 4).unwrap();
        old.save_checkpoint(&tensors(1)).unwrap();
        begin(&run, 2, Owner::elsewhere());
        assert!(matches!(old.save_checkpoint(&tensors(2)), Err(Error::Superseded { ours: 1, later: 2, .. })));
        assert!(matches!(old.commit(outcome(1.0), None, ONE, None), Err(Error::Superseded { .. })));
        assert!(run.result().unwrap().is_none());
    }

    #[test]
    fn second_commit_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared_run(&folder);
        begin(&run, 1, Owner::ended());
        let attempt = Attempt::claim(&run, 4).unwrap();
        assert!(attempt.commit(outcome(1.0), Some(&tensors(1)), ONE, None).unwrap());
        assert!(!attempt.commit(outcome(2.0), None, ONE, None).unwrap());
        let result = run.result().unwrap().unwrap();
        assert_eq!((result.attempt, &result.outcome), (2, &outcome(1.0)));
        assert_eq!(run.read_network(&result.network.unwrap()).unwrap(), tensors(1));
    }

    /// Networks of a copied store are newer than their results: reading all of them each time would take hours.
    #[test]
    fn network_newer_than_its_result_is_read_once_until_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared_run(&folder);
        let attempt = Attempt::claim(&run, 4).unwrap();
        attempt.commit(outcome(1.0), Some(&tensors(1)), ONE, None).unwrap();
        let path = run.path.join(run.result().unwrap().unwrap().network.unwrap().path);
        let write = |bytes: &[u8], seconds: u64| {
            std::fs::write(&path, bytes).unwrap();
            let later = SystemTime::now() + Duration::from_secs(seconds);
            File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        };
        let whole = std::fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() ^= 1;
        write(&damaged, 100);
        for _ in 0..2 {
            assert!(matches!(run.result(), Err(Error::Damaged { .. })), "a damaged file is never recorded as intact");
        }
        write(&whole, 200);
        assert!(run.result().is_ok());
        let written = File::open(&path).unwrap().metadata().unwrap().modified().unwrap();
        std::fs::write(&path, &damaged).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
        assert!(run.result().is_ok(), "a file with the same time and length is not read again");
        write(&damaged, 300);
        assert!(matches!(run.result(), Err(Error::Damaged { .. })));
    }

    /// Begins an attempt of another machine that has written its status this long ago, by the time of its file.
    fn begin_elsewhere(run: &RunDirectory, age: Duration) {
        begin(run, 1, Owner::elsewhere());
        files::create_directory(&run.attempt_path(1)).unwrap();
        beat_elsewhere(run, 1, age);
    }

    fn beat_elsewhere(run: &RunDirectory, done: u32, age: Duration) {
        let progress = Progress { done, total: 4, test_error: None };
        write_status(&run.attempt_path(1), &mut Status::new(progress)).unwrap();
        let status = File::open(run.attempt_path(1).join(STATUS)).unwrap();
        status.set_modified(SystemTime::now() - age).unwrap();
    }

    #[test]
    fn attempt_on_another_machine_is_lost_once_this_process_has_seen_no_heartbeat() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared_run(&folder);
        begin_elsewhere(&run, owner::lost_after() / 2);
        assert!(matches!(run.state().unwrap(), State::Running { .. }));
        beat_elsewhere(&run, 1, 2 * owner::lost_after());
        assert!(matches!(run.state().unwrap(), State::Idle { attempts: 1 }), "an estimate");
        assert!(matches!(run.state_for_takeover().unwrap(), State::Running { .. }), "this process has not watched it");
        assert!(matches!(Attempt::claim(&run, 4), Err(Error::Held { .. })));
        run.watch_latest().unwrap();
        assert!(matches!(run.state_for_takeover().unwrap(), State::Idle { attempts: 1 }));
        assert_eq!(run.end_of(1).unwrap(), Some(End::Lost), "other processes need not watch it again");
        assert_eq!(Attempt::claim(&run, 4).unwrap().number, 2);
    }

    /// Whoever started it knows better how it ended.
    #[test]
    fn end_of_a_process_of_this_machine_is_left_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared_run(&folder);
        begin(&run, 1, Owner::ended());
        assert!(matches!(run.state_for_takeover().unwrap(), State::Idle { attempts: 1 }));
        assert_eq!(run.end_of(1).unwrap(), None);
    }

    /// The clocks of two machines differ by five minutes, and the file system takes the times of files from them.
    #[test]
    fn times_of_files_do_not_decide_that_an_attempt_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared_run(&folder);
        let skew = Duration::from_secs(300);
        begin_elsewhere(&run, skew);
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for beat in 2.. {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                    std::thread::sleep(owner::heartbeat());
                    beat_elsewhere(&run, beat, skew);
                }
            });
            let began = Instant::now();
            while began.elapsed() < 2 * owner::lost_after() {
                run.watch_latest().unwrap();
                assert!(matches!(Attempt::claim(&run, 4), Err(Error::Held { .. })));
                assert!(matches!(run.state_for_takeover().unwrap(), State::Running { .. }));
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(run.attempts().unwrap(), [1]);
    }

    /// Its successor has taken its files away.
    #[test]
    fn superseded_attempt_that_cannot_write_is_told_that_it_is_superseded() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared_run(&folder);
        let old = Attempt::claim(&run, 4).unwrap();
        let failing = Fault { after: 1, times: 1_000_000, error: Errno::STALE, takes_effect: false };
        let (saved, operations) = faults::with(Some(failing), || old.save_checkpoint(&tensors(1)));
        assert!(matches!(saved, Err(Error::Io { .. })) && operations > 1, "nobody has taken over");
        begin(&run, 2, Owner::elsewhere());
        let lost_draft = Error::io("write", Path::new(CHECKPOINT))(std::io::ErrorKind::NotFound.into());
        assert!(matches!(old.unless_superseded::<()>(Err(lost_draft)), Err(Error::Superseded { later: 2, .. })));
    }

    #[test]
    fn next_attempt_resumes_from_the_last_intact_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared_run(&folder);
        let first = Attempt::claim(&run, 4).unwrap();
        first.save_checkpoint(&tensors(1)).unwrap();
        std::thread::sleep(Duration::from_millis(60));
        first.save_checkpoint(&tensors(2)).unwrap();
        first.end(&End::Interrupted).unwrap();
        let mut second = Attempt::claim(&run, 4).unwrap();
        let own = second.seconds();
        assert_eq!(second.load_checkpoint().unwrap(), Some(tensors(2)));
        assert!(second.seconds() >= own + 0.06, "the time of the first attempt is counted in");
        second.save_checkpoint(&tensors(3)).unwrap();
        assert!(!run.attempt_path(1).join(CHECKPOINT).exists(), "earlier checkpoints are removed");
        std::fs::write(run.attempt_path(2).join(CHECKPOINT), b"torn").unwrap();
        assert_eq!(second.load_checkpoint().unwrap(), None);
        assert!(run.attempt_path(2).join(format!("{CHECKPOINT}.damaged-1")).exists());
    }
}
