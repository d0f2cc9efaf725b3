//! Checks of data sets: their parts, their sizes, and whether every image can be read.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::Serialize;
use strum::VariantArray;

use winsign_core::settings::Dataset;

use super::cifar::Format;
use super::error::{Error, Result};
use super::pack::{self, Pack};
use super::parallel::try_map;
use super::{Entry, Images, Listing, Split, image, on_disk};

/// The result of checking one set.
#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(rename = "set")]
    pub dataset: Dataset,
    pub folder: PathBuf,
    /// The version of the set, for CIFAR.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    pub parts: Vec<Part>,
    /// All files that cannot be used.
    pub problems: Vec<Problem>,
    /// Differences from the published set that do not prevent its use.
    pub warnings: Vec<String>,
    /// Oddities of images that are handled.
    pub notes: Vec<String>,
}

/// The size of a part of a set.
#[derive(Debug, Serialize)]
pub struct Part {
    pub part: Split,
    pub images: usize,
    /// The number of images in the published set.
    pub published: usize,
    /// The number of classes that have images.
    pub classes: usize,
}

/// A file that cannot be used.
#[derive(Debug, Serialize)]
pub struct Problem {
    pub path: PathBuf,
    pub reason: String,
}

/// The progress of a check.
pub enum Progress {
    /// The given number of images of a set is going to be read.
    Begin(Dataset, usize),
    Image,
}

/// How data sets are checked.
pub struct Options<'a> {
    /// The number of threads that decode images.
    pub threads: usize,
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

/// Checks the sets in `folder`, which holds sets, or is a set or a pack; checks only the set `only` if that is given.
/// Files that cannot be used are listed in the reports. Fails if there is no set, or the folder cannot be read.
pub fn check(folder: &Path, only: Option<Dataset>, options: &Options) -> Result<Vec<Report>> {
    if folder.is_file() {
        return Ok(vec![check_pack(folder, options)?]);
    }
    let mut reports = vec![];
    let mut all_looked = vec![];
    for (_, files) in on_disk().filter(|(dataset, _)| only.is_none_or(|only| only == *dataset)) {
        match files.check(folder, options) {
            Ok(found) => reports.extend(found),
            Err(Error::Missing { looked, .. }) => all_looked.extend(looked),
            Err(error) => return Err(error),
        }
    }
    match (reports.is_empty(), only) {
        (false, _) => Ok(reports),
        (true, Some(dataset)) => Err(Error::Missing { dataset, looked: all_looked }),
        (true, None) => Err(Error::NoneFound { folder: folder.to_path_buf(), looked: all_looked }),
    }
}

