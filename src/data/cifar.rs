//! CIFAR-10 and CIFAR-100, in both versions that Alex Krizhevsky publishes.
//!
//! The binary version is a sequence of records: one label (for CIFAR-100 two, the coarse one first), then 3,072 pixels
//! in the order (channel, row, column). The Python version has the same pixels as a numpy array in a pickled
//! dictionary.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use winsign_core::settings::Dataset;

use super::error::{Error, Result};
use super::pickle::{Pickle, Writer};
use super::synth::{self, Request, write_file};
use super::{Contents, Files, Images, SmallSet, Split, check};

/// One of the two sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cifar {
    Ten,
    Hundred,
}

/// The version in which a set is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Format {
    Binary,
    Python,
}

/// The size of an image in bytes.
const PIXELS: usize = 3 * 32 * 32;
/// The number of groups of the classes of CIFAR-100.
const COARSE_CLASSES: usize = 20;

/// Loads the set at `root`: the binary version if both exist. The number of images is arbitrary; all labels are checked
/// to be in range.
pub fn load(root: &Path, cifar: Cifar) -> Result<SmallSet> {
    let (folder, format) = find(root, cifar)?;
    SmallSet::read(|split| load_part(&folder, cifar, format, split))
}

/// Returns the folder of a set, and the version in it.
fn find(root: &Path, cifar: Cifar) -> Result<(PathBuf, Format)> {
    Ok(find_all(root, cifar)?.swap_remove(0))
}

/// Returns the folders of all versions that exist, the preferred one first. Fails with [`Error::Missing`] if there are
/// none.
fn find_all(root: &Path, cifar: Cifar) -> Result<Vec<(PathBuf, Format)>> {
    let mut found = vec![];
    let mut looked = vec![];
    for format in FORMATS {
        for place in [root.join(cifar.archive_folder(format)), root.to_path_buf()] {
            let first = place.join(cifar.files(format, Split::Train)[0]);
            looked.push(format!("{} ({format} version)", first.display()));
            if first.is_file() {
                found.push((place, format));
            }
        }
    }
    if found.is_empty() { Err(Error::Missing { dataset: cifar.dataset(), looked }) } else { Ok(found) }
}

/// The versions in order of preference: the binary one is faster to read.
const FORMATS: [Format; 2] = [Format::Binary, Format::Python];

impl Files for Cifar {
    fn open(&self, root: &Path, _: usize) -> Result<Contents> {
        Ok(Contents::InMemory(load(root, *self)?))
    }

    fn check(&self, root: &Path, options: &check::Options) -> Result<Vec<check::Report>> {
        let report = |(folder, format): (PathBuf, Format)| {
            let report = check::Report { format: Some(format), ..check::Report::new(self.dataset(), folder.clone()) };
            report.with_parts(options, |split| load_part(&folder, *self, format, split))
        };
        Ok(find_all(root, *self)?.into_iter().map(report).collect())
    }

    fn folder(&self, request: &Request) -> &'static str {
        self.archive_folder(request.format.unwrap_or(Format::Binary))
    }

    fn synthesize(&self, folder: &Path, request: &Request, progress: &(dyn Fn() + Sync)) -> Result<()> {
        let format = request.format.unwrap_or(Format::Binary);
        for split in [Split::Train, Split::Test] {
            let images = synth::images(request, split, progress);
            let names = self.files(format, split);
            for (batch, name) in names.iter().enumerate() {
                // The training images of CIFAR-10 are in five files.
                let range = images.len() * batch / names.len()..images.len() * (batch + 1) / names.len();
                let bytes = match format {
                    Format::Binary => self.encode_binary(&images, range),
                    Format::Python => {
                        let title = format!("{split} batch {} of {}", batch + 1, names.len());
                        self.encode_python(&images, range, split, &title)
                    }
                };
                write_file(&folder.join(name), &bytes)?;
            }
        }
        self.write_names(folder, format)
    }

    fn formats(&self) -> &'static [Format] {
        &FORMATS
    }

    fn least_train(&self) -> usize {
        self.files(Format::Binary, Split::Train).len()
    }
}

impl Cifar {
    fn classes(self) -> usize {
        self.dataset().classes() as usize
    }

