//! Portable numerics: libtorch is restricted to the instructions that every x86-64 processor with AVX2 has.
//!
//! The order in which a sum is accumulated, and so its last bits, depends on the width of vectors. libtorch, oneDNN and
//! MKL each choose kernels by the features of the processor, and each reads its limit from the environment once, at its
//! first use. So the limits are set at the beginning of `main`, before the run is claimed and before there are threads.

use std::ffi::CStr;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::OnceLock;

use tch::Device;
use winsign_core::settings::Numerics;
use winsign_core::{Diagnostic, RunDirectory};

use super::device::Request;

/// The limits: the environment variables that the libraries read, with their values.
const LIMITS: [(&str, &str); 5] = [
    // libtorch's own kernels.
    ("ATEN_CPU_CAPABILITY", "avx2"),
    // oneDNN, which computes convolutions.
    ("ONEDNN_MAX_CPU_ISA", "AVX2"),
    ("ONEDNN_DEFAULT_FPMATH_MODE", "STRICT"),
    // MKL, which multiplies matrices: the only mode that it guarantees on processors of all vendors.
    ("MKL_CBWR", "COMPATIBLE"),
    // Use the requested number of threads even if there are fewer cores.
    ("MKL_DYNAMIC", "FALSE"),
];

/// Variables that would turn kernels on or off within the limits, and are removed.
const CLEARED: [&str; 3] = ["ONEDNN_CPU_ISA_HINTS", "DNNL_CPU_ISA_HINTS", "MKL_ENABLE_INSTRUCTIONS"];

/// The numerics with which this process computes.
static CHOSEN: OnceLock<Numerics> = OnceLock::new();

/// Chooses the numerics of the run in this directory. Must be called before any thread is started and before any call
/// of libtorch. A run that cannot be read is reported when it is claimed.
pub fn choose(run: &Path) -> Numerics {
    let file = RunDirectory::open(run).and_then(|directory| directory.settings());
    let numerics = file.ok().flatten().map_or(Numerics::Native, |file| file.settings.problem().numerics);
    if numerics == Numerics::Portable {
        // SAFETY: this process has one thread.
        unsafe { limit() };
    }
    *CHOSEN.get_or_init(|| numerics)
}

/// # Safety
///
/// No other thread may read or write the environment during the call.
unsafe fn limit() {
    for name in CLEARED {
        // SAFETY: guaranteed by the caller.
        unsafe { std::env::remove_var(name) };
    }
    for (name, value) in LIMITS {
        // SAFETY: guaranteed by the caller.
        unsafe { std::env::set_var(name, value) };
    }
    keep_threads();
}

/// Prevents OpenMP from using fewer threads than requested. OpenMP read its environment variables when it was loaded,
/// so a call is needed.
fn keep_threads() {
    if let Some(found) = openmp(c"omp_set_dynamic") {
        // SAFETY: the symbol is OpenMP's `void omp_set_dynamic(int)`.
        let set_dynamic: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(found) };
        set_dynamic(0);
    }
}

/// Returns the maximum number of threads of OpenMP; returns `None` if libtorch was built without it.
fn thread_limit() -> Option<i32> {
    openmp(c"omp_get_thread_limit").map(|found| {
        // SAFETY: the symbol is OpenMP's `int omp_get_thread_limit(void)`.
        let limit: extern "C" fn() -> libc::c_int = unsafe { std::mem::transmute(found) };
        limit()
    })
}

/// Returns a function of the OpenMP library that libtorch loaded, by its name.
fn openmp(name: &CStr) -> Option<NonNull<libc::c_void>> {
    // SAFETY: this searches for a symbol by its name.
    NonNull::new(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) })
}

/// Fails if OpenMP does not allow this number of threads: with fewer, libtorch would wait for the others forever.
pub fn check_threads(threads: u32) -> Result<(), Diagnostic> {
    match thread_limit() {
        Some(limit) if i64::from(limit) < i64::from(threads) => Err(Diagnostic::new(
            format!("OMP_THREAD_LIMIT allows {limit} threads, but {threads} were requested"),
            format!("unset it, or pass --threads {limit}"),
        )),
        _ => Ok(()),
    }
}

/// Returns the device to request. Portable numerics use the CPU unless GPUs are requested explicitly, which [`check`]
/// refuses.
pub fn device(request: Request, numerics: Numerics) -> Request {
    match (request, numerics) {
        (Request::Auto, Numerics::Portable) => Request::Cpu,
        (request, _) => request,
    }
}

/// Fails unless this rank computes with the numerics of its run.
pub fn check(needed: Numerics, device: Device) -> Result<(), Diagnostic> {
    check_with(needed, CHOSEN.get().copied().unwrap_or_default(), device, has_avx2())
}

fn check_with(needed: Numerics, chosen: Numerics, device: Device, has_avx2: bool) -> Result<(), Diagnostic> {
    match needed {
        Numerics::Native => Ok(()),
        Numerics::Portable if device.is_cuda() => {
            Err(Diagnostic::new("numerics portable does not support GPUs", "pass --device cpu, or use numerics native"))
        }
        Numerics::Portable if !has_avx2 => Err(Diagnostic::new(
            "numerics portable needs a processor with AVX2 and FMA",
            "use another machine, or numerics native",
        )),
        Numerics::Portable if chosen != Numerics::Portable => Err(Diagnostic::new(
            "cannot switch to numerics portable any more: this rank could not read the run directory when it started",
            "start the run again",
        )),
        Numerics::Portable => Ok(()),
    }
}

fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    let has = false;
    has
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portable_is_refused_if_it_is_not_possible() {
        let check = |chosen, device, has_avx2| check_with(Numerics::Portable, chosen, device, has_avx2);
        let message = |chosen, device, has_avx2| check(chosen, device, has_avx2).unwrap_err().message;
        assert_eq!(check(Numerics::Portable, Device::Cpu, true), Ok(()));
        assert!(message(Numerics::Portable, Device::Cpu, false).contains("needs a processor with AVX2"));
        assert!(message(Numerics::Portable, Device::Cuda(0), true).contains("does not support GPUs"));
        assert!(message(Numerics::Native, Device::Cpu, true).contains("cannot switch"));
        assert_eq!(check_with(Numerics::Native, Numerics::Native, Device::Cuda(0), false), Ok(()));
    }

    #[test]
    fn threads_up_to_the_limit_are_allowed() {
        let limit = thread_limit().expect("libtorch has OpenMP");
        assert_eq!(check_threads(1), Ok(()));
        assert_eq!(check_threads(limit as u32), Ok(()));
        let error = check_threads(limit as u32 + 1).unwrap_err().to_string();
        assert!(error.ends_with(&format!("; help: unset it, or pass --threads {limit}")), "{error}");
    }

    #[test]
    fn portable_takes_the_cpu_unless_a_gpu_is_asked_for() {
        assert_eq!(device(Request::Auto, Numerics::Portable), Request::Cpu);
        assert_eq!(device(Request::Auto, Numerics::Native), Request::Auto);
        assert_eq!(device(Request::Cuda, Numerics::Portable), Request::Cuda);
    }
}
