//! Calls the commands of Slurm and parses their output. Nothing here needs accounting.

use std::collections::{BTreeSet, HashMap};
use std::env;
use std::process::Command;
use std::sync::OnceLock;

use super::{TITLE, sbatch};
use crate::batch::Error;
use crate::batch::command::{AT_ONCE, Commands};
use crate::batch::failed_nodes::FailedNodes;
use crate::batch::scheduler::{Hold, Job, JobState, JobTasks, Jobs, Limits, NodeFailure, Patience, ToSubmit};
use crate::batch::tasks::Tasks;
use crate::hosts;

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

/// Those of [`ENDED`] that the job itself or a user did not choose.
const KILLED: &[&str] = &["BOOT_FAIL", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"];

/// Variables that Slurm's commands need to find and to trust the controller. All others that begin like this change what
/// they print or do.
pub(super) const NEEDED_VARIABLES: &[&str] = &["SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"];
const VARIABLES: &[&str] = &["SLURM_", "SQUEUE_", "SCANCEL_", "SCONTROL_"];

/// Returns a command that the variables of the caller do not change.
pub(super) fn plain(program: &str) -> Command {
    let mut command = Command::new(program);
    let changes = |name: &str| VARIABLES.iter().any(|start| name.starts_with(start));
    for name in env::vars_os().filter_map(|(name, _)| name.into_string().ok()) {
        if changes(&name) && !NEEDED_VARIABLES.contains(&name.as_str()) {
            command.env_remove(name);
        }
    }
    command
}

/// Returns a command for the jobs of a cluster. The option for other clusters needs accounting.
fn on(program: &str, cluster: &str) -> Command {
    let mut command = plain(program);
    if is_elsewhere(cluster) {
        command.arg(format!("--clusters={cluster}"));
    }
    command
}

/// Returns true if a cluster is not the local one. If the local one does not respond, commands query it nevertheless, and fail.
fn is_elsewhere(cluster: &str) -> bool {
    let local = known_cluster().or_else(|| {
        let limits = limits_of(plain("scontrol"), Patience::None).ok()?;
        Some(LOCAL.get_or_init(|| limits.cluster).as_str())
    });
    local.is_some_and(|local| local != cluster)
}

/// The name of the cluster that the commands use by themselves, once it is known.
static LOCAL: OnceLock<String> = OnceLock::new();

fn known_cluster() -> Option<&'static str> {
    if LOCAL.get().is_none() && env::var_os("SLURM_JOB_ID").is_some() {
        let of_job = env::var("SLURM_CLUSTER_NAME").ok()?;
        let _ = LOCAL.set(of_job);
    }
    LOCAL.get().map(String::as_str)
}

/// Returns the limits from `scontrol show config`. Without a name, the cluster is that of the variables which sbatch
/// would use as well, or the local one.
pub(super) fn limits(cluster: Option<&str>, patience: Patience) -> Result<Limits, Error> {
    let chosen = ["SBATCH_CLUSTERS", "SLURM_CLUSTERS"].into_iter().find_map(|name| env::var(name).ok());
    let chosen = chosen.filter(|_| env::var_os("SLURM_JOB_ID").is_none());
    let wanted = cluster.or(chosen.as_deref());
    if let Some(wanted) = wanted.filter(|wanted| known_cluster().is_some_and(|local| local != *wanted)) {
        return limits_elsewhere(wanted, patience);
    }
    let limits = limits_of(plain("scontrol"), patience)?;
    let local = LOCAL.get_or_init(|| limits.cluster.clone());
    match wanted.filter(|wanted| wanted != local) {
        Some(wanted) => limits_elsewhere(wanted, patience),
        None => Ok(limits),
    }
}

fn limits_elsewhere(cluster: &str, patience: Patience) -> Result<Limits, Error> {
    let elsewhere = |words: String| Error::Elsewhere { cluster: cluster.to_string(), words };
    if cluster.contains(',') || cluster == "all" {
        return Err(elsewhere("a study needs one cluster; set `cluster` in the profile".to_string()));
    }
    match limits_of(on("scontrol", cluster), patience) {
        Ok(limits) if limits.cluster == cluster => Ok(limits),
        Ok(limits) => Err(elsewhere(format!("{} responded", limits.cluster))),
        Err(error) => Err(elsewhere(error.to_string())),
    }
}

