//! `winsign status` from outside, on stores made up here: runs of other machines, failures, clocks that differ.

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
use winsign_core::attempt::{End, Progress};
use winsign_core::directory::FORMAT;
use winsign_core::files::seal;
use winsign_core::results::{Outcome, Processors, RunResult, TransferOutcome, Usage};
use winsign_core::{RunDirectory, Store};
use winsign_sweep::plan::build::build;
use winsign_sweep::plan::{Plan, PlannedRun};
use winsign_testkit::{Workplace, json, stderr, stdout, succeed, wait_for};

/// Ten dense networks of ten epochs, which need nothing, and two tickets of which one needs the other.
const SWEEP: &str = "\
name: made-up
dataset: digits
architecture: resnet8
ticket: {method: lrr, levels: 1, warmup_epochs: 10, epochs: 10}
transfer: {inherit: dense, epochs: 10, seed: 1..10}
";

/// A sweep and a store in which its runs stand as a test wants them to.
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
        self.prepared(&self.plan.runs[level])
    }

    fn network(&self, index: usize) -> RunDirectory {
        self.prepared(&self.plan.runs[2 + index])
    }

    fn prepared(&self, planned: &PlannedRun) -> RunDirectory {
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

    /// Finishes everything but the runs named.
    fn finish_all_but(&self, unfinished: &[&RunDirectory]) {
        for planned in &self.plan.runs {
            if unfinished.iter().all(|run| run.id != planned.run.id) {
                commit(&self.prepared(planned), 60.0, "node1", None, 30);
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

/// An attempt that a process of another machine began.
fn begin(run: &RunDirectory, attempt: u32, host: &str, seconds_ago: u64) {
    let owner = json!({"host": host, "pid": 17, "started": 1, "machine": "another"});
    // The clock of that machine is a day behind.
    let claim = json!({"owner": owner, "began": jiff::Timestamp::now() - Duration::from_secs(86_400), "version": "0"});
    write(&run.claim_path(attempt), &seal(&claim), ago(seconds_ago));
}

fn beat(run: &RunDirectory, attempt: u32, done: u32, seconds_ago: u64) {
    let progress = Progress { done, total: 10, test_error: Some(12.5) };
    let path = run.attempt_path(attempt).join("status.json");
    write(&path, &serde_json::to_vec(&progress).unwrap(), ago(seconds_ago));
}

fn fail(run: &RunDirectory, attempt: u32, host: &str, message: &str, log: &str, seconds_ago: u64) {
    begin(run, attempt, host, seconds_ago + 60);
    write(&run.attempt_path(attempt).join("log"), log.as_bytes(), ago(seconds_ago));
    let end = seal(&End::Failed { message: message.to_string() });
    write(&run.attempt_path(attempt).join("end.json"), &end, ago(seconds_ago));
}

fn usage(peak_memory: u64, gpus: f64) -> Option<Usage> {
    Some(Usage { peak_memory: Some(peak_memory), gpus, gpu_peak_memory: (gpus > 0.0).then_some(peak_memory * 10) })
}

fn near(value: &Value, expected: f64, tolerance: f64) -> bool {
    value.as_f64().is_some_and(|value| (value - expected).abs() <= tolerance)
}

#[test]
fn a_sweep_on_many_machines_is_told_in_full() {
    let study = Study::new();
    commit(&study.network(0), 1800.0, "node1", usage(400_000_000, 2.0), 600);
    commit(&study.network(1), 900.0, "node2", usage(1_500_000_000, 0.25), 300);
    for (index, host, done) in [(2, "node1", 5), (3, "node2", 2), (4, "node2", 0)] {
        begin(&study.network(index), 1, host, 300);
        beat(&study.network(index), 1, done, 5);
    }
    fail(&study.network(5), 1, "node3", "the loss became NaN", "older\n", 500);
    let log: String = (1..=9).map(|line| format!("line {line}\n")).collect();
    fail(&study.network(6), 3, "node4", "out of memory", &log, 100);
    fail(&study.ticket(0), 1, "node5", "no data", "", 900);

    let told = study.describe();
    let runs = json!({"total": 12, "done": 2, "running": 3, "queued": 0, "failed": 3, "blocked": 1, "pending": 3});
    assert_eq!(told["runs"], runs);
    let stages: Vec<&Value> = told["stages"].as_array().unwrap().iter().collect();
    assert_eq!((stages[0]["stage"].as_str(), stages[1]["stage"].as_str()), (Some("lrr tickets"), Some("dense")));
    assert_eq!((&stages[0]["runs"]["blocked"], &stages[1]["runs"]["running"]), (&json!(1), &json!(3)));
    assert_eq!(told["hosts"], json!([{"host": "node2", "runs": 2}, {"host": "node1", "runs": 1}]));

    let so_far = &told["so_far"];
    assert_eq!(so_far["hours"], 0.75);
    assert_eq!(so_far["gpu_hours"], 1.0 + 0.0625);
    assert_eq!(
        (&so_far["peak_memory"], &so_far["gpu_peak_memory"]),
        (&json!(1_500_000_000), &json!(15_000_000_000u64))
    );

    // 27 epochs within the 2400 s since the first of these runs began, and 53 are left: 5, 8 and 10, and 3 runs of 10.
    assert!(near(&told["pace"]["over_seconds"], 2400.0, 5.0), "{told:#}");
    assert!(near(&told["pace"]["runs_per_hour"], 3.0, 0.1), "{told:#}");
    assert!(near(&told["pace"]["epochs_per_hour"], 40.5, 0.5), "{told:#}");
    assert!(near(&told["seconds_left"], 53.0 / 27.0 * 2400.0, 60.0), "{told:#}");

    let running = told["running"].as_array().unwrap();
    assert_eq!((&running[0]["host"], &running[0]["progress"]["done"]), (&json!("node1"), &json!(5)));
    assert!(near(&running[0]["age"], 300.0, 10.0));
    let failed = told["failed"].as_array().unwrap();
    let hosts: Vec<&Value> = failed.iter().map(|run| &run["host"]).collect();
    assert_eq!(hosts, ["node4", "node3", "node5"], "the latest first");
    assert_eq!((&failed[0]["attempts"], &failed[0]["note"]), (&json!(3), &json!("out of memory")));
    assert_eq!(failed[0]["log_end"], json!(["line 5", "line 6", "line 7", "line 8", "line 9"]));

    let all = told["all"].as_array().unwrap();
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
        "5 of 10 done, test error 12.5 %, for 5 min",
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
    beat(&tried, 1, 2, 280);
    begin(&tried, 2, "node2", 270);
    beat(&tried, 2, 2, 250);
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
fn who_fell_silent_is_not_at_work() {
    let study = Study::new();
    begin(&study.network(0), 1, "node1", 500);
    beat(&study.network(0), 1, 5, 60);
    begin(&study.network(1), 1, "node1", 500);
    beat(&study.network(1), 1, 5, 120);
    let told = study.describe();
    assert_eq!((&told["runs"]["running"], &told["runs"]["pending"]), (&json!(1), &json!(11)));
    touch(&study.network(0).attempt_path(1).join("status.json"), ago(120));
    let text = study.text();
    assert!(
        text.contains("12 pending") && text.contains("no process is executing runs; start one with: winsign run "),
        "{text}"
    );
}

/// Looking leaves everything as it was, and what is half there is not there.
#[test]
fn what_is_being_written_is_never_shown() {
    let study = Study::new();
    let run = study.network(0);
    begin(&run, 1, "node1", 10);
    let whole = seal(&result(&run, 77.0, "node1", usage(123_000_000, 1.0)));
    fs::create_dir_all(run.attempt_path(1)).unwrap();
    fs::write(run.path.join(".half.draft"), &whole[..whole.len() / 2]).unwrap();
    fs::write(run.attempt_path(1).join(".half.draft"), b"{\"done\": 9, ").unwrap();
    let before = study.workplace.listing();
    let row = |told: &Value| told["all"].as_array().unwrap().iter().find(|row| row["id"] == run.id.as_str()).cloned();
    let told = study.describe();
    assert_eq!((&told["runs"]["running"], &told["running"][0]["progress"]), (&json!(1), &Value::Null));
    // On file systems that show a file before all of it is there.
    for length in [0, 1, whole.len() / 2, whole.len() - 3] {
        fs::write(run.attempt_path(1).join("status.json"), &b"{\"done\": 9, \"total\": 10"[..length.min(23)]).unwrap();
        fs::write(run.result_path(), &whole[..length]).unwrap();
        let told = study.describe();
        assert_eq!((&told["runs"]["done"], &told["so_far"]["hours"]), (&json!(0), &json!(0.0)), "{length} bytes");
        let row = row(&told).unwrap();
        assert_eq!(
            (&row["progress"], &row["seconds"], &row["peak_memory"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
    }
    fs::remove_file(run.result_path()).unwrap();
    fs::remove_file(run.attempt_path(1).join("status.json")).unwrap();
    assert_eq!(study.workplace.listing(), before);
}

/// Of nodes whose clocks are a year ahead or behind; and the file system's own was set back.
#[test]
fn clocks_that_differ_do_not_matter() {
    let study = Study::new();
    let year = Duration::from_secs(365 * 86_400);
    for (index, finished) in [jiff::Timestamp::now() + year, jiff::Timestamp::now()].into_iter().enumerate() {
        let run = study.network(index);
        let result = RunResult { finished, ..result(&run, 60.0, "node1", None) };
        write(&run.result_path(), &seal(&result), ago(60));
    }
    begin(&study.network(2), 1, "node1", 60);
    beat(&study.network(2), 1, 0, 5);
    let told = study.describe();
    assert!(near(&told["pace"]["over_seconds"], 120.0, 5.0), "{told:#}");
    assert!(near(&told["pace"]["runs_per_hour"], 60.0, 5.0), "{told:#}");

    touch(&study.network(0).result_path(), SystemTime::now() + year);
    touch(&study.network(2).claim_path(1), SystemTime::now() + year);
    fail(&study.network(3), 1, "node2", "the loss became NaN", "", 0);
    touch(&study.network(3).attempt_path(1).join("end.json"), SystemTime::now() + year);
    let told = study.describe();
    let ages = told["all"].as_array().unwrap().iter().filter_map(|row| row["age"].as_f64());
    assert!(ages.clone().all(|age| (0.0..1000.0).contains(&age)) && ages.count() == 4, "{told:#}");
    assert!(near(&told["pace"]["runs_per_hour"], 60.0, 5.0), "{told:#}");
    assert!(study.text().contains("failed: dense, seed 4"));
    assert!(!study.text().contains('-') || !study.text().contains(" -"), "{}", study.text());
}

/// What was copied from another cluster today was not computed today.
#[test]
fn copied_results_are_as_old_as_they_say() {
    let study = Study::new();
    for index in 0..8 {
        let run = study.network(index);
        let finished = jiff::Timestamp::now() - Duration::from_secs(20 * 86_400);
        let result = RunResult { finished, ..result(&run, 60.0, "node1", None) };
        write(&run.result_path(), &seal(&result), ago(0));
    }
    let told = study.describe();
    assert_eq!((&told["runs"]["done"], &told["pace"]), (&json!(8), &Value::Null));
    assert_eq!(told["so_far"]["hours"], 8.0 / 60.0);
}

#[test]
fn results_of_before_are_read_and_said_to_say_less() {
    let study = Study::new();
    let run = study.network(0);
    let mut old = serde_json::to_value(result(&run, 60.0, "node1", None)).unwrap();
    old.as_object_mut().unwrap().remove("usage");
    write(&run.result_path(), &seal(&old), ago(10));
    commit(&study.network(1), 120.0, "node1", usage(5_000_000, 1.0), 10);
    let told = study.describe();
    assert_eq!((&told["runs"]["done"], &told["so_far"]["runs_that_do_not_say"]), (&json!(2), &json!(1)));
    assert_eq!(told["so_far"]["hours"], 0.05);
    assert!(study.text().contains("1 run of an earlier version"), "{}", study.text());
}

/// A command whose output is read as it comes.
struct Watching {
    child: Child,
    output: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Watching {
    fn start(command: &mut Command, mut output: impl FnMut(&mut Child) -> Box<dyn Read + Send>) -> Watching {
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
        Watching { child, output: receiver, seen: vec![] }
    }

    fn piped(command: &mut Command) -> Watching {
        Watching::start(command.stdout(Stdio::piped()), |child| Box::new(child.stdout.take().unwrap()))
    }

    fn seen(&mut self) -> String {
        self.seen.extend(self.output.try_iter().flatten());
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    fn wait_for(&mut self, text: &str) {
        wait_for(text, || self.seen().contains(text).then_some(()));
    }

    /// Its exit code, once it has ended, and all that it said.
    fn end(mut self) -> (Option<i32>, String) {
        let code = wait_for("the end of watching", || self.child.try_wait().unwrap()).code();
        self.seen.extend(self.output.iter().flatten());
        (code, String::from_utf8_lossy(&self.seen).into_owned())
    }
}

#[test]
fn watching_follows_a_sweep_to_its_end() {
    let study = Study::new();
    let last = study.network(9);
    study.finish_all_but(&[&last]);
    begin(&last, 1, "node1", 10);
    beat(&last, 1, 3, 0);
    let mut watching = Watching::piped(&mut study.status(&["--watch=0.1"]));
    watching.wait_for("3 of 10 done");
    beat(&last, 1, 4, 0);
    watching.wait_for("4 of 10 done");
    commit(&last, 10.0, "node1", None, 0);
    let (code, seen) = watching.end();
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.contains("12 done") && seen.matches("made-up in ").count() >= 3, "{seen}");
    assert!(!seen.contains('\x1b'), "{seen}");

    // All is done: there is nothing to wait for. As JSON each look is a line.
    let output = succeed(&mut study.status(&["--watch", "--json"]));
    let lines: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["runs"]["done"], 12);
}

#[test]
fn watching_ends_with_3_where_something_failed() {
    let study = Study::new();
    let last = study.network(9);
    study.finish_all_but(&[&last]);
    fail(&last, 1, "node1", "the loss became NaN", "", 10);
    let output = study.status(&["--watch=0.1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stdout(&output).contains("the loss became NaN"), "{}", stdout(&output));
}

#[test]
fn watching_ends_when_nobody_reads_on() {
    let study = Study::new();
    let mut watching = Watching::start(study.status(&["--watch=0.1"]).stdout(Stdio::piped()), |child| {
        drop(child.stdout.take());
        Box::new(std::io::empty())
    });
    assert_eq!(wait_for("the end", || watching.child.try_wait().unwrap()).code(), Some(0));
}

#[test]
fn how_often_to_look_is_a_number_of_seconds() {
    let study = Study::new();
    for wrong in ["--watch=0", "--watch=often", "--watch=-1", "--watch=NaN"] {
        let output = study.status(&[wrong]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(stderr(&output).contains("seconds"), "{}", stderr(&output));
    }
}

/// Both ends of a terminal of so many columns and rows.
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

fn on_terminal(command: &mut Command, columns: u16, rows: u16) -> Watching {
    let (master, slave) = terminal(columns, rows);
    command.stdin(Stdio::null()).stdout(slave.try_clone().unwrap()).stderr(slave).env("TERM", "xterm");
    let watching = Watching::start(command, |_| Box::new(master.try_clone().unwrap()));
    // Our copy of the slave's end would keep the terminal open.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    watching
}

/// What a terminal shows of lines, without commands to it.
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
fn a_narrow_terminal_is_drawn_on_without_wrapping_and_left_clean() {
    let study = Study::new();
    begin(&study.network(0), 1, "a-node-with-quite-a-long-name", 10);
    beat(&study.network(0), 1, 3, 0);
    let mut watching = on_terminal(&mut study.status(&["--watch=0.1"]), 30, 6);
    watching.wait_for("more lines");
    wait_for("three frames", || (watching.seen().matches("\x1b[H").count() >= 3).then_some(()));
    winsign_testkit::signal(watching.child.id(), Signal::INT);
    let (code, seen) = watching.end();
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.starts_with("\x1b[?1049h\x1b[?25l"), "{seen:?}");
    assert!(seen.ends_with("\x1b[?7h\x1b[?25h\x1b[?1049l"), "nothing stays: {seen:?}");
    let frames: Vec<&str> = seen.split("\x1b[H").skip(1).collect();
    for frame in frames {
        let lines: Vec<String> = plain(frame).lines().map(str::to_string).collect();
        assert!(lines.len() <= 6, "{lines:?}");
        assert!(lines.iter().all(|line| line.chars().count() < 30), "{lines:?}");
        assert!(lines[0].starts_with("made-up in ") && lines[0].ends_with('…'), "{lines:?}");
    }
    assert!(seen.contains("\x1b[1mmade-up\x1b[0m"), "a name is bold on a terminal");
}

#[test]
fn colors_are_not_for_those_who_said_no() {
    let study = Study::new();
    fail(&study.network(0), 1, "node1", "the loss became NaN", "", 10);
    let colors = |command: &mut Command| {
        let (code, seen) = on_terminal(command, 80, 24).end();
        assert_eq!(code, Some(0), "{seen}");
        seen.contains("\x1b[31mfailed:")
    };
    assert!(colors(study.status(&[]).env_remove("NO_COLOR")));
    assert!(!colors(study.status(&[]).env("NO_COLOR", "1")));
    assert!(!study.text().contains('\x1b'));
}

#[test]
fn after_watching_to_the_end_the_last_look_stays_on_the_terminal() {
    let study = Study::new();
    study.finish_all_but(&[]);
    let (code, seen) = on_terminal(study.status(&["--watch"]).env("NO_COLOR", "1"), 80, 24).end();
    assert_eq!(code, Some(0), "{seen}");
    let after = seen.rsplit("\x1b[?1049l").next().unwrap();
    assert!(after.contains("12 done"), "{seen:?}");
}

#[test]
fn a_store_that_is_not_there_has_done_nothing() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("made-up.yaml", SWEEP);
    let told = json(&succeed(workplace.winsign("status", &sweep).arg("--json")));
    assert_eq!(told["runs"]["pending"], 12);
    assert_eq!((&told["pace"], &told["seconds_left"], &told["hosts"]), (&Value::Null, &Value::Null, &json!([])));
    assert!(!workplace.store().exists());
    let lines: BTreeMap<usize, String> =
        stdout(&succeed(&mut workplace.winsign("status", &sweep))).lines().map(str::to_string).enumerate().collect();
    assert!(lines[&1].starts_with("no process is executing runs"), "{lines:?}");
}
