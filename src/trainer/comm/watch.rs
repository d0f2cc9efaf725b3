//! The watch: detects ranks that exit, hang or become unreachable, and ends all ranks.
//!
//! MPI waits for a lost rank forever, and launchers detect only some kinds of losses. So every rank keeps a TCP
//! connection to rank 0, and sends a heartbeat every second with the number of exchanges that its main thread has
//! entered and its current activity. Rank 0 decides whether a rank is lost, reports it, and makes the others exit. The
//! others watch rank 0.
//!
//! A rank hangs if it keeps the others waiting: another rank has entered an exchange that this one has not entered, and
//! since then this one has shown no progress for too long. The time that it computed before does not count. If all
//! ranks are inside exchanges and none leaves them, one of them hangs there, or the network between them does.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use winsign_core::{exit, owner};

use super::pulse::{self, Activity, Pulse};
use super::{Comm, Place, print_message};

/// The interval of heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The time without a heartbeat after which a rank counts as lost: its process is stopped, or its machine is down or
/// unreachable.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(15);
/// The time for which the others wait at an exchange for a rank that is alive but shows no progress. Twice the longest
/// time that any rank ever worked between two signs of progress is added, because one rank may be slower than another.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(15);
/// The time within which a rank must reach rank 0 at the beginning.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A message between ranks, sent as a line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Message {
    /// The first message to rank 0. Other programs that connect do not know the token.
    Hello { token: String, rank: usize },
    /// The message of rank 0 that it has accepted the connection.
    Welcome,
    /// A heartbeat.
    Alive {
        pulse: Pulse,
        /// The longest time of work that this rank knows of; see [`PROGRESS_TIMEOUT`].
        longest: Duration,
    },
    /// The message to rank 0 that this rank has failed, and the others may be waiting for it.
    Failed { code: u8, message: String },
    /// The request of rank 0 to exit with this code.
    End { code: u8 },
    /// The announcement that the connection will be closed, which is not a loss.
    Bye,
}

/// A running watch. It ends with [`Watch::leave`] or with the process.
pub struct Watch {
    shared: Arc<Shared>,
}

struct Shared {
    place: Place,
    /// The watched ranks: on rank 0 all others, at the index of their rank minus one; on other ranks only rank 0.
    peers: Mutex<Vec<Peer>>,
    /// The function that rank 0 calls with the exit code and the reason when it ends all ranks.
    on_end: Mutex<Option<OnEnd>>,
    ending: AtomicBool,
}

type OnEnd = Box<dyn FnOnce(u8, &str) + Send>;

/// Another rank, as seen from this one.
struct Peer {
    host: String,
    /// The connection; `None` until it is established.
    stream: Option<TcpStream>,
    /// The time of the last message.
    last_message: Instant,
    steps: Steps,
    /// The longest time of work that the rank knows of.
    longest: Duration,
    /// True if the rank has announced that it exits.
    left: bool,
}

/// The progress of a main thread.
#[derive(Debug, Clone, Copy)]
struct Steps {
    last: Pulse,
    /// The time of the last change.
    since: Instant,
    /// An exchange that another rank has entered, and the time since which this rank is awaited there.
    awaited: (u64, Instant),
}

impl Steps {
    fn new(now: Instant) -> Steps {
        Steps { last: Pulse { entered: 0, moved: 0, activity: Activity::Slow }, since: now, awaited: (0, now) }
    }

    /// Updates the progress; returns the time of work before it, if there is any progress.
    fn update(&mut self, pulse: Pulse, now: Instant) -> Option<Duration> {
        let Steps { last, since, .. } = *self;
        self.last = pulse;
        if pulse == last && pulse.activity != Activity::Slow {
            return None;
        }
        self.since = now;
        (last.activity == Activity::Work).then(|| now - since)
    }

    /// Returns the time for which this rank has kept ranks waiting that have entered the exchange `furthest`, if it has
    /// not entered it. Must be called at every heartbeat.
    fn waited_for(&mut self, furthest: u64, now: Instant) -> Option<Duration> {
        if self.last.entered >= self.awaited.0 {
            self.awaited = (furthest, now);
        }
        let (exchange, seen) = self.awaited;
        let waited_for = self.last.entered < exchange && self.last.activity != Activity::Slow;
        waited_for.then(|| now - self.since.max(seen))
    }
}

