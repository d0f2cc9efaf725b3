//! Submits the runs of a plan that are not done, queued or running, and does not wait for them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use winsign_core::error::Result as StoreResult;
use winsign_core::{Run, RunId, Store, files, lease};
use winsign_sweep::plan::survey::{RunStatus, survey_with};
use winsign_sweep::plan::{Plan, PlannedRun, RunState};

use super::array_file::ArrayRun;
use super::arrays::{self, Array, Shape};
use super::failed_nodes::FailedNodes;
use super::profile::Profile;
use super::queue::Queue;
use super::scheduler::{Change, Hold, Job, JobState, JobTasks, Jobs, Limits, Patience, Variables, change_own};
use super::script::ArrayJob;
pub use super::send::Again;
use super::send::{HELD_BY_USER, Sent, record, room, send, send_again, take_lease};
use super::submission::{Execution, Part, Prepared, Submission, SubmissionFile};
use super::tasks::Tasks;
use super::{Error, programs};

/// A request to submit runs.
pub struct Request<'a> {
    pub plan: &'a Plan,
    /// The store, with an absolute path, since jobs start in other directories.
    pub store: &'a Store,
    pub profile: &'a Profile,
    pub execution: &'a Execution,
    pub winsign: &'a Path,
    pub worker: &'a Path,
    /// Restricts the submission to these runs; `None` for all.
    pub only: Option<&'a HashSet<RunId>>,
}

/// The number of times that the queue is polled, every second, while jobs of the study are ending.
const ENDING_PATIENCE: u32 = 15;

/// The seconds for which an ending job waits for another that is submitting arrays.
const SENDING_PATIENCE: u32 = 30;

/// The outcome of a request.
#[derive(Debug)]
pub struct Submitted {
    /// The new submission; `None` if there was nothing to submit.
    pub submission: Option<Submission>,
    pub runs: usize,
    pub arrays: Vec<Array>,
    pub sent: Sent,
    /// The statuses of the runs before the submission.
    pub statuses: Vec<RunStatus>,
}

/// Submits runs that are missing or have failed, and that are not queued or running.
pub fn submit(request: &Request) -> Result<Submitted, Error> {
    let limits = match limits(request.profile) {
        // All runs may be queued on another cluster than that of this environment.
        Err(error) if !matches!(error, Error::Elsewhere { .. }) => return Err(error),
        limits => limits,
    };
    let folder = request.store.root().join("submissions");
    files::create_directory(&folder)?;
    // Two concurrent submissions would both find the same runs missing.
    let _lease = match lease::take(&folder.join("submitting"))? {
        Ok(lease) => lease,
        Err(owner) => return Err(Error::Busy { reason: format!("{owner} is submitting to it") }),
    };
    let (mut queue, mut statuses, mut wanted) = query(request)?;
    queue.mark_over();
    let mut sent = continue_earlier(request.plan, &queue)?;
    if sent.arrays > 0 {
        // New jobs may depend on those of these arrays.
        (queue, statuses, wanted) = query(request)?;
    }
    let runs = wanted.iter().filter(|wanted| **wanted).count();
    if runs == 0 {
        return Ok(Submitted { submission: None, runs, arrays: vec![], sent, statuses });
    }
    let limits = limits?;
    let arrays = arrays::arrange(request.plan, &wanted, shape(request.profile, &limits));
    // Jobs may start at once, and must not take these failures for final ones.
    let failed = reset(request, &statuses, &wanted)?;
    let programs = programs::keep(request.store, request.winsign, request.worker)?;
    let id = Submission::new_id();
    let prepared = prepare(request, &queue, &arrays, &wanted, &id, &programs);
    let file = SubmissionFile::new(
        &request.plan.name,
        &limits.cluster,
        &programs,
        request.execution.clone(),
        request.profile.clone(),
    );
    let submission = Submission::write(request.store.root(), &id, file, prepared)?;
    match send(&submission, &limits, || jobs_of(&submission)) {
        Ok(new) => {
            sent += new;
            Ok(Submitted { submission: Some(submission), runs, arrays, sent, statuses })
        }
        Err(error) => {
            // Rejected as a whole, so no array may remain to be submitted. If the controller did not respond, it may have accepted
            // an array nevertheless, which the next submission finds by its name.
            if error.is_certain() && submission.parts().is_ok_and(|parts| parts.is_empty()) {
                submission.remove()?;
                for run in failed {
                    request.store.run(&run).restore_failure()?;
                }
            }
            Err(error)
        }
    }
}

