//! What this process's main thread is doing, for the watch.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

// A process computes one run on one thread, so there is one of each.
static ENTERED: AtomicU64 = AtomicU64::new(0);
static MOVED: AtomicU64 = AtomicU64::new(0);
static INSIDE: AtomicBool = AtomicBool::new(false);
static SLOW: AtomicU32 = AtomicU32::new(0);

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pulse {
    /// Exchanges between ranks that it has come to.
    pub entered: u64,
    /// Other signs of life: batches it has begun, pieces that it has sent or received.
    pub moved: u64,
    pub doing: Doing,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Doing {
    Work,
    /// It is in an exchange, where it waits for others.
    Wait,
    /// Something that may take any time.
    Slow,
}

pub fn read() -> Pulse {
    let doing = if SLOW.load(Ordering::Relaxed) > 0 {
        Doing::Slow
    } else if INSIDE.load(Ordering::Relaxed) {
        Doing::Wait
    } else {
        Doing::Work
    };
    Pulse { entered: ENTERED.load(Ordering::Relaxed), moved: MOVED.load(Ordering::Relaxed), doing }
}

/// An exchange that the main thread is in until this is dropped.
#[must_use]
#[cfg(feature = "mpi")]
pub struct Inside(());

/// It has come to an exchange.
#[cfg(feature = "mpi")]
pub fn enter() -> Inside {
    ENTERED.fetch_add(1, Ordering::Relaxed);
    INSIDE.store(true, Ordering::Relaxed);
    Inside(())
}

#[cfg(feature = "mpi")]
impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.store(false, Ordering::Relaxed);
    }
}

/// It has begun another batch, or done a part of an exchange.
pub fn moved() {
    MOVED.fetch_add(1, Ordering::Relaxed);
}

/// Does something that others may have to wait for any time, such as reading files.
pub fn slowly<T>(work: impl FnOnce() -> T) -> T {
    SLOW.fetch_add(1, Ordering::Relaxed);
    let done = work();
    SLOW.fetch_sub(1, Ordering::Relaxed);
    done
}
