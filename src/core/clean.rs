//! Cleaning: finding and deleting files of a run that are no longer needed.
//!
//! There are two cases. *Waste* is of no use to any run: leftovers of attempts that have ended. A *network* may be the
//! input of another run; only a caller that knows the sweeps can decide that none needs it, and have it deleted. Its
//! result stays, with a marker beside it that says that the network is missing on purpose. If a run needs the network
//! later, it is computed again, like a damaged one.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::attempt::{CHECKPOINT, NETWORK, is_intact_checkpoint};
use super::directory::RunDirectory;
use super::disk;
use super::error::{Error, Result};
use super::files;
use super::owner;
use super::results::AttachedFile;

/// The file beside `result.json` that says that the network of the result was deleted.
const MARKER: &str = "cleaned.json";
/// The name that a network gets before it is deleted.
const TRASH: &str = "network.safetensors.cleaned";
/// The age after which an unfinished file counts as abandoned.
const DRAFT_AGE: Duration = Duration::from_secs(3600);

/// The kind of a file that can be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, strum::Display, strum::VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    #[strum(serialize = "checkpoints that no run resumes from")]
    Checkpoint,
    #[strum(serialize = "networks of attempts that did not commit")]
    Leftover,
    #[strum(serialize = "unfinished files of processes that ended")]
    Draft,
    #[strum(serialize = "damaged files that were set aside")]
    Damaged,
    #[strum(serialize = "networks that no run needs")]
    Network,
    #[strum(serialize = "submissions that were not written completely")]
    Submission,
}

/// A file that can be deleted, or a directory if it is a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waste {
    pub kind: Kind,
    pub path: PathBuf,
    pub bytes: u64,
}

impl Waste {
    /// Deletes the file, and returns the number of bytes freed; returns `None` if the file no longer exists.
    pub fn delete(&self) -> Result<Option<u64>> {
        let exists = self.path.symlink_metadata().is_ok();
        match self.kind {
            Kind::Submission if exists => {
                disk::persist(&self.path, || fs::remove_dir_all(&self.path))
                    .map_err(Error::io("remove", &self.path))?;
            }
            _ => files::remove_if_exists(&self.path)?,
        }
        Ok(exists.then_some(self.bytes))
    }
}

/// Returns the files of a run that no other run can need. Files of an attempt that is alive are excluded, and so is the
/// checkpoint that the run would resume from.
pub fn waste(run: &RunDirectory) -> Result<Vec<Waste>> {
    let attempts = run.attempts()?;
    let result = match run.result() {
        // A damaged result is computed again, so the run is not done.
        Err(Error::Damaged { .. }) => None,
        other => other?,
    };
    // Each file with the attempt that it belongs to, if any.
    let mut found: Vec<(Option<u32>, Waste)> = vec![];
    for folder in [run.path.clone(), run.path.join("attempts")] {
        find_waste_by_name(&folder, None, &mut found)?;
    }
    for &attempt in &attempts {
        find_waste_by_name(&run.attempt_path(attempt), Some(attempt), &mut found)?;
    }
    if let Some(result) = &result {
        let committed = result.network.as_ref().map(|network| run.path.join(&network.path));
        for &attempt in &attempts {
            let folder = run.attempt_path(attempt);
            found.extend(waste_at(Kind::Checkpoint, folder.join(CHECKPOINT)).map(|waste| (Some(attempt), waste)));
            let network = folder.join(NETWORK);
            if Some(&network) != committed.as_ref() {
                found.extend(waste_at(Kind::Leftover, network).map(|waste| (Some(attempt), waste)));
            }
        }
    } else {
        found.extend(superseded_checkpoints(run, &attempts)?);
    }
    if found.is_empty() {
        return Ok(vec![]);
    }
    let mut alive = vec![];
    for &attempt in &attempts {
        if run.claim_if_alive(attempt)?.is_some() {
            alive.push(attempt);
        }
    }
    found.retain(|(attempt, _)| match attempt {
        Some(attempt) => !alive.contains(attempt),
        None => alive.is_empty(),
    });
    Ok(found.into_iter().map(|(_, waste)| waste).collect())
}

/// Returns the checkpoints of the attempts before the latest one with an intact checkpoint.
fn superseded_checkpoints(run: &RunDirectory, attempts: &[u32]) -> Result<Vec<(Option<u32>, Waste)>> {
    let found: Vec<(u32, Waste)> = (attempts.iter())
        .filter_map(|&attempt| Some((attempt, waste_at(Kind::Checkpoint, run.attempt_path(attempt).join(CHECKPOINT))?)))
        .collect();
    // Reading a checkpoint takes long, so the first one, which has none before it, is not read.
    for (at, (_, latest)) in found.iter().enumerate().skip(1).rev() {
        if is_intact_checkpoint(run, &latest.path)? {
            return Ok(found[..at].iter().map(|(attempt, waste)| (Some(*attempt), waste.clone())).collect());
        }
    }
    Ok(vec![])
}

/// Returns the time since a file got its name; returns `None` if the file does not exist.
fn since_renamed(path: &Path, now: SystemTime) -> Option<Duration> {
    let changed = u64::try_from(fs::metadata(path).ok()?.ctime()).ok()?;
    now.duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs(changed)).ok()
}

