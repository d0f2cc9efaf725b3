//! `winsign task`: executes one task of a job. It is called by the scripts that `winsign submit` writes.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use winsign_core::{Diagnostic, RunId, Store, exit};
use winsign_exec::batch::scheduler::{FAILED_NODES, MAX_FAILED_NODES, NODE_FAILURE};
use winsign_exec::batch::submission::{Submission, SubmissionFile};
use winsign_exec::batch::submit::Again;
use winsign_exec::batch::{self, programs, submit};
use winsign_exec::display::Display;
use winsign_exec::gpus::{self, Share};
use winsign_exec::launcher::{self, Launcher, Placement};
use winsign_exec::local::Local;
use winsign_exec::slots::Slots;
use winsign_exec::{Options, Summary};
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
    if let Err(error) = exclude_failed_nodes(&submission) {
        tracing::warn!("{}", Diagnostic::from(error));
    }
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
    if let Ok(summary) = &executed
        && let Err(error) = submit_with_more_memory(&submission, arguments, summary)
    {
        tracing::warn!("{error}");
    }
    if let Some(job) = submission.scheduler().own_job() {
        let Arguments { array, task, .. } = *arguments;
        let outcome = match &executed {
            // The time limit was reached, or the job was preempted. It resumes from its checkpoints.
            Ok(Summary { stopped: true, pending: 1.., .. }) if submission.file.profile.requeue => {
                submit::requeue(&submission, &job, array, task, None)
            }
            Ok(_) => submit::continue_submission(&submission),
            Err(error) if error.exit_code == exit::FAILURE && submit_elsewhere(&submission, arguments, error) => Ok(()),
            // An error that needs repair (a full disk, a missing library) would end every later job as well.
            Err(error) => submit::requeue(&submission, &job, array, task, Some(&error.to_string())),
        };
        if let Err(error) = outcome {
            tracing::warn!("{}", Diagnostic::from(error));
        }
    }
    executed.map(|_| code)
}

/// Keeps other tasks off the nodes that could not start this one.
fn exclude_failed_nodes(submission: &Submission) -> Result<(), batch::Error> {
    let reason = std::env::var(NODE_FAILURE).unwrap_or_default();
    match failed_nodes() {
        nodes if nodes.is_empty() => Ok(()),
        nodes => submit::exclude_nodes(submission, &nodes, &reason),
    }
}

/// Returns the nodes that could not start this task.
fn failed_nodes() -> Vec<String> {
    let nodes = std::env::var(FAILED_NODES).unwrap_or_default();
    nodes.split(',').filter(|node| !node.is_empty()).map(str::to_string).collect()
}

/// Submits this task again after an error of a run of one rank, which is one of this node, and returns true. It does not if
/// several nodes have failed.
fn submit_elsewhere(submission: &Submission, arguments: &Arguments, error: &Diagnostic) -> bool {
    let mut nodes = failed_nodes();
    nodes.extend(submission.scheduler().own_node());
    if submission.file.execution.ranks > 1 || nodes.is_empty() || nodes.len() > MAX_FAILED_NODES {
        return false;
    }
    let again = Again { failed: Some((&nodes, &error.message)), ..Again::default() };
    match submit::submit_again(submission, arguments.array, arguments.task, again) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!("{}", Diagnostic::from(error));
            false
        }
    }
}

/// Submits this task again if runs of it need more memory than its job has.
fn submit_with_more_memory(
    submission: &Submission,
    arguments: &Arguments,
    summary: &Summary,
) -> Result<(), Diagnostic> {
    let failed: Vec<&RunId> =
        summary.failed.iter().filter(|failure| failure.memory_ran_out).map(|failure| &failure.id).collect();
    let Some(megabytes) = more_memory(submission).filter(|_| !failed.is_empty()) else { return Ok(()) };
    // The new job must not take these failures for final ones.
    let store = Store::open(&root_of(submission)?)?;
    for run in failed {
        store.run(run).forgive()?;
    }
    tracing::warn!("out of memory; submitting the task again with {megabytes} MB");
    let again = Again { memory: Some(megabytes), ..Again::default() };
    Ok(submit::submit_again(submission, arguments.array, arguments.task, again)?)
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
