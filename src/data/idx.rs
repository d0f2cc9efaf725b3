//! MNIST and other data sets in its format: IDX files, compressed (`.gz`) as they are published, or unpacked.
//!
//! An IDX file has two zero bytes, the type of its values (8 for bytes), the number of dimensions, each dimension as a
//! 32-bit number (big-endian), and then the values.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use winsign_core::settings::Dataset;

use super::error::{Error, Result};
use super::synth::{self, Request, write_file};
use super::{Contents, Files, Images, SmallSet, Split, check};

/// A data set in IDX files.
pub struct Idx {
    dataset: Dataset,
    /// The names of its folder, of which the second is that of torchvision. Files of all these data sets have the same
    /// names, so only the folder distinguishes them.
    folders: [&'static str; 2],
}

pub static MNIST: Idx = Idx { dataset: Dataset::Mnist, folders: ["mnist", "MNIST/raw"] };
pub static FASHION_MNIST: Idx = Idx { dataset: Dataset::FashionMnist, folders: ["fashion-mnist", "FashionMNIST/raw"] };

impl Files for Idx {
    fn open(&self, root: &Path, _: usize) -> Result<Contents> {
        let folder = self.find(root)?;
        Ok(Contents::InMemory(SmallSet::read(|split| self.read(&folder, split))?))
    }

    fn check(&self, root: &Path, options: &check::Options) -> Result<Vec<check::Report>> {
        let folder = self.find(root)?;
        let report = check::Report::new(self.dataset, folder.clone());
        Ok(vec![report.with_parts(options, |split| self.read(&folder, split))])
    }

    fn folder(&self, _: &Request) -> &'static str {
        self.folders[0]
    }

    fn synthesize(&self, folder: &Path, request: &Request, progress: &(dyn Fn() + Sync)) -> Result<()> {
        for split in [Split::Train, Split::Test] {
            let images = synth::images(request, split, progress);
            let [pixels_name, labels_name] = names(split);
            let labels: Vec<u8> = images.labels.iter().map(|&label| label as u8).collect();
            write_file(&folder.join(pixels_name), &encode(&[images.len(), images.side, images.side], &images.pixels))?;
            write_file(&folder.join(labels_name), &encode(&[labels.len()], &labels))?;
        }
        Ok(())
    }
}

/// Returns the names of the files of a part, without the `.gz` of compressed ones: images, and their labels.
fn names(split: Split) -> [&'static str; 2] {
    match split {
        Split::Train => ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"],
        Split::Test => ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"],
    }
}

impl Idx {
    /// Returns the folder of the data set, which may be `root` itself.
    fn find(&self, root: &Path) -> Result<PathBuf> {
        let itself = self.folders.iter().any(|folder| root.ends_with(folder)).then(|| root.to_path_buf());
        let places: Vec<PathBuf> = itself.into_iter().chain(self.folders.map(|folder| root.join(folder))).collect();
        let [first, _] = names(Split::Train);
        if let Some(place) = places.iter().find(|place| file_of(place, first).is_file()) {
            return Ok(place.clone());
        }
        let looked = places.iter().map(|place| format!("{} (or .gz)", place.join(first).display())).collect();
        Err(Error::Missing { dataset: self.dataset, looked })
    }

    /// Reads one part from the folder of the data set. The number of images is arbitrary; all labels are checked to be
    /// in range.
    fn read(&self, folder: &Path, split: Split) -> Result<Images> {
        let [pixels_path, labels_path] = names(split).map(|name| file_of(folder, name));
        let ([count, height, width], pixels) = decode(&pixels_path)?;
        let ([labels], values) = decode(&labels_path)?;
        let empty = Images::empty(self.dataset);
        if [height, width] != [empty.side; 2] {
            let reason = format!("its images have {width}×{height} pixels instead of {0}×{0}", empty.side);
            return Err(Error::malformed(&pixels_path, reason));
        }
        if labels != count || count == 0 {
            let reason = format!("it has {labels} labels of the {count} images in {}", pixels_path.display());
            return Err(Error::malformed(&labels_path, reason));
        }
        let classes = self.dataset.classes();
        if let Some(index) = values.iter().position(|&label| i64::from(label) >= classes) {
            let reason = format!("label {index} is {}, which is not in 0..{}", values[index], classes - 1);
            return Err(Error::malformed(&labels_path, reason));
        }
        Ok(Images { pixels, labels: values.into_iter().map(u16::from).collect(), ..empty })
    }
}

/// Returns the path of a file: the unpacked one, unless only the compressed one exists.
fn file_of(folder: &Path, name: &str) -> PathBuf {
    let (unpacked, compressed) = (folder.join(name), folder.join(format!("{name}.gz")));
    if compressed.is_file() && !unpacked.is_file() { compressed } else { unpacked }
}

