//! The program `winsign-worker`, which executes exactly one run directory, and exits.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{CommandFactory, Parser};
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use tch::Device;
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::prelude::*;
use winsign_core::attempt::{Attempt, End, LOG};
use winsign_core::directory::RunFile;
use winsign_core::results::{GPU_SHARE, GpuUtilization, Processors, Usage};
use winsign_core::settings::{MAX_THREADS, Settings, Training};
use winsign_core::{Diagnostic, RunDirectory, disk, exit};
use winsign_data::DEFAULT_ROOT;

use super::comm::{self, Comm, Place, Ranks, print_message, pulse};
use super::device::{GpuId, nvml};
use super::session::{self, ExecOptions, Session};
use super::{Error, Finished, Result, connect, device, failure, import, memory, numerics, ticket, transfer};

/// Executes one run directory that `winsign run` prepared, and exits.
#[derive(Parser)]
#[command(name = "winsign-worker", version, after_help = format!("{NOTES}\n\n{}", exit::help(|code| code.worker)))]
struct Arguments {
    /// The run directory: STORE/runs/xx/ID
    run: PathBuf,
    /// Number of compute threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_THREADS)))]
    threads: u32,
    /// The folder with the data sets
    #[arg(long, value_name = "DIR", default_value = DEFAULT_ROOT, env = "WINSIGN_DATA")]
    data: PathBuf,
    /// Device to compute on. `auto` uses GPUs, one for each rank, if the machine has any
    #[arg(long, value_enum, default_value_t = device::Request::Auto)]
    device: device::Request,
    /// Make GPUs give the same bits every time, which is slower
    #[arg(long)]
    deterministic: bool,
    /// Interval of checkpoints within an epoch, in seconds; one is also saved after every epoch
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = parse_seconds)]
    checkpoint_every: f64,
    /// Compute with one rank, even if a launcher started several processes
    #[arg(long)]
    alone: bool,
    /// Fail unless the launcher connects this number of ranks
    #[arg(long, value_name = "N", conflicts_with = "alone")]
    ranks: Option<usize>,
    /// Save a checkpoint and stop when standard input is closed: ties this process to the one that holds the other end
    #[arg(long)]
    stop_with_stdin: bool,
    /// Token that is stored with the claim, by which the launcher of this process finds its attempt
    #[arg(long, value_name = "TOKEN", hide = true)]
    launch: Option<String>,
}

impl Arguments {
    /// Returns the arguments that must be the same on all ranks. The path of the run may differ between machines, but
    /// not its name.
    fn shared_arguments(&self) -> String {
        let Arguments { run, threads, device, deterministic, .. } = self;
        let run = run.file_name().unwrap_or_default().display();
        format!(
            "{run} --threads {threads} --device {}{}",
            device.name(),
            if *deterministic { " --deterministic" } else { "" }
        )
    }
}

const NOTES: &str = "\
Examples:
  winsign-worker results/runs/3f/3f09c2aa41d07e55
  winsign-worker --threads 4 results/runs/3f/3f09c2aa41d07e55
  mpirun --bind-to none -np 4 winsign-worker results/runs/3f/3f09c2aa41d07e55
  srun --mpi=pmix -n 4 winsign-worker results/runs/3f/3f09c2aa41d07e55
  winsign-worker --device cpu results/runs/3f/3f09c2aa41d07e55

Several ranks divide every batch among them; the batch size of the run is the total. The numbers equal those of one rank
except for rounding, and for BatchNorm, which each rank normalizes by its own images.

SIGTERM, SIGINT and SIGUSR1 make it save a checkpoint and exit with 75; start it again to resume. mpirun forwards
SIGUSR1; at SIGTERM it kills all ranks after a second.";

/// Returns the command line of `winsign-worker`, from which its help and its documentation are made.
pub fn command_line() -> clap::Command {
    Arguments::command()
}