    fn encode_binary(self, images: &Images, range: Range<usize>) -> Vec<u8> {
        let record = |image: usize| {
            let label = images.labels[image];
            let labels = match self {
                Cifar::Ten => vec![label as u8],
                Cifar::Hundred => vec![coarse(label), label as u8],
            };
            [&labels, images.pixels_of(image)].concat()
        };
        range.flat_map(record).collect()
    }

    fn encode_python(self, images: &Images, range: Range<usize>, split: Split, title: &str) -> Vec<u8> {
        let labels = &images.labels[range.clone()];
        let mut writer = Writer::new();
        writer.string("batch_label", title);
        let files: Vec<_> = range.clone().map(|index| format!("{split}_{index:05}.png")).collect();
        writer.strings("filenames", &files);
        let fine = labels.iter().map(|&label| label.into());
        match self {
            Cifar::Ten => writer.integers("labels", fine),
            Cifar::Hundred => {
                writer.integers("fine_labels", fine);
                writer.integers("coarse_labels", labels.iter().map(|&label| coarse(label).into()));
            }
        }
        writer.matrix("data", PIXELS as i32, &images.pixels[range.start * PIXELS..range.end * PIXELS]);
        writer.finish()
    }

    /// Writes the files with the names of the classes, which other loaders need.
    fn write_names(self, folder: &Path, format: Format) -> Result<()> {
        let names = |count: usize| (0..count).map(|class| format!("class_{class}")).collect::<Vec<_>>();
        let lists: &[(&str, &str, usize)] = match self {
            Cifar::Ten => &[("batches.meta.txt", "label_names", 10)],
            Cifar::Hundred => &[
                ("fine_label_names.txt", "fine_label_names", 100),
                ("coarse_label_names.txt", "coarse_label_names", COARSE_CLASSES),
            ],
        };
        if format == Format::Binary {
            for (file, _, count) in lists {
                write_file(&folder.join(file), (names(*count).join("\n") + "\n").as_bytes())?;
            }
            return Ok(());
        }
        let mut writer = Writer::new();
        lists.iter().for_each(|(_, key, count)| writer.strings(key, &names(*count)));
        write_file(&folder.join(if self == Cifar::Ten { "batches.meta" } else { "meta" }), &writer.finish())
    }

    fn dataset(self) -> Dataset {
        match self {
            Cifar::Ten => Dataset::Cifar10,
            Cifar::Hundred => Dataset::Cifar100,
        }
    }

    /// Returns the name of the folder in the archive of the publisher.
    fn archive_folder(self, format: Format) -> &'static str {
        match (self, format) {
            (Cifar::Ten, Format::Binary) => "cifar-10-batches-bin",
            (Cifar::Ten, Format::Python) => "cifar-10-batches-py",
            (Cifar::Hundred, Format::Binary) => "cifar-100-binary",
            (Cifar::Hundred, Format::Python) => "cifar-100-python",
        }
    }

    /// Returns the names of the files of a part, in order.
    fn files(self, format: Format, split: Split) -> &'static [&'static str] {
        match (self, format, split) {
            (Cifar::Ten, Format::Binary, Split::Train) => {
                &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"]
            }
            (Cifar::Ten, Format::Binary, Split::Test) => &["test_batch.bin"],
            (Cifar::Ten, Format::Python, Split::Train) => {
                &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"]
            }
            (Cifar::Ten, Format::Python, Split::Test) => &["test_batch"],
            (Cifar::Hundred, Format::Binary, Split::Train) => &["train.bin"],
            (Cifar::Hundred, Format::Binary, Split::Test) => &["test.bin"],
            (Cifar::Hundred, Format::Python, Split::Train) => &["train"],
            (Cifar::Hundred, Format::Python, Split::Test) => &["test"],
        }
    }
}

/// Returns the group of a class in synthetic data sets.
fn coarse(label: u16) -> u8 {
    label as u8 % COARSE_CLASSES as u8
}

/// Loads one part of a set from its folder.
fn load_part(folder: &Path, cifar: Cifar, format: Format, split: Split) -> Result<Images> {
    let mut images = Images::empty(cifar.dataset());
    for name in cifar.files(format, split) {
        let path = folder.join(name);
        match format {
            Format::Binary => {
                let file = File::open(&path).map_err(Error::io("read", &path))?;
                let length = file.metadata().map_err(Error::io("read", &path))?.len();
                read_binary(&path, BufReader::with_capacity(1 << 20, file), length, cifar, &mut images)?;
            }
            Format::Python => {
                let file = fs::read(&path).map_err(Error::io("read", &path))?;
                read_python(&path, &file, cifar, &mut images)?;
            }
        }
    }
    Ok(images)
}

