//! A real Slurm for one test (see `tests/slurm/cluster`), and hosts without Slurm.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{stderr, stdout, succeed};

/// The settings of a cluster.
pub struct Settings<'a> {
    pub nodes: u16,
    /// The number of CPUs of each node; it may be larger than that of this machine.
    pub cpus: u32,
    /// The number of simulated GPUs of each node.
    pub gpus: u32,
    /// Lines of `slurm.conf` that replace those of the harness, such as `MaxArraySize=5`.
    pub conf: &'a [&'a str],
    /// True if each node has a network namespace, so that its link can be cut. Only for root.
    pub netns: bool,
}

impl Default for Settings<'_> {
    fn default() -> Self {
        Settings { nodes: 2, cpus: 4, gpus: 2, conf: &[], netns: false }
    }
}

impl Settings<'_> {
    /// Returns the variables that pass the settings to `tests/slurm/cluster`.
    pub(super) fn variables(&self) -> [(&'static str, String); 5] {
        [
            ("CLUSTER_NODES", self.nodes.to_string()),
            ("CLUSTER_CPUS", self.cpus.to_string()),
            ("CLUSTER_GPUS", self.gpus.to_string()),
            ("CLUSTER_MODE", if self.netns { "netns" } else { "ports" }.to_string()),
            ("CLUSTER_CONF", self.conf.join("\n")),
        ]
    }
}

/// A running Slurm with the partition `batch`, and `spot`, whose jobs it preempts. When it is dropped, it ends with all its
/// jobs.
pub struct Cluster {
    reservation: Reservation,
}

impl Cluster {
    /// Starts a cluster, and waits until its nodes are idle.
    pub fn start(settings: Settings) -> Cluster {
        let reservation = Reservation::claim(settings.nodes);
        let mut start = reservation.script("start");
        start.envs(settings.variables());
        succeed(&mut start);
        Cluster { reservation }
    }

    /// Returns the folder of the cluster, with `slurm.conf`, and the logs of the daemons in `log/`.
    pub fn root(&self) -> &Path {
        &self.reservation.root
    }

    /// Returns the name of a node, counted from 1, in Slurm; if the tests run as root, it is also the host name.
    pub fn node(&self, node: u16) -> String {
        self.reservation.node(node)
    }

