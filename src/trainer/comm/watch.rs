//! The watch: notices when a rank dies, hangs or is cut off, and ends all of them.
//!
//! MPI waits for a lost rank forever, and launchers notice only some ways of losing one. So every rank keeps a TCP
//! connection to rank 0 and says every second that it is alive, how many exchanges its main thread has come to, and what
//! that does. Rank 0 judges; when one is lost, it says which, and tells the others to end. Rank 0 is watched by the
//! others.
//!
//! A rank hangs if it keeps the others waiting: since one of them was seen at an exchange that it has not come to, it has
//! given no sign of life for too long. How long it computes before that counts for nothing. If all are inside exchanges
//! and none comes out, one of them hangs in there, or what lies between them does.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use winsign_core::{exit, owner};

use super::pulse::{self, Doing, Pulse};
use super::{Comm, Place, say};

/// How often a rank says that it is alive.
const BEAT: Duration = Duration::from_secs(1);
/// After how long without a word a rank counts as lost: its process is stopped, its machine dead or cut off.
const SILENCE: Duration = Duration::from_secs(15);
/// How long the others wait at an exchange for a rank that lives but does nothing that can be seen, beyond twice the
/// longest time that any rank ever worked between two signs of life: one may be slower than another.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a rank may take to reach rank 0 at the beginning.
const GREETING: Duration = Duration::from_secs(5);

/// What ranks tell each other, each as a line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Message {
    /// To rank 0, first of all: a connection from somebody else does not know the token.
    Hello {
        token: String,
        rank: usize,
    },
    Welcome,
    Alive {
        pulse: Pulse,
        /// See [`PATIENCE`]; as far as this rank knows.
        longest: Duration,
    },
    /// To rank 0: this rank cannot go on, and the others may be waiting for it.
    Failed {
        code: u8,
        message: String,
    },
    /// From rank 0: it is over.
    End {
        code: u8,
    },
    /// That the connection ends now is as it should be.
    Bye,
}

/// A watch that is kept. It ends with [`Watch::leave`] or with the process.
pub struct Watch {
    shared: Arc<Shared>,
}

struct Shared {
    place: Place,
    /// For rank 0 all others, by their rank less one; for another only rank 0.
    peers: Mutex<Vec<Peer>>,
    /// What rank 0 writes down when it ends all: given the exit code and the reason.
    testament: Mutex<Option<Testament>>,
    ending: AtomicBool,
}

type Testament = Box<dyn FnOnce(u8, &str) + Send>;

/// One of the other ranks, as it is seen from here.
struct Peer {
    host: String,
    /// None until it has said hello.
    stream: Option<TcpStream>,
    heard: Instant,
    steps: Steps,
    longest: Duration,
    left: bool,
}

/// How a main thread moves on.
#[derive(Debug, Clone, Copy)]
struct Steps {
    last: Pulse,
    /// Since when nothing has changed.
    since: Instant,
    /// An exchange that another rank was seen at, and since when: it is awaited there.
    awaited: (u64, Instant),
}

impl Steps {
    fn new(now: Instant) -> Steps {
        Steps { last: Pulse { entered: 0, moved: 0, doing: Doing::Slow }, since: now, awaited: (0, now) }
    }

    /// Gives how long it had worked without a sign of life, if this is one.
    fn update(&mut self, pulse: Pulse, now: Instant) -> Option<Duration> {
        let Steps { last, since, .. } = *self;
        self.last = pulse;
        if pulse == last && pulse.doing != Doing::Slow {
            return None;
        }
        self.since = now;
        (last.doing == Doing::Work).then(|| now - since)
    }

    /// How long it has kept those waiting that are at the exchange `furthest`, if it does. To be asked at every beat.
    fn waited_for(&mut self, furthest: u64, now: Instant) -> Option<Duration> {
        if self.last.entered >= self.awaited.0 {
            self.awaited = (furthest, now);
        }
        let (exchange, seen) = self.awaited;
        let waited_for = self.last.entered < exchange && self.last.doing != Doing::Slow;
        waited_for.then(|| now - self.since.max(seen))
    }
}

