//! A lock for a short time, on a file system that nodes share: a file that names who holds it.
//!
//! It needs an exclusive create and a rename, nothing that NFS lacks. A holder that died is found out as that of an attempt
//! is: by the process table on the same machine, and by silence from another one.

use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use super::files;
use super::owner::{self, Owner};

/// Held until it is dropped, as long as it is kept every now and then.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
}

impl Lease {
    /// Gives a sign of life, due at least every [`owner::HEARTBEAT`]; false if somebody has taken us for dead, and the lease.
    pub fn keep(&self) -> bool {
        let touched =
            || std::fs::File::options().append(true).open(&self.path)?.set_modified(std::time::SystemTime::now());
        self.is_ours() && touched().is_ok()
    }

    fn is_ours(&self) -> bool {
        files::read_sealed::<Owner>(&self.path).is_ok_and(|holder| holder == Some(Owner::this_process()))
    }
}

/// Takes the lease, or says who has it.
pub fn take(path: &Path) -> Result<std::result::Result<Lease, Owner>> {
    let us = Owner::this_process();
    loop {
        if files::create_exclusive(path, &files::seal(&us))? {
            return Ok(Ok(Lease { path: path.to_path_buf() }));
        }
        let holder: Owner = match files::read_sealed(path) {
            Ok(Some(holder)) => holder,
            Ok(None) => continue,
            Err(Error::Damaged { .. }) => Owner::unknown(),
            Err(error) => return Err(error),
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        let silent =
            || owner::silence(path, owner::Clock::of(folder).now()).is_some_and(|silence| silence >= owner::SILENCE);
        let dead = holder.is_running_here().map_or_else(silent, |lives| !lives);
        if !dead {
            return Ok(Err(holder));
        }
        // Whoever renames it first has buried it. That a second one buries the lease of the first, taken in the same instant, is
        // found out by looking at what was renamed.
        let grave = path.with_extension(format!("dead-{}-{}", owner::host(), std::process::id()));
        if std::fs::rename(path, &grave).is_ok() {
            let buried: Option<Owner> = files::read_sealed(&grave).ok().flatten();
            if buried.as_ref().is_some_and(|buried| *buried != holder) {
                let _ = std::fs::hard_link(&grave, path);
            }
            files::remove_if_exists(&grave)?;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Left behind it would count as dead once this process has ended.
        if self.is_ours() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_the_dead_do_not_hold() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sending");
        let lease = take(&path).unwrap().unwrap();
        assert_eq!(take(&path).unwrap().unwrap_err(), Owner::this_process());
        assert!(lease.keep());
        drop(lease);
        files::create_exclusive(&path, &files::seal(&Owner::dead())).unwrap();
        let lease = take(&path).unwrap().unwrap();
        assert!(take(&path).unwrap().is_err());
        drop(lease);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_holder_elsewhere_is_believed_until_it_is_silent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sending");
        files::create_exclusive(&path, &files::seal(&Owner::elsewhere())).unwrap();
        assert_eq!(take(&path).unwrap().unwrap_err(), Owner::elsewhere());
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::SystemTime::now() - 2 * owner::SILENCE).unwrap();
        assert!(take(&path).unwrap().is_ok());
    }

    #[test]
    fn what_somebody_else_has_taken_is_not_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sending");
        let lease = take(&path).unwrap().unwrap();
        files::write_atomic(&path, &files::seal(&Owner::elsewhere())).unwrap();
        assert!(!lease.keep());
        drop(lease);
        assert!(path.exists());
    }
}
