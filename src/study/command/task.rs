//! `winsign task`: what a job of Slurm executes. Not for people: `winsign submit` writes the scripts that call it.

use std::path::PathBuf;

use clap::Args;

use super::run::execute;
use super::{Common, Failure};
use crate::run::{self, Store, exit};
use crate::study::launch::display::Display;
use crate::study::launch::slurm::submission::Submission;
use crate::study::launch::slurm::{programs, submit, task};
use crate::study::launch::{Options, Summary};
use crate::study::plan::survey::survey_runs;

#[derive(Args)]
pub struct Arguments {
    /// The submission's directory
    submission: PathBuf,
    array: usize,
    task: usize,
}

pub fn command(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    let opened = Submission::open(&arguments.submission)?;
    let submission = opened.ok_or_else(|| run::Error::damaged(&arguments.submission, "it holds no submission"))?;
    if submission.is_cancelled() {
        tracing::info!("submission {} is cancelled: nothing is done", submission.id);
        return Ok(exit::SUCCESS);
    }
    let executed = execute_pack(common, &submission, arguments);
    let code = match &executed {
        Ok(summary) => {
            tracing::info!("{} of {} runs done, {} computed now", summary.done, summary.total, summary.computed);
            summary.exit_code()
        }
        Err(failure) => failure.exit_code(),
    };
    if submission.is_cancelled() {
        return executed.map(|_| code);
    }
    if let Some(job) = task::job() {
        let told = match &executed {
            // Time is up, or others go first.
            Ok(Summary { stopped: true, pending: 1.., .. }) if submission.file.profile.requeue => task::requeue(&job),
            Ok(_) => submit::keep_going(&submission),
            // What a person has to mend (a full disk, a missing library) ends every job after this one as well.
            Err(failure) => task::hold(&job, &failure.to_string()),
        };
        if let Err(error) = told {
            tracing::warn!("{error}");
        }
    }
    executed.map(|_| code)
}

/// Executes the runs of one task, and what they need if nobody else has it.
fn execute_pack(common: &Common, submission: &Submission, arguments: &Arguments) -> Result<Summary, Failure> {
    let root = submission.path.ancestors().nth(2).expect("a submission lies in STORE/submissions/");
    let store = Store::create(root)?;
    let entries = submission.entries(arguments.array, arguments.task)?;
    let runs: Vec<&run::Run> = entries.iter().map(|entry| &entry.run).collect();
    let standings = survey_runs(&runs, &store)?;
    let options = options(submission);
    let mut display = Display::new(&submission.file.study, entries.len(), common.quiet);
    execute(&entries, &store, &standings, &options, &mut display)
}

fn options(submission: &Submission) -> Options {
    let file = &submission.file;
    let execution = &file.execution;
    Options {
        jobs: file.profile.side_by_side,
        threads: execution.threads,
        data: execution.data.clone(),
        retries: execution.retries,
        worker: programs::folder(submission.path.ancestors().nth(2).expect("as above"), &file.programs)
            .join(programs::WORKER),
    }
}