/// Runs the program, and returns its exit code.
pub fn main() -> ExitCode {
    let mut arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            if error.use_stderr() && !comm::seems_root() {
                // Rank 0 reports the error for all ranks, and then the launcher ends them, unless only this rank has wrong
                // arguments.
                std::thread::sleep(Duration::from_secs(2));
            }
            error.exit()
        }
    };
    arguments.device = numerics::resolve_device(arguments.device, numerics::choose(&arguments.run));
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGUSR1] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).expect("these signals can be caught");
    }
    memory::keep_freed();
    device::load(arguments.device);
    tch::set_num_threads(arguments.threads as i32);
    tch::set_num_interop_threads(1);
    match comm::join(arguments.alone, arguments.ranks, &arguments.shared_arguments()) {
        Ok(ranks) => {
            // Launchers connect their standard input to rank 0 only.
            if arguments.stop_with_stdin && ranks.comm.place().is_root() {
                stop_with_stdin(Arc::clone(&stop));
            }
            ExitCode::from(execute(&arguments, ranks, stop))
        }
        Err(error) => {
            if comm::seems_root() {
                print_message(&error.to_string());
            }
            ExitCode::from(error.exit_code)
        }
    }
}

/// Claims the run, computes it together with the other ranks, and commits its result; returns the exit code.
fn execute(arguments: &Arguments, mut ranks: Ranks, stop: Arc<AtomicBool>) -> u8 {
    let Claimed { file, activations_on_host, attempt } = match claim(arguments, &ranks) {
        Ok(Some(claimed)) => claimed,
        Ok(None) => return finish(ranks, None, Ok(())),
        Err(error) => return finish(ranks, None, Err(error)),
    };
    let (device, gpus) = match prepare_device(arguments, &mut ranks, &file.settings) {
        Ok(assigned) => assigned,
        Err(error) => return finish(ranks, attempt, Err(error)),
    };
    if activations_on_host {
        tracing::info!(
            "an earlier attempt had too little memory of a GPU: keeping activations in the memory of the host"
        );
        device::keep_activations_on_host(true);
    }
    let options = ExecOptions {
        device,
        activations_on_host,
        data: arguments.data.clone(),
        threads: arguments.threads,
        checkpoint_every: Duration::from_secs_f64(arguments.checkpoint_every),
        stop,
    };
    let processors = Processors { ranks: ranks.comm.place().ranks as u32, threads: arguments.threads };
    let monitor = attempt.as_ref().and_then(|attempt| nvml::Monitor::start(gpus, attempt.gpu_recorder()));
    let mut session = Session::new(ranks, attempt, file.inputs, options);
    let finished = compute(&mut session, &file.settings);
    let finished = session.together(finished);
    let (ranks, attempt) = session.into_parts();
    drop(monitor);
    let measured = attempt.as_ref().and_then(Attempt::gpu_utilization);
    let usage = usage(&*ranks.comm, device, measured, activations_on_host);
    if let Some(peak) = usage.gpu_peak_memory {
        tracing::info!("peak memory of the GPU: {:.2} GB", peak as f64 / 1e9);
    }
    if let Some(utilization) = usage.gpu_utilization {
        tracing::info!("GPU utilization: {utilization}");
    }
    let committed = finished.and_then(|finished| match &attempt {
        Some(attempt) => pulse::slowly(|| commit(attempt, finished, processors, usage)),
        None => Ok(()),
    });
    finish(ranks, attempt, committed)
}

/// A claimed run.
struct Claimed {
    file: RunFile,
    activations_on_host: bool,
    /// The attempt on rank 0; `None` on other ranks.
    attempt: Option<Attempt>,
}

impl Claimed {
    /// Returns what rank 0 sends to the others.
    fn to_bytes(claimed: &Option<Claimed>) -> Vec<u8> {
        let shared = claimed.as_ref().map(|claimed| (&claimed.file, claimed.activations_on_host));
        serde_json::to_vec(&shared).expect("a run file serializes")
    }

    fn from_bytes(bytes: &[u8]) -> Option<Claimed> {
        let shared: Option<(RunFile, bool)> = serde_json::from_slice(bytes).expect("rank 0 sends valid JSON");
        shared.map(|(file, activations_on_host)| Claimed { file, activations_on_host, attempt: None })
    }
}

/// Claims the run for all ranks; returns `None` if it already has a result. Only rank 0 accesses the run directory.
fn claim(arguments: &Arguments, ranks: &Ranks) -> Result<Option<Claimed>> {
    let place = ranks.comm.place();
    let opened = place.is_root().then(|| pulse::slowly(|| open(arguments, place)));
    let claimed = session::share(&*ranks.comm, opened, Claimed::to_bytes, Claimed::from_bytes)?;
    if let (Some(watch), Some(Claimed { attempt: Some(attempt), .. })) = (&ranks.watch, &claimed) {
        let (run, number) = (attempt.run.clone(), attempt.number);
        watch.set_on_end(move |code, reason| {
            tracing::error!("{reason}");
            let _ = winsign_core::attempt::end_attempt(&run, number, &unfinished_end(code, reason));
        });
    }
    Ok(claimed)
}

