//! Atomic writes of files, and JSON with a checksum.
//!
//! Several nodes write to one shared file system, so nothing here needs more than an atomic rename and an exclusive
//! create (a hard link to a complete file): no locks, no database.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{Error, Result};

/// Replaces the content of `path` by `bytes` in one step: readers see the old content or the new, also after a power
/// cut.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let draft = write_draft(path, bytes, Durability::Synced)?;
    rename(&draft, path)?;
    sync_directory(path)
}

/// Writes a file like [`write_atomic`], but without syncing it to disk. Meant for content that is only of use while its
/// writer is running.
pub fn write_ephemeral(path: &Path, bytes: &[u8]) -> Result<()> {
    let draft = write_draft(path, bytes, Durability::Cached)?;
    rename(&draft, path)
}

/// Creates `path` with `bytes` if it does not exist, and returns true if this call created it. Of any number of
/// processes on any number of nodes exactly one succeeds, and no reader ever sees partial content.
pub fn create_exclusive(path: &Path, bytes: &[u8]) -> Result<bool> {
    let draft = write_draft(path, bytes, Durability::Synced)?;
    let linked = fs::hard_link(&draft, path);
    let removed = fs::remove_file(&draft);
    match linked {
        Ok(()) => {
            removed.map_err(Error::io("remove", &draft))?;
            sync_directory(path)?;
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Error::io("create", path)(error)),
    }
}

/// Creates a directory and its parents; succeeds if it exists.
pub fn create_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("create the directory", path))
}

/// Opens a file, and returns it with its length in bytes; returns `None` if it does not exist. A path that is not a
/// regular file counts as damaged.
pub fn open_if_exists(path: &Path) -> Result<Option<(File, u64)>> {
    // Without this flag, opening a pipe would wait for a writer.
    let file = match File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path) {
        Ok(file) => file,
        Err(error) if is_not_found(&error) => return Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            return Err(Error::damaged(path, "it is a link that leads to itself"));
        }
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let found = file.metadata().map_err(Error::io("read", path))?;
    if found.is_dir() {
        return Err(Error::damaged(path, "it is a directory"));
    }
    // Reading a device may never end.
    if !found.is_file() {
        return Err(Error::damaged(path, "it is not a regular file, but a pipe or a device"));
    }
    Ok(Some((file, found.len())))
}

/// Returns the content of a file; returns `None` if it does not exist.
pub fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>> {
    let Some((mut file, length)) = open_if_exists(path)? else { return Ok(None) };
    let mut bytes = vec![];
    let read =
        bytes.try_reserve_exact(length as usize).map_err(io::Error::from).and_then(|()| file.read_to_end(&mut bytes));
    read.map_err(Error::io("read", path))?;
    Ok(Some(bytes))
}

/// Returns the names in a directory that are valid UTF-8, in no particular order; returns an empty list if the
/// directory does not exist.
pub fn names(directory: &Path) -> Result<Vec<String>> {
    match fs::read_dir(directory) {
        Ok(entries) => Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()),
        Err(error) if is_not_found(&error) => Ok(vec![]),
        Err(error) => Err(Error::io("list", directory)(error)),
    }
}

/// Renames a file; returns false if it no longer exists.
pub fn rename_if_exists(from: &Path, to: &Path) -> Result<bool> {
    match fs::rename(from, to) {
        Ok(()) => Ok(true),
        Err(error) if is_not_found(&error) => Ok(false),
        Err(error) => Err(Error::io("rename", from)(error)),
    }
}

/// Removes a file; succeeds if it does not exist.
pub fn remove_if_exists(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        // A read-only file system reports that first, even if the file does not exist.
        Err(error) if !is_not_found(&error) && fs::symlink_metadata(path).is_ok() => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Renames a damaged file to `NAME.damaged-1` (or the next free number), so that it can be examined later. Returns the
/// new name; returns `None` if another process has already renamed the file.
pub fn set_aside(path: &Path) -> Result<Option<PathBuf>> {
    for number in 1.. {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("{ASIDE}{number}"));
        let aside = PathBuf::from(name);
        if aside.exists() {
            continue;
        }
        return match fs::rename(path, &aside) {
            Ok(()) => Ok(Some(aside)),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(Error::io("set aside", path)(error)),
        };
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
/// The suffix of the names of files that are being written.
const DRAFT: &str = ".draft";

fn checksum(value: &Value) -> String {
    digest(&serde_json::to_vec(value).expect("a JSON value serializes"))
}

/// Returns a hash of the bytes of a file: 32 hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..32].to_string()
}

#[derive(PartialEq)]
enum Durability {
    Synced,
    Cached,
}

/// Writes a file beside `path` under a unique name, and removes it if writing fails.
fn write_draft(path: &Path, bytes: &[u8], durability: Durability) -> Result<PathBuf> {
    try_write_draft(path, bytes, durability).map_err(Error::io("write", path))
}

fn try_write_draft(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<PathBuf> {
    let mut draft = tempfile::Builder::new()
        .prefix(".")
        .suffix(DRAFT)
        // The permissions of any new file: the user's umask decides who may read it.
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(directory_of(path))?;
    draft.write_all(bytes)?;
    if durability == Durability::Synced {
        draft.as_file().sync_all()?;
    }
    let (_, draft) = draft.keep()?;
    Ok(draft)
}

/// Removes the drafts in a directory that are at least `age` old; succeeds if the directory does not exist.
pub fn remove_drafts(directory: &Path, age: Duration) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if is_not_found(&error) => return Ok(()),
        Err(error) => return Err(Error::io("list", directory)(error)),
    };
    // Users may keep files of their own beside reports.
    let drafts = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_draft));
    for path in drafts.map(|entry| entry.path()) {
        let Some(found) = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file) else { continue };
        if found.modified().is_ok_and(|written| written.elapsed().unwrap_or_default() >= age) {
            remove_if_exists(&path)?;
        }
    }
    Ok(())
}

fn rename(draft: &Path, path: &Path) -> Result<()> {
    fs::rename(draft, path).map_err(|error| {
        let _ = fs::remove_file(draft);
        Error::io("write", path)(error)
    })
}

/// Syncs the directory of `path`: a new name is on disk only once its directory is.
fn sync_directory(path: &Path) -> Result<()> {
    let directory = directory_of(path);
    let sync = || File::open(directory)?.sync_all();
    match sync() {
        // Some network file systems cannot sync a directory; they order renames themselves.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        other => other.map_err(Error::io("write", directory)),
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns true if the error says that the file, or a directory on the way to it, does not exist.
fn is_not_found(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
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