/// Who of all ranks, in their order, hangs, if it takes longer than `patience`: none of them in particular if no rank comes
/// out of an exchange. And for how long.
fn hanging(ranks: &mut [&mut Steps], patience: Duration, now: Instant) -> Option<(Option<usize>, Duration)> {
    let entered = || ranks.iter().map(|steps| steps.last.entered);
    let (least, furthest) = (entered().min()?, entered().max()?);
    let waited_for: Vec<Option<Duration>> =
        ranks.iter_mut().map(|steps| steps.waited_for(furthest, now).filter(|time| *time > patience)).collect();
    // Who is further than another may be waiting for it in an exchange between them; and so may who is in one.
    let blame = |inside: bool| {
        (0..ranks.len()).find_map(|rank| {
            let Steps { last, .. } = *ranks[rank];
            let hangs = last.entered == least && (last.doing == Doing::Wait) == inside;
            waited_for[rank].filter(|_| hangs).map(|time| (Some(rank), time))
        })
    };
    let still = now - ranks.iter().map(|steps| steps.since).max()?;
    let inside = ranks.iter().all(|steps| steps.last.doing == Doing::Wait) && still > patience;
    blame(false).or_else(|| blame(true)).or(inside.then_some((None, still)))
}

impl Peer {
    fn new(host: String) -> Peer {
        let now = Instant::now();
        Peer { host, stream: None, heard: now, steps: Steps::new(now), longest: Duration::ZERO, left: false }
    }

    /// For how long nothing was heard of it, if that is too long.
    fn silent(&self, now: Instant) -> Option<String> {
        let seconds = (now - self.heard).as_secs();
        let silent = !self.left && now - self.heard > SILENCE;
        silent.then(|| format!("has not been heard of for {seconds} s: it hangs, or its machine is cut off"))
    }

    fn tell(&mut self, message: &Message) {
        if let Some(stream) = &mut self.stream {
            // If it cannot be told it is not heard of either.
            let _ = stream.write_all(&line(message));
        }
    }
}

/// Where rank 0 can be met.
#[derive(Serialize, Deserialize)]
struct Meeting {
    addresses: Vec<String>,
    port: u16,
    token: String,
}

impl Watch {
    /// Begins the watch, on every rank; none if there is only one. The error says, the same on every rank, who could not
    /// reach rank 0.
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
            testament: Mutex::default(),
            ending: AtomicBool::new(false),
        });
        let (meeting, listener) = match place.is_root() {
            true => meet(),
            false => (vec![], None),
        };
        let meeting = comm.broadcast(meeting);
        let met = match (listener, serde_json::from_slice::<Meeting>(&meeting)) {
            (_, Err(_)) => Err("it cannot listen on any port".to_string()),
            (Some(listener), Ok(meeting)) => {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.welcome(&listener, &meeting.token));
                Ok(())
            }
            (None, Ok(meeting)) => shared.greet(&meeting, hosts[0] == owner::host()),
        };
        let failures = comm.gather(met.err().unwrap_or_default().as_bytes());
        if let Some(rank) = failures.iter().position(|failure| !failure.is_empty()) {
            let reason = String::from_utf8_lossy(&failures[rank]);
            return Err(format!("rank {rank} on {}: {reason}", hosts[rank]));
        }
        let keeper = Arc::clone(&shared);
        thread::spawn(move || keeper.keep());
        Ok(Some(Watch { shared }))
    }

    /// What rank 0 shall write down, should it have to end all: given the exit code and the reason.
    pub fn bequeath(&self, testament: impl FnOnce(u8, &str) + Send + 'static) {
        *lock(&self.shared.testament) = Some(Box::new(testament));
    }

    /// This rank cannot go on, and the others may be waiting for it: all end with this exit code.
    pub fn fail(&self, code: u8, message: &str) -> ! {
        let Shared { place, .. } = *self.shared;
        if place.is_root() {
            self.shared.end(code, &format!("rank 0 on {}: {message}", owner::host()));
        }
        lock(&self.shared.peers)[0].tell(&Message::Failed { code, message: message.to_string() });
        // Rank 0 tells us to end; if it cannot, we end by ourselves.
        thread::sleep(SILENCE);
        die(code)
    }

    /// Ends the watch: whoever's connection ends after this is not lost. All that is left to do is to end with `code`; ranks
    /// do that together too, and one may hang even then.
    pub fn leave(self, code: u8) {
        self.shared.ending.store(true, Ordering::SeqCst);
        for peer in lock(&self.shared.peers).iter_mut() {
            peer.tell(&Message::Bye);
        }
        thread::spawn(move || {
            thread::sleep(SILENCE);
            say("another rank does not end, though all is done");
            die(code)
        });
    }
}

