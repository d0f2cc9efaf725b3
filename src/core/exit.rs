//! Exit codes of both programs. The numbers from 65 up are those of BSD's `sysexits.h`.

/// Everything asked for was done.
pub const SUCCESS: u8 = 0;
/// The run failed (a loss became NaN, say), or something unexpected happened.
pub const FAILURE: u8 = 1;
/// The command line, the sweep file or the run directory asks for something that cannot be. Nothing was computed.
pub const USAGE: u8 = 2;
/// `winsign run`: some runs failed, or are blocked by failed ones; all others are done. `winsign merge`: some runs were
/// not taken over, because the stores contradict each other or files are damaged; all others were. `winsign digest --check`:
/// some numbers differ or are missing.
pub const RUNS_FAILED: u8 = 3;
/// A file of an input run is damaged, which has to be computed again first; or files of a data set cannot be used.
pub const DAMAGED_INPUT: u8 = 65;
/// `winsign-worker`: another attempt at this run is alive, or has taken over from this one.
pub const HELD: u8 = 69;
/// `winsign-worker`: one of several ranks died, hangs or is cut off; all have ended. The checkpoint says where to go on.
pub const RANK_LOST: u8 = 71;
/// The store, or a data set, cannot be read or written (full disk, read-only file system, lost mount).
pub const IO: u8 = 74;
/// Stopped before the end, everything is saved: run the same command again to go on.
pub const INTERRUPTED: u8 = 75;
