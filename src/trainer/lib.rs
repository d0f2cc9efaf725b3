//! The trainer: reads a run directory, trains or measures networks, and writes the results back. It is the library of
//! `winsign-worker`.

pub mod comm;
mod connect;
pub mod data;
pub mod device;
pub mod golden;
mod import;
pub mod lmc;
pub mod memory;
pub mod model;
pub mod numerics;
pub mod prune;
pub mod session;
mod ticket;
pub mod train;
mod transfer;
pub mod worker;

pub use tch;

use std::path::PathBuf;

use winsign_core::results::Outcome;
use winsign_core::settings::{Architecture, Dataset, Digest};
use winsign_core::{RunId, exit};

use model::Weights;

/// The result of executing a run.
struct Finished {
    outcome: Outcome,
    /// The network that other runs can use, if any, with its layout.
    network: Option<(model::Layout, Weights)>,
}

/// An error because of which a run ends without a result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] winsign_core::Error),
    #[error("{0}{help}", help = .0.hint().map(|hint| format!("; help: {hint}")).unwrap_or_default())]
    Data(#[from] winsign_data::Error),
    #[error("cannot use the input run {id}: {error}")]
    Input { id: RunId, error: winsign_core::Error },
    #[error(
        "the input run {id} was computed from other data than those in {folder}; help: use the same data, or another \
         --store",
        folder = folder.display()
    )]
    OtherData { id: RunId, folder: PathBuf },
    #[error(transparent)]
    Ranks(#[from] comm::Error),
    #[error(transparent)]
    Device(#[from] device::Error),
    #[error(transparent)]
    Numerics(#[from] numerics::Error),
    #[error(
        "there are {ranks} ranks for batches of {batch} images; help: start at most {batch}, or set a larger batch"
    )]
    TooManyRanks { ranks: usize, batch: u32 },
    #[error("rank {rank} on {host} finds other data in {folder} than rank 0; help: give all ranks the same data")]
    RankData { rank: usize, host: String, folder: String },
    #[error("rank {rank} and rank 0 computed different numbers in epoch {epoch}: a processor or its memory is faulty")]
    RanksDiffer { rank: usize, epoch: u32 },
    /// This is never shown: the rank that failed reports its own error.
    #[error("another rank failed")]
    OtherRankFailed,
    #[error("stopped on request; the run resumes from its checkpoint")]
    Interrupted,
    #[error("the loss became {loss} at epoch {epoch}, step {step}; help: try a smaller lr")]
    Diverged { epoch: u32, step: u32, loss: f32 },
    #[error(
        "the test loss became {loss} after epoch {epoch}; help: try a smaller lr, or another batch if an epoch ends \
         with one image"
    )]
    DivergedTest { epoch: u32, loss: f64 },
    #[error("the loss is not finite {place}")]
    NotFinite { place: String },
    #[error("the three networks are on one line, or two of them are equal: they do not span a plane")]
    OnOneLine,
    #[error("pruning the last {survivors} weights would leave none; help: lower levels or prune_ratio")]
    NothingLeft { survivors: u64 },
    #[error("cannot find a mask: the effects of weights on the output of the network are not finite")]
    ScoresNotFinite,
    #[error("cannot join two networks with different masks ({differing} weights survive in only one of them)")]
    DifferentMasks { differing: u64 },
    #[error("there is no network with the digest {digest} in this store; help: run `winsign import FILE --as ticket`")]
    NotImported { digest: Digest },
    #[error("the network does not fit {architecture} on {dataset}: {differences}")]
    NetworkMismatch { architecture: Architecture, dataset: Dataset, differences: String },
    #[error("no weight of the network survives its mask")]
    NoSurvivors,
    #[error("the test loss of the network is not finite: some of its values are not finite, or far too large")]
    ImportNotFinite,
    #[error("the checkpoint does not fit this run: {0}")]
    CheckpointMismatch(String),
}

type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Returns the exit code of the worker for this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Store(error) => error.exit_code(),
            Error::Input { error: winsign_core::Error::Io { .. }, .. }
            | Error::Data(winsign_data::Error::Io { .. }) => exit::IO,
            Error::Input { .. } => exit::DAMAGED_INPUT,
            Error::Interrupted => exit::INTERRUPTED,
            Error::Ranks(_) | Error::Device(_) | Error::Numerics(_) | Error::TooManyRanks { .. } => exit::USAGE,
            Error::Data(_)
            | Error::Diverged { .. }
            | Error::DivergedTest { .. }
            | Error::NotFinite { .. }
            | Error::OnOneLine
            | Error::NothingLeft { .. }
            | Error::ScoresNotFinite
            | Error::DifferentMasks { .. }
            | Error::OtherData { .. }
            | Error::NotImported { .. }
            | Error::NoSurvivors
            | Error::ImportNotFinite
            | Error::NetworkMismatch { .. }
            | Error::RankData { .. }
            | Error::RanksDiffer { .. }
            | Error::OtherRankFailed
            | Error::CheckpointMismatch(_) => exit::FAILURE,
        }
    }
}
