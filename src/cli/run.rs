//! `winsign run`: executes the remaining runs, on this machine or on hosts that mpirun reaches.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use winsign_core::error::Error as StoreError;
use winsign_core::grouping::distinct;
use winsign_core::settings::{Dataset, MAX_JOBS};
use winsign_core::text::shell_word;
use winsign_core::{Diagnostic, Store};
use winsign_exec::batch::scheduler;
use winsign_exec::display::Display;
use winsign_exec::gpus::{self, Share};
use winsign_exec::hosts::{self, Named};
use winsign_exec::launcher::{self, Launcher, Placement};
use winsign_exec::local::Local;
use winsign_exec::mpirun::Mpirun;
use winsign_exec::slots::Slots;
use winsign_exec::{Entry, Options, Summary, srun};
use winsign_sweep::Resources;
use winsign_sweep::plan::build::build;
use winsign_sweep::plan::survey::{RunStatus, survey};
use winsign_sweep::plan::{Plan, RunState};

use super::{Common, Execution, output, resources};

pub(crate) const HELP: &str = "\
Examples:
  winsign run sweeps/quickstart.yaml
  winsign run sweeps/quickstart.yaml --jobs 8 --threads 2
  winsign run sweeps/quickstart.yaml --ranks 4               four processes per run
  winsign run sweeps/quickstart.yaml --gpus 0.25             four runs share a GPU
  winsign run sweeps/quickstart.yaml --hosts node1:8,node2:8 on two hosts, by mpirun
  winsign run sweeps/quickstart.yaml --hosts 'node[01-16]:8' ranges as in the lists of Slurm
  winsign run sweeps/quickstart.yaml --hostfile hosts.txt    with lines such as `node1 slots=8`
  winsign run study.yaml --ranks 8 --launcher 'jsrun -n {ranks} -c {threads} -g {gpus}'
  winsign plan sweeps/quickstart.yaml                        show the runs

All hosts need the store, the data and these programs under the same paths, and mpirun must be
able to reach them (by ssh). In an allocation of several nodes, its nodes are used by default.

Ctrl-C (or SIGTERM, or SIGUSR1) saves checkpoints of the active runs and stops; a second Ctrl-C
kills them. In both cases the same command continues later. Several of these commands can work on
one store at the same time and share the runs. Runs that failed before are retried.";

#[derive(Args)]
pub(crate) struct Arguments {
    /// The sweep file
    sweep: PathBuf,
    /// Runs executed at the same time [default: from the sweep file, or as many as the GPUs or cores allow]
    #[arg(long, value_parser = resources::jobs)]
    jobs: Option<u32>,
    /// MPI processes per run [default: from the sweep file, or 1]
    #[arg(long, value_parser = resources::ranks)]
    ranks: Option<u32>,
    /// GPUs per rank; with a fraction, ranks of several runs share a GPU; 0 uses the CPU [default: from the sweep file, or all GPUs of the
    /// machine, divided among the ranks]
    #[arg(long, value_name = "NUMBER", value_parser = resources::gpus)]
    gpus: Option<f64>,
    /// Run on these hosts, by mpirun; SLOTS is the number of ranks that a host runs at the same time
    #[arg(long, value_name = "NAME:SLOTS,…", conflicts_with = "hostfile")]
    hosts: Option<String>,
    /// Read the hosts from a hostfile, with lines such as `node1 slots=8` (OpenMPI) or `node1:8` (MPICH)
    #[arg(long, value_name = "FILE")]
    hostfile: Option<PathBuf>,
    #[arg(long, value_name = "COMMAND", help = launcher_help())]
    launcher: Option<String>,
    #[command(flatten)]
    execution: Execution,
}

fn launcher_help() -> String {
    format!(
        "What starts the ranks of a run: {}, or a command with {{ranks}} and, if needed, {{threads}}, {{gpus}} (per rank) and \
         {{hosts}} (NAME:RANKS,…) [default: mpirun with several ranks or hosts, else direct]",
        launcher::describe().replace('`', "")
    )
}

pub(crate) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
    let plan = build(&winsign_sweep::read(&arguments.sweep)?);
    let worker = find_worker(arguments.execution.worker.as_deref())?;
    let options = options(arguments, plan.resources, worker)?;
    options.check()?;
    let store = Store::open(&common.store)?;
    let statuses = survey(&plan, &store)?;
    if options.launcher.placement() != Placement::Launcher && options.slots.are_local() {
        probe_remaining_data(&plan, &statuses, &options.data)?;
    }
    let store = Store::create(&common.store)?;
    let mut display = Display::new(&plan.name, plan.runs.len(), common.quiet || common.json);
    let summary = execute(&winsign_exec::entries(&plan), &store, &statuses, &options, &mut display)?;
    if common.json {
        output::json(&json!({ "name": plan.name, "runs": summary }))?;
    } else {
        output::text(&describe(&plan.name, &summary, &arguments.sweep, common))?;
    }
    Ok(summary.exit_code())
}

