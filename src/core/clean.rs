//! What lies in a run's directory that nobody needs any more.
//!
//! Two things are told apart. *Waste* is of no use to any run: what is left of attempts that are over. A *network* may be
//! what another run computes from; only who knows the sweeps can say that none will, and may then have it deleted. The
//! result that it belongs to stays, with a marker beside it that says that the network is missing on purpose. Should a
//! run need it after all, it is computed again, as a damaged one would be.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::attempt::{CHECKPOINT, NETWORK, is_whole_checkpoint};
use super::directory::RunDirectory;
use super::error::{Error, Result};
use super::files;
use super::owner;
use super::results::AttachedFile;

/// Beside `result.json`, where the network of the result was deleted.
const MARKER: &str = "cleaned.json";
/// What a network is renamed to before it is deleted.
const TRASH: &str = "network.safetensors.cleaned";
/// A file that was not finished within this time will never be.
const DRAFT_AGE: Duration = Duration::from_secs(3600);

/// What a file was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, strum::Display, strum::VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    #[strum(serialize = "checkpoints that no run goes on from")]
    Checkpoint,
    #[strum(serialize = "networks of attempts that did not commit")]
    Leftover,
    #[strum(serialize = "drafts of writers that died")]
    Draft,
    #[strum(serialize = "damaged files that were set aside")]
    Damaged,
    #[strum(serialize = "networks that no run needs")]
    Network,
}

/// A file that can be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waste {
    pub kind: Kind,
    pub path: PathBuf,
    pub bytes: u64,
}

impl Waste {
    /// Gives the bytes that this freed: none if somebody else was faster.
    pub fn delete(&self) -> Result<Option<u64>> {
        let there = self.path.symlink_metadata().is_ok();
        files::remove_if_exists(&self.path)?;
        Ok(there.then_some(self.bytes))
    }
}

