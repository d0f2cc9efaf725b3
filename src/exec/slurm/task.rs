//! What a job of Slurm is told by it, and what it tells Slurm.

use std::time::Duration;

use super::Error;
use super::client;

/// How long a job that has to go back into the queue keeps on trying; its own end comes sooner where that is near.
const PATIENCE: u32 = 30;

/// The number of the job that this process is part of; none outside of Slurm.
pub fn job() -> Option<String> {
    std::env::var("SLURM_JOB_ID").ok()
}

/// Puts this job back into the queue, to go on where it was saved; Slurm then ends this process. A job that somebody has
/// cancelled stays cancelled. `held`: it does not start before it is released.
pub fn requeue(job: &str, held: bool) -> Result<(), Error> {
    let verb = if held { "requeuehold Incomplete" } else { "requeue Incomplete" };
    let mut tries = 0..PATIENCE;
    loop {
        match client::control(verb, &[job.to_string()]) {
            // The controller may be restarting, and nobody else would start this job again.
            Err(Error::Refused { words, .. }) if client::is_absence(&words) && tries.next().is_some() => {
                std::thread::sleep(Duration::from_secs(1));
            }
            other => return other,
        }
    }
}

/// Puts this job back into the queue until somebody releases it, with the reason where `winsign status` finds it.
pub fn hold(job: &str, reason: &str) -> Result<(), Error> {
    let line: String = reason.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    if let Err(error) = client::comment(job, &format!("winsign: {line}")) {
        tracing::warn!("{error}");
    }
    requeue(job, true)
}
