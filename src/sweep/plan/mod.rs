//! The plan: the runs of a sweep, their dependencies, and their states.

mod axes;
pub mod build;
pub mod found;
pub mod graph;
mod joins;
mod label;
pub mod pace;
pub mod stores;
pub mod survey;

use std::fmt;

use winsign_core::Run;
use winsign_core::settings::{Between, Connect, Inherit, Method, Problem, Seeds, Settings};

use crate::{Axes, Resources};

/// All runs of a sweep, each once, and each after those it needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub name: String,
    pub runs: Vec<PlannedRun>,
    pub resources: Resources,
}

/// A run and its label.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRun {
    pub run: Run,
    pub label: Label,
}

/// The position of a run in its study, as shown in messages and tables.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    pub problem: Problem,
    /// `None` for transfers that inherit from no ticket, and for paths between them; their level is 0.
    pub method: Option<Method>,
    pub level: u32,
    /// The epoch of level 0 that a rewind point stands for. A rewind point is not a level of a chain.
    pub rewind_point: Option<u32>,
    /// The inheritance of a transfer, or of the transfers that are connected; `None` for tickets, and for connects
    /// between tickets.
    pub inherit: Option<Inherit>,
    /// The kind of a connect; `None` for other runs.
    pub between: Option<Between>,
    /// The number of its block, from 1, and the number of blocks, for a run that measures a block of a matrix.
    pub block: Option<(u32, u32)>,
    /// The seeds of the run itself, or of all ends of a path or plane between transfers; empty if the ends are tickets,
    /// and for blocks.
    pub seeds: Vec<Seeds>,
    pub axes: Axes,
}

/// The state of a planned run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, strum::Display, strum::VariantArray)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum RunState {
    /// Its result is committed.
    Done,
    /// An attempt is alive.
    Running,
    /// It was submitted to a scheduler that has not started it yet.
    Queued,
    /// Its last attempt failed permanently.
    Failed,
    /// A run that it needs has failed.
    Blocked,
    /// It has not begun, or was interrupted and resumes from its checkpoint.
    Pending,
}

impl fmt::Display for Label {
    /// Writes the label, for example `aws level 12, sign, seed 3`.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (self.method, self.inherit) {
            (Some(method), Some(inherit)) => write!(f, "{method} level {}, {inherit}", self.level)?,
            (Some(method), None) => write!(f, "{method} level {}", self.level)?,
            (None, Some(inherit)) => write!(f, "{inherit}")?,
            (None, None) => write!(f, "level {}", self.level)?,
        }
        if let Some(epoch) = self.rewind_point {
            write!(f, " at epoch {epoch}")?;
        }
        match self.between {
            Some(Between::Plane) => write!(f, ", plane of seeds")?,
            Some(between) => write!(f, ", between {between}")?,
            None => {}
        }
        if let Some((block, blocks)) = self.block {
            write!(f, ", block {block} of {blocks}")?;
        }
        match &self.seeds[..] {
            [] => {}
            [one] => write!(f, ", seed {}", seed_text(one))?,
            [first @ .., last] => {
                let first: Vec<String> = first.iter().map(seed_text).collect();
                write!(f, " {} and {}", first.join(", "), seed_text(last))?;
            }
        }
        // The seed of a ticket is written above.
        for (name, value) in self.axes.iter().filter(|(name, _)| self.inherit.is_some() || name != "ticket.seed") {
            write!(f, ", {name} {value}")?;
        }
        Ok(())
    }
}

/// Returns one number if the three seeds are equal, otherwise all of them.
fn seed_text(seeds: &Seeds) -> String {
    if *seeds == Seeds::from(seeds.init) {
        seeds.init.to_string()
    } else {
        format!("(init {}, order {}, alpha {})", seeds.init, seeds.order, seeds.alpha)
    }
}

fn path_cost(path: &Connect) -> f64 {
    f64::from(path.points + 2 * path.refine) / 3.0
}

/// Estimates the duration of a run, in epochs of training.
pub fn cost(run: &Run) -> f64 {
    match &run.settings {
        Settings::Ticket(ticket) => f64::from(ticket.training.epochs),
        // An evaluation.
        Settings::Import(_) => 0.1,
        Settings::Transfer(transfer) => f64::from(transfer.training.epochs),
        // Every point is one pass over the training set without gradients, about a third of an epoch.
        Settings::Connect(path) => path_cost(path),
        Settings::Matrix(matrix) => path_cost(&matrix.path) * matrix.pairs(run.inputs.len() as u32) as f64,
        Settings::Plane(plane) => f64::from(plane.points).powi(2) / 3.0,
    }
}
