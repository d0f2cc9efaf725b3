//! `winsign status` on made-up stores: with runs of other machines, failed runs, and clocks that differ.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::{Value, json};
use winsign_core::attempt::{End, Progress, Status};
use winsign_core::directory::FORMAT;
use winsign_core::files::seal;
use winsign_core::results::{GpuUtilization, Outcome, Processors, RunResult, TransferOutcome, Usage};
use winsign_core::{RunDirectory, Store};
use winsign_sweep::plan::build::build;
use winsign_sweep::plan::{Plan, PlannedRun};
use winsign_testkit::{Workplace, json, stderr, stdout, succeed, wait_for};

/// Ten dense networks with ten epochs and no inputs, and two tickets, one of which is the other's input.
const SWEEP: &str = "\
name: made-up
dataset: digits
architecture: resnet8
ticket: {method: lrr, levels: 1, warmup_epochs: 10, epochs: 10}
transfer: {inherit: dense, epochs: 10, seed: 1..10}
";

/// A sweep, and a store in which a test sets the states of its runs.
struct Study {
    workplace: Workplace,
    sweep: PathBuf,
    plan: Plan,
    store: Store,
}

impl Study {
    fn new() -> Study {
        let workplace = Workplace::new();
        let sweep = workplace.sweep("made-up.yaml", SWEEP);
        let plan = build(&winsign_sweep::read(&sweep).unwrap());
        let store = Store::create(&workplace.store()).unwrap();
        Study { workplace, sweep, plan, store }
    }

    fn ticket(&self, level: usize) -> RunDirectory {
        self.prepare(&self.plan.runs[level])
    }

    fn network(&self, index: usize) -> RunDirectory {
        self.prepare(&self.plan.runs[2 + index])
    }

    fn prepare(&self, planned: &PlannedRun) -> RunDirectory {
        let directory = self.store.run(&planned.run.id);
        directory.prepare(&planned.run, &planned.label.to_string()).unwrap();
        directory
    }

    fn status(&self, arguments: &[&str]) -> Command {
        let mut status = self.workplace.winsign("status", &self.sweep);
        status.args(arguments);
        status
    }

    fn describe(&self) -> Value {
        json(&succeed(&mut self.status(&["--json", "--all"])))
    }

    fn text(&self) -> String {
        stdout(&succeed(&mut self.status(&[])))
    }

    /// Finishes all runs except these.
    fn finish_all_except(&self, unfinished: &[&RunDirectory]) {
        for planned in &self.plan.runs {
            if unfinished.iter().all(|run| run.id != planned.run.id) {
                commit(&self.prepare(planned), 60.0, "node1", None, 30);
            }
        }
    }
}

fn ago(seconds: u64) -> SystemTime {
    SystemTime::now() - Duration::from_secs(seconds)
}

fn touch(path: &Path, time: SystemTime) {
    File::open(path).unwrap().set_modified(time).unwrap();
}

fn write(path: &Path, bytes: &[u8], time: SystemTime) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    touch(path, time);
}

fn result(run: &RunDirectory, seconds: f64, host: &str, usage: Option<Usage>) -> RunResult {
    let outcome = TransferOutcome { remaining_ratio: 1.0, test_error: 2.0, test_loss: 0.1 };
    RunResult {
        format: FORMAT,
        id: run.id.clone(),
        attempt: 1,
        outcome: Outcome::Transfer(outcome),
        network: None,
        metrics: None,
        data: None,
        seconds,
        host: host.to_string(),
        processors: Processors { ranks: 1, threads: 1 },
        usage,
        finished: jiff::Timestamp::now(),
    }
}

fn commit(run: &RunDirectory, seconds: f64, host: &str, usage: Option<Usage>, seconds_ago: u64) {
    write(&run.result_path(), &seal(&result(run, seconds, host, usage)), ago(seconds_ago));
}

/// Writes the claim of a process on another machine.
fn begin(run: &RunDirectory, attempt: u32, host: &str, seconds_ago: u64) {
    let owner = json!({"host": host, "pid": 17, "started": 1, "machine": "another"});
    // The clock of the other machine is a day behind.
    let claim = json!({"owner": owner, "began": jiff::Timestamp::now() - Duration::from_secs(86_400), "version": "0"});
    write(&run.claim_path(attempt), &seal(&claim), ago(seconds_ago));
}

