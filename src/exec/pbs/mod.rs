//! PBS: OpenPBS and PBS Professional, from version 20. `client` calls its commands and parses their output, `script` writes the
//! options of jobs, `qsub` passes them on, `options` checks those of a profile, `forms` reads limits, `job` reads the
//! environment of a job and names jobs.

mod client;
mod forms;
mod job;
mod options;
mod qsub;
mod script;

use std::collections::BTreeSet;

use winsign_core::Diagnostic;

use crate::batch::Error;
use crate::batch::profile::Profile;
use crate::batch::scheduler::{
    Change, JobTasks, Jobs, Limits, MemoryForm, Patience, Scheduler, ScriptParts, TimeForm, ToSubmit, Variables,
};
use crate::batch::script::ArrayJob;
use crate::hosts::Named;

const TITLE: &str = "PBS";

#[derive(Debug)]
pub(crate) struct Pbs;

impl Scheduler for Pbs {
    fn title(&self) -> &'static str {
        TITLE
    }

    fn default_launcher(&self) -> &'static str {
        "mpirun"
    }

    fn time_form(&self) -> TimeForm {
        forms::TIME
    }

    fn memory_form(&self) -> MemoryForm {
        forms::MEMORY
    }

    fn name(&self, job: &JobTasks) -> String {
        job::operands(job).join(" ")
    }

    fn check(&self, profile: &Profile) -> Result<(), Diagnostic> {
        options::check(profile)
    }

    fn limits(&self, cluster: Option<&str>, patience: Patience) -> Result<Limits, Error> {
        client::limits(cluster, patience)
    }

    fn user_limit(&self, _: &Profile, _: &Limits) -> Option<u32> {
        None
    }

    fn jobs(&self, _: &str, users: &BTreeSet<u32>) -> Result<Jobs, Error> {
        client::jobs(users)
    }

    fn exist(&self, _: &str, arrays: &[&str]) -> Result<bool, Error> {
        client::exist(arrays)
    }

    fn script(&self, array: &ArrayJob) -> ScriptParts {
        script::parts(array)
    }

    fn submit(&self, _: &str, submitted: &ToSubmit) -> Result<String, Error> {
        client::submit(submitted)
    }

    fn variables(&self, _: &str) -> Variables {
        qsub::variables()
    }

    fn change(&self, _: &str, jobs: &[JobTasks], change: Change) -> Result<(), Error> {
        match change {
            Change::Cancel => client::change("qdel", &["-Wsuppress_email=-1"], jobs.iter().flat_map(job::operands)),
            Change::Stop => client::change("qsig", &["-s", script::STOP], jobs.iter().flat_map(job::operands)),
            Change::Hold => client::change("qhold", &[], job::arrays(jobs)),
            Change::Release => client::change("qrls", &[], job::arrays(jobs)),
            Change::Requeue => client::change("qrerun", &[], jobs.iter().flat_map(job::operands)),
            // A task of an array cannot be held, and what is held cannot be requeued.
            Change::RequeueHeld(_) => Err(Error::Refused {
                command: "qrerun".to_string(),
                words: "PBS cannot requeue and hold a task".to_string(),
            }),
            // A job can only name the nodes that it wants. No job reports a node, see `script`.
            Change::RequeueElsewhere(_) => Err(Error::Refused {
                command: "qrerun".to_string(),
                words: "PBS cannot keep a task off a node".to_string(),
            }),
            Change::Exclude(_) | Change::UseAllNodes(_) => Ok(()),
        }
    }

    fn own_job(&self) -> Option<JobTasks> {
        job::own()
    }

    fn own_memory(&self) -> Option<u64> {
        std::env::var(qsub::MEMORY).ok()?.parse().ok()
    }

    /// Jobs cannot be kept off a node.
    fn own_node(&self) -> Option<String> {
        None
    }

    fn nodes(&self, threads: u32) -> Result<Option<Vec<Named>>, Diagnostic> {
        job::nodes(threads)
    }
}
