//! Devices: the CPU, or one GPU for each rank.

mod libtorch;
pub mod nvml;

use std::ffi::CStr;
use std::fmt;
use std::sync::OnceLock;

use clap::ValueEnum;
use cudarc::driver::{result as driver, sys};
use serde::{Deserialize, Serialize};
use tch::{Cuda, Device, Tensor};

use super::comm::{Comm, pulse};

#[cfg(feature = "nccl")]
pub use libtorch::stream;
use libtorch::{deterministic, tf32};
use winsign_core::settings::Precision;
use winsign_core::{Diagnostic, owner};

/// The requested device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Request {
    /// GPUs if there are any, else the CPU
    Auto,
    /// The CPU
    Cpu,
    /// GPUs, one for each rank
    Cuda,
}

impl Request {
    /// Returns the name of the device on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Request::Auto => "auto",
            Request::Cpu => "cpu",
            Request::Cuda => "cuda",
        }
    }
}

/// A GPU as described by its driver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    pub name: String,
    /// The compute capability: major and minor.
    pub capability: (i32, i32),
    /// The memory in bytes.
    pub memory: u64,
    id: GpuId,
}

/// The identifier of a GPU, or of an instance of one (MIG), that is unique across all machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuId([u8; 16]);

impl fmt::Display for GpuId {
    /// Writes the identifier as a UUID.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Gpu { name, capability: (major, minor), memory, .. } = self;
        write!(f, "{name} (compute capability {major}.{minor}, {:.1} GB)", *memory as f64 / 1e9)
    }
}

/// Loads the GPU part of libtorch, if there is a driver. Must be called before any other call of libtorch, which checks
/// for that part once. The worker is not linked with it, so that it also runs on machines without it.
pub fn load(request: Request) {
    if request != Request::Cpu {
        let _ = LOADED.set(load_cuda());
    }
}

static LOADED: OnceLock<Result<(), String>> = OnceLock::new();

fn load_cuda() -> Result<(), String> {
    // SAFETY: this searches for a library by several names.
    if !unsafe { sys::is_culib_present() } {
        return Err("there is no NVIDIA driver (libcuda.so.1)".to_string());
    }
    // SAFETY: the library registers itself with the rest of libtorch, which is not running yet. The message is copied
    // before another call could change it.
    unsafe {
        if libc::dlopen(c"libtorch_cuda.so".as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL).is_null() {
            let message = CStr::from_ptr(libc::dlerror()).to_string_lossy();
            return Err(format!("this libtorch is built for CPUs, or incomplete ({message})"));
        }
    }
    Ok(())
}

/// Returns the GPUs that this process may use, in the order of libtorch; the error is the reason for which there are
/// none.
pub fn gpus() -> Result<Vec<Gpu>, String> {
    LOADED.get().cloned().unwrap_or_else(|| Err("GPUs were not requested".to_string()))?;
    let found = query_driver().map_err(|error| match error.error_string() {
        Ok(text) => format!("the NVIDIA driver reports: {}", text.to_string_lossy()),
        Err(_) => format!("the NVIDIA driver fails with code {}", error.0 as u32),
    })?;
    match (found.len(), Cuda::device_count() as usize) {
        (0, _) => Err("the NVIDIA driver finds no GPU".to_string()),
        (count, known) if count == known => Ok(found),
        (count, known) => Err(format!(
            "libtorch can use {known} of {count} GPUs; the driver may be too old for the CUDA version of libtorch"
        )),
    }
}

fn query_driver() -> Result<Vec<Gpu>, driver::DriverError> {
    driver::init()?;
    (0..driver::device::get_count()?).map(query_gpu).collect()
}

