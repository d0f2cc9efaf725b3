//! Masks: pruning by magnitude, transfer to a new initialization, norm interpolation.

mod magnitude;
mod norm;
mod transfer;

pub use magnitude::prune;
pub use norm::{interpolate_norms, with_norm_init};
pub use transfer::transfer;
