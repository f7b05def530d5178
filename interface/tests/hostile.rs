//! A peer that shakes hands as it should and then breaks the rules.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::io::Write;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use common::forger::Forger;
use common::{
    Watchdog, first_frame, header_of, holdings, let_the_clock_tick, limits, pair_of, until,
};
use memenpsf::control::Control;
use memenpsf::error::Field;
use memenpsf::layout::{Header, RingKind};
use memenpsf::options::Ring;
use memenpsf::region::OwnRegion;
use memenpsf::{
    ConnectError, ControlError, ControlViolation, Departure, HandshakeError, Interface, Name,
    Options, Reason, RecvError, TransmitError, Violation, XmitError,
};
use memenpsf_fdpass::{Deadline, send_all};
use memenpsf_ring::Violation as RingViolation;
use proptest::prelude::*;

const CAPACITY: u64 = 8;

/// Connects a victim with a forger, whose index ring has as many slots as the
/// victim's.
fn victim() -> (Interface<u64>, Forger) {
    victim_over(Ring::Index)
}

/// Connects a victim with a forger over one kind of ring.
fn victim_over(ring: Ring) -> (Interface<u64>, Forger) {
    let (victim, forger, _) = victim_with_socket(ring);
    (victim, forger)
}

/// Returns the victim's socket as well.
fn victim_with_socket(ring: Ring) -> (Interface<u64>, Forger, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let socket = ours.try_clone().unwrap();
    let kind = match ring {
        Ring::Packed => RingKind::Packed,
        _ => RingKind::Index,
    };
    std::thread::scope(|scope| {
        let forger = scope.spawn(|| Forger::connect(theirs, header_of(kind), limits()));
        let options = Options::new().ring(ring).capacity(8).region_limit(1 << 20);
        let victim = Interface::accept_with(ours, &options).unwrap();
        (victim, forger.join().unwrap(), socket)
    })
}

/// Checks that every call of both halves ends with this violation, whatever the
/// forger writes from now on.
#[track_caller]
fn assert_poisoned(victim: &mut Interface<u64>, forger: &Forger, violation: Violation) {
    until(|| victim.recv().err());
    until(|| match victim.xmit(7) {
        Err(XmitError::Violation(..)) => Some(()),
        _ => None,
    });
    for round in 0..300 {
        // Positions that would be legal, and others.
        forger.tail().store(round % 9, Ordering::Relaxed);
        forger.head().store(
            victim.indices().write.wrapping_sub(round % 2),
            Ordering::Relaxed,
        );
        assert_eq!(victim.recv(), Err(RecvError::Violation(violation)));
        assert_eq!(victim.recv_vectored(), Err(RecvError::Violation(violation)));
        assert_eq!(
            victim.recv_into(&mut Vec::new(), 3),
            Err(RecvError::Violation(violation))
        );
        assert_eq!(
            victim.xmit(round),
            Err(XmitError::Violation(round, violation))
        );
        let error = TransmitError::Violation(violation);
        assert_eq!(victim.xmit_vectored(&[1, 2]), Err(error));
        assert_eq!(victim.reserve(1).unwrap_err(), error);
        assert!(
            matches!(victim.send_ctrl_msg([1, 2]), Err(ControlError::Violation(v)) if v == violation)
        );
        assert!(
            matches!(victim.recv_ctrl_msg(), Err(ControlError::Violation(v)) if v == violation)
        );
    }
}

/// Checks that a connection beside the attacked one works.
struct Bystander(Interface<u64>, Interface<u64>);

impl Bystander {
    fn new() -> Self {
        let (client, server) = pair_of(4);
        Self(client, server)
    }

    fn assert_unharmed(&mut self) {
        let Self(client, server) = self;
        for n in 0..10 {
            client.xmit(n).unwrap();
            assert_eq!(server.recv(), Ok(Some(n)));
            server.send_ctrl_msg([1, 2]).unwrap();
            assert_eq!(client.recv_ctrl_msg().unwrap(), Some([1, 2]));
        }
        let_the_clock_tick();
        assert_eq!((client.recv(), server.recv()), (Ok(None), Ok(None)));
    }
}

