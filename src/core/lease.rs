//! Leases: short-lived locks on a file system that nodes share. A lease is a file that names its holder.
//!
//! Leases need an exclusive create and a rename, which NFS has. A holder that ended without releasing the lease is
//! detected like the owner of an attempt: by the process table on the same machine, and by a missing heartbeat on
//! another one.

use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use super::files;
use super::owner::{self, Owner};

/// A lease, which this process holds until it is dropped, as long as [`Lease::keep`] is called regularly.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
}

impl Lease {
    /// Renews the lease, which must be done at least every [`owner::HEARTBEAT`]; returns false if another process has taken
    /// the lease over.
    pub fn keep(&self) -> bool {
        let touched =
            || std::fs::File::options().append(true).open(&self.path)?.set_modified(std::time::SystemTime::now());
        self.is_ours() && touched().is_ok()
    }

    fn is_ours(&self) -> bool {
        files::read_sealed::<Owner>(&self.path).is_ok_and(|holder| holder == Some(Owner::this_process()))
    }
}

/// Takes the lease, or returns its holder.
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
            || owner::silence(path, owner::Clock::new(folder).now()).is_some_and(|silence| silence >= owner::SILENCE);
        let is_stale = holder.is_running_here().map_or_else(silent, |running| !running);
        if !is_stale {
            return Ok(Err(holder));
        }
        // The process that renames the file first may take the lease. A process that is late may rename the new lease
        // instead of the stale one; it finds that out from the content, and puts the new lease back.
        let stale = path.with_extension(format!("stale-{}-{}", owner::host(), std::process::id()));
        if std::fs::rename(path, &stale).is_ok() {
            let renamed: Option<Owner> = files::read_sealed(&stale).ok().flatten();
            if renamed.is_some_and(|renamed| renamed != holder) {
                let _ = std::fs::hard_link(&stale, path);
            }
            files::remove_if_exists(&stale)?;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A file that stays would count as stale only once this process has ended.
        if self.is_ours() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_has_one_holder_and_stale_leases_are_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sending");
        let lease = take(&path).unwrap().unwrap();
        assert_eq!(take(&path).unwrap().unwrap_err(), Owner::this_process());
        assert!(lease.keep());
        drop(lease);
        files::create_exclusive(&path, &files::seal(&Owner::ended())).unwrap();
        let lease = take(&path).unwrap().unwrap();
        assert!(take(&path).unwrap().is_err());
        drop(lease);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn lease_of_another_machine_is_taken_over_after_the_heartbeat_timeout() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sending");
        files::create_exclusive(&path, &files::seal(&Owner::elsewhere())).unwrap();
        assert_eq!(take(&path).unwrap().unwrap_err(), Owner::elsewhere());
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::SystemTime::now() - 2 * owner::SILENCE).unwrap();
        assert!(take(&path).unwrap().is_ok());
    }

    #[test]
    fn dropped_lease_of_another_process_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sending");
        let lease = take(&path).unwrap().unwrap();
        files::write_atomic(&path, &files::seal(&Owner::elsewhere())).unwrap();
        assert!(!lease.keep());
        drop(lease);
        assert!(path.exists());
    }
}
