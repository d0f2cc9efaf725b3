//! Reports: plan, states and results become rows, and the rows become tables and plots.
//!
//! [`gather()`] makes the [`Report`], [`tables`] its tables with typed cells. There is one file for each output: [`terminal`],
//! [`markdown`], [`csv`], [`json`], [`latex`], [`parquet`], [`page`], [`plots`]. This crate reads no results from the disk: it gets
//! [`RunRecord`]s.

pub mod compare;
pub mod csv;
mod differences;
mod ends;
pub mod export;
mod gather;
mod joins;
pub mod json;
pub mod latex;
pub mod markdown;
mod notices;
pub mod page;
pub mod parquet;
mod paths;
pub mod pivot;
pub mod plots;
mod runs;
pub mod sample;
mod sharing;
mod spreads;
mod statements;
pub mod statistics;
pub mod table;
pub mod tables;
pub mod tensorboard;
pub mod terminal;

pub mod evidence;
#[cfg(test)]
mod made_up;
pub mod reference_table;

use std::iter;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

pub use gather::{gather, gather_with};
pub use pivot::{Pivot, PivotCell};
pub use plots::{FigureChrome, Plot};
pub use sample::Verdict;

use winsign_core::RunId;
use winsign_core::grouping::distinct;
use winsign_core::results::{PlaneOutcome, RunResult, Similarity, TrainScore};
use winsign_core::settings::{Align, Between, Connect, Inherit, Kind, Method, Precision, Problem, Seeds, Settings};
pub use winsign_sweep::IntervalMethod;
use winsign_sweep::plan::{PlannedRun, RunState};
use winsign_sweep::{Axes, Measure};

/// A planned run with its state and result.
#[derive(Debug, Clone)]
pub struct RunRecord<'a> {
    pub planned: &'a PlannedRun,
    pub state: RunState,
    /// Present exactly if the run is done.
    pub result: Option<RunResult>,
    /// The reason, for a run that failed.
    pub note: Option<String>,
    /// The training curve, for a run that is done and was trained.
    pub curve: Option<Arc<Curve>>,
    /// The last lines of the log of its latest attempt.
    pub log_end: Option<String>,
    /// The store it was found in.
    pub store: Option<Arc<Path>>,
}

/// A training curve of at most [`Curve::MOST`] epochs: the last one, and others spread evenly before it. Errors in
/// percent, losses in nats; all lists are equally long.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Curve {
    pub epoch: Vec<u32>,
    pub train_loss: Vec<f32>,
    pub train_error: Vec<f32>,
    pub test_loss: Vec<f32>,
    pub test_error: Vec<f32>,
}

impl Curve {
    pub const MOST: usize = 50;

    /// Returns the positions of at most `most` of these epochs: the last one, and others spread evenly before it.
    pub fn places(epochs: usize, most: usize) -> impl Iterator<Item = usize> {
        let kept = epochs.min(most);
        (1..=kept).map(move |index| index * epochs / kept - 1)
    }
}

/// A study in numbers. Errors are in percent of the test set, barriers in percentage points; nothing is rounded.
///
/// Serialized it is `report.json`, which other programs read: fields may be added, but not renamed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub name: String,
    pub runs: RunCounts,
    pub tickets: Vec<TicketRow>,
    pub transfers: Vec<TransferRow>,
    pub connections: Vec<ConnectionRow>,
    pub failed: Vec<FailedRun>,
    /// Runs that need one that failed.
    pub blocked: Vec<FailedRun>,
    pub planes: Vec<PlaneRow>,
    /// The differences between methods and between inheritances over the same seeds.
    pub differences: Vec<Difference>,
    /// The effect of each source of randomness on the error, if their seeds are axes of their own.
    pub spreads: Vec<Spread>,
    /// The warnings.
    pub notices: Vec<Notice>,
    /// The custom table, if one was requested.
    pub pivot: Option<Pivot>,
    /// The tickets of each level as samples of their method.
    pub levels: Vec<LevelRow>,
    /// The differences in words.
    pub statements: Vec<String>,
}

/// A warning about runs: results that differ between stores or were computed from different data, numbers that are not
/// finite, runs that vanished while they were read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Notice {
    /// One sentence with the problem and its consequence.
    pub message: String,
    /// The affected runs.
    pub runs: Vec<RunId>,
}

/// Statistics of a sample of numbers. For numbers of several tickets, mean, deviation and interval are those of the
/// means of the tickets; count, median, smallest and largest are those of all numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    pub count: usize,
    pub mean: f64,
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// The sample standard deviation: between tickets; of one ticket, between its numbers.
    pub std: Option<f64>,
    /// The confidence interval of the mean; absent with fewer than two tickets.
    pub interval: Option<Interval>,
}

