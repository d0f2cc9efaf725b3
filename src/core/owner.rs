//! Owners of attempts: the processes that execute them, and whether they are alive.
//!
//! On the same machine the process table decides. On another machine the heartbeat does: the owner changes the status
//! file of its attempt every [`heartbeat`]. A process that would take its run over watches that file: only if it does not change
//! for [`lost_after`], by the steady clock of the process that watches, is the owner lost ([`unchanged`]). Times of files only give
//! an estimate ([`silence`]), since on some file systems they come from the clocks of the nodes.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

use super::disk;
use super::error::{Error, Result};
use super::files;

/// The environment variable with the seconds after which an owner on another machine without a heartbeat is lost.
pub const LOST_AFTER: &str = "WINSIGN_LOST_AFTER";
/// These seconds if the variable is not set. Clients of NFS may see a change a minute late.
const DEFAULT_LOST_AFTER: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 90 });

/// The prefix of the names of temporary files from which the time of a file system is read.
const PROBE: &str = ".now.";
/// The environment variable that identifies this machine, for machines that the kernel does not distinguish: virtual
/// machines that are copies of one, or nodes that are simulated on one machine.
pub const MACHINE: &str = "WINSIGN_MACHINE";

/// A stand-in for a machine that cannot be identified.
const UNKNOWN: &str = "unknown";

/// A process, distinguished from every other process on any machine at any time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub host: String,
    pub pid: u32,
    /// The number of clock ticks from the start of the machine to that of the process: distinguishes processes with the
    /// same number.
    started: u64,
    /// The boot of the machine, and the process namespace (of a container) on it, that `pid` belongs to.
    machine: String,
}

impl Owner {
    /// Returns the calling process.
    pub fn this_process() -> Owner {
        let pid = std::process::id();
        Owner { host: host(), pid, started: start_time(pid).unwrap_or(0), machine: machine() }
    }

    /// Returns a stand-in for an unknown owner.
    pub(super) fn unknown() -> Owner {
        Owner { host: UNKNOWN.to_string(), pid: 0, started: 0, machine: String::new() }
    }

    /// Returns a process of another machine.
    #[cfg(test)]
    pub fn elsewhere() -> Owner {
        Owner { host: "node7".to_string(), machine: "another".to_string(), ..Owner::this_process() }
    }

    /// Returns a process of this machine that has ended.
    #[cfg(test)]
    pub fn ended() -> Owner {
        Owner { started: 0, ..Owner::this_process() }
    }

