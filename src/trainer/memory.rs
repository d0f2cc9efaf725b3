//! How the process gets its memory, and how much it had.

/// Keeps memory that tensors gave back, for the next ones. To be called before the first tensor is made.
///
/// By default large blocks go back to the system when they are freed, and come anew, zeroed page by page, a moment later:
/// a third of the time of a training step of MobileNetV2 on CPUs. The process's size stays at its peak instead.
#[cfg(target_env = "gnu")]
pub fn keep() {
    // SAFETY: both only set a number of the allocator; see mallopt(3).
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
    }
}

#[cfg(not(target_env = "gnu"))]
pub fn keep() {}

/// The most memory, in bytes, that this process had at once; none where the system does not say. (What `getrusage` says
/// includes what the program had that was here before `exec`.)
pub fn peak() -> Option<u64> {
    peak_in(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn peak_in(status: &str) -> Option<u64> {
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"))?;
    Some(kilobytes.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_off_what_the_system_says() {
        let status = "Name:\twinsign-worker\nVmPeak:\t 2097152 kB\nVmHWM:\t  524288 kB\nVmRSS:\t   1024 kB\n";
        assert_eq!(peak_in(status), Some(512 << 20));
        assert_eq!(peak_in("Name:\twinsign-worker\n"), None);
    }

    #[test]
    fn what_was_given_back_still_counts() {
        let before = peak().unwrap();
        drop(std::hint::black_box(vec![1u8; 64 << 20]));
        assert!(peak().unwrap() >= before.max(64 << 20));
    }
}
