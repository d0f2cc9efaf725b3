//! A run that was computed in one store, taken over into another.
//!
//! It is taken over as if it had been computed there: by an attempt of its own, which claims the run, writes its files,
//! and commits. So whatever dies in between, and whoever works on the run at the same time, the rules of
//! [`super::attempt`] hold.

use super::attempt::{Attempt, End, LOG, METRICS, NETWORK, Progress};
use super::clean;
use super::directory::{RunDirectory, RunFile};
use super::error::{Error, Result};
use super::files;
use super::identity::Run;
use super::results::{AttachedFile, RunResult};
use super::settings::Settings;
use super::tensors::TensorFile;

/// A run that is done and all that belongs to it, verified.
pub struct Whole {
    file: RunFile,
    result: RunResult,
    /// None where the result has none, and where `winsign clean` has deleted it.
    network: Option<Vec<u8>>,
    metrics: Option<Vec<u8>>,
    log: Option<Vec<u8>>,
    imported: Option<Vec<u8>>,
    progress: Option<Progress>,
}

impl Whole {
    /// Reads what belongs to a result.
    pub fn read(source: &RunDirectory, file: RunFile, result: RunResult) -> Result<Whole> {
        let network = match &result.network {
            Some(network) if clean::cleaned(source, network)?.is_none() => Some(source.read_network_file(network)?.1),
            _ => None,
        };
        let metrics = match &result.metrics {
            Some(metrics) => {
                source.read_metrics(metrics)?;
                files::read_if_exists(&source.path.join(&metrics.path))?
            }
            None => None,
        };
        let log = files::read_if_exists(&source.attempt_path(result.attempt).join(LOG))?;
        let imported = read_imported(source, &file.settings)?;
        let progress = source.progress_of(result.attempt);
        Ok(Whole { file, result, network, metrics, log, imported, progress })
    }

    /// Takes the run over: false if another attempt has committed it meanwhile. [`Error::Held`] if one is alive.
    pub fn adopt(&self, target: &RunDirectory) -> Result<bool> {
        let run = Run::new(self.file.settings.clone(), self.file.inputs.clone());
        target.prepare(&run, &self.file.label)?;
        if let Some(imported) = &self.imported {
            files::write_atomic(&target.imported_path(), imported)?;
        }
        let attempt = Attempt::claim(target, 0)?;
        match self.commit(&attempt) {
            Ok(committed) => {
                attempt.end(&End::Finished)?;
                Ok(committed)
            }
            Err(error) => {
                // Whoever comes next need not wait until our heart has stopped. The disk may be full.
                let _ = attempt.end(&End::Interrupted);
                Err(error)
            }
        }
    }

    fn commit(&self, attempt: &Attempt) -> Result<bool> {
        let number = attempt.number;
        let here = |name: &str, file: &AttachedFile| AttachedFile {
            path: format!("attempts/{number}/{name}"),
            ..file.clone()
        };
        let result = RunResult {
            attempt: number,
            network: self.result.network.as_ref().map(|network| here(NETWORK, network)),
            metrics: self.result.metrics.as_ref().map(|metrics| here(METRICS, metrics)),
            ..self.result.clone()
        };
        if let Some(progress) = &self.progress {
            attempt.report(progress.clone())?;
        }
        for (name, bytes) in [(NETWORK, &self.network), (METRICS, &self.metrics), (LOG, &self.log)] {
            if let Some(bytes) = bytes {
                files::write_atomic(&attempt.directory().join(name), bytes)?;
            }
        }
        if let Some(network) = result.network.as_ref().filter(|_| self.network.is_none()) {
            clean::mark(&attempt.run, network)?;
        }
        // Writing may have taken long.
        attempt.check_current()?;
        let committed = files::create_exclusive(&attempt.run.result_path(), &files::seal(&result))?;
        attempt.remove_checkpoints(1..number + 1)?;
        Ok(committed)
    }
}

/// The network that an imported ticket was made from. One that was lost is not missed: its result is there.
fn read_imported(source: &RunDirectory, settings: &Settings) -> Result<Option<Vec<u8>>> {
    let Settings::Import(import) = settings else {
        return Ok(None);
    };
    let path = source.imported_path();
    let Some(bytes) = files::read_if_exists(&path)? else {
        return Ok(None);
    };
    match TensorFile::verify(&path, &bytes)?.digest() == import.digest.to_string() {
        true => Ok(Some(bytes)),
        false => Err(Error::damaged(&path, "it is not the network that was imported")),
    }
}

/// Whether two executions of a run gave the same: its numbers, and its network to the last bit.
pub fn agree(one: &RunResult, other: &RunResult) -> bool {
    let digest = |result: &RunResult| result.network.as_ref().map(|network| network.digest.clone());
    one.outcome == other.outcome && digest(one) == digest(other)
}
