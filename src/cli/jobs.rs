//! `winsign cancel`, `hold` and `release`: control of a sweep's jobs in Slurm.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use winsign_core::text::plural;
use winsign_core::{Diagnostic, Store};
use winsign_exec::slurm;
use winsign_exec::slurm::client::{self, Living};
use winsign_exec::slurm::queue::{Live, Queue};
use winsign_sweep::plan::Plan;

use super::{Common, open, output};

pub(crate) const CANCEL_HELP: &str = "\
Examples:
  winsign cancel study.yaml                 remove queued jobs, stop running ones
  winsign cancel study.yaml --now           kill running jobs
  winsign cancel study.yaml --dry-run       list the jobs

Running jobs save checkpoints before they stop, except with --now. Results are kept. To continue
later, run `winsign submit` again.";

pub(crate) const HOLD_HELP: &str = "\
Examples:
  winsign hold study.yaml                   keep further jobs from starting
  winsign release study.yaml                release them
  winsign hold study.yaml --dry-run         list the jobs

Running jobs continue. A job that is requeued, for example at its time limit, is held.";

pub(crate) const RELEASE_HELP: &str = "\
Examples:
  winsign release study.yaml                release held jobs
  winsign release study.yaml --dry-run      list the jobs

This includes jobs that held themselves because of an error (a node without access to the store, a
full disk), and jobs that Slurm held because a node failed to start them.";

#[derive(Args)]
pub(crate) struct Arguments {
    /// The sweep file
    sweep: PathBuf,
    /// Show the jobs without changing them
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
pub(crate) struct CancelArguments {
    #[command(flatten)]
    common: Arguments,
    /// Kill running jobs, without checkpoints
    #[arg(long)]
    now: bool,
}

/// A sweep and its jobs in Slurm.
struct Held {
    plan: Plan,
    queue: Queue,
}

impl Held {
    fn look(common: &Common, sweep: &Path) -> Result<Held, Diagnostic> {
        let (plan, store) = open(common, sweep)?;
        let queue = Queue::look(&Store::open(store.root())?)?;
        match &queue.unasked {
            Some(reason) => Err(slurm::Error::Unasked { reason: reason.clone() }.into()),
            None => Ok(Held { plan, queue }),
        }
    }

    fn submissions(&self) -> Vec<&Live> {
        self.queue.of_plan(&self.plan)
    }

    fn jobs(&self, wanted: impl Fn(&Living) -> bool) -> Vec<String> {
        let living = self.submissions().into_iter().flat_map(|live| live.tasks.iter().map(|(.., job)| job));
        living.filter(|job| wanted(job)).map(Living::id).collect()
    }
}

pub(crate) fn cancel(common: &Common, arguments: &CancelArguments) -> Result<u8, Diagnostic> {
    let CancelArguments { common: Arguments { sweep, dry_run }, now } = arguments;
    let held = Held::look(common, sweep)?;
    // Jobs that do not run receive no signal.
    let waiting = held.jobs(|job| !job.is_running() && !job.is_ending());
    let running = held.jobs(Living::is_running);
    if !dry_run {
        // First, so that no job continues or submits others.
        for live in held.submissions() {
            live.submission.mark_cancelled()?;
        }
        client::cancel(&waiting, None)?;
        match now {
            true => client::cancel(&running, None)?,
            false => client::cancel(&running, Some("USR1"))?,
        }
    }
    let how = if *now { "killed" } else { "signaled to save and stop" };
    let text =
        format!("{} cancelled, {} {how}", plural(waiting.len(), "queued job"), plural(running.len(), "running job"));
    let jobs = json!({ "waiting": waiting, "running": running });
    print(common, &held.plan, *dry_run, &text, jobs)
}

pub(crate) fn hold(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
    let held = Held::look(common, &arguments.sweep)?;
    let jobs = held.jobs(|job| job.is_pending() && !job.is_held());
    if !arguments.dry_run {
        // First, so that jobs that are requeued or submitted later are held as well.
        for live in held.submissions() {
            live.submission.mark_held()?;
        }
        client::control("hold", &jobs)?;
    }
    let text = format!("{} held", plural(jobs.len(), "queued job"));
    print(common, &held.plan, arguments.dry_run, &text, json!(jobs))
}

pub(crate) fn release(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
    let held = Held::look(common, &arguments.sweep)?;
    let jobs = held.jobs(Living::is_held);
    if !arguments.dry_run {
        for live in held.submissions() {
            live.submission.mark_released()?;
        }
        client::control("release", &jobs)?;
    }
    let text = format!("{} released", plural(jobs.len(), "held job"));
    print(common, &held.plan, arguments.dry_run, &text, json!(jobs))
}

fn print(common: &Common, plan: &Plan, dry_run: bool, text: &str, jobs: serde_json::Value) -> Result<u8, Diagnostic> {
    if common.json {
        return output::json(&json!({ "name": plan.name, "dry_run": dry_run, "jobs": jobs }));
    }
    let listed: Vec<&str> = jobs.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str).collect();
    let mut shown = match dry_run {
        true => format!("{} (dry run): {text}\n", plan.name),
        false => format!("{}: {text}\n", plan.name),
    };
    if dry_run && !listed.is_empty() {
        shown += &format!("  {}\n", listed.join(" "));
    }
    output::text(&shown)
}
