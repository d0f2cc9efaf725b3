// Keeps the tensors that autograd saves for the backward pass in the memory of the host, by libtorch's hooks for them.
#include <ATen/MemoryOverlap.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/saved_variable_hooks.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

namespace {

// Smaller tensors stay on their device: copying them takes longer than their memory is worth.
constexpr size_t SMALLEST = 1 << 16;

std::atomic<bool> enabled{false};
std::atomic<int64_t> held{0};
std::atomic<int64_t> peak{0};

// A copy of a tensor in the memory of the host; pinned if the tensor is on a GPU.
class HostCopy {
 public:
  explicit HostCopy(const at::Tensor& tensor)
      : storage_(tensor.storage().getWeakStorageImpl()), address_(tensor.storage().unsafeGetStorageImpl()),
        version_(tensor._version()), offset_(tensor.storage_offset()), sizes_(tensor.sizes().vec()),
        strides_(tensor.strides().vec()), options_(tensor.options()) {
    auto on_host = options_.device(at::kCPU).pinned_memory(tensor.is_cuda());
    bool dense = tensor.is_non_overlapping_and_dense();
    copy_ = dense ? at::empty_strided(sizes_, strides_, on_host) : at::empty(sizes_, on_host);
    // This waits for the copy. Otherwise steps that are queued ahead of the GPU would each need memory of the host.
    copy_.copy_(tensor);
    int64_t now = held += copy_.nbytes();
    int64_t before = peak;
    while (before < now && !peak.compare_exchange_weak(before, now)) {}
  }

  HostCopy(const HostCopy&) = delete;
  ~HostCopy() { held -= copy_.nbytes(); }

  // Returns true if this is a copy of the tensor as it is now.
  bool equals(const at::Tensor& tensor) const {
    return address_ == tensor.storage().unsafeGetStorageImpl() && version_ == tensor._version()
        && offset_ == tensor.storage_offset() && sizes_ == tensor.sizes() && strides_ == tensor.strides()
        && options_.dtype() == tensor.dtype();
  }

  // Returns a tensor like the original, on its device.
  at::Tensor restore() const {
    at::NoGradGuard no_grad;
    at::Tensor tensor = at::empty_strided(sizes_, strides_, options_);
    tensor.copy_(copy_, /*non_blocking=*/true);
    return tensor;
  }

 private:
  // While this exists, no other storage gets the same address.
  c10::weak_intrusive_ptr<c10::StorageImpl> storage_;
  const c10::StorageImpl* address_;
  int64_t version_;
  int64_t offset_;
  std::vector<int64_t> sizes_;
  std::vector<int64_t> strides_;
  at::TensorOptions options_;
  at::Tensor copy_;
};

// Returns a copy of the tensor. Operations that save the same tensor share it.
std::shared_ptr<HostCopy> copy_to_host(const at::Tensor& tensor) {
  static std::mutex mutex;
  static std::vector<std::weak_ptr<HostCopy>> copies;
  std::lock_guard<std::mutex> lock(mutex);
  auto expired = [](const auto& copy) { return copy.expired(); };
  copies.erase(std::remove_if(copies.begin(), copies.end(), expired), copies.end());
  for (const auto& weak : copies) {
    auto copy = weak.lock();
    if (copy && copy->equals(tensor)) return copy;
  }
  auto copy = std::make_shared<HostCopy>(tensor);
  copies.push_back(copy);
  return copy;
}

// Returns true if the device gets memory back once the tensor is copied. Views of parameters share their memory.
bool frees_memory(const at::Tensor& tensor) {
  const at::TensorBase& base = tensor.is_view() ? tensor._base() : tensor;
  bool is_parameter = base.is_leaf() && base.requires_grad();
  return !is_parameter && tensor.layout() == at::kStrided && tensor.nbytes() >= SMALLEST
      && at::has_internal_overlap(tensor) != at::MemOverlap::Yes;
}

struct KeepOnHost : torch::autograd::SavedVariableHooks {
  void call_pack_hook(const at::Tensor& tensor) override {
    if (frees_memory(tensor)) {
      copy = copy_to_host(tensor);
    } else {
      // The tensor itself could own the operation that owns this object.
      kept = tensor.detach();
    }
  }

  at::Tensor call_unpack_hook() override { return copy ? copy->restore() : kept; }

  std::shared_ptr<HostCopy> copy;
  at::Tensor kept;
};

struct HostEngine : torch::autograd::Engine {
  std::unique_ptr<torch::autograd::SavedVariableHooks> get_default_saved_variable_hooks() override {
    return enabled ? std::make_unique<KeepOnHost>() : nullptr;
  }
};

torch::autograd::Engine& host_engine() {
  // Threads of the engine may outlive `main`.
  static HostEngine* engine = new HostEngine;
  return *engine;
}

}  // namespace

extern "C" {

// Sets whether tensors that autograd saves from now on are kept in the memory of the host. libtorch allows one engine:
// if this is ever called, it must be called before the first backward pass on a GPU.
void winsign_keep_activations_on_host(bool on) {
  torch::autograd::set_default_engine_stub(host_engine);
  enabled = on;
}

// Returns the bytes of the tensors that are now kept in the memory of the host.
int64_t winsign_activations_on_host() { return held; }

// Returns the largest value that winsign_activations_on_host had.
int64_t winsign_peak_activations_on_host() { return peak; }
}
