//! What the story of a run needs from the world: its inputs, a place for checkpoints, and word of when to stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::data::{self, Data};
use super::model::{Layout, Weights};
use super::{Error, Result};
use winsign::run::attempt::{Attempt, Progress};
use winsign::run::results::EpochMetrics;
use winsign::run::settings::{Dataset, Digest};
use winsign::run::tensors::TensorFile;
use winsign::run::{self, RunId};

/// How often work without epochs saves a checkpoint.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);

/// One execution of one run.
pub struct Session {
    attempt: Attempt,
    inputs: Vec<RunId>,
    stop: Arc<AtomicBool>,
    data: PathBuf,
    threads: u32,
    saved: Instant,
}

impl Session {
    /// `data` is the folder with the data sets; images are read on so many `threads`.
    pub fn new(attempt: Attempt, inputs: Vec<RunId>, stop: Arc<AtomicBool>, data: PathBuf, threads: u32) -> Session {
        Session { attempt, inputs, stop, data, threads, saved: Instant::now() }
    }

    /// Reads a data set; from then on the run is bound to it.
    pub fn load_data(&mut self, dataset: Dataset) -> Result<Data> {
        let data = data::load(dataset, &self.data, self.threads as usize)?;
        self.attempt.data = data.fingerprint();
        Ok(data)
    }

    /// The network that input number `index` left behind. If its files turn out to be damaged they are set aside, so
    /// that the input counts as not done and will be computed again: [`Error::Input`]. [`Error::OtherData`] if it was
    /// computed from other data than this run has loaded.
    pub fn input(&self, index: usize, layout: &Layout) -> Result<Weights> {
        let id = &self.inputs[index];
        let directory = self.attempt.run.sibling(id);
        let error = |error| Error::Input { id: id.clone(), error };
        let path = directory.result_path();
        let read = || -> run::error::Result<(Weights, Option<String>)> {
            let result = directory.result()?.ok_or_else(|| run::Error::damaged(&path, "the result is missing"))?;
            let network = result.network.ok_or_else(|| run::Error::damaged(&path, "it leaves no network behind"))?;
            let file = directory.read_network(&network)?;
            let weights = Weights::from_file(layout, &file)
                .map_err(|reason| run::Error::damaged(&directory.path.join(&network.path), reason))?;
            Ok((weights, result.data))
        };
        match read() {
            Err(run::Error::Damaged { path, reason }) => {
                directory.set_aside(&path)?;
                Err(error(run::Error::Damaged { path, reason }))
            }
            Err(other) => Err(error(other)),
            Ok((_, data)) if data != self.attempt.data => {
                Err(Error::OtherData { id: id.clone(), folder: self.data.clone() })
            }
            Ok((weights, _)) => Ok(weights),
        }
    }

    /// The network that `winsign import` put into this run's directory.
    pub fn imported(&self, digest: Digest) -> Result<TensorFile> {
        let path = self.attempt.run.imported_path();
        match TensorFile::read(&path)? {
            Some(file) if file.digest() == digest.to_string() => Ok(file),
            _ => Err(Error::NotImported { digest }),
        }
    }

    pub fn told_to_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The checkpoint to go on from, if an earlier attempt left one.
    pub fn load_checkpoint(&mut self) -> Result<Option<TensorFile>> {
        Ok(self.attempt.load_checkpoint()?)
    }

    pub fn save_checkpoint(&mut self, checkpoint: &TensorFile) -> Result<()> {
        self.attempt.save_checkpoint(checkpoint)?;
        self.saved = Instant::now();
        Ok(())
    }

    pub fn checkpoint_is_due(&self) -> bool {
        self.saved.elapsed() > CHECKPOINT_INTERVAL
    }

    pub fn report(&self, progress: Progress) -> Result<()> {
        Ok(self.attempt.report(progress)?)
    }

    /// Records the metrics of all epochs so far, and how far the run is.
    pub fn epoch_done(&self, metrics: &[EpochMetrics], progress: Progress) -> Result<()> {
        let last = metrics.last().expect("an epoch is done");
        tracing::info!(
            "epoch {}/{}: train loss {:.4}, train error {:.2} %, test loss {:.4}, test error {:.2} %",
            last.epoch,
            progress.total,
            last.train_loss,
            last.train_error,
            last.test_loss,
            last.test_error
        );
        self.attempt.write_metrics(metrics)?;
        self.report(progress)
    }

    pub fn into_attempt(self) -> Attempt {
        self.attempt
    }
}
