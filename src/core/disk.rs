//! Operations on a file system that nodes share over a network.
//!
//! Such a file system fails for a moment when its server restarts or a connection breaks, and may have done what it reports
//! as failed. Operations here are tried again for a while, and then find out what they have done. Only "not found" means
//! that a file does not exist; everything else is an error.

use std::cell::Cell;
use std::fs::{self, DirEntry, File, Metadata};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::exclusive::{self, Means};

/// The time for which an operation that fails is tried again.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 60_000 });
/// The delays between two tries: the first, from which they double, and the longest.
const FIRST_DELAY: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 20 });
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// The time after which a warning says that an operation is tried again.
const SILENCE: Duration = Duration::from_secs(1);

/// Errors that a network file system reports for a moment, and a local one for as long as its disk is broken.
const PASSING: &[Errno] = &[
    Errno::AGAIN,
    Errno::CONNRESET,
    Errno::HOSTDOWN,
    Errno::HOSTUNREACH,
    Errno::INTR,
    Errno::IO,
    Errno::NETDOWN,
    Errno::NETUNREACH,
    Errno::NOTCONN,
    Errno::REMOTEIO,
    Errno::STALE,
    Errno::TIMEDOUT,
];

/// Returns true if an operation may succeed when it is tried again.
fn is_passing(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| PASSING.contains(&Errno::from_raw_os_error(code)))
}

/// Returns true if the error says that the file, or a directory on the way to it, does not exist.
pub(crate) fn is_not_found(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

thread_local! {
    /// True if operations of this thread are not tried again.
    static ONCE: Cell<bool> = const { Cell::new(false) };
}

/// Calls a function whose operations are not worth waiting for: they are not tried again.
pub fn at_once<T>(act: impl FnOnce() -> T) -> T {
    let before = ONCE.replace(true);
    let value = act();
    ONCE.set(before);
    value
}

/// Carries out an operation on a path, and tries it again while its error may pass.
pub fn persist<T>(path: &Path, mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    if ONCE.get() {
        return operation();
    }
    let began = Instant::now();
    let (mut delay, mut warned) = (FIRST_DELAY, false);
    loop {
        let error = match operation() {
            Err(error) if is_passing(&error) && began.elapsed() < PATIENCE => error,
            other => return other,
        };
        if began.elapsed() > SILENCE && !warned {
            warned = true;
            let seconds = PATIENCE.as_secs();
            tracing::warn!("{}: {error}; the file system may be out of reach, trying for {seconds} s", path.display());
        }
        std::thread::sleep(delay);
        delay = (delay * 2).min(LONGEST_DELAY);
    }
}

/// Returns `None` instead of the error that a file does not exist.
fn found<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the metadata of a file, after following links; `None` if it does not exist.
pub fn metadata(path: &Path) -> io::Result<Option<Metadata>> {
    found(persist(path, || operate(|| fs::metadata(path))))
}

/// Returns the metadata of a file or a link; `None` if it does not exist.
pub fn link_metadata(path: &Path) -> io::Result<Option<Metadata>> {
    found(persist(path, || operate(|| fs::symlink_metadata(path))))
}

/// Returns true if a file or directory exists.
pub fn exists(path: &Path) -> io::Result<bool> {
    metadata(path).map(|found| found.is_some())
}

/// Opens a file for reading without waiting for the writer of a pipe; returns `None` if it does not exist.
pub fn open(path: &Path) -> io::Result<Option<File>> {
    found(persist(path, || open_once(path)))
}

fn open_once(path: &Path) -> io::Result<File> {
    operate(|| File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path))
}

/// Reads a file, which is opened anew for each try; returns `None` if it does not exist. `check` may reject the file by its
/// metadata.
pub fn read(path: &Path, check: impl Fn(&Metadata) -> io::Result<()>) -> io::Result<Option<Vec<u8>>> {
    found(persist(path, || {
        let mut file = open_once(path)?;
        let metadata = operate(|| file.metadata())?;
        check(&metadata)?;
        let mut bytes = vec![];
        bytes.try_reserve_exact(metadata.len() as usize)?;
        operate(|| file.read_to_end(&mut bytes))?;
        Ok(bytes)
    }))
}

