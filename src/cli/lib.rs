//! The program `winsign`: its commands and their output.

mod clean;
mod compare;
#[cfg(feature = "data")]
mod data;
mod digest;
mod export;
mod import;
mod jobs;
mod logs;
mod merge;
mod outcomes;
mod output;
mod plan;
mod remote;
mod report;
mod report_source;
mod resources;
mod retry;
mod run;
mod serve;
mod server;
mod show;
mod stages;
mod status;
mod store;
mod submit;
mod task;
mod watch;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use winsign_core::text::shell_word;
use winsign_core::{Diagnostic, Store};
use winsign_exec::batch::queue::Queue;
use winsign_sweep::plan::Plan;
use winsign_sweep::plan::build::build;
use winsign_sweep::plan::graph;
use winsign_sweep::plan::survey::{RunStatus, survey_with};

/// Plan, run and report sweeps of lottery-ticket experiments
#[derive(Parser)]
#[command(name = "winsign", version, after_help = format!("{EXAMPLES}\n\n{}", winsign_core::exit::help(|code| code.winsign)))]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

/// Options that every command accepts.
#[derive(Args, Clone)]
struct Common {
    /// The store: the directory that holds the runs
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_STORE, env = "WINSIGN_STORE")]
    store: PathBuf,
    /// Execute the command on another machine: submit, watch and report from a laptop
    #[arg(long, global = true, value_name = "LOGIN[:DIR]")]
    ssh: Option<remote::Remote>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// Print more messages: -v for progress, -vv for debugging (or set WINSIGN_LOG, as in WINSIGN_LOG=debug)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Print only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
}

impl Common {
    /// Returns the arguments of another command on the same sweep and store, quoted for a shell.
    fn arguments_for(&self, sweep: &Path) -> String {
        let quoted = |path: &Path| shell_word(&path.display().to_string());
        match self.store == Path::new(DEFAULT_STORE) {
            true => quoted(sweep),
            false => format!("{} --store {}", quoted(sweep), quoted(&self.store)),
        }
    }
}

/// The options for executing runs on this machine, whatever the sweep.
#[derive(Args)]
struct Execution {
    /// The directory with the data sets
    #[arg(long, value_name = "DIR", default_value = "data", env = "WINSIGN_DATA")]
    data: PathBuf,
    /// Threads per rank [default: from the sweep file, or 1]
    #[arg(long, value_parser = resources::threads)]
    threads: Option<u32>,
    /// The worker program [default: winsign-worker next to this program, or on the PATH]
    #[arg(long, value_name = "PATH", env = "WINSIGN_WORKER")]
    worker: Option<PathBuf>,
}

const DEFAULT_STORE: &str = "results";

#[derive(Subcommand)]
enum Command {
    /// Show the runs of a sweep, their states and their dependencies
    #[command(after_help = plan::HELP)]
    Plan {
        /// The sweep file
        sweep: PathBuf,
        /// List every run
        #[arg(long)]
        all: bool,
        /// Print the runs as a graph in this language
        #[arg(long, value_name = "LANGUAGE", conflicts_with = "all")]
        graph: Option<graph::Language>,
    },
    /// Execute the remaining runs of a sweep, on this machine or on several hosts
    #[command(after_help = run::HELP)]
    Run(self::run::Arguments),
    /// Submit the remaining runs of a sweep to Slurm or PBS
    #[command(after_help = submit::HELP)]
    Submit(submit::Arguments),
    /// Cancel queued jobs and stop running ones
    #[command(after_help = jobs::CANCEL_HELP)]
    Cancel(jobs::CancelArguments),
    /// Keep queued jobs of a sweep from starting
    #[command(after_help = jobs::HOLD_HELP)]
    Hold(jobs::Arguments),
    /// Release held jobs of a sweep
    #[command(after_help = jobs::RELEASE_HELP)]
    Release(jobs::Arguments),
    /// Retry failed runs
    #[command(after_help = retry::HELP)]
    Retry(retry::Arguments),
    /// Execute one task of a submission, inside a job
    #[command(hide = true)]
    Task(task::Arguments),
    /// Show the progress of a sweep, with running and failed runs
    #[command(after_help = status::HELP)]
    Status(status::Arguments),
    /// Show one run: its settings, metrics, result and log
    #[command(after_help = show::HELP)]
    Show {
        /// The identity of the run, or its first digits
        run: String,
    },
    /// Print a run's log
    #[command(after_help = logs::HELP)]
    Logs(logs::Arguments),
    /// Make tables and plots of the results
    #[command(after_help = report::HELP)]
    Report(report::Arguments),
    /// Serve the report as a live web page
    #[command(after_help = serve::HELP)]
    Serve(serve::Arguments),
    /// Compare two studies, or a study and a reference table
    #[command(after_help = compare::HELP)]
    Compare(compare::Arguments),
    /// Print digests of a study's results, or compare them with those of another machine
    #[command(after_help = digest::HELP)]
    Digest(digest::Arguments),
    /// Write a run's network to a file that PyTorch can load
    #[command(after_help = export::HELP)]
    Export(export::Arguments),
    /// Import a ticket found elsewhere into the store
    #[command(after_help = import::HELP)]
    Import(import::Arguments),
    /// Merge the stores of several clusters
    #[command(after_help = merge::HELP)]
    Merge(merge::Arguments),
    /// Delete unneeded data (shows it first; `--yes` deletes)
    #[command(after_help = clean::HELP)]
    Clean(clean::Arguments),
    /// Check, pack and generate data sets
    #[cfg(feature = "data")]
    #[command(subcommand, after_help = data::HELP)]
    Data(data::Command),
    /// Check whether a directory can hold a store
    #[command(subcommand, after_help = store::HELP)]
    Store(store::Command),
    /// Print the JSON Schema of sweep files, for editors
    Schema,
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  winsign completions bash > ~/.local/share/bash-completion/completions/winsign")]
    Completions { shell: clap_complete::Shell },
}

