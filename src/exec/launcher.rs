//! What starts the ranks of a run. Each launcher is one file with a type that implements [`Launcher`].

use std::fmt;
use std::path::Path;

use rustix::process::Signal;
use tokio::process::Command;

use super::Options;
use super::slots::Seat;

/// Starts the ranks of a run.
pub trait Launcher: fmt::Debug + Send + Sync {
    /// Returns the program that is started, for errors.
    fn program<'o>(&self, options: &'o Options) -> &'o Path;

    /// Returns the command that executes one run on its slots. Its workers get the token `launch`, and stop with a checkpoint
    /// when the standard input of the command closes.
    fn command(&self, options: &Options, seat: &Seat, run: &Path, launch: &str) -> Command;

    /// Separates the lines that ranks wrote to standard error from those of the launcher.
    fn read(&self, stderr: Vec<String>) -> Output;

    /// Returns what is at fault if a launch fails before a rank has claimed the run.
    fn fault(&self) -> Fault;

    /// Returns the signal that stops the run, after `stops` earlier ones: the first lets workers save checkpoints.
    fn stop_signal(&self, stops: u32) -> Signal {
        match stops {
            // Launchers pass this one on to their ranks; at SIGTERM they kill the ranks.
            0 => Signal::USR1,
            1 => Signal::TERM,
            _ => Signal::KILL,
        }
    }
}

/// The standard error of a launch.
#[derive(Debug, Default)]
pub struct Output {
    /// The lines of ranks.
    pub ranks: Vec<String>,
    /// Why the launch failed, in the words of the launcher; empty if it printed nothing.
    pub reason: String,
    /// Whether the launcher killed ranks for lack of memory.
    pub memory_ran_out: bool,
}

/// What is at fault if a launch fails before a rank has claimed the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The program is the worker itself, and does not start.
    Worker,
    /// The hosts of the slots: others may do.
    Hosts,
    /// The scheduler, which may start the next step.
    Scheduler,
}