    /// Returns true if the owner runs on this machine, and false if it has ended; returns `None` if it belongs to
    /// another machine, or is hidden from this process.
    pub fn is_running_here(&self) -> Option<bool> {
        if self.machine != machine() || self.machine == UNKNOWN {
            return None;
        }
        match start_time(self.pid) {
            Some(started) => Some(started == self.started),
            // Some machines hide the processes of other users; probing with the null signal still shows whether a
            // process exists.
            None => match Pid::from_raw(self.pid as i32).map(test_kill_process) {
                Some(Err(Errno::PERM)) => None,
                _ => Some(false),
            },
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self.pid {
            // See `Owner::unknown`.
            0 => {
                let seconds = lost_after().as_secs();
                write!(f, "an unknown process (its claim is damaged), until {seconds} s pass without a heartbeat")
            }
            pid => write!(f, "process {pid} on {}", self.host),
        }
    }
}

/// Returns the time without a heartbeat after which an owner on another machine is lost.
pub fn lost_after() -> Duration {
    static SECONDS: LazyLock<Duration> = LazyLock::new(|| {
        let Some(text) = std::env::var_os(LOST_AFTER) else { return DEFAULT_LOST_AFTER };
        match text.to_str().and_then(|text| text.parse().ok()).filter(|seconds| *seconds > 0) {
            Some(seconds) => Duration::from_secs(seconds),
            None => {
                tracing::warn!("{LOST_AFTER}={} is not a number of seconds; using the default", text.display());
                DEFAULT_LOST_AFTER
            }
        }
    });
    *SECONDS
}

/// Returns the interval of heartbeats.
pub fn heartbeat() -> Duration {
    lost_after() / 9
}

/// Returns the name of this machine.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Returns the time since a file was last touched, by the clock of its file system; returns `None` if it does not
/// exist.
pub fn silence(file: &Path, now: SystemTime) -> Result<Option<Duration>> {
    // A touch in the future comes from a clock that was set back; use the distance as the best estimate of its age.
    let age = |touched| now.duration_since(touched).unwrap_or_else(|ahead| ahead.duration());
    Ok(touched(file)?.map(age))
}

/// Returns the time at which a file was last touched, by the clock of its file system; returns `None` if it does not
/// exist.
pub fn touched(file: &Path) -> Result<Option<SystemTime>> {
    let modified = |found: Option<Metadata>| found.map(|metadata| metadata.modified()).transpose();
    disk::metadata(file).and_then(modified).map_err(Error::io("read", file))
}

/// A file that living processes change, as this process last saw it.
#[derive(Clone)]
struct Sighting {
    /// The content and the time of the file. Versions before this one change only the time.
    version: (Option<Vec<u8>>, Option<SystemTime>),
    at: Instant,
    /// The time without a change.
    silence: Duration,
}

/// The last sightings of files that living processes change.
static SEEN: LazyLock<Mutex<HashMap<PathBuf, Sighting>>> = LazyLock::new(Mutex::default);

/// Returns for how long this process has seen a file unchanged, by its own steady clock: no time at the first look. A file that does
/// not exist is unchanged as well. Time between two looks counts up to [`heartbeat`]: if this process, or the file system, stood
/// still for longer, the owner of the file may have been unable to change it.
pub fn unchanged(file: &Path) -> Result<Duration> {
    look(file).map(|(silence, _)| silence)
}

/// Returns the same as [`unchanged`], and whether the file has changed since the last look.
fn look(file: &Path) -> Result<(Duration, bool)> {
    let seen = SEEN.lock().expect("no panic under the lock").get(file).cloned();
    if seen.as_ref().is_some_and(|seen| seen.silence > 2 * heartbeat()) {
        // A client of NFS may still know the file that was there before.
        files::refresh(disk::directory_of(file))?;
    }
    let content = match files::read_if_exists(file) {
        Err(Error::Damaged { .. }) => None,
        other => other?,
    };
    let version = (content, touched(file)?);
    let is_changed = seen.as_ref().is_some_and(|seen| seen.version != version);
    let silence = match seen.filter(|_| !is_changed) {
        Some(seen) => seen.silence + seen.at.elapsed().min(heartbeat()),
        None => Duration::ZERO,
    };
    let sighting = Sighting { version, at: Instant::now(), silence };
    SEEN.lock().expect("no panic under the lock").insert(file.to_path_buf(), sighting);
    Ok((silence, is_changed))
}

/// Watches a file that a living process changes at every heartbeat, and returns true if it does not change for [`lost_after`].
pub fn is_lost(file: &Path) -> Result<bool> {
    unchanged(file)?;
    loop {
        std::thread::sleep(heartbeat() / 5);
        match look(file)? {
            (_, true) => return Ok(false),
            (silence, false) if silence >= lost_after() => return Ok(true),
            _ => {}
        }
    }
}

/// The clock of the file system that holds a directory. It is read once, on first use; from then on the monotonic clock
/// of this machine advances it. So checking thousands of runs creates one file, not thousands.
#[derive(Debug)]
pub struct Clock {
    directory: PathBuf,
    reading: OnceLock<(SystemTime, Instant)>,
}

impl Clock {
    /// Creates a clock for the file system that holds a directory.
    pub fn new(directory: &Path) -> Clock {
        Clock { directory: directory.to_path_buf(), reading: OnceLock::new() }
    }

