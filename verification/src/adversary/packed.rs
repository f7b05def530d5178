//! The packed ring under attack.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::rc::Rc;

use memenpsf_ring::memory::CONSUMER_BLOCK;
use memenpsf_ring::packed::{Consumer, Producer, producer_block};
use memenpsf_ring::{Plain, Violation};

use super::calls::{Call, Handle, Kind, Plan, Told, element, make};
use super::world::{Access, Hint, Tricks, View, World, begin, end};
use super::{Defect, Report};
use crate::random::Random;

pub(super) fn episode(mut random: Random, defect: Option<Defect>) -> Report {
    match random.below(5) {
        0 => of_type::<u64>(random, defect),
        1 => of_type::<[u8; 3]>(random, defect),
        2 => of_type::<[u32; 5]>(random, defect),
        3 => of_type::<[u64; 7]>(random, defect),
        _ => of_type::<u8>(random, defect),
    }
}

fn of_type<T: Plain + PartialEq + Debug>(mut random: Random, defect: Option<Defect>) -> Report {
    // Whole laps before the first position, so that laps wrap as well.
    let capacity = 1 + random.below(40);
    let shape = Shape::new::<T>(capacity);
    let laps = match random.below(3) {
        0 => 0,
        1 => u64::from(u32::MAX) - random.below(3) as u64,
        _ => random.next() % (1 << 40),
    };
    let start = laps * shape.all();
    let producing = random.one_in(2);
    let block = producer_block::<T>(capacity).expect("a legal layout");
    let sizes = match producing {
        true => [block.size(), CONSUMER_BLOCK],
        false => [CONSUMER_BLOCK, block.size()],
    };
    let world = World::new(Random::new(random.next()), defect, sizes[0], sizes[1]);
    let calls = 20 + random.below(200);
    let attack = Attack {
        world,
        random,
        shape,
        start,
        position: start,
        known: start,
        sent: VecDeque::new(),
        poisoned: None,
        report: Report {
            rings: 1,
            ..Report::default()
        },
        marker: PhantomData::<T>,
    };
    if producing {
        attack.on_producer(calls)
    } else {
        attack.on_consumer(calls)
    }
}

/// Where things lie, as the ring's documentation says.
#[derive(Debug, Clone, Copy)]
struct Shape {
    capacity: u64,
    /// Slots of a line.
    slots: u64,
    lines: u64,
    /// Offset of a line's first slot.
    first: u64,
    stride: u64,
}

impl Shape {
    fn new<T>(capacity: usize) -> Self {
        let (size, align) = (size_of::<T>() as u64, align_of::<T>() as u64);
        let first = align.max(8);
        let slots = (64 - first) / size;
        let capacity = capacity as u64;
        Self {
            capacity,
            slots,
            lines: (capacity - 1).div_ceil(slots) + 1,
            first,
            stride: size,
        }
    }

    /// Returns the number of slots of all lines.
    fn all(self) -> u64 {
        self.slots * self.lines
    }

    /// Returns the offset of a position's line.
    fn line(self, position: u64) -> usize {
        usize::try_from(position / self.slots % self.lines * 64).expect("an offset")
    }

    /// Returns the offset of a position's slot.
    fn slot(self, position: u64) -> usize {
        let in_line = self.first + position % self.slots * self.stride;
        self.line(position) + usize::try_from(in_line).expect("an offset")
    }

    /// Returns the lap of a position, numbered from 1 and 32 bits wide.
    fn lap(self, position: u64) -> u32 {
        let lap = position / self.all() + 1;
        u32::try_from(lap & u64::from(u32::MAX)).expect("32 bits")
    }

    /// Returns the header of a position's line when so many of its slots are
    /// published in this lap.
    fn header(self, position: u64, count: u64) -> u64 {
        u64::from(self.lap(position)) << 32 | count
    }

    /// Returns the header that a position's line has until its lap reaches it.
    fn stale(self, position: u64) -> u64 {
        if position < self.all() {
            // Zeroed memory.
            0
        } else {
            self.before(position)
        }
    }

    /// Returns the header of a full line in the lap before.
    fn before(self, position: u64) -> u64 {
        u64::from(self.lap(position).wrapping_sub(1)) << 32 | self.slots
    }
}

/// One ring, one side of it ours, under attack; and the oracle.
struct Attack<T> {
    world: Rc<RefCell<World>>,
    random: Random,
    shape: Shape,
    start: u64,
    /// The own position, by the private model.
    position: u64,
    /// The end of what the peer was believed to have published, or its head.
    known: u64,
    /// What was published and is not known to be taken.
    sent: VecDeque<T>,
    poisoned: Option<Violation>,
    report: Report,
    marker: PhantomData<T>,
}

