//! ImageNet as folders of images, one a class.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Error, Result};

pub struct Entry {
    pub path: PathBuf,
    pub label: u16,
}

pub struct Listing {
    /// WordNet ids, sorted.
    pub classes: Vec<String>,
    pub train: Vec<Entry>,
    pub test: Vec<Entry>,
}

/// The images below `train/CLASS` and `val/CLASS`, sorted.
pub fn list(root: &Path) -> Result<Listing> {
    let nested = root.join("imagenet");
    let root = if nested.is_dir() { nested } else { root.to_path_buf() };
    let classes: Vec<String> = sorted(&root.join("train"))?;
    let images = |part: &str| -> Result<Vec<Entry>> {
        let mut entries = vec![];
        for (label, class) in classes.iter().enumerate() {
            let folder = root.join(part).join(class);
            entries.extend(sorted(&folder)?.iter().map(|name| Entry { path: folder.join(name), label: label as u16 }));
        }
        Ok(entries)
    };
    Ok(Listing { train: images("train")?, test: images("val")?, classes })
}

fn sorted(folder: &Path) -> Result<Vec<String>> {
    let mut names = vec![];
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