fn query_gpu(index: i32) -> Result<Gpu, driver::DriverError> {
    use sys::CUdevice_attribute_enum as Attribute;
    let device = driver::device::get(index)?;
    // SAFETY: the driver returned this device.
    let (attribute, memory) =
        unsafe { (|which| driver::device::get_attribute(device, which), driver::device::total_mem(device)?) };
    Ok(Gpu {
        name: driver::device::get_name(device)?,
        capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        memory: memory as u64,
        id: GpuId(driver::device::get_uuid(device)?.bytes.map(|byte| byte as u8)),
    })
}

/// Returns the device of this rank, after [`load`]. All ranks must call it; either all are on GPUs, or none. A rank
/// gets the first of its visible GPUs that no rank before it has, so it does not matter whether the launcher makes all
/// GPUs of a machine visible to a rank or only its own. On rank 0 it also returns the GPUs that the ranks on the same
/// machine get. The call may fail on some of the ranks only.
pub fn choose(request: Request, precision: Precision, comm: &dyn Comm) -> Result<(Device, Vec<GpuId>), Diagnostic> {
    let own = match request {
        Request::Cpu => Err("--device cpu".to_string()),
        // Idle drivers take seconds to start, and not the same time on every machine.
        Request::Auto | Request::Cuda => pulse::slowly(gpus),
    };
    let record = serde_json::to_vec(&(owner::host(), &own)).expect("plain data");
    let all = comm.gather(&record);
    let all: Vec<Found> =
        all.iter().map(|bytes| serde_json::from_slice(bytes).expect("ranks send valid JSON")).collect();
    let index = assign_gpu(request, comm.place().rank, &all)?;
    let (Some(index), Ok(gpus)) = (index, own) else {
        match precision {
            Precision::Tf32 => {
                let message = "precision tf32 needs a GPU, but this run is computed on the CPU";
                return Err(Diagnostic::new(message, "use fp32 or bf16"));
            }
            Precision::Bf16 if !has_bf16() => {
                tracing::warn!("this processor has no instructions for bf16 (avx512_bf16), so fp32 is faster");
            }
            Precision::Bf16 | Precision::Fp32 => {}
        }
        return Ok((Device::Cpu, vec![]));
    };
    let gpu = &gpus[index];
    if precision != Precision::Fp32 && gpu.capability < (8, 0) {
        let (Gpu { name, .. }, (major, minor)) = (gpu, gpu.capability);
        return Err(Diagnostic::new(
            format!(
                "precision {precision} needs a GPU of compute capability 8.0 or more, but {name} has {major}.{minor}"
            ),
            "use fp32",
        ));
    }
    let is_root = comm.place().is_root();
    Ok((Device::Cuda(index), if is_root { log_gpus(request, &all) } else { vec![] }))
}

/// Logs the GPUs of all ranks. Returns those on the machine of rank 0.
fn log_gpus(request: Request, all: &[Found]) -> Vec<GpuId> {
    let mut on_first_machine = vec![];
    for (rank, (host, gpus)) in all.iter().enumerate() {
        let (Ok(Some(index)), Ok(gpus)) = (assign_gpu(request, rank, all), gpus) else { continue };
        tracing::info!("rank {rank} computes on GPU {index} of {host}, {}", gpus[index]);
        if *host == all[0].0 {
            on_first_machine.push(gpus[index].id);
        }
    }
    on_first_machine
}

/// The host of a rank, and its GPUs or the reason for which it has none.
type Found = (String, Result<Vec<Gpu>, String>);

