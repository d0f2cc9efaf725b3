//! Every key of a profile, in one table. Checks, suggestions and the documentation follow from it.

use serde_json::{Value as Json, json};
use winsign_core::settings::{MAX_GPUS, MAX_JOBS, MAX_RANKS};
use winsign_sweep::yaml::{Content, Diagnostic, Node, Place, grouped, listed, nearest, quoted};

use crate::batch::scheduler;
use crate::launcher;
use crate::template::Template;

/// A key of a profile.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// The default, as text.
    pub default: &'static str,
    /// An example value, for messages.
    pub example: &'static str,
    /// A one-line description.
    pub doc: &'static str,
}

/// The type of a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Word(&'static [&'static str]),
    /// The name of a launcher, or a command that starts ranks.
    Launcher,
    /// A text without spaces, such as names in Slurm.
    Name,
    /// One line of any text.
    Line,
    Whole {
        min: u32,
        max: u32,
    },
    Truth,
    Time,
    Memory,
    Shell,
    /// Options of sbatch, one per line.
    Options,
}

const MAX_TASKS: u32 = 1_000_000;
/// The maximum of `sbatch --signal`.
const MAX_GRACE: u32 = 65_535;

macro_rules! keys {
    ($($name:literal: $kind:expr, $default:literal, $example:literal, $doc:literal;)*) => {
        &[$(Key { name: $name, kind: $kind, default: $default, example: $example, doc: $doc }),*]
    };
}

/// In the order of the documentation.
#[rustfmt::skip]
pub static KEYS: &[Key] = keys! {
    "scheduler": Kind::Word(scheduler::NAMES), "slurm", "slurm", "The batch system of the cluster.";
    "launcher": Kind::Launcher, "srun", "srun", "What starts the ranks of a run: `srun` (a step of the job), `mpirun` (OpenMPI), `direct` (nothing; a run is one process), or a [command](#other-launchers).";
    "mpi": Kind::Name, "pmix", "pmix", "The value of `srun --mpi=`; `srun --mpi=list` lists the available ones.";
    "partition": Kind::Name, "Slurm's default", "gpu", "The partition, or several separated by commas; `sinfo -s` lists them.";
    "account": Kind::Name, "your default", "lottery", "Account charged for the jobs.";
    "qos": Kind::Name, "your default", "normal", "The quality of service.";
    "constraint": Kind::Line, "any node", "a100&nvlink", "Features that nodes must have.";
    "time": Kind::Time, "the partition's default", "4:00:00", "The time limit of a job. A run that takes longer continues in the next job.";
    "memory": Kind::Memory, "the cluster's default", "32G", "Memory of a job on each node, in megabytes unless a unit is given; 0 requests all of it.";
    "grace": Kind::Whole { min: 1, max: MAX_GRACE }, "120", "120", "How many seconds before its time limit a job is signaled to save checkpoints.";
    "requeue": Kind::Truth, "true", "true", "Whether jobs are requeued if they are preempted, reach their time limit or lose their node.";
    "gpu_type": Kind::Name, "any", "a100", "The type of GPU: the middle of Slurm's `gpu:a100:4`.";
    "gpus_per_node": Kind::Whole { min: 1, max: MAX_GPUS }, "unknown", "4", "GPUs per node; a run with more GPUs uses several nodes.";
    "ranks_per_node": Kind::Whole { min: 1, max: MAX_RANKS }, "chosen by Slurm", "8", "The maximum number of ranks of a run on one node.";
    "pack": Kind::Whole { min: 1, max: MAX_TASKS }, "1", "8", "Runs per task of a job array; packing short runs makes fewer jobs.";
    "side_by_side": Kind::Whole { min: 1, max: MAX_JOBS }, "1", "4", "Runs of a pack executed at the same time; they share the resources of the task.";
    "max_running": Kind::Whole { min: 1, max: MAX_TASKS }, "no limit", "32", "The maximum number of tasks of a submission that run at the same time.";
    "max_submit": Kind::Whole { min: 1, max: MAX_TASKS }, "the limit of Slurm", "500", "The maximum number of tasks in the queue; the rest are submitted as these end.";
    "setup": Kind::Shell, "nothing", "module load openmpi", "Shell commands that a job runs first.";
    "sbatch": Kind::Options, "nothing", "[--exclusive]", "Further options of sbatch, one per line: what follows `#SBATCH` in scripts.";
};

pub fn key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Returns the key for a name that other files use.
pub fn other_name(name: &str) -> Option<&'static str> {
    let name = name.trim_start_matches('-').replace('-', "_");
    let key = match name.as_str() {
        "mem" => "memory",
        "signal" => "grace",
        "features" => "constraint",
        "time_limit" | "walltime" => "time",
        "queue" => "partition",
        "modules" | "prolog" | "commands" => "setup",
        "options" | "extra" | "directives" => "sbatch",
        "gres" | "gpu" => "gpu_type",
        other => key(other)?.name,
    };
    Some(key)
}

