//! Lists of the images of ImageNet (ILSVRC 2012, classification) with their labels, in all common layouts.
//!
//! Training images are in one folder per class, named by its WordNet id. As published, all validation images are in one
//! folder; their classes are in the devkit (`ILSVRC2012_devkit_t12/data/`), or in the file `LOC_val_solution.csv` of
//! the Kaggle edition. A common variant has them in class folders.

use std::fs;
use std::path::{Path, PathBuf};

use winsign_core::random::Source;
use winsign_core::settings::Dataset;

use super::error::{Error, Result};
use super::files::{ClassList, is_image, read_folder};
use super::parallel::try_map;
use super::synth::{self, Kind, Layout, Request, create, write_file};
use super::{Contents, Entry, Files, Listing, Split, check, stream, tiny_imagenet};

/// The files of ImageNet.
pub struct Imagenet;

impl Files for Imagenet {
    /// Opens a pack, if `root` is one or contains one, or else folders.
    fn open(&self, root: &Path, _: usize) -> Result<Contents> {
        let source = stream::open(root)?;
        let (classes, known) = (source.classes().len(), Dataset::Imagenet.classes() as usize);
        if classes > known {
            return Err(Error::malformed(root, format!("it has {classes} classes, ImageNet has {known}")));
        }
        for split in [Split::Train, Split::Test] {
            if source.count(split) == 0 {
                return Err(Error::malformed(root, format!("its {split} part has no images")));
            }
        }
        Ok(Contents::Streamed(source))
    }

    fn check(&self, root: &Path, options: &check::Options) -> Result<Vec<check::Report>> {
        let mut reports = vec![];
        if let Some(pack) = stream::find_pack(root) {
            reports.push(check::check_pack(&pack, options)?);
        }
        match find(root) {
            Ok(base) => {
                let report = check::Report::new(Dataset::Imagenet, base.clone());
                reports.push(report.with_files(options, list(&base), None));
            }
            Err(Error::Missing { .. }) if !reports.is_empty() => {}
            Err(error) => return Err(error),
        }
        Ok(reports)
    }

    fn folder(&self, _: &Request) -> &'static str {
        FOLDER
    }

    fn synthesize(&self, folder: &Path, request: &Request, progress: &(dyn Fn() + Sync)) -> Result<()> {
        let wnids = first_wnids(request.classes());
        let layout = request.layout.unwrap_or(Layout::Folders);
        let base = if layout == Layout::Kaggle { folder.join(KAGGLE) } else { folder.to_path_buf() };
        // As in the published set, images are numbered from 1.
        let val_name = |index: usize| format!("ILSVRC2012_val_{:08}", index + 1);
        let path = |split: Split, index: usize, label: usize| match (split, layout) {
            (Split::Train, _) => base.join(format!("train/{0}/{0}_{index}.JPEG", wnids[label])),
            (Split::Test, Layout::Folders) => base.join(format!("val/{}/{}.JPEG", wnids[label], val_name(index))),
            (Split::Test, _) => base.join(format!("val/{}.JPEG", val_name(index))),
        };
        let size = |split: Split, index: usize| {
            const USUAL: [(usize, usize); 4] = [(500, 375), (375, 500), (500, 333), (500, 375)];
            let mut stream = Source::new(request.seed, &format!("synth {split} size"), 0).stream(index as u64);
            match stream.below(10) {
                0..8 => USUAL[stream.below(4) as usize],
                _ => (200 + stream.below(400) as usize, 200 + stream.below(400) as usize),
            }
        };
        // The published set has gray images, a few in CMYK, and one PNG with the name of a JPEG.
        let kind = |split: Split, index: usize| match (split, index) {
            (Split::Train, 3) => Kind::Cmyk,
            (Split::Train, 7) => Kind::Png,
            (_, index) if index % 50 == 9 => Kind::Gray,
            _ => Kind::Color,
        };
        synth::write_images(request, &path, &size, &kind, progress)?;
        let labels = request.labels(Split::Test);
        match layout {
            Layout::Devkit => {
                let published = published_wnids();
                let number =
                    |label: usize| 1 + published.iter().position(|&wnid| wnid == wnids[label]).expect("it is one");
                let devkit = folder.join(DEVKIT);
                create(&devkit)?;
                let lines: String = labels.into_iter().map(|label| format!("{}\n", number(label))).collect();
                write_file(&devkit.join(DEVKIT_LABELS), lines.as_bytes())
            }
            Layout::Kaggle => {
                let line =
                    |(index, label): (usize, usize)| format!("{},{} 1 1 99 99 \n", val_name(index), wnids[label]);
                let mut lines: Vec<_> = labels.into_iter().enumerate().map(line).collect();
                // As in the Kaggle edition, lines are not sorted.
                lines.reverse();
                let text = format!("{}\n{}", KAGGLE_HEADER.join(","), lines.concat());
                write_file(&folder.join(KAGGLE_LABELS), text.as_bytes())
            }
            _ => Ok(()),
        }
    }

    fn layouts(&self) -> &'static [Layout] {
        &[Layout::Folders, Layout::Devkit, Layout::Kaggle]
    }
}

