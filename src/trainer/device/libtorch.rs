//! What `libtorch.cpp` has.

use std::ffi::c_int;

#[cfg(feature = "nccl")]
use std::ffi::c_void;

use tch::{Kind, Tensor};
use torch_sys::C_tensor;

unsafe extern "C" {
    fn winsign_tf32(allowed: bool);
    fn winsign_deterministic(on: bool);
    fn winsign_use_gpu(index: c_int);
    #[cfg(feature = "nccl")]
    fn winsign_stream(index: c_int) -> *mut c_void;
    fn winsign_peak_memory(index: c_int) -> i64;
    fn winsign_pinned(bytes: i64) -> *mut C_tensor;
}

/// Whether products of 32-bit floats may take 19 bits of them into account, on GPUs.
pub(super) fn tf32(allowed: bool) {
    // SAFETY: sets a flag of libtorch's.
    unsafe { winsign_tf32(allowed) }
}

/// Whether cuDNN chooses among algorithms that give the same bits every time, or by trying which is fastest.
pub(super) fn deterministic(on: bool) {
    // SAFETY: sets two flags of libtorch's.
    unsafe { winsign_deterministic(on) }
}

/// The GPU that this thread's calls are about where they do not name one; it must be there.
pub(super) fn use_gpu(index: usize) {
    // SAFETY: the GPU is there.
    unsafe { winsign_use_gpu(index as c_int) }
}

/// The `cudaStream_t` that this thread's work on a GPU is queued in; the GPU must be there.
#[cfg(feature = "nccl")]
pub fn stream(index: usize) -> *mut c_void {
    // SAFETY: the GPU is there.
    unsafe { winsign_stream(index as c_int) }
}

/// The most bytes that tensors on a GPU had at once since the last call, if it had any; the GPU must be there.
pub(super) fn peak_memory(index: usize) -> Option<u64> {
    // SAFETY: the GPU is there.
    u64::try_from(unsafe { winsign_peak_memory(index as c_int) }).ok()
}

/// A tensor of bytes on the CPU that a GPU can copy while both go on; a GPU must be there.
pub(super) fn pinned(bytes: &[u8]) -> Tensor {
    // SAFETY: it gives a new tensor of so many bytes, which nobody else has.
    unsafe {
        let tensor = winsign_pinned(bytes.len() as i64);
        assert!(!tensor.is_null(), "no {} bytes of memory can be pinned for the GPU", bytes.len());
        let tensor = Tensor::from_ptr(tensor);
        assert_eq!((tensor.kind(), tensor.numel()), (Kind::Uint8, bytes.len()));
        if !bytes.is_empty() {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), tensor.data_ptr().cast::<u8>(), bytes.len());
        }
        tensor
    }
}