/// Appends the images of a file of `length` bytes. `path` is used in error messages.
fn read_binary(path: &Path, mut file: impl Read, length: u64, cifar: Cifar, images: &mut Images) -> Result<()> {
    let label_bytes = if cifar == Cifar::Hundred { 2 } else { 1 };
    let record = (label_bytes + PIXELS) as u64;
    if length == 0 {
        return Err(Error::malformed(path, "the file is empty"));
    }
    let count = (length / record) as usize;
    if !length.is_multiple_of(record) {
        let reason = format!(
            "it is truncated or has another format: it ends at byte {length} within record {count}, which begins at \
             byte {} (records have {record} bytes)",
            count as u64 * record
        );
        return Err(Error::malformed(path, reason));
    }
    images.labels.reserve(count);
    let mut end = images.pixels.len();
    images.pixels.resize(end + count * PIXELS, 0);
    for index in 0..count {
        let mut labels = [0; 2];
        let labels = &mut labels[..label_bytes];
        file.read_exact(labels).map_err(Error::io("read", path))?;
        let place = |byte: usize| format!("record {index} (byte {})", index as u64 * record + byte as u64);
        if let &mut [coarse, _] = labels {
            check_label(path, "coarse label", coarse.into(), COARSE_CLASSES, || place(0))?;
        }
        let label = labels[label_bytes - 1].into();
        images.labels.push(check_label(path, "label", label, cifar.classes(), || place(label_bytes - 1))?);
        file.read_exact(&mut images.pixels[end..end + PIXELS]).map_err(Error::io("read", path))?;
        end += PIXELS;
    }
    Ok(())
}

/// Appends the images of a pickle. `path` is used in error messages.
fn read_python(path: &Path, file: &[u8], cifar: Cifar, images: &mut Images) -> Result<()> {
    let malformed = |reason: String| Error::malformed(path, reason);
    let pickle = Pickle::parse(file)
        .map_err(|damage| malformed(format!("cannot read the pickle: at byte {}: {}", damage.offset, damage.reason)))?;
    let matrix = pickle.matrix("data").map_err(malformed)?;
    if matrix.columns != PIXELS {
        return Err(malformed(format!("its images have {} bytes instead of {PIXELS}", matrix.columns)));
    }
    if matrix.rows == 0 {
        return Err(malformed("it has no images".to_string()));
    }
    let labels_of = |key: &str| {
        let labels = pickle.integers(key).map_err(malformed)?;
        match labels.len() == matrix.rows {
            true => Ok(labels),
            false => Err(malformed(format!("it has {} images but {} of {key:?}", matrix.rows, labels.len()))),
        }
    };
    let labels = match cifar {
        Cifar::Ten => labels_of("labels")?,
        Cifar::Hundred => {
            for (index, label) in labels_of("coarse_labels")?.into_iter().enumerate() {
                check_label(path, "coarse label", label, COARSE_CLASSES, || format!("record {index}"))?;
            }
            labels_of("fine_labels")?
        }
    };
    for (index, label) in labels.into_iter().enumerate() {
        let label = check_label(path, "label", label, cifar.classes(), || format!("record {index}"))?;
        images.labels.push(label);
    }
    images.pixels.extend_from_slice(&matrix.bytes);
    Ok(())
}