/// Returns the rank that has been hanging for longer than `limit`, and the time. The rank is `None` if no rank leaves an
/// exchange, so that it is unknown which rank hangs.
fn find_hanging(ranks: &mut [&mut Steps], limit: Duration, now: Instant) -> Option<(Option<usize>, Duration)> {
    let entered = || ranks.iter().map(|steps| steps.last.entered);
    let (least, furthest) = (entered().min()?, entered().max()?);
    let waited_for: Vec<Option<Duration>> =
        ranks.iter_mut().map(|steps| steps.waited_for(furthest, now).filter(|time| *time > limit)).collect();
    // A rank that is ahead of another may be waiting for it, and so may a rank inside an exchange. So report a rank
    // that is behind all others, preferably one outside of exchanges.
    let last = ranks.iter().zip(&waited_for).enumerate().filter(|(_, (steps, _))| steps.last.entered == least);
    let late = last.filter_map(|(rank, (steps, time))| Some((steps.last.activity == Activity::Wait, rank, (*time)?)));
    let late = late.min_by_key(|&(inside, rank, _)| (inside, rank)).map(|(_, rank, time)| (Some(rank), time));
    let idle = now - ranks.iter().map(|steps| steps.since).max()?;
    let inside = ranks.iter().all(|steps| steps.last.activity == Activity::Wait) && idle > limit;
    late.or(inside.then_some((None, idle)))
}

impl Peer {
    fn new(host: String) -> Peer {
        let now = Instant::now();
        Peer { host, stream: None, last_message: now, steps: Steps::new(now), longest: Duration::ZERO, left: false }
    }

    /// Returns a message if there was no heartbeat for too long.
    fn check_heartbeat(&self, now: Instant) -> Option<String> {
        let seconds = (now - self.last_message).as_secs();
        let silent = !self.left && now - self.last_message > HEARTBEAT_TIMEOUT;
        silent.then(|| format!("has sent no heartbeat for {seconds} s: it hangs, or its machine is unreachable"))
    }

    fn send(&mut self, message: &Message) {
        if let Some(stream) = &mut self.stream {
            // If this fails, heartbeats fail as well, and are missed.
            let _ = stream.write_all(&line(message));
        }
    }
}

/// The addresses at which rank 0 accepts connections.
#[derive(Serialize, Deserialize)]
struct Meeting {
    addresses: Vec<String>,
    port: u16,
    token: String,
}

impl Watch {
    /// Begins the watch on every rank; returns `None` if there is only one. The error is the same on every rank, and
    /// names a rank that could not reach rank 0.
    pub fn begin(comm: &dyn Comm) -> Result<Option<Watch>, String> {
        let place = comm.place();
        if place.ranks == 1 {
            return Ok(None);
        }
        let hosts = comm.gather(owner::host().as_bytes());
        let hosts: Vec<String> = hosts.iter().map(|host| String::from_utf8_lossy(host).into_owned()).collect();
        let watched = if place.is_root() { &hosts[1..] } else { &hosts[..1] };
        let shared = Arc::new(Shared {
            place,
            peers: Mutex::new(watched.iter().cloned().map(Peer::new).collect()),
            on_end: Mutex::default(),
            ending: AtomicBool::new(false),
        });
        let (meeting, listener) = match place.is_root() {
            true => open_port(),
            false => (vec![], None),
        };
        let meeting = comm.broadcast(meeting);
        let connected = match (listener, serde_json::from_slice::<Meeting>(&meeting)) {
            (_, Err(_)) => Err("it cannot listen on a TCP port".to_string()),
            (Some(listener), Ok(meeting)) => {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.accept_ranks(&listener, &meeting.token));
                Ok(())
            }
            (None, Ok(meeting)) => shared.connect(&meeting, hosts[0] == owner::host()),
        };
        let failures = comm.gather(connected.err().unwrap_or_default().as_bytes());
        if let Some(rank) = failures.iter().position(|failure| !failure.is_empty()) {
            let reason = String::from_utf8_lossy(&failures[rank]);
            return Err(format!("rank {rank} on {}: {reason}", hosts[rank]));
        }
        let watcher = Arc::clone(&shared);
        thread::spawn(move || watcher.run());
        Ok(Some(Watch { shared }))
    }

    /// Sets the function that rank 0 calls with the exit code and the reason if it ends all ranks.
    pub fn set_on_end(&self, on_end: impl FnOnce(u8, &str) + Send + 'static) {
        *lock(&self.shared.on_end) = Some(Box::new(on_end));
    }

    /// Ends all ranks with this exit code, because this rank has failed and the others may be waiting for it.
    pub fn fail(&self, code: u8, message: &str) -> ! {
        let Shared { place, .. } = *self.shared;
        if place.is_root() {
            self.shared.end(code, &format!("rank 0 on {}: {message}", owner::host()));
        }
        lock(&self.shared.peers)[0].send(&Message::Failed { code, message: message.to_string() });
        // Rank 0 makes this rank exit; otherwise it exits by itself.
        thread::sleep(HEARTBEAT_TIMEOUT);
        exit_now(code)
    }

    /// Ends the watch: a connection that is closed after this is not a loss. The caller must exit with `code`
    /// afterwards. Since ranks exit together and one may hang even then, the process is ended after a while.
    pub fn leave(self, code: u8) {
        self.shared.ending.store(true, Ordering::SeqCst);
        for peer in lock(&self.shared.peers).iter_mut() {
            peer.send(&Message::Bye);
        }
        thread::spawn(move || {
            thread::sleep(HEARTBEAT_TIMEOUT);
            print_message("another rank does not exit, although the run is finished");
            exit_now(code)
        });
    }
}

