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
use super::results::{AttachedFile, Outcome, PathOutcome, RunResult};
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

/// Whether two executions of a run gave the same: its numbers, and its network to the last bit. What only one of them
/// says, being of a later version, is not compared.
pub fn agree(one: &RunResult, other: &RunResult) -> bool {
    let digest = |result: &RunResult| result.network.as_ref().map(|network| network.digest.clone());
    let (mut of_one, mut of_other) = (one.outcome.clone(), other.outcome.clone());
    keep_common(&mut of_one, &mut of_other);
    of_one == of_other && digest(one) == digest(other)
}

/// Takes out what the results of some versions do not say, unless both do.
fn keep_common(one: &mut Outcome, other: &mut Outcome) {
    let keep_common_of_paths = |one: &mut PathOutcome, other: &mut PathOutcome| {
        if one.similarity.is_none() || other.similarity.is_none() {
            (one.similarity, other.similarity) = (None, None);
        }
    };
    match (one, other) {
        (Outcome::Ticket(one), Outcome::Ticket(other)) if one.layers.is_empty() || other.layers.is_empty() => {
            one.layers.clear();
            other.layers.clear();
        }
        (Outcome::Connect(one), Outcome::Connect(other)) => keep_common_of_paths(&mut one.path, &mut other.path),
        (Outcome::Matrix(one), Outcome::Matrix(other)) => {
            for (one, other) in one.pairs.iter_mut().zip(&mut other.pairs) {
                keep_common_of_paths(&mut one.path, &mut other.path);
            }
        }
        _ => {}
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

    /// Versions that did not say agree with those that do; two that say it must say the same.
    #[test]
    fn what_only_one_result_says_is_not_compared() {
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
    fn blocks_of_other_pairs_are_different() {
        let matrix = |pairs: u32| {
            let pair = |second| PairOutcome { ends: (0, second), path: path(None, 1.0) };
            result(Outcome::Matrix(MatrixOutcome { remaining_ratio: 0.5, pairs: (1..=pairs).map(pair).collect() }))
        };
        assert!(agree(&matrix(2), &matrix(2)) && !agree(&matrix(2), &matrix(1)));
    }
}
