//! What a job of Slurm is told by it, and what it tells Slurm.

use super::Error;
use super::client;

/// The number of the job that this process is part of; none outside of Slurm.
pub fn job() -> Option<String> {
    std::env::var("SLURM_JOB_ID").ok()
}

/// Puts this job back into the queue, to go on where it was saved. Slurm then ends this process.
pub fn requeue(job: &str) -> Result<(), Error> {
    client::control("requeue", &[job.to_string()])
}

/// Puts this job back into the queue until somebody releases it, with the reason where `winsign status` finds it.
pub fn hold(job: &str, reason: &str) -> Result<(), Error> {
    let line: String = reason.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    client::comment(job, &format!("winsign: {line}"))?;
    client::control("requeuehold", &[job.to_string()])
}
