//! The story of a submission: what of a plan is to be done and not in hand yet goes to Slurm, and nobody waits for it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use winsign_core::error::Result as StoreResult;
use winsign_core::{RunId, Store, files, lease};
use winsign_sweep::plan::survey::{RunStatus, survey_with};
use winsign_sweep::plan::{Plan, RunState};

use super::arrays::{self, Array, Shape};
use super::client::{self, Limits};
use super::profile::Profile;
use super::queue::Queue;
use super::script::Script;
use super::submission::{ArrayIndex, ArrayRun, Execution, Prepared, Sent, Submission, SubmissionFile};
use super::{Error, programs};

/// What is to be submitted, and how.
pub struct Request<'a> {
    pub plan: &'a Plan,
    /// An absolute path, since jobs start elsewhere.
    pub store: &'a Store,
    pub profile: &'a Profile,
    pub execution: &'a Execution,
    pub winsign: &'a Path,
    pub worker: &'a Path,
    /// Which of the runs that are to be done and not in hand; all unless said.
    pub only: Option<&'a HashSet<RunId>>,
}

/// How often the queue is looked at again while jobs of the study are just ending, every quarter of a second.
const ENDING_PATIENCE: u32 = 60;

/// How many seconds a job that ends waits for another one that sends what is left.
const SENDING_PATIENCE: u32 = 30;

/// What became of a request.
#[derive(Debug)]
pub struct Submitted {
    /// None if there was nothing to submit.
    pub submission: Option<Submission>,
    pub runs: usize,
    pub arrays: Vec<Array>,
    pub sent: Sent,
    /// How many runs of the plan are in each state, those just submitted not yet counted as queued.
    pub statuses: Vec<RunStatus>,
}

/// Hands to Slurm what is missing or has failed, and is in nobody's hands.
pub fn submit(request: &Request) -> Result<Submitted, Error> {
    let limits = client::limits()?;
    let folder = request.store.root().join("submissions");
    files::create_directory(&folder)?;
    // Two at once would both find the same runs missing.
    let _lease = match lease::take(&folder.join("submitting"))? {
        Ok(lease) => lease,
        Err(owner) => return Err(Error::Busy { reason: format!("{owner} is submitting to it") }),
    };
    let (queue, statuses, wanted) = look(request)?;
    let mut sent = Sent::default();
    for live in queue.of_plan(request.plan).into_iter().filter(|live| live.has_more()) {
        // Jobs that end would send the rest; there may be room already.
        sent += live.submission.send(&limits)?;
    }
    for live in queue.of_plan(request.plan).into_iter().filter(|live| live.is_stranded()) {
        // What it did not send goes with the new submission.
        live.submission.mark_cancelled()?;
    }
    let arrays = arrays::arrange(request.plan, &wanted, shape(request.profile, &limits));
    let runs = wanted.iter().filter(|wanted| **wanted).count();
    if runs == 0 {
        return Ok(Submitted { submission: None, runs, arrays, sent, statuses });
    }
    let going = request.plan.runs.iter().zip(&statuses).zip(&wanted).filter(|(_, wanted)| **wanted);
    for ((planned, status), _) in going {
        let directory = request.store.run(&planned.run.id);
        // A job sees its own runs and what they need. That a network which was cleaned is needed again, it cannot see.
        if let Some(damaged) = &status.damaged {
            directory.set_aside(damaged)?;
        }
        directory.forgive()?;
    }
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
    match submission.send(&limits) {
        Ok(new) => {
            sent += new;
            Ok(Submitted { submission: Some(submission), runs, arrays, sent, statuses })
        }
        Err(error) => {
            // Refused as a whole: nothing of it must look as if it were still to be sent. Where the controller did not answer, it may
            // have an array all the same, which the next submission finds by its name.
            if error.is_certain() && submission.jobs().is_ok_and(|jobs| jobs.is_empty()) {
                submission.remove()?;
            }
            Err(error)
        }
    }
}

/// What [`submit`] would send: the arrays, and their scripts. Writes nothing.
pub fn rehearse(request: &Request) -> Result<(Submitted, Vec<String>), Error> {
    let limits = client::limits()?;
    let (queue, statuses, wanted) = look(request)?;
    let arrays = arrays::arrange(request.plan, &wanted, shape(request.profile, &limits));
    let runs = wanted.iter().filter(|wanted| **wanted).count();
    let scripts = prepare(request, &queue, &arrays, &wanted, "SUBMISSION", "PROGRAMS");
    let submitted = Submitted { submission: None, runs, arrays, sent: Sent::default(), statuses };
    Ok((submitted, scripts.into_iter().map(|prepared| prepared.script).collect()))
}

