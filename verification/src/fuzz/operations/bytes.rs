//! The bytes ring and a queue of messages.

use std::collections::VecDeque;

use memenpsf_ring::bytes::{Consumer, Producer, longest_message, producer_block, ring_at};
use memenpsf_ring::memory::{ByteMemory, CONSUMER_BLOCK, Split};
use memenpsf_ring::ordering::Shipped;
use memenpsf_ring::{PopError, RecordError};

use crate::adversary::end_of;
use crate::blocks::Block;
use crate::fuzz::{Script, Subject};

/// Runs the script on the heap and over two blocks.
pub(super) fn run(mut script: Script<'_>, subject: Subject) {
    let capacity = 32 << (script.byte() % 4);
    let longest = script.index().min(longest_message(capacity).unwrap());
    // Positions are multiples of 8.
    let start = 0_u64.wrapping_sub(8 * u64::from(script.byte()));
    let producer_first = script.byte() & 1 == 0;

    let (producer, consumer) = ring_at::<Shipped>(capacity, longest, start).unwrap();
    let ring = Ring::new(producer, consumer, start, subject);
    ring.run(script.clone(), producer_first);

    let producing = Block::new(producer_block(capacity, longest).unwrap().size());
    let consuming = Block::new(CONSUMER_BLOCK);
    // SAFETY: both blocks are zeroed, aligned, as large as the layout says and
    // outlive the ring below.
    let memory = unsafe { Split::new(producing.start(), consuming.start()) };
    // SAFETY: it is the only producer.
    let producer = unsafe { Producer::attach(memory, capacity, longest, start) };
    // SAFETY: as above.
    let memory = unsafe { Split::new(consuming.start(), producing.start()) };
    // SAFETY: it is the only consumer.
    let consumer = unsafe { Consumer::attach(memory, capacity, longest, start) };
    let ring: Ring<Split<u64>> = Ring::new(producer.unwrap(), consumer.unwrap(), start, subject);
    ring.run(script, producer_first);
}

/// A ring and the queue that it must equal.
struct Ring<M: ByteMemory> {
    producer: Producer<M>,
    consumer: Consumer<M>,
    subject: Subject,
    /// Each message, with the position behind it.
    queue: VecDeque<(Vec<u8>, u64)>,
    head: u64,
    tail: u64,
    made: u8,
}

impl<M: ByteMemory> Ring<M> {
    fn new(producer: Producer<M>, consumer: Consumer<M>, start: u64, subject: Subject) -> Self {
        Self {
            producer,
            consumer,
            subject,
            queue: VecDeque::new(),
            head: start,
            tail: start,
            made: 0,
        }
    }

    fn run(mut self, mut script: Script<'_>, producer_first: bool) {
        while !script.is_over() {
            self.step(&mut script);
            assert_eq!(self.producer.position(), self.tail);
            assert_eq!(self.consumer.position(), self.head);
        }
        if producer_first {
            drop(self.producer);
            drop(self.consumer);
        } else {
            drop(self.consumer);
            drop(self.producer);
        }
    }

    /// Returns a message of a length that is longer than fits now and then.
    fn message(&mut self, script: &mut Script<'_>) -> Vec<u8> {
        self.made = self.made.wrapping_add(1);
        let length = script.index() % (self.producer.max_message() + 2);
        let byte = |at: usize| self.made.wrapping_add(at.to_le_bytes()[0]);
        (0..length).map(byte).collect()
    }

    fn vacant(&self) -> u64 {
        let used = self.tail.wrapping_sub(self.head);
        self.producer.capacity() as u64 - 8 - used
    }

    /// Tells what pushing so many bytes comes to: where they end.
    fn room(&self, length: usize) -> Result<u64, RecordError> {
        let longest = self.producer.max_message();
        if length > longest {
            return Err(RecordError::TooLong { length, longest });
        }
        let end = end_of(self.tail, length);
        let (needed, vacant) = (end.wrapping_sub(self.tail), self.vacant());
        if needed > vacant {
            let number = |bytes: u64| usize::try_from(bytes).unwrap();
            return Err(RecordError::Full {
                needed: number(needed),
                vacant: number(vacant),
            });
        }
        Ok(end)
    }

    fn pushed(&mut self, message: Vec<u8>) -> Result<(), RecordError> {
        self.tail = self.room(message.len())?;
        self.queue.push_back((message, self.tail));
        Ok(())
    }

    fn popped(&mut self) -> Result<Vec<u8>, PopError> {
        let (message, end) = self.queue.pop_front().ok_or(PopError::Empty)?;
        self.head = end;
        Ok(message)
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 10 {
            0 | 1 => {
                let message = self.message(script);
                let told = self.producer.push(&message);
                if self.subject == Subject::Shipped {
                    assert_eq!(told, self.pushed(message));
                }
            }
            2 => {
                let batch = [self.message(script), self.message(script)];
                let told = self.producer.push_vectored(&batch);
                let [first, second] = batch;
                let expected = self
                    .pushed(first)
                    .map(|()| 1 + usize::from(self.pushed(second).is_ok()));
                assert_eq!(told, expected);
            }
            3 => {
                let message = self.message(script);
                let actual = script.index().min(message.len());
                let needed = self.room(message.len());
                match self.producer.reserve(message.len()) {
                    Ok(mut room) => {
                        assert!(needed.is_ok());
                        room.fill(&message);
                        room.commit(actual);
                        assert_eq!(self.pushed(message[..actual].to_vec()), Ok(()));
                    }
                    Err(error) => {
                        // It may ask for more than the message takes, to be good
                        // for a shorter one.
                        let short = self.room(message.len().min(56));
                        assert_eq!(Err(error), needed.and(short));
                    }
                }
            }
            4 => {
                let message = self.message(script);
                if let Ok(mut room) = self.producer.reserve(message.len()) {
                    room.fill(&message);
                }
            }
            5 => {
                let length = script.index();
                assert_eq!(self.producer.fits(length), self.room(length).is_ok());
                assert_eq!(self.producer.free_bytes() as u64, self.vacant());
            }
            6 | 7 => assert_eq!(self.consumer.pop(), self.popped()),
            8 => {
                let mut bytes = vec![7];
                let told = self.consumer.pop_into(&mut bytes);
                let expected = self.popped();
                assert_eq!(
                    told,
                    expected.as_ref().map(Vec::len).map_err(|&error| error)
                );
                assert_eq!(bytes[1..], expected.unwrap_or_default());
            }
            _ => {
                let length = self.queue.front().map(|(message, _)| message.len());
                assert_eq!(self.consumer.peek_len(), length.ok_or(PopError::Empty));
                assert_eq!(self.consumer.is_empty(), length.is_none());
            }
        }
    }
}
