//! What Slurm says when it refuses a job, and which setting it means.

use super::Profile;
use super::keys::{self, Key};
use crate::study::yaml::{Fault, FileError, listed, printable, quoted};

/// Words of Slurm's, in lower case, and what they are about.
struct Refusal {
    words: &'static [&'static str],
    /// What can be meant: settings, or options in `sbatch`; it is the first of them that is given.
    about: &'static [&'static str],
    help: &'static str,
}

/// The first whose words occur is taken: Slurm's own messages, then words that plugins of a site may use.
const REFUSALS: &[Refusal] = &[
    Refusal {
        words: &["invalid partition", "no partition specified", "default partition"],
        about: &["partition"],
        help: "`sinfo -s` lists the partitions",
    },
    Refusal {
        words: &["not permitted to use this partition", "partition not available"],
        about: &["partition", "account", "qos"],
        help: "`scontrol show partition` says who may use each",
    },
    Refusal {
        words: &["invalid account"],
        about: &["account", "partition"],
        help: "`sacctmgr show associations user=$USER format=account,partition,qos` lists yours",
    },
    Refusal {
        words: &["invalid qos"],
        about: &["qos"],
        help: "`sacctmgr show associations user=$USER format=account,partition,qos` lists yours",
    },
    Refusal {
        words: &["time limit is invalid", "invalid time limit", "invalid --time"],
        about: &["time", "partition"],
        help: "`sinfo -o '%P %l'` shows the longest time of each partition",
    },
    Refusal {
        words: &["invalid feature", "invalid constraint"],
        about: &["constraint"],
        help: "`sinfo -o '%P %f'` lists the features of nodes",
    },
    Refusal {
        words: &["invalid generic resource", "invalid gres", "invalid tres", "invalid trackable resource"],
        about: &["gpu_type", "--gres", "gpus_per_node", "partition"],
        help: "`sinfo -o '%P %G'` lists the GPUs of nodes",
    },
    Refusal {
        words: &["memory specification", "invalid --mem", "--mem "],
        about: &["memory", "--mem-per-cpu", "--mem-per-gpu"],
        help: "`sinfo -o '%P %m'` shows the megabytes of nodes",
    },
    Refusal {
        words: &["configuration not available", "configuration is not available", "node count specification"],
        about: &[
            "constraint",
            "gpu_type",
            "gpus_per_node",
            "ranks_per_node",
            "memory",
            "partition",
            "--nodelist",
            "-w",
        ],
        help: "no node has all that is asked for: `sinfo -o '%P %D %c %m %G %f'` shows what they have",
    },
    Refusal {
        words: &["job violates accounting/qos policy", "maxsubmit", "job count limit", "array size"],
        about: &["max_submit", "time", "qos", "account"],
        help: "a limit of the site: `max_submit` keeps fewer jobs in the queue, `time` makes them shorter",
    },
    Refusal { words: &["--signal"], about: &["grace"], help: "seconds, up to 65,535" },
    Refusal {
        words: &["mpi plugin", "name for mpi", "--mpi"],
        about: &["mpi"],
        help: "`srun --mpi=list` shows what there is",
    },
    Refusal {
        words: &["reservation"],
        about: &["--reservation"],
        help: "`scontrol show reservation` lists those that there are",
    },
    Refusal { words: &["license"], about: &["--licenses", "-L"], help: "`scontrol show licenses` lists them" },
    Refusal {
        words: &["node name"],
        about: &["--nodelist", "-w", "--exclude", "-x"],
        help: "`sinfo -N` lists the nodes",
    },
    Refusal { words: &["partition"], about: &["partition"], help: "`sinfo -s` lists the partitions" },
    Refusal { words: &["account"], about: &["account"], help: "`sacctmgr show associations user=$USER` lists yours" },
    Refusal { words: &["qos"], about: &["qos"], help: "`sacctmgr show qos` lists them" },
    Refusal {
        words: &["time limit", "timelimit", "walltime"],
        about: &["time"],
        help: "`sinfo -o '%P %l'` shows the longest time of each partition",
    },
    Refusal { words: &["memory"], about: &["memory"], help: "`sinfo -o '%P %m'` shows the megabytes of nodes" },
    Refusal {
        words: &["gres", "gpu"],
        about: &["gpu_type", "--gres", "gpus_per_node"],
        help: "`sinfo -o '%P %G'` lists the GPUs of nodes",
    },
    Refusal {
        words: &["feature", "constraint"],
        about: &["constraint"],
        help: "`sinfo -o '%P %f'` lists the features of nodes",
    },
];

