//! The watch: notices when a rank dies, hangs or is cut off, and ends all of them.
//!
//! MPI waits for a lost rank forever, and launchers notice only some ways of losing one. So every rank keeps a TCP
//! connection to rank 0 and says every second that it is alive, and how many exchanges its main thread has come to. Rank
//! 0 judges; when one is lost, it says which, and tells the others to end. Rank 0 is watched by the others.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::pulse::{self, Pulse};
use super::{Comm, Place};
use winsign::run::{exit, owner};

/// How often a rank says that it is alive.
const BEAT: Duration = Duration::from_secs(1);
/// After how long without a word a rank counts as lost: its process is stopped, its machine dead or cut off.
const SILENCE: Duration = Duration::from_secs(15);
/// How long the others wait at an exchange for a rank that lives but does nothing that can be seen, beyond twice the
/// longest time that it ever took from one batch to the next.
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
    Alive(Pulse),
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
    /// Its connection ended, without a word of farewell.
    dead: bool,
    left: bool,
}

/// How a main thread moves on.
#[derive(Debug, Clone, Copy)]
struct Steps {
    last: Pulse,
    /// Since when nothing has changed, and the longest time that nothing ever did.
    since: Instant,
    longest: Duration,
}

impl Steps {
    fn new(now: Instant) -> Steps {
        Steps { last: Pulse { entered: 0, batches: 0, slow: true }, since: now, longest: Duration::ZERO }
    }

    fn update(&mut self, pulse: Pulse, now: Instant) {
        if pulse != self.last || pulse.slow {
            if !pulse.slow && !self.last.slow {
                self.longest = self.longest.max(now - self.since);
            }
            self.since = now;
        }
        self.last = pulse;
    }

    /// How long it has kept those waiting that are at the exchange `furthest`, if that is too long.
    fn stuck(&self, furthest: u64, now: Instant) -> Option<Duration> {
        let still = now - self.since;
        (self.last.entered < furthest && !self.last.slow && still > PATIENCE + 2 * self.longest).then_some(still)
    }
}

impl Peer {
    fn new(host: String) -> Peer {
        let now = Instant::now();
        Peer { host, stream: None, heard: now, steps: Steps::new(now), dead: false, left: false }
    }

    /// What happened to it, if it is lost.
    fn trouble(&self, furthest: u64, now: Instant) -> Option<String> {
        if self.left {
            return None;
        }
        if self.dead {
            return Some("died".to_string());
        }
        if now - self.heard > SILENCE {
            let seconds = (now - self.heard).as_secs();
            return Some(format!("has not been heard of for {seconds} s: it hangs, or its machine is cut off"));
        }
        self.steps.stuck(furthest, now).map(hangs)
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

    /// Ends the watch: whoever's connection ends after this is not lost.
    pub fn leave(self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        for peer in lock(&self.shared.peers).iter_mut() {
            peer.tell(&Message::Bye);
        }
    }
}

impl Shared {
    /// Says to all every second that this rank is alive, and looks who else is.
    fn keep(self: Arc<Shared>) {
        let mut before = Instant::now();
        let mut own = Steps::new(before);
        loop {
            thread::sleep(BEAT);
            let now = Instant::now();
            let pulse = pulse::read();
            own.update(pulse, now);
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
            peers.iter_mut().for_each(|peer| peer.tell(&Message::Alive(pulse)));
            let furthest = peers.iter().map(|peer| peer.steps.last.entered).max().unwrap_or(0).max(pulse.entered);
            let furthest = if self.place.is_root() { furthest } else { 0 };
            let first = if self.place.is_root() { 1 } else { 0 };
            let lost = (first..).zip(peers.iter()).find_map(|(rank, peer)| {
                peer.trouble(furthest, now).map(|trouble| format!("rank {rank} on {} {trouble}", peer.host))
            });
            let stuck = own.stuck(furthest, now);
            let stuck = stuck.map(|still| format!("rank 0 on {} {}", owner::host(), hangs(still)));
            drop(peers);
            if let Some(lost) = lost.or(stuck) {
                self.end(exit::RANK_LOST, &lost);
            }
        }
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
        let _ = writeln!(io::stderr(), "winsign-worker: {reason}");
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

    /// Hears what a peer says, until its connection ends.
    fn listen(self: Arc<Shared>, index: usize, mut reader: Reader) {
        while let Some(message) = read(&mut reader) {
            let mut peers = lock(&self.peers);
            let peer = &mut peers[index];
            let now = Instant::now();
            peer.heard = now;
            match message {
                Message::Alive(pulse) => peer.steps.update(pulse, now),
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
        lock(&self.peers)[index].dead = true;
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

fn hangs(still: Duration) -> String {
    format!("hangs: the others have been waiting for it for {} s", still.as_secs())
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
fn die(code: u8) -> ! {
    signal_hook::low_level::exit(code.into())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse(entered: u64, slow: bool) -> Pulse {
        Pulse { entered, batches: entered, slow }
    }

    /// A rank that comes to an exchange every second, five times.
    fn steady() -> (Steps, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        let time = move |seconds| start + Duration::from_secs(seconds);
        let mut steps = Steps::new(start);
        (0..=5).for_each(|second| steps.update(pulse(second, false), time(second)));
        (steps, time)
    }

    #[test]
    fn who_keeps_others_waiting_too_long_is_stuck() {
        let (mut steps, time) = steady();
        assert_eq!(steps.longest, Duration::from_secs(1));
        assert_eq!(steps.stuck(6, time(20)), None, "it may still come");
        assert_eq!(steps.stuck(6, time(23)), Some(Duration::from_secs(18)));
        assert_eq!(steps.stuck(5, time(60)), None, "nobody waits for it");
        steps.update(Pulse { batches: 6, ..pulse(5, false) }, time(21));
        assert_eq!(steps.stuck(6, time(23)), None, "it is at work");
    }

    #[test]
    fn who_reads_files_may_take_any_time() {
        let (mut steps, time) = steady();
        steps.update(pulse(5, true), time(6));
        steps.update(pulse(5, true), time(599));
        assert_eq!(steps.stuck(6, time(600)), None);
        steps.update(pulse(5, false), time(600));
        assert_eq!(steps.stuck(6, time(610)), None, "from when it was done with that");
        assert!(steps.stuck(6, time(618)).is_some());
        assert_eq!(steps.longest, Duration::from_secs(1), "that is no measure of its steps");
    }

    #[test]
    fn silence_and_a_lost_connection_are_trouble_and_a_farewell_is_not() {
        let mut peer = Peer::new("node7".to_string());
        let later = |seconds| peer.heard + Duration::from_secs(seconds);
        let (soon, late) = (later(14), later(16));
        assert_eq!(peer.trouble(0, soon), None);
        assert!(peer.trouble(0, late).unwrap().contains("has not been heard of for 16 s"));
        peer.dead = true;
        assert_eq!(peer.trouble(0, soon).unwrap(), "died");
        peer.left = true;
        assert_eq!(peer.trouble(0, late), None);
    }
}
