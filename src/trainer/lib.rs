//! The wing of `winsign-worker`: run directory → training → run directory.

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

/// What a run's story ends with.
struct Finished {
    outcome: Outcome,
    /// The network it leaves to others, if any, under this layout.
    network: Option<(model::Layout, Weights)>,
}

/// Why a run ends without a result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] winsign_core::Error),
    #[error("{0}{help}", help = .0.hint().map(|hint| format!(": {hint}")).unwrap_or_default())]
    Data(#[from] winsign_data::Error),
    #[error("the input run {id} cannot be used: {error}")]
    Input { id: RunId, error: winsign_core::Error },
    #[error(
        "the input run {id} was computed from other data than those in {folder}: use the same data, or another --store",
        folder = folder.display()
    )]
    OtherData { id: RunId, folder: PathBuf },
    #[error(transparent)]
    Ranks(#[from] comm::Error),
    #[error(transparent)]
    Device(#[from] device::Error),
    #[error(transparent)]
    Numerics(#[from] numerics::Error),
    #[error("there are {ranks} ranks for batches of {batch} images: start at most {batch}, or choose a larger batch")]
    TooManyRanks { ranks: usize, batch: u32 },
    #[error("rank {rank} on {host} finds other data in {folder} than rank 0: give all ranks the same")]
    RankData { rank: usize, host: String, folder: String },
    #[error("rank {rank} computed other numbers than rank 0 in epoch {epoch}: a processor or its memory is faulty")]
    Apart { rank: usize, epoch: u32 },
    /// Never shown: the rank in question says what it was.
    #[error("another rank cannot go on")]
    Elsewhere,
    #[error("stopped as asked; the checkpoint says where to go on")]
    Interrupted,
    #[error("the loss became {loss} at epoch {epoch}, step {step}: try a smaller lr")]
    Diverged { epoch: u32, step: u32, loss: f32 },
    #[error(
        "the test loss became {loss} after epoch {epoch}: try a smaller lr, or another batch if an epoch ends with one image"
    )]
    DivergedTest { epoch: u32, loss: f64 },
    #[error("the loss is not finite {place}")]
    NotFinite { place: String },
    #[error("the three networks lie on one line, or two of them are one: no plane leads through them")]
    OnOneLine,
    #[error("pruning the last {survivors} weights would leave none: lower levels or prune_ratio")]
    NothingLeft { survivors: u64 },
    #[error("the effects of weights on the network's output are not finite: no mask can be found by them")]
    ScoresNotFinite,
    #[error("the two networks have different masks ({differing} weights survive in one only): no common path")]
    DifferentMasks { differing: u64 },
    #[error("no network with the digest {digest} is in this store: `winsign import FILE --as ticket` takes it in")]
    NotImported { digest: Digest },
    #[error("the network does not fit {architecture} on {dataset}: {differences}")]
    Misfit { architecture: Architecture, dataset: Dataset, differences: String },
    #[error("no weight of the network survives its mask")]
    NothingLeftImport,
    #[error("the network's test loss is not finite: some of its values are not, or are far too large")]
    NotFiniteImport,
    #[error("the checkpoint does not fit this run: {0}")]
    Unfit(String),
}

type Result<T> = std::result::Result<T, Error>;

impl Error {
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
            | Error::NothingLeftImport
            | Error::NotFiniteImport
            | Error::Misfit { .. }
            | Error::RankData { .. }
            | Error::Apart { .. }
            | Error::Elsewhere
            | Error::Unfit(_) => exit::FAILURE,
        }
    }
}
