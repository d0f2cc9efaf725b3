//! Sessions, which give a run access to its inputs, its checkpoints, requests to stop, and the other ranks.
//!
//! Only rank 0 reads and writes the run directory, and shares the content with the other ranks. Everything here must be
//! called on all ranks in the same order, and has the same outcome on all of them: if one rank fails, the others fail
//! with [`Error::OtherRankFailed`].

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tch::Device;
use winsign_core::attempt::{Attempt, Progress};
use winsign_core::results::EpochMetrics;
use winsign_core::settings::{Dataset, Digest};
use winsign_core::tensors::TensorFile;
use winsign_core::{RunDirectory, RunId, owner};

use super::comm::{Comm, Place, Ranks, pulse};
use super::data::{self, Data};
use super::model::{Layout, Weights};
use super::train::evaluate::Workers;
use super::{Error, Result};

/// The demand of a rank on all ranks before a step. If the demands differ, the largest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Demand {
    /// Continue.
    Nothing,
    /// Save a checkpoint, and continue.
    Save,
    /// Save a checkpoint, and stop.
    Stop,
    /// Save a checkpoint, and stop, because this rank has failed.
    Fail,
}

/// The options of executing a run, which do not change its numbers.
#[derive(Debug, Clone)]
pub struct ExecOptions {
    /// The device of this rank. Data are loaded to it; weights are loaded from files to the CPU.
    pub device: Device,
    /// The folder with the data sets.
    pub data: PathBuf,
    /// The number of threads for computing, and for reading images.
    pub threads: u32,
    /// True if activations are kept in the memory of the host.
    pub activations_on_host: bool,
    /// The interval at which checkpoints are saved within an epoch.
    pub checkpoint_every: Duration,
    /// True once this process was asked to stop.
    pub stop: Arc<AtomicBool>,
}

impl Default for ExecOptions {
    fn default() -> ExecOptions {
        ExecOptions {
            device: Device::Cpu,
            data: PathBuf::new(),
            threads: 0,
            activations_on_host: false,
            checkpoint_every: Duration::ZERO,
            stop: Arc::default(),
        }
    }
}

/// One execution of one run.
pub struct Session {
    ranks: Ranks,
    /// The attempt on rank 0; `None` on other ranks.
    attempt: Option<Attempt>,
    inputs: Vec<RunId>,
    options: ExecOptions,
    /// The fingerprint of the loaded data.
    fingerprint: Option<String>,
    /// The time at which the last checkpoint was saved.
    saved: Cell<Instant>,
}

impl Session {
    /// Creates a session. `attempt` is `Some` on rank 0 and `None` elsewhere.
    pub fn new(ranks: Ranks, attempt: Option<Attempt>, inputs: Vec<RunId>, options: ExecOptions) -> Session {
        Session { ranks, attempt, inputs, options, fingerprint: None, saved: Cell::new(Instant::now()) }
    }

    /// Returns the communicator of the ranks.
    pub fn comm(&self) -> &dyn Comm {
        &*self.ranks.comm
    }

