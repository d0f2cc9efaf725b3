//! Calls the commands of Slurm and parses their output. Nothing here needs accounting.

use std::collections::{BTreeSet, HashMap};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::Error;

/// The limits of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub cluster: String,
    /// The maximum number of tasks of an array; indices are below it.
    pub array: u32,
    /// The maximum number of jobs in the whole cluster; every task of an array is one.
    pub jobs: u32,
}

impl Limits {
    /// Returns how many jobs one user may have, leaving some of the total to other users.
    pub fn room(&self) -> u32 {
        (self.jobs - (self.jobs / 10).min(RESERVE)).max(1)
    }
}

/// The maximum number of jobs left to other users.
const RESERVE: u32 = 100;

/// A job, or a task of an array, that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Living {
    /// The number of the whole array.
    pub job: String,
    /// The number of this task, known only inside the job.
    pub number: String,
    /// The index of the task; `None` for a job that is not an array.
    pub task: Option<u32>,
    pub name: String,
    pub state: String,
    pub reason: String,
    pub comment: String,
}

impl Living {
    /// Whether its script is running and can receive signals.
    pub fn is_running(&self) -> bool {
        self.state == "RUNNING"
    }

    pub fn is_pending(&self) -> bool {
        self.state == "PENDING"
    }

    /// Whether its script has ended.
    pub fn is_ending(&self) -> bool {
        self.state == "COMPLETING"
    }

    /// Whether it is held.
    pub fn is_held(&self) -> bool {
        let held = ["held", "Held"].iter().any(|word| self.reason.contains(word));
        held || self.reason == "JobHoldMaxRequeue" || self.state == "REQUEUE_HOLD" || self.state == "SPECIAL_EXIT"
    }

    /// Whether this is its number inside the job.
    pub fn is_numbered(&self, number: &str) -> bool {
        self.number == number
    }

    /// Returns the number as in commands of Slurm: `123_4`.
    pub fn id(&self) -> String {
        match self.task {
            Some(task) => format!("{}_{task}", self.job),
            None => self.job.clone(),
        }
    }
}

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
pub fn limits() -> Result<Limits, Error> {
    parse_limits(&ask(Command::new("scontrol").args(["show", "config"]))?)
}

/// Returns the limits and the jobs that have not ended, without waiting for a controller that does not respond.
pub fn look(users: &BTreeSet<u32>) -> Result<(Limits, Vec<Living>), Error> {
    let config = with_input(Command::new("scontrol").args(["show", "config"]), b"", |_| false)?;
    Ok((parse_limits(&config)?, living(users)?))
}

fn parse_limits(text: &str) -> Result<Limits, Error> {
    let settings = text.lines().filter_map(|line| line.split_once('='));
    let settings: HashMap<&str, &str> = settings.map(|(name, value)| (name.trim(), value.trim())).collect();
    let number = |name: &str| settings.get(name).and_then(|value| value.parse().ok());
    match (settings.get("ClusterName"), number("MaxArraySize"), number("MaxJobCount")) {
        (Some(cluster), Some(array), Some(jobs)) => Ok(Limits { cluster: cluster.to_string(), array, jobs }),
        _ => Err(Error::Strange { command: "scontrol show config", answer: text.lines().take(3).collect() }),
    }
}

/// Returns the number of the calling user.
pub fn user() -> u32 {
    rustix::process::getuid().as_raw()
}

/// Returns the jobs of users that have not ended, with array tasks separately.
pub fn living(users: &BTreeSet<u32>) -> Result<Vec<Living>, Error> {
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
    Ok(parse_queue(&text))
}

fn parse_queue(text: &str) -> Vec<Living> {
    let parse = |line: &str| -> Option<Living> {
        let mut fields = line.splitn(7, '|').map(|field| field.trim().to_string());
        let (job, number, task, state) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let (name, reason, comment) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Living { job, number, task: task.parse().ok(), name, state, reason, comment })
    };
    text.lines().filter_map(parse).filter(|job| !ENDED.contains(&job.state.as_str())).collect()
}

