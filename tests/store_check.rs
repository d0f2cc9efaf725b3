//! `winsign store check` on this node, on made-up nodes, and on file systems with the weaknesses of those of networks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::Signal;
use serde_json::Value;
use winsign_testkit::cluster::{Cluster, Settings};
use winsign_testkit::faulty_fs::FaultyFs;
use winsign_testkit::{SMALL, Workplace, json, program, signal, start, stderr, stdout, succeed, wait_for};

/// The directory on this node, and the one that the other node has in its place.
const HERE: &str = "mount-0";
const THERE: &str = "mount-1";

/// The folder that is mounted there, if it is.
const MOUNTED: &str = "mounted";

/// A stand-in for ssh: the other node is a process of this one with another directory.
const SSH: &str = r#"#!/bin/sh
while [ "$1" = -o ]; do shift 2; done
export WINSIGN_MACHINE="$1"
exec sh -c "$(printf %s "$2" | sed s/FROM/TO/g)"
"#;

/// A directory to check, and a stand-in for ssh.
struct Check {
    workplace: Workplace,
}

impl Check {
    /// Creates a check in which both nodes have the same directory.
    fn new() -> Check {
        let check = Check { workplace: Workplace::new() };
        fs::create_dir(check.directory()).unwrap();
        check.write_ssh(&SSH.replace("FROM", HERE).replace("TO", HERE));
        check
    }

    /// Creates a check in which each node has a mount of one folder; `None`, with a message, if this user cannot mount.
    fn mounted() -> Option<(Check, [FaultyFs; 2])> {
        let check = Check { workplace: Workplace::new() };
        check.write_ssh(&SSH.replace("FROM", HERE).replace("TO", THERE));
        let mount = |name| FaultyFs::mount(&check.workplace.path(MOUNTED), &check.workplace.path(name));
        let mounts = [mount(HERE)?, mount(THERE)?];
        Some((check, mounts))
    }

    fn directory(&self) -> PathBuf {
        self.workplace.path(HERE)
    }

    /// Returns the folder with the files of the directory.
    fn content(&self) -> PathBuf {
        let mounted = self.workplace.path(MOUNTED);
        if mounted.exists() { mounted } else { self.directory() }
    }

    fn write_ssh(&self, script: &str) {
        let path = self.workplace.path("bin/ssh");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, directory: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("winsign"));
        command.args(["store", "check", "--json", "--store"]).arg(directory).args(arguments);
        let path = format!("{}:{}", self.workplace.path("bin").display(), std::env::var("PATH").unwrap());
        command
            .env("PATH", path)
            .env("WINSIGN_MACHINE", "here")
            .env_remove("WINSIGN_LOG")
            .env_remove("WINSIGN_PROFILE");
        command
    }

    /// Checks the directory, in which nothing may be left.
    fn execute(&self, arguments: &[&str]) -> Outcome {
        self.complete(&mut self.command(&self.directory(), arguments))
    }

    fn complete(&self, command: &mut Command) -> Outcome {
        let output = command.output().unwrap();
        assert_eq!(names(&self.content()), [""; 0], "{}", stdout(&output));
        Outcome { report: json(&output), output }
    }

    fn on_two_nodes(&self) -> Outcome {
        self.execute(&["--hosts", "there"])
    }
}

fn names(directory: &Path) -> Vec<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

struct Outcome {
    report: Value,
    output: Output,
}

impl Outcome {
    fn code(&self) -> i32 {
        self.output.status.code().unwrap()
    }

    /// Returns the finding of a check, of which there must be one.
    fn finding(&self, check: &str) -> &Value {
        let mut findings = self.report["checks"].as_array().unwrap().iter().filter(|finding| finding["check"] == check);
        let finding = findings.next().unwrap_or_else(|| panic!("no {check}: {:#}", self.report));
        assert!(findings.next().is_none(), "{:#}", self.report);
        finding
    }

    fn assert_verdict(&self, check: &str, verdict: &str) {
        assert_eq!(self.finding(check)["verdict"], verdict, "{:#}", self.report);
    }

    fn message(&self, check: &str) -> &str {
        self.finding(check)["message"].as_str().unwrap()
    }
}

/// The checks that a correct file system passes however slow the machine is.
const CERTAIN: [&str; 4] = ["hard links", "sync", "replacement", "exclusive creation"];

#[test]
fn local_disk_is_fit_for_one_node() {
    let outcome = Check::new().execute(&[]);
    CERTAIN.iter().for_each(|check| outcome.assert_verdict(check, "fine"));
    assert_eq!((outcome.code(), outcome.report["nodes"].as_array().unwrap().len()), (0, 1));
}

#[test]
fn directory_above_a_missing_store_is_checked() {
    let check = Check::new();
    let store = check.directory().join("of/mine");
    let report = json(&check.command(&store, &[]).output().unwrap());
    let directory = report["directory"].as_str().map(Path::new);
    assert_eq!((directory, store.exists()), (Some(check.directory().as_path()), false));
}

#[test]
fn shared_directory_is_fit_for_two_nodes() {
    let outcome = Check::new().on_two_nodes();
    CERTAIN.iter().chain(&["same files", "takeover"]).for_each(|check| outcome.assert_verdict(check, "fine"));
    assert_eq!((outcome.code(), &outcome.report["nodes"][1]), (0, &Value::from("there")));
}

#[test]
fn node_with_another_directory_is_named() {
    let check = Check::new();
    fs::create_dir(check.workplace.path(THERE)).unwrap();
    check.write_ssh(&SSH.replace("FROM", HERE).replace("TO", THERE));
    let outcome = check.on_two_nodes();
    outcome.assert_verdict("same files", "unfit");
    assert_eq!((outcome.code(), &outcome.finding("same files")["nodes"]), (3, &serde_json::json!(["there"])));
}

