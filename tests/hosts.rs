//! Runs on other hosts by mpirun. The hosts are network namespaces with their own names; these need root, so without root
//! the tests do nothing.
#![cfg(feature = "mpi")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::process::Signal;
use serde_json::Value;
use winsign_testkit::cluster::{Cluster, Hosts, Settings};
use winsign_testkit::{SMALL, Workplace, json, read_json, signal, start, stderr, succeed, wait_for};

/// A sweep with one ticket of two levels.
const SHORT: &str = "
dataset: digits
architecture: resnet8
ticket: {method: lrr, levels: 1, warmup_epochs: 4, epochs: 2}
";

/// Returns the outcomes of the small sweep on this machine.
fn uninterrupted() -> &'static BTreeMap<String, (Value, Option<String>)> {
    static OUTCOMES: OnceLock<BTreeMap<String, (Value, Option<String>)>> = OnceLock::new();
    OUTCOMES.get_or_init(|| {
        let workplace = Workplace::new();
        let sweep = workplace.sweep("small.yaml", SMALL);
        assert_eq!(workplace.run_all(&sweep), 7);
        workplace.outcomes(&sweep)
    })
}

/// Starts two hosts, and returns them with the value of `--hosts` for this number of slots on each.
fn two_hosts(slots: u32) -> Option<(Hosts, String)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let hosts = Hosts::start(2);
    let named: Vec<String> = hosts.names().iter().map(|name| format!("{name}:{slots}")).collect();
    Some((hosts, named.join(",")))
}

/// Returns the process numbers of the ranks that execute runs of a store, without those of launchers.
fn find_ranks(store: &Path) -> Vec<u32> {
    let is_rank = |pid: &u32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.split(|&byte| byte == 0).next().is_some_and(|program| program.ends_with(b"winsign-worker"))
    };
    winsign_testkit::find_workers(store).into_iter().filter(is_rank).collect()
}

/// Returns all files in the runs of a store that have this name, or that are in a folder with this name.
fn files_named(store: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut folders = vec![store.join("runs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.ends_with(name) || folder.ends_with(name) {
                found.push(entry);
            }
        }
    }
    found
}

/// Returns all claims in a store.
fn claims(store: &Path) -> Vec<Value> {
    let files = files_named(store, "attempts").into_iter();
    files.filter(|file| file.extension().is_some_and(|end| end == "json")).map(|file| read_json(&file)).collect()
}

#[test]
fn sweep_on_two_hosts_with_a_killed_rank_has_the_same_results() {
    let Some((hosts, named)) = two_hosts(1) else { return };
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    let mut run = workplace.winsign("run", &sweep);
    let run = start(run.args(["--json", "--hosts", &named]).envs(hosts.environment()));
    let ranks = wait_for("a rank with a checkpoint", || {
        let saved = workplace.listing().iter().any(|(path, _)| path.ends_with("checkpoint.safetensors"));
        saved.then(|| find_ranks(&workplace.store())).filter(|ranks| !ranks.is_empty())
    });
    ranks.into_iter().for_each(|rank| signal(rank, Signal::KILL));
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(json(&output)["runs"]["done"], 7);
    assert_eq!(&workplace.outcomes(&sweep), uninterrupted());
    let claims = claims(&workplace.store());
    assert_eq!(claims.len(), 8, "the killed run must have two attempts: {}", stderr(&output));
    let used: BTreeSet<&str> = claims.iter().map(|claim| claim["owner"]["host"].as_str().unwrap()).collect();
    assert_eq!(used, hosts.names().iter().map(String::as_str).collect());
}

#[test]
fn killed_dispatcher_stops_ranks_on_other_hosts_and_the_next_continues() {
    let Some((hosts, named)) = two_hosts(2) else { return };
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    for _ in 0..2 {
        let mut command = workplace.winsign("run", &sweep);
        let mut run = start(command.args(["--hosts", &named]).envs(hosts.environment()));
        wait_for("a rank", || find_ranks(&workplace.store()).pop());
        run.kill().unwrap();
        run.wait().unwrap();
        wait_for("the orphaned workers to stop", || {
            winsign_testkit::find_workers(&workplace.store()).is_empty().then_some(())
        });
    }
    workplace.run_all(&sweep);
    assert_eq!(&workplace.outcomes(&sweep), uninterrupted());
}

#[test]
fn two_ranks_on_two_hosts_stop_on_request_and_resume() {
    let Some((hosts, named)) = two_hosts(1) else { return };
    let workplace = Workplace::new();
    let sweep = workplace.sweep("short.yaml", SHORT);
    // A shell would split and expand this name.
    let store = workplace.path("st ore: '$HOME' \"x\"\n*;,&");
    let run = || {
        let mut run = Command::new(env!("CARGO_BIN_EXE_winsign"));
        run.arg("run").arg(&sweep).arg("--store").arg(&store).env_remove("WINSIGN_LOG");
        run.args(["--json", "--ranks", "2", "--hosts", &named]).envs(hosts.environment());
        run
    };
    let stopped = start(&mut run());
    wait_for("two ranks", || (find_ranks(&store).len() == 2 && !claims(&store).is_empty()).then_some(()));
    signal(stopped.id(), Signal::INT);
    let stopped = stopped.wait_with_output().unwrap();
    assert_eq!(stopped.status.code(), Some(75), "{}", stderr(&stopped));
    assert!(find_ranks(&store).is_empty());
    let before = claims(&store).len();
    assert_eq!(before, 1, "only level 0 must have been started");

    let summary = json(&succeed(&mut run()));
    assert_eq!(summary["runs"]["done"], 2, "{summary:#}");
    let claims = claims(&store);
    assert_eq!(claims.len(), 3);
    // Rank 0, which claims the run, is on the first host. Each host has one slot, so the other rank is on the other host.
    assert!(claims.iter().all(|claim| claim["owner"]["host"] == hosts.names()[0].as_str()), "{claims:#?}");
    for result in files_named(&store, "result.json") {
        assert_eq!(read_json(&result)["ranks"], 2);
    }
}

