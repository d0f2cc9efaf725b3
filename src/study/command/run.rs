//! `winsign run`: runs what is not done yet, on this machine.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{Common, Execution, Failure, output};
use crate::run::Store;
use crate::run::error::Error as StoreError;
use crate::run::settings::MAX_JOBS;
use crate::study::launch::display::Display;
use crate::study::launch::{self, Entry, Options, Summary};
use crate::study::plan::build::build;
use crate::study::plan::survey::{Standing, survey};
use crate::study::sweep::{self, Resources};

pub const HELP: &str = "\
Examples:
  winsign run sweeps/quickstart.yaml
  winsign run sweeps/quickstart.yaml --jobs 8 --threads 2
  winsign plan sweeps/quickstart.yaml               what it would do

Ctrl-C lets the runs under way save a checkpoint and stops; a second Ctrl-C kills them. Either way the same command
goes on later. Several of these may work on one store at once: they share the runs. Runs that had failed before get a
new chance each time.";

#[derive(Args)]
pub struct Arguments {
    /// The sweep file
    sweep: PathBuf,
    /// Runs side by side [default: what the sweep says, else one per core]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_JOBS)))]
    jobs: Option<u32>,
    #[command(flatten)]
    execution: Execution,
}

pub fn command(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    let plan = build(&sweep::read(&arguments.sweep)?);
    let worker = find_worker(arguments.execution.worker.as_deref())?;
    let store = Store::create(&common.store)?;
    let standings = survey(&plan, &store)?;
    let options = options(arguments, plan.resources, worker);
    let mut display = Display::new(&plan.name, plan.runs.len(), common.quiet || common.json);
    let summary = execute(&launch::entries(&plan), &store, &standings, &options, &mut display)?;
    if common.json {
        output::json(&json!({ "name": plan.name, "runs": summary }))?;
    } else {
        output::text(&describe(&plan.name, &summary, &arguments.sweep, common))?;
    }
    Ok(summary.exit_code())
}

/// Runs what is not done of some runs.
pub fn execute(
    entries: &[Entry],
    store: &Store,
    standings: &[Standing],
    options: &Options,
    display: &mut Display,
) -> Result<Summary, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(StoreError::io("watch over", store.root()))?;
    Ok(runtime.block_on(launch::run(entries, store, standings, options, display))?)
}

/// The command line goes before the sweep file; no two threads want the same core unless asked for. A run has one thread
/// unless somebody says otherwise: more change the last bits of its numbers, so that `--jobs` alone must not.
fn options(arguments: &Arguments, resources: Resources, worker: PathBuf) -> Options {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let threads = arguments.execution.threads.or(resources.threads).unwrap_or(1);
    let jobs = arguments.jobs.or(resources.jobs).unwrap_or((cores / threads).max(1));
    Options { jobs, threads, data: arguments.execution.data.clone(), retries: resources.retries, worker }
}

pub fn find_worker(named: Option<&Path>) -> Result<PathBuf, Failure> {
    const NAME: &str = "winsign-worker";
    if let Some(path) = named {
        // Made absolute, since a bare name would be looked for on the PATH.
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

fn no_worker(name: &str) -> Failure {
    Failure::Usage(
        format!("there is no program {name}"),
        "build it with `cargo build --release`, or name it with --worker PATH".to_string(),
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
    count(*pending, "left");
    let next = match (*pending > 0, failed.is_empty()) {
        (true, _) => "go on: winsign run",
        (false, false) => "look at the failed ones: winsign status",
        (false, true) => "next: winsign report",
    };
    let again = common.again(sweep_path);
    format!("{name}: {} after {seconds:.1} s\n{next} {again}\n", parts.join(", "))
}
