//! A child process: a worker, or a launcher that starts workers elsewhere.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, getsid, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Split};
use tokio::process::{ChildStderr, Command};
use tokio::time::timeout;

/// The number of lines of standard error that are kept. Error messages of launchers are long.
const MAX_LINES: usize = 60;
/// The time for which standard error is read after the end of the child, which other processes may keep open.
const LAST_WORDS: Duration = Duration::from_secs(1);

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

/// Waits until a child ends. Processes that it left behind, and that keep its standard error open, are killed.
pub(crate) async fn wait(child: Child) -> io::Result<Ended> {
    let Child { mut child, kills_before, .. } = child;
    // `Child::wait` would close its standard input, which makes a worker stop.
    let stdin = child.stdin.take();
    let stderr = child.stderr.take().expect("standard error is piped");
    let pipe = fs::read_link(format!("/proc/self/fd/{}", stderr.as_raw_fd())).unwrap_or_default();
    let mut lines = BufReader::new(stderr).split(b'\n');
    let mut stderr = VecDeque::new();
    let status = tokio::select! {
        () = read_last_lines(&mut lines, &mut stderr) => child.wait().await?,
        status = child.wait() => {
            if timeout(LAST_WORDS, read_last_lines(&mut lines, &mut stderr)).await.is_err() {
                kill_holders(&pipe);
            }
            status?
        }
    };
    let exit = Exit::new(status);
    drop(stdin);
    let memory_ran_out = exit == Exit::Killed(Signal::KILL.as_raw()) && count_oom_kills() > kills_before;
    Ok(Ended { exit, memory_ran_out, stderr: stderr.into() })
}

/// Reads lines until the end, and keeps the last ones.
async fn read_last_lines(lines: &mut Split<BufReader<ChildStderr>>, last: &mut VecDeque<String>) {
    while let Ok(Some(line)) = lines.next_segment().await {
        if last.len() == MAX_LINES {
            last.pop_front();
        }
        last.push_back(String::from_utf8_lossy(&line).into_owned());
    }
}

/// Sends a signal to a child, which may already have ended.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _ = kill_process(pid, signal);
    }
}

/// Kills the processes that write their standard error to a pipe. Those of other sessions stay, such as the master connections
/// of ssh, which other launches use.
fn kill_holders(pipe: &Path) {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    for pid in pids.filter(|&pid| writes_to(pid, pipe) && getsid(Some(pid)) == getsid(None)) {
        tracing::info!("killing process {}, which a launcher left behind", pid.as_raw_nonzero());
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Returns true if the standard error of a process is a pipe.
fn writes_to(pid: Pid, pipe: &Path) -> bool {
    fs::read_link(format!("/proc/{}/fd/2", pid.as_raw_nonzero())).is_ok_and(|target| target == pipe)
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
    fn process_left_behind_with_standard_error_does_not_delay_the_end() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let began = std::time::Instant::now();
        let ended = runtime.block_on(async {
            let mut shell = Command::new("sh");
            shell.args(["-c", "sleep 600 & echo $! >&2; exit 3"]);
            wait(start(shell).unwrap()).await.unwrap()
        });
        assert_eq!(ended.exit, Exit::Code(3));
        assert!(began.elapsed() < Duration::from_secs(60));
        let left = Path::new("/proc").join(&ended.stderr[0]).join("stat");
        // The process may remain as a zombie where nothing collects orphans.
        while fs::read_to_string(&left).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(began.elapsed() < Duration::from_secs(60), "the process was not killed");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn launcher_exit_code_gives_the_signal() {
        assert_eq!(Exit::new(ExitStatus::from_raw(9)), Exit::Killed(9));
        assert_eq!(Exit::new(ExitStatus::from_raw(75 << 8)).decode_signal(), Exit::Code(75));
        assert_eq!(Exit::new(ExitStatus::from_raw(137 << 8)).decode_signal(), Exit::Killed(9));
        assert_eq!(Exit::new(ExitStatus::from_raw(255 << 8)).decode_signal(), Exit::Code(255));
    }
}
