//! Atomic writes of files, and JSON with a checksum.
//!
//! Several nodes write to one shared file system, so nothing here needs more than an atomic rename and an exclusive
//! create (a hard link to a complete file): no locks, no database.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::disk::{self, DRAFT, Draft};
use super::error::{Error, Result};
use super::exclusive::{self, Means};

/// Replaces the content of `path` by `bytes` in one step: readers see the old content or the new, also after a power
/// cut.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let replace = || {
        Draft::write(path, bytes, true)?.replace(path)?;
        disk::sync_directory(disk::directory_of(path))
    };
    replace().map_err(Error::io("write", path))
}

/// Writes a file like [`write_atomic`], but without syncing it to disk. Meant for content that is only of use while its
/// writer is running.
pub fn write_ephemeral(path: &Path, bytes: &[u8]) -> Result<()> {
    let replace = || Draft::write(path, bytes, false)?.replace(path);
    replace().map_err(Error::io("write", path))
}

/// Creates `path` with `bytes` if it does not exist, and returns true if this call created it. Of any number of
/// processes on any number of nodes exactly one succeeds, and no reader ever sees partial content.
pub fn create_exclusive(path: &Path, bytes: &[u8]) -> Result<bool> {
    let means = exclusive::means_at(path).map_err(Error::io("create", path))?;
    create_exclusive_by(means, path, bytes)
}

/// Creates a file like [`create_exclusive`], by means that all processes must choose.
pub(crate) fn create_exclusive_by(means: Means, path: &Path, bytes: &[u8]) -> Result<bool> {
    let create = || {
        let created = Draft::write(path, bytes, true)?.create(path, means)?;
        if created {
            disk::sync_directory(disk::directory_of(path))?;
        }
        Ok(created)
    };
    create().map_err(Error::io("create", path))
}

/// Creates a directory and its parents; succeeds if it exists.
pub fn create_directory(path: &Path) -> Result<()> {
    disk::create_directory(path).map_err(Error::io("create the directory", path))
}

/// Opens a file, and returns it with its length in bytes; returns `None` if it does not exist. A path that is not a
/// regular file counts as damaged.
pub fn open_if_exists(path: &Path) -> Result<Option<(File, u64)>> {
    let Some(file) = disk::open(path).map_err(|error| read_error(path, error))? else { return Ok(None) };
    let found = file.metadata().map_err(Error::io("read", path))?;
    match unreadable(&found) {
        Some(reason) => Err(Error::damaged(path, reason)),
        None => Ok(Some((file, found.len()))),
    }
}

/// Returns the content of a file; returns `None` if it does not exist. A path that is not a regular file counts as damaged.
pub fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>> {
    let check = |found: &Metadata| unreadable(found).map_or(Ok(()), |reason| Err(io::Error::other(Unreadable(reason))));
    disk::read(path, check).map_err(|error| read_error(path, error))
}

/// Why a path cannot be read as a file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unreadable(&'static str);

/// Returns why a path cannot be read as a file: reading a device may never end.
fn unreadable(found: &Metadata) -> Option<&'static str> {
    match found.file_type() {
        kind if kind.is_file() => None,
        kind if kind.is_dir() => Some("it is a directory"),
        _ => Some("it is not a regular file, but a pipe or a device"),
    }
}

fn read_error(path: &Path, error: io::Error) -> Error {
    if let Some(Unreadable(reason)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return Error::damaged(path, *reason);
    }
    match error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) {
        true => Error::damaged(path, "it is a link that leads to itself"),
        false => Error::io("read", path)(error),
    }
}

/// Returns true if a file or directory exists.
pub fn exists(path: &Path) -> Result<bool> {
    disk::exists(path).map_err(Error::io("read", path))
}

