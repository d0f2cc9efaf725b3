//! Runs on other hosts, by mpirun: network namespaces with names of their own. Where the tests do not run as root there
//! are none, and these tests do nothing.
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

/// One ticket, of two levels.
const SHORT: &str = "
dataset: digits
architecture: resnet8
ticket: {method: lrr, levels: 1, warmup_epochs: 4, epochs: 2}
";

/// What the small sweep gives on this machine.
fn undisturbed() -> &'static BTreeMap<String, (Value, Option<String>)> {
    static OUTCOMES: OnceLock<BTreeMap<String, (Value, Option<String>)>> = OnceLock::new();
    OUTCOMES.get_or_init(|| {
        let workplace = Workplace::new();
        let sweep = workplace.sweep("small.yaml", SMALL);
        assert_eq!(workplace.run_all(&sweep), 7);
        workplace.outcomes(&sweep)
    })
}

/// Two hosts, and `--hosts` with so many slots on each.
fn two_hosts(slots: u32) -> Option<(Hosts, String)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let hosts = Hosts::start(2);
    let named: Vec<String> = hosts.names().iter().map(|name| format!("{name}:{slots}")).collect();
    Some((hosts, named.join(",")))
}

/// The process numbers of the ranks at work on a store, not of what launched them.
fn ranks_of(store: &Path) -> Vec<u32> {
    let is_rank = |pid: &u32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.split(|&byte| byte == 0).next().is_some_and(|program| program.ends_with(b"winsign-worker"))
    };
    winsign_testkit::workers_of(store).into_iter().filter(is_rank).collect()
}

/// All files of a store's runs that have this name, or that lie in a folder that has it.
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

/// All claims in a store.
fn claims(store: &Path) -> Vec<Value> {
    let files = files_named(store, "attempts").into_iter();
    files.filter(|file| file.extension().is_some_and(|end| end == "json")).map(|file| read_json(&file)).collect()
}

#[test]
fn a_sweep_spreads_over_hosts_and_a_killed_rank_changes_nothing() {
    let Some((hosts, named)) = two_hosts(1) else { return };
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    let mut run = workplace.winsign("run", &sweep);
    let run = start(run.args(["--json", "--hosts", &named]).envs(hosts.environment()));
    let ranks = wait_for("a rank with something to lose", || {
        let saved = workplace.listing().iter().any(|(path, _)| path.ends_with("checkpoint.safetensors"));
        saved.then(|| ranks_of(&workplace.store())).filter(|ranks| !ranks.is_empty())
    });
    ranks.into_iter().for_each(|rank| signal(rank, Signal::KILL));
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(json(&output)["runs"]["done"], 7);
    assert_eq!(&workplace.outcomes(&sweep), undisturbed());
    let claims = claims(&workplace.store());
    assert_eq!(claims.len(), 8, "one run was started twice: {}", stderr(&output));
    let used: BTreeSet<&str> = claims.iter().map(|claim| claim["owner"]["host"].as_str().unwrap()).collect();
    assert_eq!(used, hosts.names().iter().map(String::as_str).collect());
}

#[test]
fn a_killed_run_takes_ranks_on_other_hosts_along_and_the_next_goes_on() {
    let Some((hosts, named)) = two_hosts(2) else { return };
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    for _ in 0..2 {
        let mut command = workplace.winsign("run", &sweep);
        let mut run = start(command.args(["--hosts", &named]).envs(hosts.environment()));
        wait_for("a rank", || ranks_of(&workplace.store()).pop());
        run.kill().unwrap();
        run.wait().unwrap();
        wait_for("the orphans to stop", || winsign_testkit::workers_of(&workplace.store()).is_empty().then_some(()));
    }
    workplace.run_all(&sweep);
    assert_eq!(&workplace.outcomes(&sweep), undisturbed());
}

#[test]
fn two_ranks_on_two_hosts_stop_when_told_and_go_on() {
    let Some((hosts, named)) = two_hosts(1) else { return };
    let workplace = Workplace::new();
    let sweep = workplace.sweep("short.yaml", SHORT);
    // A name that a shell would take apart.
    let store = workplace.path("st ore: '$HOME' \"x\"\n*;,&");
    let run = || {
        let mut run = Command::new(env!("CARGO_BIN_EXE_winsign"));
        run.arg("run").arg(&sweep).arg("--store").arg(&store).env_remove("WINSIGN_LOG");
        run.args(["--json", "--ranks", "2", "--hosts", &named]).envs(hosts.environment());
        run
    };
    let stopped = start(&mut run());
    wait_for("two ranks", || (ranks_of(&store).len() == 2 && !claims(&store).is_empty()).then_some(()));
    signal(stopped.id(), Signal::INT);
    let stopped = stopped.wait_with_output().unwrap();
    assert_eq!(stopped.status.code(), Some(75), "{}", stderr(&stopped));
    assert!(ranks_of(&store).is_empty());
    let before = claims(&store).len();
    assert_eq!(before, 1, "level 0 was begun, and nothing else");

    let summary = json(&succeed(&mut run()));
    assert_eq!(summary["runs"]["done"], 2, "{summary:#}");
    let claims = claims(&store);
    assert_eq!(claims.len(), 3);
    // Rank 0 claims, on the first host; the other is on the other, or there would be no room for it.
    assert!(claims.iter().all(|claim| claim["owner"]["host"] == hosts.names()[0].as_str()), "{claims:#?}");
    for result in files_named(&store, "result.json") {
        assert_eq!(read_json(&result)["ranks"], 2);
    }
}

