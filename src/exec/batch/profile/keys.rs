//! The keys of a profile.

use winsign_core::settings::{MAX_GPUS, MAX_JOBS, MAX_RANKS};
use winsign_sweep::keys::{ANY_TEXT, Block, Complaint, Fallback, Form, Kind, Named, Value};

pub use winsign_sweep::keys::Key;

use winsign_sweep::yaml::{Content, DocumentKind, quoted};

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
        Key::new(Top, "launcher", Kind::Text(LAUNCHER), Values(&[Value::Word("srun")]), "srun", "What starts the ranks of a run: `srun` (a step of the job), `mpirun` (OpenMPI), `direct` (nothing; a run is one process), or a [command](#other-launchers)."),
        Key::new(Top, "mpi", Kind::Text(NAME), Values(&[Value::Word(srun::DEFAULT_MPI)]), "pmix", "The value of `srun --mpi=`; `srun --mpi=list` lists the available ones."),
        Key::new(Top, "scheduler", Kind::Word(scheduler::NAMES), Values(&[FIRST_SCHEDULER]), "slurm", "The batch system of the cluster."),
        Key::new(Top, "cluster", Kind::Text(NAME), Depends("the one of the node where `winsign submit` runs"), "west", "The cluster, if a site has several; `sacctmgr list clusters` lists them."),
        Key::new(Top, "partition", Kind::Text(NAME), Depends("Slurm's default"), "gpu", "The partition, or several separated by commas; `sinfo -s` lists them."),
        Key::new(Top, "account", Kind::Text(NAME), Depends("your default"), "lottery", "Account charged for the jobs."),
        Key::new(Top, "qos", Kind::Text(NAME), Depends("your default"), "normal", "The quality of service."),
        Key::new(Top, "constraint", Kind::Text(LINE), Depends("any node"), "a100&nvlink", "Features that nodes must have."),
        Key::new(Top, "time", Kind::Text(TIME), Depends("the partition's default"), "4:00:00", "The time limit of a job. A run that takes longer continues in the next job."),
        Key::new(Top, "memory", Kind::Text(MEMORY), Depends("the cluster's default"), "32G", "Memory of a job on each node, in megabytes unless a unit is given; 0 requests all of it."),
        Key::new(Top, "grace", whole(MAX_GRACE), Values(&[Value::Whole(120)]), "120", "How many seconds before its time limit a job is signaled to save checkpoints."),
        Key::new(Top, "requeue", Kind::Truth, Values(&[Value::Truth(true)]), "true", "Whether jobs are requeued if they are preempted, reach their time limit or lose their node."),
        Key::new(Top, "gpu_type", Kind::Text(GPU_TYPE), Depends("any"), "a100", "The type of GPU: the middle of Slurm's `gpu:a100:4`."),
        Key::new(Top, "gpu_option", Kind::Word(GPU_OPTIONS), Values(&[FIRST_GPU_OPTION]), "gpus-per-node", "The option of sbatch that requests GPUs; some sites reject `--gres`, others the rest."),
        Key::new(Top, "gpus_per_node", whole(MAX_GPUS), Depends("unknown"), "4", "GPUs per node; a run with more GPUs uses several nodes."),
        Key::new(Top, "ranks_per_node", whole(MAX_RANKS), Depends("chosen by Slurm"), "8", "The maximum number of ranks of a run on one node."),
        Key::new(Top, "pack", whole(MAX_TASKS), Values(&[Value::Whole(1)]), "8", "Runs per task of a job array; packing short runs makes fewer jobs."),
        Key::new(Top, "side_by_side", whole(MAX_JOBS), Values(&[Value::Whole(1)]), "4", "Runs of a pack executed at the same time; they share the resources of the task."),
        Key::new(Top, "max_running", whole(MAX_TASKS), Depends("no limit"), "32", "The maximum number of tasks of a submission that run at the same time."),
        Key::new(Top, "max_submit", whole(MAX_TASKS), Depends("the limit of Slurm"), "500", "The maximum number of tasks in the queue; the rest are submitted as these end."),
        Key::new(Top, "setup", Kind::Lines(SHELL), Depends("nothing"), "module load openmpi", "Shell commands that a job runs first."),
        Key::new(Top, "sbatch", Kind::Lines(OPTIONS), Depends("nothing"), "[--exclusive]", "Further options of sbatch, one per line: what follows `#SBATCH` in scripts."),
    ]
};

pub fn key(name: &str) -> Option<&'static Key> {
    PROFILE.key(Block::Top, name)
}

