//! The communicator of ranks on NVIDIA GPUs: NCCL sums tensors on GPUs, and MPI does everything else.

use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;

use cudarc::nccl::{result, sys};
use tch::{Device, Kind, Tensor};
use winsign_core::{Diagnostic, owner};

use super::{Comm, Place, pulse};
use crate::session::share;
use crate::{Result, device};

/// A communicator that uses NCCL for tensors on GPUs.
pub struct Nccl {
    pub mpi: Box<dyn Comm>,
    pub link: Link,
}

/// The connection of the GPU of this rank with those of the others.
pub struct Link {
    gpu: usize,
    communicator: sys::ncclComm_t,
}

/// Returns the identifier by which the GPUs of all ranks find each other; rank 0 creates it. Fails on all ranks if it
/// fails on one.
pub fn meet(mpi: &dyn Comm) -> Result<sys::ncclUniqueId> {
    // SAFETY: this searches for a library by several names.
    let missing = unsafe { !sys::is_culib_present() };
    // Agree on a missing library before any rank waits for another.
    if mpi.largest(missing.into()) > 0 {
        let help = "add its folder to LD_LIBRARY_PATH. PyTorch contains nvidia/nccl/lib/libnccl.so.2: make a link to it with \
                    the shorter name";
        return Err(Diagnostic::new("cannot find libnccl.so, which several ranks on GPUs need", help).into());
    }
    let make = || result::get_uniqueid().map_err(|error| not_connected(&error).into());
    let to_bytes = |id: &sys::ncclUniqueId| id.internal.map(|byte| byte as u8).to_vec();
    let from_bytes = |bytes: &[u8]| {
        let internal = <[u8; 128]>::try_from(bytes).expect("as rank 0 sent it");
        sys::ncclUniqueId { internal: internal.map(|byte| byte as c_char) }
    };
    share(mpi, mpi.place().is_root().then(make), to_bytes, from_bytes)
}

impl Link {
    /// Connects the GPUs of all ranks that share the identifier of [`meet`]; `gpu` is the one of this rank. It must be
    /// the current GPU of this thread, see [`device::prepare`], and belong to no other rank. If this fails on one rank
    /// only, the others wait for it.
    pub fn new(meeting: sys::ncclUniqueId, place: Place, gpu: usize) -> std::result::Result<Link, Diagnostic> {
        let Place { rank, ranks } = place;
        let mut communicator = MaybeUninit::uninit();
        // SAFETY: there is room for the communicator, and the identifier is the same on all ranks.
        let communicator = unsafe {
            result::comm_init_rank(communicator.as_mut_ptr(), ranks as i32, meeting, rank as i32)
                .map(|_| communicator.assume_init())
        };
        match communicator {
            Ok(communicator) => Ok(Link { gpu, communicator }),
            Err(error) => Err(not_connected(&error)),
        }
    }
}

fn not_connected(error: &result::NcclError) -> Diagnostic {
    let message = format!("NCCL cannot connect this rank with the others: {}", message(error));
    Diagnostic::new(message, "set NCCL_DEBUG=WARN for details")
}

fn message(error: &result::NcclError) -> String {
    // SAFETY: NCCL returns a static string.
    unsafe { CStr::from_ptr(sys::ncclGetErrorString(error.0)) }.to_string_lossy().into_owned()
}

impl Comm for Nccl {
    fn place(&self) -> Place {
        self.mpi.place()
    }

    /// Queues the sum behind earlier work of the GPU, like any other operation on the tensor. MPI sums tensors on the
    /// CPU.
    fn sum(&self, tensor: &mut Tensor) {
        if tensor.device() == Device::Cpu {
            return self.mpi.sum(tensor);
        }
        let _inside = pulse::enter();
        if tensor.numel() == 0 {
            return;
        }
        assert!(tensor.is_contiguous() && tensor.device() == Device::Cuda(self.link.gpu), "{tensor:?}");
        let kind = match tensor.kind() {
            Kind::Float => sys::ncclDataType_t::ncclFloat32,
            Kind::Double => sys::ncclDataType_t::ncclFloat64,
            kind => panic!("sums of {kind:?} are not supported"),
        };
        let values = tensor.data_ptr();
        // SAFETY: the tensor is contiguous and on the GPU of this rank. It may be freed before NCCL has read it,
        // because libtorch reuses its memory only on the same stream, after this sum.
        let queued = unsafe {
            result::all_reduce(
                values,
                values,
                tensor.numel(),
                kind,
                sys::ncclRedOp_t::ncclSum,
                self.link.communicator,
                device::stream(self.link.gpu).cast(),
            )
        };
        if let Err(error) = queued {
            panic!("rank {} on {}: NCCL: {}", self.place().rank, owner::host(), message(&error));
        }
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.mpi.broadcast(bytes)
    }

    fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.mpi.gather(bytes)
    }

    fn largest(&self, number: u64) -> u64 {
        self.mpi.largest(number)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        device::wait(Device::Cuda(self.gpu));
        // All sums are complete, so there is nothing to abort; destroying it instead would wait for the other ranks.
        // SAFETY: it is not used after this.
        let _ = unsafe { result::comm_abort(self.communicator) };
    }
}