/// Returns the index of the GPU that a rank gets; returns `None` if all compute on CPUs.
fn assign_gpu(request: Request, rank: usize, all: &[Found]) -> Result<Option<usize>, Diagnostic> {
    let no_gpus = all.iter().all(|(_, gpus)| gpus.is_err());
    if request == Request::Cpu || request == Request::Auto && no_gpus {
        return Ok(None);
    }
    let without = all.iter().enumerate().find_map(|(rank, (host, gpus))| Some((rank, host, gpus.as_ref().err()?)));
    if let Some((rank, host, reason)) = without {
        return Err(Diagnostic::new(
            format!("rank {rank} on {host} has no GPU to compute on: {reason}"),
            "pass --device cpu to use the CPU",
        ));
    }
    let mut taken: Vec<GpuId> = vec![];
    for (other, (host, gpus)) in all.iter().enumerate() {
        let gpus = gpus.as_deref().unwrap_or_default();
        let free = gpus.iter().position(|gpu| !taken.contains(&gpu.id));
        match free {
            Some(index) if other == rank => return Ok(Some(index)),
            Some(index) => taken.push(gpus[index].id),
            None => {
                let ranks = all.iter().filter(|(other, _)| other == host).count();
                return Err(Diagnostic::new(
                    format!("there are {ranks} ranks on {host}, but only {} GPUs", gpus.len()),
                    "start one rank per GPU, or pass --device cpu",
                ));
            }
        }
    }
    unreachable!("every rank is among all")
}

/// Returns true if this processor has instructions for bf16.
fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let has = false;
    has
}

/// Configures libtorch for the device that [`choose`] returned. Makes `fp32` exact on GPUs too; if `repeatable` is
/// true, cuDNN gives the same bits every time, and is slower.
pub fn prepare(device: Device, precision: Precision, repeatable: bool) {
    if let Device::Cuda(index) = device {
        libtorch::use_gpu(index);
        tf32(precision == Precision::Tf32);
        deterministic(repeatable);
    }
}

/// Copies values to a device. If that is a GPU, the copy is asynchronous: the CPU waits neither for it nor for earlier
/// work of the GPU.
pub fn upload<T: tch::kind::Element>(values: &[T], device: Device) -> Tensor {
    if !device.is_cuda() {
        return Tensor::from_slice(values).to_device(device);
    }
    // SAFETY: elements are plain numbers.
    let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
    // libtorch keeps pinned memory until the queued copy has read it.
    libtorch::pinned(bytes).view_dtype(T::KIND).to_device_(device, T::KIND, true, false)
}

/// Returns the peak memory of tensors on a GPU in bytes since the last call; returns `None` for the CPU.
pub fn peak_memory(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(index) => libtorch::peak_memory(index),
        _ => None,
    }
}

/// Sets whether the tensors that autograd saves for the backward pass are kept in the memory of the host from now on, so
/// that less memory of the device is needed. Gradients do not change. On a process with a GPU, the first call must precede
/// the first backward pass.
///
/// Tensors of less than 64 KiB and views of parameters stay where they are. A step takes longer, since every other tensor is
/// copied to the host and back.
pub fn keep_activations_on_host(on: bool) {
    libtorch::keep_activations_on_host(on);
}

/// The memory of the host that [`keep_activations_on_host`] uses, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostActivations {
    pub held: u64,
    /// The largest value of `held` since the start of the process.
    pub peak: u64,
}

/// Returns the memory of the host that activations use.
pub fn activations_on_host() -> HostActivations {
    let (held, peak) = libtorch::activations_on_host();
    HostActivations { held, peak }
}

