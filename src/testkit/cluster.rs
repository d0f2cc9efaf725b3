//! A real Slurm of a test's own (see `tests/slurm/cluster`), and hosts without one.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{stderr, stdout, succeed};

/// What a cluster is to be like.
pub struct Settings<'a> {
    pub nodes: u16,
    /// Of each node; may be more than this machine has.
    pub cpus: u32,
    /// Fake ones, of each node.
    pub gpus: u32,
    /// Lines of `slurm.conf` that replace the harness's own, such as `MaxArraySize=5`.
    pub conf: &'a [&'a str],
    /// A network namespace for each node, so that its link can be cut. Root only.
    pub netns: bool,
}

impl Default for Settings<'_> {
    fn default() -> Self {
        Settings { nodes: 2, cpus: 4, gpus: 2, conf: &[], netns: false }
    }
}

/// A running Slurm with the partitions `batch` and, preempted by it, `spot`. Dropping it ends it with all its jobs.
pub struct Cluster {
    place: Place,
}

impl Cluster {
    pub fn start(settings: Settings) -> Cluster {
        let place = Place::claim(settings.nodes);
        let mode = if settings.netns { "netns" } else { "ports" };
        let mut start = place.script("start");
        start
            .env("CLUSTER_NODES", settings.nodes.to_string())
            .env("CLUSTER_CPUS", settings.cpus.to_string())
            .env("CLUSTER_GPUS", settings.gpus.to_string())
            .env("CLUSTER_MODE", mode)
            .env("CLUSTER_CONF", settings.conf.join("\n"));
        succeed(&mut start);
        Cluster { place }
    }

    /// The folder of the cluster: `slurm.conf`, and the daemons' words in `log/`.
    pub fn root(&self) -> &Path {
        &self.place.root
    }

    /// Slurm's name of node `node`, counted from 1; also its host name where the tests run as root.
    pub fn node(&self, node: u16) -> String {
        self.place.node(node)
    }

