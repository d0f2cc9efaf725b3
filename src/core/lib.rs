//! Runs, their identities and their directories on disk; leases; randomness.
//!
//! All other crates depend on this one, and it depends on none of them. It knows nothing of YAML, Slurm or torch.

#![forbid(unsafe_code)]

mod architecture;
pub mod attempt;
pub mod clean;
pub mod diagnostic;
pub mod directory;
pub mod error;
pub mod exit;
pub mod files;
pub mod grouping;
pub mod identity;
pub mod lease;
pub mod merge;
pub mod owner;
pub mod parallel;
pub mod random;
pub mod results;
pub mod settings;
pub mod tensors;
pub mod text;
pub mod units;

pub use attempt::Attempt;
pub use diagnostic::Diagnostic;
pub use directory::{RunDirectory, State, Store};
pub use error::Error;
pub use identity::{Run, RunId};
