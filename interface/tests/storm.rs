//! A storm of signals on real calls: every thread that uses the library is sent a
//! signal again and again, whose handler was installed without `SA_RESTART`. No
//! interruption surfaces, shortens a wait, or loses, doubles or reorders anything.
//!
//! `MEMENPSF_OPERATIONS` is the number of operations of all tests together (10 000
//! without it).
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{HANG, alone, pair};
use memenpsf::options::Ring;
use memenpsf::{Departure, Event, Interface, Message, Options, RecvError, Server};
use nix::errno::Errno;
use nix::libc::c_int;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Between two signals to a thread; the kernel's timers add about 50 us.
const PAUSE: Duration = Duration::from_micros(20);
/// Fewer signals than this are no storm: each test goes on until they have arrived.
const STORM: u64 = 1_000;
/// A share of the operations for each of the tests: three rings, control messages,
/// handshakes, a server of many clients.
const SHARES: u64 = 6;

const CLOSED: RecvError = RecvError::Closed(Departure::Closed);

fn operations() -> u64 {
    let all = std::env::var("MEMENPSF_OPERATIONS");
    let all: u64 = all.map_or(10_000, |count| count.parse().unwrap());
    all.div_ceil(SHARES)
}

static ARRIVED: AtomicU64 = AtomicU64::new(0);

extern "C" fn arrive(_: c_int) {
    ARRIVED.fetch_add(1, Ordering::Relaxed);
}

/// The threads that get the signals.
#[derive(Default)]
struct Storm {
    exposed: Mutex<Vec<Pthread>>,
    over: AtomicBool,
    /// Operations so far, of all threads.
    steps: AtomicU64,
}

impl Storm {
    /// Sends signals until the storm is over. Ends the process when nothing has been
    /// done for too long: a call might never return.
    fn rage(&self) {
        let mut last = (0, Instant::now());
        while !self.over.load(Ordering::Relaxed) {
            let steps = self.steps.load(Ordering::Relaxed);
            if steps != last.0 {
                last = (steps, Instant::now());
            } else if last.1.elapsed() > HANG {
                eprintln!("nothing has been done for {HANG:?}");
                std::process::abort();
            }
            // A thread takes itself out under the lock, so all of these are alive.
            for &thread in &*self.exposed.lock().unwrap() {
                pthread_kill(thread, Signal::SIGUSR1).unwrap();
            }
            thread::sleep(PAUSE);
        }
    }

    /// Runs `body` on this thread, exposed to the signals.
    fn expose<R>(&self, body: impl FnOnce() -> R) -> R {
        let _exposed = Exposed::new(self);
        body()
    }

    /// Tells whether to go on after `done` operations.
    fn goes_on(&self, done: u64) -> bool {
        self.steps.fetch_add(1, Ordering::Relaxed);
        done < operations() || ARRIVED.load(Ordering::Relaxed) < STORM
    }
}

/// A thread that gets signals, until it is dropped.
struct Exposed<'a>(&'a Storm);

impl<'a> Exposed<'a> {
    fn new(storm: &'a Storm) -> Self {
        storm.exposed.lock().unwrap().push(pthread_self());
        Self(storm)
    }
}

impl Drop for Exposed<'_> {
    fn drop(&mut self) {
        let own = pthread_self();
        self.0
            .exposed
            .lock()
            .unwrap()
            .retain(|&thread| thread != own);
    }
}

/// Ends the storm, even if the test fails.
struct Calm<'a>(&'a Storm);

impl Drop for Calm<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// Runs the test `name` in a process of its own with a storm, and counts the
/// operations that it returns.
fn in_a_storm(name: &str, what: &str, body: impl FnOnce(&Storm) -> u64) {
    alone(name, || {
        let action = SigAction::new(
            SigHandler::Handler(arrive),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler counts, which is safe at any time.
        unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
        let storm = Storm::default();
        let done = thread::scope(|scope| {
            let _calm = Calm(&storm);
            scope.spawn(|| storm.rage());
            storm.expose(bare_calls_are_interrupted);
            body(&storm)
        });
        let arrived = ARRIVED.load(Ordering::Relaxed);
        assert!(arrived >= STORM);
        println!("evidence: {done} {what} in a storm of {arrived} signals");
    });
}

/// The control of each test: calls outside the library do end with `EINTR`.
fn bare_calls_are_interrupted() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::NONE), Err(Errno::EINTR));
    assert_eq!(nix::unistd::read(&reader, &mut [0]), Err(Errno::EINTR));
}

/// One slot and no spinning: both sides sleep as often as they can.
fn sleepy() -> Options {
    Options::new().capacity(1).longest_spin(Duration::ZERO)
}

