//! A server and its clients, as threads of one process.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::{Watchdog, alone, first_frame, holdings, until};
use memenpsf::frame::{FRAME_LEN, decode_refusal};
use memenpsf::region::OwnRegion;
use memenpsf::{
    ClientId, ConnectError, Departure, Event, HandshakeError, Interest, Interface, Name, Options,
    Reason, RecvError, Refusal, Server, ServerOptions, Violation, XmitError,
};
use memenpsf_fdpass::{Deadline, send_all};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::time::TimeValLike;

/// A server at a path of its own.
struct Site {
    server: Server<u64>,
    path: PathBuf,
    _folder: tempfile::TempDir,
    _watchdog: Watchdog,
}

type Connected = Result<Interface<u64>, ConnectError>;

impl Site {
    fn new(options: &ServerOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        Self {
            server: Server::bind_with(&path, options).unwrap(),
            path,
            _folder: folder,
            _watchdog: Watchdog::new(),
        }
    }

    /// Starts a client.
    fn dial(&self, options: &Options) -> JoinHandle<Connected> {
        let (path, options) = (self.path.clone(), options.clone());
        thread::spawn(move || Interface::connect_with(path, &options))
    }

    /// Connects a client and hands over both ends.
    fn connect(&mut self, name: &str) -> (Interface<u64>, Interface<u64>) {
        let client = self.dial(&Options::new().name(name));
        let server = self.server.accept().unwrap();
        (client.join().unwrap().unwrap(), server)
    }

    /// Connects a client whose other end stays in the server.
    fn keep(&mut self, options: &Options) -> (Interface<u64>, ClientId) {
        let client = self.dial(options);
        loop {
            if let Some(Event::Connected(id)) = self.server.poll(None).unwrap() {
                return (client.join().unwrap().unwrap(), id);
            }
        }
    }

    /// Runs the server until the client has its answer.
    fn answer(&mut self, client: JoinHandle<Connected>) -> Connected {
        while !client.is_finished() {
            let accepted = self.server.try_accept().unwrap();
            assert!(accepted.is_none(), "a client was accepted");
            thread::yield_now();
        }
        client.join().unwrap()
    }

    /// Checks that a client is refused with these words.
    #[track_caller]
    fn assert_refused(&mut self, name: &str, words: &str) {
        let client = self.dial(&Options::new().name(name));
        let error = self.answer(client).unwrap_err();
        assert_eq!(error.to_string(), format!("the peer refused: {words}"));
    }

    /// Opens a connection that stays half open, once the server has seen it.
    fn half_open(&mut self) -> UnixStream {
        let before = self.server.stats().half_open;
        let stream = UnixStream::connect(&self.path).unwrap();
        until(|| {
            assert!(self.server.try_accept().unwrap().is_none());
            (self.server.stats().half_open > before).then_some(())
        });
        stream
    }

    /// Waits until every client but so many has gone from the counts.
    fn drained_to(&mut self, clients: usize) {
        until(|| {
            assert!(self.server.try_accept().unwrap().is_none());
            (self.server.stats().clients == clients).then_some(())
        });
    }

    /// Checks that a client is served.
    #[track_caller]
    fn assert_serves(&mut self) {
        let (mut client, mut server) = self.connect("good");
        client.xmit(3).unwrap();
        assert_eq!(server.recv_timeout(None), Ok(Some(3)));
        server.xmit(9).unwrap();
        assert_eq!(client.recv_timeout(None), Ok(Some(9)));
    }

    /// Returns the next event of a client.
    fn next_event(&mut self) -> Event {
        until(|| self.server.poll(Some(Duration::from_secs(60))).unwrap())
    }

    /// Checks that nothing is to be told.
    #[track_caller]
    fn assert_quiet(&mut self) {
        // A client that was ready is asked again first.
        let event = self.server.poll(Some(Duration::ZERO)).unwrap();
        assert!(event.is_none(), "{event:?}");
    }
}

/// Reads the refusal on a socket of a client made by hand.
fn refusal(stream: &UnixStream) -> Refusal {
    let mut frame = [0; FRAME_LEN];
    stream.set_read_timeout(Some(common::HANG)).unwrap();
    let mut stream = stream;
    stream.read_exact(&mut frame).unwrap();
    decode_refusal(&frame)
}

fn short(timeout: u64) -> Options {
    Options::new().handshake_timeout(Some(Duration::from_millis(timeout)))
}

/// Long enough that no test sees it pass.
fn patient() -> Options {
    Options::new().handshake_timeout(Some(Duration::from_secs(600)))
}

