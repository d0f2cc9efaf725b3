//! The communicator of ranks that mpirun or srun started, on CPUs.

use std::cell::RefCell;

use mpi::collective::SystemOperation;
use mpi::datatype::PartitionMut;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::*;
use tch::{Device, Kind, Tensor};

use super::{Comm, Place, pulse};

/// The maximum number of bytes that one call sums: MPI counts with 32 bits.
const MAX_SUM: usize = 1 << 30;
/// The maximum number of bytes that one call broadcasts: few enough that the watch sees progress on any network.
const MAX_BROADCAST: usize = 1 << 26;

/// A communicator that uses MPI.
pub(super) struct Mpi {
    world: SimpleCommunicator,
    place: Place,
    /// The send buffer of [`Comm::sum`], which must differ from the receive buffer.
    sent: RefCell<Vec<f64>>,
    /// Finalizes MPI when it is dropped.
    _universe: Universe,
}

impl Mpi {
    /// Connects to the other ranks. Returns `None` if that was already done in this process. If MPI cannot start, it
    /// reports the reason and ends the process.
    pub(super) fn start() -> Option<Mpi> {
        // Funneled: only the main thread calls MPI.
        let (universe, _) = mpi::initialize_with_threading(mpi::Threading::Funneled)?;
        let world = universe.world();
        let place = Place { rank: world.rank() as usize, ranks: world.size() as usize };
        Some(Mpi { place, world, sent: RefCell::default(), _universe: universe })
    }

    fn sum_as<T: Equivalence + Copy>(&self, tensor: &mut Tensor) {
        let length = tensor.numel();
        if length == 0 {
            // A network without BatchNorm has no statistics. Their address is null, which is invalid for a slice.
            return;
        }
        let mut sent = self.sent.borrow_mut();
        let needed = (length * size_of::<T>()).div_ceil(size_of::<f64>());
        if sent.len() < needed {
            sent.resize(needed, 0.0);
        }
        // SAFETY: the tensor is contiguous, is in memory of the CPU, and has `length` values of type T; the buffer is
        // long enough for them, and aligned for 64-bit floats.
        let (sent, received) = unsafe {
            let sent = std::slice::from_raw_parts_mut(sent.as_mut_ptr().cast::<T>(), length);
            (sent, std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<T>(), length))
        };
        sent.copy_from_slice(received);
        for (sent, received) in sent.chunks(MAX_SUM / 8).zip(received.chunks_mut(MAX_SUM / 8)) {
            self.world.all_reduce_into(sent, received, SystemOperation::sum());
        }
    }
}

impl Comm for Mpi {
    fn place(&self) -> Place {
        self.place
    }

    fn sum(&self, tensor: &mut Tensor) {
        let _exchange = pulse::enter();
        assert!(tensor.is_contiguous() && tensor.device() == Device::Cpu, "{tensor:?}");
        match tensor.kind() {
            Kind::Float => self.sum_as::<f32>(tensor),
            Kind::Double => self.sum_as::<f64>(tensor),
            kind => panic!("sums of {kind:?} are not supported"),
        }
    }

    fn broadcast(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let _exchange = pulse::enter();
        let root = self.world.process_at_rank(0);
        let mut length = bytes.len() as u64;
        root.broadcast_into(&mut length);
        bytes.resize(length as usize, 0);
        for piece in bytes.chunks_mut(MAX_BROADCAST) {
            root.broadcast_into(piece);
            pulse::moved();
        }
        bytes
    }

    fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let _exchange = pulse::enter();
        // Add one byte, because the address of an empty slice could be the value that means "in place" to MPI.
        let bytes = [bytes, &[0]].concat();
        let mut counts = vec![0i32; self.place.ranks];
        self.world.all_gather_into(&(bytes.len() as i32), &mut counts[..]);
        let starts: Vec<i32> = counts
            .iter()
            .scan(0, |end, count| {
                *end += count;
                Some(*end - count)
            })
            .collect();
        let mut all = vec![0u8; counts.iter().map(|&count| count as usize).sum()];
        let mut parts = PartitionMut::new(&mut all[..], &counts[..], &starts[..]);
        self.world.all_gather_varcount_into(&bytes[..], &mut parts);
        let slice = |(&start, &count): (&i32, &i32)| all[start as usize..][..count as usize - 1].to_vec();
        starts.iter().zip(&counts).map(slice).collect()
    }

    fn largest(&self, number: u64) -> u64 {
        let _exchange = pulse::enter();
        let mut largest = 0u64;
        self.world.all_reduce_into(&number, &mut largest, SystemOperation::max());
        largest
    }
}
