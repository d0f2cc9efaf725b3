//! The hosts on which runs are executed, from the command line, an OpenMPI hostfile or a Slurm allocation.

use std::fs;
use std::path::Path;
use std::process::Command;

use winsign_core::Diagnostic;
use winsign_core::diagnostic::Place;
use winsign_core::settings::MAX_JOBS;

/// A host, with its number of slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    pub slots: u32,
}

const FORM: &str = "write `--hosts a:8,b:8`: each host with the number of its slots";

/// Parses `a:8,b:8`. A host without a number has one slot; the slots of a repeated host are added up.
pub fn parse(text: &str) -> Result<Vec<Named>, Diagnostic> {
    let mut hosts = vec![];
    for part in text.split(',').map(str::trim) {
        let (name, slots) = part.split_once(':').unwrap_or((part, "1"));
        add(&mut hosts, name, slots).map_err(|reason| Diagnostic::new(format!("--hosts: {reason}"), FORM))?;
    }
    Ok(hosts)
}

/// Reads an OpenMPI hostfile: one line per host, `name slots=N`; `#` starts a comment.
pub fn read(path: &Path) -> Result<Vec<Named>, Diagnostic> {
    let text = fs::read_to_string(path).map_err(|error| {
        Diagnostic::new(
            format!("cannot read the hostfile {}: {error}", path.display()),
            "give a file with one host per line",
        )
    })?;
    parse_file(&text).map_err(|error| error.in_file(&path.display().to_string(), &text))
}

fn parse_file(text: &str) -> Result<Vec<Named>, Diagnostic> {
    const HELP: &str = "write one host per line, as in `node1 slots=8`";
    let mut hosts = vec![];
    for (number, line) in (1..).zip(text.lines()) {
        let wrong = |word: &str, message: String| {
            let start = line.find(word).unwrap_or_default();
            let column = line[..start].chars().count() + 1;
            Diagnostic::at(Place { line: number, column, start, end: start + word.len() }, message, HELP)
        };
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(name) = words.next() else { continue };
        let mut slots = "1";
        for word in words {
            match word.split_once('=') {
                Some(("slots", count)) => slots = count,
                // The limit for oversubscription in OpenMPI.
                Some(("max_slots" | "max-slots", _)) => {}
                _ => return Err(wrong(word, format!("cannot parse `{word}`"))),
            }
        }
        add(&mut hosts, name, slots).map_err(|reason| wrong(name, reason))?;
    }
    match hosts.is_empty() {
        true => Err(Diagnostic::new("this file contains no hosts", HELP)),
        false => Ok(hosts),
    }
}

fn add(hosts: &mut Vec<Named>, name: &str, slots: &str) -> Result<(), String> {
    // Characters with a meaning to mpirun, or to the shell that ssh starts, are not allowed.
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    if !name.starts_with(|first: char| first.is_ascii_alphanumeric()) || !name.chars().all(plain) {
        return Err(format!("'{}' is not a valid host name", name.escape_debug()));
    }
    let slots: u32 = match slots.parse() {
        Ok(slots @ 1..=MAX_JOBS) => slots,
        _ => {
            return Err(format!(
                "'{}' is not a valid number of slots for {name}: must be 1 to {MAX_JOBS}",
                slots.escape_debug()
            ));
        }
    };
    match hosts.iter_mut().find(|host| host.name == name) {
        Some(host) => host.slots = (host.slots + slots).min(MAX_JOBS),
        None => hosts.push(Named { name: name.to_string(), slots }),
    }
    Ok(())
}