/// A confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
    /// The confidence, such as 0.95.
    pub level: f64,
    pub method: IntervalMethod,
    /// The things that are independent, and their number.
    pub over: Over,
    pub independent: usize,
}

/// The things that an interval takes to be independent of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Over {
    /// The numbers themselves.
    Numbers,
    /// The networks that paths share.
    Networks,
    /// The tickets that runs start from.
    Tickets,
}

impl Interval {
    /// Names the method, as in `by Student's t`.
    pub fn describe(&self) -> String {
        match (self.over, self.method) {
            (Over::Numbers, method) => method.describe().to_string(),
            (Over::Tickets, method) => format!("{} over {} tickets", method.describe(), self.independent),
            (Over::Networks, IntervalMethod::T) => "the jackknife over networks".to_string(),
            (Over::Networks, IntervalMethod::Bootstrap) => "the bootstrap over networks".to_string(),
        }
    }

    /// Names the methods of several intervals, each once; returns none if there are no intervals.
    pub fn describe_all(intervals: impl Iterator<Item = Interval>) -> Option<String> {
        let methods = distinct(intervals.map(|interval| interval.describe()));
        (!methods.is_empty()).then(|| methods.join(" or "))
    }
}

/// The difference between two methods, or between two inheritances, over the same tickets: `a` minus `b`, in percentage
/// points.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The setting in which they differ, such as `method` or `inherit`, and its two values.
    pub setting: String,
    pub a: String,
    pub b: String,
    /// The method that both sides have in common.
    pub method: Option<Method>,
    pub level: u32,
    pub remaining_ratio: Option<f64>,
    pub inherit: Option<Inherit>,
    #[serde(serialize_with = "as_map")]
    pub axes: Axes,
    /// Statistics of the differences between runs with the same seeds; its count is that of pairs, and each ticket counts
    /// once, with the mean of its pairs.
    pub summary: Summary,
    /// The two-sided p-value of the paired t-test over tickets that the mean difference is zero.
    pub p: Option<f64>,
    #[serde(flatten)]
    pub problem: Problem,
    /// The number of tickets that are in both.
    pub tickets: usize,
    /// The quantity that differs: the test error, the barrier, or the error that initial norm parameters add.
    pub value: Measure,
    /// The networks that the paths of a barrier join.
    pub between: Option<Between>,
    pub verdict: Verdict,
    /// The runs of both sides.
    #[serde(skip)]
    pub runs: Vec<RunId>,
}

/// The effect of one source of randomness on the test error of a transfer while the others stay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spread {
    pub method: Option<Method>,
    pub level: u32,
    pub inherit: Inherit,
    #[serde(serialize_with = "as_map")]
    pub axes: Axes,
    /// `initialization`, `data order`, `α`, or `ticket` for all seeds of the ticket together.
    pub source: String,
    /// The number of groups of runs that differ in this source alone, and of the runs in them.
    pub groups: usize,
    pub runs: usize,
    /// The standard deviation within groups, pooled, in percentage points.
    pub std: f64,
    #[serde(flatten)]
    pub problem: Problem,
    #[serde(skip)]
    pub run_ids: Vec<RunId>,
}

/// The numbers of planned runs by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct RunCounts {
    pub total: usize,
    pub done: usize,
    pub running: usize,
    pub queued: usize,
    pub failed: usize,
    pub blocked: usize,
    pub pending: usize,
}

impl RunCounts {
    /// Describes the progress of the study, in half a sentence.
    pub fn progress(&self) -> String {
        let done = match self.done == self.total {
            true => format!("all {} runs done", self.total),
            false => format!("{} of {} runs done", self.done, self.total),
        };
        let others = [
            (self.running, "running"),
            (self.queued, "queued"),
            (self.failed, "failed"),
            (self.blocked, "blocked by failures"),
            (self.pending, "pending"),
        ];
        let others = others.iter().filter(|(count, _)| *count > 0).map(|(count, state)| format!("{count} {state}"));
        iter::once(done).chain(others).collect::<Vec<_>>().join(", ")
    }
}