/// Reads a file of bytes with `N` dimensions; returns its dimensions and its values.
fn decode<const N: usize>(path: &Path) -> Result<([usize; N], Vec<u8>)> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let is_packed = path.extension().is_some_and(|extension| extension == "gz");
    let mut reader: Box<dyn Read> = if is_packed { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    let mut read = |bytes: &mut Vec<u8>, length: usize| {
        let result = reader.by_ref().take(length as u64).read_to_end(bytes);
        result.map_err(|error| match is_packed {
            true => Error::malformed(path, format!("it cannot be unpacked: {error}")),
            false => Error::io("read", path)(error),
        })
    };
    let header = 4 + 4 * N;
    let mut bytes = vec![];
    read(&mut bytes, header)?;
    if bytes.len() < header || bytes[..4] != [0, 0, 8, N as u8] {
        return Err(Error::malformed(path, format!("it is not an IDX file of bytes with {N} dimensions")));
    }
    let dimension = |index: usize| {
        let bytes = bytes[4 + 4 * index..][..4].try_into().expect("four bytes");
        u32::from_be_bytes(bytes) as usize
    };
    let dimensions: [usize; N] = std::array::from_fn(dimension);
    let expected = dimensions.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
    // Not more than the dimensions say: a packed file can unpack to any length.
    let limit = expected.map_or(0, |expected| expected.saturating_add(1));
    bytes.clear();
    read(&mut bytes, limit)?;
    if expected != Some(bytes.len()) {
        let reason = match expected.is_some_and(|expected| bytes.len() > expected) {
            true => format!("it is longer than its dimensions {dimensions:?}"),
            false => format!(
                "it is truncated or damaged: it ends at byte {} and has the dimensions {dimensions:?}",
                header + bytes.len()
            ),
        };
        return Err(Error::malformed(path, reason));
    }
    Ok((dimensions, bytes))
}

/// Returns the bytes of a file.
fn encode(dimensions: &[usize], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
    bytes.extend(dimensions.iter().flat_map(|&length| (length as u32).to_be_bytes()));
    bytes.extend(values);
    bytes
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    /// Writes a data set of three training images and one test image below `root`, and returns its folder.
    fn written(root: &Path, folder: &str) -> PathBuf {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).unwrap();
        for (split, labels) in [(Split::Train, &[7, 0, 9][..]), (Split::Test, &[4])] {
            let pixels: Vec<u8> = (0..labels.len() * 28 * 28).map(|at| (at % 251) as u8).collect();
            let [pixels_name, labels_name] = names(split);
            fs::write(folder.join(pixels_name), encode(&[labels.len(), 28, 28], &pixels)).unwrap();
            fs::write(folder.join(labels_name), encode(&[labels.len()], labels)).unwrap();
        }
        folder
    }

    fn open(set: &Idx, root: &Path) -> Result<SmallSet> {
        match set.open(root, 1)? {
            Contents::InMemory(set) => Ok(set),
            Contents::Streamed(_) => panic!("it is in memory"),
        }
    }

    fn message(root: &Path) -> String {
        open(&MNIST, root).unwrap_err().to_string()
    }

    #[test]
    fn folder_decides_between_data_sets_with_the_same_names() {
        for (set, other, folders) in
            [(&MNIST, &FASHION_MNIST, MNIST.folders), (&FASHION_MNIST, &MNIST, FASHION_MNIST.folders)]
        {
            for folder in folders {
                let root = tempfile::tempdir().unwrap();
                let folder = written(root.path(), folder);
                let found = open(set, root.path()).unwrap();
                assert_eq!((found.train.labels.as_slice(), found.test.labels.as_slice()), (&[7, 0, 9][..], &[4][..]));
                assert_eq!(found.train.pixels_of(1)[..3], [31, 32, 33], "pixel 784 is 784 modulo 251");
                assert_eq!(open(set, &folder).unwrap(), found);
                assert!(matches!(open(other, root.path()), Err(Error::Missing { .. })));
                assert!(matches!(open(other, &folder), Err(Error::Missing { .. })));
            }
        }
    }

    #[test]
    fn compressed_files_are_read() {
        let root = tempfile::tempdir().unwrap();
        let folder = written(root.path(), "mnist");
        let unpacked = open(&MNIST, root.path()).unwrap();
        for name in [Split::Train, Split::Test].into_iter().flat_map(names) {
            let path = folder.join(name);
            let file = File::create(folder.join(format!("{name}.gz"))).unwrap();
            let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            encoder.write_all(&fs::read(&path).unwrap()).unwrap();
            encoder.finish().unwrap();
            fs::remove_file(path).unwrap();
        }
        assert_eq!(open(&MNIST, root.path()).unwrap(), unpacked);
        let compressed = folder.join("t10k-images-idx3-ubyte.gz");
        let bytes = fs::read(&compressed).unwrap();
        fs::write(&compressed, &bytes[..bytes.len() / 2]).unwrap();
        assert!(message(root.path()).contains("t10k-images-idx3-ubyte.gz: it cannot be unpacked"));
    }

    #[test]
    fn damaged_files_are_reported() {
        let damaged = |name: &str, bytes: &[u8]| {
            let root = tempfile::tempdir().unwrap();
            fs::write(written(root.path(), "mnist").join(name), bytes).unwrap();
            message(root.path())
        };
        let [pixels, labels] = names(Split::Train);
        let cases: &[(&str, Vec<u8>, &str)] = &[
            (pixels, vec![0, 0, 8, 1, 0, 0, 0, 0], "is not an IDX file of bytes with 3 dimensions"),
            (pixels, vec![0, 0, 8, 3, 0, 0], "is not an IDX file of bytes with 3 dimensions"),
            (pixels, encode(&[3, 28, 28], &[0; 9]), "it ends at byte 25 and has the dimensions [3, 28, 28]"),
            (labels, encode(&[3], &[0; 5]), "it is longer than its dimensions [3]"),
            (pixels, encode(&[3, 2, 3], &[0; 18]), "its images have 3×2 pixels instead of 28×28"),
            (labels, encode(&[2], &[0; 2]), "it has 2 labels of the 3 images"),
            (labels, encode(&[3], &[0, 10, 1]), "label 1 is 10, which is not in 0..9"),
        ];
        for (name, bytes, expected) in cases {
            let message = damaged(name, bytes);
            assert!(message.contains(name) && message.contains(expected), "{message}");
        }
    }
}
