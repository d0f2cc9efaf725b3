//! The plan: which runs a sweep consists of, what needs what, and which exist already.

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
    /// None for transfers that inherit from no ticket, and for paths between them; their level is 0.
    pub method: Option<Method>,
    pub level: u32,
    /// Of a ticket that is there to be rewound to: the epoch of level 0 it stands for. It is no level of a chain.
    pub rewind_point: Option<u32>,
    /// What was transferred; none for tickets, and for connects whose ends are tickets.
    pub inherit: Option<Inherit>,
    /// Connects only.
    pub between: Option<Between>,
    /// Of a run that measures many paths: which block of the matrix it is, from 1, and of how many.
    pub block: Option<(u32, u32)>,
    /// Of the run itself; of all its ends for one path or plane between transfers; empty where the ends are tickets, and
    /// for blocks.
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
    /// Handed to a scheduler that has not started it yet.
    Queued,
    /// Its last attempt failed for good.
    Failed,
    /// Something it needs has failed.
    Blocked,
    /// To be run: nothing has happened yet, or it was interrupted and goes on from its checkpoint.
    Pending,
}

impl fmt::Display for Label {
    /// Such as `aws level 12, sign, seed 3`.
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
        // A ticket's own seed has been said.
        for (name, value) in self.axes.iter().filter(|(name, _)| self.inherit.is_some() || name != "ticket.seed") {
            write!(f, ", {name} {value}")?;
        }
        Ok(())
    }
}

/// One number if the three seeds are equal, else all of them.
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

/// How long a run takes, in epochs of training; for shares and estimates, not for promises.
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