/// Submits what fits of earlier submissions with runs of a plan. Those without jobs end; their remaining runs are part of the
/// next submission.
fn continue_earlier(plan: &Plan, queue: &Queue) -> Result<Sent, Error> {
    let mut sent = Sent::default();
    let own = queue.for_plan(plan).into_iter().filter(|live| live.submission.is_own());
    for live in own.clone().filter(|live| live.has_more()) {
        // Ending jobs would submit the rest, but it may fit already.
        sent += send_rest(&live.submission)?;
    }
    for live in own.filter(|live| live.is_stranded()) {
        live.submission.mark_cancelled()?;
    }
    Ok(sent)
}

/// Removes the damaged files and the failures of the wanted runs, and returns the runs that had failed.
fn reset(request: &Request, statuses: &[RunStatus], wanted: &[bool]) -> StoreResult<Vec<RunId>> {
    let mut failed = vec![];
    let runs = request.plan.runs.iter().zip(statuses).zip(wanted).filter(|(_, wanted)| **wanted);
    for ((planned, status), _) in runs.filter(|((_, status), _)| status.attempts > 0 || status.damaged.is_some()) {
        let directory = request.store.run(&planned.run.id);
        // A job checks only its own runs and their inputs, so it cannot notice that a deleted network is needed again.
        if let Some(damaged) = &status.damaged {
            directory.set_aside(damaged)?;
        }
        if directory.forgive()? {
            failed.push(planned.run.id.clone());
        }
    }
    Ok(failed)
}

/// The outcome that [`submit`] would have.
pub struct DryRun {
    pub submitted: Submitted,
    /// The script of each array.
    pub scripts: Vec<String>,
    /// The variables of the environment that affect what is submitted, and those that are ignored.
    pub variables: Variables,
}

/// Returns the arrays and scripts that [`submit`] would submit. Writes nothing.
pub fn dry_run(request: &Request) -> Result<DryRun, Error> {
    let limits = limits(request.profile)?;
    let (queue, statuses, wanted) = query(request)?;
    let arrays = arrays::arrange(request.plan, &wanted, shape(request.profile, &limits));
    let runs = wanted.iter().filter(|wanted| **wanted).count();
    let prepared = prepare(request, &queue, &arrays, &wanted, "SUBMISSION", "PROGRAMS");
    let scripts: Vec<String> = prepared.into_iter().map(|prepared| prepared.script).collect();
    // The options that replace variables are the same in all scripts.
    let scheduler = request.profile.scheduler();
    let variables = scripts.first().map(|script| scheduler.variables(script)).unwrap_or_default();
    let submitted = Submitted { submission: None, runs, arrays, sent: Sent::default(), statuses };
    Ok(DryRun { submitted, scripts, variables })
}

/// Returns the limits of the cluster that jobs of a profile go to, and of this user there.
fn limits(profile: &Profile) -> Result<Limits, Error> {
    let scheduler = profile.scheduler();
    let limits = scheduler.limits(profile.cluster.as_deref(), Patience::Some)?;
    Ok(Limits { of_user: scheduler.user_limit(profile, &limits), ..limits })
}

/// Returns the jobs of the user of a submission.
fn jobs_of(submission: &Submission) -> Result<Jobs, Error> {
    submission.scheduler().jobs(&submission.file.cluster, &[submission.file.user].into())
}

