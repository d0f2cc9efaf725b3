//! Slurm, from version 22.05. `client` calls its commands and parses their output, `script` writes the options of jobs,
//! `options` checks those of a profile, `nodes` reads the environment of a job.

mod client;
mod forms;
mod nodes;
mod options;
mod script;

use std::collections::BTreeSet;
use std::path::Path;

use winsign_core::Diagnostic;

use crate::batch::Error;
use crate::batch::profile::Profile;
use crate::batch::scheduler::{Change, Job, Limits, MemoryForm, Patience, Scheduler, ScriptParts, TimeForm};
use crate::batch::script::ArrayJob;
use crate::hosts::Named;

const TITLE: &str = "Slurm";

#[derive(Debug)]
pub(crate) struct Slurm;

impl Scheduler for Slurm {
    fn title(&self) -> &'static str {
        TITLE
    }

    fn time_form(&self) -> TimeForm {
        forms::TIME
    }

    fn memory_form(&self) -> MemoryForm {
        forms::MEMORY
    }

    fn check(&self, profile: &Profile) -> Result<(), Diagnostic> {
        options::check(profile)
    }

    fn limits(&self, patience: Patience) -> Result<Limits, Error> {
        client::limits(patience)
    }

    fn jobs(&self, users: &BTreeSet<u32>) -> Result<Vec<Job>, Error> {
        client::jobs(users)
    }

    fn script(&self, array: &ArrayJob) -> ScriptParts {
        script::parts(array)
    }

    fn submit(&self, script: &str, after: &[&str], held: bool, directory: &Path) -> Result<String, Error> {
        client::submit(script, after, held, directory)
    }

    fn change(&self, jobs: &[String], change: Change) -> Result<(), Error> {
        match change {
            Change::Cancel => client::cancel(jobs, None),
            Change::Stop => client::cancel(jobs, Some("USR1")),
            Change::Hold => client::control("hold", jobs),
            Change::Release => client::control("release", jobs),
            Change::Requeue => client::control("requeue Incomplete", jobs),
            Change::RequeueHeld(reason) => {
                match client::comment(jobs, reason) {
                    // The caller tries again.
                    Err(unavailable @ Error::Unavailable { .. }) => return Err(unavailable),
                    Err(error) => tracing::warn!("{error}"),
                    Ok(()) => {}
                }
                client::control("requeuehold Incomplete", jobs)
            }
        }
    }

    fn own_job(&self) -> Option<String> {
        client::own_job()
    }

    fn nodes(&self, threads: u32) -> Result<Option<Vec<Named>>, Diagnostic> {
        nodes::allocated(threads)
    }
}
