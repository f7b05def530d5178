//! Models of sleeping and waking: the shipping [`Sleeper`] and [`Waker`] around the
//! shipping rings.
//!
//! A sleep is a wait for a byte in the side's own socket, with nothing else that
//! could end it. So a lost wake-up is a deadlock, which loom reports.
//!
//! ```text
//!   side that waits                          side that moves a message
//!   pop, or push  ──▶ done                   push, or pop
//!     │ nothing there                        must_wake (W2, W3)
//!   announce (S1, S2)                          │ yes
//!   look again (S3) ──▶ there                send a byte (W4)
//!     │ nothing there
//!   wait for a byte (S4)
//!   awake (S5), and from the top
//! ```
//!
//! The socket keeps a byte until it is read, and gives several as one: a socket
//! that gives them one by one ends more sleeps, not fewer.

use std::collections::BTreeSet;
use std::rc::Rc;

use loom::sync::Notify;
use loom::sync::atomic::{AtomicBool, Ordering};
use memenpsf_ring::ordering::Orderings;
use memenpsf_ring::wake::{For, Sleeper, Waker};

use crate::model::{Explored, Shape, Witnesses, gather};
use crate::rings::{Blocks, Kind, Life, Mortal, Pop, Push, Side};

/// What is done wrong around the shipping code, for controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// Nothing.
    None,
    /// The sleeper does not look again (S3).
    NoSecondLook,
    /// The sleeper looks again and announces afterwards.
    LateAnnouncement,
    /// The waker asks before it publishes, and not after (W3 before W1).
    EarlyQuestion,
    /// The sleeper does not look at the socket's end.
    EndIgnored,
    /// The consumer that has seen the end leaves what was committed.
    NotDrained,
}

/// One side's end of the socket.
#[derive(Debug, Default)]
pub(crate) struct Socket {
    /// A byte that was not read.
    byte: Notify,
    /// The other end is gone. Release and Acquire: what a process did before its
    /// socket was closed is seen by who reads the end, by way of the kernel.
    ended: AtomicBool,
}

impl Socket {
    /// Sends a byte to it.
    fn wake(&self) {
        self.byte.notify();
    }

    /// Ends the other end, as a close or the death of its process does.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.byte.notify();
    }

    /// Tells whether the other end is gone.
    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// One side of a connection: whom it wakes, and how it sleeps.
#[derive(Debug)]
pub(crate) struct Endpoint<O: Orderings> {
    sleeper: Sleeper<Mortal, O>,
    waker: Waker<Mortal, O>,
    own: Rc<Socket>,
    peer: Rc<Socket>,
    life: Life,
    defect: Defect,
    /// What its sleeps came to.
    slept: Slept,
}

/// How often a side slept, and how often it was spared it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Slept {
    slept: usize,
    found: usize,
    sent: usize,
}

impl<O: Orderings> Endpoint<O> {
    /// Makes one side's endpoint.
    ///
    /// # Safety
    ///
    /// 1. The blocks outlive it, and it is the only one of its side.
    pub(crate) unsafe fn new(
        blocks: &Blocks,
        side: Side,
        sockets: &[Rc<Socket>; 2],
        life: Life,
        defect: Defect,
    ) -> Self {
        let [producer, consumer] = sockets.clone();
        let (sleeps_for, wakes_for, own, peer) = match side {
            Side::Producer => (For::Space, For::Data, producer, consumer),
            Side::Consumer => (For::Data, For::Space, consumer, producer),
        };
        // SAFETY: the caller's obligation.
        let words = || unsafe { blocks.waiting(side, &life) };
        Self {
            sleeper: Sleeper::new(words(), sleeps_for),
            waker: Waker::new(words(), wakes_for, true),
            own,
            peer,
            life,
            defect,
            slept: Slept::default(),
        }
    }

    /// Moves a message by `publish` and wakes the peer if it sleeps for that.
    fn publish(&mut self, publish: impl FnOnce() -> bool) -> bool {
        let early = self.defect == Defect::EarlyQuestion && self.waker.must_wake();
        let moved = publish();
        let wake = match self.defect {
            Defect::EarlyQuestion => early,
            _ => moved && self.waker.must_wake(),
        };
        if wake && self.life.goes_on() {
            self.slept.sent += 1;
            self.peer.wake();
        }
        moved
    }

    /// Sleeps unless `ready`. `true` means that the other side has ended and that
    /// this was known before it looked last.
    fn sleep(&mut self, mut ready: impl FnMut() -> bool) -> bool {
        if self.defect != Defect::EndIgnored && self.own.has_ended() {
            return true;
        }
        let ready = match self.defect {
            Defect::NoSecondLook => {
                self.sleeper.announce(true);
                false
            }
            Defect::LateAnnouncement => {
                let ready = ready();
                self.sleeper.announce(true);
                ready
            }
            _ => {
                self.sleeper.announce(true);
                ready()
            }
        };
        if ready {
            self.slept.found += 1;
        } else if !self.life.is_over() {
            self.slept.slept += 1;
            self.own.byte.wait();
        }
        self.sleeper.awake();
        false
    }

