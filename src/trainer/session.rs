//! What the story of a run needs from the world: its inputs, a place for checkpoints, word of when to stop, and the other
//! ranks.
//!
//! Rank 0 alone reads and writes the run's directory; what it finds there it shares. Whatever is here is to be called on
//! every rank in the same order, and ends alike on all: with an error of one rank every rank turns back, the others with
//! [`Error::Elsewhere`].

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
use winsign_core::{RunId, owner};

use super::comm::{Comm, Place, Ranks, pulse};
use super::data::{self, Data};
use super::model::{Layout, Weights};
use super::train::evaluate::Workers;
use super::{Error, Result};

/// What a rank asks of all before a step. Of several demands the largest is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Demand {
    /// Go on.
    Nothing,
    /// Save a checkpoint, and go on.
    Save,
    /// Save a checkpoint, and stop.
    Stop,
    /// The same, because this rank cannot go on.
    Fail,
}

/// How a run is executed; none of this changes its numbers.
#[derive(Debug, Clone)]
pub struct ExecOptions {
    /// Of this rank. Data are loaded to it; weights come from files to the CPU.
    pub device: Device,
    /// The folder with the data sets.
    pub data: PathBuf,
    /// To compute with, and to read images with.
    pub threads: u32,
    /// How often a checkpoint is saved within an epoch.
    pub checkpoint_every: Duration,
    /// Whether this process was told to stop.
    pub stop: Arc<AtomicBool>,
}

impl Default for ExecOptions {
    fn default() -> ExecOptions {
        ExecOptions {
            device: Device::Cpu,
            data: PathBuf::new(),
            threads: 0,
            checkpoint_every: Duration::ZERO,
            stop: Arc::default(),
        }
    }
}

/// One execution of one run.
pub struct Session {
    ranks: Ranks,
    /// Of rank 0.
    attempt: Option<Attempt>,
    inputs: Vec<RunId>,
    means: ExecOptions,
    /// What tells apart the data loaded.
    fingerprint: Option<String>,
    saved: Cell<Instant>,
}

impl Session {
    /// `attempt` is rank 0's, and none elsewhere.
    pub fn new(ranks: Ranks, attempt: Option<Attempt>, inputs: Vec<RunId>, means: ExecOptions) -> Session {
        Session { ranks, attempt, inputs, means, fingerprint: None, saved: Cell::new(Instant::now()) }
    }

    pub fn comm(&self) -> &dyn Comm {
        &*self.ranks.comm
    }