impl Shared {
    /// Sends heartbeats, and checks those of the other ranks, every second.
    fn run(self: Arc<Shared>) {
        let mut before = Instant::now();
        let mut own = Steps::new(before);
        let mut longest = Duration::ZERO;
        loop {
            thread::sleep(HEARTBEAT);
            let now = Instant::now();
            let pulse = pulse::read();
            let mut peers = lock(&self.peers);
            if now - before > 4 * HEARTBEAT {
                // This process was suspended, for example with its whole job, so the times of old heartbeats do not count.
                peers.iter_mut().for_each(|peer| (peer.last_message, peer.steps.since) = (now, now));
                own.since = now;
            }
            before = now;
            if self.ending.load(Ordering::SeqCst) {
                return;
            }
            let worked = own.update(pulse, now).unwrap_or_default();
            longest = peers.iter().map(|peer| peer.longest).fold(longest.max(worked), Duration::max);
            peers.iter_mut().for_each(|peer| peer.send(&Message::Alive { pulse, longest }));
            let lost = self.find_lost(&mut peers, &mut own, longest, now);
            drop(peers);
            if let Some(lost) = lost {
                self.end(exit::RANK_LOST, &lost);
            }
        }
    }

    /// Returns a message about a lost rank, if any. Rank 0 checks all ranks, and the others only rank 0.
    fn find_lost(&self, peers: &mut [Peer], own: &mut Steps, longest: Duration, now: Instant) -> Option<String> {
        let root = self.place.is_root();
        let first = if root { 1 } else { 0 };
        let silent =
            (first..).zip(peers.iter()).find_map(|(rank, peer)| Some((rank, peer, peer.check_heartbeat(now)?)));
        if let Some((rank, peer, silent)) = silent {
            return Some(format!("rank {rank} on {} {silent}", peer.host));
        }
        // No rank waits for one that has left.
        if !root || peers.iter().any(|peer| peer.left) {
            return None;
        }
        let hosts: Vec<String> = std::iter::once(owner::host()).chain(peers.iter().map(|it| it.host.clone())).collect();
        let mut ranks: Vec<&mut Steps> = std::iter::once(own).chain(peers.iter_mut().map(|it| &mut it.steps)).collect();
        let (rank, time) = find_hanging(&mut ranks, PROGRESS_TIMEOUT + 2 * longest, now)?;
        let seconds = time.as_secs();
        Some(match rank {
            Some(rank) => {
                format!("rank {rank} on {} hangs: the others have been waiting for it for {seconds} s", hosts[rank])
            }
            None => {
                format!("no rank has left an exchange for {seconds} s: one of them hangs, or the network does")
            }
        })
    }