/// Sends numbered messages from one thread to another; returns how many.
fn stream<T: Message + ?Sized>(
    storm: &Storm,
    options: &Options,
    send: fn(&mut Interface<T>, u64),
    receive: fn(&mut Interface<T>) -> Result<Option<u64>, RecvError>,
) -> u64 {
    let (mut client, mut server) = storm.expose(|| pair::<T>(options, options));
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            storm.expose(|| {
                let mut sent = 0;
                while storm.goes_on(sent) {
                    send(&mut client, sent);
                    sent += 1;
                    if sent.is_multiple_of(200) {
                        nothing_comes_for_a_while(&mut client, receive);
                    }
                }
                let wakes = client.stats().wakes;
                client.close();
                assert!(wakes > 0, "nobody slept");
                sent
            })
        });
        let received = storm.expose(|| {
            let mut received = 0;
            loop {
                match receive(&mut server) {
                    Ok(Some(n)) => {
                        assert_eq!(n, received);
                        received += 1;
                    }
                    // A wait of a few milliseconds has passed.
                    Ok(None) => {}
                    Err(end) => {
                        assert_eq!(end, CLOSED);
                        return received;
                    }
                }
            }
        });
        let sent = sender.join().unwrap();
        assert_eq!(received, sent);
        sent
    });
    assert!(server.stats().wakes > 0, "nobody slept");
    sent
}

/// How long [`stream`]'s receivers wait: signals come many times meanwhile.
const WAIT: Duration = Duration::from_millis(3);

/// A wait for nothing lasts as long as it has to, whatever interrupts it.
fn nothing_comes_for_a_while<T: Message + ?Sized>(
    idle: &mut Interface<T>,
    receive: fn(&mut Interface<T>) -> Result<Option<u64>, RecvError>,
) {
    let began = Instant::now();
    assert_eq!(receive(idle), Ok(None));
    assert!(began.elapsed() >= WAIT, "{:?}", began.elapsed());
}

fn stream_of_words(storm: &Storm, ring: Ring) -> u64 {
    stream::<u64>(
        storm,
        &sleepy().ring(ring),
        |client, n| client.xmit_timeout(n, Some(HANG)).unwrap(),
        |server| server.recv_timeout(Some(WAIT)),
    )
}

#[test]
fn index_ring_keeps_order_in_a_storm() {
    in_a_storm(
        "index_ring_keeps_order_in_a_storm",
        "messages of the index ring",
        |storm| stream_of_words(storm, Ring::Index),
    );
}

#[test]
fn packed_ring_keeps_order_in_a_storm() {
    in_a_storm(
        "packed_ring_keeps_order_in_a_storm",
        "messages of the packed ring",
        |storm| stream_of_words(storm, Ring::Packed),
    );
}

#[test]
fn bytes_ring_keeps_order_in_a_storm() {
    in_a_storm(
        "bytes_ring_keeps_order_in_a_storm",
        "messages of the bytes ring",
        |storm| {
            stream::<[u8]>(
                storm,
                &sleepy().capacity(64).max_message(24),
                |client, n| {
                    let record = [n.to_le_bytes(); 3].concat();
                    client.xmit_timeout(&record, Some(HANG)).unwrap();
                },
                |server| {
                    let record = server.recv_timeout(Some(WAIT))?;
                    Ok(record.map(|bytes| {
                        let word = bytes.first_chunk().copied().unwrap();
                        assert_eq!(bytes, [word; 3].concat());
                        u64::from_le_bytes(word)
                    }))
                },
            )
        },
    );
}

#[test]
fn control_messages_arrive_once_in_a_storm() {
    in_a_storm(
        "control_messages_arrive_once_in_a_storm",
        "control messages",
        |storm| {
            let (mut client, mut server) = storm.expose(|| pair::<u64>(&sleepy(), &sleepy()));
            thread::scope(|scope| {
                scope.spawn(|| {
                    storm.expose(|| {
                        let mut next = 0;
                        loop {
                            match server.recv_timeout(Some(HANG)) {
                                Ok(None) => {}
                                Ok(Some(n)) => panic!("{n} was not sent"),
                                Err(end) => return assert_eq!(end, CLOSED),
                            }
                            while let Ok(Some(message)) = server.recv_ctrl_msg() {
                                assert_eq!(message, two_bytes(next));
                                server.xmit_timeout(next, Some(HANG)).unwrap();
                                next += 1;
                            }
                        }
                    });
                });
                storm.expose(|| {
                    let mut sent = 0;
                    while storm.goes_on(sent) {
                        client.send_ctrl_msg(two_bytes(sent)).unwrap();
                        assert_eq!(client.recv_timeout(Some(HANG)), Ok(Some(sent)));
                        sent += 1;
                    }
                    client.close();
                    sent
                })
            })
        },
    );
}

