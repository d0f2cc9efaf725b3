//! Data sets in the formats of their publishers, without libtorch, for `winsign data` and the trainer.
//!
//! In this crate `root` is the argument of `--data DIR`: the folder that holds the data sets under the folder names of
//! their publishers (`cifar-100-binary`, `imagenet`, ...), or one such folder itself.

pub mod check;
pub mod cifar;
pub mod crop;
mod digits;
mod error;
#[cfg(test)]
mod example;
mod files;
pub mod idx;
pub mod image;
pub mod imagenet;
pub mod pack;
mod parallel;
mod pickle;
pub mod stream;
pub mod synth;
pub mod tiny_imagenet;

pub use error::{Error, Result};
pub use parallel::processors;

use std::path::Path;

use winsign_core::settings::Dataset;

use cifar::Format;
use stream::ImageSource;
use synth::{Layout, Request};

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

impl Split {
    /// Returns the number of images of the part in the published set.
    pub fn published(self, dataset: Dataset) -> usize {
        dataset.facts().images[self as usize]
    }
}

/// The files of a data set in the formats of its publishers and users.
pub trait Files: Sync {
    /// Opens the data set at `root`, decoding on `threads` threads.
    fn open(&self, root: &Path, threads: usize) -> Result<Contents>;

    /// Checks that the data set at `root` can be opened, without decoding its images.
    fn probe(&self, root: &Path) -> Result<()> {
        self.open(root, 1).map(drop)
    }

    /// Checks all versions of the data set at `root`, at least one. Fails with [`Error::Missing`] if there are none.
    fn check(&self, root: &Path, options: &check::Options) -> Result<Vec<check::Report>>;

    /// Returns the path below the root in which a synthetic data set is written: one at which `open` looks.
    fn folder(&self, request: &Request) -> &'static str;

    /// Writes a synthetic data set into an empty folder, and calls `progress` for every image.
    fn synthesize(&self, folder: &Path, request: &Request, progress: &(dyn Fn() + Sync)) -> Result<()>;

    /// Returns the formats that a synthetic data set can have, if there are several.
    fn formats(&self) -> &'static [Format] {
        &[]
    }

    /// Returns the layouts that a synthetic data set can have, if there are several.
    fn layouts(&self) -> &'static [Layout] {
        &[]
    }

    /// Returns the minimum number of training images of a synthetic data set.
    fn least_train(&self) -> usize {
        1
    }
}

/// The code of a data set.
enum Code {
    BuiltIn(fn() -> SmallSet),
    Files(&'static dyn Files),
}

/// The code of every data set: one line each, in the order of [`Dataset`].
const REGISTRY: &[(Dataset, Code)] = &[
    (Dataset::Digits, Code::BuiltIn(digits::load)),
    (Dataset::Mnist, Code::Files(&idx::MNIST)),
    (Dataset::FashionMnist, Code::Files(&idx::FASHION_MNIST)),
    (Dataset::Cifar10, Code::Files(&cifar::Cifar::Ten)),
    (Dataset::Cifar100, Code::Files(&cifar::Cifar::Hundred)),
    (Dataset::TinyImagenet, Code::Files(&tiny_imagenet::TinyImagenet)),
    (Dataset::Imagenet, Code::Files(&imagenet::Imagenet)),
];

winsign_core::assert_complete!(REGISTRY, Dataset);

/// Opens a data set below `root`, the folder of the data sets, decoding on `threads` threads.
pub fn open(dataset: Dataset, root: &Path, threads: usize) -> Result<Contents> {
    match REGISTRY[dataset as usize].1 {
        Code::BuiltIn(load) => Ok(Contents::InMemory(load())),
        Code::Files(files) => files.open(root, threads),
    }
}

/// Checks that a data set below `root` can be opened, without decoding its images.
pub fn probe(dataset: Dataset, root: &Path) -> Result<()> {
    match REGISTRY[dataset as usize].1 {
        Code::BuiltIn(_) => Ok(()),
        Code::Files(files) => files.probe(root),
    }
}

/// Returns the data sets that are read from disk, with their code.
pub fn on_disk() -> impl Iterator<Item = (Dataset, &'static dyn Files)> {
    REGISTRY.iter().filter_map(|(dataset, code)| match code {
        Code::BuiltIn(_) => None,
        Code::Files(files) => Some((*dataset, *files)),
    })
}

/// An open data set.
pub enum Contents {
    /// All images are in memory.
    InMemory(SmallSet),
    /// Images are read while they are used, because they do not fit in memory.
    Streamed(ImageSource),
}

/// Images of one size, in memory, with their labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// The bytes in the order (image, channel, row, column); the channels are red, green, blue, or gray alone.
    pub pixels: Vec<u8>,
    /// The label of each image, counted from 0.
    pub labels: Vec<u16>,
    pub channels: usize,
    /// The height of the images in pixels, which equals their width.
    pub side: usize,
}

impl Images {
    /// Creates an empty list of images of the shape that a data set has.
    pub fn empty(dataset: Dataset) -> Images {
        let (channels, side) = dataset.image_shape();
        Images { pixels: vec![], labels: vec![], channels: channels as usize, side: side as usize }
    }

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
        let length = self.channels * self.side * self.side;
        &self.pixels[image * length..(image + 1) * length]
    }
}

/// Both parts of a data set that fits in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmallSet {
    pub train: Images,
    pub test: Images,
}

impl SmallSet {
    /// Reads both parts.
    pub fn read(part: impl Fn(Split) -> Result<Images>) -> Result<SmallSet> {
        Ok(SmallSet { train: part(Split::Train)?, test: part(Split::Test)? })
    }
}

/// Image files with their labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The WordNet ids of the classes, sorted: a label is an index into this list.
    pub classes: Vec<String>,
    pub train: Vec<Entry>,
    pub test: Vec<Entry>,
}

impl Listing {
    /// Returns the images of a part.
    pub fn part(&self, split: Split) -> &[Entry] {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }
}

/// An image file and its label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub path: std::path::PathBuf,
    pub label: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../docs/guides/adding-a-dataset.md");

    /// The page adds a data set that does not exist; the example is one of the same shape that does.
    #[test]
    fn documented_data_set_is_synthesized_checked_and_opened() {
        let example = include_str!("example.rs").replace("Dataset::Cifar10", "Dataset::Shapes");
        assert!(PAGE.contains(&example), "docs/guides/adding-a-dataset.md differs from example.rs");
        let root = tempfile::tempdir().unwrap();
        let like = Dataset::Cifar10;
        let request = Request { like, train: 30, test: 10, classes: None, seed: 1, format: None, layout: None };
        let folder = root.path().join(example::Shapes.folder(&request));
        std::fs::create_dir(&folder).unwrap();
        example::Shapes.synthesize(&folder, &request, &|| ()).unwrap();
        let open = |root: &Path| match example::Shapes.open(root, 1).unwrap() {
            Contents::InMemory(set) => set,
            Contents::Streamed(_) => panic!("it is in memory"),
        };
        let set = open(root.path());
        assert_eq!((set.train.len(), set.test.len(), set.train.pixels_of(29).len()), (30, 10, 3 * 32 * 32));
        assert_eq!(open(&folder), set);
        let options = check::Options { threads: 1, progress: &|_| () };
        assert!(example::Shapes.check(root.path(), &options).unwrap()[0].problems.is_empty());
        std::fs::write(folder.join("test.labels"), [0, 10]).unwrap();
        let reports = example::Shapes.check(root.path(), &options).unwrap();
        assert!(reports[0].problems[0].reason.contains("label 1 is 10"), "{reports:?}");
    }
}
