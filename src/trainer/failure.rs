//! Messages of panics. tch turns the errors of libtorch into panics, such as a lack of memory.

use std::any::Any;

use tch::Device;
use winsign_core::{Diagnostic, exit, owner};

/// Returns the message of a panic; if it is an error of libtorch, without the call stack, which has thousands of characters.
pub fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("see the log");
    match text.split_once("Torch(\"") {
        Some((_, escaped)) => libtorch_message(escaped),
        None => text.to_string(),
    }
}

/// Returns the first line of the message of a panic.
pub fn first_line(panic: &(dyn Any + Send)) -> String {
    message(panic).lines().next().unwrap_or_default().to_string()
}

/// Returns the message of libtorch from the debug format of tch's error.
fn libtorch_message(escaped: &str) -> String {
    let text = escaped.trim_end_matches("\")").replace("\\n", "\n").replace("\\\"", "\"");
    text.split("\nException raised from").next().unwrap_or_default().trim_end().to_string()
}

/// Describes a panic of the computation, with the exit code of the worker.
pub fn describe(panic: &(dyn Any + Send), device: Device, activations_on_host: bool) -> Diagnostic {
    let line = first_line(panic);
    match device {
        Device::Cuda(index) if lacks_gpu_memory(&line) => out_of_gpu_memory(index, &line, activations_on_host),
        _ => Diagnostic::with_code(exit::FAILURE, format!("libtorch or the worker failed unexpectedly: {line}"), None),
    }
}

/// Returns true if this message of libtorch says that a GPU has too little memory. A lack of memory of the host has other
/// messages.
fn lacks_gpu_memory(message: &str) -> bool {
    // The last one is part of messages of cuDNN and cuBLAS.
    let messages = ["CUDA out of memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED"];
    messages.iter().any(|known| message.contains(known))
}

/// Describes a lack of memory of a GPU. The first one makes later attempts keep activations on the host; if that was the case
/// already, another attempt would fail as well.
fn out_of_gpu_memory(index: usize, message: &str, activations_on_host: bool) -> Diagnostic {
    // The rest is a hint about variables of PyTorch, and figures of its allocator.
    let sentences = message.trim_start_matches("CUDA out of memory. ").split(". ").take(2);
    let cause = sentences.collect::<Vec<_>>().join(". ");
    let (exit_code, consequence, help) = match activations_on_host {
        false => (
            exit::OUT_OF_GPU_MEMORY,
            "the next attempt keeps activations in the memory of the host and needs more of it",
            None,
        ),
        true => (
            exit::USAGE,
            "activations are already in the memory of the host",
            Some("use a smaller batch, fewer runs per GPU, or `gpus: 1`"),
        ),
    };
    let message = format!("out of memory on GPU {index} of {} ({cause}); {consequence}", owner::host());
    Diagnostic::with_code(exit_code, message, help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    /// The message of libtorch 2.11, as tch passes it on.
    const OUT_OF_MEMORY: &str = "called `Result::unwrap()` on an `Err` value: Torch(\"CUDA out of memory. Tried to allocate \
        576.00 MiB. GPU 0 has a total capacity of 31.36 GiB of which 370.69 MiB is free. Process 16335 has 25.34 GiB memory in \
        use. If reserved but unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid \
        fragmentation.\\nException raised from malloc at CUDACachingAllocator.cpp:1500 (most recent call first):\\nframe #0: \
        c10::Error::Error(c10::SourceLocation, std::string) + 0x57 (0x7f in libc10.so)\\n\")";

    fn described(text: &str, device: Device, activations_on_host: bool) -> (u8, String) {
        let panic: Box<dyn Any + Send> = Box::new(text.to_string());
        let Diagnostic { exit_code, message, .. } = describe(&*panic, device, activations_on_host);
        (exit_code, message)
    }

    #[test]
    fn lack_of_gpu_memory_is_retried_with_activations_on_the_host() {
        let cause =
            "(Tried to allocate 576.00 MiB. GPU 0 has a total capacity of 31.36 GiB of which 370.69 MiB is free)";
        let prefix = format!("out of memory on GPU 3 of {} {cause}; ", owner::host());
        let (code, message) = described(OUT_OF_MEMORY, Device::Cuda(3), false);
        assert_eq!(code, exit::OUT_OF_GPU_MEMORY);
        assert_eq!(
            message,
            format!("{prefix}the next attempt keeps activations in the memory of the host and needs more of it")
        );
        let (code, message) = described(OUT_OF_MEMORY, Device::Cuda(3), true);
        assert_eq!(code, exit::USAGE);
        assert_eq!(message, format!("{prefix}activations are already in the memory of the host"));
    }

    #[test]
    fn all_messages_about_gpu_memory_are_recognized() {
        for text in [
            "CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 7.93 GiB total capacity; 130.35 MiB already allocated)",
            "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
            "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        ] {
            let text = format!("called `Result::unwrap()` on an `Err` value: Torch({text:?})");
            assert_eq!(described(&text, Device::Cuda(0), false).0, exit::OUT_OF_GPU_MEMORY, "{text}");
        }
    }

    /// libtorch cannot allocate this tensor on any machine.
    #[test]
    fn lack_of_host_memory_is_a_failure_in_one_line() {
        let panic = std::panic::catch_unwind(|| Tensor::zeros([1 << 58], (Kind::Uint8, Device::Cpu))).unwrap_err();
        for device in [Device::Cpu, Device::Cuda(0)] {
            let Diagnostic { exit_code, message, .. } = describe(&*panic, device, false);
            assert_eq!(exit_code, exit::FAILURE);
            assert!(message.contains("can't allocate memory"), "{message}");
            assert!(message.len() < 300 && !message.contains("Exception raised"), "{message}");
        }
    }

    #[test]
    fn messages_of_libtorch_have_no_stack() {
        let panic = std::panic::catch_unwind(|| Tensor::from_slice(&[1.0f32]).view([2])).unwrap_err();
        assert_eq!(message(&*panic), "shape '[2]' is invalid for input of size 1");
        let panic = std::panic::catch_unwind(|| assert_eq!(1 + 1, 3, "sums")).unwrap_err();
        assert_eq!(message(&*panic), "assertion `left == right` failed: sums\n  left: 2\n right: 3");
        assert_eq!(first_line(&*panic), "assertion `left == right` failed: sums");
    }
}
