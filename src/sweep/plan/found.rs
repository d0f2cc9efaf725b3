//! The plan of the runs in stores, for reports without a sweep file.

use std::collections::BTreeMap;

use winsign_core::error::Result;
use winsign_core::parallel;
use winsign_core::settings::Settings;
use winsign_core::{Run, RunId, Store};

use super::{Plan, label};
use crate::Resources;

/// Returns all runs of these stores, each after those it needs, and the runs whose settings cannot be read, with the reason.
///
/// # Errors
///
/// Names a store that cannot be read.
pub fn plan(name: &str, stores: &[Store]) -> Result<(Plan, Vec<(RunId, String)>)> {
    let mut runs: BTreeMap<RunId, Run> = BTreeMap::new();
    let mut unreadable = Vec::new();
    for store in stores {
        let new: Vec<RunId> = store.runs()?.into_iter().filter(|id| !runs.contains_key(id)).collect();
        let read = parallel::map(&new, |id| store.run(id).settings());
        for (id, settings) in new.into_iter().zip(read) {
            match settings {
                Ok(Some(file)) => drop(runs.insert(id, Run::new(file.settings, file.inputs))),
                // The directory is being created or deleted.
                Ok(None) => {}
                Err(error) => unreadable.push((id, error.to_string())),
            }
        }
    }
    unreadable.retain(|(id, _)| !runs.contains_key(id));
    let resources = Resources { retries: 0, ..Resources::default() };
    let runs = in_order(runs).into_iter().map(|run| (run, None)).collect();
    Ok((Plan { name: name.to_string(), runs: label::label(runs), resources }, unreadable))
}

/// Sorts runs: tickets by level, then transfers, then connections.
fn in_order(runs: BTreeMap<RunId, Run>) -> Vec<Run> {
    let place = |run: &Run| match &run.settings {
        Settings::Import(_) => (0, 1),
        Settings::Ticket(ticket) => (0, ticket.level),
        Settings::Transfer(_) => (1, 0),
        Settings::Connect(_) | Settings::Matrix(_) | Settings::Plane(_) => (2, 0),
    };
    let method = |run: &Run| match &run.settings {
        Settings::Ticket(ticket) => Some(ticket.method),
        _ => None,
    };
    let inherit = |run: &Run| match &run.settings {
        Settings::Transfer(transfer) => Some((transfer.inherit, transfer.seeds)),
        _ => None,
    };
    let mut runs: Vec<Run> = runs.into_values().collect();
    runs.sort_by_key(|run| (place(run), method(run), inherit(run)));
    runs
}

#[cfg(test)]
mod tests;