#[test]
fn forger_that_keeps_the_rules_is_an_honest_peer() {
    let (mut victim, forger) = victim();
    assert_eq!(victim.peer().name(), "forger");
    forger.put(0, 10);
    forger.put(1, 11);
    forger.tail().store(2, Ordering::Release);
    assert_eq!(victim.recv_vectored(), Ok(vec![10, 11]));
    assert_eq!(victim.xmit_vectored(&[0; 9]), Ok(8));
    assert_eq!(victim.xmit(1), Err(XmitError::Full(1)));
    forger.head().store(8, Ordering::Release);
    assert_eq!(victim.xmit(1), Ok(()));
    assert_eq!(forger.victims_tail(), 9);
    (&forger.stream)
        .write_all(&Control::Bye(9).encode())
        .unwrap();
    let end = until(|| victim.recv().err());
    assert_eq!(end, RecvError::Closed(Departure::Closed));
}

// --- positions ---

#[test]
fn head_that_is_no_head_poisons_the_connection() {
    let mut bystander = Bystander::new();
    // The victim has sent 8, of which the forger has received 2.
    for head in [0, 1, 9, 10, 16, 1 << 32, 1 << 63, (1 << 63) + 8, u64::MAX] {
        let (mut victim, forger) = victim();
        assert_eq!(victim.xmit_vectored(&[0; 8]), Ok(8));
        forger.head().store(2, Ordering::Relaxed);
        assert_eq!(victim.xmit_vectored(&[0; 2]), Ok(2));
        let tail = 10;
        forger.head().store(head, Ordering::Relaxed);
        if head == 10 {
            assert_eq!(victim.xmit(7), Ok(()));
            continue;
        }
        let previous = 2;
        let expected = RingViolation::Head {
            head,
            previous,
            tail,
        };
        if head == 9 {
            // Legal: it has received 9 of 10.
            assert_eq!(victim.xmit(7), Ok(()));
            continue;
        }
        let violation = Violation::Ring(expected);
        assert_eq!(victim.xmit(7), Err(XmitError::Violation(7, violation)));
        assert_poisoned(&mut victim, &forger, violation);
        // The forger is shown the door at once.
        assert_eq!(forger.read_to_end(), []);
    }
    bystander.assert_unharmed();
}

#[test]
fn head_is_checked_by_every_call_that_transmits() {
    let calls: [fn(&mut Interface<u64>) -> TransmitError; 2] = [
        |victim| victim.xmit_vectored(&[1]).unwrap_err(),
        |victim| victim.reserve(1).unwrap_err(),
    ];
    for call in calls {
        let (mut victim, forger) = victim();
        assert_eq!(victim.xmit_vectored(&[0; 8]), Ok(8));
        forger.head().store(9, Ordering::Relaxed);
        let violation = Violation::Ring(RingViolation::Head {
            head: 9,
            previous: 0,
            tail: 8,
        });
        assert_eq!(call(&mut victim), TransmitError::Violation(violation));
        assert_poisoned(&mut victim, &forger, violation);
    }
}

#[test]
fn tail_that_is_no_tail_poisons_the_connection() {
    let mut bystander = Bystander::new();
    let calls: [fn(&mut Interface<u64>) -> RecvError; 3] = [
        |victim| victim.recv().unwrap_err(),
        |victim| victim.recv_vectored().unwrap_err(),
        |victim| victim.recv_into(&mut Vec::new(), 1).unwrap_err(),
    ];
    // The forger has sent 3, all of which the victim has received.
    for tail in [0, 2, 12, 1 << 32, (1 << 63) + 3, u64::MAX] {
        for call in calls {
            let (mut victim, forger) = victim();
            forger.tail().store(3, Ordering::Relaxed);
            assert_eq!(victim.recv_vectored().unwrap().len(), 3);
            forger.tail().store(tail, Ordering::Relaxed);
            let violation = Violation::Ring(RingViolation::Tail {
                tail,
                previous: 3,
                head: 3,
                capacity: CAPACITY,
            });
            assert_eq!(call(&mut victim), RecvError::Violation(violation));
            assert_poisoned(&mut victim, &forger, violation);
            assert_eq!(forger.read_to_end(), []);
        }
    }
    bystander.assert_unharmed();
}

