//! Ranks: the processes that compute one run together, each on its share of every batch.
//!
//! Everything here is collective: every rank calls the same functions in the same order. Ranks agree on an error of one
//! of them before all stop. A rank that breaks this rule, because it exits or hangs, is detected by the [`watch`].

#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
pub mod nccl;
pub mod pulse;
mod single;
#[cfg(test)]
pub mod threads;
mod watch;

use std::io::{self, Write};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, thread};

use tch::{Device, Tensor};

pub use single::Single;
pub use watch::Watch;
use winsign_core::{Diagnostic, exit, owner};

/// The time within which ranks must connect, from their start.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// The place of this process among the ranks of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub rank: usize,
    /// The number of ranks.
    pub ranks: usize,
}

impl Place {
    /// The place of the only rank.
    pub const ALONE: Place = Place { rank: 0, ranks: 1 };

    /// Returns true if this is the rank that reads and writes the run directory.
    pub fn is_root(self) -> bool {
        self.rank == 0
    }
}

/// A communicator of ranks. `single` has one rank; `mpi` exchanges everything between CPUs; `nccl` exchanges tensors
/// between GPUs, and uses `mpi` for the rest.
pub trait Comm {
    /// Returns the place of this rank.
    fn place(&self) -> Place;

    /// Replaces a contiguous tensor of 32- or 64-bit floats by its sum over all ranks, which is the same to the last
    /// bit on every rank.
    fn sum(&self, tensor: &mut Tensor);

    /// Returns the bytes of rank 0 on every rank; those of other ranks are ignored.
    fn broadcast(&self, bytes: Vec<u8>) -> Vec<u8>;

    /// Returns the bytes of all ranks, in the order of ranks, on every rank.
    fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>>;

    /// Returns the largest number of all ranks, on every rank.
    fn largest(&self, number: u64) -> u64;
}

/// The ranks of this run, and their watch.
pub struct Ranks {
    pub comm: Box<dyn Comm>,
    /// The watch; `None` if there is one rank.
    pub watch: Option<Watch>,
}

impl Ranks {
    /// Returns a single rank.
    pub fn alone() -> Ranks {
        Ranks { comm: Box::new(Single), watch: None }
    }

    /// Connects the devices of the ranks, so that tensors on `device`, the device of this rank, can be summed too.
    pub fn connect(&mut self, device: Device) -> crate::Result<()> {
        match device {
            Device::Cuda(gpu) if self.comm.place().ranks > 1 => self.connect_gpus(gpu),
            _ => Ok(()),
        }
    }

    #[cfg(feature = "nccl")]
    fn connect_gpus(&mut self, gpu: usize) -> crate::Result<()> {
        let id = nccl::share_id(&*self.comm)?;
        // This takes long if there are many ranks.
        let link = pulse::slowly(|| nccl::Link::new(id, self.comm.place(), gpu)).unwrap_or_else(|error| {
            // The other ranks wait for this one inside NCCL, so an exchange cannot inform them.
            let watch = self.watch.as_ref().expect("several ranks watch each other");
            watch.fail(exit::USAGE, &error.to_string())
        });
        let mpi = std::mem::replace(&mut self.comm, Box::new(Single));
        self.comm = Box::new(nccl::Nccl { mpi, link });
        Ok(())
    }

    #[cfg(not(feature = "nccl"))]
    fn connect_gpus(&mut self, _gpu: usize) -> crate::Result<()> {
        let message = "several ranks on GPUs need NCCL, without which this worker was built";
        Err(Diagnostic::new(message, "enable the feature nccl").into())
    }
}

/// Connects to the other ranks that a launcher started, unless `alone` is true. `wanted` is the number of ranks that there
/// must be, if it is known. `arguments` are the arguments that must be the same on all ranks.
pub fn join(alone: bool, wanted: Option<usize>, arguments: &str) -> Result<Ranks, Diagnostic> {
    let launcher = if alone { None } else { launcher()? };
    let Some(launcher) = launcher else {
        check_number(1, wanted)?;
        return Ok(Ranks::alone());
    };
    // The deadline holds until this is dropped, at the end of the function.
    let _deadline = start_deadline();
    let mut ranks = connect(launcher)?;
    check_number(ranks.comm.place().ranks, wanted)?;
    check_same(&*ranks.comm, arguments)?;
    ranks.watch = Watch::begin(&*ranks.comm).map_err(|reason| {
        Diagnostic::with_code(exit::USAGE, format!("cannot set up the watch of the ranks: {reason}"), None)
    })?;
    Ok(ranks)
}

/// Fails if there are other than the wanted ranks: ranks whose launcher does not connect them would each compute the whole
/// run, with other numbers.
fn check_number(found: usize, wanted: Option<usize>) -> Result<(), Diagnostic> {
    if wanted.is_none_or(|wanted| wanted == found) {
        return Ok(());
    }
    let wanted = wanted.unwrap_or_default();
    let message = format!("{wanted} ranks were to compute this run together, but this process is connected to {found}");
    Err(Diagnostic::new(
        message,
        "the launcher does not fit the MPI of winsign-worker: try another `mpi` in the profile, of those that \
         `srun --mpi=list` shows, or `launcher: mpirun`",
    ))
}

