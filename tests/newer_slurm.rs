//! Studies on Slurm 24.11 with accounting, hidden partitions and users who do not see each other's jobs.
#![cfg(feature = "worker")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use winsign_testkit::cluster::Settings;
use winsign_testkit::slurm_box::SlurmBox;
use winsign_testkit::{SMALL, program, succeed, wait_for};

/// A partition that starts no job.
const DOWN: &str = "PartitionName=down Nodes=ALL DefaultTime=10 State=DOWN";

/// A line for `setup` that kills all workers of a job, which are its children. This loop is not one of them.
const KILL_WORKERS: &str =
    "( while sleep 0.05 && kill -0 $$; do kill -KILL $(cat /proc/$$/task/$$/children); done 2>/dev/null & )";

/// The folder of the study, in which all users may write.
const FOLDER: &str = "/srv/study";

/// A study of the user `ann`.
struct Study {
    slurm: SlurmBox,
}

impl Study {
    /// Starts a cluster for a sweep; returns `None`, with a message, if this user cannot start one.
    fn new(settings: Settings, text: &str) -> Option<Study> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not tested: only root can start a newer Slurm");
            return None;
        }
        let study = Study { slurm: SlurmBox::start(settings) };
        study.slurm.shell("root", &format!("install -d -o ann -m 777 {FOLDER}"));
        study.write("study.yaml", text);
        Some(study)
    }

    /// Writes a file to the folder of the study, and returns its path in the box.
    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.slurm.path(FOLDER).join(name), text).unwrap();
        format!("{FOLDER}/{name}")
    }

    /// Creates the command `winsign COMMAND SWEEP --store …` of a user who has set these variables.
    fn winsign_of(&self, user: &str, variables: &[&str], command: &str) -> Command {
        let mut winsign = self.slurm.command(user, "env");
        winsign.args(variables).arg(program("winsign")).arg(command);
        winsign.args([&format!("{FOLDER}/study.yaml"), "--store", &format!("{FOLDER}/store")]);
        winsign
    }

    fn json_of(&self, user: &str, variables: &[&str], command: &str, arguments: &[&str]) -> Value {
        winsign_testkit::json(&succeed(self.winsign_of(user, variables, command).args(arguments).arg("--json")))
    }

    fn json(&self, command: &str, arguments: &[&str]) -> Value {
        self.json_of("ann", &[], command, arguments)
    }

    fn counts(&self) -> Value {
        self.json("status", &[])["runs"].clone()
    }

    fn wait_until_done(&self) {
        wait_for("the end of the study", || self.tasks("%i").is_empty().then_some(()));
        let counts = self.counts();
        assert_eq!(counts["done"], counts["total"], "{counts:#}");
    }

    /// Asserts that the study is queued for a user with these variables, and cannot be submitted twice.
    fn assert_queued(&self, variables: &[&str]) {
        let counts = self.json_of("ann", variables, "status", &[])["runs"].clone();
        assert_eq!(counts["queued"], counts["total"], "{variables:?}: {counts:#}");
        let again = self.json_of("ann", variables, "submit", &["--partition", "down"]);
        assert_eq!(again["runs"], 0, "{variables:?}: {again:#}");
    }

    /// Returns a line in the given format of `squeue` for each task that has not ended.
    fn tasks(&self, format: &str) -> Vec<String> {
        let queue = self.slurm.shell("root", &format!("squeue --all --noheader --array --format='{format}'"));
        queue.lines().map(|line| line.trim_end().to_string()).collect()
    }

    /// Returns how often Slurm has started each task of the array again, by its number in the array.
    fn restarts(&self, array: u32) -> BTreeMap<u32, u32> {
        let format = "--Format=ArrayTaskID:20,RestartCnt:20";
        let queue =
            self.slurm.shell("root", &format!("squeue --all --noheader --array --states=all --jobs={array} {format}"));
        let numbers = queue.lines().map(|line| line.split_whitespace().map(|number| number.parse().unwrap()));
        numbers.map(|mut numbers| (numbers.next().unwrap(), numbers.next().unwrap())).collect()
    }

    /// Returns the number of the array that was submitted first.
    fn first_array(&self) -> u32 {
        self.tasks("%F").iter().map(|array| array.parse().unwrap()).min().expect("a task is in the queue")
    }

    /// Returns a line for each node that the submissions no longer use.
    fn excluded_nodes(&self) -> String {
        let submissions = fs::read_dir(self.slurm.path(FOLDER).join("store/submissions")).unwrap().map(Result::unwrap);
        submissions.filter_map(|entry| fs::read_to_string(entry.path().join("excluded")).ok()).collect()
    }

    /// Returns the JSON files whose path has this end.
    fn files(&self, end: &str) -> Vec<Value> {
        let content = self.content().into_iter().filter(|(path, _)| path.ends_with(end));
        content.map(|(_, content)| serde_json::from_slice(&content).unwrap()).collect()
    }

    /// Returns the content of every file in the store.
    fn content(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut content = BTreeMap::new();
        add_files(&self.slurm.path(FOLDER), &mut content);
        content
    }
}

