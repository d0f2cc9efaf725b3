//! Calls the commands of Slurm and parses their output. Nothing here needs accounting.

use std::collections::{BTreeSet, HashMap};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::TITLE;
use crate::batch::Error;
use crate::batch::scheduler::{Hold, Job, JobState, Limits, Patience};

/// The states of ended jobs. All others, including those of later versions of Slurm, count as not ended, since the runs of a
/// job that is wrongly considered ended would be started again.
const ENDED: &[&str] = &[
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
];

/// The delays between retries when the controller does not respond. It may be restarting.
const PATIENCE: &[Duration] = &[Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

/// Returns the limits from `scontrol show config`.
pub(super) fn limits(patience: Patience) -> Result<Limits, Error> {
    let repeatable = match patience {
        Patience::None => |_: &Error| false,
        Patience::Some => is_unavailable,
    };
    parse_limits(&with_input(Command::new("scontrol").args(["show", "config"]), b"", repeatable)?)
}

fn parse_limits(text: &str) -> Result<Limits, Error> {
    let settings = text.lines().filter_map(|line| line.split_once('='));
    let settings: HashMap<&str, &str> = settings.map(|(name, value)| (name.trim(), value.trim())).collect();
    let number = |name: &str| settings.get(name).and_then(|value| value.parse().ok());
    match (settings.get("ClusterName"), number("MaxArraySize"), number("MaxJobCount")) {
        (Some(cluster), Some(array), Some(jobs)) => Ok(Limits { cluster: cluster.to_string(), array, jobs }),
        _ => Err(Error::Unparsable { command: "scontrol show config", answer: text.lines().take(3).collect() }),
    }
}

/// Returns the jobs of users that have not ended, with array tasks separately.
pub(super) fn jobs(users: &BTreeSet<u32>) -> Result<Vec<Job>, Error> {
    let users = users.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    // The comment comes last, since it can contain any text.
    let format = "%F|%A|%K|%T|%j|%r|%k";
    let text = ask(Command::new("squeue").args([
        "--noheader",
        "--array",
        "--states=all",
        "--user",
        &users,
        "--format",
        format,
    ]))?;
    Ok(parse_queue(&text, own_job().as_deref()))
}

/// Returns the number of the job that this process is part of.
pub(super) fn own_job() -> Option<String> {
    std::env::var("SLURM_JOB_ID").ok()
}

fn parse_queue(text: &str, own: Option<&str>) -> Vec<Job> {
    text.lines().filter_map(|line| parse_job(line, own)).collect()
}

/// Parses a line of squeue; returns `None` for ended jobs.
fn parse_job(line: &str, own: Option<&str>) -> Option<Job> {
    let fields: Vec<&str> = line.splitn(7, '|').map(str::trim).collect();
    let &[array, number, task, state, name, reason, comment] = fields.as_slice() else { return None };
    if ENDED.contains(&state) {
        return None;
    }
    let task: Option<u32> = task.parse().ok();
    Some(Job {
        array: array.to_string(),
        task,
        id: task.map_or(array.to_string(), |task| format!("{array}_{task}")),
        name: name.to_string(),
        state: match state {
            "PENDING" => JobState::Pending,
            "RUNNING" => JobState::Running,
            "COMPLETING" => JobState::Ending,
            _ => JobState::Unknown,
        },
        words: match reason {
            "" | "None" | "(null)" => state.to_string(),
            reason => format!("{state}, {reason}"),
        },
        held: hold(state, reason, comment),
        own: own == Some(number),
    })
}

/// Returns why a job is held: by itself, as its comment says, or for Slurm's reason.
fn hold(state: &str, reason: &str, comment: &str) -> Option<Hold> {
    let why = || comment.strip_prefix(OURS).unwrap_or(reason).to_string();
    match reason {
        "launch failed requeued held" | "JobHoldMaxRequeue" => Some(Hold::Nodes(why())),
        _ if reason.contains("held") || reason.contains("Held") => Some(Hold::Asked(why())),
        _ if ["REQUEUE_HOLD", "SPECIAL_EXIT"].contains(&state) => Some(Hold::Asked(why())),
        _ => None,
    }
}

/// The beginning of the comments that winsign writes.
const OURS: &str = "winsign: ";

/// Submits a script and returns the job number.
pub(super) fn submit(script: &str, after: &[&str], held: bool, directory: &Path) -> Result<String, Error> {
    let mut command = Command::new("sbatch");
    command.arg("--parsable").args(held.then_some("--hold")).current_dir(directory);
    // A job must not pass on its own variables when it submits another.
    let of_this_job = |name: &str| name.starts_with("SLURM_") && name != "SLURM_CONF";
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_this_job)) {
        command.env_remove(name);
    }
    if !after.is_empty() {
        command.arg(format!("--dependency=afterany:{}", after.join(":")));
    }
    // Retried only if the controller has not received the request; otherwise a second array might be created.
    let answer = with_input(&mut command, script.as_bytes(), was_not_received)?;
    // `123` or `123;cluster`
    let job = answer.trim().split(';').next().unwrap_or_default().to_string();
    match !job.is_empty() && job.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Ok(job),
        false => Err(Error::Unparsable { command: "sbatch", answer }),
    }
}

