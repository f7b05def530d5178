//! Models of the packed ring: the shipping code, generic over the orderings, as
//! in [`index_models`](crate::index_models).
//!
//! An element is an array of `W` equal words, and `W` says how many elements a
//! line has: 7 of one word, 2 of three words, 1 of seven. So rings of very few
//! elements cross lines and laps, and a torn element shows.
//!
//! With both payloads: plain cells on the heap, whose every concurrent access
//! loom reports, and relaxed words in two blocks, as between two processes.
//! Nothing is asserted about an element before the join.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering as StdOrdering};
use std::sync::{Arc, Mutex};

use loom::alloc::Track;
use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU64;
use loom::thread::{self, ThreadId};
use memenpsf_ring::memory::{CONSUMER_BLOCK, Memory, Split};
use memenpsf_ring::ordering::Orderings;
use memenpsf_ring::packed::{Consumer, HeapRing, Producer, producer_block, ring_at};
use memenpsf_ring::{ChunkError, PopError, PushError};

use crate::blocks::Block;
use crate::enumerator::{Asking, Outcome, Run, Strength};
use crate::model::{Shape, explore};

/// Situations that executions of one model have reached.
#[derive(Debug, Clone, Default)]
struct Witnesses(Arc<Mutex<BTreeSet<&'static str>>>);

impl Witnesses {
    fn note(&self, situation: &'static str, reached: bool) {
        if reached {
            self.0.lock().unwrap().insert(situation);
        }
    }

    fn reached(&self) -> BTreeSet<&'static str> {
        self.0.lock().unwrap().clone()
    }
}

/// What a model came to.
#[derive(Debug)]
pub struct Explored {
    /// Number of executions.
    pub executions: usize,
    /// What the attempts read from the other side, in models of attempts.
    pub outcomes: BTreeSet<Outcome>,
    /// The situations that were reached.
    pub reached: BTreeSet<&'static str>,
}

/// Where the elements lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Plain cells on the heap.
    Heap,
    /// Relaxed words in two blocks.
    Split,
}

/// A ring of elements of `W` words, where it begins, and who is spawned.
#[derive(Debug, Clone, Copy)]
pub struct Ring<const W: usize> {
    /// Number of elements that fit.
    pub capacity: usize,
    /// First position.
    pub start: u64,
    /// Which sides are spawned.
    pub shape: Shape,
}

/// The first element's words; no slot's initial value.
const FIRST: u64 = 100;

/// Makes the elements from `next` on.
fn elements<const W: usize>(next: u64) -> impl Iterator<Item = [u64; W]> {
    (next..).map(|n| [n; W])
}

/// Fails unless `arrived` are the first `sent` elements, in order and untorn.
fn assert_prefix<const W: usize>(arrived: &[[u64; W]], sent: u64) {
    let sent: Vec<[u64; W]> = (FIRST..FIRST + sent).map(|n| [n; W]).collect();
    assert_eq!(
        arrived, sent,
        "every element arrives once, in order, untorn"
    );
}

/// The two blocks of one ring, with loom's atomics in place of all words. They
/// must outlive its handles.
struct Blocks {
    producer: Block,
    consumer: Block,
}

impl Blocks {
    fn new<const W: usize>(capacity: usize) -> Self {
        let block = |size: usize, words: usize| {
            const { assert!(size_of::<AtomicU64>() == 8) };
            assert!(words * 8 <= size);
            let block = Block::new(size);
            for word in 0..words {
                // SAFETY: within the block by the assertion.
                let word = unsafe { block.start().add(word * 8) };
                // SAFETY: as above, aligned, and nobody else has it yet.
                unsafe { word.cast().write(AtomicU64::new(0)) };
            }
            block
        };
        let size = producer_block::<[u64; W]>(capacity).unwrap().size();
        Self {
            producer: block(size, size / 8),
            consumer: block(CONSUMER_BLOCK, 1),
        }
    }
}

/// A producer over blocks.
type SplitProducer<const W: usize, O> = Producer<[u64; W], Split<[u64; W]>, O>;
/// A consumer over blocks.
type SplitConsumer<const W: usize, O> = Consumer<[u64; W], Split<[u64; W]>, O>;

/// What one side did.
#[derive(Debug, Default)]
struct Done<const W: usize> {
    /// Which position each attempt read from the other side.
    reads: Vec<Option<u64>>,
    /// Whether each attempt moved an element.
    moved: Vec<bool>,
    /// The elements popped.
    popped: Vec<[u64; W]>,
}