/// Checks a pack of ImageNet: its index, and then every image in it.
pub(crate) fn check_pack(path: &Path, options: &Options) -> Result<Report> {
    let mut report = Report::new(Dataset::Imagenet, path.to_path_buf());
    let pack = match Pack::open(path) {
        Ok(pack) => pack,
        Err(error @ Error::Malformed { .. }) => {
            report.problems.push(Problem::from_error(error));
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    for &split in Split::VARIANTS {
        report.add_part(split, &(0..pack.count(split)).map(|index| pack.label(split, index)).collect::<Vec<_>>());
    }
    if let Some(side) = pack.short_side() {
        report.notes.push(format!("images were resized to a shorter side of at most {side} pixels"));
    }
    (options.progress)(Progress::Begin(Dataset::Imagenet, pack.count(Split::Train) + pack.count(Split::Test)));
    let problems = pack::check(&pack, options.threads, || (options.progress)(Progress::Image));
    report.problems.extend(problems.into_iter().map(Problem::from_error));
    Ok(report)
}

impl Report {
    /// Creates a report about nothing yet.
    pub(crate) fn new(dataset: Dataset, folder: PathBuf) -> Report {
        Report { dataset, folder, format: None, parts: vec![], problems: vec![], warnings: vec![], notes: vec![] }
    }

    /// Checks the parts of a data set that is read as a whole.
    pub(crate) fn with_parts(mut self, options: &Options, part: impl Fn(Split) -> Result<Images>) -> Report {
        for &split in Split::VARIANTS {
            match part(split) {
                Ok(images) => {
                    (options.progress)(Progress::Begin(self.dataset, images.len()));
                    (0..images.len()).for_each(|_| (options.progress)(Progress::Image));
                    self.add_part(split, &images.labels);
                }
                Err(error) => self.problems.push(Problem::from_error(error)),
            }
        }
        self
    }

    /// Checks a data set of image files by decoding all of them. If `side` is given, each must have that height and
    /// width.
    pub(crate) fn with_files(mut self, options: &Options, listing: Result<Listing>, side: Option<usize>) -> Report {
        match listing {
            Ok(listing) => {
                (options.progress)(Progress::Begin(self.dataset, listing.train.len() + listing.test.len()));
                for &split in Split::VARIANTS {
                    let entries = listing.part(split);
                    self.add_part(split, &entries.iter().map(|entry| entry.label).collect::<Vec<_>>());
                    self.add_images(entries, options, side);
                }
            }
            Err(error) => {
                self.problems.push(Problem::from_error(error));
                self.warnings.push("no image was checked, because the images cannot be listed".to_string());
            }
        }
        self
    }

    /// Counts images and classes, and compares the counts with the published set.
    fn add_part(&mut self, split: Split, labels: &[u16]) {
        let known = self.dataset.classes() as usize;
        let mut counts = vec![0usize; known.max(1 + labels.iter().copied().max().map_or(0, usize::from))];
        labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
        let part = Part {
            part: split,
            images: labels.len(),
            published: split.published(self.dataset),
            classes: counts.iter().filter(|&&count| count > 0).count(),
        };
        let Part { images, published, classes, .. } = part;
        if images != published {
            self.warnings.push(format!("{split} has {images} of the {published} published images"));
        }
        if classes != known {
            self.warnings.push(format!("{split} has {classes} of the {known} published classes"));
        }
        let even = published / known;
        // The training classes of ImageNet differ in size, its test classes do not.
        let is_even = self.dataset.facts().even_classes && even * known == published && images == published;
        if let Some(class) = counts.iter().position(|&count| count != even).filter(|_| is_even) {
            self.warnings.push(format!("{split} has {} images of class {class} instead of {even}", counts[class]));
        }
        self.parts.push(part);
    }

    /// Decodes all images of a part.
    fn add_images(&mut self, entries: &[Entry], options: &Options, side: Option<usize>) {
        let problems = Mutex::new(vec![]);
        let look = |(index, entry): (usize, &Entry)| {
            let oddities = look_at(&entry.path, side).unwrap_or_else(|problem| {
                problems.lock().expect("no thread panics").push((index, problem));
                vec![]
            });
            (options.progress)(Progress::Image);
            Ok::<_, std::convert::Infallible>(oddities)
        };
        let Ok(oddities) = try_map(options.threads, entries.iter().enumerate(), look);
        let mut problems = problems.into_inner().expect("no thread panics");
        problems.sort_unstable_by_key(|(index, _)| *index);
        self.problems.extend(problems.into_iter().map(|(_, problem)| problem));
        for &oddity in Oddity::VARIANTS {
            let odd: Vec<_> = (entries.iter().zip(&oddities).filter(|(_, all)| all.contains(&oddity))).collect();
            if let Some((first, _)) = odd.first() {
                let name = first.path.strip_prefix(&self.folder).unwrap_or(&first.path);
                self.notes.push(format!("{} {oddity}, such as {}", odd.len(), name.display()));
            }
        }
    }
}

impl Problem {
    fn from_error(error: Error) -> Problem {
        match error {
            Error::Malformed { path, reason } => Problem { path, reason },
            Error::Io { action, path, source } => Problem { path, reason: format!("cannot {action} it: {source}") },
            other => Problem { path: PathBuf::new(), reason: other.to_string() },
        }
    }
}

/// Oddities of image files that the loader handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::VariantArray)]
enum Oddity {
    #[strum(serialize = "gray (converted to RGB)")]
    Gray,
    #[strum(serialize = "in CMYK (converted to RGB)")]
    Cmyk,
    #[strum(serialize = "PNG, but with a name of a JPEG")]
    DisguisedPng,
    #[strum(serialize = "with an EXIF orientation (left as stored, as PIL does)")]
    Turned,
}

fn look_at(path: &Path, side: Option<usize>) -> std::result::Result<Vec<Oddity>, Problem> {
    let problem = |reason: String| Problem { path: path.to_path_buf(), reason };
    let bytes = fs::read(path).map_err(|error| problem(format!("cannot read it: {error}")))?;
    let decoded = image::decode(&bytes).map_err(|error| problem(error.to_string()))?;
    if let Some(side) = side.filter(|&side| (decoded.width, decoded.height) != (side, side)) {
        return Err(problem(format!("it has {}×{} pixels instead of {side}×{side}", decoded.width, decoded.height)));
    }
    let extension = path.extension().unwrap_or_default();
    if bytes.starts_with(b"\x89PNG") {
        return Ok(if extension.eq_ignore_ascii_case("png") { vec![] } else { vec![Oddity::DisguisedPng] });
    }
    Ok(oddities_of_jpeg(&bytes))
}

/// Reads the segments of a JPEG up to its frame header. Anything unexpected ends this without an error: decoding
/// reports it.
fn oddities_of_jpeg(bytes: &[u8]) -> Vec<Oddity> {
    let mut oddities = vec![];
    let mut rest = bytes.get(2..).unwrap_or_default();
    while let [0xff, marker, tail @ ..] = rest {
        // A marker may be preceded by fill bytes 0xff.
        if *marker == 0xff {
            rest = &rest[1..];
            continue;
        }
        let Some(segment) = tail.first_chunk().and_then(|&length| tail.get(2..usize::from(u16::from_be_bytes(length))))
        else {
            break;
        };
        match marker {
            0xe1 if is_turned(segment) => oddities.push(Oddity::Turned),
            // A frame header: precision, height, width, number of components. 0xc4, 0xc8 and 0xcc are other markers.
            0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(marker) => {
                match segment.get(5) {
                    Some(1) => oddities.push(Oddity::Gray),
                    Some(4) => oddities.push(Oddity::Cmyk),
                    _ => {}
                }
                break;
            }
            _ => {}
        }
        rest = &tail[2 + segment.len()..];
    }
    oddities
}

/// Returns true if an EXIF segment has an orientation other than upright.
fn is_turned(segment: &[u8]) -> bool {
    const ORIENTATION: u16 = 0x0112;
    let orientation = || {
        let tiff = segment.strip_prefix(b"Exif\0\0")?;
        let little = tiff.starts_with(b"II");
        let short = |at: usize| {
            let bytes = *tiff.get(at..)?.first_chunk()?;
            Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
        };
        let bytes = *tiff.get(4..)?.first_chunk()?;
        let directory = if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) } as usize;
        let entries = (0..usize::from(short(directory)?)).map(|entry| directory + 2 + 12 * entry);
        entries.into_iter().find(|&entry| short(entry) == Some(ORIENTATION)).and_then(|entry| short(entry + 8))
    };
    orientation().is_some_and(|orientation| (2..=8).contains(&orientation))
}