// --- accepting ---

#[test]
fn clients_are_handed_over_whichever_way_accepting_waits() {
    let mut site = Site::new(&ServerOptions::new());
    assert!(site.server.try_accept().unwrap().is_none());
    let soon = Some(Duration::from_millis(1));
    assert!(site.server.accept_timeout(soon).unwrap().is_none());

    let clients: Vec<_> = (0..4).map(|_| site.dial(&Options::new())).collect();
    let mut served = vec![site.server.accept().unwrap()];
    served.push(until(|| site.server.try_accept().unwrap()));
    let timeout = Some(common::HANG);
    served.push(site.server.accept_timeout(timeout).unwrap().unwrap());
    served.extend(site.server.incoming().take(1).map(Result::unwrap));
    for server in &mut served {
        server.xmit(5).unwrap();
    }
    for client in clients {
        let mut client = client.join().unwrap().unwrap();
        assert_eq!(client.recv_timeout(None), Ok(Some(5)));
    }
    assert_eq!(site.server.stats().connected, 4);
}

#[test]
fn client_that_is_handed_over_outlives_the_server_and_serves_in_another_thread() {
    let mut site = Site::new(&ServerOptions::new());
    let (mut client, server) = site.connect("");
    drop(site);
    let echo = thread::spawn(move || {
        let mut server = server;
        while let Ok(Some(n)) = server.recv_timeout(None) {
            server.xmit(n + 1).unwrap();
        }
    });
    for n in 0..100 {
        client.xmit(n).unwrap();
        assert_eq!(client.recv_timeout(None), Ok(Some(n + 1)));
    }
    drop(client);
    echo.join().unwrap();
}

#[test]
fn silent_client_and_garbage_delay_nobody() {
    let mut site = Site::new(&ServerOptions::new().connection(patient()));
    let silent = site.half_open();
    let mut garbage = site.half_open();
    let mut half = site.half_open();
    garbage.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let (frame, _) = first_frame();
    half.write_all(&frame[..100]).unwrap();
    for _ in 0..10 {
        site.assert_serves();
    }
    // The garbage was answered, the others are still awaited.
    let told = refusal(&garbage);
    assert!(told.to_string().starts_with("magic is"), "{told}");
    assert_eq!(site.server.stats().half_open, 2);
    drop((silent, half));
    until(|| {
        assert!(site.server.try_accept().unwrap().is_none());
        (site.server.stats().half_open == 0).then_some(())
    });
    assert_eq!(site.server.stats().failed, 3);
}

#[test]
fn client_with_other_messages_is_refused_in_words() {
    let mut site = Site::new(&ServerOptions::new());
    let path = site.path.clone();
    let stranger = thread::spawn(move || Interface::<u32>::connect(path).map(drop));
    while !stranger.is_finished() {
        assert!(site.server.try_accept().unwrap().is_none());
    }
    let error = stranger.join().unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the peer refused: element size is 4, expected 8: \
         elements of 4 bytes aligned to 4 meet elements of 8 bytes aligned to 8"
    );
    site.assert_serves();
}

// --- half-open handshakes ---

#[test]
fn two_hundred_silent_clients_leave_room_for_a_good_one_and_nothing_behind() {
    alone(
        "two_hundred_silent_clients_leave_room_for_a_good_one_and_nothing_behind",
        || {
            let options = ServerOptions::new().connection(patient());
            let mut site = Site::new(&options);
            site.assert_serves();
            let before = holdings();
            // More than there is room for: the oldest give way.
            let silent: Vec<_> = (0..200)
                .map(|_| UnixStream::connect(&site.path).unwrap())
                .collect();
            site.assert_serves();
            until(|| {
                assert!(site.server.try_accept().unwrap().is_none());
                let stats = site.server.stats();
                (stats.failed == 73).then_some(())
            });
            // The good one needed a place as well, for a moment.
            assert_eq!(site.server.stats().half_open, 127);
            let limit = Reason::HalfOpen { limit: 128 };
            for refused in &silent[..73] {
                assert_eq!(refusal(refused).reason(), limit);
            }
            site.assert_serves();
            drop(silent);
            until(|| {
                assert!(site.server.try_accept().unwrap().is_none());
                (site.server.stats().half_open == 0).then_some(())
            });
            assert_eq!(holdings(), before);
            assert_eq!(site.server.stats().clients, 0);
        },
    );
}