    /// Ends this process, and all others if it is rank 0.
    fn end(&self, code: u8, reason: &str) -> ! {
        if self.ending.swap(true, Ordering::SeqCst) {
            // Another thread is already ending the process.
            thread::sleep(HEARTBEAT_TIMEOUT);
            exit_now(code);
        }
        let reason = match code {
            exit::RANK_LOST => {
                format!("{reason}; all ranks exit; help: start again to resume from the last checkpoint")
            }
            _ => reason.to_string(),
        };
        print_message(&reason);
        if self.place.is_root() {
            for peer in lock(&self.peers).iter_mut() {
                peer.send(&Message::End { code });
            }
        }
        if let Some(on_end) = lock(&self.on_end).take() {
            on_end(code, &reason);
        }
        // Messages need a moment to leave the machine.
        thread::sleep(HEARTBEAT / 4);
        exit_now(code)
    }

    /// Accepts connections until all other ranks are connected.
    fn accept_ranks(self: &Arc<Shared>, listener: &TcpListener, token: &str) {
        for stream in listener.incoming().flatten() {
            let Some((rank, reader)) = read_hello(&stream, token, self.place.ranks) else { continue };
            let mut peers = lock(&self.peers);
            let peer = &mut peers[rank - 1];
            (peer.stream, peer.last_message) = (Some(stream), Instant::now());
            peer.send(&Message::Welcome);
            let shared = Arc::clone(self);
            thread::spawn(move || shared.receive(rank - 1, reader));
            if peers.iter().all(|peer| peer.stream.is_some()) {
                return;
            }
        }
    }

    /// Connects to rank 0.
    fn connect(self: &Arc<Shared>, meeting: &Meeting, same_host: bool) -> Result<(), String> {
        let own = same_host.then(|| Ipv4Addr::LOCALHOST.to_string());
        let mut failures = vec![];
        for address in own.iter().chain(&meeting.addresses) {
            match self.connect_to((address, meeting.port), &meeting.token) {
                Ok((stream, reader)) => {
                    let peer = &mut lock(&self.peers)[0];
                    (peer.stream, peer.last_message) = (Some(stream), Instant::now());
                    let shared = Arc::clone(self);
                    thread::spawn(move || shared.receive(0, reader));
                    return Ok(());
                }
                Err(error) => failures.push(format!("{address}: {error}")),
            }
        }
        let (port, failures) = (meeting.port, failures.join("; "));
        Err(format!("cannot reach rank 0 by TCP on port {port} ({failures}), which the watch needs"))
    }

    fn connect_to(&self, address: (&String, u16), token: &str) -> io::Result<(TcpStream, Reader)> {
        let address: SocketAddr =
            (address.0.as_str(), address.1).to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
        stream.set_write_timeout(Some(HEARTBEAT_TIMEOUT))?;
        stream.write_all(&line(&Message::Hello { token: token.to_string(), rank: self.place.rank }))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        match read(&mut reader) {
            Some(Message::Welcome) => {
                stream.set_read_timeout(None)?;
                Ok((stream, reader))
            }
            _ => Err(io::Error::other("another program answers")),
        }
    }

    /// Handles the messages of a peer until its connection is closed. If that was not announced, the peer has exited.
    fn receive(self: Arc<Shared>, index: usize, mut reader: Reader) {
        while let Some(message) = read(&mut reader) {
            let mut peers = lock(&self.peers);
            let peer = &mut peers[index];
            let now = Instant::now();
            peer.last_message = now;
            match message {
                Message::Alive { pulse, longest } => {
                    peer.steps.update(pulse, now);
                    peer.longest = longest;
                }
                Message::Bye => peer.left = true,
                Message::Failed { code, message } => {
                    let reason = format!("rank {} on {}: {message}", index + 1, peer.host);
                    drop(peers);
                    self.end(code, &reason);
                }
                Message::End { code } => {
                    self.ending.store(true, Ordering::SeqCst);
                    exit_now(code);
                }
                Message::Hello { .. } | Message::Welcome => {}
            }
        }
        // Act immediately: a launcher that notices the exit first kills the others, perhaps before they can report the
        // reason.
        let mut peers = lock(&self.peers);
        let peer = &mut peers[index];
        if peer.left || self.ending.load(Ordering::SeqCst) {
            return;
        }
        peer.left = true;
        let rank = if self.place.is_root() { index + 1 } else { 0 };
        let died = format!("rank {rank} on {} exited unexpectedly", peer.host);
        drop(peers);
        self.end(exit::RANK_LOST, &died)
    }
}

