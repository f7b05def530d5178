//! The three rings behind one face, over two blocks, for models of what goes on
//! around a ring: sleeping and waking, ends, late attachment, sides that stop.
//!
//! A message is a number in each of `W` words, so that a torn one shows. The rings
//! and their orderings are the shipping code, and so is the memory under them,
//! [`Split`]; a [`Mortal`] only decides how many of its side's accesses still take
//! place.

use std::cell::Cell;
use std::fmt::Debug;
use std::rc::Rc;

use loom::sync::atomic::{AtomicU64, Ordering};
use memenpsf_ring::memory::{ByteMemory, CONSUMER_BLOCK, Memory, Split};
use memenpsf_ring::ordering::{Orderings, Shipped};
use memenpsf_ring::wake::WAITING_BLOCK;
use memenpsf_ring::{PopError, PushError, RecordError, bytes, index, packed};

use crate::blocks::Block;

/// How many accesses to shared words a side still makes. Clones share the count.
///
/// `Rc`: loom runs its threads one at a time on one thread of the system.
#[derive(Debug, Clone, Default)]
pub struct Life(Rc<Cell<Left>>);

/// What is left of a life.
#[derive(Debug, Clone, Copy, Default)]
enum Left {
    #[default]
    Endless,
    Accesses(usize),
    Nothing,
}

impl Life {
    /// From now on, so many accesses take place and no more.
    pub fn limit(&self, accesses: usize) {
        self.0.set(Left::Accesses(accesses));
    }

    /// Counts an access, and tells whether it takes place.
    pub fn goes_on(&self) -> bool {
        let (left, goes_on) = match self.0.get() {
            Left::Endless => (Left::Endless, true),
            Left::Accesses(0) | Left::Nothing => (Left::Nothing, false),
            Left::Accesses(left) => (Left::Accesses(left - 1), true),
        };
        self.0.set(left);
        goes_on
    }

    /// Tells whether an access did not take place any more.
    pub fn is_over(&self) -> bool {
        matches!(self.0.get(), Left::Nothing)
    }
}

/// A side's memory, whose stores have no effect once the side has stopped.
///
/// A store that has no effect and one that is never made are the same to the peer.
/// Loads go on: nobody sees them, and the ring needs a legal answer until the model
/// leaves it.
#[derive(Debug)]
pub struct Mortal {
    memory: Split<u64>,
    life: Life,
}

// SAFETY: all that takes place is passed on to a memory that keeps the contract, an
// element word by word as `Split` moves it.
unsafe impl<const W: usize> Memory<[u64; W]> for Mortal {
    const STRIDE: usize = 8 * W;

    unsafe fn store(&self, word: usize, value: u64, order: Ordering) {
        if self.life.goes_on() {
            // SAFETY: the caller's obligation.
            unsafe { self.memory.store(word, value, order) };
        }
    }

    unsafe fn load(&self, word: usize, order: Ordering) -> u64 {
        self.life.goes_on();
        // SAFETY: the caller's obligation.
        unsafe { self.memory.load(word, order) }
    }

    unsafe fn write(&self, slot: usize, value: [u64; W]) {
        for (index, word) in value.into_iter().enumerate() {
            if self.life.goes_on() {
                // SAFETY: the word lies in the slot, which is vacant.
                unsafe { self.memory.write(slot + 8 * index, word) };
            }
        }
    }

    unsafe fn read(&self, slot: usize) -> [u64; W] {
        std::array::from_fn(|index| {
            self.life.goes_on();
            // SAFETY: the word lies in the slot.
            unsafe { self.memory.read(slot + 8 * index) }
        })
    }

    unsafe fn take_back(&self, slot: usize) -> [u64; W] {
        // SAFETY: the words lie in the slot, which is vacant.
        std::array::from_fn(|index| unsafe { self.memory.take_back(slot + 8 * index) })
    }
}

// SAFETY: as above.
unsafe impl Memory<u64> for Mortal {
    const STRIDE: usize = 8;

    unsafe fn store(&self, word: usize, value: u64, order: Ordering) {
        // SAFETY: the caller's obligation.
        unsafe { Memory::<[u64; 1]>::store(self, word, value, order) };
    }