#[test]
fn oldest_handshake_gives_way_and_learns_why() {
    let options = ServerOptions::new().connection(patient()).max_half_open(2);
    let mut site = Site::new(&options);
    let oldest = site.half_open();
    let _second = site.half_open();
    let _third = UnixStream::connect(&site.path).unwrap();
    until(|| {
        assert!(site.server.try_accept().unwrap().is_none());
        (site.server.stats().failed == 1).then_some(())
    });
    assert_eq!(
        refusal(&oldest).to_string(),
        "all 2 places for unfinished handshakes are taken"
    );
    assert_eq!(site.server.stats().half_open, 2);
    // One that is awake needs no more than a moment of a place.
    site.assert_serves();

    let none = ServerOptions::new().max_half_open(0);
    let mut site = Site::new(&none);
    site.assert_refused("", "all 0 places for unfinished handshakes are taken");
}

#[test]
fn handshake_that_takes_too_long_is_refused_and_told() {
    let mut site = Site::new(&ServerOptions::new().connection(short(30)));
    let (frame, _) = first_frame();
    for sent in [0, 1, 255] {
        let mut slow = UnixStream::connect(&site.path).unwrap();
        slow.write_all(&frame[..sent]).unwrap();
        let event = site.next_event();
        assert!(
            matches!(event, Event::Failed(who, ConnectError::Timeout) if who.pid == Some(std::process::id())),
            "{event:?}"
        );
        assert_eq!(refusal(&slow).reason(), Reason::Deadline);
    }
    site.assert_quiet();
    site.assert_serves();
}

#[test]
fn handshake_without_a_deadline_stays() {
    let options = Options::new().handshake_timeout(None);
    let mut site = Site::new(&ServerOptions::new().connection(options));
    let _silent = site.half_open();
    let soon = Some(Duration::from_millis(50));
    assert!(site.server.accept_timeout(soon).unwrap().is_none());
    assert_eq!(site.server.stats().half_open, 1);
    site.assert_serves();
}

#[test]
fn client_that_goes_at_any_byte_leaves_nothing() {
    alone("client_that_goes_at_any_byte_leaves_nothing", || {
        let mut site = Site::new(&ServerOptions::new());
        site.assert_serves();
        let before = holdings();
        let (frame, header) = first_frame();
        for sent in 0..=frame.len() {
            let mut client = UnixStream::connect(&site.path).unwrap();
            if sent == frame.len() {
                // A whole hello with its descriptor, and no accept.
                let name = Name::new("x").unwrap();
                let (_region, fd) = OwnRegion::create(&name, &header).unwrap();
                send_all(&client, &frame, &[fd.as_fd()], Deadline::never()).unwrap();
            } else {
                client.write_all(&frame[..sent]).unwrap();
            }
            if sent % 2 == 0 {
                // Half of them only go once the server has read what there is.
                until(|| {
                    assert!(site.server.try_accept().unwrap().is_none());
                    (site.server.stats().half_open == 1).then_some(())
                });
            }
            drop(client);
            until(|| {
                assert!(site.server.try_accept().unwrap().is_none());
                (site.server.stats().failed == sent as u64 + 1).then_some(())
            });
        }
        assert_eq!(holdings(), before);
        assert_eq!(site.server.stats().clients, 0);
        site.assert_serves();
    });
}

// --- limits ---

#[test]
fn clients_beyond_the_limit_are_refused_until_one_goes() {
    let mut site = Site::new(&ServerOptions::new().max_clients(2));
    let _first = site.connect("first");
    let (_client, second) = site.connect("second");
    site.assert_refused("third", "all 2 places for clients are taken");
    // Wherever the interface is, and in whatever halves.
    let (transmitter, receiver) = second.split();
    drop(transmitter);
    site.assert_refused("third", "all 2 places for clients are taken");
    thread::spawn(move || drop(receiver)).join().unwrap();
    site.drained_to(1);
    let _third = site.connect("third");
    site.assert_refused("fourth", "all 2 places for clients are taken");
}

#[test]
fn clients_of_one_user_beyond_the_limit_are_refused() {
    let mut site = Site::new(&ServerOptions::new().max_clients_per_user(1));
    let first = site.connect("first");
    let user = nix::unistd::geteuid();
    let words = format!(
        "all 1 places for clients are taken: no user may have more, and user {user} has them"
    );
    site.assert_refused("second", &words);
    drop(first);
    site.drained_to(0);
    site.assert_serves();
}

