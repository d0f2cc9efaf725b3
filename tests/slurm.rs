//! The test clusters and hosts of winsign-testkit.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use winsign_testkit::cluster::{Cluster, Hosts, Settings};
use winsign_testkit::{stderr, stdout, succeed};

#[test]
fn harness_runs_an_array_and_leaves_nothing_behind() {
    let cluster = Cluster::start(Settings { conf: &["MaxArraySize=5"], ..Settings::default() });
    // The array is larger than the limit set above, which replaces the default one.
    let refused = cluster.command("sbatch").args(["--array=0-5", "--wrap=true"]).output().unwrap();
    assert!(stderr(&refused).contains("array"), "{}", stderr(&refused));

    let written = tempfile::tempdir().unwrap();
    let script = format!("echo $CUDA_VISIBLE_DEVICES > {}/$SLURM_ARRAY_TASK_ID", written.path().display());
    let job = cluster.sbatch(&["--array=0-2", "--gres=gpu:1"], &script);
    cluster.wait_until_idle(Duration::from_secs(60));
    let tasks: BTreeSet<String> = cluster.squeue("%F %K %T").into_iter().collect();
    assert_eq!(tasks, (0..3).map(|task| format!("{job} {task} COMPLETED")).collect());
    for task in 0..3 {
        let gpu = std::fs::read_to_string(written.path().join(task.to_string())).unwrap();
        assert!(["0\n", "1\n"].contains(&gpu.as_str()), "{gpu:?}");
    }

    // The cluster cannot find this process by its environment.
    cluster.sbatch(&[], "env -i sleep 600");
    let processes = winsign_testkit::wait_for("the job", || {
        let processes = cluster.processes();
        processes.iter().any(|&pid| command_line(pid).starts_with("sleep\x00600")).then_some(processes)
    });
    let root = cluster.root().to_path_buf();
    drop(cluster);
    assert_ended(&processes);
    assert!(!root.exists());
}

/// Creates a command that runs a program once on each of two hosts.
fn mpirun(hosts: &Hosts, program: &[&str]) -> Command {
    let mut mpirun = Command::new("mpirun");
    let slots = hosts.names().iter().map(|name| format!("{name}:1")).collect::<Vec<_>>().join(",");
    mpirun.args(["--host", &slots, "-np", "2"]).args(program).envs(hosts.environment());
    mpirun
}

#[test]
fn mpirun_reaches_hosts_that_leave_nothing_behind() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: only root can make network namespaces");
        return;
    }
    let hosts = Hosts::start(2);
    let names = hosts.names();
    let output = stdout(&succeed(&mut mpirun(&hosts, &["hostname"])));
    let printed: BTreeSet<String> = output.lines().map(str::to_string).collect();
    assert_eq!(printed, names.iter().cloned().collect());

    let mut running = winsign_testkit::start(&mut mpirun(&hosts, &["sleep", "600"]));
    let processes = winsign_testkit::wait_for("both processes", || {
        let processes = hosts.processes();
        let sleeping = processes.iter().filter(|&&pid| command_line(pid).starts_with("sleep\x00600"));
        (sleeping.count() == 2).then_some(processes)
    });
    drop(hosts);
    assert_ended(&processes);
    assert!(names.iter().all(|name| !Path::new("/run/netns").join(name).exists()));
    assert!(!running.wait().unwrap().success());
}

fn assert_ended(processes: &[u32]) {
    let left: Vec<_> = processes.iter().map(|&pid| command_line(pid)).filter(|line| !line.is_empty()).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn command_line(pid: u32) -> String {
    std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("cmdline")).unwrap_or_default()
}
