//! A study on a simulated cluster: `winsign submit` and `winsign task` are the real programs, Slurm and the workers are
//! stand-ins, and the store counts and delays the calls of its users. All parts are processes of this machine.

mod slurm;
mod store;
mod worker;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use serde::Serialize;
use winsign_core::attempt::End;
use winsign_core::{RunDirectory, Store, parallel};
use winsign_sweep::plan::build::build;

use crate::succeed;
use slurm::Slurm;
use store::{Counts, SharedStore};

/// If this program was started as one of the stand-ins, acts as that and returns its exit code. Programs that use
/// [`Simulation`] call this first.
pub fn act_as_stand_in() -> Option<ExitCode> {
    let mut arguments = std::env::args();
    let program = PathBuf::from(arguments.next()?);
    let arguments: Vec<String> = arguments.collect();
    let name = program.file_name().and_then(OsStr::to_str)?;
    if name == "winsign-worker" {
        return Some(worker::main(&arguments).into());
    }
    slurm::COMMANDS.contains(&name).then(|| slurm::call(name, &arguments).into())
}

/// A study to simulate.
#[derive(Debug, Clone, Copy)]
pub struct Simulation<'a> {
    pub winsign: &'a Path,
    /// The number of chains of tickets. Each has [`RUNS_PER_CHAIN`] runs.
    pub chains: u32,
    pub nodes: u32,
    /// The number of runs of a task.
    pub pack: u32,
    /// The seconds of a run.
    pub seconds: f64,
    /// The time that each call with a path in the store takes longer.
    pub delay: Duration,
    /// The percentage of runs whose first attempt fails.
    pub failures: u32,
    /// The percentage of tasks that are preempted once.
    pub preemptions: u64,
}

/// The runs of a chain: three tickets, ten transfers and twenty paths.
pub const RUNS_PER_CHAIN: u32 = 33;

/// The outcome of a simulation in which all runs were done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    pub runs: u64,
    /// The number of tasks that were started.
    pub tasks: u64,
    pub seconds_of_submit: f64,
    /// The seconds from the start of `winsign submit` to the end of the last task.
    pub seconds: f64,
    /// The processor time of all processes but this one.
    pub processor_seconds: f64,
    /// The number of calls of each command of Slurm.
    pub requests: BTreeMap<String, u64>,
    /// The number of calls of each kind with paths in the store, by `winsign submit` and by all tasks.
    pub calls_of_submit: BTreeMap<&'static str, u64>,
    pub calls: BTreeMap<&'static str, u64>,
    /// The number of bytes that all tasks read from files in the store.
    pub bytes_read: u64,
    pub preempted_tasks: u64,
    /// The number of attempts that failed, and of those that were interrupted by preemption.
    pub failed_attempts: u64,
    pub interrupted_attempts: u64,
}

impl Outcome {
    pub fn requests_per_run(&self) -> f64 {
        self.requests.values().sum::<u64>() as f64 / self.runs as f64
    }

    pub fn bytes_read_per_run(&self) -> f64 {
        self.bytes_read as f64 / self.runs as f64
    }

    /// Returns the calls of tasks with paths in the store for each run.
    pub fn calls_per_run(&self) -> f64 {
        self.calls.values().sum::<u64>() as f64 / self.runs as f64
    }
}

