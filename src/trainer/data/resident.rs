//! Data sets that are in memory as a whole.

use tch::{Device, Kind, Tensor};
use winsign_core::dataset::Augmentation;
use winsign_data::SmallSet;

use super::augment::Prepared;

/// A data set in memory.
pub(super) struct Resident {
    pub train: Images,
    pub test: Images,
    /// The training images, prepared for augmentation.
    pub prepared: Prepared,
}

/// Images and their labels.
pub(super) struct Images {
    /// Shape (images, channels, height, width), bytes.
    pub pixels: Tensor,
    /// Shape (images), 64-bit integers.
    pub labels: Tensor,
}

impl Images {
    pub(super) fn count(&self) -> i64 {
        self.labels.size()[0]
    }

    fn on(&self, device: Device) -> Images {
        Images { pixels: self.pixels.to_device(device), labels: self.labels.to_device(device) }
    }
}

/// Returns the fingerprint of a set; see [`super::Data::fingerprint`].
pub(super) fn fingerprint(set: &SmallSet) -> String {
    let mut hasher = blake3::Hasher::new();
    for images in [&set.train, &set.test] {
        hasher.update(&(images.labels.len() as u64).to_le_bytes());
        for label in &images.labels {
            hasher.update(&label.to_le_bytes());
        }
        hasher.update(&images.pixels);
    }
    hasher.finalize().to_hex()[..16].to_string()
}

impl Resident {
    pub(super) fn new(set: SmallSet, augmentation: Augmentation) -> Resident {
        let images = |images: winsign_data::Images| {
            let shape = [images.len(), images.channels, images.side, images.side].map(|length| length as i64);
            let labels: Vec<i64> = images.labels.iter().map(|&label| i64::from(label)).collect();
            Images {
                pixels: Tensor::from_data_size(&images.pixels, &shape, Kind::Uint8),
                labels: Tensor::from_slice(&labels),
            }
        };
        Resident::with_images(images(set.train), images(set.test), augmentation)
    }

    pub(super) fn on(self, device: Device) -> Resident {
        Resident::with_images(self.train.on(device), self.test.on(device), self.prepared.augmentation)
    }

    pub(super) fn with_images(train: Images, test: Images, augmentation: Augmentation) -> Resident {
        let prepared = Prepared::new(&train, augmentation);
        Resident { train, test, prepared }
    }
}
