//! The local launcher: the worker as a child of this process.

use std::path::Path;

use tokio::process::Command;

use super::slots::Seat;
use super::{Options, gpus};

/// A worker on one run. It stops by itself, with a checkpoint, when this process dies: its standard input is then closed.
pub(crate) fn command(options: &Options, seat: &Seat, run: &Path, launch: &str) -> Command {
    let mut command = Command::new(&options.worker);
    command
        .args(options.worker_arguments(run, launch))
        .env("OMP_NUM_THREADS", options.threads.to_string())
        .envs(seat.parts[0].gpu_variables(gpus::have_mps()));
    command
}
