//! Who executes an attempt, and whether it is still alive.
//!
//! On the same machine the process table knows. From another machine only the heartbeat tells: the attempt's owner
//! touches its status file every [`HEARTBEAT`], and after [`SILENCE`] without a touch it counts as dead. Clocks of
//! different nodes are never compared: "now" is what the shared file system says it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

/// How often a living attempt touches its status file.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// After how long without a touch an attempt on another machine counts as dead.
pub const SILENCE: Duration = Duration::from_secs(90);

/// How the names of files begin that live for an instant, to ask the file system's time.
const PROBE: &str = ".now.";
/// The name of a variable of the environment that says which machine this is, where the kernel says the same on several: in
/// virtual machines that are copies of one, or on nodes that are played on one machine.
pub const MACHINE: &str = "WINSIGN_MACHINE";

/// Stands for a machine that does not say who it is.
const UNKNOWN: &str = "unknown";

/// A process, told apart from every other process on any machine at any time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub host: String,
    pub pid: u32,
    /// Clock ticks between the machine's start and the process's: tells reused process numbers apart.
    started: u64,
    /// Which start of the machine, and which process namespace (of a container) on it, `pid` belongs to.
    machine: String,
}

impl Owner {
    /// The calling process.
    pub fn this_process() -> Owner {
        let pid = std::process::id();
        Owner { host: host(), pid, started: start_of(pid).unwrap_or(0), machine: machine() }
    }

    /// Stands for an owner nothing is known of.
    pub(super) fn unknown() -> Owner {
        Owner { host: UNKNOWN.to_string(), pid: 0, started: 0, machine: String::new() }
    }

    /// A process of another machine.
    #[cfg(test)]
    pub fn elsewhere() -> Owner {
        Owner { host: "node7".to_string(), machine: "another".to_string(), ..Owner::this_process() }
    }

    /// A process of this machine that has ended.
    #[cfg(test)]
    pub fn dead() -> Owner {
        Owner { started: 0, ..Owner::this_process() }
    }

    /// What the process table of this machine knows; none if the owner lives elsewhere, or if it is hidden from us.
    pub fn is_running_here(&self) -> Option<bool> {
        if self.machine != machine() || self.machine == UNKNOWN {
            return None;
        }
        match start_of(self.pid) {
            Some(started) => Some(started == self.started),
            // Some machines hide the processes of other users; a signal that is not sent still tells them from none.
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
                let seconds = SILENCE.as_secs();
                write!(f, "somebody whose claim is damaged; without a sign of life it is free after {seconds} s")
            }
            pid => write!(f, "process {pid} on {}", self.host),
        }
    }
}

/// The name of this machine.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// How long ago a file was last touched, by the clock of the file system it lies on; none if it does not exist.
pub fn silence(file: &Path, now: SystemTime) -> Option<Duration> {
    let touched = touched(file)?;
    // A touch in the future is from a clock that was set back, and as old as we can know.
    Some(now.duration_since(touched).unwrap_or_else(|ahead| ahead.duration()))
}

/// When a file was last touched, by the clock of the file system it lies on; none if it does not exist.
pub fn touched(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}

/// The clock of the file system that holds a directory. It is asked once, when somebody first wants to know; from then on
/// this machine's steady clock counts on: so a look at thousands of runs makes one file, not thousands.
#[derive(Debug)]
pub struct Clock {
    directory: PathBuf,
    asked: OnceLock<(SystemTime, Instant)>,
}

impl Clock {
    pub fn of(directory: &Path) -> Clock {
        Clock { directory: directory.to_path_buf(), asked: OnceLock::new() }
    }

    pub fn now(&self) -> SystemTime {
        let (then, at) = self.asked.get_or_init(|| (now_on(&self.directory), Instant::now()));
        *then + at.elapsed()
    }
}

/// The time on the file system that holds `directory`, read off a file made there; this machine's where that fails.
fn now_on(directory: &Path) -> SystemTime {
    let probe = directory.join(format!("{PROBE}{}.{}", host(), std::process::id()));
    let time = fs::write(&probe, b"").and_then(|()| fs::metadata(&probe)?.modified());
    let _ = fs::remove_file(&probe);
    time.unwrap_or_else(|_| SystemTime::now())
}

/// Whether a file of this name was made to ask for the time.
pub fn is_probe(name: &str) -> bool {
    name.starts_with(PROBE)
}

/// When a living process started; none if there is no such process, or if it has ended and only waits to be reaped.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may itself hold blanks and parentheses.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(started)
}

/// [`MACHINE`], or what the kernel says.
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
    fn a_process_is_alive_until_it_ends_even_before_it_is_reaped() {
        assert_eq!(Owner::this_process().is_running_here(), Some(true));
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let owner = Owner { pid: child.id(), started: start_of(child.id()).unwrap(), ..Owner::this_process() };
        assert_eq!(owner.is_running_here(), Some(true));
        child.kill().unwrap();
        while start_of(child.id()).is_some() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(owner.is_running_here(), Some(false), "a zombie is dead");
        child.wait().unwrap();
        assert_eq!(owner.is_running_here(), Some(false));
    }

    #[test]
    fn the_clock_of_a_file_system_is_asked_once_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::of(folder.path());
        let first = clock.now();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        drop(folder);
        let second = clock.now();
        assert!(second >= first && second < first + Duration::from_secs(60));
        // Where nothing can be written this machine's clock has to do.
        let nowhere = Clock::of(Path::new("/nonexistent")).now();
        assert!(SystemTime::now().duration_since(nowhere).unwrap() < Duration::from_secs(60));
    }

    #[test]
    fn a_reused_process_number_is_somebody_else() {
        let this = Owner::this_process();
        let earlier = Owner { started: this.started - 1, ..this };
        assert_eq!(earlier.is_running_here(), Some(false));
        assert_eq!(Owner::elsewhere().is_running_here(), None);
    }
}
