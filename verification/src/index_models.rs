//! Models of the index ring: the shipping code, generic over the orderings, so
//! that a mutant runs through the very models that the shipped ones pass.
//!
//! Both payloads are modelled, because each sees what the other does not: plain
//! cells on the heap, whose every concurrent access loom reports, and relaxed
//! words in two blocks, as between two processes. Nothing is asserted about an
//! element between its read and the vacating of its slot, since the branch
//! would order the two: the sides record, and the model looks after the join.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering as StdOrdering};
use std::sync::{Arc, Mutex};

use loom::alloc::Track;
use loom::cell::UnsafeCell;
use loom::thread::{self, ThreadId};
use memenpsf_ring::index::{Consumer, HeapRing, Producer, ring_at};
use memenpsf_ring::memory::Memory;
use memenpsf_ring::ordering::Orderings;
use memenpsf_ring::{ChunkError, PopError, PushError};

use crate::enumerator::{Asking, Outcome, Run, Strength};
use crate::model::{Blocks, RecordedRing, Shape, explore, explore_bounded};

/// Situations that executions of one model have reached.
#[derive(Debug, Clone, Default)]
pub struct Witnesses(Arc<Mutex<BTreeSet<&'static str>>>);

impl Witnesses {
    pub(crate) fn note(&self, situation: &'static str, reached: bool) {
        if reached {
            self.0.lock().unwrap().insert(situation);
        }
    }

    /// Returns the situations that were reached.
    pub fn reached(&self) -> BTreeSet<&'static str> {
        self.0.lock().unwrap().clone()
    }
}

/// What a model of bounded attempts came to.
#[derive(Debug)]
pub struct Attempted {
    /// Number of executions.
    pub executions: usize,
    /// What the attempts read from the other side.
    pub outcomes: BTreeSet<Outcome>,
    /// The situations that were reached.
    pub reached: BTreeSet<&'static str>,
}

/// A ring and a number of attempts of each side.
#[derive(Debug, Clone, Copy)]
pub struct Attempts {
    /// Number of slots.
    pub capacity: usize,
    /// Attempts of each side.
    pub attempts: usize,
    /// First position.
    pub start: u64,
    /// Which sides are spawned.
    pub shape: Shape,
    /// Most preemptions, for the control.
    pub preemptions: Option<usize>,
}

/// The first element's value; no slot's initial value.
const FIRST: u64 = 100;

/// What one side did.
#[derive(Debug, Default)]
struct Done {
    /// Which position each attempt read from the other side.
    reads: Vec<Option<u64>>,
    /// Whether each attempt moved an element.
    moved: Vec<bool>,
    /// The elements popped.
    popped: Vec<u64>,
}

impl Attempts {
    /// Returns every outcome there is, as the enumerator knows them.
    pub fn expected(&self, asking: Asking) -> BTreeSet<Outcome> {
        let run = Run {
            capacity: self.capacity as u64,
            attempts: self.attempts,
            asking,
            strength: Strength::SHIPPED,
        };
        run.explore().outcomes
    }

    fn name(&self, what: &str) -> String {
        let Self {
            capacity,
            attempts,
            start,
            shape,
            ..
        } = *self;
        format!("{what}, capacity {capacity}, n = {attempts}, start {start}, {shape:?}")
    }

