//! The local launcher: the worker as a child of this process.

use std::path::Path;

use tokio::process::Command;

use super::slots::Seat;
use super::{Options, gpus};

/// Returns the command of a worker for one run. When this process exits, the standard input of the worker is closed, and it
/// saves a checkpoint and stops.
pub(crate) fn command(options: &Options, seat: &Seat, run: &Path, launch: &str) -> Command {
    let mut command = Command::new(&options.worker);
    command
        .args(options.worker_arguments(run, launch))
        .env("OMP_NUM_THREADS", options.threads.to_string())
        .envs(seat.parts[0].gpu_variables(gpus::have_mps()));
    command
}
