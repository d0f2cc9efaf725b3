//! The runs that are queued or running in a scheduler.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use winsign_core::error::Result as StoreResult;
use winsign_core::{RunId, Store};
use winsign_sweep::plan::survey::RunStatus;
use winsign_sweep::plan::{Plan, RunState};

use super::Error;
use super::scheduler::{Hold, Job, JobState, Limits, Patience, SCHEDULERS, Scheduler};
use super::submission::Submission;

/// The submissions of a store that are not over, with their jobs.
#[derive(Debug, Default)]
pub struct Queue {
    pub submissions: Vec<Live>,
    of_run: HashMap<RunId, Place>,
}

/// A submission with its queued and running jobs.
#[derive(Debug)]
pub struct Live {
    pub submission: Submission,
    /// Its jobs that have not ended: array, task, job.
    pub tasks: Vec<(usize, usize, Job)>,
    /// The number of arrays that are not submitted yet.
    pub unsent: usize,
    /// Whether its jobs are known: it belongs to this cluster, whose scheduler responds.
    known: bool,
    /// Why its scheduler could not be queried.
    query_error: Option<String>,
}

impl Live {
    /// Whether some of its jobs are ending.
    pub fn is_ending(&self) -> bool {
        self.tasks.iter().any(|(.., job)| job.state == JobState::Ending)
    }

    /// Whether it has arrays that its jobs will submit.
    pub fn has_more(&self) -> bool {
        self.known && !self.tasks.is_empty() && self.unsent > 0 && !self.submission.is_cancelled()
    }

    /// Whether it has arrays that are not submitted and no job that could submit them.
    pub fn is_stranded(&self) -> bool {
        self.known && self.tasks.is_empty() && self.unsent > 0
    }
}

/// The job of a run.
#[derive(Debug, Clone)]
struct Place {
    /// The job's number as in commands of the scheduler; `None` if its array is not submitted yet.
    job: Option<String>,
    note: String,
    /// Whether the job was cancelled and is only saving checkpoints.
    leaving: bool,
}

impl Queue {
    /// Queries the schedulers of submissions, if there are any. Submissions without jobs are marked as over.
    pub fn query(store: &Store) -> StoreResult<Queue> {
        let submissions = Submission::all(store.root())?;
        // Before the queries, so that jobs submitted in between do not seem to have ended.
        let jobs: Vec<_> = submissions.iter().map(Submission::jobs).collect::<StoreResult<_>>()?;
        let mut answers: HashMap<&str, Result<Answer, String>> = HashMap::new();
        for (name, scheduler) in SCHEDULERS {
            let ours = submissions.iter().filter(|submission| submission.file.profile.scheduler == *name);
            let users: BTreeSet<u32> = ours.map(|submission| submission.file.user).collect();
            if !users.is_empty() {
                answers.insert(name, ask(*scheduler, &users).map_err(|error| error.to_string()));
            }
        }
        let mut queue = Queue::default();
        for (submission, jobs) in submissions.into_iter().zip(jobs) {
            let answer = answers[submission.file.profile.scheduler.as_str()].as_ref();
            queue.add(submission, &jobs, answer);
        }
        Ok(queue)
    }

    fn add(&mut self, submission: Submission, sent: &BTreeMap<usize, String>, answer: Result<&Answer, &String>) {
        let cancelled = submission.is_cancelled();
        let title = submission.scheduler().title();
        // On another cluster, or one that does not respond, all jobs may exist.
        let known = answer.ok().filter(|answer| submission.file.cluster == answer.cluster);
        let mut live = Live {
            tasks: vec![],
            unsent: submission.file.arrays.len() - sent.len(),
            known: known.is_some(),
            query_error: answer.err().cloned(),
            submission,
        };
        let Some(Answer { jobs, .. }) = known else {
            let note = format!("{title} on {}, not queried", live.submission.file.cluster);
            for index in &live.submission.file.arrays {
                self.insert(index.tasks.iter().flatten(), Place { job: None, note: note.clone(), leaving: false });
            }
            self.submissions.push(live);
            return;
        };
        for job in jobs {
            if let Some((array, task)) = live.submission.locate(job) {
                let note = format!("{title} job {}: {}", job.id, job.words);
                let place = Place { job: Some(job.id.clone()), note, leaving: cancelled };
                self.insert(live.submission.file.arrays[array].tasks[task].iter(), place);
                live.tasks.push((array, task, job.clone()));
            }
        }
        if live.tasks.is_empty() && (live.unsent == 0 || cancelled) {
            // Without write permission, it is found again next time.
            let _ = live.submission.mark_over();
            return;
        }
        // Ending jobs submit the rest, if there are any.
        if !live.tasks.is_empty() && !cancelled {
            let note = "will be submitted within the limits of the cluster".to_string();
            let arrays = live.submission.file.arrays.iter().enumerate();
            for (_, index) in arrays.filter(|(array, _)| !sent.contains_key(array)) {
                self.insert(index.tasks.iter().flatten(), Place { job: None, note: note.clone(), leaving: false });
            }
        }
        self.submissions.push(live);
    }