/// One ticket.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TicketRow {
    pub method: Method,
    pub level: u32,
    pub remaining_ratio: Option<f64>,
    pub test_error: Option<f64>,
    #[serde(serialize_with = "as_map")]
    pub axes: Axes,
    pub run: RunId,
    pub seeds: Seeds,
    pub test_loss: Option<f64>,
    /// The layers in the order of the network; empty if the result does not record them.
    pub layers: Vec<LayerRatio>,
    #[serde(flatten)]
    pub problem: Problem,
    /// The duration.
    pub seconds: Option<f64>,
}

/// The tickets of one level, which differ in nothing but their seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LevelRow {
    pub method: Method,
    pub level: u32,
    /// The mean over the tickets.
    pub remaining_ratio: Option<f64>,
    /// The number of finished tickets, from which the numbers of this row are computed.
    pub tickets: usize,
    pub tickets_planned: usize,
    pub error_mean: Option<f64>,
    pub error_std: Option<f64>,
    #[serde(serialize_with = "as_map")]
    pub axes: Axes,
    pub summary: Option<Summary>,
    #[serde(flatten)]
    pub problem: Problem,
    /// The tickets, by their places in the report.
    #[serde(skip)]
    pub places: Vec<usize>,
}

/// The part of a row that belongs to one ticket.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The axes of its runs, seeds of the ticket included.
    pub axes: Axes,
    /// The places of its numbers among those of the row.
    pub numbers: Range<usize>,
    pub planned: usize,
    /// All of its runs, including unfinished ones.
    pub runs: Vec<RunId>,
}

/// The remaining ratio of a prunable tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerRatio {
    pub name: String,
    pub remaining_ratio: f64,
}

/// Transfers that differ in nothing but their seeds and those of their tickets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TransferRow {
    /// The method of the ticket; `None` if the transfers inherit from none, and the level is 0.
    pub method: Option<Method>,
    pub level: u32,
    /// The ratio of the transfers or, before they are done, of the ticket they start from.
    pub remaining_ratio: Option<f64>,
    pub inherit: Inherit,
    /// The number of finished ones, from which the numbers of this row are computed.
    pub seeds: usize,
    pub seeds_planned: usize,
    /// The mean over tickets of the mean of each.
    pub error_mean: Option<f64>,
    /// The sample standard deviation: between tickets; of one ticket, between its transfers.
    pub error_std: Option<f64>,
    /// The errors, ticket after ticket.
    pub errors: Vec<SeedError>,
    #[serde(serialize_with = "as_map")]
    pub axes: Axes,
    /// Statistics of the errors.
    pub summary: Option<Summary>,
    #[serde(flatten)]
    pub problem: Problem,
    /// The number of tickets with a finished transfer; 0 for dense networks, which inherit from none.
    pub tickets: usize,
    pub tickets_planned: usize,
    /// True if the error is lower than that of every other row of the level, as the intervals of the differences show.
    pub best: bool,
    #[serde(skip)]
    pub parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeedError {
    #[serde(flatten)]
    pub seeds: Seeds,
    pub error: f64,
    pub loss: f64,
    pub run: RunId,
    /// The duration of the run.
    pub seconds: f64,
    /// The seeds of the ticket it starts from; `None` if there is none, or if it was imported.
    pub ticket: Option<Seeds>,
}

/// Paths between networks that differ in nothing but their seeds and those of their tickets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConnectionRow {
    /// The method of the networks joined.
    pub method: Option<Method>,
    pub level: u32,
    pub remaining_ratio: Option<f64>,
    /// The transfer to the networks joined; none if they are tickets.
    pub inherit: Option<Inherit>,
    pub between: Between,
    /// The number of finished ones, from which the numbers of this row are computed.
    pub pairs: usize,
    pub pairs_planned: usize,
    /// The protocol of its barriers: only those of one protocol can be compared.
    #[serde(skip)]
    pub protocol: Option<BarrierProtocol>,
    pub barrier_mean: Option<f64>,
    pub barrier_max: Option<f64>,
    /// The mean over tickets of the mean over the pairs of each, at every position at which one of them was measured; the
    /// others are taken to be straight between their points.
    pub path: Vec<PathMean>,
    pub paths: Vec<PairPath>,
    #[serde(serialize_with = "as_map")]
    pub axes: Axes,
    /// Statistics of the barriers of test errors, of training errors, and of test losses (in nats). Intervals are over
    /// tickets, or over networks where these inherit from no ticket, not over paths.
    pub summary: Option<Summary>,
    pub train_summary: Option<Summary>,
    pub loss_summary: Option<Summary>,
    /// Statistics of the test error that initial norm parameters add, on paths of `norm-init`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm_change: Option<Summary>,
    #[serde(flatten)]
    pub problem: Problem,
    /// The number of tickets with a finished path; 0 for dense networks.
    pub tickets: usize,
    pub tickets_planned: usize,
    /// True if the barrier is lower than that of every other row of its kind, as the intervals of the differences show.
    pub best: bool,
    #[serde(skip)]
    pub parts: Vec<Part>,
}

