//! Two machines execute one study in a store on a network file system, which fails in the ways of such file systems. No run is
//! computed twice at a time, nothing is lost, and the results equal those on a local disk.
#![cfg(feature = "worker")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Signal;
use serde_json::Value;
use winsign_core::Store;
use winsign_sweep::plan::build::build;
use winsign_testkit::faulty_fs::FaultyFs;
use winsign_testkit::{Workplace, find_workers, program, read_json, signal, wait_for};

/// 10 runs. While one machine computes the first ticket, the other one computes the dense networks.
const STUDY: &str = "
dataset: digits
architecture: resnet8
ticket: {method: aws, levels: 1, warmup_epochs: 8, epochs: 1}
transfer: {inherit: [dense, sign], epochs: 1, seed: 2..5}
";

/// A run that takes seconds, and one that needs it.
const LONG: &str = "
dataset: digits
architecture: resnet8
ticket: {method: lrr, levels: 1, warmup_epochs: 12, epochs: 1}
";

/// The time without a heartbeat after which a process of the other machine is lost.
const LOST_AFTER: Duration = Duration::from_secs(6);

/// The longest time that a study may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

type Outcomes = BTreeMap<String, (Value, Option<String>)>;

/// Returns the outcomes of one of the studies on a local disk.
fn undisturbed(text: &str) -> &'static Outcomes {
    static OUTCOMES: [OnceLock<Outcomes>; 2] = [const { OnceLock::new() }; 2];
    OUTCOMES[usize::from(text == LONG)].get_or_init(|| {
        let workplace = Workplace::new();
        let sweep = workplace.sweep("study.yaml", text);
        workplace.run_all(&sweep);
        workplace.outcomes(&sweep)
    })
}

/// A study in a store that two machines have mounted.
struct SharedStudy {
    machines: [FaultyFs; 2],
    workplace: Workplace,
    sweep: PathBuf,
    text: &'static str,
}

impl SharedStudy {
    /// Returns `None`, with a message, if this user cannot mount file systems.
    fn new(text: &'static str) -> Option<SharedStudy> {
        let workplace = Workplace::new();
        let mount = |name| FaultyFs::mount(&workplace.store(), &workplace.path(name));
        let machines = [mount("mount-0")?, mount("mount-1")?];
        let sweep = workplace.sweep("study.yaml", text);
        Some(SharedStudy { machines, workplace, sweep, text })
    }

    /// Changes a setting of both mounts.
    fn set(&self, key: &str, value: i64) {
        self.machines.iter().for_each(|machine| machine.set(key, value));
    }

    /// Creates the directories of all runs, as an earlier command does.
    fn prepare_directories(&self) {
        let store = Store::create(&self.workplace.store()).unwrap();
        for planned in build(&winsign_sweep::read(&self.sweep).unwrap()).runs {
            store.run(&planned.run.id).prepare(&planned.run, "").unwrap();
        }
    }

    /// Starts `winsign run` on a machine.
    fn start(&self, machine: usize) -> Running {
        let messages = self.workplace.path(&format!("messages-{machine}"));
        let summary = self.workplace.path(&format!("summary-{machine}"));
        let mut run = Command::new(program("winsign"));
        run.args(["run", "--jobs", "1", "--json", "-v"]).env_remove("WINSIGN_LOG");
        run.arg(&self.sweep).arg("--store").arg(self.machines[machine].path(""));
        run.env("WINSIGN_MACHINE", machine.to_string()).env("WINSIGN_LOST_AFTER", LOST_AFTER.as_secs().to_string());
        run.stdout(File::create(&summary).unwrap()).stderr(File::create(&messages).unwrap());
        Running { child: run.spawn().unwrap(), messages, summary }
    }

    /// Executes the study on both machines at once.
    fn run_on_both(&self) {
        let both = [0, 1].map(|machine| self.start(machine));
        both.into_iter().for_each(|run| drop(run.complete()));
    }