/// Returns the entries of a directory, in no particular order; `None` if it does not exist.
pub fn list(directory: &Path) -> io::Result<Option<Vec<DirEntry>>> {
    found(persist(directory, || operate(|| fs::read_dir(directory)?.collect())))
}

/// Makes this machine look at a directory again. A client of NFS remembers for up to a minute that a name was absent; only
/// opening the directory makes it ask the server.
pub fn refresh(directory: &Path) -> io::Result<()> {
    found(persist(directory, || operate(|| File::open(directory)))).map(drop)
}

/// Creates a directory and its parents; succeeds if it exists.
pub fn create_directory(path: &Path) -> io::Result<()> {
    let create = || persist(path, || operate(|| fs::create_dir(path)));
    let mut created = create();
    if created.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) && directory_of(path) != path {
        create_directory(directory_of(path))?;
        created = create();
    }
    match created {
        Err(error) if !metadata(path)?.is_some_and(|found| found.is_dir()) => Err(error),
        _ => Ok(()),
    }
}

/// Removes a file; returns false if it does not exist.
pub fn remove(path: &Path) -> io::Result<bool> {
    let removed = found(persist(path, || operate(|| fs::remove_file(path))));
    match removed {
        Ok(removed) => Ok(removed.is_some()),
        // A read-only file system reports that first, even if the file does not exist.
        Err(error) => {
            if link_metadata(path)?.is_some() {
                Err(error)
            } else {
                Ok(false)
            }
        }
    }
}

/// Renames a file, which replaces another one; returns false if it does not exist.
pub fn rename(from: &Path, to: &Path) -> io::Result<bool> {
    let mut in_doubt = false;
    let renamed = persist(from, || {
        let renamed = operate(|| fs::rename(from, to));
        in_doubt |= renamed.as_ref().is_err_and(is_passing);
        renamed
    });
    match found(renamed)? {
        Some(()) => Ok(true),
        // An earlier try may have taken effect although it reported an error.
        None => Ok(in_doubt && exists(to)?),
    }
}

/// Syncs a directory: a new name is on disk only once its directory is.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    match persist(directory, || operate(|| File::open(directory)?.sync_all())) {
        // Some file systems cannot sync a directory; those of networks order renames themselves.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        Err(error) if error.raw_os_error() == Some(Errno::NOSYS.raw_os_error()) => Ok(()),
        other => other,
    }
}

/// A complete file under a name of its own, which is to get another name in one step.
pub struct Draft<'a> {
    path: PathBuf,
    /// The content, by which the file is recognized under its new name.
    bytes: &'a [u8],
}

/// The suffix of the names of drafts.
pub(crate) const DRAFT: &str = ".draft";

