//! Shared parts of tests: made-up stores, sweep files and results, the two programs, clusters and browsers.

pub mod browser;
pub mod cluster;
pub mod faulty_fs;
pub mod made_up;
pub mod simulation;
pub mod slurm_box;
pub mod study;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A sweep of 7 runs that takes seconds: a chain of three tickets, two transfers, the path between them, and a path of the
/// ticket. Each training is long enough to be killed in the middle.
pub const SMALL: &str = "
dataset: digits
architecture: resnet8
ticket: {method: aws, levels: 2, warmup_epochs: 3, epochs: 2}
transfer: {inherit: sign, epochs: 3, seed: 2..3}
connect:
  - {between: seeds, points: 3}
  - {between: norm-init, points: 3}
";

/// Returns three instruction sets: the name, and the environment variables that limit libtorch to it.
pub fn instruction_sets() -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
    let lines = include_str!("../../launch/instruction-sets").lines().filter(|line| !line.starts_with('#'));
    let set = |line: &'static str| {
        let mut words = line.split(' ');
        (words.next().unwrap(), words.map(|limit| limit.split_once('=').unwrap()).collect())
    };
    lines.map(set).collect()
}

/// Returns the path of one of the two programs, as cargo built it for the calling test.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(program.exists(), "{} is missing; help: run the tests of the package `winsign`", program.display());
    program
}

/// A temporary folder with a store and sweep files.
pub struct Workplace {
    folder: TempDir,
}

impl Default for Workplace {
    fn default() -> Workplace {
        Workplace::new()
    }
}

impl Workplace {
    /// Creates a temporary folder.
    pub fn new() -> Workplace {
        Workplace { folder: tempfile::tempdir().unwrap() }
    }

    /// Returns a path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the path of the store.
    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Writes a sweep file, and returns its path.
    pub fn sweep(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Creates the command `winsign COMMAND SWEEP --store …`.
    pub fn winsign(&self, command: &str, sweep: &Path) -> Command {
        let mut winsign = Command::new(program("winsign"));
        winsign.arg(command).arg(sweep).arg("--store").arg(self.store()).env_remove("WINSIGN_LOG");
        winsign
    }

    /// Runs a sweep to its end.
    pub fn run(&self, sweep: &Path) -> Output {
        succeed(&mut self.winsign("run", sweep))
    }

    /// Runs a sweep of which all runs must be done in the end, and returns the number of runs that were computed.
    pub fn run_all(&self, sweep: &Path) -> u64 {
        let summary = json(&succeed(self.winsign("run", sweep).arg("--json")));
        assert_eq!(summary["runs"]["done"], summary["runs"]["total"], "{summary:#}");
        summary["runs"]["computed"].as_u64().unwrap()
    }

    /// Returns the runs of `winsign plan --json`.
    pub fn plan(&self, sweep: &Path) -> Vec<Value> {
        json(&succeed(self.winsign("plan", sweep).arg("--json")))["runs"].as_array().unwrap().clone()
    }

    /// Returns the directory of a run.
    pub fn run_directory(&self, id: &str) -> PathBuf {
        self.store().join("runs").join(&id[..2]).join(id)
    }

    /// Returns the outcome of every run of a sweep, and the digest of its network. These must not depend on how the runs
    /// were executed.
    pub fn outcomes(&self, sweep: &Path) -> BTreeMap<String, (Value, Option<String>)> {
        let ids = self.plan(sweep).into_iter().map(|run| run["id"].as_str().unwrap().to_string());
        ids.map(|id| {
            let result: Value = read_json(&self.run_directory(&id).join("result.json"));
            let digest = result["network"]["digest"].as_str().map(str::to_string);
            (id, (result["outcome"].clone(), digest))
        })
        .collect()
    }

    /// Returns the number of attempts at a run.
    pub fn attempts(&self, id: &str) -> usize {
        let claims = fs::read_dir(self.run_directory(id).join("attempts")).unwrap();
        claims.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "json")).count()
    }

    /// Returns the paths and sizes of all files in the folder.
    pub fn listing(&self) -> Vec<(PathBuf, u64)> {
        let mut found = vec![];
        let mut folders = vec![self.folder.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(entry.path()),
                    false => found.push((entry.path(), entry.metadata().unwrap().len())),
                }
            }
        }
        found.sort();
        found
    }
}

/// Returns the identities of the runs of one kind.
pub fn ids(plan: &[Value], kind: &str) -> Vec<String> {
    plan.iter().filter(|run| run["kind"] == kind).map(|run| run["id"].as_str().unwrap().to_string()).collect()
}

/// Runs a command to its end; panics with its output unless it exits with 0.
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}\n{}\n{}", output.status, stdout(&output), stderr(&output));
    output
}

/// Returns the standard output as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns the standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Parses the standard output as JSON.
pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stdout(output)))
}

/// Reads a JSON file.
pub fn read_json(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

/// Starts a command that the test will interrupt.
pub fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Sends a signal to a process that may have ended meanwhile.
pub fn signal(pid: u32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), signal);
}

/// Waits until `find` returns a value, and returns it; panics after two minutes.
pub fn wait_for<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = find() {
            return value;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "timed out while waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the process numbers of the workers that execute runs of a store.
pub fn find_workers(store: &Path) -> Vec<u32> {
    let store = store.to_string_lossy().into_owned();
    let is_worker = |pid: u32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).into_owned();
        (command.contains("winsign-worker") && command.contains(&store)).then_some(pid)
    };
    let processes = fs::read_dir("/proc").unwrap();
    processes.filter_map(|entry| is_worker(entry.ok()?.file_name().to_str()?.parse().ok()?)).collect()
}
