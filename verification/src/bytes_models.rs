//! Models of the bytes ring: the shipping code, generic over the orderings, over
//! storage that is full of old messages which look like headers.
//!
//! Two payloads, because each sees what the other does not. Over regions a message
//! is relaxed words, and a header is a word among them: a stale one is seen, a race
//! is none. With [`Payload::Watched`] each word has two cells beside it that loom
//! watches, so that an access to a message which is not ordered with one that
//! conflicts with it is reported, as it would be for plain memory: on the heap, and
//! through `reserve`.
//!
//! Nothing is asserted about a message between its read and the vacating of its
//! record, since the branch would order the two: the sides record, and the model
//! looks after the join.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, Ordering};
use memenpsf_ring::bytes::{Consumer, HeapRing, Producer, longest_message, ring_at};
use memenpsf_ring::memory::{ByteMemory, CONSUMER_BLOCK, Memory, Split};
use memenpsf_ring::ordering::Orderings;
use memenpsf_ring::{PopError, RecordError};

use crate::blocks::Block;
use crate::model::{Explored, Shape, explore, gather};

/// How messages are kept in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Relaxed words, as between two processes.
    Words,
    /// The same, watched as if they were plain memory.
    Watched,
}

/// What is wrong with the producer's memory, for mutants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// Nothing.
    None,
    /// The header word behind a record is not stored as 0.
    NoTerminator,
    /// It is stored, but after the record's own header.
    LateTerminator,
}

/// The cells beside one word.
#[derive(Debug, Default)]
struct Watch {
    /// Written with a message, read with one and by the look at a header.
    message: UnsafeCell<()>,
    /// Written with a header, read with a message.
    header: UnsafeCell<()>,
}

impl Watch {
    fn message_written(&self) {
        self.message.with_mut(|_| ());
    }

    fn message_read(&self) {
        self.message.with(|_| ());
        self.header.with(|_| ());
    }

    fn header_written(&self) {
        self.header.with_mut(|_| ());
    }

    fn header_read(&self) {
        self.message.with(|_| ());
    }
}

/// One side's memory in a model.
#[derive(Debug)]
pub struct Modelled {
    memory: Split<u64>,
    watches: Option<Arc<[Watch]>>,
    defect: Defect,
    /// The terminator that a [`Defect::LateTerminator`] owes.
    owed: Cell<Option<usize>>,
    producing: bool,
}

impl Modelled {
    /// Calls `f` for each word that `len` bytes at `at` fill.
    fn watch(&self, at: usize, len: usize, f: impl Fn(&Watch)) {
        if let Some(watches) = &self.watches {
            watches[at / 8..(at + len).div_ceil(8)].iter().for_each(f);
        }
    }
}

// SAFETY: all that is not left out by a defect is passed on to a memory that keeps
// the contract.
unsafe impl Memory<u64> for Modelled {
    const STRIDE: usize = 8;

    unsafe fn store(&self, word: usize, value: u64, order: Ordering) {
        if !self.producing {
            // SAFETY: the caller's obligation.
            return unsafe { self.memory.store(word, value, order) };
        }
        if value == 0 && self.defect != Defect::None {
            if self.defect == Defect::LateTerminator {
                self.owed.set(Some(word));
            }
            return;
        }
        self.watch(word, 8, Watch::header_written);
        // SAFETY: the caller's obligation.
        unsafe { self.memory.store(word, value, order) };
        if let Some(owed) = self.owed.take()
            && owed != word
        {
            self.watch(owed, 8, Watch::header_written);
            // SAFETY: a store to that word was asked for before.
            unsafe { self.memory.store(owed, 0, Ordering::Relaxed) };
        }
    }

    unsafe fn load(&self, word: usize, order: Ordering) -> u64 {
        // SAFETY: the caller's obligation.
        let value = unsafe { self.memory.load(word, order) };
        if !self.producing {
            self.watch(word, 8, Watch::header_read);
        }
        value
    }

    unsafe fn write(&self, slot: usize, value: u64) {
        // SAFETY: the caller's obligation.
        unsafe { self.memory.write(slot, value) };
    }

    unsafe fn read(&self, slot: usize) -> u64 {
        // SAFETY: the caller's obligation.
        unsafe { self.memory.read(slot) }
    }

    unsafe fn take_back(&self, slot: usize) -> u64 {
        // SAFETY: the caller's obligation.
        unsafe { self.memory.take_back(slot) }
    }
}

// SAFETY: as above.
unsafe impl ByteMemory for Modelled {
    unsafe fn copy_in(&self, to: usize, from: &[u8]) {
        self.watch(to, from.len(), Watch::message_written);
        // SAFETY: the caller's obligation.
        unsafe { self.memory.copy_in(to, from) };
    }