    fn insert<'a>(&mut self, runs: impl Iterator<Item = &'a RunId>, place: Place) {
        for run in runs {
            self.of_run.insert(run.clone(), place.clone());
        }
    }

    /// Marks the pending runs that are queued.
    pub fn overlay<'s>(&self, plan: &Plan, statuses: impl IntoIterator<Item = &'s mut RunStatus>) {
        for (planned, status) in plan.runs.iter().zip(statuses) {
            let place = self.of_run.get(&planned.run.id).filter(|place| !place.leaving);
            if let (RunState::Pending, Some(place)) = (status.state, place) {
                status.state = RunState::Queued;
                status.note = Some(place.note.clone());
            }
        }
    }

    /// Whether a job will execute the run.
    pub fn has(&self, run: &RunId) -> bool {
        self.of_run.get(run).is_some_and(|place| !place.leaving)
    }

    /// Whether a run is in a cancelled job that is saving checkpoints.
    pub fn is_leaving(&self, run: &RunId) -> bool {
        self.of_run.get(run).is_some_and(|place| place.leaving)
    }

    /// Returns the job that executes a run, for dependencies; `None` if it has no job yet.
    pub fn job_of(&self, run: &RunId) -> Option<&str> {
        self.of_run.get(run)?.job.as_deref()
    }

    /// Returns the submissions with runs of a plan.
    pub fn of_plan<'a>(&'a self, plan: &Plan) -> Vec<&'a Live> {
        let runs: HashSet<&RunId> = plan.runs.iter().map(|planned| &planned.run.id).collect();
        let holds = |live: &&Live| {
            live.submission
                .file
                .arrays
                .iter()
                .flat_map(|index| index.tasks.iter().flatten())
                .any(|run| runs.contains(run))
        };
        self.submissions.iter().filter(holds).collect()
    }

    /// Returns why the jobs of a plan are unknown, if a scheduler could not be queried.
    pub fn query_error(&self, plan: &Plan) -> Option<String> {
        self.of_plan(plan).into_iter().find_map(|live| live.query_error.clone())
    }

    /// Returns warnings about jobs that need intervention.
    pub fn warnings(&self, plan: &Plan) -> Vec<String> {
        let mut warnings: Vec<String> =
            self.query_error(plan).map(|reason| format!("cannot query the job queue: {reason}")).into_iter().collect();
        for live in self.of_plan(plan) {
            let held: Vec<(&Job, &Hold)> =
                live.tasks.iter().filter_map(|(.., job)| Some((job, job.held.as_ref()?))).collect();
            if let Some((first, hold)) = held.first() {
                warnings.push(format!(
                    "{} jobs of submission {} are held ({}: {}); release them with `winsign release`",
                    held.len(),
                    live.submission.id,
                    first.id,
                    hold.reason()
                ));
            }
            if live.is_stranded() {
                warnings.push(format!(
                    "{} arrays of submission {} were not submitted; submit them with `winsign submit`",
                    live.unsent, live.submission.id
                ));
            }
        }
        warnings
    }
}

/// The answer of a scheduler.
struct Answer {
    cluster: String,
    jobs: Vec<Job>,
}

fn ask(scheduler: &dyn Scheduler, users: &BTreeSet<u32>) -> Result<Answer, Error> {
    let Limits { cluster, .. } = scheduler.limits(Patience::None)?;
    Ok(Answer { cluster, jobs: scheduler.jobs(users)? })
}
