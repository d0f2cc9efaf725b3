//! Studies that are submitted to stand-ins for PBS (`tests/pbs/pbs`), which behave as its manual says.
#![cfg(feature = "worker")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use winsign_testkit::{Workplace, ids, read_json, stderr, stdout, succeed, wait_for};

/// A study in its own workplace, and the server that it is submitted to. When it is dropped, all jobs end.
struct Study {
    workplace: Workplace,
    sweep: PathBuf,
    profile: PathBuf,
    server: Child,
}

impl Drop for Study {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        let _ = self.server.wait();
    }
}

impl Study {
    fn new(settings: Value, profile: &str, sweep: &str) -> Study {
        let workplace = Workplace::new();
        let root = workplace.path("pbs");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("settings.json"), settings.to_string()).unwrap();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pbs/pbs");
        let server = Command::new(program).arg("server").arg(&root).stdin(Stdio::piped()).spawn().unwrap();
        wait_for("the commands", || root.join("bin/qrerun").exists().then_some(()));
        let sweep = workplace.sweep("study.yaml", sweep);
        let profile = workplace.sweep("profile.yaml", &format!("scheduler: pbs\n{profile}"));
        Study { workplace, sweep, profile, server }
    }

    fn command(&self, mut command: Command) -> Command {
        let path = format!("{}:/usr/bin:/bin", self.workplace.path("pbs/bin").display());
        command.env("PATH", path).env_remove("WINSIGN_PROFILE");
        command
    }

    fn winsign(&self, command: &str) -> Command {
        self.command(self.workplace.winsign(command, &self.sweep))
    }

    fn json(&self, command: &str, arguments: &[&str]) -> Value {
        winsign_testkit::json(&succeed(self.winsign(command).args(arguments).arg("--json")))
    }

    fn submit(&self) -> Value {
        self.json("submit", &["--profile", self.profile.to_str().unwrap()])
    }

    fn status(&self) -> String {
        stdout(&succeed(&mut self.winsign("status")))
    }

    /// Returns the names of the jobs that PBS knows.
    fn jobs(&self) -> Vec<String> {
        let answer = succeed(self.command(Command::new("qstat")).args(["-f", "-F", "json"]));
        let answer = winsign_testkit::json(&answer);
        answer["Jobs"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    }

    /// Returns the arguments of each call of qsub.
    fn submissions(&self) -> Vec<Vec<String>> {
        let text = fs::read_to_string(self.workplace.path("pbs/submitted")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn logs(&self) -> String {
        let listing = self.workplace.listing();
        let logs = listing.iter().filter(|(path, _)| path.parent().is_some_and(|folder| folder.ends_with("log")));
        logs.map(|(path, _)| fs::read_to_string(path).unwrap_or_default()).collect()
    }

    fn wait_until_done(&self) {
        let began = Instant::now();
        loop {
            let counts = self.json("status", &[])["runs"].clone();
            if counts["done"] == counts["total"] {
                return;
            }
            let active = ["queued", "running"].iter().any(|state| counts[*state] != 0);
            let in_time = began.elapsed() < Duration::from_secs(120);
            assert!(active && in_time, "{counts:#}\n{:?}\n{}", self.jobs(), self.logs());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until a run has finished an epoch, and returns its directory.
    fn wait_for_an_epoch(&self) -> PathBuf {
        wait_for("an epoch", || {
            let status = self.json("status", &[]);
            let id = status["running"].as_array()?.first()?["id"].as_str()?.to_string();
            let run = self.workplace.run_directory(&id);
            run.join("attempts/1/metrics.jsonl").exists().then_some(run)
        })
    }

    fn cancel(&self) {
        self.json("cancel", &["--now"]);
        wait_for("the end of all jobs", || self.jobs().is_empty().then_some(()));
    }
}

/// A chain of two tickets, two transfers, and their path: of four arrays, three have a single task.
const CHAIN: &str = "
dataset: digits
architecture: resnet8
ticket: {method: lrr, levels: 1, warmup_epochs: 1, epochs: 1}
transfer: {inherit: sign, level: 1, epochs: 1, seed: 2..3}
connect: {between: seeds, points: 3}
";

/// A study whose first run does not end.
const ENDLESS: &str = "
dataset: digits
architecture: resnet8
ticket: {method: lrr, levels: 1, warmup_epochs: 1000000, epochs: 1}
";

#[test]
fn submitted_study_is_computed_and_single_tasks_are_not_arrays() {
    let study = Study::new(json!({}), "time: 10:00\nmax_running: 2", CHAIN);
    assert_eq!(study.submit()["tasks"], 5);
    study.wait_until_done();
    let plan = study.workplace.plan(&study.sweep);
    assert!(plan.iter().all(|run| study.workplace.attempts(run["id"].as_str().unwrap()) == 1), "{}", study.logs());
    let ranges: Vec<bool> = study.submissions().iter().map(|words| words.iter().any(|word| word == "-J")).collect();
    assert_eq!(ranges, [false, false, true, false]);
    let waits = |words: &Vec<String>| words.iter().any(|word| word.starts_with("depend=afterany:"));
    assert_eq!(study.submissions().iter().map(waits).collect::<Vec<_>>(), [false, true, true, true]);

    let other = Workplace::new();
    let sweep = other.sweep("study.yaml", CHAIN);
    other.run_all(&sweep);
    assert_eq!(study.workplace.outcomes(&study.sweep), other.outcomes(&sweep));
    assert_eq!(study.submit()["runs"], 0);
}

#[test]
fn arrays_beyond_the_limits_follow() {
    let settings = json!({ "max_array_size": 2, "max_queued": 3, "cpus": 2 });
    let study = Study::new(settings, "", &CHAIN.replace("2..3", "2..4"));
    assert!(study.submit()["arrays_left"].as_u64().unwrap() > 0);
    study.wait_until_done();
}

#[test]
fn cancelled_study_saves_and_resumes() {
    let study = Study::new(json!({}), "", ENDLESS);
    study.submit();
    let run = study.wait_for_an_epoch();
    let dry = study.json("cancel", &["--dry-run"]);
    assert_eq!(dry["jobs"], json!({ "waiting": ["2.head"], "running": ["1.head"] }));
    study.json("cancel", &[]);
    wait_for("the end of all jobs", || study.jobs().is_empty().then_some(()));
    assert_eq!(read_json(&run.join("attempts/1/end.json"))["end"], "interrupted", "{}", study.logs());
    assert!(run.join("attempts/1/checkpoint.safetensors").exists());
    assert_eq!(study.submit()["runs"], 2);
    wait_for("the second attempt", || run.join("attempts/2/metrics.jsonl").exists().then_some(()));
    study.cancel();
}

#[test]
fn held_jobs_start_when_they_are_released() {
    let study = Study::new(json!({ "cpus": 1 }), "", CHAIN);
    let plan = study.workplace.plan(&study.sweep);
    study.submit();
    let held = study.json("hold", &[])["jobs"].clone();
    assert!(held.as_array().unwrap().contains(&json!("3[0-1].head")), "{held:#}");
    let first = study.workplace.run_directory(&ids(&plan, "ticket")[0]);
    wait_for("the first ticket or its hold", || {
        let is_held = held.as_array().unwrap().contains(&json!("1.head"));
        (is_held || first.join("result.json").exists()).then_some(())
    });
    let status = study.status();
    assert!(status.contains("held") && status.contains("winsign release"), "{status}");
    assert_eq!(study.json("release", &[])["jobs"], held);
    study.wait_until_done();
}

/// Only operators may use qrerun; the jobs of others submit their task again.
#[test]
fn run_longer_than_its_time_limit_resumes() {
    for operator in [false, true] {
        let study = Study::new(json!({ "operator": operator }), "time: 10\ngrace: 6", ENDLESS);
        study.submit();
        let run = study.wait_for_an_epoch();
        wait_for("the second attempt", || run.join("attempts/2/metrics.jsonl").exists().then_some(()));
        assert_eq!(read_json(&run.join("attempts/1/end.json"))["end"], "interrupted", "{}", study.logs());
        let expected = if operator { "1.head" } else { "3.head" };
        assert!(study.jobs().contains(&expected.to_string()), "{:?}\n{}", study.jobs(), study.logs());
        study.cancel();
    }
}

#[test]
fn task_that_cannot_go_on_is_held_with_the_reason() {
    let study = Study::new(json!({}), "", CHAIN);
    study.submit();
    let submissions = study.workplace.store().join("submissions");
    let submission = fs::read_dir(submissions).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
    // The transfers, which wait for the tickets.
    let file = submission.unwrap().join("arrays/2.runs");
    let content = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let status = wait_for("both tasks", || {
        let status = study.status();
        status.contains("2 jobs of submission").then_some(status)
    });
    assert!(status.contains("there is no such file"), "{status}");
    fs::write(&file, content).unwrap();
    study.json("release", &[]);
    study.wait_until_done();
}

#[test]
fn ranks_of_a_run_are_connected() {
    let setup = "setup: export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1";
    let sweep = CHAIN.split("transfer").next().unwrap();
    let study = Study::new(json!({}), setup, &format!("{sweep}resources: {{ranks: 2}}\n"));
    study.submit();
    study.wait_until_done();
    assert!(study.submissions()[0].contains(&"select=1:ncpus=2:mpiprocs=2".to_string()));
    for id in ids(&study.workplace.plan(&study.sweep), "ticket") {
        let result = read_json(&study.workplace.run_directory(&id).join("result.json"));
        assert_eq!(result["ranks"], 2, "{result:#}");
    }
}

#[test]
fn rejection_shows_the_message_of_pbs_and_the_settings() {
    let study = Study::new(json!({}), "partition: nowhere", CHAIN);
    let output = study.winsign("submit").arg("--profile").arg(&study.profile).output().unwrap();
    let message = stderr(&output);
    assert!(message.contains("PBS rejected the jobs: Unknown queue"), "{message}");
    assert!(message.contains("`partition: nowhere`"), "{message}");
    assert_eq!(study.submissions().len(), 1);
    assert!(!study.status().contains("submission"), "{}", study.status());
}
