//! A store of runs, and a run's directory in it.
//!
//! ```text
//! STORE/store.json                    the format of everything below
//! STORE/runs/3f/3f09c2…/              one run; the directory's name is its identity
//!     run.json                        settings and inputs, resolved
//!     imported.safetensors            the network as it was imported (imported tickets only)
//!     result.json                     committed, once, by the attempt that computed it
//!     attempts/1.json                 the process that began attempt 1; created exclusively, so it is the claim
//!     attempts/1/status.json          its progress; touched as its heartbeat
//!     attempts/1/log                  the log of the worker
//!     attempts/1/metrics.jsonl        one line per epoch
//!     attempts/1/checkpoint.safetensors   until the run is done
//!     attempts/1/network.safetensors  the tensors of the result
//!     cleaned.json                    the network that `winsign clean` has deleted, and when
//!     attempts/1/end.json             how it ended, unless it was killed
//! ```

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::attempt::{self, Claim, End, Progress, Status};
use super::clean;
use super::disk;
use super::error::{Error, Result};
use super::exclusive::{self, MARKER, Means};
use super::files;
use super::identity::{Run, RunId};
use super::owner::{self, Clock};
use super::results::{AttachedFile, EpochMetrics, RunResult};
use super::settings::Settings;
use super::tensors::TensorFile;

/// The version of the layout above and of the files in it.
pub const FORMAT: u32 = 1;

/// A directory that holds runs.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct StoreFile {
    format: u32,
    /// How files of the store are created exclusively.
    #[serde(default, skip_serializing_if = "Means::is_default")]
    exclusive: Means,
}

impl Store {
    /// Opens a store for reading. A store that does not exist has no runs.
    pub fn open(root: &Path) -> Result<Store> {
        Store::read_marker(root)?;
        Ok(Store { root: root.to_path_buf() })
    }

    /// Opens a store for writing, and creates it if it does not exist.
    pub fn create(root: &Path) -> Result<Store> {
        let marked = Store::read_marker(root)?;
        files::create_directory(&root.join("runs"))?;
        if !marked {
            Store::mark(root)?;
        }
        Ok(Store { root: root.to_path_buf() })
    }

    /// Writes the marker of a new store, and finds out how files can be created exclusively there.
    fn mark(root: &Path) -> Result<()> {
        let marker = |exclusive| serde_json::to_vec(&StoreFile { format: FORMAT, exclusive }).expect("plain data");
        match files::create_exclusive(&root.join(MARKER), &marker(Means::Links)) {
            Err(Error::Io { source, .. }) if exclusive::lacks_links(&source) => {
                tracing::warn!(
                    "the file system of {} has no hard links ({source}); using directories as locks instead",
                    root.display()
                );
                exclusive::record(root, Means::Directories);
                files::create_exclusive(&root.join(MARKER), &marker(Means::Directories)).map(drop)
            }
            other => other.map(drop),
        }
    }

    /// Returns true if the store has a format marker, and fails with [`Error::Format`] if it names another format.
    fn read_marker(root: &Path) -> Result<bool> {
        let path = root.join(MARKER);
        let Some(bytes) = files::read_if_exists(&path)? else {
            return Ok(false);
        };
        match serde_json::from_slice::<StoreFile>(&bytes) {
            Ok(file) if file.format != FORMAT => Err(Error::Format { path, found: file.format, expected: FORMAT }),
            Ok(_) => Ok(true),
            // The format is also recorded in every run.
            Err(error) => {
                tracing::warn!(
                    "{} is damaged: {error}; help: delete it, the next `winsign run` writes it again",
                    path.display()
                );
                Ok(true)
            }
        }
    }

    /// Removes the directory of the store if the store has no runs and no other files.
    pub fn remove_if_empty(&self) -> Result<()> {
        let entries = disk::list(&self.root).map_err(Error::io("list", &self.root))?.unwrap_or_default();
        let has_others = entries.iter().any(|entry| entry.file_name() != "runs" && entry.file_name() != MARKER);
        if !has_others && fs::remove_dir(self.root.join("runs")).is_ok() {
            files::remove_if_exists(&self.root.join(MARKER))?;
            let _ = fs::remove_dir(&self.root);
        }
        Ok(())
    }

