//! Maps error messages of Slurm to the settings that caused them.

use winsign_core::text::printable;
use winsign_sweep::yaml::{Diagnostic, quoted};

use super::Profile;
use super::keys::{self, Key};

/// Parts of a message of Slurm, in lower case, and the settings they refer to.
struct Refusal {
    words: &'static [&'static str],
    /// The possible causes: settings, or options in `sbatch`. The first that is given is taken.
    about: &'static [&'static str],
    help: &'static str,
}

const PARTITIONS: &str = "`sinfo -s` lists the partitions";
const ASSOCIATIONS: &str = "`sacctmgr show associations user=$USER format=account,partition,qos` lists yours";
const TIMES: &str = "`sinfo -o '%P %l'` shows the longest time of each partition";
const FEATURES: &str = "`sinfo -o '%P %f'` lists the features of nodes";
const GPUS: &str = "`sinfo -o '%P %G'` lists the GPUs of nodes";
const MEMORY: &str = "`sinfo -o '%P %m'` shows the memory of nodes in megabytes";
const NODES: &str = "request less, no node meets all requirements; `sinfo -o '%P %D %c %m %G %f'` shows the nodes";
const OPTIONS: &str = "`sbatch --help` lists the options of this Slurm";
const UNKNOWN: &str = "check the scripts with `winsign submit --dry-run`; the message is from Slurm";

/// The first whose words occur is taken: messages of Slurm 22 and later, then what plugins of a site may say.
#[rustfmt::skip]
const REFUSALS: &[Refusal] = &[
    Refusal { words: &["invalid partition", "no partition specified", "default partition"], about: &["partition"], help: PARTITIONS },
    Refusal { words: &["not permitted to use this partition", "partition not available"], about: &["partition", "account", "qos"], help: "`scontrol show partition` shows who may use each partition" },
    Refusal { words: &["invalid account"], about: &["account", "partition"], help: ASSOCIATIONS },
    Refusal { words: &["invalid qos"], about: &["qos"], help: ASSOCIATIONS },
    Refusal { words: &["time limit is invalid", "invalid time limit", "invalid --time"], about: &["time", "partition"], help: TIMES },
    Refusal { words: &["invalid feature", "invalid constraint"], about: &["constraint"], help: FEATURES },
    Refusal { words: &["invalid generic resource", "invalid gres", "invalid tres", "invalid trackable resource"], about: &["gpu_type", "--gres", "gpus_per_node", "partition"], help: GPUS },
    Refusal { words: &["memory specification", "invalid --mem"], about: &["memory", "--mem-per-cpu", "--mem-per-gpu"], help: MEMORY },
    // A type of GPU that no node has is not an invalid type.
    Refusal { words: &["configuration not available", "configuration is not available"], about: &["gpu_type", "--gres", "gpus_per_node", "constraint", "ranks_per_node", "memory", "--nodelist", "-w", "partition"], help: NODES },
    Refusal { words: &["more processors requested", "node count specification"], about: &["ranks_per_node", "gpus_per_node", "partition"], help: NODES },
    Refusal { words: &["job violates accounting/qos policy"], about: &["max_submit", "time", "qos", "account"], help: "lower `max_submit` or `time`; a limit of the site is exceeded" },
    Refusal { words: &["--signal"], about: &["grace"], help: "check `grace`, the seconds passed to `sbatch --signal`" },
    Refusal { words: &["mpi plugin", "mpi type", "--mpi"], about: &["mpi"], help: "`srun --mpi=list` lists the available types" },
    Refusal { words: &["reservation"], about: &["--reservation"], help: "`scontrol show reservation` lists the reservations" },
    Refusal { words: &["license"], about: &["--licenses", "-L"], help: "`scontrol show licenses` lists the licenses" },
    Refusal { words: &["node name"], about: &["--nodelist", "-w", "--exclude", "-x"], help: "`sinfo -N` lists the nodes" },
    Refusal { words: &["partition"], about: &["partition"], help: PARTITIONS },
    Refusal { words: &["account"], about: &["account"], help: ASSOCIATIONS },
    Refusal { words: &["qos"], about: &["qos"], help: ASSOCIATIONS },
    Refusal { words: &["time limit", "timelimit", "walltime"], about: &["time"], help: TIMES },
    Refusal { words: &["memory"], about: &["memory", "--mem-per-cpu", "--mem-per-gpu"], help: MEMORY },
    Refusal { words: &["gres", "gpu"], about: &["gpu_type", "--gres", "gpus_per_node"], help: GPUS },
    Refusal { words: &["feature", "constraint"], about: &["constraint"], help: FEATURES },
];