fn write_heartbeat(run: &RunDirectory, attempt: u32, done: u32, seconds_ago: u64) {
    write_heartbeat_with_gpus(run, attempt, done, None, seconds_ago);
}

fn write_heartbeat_with_gpus(
    run: &RunDirectory,
    attempt: u32,
    done: u32,
    gpu_utilization: Option<GpuUtilization>,
    seconds_ago: u64,
) {
    let mut status = Status::new(Progress { done, total: 10, test_error: Some(12.5) });
    status.gpu_utilization = gpu_utilization;
    let path = run.attempt_path(attempt).join("status.json");
    write(&path, &serde_json::to_vec(&status).unwrap(), ago(seconds_ago));
}

fn utilization(gpus: u32, mean: f64, last_minute: Option<f64>) -> GpuUtilization {
    GpuUtilization { gpus, mean: Some(mean), lowest: Some(mean - 5.0), last_minute, peak_memory: Some(12_000_000_000) }
}

fn fail(run: &RunDirectory, attempt: u32, host: &str, message: &str, log: &str, seconds_ago: u64) {
    begin(run, attempt, host, seconds_ago + 60);
    write(&run.attempt_path(attempt).join("log"), log.as_bytes(), ago(seconds_ago));
    let end = seal(&End::Failed { message: message.to_string() });
    write(&run.attempt_path(attempt).join("end.json"), &end, ago(seconds_ago));
}

fn usage(peak_memory: u64, gpus: f64) -> Option<Usage> {
    let gpu_peak_memory = (gpus > 0.0).then_some(peak_memory * 10);
    Some(Usage { peak_memory: Some(peak_memory), gpus, gpu_peak_memory, ..Usage::default() })
}

fn is_near(value: &Value, expected: f64, tolerance: f64) -> bool {
    value.as_f64().is_some_and(|value| (value - expected).abs() <= tolerance)
}

