//! Tiny-ImageNet-200: 64×64 images of 200 classes, in the layout of its publisher or in class folders.
//!
//! As published, training images are in `train/WNID/images/`, and all validation images are in `val/images/`, with
//! their classes in `val/val_annotations.txt`. A common variant has the latter in class folders, with or without a
//! folder `images` in each. The test images of the publisher have no labels; the validation images are the test part
//! here.

use std::fs;
use std::path::{Path, PathBuf};

use winsign_core::settings::Dataset;

use super::error::{Error, Result};
use super::files::{ClassList, is_image, read_folder};
use super::imagenet::{classes_of, first_wnids, list_class_folders};
use super::parallel::try_map;
use super::synth::{self, Kind, Layout, Request, write_file};
use super::{Contents, Entry, Files, Images, Listing, SmallSet, Split, check, image};

/// The height of an image in pixels, which equals its width.
const SIDE: usize = 64;
/// The name of the folder in the archive of the publisher.
pub(crate) const FOLDER: &str = "tiny-imagenet-200";
/// The name of the file with the WordNet ids of the classes, one per line.
pub(crate) const CLASSES: &str = "wnids.txt";
/// The name of the file with the classes of the validation images.
const ANNOTATIONS: &str = "val_annotations.txt";

/// The files of Tiny-ImageNet.
pub struct TinyImagenet;

impl Files for TinyImagenet {
    fn open(&self, root: &Path, threads: usize) -> Result<Contents> {
        Ok(Contents::InMemory(load(root, threads)?))
    }

    fn probe(&self, root: &Path) -> Result<()> {
        list(root).map(drop)
    }

    fn check(&self, root: &Path, options: &check::Options) -> Result<Vec<check::Report>> {
        let base = find(root)?;
        Ok(vec![check::Report::new(Dataset::TinyImagenet, base.clone()).with_files(options, list(&base), Some(SIDE))])
    }

    fn folder(&self, _: &Request) -> &'static str {
        FOLDER
    }

    fn synthesize(&self, folder: &Path, request: &Request, progress: &(dyn Fn() + Sync)) -> Result<()> {
        let wnids = first_wnids(request.classes());
        let per_class = request.layout == Some(Layout::PerClass);
        let path = |split: Split, index: usize, label: usize| match (split, per_class) {
            (Split::Train, _) => folder.join(format!("train/{0}/images/{0}_{index}.JPEG", wnids[label])),
            (Split::Test, true) => folder.join(format!("val/{}/val_{index}.JPEG", wnids[label])),
            (Split::Test, false) => folder.join(format!("val/images/val_{index}.JPEG")),
        };
        let kind = |_: Split, index: usize| if index % 50 == 9 { Kind::Gray } else { Kind::Color };
        synth::write_images(request, &path, &|_, _| (SIDE, SIDE), &kind, progress)?;
        // As in the published set, the list is not sorted.
        let listed: Vec<_> = wnids.iter().rev().map(|wnid| format!("{wnid}\n")).collect();
        write_file(&folder.join(CLASSES), listed.concat().as_bytes())?;
        if !per_class {
            let line = |(index, label): (usize, usize)| format!("val_{index}.JPEG\t{}\t0\t0\t63\t63\n", wnids[label]);
            let lines: String = request.labels(Split::Test).into_iter().enumerate().map(line).collect();
            write_file(&folder.join("val").join(ANNOTATIONS), lines.as_bytes())?;
        }
        Ok(())
    }

    fn layouts(&self) -> &'static [Layout] {
        &[Layout::Original, Layout::PerClass]
    }
}

/// Loads the set at `root`, decoding on `threads` threads. Labels and order are those of [`list`].
pub fn load(root: &Path, threads: usize) -> Result<SmallSet> {
    let listing = list(root)?;
    SmallSet::read(|split| decode_all(listing.part(split), threads))
}

/// Lists the files of the set at `root` with their labels: indices into the sorted WordNet ids, as in torchvision's
/// `ImageFolder`. Files are sorted by class and name, but validation images in one folder by name only.
pub(crate) fn list(root: &Path) -> Result<Listing> {
    let base = find(root)?;
    let (train, val) = (base.join("train"), base.join("val"));
    let classes = classes_of(&train, Dataset::TinyImagenet)?;
    compare_with_wnids(&base.join(CLASSES), &classes)?;
    let test = match flat_images(&val)? {
        Some(names) => list_annotated(&val, names, &classes)?,
        None => list_class_folders(&val, &classes)?,
    };
    Ok(Listing { train: list_class_folders(&train, &classes)?, classes, test })
}