#[test]
fn directory_that_cannot_be_read_is_an_error() {
    let check = Check::new();
    let link = check.workplace.path("link");
    std::os::unix::fs::symlink(&link, &link).unwrap();
    let output = check.command(&link, &[]).output().unwrap();
    let message = format!("cannot read {}", link.display());
    assert!(json(&output)["error"]["message"].as_str().unwrap().contains(&message), "{}", stdout(&output));
    assert_eq!(output.status.code(), Some(74));
}

#[test]
fn host_out_of_reach_is_named() {
    let check = Check::new();
    check.write_ssh("#!/bin/sh\necho 'Permission denied (publickey).' >&2\nexit 255\n");
    let outcome = check.on_two_nodes();
    let message = outcome.report["error"]["message"].as_str().unwrap();
    assert!(message.contains("on there: ssh: exit status: 255: Permission denied"), "{message}");
    assert_eq!(outcome.code(), 1);
}

#[test]
fn killed_check_leaves_nothing() {
    for kill in [Signal::INT, Signal::KILL] {
        let check = Check::new();
        let running = start(&mut check.command(&check.directory(), &["--hosts", "there"]));
        wait_for("the files of both nodes", || {
            let folder = names(&check.directory()).pop()?;
            names(&check.directory().join(folder)).contains(&"same".to_string()).then_some(())
        });
        signal(running.id(), kill);
        running.wait_with_output().unwrap();
        wait_for("the folder to be removed", || names(&check.directory()).is_empty().then_some(()));
    }
}

#[test]
fn nodes_that_slurm_allocates_are_checked() {
    let (cluster, check) = (Cluster::start(Settings::default()), Check::new());
    let profile = check.workplace.sweep("profile.yaml", "partition: spot\n");
    let mut command = check.command(&check.directory(), &["--slurm", "--profile", profile.to_str().unwrap()]);
    let outcome = check.complete(command.envs(cluster.environment()));
    outcome.assert_verdict("takeover", "fine");
    let nodes = [1, 2].map(|node| Value::from(cluster.node(node)));
    assert_eq!(outcome.report["nodes"].as_array().unwrap()[1..], nodes);
    assert_eq!(cluster.squeue("%P"), ["spot"]);
}

#[test]
fn submission_checks_a_store_once() {
    let Some((check, mounts)) = Check::mounted() else { return };
    let cluster = Cluster::start(Settings::default());
    mounts[0].set("no_links", 1);
    let sweep = check.workplace.sweep("small.yaml", SMALL);
    let submit = || {
        let mut submit = Command::new(program("winsign"));
        submit.arg("submit").arg(&sweep).arg("--store").arg(check.directory().join("store"));
        stderr(&succeed(submit.envs(cluster.environment()).env_remove("WINSIGN_LOG").env_remove("WINSIGN_PROFILE")))
    };
    const WARNING: &str = "warning: the store is slow: hard links";
    let messages = [submit(), submit()];
    assert_eq!(messages.each_ref().map(|text| text.contains(WARNING)), [true, false], "{messages:?}");
}

#[test]
fn file_system_without_links_is_slow_and_safe() {
    let Some((check, mounts)) = Check::mounted() else { return };
    mounts.iter().for_each(|mount| mount.set("no_links", 1));
    let outcome = check.on_two_nodes();
    outcome.assert_verdict("hard links", "slow");
    outcome.assert_verdict("exclusive creation", "fine");
    assert_eq!(outcome.code(), 0);
}

#[test]
fn names_that_nodes_cache_are_seen_late_unless_the_directory_is_opened() {
    const SECONDS: i64 = 6;
    let Some((check, mounts)) = Check::mounted() else { return };
    mounts.iter().for_each(|mount| mount.set("cache", SECONDS));
    let outcome = check.on_two_nodes();
    let measured = |way: &str| outcome.finding("visibility")["measured"][way].as_f64().unwrap();
    assert!(measured("name") > measured("opened_name") + 1.0, "{:#}", outcome.report);
    assert_eq!(outcome.code(), 0, "{:#}", outcome.report);
}

#[test]
fn times_of_files_by_the_clocks_of_nodes_are_found() {
    let Some((check, mounts)) = Check::mounted() else { return };
    mounts[1].set("skew", 300);
    let outcome = check.on_two_nodes();
    outcome.assert_verdict("clocks", "slow");
    assert!(outcome.message("clocks").contains("each node gives files its own time"), "{:#}", outcome.report);
}

#[test]
fn read_only_and_full_file_systems_are_unfit() {
    for (setting, reason) in [("read_only", "Read-only file system"), ("full", "No space left on device")] {
        let Some((check, mounts)) = Check::mounted() else { return };
        mounts[0].set(setting, 1);
        let outcome = check.execute(&[]);
        outcome.assert_verdict("writing", "unfit");
        assert!(outcome.message("writing").contains(reason), "{:#}", outcome.report);
        assert!(outcome.finding("writing")["help"].is_string(), "{:#}", outcome.report);
        assert_eq!(outcome.code(), 3);
    }
}

#[test]
fn errors_that_pass_do_not_make_a_directory_unfit() {
    let Some((check, mounts)) = Check::mounted() else { return };
    mounts.iter().for_each(|mount| mount.set("errors", 10));
    let outcome = check.on_two_nodes();
    assert_eq!(outcome.code(), 0, "{:#}{}", outcome.report, stderr(&outcome.output));
}
