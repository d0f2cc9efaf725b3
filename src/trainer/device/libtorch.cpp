// Functions of libtorch that tch lacks. They throw no exception if the GPU in question exists.
#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/EmptyTensor.h>

extern "C" {

// Sets whether products of 32-bit floats may use only 19 of the bits, on GPUs.
void winsign_tf32(bool allowed) {
  at::globalContext().setAllowTF32CuBLAS(allowed);
  at::globalContext().setAllowTF32CuDNN(allowed);
}

// Sets whether cuDNN uses algorithms that give the same bits every time, rather than those that are fastest in a trial.
void winsign_deterministic(bool on) {
  at::globalContext().setDeterministicCuDNN(on);
  at::globalContext().setBenchmarkCuDNN(!on);
}

// Sets the current GPU of this thread.
void winsign_use_gpu(int index) { at::accelerator::setDeviceIndex(static_cast<c10::DeviceIndex>(index)); }

// Returns the cudaStream_t in which the work of this thread on the GPU is queued.
void* winsign_stream(int index) {
  return at::accelerator::getCurrentStream(static_cast<c10::DeviceIndex>(index)).native_handle();
}

// Returns the peak memory of tensors on the GPU in bytes, since the start or the last call; -1 if there were none.
int64_t winsign_peak_memory(int index) try {
  auto device = static_cast<c10::DeviceIndex>(index);
  int64_t peak = at::accelerator::getDeviceStats(device).allocated_bytes[0].peak;
  at::accelerator::resetPeakStats(device);
  return peak;
} catch (...) { return -1; }

// Returns a tensor (at::Tensor*) of bytes in pinned memory, which a GPU can copy asynchronously; null without memory.
void* winsign_pinned(int64_t bytes) try {
  return new at::TensorBase(at::detail::empty_cpu({bytes}, at::kByte, /*pin_memory=*/true));
} catch (...) { return nullptr; }
}
