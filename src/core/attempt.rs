//! An execution of a run.
//!
//! After a node is lost, a scheduler starts the next attempt while the old process may still live. So attempts are
//! numbered, each writes under its own number, and two steps are exclusive: the *claim* (creating `attempts/N.json`
//! makes an attempt, and takes the run over from every earlier one) and the *commit* (creating `result.json`). Whoever
//! is not the latest attempt finds that out before it saves or commits, and stops. Should two commit at the same instant,
//! the first stands; both are results of the run, equal to the last bit if they had as many ranks and threads on the same
//! processors.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::clean;
use super::directory::{FORMAT, RunDirectory};
use super::error::{Error, Result};
use super::files;
use super::identity::RunId;
use super::owner::{self, Owner};
use super::results::{AttachedFile, EpochMetrics, Outcome, Processors, RunResult, Usage};
use super::tensors::TensorFile;

pub const STATUS: &str = "status.json";
pub const END: &str = "end.json";
pub const LOG: &str = "log";
pub const METRICS: &str = "metrics.jsonl";
pub(super) const CHECKPOINT: &str = "checkpoint.safetensors";
pub(super) const NETWORK: &str = "network.safetensors";

/// Who began an attempt, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    pub owner: Owner,
    pub began: jiff::Timestamp,
    pub version: String,
    /// What whoever launched the attempt knows it by; none if nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<String>,
}

impl Claim {
    fn of_this_process() -> Claim {
        let version = env!("CARGO_PKG_VERSION").to_string();
        Claim { owner: Owner::this_process(), began: jiff::Timestamp::now(), version, launch: None }
    }

    /// Stands for a claim whose file is damaged.
    pub(super) fn unreadable() -> Claim {
        Claim { owner: Owner::unknown(), began: jiff::Timestamp::UNIX_EPOCH, version: String::new(), launch: None }
    }
}

/// How far an attempt is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Epochs of training, or batches that the statistics along a path have seen.
    pub done: u32,
    pub total: u32,
    /// Of the last epoch, in percent.
    pub test_error: Option<f64>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum End {
    /// It committed the result, or found that another attempt had.
    Finished,
    /// It was told to stop; its checkpoint says where to go on.
    Interrupted,
    Failed {
        message: String,
    },
}

/// The metadata of a checkpoint: its own, which run and which data it belongs to, and the wall time put into it.
#[derive(Serialize, Deserialize)]
struct Bound {
    run: RunId,
    #[serde(default)]
    data: Option<String>,
    seconds: f64,
    metadata: String,
}

