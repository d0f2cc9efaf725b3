//! A child process: a worker, or a launcher that starts workers elsewhere.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// The number of lines of standard error that are kept. Errors of launchers are long.
const KEPT_LINES: usize = 60;

/// A child that has been started.
pub(crate) struct Child {
    child: tokio::process::Child,
    pub pid: u32,
    /// The number of out-of-memory kills on this machine before the start.
    kills_before: Option<u64>,
}

/// The outcome of a child.
pub(crate) struct Ended {
    pub exit: Exit,
    /// Whether the machine has killed a process for lack of memory meanwhile: this child, or another.
    pub memory_ran_out: bool,
    /// The last lines of its standard error.
    pub stderr: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(u8),
    /// Killed by this signal.
    Killed(i32),
}

/// Starts a child. Its standard input stays open until this process exits. It has a separate process group, so that Ctrl-C in
/// the terminal does not reach it directly.
pub(crate) fn start(mut command: Command) -> io::Result<Child> {
    let kills_before = kills_for_memory();
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0).spawn()?;
    let pid = child.id().expect("a child just started has not been waited for");
    Ok(Child { child, pid, kills_before })
}

/// Waits until a child ends.
pub(crate) async fn wait(child: Child) -> io::Result<Ended> {
    let Child { mut child, kills_before, .. } = child;
    // `Child::wait` would close its standard input, which makes a worker stop.
    let stdin = child.stdin.take();
    let mut lines = BufReader::new(child.stderr.take().expect("standard error is piped")).split(b'\n');
    let mut stderr = VecDeque::new();
    while let Ok(Some(line)) = lines.next_segment().await {
        if stderr.len() == KEPT_LINES {
            stderr.pop_front();
        }
        stderr.push_back(String::from_utf8_lossy(&line).into_owned());
    }
    let exit = Exit::of(child.wait().await?);
    drop(stdin);
    let memory_ran_out = exit == Exit::Killed(Signal::KILL.as_raw()) && kills_for_memory() > kills_before;
    Ok(Ended { exit, memory_ran_out, stderr: stderr.into() })
}

/// Sends a signal to a child, which may already have ended.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _ = kill_process(pid, signal);
    }
}

impl Exit {
    fn of(status: ExitStatus) -> Exit {
        match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code as u8),
            (None, signal) => Exit::Killed(signal.unwrap_or_default()),
        }
    }

    /// Converts the exit of a launcher: like shells, launchers exit with 128 plus the signal that killed their process.
    pub(crate) fn of_launched(self) -> Exit {
        match self {
            Exit::Code(code @ 129..=192) => Exit::Killed(i32::from(code) - 128),
            other => other,
        }
    }
}

/// Returns the number of out-of-memory kills on this machine, or `None` if it is unknown.
fn kills_for_memory() -> Option<u64> {
    counted(&fs::read_to_string("/proc/vmstat").ok()?)
}

fn counted(vmstat: &str) -> Option<u64> {
    vmstat.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_for_lack_of_memory_are_counted_by_the_kernel() {
        assert_eq!(counted("nr_free_pages 17\noom_kill 3\ndrop_slab 0\n"), Some(3));
        assert_eq!(counted("nr_free_pages 17\n"), None);
        // A machine that has begun to count has counted a kill; one that does not count has not.
        assert!(Some(1) > None && Some(4) > Some(3) && None <= None::<u64>);
    }

    #[test]
    fn launcher_exit_code_gives_the_signal() {
        assert_eq!(Exit::of(ExitStatus::from_raw(9)), Exit::Killed(9));
        assert_eq!(Exit::of(ExitStatus::from_raw(75 << 8)).of_launched(), Exit::Code(75));
        assert_eq!(Exit::of(ExitStatus::from_raw(137 << 8)).of_launched(), Exit::Killed(9));
        assert_eq!(Exit::of(ExitStatus::from_raw(255 << 8)).of_launched(), Exit::Code(255));
    }
}