fn two_bytes(n: u64) -> [u8; 2] {
    let [first, second, ..] = n.to_le_bytes();
    [first, second]
}

#[test]
fn handshakes_succeed_in_a_storm() {
    in_a_storm("handshakes_succeed_in_a_storm", "handshakes", |storm| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let mut server = storm.expose(|| Server::<u64>::bind(&path).unwrap());
        thread::scope(|scope| {
            let clients = scope.spawn(|| {
                storm.expose(|| {
                    let mut made = 0;
                    // A handshake is worth ten of the other operations.
                    while storm.goes_on(made * 10) {
                        let mut client = Interface::<u64>::connect(&path).unwrap();
                        client.xmit(made).unwrap();
                        assert_eq!(client.recv_timeout(Some(HANG)), Ok(Some(made)));
                        made += 1;
                    }
                    // The last one says that there are no more.
                    let mut client = Interface::<u64>::connect(&path).unwrap();
                    client.xmit(u64::MAX).unwrap();
                    assert_eq!(client.recv_timeout(Some(HANG)), Ok(Some(u64::MAX)));
                    made
                })
            });
            let served = storm.expose(|| {
                let mut served = 0;
                loop {
                    let mut client = server.accept().unwrap();
                    let n = client.recv_timeout(Some(HANG)).unwrap().unwrap();
                    client.xmit(n).unwrap();
                    if n == u64::MAX {
                        return served;
                    }
                    assert_eq!(n, served);
                    served += 1;
                }
            });
            assert_eq!(clients.join().unwrap(), served);
            assert_eq!(server.stats().failed, 0);
            served
        })
    });
}

#[test]
fn server_of_many_clients_loses_nothing_in_a_storm() {
    const CLIENTS: u64 = 4;
    in_a_storm(
        "server_of_many_clients_loses_nothing_in_a_storm",
        "questions to a server of four clients",
        |storm| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("socket");
            let mut server = Server::<u64>::bind(&path).unwrap();
            thread::scope(|scope| {
                let clients: Vec<_> = (0..CLIENTS)
                    .map(|_| {
                        scope.spawn(|| {
                            storm.expose(|| {
                                let options = sleepy().wait_for_server(HANG);
                                let mut client =
                                    Interface::<u64>::connect_with(&path, &options).unwrap();
                                let mut asked = 0;
                                while storm.goes_on(asked * CLIENTS) {
                                    client.xmit_timeout(asked, Some(HANG)).unwrap();
                                    let answer = client.recv_timeout(Some(HANG));
                                    assert_eq!(answer, Ok(Some(!asked)));
                                    asked += 1;
                                }
                                asked
                            })
                        })
                    })
                    .collect();
                let answered = storm.expose(|| answer_all(&mut server, CLIENTS));
                let asked: u64 = clients.into_iter().map(|c| c.join().unwrap()).sum();
                assert_eq!(answered, asked);
                answered
            })
        },
    );
}

/// Answers questions until so many clients have gone; returns how many it answered.
fn answer_all(server: &mut Server<u64>, clients: u64) -> u64 {
    let (mut answered, mut gone) = (0, 0);
    while gone < clients {
        match server.poll(Some(HANG)).unwrap().unwrap() {
            Event::Ready(id, _) => {
                let client = server.client(id).unwrap();
                while let Ok(Some(n)) = client.recv() {
                    client.xmit(!n).unwrap();
                    answered += 1;
                }
            }
            Event::Gone(_, end) => {
                assert_eq!(end, CLOSED);
                gone += 1;
            }
            Event::Failed(_, error) => panic!("{error}"),
            _ => {}
        }
    }
    answered
}

/// A signal makes `fallocate` give up what it had allocated: a large region still
/// has to be made in the end.
#[test]
fn large_regions_are_made_in_a_storm() {
    in_a_storm(
        "large_regions_are_made_in_a_storm",
        "connections with regions of 16 MiB",
        |storm| {
            let large = Options::new().ring(Ring::Index).capacity(2 << 20);
            let mut made = 0;
            while storm.goes_on(made * 1000) {
                let (mut client, mut server) = storm.expose(|| pair::<u64>(&large, &large));
                client.xmit(made).unwrap();
                assert_eq!(server.recv(), Ok(Some(made)));
                made += 1;
            }
            made
        },
    );
}