/// Pushes, and tells whether there was room.
fn push<const W: usize, M: Memory<[u64; W]>, O: Orderings>(
    producer: &mut Producer<[u64; W], M, O>,
    value: u64,
) -> bool {
    match producer.push([value; W]) {
        Ok(()) => true,
        Err(PushError::Full(_)) => false,
        Err(PushError::Violation(_, violation)) => panic!("{violation}"),
    }
}

/// Pops, if there is an element.
fn pop<const W: usize, M: Memory<[u64; W]>, O: Orderings>(
    consumer: &mut Consumer<[u64; W], M, O>,
) -> Option<[u64; W]> {
    match consumer.pop() {
        Ok(value) => Some(value),
        Err(PopError::Empty) => None,
        Err(PopError::Violation(violation)) => panic!("{violation}"),
    }
}

/// Takes what is left in a ring that both sides are done with, and ends it.
fn finish<const W: usize, M: Memory<[u64; W]>, O: Orderings>(
    producer: Producer<[u64; W], M, O>,
    mut consumer: Consumer<[u64; W], M, O>,
) -> Vec<[u64; W]> {
    drop(producer);
    std::iter::from_fn(|| pop(&mut consumer)).collect()
}

impl<const W: usize> Ring<W> {
    fn heap<O: Orderings>(self) -> HeapRing<[u64; W], O> {
        ring_at(self.capacity, self.start).unwrap()
    }

    /// Makes both handles over blocks.
    ///
    /// # Safety
    ///
    /// 1. The blocks are those of a ring of this capacity and outlive both
    ///    handles, and it is called once for them.
    unsafe fn over<O: Orderings>(
        self,
        blocks: &Blocks,
    ) -> (SplitProducer<W, O>, SplitConsumer<W, O>) {
        let (ours, theirs) = (blocks.producer.start(), blocks.consumer.start());
        // SAFETY: aligned, as large as the layout says, and alive (obligation 1).
        let memory = unsafe { Split::new(ours, theirs) };
        // SAFETY: it is the only producer (obligation 1).
        let producer = unsafe { Producer::attach(memory, self.capacity, self.start) };
        // SAFETY: as above.
        let memory = unsafe { Split::new(theirs, ours) };
        // SAFETY: it is the only consumer (obligation 1).
        let consumer = unsafe { Consumer::attach(memory, self.capacity, self.start) };
        (producer.unwrap(), consumer.unwrap())
    }

    /// How many elements a line has.
    fn slots(self) -> u64 {
        7 / W as u64
    }

    /// How many elements all lines have.
    fn lap(self) -> u64 {
        self.slots() * ((self.capacity as u64 - 1).div_ceil(self.slots()) + 1)
    }

    /// Tells whether the pushes of `count` elements put two neighbours into two
    /// lines.
    pub fn crosses_a_line(self, count: u64) -> bool {
        self.start % self.slots() + count > self.slots()
    }

    /// Tells whether they put two neighbours into two laps.
    pub fn crosses_a_lap(self, count: u64) -> bool {
        self.start % self.lap() + count > self.lap()
    }

    /// Tells whether they use a slot a second time.
    pub fn uses_a_slot_again(self, count: u64) -> bool {
        count > self.lap()
    }

    /// Notes how far `count` pushes went.
    fn note(self, witnesses: &Witnesses, count: u64) {
        witnesses.note("line crossed", self.crosses_a_line(count));
        witnesses.note("lap crossed", self.crosses_a_lap(count));
        witnesses.note("slot used again", self.uses_a_slot_again(count));
    }