    /// Plain cells on the heap; every attempt asks for the peer's position.
    pub fn on_heap<O: Orderings + 'static>(self) -> Attempted {
        self.explore("heap", move || {
            let (mut producer, mut consumer): HeapRing<u64, O> =
                ring_at(self.capacity, self.start).unwrap();
            let (produced, consumed) = self.shape.run(
                move || (self.push_asking(&mut producer), producer),
                move || (self.pop_asking(&mut consumer), consumer),
            );
            (produced.0, consumed.0, finish(produced.1, consumed.1))
        })
    }

    /// Relaxed words in two blocks; every attempt asks.
    pub fn over_regions<O: Orderings + 'static>(self) -> Attempted {
        self.explore("split", move || {
            let blocks = Blocks::new(self.capacity);
            // SAFETY: the handles are gone when `finish` returns.
            let ring: RecordedRing<O> = unsafe { blocks.attach(self.start) };
            let (mut producer, mut consumer) = (ring.producer, ring.consumer);
            let (produced, consumed) = self.shape.run(
                move || (self.push_asking(&mut producer), producer),
                move || (self.pop_asking(&mut consumer), consumer),
            );
            (produced.0, consumed.0, finish(produced.1, consumed.1))
        })
    }

    /// Relaxed words in two blocks; `push` and `pop` ask when they must.
    pub fn over_regions_at_limit<O: Orderings + 'static>(self) -> Attempted {
        self.explore("split, push and pop", move || {
            let blocks = Blocks::new(self.capacity);
            // SAFETY: the handles are gone when `finish` returns.
            let ring: RecordedRing<O> = unsafe { blocks.attach(self.start) };
            let (mut producer, heads) = (ring.producer, ring.heads);
            let (mut consumer, tails) = (ring.consumer, ring.tails);
            let relative = move |loads: Vec<u64>| {
                assert!(loads.len() <= 1, "one load an attempt");
                loads.first().map(|load| load.wrapping_sub(self.start))
            };
            let (produced, consumed) = self.shape.run(
                move || {
                    let mut done = Done::default();
                    let mut next = FIRST;
                    for _ in 0..self.attempts {
                        let pushed = push(&mut producer, next);
                        next += u64::from(pushed);
                        done.moved.push(pushed);
                        done.reads.push(relative(heads.take()));
                    }
                    (done, producer)
                },
                move || {
                    let mut done = Done::default();
                    for _ in 0..self.attempts {
                        let popped = pop(&mut consumer);
                        done.popped.extend(popped);
                        done.moved.push(popped.is_some());
                        done.reads.push(relative(tails.take()));
                    }
                    (done, consumer)
                },
            );
            (produced.0, consumed.0, finish(produced.1, consumed.1))
        })
    }

    /// Explores `execution`, which returns what both sides did and what was left
    /// in the ring, and checks each.
    fn explore(
        self,
        what: &str,
        execution: impl Fn() -> (Done, Done, Vec<u64>) + Send + Sync + 'static,
    ) -> Attempted {
        let outcomes = Arc::new(Mutex::new(BTreeSet::new()));
        let witnesses = Witnesses::default();
        let (noted, reached) = (Arc::clone(&outcomes), witnesses.clone());
        let model = move || {
            let (produced, consumed, left) = execution();
            let pushed = produced.moved.iter().filter(|&&moved| moved).count();
            let popped = consumed.popped.len();
            let arrived: Vec<u64> = consumed.popped.iter().chain(&left).copied().collect();
            let sent: Vec<u64> = (FIRST..).take(pushed).collect();
            assert_eq!(
                arrived, sent,
                "every element arrives once, in order, untorn"
            );
            reached.note("full", produced.moved.contains(&false));
            reached.note("empty", consumed.moved.contains(&false));
            reached.note("slot used again", pushed > self.capacity);
            reached.note("all popped", popped == self.attempts);
            reached.note("none popped", popped == 0);
            reached.note(
                "positions wrapped",
                self.start.wrapping_add(popped as u64) < self.start,
            );
            noted.lock().unwrap().insert(Outcome {
                heads: produced.reads,
                tails: consumed.reads,
            });
        };
        let executions = explore_bounded(&self.name(what), self.preemptions, model);
        let outcomes = std::mem::take(&mut *outcomes.lock().unwrap());
        Attempted {
            executions,
            outcomes,
            reached: witnesses.reached(),
        }
    }

    /// The producer's attempts, each of which asks once for the head.
    fn push_asking<M: Memory<u64>, O: Orderings>(self, producer: &mut Producer<u64, M, O>) -> Done {
        let mut done = Done::default();
        let mut next = FIRST;
        for _ in 0..self.attempts {
            let vacant = producer.slots();
            let head = (producer.position())
                .wrapping_sub(self.start)
                .wrapping_sub((self.capacity - vacant) as u64);
            done.reads.push(Some(head));
            if vacant > 0 {
                assert!(push(producer, next));
                next += 1;
            }
            done.moved.push(vacant > 0);
        }
        done
    }

    /// The consumer's attempts, each of which asks once for the tail.
    fn pop_asking<M: Memory<u64>, O: Orderings>(self, consumer: &mut Consumer<u64, M, O>) -> Done {
        let mut done = Done::default();
        for _ in 0..self.attempts {
            let there = consumer.slots();
            let tail = (consumer.position())
                .wrapping_sub(self.start)
                .wrapping_add(there as u64);
            done.reads.push(Some(tail));
            if there > 0 {
                done.popped.extend(pop(consumer));
            }
            done.moved.push(there > 0);
        }
        done
    }
}

