//! Data sets: one file each, and the batches every one of them gives.
//!
//! A batch is a function of (seed, epoch, step): which images, in which order, and how each is augmented.

pub mod batches;
mod digits;

use tch::Tensor;

use winsign::run::settings::Dataset;

/// A data set in memory.
pub struct Data {
    pub train: Images,
    pub test: Images,
    /// Training images are moved by up to so many pixels in each direction, filled up with the darkest value.
    pub shift: i64,
    /// What turns pixel values into network inputs: (value − mean) / deviation.
    pub mean: f64,
    pub deviation: f64,
}

pub struct Images {
    /// Shape (images, channels, height, width), bytes.
    pub pixels: Tensor,
    /// Shape (images), 64-bit integers.
    pub labels: Tensor,
}

impl Images {
    pub fn count(&self) -> i64 {
        self.labels.size()[0]
    }
}

pub fn load(dataset: Dataset) -> Data {
    match dataset {
        Dataset::Digits => digits::load(),
        other => todo!("{other}"),
    }
}