/// Ends this process unless the returned value is dropped in time: there is no watch before the ranks are connected.
fn start_deadline() -> mpsc::Sender<()> {
    let (connected, wait) = mpsc::channel();
    thread::spawn(move || {
        // Rank 0 reports the error for all ranks, if it can.
        let time = if seems_root() { CONNECT_TIMEOUT } else { CONNECT_TIMEOUT + Duration::from_secs(2) };
        if wait.recv_timeout(time) == Err(mpsc::RecvTimeoutError::Timeout) {
            let seconds = CONNECT_TIMEOUT.as_secs();
            let reason = "one was not started, hangs, or cannot be reached";
            print_message(&format!("the ranks have not connected within {seconds} s: {reason}"));
            watch::exit_now(exit::RANK_LOST);
        }
    });
    connected
}

/// Returns the launcher that started this process as one of several, if any.
fn launcher() -> Result<Option<&'static str>, Diagnostic> {
    let set = |name: &str| env::var_os(name).is_some();
    let variables =
        [("OMPI_COMM_WORLD_SIZE", "mpirun"), ("PMIX_RANK", "a launcher with PMIx"), ("PMI_RANK", "mpiexec")];
    if let Some((_, launcher)) = variables.into_iter().find(|(name, _)| set(name)) {
        return Ok(Some(launcher));
    }
    let tasks: u32 = env::var("SLURM_STEP_NUM_TASKS").ok().and_then(|tasks| tasks.parse().ok()).unwrap_or(1);
    match tasks > 1 && set("SLURM_PROCID") {
        true => Err(Diagnostic::new(
            format!("srun started {tasks} tasks that are not connected"),
            "use `srun --mpi=pmix`, or pass --alone to one task",
        )),
        false => Ok(None),
    }
}

/// Writes a message to standard error. An error is ignored, because the process that started this one may have ended.
/// The message is written in one piece, because launchers mix the output of ranks with their own.
pub fn print_message(message: &str) {
    let _ = io::stderr().write_all(format!("winsign-worker: {message}\n").as_bytes());
}

/// Returns true if this is rank 0 according to the variables of the launcher. Used to choose the rank that reports an
/// error before the ranks are connected.
pub fn seems_root() -> bool {
    let known = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"];
    known.into_iter().find_map(|name| env::var(name).ok()).is_none_or(|rank| rank == "0")
}

#[cfg(feature = "mpi")]
fn connect(_launcher: &'static str) -> Result<Ranks, Diagnostic> {
    let mpi = mpi::Mpi::start().expect("a process connects once");
    Ok(Ranks { comm: Box::new(mpi), watch: None })
}

#[cfg(not(feature = "mpi"))]
fn connect(launcher: &'static str) -> Result<Ranks, Diagnostic> {
    let message = format!("this winsign-worker was started by {launcher}, but was built without MPI");
    Err(Diagnostic::new(message, "build it with the feature mpi, or pass --alone"))
}

/// Fails unless all ranks run the same program with the same arguments: otherwise they would compute different things,
/// or wait for each other forever. The first record has a fixed length, so that at least this exchange is the same in
/// every version.
fn check_same(comm: &dyn Comm, arguments: &str) -> Result<(), Diagnostic> {
    let program = env::current_exe().and_then(std::fs::read).unwrap_or_default();
    let own = format!("{} {:.12}", env!("CARGO_PKG_VERSION"), blake3::hash(&program).to_hex());
    let own = format!("{own:32.32}{:96.96}", owner::host());
    let all = comm.gather(own.as_bytes());
    let text = |rank: usize| String::from_utf8_lossy(&all[rank]).into_owned();
    let (ours, _) = split_record(&text(0));
    for rank in 1..all.len() {
        let (theirs, host) = split_record(&text(rank));
        if theirs != ours {
            let message = format!("rank {rank} on {host} runs another winsign-worker ({theirs}) than rank 0 ({ours})");
            return Err(Diagnostic::new(message, "start the same program everywhere"));
        }
    }
    let given = comm.gather(arguments.as_bytes());
    let Some(rank) = given.iter().position(|arguments| *arguments != given[0]) else { return Ok(()) };
    let [ours, theirs] = [0, rank].map(|rank| String::from_utf8_lossy(&given[rank]).into_owned());
    let (_, host) = split_record(&text(rank));
    let message = format!("rank {rank} on {host} was started with other arguments ({theirs}) than rank 0 ({ours})");
    Err(Diagnostic::new(message, "give all ranks the same"))
}

fn split_record(record: &str) -> (String, String) {
    let (version, host) = record.split_at_checked(32).unwrap_or((record, ""));
    (version.trim().to_string(), host.trim().to_string())
}
