//! A simulated Slurm: its commands, as far as winsign uses them for studies that run undisturbed, and nodes that run tasks as
//! processes of this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use winsign_core::owner::MACHINE;
use winsign_core::random::Source;
use winsign_exec::batch::tasks::Tasks;

use crate::signal;

/// The commands that are simulated.
pub(super) const COMMANDS: [&str; 4] = ["sbatch", "squeue", "scontrol", "scancel"];
/// The variable with the socket of the controller.
const SOCKET: &str = "SIMULATED_SLURM";
/// The limits of `scontrol show config`, with the defaults of Slurm for arrays.
const CONFIGURATION: &str = "ClusterName = simulated\nMaxArraySize = 1001\nMaxJobCount = 1000000\n";
/// The time after the signal at which a preempted task is killed.
const GRACE: Duration = Duration::from_secs(120);

/// The number of nodes and what happens to tasks.
pub(super) struct Settings {
    pub nodes: u32,
    /// The percentage of tasks that are preempted once.
    pub preemptions: u64,
    /// The time within which they are preempted.
    pub preempted_within: Duration,
    /// Variables of the environment of tasks.
    pub variables: Vec<(&'static str, String)>,
}

pub(super) struct Slurm {
    root: PathBuf,
    controller: Arc<Controller>,
    nodes: Vec<thread::JoinHandle<()>>,
}

struct Controller {
    root: PathBuf,
    settings: Settings,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    arrays: BTreeMap<u32, Array>,
    /// The number of calls of each command.
    requests: BTreeMap<String, u64>,
    started: u64,
    preempted: u64,
    ends: bool,
}

/// An array of which some tasks have not ended.
struct Array {
    name: String,
    /// The arrays that must end first.
    after: Vec<u32>,
    at_once: usize,
    pending: BTreeSet<u32>,
    running: BTreeSet<u32>,
    /// Running tasks that are queued again when they end.
    requeued: BTreeSet<u32>,
    preempted: BTreeSet<u32>,
}

/// A task of an array on a node.
#[derive(Clone, Copy)]
struct Task {
    array: u32,
    index: u32,
    /// The time after which it is preempted.
    preempted: Option<Duration>,
}

impl Slurm {
    /// Starts the controller and the nodes, which are threads of this process. The commands are links to this program.
    pub(super) fn start(root: &Path, settings: Settings) -> Slurm {
        fs::create_dir_all(root.join("bin")).unwrap();
        for command in COMMANDS {
            symlink(std::env::current_exe().unwrap(), root.join("bin").join(command)).unwrap();
        }
        let nodes = settings.nodes;
        let (state, changed) = (Mutex::default(), Condvar::new());
        let controller = Arc::new(Controller { root: root.to_path_buf(), settings, state, changed });
        let listener = UnixListener::bind(root.join("socket")).unwrap();
        let answering = Arc::clone(&controller);
        thread::spawn(move || listener.incoming().for_each(|stream| answering.answer(stream.unwrap())));
        let start = |number: u32| {
            let controller = Arc::clone(&controller);
            thread::Builder::new().stack_size(1 << 18).spawn(move || controller.run_tasks(number)).unwrap()
        };
        let nodes = (1..=nodes).map(start).collect();
        Slurm { root: root.to_path_buf(), controller, nodes }
    }

