//! The command qsub: the options in a script, and the variables that it passes to jobs.
//!
//! An array of PBS has at least two tasks, so a single task is a job that is not an array. An option in a script could not be
//! removed for it on the command line. Therefore all options of a script are given on the command line, and qsub does not read
//! the script.

use std::env;
use std::process::Command;

use super::job;
use crate::batch::scheduler::{ToSubmit, Variables};

/// The beginning of the lines of a script with options.
pub(super) const PREFIX: &str = "#PBS ";
/// The beginning of the option for an array.
pub(super) const ARRAY: &str = "-J ";
/// The beginning of the memory of a chunk.
pub(super) const CHUNK_MEMORY: &str = "mem=";

/// The index of a task, as a word of the shell.
pub(super) const INDEX: &str = "${PBS_ARRAY_INDEX:-$WINSIGN_TASK}";
/// The variable with the index of a task that is not in an array.
pub(super) const TASK: &str = "WINSIGN_TASK";
/// The variable with the megabytes on each node, of a job that has more than its script requests.
pub(super) const MEMORY: &str = "WINSIGN_MEMORY";
/// The variable with the reason why a job is held. PBS lets only operators write the comment of a job.
pub(super) const HELD: &str = "WINSIGN_HELD";

/// Returns the command that submits tasks of an array; it reads the script from its standard input.
pub(super) fn command(submitted: &ToSubmit) -> Command {
    let mut command = Command::new("qsub");
    command.args(["-C", ""]).args(arguments(submitted)).current_dir(submitted.directory);
    command
}

fn arguments(submitted: &ToSubmit) -> Vec<String> {
    let ToSubmit { script, tasks, after, held, memory, .. } = submitted;
    let is_array = tasks.len() > 1;
    let mut arguments = vec![];
    for option in script.lines().filter_map(|line| line.strip_prefix(PREFIX)) {
        let option = memory.map_or(option.to_string(), |megabytes| with_memory(option, megabytes));
        match option.starts_with(ARRAY) {
            true if is_array => arguments.extend(["-J".to_string(), tasks.to_string()]),
            true => {}
            false if !is_array && option.starts_with("-W max_run_subjobs") => {}
            false => arguments.extend(shlex::split(&option).unwrap_or(vec![option])),
        }
    }
    if !after.is_empty() {
        // A task cannot be waited for, only its array.
        let arrays = Vec::from_iter(job::arrays(after)).join(":");
        arguments.extend(["-W".to_string(), format!("depend=afterany:{arrays}")]);
    }
    if held.is_some() {
        arguments.push("-h".to_string());
    }
    let task = tasks.last().filter(|_| !is_array).map(|task| format!("{TASK}={task}"));
    let memory = memory.map(|megabytes| format!("{MEMORY}={megabytes}"));
    let held = held.map(|reason| format!("{HELD}=\"{}\"", plain(reason)));
    let variables: Vec<String> = task.into_iter().chain(memory).chain(held).collect();
    if !variables.is_empty() {
        arguments.extend(["-v".to_string(), variables.join(",")]);
    }
    arguments
}

/// Returns an option with another amount of memory in its chunks; it is unchanged if it has none.
fn with_memory(option: &str, megabytes: u64) -> String {
    if !option.starts_with("-l select=") {
        return option.to_string();
    }
    let resources = option.split(':').filter(|resource| !resource.starts_with(CHUNK_MEMORY)).collect::<Vec<_>>();
    format!("{}:{CHUNK_MEMORY}{megabytes}mb", resources.join(":"))
}

/// Returns a text without the characters that qsub treats specially in values.
fn plain(text: &str) -> String {
    let is_special = |character: char| character.is_control() || "\"'\\".contains(character);
    text.chars().map(|character| if is_special(character) { ' ' } else { character }).collect()
}

/// Sorts the variables of this process that qsub reads. Directives are not read, so their prefix does not matter.
pub(super) fn variables() -> Variables {
    let set = |names: &[&str]| -> Vec<String> {
        names.iter().filter_map(|name| Some(format!("{name}={}", env::var(name).ok()?))).collect()
    };
    Variables { used: set(&["PBS_DEFAULT", "PBS_SERVER"]), ignored: set(&["PBS_DPREFIX"]) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::batch::scheduler::JobTasks;
    use crate::batch::tasks::Tasks;

    const SCRIPT: &str = "#!/bin/bash\n#PBS -N a.b.0\n#PBS -J 0-12\n#PBS -W max_run_subjobs=3\n\
                          #PBS -l select=1:ncpus=2:mem=4gb\n#PBS -P \"my project\"\n\necho \"#PBS -h\"\n";

    fn submitted<'a>(tasks: &'a Tasks, after: &'a [JobTasks]) -> ToSubmit<'a> {
        let directory = Path::new("/");
        ToSubmit { script: SCRIPT, tasks, after, held: None, excluded: &[], memory: None, failed: None, directory }
    }

    #[test]
    fn options_of_the_script_are_arguments() {
        let after = [JobTasks::parse("7[].s"), JobTasks::parse("8[].s_1"), JobTasks::parse("8[].s_2")];
        let expected = "-N a.b.0 -J 4-6 -W max_run_subjobs=3 -l select=1:ncpus=2:mem=4gb -P";
        let arguments = arguments(&submitted(&Tasks::from(4..=6), &after));
        assert_eq!(arguments[..9].join(" "), expected);
        assert_eq!(arguments[9..], ["my project", "-W", "depend=afterany:7[].s:8[].s"]);
    }

    #[test]
    fn single_task_is_not_an_array() {
        let task = Tasks::from(5..=5);
        let single = ToSubmit { held: Some("a 'disk' is full, or so"), memory: Some(6144), ..submitted(&task, &[]) };
        let expected = ["-h", "-v", "WINSIGN_TASK=5,WINSIGN_MEMORY=6144,WINSIGN_HELD=\"a  disk  is full, or so\""];
        let arguments = arguments(&single);
        assert_eq!(arguments[..4], ["-N", "a.b.0", "-l", "select=1:ncpus=2:mem=6144mb"]);
        assert_eq!(arguments[6..], expected);
    }
}