fn limits_of(mut scontrol: Command, patience: Patience) -> Result<Limits, Error> {
    let repeatable = match patience {
        Patience::None => |_: &Error| false,
        Patience::Some => Error::is_unavailable,
    };
    parse_limits(&COMMANDS.with_input(scontrol.args(["show", "config"]), b"", repeatable)?)
}

fn parse_limits(text: &str) -> Result<Limits, Error> {
    let settings = text.lines().filter_map(|line| line.split_once('='));
    let settings: HashMap<&str, &str> = settings.map(|(name, value)| (name.trim(), value.trim())).collect();
    let number = |name: &str| settings.get(name).and_then(|value| value.parse::<u32>().ok());
    let (Some(cluster), Some(array), Some(jobs)) =
        (settings.get("ClusterName"), number("MaxArraySize"), number("MaxJobCount"))
    else {
        return Err(Error::Unparsable { command: "scontrol show config", answer: text.lines().take(3).collect() });
    };
    let words = |name: &str| settings.get(name).into_iter().flat_map(|value| value.split(','));
    let tasks = words("SchedulerParameters").find_map(|word| word.strip_prefix("max_array_tasks=")?.parse().ok());
    let hides_jobs = words("PrivateData").any(|word| ["jobs", "all"].contains(&word));
    let limits_users = words("AccountingStorageEnforce").any(|word| ["limits", "safe"].contains(&word));
    let array = tasks.map_or(array, |tasks| array.min(tasks));
    Ok(Limits { cluster: cluster.to_string(), array, jobs, hides_jobs, limits_users, of_user: None })
}

/// The fields of a job: its array, its tasks, its state, its name, Slurm's reason, and its comment. The comment comes last,
/// since it can contain any text.
const FORMAT: &str = "%F|%K|%T|%j|%r|%k";

/// Returns the jobs of users, with hidden partitions. Tasks that wait in the same state are one job.
pub(super) fn jobs(cluster: &str, users: &BTreeSet<u32>) -> Result<Jobs, Error> {
    let users = users.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let mut squeue = on("squeue", cluster);
    // By default, long lists of tasks are cut.
    squeue.env("SLURM_BITSTR_LEN", "0").args(["--all", "--noheader", "--states=all", "--user", &users]);
    let text = ask(squeue.args(["--format", FORMAT]))?;
    parse_queue(&text, own_job().as_ref())
}

