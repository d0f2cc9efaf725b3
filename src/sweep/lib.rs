//! The sweep file: a YAML text becomes a [`Sweep`], in which every setting has one value and nothing is left to choose.
//!
//! The text becomes a tree that knows its places ([`yaml`]); the tree is read by the declarations of its keys
//! ([`keys`], `schema`) into blocks of axes (`file`, `values`) with their `zip` and `exclude`; and `defaults` supplies
//! the settings that they lack while they are combined into chains, transfers and connects (`expand`, `combine`,
//! `joins`, `connected`, `checks`).

mod checks;
mod combine;
mod connected;
mod defaults;
mod exclude;
mod expand;
mod file;
mod joins;
mod json_schema;
pub mod keys;
mod layout;
pub mod plan;
mod schema;
#[cfg(test)]
mod tests;
mod values;
pub mod yaml;
mod zip;

use std::hash::Hash;
use std::path::Path;

use serde::Deserialize;

pub use file::name_from;
pub use json_schema::json_schema;
pub use layout::{FIELDS, IntervalMethod, Layout, Measure, Show};
pub use schema::{PROBLEM, SWEEP_FILE, check_number, title};

use crate::yaml::Diagnostic;
use winsign_core::settings::{
    Align, Between, Digest, Inherit, Masks, Method, Precision, Problem, Seeds, Sets, Training,
};

/// A sweep file, expanded: one chain of tickets per combination of ticket settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// The name in the file, or else the file's name without its extension.
    pub name: String,
    pub chains: Vec<Chain>,
    pub resources: Resources,
    /// The table that reports show.
    pub layout: Layout,
}

/// A chain of iterative pruning, with the transfers and connects of its tickets.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    pub problem: Problem,
    pub method: Method,
    /// The digest of the imported ticket that takes the place of a chain.
    pub imported: Option<Digest>,
    /// The last level; the chain has this many tickets and one more, level 0.
    pub levels: u32,
    pub prune_ratio: f64,
    /// With IMP, the epoch of level 0 to which weights are rewound, at most the last; 0 is the initialization.
    pub rewind_epoch: Option<u32>,
    /// The training of level 0.
    pub warmup: Training,
    /// The training of every other level.
    pub training: Training,
    pub seeds: Seeds,
    pub transfers: Vec<TransferBlock>,
    pub connects: Vec<ConnectBlock>,
}

/// One transfer of one level to one initialization.
#[derive(Debug, Clone, PartialEq)]
pub struct TransferBlock {
    /// 0 if nothing is inherited from a ticket.
    pub level: u32,
    pub inherit: Inherit,
    /// 0 if no signs are inherited.
    pub flip: f64,
    pub training: Training,
    pub seeds: Seeds,
}

/// One request to connect networks of one level.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectBlock {
    pub between: Between,
    pub level: u32,
    /// The transfers that are connected; `None` if the ends are tickets.
    pub inherit: Option<Inherit>,
    /// Networks on a side of a block of the matrix; 1 if every pair is a run.
    pub block: u32,
    pub masks: Masks,
    pub align: Align,
    pub points: u32,
    pub refine: u32,
    /// The margin of a plane.
    pub margin: f64,
    pub sets: Sets,
    pub batch: u32,
    /// `None` for a pass over all training images.
    pub reestimation_batches: Option<u32>,
    pub precision: Precision,
    /// True if the file gives the batch; otherwise it is that of the chain.
    pub batch_is_given: bool,
    /// True if the file gives the precision; otherwise it is that of the chain.
    pub precision_is_given: bool,
}

impl TransferBlock {
    /// Returns the seeds of its run. A ticket that is trained on needs no initialization: transfers that differ only in
    /// its seed are one run.
    pub(crate) fn run_seeds(&self) -> Seeds {
        if self.inherit == Inherit::Retrain { Seeds::from(self.seeds.order) } else { self.seeds }
    }
}

impl ConnectBlock {
    /// Returns the settings that the chains of one matrix between tickets share. Those that follow from the chain, such as
    /// the batch, may differ if the file does not give them.
    pub(crate) fn matrix_settings(&self) -> impl Eq + Hash + use<> {
        let ConnectBlock { level, block, masks, align, points, refine, sets, reestimation_batches, .. } = *self;
        let batch = self.batch_is_given.then_some(self.batch);
        let precision = self.precision_is_given.then_some(self.precision);
        (level, block, masks, align, points, refine, sets, reestimation_batches, batch, precision)
    }
}

/// The settings of a run in which the runs of its study differ, by their paths in sweep files, with their values as text.
/// Reports show them as further columns.
pub type Axes = Vec<(String, String)>;

/// The execution settings, which are not part of a run's identity. Only `threads` and `ranks` can change a result: in
/// its last bits, and the number of ranks changes the groups in which BatchNorm normalizes.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Resources {
    /// The number of runs side by side; one per core unless given.
    pub jobs: Option<u32>,
    /// The threads of each rank.
    pub threads: u32,
    /// The processes that share a run.
    pub ranks: u32,
    /// The GPUs of each rank: a whole number, or a fraction of one that several ranks share; none are requested unless
    /// given.
    pub gpus: Option<f64>,
    /// The number of times that a failing run is started again before it counts as failed.
    pub retries: u32,
}

impl Default for Resources {
    fn default() -> Resources {
        let defaults = SWEEP_FILE.defaults(keys::Block::Resources);
        serde_json::from_value(defaults.into()).expect("the fields agree with the declarations")
    }
}

/// Reads a sweep file.
pub fn read(path: &Path) -> Result<Sweep, Diagnostic> {
    let file_name = path.display().to_string();
    let text = yaml::read_text(path, &SWEEP_FILE).map_err(|fault| fault.in_file(&file_name, ""))?;
    parse(&file_name, &text)
}

/// Reads the text of a sweep file.
pub fn parse(file_name: &str, text: &str) -> Result<Sweep, Diagnostic> {
    understand(file_name, text).map_err(|fault| fault.in_file(file_name, text))
}

fn understand(file_name: &str, text: &str) -> Result<Sweep, Diagnostic> {
    let root = yaml::parse(text, &SWEEP_FILE)?;
    let file = file::File::read(&root)?;
    let chains = expand::expand(&file)?;
    checks::check_gpus(&file, &chains)?;
    let stem = Path::new(file_name).file_stem().unwrap_or_default();
    let name = file.name.unwrap_or_else(|| file::name_from(&stem.to_string_lossy()));
    Ok(Sweep { name, chains, resources: file.resources, layout: file.layout })
}
