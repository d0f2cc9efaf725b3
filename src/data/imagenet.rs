//! The lists of ImageNet's images (ILSVRC 2012, classification) with their labels, in each layout people have it in.
//!
//! Training images lie in one folder a class, named by its WordNet id. The publisher's validation images lie flat in
//! one folder; which class each belongs to is said by the devkit (`ILSVRC2012_devkit_t12/data/`), or by the file
//! `LOC_val_solution.csv` of Kaggle's edition; many people have moved them into class folders.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use super::files::{is_image, read_folder};
use super::parallel::try_map;
use super::{Entry, Listing, Set, mat, tiny_imagenet};

/// Lists the set at `root`: labels are indices among the sorted names of the training folders, files are sorted by
/// class and name. Directories are read, images are not.
pub fn list(root: &Path) -> Result<Listing> {
    let base = find(root)?;
    let train = base.join("train");
    let classes = classes_of(&train, Set::Imagenet)?;
    let test = match ValLayout::of(&base)? {
        ValLayout::Folders => list_class_folders(&base.join("val"), &classes)?,
        ValLayout::Flat(names) => list_flat(&base, names, &classes)?,
    };
    Ok(Listing { train: list_class_folders(&train, &classes)?, classes, test })
}

/// The folder that holds `train` and `val`.
pub fn find(root: &Path) -> Result<PathBuf> {
    let mut looked = vec![];
    for base in [root.join(FOLDER), root.to_path_buf()] {
        for place in [base.clone(), base.join(KAGGLE)] {
            // Tiny-ImageNet lies in much the same way.
            let tiny = place.ends_with(tiny_imagenet::FOLDER) || place.join(tiny_imagenet::CLASSES).exists();
            if place.join("train").is_dir() && place.join("val").is_dir() && !tiny {
                return Ok(place);
            }
            looked.push(format!("{}/train/WNID/*.JPEG and val/ beside it", place.display()));
        }
    }
    looked.push(format!("{} as a pack", root.join("imagenet.pack").display()));
    Err(Error::Missing { set: Set::Imagenet, looked })
}

/// The usual name of the set's folder.
pub const FOLDER: &str = "imagenet";
/// Where Kaggle's edition has the images.
pub const KAGGLE: &str = "ILSVRC/Data/CLS-LOC";
pub const KAGGLE_LABELS: &str = "LOC_val_solution.csv";
pub const KAGGLE_HEADER: [&str; 2] = ["ImageId", "PredictionString"];
pub const DEVKIT: &str = "ILSVRC2012_devkit_t12/data";
pub const DEVKIT_META: &str = "meta.mat";
pub const DEVKIT_LABELS: &str = "ILSVRC2012_validation_ground_truth.txt";

/// How the validation images lie.
enum ValLayout {
    Folders,
    /// Their names, sorted.
    Flat(Vec<String>),
}

impl ValLayout {
    fn of(base: &Path) -> Result<ValLayout> {
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

/// The names of the class folders in a training folder, sorted; no more than the set has.
pub fn classes_of(train: &Path, set: Set) -> Result<Vec<String>> {
    let classes = read_folder(train)?.folders;
    match classes.len() {
        0 => Err(Error::malformed(train, "it has no class folders")),
        count if count > set.classes() => {
            let reason = format!("it has {count} class folders, {} has {} classes", set.name(), set.classes());
            Err(Error::malformed(train, reason))
        }
        _ => Ok(classes),
    }
}

/// The images of all class folders in `folder`, sorted by class and name. Images may also lie one folder deeper, in
/// `CLASS/images/`. Folders are read on several threads: on a network file system most of the time is waiting.
pub fn list_class_folders(folder: &Path, classes: &[String]) -> Result<Vec<Entry>> {
    let mut present = read_folder(folder)?.folders;
    // What is left where Tiny-ImageNet's validation images were moved out.
    present.retain(|name| name != "images" || read_folder(&folder.join(name)).is_ok_and(|rest| !rest.files.is_empty()));
    let list = |name: &String| match classes.binary_search(name) {
        Ok(label) => list_class(&folder.join(name), label as u16),
        Err(_) => {
            let reason = "a class folder whose name is not among those of the training images";
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
        return Err(Error::malformed(&folder, "a class folder without images (.JPEG, .jpg or .png)"));
    }
    Ok(names.files.iter().map(|name| Entry { path: folder.join(name), label }).collect())
}

/// The images `names` of the flat folder `val`, with labels by whichever mapping is there.
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
                format!("{name} is of the class {wnid}, which is not among the training folders"),
            )),
        }
    };
    names.into_iter().map(entry).collect()
}

/// WordNet ids of validation images.
enum Mapping {
    /// By number, from 1, as the images' names end.
    Devkit(Vec<String>),
    /// By the name without its extension.
    Kaggle(HashMap<String, String>),
}

impl Mapping {
    fn wnid_of(&self, stem: &str) -> Option<&str> {
        match self {
            Mapping::Devkit(wnids) => {
                let number: usize = stem.rsplit('_').next()?.parse().ok()?;
                wnids.get(number.checked_sub(1)?).map(String::as_str)
            }
            Mapping::Kaggle(wnids) => wnids.get(stem).map(String::as_str),
        }
    }
}

/// Looks for the mapping beside the images, and above them: archives are unpacked in many places. Gives its path too.
fn find_mapping(base: &Path) -> Result<(Mapping, PathBuf)> {
    let absolute = std::path::absolute(base).map_err(Error::io("find", base))?;
    let mut looked = vec![];
    // From `ILSVRC/Data/CLS-LOC` it is three steps up to where Kaggle has the file.
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
            "its images lie in one folder, and nothing says of which class each is; looked for\n  {}\nThe devkit is \
             published at {}",
            looked.join("\n  "),
            Set::Imagenet.published_at()
        ),
    ))
}