impl Shared {
    /// Says to all every second that this rank is alive, and looks who else is.
    fn keep(self: Arc<Shared>) {
        let mut before = Instant::now();
        let mut own = Steps::new(before);
        let mut longest = Duration::ZERO;
        loop {
            thread::sleep(BEAT);
            let now = Instant::now();
            let pulse = pulse::read();
            let mut peers = lock(&self.peers);
            if now - before > 4 * BEAT {
                // It was us who slept: a job that was suspended as a whole, say.
                peers.iter_mut().for_each(|peer| (peer.heard, peer.steps.since) = (now, now));
                own.since = now;
            }
            before = now;
            if self.ending.load(Ordering::SeqCst) {
                return;
            }
            let worked = own.update(pulse, now).unwrap_or_default();
            longest = peers.iter().map(|peer| peer.longest).fold(longest.max(worked), Duration::max);
            peers.iter_mut().for_each(|peer| peer.tell(&Message::Alive { pulse, longest }));
            let lost = self.lost(&mut peers, &mut own, longest, now);
            drop(peers);
            if let Some(lost) = lost {
                self.end(exit::RANK_LOST, &lost);
            }
        }
    }

    /// Which rank is lost, if one is, and how. Rank 0 looks at all, the others at rank 0 alone.
    fn lost(&self, peers: &mut [Peer], own: &mut Steps, longest: Duration, now: Instant) -> Option<String> {
        let root = self.place.is_root();
        let first = if root { 1 } else { 0 };
        let silent = (first..).zip(peers.iter()).find_map(|(rank, peer)| Some((rank, peer, peer.silent(now)?)));
        if let Some((rank, peer, silent)) = silent {
            return Some(format!("rank {rank} on {} {silent}", peer.host));
        }
        // Who takes leave has nobody wait for it any more.
        if !root || peers.iter().any(|peer| peer.left) {
            return None;
        }
        let hosts: Vec<String> = std::iter::once(owner::host()).chain(peers.iter().map(|it| it.host.clone())).collect();
        let mut ranks: Vec<&mut Steps> = std::iter::once(own).chain(peers.iter_mut().map(|it| &mut it.steps)).collect();
        let (rank, time) = hanging(&mut ranks, PATIENCE + 2 * longest, now)?;
        let seconds = time.as_secs();
        Some(match rank {
            Some(rank) => {
                format!("rank {rank} on {} hangs: the others have been waiting for it for {seconds} s", hosts[rank])
            }
            None => {
                format!("no rank has come out of an exchange for {seconds} s: one hangs in it, or the network does")
            }
        })
    }

    /// Ends this process, and all others if it is rank 0.
    fn end(&self, code: u8, reason: &str) -> ! {
        if self.ending.swap(true, Ordering::SeqCst) {
            // Another thread is at it already.
            thread::sleep(SILENCE);
            die(code);
        }
        let reason = match code {
            exit::RANK_LOST => format!("{reason}; all ranks end: start again to go on from the last checkpoint"),
            _ => reason.to_string(),
        };
        say(&reason);
        if self.place.is_root() {
            for peer in lock(&self.peers).iter_mut() {
                peer.tell(&Message::End { code });
            }
        }
        if let Some(testament) = lock(&self.testament).take() {
            testament(code, &reason);
        }
        // What was said needs a moment to leave the machine.
        thread::sleep(BEAT / 4);
        die(code)
    }

    /// Lets the other ranks in, until all are there.
    fn welcome(self: &Arc<Shared>, listener: &TcpListener, token: &str) {
        for stream in listener.incoming().flatten() {
            let Some((rank, reader)) = hello(&stream, token, self.place.ranks) else { continue };
            let mut peers = lock(&self.peers);
            let peer = &mut peers[rank - 1];
            (peer.stream, peer.heard) = (Some(stream), Instant::now());
            peer.tell(&Message::Welcome);
            let shared = Arc::clone(self);
            thread::spawn(move || shared.listen(rank - 1, reader));
            if peers.iter().all(|peer| peer.stream.is_some()) {
                return;
            }
        }
    }

    /// Makes the connection to rank 0.
    fn greet(self: &Arc<Shared>, meeting: &Meeting, same_host: bool) -> Result<(), String> {
        let own = same_host.then(|| Ipv4Addr::LOCALHOST.to_string());
        let mut failures = vec![];
        for address in own.iter().chain(&meeting.addresses) {
            match self.greet_at((address, meeting.port), &meeting.token) {
                Ok((stream, reader)) => {
                    let peer = &mut lock(&self.peers)[0];
                    (peer.stream, peer.heard) = (Some(stream), Instant::now());
                    let shared = Arc::clone(self);
                    thread::spawn(move || shared.listen(0, reader));
                    return Ok(());
                }
                Err(error) => failures.push(format!("{address}: {error}")),
            }
        }
        let (port, failures) = (meeting.port, failures.join("; "));
        Err(format!("cannot reach rank 0 by TCP on port {port} ({failures}); ranks watch each other that way"))
    }

