//! The dispatcher: one loop over events and signals, which owns all state of a launch.

use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use winsign_core::attempt::{self, Attempt, End};
use winsign_core::owner;
use winsign_core::{Diagnostic, RunDirectory, RunId, State, Store, exit};
use winsign_sweep::plan::survey::RunStatus;
use winsign_sweep::plan::{RunState, cost};

use super::child::{self, Ended, Exit};
use super::display::Display;
use super::launcher::{Output, Placement};
use super::slots::{SKIP_TIME, Seat, Slots};
use super::{Cause, Entry, Failure, Options, Summary};

/// The interval at which active runs are checked.
const TICK: Duration = Duration::from_millis(250);
/// The number of times in a row that a run is restarted after its worker was killed before an epoch finished. A kill has
/// often nothing to do with the run, so this may be more than the retries of a run that fails.
const MAX_KILLS: u32 = 5;
/// The time after the second request to stop at which launchers that have not ended are killed.
const KILL_DELAY: Duration = Duration::from_secs(2);
/// The time after which a launch is reported whose worker has not claimed its run.
const START_TIME: Duration = Duration::from_secs(60);
/// The number of log lines shown for a failed run.
const LOG_LINES: usize = 10;

/// Executes runs until every one is done, failed or blocked, or until a signal stops the dispatcher. Entries include all
/// inputs, each before its dependents; `statuses` are their recent states on disk.
///
/// The first SIGINT, SIGTERM or SIGUSR1 lets the workers save checkpoints and stop; the second kills them.
pub async fn run(
    entries: &[Entry],
    store: &Store,
    statuses: &[RunStatus],
    options: &Options,
    display: &mut Display,
) -> Result<Summary, Diagnostic> {
    options.check()?;
    let mut dispatcher = Dispatcher::new(entries, store, options, display);
    dispatcher.take_over(statuses)?;
    dispatcher.run_until_finished().await;
    dispatcher.display.finish();
    match dispatcher.fatal.take() {
        Some(error) => Err(error),
        None => Ok(dispatcher.summary()),
    }
}

/// The phase of a run, as this process sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The run waits for its inputs.
    Waiting,
    /// The run waits for free slots.
    Ready,
    /// A worker of this process executes the run.
    Active {
        pid: u32,
    },
    /// Another process executes the run.
    Elsewhere,
    Done,
    Failed,
    Blocked,
}

/// A run and its state.
struct Node {
    directory: RunDirectory,
    inputs: Vec<usize>,
    dependents: Vec<usize>,
    phase: Phase,
    /// The cost of the run in epochs, see [`cost`].
    cost: f64,
    /// The cost of the most expensive chain of runs that starts here; the run with the highest cost starts first.
    urgency: f64,
    /// The number of consecutive failures without a finished epoch.
    failures: u32,
    /// The number of epochs that were finished when the last worker was started.
    epochs_before: u32,
    /// The latest attempt that existed at the start, or whose failure was handled.
    known_attempt: u32,
    failure: Option<Failure>,
}

/// A worker started by this process.
struct Launch {
    /// The token recorded in the claim of its attempt.
    token: String,
    seat: Seat,
}

/// A launch whose worker may not have claimed its run yet.
struct Unclaimed {
    token: String,
    hosts: String,
    since: Instant,
}

struct Dispatcher<'a> {
    entries: &'a [Entry],
    options: &'a Options,
    display: &'a mut Display,
    nodes: Vec<Node>,
    /// The runs that may be ready, the most urgent on top; among equals, the first in the plan. An entry may be stale: the
    /// phase of the run decides.
    ready: BinaryHeap<(u64, std::cmp::Reverse<usize>)>,
    /// The run whose directory was last prepared before a slot was free.
    prepared_ahead: Option<usize>,
    /// The workers; each yields the run, its launch, and how it ended.
    workers: JoinSet<(usize, Launch, std::io::Result<Ended>)>,
    slots: Slots,
    /// A random number that distinguishes the launches of this process from those of others.
    instance: u64,
    /// The number of launches so far.
    launches: u64,
    /// The launches whose workers may not have claimed their runs yet, by run.
    unclaimed: HashMap<usize, Unclaimed>,
    /// The time at which runs of other processes were last checked, and the interval until the next check.
    checked: Instant,
    check_interval: Duration,
    /// The number of requests to stop.
    stops: u32,
    /// The time of the last request to stop.
    last_stop: Instant,
    /// True if a signal requested to stop.
    stopped: bool,
    /// The error that requested to stop.
    fatal: Option<Diagnostic>,
    /// The number of runs that this process computed.
    computed: usize,
    began: Instant,
    /// The cost of the runs that were finished since the start.
    cost_done: f64,
}