#[test]
fn tail_that_retreats_below_what_was_promised_is_a_violation() {
    let (mut victim, forger) = victim();
    forger.tail().store(5, Ordering::Relaxed);
    assert_eq!(victim.recv(), Ok(Some(0)));
    forger.tail().store(3, Ordering::Relaxed);
    // What was promised is still handed out; then the retreat shows.
    let mut received = 1;
    let error = until(|| match victim.recv() {
        Ok(message) => {
            received += usize::from(message.is_some());
            None
        }
        Err(error) => Some(error),
    });
    assert_eq!(received, 5);
    assert!(matches!(
        error,
        RecvError::Violation(Violation::Ring(RingViolation::Tail {
            tail: 3,
            previous: 5,
            ..
        }))
    ));
}

// --- lines of a packed ring ---

/// Offset of the second line, and its number of slots.
const SECOND: usize = 64;
const LINE: u64 = 7;

/// A header of a line: the lap and how many elements it has.
fn line(lap: u64, count: u64) -> u64 {
    lap << 32 | count
}

#[test]
fn forger_that_keeps_the_rules_of_lines_is_an_honest_peer() {
    let (mut victim, forger) = victim_over(Ring::Packed);
    for n in 0..LINE {
        forger
            .word(8 + 8 * usize::try_from(n).unwrap())
            .store(10 + n, Ordering::Relaxed);
    }
    forger.word(0).store(line(1, 2), Ordering::Release);
    assert_eq!(victim.recv_vectored(), Ok(vec![10, 11]));
    forger.word(0).store(line(1, LINE), Ordering::Release);
    forger.word(SECOND).store(line(1, 1), Ordering::Release);
    assert_eq!(victim.recv_vectored(), Ok(vec![12, 13, 14, 15, 16, 0]));
    assert_eq!(victim.xmit_vectored(&[0; 9]), Ok(8));
    assert_eq!(victim.xmit(1), Err(XmitError::Full(1)));
    assert_eq!(forger.victims_word(0), line(1, LINE));
    assert_eq!(forger.victims_word(SECOND), line(1, 1));
    forger.head().store(8, Ordering::Release);
    assert_eq!(victim.xmit(1), Ok(()));
}

#[test]
fn line_that_is_no_line_poisons_the_connection() {
    let mut bystander = Bystander::new();
    let calls: [fn(&mut Interface<u64>) -> RecvError; 3] = [
        |victim| victim.recv().unwrap_err(),
        |victim| victim.recv_vectored().unwrap_err(),
        |victim| victim.recv_into(&mut Vec::new(), 1).unwrap_err(),
    ];
    // The forger has sent 3, all of which the victim has received.
    let headers = [
        line(1, 2),
        line(1, LINE + 1),
        line(1, u64::from(u32::MAX)),
        line(2, 3),
        line(2, 4),
        line(0, 4),
        line(u64::from(u32::MAX), 4),
        0,
        u64::MAX,
    ];
    for header in headers {
        for call in calls {
            let (mut victim, forger) = victim_over(Ring::Packed);
            forger.word(0).store(line(1, 3), Ordering::Relaxed);
            assert_eq!(victim.recv_vectored().unwrap().len(), 3);
            forger.word(0).store(header, Ordering::Relaxed);
            let violation = Violation::Ring(RingViolation::Line {
                lap: u32::try_from(header >> 32).unwrap(),
                count: header & u64::from(u32::MAX),
                expected: 1,
                previous: 3,
                most: LINE,
            });
            assert_eq!(call(&mut victim), RecvError::Violation(violation));
            assert_poisoned(&mut victim, &forger, violation);
            assert_eq!(forger.read_to_end(), []);
        }
    }
    bystander.assert_unharmed();
}

#[test]
fn line_beyond_the_capacity_is_a_violation() {
    // Two lines have 14 slots, and the capacity is 8.
    let (victim, forger) = victim_over(Ring::Packed);
    let (_transmitter, mut receiver) = victim.split();
    forger.word(0).store(line(1, LINE), Ordering::Relaxed);
    forger.word(SECOND).store(line(1, 1), Ordering::Relaxed);
    assert_eq!(receiver.slots(), 8);
    forger.word(SECOND).store(line(1, 2), Ordering::Relaxed);
    // It is not looked at again before there is room for it.
    assert_eq!(receiver.slots(), 8);

    let (victim, forger) = victim_over(Ring::Packed);
    let (_transmitter, mut receiver) = victim.split();
    forger.word(0).store(line(1, LINE), Ordering::Relaxed);
    forger.word(SECOND).store(line(1, 2), Ordering::Relaxed);
    assert_eq!(receiver.slots(), 0);
    let violation = Violation::Ring(RingViolation::Line {
        lap: 1,
        count: 2,
        expected: 1,
        previous: 0,
        most: 1,
    });
    for _ in 0..100 {
        assert_eq!(receiver.recv(), Err(RecvError::Violation(violation)));
    }
}

