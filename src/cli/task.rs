//! `winsign task`: executes one task of a job. It is called by the scripts that `winsign submit` writes.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use winsign_core::{Diagnostic, RunDirectory, Store, exit};
use winsign_exec::batch::failed_nodes::{FailedNode, FailedNodes, MAX_NODES, Proof};
use winsign_exec::batch::submission::{Submission, SubmissionFile};
use winsign_exec::batch::submit::Again;
use winsign_exec::batch::{self, programs, submit};
use winsign_exec::display::Display;
use winsign_exec::gpus::{self, Share};
use winsign_exec::launcher::{self, Launcher, Placement};
use winsign_exec::local::Local;
use winsign_exec::slots::Slots;
use winsign_exec::{Cause, Failure, Options, Summary};
use winsign_sweep::plan::survey::survey_runs;

use super::Common;
use super::run::execute;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The submission's directory
    submission: PathBuf,
    array: usize,
    task: u32,
}

pub(crate) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
    let path = submit::absolute(&arguments.submission)?;
    let submission = Submission::open_in_job(&path)?
        .ok_or_else(|| winsign_core::Error::damaged(&path, "it does not contain a submission"))?;
    if submission.is_cancelled() {
        tracing::info!("submission {} is cancelled; exiting", submission.id);
        return Ok(exit::SUCCESS);
    }
    let &Arguments { array, task, .. } = arguments;
    let failed_nodes = submission.failed_nodes(array, task);
    let job = TaskJob { common, submission, array, task, failed_nodes };
    job.exclude_failed_nodes(Proof::Start);
    let executed = job.execute_pack(array, task);
    let code = match &executed {
        Ok(summary) => summary.exit_code(),
        Err(error) => error.exit_code,
    };
    if !job.submission.is_cancelled()
        && let Err(error) = job.continue_study(&executed)
    {
        tracing::warn!("{error}");
    }
    executed.map(|_| code)
}

/// A job, which executes one task.
struct TaskJob<'a> {
    common: &'a Common,
    submission: Submission,
    array: usize,
    task: u32,
    /// The nodes on which earlier jobs of the task have failed.
    failed_nodes: Option<FailedNodes>,
}