/// The attempt that this process makes at a run.
pub struct Attempt {
    pub run: RunDirectory,
    pub number: u32,
    /// What tells the data apart that it computes with, once that is known: see [`RunResult::data`].
    pub data: Option<String>,
    /// Seconds that earlier attempts put into what this one continues.
    seconds_before: f64,
    began: Instant,
    progress: Arc<Mutex<Progress>>,
    heartbeat: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Attempt {
    /// Claims a run for this process, for work of `total` epochs (0: not known yet). [`Error::Held`] if an attempt is
    /// alive.
    pub fn claim(run: &RunDirectory, total: u32) -> Result<Attempt> {
        Attempt::claim_as(run, total, None)
    }

    /// The same, with a token by which whoever launched this process finds the attempt.
    pub fn claim_as(run: &RunDirectory, total: u32, launch: Option<&str>) -> Result<Attempt> {
        let claim = || Claim { launch: launch.map(str::to_string), ..Claim::of_this_process() };
        let folder = run.path.join("attempts");
        files::create_directory(&folder)?;
        let number = loop {
            let last = run.attempts()?.last().copied().unwrap_or(0);
            if last > 0
                && let Some(claim) = run.claim_if_alive(last)?
            {
                return Err(Error::Held { id: run.id.clone(), owner: claim.owner.to_string() });
            }
            let next = last + 1;
            if files::create_exclusive(&run.claim_path(next), &files::seal(&claim()))? {
                break next;
            }
            // Somebody else claimed the same number first: look again who lives.
        };
        let directory = run.attempt_path(number);
        files::create_directory(&directory)?;
        // What earlier attempts were writing when they died.
        for earlier in 1..number {
            files::remove_drafts(&run.attempt_path(earlier), Duration::ZERO)?;
        }
        let progress = Progress { done: 0, total, test_error: None };
        let mut attempt = Attempt {
            run: run.clone(),
            number,
            data: None,
            seconds_before: 0.0,
            began: Instant::now(),
            progress: Arc::new(Mutex::new(progress.clone())),
            heartbeat: None,
        };
        attempt.report(progress)?;
        attempt.heartbeat = Some(attempt.start_heartbeat());
        Ok(attempt)
    }

    pub fn directory(&self) -> PathBuf {
        self.run.attempt_path(self.number)
    }

    /// Wall time put into the run so far, earlier attempts included.
    pub fn seconds(&self) -> f64 {
        self.seconds_before + self.began.elapsed().as_secs_f64()
    }

    /// Tells the world how far this attempt is.
    pub fn report(&self, progress: Progress) -> Result<()> {
        let mut shared = self.progress.lock().expect("the heartbeat does not panic");
        *shared = progress;
        write_status(&self.directory(), &shared)
    }

    /// An error if a later attempt has taken over.
    pub fn check_current(&self) -> Result<()> {
        match self.run.attempts()?.last() {
            Some(&later) if later > self.number => {
                Err(Error::Superseded { id: self.run.id.clone(), ours: self.number, later })
            }
            _ => Ok(()),
        }
    }

    /// Replaces this attempt's checkpoint; those of earlier attempts have then served their time.
    pub fn save_checkpoint(&self, checkpoint: &TensorFile) -> Result<()> {
        self.check_current()?;
        let bound = Bound {
            run: self.run.id.clone(),
            data: self.data.clone(),
            seconds: self.seconds(),
            metadata: checkpoint.metadata.clone(),
        };
        let metadata = serde_json::to_string(&bound).expect("plain data");
        let tensors = checkpoint.tensors.clone();
        TensorFile { tensors, metadata }.write(&self.directory().join(CHECKPOINT))?;
        self.remove_checkpoints(1..self.number)
    }

    /// The checkpoint to go on from: that of the latest attempt that has a whole one. Damaged ones are set aside.
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
                    tracing::warn!("{error}; it is set aside, an earlier one is used if there is one");
                    files::set_aside(&path)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// A checkpoint, and the wall time put into it.
    fn read_checkpoint(&self, path: &Path) -> Result<Option<(TensorFile, f64)>> {
        match read_checkpoint(&self.run, path)? {
            Some((_, bound)) if bound.data != self.data => Err(Error::OtherData { path: path.to_path_buf() }),
            Some((tensors, bound)) => Ok(Some((TensorFile { metadata: bound.metadata, ..tensors }, bound.seconds))),
            None => Ok(None),
        }
    }

    /// Writes the metrics of all epochs so far.
    pub fn write_metrics(&self, metrics: &[EpochMetrics]) -> Result<()> {
        let lines: String = (metrics.iter())
            .map(|epoch| serde_json::to_string(epoch).expect("metrics are plain data") + "\n")
            .collect();
        files::write_atomic(&self.directory().join(METRICS), lines.as_bytes())
    }

    /// The metrics as they lie on disk, to be attached to the result; none if there are none.
    fn metrics(&self) -> Result<Option<AttachedFile>> {
        let bytes = files::read_if_exists(&self.directory().join(METRICS))?;
        Ok(bytes.map(|bytes| AttachedFile {
            path: format!("attempts/{}/{METRICS}", self.number),
            bytes: bytes.len() as u64,
            digest: files::digest(&bytes),
        }))
    }

    /// Commits the result: false if another attempt had committed before.
    pub fn commit(
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
                clean::compare(&self.run, &digest)?;
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
            metrics: self.metrics()?,
            data: self.data.clone(),
            seconds: self.seconds(),
            host: owner::host(),
            processors,
            usage,
            finished: jiff::Timestamp::now(),
        };
        // Writing the network may have taken long.
        self.check_current()?;
        let committed = files::create_exclusive(&self.run.result_path(), &files::seal(&result))?;
        self.remove_checkpoints(1..self.number + 1)?;
        Ok(committed)
    }