    /// Returns the directory of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the directory of a run, which need not exist.
    pub fn run(&self, id: &RunId) -> RunDirectory {
        // 256 folders keep directories small where a million entries in one would be slow.
        let path = self.root.join("runs").join(&id.as_str()[..2]).join(id.as_str());
        RunDirectory { id: id.clone(), path }
    }

    /// Returns the runs whose identity begins with `prefix`, sorted.
    pub fn find(&self, prefix: &str) -> Result<Vec<RunId>> {
        let runs = self.root.join("runs");
        let folders = match prefix.get(..2) {
            Some(folder) if folder.bytes().all(|byte| byte.is_ascii_hexdigit()) => vec![folder.to_string()],
            Some(_) => vec![],
            None => {
                files::names(&runs)?.into_iter().filter(|name| name.len() == 2 && name.starts_with(prefix)).collect()
            }
        };
        let mut ids = vec![];
        for folder in folders {
            let names = files::names(&runs.join(folder))?;
            let found = names.iter().filter(|name| name.starts_with(prefix));
            ids.extend(found.filter_map(|name| name.parse::<RunId>().ok()));
        }
        ids.sort();
        Ok(ids)
    }

    /// Returns all runs of the store, sorted.
    pub fn runs(&self) -> Result<Vec<RunId>> {
        self.find("")
    }
}

/// The content of `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFile {
    pub format: u32,
    pub id: RunId,
    /// A readable name of the run.
    pub label: String,
    pub settings: Settings,
    pub inputs: Vec<RunId>,
}

/// A file with its modification time and its length in bytes.
#[derive(PartialEq, Eq, Hash)]
struct FileVersion(PathBuf, SystemTime, u64);

/// The versions of files that were read and found intact. All files of a copied store may be newer than its results; a long-running
/// process, such as `winsign serve`, must read them only once.
static VERIFIED: LazyLock<Mutex<HashSet<FileVersion>>> = LazyLock::new(Mutex::default);

impl FileVersion {
    /// Records that this version was read and found intact, unless reading it failed.
    fn record_if_intact(self, read: Result<()>) -> Result<()> {
        read?;
        VERIFIED.lock().expect("no panic under the lock").insert(self);
        Ok(())
    }
}

/// The directory of a run, which need not exist yet.
#[derive(Debug, Clone)]
pub struct RunDirectory {
    pub id: RunId,
    pub path: PathBuf,
}

/// The state of a run, as derived from the files on disk.
#[derive(Debug, Clone)]
pub enum State {
    /// The run has an intact result.
    Done(Box<RunResult>),
    /// The latest attempt is alive.
    Running { attempt: u32, claim: Box<Claim>, status: Option<Status> },
    /// The latest attempt failed.
    Failed { attempt: u32, message: String },
    /// No attempt was made, or the latest of `attempts` attempts ended without a result and without a failure.
    Idle { attempts: u32 },
}

impl RunDirectory {
    /// Opens an existing run directory; the last component of `path` must be the identity of the run. Fails with
    /// [`Error::NotARun`] if it is not a run directory.
    pub fn open(path: &Path) -> Result<RunDirectory> {
        let path = disk::persist(path, || fs::canonicalize(path)).map_err(Error::io("open the run directory", path))?;
        let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        match id {
            Some(id) if path.ancestors().nth(2).is_some() && files::exists(&path.join("run.json"))? => {
                Ok(RunDirectory { id, path })
            }
            _ => Err(Error::NotARun { path }),
        }
    }

    /// Returns the directory of another run of the same store.
    pub fn sibling(&self, id: &RunId) -> RunDirectory {
        let runs = self.path.ancestors().nth(2).expect("a run lies in runs/xx/");
        RunDirectory { id: id.clone(), path: runs.join(&id.as_str()[..2]).join(id.as_str()) }
    }

    /// Returns the path at which the network of an imported ticket is placed before the run.
    pub fn imported_path(&self) -> PathBuf {
        self.path.join("imported.safetensors")
    }

