//! The bytes ring under attack.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use memenpsf_ring::bytes::{Consumer, Producer, longest_message, producer_block};
use memenpsf_ring::memory::CONSUMER_BLOCK;
use memenpsf_ring::{PopError, RecordError, Violation};

use super::world::{Access, Hint, Tricks, View, World, begin, end};
use super::{Defect, Report};
use crate::random::Random;

pub(super) fn episode(mut random: Random, defect: Option<Defect>) -> Report {
    let capacity = 32 << random.below(5);
    let limit = longest_message(capacity).expect("a legal capacity");
    let longest = match random.below(3) {
        0 => limit,
        1 => limit.min(8),
        _ => random.below(limit + 1),
    };
    let start = match random.below(4) {
        0 => 0,
        1 => 0_u64.wrapping_sub(8 * random.below(60) as u64),
        2 => 1 << 63,
        _ => random.next() & !7,
    };
    let producing = random.one_in(2);
    let block = producer_block(capacity, longest).expect("a legal layout");
    let sizes = match producing {
        true => [block.size(), CONSUMER_BLOCK],
        false => [CONSUMER_BLOCK, block.size()],
    };
    let world = World::new(Random::new(random.next()), defect, sizes[0], sizes[1]);
    let calls = 20 + random.below(200);
    let attack = Attack {
        world,
        random,
        capacity: capacity as u64,
        longest,
        start,
        position: start,
        poisoned: None,
        report: Report {
            rings: 1,
            ..Report::default()
        },
    };
    if producing {
        attack.on_producer(calls)
    } else {
        attack.on_consumer(calls)
    }
}

/// Where a record of `length` bytes at `position` ends, as the ring's documentation
/// says: a record of up to a line that leaves less of its last line than its own size
/// is padded to that line's end.
pub(crate) fn end_of(position: u64, length: usize) -> u64 {
    let size = 8 + length.next_multiple_of(8) as u64;
    let end = position.wrapping_add(size);
    let left = (64 - end % 64) % 64;
    if size <= 64 && left < size {
        end.wrapping_add(left)
    } else {
        end
    }
}

/// One ring, one side of it ours, under attack; and the oracle.
struct Attack {
    world: Rc<RefCell<World>>,
    random: Random,
    capacity: u64,
    longest: usize,
    start: u64,
    /// The own position, by the private model.
    position: u64,
    poisoned: Option<Violation>,
    report: Report,
}

impl Attack {
    fn offset(&self, position: u64) -> usize {
        usize::try_from(position % self.capacity).expect("an offset")
    }

    /// Tells how many calls are left: after a violation, enough to see every call
    /// return it.
    fn left(&self, left: usize, was_poisoned: bool) -> usize {
        if self.poisoned.is_some() && !was_poisoned {
            left.min(20)
        } else {
            left
        }
    }

    fn poison(&mut self, violation: Violation) {
        self.poisoned = Some(violation);
        self.report.violations += 1;
    }

    fn on_consumer(mut self, calls: usize) -> Report {
        let view = View(self.world.clone());
        let capacity = usize::try_from(self.capacity).expect("a capacity");
        // SAFETY: the memory is that of one consumer; it checks every access.
        let consumer = unsafe { Consumer::attach(view, capacity, self.longest, self.start) };
        let mut consumer: Consumer<View> = consumer.expect("a legal ring");
        let mut left = calls;
        while left > 0 {
            let was_poisoned = self.poisoned.is_some();
            self.call_consumer(&mut consumer);
            left = self.left(left - 1, was_poisoned);
        }
        self.report
    }

    /// What the peer may do to a consumer.
    fn tricks_on_consumer(&mut self) -> Tricks {
        let word = self.offset(self.position);
        let mut honest = vec![Hint { word, value: 0 }];
        for _ in 0..3 {
            let length = self.random.below(self.longest + 1);
            let value = length as u64 + 1;
            honest.push(Hint { word, value });
            let next = self.offset(end_of(self.position, length));
            honest.push(Hint {
                word: next,
                value: 0,
            });
        }
        let false_ones = [self.longest as u64 + 2, u64::MAX, 1 << 32, 1 << 63]
            .map(|value| Hint { word, value })
            .to_vec();
        let message = (word + 8)..(word + 8 + self.longest);
        Tricks {
            honest,
            false_ones,
            payload: message.collect(),
        }
    }

