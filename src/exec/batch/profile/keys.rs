//! The keys of a profile.

use std::ops::Bound;

use winsign_core::settings::{MAX_GPUS, MAX_JOBS, MAX_RANKS};
use winsign_core::text::{code_point, is_invisible};
use winsign_sweep::keys::{ANY_TEXT, Block, Complaint, Fallback, Form, Kind, Named, Value};

pub use winsign_sweep::keys::Key;

use winsign_sweep::yaml::{DocumentKind, quoted};

use crate::batch::scheduler;
use crate::{launcher, srun};

pub static PROFILE: DocumentKind = DocumentKind {
    name: "profile",
    description: "The settings of a cluster.",
    example: "launch/profiles/gpu-srun.yaml",
    keys: KEYS,
    other_names: &[
        ("mem", "memory"),
        ("signal", "grace"),
        ("features", "constraint"),
        ("time_limit", "time"),
        ("walltime", "time"),
        ("queue", "partition"),
        ("modules", "setup"),
        ("prolog", "setup"),
        ("commands", "setup"),
        ("options", "sbatch"),
        ("extra", "sbatch"),
        ("directives", "sbatch"),
        ("gres", "gpu_type"),
        ("gpu", "gpu_type"),
    ],
    levels: "two",
    twice: "keep one of the two",
    too_large: "move long commands of `setup` into a script, and run the script in `setup`",
};

/// The options of sbatch that request GPUs: `--gres=gpu:4`, `--gpus-per-node=4`, or `--gpus=8` for all nodes.
pub const GPU_OPTIONS: &[&str] = &["gres", "gpus-per-node", "gpus"];

const MAX_TASKS: u32 = 1_000_000;
/// The maximum of `sbatch --signal`.
const MAX_GRACE: u32 = 65_535;

const FIRST_SCHEDULER: Value = Value::Word(scheduler::NAMES[0]);
const FIRST_GPU_OPTION: Value = Value::Word(GPU_OPTIONS[0]);

const fn whole(max: u32) -> Kind {
    Kind::Whole { min: 1, max: max as u64 }
}

/// In the order of the documentation.
#[rustfmt::skip]
pub static KEYS: &[Key] = {
    use Block::Top;
    use Fallback::{Depends, Values};
    &[
        Key::new(Top, "launcher", Kind::Text(LAUNCHER), Values(&[Value::Word("srun")]), "srun", "The program that starts the ranks of a run (with PBS, `mpirun` by default): `srun` (a step of the job), `mpirun` (OpenMPI), `direct` (nothing; a run is one process), or a [command](#other-launchers)."),
        Key::new(Top, "mpi", Kind::Text(NAME), Values(&[Value::Word(srun::DEFAULT_MPI)]), "pmix", "The value of `srun --mpi=`; `srun --mpi=list` lists the available ones."),
        Key::new(Top, "scheduler", Kind::Word(scheduler::NAMES), Values(&[FIRST_SCHEDULER]), "slurm", "The batch system of the cluster."),
        Key::new(Top, "cluster", Kind::Text(NAME), Depends("the one of the node where `winsign submit` runs"), "west", "The cluster, if a site has several; `sacctmgr list clusters` lists them."),
        Key::new(Top, "partition", Kind::Text(NAME), Depends("the scheduler's default"), "gpu", "The partition, or several separated by commas (`sinfo -s` lists them); with PBS, the queue (`qstat -q`)."),
        Key::new(Top, "account", Kind::Text(NAME), Depends("your default"), "lottery", "Account charged for the jobs."),
        Key::new(Top, "qos", Kind::Text(NAME), Depends("your default"), "normal", "The quality of service."),
        Key::new(Top, "constraint", Kind::Text(LINE), Depends("any node"), "a100&nvlink", "Features that nodes must have; with PBS, further resources of each node, such as `gpu_model=a100`."),
        Key::new(Top, "time", Kind::Text(LIMIT), Depends("the partition's default"), "4:00:00", "The time limit of a job: as in `12:00:00`, or for Slurm in minutes or as in `1-12:00:00`, for PBS in seconds. A run that takes longer continues in the next job."),
        Key::new(Top, "memory", Kind::Text(LIMIT), Depends("the cluster's default"), "32G", "Memory of a job on each node. For Slurm: in megabytes unless a unit is given, as in `32G`; 0 requests all of it. For PBS: as in `32gb`."),
        Key::new(Top, "memory_growth", Kind::Real(Bound::Excluded(1.0), Bound::Included(16.0)), Depends("no second job"), "1.5", "The factor by which the memory grows if a run needs more than its job has: its task is submitted again."),
        Key::new(Top, "max_memory", Kind::Text(LIMIT), Depends("no limit"), "128G", "The memory beyond which it does not grow."),
        Key::new(Top, "grace", whole(MAX_GRACE), Values(&[Value::Whole(120)]), "120", "The seconds before its time limit at which a job is signaled to save checkpoints."),
        Key::new(Top, "requeue", Kind::Truth, Values(&[Value::Truth(true)]), "true", "With `true`, jobs are requeued if they are preempted, reach their time limit or lose their node."),
        Key::new(Top, "gpu_type", Kind::Text(GPU_TYPE), Depends("any"), "a100", "The type of GPU: the middle of Slurm's `gpu:a100:4`."),
        Key::new(Top, "gpu_option", Kind::Word(GPU_OPTIONS), Values(&[FIRST_GPU_OPTION]), "gpus-per-node", "The option of sbatch that requests GPUs; some sites reject `--gres`, others the rest."),
        Key::new(Top, "gpus_per_node", whole(MAX_GPUS), Depends("unknown"), "4", "GPUs per node; a run with more GPUs uses several nodes."),
        Key::new(Top, "ranks_per_node", whole(MAX_RANKS), Depends("chosen by the scheduler"), "8", "The maximum number of ranks of a run on one node."),
        Key::new(Top, "pack", whole(MAX_TASKS), Values(&[Value::Whole(1)]), "8", "Runs per task of a job array; packing short runs makes fewer jobs."),
        Key::new(Top, "side_by_side", whole(MAX_JOBS), Values(&[Value::Whole(1)]), "4", "Runs of a pack executed at the same time; they share the resources of the task."),
        Key::new(Top, "max_running", whole(MAX_TASKS), Depends("no limit"), "32", "The maximum number of tasks of a submission that run at the same time."),
        Key::new(Top, "max_submit", whole(MAX_TASKS), Depends("the limit of the scheduler"), "500", "The maximum number of tasks in the queue; the rest are submitted as these end."),
        Key::new(Top, "setup", Kind::Lines(SHELL), Depends("nothing"), "module load openmpi", "Shell commands that a job runs first."),
        Key::new(Top, "sbatch", Kind::Lines(OPTIONS), Depends("nothing"), "[--exclusive]", "Further options of the command that submits jobs (sbatch, or qsub with PBS), one per line: what follows `#SBATCH` or `#PBS` in scripts."),
    ]
};

