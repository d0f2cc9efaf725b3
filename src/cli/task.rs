//! `winsign task`: executes one task of a job. It is called by the scripts that `winsign submit` writes.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use winsign_core::{Diagnostic, RunDirectory, Store, exit};
use winsign_exec::batch::failed_nodes::{FailedNodes, MAX_NODES, Proof};
use winsign_exec::batch::submission::{Submission, SubmissionFile};
use winsign_exec::batch::submit::Again;
use winsign_exec::batch::{programs, submit};
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
    let submission = Submission::open(&path)?
        .ok_or_else(|| winsign_core::Error::damaged(&path, "it does not contain a submission"))?;
    if submission.is_cancelled() {
        tracing::info!("submission {} is cancelled; exiting", submission.id);
        return Ok(exit::SUCCESS);
    }
    let failed_nodes = FailedNodes::of_this_task();
    exclude_nodes(&submission, failed_nodes.as_ref(), Proof::Start);
    let executed = execute_pack(common, &submission, arguments);
    let code = match &executed {
        Ok(summary) => {
            tracing::info!("{} of {} runs done, {} computed now", summary.done, summary.total, summary.computed);
            summary.exit_code()
        }
        Err(error) => error.exit_code,
    };
    if submission.is_cancelled() {
        return executed.map(|_| code);
    }
    if let Ok(summary) = &executed {
        if code == exit::SUCCESS && summary.computed > 0 {
            exclude_nodes(&submission, failed_nodes.as_ref(), Proof::Completion);
        }
        if let Err(error) = submit_killed_runs(&submission, arguments, summary, failed_nodes.as_ref()) {
            tracing::warn!("{error}");
        }
    }
    if let Some(job) = submission.scheduler().own_job() {
        let Arguments { array, task, .. } = *arguments;
        let outcome = match &executed {
            // The time limit was reached, or the job was preempted. It resumes from its checkpoints.
            Ok(Summary { stopped: true, pending: 1.., .. }) if submission.file.profile.requeue => {
                submit::requeue(&submission, &job, array, task, None)
            }
            Ok(_) => submit::continue_submission(&submission),
            Err(error)
                if error.exit_code == exit::FAILURE
                    && submit_elsewhere(&submission, arguments, error, failed_nodes.as_ref()) =>
            {
                Ok(())
            }
            // An error that needs repair (a full disk, a missing library) would end every later job as well.
            Err(error) => submit::requeue(&submission, &job, array, task, Some(&error.to_string())),
        };
        if let Err(error) = outcome {
            tracing::warn!("{}", Diagnostic::from(error));
        }
    }
    executed.map(|_| code)
}

/// Keeps other tasks off the nodes on which this one has failed, if this proves that it was their fault.
fn exclude_nodes(submission: &Submission, failed: Option<&FailedNodes>, proof: Proof) {
    if let Some(failed) = failed.filter(|failed| failed.proof == proof)
        && let Err(error) = submit::exclude_nodes(submission, failed)
    {
        tracing::warn!("{}", Diagnostic::from(error));
    }
}

/// Returns the nodes that the next job of this task must avoid after a failure on this one; `None` if the node of a failure is not
/// known.
fn with_this_node(
    submission: &Submission,
    failed: Option<&FailedNodes>,
    reason: &str,
    proof: Proof,
) -> Option<FailedNodes> {
    let own = submission.scheduler().own_node().filter(|_| submission.file.execution.ranks == 1)?;
    let nodes = failed.into_iter().flat_map(|failed| failed.nodes.clone()).chain([own]).collect();
    Some(FailedNodes { nodes, reason: reason.to_string(), proof })
}

/// Submits this task again after an error of a run of one rank, which is one of this node, and returns true. It does not if
/// several nodes have failed.
fn submit_elsewhere(
    submission: &Submission,
    arguments: &Arguments,
    error: &Diagnostic,
    failed: Option<&FailedNodes>,
) -> bool {
    let failed = with_this_node(submission, failed, &error.message, Proof::Start);
    let Some(failed) = failed.filter(|failed| failed.nodes.len() <= MAX_NODES) else { return false };
    let again = Again { failed: Some(&failed), ..Again::default() };
    match submit::submit_again(submission, arguments.array, arguments.task, again) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!("{}", Diagnostic::from(error));
            false
        }
    }
}

/// Submits this task again if another job may complete runs whose workers were killed: with more memory, or on another node.
fn submit_killed_runs(
    submission: &Submission,
    arguments: &Arguments,
    summary: &Summary,
    failed: Option<&FailedNodes>,
) -> Result<(), Diagnostic> {
    let killed = |cause: Cause| summary.failed.iter().filter(move |failure| failure.cause == cause);
    let memory = more_memory(submission).filter(|_| killed(Cause::OutOfMemory).next().is_some());
    if let Some(megabytes) = memory {
        tracing::warn!("out of memory; submitting the task again with {megabytes} MB");
        let again = Again { memory, ..Again::default() };
        return submit_again(submission, arguments, killed(Cause::OutOfMemory), again);
    }
    let Some(first) = killed(Cause::Killed).next() else { return Ok(()) };
    if failed.is_some_and(|failed| failed.proof == Proof::Completion) {
        // On two nodes, so the cause is the run.
        return Ok(());
    }
    let reason = format!("killed the worker of run {} again and again: {}", first.id, first.message);
    let Some(failed) = with_this_node(submission, failed, &reason, Proof::Completion) else { return Ok(()) };
    tracing::warn!("workers were killed again and again; submitting the task to another node");
    submit_again(submission, arguments, killed(Cause::Killed), Again { failed: Some(&failed), ..Again::default() })
}

/// Submits this task again for runs that have failed here.
fn submit_again<'f>(
    submission: &Submission,
    arguments: &Arguments,
    runs: impl Iterator<Item = &'f Failure>,
    again: Again,
) -> Result<(), Diagnostic> {
    // The new job must not take these failures for final ones.
    let store = Store::open(&root_of(submission)?)?;
    let runs: Vec<RunDirectory> = runs.map(|failure| store.run(&failure.id)).collect();
    for run in &runs {
        run.forgive()?;
    }
    let submitted = submit::submit_again(submission, arguments.array, arguments.task, again);
    if submitted.is_err() {
        for run in runs {
            run.restore_failure()?;
        }
    }
    Ok(submitted?)
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

/// Executes the runs of one task, and their inputs that no other process computes.
fn execute_pack(common: &Common, submission: &Submission, arguments: &Arguments) -> Result<Summary, Diagnostic> {
    let store = Store::create(&root_of(submission)?)?;
    let entries = submission.entries(arguments.array, arguments.task as usize)?;
    let runs: Vec<&winsign_core::Run> = entries.iter().map(|entry| &entry.run).collect();
    let statuses = survey_runs(&runs, &store)?;
    let options = options(submission, &store)?;
    if submission.is_cancelled() {
        // The signal may have arrived before the handler was installed.
        return Ok(Summary::default());
    }
    let mut display = Display::new(&submission.file.study, entries.len(), common.quiet);
    execute(&entries, &store, &statuses, &options, &mut display)
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
