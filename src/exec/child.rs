//! A child process: a worker, or a launcher that starts workers elsewhere.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// The number of lines of standard error that are kept. Error messages of launchers are long.
const MAX_LINES: usize = 60;

/// A child process that has been started.
pub(crate) struct Child {
    child: tokio::process::Child,
    pub pid: u32,
    /// The number of out-of-memory kills on this machine before the start.
    kills_before: Option<u64>,
}

/// The outcome of a child process.
pub(crate) struct Ended {
    pub exit: Exit,
    /// True if the child was killed, and the machine has meanwhile killed a process for lack of memory: this one or another.
    pub memory_ran_out: bool,
    /// The last lines of the child's standard error.
    pub stderr: Vec<String>,
}

/// The exit status of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(u8),
    /// The signal that killed the process.
    Killed(i32),
}

impl Exit {
    /// Describes the exit as a part of a sentence.
    pub(crate) fn describe(self) -> String {
        match self {
            Exit::Code(code) => format!("exited with code {code}"),
            Exit::Killed(signal) => format!("was killed by signal {signal}"),
        }
    }
}

/// Starts a child. Its standard input stays open until this process exits. It is in a process group of its own, so that
/// Ctrl-C in the terminal does not reach it directly.
pub(crate) fn start(mut command: Command) -> io::Result<Child> {
    let kills_before = count_oom_kills();
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
        if stderr.len() == MAX_LINES {
            stderr.pop_front();
        }
        stderr.push_back(String::from_utf8_lossy(&line).into_owned());
    }
    let exit = Exit::new(child.wait().await?);
    drop(stdin);
    let memory_ran_out = exit == Exit::Killed(Signal::KILL.as_raw()) && count_oom_kills() > kills_before;
    Ok(Ended { exit, memory_ran_out, stderr: stderr.into() })
}

/// Sends a signal to a child, which may already have ended.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _ = kill_process(pid, signal);
    }
}

impl Exit {
    fn new(status: ExitStatus) -> Exit {
        match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code as u8),
            (None, signal) => Exit::Killed(signal.unwrap_or_default()),
        }
    }

    /// Returns the exit of the process that a launcher started: like shells, launchers exit with 128 plus the number of the
    /// signal that killed it.
    pub(crate) fn decode_signal(self) -> Exit {
        match self {
            Exit::Code(code @ 129..=192) => Exit::Killed(i32::from(code) - 128),
            other => other,
        }
    }
}

/// Returns the number of out-of-memory kills on this machine; returns `None` if it is unknown.
fn count_oom_kills() -> Option<u64> {
    parse_oom_kills(&fs::read_to_string("/proc/vmstat").ok()?)
}

fn parse_oom_kills(vmstat: &str) -> Option<u64> {
    vmstat.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oom_kills_are_read_from_the_kernel() {
        assert_eq!(parse_oom_kills("nr_free_pages 17\noom_kill 3\ndrop_slab 0\n"), Some(3));
        assert_eq!(parse_oom_kills("nr_free_pages 17\n"), None);
        // A count that appears is a kill; a machine without a count has none.
        assert!(Some(1) > None && Some(4) > Some(3) && None <= None::<u64>);
    }

    #[test]
    fn launcher_exit_code_gives_the_signal() {
        assert_eq!(Exit::new(ExitStatus::from_raw(9)), Exit::Killed(9));
        assert_eq!(Exit::new(ExitStatus::from_raw(75 << 8)).decode_signal(), Exit::Code(75));
        assert_eq!(Exit::new(ExitStatus::from_raw(137 << 8)).decode_signal(), Exit::Killed(9));
        assert_eq!(Exit::new(ExitStatus::from_raw(255 << 8)).decode_signal(), Exit::Code(255));
    }
}
