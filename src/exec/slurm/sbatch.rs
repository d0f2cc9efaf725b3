//! The command sbatch: the options in a script, and the variables that sbatch reads.
//!
//! sbatch takes an option from its command line first, then from a variable, and from a line of the script last. The lines
//! of a script are therefore also given on the command line, and variables that contradict them are removed.

use std::env;
use std::process::Command;

use winsign_core::text::{printable, shell_word};

use super::client;
use crate::batch::failed_nodes::{self, FailedNodes};
use crate::batch::scheduler::{JobTasks, ToSubmit, Variables};

/// Variables that sbatch reads, and the options of a script that replace them. What depends on the runs is set by every
/// script, and needs no option here: [`OF_RUNS`].
const REPLACED: &[(&str, &[&str])] = &[
    ("SBATCH_ACCOUNT", &["--account", "-A"]),
    ("SBATCH_CONSTRAINT", &["--constraint", "-C"]),
    ("SBATCH_EXCLUSIVE", &["--exclusive", "--oversubscribe", "-s"]),
    ("SBATCH_EXPORT", &["--export", "--export-file"]),
    ("SBATCH_GET_USER_ENV", &["--get-user-env"]),
    ("SBATCH_GRES", &["--gres"]),
    ("SBATCH_HINT", &["--hint"]),
    ("SBATCH_MEM_PER_CPU", &["--mem"]),
    ("SBATCH_MEM_PER_GPU", &["--mem"]),
    ("SBATCH_MEM_PER_NODE", &["--mem", "--mem-per-cpu", "--mem-per-gpu"]),
    ("SBATCH_NO_KILL", &["--no-kill", "-k"]),
    ("SBATCH_PARTITION", &["--partition", "-p"]),
    ("SBATCH_QOS", &["--qos", "-q"]),
    ("SBATCH_RESERVATION", &["--reservation"]),
    ("SBATCH_TIMELIMIT", &["--time", "-t"]),
    ("SBATCH_WCKEY", &["--wckey"]),
];

/// Variables for what winsign itself decides from the runs, or needs.
const OF_RUNS: &[&str] = &[
    "SBATCH_ARRAY_INX",
    "SBATCH_BATCH",
    "SBATCH_CLUSTERS",
    "SBATCH_CPUS_PER_GPU",
    "SBATCH_ERROR",
    "SBATCH_GPUS",
    "SBATCH_GPUS_PER_NODE",
    "SBATCH_GPUS_PER_SOCKET",
    "SBATCH_GPUS_PER_TASK",
    "SBATCH_IGNORE_PBS",
    "SBATCH_INPUT",
    "SBATCH_JOB_NAME",
    "SBATCH_NO_REQUEUE",
    "SBATCH_OPEN_MODE",
    "SBATCH_OUTPUT",
    "SBATCH_OVERCOMMIT",
    "SBATCH_REQUEUE",
    "SBATCH_SIGNAL",
    "SBATCH_WAIT",
    "SLURM_CLUSTERS",
    "SLURM_CPUS_PER_TASK",
    "SLURM_HOSTFILE",
    "SLURM_NPROCS",
    "SLURM_NTASKS",
    "SLURM_NTASKS_PER_CORE",
    "SLURM_NTASKS_PER_GPU",
    "SLURM_NTASKS_PER_NODE",
    "SLURM_NTASKS_PER_SOCKET",
    "SLURM_OPEN_MODE",
];

/// Returns the command that submits tasks of an array; it reads the script from its standard input.
pub(super) fn command(submitted: &ToSubmit) -> Command {
    let mut command = Command::new("sbatch");
    command.arg("--parsable").args(arguments(submitted)).current_dir(submitted.directory);
    for variable in failed_nodes::VARIABLES {
        command.env_remove(variable);
    }
    let options = options_of(submitted.script);
    for variable in env::vars_os().filter_map(|(name, _)| name.into_string().ok()) {
        if is_removed(&variable, &options) {
            command.env_remove(variable);
        }
    }
    command
}

