//! The names of jobs, and the environment of a job.
//!
//! The name of an array is `7[].server`, as qsub prints it, its tasks are `7[3].server`, and a job that is not an array, which
//! executes a single task, is `7.server`.

use std::collections::BTreeSet;
use std::env;
use std::fs;

use winsign_core::Diagnostic;
use winsign_core::settings::MAX_JOBS;

use super::qsub;
use crate::batch::scheduler::JobTasks;
use crate::batch::tasks::Tasks;
use crate::hosts::Named;

/// Returns the words that name a job on a command line: one for each range of tasks.
pub(super) fn operands(job: &JobTasks) -> Vec<String> {
    match (job.array.split_once("[]"), &job.tasks) {
        (Some((number, server)), Some(tasks)) => {
            let ranges = tasks.ranges().iter().map(|range| Tasks::from(range.clone()));
            ranges.map(|range| format!("{number}[{range}]{server}")).collect()
        }
        _ => vec![job.array.clone()],
    }
}

/// Returns the arrays of jobs, for commands that cannot change single tasks.
pub(super) fn arrays(jobs: &[JobTasks]) -> BTreeSet<String> {
    jobs.iter().map(|job| job.array.clone()).collect()
}

/// Returns the job with a name that PBS uses. `task` is the index of one that is not an array.
pub(super) fn parse(name: &str, task: Option<u32>) -> JobTasks {
    let index = name.split_once('[').and_then(|(number, rest)| {
        let (index, server) = rest.split_once(']')?;
        Some((format!("{number}[]{server}"), index.parse().ok()))
    });
    let (array, task) = index.unwrap_or((name.to_string(), task));
    JobTasks { array, tasks: task.map(|task| Tasks::from(task..=task)) }
}

/// Returns the job that this process is part of.
pub(super) fn own() -> Option<JobTasks> {
    let task = env::var(qsub::TASK).ok().and_then(|task| task.parse().ok());
    Some(parse(&env::var("PBS_JOBID").ok()?, task))
}

/// Returns the nodes of the job that this process is part of, if there are several.
pub(super) fn nodes(threads: u32) -> Result<Option<Vec<Named>>, Diagnostic> {
    let Some(path) = env::var_os("PBS_NODEFILE").filter(|_| env::var_os("PBS_JOBID").is_some()) else {
        return Ok(None);
    };
    let text = fs::read_to_string(&path).map_err(|error| {
        let message = format!("cannot read the nodes of this PBS job, {}: {error}", path.display());
        Diagnostic::new(message, "give the hosts with --hosts a:8,b:8, or use only this one with --hosts localhost:8")
    })?;
    let cores = env::var("NCPUS").ok().and_then(|cores| cores.parse().ok());
    Ok(Some(slots(&text, cores, threads)).filter(|hosts| hosts.len() > 1))
}

/// Returns the nodes in a file with a line for each rank; with one line for each node, as many slots as its cores allow.
fn slots(text: &str, cores: Option<u32>, threads: u32) -> Vec<Named> {
    let mut hosts: Vec<Named> = vec![];
    for name in text.split_whitespace() {
        match hosts.iter_mut().find(|host| host.name == name) {
            Some(host) => host.slots += 1,
            None => hosts.push(Named { name: name.to_string(), slots: 1 }),
        }
    }
    if hosts.iter().all(|host| host.slots == 1) {
        let slots = cores.map_or(1, |cores| cores / threads).clamp(1, MAX_JOBS);
        hosts.iter_mut().for_each(|host| host.slots = slots);
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_named_as_by_the_commands() {
        let array = parse("7[].server", None);
        assert_eq!((array.array.as_str(), &array.tasks), ("7[].server", &None));
        let task = parse("7[3].server", None);
        assert_eq!((task.array.as_str(), operands(&task)), ("7[].server", vec!["7[3].server".to_string()]));
        let several = JobTasks { tasks: Tasks::parse("0-3,5"), ..array };
        assert_eq!(operands(&several), ["7[0-3].server", "7[5].server"]);
        let single = parse("8.server", Some(5));
        assert_eq!((single.tasks.clone(), operands(&single)), (Tasks::parse("5"), vec!["8.server".to_string()]));
        let all = arrays(&[several, task, single]);
        assert_eq!(all.into_iter().collect::<Vec<_>>(), ["7[].server", "8.server"]);
    }

    #[test]
    fn slots_are_lines_or_else_cores() {
        let counts = |text: &str, cores| -> Vec<u32> { slots(text, cores, 2).iter().map(|host| host.slots).collect() };
        assert_eq!(counts("a\na\nb\n", Some(8)), [2, 1]);
        assert_eq!(counts("a\nb\n", Some(8)), [4, 4]);
        assert_eq!(counts("a\nb\n", None), [1, 1]);
    }
}