/// Cancels jobs. With a signal, only their scripts receive it, and are expected to exit.
pub(super) fn cancel(jobs: &[String], signal: Option<&str>) -> Result<(), Error> {
    let mut command = Command::new("scancel");
    command.args(signal.map(|signal| format!("--signal={signal}")));
    command.args(signal.map(|_| "--batch"));
    for jobs in jobs.chunks(AT_ONCE) {
        change(&mut command, jobs)?;
    }
    Ok(())
}

/// `scontrol hold`, `release`, `requeue` and the like.
pub(super) fn control(verb: &str, jobs: &[String]) -> Result<(), Error> {
    for jobs in jobs.chunks(AT_ONCE) {
        change(Command::new("scontrol").args(verb.split(' ')), &[jobs.join(",")])?;
    }
    Ok(())
}

/// Writes the comment of jobs, which [`jobs`] reads as the reason why they are held.
pub(super) fn comment(jobs: &[String], text: &str) -> Result<(), Error> {
    let line: String = text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    let jobs = format!("JobId={}", jobs.join(","));
    change(Command::new("scontrol").arg("update"), &[jobs, format!("Comment={OURS}{line}")])
}

/// The maximum number of jobs in one call, to limit the length of the command line.
const AT_ONCE: usize = 500;

/// Runs a command that changes jobs. A job that has just ended is not an error.
fn change(command: &mut Command, jobs: &[String]) -> Result<(), Error> {
    let mut once = Command::new(command.get_program());
    once.args(command.get_args()).args(jobs);
    match ask(&mut once) {
        Err(Error::Refused { words, .. }) if ended_meanwhile(&words) => Ok(()),
        other => other.map(drop),
    }
}

fn ended_meanwhile(words: &str) -> bool {
    let is_of_an_ended_job = |line: &str| {
        ["Invalid job id", "already completing or completed", "already finished", "Job has already"]
            .iter()
            .any(|known| line.contains(known))
    };
    words.lines().filter(|line| !line.trim().is_empty()).all(is_of_an_ended_job)
}

fn ask(command: &mut Command) -> Result<String, Error> {
    with_input(command, b"", is_unavailable)
}

/// Runs a command of Slurm, and retries it after errors that are `repeatable`.
fn with_input(command: &mut Command, input: &[u8], repeatable: fn(&Error) -> bool) -> Result<String, Error> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut delays = PATIENCE.iter();
    loop {
        let output = execute(command, input).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::Missing { scheduler: TITLE, command: name.clone() },
            _ => Error::Refused { command: name.clone(), words: error.to_string() },
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let error = classify(name.clone(), describe(&name, &output));
        match delays.next() {
            Some(&delay) if repeatable(&error) => std::thread::sleep(delay),
            _ => return Err(error),
        }
    }
}

/// Returns the error that a message means.
fn classify(command: String, words: String) -> Error {
    let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    if has(&[
        "Unable to contact slurm controller",
        "Socket timed out",
        "Connection refused",
        "Zero Bytes were transmitted",
    ]) {
        return Error::Unavailable { command, words };
    }
    // `QOSMaxSubmitJobPerUserLimit`, `AssocGrpSubmitJobsLimit` and their like; and the controller's memory for jobs.
    if has(&["SubmitJob", "unable to accept job", "Resource temporarily unavailable"]) {
        return Error::Limit { command, words };
    }
    Error::Refused { command, words }
}