/// Returns the script with the tasks that are submitted and the nodes on which they have failed. The nodes are lines of the script,
/// since `--export=NONE` drops variables of the environment.
pub(super) fn script(submitted: &ToSubmit) -> String {
    const ARRAY: &str = "#SBATCH --array=";
    let mut text = String::new();
    let mut variables: Vec<_> = submitted.failed.into_iter().flat_map(FailedNodes::variables).collect();
    for line in submitted.script.lines() {
        // sbatch reads its options from the lines before the first command.
        if !line.starts_with('#') {
            for (name, value) in variables.drain(..) {
                text += &format!("export {name}={}\n", shell_word(&printable(&value)));
            }
        }
        match line.strip_prefix(ARRAY) {
            Some(array) => {
                let at_once = array.split_once('%').map(|(_, at_once)| format!("%{at_once}")).unwrap_or_default();
                text += &format!("{ARRAY}{}{at_once}", submitted.tasks);
            }
            None => text += line,
        }
        text.push('\n');
    }
    text
}

fn arguments(submitted: &ToSubmit) -> Vec<String> {
    let ToSubmit { script: _, tasks: _, after, held, excluded, memory, failed, directory: _ } = submitted;
    let mut arguments = options_of(&script(submitted));
    if let Some(megabytes) = memory {
        arguments.retain(|argument| !argument.starts_with("--mem="));
        arguments.push(format!("--mem={megabytes}M"));
    }
    if !after.is_empty() {
        let jobs: Vec<String> = after.iter().map(JobTasks::to_string).collect();
        arguments.push(format!("--dependency=afterany:{}", jobs.join(":")));
    }
    if held.is_some() {
        arguments.push("--hold".to_string());
    }
    arguments.extend(failed.map(|failed| format!("--comment={}", client::comment_on(failed))));
    if !excluded.is_empty() {
        // The last such option replaces the others.
        let nodes: Vec<&str> = excluded_nodes(&arguments).chain(excluded.iter().map(String::as_str)).collect();
        arguments.push(format!("--exclude={}", nodes.join(",")));
    }
    arguments
}

/// Returns the lists of nodes in `--exclude=n1,n2`, `--exclude n1`, `-x n1` and `-xn1`.
pub(super) fn excluded_nodes(arguments: &[String]) -> impl Iterator<Item = &str> {
    arguments.iter().enumerate().filter_map(|(at, argument)| match argument.as_str() {
        "--exclude" | "-x" => arguments.get(at + 1).map(String::as_str),
        _ => argument.strip_prefix("--exclude=").or(argument.strip_prefix("-x")),
    })
}

/// Returns the options of a script, without the quotes of its lines.
fn options_of(script: &str) -> Vec<String> {
    let lines = script.lines().filter_map(|line| line.strip_prefix("#SBATCH "));
    lines.flat_map(|line| shlex::split(line).unwrap_or_else(|| vec![line.to_string()])).collect()
}

/// Sorts the variables of this process that begin with `SBATCH_`.
pub(super) fn variables(script: &str) -> Variables {
    let options = options_of(script);
    let of_sbatch = env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let mut sorted = Variables::default();
    for (name, value) in of_sbatch.filter(|(name, _)| name.starts_with("SBATCH_")) {
        let variable = format!("{name}={}", value.to_string_lossy());
        match is_removed(&name, &options) {
            true => sorted.ignored.push(variable),
            false => sorted.used.push(variable),
        }
    }
    sorted.used.sort();
    sorted.ignored.sort();
    sorted
}

/// Returns true if sbatch must not read a variable.
fn is_removed(variable: &str, options: &[String]) -> bool {
    // A job must not pass on its own variables when it submits another.
    let of_this_job = variable.starts_with("SLURM_") && env::var_os("SLURM_JOB_ID").is_some();
    let needed = super::client::NEEDED_VARIABLES.contains(&variable);
    let has = |name: &&str| options.iter().any(|option| is_named(option, name));
    let is_replaced = REPLACED.iter().any(|(known, by)| *known == variable && by.iter().any(has));
    (of_this_job && !needed) || OF_RUNS.contains(&variable) || is_replaced
}