const EXAMPLES: &str = "\
Examples:
  winsign plan sweeps/quickstart.yaml        show the runs
  winsign run sweeps/quickstart.yaml         execute them; repeat to continue
  winsign submit sweeps/quickstart.yaml      or submit them to Slurm or PBS
  winsign report sweeps/quickstart.yaml      make tables and plots";

/// Returns the command line of `winsign`, from which its help, its completions and its documentation are made.
pub fn command_line() -> clap::Command {
    Arguments::command()
}

pub fn main() -> ExitCode {
    let Arguments { command, common } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return command_line_error(&error),
    };
    set_up_messages(&common);
    let code = match &common.ssh {
        Some(remote) => remote::execute(remote, &command, &common),
        None => execute(command, &common),
    };
    ExitCode::from(code.unwrap_or_else(|error| output::error(&error, common.json)))
}

/// Executes a command on this machine, and returns its exit code.
fn execute(command: Command, common: &Common) -> Result<u8, Diagnostic> {
    match command {
        Command::Plan { sweep, all, graph } => plan::command(common, &sweep, all, graph),
        Command::Run(arguments) => self::run::command(common, &arguments),
        Command::Submit(arguments) => submit::command(common, &arguments),
        Command::Cancel(arguments) => jobs::cancel(common, &arguments),
        Command::Hold(arguments) => jobs::hold(common, &arguments),
        Command::Release(arguments) => jobs::release(common, &arguments),
        Command::Retry(arguments) => retry::command(common, &arguments),
        Command::Task(arguments) => task::command(common, &arguments),
        Command::Status(arguments) => status::command(common, &arguments),
        Command::Show { run } => show::command(common, &run),
        Command::Logs(arguments) => logs::command(common, &arguments),
        Command::Report(arguments) => report::command(common, &arguments),
        Command::Compare(arguments) => compare::command(common, &arguments),
        Command::Digest(arguments) => digest::command(common, &arguments),
        Command::Serve(arguments) => serve::command(common, &arguments),
        Command::Export(arguments) => export::command(common, &arguments),
        Command::Import(arguments) => import::command(common, &arguments),
        Command::Merge(arguments) => merge::command(common, &arguments),
        Command::Clean(arguments) => clean::command(common, &arguments),
        #[cfg(feature = "data")]
        Command::Data(command) => data::command(common, &command),
        Command::Store(command) => store::command(common, &command),
        Command::Schema => output::json(&winsign_sweep::json_schema(&winsign_sweep::SWEEP_FILE)),
        Command::Completions { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut command_line(), "winsign", &mut script);
            output::text(&String::from_utf8_lossy(&script))
        }
    }
}

/// Prints an error of the command line, or the help that it requests, and returns the exit code.
fn command_line_error(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    // The options are not known, since they could not be parsed.
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let _ = output::json(&serde_json::json!({ "error": Diagnostic::new(message, "see `winsign --help`") }));
    }
    ExitCode::from(error.exit_code() as u8)
}

/// Reads a sweep file and returns its plan, with the store.
fn open(common: &Common, sweep_path: &Path) -> Result<(Plan, Store), Diagnostic> {
    let plan = build(&winsign_sweep::read(sweep_path)?);
    let store = Store::open(&common.store)?;
    Ok((plan, store))
}

/// Returns the status of every run of a plan, from the store and its scheduler.
fn query_statuses(plan: &Plan, store: &Store) -> Result<(Vec<RunStatus>, Queue), Diagnostic> {
    let queue = Queue::query(store)?;
    let statuses = survey_with(plan, store, |statuses| queue.overlay(plan, statuses))?;
    Ok((statuses, queue))
}

/// Sets up messages on standard error: warnings, or the level set by -v, -q or the environment.
fn set_up_messages(common: &Common) {
    let level = match (common.quiet, common.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("WINSIGN_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},usvg=error,resvg=error")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        // A closed standard error must not stop the command.
        .log_internal_errors(false)
        .with_ansi(colors(&std::io::stderr()))
        .init();
}

/// Returns true if colors are printed: on terminals, unless `NO_COLOR` is set.
fn colors(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    /// Longer lines would be wrapped at arbitrary places.
    #[test]
    fn help_fits_a_hundred_columns() {
        fn check(command: &clap::Command) {
            let text = command.get_after_help().map(|text| text.to_string()).unwrap_or_default();
            for line in text.lines() {
                assert!(line.chars().count() <= 100, "{}: {line}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Arguments::command());
    }
}