    unsafe fn copy_out(&self, from: usize, to: *mut u8, len: usize) {
        self.watch(from, len, Watch::message_read);
        // SAFETY: the caller's obligation.
        unsafe { self.memory.copy_out(from, to, len) };
    }
}

/// The two blocks of one bytes ring. They must outlive its handles.
#[derive(Debug)]
struct Blocks {
    producer: Block,
    consumer: Block,
    watches: Option<Arc<[Watch]>>,
}

/// An old message's word: the header of a message of 8 bytes.
const FORGED: u64 = 9;

impl Blocks {
    fn new(setting: Setting) -> Self {
        let longest = longest_message(setting.capacity).unwrap();
        let size = setting.capacity + longest.next_multiple_of(8);
        let place = |block: &Block, at: usize, value: u64| {
            // SAFETY: the callers' offsets are within their blocks.
            let word = unsafe { block.start().add(at) };
            // SAFETY: within the block, aligned, and nobody else has it yet.
            unsafe { word.cast().write(AtomicU64::new(value)) };
        };
        let producer = Block::new(size);
        for at in (0..size).step_by(8) {
            place(&producer, at, FORGED);
        }
        let consumer = Block::new(CONSUMER_BLOCK);
        place(&consumer, 0, 0);
        let watched = setting.payload == Payload::Watched;
        let watches = watched.then(|| (0..size / 8).map(|_| Watch::default()).collect());
        Self {
            producer,
            consumer,
            watches,
        }
    }

    /// Makes both handles.
    ///
    /// # Safety
    ///
    /// 1. The blocks outlive both handles.
    /// 2. It is called once.
    unsafe fn attach<O: Orderings>(&self, setting: Setting) -> Ring<O> {
        let (ours, theirs) = (self.producer.start(), self.consumer.start());
        let side = |memory, producing| Modelled {
            memory,
            watches: self.watches.clone(),
            defect: setting.defect,
            owed: Cell::new(None),
            producing,
        };
        let longest = longest_message(setting.capacity).unwrap();
        // SAFETY: both blocks are aligned, as large as the layout says, and live
        // long enough (obligation 1).
        let memory = side(unsafe { Split::new(ours, theirs) }, true);
        // SAFETY: it is the only producer (obligation 2).
        let producer =
            unsafe { Producer::attach(memory, setting.capacity, longest, setting.start) };
        // SAFETY: as above.
        let memory = side(unsafe { Split::new(theirs, ours) }, false);
        // SAFETY: it is the only consumer (obligation 2).
        let consumer =
            unsafe { Consumer::attach(memory, setting.capacity, longest, setting.start) };
        let producer = producer.unwrap();
        if setting.defect != Defect::None {
            // The constructor's 0 is not what the defect is about.
            let at = usize::try_from(setting.start % setting.capacity as u64).unwrap();
            // SAFETY: within the block.
            let word = unsafe { ours.add(at) }.cast::<AtomicU64>();
            // SAFETY: a word of the model lies there.
            unsafe { word.as_ref() }.store(0, Ordering::Relaxed);
        }
        (producer, consumer.unwrap())
    }
}

/// Both handles of a ring in a model.
type Ring<O> = (Producer<Modelled, O>, Consumer<Modelled, O>);

/// A ring and how its two sides run.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Bytes of storage: 32 for messages of 8 bytes, 64 for 24.
    pub capacity: usize,
    /// First position.
    pub start: u64,
    /// Lengths of the messages, which are sent in turn.
    pub lengths: &'static [usize],
    /// How messages are kept.
    pub payload: Payload,
    /// Which sides are spawned.
    pub shape: Shape,
    /// What is wrong with the producer's memory.
    pub defect: Defect,
}

/// What the attempts of both sides came to: whether each moved a message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outcome {
    /// The pushes.
    pub pushed: Vec<bool>,
    /// The pops.
    pub popped: Vec<bool>,
}

impl Setting {
    /// Message `number`: each of its words could be the header of a message that
    /// this ring takes, and tells the number.
    fn message(&self, number: usize) -> Vec<u8> {
        let word = (number as u64 % 8 + 1).to_ne_bytes();
        let length = self.lengths[number % self.lengths.len()];
        word.into_iter().cycle().take(length).collect()
    }