impl TaskJob<'_> {
    /// Executes the runs of a task, its own or another one, and their inputs that no other process computes.
    fn execute_pack(&self, array: usize, task: u32) -> Result<Summary, Diagnostic> {
        let Self { common, submission, .. } = self;
        let store = Store::create(&root_of(submission)?)?;
        let entries = submission.entries(array, task as usize)?;
        let runs: Vec<&winsign_core::Run> = entries.iter().map(|entry| &entry.run).collect();
        let statuses = survey_runs(&runs, &store)?;
        let options = options(submission, &store)?;
        if submission.is_cancelled() {
            // The signal may have arrived before the handler was installed.
            return Ok(Summary::default());
        }
        let mut display = Display::new(&submission.file.study, entries.len(), common.quiet);
        let summary = execute(&entries, &store, &statuses, &options, &mut display)?;
        tracing::info!("{} of {} runs done, {} computed now", summary.done, summary.total, summary.computed);
        Ok(summary)
    }

    /// Passes on to other jobs what this one leaves undone.
    fn continue_study(&self, executed: &Result<Summary, Diagnostic>) -> Result<(), Diagnostic> {
        if let Ok(summary) = executed {
            if summary.computed > 0 && summary.exit_code() == exit::SUCCESS {
                self.exclude_failed_nodes(Proof::Completion);
            }
            match self.submit_killed_runs(summary) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => tracing::warn!("{error}"),
            }
        }
        // Without a scheduler, this was called by hand.
        if self.submission.scheduler().own_job().is_none() {
            return Ok(());
        }
        match executed {
            // The time limit was reached, or the job was preempted. It resumes from its checkpoints.
            Ok(Summary { stopped: true, pending: 1.., .. }) if self.submission.file.profile.requeue => {
                self.requeue(None)
            }
            Ok(summary) => match submit::continue_submission(&self.submission) {
                Err(error) if error.is_limit() && !summary.stopped => self.execute_rest(),
                other => Ok(other?),
            },
            Err(error) if error.exit_code == exit::FAILURE && self.submit_elsewhere(error) => Ok(()),
            // An error that needs repair (a full disk, a missing library) would end every later job as well.
            Err(error) => self.requeue(Some(&error.to_string())),
        }
    }

    fn requeue(&self, error: Option<&str>) -> Result<(), Diagnostic> {
        let Some(job) = self.submission.scheduler().own_job() else { return Ok(()) };
        Ok(submit::requeue(&self.submission, &job, self.array, self.task, error)?)
    }

    /// Executes the tasks that were not submitted, one after the other, as long as there is no room for another job in the queue.
    fn execute_rest(&self) -> Result<(), Diagnostic> {
        for (array, task) in self.submission.unsent_tasks()? {
            if self.submission.is_held() {
                // The jobs of these tasks would be held, too. This one goes on after `winsign release`.
                return self.requeue(None);
            }
            tracing::info!("no other job can be submitted; executing task {task} of array {array} as well");
            let summary = self.execute_pack(array, task)?;
            if self.submission.is_cancelled() {
                return Ok(());
            }
            if summary.stopped {
                // The next job of this task finds its runs done, and goes on from here.
                return if self.submission.file.profile.requeue { self.requeue(None) } else { Ok(()) };
            }
            match self.leave_killed_runs(&summary) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => tracing::warn!("{error}"),
            }
            submit::record_executed(&self.submission, array, task)?;
            match submit::try_to_continue(&self.submission) {
                Err(error) if error.is_limit() => {}
                other => return Ok(other?),
            }
        }
        Ok(())
    }

    /// Keeps other tasks off the nodes on which this one has failed, if this proves that the nodes were the cause.
    fn exclude_failed_nodes(&self, proof: Proof) {
        if let Some(failed) = self.failed_nodes.as_ref().filter(|failed| failed.proof == proof)
            && let Err(error) = submit::exclude_nodes(&self.submission, failed)
        {
            tracing::warn!("{}", Diagnostic::from(error));
        }
    }

    /// Returns the nodes that the next job of this task must avoid after a failure on this one; `None` if the node of a failure is
    /// not known.
    fn with_this_node(&self, reason: &str, proof: Proof) -> Option<FailedNodes> {
        let own = self.submission.scheduler().own_node().filter(|_| self.submission.file.execution.ranks == 1)?;
        let nodes = self.failed_nodes.iter().flat_map(|failed| failed.nodes.clone());
        let nodes = nodes.chain([FailedNode::now(own)]).collect();
        Some(FailedNodes { nodes, reason: reason.to_string(), proof })
    }

    /// Submits this task again after an error of a run of one rank, which is one of this node, and returns true. It does not if
    /// several nodes have failed.
    fn submit_elsewhere(&self, error: &Diagnostic) -> bool {
        let failed = self.with_this_node(&error.message, Proof::Start);
        let Some(failed) = failed.filter(|failed| failed.nodes.len() <= MAX_NODES) else { return false };
        let again = Again { failed: Some(&failed), ..Again::default() };
        match submit::submit_again(&self.submission, self.array, self.task, again) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!("{}", Diagnostic::from(error));
                false
            }
        }
    }

    /// Submits this task again if another job may complete runs whose workers were killed: with more memory, or on another node.
    /// Returns true if that is this job, which is queued again.
    fn submit_killed_runs(&self, summary: &Summary) -> Result<bool, Diagnostic> {
        let memory = more_memory(&self.submission).filter(|_| failed_by(summary, Cause::OutOfMemory).next().is_some());
        if let Some(megabytes) = memory {
            tracing::warn!("out of memory; submitting the task again with {megabytes} MB");
            let again = Again { memory, ..Again::default() };
            let submit = || submit::submit_again(&self.submission, self.array, self.task, again);
            return self.forgive(failed_by(summary, Cause::OutOfMemory), submit).map(|()| false);
        }
        let Some(failed) = self.node_that_kills(summary) else { return Ok(false) };
        tracing::warn!("workers were killed again and again; submitting the task to another node");
        let again = Again { failed: Some(&failed), ..Again::default() };
        let mut is_requeued = false;
        let submit = || match submit::submit_again(&self.submission, self.array, self.task, again) {
            Err(error) if error.is_limit() => {
                tracing::warn!("queueing this job again instead: {error}");
                is_requeued = true;
                submit::requeue_elsewhere(&self.submission, self.array, self.task, &failed)
            }
            other => other,
        };
        self.forgive(failed_by(summary, Cause::Killed), submit)?;
        Ok(is_requeued)
    }

    /// Queues this job again if another node may complete runs of other tasks whose workers were killed here, and returns true.
    fn leave_killed_runs(&self, summary: &Summary) -> Result<bool, Diagnostic> {
        let Some(failed) = self.node_that_kills(summary) else { return Ok(false) };
        tracing::warn!("workers were killed again and again; queueing this job again to run on another node");
        let requeue = || submit::requeue_elsewhere(&self.submission, self.array, self.task, &failed);
        self.forgive(failed_by(summary, Cause::Killed), requeue).map(|()| true)
    }

    /// Returns the nodes to avoid if workers were killed on this one; `None` if they were killed on another before, so that the cause
    /// is the run.
    fn node_that_kills(&self, summary: &Summary) -> Option<FailedNodes> {
        let first = failed_by(summary, Cause::Killed).next()?;
        if self.failed_nodes.as_ref().is_some_and(|failed| failed.proof == Proof::Completion) {
            return None;
        }
        let reason = format!("killed the worker of run {} again and again: {}", first.id, first.message);
        self.with_this_node(&reason, Proof::Completion)
    }

    /// Removes the failures of runs, so that the job that `submit` queues does not take them for final ones; if it fails, they
    /// are restored.
    fn forgive<'f>(
        &self,
        runs: impl Iterator<Item = &'f Failure>,
        submit: impl FnOnce() -> Result<(), batch::Error>,
    ) -> Result<(), Diagnostic> {
        let store = Store::open(&root_of(&self.submission)?)?;
        let runs: Vec<RunDirectory> = runs.map(|failure| store.run(&failure.id)).collect();
        for run in &runs {
            run.forgive()?;
        }
        let submitted = submit();
        if submitted.is_err() {
            for run in runs {
                run.restore_failure()?;
            }
        }
        Ok(submitted?)
    }
}

