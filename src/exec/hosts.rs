//! The hosts on which runs are executed, from the command line or an OpenMPI hostfile.

use std::fs;
use std::path::Path;

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
}
