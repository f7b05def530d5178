//! Two interfaces of messages of variable length against two queues, by every call
//! that moves a message.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::collections::VecDeque;

use memenpsf::{ByteInterface, ByteXmitError, Options};
use proptest::prelude::*;

/// What one end does; lengths may exceed the longest message.
#[derive(Debug, Clone)]
enum Call {
    Xmit(usize),
    XmitVectored(Vec<usize>),
    /// Reserves so many bytes and commits a part of them, or drops them.
    Reserve {
        wanted: usize,
        commit: Option<usize>,
        slice: bool,
    },
    Recv,
    RecvInto,
    RecvVectored,
}

fn call(longest: usize) -> impl Strategy<Value = Call> {
    let length = || prop_oneof![8 => 0..=longest, 1 => longest..longest + 20];
    let commit = proptest::option::weighted(0.8, 0..=longest);
    prop_oneof![
        4 => length().prop_map(Call::Xmit),
        2 => proptest::collection::vec(length(), 0..8).prop_map(Call::XmitVectored),
        3 => (length(), commit, any::<bool>()).prop_map(|(wanted, commit, slice)| {
            Call::Reserve { wanted, commit: commit.map(|part| part.min(wanted)), slice }
        }),
        4 => Just(Call::Recv),
        2 => Just(Call::RecvInto),
        1 => Just(Call::RecvVectored),
    ]
}

/// One direction: what is in the ring, and what has passed through it.
struct Direction {
    capacity: usize,
    longest: usize,
    queue: VecDeque<Vec<u8>>,
    sent: u64,
    received: u64,
}

impl Direction {
    fn new(capacity: usize, longest: usize) -> Self {
        Self {
            capacity,
            longest,
            queue: VecDeque::new(),
            sent: 0,
            received: 0,
        }
    }