impl<'a> Dispatcher<'a> {
    fn new(entries: &'a [Entry], store: &'a Store, options: &'a Options, display: &'a mut Display) -> Dispatcher<'a> {
        let index: HashMap<&RunId, usize> =
            entries.iter().enumerate().map(|(index, entry)| (&entry.run.id, index)).collect();
        let index_of = |input: &RunId| *index.get(input).expect("entries include all inputs");
        let mut nodes: Vec<Node> = (entries.iter())
            .map(|entry| Node {
                directory: store.run(&entry.run.id),
                inputs: entry.run.inputs.iter().map(index_of).collect(),
                dependents: vec![],
                phase: Phase::Waiting,
                cost: cost(&entry.run),
                urgency: 0.0,
                failures: 0,
                epochs_before: 0,
                known_attempt: 0,
                failure: None,
            })
            .collect();
        // Runs come after their inputs, so in reverse every dependent comes before its inputs.
        for at in (0..nodes.len()).rev() {
            nodes[at].urgency += nodes[at].cost;
            for input in nodes[at].inputs.clone() {
                nodes[input].dependents.push(at);
                nodes[input].urgency = nodes[input].urgency.max(nodes[at].urgency);
            }
        }
        Dispatcher {
            entries,
            options,
            display,
            nodes,
            ready: BinaryHeap::new(),
            prepared_ahead: None,
            workers: JoinSet::new(),
            slots: options.slots.clone(),
            // The operating system seeds this randomly.
            instance: RandomState::new().build_hasher().finish(),
            launches: 0,
            unclaimed: HashMap::new(),
            checked: Instant::now(),
            check_interval: TICK,
            stops: 0,
            last_stop: Instant::now(),
            stopped: false,
            fatal: None,
            computed: 0,
            began: Instant::now(),
            cost_done: 0.0,
        }
    }

    /// Takes over the states on disk. Damaged files are set aside; a failure is final unless the entry allows a retry.
    fn take_over(&mut self, statuses: &[RunStatus]) -> Result<(), Diagnostic> {
        for (at, status) in statuses.iter().enumerate() {
            if let Some(damaged) = &status.damaged {
                self.set_aside(at, damaged, status.note.as_deref().unwrap_or_default())?;
            }
            self.nodes[at].phase = match status.state {
                RunState::Done => {
                    self.prepare(at)?;
                    Phase::Done
                }
                RunState::Running => Phase::Elsewhere,
                RunState::Failed => {
                    let attempt = self.last_attempt(at)?;
                    self.nodes[at].known_attempt = attempt;
                    if attempt > self.entries[at].forgiven {
                        self.fail(at, attempt, status.note.clone().unwrap_or_default());
                        continue;
                    }
                    Phase::Waiting
                }
                RunState::Queued | RunState::Blocked | RunState::Pending => Phase::Waiting,
            };
        }
        (0..self.nodes.len()).for_each(|at| self.make_ready(at));
        Ok(())
    }

    async fn run_until_finished(&mut self) {
        let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be caught");
        let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be caught");
        let mut warning = signal(SignalKind::user_defined1()).expect("SIGUSR1 can be caught");
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.stops == 0
                && let Err(error) = self.fill_slots()
            {
                self.give_up(error);
            }
            self.prepare_ahead();
            let waits_elsewhere = self.nodes.iter().any(|node| node.phase == Phase::Elsewhere);
            if self.workers.is_empty() && (self.stops > 0 || !(waits_elsewhere || self.waits_for_hosts())) {
                return;
            }
            let handled = tokio::select! {
                Some(ended) = self.workers.join_next() => {
                    let (at, launch, ended) = ended.expect("waiting for a worker does not panic");
                    self.handle_launch_exit(at, launch, ended)
                }
                _ = tick.tick() => self.check_active_runs(),
                _ = interrupt.recv() => self.handle_signal(),
                _ = terminate.recv() => self.handle_signal(),
                _ = warning.recv() => self.handle_signal(),
            };
            if let Err(error) = handled {
                self.give_up(error);
            }
        }
    }

    fn handle_signal(&mut self) -> Result<(), Diagnostic> {
        self.stopped = true;
        self.stop();
        Ok(())
    }

    /// Stops the active workers after a fatal error, which is then returned.
    fn give_up(&mut self, error: Diagnostic) {
        self.fatal.get_or_insert(error);
        if self.stops == 0 {
            self.stop();
        }
    }

    /// Starts the most urgent ready runs until the slots are full.
    fn fill_slots(&mut self) -> Result<(), Diagnostic> {
        while let Some(&(_, std::cmp::Reverse(at))) = self.ready.peek() {
            if self.nodes[at].phase != Phase::Ready {
                self.ready.pop();
                continue;
            }
            let Some(seat) = self.slots.take(self.options.ranks, Instant::now()) else {
                return Ok(());
            };
            self.ready.pop();
            self.nodes[at].phase = Phase::Waiting;
            if self.inputs_are_done(at) && self.is_ours_to_run(at)? {
                self.start(at, seat)?;
            } else {
                self.slots.release(&seat);
            }
        }
        Ok(())
    }

    /// Prepares the directory of the next run while all slots are taken, since flushing it to disk can take longer than
    /// everything else between two runs.
    fn prepare_ahead(&mut self) {
        let next = self.ready.peek().map(|&(_, std::cmp::Reverse(at))| at);
        let next = next.filter(|_| self.stops == 0 && !self.workers.is_empty());
        if let Some(at) = next.filter(|_| next != self.prepared_ahead) {
            self.prepared_ahead = next;
            // Errors are reported when the directory is needed.
            if let Err(error) = self.prepare(at) {
                tracing::info!("cannot prepare {} ahead: {error}", self.entries[at].label);
            }
        }
    }

    /// Returns true if the run can be started here; otherwise records that it runs, is done or failed in another process.
    fn is_ours_to_run(&mut self, at: usize) -> Result<bool, Diagnostic> {
        match self.state(at)? {
            State::Done(_) => self.mark_done(at),
            State::Running { .. } => self.wait_for_other_process(at),
            State::Failed { attempt, message } if attempt > self.nodes[at].known_attempt => {
                self.handle_failure_elsewhere(at, attempt, message);
            }
            State::Failed { .. } | State::Idle { .. } => return Ok(true),
        }
        Ok(false)
    }

    fn start(&mut self, at: usize, seat: Seat) -> Result<(), Diagnostic> {
        let Entry { run, label, .. } = &self.entries[at];
        let directory = &self.nodes[at].directory;
        self.prepare(at)?;
        let epochs = match directory.attempts()?.last() {
            Some(&attempt) => directory.progress_of(attempt).map_or(0, |progress| progress.done),
            None => 0,
        };
        self.launches += 1;
        let token = format!("{:016x}.{}", self.instance, self.launches);
        let started = child::start(self.options.launcher.command(self.options, &seat, &directory.path, &token));
        let worker = started.map_err(|error| self.start_error(&error))?;
        tracing::info!("started {label} ({}) as process {}", run.id, worker.pid);
        self.nodes[at].epochs_before = self.nodes[at].epochs_before.max(epochs);
        self.nodes[at].phase = Phase::Active { pid: worker.pid };
        self.display.show_active(at, label, None, None);
        if self.options.launcher.placement() == Placement::Hosts {
            let unclaimed = Unclaimed { token: token.clone(), hosts: seat.hosts(), since: Instant::now() };
            self.unclaimed.insert(at, unclaimed);
        }
        let launch = Launch { token, seat };
        self.workers.spawn(async move { (at, launch, child::wait(worker).await) });
        Ok(())
    }

    /// Creates the run's directory with its run.json.
    fn prepare(&self, at: usize) -> Result<(), Diagnostic> {
        let Entry { run, label, .. } = &self.entries[at];
        if let Some(aside) = self.nodes[at].directory.prepare(run, label)? {
            self.display.print(&format!("run.json of {label} was damaged and set aside as {}", aside.display()));
        }
        Ok(())
    }

    /// Handles the end of a launch: a run that was not started is tried again, otherwise the exit of its worker decides.
    fn handle_launch_exit(
        &mut self,
        at: usize,
        launch: Launch,
        ended: std::io::Result<Ended>,
    ) -> Result<(), Diagnostic> {
        self.slots.release(&launch.seat);
        self.display.remove_active(at);
        self.unclaimed.remove(&at);
        self.nodes[at].phase = Phase::Waiting;
        let Ended { exit, memory_ran_out, stderr } = ended.map_err(|error| self.worker_error(&error.to_string()))?;
        tracing::info!("{} ended: {exit:?}", self.entries[at].label);
        let Output { mut ranks, mut reason, memory_ran_out: by_launcher } = self.options.launcher.read(stderr);
        if reason.is_empty() {
            reason = format!("it {} and printed nothing", exit.describe());
        }
        let exit = match self.options.launcher.placement() {
            Placement::Here => exit,
            Placement::Hosts if self.is_fault_of_hosts(at, &launch, exit, &ranks)? => {
                self.handle_unstarted_launch(at, &launch.seat, reason);
                return Ok(());
            }
            Placement::Launcher if self.has_no_trace(at, &launch, exit, &ranks)? => {
                return self.handle_unstarted_step(at, reason);
            }
            Placement::Hosts | Placement::Launcher => {
                if ranks.is_empty() {
                    ranks.push(reason);
                }
                exit.decode_signal()
            }
        };
        self.slots.record_start(&launch.seat);
        self.handle_worker_exit(at, &launch.token, exit, memory_ran_out || by_launcher, &ranks)
    }

    fn handle_worker_exit(
        &mut self,
        at: usize,
        token: &str,
        exit: Exit,
        memory_ran_out: bool,
        lines: &[String],
    ) -> Result<(), Diagnostic> {
        let stopping = self.stops > 0;
        let retries = self.options.retries;
        if let State::Done(result) = self.state(at)? {
            // Another process may have completed the run. A worker may be killed just after it has.
            self.computed += usize::from(self.attempt_by(at, token)? == Some(result.attempt));
            self.mark_done(at);
            return Ok(());
        }
        match exit {
            Exit::Code(exit::SUCCESS) if stopping => self.end_attempt_of(at, token, &End::Interrupted)?,
            Exit::Code(exit::SUCCESS) => {
                let lost_host = self.options.launcher.placement() == Placement::Hosts;
                let allowed = if lost_host { retries.max(MAX_KILLS) } else { retries };
                self.handle_failure(at, token, describe_failure(exit::SUCCESS, lines), allowed)?;
            }
            Exit::Code(exit::INTERRUPTED) if !stopping => {
                self.handle_failure(
                    at,
                    token,
                    "the worker was stopped by another process".to_string(),
                    retries.max(MAX_KILLS),
                )?;
            }
            Exit::Code(exit::HELD) => self.wait_for_other_process(at),
            Exit::Code(exit::DAMAGED_INPUT) => {
                self.display.print(&lines.join("\n"));
                self.recompute_inputs(at, last_message(lines))?;
            }
            Exit::Code(exit::IO) => {
                let message = last_message(lines);
                let help = "free space or repair the store, then run the same command again";
                let (message, help) = message.split_once("; help: ").unwrap_or((&message, help));
                self.give_up(Diagnostic::with_code(exit::IO, message, Some(help)));
            }
            // Launchers end in many ways when they are stopped.
            _ if stopping && !self.has_recorded_failure(at, token)? => {
                self.end_attempt_of(at, token, &End::Interrupted)?;
            }
            Exit::Code(exit::OUT_OF_GPU_MEMORY) if self.attempt_by(at, token)?.is_some() => {
                let message = last_message(lines);
                self.display.print(&format!("{} failed, restarting it: {message}", self.entries[at].label));
                // The next attempt reads this, and does not end in the same way. So this restart is not counted.
                self.end_attempt_of(at, token, &End::OutOfGpuMemory { message })?;
                self.make_ready(at);
            }
            Exit::Killed(signal) => {
                let allowed =
                    if memory_ran_out && !self.options.retry_out_of_memory { 0 } else { retries.max(MAX_KILLS) };
                self.handle_failure(at, token, describe_kill(signal, memory_ran_out), allowed)?;
                if let Some(failure) = &mut self.nodes[at].failure {
                    failure.cause = if memory_ran_out { Cause::OutOfMemory } else { Cause::Killed };
                }
            }
            // The exit codes of a missing program or library.
            Exit::Code(126 | 127) if self.options.launcher.program().is_none() => {
                return Err(self.worker_error(&lines.join("\n")));
            }
            // The launcher did not connect the ranks, as for every other run.
            Exit::Code(exit::USAGE) if self.options.ranks > 1 && self.attempt_by(at, token)?.is_none() => {
                return Err(self.launcher_error(&last_message(lines)));
            }
            Exit::Code(code) => {
                let allowed = match code {
                    exit::RANK_LOST => retries.max(MAX_KILLS),
                    // The request is invalid, and would fail again.
                    exit::USAGE => 0,
                    _ => retries,
                };
                self.handle_failure(at, token, describe_failure(code, lines), allowed)?;
            }
        }
        Ok(())
    }

    /// Returns true if a launch failed because of its hosts: no rank claimed the run or printed a message, or a rank cannot
    /// access the store.
    fn is_fault_of_hosts(&self, at: usize, launch: &Launch, exit: Exit, lines: &[String]) -> Result<bool, Diagnostic> {
        match exit {
            Exit::Code(exit::IO) => Ok(true),
            _ => self.has_no_trace(at, launch, exit, lines),
        }
    }

    /// Returns true if a launch failed before a rank claimed the run or printed a message.
    fn has_no_trace(&self, at: usize, launch: &Launch, exit: Exit, lines: &[String]) -> Result<bool, Diagnostic> {
        match exit {
            // The run was already done.
            Exit::Code(exit::SUCCESS) if matches!(self.state(at)?, State::Done(_)) => Ok(false),
            Exit::Code(_) => {
                let printed = lines.iter().any(|line| line.starts_with(WORKER_PREFIX));
                Ok(!printed && self.attempt_by(at, &launch.token)?.is_none())
            }
            // Whoever killed the launcher did not mean the hosts.
            Exit::Killed(_) => Ok(false),
        }
    }

    /// Handles a step that Slurm did not start, which is not a failure of the run: the controller or a node may be down.
    fn handle_unstarted_step(&mut self, at: usize, reason: String) -> Result<(), Diagnostic> {
        tracing::warn!("{} did not start: {reason}", self.entries[at].label);
        self.nodes[at].failures += 1;
        match self.nodes[at].failures > MAX_KILLS {
            _ if self.stops > 0 => {}
            true => return Err(self.launcher_error(&reason)),
            false => self.make_ready(at),
        }
        Ok(())
    }

    /// Handles a launch that its hosts did not start: the run is tried again, on another host if one fails repeatedly.
    fn handle_unstarted_launch(&mut self, at: usize, seat: &Seat, reason: String) {
        tracing::info!("{} did not start: {reason}", self.entries[at].label);
        if self.stops > 0 {
            return;
        }
        for host in self.slots.record_failure(seat, &reason, Instant::now()) {
            self.display.print(&format!(
                "{host}: repeated launch failures, skipping it for {} minutes: {reason}",
                SKIP_TIME.as_secs() / 60
            ));
        }
        self.make_ready(at);
        if self.workers.is_empty() && self.slots.cannot_place(self.options.ranks, Instant::now()) {
            let program = self.options.launcher.program().unwrap_or(&self.options.worker).display();
            let help = format!(
                "check that {program} can start `hostname` on each host, and that the hosts can access the store and the worker"
            );
            let message = format!("cannot start a run on any host: {reason}");
            self.give_up(Diagnostic::with_code(exit::FAILURE, message, Some(&help)));
        }
    }

    /// Returns true if there are ready runs: if no worker is active, they wait for hosts that are skipped.
    fn waits_for_hosts(&self) -> bool {
        self.nodes.iter().any(|node| node.phase == Phase::Ready)
    }

    fn start_error(&self, error: &std::io::Error) -> Diagnostic {
        match self.options.launcher.program() {
            None => self.worker_error(&error.to_string()),
            Some(program) => {
                let message = format!("cannot start {}: {error}", program.display());
                Diagnostic::with_code(exit::FAILURE, message, Some("install it, and add it to the PATH"))
            }
        }
    }

    /// Checks the runs that this process and others execute, and shows their progress.
    fn check_active_runs(&mut self) -> Result<(), Diagnostic> {
        if self.display.shows_runs() {
            self.show_own_runs()?;
        }
        if self.checked.elapsed() >= self.check_interval {
            self.check_runs_of_others()?;
        }
        self.report_unclaimed()?;
        if self.stops > 1 && self.last_stop.elapsed() > KILL_DELAY {
            self.signal_active(Signal::KILL);
        }
        let done = self.nodes.iter().filter(|node| node.phase == Phase::Done).count();
        self.display.show_overall(done, self.time_left());
        Ok(())
    }

    fn show_own_runs(&mut self) -> Result<(), Diagnostic> {
        for (at, node) in self.nodes.iter().enumerate() {
            if let Phase::Active { .. } = node.phase {
                let last = node.directory.attempts()?.last().copied();
                let progress = last.and_then(|attempt| node.directory.progress_of(attempt));
                self.display.show_active(at, &self.entries[at].label, None, progress.as_ref());
            }
        }
        Ok(())
    }

    /// Waits for a run that another process executes.
    fn wait_for_other_process(&mut self, at: usize) {
        self.nodes[at].phase = Phase::Elsewhere;
        self.check_interval = TICK;
    }

    /// Checks the runs that other processes execute.
    fn check_runs_of_others(&mut self) -> Result<(), Diagnostic> {
        let mut changed = false;
        for at in 0..self.nodes.len() {
            if self.nodes[at].phase == Phase::Elsewhere {
                self.check_run_of_other(at)?;
                changed |= self.nodes[at].phase != Phase::Elsewhere;
            }
        }
        self.checked = Instant::now();
        // Hundreds of jobs that wait for a run must not keep the shared file system busy. More rarely than heartbeats, a check could
        // not tell whether a process is lost.
        self.check_interval = if changed { TICK } else { (2 * self.check_interval).min(owner::heartbeat()) };
        Ok(())
    }

    fn check_run_of_other(&mut self, at: usize) -> Result<(), Diagnostic> {
        match self.state(at)? {
            State::Running { claim, status, .. } => {
                let (label, place) = (self.entries[at].label.clone(), claim.owner.to_string());
                let progress = status.as_ref().map(|status| &status.progress);
                self.display.show_active(at, &label, Some(&place), progress);
                return Ok(());
            }
            State::Failed { attempt, message } if attempt > self.nodes[at].known_attempt => {
                self.nodes[at].phase = Phase::Waiting;
                self.handle_failure_elsewhere(at, attempt, message);
            }
            State::Done(_) => self.mark_done(at),
            State::Failed { .. } | State::Idle { .. } => {
                self.nodes[at].phase = Phase::Waiting;
                self.make_ready(at);
            }
        }
        self.display.remove_active(at);
        Ok(())
    }

    /// Reports, once, each launch whose worker has not claimed its run in time.
    fn report_unclaimed(&mut self) -> Result<(), Diagnostic> {
        let late = self.unclaimed.extract_if(|_, launch| launch.since.elapsed() > START_TIME);
        for (at, Unclaimed { token, hosts, .. }) in late.collect::<Vec<_>>() {
            if self.attempt_by(at, &token)?.is_none() {
                self.display.print(&format!(
                    "{}: its worker has not begun {} s after the start on {hosts}; check that {hosts} responds",
                    self.entries[at].label,
                    START_TIME.as_secs()
                ));
            }
        }
        Ok(())
    }

    /// Estimates the remaining time from the pace so far; returns `None` until a run is finished.
    fn time_left(&self) -> Option<Duration> {
        let unfinished = |node: &&Node| !matches!(node.phase, Phase::Done | Phase::Failed | Phase::Blocked);
        let left: f64 = self.nodes.iter().filter(unfinished).map(|node| node.cost).sum();
        let pace = self.cost_done / self.began.elapsed().as_secs_f64();
        (pace > 0.0).then(|| Duration::from_secs_f64((left / pace).min(1e9)))
    }

    /// Stops the workers: the first call lets them save checkpoints, the second kills them.
    fn stop(&mut self) {
        if self.stops == 0 && !self.workers.is_empty() {
            self.display.print("stopping: saving checkpoints of active runs; press Ctrl-C again to kill the workers");
        }
        let signal = self.options.launcher.stop_signal(self.stops);
        self.stops += 1;
        self.last_stop = Instant::now();
        self.signal_active(signal);
    }

    fn signal_active(&self, signal: Signal) {
        for node in &self.nodes {
            if let Phase::Active { pid } = node.phase {
                child::signal(pid, signal);
            }
        }
    }

    fn mark_done(&mut self, at: usize) {
        self.nodes[at].phase = Phase::Done;
        self.cost_done += self.nodes[at].cost;
        for dependent in self.nodes[at].dependents.clone() {
            self.make_ready(dependent);
        }
    }

    /// Queues a run if all its inputs are done; blocks it if one has failed.
    fn make_ready(&mut self, at: usize) {
        if self.nodes[at].phase != Phase::Waiting {
            return;
        }
        let lost = |&input: &usize| matches!(self.nodes[input].phase, Phase::Failed | Phase::Blocked);
        if self.nodes[at].inputs.iter().any(lost) {
            self.nodes[at].phase = Phase::Blocked;
            self.block_dependents(at);
        } else if self.inputs_are_done(at) {
            self.nodes[at].phase = Phase::Ready;
            // The bits of positive numbers have the same order as the numbers.
            self.ready.push((self.nodes[at].urgency.to_bits(), std::cmp::Reverse(at)));
        }
    }

    fn inputs_are_done(&self, at: usize) -> bool {
        self.nodes[at].inputs.iter().all(|&input| self.nodes[input].phase == Phase::Done)
    }

    /// Handles a damaged input whose files the worker has set aside: inputs that are no longer done are computed again.
    fn recompute_inputs(&mut self, at: usize, message: String) -> Result<(), Diagnostic> {
        for input in self.nodes[at].inputs.clone() {
            if self.nodes[input].phase == Phase::Done && !matches!(self.state(input)?, State::Done(_)) {
                self.nodes[input].phase = Phase::Waiting;
                self.make_ready(input);
            }
        }
        // A disk that damages all files must not cause an infinite loop.
        self.nodes[at].failures += 1;
        match self.nodes[at].failures > MAX_KILLS {
            true => self.fail(at, 0, message),
            false => self.make_ready(at),
        }
        Ok(())
    }

    /// Handles a failed worker: restarts the run, or marks it as failed after more than `allowed` consecutive failures.
    fn handle_failure(&mut self, at: usize, token: &str, message: String, allowed: u32) -> Result<(), Diagnostic> {
        let attempt = self.attempt_by(at, token)?;
        let directory = &self.nodes[at].directory;
        let (message, done) = match attempt {
            // The worker ended before it claimed the run.
            None => (message, 0),
            Some(attempt) => {
                let end_message = match directory.end_of(attempt)? {
                    Some(End::Failed { message }) => message,
                    _ => message,
                };
                (end_message, directory.progress_of(attempt).map_or(0, |progress| progress.done))
            }
        };
        let node = &mut self.nodes[at];
        if done > node.epochs_before {
            node.failures = 0;
        }
        node.failures += 1;
        node.known_attempt = node.known_attempt.max(attempt.unwrap_or(0));
        if node.failures <= allowed {
            let next = if self.stops > 0 { "the next command tries it again" } else { "restarting it" };
            self.display.print(&format!("{} failed, {next}: {message}", self.entries[at].label));
            self.end_attempt_of(at, token, &End::Interrupted)?;
            // Other processes treat a failure on disk as final.
            self.nodes[at].directory.forgive()?;
            self.make_ready(at);
            return Ok(());
        }
        let end = End::Failed { message: message.clone() };
        let attempt = match attempt {
            Some(attempt) => {
                attempt::end_attempt(&self.nodes[at].directory, attempt, &end)?;
                attempt
            }
            None => self.record_failure(at, token, &end)?,
        };
        self.fail(at, attempt, message);
        Ok(())
    }

    /// Records the failure of a worker that did not claim its run as an attempt of this process, so that other processes
    /// see the failure, in particular jobs that wait for the run.
    fn record_failure(&self, at: usize, token: &str, end: &End) -> Result<u32, Diagnostic> {
        match Attempt::claim_as(&self.nodes[at].directory, 0, Some(token)) {
            Ok(attempt) => {
                let number = attempt.number;
                attempt.end(end)?;
                Ok(number)
            }
            // Another process has claimed the run.
            Err(winsign_core::Error::Held { .. }) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Handles a run that failed in another process. That process may restart it; otherwise it is retried here as often as
    /// `retries` allows.
    fn handle_failure_elsewhere(&mut self, at: usize, attempt: u32, message: String) {
        let node = &mut self.nodes[at];
        node.known_attempt = attempt;
        node.failures += 1;
        // Several jobs may wait for one run; none of them must repeat the retries of the others.
        match attempt > self.entries[at].forgiven || node.failures > self.options.retries {
            true => self.fail(at, attempt, message),
            false => self.make_ready(at),
        }
    }

    /// Marks a run as failed, and blocks its dependents.
    fn fail(&mut self, at: usize, attempt: u32, message: String) {
        let Entry { run, label, .. } = &self.entries[at];
        let log_end = self.nodes[at].directory.log_of(attempt, LOG_LINES);
        let log: String = log_end.iter().map(|line| format!("\n    {line}")).collect();
        self.display.print(&format!("{label} ({}) failed: {message}{log}", run.id));
        self.nodes[at].phase = Phase::Failed;
        self.nodes[at].failure =
            Some(Failure { id: run.id.clone(), label: label.clone(), message, log_end, cause: Cause::Other });
        self.block_dependents(at);
    }

    fn block_dependents(&mut self, at: usize) {
        let mut blocked = self.nodes[at].dependents.clone();
        while let Some(dependent) = blocked.pop() {
            if matches!(self.nodes[dependent].phase, Phase::Waiting | Phase::Ready) {
                self.nodes[dependent].phase = Phase::Blocked;
                blocked.extend(&self.nodes[dependent].dependents);
            }
        }
    }

    /// Returns the state of a run on disk, after setting damaged files aside.
    fn state(&self, at: usize) -> Result<State, Diagnostic> {
        loop {
            match self.nodes[at].directory.state_for_takeover() {
                Err(winsign_core::Error::Damaged { path, reason }) => self.set_aside(at, &path, &reason)?,
                other => return Ok(other?),
            }
        }
    }

    fn set_aside(&self, at: usize, damaged: &Path, reason: &str) -> Result<(), Diagnostic> {
        let label = &self.entries[at].label;
        self.display
            .print(&format!("{label}: {reason}; set the file aside, computing the run again ({})", damaged.display()));
        Ok(self.nodes[at].directory.set_aside(damaged)?)
    }

    /// Returns true if the worker of a launch has recorded that it failed.
    fn has_recorded_failure(&self, at: usize, token: &str) -> Result<bool, Diagnostic> {
        let end = self.attempt_by(at, token)?.map(|attempt| self.nodes[at].directory.end_of(attempt)).transpose()?;
        Ok(matches!(end.flatten(), Some(End::Failed { .. })))
    }

    fn last_attempt(&self, at: usize) -> Result<u32, Diagnostic> {
        Ok(self.nodes[at].directory.attempts()?.last().copied().unwrap_or(0))
    }

    /// Returns the attempt that the worker of a launch made, if any. The latest attempt may belong to another process that
    /// has claimed the run meanwhile.
    fn attempt_by(&self, at: usize, token: &str) -> Result<Option<u32>, Diagnostic> {
        let directory = &self.nodes[at].directory;
        for attempt in directory.attempts()?.into_iter().rev() {
            let claim = directory.claim_of(attempt)?;
            if claim.is_some_and(|claim| claim.launch.as_deref() == Some(token)) {
                return Ok(Some(attempt));
            }
        }
        Ok(None)
    }

    /// Records how an attempt of a worker ended, unless the worker recorded it. Without a record, an attempt killed on
    /// another machine would count as running until its heartbeat times out.
    fn end_attempt_of(&self, at: usize, token: &str, end: &End) -> Result<(), Diagnostic> {
        match self.attempt_by(at, token)? {
            Some(attempt) => Ok(attempt::end_attempt(&self.nodes[at].directory, attempt, end)?),
            None => Ok(()),
        }
    }

    fn launcher_error(&self, reason: &str) -> Diagnostic {
        let Some(program) = self.options.launcher.program() else { return self.worker_error(reason) };
        let message = format!("cannot start ranks with {}: {reason}", program.display());
        let help = format!("check that it starts `{} --version`", self.options.worker.display());
        Diagnostic::with_code(exit::FAILURE, message, Some(&help))
    }

    fn worker_error(&self, reason: &str) -> Diagnostic {
        let message = format!("cannot start {}: {reason}", self.options.worker.display());
        let help = "check that `winsign-worker --version` works; `launch/setup` fetches libtorch, `cargo build --release` \
                    builds the worker";
        Diagnostic::with_code(exit::FAILURE, message, Some(help))
    }

    fn summary(self) -> Summary {
        let count = |wanted: Phase| self.nodes.iter().filter(|node| node.phase == wanted).count();
        let failed: Vec<Failure> = self.nodes.iter().filter_map(|node| node.failure.clone()).collect();
        let (done, blocked) = (count(Phase::Done), count(Phase::Blocked));
        Summary {
            total: self.nodes.len(),
            done,
            computed: self.computed,
            pending: self.nodes.len() - done - blocked - failed.len(),
            failed,
            blocked,
            seconds: self.began.elapsed().as_secs_f64(),
            stopped: self.stopped,
        }
    }
}

/// The prefix of a worker's messages.
const WORKER_PREFIX: &str = "winsign-worker: ";

/// Returns the last message of a worker without its prefix, or the last line if there is none.
fn last_message(stderr: &[String]) -> String {
    let message = stderr.iter().rev().find_map(|line| line.strip_prefix(WORKER_PREFIX));
    message.or(stderr.last().map(String::as_str)).unwrap_or_default().to_string()
}

/// Returns why a worker that exited with this code wrote no result.
fn describe_failure(code: u8, lines: &[String]) -> String {
    match last_message(lines) {
        message if message.is_empty() => format!("the worker exited with code {code} and wrote no result"),
        message => message,
    }
}

fn describe_kill(signal: i32, memory_ran_out: bool) -> String {
    if memory_ran_out {
        return "killed: out of memory; lower --jobs, or use a machine with more memory".to_string();
    }
    let cause = if signal == Signal::KILL.as_raw() { " (by a user, or out of memory)" } else { "" };
    format!("killed by signal {signal}{cause}")
}