#[test]
fn handshakes_that_race_for_the_last_place_get_it_once() {
    let options = ServerOptions::new().connection(patient()).max_clients(1);
    let mut site = Site::new(&options);
    // All of them are let in while nobody has the place.
    let (frame, header) = first_frame();
    let waiting: Vec<_> = (0..5).map(|_| site.half_open()).collect();
    let name = Name::new("x").unwrap();
    for stream in &waiting {
        let (_region, fd) = OwnRegion::create(&name, &header).unwrap();
        send_all(stream, &frame, &[fd.as_fd()], Deadline::never()).unwrap();
    }
    until(|| {
        assert!(site.server.try_accept().unwrap().is_none());
        (site.server.stats().failed == 4).then_some(())
    });
    assert_eq!(site.server.stats().clients, 1);
    let told = waiting.iter().filter(|stream| {
        // A refusal is of kind 2, a hello of kind 1.
        let mut frame = [0; FRAME_LEN];
        let mut stream = *stream;
        stream.read_exact(&mut frame).unwrap();
        frame[12] == 2 && decode_refusal(&frame).reason() == Reason::Busy { limit: 1 }
    });
    assert_eq!(told.count(), 4);
}

#[test]
fn memory_beyond_the_limit_is_refused_in_words() {
    // 512 slots of 8 bytes, 128 bytes of tail and 384 of the rest: two pages.
    let own = Options::new().capacity(512);
    let options = ServerOptions::new().connection(own).max_memory(40_000);
    let mut site = Site::new(&options);
    let client = site.dial(&Options::new().capacity(512));
    let kept = site.server.accept().unwrap();
    let _client = client.join().unwrap().unwrap();
    assert_eq!(site.server.stats().memory, 16_384);

    let greedy = site.dial(&Options::new().capacity(4096));
    let error = site.answer(greedy).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the peer refused: the region needs 49152 bytes, the limit is 23616: \
         both regions count, and other clients leave so much of 40000"
    );
    let modest = site.dial(&Options::new().capacity(512));
    let second = site.server.accept().unwrap();
    drop(modest.join().unwrap().unwrap());
    drop((kept, second));
    assert_eq!(site.server.stats().memory, 0);
}

#[test]
fn region_beyond_the_limit_is_refused_in_words() {
    let own = Options::new().capacity(8).region_limit(8192);
    let mut site = Site::new(&ServerOptions::new().connection(own));
    let greedy = site.dial(&Options::new().capacity(4096));
    let error = site.answer(greedy).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the peer refused: the region needs 40960 bytes, the limit is 8192"
    );
}

#[test]
fn name_that_is_taken_is_refused_until_it_is_free() {
    let mut site = Site::new(&ServerOptions::new().unique_names(true));
    let first = site.connect("camera");
    site.assert_refused("camera", "the name is in use");
    let _other = site.connect("camera 2");
    let _nobody = (site.connect(""), site.connect(""));
    drop(first);
    site.drained_to(3);
    let _again = site.connect("camera");

    let mut site = Site::new(&ServerOptions::new());
    let _both = (site.connect("camera"), site.connect("camera"));
}

// --- policy ---

#[test]
fn policy_decides_and_its_words_reach_the_client() {
    let mut site = Site::new(&ServerOptions::new());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    site.server.admit_clients(move |client| {
        let (capacity, memory) = (client.capacity, client.memory);
        seen.lock()
            .unwrap()
            .push((client.name.to_owned(), capacity, memory));
        match client.name {
            "spy" => Err(Refusal::with_words(
                Reason::NotPermitted,
                &format!("not you, user {}", client.credentials.uid),
            )),
            "late" => Err(Reason::Other {
                code: Reason::APPLICATION + 1,
                found: 17,
                expected: 9,
            }
            .into()),
            _ => Ok(()),
        }
    });
    let user = nix::unistd::geteuid();
    site.assert_refused("spy", &format!("not permitted: not you, user {user}"));
    site.assert_refused("late", "reason 65537 (17, 9)");
    site.assert_serves();
    let asked = asked.lock().unwrap();
    let names: Vec<_> = asked.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["spy", "late", "good"]);
    // Two regions of three pages: 1024 slots of 8 bytes and what goes with them.
    assert_eq!((asked[0].1, asked[0].2), (1024, 2 * 12_288));
}

#[test]
fn policy_on_users_is_asked_before_anything_is_spent() {
    let mut site = Site::new(&ServerOptions::new());
    site.server.admit_users(|who| {
        assert_eq!(who.pid, Some(std::process::id()));
        Err(Refusal::with_words(Reason::NotPermitted, "members only"))
    });
    site.assert_refused("", "not permitted: members only");
    // Even one that never says hello.
    let silent = UnixStream::connect(&site.path).unwrap();
    until(|| {
        assert!(site.server.try_accept().unwrap().is_none());
        (site.server.stats().failed == 2).then_some(())
    });
    assert_eq!(refusal(&silent).reason(), Reason::NotPermitted);
    assert_eq!(site.server.stats().half_open, 0);
    site.server.admit_users(|_| Ok(()));
    site.assert_serves();
}