fn check_label(path: &Path, what: &str, label: i64, classes: usize, place: impl Fn() -> String) -> Result<u16> {
    match usize::try_from(label) {
        Ok(value) if value < classes => Ok(value as u16),
        _ => {
            let place = place();
            Err(Error::malformed(path, format!("{place} has the {what} {label}, which is not in 0..{}", classes - 1)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The labels `(coarse, fine)` and the pixels of the images in `fixtures/make.py`.
    const LABELS: [(u8, u8); 2] = [(1, 3), (19, 99)];

    fn pixels(image: usize) -> Vec<u8> {
        (0..PIXELS).map(|index| ((image * 31 + index * 7) % 251) as u8).collect()
    }

    fn binary(cifar: Cifar) -> Vec<u8> {
        let record = |(image, &(coarse, fine)): (usize, &(u8, u8))| {
            let labels = if cifar == Cifar::Ten { vec![coarse % 10] } else { vec![coarse, fine] };
            [labels, pixels(image)].concat()
        };
        LABELS.iter().enumerate().flat_map(record).collect()
    }

    fn read_bytes(format: Format, bytes: &[u8], cifar: Cifar) -> Result<Images> {
        let mut images = Images::empty(cifar.dataset());
        let path = Path::new("the-file");
        match format {
            Format::Binary => read_binary(path, bytes, bytes.len() as u64, cifar, &mut images)?,
            Format::Python => read_python(path, bytes, cifar, &mut images)?,
        }
        Ok(images)
    }

    fn python2() -> Vec<u8> {
        let mut writer = Writer::new();
        writer.strings("filenames", &["one.png".into(), "two.png".into()]);
        writer.string("batch_label", "training batch 1 of 1");
        writer.integers("fine_labels", LABELS.map(|(_, fine)| fine.into()));
        writer.integers("coarse_labels", LABELS.map(|(coarse, _)| coarse.into()));
        writer.matrix("data", PIXELS as i32, &[pixels(0), pixels(1)].concat());
        writer.finish()
    }

    const PICKLES: [&[u8]; 5] = [
        include_bytes!("fixtures/cifar100-protocol2.pickle"),
        include_bytes!("fixtures/cifar100-protocol4.pickle"),
        include_bytes!("fixtures/cifar100-protocol5.pickle"),
        include_bytes!("fixtures/cifar100-rewritten-protocol2.pickle"),
        include_bytes!("fixtures/cifar100-rewritten-protocol5.pickle"),
    ];

    #[test]
    fn old_pickle_is_refused_with_its_protocol() {
        let old: [&[u8]; 2] = [
            include_bytes!("fixtures/cifar100-protocol0.pickle"),
            include_bytes!("fixtures/cifar100-protocol1.pickle"),
        ];
        for (protocol, pickle) in old.into_iter().enumerate() {
            let error = read_bytes(Format::Python, pickle, Cifar::Hundred).unwrap_err().to_string();
            let expected = format!("it has pickle protocol {protocol}; write it again with protocol 2 to 5");
            assert!(error.ends_with(&expected), "{error}");
        }
    }

    #[test]
    fn all_versions_give_the_same_images() {
        let expected = Images { pixels: [pixels(0), pixels(1)].concat(), labels: vec![3, 99], channels: 3, side: 32 };
        assert_eq!(read_bytes(Format::Binary, &binary(Cifar::Hundred), Cifar::Hundred).unwrap(), expected);
        assert_eq!(read_bytes(Format::Python, &python2(), Cifar::Hundred).unwrap(), expected);
        for pickle in PICKLES {
            assert_eq!(read_bytes(Format::Python, pickle, Cifar::Hundred).unwrap(), expected);
        }
        let ten = read_bytes(Format::Binary, &binary(Cifar::Ten), Cifar::Ten).unwrap();
        assert_eq!(ten.labels, [1, 9]);
        assert_eq!(ten.pixels, expected.pixels);
    }

    #[test]
    fn every_truncation_is_an_error_with_the_file_and_an_offset() {
        let pickled = PICKLES.iter().map(|pickle| (Format::Python, pickle.to_vec()));
        let files = [(Format::Binary, binary(Cifar::Hundred)), (Format::Python, python2())];
        for (format, bytes) in files.into_iter().chain(pickled) {
            let record = 2 + PIXELS;
            // In the binary format, a cut at the end of a record cannot be detected.
            for length in (0..bytes.len()).filter(|length| format == Format::Python || *length != record) {
                let error = read_bytes(format, &bytes[..length], Cifar::Hundred).unwrap_err().to_string();
                assert!(error.starts_with("the-file: "), "{error}");
                assert!(length == 0 || error.contains(&format!("byte {length}")), "cut at {length}: {error}");
            }
        }
    }

    #[test]
    fn damaged_pickles_never_panic() {
        for pickle in PICKLES.map(<[u8]>::to_vec).into_iter().chain([python2()]) {
            // Change every byte of the program, and a few of the pixels.
            let places = (0..pickle.len()).filter(|&place| place < 450 || place + 200 > pickle.len());
            for place in places {
                for change in [1, 0x20, 0x80, 0xff] {
                    let mut damaged = pickle.clone();
                    damaged[place] ^= change;
                    let _ = read_bytes(Format::Python, &damaged, Cifar::Hundred);
                }
            }
        }
        let deep: Vec<u8> = [&b"\x80\x02"[..], &b"]".repeat(100_000), &b"a".repeat(99_999), b"."].concat();
        assert!(read_bytes(Format::Python, &deep, Cifar::Ten).unwrap_err().to_string().contains("a list"));
    }

    #[test]
    fn label_out_of_range_is_reported_with_its_record() {
        let mut bytes = binary(Cifar::Hundred);
        bytes[2 + PIXELS + 1] = 100;
        let error = read_bytes(Format::Binary, &bytes, Cifar::Hundred).unwrap_err().to_string();
        assert_eq!(error, "the-file: record 1 (byte 3075) has the label 100, which is not in 0..99");
        bytes[0] = 20;
        let error = read_bytes(Format::Binary, &bytes, Cifar::Hundred).unwrap_err().to_string();
        assert_eq!(error, "the-file: record 0 (byte 0) has the coarse label 20, which is not in 0..19");
        let mut writer = Writer::new();
        writer.integers("labels", [0, -1]);
        writer.matrix("data", PIXELS as i32, &[0; 2 * PIXELS]);
        let error = read_bytes(Format::Python, &writer.finish(), Cifar::Ten).unwrap_err().to_string();
        assert_eq!(error, "the-file: record 1 has the label -1, which is not in 0..9");
    }

    #[test]
    fn arrays_of_another_shape_or_type_are_refused() {
        let error_of = |labels: &[i32], columns: usize, bytes: usize| {
            let mut writer = Writer::new();
            writer.integers("labels", labels.iter().copied());
            writer.matrix("data", columns as i32, &vec![0; bytes]);
            read_bytes(Format::Python, &writer.finish(), Cifar::Ten).unwrap_err().to_string()
        };
        assert!(error_of(&[1], PIXELS, 2 * PIXELS).contains("2 images but 1 of \"labels\""));
        assert!(error_of(&[1], 1024, 1024).contains("1024 bytes instead of 3072"));
        assert!(error_of(&[1], PIXELS, PIXELS + 5).contains("1 × 3072 bytes and has 3077"));
        let mut signed = python2();
        let place = signed.windows(2).position(|bytes| bytes == b"u1").unwrap();
        signed[place] = b'i';
        let error = read_bytes(Format::Python, &signed, Cifar::Hundred).unwrap_err().to_string();
        assert!(error.contains("\"i1\""), "{error}");
        let error = read_bytes(Format::Python, &python2(), Cifar::Ten).unwrap_err().to_string();
        assert!(error.contains("has no \"labels\", only [\"filenames\", \"batch_label\", \"fine_labels\""), "{error}");
    }

    #[test]
    fn binary_version_is_preferred_and_missing_set_lists_the_places() {
        let root = tempfile::tempdir().unwrap();
        let error = load(root.path(), Cifar::Hundred).unwrap_err();
        for part in ["cifar-100-binary/train.bin", "cifar-100-python/train", "CIFAR-100"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(winsign_core::Diagnostic::from(error).help.unwrap().contains("cs.toronto.edu/~kriz/cifar.html"));
        let write = |folder: &str, names: [&str; 2], bytes: &[u8]| {
            let folder = root.path().join(folder);
            fs::create_dir(&folder).unwrap();
            names.iter().for_each(|name| fs::write(folder.join(name), bytes).unwrap());
            folder
        };
        let python = write("cifar-100-python", ["train", "test"], &python2());
        assert_eq!(find(root.path(), Cifar::Hundred).unwrap(), (python.clone(), Format::Python));
        assert_eq!(find(&python, Cifar::Hundred).unwrap().1, Format::Python);
        let whole = write("cifar-100-binary", ["train.bin", "test.bin"], &binary(Cifar::Hundred));
        assert_eq!(find(root.path(), Cifar::Hundred).unwrap(), (whole.clone(), Format::Binary));
        assert_eq!(load(&whole, Cifar::Hundred).unwrap(), load(&python, Cifar::Hundred).unwrap());
        fs::remove_file(whole.join("test.bin")).unwrap();
        let error = load(root.path(), Cifar::Hundred).unwrap_err().to_string();
        assert!(error.contains("cifar-100-binary/test.bin"), "{error}");
    }
}
