//! Calls the commands of PBS and parses their output.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{TITLE, job, qsub};
use crate::batch::Error;
use crate::batch::command::{AT_ONCE, Commands};
use crate::batch::scheduler::{Hold, Job, JobState, JobTasks, Jobs, Limits, Patience, ToSubmit};
use crate::batch::tasks::Tasks;

const COMMANDS: Commands = Commands { title: TITLE, classify };

/// The size of arrays that a server allows unless it says something else.
const DEFAULT_ARRAY_SIZE: u32 = 10_000;

/// The number of times jobs are listed if some of them end meanwhile.
const TRIES: u32 = 5;

/// The output of `qstat -f -F json`.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    #[serde(default, rename = "Server")]
    servers: BTreeMap<String, Map<String, Value>>,
    #[serde(default, rename = "Jobs")]
    jobs: BTreeMap<String, Map<String, Value>>,
}

fn qstat(arguments: &[&str]) -> Command {
    let mut command = Command::new("qstat");
    command.args(arguments).args(["-f", "-F", "json"]);
    command
}

fn parse(text: &str) -> Result<Answer, Error> {
    serde_json::from_str(text).map_err(|error| Error::Unparsable { command: "qstat", answer: error.to_string() })
}

/// Returns the text of an attribute. qstat writes whatever looks like a number as a number.
fn text(attributes: &Map<String, Value>, name: &str) -> String {
    match attributes.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// Returns the limits of the default server. Jobs of other servers are unknown here.
pub(super) fn limits(cluster: Option<&str>, patience: Patience) -> Result<Limits, Error> {
    let repeatable = match patience {
        Patience::None => |_: &Error| false,
        Patience::Some => Error::is_unavailable,
    };
    let limits = parse_limits(&COMMANDS.with_input(&mut qstat(&["-B"]), b"", repeatable)?)?;
    match cluster.filter(|wanted| *wanted != limits.cluster) {
        Some(wanted) => {
            let words = format!("{} responded", limits.cluster);
            Err(Error::Elsewhere { cluster: wanted.to_string(), words })
        }
        None => Ok(limits),
    }
}

fn parse_limits(answer: &str) -> Result<Limits, Error> {
    let Some((cluster, attributes)) = parse(answer)?.servers.into_iter().next() else {
        return Err(Error::Unparsable { command: "qstat -B", answer: answer.lines().take(3).collect() });
    };
    let array = text(&attributes, "max_array_size").parse().unwrap_or(DEFAULT_ARRAY_SIZE);
    let hides_jobs = text(&attributes, "query_other_jobs") != "True";
    // Limits on the jobs of a user have many forms; qsub rejects what is beyond them.
    Ok(Limits { cluster, array, jobs: u32::MAX, hides_jobs, limits_users: false, of_user: None })
}

/// Returns the jobs of users. Tasks of an array that wait are one job.
pub(super) fn jobs(users: &BTreeSet<u32>) -> Result<Jobs, Error> {
    let names = users.iter().map(|user| name_of_user(*user)).collect::<Result<Vec<_>, _>>()?.join(",");
    let mut tries = 1..TRIES;
    loop {
        match list_jobs(&names) {
            // Some have ended after they were selected.
            Err(Error::Refused { words, .. }) if count_ended(&words).is_some() && tries.next().is_some() => {}
            answer => return Ok(Jobs { alive: answer?, killed: vec![] }),
        }
    }
}

fn list_jobs(users: &str) -> Result<Vec<Job>, Error> {
    let selected = COMMANDS.ask(Command::new("qselect").args(["-u", users]))?;
    let selected: Vec<&str> = selected.split_whitespace().collect();
    let own = job::own();
    let mut jobs = vec![];
    for names in selected.chunks(AT_ONCE) {
        let answer = COMMANDS.ask(qstat(&["-t"]).args(names))?;
        jobs.extend(parse_jobs(&answer, own.as_ref())?);
    }
    Ok(jobs)
}

/// Returns the name of a user, which PBS uses instead of the number.
fn name_of_user(user: u32) -> Result<String, Error> {
    let name = COMMANDS.ask(Command::new("id").args(["-nu", &user.to_string()]))?;
    Ok(name.trim().to_string())
}

/// Returns true if any of these arrays has not ended.
pub(super) fn exist(arrays: &[&str]) -> Result<bool, Error> {
    for arrays in arrays.chunks(AT_ONCE) {
        match COMMANDS.ask(qstat(&[]).args(arrays)) {
            Err(Error::Refused { words, .. }) if count_ended(&words) == Some(arrays.len()) => {}
            Err(Error::Refused { words, .. }) if count_ended(&words).is_some() => return Ok(true),
            answer => return answer.map(|_| true),
        }
    }
    Ok(false)
}

fn parse_jobs(answer: &str, own: Option<&JobTasks>) -> Result<Vec<Job>, Error> {
    let all = parse(answer)?.jobs;
    let mut jobs = vec![];
    let mut waiting: BTreeMap<String, Job> = BTreeMap::new();
    for (name, attributes) in &all {
        let variables = attributes.get("Variable_List").and_then(Value::as_object);
        let task = variables.and_then(|variables| text(variables, qsub::TASK).parse().ok());
        let id = job::parse(name, task);
        let state = match text(attributes, "job_state").as_str() {
            "F" | "X" => continue,
            "Q" | "H" | "W" => JobState::Pending,
            "R" => JobState::Running,
            "E" => JobState::Ending,
            _ => JobState::Unknown,
        };
        if *name == id.array && name.contains("[]") {
            // Its tasks are listed as well.
            continue;
        }
        // A hold on an array is not one on its tasks.
        let array = all.get(&id.array).unwrap_or(attributes);
        let job = Job {
            failed_on: None,
            own: own == Some(&id),
            name: text(array, "Job_Name"),
            state,
            words: describe(attributes, array),
            held: hold(array).filter(|_| state == JobState::Pending),
            id,
        };
        match (state, waiting.get_mut(&job.id.array)) {
            (JobState::Pending, Some(others)) => {
                let tasks = others.id.tasks.iter().chain(&job.id.tasks);
                others.id.tasks = Some(Tasks::union(tasks));
            }
            (JobState::Pending, None) => drop(waiting.insert(job.id.array.clone(), job)),
            _ => jobs.push(job),
        }
    }
    jobs.extend(waiting.into_values());
    Ok(jobs)
}

/// Returns the state of a job with the scheduler's comment, for people.
fn describe(attributes: &Map<String, Value>, array: &Map<String, Value>) -> String {
    let state = match text(attributes, "job_state").as_str() {
        "Q" if text(array, "job_state") == "H" => "held".to_string(),
        "Q" => "queued".to_string(),
        "H" => "held".to_string(),
        "W" => "waiting".to_string(),
        "R" => "running".to_string(),
        "E" => "exiting".to_string(),
        other => format!("state {other}"),
    };
    let comments = [text(attributes, "comment"), text(array, "comment")];
    match comments.into_iter().find(|comment| !comment.is_empty()) {
        Some(comment) => format!("{state}, {comment}"),
        None => state,
    }
}

/// Returns why a job is held. A job that waits for others has a hold of the system.
fn hold(attributes: &Map<String, Value>) -> Option<Hold> {
    let types = text(attributes, "Hold_Types");
    let waits = attributes.contains_key("depend");
    if types.contains('o') || types.contains('p') || (types.contains('s') && !waits) {
        return Some(Hold::Administrator(format!("Hold_Types = {types}")));
    }
    if !types.contains('u') {
        return None;
    }
    let variables = attributes.get("Variable_List").and_then(Value::as_object);
    // Some versions keep the quotes of a value.
    let reason = variables.map(|variables| text(variables, qsub::HELD).trim_matches('"').to_string());
    let reason = reason.filter(|reason| !reason.is_empty());
    let unknown = "by a user, or by a job that could not start, see the logs of the submission";
    Some(Hold::Requested(reason.unwrap_or(unknown.to_string())))
}

/// Submits a script and returns the name of the job.
pub(super) fn submit(submitted: &ToSubmit) -> Result<String, Error> {
    let mut command = qsub::command(submitted);
    // Repeated only if the server has not received the request; otherwise a second array might be created.
    let answer = COMMANDS.with_input(&mut command, submitted.script.as_bytes(), was_not_received)?;
    job_name(&answer).ok_or(Error::Unparsable { command: "qsub", answer })
}

/// Returns the last line that is a name such as `7.server` or `7[].server`. Hooks of a site may print others.
fn job_name(answer: &str) -> Option<String> {
    let is_name = |line: &&str| {
        let number = line.split('.').next().unwrap_or_default();
        let number = number.strip_suffix("[]").unwrap_or(number);
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) && !line.contains(char::is_whitespace)
    };
    answer.lines().rev().map(str::trim).find(is_name).map(str::to_string)
}

