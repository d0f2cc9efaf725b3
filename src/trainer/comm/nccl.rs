//! Ranks on GPUs of NVIDIA: NCCL adds up tensors that lie there; all else goes by MPI.

use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;

use cudarc::nccl::{result, sys};
use tch::{Device, Kind, Tensor};
use winsign_core::owner;

use super::{Comm, Place, pulse};
use crate::Result;
use crate::device::{self, Error};
use crate::session::share;

pub struct Nccl {
    pub mpi: Box<dyn Comm>,
    pub link: Link,
}

/// What connects this rank's GPU with those of the others.
pub struct Link {
    gpu: usize,
    communicator: sys::ncclComm_t,
}

/// By what the GPUs of all ranks find each other: rank 0 makes it. The error is one of all ranks.
pub fn meet(mpi: &dyn Comm) -> Result<sys::ncclUniqueId> {
    // SAFETY: this looks for a library by several names.
    let missing = unsafe { !sys::is_culib_present() };
    // Ranks that lack the library say so before any waits for another.
    if mpi.largest(missing.into()) > 0 {
        return Err(Error::NoNccl.into());
    }
    let make = || result::get_uniqueid().map_err(|error| Error::NotConnected { reason: message(&error) }.into());
    let to_bytes = |id: &sys::ncclUniqueId| id.internal.map(|byte| byte as u8).to_vec();
    let from_bytes = |bytes: &[u8]| {
        let internal = <[u8; 128]>::try_from(bytes).expect("as rank 0 sent it");
        sys::ncclUniqueId { internal: internal.map(|byte| byte as c_char) }
    };
    share(mpi, mpi.place().is_root().then(make), to_bytes, from_bytes)
}

impl Link {
    /// Connects the GPUs of all ranks that [`met`](meet), of which this rank's is `gpu`. It must be this thread's, see
    /// [`device::prepare`], and no other rank's. The error may be this rank's alone, with the others waiting for it.
    pub fn new(meeting: sys::ncclUniqueId, place: Place, gpu: usize) -> std::result::Result<Link, Error> {
        let Place { rank, ranks } = place;
        let mut communicator = MaybeUninit::uninit();
        // SAFETY: there is room for the communicator, and what they met by is the same on all ranks.
        let communicator = unsafe {
            result::comm_init_rank(communicator.as_mut_ptr(), ranks as i32, meeting, rank as i32)
                .map(|_| communicator.assume_init())
        };
        match communicator {
            Ok(communicator) => Ok(Link { gpu, communicator }),
            Err(error) => Err(Error::NotConnected { reason: message(&error) }),
        }
    }
}

fn message(error: &result::NcclError) -> String {
    // SAFETY: NCCL gives a text that lives as long as the program.
    unsafe { CStr::from_ptr(sys::ncclGetErrorString(error.0)) }.to_string_lossy().into_owned()
}

impl Comm for Nccl {
    fn place(&self) -> Place {
        self.mpi.place()
    }

    /// Queued behind what the GPU does, like any other operation on the tensor. A tensor on the CPU is added up by MPI.
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
            kind => panic!("{kind:?} is not added up"),
        };
        let values = tensor.data_ptr();
        // SAFETY: the tensor is contiguous and lies on this rank's GPU. It may be given back before NCCL has read it:
        // libtorch hands its memory on to the same stream only, behind this sum.
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
        // All is summed up, so that there is nothing to abort; to destroy it instead would wait for the other ranks.
        // SAFETY: nobody uses it after this.
        let _ = unsafe { result::comm_abort(self.communicator) };
    }
}