/// Returns the folder that holds `train` and `val`.
fn find(root: &Path) -> Result<PathBuf> {
    let mut looked = vec![];
    for place in [root.join(FOLDER), root.to_path_buf()] {
        // If the folder of the set has another name, only its list of classes distinguishes it from ImageNet.
        let named = place.file_name().is_some_and(|name| name == FOLDER);
        if place.join("train").is_dir() && (named || place.join(CLASSES).is_file()) {
            return Ok(place);
        }
        looked.push(format!("{0}/train/WNID/images/*.JPEG, {0}/val/ and {0}/{CLASSES}", place.display()));
    }
    Err(Error::Missing { dataset: Dataset::TinyImagenet, looked })
}

/// Checks that the training folders are those of the list of the publisher, if it exists.
fn compare_with_wnids(path: &Path, classes: &[String]) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let mut listed: Vec<&str> = text.split_whitespace().collect();
    listed.sort_unstable();
    listed.dedup();
    let has = |wnid: &str| classes.binary_search_by(|class| class.as_str().cmp(wnid)).is_ok();
    if let Some(wnid) = listed.iter().find(|wnid| !has(wnid)) {
        return Err(Error::malformed(path, format!("the class {wnid} has no folder in train")));
    }
    if let Some(class) = classes.iter().find(|class| listed.binary_search(&class.as_str()).is_err()) {
        return Err(Error::malformed(path, format!("train has a folder {class}, which is not a class of this list")));
    }
    Ok(())
}

/// Returns the names of the images in `val/images`, if there are any.
fn flat_images(val: &Path) -> Result<Option<Vec<String>>> {
    let folder = val.join("images");
    if !folder.is_dir() {
        return Ok(None);
    }
    let mut names = read_folder(&folder)?.files;
    names.retain(|name| is_image(name));
    Ok((!names.is_empty()).then_some(names))
}

/// Lists the validation images `names` with the labels in the annotations, whose columns are separated by tabs: file
/// name, WordNet id, and a box.
fn list_annotated(val: &Path, names: Vec<String>, classes: &[String]) -> Result<Vec<Entry>> {
    let path = val.join(ANNOTATIONS);
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let label_of = |class: &str| classes.binary_search_by(|known| known.as_str().cmp(class));
    let mut list = ClassList::new(&path);
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let malformed = |reason: String| Error::malformed(&path, format!("line {number}: {reason}"));
        let mut columns = line.split('\t').map(str::trim);
        let (Some(name), Some(wnid)) = (columns.next(), columns.next()) else {
            return Err(malformed("it is not a file name and a class, separated by a tab".to_string()));
        };
        if label_of(wnid).is_err() {
            return Err(malformed(format!("{name} has the class {wnid}, which has no folder in train")));
        }
        list.add(number, name, wnid)?;
    }
    let entry = |name: String| {
        let image = val.join("images").join(&name);
        match list.class_of(&name).map(label_of) {
            Some(Ok(label)) => Ok(Entry { path: image, label: label as u16 }),
            _ => Err(Error::malformed(&image, format!("{ANNOTATIONS} has no label for this image"))),
        }
    };
    names.into_iter().map(entry).collect()
}

/// Decodes images of 64×64 pixels; the error is that of the first unreadable one.
fn decode_all(entries: &[Entry], threads: usize) -> Result<Images> {
    const BYTES: usize = 3 * SIDE * SIDE;
    let mut pixels = vec![0; entries.len() * BYTES];
    let tasks = entries.iter().zip(pixels.chunks_exact_mut(BYTES));
    try_map(threads, tasks, |(entry, into)| decode(&entry.path, into))?;
    let labels = entries.iter().map(|entry| entry.label).collect();
    Ok(Images { pixels, labels, ..Images::empty(Dataset::TinyImagenet) })
}

