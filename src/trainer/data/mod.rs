//! Data sets that are ready for training, and their batches.
//!
//! A batch is a function of (seed, epoch, step), which determines the images, their order, and the augmentation of
//! each.

mod augment;
pub mod batches;
mod digits;
mod resident;
mod streamed;

use std::path::Path;

use tch::{Device, Kind, Tensor};
use winsign_core::settings::Dataset;
use winsign_data::cifar::{self, Cifar};
use winsign_data::{SmallSet, Split, tiny_imagenet};

use augment::Augmentation;
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
    fn new(mean: &[f32], deviation: &[f32]) -> Normalization {
        let channels = |values: &[f32]| Tensor::from_slice(values).view([-1, 1, 1]);
        Normalization { mean: channels(mean), deviation: channels(deviation) }
    }

    /// Creates a normalization from the means and deviations of colors in [0, 1], for pixel values in 0..=255.
    fn of_colors(mean: [f32; 3], deviation: [f32; 3]) -> Normalization {
        Normalization::new(&mean.map(|color| color * 255.0), &deviation.map(|color| color * 255.0))
    }

    fn on(self, device: Device) -> Normalization {
        Normalization { mean: self.mean.to_device(device), deviation: self.deviation.to_device(device) }
    }

    fn apply(&self, pixels: &Tensor) -> Tensor {
        (pixels.to_kind(Kind::Float) - &self.mean) / &self.deviation
    }
}

/// The means and deviations of the colors of CIFAR, with the values of the paper for CIFAR-100.
const CIFAR_COLORS: [[f32; 3]; 2] = [[0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]];
/// The means and deviations of the colors of ImageNet, also used for Tiny-ImageNet.
const IMAGENET_COLORS: [[f32; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];

/// Loads a data set from `root`, the folder of the data sets, on `threads` threads. Its batches are on the CPU.
pub fn load(dataset: Dataset, root: &Path, threads: usize) -> winsign_data::Result<Data> {
    let resident = |set: SmallSet, augmentation, [mean, deviation]: [[f32; 3]; 2]| Data {
        fingerprint: Some(resident::fingerprint(&set)),
        images: Images::Resident(Resident::new(set, augmentation)),
        normalization: Normalization::of_colors(mean, deviation),
    };
    let cifar = Augmentation::Shift { pixels: 4, flips: true };
    Ok(match dataset {
        Dataset::Digits => digits::load(),
        Dataset::Cifar10 => resident(cifar::load(root, Cifar::Ten)?, cifar, CIFAR_COLORS),
        Dataset::Cifar100 => resident(cifar::load(root, Cifar::Hundred)?, cifar, CIFAR_COLORS),
        Dataset::TinyImagenet => {
            let crop = Augmentation::ResizedCrop { scale: (0.5, 1.0) };
            resident(tiny_imagenet::load(root, threads)?, crop, IMAGENET_COLORS)
        }
        Dataset::Imagenet => {
            let [mean, deviation] = IMAGENET_COLORS;
            let streamed = Streamed::open(root, threads)?;
            Data {
                fingerprint: Some(streamed.fingerprint.clone()),
                images: Images::Streamed(streamed),
                normalization: Normalization::of_colors(mean, deviation),
            }
        }
    })
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
