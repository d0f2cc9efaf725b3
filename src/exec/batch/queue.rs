//! The runs that are queued or running in a scheduler.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use winsign_core::error::Result as StoreResult;
use winsign_core::text::plural;
use winsign_core::{RunId, Store};
use winsign_sweep::plan::survey::RunStatus;
use winsign_sweep::plan::{Plan, RunState};

use super::Error;
use super::scheduler::{self, Job, JobState, Jobs, Limits, Patience};
use super::submission::{Found, Part, Submission, Unreadable};

/// The submissions of a store that are not over, with their jobs.
#[derive(Debug, Default)]
pub struct Queue {
    pub submissions: Vec<Live>,
    /// Submissions of this user that have no jobs any more.
    over: Vec<Live>,
    unreadable: Vec<Unreadable>,
    of_run: HashMap<RunId, Place>,
}

/// A submission with its queued and running jobs.
#[derive(Debug)]
pub struct Live {
    pub submission: Submission,
    /// Its jobs that have not ended, with the number of their array in the submission.
    pub jobs: Vec<(usize, Job)>,
    /// Its tasks that the scheduler killed, by array and task, with the scheduler's words.
    killed: BTreeMap<(usize, u32), String>,
    /// The number of arrays that are not submitted yet, or not completely.
    pub unsent: usize,
    view: View,
}

/// The visibility of the jobs of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
enum View {
    Full,
    /// Its jobs may exist unseen, for this reason: they are on another cluster, or hidden from this user.
    Partial(String),
    /// The scheduler of this cluster does not respond.
    None(String),
}

impl Live {
    /// Returns true if some of its jobs are ending.
    pub fn is_ending(&self) -> bool {
        self.jobs.iter().any(|(_, job)| job.state == JobState::Ending)
    }

    /// Returns true if it has jobs that execute runs now or later.
    fn is_active(&self) -> bool {
        self.jobs.iter().any(|(_, job)| job.state != JobState::Ending)
    }

    /// Returns true if it may have jobs that execute runs, and the runs of its tasks are unknown.
    fn has_unknown_runs(&self) -> bool {
        let may_execute = self.is_active() || (self.view != View::Full && !self.submission.is_cancelled());
        self.submission.has_unknown_runs() && may_execute
    }

    /// Returns true if it is of the study of a plan, and may have runs of it that are unknown.
    fn may_have_runs_of(&self, plan: &Plan) -> bool {
        self.submission.has_unknown_runs() && self.submission.file.study == plan.name
    }

    /// Returns true if it has arrays that its jobs will submit.
    pub fn has_more(&self) -> bool {
        self.view == View::Full && self.is_active() && self.unsent > 0 && !self.submission.is_cancelled()
    }

    /// Returns true if it has arrays that are not submitted and no job that could submit them.
    pub fn is_stranded(&self) -> bool {
        self.view == View::Full && !self.is_active() && self.unsent > 0
    }
}

/// The job of a run.
#[derive(Debug, Clone)]
struct Place {
    /// The job's number as in dependencies; `None` if its array is not submitted yet.
    job: Option<String>,
    note: String,
    state: PlaceState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlaceState {
    /// The job will execute the run.
    Waiting,
    /// The job was cancelled and is only saving checkpoints.
    Leaving,
    /// The scheduler killed the job.
    Killed,
}

impl Queue {
    /// Queries the schedulers of submissions, if there are any. Writes nothing.
    pub fn query(store: &Store) -> StoreResult<Queue> {
        let Found { submissions, unreadable } = Submission::all(store.root())?;
        for Unreadable { error, .. } in &unreadable {
            tracing::warn!("{error}; the jobs of this submission are unknown");
        }
        // Before the queries, so that jobs submitted in between do not seem to have ended.
        let parts: Vec<_> = submissions.iter().map(Submission::parts).collect::<StoreResult<_>>()?;
        let mut users: BTreeMap<(&str, &str), BTreeSet<u32>> = BTreeMap::new();
        for submission in &submissions {
            users.entry(place_of(submission)).or_default().insert(submission.file.user);
        }
        let answers: HashMap<(String, String), Result<Answer, Error>> = users
            .into_iter()
            .map(|((scheduler, cluster), users)| {
                ((scheduler.to_string(), cluster.to_string()), ask(scheduler, cluster, &users))
            })
            .collect();
        let mut queue = Queue { unreadable, ..Queue::default() };
        for (submission, parts) in submissions.into_iter().zip(parts) {
            let (scheduler, cluster) = place_of(&submission);
            let answer = answers[&(scheduler.to_string(), cluster.to_string())].as_ref();
            queue.add(submission, &parts, answer);
        }
        Ok(queue)
    }