/// What can be deleted of a run whatever anybody may need. Nothing of an attempt that is alive, and never the checkpoint
/// that a run would go on from.
pub fn waste(run: &RunDirectory) -> Result<Vec<Waste>> {
    let attempts = run.attempts()?;
    let result = match run.result() {
        // To be computed again: not done.
        Err(Error::Damaged { .. }) => None,
        other => other?,
    };
    // Each with the attempt it belongs to, if it belongs to one.
    let mut found: Vec<(Option<u32>, Waste)> = vec![];
    for folder in [run.path.clone(), run.path.join("attempts")] {
        look_into(&folder, None, &mut found)?;
    }
    for &attempt in &attempts {
        look_into(&run.attempt_path(attempt), Some(attempt), &mut found)?;
    }
    if let Some(result) = &result {
        let committed = result.network.as_ref().map(|network| run.path.join(&network.path));
        for &attempt in &attempts {
            let folder = run.attempt_path(attempt);
            found.extend(of(Kind::Checkpoint, folder.join(CHECKPOINT)).map(|waste| (Some(attempt), waste)));
            let network = folder.join(NETWORK);
            if Some(&network) != committed.as_ref() {
                found.extend(of(Kind::Leftover, network).map(|waste| (Some(attempt), waste)));
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

/// The checkpoints of attempts before the latest that has a whole one.
fn superseded_checkpoints(run: &RunDirectory, attempts: &[u32]) -> Result<Vec<(Option<u32>, Waste)>> {
    let there: Vec<(u32, Waste)> = (attempts.iter())
        .filter_map(|&attempt| Some((attempt, of(Kind::Checkpoint, run.attempt_path(attempt).join(CHECKPOINT))?)))
        .collect();
    // Reading them takes long: not where there is nothing to be gained.
    for (at, (_, latest)) in there.iter().enumerate().skip(1).rev() {
        if is_whole_checkpoint(run, &latest.path)? {
            return Ok(there[..at].iter().map(|(attempt, waste)| (Some(*attempt), waste.clone())).collect());
        }
    }
    Ok(vec![])
}

/// How long ago a file got the name it has; none if it is gone.
fn since_renamed(path: &Path, now: SystemTime) -> Option<Duration> {
    let changed = u64::try_from(fs::metadata(path).ok()?.ctime()).ok()?;
    now.duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs(changed)).ok()
}

/// What can be told by its name.
fn look_into(folder: &Path, attempt: Option<u32>, found: &mut Vec<(Option<u32>, Waste)>) -> Result<()> {
    for name in files::names(folder)? {
        let path = folder.join(&name);
        let kind = if files::is_set_aside(&name) {
            Kind::Damaged
        } else if name == TRASH || files::is_draft(&name) || owner::is_probe(&name) {
            // Somebody may be at it. A file that was renamed keeps the time of its content.
            let now = owner::Clock::of(folder).now();
            let age = if name == TRASH { since_renamed(&path, now) } else { owner::silence(&path, now) };
            if age.is_none_or(|age| age < DRAFT_AGE) {
                continue;
            }
            if name == TRASH { Kind::Network } else { Kind::Draft }
        } else {
            continue;
        };
        found.extend(of(kind, path).map(|waste| (attempt, waste)));
    }
    Ok(())
}

/// None if there is no such file.
fn of(kind: Kind, path: PathBuf) -> Option<Waste> {
    let file = path.symlink_metadata().ok().filter(|file| !file.is_dir())?;
    Some(Waste { kind, bytes: file.len(), path })
}

/// The content of the marker.
#[derive(Serialize, Deserialize)]
struct Cleaned {
    network: AttachedFile,
    when: jiff::Timestamp,
}

fn marker(run: &RunDirectory) -> Result<Option<Cleaned>> {
    match files::read_sealed(&run.path.join(MARKER)) {
        // Then the network is missing like any other, and computed again.
        Err(Error::Damaged { .. }) => Ok(None),
        other => other,
    }
}

/// When the network of a result was deleted on purpose; none if it is there, or missing by accident.
pub fn cleaned(run: &RunDirectory, network: &AttachedFile) -> Result<Option<jiff::Timestamp>> {
    if run.path.join(&network.path).exists() {
        return Ok(None);
    }
    Ok(marker(run)?.filter(|marker| marker.network == *network).map(|marker| marker.when))
}

/// Writes down that a network is missing on purpose, or is about to be.
pub(super) fn mark(run: &RunDirectory, network: &AttachedFile) -> Result<()> {
    let marker = Cleaned { network: network.clone(), when: jiff::Timestamp::now() };
    files::write_atomic(&run.path.join(MARKER), &files::seal(&marker))
}

/// Warns if a network that was deleted comes out differently when it is computed again: others were computed from the
/// first one.
pub(super) fn compare(run: &RunDirectory, digest: &str) -> Result<()> {
    if let Some(marker) = marker(run)?.filter(|marker| marker.network.digest != digest) {
        tracing::warn!(
            "the network differs from the one that `winsign clean` deleted at {:.0}, which other results may have been \
             computed from: another machine, or another number of threads?",
            marker.when
        );
    }
    Ok(())
}

/// A network on its way out: nobody finds it any more, but it can still be put back.
#[derive(Debug)]
pub struct Retired {
    run: RunDirectory,
    network: PathBuf,
    trash: PathBuf,
    pub bytes: u64,
}

/// Takes the network of a result away, for a second look at who might need it; none if it is gone already.
pub fn retire(run: &RunDirectory, network: &AttachedFile) -> Result<Option<Retired>> {
    let path = run.path.join(&network.path);
    let trash = path.with_file_name(TRASH);
    if !path.exists() {
        return Ok(None);
    }
    mark(run, network)?;
    let there = files::rename_if_exists(&path, &trash)?;
    Ok(there.then(|| Retired { run: run.clone(), network: path, trash, bytes: network.bytes }))
}

impl Retired {
    /// Puts the network back.
    pub fn restore(&self) -> Result<()> {
        match files::rename_if_exists(&self.trash, &self.network)? {
            true => files::remove_if_exists(&self.run.path.join(MARKER)),
            // Somebody else has deleted it: then the marker tells the truth.
            false => Ok(()),
        }
    }

    pub fn delete(&self) -> Result<()> {
        files::remove_if_exists(&self.trash)
    }
}

/// What [`retire`] would take away of a result; none if that has been done.
pub fn network(run: &RunDirectory, network: &AttachedFile) -> Result<Option<Waste>> {
    let path = run.path.join(&network.path);
    match fs::metadata(&path) {
        Ok(file) => Ok(Some(Waste { kind: Kind::Network, bytes: file.len(), path })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("look at", &path)(error)),
    }
}