    /// Returns the variables of the environment of processes that use it.
    pub(super) fn variables(&self) -> [(&'static str, String); 2] {
        self.controller.variables()
    }

    /// Waits until all tasks have ended.
    pub(super) fn wait_until_idle(&self) {
        let mut state = self.controller.lock();
        while !state.arrays.is_empty() {
            state = self.controller.changed.wait(state).unwrap();
        }
    }

    /// Returns the number of calls of each command.
    pub(super) fn requests(&self) -> BTreeMap<String, u64> {
        self.controller.lock().requests.clone()
    }

    /// Returns the number of tasks that were started, and of those that were preempted.
    pub(super) fn started_and_preempted(&self) -> (u64, u64) {
        let state = self.controller.lock();
        (state.started, state.preempted)
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        self.controller.lock().ends = true;
        self.controller.changed.notify_all();
        for node in self.nodes.drain(..) {
            let _ = node.join();
        }
        let _ = fs::remove_file(self.root.join("socket"));
    }
}

impl Controller {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn variables(&self) -> [(&'static str, String); 2] {
        let others = std::env::var("PATH").unwrap_or_default();
        [
            (SOCKET, self.root.join("socket").to_str().unwrap().to_string()),
            ("PATH", format!("{}:{others}", self.root.join("bin").display())),
        ]
    }

    /// Answers one call of a command.
    fn answer(&self, mut stream: UnixStream) {
        let mut request = String::new();
        stream.read_to_string(&mut request).unwrap();
        let request: Value = serde_json::from_str(&request).unwrap();
        let words: Vec<&str> = request["words"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        let mut state = self.lock();
        *state.requests.entry(words[0].to_string()).or_default() += 1;
        let answer = match words[0] {
            "sbatch" => state.submit(&self.root, &words[1..], request["input"].as_str().unwrap()),
            "squeue" => state.list(&words[1..]),
            "scontrol" => state.control(&words[1..]),
            _ => Err(format!("{words:?} is not simulated")),
        };
        drop(state);
        if words[0] == "sbatch" {
            self.changed.notify_all();
        }
        // The process that called the command may have been killed.
        let _ = stream.write_all(json!(answer).to_string().as_bytes());
    }

    /// Runs tasks on a node, one after the other.
    fn run_tasks(&self, node: u32) {
        while let Some(task) = self.next_task() {
            let mut child = self.start(node, task);
            let preempted = task.preempted.is_some_and(|time| preempt(&mut child, time));
            child.wait().unwrap();
            // This node takes the place of its task; the others wake up if more tasks can start.
            if self.lock().end(task, preempted) {
                self.changed.notify_all();
            }
        }
    }

    /// Waits for a task that can start, and marks it as running; returns `None` when the simulation ends.
    fn next_task(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if state.ends {
                return None;
            }
            if let Some(task) = state.start_next(&self.settings) {
                return Some(task);
            }
            state = self.changed.wait(state).unwrap();
        }
    }

    fn start(&self, node: u32, Task { array, index, .. }: Task) -> Child {
        let node = format!("node{node}");
        let mut bash = Command::new("bash");
        bash.arg(script(&self.root, array)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        bash.envs([
            ("SLURM_JOB_ID", format!("{array}{index}")),
            ("SLURM_ARRAY_JOB_ID", array.to_string()),
            ("SLURM_ARRAY_TASK_ID", index.to_string()),
            ("SLURM_CLUSTER_NAME", "simulated".to_string()),
            ("SLURMD_NODENAME", node.clone()),
            // All nodes have the kernel of this machine.
            (MACHINE, node),
        ]);
        bash.envs(self.variables()).envs(self.settings.variables.iter().cloned()).env_remove("CUDA_VISIBLE_DEVICES");
        bash.spawn().unwrap()
    }
}

/// Signals a task after a time, as Slurm does before it takes the node; returns false if the task has ended before.
fn preempt(child: &mut Child, after: Duration) -> bool {
    if ends_within(child, after) {
        return false;
    }
    signal(child.id(), Signal::USR1);
    if !ends_within(child, GRACE) {
        signal(child.id(), Signal::KILL);
    }
    true
}

fn ends_within(child: &mut Child, time: Duration) -> bool {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > time {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

impl State {
    /// Marks the first task as running that can start.
    fn start_next(&mut self, settings: &Settings) -> Option<Task> {
        let can_start = |array: &Array| {
            array.running.len() < array.at_once
                && !array.pending.is_empty()
                && !array.after.iter().any(|before| self.arrays.contains_key(before))
        };
        let number = *self.arrays.iter().find(|(_, array)| can_start(array))?.0;
        let array = self.arrays.get_mut(&number)?;
        let index = array.pending.pop_first()?;
        array.running.insert(index);
        self.started += 1;
        let mut random = Source::new(number.into(), "preemption", 0).stream(index.into());
        let is_chosen = random.below(100) < settings.preemptions && array.preempted.insert(index);
        let preempted = is_chosen.then(|| settings.preempted_within.mul_f64(random.uniform()));
        Some(Task { array: number, index, preempted })
    }

    /// Ends a task, or queues it again. Returns true if its whole array has ended.
    fn end(&mut self, Task { array: number, index, .. }: Task, preempted: bool) -> bool {
        self.preempted += u64::from(preempted);
        let array = self.arrays.get_mut(&number).expect("it has a running task");
        array.running.remove(&index);
        if array.requeued.remove(&index) {
            array.pending.insert(index);
        }
        let has_ended = array.running.is_empty() && array.pending.is_empty();
        if has_ended {
            self.arrays.remove(&number);
        }
        has_ended
    }

    fn submit(&mut self, root: &Path, words: &[&str], text: &str) -> Result<String, String> {
        let option = |name: &str| words.iter().rev().find_map(|word| word.strip_prefix(name));
        let spec = option("--array=").ok_or("it is not an array")?;
        let pending: BTreeSet<u32> = Tasks::parse(spec).ok_or("invalid array")?.iter().collect();
        let at_once = spec.split_once('%').map_or(Ok(usize::MAX), |(_, most)| most.parse());
        let after = option("--dependency=afterany:").into_iter().flat_map(|jobs| jobs.split(':'));
        let after = after.map(str::parse).collect::<Result<_, _>>().map_err(|_| "tasks are not dependencies here")?;
        let number = self.requests["sbatch"] as u32;
        fs::write(script(root, number), text).map_err(|error| error.to_string())?;
        let array = Array {
            name: option("--job-name=").unwrap_or_default().to_string(),
            after,
            at_once: at_once.map_err(|_| "invalid limit")?,
            pending,
            running: BTreeSet::new(),
            requeued: BTreeSet::new(),
            preempted: BTreeSet::new(),
        };
        self.arrays.insert(number, array);
        Ok(format!("{number}\n"))
    }

    /// Answers squeue: the jobs with all their fields, or the states of the arrays that are asked for.
    fn list(&self, words: &[&str]) -> Result<String, String> {
        if let Some(at) = words.iter().position(|word| *word == "--jobs") {
            let is_alive = |number: &str| number.parse().is_ok_and(|number| self.arrays.contains_key(&number));
            let alive = words[at + 1].split(',').filter(|number| is_alive(number));
            let states: String = alive.map(|_| "RUNNING\n").collect();
            return if states.is_empty() { Err("Invalid job id specified".to_string()) } else { Ok(states) };
        }
        if !words.contains(&"%F|%K|%T|%j|%r|%k") {
            return Err(format!("squeue {words:?} is not simulated"));
        }
        let mut lines = String::new();
        for (number, Array { name, pending, running, .. }) in &self.arrays {
            for task in running {
                lines += &format!("{number}|{task}|RUNNING|{name}|None|(null)\n");
            }
            if !pending.is_empty() {
                let each: Vec<Tasks> = pending.iter().map(|&task| Tasks::from(task..=task)).collect();
                lines += &format!("{number}|{}|PENDING|{name}|Resources|(null)\n", Tasks::union(&each));
            }
        }
        Ok(lines)
    }

    fn control(&mut self, words: &[&str]) -> Result<String, String> {
        match words {
            ["show", "config"] => Ok(CONFIGURATION.to_string()),
            ["requeue", "Incomplete", job] => {
                let (array, index) = job.split_once('_').ok_or("a task is expected")?;
                let (array, index) =
                    (array.parse().map_err(|_| "invalid job")?, index.parse().map_err(|_| "invalid task")?);
                let array: &mut Array = self.arrays.get_mut(&array).ok_or("Invalid job id specified")?;
                if !array.running.contains(&index) {
                    return Err("Job is no longer running".to_string());
                }
                array.requeued.insert(index);
                Ok(String::new())
            }
            _ => Err(format!("scontrol {words:?} is not simulated")),
        }
    }
}

fn script(root: &Path, array: u32) -> PathBuf {
    root.join(format!("{array}.sh"))
}

/// Runs a command, which the controller answers, and returns its exit code.
pub(super) fn call(command: &str, arguments: &[String]) -> u8 {
    let mut input = String::new();
    if command == "sbatch" {
        std::io::stdin().read_to_string(&mut input).unwrap();
    }
    let words: Vec<&str> = std::iter::once(command).chain(arguments.iter().map(String::as_str)).collect();
    let mut stream = UnixStream::connect(std::env::var_os(SOCKET).unwrap()).unwrap();
    stream.write_all(json!({ "words": words, "input": input }).to_string().as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let answer: Result<String, String> = serde_json::from_str(&answer).unwrap();
    match answer {
        Ok(text) => {
            print!("{text}");
            0
        }
        Err(text) => {
            eprintln!("{command}: error: {text}");
            1
        }
    }
}