/// Fails if a data set of the remaining runs is missing or malformed, because then all these runs would fail.
pub(crate) fn probe_remaining_data(plan: &Plan, statuses: &[RunStatus], folder: &Path) -> Result<(), Diagnostic> {
    let remaining = plan.runs.iter().zip(statuses).filter(|(_, status)| status.state != RunState::Done);
    let datasets = distinct(remaining.map(|(planned, _)| planned.run.settings.problem().dataset));
    datasets.into_iter().try_for_each(|dataset| probe_data(dataset, folder))
}

#[cfg(feature = "data")]
pub(crate) fn probe_data(dataset: Dataset, folder: &Path) -> Result<(), Diagnostic> {
    Ok(winsign_data::probe(dataset, folder)?)
}

/// Does nothing: the worker reports the error.
#[cfg(not(feature = "data"))]
pub(crate) fn probe_data(_: Dataset, _: &Path) -> Result<(), Diagnostic> {
    Ok(())
}

/// Executes the runs that are not done.
pub(crate) fn execute(
    entries: &[Entry],
    store: &Store,
    statuses: &[RunStatus],
    options: &Options,
    display: &mut Display,
) -> Result<Summary, Diagnostic> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(StoreError::io("execute runs in", store.root()))?;
    runtime.block_on(winsign_exec::run(entries, store, statuses, options, display))
}

/// Combines the command line with the sweep file; the command line takes precedence. By default each thread has a core of
/// its own. A run has one thread by default, since the number of threads changes the last bits of its results and must not
/// depend on `--jobs`.
fn options(arguments: &Arguments, resources: Resources, worker: PathBuf) -> Result<Options, Diagnostic> {
    let threads = arguments.execution.threads.unwrap_or(resources.threads);
    let gpus = arguments.gpus.or(resources.gpus);
    let requested = Requested {
        jobs: arguments.jobs.or(resources.jobs),
        ranks: arguments.ranks.unwrap_or(resources.ranks),
        gpus: gpus.map(Share::from_gpus).transpose()?,
        gpus_are_required: arguments.gpus.is_some(),
        threads,
    };
    let (launcher, hosts) = choose_launcher(arguments, &requested, gpus)?;
    if let Some(program) = launcher.program().filter(|program| !is_on_path(program)) {
        return Err(Diagnostic::new(
            format!("cannot find {} on the PATH; it starts ranks and runs on other hosts", program.display()),
            "install it (mpirun is part of OpenMPI), or run on this machine with one rank per run: without --hosts and --ranks",
        ));
    }
    let slots = match hosts {
        Some(hosts) => requested.slots_on(hosts),
        // The launcher knows what its allocation can hold.
        None if launcher.placement() == Placement::Launcher => {
            Slots::local(requested.jobs.unwrap_or(1).saturating_mul(requested.ranks))
        }
        None => requested.slots_here(&gpus::here())?,
    };
    Ok(Options {
        launcher,
        slots,
        ranks: requested.ranks,
        threads,
        data: arguments.execution.data.clone(),
        retries: resources.retries,
        retry_out_of_memory: true,
        worker,
    })
}

/// A launcher, and the hosts of its ranks if it does not choose them itself and they are not on this machine.
type LauncherAndHosts = (Arc<dyn Launcher>, Option<Vec<Named>>);

/// Returns the launcher, and the hosts of the command line or of an allocation.
fn choose_launcher(
    arguments: &Arguments,
    requested: &Requested,
    gpus: Option<f64>,
) -> Result<LauncherAndHosts, Diagnostic> {
    let (ranks, mpi) = (requested.ranks, srun::DEFAULT_MPI);
    let named = |text: &str| launcher::named(text, &launcher::Wanted { ranks, ranks_per_node: ranks, gpus, mpi });
    let Some(text) = &arguments.launcher else {
        let hosts = find_hosts(arguments, requested.threads)?;
        let launcher: Arc<dyn Launcher> = match hosts.is_some() || ranks > 1 {
            true => Arc::new(Mpirun),
            false => Arc::new(Local),
        };
        return Ok((launcher, hosts));
    };
    let launcher = named(text)?;
    if launcher.placement() == Placement::Hosts {
        return Ok((launcher, find_hosts(arguments, requested.threads)?));
    }
    if arguments.hosts.is_some() || arguments.hostfile.is_some() {
        let example = "--launcher 'mpiexec -n {ranks} -hosts {hosts}'";
        return Err(Diagnostic::new(
            format!("cannot use hosts with --launcher {}: it does not take hosts", shell_word(text)),
            format!("remove the hosts, or pass them on, as in {example}"),
        ));
    }
    Ok((launcher, None))
}