    fn call_consumer(&mut self, consumer: &mut Consumer<View>) {
        let tricks = self.tricks_on_consumer();
        begin(&self.world, tricks);
        self.report.operations += 1;
        // What was returned: a length, and the bytes if they were taken.
        let (told, bytes) = match self.random.below(5) {
            0 | 1 => {
                let mut bytes = vec![7];
                let told = consumer.pop_into(&mut bytes);
                (told, told.is_ok().then(|| bytes.split_off(1)))
            }
            2 => match consumer.pop() {
                Ok(bytes) => (Ok(bytes.len()), Some(bytes)),
                Err(error) => (Err(error), None),
            },
            3 => (consumer.peek_len(), None),
            _ => match consumer.is_empty() {
                true => (Err(PopError::Empty), None),
                false => (Ok(usize::MAX), None),
            },
        };
        let log = end(&self.world);
        assert_eq!(
            consumer.violation().is_some(),
            consumer_is_poisoned(self, &log)
        );
        self.check_consumer(&log, told, bytes);
        assert_eq!(consumer.position(), self.position, "the handle's position");
        assert_eq!(consumer.violation(), self.poisoned);
    }

    fn check_consumer(
        &mut self,
        log: &[Access],
        told: Result<usize, PopError>,
        bytes: Option<Vec<u8>>,
    ) {
        let Some((&Access::Load { word, value }, rest)) = log.split_first() else {
            panic!("a call begins with its header: {log:?}");
        };
        assert_eq!(
            word,
            self.offset(self.position),
            "the header of the next record"
        );
        self.report.fetches += 1;
        if let Some(violation) = self.poisoned {
            // Nothing but the look at the header, whose value decides nothing.
            assert!(rest.is_empty(), "after {violation}: {rest:?}");
            assert!(told == Err(PopError::Violation(violation)) || told == Err(PopError::Empty));
            return;
        }
        if value == 0 {
            assert!(rest.is_empty(), "an empty ring: {rest:?}");
            assert_eq!(told, Err(PopError::Empty));
            return;
        }
        let length = value - 1;
        if length > self.longest as u64 {
            let violation = Violation::Length {
                length,
                longest: self.longest as u64,
                head: self.position,
            };
            self.poison(violation);
            assert!(rest.is_empty(), "a false header: {rest:?}");
            assert!(told == Err(PopError::Violation(violation)) || told == Err(PopError::Empty));
            return;
        }
        let length = usize::try_from(length).expect("at most the longest");
        let Some(bytes) = bytes else {
            // A look: there is one, of that length.
            assert!(rest.is_empty(), "a look: {rest:?}");
            assert!(told == Ok(length) || told == Ok(usize::MAX));
            return;
        };
        assert_eq!(told, Ok(length));
        self.position = end_of(self.position, length);
        let expected = [
            Access::Read {
                at: word + 8,
                bytes,
            },
            Access::Store {
                word: 0,
                value: self.position,
            },
        ];
        assert_eq!(rest, expected, "copied once, then vacated by one store");
        self.report.elements += 1;
    }

    fn on_producer(mut self, calls: usize) -> Report {
        let view = View(self.world.clone());
        let capacity = usize::try_from(self.capacity).expect("a capacity");
        // SAFETY: the memory is that of one producer; it checks every access.
        let producer = unsafe { Producer::attach(view, capacity, self.longest, self.start) };
        let mut producer: Producer<View> = producer.expect("a legal ring");
        let mut records = Records {
            believed: self.start,
            sent: VecDeque::new(),
        };
        let mut left = calls;
        while left > 0 {
            let was_poisoned = self.poisoned.is_some();
            self.call_producer(&mut producer, &mut records);
            left = self.left(left - 1, was_poisoned);
        }
        self.report
    }

