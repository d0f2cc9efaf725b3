//! `winsign run`: runs what is not done yet, on this machine or on hosts that mpirun reaches.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use winsign_core::error::Error as StoreError;
use winsign_core::settings::MAX_JOBS;
use winsign_core::{Diagnostic, Store};
use winsign_exec::display::Display;
use winsign_exec::gpus::{self, Share};
use winsign_exec::hosts::{self, Named};
use winsign_exec::launcher::Launcher;
use winsign_exec::local::Local;
use winsign_exec::mpirun::{self, Mpirun};
use winsign_exec::slots::Slots;
use winsign_exec::{Entry, Options, Summary};
use winsign_sweep::Resources;
use winsign_sweep::plan::build::build;
use winsign_sweep::plan::survey::{RunStatus, survey};

use super::{Common, Execution, output, resources};

pub(crate) const HELP: &str = "\
Examples:
  winsign run sweeps/quickstart.yaml
  winsign run sweeps/quickstart.yaml --jobs 8 --threads 2
  winsign run sweeps/quickstart.yaml --ranks 4               four processes per run
  winsign run sweeps/quickstart.yaml --gpus 0.25             four runs share a GPU
  winsign run sweeps/quickstart.yaml --hosts node1:8,node2:8 on two hosts, by mpirun
  winsign run sweeps/quickstart.yaml --hostfile hosts.txt    with lines such as `node1 slots=8`
  winsign plan sweeps/quickstart.yaml                        show the runs

All hosts need the store, the data and these programs under the same paths, and mpirun must be
able to reach them (by ssh). In a Slurm allocation of several nodes, its nodes are used by default.

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
    /// Read the hosts from an OpenMPI hostfile, with lines such as `node1 slots=8`
    #[arg(long, value_name = "FILE")]
    hostfile: Option<PathBuf>,
    #[command(flatten)]
    execution: Execution,
}

pub(crate) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
    let plan = build(&winsign_sweep::read(&arguments.sweep)?);
    let worker = find_worker(arguments.execution.worker.as_deref())?;
    let options = options(arguments, plan.resources, worker)?;
    options.check()?;
    let store = Store::create(&common.store)?;
    let statuses = survey(&plan, &store)?;
    let mut display = Display::new(&plan.name, plan.runs.len(), common.quiet || common.json);
    let summary = execute(&winsign_exec::entries(&plan), &store, &statuses, &options, &mut display)?;
    if common.json {
        output::json(&json!({ "name": plan.name, "runs": summary }))?;
    } else {
        output::text(&describe(&plan.name, &summary, &arguments.sweep, common))?;
    }
    Ok(summary.exit_code())
}

/// Executes those of the runs that are not done.
pub(crate) fn execute(
    entries: &[Entry],
    store: &Store,
    statuses: &[RunStatus],
    options: &Options,
    display: &mut Display,
) -> Result<Summary, Diagnostic> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(StoreError::io("watch over", store.root()))?;
    runtime.block_on(winsign_exec::run(entries, store, statuses, options, display))
}

/// Combines the command line with the sweep file; the command line takes precedence. By default each thread has a core of
/// its own. A run has one thread by default, since the number of threads changes the last bits of its results and must not
/// depend on `--jobs`.
fn options(arguments: &Arguments, resources: Resources, worker: PathBuf) -> Result<Options, Diagnostic> {
    let threads = arguments.execution.threads.or(resources.threads).unwrap_or(1);
    let wanted = Wanted {
        jobs: arguments.jobs.or(resources.jobs),
        ranks: arguments.ranks.or(resources.ranks).unwrap_or(1),
        gpus: arguments.gpus.or(resources.gpus).map(Share::of).transpose()?,
        gpus_must_be: arguments.gpus.is_some(),
        threads,
    };
    let hosts = hosts_of(arguments, threads)?;
    let by_mpirun = hosts.is_some() || wanted.ranks > 1;
    if by_mpirun && !is_on_path(mpirun::PROGRAM) {
        return Err(Diagnostic::new(
            format!("cannot find {} on the PATH; it starts ranks and runs on other hosts", mpirun::PROGRAM),
            "install OpenMPI, or run on this machine with one rank per run: without --hosts and --ranks",
        ));
    }
    let slots = match hosts {
        Some(hosts) => wanted.places_on(hosts),
        None => wanted.places_here(&gpus::here())?,
    };
    let launcher: Arc<dyn Launcher> = if by_mpirun { Arc::new(Mpirun) } else { Arc::new(Local) };
    Ok(Options {
        launcher,
        slots,
        ranks: wanted.ranks,
        threads,
        data: arguments.execution.data.clone(),
        retries: resources.retries,
        worker,
    })
}

/// Returns the hosts to run on: those of the command line or of a Slurm allocation, or `None` for this machine.
fn hosts_of(arguments: &Arguments, threads: u32) -> Result<Option<Vec<Named>>, Diagnostic> {
    if let Some(hosts) = &arguments.hosts {
        return Ok(Some(hosts::parse(hosts)?));
    }
    if let Some(file) = &arguments.hostfile {
        return Ok(Some(hosts::read(file)?));
    }
    let allocated = hosts::of_allocation(threads)?;
    if let Some(hosts) = &allocated {
        let named: Vec<String> = hosts.iter().map(|host| format!("{}:{}", host.name, host.slots)).collect();
        output::message(&format!("using the nodes of this Slurm allocation: --hosts {}", named.join(",")));
    }
    Ok(allocated)
}

/// The requested resources.
struct Wanted {
    jobs: Option<u32>,
    ranks: u32,
    gpus: Option<Share>,
    /// Whether GPUs are required. Those of a sweep file are not, so that it can be tried on a machine without GPUs.
    gpus_must_be: bool,
    threads: u32,
}

impl Wanted {
    fn places_on(&self, hosts: Vec<Named>) -> Slots {
        let slots = Slots::on(hosts, self.gpus.unwrap_or(Share::Even));
        match self.jobs {
            Some(jobs) => slots.at_most(jobs),
            None => slots,
        }
    }

    /// Returns the slots of this machine; by default as many runs at the same time as its GPUs or cores allow.
    fn places_here(&self, gpus: &[String]) -> Result<Slots, Diagnostic> {
        let mut share = self.gpus.unwrap_or(Share::Even);
        if gpus.is_empty() && !matches!(share, Share::Even | Share::Whole(0)) {
            let message = "this machine has no GPU visible to NVIDIA's driver and CUDA_VISIBLE_DEVICES";
            if self.gpus_must_be {
                return Err(Diagnostic::new(message, "remove --gpus to compute on the CPU"));
            }
            output::message(&format!("{message}: runs compute on the CPU, although the sweep requests GPUs"));
            share = Share::Even;
        }
        let held = if gpus.is_empty() { None } else { share.held_by(gpus.len()) };
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let ranks = held.unwrap_or(cores / self.threads as usize) / self.ranks as usize;
        let jobs = self.jobs.unwrap_or((ranks as u32).clamp(1, MAX_JOBS));
        Ok(Slots::with_gpus(jobs.saturating_mul(self.ranks), gpus, share))
    }
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| is_program(&folder.join(program)))
}

pub(crate) fn find_worker(named: Option<&Path>) -> Result<PathBuf, Diagnostic> {
    const NAME: &str = "winsign-worker";
    if let Some(path) = named {
        // Absolute, since a bare name would be looked up on the PATH.
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
    let again = common.arguments_for(sweep_path);
    format!("{name}: {} after {seconds:.1} s\n{next} {again}\n", parts.join(", "))
}
