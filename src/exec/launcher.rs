//! The seam for programs that start the ranks of a run. Each launcher is one file with a type that implements [`Launcher`], and one line in
//! `LAUNCHERS`.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal;
use tokio::process::Command;
use winsign_core::Diagnostic;
use winsign_sweep::yaml::{listed, nearest, quoted};

use super::Options;
use super::local::Local;
use super::mpirun::Mpirun;
use super::slots::Seat;
use super::srun::{self, Srun};
use super::template::Template;

/// The launchers that profiles and `--launcher` can name. Every other text is a command, see [`Template`].
#[rustfmt::skip]
const LAUNCHERS: &[Known] = &[
    Known { name: "srun", starts: "a step of the job", make: |wanted| Arc::new(Srun::new(wanted)) },
    Known { name: "mpirun", starts: "OpenMPI", make: |_| Arc::new(Mpirun) },
    Known { name: "direct", starts: "nothing; a run is one process", make: |_| Arc::new(Local) },
];

struct Known {
    name: &'static str,
    /// Describes what it starts, in a few words.
    starts: &'static str,
    make: fn(&Wanted) -> Arc<dyn Launcher>,
}

/// Starts the ranks of a run.
pub trait Launcher: fmt::Debug + Send + Sync {
    /// Returns the program that starts the ranks; `None` if the worker itself is started.
    fn program(&self) -> Option<&Path>;

    /// Returns who chooses where ranks run.
    fn placement(&self) -> Placement;

    /// Returns the command that executes one run on its slots. Its workers get the token `launch`, and stop with a checkpoint
    /// when the standard input of the command closes.
    fn command(&self, options: &Options, seat: &Seat, run: &Path, launch: &str) -> Command;

    /// Separates the lines that ranks wrote to standard error from those of the launcher.
    fn read(&self, stderr: Vec<String>) -> Output;

    /// Returns true if the launcher uses [`Wanted::mpi`].
    fn uses_mpi_kind(&self) -> bool {
        false
    }

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

/// Where ranks run, which decides what is at fault if a launch fails before a rank has claimed the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// On this machine. The worker does not start.
    Here,
    /// On the hosts of the slots. Others may do.
    Hosts,
    /// Where the launcher puts them, such as on free nodes of its job. It may start the next run.
    Launcher,
}

/// The standard error of a launch.
#[derive(Debug, Default)]
pub struct Output {
    /// The lines of ranks.
    pub ranks: Vec<String>,
    /// Why the launch failed, in the words of the launcher; empty if it printed nothing.
    pub reason: String,
    /// True if the launcher killed ranks for lack of memory.
    pub memory_ran_out: bool,
}

/// The requirements of runs for a launcher.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Ranks per run.
    pub ranks: u32,
    /// The maximum number of ranks of a run on one node.
    pub ranks_per_node: u32,
    /// GPUs per rank.
    pub gpus: Option<f64>,
    /// The kind of MPI that `srun` starts.
    pub mpi: &'a str,
}

/// Checks that a text names or describes a launcher, and returns it for runs of one rank.
pub fn check(text: &str) -> Result<Arc<dyn Launcher>, Diagnostic> {
    named(text, &Wanted { ranks: 1, ranks_per_node: 1, gpus: None, mpi: srun::DEFAULT_MPI })
}

/// Returns the launcher that a text names or describes.
pub fn named(text: &str, wanted: &Wanted) -> Result<Arc<dyn Launcher>, Diagnostic> {
    if Template::is_command(text) {
        return Ok(Arc::new(Template::parse(text)?.with_gpus(wanted.gpus)));
    }
    let Some(known) = LAUNCHERS.iter().find(|known| known.name == text) else {
        let names = LAUNCHERS.iter().map(|known| known.name);
        let help = match nearest(text, names.clone()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("the launchers are {}; or give a command with `{{ranks}}`", listed(names)),
        };
        return Err(Diagnostic::new(format!("there is no launcher {}", quoted(text)), help));
    };
    let launcher = (known.make)(wanted);
    if launcher.placement() == Placement::Here && wanted.ranks > 1 {
        let message = format!("cannot start runs of {} ranks: `{text}` starts one process per run", wanted.ranks);
        return Err(Diagnostic::new(message, "choose the launcher `srun` or `mpirun`, or one rank per run"));
    }
    Ok(launcher)
}

/// Returns the launchers and what they start, for texts of help.
pub fn describe() -> String {
    LAUNCHERS.iter().map(|known| format!("`{}` ({})", known.name, known.starts)).collect::<Vec<_>>().join(", ")
}
