//! An execution of a run.
//!
//! After a node is lost, a scheduler starts the next attempt while the old process may still live. So attempts are
//! numbered, each writes under its own number, and two steps are exclusive: the *claim* (creating `attempts/N.json`
//! makes an attempt, and takes the run over from every earlier one) and the *commit* (creating `result.json`). Whoever
//! is not the latest attempt can still write, but never count.

use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::directory::{FORMAT, RunDirectory};
use super::error::{Error, Result};
use super::files;
use super::owner::{self, Owner};
use super::results::{EpochMetrics, NetworkFile, Outcome, RunResult};
use super::tensors::TensorFile;

pub const STATUS: &str = "status.json";
pub const END: &str = "end.json";
pub const LOG: &str = "log";
pub const METRICS: &str = "metrics.jsonl";
const CHECKPOINT: &str = "checkpoint.safetensors";
const NETWORK: &str = "network.safetensors";

/// Who began an attempt, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    pub owner: Owner,
    pub began: jiff::Timestamp,
    pub version: String,
}

impl Claim {
    fn of_this_process() -> Claim {
        let version = env!("CARGO_PKG_VERSION").to_string();
        Claim { owner: Owner::this_process(), began: jiff::Timestamp::now(), version }
    }

    /// Stands for a claim whose file is damaged.
    pub(super) fn unreadable() -> Claim {
        Claim { owner: Owner::unknown(), began: jiff::Timestamp::UNIX_EPOCH, version: String::new() }
    }
}

/// How far an attempt is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Epochs of training, or points of a path.
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

/// The attempt that this process makes at a run.
pub struct Attempt {
    pub run: RunDirectory,
    pub number: u32,
    /// Seconds that earlier attempts put into what this one continues.
    pub seconds_before: f64,
    began: Instant,
    progress: Arc<Mutex<Progress>>,
    heartbeat: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Attempt {
    /// Claims a run for this process, for work of `total` epochs or points. [`Error::Held`] if an attempt is alive.
    pub fn claim(run: &RunDirectory, total: u32) -> Result<Attempt> {
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
            if files::create_exclusive(&run.claim_path(next), &files::seal(&Claim::of_this_process()))? {
                break next;
            }
            // Somebody else claimed the same number first: look again who lives.
        };
        let directory = run.attempt_path(number);
        files::create_directory(&directory)?;
        let progress = Progress { done: 0, total, test_error: None };
        let mut attempt = Attempt {
            run: run.clone(),
            number,
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
        checkpoint.write(&self.directory().join(CHECKPOINT))?;
        self.remove_checkpoints(1..self.number)
    }

    /// The checkpoint to go on from: that of the latest attempt that has a whole one. Damaged ones are set aside.
    pub fn load_checkpoint(&self) -> Result<Option<TensorFile>> {
        for attempt in (1..=self.number).rev() {
            let path = self.run.attempt_path(attempt).join(CHECKPOINT);
            match TensorFile::read(&path) {
                Ok(Some(checkpoint)) => return Ok(Some(checkpoint)),
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

    /// Writes the metrics of all epochs so far.
    pub fn write_metrics(&self, metrics: &[EpochMetrics]) -> Result<()> {
        let lines: String = (metrics.iter())
            .map(|epoch| serde_json::to_string(epoch).expect("metrics are plain data") + "\n")
            .collect();
        files::write_atomic(&self.directory().join(METRICS), lines.as_bytes())
    }

    /// Commits the result: false if another attempt had committed before.
    pub fn commit(&self, outcome: Outcome, network: Option<&TensorFile>, threads: u32) -> Result<bool> {
        self.check_current()?;
        let network = match network {
            None => None,
            Some(tensors) => {
                let (digest, bytes) = tensors.write(&self.directory().join(NETWORK))?;
                let path = format!("attempts/{}/{NETWORK}", self.number);
                Some(NetworkFile { path, bytes, digest })
            }
        };
        let result = RunResult {
            format: FORMAT,
            id: self.run.id.clone(),
            attempt: self.number,
            outcome,
            network,
            seconds: self.seconds(),
            host: owner::host(),
            threads,
            finished: jiff::Timestamp::now(),
        };
        let committed = files::create_exclusive(&self.run.result_path(), &files::seal(&result))?;
        self.remove_checkpoints(1..self.number + 1)?;
        Ok(committed)
    }

    /// Writes down how this attempt ended, and stops its heartbeat.
    pub fn end(mut self, end: &End) -> Result<()> {
        self.stop_heartbeat();
        end_attempt(&self.run, self.number, end)
    }

    fn remove_checkpoints(&self, attempts: std::ops::Range<u32>) -> Result<()> {
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

/// Writes down how an attempt ended, for it or on behalf of one that died; what was written first stays.
pub fn end_attempt(run: &RunDirectory, attempt: u32, end: &End) -> Result<()> {
    let directory = run.attempt_path(attempt);
    files::create_directory(&directory)?;
    files::create_exclusive(&directory.join(END), &files::seal(end)).map(drop)
}

fn write_status(directory: &std::path::Path, progress: &Progress) -> Result<()> {
    let bytes = serde_json::to_vec(progress).expect("progress is plain data");
    files::write_ephemeral(&directory.join(STATUS), &bytes)
}
