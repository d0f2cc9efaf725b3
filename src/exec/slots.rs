//! Slots: the places for ranks on one or several hosts, and their allocation to runs.

use std::time::{Duration, Instant};

use winsign_core::results::GPU_SHARE;

use super::gpus::{MPS_PERCENTAGE, Share, SlotGpus, assign_gpus};
use super::hosts::{Named, split_user};

/// The number of consecutive launch failures after which a host is skipped.
const MAX_FAILURES: u32 = 3;
/// The time for which a host is skipped.
pub(crate) const SKIP_TIME: Duration = Duration::from_secs(600);

/// The name of this machine among the hosts.
const LOCALHOST: &str = "localhost";

/// All slots of a launch.
#[derive(Debug, Clone)]
pub struct Slots {
    hosts: Vec<Host>,
    /// The maximum number of seats that are taken at the same time.
    max_seats: usize,
    /// The number of seats that are taken.
    seats: usize,
    /// True if any run has started.
    has_started: bool,
}

#[derive(Debug, Clone)]
struct Host {
    name: String,
    slots: Vec<Slot>,
    /// The number of consecutive launch failures.
    failures: u32,
    /// The end of the time for which the host is skipped.
    skipped_until: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Slot {
    gpus: Option<SlotGpus>,
    free: bool,
}

/// The slots of one run.
#[derive(Debug)]
pub struct Seat {
    /// The parts of the seat, one per host, starting with the host of rank 0.
    pub parts: Vec<Part>,
}

/// The slots of one run on one host.
#[derive(Debug)]
pub struct Part {
    /// The host's name.
    pub name: String,
    host: usize,
    slots: Vec<usize>,
    /// The value of `CUDA_VISIBLE_DEVICES`; `None` to leave it unset.
    gpus: Option<String>,
    /// The number of slots that share each GPU.
    sharers: u32,
}

impl Seat {
    /// Returns the names of the hosts, separated by commas.
    pub(crate) fn hosts(&self) -> String {
        self.parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl Part {
    /// Returns the number of ranks.
    pub fn ranks(&self) -> usize {
        self.slots.len()
    }

    /// Returns the environment variables that give the ranks their GPUs, and their share of a GPU that several slots share:
    /// the share that is accounted for and, if `mps` divides the GPU, the one that is enforced.
    pub fn gpu_variables(&self, mps: bool) -> Vec<(&'static str, String)> {
        let visible = self.gpus.iter().map(|gpus| ("CUDA_VISIBLE_DEVICES", gpus.clone()));
        let shared = self.sharers > 1;
        let share = shared.then(|| (GPU_SHARE, format!("{:.4}", 1.0 / f64::from(self.sharers))));
        let limit = (mps && shared).then(|| (MPS_PERCENTAGE, (100 / self.sharers).max(1).to_string()));
        visible.chain(share).chain(limit).collect()
    }
}

impl Slots {
    /// Creates slots for this many ranks on this machine, without assigning GPUs.
    pub fn local(ranks: u32) -> Slots {
        Slots::with_gpus(ranks, &[], Share::Even)
    }

    /// Creates slots for this many ranks on this machine, or fewer if there are not enough GPUs.
    pub fn with_gpus(ranks: u32, gpus: &[String], share: Share) -> Slots {
        let localhost = Named { name: LOCALHOST.to_string(), slots: ranks };
        Slots::new(vec![Host::new(localhost, Some(gpus), share)])
    }

    /// Creates slots on several hosts, whose GPUs are known only by number.
    pub fn on(hosts: Vec<Named>, share: Share) -> Slots {
        Slots::new(hosts.into_iter().map(|named| Host::new(named, None, share)).collect())
    }

    fn new(hosts: Vec<Host>) -> Slots {
        Slots { hosts, max_seats: usize::MAX, seats: 0, has_started: false }
    }

    /// Limits the number of runs at the same time.
    pub fn at_most(self, runs: u32) -> Slots {
        Slots { max_seats: runs as usize, ..self }
    }

    /// Returns true if all slots are on this machine.
    pub fn are_local(&self) -> bool {
        self.hosts.iter().all(|host| host.name == LOCALHOST)
    }

    /// Returns how many ranks can run at the same time if no host is skipped.
    pub fn total(&self, ranks: u32) -> usize {
        self.hosts.iter().map(|host| host.usable_slots(ranks, |_| true).len()).sum()
    }

    /// Allocates a seat for a run of this many ranks, if possible: on one host if it has enough slots, otherwise on several.
    pub fn take(&mut self, ranks: u32, now: Instant) -> Option<Seat> {
        let wanted = ranks as usize;
        if self.seats >= self.max_seats {
            return None;
        }
        let mut candidates: Vec<(usize, Vec<usize>)> = (self.hosts.iter().enumerate())
            .filter(|(_, host)| host.skipped_until.is_none_or(|until| until <= now))
            .map(|(at, host)| (at, host.usable_slots(ranks, |slot| slot.free)))
            .filter(|(_, slots)| !slots.is_empty())
            .collect();
        // The host with the most free slots comes first, since runs on the same host slow each other down.
        candidates.sort_by_key(|(_, slots)| std::cmp::Reverse(slots.len()));
        if candidates.iter().map(|(_, slots)| slots.len()).sum::<usize>() < wanted {
            return None;
        }
        let mut missing = wanted;
        let mut parts = vec![];
        for (at, mut slots) in candidates {
            slots.truncate(missing);
            missing -= slots.len();
            if !slots.is_empty() {
                parts.push(self.hosts[at].take(at, slots));
            }
        }
        self.seats += 1;
        Some(Seat { parts })
    }

    /// Releases a seat.
    pub fn release(&mut self, seat: &Seat) {
        self.seats -= 1;
        for part in &seat.parts {
            for &slot in &part.slots {
                self.hosts[part.host].slots[slot].free = true;
            }
        }
    }

    /// Records that a run has started on a seat.
    pub fn record_start(&mut self, seat: &Seat) {
        self.has_started = true;
        for part in &seat.parts {
            self.hosts[part.host].failures = 0;
            self.hosts[part.host].skipped_until = None;
        }
    }

    /// Records a launch failure, whose reason may name the host that caused it. Returns the hosts that are skipped from now
    /// on.
    pub fn record_failure(&mut self, seat: &Seat, reason: &str, now: Instant) -> Vec<String> {
        let named = |part: &&Part| names_host(reason, &part.name);
        let failed: Vec<&Part> = match seat.parts.iter().any(|part| named(&part)) {
            true => seat.parts.iter().filter(named).collect(),
            false => seat.parts.iter().collect(),
        };
        let mut skipped = vec![];
        for part in failed {
            let host = &mut self.hosts[part.host];
            host.failures += 1;
            // Runs launched before the last failure may still report failures.
            if host.failures >= MAX_FAILURES && host.skipped_until.is_none_or(|until| until <= now) {
                host.skipped_until = Some(now + SKIP_TIME);
                skipped.push(host.name.clone());
            }
        }
        skipped
    }

    /// Returns true if a run of this many ranks cannot be placed and no run has ever started. Hosts on which a run has
    /// started before may become usable again. Meant to be called while all slots are free.
    pub fn cannot_place(&self, ranks: u32, now: Instant) -> bool {
        !self.has_started && self.clone().take(ranks, now).is_none()
    }
}

impl Host {
    fn new(named: Named, gpus: Option<&[String]>, share: Share) -> Host {
        let assigned = assign_gpus(named.slots as usize, gpus, share);
        let slots = assigned.into_iter().map(|gpus| Slot { gpus, free: true }).collect();
        Host { name: named.name, slots, failures: 0, skipped_until: None }
    }

    /// Returns the slots that a run of this many ranks can use among those that `is_open` selects, the slots on the least busy
    /// GPUs first. Each rank of a run needs a GPU of its own.
    fn usable_slots(&self, ranks: u32, is_open: impl Fn(&Slot) -> bool) -> Vec<usize> {
        let mut usable: Vec<usize> = (0..self.slots.len()).filter(|&slot| is_open(&self.slots[slot])).collect();
        usable.sort_by_cached_key(|&slot| self.ranks_on_shared_gpu(slot));
        if ranks > 1 {
            let mut seen = vec![];
            usable.retain(|&slot| {
                self.slots[slot].shared_gpu().is_none_or(|gpu| {
                    let is_new = !seen.contains(&gpu);
                    seen.push(gpu);
                    is_new
                })
            });
        }
        usable
    }

    /// Returns the number of ranks on the GPU of a slot; 0 if the slot does not share a GPU.
    fn ranks_on_shared_gpu(&self, slot: usize) -> usize {
        let gpu = self.slots[slot].shared_gpu();
        self.slots.iter().filter(|other| !other.free && gpu.is_some() && other.shared_gpu() == gpu).count()
    }

    /// Takes these slots of this host, which has the index `at`.
    fn take(&mut self, at: usize, slots: Vec<usize>) -> Part {
        let mut gpus: Option<Vec<String>> = None;
        let mut sharers = 1;
        for &slot in &slots {
            self.slots[slot].free = false;
            if let Some(assigned) = &self.slots[slot].gpus {
                gpus.get_or_insert_default().extend(assigned.names.iter().cloned());
                sharers = assigned.sharers;
            }
        }
        Part { name: self.name.clone(), host: at, slots, gpus: gpus.map(|gpus| gpus.join(",")), sharers }
    }
}

impl Slot {
    /// Returns the GPU of the slot if other slots share it.
    fn shared_gpu(&self) -> Option<&String> {
        self.gpus.as_ref().filter(|gpus| gpus.sharers > 1).map(|gpus| &gpus.names[0])
    }
}

/// Returns true if a text contains the name of a host as a separate word. The name may have a user, as in `user@host`.
fn names_host(text: &str, name: &str) -> bool {
    let (_, name) = split_user(name);
    let in_a_name = |character: char| character.is_alphanumeric() || "._-".contains(character);
    text.split(|character| !in_a_name(character)).any(|word| word.trim_end_matches('.') == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(slots: &[(&str, u32)], share: Share) -> Slots {
        Slots::on(slots.iter().map(|&(name, slots)| Named { name: name.to_string(), slots }).collect(), share)
    }

    /// Describes a seat by its hosts, their ranks and GPUs: `a:2[0,1] b:1[0]`.
    fn describe(seat: &Option<Seat>) -> String {
        let part = |part: &Part| {
            let gpus = part.gpus.as_ref().map(|gpus| format!("[{gpus}]")).unwrap_or_default();
            format!("{}:{}{gpus}", part.name, part.ranks())
        };
        seat.as_ref().map_or("none".to_string(), |seat| seat.parts.iter().map(part).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn run_prefers_a_single_host() {
        let now = Instant::now();
        let mut slots = hosts(&[("a", 3), ("b", 4)], Share::Even);
        let seats: Vec<Option<Seat>> = (0..4).map(|_| slots.take(2, now)).collect();
        assert_eq!(seats.iter().map(describe).collect::<Vec<_>>(), ["b:2", "a:2", "b:2", "none"]);
        slots.release(seats[0].as_ref().unwrap());
        assert_eq!(describe(&slots.take(3, now)), "b:2 a:1");
        assert_eq!(describe(&slots.take(1, now)), "none");
    }

    #[test]
    fn single_ranks_spread_over_hosts() {
        let now = Instant::now();
        let mut slots = hosts(&[("a", 2), ("b", 2)], Share::Even);
        let places: Vec<String> = (0..5).map(|_| describe(&slots.take(1, now))).collect();
        assert_eq!(places, ["a:1", "b:1", "a:1", "b:1", "none"]);
    }

    #[test]
    fn at_most_limits_runs() {
        let now = Instant::now();
        let mut slots = hosts(&[("a", 4)], Share::Even).at_most(1);
        let seat = slots.take(2, now).unwrap();
        assert!(slots.take(1, now).is_none());
        slots.release(&seat);
        assert!(slots.take(4, now).is_some());
    }

    #[test]
    fn least_busy_gpus_are_taken_first() {
        let now = Instant::now();
        let mut slots = Slots::with_gpus(4, &["4".to_string(), "GPU-5".to_string()], Share::from_gpus(0.5).unwrap());
        let seats: Vec<Option<Seat>> = (0..5).map(|_| slots.take(1, now)).collect();
        let places: Vec<String> = seats.iter().map(describe).collect();
        assert_eq!(places[..3], ["localhost:1[4]", "localhost:1[GPU-5]", "localhost:1[4]"]);
        assert_eq!(places[3..], ["localhost:1[GPU-5]", "none"]);
        let part = &seats[0].as_ref().unwrap().parts[0];
        let all = [("CUDA_VISIBLE_DEVICES", "4"), (GPU_SHARE, "0.5000"), (MPS_PERCENTAGE, "50")];
        let all = all.map(|(name, value)| (name, value.to_string()));
        assert_eq!(part.gpu_variables(false), all[..2]);
        assert_eq!(part.gpu_variables(true), all);
        slots.release(seats[1].as_ref().unwrap());
        assert_eq!(describe(&slots.take(1, now)), "localhost:1[GPU-5]");
    }

    #[test]
    fn ranks_of_one_run_do_not_share_a_gpu() {
        let now = Instant::now();
        let mut slots = hosts(&[("a", 4), ("b", 2)], Share::from_gpus(0.5).unwrap());
        assert_eq!((slots.total(1), slots.total(2)), (6, 3));
        let places: Vec<String> = (0..3).map(|_| describe(&slots.take(2, now))).collect();
        assert_eq!(places, ["a:2[0,1]", "a:2[0,1]", "none"]);
        assert_eq!(describe(&slots.take(1, now)), "b:1[0]");
        let mut slots = hosts(&[("a", 2), ("b", 2)], Share::Whole(2));
        assert_eq!(describe(&slots.take(3, now)), "a:2[0,1,2,3] b:1[0,1]");
    }

    #[test]
    fn host_with_launch_failures_is_skipped_temporarily() {
        let now = Instant::now();
        let mut slots = hosts(&[("a", 2), ("b", 2)], Share::Even);
        assert!(!slots.cannot_place(4, now));
        let spread = slots.take(4, now).unwrap();
        let mut skipped = vec![];
        for _ in 0..MAX_FAILURES {
            skipped.extend(slots.record_failure(&spread, "ssh: connect to host b port 22: Connection refused", now));
        }
        slots.release(&spread);
        assert_eq!(skipped, ["b"]);
        assert!(slots.cannot_place(4, now) && !slots.cannot_place(2, now));
        let seats: Vec<Option<Seat>> = (0..3).map(|_| slots.take(1, now)).collect();
        assert_eq!(seats.iter().map(describe).collect::<Vec<_>>(), ["a:1", "a:1", "none"]);
        // After that time, one more failure is enough.
        let later = now + SKIP_TIME;
        let again = slots.take(1, later).unwrap();
        assert_eq!(again.parts[0].name, "b");
        assert_eq!(slots.record_failure(&again, "no", later), ["b"]);
        slots.release(&again);
        assert!(slots.take(1, later).is_none());
        let again = slots.take(1, later + SKIP_TIME).unwrap();
        slots.record_start(&again);
        assert!(!slots.cannot_place(4, later));
        assert!(slots.record_failure(&again, "no", later).is_empty(), "only consecutive failures are counted");
    }

    #[test]
    fn host_names_are_matched_as_whole_words() {
        assert!(names_host("ssh: connect to host node1 port 22: No route", "node1"));
        assert!(names_host("ssh: Could not resolve hostname node1: unknown", "node1"));
        assert!(!names_host("ssh: connect to host node10 port 22", "node1"));
        assert!(!names_host("node1.site is away", "node1"));
        assert!(names_host("me@node1: Permission denied", "me@node1"));
    }
}