    /// What a program needs in its environment to find this cluster.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        path.push(":/usr/sbin:/sbin");
        let mut environment = vec![("SLURM_CONF", self.root().join("slurm.conf").into_os_string()), ("PATH", path)];
        environment.extend(open_mpi());
        environment
    }

    /// A program that finds this cluster, to be started.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment());
        command
    }

    /// Submits a script; gives the job's number.
    pub fn sbatch(&self, arguments: &[&str], script: &str) -> u32 {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        let mut sbatch = self.command("sbatch");
        sbatch.arg("--parsable").args(["--output", "/dev/null"]).args(arguments).arg(file.path());
        stdout(&succeed(&mut sbatch)).trim().parse().unwrap()
    }

    /// A line in `squeue`'s FORMAT for each job that Slurm still knows, ended ones as well, tasks of arrays one by one.
    pub fn squeue(&self, format: &str) -> Vec<String> {
        let mut squeue = self.command("squeue");
        squeue.args(["--noheader", "--array", "--states", "all", "--format", format]);
        stdout(&succeed(&mut squeue)).lines().map(|line| line.trim_end().to_string()).collect()
    }

    /// Waits until no job waits or runs.
    pub fn wait_until_idle(&self, limit: Duration) {
        let began = Instant::now();
        loop {
            // A controller that is just being restarted does not answer.
            let output = self.command("squeue").arg("--noheader").output().unwrap();
            if output.status.success() && output.stdout.is_empty() {
                return;
            }
            let state = || format!("{}{}", stdout(&output), stderr(&output));
            assert!(began.elapsed() < limit, "jobs are left after {limit:?}:\n{}", state());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until every node is up and without jobs.
    pub fn wait_for_nodes(&self, limit: Duration) {
        let began = Instant::now();
        loop {
            let mut sinfo = self.command("sinfo");
            let output = sinfo.args(["--noheader", "--Node", "--partition=batch", "--format=%N %t"]).output().unwrap();
            let states = stdout(&output);
            if !states.is_empty() && states.lines().all(|line| line.ends_with(" idle")) {
                return;
            }
            assert!(began.elapsed() < limit, "nodes are not idle after {limit:?}:\n{states}{}", stderr(&output));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills a node's slurmd. Its jobs go on, and Slurm hears no more of them.
    pub fn kill_node(&self, node: u16) {
        self.place.on_node("kill-node", node);
    }

    /// Starts the slurmd of a killed node.
    pub fn start_node(&self, node: u16) {
        self.place.on_node("start-node", node);
    }

    /// Cuts a node off the network, if it has one of its own.
    pub fn cut(&self, node: u16) {
        self.place.on_node("cut", node);
    }

    /// Gives a node its link back.
    pub fn join(&self, node: u16) {
        self.place.on_node("join", node);
    }

    /// Ends slurmctld in good order and starts it again.
    pub fn restart_controller(&self) {
        succeed(&mut self.place.script("stop-controller"));
        self.start_controller();
    }

    /// Ends slurmctld without warning. Started again, it may not know what happened in the last five seconds: a job
    /// that began to run then is pending to it.
    pub fn kill_controller(&self) {
        succeed(&mut self.place.script("kill-controller"));
    }

    /// Starts slurmctld, and waits until it answers. Its nodes may need some seconds more.
    pub fn start_controller(&self) {
        succeed(&mut self.place.script("start-controller"));
    }

    /// The numbers of all processes of the cluster: its daemons, what looks after jobs, and the jobs.
    pub fn processes(&self) -> Vec<u32> {
        self.place.processes()
    }
}

/// Hosts in network namespaces, with names of their own: what `mpirun --host` reaches without a scheduler. Root only.
pub struct Hosts {
    place: Place,
    count: u16,
}

impl Hosts {
    pub fn start(count: u16) -> Hosts {
        let place = Place::claim(count);
        succeed(place.script("hosts").env("CLUSTER_NODES", count.to_string()));
        Hosts { place, count }
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        (1..=self.count).map(|host| self.place.node(host)).collect()
    }

    /// What mpirun calls to start something on a host, as it would call ssh.
    pub fn agent(&self) -> PathBuf {
        self.place.root.join("agent")
    }

    /// What a program that starts mpirun needs in its environment to reach these hosts.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut environment = vec![("OMPI_MCA_plm_rsh_agent", self.agent().into_os_string())];
        environment.extend(open_mpi());
        environment
    }

    /// A program on one of the hosts, counted from 1, to be started there.
    pub fn command_on(&self, host: u16, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let name = self.place.node(host);
        command
            .arg(format!("--net=/run/netns/{name}"))
            .args(["unshare", "--uts", "sh", "-c", r#"hostname "$0" && exec "$@""#, &name])
            .arg(program)
            .envs(self.environment());
        command
    }

    /// Cuts a host off the network.
    pub fn cut(&self, host: u16) {
        self.place.on_node("cut", host);
    }

    /// Gives a host its link back.
    pub fn join(&self, host: u16) {
        self.place.on_node("join", host);
    }

    /// The numbers of all processes on the hosts.
    pub fn processes(&self) -> Vec<u32> {
        self.place.processes()
    }
}

/// What OpenMPI wants to be told on a machine of tests.
fn open_mpi() -> Vec<(&'static str, OsString)> {
    if is_root() {
        ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"].map(|name| (name, "1".into())).into()
    } else {
        // Nodes that share a host name would share its memory segments.
        vec![("OMPI_MCA_btl", "self,tcp".into())]
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Ports, and a folder named by the first of them. No other test has them as long as this one lives: a lock is held on
/// them, which goes when the process goes, however that ends. A folder that is found with its lock free was left by a
/// test that was killed, and whoever gets the lock clears it away.
struct Place {
    root: PathBuf,
    port: u16,
    _lock: File,
}

impl Place {
    /// Below those that the kernel gives to outgoing connections.
    const PORTS: std::ops::Range<u16> = 21_000..31_000;
    const PORTS_EACH: u16 = 50;

    fn claim(nodes: u16) -> Place {
        assert!((1..Self::PORTS_EACH).contains(&nodes), "{nodes} nodes");
        let all = std::env::temp_dir().join(format!("winsign-tests-{}", rustix::process::geteuid().as_raw()));
        fs::create_dir_all(&all).unwrap();
        for port in Self::PORTS.step_by(Self::PORTS_EACH.into()) {
            let lock = File::create(all.join(format!("{port}.lock"))).unwrap();
            if lock.try_lock().is_err() {
                continue;
            }
            let place = Place { root: all.join(port.to_string()), port, _lock: lock };
            succeed(&mut place.script("stop"));
            if (port..=port + nodes).all(|port| TcpListener::bind(("0.0.0.0", port)).is_ok()) {
                return place;
            }
        }
        panic!("no free ports in {:?}; what uses them all?", Self::PORTS);
    }

    fn node(&self, node: u16) -> String {
        format!("node{}-{node}", self.port)
    }

    fn script(&self, command: &str) -> Command {
        let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/slurm/cluster"));
        script.arg(command).arg(&self.root).env("CLUSTER_PORT", self.port.to_string()).stdin(Stdio::null());
        script
    }

    fn on_node(&self, command: &str, node: u16) {
        succeed(self.script(command).arg(node.to_string()));
    }

    fn processes(&self) -> Vec<u32> {
        stdout(&succeed(&mut self.script("processes"))).lines().map(|line| line.parse().unwrap()).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let output = self.script("stop").output().unwrap();
        // A panic while panicking would hide the first.
        if !output.status.success() {
            eprintln!("{} could not be stopped: {}", self.root.display(), stderr(&output));
        }
    }
}