    /// Returns the directory of the run that the others need, as the server sees it.
    fn first_run(&self) -> PathBuf {
        let runs = self.workplace.plan(&self.sweep);
        self.workplace.run_directory(runs[0]["id"].as_str().unwrap())
    }

    fn workers(&self, machine: usize) -> Vec<u32> {
        find_workers(&self.machines[machine].path(""))
    }

    /// Returns, for each run, the attempts that computed it.
    fn computed(&self) -> Vec<Vec<u32>> {
        let runs = self.workplace.plan(&self.sweep);
        let attempts = runs.iter().map(|run| {
            let directory = self.workplace.run_directory(run["id"].as_str().unwrap()).join("attempts");
            (1..10).filter(|number| directory.join(number.to_string()).join("log").exists()).collect()
        });
        attempts.collect()
    }

    fn assert_each_run_was_computed_once(&self) {
        let computed = self.computed();
        assert!(computed.iter().all(|attempts| attempts == &[1]), "{computed:?}");
    }

    fn assert_results_are_undisturbed(&self) {
        assert_eq!(&self.workplace.outcomes(&self.sweep), undisturbed(self.text));
    }
}

/// A running `winsign run`, which is killed when it is dropped.
struct Running {
    child: Child,
    messages: PathBuf,
    summary: PathBuf,
}