#[test]
fn policy_that_panics_costs_its_client_only() {
    let mut site = Site::new(&ServerOptions::new());
    let (mut other, mut kept) = site.connect("other");
    site.server.admit_clients(|client| {
        assert_ne!(client.name, "bad");
        Ok(())
    });
    let bad = site.dial(&Options::new().name("bad"));
    let server = std::panic::AssertUnwindSafe(&mut site.server);
    let panicked = std::panic::catch_unwind(move || {
        let server = server;
        let server: &mut Server<u64> = server.0;
        drop(server.accept());
    });
    assert!(panicked.is_err());
    let error = bad.join().unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            ConnectError::Handshake(HandshakeError::Closed { .. })
        ),
        "{error}"
    );
    site.assert_serves();
    other.xmit(1).unwrap();
    assert_eq!(kept.recv_timeout(None), Ok(Some(1)));
    assert_eq!(site.server.stats().clients, 1);
}

// --- many clients in one thread ---

#[test]
fn events_tell_of_a_client_from_its_first_to_its_last() {
    let mut site = Site::new(&ServerOptions::new());
    let (mut client, id) = site.keep(&Options::new().name("camera"));
    assert_eq!(site.server.client(id).unwrap().peer().name(), "camera");
    assert_eq!(site.server.clients().count(), 1);
    site.assert_quiet();

    client.xmit(7).unwrap();
    let event = site.next_event();
    assert!(matches!(event, Event::Ready(at, what) if at == id && what.readable && !what.ended));
    assert_eq!(site.server.client(id).unwrap().recv(), Ok(Some(7)));
    site.assert_quiet();

    client.send_ctrl_msg([1, 2]).unwrap();
    let event = site.next_event();
    assert!(matches!(event, Event::Ready(at, what) if at == id && what.control));
    let kept = site.server.client(id).unwrap();
    assert_eq!(kept.recv_ctrl_msg().unwrap(), Some([1, 2]));
    site.assert_quiet();

    // What it had committed comes before its end.
    client.xmit(8).unwrap();
    drop(client);
    let event = site.next_event();
    assert!(
        matches!(event, Event::Ready(at, what) if at == id && what.readable),
        "{event:?}"
    );
    assert_eq!(site.server.client(id).unwrap().recv(), Ok(Some(8)));
    let event = site.next_event();
    assert!(
        matches!(event, Event::Gone(at, RecvError::Closed(Departure::Closed)) if at == id),
        "{event:?}"
    );
    assert_eq!(site.server.client(id).unwrap().peer().name(), "camera");
    site.assert_quiet();
    assert!(site.server.client(id).is_none());
    assert_eq!(site.server.stats().clients, 0);
}

#[test]
fn client_that_breaks_a_rule_ends_alone() {
    let mut site = Site::new(&ServerOptions::new());
    let (mut good, good_id) = site.keep(&Options::new());
    let (bad, bad_id) = site.keep(&Options::new());
    nix::unistd::write(bad.as_fd(), b"garbage!").unwrap();
    let event = site.next_event();
    assert!(
        matches!(event, Event::Gone(at, RecvError::Violation(Violation::Control(_))) if at == bad_id),
        "{event:?}"
    );
    site.assert_quiet();
    good.xmit(1).unwrap();
    let event = site.next_event();
    assert!(
        matches!(event, Event::Ready(at, _) if at == good_id),
        "{event:?}"
    );
}

#[test]
fn failed_handshakes_are_told_with_their_cause() {
    let mut site = Site::new(&ServerOptions::new());
    let stranger = site.dial(&Options::new().schema("other"));
    let event = site.next_event();
    assert!(
        matches!(
            &event,
            Event::Failed(_, ConnectError::Handshake(HandshakeError::Refusing(_)))
        ),
        "{event:?}"
    );
    drop(stranger.join());
    drop(UnixStream::connect(&site.path).unwrap());
    let event = site.next_event();
    assert!(
        matches!(
            &event,
            Event::Failed(_, ConnectError::Handshake(HandshakeError::Closed { .. }))
        ),
        "{event:?}"
    );
    site.assert_quiet();
}