    /// Writes down how this attempt ended, and stops its heartbeat.
    pub fn end(mut self, end: &End) -> Result<()> {
        self.stop_heartbeat();
        end_attempt(&self.run, self.number, end)
    }

    pub(super) fn remove_checkpoints(&self, attempts: std::ops::Range<u32>) -> Result<()> {
        for attempt in attempts {
            files::remove_if_exists(&self.run.attempt_path(attempt).join(CHECKPOINT))?;
        }
        Ok(())
    }

    fn start_heartbeat(&self) -> (Sender<()>, JoinHandle<()>) {
        let (stop, stopped) = mpsc::channel();
        let progress = Arc::clone(&self.progress);
        let directory = self.directory();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(owner::HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
                let progress = progress.lock().expect("the reporter does not panic");
                // A missed beat does no harm; if the disk stays away, saving the next checkpoint will say so.
                let _ = write_status(&directory, &progress);
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

/// A whole checkpoint of a run. A whole file that is no checkpoint of this run is damage too.
fn read_checkpoint(run: &RunDirectory, path: &Path) -> Result<Option<(TensorFile, Bound)>> {
    let Some(tensors) = TensorFile::read(path)? else {
        return Ok(None);
    };
    match serde_json::from_str::<Bound>(&tensors.metadata) {
        Ok(bound) if bound.run == run.id => Ok(Some((tensors, bound))),
        _ => Err(Error::damaged(path, "it is not a checkpoint of this run")),
    }
}

/// Whether a run could go on from this file.
pub(super) fn is_whole_checkpoint(run: &RunDirectory, path: &Path) -> Result<bool> {
    match read_checkpoint(run, path) {
        Err(Error::Damaged { .. }) => Ok(false),
        other => other.map(|found| found.is_some()),
    }
}

/// Writes down how an attempt ended, for it or on behalf of one that died; what was written first stays.
pub fn end_attempt(run: &RunDirectory, attempt: u32, end: &End) -> Result<()> {
    let directory = run.attempt_path(attempt);
    files::create_directory(&directory)?;
    files::create_exclusive(&directory.join(END), &files::seal(end)).map(drop)
}

fn write_status(directory: &Path, progress: &Progress) -> Result<()> {
    let bytes = serde_json::to_vec(progress).expect("progress is plain data");
    files::write_ephemeral(&directory.join(STATUS), &bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::SystemTime;

    use super::*;
    use crate::results::TicketOutcome;
    use crate::settings::{Architecture, Dataset, Method, Problem, Schedule, Seeds, Settings, Ticket, Training};
    use crate::tensors::RawTensor;
    use crate::{Run, State, Store};

    const ONE: Processors = Processors { ranks: 1, threads: 1 };

    fn prepared(folder: &tempfile::TempDir) -> RunDirectory {
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

    /// An attempt somebody else began, in a way that no living code path of this process would.
    fn begin(run: &RunDirectory, number: u32, owner: Owner) {
        let claim = Claim { owner, ..Claim::of_this_process() };
        assert!(files::create_exclusive(&run.claim_path(number), &files::seal(&claim)).unwrap());
    }

    #[test]
    fn a_run_has_one_living_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared(&folder);
        let first = Attempt::claim(&run, 4).unwrap();
        assert!(matches!(Attempt::claim(&run, 4), Err(Error::Held { .. })));
        assert!(matches!(run.state().unwrap(), State::Running { attempt: 1, .. }));
        first.end(&End::Interrupted).unwrap();
        assert!(matches!(run.state().unwrap(), State::Idle { attempts: 1 }));
        assert_eq!(Attempt::claim(&run, 4).unwrap().number, 2);
    }

    #[test]
    fn a_claim_keeps_the_token_it_was_launched_with_and_older_claims_have_none() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared(&folder);
        Attempt::claim_as(&run, 4, Some("abc.1")).unwrap().end(&End::Interrupted).unwrap();
        Attempt::claim(&run, 4).unwrap().end(&End::Interrupted).unwrap();
        let launch = |attempt| run.claim_of(attempt).unwrap().unwrap().launch;
        assert_eq!((launch(1).as_deref(), launch(2)), (Some("abc.1"), None));
        let text = std::fs::read_to_string(run.claim_path(2)).unwrap();
        assert!(!text.contains("launch"), "as claims were before there were tokens: {text}");
    }

    #[test]
    fn many_at_once_make_one_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared(&folder);
        let made: Vec<Result<Attempt>> = std::thread::scope(|scope| {
            let contenders: Vec<_> = (0..16).map(|_| scope.spawn(|| Attempt::claim(&run, 4))).collect();
            contenders.into_iter().map(|contender| contender.join().unwrap()).collect()
        });
        assert_eq!(made.iter().filter(|attempt| attempt.is_ok()).count(), 1);
        assert_eq!(run.attempts().unwrap(), [1]);
    }

    /// A node is lost and its run given to another, but the old process lives on: only one result counts.
    #[test]
    fn who_was_superseded_can_write_but_never_count() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared(&folder);
        let old = Attempt::claim(&run, 4).unwrap();
        old.save_checkpoint(&tensors(1)).unwrap();
        begin(&run, 2, Owner::elsewhere());
        assert!(matches!(old.save_checkpoint(&tensors(2)), Err(Error::Superseded { ours: 1, later: 2, .. })));
        assert!(matches!(old.commit(outcome(1.0), None, ONE, None), Err(Error::Superseded { .. })));
        assert!(run.result().unwrap().is_none());
    }

    #[test]
    fn the_first_commit_stands() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared(&folder);
        begin(&run, 1, Owner::dead());
        let attempt = Attempt::claim(&run, 4).unwrap();
        assert!(attempt.commit(outcome(1.0), Some(&tensors(1)), ONE, None).unwrap());
        assert!(!attempt.commit(outcome(2.0), None, ONE, None).unwrap());
        let result = run.result().unwrap().unwrap();
        assert_eq!((result.attempt, &result.outcome), (2, &outcome(1.0)));
        assert_eq!(run.read_network(&result.network.unwrap()).unwrap(), tensors(1));
    }