impl Draft<'_> {
    /// Writes a file beside `path`, and syncs it to disk if `synced`. If that fails, it removes what it wrote.
    pub fn write<'a>(path: &Path, bytes: &'a [u8], synced: bool) -> io::Result<Draft<'a>> {
        let path = persist(path, || {
            let mut draft = operate(|| empty_draft(directory_of(path)))?;
            // (Writing to the draft itself would hide the code of an error.)
            operate(|| draft.as_file_mut().write_all(bytes))?;
            if synced {
                operate(|| draft.as_file().sync_all())?;
            }
            Ok(operate(|| Ok(draft.keep()?))?.1)
        })?;
        Ok(Draft { path, bytes })
    }

    /// Gives the draft the name `path`, which replaces an existing file.
    pub fn replace(&self, path: &Path) -> io::Result<()> {
        match persist(path, || operate(|| fs::rename(&self.path, path))) {
            // An earlier try may have taken effect although it reported an error.
            Err(error) if is_not_found(&error) && self.has_become(path)? => Ok(()),
            Err(error) => {
                let _ = fs::remove_file(&self.path);
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    /// Gives the draft the name `path` unless it exists, and returns true if this call did so. Of any number of processes
    /// on any number of nodes exactly one succeeds.
    pub fn create(self, path: &Path) -> io::Result<bool> {
        let created = match exclusive::means_at(path)? {
            Means::Links => self.link(path),
            Means::Directories => exclusive::within_lock(path, || self.rename_if_absent(path)),
        };
        // A draft that stays is removed later.
        let _ = remove(&self.path);
        created
    }

    fn link(&self, path: &Path) -> io::Result<bool> {
        let linked = persist(path, || operate(|| fs::hard_link(&self.path, path)));
        match linked {
            Ok(()) => Ok(true),
            // The answer to a link that took effect may be lost, and file systems report that a name exists in various ways.
            Err(error) => match self.is_linked_as(path) {
                Ok(Some(ours)) => Ok(ours),
                Ok(None) => Err(error),
                Err(other) => Err(other),
            },
        }
    }

    /// Gives the draft the name `path` unless it exists, and returns true if it did. Only for the holder of the lock of the name.
    fn rename_if_absent(&self, path: &Path) -> io::Result<bool> {
        let absent = !exists(path)?;
        if absent {
            self.replace(path)?;
        }
        Ok(absent)
    }

    /// Returns true if a file has the content of this draft.
    fn has_become(&self, path: &Path) -> io::Result<bool> {
        Ok(read(path, |_| Ok(()))?.is_some_and(|bytes| bytes.as_slice() == self.bytes))
    }

    /// Returns true if a name is one of this draft, and false if it is one of another file; `None` if it does not exist.
    fn is_linked_as(&self, path: &Path) -> io::Result<Option<bool>> {
        let Some(named) = link_metadata(path)? else { return Ok(None) };
        let is_same = |draft: Metadata| (draft.dev(), draft.ino()) == (named.dev(), named.ino()) && named.nlink() > 1;
        Ok(Some(link_metadata(&self.path)?.is_some_and(is_same)))
    }
}

/// Creates an empty file under a name of its own.
fn empty_draft(directory: &Path) -> io::Result<NamedTempFile> {
    let mut named = tempfile::Builder::new();
    // With a function of our own, errors keep their codes. The user's umask decides who may read the file.
    named.prefix(".").suffix(DRAFT).make_in(directory, |path| File::options().write(true).create_new(true).open(path))
}

/// Returns the directory of a file.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Carries out one operation of the file system. Tests make it fail.
#[cfg(not(test))]
pub(crate) fn operate<T>(operation: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    operation()
}

#[cfg(test)]
pub(crate) use faults::operate;

#[cfg(test)]
pub(crate) mod faults {
    //! Faults of the file system for tests: any operation of this thread can fail.

    use std::cell::Cell;
    use std::io;

    use rustix::io::Errno;

    /// A fault that happens to consecutive operations.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Fault {
        /// The number of operations before the first one that fails.
        pub(crate) after: usize,
        /// The number of operations that fail.
        pub(crate) times: usize,
        pub(crate) error: Errno,
        /// True if the operations take effect, and only report that they fail.
        pub(crate) takes_effect: bool,
    }

    thread_local! {
        static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
        static OPERATIONS: Cell<usize> = const { Cell::new(0) };
    }

    /// Calls a function, of whose operations some fail; returns its value and the number of operations.
    pub(crate) fn with<T>(fault: Option<Fault>, act: impl FnOnce() -> T) -> (T, usize) {
        FAULT.set(fault);
        OPERATIONS.set(0);
        let value = act();
        FAULT.set(None);
        (value, OPERATIONS.get())
    }

    pub(crate) fn operate<T>(operation: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let number = OPERATIONS.replace(OPERATIONS.get() + 1);
        match FAULT.get().filter(|fault| (fault.after..fault.after + fault.times).contains(&number)) {
            Some(fault) => {
                if fault.takes_effect {
                    drop(operation());
                }
                Err(fault.error.into())
            }
            None => operation(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::faults::Fault;
    use super::*;
    use crate::files;

    const PASSING_ERRORS: [Errno; 3] = [Errno::STALE, Errno::IO, Errno::INTR];

    /// Carries out an action in a new folder with every fault at every operation. It must have the same outcome and leave the
    /// same files as without a fault.
    fn unchanged_by_faults<T: PartialEq + std::fmt::Debug>(prepare: fn(&Path), act: fn(&Path) -> T) {
        let attempt = |fault: Option<Fault>| {
            let folder = tempfile::tempdir().unwrap();
            prepare(folder.path());
            let (outcome, operations) = faults::with(fault, || act(folder.path()));
            (outcome, content(folder.path()), operations)
        };
        let (outcome, files, operations) = attempt(None);
        assert!(operations > 0);
        for after in 0..operations {
            for (error, times, takes_effect) in PASSING_ERRORS
                .into_iter()
                .flat_map(|error| [1, 3].map(|times| (error, times)))
                .flat_map(|(error, times)| [true, false].map(|takes_effect| (error, times, takes_effect)))
            {
                let fault = Fault { after, times, error, takes_effect };
                let (with_fault, files_with_fault, _) = attempt(Some(fault));
                assert_eq!(with_fault, outcome, "{fault:?}");
                assert_eq!(files_with_fault, files, "{fault:?}");
            }
        }
    }

    /// Returns the name and the content of each file, without drafts, which are removed later.
    fn content(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let names = files::names(folder).unwrap().into_iter().filter(|name| !files::is_draft(name));
        let mut content: Vec<_> =
            names.map(|name| (name.clone(), fs::read(folder.join(name)).unwrap_or_default())).collect();
        content.sort();
        content
    }

    fn nothing(_: &Path) {}

    fn with_file(folder: &Path) {
        fs::write(folder.join("file"), "old").unwrap();
    }

    #[test]
    fn passing_errors_change_nothing() {
        unchanged_by_faults(nothing, |folder| files::write_atomic(&folder.join("file"), b"new").is_ok());
        unchanged_by_faults(with_file, |folder| files::write_atomic(&folder.join("file"), b"new").is_ok());
        unchanged_by_faults(with_file, |folder| files::write_ephemeral(&folder.join("file"), b"new").is_ok());
        unchanged_by_faults(nothing, |folder| files::create_exclusive(&folder.join("file"), b"new").unwrap());
        unchanged_by_faults(with_file, |folder| files::create_exclusive(&folder.join("file"), b"new").unwrap());
        unchanged_by_faults(with_file, |folder| files::read_if_exists(&folder.join("file")).unwrap());
        unchanged_by_faults(nothing, |folder| files::read_if_exists(&folder.join("file")).unwrap());
        unchanged_by_faults(with_file, |folder| files::names(folder).unwrap());
        unchanged_by_faults(with_file, |folder| files::set_aside(&folder.join("file")).unwrap().is_some());
        unchanged_by_faults(with_file, |folder| files::remove_if_exists(&folder.join("file")).is_ok());
        unchanged_by_faults(nothing, |folder| files::create_directory(&folder.join("a/b")).is_ok());
        unchanged_by_faults(nothing, |folder| files::create_directory(folder).is_ok());
        unchanged_by_faults(with_file, |folder| files::create_directory(&folder.join("file/b")).is_ok());
        unchanged_by_faults(with_file, |folder| {
            files::rename_if_exists(&folder.join("file"), &folder.join("other")).unwrap()
        });
    }

    /// With an error that does not pass, an operation takes effect completely or not at all, and says so.
    #[test]
    fn lasting_errors_are_reported() {
        for after in 0..6 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            fs::write(&path, "old").unwrap();
            let fault = Fault { after, times: 1_000_000, error: Errno::IO, takes_effect: false };
            let (outcome, _) = faults::with(Some(fault), || files::write_atomic(&path, b"new"));
            let message = outcome.err().map(|error| error.to_string());
            let now = fs::read(&path).unwrap();
            assert!(message.is_none_or(|message| message.contains("Input/output error")));
            assert!(now == b"old" || now == b"new");
        }
    }

    /// The code decides whether a write is tried again.
    #[test]
    fn failed_draft_has_the_code_of_its_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = Draft::write(&folder.path().join("missing/file"), b"new", true).err().unwrap();
        assert_eq!(error.raw_os_error(), Some(Errno::NOENT.raw_os_error()));
    }

    /// File systems report that a name exists by various errors.
    #[test]
    fn loser_of_a_link_is_known_by_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        crate::Store::create(folder.path()).unwrap();
        let create = |error| {
            let fault = Fault { after: LINK, times: 1, error, takes_effect: false };
            faults::with(Some(fault), || files::create_exclusive(&path, b"new")).0
        };
        assert!(create(Errno::PERM).is_err(), "without a winner, the file system has no links");
        assert!(files::create_exclusive(&path, b"old").unwrap());
        assert!(!create(Errno::PERM).unwrap());
    }

    /// The number of operations before the link: creating, writing, syncing and keeping a draft.
    const LINK: usize = 4;
}