#[test]
fn client_that_never_stops_keeps_nobody_waiting() {
    let mut site = Site::new(&ServerOptions::new());
    let (mut busy, busy_id) = site.keep(&Options::new());
    let (mut modest, modest_id) = site.keep(&Options::new());
    let mut turns = Vec::new();
    for n in 0..100 {
        busy.xmit(n).unwrap();
    }
    modest.xmit(0).unwrap();
    while turns.len() < 20 {
        if let Event::Ready(id, _) = site.next_event() {
            // One message each time: there is always one more.
            site.server.client(id).unwrap().recv().unwrap();
            turns.push(id);
            if id == modest_id {
                modest.xmit(0).unwrap();
            }
        }
    }
    // By turns, whoever has more.
    let of_modest = turns.iter().filter(|&&id| id == modest_id).count();
    assert!((9..=11).contains(&of_modest), "{turns:?}");
    assert!(turns.contains(&busy_id));
    // And somebody new comes in between as well.
    let client = site.dial(&Options::new());
    loop {
        match site.next_event() {
            Event::Connected(_) => break,
            Event::Ready(id, _) => {
                // Never emptied: the busy one stays ready.
                busy.xmit(0).unwrap();
                site.server.client(id).unwrap().recv().unwrap();
            }
            event => panic!("{event:?}"),
        }
    }
    drop(client.join());
}

#[test]
fn space_is_told_when_it_was_asked_for() {
    let mut site = Site::new(&ServerOptions::new().connection(Options::new().capacity(2)));
    let (mut client, id) = site.keep(&Options::new());
    site.assert_quiet();
    let kept = site.server.client(id).unwrap();
    assert_eq!(kept.xmit_vectored(&[1, 2, 3]), Ok(2));
    assert_eq!(kept.xmit(3), Err(XmitError::Full(3)));
    site.assert_quiet();
    site.server.set_interest(id, Interest::BOTH);
    site.assert_quiet();
    assert_eq!(client.recv(), Ok(Some(1)));
    let event = site.next_event();
    assert!(
        matches!(event, Event::Ready(at, what) if at == id && what.writable),
        "{event:?}"
    );
    site.server.client(id).unwrap().xmit(3).unwrap();
    site.assert_quiet();
    site.server.set_interest(id, Interest::DATA);
    assert_eq!(client.recv_vectored(), Ok(vec![2, 3]));
    site.assert_quiet();
}

#[test]
fn control_messages_that_nobody_reads_keep_nobody_awake() {
    let mut site = Site::new(&ServerOptions::new());
    let (mut client, id) = site.keep(&Options::new());
    site.assert_quiet();
    let mut sent: u64 = 0;
    // More than the inbox and the socket hold together.
    while sent < 20_000 {
        match client.send_ctrl_msg([1, 1]) {
            Ok(()) => sent += 1,
            Err(_) => {
                let _ = site.server.poll(Some(Duration::ZERO)).unwrap();
            }
        }
    }
    // A bounded number of events tells of them; then the server is armed, and
    // the wake-ups behind them get through.
    let mut told = 0;
    while site.server.poll(Some(Duration::ZERO)).unwrap().is_some() {
        told += 1;
        assert!(told < 20_000);
    }
    client.xmit(5).unwrap();
    let event = site.next_event();
    assert!(
        matches!(event, Event::Ready(at, what) if at == id && what.readable),
        "{event:?}"
    );
    assert_eq!(site.server.client(id).unwrap().recv(), Ok(Some(5)));
    let counted = site.server.client(id).unwrap().stats().control_received;
    assert_eq!(counted, sent);
}

#[test]
fn client_that_is_served_between_events_wakes_the_server_again() {
    let mut site = Site::new(&ServerOptions::new());
    let (mut client, id) = site.keep(&Options::new());
    for round in 0..4 {
        site.assert_quiet();
        client.xmit(1).unwrap();
        wait_for(&site.server);
        // Takes the message, and the wake-up out of the socket.
        if round % 2 == 0 {
            let kept = site.server.client(id).unwrap();
            assert_eq!(kept.recv(), Ok(Some(1)));
            assert_eq!(kept.recv_ctrl_msg().unwrap(), None);
        } else {
            for (_, kept) in site.server.clients() {
                assert_eq!(kept.recv(), Ok(Some(1)));
                assert_eq!(kept.recv_ctrl_msg().unwrap(), None);
            }
        }
        site.assert_quiet();
        client.xmit(2).unwrap();
        let event = site.next_event();
        assert!(
            matches!(event, Event::Ready(at, _) if at == id),
            "{event:?}"
        );
        assert_eq!(site.server.client(id).unwrap().recv(), Ok(Some(2)));
    }
}

