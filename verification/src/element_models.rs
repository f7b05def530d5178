//! Models of the two rings of elements: the shipping code, generic over the
//! orderings, so that a mutant runs through the very models that the shipped ones
//! pass. [`index_models`](crate::index_models) and
//! [`packed_models`](crate::packed_models) say what each ring has alone.
//!
//! Both payloads are modelled, because each sees what the other does not: plain
//! cells on the heap, whose every concurrent access loom reports, and relaxed
//! words in two blocks, as between two processes. Nothing is asserted about an
//! element between its read and the vacating of its slot, since the branch
//! would order the two: the sides record, and the model looks after the join.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering as StdOrdering};
use std::sync::{Arc, Mutex};

use loom::alloc::Track;
use loom::cell::UnsafeCell;
use loom::thread::{self, ThreadId};
use memenpsf_ring::memory::Split;
use memenpsf_ring::ordering::Orderings;

use crate::enumerator::{Asking, Outcome, Run, Strength};
use crate::model::{Blocks, Explored, Shape, Witnesses, gather};

mod handles;
mod program;

pub use handles::{Element, Leave, Pop, Push};
pub use program::Program;
pub(crate) use program::{Done, FIRST};

/// Where the elements lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Plain cells on the heap.
    Heap,
    /// Relaxed words in two blocks.
    Split,
}

/// Both payloads.
pub const PAYLOADS: [Payload; 2] = [Payload::Heap, Payload::Split];

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

/// A ring of elements, where it begins, and who is spawned; and its models.
pub trait Ring: Debug + Clone + Copy + Send + Sync + 'static {
    /// What is sent over two blocks.
    type Element: Element;

    /// Returns the number of elements that fit.
    fn capacity(self) -> usize;

    /// Returns the first position.
    fn start(self) -> u64;

    /// Tells which sides are spawned.
    fn shape(self) -> Shape;

    /// Makes the ring on the heap, of any elements.
    fn heap<T: 'static, O: Orderings + 'static>(
        self,
    ) -> (impl Push<T> + Leave, impl Pop<T> + Leave);

    /// Makes the blocks of the ring.
    fn blocks(self) -> Blocks;

    /// Attaches both sides to their views of the blocks.
    ///
    /// # Safety
    ///
    /// 1. The blocks are this ring's and outlive both handles.
    /// 2. It is called once for them.
    unsafe fn attach<O: Orderings + 'static>(
        self,
        views: [Split<Self::Element>; 2],
    ) -> (impl Push<Self::Element>, impl Pop<Self::Element>);

    /// Notes the situations that this ring has alone, after so many pushes and pops.
    fn note(self, witnesses: &Witnesses, pushed: u64, popped: u64);

    /// Returns every outcome of so many attempts a side, as the enumerator knows
    /// them.
    fn expected(self, attempts: usize, asking: Asking) -> BTreeSet<Outcome> {
        let run = Run {
            capacity: self.capacity() as u64,
            attempts,
            asking,
            strength: Strength::SHIPPED,
        };
        run.explore().outcomes
    }

    /// Explores a program.
    fn explore<O: Orderings + 'static>(
        self,
        payload: Payload,
        program: Program,
    ) -> Explored<Outcome> {
        self.explore_bounded::<O>(payload, program, None)
    }

    /// Explores a program with at most so many preemptions: a control.
    fn explore_bounded<O: Orderings + 'static>(
        self,
        payload: Payload,
        program: Program,
        preemptions: Option<usize>,
    ) -> Explored<Outcome> {
        let name = format!("{program:?}, {payload:?}, {self:?}");
        gather(&name, preemptions, move |witnesses| match payload {
            Payload::Heap => {
                let (producer, consumer) = self.heap::<_, O>();
                execute(self, producer, consumer, program, witnesses)
            }
            Payload::Split => {
                let blocks = self.blocks();
                // SAFETY: the handles are gone when `execute` returns.
                let views = unsafe { blocks.views() };
                // SAFETY: as above, and the blocks are new.
                let (producer, consumer) = unsafe { self.attach::<O>(views) };
                execute(self, producer, consumer, program, witnesses)
            }
        })
    }

    /// Both sides leave, each after some work, in every order: the memory is freed
    /// once and every element is dropped once.
    fn teardown<O: Orderings + 'static>(self, pushes: usize, pops: usize) -> Explored {
        let name = format!("teardown, {pushes} pushes, {pops} pops, {self:?}");
        gather(&name, None, move |witnesses| {
            let (mut producer, mut consumer) = self.heap::<Token, O>();
            let drops: Arc<[AtomicU32]> = (0..pushes).map(|_| AtomicU32::new(0)).collect();
            let droppers = Arc::new(Mutex::new(Vec::new()));
            let (made, who) = (Arc::clone(&drops), Arc::clone(&droppers));
            let ((rejected, producing), (popped, consuming)) = self.shape().run(
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
                    let popped = (0..pops).filter(|_| consumer.pop().is_some()).count();
                    drop(consumer);
                    (popped, thread::current().id())
                },
            );
            let drops: Vec<u32> = drops.iter().map(|n| n.load(StdOrdering::Relaxed)).collect();
            assert_eq!(drops, vec![1; pushes], "every element is dropped once");
            let droppers = droppers.lock().unwrap();
            let dropped_by = |side| droppers.iter().filter(|(_, by)| *by == side).count();
            let left = pushes - rejected - popped;
            witnesses.note("nothing left", left == 0);
            witnesses.note("all left", left == pushes);
            witnesses.note(
                "producer last",
                left > 0 && dropped_by(producing) == rejected + left,
            );
            witnesses.note(
                "consumer last",
                left > 0 && dropped_by(consuming) == popped + left,
            );
        })
    }

    /// The producer leaves, and the consumer that sees it drains every element.
    ///
    /// In this model and the next only one side asks, and its handle is dropped
    /// after the join: where one thread loads the `abandoned` word and later swaps
    /// it, loom 0.7.3 takes its own load for the last access that the swap depends
    /// on, and never explores the executions in which the other side sees the swap.
    /// (The witness "drained to the end" was missing from such a model.)
    fn drain<O: Orderings + 'static>(self, pushes: usize) -> Explored {
        let name = format!("drain, {pushes} pushes, {self:?}");
        gather(&name, None, move |witnesses| {
            let (mut producer, mut consumer) = self.heap::<Self::Element, O>();
            let (pushed, (popped, drained, consumer)) = self.shape().run(
                move || {
                    let mut done = Done::default();
                    (0..pushes).for_each(|_| done.push(&mut producer));
                    drop(producer);
                    done.pushed
                },
                move || {
                    let mut popped = Vec::new();
                    for _ in 0..2 {
                        if consumer.is_abandoned() {
                            popped.extend(std::iter::from_fn(|| consumer.pop()));
                            return (popped, true, consumer);
                        }
                        popped.extend(consumer.pop());
                    }
                    (popped, false, consumer)
                },
            );
            drop(consumer);
            let sent = sent(pushed);
            assert!(sent.starts_with(&popped), "in order: {popped:?}");
            if drained {
                assert_eq!(popped, sent, "a drained ring gives every element");
            }
            witnesses.note("drained to the end", drained && pushed == pushes as u64);
            witnesses.note("not drained", !drained);
        })
    }

    /// The consumer leaves, and the producer that sees it also sees what the
    /// consumer did before.
    fn consumer_leaves<O: Orderings + 'static>(self) -> Explored {
        gather(
            &format!("consumer leaves, {self:?}"),
            None,
            move |witnesses| {
                let (mut producer, mut consumer) = self.heap::<Self::Element, O>();
                // loom watches it: a read that the write does not happen before fails.
                // `Rc`: loom runs its threads one at a time on one thread of the system.
                let written = Rc::new(UnsafeCell::new(0));
                let read = Rc::clone(&written);
                let ((saw, producer), ()) = self.shape().run(
                    move || {
                        Done::default().push(&mut producer);
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
                        consumer.pop();
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
                witnesses.note("seen to leave", saw.is_some());
                witnesses.note("not seen to leave", saw.is_none());
            },
        )
    }
}