#[test]
fn status_of_a_sweep_on_many_machines_is_complete() {
    let study = Study::new();
    commit(&study.network(0), 1800.0, "node1", usage(400_000_000, 2.0), 600);
    commit(&study.network(1), 900.0, "node2", usage(1_500_000_000, 0.25), 300);
    for (index, host, done) in [(2, "node1", 5), (3, "node2", 2), (4, "node2", 0)] {
        begin(&study.network(index), 1, host, 300);
        write_heartbeat(&study.network(index), 1, done, 5);
    }
    fail(&study.network(5), 1, "node3", "the loss became NaN", "older\n", 500);
    let log: String = (1..=9).map(|line| format!("line {line}\n")).collect();
    fail(&study.network(6), 3, "node4", "out of memory", &log, 100);
    fail(&study.ticket(0), 1, "node5", "no data", "", 900);

    let status = study.describe();
    let runs = json!({"total": 12, "done": 2, "running": 3, "queued": 0, "failed": 3, "blocked": 1, "pending": 3});
    assert_eq!(status["runs"], runs);
    let stages: Vec<&Value> = status["stages"].as_array().unwrap().iter().collect();
    assert_eq!((stages[0]["stage"].as_str(), stages[1]["stage"].as_str()), (Some("lrr tickets"), Some("dense")));
    assert_eq!((&stages[0]["runs"]["blocked"], &stages[1]["runs"]["running"]), (&json!(1), &json!(3)));
    assert_eq!(status["hosts"], json!([{"host": "node2", "runs": 2}, {"host": "node1", "runs": 1}]));

    let so_far = &status["so_far"];
    assert_eq!(so_far["hours"], 0.75);
    assert_eq!(so_far["gpu_hours"], 1.0 + 0.0625);
    assert_eq!(
        (&so_far["peak_memory"], &so_far["gpu_peak_memory"]),
        (&json!(1_500_000_000), &json!(15_000_000_000u64))
    );

    // There were 27 epochs in the 2400 s since the first of these runs began. 53 are left: 5, 8 and 10, and 3 runs of 10.
    assert!(is_near(&status["pace"]["over_seconds"], 2400.0, 5.0), "{status:#}");
    assert!(is_near(&status["pace"]["runs_per_hour"], 3.0, 0.1), "{status:#}");
    assert!(is_near(&status["pace"]["epochs_per_hour"], 40.5, 0.5), "{status:#}");
    assert!(is_near(&status["seconds_left"], 53.0 / 27.0 * 2400.0, 60.0), "{status:#}");

    let running = status["running"].as_array().unwrap();
    assert_eq!((&running[0]["host"], &running[0]["progress"]["done"]), (&json!("node1"), &json!(5)));
    assert!(is_near(&running[0]["age"], 300.0, 10.0));
    let failed = status["failed"].as_array().unwrap();
    let hosts: Vec<&Value> = failed.iter().map(|run| &run["host"]).collect();
    assert_eq!(hosts, ["node4", "node3", "node5"], "the latest first");
    assert_eq!((&failed[0]["attempts"], &failed[0]["note"]), (&json!(3), &json!("out of memory")));
    assert_eq!(failed[0]["log_end"], json!(["line 5", "line 6", "line 7", "line 8", "line 9"]));

    let all = status["all"].as_array().unwrap();
    assert_eq!(all.len(), 12);
    let row = |run: RunDirectory| all.iter().find(|row| row["id"] == run.id.as_str()).unwrap();
    let done = row(study.network(0));
    assert_eq!((&done["state"], &done["host"], &done["attempts"]), (&json!("done"), &json!("node1"), &json!(1)));
    assert_eq!((&done["seconds"], &done["gpu_hours"]), (&json!(1800.0), &json!(1.0)));
    assert_eq!(row(study.network(9))["host"], Value::Null);
    assert_eq!(row(study.network(9))["attempts"], 0);

    let text = study.text();
    for part in [
        "2 done, 3 running, 3 failed, 1 blocked, 3 pending",
        "pace: 3 runs and 40.5 epochs per hour, over 40 min; about ",
        " min left",
        "so far: 45 min of run time, 1.06 GPU-hours; at most 1.5 GB of memory, 15.0 GB of a GPU",
        "active hosts: node2 (2), node1 (1)",
        "on node4: out of memory\n    line 5\n",
        "5 of 10 epochs done, test error 12.5 %, for 5 min",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let list = stdout(&succeed(&mut study.status(&["--all"])));
    assert!(list.contains("30 min") && list.contains("400 MB"), "{list}");
    let show = |run: &RunDirectory, more: &[&str]| {
        let mut show = Command::new(env!("CARGO_BIN_EXE_winsign"));
        show.args(["show", run.id.as_str(), "--store"]).arg(study.workplace.store()).args(more);
        stdout(&succeed(&mut show))
    };
    let text = show(&study.network(0), &[]);
    for part in
        ["host: node1", "wall time: 30 min", "peak memory: 400 MB", "GPU-hours: 1\n", "peak memory of a GPU: 4.0"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let tried = study.network(6);
    begin(&tried, 1, "node1", 1000);
    write_heartbeat(&tried, 1, 2, 280);
    begin(&tried, 2, "node2", 270);
    write_heartbeat(&tried, 2, 2, 250);
    write(&tried.attempt_path(2).join("end.json"), &seal(&End::Interrupted), ago(210));
    let text = show(&tried, &[]);
    let history = "attempts: 3\n  1 on node1 for 12 min: ended without a record\n  2 on node2 for 60 s: interrupted\n  \
                   3 on node4 for 60 s: failed: out of memory\n";
    assert!(text.contains(history), "{text}");
    let shown: Value = serde_json::from_str(&show(&study.network(1), &["--json"])).unwrap();
    assert_eq!(
        (&shown["seconds"], &shown["gpu_hours"], &shown["host"]),
        (&json!(900.0), &json!(0.0625), &json!("node2"))
    );
}

#[test]
fn gpu_utilization_is_shown_with_the_runs_that_need_less_than_a_gpu() {
    let study = Study::new();
    let measured = [
        Some(utilization(3, 84.0, Some(91.0))),
        Some(utilization(1, 30.0, Some(7.0))),
        Some(utilization(1, 3.0, None)),
        None,
    ];
    for (index, measured) in measured.into_iter().enumerate() {
        begin(&study.network(index), 1, "node1", 300);
        write_heartbeat_with_gpus(&study.network(index), 1, 5, measured, 5);
    }
    let with_gpus = Usage { gpu_utilization: Some(utilization(2, 60.0, None)), ..usage(400_000_000, 2.0).unwrap() };
    commit(&study.network(4), 1800.0, "node1", Some(with_gpus), 600);
    commit(&study.network(5), 3600.0, "node1", usage(400_000_000, 2.0), 600);

    let low = study.network(1);
    let text = study.text();
    let gpus = format!(
        "GPUs: 70 % utilization in the last minute; 1 run below 20 %: {}\n  help: let small networks share a GPU: ",
        low.id
    );
    for part in [&gpus, "3 GPU-hours at 60 % utilization"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let status = study.describe();
    assert_eq!(status["gpus"], json!({"last_minute": 70.0, "low": [low.id]}));
    assert_eq!(status["so_far"]["gpu_utilization"], 60.0);
    let row = |run: RunDirectory| {
        let all = status["all"].as_array().unwrap();
        all.iter().find(|row| row["id"] == run.id.as_str()).unwrap()["gpu_utilization"].clone()
    };
    assert_eq!(row(study.network(0))["lowest"], 79.0);
    assert_eq!(row(study.network(4))["mean"], 60.0);
    assert_eq!((row(study.network(3)), row(study.network(5))), (Value::Null, Value::Null));
    let list = stdout(&succeed(&mut study.status(&["--all"])));
    assert!(list.lines().any(|line| line.contains(low.id.as_str()) && line.contains(" 30 ")), "{list}");

    for index in 6..10 {
        begin(&study.network(index), 1, "node2", 300);
        write_heartbeat_with_gpus(&study.network(index), 1, 5, Some(utilization(1, 3.0, Some(3.0))), 5);
    }
    let text = study.text();
    assert!(
        text.contains("; 5 runs below 20 %: ") && text.contains(", …\n  help: "),
        "three of them are named: {text}"
    );
}

#[test]
fn show_has_the_gpu_utilization_of_each_attempt() {
    let study = Study::new();
    let run = study.network(0);
    begin(&run, 1, "node1", 1000);
    write_heartbeat_with_gpus(&run, 1, 2, Some(utilization(2, 60.0, None)), 400);
    begin(&run, 2, "node2", 300);
    write_heartbeat_with_gpus(&run, 2, 5, Some(utilization(1, 84.0, Some(91.0))), 5);
    let show = |more: &[&str]| {
        let mut show = Command::new(env!("CARGO_BIN_EXE_winsign"));
        show.args(["show", run.id.as_str(), "--store"]).arg(study.workplace.store()).args(more);
        stdout(&succeed(&mut show))
    };
    let text = show(&[]);
    for part in [
        "  1 on node1 for 10 min, GPU utilization 60 %, 55 % on the least used GPU, at most 12.0 GB in use: ended",
        ", GPU utilization 84 %, 91 % in the last minute, at most 12.0 GB in use: running\n",
        "\nGPU utilization: 84 %, 91 % in the last minute, at most 12.0 GB in use\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let shown: Value = serde_json::from_str(&show(&["--json"])).unwrap();
    assert_eq!(shown["gpu_utilization"]["last_minute"], 91.0);
    assert_eq!(shown["history"][0]["gpu_utilization"]["lowest"], 55.0);
}

#[test]
fn run_without_heartbeat_is_not_running() {
    let study = Study::new();
    begin(&study.network(0), 1, "node1", 500);
    write_heartbeat(&study.network(0), 1, 5, 60);
    begin(&study.network(1), 1, "node1", 500);
    write_heartbeat(&study.network(1), 1, 5, 120);
    let status = study.describe();
    assert_eq!((&status["runs"]["running"], &status["runs"]["pending"]), (&json!(1), &json!(11)));
    touch(&study.network(0).attempt_path(1).join("status.json"), ago(120));
    let text = study.text();
    assert!(
        text.contains("12 pending") && text.contains("no process is executing runs; start one with `winsign run "),
        "{text}"
    );
}

/// `winsign status` changes no file, and ignores files that are incomplete.
#[test]
fn partial_files_are_not_shown() {
    let study = Study::new();
    let run = study.network(0);
    begin(&run, 1, "node1", 10);
    let whole = seal(&result(&run, 77.0, "node1", usage(123_000_000, 1.0)));
    fs::create_dir_all(run.attempt_path(1)).unwrap();
    fs::write(run.path.join(".half.draft"), &whole[..whole.len() / 2]).unwrap();
    fs::write(run.attempt_path(1).join(".half.draft"), b"{\"done\": 9, ").unwrap();
    let before = study.workplace.listing();
    let row =
        |status: &Value| status["all"].as_array().unwrap().iter().find(|row| row["id"] == run.id.as_str()).cloned();
    let status = study.describe();
    assert_eq!((&status["runs"]["running"], &status["running"][0]["progress"]), (&json!(1), &Value::Null));
    // Some file systems show a file before it is complete.
    for length in [0, 1, whole.len() / 2, whole.len() - 3] {
        fs::write(run.attempt_path(1).join("status.json"), &b"{\"done\": 9, \"total\": 10"[..length.min(23)]).unwrap();
        fs::write(run.result_path(), &whole[..length]).unwrap();
        let status = study.describe();
        assert_eq!((&status["runs"]["done"], &status["so_far"]["hours"]), (&json!(0), &json!(0.0)), "{length} bytes");
        let row = row(&status).unwrap();
        assert_eq!(
            (&row["progress"], &row["seconds"], &row["peak_memory"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
    }
    fs::remove_file(run.result_path()).unwrap();
    fs::remove_file(run.attempt_path(1).join("status.json")).unwrap();
    assert_eq!(study.workplace.listing(), before);
}

/// The clock of a node is a year ahead, and the clock of the file system was set back by a year.
#[test]
fn different_clocks_do_not_matter() {
    let study = Study::new();
    let year = Duration::from_secs(365 * 86_400);
    for (index, finished) in [jiff::Timestamp::now() + year, jiff::Timestamp::now()].into_iter().enumerate() {
        let run = study.network(index);
        let result = RunResult { finished, ..result(&run, 60.0, "node1", None) };
        write(&run.result_path(), &seal(&result), ago(60));
    }
    begin(&study.network(2), 1, "node1", 60);
    write_heartbeat(&study.network(2), 1, 0, 5);
    let status = study.describe();
    assert!(is_near(&status["pace"]["over_seconds"], 120.0, 5.0), "{status:#}");
    assert!(is_near(&status["pace"]["runs_per_hour"], 60.0, 5.0), "{status:#}");

    touch(&study.network(0).result_path(), SystemTime::now() + year);
    touch(&study.network(2).claim_path(1), SystemTime::now() + year);
    fail(&study.network(3), 1, "node2", "the loss became NaN", "", 0);
    touch(&study.network(3).attempt_path(1).join("end.json"), SystemTime::now() + year);
    let status = study.describe();
    let ages = status["all"].as_array().unwrap().iter().filter_map(|row| row["age"].as_f64());
    assert!(ages.clone().all(|age| (0.0..1000.0).contains(&age)) && ages.count() == 4, "{status:#}");
    assert!(is_near(&status["pace"]["runs_per_hour"], 60.0, 5.0), "{status:#}");
    assert!(study.text().contains("failed: dense, seed 4"));
    assert!(!study.text().contains('-') || !study.text().contains(" -"), "{}", study.text());
}

/// Results that were copied today from another cluster, but are 20 days old, do not count for the pace.
#[test]
fn copied_results_have_their_own_age() {
    let study = Study::new();
    for index in 0..8 {
        let run = study.network(index);
        let finished = jiff::Timestamp::now() - Duration::from_secs(20 * 86_400);
        let result = RunResult { finished, ..result(&run, 60.0, "node1", None) };
        write(&run.result_path(), &seal(&result), ago(0));
    }
    let status = study.describe();
    assert_eq!((&status["runs"]["done"], &status["pace"]), (&json!(8), &Value::Null));
    assert_eq!(status["so_far"]["hours"], 8.0 / 60.0);
}

#[test]
fn results_without_usage_are_counted_as_such() {
    let study = Study::new();
    let run = study.network(0);
    let mut old = serde_json::to_value(result(&run, 60.0, "node1", None)).unwrap();
    old.as_object_mut().unwrap().remove("usage");
    write(&run.result_path(), &seal(&old), ago(10));
    commit(&study.network(1), 120.0, "node1", usage(5_000_000, 1.0), 10);
    let status = study.describe();
    assert_eq!((&status["runs"]["done"], &status["so_far"]["runs_without_usage"]), (&json!(2), &json!(1)));
    assert_eq!(status["so_far"]["hours"], 0.05);
    assert!(study.text().contains("1 run of an earlier version"), "{}", study.text());
}

/// A command whose output is read while it is running.
struct RunningCommand {
    child: Child,
    output: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl RunningCommand {
    fn start(command: &mut Command, mut output: impl FnMut(&mut Child) -> Box<dyn Read + Send>) -> RunningCommand {
        let mut child = command.spawn().unwrap();
        let mut reader = output(&mut child);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A terminal whose other end is closed gives an error instead of an end.
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                let _ = sender.send(buffer[..length].to_vec());
            }
        });
        RunningCommand { child, output: receiver, seen: vec![] }
    }

    fn piped(command: &mut Command) -> RunningCommand {
        RunningCommand::start(command.stdout(Stdio::piped()), |child| Box::new(child.stdout.take().unwrap()))
    }

    fn seen(&mut self) -> String {
        self.seen.extend(self.output.try_iter().flatten());
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    fn wait_for(&mut self, text: &str) {
        wait_for(text, || self.seen().contains(text).then_some(()));
    }

    /// Waits until the command has ended; returns its exit code and output.
    fn finish(mut self) -> (Option<i32>, String) {
        let code = wait_for("the command to end", || self.child.try_wait().unwrap()).code();
        self.seen.extend(self.output.iter().flatten());
        (code, String::from_utf8_lossy(&self.seen).into_owned())
    }
}

#[test]
fn watch_follows_a_sweep_to_its_end() {
    let study = Study::new();
    let last = study.network(9);
    study.finish_all_except(&[&last]);
    begin(&last, 1, "node1", 10);
    write_heartbeat(&last, 1, 3, 0);
    let mut running = RunningCommand::piped(&mut study.status(&["--watch=0.1"]));
    running.wait_for("3 of 10 epochs done");
    write_heartbeat(&last, 1, 4, 0);
    running.wait_for("4 of 10 epochs done");
    commit(&last, 10.0, "node1", None, 0);
    let (code, seen) = running.finish();
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.contains("12 done") && seen.matches("made-up in ").count() >= 3, "{seen}");
    assert!(!seen.contains('\x1b'), "{seen}");

    // All runs are done, so there is nothing to wait for. With --json, each refresh is a line.
    let output = succeed(&mut study.status(&["--watch", "--json"]));
    let lines: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["runs"]["done"], 12);
}

#[test]
fn watch_with_failed_runs_exits_with_3() {
    let study = Study::new();
    let last = study.network(9);
    study.finish_all_except(&[&last]);
    fail(&last, 1, "node1", "the loss became NaN", "", 10);
    let output = study.status(&["--watch=0.1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stdout(&output).contains("the loss became NaN"), "{}", stdout(&output));
}

#[test]
fn watch_ends_when_its_reader_exits() {
    let study = Study::new();
    let mut running = RunningCommand::start(study.status(&["--watch=0.1"]).stdout(Stdio::piped()), |child| {
        drop(child.stdout.take());
        Box::new(std::io::empty())
    });
    assert_eq!(wait_for("the command to end", || running.child.try_wait().unwrap()).code(), Some(0));
}

#[test]
fn invalid_watch_interval_is_refused() {
    let study = Study::new();
    for wrong in ["--watch=0", "--watch=often", "--watch=-1", "--watch=NaN"] {
        let output = study.status(&[wrong]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(stderr(&output).contains("seconds"), "{}", stderr(&output));
    }
}

/// Opens a terminal of this size; returns both of its ends.
fn terminal(columns: u16, rows: u16) -> (File, OwnedFd) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, vec![]).unwrap();
    let size = rustix::termios::Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, size).unwrap();
    let slave = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    (master.into(), slave.into())
}

fn on_terminal(command: &mut Command, columns: u16, rows: u16) -> RunningCommand {
    let (master, slave) = terminal(columns, rows);
    command.stdin(Stdio::null()).stdout(slave.try_clone().unwrap()).stderr(slave).env("TERM", "xterm");
    let running = RunningCommand::start(command, |_| Box::new(master.try_clone().unwrap()));
    // This process's copy of the slave's end would keep the terminal open.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    running
}

/// Removes escape sequences and carriage returns.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' => drop(characters.by_ref().find(|character| character.is_ascii_alphabetic())),
            '\r' => {}
            other => plain.push(other),
        }
    }
    plain
}

#[test]
fn watch_on_a_narrow_terminal_truncates_lines_and_restores_it() {
    let study = Study::new();
    begin(&study.network(0), 1, "a-node-with-quite-a-long-name", 10);
    write_heartbeat(&study.network(0), 1, 3, 0);
    let mut running = on_terminal(&mut study.status(&["--watch=0.1"]), 30, 6);
    running.wait_for("more lines");
    wait_for("three frames", || (running.seen().matches("\x1b[H").count() >= 3).then_some(()));
    winsign_testkit::signal(running.child.id(), Signal::INT);
    let (code, seen) = running.finish();
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.starts_with("\x1b[?1049h\x1b[?25l"), "{seen:?}");
    assert!(seen.ends_with("\x1b[?7h\x1b[?25h\x1b[?1049l"), "the terminal must be restored: {seen:?}");
    let frames: Vec<&str> = seen.split("\x1b[H").skip(1).collect();
    for frame in frames {
        let lines: Vec<String> = plain(frame).lines().map(str::to_string).collect();
        assert!(lines.len() <= 6, "{lines:?}");
        assert!(lines.iter().all(|line| line.chars().count() < 30), "{lines:?}");
        assert!(lines[0].starts_with("made-up in ") && lines[0].ends_with('…'), "{lines:?}");
    }
    assert!(seen.contains("\x1b[1mmade-up\x1b[0m"), "names must be bold on a terminal");
}

