//! Slots: the places for ranks on one or several hosts, and their allocation to runs.

use std::time::{Duration, Instant};

use winsign_core::results::GPU_SHARE;

use super::gpus::{Lot, MPS_PERCENTAGE, Share, deal};
use super::hosts::Named;

/// After this many consecutive launch failures, a host is skipped …
const STRIKES: u32 = 3;
/// … for this long.
pub(crate) const REST: Duration = Duration::from_secs(600);

/// All slots of a launch.
#[derive(Debug, Clone)]
pub struct Slots {
    hosts: Vec<Host>,
    /// The maximum number of seats taken at the same time.
    most: usize,
    taken: usize,
    /// Whether any run has started.
    worked: bool,
}

#[derive(Debug, Clone)]
struct Host {
    name: String,
    slots: Vec<Slot>,
    /// The number of consecutive launch failures.
    strikes: u32,
    rests_until: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Slot {
    lot: Option<Lot>,
    free: bool,
}

/// The slots of one run.
#[derive(Debug)]
pub struct Seat {
    /// One part per host, starting with the host of rank 0.
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

impl Part {
    /// Returns the number of ranks.
    pub fn ranks(&self) -> usize {
        self.slots.len()
    }

    /// What tells the ranks here which GPUs are theirs, and of a shared one what part is: to account for it, and if `mps`
    /// divides it also to keep to it.
    pub fn gpu_variables(&self, mps: bool) -> Vec<(&'static str, String)> {
        let visible = self.gpus.iter().map(|gpus| ("CUDA_VISIBLE_DEVICES", gpus.clone()));
        let shared = self.sharers > 1;
        let share = shared.then(|| (GPU_SHARE, format!("{:.4}", 1.0 / f64::from(self.sharers))));
        let part = (mps && shared).then(|| (MPS_PERCENTAGE, (100 / self.sharers).max(1).to_string()));
        visible.chain(share).chain(part).collect()
    }
}

impl Slots {
    /// Creates slots for this many ranks on this machine, without assigning GPUs.
    pub fn local(ranks: u32) -> Slots {
        Slots::with_gpus(ranks, &[], Share::Even)
    }

    /// Creates slots for this many ranks on this machine, or fewer if its GPUs do not suffice.
    pub fn with_gpus(ranks: u32, gpus: &[String], share: Share) -> Slots {
        let here = Named { name: "localhost".to_string(), slots: ranks };
        Slots::new(vec![Host::new(here, Some(gpus), share)])
    }

    /// Creates slots on several hosts, whose GPUs are known only by number.
    pub fn on(hosts: Vec<Named>, share: Share) -> Slots {
        Slots::new(hosts.into_iter().map(|named| Host::new(named, None, share)).collect())
    }

    fn new(hosts: Vec<Host>) -> Slots {
        Slots { hosts, most: usize::MAX, taken: 0, worked: false }
    }

    /// Limits the number of runs at the same time.
    pub fn at_most(self, runs: u32) -> Slots {
        Slots { most: runs as usize, ..self }
    }

    /// Returns how many ranks can run at the same time if no host is skipped.
    pub fn total(&self, ranks: u32) -> usize {
        self.hosts.iter().map(|host| host.room(ranks, |_| true).len()).sum()
    }

    /// Allocates a seat for a run of this many ranks, if possible: on one host if one has enough slots, otherwise on several.
    pub fn take(&mut self, ranks: u32, now: Instant) -> Option<Seat> {
        let wanted = ranks as usize;
        if self.taken >= self.most {
            return None;
        }
        let mut rooms: Vec<(usize, Vec<usize>)> = (self.hosts.iter().enumerate())
            .filter(|(_, host)| host.rests_until.is_none_or(|until| until <= now))
            .map(|(at, host)| (at, host.room(ranks, |slot| slot.free)))
            .filter(|(_, room)| !room.is_empty())
            .collect();
        // The emptiest host first, since runs on the same host slow each other down.
        rooms.sort_by_key(|(_, room)| std::cmp::Reverse(room.len()));
        if rooms.iter().map(|(_, room)| room.len()).sum::<usize>() < wanted {
            return None;
        }
        let mut missing = wanted;
        let mut parts = vec![];
        for (at, mut room) in rooms {
            room.truncate(missing);
            missing -= room.len();
            if !room.is_empty() {
                parts.push(self.hosts[at].seat(at, room));
            }
        }
        self.taken += 1;
        Some(Seat { parts })
    }

