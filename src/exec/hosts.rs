//! The hosts on which runs are executed, from the command line or a hostfile.

use std::fs;
use std::path::Path;

use winsign_core::Diagnostic;
use winsign_core::diagnostic::Place;
use winsign_core::settings::MAX_JOBS;
use winsign_core::text;

/// A host and its number of slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    pub slots: u32,
}

const HELP: &str = "write `--hosts a:8,b:8` or `--hosts 'node[001-004]:8'`: hosts with the number of slots of each; \
                    `scontrol show hostnames LIST` prints the names in a list of Slurm";
/// The maximum number of hosts that one entry may name.
const MAX_HOSTS: usize = 10_000;

/// Parses `a:8,b:8`. A host without a number has one slot; the slots of a repeated host are added up. Names may have ranges,
/// as in `node[001-004,7]:8`, and `a*8` means `a:8`.
pub fn parse(text: &str) -> Result<Vec<Named>, Diagnostic> {
    let mut hosts = vec![];
    for part in split_list(text) {
        let (names, slots) = split_slots(part);
        add(&mut hosts, names, slots).map_err(|reason| Diagnostic::new(format!("--hosts: {reason}"), HELP))?;
    }
    check_users(&hosts)?;
    Ok(hosts)
}

/// Reads a hostfile, with one entry per line: `name slots=N` as in OpenMPI, or `name:N` as in MPICH; `#` starts a comment.
pub fn read(path: &Path) -> Result<Vec<Named>, Diagnostic> {
    let text = fs::read_to_string(path).map_err(|error| {
        Diagnostic::new(
            format!("cannot read the hostfile {}: {error}", path.display()),
            "give a file with one host per line",
        )
    })?;
    let text = text::with_newlines(&text);
    parse_file(&text).map_err(|error| error.in_file(&path.display().to_string(), &text))
}

fn parse_file(text: &str) -> Result<Vec<Named>, Diagnostic> {
    const HELP: &str = "write one host per line, as in `node1 slots=8` or `node1:8`";
    let mut hosts = vec![];
    for (number, line) in (1..).zip(text.lines()) {
        let wrong = |word: &str, message: String| {
            let start = line.find(word).unwrap_or_default();
            let column = line[..start].chars().count() + 1;
            Diagnostic::at(Place { line: number, column, start, end: start + word.len() }, message, HELP)
        };
        let entry = line.split('#').next().unwrap_or_default();
        // `slots = 8` is one word.
        let entry = entry.split('=').map(str::trim).collect::<Vec<_>>().join("=");
        let mut words = entry.split_whitespace();
        let Some(first) = words.next() else { continue };
        let (names, mut slots) = split_slots(first);
        for word in words {
            match word.split_once('=') {
                Some(("slots", count)) => slots = count,
                // OpenMPI's limit for oversubscription has no meaning here.
                Some(("max_slots" | "max-slots", _)) => {}
                Some((key, _)) if !line.contains(word) => return Err(wrong(key, format!("cannot parse `{word}`"))),
                _ => return Err(wrong(word, format!("cannot parse `{word}`"))),
            }
        }
        add(&mut hosts, names, slots).map_err(|reason| wrong(first, reason))?;
    }
    check_users(&hosts)?;
    match hosts.is_empty() {
        true => Err(Diagnostic::new("this file contains no hosts", HELP)),
        false => Ok(hosts),
    }
}

/// Fails if the hosts have different users, since mpirun takes one for all.
fn check_users(hosts: &[Named]) -> Result<(), Diagnostic> {
    let Some(other) = hosts.iter().find(|host| split_user(&host.name).0 != split_user(&hosts[0].name).0) else {
        return Ok(());
    };
    let message = format!("{} and {} have different users", hosts[0].name, other.name);
    Err(Diagnostic::new(message, "name the hosts without users, and the users in ~/.ssh/config"))
}

/// Splits `user@host` into the user, if any, and the host.
pub(crate) fn split_user(name: &str) -> (Option<&str>, &str) {
    name.split_once('@').map_or((None, name), |(user, host)| (Some(user), host))
}