#[test]
fn a_host_that_cannot_be_reached_is_left_alone() {
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
    assert_eq!(&workplace.outcomes(&sweep), undisturbed());
}

/// A worker that writes down which GPUs it was given, and computes on the processor all the same.
fn telling_worker(workplace: &Workplace) -> (PathBuf, PathBuf) {
    let (program, told) = (workplace.path("telling worker"), workplace.path("told"));
    let worker = env!("CARGO_BIN_EXE_winsign-worker");
    let script = format!(
        "#!/bin/sh\necho \"${{CUDA_VISIBLE_DEVICES-unset}}\" >> '{}'\nexec '{worker}' --device cpu \"$@\"\n",
        told.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (program, told)
}

fn told_to(told: &Path) -> BTreeSet<String> {
    fs::read_to_string(told).unwrap().lines().map(str::to_string).collect()
}

#[test]
fn every_seat_has_gpus_of_its_own() {
    let gpus = |visible: Option<&str>, arguments: &[&str]| {
        let workplace = Workplace::new();
        let sweep = workplace.sweep("short.yaml", &SHORT.replace("method: lrr", "method: lrr, seed: 1..2"));
        let (worker, told) = telling_worker(&workplace);
        let mut run = workplace.winsign("run", &sweep);
        run.arg("--worker").arg(worker).args(arguments).env_remove("CUDA_VISIBLE_DEVICES");
        succeed(run.envs(visible.map(|visible| ("CUDA_VISIBLE_DEVICES", visible))));
        told_to(&told)
    };
    let set = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<BTreeSet<String>>();
    assert_eq!(gpus(Some("4,GPU-5"), &[]), set(&["4", "GPU-5"]));
    assert_eq!(gpus(Some("4,GPU-5"), &["--gpus", "2"]), set(&["4,GPU-5"]));
    assert_eq!(gpus(Some("4,GPU-5"), &["--gpus", "0"]), set(&[""]));
    if !Path::new("/proc/driver/nvidia").exists() {
        assert_eq!(gpus(None, &[]), set(&["unset"]));
    }
}

#[test]
fn gpus_of_other_hosts_go_by_number() {
    let Some((hosts, named)) = two_hosts(2) else { return };
    let workplace = Workplace::new();
    let sweep = workplace.sweep("short.yaml", SHORT);
    let (worker, told) = telling_worker(&workplace);
    let mut run = workplace.winsign("run", &sweep);
    // Three ranks: two here, one there.
    run.args(["--hosts", &named, "--ranks", "3", "--gpus", "1"]).arg("--worker").arg(worker);
    succeed(run.env("CUDA_VISIBLE_DEVICES", "7").envs(hosts.environment()));
    assert_eq!(told_to(&told), ["0", "0,1"].map(str::to_string).into());
}

/// One task was asked for on each node, but two cores: mpirun alone would start one rank there, and a second mpirun would
/// wait for the first.
#[test]
fn an_allocation_of_several_nodes_is_used() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let cluster = Cluster::start(Settings { netns: true, ..Settings::default() });
    let workplace = Workplace::new();
    let sweep = workplace.sweep("short.yaml", &SHORT.replace("method: lrr", "method: lrr, seed: 1..4"));
    let said = workplace.path("said");
    let job = "exec \"$0\" run \"$1\" --store \"$2\" 2> \"$3\"";
    let mut salloc = cluster.command("salloc");
    salloc.args(["--nodes=2", "--cpus-per-task=2", "srun", "--nodes=1", "--ntasks=1", "--overlap", "--cpu-bind=none"]);
    salloc.args(["sh", "-c", job, env!("CARGO_BIN_EXE_winsign")]).arg(&sweep).arg(workplace.store()).arg(&said);
    let output = salloc.output().unwrap();
    let said = fs::read_to_string(&said).unwrap_or_default();
    assert!(output.status.success(), "{said}{}", stderr(&output));
    let named = format!("--hosts {}:2,{}:2", cluster.node(1), cluster.node(2));
    assert!(said.contains(&named), "{said}");
    let claims = claims(&workplace.store());
    let at = |node| claims.iter().filter(|claim| claim["owner"]["host"] == cluster.node(node).as_str()).count();
    assert_eq!((claims.len(), at(1) > 0, at(2) > 0), (8, true, true), "{claims:#?}");
}