fn add_files(folder: &Path, content: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => add_files(&entry.path(), content),
            false => drop(content.insert(entry.path(), fs::read(entry.path()).unwrap())),
        }
    }
}

/// Returns a sweep of tickets whose first levels take this many epochs.
fn tickets(count: u32, epochs: u32) -> String {
    format!(
        "
dataset: digits
architecture: resnet8
ticket: {{method: lrr, levels: 1, warmup_epochs: {epochs}, epochs: 1, seed: 1..{count}}}
"
    )
}

#[test]
fn box_leaves_no_process_behind() {
    let Some(study) = Study::new(Settings { nodes: 1, ..Settings::default() }, SMALL) else { return };
    study.slurm.shell("ann", "sbatch --output=/dev/null --wrap='env -i sleep 600'");
    wait_for("the job", || study.tasks("%T").contains(&"RUNNING".to_string()).then_some(()));
    let processes = study.slurm.processes();
    assert!(processes.len() > 5, "{processes:?}");
    drop(study);
    let left: Vec<u32> = processes.into_iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).collect();
    assert_eq!(left, [0; 0]);
}

#[test]
fn submitted_study_is_done() {
    let Some(study) = Study::new(Settings::default(), SMALL) else { return };
    study.json("submit", &[]);
    study.wait_until_done();
}

#[test]
#[cfg(feature = "mpi")]
fn ranks_have_the_variables_of_setup_if_sbatch_exports_none() {
    let settings = Settings { cpus: 1, ..Settings::default() };
    let Some(study) = Study::new(settings, &tickets(1, 1)) else { return };
    let setup = "export WINSIGN_MACHINE=from-setup";
    let profile = study.write("profile.yaml", &format!("launcher: srun\nranks_per_node: 1\nsetup: {setup}\n"));
    study.json_of("ann", &["SBATCH_EXPORT=NONE"], "submit", &["--profile", &profile, "--ranks", "2"]);
    study.wait_until_done();
    assert_eq!(study.files("result.json").iter().map(|result| &result["ranks"]).collect::<Vec<_>>(), [2, 2]);
    assert!(study.files("attempts/1.json").iter().all(|claim| claim["owner"]["machine"] == "from-setup"));
}

/// OpenMPI 5 starts two of the ranks on one node, and one on another.
#[test]
#[cfg(feature = "mpi")]
fn ranks_of_a_job_are_started_by_mpirun() {
    let settings = Settings { cpus: 2, ..Settings::default() };
    let Some(study) = Study::new(settings, &tickets(1, 1)) else { return };
    let profile = study.write("profile.yaml", "launcher: mpirun\nranks_per_node: 2\n");
    study.json("submit", &["--profile", &profile, "--ranks", "3"]);
    study.wait_until_done();
    assert_eq!(study.files("result.json").iter().map(|result| &result["ranks"]).collect::<Vec<_>>(), [3, 3]);
}