/// Returns the names in a directory that are valid UTF-8, in no particular order; returns an empty list if the
/// directory does not exist.
pub fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = disk::list(directory).map_err(Error::io("list", directory))?;
    Ok(entries.into_iter().flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// Makes this machine look at a directory again before names in it count as absent.
pub fn refresh(directory: &Path) -> Result<()> {
    disk::refresh(directory).map_err(Error::io("open", directory))
}

/// Renames a file; returns false if it no longer exists.
pub fn rename_if_exists(from: &Path, to: &Path) -> Result<bool> {
    disk::rename(from, to).map_err(Error::io("rename", from))
}

/// Removes a file; succeeds if it does not exist.
pub fn remove_if_exists(path: &Path) -> Result<()> {
    disk::remove(path).map(drop).map_err(Error::io("remove", path))
}

/// Renames a damaged file to `NAME.damaged-1` (or the next free number), so that it can be examined later. Returns the
/// new name; returns `None` if another process has already renamed the file.
pub fn set_aside(path: &Path) -> Result<Option<PathBuf>> {
    for number in 1.. {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("{ASIDE}{number}"));
        let aside = PathBuf::from(name);
        if !exists(&aside)? {
            let renamed = disk::rename(path, &aside).map_err(Error::io("set aside", path))?;
            return Ok(renamed.then_some(aside));
        }
    }
    unreachable!("one of infinitely many names is free")
}

/// Returns true if the name has the form that [`set_aside`] gives to damaged files.
pub fn is_set_aside(name: &str) -> bool {
    name.rsplit_once(ASIDE).is_some_and(|(_, number)| number.parse::<u32>().is_ok())
}

/// Returns true if the name is that of a draft: a file that is being written, or was being written when its writer
/// ended.
pub fn is_draft(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(DRAFT)
}

/// Returns the JSON text of `content` with a checksum of itself as its last field, so that any change of the content is
/// noticed. `content` must serialize to an object.
pub fn seal<T: Serialize>(content: &T) -> Vec<u8> {
    to_line(serde_json::to_vec_pretty(&with_checksum(content)))
}

/// Returns the text of [`seal`] on one line.
pub fn seal_line<T: Serialize>(content: &T) -> Vec<u8> {
    to_line(serde_json::to_vec(&with_checksum(content)))
}

fn with_checksum<T: Serialize>(content: &T) -> Value {
    let mut value = serde_json::to_value(content).expect("sealed content is plain data");
    let checksum = checksum(&value);
    let object = value.as_object_mut().expect("sealed content is an object");
    object.insert(CHECKSUM.to_string(), Value::String(checksum));
    value
}

fn to_line(text: serde_json::Result<Vec<u8>>) -> Vec<u8> {
    let mut bytes = text.expect("a JSON value serializes");
    bytes.push(b'\n');
    bytes
}

/// Parses and verifies the text that [`seal`] or [`seal_line`] wrote. `path` is used in error messages.
pub fn unseal<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    let mut value: Value = serde_json::from_slice(bytes).map_err(|error| Error::damaged(path, error.to_string()))?;
    let object = value.as_object_mut().ok_or_else(|| Error::damaged(path, "not a JSON object"))?;
    let Some(Value::String(stated)) = object.remove(CHECKSUM) else {
        return Err(Error::damaged(path, "it has no checksum"));
    };
    if checksum(&value) != stated {
        return Err(Error::damaged(path, "its content does not match its checksum"));
    }
    serde_json::from_value(value).map_err(|error| Error::damaged(path, error.to_string()))
}

/// Reads a file with [`unseal`]; returns `None` if it does not exist.
pub fn read_sealed<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match read_if_exists(path)? {
        Some(bytes) => unseal(path, &bytes).map(Some),
        None => Ok(None),
    }
}

const CHECKSUM: &str = "checksum";
/// The suffix of the names of damaged files, before a number.
const ASIDE: &str = ".damaged-";

fn checksum(value: &Value) -> String {
    digest(&serde_json::to_vec(value).expect("a JSON value serializes"))
}

/// Returns a hash of the bytes of a file: 32 hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..32].to_string()
}