#[test]
fn no_color_disables_colors() {
    let study = Study::new();
    fail(&study.network(0), 1, "node1", "the loss became NaN", "", 10);
    let has_colors = |command: &mut Command| {
        let (code, seen) = on_terminal(command, 80, 24).finish();
        assert_eq!(code, Some(0), "{seen}");
        seen.contains("\x1b[31mfailed:")
    };
    assert!(has_colors(study.status(&[]).env_remove("NO_COLOR")));
    assert!(!has_colors(study.status(&[]).env("NO_COLOR", "1")));
    assert!(!study.text().contains('\x1b'));
}

#[test]
fn watch_leaves_the_last_state_on_the_terminal() {
    let study = Study::new();
    study.finish_all_except(&[]);
    let (code, seen) = on_terminal(study.status(&["--watch"]).env("NO_COLOR", "1"), 80, 24).finish();
    assert_eq!(code, Some(0), "{seen}");
    let after = seen.rsplit("\x1b[?1049l").next().unwrap();
    assert!(after.contains("12 done"), "{seen:?}");
}

#[test]
fn status_without_a_store_is_pending() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("made-up.yaml", SWEEP);
    let status = json(&succeed(workplace.winsign("status", &sweep).arg("--json")));
    assert_eq!(status["runs"]["pending"], 12);
    assert_eq!((&status["pace"], &status["seconds_left"], &status["hosts"]), (&Value::Null, &Value::Null, &json!([])));
    assert!(!workplace.store().exists());
    let lines: BTreeMap<usize, String> =
        stdout(&succeed(&mut workplace.winsign("status", &sweep))).lines().map(str::to_string).enumerate().collect();
    assert!(lines[&1].starts_with("no process is executing runs"), "{lines:?}");
}