const NOTHING_KNOWN: &str = "the words are Slurm's; `winsign submit --dry-run` shows what it was given";

impl Profile {
    /// Slurm's refusal of a job, told in its own words, at the line of the setting that it is about.
    pub fn refused(&self, slurms_words: &str) -> FileError {
        let words = essence(slurms_words);
        let lower = words.to_lowercase();
        if let Some(line) = self.option_in(&words) {
            let help = "`sbatch --help` lists the options of this Slurm";
            return self.refusal_of_line(line, &words, help);
        }
        let Some(refusal) = REFUSALS.iter().find(|refusal| refusal.words.iter().any(|part| lower.contains(part)))
        else {
            return self.refusal(None, &words, NOTHING_KNOWN.to_string());
        };
        for about in refusal.about {
            if let Some(line) = self.line_with_option(about) {
                return self.refusal_of_line(line, &words, refusal.help);
            }
            if let Some(key) = keys::key(about).filter(|key| self.gives(key.name)) {
                return self.refusal(Some(key), &words, refusal.help.to_string());
            }
        }
        let help = match refusal.about.first().and_then(|about| keys::key(about)) {
            Some(key) => format!(
                "no {} is given; {}, then `{}: …` in a profile names one",
                listed([key.name]),
                refusal.help,
                key.name
            ),
            None => refusal.help.to_string(),
        };
        self.refusal(None, &words, help)
    }

    fn refusal(&self, key: Option<&Key>, words: &str, help: String) -> FileError {
        let Some(key) = key else {
            return self.place(self.fault("", format!("Slurm refuses the job: {words}"), help));
        };
        let value = self.shown(key);
        let given = match self.source.overridden.contains(key.name) {
            true => format!("--{} {value}", key.name.replace('_', "-")),
            false => format!("{}: {value}", key.name),
        };
        self.place(self.fault(key.name, format!("Slurm refuses {}: {words}", quoted(&given)), help))
    }

    fn refusal_of_line(&self, line: usize, words: &str, help: &str) -> FileError {
        let message = format!("Slurm refuses {}: {words}", quoted(&self.sbatch[line]));
        let places = self.source.places.get("sbatch");
        let fault = match places.and_then(|places| places.get(line)) {
            Some(place) => Fault::at(*place, message, help),
            None => Fault::new(message, help),
        };
        self.place(fault)
    }

    /// The line of `sbatch` with an option that Slurm's words name.
    fn option_in(&self, words: &str) -> Option<usize> {
        self.sbatch.iter().position(|line| names(words, option_of(line)))
    }

    fn line_with_option(&self, option: &str) -> Option<usize> {
        option.starts_with('-').then(|| self.sbatch.iter().position(|line| option_of(line) == option))?
    }
}

/// `--gres` of `--gres=gpu:4`.
fn option_of(line: &str) -> &str {
    let end =
        if line.starts_with("--") { line.find(['=', ' ']) } else { line.char_indices().nth(2).map(|(end, _)| end) };
    &line[..end.unwrap_or(line.len())]
}

/// Whether words are about an option. Those without a name are called `invalid option -- 'Z'`.
fn names(words: &str, option: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '-';
    let stands_alone = |(start, _): (usize, &str)| {
        !words[..start].ends_with(is_part) && !words[start + option.len()..].starts_with(is_part)
    };
    match option.strip_prefix("--") {
        Some(_) => words.match_indices(option).any(stands_alone),
        None => words.contains(&format!("option -- '{}'", option.trim_start_matches('-'))),
    }
}

/// What Slurm says without what it says every time, in one line.
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
    if lines.is_empty() { "it does not say why".to_string() } else { lines.join("; ") }
}