type Reader = BufReader<TcpStream>;

/// Opens the port on which rank 0 accepts connections; returns an empty message and `None` if that is not possible.
fn open_port() -> (Vec<u8>, Option<TcpListener>) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0));
    let Some((listener, port)) = listener.ok().and_then(|it| it.local_addr().ok().map(|address| (it, address.port())))
    else {
        return (vec![], None);
    };
    let mut addresses = vec![owner::host()];
    // The host name may not resolve, or not to an address in the network of the other ranks.
    let own = if_addrs::get_if_addrs().unwrap_or_default();
    addresses.extend(own.iter().filter(|it| !it.is_loopback() && it.ip().is_ipv4()).map(|it| it.ip().to_string()));
    let token = blake3::hash(format!("{:?} {:?}", owner::Owner::this_process(), jiff::Timestamp::now()).as_bytes());
    let meeting = Meeting { addresses, port, token: token.to_hex().to_string() };
    (serde_json::to_vec(&meeting).expect("plain data"), Some(listener))
}

/// Returns the rank at the other end of a new connection, if it is a rank of this run.
fn read_hello(stream: &TcpStream, expected: &str, ranks: usize) -> Option<(usize, Reader)> {
    stream.set_read_timeout(Some(CONNECT_TIMEOUT)).ok()?;
    stream.set_write_timeout(Some(HEARTBEAT_TIMEOUT)).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    match read(&mut reader)? {
        Message::Hello { token, rank } if token == expected && (1..ranks).contains(&rank) => {
            stream.set_read_timeout(None).ok()?;
            Some((rank, reader))
        }
        _ => None,
    }
}

fn read(reader: &mut Reader) -> Option<Message> {
    let mut line = String::new();
    match reader.read_line(&mut line) {
        Ok(1..) => serde_json::from_str(&line).ok(),
        _ => None,
    }
}

fn line(message: &Message) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("plain data");
    line.push(b'\n');
    line
}