/// Submits a script and returns the job number.
pub fn submit(script: &str, dependency: Option<&str>, hold: bool, directory: &Path) -> Result<String, Error> {
    let mut command = Command::new("sbatch");
    command.arg("--parsable").args(hold.then_some("--hold")).current_dir(directory);
    // A job must not pass on its own variables when it submits another.
    let of_this_job = |name: &str| name.starts_with("SLURM_") && name != "SLURM_CONF";
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_this_job)) {
        command.env_remove(name);
    }
    if let Some(dependency) = dependency {
        command.arg(format!("--dependency={dependency}"));
    }
    // Retried only if the controller has not received the request; otherwise a second array might be created.
    let answer = with_input(&mut command, script.as_bytes(), has_not_heard)?;
    // `123` or `123;cluster`
    let job = answer.trim().split(';').next().unwrap_or_default().to_string();
    match !job.is_empty() && job.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Ok(job),
        false => Err(Error::Strange { command: "sbatch", answer }),
    }
}

/// Cancels jobs. With a signal, only their scripts receive it, and are expected to exit.
pub fn cancel(jobs: &[String], signal: Option<&str>) -> Result<(), Error> {
    let mut command = Command::new("scancel");
    command.args(signal.map(|signal| format!("--signal={signal}")));
    command.args(signal.map(|_| "--batch"));
    for jobs in jobs.chunks(AT_ONCE) {
        change(&mut command, jobs)?;
    }
    Ok(())
}

/// `scontrol hold`, `release`, `requeue` and the like.
pub fn control(verb: &str, jobs: &[String]) -> Result<(), Error> {
    for jobs in jobs.chunks(AT_ONCE) {
        change(Command::new("scontrol").args(verb.split(' ')), &[jobs.join(",")])?;
    }
    Ok(())
}

/// Writes a job's comment.
pub fn comment(job: &str, text: &str) -> Result<(), Error> {
    change(Command::new("scontrol").arg("update"), &[format!("JobId={job}"), format!("Comment={text}")])
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
    with_input(command, b"", is_absence)
}

/// Runs a command of Slurm, and retries it if `repeatable` accepts its error message.
fn with_input(command: &mut Command, input: &[u8], repeatable: fn(&str) -> bool) -> Result<String, Error> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut delays = PATIENCE.iter();
    loop {
        let output = execute(command, input).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::NoSlurm { command: name.clone() },
            _ => Error::Refused { command: name.clone(), words: error.to_string() },
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let words = describe(&name, &output);
        match delays.next() {
            Some(&delay) if repeatable(&words) => std::thread::sleep(delay),
            _ => return Err(Error::Refused { command: name, words }),
        }
    }
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
fn has_not_heard(words: &str) -> bool {
    words.contains("connect failure") || words.contains("Connection refused")
}

/// Whether the controller did not respond.
pub fn is_absence(words: &str) -> bool {
    ["Unable to contact slurm controller", "Socket timed out", "Connection refused", "Zero Bytes were transmitted"]
        .iter()
        .any(|known| words.contains(known))
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
        assert!(matches!(parse_limits("nothing"), Err(Error::Strange { .. })));
    }

    #[test]
    fn unknown_job_states_are_not_ended() {
        let text = "7|7|3|PENDING|a.b.0|Dependency|(null)\n7|5|1|COMPLETED|a.b.0|None|\n8|8|N/A|A_NEW_STATE|x|None|one | two\n\
                    9|6|0|REQUEUE_HOLD|a.b.1|job requeued in held state|\nnonsense\n9|9|1|OUT_OF_MEMORY|a|None|";
        let living = parse_queue(text);
        let ids: Vec<String> = living.iter().map(Living::id).collect();
        assert_eq!(ids, ["7_3", "8", "9_0"]);
        assert_eq!(living[1].comment, "one | two");
        assert_eq!(living.iter().map(Living::is_held).collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn errors_about_ended_jobs_are_ignored() {
        assert!(ended_meanwhile("Kill job error on job id 5: Invalid job id specified"));
        assert!(!ended_meanwhile("Kill job error on job id 5: Access/permission denied"));
        assert!(!ended_meanwhile("Invalid job id specified\nAccess/permission denied"));
    }
}