    /// As those of a copied store: each time all of them would be hours.
    #[test]
    fn a_network_that_is_newer_than_its_result_is_read_once_and_again_when_it_is_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared(&folder);
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
            assert!(matches!(run.result(), Err(Error::Damaged { .. })), "what is damaged is never known to be whole");
        }
        write(&whole, 200);
        assert!(run.result().is_ok());
        let written = File::open(&path).unwrap().metadata().unwrap().modified().unwrap();
        std::fs::write(&path, &damaged).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
        assert!(run.result().is_ok(), "it was read again");
        write(&damaged, 300);
        assert!(matches!(run.result(), Err(Error::Damaged { .. })));
    }

    #[test]
    fn an_attempt_on_another_machine_lives_while_its_heart_beats() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared(&folder);
        begin(&run, 1, Owner::elsewhere());
        files::create_directory(&run.attempt_path(1)).unwrap();
        let status = run.attempt_path(1).join(STATUS);
        write_status(&run.attempt_path(1), &Progress { done: 1, total: 4, test_error: None }).unwrap();
        assert!(matches!(run.state().unwrap(), State::Running { .. }));
        let touch = |ago| File::open(&status).unwrap().set_modified(SystemTime::now() - ago).unwrap();
        touch(owner::SILENCE / 2);
        assert!(matches!(Attempt::claim(&run, 4), Err(Error::Held { .. })));
        touch(owner::SILENCE * 2);
        assert!(matches!(run.state().unwrap(), State::Idle { attempts: 1 }));
        assert_eq!(Attempt::claim(&run, 4).unwrap().number, 2);
    }

    #[test]
    fn the_next_attempt_goes_on_from_the_last_whole_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let run = prepared(&folder);
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
        assert!(!run.attempt_path(1).join(CHECKPOINT).exists(), "an earlier one has served its time");
        std::fs::write(run.attempt_path(2).join(CHECKPOINT), b"torn").unwrap();
        assert_eq!(second.load_checkpoint().unwrap(), None);
        assert!(run.attempt_path(2).join(format!("{CHECKPOINT}.damaged-1")).exists());
    }
}
