//! What the disk says about every run of a plan.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use winsign_core::attempt::{END, Progress};
use winsign_core::error::{Error, Result};
use winsign_core::owner::{self, Clock};
use winsign_core::parallel;
use winsign_core::results::RunResult;
use winsign_core::{Run, RunDirectory, RunId, State, Store, clean};

use super::{Plan, RunState};

/// The status of one run.
#[derive(Debug, Clone)]
pub struct RunStatus {
    pub state: RunState,
    /// Of a run that is done, or was until a network was needed that `winsign clean` has deleted.
    pub result: Option<RunResult>,
    /// Of a run that is running.
    pub progress: Option<Progress>,
    /// Why a run failed, who executes it, or what is wrong with its files.
    pub note: Option<String>,
    /// A file of the run that is not what was written; `winsign run` sets it aside.
    pub damaged: Option<PathBuf>,
    /// Attempts begun so far; of a run that is done, up to the one that committed.
    pub attempts: u32,
    /// The machine it was computed on, runs on now, or failed on.
    pub host: Option<String>,
    /// When it was committed, was begun by the attempt that runs now, or failed: by the clock of the file system, so that
    /// runs of nodes whose clocks differ can be compared.
    pub since: Option<SystemTime>,
}

/// Looks every run of a plan up, in its order.
pub fn survey(plan: &Plan, store: &Store) -> Result<Vec<RunStatus>> {
    survey_with(plan, store, |_| {})
}

/// The same, where somebody knows more of runs that wait than the disk does: `amend` may change their status before what
/// needs them is judged.
pub fn survey_with(plan: &Plan, store: &Store, amend: impl FnOnce(&mut [RunStatus])) -> Result<Vec<RunStatus>> {
    survey_again(plan, store, &[], &Clock::of(store.root()), amend)
}

/// Looks up every run that was not done `before`, which may be empty. What is done stays so: it is not read again.
pub fn survey_again(
    plan: &Plan,
    store: &Store,
    before: &[RunStatus],
    clock: &Clock,
    amend: impl FnOnce(&mut [RunStatus]),
) -> Result<Vec<RunStatus>> {
    let runs: Vec<&Run> = plan.runs.iter().map(|planned| &planned.run).collect();
    let mut statuses = look_up(&runs, store, before, clock)?;
    amend(&mut statuses);
    settle(&runs, store, &mut statuses)?;
    Ok(statuses)
}

/// Of any runs, each after those it needs.
pub fn survey_runs(runs: &[&Run], store: &Store) -> Result<Vec<RunStatus>> {
    let mut statuses = look_up(runs, store, &[], &Clock::of(store.root()))?;
    settle(runs, store, &mut statuses)?;
    Ok(statuses)
}

/// What follows for a run from how others stand.
fn settle(runs: &[&Run], store: &Store, statuses: &mut [RunStatus]) -> Result<()> {
    let index: HashMap<&RunId, usize> = runs.iter().enumerate().map(|(index, run)| (&run.id, index)).collect();
    need_again(runs, store, &index, statuses)?;
    block(runs.iter().copied().zip(statuses));
    Ok(())
}

/// What needs a run that failed cannot be done. Runs come after what they need, so one pass carries a failure all the way down.
pub fn block<'r>(runs: impl Iterator<Item = (&'r Run, &'r mut RunStatus)>) {
    let mut lost: HashSet<&RunId> = HashSet::new();
    for (run, status) in runs {
        if matches!(status.state, RunState::Pending | RunState::Queued)
            && let Some(culprit) = run.inputs.iter().find(|input| lost.contains(input))
        {
            status.note = Some(format!("needs {culprit}, which failed"));
            status.state = RunState::Blocked;
        }
        if matches!(status.state, RunState::Failed | RunState::Blocked) {
            lost.insert(&run.id);
        }
    }
}

