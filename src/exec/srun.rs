//! Slurm's launcher, inside a job: one step per run.

use std::path::Path;

use tokio::process::Command;

use super::Options;
use super::launcher::{Fault, Launcher, Output};
use super::slots::Seat;

pub const PROGRAM: &str = "srun";

/// The settings for starting steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srun {
    /// The kind of MPI, such as `pmix`.
    pub mpi: String,
    /// Further arguments, such as `--gpus-per-task=1`, since Slurm assigns GPUs.
    pub further: Vec<String>,
}

impl Launcher for Srun {
    fn program<'o>(&self, _: &'o Options) -> &'o Path {
        Path::new(PROGRAM)
    }

    fn command(&self, options: &Options, seat: &Seat, run: &Path, launch: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(arguments(self, options))
            .arg(&options.worker)
            .args(options.worker_arguments(run, launch))
            .env("OMP_NUM_THREADS", options.threads.to_string())
            .envs(seat.parts[0].gpu_variables(true));
        command
    }

    fn read(&self, stderr: Vec<String>) -> Output {
        let (reason, memory_ran_out) = (reason(&stderr), memory_ran_out(&stderr));
        Output { ranks: words_of_ranks(&stderr), reason, memory_ran_out }
    }

    fn fault(&self) -> Fault {
        Fault::Scheduler
    }
}

fn arguments(srun: &Srun, options: &Options) -> Vec<String> {
    // The step has its own cores, so that several steps run at the same time.
    let mut arguments = vec!["--exact".to_string(), format!("--ntasks={}", options.ranks)];
    if options.ranks == 1 {
        // The default is the job's number of nodes.
        arguments.push("--nodes=1".to_string());
    }
    arguments.push(format!("--cpus-per-task={}", options.threads));
    arguments.push(format!("--mpi={}", srun.mpi));
    arguments.extend(srun.further.iter().cloned());
    arguments
}

/// Returns why a step did not start, on one line.
fn reason(stderr: &[String]) -> String {
    let messages: Vec<&str> = stderr.iter().filter(|line| is_of_slurm(line)).map(|line| line.trim()).collect();
    messages.last().or(stderr.last().map(String::as_str).as_ref()).copied().unwrap_or_default().to_string()
}

/// Returns the lines that the ranks wrote.
fn words_of_ranks(stderr: &[String]) -> Vec<String> {
    stderr.iter().filter(|line| !is_of_slurm(line)).cloned().collect()
}

/// Whether Slurm killed ranks because of a lack of memory.
fn memory_ran_out(stderr: &[String]) -> bool {
    let killed = |line: &String| is_of_slurm(line) && (line.contains("oom_kill") || line.contains("oom-kill"));
    stderr.iter().any(killed)
}

fn is_of_slurm(line: &str) -> bool {
    line.starts_with("srun:") || line.starts_with("slurmstepd:")
}

#[cfg(test)]
mod tests {
    use super::super::slots::Slots;
    use super::*;

    fn srun() -> Srun {
        Srun { mpi: "pmix".to_string(), further: vec!["--gpus-per-task=1".to_string()] }
    }

    fn options(ranks: u32) -> Options {
        Options {
            launcher: std::sync::Arc::new(srun()),
            slots: Slots::local(ranks),
            ranks,
            threads: 4,
            data: "data".into(),
            retries: 0,
            worker: "worker".into(),
        }
    }

    #[test]
    fn step_has_its_own_cores() {
        let of = |ranks| arguments(&srun(), &options(ranks)).join(" ");
        assert_eq!(of(1), "--exact --ntasks=1 --nodes=1 --cpus-per-task=4 --mpi=pmix --gpus-per-task=1");
        assert_eq!(of(8), "--exact --ntasks=8 --cpus-per-task=4 --mpi=pmix --gpus-per-task=1");
    }

    #[test]
    fn messages_of_slurm_and_ranks_are_separated() {
        let stderr = [
            "winsign-worker: the loss is NaN",
            "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks have been OOM Killed.",
            "srun: error: node1: task 0: Out Of Memory",
        ];
        let stderr = stderr.map(str::to_string);
        assert_eq!(words_of_ranks(&stderr), ["winsign-worker: the loss is NaN"]);
        assert!(memory_ran_out(&stderr) && !memory_ran_out(&stderr[..1]));
        assert_eq!(reason(&stderr), "srun: error: node1: task 0: Out Of Memory");
        assert_eq!(reason(&["execve(): no such file".to_string()]), "execve(): no such file");
        assert_eq!(reason(&[]), "");
    }
}
