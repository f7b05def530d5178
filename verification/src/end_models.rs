//! Models of ends: a side that closes, one that stops at any of its accesses, and
//! one that attaches while the other already works.
//!
//! Whoever stops, the kernel then closes its socket, and the survivor sees that end
//! after all that the other has done. It must be left with a clean prefix: every
//! message whose push came back, at most one more, each once, in order, untorn.
//! A survivor that sleeps for ever is a deadlock, which loom reports.

use std::collections::BTreeSet;
use std::rc::Rc;

use memenpsf_ring::ordering::Orderings;

use crate::model::{Explored, Shape, Witnesses, gather};
use crate::rings::{Kind, Life, Pop, Push, Side};
use crate::wake_models::{Defect, Endpoint, FIRST, Socket, assert_prefix};

/// A connection of which one side goes before the other.
#[derive(Debug, Clone, Copy)]
pub struct Parting<K: Kind> {
    /// The ring.
    pub kind: K,
    /// Messages that are in the ring when the two sides begin.
    pub before: u64,
    /// Messages that the producer sends, or would.
    pub messages: u64,
    /// Whether a consumer that stays sleeps for each message, or tries once and then
    /// waits for the end: fewer executions, so more messages.
    pub sleeps: bool,
    /// The side that goes.
    pub leaver: Side,
    /// How many of its accesses still take place; `None` for all of them.
    pub accesses: Option<usize>,
    /// Which sides are spawned.
    pub shape: Shape,
    /// What is done wrong.
    pub defect: Defect,
}

impl<K: Kind> Parting<K> {
    /// Explores it.
    ///
    /// The situation "stopped" is reached when `accesses` ended before the leaver's
    /// work did.
    pub fn explore<O: Orderings + 'static>(self) -> Explored {
        gather(&format!("{self:?}"), None, move |witnesses| {
            self.execute::<O>(witnesses);
        })
    }

    fn execute<O: Orderings + 'static>(self, witnesses: &Witnesses) {
        let blocks = self.kind.blocks(0);
        let sockets = <[Rc<Socket>; 2]>::default();
        let lives = <[Life; 2]>::default();
        // SAFETY: the handles are gone when the execution ends.
        let mut producer = unsafe { self.kind.producer::<O>(&blocks, 0, &lives[0]) };
        // SAFETY: as above.
        let mut consumer = unsafe { self.kind.consumer::<O>(&blocks, 0, &lives[1]) };
        let endpoint = |side, life: &Life| {
            // SAFETY: as above.
            unsafe { Endpoint::<O>::new(&blocks, side, &sockets, life.clone(), self.defect) }
        };
        let mut pushing = endpoint(Side::Producer, &lives[0]);
        let mut popping = endpoint(Side::Consumer, &lives[1]);
        for number in FIRST..FIRST + self.before {
            assert!(producer.push(number));
        }
        // Not before: what a side does while it attaches is of no account to a peer
        // that has yet to be told of it.
        if let Some(accesses) = self.accesses {
            lives[self.leaver as usize].limit(accesses);
        }
        let [to_producer, to_consumer] = sockets.clone();
        let (pushed, popped) = self.shape.run(
            move || {
                let first = FIRST + self.before;
                let pushed = pushing.push_all(&mut producer, first, self.messages);
                if self.leaver == Side::Producer {
                    to_consumer.end();
                }
                pushed
            },
            move || {
                let popped = match self.leaver {
                    Side::Consumer => popping.pop_all(&mut consumer, 1),
                    Side::Producer if self.sleeps => popping.pop_all(&mut consumer, u64::MAX),
                    Side::Producer => popping.pop_after_end(&mut consumer),
                };
                if self.leaver == Side::Consumer {
                    to_producer.end();
                }
                popped
            },
        );
        assert_prefix(&popped);
        let arrived = popped.len() as u64;
        let stopped = lives.iter().any(Life::is_over);
        match self.leaver {
            Side::Producer => {
                assert!(
                    (pushed..=pushed + u64::from(stopped)).contains(&arrived),
                    "{arrived} arrived of {pushed}"
                );
                witnesses.note("all arrived", arrived == self.messages);
                witnesses.note("one that was not told", arrived > pushed);
            }
            Side::Consumer => {
                witnesses.note("producer stopped early", pushed < self.messages);
            }
        }
        witnesses.note("stopped", stopped);
    }
}

/// A producer that begins while its consumer still attaches.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<K: Kind> {
    /// The ring.
    pub kind: K,
    /// Messages that the producer tries to push, once each, and the consumer to pop.
    pub attempts: u64,
    /// First position.
    pub start: u64,
    /// The first position that the blocks' owner has prepared them for.
    pub prepared: u64,
    /// Which sides are spawned.
    pub shape: Shape,
}

impl<K: Kind> Arrival<K> {
    /// Explores it: each side attaches on its own thread, to blocks as their owner
    /// leaves them.
    pub fn explore<O: Orderings + 'static>(self) -> Explored {
        gather(&format!("{self:?}"), None, move |reached| {
            let blocks = Rc::new(self.kind.blocks(self.prepared));
            let [ours, theirs] = [Rc::clone(&blocks), Rc::clone(&blocks)];
            let (pushed, popped) = self.shape.run(
                move || {
                    let life = Life::default();
                    // SAFETY: the handle is gone when the blocks are.
                    let mut producer = unsafe { self.kind.producer::<O>(&ours, self.start, &life) };
                    let numbers = FIRST..FIRST + self.attempts;
                    numbers.take_while(|&number| producer.push(number)).count()
                },
                move || {
                    let life = Life::default();
                    // SAFETY: as above.
                    let mut consumer =
                        unsafe { self.kind.consumer::<O>(&theirs, self.start, &life) };
                    let attempts = 0..self.attempts;
                    let popped: Vec<_> = attempts.filter_map(|_| consumer.pop()).collect();
                    popped
                },
            );
            assert_prefix(&popped);
            assert!(popped.len() <= pushed);
            reached.note("nothing in time", popped.is_empty());
            reached.note("all in time", popped.len() as u64 == self.attempts);
        })
    }
}

/// The situations that both sides of an [`Arrival`] must reach.
pub fn arrivals() -> BTreeSet<&'static str> {
    BTreeSet::from(["nothing in time", "all in time"])
}