impl<T: Plain + PartialEq + Debug> Attack<T> {
    fn capacity(&self) -> usize {
        usize::try_from(self.shape.capacity).expect("a capacity")
    }

    fn poison(&mut self, violation: Violation) {
        self.poisoned = Some(violation);
        self.report.violations += 1;
    }

    fn on_consumer(mut self, calls: usize) -> Report {
        let view = View(self.world.clone());
        // SAFETY: the memory is that of one consumer; it checks every access.
        let consumer = unsafe { Consumer::attach(view, self.capacity(), self.start) };
        let mut consumer: Consumer<T, View> = consumer.expect("a legal ring");
        self.honest_beginning();
        make(calls, || {
            self.call_consumer(&mut consumer);
            self.poisoned.is_some()
        });
        self.report
    }

    /// Has the peer's lines hold what an honest producer finds there that begins at a
    /// later lap.
    fn honest_beginning(&mut self) {
        let hints = (0..self.shape.lines).map(|line| {
            let position = self.start + line * self.shape.slots;
            Hint {
                word: self.shape.line(position),
                value: self.shape.stale(position),
            }
        });
        let mut world = self.world.borrow_mut();
        for hint in hints.collect::<Vec<_>>() {
            world.set(hint);
        }
    }

    /// What the peer may do to a consumer: legal headers of the next lines, false ones,
    /// and any byte of the elements.
    fn tricks_on_consumer(&mut self) -> Tricks {
        let shape = self.shape;
        let mut tricks = Tricks::default();
        let mut at = self.known;
        // A peer that ignores how much room it was told of, now and then.
        let laps = if self.random.one_in(8) { 3 } else { 1 };
        let end = self.position + laps * shape.capacity;
        for _ in 0..3 * laps {
            let seen = at % shape.slots;
            let most = (shape.slots - seen).min(end.saturating_sub(at));
            let word = shape.line(at);
            let hint = |value| Hint { word, value };
            for count in seen..=seen + most {
                tricks.honest.push(hint(shape.header(at, count)));
            }
            // Full lines let the ring get on.
            tricks.honest.push(hint(shape.header(at, seen + most)));
            let header = shape.header(at, seen + most);
            let ahead = shape.header(at + shape.all(), 0);
            tricks
                .false_ones
                .extend([header + 1, ahead, shape.before(at), 0].map(hint));
            at += shape.slots - seen;
            if at >= end {
                break;
            }
        }
        for position in self.position..self.position + shape.capacity {
            let slot = shape.slot(position);
            tricks.payload.extend(slot..slot + size_of::<T>());
        }
        tricks
    }

    fn call_consumer(&mut self, consumer: &mut Consumer<T, View>) {
        let capacity = self.capacity();
        let plan = Plan::to_pop(&mut self.random, capacity);
        let tricks = self.tricks_on_consumer();
        begin(&self.world, tricks);
        self.report.operations += 1;
        let call = consumer.call(plan, &[]);
        let log = end(&self.world);
        self.check_consumer(&log, plan, &call);
        assert_eq!(consumer.position(), self.position, "the handle's position");
        assert_eq!(consumer.violation(), self.poisoned);
    }

