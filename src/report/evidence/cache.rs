//! What has been read before, so that the next report reads only what is new.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use safetensors::Dtype;
use winsign_core::error::Result;
use winsign_core::files;
use winsign_core::tensors::{RawTensor, TensorFile};
use winsign_sweep::plan::RunState;
use winsign_sweep::plan::survey::RunStatus;

use super::Evidence;
use crate::Curve;

/// The evidence of runs that are done, by a key that is of their results: what was read for another result is never found.
#[derive(Debug, Default)]
pub struct Cache {
    known: HashMap<u128, Evidence>,
    /// Whether it knows more than the file it came from.
    grown: bool,
}

/// Raised when files of before mean something else.
const VERSION: &str = "evidence 1";

/// The key of a run's evidence; none unless it is done.
pub(super) fn key(status: &RunStatus) -> Option<u128> {
    let result = status.result.as_ref().filter(|_| status.state == RunState::Done)?;
    let metrics = result.metrics.as_ref().map_or("", |metrics| &metrics.digest);
    let text = format!("{} {} {metrics} {}", result.id, result.attempt, result.finished);
    let hash = blake3::hash(text.as_bytes());
    Some(u128::from_le_bytes(hash.as_bytes()[..16].try_into().expect("a hash has 32 bytes")))
}

impl Cache {
    /// What a file knows. A file that is missing, damaged, or of another version knows nothing, and is written anew.
    pub fn load(path: &Path) -> Cache {
        let known = TensorFile::read(path).ok().flatten().and_then(|file| unpacked(&file)).unwrap_or_default();
        Cache { known, grown: false }
    }

    pub fn get(&self, key: u128) -> Option<&Evidence> {
        self.known.get(&key)
    }

    pub fn insert(&mut self, key: u128, evidence: Evidence) {
        self.known.insert(key, evidence);
        self.grown = true;
    }

    /// Writes down what is known of these runs, if there is anything new. Where that cannot be done, as in a store that
    /// others own, the next report reads again.
    pub fn save<'a>(&self, path: &Path, statuses: impl Iterator<Item = &'a RunStatus>) -> Result<()> {
        if !self.grown {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            files::create_directory(folder)?;
        }
        let mut entries: Vec<(u128, &Evidence)> =
            statuses.filter_map(key).filter_map(|key| Some((key, self.get(key)?))).collect();
        entries.sort_by_key(|(key, _)| *key);
        entries.dedup_by_key(|(key, _)| *key);
        packed(&entries).write(path).map(drop)
    }
}

/// One after the other: keys; how many epochs each has, and these; how many bytes each log's end has, and these.
fn packed(entries: &[(u128, &Evidence)]) -> TensorFile {
    let curves = || entries.iter().filter_map(|(_, evidence)| evidence.curve.as_deref());
    let logs = || entries.iter().map(|(_, evidence)| evidence.log_end.as_deref().unwrap_or_default());
    let length = |evidence: &Evidence| evidence.curve.as_ref().map_or(0, |curve| curve.epoch.len());
    let floats =
        |of: fn(&Curve) -> &Vec<f32>| tensor(Dtype::F32, curves().flat_map(of).map(|value| value.to_le_bytes()));
    let tensors = [
        ("keys", tensor(Dtype::U8, entries.iter().map(|(key, _)| key.to_le_bytes()))),
        ("epochs", tensor(Dtype::U32, entries.iter().map(|(_, evidence)| (length(evidence) as u32).to_le_bytes()))),
        ("epoch", tensor(Dtype::U32, curves().flat_map(|curve| &curve.epoch).map(|epoch| epoch.to_le_bytes()))),
        ("train_loss", floats(|curve| &curve.train_loss)),
        ("train_error", floats(|curve| &curve.train_error)),
        ("test_loss", floats(|curve| &curve.test_loss)),
        ("test_error", floats(|curve| &curve.test_error)),
        ("log_bytes", tensor(Dtype::U32, logs().map(|log| (log.len() as u32).to_le_bytes()))),
        ("log", tensor(Dtype::U8, logs().flat_map(str::bytes).map(|byte| [byte]))),
    ];
    let tensors = tensors.into_iter().map(|(name, tensor)| (name.to_string(), tensor)).collect();
    TensorFile { tensors, metadata: VERSION.to_string() }
}