    fn add(&mut self, submission: Submission, parts: &BTreeMap<usize, Vec<Part>>, answer: Result<&Answer, &Error>) {
        let mut live = Live {
            jobs: vec![],
            killed: BTreeMap::new(),
            unsent: submission.unsent(parts),
            view: View::Full,
            submission,
        };
        match answer {
            Ok(answer) => live.find_jobs(answer, parts),
            Err(error) => {
                let title = live.submission.scheduler().title();
                live.view = match error {
                    Error::Elsewhere { cluster, .. } => View::Partial(format!("{title} on {cluster}, not queried")),
                    error => View::None(error.to_string()),
                };
            }
        }
        let cancelled = live.submission.is_cancelled();
        if live.view == View::Full && live.jobs.is_empty() && (live.unsent == 0 || cancelled) {
            self.place_killed(&live);
            if live.submission.is_own() {
                self.over.push(live);
            }
            return;
        }
        self.place_runs(&live, parts, cancelled);
        self.submissions.push(live);
    }

    /// Adds how the scheduler ended jobs. Those of a cancelled submission ended because the user cancelled them.
    fn place_killed(&mut self, live: &Live) {
        if live.submission.is_cancelled() {
            return;
        }
        let title = live.submission.scheduler().title();
        for ((array, task), words) in &live.killed {
            for run in live.submission.runs_of(*array, *task) {
                let note = format!("{title} ended its last job: {words}");
                self.of_run.insert(run.clone(), Place { job: None, note, state: PlaceState::Killed });
            }
        }
    }

    fn place_runs(&mut self, live: &Live, parts: &BTreeMap<usize, Vec<Part>>, cancelled: bool) {
        self.place_killed(live);
        let arrays = &live.submission.file.arrays;
        let unseen = match &live.view {
            View::Partial(reason) => Some(reason.clone()),
            View::None(_) => Some(format!("{} does not respond", live.submission.scheduler().title())),
            View::Full => None,
        };
        if let Some(note) = unseen {
            for run in live.submission.runs() {
                self.of_run.insert(run.clone(), Place { job: None, note: note.clone(), state: PlaceState::Waiting });
            }
        }
        for (array, job) in &live.jobs {
            let state = if cancelled { PlaceState::Leaving } else { PlaceState::Waiting };
            for task in job.id.each() {
                let scheduler = live.submission.scheduler();
                let note = format!("{} job {}: {}", scheduler.title(), scheduler.name(&task), job.words);
                // A node may hold an ending job for days.
                let number = (job.state != JobState::Ending).then(|| task.to_string());
                let place = Place { job: number, note, state };
                let index = task.tasks.and_then(|tasks| tasks.last()).unwrap_or(0);
                for run in live.submission.runs_of(*array, index) {
                    self.of_run.insert(run.clone(), place.clone());
                }
            }
        }
        // Ending jobs submit the rest, if there are any.
        if live.has_more() {
            let note = "will be submitted within the limits of the cluster";
            for (array, index) in arrays.iter().enumerate() {
                let Some(rest) = live.submission.rest(array, parts) else { continue };
                for run in index.tasks.runs().iter().skip(*rest.start() as usize).flatten() {
                    self.of_run
                        .insert(run.clone(), Place { job: None, note: note.to_string(), state: PlaceState::Waiting });
                }
            }
        }
    }

    /// Marks submissions of this user that have no jobs any more, so that they are not queried again.
    pub fn mark_over(&self) {
        for live in &self.over {
            // Without write permission, it is found again next time.
            let _ = live.submission.mark_over();
        }
    }

    /// Marks the pending runs that are queued, and adds to others how their last job ended.
    pub fn overlay<'s>(&self, plan: &Plan, statuses: impl IntoIterator<Item = &'s mut RunStatus>) {
        for (planned, status) in plan.runs.iter().zip(statuses) {
            let Some(place) = self.of_run.get(&planned.run.id).filter(|_| status.state == RunState::Pending) else {
                continue;
            };
            match place.state {
                PlaceState::Waiting => {
                    status.state = RunState::Queued;
                    status.note = Some(place.note.clone());
                }
                PlaceState::Killed => status.note = Some(place.note.clone()),
                PlaceState::Leaving => {}
            }
        }
    }

    fn is(&self, run: &RunId, state: PlaceState) -> bool {
        self.of_run.get(run).is_some_and(|place| place.state == state)
    }

    /// Returns true if a job will execute the run.
    pub fn has(&self, run: &RunId) -> bool {
        self.is(run, PlaceState::Waiting)
    }