#[test]
fn unreachable_host_is_skipped() {
    let Some((hosts, _)) = two_hosts(1) else { return };
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    let run = |named: &str| {
        let mut run = workplace.winsign("run", &sweep);
        run.args(["--hosts", named]).envs(hosts.environment()).output().unwrap()
    };
    let nowhere = run("nowhere:2,nirgends:1");
    assert_eq!(nowhere.status.code(), Some(1), "{}", stderr(&nowhere));
    assert!(stderr(&nowhere).contains("cannot start a run on any host"), "{}", stderr(&nowhere));
    assert_eq!(claims(&workplace.store()), [] as [Value; 0]);

    let somewhere = run(&format!("nowhere:2,{}:1", hosts.names()[0]));
    assert!(somewhere.status.success(), "{}", stderr(&somewhere));
    assert_eq!(stderr(&somewhere).matches("nowhere: repeated launch failures").count(), 1, "{}", stderr(&somewhere));
    assert_eq!(&workplace.outcomes(&sweep), uninterrupted());
}

/// Writes a worker that records its GPUs, but computes on the CPU; returns its path, and that of the record.
fn recording_worker(workplace: &Workplace) -> (PathBuf, PathBuf) {
    let (program, record) = (workplace.path("recording worker"), workplace.path("record"));
    let worker = env!("CARGO_BIN_EXE_winsign-worker");
    let script = format!(
        "#!/bin/sh\necho \"${{CUDA_VISIBLE_DEVICES-unset}}\" >> '{}'\nexec '{worker}' --device cpu \"$@\"\n",
        record.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (program, record)
}

fn read_record(record: &Path) -> BTreeSet<String> {
    fs::read_to_string(record).unwrap().lines().map(str::to_string).collect()
}

/// Runs two tickets with these visible GPUs; returns the GPUs of the workers.
fn gpus_of_runs(visible: Option<&str>, arguments: &[&str]) -> BTreeSet<String> {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("short.yaml", &SHORT.replace("method: lrr", "method: lrr, seed: 1..2"));
    let (worker, record) = recording_worker(&workplace);
    let mut run = workplace.winsign("run", &sweep);
    run.arg("--worker").arg(worker).args(arguments).env_remove("CUDA_VISIBLE_DEVICES");
    succeed(run.envs(visible.map(|visible| ("CUDA_VISIBLE_DEVICES", visible))));
    read_record(&record)
}

#[test]
fn each_run_gets_separate_gpus() {
    let set = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<BTreeSet<String>>();
    assert_eq!(gpus_of_runs(Some("4,GPU-5"), &[]), set(&["4", "GPU-5"]));
    assert_eq!(gpus_of_runs(Some("4,GPU-5"), &["--gpus", "2"]), set(&["4,GPU-5"]));
    assert_eq!(gpus_of_runs(Some("4,GPU-5"), &["--gpus", "0"]), set(&[""]));
    if !Path::new("/proc/driver/nvidia").exists() {
        assert_eq!(gpus_of_runs(None, &[]), set(&["unset"]));
    }
}

#[test]
fn gpus_of_other_hosts_are_numbered() {
    let Some((hosts, named)) = two_hosts(2) else { return };
    let workplace = Workplace::new();
    let sweep = workplace.sweep("short.yaml", SHORT);
    let (worker, record) = recording_worker(&workplace);
    let mut run = workplace.winsign("run", &sweep);
    // Two ranks are on the first host, and one is on the second.
    run.args(["--hosts", &named, "--ranks", "3", "--gpus", "1"]).arg("--worker").arg(worker);
    succeed(run.env("CUDA_VISIBLE_DEVICES", "7").envs(hosts.environment()));
    assert_eq!(read_record(&record), ["0", "0,1"].map(str::to_string).into());
}

/// The allocation has one task and two cores on each node. By itself, mpirun would start one rank on each, and a second
/// mpirun would wait for the first.
#[test]
fn slurm_allocation_of_several_nodes_is_used() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let cluster = Cluster::start(Settings { netns: true, ..Settings::default() });
    let workplace = Workplace::new();
    let sweep = workplace.sweep("short.yaml", &SHORT.replace("method: lrr", "method: lrr, seed: 1..4"));
    let output_file = workplace.path("output_file");
    let job = "exec \"$0\" run \"$1\" --store \"$2\" 2> \"$3\"";
    let mut salloc = cluster.command("salloc");
    salloc.args(["--nodes=2", "--cpus-per-task=2", "srun", "--nodes=1", "--ntasks=1", "--overlap", "--cpu-bind=none"]);
    salloc.args(["sh", "-c", job, env!("CARGO_BIN_EXE_winsign")]).arg(&sweep).arg(workplace.store()).arg(&output_file);
    let output = salloc.output().unwrap();
    let messages = fs::read_to_string(&output_file).unwrap_or_default();
    assert!(output.status.success(), "{messages}{}", stderr(&output));
    let named = format!("--hosts {}:2,{}:2", cluster.node(1), cluster.node(2));
    assert!(messages.contains(&named), "{messages}");
    let claims = claims(&workplace.store());
    let count_on = |node| claims.iter().filter(|claim| claim["owner"]["host"] == cluster.node(node).as_str()).count();
    assert_eq!((claims.len(), count_on(1) > 0, count_on(2) > 0), (8, true, true), "{claims:#?}");
}