/// Waits until a device has finished its queued work.
#[cfg_attr(not(feature = "nccl"), allow(dead_code))] // without NCCL only benchmarks wait
pub fn wait(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::Single;
    use crate::comm::threads::on_ranks;

    fn gpu(id: u8) -> Gpu {
        Gpu { name: format!("GPU {id}"), capability: (8, 0), memory: 80_000_000_000, id: GpuId([id; 16]) }
    }

    fn machine(host: &str, ids: &[u8]) -> Found {
        (host.to_string(), Ok(ids.iter().map(|&id| gpu(id)).collect()))
    }

    fn machine_without_gpus(host: &str) -> Found {
        (host.to_string(), Err("there is no driver".to_string()))
    }

    fn indices(all: &[Found]) -> Vec<Option<usize>> {
        (0..all.len()).map(|rank| assign_gpu(Request::Auto, rank, all).unwrap()).collect()
    }

    #[test]
    fn every_rank_gets_a_separate_gpu() {
        let (a, b) = (machine("a", &[1, 2, 3]), machine("b", &[7, 8]));
        assert_eq!(indices(&[a.clone(), a.clone(), b.clone(), b]), [Some(0), Some(1), Some(0), Some(1)]);
        // The launcher may make only one GPU visible to each rank, or order them differently.
        assert_eq!(indices(&[machine("a", &[1]), machine("a", &[2])]), [Some(0), Some(0)]);
        assert_eq!(indices(&[machine("a", &[1, 2]), machine("a", &[1, 2])]), [Some(0), Some(1)]);
        assert_eq!(indices(&[machine("a", &[2, 1]), machine("a", &[1, 2])]), [Some(0), Some(0)]);
        assert_eq!(indices(&[machine_without_gpus("a"), machine_without_gpus("b")]), [None, None]);
        assert_eq!(assign_gpu(Request::Cpu, 0, &[a]), Ok(None));
    }

    #[test]
    fn gpus_of_the_first_machine_are_those_of_its_ranks() {
        let (a, b) = (machine("a", &[3, 1, 2]), machine("b", &[7, 8]));
        assert_eq!(log_gpus(Request::Auto, &[a.clone(), b.clone(), b, a]), [3, 1].map(|id| GpuId([id; 16])));
    }

    #[test]
    fn rank_without_a_gpu_is_reported_with_its_host() {
        let two = machine("node7", &[1, 2]);
        let crowded = [machine("node6", &[5]), two.clone(), two.clone(), two];
        let error = assign_gpu(Request::Cuda, 3, &crowded).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there are 3 ranks on node7, but only 2 GPUs; help: start one rank per GPU, or pass --device cpu"
        );
        assert!(assign_gpu(Request::Auto, 3, &crowded).is_err());
        for request in [Request::Auto, Request::Cuda] {
            let uneven = [machine("node7", &[1]), machine_without_gpus("node8")];
            for rank in [0, 1] {
                let error = assign_gpu(request, rank, &uneven).unwrap_err().to_string();
                assert!(error.starts_with("rank 1 on node8 has no GPU to compute on: there is no driver"), "{error}");
            }
        }
        assert!(assign_gpu(Request::Cuda, 0, &[machine_without_gpus("node8")]).is_err());
    }

    #[test]
    fn cpu_accepts_fp32_and_bf16() {
        let on_cpu = |precision| choose(Request::Cpu, precision, &Single);
        assert_eq!(on_cpu(Precision::Fp32), Ok((Device::Cpu, vec![])));
        assert_eq!(on_cpu(Precision::Bf16), Ok((Device::Cpu, vec![])));
        assert!(on_cpu(Precision::Tf32).unwrap_err().message.contains("precision tf32 needs a GPU"));
        let all = on_ranks(2, |comm| choose(Request::Cpu, Precision::Tf32, comm));
        assert_eq!(all, [on_cpu(Precision::Tf32), on_cpu(Precision::Tf32)], "the same on every rank");
    }

    #[test]
    fn gpu_id_is_shown_as_a_uuid() {
        let id = GpuId(std::array::from_fn(|at| at as u8 * 17));
        assert_eq!(id.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    fn upload_preserves_values() {
        assert_eq!(Vec::<i64>::try_from(upload(&[3i64, -1], Device::Cpu)).unwrap(), [3, -1]);
        assert_eq!(upload::<f32>(&[], Device::Cpu).size(), [0]);
    }

    /// Every build of libtorch has these switches; only their effects need a GPU.
    #[test]
    fn switches_can_be_set_without_a_gpu() {
        tf32(true);
        tf32(false);
        deterministic(true);
        deterministic(false);
        prepare(Device::Cpu, Precision::Fp32, true);
        assert_eq!(peak_memory(Device::Cpu), None);
    }
}
