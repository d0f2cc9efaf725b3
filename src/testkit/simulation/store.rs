//! A store that is slow like that of a cluster, and counts the calls of processes that use it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::succeed;

/// The kinds of calls, in the order of their numbers in `shared_store.c`.
const KINDS: [&str; 8] = ["open", "status", "list", "make directory", "link", "rename", "remove", "sync"];

/// A library that counts and delays the calls of processes with paths in a store.
pub(super) struct SharedStore {
    library: PathBuf,
    store: PathBuf,
    delay: Duration,
}

/// The calls of some processes.
pub(super) struct Counts(PathBuf);

impl SharedStore {
    /// Compiles the library.
    pub(super) fn new(folder: &Path, store: &Path, delay: Duration) -> SharedStore {
        let (source, library) = (folder.join("shared_store.c"), folder.join("shared_store.so"));
        fs::write(&source, include_str!("shared_store.c")).unwrap();
        let mut compiler = Command::new("cc");
        succeed(compiler.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl"));
        SharedStore { library, store: store.to_path_buf(), delay }
    }

    /// Returns the variables of the environment of processes whose calls are added to `counts`.
    pub(super) fn variables(&self, counts: &Counts) -> [(&'static str, String); 4] {
        let text = |path: &Path| path.to_str().expect("the path is UTF-8").to_string();
        [
            ("LD_PRELOAD", text(&self.library)),
            ("SHARED_STORE", text(&self.store)),
            ("SHARED_STORE_COUNTS", text(&counts.0)),
            ("SHARED_STORE_DELAY", self.delay.as_micros().to_string()),
        ]
    }
}

impl Counts {
    /// Creates a file of numbers that are zero.
    pub(super) fn new(path: PathBuf) -> Counts {
        fs::write(&path, [0; 8 * (KINDS.len() + 1)]).unwrap();
        Counts(path)
    }

    /// Returns the number of calls of each kind so far.
    pub(super) fn calls(&self) -> BTreeMap<&'static str, u64> {
        KINDS.into_iter().zip(self.numbers()).collect()
    }

    /// Returns the number of bytes that were read so far.
    pub(super) fn bytes_read(&self) -> u64 {
        self.numbers()[KINDS.len()]
    }

    fn numbers(&self) -> Vec<u64> {
        let bytes = fs::read(&self.0).unwrap();
        bytes.chunks(8).map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap())).collect()
    }
}