    unsafe fn load(&self, word: usize, order: Ordering) -> u64 {
        // SAFETY: the caller's obligation.
        unsafe { Memory::<[u64; 1]>::load(self, word, order) }
    }

    unsafe fn write(&self, slot: usize, value: u64) {
        // SAFETY: the caller's obligation.
        unsafe { Memory::write(self, slot, [value]) };
    }

    unsafe fn read(&self, slot: usize) -> u64 {
        // SAFETY: the caller's obligation.
        let [value] = unsafe { Memory::read(self, slot) };
        value
    }

    unsafe fn take_back(&self, slot: usize) -> u64 {
        // SAFETY: the caller's obligation.
        let [value] = unsafe { Memory::take_back(self, slot) };
        value
    }
}

// SAFETY: as above; a run is moved word by word, as `Split` moves it in a model.
unsafe impl ByteMemory for Mortal {
    unsafe fn copy_in(&self, to: usize, from: &[u8]) {
        for (index, word) in from.chunks(8).enumerate() {
            if self.life.goes_on() {
                // SAFETY: the word lies in the run, which is vacant.
                unsafe { self.memory.copy_in(to + 8 * index, word) };
            }
        }
    }

    unsafe fn copy_out(&self, from: usize, to: *mut u8, len: usize) {
        self.life.goes_on();
        // SAFETY: the caller's obligation.
        unsafe { self.memory.copy_out(from, to, len) };
    }
}

/// Which of the two sides a handle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It pushes.
    Producer,
    /// It pops.
    Consumer,
}

/// The blocks of a connection in one direction: those of a ring, and the two
/// endpoints' waiting words. They must outlive all handles.
#[derive(Debug)]
pub struct Blocks {
    producer: Block,
    consumer: Block,
    producer_waiting: Block,
    consumer_waiting: Block,
}

impl Blocks {
    /// Makes the blocks of a ring whose producer block has `size` bytes and whose
    /// head word holds `head`.
    fn new(size: usize, head: u64) -> Self {
        let block = |size: usize, first: u64| {
            const { assert!(size_of::<AtomicU64>() == 8) };
            let block = Block::new(size);
            for word in 0..size / 8 {
                let value = if word == 0 { first } else { 0 };
                // SAFETY: within the block.
                let word = unsafe { block.start().add(8 * word) };
                // SAFETY: within the block, aligned, and nobody else has it yet.
                unsafe { word.cast().write(AtomicU64::new(value)) };
            }
            block
        };
        // Of the small blocks only the words that are used: each is an object of
        // the model, and of those there is a limited number.
        let sparse = |size: usize, words: &[usize], first: u64| {
            let block = Block::new(size);
            for &at in words {
                // SAFETY: within the block.
                let word = unsafe { block.start().add(at) };
                // SAFETY: within the block, aligned, and nobody else has it yet.
                unsafe { word.cast().write(AtomicU64::new(first)) };
            }
            block
        };
        Self {
            producer: block(size, 0),
            consumer: sparse(CONSUMER_BLOCK, &[0], head),
            producer_waiting: sparse(WAITING_BLOCK, &[0, 64], 0),
            consumer_waiting: sparse(WAITING_BLOCK, &[0, 64], 0),
        }
    }

    /// Returns one side's view of the ring.
    ///
    /// # Safety
    ///
    /// 1. The blocks outlive what the view is given to.
    /// 2. Only one handle at a time has the view of a side.
    unsafe fn ring(&self, side: Side, life: &Life) -> Mortal {
        let (producer, consumer) = (self.producer.start(), self.consumer.start());
        let (own, peer) = match side {
            Side::Producer => (producer, consumer),
            Side::Consumer => (consumer, producer),
        };
        Mortal {
            // SAFETY: both are aligned, as large as the layout says, and live long
            // enough (obligation 1); one handle writes each (obligation 2).
            memory: unsafe { Split::new(own, peer) },
            life: life.clone(),
        }
    }

    /// Returns one side's view of the waiting words.
    ///
    /// # Safety
    ///
    /// 1. The blocks outlive what the view is given to.
    /// 2. One sleeper a side, at most.
    pub unsafe fn waiting(&self, side: Side, life: &Life) -> Mortal {
        let (producer, consumer) = (self.producer_waiting.start(), self.consumer_waiting.start());
        let (own, peer) = match side {
            Side::Producer => (producer, consumer),
            Side::Consumer => (consumer, producer),
        };
        Mortal {
            // SAFETY: as in `ring`.
            memory: unsafe { Split::new(own, peer) },
            life: life.clone(),
        }
    }
}