    pub fn crew(&self) -> Workers<'_> {
        Workers { comm: self.comm(), stop: &self.means.stop }
    }

    pub fn place(&self) -> Place {
        self.comm().place()
    }

    /// Reads a data set; from then on the run is bound to it.
    pub fn load_data(&mut self, dataset: Dataset) -> Result<Data> {
        let ExecOptions { device, data: folder, threads, .. } = &self.means;
        let found = pulse::slowly(|| Ok(data::load(dataset, folder, *threads as usize)?.on(*device)));
        let data = self.together(found)?;
        self.fingerprint = data.fingerprint();
        // As it is shown: a path may have letters that JSON has not.
        let folder = folder.display().to_string();
        let own = serde_json::to_vec(&(&self.fingerprint, owner::host(), folder)).expect("plain data");
        let all = self.comm().gather(&own);
        let all = all.iter().map(|bytes| serde_json::from_slice(bytes).expect("as another rank wrote it"));
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

    /// How many networks the run needs.
    pub fn inputs(&self) -> usize {
        self.inputs.len()
    }

    /// The network that input number `index` left behind. If its files turn out to be damaged they are set aside, so
    /// that the input counts as not done and will be computed again: [`Error::Input`]. [`Error::OtherData`] if it was
    /// computed from other data than this run has loaded.
    pub fn input(&self, index: usize, layout: &Layout) -> Result<Weights> {
        self.share_network(layout, self.at_root(|attempt| self.read_input(attempt, index, layout)))
    }

    fn read_input(&self, attempt: &Attempt, index: usize, layout: &Layout) -> Result<Weights> {
        let id = &self.inputs[index];
        let directory = attempt.run.sibling(id);
        let error = |error| Error::Input { id: id.clone(), error };
        let path = directory.result_path();
        let read = || -> winsign_core::error::Result<(Weights, Option<String>)> {
            let result =
                directory.result()?.ok_or_else(|| winsign_core::Error::damaged(&path, "the result is missing"))?;
            let network =
                result.network.ok_or_else(|| winsign_core::Error::damaged(&path, "it leaves no network behind"))?;
            let file = directory.read_network(&network)?;
            let weights = Weights::from_file(layout, &file)
                .map_err(|reason| winsign_core::Error::damaged(&directory.path.join(&network.path), reason))?;
            Ok((weights, result.data))
        };
        match read() {
            Err(winsign_core::Error::Damaged { path, reason }) => {
                directory.set_aside(&path)?;
                Err(error(winsign_core::Error::Damaged { path, reason }))
            }
            Err(other) => Err(error(other)),
            Ok((_, data)) if data != self.fingerprint => {
                Err(Error::OtherData { id: id.clone(), folder: self.means.data.clone() })
            }
            Ok((weights, _)) => Ok(weights),
        }
    }

    /// The network that `winsign import` put into this run's directory.
    pub fn imported(&self, digest: Digest) -> Result<TensorFile> {
        let found = self.at_root(|attempt| match TensorFile::read(&attempt.run.imported_path())? {
            Some(file) if file.digest() == digest.to_string() => Ok(file),
            _ => Err(Error::NotImported { digest }),
        });
        self.share(found, TensorFile::to_bytes, TensorFile::from_bytes)
    }

    /// What is to be done before the next step; `able` says whether this rank can do the step.
    pub fn demand(&self, able: bool) -> Demand {
        let own = if !able {
            Demand::Fail
        } else if self.means.stop.load(Ordering::Relaxed) {
            Demand::Stop
        } else if self.saved.get().elapsed() > self.means.checkpoint_every {
            Demand::Save
        } else {
            Demand::Nothing
        };
        let all = [Demand::Nothing, Demand::Save, Demand::Stop, Demand::Fail];
        all[self.comm().largest(own as u64) as usize]
    }

    /// A rank's result, if all ranks have one. Who has an error keeps it.
    pub fn together<T>(&self, found: Result<T>) -> Result<T> {
        together(self.comm(), found)
    }

    /// The checkpoint to go on from, if an earlier attempt left one.
    pub fn load_checkpoint(&mut self) -> Result<Option<TensorFile>> {
        let load = |attempt: &mut Attempt| pulse::slowly(|| attempt.load_checkpoint().map_err(Error::from));
        let found = self.attempt.as_mut().map(load);
        let to_bytes = |found: &Option<TensorFile>| found.as_ref().map(TensorFile::to_bytes).unwrap_or_default();
        self.share(found, to_bytes, |bytes| (!bytes.is_empty()).then(|| TensorFile::from_bytes(bytes)))
    }

    /// The network that `make` gives on rank 0, which takes its time: for what might not be the same to the last bit on all
    /// machines.
    pub fn made_at_root(&self, layout: &Layout, make: impl FnOnce() -> Weights) -> Result<Weights> {
        self.share_network(layout, self.at_root(|_| Ok(make())))
    }

    fn share_network(&self, layout: &Layout, found: Option<Result<Weights>>) -> Result<Weights> {
        let to_bytes = |weights: &Weights| weights.to_file(layout).to_bytes();
        self.share(found, to_bytes, |bytes| {
            Weights::from_file(layout, &TensorFile::from_bytes(bytes)).expect("as rank 0 made it")
        })
    }

    /// Saves what `checkpoint` gives on rank 0.
    pub fn save_checkpoint(&self, checkpoint: impl FnOnce() -> TensorFile) -> Result<()> {
        let saved = self.at_root(|attempt| Ok(attempt.save_checkpoint(&checkpoint())?));
        let saved = self.share(saved, |()| vec![], |_| ());
        self.saved.set(Instant::now());
        saved
    }

    pub fn report(&self, progress: Progress) -> Result<()> {
        let reported = self.at_root(|attempt| Ok(attempt.report(progress)?));
        self.share(reported, |()| vec![], |_| ())
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
        let written = self.at_root(|attempt| Ok(attempt.write_metrics(metrics)?));
        self.share(written, |()| vec![], |_| ())?;
        self.report(progress)
    }

    /// Rank 0's tensors, in place of this rank's own.
    pub fn align(&self, weights: &mut Weights) {
        for tensor in [&mut weights.parameters, &mut weights.statistics, &mut weights.mask] {
            if !self.place().is_root() {
                let _ = tensor.zero_();
            }
            self.comm().sum(tensor);
        }
    }

    /// The ranks, and rank 0's attempt.
    pub fn into_parts(self) -> (Ranks, Option<Attempt>) {
        (self.ranks, self.attempt)
    }

    /// Rank 0's.
    pub fn attempt(&self) -> Option<&Attempt> {
        self.attempt.as_ref()
    }

    pub fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// Does on rank 0 what may take any time; none elsewhere.
    fn at_root<T>(&self, work: impl FnOnce(&Attempt) -> Result<T>) -> Option<Result<T>> {
        self.attempt.as_ref().map(|attempt| pulse::slowly(|| work(attempt)))
    }

    /// What rank 0 found, on every rank.
    fn share<T>(
        &self,
        found: Option<Result<T>>,
        to_bytes: impl FnOnce(&T) -> Vec<u8>,
        from_bytes: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        share(self.comm(), found, to_bytes, from_bytes)
    }
}

/// See [`Session::together`].
pub fn together<T>(comm: &dyn Comm, found: Result<T>) -> Result<T> {
    let failed = comm.largest(found.is_err().into()) > 0;
    if failed { found.and(Err(Error::Elsewhere)) } else { found }
}

/// What rank 0 found, on every rank: `found` there, none elsewhere. An error stays on rank 0.
pub fn share<T>(
    comm: &dyn Comm,
    found: Option<Result<T>>,
    to_bytes: impl FnOnce(&T) -> Vec<u8>,
    from_bytes: impl FnOnce(&[u8]) -> T,
) -> Result<T> {
    if comm.place().ranks == 1 {
        return found.expect("the only rank is rank 0");
    }
    /// How the message begins.
    const FOUND: u8 = 1;
    let message = match &found {
        Some(Ok(found)) => [vec![FOUND], to_bytes(found)].concat(),
        Some(Err(_)) | None => vec![0],
    };
    let message = comm.broadcast(message);
    match (found, message.split_first()) {
        (Some(found), _) => found,
        (None, Some((&FOUND, bytes))) => Ok(from_bytes(bytes)),
        (None, _) => Err(Error::Elsewhere),
    }
}
