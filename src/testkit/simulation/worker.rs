//! A stand-in for `winsign-worker`: executes one run directory as the real one does, but sleeps instead of computing.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use safetensors::Dtype;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use winsign_core::attempt::{Attempt, End, LOG, Progress};
use winsign_core::directory::RunFile;
use winsign_core::results::{Outcome, Processors};
use winsign_core::settings::{Connect, Settings};
use winsign_core::tensors::{RawTensor, TensorFile};
use winsign_core::{Diagnostic, Run, RunDirectory, RunId, exit};
use winsign_sweep::plan::{Label, PlannedRun};

use crate::made_up;

/// The variable with the seconds for which a worker sleeps.
pub(super) const SECONDS: &str = "SIMULATED_SECONDS";
/// The variable with the percentage of runs whose first attempt fails.
pub(super) const FAILURES: &str = "SIMULATED_FAILURES";

/// The number of epochs of a run.
const EPOCHS: u32 = 4;

/// Returns true if a run is among a percentage of all runs.
pub(super) fn is_chosen(run: &RunId, percentage: u32) -> bool {
    let number = u64::from_str_radix(run.as_str(), 16).expect("identities are hexadecimal numbers");
    number % 100 < u64::from(percentage)
}

/// Runs the worker with the arguments of the real one, and returns its exit code.
pub(super) fn main(arguments: &[String]) -> u8 {
    let run = arguments.last().expect("the last argument is the run directory");
    let launch = arguments.iter().position(|argument| argument == "--launch").and_then(|at| arguments.get(at + 1));
    match execute(Path::new(run), launch.map(String::as_str)) {
        Ok(code) => code,
        Err(error) => {
            let error = Diagnostic::from(error);
            eprintln!("winsign-worker: {error}");
            error.exit_code
        }
    }
}

fn execute(run: &Path, launch: Option<&str>) -> winsign_core::error::Result<u8> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGUSR1] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).expect("these signals can be caught");
    }
    stop_with_stdin(Arc::clone(&stop));
    let directory = RunDirectory::open(run)?;
    let file = directory.settings()?.expect("winsign has written run.json");
    if directory.result()?.is_some() {
        return Ok(exit::SUCCESS);
    }
    let mut attempt = Attempt::claim_as(&directory, EPOCHS, launch)?;
    let log = attempt.directory().join(LOG);
    fs::write(&log, format!("{}: attempt {}\n", file.label, attempt.number)).expect("the log can be written");
    if attempt.number == 1 && is_chosen(&directory.id, number_of(FAILURES) as u32) {
        let message = "the loss became NaN in epoch 1".to_string();
        eprintln!("winsign-worker: {message}");
        attempt.end(&End::Failed { message })?;
        return Ok(exit::FAILURE);
    }
    let planned = describe(&directory, file)?;
    if !train(&mut attempt, &planned, &stop)? {
        attempt.end(&End::Interrupted)?;
        return Ok(exit::INTERRUPTED);
    }
    let network = (!matches!(planned.run.settings, Settings::Connect(_))).then(|| tensors("{}".to_string()));
    attempt.commit(made_up::outcome(&planned), network.as_ref(), Processors { ranks: 1, threads: 1 }, None)?;
    attempt.end(&End::Finished)?;
    Ok(exit::SUCCESS)
}

fn number_of(variable: &str) -> f64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).expect("the simulation sets it")
}

/// Sleeps for the time of a training, from the last checkpoint, and writes what a training writes after each epoch. Returns false
/// if it was requested to stop, after saving a checkpoint.
fn train(attempt: &mut Attempt, planned: &PlannedRun, stop: &AtomicBool) -> winsign_core::error::Result<bool> {
    let checkpoint = attempt.load_checkpoint()?;
    let done: u32 = checkpoint.map_or(0, |file| file.metadata.parse().expect("a checkpoint of this stand-in"));
    let metrics = made_up::metrics(planned);
    let epoch = Duration::from_secs_f64(number_of(SECONDS) / f64::from(EPOCHS));
    for done in done..EPOCHS {
        if !sleep(epoch, stop) {
            attempt.save_checkpoint(&tensors(done.to_string()))?;
            return Ok(false);
        }
        attempt.write_metrics(&metrics[..=done as usize])?;
        attempt.report(Progress { done: done + 1, total: EPOCHS, test_error: None });
        if done + 1 < EPOCHS {
            attempt.save_checkpoint(&tensors((done + 1).to_string()))?;
        }
    }
    Ok(true)
}

/// Sleeps; returns false as soon as a stop is requested.
fn sleep(time: Duration, stop: &AtomicBool) -> bool {
    let end = Instant::now() + time;
    while !stop.load(Ordering::Relaxed) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(Duration::from_millis(200)));
    }
    false
}

/// Requests a stop when standard input is closed.
fn stop_with_stdin(stop: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let mut ignored = [0; 64];
        while matches!(std::io::stdin().read(&mut ignored), Ok(1..)) {}
        stop.store(true, Ordering::Relaxed);
    });
}

fn tensors(metadata: String) -> TensorFile {
    let tensor = RawTensor { dtype: Dtype::F32, shape: vec![10, 32], bytes: vec![0; 4 * 10 * 32] };
    TensorFile { tensors: BTreeMap::from([("fc.weight".to_string(), tensor)]), metadata }
}

/// Reads the networks that a run needs, as the real worker does, and returns the run with as much of its label as results
/// depend on.
fn describe(directory: &RunDirectory, file: RunFile) -> winsign_core::error::Result<PlannedRun> {
    let mut level = 0;
    for input in &file.inputs {
        let input = directory.sibling(input);
        let missing = || winsign_core::Error::damaged(&input.result_path(), "the result is missing");
        let result = input.result()?.ok_or_else(missing)?;
        input.read_network(&result.network.ok_or_else(missing)?)?;
        level = level.max(level_of(&result.outcome));
    }
    let mut label = Label {
        problem: file.settings.problem(),
        method: None,
        level,
        rewind_point: None,
        inherit: None,
        between: None,
        block: None,
        seeds: vec![],
        axes: vec![],
    };
    match &file.settings {
        Settings::Ticket(ticket) => label.level = ticket.level,
        Settings::Transfer(transfer) => label.inherit = Some(transfer.inherit),
        Settings::Connect(Connect { between, .. }) => label.between = Some(*between),
        other => panic!("the stand-in does not compute {other:?}"),
    }
    Ok(PlannedRun { run: Run::new(file.settings, file.inputs), label })
}

/// Returns the level of a made-up network: each halves the number of weights.
fn level_of(outcome: &Outcome) -> u32 {
    let remaining = match outcome {
        Outcome::Ticket(ticket) => ticket.remaining_ratio,
        Outcome::Transfer(transfer) => transfer.remaining_ratio,
        other => panic!("no network has the outcome {other:?}"),
    };
    (-remaining.log2()).round() as u32
}