/// The part of a job that Slurm rejects.
enum Cause {
    Setting(&'static Key),
    /// A line of `sbatch`.
    Line(usize),
    /// Nothing in the profile; perhaps a missing setting.
    Unsaid,
}

impl Profile {
    /// Returns the error for a job that Slurm rejected, with the message of Slurm, at the line of the setting that caused it.
    pub fn refused(&self, slurms_words: &str) -> Diagnostic {
        let words = essence(slurms_words);
        let (cause, help) = self.cause(&words);
        let places = &self.source.places;
        let (what, place) = match cause {
            Cause::Setting(key) => {
                let place = places.get(key.name).and_then(|places| places.first());
                (quoted(&self.as_given(key)), place)
            }
            Cause::Line(line) => (quoted(&self.sbatch[line]), places.get("sbatch").and_then(|places| places.get(line))),
            Cause::Unsaid => ("the job".to_string(), None),
        };
        let message = format!("Slurm rejected {what}: {words}");
        self.place(match place {
            Some(place) => Diagnostic::at(*place, message, help),
            None => Diagnostic::new(message, help),
        })
    }

    /// Returns the probable cause, and the help.
    fn cause(&self, words: &str) -> (Cause, String) {
        // An option that the message names.
        if let Some(line) = self.sbatch.iter().position(|line| names(words, option_of(line))) {
            return (Cause::Line(line), OPTIONS.to_string());
        }
        let words = words.to_lowercase();
        let Some(refusal) = REFUSALS.iter().find(|refusal| refusal.words.iter().any(|part| words.contains(part)))
        else {
            return (Cause::Unsaid, UNKNOWN.to_string());
        };
        let given = refusal.about.iter().find_map(|about| match keys::key(about) {
            Some(key) => self.gives(key.name).then_some(Cause::Setting(key)),
            None => self.sbatch.iter().position(|line| option_of(line) == *about).map(Cause::Line),
        });
        match (given, refusal.about) {
            (Some(cause), _) => (cause, refusal.help.to_string()),
            (None, [needed @ ("partition" | "account" | "qos" | "time"), ..]) => {
                let help = format!("set `{needed}` in a profile, it may be required; {}", refusal.help);
                (Cause::Unsaid, help)
            }
            (None, _) => (Cause::Unsaid, refusal.help.to_string()),
        }
    }

    /// A setting as the file or the command line has it.
    fn as_given(&self, key: &Key) -> String {
        let value = self.shown(key);
        match self.source.overridden.contains(key.name) {
            true => format!("--{} {value}", key.name.replace('_', "-")),
            false => format!("{}: {value}", key.name),
        }
    }
}

/// `--gres` of `--gres=gpu:4`, `-w` of `-wnode1`.
fn option_of(line: &str) -> &str {
    let end = match line.starts_with("--") {
        true => line.find(['=', ' ']),
        false => line.char_indices().nth(2).map(|(end, _)| end),
    };
    &line[..end.unwrap_or(line.len())]
}

/// Whether a message names an option. Those of a single letter appear as `invalid option -- 'Z'`.
fn names(words: &str, option: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '-';
    let stands_alone = |(start, _): (usize, &str)| {
        !words[..start].ends_with(is_part) && !words[start + option.len()..].starts_with(is_part)
    };
    match option.starts_with("--") {
        true => words.match_indices(option).any(stands_alone),
        false => words.contains(&format!("option -- '{}'", option.trim_start_matches('-'))),
    }
}

/// Returns the message of Slurm on one line, without its common prefixes.
fn essence(words: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in words.lines() {
        let mut line = line.trim();
        for prefix in ["sbatch:", "srun:", "error:", "fatal:", "Batch job submission failed:"] {
            line = line.strip_prefix(prefix).unwrap_or(line).trim_start();
        }
        let line = printable(line);
        if !line.is_empty() && !line.starts_with("Try ") && !lines.contains(&line) {
            lines.push(line);
        }
    }
    if lines.is_empty() { "no reason given".to_string() } else { lines.join("; ") }
}
