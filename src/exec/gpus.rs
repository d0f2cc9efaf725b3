//! GPUs of a host, and their assignment to slots.

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
    Whole(u32),
    /// One of this many ranks on a GPU.
    OneOf(u32),
}

impl Share {
    /// Converts a number such as 2, 1 or 0.25. A fraction that does not divide a GPU evenly is rounded up to one that does.
    pub fn of(gpus: f64) -> Result<Share, Diagnostic> {
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

    /// Returns how many ranks fit on the GPUs; `None` if there is no limit.
    pub fn held_by(self, gpus: usize) -> Option<usize> {
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
pub struct Lot {
    /// Their names as in `CUDA_VISIBLE_DEVICES`.
    pub gpus: Vec<String>,
    /// The number of slots that share the GPU.
    pub sharers: u32,
}

/// Assigns GPUs to slots, with `None` for slots whose GPUs are not restricted. If the GPUs of the host are not known (`gpus` is
/// `None`), they are numbered. Returns fewer slots than requested if the GPUs do not suffice.
pub fn deal(slots: usize, gpus: Option<&[String]>, share: Share) -> Vec<Option<Lot>> {
    let count = gpus.map(<[String]>::len);
    let held = count.and_then(|count| share.held_by(count)).filter(|_| share != Share::Even);
    let slots = held.map_or(slots, |held| slots.min(held));
    let name = |index: usize| match gpus {
        Some(gpus) => gpus[index].clone(),
        None => index.to_string(),
    };
    let lot = |slot: usize| match (share, count) {
        (Share::Even, None | Some(0)) => None,
        (Share::Even, Some(count)) => {
            let gpu = |slot: usize| slot * count / slots.max(count);
            let sharers = (0..slots).filter(|&other| gpu(other) == gpu(slot)).count() as u32;
            Some(Lot { gpus: vec![name(gpu(slot))], sharers })
        }
        (Share::Whole(each), _) => {
            let each = each as usize;
            Some(Lot { gpus: (slot * each..(slot + 1) * each).map(name).collect(), sharers: 1 })
        }
        (Share::OneOf(parts), _) => Some(Lot { gpus: vec![name(slot / parts as usize)], sharers: parts }),
    };
    (0..slots).map(lot).collect()
}

/// Returns the GPUs that this process may use, named as in `CUDA_VISIBLE_DEVICES`.
pub fn here() -> Vec<String> {
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    // The driver has one directory per GPU.
    let all = fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, |gpus| gpus.flatten().count());
    visible_of(visible.as_deref(), all)
}

/// Returns the GPUs visible to CUDA: those named before the first invalid name.
fn visible_of(visible: Option<&str>, all: usize) -> Vec<String> {
    match visible {
        None => (0..all).map(|gpu| gpu.to_string()).collect(),
        Some(list) => {
            let is_gpu = |name: &&str| name.starts_with(|first: char| first.is_ascii_alphanumeric());
            let is_gpu = |name: &&str| is_gpu(name) && !["none", "void", "NoDevFiles"].contains(name);
            list.split(',').map(str::trim).take_while(is_gpu).map(str::to_string).collect()
        }
    }
}

/// Whether NVIDIA's multi-process service, which divides a GPU among processes, is running.
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

    /// The GPUs of every slot, joined, with how many share them.
    fn dealt(slots: usize, gpus: Option<&[&str]>, share: f64) -> Vec<(String, u32)> {
        let gpus = gpus.map(names);
        let lots = deal(slots, gpus.as_deref(), Share::of(share).unwrap());
        lots.into_iter().map(|lot| lot.unwrap()).map(|lot| (lot.gpus.join(","), lot.sharers)).collect()
    }

    fn of(lots: &[(&str, u32)]) -> Vec<(String, u32)> {
        lots.iter().map(|&(gpus, sharers)| (gpus.to_string(), sharers)).collect()
    }

    #[test]
    fn slots_own_whole_gpus_or_share_one() {
        assert_eq!(dealt(2, None, 1.0), of(&[("0", 1), ("1", 1)]));
        assert_eq!(dealt(2, None, 2.0), of(&[("0,1", 1), ("2,3", 1)]));
        assert_eq!(dealt(5, None, 0.5), of(&[("0", 2), ("0", 2), ("1", 2), ("1", 2), ("2", 2)]));
        // Three parts of 0.3 are on a GPU, not four.
        assert_eq!(dealt(4, None, 0.3), of(&[("0", 3), ("0", 3), ("0", 3), ("1", 3)]));
        assert_eq!(dealt(11, None, 0.1)[9..], of(&[("0", 10), ("1", 10)]));
        // On the CPU.
        assert_eq!(dealt(2, Some(&["0"]), 0.0), of(&[("", 1), ("", 1)]));
    }

    #[test]
    fn known_gpus_keep_names_and_capacity() {
        assert_eq!(dealt(3, Some(&["GPU-a", "7"]), 1.0), of(&[("GPU-a", 1), ("7", 1)]));
        assert_eq!(dealt(9, Some(&["5", "6", "7"]), 2.0), of(&[("5,6", 1)]));
        assert_eq!(dealt(9, Some(&["3"]), 0.25), of(&[("3", 4); 4]));
        assert_eq!(dealt(1, Some(&[]), 1.0), []);
    }

    #[test]
    fn gpus_are_divided_evenly_by_default() {
        let even = |slots, gpus: Option<&[&str]>| deal(slots, gpus.map(names).as_deref(), Share::Even);
        let lot = |gpu: &str, sharers| Some(Lot { gpus: names(&[gpu]), sharers });
        assert_eq!(even(2, Some(&["4", "5", "6"])), [lot("4", 1), lot("5", 1)]);
        assert_eq!(even(3, Some(&["4", "5"])), [lot("4", 2), lot("4", 2), lot("5", 1)]);
        assert_eq!(even(2, Some(&[])), [None, None]);
        assert_eq!(even(2, None), [None, None]);
    }

    #[test]
    fn invalid_shares_are_rejected() {
        for wrong in [-1.0, 1.5, 0.0001, f64::NAN, f64::INFINITY] {
            assert!(Share::of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn visible_gpus_match_cuda() {
        assert_eq!(visible_of(None, 2), names(&["0", "1"]));
        assert_eq!(visible_of(Some("2, GPU-1f"), 8), names(&["2", "GPU-1f"]));
        assert_eq!(visible_of(Some("1,-1,3"), 8), names(&["1"]));
        for none in ["", "-1", "NoDevFiles", "void"] {
            assert!(visible_of(Some(none), 8).is_empty(), "{none}");
        }
    }
}