/// Adds the files of a directory that can be recognized as waste by their names.
fn find_waste_by_name(folder: &Path, attempt: Option<u32>, found: &mut Vec<(Option<u32>, Waste)>) -> Result<()> {
    for name in files::names(folder)? {
        let path = folder.join(&name);
        let kind = if files::is_set_aside(&name) {
            Kind::Damaged
        } else if name == TRASH || files::is_draft(&name) || owner::is_probe(&name) {
            // Another process may still use the file. A rename does not change the modification time of a file.
            let now = owner::Clock::new(folder).now();
            let age = if name == TRASH { since_renamed(&path, now) } else { owner::silence(&path, now)? };
            if age.is_none_or(|age| age < DRAFT_AGE) {
                continue;
            }
            if name == TRASH { Kind::Network } else { Kind::Draft }
        } else {
            continue;
        };
        found.extend(waste_at(kind, path).map(|waste| (attempt, waste)));
    }
    Ok(())
}

/// Describes a file that can be deleted; returns `None` if it does not exist.
fn waste_at(kind: Kind, path: PathBuf) -> Option<Waste> {
    let file = path.symlink_metadata().ok().filter(|file| !file.is_dir())?;
    Some(Waste { kind, bytes: file.len(), path })
}

/// Describes the directory of a submission that was not written completely; returns `None` if a file in it is younger than an
/// hour, so that a process may still write it.
pub fn describe_submission(path: &Path) -> Result<Option<Waste>> {
    // Reading the clock changes the directory in which it is done.
    let now = owner::Clock::new(path.parent().unwrap_or(path)).now();
    let bytes = bytes_if_old(path, now).map_err(Error::io("list", path))?;
    Ok(bytes.map(|bytes| Waste { kind: Kind::Submission, path: path.to_path_buf(), bytes }))
}

/// Returns the number of bytes of the files in a directory, or `None` if one of them is younger than an hour.
fn bytes_if_old(directory: &Path, now: SystemTime) -> io::Result<Option<u64>> {
    let mut sum = 0;
    for entry in disk::list(directory)?.unwrap_or_default() {
        let found = entry.metadata()?;
        let bytes = match found.is_dir() {
            true => bytes_if_old(&entry.path(), now)?,
            false => Some(found.len()).filter(|_| is_old(&found, now)),
        };
        let Some(bytes) = bytes else { return Ok(None) };
        sum += bytes;
    }
    Ok(fs::metadata(directory).is_ok_and(|found| is_old(&found, now)).then_some(sum))
}

fn is_old(found: &fs::Metadata, now: SystemTime) -> bool {
    let age = found.modified().ok().and_then(|written| now.duration_since(written).ok());
    age.is_some_and(|age| age >= DRAFT_AGE)
}

/// The content of [`MARKER`].
#[derive(Serialize, Deserialize)]
struct Cleaned {
    network: AttachedFile,
    when: jiff::Timestamp,
}

fn read_marker(run: &RunDirectory) -> Result<Option<Cleaned>> {
    match files::read_sealed(&run.path.join(MARKER)) {
        // Without a readable marker the network counts as missing by accident, and is computed again.
        Err(Error::Damaged { .. }) => Ok(None),
        other => other,
    }
}

/// Returns the time at which the network of a result was deleted on purpose; returns `None` if it exists, or is missing
/// by accident.
pub fn cleaned(run: &RunDirectory, network: &AttachedFile) -> Result<Option<jiff::Timestamp>> {
    if run.path.join(&network.path).exists() {
        return Ok(None);
    }
    Ok(read_marker(run)?.filter(|marker| marker.network == *network).map(|marker| marker.when))
}

/// Records that a network is missing on purpose, or is about to be.
pub(super) fn mark(run: &RunDirectory, network: &AttachedFile) -> Result<()> {
    let marker = Cleaned { network: network.clone(), when: jiff::Timestamp::now() };
    files::write_atomic(&run.path.join(MARKER), &files::seal(&marker))
}

/// Warns if a deleted network differs from the original when it is computed again: other results may have been computed
/// from the original.
pub(super) fn warn_if_different(run: &RunDirectory, digest: &str) -> Result<()> {
    if let Some(marker) = read_marker(run)?.filter(|marker| marker.network.digest != digest) {
        tracing::warn!(
            "the network differs from the one that `winsign clean` deleted at {:.0}, from which other results may have \
             been computed; it may have been computed on another machine, or with another number of threads",
            marker.when
        );
    }
    Ok(())
}

/// A network that is about to be deleted: it was renamed, so that no run finds it, and can still be restored.
#[derive(Debug)]
pub struct Retired {
    run: RunDirectory,
    network: PathBuf,
    trash: PathBuf,
    pub bytes: u64,
}

/// Renames the network of a result, so that the caller can check again whether a run needs it before deleting it;
/// returns `None` if the network no longer exists.
pub fn retire(run: &RunDirectory, network: &AttachedFile) -> Result<Option<Retired>> {
    let path = run.path.join(&network.path);
    let trash = path.with_file_name(TRASH);
    if !path.exists() {
        return Ok(None);
    }
    mark(run, network)?;
    let exists = files::rename_if_exists(&path, &trash)?;
    Ok(exists.then(|| Retired { run: run.clone(), network: path, trash, bytes: network.bytes }))
}

impl Retired {
    /// Restores the network.
    pub fn restore(&self) -> Result<()> {
        match files::rename_if_exists(&self.trash, &self.network)? {
            true => files::remove_if_exists(&self.run.path.join(MARKER)),
            // Another process has deleted the network, so the marker must stay.
            false => Ok(()),
        }
    }

    /// Deletes the network permanently.
    pub fn delete(&self) -> Result<()> {
        files::remove_if_exists(&self.trash)
    }
}

/// Describes the network that [`retire`] would rename; returns `None` if it no longer exists.
pub fn describe_network(run: &RunDirectory, network: &AttachedFile) -> Result<Option<Waste>> {
    let path = run.path.join(&network.path);
    match fs::metadata(&path) {
        Ok(file) => Ok(Some(Waste { kind: Kind::Network, bytes: file.len(), path })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", &path)(error)),
    }
}