/// Removes the drafts in a directory that are at least `age` old; succeeds if the directory does not exist.
pub fn remove_drafts(directory: &Path, age: Duration) -> Result<()> {
    let entries = disk::list(directory).map_err(Error::io("list", directory))?.unwrap_or_default();
    // Users may keep files of their own beside reports.
    let drafts = entries.into_iter().filter(|entry| entry.file_name().to_str().is_some_and(is_draft));
    for path in drafts.map(|entry| entry.path()) {
        let found = disk::link_metadata(&path).map_err(Error::io("read", &path))?;
        let Some(found) = found.filter(Metadata::is_file) else { continue };
        if found.modified().is_ok_and(|written| written.elapsed().unwrap_or_default() >= age) {
            remove_if_exists(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Content {
        ratio: f64,
        name: String,
    }

    fn content() -> Content {
        Content { ratio: 0.1 + 0.2, name: "lrr".into() }
    }

    #[test]
    fn sealed_content_is_read_back_to_the_last_bit() {
        assert_eq!(unseal::<Content>(Path::new("x"), &seal(&content())).unwrap(), content());
    }

    #[test]
    fn unseal_detects_every_cut_and_changed_byte() {
        let bytes = seal(&content());
        let path = Path::new("result.json");
        let text_end = bytes.len() - 1; // the last byte is a newline, whose loss is harmless
        for length in 0..text_end {
            let error = unseal::<Content>(path, &bytes[..length]).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "cut at {length}: {error}");
        }
        for index in 0..text_end {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            if let Ok(read) = unseal::<Content>(path, &changed) {
                assert_eq!(read, content(), "byte {index}");
            }
        }
    }

    #[test]
    fn remove_drafts_keeps_young_drafts_and_other_files() {
        let directory = tempfile::tempdir().unwrap();
        let [young, old, other, mine] =
            [".a.draft", ".b.draft", "c.json", "intro.draft"].map(|name| directory.path().join(name));
        fs::create_dir(directory.path().join(".folder.draft")).unwrap();
        [&young, &old, &other, &mine].iter().for_each(|path| fs::write(path, "half").unwrap());
        let hours_ago = std::time::SystemTime::now() - Duration::from_secs(7_200);
        [&old, &other, &mine]
            .iter()
            .for_each(|path| File::options().write(true).open(path).unwrap().set_modified(hours_ago).unwrap());
        remove_drafts(directory.path(), Duration::from_secs(3_600)).unwrap();
        assert_eq!([&young, &old, &other].map(|path| path.exists()), [true, false, true]);
        remove_drafts(directory.path(), Duration::ZERO).unwrap();
        assert_eq!([&young, &other, &mine].map(|path| path.exists()), [false, true, true]);
    }

    #[test]
    fn read_of_a_pipe_fails_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("result.json");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert!(matches!(read_if_exists(&path), Err(Error::Damaged { .. })));
        assert!(matches!(read_if_exists(&directory.path().join("absent")), Ok(None)));
    }

    #[test]
    fn create_exclusive_succeeds_for_one_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("claim");
        let winners: usize = std::thread::scope(|scope| {
            let contenders: Vec<_> = (0..16u8)
                .map(|number| {
                    scope.spawn({
                        let path = &path;
                        move || create_exclusive(path, &[number; 100]).unwrap()
                    })
                })
                .collect();
            contenders.into_iter().map(|contender| contender.join().unwrap() as usize).sum()
        });
        assert_eq!(winners, 1);
        assert_eq!(fs::read(&path).unwrap().len(), 100);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no drafts are left");
    }

    #[test]
    fn set_aside_numbers_the_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("result.json");
        for round in 1..=2 {
            fs::write(&path, format!("round {round}")).unwrap();
            let aside = set_aside(&path).unwrap().unwrap();
            assert_eq!(aside.file_name().unwrap().to_str().unwrap(), format!("result.json.damaged-{round}"));
            assert!(!path.exists());
        }
        assert_eq!(set_aside(&path).unwrap(), None);
    }

    #[test]
    fn failed_write_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing").join("run.json");
        let error = write_atomic(&path, b"x").unwrap_err();
        assert!(error.to_string().contains("missing/run.json"), "{error}");
    }
}