fn tensor<const N: usize>(dtype: Dtype, values: impl Iterator<Item = [u8; N]>) -> RawTensor {
    let bytes: Vec<u8> = values.flatten().collect();
    let width = if dtype == Dtype::U8 { 1 } else { 4 };
    RawTensor { dtype, shape: vec![bytes.len() / width], bytes }
}

/// None of a file of another version.
fn unpacked(file: &TensorFile) -> Option<HashMap<u128, Evidence>> {
    if file.metadata != VERSION {
        return None;
    }
    let bytes = |name: &str| file.tensors.get(name).map(|tensor| &tensor.bytes[..]);
    let numbers = |name: &str| Some(bytes(name)?.as_chunks().0.iter().map(|four| u32::from_le_bytes(*four)));
    let floats = |name: &str| -> Option<Vec<f32>> {
        Some(bytes(name)?.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect())
    };
    let epoch: Vec<u32> = numbers("epoch")?.collect();
    let [train_loss, train_error] = [floats("train_loss")?, floats("train_error")?];
    let [test_loss, test_error] = [floats("test_loss")?, floats("test_error")?];
    let log = bytes("log")?;
    let (mut next_epoch, mut next_byte) = (0, 0);
    let mut known = HashMap::new();
    for ((key, epochs), log_bytes) in
        bytes("keys")?.as_chunks().0.iter().zip(numbers("epochs")?).zip(numbers("log_bytes")?)
    {
        let epochs = next_epoch..next_epoch + epochs as usize;
        let text = next_byte..next_byte + log_bytes as usize;
        (next_epoch, next_byte) = (epochs.end, text.end);
        let of = |list: &[f32]| list.get(epochs.clone()).map(<[f32]>::to_vec);
        let curve = Curve {
            epoch: epoch.get(epochs.clone())?.to_vec(),
            train_loss: of(&train_loss)?,
            train_error: of(&train_error)?,
            test_loss: of(&test_loss)?,
            test_error: of(&test_error)?,
        };
        let log_end = std::str::from_utf8(log.get(text)?).ok().filter(|text| !text.is_empty()).map(Arc::from);
        let curve = (!curve.epoch.is_empty()).then(|| Arc::new(curve));
        known.insert(u128::from_le_bytes(*key), Evidence { curve, log_end, trouble: None });
    }
    Some(known)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::evidence::{Trouble, collect};
    use winsign_core::attempt::{Attempt, End, LOG};
    use winsign_core::files::digest;
    use winsign_core::owner::Clock;
    use winsign_core::results::{EpochMetrics, Outcome, Processors, TransferOutcome};
    use winsign_core::{RunDirectory, Store};
    use winsign_sweep::plan::survey::status;
    use winsign_testkit::study::Study;

    /// A store with one run that is done after so many epochs.
    fn done(folder: &Path, epochs: u32) -> RunDirectory {
        let study = Study::digits();
        let planned = &study.runs[13].0;
        let store = Store::create(folder).unwrap();
        let run = store.run(&planned.run.id);
        run.prepare(&planned.run, &planned.label.to_string()).unwrap();
        let attempt = Attempt::claim(&run, epochs).unwrap();
        let error = |epoch: u32| 100.0 / f64::from(epoch);
        let line = |epoch| EpochMetrics {
            epoch,
            lr: 0.1,
            train_loss: 2.0,
            train_error: 3.0,
            test_loss: 4.0,
            test_error: error(epoch),
        };
        attempt.write_metrics(&(1..=epochs).map(line).collect::<Vec<_>>()).unwrap();
        fs::write(attempt.directory().join(LOG), "the end\n").unwrap();
        let outcome = TransferOutcome { remaining_ratio: 0.1, test_error: error(epochs), test_loss: 4.0 };
        assert!(attempt.commit(Outcome::Transfer(outcome), None, Processors { ranks: 1, threads: 1 }, None).unwrap());
        attempt.end(&End::Finished).unwrap();
        run
    }

    fn collected(run: &RunDirectory, cache: &mut Cache) -> Evidence {
        let status = status(run, &Clock::of(&run.path)).unwrap();
        collect(&[(run.clone(), &status)], cache).remove(0)
    }

    #[test]
    fn what_was_read_is_found_again_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let run = done(folder.path(), 130);
        let file = folder.path().join("reports/x/evidence.cache");
        let mut cache = Cache::load(&file);
        let evidence = collected(&run, &mut cache);
        let curve = evidence.curve.clone().unwrap();
        assert_eq!((curve.epoch.len(), curve.epoch[0], curve.epoch[49]), (50, 2, 130));
        assert_eq!((curve.test_error[49], curve.train_loss[3]), ((100.0f64 / 130.0) as f32, 2.0));
        assert_eq!(evidence.log_end.as_deref(), Some("the end"));

        let status = status(&run, &Clock::of(&run.path)).unwrap();
        cache.save(&file, [&status].into_iter()).unwrap();
        let mut again = Cache::load(&file);
        assert_eq!(again.known, cache.known);
        // Found, not read: the file is gone.
        let metrics = run.path.join("attempts/1/metrics.jsonl");
        fs::remove_file(&metrics).unwrap();
        assert_eq!(collect(&[(run.clone(), &status)], &mut again), [evidence]);
        assert!(!again.grown);
        // The same run with another result is read anew, and this one has lost its metrics.
        let mut other = status.clone();
        other.result.as_mut().unwrap().metrics.as_mut().unwrap().digest = digest(b"other");
        let lost = collect(&[(run, &other)], &mut again).remove(0);
        assert_eq!((lost.curve, lost.trouble), (None, Some(Trouble::Vanished)));
        assert!(!again.grown, "what is in trouble is not kept");
    }

    #[test]
    fn metrics_that_are_not_those_of_the_result_are_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let run = done(folder.path(), 3);
        let metrics = run.path.join("attempts/1/metrics.jsonl");
        let status = status(&run, &Clock::of(&run.path)).unwrap();
        let text = fs::read_to_string(&metrics).unwrap();
        fs::write(&metrics, text.replace("50.0", "51.0")).unwrap();
        let evidence = collect(&[(run, &status)], &mut Cache::default()).remove(0);
        assert_eq!((evidence.curve, evidence.trouble), (None, Some(Trouble::Damaged)));
        assert_eq!(evidence.log_end.as_deref(), Some("the end"));
    }

    #[test]
    fn a_cache_that_is_damaged_or_of_another_version_knows_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let run = done(folder.path(), 3);
        let file = folder.path().join("evidence.cache");
        let mut cache = Cache::default();
        collected(&run, &mut cache);
        let status = status(&run, &Clock::of(&run.path)).unwrap();
        cache.save(&file, [&status].into_iter()).unwrap();
        let whole = fs::read(&file).unwrap();
        assert_eq!(Cache::load(&file).known.len(), 1);
        for at in (0..whole.len()).step_by(7) {
            let mut changed = whole.clone();
            changed[at] ^= 4;
            fs::write(&file, &changed).unwrap();
            assert!(Cache::load(&file).known.is_empty(), "byte {at}");
            fs::write(&file, &whole[..at]).unwrap();
            assert!(Cache::load(&file).known.is_empty(), "cut at {at}");
        }
        let old = TensorFile { metadata: "evidence 0".to_string(), ..TensorFile::verify(&file, &whole).unwrap() };
        old.write(&file).unwrap();
        assert!(Cache::load(&file).known.is_empty());
    }

    #[test]
    fn a_store_that_cannot_be_written_to_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let run = done(folder.path(), 3);
        let mut cache = Cache::default();
        collected(&run, &mut cache);
        let closed = folder.path().join("reports");
        fs::write(&closed, "no folder").unwrap();
        let status = status(&run, &Clock::of(&run.path)).unwrap();
        assert!(cache.save(&closed.join("x/evidence.cache"), [&status].into_iter()).is_err());
    }
}