    /// Returns the environment variables that a program needs to find this cluster.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        path.push(":/usr/sbin:/sbin");
        let mut environment = vec![("SLURM_CONF", self.root().join("slurm.conf").into_os_string()), ("PATH", path)];
        environment.extend(open_mpi_variables());
        environment
    }

    /// Creates a command for a program that finds this cluster.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment());
        command
    }

    /// Submits a script, and returns the number of the job.
    pub fn sbatch(&self, arguments: &[&str], script: &str) -> u32 {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        let mut sbatch = self.command("sbatch");
        sbatch.arg("--parsable").args(["--output", "/dev/null"]).args(arguments).arg(file.path());
        stdout(&succeed(&mut sbatch)).trim().parse().unwrap()
    }

    /// Returns a line in the given format of `squeue` for each job, including jobs that have ended, and each task of an array.
    pub fn squeue(&self, format: &str) -> Vec<String> {
        let mut squeue = self.command("squeue");
        squeue.args(["--noheader", "--array", "--states", "all", "--format", format]);
        stdout(&succeed(&mut squeue)).lines().map(|line| line.trim_end().to_string()).collect()
    }

    /// Waits until no job is queued or running.
    pub fn wait_until_idle(&self, limit: Duration) {
        let began = Instant::now();
        loop {
            // A controller that is being restarted does not respond.
            let output = self.command("squeue").arg("--noheader").output().unwrap();
            if output.status.success() && output.stdout.is_empty() {
                return;
            }
            assert!(began.elapsed() < limit, "jobs remain after {limit:?}:\n{}{}", stdout(&output), stderr(&output));
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

    /// Kills the slurmd of a node. Its jobs continue, but Slurm no longer receives their states.
    pub fn kill_node(&self, node: u16) {
        self.reservation.run_on_node("kill-node", node);
    }

    /// Starts the slurmd of a killed node.
    pub fn start_node(&self, node: u16) {
        self.reservation.run_on_node("start-node", node);
    }

    /// Disconnects a node from the network. The cluster must have network namespaces.
    pub fn cut(&self, node: u16) {
        self.reservation.run_on_node("cut", node);
    }

    /// Connects a node to the network again.
    pub fn join(&self, node: u16) {
        self.reservation.run_on_node("join", node);
    }

    /// Stops slurmctld regularly, and starts it again.
    pub fn restart_controller(&self) {
        succeed(&mut self.reservation.script("stop-controller"));
        self.start_controller();
    }

    /// Kills slurmctld. When it is started again, it may have lost the last five seconds: a job that started in that time
    /// counts as pending.
    pub fn kill_controller(&self) {
        succeed(&mut self.reservation.script("kill-controller"));
    }

    /// Starts slurmctld, and waits until it responds. The nodes may take some more seconds.
    pub fn start_controller(&self) {
        succeed(&mut self.reservation.script("start-controller"));
    }

    /// Returns the process numbers of the cluster: those of its daemons, of the supervisors of jobs, and of the jobs.
    pub fn processes(&self) -> Vec<u32> {
        self.reservation.processes()
    }
}

/// Hosts in network namespaces with their own names, which `mpirun --host` reaches without a scheduler. Only for root.
pub struct Hosts {
    reservation: Reservation,
    count: u16,
}

impl Hosts {
    /// Starts this many hosts.
    pub fn start(count: u16) -> Hosts {
        let reservation = Reservation::claim(count);
        succeed(reservation.script("hosts").env("CLUSTER_NODES", count.to_string()));
        Hosts { reservation, count }
    }

    /// Returns the names of the hosts.
    pub fn names(&self) -> Vec<String> {
        (1..=self.count).map(|host| self.reservation.node(host)).collect()
    }

    /// Returns the program that mpirun calls instead of ssh to start a process on a host.
    pub fn agent(&self) -> PathBuf {
        self.reservation.root.join("agent")
    }

    /// Returns the environment variables that a program needs to reach these hosts by mpirun.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut environment = vec![("OMPI_MCA_plm_rsh_agent", self.agent().into_os_string())];
        environment.extend(open_mpi_variables());
        environment
    }

    /// Creates a command for a program on one of the hosts, counted from 1.
    pub fn command_on(&self, host: u16, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let name = self.reservation.node(host);
        command
            .arg(format!("--net=/run/netns/{name}"))
            .args(["unshare", "--uts", "sh", "-c", r#"hostname "$0" && exec "$@""#, &name])
            .arg(program)
            .envs(self.environment());
        command
    }

    /// Disconnects a host from the network.
    pub fn cut(&self, host: u16) {
        self.reservation.run_on_node("cut", host);
    }

    /// Connects a host to the network again.
    pub fn join(&self, host: u16) {
        self.reservation.run_on_node("join", host);
    }

    /// Returns the numbers of all processes on the hosts.
    pub fn processes(&self) -> Vec<u32> {
        self.reservation.processes()
    }
}

/// Returns the environment variables that OpenMPI needs in tests.
fn open_mpi_variables() -> Vec<(&'static str, OsString)> {
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

/// Reserved ports, and a folder with the number of the first. A lock reserves them until the process ends, in whatever way.
/// A folder whose lock is free was left by a test that was killed; the test that gets the lock removes the folder.
struct Reservation {
    root: PathBuf,
    port: u16,
    _lock: File,
}

impl Reservation {
    /// The ports, which are below those that the kernel uses for outgoing connections.
    const PORTS: std::ops::Range<u16> = 21_000..31_000;
    const PORTS_EACH: u16 = 50;

    fn claim(nodes: u16) -> Reservation {
        assert!((1..Self::PORTS_EACH).contains(&nodes), "{nodes} nodes");
        let all = std::env::temp_dir().join(format!("winsign-tests-{}", rustix::process::geteuid().as_raw()));
        fs::create_dir_all(&all).unwrap();
        for port in Self::PORTS.step_by(Self::PORTS_EACH.into()) {
            let lock = File::create(all.join(format!("{port}.lock"))).unwrap();
            if lock.try_lock().is_err() {
                continue;
            }
            let reservation = Reservation { root: all.join(port.to_string()), port, _lock: lock };
            succeed(&mut reservation.script("stop"));
            if (port..=port + nodes).all(|port| TcpListener::bind(("0.0.0.0", port)).is_ok()) {
                return reservation;
            }
        }
        panic!("there are no free ports in {:?}", Self::PORTS);
    }

    fn node(&self, node: u16) -> String {
        format!("node{}-{node}", self.port)
    }

    fn script(&self, command: &str) -> Command {
        let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/slurm/cluster"));
        script.arg(command).arg(&self.root).env("CLUSTER_PORT", self.port.to_string()).stdin(Stdio::null());
        script
    }

    fn run_on_node(&self, command: &str, node: u16) {
        succeed(self.script(command).arg(node.to_string()));
    }

    fn processes(&self) -> Vec<u32> {
        stdout(&succeed(&mut self.script("processes"))).lines().map(|line| line.parse().unwrap()).collect()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let output = self.script("stop").output().unwrap();
        // A second panic would hide the first one.
        if !output.status.success() {
            eprintln!("cannot stop {}: {}", self.root.display(), stderr(&output));
        }
    }
}