    /// Attempts to push and to pop, each of which asks for all that the other
    /// side has published.
    pub fn attempts<O: Orderings + 'static>(self, payload: Payload, attempts: usize) -> Explored {
        let outcomes = Arc::new(Mutex::new(BTreeSet::new()));
        let noted = Arc::clone(&outcomes);
        let name = format!("attempts, {payload:?}, W = {W}, n = {attempts}, {self:?}");
        let mut explored = self.explore::<O>(&name, payload, Tried { attempts, noted });
        explored.outcomes = std::mem::take(&mut *outcomes.lock().unwrap());
        explored
    }

    /// Returns every outcome of [`attempts`](Self::attempts) that there is, as
    /// the enumerator knows them. It knows nothing of lines: a ring whose
    /// positions are words, and every attempt asks.
    pub fn expected(self, attempts: usize) -> BTreeSet<Outcome> {
        let run = Run {
            capacity: self.capacity as u64,
            attempts,
            asking: Asking::Always,
            strength: Strength::SHIPPED,
        };
        run.explore().outcomes
    }

    /// `push` and `pop`, which look only where they must.
    pub fn one_by_one<O: Orderings + 'static>(self, payload: Payload, attempts: usize) -> Explored {
        let name = format!("one by one, {payload:?}, W = {W}, n = {attempts}, {self:?}");
        self.explore::<O>(&name, payload, OneByOne { attempts })
    }

    /// Slices and chunks: one publication a line and one vacating for several
    /// elements.
    pub fn batches<O: Orderings + 'static>(self, payload: Payload) -> Explored {
        let name = format!("batches, {payload:?}, W = {W}, {self:?}");
        self.explore::<O>(&name, payload, Batches)
    }

    fn explore<O: Orderings + 'static>(
        self,
        name: &str,
        payload: Payload,
        program: impl Program<W>,
    ) -> Explored {
        let witnesses = Witnesses::default();
        let reached = witnesses.clone();
        let executions = explore(name, move || match payload {
            Payload::Heap => {
                let (producer, consumer) = self.heap::<O>();
                self.execute(producer, consumer, &program, &reached);
            }
            Payload::Split => {
                let blocks = Blocks::new::<W>(self.capacity);
                // SAFETY: the handles are gone when `execute` returns.
                let (producer, consumer) = unsafe { self.over::<O>(&blocks) };
                self.execute(producer, consumer, &program, &reached);
            }
        });
        Explored {
            executions,
            outcomes: BTreeSet::new(),
            reached: witnesses.reached(),
        }
    }

    /// One execution of a program of two sides.
    fn execute<M: Memory<[u64; W]> + 'static, O: Orderings + 'static>(
        self,
        mut producer: Producer<[u64; W], M, O>,
        mut consumer: Consumer<[u64; W], M, O>,
        program: &impl Program<W>,
        witnesses: &Witnesses,
    ) {
        let (produces, consumes) = (program.clone(), program.clone());
        let ((produced, pushed, producer), (consumed, consumer)) = self.shape.run(
            move || {
                let done = produces.produce(self, &mut producer);
                let pushed = producer.position().wrapping_sub(self.start);
                (done, pushed, producer)
            },
            move || (consumes.consume(self, &mut consumer), consumer),
        );
        let in_time = consumed.popped.len();
        let left = finish(producer, consumer);
        let arrived: Vec<[u64; W]> = consumed.popped.iter().chain(&left).copied().collect();
        assert_prefix(&arrived, pushed);
        self.note(witnesses, pushed);
        witnesses.note("full", produced.moved.contains(&false));
        witnesses.note("empty", consumed.moved.contains(&false));
        witnesses.note("all popped in time", in_time as u64 == pushed);
        witnesses.note("none popped in time", in_time == 0);
        program.note(produced.reads, consumed.reads);
    }
}

/// What the two sides of a model do.
trait Program<const W: usize>: Clone + Send + Sync + 'static {
    fn produce<M: Memory<[u64; W]>, O: Orderings>(
        &self,
        ring: Ring<W>,
        producer: &mut Producer<[u64; W], M, O>,
    ) -> Done<W>;

    fn consume<M: Memory<[u64; W]>, O: Orderings>(
        &self,
        ring: Ring<W>,
        consumer: &mut Consumer<[u64; W], M, O>,
    ) -> Done<W>;

    /// Takes note of what both sides read from each other.
    fn note(&self, heads: Vec<Option<u64>>, tails: Vec<Option<u64>>) {
        drop((heads, tails));
    }
}

#[derive(Clone)]
struct Tried {
    attempts: usize,
    noted: Arc<Mutex<BTreeSet<Outcome>>>,
}

impl<const W: usize> Program<W> for Tried {
    fn produce<M: Memory<[u64; W]>, O: Orderings>(
        &self,
        ring: Ring<W>,
        producer: &mut Producer<[u64; W], M, O>,
    ) -> Done<W> {
        let mut done = Done::default();
        let mut next = FIRST;
        for _ in 0..self.attempts {
            let vacant = producer.slots();
            let head = (producer.position())
                .wrapping_sub(ring.start)
                .wrapping_sub((ring.capacity - vacant) as u64);
            done.reads.push(Some(head));
            if vacant > 0 {
                assert!(push(producer, next));
                next += 1;
            }
            done.moved.push(vacant > 0);
        }
        done
    }

    fn consume<M: Memory<[u64; W]>, O: Orderings>(
        &self,
        ring: Ring<W>,
        consumer: &mut Consumer<[u64; W], M, O>,
    ) -> Done<W> {
        let mut done = Done::default();
        for _ in 0..self.attempts {
            let there = consumer.slots();
            let tail = (consumer.position())
                .wrapping_sub(ring.start)
                .wrapping_add(there as u64);
            done.reads.push(Some(tail));
            if there > 0 {
                done.popped.extend(pop(consumer));
            }
            done.moved.push(there > 0);
        }
        done
    }

