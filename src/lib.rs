//! winsign finds winning signs: it prunes networks iteratively, hands their signed masks to many random
//! initializations, and measures how the solutions connect, as sweeps of many runs.
//!
//! This library is all of the program `winsign`, which plans, launches and reports ([`study`]), and the part it shares
//! with `winsign-worker`: what a run is and where it lies on disk ([`run`]). The worker's own part, `src/trainer/`,
//! belongs to that program alone: nothing here can come to need libtorch. See `ARCHITECTURE.md`.

#[cfg(feature = "data")]
pub mod data;
#[cfg(feature = "data")]
pub mod random;
pub mod run;
pub mod study;
