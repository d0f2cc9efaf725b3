//! The programs as they were when something was submitted, kept with the store: rebuilding while jobs wait changes nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use winsign_core::Store;
use winsign_core::error::{Error, Result};
use winsign_core::files;

pub const WINSIGN: &str = "winsign";
pub const WORKER: &str = "winsign-worker";
/// What a bundle has beside its programs, for them to find.
const LIBRARIES: &str = "lib";

/// Where programs of this hash are kept.
pub fn folder(store: &Path, hash: &str) -> PathBuf {
    store.join("programs").join(hash)
}

/// Keeps copies of both programs in the store, if it does not have them yet; gives their hash.
pub fn keep(store: &Store, winsign: &Path, worker: &Path) -> Result<String> {
    let read = |path: &Path| fs::read(path).map_err(Error::io("read", path));
    let programs = [(WINSIGN, winsign, read(winsign)?), (WORKER, worker, read(worker)?)];
    let mut hasher = blake3::Hasher::new();
    for (name, path, bytes) in &programs {
        hasher.update(name.as_bytes()).update(&bytes.len().to_le_bytes()).update(bytes);
        // Where libraries are looked for belongs to the program.
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
        // Not the bytes read above: `copy` keeps the permissions, and the file may be large.
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
        // Somebody else was faster.
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
    fn programs_are_kept_once_and_as_they_were() {
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
