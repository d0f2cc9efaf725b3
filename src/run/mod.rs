//! The hall: what a run is, its identity, and its directory on disk.
//!
//! Both wings import this room and it imports neither. It knows nothing of YAML, Slurm or torch.

pub mod attempt;
pub mod clean;
pub mod directory;
pub mod error;
pub mod exit;
pub mod files;
pub mod identity;
pub mod lease;
pub mod merge;
pub mod owner;
pub mod results;
pub mod settings;
pub mod tensors;

pub use attempt::Attempt;
pub use directory::{RunDirectory, State, Store};
pub use error::Error;
pub use identity::{Run, RunId};