fn execute(command: &mut Command, input: &[u8]) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().expect("it is piped");
    // If the command fails before it has read everything, its own error is reported.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output()
}

/// Returns the error message of a command, without its name before every line.
fn describe(name: &str, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = text.lines().map(|line| line.strip_prefix(&format!("{name}: ")).unwrap_or(line));
    let lines: Vec<&str> = lines.map(|line| line.strip_prefix("error: ").unwrap_or(line)).collect();
    match lines.is_empty() {
        true => output.status.to_string(),
        false => lines.join("\n"),
    }
}

/// Whether the controller has definitely not received the request.
fn was_not_received(error: &Error) -> bool {
    matches!(error, Error::Unavailable { words, .. } if words.contains("connect failure") || words.contains("Connection refused"))
}

fn is_unavailable(error: &Error) -> bool {
    matches!(error, Error::Unavailable { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_from_the_configuration() {
        let text = "Configuration data as of 2026-01-01\nClusterName             = alpha\nMaxArraySize            = 1001\n\
                    MaxJobCount             = 10000\nMailProg                = /bin/mail";
        let limits = parse_limits(text).unwrap();
        assert_eq!(limits, Limits { cluster: "alpha".into(), array: 1001, jobs: 10_000 });
        assert!(matches!(parse_limits("nothing"), Err(Error::Unparsable { .. })));
    }

    #[test]
    fn unknown_job_states_are_not_ended() {
        let text = "7|7|3|PENDING|a.b.0|Dependency|(null)\n7|5|1|COMPLETED|a.b.0|None|\n8|8|N/A|A_NEW_STATE|x|None|one | two\n\
                    9|6|0|REQUEUE_HOLD|a.b.1|job requeued in held state|\nnonsense\n9|9|1|OUT_OF_MEMORY|a|None|";
        let jobs = parse_queue(text, Some("6"));
        let ids: Vec<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
        assert_eq!(ids, ["7_3", "8", "9_0"]);
        assert_eq!([0, 1, 2].map(|at| jobs[at].state), [JobState::Pending, JobState::Unknown, JobState::Unknown]);
        assert_eq!([0, 1, 2].map(|at| jobs[at].own), [false, false, true]);
        assert_eq!(jobs[0].words, "PENDING, Dependency");
    }

    #[test]
    fn reason_of_a_held_job_is_its_comment_or_that_of_slurm() {
        let job = |end: &str| parse_job(&format!("7|9|1|{end}"), None).unwrap().held;
        let asked = |reason: &str| Some(Hold::Asked(reason.to_string()));
        assert_eq!(job("PENDING|a|JobHeldUser|winsign: node7 | full"), asked("node7 | full"));
        assert_eq!(job("REQUEUE_HOLD|a|None|another"), asked("None"));
        let failed = "launch failed requeued held";
        assert_eq!(job(&format!("PENDING|a|{failed}|")), Some(Hold::Nodes(failed.to_string())));
        assert_eq!(job("RUNNING|a|None|winsign: earlier"), None);
    }

    #[test]
    fn unavailability_and_limits_are_recognized() {
        let error = |words: &str| classify("sbatch".to_string(), words.to_string());
        assert!(was_not_received(&error("Unable to contact slurm controller (connect failure)")));
        let timeout = error("Socket timed out on send/recv operation");
        assert!(is_unavailable(&timeout) && !was_not_received(&timeout));
        assert!(matches!(error("Job violates: QOSMaxSubmitJobPerUserLimit"), Error::Limit { .. }));
        assert!(matches!(error("Invalid partition name specified"), Error::Refused { .. }));
    }

    #[test]
    fn errors_about_ended_jobs_are_ignored() {
        assert!(ended_meanwhile("Kill job error on job id 5: Invalid job id specified"));
        assert!(!ended_meanwhile("Kill job error on job id 5: Access/permission denied"));
        assert!(!ended_meanwhile("Invalid job id specified\nAccess/permission denied"));
    }
}