#[test]
fn client_that_is_taken_out_makes_no_more_events() {
    let mut site = Site::new(&ServerOptions::new());
    let (mut client, id) = site.keep(&Options::new());
    let mut taken = site.server.take(id).unwrap();
    assert!(site.server.take(id).is_none());
    client.xmit(1).unwrap();
    site.assert_quiet();
    assert_eq!(taken.recv_timeout(None), Ok(Some(1)));
    // A client that is connected and not told of yet may be taken by accept.
    let other = site.dial(&Options::new());
    drop(site.server.accept().unwrap());
    drop(other.join());
    site.assert_quiet();
    drop(taken);
    assert_eq!(
        client.recv_timeout(None),
        Err(RecvError::Closed(Departure::Closed))
    );
}

#[test]
fn accepting_and_keeping_clients_mix() {
    let mut site = Site::new(&ServerOptions::new());
    let (mut kept_client, kept) = site.keep(&Options::new());
    // Ready, and not asked about while accept waits.
    kept_client.xmit(1).unwrap();
    let (mut client, mut server) = site.connect("other");
    client.xmit(2).unwrap();
    assert_eq!(server.recv_timeout(None), Ok(Some(2)));
    let event = site.next_event();
    assert!(
        matches!(event, Event::Ready(at, _) if at == kept),
        "{event:?}"
    );
}

/// Waits for the server's descriptor alone.
fn wait_for(server: &Server<u64>) {
    let mut fds = [PollFd::new(server.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::from(60_000_u16)), Ok(1));
}