/// Pushes, and tells whether there was room.
fn push<M: Memory<u64>, O: Orderings>(producer: &mut Producer<u64, M, O>, value: u64) -> bool {
    match producer.push(value) {
        Ok(()) => true,
        Err(PushError::Full(returned)) => {
            assert_eq!(returned, value);
            false
        }
        Err(PushError::Violation(_, violation)) => panic!("{violation}"),
    }
}

/// Pops, if there is an element.
fn pop<M: Memory<u64>, O: Orderings>(consumer: &mut Consumer<u64, M, O>) -> Option<u64> {
    match consumer.pop() {
        Ok(value) => Some(value),
        Err(PopError::Empty) => None,
        Err(PopError::Violation(violation)) => panic!("{violation}"),
    }
}

/// Takes what is left in a ring that both sides are done with, and ends it.
fn finish<M: Memory<u64>, O: Orderings>(
    producer: Producer<u64, M, O>,
    mut consumer: Consumer<u64, M, O>,
) -> Vec<u64> {
    drop(producer);
    std::iter::from_fn(|| pop(&mut consumer)).collect()
}

/// What a model of whole runs came to.
#[derive(Debug)]
pub struct Explored {
    /// Number of executions.
    pub executions: usize,
    /// The situations that were reached.
    pub reached: BTreeSet<&'static str>,
}

/// The payload of the models below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Plain cells on the heap.
    Heap,
    /// Relaxed words in two blocks.
    Split,
}

/// Slices and chunks: one publish and one vacate for several slots.
pub fn batches<O: Orderings + 'static>(
    payload: Payload,
    capacity: usize,
    start: u64,
    shape: Shape,
) -> Explored {
    let witnesses = Witnesses::default();
    let reached = witnesses.clone();
    let name = format!("batches, {payload:?}, capacity {capacity}, start {start}, {shape:?}");
    let executions = explore(&name, move || match payload {
        Payload::Heap => {
            let (producer, consumer): HeapRing<u64, O> = ring_at(capacity, start).unwrap();
            batch_run(producer, consumer, shape, &reached);
        }
        Payload::Split => {
            let blocks = Blocks::new(capacity);
            // SAFETY: the handles are gone when `batch_run` returns.
            let ring: RecordedRing<O> = unsafe { blocks.attach(start) };
            batch_run(ring.producer, ring.consumer, shape, &reached);
        }
    });
    Explored {
        executions,
        reached: witnesses.reached(),
    }
}