    fn call_producer(&mut self, producer: &mut Producer<View>, records: &mut Records) {
        let word = 0;
        let hint = |value| Hint { word, value };
        let ends = records.ends();
        let tricks = Tricks {
            honest: ends.iter().copied().map(hint).collect(),
            false_ones: [
                records.believed.wrapping_sub(8),
                records.believed.wrapping_add(4),
                self.position.wrapping_add(8),
                self.position.wrapping_add(1 << 63),
                self.position.wrapping_add(self.capacity),
            ]
            .map(hint)
            .to_vec(),
            payload: Vec::new(),
        };
        let count = 1 + self.random.below(3);
        let messages: Vec<Vec<u8>> = (0..count).map(|_| self.message()).collect();
        let message = &messages[0];
        let which = self.random.below(6);
        begin(&self.world, tricks);
        self.report.operations += 1;
        // What was published, or why it was not.
        let told: Result<&[Vec<u8>], RecordError> = match which {
            0 | 1 => producer.push(message).map(|()| &messages[..1]),
            2 => producer
                .push_vectored(&messages)
                .map(|published| &messages[..published]),
            3 => producer.reserve(message.len()).map(|mut room| {
                assert_eq!(room.len(), message.len());
                room.fill(message);
                room.commit(message.len());
                &messages[..1]
            }),
            4 => producer.reserve(message.len()).map(|mut room| {
                room.fill(message);
                drop(room);
                &messages[..0]
            }),
            _ => {
                let fits = producer.fits(message.len());
                let log = end(&self.world);
                let rest = self.check_heads(log, 1, records);
                assert!(rest.is_empty(), "{rest:?}");
                let vacant = self.vacant(records);
                let needed = end_of(self.position, message.len()).wrapping_sub(self.position);
                let expected =
                    self.poisoned.is_none() && message.len() <= self.longest && needed <= vacant;
                assert_eq!(fits, expected, "{needed} of {vacant}");
                assert_eq!(producer.violation(), self.poisoned);
                return;
            }
        };
        let log = end(&self.world);
        let was_poisoned = self.poisoned;
        let batch = which == 2;
        let decisions = match which {
            // One a message.
            2 => count,
            // Room for the whole length, and for a shorter one that ends further on.
            3 | 4 => 2,
            _ => 1,
        };
        let rest = self.check_heads(log, decisions, records);
        match (told, self.poisoned) {
            (Ok(published), None) => self.check_published(&rest, published, which, records),
            (Err(RecordError::TooLong { length, longest }), poisoned) => {
                assert!(length > self.longest && longest == self.longest);
                assert!(rest.is_empty() && poisoned == was_poisoned);
            }
            (Err(RecordError::Full { needed, vacant }), None) => {
                assert_eq!(vacant as u64, self.vacant(records));
                assert!(needed > vacant);
                assert!(rest.is_empty(), "{rest:?}");
            }
            (Err(RecordError::Violation(violation)), Some(poisoned)) => {
                assert_eq!(violation, poisoned);
                // A batch may have written behind the tail, where nobody looks.
                let tail = self.offset(self.position);
                let at_tail =
                    |access: &Access| matches!(access, Access::Store { word, .. } if *word == tail);
                assert!(rest.is_empty() || batch && !rest.iter().any(at_tail));
            }
            (told, poisoned) => panic!("{told:?} with {poisoned:?}: {rest:?}"),
        }
        assert_eq!(producer.position(), self.position, "the handle's position");
        assert_eq!(producer.violation(), self.poisoned);
    }

    fn message(&mut self) -> Vec<u8> {
        let length = match self.random.below(20) {
            0 => self.longest + 1 + self.random.below(10),
            1 => self.longest,
            _ => self.random.below(self.longest + 1),
        };
        let mut message = vec![0; length];
        self.random.fill(&mut message);
        message
    }

    /// Returns how many bytes are vacant by the head that was believed last.
    fn vacant(&self, records: &Records) -> u64 {
        if self.poisoned.is_some() {
            return 0;
        }
        (self.capacity - 8) - self.position.wrapping_sub(records.believed)
    }

