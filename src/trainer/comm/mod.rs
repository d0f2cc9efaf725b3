//! Ranks: the processes that compute one run together, each on its share of every batch.
//!
//! Everything here is collective: every rank calls the same functions in the same order. Between two calls a rank
//! may do what it likes, but it never leaves a story alone: what fails on one rank is agreed on by all.

mod single;

use tch::Tensor;

pub use single::Single;

/// Which of the ranks of a run this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub rank: usize,
    /// How many ranks there are.
    pub ranks: usize,
}

impl Place {
    pub const ALONE: Place = Place { rank: 0, ranks: 1 };

    /// Whether this is the rank that reads and writes the run's directory.
    pub fn is_root(self) -> bool {
        self.rank == 0
    }
}

/// What ranks exchange. `single` has nobody to talk to; `mpi` moves everything between CPUs; `nccl` moves tensors
/// between GPUs, and leaves the rest to `mpi`.
pub trait Comm {
    fn place(&self) -> Place;

    /// Replaces a contiguous tensor of 32- or 64-bit floats by its sum over all ranks, which is the same to the last bit
    /// on every rank.
    fn sum(&self, tensor: &mut Tensor);

    /// The bytes of rank 0, on every rank; those given by other ranks do not count.
    fn broadcast(&self, bytes: Vec<u8>) -> Vec<u8>;

    /// The bytes of every rank, in their order, on every rank.
    fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>>;

    /// The largest of the numbers that the ranks give.
    fn largest(&self, number: u64) -> u64;
}
