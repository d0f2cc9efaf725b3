//! The sweep file: a YAML text becomes a [`Sweep`], in which every setting has one value and nothing is left to choose.

use crate::run::settings::{Between, Inherit, Method, Problem, Seeds, Training};

/// A sweep file, expanded: one chain of tickets per combination of ticket settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// From the file, or else the file's name without its extension.
    pub name: String,
    pub chains: Vec<Chain>,
    pub resources: Resources,
}

/// One chain of iterative pruning, and all that is done with its tickets.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    pub problem: Problem,
    pub method: Method,
    /// The last level; the chain has this many tickets and one more, level 0.
    pub levels: u32,
    pub prune_ratio: f64,
    /// The training of level 0.
    pub warmup: Training,
    /// The training of every other level.
    pub training: Training,
    pub seeds: Seeds,
    pub axes: Axes,
    pub transfers: Vec<TransferBlock>,
    pub connects: Vec<ConnectBlock>,
}

/// One transfer: of one level, to one initialization.
#[derive(Debug, Clone, PartialEq)]
pub struct TransferBlock {
    pub level: u32,
    pub inherit: Inherit,
    pub training: Training,
    pub seeds: Seeds,
    pub axes: Axes,
}

/// One request to join networks of one level.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectBlock {
    pub between: Between,
    pub level: u32,
    /// Whose transfers are joined; none where the ends are tickets.
    pub inherit: Option<Inherit>,
    pub points: u32,
    pub batch: u32,
    pub axes: Axes,
}

/// What tells this combination apart besides method, level, inherit, between and transfer seeds: the other settings
/// that are axes in the file, by their names in it, with their values as text. Reports show them as further columns.
pub type Axes = Vec<(String, String)>;

/// How runs are executed; nothing here can change a result, except that `threads` may change the last bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// Runs side by side; one per core unless given.
    pub jobs: Option<u32>,
    /// Threads per run; the cores divided by `jobs` unless given.
    pub threads: Option<u32>,
    /// How often a failing run is started again before it counts as failed.
    pub retries: u32,
}