/// A run whose network was deleted by `winsign clean` is done for all who want its numbers. If a run is still to be
/// computed from it, it has to be computed again.
fn need_again(runs: &[&Run], store: &Store, index: &HashMap<&RunId, usize>, statuses: &mut [RunStatus]) -> Result<()> {
    let mut needed_by: Vec<Option<usize>> = vec![None; runs.len()];
    // Runs come after what they need, so one pass from the last carries a need all the way up.
    for (at, run) in runs.iter().enumerate().rev() {
        if let (RunState::Done, Some(dependent), Some(result)) =
            (statuses[at].state, needed_by[at], &statuses[at].result)
            && let Some(network) = &result.network
        {
            let directory = store.run(&run.id);
            if clean::cleaned(&directory, network)?.is_some() {
                let dependent = &runs[dependent].id;
                statuses[at].note =
                    Some(format!("its network was deleted by `winsign clean`, and {dependent} needs it"));
                statuses[at].damaged = Some(directory.result_path());
                statuses[at].state = RunState::Pending;
            }
        }
        // One that runs has what it needs, or will say so itself.
        if !matches!(statuses[at].state, RunState::Done | RunState::Running) {
            run.inputs.iter().for_each(|input| needed_by[index[input]] = Some(at));
        }
    }
    Ok(())
}

fn look_up(runs: &[&Run], store: &Store, before: &[RunStatus], clock: &Clock) -> Result<Vec<RunStatus>> {
    let runs: Vec<(usize, &Run)> = runs.iter().copied().enumerate().collect();
    let looked = parallel::map(&runs, |&(at, run)| match before.get(at) {
        Some(known) if known.state == RunState::Done => Ok(known.clone()),
        _ => status(&store.run(&run.id), clock),
    });
    looked.into_iter().collect()
}

/// A run's status on its own, without regard to what it needs.
pub fn status(run: &RunDirectory, clock: &Clock) -> Result<RunStatus> {
    let plain = |state| RunStatus { state, ..RunStatus::pending() };
    Ok(match run.state_by(clock) {
        Ok(State::Done(result)) => RunStatus {
            host: Some(result.host.clone()),
            since: committed(&result, owner::touched(&run.result_path())),
            attempts: result.attempt,
            result: Some(*result),
            ..plain(RunState::Done)
        },
        Ok(State::Running { attempt, claim, progress }) => RunStatus {
            progress,
            note: Some(claim.owner.to_string()),
            since: owner::touched(&run.claim_path(attempt)),
            host: Some(claim.owner.host),
            attempts: attempt,
            ..plain(RunState::Running)
        },
        Ok(State::Failed { attempt, message }) => RunStatus {
            note: Some(message),
            host: run.claim_of(attempt)?.map(|claim| claim.owner.host),
            since: owner::touched(&run.attempt_path(attempt).join(END)),
            attempts: attempt,
            ..plain(RunState::Failed)
        },
        Ok(State::Idle { attempts: 0 }) => plain(RunState::Pending),
        Ok(State::Idle { attempts }) => {
            let note = Some("interrupted; will resume from its checkpoint".to_string());
            RunStatus { note, attempts, ..plain(RunState::Pending) }
        }
        Err(error @ Error::Damaged { .. }) => {
            let attempts = run.attempts().unwrap_or_default().last().copied().unwrap_or(0);
            let note = Some(error.to_string());
            let Error::Damaged { path, .. } = error else { unreachable!("matched above") };
            RunStatus { note, damaged: Some(path), attempts, ..plain(RunState::Pending) }
        }
        Err(error) => return Err(error),
    })
}

/// When a result was committed: when its file was `written`, since all files of a store have one clock. Only a file that is
/// much younger than the result says is a copy, and then the node's clock is the better one.
fn committed(result: &RunResult, written: Option<SystemTime>) -> Option<SystemTime> {
    const COPIED: Duration = Duration::from_secs(3600);
    let said = SystemTime::try_from(result.finished).ok();
    match (written, said) {
        (Some(written), Some(said)) if written.duration_since(said).is_ok_and(|age| age > COPIED) => Some(said),
        (written, said) => written.or(said),
    }
}

impl RunStatus {
    /// Of a run to which nothing has happened.
    pub fn pending() -> RunStatus {
        RunStatus {
            state: RunState::Pending,
            result: None,
            progress: None,
            note: None,
            damaged: None,
            attempts: 0,
            host: None,
            since: None,
        }
    }

    /// How long a run has been as it is; never negative, whatever the clocks say. None where the disk does not tell.
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        Some(now.duration_since(self.since?).unwrap_or_default())
    }

    /// Which part of a run's work is behind it.
    pub fn share_done(&self) -> f64 {
        match (self.state, &self.progress) {
            (RunState::Done, _) => 1.0,
            (_, Some(progress)) if progress.total > 0 => {
                (f64::from(progress.done) / f64::from(progress.total)).min(1.0)
            }
            _ => 0.0,
        }
    }
}
