//! Sudden death at named places: a child process kills itself there, and the
//! survivor must get every committed message, learn of the end, and hold nothing.
//!
//! `MEMENPSF_KILLS` is the number of deaths at each place (2 without it).
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::process::{Child, Note, Part, Place};
use common::{HANG, Watchdog, alone, holdings, until};
use memenpsf::options::Ring;
use memenpsf::{
    ByteInterface, ByteXmitError, Departure, Interface, Options, RecvError, Server, XmitError,
    fail_point,
};
use nix::libc;
use nix::sys::signal::{Signal, kill, raise};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{ForkResult, Pid, fork};

/// The places of a producer, ten, and which of them a consumer passes too.
const PRODUCER: [&str; 10] = [
    "push: begin",
    "slot: first word",
    "slot: middle word",
    "slot: last word",
    "push: written",
    "tail: before",
    "tail: after",
    "wake: fenced",
    "wake: due",
    "wake: sent",
];
/// The places of a consumer, four.
const CONSUMER: [&str; 4] = [
    "head: before",
    "head: after",
    "sleep: before",
    "sleep: after",
];
/// The steps of a client's handshake: a place, and which time it is passed.
const CLIENT: [(&str, u64); 10] = [
    ("handshake: begin", 1),
    ("handshake: region made", 1),
    ("handshake: write", 1),
    ("handshake: written", 1),
    ("handshake: read", 1),
    ("handshake: region received", 1),
    ("handshake: region open", 1),
    ("handshake: write", 2),
    ("handshake: written", 2),
    ("handshake: done", 1),
];
/// The steps of a server's.
const SERVER: [(&str, u64); 9] = [
    ("handshake: begin", 1),
    ("handshake: read", 1),
    ("handshake: region received", 1),
    ("handshake: region open", 1),
    ("handshake: region made", 1),
    ("handshake: write", 1),
    ("handshake: written", 1),
    ("handshake: read", 2),
    ("handshake: done", 1),
];

const GONE: RecvError = RecvError::Closed(Departure::Gone);

fn kills() -> u64 {
    std::env::var("MEMENPSF_KILLS").map_or(2, |count| count.parse().unwrap())
}

/// A number below `limit` that follows from `seed`, the same in every run.
fn scatter(seed: impl Hash, limit: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    hasher.finish() % limit
}

/// The kernel's monotonic clock in nanoseconds, the same in all processes.
fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    u64::try_from(Duration::from(time).as_nanos()).unwrap()
}

/// A connection of either kind that carries numbered, checksummed messages.
trait Link: Sized {
    /// The most messages that the ring of a direction holds.
    const ROOM: u64;
    fn connect(address: &Path) -> Self;
    fn start(place: &Place, role: &str) -> (Child, Self);
    /// Sends message `n`; `false` when the connection has ended.
    fn send(&mut self, n: u64) -> bool;
    /// Receives message `n`, and checks all of it.
    fn receive(&mut self, n: u64, timeout: Duration) -> Result<bool, RecvError>;
}

const CAPACITY: usize = 8;

fn options() -> Options {
    let options = Options::new().capacity(CAPACITY).wait_for_server(HANG);
    options.ring(Ring::Index)
}

type Words = [u64; 6];

/// A message with a wrong bit, in the process of a producer that lies.
static GARBLED: AtomicU64 = AtomicU64::new(u64::MAX);
/// The message that a liar lies about.
const LIE: u64 = 5;

fn numbered(n: u64) -> Words {
    let garbled = u64::from(GARBLED.load(Ordering::Relaxed) == n);
    let scattered = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ garbled;
    std::array::from_fn(|at| match at {
        0 => n,
        _ => scattered.rotate_left(u32::try_from(at * 7).unwrap()) ^ n,
    })
}

impl Link for Interface<Words> {
    const ROOM: u64 = CAPACITY as u64;

    fn connect(address: &Path) -> Self {
        Self::connect_with(address, &options()).unwrap()
    }

    fn start(place: &Place, role: &str) -> (Child, Self) {
        place.start(&format!("index|{role}"), &options())
    }

