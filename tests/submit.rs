//! Studies that are submitted to a real Slurm, which the tests start, are computed completely even if processes are killed.
#![cfg(feature = "worker")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use winsign_core::random::Source;
use winsign_testkit::cluster::{Cluster, Settings};
use winsign_testkit::{SMALL, Workplace, find_workers, ids, read_json, signal, stderr, stdout, succeed, wait_for};

/// A sweep in its own workplace, and the cluster that it is submitted to.
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

    /// Waits until no run of the study is queued or running; returns the counts.
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

    /// Waits until no job is left; returns the counts. A run that fails counts as failed until its job tries it again.
    fn wait_for_jobs(&self) -> Value {
        self.wait();
        self.cluster.wait_until_idle(Duration::from_secs(120));
        self.counts()
    }

    fn wait_until_done(&self) {
        let counts = self.wait();
        assert_eq!(counts["done"], counts["total"], "{counts:#}\n{}", self.logs());
    }

    /// Returns the output of all jobs.
    fn logs(&self) -> String {
        let mut text = String::new();
        for (path, _) in self.workplace.listing() {
            if path.parent().is_some_and(|folder| folder.ends_with("log")) {
                text += &format!("{}:\n{}\n", path.display(), fs::read_to_string(&path).unwrap_or_default());
            }
        }
        text
    }

    /// Returns the identity of the run with this label.
    fn id(&self, label: &str) -> String {
        let plan = self.json("plan", &[]);
        let run = plan["runs"].as_array().unwrap().iter().find(|run| run["label"] == label);
        run.unwrap_or_else(|| panic!("no {label} in {plan:#}"))["id"].as_str().unwrap().to_string()
    }

    fn result(&self, label: &str) -> Value {
        read_json(&self.workplace.run_directory(&self.id(label)).join("result.json"))
    }

    /// Returns when the first attempt at a run began.
    fn began(&self, label: &str) -> jiff::Timestamp {
        let claim = read_json(&self.workplace.run_directory(&self.id(label)).join("attempts/1.json"));
        claim["began"].as_str().unwrap().parse().unwrap()
    }

    fn finished(&self, label: &str) -> jiff::Timestamp {
        self.result(label)["finished"].as_str().unwrap().parse().unwrap()
    }

    /// Waits until a run is running; returns its identity.
    fn wait_for_a_run(&self) -> String {
        wait_for("a running run", || {
            let status = self.json("status", &[]);
            Some(status["running"].as_array()?.first()?["id"].as_str()?.to_string())
        })
    }
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// Returns the PATH with a folder of programs that replace others.
fn path_with(programs: &Path) -> OsString {
    let path = std::env::var_os("PATH").unwrap();
    std::env::join_paths([programs.to_path_buf()].into_iter().chain(std::env::split_paths(&path))).unwrap()
}

/// Executes a sweep on this machine, without Slurm and interruptions; returns its outcomes.
fn uninterrupted(text: &str) -> BTreeMap<String, (Value, Option<String>)> {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("study.yaml", text);
    workplace.run_all(&sweep);
    workplace.outcomes(&sweep)
}

/// Two tickets with two levels, two transfers from each level, and a path.
const SHORT: &str = "
dataset: digits
architecture: resnet8
ticket: {method: [lrr, aws], levels: 2, warmup_epochs: 2, epochs: 2}
transfer: {level: all, inherit: sign, epochs: 2, seed: 2..3}
connect: {between: seeds, level: last, points: 3}
";

/// A ticket that two ranks compute.
#[cfg(feature = "mpi")]
const TWO_RANKS: &str = "
dataset: digits
architecture: resnet8
ticket: {method: lrr, levels: 1, warmup_epochs: 1, epochs: 1}
resources: {ranks: 2}
";