/// Returns the hosts to run on: those of the command line or of an allocation, or `None` for this machine.
fn find_hosts(arguments: &Arguments, threads: u32) -> Result<Option<Vec<Named>>, Diagnostic> {
    if let Some(hosts) = &arguments.hosts {
        return Ok(Some(hosts::parse(hosts)?));
    }
    if let Some(file) = &arguments.hostfile {
        return Ok(Some(hosts::read(file)?));
    }
    let allocated = scheduler::allocated_nodes(threads)?;
    if let Some(hosts) = &allocated {
        let named: Vec<String> = hosts.iter().map(|host| format!("{}:{}", host.name, host.slots)).collect();
        output::message(&format!("using the nodes of this allocation: --hosts {}", named.join(",")));
    }
    Ok(allocated)
}

/// The requested resources.
struct Requested {
    jobs: Option<u32>,
    ranks: u32,
    gpus: Option<Share>,
    /// True if GPUs are required. GPUs in a sweep file are not, so that it can be tried on a machine without GPUs.
    gpus_are_required: bool,
    threads: u32,
}

impl Requested {
    fn slots_on(&self, hosts: Vec<Named>) -> Slots {
        let slots = Slots::on(hosts, self.gpus.unwrap_or(Share::Even));
        match self.jobs {
            Some(jobs) => slots.at_most(jobs),
            None => slots,
        }
    }

    /// Returns the slots of this machine; by default for as many runs at the same time as its GPUs or cores allow.
    fn slots_here(&self, gpus: &[String]) -> Result<Slots, Diagnostic> {
        let mut share = self.gpus.unwrap_or(Share::Even);
        if gpus.is_empty() && !matches!(share, Share::Even | Share::Whole(0)) {
            let message = "this machine has no GPU visible to NVIDIA's driver and CUDA_VISIBLE_DEVICES";
            if self.gpus_are_required {
                return Err(Diagnostic::new(message, "remove --gpus to compute on the CPU"));
            }
            output::message(&format!("{message}: runs compute on the CPU, although the sweep requests GPUs"));
            share = Share::Even;
        }
        let limit = if gpus.is_empty() { None } else { share.ranks_on(gpus.len()) };
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let ranks = limit.unwrap_or(cores / self.threads as usize) / self.ranks as usize;
        let jobs = self.jobs.unwrap_or((ranks as u32).clamp(1, MAX_JOBS));
        Ok(Slots::with_gpus(jobs.saturating_mul(self.ranks), gpus, share))
    }
}

fn is_on_path(program: &Path) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has_directory = program.components().count() > 1;
    if has_directory {
        is_program(program)
    } else {
        std::env::split_paths(&path).any(|folder| is_program(&folder.join(program)))
    }
}

pub(crate) fn find_worker(named: Option<&Path>) -> Result<PathBuf, Diagnostic> {
    const NAME: &str = "winsign-worker";
    if let Some(path) = named {
        // The path is made absolute, since a bare name would be looked up on the PATH.
        let found = path.canonicalize().ok().filter(|path| is_program(path));
        return found.ok_or_else(|| no_worker(&path.display().to_string()));
    }
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name(NAME));
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&on_path).map(|folder| folder.join(NAME));
    beside.into_iter().chain(on_path).find(|path| is_program(path)).ok_or_else(|| no_worker(NAME))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn no_worker(name: &str) -> Diagnostic {
    Diagnostic::new(
        format!("cannot find the program {name}"),
        "build it with `cargo build --release`, or give its path with --worker PATH",
    )
}

fn describe(name: &str, summary: &Summary, sweep_path: &Path, common: &Common) -> String {
    let Summary { total, done, computed, failed, blocked, pending, seconds, stopped: _ } = summary;
    let mut parts = vec![format!("{done} of {total} runs done ({computed} now)")];
    let mut count = |count: usize, what: &str| {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    };
    count(failed.len(), "failed");
    count(*blocked, "blocked");
    count(*pending, "remaining");
    let next = match (*pending > 0, failed.is_empty()) {
        (true, _) => "continue: winsign run",
        (false, false) => "see the failures: winsign status",
        (false, true) => "next: winsign report",
    };
    let arguments = common.arguments_for(sweep_path);
    format!("{name}: {} after {seconds:.1} s\n{next} {arguments}\n", parts.join(", "))
}
