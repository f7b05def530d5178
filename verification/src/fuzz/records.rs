//! The fuzz target `records`: the consumer of a bytes ring whose storage is what the
//! script says, changed between the calls.
//!
//! The body reads the header of the next record before each call and knows from it
//! what the call must do. Rules:
//!
//! 1. A header of zero is an empty ring; one of at most the longest message is a
//!    message of that length, byte for byte what the storage holds there; any other
//!    is a violation with exactly these numbers.
//! 2. Nothing is read past the storage (the fuzzer's address sanitizer, and the slice
//!    that the expectation is taken from).
//! 3. A violation stays, and nothing is popped after it.

use memenpsf_ring::bytes::{Consumer, longest_message, producer_block};
use memenpsf_ring::memory::{CONSUMER_BLOCK, Split};
use memenpsf_ring::{PopError, Violation};

use super::{Script, Subject};
use crate::adversary::end_of;
use crate::blocks::Block;

/// Runs the script that `bytes` are. The fault: the peer changes the header after the
/// body's look at it and before the ring's.
///
/// # Panics
///
/// When a rule is broken.
pub fn run(bytes: &[u8], subject: Subject) {
    let mut script = Script(bytes);
    let capacity = 32 << (script.byte() % 5);
    let limit = longest_message(capacity).unwrap();
    let longest = script.index().min(limit);
    let start = 0_u64.wrapping_sub(8 * u64::from(script.byte()));

    let size = producer_block(capacity, longest).unwrap().size();
    let storage = Block::new(size);
    let own = Block::new(CONSUMER_BLOCK);
    // SAFETY: both blocks are zeroed, aligned, as large as the layout says and
    // outlive the consumer.
    let memory = unsafe { Split::new(own.start(), storage.start()) };
    // SAFETY: it is the only consumer.
    let consumer = unsafe { Consumer::attach(memory, capacity, longest, start) };
    let mut ring = Ring {
        consumer: consumer.unwrap(),
        storage: &storage,
        size,
        violation: None,
    };
    while !script.is_over() {
        ring.step(&mut script, subject);
    }
}

struct Ring<'a> {
    consumer: Consumer<Split<u64>>,
    storage: &'a Block,
    size: usize,
    violation: Option<Violation>,
}

impl Ring<'_> {
    /// Returns a copy of the storage.
    fn storage(&self) -> Vec<u8> {
        let mut copy = vec![0; self.size];
        // SAFETY: the block has `size` bytes, and nobody writes to it meanwhile.
        unsafe {
            copy.as_mut_ptr()
                .copy_from(self.storage.start().as_ptr(), self.size);
        };
        copy
    }

    /// Lets the peer write what fits.
    fn put(&self, at: usize, bytes: &[u8]) {
        let at = at % self.size;
        let length = bytes.len().min(self.size - at);
        let to = self.storage.start().as_ptr().wrapping_add(at);
        // SAFETY: `at + length` is at most `size`, and nobody reads meanwhile.
        unsafe { to.copy_from(bytes.as_ptr(), length) };
    }

    /// Returns where the header of the next record lies.
    fn next(&self) -> usize {
        let capacity = self.consumer.capacity() as u64;
        usize::try_from(self.consumer.position() % capacity).unwrap()
    }

    /// Returns what the next call has to say: a message, or why there is none.
    fn expected(&self) -> Result<Vec<u8>, PopError> {
        let (at, storage) = (self.next(), self.storage());
        let header = storage[at..at + 8].try_into().unwrap();
        let longest = self.consumer.max_message() as u64;
        match (u64::from_ne_bytes(header), self.violation) {
            (_, Some(violation)) => Err(PopError::Violation(violation)),
            (0, None) => Err(PopError::Empty),
            (header, None) if header - 1 <= longest => {
                let length = usize::try_from(header - 1).unwrap();
                Ok(storage[at + 8..][..length].to_vec())
            }
            (header, None) => Err(PopError::Violation(Violation::Length {
                length: header - 1,
                longest,
                head: self.consumer.position(),
            })),
        }
    }

    fn step(&mut self, script: &mut Script<'_>, subject: Subject) {
        let call = script.byte() % 9;
        match call {
            0 => return self.put(self.next(), &(1 + u64::from(script.byte())).to_ne_bytes()),
            1 => return self.put(self.next(), &script.word().to_ne_bytes()),
            2 => return self.put(script.index() * 8, script.bytes()),
            // A whole lap of what an honest producer might leave.
            3 => return (0..self.size / 8).for_each(|word| self.put(word * 8, &[script.byte()])),
            _ => {}
        }
        let expected = self.expected();
        if subject == Subject::Faulty {
            self.put(self.next(), &(u64::MAX / 2).to_ne_bytes());
        }
        let before = self.consumer.position();
        if let Err(PopError::Violation(violation)) = expected {
            self.violation = Some(violation);
        }
        let length = expected.as_ref().map(Vec::len).map_err(|&error| error);
        let popped = match call {
            4 => {
                assert_eq!(self.consumer.pop(), expected);
                true
            }
            5 => {
                let mut bytes = vec![7];
                assert_eq!(self.consumer.pop_into(&mut bytes), length);
                assert_eq!(bytes[1..], expected.unwrap_or_default());
                true
            }
            6 => {
                // SAFETY: the peer is this thread, and changes nothing while the
                // record is there.
                let record = unsafe { self.consumer.read_in_place() };
                assert_eq!(record.map(|record| record.to_vec()), expected);
                true
            }
            7 => {
                assert_eq!(self.consumer.peek_len(), length);
                false
            }
            _ => {
                assert_eq!(self.consumer.is_empty(), expected.is_err());
                false
            }
        };
        let after = match length {
            Ok(length) if popped => end_of(before, length),
            _ => before,
        };
        assert_eq!(self.consumer.position(), after);
        assert_eq!(self.consumer.violation(), self.violation, "it stays");
    }
}
