//! `winsign cancel`, `hold` and `release`: control of a sweep's jobs.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use winsign_core::error::Result as StoreResult;
use winsign_core::text::plural;
use winsign_core::{Diagnostic, RunId, Store};
use winsign_exec::batch;
use winsign_exec::batch::queue::{Live, Queue};
use winsign_exec::batch::scheduler::{Change, Job, JobState, JobTasks, Scheduler};
use winsign_exec::batch::submission::Submission;
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
full disk), and jobs that the scheduler held because a node failed to start them.";

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

/// A sweep and its jobs.
struct SweepJobs {
    plan: Plan,
    queue: Queue,
}

impl SweepJobs {
    fn query(common: &Common, sweep: &Path) -> Result<SweepJobs, Diagnostic> {
        let (plan, store) = open(common, sweep)?;
        let mut queue = Queue::query(&Store::open(store.root())?)?;
        if let Some(reason) = queue.query_error(&plan) {
            return Err(batch::Error::QueueUnavailable { reason }.into());
        }
        if queue.for_plan(&plan).is_empty()
            && let Some(error) = queue.take_unreadable()
        {
            return Err(error.into());
        }
        let sweep = SweepJobs { plan, queue };
        match sweep.queue.for_plan(&sweep.plan).first().filter(|_| sweep.submissions().is_empty()) {
            Some(other) => Err(belongs_to_another(&other.submission)),
            None => Ok(sweep),
        }
    }

    /// Marks the submissions, before their jobs are changed.
    fn mark(&self, mark: fn(&Submission) -> StoreResult<()>) -> StoreResult<()> {
        self.submissions().into_iter().try_for_each(|live| mark(&live.submission))
    }

    /// Marks the submissions of this user without jobs as over. Only their user can: others may not see the jobs.
    fn mark_over(&self, dry_run: bool) {
        if !dry_run {
            self.queue.mark_over();
        }
    }

    /// Queries the jobs again if some may have submitted others before the submissions were marked.
    fn with_new_jobs(self, common: &Common, sweep: &Path) -> Result<SweepJobs, Diagnostic> {
        match self.submissions().iter().any(|live| live.has_more()) {
            true => SweepJobs::query(common, sweep),
            false => Ok(self),
        }
    }

    /// Returns the submissions of this sweep by this user: those with its name, and those with no other runs, since the file
    /// may have been renamed. Other studies may have some of its runs, too.
    fn submissions(&self) -> Vec<&Live> {
        let runs: HashSet<&RunId> = self.plan.runs.iter().map(|planned| &planned.run.id).collect();
        let is_of_sweep = |submission: &Submission| {
            submission.file.study == self.plan.name || submission.runs().all(|run| runs.contains(run))
        };
        let ours = |live: &&Live| live.submission.may_be_changed() && is_of_sweep(&live.submission);
        self.queue.for_plan(&self.plan).into_iter().filter(ours).collect()
    }

    /// Changes the jobs that `wanted` selects, unless it is a dry run, and returns them.
    fn change(&self, dry_run: bool, change: Change, wanted: impl Fn(&Job) -> bool) -> Result<Changed, Diagnostic> {
        let mut all = vec![];
        for live in self.submissions() {
            let jobs = live.jobs.iter().map(|(_, job)| job).filter(|job| wanted(job));
            let jobs: Vec<JobTasks> = jobs.map(|job| job.id.clone()).collect();
            if !dry_run {
                live.submission.scheduler().change(&live.submission.file.cluster, &jobs, change)?;
            }
            all.extend(jobs.into_iter().map(|job| (live.submission.scheduler(), job)));
        }
        Ok(Changed(all))
    }
}

fn belongs_to_another(submission: &Submission) -> Diagnostic {
    let (id, study, user) = (&submission.id, &submission.file.study, submission.file.user);
    let message = format!("the runs of this sweep are in jobs of the study `{study}` of user {user} (submission {id})");
    match submission.may_be_changed() {
        true => {
            Diagnostic::new(message, format!("give the sweep file of `{study}`, whose other runs are affected, too"))
        }
        false => Diagnostic::new(message, "only that user can change them"),
    }
}