    fn note(&self, heads: Vec<Option<u64>>, tails: Vec<Option<u64>>) {
        self.noted.lock().unwrap().insert(Outcome { heads, tails });
    }
}

#[derive(Clone)]
struct OneByOne {
    attempts: usize,
}

impl<const W: usize> Program<W> for OneByOne {
    fn produce<M: Memory<[u64; W]>, O: Orderings>(
        &self,
        _: Ring<W>,
        producer: &mut Producer<[u64; W], M, O>,
    ) -> Done<W> {
        let mut done = Done::default();
        let mut next = FIRST;
        for _ in 0..self.attempts {
            let pushed = push(producer, next);
            next += u64::from(pushed);
            done.moved.push(pushed);
        }
        done
    }

    fn consume<M: Memory<[u64; W]>, O: Orderings>(
        &self,
        _: Ring<W>,
        consumer: &mut Consumer<[u64; W], M, O>,
    ) -> Done<W> {
        let mut done = Done::default();
        for _ in 0..self.attempts {
            let popped = pop(consumer);
            done.popped.extend(popped);
            done.moved.push(popped.is_some());
        }
        done
    }
}

#[derive(Clone)]
struct Batches;

impl<const W: usize> Program<W> for Batches {
    fn produce<M: Memory<[u64; W]>, O: Orderings>(
        &self,
        ring: Ring<W>,
        producer: &mut Producer<[u64; W], M, O>,
    ) -> Done<W> {
        let mut next = FIRST;
        // A chunk of all slots, of which all but the last are committed.
        let mut refused = None;
        match producer.reserve(ring.capacity) {
            Ok(mut chunk) => {
                assert_eq!(chunk.fill(elements(next)), ring.capacity);
                let committed = ring.capacity.div_ceil(2);
                chunk.commit(committed);
                next += committed as u64;
            }
            Err(error) => refused = Some(error),
        }
        assert_eq!(refused, None, "the ring begins empty");
        // A slice of more than fits.
        let values: Vec<[u64; W]> = elements(next).take(ring.capacity + 1).collect();
        next += producer.push_slice(&values).unwrap() as u64;
        // A chunk of one, if there is room by now.
        match producer.reserve(1) {
            Ok(mut chunk) => {
                chunk.push([next; W]).unwrap();
                chunk.commit_all();
            }
            Err(ChunkError::TooFew { available: 0, .. }) => (),
            Err(error) => panic!("{error}"),
        }
        Done::default()
    }

    fn consume<M: Memory<[u64; W]>, O: Orderings>(
        &self,
        _: Ring<W>,
        consumer: &mut Consumer<[u64; W], M, O>,
    ) -> Done<W> {
        let mut done = Done::default();
        let there = consumer.slots();
        let mut chunk = consumer.read_chunk(there).unwrap();
        done.popped.extend(chunk.by_ref().take(1));
        // What was not taken stays in the ring.
        drop(chunk);
        let mut values = [[0; W]; 2];
        let count = consumer.pop_slice(&mut values).unwrap();
        done.popped.extend_from_slice(&values[..count]);
        consumer.pop_into(&mut done.popped, 1).unwrap();
        done
    }
}

/// An element whose drops are counted, and whose leak loom reports.
struct Token {
    id: usize,
    drops: Arc<[AtomicU32]>,
    /// Which thread dropped each.
    droppers: Arc<Mutex<Vec<(usize, ThreadId)>>>,
    _track: Track<()>,
}

impl Drop for Token {
    fn drop(&mut self) {
        self.drops[self.id].fetch_add(1, StdOrdering::Relaxed);
        let thread = thread::current().id();
        self.droppers.lock().unwrap().push((self.id, thread));
    }
}

