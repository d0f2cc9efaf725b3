//! Data sets that are ready for training, and their batches.
//!
//! A batch is a function of (seed, epoch, step), which determines the images, their order, and the augmentation of
//! each.

mod augment;
pub mod batches;
mod resident;
mod streamed;

use std::path::Path;

use tch::{Device, Kind, Tensor};
use winsign_core::dataset::Facts;
use winsign_core::settings::Dataset;
use winsign_data::{Contents, Split};

use resident::Resident;
use streamed::Streamed;

/// A data set with its normalization.
pub struct Data {
    images: Images,
    fingerprint: Option<String>,
    normalization: Normalization,
}

enum Images {
    /// All images are in memory.
    Resident(Resident),
    /// Images are read while they are used, because they do not fit in memory.
    Streamed(Streamed),
}

/// The normalization of pixel values to network inputs: (value − mean) / deviation, in the units of the pixel values.
struct Normalization {
    /// The means; shape (channels, 1, 1).
    mean: Tensor,
    /// The standard deviations; shape (channels, 1, 1).
    deviation: Tensor,
}

impl Normalization {
    fn new(facts: &Facts) -> Normalization {
        let channels = |fractions: &[f32]| {
            let values: Vec<f32> = fractions.iter().map(|fraction| fraction * facts.white).collect();
            Tensor::from_slice(&values).view([-1, 1, 1])
        };
        Normalization { mean: channels(facts.mean), deviation: channels(facts.deviation) }
    }

    fn on(self, device: Device) -> Normalization {
        Normalization { mean: self.mean.to_device(device), deviation: self.deviation.to_device(device) }
    }

    fn apply(&self, pixels: &Tensor) -> Tensor {
        (pixels.to_kind(Kind::Float) - &self.mean) / &self.deviation
    }
}

/// Loads a data set from `root`, the folder of the data sets, on `threads` threads. Its batches are on the CPU.
pub fn load(dataset: Dataset, root: &Path, threads: usize) -> winsign_data::Result<Data> {
    let facts = dataset.facts();
    let (images, fingerprint) = match winsign_data::open(dataset, root, threads)? {
        Contents::InMemory(set) => {
            let fingerprint = facts.published_at.map(|_| resident::fingerprint(&set));
            (Images::Resident(Resident::new(set, facts.augmentation)), fingerprint)
        }
        Contents::Streamed(source) => {
            let streamed = Streamed::new(source, &facts, threads)?;
            let fingerprint = streamed.fingerprint.clone();
            (Images::Streamed(streamed), Some(fingerprint))
        }
    };
    Ok(Data { images, fingerprint, normalization: Normalization::new(&facts) })
}

impl Data {
    /// Returns the data set with its batches on a device. Data sets in memory move there as a whole.
    pub fn on(self, device: Device) -> Data {
        let images = match self.images {
            Images::Resident(resident) => Images::Resident(resident.on(device)),
            Images::Streamed(streamed) => Images::Streamed(streamed.on(device)),
        };
        Data { images, normalization: self.normalization.on(device), fingerprint: self.fingerprint }
    }

    /// Returns the device of the batches.
    pub fn device(&self) -> Device {
        self.normalization.mean.device()
    }

    /// Returns an identifier of the data, which differs if the data could give other numbers: a digest of labels and
    /// pixels, or for ImageNet of classes, labels and the files of some images. Returns `None` for the built-in data
    /// set.
    pub fn fingerprint(&self) -> Option<String> {
        self.fingerprint.clone()
    }

    /// Returns the number of training images.
    pub fn train_count(&self) -> i64 {
        self.count(Split::Train)
    }

    /// Returns the number of images of a part.
    pub fn count(&self, split: Split) -> i64 {
        match (&self.images, split) {
            (Images::Resident(resident), Split::Train) => resident.train.count(),
            (Images::Resident(resident), Split::Test) => resident.test.count(),
            (Images::Streamed(streamed), split) => streamed.count(split),
        }
    }
}