/// The first so many elements.
fn sent<T: Element>(count: u64) -> Vec<T> {
    (FIRST..FIRST + count).map(T::of).collect()
}

/// One execution of a program.
fn execute<R: Ring>(
    ring: R,
    mut producer: impl Push<R::Element>,
    mut consumer: impl Pop<R::Element>,
    program: Program,
    witnesses: &Witnesses,
) -> Outcome {
    let ((produced, producer), (consumed, consumer)) = ring.shape().run(
        move || (program.produce(ring, &mut producer), producer),
        move || (program.consume(ring, &mut consumer), consumer),
    );
    judge(ring, witnesses, (produced, producer), (consumed, consumer))
}

/// Looks at what both sides have done, takes what is left in the ring, and ends it.
pub(crate) fn judge<R: Ring>(
    ring: R,
    witnesses: &Witnesses,
    (produced, producer): (Done<R::Element>, impl Push<R::Element>),
    (consumed, mut consumer): (Done<R::Element>, impl Pop<R::Element>),
) -> Outcome {
    let pushed = produced.pushed;
    assert_eq!(producer.position().wrapping_sub(ring.start()), pushed);
    let mut arrived = consumed.popped;
    let in_time = arrived.len() as u64;
    assert_eq!(consumer.position().wrapping_sub(ring.start()), in_time);
    drop(producer);
    arrived.extend(std::iter::from_fn(|| consumer.pop()));
    assert_eq!(
        arrived,
        sent(pushed),
        "every element arrives once, in order, untorn"
    );
    let every_one = !consumed.moved.is_empty() && !consumed.moved.contains(&false);
    witnesses.note("full", produced.moved.contains(&false));
    witnesses.note("empty", consumed.moved.contains(&false));
    witnesses.note("every attempt popped", every_one);
    witnesses.note("all popped in time", in_time == pushed);
    witnesses.note("none popped in time", in_time == 0);
    ring.note(witnesses, pushed, in_time);
    Outcome {
        heads: produced.reads,
        tails: consumed.reads,
    }
}