/// Lists the set at `root`: labels are indices into the sorted names of the training folders, and files are sorted by
/// class and name. Directories are read, but no images.
pub fn list(root: &Path) -> Result<Listing> {
    let base = find(root)?;
    let train = base.join("train");
    let classes = classes_of(&train, Dataset::Imagenet)?;
    let test = match ValLayout::find(&base)? {
        ValLayout::Folders => list_class_folders(&base.join("val"), &classes)?,
        ValLayout::Flat(names) => list_flat(&base, names, &classes)?,
    };
    Ok(Listing { train: list_class_folders(&train, &classes)?, classes, test })
}

/// Returns the folder that holds `train` and `val`.
fn find(root: &Path) -> Result<PathBuf> {
    let mut looked = vec![];
    for base in [root.join(FOLDER), root.to_path_buf()] {
        for place in [base.clone(), base.join(KAGGLE)] {
            // Tiny-ImageNet has a similar layout.
            let tiny = place.ends_with(tiny_imagenet::FOLDER) || place.join(tiny_imagenet::CLASSES).exists();
            if place.join("train").is_dir() && place.join("val").is_dir() && !tiny {
                return Ok(place);
            }
            looked.push(format!("{}/train/WNID/*.JPEG and val/ beside it", place.display()));
        }
    }
    looked.push(format!("{} as a pack", root.join("imagenet.pack").display()));
    Err(Error::Missing { dataset: Dataset::Imagenet, looked })
}

/// The usual name of the folder of the set.
const FOLDER: &str = "imagenet";
/// The folder of the images in the Kaggle edition.
const KAGGLE: &str = "ILSVRC/Data/CLS-LOC";
/// The file with the labels of the validation images in the Kaggle edition.
const KAGGLE_LABELS: &str = "LOC_val_solution.csv";
/// The columns of [`KAGGLE_LABELS`].
const KAGGLE_HEADER: [&str; 2] = ["ImageId", "PredictionString"];
/// The folder of the devkit.
const DEVKIT: &str = "ILSVRC2012_devkit_t12/data";
/// The file of the devkit with the class numbers of the validation images.
const DEVKIT_LABELS: &str = "ILSVRC2012_validation_ground_truth.txt";

/// The layout of the validation images.
enum ValLayout {
    /// The images are in class folders.
    Folders,
    /// The images are in one folder; their names, sorted.
    Flat(Vec<String>),
}

impl ValLayout {
    fn find(base: &Path) -> Result<ValLayout> {
        let val = base.join("val");
        let mut names = read_folder(&val)?;
        names.files.retain(|name| is_image(name));
        match (names.folders.is_empty(), names.files.is_empty()) {
            (false, true) => Ok(ValLayout::Folders),
            (true, false) => Ok(ValLayout::Flat(names.files)),
            (true, true) => Err(Error::malformed(&val, "it has neither images nor class folders")),
            (false, false) => Err(Error::malformed(
                &val,
                format!("it has both class folders ({}) and images beside them ({})", names.folders[0], names.files[0]),
            )),
        }
    }
}

/// Returns the names of the class folders in a training folder, sorted. Fails if there are none, or more than the set
/// has classes.
pub(crate) fn classes_of(train: &Path, dataset: Dataset) -> Result<Vec<String>> {
    let classes = read_folder(train)?.folders;
    let known = dataset.classes() as usize;
    match classes.len() {
        0 => Err(Error::malformed(train, "it has no class folders")),
        count if count > known => {
            let reason = format!("it has {count} class folders, {} has {known} classes", dataset.facts().title);
            Err(Error::malformed(train, reason))
        }
        _ => Ok(classes),
    }
}