/// Returns a study whose first run takes this many epochs.
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
fn submitted_study_has_the_same_results() {
    let study = Study::new(Settings::default(), SHORT);
    // This program will be replaced before its jobs start.
    let worker = study.workplace.path("worker 'quoted'");
    fs::copy(env!("CARGO_BIN_EXE_winsign-worker"), &worker).unwrap();
    let worker_argument = worker.to_str().unwrap().to_string();

    let dry = stdout(&succeed(study.winsign("submit").args(["--dry-run", "--worker", &worker_argument])));
    assert!(dry.contains("#SBATCH --array=0-1") && dry.contains("16 runs in 6 arrays; nothing was submitted"), "{dry}");
    assert!(!study.workplace.store().exists(), "a dry run must write nothing");

    let submitted = study.submit(&["--worker", &worker_argument]);
    assert_eq!((&submitted["runs"], &submitted["arrays"], &submitted["tasks"]), (&16.into(), &6.into(), &16.into()));
    fs::remove_file(&worker).unwrap();
    fs::write(&worker, "#!/bin/sh\nexit 1\n").unwrap();

    let counts = study.counts();
    assert_eq!(counts["pending"], 0, "{counts:#}");
    // Runs that are in the queue are not submitted again.
    assert_eq!(study.submit(&["--worker", env!("CARGO_BIN_EXE_winsign-worker")])["runs"], 0);
    study.wait_until_done();
    assert_eq!(study.workplace.outcomes(&study.sweep), uninterrupted(SHORT));
    assert!(study.json("plan", &[])["runs"].as_array().unwrap().iter().all(|run| run["state"] == "done"));

    // Transfers from level 1 do not wait for level 2.
    for method in ["lrr", "aws"] {
        let early = study.began(&format!("{method} level 1, sign, seed 2"));
        assert!(early < study.finished(&format!("{method} level 2, sign, seed 2")), "{method}");
    }
    let report = study.json("report", &[]);
    assert_eq!(report["runs"]["done"], 16, "{report:#}");
}