/// Returns the nodes of the current Slurm allocation, if there are several and this is its only process.
pub fn of_allocation(threads: u32) -> Result<Option<Vec<Named>>, Diagnostic> {
    let number = |name| std::env::var(name).ok().and_then(|value: String| value.parse::<u32>().ok());
    if number("SLURM_JOB_NUM_NODES").is_none_or(|nodes| nodes < 2)
        || number("SLURM_STEP_NUM_TASKS").is_some_and(|tasks| tasks > 1)
    {
        return Ok(None);
    }
    let Ok(list) = std::env::var("SLURM_JOB_NODELIST") else { return Ok(None) };
    let refused = |reason: String| {
        let message = format!("cannot use the nodes of this Slurm allocation, {list}: {reason}");
        Diagnostic::new(message, "give the hosts with --hosts a:8,b:8, or use only this one with --hosts localhost:8")
    };
    let output = Command::new("scontrol").args(["show", "hostnames", &list]).output();
    let output = output.map_err(|error| refused(format!("cannot start `scontrol`: {error}")))?;
    if !output.status.success() {
        return Err(refused(format!("`scontrol show hostnames` failed: {}", output.status)));
    }
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let names: Vec<&str> = names.split_whitespace().collect();
    let counts = |name: &str| std::env::var(name).ok().and_then(|text| expand(&text));
    let (tasks, cores) = (counts("SLURM_TASKS_PER_NODE"), counts("SLURM_JOB_CPUS_PER_NODE"));
    let slots = allocated(tasks, cores, threads);
    let slots = slots.filter(|slots| slots.len() == names.len());
    let slots = slots.ok_or_else(|| {
        refused("the environment does not show how many cores of each node are allocated".to_string())
    })?;
    let hosts = names.iter().zip(slots).map(|(name, slots)| Named { name: name.to_string(), slots });
    Ok(Some(hosts.collect()))
}

/// Returns the slots of each node: the requested tasks, or, if no more than one was requested, as many as its cores allow.
fn allocated(tasks: Option<Vec<u32>>, cores: Option<Vec<u32>>, threads: u32) -> Option<Vec<u32>> {
    match (tasks, cores) {
        (Some(tasks), _) if tasks.iter().any(|&tasks| tasks > 1) => Some(tasks),
        (_, Some(cores)) => Some(cores.iter().map(|&cores| (cores / threads).clamp(1, MAX_JOBS)).collect()),
        (tasks, None) => tasks,
    }
}

/// Expands Slurm's `4(x2),3` to 4, 4, 3.
fn expand(text: &str) -> Option<Vec<u32>> {
    let mut counts = vec![];
    for part in text.trim().split(',') {
        let (count, times) = match part.split_once("(x") {
            Some((count, times)) => (count, times.strip_suffix(')')?.parse().ok()?),
            None => (part, 1),
        };
        counts.extend(std::iter::repeat_n(count.parse::<u32>().ok()?, times));
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(hosts: &[(&str, u32)]) -> Vec<Named> {
        hosts.iter().map(|&(name, slots)| Named { name: name.to_string(), slots }).collect()
    }

    #[test]
    fn hosts_are_named_on_the_command_line() {
        assert_eq!(parse("a:8, b-1.site:2").unwrap(), named(&[("a", 8), ("b-1.site", 2)]));
        assert_eq!(parse("b,a:2,b").unwrap(), named(&[("b", 2), ("a", 2)]));
        for wrong in ["", "a:8,", "a:0", "a:x", "a:8:2", "-x:8", "a b:1", "a;rm:1", "a\nb", "'a':1", "a:-1"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn hostfiles_are_those_of_openmpi() {
        let text = "# the big ones\na slots=8 max_slots=16\n\nb   slots=4 # half of it\nc\nc\n";
        assert_eq!(parse_file(text).unwrap(), named(&[("a", 8), ("b", 4), ("c", 2)]));
        let line = |text| parse_file(text).unwrap_err().in_file("hosts", text).to_string();
        let help = "help: write one host per line, as in `node1 slots=8`";
        assert_eq!(line("a slots=8\nb port=22\n"), format!("hosts:2:3: cannot parse `port=22`; {help}"));
        let many = "hosts:1:1: 'many' is not a valid number of slots for a: must be 1 to 4096";
        assert_eq!(line("a slots=many"), format!("{many}; {help}"));
        assert_eq!(line("# none\n"), format!("hosts: this file contains no hosts; {help}"));
    }

    #[test]
    fn slots_of_an_allocation_are_its_tasks_or_else_its_cores() {
        assert_eq!(expand("4(x2),3"), Some(vec![4, 4, 3]));
        assert_eq!(expand("16"), Some(vec![16]));
        assert_eq!(expand("4(x2,3"), None);
        assert_eq!(allocated(Some(vec![4, 2]), Some(vec![16, 16]), 1), Some(vec![4, 2]));
        assert_eq!(allocated(Some(vec![1, 1]), Some(vec![16, 15]), 2), Some(vec![8, 7]));
        assert_eq!(allocated(Some(vec![1, 1]), Some(vec![2, 2]), 8), Some(vec![1, 1]));
        assert_eq!(allocated(Some(vec![1, 1]), None, 8), Some(vec![1, 1]));
        assert_eq!(allocated(None, None, 1), None);
    }
}
