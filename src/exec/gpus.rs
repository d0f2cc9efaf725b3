//! The GPUs of a host, and their assignment to slots.

use std::fs;
use std::path::Path;

use winsign_core::Diagnostic;

/// The percentage of a GPU that a process may use; read by NVIDIA's multi-process service.
pub const MPS_PERCENTAGE: &str = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE";

/// The GPUs of a rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Share {
    /// All GPUs, divided evenly.
    Even,
    /// This many GPUs for each rank.
    Whole(u32),
    /// One GPU for this many ranks.
    OneOf(u32),
}

impl Share {
    /// Converts a number of GPUs such as 2, 1 or 0.25. A fraction that does not divide a GPU evenly is rounded up to one that
    /// does.
    pub fn from_gpus(gpus: f64) -> Result<Share, Diagnostic> {
        match gpus {
            _ if gpus.fract() == 0.0 && (0.0..=1024.0).contains(&gpus) => Ok(Share::Whole(gpus as u32)),
            // 1 / 0.1 is not quite 10.
            _ if (0.001..1.0).contains(&gpus) => Ok(Share::OneOf((1.0 / gpus + 1e-9) as u32)),
            _ => {
                let message = format!("cannot assign {gpus} GPUs to a rank");
                Err(Diagnostic::new(message, "use a whole number or a fraction of one GPU: --gpus 1, --gpus 0.25"))
            }
        }
    }

    /// Returns how many ranks fit on the GPUs; returns `None` if there is no limit.
    pub fn ranks_on(self, gpus: usize) -> Option<usize> {
        match self {
            Share::Even => Some(gpus),
            Share::Whole(0) => None,
            Share::Whole(each) => Some(gpus / each as usize),
            Share::OneOf(parts) => Some(gpus.saturating_mul(parts as usize)),
        }
    }
}

/// The GPUs of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotGpus {
    /// The names of the GPUs as in `CUDA_VISIBLE_DEVICES`.
    pub names: Vec<String>,
    /// The number of slots that share the GPU.
    pub sharers: u32,
}

/// Assigns GPUs to slots, with `None` for slots whose GPUs are not restricted. If the GPUs of the host are not known (`gpus`
/// is `None`), they are numbered. Returns fewer slots than requested if there are not enough GPUs.
pub fn assign_gpus(slots: usize, gpus: Option<&[String]>, share: Share) -> Vec<Option<SlotGpus>> {
    let count = gpus.map(<[String]>::len);
    let limit = count.and_then(|count| share.ranks_on(count)).filter(|_| share != Share::Even);
    let slots = limit.map_or(slots, |limit| slots.min(limit));
    let name = |index: usize| match gpus {
        Some(gpus) => gpus[index].clone(),
        None => index.to_string(),
    };
    let assign = |slot: usize| match (share, count) {
        (Share::Even, None | Some(0)) => None,
        (Share::Even, Some(count)) => {
            let gpu = |slot: usize| slot * count / slots.max(count);
            let sharers = (0..slots).filter(|&other| gpu(other) == gpu(slot)).count() as u32;
            Some(SlotGpus { names: vec![name(gpu(slot))], sharers })
        }
        (Share::Whole(each), _) => {
            let each = each as usize;
            Some(SlotGpus { names: (slot * each..(slot + 1) * each).map(name).collect(), sharers: 1 })
        }
        (Share::OneOf(parts), _) => Some(SlotGpus { names: vec![name(slot / parts as usize)], sharers: parts }),
    };
    (0..slots).map(assign).collect()
}

/// Returns the GPUs that this process may use, named as in `CUDA_VISIBLE_DEVICES`.
pub fn here() -> Vec<String> {
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    // The driver has one directory per GPU.
    let all = fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, |gpus| gpus.flatten().count());
    visible_to_cuda(visible.as_deref(), all)
}

/// Returns the GPUs visible to CUDA: those that are listed before the first invalid name.
fn visible_to_cuda(visible: Option<&str>, all: usize) -> Vec<String> {
    match visible {
        None => (0..all).map(|gpu| gpu.to_string()).collect(),
        Some(list) => list.split(',').map(str::trim).take_while(|name| is_gpu_name(name)).map(str::to_string).collect(),
    }
}