#[test]
fn one_call_takes_at_most_one_ring_whatever_the_forger_promises() {
    let (mut victim, forger) = victim_over(Ring::Packed);
    // As many as a ring and more: legal only once the first line has been received,
    // and so without an end if the forger went on with it.
    forger.word(0).store(line(1, LINE), Ordering::Relaxed);
    forger.word(SECOND).store(line(1, LINE), Ordering::Relaxed);
    assert_eq!(victim.recv_vectored().unwrap().len(), 8);
    assert_eq!(victim.recv_vectored().unwrap().len(), 6);
}

#[test]
fn head_of_a_packed_ring_is_checked_by_every_call_that_transmits() {
    let calls: [fn(&mut Interface<u64>) -> TransmitError; 3] = [
        |victim| victim.xmit(1).unwrap_err().into(),
        |victim| victim.xmit_vectored(&[1]).unwrap_err(),
        |victim| victim.reserve(1).unwrap_err(),
    ];
    for head in [9, 16, 1 << 32, 1 << 63, u64::MAX] {
        for call in calls {
            let (mut victim, forger) = victim_over(Ring::Packed);
            assert_eq!(victim.xmit_vectored(&[0; 8]), Ok(8));
            forger.head().store(head, Ordering::Relaxed);
            let violation = Violation::Ring(RingViolation::Head {
                head,
                previous: 0,
                tail: 8,
            });
            assert_eq!(call(&mut victim), TransmitError::Violation(violation));
            assert_poisoned(&mut victim, &forger, violation);
        }
    }
}

// --- anything ---

