//! The index ring under attack.
//!
//! The oracle asks for more here than in general: slots are written only at vacant
//! positions and read only at published ones, by the count of the last position that
//! the peer was believed.

use std::cell::{RefCell, RefMut};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use memenpsf_ring::index::{Consumer, Producer};
use memenpsf_ring::memory::{LINE_PAIR, Memory, UninitSlots};
use memenpsf_ring::{Plain, Violation};

use super::calls::{Call, Handle, Kind, Plan, Told, element, make};
use super::{Defect, Report};
use crate::random::Random;

/// Runs one ring, one side of it ours.
pub(super) fn episode(mut random: Random, defect: Option<Defect>) -> Report {
    match random.below(4) {
        0 => of_type::<u64>(random, defect),
        1 => of_type::<[u8; 3]>(random, defect),
        2 => of_type::<[u32; 5]>(random, defect),
        _ => of_type::<u8>(random, defect),
    }
}

fn of_type<T: Plain + PartialEq + std::fmt::Debug>(
    mut random: Random,
    defect: Option<Defect>,
) -> Report {
    let capacity = 1 << random.below(5);
    let start = match random.below(4) {
        0 => 0,
        1 => 0_u64.wrapping_sub(random.below(40) as u64),
        2 => 1 << 63,
        _ => random.next(),
    };
    let calls = 20 + random.below(200);
    if random.one_in(2) {
        Attack::<T>::new(random, Side::Producer, capacity, start, defect).on_producer(calls)
    } else {
        Attack::<T>::new(random, Side::Consumer, capacity, start, defect).on_consumer(calls)
    }
}

/// Which side is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Producer,
    Consumer,
}

/// Both blocks, the peer that disturbs its own, and what the call in progress
/// has accessed.
struct World {
    random: Random,
    side: Side,
    capacity: usize,
    stride: usize,
    defect: Option<Defect>,
    start: u64,
    /// The own position, by the private model.
    position: u64,
    /// The peer's position that the ring has last believed, by the same count.
    believed: u64,
    /// The own word.
    own_word: u64,
    /// The peer's word.
    peer_word: u64,
    /// The slots, with as many behind them that nobody may touch.
    slots: Vec<u128>,
    /// What this call has fetched from the peer's word.
    fetched: Vec<u64>,
    /// The slots that this call has accessed.
    accessed: Vec<usize>,
    /// The bytes that this call has read from slots.
    read: Vec<Vec<u8>>,
    /// How often this call has stored the own word.
    stores: usize,
}

impl World {
    /// Lets the peer act.
    fn disturb(&mut self) {
        if self.random.one_in(2) {
            self.peer_word = self.some_position();
        }
        if self.side == Side::Consumer && self.random.one_in(4) {
            let bytes = self.capacity * self.stride;
            let at = self.random.below(bytes);
            let value = self.random.next().to_le_bytes()[0];
            self.bytes()[at] = value;
        }
    }

    /// Returns a position to publish: legal ones mostly, so that the ring gets
    /// anywhere, and each kind of illegal one.
    fn some_position(&mut self) -> u64 {
        let (lowest, highest) = self.legal();
        let word = |counted: u64| self.start.wrapping_add(counted);
        let (lowest, highest) = (word(lowest), word(highest));
        match self.random.below(400) {
            0 => lowest.wrapping_sub(1),
            1 => highest.wrapping_add(1),
            2 => lowest.wrapping_sub(self.capacity as u64),
            3 => highest.wrapping_add(self.capacity as u64),
            4 => lowest ^ (1 << self.random.below(64)),
            5 => highest.wrapping_add(1 << 63),
            6 => [0, 1, u64::MAX, 1 << 32, u64::MAX >> 1][self.random.below(5)],
            7 => self.random.next(),
            8..=119 => lowest,
            120..=239 => highest,
            _ => {
                let span = highest.wrapping_sub(lowest) + 1;
                lowest.wrapping_add(self.random.next() % span)
            }
        }
    }

