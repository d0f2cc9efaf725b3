//! The checks on one node.

use std::time::Duration;

use serde_json::json;

use super::agent::{Access, Failure, Greeting, Operation, Reads, Request, SYNCED_WRITE, Space};
use super::agents::Agent;
use super::finding::{Finding, Verdict, seconds};
use super::mount;

/// Free space below which a study soon ends.
const LITTLE_SPACE: u64 = 1 << 30;
/// The number of files that a small study makes.
const FEW_FILES: u64 = 10_000;
/// The seconds from which an operation is slow.
const SLOW: f64 = 0.05;
/// The seconds from which syncing a file is slow.
const SLOW_SYNC: f64 = 0.5;

/// Checks a directory on the node of an agent, in less than a second. If the agent has no folder, that is the finding `without_folder`.
pub(super) fn check(agent: &mut Agent, greeting: &Greeting, without_folder: &'static str) -> Vec<Finding> {
    let mut findings =
        vec![mount::judge(greeting.mount.as_ref()), judge_access(&greeting.access), judge_space(&greeting.space)];
    match &greeting.folder {
        Ok(_) => {
            findings.push(judge_links(greeting));
            findings.push(or_unfit(SYNC, check_sync(agent)));
            findings.push(or_unfit(LATENCY, check_latency(agent)));
        }
        Err(failure) => findings.push(unfit(without_folder, failure)),
    }
    findings.into_iter().map(|finding| finding.on(&agent.name)).collect()
}

/// Returns the finding that an operation failed.
pub(super) fn unfit(check: &'static str, failure: &Failure) -> Finding {
    let nodes = failure.node.iter().cloned().collect();
    Finding { help: failure.help.clone(), nodes, ..Finding::unfit(check, &failure.message, "") }
}

/// Returns a finding, or the one that an operation of the check failed.
pub(super) fn or_unfit(check: &'static str, finding: Result<Finding, Failure>) -> Finding {
    finding.unwrap_or_else(|failure| unfit(check, &failure))
}

fn judge_access(access: &Access) -> Finding {
    const CHECK: &str = "permissions";
    const GROUP_WRITES: u32 = 0o020;
    const ALL_WRITE: u32 = 0o002;
    const SETGID: u32 = 0o2000;
    let Access { mode, owner, group, user, own_group, umask } = *access;
    let text = format!("mode {:o}, owner {owner}, group {group}; this user is {user}", mode & 0o7777);
    let finding = if mode & GROUP_WRITES == 0 || mode & ALL_WRITE != 0 {
        Finding::fine(CHECK, text)
    } else if mode & SETGID == 0 && group != own_group {
        let message = format!("{text}: its group may write, but new directories in it do not belong to the group");
        Finding::poor(Verdict::Risky, CHECK, message, "run `chmod g+s` on it")
    } else if umask & GROUP_WRITES != 0 {
        let message =
            format!("{text}: its group may write, but not to what this user creates in it (umask {umask:03o})");
        Finding::poor(Verdict::Risky, CHECK, message, "run `umask 002` first if others are to use the store")
    } else {
        Finding::fine(CHECK, format!("{text}; its group may write"))
    };
    finding.measuring(access)
}

/// The check that the first agent can create its folder.
pub(super) const WRITING: &str = "writing";

pub(super) const SPACE: &str = "space";

fn judge_space(space: &Space) -> Finding {
    let Space { bytes, files } = *space;
    let gigabytes = bytes as f64 / f64::from(1 << 30);
    let count = files.map_or("any number of".to_string(), |files| files.to_string());
    let text = format!("{gigabytes:.1} GiB and {count} files are free");
    let finding = if bytes == 0 || files == Some(0) {
        Finding::unfit(SPACE, text, "free some space, or choose another directory")
    } else if bytes < LITTLE_SPACE || files.is_some_and(|files| files < FEW_FILES) {
        Finding::poor(Verdict::Risky, SPACE, text, "free some space before a large study")
    } else {
        Finding::fine(SPACE, text)
    };
    finding.measuring(space)
}

/// Says how files are created exclusively.
fn judge_links(greeting: &Greeting) -> Finding {
    const CHECK: &str = "hard links";
    let finding = match greeting.without_links {
        true => Finding::poor(
            Verdict::Slow,
            CHECK,
            "the file system has none; directories are used as locks instead",
            "choose a file system with hard links if there is one",
        ),
        false => Finding::fine(CHECK, "they work"),
    };
    finding.measuring(json!({ "hard_links": !greeting.without_links }))
}

const SYNC: &str = "sync";

fn check_sync(agent: &mut Agent) -> Result<Finding, Failure> {
    let directories: bool = agent.ask(&Request::SyncDirectory)?;
    let message = match directories {
        true => "files and directories can be synced",
        false => {
            "files can be synced, directories cannot: the last results may be lost in a power cut, and are computed again"
        }
    };
    Ok(Finding::fine(SYNC, message).measuring(json!({ "directories": directories })))
}