/// What a forger writes, and what the victim does.
#[derive(Debug, Clone)]
enum Move {
    Tail(u64),
    /// The header of the first or the second line.
    Line(bool, u64),
    Head(u64),
    Xmit(usize),
    Reserve(usize),
    Recv(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    // Mostly near what is legal, so that the rings live for a while.
    let position = prop_oneof![4 => 0..24_u64, 1 => any::<u64>(), 1 => (0..9_u64).prop_map(|n| 0_u64.wrapping_sub(n))];
    let header = prop_oneof![4 => (1..3_u64, 0..9_u64).prop_map(|(lap, count)| line(lap, count)), 1 => any::<u64>()];
    let one = prop_oneof![
        position.clone().prop_map(Move::Tail),
        (any::<bool>(), header).prop_map(|(second, header)| Move::Line(second, header)),
        position.prop_map(Move::Head),
        (0..12_usize).prop_map(Move::Xmit),
        (0..12_usize).prop_map(Move::Reserve),
        (0..12_usize).prop_map(Move::Recv),
    ];
    proptest::collection::vec(one, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn positions_of_any_kind_end_in_an_error_that_stays(
        ring in proptest::sample::select(&common::RINGS),
        moves in moves(),
    ) {
        let (mut victim, forger) = victim_over(ring);
        let mut sending = None;
        let mut receiving = None;
        for step in moves {
            match step {
                Move::Tail(tail) => forger.tail().store(tail, Ordering::Relaxed),
                Move::Line(second, header) => {
                    let at = if second { SECOND } else { 0 };
                    forger.word(at).store(header, Ordering::Relaxed);
                }
                Move::Head(head) => forger.head().store(head, Ordering::Relaxed),
                Move::Xmit(count) => {
                    let before = victim.indices().write;
                    match victim.xmit_vectored(&vec![1; count]) {
                        Ok(sent) => {
                            prop_assert!(sent <= count.min(8) && sending.is_none());
                            prop_assert_eq!(victim.indices().write, before + sent as u64);
                        }
                        Err(error) => prop_assert_eq!(*sending.get_or_insert(error), error),
                    }
                }
                Move::Reserve(count) => match victim.reserve(count) {
                    Ok(slots) => {
                        prop_assert!(slots.len() == count && count <= 8 && sending.is_none());
                    }
                    Err(TransmitError::TooFew { available, .. }) => {
                        prop_assert!(available < count && sending.is_none());
                    }
                    Err(error) => prop_assert_eq!(*sending.get_or_insert(error), error),
                },
                Move::Recv(max) => {
                    let mut messages = Vec::new();
                    match victim.recv_into(&mut messages, max) {
                        Ok(count) => {
                            prop_assert!(count <= max.min(8) && receiving.is_none());
                            prop_assert_eq!(messages.len(), count);
                        }
                        Err(error) => prop_assert_eq!(*receiving.get_or_insert(error), error),
                    }
                }
            }
        }
    }
}

// --- the socket ---

/// Sends `bytes` behind an honest handshake and expects this violation.
#[track_caller]
fn assert_refused(bytes: &[u8], violation: ControlViolation) {
    let (mut victim, forger) = victim();
    (&forger.stream).write_all(bytes).unwrap();
    assert_poisoned(&mut victim, &forger, Violation::Control(violation));
}

#[test]
fn garbage_on_the_socket_poisons_the_connection() {
    let mut bystander = Bystander::new();
    let marker = |found| ControlViolation::Marker { found };
    assert_refused(b"GET / HTTP/1.1\r\n\r\n", marker(b'G'));
    assert_refused(&[0; 8], marker(0));
    assert_refused(&[0xff; 100_000], marker(0xff));
    assert_refused(
        &[0xc5, 9, 0, 0, 0, 0, 0, 0],
        ControlViolation::Kind { found: 9 },
    );
    let reserved = |kind, found| ControlViolation::Reserved { kind, found };
    assert_refused(&[0xc5, 1, 0, 3, 0, 0, 0, 0], reserved(1, 3));
    assert_refused(&[0xc5, 2, 8, 9, 0, 0, 0, 4], reserved(2, 4));
    // A byte too many between two frames.
    let wake = Control::Wake.encode();
    assert_refused(&[&wake[..], &[0], &wake].concat(), marker(0));
    // A whole hello again.
    assert_refused(b"memenpsf and so on", marker(b'm'));
    bystander.assert_unharmed();
}

#[test]
fn control_messages_before_the_garbage_are_received() {
    let (mut victim, forger) = victim();
    let frame = Control::Message([1, 2]).encode();
    (&forger.stream)
        .write_all(&[&frame[..], b"garbage!"].concat())
        .unwrap();
    let error = until(|| victim.recv().err());
    assert!(matches!(error, RecvError::Violation(Violation::Control(_))));
    assert_eq!(victim.recv_ctrl_msg().unwrap(), Some([1, 2]));
    assert!(matches!(
        victim.recv_ctrl_msg(),
        Err(ControlError::Violation(_))
    ));
}

/// Undoes what keeps descriptors out already at the sender, where the kernel has
/// it (`SO_PASSRIGHTS`, Linux 6.16): as on the kernels that do not.
fn let_descriptors_in(socket: &UnixStream) {
    const SO_PASSRIGHTS: nix::libc::c_int = 83;
    let on: nix::libc::c_int = 1;
    // SAFETY: the kernel reads an int, which is as long as it is told and outlives
    // the call; the descriptor is open.
    let _ = unsafe {
        nix::libc::setsockopt(
            socket.as_raw_fd(),
            nix::libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const on).cast(),
            4,
        )
    };
}

#[test]
fn descriptors_after_the_handshake_poison_the_connection_and_are_closed() {
    common::alone(
        "descriptors_after_the_handshake_poison_the_connection_and_are_closed",
        || {
            let null = std::fs::File::open("/dev/null").unwrap();
            let before = holdings();
            for count in [1, 2, 253] {
                let (mut victim, forger, socket) = victim_with_socket(Ring::Index);
                let_descriptors_in(&socket);
                let fds = vec![null.as_fd(); count];
                // A well-formed frame goes with them.
                let frame = Control::Message([1, 2]).encode();
                send_all(&forger.stream, &frame, &fds, Deadline::never()).unwrap();
                let held = holdings();
                assert_poisoned(&mut victim, &forger, Violation::Descriptors);
                assert_eq!(holdings(), held);
            }
            assert_eq!(holdings(), before);
        },
    );
}

#[test]
fn descriptor_after_the_handshake_is_refused_to_its_sender_or_a_violation() {
    let null = std::fs::File::open("/dev/null").unwrap();
    let (mut victim, forger) = victim();
    let frame = Control::Message([1, 2]).encode();
    match send_all(&forger.stream, &frame, &[null.as_fd()], Deadline::never()) {
        Ok(()) => assert_poisoned(&mut victim, &forger, Violation::Descriptors),
        Err(_) => {
            // Nothing has arrived, and the connection goes on.
            assert_eq!(victim.recv_ctrl_msg().unwrap(), None);
            (&forger.stream).write_all(&frame).unwrap();
            assert_eq!(victim.recv_ctrl_msg().unwrap(), Some([1, 2]));
        }
    }
}

#[test]
fn wake_up_into_a_full_socket_is_no_failure() {
    let (mut victim, forger) = victim();
    let full = loop {
        if let Err(error) = victim.send_ctrl_msg([1, 2]) {
            break error;
        }
    };
    assert!(matches!(full, ControlError::Full), "{full}");
    forger.sleeps().store(1, Ordering::Relaxed);
    victim.xmit(7).unwrap();
    // It was due, and the connection goes on.
    assert_eq!(victim.stats().wakes, 1);
    assert_eq!(victim.recv_ctrl_msg().unwrap(), None);
    victim.xmit(8).unwrap();
    assert_eq!(forger.victims_tail(), 2);
}

#[test]
fn flood_of_wakes_keeps_no_call_from_its_work() {
    let _watchdog = Watchdog::new();
    let (mut victim, forger) = victim();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (done, stream) = (&done, forger.stream.try_clone().unwrap());
        scope.spawn(move || {
            let flood = Control::Wake.encode().repeat(512);
            stream.set_nonblocking(true).unwrap();
            // A cut frame would be a violation: what is left goes first.
            let mut rest = &flood[..];
            while !done.load(Ordering::Relaxed) {
                match (&stream).write(rest) {
                    Ok(written) if written == rest.len() => rest = &flood,
                    Ok(written) => rest = &rest[written..],
                    Err(_) => std::thread::yield_now(),
                }
            }
        });
        for n in 0..100_000 {
            forger.put(usize::try_from(n % CAPACITY).unwrap(), n);
            forger.tail().store(n + 1, Ordering::Release);
            assert_eq!(victim.recv(), Ok(Some(n)));
            assert_eq!(victim.recv(), Ok(None));
            assert_eq!(victim.xmit(n), Ok(()));
            forger.head().store(n + 1, Ordering::Release);
            assert_eq!(victim.recv_ctrl_msg().unwrap(), None);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(victim.stats().looks > 0);
}

#[test]
fn one_call_reads_a_bounded_share_of_a_flood() {
    use nix::sys::socket::{MsgFlags, recv};
    let (mut victim, forger, socket) = victim_with_socket(Ring::Index);
    forger.stream.set_nonblocking(true).unwrap();
    let flood = Control::Wake.encode().repeat(512);
    let mut sent = 0;
    while let Ok(written) = (&forger.stream).write(&flood) {
        sent += written;
    }
    assert!(sent > 100_000, "{sent}");
    let mut unread = vec![0; sent];
    let mut left = sent;
    while left > 0 {
        assert_eq!(victim.recv_ctrl_msg().unwrap(), None);
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let now = recv(socket.as_raw_fd(), &mut unread, flags).unwrap_or(0);
        // Its budget, and the piece that exceeds it.
        assert!(
            (1..=16 * 1024 + 512).contains(&(left - now)),
            "{left} {now}"
        );
        left = now;
    }
}

#[test]
fn message_committed_while_the_end_is_found_is_received() {
    // Makes the first look take some microseconds, in which it has already found
    // the ring empty and not yet the goodbye.
    let flood = Control::Wake.encode().repeat(1500);
    for round in 0..300 {
        let (mut victim, forger) = victim();
        (&forger.stream).write_all(&flood).unwrap();
        let looking = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (forger, looking) = (&forger, &looking);
            scope.spawn(move || {
                while !looking.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                // A little later each time.
                for _ in 0..round {
                    std::hint::spin_loop();
                }
                forger.tail().store(1, Ordering::Release);
                (&forger.stream)
                    .write_all(&Control::Bye(0).encode())
                    .unwrap();
            });
            looking.store(true, Ordering::Relaxed);
            let mut received = 0;
            let end = until(|| match victim.recv() {
                Ok(message) => {
                    received += usize::from(message.is_some());
                    None
                }
                Err(error) => Some(error),
            });
            assert_eq!(end, RecvError::Closed(Departure::Closed));
            assert_eq!(received, 1, "round {round}");
        });
    }
}

