//! Data sets in the formats their publishers ship, without libtorch: what `winsign data` and the trainer share.

pub mod crop;
mod error;
pub mod image;
pub mod imagenet;
pub mod pack;
mod parallel;
pub mod stream;

pub use error::{Error, Result};

/// Where data sets are looked for unless `--data` or the environment say otherwise.
pub const DEFAULT_ROOT: &str = "data";

/// One of the two parts of a data set. What publishers call validation is the test part where test labels are secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::Display, strum::VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Split {
    Train,
    Test,
}

pub struct Images {
    pub pixels: Vec<u8>,
    pub labels: Vec<u16>,
    pub side: usize,
}
pub struct SmallSet {
    pub train: Images,
    pub test: Images,
}
pub mod cifar {
    pub enum Cifar {
        Ten,
        Hundred,
    }
    pub fn load(_: &std::path::Path, _: Cifar) -> super::Result<super::SmallSet> {
        todo!()
    }
}
pub mod tiny_imagenet {
    pub fn load(_: &std::path::Path, _: usize) -> super::Result<super::SmallSet> {
        todo!()
    }
}