/// A text without spaces, such as names in Slurm.
const NAME: Form = Form { expects: "a name", numbers: false, read: name };
const GPU_TYPE: Form = Form { read: gpu_type, ..NAME };
/// A text that is safe in a line of its own.
const LINE: Form = Form { read: line, ..ANY_TEXT };
const TIME: Form = Form {
    expects: "minutes, or a time such as `4:00:00` or `1-12:00:00`",
    numbers: true,
    read: |named, text| with_form(named, text, is_time),
};
const MEMORY: Form = Form {
    expects: "a whole number, optionally followed by `K`, `M`, `G` or `T`",
    numbers: true,
    read: |named, text| with_form(named, text, is_memory),
};
const SHELL: Form = Form { expects: "shell commands", numbers: false, read: shell };
const OPTIONS: Form = Form { expects: "a list of sbatch options", numbers: false, read: option };

/// The name of a launcher, or a command that starts ranks.
const LAUNCHER: Form =
    Form { expects: "the name of a launcher, or a command with `{ranks}`", numbers: false, read: launcher_or_command };

fn with_form(named: &Named, text: &str, has_form: fn(&str) -> bool) -> Result<String, Complaint> {
    if has_form(text) { Ok(text.to_string()) } else { Err(named.unexpected(&Content::Text(text.to_string()))) }
}

fn name(named: &Named, text: &str) -> Result<String, Complaint> {
    let is_strange = |character: char| character.is_whitespace() || "'\"`\\#;&|<>$".contains(character);
    match text.chars().find(|character| is_strange(*character)) {
        Some(strange) => {
            let message = format!("`{}` cannot be {}: a name cannot contain {strange:?}", named.label, quoted(text));
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
    match line.chars().find(|character| character.is_control()) {
        Some(control) => {
            let message = format!("`{}` must be on one line, found {control:?}", named.label);
            Err((message, "write it on one line, without a leading `|` or `>`".to_string()))
        }
        None => Ok(line),
    }
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

/// Checks the form of an option of sbatch; the scheduler knows which ones it accepts.
fn option(_: &Named, text: &str) -> Result<String, Complaint> {
    let line = text.trim();
    if let Some(control) = line.chars().find(|character| character.is_control()) {
        let message = format!("an option of sbatch must be on one line, found {control:?}");
        return Err((message, "write a list: one option per line, each after `- `".to_string()));
    }
    if let Some(option) = line.strip_prefix("#SBATCH") {
        let message = format!("{} is a line of a script, not an option", quoted(line));
        return Err((message, format!("remove `#SBATCH`: `\"{}\"`", option.trim())));
    }
    let is_option = line.strip_prefix('-').is_some_and(|rest| rest.starts_with(|next: char| next != ' '));
    if !is_option || line == "--" {
        let message = format!("an option of sbatch must begin with `-`, found {}", quoted(text));
        return Err((message, "for example `sbatch: [--exclusive]`".to_string()));
    }
    Ok(line.to_string())
}

/// Whether a text is one of Slurm's forms: minutes, minutes:seconds, hours:minutes:seconds, days-hours,
/// days-hours:minutes and days-hours:minutes:seconds, or a word for no limit.
fn is_time(text: &str) -> bool {
    ["unlimited", "infinite"].contains(&text.to_lowercase().as_str()) || seconds(text).is_some()
}

/// A time limit in seconds, if it is one; 0 is none.
pub fn seconds(time: &str) -> Option<u64> {
    // Slurm counts no further.
    const LONGEST: u64 = i32::MAX as u64;
    let number = |text: &str| {
        let is_number = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (days, rest) = match time.split_once('-') {
        Some((days, rest)) => (Some(number(days)?), rest),
        None => (None, time),
    };
    let parts = rest.split(':').map(number).collect::<Option<Vec<_>>>()?;
    let (hours, minutes, seconds) = match (days, parts.as_slice()) {
        (None, [minutes]) => (0, *minutes, 0),
        (None, [minutes, seconds]) => (0, *minutes, *seconds),
        (Some(_), [hours]) => (*hours, 0, 0),
        (Some(_), [hours, minutes]) => (*hours, *minutes, 0),
        (_, [hours, minutes, seconds]) => (*hours, *minutes, *seconds),
        _ => return None,
    };
    let seconds = ((days.unwrap_or(0) * 24 + hours) * 60 + minutes) * 60 + seconds;
    (seconds <= LONGEST).then_some(seconds)
}

/// Whether `sbatch --mem` accepts a text: `4000`, `64G`, `64GB`.
fn is_memory(text: &str) -> bool {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_uppercase();
    let is_number = (1..=12).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number && ["", "K", "M", "G", "T", "KB", "MB", "GB", "TB"].contains(&unit.as_str())
}
