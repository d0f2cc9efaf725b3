//! Data sets, ready to train on, and the batches every one of them gives.
//!
//! A batch is a function of (seed, epoch, step): which images, in which order, and how each is augmented.

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

/// A data set.
pub struct Data {
    images: Images,
    fingerprint: Option<String>,
    normalization: Normalization,
}

enum Images {
    /// In memory.
    Resident(Resident),
    /// Too many for that.
    Streamed(Streamed),
}

/// What turns pixel values, 0 to 255 or whatever the set has, into network inputs: (value − mean) / deviation.
struct Normalization {
    /// Shape (channels, 1, 1).
    mean: Tensor,
    deviation: Tensor,
}

impl Normalization {
    fn new(mean: &[f32], deviation: &[f32]) -> Normalization {
        let channels = |values: &[f32]| Tensor::from_slice(values).view([-1, 1, 1]);
        Normalization { mean: channels(mean), deviation: channels(deviation) }
    }

    /// For mean and deviation of colors in [0, 1] and pixel values in 0..=255.
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

/// Mean and deviation of CIFAR's colors, as the paper has them for CIFAR-100.
const CIFAR_COLORS: [[f32; 3]; 2] = [[0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]];
/// The same of ImageNet's, also for Tiny-ImageNet.
const IMAGENET_COLORS: [[f32; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];

/// Reads a data set from `root`, the folder with the data sets, on so many threads. Its batches are on the CPU.
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
    /// The same data, whose batches are on a device. Small sets move there as a whole.
    pub fn on(self, device: Device) -> Data {
        let images = match self.images {
            Images::Resident(resident) => Images::Resident(resident.on(device)),
            Images::Streamed(streamed) => Images::Streamed(streamed.on(device)),
        };
        Data { images, normalization: self.normalization.on(device), fingerprint: self.fingerprint }
    }

    pub fn device(&self) -> Device {
        self.normalization.mean.device()
    }

    /// What tells apart data that could give other numbers: a digest of labels and pixels, for ImageNet of classes, labels
    /// and the files of some images. None for what is built in.
    pub fn fingerprint(&self) -> Option<String> {
        self.fingerprint.clone()
    }

    pub fn train_count(&self) -> i64 {
        self.count(Split::Train)
    }

    /// How many images a part has.
    pub fn count(&self, split: Split) -> i64 {
        match (&self.images, split) {
            (Images::Resident(resident), Split::Train) => resident.train.count(),
            (Images::Resident(resident), Split::Test) => resident.test.count(),
            (Images::Streamed(streamed), split) => streamed.count(split),
        }
    }
}
