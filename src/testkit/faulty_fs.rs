//! Mounts of a file system that fails on request (`tests/shared_store/faulty_fs.c`). Only for root.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use super::{program, stdout, succeed, wait_for};

/// A mount of a folder: two mounts of one folder are two clients of one server. It is unmounted when it is dropped.
pub struct FaultyFs {
    /// Holds the mount until its standard input is closed, which also happens when the test is killed.
    holder: Child,
    mountpoint: PathBuf,
}

impl FaultyFs {
    /// Mounts a folder at a new directory; returns `None`, with a message, if this user or machine cannot.
    pub fn mount(folder: &Path, mountpoint: &Path) -> Option<FaultyFs> {
        if !rustix::process::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
            eprintln!("not tested: only root can mount file systems, on a machine with /dev/fuse");
            return None;
        }
        fs::create_dir_all(folder).unwrap();
        fs::create_dir(mountpoint).unwrap();
        let holder = Command::new(compiled()).args([folder, mountpoint]).stdin(Stdio::piped()).spawn().unwrap();
        let mount = FaultyFs { holder, mountpoint: mountpoint.to_path_buf() };
        wait_for("the mount", || mount.control().exists().then_some(()));
        Some(mount)
    }

    /// Returns a path in the mount.
    pub fn path(&self, name: &str) -> PathBuf {
        self.mountpoint.join(name)
    }

    /// Changes a setting: see the head of the program.
    pub fn set(&self, key: &str, value: i64) {
        fs::write(self.control(), format!("{key} {value}\n")).unwrap_or_else(|error| panic!("{key}: {error}"));
    }

    /// Returns the number of operations of each kind that have reached the folder.
    pub fn operations(&self) -> BTreeMap<String, u64> {
        let text = fs::read_to_string(self.control()).unwrap();
        let counts = text.lines().map(|line| line.split_once(' ').unwrap());
        counts.map(|(operation, count)| (operation.to_string(), count.parse().unwrap())).collect()
    }

    fn control(&self) -> PathBuf {
        self.path(".control")
    }
}

impl Drop for FaultyFs {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// Returns the path of the program, which is compiled once in each process.
fn compiled() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/shared_store/faulty_fs.c");
        let compiled = program("winsign").with_file_name("faulty_fs");
        let draft = compiled.with_extension(std::process::id().to_string());
        let flags = Command::new("pkg-config").args(["--cflags", "--libs", "fuse3"]).output();
        let flags = flags.expect("pkg-config is missing; help: run launch/packages fuse");
        assert!(flags.status.success(), "libfuse3 is missing; help: run launch/packages fuse");
        let flags = stdout(&flags);
        succeed(Command::new("cc").args(["-O2", "-Wall", "-o"]).arg(&draft).arg(source).args(flags.split_whitespace()));
        fs::rename(&draft, &compiled).unwrap();
        compiled
    })
}