/// With OpenMPI 5.0, mpirun then ends with exit code 0.
#[test]
#[cfg(feature = "mpi")]
fn run_that_has_lost_a_host_is_started_again() {
    let text = tickets(1, 100) + "resources: {retries: 0}\n";
    let Some(study) = Study::new(Settings { nodes: 1, ..Settings::default() }, &text) else { return };
    let (hosts, agent) = study.slurm.start_hosts(2);
    let mut run = study.winsign_of("root", &[&agent], "run");
    run.args(["--ranks", "3", "--hosts", &format!("{}:2,{}:1", hosts[0], hosts[1])]);
    let run = winsign_testkit::start(&mut run);
    wait_for("an epoch", || study.content().keys().any(|path| path.ends_with("1/metrics.jsonl")).then_some(()));
    study.slurm.shell("root", &format!("kill -9 $(ip netns pids {})", hosts[1]));
    wait_for("a second attempt", || (study.files("attempts/2.json").len() == 1).then_some(()));
    study.slurm.shell("root", "kill -INT $(pidof winsign)");
    let output = run.wait_with_output().unwrap();
    let messages = winsign_testkit::stderr(&output);
    assert_eq!(output.status.code(), Some(75), "{messages}");
    assert!(messages.contains(&hosts[1]), "the message must name the host: {messages}");
}

#[test]
fn jobs_in_hidden_partition_are_found() {
    let conf = ["PartitionName=hidden Nodes=ALL Hidden=YES DefaultTime=10 State=DOWN", DOWN];
    let Some(study) = Study::new(Settings { conf: &conf, ..Settings::default() }, SMALL) else { return };
    study.json("submit", &["--partition", "hidden"]);
    study.assert_queued(&[]);
    study.json("cancel", &[]);
    assert_eq!(study.tasks("%i"), [""; 0]);
}

#[test]
fn jobs_are_found_whatever_the_environment_selects() {
    let Some(study) = Study::new(Settings { conf: &[DOWN], ..Settings::default() }, SMALL) else { return };
    let second = study.slurm.start_second(Settings::default());
    study.json("submit", &["--partition", "down"]);
    let variables = [
        "SQUEUE_ACCOUNT=none",
        "SQUEUE_FORMAT2=jobid",
        "SQUEUE_LICENSES=none",
        "SQUEUE_NAMES=none",
        "SQUEUE_PARTITION=batch",
        "SQUEUE_QOS=high",
        "SQUEUE_STATES=RUNNING",
        "SQUEUE_USERS=ben",
        &format!("SLURM_CLUSTERS={second}"),
    ];
    for variable in variables {
        study.assert_queued(&[variable]);
    }
    study.json_of("ann", &variables, "cancel", &[]);
    assert_eq!(study.tasks("%i"), [""; 0]);
}

#[test]
fn jobs_on_another_cluster_are_found() {
    let Some(study) = Study::new(Settings { conf: &[DOWN], ..Settings::default() }, SMALL) else { return };
    let second = study.slurm.start_second(Settings { conf: &[DOWN], ..Settings::default() });
    let queue = format!("squeue --all --noheader --clusters={second} | grep --invert-match CLUSTER || true");
    let submitted = study.json_of("ann", &[&format!("SLURM_CLUSTERS={second}")], "submit", &["--partition", "down"]);
    let queued = study.slurm.shell("root", &queue);
    assert_eq!(queued.lines().count() as u64, submitted["arrays"].as_u64().unwrap(), "{queued}");
    study.assert_queued(&[]);
    study.json("cancel", &[]);
    assert_eq!(study.slurm.shell("root", &queue), "");
}