    /// Returns the ranks as workers of evaluations.
    pub fn workers(&self) -> Workers<'_> {
        Workers { comm: self.comm(), stop: &self.options.stop }
    }

    /// Returns the options of the execution.
    pub fn options(&self) -> &ExecOptions {
        &self.options
    }

    /// Returns the place of this rank.
    pub fn place(&self) -> Place {
        self.comm().place()
    }

    /// Loads a data set, to which the run is then bound. Fails with [`Error::RankData`] if the ranks find different
    /// data.
    pub fn load_data(&mut self, dataset: Dataset) -> Result<Data> {
        let ExecOptions { device, data: folder, threads, .. } = &self.options;
        let found = pulse::slowly(|| Ok(data::load(dataset, folder, *threads as usize)?.on(*device)));
        let data = self.together(found)?;
        self.fingerprint = data.fingerprint();
        // JSON requires valid UTF-8, which a path need not be.
        let folder = folder.display().to_string();
        let own = serde_json::to_vec(&(&self.fingerprint, owner::host(), folder)).expect("plain data");
        let all = self.comm().gather(&own);
        let all = all.iter().map(|bytes| serde_json::from_slice(bytes).expect("ranks send valid JSON"));
        let all: Vec<(Option<String>, String, String)> = all.collect();
        if let Some(rank) = all.iter().position(|(fingerprint, ..)| *fingerprint != all[0].0) {
            let (_, host, folder) = all[rank].clone();
            return Err(Error::RankData { rank, host, folder });
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.data = data.fingerprint();
        }
        Ok(data)
    }

    /// Returns the number of networks that the run needs.
    pub fn inputs(&self) -> usize {
        self.inputs.len()
    }

    /// Returns the network of input number `index`. If its files are damaged, they are set aside, so that the input
    /// counts as not done and is computed again, and the call fails with [`Error::Input`]. Fails with
    /// [`Error::OtherData`] if the input was computed from other data than this run has loaded.
    pub fn input(&self, index: usize, layout: &Layout) -> Result<Weights> {
        self.share_network(layout, self.at_root(|attempt| self.read_input(attempt, index, layout)))
    }

    fn read_input(&self, attempt: &Attempt, index: usize, layout: &Layout) -> Result<Weights> {
        let id = &self.inputs[index];
        let directory = attempt.run.sibling(id);
        let error = |error| Error::Input { id: id.clone(), error };
        match read_result(&directory, layout) {
            Err(winsign_core::Error::Damaged { path, reason }) => {
                directory.set_aside(&path)?;
                Err(error(winsign_core::Error::Damaged { path, reason }))
            }
            Err(other) => Err(error(other)),
            Ok((_, data)) if data != self.fingerprint => {
                Err(Error::OtherData { id: id.clone(), folder: self.options.data.clone() })
            }
            Ok((weights, _)) => Ok(weights),
        }
    }

    /// Returns the network that `winsign import` put into the run directory.
    pub fn imported(&self, digest: Digest) -> Result<TensorFile> {
        let found = self.at_root(|attempt| match TensorFile::read(&attempt.run.imported_path())? {
            Some(file) if file.digest() == digest.to_string() => Ok(file),
            _ => Err(Error::NotImported { digest }),
        });
        self.share(found, TensorFile::to_bytes, TensorFile::from_bytes)
    }

    /// Returns the demand of all ranks before the next step; `is_ready` is true if this rank can do the step.
    pub fn demand(&self, is_ready: bool) -> Demand {
        let own = if !is_ready {
            Demand::Fail
        } else if self.options.stop.load(Ordering::Relaxed) {
            Demand::Stop
        } else if self.saved.get().elapsed() > self.options.checkpoint_every {
            Demand::Save
        } else {
            Demand::Nothing
        };
        let all = [Demand::Nothing, Demand::Save, Demand::Stop, Demand::Fail];
        all[self.comm().largest(own as u64) as usize]
    }

    /// Returns the result of this rank if all ranks have one. A rank that has an error returns it, and the others
    /// return [`Error::OtherRankFailed`].
    pub fn together<T>(&self, found: Result<T>) -> Result<T> {
        together(self.comm(), found)
    }

    /// Returns the checkpoint to resume from, if an earlier attempt saved one.
    pub fn load_checkpoint(&mut self) -> Result<Option<TensorFile>> {
        let load = |attempt: &mut Attempt| pulse::slowly(|| attempt.load_checkpoint().map_err(Error::from));
        let found = self.attempt.as_mut().map(load);
        let to_bytes = |found: &Option<TensorFile>| found.as_ref().map(TensorFile::to_bytes).unwrap_or_default();
        self.share(found, to_bytes, |bytes| (!bytes.is_empty()).then(|| TensorFile::from_bytes(bytes)))
    }

    /// Returns the network that `compute` computes on rank 0, which may take long. Meant for computations that may not be
    /// equal to the last bit on all machines.
    pub fn compute_at_root(&self, layout: &Layout, compute: impl FnOnce() -> Weights) -> Result<Weights> {
        self.share_network(layout, self.at_root(|_| Ok(compute())))
    }

    fn share_network(&self, layout: &Layout, found: Option<Result<Weights>>) -> Result<Weights> {
        let to_bytes = |weights: &Weights| weights.to_file(layout).to_bytes();
        self.share(found, to_bytes, |bytes| {
            Weights::from_file(layout, &TensorFile::from_bytes(bytes)).expect("rank 0 sends a complete network")
        })
    }

    /// Saves the checkpoint that `checkpoint` returns on rank 0.
    pub fn save_checkpoint(&self, checkpoint: impl FnOnce() -> TensorFile) -> Result<()> {
        let saved = self.at_root(|attempt| Ok(attempt.save_checkpoint(&checkpoint())?));
        let saved = self.share(saved, |()| vec![], |_| ());
        self.saved.set(Instant::now());
        saved
    }

    /// Writes the progress of the run.
    pub fn report(&self, progress: Progress) -> Result<()> {
        let reported = self.at_root(|attempt| {
            attempt.report(progress);
            Ok(())
        });
        self.share(reported, |()| vec![], |_| ())
    }

    /// Writes the metrics of all epochs so far, and the progress of the run.
    pub fn finish_epoch(&self, metrics: &[EpochMetrics], progress: Progress) -> Result<()> {
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
        let written = self.at_root(|attempt| Ok(attempt.write_metrics(metrics)?));
        self.share(written, |()| vec![], |_| ())?;
        self.report(progress)
    }

    /// Replaces the tensors of this rank by those of rank 0.
    pub fn synchronize(&self, weights: &mut Weights) {
        for tensor in [&mut weights.parameters, &mut weights.statistics, &mut weights.mask] {
            if !self.place().is_root() {
                let _ = tensor.zero_();
            }
            self.comm().sum(tensor);
        }
    }

    /// Returns the ranks, and the attempt on rank 0.
    pub fn into_parts(self) -> (Ranks, Option<Attempt>) {
        (self.ranks, self.attempt)
    }

    /// Returns the attempt on rank 0; returns `None` elsewhere.
    pub fn attempt(&self) -> Option<&Attempt> {
        self.attempt.as_ref()
    }

    /// Returns the ranks.
    pub fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// Calls `work` on rank 0, where it may take any time; returns `None` elsewhere.
    fn at_root<T>(&self, work: impl FnOnce(&Attempt) -> Result<T>) -> Option<Result<T>> {
        self.attempt.as_ref().map(|attempt| pulse::slowly(|| work(attempt)))
    }

    /// Returns the result of rank 0 on every rank; see [`share`].
    fn share<T>(
        &self,
        found: Option<Result<T>>,
        to_bytes: impl FnOnce(&T) -> Vec<u8>,
        from_bytes: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        share(self.comm(), found, to_bytes, from_bytes)
    }
}