fn is_readable(server: &Server<u64>) -> bool {
    let mut fds = [PollFd::new(server.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO) == Ok(1)
}

#[test]
fn descriptor_of_the_server_is_enough_to_wait_for() {
    let mut site = Site::new(&ServerOptions::new().connection(short(50)));
    assert!(!is_readable(&site.server));
    let calm = |server: &mut Server<u64>| {
        let mut events = Vec::new();
        while let Some(event) = server.poll(Some(Duration::ZERO)).unwrap() {
            if let Event::Ready(id, _) = event {
                while let Ok(Some(_)) = server.client(id).unwrap().recv() {}
            }
            events.push(event);
        }
        events
    };
    // A client comes, step by step.
    let client = site.dial(&Options::new());
    let mut events = Vec::new();
    while events.is_empty() {
        wait_for(&site.server);
        events = calm(&mut site.server);
    }
    assert!(matches!(events[0], Event::Connected(_)));
    let mut client = client.join().unwrap().unwrap();
    // It says something, again and again.
    for n in 0..100 {
        client.xmit(n).unwrap();
        let mut events = Vec::new();
        while !events.iter().any(|event| matches!(event, Event::Ready(..))) {
            wait_for(&site.server);
            events = calm(&mut site.server);
        }
    }
    // The deadline of a handshake makes it readable too.
    let _silent = UnixStream::connect(&site.path).unwrap();
    let mut events = Vec::new();
    while events.is_empty() {
        wait_for(&site.server);
        events = calm(&mut site.server);
    }
    assert!(matches!(events[0], Event::Failed(_, ConnectError::Timeout)));
    // The same through `try_accept`.
    let _silent = UnixStream::connect(&site.path).unwrap();
    until(|| {
        assert!(site.server.try_accept().unwrap().is_none());
        (site.server.stats().half_open == 1).then_some(())
    });
    while site.server.stats().half_open == 1 {
        wait_for(&site.server);
        assert!(site.server.try_accept().unwrap().is_none());
    }
    // And the end of a client.
    drop(client);
    wait_for(&site.server);
    let events = calm(&mut site.server);
    assert!(matches!(events[..], [Event::Gone(..)]), "{events:?}");
    assert!(!is_readable(&site.server));
}

#[test]
fn idle_server_with_silent_clients_uses_no_processor() {
    let options = ServerOptions::new().connection(patient());
    let mut site = Site::new(&options);
    let _connected: Vec<_> = (0..16).map(|_| site.keep(&Options::new())).collect();
    let _silent: Vec<_> = (0..16)
        .map(|_| UnixStream::connect(&site.path).unwrap())
        .collect();
    site.assert_quiet();
    let used = || {
        let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
        let now = nix::time::clock_gettime(clock).unwrap();
        Duration::from_nanos(now.num_nanoseconds().unsigned_abs())
    };
    let (before, began) = (used(), Instant::now());
    let event = site.server.poll(Some(Duration::from_millis(500))).unwrap();
    assert!(event.is_none(), "{event:?}");
    let (used, took) = (used() - before, began.elapsed());
    // A busy loop uses all or, on a machine with more to do, a good part.
    assert!(used < took / 20, "{used:?} of {took:?}");
}

// --- the end ---

#[test]
fn server_that_ends_tells_everybody() {
    let options = ServerOptions::new().connection(patient());
    let mut site = Site::new(&options);
    let (mut connected, _) = site.keep(&Options::new());
    let (mut taken_client, mut taken) = site.connect("");
    let half_open = site.half_open();
    // Not even accepted.
    let waiting = UnixStream::connect(&site.path).unwrap();
    let dialling = site.dial(&patient());
    let Site {
        server,
        path,
        _folder,
        _watchdog,
    } = site;
    // Most likely it has connected by now; if not, it finds no server.
    common::let_the_clock_tick();
    server.shutdown();
    assert!(!path.exists());
    assert_eq!(
        connected.recv_timeout(None),
        Err(RecvError::Closed(Departure::Closed))
    );
    assert_eq!(refusal(&half_open).to_string(), "shutting down");
    assert_eq!(refusal(&waiting).to_string(), "shutting down");
    match dialling.join().unwrap().unwrap_err() {
        ConnectError::Socket { .. } => {}
        error => assert_eq!(error.to_string(), "the peer refused: shutting down"),
    }
    taken_client.xmit(1).unwrap();
    assert_eq!(taken.recv_timeout(None), Ok(Some(1)));
}

// --- shortages ---

#[test]
fn server_without_descriptors_pauses_and_recovers() {
    alone("server_without_descriptors_pauses_and_recovers", || {
        let mut site = Site::new(&ServerOptions::new().connection(patient()));
        let (mut old_client, id) = site.keep(&Options::new());
        let before = holdings();
        // Connections wait in the backlog, and then there is no descriptor for them.
        let waiting: Vec<_> = (0..8)
            .map(|_| UnixStream::connect(&site.path).unwrap())
            .collect();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
        while site.server.stats().pauses < 3 {
            let event = site.server.poll(Some(Duration::from_millis(10))).unwrap();
            assert!(event.is_none(), "{event:?}");
        }
        assert_eq!(site.server.stats().half_open, 0);
        // Clients are served meanwhile.
        old_client.xmit(4).unwrap();
        let event = site.next_event();
        assert!(
            matches!(event, Event::Ready(at, _) if at == id),
            "{event:?}"
        );
        assert_eq!(site.server.client(id).unwrap().recv(), Ok(Some(4)));
        // It tries again by itself, about twenty times a second.
        let pauses = site.server.stats().pauses;
        let began = Instant::now();
        while site.server.stats().pauses < pauses + 4 {
            let event = site.server.poll(Some(Duration::from_millis(10))).unwrap();
            assert!(event.is_none(), "{event:?}");
        }
        assert!(began.elapsed() > Duration::from_millis(100));
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        until(|| {
            assert!(site.server.try_accept().unwrap().is_none());
            (site.server.stats().half_open == 8).then_some(())
        });
        site.assert_serves();
        drop(waiting);
        until(|| {
            assert!(site.server.try_accept().unwrap().is_none());
            (site.server.stats().half_open == 0).then_some(())
        });
        assert_eq!(holdings(), before);
    });
}

#[test]
fn client_whose_region_finds_no_descriptor_learns_why() {
    alone("client_whose_region_finds_no_descriptor_learns_why", || {
        let mut site = Site::new(&ServerOptions::new().connection(patient()));
        let half_open = site.half_open();
        let before = holdings();
        let (frame, header) = first_frame();
        let name = Name::new("x").unwrap();
        let (_region, fd) = OwnRegion::create(&name, &header).unwrap();
        send_all(&half_open, &frame, &[fd.as_fd()], Deadline::never()).unwrap();
        drop(fd);
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
        until(|| {
            assert!(site.server.try_accept().unwrap().is_none());
            (site.server.stats().failed == 1).then_some(())
        });
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        assert_eq!(
            refusal(&half_open).to_string(),
            "the region was not accepted: no descriptor is free"
        );
        drop((half_open, _region));
        assert_eq!(holdings().descriptors + 2, before.descriptors);
        site.assert_serves();
    });
}

#[test]
fn server_can_go_to_another_thread() {
    fn is_send<S: Send>(_: &S) {}
    let mut site = Site::new(&ServerOptions::new());
    is_send(&site.server);
    site.assert_serves();
    let text = format!("{:?}", site.server);
    assert!(text.starts_with("Server { path: Some("), "{text}");
    let _: &Path = site.server.path().unwrap();
}
