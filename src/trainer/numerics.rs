//! Portable numerics: libtorch is held to the instructions that every x86-64 processor with AVX2 has.
//!
//! The order in which a sum is added up, and so its last bits, follows from the width of vectors. libtorch, oneDNN and MKL
//! each choose kernels by what the processor can do, and each reads its limit from the environment once, at its first use.
//! So the limits are set first thing in `main`, before the run is claimed and before there are threads.

use std::ffi::CStr;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::OnceLock;

use tch::Device;
use winsign_core::RunDirectory;
use winsign_core::settings::Numerics;

use super::device::Request;

/// The limits, each by the name under which a library reads it.
const LIMITS: [(&str, &str); 5] = [
    // libtorch's own kernels.
    ("ATEN_CPU_CAPABILITY", "avx2"),
    // oneDNN, which computes convolutions.
    ("ONEDNN_MAX_CPU_ISA", "AVX2"),
    ("ONEDNN_DEFAULT_FPMATH_MODE", "STRICT"),
    // MKL, which computes products of matrices: the only mode that it promises for processors of all makers.
    ("MKL_CBWR", "COMPATIBLE"),
    // As many threads as were asked for, also where there are fewer cores.
    ("MKL_DYNAMIC", "FALSE"),
];

/// Variables that would turn kernels on or off within the limits.
const CLEARED: [&str; 3] = ["ONEDNN_CPU_ISA_HINTS", "DNNL_CPU_ISA_HINTS", "MKL_ENABLE_INSTRUCTIONS"];

#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Error {
    #[error(
        "numerics portable needs a processor with AVX2 and FMA, which this one lacks: use another machine, or numerics native"
    )]
    NoAvx2,
    #[error("numerics portable is for CPUs alone: pass --device cpu, or use numerics native")]
    OnGpu,
    #[error(
        "numerics portable was found in run.json too late: this rank could not read the run's directory when it started"
    )]
    TooLate,
    #[error(
        "OMP_THREAD_LIMIT allows {limit} threads, and {threads} were asked for: unset it, or pass --threads {limit}"
    )]
    ThreadLimit { limit: i32, threads: u32 },
}

/// The numerics that this process computes with.
static CHOSEN: OnceLock<Numerics> = OnceLock::new();

/// Chooses the numerics of the run in this directory. Must be called before any thread is started and before any call of
/// libtorch. A run that cannot be read is reported when it is claimed.
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
/// No other thread may read or write the environment meanwhile.
unsafe fn limit() {
    for name in CLEARED {
        // SAFETY: as the caller promises.
        unsafe { std::env::remove_var(name) };
    }
    for (name, value) in LIMITS {
        // SAFETY: as the caller promises.
        unsafe { std::env::set_var(name, value) };
    }
    keep_threads();
}

/// Keeps OpenMP from using fewer threads than asked for. It has read its part of the environment when it was loaded.
fn keep_threads() {
    if let Some(found) = openmp(c"omp_set_dynamic") {
        // SAFETY: the symbol is OpenMP's `void omp_set_dynamic(int)`.
        let set_dynamic: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(found) };
        set_dynamic(0);
    }
}

/// Returns the most threads that OpenMP may have; none if libtorch was built without it.
fn thread_limit() -> Option<i32> {
    openmp(c"omp_get_thread_limit").map(|found| {
        // SAFETY: the symbol is OpenMP's `int omp_get_thread_limit(void)`.
        let limit: extern "C" fn() -> libc::c_int = unsafe { std::mem::transmute(found) };
        limit()
    })
}

/// Returns a function of the OpenMP that libtorch brought along.
fn openmp(name: &CStr) -> Option<NonNull<libc::c_void>> {
    // SAFETY: this looks for a symbol by its name.
    NonNull::new(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) })
}

/// Returns an error unless OpenMP may have so many threads: with fewer, libtorch waits for the others for ever.
pub fn check_threads(threads: u32) -> Result<(), Error> {
    match thread_limit() {
        Some(limit) if i64::from(limit) < i64::from(threads) => Err(Error::ThreadLimit { limit, threads }),
        _ => Ok(()),
    }
}

/// Returns the device to ask for. Portable numerics leave GPUs alone unless they are asked for by name, which [`check`] refuses.
pub fn device(request: Request, numerics: Numerics) -> Request {
    match (request, numerics) {
        (Request::Auto, Numerics::Portable) => Request::Cpu,
        (request, _) => request,
    }
}

/// Returns an error unless this rank computes with the numerics of its run.
pub fn check(needed: Numerics, device: Device) -> Result<(), Error> {
    check_with(needed, CHOSEN.get().copied().unwrap_or_default(), device, has_avx2())
}

fn check_with(needed: Numerics, chosen: Numerics, device: Device, has_avx2: bool) -> Result<(), Error> {
    match needed {
        Numerics::Native => Ok(()),
        Numerics::Portable if device.is_cuda() => Err(Error::OnGpu),
        Numerics::Portable if !has_avx2 => Err(Error::NoAvx2),
        Numerics::Portable if chosen != Numerics::Portable => Err(Error::TooLate),
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
    fn portable_is_refused_where_it_cannot_be_kept() {
        let check = |chosen, device, has_avx2| check_with(Numerics::Portable, chosen, device, has_avx2);
        assert_eq!(check(Numerics::Portable, Device::Cpu, true), Ok(()));
        assert_eq!(check(Numerics::Portable, Device::Cpu, false), Err(Error::NoAvx2));
        assert_eq!(check(Numerics::Portable, Device::Cuda(0), true), Err(Error::OnGpu));
        assert_eq!(check(Numerics::Native, Device::Cpu, true), Err(Error::TooLate));
        assert_eq!(check_with(Numerics::Native, Numerics::Native, Device::Cuda(0), false), Ok(()));
    }

    #[test]
    fn threads_up_to_the_limit_are_allowed() {
        let limit = thread_limit().expect("libtorch has OpenMP");
        assert_eq!(check_threads(1), Ok(()));
        assert_eq!(check_threads(limit as u32), Ok(()));
        let threads = limit as u32 + 1;
        assert_eq!(check_threads(threads), Err(Error::ThreadLimit { limit, threads }));
    }

    #[test]
    fn portable_takes_the_cpu_unless_a_gpu_is_asked_for() {
        assert_eq!(device(Request::Auto, Numerics::Portable), Request::Cpu);
        assert_eq!(device(Request::Auto, Numerics::Native), Request::Auto);
        assert_eq!(device(Request::Cuda, Numerics::Portable), Request::Cuda);
    }
}
