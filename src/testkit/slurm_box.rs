//! A Slurm 24.11 with accounting, and an OpenMPI 5, for one test, in a Debian of its own (see `tests/slurm/box`). Only for root.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::cluster::Settings;
use super::{program, stdout, succeed};

/// A running Slurm with the users `ann` and `ben` of one account, who may use the QOS `scavenger`, and `high`, which
/// preempts it. Its users see only their own jobs. When it is dropped, it ends with all its processes and files.
pub struct SlurmBox {
    /// Holds the box until its standard input is closed, which also happens when the test is killed.
    holder: Child,
    number: String,
}

impl SlurmBox {
    /// Starts a cluster in a new box, and waits until its nodes are idle.
    pub fn start(settings: Settings) -> SlurmBox {
        let mut start = Command::new(script());
        let root = std::env::var_os("BOX_ROOT").map_or(target().join("slurm-box"), PathBuf::from);
        start.arg("start").arg(root).arg(repository()).args(folders_of_libraries());
        let mut holder = start.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut number = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut number).unwrap();
        let slurm = SlurmBox { holder, number: number.trim().to_string() };
        assert!(!slurm.number.is_empty(), "the box did not start; help: run tests/slurm/box make target/slurm-box");
        slurm.start_cluster(CLUSTER, &settings, &[]);
        slurm
    }

    /// Starts a second cluster that has the same users and accounting database, and returns its name.
    pub fn start_second(&self, settings: Settings) -> &'static str {
        self.start_cluster(SECOND, &settings, &["CLUSTER_PORT=22000", &format!("CLUSTER_JOINS={CLUSTER}")]);
        "winsign22000"
    }

    /// Starts hosts without Slurm, and returns their names, and the variable with which mpirun reaches them.
    pub fn start_hosts(&self, count: u16) -> (Vec<String>, String) {
        let mut start = self.command("root", "env");
        start.args(["CLUSTER_MODE=netns", "CLUSTER_PORT=23000", &format!("CLUSTER_NODES={count}")]);
        succeed(start.arg(repository().join("tests/slurm/cluster")).args(["hosts", HOSTS]));
        let names = (1..=count).map(|host| format!("node23000-{host}")).collect();
        (names, format!("PRTE_MCA_plm_ssh_agent={HOSTS}/agent"))
    }

    fn start_cluster(&self, folder: &str, settings: &Settings, variables: &[&str]) {
        let mut start = self.command("root", "env");
        start.args(settings.variables().map(|(name, value)| format!("{name}={value}")));
        start.args(variables).arg("CLUSTER_USERS=ann,ben");
        succeed(start.arg(repository().join("tests/slurm/cluster")).args(["start", folder]));
    }

    /// Creates a command that a user runs in the box, which can take two minutes at most.
    pub fn command(&self, user: &str, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(script());
        command.args(["run", &self.number, user]).arg(program).stdin(Stdio::null());
        command
    }

    /// Runs a line of shell as a user, and returns its output.
    pub fn shell(&self, user: &str, line: &str) -> String {
        stdout(&succeed(self.command(user, "bash").args(["-c", line])))
    }

    /// Returns where this machine finds a path of the box.
    pub fn path(&self, path: &str) -> PathBuf {
        Path::new("/proc").join(&self.number).join("root").join(path.trim_start_matches('/'))
    }

    /// Returns the numbers of all processes in the box, as this machine counts them.
    pub fn processes(&self) -> Vec<u32> {
        let namespace = |process: &Path| fs::read_link(process.join("ns/pid")).ok();
        let own = namespace(&Path::new("/proc").join(&self.number));
        let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        let in_box = processes.filter(|process| own.is_some() && namespace(process) == own);
        in_box.filter_map(|process| process.file_name()?.to_str()?.parse().ok()).collect()
    }

    /// Returns the name of a node, counted from 1.
    pub fn node(&self, node: u16) -> String {
        format!("node21000-{node}")
    }

    /// Starts a node again such that it has an empty folder in the place of one that the other nodes share.
    pub fn hide_from_node(&self, folder: &str, node: u16) {
        let name = self.node(node);
        let cluster = repository().join("tests/slurm/cluster");
        let start = format!("mount -t tmpfs tmpfs {folder} && hostname {name} && slurmd -f $SLURM_CONF -N {name}");
        self.shell(
            "root",
            &format!("{} kill-node {CLUSTER} {node} && unshare --mount --uts sh -c '{start}'", cluster.display()),
        );
    }
}

impl Drop for SlurmBox {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// The folder of the cluster in the box.
const CLUSTER: &str = "/run/cluster";

/// The folder of the second cluster.
const SECOND: &str = "/run/second";

/// The folder of hosts without Slurm.
const HOSTS: &str = "/run/hosts";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn script() -> PathBuf {
    repository().join("tests/slurm/box")
}

/// Returns the folder `target`, in which cargo has built the programs.
fn target() -> PathBuf {
    repository().join("target")
}

/// Returns the folders of the two programs, and of the libraries that they need and the box does not have.
fn folders_of_libraries() -> BTreeSet<PathBuf> {
    let worker = program("winsign-worker");
    let libraries = stdout(&succeed(Command::new("ldd").arg(&worker)));
    let paths = libraries.lines().filter_map(|line| line.split_once(" => ")?.1.split(' ').next());
    let mut folders: BTreeSet<PathBuf> =
        paths.filter_map(|path| fs::canonicalize(path).ok()?.parent().map(Path::to_path_buf)).collect();
    folders.retain(|folder| !folder.starts_with("/usr"));
    folders.extend(worker.parent().map(Path::to_path_buf));
    folders
}
