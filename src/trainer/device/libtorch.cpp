// What libtorch has and tch does not pass on. No exception leaves it on a machine that has the GPU it is asked about.
#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/EmptyTensor.h>

extern "C" {

// Whether products of 32-bit floats may take 19 bits of them into account, on GPUs.
void winsign_tf32(bool allowed) {
  at::globalContext().setAllowTF32CuBLAS(allowed);
  at::globalContext().setAllowTF32CuDNN(allowed);
}

// Whether cuDNN chooses among algorithms that give the same bits every time, or by trying which is fastest.
void winsign_deterministic(bool on) {
  at::globalContext().setDeterministicCuDNN(on);
  at::globalContext().setBenchmarkCuDNN(!on);
}

// The GPU that this thread's calls are about where they do not name one.
void winsign_use_gpu(int index) { at::accelerator::setDeviceIndex(static_cast<c10::DeviceIndex>(index)); }

// The cudaStream_t that this thread's work on the GPU is queued in.
void* winsign_stream(int index) {
  return at::accelerator::getCurrentStream(static_cast<c10::DeviceIndex>(index)).native_handle();
}

// The most bytes that tensors on the GPU had at once, since the beginning or the last call; -1 if there was none.
int64_t winsign_peak_memory(int index) try {
  auto device = static_cast<c10::DeviceIndex>(index);
  int64_t peak = at::accelerator::getDeviceStats(device).allocated_bytes[0].peak;
  at::accelerator::resetPeakStats(device);
  return peak;
} catch (...) { return -1; }

// A tensor (at::Tensor*) of bytes on the CPU that a GPU can copy while both go on; null if there is no memory for it.
void* winsign_pinned(int64_t bytes) try {
  return new at::TensorBase(at::detail::empty_cpu({bytes}, at::kByte, /*pin_memory=*/true));
} catch (...) { return nullptr; }
}