    /// Goes through the notes of a call of the consumer's.
    fn check_consumer(&mut self, log: &[Access], plan: Plan, call: &Call<T>) {
        let (told, wanted) = (call.told, plan.wanted);
        // These look as far as there is anything.
        let scans = !matches!(plan.kind, Kind::One | Kind::Slice | Kind::Into | Kind::Any);
        if let Some(violation) = self.poisoned {
            check_refusal(log, told, violation);
            return;
        }
        let before = self.position;
        let mut read = Vec::new();
        let (mut stored, mut over) = (None, false);
        let mut loads = 0;
        for access in log {
            assert_eq!(stored, None, "the head is stored last: {log:?}");
            match access {
                &Access::Load { word, value } => {
                    assert!(!over, "looked again after finding nothing: {log:?}");
                    assert!(
                        scans || self.known == self.position,
                        "looked while there was something: {log:?}"
                    );
                    loads += 1;
                    over = !self.believe(word, value);
                }
                Access::Read { at, bytes } => {
                    assert!(self.position < self.known, "read what is not published");
                    assert_eq!(*at, self.shape.slot(self.position));
                    self.position += 1;
                    read.push(bytes.as_slice());
                }
                &Access::Store { word, value } => {
                    assert_eq!(word, 0);
                    assert!(self.known - self.position >= call.skipped as u64);
                    self.position += call.skipped as u64;
                    assert_eq!(value, self.position, "the own word");
                    stored = Some(value);
                }
                Access::Write { .. } => panic!("a consumer writes no slot"),
            }
        }
        self.report.fetches += loads;
        assert!(
            loads <= self.shape.lines + wanted as u64 + 1,
            "the call ends"
        );
        let moved = usize::try_from(self.position - before).expect("a count");
        // Its room was told to the producer as it was before the call.
        assert!(moved <= self.capacity(), "{moved} of {}", self.capacity());
        self.report.elements += moved as u64;
        let vacates = moved > 0 && plan.kind != Kind::Forgotten;
        assert_eq!(stored.is_some(), vacates, "one store vacates: {log:?}");
        let values: Vec<_> = call.values.iter().map(T::as_bytes).collect();
        assert_eq!(read, values, "what was read is what is returned");
        let published = usize::try_from(self.known - self.position).expect("a count");
        match (told, self.poisoned) {
            (Told::Moved(count), None) => assert_eq!(count, moved),
            // A batch that has taken something tells the violation in the next call.
            (Told::Moved(count), Some(_)) => assert!(count == moved && (moved > 0 || wanted == 0)),
            (
                Told::Refused {
                    available: Some(available),
                },
                None,
            ) => {
                assert!(available == published && published < wanted);
            }
            (Told::Refused { available: None } | Told::Any(false), None) => {
                assert!(over && published == 0);
            }
            (Told::Slots(slots), None) => assert_eq!(slots, published),
            (Told::Any(true), None) => assert!(published > 0),
            (Told::Violated(violation), Some(poisoned)) => {
                assert!(violation == poisoned && moved == 0);
            }
            (Told::Any(false) | Told::Slots(0), Some(_)) => assert_eq!(moved, 0),
            (told, poisoned) => panic!("{told:?} with {poisoned:?}: {log:?}"),
        }
    }

    /// Believes a header, or notes the violation. `false` means that the line has
    /// nothing more.
    fn believe(&mut self, word: usize, value: u64) -> bool {
        let (shape, at) = (self.shape, self.known);
        assert_eq!(word, shape.line(at), "the header of the next line");
        let seen = at % shape.slots;
        let in_ring = shape.capacity - (at - self.position);
        let most = (shape.slots - seen).min(in_ring);
        let found = value.wrapping_sub(shape.header(at, seen));
        if found <= most {
            self.known += found;
            return found > 0;
        }
        if seen == 0 && value == shape.stale(at) {
            return false;
        }
        self.known = self.position;
        self.poison(Violation::Line {
            lap: u32::try_from(value >> 32).expect("32 bits"),
            count: value & u64::from(u32::MAX),
            expected: shape.lap(at),
            previous: seen,
            most: seen + most,
        });
        false
    }

    fn on_producer(mut self, calls: usize) -> Report {
        let view = View(self.world.clone());
        // SAFETY: the memory is that of one producer; it checks every access.
        let producer = unsafe { Producer::attach(view, self.capacity(), self.start) };
        let mut producer: Producer<T, View> = producer.expect("a legal ring");
        // The head that the peer begins with.
        let (word, value) = (0, self.start);
        self.world.borrow_mut().set(Hint { word, value });
        make(calls, || {
            self.call_producer(&mut producer);
            self.poisoned.is_some()
        });
        self.report
    }

    fn tricks_on_producer(&self) -> Tricks {
        let hint = |value| Hint { word: 0, value };
        Tricks {
            honest: (self.known..=self.position).map(hint).collect(),
            false_ones: [
                self.known.wrapping_sub(1),
                self.position + 1,
                self.position + self.shape.capacity,
                self.position.wrapping_add(1 << 63),
            ]
            .map(hint)
            .to_vec(),
            payload: Vec::new(),
        }
    }

    fn call_producer(&mut self, producer: &mut Producer<T, View>) {
        let capacity = self.capacity();
        let plan = Plan::to_push(&mut self.random, capacity);
        let values: Vec<T> = (0..plan.wanted.max(1))
            .map(|_| element(&mut self.random))
            .collect();
        let tricks = self.tricks_on_producer();
        begin(&self.world, tricks);
        self.report.operations += 1;
        let call = producer.call(plan, &values);
        let log = end(&self.world);
        self.check_producer(&log, plan.wanted, &call);
        assert_eq!(producer.position(), self.position, "the handle's position");
        assert_eq!(producer.violation(), self.poisoned);
    }