impl Key {
    /// Reads the value that a file has: as JSON, in the form of the field.
    pub fn read(&self, node: &Node) -> Result<Json, Diagnostic> {
        self.read_as(self.name, node)
    }

    /// Reads the value that an option of the command line has; the option is what messages name.
    pub fn read_option(&self, option: &str, text: &str) -> Result<Json, Diagnostic> {
        let content = match self.kind {
            Kind::Whole { .. } => text.parse().map(Content::Whole).ok(),
            Kind::Truth => text.parse().map(Content::Truth).ok(),
            _ => None,
        };
        let content = content.unwrap_or_else(|| Content::Text(text.to_string()));
        self.read_as(option, &Node { place: Place::default(), content }).map_err(Diagnostic::without_place)
    }

    fn read_as(&self, label: &str, node: &Node) -> Result<Json, Diagnostic> {
        let value = match (self.kind, &node.content) {
            (Kind::Word(words), Content::Text(word)) => words.contains(&word.as_str()).then(|| json!(word)),
            (Kind::Launcher, Content::Text(text)) if Template::is_command(text) => return command(label, text, node),
            (Kind::Launcher, Content::Text(text)) => launcher::names().any(|name| name == text).then(|| json!(text)),
            (Kind::Name, Content::Text(text)) => return self.name(label, text, node),
            (Kind::Line, Content::Text(text)) => return self.line(label, text, node),
            (Kind::Whole { min, max }, &Content::Whole(number)) => {
                u32::try_from(number).ok().filter(|number| (min..=max).contains(number)).map(|number| json!(number))
            }
            (Kind::Truth, &Content::Truth(truth)) => Some(json!(truth)),
            (Kind::Time, Content::Text(text)) => is_time(text).then(|| json!(text)),
            (Kind::Memory, Content::Text(text)) => is_memory(text).then(|| json!(text)),
            // Without a unit they look like numbers.
            (Kind::Time, Content::Whole(number)) => {
                Some(number.to_string()).filter(|text| is_time(text)).map(Json::from)
            }
            (Kind::Memory, Content::Whole(number)) => {
                Some(number.to_string()).filter(|text| is_memory(text)).map(Json::from)
            }
            (Kind::Shell, Content::Text(text)) => return shell(text, node).map(|text| json!(text)),
            (Kind::Shell, Content::List(lines)) => {
                let lines = lines.iter().map(|line| self.shell_line(line)).collect::<Result<Vec<_>, _>>()?;
                Some(json!(lines.join("\n")))
            }
            (Kind::Options, Content::Text(text)) => return Ok(json!([option(text, node)?])),
            (Kind::Options, Content::List(lines)) => {
                let lines = lines.iter().map(|line| self.option_line(line)).collect::<Result<Vec<_>, _>>()?;
                Some(json!(lines))
            }
            _ => None,
        };
        value.ok_or_else(|| self.unexpected(label, node))
    }

    /// The setting with a value, as it can be written where the label is from.
    fn example(&self, label: &str, value: &str) -> String {
        if label.starts_with('-') { format!("`{label} {value}`") } else { format!("`{label}: {value}`") }
    }

    fn name(&self, label: &str, text: &str, node: &Node) -> Result<Json, Diagnostic> {
        let is_strange = |character: char| character.is_whitespace() || "'\"`\\#;&|<>$".contains(character);
        if let Some(strange) = text.chars().find(|character| is_strange(*character)) {
            let message = format!("`{label}` cannot be {}: a name cannot contain {strange:?}", quoted(text));
            return Err(Diagnostic::at(
                node.place,
                message,
                format!("for example {}", self.example(label, self.example)),
            ));
        }
        if self.name == "gpu_type" && text.contains([':', ',', '=']) {
            let meant = text.trim_start_matches("gpu:").split([':', ',', '=']).next().unwrap_or_default();
            let example = self.example(label, if meant.is_empty() { self.example } else { meant });
            let message = format!("`{label}` cannot be {}", quoted(text));
            return Err(Diagnostic::at(node.place, message, format!("give only the type, as in {example}")));
        }
        self.line(label, text, node)
    }

    /// A text that is safe in a line of its own.
    fn line(&self, label: &str, text: &str, node: &Node) -> Result<Json, Diagnostic> {
        let text = text.trim();
        if text.is_empty() {
            let example = self.example(label, self.example);
            let help = format!("remove it, or give {}, as in {example}", self.kind.expects());
            return Err(Diagnostic::at(node.place, format!("`{label}` is empty"), help));
        }
        if let Some(control) = text.chars().find(|character| character.is_control()) {
            let message = format!("`{label}` must be on one line, found {control:?}");
            return Err(Diagnostic::at(node.place, message, "write it on one line, without a leading `|` or `>`"));
        }
        Ok(json!(text))
    }

