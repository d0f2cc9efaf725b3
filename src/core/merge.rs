//! Merging: copying a run that was computed in one store into another.
//!
//! A run is copied as if it had been computed there: by an attempt of its own, which claims the run, writes its files,
//! and commits. So the rules of [`super::attempt`] hold if the copy is interrupted or another process executes the run
//! at the same time.

use super::attempt::{Attempt, End, LOG, METRICS, NETWORK, Progress};
use super::clean;
use super::directory::{RunDirectory, RunFile};
use super::error::{Error, Result};
use super::files;
use super::identity::Run;
use super::results::{AttachedFile, Outcome, PathOutcome, RunResult};
use super::settings::Settings;
use super::tensors::TensorFile;

/// A run that is done, with the verified contents of all its files.
pub struct VerifiedRun {
    file: RunFile,
    result: RunResult,
    /// The bytes of the network; `None` if the result has no network, or `winsign clean` has deleted it.
    network: Option<Vec<u8>>,
    metrics: Option<Vec<u8>>,
    log: Option<Vec<u8>>,
    imported: Option<Vec<u8>>,
    progress: Option<Progress>,
}

impl VerifiedRun {
    /// Reads and verifies the files that belong to a result.
    pub fn read(source: &RunDirectory, file: RunFile, result: RunResult) -> Result<VerifiedRun> {
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
        Ok(VerifiedRun { file, result, network, metrics, log, imported, progress })
    }

    /// Copies the run into `target`; returns false if another attempt has committed it meanwhile. Fails with
    /// [`Error::Held`] if an attempt is alive there.
    pub fn copy_to(&self, target: &RunDirectory) -> Result<bool> {
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
                // Record the end, so that the next attempt need not wait until the heartbeat times out. This may fail
                // too, if the disk is full.
                let _ = attempt.end(&End::Interrupted);
                Err(error)
            }
        }
    }

    fn commit(&self, attempt: &Attempt) -> Result<bool> {
        let number = attempt.number;
        let moved = |name: &str, file: &AttachedFile| {
            let path = format!("attempts/{number}/{name}");
            AttachedFile { path, ..file.clone() }
        };
        let result = RunResult {
            attempt: number,
            network: self.result.network.as_ref().map(|network| moved(NETWORK, network)),
            metrics: self.result.metrics.as_ref().map(|metrics| moved(METRICS, metrics)),
            ..self.result.clone()
        };
        if let Some(progress) = &self.progress {
            attempt.report(progress.clone());
        }
        for (name, bytes) in [(NETWORK, &self.network), (METRICS, &self.metrics), (LOG, &self.log)] {
            if let Some(bytes) = bytes {
                files::write_atomic(&attempt.directory().join(name), bytes)?;
            }
        }
        if let Some(network) = result.network.as_ref().filter(|_| self.network.is_none()) {
            clean::mark(&attempt.run, network)?;
        }
        // Writing may have taken long enough for another attempt to start.
        attempt.check_current()?;
        let committed = files::create_exclusive(&attempt.run.result_path(), &files::seal(&result))?;
        attempt.remove_checkpoints(1..number + 1)?;
        Ok(committed)
    }
}

/// Returns the network that a ticket was imported from; returns `None` if it no longer exists, which does no harm
/// because the result exists.
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

/// Returns true if two executions of a run gave the same outcome, and the same network to the last bit. Values that
/// only one of them has, because it was written by a later version, are not compared.
pub fn agree(one: &RunResult, other: &RunResult) -> bool {
    let digest = |result: &RunResult| result.network.as_ref().map(|network| network.digest.clone());
    let (mut first, mut second) = (one.outcome.clone(), other.outcome.clone());
    keep_common(&mut first, &mut second);
    first == second && digest(one) == digest(other)
}