    /// Releases a seat.
    pub fn release(&mut self, seat: &Seat) {
        self.taken -= 1;
        for part in &seat.parts {
            for &slot in &part.slots {
                self.hosts[part.host].slots[slot].free = true;
            }
        }
    }

    /// Records that a run has started on a seat.
    pub fn started(&mut self, seat: &Seat) {
        self.worked = true;
        for part in &seat.parts {
            self.hosts[part.host].strikes = 0;
            self.hosts[part.host].rests_until = None;
        }
    }

    /// Records a launch failure, whose reason may name the host that caused it. Returns the hosts that are skipped from now on.
    pub fn not_started(&mut self, seat: &Seat, reason: &str, now: Instant) -> Vec<String> {
        let named = |part: &&Part| names_host(reason, &part.name);
        let to_blame: Vec<&Part> = match seat.parts.iter().any(|part| named(&part)) {
            true => seat.parts.iter().filter(named).collect(),
            false => seat.parts.iter().collect(),
        };
        let mut resting = vec![];
        for part in to_blame {
            let host = &mut self.hosts[part.host];
            host.strikes += 1;
            // Runs launched before the last failure may still report failures.
            if host.strikes >= STRIKES && host.rests_until.is_none_or(|until| until <= now) {
                host.rests_until = Some(now + REST);
                resting.push(host.name.clone());
            }
        }
        resting
    }

    /// Whether a run of this many ranks has no place although all slots are free, and no run has ever started. Hosts that have
    /// worked before may work again.
    pub fn hopeless(&self, ranks: u32, now: Instant) -> bool {
        !self.worked && self.clone().take(ranks, now).is_none()
    }
}

impl Host {
    fn new(named: Named, gpus: Option<&[String]>, share: Share) -> Host {
        let lots = deal(named.slots as usize, gpus, share);
        let slots = lots.into_iter().map(|lot| Slot { lot, free: true }).collect();
        Host { name: named.name, slots, strikes: 0, rests_until: None }
    }

    /// Returns the free slots for a run of this many ranks, those on the least busy GPUs first. Each rank needs a GPU of its own.
    fn room(&self, ranks: u32, is_open: impl Fn(&Slot) -> bool) -> Vec<usize> {
        let gpu = |slot: usize| self.slots[slot].lot.as_ref().filter(|lot| lot.sharers > 1).map(|lot| &lot.gpus[0]);
        let busy = |slot: usize| match gpu(slot) {
            None => 0,
            Some(own) => {
                (0..self.slots.len()).filter(|&other| !self.slots[other].free && gpu(other) == Some(own)).count()
            }
        };
        let mut room: Vec<usize> = (0..self.slots.len()).filter(|&slot| is_open(&self.slots[slot])).collect();
        room.sort_by_cached_key(|&slot| busy(slot));
        if ranks > 1 {
            let mut seen = vec![];
            room.retain(|&slot| {
                gpu(slot).is_none_or(|gpu| {
                    let is_new = !seen.contains(&gpu);
                    seen.push(gpu);
                    is_new
                })
            });
        }
        room
    }