/// Computes the run. A panic ends all ranks.
fn compute(session: &mut Session, settings: &Settings) -> Result<Finished> {
    let execute = || match settings {
        Settings::Ticket(settings) => ticket::execute(session, settings),
        Settings::Import(settings) => import::execute(session, settings),
        Settings::Transfer(settings) => transfer::execute(session, settings),
        Settings::Connect(settings) => connect::execute(session, settings),
        Settings::Matrix(settings) => connect::execute_matrix(session, settings),
        Settings::Plane(settings) => connect::execute_plane(session, settings),
    };
    // libtorch reports errors (such as a lack of memory) by exceptions, which tch turns into panics; the hook logs
    // them.
    log_panics();
    let panic = match catch_unwind(AssertUnwindSafe(execute)) {
        Ok(finished) => return finished,
        Err(panic) => panic,
    };
    let ExecOptions { device, activations_on_host, .. } = *session.options();
    let error = failure::describe(&*panic, device, activations_on_host);
    let (code, message) = (error.exit_code, error.to_string());
    if let Some(watch) = &session.ranks().watch {
        // The other ranks may be waiting for this one.
        watch.fail(code, &message);
    }
    print_message(&message);
    if let Some(attempt) = session.attempt() {
        let _ = winsign_core::attempt::end_attempt(&attempt.run, attempt.number, &unfinished_end(code, &message));
    }
    std::process::exit(code.into());
}

/// Commits the result of the run.
fn commit(attempt: &Attempt, finished: Finished, processors: Processors, usage: Usage) -> Result<()> {
    let Finished { outcome, network } = finished;
    let network = network.map(|(layout, weights)| weights.to_file(&layout));
    match attempt.commit(outcome, network.as_ref(), processors, Some(usage))? {
        true => tracing::info!("committed after {:.1} s", attempt.seconds()),
        false => tracing::warn!("another attempt has already committed this run; its result stands"),
    }
    Ok(())
}

/// Opens the run directory and claims the run; returns `None` if it already has a result.
fn open(arguments: &Arguments, place: Place) -> Result<Option<Claimed>> {
    let directory = RunDirectory::open(&arguments.run).map_err(|error| match error {
        // A launcher has created the directory: if it is missing, then so is the store. A user may have mistyped the
        // path.
        winsign_core::Error::Io { path, source, .. }
            if source.kind() == ErrorKind::NotFound && arguments.launch.is_none() =>
        {
            winsign_core::Error::NotARun { path }
        }
        other => other,
    })?;
    let file = directory.settings()?.ok_or_else(|| winsign_core::Error::NotARun { path: directory.path.clone() })?;
    match directory.result() {
        Ok(Some(_)) => return Ok(None),
        Ok(None) => {}
        Err(winsign_core::Error::Damaged { path, reason }) => {
            print_message(&format!("{} is damaged: {reason}; setting it aside and computing it again", path.display()));
            directory.set_aside(&path)?;
        }
        Err(error) => return Err(error.into()),
    }
    let training = training(&file.settings);
    if let Some(&Training { batch, .. }) = training.filter(|training| place.ranks > training.batch as usize) {
        let message = format!("there are {} ranks for batches of {batch} images", place.ranks);
        return Err(Diagnostic::new(message, format!("start at most {batch}, or set a larger batch")).into());
    }
    // A training counts epochs. A path counts batches, and reports their number once it is known.
    let epochs = training.map_or(0, |training| training.epochs);
    directory.watch_latest()?;
    let attempt = Attempt::claim_as(&directory, epochs, arguments.launch.as_deref())?;
    if directory.result()?.is_some() {
        // Another attempt has committed after the first check.
        attempt.end(&End::Finished)?;
        return Ok(None);
    }
    log_to(&attempt.directory().join(LOG))?;
    tracing::info!(
        "{}: attempt {} at run {} on {}, ranks: {}, threads: {}",
        file.label,
        attempt.number,
        directory.id,
        winsign_core::owner::host(),
        place.ranks,
        arguments.threads
    );
    let activations_on_host = attempt.activations_on_host;
    Ok(Some(Claimed { file, activations_on_host, attempt: Some(attempt) }))
}

