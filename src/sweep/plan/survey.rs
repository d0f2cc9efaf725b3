//! The status of each run of a plan, as recorded on disk.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use winsign_core::attempt::{END, Progress};
use winsign_core::error::{Error, Result};
use winsign_core::owner::{self, Clock};
use winsign_core::parallel;
use winsign_core::results::{GpuUtilization, RunResult};
use winsign_core::{Run, RunDirectory, RunId, State, Store, clean};

use super::{Plan, RunState};

/// The status of one run.
#[derive(Debug, Clone)]
pub struct RunStatus {
    pub state: RunState,
    /// The result of a run that is done, or was done until another run needed its network, which `winsign clean` has
    /// deleted.
    pub result: Option<RunResult>,
    /// The progress of a run that is running.
    pub progress: Option<Progress>,
    /// The utilization of the GPUs of a run that is running or done; `None` if it was not measured.
    pub gpu_utilization: Option<GpuUtilization>,
    /// The reason of a failure, the owner of a run that is executed, or the defect of a damaged file.
    pub note: Option<String>,
    /// A file of the run that differs from what was written; `winsign run` sets it aside.
    pub damaged: Option<PathBuf>,
    /// The number of attempts that have begun; for a run that is done, up to the one that committed the result.
    pub attempts: u32,
    /// The machine that computed the run, executes it now, or on which it failed.
    pub host: Option<String>,
    /// The time at which the run was committed, its active attempt began, or it failed, by the clock of the file
    /// system, so that runs of nodes whose clocks differ can be compared.
    pub since: Option<SystemTime>,
}

/// Returns the status of each run of a plan, in its order.
pub fn survey(plan: &Plan, store: &Store) -> Result<Vec<RunStatus>> {
    survey_with(plan, store, |_| {})
}

/// Like [`survey`], for callers that know more about waiting runs than the disk does: `amend` may change statuses
/// before those of their dependents are determined.
pub fn survey_with(plan: &Plan, store: &Store, amend: impl FnOnce(&mut [RunStatus])) -> Result<Vec<RunStatus>> {
    survey_again(plan, store, &[], &Clock::new(store.root()), amend)
}

/// Like [`survey_with`], but does not read runs again that were done in `before`, which may be empty.
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

/// Returns the statuses of any runs; each must come after those it needs.
pub fn survey_runs(runs: &[&Run], store: &Store) -> Result<Vec<RunStatus>> {
    let mut statuses = look_up(runs, store, &[], &Clock::new(store.root()))?;
    settle(runs, store, &mut statuses)?;
    Ok(statuses)
}

/// Adjusts the statuses of runs to those of their inputs and dependents.
fn settle(runs: &[&Run], store: &Store, statuses: &mut [RunStatus]) -> Result<()> {
    let index: HashMap<&RunId, usize> = runs.iter().enumerate().map(|(index, run)| (&run.id, index)).collect();
    need_again(runs, store, &index, statuses)?;
    block(runs.iter().copied().zip(statuses));
    Ok(())
}

/// Marks the runs as blocked that need a run that failed. Runs come after those they need, so one pass propagates each
/// failure to all dependents.
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

/// Marks a run as pending if `winsign clean` has deleted its network and another run still has to be computed from it.
/// If only its numbers are needed, the run stays done.
fn need_again(runs: &[&Run], store: &Store, index: &HashMap<&RunId, usize>, statuses: &mut [RunStatus]) -> Result<()> {
    let mut needed_by: Vec<Option<usize>> = vec![None; runs.len()];
    // Runs come after those they need, so one pass from the last propagates each need to all inputs.
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
        // A running run has its inputs, or will report that they are missing.
        if !matches!(statuses[at].state, RunState::Done | RunState::Running) {
            run.inputs.iter().for_each(|input| needed_by[index[input]] = Some(at));
        }
    }
    Ok(())
}

/// If there are more runs than this, those that do not exist are found by listing the 256 folders of the store.
const MAX_LOOKED_UP: usize = 300;

fn look_up(runs: &[&Run], store: &Store, before: &[RunStatus], clock: &Clock) -> Result<Vec<RunStatus>> {
    let existing: Option<HashSet<RunId>> = match runs.len() > MAX_LOOKED_UP {
        true => Some(store.runs()?.into_iter().collect()),
        false => None,
    };
    let runs: Vec<(usize, &Run)> = runs.iter().copied().enumerate().collect();
    let looked = parallel::map(&runs, |&(at, run)| match before.get(at) {
        Some(known) if known.state == RunState::Done => Ok(known.clone()),
        _ if existing.as_ref().is_some_and(|existing| !existing.contains(&run.id)) => Ok(RunStatus::pending()),
        _ => status(&store.run(&run.id), clock),
    });
    looked.into_iter().collect()
}

/// Returns the status of a run on its own, without regard to the runs it needs.
pub fn status(run: &RunDirectory, clock: &Clock) -> Result<RunStatus> {
    let plain = |state| RunStatus { state, ..RunStatus::pending() };
    Ok(match run.state_by(clock) {
        Ok(State::Done(result)) => RunStatus {
            host: Some(result.host.clone()),
            since: committed(&result, owner::touched(&run.result_path())?),
            attempts: result.attempt,
            gpu_utilization: result.usage.and_then(|usage| usage.gpu_utilization),
            result: Some(*result),
            ..plain(RunState::Done)
        },
        Ok(State::Running { attempt, claim, status }) => RunStatus {
            gpu_utilization: status.as_ref().and_then(|status| status.gpu_utilization),
            progress: status.map(|status| status.progress),
            note: Some(claim.owner.to_string()),
            since: owner::touched(&run.claim_path(attempt))?,
            host: Some(claim.owner.host),
            attempts: attempt,
            ..plain(RunState::Running)
        },
        Ok(State::Failed { attempt, message }) => RunStatus {
            note: Some(message),
            host: run.claim_of(attempt)?.map(|claim| claim.owner.host),
            since: owner::touched(&run.attempt_path(attempt).join(END))?,
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

/// Returns the time at which a result was committed: usually when its file was `written`, since all files of a store
/// share one clock. A file that is much younger than the time recorded in the result is a copy; then the recorded time
/// counts.
fn committed(result: &RunResult, written: Option<SystemTime>) -> Option<SystemTime> {
    const COPIED: Duration = Duration::from_secs(3600);
    let recorded = SystemTime::try_from(result.finished).ok();
    match (written, recorded) {
        (Some(written), Some(recorded)) if written.duration_since(recorded).is_ok_and(|age| age > COPIED) => {
            Some(recorded)
        }
        (written, recorded) => written.or(recorded),
    }
}

impl RunStatus {
    /// Returns the status of a run that has not begun.
    pub fn pending() -> RunStatus {
        RunStatus {
            state: RunState::Pending,
            result: None,
            progress: None,
            gpu_utilization: None,
            note: None,
            damaged: None,
            attempts: 0,
            host: None,
            since: None,
        }
    }

    /// Returns the time that a run has been in its state, never negative; `None` if the disk does not record it.
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        Some(now.duration_since(self.since?).unwrap_or_default())
    }

    /// Returns the fraction of a run's work that is done.
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