    fn seat(&mut self, at: usize, slots: Vec<usize>) -> Part {
        let mut gpus: Option<Vec<String>> = None;
        let mut sharers = 1;
        for &slot in &slots {
            self.slots[slot].free = false;
            if let Some(lot) = &self.slots[slot].lot {
                gpus.get_or_insert_default().extend(lot.gpus.iter().cloned());
                sharers = lot.sharers;
            }
        }
        Part { name: self.name.clone(), host: at, slots, gpus: gpus.map(|gpus| gpus.join(",")), sharers }
    }
}

/// Whether a text contains the name of a host as a separate word.
fn names_host(text: &str, name: &str) -> bool {
    let in_a_name = |character: char| character.is_alphanumeric() || "._-".contains(character);
    text.split(|character| !in_a_name(character)).any(|word| word.trim_end_matches('.') == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(slots: &[(&str, u32)], share: Share) -> Slots {
        Slots::on(slots.iter().map(|&(name, slots)| Named { name: name.to_string(), slots }).collect(), share)
    }

    /// Where a seat is: `a:2[0,1] b:1[0]`.
    fn place(seat: &Option<Seat>) -> String {
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
        assert_eq!(seats.iter().map(place).collect::<Vec<_>>(), ["b:2", "a:2", "b:2", "none"]);
        slots.release(seats[0].as_ref().unwrap());
        assert_eq!(place(&slots.take(3, now)), "b:2 a:1");
        assert_eq!(place(&slots.take(1, now)), "none");
    }

    #[test]
    fn single_ranks_spread_over_hosts() {
        let now = Instant::now();
        let mut slots = hosts(&[("a", 2), ("b", 2)], Share::Even);
        let places: Vec<String> = (0..5).map(|_| place(&slots.take(1, now))).collect();
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
        let mut slots = Slots::with_gpus(4, &["4".to_string(), "GPU-5".to_string()], Share::of(0.5).unwrap());
        let seats: Vec<Option<Seat>> = (0..5).map(|_| slots.take(1, now)).collect();
        let places: Vec<String> = seats.iter().map(place).collect();
        assert_eq!(places[..3], ["localhost:1[4]", "localhost:1[GPU-5]", "localhost:1[4]"]);
        assert_eq!(places[3..], ["localhost:1[GPU-5]", "none"]);
        let part = &seats[0].as_ref().unwrap().parts[0];
        let all = [("CUDA_VISIBLE_DEVICES", "4"), (GPU_SHARE, "0.5000"), (MPS_PERCENTAGE, "50")];
        let all = all.map(|(name, value)| (name, value.to_string()));
        assert_eq!(part.gpu_variables(false), all[..2]);
        assert_eq!(part.gpu_variables(true), all);
        slots.release(seats[1].as_ref().unwrap());
        assert_eq!(place(&slots.take(1, now)), "localhost:1[GPU-5]");
    }

    #[test]
    fn ranks_of_one_run_do_not_share_a_gpu() {
        let now = Instant::now();
        let mut slots = hosts(&[("a", 4), ("b", 2)], Share::of(0.5).unwrap());
        assert_eq!((slots.total(1), slots.total(2)), (6, 3));
        let places: Vec<String> = (0..3).map(|_| place(&slots.take(2, now))).collect();
        assert_eq!(places, ["a:2[0,1]", "a:2[0,1]", "none"]);
        assert_eq!(place(&slots.take(1, now)), "b:1[0]");
        let mut slots = hosts(&[("a", 2), ("b", 2)], Share::Whole(2));
        assert_eq!(place(&slots.take(3, now)), "a:2[0,1,2,3] b:1[0,1]");
    }

    #[test]
    fn host_with_launch_failures_is_skipped_temporarily() {
        let now = Instant::now();
        let mut slots = hosts(&[("a", 2), ("b", 2)], Share::Even);
        assert!(!slots.hopeless(4, now));
        let spread = slots.take(4, now).unwrap();
        let mut rests = vec![];
        for _ in 0..STRIKES {
            rests.extend(slots.not_started(&spread, "ssh: connect to host b port 22: Connection refused", now));
        }
        slots.release(&spread);
        assert_eq!(rests, ["b"]);
        assert!(slots.hopeless(4, now) && !slots.hopeless(2, now));
        let seats: Vec<Option<Seat>> = (0..3).map(|_| slots.take(1, now)).collect();
        assert_eq!(seats.iter().map(place).collect::<Vec<_>>(), ["a:1", "a:1", "none"]);
        // It gets one more chance.
        let later = now + REST;
        let again = slots.take(1, later).unwrap();
        assert_eq!(again.parts[0].name, "b");
        assert_eq!(slots.not_started(&again, "no", later), ["b"]);
        slots.release(&again);
        assert!(slots.take(1, later).is_none());
        let again = slots.take(1, later + REST).unwrap();
        slots.started(&again);
        assert!(!slots.hopeless(4, later));
        assert!(slots.not_started(&again, "no", later).is_empty(), "strikes are counted in a row");
    }

    #[test]
    fn host_names_are_matched_as_whole_words() {
        assert!(names_host("ssh: connect to host node1 port 22: No route", "node1"));
        assert!(names_host("ssh: Could not resolve hostname node1: unknown", "node1"));
        assert!(!names_host("ssh: connect to host node10 port 22", "node1"));
        assert!(!names_host("node1.site is away", "node1"));
    }
}
