//! The local executor: a worker process on this machine.

use std::collections::VecDeque;
use std::io;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::Options;
use crate::run::RunDirectory;

/// Lines of a worker's standard error that are kept.
const KEPT_LINES: usize = 20;

/// A worker that has been started.
pub struct Worker {
    child: tokio::process::Child,
    pub pid: u32,
}

/// How a worker ended.
pub struct Ended {
    pub status: ExitStatus,
    /// The last lines of its standard error.
    pub stderr: Vec<String>,
}

/// Starts a worker on one run. It stops by itself, with a checkpoint, when this process dies: its standard input is
/// then closed. It gets a process group of its own, so that Ctrl-C at the terminal reaches it only through us.
pub fn start(options: &Options, run: &RunDirectory, launch: &str) -> io::Result<Worker> {
    let threads = options.threads.to_string();
    let child = Command::new(&options.worker)
        .args(["--alone", "--threads", &threads, "--stop-with-stdin"])
        .args(["--launch", launch])
        .arg("--data")
        .arg(&options.data)
        .arg("--")
        .arg(&run.path)
        .env("OMP_NUM_THREADS", &threads)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let pid = child.id().expect("a child just started has not been waited for");
    Ok(Worker { child, pid })
}

/// Waits until a worker ends.
pub async fn wait(worker: Worker) -> io::Result<Ended> {
    let Worker { mut child, .. } = worker;
    // `Child::wait` would close the worker's standard input, which tells it to stop.
    let stdin = child.stdin.take();
    let mut lines = BufReader::new(child.stderr.take().expect("standard error is piped")).split(b'\n');
    let mut stderr = VecDeque::new();
    while let Ok(Some(line)) = lines.next_segment().await {
        if stderr.len() == KEPT_LINES {
            stderr.pop_front();
        }
        stderr.push_back(String::from_utf8_lossy(&line).into_owned());
    }
    let status = child.wait().await?;
    drop(stdin);
    Ok(Ended { status, stderr: stderr.into() })
}
