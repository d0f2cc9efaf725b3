//! Operations on masks: pruning by magnitude or at initialization, rewinding, transfer to a new initialization, norm
//! interpolation.

pub mod controls;
pub mod initial;
mod magnitude;
mod norm;
mod rewind;
mod transfer;

pub use magnitude::prune;
pub use norm::{interpolate_norms, reset_norms};
pub use rewind::rewind;
pub use transfer::start_of;
