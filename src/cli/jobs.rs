//! `winsign cancel`, `hold` and `release`: what is in the hands of Slurm.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use winsign_core::Store;
use winsign_core::text::plural;
use winsign_exec::slurm;
use winsign_exec::slurm::client::{self, Living};
use winsign_exec::slurm::queue::{Live, Queue};
use winsign_sweep::plan::Plan;

use super::{Common, Failure, open, output};

pub(crate) const CANCEL_HELP: &str = "\
Examples:
  winsign cancel study.yaml                 waiting jobs go, running ones save and end
  winsign cancel study.yaml --now           running ones are killed
  winsign cancel study.yaml --dry-run       which jobs these are

What is done stays done, and `winsign submit` goes on later from the checkpoints.";

pub(crate) const HOLD_HELP: &str = "\
Examples:
  winsign hold study.yaml                   no further job of this study starts
  winsign release study.yaml                until they are released
  winsign hold study.yaml --dry-run         which jobs these are

Jobs that run already go on, and wait when they come back into the queue, at their time limit say.";

pub(crate) const RELEASE_HELP: &str = "\
Examples:
  winsign release study.yaml                jobs that were held may start
  winsign release study.yaml --dry-run      which jobs these are

That includes jobs that held themselves because something was in their way (a node that does not
see the store, a full disk), and those that Slurm held because a node failed to start them.";

#[derive(Args)]
pub(crate) struct Arguments {
    /// The sweep file
    sweep: PathBuf,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
pub(crate) struct CancelArguments {
    #[command(flatten)]
    common: Arguments,
    /// Kill what runs, without a checkpoint
    #[arg(long)]
    now: bool,
}

/// A sweep, and what Slurm has of it.
struct Held {
    plan: Plan,
    queue: Queue,
}

impl Held {
    fn look(common: &Common, sweep: &Path) -> Result<Held, Failure> {
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

pub(crate) fn cancel(common: &Common, arguments: &CancelArguments) -> Result<u8, Failure> {
    let CancelArguments { common: Arguments { sweep, dry_run }, now } = arguments;
    let held = Held::look(common, sweep)?;
    // What does not run hears no signal.
    let waiting = held.jobs(|job| !job.is_running() && !job.is_ending());
    let running = held.jobs(Living::is_running);
    if !dry_run {
        // First, so that no job goes on or is followed by others.
        for live in held.submissions() {
            live.submission.mark_cancelled()?;
        }
        client::cancel(&waiting, None)?;
        match now {
            true => client::cancel(&running, None)?,
            false => client::cancel(&running, Some("USR1"))?,
        }
    }
    let how = if *now { "killed" } else { "told to save and end" };
    let text =
        format!("{} taken back, {} {how}", plural(waiting.len(), "waiting job"), plural(running.len(), "running job"));
    let jobs = json!({ "waiting": waiting, "running": running });
    tell(common, &held.plan, *dry_run, &text, jobs)
}

pub(crate) fn hold(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    let held = Held::look(common, &arguments.sweep)?;
    let jobs = held.jobs(|job| job.is_pending() && !job.is_held());
    if !arguments.dry_run {
        // First, so that jobs which go back into the queue, and those that are sent later, wait as well.
        for live in held.submissions() {
            live.submission.mark_held()?;
        }
        client::control("hold", &jobs)?;
    }
    let text = format!("{} held", plural(jobs.len(), "waiting job"));
    tell(common, &held.plan, arguments.dry_run, &text, json!(jobs))
}

pub(crate) fn release(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    let held = Held::look(common, &arguments.sweep)?;
    let jobs = held.jobs(Living::is_held);
    if !arguments.dry_run {
        for live in held.submissions() {
            live.submission.mark_released()?;
        }
        client::control("release", &jobs)?;
    }
    let text = format!("{} released", plural(jobs.len(), "held job"));
    tell(common, &held.plan, arguments.dry_run, &text, json!(jobs))
}

fn tell(common: &Common, plan: &Plan, dry_run: bool, text: &str, jobs: serde_json::Value) -> Result<u8, Failure> {
    if common.json {
        return output::json(&json!({ "name": plan.name, "dry_run": dry_run, "jobs": jobs }));
    }
    let listed: Vec<&str> = jobs.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str).collect();
    let mut shown = match dry_run {
        true => format!("{}: would be: {text}\n", plan.name),
        false => format!("{}: {text}\n", plan.name),
    };
    if dry_run && !listed.is_empty() {
        shown += &format!("  {}\n", listed.join(" "));
    }
    output::text(&shown)
}