#[test]
fn transfer_starts_when_its_level_is_done() {
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
fn small_limits_are_respected_and_the_rest_follows() {
    let text = "
dataset: digits
architecture: resnet8
ticket: {method: lrr, levels: 1, warmup_epochs: 1, epochs: 1}
transfer: {inherit: sign, epochs: 1, seed: 2..15}
";
    let study = Study::new(Settings { conf: &["MaxArraySize=5"], ..Settings::default() }, text);
    let profile = study.profile("max_submit: 4\npack: 2\n");
    let submitted = study.submit(&["--profile", &profile, "--max-running", "2"]);
    // There are 2 tickets, and 14 transfers in 7 tasks. Arrays have two tasks, so that another array fits into the limit of 4.
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
    assert!((1..=2).contains(&most), "{most} jobs ran at the same time");
    let mut tasks: BTreeMap<String, usize> = BTreeMap::new();
    for job in study.cluster.squeue("%F") {
        *tasks.entry(job).or_default() += 1;
    }
    assert_eq!(tasks.values().sum::<usize>(), 2 + 7, "one task per level, and one task per two transfers: {tasks:?}");
    assert!(tasks.values().all(|&tasks| tasks <= 2), "{tasks:?}");
}

#[test]
fn preempted_run_resumes() {
    let study = Study::new(Settings { nodes: 1, cpus: 1, ..Settings::default() }, &long_run(60));
    study.submit(&["--partition", "spot"]);
    let id = study.wait_for_a_run();
    let metrics = study.workplace.run_directory(&id).join("attempts/1/metrics.jsonl");
    wait_for("an epoch", || metrics.exists().then_some(()));
    study.cluster.sbatch(&["--partition=batch"], "sleep 2");
    study.wait_until_done();
    assert!(study.workplace.attempts(&id) >= 2, "the run must have been preempted: {}", study.logs());
    let last = read_json(&study.workplace.run_directory(&id).join("result.json"))["metrics"]["path"].clone();
    let metrics = fs::read_to_string(study.workplace.run_directory(&id).join(last.as_str().unwrap())).unwrap();
    assert_eq!(metrics.lines().count(), 60, "no epoch must be missing");
    let log = fs::read_to_string(study.workplace.run_directory(&id).join("attempts/2/log")).unwrap();
    assert!(
        log.lines().filter(|line| line.contains(": train loss")).count() < 60,
        "the second attempt must resume: {log}"
    );
    assert_eq!(study.workplace.outcomes(&study.sweep), uninterrupted(&long_run(60)));
}

/// Slurm checks every 30 seconds whether to signal jobs that are near their time limit. The job's limit is a minute, so it gets
/// the signal in the first half of it.
#[test]
fn run_longer_than_its_time_limit_resumes() {
    let study = Study::new(Settings { nodes: 1, cpus: 1, ..Settings::default() }, &long_run(500));
    let profile = study.profile("time: \"1\"\ngrace: 30\n");
    study.submit(&["--profile", &profile]);
    let id = study.wait_for_a_run();
    study.wait_until_done();
    assert!(study.workplace.attempts(&id) >= 2, "the job must have reached its time limit: {}", study.logs());
    let ended: Value = read_json(&study.workplace.run_directory(&id).join("attempts/1/end.json"));
    assert_eq!(ended["end"], "interrupted");
}

/// Slurm starts the job again on another node while its first copy is still alive on a node that does not answer. Each node
/// counts as another machine. The first copy is stopped until its heartbeat has timed out, and is continued while the second
/// copy is running; it must detect the second copy.
#[test]
fn superseded_copy_on_another_node_does_not_commit() {
    let text = long_run(150);
    let study = Study::new(Settings { nodes: 2, cpus: 1, ..Settings::default() }, &text);
    let profile = study.profile("setup: export WINSIGN_MACHINE=$SLURMD_NODENAME WINSIGN_LOST_AFTER=5\n");
    study.submit(&["--profile", &profile]);
    let id = study.wait_for_a_run();
    let run = study.workplace.run_directory(&id);
    wait_for("an epoch", || run.join("attempts/1/metrics.jsonl").exists().then_some(()));
    let job = study.cluster.squeue("%i %T %N").into_iter().find(|job| job.contains("RUNNING")).unwrap();
    let node: u16 = job.rsplit('-').next().unwrap().parse().unwrap();
    study.cluster.kill_node(node);
    let first = find_workers(&study.workplace.store());
    first.iter().for_each(|&worker| signal(worker, Signal::STOP));
    // After its timeout for nodes, the controller starts the same job on the other node.
    wait_for("the second copy to take over", || run.join("attempts/2/metrics.jsonl").exists().then_some(()));
    first.iter().for_each(|&worker| signal(worker, Signal::CONT));
    wait_for("the first copy to end", || {
        let is_alive = |worker: &u32| find_workers(&study.workplace.store()).contains(worker);
        (!first.iter().any(is_alive)).then_some(())
    });
    study.cluster.start_node(node);
    study.wait_until_done();
    assert_eq!(study.workplace.outcomes(&study.sweep), uninterrupted(&text));
    assert_eq!(read_json(&run.join("result.json"))["attempt"], 2);
    assert!(!run.join("attempts/1/network.safetensors").exists(), "the first copy must not finish");
}

#[test]
fn restarted_controller_changes_nothing() {
    let study = Study::new(Settings::default(), SHORT);
    study.submit(&[]);
    study.wait_for_a_run();
    study.cluster.restart_controller();
    study.wait_until_done();
    assert_eq!(study.workplace.outcomes(&study.sweep), uninterrupted(SHORT));
}

#[test]
fn failed_runs_block_dependents_and_are_retried_on_request() {
    let text = "
dataset: digits
architecture: resnet8
ticket: {method: lrr, levels: 1, lr: [0.1, 1.0e+30], warmup_epochs: 1, epochs: 1}
transfer: {inherit: sign, epochs: 1, lr: 0.1, seed: 2}
";
    let study = Study::new(Settings::default(), text);
    study.submit(&[]);
    let counts = study.wait_for_jobs();
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
    let rejected = study.winsign("submit").args(["--partition", "none"]).output().unwrap();
    assert_eq!(rejected.status.code(), Some(2), "{}", stderr(&rejected));
    assert_eq!(study.counts(), counts, "what Slurm rejects changes nothing");
    let again = study.json("retry", &["--failed"]);
    assert_eq!(again["submission"]["runs"], 3, "blocked runs must be submitted too: {again:#}");
    let counts = study.wait_for_jobs();
    assert_eq!(counts["failed"], 1, "{counts:#}");
    assert!(attempts(&study) > before, "the run must have another attempt");
    // A plain submission retries it as well.
    assert_eq!(study.submit(&[])["runs"], 3);
    study.wait_for_jobs();
}

#[test]
fn cancelled_study_resumes_when_submitted_again() {
    let study = Study::new(Settings { nodes: 1, cpus: 1, ..Settings::default() }, &long_run(100));
    study.submit(&[]);
    let id = study.wait_for_a_run();
    let metrics = study.workplace.run_directory(&id).join("attempts/1/metrics.jsonl");
    wait_for("an epoch", || metrics.exists().then_some(()));

    let held = study.json("hold", &[]);
    assert_eq!(held["jobs"].as_array().unwrap().len(), 1, "only level 1 is waiting: {held:#}");
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
    assert_eq!(study.workplace.outcomes(&study.sweep), uninterrupted(&long_run(100)));
}

/// The cancelled jobs may still be saving their checkpoints when the study is submitted again.
#[test]
fn cancelled_study_can_be_submitted_again_immediately() {
    let text = long_run(60);
    let study = Study::new(Settings { nodes: 1, cpus: 2, ..Settings::default() }, &text);
    study.submit(&[]);
    study.wait_for_a_run();
    study.json("cancel", &[]);
    assert_eq!(study.submit(&[])["runs"], 2);
    study.wait_until_done();
    assert_eq!(study.workplace.outcomes(&study.sweep), uninterrupted(&text));
}

#[test]
fn jobs_cancelled_by_scancel_stay_cancelled() {
    let study = Study::new(Settings { nodes: 1, cpus: 1, ..Settings::default() }, &long_run(300));
    study.submit(&[]);
    let id = study.wait_for_a_run();
    let checkpoint = study.workplace.run_directory(&id).join("attempts/1/checkpoint.safetensors");
    wait_for("an epoch", || checkpoint.exists().then_some(()));
    succeed(study.cluster.command("scancel").args(["--user", "root"]).arg("--partition=batch"));
    study.cluster.wait_until_idle(Duration::from_secs(60));
    let counts = study.wait();
    assert_eq!((&counts["pending"], &counts["done"]), (&2.into(), &0.into()), "{counts:#}");
    assert_eq!(study.submit(&[])["runs"], 2, "both runs must be submitted again");
}

#[test]
#[cfg(feature = "mpi")]
fn ranks_of_a_run_on_two_nodes_compute_together() {
    for launcher in ["srun", "mpirun", "srun --exact -n {ranks} -c {threads} --mpi=pmix"] {
        let study = Study::new(Settings { cpus: 1, ..Settings::default() }, TWO_RANKS);
        let profile = study.profile(&format!("launcher: {launcher}\nranks_per_node: 1\n"));
        study.submit(&["--profile", &profile]);
        study.wait_until_done();
        let result = study.result("lrr level 1, seed 1");
        assert_eq!(result["ranks"], 2, "{launcher}: {result:#}");
    }
}

/// Runs a command as on another machine, with a home directory of its own.
const SSH: &str = r#"#!/bin/sh
user=
while :; do
    case $1 in
    -l) user=$2@ && shift 2 ;;
    -*) shift ;;
    *) break ;;
    esac