/// Reads the network of a result, and the fingerprint of the data that it was computed from.
fn read_result(directory: &RunDirectory, layout: &Layout) -> winsign_core::error::Result<(Weights, Option<String>)> {
    let damaged = |reason| winsign_core::Error::damaged(&directory.result_path(), reason);
    let result = directory.result()?.ok_or_else(|| damaged("the result is missing"))?;
    let network = result.network.ok_or_else(|| damaged("it has no network"))?;
    let file = directory.read_network(&network)?;
    let weights = Weights::from_file(layout, &file)
        .map_err(|reason| winsign_core::Error::damaged(&directory.path.join(&network.path), reason))?;
    Ok((weights, result.data))
}

/// Returns the result of this rank if all ranks have one; see [`Session::together`].
pub fn together<T>(comm: &dyn Comm, found: Result<T>) -> Result<T> {
    let failed = comm.largest(found.is_err().into()) > 0;
    if failed { found.and(Err(Error::OtherRankFailed)) } else { found }
}

/// Returns the result of rank 0 on every rank. `found` is the result on rank 0 and `None` elsewhere. An error is
/// returned on rank 0 only; the others return [`Error::OtherRankFailed`].
pub fn share<T>(
    comm: &dyn Comm,
    found: Option<Result<T>>,
    to_bytes: impl FnOnce(&T) -> Vec<u8>,
    from_bytes: impl FnOnce(&[u8]) -> T,
) -> Result<T> {
    if comm.place().ranks == 1 {
        return found.expect("the only rank is rank 0");
    }
    /// The first byte of a message with a result.
    const FOUND: u8 = 1;
    let message = match &found {
        Some(Ok(found)) => [vec![FOUND], to_bytes(found)].concat(),
        Some(Err(_)) | None => vec![0],
    };
    let message = comm.broadcast(message);
    match (found, message.split_first()) {
        (Some(found), _) => found,
        (None, Some((&FOUND, bytes))) => Ok(from_bytes(bytes)),
        (None, _) => Err(Error::OtherRankFailed),
    }
}