    fn greet_at(&self, address: (&String, u16), token: &str) -> io::Result<(TcpStream, Reader)> {
        let address: SocketAddr =
            (address.0.as_str(), address.1).to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut stream = TcpStream::connect_timeout(&address, GREETING)?;
        stream.set_read_timeout(Some(GREETING))?;
        stream.set_write_timeout(Some(SILENCE))?;
        stream.write_all(&line(&Message::Hello { token: token.to_string(), rank: self.place.rank }))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        match read(&mut reader) {
            Some(Message::Welcome) => {
                stream.set_read_timeout(None)?;
                Ok((stream, reader))
            }
            _ => Err(io::Error::other("somebody else answers")),
        }
    }

    /// Hears what a peer says, until its connection ends: without a word of farewell it died.
    fn listen(self: Arc<Shared>, index: usize, mut reader: Reader) {
        while let Some(message) = read(&mut reader) {
            let mut peers = lock(&self.peers);
            let peer = &mut peers[index];
            let now = Instant::now();
            peer.heard = now;
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
                    die(code);
                }
                Message::Hello { .. } | Message::Welcome => {}
            }
        }
        // At once: a launcher that sees it too kills the others soon, perhaps before they can say why.
        let mut peers = lock(&self.peers);
        let peer = &mut peers[index];
        if peer.left || self.ending.load(Ordering::SeqCst) {
            return;
        }
        peer.left = true;
        let rank = if self.place.is_root() { index + 1 } else { 0 };
        let died = format!("rank {rank} on {} died", peer.host);
        drop(peers);
        self.end(exit::RANK_LOST, &died)
    }
}

type Reader = BufReader<TcpStream>;

/// Opens the port where rank 0 is met; empty and none if there is no way.
fn meet() -> (Vec<u8>, Option<TcpListener>) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0));
    let Some((listener, port)) = listener.ok().and_then(|it| it.local_addr().ok().map(|address| (it, address.port())))
    else {
        return (vec![], None);
    };
    let mut addresses = vec![owner::host()];
    // The machine's name may lead nowhere, or not to the network that the others are on.
    let own = if_addrs::get_if_addrs().unwrap_or_default();
    addresses.extend(own.iter().filter(|it| !it.is_loopback() && it.ip().is_ipv4()).map(|it| it.ip().to_string()));
    let token = blake3::hash(format!("{:?} {:?}", owner::Owner::this_process(), jiff::Timestamp::now()).as_bytes());
    let meeting = Meeting { addresses, port, token: token.to_hex().to_string() };
    (serde_json::to_vec(&meeting).expect("plain data"), Some(listener))
}