/// Returns true if a word of a command line is an option with this name, such as `-p` in `-pgpu`, and `--mem` in `--mem=4G`.
fn is_named(option: &str, name: &str) -> bool {
    match name.starts_with("--") {
        true => option.split('=').next() == Some(name),
        false => option.starts_with(name) && !option.starts_with("--"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::batch::failed_nodes::{FailedNode, Proof};
    use crate::batch::tasks::Tasks;

    const SCRIPT: &str = "#!/bin/bash\n#SBATCH --array=0-12%3\n#SBATCH --mem=4G\n#SBATCH --comment=\"a \\\"b\\\" # c\"\n\
                          #SBATCH --exclude=n1 --exclusive -p gpu\n\necho \"#SBATCH\"\n";

    #[test]
    fn options_of_the_script_are_arguments() {
        let submitted = ToSubmit {
            script: SCRIPT,
            tasks: &Tasks::from(4..=6),
            after: &[JobTasks::parse("7"), JobTasks::parse("8_1")],
            held: Some("for a test"),
            excluded: &["n2".to_string()],
            memory: Some(6144),
            failed: None,
            directory: Path::new("/"),
        };
        let expected = [
            "--array=4-6%3",
            "--comment=a \"b\" # c",
            "--exclude=n1",
            "--exclusive",
            "-p",
            "gpu",
            "--mem=6144M",
            "--dependency=afterany:7:8_1",
            "--hold",
            "--exclude=n1,n2",
        ];
        assert_eq!(arguments(&submitted), expected);
    }

    #[test]
    fn failed_nodes_are_lines_after_the_options() {
        let failed = FailedNodes {
            nodes: vec![FailedNode::parse("n1:100"), FailedNode::parse("n2:200")],
            reason: "cannot use \n the 'store'".to_string(),
            proof: Proof::Completion,
        };
        let submitted = ToSubmit {
            script: SCRIPT,
            tasks: &Tasks::from(4..=4),
            after: &[],
            held: None,
            excluded: &[],
            memory: None,
            failed: Some(&failed),
            directory: Path::new("/"),
        };
        let text = script(&submitted);
        assert_eq!(options_of(&text)[..3], ["--array=4%3", "--mem=4G", "--comment=a \"b\" # c"]);
        let shown = format!("{text}\nprintf '%s;' \"$WINSIGN_FAILED_NODES\" \"$WINSIGN_NODE_KILLS\"");
        let ran = Command::new("env").args(["-i", "bash", "-c", &shown]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&ran.stdout), "#SBATCH\nn1:100,n2:200;cannot use \\n the 'store';");
        let head: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        assert_eq!(head.len(), 5, "{text}");
    }

    #[test]
    fn excluded_nodes_of_every_spelling_are_kept() {
        let arguments = ["--exclude=n1,n2", "--exclude", "n3", "--exclusive", "-x", "n4", "-xn5"].map(str::to_string);
        assert_eq!(excluded_nodes(&arguments).collect::<Vec<_>>(), ["n1,n2", "n3", "n4", "n5"]);
    }

    #[test]
    fn only_variables_without_an_option_are_read() {
        let options = options_of(SCRIPT);
        for removed in ["SBATCH_PARTITION", "SBATCH_MEM_PER_CPU", "SBATCH_EXCLUSIVE", "SBATCH_WAIT", "SLURM_CLUSTERS"] {
            assert!(is_removed(removed, &options), "{removed}");
        }
        for kept in ["SBATCH_ACCOUNT", "SBATCH_TIMELIMIT", "SBATCH_EXPORT", "SLURM_CONF", "PATH"] {
            assert!(!is_removed(kept, &options), "{kept}");
        }
    }
}