    fn send(&mut self, n: u64) -> bool {
        match self.xmit_timeout(numbered(n), Some(HANG)) {
            Ok(()) => true,
            Err(XmitError::Closed(message, Departure::Gone)) => {
                assert_eq!(message, numbered(n));
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn receive(&mut self, n: u64, timeout: Duration) -> Result<bool, RecvError> {
        let message = self.recv_timeout(Some(timeout))?;
        assert!(message.is_none_or(|message| message == numbered(n)), "{n}");
        Ok(message.is_some())
    }
}

/// A connection whose rings are packed.
struct Packed(Interface<Words>);

impl Link for Packed {
    const ROOM: u64 = CAPACITY as u64;

    fn connect(address: &Path) -> Self {
        let options = options().ring(Ring::Packed);
        Self(Interface::connect_with(address, &options).unwrap())
    }

    fn start(place: &Place, role: &str) -> (Child, Self) {
        let options = options().ring(Ring::Packed);
        let (child, interface) = place.start(&format!("packed|{role}"), &options);
        (child, Self(interface))
    }

    fn send(&mut self, n: u64) -> bool {
        self.0.send(n)
    }

    fn receive(&mut self, n: u64, timeout: Duration) -> Result<bool, RecvError> {
        self.0.receive(n, timeout)
    }
}

/// Of 8 to 80 bytes, by its number.
fn record(n: u64) -> Vec<u8> {
    let words = 1 + usize::try_from(scatter(n, 10)).unwrap();
    let all = numbered(n).into_iter().cycle().take(words);
    all.flat_map(u64::to_le_bytes).collect()
}

/// Bytes of a ring of records.
const STORAGE: usize = 512;

fn byte_options() -> Options {
    options().capacity(STORAGE).max_message(100)
}

impl Link for ByteInterface {
    /// A header and the shortest message.
    const ROOM: u64 = STORAGE as u64 / 16;

    fn connect(address: &Path) -> Self {
        Self::connect_with(address, &byte_options()).unwrap()
    }

    fn start(place: &Place, role: &str) -> (Child, Self) {
        place.start(&format!("bytes|{role}"), &byte_options())
    }

    fn send(&mut self, n: u64) -> bool {
        match self.xmit_timeout(&record(n), Some(HANG)) {
            Ok(()) => true,
            Err(ByteXmitError::Closed(Departure::Gone)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn receive(&mut self, n: u64, timeout: Duration) -> Result<bool, RecvError> {
        let message = self.recv_timeout(Some(timeout))?;
        let expected = message.as_ref().is_none_or(|bytes| *bytes == record(n));
        assert!(expected, "{n}");
        Ok(message.is_some())
    }
}

// --- what a child does ---

/// Where this process dies, how often it passes there before, and where it notes
/// the moment.
struct Sentence {
    place: String,
    left: AtomicU64,
    note: Note,
}

static SENTENCE: OnceLock<Sentence> = OnceLock::new();

fn condemn(place: &str, times: u64, note: Note) {
    let sentence = Sentence {
        place: place.into(),
        left: AtomicU64::new(times),
        note,
    };
    assert!(SENTENCE.set(sentence).is_ok());
    fail_point::install(|place| {
        let sentence = SENTENCE.get().unwrap();
        if sentence.place == place && sentence.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            sentence.note.other().store(now(), Ordering::Release);
            raise(Signal::SIGKILL).unwrap();
        }
    });
}

#[test]
#[ignore = "what the child processes of the other tests run"]
fn child() {
    let Some(part) = Part::of_this_process() else {
        return;
    };
    let words: Vec<_> = part.role.split('|').collect();
    match words[0] {
        "index" => play::<Interface<Words>>(&words[1..], &part.address, part.note),
        "packed" => play::<Packed>(&words[1..], &part.address, part.note),
        "bytes" => play::<ByteInterface>(&words[1..], &part.address, part.note),
        "connect" => {
            condemn(words[1], words[2].parse().unwrap(), part.note);
            let _ = Interface::<Words>::connect(&part.address);
        }
        "serve" => {
            let mut server = Server::<Words>::bind(&part.address).unwrap();
            condemn(words[1], words[2].parse().unwrap(), part.note);
            let _ = server.accept();
        }
        role => panic!("no such role: {role}"),
    }
    panic!("passed the place alive");
}

fn play<L: Link>(words: &[&str], address: &Path, note: Note) {
    let mut link = L::connect(address);
    match words[0] {
        "hold" => hold(&note),
        "produce" | "claim" | "garble" | "skip" | "consume" | "boast" | "deny" => {
            condemn(words[1], words[2].parse().unwrap(), note);
        }
        role => panic!("no such role: {role}"),
    }
    if words[0] == "garble" {
        GARBLED.store(LIE, Ordering::Relaxed);
    }
    let note = Part::of_this_process().unwrap().note;
    for n in 0.. {
        if matches!(words[0], "consume" | "boast" | "deny") {
            assert!(link.receive(n, HANG).unwrap());
        } else {
            pause(n);
            let skips = words[0] == "skip" && n >= LIE;
            assert!(link.send(n + u64::from(skips)));
        }
        let noted = match words[0] {
            "claim" => n + 2,
            "boast" => n + 1000,
            "deny" => 0,
            _ => n + 1,
        };
        note.word().store(noted, Ordering::Release);
    }
}

/// Lets the other side fall asleep now and then, so that it has to be woken. The
/// outcome does not depend on whether it does.
fn pause(n: u64) {
    if n.is_multiple_of(3) {
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// Forks, and notes the process that holds the socket from then on as well.
fn hold(note: &Note) {
    // SAFETY: the forked process calls nothing but `pause`, which a fork of a
    // program with threads may.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => loop {
            // SAFETY: it has no arguments, and waits for a signal.
            unsafe { libc::pause() };
        },
        ForkResult::Parent { child } => {
            let pid = u64::try_from(child.as_raw()).unwrap();
            note.other().store(pid, Ordering::Release);
        }
    }
}

// --- and what starts it ---

/// The longest that a survivor took to learn of a death, in nanoseconds.
#[derive(Default)]
struct Delay(u64);

impl Delay {
    fn noticed(&mut self, note: &Note) {
        let died = note.other().load(Ordering::Acquire);
        assert_ne!(died, 0, "it died elsewhere");
        self.0 = self.0.max(now().saturating_sub(died));
    }

    fn report(&self, deaths: u64, what: &str) {
        println!("evidence: {deaths} {what}");
        println!(
            "evidence: {} us at most until the survivor noticed, {what}",
            self.0 / 1000
        );
    }
}

/// Tells how many times a place is passed before the death, by the round.
fn times(place: &str, round: u64) -> u64 {
    // Sleeps and wake-ups are rarer than messages.
    let limit = if place.starts_with("wake: ") || place.starts_with("sleep: ") {
        4
    } else {
        40
    };
    1 + scatter((place, round), limit)
}

fn producer_dies<L: Link>(place: &Place, at: &str, round: u64, delay: &mut Delay) {
    died::<L>(place, "produce", at, round, delay);
}

/// Lets a producer die, an honest one or a liar, and checks what it leaves.
fn died<L: Link>(place: &Place, role: &str, at: &str, round: u64, delay: &mut Delay) {
    let times = times(at, round);
    let (mut child, mut link) = L::start(place, &format!("{role}|{at}|{times}"));
    let mut received = 0;
    let end = loop {
        match link.receive(received, HANG) {
            Ok(more) => received += u64::from(more),
            Err(end) => break end,
        }
    };
    let note = place.note();
    delay.noticed(&note);
    assert_eq!(end, GONE);
    assert_eq!(link.receive(received, HANG), Err(GONE), "the end stays");
    until(|| child.is_dead().then_some(()));
    // What was committed and not yet noted is one message at most, and it is one
    // just where the place lies behind the commit.
    let noted = note.word().load(Ordering::Acquire);
    let committed = at == "tail: after" || at.starts_with("wake: ");
    assert_eq!(
        received,
        noted + u64::from(committed),
        "committed when it died at {at}, round {round}"
    );
}

fn consumer_dies<L: Link>(place: &Place, at: &str, round: u64, delay: &mut Delay) {
    left::<L>(place, "consume", at, round, delay);
}

/// Lets a consumer die, an honest one or a liar, and checks what it let in.
fn left<L: Link>(place: &Place, role: &str, at: &str, round: u64, delay: &mut Delay) {
    let times = times(at, round);
    let (mut child, mut link) = L::start(place, &format!("{role}|{at}|{times}"));
    let mut sent = 0;
    while link.send(sent) {
        sent += 1;
        pause(sent);
    }
    let note = place.note();
    delay.noticed(&note);
    assert!(!link.send(sent), "the end stays");
    assert_eq!(link.receive(0, HANG), Err(GONE));
    until(|| child.is_dead().then_some(()));
    // It has taken nothing that was not sent, and made room for nothing that it has
    // not taken; one may be taken and not yet noted.
    let noted = note.word().load(Ordering::Acquire);
    assert!(
        (noted..=noted + 1 + L::ROOM).contains(&sent),
        "sent {sent}, and {noted} were taken"
    );
}

/// The control of all the others: what they check is told from an honest producer by
/// one note that is too high, one wrong bit, and one message that is left out; from
/// an honest consumer by notes that are too high or too low.
#[test]
fn liar_is_told_from_an_honest_side() {
    let _watchdog = Watchdog::new();
    let lies = producers_lie_is_noticed::<Interface<Words>>()
        + producers_lie_is_noticed::<Packed>()
        + producers_lie_is_noticed::<ByteInterface>();
    println!("evidence: {lies} of {lies} lies of dying producers noticed");
    let lies = consumers_lie_is_noticed::<Interface<Words>>()
        + consumers_lie_is_noticed::<Packed>()
        + consumers_lie_is_noticed::<ByteInterface>();
    println!("evidence: {lies} of {lies} lies of dying consumers noticed");
}

fn consumers_lie_is_noticed<L: Link>() -> u64 {
    let place = Place::new();
    let mut lies = 0;
    for at in ["head: before", "head: after"] {
        // So late that more were taken than fit.
        let late = (0..).find(|&round| times(at, round) > L::ROOM + 3);
        let die = |role| {
            let mut delay = Delay::default();
            left::<L>(&place, role, at, late.unwrap(), &mut delay);
        };
        die("consume");
        for lie in ["boast", "deny"] {
            let caught = catch_unwind(AssertUnwindSafe(|| die(lie))).unwrap_err();
            let text: &String = caught.downcast_ref().unwrap();
            assert!(text.contains(" were taken"), "{lie} at {at}: {text}");
            lies += 1;
        }
    }
    lies
}

fn producers_lie_is_noticed<L: Link>() -> u64 {
    let place = Place::new();
    let mut lies = 0;
    for at in ["push: begin", "tail: before", "tail: after"] {
        let late = (0..).find(|&round| times(at, round) > LIE + 2);
        let die = |role| {
            let mut delay = Delay::default();
            died::<L>(&place, role, at, late.unwrap(), &mut delay);
        };
        die("produce");
        for lie in ["claim", "garble", "skip"] {
            // Its words show which assertion failed.
            let caught = catch_unwind(AssertUnwindSafe(|| die(lie))).unwrap_err();
            let text: &String = caught.downcast_ref().unwrap();
            let by_the_right_one = match lie {
                "claim" => text.contains("committed when it died"),
                _ => *text == LIE.to_string(),
            };
            assert!(by_the_right_one, "{lie} at {at}: {text}");
            lies += 1;
        }
    }
    lies
}

/// Kills children at the fourteen places, and compares what is held afterwards.
fn fourteen_places<L: Link>(kind: &str, skipped: &str) {
    let place = Place::new();
    let places = || {
        PRODUCER
            .iter()
            .filter(|at| skipped.is_empty() || !at.starts_with(skipped))
    };
    let mut delay = Delay::default();
    // The first of the kind allocates what stays.
    producer_dies::<L>(&place, "push: begin", 0, &mut delay);
    let before = holdings();
    let mut deaths = 0;
    for round in 0..kills() {
        for at in places() {
            let _watchdog = Watchdog::new();
            producer_dies::<L>(&place, at, round, &mut delay);
            deaths += 1;
        }
        for at in CONSUMER {
            let _watchdog = Watchdog::new();
            consumer_dies::<L>(&place, at, round, &mut delay);
            deaths += 1;
        }
        until(|| (holdings() == before).then_some(()));
    }
    delay.report(deaths, &format!("deaths at named places, {kind} ring"));
}

#[test]
fn index_ring_survives_death_at_every_place() {
    alone("index_ring_survives_death_at_every_place", || {
        fourteen_places::<Interface<Words>>("index", "");
    });
}

#[test]
fn packed_ring_survives_death_at_every_place() {
    alone("packed_ring_survives_death_at_every_place", || {
        fourteen_places::<Packed>("packed", "");
    });
}

#[test]
fn bytes_ring_survives_death_at_every_place() {
    alone("bytes_ring_survives_death_at_every_place", || {
        fourteen_places::<ByteInterface>("bytes", "slot: ");
    });
}

/// Exchanges a message between a server and a client that does as it should, and
/// returns the other clients that were handed over before.
fn serve_one(server: &mut Server<Words>, path: &Path) -> Vec<Interface<Words>> {
    std::thread::scope(|scope| {
        let good = Options::new().name("good");
        let client = scope.spawn(move || {
            let mut client = Interface::<Words>::connect_with(path, &good).unwrap();
            assert!(client.receive(7, HANG).unwrap());
        });
        let mut others = Vec::new();
        loop {
            let mut peer = server.accept().unwrap();
            if peer.peer().name() == "good" {
                assert!(peer.send(7));
                client.join().unwrap();
                return others;
            }
            others.push(peer);
        }
    })
}

#[test]
fn client_that_dies_in_any_step_of_its_handshake_leaves_room_for_the_next() {
    alone(
        "client_that_dies_in_any_step_of_its_handshake_leaves_room_for_the_next",
        || {
            let folder = tempfile::tempdir().unwrap();
            let (path, note) = (folder.path().join("socket"), folder.path().join("note"));
            let mut server = Server::<Words>::bind(&path).unwrap();
            assert!(serve_one(&mut server, &path).is_empty());
            let before = holdings();
            let mut deaths = 0;
            for round in 0..kills() {
                for (at, times) in CLIENT {
                    let _watchdog = Watchdog::new();
                    let role = format!("connect|{at}|{times}");
                    let mut child = Child::start(&role, &path, &note);
                    let mut connected = Vec::new();
                    until(|| {
                        connected.extend(server.try_accept().unwrap());
                        child.is_dead().then_some(())
                    });
                    assert_ne!(Note::open(&note).other().swap(0, Ordering::AcqRel), 0);
                    // The server may learn of the last steps only now.
                    connected.extend(serve_one(&mut server, &path));
                    assert!(connected.len() <= 1, "{at}, round {round}");
                    for mut peer in connected {
                        assert_eq!(peer.receive(0, HANG), Err(GONE));
                    }
                    deaths += 1;
                }
                until(|| {
                    assert!(server.try_accept().unwrap().is_none());
                    (holdings() == before).then_some(())
                });
            }
            println!(
                "evidence: {deaths} deaths of clients in {} steps of the handshake",
                CLIENT.len()
            );
        },
    );
}

#[test]
fn server_that_dies_in_any_step_of_the_handshake_leaves_its_client_free() {
    alone(
        "server_that_dies_in_any_step_of_the_handshake_leaves_its_client_free",
        || {
            let folder = tempfile::tempdir().unwrap();
            let (path, note) = (folder.path().join("socket"), folder.path().join("note"));
            let _ = Interface::<Words>::connect(&path);
            let before = holdings();
            let mut deaths = 0;
            for round in 0..kills() {
                for (at, times) in SERVER {
                    let _watchdog = Watchdog::new();
                    let role = format!("serve|{at}|{times}");
                    let mut child = Child::start(&role, &path, &note);
                    let patient = Options::new().wait_for_server(HANG);
                    if let Ok(mut peer) = Interface::<Words>::connect_with(&path, &patient) {
                        assert_eq!(peer.receive(0, HANG), Err(GONE), "{at}, round {round}");
                    }
                    until(|| child.is_dead().then_some(()));
                    assert_ne!(Note::open(&note).other().swap(0, Ordering::AcqRel), 0);
                    deaths += 1;
                }
                // The next server takes the dead one's place.
                let mut server = Server::<Words>::bind(&path).unwrap();
                assert!(serve_one(&mut server, &path).is_empty());
                drop(server);
                until(|| (holdings() == before).then_some(()));
            }
            println!(
                "evidence: {deaths} deaths of servers in {} steps of the handshake",
                SERVER.len()
            );
        },
    );
}

/// A forked process, which does not outlive the test.
struct Forked(Pid);

impl Drop for Forked {
    fn drop(&mut self) {
        // Its parent is dead, so nobody here has to wait for it.
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

/// A fork keeps the socket open, so the kernel does not tell that the peer is dead.
/// What it committed is there, no call with a deadline hangs, and the end comes
/// with the last holder.
#[test]
fn forked_holder_of_the_socket_delays_the_end_and_nothing_else() {
    let _watchdog = Watchdog::new();
    let place = Place::new();
    let (child, mut link) = <Interface<Words> as Link>::start(&place, "hold");
    let note = place.note();
    let enough = 6;
    until(|| (note.word().load(Ordering::Acquire) >= enough).then_some(()));
    let pid = i32::try_from(note.other().load(Ordering::Acquire)).unwrap();
    let holder = Forked(Pid::from_raw(pid));
    child.kill();
    let committed = note.word().load(Ordering::Acquire);
    let mut received = 0;
    while link.receive(received, Duration::from_millis(1)).unwrap() {
        received += 1;
    }
    assert!((committed..=committed + 1).contains(&received));
    drop(holder);
    assert_eq!(link.receive(received, HANG), Err(GONE));
}
