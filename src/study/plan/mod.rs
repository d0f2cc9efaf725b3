//! The plan: which runs a sweep consists of, what needs what, and which exist already.

pub mod build;

use crate::run::settings::{Between, Inherit, Method, Problem, Seeds};
use crate::run::{Run, RunId};
use crate::study::sweep::{Axes, Resources};

/// All runs of a sweep, each once, and each after those it needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub name: String,
    pub runs: Vec<PlannedRun>,
    pub resources: Resources,
}

/// A run and what people call it.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRun {
    pub run: Run,
    pub label: Label,
}

/// A run's place in the study, for people and for tables.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    pub problem: Problem,
    pub method: Method,
    pub level: u32,
    /// What was transferred; none for tickets, and for connects whose ends are tickets.
    pub inherit: Option<Inherit>,
    /// Connects only.
    pub between: Option<Between>,
    /// Of the run itself; of both ends for a connect between seeds; empty for `norm-init`.
    pub seeds: Vec<Seeds>,
    pub axes: Axes,
}

/// The state of a planned run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum RunState {
    /// Its result is committed.
    Done,
    /// An attempt is alive.
    Running,
    /// Handed to a scheduler that has not started it yet.
    Queued,
    /// Its last attempt failed for good.
    Failed,
    /// Something it needs has failed.
    Blocked,
    /// To be run: nothing has happened yet, or it was interrupted and goes on from its checkpoint.
    Pending,
}

impl Plan {
    pub fn find(&self, id: &RunId) -> Option<&PlannedRun> {
        self.runs.iter().find(|planned| &planned.run.id == id)
    }
}
