//! What the disk says about every run of a plan.

use std::collections::HashMap;
use std::path::PathBuf;
use std::thread;

use super::{Plan, RunState};
use crate::run::attempt::Progress;
use crate::run::error::{Error, Result};
use crate::run::results::RunResult;
use crate::run::{RunId, State, Store, clean};

/// The standing of one run.
#[derive(Debug, Clone)]
pub struct Standing {
    pub state: RunState,
    /// Of a run that is done, or was until a network was needed that `winsign clean` has deleted.
    pub result: Option<RunResult>,
    /// Of a run that is running.
    pub progress: Option<Progress>,
    /// Why a run failed, who executes it, or what is wrong with its files.
    pub note: Option<String>,
    /// A file of the run that is not what was written; `winsign run` sets it aside.
    pub damaged: Option<PathBuf>,
}

/// Looks every run up, in the order of the plan.
pub fn survey(plan: &Plan, store: &Store) -> Result<Vec<Standing>> {
    let mut standings = look_up(plan, store)?;
    let index: HashMap<&RunId, usize> =
        plan.runs.iter().enumerate().map(|(index, planned)| (&planned.run.id, index)).collect();
    need_again(plan, store, &index, &mut standings)?;
    // Runs come after what they need, so one pass carries a failure all the way down.
    for (at, planned) in plan.runs.iter().enumerate() {
        let fails = |input: &&RunId| matches!(standings[index[input]].state, RunState::Failed | RunState::Blocked);
        if standings[at].state == RunState::Pending
            && let Some(culprit) = planned.run.inputs.iter().find(fails)
        {
            standings[at].note = Some(format!("needs {culprit}, which failed"));
            standings[at].state = RunState::Blocked;
        }
    }
    Ok(standings)
}

/// A run whose network was deleted by `winsign clean` is done for all who want its numbers. If a run is still to be
/// computed from it, it has to be computed again.
fn need_again(plan: &Plan, store: &Store, index: &HashMap<&RunId, usize>, standings: &mut [Standing]) -> Result<()> {
    let mut needed_by: Vec<Option<usize>> = vec![None; plan.runs.len()];
    // Runs come after what they need, so one pass from the last carries a need all the way up.
    for (at, planned) in plan.runs.iter().enumerate().rev() {
        if let (RunState::Done, Some(dependent), Some(result)) =
            (standings[at].state, needed_by[at], &standings[at].result)
            && let Some(network) = &result.network
        {
            let run = store.run(&planned.run.id);
            if clean::cleaned(&run, network)?.is_some() {
                let dependent = &plan.runs[dependent].label;
                standings[at].note =
                    Some(format!("its network was deleted by `winsign clean`, and {dependent} needs it"));
                standings[at].damaged = Some(run.result_path());
                standings[at].state = RunState::Pending;
            }
        }
        // One that runs has what it needs, or will say so itself.
        if !matches!(standings[at].state, RunState::Done | RunState::Running) {
            planned.run.inputs.iter().for_each(|input| needed_by[index[input]] = Some(at));
        }
    }
    Ok(())
}

/// Reading thousands of small files is mostly waiting, above all on a network file system: several threads wait at once.
fn look_up(plan: &Plan, store: &Store) -> Result<Vec<Standing>> {
    const THREADS: usize = 8;
    let share = plan.runs.len().div_ceil(THREADS).max(1);
    thread::scope(|scope| {
        let readers: Vec<_> = (plan.runs.chunks(share))
            .map(|runs| {
                scope.spawn(move || -> Result<Vec<Standing>> {
                    runs.iter().map(|planned| standing(store.run(&planned.run.id).state())).collect()
                })
            })
            .collect();
        let parts: Result<Vec<_>> =
            readers.into_iter().map(|reader| reader.join().expect("readers do not panic")).collect();
        Ok(parts?.into_iter().flatten().collect())
    })
}

/// A run's standing on its own, without regard to what it needs.
pub fn standing(state: Result<State>) -> Result<Standing> {
    let plain = |state| Standing { state, result: None, progress: None, note: None, damaged: None };
    Ok(match state {
        Ok(State::Done(result)) => Standing { result: Some(*result), ..plain(RunState::Done) },
        Ok(State::Running { claim, progress, .. }) => {
            Standing { progress, note: Some(claim.owner.to_string()), ..plain(RunState::Running) }
        }
        Ok(State::Failed { message, .. }) => Standing { note: Some(message), ..plain(RunState::Failed) },
        Ok(State::Idle { attempts: 0 }) => plain(RunState::Pending),
        Ok(State::Idle { .. }) => {
            Standing { note: Some("interrupted; goes on where it was saved".into()), ..plain(RunState::Pending) }
        }
        Err(error @ Error::Damaged { .. }) => {
            let note = Some(error.to_string());
            let Error::Damaged { path, .. } = error else { unreachable!("matched above") };
            Standing { note, damaged: Some(path), ..plain(RunState::Pending) }
        }
        Err(error) => return Err(error),
    })
}