    /// Checks the heads that a call has fetched, at most so many, and returns the rest
    /// of the notes.
    fn check_heads(&mut self, log: Vec<Access>, most: usize, records: &mut Records) -> Vec<Access> {
        let mut rest = Vec::new();
        let mut fetches = 0;
        for access in log {
            let Access::Load { word, value } = access else {
                rest.push(access);
                continue;
            };
            assert_eq!(word, 0);
            assert_eq!(self.poisoned, None, "a poisoned ring asks nobody");
            fetches += 1;
            let distance = value.wrapping_sub(records.believed);
            if value % 8 != 0 {
                self.poison(Violation::Unaligned { head: value });
            } else if distance > self.position.wrapping_sub(records.believed) {
                self.poison(Violation::Head {
                    head: value,
                    previous: records.believed,
                    tail: self.position,
                });
            } else {
                records.believed = value;
                records.forget();
            }
        }
        assert!(fetches <= most, "one fetch decides, {fetches} were made");
        self.report.fetches += fetches as u64;
        rest
    }

    /// Checks what a call has written that has published these messages.
    fn check_published(
        &mut self,
        log: &[Access],
        published: &[Vec<u8>],
        which: usize,
        records: &mut Records,
    ) {
        let tail = self.position;
        let vacant = self.vacant(records);
        let mut end = tail;
        for message in published {
            let begin = end;
            end = end_of(begin, message.len());
            records.sent.push_back((begin, message.clone()));
        }
        assert!(end.wrapping_sub(tail) <= vacant, "more than is vacant");
        self.position = end;
        self.report.elements += published.len() as u64;
        if published.is_empty() {
            let stores = |access: &Access| matches!(access, Access::Store { .. });
            assert!(!log.iter().any(stores), "nothing to publish: {log:?}");
            // A reservation that was dropped has written behind the header.
            assert!(which == 4 || log.is_empty());
        } else {
            // The header at the old tail is what the consumer polls: it comes last.
            let (last, before) = log.split_last().expect("a store");
            let value = published[0].len() as u64 + 1;
            let word = self.offset(tail);
            assert_eq!(*last, Access::Store { word, value });
            for access in before {
                if let Access::Store { word: other, .. } = access {
                    assert_ne!(*other, word, "the header at the tail, too early");
                }
            }
        }
        self.check_own(records);
    }

    /// Reads the own block as an honest consumer does that stands at the first record
    /// which is not vacated.
    fn check_own(&self, records: &Records) {
        let mut world = self.world.borrow_mut();
        let own = world.own();
        let first = records.sent.front().map(|(begin, _)| *begin);
        let mut at = first.unwrap_or(self.position);
        let header = |own: &[u8], at: u64| {
            let offset = usize::try_from(at % self.capacity).expect("an offset");
            let mut word = [0; 8];
            word.copy_from_slice(&own[offset..offset + 8]);
            (offset, u64::from_ne_bytes(word))
        };
        for (begin, message) in &records.sent {
            assert_eq!(*begin, at);
            let (offset, value) = header(own, at);
            assert_eq!(value, message.len() as u64 + 1, "the header at {at}");
            let bytes = &own[offset + 8..][..message.len()];
            assert_eq!(bytes, message.as_slice());
            at = end_of(at, message.len());
        }
        assert_eq!(at, self.position);
        assert_eq!(header(own, at).1, 0, "no record at the tail");
    }
}

/// What a producer has sent and its consumer is not known to have taken.
struct Records {
    /// The last head that was believed.
    believed: u64,
    /// Where each record begins, and its message.
    sent: VecDeque<(u64, Vec<u8>)>,
}

impl Records {
    /// Returns the heads of an honest consumer.
    fn ends(&self) -> Vec<u64> {
        let ends = self
            .sent
            .iter()
            .map(|(begin, message)| end_of(*begin, message.len()));
        std::iter::once(self.believed).chain(ends).collect()
    }

    /// Drops what begins before the head. A head in the middle of a record is legal,
    /// and harms nobody but the consumer that tells it: its record is vacant then.
    fn forget(&mut self) {
        while let Some((begin, _)) = self.sent.front() {
            if begin.wrapping_sub(self.believed) < 1 << 63 {
                break;
            }
            self.sent.pop_front();
        }
    }
}

/// Tells whether a consumer is poisoned after a call with these notes.
fn consumer_is_poisoned(attack: &Attack, log: &[Access]) -> bool {
    let false_header = |access: &Access| matches!(access, Access::Load { value, .. } if *value > attack.longest as u64 + 1);
    attack.poisoned.is_some() || log.first().is_some_and(false_header)
}