    /// Returns the lowest and the highest position that the ring may believe,
    /// counted from the start.
    fn legal(&self) -> (u64, u64) {
        match self.side {
            Side::Producer => (self.believed, self.position),
            Side::Consumer => (self.believed, self.position + self.capacity as u64),
        }
    }

    /// Returns the slots' bytes, those behind the end included.
    fn bytes(&mut self) -> &mut [u8] {
        zerocopy::IntoBytes::as_mut_bytes(self.slots.as_mut_slice())
    }

    /// Returns the place of the slot at `offset` in the slots' bytes.
    fn place(&mut self, offset: usize) -> usize {
        let offset = if self.defect == Some(Defect::NextSlot) {
            offset + self.stride
        } else {
            offset
        };
        assert!(offset >= LINE_PAIR, "offset {offset} is in the header");
        let place = offset - LINE_PAIR;
        assert_eq!(place % self.stride, 0, "offset {offset} is within a slot");
        let index = place / self.stride;
        assert!(index < self.capacity, "offset {offset} is out of bounds");
        assert_eq!(
            self.stores, 0,
            "slot {index} is not ours once it is given away"
        );
        self.accessed.push(index);
        place
    }
}

/// One side's view of a world that lies.
struct Hostile<T> {
    world: Rc<RefCell<World>>,
    marker: PhantomData<T>,
}

impl<T> Hostile<T> {
    fn act(&self) -> RefMut<'_, World> {
        let mut world = self.world.borrow_mut();
        world.disturb();
        world
    }
}

impl<T> UninitSlots for Hostile<T> {}

// SAFETY:
// 1. There is no peer that reads; what `read` returns is some pattern of a plain
//    type.
// 2. `T` is plain.
// 3. `abandon` is never true.
unsafe impl<T: Plain> Memory<T> for Hostile<T> {
    const STRIDE: usize = size_of::<T>();

    unsafe fn store(&self, word: usize, value: u64, order: Ordering) {
        let mut world = self.act();
        assert_eq!(word, 0, "no word of the own block");
        assert!(matches!(order, Ordering::Release | Ordering::Relaxed));
        let ahead = world.defect == Some(Defect::StoreAhead) && world.stores == 0;
        world.own_word = value.wrapping_add(u64::from(ahead));
        world.stores += 1;
    }

    unsafe fn load(&self, word: usize, order: Ordering) -> u64 {
        let mut world = self.act();
        assert_eq!(word, 0, "no word of the peer's block");
        assert_eq!(order, Ordering::Acquire);
        let mut value = world.peer_word;
        world.fetched.push(value);
        match world.defect {
            Some(Defect::DoubleFetch) => {
                world.disturb();
                value = world.peer_word;
                world.fetched.push(value);
            }
            Some(Defect::Clamp) => {
                let (lowest, highest) = world.legal();
                let count = value.wrapping_sub(world.start);
                value = world.start.wrapping_add(count.clamp(lowest, highest));
            }
            _ => (),
        }
        value
    }

    unsafe fn write(&self, slot: usize, value: T) {
        let mut world = self.act();
        assert_eq!(world.side, Side::Producer, "a consumer writes no slot");
        let place = world.place(slot);
        world.bytes()[place..place + size_of::<T>()].copy_from_slice(value.as_bytes());
    }

    unsafe fn read(&self, slot: usize) -> T {
        let mut world = self.act();
        assert_eq!(world.side, Side::Consumer, "a producer reads no slot");
        let mut place = world.place(slot);
        if world.defect == Some(Defect::ReadTwice) {
            place = world.place(slot);
        }
        let bytes = world.bytes()[place..place + size_of::<T>()].to_vec();
        let value = T::read_from_bytes(&bytes).expect("as long as T");
        world.read.push(bytes);
        value
    }

