//! Everything that can be measured, by small counts: both sides arrive, and every
//! message is checked.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use memenpsf_benches::kind::Kind;
use memenpsf_benches::latency::{LAP, Latency};
use memenpsf_benches::limits::{BUFFER, Blocks, Limit, Player};
use memenpsf_benches::message::LONGEST;
use memenpsf_benches::session::{Outcome, Ring, Session, Subject, Task};
use memenpsf_benches::transport::Waiting;

/// Runs all tasks at both sides of a subject.
fn run(subject: Subject, tasks: &[Task]) -> Vec<[Outcome; 2]> {
    let [ours, theirs] = subject.ends().unwrap();
    assert_eq!(ours.len(), subject.descriptors());
    let side = |player, fds| {
        let mut session = Session::open(subject, player, fds).unwrap();
        let outcomes = tasks.iter().map(|&task| session.run(task).unwrap());
        outcomes.collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let theirs = scope.spawn(|| side(Player::Second, theirs));
        let ours = side(Player::First, ours).into_iter();
        ours.zip(theirs.join().unwrap())
            .map(|(ours, theirs)| [ours, theirs])
            .collect()
    })
}

/// Asserts that there were so many round trips and no flaw.
#[track_caller]
fn assert_sound(outcomes: &[[Outcome; 2]], trips: u64) {
    let mut latency = Latency::new();
    for outcome in outcomes.iter().flatten() {
        assert_eq!(outcome.flaws, 0);
        latency.merge(&outcome.latency.iter().copied().collect());
    }
    assert_eq!(latency.count(), trips);
}

/// How many of `trips` round trips are timed by themselves.
fn timed(trips: u64) -> u64 {
    trips - trips / 2
}

#[test]
fn every_limit_is_played_to_its_end_in_any_order() {
    let blocks = |bytes, in_flight| Blocks { bytes, in_flight };
    let limits = [
        Limit::OneLine,
        Limit::FillSum(blocks(64 << 10, 16)),
        Limit::TwoLines,
        Limit::Copy(blocks(4 << 10, 256)),
        Limit::Futex,
        Limit::Copy(blocks(BUFFER, 1)),
        Limit::OneLine,
        Limit::Copy(blocks(64, 3)),
        Limit::Messages(blocks(64 << 10, 4)),
        Limit::Messages(blocks(8, 3)),
        Limit::Futex,
        Limit::FillSum(blocks(8, 1)),
    ];
    // Two laps, and many times around all blocks in flight.
    let count = 2 * u64::from(LAP);
    let tasks = limits.map(|limit| Task::Play(limit, count));
    let outcomes = run(Subject::Limits, &tasks);
    assert_eq!(outcomes.len(), limits.len());
    for (outcome, limit) in outcomes.iter().zip(limits) {
        assert!(outcome[0].nanoseconds > 0, "{}", limit.name());
        assert_eq!(outcome[0].turn.is_some(), limit.bytes().is_none());
    }
}

#[test]
fn blocks_that_do_not_fit_are_refused() {
    let [ours, _theirs] = Subject::Limits.ends().unwrap();
    let mut session = Session::open(Subject::Limits, Player::First, ours).unwrap();
    for (bytes, in_flight) in [
        (0, 1),
        (12, 1),
        (8, 0),
        (8, 257),
        (BUFFER, 2),
        (usize::MAX - 7, 2),
    ] {
        for limit in [Limit::FillSum, Limit::Copy, Limit::Messages] {
            let limit = limit(Blocks { bytes, in_flight });
            // Nobody plays along: it would wait for a while, if it began.
            assert!(session.run(Task::Play(limit, 1)).is_err());
        }
    }
    let too_long = Blocks {
        bytes: 2 * LONGEST,
        in_flight: 1,
    };
    let task = Task::Play(Limit::Messages(too_long), 1);
    assert!(session.run(task).is_err());
}

#[test]
fn every_transport_carries_every_length_however_it_waits() {
    for kind in Kind::STREAMS.into_iter().chain([Kind::MemoryFenced]) {
        for length in [8, 64, 1000, 65_536] {
            for waiting in [Waiting::Spin, Waiting::Poll] {
                let subject = Subject::Transport {
                    kind,
                    length,
                    waiting,
                };
                let stream = |batch| Task::Stream { count: 50, batch };
                // A batch is one packet of a socket of packets, which has a limit.
                let batch = (16 * 1024 / length).clamp(1, 7);
                let tasks = [stream(1), Task::RoundTrips(20), stream(batch)];
                assert_sound(&run(subject, &tasks), timed(20));
            }
        }
    }
}

#[test]
fn round_trips_through_event_counters_bring_back_what_was_sent() {
    let subject = Subject::Transport {
        kind: Kind::EventFd,
        length: 8,
        waiting: Waiting::Block,
    };
    let outcomes = run(subject, &[Task::RoundTrips(20)]);
    assert_sound(&outcomes, timed(20));
    // One write and one read a trip at each side.
    let calls = outcomes[0].iter().map(|outcome| outcome.usage.calls);
    assert_eq!(calls.sum::<u64>(), 80);
}

#[test]
fn spinning_memory_makes_no_call_but_looks() {
    let subject = Subject::Transport {
        kind: Kind::Memory,
        length: 8,
        waiting: Waiting::Spin,
    };
    let task = Task::Stream {
        count: 100_000,
        batch: 64,
    };
    let outcomes = run(subject, &[task]);
    assert_sound(&outcomes, 0);
    // One look at each tick of the kernel's clock, however loaded the machine is:
    // far from one a message.
    let calls = outcomes[0].iter().map(|outcome| outcome.usage.calls);
    assert!(calls.sum::<u64>() < 50_000);
}

#[test]
fn numbers_cross_both_rings_one_by_one_and_in_slices() {
    for ring in [Ring::Index, Ring::Packed] {
        for capacity in [2, 1024] {
            let stream = |batch| Task::Stream { count: 1000, batch };
            let tasks = [stream(1), Task::RoundTrips(20), stream(64)];
            assert_sound(&run(Subject::Ring { ring, capacity }, &tasks), timed(20));
        }
    }
}
