//! The activity of the main thread of this process, which the watch observes.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

// Globals suffice, because a process computes one run on one thread.
static ENTERED: AtomicU64 = AtomicU64::new(0);
static MOVED: AtomicU64 = AtomicU64::new(0);
static INSIDE: AtomicBool = AtomicBool::new(false);
static SLOW: AtomicU32 = AtomicU32::new(0);

/// The activity of a main thread at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pulse {
    /// The number of exchanges between ranks that the thread has entered.
    pub entered: u64,
    /// The number of other signs of progress: batches begun, and parts of an exchange sent or received.
    pub moved: u64,
    pub activity: Activity,
}

/// The kind of activity of a main thread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Activity {
    /// The thread computes.
    Work,
    /// The thread is in an exchange, where it waits for other ranks.
    Wait,
    /// The thread does something that may take any time, such as reading files.
    Slow,
}

/// Returns the activity of the main thread.
pub fn read() -> Pulse {
    let activity = if SLOW.load(Ordering::Relaxed) > 0 {
        Activity::Slow
    } else if INSIDE.load(Ordering::Relaxed) {
        Activity::Wait
    } else {
        Activity::Work
    };
    Pulse { entered: ENTERED.load(Ordering::Relaxed), moved: MOVED.load(Ordering::Relaxed), activity }
}

/// A guard of an exchange, which ends when the guard is dropped.
#[must_use]
#[cfg(feature = "mpi")]
pub struct Exchange(());

/// Records that the main thread enters an exchange.
#[cfg(feature = "mpi")]
pub fn enter() -> Exchange {
    ENTERED.fetch_add(1, Ordering::Relaxed);
    INSIDE.store(true, Ordering::Relaxed);
    Exchange(())
}

#[cfg(feature = "mpi")]
impl Drop for Exchange {
    fn drop(&mut self) {
        INSIDE.store(false, Ordering::Relaxed);
    }
}

/// Records that the main thread has begun another batch, or done a part of an exchange.
pub fn moved() {
    MOVED.fetch_add(1, Ordering::Relaxed);
}

/// Calls `work`, which may take any time, such as reading files, and for which other ranks wait without limit.
pub fn slowly<T>(work: impl FnOnce() -> T) -> T {
    SLOW.fetch_add(1, Ordering::Relaxed);
    let done = work();
    SLOW.fetch_sub(1, Ordering::Relaxed);
    done
}