    /// Every outcome of `attempts` attempts a side, computed without the ring from
    /// its documented rules: each attempt is one step; a pop finds the next record
    /// or, stale, does not; a push that must ask for the head gets any that was
    /// published since the one it knows.
    pub fn expected(&self, attempts: usize) -> BTreeSet<Outcome> {
        let mut found = BTreeSet::new();
        let first = State {
            tail: 0,
            known: 0,
            ends: Vec::new(),
            pushed: Vec::new(),
            popped: Vec::new(),
        };
        let mut open = vec![first];
        while let Some(state) = open.pop() {
            if state.pushed.len() == attempts && state.popped.len() == attempts {
                found.insert(Outcome {
                    pushed: state.pushed,
                    popped: state.popped,
                });
                continue;
            }
            if state.pushed.len() < attempts {
                self.push_steps(&state, &mut open);
            }
            if state.popped.len() < attempts {
                let taken = state.taken();
                for popped in [false, true] {
                    if !popped || taken < state.ends.len() {
                        let mut next = state.clone();
                        next.popped.push(popped);
                        open.push(next);
                    }
                }
            }
        }
        found
    }

    fn push_steps(&self, state: &State, open: &mut Vec<State>) {
        let start = u128::from(self.start % 64);
        let length = self.lengths[state.ends.len() % self.lengths.len()];
        let size = 8 + length.next_multiple_of(8) as u128;
        let mut end = start + state.tail + size;
        if size <= 64 && end.next_multiple_of(64) - end < size {
            end = end.next_multiple_of(64);
        }
        let end = end - start;
        let reach = self.capacity as u128 - 8;
        let mut next = state.clone();
        if end <= state.known + reach {
            next.pushed.push(true);
            next.ends.push(end);
            next.tail = end;
            open.push(next);
            return;
        }
        // The heads that the consumer has published, from the one known on.
        let heads = std::iter::once(0).chain(state.ends[..state.taken()].iter().copied());
        for head in heads.filter(|&head| head >= state.known) {
            let mut next = state.clone();
            next.known = head;
            let fits = end <= head + reach;
            next.pushed.push(fits);
            if fits {
                next.ends.push(end);
                next.tail = end;
            }
            open.push(next);
        }
    }