    unsafe fn take_back(&self, slot: usize) -> T {
        let mut world = self.act();
        assert_eq!(world.side, Side::Producer, "a consumer takes nothing back");
        let place = world.place(slot);
        let bytes = &world.bytes()[place..place + size_of::<T>()];
        T::read_from_bytes(bytes).expect("as long as T")
    }

    unsafe fn own_slot(&self, slot: usize) -> *mut T {
        let mut world = self.act();
        assert_eq!(world.side, Side::Producer, "a consumer owns no slot");
        let place = world.place(slot);
        // The pointer is derived from all slots: the ring makes a slice of it.
        world.bytes().as_mut_ptr().wrapping_add(place).cast()
    }
}

/// One ring, one side of it ours, under attack; and the oracle.
struct Attack<T> {
    world: Rc<RefCell<World>>,
    /// Calls draw from a sequence of their own.
    random: Random,
    capacity: usize,
    start: u64,
    /// Our own slots as they must be, by index.
    slots: Vec<T>,
    /// What the ring has refused all work for.
    poisoned: Option<Violation>,
    /// The own position that was last published, counted from the start.
    published: u64,
    report: Report,
}

impl<T: Plain + PartialEq + std::fmt::Debug> Attack<T> {
    fn new(
        mut random: Random,
        side: Side,
        capacity: usize,
        start: u64,
        defect: Option<Defect>,
    ) -> Self {
        let stride = size_of::<T>();
        let world = World {
            random: Random::new(random.next()),
            side,
            capacity,
            stride,
            defect,
            start,
            position: 0,
            believed: 0,
            own_word: 0,
            peer_word: start,
            slots: vec![0; (2 * capacity * stride).div_ceil(16)],
            fetched: Vec::new(),
            accessed: Vec::new(),
            read: Vec::new(),
            stores: 0,
        };
        Self {
            world: Rc::new(RefCell::new(world)),
            random,
            capacity,
            start,
            slots: vec![T::new_zeroed(); capacity],
            poisoned: None,
            published: 0,
            report: Report {
                rings: 1,
                ..Report::default()
            },
        }
    }

    fn memory(&self) -> Hostile<T> {
        Hostile {
            world: Rc::clone(&self.world),
            marker: PhantomData,
        }
    }

    /// Returns how many slots the ring may use without asking again.
    fn usable(&self) -> usize {
        let world = self.world.borrow();
        let usable = match world.side {
            Side::Producer => world.believed + self.capacity as u64 - world.position,
            Side::Consumer => world.believed - world.position,
        };
        usize::try_from(usable).expect("at most the capacity")
    }

    /// Forgets what earlier calls accessed, and lets the peer act.
    fn begin(&self) {
        let mut world = self.world.borrow_mut();
        world.fetched.clear();
        world.accessed.clear();
        world.read.clear();
        world.stores = 0;
        world.disturb();
    }

    /// Checks the call that has ended.
    fn check(&mut self, plan: Plan, told: Told, handle: &impl Handle<T>) {
        let usable_after = self.usable_after();
        let told = match told {
            Told::Any(any) => {
                assert_eq!(any, usable_after > 0);
                Told::Slots(usable_after)
            }
            told => told,
        };
        if let Told::Refused {
            available: Some(available),
        } = told
        {
            assert_eq!(available, usable_after);
        }
        self.check_told(plan, told, handle.position());
        assert_eq!(handle.violation(), self.poisoned);
    }