    /// Returns the current time of the file system.
    pub fn now(&self) -> SystemTime {
        let (then, at) = self.reading.get_or_init(|| (now_on(&self.directory), Instant::now()));
        *then + at.elapsed()
    }
}

/// Returns the time of the file system that holds `directory`, from a file created there; returns the time of this
/// machine if that fails.
fn now_on(directory: &Path) -> SystemTime {
    let probe = directory.join(format!("{PROBE}{}.{}", host(), std::process::id()));
    let time = disk::persist(&probe, || {
        fs::write(&probe, b"")?;
        fs::metadata(&probe)?.modified()
    });
    let _ = disk::remove(&probe);
    time.unwrap_or_else(|_| SystemTime::now())
}

/// Returns true if the name is that of a temporary file for reading the time.
pub fn is_probe(name: &str) -> bool {
    name.starts_with(PROBE)
}

/// Returns the start time of a running process; returns `None` if it does not exist, or is a zombie.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may itself hold blanks and parentheses.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(started)
}

/// Returns the value of [`MACHINE`], or else the boot and the namespace from the kernel.
fn machine() -> String {
    if let Some(named) = std::env::var_os(MACHINE) {
        return named.to_string_lossy().into_owned();
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let namespace = fs::read_link("/proc/self/ns/pid");
    match (boot, namespace) {
        (Ok(boot), Ok(namespace)) => format!("{} {}", boot.trim(), namespace.display()),
        _ => UNKNOWN.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn process_that_ended_is_not_running_even_before_it_is_reaped() {
        assert_eq!(Owner::this_process().is_running_here(), Some(true));
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let owner = Owner { pid: child.id(), started: start_time(child.id()).unwrap(), ..Owner::this_process() };
        assert_eq!(owner.is_running_here(), Some(true));
        child.kill().unwrap();
        while start_time(child.id()).is_some() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(owner.is_running_here(), Some(false), "a zombie is not running");
        child.wait().unwrap();
        assert_eq!(owner.is_running_here(), Some(false));
    }

    #[test]
    fn clock_reads_the_file_system_once_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::new(folder.path());
        let first = clock.now();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        drop(folder);
        let second = clock.now();
        assert!(second >= first && second < first + Duration::from_secs(60));
        // Without a writable directory the clock of this machine is used.
        let nowhere = Clock::new(Path::new("/nonexistent")).now();
        assert!(SystemTime::now().duration_since(nowhere).unwrap() < Duration::from_secs(60));
    }

    /// After a cut of the network of the store, the one that watches may be the first to look again.
    #[test]
    fn time_in_which_nobody_could_look_or_change_a_file_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("status");
        fs::write(&file, "1").unwrap();
        assert_eq!(unchanged(&file).unwrap(), Duration::ZERO);
        std::thread::sleep(lost_after());
        assert!(unchanged(&file).unwrap() <= heartbeat());
        assert!(is_lost(&file).unwrap());
    }

    /// As in the heartbeats of earlier versions.
    #[test]
    fn file_whose_time_alone_changes_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("status");
        fs::write(&file, "1").unwrap();
        let began = SystemTime::now();
        let lost = std::thread::scope(|scope| {
            let watching = scope.spawn(|| is_lost(&file).unwrap());
            for beat in 1..=9 {
                std::thread::sleep(heartbeat());
                let opened = fs::File::options().append(true).open(&file).unwrap();
                opened.set_modified(began + Duration::from_secs(beat)).unwrap();
            }
            watching.join().unwrap()
        });
        assert!(!lost);
    }

    #[test]
    fn process_with_a_reused_number_is_another_owner() {
        let this = Owner::this_process();
        let earlier = Owner { started: this.started - 1, ..this };
        assert_eq!(earlier.is_running_here(), Some(false));
        assert_eq!(Owner::elsewhere().is_running_here(), None);
    }
}