/// Both sides leave, each after some work, in every order: the memory is freed
/// once and every element is dropped once.
pub fn teardown<O: Orderings + 'static>(
    capacity: usize,
    start: u64,
    pushes: usize,
    pops: usize,
    shape: Shape,
) -> Explored {
    let witnesses = Witnesses::default();
    let reached = witnesses.clone();
    let name = format!(
        "teardown, capacity {capacity}, {pushes} pushes, {pops} pops, start {start}, {shape:?}"
    );
    let executions = explore(&name, move || {
        let (mut producer, mut consumer): HeapRing<Token, O> = ring_at(capacity, start).unwrap();
        let drops: Arc<[AtomicU32]> = (0..pushes).map(|_| AtomicU32::new(0)).collect();
        let droppers = Arc::new(Mutex::new(Vec::new()));
        let (made, who) = (Arc::clone(&drops), Arc::clone(&droppers));
        let ((rejected, producing), (popped, consuming)) = shape.run(
            move || {
                let mut rejected = 0;
                for id in 0..pushes {
                    let token = Token {
                        id,
                        drops: Arc::clone(&made),
                        droppers: Arc::clone(&who),
                        _track: Track::new(()),
                    };
                    rejected += usize::from(producer.push(token).is_err());
                }
                drop(producer);
                (rejected, thread::current().id())
            },
            move || {
                let popped = (0..pops).filter(|_| consumer.pop().is_ok()).count();
                drop(consumer);
                (popped, thread::current().id())
            },
        );
        let drops: Vec<u32> = drops.iter().map(|n| n.load(StdOrdering::Relaxed)).collect();
        assert_eq!(drops, vec![1; pushes], "every element is dropped once");
        let droppers = droppers.lock().unwrap();
        let dropped_by = |side| droppers.iter().filter(|(_, by)| *by == side).count();
        let left = pushes - rejected - popped;
        reached.note("nothing left", left == 0);
        reached.note("all left", left == pushes);
        reached.note(
            "producer last",
            left > 0 && dropped_by(producing) == rejected + left,
        );
        reached.note(
            "consumer last",
            left > 0 && dropped_by(consuming) == popped + left,
        );
    });
    Explored {
        executions,
        outcomes: BTreeSet::new(),
        reached: witnesses.reached(),
    }
}

impl<const W: usize> Ring<W> {
    /// The producer leaves, and the consumer that sees it drains every element.
    ///
    /// Here and in the next model only one side asks, and its handle is dropped
    /// after the join: see [`index_models::drain`](crate::index_models::drain).
    pub fn drain<O: Orderings + 'static>(self, pushes: usize) -> Explored {
        let witnesses = Witnesses::default();
        let reached = witnesses.clone();
        let name = format!("drain, W = {W}, {pushes} pushes, {self:?}");
        let executions = explore(&name, move || {
            let (mut producer, mut consumer) = self.heap::<O>();
            let ((pushed, ()), (popped, drained, consumer)) = self.shape.run(
                move || {
                    let mut next = FIRST;
                    for _ in 0..pushes {
                        next += u64::from(push(&mut producer, next));
                    }
                    (next - FIRST, drop(producer))
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
            if drained {
                assert_prefix(&popped, pushed);
            } else {
                assert!(popped.len() as u64 <= pushed);
                assert_prefix(&popped, popped.len() as u64);
            }
            reached.note("drained to the end", drained && pushed == pushes as u64);
            reached.note("not drained", !drained);
            self.note(&reached, pushed);
        });
        Explored {
            executions,
            outcomes: BTreeSet::new(),
            reached: witnesses.reached(),
        }
    }

    /// The consumer leaves, and the producer that sees it also sees what the
    /// consumer did before.
    pub fn consumer_leaves<O: Orderings + 'static>(self) -> Explored {
        let witnesses = Witnesses::default();
        let reached = witnesses.clone();
        let name = format!("consumer leaves, W = {W}, {self:?}");
        let executions = explore(&name, move || {
            let (mut producer, mut consumer) = self.heap::<O>();
            // loom watches it: a read that the write does not happen before fails.
            // `Rc`: loom runs its threads one at a time on one thread of the system.
            let written = Rc::new(UnsafeCell::new(0));
            let read = Rc::clone(&written);
            let ((saw, producer), ()) = self.shape.run(
                move || {
                    push(&mut producer, FIRST);
                    for _ in 0..2 {
                        if producer.is_abandoned() {
                            // SAFETY: loom checks that the consumer is done with it.
                            let value = read.with(|value| unsafe { *value });
                            return (Some(value), producer);
                        }
                    }
                    (None, producer)
                },
                move || {
                    pop(&mut consumer);
                    // SAFETY: loom checks that the producer reads it afterwards.
                    written.with_mut(|value| unsafe { *value = 1 });
                    drop(consumer);
                },
            );
            drop(producer);
            assert!(
                matches!(saw, None | Some(1)),
                "what the consumer did is seen"
            );
            reached.note("seen to leave", saw.is_some());
            reached.note("not seen to leave", saw.is_none());
        });
        Explored {
            executions,
            outcomes: BTreeSet::new(),
            reached: witnesses.reached(),
        }
    }
}