/// Chooses the device of this rank, and prepares it. On rank 0 it also returns the GPUs that ranks on the
/// same machine compute on. Fails on all ranks if it fails on one.
fn prepare_device(arguments: &Arguments, ranks: &mut Ranks, settings: &Settings) -> Result<(Device, Vec<GpuId>)> {
    let precision = settings.precision();
    let chosen = device::choose(arguments.device, precision, &*ranks.comm);
    let checked = chosen.map_err(Error::from).and_then(|(device, gpus)| {
        numerics::check_threads(arguments.threads)?;
        numerics::check(settings.problem().numerics, device)?;
        Ok((device, gpus))
    });
    let (device, gpus) = session::together(&*ranks.comm, checked)?;
    device::prepare(device, precision, arguments.deterministic);
    ranks.connect(device)?;
    Ok((device, gpus))
}

/// Returns the resources that all ranks together have used so far. The utilization of GPUs is measured at rank 0.
fn usage(comm: &dyn Comm, device: Device, gpu_utilization: Option<GpuUtilization>, activations_on_host: bool) -> Usage {
    let own = Usage {
        peak_memory: memory::peak(),
        gpus: if device.is_cuda() { gpu_share(std::env::var(GPU_SHARE).ok().as_deref()) } else { 0.0 },
        gpu_peak_memory: device::peak_memory(device),
        peak_activations_on_host: activations_on_host.then(|| device::activations_on_host().peak),
        gpu_utilization,
    };
    let all = comm.gather(&serde_json::to_vec(&own).expect("plain data"));
    let all = all.iter().map(|bytes| serde_json::from_slice(bytes).expect("ranks send valid JSON"));
    all.reduce(|one: Usage, other: Usage| Usage {
        peak_memory: one.peak_memory.max(other.peak_memory),
        gpus: one.gpus + other.gpus,
        gpu_peak_memory: one.gpu_peak_memory.max(other.gpu_peak_memory),
        peak_activations_on_host: one.peak_activations_on_host.max(other.peak_activations_on_host),
        gpu_utilization: one.gpu_utilization.or(other.gpu_utilization),
    })
    .expect("this rank is among all")
}

/// Returns the fraction of its GPU that a rank may use. An invalid value counts as 1, since a run that has been computed
/// must not fail because of it.
fn gpu_share(text: Option<&str>) -> f64 {
    text.and_then(|text| text.parse().ok()).filter(|share| *share > 0.0 && *share <= 1.0).unwrap_or(1.0)
}

/// Records how the attempt ended on all ranks, reports an error once, and leaves the watch; returns the exit code.
fn finish(ranks: Ranks, attempt: Option<Attempt>, result: Result<()>) -> u8 {
    let elsewhere = matches!(result, Err(Error::OtherRankFailed));
    let error = result.err().map(Diagnostic::from);
    let own = RankEnd {
        code: error.as_ref().map_or(exit::SUCCESS, |error| error.exit_code),
        message: error.map_or(String::new(), |error| error.to_string()),
        elsewhere,
        host: winsign_core::owner::host(),
    };
    let all = ranks.comm.gather(&serde_json::to_vec(&own).expect("plain data"));
    let all = all.iter().map(|bytes| serde_json::from_slice(bytes).expect("ranks send valid JSON"));
    let all: Vec<RankEnd> = all.collect();
    // Report an error of another rank only if no rank has an error of its own.
    let failed = |end_of_rank: &RankEnd| end_of_rank.code != exit::SUCCESS;
    let failed = all
        .iter()
        .position(|end_of_rank| failed(end_of_rank) && !end_of_rank.elsewhere)
        .or(all.iter().position(failed));
    let mut end = End::Finished;
    let mut code = exit::SUCCESS;
    if let Some(rank) = failed {
        let RankEnd { message, host, .. } = &all[rank];
        code = all[rank].code;
        let message = match rank {
            0 => message.clone(),
            _ => format!("rank {rank} on {host}: {message}"),
        };
        if ranks.comm.place().is_root() {
            tracing::error!("{message}");
            print_message(&message);
        }
        end = unfinished_end(code, &message);
    }
    let ended = attempt.map_or(Ok(()), |attempt| attempt.end(&end).map_err(Error::from));
    let ended = session::together(&*ranks.comm, ended);
    if let Err(error) = ended
        && code == exit::SUCCESS
    {
        code = exit::IO;
        if ranks.comm.place().is_root() {
            print_message(&Diagnostic::from(error).to_string());
        }
    }
    if let Some(watch) = ranks.watch {
        watch.leave(code);
    }
    code
}

