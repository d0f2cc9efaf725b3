//! Data sets that are in memory as a whole.

use tch::{Kind, Tensor};

use super::augment::Augmentation;
use winsign::data::{self, SmallSet};

/// Images as bytes, and how they are varied for training.
pub struct Resident {
    pub train: Images,
    pub test: Images,
    pub augmentation: Augmentation,
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

/// See [`super::Data::fingerprint`].
pub fn fingerprint(set: &SmallSet) -> String {
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
    pub fn new(set: SmallSet, augmentation: Augmentation) -> Resident {
        let images = |images: data::Images| {
            let shape = [images.labels.len() as i64, 3, images.side as i64, images.side as i64];
            let labels: Vec<i64> = images.labels.iter().map(|&label| i64::from(label)).collect();
            Images {
                pixels: Tensor::from_data_size(&images.pixels, &shape, Kind::Uint8),
                labels: Tensor::from_slice(&labels),
            }
        };
        Resident { train: images(set.train), test: images(set.test), augmentation }
    }
}
