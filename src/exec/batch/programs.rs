//! Copies of the programs in the store, so that rebuilding them does not affect queued jobs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use winsign_core::Store;
use winsign_core::error::{Error, Result};
use winsign_core::files;

pub const WINSIGN: &str = "winsign";
pub const WORKER: &str = "winsign-worker";
/// The directory of libraries next to the programs of a bundle.
const LIBRARIES: &str = "lib";

/// Returns the directory of the programs with this hash.
pub fn folder(store: &Path, hash: &str) -> PathBuf {
    store.join("programs").join(hash)
}

/// Copies both programs to the store, unless it has them, and returns their hash.
pub fn keep(store: &Store, winsign: &Path, worker: &Path) -> Result<String> {
    let read = |path: &Path| fs::read(path).map_err(Error::io("read", path));
    let programs = [(WINSIGN, winsign, read(winsign)?), (WORKER, worker, read(worker)?)];
    let mut hasher = blake3::Hasher::new();
    for (name, path, bytes) in &programs {
        hasher.update(name.as_bytes()).update(&bytes.len().to_le_bytes()).update(bytes);
        // The location of libraries is part of the identity of the program.
        hasher.update(libraries_of(path).unwrap_or_default().as_os_str().as_encoded_bytes());
    }
    let hash = hasher.finalize().to_hex()[..16].to_string();
    let folder = folder(store.root(), &hash);
    if folder.exists() {
        return Ok(hash);
    }
    let parent = store.root().join("programs");
    files::create_directory(&parent)?;
    let draft = tempfile::Builder::new().prefix(".").suffix(".draft").tempdir_in(&parent);
    let draft = draft.map_err(Error::io("create a directory in", &parent))?;
    for (name, path, _) in &programs {
        let copy = draft.path().join(name);
        // `copy` instead of the bytes read above keeps the permissions, and the file may be large.
        fs::copy(path, &copy).map_err(Error::io("write", &copy))?;
        fs::File::open(&copy).and_then(|file| file.sync_all()).map_err(Error::io("write", &copy))?;
    }
    if let Some(libraries) = libraries_of(worker) {
        let link = draft.path().join(LIBRARIES);
        symlink(libraries, &link).map_err(Error::io("create", &link))?;
    }
    let draft = draft.keep();
    match fs::rename(&draft, &folder) {
        Ok(()) => Ok(hash),
        // Another process was faster.
        Err(_) if folder.exists() => {
            let _ = fs::remove_dir_all(&draft);
            Ok(hash)
        }
        Err(error) => Err(Error::io("create", &folder)(error)),
    }
}

fn libraries_of(program: &Path) -> Option<PathBuf> {
    program.with_file_name(LIBRARIES).canonicalize().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_copied_once_and_unchanged() {
        let folder_ = tempfile::tempdir().unwrap();
        let store = Store::create(&folder_.path().join("store")).unwrap();
        let (winsign, worker) = (folder_.path().join("winsign"), folder_.path().join("worker"));
        fs::write(&winsign, "one").unwrap();
        fs::write(&worker, "two").unwrap();
        let hash = keep(&store, &winsign, &worker).unwrap();
        assert_eq!(keep(&store, &winsign, &worker).unwrap(), hash);
        fs::write(&worker, "rebuilt").unwrap();
        assert_eq!(fs::read(folder(store.root(), &hash).join(WORKER)).unwrap(), b"two");
        let rebuilt = keep(&store, &winsign, &worker).unwrap();
        assert_ne!(rebuilt, hash);
        assert_eq!(fs::read_dir(store.root().join("programs")).unwrap().count(), 2, "no drafts are left");
    }
}