/// `ILSVRC2012_validation_ground_truth.txt` has the class number of one image a line, `meta.mat` their WordNet ids.
fn read_devkit(devkit: &Path) -> Result<Mapping> {
    let meta = devkit.join(DEVKIT_META);
    let wnids: HashMap<u32, String> =
        mat::read_synsets(&meta)?.into_iter().map(|synset| (synset.id, synset.wnid)).collect();
    let path = devkit.join(DEVKIT_LABELS);
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let wnid = |(index, line): (usize, &str)| {
        let number: u32 = line.trim().parse().map_err(|_| {
            Error::malformed(&path, format!("line {} is {:?}, not the number of a class", index + 1, shortened(line)))
        })?;
        wnids.get(&number).cloned().ok_or_else(|| {
            Error::malformed(&path, format!("line {}: there is no class {number} in {}", index + 1, meta.display()))
        })
    };
    Ok(Mapping::Devkit(text.lines().enumerate().map(wnid).collect::<Result<_>>()?))
}

/// Columns `ImageId,PredictionString`; the latter begins with the WordNet id, boxes follow.
fn read_kaggle(path: &Path) -> Result<Mapping> {
    let malformed = |error: csv::Error| Error::malformed(path, error.to_string());
    let mut reader = csv::Reader::from_path(path).map_err(malformed)?;
    if reader.headers().map_err(malformed)?.iter().ne(KAGGLE_HEADER) {
        let reason = format!("its first line is not \"{}\"", KAGGLE_HEADER.join(","));
        return Err(Error::malformed(path, reason));
    }
    let mut wnids = HashMap::new();
    for record in reader.records() {
        let record = record.map_err(malformed)?;
        let line = record.position().map_or(0, |position| position.line());
        let Some(wnid) = record[1].split_whitespace().next() else {
            return Err(Error::malformed(path, format!("line {line} names no class")));
        };
        wnids.insert(record[0].to_string(), wnid.to_string());
    }
    Ok(Mapping::Kaggle(wnids))
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::super::mat::{Synset, synsets_file};
    use super::*;

    /// Empty files, and their folders.
    fn touch(root: &Path, names: &[&str]) {
        for name in names {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
    }

    /// Two classes of training images, in names that are not in the order of creation.
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
        // The set's own folder, with the devkit inside it; the folder above, with the devkit beside the set.
        for (base, devkit) in [("imagenet", "imagenet"), ("imagenet", ".")] {
            let root = tempfile::tempdir().unwrap();
            let base = root.path().join(base);
            train(&base);
            touch(&base, &["val/ILSVRC2012_val_00000001.JPEG", "val/ILSVRC2012_val_00000003.JPEG"]);
            assert!(message(root.path()).contains(DEVKIT_LABELS), "{}", message(root.path()));
            let devkit = root.path().join(devkit).join(DEVKIT);
            fs::create_dir_all(&devkit).unwrap();
            let synset = |id, wnid: &str| Synset { id, wnid: wnid.to_string() };
            // Numbers need not be in the order of the names.
            let meta = synsets_file(&[synset(1, "n02"), synset(2, "n01"), synset(3, "n09")], &[2, 1, 0]);
            fs::write(devkit.join("meta.mat"), meta).unwrap();
            let labels = |text: &str| fs::write(devkit.join(DEVKIT_LABELS), text).unwrap();
            labels("2\n2\n1\n");
            for root in [root.path(), &base] {
                let names: Vec<_> = list(root).unwrap().test.into_iter().map(|entry| entry.label).collect();
                assert_eq!(names, [0, 1]);
            }
            labels("2\n2\n");
            assert!(message(root.path()).contains("ILSVRC2012_val_00000003.JPEG: "), "{}", message(root.path()));
            labels("2\n2\n3\n");
            assert!(message(root.path()).contains("n09, which is not among"), "{}", message(root.path()));
            labels("2\n7\n1\n");
            assert!(message(root.path()).contains("line 2: there is no class 7 in"), "{}", message(root.path()));
            labels("2\nx\n1\n");
            assert!(message(root.path()).contains("line 2 is \"x\""), "{}", message(root.path()));
        }
    }

    #[test]
    fn kaggles_edition_is_read_where_it_is_unpacked() {
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
        labels("a,b\n");
        assert!(message(root.path()).contains("ImageId"), "{}", message(root.path()));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let root = tempfile::tempdir().unwrap();
        let error = list(root.path()).unwrap_err();
        assert!(error.to_string().contains(KAGGLE) && error.hint().unwrap().contains("image-net.org"), "{error}");
        train(root.path());
        fs::create_dir(root.path().join("val")).unwrap();
        assert!(message(root.path()).contains("neither images nor class folders"));
        touch(root.path(), &["val/n03/a.JPEG"]);
        assert!(message(root.path()).contains("val/n03: "), "{}", message(root.path()));
        fs::rename(root.path().join("val/n03"), root.path().join("val/n01")).unwrap();
        assert_eq!(list(root.path()).unwrap().test.len(), 1);
        fs::create_dir(root.path().join("train/n00")).unwrap();
        assert!(message(root.path()).contains("train/n00: a class folder without images"), "{}", message(root.path()));
        touch(root.path(), &["val/b.JPEG"]);
        assert!(message(root.path()).contains("both class folders (n01) and images"), "{}", message(root.path()));
    }
}