/// The jobs that a command has changed.
struct Changed(Vec<(&'static dyn Scheduler, JobTasks)>);

impl Changed {
    fn count(&self) -> usize {
        self.0.iter().map(|(_, job)| job.len()).sum()
    }

    /// Returns `["7_3", "8_[0-99]"]`.
    fn json(&self) -> Value {
        self.0.iter().map(|(scheduler, job)| scheduler.name(job)).collect()
    }
}

pub(crate) fn cancel(common: &Common, arguments: &CancelArguments) -> Result<u8, Diagnostic> {
    let CancelArguments { common: Arguments { sweep: path, dry_run }, now } = arguments;
    let mut sweep = SweepJobs::query(common, path)?;
    let mut kill = *now;
    if !dry_run {
        // The mark comes first, so that no job continues or submits others.
        if let Err(error) = sweep.mark(Submission::mark_cancelled) {
            tracing::warn!("{error}; killing running jobs, since they would not know that they are cancelled");
            kill = true;
        }
        sweep = sweep.with_new_jobs(common, path)?;
    }
    // Jobs that do not run receive no signal.
    let waits = |job: &Job| !matches!(job.state, JobState::Running | JobState::Ending);
    let waiting = sweep.change(*dry_run, Change::Cancel, waits)?;
    let stop = if kill { Change::Cancel } else { Change::Stop };
    let running = sweep.change(*dry_run, stop, |job| job.state == JobState::Running)?;
    let how = if kill { "killed" } else { "signaled to save and stop" };
    let text = format!(
        "{} cancelled, {} {how}",
        plural(waiting.count(), "queued job"),
        plural(running.count(), "running job")
    );
    let jobs = json!({ "waiting": waiting.json(), "running": running.json() });
    if !dry_run && (kill || running.count() == 0) {
        // Others, who may not see the jobs, can use the runs then.
        Queue::query(&Store::open(&common.store)?)?.mark_over();
    }
    print(common, &sweep.plan, *dry_run, &text, jobs)
}

pub(crate) fn hold(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
    let mut sweep = SweepJobs::query(common, &arguments.sweep)?;
    sweep.mark_over(arguments.dry_run);
    if !arguments.dry_run {
        // The mark comes first, so that jobs that are requeued or submitted later are held as well.
        sweep.mark(Submission::mark_held)?;
        sweep = sweep.with_new_jobs(common, &arguments.sweep)?;
    }
    let waits = |job: &Job| job.state == JobState::Pending && job.held.is_none();
    let jobs = sweep.change(arguments.dry_run, Change::Hold, waits)?;
    let text = format!("{} held", plural(jobs.count(), "queued job"));
    print(common, &sweep.plan, arguments.dry_run, &text, jobs.json())
}

pub(crate) fn release(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
    let sweep = SweepJobs::query(common, &arguments.sweep)?;
    sweep.mark_over(arguments.dry_run);
    if !arguments.dry_run {
        for live in sweep.submissions() {
            live.submission.mark_released()?;
            use_all_nodes(live)?;
        }
    }
    let jobs = sweep.change(arguments.dry_run, Change::Release, Job::can_be_released)?;
    let text = format!("{} released", plural(jobs.count(), "held job"));
    print(common, &sweep.plan, arguments.dry_run, &text, jobs.json())
}

/// Lets jobs use the nodes again that could not start them.
fn use_all_nodes(live: &Live) -> Result<(), Diagnostic> {
    let submission = &live.submission;
    let all = !submission.excluded_nodes()?.is_empty();
    let pending = live.jobs.iter().map(|(_, job)| job).filter(|job| job.state == JobState::Pending);
    let jobs: Vec<JobTasks> = pending.filter(|job| all || job.failed_on.is_some()).map(|job| job.id.clone()).collect();
    submission.exclude(&BTreeMap::new())?;
    let options = &submission.file.profile.sbatch;
    Ok(submission.scheduler().change(&submission.file.cluster, &jobs, Change::UseAllNodes(options))?)
}

/// Returns the names of jobs in a list, or in all lists of an object.
fn names(jobs: &Value) -> Vec<&str> {
    match jobs {
        Value::Array(list) => list.iter().flat_map(names).collect(),
        Value::Object(lists) => lists.values().flat_map(names).collect(),
        Value::String(name) => vec![name],
        _ => vec![],
    }
}

fn print(common: &Common, plan: &Plan, dry_run: bool, text: &str, jobs: Value) -> Result<u8, Diagnostic> {
    if common.json {
        return output::json(&json!({ "name": plan.name, "dry_run": dry_run, "jobs": jobs }));
    }
    let listed = names(&jobs);
    let mut shown = match dry_run {
        true => format!("{} (dry run): {text}\n", plan.name),
        false => format!("{}: {text}\n", plan.name),
    };
    if dry_run && !listed.is_empty() {
        shown += &format!("  {}\n", listed.join(" "));
    }
    output::text(&shown)
}