    /// Returns true if a run is in a cancelled job that is saving checkpoints.
    pub fn is_leaving(&self, run: &RunId) -> bool {
        self.is(run, PlaceState::Leaving)
    }

    /// Returns the job that executes a run, for dependencies; `None` if it has no job yet.
    pub fn job_of(&self, run: &RunId) -> Option<&str> {
        self.of_run.get(run)?.job.as_deref()
    }

    /// Returns the submissions with runs of a plan.
    pub fn for_plan<'a>(&'a self, plan: &Plan) -> Vec<&'a Live> {
        let runs: HashSet<&RunId> = plan.runs.iter().map(|planned| &planned.run.id).collect();
        let has_runs = |live: &Live| live.submission.runs().any(|run| runs.contains(run));
        self.submissions.iter().filter(|live| has_runs(live) || live.may_have_runs_of(plan)).collect()
    }

    /// Returns a submission whose jobs may execute runs of a plan, but whose files with its runs are damaged. Submissions that this
    /// user cannot cancel count only if they are of the same study.
    pub(super) fn with_unknown_runs(&self, plan: &Plan) -> Option<&Submission> {
        let counts = |live: &&Live| live.submission.may_be_changed() || live.may_have_runs_of(plan);
        let found = self.submissions.iter().filter(|live| live.has_unknown_runs()).find(counts);
        found.map(|live| &live.submission)
    }

    /// Returns the error of a submission of this user that cannot be read. Its jobs may execute any runs.
    pub fn take_unreadable(&mut self) -> Option<winsign_core::Error> {
        let own = self.unreadable.iter().position(|unreadable| unreadable.own)?;
        Some(self.unreadable.swap_remove(own).error)
    }

    /// Returns why the jobs of a plan are unknown, if a scheduler could not be queried.
    pub fn query_error(&self, plan: &Plan) -> Option<String> {
        self.for_plan(plan).into_iter().find_map(|live| match &live.view {
            View::None(reason) => Some(reason.clone()),
            View::Full | View::Partial(_) => None,
        })
    }

    /// Returns warnings about jobs that need intervention.
    pub fn warnings(&self, plan: &Plan, statuses: &[RunStatus]) -> Vec<String> {
        let mut warnings: Vec<String> =
            self.query_error(plan).map(|reason| format!("cannot query the job queue: {reason}")).into_iter().collect();
        for live in self.for_plan(plan) {
            warnings.extend(live.warnings());
        }
        warnings.extend(self.killed(plan, statuses));
        warnings
    }

    /// Returns a warning for each way in which the scheduler killed the last jobs of pending runs.
    fn killed(&self, plan: &Plan, statuses: &[RunStatus]) -> Vec<String> {
        let mut runs: BTreeMap<&str, usize> = BTreeMap::new();
        for (planned, status) in plan.runs.iter().zip(statuses) {
            let place = self.of_run.get(&planned.run.id).filter(|place| place.state == PlaceState::Killed);
            if let Some(place) = place.filter(|_| status.state == RunState::Pending) {
                *runs.entry(&place.note).or_default() += 1;
            }
        }
        let warning = |(note, runs): (&str, usize)| {
            let runs = plural(runs, "run");
            format!("{runs}: {note}; change `memory` or `time` of the profile if they are too small, and submit again")
        };
        runs.into_iter().map(warning).collect()
    }
}

impl Live {
    /// Finds its jobs in the answer of the scheduler.
    fn find_jobs(&mut self, answer: &Answer, parts: &BTreeMap<usize, Vec<Part>>) {
        let submission = &self.submission;
        let ours = |job: &Job| Some((submission.array_of(job)?, job.clone()));
        self.jobs = answer.jobs.alive.iter().filter_map(ours).collect();
        self.killed = submission.killed(&answer.jobs.killed);
        if !self.jobs.is_empty() {
            return;
        }
        // That a list does not show jobs is no proof that they have ended.
        let user = submission.file.user;
        if answer.limits.hides_jobs && !submission.is_own() && !rustix::process::getuid().is_root() {
            self.view = View::Partial(format!("the jobs of user {user} are hidden here"));
            return;
        }
        match submission.has_jobs(parts) {
            Ok(false) => {}
            Ok(true) => self.view = View::Partial(format!("the jobs of user {user} are not listed here")),
            Err(error) => self.view = View::None(error.to_string()),
        }
    }