#[test]
fn options_of_winsign_take_precedence_over_variables() {
    let Some(study) = Study::new(Settings { conf: &[DOWN], ..Settings::default() }, SMALL) else { return };
    let variables = [
        "SBATCH_ARRAY_INX=0-3",
        "SBATCH_JOB_NAME=other",
        "SBATCH_PARTITION=batch",
        "SBATCH_TIMELIMIT=3",
        "SBATCH_WAIT=1",
        // Nothing else sets it, so it applies.
        "SBATCH_QOS=scavenger",
    ];
    let mut submit = study.winsign_of("ann", &variables, "submit");
    // With SBATCH_WAIT it would never end.
    submit.args(["--partition", "down", "--time", "30", "--json"]).env("BOX_LIMIT", "20");
    let submitted = winsign_testkit::json(&succeed(&mut submit));
    let tasks = study.tasks("%P %l %q");
    assert_eq!(tasks.len() as u64, submitted["tasks"].as_u64().unwrap(), "{tasks:?}");
    assert!(tasks.iter().all(|task| task == "down 30:00 scavenger"), "{tasks:?}");
    study.assert_queued(&[]);
}

#[test]
fn status_of_a_colleague_who_cannot_see_the_jobs_changes_nothing() {
    let Some(study) = Study::new(Settings { conf: &[DOWN], ..Settings::default() }, SMALL) else { return };
    study.json("submit", &["--partition", "down"]);
    study.slurm.shell("ann", &format!("chmod -R a+rwX {FOLDER}/store"));
    assert_eq!(study.slurm.shell("ben", "squeue --all --noheader"), "", "the jobs must be hidden");
    let before = study.content();
    let counts = study.json_of("ben", &[], "status", &[])["runs"].clone();
    assert_eq!((&counts["pending"], &counts["failed"]), (&json!(0), &json!(0)), "{counts:#}");
    assert!(study.content() == before, "the store has changed");
    study.assert_queued(&[]);
    study.json("cancel", &[]);
    let counts = study.json_of("ben", &[], "status", &[])["runs"].clone();
    assert_eq!(counts["pending"], counts["total"], "the runs are free: {counts:#}");
}

/// The preempted task is the one that has the job number of its array.
#[test]
fn preemption_of_one_task_leaves_the_others_alone() {
    let settings = Settings { nodes: 3, cpus: 1, ..Settings::default() };
    let Some(study) = Study::new(settings, &tickets(3, 1000)) else { return };
    study.json("submit", &["--qos", "scavenger"]);
    let array = study.first_array();
    let running = wait_for("a task on every node", || {
        let tasks = study.tasks("%F %T %A %K %N");
        let running: Vec<String> = tasks.into_iter().filter(|task| task.contains(" RUNNING ")).collect();
        (running.len() == 3).then_some(running)
    });
    let last = running.iter().find_map(|task| task.strip_prefix(&format!("{array} RUNNING {array} ")));
    let (preempted, node) = last.expect("a task has the number of the array").split_once(' ').unwrap();
    let high = format!("sbatch --parsable --qos=high --nodelist={node} --output=/dev/null --wrap='sleep 1'");
    study.slurm.shell("ben", &high);
    let running_again = format!("{array}_{preempted} RUNNING");
    let restarts = wait_for("the preempted task to start again", || {
        let restarts = study.restarts(array);
        let started_again = restarts[&preempted.parse().unwrap()] > 0;
        (started_again && study.tasks("%i %T").contains(&running_again)).then_some(restarts)
    });
    assert_eq!(restarts.values().filter(|&&restarts| restarts > 0).count(), 1, "{restarts:?}");
}

/// Many of the short tasks start on that node, since it is always free.
#[test]
fn tasks_of_a_node_without_the_store_run_elsewhere() {
    let settings = Settings { nodes: 3, cpus: 1, ..Settings::default() };
    let Some(study) = Study::new(settings, &tickets(8, 1)) else { return };
    study.slurm.hide_from_node(FOLDER, 3);
    let profile = study.write("profile.yaml", "sbatch: --export=NONE\n");
    study.json("submit", &["--profile", &profile]);
    study.wait_until_done();
    let excluded = study.excluded_nodes();
    assert!(excluded.contains("cannot use the store") && excluded.lines().count() == 1, "{excluded}");
}