/// Lists the images of all class folders in `folder`, sorted by class and name. Images may also be one folder deeper,
/// in `CLASS/images/`. Folders are read on several threads, because on a network file system most of the time is
/// waiting.
pub(crate) fn list_class_folders(folder: &Path, classes: &[String]) -> Result<Vec<Entry>> {
    let mut present = read_folder(folder)?.folders;
    // An empty folder `images` remains if the validation images of Tiny-ImageNet were moved into class folders.
    present.retain(|name| name != "images" || read_folder(&folder.join(name)).is_ok_and(|rest| !rest.files.is_empty()));
    let list = |name: &String| match classes.binary_search(name) {
        Ok(label) => list_class(&folder.join(name), label as u16),
        Err(_) => {
            let reason = "the name of this class folder is not one of the training folders";
            Err(Error::malformed(&folder.join(name), reason))
        }
    };
    Ok(try_map(LISTING_THREADS, present.iter(), list)?.into_iter().flatten().collect())
}

const LISTING_THREADS: usize = 16;

fn list_class(folder: &Path, label: u16) -> Result<Vec<Entry>> {
    let mut folder = folder.to_path_buf();
    let mut names = read_folder(&folder)?;
    names.files.retain(|name| is_image(name));
    if names.files.is_empty() && names.folders == ["images"] {
        folder.push("images");
        names = read_folder(&folder)?;
        names.files.retain(|name| is_image(name));
    }
    if names.files.is_empty() {
        return Err(Error::malformed(&folder, "this class folder has no images (.JPEG, .jpg or .png)"));
    }
    Ok(names.files.iter().map(|name| Entry { path: folder.join(name), label }).collect())
}

/// Lists the images `names` of the folder `val`, with labels from the mapping that exists.
fn list_flat(base: &Path, names: Vec<String>, classes: &[String]) -> Result<Vec<Entry>> {
    let (wnids, mapping) = find_mapping(base)?;
    let val = base.join("val");
    let entry = |name: String| {
        let path = val.join(&name);
        let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
        let Some(wnid) = wnids.wnid_of(stem) else {
            return Err(Error::malformed(&path, format!("{} has no label for this image", mapping.display())));
        };
        match classes.binary_search_by(|class| class.as_str().cmp(wnid)) {
            Ok(label) => Ok(Entry { path, label: label as u16 }),
            Err(_) => Err(Error::malformed(
                &mapping,
                format!("{name} has the class {wnid}, which is not one of the training folders"),
            )),
        }
    };
    names.into_iter().map(entry).collect()
}

/// The WordNet ids of validation images.
enum Mapping {
    /// The ids in the order of the numbers in the names of the images, which start from 1.
    Devkit(Vec<String>),
    /// The ids by the name of the image without its extension.
    Kaggle(ClassList),
}

impl Mapping {
    fn wnid_of(&self, stem: &str) -> Option<&str> {
        match self {
            Mapping::Devkit(wnids) => {
                let number: usize = stem.rsplit('_').next()?.parse().ok()?;
                wnids.get(number.checked_sub(1)?).map(String::as_str)
            }
            Mapping::Kaggle(list) => list.class_of(stem),
        }
    }
}

/// Finds the mapping beside the images or above them, because archives are unpacked in various places. Returns its path
/// too.
fn find_mapping(base: &Path) -> Result<(Mapping, PathBuf)> {
    let absolute = std::path::absolute(base).map_err(Error::io("find", base))?;
    let mut looked = vec![];
    // The Kaggle edition has the file three levels above `ILSVRC/Data/CLS-LOC`.
    for place in absolute.ancestors().take(4) {
        let devkit = place.join(DEVKIT);
        if devkit.join(DEVKIT_LABELS).is_file() {
            return Ok((read_devkit(&devkit)?, devkit.join(DEVKIT_LABELS)));
        }
        let kaggle = place.join(KAGGLE_LABELS);
        if kaggle.is_file() {
            return Ok((read_kaggle(&kaggle)?, kaggle));
        }
        looked.push(format!("{DEVKIT}/{DEVKIT_LABELS} or {KAGGLE_LABELS} in {}", place.display()));
    }
    Err(Error::malformed(
        &base.join("val"),
        format!(
            "its images are in one folder, and no file gives their classes; looked for\n  {}\nThe devkit is published \
             at {}",
            looked.join("\n  "),
            Dataset::Imagenet.facts().published_at.unwrap_or_default()
        ),
    ))
}

/// Returns the WordNet ids of the 1,000 classes in the order of the publisher, which differs from that of labels. The
/// devkit has the same list, and numbers the classes from 1.
fn published_wnids() -> Vec<&'static str> {
    include_str!("ilsvrc2012.txt").split_whitespace().collect()
}

/// Returns the WordNet ids of the first `count` classes in the order of labels.
pub(crate) fn first_wnids(count: usize) -> Vec<&'static str> {
    let mut wnids = published_wnids();
    wnids.sort_unstable();
    wnids.truncate(count);
    wnids
}