/// Writes control messages until the socket takes no more for good, although
/// the victim looks at it.
fn flood_with_control(victim: &mut Interface<u64>, forger: &Forger) -> u64 {
    forger.stream.set_nonblocking(true).unwrap();
    let mut sent = 0;
    let mut looks = victim.stats().looks;
    loop {
        let frame = Control::Message(number(sent)).encode();
        match (&forger.stream).write(&frame) {
            Ok(written) => {
                assert_eq!(written, frame.len());
                sent += 1;
                assert!(sent < 100_000, "nothing holds the flood back");
                looks = victim.stats().looks;
            }
            // Some looks that find the socket full are enough to be sure.
            Err(_) if victim.stats().looks > looks + 3 => return sent,
            Err(_) => assert_eq!(victim.recv(), Ok(None)),
        }
    }
}

fn number(n: u64) -> [u8; 2] {
    [n.to_le_bytes()[0], n.to_le_bytes()[1]]
}

#[test]
fn flood_of_control_messages_is_held_back_and_nothing_else_is() {
    let (mut victim, forger) = victim();
    let sent = flood_with_control(&mut victim, &forger);
    // The inbox is bounded, and a read takes at most 64 frames.
    let kept = victim.stats().control_received;
    assert!((1024..1024 + 64).contains(&kept), "{kept}");
    forger.put(0, 5);
    forger.tail().store(1, Ordering::Release);
    assert_eq!(victim.recv(), Ok(Some(5)));
    assert_eq!(victim.xmit(1), Ok(()));
    for n in 0..sent {
        assert_eq!(victim.recv_ctrl_msg().unwrap(), Some(number(n)));
    }
    assert_eq!(victim.recv_ctrl_msg().unwrap(), None);
}