/// On one node, something kills every worker. The next job knows this although no variables reach it.
#[test]
fn tasks_of_a_node_that_kills_workers_run_elsewhere() {
    let settings = Settings { nodes: 2, cpus: 1, ..Settings::default() };
    let Some(study) = Study::new(settings, &tickets(4, 1)) else { return };
    let bad = study.slurm.node(2);
    let setup = format!("if [ $SLURMD_NODENAME = {bad} ]; then {KILL_WORKERS}; fi");
    let profile = study.write("profile.yaml", &format!("sbatch: --export=NONE\nsetup: '{setup}'\n"));
    study.json("submit", &["--profile", &profile]);
    study.wait_until_done();
    let excluded = study.excluded_nodes();
    assert!(excluded.starts_with(&format!("{bad} killed the worker of run ")), "{excluded}");
    assert_eq!(excluded.lines().count(), 1, "{excluded}");
}

/// Another node is no help, and no node is the cause.
#[test]
fn run_whose_workers_are_killed_everywhere_fails() {
    let settings = Settings { nodes: 3, cpus: 1, ..Settings::default() };
    let Some(study) = Study::new(settings, &tickets(1, 1)) else { return };
    let profile = study.write("profile.yaml", &format!("setup: '{KILL_WORKERS}'\n"));
    study.json("submit", &["--profile", &profile]);
    wait_for("the end of the study", || study.tasks("%i").is_empty().then_some(()));
    let counts = study.counts();
    assert_eq!((&counts["failed"], &counts["done"]), (&json!(1), &json!(0)), "{counts:#}");
    assert_eq!(study.excluded_nodes(), "");
}

/// No other job of the study could release it.
#[test]
fn only_task_of_a_node_without_the_store_runs_elsewhere() {
    let settings = Settings { nodes: 2, cpus: 1, ..Settings::default() };
    let Some(study) = Study::new(settings, &tickets(1, 1)) else { return };
    study.slurm.hide_from_node(FOLDER, 1);
    study.json("submit", &[]);
    study.wait_until_done();
}

#[test]
fn jobs_of_others_are_not_changed() {
    let Some(study) = Study::new(Settings { conf: &[DOWN], ..Settings::default() }, SMALL) else { return };
    study.json("submit", &["--partition", "down"]);
    study.slurm.shell("ann", &format!("chmod -R a+rwX {FOLDER}/store"));
    let before = study.content();
    for command in ["cancel", "hold", "release"] {
        let refused = study.winsign_of("ben", &[], command).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{command}");
        let message = winsign_testkit::stderr(&refused);
        assert!(message.contains("only that user can change them"), "{message}");
    }
    assert!(study.content() == before, "the store has changed");
    // Another study of the same user, which shares the tickets.
    let tickets = SMALL.split("transfer").next().unwrap();
    for (name, text) in [("one", tickets), ("renamed", SMALL)] {
        fs::write(study.slurm.path(FOLDER).join(name), format!("name: {name}\n{text}")).unwrap();
    }
    let cancel = |name: &str| {
        let winsign = program("winsign").display().to_string();
        study.slurm.shell("ann", &format!("{winsign} cancel {FOLDER}/{name} --store {FOLDER}/store 2>&1 || true"))
    };
    let refused = cancel("one");
    assert!(refused.contains("are in jobs of the study `study`"), "{refused}");
    study.assert_queued(&[]);
    let cancelled = cancel("renamed");
    assert!(cancelled.contains("queued jobs cancelled"), "{cancelled}");
    assert_eq!(study.tasks("%i"), [""; 0]);
}

#[test]
fn limit_of_the_qos_is_known_before_it_is_reached() {
    let Some(study) = Study::new(Settings { nodes: 1, ..Settings::default() }, &tickets(7, 1)) else { return };
    let arrays = || winsign_testkit::stdout(&succeed(study.winsign_of("ann", &[], "submit").arg("--dry-run")));
    assert!(arrays().contains("#SBATCH --array=0-6\n"));
    study.slurm.shell("root", "sacctmgr --immediate modify qos normal set MaxSubmitJobsPerUser=4");
    // Half of it, so that the next array can be submitted before the last one has ended.
    let limited = arrays();
    assert!(limited.contains("#SBATCH --array=0-1\n") && !limited.contains("#SBATCH --array=0-6\n"), "{limited}");
}

