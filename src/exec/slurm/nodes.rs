//! The nodes of an allocation, from the environment of the job.

use std::process::Command;

use winsign_core::Diagnostic;
use winsign_core::settings::MAX_JOBS;

use crate::hosts::Named;

/// Returns the nodes of the current Slurm allocation, if there are several and this is its only process.
pub(super) fn allocated(threads: u32) -> Result<Option<Vec<Named>>, Diagnostic> {
    let number = |name| std::env::var(name).ok().and_then(|value: String| value.parse::<u32>().ok());
    if number("SLURM_JOB_NUM_NODES").is_none_or(|nodes| nodes < 2)
        || number("SLURM_STEP_NUM_TASKS").is_some_and(|tasks| tasks > 1)
    {
        return Ok(None);
    }
    let Ok(list) = std::env::var("SLURM_JOB_NODELIST") else { return Ok(None) };
    let refused = |reason: String| {
        let message = format!("cannot use the nodes of this Slurm allocation, {list}: {reason}");
        Diagnostic::new(message, "give the hosts with --hosts a:8,b:8, or use only this one with --hosts localhost:8")
    };
    let output = Command::new("scontrol").args(["show", "hostnames", &list]).output();
    let output = output.map_err(|error| refused(format!("cannot start `scontrol`: {error}")))?;
    if !output.status.success() {
        return Err(refused(format!("`scontrol show hostnames` failed: {}", output.status)));
    }
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let names: Vec<&str> = names.split_whitespace().collect();
    let counts = |name: &str| std::env::var(name).ok().and_then(|text| expand(&text));
    let (tasks, cores) = (counts("SLURM_TASKS_PER_NODE"), counts("SLURM_JOB_CPUS_PER_NODE"));
    let slots = slots(tasks, cores, threads);
    let slots = slots.filter(|slots| slots.len() == names.len());
    let slots = slots.ok_or_else(|| {
        refused("the environment does not show how many cores of each node are allocated".to_string())
    })?;
    let hosts = names.iter().zip(slots).map(|(name, slots)| Named { name: name.to_string(), slots });
    Ok(Some(hosts.collect()))
}

/// Returns the slots of each node: the requested tasks, or, if no more than one was requested, as many as its cores allow.
fn slots(tasks: Option<Vec<u32>>, cores: Option<Vec<u32>>, threads: u32) -> Option<Vec<u32>> {
    match (tasks, cores) {
        (Some(tasks), _) if tasks.iter().any(|&tasks| tasks > 1) => Some(tasks),
        (_, Some(cores)) => Some(cores.iter().map(|&cores| (cores / threads).clamp(1, MAX_JOBS)).collect()),
        (tasks, None) => tasks,
    }
}

/// Expands Slurm's `4(x2),3` to 4, 4, 3.
fn expand(text: &str) -> Option<Vec<u32>> {
    let mut counts = vec![];
    for part in text.trim().split(',') {
        let (count, times) = match part.split_once("(x") {
            Some((count, times)) => (count, times.strip_suffix(')')?.parse().ok()?),
            None => (part, 1),
        };
        counts.extend(std::iter::repeat_n(count.parse::<u32>().ok()?, times));
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_an_allocation_are_its_tasks_or_else_its_cores() {
        assert_eq!(expand("4(x2),3"), Some(vec![4, 4, 3]));
        assert_eq!(expand("16"), Some(vec![16]));
        assert_eq!(expand("4(x2,3"), None);
        assert_eq!(slots(Some(vec![4, 2]), Some(vec![16, 16]), 1), Some(vec![4, 2]));
        assert_eq!(slots(Some(vec![1, 1]), Some(vec![16, 15]), 2), Some(vec![8, 7]));
        assert_eq!(slots(Some(vec![1, 1]), Some(vec![2, 2]), 8), Some(vec![1, 1]));
        assert_eq!(slots(Some(vec![1, 1]), None, 8), Some(vec![1, 1]));
        assert_eq!(slots(None, None, 1), None);
    }
}
