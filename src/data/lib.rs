//! Data sets in the formats their publishers ship, without libtorch: what `winsign data` and the trainer share.
//!
//! Everywhere here `root` is what `--data DIR` names: the folder that holds the data sets under their publishers'
//! folder names (`cifar-100-binary`, `imagenet`, ...), or one such folder itself.

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

/// Where data sets are looked for unless `--data` or the environment say otherwise.
pub const DEFAULT_ROOT: &str = "data";

/// One of the two parts of a data set. What publishers call validation is the test part where test labels are secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, strum::Display, strum::VariantArray)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Split {
    Train,
    Test,
}

/// The data sets that are read from disk.
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
    /// Its publisher's name.
    pub fn name(self) -> &'static str {
        match self {
            Set::Cifar10 => "CIFAR-10",
            Set::Cifar100 => "CIFAR-100",
            Set::TinyImagenet => "Tiny-ImageNet-200",
            Set::Imagenet => "ImageNet (ILSVRC 2012)",
        }
    }

    pub fn published_at(self) -> &'static str {
        match self {
            Set::Cifar10 | Set::Cifar100 => "https://www.cs.toronto.edu/~kriz/cifar.html",
            Set::TinyImagenet => "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            Set::Imagenet => "https://image-net.org/download.php",
        }
    }

    /// How many classes the publisher's set has.
    pub fn classes(self) -> usize {
        let dataset = match self {
            Set::Cifar10 => Dataset::Cifar10,
            Set::Cifar100 => Dataset::Cifar100,
            Set::TinyImagenet => Dataset::TinyImagenet,
            Set::Imagenet => Dataset::Imagenet,
        };
        dataset.classes() as usize
    }

    /// How many images the publisher's set has.
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

/// Images of one size, in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Bytes in the order (image, channel, row, column); the channels are red, green, blue.
    pub pixels: Vec<u8>,
    /// One for each image, counted from 0.
    pub labels: Vec<u16>,
    /// Height and width in pixels.
    pub side: usize,
}

impl Images {
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The bytes of one image: (channel, row, column).
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

/// Image files with their labels, yet to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// WordNet ids, sorted: a label is an index among them.
    pub classes: Vec<String>,
    pub train: Vec<Entry>,
    pub test: Vec<Entry>,
}

/// One image file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub path: std::path::PathBuf,
    pub label: u16,
}
