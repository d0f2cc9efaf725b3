//! Exit codes of both programs. The numbers from 65 up are those of BSD's `sysexits.h`.

/// Everything that was requested was done.
pub const SUCCESS: u8 = 0;
/// The run failed (a loss became NaN, for example), or an unexpected error occurred.
pub const FAILURE: u8 = 1;
/// The command line, the sweep file or the run directory is invalid. Nothing was computed.
pub const USAGE: u8 = 2;
/// `winsign run`: some runs failed, or are blocked by failed ones; all others are done. `winsign merge`: some runs were
/// not merged, because the stores contradict each other or files are damaged; all others were. `winsign digest
/// --check`: some numbers differ or are missing.
pub const RUNS_FAILED: u8 = 3;
/// A file of an input run is damaged, so that the input must be computed again first; or files of a data set cannot be
/// used.
pub const DAMAGED_INPUT: u8 = 65;
/// `winsign-worker`: another attempt at this run is alive, or has taken over from this one.
pub const HELD: u8 = 69;
/// `winsign-worker`: a rank exited, hangs or cannot be reached, and all other ranks have stopped. The run can be
/// resumed from its checkpoint.
pub const RANK_LOST: u8 = 71;
/// The store, or a data set, cannot be read or written (full disk, read-only file system, lost mount).
pub const IO: u8 = 74;
/// The program was interrupted and has saved everything. The same command resumes.
pub const INTERRUPTED: u8 = 75;
