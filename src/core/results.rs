//! Results of runs: metrics per epoch, and one result.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::RunId;
use super::units::bytes;

/// The metrics of one epoch of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// The number of the epoch, counted from 1.
    pub epoch: u32,
    /// The learning rate in the epoch.
    pub lr: f64,
    /// The mean cross-entropy over the batches of the epoch, in nats; each batch is measured with the weights before
    /// its step.
    pub train_loss: f64,
    /// The training error, measured in the same way, in percent.
    pub train_error: f64,
    /// The mean cross-entropy on the test set after the epoch, in nats.
    pub test_loss: f64,
    /// The test error after the epoch, in percent.
    pub test_error: f64,
}

/// A committed result: the outcome, and how it was computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    pub format: u32,
    pub id: RunId,
    /// The attempt that computed the result; its files are in `attempts/<attempt>/`.
    pub attempt: u32,
    pub outcome: Outcome,
    /// The tensors that belong to the result, if any.
    pub network: Option<AttachedFile>,
    /// The metrics of the epochs, if the run has epochs.
    pub metrics: Option<AttachedFile>,
    /// The identifier of the data that the result was computed from, if they came from files: 16 hexadecimal digits.
    /// The name of a data set is not enough: there are synthetic sets, subsets, and packs of smaller images.
    #[serde(default)]
    pub data: Option<String>,
    /// The wall time of the attempt that committed, and of the attempts that it resumed, in seconds.
    pub seconds: f64,
    /// The name of the machine that committed the result.
    pub host: String,
    #[serde(flatten)]
    pub processors: Processors,
    /// The resources that the attempt used; `None` in results of versions that did not record them.
    #[serde(default)]
    pub usage: Option<Usage>,
    pub finished: jiff::Timestamp,
}

impl RunResult {
    /// Returns the GPU hours that went into the result; returns `None` if the number of GPUs was not recorded. Like
    /// `seconds`, this excludes lost time: the time between the last checkpoint and the end of an attempt that was
    /// killed.
    pub fn gpu_hours(&self) -> Option<f64> {
        self.usage.map(|usage| self.seconds * usage.gpus / 3600.0)
    }
}

/// The resources of an attempt other than time. They may differ from one execution to the next, and are not part of the
/// outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// The peak memory of the largest rank, in bytes; `None` if the system does not report it.
    pub peak_memory: Option<u64>,
    /// The number of GPUs of all ranks together; a GPU that several runs share counts as the fraction in
    /// [`GPU_SHARE`].
    pub gpus: f64,
    /// The peak memory of tensors on a GPU, of the largest rank, in bytes; `None` without GPUs.
    pub gpu_peak_memory: Option<u64>,
    /// The peak memory of activations that were kept on the host, of the largest rank, in bytes; `None` if they were kept on the
    /// device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_activations_on_host: Option<u64>,
    /// The utilization of the GPUs; `None` if it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_utilization: Option<GpuUtilization>,
}

/// The utilization of the GPUs of an attempt, measured by NVIDIA's management library (NVML): those GPUs on the machine
/// of rank 0 that ranks of the attempt compute on. Other processes that use these GPUs are included. A utilization is the
/// percentage of time in which the GPU executed a kernel; it is `None` if the driver does not measure it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GpuUtilization {
    /// The number of GPUs measured.
    pub gpus: u32,
    /// The utilization since the attempt began: the mean over the GPUs.
    pub mean: Option<f64>,
    /// The utilization since the attempt began of the GPU with the lowest.
    pub lowest: Option<f64>,
    /// The utilization in the last minute: the mean over the GPUs. `None` in the first minute, and if NVML fails or hangs.
    pub last_minute: Option<f64>,
    /// The peak of the memory in use on a GPU, in bytes.
    pub peak_memory: Option<u64>,
}