/// Runs a command that changes jobs. A job that has just ended is not an error.
pub(super) fn change(program: &str, options: &[&str], names: impl IntoIterator<Item = String>) -> Result<(), Error> {
    let names: Vec<String> = names.into_iter().collect();
    for names in names.chunks(AT_ONCE) {
        match COMMANDS.ask(Command::new(program).args(options).args(names)) {
            Err(Error::Refused { words, .. }) if count_ended(&words).is_some() => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// Returns the number of lines of an error if all are about jobs that have ended.
fn count_ended(words: &str) -> Option<usize> {
    const KNOWN: &[&str] = &["Unknown Job Id", "Job has finished", "Request invalid for state of job"];
    let lines: Vec<&str> = words.lines().filter(|line| !line.trim().is_empty()).collect();
    let all_known = lines.iter().all(|line| KNOWN.iter().any(|known| line.contains(known)));
    Some(lines.len()).filter(|count| *count > 0 && all_known)
}

/// Returns the error that a message means.
fn classify(command: String, words: String) -> Error {
    let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    if has(&["annot connect to server", "Connection refused", "timed out", "Communication failure", "End of File"]) {
        return Error::Unavailable { command, words };
    }
    // Limits on resources are no limits on the number of jobs, except those that count jobs.
    let counts_jobs = !words.contains("limit on resource") || words.contains("njobs");
    if has(&["array job exceeds", "Array job exceeds", "Maximum number of jobs already in"])
        || (words.contains("would exceed") && counts_jobs)
    {
        return Error::Limit { command, words };
    }
    Error::Refused { command, words }
}

/// Returns true if the server has definitely not received the request.
fn was_not_received(error: &Error) -> bool {
    matches!(error, Error::Unavailable { words, .. } if words.contains("annot connect to server"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_server() {
        let answer = |attributes: &str| format!(r#"{{"timestamp": 1, "Server": {{"head": {{{attributes}}}}}}}"#);
        let limits = parse_limits(&answer(r#""max_array_size": 40, "query_other_jobs": "True""#)).unwrap();
        assert_eq!((limits.cluster.as_str(), limits.array, limits.hides_jobs), ("head", 40, false));
        assert!(parse_limits(&answer("")).unwrap().hides_jobs);
        assert!(matches!(parse_limits("{}"), Err(Error::Unparsable { .. })));
    }

    const JOBS: &str = r#"{"timestamp": 1, "pbs_version": "22.05.11", "pbs_server": "s", "Jobs": {
        "7[].s": {"Job_Name": "a.b.0", "job_state": "B", "Hold_Types": "n", "comment": "Job Array Began"},
        "7[0].s": {"Job_Name": "a.b.0", "job_state": "X"},
        "7[1].s": {"Job_Name": "a.b.0", "job_state": "R"},
        "7[2].s": {"Job_Name": "a.b.0", "job_state": "Q"},
        "7[3].s": {"Job_Name": "a.b.0", "job_state": "Q"},
        "8[].s": {"Job_Name": "a.b.1", "job_state": "H", "Hold_Types": "s", "depend": "afterany:7[].s@s"},
        "8[0].s": {"Job_Name": "a.b.1", "job_state": "Q"},
        "9.s": {"Job_Name": "a.b.2", "job_state": "H", "Hold_Types": "u",
                "Variable_List": {"WINSIGN_TASK": 5, "WINSIGN_HELD": "no space"}},
        "10.s": {"Job_Name": "a.b.2", "job_state": "Q", "Hold_Types": "s"},
        "11.s": {"Job_Name": "other", "job_state": "S", "Hold_Types": "n"},
        "12.s": {"Job_Name": "other", "job_state": "F"}
    }}"#;

    #[test]
    fn tasks_that_wait_are_one_job() {
        let own = job::parse("7[1].s", None);
        let jobs = parse_jobs(JOBS, Some(&own)).unwrap();
        let shown: Vec<(String, JobState, bool)> =
            jobs.iter().map(|job| (job::operands(&job.id).join(" "), job.state, job.own)).collect();
        let expected = [
            ("11.s", JobState::Unknown, false),
            ("7[1].s", JobState::Running, true),
            ("10.s", JobState::Pending, false),
            ("7[2-3].s", JobState::Pending, false),
            ("8[0].s", JobState::Pending, false),
            ("9.s", JobState::Pending, false),
        ];
        assert_eq!(shown, expected.map(|(name, state, own)| (name.to_string(), state, own)));
        let held: Vec<Option<&str>> = jobs.iter().map(|job| job.held.as_ref().map(Hold::reason)).collect();
        assert_eq!(held, [None, None, Some("Hold_Types = s"), None, None, Some("no space")]);
        assert_eq!(jobs[5].id.tasks, Tasks::parse("5"));
        assert_eq!(jobs[1].words, "running, Job Array Began");
        assert_eq!(parse_jobs(r#"{"timestamp": 1}"#, None).unwrap(), []);
    }

    #[test]
    fn job_name_is_the_last_one() {
        assert_eq!(job_name("welcome\n12[].head.site\n").as_deref(), Some("12[].head.site"));
        assert_eq!(job_name("12.head\n7 hours left\n").as_deref(), Some("12.head"));
        assert_eq!(job_name("nothing\n"), None);
    }

    #[test]
    fn errors_are_recognized() {
        let error = |words: &str| classify("qsub".to_string(), words.to_string());
        assert!(was_not_received(&error("cannot connect to server head (errno=111)")));
        assert!(matches!(error("would exceed complex's per-user limit of jobs in 'Q' state"), Error::Limit { .. }));
        assert!(matches!(error("Array job exceeds server or queue size limit"), Error::Limit { .. }));
        assert!(matches!(error("would exceed queue's limit on resource ncpus"), Error::Refused { .. }));
        assert!(matches!(error("Unknown queue"), Error::Refused { .. }));
        assert_eq!(count_ended("Unknown Job Id 7[].s\nqstat: Job has finished 8.s"), Some(2));
        assert_eq!(count_ended("Unknown Job Id 7.s\nUnauthorized Request 8.s"), None);
    }
}