/// A producer of any ring.
pub trait Push: Debug {
    /// Pushes message `number`, and tells whether there was room.
    fn push(&mut self, number: u64) -> bool;

    /// Tells whether there is room, for the second look of one that is to sleep.
    fn has_room(&mut self) -> bool;
}

/// A consumer of any ring.
pub trait Pop: Debug {
    /// Pops, if there is a message, and returns its words.
    fn pop(&mut self) -> Option<Vec<u64>>;

    /// Tells whether there is a message, for the second look.
    fn has_message(&mut self) -> bool;

    /// Returns the position that a successor of this consumer is told.
    fn position(&self) -> u64;
}

/// A ring of one kind, and its first position.
pub trait Kind: Debug + Clone + Copy + Send + Sync + 'static {
    /// Its producer.
    type Producer<O: Orderings + 'static>: Push + 'static;
    /// Its consumer.
    type Consumer<O: Orderings + 'static>: Pop + 'static;

    /// Makes the blocks of a ring that begins at `start`, as their owner leaves them
    /// before it tells both sides of them.
    fn blocks(self, start: u64) -> Blocks;

    /// Attaches the producer at `start`.
    ///
    /// # Safety
    ///
    /// 1. The blocks are this ring's and outlive the handle, and no other handle is
    ///    this side.
    unsafe fn producer<O: Orderings + 'static>(
        self,
        blocks: &Blocks,
        start: u64,
        life: &Life,
    ) -> Self::Producer<O>;

    /// Attaches the consumer at `start`.
    ///
    /// # Safety
    ///
    /// 1. As for [`producer`](Self::producer).
    unsafe fn consumer<O: Orderings + 'static>(
        self,
        blocks: &Blocks,
        start: u64,
        life: &Life,
    ) -> Self::Consumer<O>;

    /// Returns first positions: 0, as much further on as fits, and the last before
    /// the wrap.
    fn starts(self) -> [u64; 3];
}

/// An index ring for so many messages of `W` words.
#[derive(Debug, Clone, Copy)]
pub struct Index<const W: usize>(pub usize);

/// A packed ring for so many messages of `W` words.
#[derive(Debug, Clone, Copy)]
pub struct Packed<const W: usize>(pub usize);

/// A bytes ring for at least so many messages of `W` words.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<const W: usize>(pub usize);

/// Both handles of a ring of elements, by its module.
macro_rules! of_elements {
    ($kind:ident, $module:ident) => {
        impl<const W: usize, O: Orderings> Push for $module::Producer<[u64; W], Mortal, O> {
            fn push(&mut self, number: u64) -> bool {
                match self.push([number; W]) {
                    Ok(()) => true,
                    Err(PushError::Full(_)) => false,
                    Err(PushError::Violation(_, violation)) => panic!("{violation}"),
                }
            }

            fn has_room(&mut self) -> bool {
                !self.is_full()
            }
        }

        impl<const W: usize, O: Orderings> Pop for $module::Consumer<[u64; W], Mortal, O> {
            fn pop(&mut self) -> Option<Vec<u64>> {
                match self.pop() {
                    Ok(words) => Some(words.to_vec()),
                    Err(PopError::Empty) => None,
                    Err(PopError::Violation(violation)) => panic!("{violation}"),
                }
            }

            fn has_message(&mut self) -> bool {
                !self.is_empty()
            }

            fn position(&self) -> u64 {
                self.position()
            }
        }

        impl<const W: usize> Kind for $kind<W> {
            type Producer<O: Orderings + 'static> = $module::Producer<[u64; W], Mortal, O>;
            type Consumer<O: Orderings + 'static> = $module::Consumer<[u64; W], Mortal, O>;

            fn blocks(self, start: u64) -> Blocks {
                let size = $module::producer_block::<[u64; W]>(self.0).unwrap().size();
                let blocks = Blocks::new(size, start);
                // Zeroed memory is a ring that begins at 0. Any other has its tail or its
                // headers written.
                if start != 0 {
                    let life = Life::default();
                    // SAFETY: the handle is gone at once.
                    drop(unsafe { self.producer::<Shipped>(&blocks, start, &life) });
                }
                blocks
            }

            unsafe fn producer<O: Orderings + 'static>(
                self,
                blocks: &Blocks,
                start: u64,
                life: &Life,
            ) -> Self::Producer<O> {
                // SAFETY: the caller's obligation.
                let memory = unsafe { blocks.ring(Side::Producer, life) };
                // SAFETY: the caller's obligation.
                unsafe { $module::Producer::attach(memory, self.0, start) }.unwrap()
            }

            unsafe fn consumer<O: Orderings + 'static>(
                self,
                blocks: &Blocks,
                start: u64,
                life: &Life,
            ) -> Self::Consumer<O> {
                // SAFETY: the caller's obligation.
                let memory = unsafe { blocks.ring(Side::Consumer, life) };
                // SAFETY: the caller's obligation.
                unsafe { $module::Consumer::attach(memory, self.0, start) }.unwrap()
            }

            fn starts(self) -> [u64; 3] {
                [0, self.0 as u64, u64::MAX]
            }
        }
    };
}