done
[ "$user$1" = me@login ] || { echo "ssh: cannot resolve $user$1" >&2; exit 255; }
shift
cd "$REMOTE_HOME" && HOME=$REMOTE_HOME exec sh -c "$*"
"#;

#[test]
fn study_is_submitted_from_a_laptop() {
    let study = Study::new(Settings { nodes: 1, ..Settings::default() }, SHORT);
    let workplace = &study.workplace;
    let (programs, home) = (workplace.path("programs"), workplace.path("home of me"));
    fs::create_dir_all(home.join("winsign/bin")).unwrap();
    fs::create_dir(&programs).unwrap();
    for name in ["winsign", "winsign-worker"] {
        std::os::unix::fs::symlink(winsign_testkit::program(name), home.join("winsign/bin").join(name)).unwrap();
    }
    write_program(&programs.join("ssh"), SSH);
    let path = path_with(&programs);
    let remote = |login: &str, command: &str| {
        let mut winsign = Command::new(winsign_testkit::program("winsign"));
        winsign.args(["--ssh", login, command]).arg(&study.sweep).current_dir(workplace.path(""));
        winsign.envs(study.cluster.environment()).env("PATH", &path).env("REMOTE_HOME", &home);
        winsign
    };
    let profile = study.profile("time: \"5\"\n");
    let text = stdout(&succeed(remote("me@login", "submit").args(["--profile", &profile])));
    assert!(text.contains("runs submitted as"), "{text}");
    wait_for("the end of the study", || {
        let status = winsign_testkit::json(&succeed(remote("me@login", "status").arg("--json")));
        (status["runs"]["done"] == status["runs"]["total"]).then_some(())
    });
    succeed(&mut remote("me@login", "report"));
    assert!(workplace.path("results/reports/study/report.html").exists(), "the report is here");
    assert!(!workplace.path("results/runs").exists() && !workplace.store().exists(), "the store is there");
    assert!(home.join("winsign/results/runs").exists());

    let unknown = remote("me@other", "status").output().unwrap();
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("to me@other failed"), "{}", stderr(&unknown));
    let refused = remote("me@login", "run").output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
}

