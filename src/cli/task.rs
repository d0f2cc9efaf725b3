//! `winsign task`: executes one task of a job. It is called by the scripts that `winsign submit` writes.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use winsign_core::{Diagnostic, Store, exit};
use winsign_exec::batch::scheduler::{Change, change_own};
use winsign_exec::batch::submission::{Submission, SubmissionFile};
use winsign_exec::batch::{programs, submit};
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
    task: usize,
}

pub(crate) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
    let path = submit::absolute(&arguments.submission)?;
    let submission = Submission::open(&path)?
        .ok_or_else(|| winsign_core::Error::damaged(&path, "it does not contain a submission"))?;
    if submission.is_cancelled() {
        tracing::info!("submission {} is cancelled; exiting", submission.id);
        return Ok(exit::SUCCESS);
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
    let (scheduler, cluster) = (submission.scheduler(), &submission.file.cluster);
    if let Some(job) = scheduler.own_job() {
        let outcome = match &executed {
            // The time limit was reached, or the job was preempted. It resumes from its checkpoints.
            Ok(Summary { stopped: true, pending: 1.., .. }) if submission.file.profile.requeue => {
                let change = match submission.is_held() {
                    true => Change::RequeueHeld("held by `winsign hold`"),
                    false => Change::Requeue,
                };
                change_own(scheduler, cluster, &job, change)
            }
            Ok(_) => submit::continue_submission(&submission),
            // An error that needs repair (a full disk, a missing library) would end every later job as well.
            Err(error) => change_own(scheduler, cluster, &job, Change::RequeueHeld(&error.to_string())),
        };
        if let Err(error) = outcome {
            tracing::warn!("{}", Diagnostic::from(error));
        }
    }
    executed.map(|_| code)
}

/// Executes the runs of one task, and their inputs that no other process computes.
fn execute_pack(common: &Common, submission: &Submission, arguments: &Arguments) -> Result<Summary, Diagnostic> {
    let root = submission.path.ancestors().nth(2);
    let root = root.ok_or_else(|| winsign_core::Error::damaged(&submission.path, "it is not in a store"))?;
    let store = Store::create(root)?;
    let entries = submission.entries(arguments.array, arguments.task)?;
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
        worker: programs::folder(store.root(), programs).join(programs::WORKER),
    })
}