const LATENCY: &str = "latency";

fn check_latency(agent: &mut Agent) -> Result<Finding, Failure> {
    let request = Request::Measure { times: 30, within: Duration::from_millis(100) };
    let operations: Vec<Operation> = agent.ask(&request)?;
    Ok(judge_latency(&operations))
}

fn judge_latency(operations: &[Operation]) -> Finding {
    let describe = |each: &Operation| format!("{} {}", each.operation, seconds(each.median));
    let text = operations.iter().map(describe).collect::<Vec<_>>().join(", ");
    let longest = operations.iter().map(|each| each.maximum).fold(0.0, f64::max);
    let text = format!("{text} (medians); the longest took {}", seconds(longest));
    let finding = match operations.iter().find(|each| each.median > limit_of(each)) {
        Some(slow) => {
            let message = format!("{text}; {} is slow", slow.operation);
            Finding::poor(Verdict::Slow, LATENCY, message, "choose a faster file system for studies of many short runs")
        }
        None => Finding::fine(LATENCY, text),
    };
    finding.measuring(operations)
}

fn limit_of(operation: &Operation) -> f64 {
    if operation.operation == SYNCED_WRITE { SLOW_SYNC } else { SLOW }
}

const REPLACEMENT: &str = "replacement";
const REPLACEMENTS: usize = 200;

/// Checks that a process reads a whole old or new file while another one replaces it.
pub(super) fn check_replacement(writer: &mut Agent, reader: &mut Agent) -> Finding {
    let name = "replaced".to_string();
    or_unfit(REPLACEMENT, read_while_replaced(writer, reader, name))
}

fn read_while_replaced(writer: &mut Agent, reader: &mut Agent, name: String) -> Result<Finding, Failure> {
    reader.send(&Request::ReadWhole { name: name.clone() });
    let written = writer.ask::<()>(&Request::Replace { name, times: REPLACEMENTS });
    let reads = reader.receive()?;
    written.map(|()| judge_reads(&reads))
}

fn judge_reads(reads: &Reads) -> Finding {
    let Reads { whole, broken, complete } = *reads;
    let finding = if broken > 0 {
        let message =
            format!("{broken} of {} reads saw a part of a file, or none, while it was replaced", whole + broken);
        Finding::unfit(REPLACEMENT, message, "choose another file system: this one does not replace files in one step")
    } else if !complete {
        Finding::unfit(REPLACEMENT, "a reader does not see the new file", "choose another file system")
    } else {
        Finding::fine(
            REPLACEMENT,
            format!("{whole} reads of a file that was replaced {REPLACEMENTS} times saw a whole one"),
        )
    };
    finding.measuring(reads)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: Access = Access { mode: 0o40755, owner: 7, group: 7, user: 7, own_group: 7, umask: 0o022 };

    #[test]
    fn group_that_may_write_gets_what_others_create() {
        let verdict = |access| judge_access(&access).verdict;
        assert_eq!(verdict(MINE), Verdict::Fine);
        let shared = Access { mode: 0o42775, group: 9, umask: 0o002, ..MINE };
        assert_eq!(verdict(shared), Verdict::Fine);
        assert_eq!(verdict(Access { mode: 0o40775, ..shared }), Verdict::Risky);
        assert_eq!(verdict(Access { umask: 0o022, ..shared }), Verdict::Risky);
    }

    #[test]
    fn full_file_system_is_unfit() {
        let verdict = |bytes, files| judge_space(&Space { bytes, files }).verdict;
        assert_eq!(verdict(1 << 40, None), Verdict::Fine);
        assert_eq!(verdict(1 << 20, None), Verdict::Risky);
        assert_eq!(verdict(0, None), Verdict::Unfit);
        assert_eq!(verdict(1 << 40, Some(0)), Verdict::Unfit);
    }

    #[test]
    fn replacement_with_a_broken_read_is_unfit() {
        let verdict = |broken, complete| judge_reads(&Reads { whole: 9, broken, complete }).verdict;
        assert_eq!(verdict(0, true), Verdict::Fine);
        assert_eq!(verdict(1, true), Verdict::Unfit);
        assert_eq!(verdict(0, false), Verdict::Unfit);
    }

    #[test]
    fn slow_operations_are_named() {
        let operation = |operation: &str, median| Operation { operation: operation.to_string(), median, maximum: 9.0 };
        let finding =
            judge_latency(&[operation("write", 0.0002), operation(SYNCED_WRITE, 0.1), operation("list", 2.0)]);
        assert_eq!(finding.verdict, Verdict::Slow);
        let text = "write 200 µs, write and sync 100.0 ms, list 2.0 s (medians); the longest took 9.0 s; list is slow";
        assert_eq!(finding.message, text);
    }
}