#[test]
fn jobs_are_cancelled_if_the_store_cannot_be_written() {
    let Some(study) = Study::new(Settings { nodes: 1, ..Settings::default() }, &tickets(2, 1000)) else { return };
    study.json("submit", &[]);
    wait_for("the runs", || (study.counts()["running"] == 2).then_some(()));
    study.slurm.shell("ann", &format!("chmod -R a-w {FOLDER}/store/submissions"));
    let cancelled = succeed(&mut study.winsign_of("ann", &[], "cancel"));
    let text = winsign_testkit::stderr(&cancelled);
    assert!(text.contains("Permission denied") && text.contains("killing running jobs"), "{text}");
    wait_for("the end of all jobs", || study.tasks("%i").is_empty().then_some(()));
}

/// Without all lists of its runs, it is known by the name of the study.
#[test]
fn damaged_submission_is_read_from_other_files_or_cancelled() {
    let Some(study) = Study::new(Settings { conf: &[DOWN], ..Settings::default() }, &tickets(3, 1)) else { return };
    study.json("submit", &["--partition", "down"]);
    let damage = |file| study.slurm.shell("ann", &format!("echo '{{' | tee {FOLDER}/store/submissions/*/{file}"));
    for file in ["arrays/0.job", "tasks.json"] {
        damage(file);
        study.assert_queued(&[]);
    }
    damage("arrays/*.runs");
    let refused = winsign_testkit::stderr(&study.winsign_of("ann", &[], "submit").output().unwrap());
    assert!(refused.contains("cannot tell which runs") && refused.contains("winsign cancel"), "{refused}");
    let cancelled = study.json("cancel", &[]);
    assert_eq!(cancelled["jobs"]["waiting"].as_array().unwrap().len(), 2, "{cancelled:#}");
    wait_for("the end of all jobs", || study.tasks("%i").is_empty().then_some(()));
    study.json("submit", &[]);
    study.wait_until_done();
}

/// The node of a job does not become free again, so the next job never starts.
#[test]
fn study_can_continue_without_a_job_that_does_not_finish_ending() {
    let settings = Settings { conf: &["Epilog=/srv/epilog", "UnkillableStepTimeout=600", DOWN], ..Settings::default() };
    let Some(study) = Study::new(settings, &tickets(1, 1)) else { return };
    study.slurm.shell("root", "printf '#!/bin/sh\nexec sleep 600' >/srv/epilog && chmod +x /srv/epilog");
    study.json("submit", &[]);
    wait_for("its end", || study.tasks("%T").contains(&"COMPLETING".to_string()).then_some(()));
    let status = study.json("status", &[]);
    assert!(status["warnings"].to_string().contains("is ending"), "{status:#}");
    study.json("cancel", &[]);
    let again = study.json("submit", &["--partition", "down"]);
    assert_eq!(again["runs"], 1, "{again:#}");
    let waiting = study.tasks("%T %P %r");
    assert!(waiting.contains(&"PENDING down PartitionDown".to_string()), "{waiting:?}");
}

/// The limit is below the size of an array, and only Slurm knows of it.
#[test]
fn arrays_beyond_a_limit_of_the_account_are_submitted_in_parts() {
    let Some(study) = Study::new(Settings::default(), &tickets(7, 1)) else { return };
    study.slurm.shell("root", "sacctmgr --immediate modify account lab set GrpSubmitJobs=4");
    let submitted = study.json("submit", &[]);
    assert_eq!((&submitted["tasks"], &submitted["arrays_left"]), (&json!(3), &json!(2)), "{submitted:#}");
    wait_for("the end of the study", || {
        let counts = study.counts();
        (counts["done"] == counts["total"]).then_some(())
    });
}