    fn check_told(&mut self, plan: Plan, told: Told, position: u64) {
        let wanted = plan.wanted;
        self.report.operations += 1;
        let usable_before = self.usable();
        let mut world = self.world.borrow_mut();
        assert!(
            world.fetched.len() <= 1,
            "fetched {} times",
            world.fetched.len()
        );
        self.report.fetches += world.fetched.len() as u64;

        if let Some(violation) = self.poisoned {
            assert!(
                matches!(told, Told::Violated(again) if again == violation)
                    || told == Told::Slots(0),
                "after {violation}: {told:?}"
            );
            assert!(world.fetched.is_empty() && world.accessed.is_empty() && world.stores == 0);
            assert_eq!(position, self.start.wrapping_add(world.position));
            assert_eq!(world.own_word, self.start.wrapping_add(self.published));
            return;
        }

        if let Some(&fetched) = world.fetched.first() {
            let (lowest, highest) = world.legal();
            let counted = (lowest..=highest).find(|n| self.start.wrapping_add(*n) == fetched);
            match counted {
                Some(counted) => world.believed = counted,
                None => {
                    let word = |counted: u64| self.start.wrapping_add(counted);
                    let violation = match world.side {
                        Side::Producer => Violation::Head {
                            head: fetched,
                            previous: word(world.believed),
                            tail: word(world.position),
                        },
                        Side::Consumer => Violation::Tail {
                            tail: fetched,
                            previous: word(world.believed),
                            head: word(world.position),
                            capacity: self.capacity as u64,
                        },
                    };
                    self.poisoned = Some(violation);
                    self.report.violations += 1;
                    assert!(
                        told == Told::Violated(violation) || told == Told::Slots(0),
                        "{violation}: {told:?}"
                    );
                    assert!(world.accessed.is_empty() && world.stores == 0);
                    assert_eq!(position, word(world.position));
                    return;
                }
            }
        }
        drop(world);
        let asked = !self.world.borrow().fetched.is_empty();
        let usable = self.usable();
        let moved = match told {
            Told::Violated(violation) => panic!("no false position, but {violation}"),
            Told::Refused { .. } => {
                assert!(
                    asked && usable < wanted,
                    "refused with {usable} for {wanted}"
                );
                0
            }
            Told::Slots(slots) => {
                assert!(slots == usable && (asked || usable_before > 0));
                0
            }
            Told::Any(_) => unreachable!("it has become a number"),
            Told::Moved(moved) => {
                assert!(match plan.kind {
                    Kind::Slice | Kind::Into => moved == wanted.min(usable),
                    _ => moved <= wanted,
                });
                assert!(asked || wanted <= usable_before);
                moved
            }
        };
        self.check_moved(moved, position, plan.kind == Kind::Forgotten);
    }

    /// Checks the accesses and the words after a call that moved `moved`
    /// elements.
    fn check_moved(&mut self, moved: usize, position: u64, keeps_word: bool) {
        let mut world = self.world.borrow_mut();
        let first = self.start.wrapping_add(world.position);
        let usable = match world.side {
            Side::Producer => world.believed + self.capacity as u64 - world.position,
            Side::Consumer => world.believed - world.position,
        };
        // Each slot at most once, and only those that are ours for now.
        let mut accessed = std::mem::take(&mut world.accessed);
        let all_accessed = accessed.len();
        accessed.sort_unstable();
        accessed.dedup();
        assert_eq!(accessed.len(), all_accessed, "a slot was accessed twice");
        let capacity = self.capacity as u64;
        for index in accessed {
            let ours =
                (0..usable).any(|ahead| first.wrapping_add(ahead) % capacity == index as u64);
            assert!(ours, "slot {index} is not ours");
        }

        world.position += moved as u64;
        self.report.elements += moved as u64;
        let expected = self.start.wrapping_add(world.position);
        assert_eq!(position, expected, "the handle's position");
        if moved > 0 && !keeps_word {
            self.published = world.position;
            assert_eq!(world.stores, 1, "one store publishes all");
        } else {
            assert!(world.stores == 0, "nothing to publish");
        }
        assert_eq!(
            world.own_word,
            self.start.wrapping_add(self.published),
            "the own word"
        );

        // The own slots hold what was written, and nothing lies behind them.
        let end = self.capacity * size_of::<T>();
        let producer = world.side == Side::Producer;
        let (slots, behind) = world.bytes().split_at(end);
        if producer {
            for (slot, expected) in slots.chunks(size_of::<T>()).zip(&self.slots) {
                assert_eq!(slot, expected.as_bytes());
            }
        }
        assert!(
            behind.iter().all(|&byte| byte == 0),
            "written behind the slots"
        );
    }