/// What Slurm has, how every run stands, and which ones are wanted.
fn look(request: &Request) -> Result<(Queue, Vec<RunStatus>, Vec<bool>), Error> {
    let mut queue = Queue::look(request.store)?;
    // A job that is about to be gone still counts as alive, and what it has not done would be left out.
    for _ in 0..ENDING_PATIENCE {
        if !queue.of_plan(request.plan).iter().any(|live| live.is_ending()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(250));
        queue = Queue::look(request.store)?;
    }
    if let Some(reason) = queue.unasked {
        return Err(Error::Unasked { reason });
    }
    let statuses = survey_with(request.plan, request.store, |statuses| queue.overlay(request.plan, statuses))?;
    let wanted = |(planned, status): (&winsign_sweep::plan::PlannedRun, &RunStatus)| {
        let id = &planned.run.id;
        let missing = match status.state {
            RunState::Pending | RunState::Failed | RunState::Blocked => true,
            RunState::Running => queue.is_leaving(id),
            RunState::Done | RunState::Queued => false,
        };
        // A blocked run may be in a job that has not looked yet.
        missing && !queue.has(id) && request.only.is_none_or(|only| only.contains(id))
    };
    let wanted = request.plan.runs.iter().zip(&statuses).map(wanted).collect();
    Ok((queue, statuses, wanted))
}

/// An array must fit where nothing else is.
fn shape(profile: &Profile, limits: &Limits) -> Shape {
    let room = profile.max_submit.map_or(limits.room(), |most| limits.room().min(most));
    // Half of it, so that the next array can go before the last one has quite ended.
    let array = limits.array.min(room / 2).max(1);
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
        // Those that have what this array needs, and those that were cancelled and still save what it goes on with.
        let needed = all.iter().flat_map(|&at| inputs(at)).filter(|&input| !wanted[input]);
        let waited_for = needed.chain(all.iter().copied());
        let jobs: BTreeSet<&str> = waited_for.filter_map(|at| queue.job_of(&runs[at].run.id)).collect();
        let mut new: Vec<usize> = all.iter().copied().collect();
        while let Some(at) = new.pop() {
            new.extend(inputs(at).filter(|&input| all.insert(input)));
        }
        let script = Script {
            profile: request.profile,
            execution: request.execution,
            store: request.store.root(),
            submission: &path,
            programs,
            job_name: &Submission::job_name(&request.plan.name, id, number),
            array: number,
            tasks: array.tasks.len(),
            at_once: array.at_once,
        };
        let run = |&at: &usize| ArrayRun {
            label: runs[at].label.to_string(),
            settings: runs[at].run.settings.clone(),
            inputs: runs[at].run.inputs.clone(),
        };
        let ids = |task: &Vec<usize>| task.iter().map(|&at| runs[at].run.id.clone()).collect();
        Prepared {
            index: ArrayIndex {
                tasks: array.tasks.iter().map(ids).collect(),
                after: array.after.iter().copied().collect(),
                after_jobs: jobs.into_iter().map(str::to_string).collect(),
            },
            // Plans list runs after those they need, and sets keep that order.
            runs: all.iter().map(run).collect(),
            script: script.text(),
        }
    });
    prepared.collect()
}

/// What a job does for its submission before it ends: sends what did not fit before, and lets go what Slurm itself holds
/// because a node could not start it.
pub fn keep_going(submission: &Submission) -> Result<(), Error> {
    if submission.is_cancelled() {
        return Ok(());
    }
    let jobs = submission.jobs()?;
    if jobs.len() < submission.file.arrays.len() {
        let limits = client::limits()?;
        let mut turns = 0..SENDING_PATIENCE;
        let sent = loop {
            match submission.send(&limits) {
                // Another job that ends is at it, and counts this one as alive: what it leaves is ours to send.
                Err(Error::Busy { .. }) if turns.next().is_some() => std::thread::sleep(Duration::from_secs(1)),
                other => break other?,
            }
        };
        tracing::info!("submitted {} more arrays, {} remain", sent.arrays, sent.left);
    }
    let stuck = |job: &client::Living| job.reason == "launch failed requeued held" || job.reason == "JobHoldMaxRequeue";
    let living = client::living(&[submission.file.user].into())?;
    let stuck: Vec<String> =
        living.iter().filter(|job| stuck(job) && submission.locate(job).is_some()).map(|job| job.id()).collect();
    client::control("release", &stuck)
}

/// The path of a store as jobs on other nodes have to be told it.
pub fn absolute(store: &Path) -> StoreResult<std::path::PathBuf> {
    std::path::absolute(store).map_err(winsign_core::Error::io("find", store))
}