/// Who is at the other end of a new connection, if it is one of us.
fn hello(stream: &TcpStream, expected: &str, ranks: usize) -> Option<(usize, Reader)> {
    stream.set_read_timeout(Some(GREETING)).ok()?;
    stream.set_write_timeout(Some(SILENCE)).ok()?;
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

/// Ends the process at once: its main thread may hang in MPI, which would also hang what is done at a regular end.
pub(super) fn die(code: u8) -> ! {
    signal_hook::low_level::exit(code.into())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse(entered: u64, doing: Doing) -> Pulse {
        Pulse { entered, moved: entered, doing }
    }

    /// Three ranks that do so from second 0 on, and what is found of them in the seconds of an hour as long as nothing changes
    /// but what `change` does.
    fn found(
        ranks: [Pulse; 3],
        longest: u64,
        mut change: impl FnMut(u64, &mut [Pulse; 3]),
    ) -> Option<(Option<usize>, u64)> {
        let start = Instant::now();
        let mut pulses = ranks;
        let mut steps = ranks.map(|pulse| Steps { last: pulse, ..Steps::new(start) });
        let patience = PATIENCE + 2 * Duration::from_secs(longest);
        (0..3_600).find_map(|second| {
            let now = start + Duration::from_secs(second);
            change(second, &mut pulses);
            for (steps, pulse) in steps.iter_mut().zip(pulses) {
                steps.update(pulse, now);
            }
            let (rank, time) = hanging(&mut steps.each_mut(), patience, now)?;
            assert!(time > patience && time <= Duration::from_secs(second));
            Some((rank, second))
        })
    }

    const NOTHING: fn(u64, &mut [Pulse; 3]) = |_, _| {};

    #[test]
    fn who_keeps_others_waiting_too_long_hangs() {
        use Doing::*;
        let waiting = [pulse(6, Wait), pulse(5, Work), pulse(6, Wait)];
        assert_eq!(found(waiting, 0, NOTHING), Some((Some(1), 16)));
        assert_eq!(found(waiting, 7, NOTHING), Some((Some(1), 30)), "it is given twice the longest that one ever took");
        let ahead = [pulse(7, Wait), pulse(6, Wait), pulse(5, Work)];
        assert_eq!(found(ahead, 0, NOTHING), Some((Some(2), 16)), "another waits for it too");
        let inside = [pulse(6, Wait), pulse(5, Wait), pulse(5, Work)];
        assert_eq!(found(inside, 0, NOTHING), Some((Some(2), 16)), "who is in an exchange waits");
    }

    /// The first step of a large network may take minutes on every rank.
    #[test]
    fn time_counts_from_when_another_waits() {
        let computing = [pulse(5, Doing::Work); 3];
        assert_eq!(found(computing, 0, NOTHING), None, "nobody waits for anybody");
        let first_comes = |second: u64, ranks: &mut [Pulse; 3]| {
            if second == 1_000 {
                ranks[0] = pulse(6, Doing::Wait);
            }
        };
        assert_eq!(found(computing, 0, first_comes), Some((Some(1), 1_016)));
        let all_come = |second: u64, ranks: &mut [Pulse; 3]| {
            if let Some(rank) = [1_000, 1_014, 1_015].iter().position(|&moment| moment == second) {
                ranks[rank] = pulse(6, Doing::Wait);
            }
            if second > 1_015 {
                *ranks = [pulse(second, Doing::Work); 3];
            }
        };
        assert_eq!(found(computing, 0, all_come), None);
    }

    #[test]
    fn signs_of_life_and_what_may_take_any_time_are_waited_for() {
        let waiting = [pulse(6, Doing::Wait), pulse(5, Doing::Work), pulse(6, Doing::Wait)];
        let begins_batches = |second: u64, ranks: &mut [Pulse; 3]| ranks[1].moved = 100 + second / 10;
        assert_eq!(found(waiting, 0, begins_batches), None);
        let reads_files = |second: u64, ranks: &mut [Pulse; 3]| {
            ranks[1].doing = if second < 600 { Doing::Slow } else { Doing::Work };
        };
        assert_eq!(found(waiting, 0, reads_files), Some((Some(1), 616)), "from when it was done with that");
    }

    /// Counters are looked at every second, in which they may rise by hundreds: who is found behind those of another
    /// moment is not late.
    #[test]
    fn steady_ranks_never_hang() {
        let steady = |second: u64, ranks: &mut [Pulse; 3]| {
            for (rank, pulse) in ranks.iter_mut().enumerate() {
                pulse.entered = 300 * second - 100 * (rank as u64).min(second);
            }
        };
        assert_eq!(found([pulse(0, Doing::Work); 3], 0, steady), None);
    }

    #[test]
    fn an_exchange_that_nobody_leaves_is_the_end() {
        assert_eq!(found([pulse(6, Doing::Wait); 3], 0, NOTHING), Some((None, 16)));
        let pieces = |second: u64, ranks: &mut [Pulse; 3]| ranks[2].moved = 100 + second / 10;
        assert_eq!(found([pulse(6, Doing::Wait); 3], 0, pieces), None, "much is being sent");
        let one_reads = [pulse(6, Doing::Wait), pulse(6, Doing::Slow), pulse(6, Doing::Wait)];
        assert_eq!(found(one_reads, 0, NOTHING), None);
    }

    #[test]
    fn only_work_is_measured() {
        let start = Instant::now();
        let time = |seconds| start + Duration::from_secs(seconds);
        let mut steps = Steps::new(start);
        assert_eq!(steps.update(pulse(1, Doing::Work), time(50)), None, "it had read files");
        assert_eq!(steps.update(pulse(1, Doing::Work), time(57)), None, "it still works");
        assert_eq!(steps.update(pulse(2, Doing::Wait), time(60)), Some(Duration::from_secs(10)));
        assert_eq!(steps.update(pulse(2, Doing::Work), time(90)), None, "it had waited");
    }

    #[test]
    fn silence_is_trouble_unless_it_took_leave() {
        let mut peer = Peer::new("node7".to_string());
        let later = |seconds| peer.heard + Duration::from_secs(seconds);
        let (soon, late) = (later(14), later(16));
        assert_eq!(peer.silent(soon), None);
        assert!(peer.silent(late).unwrap().contains("has not been heard of for 16 s"));
        peer.left = true;
        assert_eq!(peer.silent(late), None);
    }
}