    /// The next message of so many bytes: each is another.
    fn next(&self, ahead: usize, length: usize) -> Vec<u8> {
        let scattered = (self.sent + ahead as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bytes = scattered.to_ne_bytes();
        bytes.iter().copied().cycle().take(length).collect()
    }

    fn send(&mut self, message: Vec<u8>) {
        self.queue.push_back(message);
        self.sent += 1;
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        let message = self.queue.pop_front()?;
        self.received += 1;
        Some(message)
    }

    /// What a refusal as full may say: never that an empty ring is, and never while
    /// the messages take less room than there is, with all the padding there can be.
    fn check_full(&self, length: usize) {
        let most = |length: usize| 8 + length.next_multiple_of(8) + 56;
        let taken: usize = self.queue.iter().map(|message| most(message.len())).sum();
        assert!(
            !self.queue.is_empty(),
            "an empty ring refuses {length} bytes"
        );
        assert!(taken + most(length) + 8 > self.capacity, "{length} bytes");
    }

    /// The error of a message that is too long, for one that is.
    fn too_long(&self, length: usize) -> Option<ByteXmitError> {
        let longest = self.longest;
        (length > longest).then_some(ByteXmitError::TooLong { length, longest })
    }
}

/// Does one call at one end and compares it with the queues.
fn check(end: &mut ByteInterface, out: &mut Direction, inn: &mut Direction, call: &Call) {
    match call {
        Call::Xmit(length) => {
            let message = out.next(0, *length);
            match end.xmit(&message) {
                Ok(()) => {
                    assert_eq!(out.too_long(*length), None);
                    out.send(message);
                }
                Err(ByteXmitError::Full) => out.check_full(*length),
                Err(error) => assert_eq!(Some(error), out.too_long(*length)),
            }
        }
        Call::XmitVectored(lengths) => {
            let messages: Vec<_> = lengths
                .iter()
                .enumerate()
                .map(|(ahead, &length)| out.next(ahead, length))
                .collect();
            match end.xmit_vectored(&messages) {
                Ok(count) => {
                    let mut messages = messages.into_iter();
                    for message in messages.by_ref().take(count) {
                        assert_eq!(out.too_long(message.len()), None);
                        out.send(message);
                    }
                    if let Some(next) = messages.next()
                        && out.too_long(next.len()).is_none()
                    {
                        out.check_full(next.len());
                    }
                }
                Err(error) => assert_eq!(Some(error), out.too_long(lengths[0])),
            }
        }
        Call::Reserve {
            wanted,
            commit,
            slice,
        } => match end.reserve(*wanted) {
            Ok(mut room) => {
                assert_eq!(out.too_long(*wanted), None);
                assert_eq!((room.len(), room.is_empty()), (*wanted, *wanted == 0));
                let part = commit.unwrap_or(*wanted);
                let message = out.next(0, part);
                if *slice {
                    room.as_mut_slice().fill(0xee);
                    room.as_mut_slice()[..part].copy_from_slice(&message);
                } else {
                    room.fill(&message);
                }
                if commit.is_some() {
                    room.commit(part);
                    out.send(message);
                }
            }
            // It asks for the room of a message of any length up to this one.
            Err(ByteXmitError::Full) => out.check_full(*wanted + 56),
            Err(error) => assert_eq!(Some(error), out.too_long(*wanted)),
        },
        Call::Recv => assert_eq!(end.recv(), Ok(inn.receive())),
        Call::RecvInto => {
            let mut message = b"old".to_vec();
            let expected = inn.receive();
            let length = expected.as_ref().map(Vec::len);
            assert_eq!(end.recv_into(&mut message), Ok(length));
            assert_eq!(message, expected.unwrap_or_default());
        }
        Call::RecvVectored => {
            let expected: Vec<_> = std::iter::from_fn(|| inn.receive()).collect();
            assert_eq!(end.recv_vectored(), Ok(expected));
        }
    }
}

/// Positions at which rings begin: those that overflow soon, and 0.
fn start() -> impl Strategy<Value = u64> {
    let before = |edge: u64| (0..20_u64).prop_map(move |words| edge.wrapping_sub(8 * words));
    prop_oneof![Just(0), before(0), before(1 << 32), before(1 << 63)]
}

/// A ring: its bytes, and the longest message that is chosen for it.
fn ring() -> impl Strategy<Value = (usize, usize)> {
    (6..=9_u32).prop_flat_map(|log| {
        let capacity = 1_usize << log;
        let limit = memenpsf_ring::bytes::longest_message(capacity).unwrap();
        (Just(capacity), 0..=limit)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn byte_interfaces_equal_two_queues(
        rings in [ring(), ring()],
        accepts in [0..600_u64, 0..600],
        start in start(),
        calls in proptest::collection::vec((any::<bool>(), call(200)), 1..200),
    ) {
        let options = [0, 1].map(|end| {
            let (capacity, longest) = rings[end];
            Options::new()
                .capacity(capacity)
                .max_message(longest)
                .accept_message(accepts[end])
                .start_at(start)
        });
        let (mut client, mut server) = common::pair::<[u8]>(&options[0], &options[1]);
        let [mut there, mut back] = [0, 1].map(|end| {
            let (capacity, longest) = rings[end];
            let accepted = usize::try_from(accepts[1 - end]).unwrap();
            Direction::new(capacity, longest.min(accepted))
        });
        assert_eq!((client.max_message(), server.max_message()), (there.longest, back.longest));
        for (at_client, call) in &calls {
            if *at_client {
                check(&mut client, &mut there, &mut back, call);
            } else {
                check(&mut server, &mut back, &mut there, call);
            }
            for (end, out, inn) in [(&client, &there, &back), (&server, &back, &there)] {
                let indices = end.indices();
                assert_eq!((indices.write, indices.read), (out.sent, inn.received));
            }
        }
        // All that was sent and not received is still there.
        assert_eq!(server.recv_vectored(), Ok(there.queue.into()));
        assert_eq!(client.recv_vectored(), Ok(back.queue.into()));
    }
}