/// Returns the queue, the status of every run, and which runs to submit.
fn query(request: &Request) -> Result<(Queue, Vec<RunStatus>, Vec<bool>), Error> {
    let mut queue = Queue::query(request.store)?;
    // An ending job still counts as existing, and its unfinished runs would be missed.
    for _ in 0..ENDING_PATIENCE {
        if !queue.for_plan(request.plan).iter().any(|live| live.is_ending()) {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
        queue = Queue::query(request.store)?;
    }
    if let Some(reason) = queue.query_error(request.plan) {
        return Err(Error::QueueUnavailable { reason });
    }
    if let Some(error) = queue.take_unreadable() {
        return Err(error.into());
    }
    if let Some(submission) = queue.with_unknown_runs(request.plan) {
        let study = submission.file.study.clone();
        return Err(Error::UnknownRuns { submission: submission.id.clone(), study, user: submission.file.user });
    }
    let statuses = survey_with(request.plan, request.store, |statuses| queue.overlay(request.plan, statuses))?;
    let wanted = |(planned, status): (&PlannedRun, &RunStatus)| {
        let id = &planned.run.id;
        let missing = match status.state {
            RunState::Pending | RunState::Failed | RunState::Blocked => true,
            RunState::Running => queue.is_leaving(id),
            RunState::Done | RunState::Queued => false,
        };
        // A blocked run may belong to a job that has not checked it yet.
        missing && !queue.has(id) && request.only.is_none_or(|only| only.contains(id))
    };
    let wanted = request.plan.runs.iter().zip(&statuses).map(wanted).collect();
    Ok((queue, statuses, wanted))
}

/// Returns the limits on arrays; an array must fit into an empty queue.
fn shape(profile: &Profile, limits: &Limits) -> Shape {
    // Half of the limit, so that the next array can be submitted before the last one has ended.
    let array = limits.array.min(room(profile, limits) / 2).max(1);
    Shape { pack: profile.pack, array, max_running: profile.max_running }
}

fn prepare(
    request: &Request,
    queue: &Queue,
    arrays: &[Array],
    wanted: &[bool],
    id: &str,
    programs: &str,
) -> Vec<Prepared> {
    let runs = &request.plan.runs;
    let index: HashMap<&RunId, usize> = runs.iter().enumerate().map(|(at, planned)| (&planned.run.id, at)).collect();
    let inputs = |at: usize| runs[at].run.inputs.iter().map(|input| index[input]);
    let path = Submission::path_of(request.store.root(), id);
    let prepared = arrays.iter().enumerate().map(|(number, array)| {
        let mut all: BTreeSet<usize> = array.tasks.iter().flatten().copied().collect();
        // Jobs that compute inputs of this array, and cancelled jobs that are saving its checkpoints.
        let needed = all.iter().flat_map(|&at| inputs(at)).filter(|&input| !wanted[input]);
        let waited_for = needed.chain(all.iter().copied());
        let jobs: BTreeSet<&str> = waited_for.filter_map(|at| queue.job_of(&runs[at].run.id)).collect();
        let mut new: Vec<usize> = all.iter().copied().collect();
        while let Some(at) = new.pop() {
            new.extend(inputs(at).filter(|&input| all.insert(input)));
        }
        let script = ArrayJob {
            profile: request.profile,
            execution: request.execution,
            store: request.store.root(),
            submission: &path,
            programs,
            name: &Submission::job_name(&request.plan.name, id, number),
            array: number,
            tasks: array.tasks.len(),
            at_once: array.at_once,
        };
        let run = |&at: &usize| {
            let Run { id, settings, inputs } = runs[at].run.clone();
            (id, ArrayRun { label: runs[at].label.to_string(), settings, inputs })
        };
        let ids = |task: &Vec<usize>| task.iter().map(|&at| runs[at].run.id.clone()).collect();
        Prepared {
            tasks: array.tasks.iter().map(ids).collect(),
            after: array.after.iter().copied().collect(),
            after_jobs: jobs.into_iter().map(str::to_string).collect(),
            // Plans list runs after their inputs, and sets keep that order.
            runs: all.iter().map(run).collect(),
            script: script.script(),
        }
    });
    prepared.collect()
}

/// Continues a submission from a job that ends: submits arrays that did not fit before, and releases jobs that the scheduler
/// holds because a node could not start them. If the controller does not respond, it waits: no later job may do this.
pub fn continue_submission(submission: &Submission) -> Result<(), Error> {
    if submission.is_cancelled() || submission.skips_query() {
        return Ok(());
    }
    let mut tries = 0..CONTINUE_TRIES;
    let mut has_waited = false;
    loop {
        match try_to_continue(submission) {
            Err(Error::Unavailable { .. }) if tries.next().is_some() => std::thread::sleep(CONTINUE_DELAY),
            // Jobs that are ending still count.
            Err(error) if error.is_limit() && !has_waited => {
                has_waited = true;
                std::thread::sleep(CONTINUE_DELAY);
            }
            other => return other,
        }
    }
}

/// How often and after which delay an ending job tries to continue its submission.
const CONTINUE_TRIES: u32 = 30;
const CONTINUE_DELAY: Duration = Duration::from_secs(10);

/// Continues a submission as [`continue_submission`] does, but does not wait.
pub fn try_to_continue(submission: &Submission) -> Result<(), Error> {
    let mut jobs = jobs_of(submission)?;
    submission.write_killed(&submission.killed(&jobs.killed));
    jobs.alive.retain(|job| submission.array_of(job).is_some());
    let is_running = |job: &&Job| job.state == JobState::Running && !job.own;
    submission.record_query(jobs.alive.iter().filter(is_running).map(|job| job.id.len()).sum());
    let stuck = jobs.alive.iter().filter(|job| matches!(job.held, Some(Hold::Nodes(_))));
    let stuck: Vec<JobTasks> = stuck.map(|job| job.id.clone()).collect();
    submission.scheduler().change(&submission.file.cluster, &stuck, Change::Release)?;
    if submission.unsent(&submission.parts()?) > 0 {
        let sent = send_rest(submission)?;
        tracing::info!("submitted {} more arrays, {} remain", sent.arrays, sent.left);
    }
    Ok(())
}

/// Keeps all waiting jobs of a submission off nodes on which a task failed, in a job that runs in place of that task and has
/// proved that the nodes were the cause.
pub fn exclude_nodes(submission: &Submission, failed: &FailedNodes) -> Result<(), Error> {
    // Two jobs that start at the same time may know of different nodes.
    let _lease = in_turn(|| take_lease(submission))?;
    let mut excluded = submission.excluded_nodes()?;
    // A failure before `winsign release`, which may have come since the job started, does not count; nor does one on the node that
    // runs the task now.
    let own = submission.scheduler().own_node();
    let Some(failed) = failed.clone().since(submission.released_at()) else { return Ok(()) };
    let is_new = |node: &&String| !excluded.contains_key(*node) && own.as_ref() != Some(*node);
    let new: Vec<String> = failed.names().filter(is_new).cloned().collect();
    if new.is_empty() {
        return Ok(());
    }
    excluded.extend(new.iter().map(|node| (node.clone(), failed.reason.clone())));
    submission.exclude(&excluded)?;
    let jobs = jobs_of(submission)?.alive.into_iter();
    let waiting = jobs.filter(|job| submission.array_of(job).is_some() && job.state == JobState::Pending);
    let waiting: Vec<JobTasks> = waiting.map(|job| job.id).collect();
    submission.scheduler().change(&submission.file.cluster, &waiting, Change::Exclude(&new))
}

/// Submits the arrays of a submission that did not fit before.
fn send_rest(submission: &Submission) -> Result<Sent, Error> {
    let limits = submission.scheduler().limits(Some(&submission.file.cluster), Patience::Some)?;
    in_turn(|| send(submission, &limits, || jobs_of(submission)))
}

/// Submits a task again from its job.
pub fn submit_again(submission: &Submission, array: usize, task: u32, again: Again) -> Result<(), Error> {
    in_turn(|| send_again(submission, array, task, again))
}

/// Records that this process's job has executed a task that was not submitted.
pub fn record_executed(submission: &Submission, array: usize, task: u32) -> Result<(), Error> {
    let Some(job) = submission.scheduler().own_job() else { return Ok(()) };
    in_turn(|| {
        let _lease = take_lease(submission)?;
        record(submission, array, Part { job: job.array.clone(), tasks: Tasks::from(task..=task) })
    })
}

/// Queues a task again after the job of this process ends. `error` is the reason to hold it.
pub fn requeue(
    submission: &Submission,
    job: &JobTasks,
    array: usize,
    task: u32,
    error: Option<&str>,
) -> Result<(), Error> {
    let held = error.or(submission.is_held().then_some(HELD_BY_USER));
    let change = held.map_or(Change::Requeue, Change::RequeueHeld);
    match change_own(submission.scheduler(), &submission.file.cluster, job, change) {
        // Some schedulers do not allow a job to requeue itself.
        Err(Error::Refused { words, .. }) => {
            tracing::info!("submitting the task again, since it cannot be requeued: {words}");
            in_turn(|| send_again(submission, array, task, Again { held, ..Again::default() }))
        }
        other => other,
    }
}

/// Queues a task again after the job of this process ends, to run on another node than those on which it failed: where there is no
/// room for another job, [`submit_again`] cannot.
pub fn requeue_elsewhere(submission: &Submission, array: usize, task: u32, failed: &FailedNodes) -> Result<(), Error> {
    let scheduler = submission.scheduler();
    let Some(job) = scheduler.own_job() else { return Ok(()) };
    submission.record_failed_nodes(array, task, failed)?;
    change_own(scheduler, &submission.file.cluster, &job, Change::RequeueElsewhere(failed))?;
    match submission.is_held() {
        true => change_own(scheduler, &submission.file.cluster, &job, Change::Hold),
        false => Ok(()),
    }
}

/// Waits while another process is submitting. It counts this job as existing, so what it leaves must be done here.
fn in_turn<T>(act: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    let mut turns = 0..SENDING_PATIENCE;
    loop {
        match act() {
            Err(Error::Busy { .. }) if turns.next().is_some() => std::thread::sleep(Duration::from_secs(1)),
            other => return other,
        }
    }
}

/// Makes the path of a store absolute, for jobs on other nodes.
pub fn absolute(store: &Path) -> StoreResult<PathBuf> {
    std::path::absolute(store).map_err(winsign_core::Error::io("find", store))
}
