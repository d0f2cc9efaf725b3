//! Safe wrappers of the functions in `libtorch.cpp`.

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
    fn winsign_keep_activations_on_host(on: bool);
    fn winsign_activations_on_host() -> i64;
    fn winsign_peak_activations_on_host() -> i64;
}

/// Sets whether products of 32-bit floats may use only 19 of the bits, on GPUs.
pub(super) fn tf32(allowed: bool) {
    // SAFETY: this sets flags of libtorch.
    unsafe { winsign_tf32(allowed) }
}

/// Sets whether cuDNN uses algorithms that give the same bits every time, rather than those that are fastest in a
/// trial.
pub(super) fn deterministic(on: bool) {
    // SAFETY: this sets flags of libtorch.
    unsafe { winsign_deterministic(on) }
}

/// Sets the current GPU of this thread. The GPU must exist.
pub(super) fn use_gpu(index: usize) {
    // SAFETY: the GPU exists.
    unsafe { winsign_use_gpu(index as c_int) }
}

/// Returns the `cudaStream_t` in which the work of this thread on a GPU is queued. The GPU must exist.
#[cfg(feature = "nccl")]
pub fn stream(index: usize) -> *mut c_void {
    // SAFETY: the GPU exists.
    unsafe { winsign_stream(index as c_int) }
}

/// Returns the peak memory of tensors on a GPU since the last call, in bytes; returns `None` if there were no tensors. The
/// GPU must exist.
pub(super) fn peak_memory(index: usize) -> Option<u64> {
    // SAFETY: the GPU exists.
    u64::try_from(unsafe { winsign_peak_memory(index as c_int) }).ok()
}

/// Returns a tensor of bytes in pinned memory of the CPU, which a GPU can copy asynchronously. A GPU must exist.
pub(super) fn pinned(bytes: &[u8]) -> Tensor {
    // SAFETY: the function returns a new tensor with this number of bytes, and there is no other reference to it.
    unsafe {
        let tensor = winsign_pinned(bytes.len() as i64);
        assert!(!tensor.is_null(), "cannot pin {} bytes of memory for the GPU", bytes.len());
        let tensor = Tensor::from_ptr(tensor);
        assert_eq!((tensor.kind(), tensor.numel()), (Kind::Uint8, bytes.len()));
        if !bytes.is_empty() {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), tensor.data_ptr().cast::<u8>(), bytes.len());
        }
        tensor
    }
}

/// Sets whether tensors that autograd saves from now on are kept in the memory of the host.
pub(super) fn keep_activations_on_host(on: bool) {
    // SAFETY: this sets flags of libtorch.
    unsafe { winsign_keep_activations_on_host(on) }
}

/// Returns the bytes of the tensors that are kept in the memory of the host now, and the most there ever were.
pub(super) fn activations_on_host() -> (u64, u64) {
    // SAFETY: both functions read a number that is at least 0.
    unsafe { (winsign_activations_on_host() as u64, winsign_peak_activations_on_host() as u64) }
}
