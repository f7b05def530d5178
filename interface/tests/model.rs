//! Two interfaces against two queues, by every call that moves a message.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::collections::VecDeque;

use memenpsf::{Interface, Options, TransmitError, XmitError};
use proptest::prelude::*;

/// What one end does.
#[derive(Debug, Clone)]
enum Call {
    Xmit,
    XmitVectored(usize),
    /// Reserves so many slots, commits so many of them, by slices or by `fill`.
    Reserve {
        wanted: usize,
        commit: usize,
        slices: bool,
    },
    Abandon(usize),
    Recv,
    RecvInto(usize),
    RecvVectored,
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        3 => Just(Call::Xmit),
        2 => (0..20_usize).prop_map(Call::XmitVectored),
        2 => (0..18_usize, 0..18_usize, any::<bool>()).prop_map(|(wanted, commit, slices)| {
            Call::Reserve { wanted, commit: commit.min(wanted), slices }
        }),
        1 => (0..18_usize).prop_map(Call::Abandon),
        3 => Just(Call::Recv),
        2 => (0..20_usize).prop_map(Call::RecvInto),
        1 => Just(Call::RecvVectored),
    ]
}

/// One direction: what is in the ring, and what has passed through it.
struct Direction {
    capacity: usize,
    queue: VecDeque<u64>,
    sent: u64,
    received: u64,
}

impl Direction {
    fn new(capacity: usize) -> Self {
        Self {
            capacity,
            queue: VecDeque::new(),
            sent: 0,
            received: 0,
        }
    }

    fn vacant(&self) -> usize {
        self.capacity - self.queue.len()
    }

    /// The next `count` messages: numbered, so that each is another.
    fn next(&self, count: usize) -> Vec<u64> {
        (self.sent..).take(count).map(scatter).collect()
    }

    fn send(&mut self, messages: &[u64]) {
        self.queue.extend(messages);
        self.sent += messages.len() as u64;
    }

    fn receive(&mut self, count: usize) -> Vec<u64> {
        self.received += count as u64;
        self.queue.drain(..count).collect()
    }
}

/// Gives every number bits in all of its bytes.
fn scatter(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Does one call at one end and compares it with the queues.
fn check(end: &mut Interface<u64>, out: &mut Direction, inn: &mut Direction, call: &Call) {
    let vacant = out.vacant();
    let pending = inn.queue.len();
    match *call {
        Call::Xmit => {
            let message = out.next(1)[0];
            if vacant > 0 {
                assert_eq!(end.xmit(message), Ok(()));
                out.send(&[message]);
            } else {
                assert_eq!(end.xmit(message), Err(XmitError::Full(message)));
            }
        }
        Call::XmitVectored(count) => {
            let messages = out.next(count);
            let fits = count.min(vacant);
            assert_eq!(end.xmit_vectored(&messages), Ok(fits));
            out.send(&messages[..fits]);
        }
        Call::Reserve { wanted, .. } | Call::Abandon(wanted) if wanted > vacant => {
            let available = vacant;
            let expected = TransmitError::TooFew { wanted, available };
            assert_eq!(end.reserve(wanted).unwrap_err(), expected);
        }
        Call::Reserve {
            wanted,
            commit,
            slices,
        } => {
            let messages = out.next(wanted);
            let mut slots = end.reserve(wanted).unwrap();
            assert_eq!((slots.len(), slots.is_empty()), (wanted, wanted == 0));
            if slices {
                let mut rest = &messages[..];
                for slice in slots.slices_mut() {
                    let (run, after) = rest.split_at(slice.len());
                    slice.copy_from_slice(run);
                    rest = after;
                }
                assert!(rest.is_empty());
                slots.commit(commit);
            } else {
                assert_eq!(slots.fill(messages[..commit].iter().copied()), commit);
                slots.commit_all();
            }
            out.send(&messages[..commit]);
        }
        Call::Abandon(wanted) => {
            let mut slots = end.reserve(wanted).unwrap();
            assert_eq!(slots.fill(std::iter::repeat(u64::MAX)), wanted);
        }
        Call::Recv => {
            let expected = inn.receive(pending.min(1)).pop();
            assert_eq!(end.recv(), Ok(expected));
        }
        Call::RecvInto(max) => {
            let mut messages = vec![7];
            let count = pending.min(max);
            assert_eq!(end.recv_into(&mut messages, max), Ok(count));
            assert_eq!(messages[0], 7);
            assert_eq!(messages[1..], inn.receive(count));
        }
        Call::RecvVectored => assert_eq!(end.recv_vectored(), Ok(inn.receive(pending))),
    }
}

/// Positions at which rings begin: those that overflow soon, and 0.
fn start() -> impl Strategy<Value = u64> {
    let before = |edge: u64| (0..40_u64).prop_map(move |distance| edge.wrapping_sub(distance));
    prop_oneof![Just(0), before(0), before(1 << 32), before(1 << 63)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, ..ProptestConfig::default() })]

    #[test]
    fn interfaces_equal_two_queues(
        ring in proptest::sample::select(&common::RINGS),
        logs in (0..=4_u32, 0..=4_u32),
        start in start(),
        calls in proptest::collection::vec((any::<bool>(), call()), 1..200),
    ) {
        let capacities = [1_usize << logs.0, 1 << logs.1];
        let options = Options::new().ring(ring).start_at(start);
        let options = capacities.map(|capacity| options.clone().capacity(capacity));
        let (mut client, mut server) = common::pair::<u64>(&options[0], &options[1]);
        let [mut there, mut back] = capacities.map(Direction::new);
        for (at_client, call) in &calls {
            if *at_client {
                check(&mut client, &mut there, &mut back, call);
            } else {
                check(&mut server, &mut back, &mut there, call);
            }
            for (end, out, inn) in [(&client, &there, &back), (&server, &back, &there)] {
                let indices = end.indices();
                assert_eq!(indices.write, start.wrapping_add(out.sent));
                assert_eq!(indices.read, start.wrapping_add(inn.received));
            }
        }
        // All that was sent and not received is still there.
        assert_eq!(server.recv_vectored(), Ok(there.queue.into()));
        assert_eq!(client.recv_vectored(), Ok(back.queue.into()));
    }
}