#[test]
fn flood_and_then_the_end_is_noticed_and_loses_nothing() {
    for how in [Shutdown::Write, Shutdown::Both] {
        let (mut victim, forger) = victim();
        let sent = flood_with_control(&mut victim, &forger);
        forger.stream.shutdown(how).unwrap();
        // Before any control message is taken.
        let gone = RecvError::Closed(Departure::Gone);
        assert_eq!(until(|| victim.recv().err()), gone);
        for n in 0..sent {
            assert_eq!(victim.recv_ctrl_msg().unwrap(), Some(number(n)));
        }
        assert!(matches!(
            victim.recv_ctrl_msg(),
            Err(ControlError::Closed(Departure::Gone))
        ));
    }
}

#[test]
fn half_a_frame_and_then_the_end_is_a_violation() {
    for frame in [Control::Wake.encode(), Control::Bye(0).encode()] {
        for len in 1..8 {
            let (mut victim, forger) = victim();
            (&forger.stream).write_all(&frame[..len]).unwrap();
            let_the_clock_tick();
            assert_eq!(victim.recv(), Ok(None));
            forger.stream.shutdown(Shutdown::Both).unwrap();
            // An honest peer writes whole frames, even if it dies meanwhile.
            let truncated = ControlViolation::Truncated { received: len };
            let end = RecvError::Violation(Violation::Control(truncated));
            assert_eq!(until(|| victim.recv().err()), end);
        }
    }
}

#[test]
fn violation_on_the_socket_ends_the_stream_at_once() {
    let (mut victim, forger) = victim();
    (&forger.stream).write_all(&[0; 8]).unwrap();
    until(|| victim.recv().err());
    // The victim is not dropped, and the forger sees the end, with no goodbye.
    assert_eq!(forger.read_to_end(), []);
    drop(victim);
}

#[test]
fn frames_in_single_bytes_are_frames() {
    let (mut victim, forger) = victim();
    for byte in Control::Message([3, 4]).encode() {
        assert_eq!(victim.recv_ctrl_msg().unwrap(), None);
        (&forger.stream).write_all(&[byte]).unwrap();
    }
    assert_eq!(victim.recv_ctrl_msg().unwrap(), Some([3, 4]));
}

