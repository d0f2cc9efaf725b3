//! Slurm, from version 22.05. `client` calls its commands and parses their output, `script` writes the options of jobs,
//! `sbatch` passes them on, `account` reads limits of users, `options` checks those of a profile, `forms` parses limits, `nodes` reads the environment of a job.

mod account;
mod client;
mod forms;
mod nodes;
mod options;
mod sbatch;
mod script;

use std::collections::BTreeSet;
use std::env;

use winsign_core::Diagnostic;

use crate::batch::Error;
use crate::batch::profile::Profile;
use crate::batch::scheduler::{
    Change, JobTasks, Jobs, Limits, MemoryForm, Patience, Scheduler, ScriptParts, TimeForm, ToSubmit, Variables,
};
use crate::batch::script::ArrayJob;
use crate::hosts::Named;

const TITLE: &str = "Slurm";

#[derive(Debug)]
pub(crate) struct Slurm;

impl Scheduler for Slurm {
    fn title(&self) -> &'static str {
        TITLE
    }

    fn default_launcher(&self) -> &'static str {
        "srun"
    }

    fn time_form(&self) -> TimeForm {
        forms::TIME
    }

    fn memory_form(&self) -> MemoryForm {
        forms::MEMORY
    }

    fn name(&self, job: &JobTasks) -> String {
        job.to_string()
    }

    fn check(&self, profile: &Profile) -> Result<(), Diagnostic> {
        options::check(profile)
    }

    fn limits(&self, cluster: Option<&str>, patience: Patience) -> Result<Limits, Error> {
        client::limits(cluster, patience)
    }

    fn user_limit(&self, profile: &Profile, limits: &Limits) -> Option<u32> {
        limits.limits_users.then(|| account::limit(profile, &limits.cluster))?
    }

    fn jobs(&self, cluster: &str, users: &BTreeSet<u32>) -> Result<Jobs, Error> {
        client::jobs(cluster, users)
    }

    fn exist(&self, cluster: &str, arrays: &[&str]) -> Result<bool, Error> {
        client::exist(cluster, arrays)
    }

    fn script(&self, array: &ArrayJob) -> ScriptParts {
        script::parts(array)
    }

    fn submit(&self, cluster: &str, submitted: &ToSubmit) -> Result<String, Error> {
        client::submit(cluster, submitted)
    }

    fn variables(&self, script: &str) -> Variables {
        sbatch::variables(script)
    }

    fn change(&self, cluster: &str, jobs: &[JobTasks], change: Change) -> Result<(), Error> {
        match change {
            Change::Cancel => client::cancel(cluster, jobs),
            Change::Stop => client::signal(cluster, jobs, "USR1"),
            Change::Hold => client::control(cluster, "hold", jobs),
            Change::Release => client::control(cluster, "release", jobs),
            Change::Exclude(nodes) => client::exclude(cluster, jobs, nodes),
            Change::UseAllNodes(options) => client::use_all_nodes(cluster, jobs, options),
            Change::Requeue => client::control(cluster, "requeue Incomplete", jobs),
            Change::RequeueElsewhere(failed) => client::requeue_elsewhere(cluster, jobs, failed),
            Change::RequeueHeld(reason) => {
                match client::comment(cluster, jobs, reason) {
                    // The caller tries again.
                    Err(unavailable @ Error::Unavailable { .. }) => return Err(unavailable),
                    Err(error) => tracing::warn!("{error}"),
                    Ok(()) => {}
                }
                client::control(cluster, "requeuehold Incomplete", jobs)
            }
        }
    }

    fn own_memory(&self) -> Option<u64> {
        env::var("SLURM_MEM_PER_NODE").ok()?.parse().ok().filter(|megabytes| *megabytes > 0)
    }

    fn own_node(&self) -> Option<String> {
        env::var("SLURMD_NODENAME").ok()
    }

    fn own_job(&self) -> Option<JobTasks> {
        client::own_job()
    }

    fn nodes(&self, threads: u32) -> Result<Option<Vec<Named>>, Diagnostic> {
        nodes::allocated(threads)
    }
}