#[cfg(test)]
mod tests {
    use super::super::synth::{self, Request};
    use super::super::{imagenet, tiny_imagenet};
    use super::*;

    const OPTIONS: Options = Options { threads: 2, progress: &|_| () };

    fn synthesized(like: Dataset) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let request = Request { like, train: 20, test: 10, classes: Some(2), seed: 1, format: None, layout: None };
        synth::write(root.path(), &request, &|| ()).unwrap();
        root
    }

    fn only_report(folder: &Path) -> Report {
        let mut reports = check(folder, None, &OPTIONS).unwrap();
        assert_eq!(reports.len(), 1, "{reports:?}");
        reports.remove(0)
    }

    #[test]
    fn readable_set_has_counts_warnings_and_notes_but_no_problems() {
        for (dataset, _) in on_disk() {
            let root = synthesized(dataset);
            let report = only_report(root.path());
            assert_eq!(report.dataset, dataset);
            assert_eq!(report.problems.len(), 0, "{report:?}");
            let counts: Vec<_> = report.parts.iter().map(|part| (part.images, part.published, part.classes)).collect();
            let [train, test] = dataset.facts().images;
            assert_eq!(counts, [(20, train, 2), (10, test, 2)]);
            assert_eq!(report.warnings[0], format!("train has 20 of the {train} published images"));
            // The folder of the set is accepted too.
            assert_eq!(only_report(&report.folder).parts.len(), 2);
            assert!(check(root.path(), Some(dataset), &OPTIONS).is_ok());
        }
    }

    #[test]
    fn odd_images_are_counted() {
        let root = synthesized(Dataset::Imagenet);
        let base = root.path().join("imagenet");
        let first = imagenet::list(root.path()).unwrap().train[0].path.clone();
        let bytes = fs::read(&first).unwrap();
        let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let segment = [&[0xff, 0xe1, 0, exif.len() as u8 + 2][..], exif].concat();
        fs::write(&first, [&bytes[..2], &segment, &bytes[2..]].concat()).unwrap();
        let notes = only_report(&base).notes;
        let kinds = ["1 gray", "1 in CMYK", "1 PNG, but with a name of a JPEG", "1 with an EXIF orientation"];
        assert!(kinds.iter().all(|kind| notes.iter().any(|note| note.starts_with(kind))), "{notes:?}");
    }

    #[test]
    fn every_unreadable_image_is_reported() {
        let root = synthesized(Dataset::TinyImagenet);
        let images = tiny_imagenet::list(root.path()).unwrap().train;
        let bytes = fs::read(&images[2].path).unwrap();
        fs::write(&images[2].path, &bytes[..bytes.len() / 2]).unwrap();
        fs::write(&images[5].path, "not an image").unwrap();
        fs::write(&images[6].path, "").unwrap();
        let problems = only_report(root.path()).problems;
        let named: Vec<_> = problems.iter().map(|problem| problem.path.clone()).collect();
        assert_eq!(named, [2, 5, 6].map(|index: usize| images[index].path.clone()));
        assert!(problems[0].reason.contains("cut off"), "{problems:?}");
    }

    #[test]
    fn malformed_file_is_a_problem_and_the_other_part_is_still_checked() {
        let root = synthesized(Dataset::Cifar100);
        let path = root.path().join("cifar-100-binary/train.bin");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..5_000]).unwrap();
        let report = only_report(root.path());
        assert_eq!((report.problems[0].path.clone(), report.parts.len()), (path, 1));
        assert!(report.problems[0].reason.contains("ends at byte 5000"), "{report:?}");
    }

    #[test]
    fn folder_without_sets_lists_the_places() {
        let root = tempfile::tempdir().unwrap();
        let error = check(root.path(), None, &OPTIONS).unwrap_err().to_string();
        for part in ["cifar-10-batches-bin", "cifar-100-python", "tiny-imagenet-200", "imagenet/train"] {
            assert!(error.contains(part), "{error}");
        }
        let error = check(root.path(), Some(Dataset::Imagenet), &OPTIONS).unwrap_err();
        assert!(matches!(error, Error::Missing { dataset: Dataset::Imagenet, .. }), "{error}");
    }
}
