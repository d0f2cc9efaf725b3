//! Studies that go to a real Slurm, which the tests start themselves, and come back whole, whatever dies in between.
#![cfg(feature = "worker")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::{Value, json};
use winsign_testkit::cluster::{Cluster, Settings};
use winsign_testkit::{SMALL, Workplace, ids, read_json, signal, stderr, stdout, succeed, wait_for, workers_of};

/// A sweep in a workplace of its own, and the cluster that it goes to.
struct Study {
    cluster: Cluster,
    workplace: Workplace,
    sweep: PathBuf,
}

impl Study {
    fn new(settings: Settings, text: &str) -> Study {
        let workplace = Workplace::new();
        let sweep = workplace.sweep("study.yaml", text);
        Study { cluster: Cluster::start(settings), workplace, sweep }
    }

    fn winsign(&self, command: &str) -> Command {
        let mut winsign = self.workplace.winsign(command, &self.sweep);
        winsign.envs(self.cluster.environment()).env_remove("WINSIGN_PROFILE");
        winsign
    }

    fn json(&self, command: &str, arguments: &[&str]) -> Value {
        winsign_testkit::json(&succeed(self.winsign(command).args(arguments).arg("--json")))
    }

    fn submit(&self, arguments: &[&str]) -> Value {
        self.json("submit", arguments)
    }

    fn profile(&self, text: &str) -> String {
        self.workplace.sweep("profile.yaml", text).to_str().unwrap().to_string()
    }

    fn counts(&self) -> Value {
        self.json("status", &[])["runs"].clone()
    }

