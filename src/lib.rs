//! winsign finds winning signs: it prunes networks iteratively, hands their signed masks to many random
//! initializations, and measures how the solutions connect, as sweeps of many runs.
//!
//! Two programs share this library. `winsign` plans, launches and reports ([`study`]); `winsign-worker` executes one
//! run directory ([`trainer`], behind the `worker` feature). They meet in [`run`]: a directory on disk, and an exit
//! status. See `ARCHITECTURE.md` for the house on one page.

pub mod run;
pub mod study;
#[cfg(feature = "worker")]
pub mod trainer;
