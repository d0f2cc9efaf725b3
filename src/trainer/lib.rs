//! The trainer: reads a run directory, trains or measures networks, and writes the results back. It is the library of
//! `winsign-worker`.

pub mod comm;
mod connect;
pub mod data;
pub mod device;
pub mod failure;
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
use winsign_core::{Diagnostic, RunId, exit};

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
    #[error(transparent)]
    Data(#[from] winsign_data::Error),
    #[error("cannot use the input run {id}: {error}")]
    Input { id: RunId, error: winsign_core::Error },
    #[error("the input run {id} was computed from other data than those in {folder}", folder = folder.display())]
    OtherData { id: RunId, folder: PathBuf },
    /// The ranks or their devices cannot compute the run.
    #[error("{}", .0.message)]
    Setup(#[from] Diagnostic),
    #[error("rank {rank} on {host} finds other data in {folder} than rank 0")]
    RankData { rank: usize, host: String, folder: String },
    #[error("rank {rank} and rank 0 computed different numbers in epoch {epoch}: a processor or its memory is faulty")]
    RanksDiffer { rank: usize, epoch: u32 },
    /// This is never shown: the rank that failed reports its own error.
    #[error("another rank failed")]
    OtherRankFailed,
    #[error("stopped on request; the run resumes from its checkpoint")]
    Interrupted,
    #[error("the loss became {loss} at epoch {epoch}, step {step}")]
    Diverged { epoch: u32, step: u32, loss: f32 },
    #[error("the test loss became {loss} after epoch {epoch}")]
    DivergedTest { epoch: u32, loss: f64 },
    #[error("the loss is not finite {place}")]
    NotFinite { place: String },
    #[error("the three networks are on one line, or two of them are equal: they do not span a plane")]
    OnOneLine,
    #[error("pruning the last {survivors} weights would leave none")]
    NothingLeft { survivors: u64 },
    #[error("cannot find a mask: the effects of weights on the output of the network are not finite")]
    ScoresNotFinite,
    #[error("cannot join two networks with different masks ({differing} weights survive in only one of them)")]
    DifferentMasks { differing: u64 },
    #[error("there is no network with the digest {digest} in this store")]
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

impl From<Error> for Diagnostic {
    fn from(error: Error) -> Diagnostic {
        let message = error.to_string();
        let help = match error {
            Error::Store(error) => return error.into(),
            Error::Setup(error) => return error,
            Error::Data(error) => {
                let Diagnostic { exit_code, help, .. } = error.into();
                // A set that is missing or malformed stays so if the run is repeated.
                let exit_code = if exit_code == exit::IO { exit::IO } else { exit::USAGE };
                return Diagnostic::with_code(exit_code, message, help.as_deref());
            }
            Error::Input { error: error @ winsign_core::Error::Io { .. }, .. } => {
                return Diagnostic::with_code(exit::IO, message, Diagnostic::from(error).help.as_deref());
            }
            Error::Input { .. } => return Diagnostic::with_code(exit::DAMAGED_INPUT, message, None),
            Error::Interrupted => return Diagnostic::with_code(exit::INTERRUPTED, message, None),
            Error::OtherData { .. } => Some("use the same data, or another --store"),
            Error::RankData { .. } => Some("give all ranks the same data"),
            Error::Diverged { .. } => Some("try a smaller lr"),
            Error::DivergedTest { .. } => Some("try a smaller lr, or another batch if an epoch ends with one image"),
            Error::NothingLeft { .. } => Some("lower levels or prune_ratio"),
            Error::NotImported { .. } => Some("run `winsign import FILE --as ticket`"),
            _ => None,
        };
        Diagnostic::with_code(exit::FAILURE, message, help)
    }
}