    /// Until nothing of the study waits or runs; gives the counts. Slurm may take its time.
    fn wait(&self) -> Value {
        let began = Instant::now();
        loop {
            let counts = self.counts();
            let is = |state: &str| counts[state].as_u64().unwrap();
            if is("queued") + is("running") == 0 {
                return counts;
            }
            if began.elapsed() > Duration::from_secs(300) {
                panic!("{counts:#}\n{}\n{}", self.cluster.squeue("%i %T %r %j").join("\n"), self.logs());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn wait_until_done(&self) {
        let counts = self.wait();
        assert_eq!(counts["done"], counts["total"], "{counts:#}\n{}", self.logs());
    }

    /// What the jobs had to say.
    fn logs(&self) -> String {
        let mut text = String::new();
        for (path, _) in self.workplace.listing() {
            if path.parent().is_some_and(|folder| folder.ends_with("log")) {
                text += &format!("{}:\n{}\n", path.display(), fs::read_to_string(&path).unwrap_or_default());
            }
        }
        text
    }

    /// The identity of the run that is called so.
    fn id(&self, label: &str) -> String {
        let plan = self.json("plan", &[]);
        let run = plan["runs"].as_array().unwrap().iter().find(|run| run["label"] == label);
        run.unwrap_or_else(|| panic!("no {label} in {plan:#}"))["id"].as_str().unwrap().to_string()
    }

    fn result(&self, label: &str) -> Value {
        read_json(&self.workplace.run_directory(&self.id(label)).join("result.json"))
    }

    /// When the first attempt at a run began.
    fn began(&self, label: &str) -> jiff::Timestamp {
        let claim = read_json(&self.workplace.run_directory(&self.id(label)).join("attempts/1.json"));
        claim["began"].as_str().unwrap().parse().unwrap()
    }

    fn finished(&self, label: &str) -> jiff::Timestamp {
        self.result(label)["finished"].as_str().unwrap().parse().unwrap()
    }

    /// Waits until some run is being executed; gives its identity.
    fn wait_for_a_run(&self) -> String {
        wait_for("a run under way", || {
            let status = self.json("status", &[]);
            Some(status["running"].as_array()?.first()?["id"].as_str()?.to_string())
        })
    }
}

/// What a sweep gives on this machine when nothing disturbs it.
fn undisturbed(text: &str) -> BTreeMap<String, (Value, Option<String>)> {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("study.yaml", text);
    workplace.run_all(&sweep);
    workplace.outcomes(&sweep)
}

/// Two chains of two levels with a transfer from each level, and a path.
const SHORT: &str = "
dataset: digits
architecture: resnet8
ticket: {method: [lrr, aws], levels: 2, warmup_epochs: 2, epochs: 2}
transfer: {level: all, inherit: sign, epochs: 2, seed: 2..3}
connect: {between: seeds, level: last, points: 3}
";

/// One run that takes as long as it is told to.
fn long_run(epochs: u32) -> String {
    format!(
        "
dataset: digits
architecture: resnet8
ticket: {{method: lrr, levels: 1, warmup_epochs: {epochs}, epochs: 1}}
"
    )
}

#[test]
fn a_study_is_submitted_and_comes_back_whole() {
    let study = Study::new(Settings::default(), SHORT);
    // A program that will not be what it was when its jobs start.
    let worker = study.workplace.path("worker 'quoted'");
    fs::copy(env!("CARGO_BIN_EXE_winsign-worker"), &worker).unwrap();
    let worker_argument = worker.to_str().unwrap().to_string();

    let dry = stdout(&succeed(study.winsign("submit").args(["--dry-run", "--worker", &worker_argument])));
    assert!(dry.contains("#SBATCH --array=0-1") && dry.contains("16 runs in 6 arrays; nothing was submitted"), "{dry}");
    assert!(!study.workplace.store().exists(), "a rehearsal writes nothing");

    let submitted = study.submit(&["--worker", &worker_argument]);
    assert_eq!((&submitted["runs"], &submitted["arrays"], &submitted["tasks"]), (&16.into(), &6.into(), &16.into()));
    fs::remove_file(&worker).unwrap();
    fs::write(&worker, "#!/bin/sh\nexit 1\n").unwrap();

    let counts = study.counts();
    assert_eq!(counts["pending"], 0, "{counts:#}");
    // What is in the queue is not submitted again.
    assert_eq!(study.submit(&["--worker", env!("CARGO_BIN_EXE_winsign-worker")])["runs"], 0);
    study.wait_until_done();
    assert_eq!(study.workplace.outcomes(&study.sweep), undisturbed(SHORT));
    assert!(study.json("plan", &[])["runs"].as_array().unwrap().iter().all(|run| run["state"] == "done"));

    // What needs level 1 does not wait for level 2.
    for method in ["lrr", "aws"] {
        let early = study.began(&format!("{method} level 1, sign, seed 2"));
        assert!(early < study.finished(&format!("{method} level 2, sign, seed 2")), "{method}");
    }
    let report = study.json("report", &[]);
    assert_eq!(report["runs"]["done"], 16, "{report:#}");
}

#[test]
fn a_transfer_starts_when_its_level_is_done_and_not_when_all_are() {
    let text = "
dataset: digits
architecture: resnet8
ticket: {method: lrr, levels: 5, warmup_epochs: 1, epochs: 4}
transfer: {level: 1, inherit: sign, epochs: 1, seed: 2}
";
    let study = Study::new(Settings::default(), text);
    study.submit(&[]);
    study.wait_until_done();
    assert!(study.finished("lrr level 1, sign, seed 2") < study.finished("lrr level 5, seed 1"));
    assert!(study.began("lrr level 1, sign, seed 2") > study.finished("lrr level 1, seed 1"));
}

#[test]
fn small_limits_are_kept_and_what_does_not_fit_follows() {
    let text = "
dataset: digits
architecture: resnet8
ticket: {method: lrr, levels: 1, warmup_epochs: 1, epochs: 1}
transfer: {inherit: sign, epochs: 1, seed: 2..15}
";
    let study = Study::new(Settings { conf: &["MaxArraySize=5"], ..Settings::default() }, text);
    let profile = study.profile("max_submit: 4\npack: 2\n");
    let submitted = study.submit(&["--profile", &profile, "--max-running", "2"]);
    // 2 tickets, then 14 transfers in 7 tasks: arrays of two, so that there is always room for one more.
    assert_eq!((&submitted["runs"], &submitted["arrays"]), (&16.into(), &3.into()), "{submitted:#}");
    assert_eq!(submitted["arrays_left"], 3, "{submitted:#}");
    let mut most = 0;
    while study.cluster.command("squeue").arg("-h").output().is_ok_and(|output| !output.stdout.is_empty()) {
        let states = study.cluster.squeue("%T");
        most = most.max(states.iter().filter(|state| *state == "RUNNING").count());
        assert!(
            states.iter().filter(|state| ["PENDING", "RUNNING"].contains(&state.as_str())).count() <= 4,
            "{states:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    study.wait_until_done();
    assert!((1..=2).contains(&most), "{most} jobs ran at once");
    let mut tasks: BTreeMap<String, usize> = BTreeMap::new();
    for job in study.cluster.squeue("%F") {
        *tasks.entry(job).or_default() += 1;
    }
    assert_eq!(tasks.values().sum::<usize>(), 2 + 7, "a run of one level a task, and 14 transfers in pairs: {tasks:?}");
    assert!(tasks.values().all(|&tasks| tasks <= 2), "{tasks:?}");
}

#[test]
fn a_preempted_run_goes_on_where_it_was() {
    let study = Study::new(Settings { nodes: 1, cpus: 1, ..Settings::default() }, &long_run(60));
    study.submit(&["--partition", "spot"]);
    let id = study.wait_for_a_run();
    let metrics = study.workplace.run_directory(&id).join("attempts/1/metrics.jsonl");
    wait_for("an epoch", || metrics.exists().then_some(()));
    study.cluster.sbatch(&["--partition=batch"], "sleep 2");
    study.wait_until_done();
    assert!(study.workplace.attempts(&id) >= 2, "it was preempted: {}", study.logs());
    let last = read_json(&study.workplace.run_directory(&id).join("result.json"))["metrics"]["path"].clone();
    let metrics = fs::read_to_string(study.workplace.run_directory(&id).join(last.as_str().unwrap())).unwrap();
    assert_eq!(metrics.lines().count(), 60, "no epoch is missing");
    let log = fs::read_to_string(study.workplace.run_directory(&id).join("attempts/2/log")).unwrap();
    assert!(log.lines().filter(|line| line.contains(": train loss")).count() < 60, "it went on: {log}");
    assert_eq!(study.workplace.outcomes(&study.sweep), undisturbed(&long_run(60)));
}

/// Slurm looks every 30 seconds whether a job nears its end, and then tells it: some time in the first half of this minute.
#[test]
fn a_time_limit_is_no_end() {
    let study = Study::new(Settings { nodes: 1, cpus: 1, ..Settings::default() }, &long_run(500));
    let profile = study.profile("time: \"1\"\ngrace: 30\n");
    study.submit(&["--profile", &profile]);
    let id = study.wait_for_a_run();
    study.wait_until_done();
    assert!(study.workplace.attempts(&id) >= 2, "one job was too short: {}", study.logs());
    let ended: Value = read_json(&study.workplace.run_directory(&id).join("attempts/1/end.json"));
    assert_eq!(ended["end"], "interrupted");
}

/// Slurm gives the job to another node while its first copy still lives, which it cannot know. The nodes take each other for
/// other machines; the first copy sleeps until it counts as dead, wakes while the second one works, and finds out.
#[test]
fn of_two_copies_of_a_run_on_two_nodes_one_counts() {
    let text = long_run(150);
    let study = Study::new(Settings { nodes: 2, cpus: 1, ..Settings::default() }, &text);
    let profile = study.profile("setup: export WINSIGN_MACHINE=$SLURMD_NODENAME\n");
    study.submit(&["--profile", &profile]);
    let id = study.wait_for_a_run();
    let run = study.workplace.run_directory(&id);
    wait_for("an epoch", || run.join("attempts/1/metrics.jsonl").exists().then_some(()));
    let job = study.cluster.squeue("%i %T %N").into_iter().find(|job| job.contains("RUNNING")).unwrap();
    let node: u16 = job.rsplit('-').next().unwrap().parse().unwrap();
    study.cluster.kill_node(node);
    let first = workers_of(&study.workplace.store());
    first.iter().for_each(|&worker| signal(worker, Signal::STOP));
    for file in ["attempts/1/status.json", "attempts/1.json"] {
        let file = fs::File::options().append(true).open(run.join(file)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(120)).unwrap();
    }
    // Noticed after the controller's time-out; then the same job runs elsewhere.
    wait_for("the second copy to take over", || run.join("attempts/2/metrics.jsonl").exists().then_some(()));
    first.iter().for_each(|&worker| signal(worker, Signal::CONT));
    wait_for("the first copy to find out", || {
        let lives = |worker: &u32| workers_of(&study.workplace.store()).contains(worker);
        (!first.iter().any(lives)).then_some(())
    });
    study.cluster.start_node(node);
    study.wait_until_done();
    assert_eq!(study.workplace.outcomes(&study.sweep), undisturbed(&text));
    assert_eq!(read_json(&run.join("result.json"))["attempt"], 2);
    assert!(!run.join("attempts/1/network.safetensors").exists(), "the first copy did not come to its end");
}

#[test]
fn the_controller_may_be_restarted() {
    let study = Study::new(Settings::default(), SHORT);
    study.submit(&[]);
    study.wait_for_a_run();
    study.cluster.restart_controller();
    study.wait_until_done();
    assert_eq!(study.workplace.outcomes(&study.sweep), undisturbed(SHORT));
}

#[test]
fn failures_block_what_needs_them_and_nothing_else_and_are_retried_when_asked() {
    let text = "
dataset: digits
architecture: resnet8
ticket: {method: lrr, levels: 1, lr: [0.1, 1.0e+30], warmup_epochs: 1, epochs: 1}
transfer: {inherit: sign, epochs: 1, lr: 0.1, seed: 2}
";
    let study = Study::new(Settings::default(), text);
    study.submit(&[]);
    let counts = study.wait();
    assert_eq!(
        (&counts["done"], &counts["failed"], &counts["blocked"]),
        (&3.into(), &1.into(), &2.into()),
        "{counts:#}"
    );
    let status = stdout(&succeed(&mut study.winsign("status")));
    assert!(status.contains("failed:") && status.contains("NaN"), "{status}");

    let dry = study.json("retry", &["--failed", "--dry-run"]);
    assert_eq!(dry["retried"].as_array().unwrap().len(), 1, "{dry:#}");
    let attempts = |study: &Study| {
        let failed = study.json("status", &[])["failed"][0]["attempts"].as_u64();
        failed.unwrap_or_default()
    };
    let before = attempts(&study);
    // What is still in the queue would not be submitted a second time.
    study.cluster.wait_until_idle(Duration::from_secs(60));
    let again = study.json("retry", &["--failed"]);
    assert_eq!(again["submission"]["runs"], 3, "with what was blocked: {again:#}");
    let counts = study.wait();
    assert_eq!(counts["failed"], 1, "{counts:#}");
    assert!(attempts(&study) > before, "it was tried again");
    // A plain submission gives it a new chance as well.
    study.cluster.wait_until_idle(Duration::from_secs(60));
    assert_eq!(study.submit(&[])["runs"], 3);
    study.wait();
}

#[test]
fn a_cancelled_study_saves_stops_and_goes_on_when_submitted_again() {
    let study = Study::new(Settings { nodes: 1, cpus: 1, ..Settings::default() }, &long_run(100));
    study.submit(&[]);
    let id = study.wait_for_a_run();
    let metrics = study.workplace.run_directory(&id).join("attempts/1/metrics.jsonl");
    wait_for("an epoch", || metrics.exists().then_some(()));

    let held = study.json("hold", &[]);
    assert_eq!(held["jobs"].as_array().unwrap().len(), 1, "level 1 waits: {held:#}");
    let status = stdout(&succeed(&mut study.winsign("status")));
    assert!(status.contains("held") && status.contains("winsign release"), "{status}");
    assert_eq!(study.json("release", &[])["jobs"].as_array().unwrap().len(), 1);

    let dry = study.json("cancel", &["--dry-run"]);
    assert_eq!(dry["jobs"], json!({ "waiting": dry["jobs"]["waiting"], "running": dry["jobs"]["running"] }));
    assert_eq!(dry["jobs"]["running"].as_array().unwrap().len(), 1, "{dry:#}");
    study.json("cancel", &[]);
    study.cluster.wait_until_idle(Duration::from_secs(60));
    let counts = study.wait();
    assert_eq!((&counts["pending"], &counts["done"]), (&2.into(), &0.into()), "{counts:#}");
    let ended: Value = read_json(&study.workplace.run_directory(&id).join("attempts/1/end.json"));
    assert_eq!(ended["end"], "interrupted");
    assert!(study.workplace.run_directory(&id).join("attempts/1/checkpoint.safetensors").exists());

    assert_eq!(study.submit(&[])["runs"], 2);
    study.wait_until_done();
    assert_eq!(study.workplace.attempts(&id), 2);
    assert_eq!(study.workplace.outcomes(&study.sweep), undisturbed(&long_run(100)));
}

/// The jobs that were cancelled are still saving then.
#[test]
fn a_cancelled_study_may_be_submitted_again_at_once() {
    let text = long_run(60);
    let study = Study::new(Settings { nodes: 1, cpus: 2, ..Settings::default() }, &text);
    study.submit(&[]);
    study.wait_for_a_run();
    study.json("cancel", &[]);
    assert_eq!(study.submit(&[])["runs"], 2);
    study.wait_until_done();
    assert_eq!(study.workplace.outcomes(&study.sweep), undisturbed(&text));
}

#[test]
fn what_slurm_itself_is_told_to_cancel_stays_cancelled() {
    let study = Study::new(Settings { nodes: 1, cpus: 1, ..Settings::default() }, &long_run(300));
    study.submit(&[]);
    let id = study.wait_for_a_run();
    let checkpoint = study.workplace.run_directory(&id).join("attempts/1/checkpoint.safetensors");
    wait_for("an epoch", || checkpoint.exists().then_some(()));
    succeed(study.cluster.command("scancel").args(["--user", "root"]).arg("--partition=batch"));
    study.cluster.wait_until_idle(Duration::from_secs(60));
    let counts = study.wait();
    assert_eq!((&counts["pending"], &counts["done"]), (&2.into(), &0.into()), "{counts:#}");
    assert_eq!(study.submit(&[])["runs"], 2, "what is missing");
}

#[test]
#[cfg(feature = "mpi")]
fn the_ranks_of_a_run_may_be_on_two_nodes() {
    let text = "
dataset: digits
architecture: resnet8
ticket: {method: lrr, levels: 1, warmup_epochs: 1, epochs: 1}
resources: {ranks: 2}
";
    for launcher in ["srun", "mpirun", "srun --exact -n {ranks} -c {threads} --mpi=pmix"] {
        let study = Study::new(Settings { cpus: 1, ..Settings::default() }, text);
        let profile = study.profile(&format!("launcher: {launcher}\nranks_per_node: 1\n"));
        study.submit(&["--profile", &profile]);
        study.wait_until_done();
        let result = study.result("lrr level 1, seed 1");
        assert_eq!(result["ranks"], 2, "{launcher}: {result:#}");
    }
}

/// Each level by a job of its own, as if it had never been computed; not all of them by the first that misses them.
#[test]
fn networks_that_were_cleaned_and_are_needed_again_are_computed_by_jobs() {
    let study = Study::new(Settings::default(), SMALL);
    let workplace = &study.workplace;
    workplace.run_all(&study.sweep);
    let before = workplace.outcomes(&study.sweep);
    succeed(workplace.winsign("clean", &study.sweep).args(["--networks", "--yes"]));
    let first = workplace.sweep("first.yaml", SMALL);
    workplace.sweep("study.yaml", &SMALL.replace("2..3", "2..4"));
    // The chain, the transfers at the other ends of the new paths, the new transfer, its two paths.
    assert_eq!(study.submit(&[])["runs"], 8);
    let tickets = ids(&workplace.plan(&study.sweep), "ticket");
    for ticket in &tickets {
        assert!(workplace.run_directory(ticket).join("result.json.damaged-1").exists(), "it is to be computed again");
    }
    study.wait_until_done();
    assert_eq!(workplace.outcomes(&first), before);
    assert!(tickets.iter().all(|ticket| workplace.attempts(ticket) == 2));
}

#[test]
fn without_slurm_there_is_one_message() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("study.yaml", winsign_testkit::SMALL);
    let mut submit = workplace.winsign("submit", &sweep);
    let output = submit.args(["--worker", "/bin/true"]).env("PATH", "").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    assert!(told.contains("cannot use Slurm on this machine") && told.contains("winsign run"), "{told}");
    assert!(!workplace.store().join("submissions").exists());
}

#[test]
fn rejection_shows_the_message_of_slurm_and_the_settings() {
    let study = Study::new(Settings { nodes: 1, ..Settings::default() }, SHORT);
    let profile = study.profile("# ours\ntime: 1:00:00\npartition: nowhere\n");
    let output = study.winsign("submit").args(["--profile", &profile]).output().unwrap();
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("Slurm rejected the jobs: ") && told.contains("nvalid partition"), "{told}");
    assert!(told.contains("profile.yaml: `partition: nowhere`, `time: 1:00:00`"), "{told}");
    // Nothing is left that would count as submitted.
    let counts = study.counts();
    assert_eq!(counts["pending"], counts["total"], "{counts:#}");
}

/// Fifty times something dies: a worker, a node's slurmd, the `winsign run` that helps. Nobody does anything about it, and
/// every number is that of an undisturbed study.
#[test]
fn fifty_kills_change_no_number() {
    let text = "
dataset: digits
architecture: resnet8
ticket: {method: [lrr, aws], levels: 5, warmup_epochs: 10, epochs: 10}
transfer: {level: all, inherit: sign, epochs: 10, seed: 2..3}
connect: {between: seeds, points: 5}
resources: {jobs: 1}
";
    let study = Study::new(Settings { nodes: 3, cpus: 2, ..Settings::default() }, text);
    study.submit(&["--max-running", "3"]);
    let helper = || {
        let mut run = study.winsign("run");
        run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut help = helper();
    let mut random = 88_172_645_463_325_252u64;
    let mut draw = |below: usize| {
        // Xorshift (Marsaglia, 2003): the kills of one test differ, those of two runs of it need not.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let mut kills = 0;
    let mut dead_node = None;
    while kills < 50 {
        std::thread::sleep(Duration::from_millis(100 + draw(400) as u64));
        if let Some(node) = dead_node.take() {
            study.cluster.start_node(node);
        }
        match draw(10) {
            0 => {
                let node = 1 + draw(3) as u16;
                study.cluster.kill_node(node);
                dead_node = Some(node);
                kills += 1;
            }
            1 | 2 => {
                let _ = help.kill();
                help.wait().unwrap();
                help = helper();
                kills += 1;
            }
            _ => {
                let workers = workers_of(&study.workplace.store());
                if let Some(&worker) = workers.get(draw(workers.len().max(1))) {
                    signal(worker, Signal::KILL);
                    kills += 1;
                }
            }
        }
        let counts = study.counts();
        assert!(counts["done"] != counts["total"] || kills >= 50, "it was over after {kills} kills");
    }
    if let Some(node) = dead_node {
        study.cluster.start_node(node);
    }
    study.wait_until_done();
    let _ = help.kill();
    help.wait().unwrap();
    assert_eq!(study.workplace.outcomes(&study.sweep), undisturbed(text));
}