    /// Describes the jobs for which a predicate is true, with the reason of the first; returns `None` if there are none.
    fn describe(&self, predicate: fn(&Job) -> bool, state: &str) -> Option<String> {
        let jobs: Vec<&Job> = self.jobs.iter().map(|(_, job)| job).filter(|job| predicate(job)).collect();
        let first = jobs.first()?;
        let count = plural(jobs.iter().map(|job| job.id.len()).sum(), "job");
        let name = self.submission.scheduler().name(&first.id);
        Some(format!("{count} of submission {}: {state} ({name}: {})", self.submission.id, first.reason()))
    }

    fn warnings(&self) -> Vec<String> {
        let id = &self.submission.id;
        let mut warnings = vec![];
        if self.has_unknown_runs() {
            warnings.push(format!(
                "the runs of submission {id} are unknown, since its files are damaged; run `winsign cancel`, and `winsign submit` \
                 when its jobs have ended"
            ));
        }
        warnings.extend(self.describe(Job::can_be_released, "held, until `winsign release`"));
        let administrator = "held, until an administrator of the cluster releases them";
        warnings.extend(self.describe(Job::is_held_by_administrator, administrator));
        let excluded = self.submission.excluded_nodes().unwrap_or_default();
        // Once a task of a bad node has started elsewhere, the node is excluded, and jobs wait for other reasons.
        if excluded.is_empty() {
            let elsewhere = "waiting for another node; if there is none, repair this one, and run `winsign release`";
            warnings.extend(self.describe(Job::waits_for_another_node, elsewhere));
        }
        if let Some((_, job)) = self.jobs.iter().find(|(_, job)| job.state == JobState::Ending) {
            let job = self.submission.scheduler().name(&job.id);
            warnings.push(format!(
                "job {job} of submission {id} is ending; if this lasts for minutes, its node needs an administrator; \
                 `winsign cancel` and then `winsign submit` continue without it"
            ));
        }
        for (node, reason) in excluded {
            warnings.push(format!("submission {id} no longer uses the node {node}: it {reason}"));
        }
        if let View::Partial(reason) = &self.view {
            warnings.push(format!("the state of submission {id} is unknown ({reason}); its runs count as queued"));
        }
        if self.is_stranded() {
            let unsent = self.unsent;
            warnings.push(format!(
                "{unsent} arrays of submission {id} were not submitted; submit them with `winsign submit`"
            ));
        }
        warnings
    }
}

/// The name of the scheduler and the cluster of a submission.
fn place_of(submission: &Submission) -> (&str, &str) {
    (&submission.file.profile.scheduler, &submission.file.cluster)
}

/// The answer of a scheduler.
struct Answer {
    limits: Limits,
    jobs: Jobs,
}

fn ask(scheduler: &str, cluster: &str, users: &BTreeSet<u32>) -> Result<Answer, Error> {
    let scheduler = scheduler::find(scheduler).expect("it was checked when it was read");
    let limits = scheduler.limits(Some(cluster), Patience::None)?;
    Ok(Answer { limits, jobs: scheduler.jobs(cluster, users)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::profile::Profile;
    use crate::batch::scheduler::JobTasks;
    use crate::batch::submission::{ArrayIndex, Execution, SubmissionFile, TaskList};

    #[test]
    fn jobs_of_cancelled_submission_were_not_killed() {
        let folder = tempfile::tempdir().unwrap();
        let execution = Execution { data: "data".into(), threads: 1, ranks: 1, gpus: None, retries: 1 };
        let mut file = SubmissionFile::new("study", "alpha", "beef", execution, Profile::default());
        let run: RunId = serde_json::from_str("\"3f09c2aa3f09c2aa\"").unwrap();
        let tasks = TaskList::Runs(vec![vec![run.clone()]]);
        file.arrays.push(ArrayIndex { tasks, after: vec![], after_jobs: vec![] });
        let submission = Submission { id: "3f".to_string(), path: folder.path().to_path_buf(), file };
        let job = Job {
            id: JobTasks::parse("7_0"),
            name: Submission::job_name("study", "3f", 0),
            state: JobState::Killed,
            words: "FAILED, NonZeroExitCode".to_string(),
            held: None,
            failed_on: None,
            own: false,
        };
        let limits = Limits {
            cluster: "alpha".to_string(),
            array: 9,
            jobs: 9,
            hides_jobs: false,
            limits_users: false,
            of_user: None,
        };
        let answer = Answer { limits, jobs: Jobs { alive: vec![], killed: vec![job] } };
        let is_killed = || {
            let mut queue = Queue::default();
            queue.add(submission.clone(), &BTreeMap::new(), Ok(&answer));
            queue.is(&run, PlaceState::Killed)
        };
        assert!(is_killed());
        submission.mark_cancelled().unwrap();
        assert!(!is_killed());
    }
}