    /// Notes that `value` is written `ahead` of the own position.
    fn note(&mut self, ahead: usize, value: T) {
        let position = self.world.borrow().position + ahead as u64;
        let position = self.start.wrapping_add(position);
        let index = usize::try_from(position % self.capacity as u64).expect("an index");
        self.slots[index] = value;
    }

    fn on_producer(mut self, calls: usize) -> Report {
        // SAFETY: the memory is that of one producer; it checks every access.
        let producer = unsafe { Producer::attach(self.memory(), self.capacity, self.start) };
        let mut producer: Producer<T, Hostile<T>> = producer.expect("a legal capacity");
        make(calls, || {
            let plan = Plan::to_push(&mut self.random, self.capacity);
            let values: Vec<T> = (0..plan.wanted.max(1))
                .map(|_| element(&mut self.random))
                .collect();
            let in_place = plan.kind == Kind::Chunk && self.random.one_in(2);
            self.begin();
            let call = if in_place {
                write_in_place(&mut producer, plan, values)
            } else {
                producer.call(plan, &values)
            };
            for (ahead, &value) in call.values.iter().enumerate() {
                self.note(ahead, value);
            }
            self.check(plan, call.told, &producer);
            self.poisoned.is_some()
        });
        self.report
    }

    /// Returns how many slots the ring may use after the call in progress, by
    /// what it has fetched: what a count that it reports must be.
    fn usable_after(&self) -> usize {
        let world = self.world.borrow();
        let (lowest, highest) = world.legal();
        let believed = match world.fetched.first() {
            None if self.poisoned.is_some() => return 0,
            None => world.believed,
            Some(&fetched) => {
                let counted = (lowest..=highest).find(|n| self.start.wrapping_add(*n) == fetched);
                match counted {
                    Some(counted) => counted,
                    None => return 0,
                }
            }
        };
        let usable = match world.side {
            Side::Producer => believed + self.capacity as u64 - world.position,
            Side::Consumer => believed - world.position,
        };
        usize::try_from(usable).expect("at most the capacity")
    }

    fn on_consumer(mut self, calls: usize) -> Report {
        // SAFETY: the memory is that of one consumer; it checks every access.
        let consumer = unsafe { Consumer::attach(self.memory(), self.capacity, self.start) };
        let mut consumer: Consumer<T, Hostile<T>> = consumer.expect("a legal capacity");
        make(calls, || {
            let plan = Plan::to_pop(&mut self.random, self.capacity);
            self.begin();
            let call = consumer.call(plan, &[]);
            let bytes: Vec<&[u8]> = call.values.iter().map(T::as_bytes).collect();
            let read = std::mem::take(&mut self.world.borrow_mut().read);
            assert_eq!(read, bytes, "what was read is what is returned");
            self.check(plan, call.told, &consumer);
            self.poisoned.is_some()
        });
        self.report
    }
}

/// Writes a chunk through its slices, and commits a part.
fn write_in_place<T: Plain>(
    producer: &mut Producer<T, Hostile<T>>,
    plan: Plan,
    mut values: Vec<T>,
) -> Call<T> {
    let Plan { wanted, part, .. } = plan;
    values.truncate(wanted);
    let (told, values) = match producer.reserve(wanted) {
        Ok(mut chunk) => {
            let (first, second) = chunk.as_uninit_slices();
            assert_eq!(first.len() + second.len(), wanted);
            for (slot, &value) in first.iter_mut().chain(second).zip(&values) {
                slot.write(value);
            }
            // SAFETY: every slot was written.
            unsafe { chunk.assume_written(wanted) };
            chunk.commit(part);
            (Told::Moved(part), values)
        }
        Err(error) => (Told::refused(error, wanted), Vec::new()),
    };
    Call {
        told,
        values,
        skipped: 0,
    }
}