/// Each rank would compute the whole run alone, with the numbers of one rank.
#[test]
#[cfg(feature = "mpi")]
fn ranks_that_are_not_connected_fail() {
    let unconnected = "launcher: sh -c 'for i in $(seq {ranks}); do \"$@\" <&0 & done; wait $!' sh";
    for (setting, reason) in [("mpi: none", "connected"), ("mpi: pmi2", "MPI"), (unconnected, "connected to 1")] {
        let study = Study::new(Settings { nodes: 1, ..Settings::default() }, TWO_RANKS);
        let profile = study.profile(&format!("{setting}\n"));
        study.submit(&["--profile", &profile]);
        let status = wait_for("a held job", || {
            let status = stdout(&succeed(&mut study.winsign("status")));
            status.contains(": held, until").then_some(status)
        });
        assert!(status.contains("cannot start ranks") && status.contains(reason), "{setting}: {status}");
        assert_eq!(study.counts()["done"], 0, "{setting}");
    }
}

/// Some sites have plugins of sbatch that print lines, and variables that have it ask questions.
#[test]
fn number_of_a_job_is_found_in_other_output() {
    let study = Study::new(Settings { nodes: 1, ..Settings::default() }, SHORT);
    let sbatch = study.workplace.path("sbatch");
    write_program(&sbatch, "#!/bin/sh\necho project 7 has\necho 100 hours\n/usr/bin/sbatch \"$@\"\necho good luck\n");
    let path = path_with(&study.workplace.path(""));
    let mut submit = study.winsign("submit");
    let submitted = winsign_testkit::json(&succeed(submit.env("PATH", path).arg("--json")));
    assert_eq!(submitted["arrays_left"], 0, "{submitted:#}");
    assert_eq!(study.submit(&[])["runs"], 0, "everything is queued");
    study.json("cancel", &["--now"]);
    study.cluster.wait_until_idle(Duration::from_secs(60));
}

/// The other study has the same name, in the same store.
#[test]
fn retry_takes_the_settings_of_the_same_runs() {
    let study = Study::new(Settings { nodes: 1, ..Settings::default() }, SHORT);
    study.submit(&["--time", "5"]);
    let folder = study.workplace.path("second");
    fs::create_dir(&folder).unwrap();
    let failing = SHORT.replace("transfer: {", "transfer: {lr: 1e30, ").replace("lrr, aws", "lrr");
    let sweep = study.workplace.sweep("second/study.yaml", &failing);
    let mut run = study.workplace.winsign("run", &sweep);
    assert!(!run.output().unwrap().status.success());
    let retried = succeed(study.workplace.winsign("retry", &sweep).args(["--failed", "--json"]));
    assert_eq!(winsign_testkit::json(&retried)["submission"], Value::Null, "it was not submitted");
    study.json("cancel", &["--now"]);
}

/// Replaces srun by a program that is killed for lack of memory in jobs with less than 150 MB.
const HUNGRY_SRUN: &str = r#"#!/bin/sh
if [ "$SLURM_MEM_PER_NODE" -lt 150 ]; then
    echo 'slurmstepd: error: Detected 1 oom_kill event in StepId=7.0.' >&2
    kill -KILL $$
fi
exec /usr/bin/srun "$@"
"#;

#[test]
#[cfg(feature = "mpi")]
fn run_that_needs_more_memory_gets_it() {
    let study = Study::new(Settings { nodes: 1, ..Settings::default() }, TWO_RANKS);
    let programs = study.workplace.path("programs");
    fs::create_dir(&programs).unwrap();
    write_program(&programs.join("srun"), HUNGRY_SRUN);
    let setup = format!("setup: 'export PATH={}:$PATH'\n", programs.display());
    let profile = study.profile(&format!("{setup}memory: 110M\nmemory_growth: 1.2\nmax_memory: 200M\n"));
    study.submit(&["--profile", &profile]);
    study.wait_until_done();
    let logs = study.logs();
    // 110 MB, 132 MB, 159 MB.
    assert!(logs.contains("again with 132 MB") && logs.contains("again with 159 MB"), "{logs}");
    assert!(!logs.contains("with 191 MB"), "{logs}");
}

