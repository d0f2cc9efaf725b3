//! Data sets in the formats their publishers ship, without libtorch: what `winsign data` and the trainer share.

pub mod crop;
mod error;
pub mod image;
pub mod imagenet;
pub mod pack;
mod parallel;
pub mod stream;

pub use error::{Error, Result};

/// One of the two parts of a data set. What publishers call validation is the test part where test labels are secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::Display, strum::VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Split {
    Train,
    Test,
}