/// While the only job runs, no other can be submitted.
#[test]
fn study_with_room_for_one_job_is_done() {
    let Some(study) = Study::new(Settings::default(), &tickets(2, 1)) else { return };
    study.slurm.shell("root", "sacctmgr --immediate modify qos normal set MaxSubmitJobsPerUser=1");
    let submitted = study.json("submit", &[]);
    assert_eq!((&submitted["tasks"], &submitted["runs"]), (&json!(1), &json!(4)), "{submitted:#}");
    study.wait_until_done();
    let status = study.json("status", &[]);
    assert_eq!(status["warnings"], json!([]), "{status:#}");
}

/// The only job executes all tasks, and would not notice that the others are held.
#[test]
fn hold_stops_a_job_that_executes_the_rest() {
    let Some(study) = Study::new(Settings::default(), &tickets(4, 1)) else { return };
    study.slurm.shell("root", "sacctmgr --immediate modify qos normal set MaxSubmitJobsPerUser=1");
    study.json("submit", &[]);
    wait_for("the first run", || (study.counts()["done"] != 0).then_some(()));
    study.json("hold", &[]);
    wait_for("the job to be held", || {
        let warnings = study.json("status", &[])["warnings"].to_string();
        warnings.contains("held, until `winsign release`").then_some(())
    });
    let counts = study.counts();
    assert!(counts["done"].as_u64() < counts["total"].as_u64(), "{counts:#}");
    study.json("release", &[]);
    study.wait_until_done();
}

/// No other job can be submitted for the task, so the only one must leave the node that kills its workers.
#[test]
fn only_job_leaves_a_node_that_kills_workers() {
    let settings = Settings { nodes: 2, cpus: 1, ..Settings::default() };
    let Some(study) = Study::new(settings, &tickets(2, 1)) else { return };
    study.slurm.shell("root", "sacctmgr --immediate modify qos normal set MaxSubmitJobsPerUser=1");
    let bad = study.slurm.node(1);
    let setup = format!("if [ $SLURMD_NODENAME = {bad} ]; then {KILL_WORKERS}; fi");
    let profile = study.write("profile.yaml", &format!("setup: '{setup}'\n"));
    study.json("submit", &["--profile", &profile]);
    study.wait_until_done();
    let excluded = study.excluded_nodes();
    assert!(excluded.starts_with(&format!("{bad} killed the worker of run ")), "{excluded}");
}

/// The study has about 10,000 runs, and each is a task.
#[test]
fn commands_on_a_large_study_need_few_rpcs() {
    let conf = ["MaxArraySize=1001", DOWN];
    let text = "
dataset: digits
architecture: resnet8
ticket: {method: [lrr, aws], levels: 4, epochs: 4, seed: 1..181}
transfer: {level: [1, 2, 3, 4], inherit: [sign, mask], seed: 2..3}
connect: {between: seeds}
";
    let Some(study) = Study::new(Settings { conf: &conf, ..Settings::default() }, text) else { return };
    let mut needed = vec![];
    for (command, arguments) in
        [("submit", &["--partition", "down"][..]), ("hold", &[]), ("release", &[]), ("cancel", &[])]
    {
        study.slurm.shell("root", "sdiag --reset");
        study.json(command, arguments);
        needed.push((command, rpcs_of_ann(&study)));
        let tasks = study.tasks("%i").len();
        assert_eq!(tasks > 9_000, command != "cancel", "{tasks} tasks after {command}");
    }
    assert!(needed.iter().all(|&(_, rpcs)| rpcs <= 30), "{needed:?}");
}

/// Returns the number of RPCs by `ann` since the last reset.
fn rpcs_of_ann(study: &Study) -> u32 {
    let statistics = study.slurm.shell("root", "sdiag");
    let by_user = statistics.split("by user").nth(1).unwrap();
    let line = by_user.lines().find(|line| line.trim_start().starts_with("ann ")).expect("every command sends RPCs");
    line.split("count:").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}