/// Returns the runs that have failed for a cause.
fn failed_by(summary: &Summary, cause: Cause) -> impl Iterator<Item = &Failure> {
    summary.failed.iter().filter(move |failure| failure.cause == cause)
}

/// Returns the megabytes to request if runs need more than this job has; `None` if the profile does not allow more.
fn more_memory(submission: &Submission) -> Option<u64> {
    submission.file.profile.more_memory(submission.scheduler().own_memory())
}

/// Returns the directory of the store that a submission is in.
fn root_of(submission: &Submission) -> Result<PathBuf, Diagnostic> {
    let root = submission.path.ancestors().nth(2);
    let root = root.ok_or_else(|| winsign_core::Error::damaged(&submission.path, "it is not in a store"))?;
    Ok(root.to_path_buf())
}

/// Returns the settings for executing the runs. A run of one rank is a child of this process.
fn options(submission: &Submission, store: &Store) -> Result<Options, Diagnostic> {
    let SubmissionFile { profile, execution, programs, .. } = &submission.file;
    let share = execution.gpus.map(Share::from_gpus).transpose()?.unwrap_or(Share::Even);
    let ranks = execution.ranks;
    let runs = profile.side_by_side;
    let launcher: Arc<dyn Launcher> = match ranks {
        1 => Arc::new(Local),
        _ => launcher::named(&profile.launcher, &execution.wanted(profile))?,
    };
    let hosts = match launcher.placement() {
        Placement::Hosts => profile.scheduler().nodes(execution.threads)?,
        Placement::Here | Placement::Launcher => None,
    };
    // A node may have GPUs that are not allocated to this job.
    let has_gpus = execution.gpus.is_some() || std::env::var_os("CUDA_VISIBLE_DEVICES").is_some();
    let slots = match hosts {
        Some(hosts) => Slots::on(hosts, share).at_most(runs),
        None if launcher.placement() == Placement::Launcher => Slots::local(ranks * runs),
        None if has_gpus => Slots::with_gpus(ranks * runs, &gpus::here(), share),
        None => Slots::with_gpus(ranks * runs, &[], share),
    };
    Ok(Options {
        launcher,
        slots,
        ranks,
        threads: execution.threads,
        data: execution.data.clone(),
        retries: execution.retries,
        retry_out_of_memory: more_memory(submission).is_none(),
        worker: programs::folder(store.root(), programs).join(programs::WORKER),
    })
}
