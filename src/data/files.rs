//! Reading of folders, and of lists of the classes of images.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::{Error, Result};

/// The names in a folder, sorted, without hidden files.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    pub folders: Vec<String>,
    pub files: Vec<String>,
}

/// Reads the names in a folder, without a system call per entry (except for links).
pub(crate) fn read_folder(path: &Path) -> Result<Folder> {
    let mut folder = Folder::default();
    for entry in fs::read_dir(path).map_err(Error::io("list", path))? {
        let entry = entry.map_err(Error::io("list", path))?;
        let Ok(name) = entry.file_name().into_string() else {
            return Err(Error::malformed(&entry.path(), "its name is not UTF-8"));
        };
        if name.starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(Error::io("look at", &entry.path()))?;
        if kind.is_dir() || (kind.is_symlink() && entry.path().is_dir()) {
            folder.folders.push(name);
        } else {
            folder.files.push(name);
        }
    }
    folder.folders.sort_unstable();
    folder.files.sort_unstable();
    Ok(folder)
}

/// Returns true if the name has an extension of an image, in upper or lower case.
pub(crate) fn is_image(name: &str) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    ["jpeg", "jpg", "png"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// The classes of images, as the lines of a file give them.
#[derive(Debug)]
pub(crate) struct ClassList {
    path: PathBuf,
    /// The class of each image, with the number of the line.
    classes: HashMap<String, (String, u64)>,
}

impl ClassList {
    /// Creates an empty list for the file `path`, which errors name.
    pub(crate) fn new(path: &Path) -> ClassList {
        ClassList { path: path.to_path_buf(), classes: HashMap::new() }
    }

    /// Adds a line. Fails if an earlier line gives the image another class.
    pub(crate) fn add(&mut self, line: u64, image: &str, class: &str) -> Result<()> {
        let (earlier, first) = self.classes.entry(image.to_string()).or_insert_with(|| (class.to_string(), line));
        if earlier != class {
            let reason = format!("line {line}: {image} is of the class {earlier} in line {first}, and of {class} here");
            return Err(Error::malformed(&self.path, reason));
        }
        Ok(())
    }

    /// Returns the class of an image.
    pub(crate) fn class_of(&self, image: &str) -> Option<&str> {
        self.classes.get(image).map(|(class, _)| class.as_str())
    }
}