/// Reads the devkit: `ILSVRC2012_validation_ground_truth.txt` has the class number of one image per line.
fn read_devkit(devkit: &Path) -> Result<Mapping> {
    let wnids = published_wnids();
    let path = devkit.join(DEVKIT_LABELS);
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let wnid = |(index, line): (usize, &str)| {
        let number: usize = line.trim().parse().map_err(|_| {
            Error::malformed(&path, format!("line {} is {:?}, not the number of a class", index + 1, shortened(line)))
        })?;
        let wnid = number.checked_sub(1).and_then(|place| wnids.get(place));
        wnid.map(ToString::to_string).ok_or_else(|| {
            Error::malformed(&path, format!("line {}: there is no class {number}: they are 1 to 1000", index + 1))
        })
    };
    Ok(Mapping::Devkit(text.lines().enumerate().map(wnid).collect::<Result<_>>()?))
}

/// Reads a table with the columns `ImageId,PredictionString`; the latter starts with the WordNet id, followed by boxes.
fn read_kaggle(path: &Path) -> Result<Mapping> {
    let malformed = |error: csv::Error| Error::malformed(path, error.to_string());
    let mut reader = csv::Reader::from_path(path).map_err(malformed)?;
    if reader.headers().map_err(malformed)?.iter().ne(KAGGLE_HEADER) {
        let reason = format!("its first line is not \"{}\"", KAGGLE_HEADER.join(","));
        return Err(Error::malformed(path, reason));
    }
    let mut list = ClassList::new(path);
    for record in reader.records() {
        let record = record.map_err(malformed)?;
        let line = record.position().map_or(0, |position| position.line());
        let Some(wnid) = record[1].split_whitespace().next() else {
            return Err(Error::malformed(path, format!("line {line} names no class")));
        };
        list.add(line, &record[0], wnid)?;
    }
    Ok(Mapping::Kaggle(list))
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates empty files and their folders.
    fn touch(root: &Path, names: &[&str]) {
        for name in names {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
    }

    /// Creates training images of two classes, not in the order of their names.
    fn train(base: &Path) {
        touch(
            base,
            &["train/n02/b.JPEG", "train/n02/a.jpg", "train/n01/c.PNG", "train/n01/notes.txt", "train/.x/a.JPEG"],
        );
    }

    fn relative(root: &Path, entries: &[Entry]) -> Vec<(String, u16)> {
        let name = |entry: &Entry| entry.path.strip_prefix(root).unwrap().to_str().unwrap().to_string();
        entries.iter().map(|entry| (name(entry), entry.label)).collect()
    }

    fn labelled(expected: &[(&str, u16)]) -> Vec<(String, u16)> {
        expected.iter().map(|&(name, label)| (name.to_string(), label)).collect()
    }

    fn message(root: &Path) -> String {
        list(root).unwrap_err().to_string()
    }

    #[test]
    fn class_folders_are_listed_by_class_and_name() {
        let root = tempfile::tempdir().unwrap();
        train(root.path());
        touch(root.path(), &["val/n02/v2.JPEG", "val/n01/images/v1.JPEG"]);
        let listing = list(root.path()).unwrap();
        assert_eq!(listing.classes, ["n01", "n02"]);
        let expected = [("train/n01/c.PNG", 0), ("train/n02/a.jpg", 1), ("train/n02/b.JPEG", 1)];
        assert_eq!(relative(root.path(), &listing.train), labelled(&expected));
        let expected = [("val/n01/images/v1.JPEG", 0), ("val/n02/v2.JPEG", 1)];
        assert_eq!(relative(root.path(), &listing.test), labelled(&expected));
    }

    #[test]
    fn the_devkit_labels_flat_images_by_their_numbers() {
        // The devkit may be inside the folder of the set, or beside it.
        for (base, devkit) in [("imagenet", "imagenet"), ("imagenet", ".")] {
            let root = tempfile::tempdir().unwrap();
            let base = root.path().join(base);
            let images = ["train/n02100735/a.JPEG", "train/n02119789/b.JPEG"];
            touch(&base, &images);
            touch(&base, &["val/ILSVRC2012_val_00000001.JPEG", "val/ILSVRC2012_val_00000003.JPEG"]);
            assert!(message(root.path()).contains(DEVKIT_LABELS), "{}", message(root.path()));
            let devkit = root.path().join(devkit).join(DEVKIT);
            fs::create_dir_all(&devkit).unwrap();
            let labels = |text: &str| fs::write(devkit.join(DEVKIT_LABELS), text).unwrap();
            // Class 1 is n02119789, class 2 is n02100735.
            labels("2\n2\n1\n");
            for root in [root.path(), &base] {
                let names: Vec<_> = list(root).unwrap().test.into_iter().map(|entry| entry.label).collect();
                assert_eq!(names, [0, 1]);
            }
            labels("2\n2\n");
            assert!(message(root.path()).contains("ILSVRC2012_val_00000003.JPEG: "), "{}", message(root.path()));
            labels("2\n2\n3\n");
            assert!(message(root.path()).contains("n02110185, which is not one of"), "{}", message(root.path()));
            labels("2\n1001\n1\n");
            assert!(message(root.path()).contains("line 2: there is no class 1001"), "{}", message(root.path()));
            labels("2\nx\n1\n");
            assert!(message(root.path()).contains("line 2 is \"x\""), "{}", message(root.path()));
        }
    }

    /// The classes and the numbers of the first validation images, as two other programs list them.
    #[test]
    fn list_of_classes_is_that_of_the_devkit() {
        let wnids = published_wnids();
        assert_eq!(wnids.iter().collect::<std::collections::HashSet<_>>().len(), 1_000);
        let validation = [
            (490, "n01751748"),
            (361, "n09193705"),
            (171, "n02105855"),
            (822, "n04263257"),
            (297, "n03125729"),
            (482, "n01735189"),
            (13, "n02346627"),
            (704, "n02776631"),
        ];
        assert!(validation.iter().all(|&(number, wnid)| wnids[number - 1] == wnid));
    }

    #[test]
    fn kaggle_edition_is_read_where_it_is_unpacked() {
        let root = tempfile::tempdir().unwrap();
        let base = root.path().join(KAGGLE);
        train(&base);
        touch(&base, &["val/ILSVRC2012_val_00000001.JPEG", "val/ILSVRC2012_val_00000002.JPEG"]);
        let labels = |text: &str| fs::write(root.path().join(KAGGLE_LABELS), text).unwrap();
        let header = "ImageId,PredictionString\n";
        labels(&format!(
            "{header}ILSVRC2012_val_00000002,n01 1 2 3 4 n01 5 6 7 8 \nILSVRC2012_val_00000001,n02 85 1 499 272 \n"
        ));
        for root in [root.path(), &base] {
            let labels: Vec<_> = list(root).unwrap().test.into_iter().map(|entry| entry.label).collect();
            assert_eq!(labels, [1, 0]);
        }
        labels(&format!("{header}ILSVRC2012_val_00000001,n02\n"));
        assert!(message(root.path()).contains("ILSVRC2012_val_00000002.JPEG: "), "{}", message(root.path()));
        labels(&format!("{header}ILSVRC2012_val_00000001,n03\n"));
        assert!(message(root.path()).contains("the class n03"), "{}", message(root.path()));
        labels(&format!("{header}ILSVRC2012_val_00000001, \n"));
        assert!(message(root.path()).contains("line 2 names no class"), "{}", message(root.path()));
        labels(&format!("{header}ILSVRC2012_val_00000001,n01\nILSVRC2012_val_00000001,n02 1 2 3 4\n"));
        let twice = "line 3: ILSVRC2012_val_00000001 is of the class n01 in line 2, and of n02 here";
        assert!(message(root.path()).ends_with(twice), "{}", message(root.path()));
        labels("a,b\n");
        assert!(message(root.path()).contains("ImageId"), "{}", message(root.path()));
    }

    #[test]
    fn invalid_layouts_are_reported() {
        let root = tempfile::tempdir().unwrap();
        let error = winsign_core::Diagnostic::from(list(root.path()).unwrap_err()).to_string();
        assert!(error.contains(KAGGLE) && error.contains("image-net.org"), "{error}");
        train(root.path());
        fs::create_dir(root.path().join("val")).unwrap();
        assert!(message(root.path()).contains("neither images nor class folders"));
        touch(root.path(), &["val/n03/a.JPEG"]);
        assert!(message(root.path()).contains("val/n03: "), "{}", message(root.path()));
        fs::rename(root.path().join("val/n03"), root.path().join("val/n01")).unwrap();
        assert_eq!(list(root.path()).unwrap().test.len(), 1);
        fs::create_dir(root.path().join("train/n00")).unwrap();
        assert!(
            message(root.path()).contains("train/n00: this class folder has no images"),
            "{}",
            message(root.path())
        );
        touch(root.path(), &["val/b.JPEG"]);
        assert!(message(root.path()).contains("both class folders (n01) and images"), "{}", message(root.path()));
    }
}