    /// Goes through the notes of a call of the producer's.
    fn check_producer(&mut self, log: &[Access], wanted: usize, call: &Call<T>) {
        let (told, values) = (call.told, &call.values);
        if let Some(violation) = self.poisoned {
            check_refusal(log, told, violation);
            return;
        }
        let mut rest = log;
        if let Some((&Access::Load { word, value }, others)) = log.split_first() {
            assert_eq!(word, 0);
            self.report.fetches += 1;
            self.believe_head(value);
            rest = others;
        }
        let asked = rest.len() < log.len();
        let vacant = self.shape.capacity - (self.position - self.known);
        let vacant = match self.poisoned {
            Some(_) => 0,
            None => usize::try_from(vacant).expect("a count"),
        };
        // Elements first, each once and in order, and then one header a line.
        let mut count = 0;
        let mut published = self.position;
        for access in rest {
            match access {
                Access::Write { at, bytes } => {
                    assert!(count < vacant, "written where nothing is vacant: {log:?}");
                    assert_eq!(*at, self.shape.slot(self.position + count as u64));
                    let expected = values.get(count).map(T::as_bytes);
                    assert_eq!(Some(bytes.as_slice()), expected);
                    count += 1;
                }
                &Access::Store { word, value } => {
                    published = published.max(self.publication(word, value, count));
                }
                other => panic!("{other:?} in {log:?}"),
            }
        }
        assert_eq!(count, values.len(), "each element is written once");
        match (told, self.poisoned) {
            (Told::Moved(moved), None) => {
                assert_eq!(published, self.position + moved as u64, "what is published");
                assert!(asked || wanted.min(self.capacity()) <= vacant || moved <= vacant);
                self.position = published;
                self.report.elements += moved as u64;
                self.sent.extend(&values[..moved]);
                self.check_own();
            }
            (Told::Refused { available }, None) => {
                assert!(available.is_none_or(|available| available == vacant));
                assert!(asked && vacant < wanted && rest.is_empty());
            }
            (Told::Any(false), None) => assert!(asked && vacant == 0 && rest.is_empty()),
            (Told::Slots(slots), None) => assert_eq!(slots, vacant),
            (Told::Any(true), None) => assert!(vacant > 0),
            (Told::Violated(violation), Some(poisoned)) => {
                assert!(violation == poisoned && rest.is_empty());
            }
            (Told::Any(false) | Told::Slots(0), Some(_)) => assert!(rest.is_empty()),
            (told, poisoned) => panic!("{told:?} with {poisoned:?}: {log:?}"),
        }
    }

    /// Believes a head, or notes the violation.
    fn believe_head(&mut self, head: u64) {
        if head.wrapping_sub(self.known) > self.position - self.known {
            self.poison(Violation::Head {
                head,
                previous: self.known,
                tail: self.position,
            });
            return;
        }
        for _ in self.known..head {
            self.sent.pop_front();
        }
        self.known = head;
    }

    /// Returns the position up to which a header publishes, of which `count` elements
    /// behind the own position are written.
    fn publication(&self, word: usize, value: u64, count: usize) -> u64 {
        let shape = self.shape;
        let end = self.position + count as u64;
        // Of the lines that were written to, the one with this word and this lap.
        let begin = self.position - self.position % shape.slots;
        let lines = (begin..end).step_by(usize::try_from(shape.slots).expect("a count"));
        let mut of_word = lines.filter(|&line| shape.line(line) == word);
        let line = of_word.next().expect("a line that was written to");
        let header = shape.header(line, 0);
        let published = line + value.wrapping_sub(header);
        assert!(
            value.wrapping_sub(header) <= shape.slots && published <= end,
            "a header of {value:#x} publishes what is not written"
        );
        published
    }

    /// Reads the own block as an honest consumer does that stands at the head that was
    /// believed last.
    fn check_own(&self) {
        let mut world = self.world.borrow_mut();
        let own = world.own();
        let mut at = self.known;
        for value in &self.sent {
            let line = self.shape.line(at);
            let mut header = [0; 8];
            header.copy_from_slice(&own[line..line + 8]);
            let in_line = u64::from_ne_bytes(header).wrapping_sub(self.shape.header(at, 0));
            let enough = in_line > at % self.shape.slots && in_line <= self.shape.slots;
            assert!(enough, "the header of position {at}");
            let slot = self.shape.slot(at);
            assert_eq!(&own[slot..slot + size_of::<T>()], value.as_bytes());
            at += 1;
        }
        assert_eq!(at, self.position);
        // And no further.
        if !at.is_multiple_of(self.shape.slots) {
            let line = self.shape.line(at);
            let mut header = [0; 8];
            header.copy_from_slice(&own[line..line + 8]);
            let expected = self.shape.header(at, at % self.shape.slots);
            assert_eq!(u64::from_ne_bytes(header), expected);
        }
    }
}

/// After a violation a call accesses nothing, and tells it unless it tells a number.
fn check_refusal(log: &[Access], told: Told, violation: Violation) {
    assert!(log.is_empty(), "after {violation}: {log:?}");
    let quiet = matches!(told, Told::Slots(0) | Told::Any(false));
    assert!(quiet || told == Told::Violated(violation), "{told:?}");
}