/// Exits immediately. A regular exit could hang, because the main thread may hang in MPI.
pub(super) fn exit_now(code: u8) -> ! {
    signal_hook::low_level::exit(code.into())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse(entered: u64, activity: Activity) -> Pulse {
        Pulse { entered, moved: entered, activity }
    }

    /// Returns the rank that is found to hang within an hour, and the second at which it is found. The three ranks have
    /// these activities from second 0 on, which `change` may modify.
    fn find_within_an_hour(
        ranks: [Pulse; 3],
        longest: u64,
        mut change: impl FnMut(u64, &mut [Pulse; 3]),
    ) -> Option<(Option<usize>, u64)> {
        let start = Instant::now();
        let mut pulses = ranks;
        let mut steps = ranks.map(|pulse| Steps { last: pulse, ..Steps::new(start) });
        let limit = PROGRESS_TIMEOUT + 2 * Duration::from_secs(longest);
        (0..3_600).find_map(|second| {
            let now = start + Duration::from_secs(second);
            change(second, &mut pulses);
            for (steps, pulse) in steps.iter_mut().zip(pulses) {
                steps.update(pulse, now);
            }
            let (rank, time) = find_hanging(&mut steps.each_mut(), limit, now)?;
            assert!(time > limit && time <= Duration::from_secs(second));
            Some((rank, second))
        })
    }

    const NO_CHANGE: fn(u64, &mut [Pulse; 3]) = |_, _| {};

    #[test]
    fn rank_that_keeps_others_waiting_too_long_hangs() {
        use Activity::*;
        let waiting = [pulse(6, Wait), pulse(5, Work), pulse(6, Wait)];
        assert_eq!(find_within_an_hour(waiting, 0, NO_CHANGE), Some((Some(1), 16)));
        assert_eq!(
            find_within_an_hour(waiting, 7, NO_CHANGE),
            Some((Some(1), 30)),
            "twice the longest time of work is added"
        );
        let ahead = [pulse(7, Wait), pulse(6, Wait), pulse(5, Work)];
        assert_eq!(find_within_an_hour(ahead, 0, NO_CHANGE), Some((Some(2), 16)), "rank 1 waits for rank 2 too");
        let inside = [pulse(6, Wait), pulse(5, Wait), pulse(5, Work)];
        assert_eq!(find_within_an_hour(inside, 0, NO_CHANGE), Some((Some(2), 16)), "a rank in an exchange is waiting");
    }

    /// The first step of a large network may take minutes on every rank.
    #[test]
    fn waiting_time_starts_when_another_rank_waits() {
        let computing = [pulse(5, Activity::Work); 3];
        assert_eq!(find_within_an_hour(computing, 0, NO_CHANGE), None, "no rank waits for another");
        let one_enters = |second: u64, ranks: &mut [Pulse; 3]| {
            if second == 1_000 {
                ranks[0] = pulse(6, Activity::Wait);
            }
        };
        assert_eq!(find_within_an_hour(computing, 0, one_enters), Some((Some(1), 1_016)));
        let all_enter = |second: u64, ranks: &mut [Pulse; 3]| {
            if let Some(rank) = [1_000, 1_014, 1_015].iter().position(|&moment| moment == second) {
                ranks[rank] = pulse(6, Activity::Wait);
            }
            if second > 1_015 {
                *ranks = [pulse(second, Activity::Work); 3];
            }
        };
        assert_eq!(find_within_an_hour(computing, 0, all_enter), None);
    }

    #[test]
    fn rank_with_progress_or_slow_work_does_not_hang() {
        let waiting = [pulse(6, Activity::Wait), pulse(5, Activity::Work), pulse(6, Activity::Wait)];
        let begins_batches = |second: u64, ranks: &mut [Pulse; 3]| ranks[1].moved = 100 + second / 10;
        assert_eq!(find_within_an_hour(waiting, 0, begins_batches), None);
        let reads_files = |second: u64, ranks: &mut [Pulse; 3]| {
            ranks[1].activity = if second < 600 { Activity::Slow } else { Activity::Work };
        };
        assert_eq!(
            find_within_an_hour(waiting, 0, reads_files),
            Some((Some(1), 616)),
            "time counts from the end of the slow work"
        );
    }

    /// Counters are compared every second, in which they may rise by hundreds: a rank that is behind the counters of
    /// another moment is not late.
    #[test]
    fn ranks_at_different_counts_do_not_hang() {
        let steady = |second: u64, ranks: &mut [Pulse; 3]| {
            for (rank, pulse) in ranks.iter_mut().enumerate() {
                pulse.entered = 300 * second - 100 * (rank as u64).min(second);
            }
        };
        assert_eq!(find_within_an_hour([pulse(0, Activity::Work); 3], 0, steady), None);
    }

    #[test]
    fn exchange_that_no_rank_leaves_is_reported() {
        assert_eq!(find_within_an_hour([pulse(6, Activity::Wait); 3], 0, NO_CHANGE), Some((None, 16)));
        let pieces = |second: u64, ranks: &mut [Pulse; 3]| ranks[2].moved = 100 + second / 10;
        assert_eq!(find_within_an_hour([pulse(6, Activity::Wait); 3], 0, pieces), None, "pieces are being sent");
        let one_reads = [pulse(6, Activity::Wait), pulse(6, Activity::Slow), pulse(6, Activity::Wait)];
        assert_eq!(find_within_an_hour(one_reads, 0, NO_CHANGE), None);
    }

    #[test]
    fn update_measures_only_work() {
        let start = Instant::now();
        let time = |seconds| start + Duration::from_secs(seconds);
        let mut steps = Steps::new(start);
        assert_eq!(steps.update(pulse(1, Activity::Work), time(50)), None, "slow work does not count");
        assert_eq!(steps.update(pulse(1, Activity::Work), time(57)), None, "it is still working");
        assert_eq!(steps.update(pulse(2, Activity::Wait), time(60)), Some(Duration::from_secs(10)));
        assert_eq!(steps.update(pulse(2, Activity::Work), time(90)), None, "waiting does not count");
    }

    #[test]
    fn missing_heartbeat_is_reported_unless_the_rank_left() {
        let mut peer = Peer::new("node7".to_string());
        let later = |seconds| peer.last_message + Duration::from_secs(seconds);
        let (soon, late) = (later(14), later(16));
        assert_eq!(peer.check_heartbeat(soon), None);
        assert!(peer.check_heartbeat(late).unwrap().contains("has sent no heartbeat for 16 s"));
        peer.left = true;
        assert_eq!(peer.check_heartbeat(late), None);
    }
}
