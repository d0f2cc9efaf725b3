//! Leases: short-lived locks on a file system that nodes share. A lease is a file that names its holder.
//!
//! Leases need an exclusive create and a rename, which NFS has. A holder that ended without releasing the lease is
//! detected like the owner of an attempt: by the process table on the same machine, and by a missing heartbeat on
//! another one.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;

use super::disk;
use super::error::{Error, Result};
use super::files;
use super::owner::{self, Owner};

/// A lease, which this process holds until it is dropped.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    heartbeat: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Lease {
    fn new(path: &Path) -> Lease {
        let (stop, stopped) = mpsc::channel();
        let file = path.to_path_buf();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(owner::heartbeat()) == Err(RecvTimeoutError::Timeout) {
                // A missed heartbeat does no harm.
                let _ = beat(&file);
            }
        });
        Lease { path: path.to_path_buf(), heartbeat: Some((stop, thread)) }
    }

    /// Returns true if no other process has taken the lease over, for example while this one was stopped.
    pub fn is_ours(&self) -> bool {
        files::read_sealed::<Owner>(&self.path).is_ok_and(|holder| holder == Some(Owner::this_process()))
    }
}

/// Changes the file of a lease without changing what it says.
fn beat(path: &Path) -> std::io::Result<()> {
    File::options().append(true).open(path)?.write_all(b"\n")
}

/// Takes the lease, or returns its holder.
pub fn take(path: &Path) -> Result<std::result::Result<Lease, Owner>> {
    let us = Owner::this_process();
    loop {
        if files::create_exclusive(path, &files::seal(&us))? {
            return Ok(Ok(Lease::new(path)));
        }
        let holder: Owner = match files::read_sealed(path) {
            Ok(Some(holder)) => holder,
            Ok(None) => continue,
            Err(Error::Damaged { .. }) => Owner::unknown(),
            Err(error) => return Err(error),
        };
        let is_stale = match holder.is_running_here() {
            Some(running) => !running,
            None => is_silent(path)? && owner::is_lost(path)?,
        };
        if !is_stale {
            return Ok(Err(holder));
        }
        // The process that renames the file first may take the lease. A process that is late may rename the new lease
        // instead of the stale one; it finds that out from the content, and puts the new lease back.
        let stale = path.with_extension(format!("stale-{}-{}", owner::host(), std::process::id()));
        if files::rename_if_exists(path, &stale)? {
            let renamed: Option<Owner> = files::read_sealed(&stale).ok().flatten();
            if renamed.is_some_and(|renamed| renamed != holder) {
                let _ = std::fs::hard_link(&stale, path);
            }
            files::remove_if_exists(&stale)?;
        }
    }
}

/// Returns true if the holder of a lease may be lost, as far as the times of files tell.
fn is_silent(path: &Path) -> Result<bool> {
    let now = owner::Clock::new(disk::directory_of(path)).now();
    Ok(owner::silence(path, now)?.is_some_and(|silence| silence >= owner::lost_after()))
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.heartbeat.take() {
            drop(stop);
            let _ = thread.join();
        }
        // A file that stays would count as stale only once this process has ended.
        if self.is_ours() {
            let _ = disk::remove(&self.path);
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
        assert!(lease.is_ours());
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
        file.set_modified(std::time::SystemTime::now() - 2 * owner::lost_after()).unwrap();
        assert!(take(&path).unwrap().is_ok());
    }

    #[test]
    fn dropped_lease_of_another_process_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sending");
        let lease = take(&path).unwrap().unwrap();
        files::write_atomic(&path, &files::seal(&Owner::elsewhere())).unwrap();
        assert!(!lease.is_ours());
        drop(lease);
        assert!(path.exists());
    }
}