#[test]
fn messages_after_the_goodbye_are_not_received() {
    for goodbye in [true, false] {
        let (mut victim, forger) = victim();
        let departure = if goodbye {
            (&forger.stream)
                .write_all(&Control::Bye(0).encode())
                .unwrap();
            Departure::Closed
        } else {
            forger.stream.shutdown(Shutdown::Both).unwrap();
            Departure::Gone
        };
        let closed = RecvError::Closed(departure);
        assert_eq!(until(|| victim.recv().err()), closed);
        // Nor do any bytes bring the connection back.
        let _ = (&forger.stream).write(b"garbage!");
        for tail in 1..9 {
            forger.tail().store(tail, Ordering::Release);
            assert_eq!(victim.recv(), Err(closed));
            assert_eq!(victim.recv_vectored(), Err(closed));
            assert_eq!(victim.recv_into(&mut Vec::new(), 1), Err(closed));
        }
    }
}

#[test]
fn interface_dropped_after_a_violation_sends_no_goodbye_and_raises_no_signal() {
    let (mut victim, forger) = victim();
    forger.tail().store(99, Ordering::Relaxed);
    victim.recv().unwrap_err();
    drop(victim);
    assert_eq!(forger.read_to_end(), []);
}

// --- the handshake ---

/// Offers `descriptors` with a hello, and returns how the victim ends.
fn offer(hello: &[u8], descriptors: &[OwnedFd]) -> ConnectError {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let fds: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    send_all(&theirs, hello, &fds, Deadline::never()).unwrap();
    theirs.shutdown(Shutdown::Write).unwrap();
    Interface::<u64>::new("victim", 8, ours, 1).unwrap_err()
}

#[test]
fn wrong_descriptors_in_the_handshake_are_refused_and_closed() {
    common::alone(
        "wrong_descriptors_in_the_handshake_are_refused_and_closed",
        || {
            let before = holdings();
            let name = Name::new("forger").unwrap();
            let (hello, header) = first_frame();
            let region = |header: &Header| OwnRegion::create(&name, header).unwrap().1;
            let counted = |error: ConnectError| match error {
                ConnectError::Handshake(HandshakeError::Refusing(refusal)) => {
                    match refusal.reason() {
                        Reason::Mismatch(m) if m.field == Field::Descriptors => m.found,
                        reason => panic!("{reason:?}"),
                    }
                }
                error => panic!("{error:?}"),
            };
            assert_eq!(counted(offer(&hello, &[])), 0);
            assert_eq!(
                counted(offer(&hello, &[region(&header), region(&header)])),
                2
            );
            let many: Vec<_> = (0..253).map(|_| region(&header)).collect();
            assert_eq!(counted(offer(&hello, &many)), 253);
            drop(many);

            let other = Header {
                nonce: header.nonce ^ 1,
                ..header
            };
            let pipe = OwnedFd::from(std::io::pipe().unwrap().0);
            for descriptor in [region(&other), pipe] {
                let error = offer(&hello, &[descriptor]);
                assert!(
                    matches!(&error, ConnectError::Handshake(HandshakeError::Refusing(refusal))
                        if refusal.reason() == Reason::Region),
                    "{error:?}"
                );
            }

            // The right one, and then nothing: the victim has mapped it and sent
            // its own.
            let error = offer(&hello, &[region(&header)]);
            assert!(matches!(
                error,
                ConnectError::Handshake(HandshakeError::Closed { .. })
            ));
            assert_eq!(holdings(), before);
        },
    );
}

#[test]
fn connections_that_end_by_a_violation_leave_nothing_behind() {
    common::alone(
        "connections_that_end_by_a_violation_leave_nothing_behind",
        || {
            let before = holdings();
            for _ in 0..20 {
                let (mut victim, forger) = victim();
                forger.tail().store(99, Ordering::Relaxed);
                victim.recv().unwrap_err();
                let (mut victim, forger_too) = self::victim();
                (&forger_too.stream).write_all(b"garbage!").unwrap();
                until(|| victim.recv().err());
                drop((forger, forger_too));
            }
            assert_eq!(holdings(), before);
        },
    );
}
