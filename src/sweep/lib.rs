//! The sweep file: a YAML text becomes a [`Sweep`], in which every setting has one value and nothing is left to choose.
//!
//! The text becomes a tree that knows its places ([`yaml`]); the tree is read against one table of keys (`schema`)
//! into blocks of axes (`file`, `values`) with their `zip` and `exclude`; and what the blocks leave open, `defaults`
//! fill while they are combined into chains, transfers and connects (`expand`, `combine`, `joining`, `checks`).

mod checks;
mod combine;
mod defaults;
mod exclude;
mod expand;
mod file;
mod joining;
mod json_schema;
mod layout;
pub mod plan;
mod schema;
#[cfg(test)]
mod tests;
mod values;
pub mod yaml;
mod zip;

use std::path::Path;

pub use file::name_from;
pub use json_schema::json_schema;
pub use layout::{FIELDS, IntervalMethod, Layout, Measure, Show};
pub use schema::{LEAST_CONFIDENCE, MOST_CONFIDENCE, PROBLEM, check_resource};

use crate::yaml::{Diagnostic, DocumentKind};
use winsign_core::settings::{
    Align, Between, Digest, Inherit, Masks, Method, Precision, Problem, Seeds, Sets, Training,
};

const SORT: DocumentKind = DocumentKind {
    name: "sweep file",
    example: "sweeps/quickstart.yaml",
    levels: "three",
    twice: "keep one of the two; a list gives several values",
    too_large: "use ranges (`1..100`) for long lists",
};

/// A sweep file, expanded: one chain of tickets per combination of ticket settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// From the file, or else the file's name without its extension.
    pub name: String,
    pub chains: Vec<Chain>,
    pub resources: Resources,
    /// The table that reports show.
    pub layout: Layout,
}

/// One chain of iterative pruning, and all that is done with its tickets.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    pub problem: Problem,
    pub method: Method,
    /// The ticket found elsewhere that this chain consists of, if it is one.
    pub imported: Option<Digest>,
    /// The last level; the chain has this many tickets and one more, level 0.
    pub levels: u32,
    pub prune_ratio: f64,
    /// Of IMP: the epoch of level 0 that weights are put back to, at most the last; 0 is the initialization.
    pub rewind_epoch: Option<u32>,
    /// The training of level 0.
    pub warmup: Training,
    /// The training of every other level.
    pub training: Training,
    pub seeds: Seeds,
    pub transfers: Vec<TransferBlock>,
    pub connects: Vec<ConnectBlock>,
}

/// One transfer: of one level, to one initialization.
#[derive(Debug, Clone, PartialEq)]
pub struct TransferBlock {
    /// 0 where nothing is inherited from a ticket.
    pub level: u32,
    pub inherit: Inherit,
    /// 0 where no signs are inherited.
    pub flip: f64,
    pub training: Training,
    pub seeds: Seeds,
}

/// One request to join networks of one level.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectBlock {
    pub between: Between,
    pub level: u32,
    /// Whose transfers are joined; none where the ends are tickets.
    pub inherit: Option<Inherit>,
    /// Networks on a side of a block of the matrix; 1 where every pair is a run.
    pub block: u32,
    pub masks: Masks,
    pub align: Align,
    pub points: u32,
    pub refine: u32,
    /// Of a plane.
    pub margin: f64,
    pub sets: Sets,
    pub batch: u32,
    /// None for all.
    pub reestimation_batches: Option<u32>,
    pub precision: Precision,
}

impl ConnectBlock {
    /// Whether two chains of one problem ask for the same matrix between tickets. What follows from their own settings,
    /// such as the batch, may differ where the file does not name it.
    pub fn asks_for_the_matrix_of(&self, other: &ConnectBlock) -> bool {
        let ConnectBlock { batch, precision, .. } = *other;
        self.between == Between::Tickets && ConnectBlock { batch, precision, ..self.clone() } == *other
    }
}

/// The settings of a run in which the runs of its study differ, by their paths in sweep files, with their values as text.
/// Reports show them as further columns.
pub type Axes = Vec<(String, String)>;

/// How runs are executed; nothing here is part of a run's identity. Of these only `threads` and `ranks` can change a
/// result: in its last bits, and with more or fewer ranks a network with BatchNorm is normalized in other groups.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resources {
    /// Runs side by side; one per core unless given.
    pub jobs: Option<u32>,
    /// Threads of each rank; 1 unless given.
    pub threads: Option<u32>,
    /// Processes that share a run; 1 unless given.
    pub ranks: Option<u32>,
    /// GPUs of each rank: a whole number, or a fraction of one that several ranks share; none are asked for unless given.
    pub gpus: Option<f64>,
    /// How often a failing run is started again before it counts as failed.
    pub retries: u32,
}

/// Reads a sweep file.
pub fn read(path: &Path) -> Result<Sweep, Diagnostic> {
    let file_name = path.display().to_string();
    let text = yaml::read_text(path, &SORT).map_err(|fault| fault.in_file(&file_name, ""))?;
    parse(&file_name, &text)
}

/// Understands the text of a sweep file.
pub fn parse(file_name: &str, text: &str) -> Result<Sweep, Diagnostic> {
    understand(file_name, text).map_err(|fault| fault.in_file(file_name, text))
}

fn understand(file_name: &str, text: &str) -> Result<Sweep, Diagnostic> {
    let root = yaml::parse(text, &SORT)?;
    let file = file::File::read(&root)?;
    let chains = expand::expand(&file)?;
    checks::check_gpus(&file, &chains)?;
    let stem = Path::new(file_name).file_stem().unwrap_or_default();
    let name = file.name.unwrap_or_else(|| file::name_from(&stem.to_string_lossy()));
    Ok(Sweep { name, chains, resources: file.resources, layout: file.layout })
}
