//! What runs leave behind: metrics per epoch, and one result.

use serde::{Deserialize, Serialize};

use super::RunId;

/// One epoch of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// From 1.
    pub epoch: u32,
    pub lr: f64,
    /// Mean cross-entropy over the epoch's batches, in nats, with the weights of each step.
    pub train_loss: f64,
    /// In percent, likewise.
    pub train_error: f64,
    /// Mean cross-entropy on the test set after the epoch, in nats.
    pub test_loss: f64,
    /// In percent, after the epoch.
    pub test_error: f64,
}

/// A committed result: the outcome, and how it came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    pub format: u32,
    pub id: RunId,
    /// The attempt that computed it; its files lie in `attempts/<attempt>/`.
    pub attempt: u32,
    pub outcome: Outcome,
    /// Tensors that belong to the result, if any.
    pub network: Option<AttachedFile>,
    /// The metrics of its epochs, if it has epochs.
    pub metrics: Option<AttachedFile>,
    /// What tells the data apart that it was computed from, where they came from files: 16 hexadecimal digits. A data set's
    /// name alone would not: there are synthesized sets, subsets, and packs of smaller images.
    #[serde(default)]
    pub data: Option<String>,
    /// Wall time of the attempt that committed, and of those it continued, in seconds.
    pub seconds: f64,
    pub host: String,
    #[serde(flatten)]
    pub processors: Processors,
    pub finished: jiff::Timestamp,
}

/// What the attempt computed with. Another number of ranks or threads changes the last digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processors {
    /// Processes that shared the run.
    #[serde(default = "one")]
    pub ranks: u32,
    /// Of each rank.
    pub threads: u32,
}

fn one() -> u32 {
    1
}

/// A file that belongs to a result, and what must be found in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttachedFile {
    /// Relative to the run directory.
    pub path: String,
    pub bytes: u64,
    /// Of tensors: see [`super::tensors`]; of metrics: of the bytes.
    pub digest: String,
}

/// The numbers of a result. A second execution of the run gives the same to the last bit (same machine, same threads).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Outcome {
    Ticket(TicketOutcome),
    Transfer(TransferOutcome),
    Connect(ConnectOutcome),
}

/// Ratios are of prunable weights; errors in percent; losses in nats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TicketOutcome {
    pub remaining_ratio: f64,
    pub survivors: u64,
    pub prunable: u64,
    pub test_error: f64,
    pub test_loss: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransferOutcome {
    pub remaining_ratio: f64,
    pub test_error: f64,
    pub test_loss: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectOutcome {
    pub remaining_ratio: f64,
    /// From t = 0 (the second network) to t = 1 (the first).
    pub path: Vec<PathPoint>,
    /// The error barrier: the largest error on the path minus the mean of the two end errors, in percentage points.
    pub barrier: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathPoint {
    /// Position in [0, 1]: the network is t·A + (1 − t)·B.
    pub t: f64,
    pub test_error: f64,
    pub test_loss: f64,
}