/// Removes the values that results of earlier versions lack, unless both results have them.
fn keep_common(one: &mut Outcome, other: &mut Outcome) {
    match (one, other) {
        (Outcome::Ticket(one), Outcome::Ticket(other)) if one.layers.is_empty() || other.layers.is_empty() => {
            one.layers.clear();
            other.layers.clear();
        }
        (Outcome::Connect(one), Outcome::Connect(other)) => keep_common_similarity(&mut one.path, &mut other.path),
        (Outcome::Matrix(one), Outcome::Matrix(other)) => {
            for (one, other) in one.pairs.iter_mut().zip(&mut other.pairs) {
                keep_common_similarity(&mut one.path, &mut other.path);
            }
        }
        _ => {}
    }
}

fn keep_common_similarity(one: &mut PathOutcome, other: &mut PathOutcome) {
    if one.similarity.is_none() || other.similarity.is_none() {
        (one.similarity, other.similarity) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::{
        ConnectOutcome, LayerSurvivors, MatrixOutcome, PairOutcome, PathPoint, Processors, Similarity, TicketOutcome,
    };
    use super::*;

    fn result(outcome: Outcome) -> RunResult {
        RunResult {
            format: 1,
            id: "0123456789abcdef".parse().unwrap(),
            attempt: 1,
            outcome,
            network: None,
            metrics: None,
            data: None,
            seconds: 1.0,
            host: "here".to_string(),
            processors: Processors { ranks: 1, threads: 1 },
            usage: None,
            finished: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    fn ticket(survivors: &[u64], test_error: f64) -> Outcome {
        let layer = |(at, &survivors)| LayerSurvivors { name: format!("layer{at}.weight"), survivors, prunable: 10 };
        Outcome::Ticket(TicketOutcome {
            remaining_ratio: 0.5,
            survivors: 5,
            prunable: 10,
            test_error,
            test_loss: 0.1,
            layers: survivors.iter().enumerate().map(layer).collect(),
        })
    }

    fn path(sign_agreement: Option<f64>, barrier: f64) -> PathOutcome {
        let point = PathPoint { t: 0.0, test_error: 5.0, test_loss: 0.1, train: None };
        let similarity = sign_agreement.map(|sign_agreement| Similarity { sign_agreement, mask_overlap: 1.0 });
        PathOutcome { points: vec![point], barrier, similarity }
    }

    #[test]
    fn values_that_one_result_lacks_are_not_compared() {
        let connect = |path| Outcome::Connect(ConnectOutcome { remaining_ratio: 0.5, path });
        let matrix = |path| {
            let pair = PairOutcome { ends: (0, 1), path };
            Outcome::Matrix(MatrixOutcome { remaining_ratio: 0.5, pairs: vec![pair] })
        };
        let cases = [
            [ticket(&[2, 3], 5.0), ticket(&[], 5.0), ticket(&[1, 4], 5.0), ticket(&[], 6.0)],
            [(Some(0.9), 1.0), (None, 1.0), (Some(0.8), 1.0), (None, 2.0)].map(|(a, b)| connect(path(a, b))),
            [(Some(0.9), 1.0), (None, 1.0), (Some(0.8), 1.0), (None, 2.0)].map(|(a, b)| matrix(path(a, b))),
        ];
        for case in cases {
            let [new, old, other_detail, other_number] = case.map(result);
            assert!(agree(&new, &new) && agree(&new, &old) && agree(&old, &new) && agree(&old, &old));
            assert!(!agree(&new, &other_detail) && agree(&old, &other_detail));
            assert!(!agree(&new, &other_number) && !agree(&old, &other_number));
        }
    }

    #[test]
    fn blocks_with_other_pairs_disagree() {
        let matrix = |pairs: u32| {
            let pair = |second| PairOutcome { ends: (0, second), path: path(None, 1.0) };
            result(Outcome::Matrix(MatrixOutcome { remaining_ratio: 0.5, pairs: (1..=pairs).map(pair).collect() }))
        };
        assert!(agree(&matrix(2), &matrix(2)) && !agree(&matrix(2), &matrix(1)));
    }
}
