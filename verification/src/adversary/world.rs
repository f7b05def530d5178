//! Two blocks, a peer that disturbs its own at every access, and notes of what the
//! call in progress has accessed.

use std::cell::{RefCell, RefMut};
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use memenpsf_ring::Plain;
use memenpsf_ring::memory::{ByteMemory, Memory};

use super::Defect;
use crate::random::Random;

/// An access, in the order in which they were made.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Access {
    /// A word of the peer's.
    Load { word: usize, value: u64 },
    /// An own word.
    Store { word: usize, value: u64 },
    /// A slot, or a run of bytes, of the peer's.
    Read { at: usize, bytes: Vec<u8> },
    /// An own slot, or a run of own bytes.
    Write { at: usize, bytes: Vec<u8> },
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load { word, value } => write!(f, "load at {word}: {value:#x}"),
            Self::Store { word, value } => write!(f, "store at {word}: {value:#x}"),
            Self::Read { at, bytes } => write!(f, "read of {} bytes at {at}", bytes.len()),
            Self::Write { at, bytes } => write!(f, "write of {} bytes at {at}", bytes.len()),
        }
    }
}

/// Values that a word of the peer's may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hint {
    pub(super) word: usize,
    pub(super) value: u64,
}

/// What the peer may do between two accesses.
#[derive(Debug, Default)]
pub(super) struct Tricks {
    /// Words that let the ring get on.
    pub(super) honest: Vec<Hint>,
    /// Words that are false, or nearly so.
    pub(super) false_ones: Vec<Hint>,
    /// Where its payload lies: any byte of it may change at any time.
    pub(super) payload: Vec<usize>,
}

/// One in so many disturbances is one that an honest peer would not make.
const HONESTY: usize = 300;

#[derive(Debug)]
pub(super) struct World {
    random: Random,
    defect: Option<Defect>,
    /// The own block, as words of 16 bytes so that slots are aligned.
    own: Vec<u128>,
    own_size: usize,
    peer: Vec<u128>,
    peer_size: usize,
    pub(super) tricks: Tricks,
    pub(super) log: Vec<Access>,
}

impl World {
    pub(super) fn new(
        random: Random,
        defect: Option<Defect>,
        own_size: usize,
        peer_size: usize,
    ) -> Rc<RefCell<Self>> {
        let block = |size: usize| vec![0; size.div_ceil(16)];
        Rc::new(RefCell::new(Self {
            random,
            defect,
            own: block(own_size),
            own_size,
            peer: block(peer_size),
            peer_size,
            tricks: Tricks::default(),
            log: Vec::new(),
        }))
    }

    /// Returns the bytes of the own block.
    pub(super) fn own(&mut self) -> &mut [u8] {
        &mut zerocopy::IntoBytes::as_mut_bytes(self.own.as_mut_slice())[..self.own_size]
    }

    fn peer(&mut self) -> &mut [u8] {
        &mut zerocopy::IntoBytes::as_mut_bytes(self.peer.as_mut_slice())[..self.peer_size]
    }

    pub(super) fn set(&mut self, Hint { word, value }: Hint) {
        self.peer()[word..word + 8].copy_from_slice(&value.to_ne_bytes());
    }

    fn pick<T: Copy>(&mut self, of: impl Fn(&Tricks) -> &Vec<T>) -> Option<T> {
        let count = of(&self.tricks).len();
        let index = (count > 0).then(|| self.random.below(count))?;
        of(&self.tricks).get(index).copied()
    }

    /// Lets the peer act.
    pub(super) fn disturb(&mut self) {
        if self.random.one_in(2)
            && let Some(hint) = self.pick(|tricks| &tricks.honest)
        {
            self.set(hint);
        }
        if self.random.one_in(3)
            && let Some(at) = self.pick(|tricks| &tricks.payload)
        {
            let value = self.random.next().to_le_bytes()[0];
            self.peer()[at] = value;
        }
        if !self.random.one_in(HONESTY) {
            return;
        }
        match self.random.below(4) {
            0 => {
                let at = self.random.below(self.peer_size);
                let value = self.random.next().to_le_bytes()[0];
                self.peer()[at] = value;
            }
            1 => {
                let word = self.random.below(self.peer_size / 8) * 8;
                let value = self.random.next();
                self.set(Hint { word, value });
            }
            2 => {
                if let Some(Hint { word, value }) = self.pick(|tricks| &tricks.honest) {
                    let value = value ^ (1 << self.random.below(64));
                    self.set(Hint { word, value });
                }
            }
            _ => {
                if let Some(hint) = self.pick(|tricks| &tricks.false_ones) {
                    self.set(hint);
                }
            }
        }
    }