impl fmt::Display for GpuUtilization {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let percent = |value: Option<f64>, what: &str| value.map(|value| format!("{value:.0} %{what}"));
        let lowest = self.lowest.filter(|_| self.gpus > 1);
        let parts = [
            percent(self.mean, ""),
            percent(lowest, " on the least used GPU"),
            percent(self.last_minute, " in the last minute"),
            self.peak_memory.map(|peak| format!("at most {} in use", bytes(peak))),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// The environment variable with the fraction of a GPU that a launcher gives to a worker, if several runs share one; 1
/// if it is not set.
pub const GPU_SHARE: &str = "WINSIGN_GPU_SHARE";

/// The processors of an attempt. Another number of ranks or threads changes the last digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processors {
    /// The number of ranks.
    #[serde(default = "one")]
    pub ranks: u32,
    /// The number of threads of each rank.
    pub threads: u32,
}

fn one() -> u32 {
    1
}

/// A file that belongs to a result, with its expected size and digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttachedFile {
    /// The path relative to the run directory.
    pub path: String,
    /// The size of the file in bytes.
    pub bytes: u64,
    /// The digest: of the tensors (see [`super::tensors`]) or of the bytes of the metrics.
    pub digest: String,
}

/// The outcome of a run. Executing the run again gives the same numbers to the last bit (same machine, same threads).
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
    /// Returns the remaining ratio: the number of surviving prunable weights divided by that of all prunable weights.
    /// With several networks, a weight survives if it survives in any of them.
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

/// The outcome of a ticket. Ratios are fractions of the prunable weights, errors are in percent, and losses in nats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TicketOutcome {
    pub remaining_ratio: f64,
    pub survivors: u64,
    pub prunable: u64,
    pub test_error: f64,
    pub test_loss: f64,
    /// The prunable tensors, in the order of the network; empty in results of versions that did not record them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerSurvivors>,
}

/// The number of surviving weights of one prunable tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerSurvivors {
    /// The name of the tensor in PyTorch.
    pub name: String,
    pub survivors: u64,
    pub prunable: u64,
}

/// The outcome of a transfer, in the units of [`TicketOutcome`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransferOutcome {
    pub remaining_ratio: f64,
    pub test_error: f64,
    pub test_loss: f64,
}

/// The outcome of a connection between two networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectOutcome {
    pub remaining_ratio: f64,
    #[serde(flatten)]
    pub path: PathOutcome,
}

/// The errors and losses on the path from B (t = 0) to A (t = 1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathOutcome {
    /// The points in ascending order of t: from t = 0 (the second network) to t = 1 (the first).
    #[serde(rename = "path")]
    pub points: Vec<PathPoint>,
    /// The error barrier: the largest test error on the path minus the mean of the two end errors, in percentage
    /// points.
    pub barrier: f64,
    /// The similarity of the two signed masks; `None` in results of versions that did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similarity: Option<Similarity>,
}

/// The errors and losses of one network on a path: errors in percent, losses in nats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathPoint {
    /// The position in [0, 1]: the network is t·A + (1 − t)·B.
    pub t: f64,
    pub test_error: f64,
    pub test_loss: f64,
    /// The error and loss on the training images without augmentation; `None` unless they were requested.
    #[serde(flatten)]
    pub train: Option<TrainScore>,
}

/// The error in percent and the loss in nats on the training images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrainScore {
    pub train_error: f64,
    pub train_loss: f64,
}

/// The similarity of two signed masks; ratios in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Similarity {
    /// The fraction of the weights surviving in both networks that have the same sign in both.
    pub sign_agreement: f64,
    /// The number of weights that survive in both networks, divided by the number that survive in either.
    pub mask_overlap: f64,
}

/// The outcome of a block of a barrier matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatrixOutcome {
    /// The remaining ratio of the union of all masks.
    pub remaining_ratio: f64,
    pub pairs: Vec<PairOutcome>,
}

/// The outcome of the path between two of the run's inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairOutcome {
    /// The indices of the two networks among the inputs; the first is at t = 1.
    pub ends: (u32, u32),
    #[serde(flatten)]
    pub path: PathOutcome,
}

/// The outcome of the plane through three networks A, B and C. Coordinates refer to an orthonormal basis with its
/// origin in A: the first axis points to B, the second from there toward C. So distances in the plane are distances
/// between the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlaneOutcome {
    pub remaining_ratio: f64,
    /// The coordinates of A, B and C.
    pub networks: [(f64, f64); 3],
    /// The coordinates of the columns of the grid, ascending.
    pub x: Vec<f64>,
    /// The coordinates of the rows of the grid, ascending.
    pub y: Vec<f64>,
    /// The points of the grid, row by row.
    pub points: Vec<PlanePoint>,
}

/// The errors and losses of one network in a plane: errors in percent, losses in nats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanePoint {
    pub test_error: f64,
    pub test_loss: f64,
    #[serde(flatten)]
    pub train: Option<TrainScore>,
}
