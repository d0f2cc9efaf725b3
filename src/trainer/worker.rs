//! The program `winsign-worker`: executes exactly one run directory, and exits.

use std::fs::File;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::prelude::*;

use super::session::Session;
use super::{Finished, Result, connect, import, ticket, transfer};
use winsign::data::DEFAULT_ROOT;
use winsign::run::attempt::{Attempt, End, LOG};
use winsign::run::settings::{MAX_THREADS, Settings};
use winsign::run::{self, RunDirectory, exit};

/// Executes one run directory that `winsign run` prepared, and exits.
#[derive(Parser)]
#[command(name = "winsign-worker", version, after_help = HELP)]
struct Arguments {
    /// The run's directory: STORE/runs/xx/ID
    run: PathBuf,
    /// Threads to compute with
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_THREADS)))]
    threads: u32,
    /// The folder with the data sets
    #[arg(long, value_name = "DIR", default_value = DEFAULT_ROOT, env = "WINSIGN_DATA")]
    data: PathBuf,
    /// Stop, with a checkpoint, when standard input is closed: ties this process to the one that holds the other end
    #[arg(long)]
    stop_with_stdin: bool,
}

const HELP: &str = "\
Examples:
  winsign-worker results/runs/3f/3f09c2aa41d07e55
  winsign-worker --threads 4 results/runs/3f/3f09c2aa41d07e55

SIGTERM, SIGINT and SIGUSR1 make it save a checkpoint and exit with 75: start it again to go on.

Exit codes:
   0  the result is committed (also if it already was)
   1  the run failed: the log's last line says why
   2  not a run directory, or one of another format
  65  an input's files are damaged; they were set aside, compute that run again first
  69  another attempt at this run is alive, or has taken over
  74  the store cannot be read or written
  75  interrupted, the checkpoint is saved: start again to go on";

pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGUSR1] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).expect("these signals can be caught");
    }
    if arguments.stop_with_stdin {
        stop_with_stdin(Arc::clone(&stop));
    }
    tch::set_num_threads(arguments.threads as i32);
    tch::set_num_interop_threads(1);
    match execute(&arguments, stop) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Claims the run, computes it, and commits its result.
fn execute(arguments: &Arguments, stop: Arc<AtomicBool>) -> Result<()> {
    let directory = RunDirectory::open(&arguments.run)?;
    let file = directory.settings()?.ok_or_else(|| run::Error::NotARun { path: directory.path.clone() })?;
    match directory.result() {
        Ok(Some(_)) => return Ok(()),
        Ok(None) => {}
        Err(run::Error::Damaged { path, reason }) => {
            say(&format!("{} is damaged: {reason}; it is set aside and computed again", path.display()));
            directory.set_aside(&path)?;
        }
        Err(error) => return Err(error.into()),
    }
    let attempt = Attempt::claim(&directory, total(&file.settings))?;
    if directory.result()?.is_some() {
        // Committed between our look and our claim.
        return Ok(attempt.end(&End::Finished)?);
    }
    log_to(&attempt.directory().join(LOG))?;
    tracing::info!(
        "{}: attempt {} at run {} on {}, threads: {}",
        file.label,
        attempt.number,
        directory.id,
        run::owner::host(),
        arguments.threads
    );
    let number = attempt.number;
    let mut session = Session::new(attempt, file.inputs, stop, arguments.data.clone(), arguments.threads);
    let story = || match &file.settings {
        Settings::Ticket(settings) => ticket::execute(&mut session, settings),
        Settings::Import(settings) => import::execute(&mut session, settings),
        Settings::Transfer(settings) => transfer::execute(&mut session, settings),
        Settings::Connect(settings) => connect::execute(&mut session, settings),
    };
    // libtorch reports trouble (no memory, say) by exceptions that tch turns into panics; the hook logs them.
    log_panics();
    let finished = match catch_unwind(AssertUnwindSafe(story)) {
        Ok(finished) => finished,
        Err(_) => {
            let message = "libtorch or the worker failed unexpectedly: see the log".to_string();
            run::attempt::end_attempt(&directory, number, &End::Failed { message })?;
            std::process::exit(exit::FAILURE.into());
        }
    };
    let attempt = session.into_attempt();
    let result = finished.and_then(|Finished { outcome, network }| {
        let network = network.map(|(layout, weights)| weights.to_file(&layout));
        Ok(attempt.commit(outcome, network.as_ref(), arguments.threads)?)
    });
    let end = match &result {
        Ok(true) => {
            tracing::info!("committed after {:.1} s", attempt.seconds());
            End::Finished
        }
        Ok(false) => {
            tracing::warn!("another attempt has committed this run before; its result stands");
            End::Finished
        }
        Err(error) => {
            tracing::error!("{error}");
            match error.exit_code() {
                exit::FAILURE => End::Failed { message: error.to_string() },
                // All others can go on once the world is in order again.
                _ => End::Interrupted,
            }
        }
    };
    let ended = attempt.end(&end);
    result?;
    Ok(ended?)
}

/// Tells standard error, which may be closed: whoever started us may have died.
fn say(message: &str) {
    let _ = writeln!(io::stderr(), "winsign-worker: {message}");
}

/// Epochs of a training. A path counts batches, and says so when it knows how many there are.
fn total(settings: &Settings) -> u32 {
    match settings {
        Settings::Ticket(ticket) => ticket.training.epochs,
        Settings::Transfer(transfer) => transfer.training.epochs,
        Settings::Import(_) | Settings::Connect(_) => 0,
    }
}

/// Everything from `info` up goes to the attempt's log; warnings also to standard error, where `main` reports the error.
fn log_to(path: &Path) -> Result<()> {
    let file = File::create(path).map_err(run::Error::io("write", path))?;
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
    // A second subscriber cannot be set in one process; there is one run per process.
    let _ = registry.try_init();
    Ok(())
}

fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("{panic}");
    }));
}

/// Watches standard input on a thread of its own until it is closed.
fn stop_with_stdin(stop: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let mut ignored = [0; 64];
        while matches!(io::stdin().read(&mut ignored), Ok(1..)) {}
        stop.store(true, Ordering::Relaxed);
    });
}
