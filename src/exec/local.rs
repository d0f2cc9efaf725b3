//! The local launcher: the worker as a child of this process.

use std::path::Path;

use rustix::process::Signal;
use tokio::process::Command;

use super::launcher::{Launcher, Output, Placement};
use super::slots::Seat;
use super::{Options, gpus};

/// Starts the worker on this machine, with one rank per run. When this process exits, the standard input of the worker is
/// closed, and it saves a checkpoint and stops.
#[derive(Debug)]
pub struct Local;

impl Launcher for Local {
    fn program(&self) -> Option<&Path> {
        None
    }

    fn placement(&self) -> Placement {
        Placement::Here
    }

    fn command(&self, options: &Options, seat: &Seat, run: &Path, launch: &str) -> Command {
        let mut command = Command::new(&options.worker);
        command
            .args(options.worker_arguments(run, launch))
            .env("OMP_NUM_THREADS", options.threads.to_string())
            .envs(seat.parts[0].gpu_variables(gpus::have_mps()));
        command
    }

    fn read(&self, stderr: Vec<String>) -> Output {
        Output { ranks: stderr, ..Output::default() }
    }

    fn stop_signal(&self, stops: u32) -> Signal {
        if stops == 0 { Signal::TERM } else { Signal::KILL }
    }
}
