//! How exactly one of many processes creates a file: by a hard link, or where a file system has none, by a directory as a lock.
//!
//! All processes must do the same, so the means are chosen when a store is created, and recorded in its `store.json`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::disk::{self, operate, persist};

/// The file that records the means.
pub(crate) const MARKER: &str = "store.json";

/// The means of creating a file exclusively.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Means {
    /// A hard link to a complete file, which fails if the name exists.
    #[default]
    Links,
    /// A directory, which only one process can make, and whose maker renames a complete file. It is safe unless a process stands
    /// still for longer than [`STEAL_AFTER`] between two operations.
    Directories,
}

impl Means {
    pub(crate) fn is_default(&self) -> bool {
        *self == Means::default()
    }
}

/// The part of `store.json` that is of interest here.
#[derive(Deserialize)]
struct Marker {
    #[serde(default)]
    exclusive: Means,
}

/// The means of the stores that this process has used.
static STORES: LazyLock<Mutex<Vec<(PathBuf, Means)>>> = LazyLock::new(Mutex::default);

/// Returns the means for a path: those of its store, or links outside of stores.
pub(crate) fn means_at(path: &Path) -> io::Result<Means> {
    let known =
        STORES.lock().expect("no panic under the lock").iter().find(|(root, _)| path.starts_with(root)).cloned();
    if let Some((_, means)) = known {
        return Ok(means);
    }
    for root in path.ancestors().skip(1) {
        if let Some(marker) = disk::read(&root.join(MARKER), |_| Ok(()))? {
            let means = serde_json::from_slice(&marker).map_or(Means::Links, |marker: Marker| marker.exclusive);
            STORES.lock().expect("no panic under the lock").push((root.to_path_buf(), means));
            return Ok(means);
        }
    }
    Ok(Means::Links)
}

/// Returns true if a link failed because the file system has no hard links.
pub(crate) fn lacks_links(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Unsupported
        || [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS]
            .iter()
            .any(|code| error.raw_os_error() == Some(code.raw_os_error()))
}

/// The time after which a lock without a result is taken from a process that has probably ended.
const STEAL_AFTER: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 20 });
/// The interval of looks at a lock.
const LOOK: Duration = Duration::from_millis(20);

/// Calls a function that creates a file, while this process alone may create it; returns false if the file exists.
pub(crate) fn within_lock(path: &Path, create: impl Fn() -> io::Result<bool>) -> io::Result<bool> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let lock = path.with_file_name(format!(".{name}.lock"));
    loop {
        let mut taken = persist(path, || make(&lock))?;
        let began = Instant::now();
        while !taken && began.elapsed() < STEAL_AFTER {
            if disk::exists(path)? {
                return Ok(false);
            }
            std::thread::sleep(LOOK);
            taken = persist(path, || make(&lock))?;
        }
        if !taken {
            let _ = fs::remove_dir(&lock);
            continue;
        }
        let taken_at = Instant::now();
        if disk::exists(path)? {
            let _ = fs::remove_dir(&lock);
            return Ok(false);
        }
        // If this took long, another process may have taken the lock.
        if taken_at.elapsed() < STEAL_AFTER / 2 {
            let created = create();
            let _ = fs::remove_dir(&lock);
            return created;
        }
    }
}

/// Makes a directory; returns false if it exists.
fn make(lock: &Path) -> io::Result<bool> {
    match operate(|| fs::create_dir(lock)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::faults::{self, Fault};
    use crate::files;

    /// Returns a folder that is a store without hard links.
    fn store_without_links() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MARKER), r#"{"format": 1, "exclusive": "directories"}"#).unwrap();
        folder
    }

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn one_of_many_creates_a_file_without_links() {
        let store = store_without_links();
        let path = store.path().join("claim");
        let winners = std::thread::scope(|scope| {
            let path = &path;
            let contenders: Vec<_> = (0..16u8)
                .map(|number| scope.spawn(move || files::create_exclusive(path, &[number; 100]).unwrap()))
                .collect();
            contenders.into_iter().map(|contender| usize::from(contender.join().unwrap())).sum::<usize>()
        });
        assert_eq!((winners, fs::read(&path).unwrap().len()), (1, 100));
        assert_eq!(entries(store.path()), 2, "neither locks nor drafts are left");
    }

    #[test]
    fn new_store_within_a_store_does_not_take_over_its_means() {
        let outer = store_without_links();
        let inner = outer.path().join("inner");
        let lock = inner.join(".store.json.lock");
        fs::create_dir_all(&lock).unwrap();
        crate::Store::create(&inner).unwrap();
        assert!(lock.exists(), "the marker was created by a link");
    }

    #[test]
    fn lock_of_a_process_that_was_killed_is_taken() {
        let store = store_without_links();
        fs::create_dir(store.path().join(".claim.lock")).unwrap();
        assert!(files::create_exclusive(&store.path().join("claim"), b"ours").unwrap());
        assert_eq!(entries(store.path()), 2);
    }

    #[test]
    fn passing_errors_change_nothing_without_links() {
        let create = |fault: Option<Fault>| {
            let store = store_without_links();
            let path = store.path().join("claim");
            let (created, operations) = faults::with(fault, || files::create_exclusive(&path, b"ours").unwrap());
            assert!(created && fs::read(&path).unwrap() == b"ours", "{fault:?}");
            operations
        };
        for after in 0..create(None) {
            for takes_effect in [true, false] {
                create(Some(Fault { after, times: 1, error: Errno::STALE, takes_effect }));
            }
        }
    }
}