    /// Removes the directory with everything in it.
    pub fn remove(&self) -> Result<()> {
        disk::persist(&self.path, || fs::remove_dir_all(&self.path)).map_err(Error::io("remove", &self.path))?;
        // This fails if there are other runs in the folder.
        let _ = self.path.parent().map(fs::remove_dir);
        Ok(())
    }

    /// Returns the path of the committed result.
    pub fn result_path(&self) -> PathBuf {
        self.path.join("result.json")
    }

    /// Creates the directory and `run.json` for a worker. Returns the new name of a damaged `run.json`, if one was set
    /// aside.
    pub fn prepare(&self, run: &Run, label: &str) -> Result<Option<PathBuf>> {
        let path = self.path.join("run.json");
        let mut aside = None;
        match self.settings() {
            Ok(Some(_)) => return Ok(None),
            Ok(None) => files::create_directory(&self.path.join("attempts"))?,
            Err(Error::Damaged { .. }) => aside = files::set_aside(&path)?,
            Err(error) => return Err(error),
        }
        let file = RunFile {
            format: FORMAT,
            id: run.id.clone(),
            label: label.to_string(),
            settings: run.settings.clone(),
            inputs: run.inputs.clone(),
        };
        let mut bytes = serde_json::to_vec_pretty(&file).expect("settings are plain data");
        bytes.push(b'\n');
        files::create_exclusive(&path, &bytes)?;
        Ok(aside)
    }

    /// Reads `run.json`; returns `None` if it does not exist. A file whose settings do not hash to the identity of the
    /// run counts as damaged.
    pub fn settings(&self) -> Result<Option<RunFile>> {
        let path = self.path.join("run.json");
        let Some(bytes) = files::read_if_exists(&path)? else {
            return Ok(None);
        };
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let damaged = |error: serde_json::Error| Error::damaged(&path, error.to_string());
        let version: Version = serde_json::from_slice(&bytes).map_err(damaged)?;
        if version.format != FORMAT {
            return Err(Error::Format { path, found: version.format, expected: FORMAT });
        }
        let file: RunFile = serde_json::from_slice(&bytes).map_err(damaged)?;
        let run = Run::new(file.settings.clone(), file.inputs.clone());
        if run.id != self.id || file.id != self.id {
            return Err(Error::damaged(&path, "its settings are not those of this run"));
        }
        Ok(Some(file))
    }

