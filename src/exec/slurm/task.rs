//! The communication of a job with Slurm.

use std::time::Duration;

use super::Error;
use super::client;

/// How many times a job tries to requeue itself, once per second.
const PATIENCE: u32 = 30;

/// Returns the number of the job that this process is part of, or `None` outside of Slurm.
pub fn job() -> Option<String> {
    std::env::var("SLURM_JOB_ID").ok()
}

/// Requeues this job, which then resumes from its checkpoints; Slurm ends this process. A cancelled job stays cancelled. With
/// `held` the job does not start before it is released.
pub fn requeue(job: &str, held: bool) -> Result<(), Error> {
    let verb = if held { "requeuehold Incomplete" } else { "requeue Incomplete" };
    let mut tries = 0..PATIENCE;
    loop {
        match client::control(verb, &[job.to_string()]) {
            // The controller may be restarting, and no other process would requeue this job.
            Err(Error::Refused { words, .. }) if client::is_absence(&words) && tries.next().is_some() => {
                std::thread::sleep(Duration::from_secs(1));
            }
            other => return other,
        }
    }
}

/// Requeues this job and holds it, with a comment for `winsign status` as the reason.
pub fn hold(job: &str, reason: &str) -> Result<(), Error> {
    let line: String = reason.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    if let Err(error) = client::comment(job, &format!("winsign: {line}")) {
        tracing::warn!("{error}");
    }
    requeue(job, true)
}