/// Splits a list at the commas that are not in brackets.
fn split_list(text: &str) -> Vec<&str> {
    let mut parts = vec![];
    let (mut start, mut in_brackets) = (0, false);
    for (at, character) in text.char_indices() {
        match character {
            '[' => in_brackets = true,
            ']' => in_brackets = false,
            ',' if !in_brackets => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

/// Splits `a:8` or `a*8` into the name and the number of slots, which is 1 by default.
fn split_slots(entry: &str) -> (&str, &str) {
    entry.rsplit_once([':', '*']).unwrap_or((entry, "1"))
}

fn add(hosts: &mut Vec<Named>, names: &str, slots: &str) -> Result<(), String> {
    let slots: u32 = match slots.parse() {
        Ok(slots @ 1..=MAX_JOBS) => slots,
        _ => {
            return Err(format!(
                "'{}' is not a valid number of slots for {names}: must be 1 to {MAX_JOBS}",
                slots.escape_debug()
            ));
        }
    };
    for name in expand(names)? {
        if !is_valid(&name) {
            return Err(format!("'{}' is not a valid host name", name.escape_debug()));
        }
        match hosts.iter_mut().find(|host| host.name == name) {
            Some(host) => host.slots = (host.slots + slots).min(MAX_JOBS),
            None => hosts.push(Named { name, slots }),
        }
    }
    Ok(())
}

/// Returns true if a name, with or without a user as in `user@host`, has no characters with a meaning to mpirun, or to the
/// shell that ssh starts.
fn is_valid(name: &str) -> bool {
    let is_plain = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_alphanumeric())
            && word.chars().all(|character| character.is_ascii_alphanumeric() || "._-".contains(character))
    };
    let (user, host) = split_user(name);
    user.is_none_or(is_plain) && is_plain(host)
}

/// Returns the names in the form of Slurm: `node[01-03,7]` has four.
fn expand(names: &str) -> Result<Vec<String>, String> {
    let Some((before, rest)) = names.split_once('[') else { return Ok(vec![names.to_string()]) };
    let Some((ranges, after)) = rest.split_once(']') else {
        return Err(format!("'{}' has no closing bracket", names.escape_debug()));
    };
    let ends = expand(after)?;
    let mut expanded = vec![];
    for range in ranges.split(',') {
        let Some((width, numbers)) = parse_range(range.trim()) else {
            return Err(format!(
                "'{}' in '{}' is not a range such as 001-004",
                range.escape_debug(),
                names.escape_debug()
            ));
        };
        if numbers.len().saturating_mul(ends.len()) > MAX_HOSTS - expanded.len() {
            return Err(format!("'{}' has more than {MAX_HOSTS} hosts", names.escape_debug()));
        }
        for number in numbers {
            expanded.extend(ends.iter().map(|end| format!("{before}{number:0width$}{end}")));
        }
    }
    Ok(expanded)
}

/// Parses `7` or `001-004`: the number of digits, and the numbers.
fn parse_range(text: &str) -> Option<(usize, std::ops::Range<usize>)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |digits: &str| {
        let is_number = digits.len() <= 9 && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<u32>().ok())?
    };
    let (from, to) = (number(first)? as usize, number(last)? as usize);
    (from <= to).then_some((first.len(), from..to + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(hosts: &[(&str, u32)]) -> Vec<Named> {
        hosts.iter().map(|&(name, slots)| Named { name: name.to_string(), slots }).collect()
    }

    #[test]
    fn hosts_on_the_command_line_are_parsed() {
        assert_eq!(parse("a:8, b-1.site:2").unwrap(), named(&[("a", 8), ("b-1.site", 2)]));
        assert_eq!(parse("b,a:2,b").unwrap(), named(&[("b", 2), ("a", 2)]));
        for wrong in
            ["", "a:8,", "a:0", "a:x", "a:8:2", "-x:8", "a b:1", "a;rm:1", "a\nb", "'a':1", "a:-1", "a@b@c", "@a"]
        {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn ranges_of_slurm_are_expanded() {
        let names = |text: &str| parse(text).unwrap().into_iter().map(|host| host.name).collect::<Vec<_>>().join(" ");
        assert_eq!(names("node[001-003,7]"), "node001 node002 node003 node7");
        assert_eq!(names("r[1-2]n[09-10],b"), "r1n09 r1n10 r2n09 r2n10 b");
        assert_eq!(parse("n[1-2]:8,a*4").unwrap(), named(&[("n1", 8), ("n2", 8), ("a", 4)]));
        assert_eq!(parse("me@n[1-2]:8").unwrap(), named(&[("me@n1", 8), ("me@n2", 8)]));
        assert_eq!(parse("me@a,b").unwrap_err().message, "me@a and b have different users");
        for (wrong, reason) in [
            ("node[001-004", "'node[001-004' has no closing bracket"),
            ("node[4-1]", "'4-1' in 'node[4-1]' is not a range such as 001-004"),
            ("node[]", "'' in 'node[]' is not a range such as 001-004"),
            ("n[1-99999]", "'n[1-99999]' has more than 10000 hosts"),
            ("n[1-99][1-99][1-99]", "'n[1-99][1-99][1-99]' has more than 10000 hosts"),
        ] {
            let error = parse(wrong).unwrap_err();
            assert_eq!(error.message, format!("--hosts: {reason}"));
            assert!(error.help.unwrap().contains("`scontrol show hostnames LIST`"));
        }
    }

    #[test]
    fn hostfiles_are_parsed() {
        let text = "# the big ones\na slots=8 max_slots=16\n\nb   slots=4 # half of it\nc\nc\n";
        assert_eq!(parse_file(text).unwrap(), named(&[("a", 8), ("b", 4), ("c", 2)]));
        let other = "a:8\nb slots = 4 max_slots =9\nn[1-2] slots=3\n";
        let expected = named(&[("a", 8), ("b", 4), ("n1", 3), ("n2", 3)]);
        assert_eq!(parse_file(other).unwrap(), expected);
        assert_eq!(parse_file("me@c slots=2\n").unwrap(), named(&[("me@c", 2)]));
        let line = |text| parse_file(text).unwrap_err().in_file("hosts", text).to_string();
        let help = "help: write one host per line, as in `node1 slots=8` or `node1:8`";
        assert_eq!(line("a slots=8\nb port=22\n"), format!("hosts:2:3: cannot parse `port=22`; {help}"));
        assert_eq!(line("a  port = 22\n"), format!("hosts:1:4: cannot parse `port=22`; {help}"));
        let many = "hosts:1:1: 'many' is not a valid number of slots for a: must be 1 to 4096";
        assert_eq!(line("a slots=many"), format!("{many}; {help}"));
        assert_eq!(line("# none\n"), format!("hosts: this file contains no hosts; {help}"));
    }
}
