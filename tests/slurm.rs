//! A real Slurm, started by the tests themselves.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use common::cluster::{Cluster, Settings};
use common::stderr;

#[test]
fn the_harness_runs_an_array_and_leaves_nothing_behind() {
    let cluster = Cluster::start(Settings { conf: &["MaxArraySize=5"], ..Settings::default() });
    // Too large for the cluster's own limit, which replaced that of the harness.
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

    // A job that would outlive its cluster, were it not ended.
    cluster.sbatch(&[], "env -i sleep 600");
    let processes = common::wait_for("the job", || {
        let processes = cluster.processes();
        processes.iter().any(|&pid| command_line(pid).starts_with("sleep\x00600")).then_some(processes)
    });
    let root = cluster.root().to_path_buf();
    drop(cluster);
    let left: Vec<_> = processes.into_iter().map(command_line).filter(|line| !line.is_empty()).collect();
    assert!(left.is_empty() && !root.exists(), "{left:?}");
}

fn command_line(pid: u32) -> String {
    std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("cmdline")).unwrap_or_default()
}
