//! Files that appear whole or not at all, and JSON that notices damage.
//!
//! Several nodes write to one shared file system, so nothing here needs more than an atomic rename and an exclusive
//! create (a hard link of a finished file): no locks, no database.

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

/// Replaces `path` by `bytes` in one step: readers see the old content or the new, also after a power cut.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let draft = write_draft(path, bytes, Durability::Synced)?;
    rename(&draft, path)?;
    sync_directory(path)
}

/// Like [`write_atomic`] for what may be lost in a power cut, because it is only of use while its writer lives.
pub fn write_ephemeral(path: &Path, bytes: &[u8]) -> Result<()> {
    let draft = write_draft(path, bytes, Durability::Cached)?;
    rename(&draft, path)
}

/// Creates `path` with `bytes` if nothing of that name exists: true if it was us. Of any number of processes on any
/// number of nodes exactly one succeeds, and nobody ever sees a part of the content.
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

/// Creates a directory and its parents; fine if it exists.
pub fn create_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("create the directory", path))
}

/// Opens a file, and says how long it is; none if there is no such file. What is there but is no file is damage.
pub fn open_if_exists(path: &Path) -> Result<Option<(File, u64)>> {
    // Not waiting for somebody who writes, should it be a pipe.
    let file = match File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path) {
        Ok(file) => file,
        Err(error) if is_absence(&error) => return Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            return Err(Error::damaged(path, "it is a link that leads to itself"));
        }
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let found = file.metadata().map_err(Error::io("read", path))?;
    if found.is_dir() {
        return Err(Error::damaged(path, "it is a directory"));
    }
    // A device may have no end.
    if !found.is_file() {
        return Err(Error::damaged(path, "it is no file, but a pipe or a device"));
    }
    Ok(Some((file, found.len())))
}

/// The content of a file; none if there is no such file.
pub fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>> {
    let Some((mut file, length)) = open_if_exists(path)? else { return Ok(None) };
    let mut bytes = vec![];
    let read =
        bytes.try_reserve_exact(length as usize).map_err(io::Error::from).and_then(|()| file.read_to_end(&mut bytes));
    read.map_err(Error::io("read", path))?;
    Ok(Some(bytes))
}

/// The names in a directory that are text, in any order; none if there is no such directory.
pub fn names(directory: &Path) -> Result<Vec<String>> {
    match fs::read_dir(directory) {
        Ok(entries) => Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()),
        Err(error) if is_absence(&error) => Ok(vec![]),
        Err(error) => Err(Error::io("list", directory)(error)),
    }
}

/// Renames a file; false if it is gone already.
pub fn rename_if_exists(from: &Path, to: &Path) -> Result<bool> {
    match fs::rename(from, to) {
        Ok(()) => Ok(true),
        Err(error) if is_absence(&error) => Ok(false),
        Err(error) => Err(Error::io("rename", from)(error)),
    }
}

/// Removes a file; fine if it is gone already.
pub fn remove_if_exists(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        // A file system that is read-only says so before it looks.
        Err(error) if !is_absence(&error) && fs::symlink_metadata(path).is_ok() => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Renames a damaged file to `NAME.damaged-1` (or the next free number), out of the way but there to be looked at.
/// Gives the new name; none if somebody else was faster.
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
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(Error::io("set aside", path)(error)),
        };
    }
    unreachable!("one of infinitely many names is free")
}

/// Whether [`set_aside`] gave a file this name.
pub fn is_set_aside(name: &str) -> bool {
    name.rsplit_once(ASIDE).is_some_and(|(_, number)| number.parse::<u32>().is_ok())
}

/// Whether a file of this name is being written, or was when its writer died.
pub fn is_draft(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(DRAFT)
}

/// The JSON text of `content` with a checksum of itself as its last field, so that a flipped bit, a cut or an edit is
/// noticed. `content` must serialize to an object.
pub fn seal<T: Serialize>(content: &T) -> Vec<u8> {
    let mut value = serde_json::to_value(content).expect("what is sealed is plain data");
    let checksum = checksum(&value);
    let object = value.as_object_mut().expect("what is sealed is an object");
    object.insert(CHECKSUM.to_string(), Value::String(checksum));
    let mut bytes = serde_json::to_vec_pretty(&value).expect("a JSON value serializes");
    bytes.push(b'\n');
    bytes
}

/// Reads what [`seal`] wrote. `path` is for the error.
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

/// [`unseal`] of a file; none if there is no such file.
pub fn read_sealed<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match read_if_exists(path)? {
        Some(bytes) => unseal(path, &bytes).map(Some),
        None => Ok(None),
    }
}

const CHECKSUM: &str = "checksum";
/// What the names of damaged files get, before a number.
const ASIDE: &str = ".damaged-";
/// How the names of files end that are being written.
const DRAFT: &str = ".draft";

fn checksum(value: &Value) -> String {
    digest(&serde_json::to_vec(value).expect("a JSON value serializes"))
}

/// A hash of a file's bytes: 32 hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..32].to_string()
}

#[derive(PartialEq)]
enum Durability {
    Synced,
    Cached,
}

/// Writes a file beside `path` under a name nobody else uses. Nothing is left behind if that fails.
fn write_draft(path: &Path, bytes: &[u8], durability: Durability) -> Result<PathBuf> {
    let write = || -> io::Result<PathBuf> {
        let mut draft = tempfile::Builder::new()
            .prefix(".")
            .suffix(DRAFT)
            // As any new file: the user's mask decides who else may read it.
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(directory_of(path))?;
        draft.write_all(bytes)?;
        if durability == Durability::Synced {
            draft.as_file().sync_all()?;
        }
        let (_, draft) = draft.keep()?;
        Ok(draft)
    };
    write().map_err(Error::io("write", path))
}

/// Removes what a process that died was writing in a directory, at least so long ago; fine if the directory does not exist.
pub fn remove_drafts(directory: &Path, age: Duration) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if is_absence(&error) => return Ok(()),
        Err(error) => return Err(Error::io("list", directory)(error)),
    };
    // A folder of reports has files of its owner beside ours.
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

/// A new name is on disk only once its directory is.
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

/// No such file, or no such directory on the way to it.
fn is_absence(error: &io::Error) -> bool {
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
    fn sealed_content_comes_back_to_the_last_bit() {
        assert_eq!(unseal::<Content>(Path::new("x"), &seal(&content())).unwrap(), content());
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_noticed() {
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
    fn only_old_drafts_are_removed() {
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
    fn a_pipe_is_no_file_to_wait_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("result.json");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert!(matches!(read_if_exists(&path), Err(Error::Damaged { .. })));
        assert!(matches!(read_if_exists(&directory.path().join("absent")), Ok(None)));
    }

    #[test]
    fn only_one_creates() {
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
    fn damaged_files_are_kept_aside() {
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
    fn an_error_names_the_file_and_leaves_no_draft() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing").join("run.json");
        let error = write_atomic(&path, b"x").unwrap_err();
        assert!(error.to_string().contains("missing/run.json"), "{error}");
    }
}