pub fn key(name: &str) -> Option<&'static Key> {
    PROFILE.key(Block::Top, name)
}

/// A text without spaces, such as names in Slurm.
const NAME: Form = Form { expects: "a name", read: name };
const GPU_TYPE: Form = Form { read: gpu_type, ..NAME };
/// A text that is safe in a line of its own.
const LINE: Form = Form { read: line, ..ANY_TEXT };
/// A text that the scheduler checks, since each writes limits in its own way.
const LIMIT: Form = Form { expects: "a limit in the scheduler's form", ..LINE };
const SHELL: Form = Form { expects: "shell commands", read: shell };
const OPTIONS: Form = Form { expects: "a list of options", read: option };

/// The name of a launcher, or a command that starts ranks.
const LAUNCHER: Form =
    Form { expects: "the name of a launcher, or a command with `{ranks}`", read: launcher_or_command };

fn name(named: &Named, text: &str) -> Result<String, Complaint> {
    let is_strange =
        |character: char| character == ' ' || is_invisible(character) || "'\"`\\#;&|<>$".contains(character);
    match text.chars().find(|character| is_strange(*character)) {
        Some(strange) => {
            let message =
                format!("`{}` cannot be {}: a name cannot contain {}", named.label, quoted(text), shown(strange));
            Err((message, format!("for example `{}`", named.example(named.key.example))))
        }
        None => line(named, text),
    }
}

fn gpu_type(named: &Named, text: &str) -> Result<String, Complaint> {
    let text = name(named, text)?;
    if !text.contains([':', ',', '=']) {
        return Ok(text);
    }
    let meant = text.trim_start_matches("gpu:").split([':', ',', '=']).next().filter(|meant| !meant.is_empty());
    let example = named.example(meant.unwrap_or(named.key.example));
    let message = format!("`{}` cannot be {}", named.label, quoted(&text));
    Err((message, format!("give only the type, as in `{example}`")))
}

fn line(named: &Named, text: &str) -> Result<String, Complaint> {
    let line = (ANY_TEXT.read)(named, text)?;
    match line.chars().find(|character| is_invisible(*character)) {
        Some(control) if control.is_control() => {
            let message = format!("`{}` must be on one line, found {control:?}", named.label);
            Err((message, "write it on one line, without a leading `|` or `>`".to_string()))
        }
        Some(invisible) => {
            let message = format!("`{}` cannot contain {}", named.label, shown(invisible));
            Err((message, format!("for example `{}`", named.example(named.key.example))))
        }
        None => Ok(line),
    }
}

/// Returns a character as in messages.
fn shown(character: char) -> String {
    if is_invisible(character) && !character.is_control() { code_point(character) } else { format!("{character:?}") }
}

fn launcher_or_command(named: &Named, text: &str) -> Result<String, Complaint> {
    match launcher::check(text) {
        Ok(_) => Ok(text.to_string()),
        Err(error) => Err((format!("`{}`: {}", named.label, error.message), error.help.unwrap_or_default())),
    }
}

fn shell(named: &Named, text: &str) -> Result<String, Complaint> {
    match text.contains('\0') {
        true => Err((format!("`{}` contains a zero byte", named.label), "remove `\\0`".to_string())),
        false => Ok(text.to_string()),
    }
}

/// Checks the form of an option of the command that submits jobs; the scheduler knows which ones it accepts.
fn option(_: &Named, text: &str) -> Result<String, Complaint> {
    let line = text.trim();
    if let Some(control) = line.chars().find(|character| character.is_control()) {
        let message = format!("an option in `sbatch` must be on one line, found {control:?}");
        return Err((message, "write a list: one option per line, each after `- `".to_string()));
    }
    if let Some((start, option)) = line.strip_prefix('#').map(|rest| rest.split_once(' ').unwrap_or((rest, ""))) {
        let message = format!("{} is a line of a script, not an option", quoted(line));
        return Err((message, format!("remove `#{start}`: `\"{}\"`", option.trim())));
    }
    let is_option = line.strip_prefix('-').is_some_and(|rest| rest.starts_with(|next: char| next != ' '));
    if !is_option || line == "--" {
        let message = format!("an option in `sbatch` must begin with `-`, found {}", quoted(text));
        return Err((message, "for example `sbatch: [--exclusive]`".to_string()));
    }
    Ok(line.to_string())
}