/// Each level of the ticket is computed again by its own job, and not by the first job that needs it.
#[test]
fn cleaned_networks_are_computed_again_by_jobs() {
    let study = Study::new(Settings::default(), SMALL);
    let workplace = &study.workplace;
    workplace.run_all(&study.sweep);
    let before = workplace.outcomes(&study.sweep);
    succeed(workplace.winsign("clean", &study.sweep).args(["--networks", "--yes"]));
    let first = workplace.sweep("first.yaml", SMALL);
    workplace.sweep("study.yaml", &SMALL.replace("2..3", "2..4"));
    // These are the levels of the ticket, the transfers at the other ends of the new paths, the new transfer, and its two paths.
    assert_eq!(study.submit(&[])["runs"], 8);
    let tickets = ids(&workplace.plan(&study.sweep), "ticket");
    for ticket in &tickets {
        assert!(
            workplace.run_directory(ticket).join("result.json.damaged-1").exists(),
            "the old result must be set aside"
        );
    }
    study.wait_until_done();
    assert_eq!(workplace.outcomes(&first), before);
    assert!(tickets.iter().all(|ticket| workplace.attempts(ticket) == 2));
}

#[test]
fn submit_without_slurm_prints_one_message() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("study.yaml", winsign_testkit::SMALL);
    let mut submit = workplace.winsign("submit", &sweep);
    let output = submit.args(["--worker", "/bin/true"]).env("PATH", "").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = stderr(&output);
    assert!(message.contains("cannot use Slurm on this machine") && message.contains("winsign run"), "{message}");
    assert!(!workplace.store().join("submissions").exists());
}

#[test]
fn rejection_shows_the_message_of_slurm_and_the_settings() {
    let study = Study::new(Settings { nodes: 1, ..Settings::default() }, SHORT);
    let profile = study.profile("# ours\ntime: 1:00:00\npartition: nowhere\n");
    let output = study.winsign("submit").args(["--profile", &profile]).output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("Slurm rejected the jobs: ") && message.contains("nvalid partition"), "{message}");
    assert!(message.contains("profile.yaml: `partition: nowhere`, `time: 1:00:00`"), "{message}");
    // No run counts as submitted.
    let counts = study.counts();
    assert_eq!(counts["pending"], counts["total"], "{counts:#}");
}

/// Workers, slurmd on nodes, and a `winsign run` that executes runs of the same study are killed fifty times in all. Without
/// any other action, all results equal those of an uninterrupted study.
#[test]
fn fifty_kills_change_no_result() {
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
    let start_dispatcher = || {
        let mut run = study.winsign("run");
        run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut dispatcher = start_dispatcher();
    let mut draws = Source::new(1, "kills", 0).stream(0);
    let mut kills = 0;
    let mut dead_node = None;
    while kills < 50 {
        std::thread::sleep(Duration::from_millis(100 + draws.below(400)));
        if let Some(node) = dead_node.take() {
            study.cluster.start_node(node);
        }
        match draws.below(10) {
            0 => {
                let node = 1 + draws.below(3) as u16;
                study.cluster.kill_node(node);
                dead_node = Some(node);
                kills += 1;
            }
            1 | 2 => {
                let _ = dispatcher.kill();
                dispatcher.wait().unwrap();
                dispatcher = start_dispatcher();
                kills += 1;
            }
            _ => {
                let workers = find_workers(&study.workplace.store());
                if let Some(&worker) = workers.get(draws.below(workers.len().max(1) as u64) as usize) {
                    signal(worker, Signal::KILL);
                    kills += 1;
                }
            }
        }
        let counts = study.counts();
        assert!(counts["done"] != counts["total"] || kills >= 50, "the study was done after only {kills} kills");
    }
    if let Some(node) = dead_node {
        study.cluster.start_node(node);
    }
    study.wait_until_done();
    let _ = dispatcher.kill();
    dispatcher.wait().unwrap();
    assert_eq!(study.workplace.outcomes(&study.sweep), uninterrupted(text));
}