fn batch_run<M: Memory<u64> + 'static, O: Orderings + 'static>(
    mut producer: Producer<u64, M, O>,
    mut consumer: Consumer<u64, M, O>,
    shape: Shape,
    witnesses: &Witnesses,
) {
    let capacity = producer.capacity();
    let ((pushed, producer), (popped, consumer)) = shape.run(
        move || {
            let mut next = FIRST;
            // A chunk of all slots, of which all but the last are committed.
            let mut refused = None;
            match producer.reserve(capacity) {
                Ok(mut chunk) => {
                    let filled = chunk.fill(next..);
                    assert_eq!(filled, capacity);
                    let committed = capacity.div_ceil(2);
                    chunk.commit(committed);
                    next += committed as u64;
                }
                Err(error) => refused = Some(error),
            }
            assert_eq!(refused, None, "the ring begins empty");
            // A slice of more than fits.
            let values: Vec<u64> = (next..).take(capacity + 1).collect();
            next += producer.push_slice(&values).unwrap() as u64;
            // A chunk of one, if there is room by now.
            match producer.reserve(1) {
                Ok(mut chunk) => {
                    chunk.push(next).unwrap();
                    chunk.commit_all();
                    next += 1;
                }
                Err(ChunkError::TooFew { available: 0, .. }) => (),
                Err(error) => panic!("{error}"),
            }
            (next - FIRST, producer)
        },
        move || {
            let mut popped = Vec::new();
            let there = consumer.slots();
            let mut chunk = consumer.read_chunk(there).unwrap();
            popped.extend(chunk.by_ref().take(1));
            // What was not taken stays in the ring.
            drop(chunk);
            let mut values = [0; 2];
            let count = consumer.pop_slice(&mut values).unwrap();
            popped.extend_from_slice(&values[..count]);
            consumer.pop_into(&mut popped, 1).unwrap();
            (popped, consumer)
        },
    );
    let in_time = popped.len();
    let arrived: Vec<u64> = popped
        .into_iter()
        .chain(finish(producer, consumer))
        .collect();
    let sent: Vec<u64> = (FIRST..FIRST + pushed).collect();
    assert_eq!(
        arrived, sent,
        "every element arrives once, in order, untorn"
    );
    witnesses.note("nothing popped", in_time == 0);
    witnesses.note("slot used again", pushed > capacity as u64);
    witnesses.note("all popped in time", in_time as u64 == pushed);
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
        let dropped_by = |side| {
            let droppers = droppers.lock().unwrap();
            droppers
                .iter()
                .filter(|(_, thread)| *thread == side)
                .count()
        };
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
        reached: witnesses.reached(),
    }
}

/// The producer leaves, and the consumer that sees it drains every element.
///
/// In this model and the next only one side asks, and its handle is dropped
/// after the join: where one thread loads the `abandoned` word and later swaps
/// it, loom 0.7.3 takes its own load for the last access that the swap depends
/// on, and never explores the executions in which the other side sees the swap.
/// (The witness "drained to the end" was missing from such a model.)
pub fn drain<O: Orderings + 'static>(
    capacity: usize,
    start: u64,
    pushes: usize,
    shape: Shape,
) -> Explored {
    let witnesses = Witnesses::default();
    let reached = witnesses.clone();
    let name = format!("drain, capacity {capacity}, {pushes} pushes, start {start}, {shape:?}");
    let executions = explore(&name, move || {
        let (mut producer, mut consumer): HeapRing<u64, O> = ring_at(capacity, start).unwrap();
        let ((pushed, ()), (popped, drained, consumer)) = shape.run(
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
        let sent: Vec<u64> = (FIRST..FIRST + pushed).collect();
        assert!(sent.starts_with(&popped), "in order: {popped:?}");
        if drained {
            assert_eq!(popped, sent, "a drained ring gives every element");
        }
        reached.note("drained to the end", drained && pushed == pushes as u64);
        reached.note("not drained", !drained);
    });
    Explored {
        executions,
        reached: witnesses.reached(),
    }
}

/// The consumer leaves, and the producer that sees it also sees what the
/// consumer did before.
pub fn consumer_leaves<O: Orderings + 'static>(
    capacity: usize,
    start: u64,
    shape: Shape,
) -> Explored {
    let witnesses = Witnesses::default();
    let reached = witnesses.clone();
    let name = format!("consumer leaves, capacity {capacity}, start {start}, {shape:?}");
    let executions = explore(&name, move || {
        let (mut producer, mut consumer): HeapRing<u64, O> = ring_at(capacity, start).unwrap();
        // loom watches it: a read that the write does not happen before fails.
        // `Rc`: loom runs its threads one at a time on one thread of the system.
        let written = Rc::new(UnsafeCell::new(0));
        let read = Rc::clone(&written);
        let ((saw, producer), ()) = shape.run(
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
        reached: witnesses.reached(),
    }
}
