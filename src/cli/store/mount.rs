//! The mount that holds a directory, and what is known of file systems and mount options.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use winsign_core::disk;

use super::finding::{Finding, Verdict};

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mount {
    /// The type, such as `nfs4`.
    pub(super) kind: String,
    pub(super) source: String,
    pub(super) point: PathBuf,
    /// The options of the mount and of the file system.
    pub(super) options: Vec<String>,
}

impl Mount {
    /// Returns the mount that holds a directory, as far as this process can see it.
    pub(super) fn holding(directory: &Path) -> Option<Mount> {
        let directory = disk::persist(directory, || fs::canonicalize(directory)).ok()?;
        holding(&directory, &fs::read_to_string("/proc/self/mountinfo").ok()?)
    }

    /// Returns the value of an option, which is empty if it has none; `None` if it is not set.
    fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find_map(|option| match option.split_once('=') {
            Some((key, value)) => (key == name).then_some(value),
            None => (option == name).then_some(""),
        })
    }

    /// Returns the number of seconds that an option has.
    fn seconds(&self, name: &str) -> Option<u64> {
        self.option(name)?.parse().ok()
    }
}

/// Returns the last mount of those with the longest path, which hides the others.
fn holding(directory: &Path, mounts: &str) -> Option<Mount> {
    let mounts = mounts.lines().filter_map(parse).filter(|mount| directory.starts_with(&mount.point));
    mounts.max_by_key(|mount| mount.point.components().count())
}

/// Parses a line such as `36 35 98:0 / /mnt rw,noatime shared:1 - ext3 /dev/root rw`.
fn parse(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mount: Vec<&str> = mount.split(' ').collect();
    let (point, of_mount) = (mount.get(4)?, mount.get(5)?);
    let file_system: Vec<&str> = file_system.splitn(3, ' ').collect();
    let &[kind, source, of_file_system] = file_system.as_slice() else { return None };
    let mut options: Vec<String> = of_mount.split(',').map(str::to_string).collect();
    for option in of_file_system.split(',').filter(|option| !of_mount.split(',').any(|other| other == *option)) {
        options.push(option.to_string());
    }
    let (kind, source) = (kind.to_string(), unescape(source).to_string_lossy().into_owned());
    Some(Mount { kind, source, point: unescape(point).into(), options })
}

/// Replaces octal escapes such as `\040`.
fn unescape(text: &str) -> OsString {
    let bytes = text.as_bytes();
    let (mut plain, mut at) = (vec![], 0);
    while at < bytes.len() {
        let digits = text.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 4;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    OsString::from_vec(plain)
}

const CHECK: &str = "file system";

/// The longest time for which a client may use what it knows without slowing studies down.
const MAX_CACHE: u64 = 60;

/// Judges a mount by its type and its options.
pub(super) fn judge(mount: Option<&Mount>) -> Finding {
    let Some(mount) = mount else { return Finding::fine(CHECK, "its type is not known on this node") };
    let (kind, options) = (&mount.kind, mount.options.join(","));
    let text = format!("{kind} at {} ({options})", mount.point.display());
    let finding = match weakness(mount) {
        Some((verdict, weakness, help)) => Finding::poor(verdict, CHECK, format!("{text}: {weakness}"), help),
        None => Finding::fine(CHECK, text),
    };
    finding.measuring(mount)
}

/// Returns the worst weakness that is known of a file system and its options, and what helps.
fn weakness(mount: &Mount) -> Option<(Verdict, &'static str, &'static str)> {
    if mount.option("ro").is_some() {
        return Some((Verdict::Unfit, "it is mounted read-only", "choose another directory, or mount it with rw"));
    }
    match mount.kind.as_str() {
        "nfs" | "nfs4" => weakness_of_nfs(mount),
        "tmpfs" | "ramfs" => Some((
            Verdict::Risky,
            "its files are in memory and are lost when the node restarts",
            "choose a directory on a disk",
        )),
        "overlay" => Some((
            Verdict::Risky,
            "it is the file system of a container, and may be deleted with it",
            "choose a directory that is mounted from outside of the container",
        )),
        "fuse.sshfs" => Some((
            Verdict::Slow,
            "each operation takes a round trip of ssh",
            "execute runs where the directory is, with --ssh LOGIN",
        )),
        "cifs" | "smb3" if mount.option("cache") == Some("loose") => {
            Some((Verdict::Risky, "with `cache=loose` nodes may read old content", "mount it with cache=strict"))
        }
        _ => None,
    }
}

fn weakness_of_nfs(mount: &Mount) -> Option<(Verdict, &'static str, &'static str)> {
    let latest = ["acdirmax", "acregmax", "actimeo"].iter().filter_map(|name| mount.seconds(name)).max();
    if mount.option("soft").is_some() {
        let weakness = "with `soft` an operation fails, and data may be lost, if the server does not respond in time";
        return Some((Verdict::Risky, weakness, "mount it with hard"));
    }
    if latest.is_some_and(|seconds| seconds > MAX_CACHE) {
        let weakness = "nodes see changes by others late";
        return Some((Verdict::Slow, weakness, "mount it with the defaults of acregmax and acdirmax, or less"));
    }
    let asks_always =
        mount.option("noac").is_some() || mount.option("lookupcache") == Some("none") || latest == Some(0);
    asks_always.then_some((
        Verdict::Slow,
        "each look at a file asks the server; winsign does not need that",
        "mount it with the default of actimeo and lookupcache",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
40 27 0:40 / /scratch rw,relatime shared:7 - nfs4 server:/export/my\\040data rw,vers=4.2,hard
41 27 0:41 / /my\\040disk ro - xfs /dev/vdb rw
42 27 0:42 / /my\\040disk rw - tmpfs tmpfs rw
";

    #[test]
    fn directory_is_held_by_the_last_mount_with_the_longest_path() {
        let kind = |path: &str| holding(Path::new(path), MOUNTS).unwrap().kind;
        assert_eq!(kind("/scratch/me"), "nfs4");
        assert_eq!(kind("/scratchy"), "ext4");
        assert_eq!(kind("/my disk/results"), "tmpfs");
        let mount = holding(Path::new("/scratch"), MOUNTS).unwrap();
        assert_eq!(mount.source, "server:/export/my data");
        assert_eq!(mount.options, ["rw", "relatime", "vers=4.2", "hard"]);
    }

    #[test]
    fn options_that_hurt_are_named() {
        let verdict = |kind: &str, options: &str| {
            let line = format!("1 1 0:1 / /store rw - {kind} source {options}");
            judge(parse(&line).as_ref()).verdict
        };
        assert_eq!(verdict("nfs4", "rw,hard,acdirmax=60,local_lock=none"), Verdict::Fine);
        assert_eq!(verdict("nfs", "rw,hard,nolock"), Verdict::Fine, "winsign uses no locks of files");
        assert_eq!(verdict("nfs4", "rw,soft,noac"), Verdict::Risky);
        assert_eq!(verdict("nfs4", "rw,hard,noac"), Verdict::Slow);
        assert_eq!(verdict("nfs4", "rw,hard,acregmax=600"), Verdict::Slow);
        assert_eq!(verdict("tmpfs", "rw"), Verdict::Risky);
        assert_eq!(verdict("ext4", "ro"), Verdict::Unfit);
    }
}