    /// Returns the committed result; returns `None` if the run is not done. A result whose tensors are missing,
    /// truncated or changed counts as damaged: tensors that were modified after the commit are read and compared.
    /// Tensors that `winsign clean` has deleted are allowed to be missing.
    pub fn result(&self) -> Result<Option<RunResult>> {
        let path = self.result_path();
        let Some(result) = files::read_sealed::<RunResult>(&path)? else {
            return Ok(None);
        };
        if result.format != FORMAT {
            return Err(Error::Format { path, found: result.format, expected: FORMAT });
        }
        if result.id != self.id {
            return Err(Error::damaged(&path, "it is the result of another run"));
        }
        // If it was set aside meanwhile, the run is not done.
        let Some(committed) = owner::touched(&path)? else { return Ok(None) };
        if let Some(network) = &result.network {
            match self.unverified_since(committed, network) {
                Ok(Some(touched)) => touched.record_if_intact(self.read_network(network).map(drop))?,
                Ok(None) => {}
                Err(Error::Damaged { .. }) if clean::cleaned(self, network)?.is_some() => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(metrics) = &result.metrics
            && let Some(touched) = self.unverified_since(committed, metrics)?
        {
            touched.record_if_intact(self.read_metrics(metrics).map(drop))?;
        }
        Ok(Some(result))
    }

    /// Returns a file if it was modified after its result was committed and has not been verified since. Fails with
    /// [`Error::Damaged`] if it is missing or has another length. Reading every tensor of a large study each time would
    /// take hours; comparing modification times does not.
    fn unverified_since(&self, committed: SystemTime, expected: &AttachedFile) -> Result<Option<FileVersion>> {
        let path = self.path.join(&expected.path);
        let found = disk::metadata(&path).map_err(Error::io("read", &path))?;
        let found = found.ok_or_else(|| Error::damaged(&path, "the file is missing"))?;
        if found.len() != expected.bytes {
            let reason = format!("it has {} bytes instead of {}", found.len(), expected.bytes);
            return Err(Error::damaged(&path, reason));
        }
        let written = found.modified().map_err(Error::io("read", &path))?;
        let touched = FileVersion(path, written, found.len());
        Ok((written > committed && !VERIFIED.lock().expect("no panic under the lock").contains(&touched))
            .then_some(touched))
    }

    /// Reads and verifies the metrics of a result.
    pub fn read_metrics(&self, expected: &AttachedFile) -> Result<Vec<EpochMetrics>> {
        let path = self.path.join(&expected.path);
        let bytes = files::read_if_exists(&path)?.ok_or_else(|| Error::damaged(&path, "the file is missing"))?;
        if files::digest(&bytes) != expected.digest {
            return Err(Error::damaged(&path, "its content does not match its checksum"));
        }
        let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let parsed: std::result::Result<Vec<_>, _> = lines.map(serde_json::from_slice).collect();
        parsed.map_err(|error| Error::damaged(&path, error.to_string()))
    }

    /// Reads the tensors of a result, and verifies them to the last bit.
    pub fn read_network(&self, expected: &AttachedFile) -> Result<TensorFile> {
        self.read_network_file(expected).map(|(file, _)| file)
    }

    /// Reads the tensors of a result, verifies them to the last bit, and returns them with the bytes of their file.
    pub fn read_network_file(&self, expected: &AttachedFile) -> Result<(TensorFile, Vec<u8>)> {
        let path = self.path.join(&expected.path);
        let Some(bytes) = files::read_if_exists(&path)? else {
            let reason = match clean::cleaned(self, expected)? {
                Some(when) => format!("it was deleted by `winsign clean` at {when:.0}"),
                None => "the file is missing".to_string(),
            };
            return Err(Error::damaged(&path, reason));
        };
        let file = TensorFile::verify(&path, &bytes)?;
        if file.digest() != expected.digest {
            return Err(Error::damaged(&path, "it is not the network this result was committed with"));
        }
        Ok((file, bytes))
    }

    /// Sets a damaged file of this run aside, and the result with it, so that the run counts as not done.
    pub fn set_aside(&self, damaged: &Path) -> Result<()> {
        files::set_aside(damaged)?;
        if damaged != self.result_path() {
            files::set_aside(&self.result_path())?;
        }
        Ok(())
    }

    /// Clears the failure of the latest attempt, so that the run is tried again; returns false if it had not failed.
    /// The record of the failure is kept under another name.
    pub fn forgive(&self) -> Result<bool> {
        let Some(&attempt) = self.attempts()?.last() else { return Ok(false) };
        if !matches!(self.end_of(attempt)?, Some(End::Failed { .. })) {
            return Ok(false);
        }
        let end = self.attempt_path(attempt).join(attempt::END);
        let forgiven = files::rename_if_exists(&end, &self.forgiven_path(attempt))?;
        if forgiven {
            // Without a recorded end the attempt would seem alive to other machines until its heartbeat times out.
            attempt::end_attempt(self, attempt, &End::Interrupted)?;
        }
        Ok(forgiven)
    }

    /// Undoes [`RunDirectory::forgive`], if no other attempt has begun since.
    pub fn restore_failure(&self) -> Result<()> {
        let Some(&attempt) = self.attempts()?.last() else { return Ok(()) };
        let end = self.attempt_path(attempt).join(attempt::END);
        files::rename_if_exists(&self.forgiven_path(attempt), &end).map(drop)
    }

    /// Returns the state of the run. Nothing is changed, except that a temporary file is created to read the time of the
    /// file system if the run may be alive on another machine.
    pub fn state(&self) -> Result<State> {
        self.state_by(&Clock::new(&self.path))
    }

    /// Returns the state of the run like [`RunDirectory::state`], by a clock that many runs of a store share.
    pub fn state_by(&self, clock: &Clock) -> Result<State> {
        self.state_if(|attempt| self.claim_if_alive_by(attempt, clock))
    }

    /// Returns the state of the run as a process needs it that takes over what is idle, and that calls this regularly: an
    /// attempt on another machine is lost only if this process has seen it unchanged for [`owner::lost_after`], which is then
    /// recorded.
    pub fn state_for_takeover(&self) -> Result<State> {
        // The client of a network file system may remember that there was no result.
        match self.state_if(|attempt| self.claim_unless_lost(attempt))? {
            idle @ State::Idle { attempts: 1.. } => {
                files::refresh(&self.path)?;
                Ok(self.result()?.map_or(idle, |result| State::Done(Box::new(result))))
            }
            other => Ok(other),
        }
    }

    fn state_if(&self, claim_if_alive: impl Fn(u32) -> Result<Option<Claim>>) -> Result<State> {
        if let Some(result) = self.result()? {
            return Ok(State::Done(Box::new(result)));
        }
        let attempts = self.attempts()?;
        let Some(&attempt) = attempts.last() else {
            return Ok(State::Idle { attempts: 0 });
        };
        if let Some(End::Failed { message }) = self.end_of(attempt)? {
            return Ok(State::Failed { attempt, message });
        }
        match claim_if_alive(attempt)? {
            Some(claim) => {
                let status = self.status_of(attempt);
                // The attempt may have committed after the first check for a result.
                match self.result()? {
                    Some(result) => Ok(State::Done(Box::new(result))),
                    None => Ok(State::Running { attempt, claim: Box::new(claim), status }),
                }
            }
            None => match self.result()? {
                Some(result) => Ok(State::Done(Box::new(result))),
                None => Ok(State::Idle { attempts: attempt }),
            },
        }
    }

    /// Returns the numbers of all attempts, ascending.
    pub fn attempts(&self) -> Result<Vec<u32>> {
        let folder = self.path.join("attempts");
        let names = files::names(&folder)?;
        if names.is_empty() {
            let found = disk::metadata(&folder).map_err(Error::io("read", &folder))?;
            if found.is_some_and(|found| !found.is_dir()) {
                return Err(Error::damaged(&folder, "it is not a directory"));
            }
        }
        // Count directories without a claim too: the claim may have been deleted, and its number must not be used
        // again.
        let number = |name: &str| name.strip_suffix(".json").unwrap_or(name).parse().ok();
        let mut numbers: Vec<u32> = names.iter().filter_map(|name| number(name)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    /// Returns the claim of an attempt if it may still be running, as far as the times of files tell.
    pub fn claim_if_alive(&self, attempt: u32) -> Result<Option<Claim>> {
        self.claim_if_alive_by(attempt, &Clock::new(&self.path))
    }

    fn claim_if_alive_by(&self, attempt: u32, clock: &Clock) -> Result<Option<Claim>> {
        self.claim_if(attempt, || {
            let now = clock.now();
            let silence = match owner::silence(&self.status_path(attempt), now)? {
                None => owner::silence(&self.claim_path(attempt), now)?,
                silence => silence,
            };
            Ok(silence.is_some_and(|silence| silence < owner::lost_after()))
        })
    }

    /// Returns the claim of an attempt unless it has ended or this process has seen it unchanged for too long, which is then
    /// recorded as its end.
    pub(super) fn claim_unless_lost(&self, attempt: u32) -> Result<Option<Claim>> {
        let claim =
            self.claim_if(attempt, || Ok(owner::unchanged(&self.status_path(attempt))? < owner::lost_after()))?;
        if claim.is_none() && self.end_of(attempt)?.is_none() {
            attempt::end_attempt(self, attempt, &End::Lost)?;
        }
        Ok(claim)
    }

    /// Returns the claim of an attempt that has not ended, if its process is alive: on this machine by the process table, on
    /// another one by its heartbeat.
    fn claim_if(&self, attempt: u32, has_heartbeat: impl Fn() -> Result<bool>) -> Result<Option<Claim>> {
        if self.end_of(attempt)?.is_some() {
            return Ok(None);
        }
        // If the claim cannot be read, the heartbeat alone decides.
        let claim = self.claim_of(attempt)?;
        let alive = match claim.as_ref().and_then(|claim| claim.owner.is_running_here()) {
            Some(here) => here,
            None => has_heartbeat()?,
        };
        Ok(alive.then(|| claim.unwrap_or_else(Claim::unreadable)))
    }

    /// Watches the latest attempt if times of files tell that it may be lost, until it is known whether it is: for
    /// [`owner::lost_after`] at most. A process that has not watched it cannot claim the run.
    pub fn watch_latest(&self) -> Result<()> {
        let Some(&attempt) = self.attempts()?.last() else { return Ok(()) };
        if self.claim_if_alive(attempt)?.is_some() {
            return Ok(());
        }
        let Some(claim) = self.claim_unless_lost(attempt)? else { return Ok(()) };
        let seconds = owner::lost_after().as_secs();
        tracing::warn!("{} has not ended; watching its heartbeat for {seconds} s before taking over", claim.owner);
        if owner::is_lost(&self.status_path(attempt))? {
            self.claim_unless_lost(attempt)?;
        }
        Ok(())
    }

    /// Returns the claim of an attempt; returns `None` if its file is missing or damaged.
    pub fn claim_of(&self, attempt: u32) -> Result<Option<Claim>> {
        match files::read_sealed(&self.claim_path(attempt)) {
            Err(Error::Damaged { .. }) => Ok(None),
            other => other,
        }
    }

    /// Returns the last lines of the log of an attempt, at most `lines`.
    pub fn log_of(&self, attempt: u32, lines: usize) -> Vec<String> {
        let bytes = fs::read(self.attempt_path(attempt).join(attempt::LOG)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].iter().map(|line| line.to_string()).collect()
    }

    /// Returns how an attempt ended; returns `None` if it is running, or was killed.
    pub fn end_of(&self, attempt: u32) -> Result<Option<End>> {
        match files::read_sealed(&self.attempt_path(attempt).join(attempt::END)) {
            Err(Error::Damaged { .. }) => Ok(None),
            other => other,
        }
    }

    /// Returns true if an attempt ended because it had too little memory of a GPU.
    pub fn ran_out_of_gpu_memory(&self) -> Result<bool> {
        for attempt in self.attempts()? {
            if let Some(End::OutOfGpuMemory { .. }) = self.end_of(attempt)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the path of the record of a failure after which the run was tried again, which has replaced `end.json`.
    pub fn forgiven_path(&self, attempt: u32) -> PathBuf {
        self.attempt_path(attempt).join("end.forgiven.json")
    }

    /// Returns the record of a failure after which the run was tried again; returns `None` if there is none.
    pub fn forgiven_end_of(&self, attempt: u32) -> Result<Option<End>> {
        match files::read_sealed(&self.forgiven_path(attempt)) {
            Err(Error::Damaged { .. }) => Ok(None),
            other => other,
        }
    }

    /// Returns the progress of an attempt; returns `None` if it has not written its status yet.
    pub fn progress_of(&self, attempt: u32) -> Option<Progress> {
        self.status_of(attempt).map(|status| status.progress)
    }

    /// Returns the content of the status file of an attempt; returns `None` if it has not been written yet.
    pub fn status_of(&self, attempt: u32) -> Option<Status> {
        let bytes = files::read_if_exists(&self.status_path(attempt)).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    fn status_path(&self, attempt: u32) -> PathBuf {
        self.attempt_path(attempt).join(attempt::STATUS)
    }

    /// Returns the path of the claim of an attempt.
    pub fn claim_path(&self, attempt: u32) -> PathBuf {
        self.path.join("attempts").join(format!("{attempt}.json"))
    }

    /// Returns the directory of an attempt.
    pub fn attempt_path(&self, attempt: u32) -> PathBuf {
        self.path.join("attempts").join(attempt.to_string())
    }
}