of_elements!(Index, index);
of_elements!(Packed, packed);

impl<O: Orderings> Push for bytes::Producer<Mortal, O> {
    fn push(&mut self, number: u64) -> bool {
        let message: Vec<u8> = (number.to_ne_bytes().into_iter().cycle())
            .take(self.max_message())
            .collect();
        match self.push(&message) {
            Ok(()) => true,
            Err(RecordError::Full { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn has_room(&mut self) -> bool {
        self.fits(self.max_message())
    }
}

impl<O: Orderings> Pop for bytes::Consumer<Mortal, O> {
    fn pop(&mut self) -> Option<Vec<u64>> {
        match self.pop() {
            Ok(message) => {
                let (words, rest) = message.as_chunks();
                assert!(rest.is_empty());
                Some(words.iter().map(|word| u64::from_ne_bytes(*word)).collect())
            }
            Err(PopError::Empty) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn has_message(&mut self) -> bool {
        !self.is_empty()
    }

    fn position(&self) -> u64 {
        self.position()
    }
}

impl<const W: usize> Bytes<W> {
    /// Returns the bytes of storage.
    fn storage(self) -> usize {
        let records = self.0 * (8 + 8 * W);
        // The end of a short record may move to that of its line.
        let lines = records.next_multiple_of(64);
        let records = if self.0 == 1 { records } else { lines };
        let mut storage = (records + 8).next_power_of_two();
        while bytes::longest_message(storage).unwrap() < 8 * W {
            storage *= 2;
        }
        storage
    }
}

impl<const W: usize> Kind for Bytes<W> {
    type Producer<O: Orderings + 'static> = bytes::Producer<Mortal, O>;
    type Consumer<O: Orderings + 'static> = bytes::Consumer<Mortal, O>;

    fn blocks(self, start: u64) -> Blocks {
        let block = bytes::producer_block(self.storage(), 8 * W).unwrap();
        // A header of 0 says that there is no record yet.
        Blocks::new(block.size(), start)
    }

    unsafe fn producer<O: Orderings + 'static>(
        self,
        blocks: &Blocks,
        start: u64,
        life: &Life,
    ) -> Self::Producer<O> {
        // SAFETY: the caller's obligation.
        let memory = unsafe { blocks.ring(Side::Producer, life) };
        // SAFETY: the caller's obligation.
        unsafe { bytes::Producer::attach(memory, self.storage(), 8 * W, start) }.unwrap()
    }

    unsafe fn consumer<O: Orderings + 'static>(
        self,
        blocks: &Blocks,
        start: u64,
        life: &Life,
    ) -> Self::Consumer<O> {
        // SAFETY: the caller's obligation.
        let memory = unsafe { blocks.ring(Side::Consumer, life) };
        // SAFETY: the caller's obligation.
        unsafe { bytes::Consumer::attach(memory, self.storage(), 8 * W, start) }.unwrap()
    }

    fn starts(self) -> [u64; 3] {
        [0, self.storage() as u64, u64::MAX - 7]
    }
}