/// Returns true if any of these arrays has not ended.
pub(super) fn exist(cluster: &str, arrays: &[&str]) -> Result<bool, Error> {
    let mut squeue = on("squeue", cluster);
    squeue.args(["--all", "--noheader", "--states=all", "--format=%T", "--jobs", &arrays.join(",")]);
    match ask(&mut squeue) {
        // Wrappers of a site may print other lines.
        Ok(lines) => Ok(lines.lines().map(str::trim).any(|line| is_state(line) && !ENDED.contains(&line))),
        Err(Error::Refused { words, .. }) if ended_meanwhile(&words) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_state(line: &str) -> bool {
    !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// Returns the job that this process is part of. The number of a task alone may be that of its array.
pub(super) fn own_job() -> Option<JobTasks> {
    let number = |name| env::var(name).ok().filter(|value: &String| value.parse::<u32>().is_ok());
    match (number("SLURM_ARRAY_JOB_ID"), number("SLURM_ARRAY_TASK_ID")) {
        (Some(array), Some(task)) => Some(JobTasks { array, tasks: Tasks::parse(&task) }),
        _ => Some(JobTasks { array: number("SLURM_JOB_ID")?, tasks: None }),
    }
}

fn parse_queue(text: &str, own: Option<&JobTasks>) -> Result<Jobs, Error> {
    let mut jobs = Jobs::default();
    for line in text.lines() {
        match parse_job(line, own)? {
            Some(job) if job.state == JobState::Killed => jobs.killed.push(job),
            Some(job) => jobs.alive.push(job),
            None => {}
        }
    }
    Ok(jobs)
}

/// Parses a line of squeue; returns `None` for jobs that ended by themselves, and for lines that are not about jobs.
fn parse_job(line: &str, own: Option<&JobTasks>) -> Result<Option<Job>, Error> {
    let fields: Vec<&str> = line.splitn(6, '|').map(str::trim).collect();
    let &[array, tasks, state, name, reason, comment] = fields.as_slice() else { return Ok(None) };
    if ENDED.contains(&state) && !KILLED.contains(&state) {
        return Ok(None);
    }
    let known = Tasks::parse(tasks);
    if known.is_none() && tasks != "N/A" {
        // As a job without tasks, it would seem to be the whole array.
        return Err(Error::Unparsable { command: "squeue", answer: line.to_string() });
    }
    let id = JobTasks { array: array.to_string(), tasks: known };
    Ok(Some(Job {
        own: own == Some(&id),
        id,
        name: name.to_string(),
        state: match state {
            "PENDING" => JobState::Pending,
            "RUNNING" => JobState::Running,
            "COMPLETING" => JobState::Ending,
            _ if KILLED.contains(&state) => JobState::Killed,
            _ => JobState::Unknown,
        },
        words: match reason {
            "" | "None" | "(null)" => state.to_string(),
            reason => format!("{state}, {reason}"),
        },
        held: hold(state, reason, comment),
        failed_on: failed_on(comment),
    }))
}

/// Returns why a job is held: by itself, as its comment says, or for Slurm's reason. A job that has started keeps the reason of a
/// hold that came too late.
fn hold(state: &str, reason: &str, comment: &str) -> Option<Hold> {
    if ["CONFIGURING", "RUNNING", "SUSPENDED"].contains(&state) {
        return None;
    }
    let ours = comment.strip_prefix(OURS);
    let why = ours.unwrap_or(reason).to_string();
    let is_held =
        reason.contains("held") || reason.contains("Held") || ["REQUEUE_HOLD", "SPECIAL_EXIT"].contains(&state);
    match reason {
        "launch failed requeued held" | "JobHoldMaxRequeue" => Some(Hold::Nodes(why)),
        _ if !is_held => None,
        _ if reason.contains("JobHeldAdmin") && ours.is_none() => Some(Hold::Administrator(why)),
        _ => Some(Hold::Requested(why)),
    }
}

/// Returns the node that could not start a job, as its comment says.
fn failed_on(comment: &str) -> Option<NodeFailure> {
    let (node, reason) = comment.strip_prefix(OURS)?.strip_prefix(ON_NODE)?.split_once(": ")?;
    Some(NodeFailure { node: node.to_string(), reason: reason.to_string() })
}

/// The beginning of the comments that winsign writes.
const OURS: &str = "winsign: ";
/// The beginning of comments about a node that cannot start the program: `node n7: cannot use the store`.
const ON_NODE: &str = "node ";

/// Returns the comment of a job from which [`failed_on`] reads the last of these nodes.
pub(super) fn comment_on(failed: &FailedNodes) -> String {
    let node = failed.names().last().map(String::as_str).unwrap_or_default();
    one_line(&format!("{OURS}{ON_NODE}{node}: {}", failed.reason))
}

/// Replaces control characters by spaces.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// Keeps pending jobs off nodes.
pub(super) fn exclude(cluster: &str, jobs: &[JobTasks], nodes: &[String]) -> Result<(), Error> {
    for_each_array(jobs, |job| {
        let all = avoided_nodes(cluster, &job.array, "PENDING", nodes)?;
        update(cluster, &[job], "ExcNodeList", &all)
    })
}

/// Returns the list of the nodes that a job in this state avoids, and these.
fn avoided_nodes(cluster: &str, job: &str, state: &str, nodes: &[String]) -> Result<String, Error> {
    let mut squeue = on("squeue", cluster);
    squeue.args(["--all", "--noheader", "--format=%x", "--states", state, "--jobs", job]);
    let answer = ask(&mut squeue)?;
    let avoided = answer.lines().map(str::trim).find(|line| !["", "N/A", "(null)"].contains(line));
    // squeue shortens the list, as in `node[1-3]`.
    let known = avoided.and_then(|list| hosts::parse(list).ok()).unwrap_or_default();
    let new = nodes.iter().filter(|node| !known.iter().any(|host| host.name == **node)).map(String::as_str);
    Ok(avoided.into_iter().chain(new).collect::<Vec<_>>().join(","))
}

/// Queues running jobs again, to run on other nodes than those on which they failed. Slurm can keep only pending jobs off nodes,
/// so they are held until then.
pub(super) fn requeue_elsewhere(cluster: &str, jobs: &[JobTasks], failed: &FailedNodes) -> Result<(), Error> {
    let nodes: Vec<String> = failed.names().cloned().collect();
    for_each_array(jobs, |job| {
        let avoided = avoided_nodes(cluster, &job.to_string(), "all", &nodes)?;
        let jobs = std::slice::from_ref(&job);
        update(cluster, jobs, "Comment", &comment_on(failed))?;
        control(cluster, "requeuehold Incomplete", jobs)?;
        let released = update(cluster, jobs, "ExcNodeList", &avoided).and_then(|()| control(cluster, "release", jobs));
        if let Err(error) = released {
            // `winsign status` shows that it is held, and why.
            tracing::warn!("{error}");
        }
        Ok(())
    })
}

/// Lets pending jobs use all nodes, except those that options of sbatch exclude.
pub(super) fn use_all_nodes(cluster: &str, jobs: &[JobTasks], options: &[String]) -> Result<(), Error> {
    let words: Vec<String> = options.iter().filter_map(|line| shlex::split(line)).flatten().collect();
    let excluded: Vec<&str> = sbatch::excluded_nodes(&words).collect();
    update(cluster, jobs, "ExcNodeList", &excluded.join(","))
}

/// Submits a script and returns the job number.
pub(super) fn submit(cluster: &str, submitted: &ToSubmit) -> Result<String, Error> {
    let mut command = sbatch::command(submitted);
    if is_elsewhere(cluster) {
        command.arg(format!("--clusters={cluster}"));
    }
    // Retried only if the controller has not received the request; otherwise a second array might be created.
    let script = sbatch::script(submitted);
    let answer = COMMANDS.with_input(&mut command, script.as_bytes(), was_not_received);
    let answer = answer.map_err(|error| with_option_for_gpus(error, &script))?;
    job_number(&answer).ok_or(Error::Unparsable { command: "sbatch", answer })
}

/// Names the setting that helps if a site rejects the usual option for GPUs.
fn with_option_for_gpus(error: Error, script: &str) -> Error {
    let about_gpus = |words: &str| ["gres", "gpu"].iter().any(|word| words.to_lowercase().contains(word));
    match error {
        Error::Refused { command, words } if script.contains("#SBATCH --gres=") && about_gpus(&words) => {
            let words = format!("{words}\nif the site rejects `--gres`, set `gpu_option` in the profile");
            Error::Refused { command, words }
        }
        other => other,
    }
}

/// Returns the number in an answer: the last line that is `123` or `123;cluster`. Plugins of a site may print others.
fn job_number(answer: &str) -> Option<String> {
    let number = |line: &str| {
        let number = line.trim().split(';').next().unwrap_or_default();
        (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then(|| number.to_string())
    };
    answer.lines().rev().find_map(number)
}

/// Cancels jobs.
pub(super) fn cancel(cluster: &str, jobs: &[JobTasks]) -> Result<(), Error> {
    change(on("scancel", cluster), JobTasks::grouped(jobs).iter().map(JobTasks::to_string))
}

/// Sends a signal to the scripts of running jobs. Slurm repeats signals to lists of tasks, so each task is named.
pub(super) fn signal(cluster: &str, jobs: &[JobTasks], signal: &str) -> Result<(), Error> {
    let mut scancel = on("scancel", cluster);
    scancel.args([&format!("--signal={signal}"), "--batch"]);
    change(scancel, jobs.iter().flat_map(JobTasks::each).map(|task| task.to_string()))
}

/// `scontrol hold`, `release`, `requeue` and the like.
pub(super) fn control(cluster: &str, verb: &str, jobs: &[JobTasks]) -> Result<(), Error> {
    for_each_array(jobs, |job| {
        let mut scontrol = on("scontrol", cluster);
        scontrol.args(verb.split(' '));
        change(scontrol, [job.to_string()])
    })
}

/// Sets attributes of jobs, such as the comment, which [`jobs`] reads as the reason why they are held.
pub(super) fn update(cluster: &str, jobs: &[JobTasks], attribute: &str, text: &str) -> Result<(), Error> {
    let line = one_line(text);
    for_each_array(jobs, |job| {
        let mut scontrol = on("scontrol", cluster);
        scontrol.arg("update");
        change(scontrol, [format!("JobId={job}"), format!("{attribute}={line}")])
    })
}

/// Changes arrays one after the other. One that may not be changed does not keep the others from it; returns the first error.
fn for_each_array(jobs: &[JobTasks], act: impl Fn(JobTasks) -> Result<(), Error>) -> Result<(), Error> {
    let mut outcome = Ok(());
    for job in JobTasks::grouped(jobs) {
        outcome = outcome.and(act(job));
    }
    outcome
}

/// Writes the comment of jobs.
pub(super) fn comment(cluster: &str, jobs: &[JobTasks], text: &str) -> Result<(), Error> {
    update(cluster, jobs, "Comment", &format!("{OURS}{text}"))
}

/// Runs a command that changes jobs. A job that has just ended is not an error.
fn change(command: Command, words: impl IntoIterator<Item = String>) -> Result<(), Error> {
    let words: Vec<String> = words.into_iter().collect();
    for words in words.chunks(AT_ONCE) {
        let mut once = repeated(&command);
        match ask(once.args(words)) {
            Err(Error::Refused { words, .. }) if ended_meanwhile(&words) => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// Returns a copy of a command.
fn repeated(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => copy.env(name, value),
            None => copy.env_remove(name),
        };
    }
    copy
}

/// Returns true if all lines of an error are about jobs that have ended. Those about lists of tasks also have a line for the
/// others: `7_0-3: Job has already finished` and `7_4-9: No error`.
fn ended_meanwhile(words: &str) -> bool {
    const KNOWN: &[&str] = &[
        "Invalid job id",
        "already completing or completed",
        "already finished",
        "Job has already",
        "Job is no longer pending",
        ": No error",
    ];
    let lines = words.lines().filter(|line| !line.trim().is_empty());
    lines.clone().count() > 0 && lines.into_iter().all(|line| KNOWN.iter().any(|known| line.contains(known)))
}

/// The commands of Slurm.
const COMMANDS: Commands = Commands { title: TITLE, classify };

fn ask(command: &mut Command) -> Result<String, Error> {
    COMMANDS.ask(command)
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

/// Returns true if the controller has definitely not received the request.
fn was_not_received(error: &Error) -> bool {
    matches!(error, Error::Unavailable { words, .. } if words.contains("connect failure") || words.contains("Connection refused"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_from_the_configuration() {
        let text = "Configuration data as of 2026-01-01\nClusterName             = alpha\nMaxArraySize            = 1001\n\
                    MaxJobCount             = 10000\nMailProg                = /bin/mail";
        let limits = parse_limits(text).unwrap();
        assert_eq!((limits.cluster.as_str(), limits.array, limits.jobs), ("alpha", 1001, 10_000));
        assert!(!limits.hides_jobs && !limits.limits_users);
        let text = format!(
            "{text}\nAccountingStorageEnforce = associations,limits\nPrivateData = accounts,jobs\nSchedulerParameters = bf_max=1,max_array_tasks=100"
        );
        let limits = parse_limits(&text).unwrap();
        assert_eq!((limits.array, limits.hides_jobs, limits.limits_users), (100, true, true));
        assert!(matches!(parse_limits("nothing"), Err(Error::Unparsable { .. })));
    }

    #[test]
    fn unknown_job_states_are_not_ended() {
        let text = "7|3-5,9%2|PENDING|a.b.0|Dependency|(null)\n7|1|COMPLETED|a.b.0|None|\n\
                    8|N/A|A_NEW_STATE|x|None|one | two\n9|0|REQUEUE_HOLD|a.b.1|job requeued in held state|\n\
                    nonsense\n9|1|OUT_OF_MEMORY|a|None|";
        let own = JobTasks { array: "9".to_string(), tasks: Tasks::parse("0") };
        let Jobs { alive, killed } = parse_queue(text, Some(&own)).unwrap();
        let ids: Vec<String> = alive.iter().map(|job| job.id.to_string()).collect();
        assert_eq!(ids, ["7_[3-5,9]", "8", "9_0"]);
        assert_eq!([0, 1, 2].map(|at| alive[at].state), [JobState::Pending, JobState::Unknown, JobState::Unknown]);
        assert_eq!([0, 1, 2].map(|at| alive[at].own), [false, false, true]);
        assert_eq!(alive[0].words, "PENDING, Dependency");
        assert!(parse_queue("7|0-9,...|PENDING|a.b.0|None|", None).is_err(), "the list of tasks was cut");
        assert_eq!(killed.len(), 1);
        assert_eq!((killed[0].id.to_string().as_str(), killed[0].words.as_str()), ("9_1", "OUT_OF_MEMORY"));
    }

    /// Plugins of a site print lines to standard output.
    #[test]
    fn job_number_is_the_last_number() {
        assert_eq!(job_number("12\n").as_deref(), Some("12"));
        assert_eq!(job_number("12;west\n").as_deref(), Some("12"));
        assert_eq!(job_number("project 7 has 100\nhours: \n45\nthank you\n").as_deref(), Some("45"));
        assert_eq!(job_number("Submitted batch job\n"), None);
    }

    #[test]
    fn reason_of_a_held_job_is_its_comment_or_that_of_slurm() {
        let job = |end: &str| parse_job(&format!("7|1|{end}"), None).unwrap().unwrap().held;
        let requested = |reason: &str| Some(Hold::Requested(reason.to_string()));
        assert_eq!(job("PENDING|a|JobHeldUser|winsign: the disk | is full"), requested("the disk | is full"));
        assert_eq!(job("REQUEUE_HOLD|a|None|another"), requested("None"));
        assert_eq!(job("PENDING|a|JobHeldAdmin|"), Some(Hold::Administrator("JobHeldAdmin".to_string())));
        let failure = NodeFailure { node: "n7".to_string(), reason: "cannot use the store /s: it".to_string() };
        assert_eq!(failed_on("winsign: node n7: cannot use the store /s: it"), Some(failure));
        assert_eq!(failed_on("winsign: the disk is full"), None);
        let failed = "launch failed requeued held";
        assert_eq!(job(&format!("PENDING|a|{failed}|")), Some(Hold::Nodes(failed.to_string())));
        assert_eq!(job("RUNNING|a|None|winsign: earlier"), None);
        assert_eq!(job("RUNNING|a|JobHeldUser|"), None, "it was held too late");
    }

    #[test]
    fn unavailability_and_limits_are_recognized() {
        let error = |words: &str| classify("sbatch".to_string(), words.to_string());
        assert!(was_not_received(&error("Unable to contact slurm controller (connect failure)")));
        let timeout = error("Socket timed out on send/recv operation");
        assert!(timeout.is_unavailable() && !was_not_received(&timeout));
        assert!(matches!(error("Job violates: QOSMaxSubmitJobPerUserLimit"), Error::Limit { .. }));
        assert!(matches!(error("Invalid partition name specified"), Error::Refused { .. }));
    }

    /// The words are those of a filter of a site, and Slurm's own.
    #[test]
    fn rejection_of_gres_names_the_setting() {
        let hint = |script: &str, words: &str| {
            let refused = Error::Refused { command: "sbatch".to_string(), words: words.to_string() };
            with_option_for_gpus(refused, script).to_string().contains("set `gpu_option` in the profile")
        };
        let (with_gpus, without) = ("#SBATCH --gres=gpu:1\n", "#SBATCH --mem=4G\n");
        assert!(hint(with_gpus, "use --gpus instead of --gres"));
        assert!(hint(with_gpus, "Invalid generic resource (gres) specification"));
        assert!(!hint(with_gpus, "invalid partition specified: nowhere"));
        assert!(!hint(without, "use --gpus instead of --gres"));
    }

    #[test]
    fn errors_about_ended_jobs_are_ignored() {
        assert!(ended_meanwhile("Kill job error on job id 5: Invalid job id specified"));
        assert!(ended_meanwhile("7_0,2-3: Job has already finished\n7_1,4-9: No error"));
        assert!(!ended_meanwhile(""));
        assert!(!ended_meanwhile("Kill job error on job id 5: Access/permission denied"));
        assert!(!ended_meanwhile("Invalid job id specified\nAccess/permission denied"));
    }
}