    /// Fails unless so many bytes at `at` lie in a block of that size.
    fn check(at: usize, len: usize, size: usize) {
        let end = at.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= size),
            "{len} bytes at {at} are out of bounds of {size}"
        );
    }

    fn further(&self, at: usize, by: usize) -> usize {
        if self.defect == Some(Defect::NextSlot) {
            at + by
        } else {
            at
        }
    }

    fn read(&mut self, at: usize, len: usize) -> Vec<u8> {
        let at = self.further(at, 8);
        Self::check(at, len, self.peer_size);
        let bytes = self.peer()[at..at + len].to_vec();
        let note = Access::Read {
            at,
            bytes: bytes.clone(),
        };
        if self.defect == Some(Defect::ReadTwice) {
            self.log.push(note.clone());
        }
        self.log.push(note);
        bytes
    }

    fn fetch(&mut self, word: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.peer()[word..word + 8]);
        let value = u64::from_ne_bytes(bytes);
        self.log.push(Access::Load { word, value });
        value
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        let at = self.further(at, 8);
        Self::check(at, bytes.len(), self.own_size);
        self.own()[at..at + bytes.len()].copy_from_slice(bytes);
        let bytes = bytes.to_vec();
        self.log.push(Access::Write { at, bytes });
    }
}

/// One side's view of a world that lies.
#[derive(Debug, Clone)]
pub(super) struct View(pub(super) Rc<RefCell<World>>);

impl View {
    fn act(&self) -> RefMut<'_, World> {
        let mut world = self.0.borrow_mut();
        world.disturb();
        world
    }
}

// SAFETY:
// 1. There is no peer that reads; what `read` returns is some pattern of a plain
//    type.
// 2. `T` is plain.
// 3. `abandon` is never true.
unsafe impl<T: Plain> Memory<T> for View {
    const STRIDE: usize = size_of::<T>();

    unsafe fn store(&self, word: usize, value: u64, order: Ordering) {
        let mut world = self.act();
        assert!(matches!(order, Ordering::Release | Ordering::Relaxed));
        World::check(word, 8, world.own_size);
        assert_eq!(word % 8, 0, "a word at {word}");
        if world.defect == Some(Defect::LostStore) {
            return;
        }
        let ahead = world.defect == Some(Defect::StoreAhead);
        let value = value.wrapping_add(u64::from(ahead));
        world.own()[word..word + 8].copy_from_slice(&value.to_ne_bytes());
        world.log.push(Access::Store { word, value });
    }

    unsafe fn load(&self, word: usize, order: Ordering) -> u64 {
        let mut world = self.act();
        assert!(matches!(order, Ordering::Acquire | Ordering::Relaxed));
        World::check(word, 8, world.peer_size);
        assert_eq!(word % 8, 0, "a word at {word}");
        let value = world.fetch(word);
        if world.defect == Some(Defect::DoubleFetch) {
            world.disturb();
            return world.fetch(word);
        }
        value
    }

    unsafe fn write(&self, slot: usize, value: T) {
        self.act().write(slot, value.as_bytes());
    }

    unsafe fn read(&self, slot: usize) -> T {
        let bytes = self.act().read(slot, size_of::<T>());
        T::read_from_bytes(&bytes).expect("as long as T")
    }

    unsafe fn take_back(&self, slot: usize) -> T {
        let mut world = self.act();
        World::check(slot, size_of::<T>(), world.own_size);
        let bytes = &world.own()[slot..slot + size_of::<T>()];
        T::read_from_bytes(bytes).expect("as long as T")
    }

    unsafe fn own_slot(&self, slot: usize) -> *mut T {
        let mut world = self.act();
        World::check(slot, size_of::<T>(), world.own_size);
        // Derived from the whole block: the ring may make a slice of it.
        world.own().as_mut_ptr().wrapping_add(slot).cast()
    }
}

// SAFETY: as above, for runs of bytes.
unsafe impl ByteMemory for View {
    unsafe fn copy_in(&self, to: usize, from: &[u8]) {
        self.act().write(to, from);
    }

    unsafe fn copy_out(&self, from: usize, to: *mut u8, len: usize) {
        let bytes = self.act().read(from, len);
        // SAFETY: valid for writes of `len` bytes by the caller's obligation.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), len) };
    }

    unsafe fn own_bytes(&self, at: usize) -> *mut u8 {
        let mut world = self.act();
        World::check(at, 0, world.own_size);
        world.own().as_mut_ptr().wrapping_add(at)
    }

    unsafe fn peer_bytes(&self, at: usize) -> *const u8 {
        let mut world = self.act();
        World::check(at, 0, world.peer_size);
        world.peer().as_ptr().wrapping_add(at)
    }
}

/// Lets the peer act between two calls, and forgets what earlier calls accessed.
pub(super) fn begin(world: &RefCell<World>, tricks: Tricks) {
    let mut world = world.borrow_mut();
    world.tricks = tricks;
    world.log.clear();
    world.disturb();
}

/// Takes the notes of the call that has ended.
pub(super) fn end(world: &RefCell<World>) -> Vec<Access> {
    std::mem::take(&mut world.borrow_mut().log)
}