/// Decodes one image into bytes in the order (channel, row, column).
fn decode(path: &Path, into: &mut [u8]) -> Result<()> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let image = image::decode(&bytes).map_err(|error| Error::malformed(path, error.to_string()))?;
    if (image.width, image.height) != (SIDE, SIDE) {
        let reason = format!("it has {}×{} pixels instead of {SIDE}×{SIDE}", image.width, image.height);
        return Err(Error::malformed(path, reason));
    }
    for (pixel, values) in image.pixels.chunks_exact(3).enumerate() {
        for (channel, &value) in values.iter().enumerate() {
            into[channel * SIDE * SIDE + pixel] = value;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a gray image, which its value identifies.
    fn write(path: PathBuf, value: u8) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let image = image::Rgb { width: SIDE, height: SIDE, pixels: vec![value; 3 * SIDE * SIDE] };
        fs::write(path, image::encode_jpeg(&image, 95).unwrap()).unwrap();
    }

    /// Creates a set in the layout of the publisher, whose list of classes is not sorted.
    fn original() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let base = root.path().join(FOLDER);
        for (wnid, image, value) in [("n02", 0, 200), ("n01", 0, 100), ("n01", 1, 110)] {
            write(base.join(format!("train/{wnid}/images/{wnid}_{image}.JPEG")), value);
            fs::write(base.join(format!("train/{wnid}/{wnid}_boxes.txt")), "").unwrap();
        }
        write(base.join("val/images/val_0.JPEG"), 50);
        write(base.join("val/images/val_1.JPEG"), 60);
        fs::write(base.join(CLASSES), "n02\nn01\n").unwrap();
        fs::write(base.join("val").join(ANNOTATIONS), "val_1.JPEG\tn01\t0\t0\t9\t9\nval_0.JPEG\tn02\t0\t0\t9\t9\n")
            .unwrap();
        root
    }

    fn brightness(images: &Images) -> Vec<u8> {
        (0..images.len()).map(|image| images.pixels_of(image)[0]).collect()
    }

    #[test]
    fn labels_are_indices_among_the_sorted_classes_and_files_are_in_order() {
        let root = original();
        let set = load(root.path(), 2).unwrap();
        assert_eq!((set.train.labels.as_slice(), brightness(&set.train)), ([0, 0, 1].as_slice(), vec![100, 110, 200]));
        assert_eq!((set.test.labels.as_slice(), brightness(&set.test)), ([1, 0].as_slice(), vec![50, 60]));
        assert_eq!(load(&root.path().join(FOLDER), 1).unwrap(), set);
    }

    #[test]
    fn class_folders_are_read_with_and_without_images_in_between() {
        for between in ["images", ""] {
            let root = original();
            let base = root.path().join(FOLDER);
            let val = base.join("val");
            for (name, wnid) in [("val_0.JPEG", "n02"), ("val_1.JPEG", "n01")] {
                let folder = val.join(wnid).join(between);
                fs::create_dir_all(&folder).unwrap();
                fs::rename(val.join("images").join(name), folder.join(name)).unwrap();
            }
            // The empty folder and the annotations often remain.
            let set = load(root.path(), 2).unwrap();
            assert_eq!((set.test.labels.as_slice(), brightness(&set.test)), ([0, 1].as_slice(), vec![60, 50]));
        }
    }

    #[test]
    fn planes_are_red_green_and_blue() {
        let root = original();
        let path = root.path().join(FOLDER).join("val/images/val_0.JPEG");
        let pixels = [250, 128, 5].repeat(SIDE * SIDE);
        let image = image::Rgb { width: SIDE, height: SIDE, pixels };
        fs::write(path, image::encode_jpeg(&image, 95).unwrap()).unwrap();
        let test = load(root.path(), 2).unwrap().test;
        for (plane, value) in test.pixels_of(0).chunks(SIDE * SIDE).zip([250u8, 128, 5]) {
            assert!(plane.iter().all(|pixel| pixel.abs_diff(value) <= 3), "{value}: {:?}", &plane[..5]);
        }
    }

    #[test]
    fn invalid_files_are_reported() {
        let message = |damage: &dyn Fn(&Path)| {
            let root = original();
            damage(&root.path().join(FOLDER));
            load(root.path(), 2).unwrap_err().to_string()
        };
        let cut = |path: PathBuf| {
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        };
        let error = message(&|base| cut(base.join("train/n01/images/n01_1.JPEG")));
        assert!(error.contains("n01_1.JPEG: the image is cut off"), "{error}");
        let error = message(&|base| write(base.join("val/images/val_2.JPEG"), 1));
        assert!(error.contains("val_2.JPEG: val_annotations.txt has no label"), "{error}");
        let error = message(&|base| fs::write(base.join(CLASSES), "n01 n02 n03").unwrap());
        assert!(error.contains("wnids.txt: the class n03 has no folder"), "{error}");
        let error = message(&|base| fs::write(base.join(CLASSES), "n01").unwrap());
        assert!(error.contains("train has a folder n02"), "{error}");
        let error = message(&|base| fs::write(base.join("val").join(ANNOTATIONS), "val_0.JPEG\tn07\n").unwrap());
        assert!(error.contains("line 1: val_0.JPEG has the class n07"), "{error}");
        let error = message(&|base| {
            let lines = "val_0.JPEG\tn02\nval_1.JPEG\tn01\nval_1.JPEG\tn01\n\nval_0.JPEG\tn01\n";
            fs::write(base.join("val").join(ANNOTATIONS), lines).unwrap();
        });
        assert!(error.ends_with("line 5: val_0.JPEG is of the class n02 in line 1, and of n01 here"), "{error}");
        let error = message(&|base| {
            let image = image::Rgb { width: 63, height: 64, pixels: vec![0; 3 * 63 * 64] };
            fs::write(base.join("val/images/val_0.JPEG"), image::encode_jpeg(&image, 90).unwrap()).unwrap();
        });
        assert!(error.contains("63×64 pixels instead of 64×64"), "{error}");
        let nowhere = tempfile::tempdir().unwrap();
        let error = load(nowhere.path(), 1).unwrap_err();
        assert!(error.to_string().contains("tiny-imagenet-200/train/WNID"), "{error}");
        assert!(
            winsign_core::Diagnostic::from(error).help.unwrap().contains("cs231n.stanford.edu/tiny-imagenet-200.zip")
        );
    }
}
