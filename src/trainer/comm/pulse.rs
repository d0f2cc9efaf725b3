//! What this process's main thread is doing, for the watch.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

// A process computes one run on one thread, so there is one of each.
static ENTERED: AtomicU64 = AtomicU64::new(0);
static BATCHES: AtomicU64 = AtomicU64::new(0);
static SLOW: AtomicU32 = AtomicU32::new(0);

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pulse {
    /// Exchanges between ranks that it has come to.
    pub entered: u64,
    /// Batches it has begun.
    pub batches: u64,
    /// Whether it does something that may take any time.
    pub slow: bool,
}

pub fn read() -> Pulse {
    Pulse {
        entered: ENTERED.load(Ordering::Relaxed),
        batches: BATCHES.load(Ordering::Relaxed),
        slow: SLOW.load(Ordering::Relaxed) > 0,
    }
}

/// It has come to an exchange.
#[cfg(feature = "mpi")]
pub fn enter() {
    ENTERED.fetch_add(1, Ordering::Relaxed);
}

/// It has begun another batch.
pub fn batch() {
    BATCHES.fetch_add(1, Ordering::Relaxed);
}

/// Does something that others may have to wait for any time, such as reading files.
pub fn slowly<T>(work: impl FnOnce() -> T) -> T {
    SLOW.fetch_add(1, Ordering::Relaxed);
    let done = work();
    SLOW.fetch_sub(1, Ordering::Relaxed);
    done
}