    /// Bounded attempts of both sides; asserts that what arrives is what was sent.
    pub fn attempts<O: Orderings + 'static>(self, attempts: usize) -> Explored<Outcome> {
        let name = format!("attempts, n = {attempts}, {self:?}");
        gather(&name, None, move |reached| {
            let blocks = Blocks::new(self);
            // SAFETY: the handles are gone when `finish` returns.
            let (mut producer, mut consumer): Ring<O> = unsafe { blocks.attach(self) };
            let ((pushed, producer), (popped, consumer)) = self.shape.run(
                move || {
                    let mut next = 0;
                    let pushed: Vec<bool> = (0..attempts)
                        .map(|_| {
                            let pushed = push(&mut producer, &self.message(next));
                            next += usize::from(pushed);
                            pushed
                        })
                        .collect();
                    (pushed, producer)
                },
                move || {
                    let popped: Vec<_> = (0..attempts).map(|_| pop(&mut consumer)).collect();
                    (popped, consumer)
                },
            );
            let tail = producer.position();
            let sent = pushed.iter().filter(|&&pushed| pushed).count();
            let in_time: Vec<_> = popped.iter().flatten().cloned().collect();
            reached.note("full", pushed.contains(&false));
            reached.note("empty", popped.contains(&None));
            reached.note("all popped", in_time.len() == attempts);
            reached.note("none popped", in_time.is_empty());
            let distance = tail.wrapping_sub(self.start);
            reached.note("storage used again", distance > self.capacity as u64);
            reached.note("positions wrapped", tail < self.start);
            self.assert_arrived(in_time, sent, producer, consumer);
            Outcome {
                pushed,
                popped: popped.iter().map(Option::is_some).collect(),
            }
        })
    }

    /// A batch of messages, an abort, and a reservation of which a part is committed.
    pub fn batches<O: Orderings + 'static>(self) -> Explored {
        let name = format!("batches, {self:?}");
        gather(&name, None, move |reached| {
            let blocks = Blocks::new(self);
            // SAFETY: the handles are gone when `finish` returns.
            let (mut producer, mut consumer): Ring<O> = unsafe { blocks.attach(self) };
            let ((sent, producer), (popped, consumer)) = self.shape.run(
                move || {
                    let longest = producer.max_message();
                    // What is aborted looks like headers all over.
                    let mut aborted = producer.reserve(longest).unwrap();
                    aborted.fill(&vec![1; longest]);
                    drop(aborted);
                    let batch = [self.message(0), self.message(1)];
                    let mut sent = producer.push_vectored(&batch).unwrap();
                    assert_eq!(sent, 2, "both fit into an empty ring");
                    if let Ok(mut reservation) = producer.reserve(longest) {
                        let message = self.message(2);
                        reservation.fill(&message);
                        reservation.commit(message.len());
                        sent += 1;
                    }
                    (sent, producer)
                },
                move || {
                    let popped: Vec<_> = (0..3).map(|_| pop(&mut consumer)).collect();
                    (popped, consumer)
                },
            );
            let whole = |pair: &[Option<Vec<u8>>]| pair[0].is_none() || pair[1].is_some();
            assert!(whole(&popped[..2]), "a batch becomes visible as a whole");
            let in_time: Vec<_> = popped.into_iter().flatten().collect();
            reached.note("none popped", in_time.is_empty());
            reached.note("batch popped", in_time.len() == 2);
            reached.note("all popped", in_time.len() == 3);
            reached.note("no room for the reservation", sent == 2);
            self.assert_arrived(in_time, sent, producer, consumer);
        })
    }

    /// Fails unless what was popped and what is left are the messages in order.
    fn assert_arrived<O: Orderings>(
        &self,
        mut arrived: Vec<Vec<u8>>,
        sent: usize,
        producer: Producer<Modelled, O>,
        mut consumer: Consumer<Modelled, O>,
    ) {
        drop(producer);
        // A ring of so few bytes that gives more than this gives what nobody sent.
        arrived.extend(std::iter::from_fn(|| pop(&mut consumer)).take(8));
        let expected: Vec<_> = (0..sent).map(|number| self.message(number)).collect();
        assert_eq!(
            arrived, expected,
            "every message arrives once, in order, untorn"
        );
    }

    /// On the heap the producer leaves, and the consumer that sees it drains every
    /// message; loom reports memory that is not freed.
    ///
    /// Only the consumer asks, and its handle is dropped after the join: see
    /// [`drain`](crate::element_models::Ring::drain).
    pub fn drain<O: Orderings + 'static>(self, pushes: usize) -> Explored {
        let name = format!("drain, {pushes} pushes, {self:?}");
        gather(&name, None, move |reached| {
            let longest = longest_message(self.capacity).unwrap();
            let (mut producer, mut consumer): HeapRing<O> =
                ring_at(self.capacity, longest, self.start).unwrap();
            let (sent, (popped, drained, consumer)) = self.shape.run(
                move || {
                    let mut next = 0;
                    for _ in 0..pushes {
                        next += usize::from(push(&mut producer, &self.message(next)));
                    }
                    drop(producer);
                    next
                },
                move || {
                    let mut popped = Vec::new();
                    for _ in 0..2 {
                        if consumer.is_abandoned() {
                            popped.extend(std::iter::from_fn(|| pop(&mut consumer)));
                            return (popped, true, consumer);
                        }
                        popped.extend(pop(&mut consumer));
                    }
                    (popped, false, consumer)
                },
            );
            drop(consumer);
            let expected: Vec<_> = (0..sent).map(|number| self.message(number)).collect();
            assert!(expected.starts_with(&popped), "in order: {popped:?}");
            if drained {
                assert_eq!(popped, expected, "a drained ring gives every message");
            }
            reached.note("drained to the end", drained && sent == pushes);
            reached.note("not drained", !drained);
        })
    }

    /// On the heap both sides leave, each after some work, in every order: loom
    /// reports memory that is not freed. Returns the number of executions.
    pub fn teardown<O: Orderings + 'static>(self) -> usize {
        explore(&format!("teardown, {self:?}"), move || {
            let longest = longest_message(self.capacity).unwrap();
            let (mut producer, mut consumer): HeapRing<O> =
                ring_at(self.capacity, longest, self.start).unwrap();
            let (pushed, popped) = self.shape.run(
                move || push(&mut producer, &self.message(0)),
                move || pop(&mut consumer),
            );
            assert!(pushed && popped.is_none_or(|message| message == self.message(0)));
        })
    }
}

/// A ring and its attempts so far, in the enumerator; positions from the start.
#[derive(Debug, Clone)]
struct State {
    tail: u128,
    /// The head that the producer knows.
    known: u128,
    /// Where each record ends.
    ends: Vec<u128>,
    pushed: Vec<bool>,
    popped: Vec<bool>,
}

impl State {
    /// Returns how many records have been popped.
    fn taken(&self) -> usize {
        self.popped.iter().filter(|&&popped| popped).count()
    }
}

/// Pushes, and tells whether there was room.
fn push<M: ByteMemory, O: Orderings>(producer: &mut Producer<M, O>, message: &[u8]) -> bool {
    match producer.push(message) {
        Ok(()) => true,
        Err(RecordError::Full { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Pops, if there is a message.
fn pop<M: ByteMemory, O: Orderings>(consumer: &mut Consumer<M, O>) -> Option<Vec<u8>> {
    match consumer.pop() {
        Ok(message) => Some(message),
        Err(PopError::Empty) => None,
        Err(error) => panic!("{error}"),
    }
}
