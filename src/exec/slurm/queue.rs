//! The runs that are queued or running in Slurm.

use std::collections::{BTreeMap, HashMap, HashSet};

use winsign_core::error::Result as StoreResult;
use winsign_core::{RunId, Store};
use winsign_sweep::plan::survey::RunStatus;
use winsign_sweep::plan::{Plan, RunState};

use super::client::{self, Limits, Living};
use super::submission::Submission;

/// The submissions of a store that are not over, with their jobs.
#[derive(Debug, Default)]
pub struct Queue {
    pub submissions: Vec<Live>,
    /// Why Slurm could not be queried, if a query was needed and failed.
    pub unasked: Option<String>,
    of_run: HashMap<RunId, Place>,
}

/// A submission with its queued and running jobs.
#[derive(Debug)]
pub struct Live {
    pub submission: Submission,
    /// Its jobs that have not ended: array, task, job.
    pub tasks: Vec<(usize, usize, Living)>,
    /// The number of arrays that are not submitted yet.
    pub unsent: usize,
    /// Whether its jobs are known: it belongs to this cluster, whose Slurm responds.
    known: bool,
}

impl Live {
    /// Whether some of its jobs are ending.
    pub fn is_ending(&self) -> bool {
        self.tasks.iter().any(|(.., job)| job.is_ending())
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
    /// The job's number as in commands of Slurm; `None` if its array is not submitted yet.
    job: Option<String>,
    note: String,
    /// Whether the job was cancelled and is only saving checkpoints.
    leaving: bool,
}

impl Queue {
    /// Queries Slurm, if there are submissions. Those without jobs are marked as over.
    pub fn look(store: &Store) -> StoreResult<Queue> {
        let submissions = Submission::all(store.root())?;
        let mut queue = Queue::default();
        if submissions.is_empty() {
            return Ok(queue);
        }
        // Before the query, so that jobs submitted in between do not seem to have ended.
        let jobs: Vec<_> = submissions.iter().map(Submission::jobs).collect::<StoreResult<_>>()?;
        let users = submissions.iter().map(|submission| submission.file.user).collect();
        let asked = client::look(&users);
        let (cluster, living) = match asked {
            Ok((Limits { cluster, .. }, living)) => (cluster, living),
            Err(error) => {
                queue.unasked = Some(error.to_string());
                (String::new(), vec![])
            }
        };
        for (submission, jobs) in submissions.into_iter().zip(jobs) {
            // On another cluster, or one that does not respond, all jobs may exist.
            let known = queue.unasked.is_none() && submission.file.cluster == cluster;
            queue.add(submission, jobs, known.then_some(&living));
        }
        Ok(queue)
    }

    fn add(&mut self, submission: Submission, jobs: BTreeMap<usize, String>, living: Option<&Vec<Living>>) {
        let cancelled = submission.is_cancelled();
        let unsent = submission.file.arrays.len() - jobs.len();
        let mut live = Live { tasks: vec![], unsent, known: living.is_some(), submission };
        match living {
            None => {
                let note = format!("Slurm on {}, not queried", live.submission.file.cluster);
                for index in &live.submission.file.arrays {
                    self.insert(index.tasks.iter().flatten(), Place { job: None, note: note.clone(), leaving: false });
                }
            }
            Some(living) => {
                for job in living {
                    if let Some((array, task)) = live.submission.locate(job) {
                        let place = Place { job: Some(job.id()), note: describe(job), leaving: cancelled };
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
                    let unsent =
                        live.submission.file.arrays.iter().enumerate().filter(|(array, _)| !jobs.contains_key(array));
                    let note = "will be submitted within the limits of the cluster".to_string();
                    for (_, index) in unsent {
                        self.insert(
                            index.tasks.iter().flatten(),
                            Place { job: None, note: note.clone(), leaving: false },
                        );
                    }
                }
            }
        }
        self.submissions.push(live);
    }

    fn insert<'a>(&mut self, runs: impl Iterator<Item = &'a RunId>, place: Place) {
        for run in runs {
            self.of_run.insert(run.clone(), place.clone());
        }
    }

    /// Marks the pending runs that are queued in Slurm.
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

    /// Returns warnings about jobs that need intervention.
    pub fn warnings(&self, plan: &Plan) -> Vec<String> {
        let mut warnings = vec![];
        if let Some(reason) = &self.unasked {
            warnings.push(format!("cannot query the job queue: {reason}"));
        }
        for live in self.of_plan(plan) {
            let held: Vec<&Living> = live.tasks.iter().map(|(.., job)| job).filter(|job| job.is_held()).collect();
            if let Some(first) = held.first() {
                let why = match first.comment.strip_prefix("winsign: ") {
                    Some(comment) => comment.to_string(),
                    None => first.reason.clone(),
                };
                warnings.push(format!(
                    "{} jobs of submission {} are held ({}: {why}); release them with `winsign release`",
                    held.len(),
                    live.submission.id,
                    first.id()
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

fn describe(job: &Living) -> String {
    let reason = match job.reason.as_str() {
        "" | "None" | "(null)" => String::new(),
        reason => format!(", {reason}"),
    };
    format!("Slurm job {}: {}{reason}", job.id(), job.state)
}
