//! What the disk says about every run of a plan.

use std::collections::HashMap;
use std::path::PathBuf;
use std::thread;

use super::{Plan, RunState};
use crate::run::attempt::Progress;
use crate::run::error::{Error, Result};
use crate::run::results::RunResult;
use crate::run::{Run, RunId, State, Store};

/// The standing of one run.
#[derive(Debug, Clone)]
pub struct Standing {
    pub state: RunState,
    /// Of a run that is done.
    pub result: Option<RunResult>,
    /// Of a run that is running.
    pub progress: Option<Progress>,
    /// Why a run failed, who executes it, or what is wrong with its files.
    pub note: Option<String>,
    /// A file of the run that is not what was written; `winsign run` sets it aside.
    pub damaged: Option<PathBuf>,
}

/// Looks every run of a plan up, in its order.
pub fn survey(plan: &Plan, store: &Store) -> Result<Vec<Standing>> {
    survey_with(plan, store, |_| {})
}

/// The same, where somebody knows more of runs that wait than the disk does: `amend` may change their standing before what
/// needs them is judged.
pub fn survey_with(plan: &Plan, store: &Store, amend: impl FnOnce(&mut [Standing])) -> Result<Vec<Standing>> {
    let runs: Vec<&Run> = plan.runs.iter().map(|planned| &planned.run).collect();
    let mut standings = look_up(&runs, store)?;
    amend(&mut standings);
    block(&runs, &mut standings);
    Ok(standings)
}

/// Of any runs, each after those it needs.
pub fn survey_runs(runs: &[&Run], store: &Store) -> Result<Vec<Standing>> {
    let mut standings = look_up(runs, store)?;
    block(runs, &mut standings);
    Ok(standings)
}

/// Runs come after what they need, so one pass carries a failure all the way down.
fn block(runs: &[&Run], standings: &mut [Standing]) {
    let index: HashMap<&RunId, usize> = runs.iter().enumerate().map(|(index, run)| (&run.id, index)).collect();
    for (at, run) in runs.iter().enumerate() {
        let fails = |input: &&RunId| matches!(standings[index[input]].state, RunState::Failed | RunState::Blocked);
        if matches!(standings[at].state, RunState::Pending | RunState::Queued)
            && let Some(culprit) = run.inputs.iter().find(fails)
        {
            standings[at].note = Some(format!("needs {culprit}, which failed"));
            standings[at].state = RunState::Blocked;
        }
    }
}

/// Reading thousands of small files is mostly waiting, above all on a network file system: several threads wait at once.
fn look_up(runs: &[&Run], store: &Store) -> Result<Vec<Standing>> {
    const THREADS: usize = 8;
    let share = runs.len().div_ceil(THREADS).max(1);
    thread::scope(|scope| {
        let readers: Vec<_> = (runs.chunks(share))
            .map(|runs| {
                scope.spawn(move || -> Result<Vec<Standing>> {
                    runs.iter().map(|run| standing(store.run(&run.id).state())).collect()
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