fn is_gpu_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric()) && !["none", "void", "NoDevFiles"].contains(&name)
}

/// Returns true if NVIDIA's multi-process service, which divides a GPU among processes, is running.
pub fn have_mps() -> bool {
    match std::env::var_os("CUDA_MPS_PIPE_DIRECTORY") {
        Some(pipes) => Path::new(&pipes).exists(),
        None => Path::new("/tmp/nvidia-mps").exists(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(gpus: &[&str]) -> Vec<String> {
        gpus.iter().map(|gpu| gpu.to_string()).collect()
    }

    /// Returns the GPUs of every slot, joined, with the number of slots that share them.
    fn assigned(slots: usize, gpus: Option<&[&str]>, share: f64) -> Vec<(String, u32)> {
        let gpus = gpus.map(names);
        let assigned = assign_gpus(slots, gpus.as_deref(), Share::from_gpus(share).unwrap());
        assigned.into_iter().map(|gpus| gpus.unwrap()).map(|gpus| (gpus.names.join(","), gpus.sharers)).collect()
    }

    fn expected(slots: &[(&str, u32)]) -> Vec<(String, u32)> {
        slots.iter().map(|&(gpus, sharers)| (gpus.to_string(), sharers)).collect()
    }

    #[test]
    fn slots_own_whole_gpus_or_share_one() {
        assert_eq!(assigned(2, None, 1.0), expected(&[("0", 1), ("1", 1)]));
        assert_eq!(assigned(2, None, 2.0), expected(&[("0,1", 1), ("2,3", 1)]));
        assert_eq!(assigned(5, None, 0.5), expected(&[("0", 2), ("0", 2), ("1", 2), ("1", 2), ("2", 2)]));
        // Three ranks with 0.3 of a GPU share it, not four.
        assert_eq!(assigned(4, None, 0.3), expected(&[("0", 3), ("0", 3), ("0", 3), ("1", 3)]));
        assert_eq!(assigned(11, None, 0.1)[9..], expected(&[("0", 10), ("1", 10)]));
        // Without a GPU, ranks compute on the CPU.
        assert_eq!(assigned(2, Some(&["0"]), 0.0), expected(&[("", 1), ("", 1)]));
    }

    #[test]
    fn known_gpus_keep_names_and_capacity() {
        assert_eq!(assigned(3, Some(&["GPU-a", "7"]), 1.0), expected(&[("GPU-a", 1), ("7", 1)]));
        assert_eq!(assigned(9, Some(&["5", "6", "7"]), 2.0), expected(&[("5,6", 1)]));
        assert_eq!(assigned(9, Some(&["3"]), 0.25), expected(&[("3", 4); 4]));
        assert_eq!(assigned(1, Some(&[]), 1.0), []);
    }

    #[test]
    fn gpus_are_divided_evenly_by_default() {
        let even = |slots, gpus: Option<&[&str]>| assign_gpus(slots, gpus.map(names).as_deref(), Share::Even);
        let one = |gpu: &str, sharers| Some(SlotGpus { names: names(&[gpu]), sharers });
        assert_eq!(even(2, Some(&["4", "5", "6"])), [one("4", 1), one("5", 1)]);
        assert_eq!(even(3, Some(&["4", "5"])), [one("4", 2), one("4", 2), one("5", 1)]);
        assert_eq!(even(2, Some(&[])), [None, None]);
        assert_eq!(even(2, None), [None, None]);
    }

    #[test]
    fn invalid_shares_are_rejected() {
        for wrong in [-1.0, 1.5, 0.0001, f64::NAN, f64::INFINITY] {
            assert!(Share::from_gpus(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn visible_gpus_match_cuda() {
        assert_eq!(visible_to_cuda(None, 2), names(&["0", "1"]));
        assert_eq!(visible_to_cuda(Some("2, GPU-1f"), 8), names(&["2", "GPU-1f"]));
        assert_eq!(visible_to_cuda(Some("1,-1,3"), 8), names(&["1"]));
        for none in ["", "-1", "NoDevFiles", "void"] {
            assert!(visible_to_cuda(Some(none), 8).is_empty(), "{none}");
        }
    }
}