/// The settings on which the barrier of a path depends, besides its two networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BarrierProtocol {
    points: u32,
    refine: u32,
    batch: u32,
    reestimation_batches: Option<u32>,
    align: Align,
    precision: Precision,
}

impl BarrierProtocol {
    /// Returns the protocol of a path; none if the settings are not those of paths.
    fn from_settings(settings: &Settings) -> Option<BarrierProtocol> {
        let path = match settings {
            Settings::Connect(path) => path,
            Settings::Matrix(matrix) => &matrix.path,
            _ => return None,
        };
        let Connect { points, refine, batch, reestimation_batches, align, precision, .. } = *path;
        Some(BarrierProtocol { points, refine, batch, reestimation_batches, align, precision })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PathMean {
    pub t: f64,
    pub error_mean: f64,
    /// `None` if a path has no errors on training images.
    pub train_error_mean: Option<f64>,
    pub loss_mean: Option<f64>,
}

/// The path between one pair of networks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairPath {
    /// The seeds of both ends; empty if the ends are tickets.
    pub seeds: Vec<Seeds>,
    pub barrier: f64,
    pub path: Vec<PathError>,
    /// The run that measured it; a block of a matrix measures many paths.
    pub run: RunId,
    /// The networks joined, first the one at t = 1.
    pub ends: Vec<End>,
    pub similarity: Option<Similarity>,
    /// The barrier of the errors on training images, in percentage points.
    pub train_barrier: Option<f64>,
    /// The barrier of the loss on test images, in nats; none if it is not finite.
    pub loss_barrier: Option<f64>,
    /// The seeds of the ticket of the first network; `None` if there is none, or if it was imported.
    pub ticket: Option<Seeds>,
}

impl PairPath {
    /// Returns the test error at t = 0 minus that at t = 1. On a path of `norm-init` the first is the ticket with its initial
    /// norm parameters, and the second the ticket itself. The barrier of such a path is half of the change or more, whatever
    /// its sign.
    fn norm_change(&self) -> Option<f64> {
        let at = |t: f64| self.path.iter().find(|point| point.t == t).map(|point| point.error);
        Some(at(0.0)? - at(1.0)?)
    }
}

/// A network that is joined.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct End {
    pub run: RunId,
    /// Its name among the networks of its ticket that the row joins: its seed, or else its method, level and axes.
    pub label: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PathError {
    pub t: f64,
    pub error: f64,
    pub loss: f64,
    #[serde(flatten)]
    pub train: Option<TrainScore>,
}

/// The plane through three networks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlaneRow {
    /// The method of the networks joined.
    pub method: Option<Method>,
    pub level: u32,
    pub remaining_ratio: Option<f64>,
    pub inherit: Option<Inherit>,
    #[serde(serialize_with = "as_map")]
    pub axes: Axes,
    pub run: RunId,
    /// The three networks, in the order of [`PlaneOutcome::networks`].
    pub ends: Vec<End>,
    /// The errors in the plane; `None` until they are measured.
    pub plane: Option<PlaneOutcome>,
    #[serde(flatten)]
    pub problem: Problem,
}

/// A run that failed permanently, or that is blocked by one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailedRun {
    pub id: RunId,
    pub kind: Kind,
    /// Its label in the study.
    pub label: String,
    /// The reason of the failure.
    pub message: Option<String>,
}

impl FailedRun {
    /// Returns the label and the reason of the failure, on one line.
    fn describe(&self) -> String {
        match &self.message {
            Some(message) => format!("{}: {message}", self.label),
            None => self.label.clone(),
        }
    }
}

/// Serializes axes as a JSON object, in their order in the sweep file.
fn as_map<S: Serializer>(axes: &Axes, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_map(axes.iter().map(|(name, value)| (name, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_lists_states_that_have_runs() {
        let mut runs = RunCounts { total: 5, done: 5, ..RunCounts::default() };
        assert_eq!(runs.progress(), "all 5 runs done");
        runs = RunCounts { total: 9, done: 1, running: 2, queued: 1, failed: 1, blocked: 1, pending: 3 };
        assert_eq!(
            runs.progress(),
            "1 of 9 runs done, 2 running, 1 queued, 1 failed, 1 blocked by failures, 3 pending"
        );
    }
}