    fn shell_line(&self, node: &Node) -> Result<String, Diagnostic> {
        match &node.content {
            Content::Text(text) => shell(text, node).map(str::to_string),
            other => {
                let message = format!("a line of `{}` must be a text, found {}", self.name, other.found());
                Err(Diagnostic::at(node.place, message, "put it in quotes, as in `- \"module load openmpi: 4\"`"))
            }
        }
    }

    fn option_line(&self, node: &Node) -> Result<String, Diagnostic> {
        match &node.content {
            Content::Text(text) => option(text, node),
            other => {
                let message = format!("a line of `{}` must be an option of sbatch, found {}", self.name, other.found());
                Err(Diagnostic::at(node.place, message, format!("for example `{}: {}`", self.name, self.example)))
            }
        }
    }

    fn unexpected(&self, label: &str, node: &Node) -> Diagnostic {
        let message = format!("`{label}` must be {}, found {}", self.kind.expects(), node.content.found());
        let example = format!("for example {}", self.example(label, self.example));
        let help = match (self.kind, &node.content) {
            (Kind::Word(words), Content::Text(text)) => {
                nearest(text, words.iter().copied()).map_or(example, did_you_mean)
            }
            (Kind::Launcher, Content::Text(text)) => nearest(text, launcher::names()).map_or(example, did_you_mean),
            (Kind::Truth, Content::Text(text)) => match text.to_lowercase().as_str() {
                "yes" | "y" | "on" => "did you mean `true`?".to_string(),
                "no" | "n" | "off" => "did you mean `false`?".to_string(),
                _ => example,
            },
            (Kind::Name | Kind::Line, Content::Whole(number)) => {
                format!("put it in quotes, as in `{}: \"{number}\"`", self.name)
            }
            (Kind::Name | Kind::Line, Content::Real(_) | Content::Truth(_) | Content::List(_) | Content::Map(_)) => {
                format!("put it in quotes if this is the name; {example}")
            }
            _ => example,
        };
        Diagnostic::at(node.place, message, help)
    }
}

impl Kind {
    /// Describes the values of the key, as part of a sentence.
    pub fn expects(self) -> String {
        match self {
            Kind::Word(words) => format!("one of {}", listed(words.iter().copied())),
            Kind::Launcher => format!("{}, or a command with `{{ranks}}`", listed(launcher::names())),
            Kind::Name => "a name".to_string(),
            Kind::Line => "a text".to_string(),
            Kind::Whole { min, max } => format!("a whole number from {min} to {}", grouped(max.into())),
            Kind::Truth => "`true` or `false`".to_string(),
            Kind::Time => "minutes, or a time such as `4:00:00` or `1-12:00:00`".to_string(),
            Kind::Memory => "a whole number, optionally followed by `K`, `M`, `G` or `T`".to_string(),
            Kind::Shell => "shell commands".to_string(),
            Kind::Options => "a list of sbatch options".to_string(),
        }
    }
}

/// Checks the command of a launcher.
fn command(label: &str, text: &str, node: &Node) -> Result<Json, Diagnostic> {
    match Template::parse(text) {
        Ok(_) => Ok(json!(text)),
        Err(error) => {
            Err(Diagnostic::at(node.place, format!("`{label}`: {}", error.message), error.help.unwrap_or_default()))
        }
    }
}

fn did_you_mean(word: &str) -> String {
    format!("did you mean `{word}`?")
}

fn shell<'a>(text: &'a str, node: &Node) -> Result<&'a str, Diagnostic> {
    match text.contains('\0') {
        true => Err(Diagnostic::at(node.place, "`setup` contains a zero byte", "remove `\\0`")),
        false => Ok(text),
    }
}

/// Checks the form of an option of sbatch; the scheduler knows which ones it accepts.
fn option(text: &str, node: &Node) -> Result<String, Diagnostic> {
    let fault = |message: String, help: String| Err(Diagnostic::at(node.place, message, help));
    let line = text.trim();
    if let Some(control) = line.chars().find(|character| character.is_control()) {
        let message = format!("an option of sbatch must be on one line, found {control:?}");
        return fault(message, "write a list: one option per line, each after `- `".to_string());
    }
    if let Some(option) = line.strip_prefix("#SBATCH") {
        let message = format!("{} is a line of a script, not an option", quoted(line));
        return fault(message, format!("remove `#SBATCH`: `\"{}\"`", option.trim()));
    }
    let is_option = line.strip_prefix('-').is_some_and(|rest| rest.starts_with(|next: char| next != ' '));
    if !is_option || line == "--" {
        let message = format!("an option of sbatch must begin with `-`, found {}", quoted(text));
        return fault(message, "for example `sbatch: [--exclusive]`".to_string());
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