impl Simulation<'_> {
    /// Submits the study, waits for the end of its tasks, and checks the attempts at every run.
    pub fn run(&self, folder: &Path) -> Outcome {
        let folder = &folder.canonicalize().unwrap();
        let (sweep, profile, root) = (folder.join("study.yaml"), folder.join("profile.yaml"), folder.join("store"));
        fs::write(&sweep, self.sweep()).unwrap();
        fs::write(&profile, format!("pack: {}\ntime: 1-0\n", self.pack)).unwrap();
        let store = SharedStore::new(folder, &root, self.delay);
        let [by_submit, by_tasks] =
            ["submit", "tasks"].map(|users| Counts::new(folder.join(format!("calls of {users}"))));
        let slurm = Slurm::start(&folder.join("slurm"), self.settings(&store.variables(&by_tasks)));

        let mut submit = Command::new(self.winsign);
        submit.args(["submit", "--worker"]).arg(std::env::current_exe().unwrap()).arg(&sweep);
        submit.arg("--store").arg(&root).arg("--profile").arg(&profile);
        submit.envs(slurm.variables()).envs(store.variables(&by_submit));
        let (began, processor_seconds) = (Instant::now(), processor_seconds_of_children());
        succeed(&mut submit);
        let seconds_of_submit = began.elapsed().as_secs_f64();
        slurm.wait_until_idle();
        let seconds = began.elapsed().as_secs_f64();
        let processor_seconds = processor_seconds_of_children() - processor_seconds;

        let runs = build(&winsign_sweep::read(&sweep).unwrap()).runs;
        let store_of_runs = Store::open(&root).unwrap();
        let attempts = parallel::map(&runs, |planned| Attempts::of(&store_of_runs.run(&planned.run.id)));
        for (planned, attempts) in runs.iter().zip(&attempts) {
            attempts.check(worker::is_chosen(&planned.run.id, self.failures), &planned.label.to_string());
        }
        let (tasks, preempted_tasks) = slurm.started_and_preempted();
        Outcome {
            runs: runs.len() as u64,
            tasks,
            seconds_of_submit,
            seconds,
            processor_seconds,
            requests: slurm.requests(),
            calls_of_submit: by_submit.calls(),
            calls: by_tasks.calls(),
            bytes_read: by_tasks.bytes_read(),
            preempted_tasks,
            failed_attempts: attempts.iter().map(|attempts| attempts.failed).sum(),
            interrupted_attempts: attempts.iter().map(|attempts| attempts.interrupted).sum(),
        }
    }

    fn sweep(&self) -> String {
        let chains = self.chains;
        format!(
            "name: simulated\ndataset: digits\narchitecture: resnet8\nticket: {{method: aws, levels: 2, seed: 1..{chains}}}\n\
             transfer: {{level: last, inherit: [sign, mask], seed: 2..6}}\nconnect: {{between: seeds, points: 3}}\n\
             resources: {{retries: 1}}\n"
        )
    }

    fn settings(&self, variables: &[(&'static str, String)]) -> slurm::Settings {
        let mut variables = variables.to_vec();
        variables.push((worker::SECONDS, self.seconds.to_string()));
        variables.push((worker::FAILURES, self.failures.to_string()));
        slurm::Settings {
            nodes: self.nodes,
            preemptions: self.preemptions,
            preempted_within: Duration::from_secs_f64(self.seconds * f64::from(self.pack)),
            variables,
        }
    }
}

/// Returns the processor time of all children that have ended, and of their children.
fn processor_seconds_of_children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // The second field is the name of the program in parentheses.
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    let ticks: f64 = fields[13..15].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum();
    // Linux counts them in hundredths of a second.
    ticks / 100.0
}

/// The number of attempts at a run, by their ends.
struct Attempts {
    finished: u64,
    failed: u64,
    interrupted: u64,
    /// Attempts without a recorded end.
    lost: u64,
    is_done: bool,
}

impl Attempts {
    fn of(run: &RunDirectory) -> Attempts {
        let is_done = run.result().unwrap().is_some();
        let mut attempts = Attempts { finished: 0, failed: 0, interrupted: 0, lost: 0, is_done };
        for attempt in run.attempts().unwrap() {
            // The dispatcher renames the record of a failure that it retries.
            let was_retried = run.attempt_path(attempt).join("end.forgiven.json").exists();
            match run.end_of(attempt).unwrap() {
                Some(End::Finished) => attempts.finished += 1,
                Some(End::Failed { .. } | End::OutOfGpuMemory { .. }) => attempts.failed += 1,
                Some(End::Interrupted) if was_retried => attempts.failed += 1,
                Some(End::Interrupted) => attempts.interrupted += 1,
                Some(End::Lost) | None => attempts.lost += 1,
            }
        }
        attempts
    }

    /// Checks that a run was computed exactly once, and failed first if it was chosen to fail.
    fn check(&self, fails: bool, label: &str) {
        let counts = (self.is_done, self.finished, self.failed, self.lost);
        assert_eq!(counts, (true, 1, u64::from(fails), 0), "{label}: done, finished, failed, lost");
    }
}
