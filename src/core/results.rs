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
    /// None in results of versions that did not say.
    #[serde(default)]
    pub usage: Option<Usage>,
    pub finished: jiff::Timestamp,
}

impl RunResult {
    /// Hours of GPUs that went into the result; none if it does not say on how many it was computed. Like `seconds` it
    /// leaves out what was lost: the time between the last checkpoint and the end of an attempt that was killed.
    pub fn gpu_hours(&self) -> Option<f64> {
        self.usage.map(|usage| self.seconds * usage.gpus / 3600.0)
    }
}

/// What the attempt took beside time. It may differ from one execution to the next, and is no part of the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// The most memory that a process had at once, in bytes: that of the largest rank. None where the system does not say.
    pub peak_memory: Option<u64>,
    /// GPUs of all ranks together; one that several runs share counts by [`GPU_SHARE`].
    pub gpus: f64,
    /// The most memory of a GPU that tensors had at once, in bytes, likewise; none without GPUs.
    pub gpu_peak_memory: Option<u64>,
}

/// The environment variable by which a launcher tells a worker what part of its GPU it has, where runs share one; 1 if it
/// is not set.
pub const GPU_SHARE: &str = "WINSIGN_GPU_SHARE";

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
    Matrix(MatrixOutcome),
    Plane(PlaneOutcome),
}

impl Outcome {
    /// Surviving prunable weights over all of them; of several networks, those that survive in any.
    pub fn remaining_ratio(&self) -> f64 {
        match self {
            Outcome::Ticket(ticket) => ticket.remaining_ratio,
            Outcome::Transfer(transfer) => transfer.remaining_ratio,
            Outcome::Connect(connect) => connect.remaining_ratio,
            Outcome::Matrix(matrix) => matrix.remaining_ratio,
            Outcome::Plane(plane) => plane.remaining_ratio,
        }
    }
}

/// Ratios are of prunable weights; errors in percent; losses in nats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TicketOutcome {
    pub remaining_ratio: f64,
    pub survivors: u64,
    pub prunable: u64,
    pub test_error: f64,
    pub test_loss: f64,
    /// The prunable tensors, in the order of the network; empty in results of versions that did not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerSurvivors>,
}

/// What is left of one prunable tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerSurvivors {
    /// PyTorch's name of the weight.
    pub name: String,
    pub survivors: u64,
    pub prunable: u64,
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
    #[serde(flatten)]
    pub path: PathOutcome,
}

/// The path from B (t = 0) to A (t = 1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathOutcome {
    /// In ascending order of t: from t = 0 (the second network) to t = 1 (the first).
    #[serde(rename = "path")]
    pub points: Vec<PathPoint>,
    /// The error barrier: the largest test error on the path minus the mean of the two end errors, in percentage points.
    pub barrier: f64,
    /// None in results of versions that did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similarity: Option<Similarity>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathPoint {
    /// Position in [0, 1]: the network is t·A + (1 − t)·B.
    pub t: f64,
    pub test_error: f64,
    pub test_loss: f64,
    /// On the training images without augmentation; none where that was not asked for.
    #[serde(flatten)]
    pub train: Option<TrainScore>,
}

/// An error in percent, and a loss in nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrainScore {
    pub train_error: f64,
    pub train_loss: f64,
}

/// How alike two signed masks are; ratios in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Similarity {
    /// Of the weights that survive in both, the part with the same sign in both.
    pub sign_agreement: f64,
    /// The weights that survive in both, over those that survive in either.
    pub mask_overlap: f64,
}

/// A block of a barrier matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatrixOutcome {
    /// Of the union of all masks.
    pub remaining_ratio: f64,
    pub pairs: Vec<PairOutcome>,
}

/// The path between two of the run's inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairOutcome {
    /// Their places among the inputs; the first is at t = 1.
    pub ends: (u32, u32),
    #[serde(flatten)]
    pub path: PathOutcome,
}

/// The plane through three networks A, B and C. Its coordinates are those of an orthonormal basis with the origin in A: the
/// first axis leads to B, the second from there toward C. So distances are those of the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlaneOutcome {
    pub remaining_ratio: f64,
    /// Where A, B and C are.
    pub networks: [(f64, f64); 3],
    /// Of the columns of the grid, ascending.
    pub x: Vec<f64>,
    /// Of its rows, ascending.
    pub y: Vec<f64>,
    /// Row after row.
    pub points: Vec<PlanePoint>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanePoint {
    pub test_error: f64,
    pub test_loss: f64,
    #[serde(flatten)]
    pub train: Option<TrainScore>,
}
