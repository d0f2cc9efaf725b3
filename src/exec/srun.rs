//! Slurm's launcher, inside a job: one step per run.

use std::path::Path;

use tokio::process::Command;

use super::Options;
use super::launcher::{Launcher, Output, Placement, Wanted};
use super::slots::Seat;

const PROGRAM: &str = "srun";

/// The kind of MPI that most sites have.
pub const DEFAULT_MPI: &str = "pmix";

/// Starts one step per run. Slurm assigns the nodes, cores and GPUs of the job to steps.
#[derive(Debug)]
pub(crate) struct Srun {
    /// The kind of MPI, such as `pmix`.
    mpi: String,
    /// GPUs of a run on each of its nodes.
    gpus: Option<u32>,
}

impl Srun {
    pub(crate) fn new(wanted: &Wanted) -> Srun {
        let gpus = wanted.gpus.map(|gpus| (gpus * f64::from(wanted.ranks_per_node)).ceil() as u32);
        Srun { mpi: wanted.mpi.to_string(), gpus }
    }
}

impl Launcher for Srun {
    fn program(&self) -> Option<&Path> {
        Some(Path::new(PROGRAM))
    }

    fn placement(&self) -> Placement {
        Placement::Launcher
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

    fn uses_mpi_kind(&self) -> bool {
        true
    }

    fn read(&self, stderr: Vec<String>) -> Output {
        let (reason, memory_ran_out) = (reason(&stderr), memory_ran_out(&stderr));
        Output { ranks: words_of_ranks(&stderr), reason, memory_ran_out }
    }
}

fn arguments(srun: &Srun, options: &Options) -> Vec<String> {
    // The step has its own cores, so that several steps run at the same time.
    let mut arguments = vec!["--exact".to_string(), format!("--ntasks={}", options.ranks)];
    // Jobs of some sites have SLURM_EXPORT_ENV=NONE; ranks need the variables that `setup` of the profile has set.
    arguments.push("--export=ALL".to_string());
    if options.ranks == 1 {
        // The default is the job's number of nodes.
        arguments.push("--nodes=1".to_string());
    }
    arguments.push(format!("--cpus-per-task={}", options.threads));
    arguments.push(format!("--mpi={}", srun.mpi));
    arguments.extend(srun.gpus.map(|gpus| format!("--gres=gpu:{gpus}")));
    arguments
}

/// Returns why a step did not start, on one line: the last lines of the ranks, such as the error of an MPI that cannot start,
/// and the last message of Slurm.
fn reason(stderr: &[String]) -> String {
    let lines = stderr.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
    let (of_slurm, of_ranks): (Vec<&str>, Vec<&str>) = lines.partition(|line| is_of_slurm(line));
    let ranks = &of_ranks[of_ranks.len().saturating_sub(LINES_OF_RANKS)..];
    ranks.iter().chain(of_slurm.last()).copied().collect::<Vec<_>>().join("; ")
}

const LINES_OF_RANKS: usize = 5;

/// Returns the lines that the ranks wrote.
fn words_of_ranks(stderr: &[String]) -> Vec<String> {
    stderr.iter().filter(|line| !is_of_slurm(line)).cloned().collect()
}

/// Returns true if Slurm killed ranks because of a lack of memory.
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
        Srun::new(&Wanted { ranks: 8, ranks_per_node: 4, gpus: Some(0.5), mpi: "pmix" })
    }

    fn options(ranks: u32) -> Options {
        Options {
            launcher: std::sync::Arc::new(srun()),
            slots: Slots::local(ranks),
            ranks,
            threads: 4,
            data: "data".into(),
            retries: 0,
            retry_out_of_memory: true,
            worker: "worker".into(),
        }
    }

    #[test]
    fn step_has_its_own_cores() {
        let of = |ranks| arguments(&srun(), &options(ranks)).join(" ");
        assert_eq!(of(1), "--exact --ntasks=1 --export=ALL --nodes=1 --cpus-per-task=4 --mpi=pmix --gres=gpu:2");
        assert_eq!(of(8), "--exact --ntasks=8 --export=ALL --cpus-per-task=4 --mpi=pmix --gres=gpu:2");
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
        assert_eq!(reason(&stderr), "winsign-worker: the loss is NaN; srun: error: node1: task 0: Out Of Memory");
        assert_eq!(reason(&["execve(): no such file".to_string()]), "execve(): no such file");
        assert_eq!(reason(&[]), "");
    }
}