    /// Pushes so many messages, the first of them `first`, sleeping for room where it
    /// must, and returns how many calls have come back before the side stopped or saw
    /// the other's end.
    pub(crate) fn push_all(&mut self, producer: &mut impl Push, first: u64, messages: u64) -> u64 {
        let mut pushed = 0;
        while pushed < messages {
            let moved = self.publish(|| producer.push(first + pushed));
            if self.life.is_over() {
                break;
            }
            if moved {
                pushed += 1;
            } else if self.sleep(|| producer.has_room()) {
                break;
            }
        }
        pushed
    }

    /// Pops so many messages, sleeping for them where it must, until the side stops
    /// or has drained what the other has left behind.
    pub(crate) fn pop_all(&mut self, consumer: &mut impl Pop, messages: u64) -> Vec<Vec<u64>> {
        let mut popped = Vec::new();
        let mut ended = false;
        while (popped.len() as u64) < messages {
            let mut message = None;
            self.publish(|| {
                message = consumer.pop();
                message.is_some()
            });
            if self.life.is_over() {
                break;
            }
            match message {
                Some(message) => popped.push(message),
                None if ended => break,
                None => ended = self.sleep(|| consumer.has_message()),
            }
            if ended && self.defect == Defect::NotDrained {
                break;
            }
        }
        popped
    }

    /// Tries once, and drains what is left when the other side has ended.
    pub(crate) fn pop_after_end(&mut self, consumer: &mut impl Pop) -> Vec<Vec<u64>> {
        let mut popped: Vec<_> = consumer.pop().into_iter().collect();
        while !self.own.has_ended() {
            self.own.byte.wait();
        }
        popped.extend(std::iter::from_fn(|| consumer.pop()));
        popped
    }
}

/// The first message's number; no word's initial value.
pub(crate) const FIRST: u64 = 100;

/// Fails unless the messages are the first so many, untorn.
pub(crate) fn assert_prefix(messages: &[Vec<u64>]) {
    for (number, message) in (FIRST..).zip(messages) {
        assert!(
            message.iter().all(|&word| word == number),
            "every message arrives once, in order, untorn: {messages:?}"
        );
    }
}

/// Two sides that sleep when they must.
#[derive(Debug, Clone, Copy)]
pub struct Talk<K: Kind> {
    /// The ring.
    pub kind: K,
    /// Messages that are in the ring when the two sides begin: as many as fit, for
    /// a producer that sleeps.
    pub before: u64,
    /// Messages that the producer sends.
    pub pushes: u64,
    /// Messages that the consumer takes.
    pub pops: u64,
    /// Which sides are spawned.
    pub shape: Shape,
    /// What is done wrong.
    pub defect: Defect,
}

impl<K: Kind> Talk<K> {
    /// Explores it. No message is lost and nobody sleeps for ever.
    pub fn explore<O: Orderings + 'static>(self) -> Explored {
        gather(&format!("{self:?}"), None, move |reached| {
            let blocks = self.kind.blocks(0);
            let life = Life::default();
            // SAFETY: the handles are gone when the execution ends.
            let mut producer = unsafe { self.kind.producer::<O>(&blocks, 0, &life) };
            // SAFETY: as above.
            let mut consumer = unsafe { self.kind.consumer::<O>(&blocks, 0, &life) };
            let sockets = <[Rc<Socket>; 2]>::default();
            let endpoint = |side| {
                // SAFETY: as above.
                unsafe { Endpoint::<O>::new(&blocks, side, &sockets, life.clone(), self.defect) }
            };
            let (mut pushing, mut popping) = (endpoint(Side::Producer), endpoint(Side::Consumer));
            for number in FIRST..FIRST + self.before {
                assert!(producer.push(number));
            }
            if self.before > 0 {
                assert!(!producer.has_room(), "a producer that is to sleep");
            }
            let ((pushed, produced), (popped, consumed)) = self.shape.run(
                move || {
                    let first = FIRST + self.before;
                    let pushed = pushing.push_all(&mut producer, first, self.pushes);
                    (pushed, pushing.slept)
                },
                move || {
                    let popped = popping.pop_all(&mut consumer, self.pops);
                    (popped, popping.slept)
                },
            );
            assert_eq!(popped.len() as u64, self.pops);
            assert_eq!(pushed, self.pushes);
            assert_prefix(&popped);
            note(reached, "consumer", consumed, produced.sent);
            note(reached, "producer", produced, consumed.sent);
        })
    }
}

/// Notes how the sleeps of one side went, to which the other has sent so many bytes.
fn note(witnesses: &Witnesses, side: &str, sleeps: Slept, sent: usize) {
    let consumer = side == "consumer";
    let of = |consumers, producers| if consumer { consumers } else { producers };
    witnesses.note(
        of("consumer slept", "producer slept"),
        sleeps.slept > 0 && sent > 0,
    );
    witnesses.note(
        of("consumer found it in time", "producer found it in time"),
        sleeps.found > 0,
    );
    witnesses.note(
        of("consumer never waited", "producer never waited"),
        sleeps.found + sleeps.slept == 0,
    );
    witnesses.note(
        of("consumer woken in vain", "producer woken in vain"),
        sent > sleeps.slept,
    );
}

/// The situations that a side which sleeps must reach.
pub fn situations(side: Side) -> BTreeSet<&'static str> {
    match side {
        Side::Consumer => BTreeSet::from([
            "consumer slept",
            "consumer found it in time",
            "consumer never waited",
            "consumer woken in vain",
        ]),
        Side::Producer => BTreeSet::from([
            "producer slept",
            "producer found it in time",
            "producer never waited",
            "producer woken in vain",
        ]),
    }
}
