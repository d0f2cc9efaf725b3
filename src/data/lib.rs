//! Data sets in the formats of their publishers, without libtorch, for `winsign data` and the trainer.
//!
//! In this crate `root` is the argument of `--data DIR`: the folder that holds the data sets under the folder names of
//! their publishers (`cifar-100-binary`, `imagenet`, ...), or one such folder itself.

pub mod check;
pub mod cifar;
pub mod crop;
mod error;
mod files;
pub mod image;
pub mod imagenet;
mod mat;
pub mod pack;
mod parallel;
mod pickle;
pub mod stream;
pub mod synth;
pub mod tiny_imagenet;

pub use error::{Error, Result};

pub use parallel::processors;
use winsign_core::settings::Dataset;

/// The default folder of data sets, unless `--data` or the environment gives another one.
pub const DEFAULT_ROOT: &str = "data";

/// A part of a data set. If the labels of the test images are secret, as for ImageNet, the validation images are the
/// test part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, strum::Display, strum::VariantArray)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Split {
    Train,
    Test,
}

/// A data set that is read from disk.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum, serde::Serialize, strum::Display, strum::VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Set {
    Cifar10,
    Cifar100,
    /// Tiny-ImageNet-200.
    TinyImagenet,
    /// The classification task of ILSVRC 2012.
    Imagenet,
}

impl Set {
    /// Returns the name that the publisher uses.
    pub fn name(self) -> &'static str {
        match self {
            Set::Cifar10 => "CIFAR-10",
            Set::Cifar100 => "CIFAR-100",
            Set::TinyImagenet => "Tiny-ImageNet-200",
            Set::Imagenet => "ImageNet (ILSVRC 2012)",
        }
    }

    /// Returns the address at which the set is published.
    pub fn published_at(self) -> &'static str {
        match self {
            Set::Cifar10 | Set::Cifar100 => "https://www.cs.toronto.edu/~kriz/cifar.html",
            Set::TinyImagenet => "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            Set::Imagenet => "https://image-net.org/download.php",
        }
    }

    /// Returns the number of classes of the published set.
    pub fn classes(self) -> usize {
        let dataset = match self {
            Set::Cifar10 => Dataset::Cifar10,
            Set::Cifar100 => Dataset::Cifar100,
            Set::TinyImagenet => Dataset::TinyImagenet,
            Set::Imagenet => Dataset::Imagenet,
        };
        dataset.classes() as usize
    }

    /// Returns the number of images of a part of the published set.
    pub fn images(self, split: Split) -> usize {
        match (self, split) {
            (Set::Cifar10 | Set::Cifar100, Split::Train) => 50_000,
            (Set::TinyImagenet, Split::Train) => 100_000,
            (Set::Cifar10 | Set::Cifar100 | Set::TinyImagenet, Split::Test) => 10_000,
            (Set::Imagenet, Split::Train) => 1_281_167,
            (Set::Imagenet, Split::Test) => 50_000,
        }
    }
}

/// Images of one size, in memory, with their labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// The bytes in the order (image, channel, row, column); the channels are red, green, blue.
    pub pixels: Vec<u8>,
    /// The label of each image, counted from 0.
    pub labels: Vec<u16>,
    /// The height of the images in pixels, which equals their width.
    pub side: usize,
}

impl Images {
    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Returns true if there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Returns the bytes of one image, in the order (channel, row, column).
    pub fn pixels_of(&self, image: usize) -> &[u8] {
        let length = 3 * self.side * self.side;
        &self.pixels[image * length..(image + 1) * length]
    }
}

/// Both parts of a data set that fits in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmallSet {
    pub train: Images,
    pub test: Images,
}

/// Image files with their labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The WordNet ids of the classes, sorted: a label is an index into this list.
    pub classes: Vec<String>,
    pub train: Vec<Entry>,
    pub test: Vec<Entry>,
}

/// An image file and its label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub path: std::path::PathBuf,
    pub label: u16,
}