impl Running {
    /// Waits until the command has ended, and returns its exit code and its messages.
    fn end(mut self) -> (Option<i32>, String) {
        let began = Instant::now();
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return (status.code(), self.messages()),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
            assert!(began.elapsed() < PATIENCE, "the study does not end: {}", self.messages());
        }
    }

    /// Waits until the command has ended; all runs must be done. Returns its messages.
    fn complete(self) -> String {
        let summary = self.summary.clone();
        let (code, messages) = self.end();
        assert_eq!(code, Some(0), "{messages}");
        let summary = read_json(&summary);
        assert_eq!(summary["runs"]["done"], summary["runs"]["total"], "{summary:#}");
        messages
    }

    fn messages(&self) -> String {
        fs::read_to_string(&self.messages).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client of NFS remembers for a while that a name was absent. Both machines look for all results at the start, in directories
/// that exist.
#[test]
fn no_run_is_computed_twice_if_machines_remember_that_it_had_no_result() {
    let Some(study) = SharedStudy::new(STUDY) else { return };
    study.prepare_directories();
    study.set("cache", 1000);
    study.run_on_both();
    study.assert_each_run_was_computed_once();
    study.assert_results_are_undisturbed();
}

#[test]
fn passing_errors_change_no_result() {
    let Some(study) = SharedStudy::new(STUDY) else { return };
    study.set("errors", 15);
    study.run_on_both();
    study.set("errors", 0);
    study.assert_results_are_undisturbed();
}

#[test]
fn no_living_run_is_taken_over_if_clocks_differ() {
    let Some(study) = SharedStudy::new(STUDY) else { return };
    study.machines[0].set("skew", 300);
    study.run_on_both();
    study.assert_each_run_was_computed_once();
    study.assert_results_are_undisturbed();
}

#[test]
fn run_of_a_lost_machine_is_taken_over() {
    let Some(study) = SharedStudy::new(LONG) else { return };
    study.machines[0].set("skew", -300);
    let run = study.first_run();
    let lost = study.start(0);
    wait_for("a checkpoint", || run.join("attempts/1/checkpoint.safetensors").exists().then_some(()));
    // The worker must not find out that its dispatcher was killed.
    signal(lost.child.id(), Signal::STOP);
    study.workers(0).into_iter().for_each(|worker| signal(worker, Signal::KILL));
    drop(lost);
    let (survivor, since) = (study.start(1), Instant::now());
    wait_for("the next attempt", || run.join("attempts/2.json").exists().then_some(()));
    assert!(since.elapsed() >= LOST_AFTER, "{:?}", since.elapsed());
    survivor.complete();
    assert_eq!(study.computed(), [vec![1, 2], vec![1]]);
    assert_eq!(read_json(&run.join("attempts/1/end.json"))["end"], "lost");
    study.assert_results_are_undisturbed();
}

/// The machine is frozen while it gives a new file its name.
#[test]
fn frozen_machine_that_wakes_up_ends_only_its_own_attempt() {
    let Some(study) = SharedStudy::new(LONG) else { return };
    let run = study.first_run();
    let frozen = study.start(0);
    wait_for("a checkpoint", || run.join("attempts/1/checkpoint.safetensors").exists().then_some(()));
    study.machines[0].set("hang_renames", 1);
    let is_draft = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().path().to_string_lossy().ends_with(".draft");
    wait_for("a draft", || fs::read_dir(run.join("attempts/1")).unwrap().any(is_draft).then_some(()));
    let processes: Vec<u32> = study.workers(0).into_iter().chain([frozen.child.id()]).collect();
    assert_eq!(processes.len(), 2);
    processes.iter().for_each(|&process| signal(process, Signal::STOP));
    let other = study.start(1);
    wait_for("the next attempt", || run.join("attempts/2/log").exists().then_some(()));
    study.machines[0].set("hang_renames", 0);
    processes.iter().for_each(|&process| signal(process, Signal::CONT));
    other.complete();
    let messages = frozen.complete();
    assert!(messages.contains("ended: Code(69)"), "{messages}");
    assert_eq!(study.computed(), [vec![1, 2], vec![1]]);
    study.assert_results_are_undisturbed();
}

/// The answer to a link gets lost, and the next try finds that the name exists; the loser gets another error.
#[test]
fn every_run_is_committed_once_if_answers_of_links_are_lost() {
    for lost in [Errno::IO, Errno::EXIST] {
        let Some(study) = SharedStudy::new(STUDY) else { return };
        study.set("lost_link", lost.raw_os_error().into());
        study.set("losing_link", Errno::PERM.raw_os_error().into());
        study.run_on_both();
        study.assert_each_run_was_computed_once();
        study.assert_results_are_undisturbed();
    }
}

/// (The kernel itself handles ENOSYS.)
#[test]
fn directories_need_not_be_synced() {
    for error in [Errno::INVAL, Errno::OPNOTSUPP] {
        let Some(study) = SharedStudy::new(LONG) else { return };
        study.set("no_fsyncdir", error.raw_os_error().into());
        study.start(0).complete();
        study.assert_results_are_undisturbed();
    }
}

#[test]
fn study_in_a_store_that_cannot_be_written_stops_with_one_message_and_continues() {
    let cases = [
        ("full", "No space left on device", "free some space"),
        ("read_only", "Read-only file system", "make the file system writable"),
    ];
    for (setting, message, help) in cases {
        let Some(study) = SharedStudy::new(STUDY) else { return };
        let run = study.start(0);
        wait_for("two runs", || (study.computed().iter().flatten().count() > 1).then_some(()));
        study.set(setting, 1);
        let (code, messages) = run.end();
        let errors: Vec<&str> = messages.lines().filter(|line| line.starts_with("error")).collect();
        assert_eq!((code, errors.len()), (Some(74), 1), "{messages}");
        assert!(errors[0].contains(message) && messages.contains(help), "{messages}");
        study.set(setting, 0);
        study.start(0).complete();
        study.assert_results_are_undisturbed();
    }
}

#[test]
fn study_without_hard_links_computes_each_run_once() {
    for error in [Errno::PERM, Errno::OPNOTSUPP] {
        let Some(study) = SharedStudy::new(STUDY) else { return };
        study.set("no_links", error.raw_os_error().into());
        study.run_on_both();
        study.assert_each_run_was_computed_once();
        study.assert_results_are_undisturbed();
    }
}