/// Returns the end of an attempt that did not finish.
fn unfinished_end(code: u8, message: &str) -> End {
    match code {
        // If the ranks or the device cannot compute the run, another attempt would fail as well.
        exit::FAILURE | exit::USAGE => End::Failed { message: message.to_string() },
        exit::OUT_OF_GPU_MEMORY => End::OutOfGpuMemory { message: message.to_string() },
        // The run can resume once the cause is gone.
        _ => End::Interrupted,
    }
}

/// The end of a rank.
#[derive(Serialize, Deserialize)]
struct RankEnd {
    code: u8,
    message: String,
    /// True if the rank ended only because another rank failed.
    elsewhere: bool,
    host: String,
}

/// Returns the settings of the training, if the run has one.
fn training(settings: &Settings) -> Option<&Training> {
    match settings {
        Settings::Ticket(ticket) => Some(&ticket.training),
        Settings::Transfer(transfer) => Some(&transfer.training),
        Settings::Import(_) | Settings::Connect(_) | Settings::Matrix(_) | Settings::Plane(_) => None,
    }
}

/// Logs events from `info` up to a file, and warnings also to standard error. Errors are reported by `main`.
fn log_to(path: &Path) -> Result<()> {
    let file = disk::persist(path, || File::create(path)).map_err(winsign_core::Error::io("write", path))?;
    let to_file = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_target(false)
        .log_internal_errors(false)
        .with_writer(Arc::new(file));
    let to_terminal = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .log_internal_errors(false)
        .with_writer(io::stderr);
    let registry = tracing_subscriber::registry()
        .with(to_file.with_filter(LevelFilter::INFO))
        .with(to_terminal.with_filter(filter_fn(|event| *event.level() == Level::WARN)));
    // This fails only if a subscriber is already set, but a process executes one run.
    let _ = registry.try_init();
    Ok(())
}

fn parse_seconds(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=1e9).contains(&seconds) => Ok(seconds),
        _ => Err("expected a number of seconds, 0 or more".to_string()),
    }
}

fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|location| format!(" at {location}")).unwrap_or_default();
        tracing::error!("panic{place}: {}", failure::message(panic.payload()));
    }));
}

/// Starts a thread that requests a stop when standard input is closed.
fn stop_with_stdin(stop: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let mut ignored = [0; 64];
        while matches!(io::stdin().read(&mut ignored), Ok(1..)) {}
        stop.store(true, Ordering::Relaxed);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::threads::on_ranks;

    #[test]
    fn gpu_share_without_a_valid_value_is_one() {
        let cases = [(None, 1.0), (Some("0.25"), 0.25), (Some("1"), 1.0), (Some("0"), 1.0), (Some("-1"), 1.0)];
        for (text, share) in cases.into_iter().chain([Some("4"), Some("NaN"), Some("half")].map(|text| (text, 1.0))) {
            assert_eq!(gpu_share(text), share, "{text:?}");
        }
    }

    #[test]
    fn usage_on_the_cpu_has_no_gpu_and_the_largest_peak() {
        let all = on_ranks(3, |comm| usage(comm, Device::Cpu, None, false));
        assert!(all.iter().all(|usage| usage.gpus == 0.0 && usage.gpu_peak_memory.is_none()));
        assert!(all.iter().all(|usage| usage.peak_activations_on_host.is_none()));
        assert!(all[0].peak_memory.is_some() && all.iter().all(|usage| usage == &all[0]));
    }

    #[test]
    fn gpu_utilization_of_rank_0_is_that_of_all() {
        let measured =
            GpuUtilization { gpus: 3, mean: Some(50.0), lowest: Some(40.0), last_minute: None, peak_memory: None };
        let all = on_ranks(3, |comm| usage(comm, Device::Cpu, comm.place().is_root().then_some(measured), false));
        assert!(all.iter().all(|usage| usage.gpu_utilization == Some(measured)), "{all:?}");
    }
}
