//! The fuzz target `hostile_region`: files that a peer offers as its region, and rings
//! over a region of a peer that rewrites it between the calls.
//!
//! Rules:
//!
//! 1. A file is opened if and only if it has all seals, the length, the memory and
//!    the header that were announced.
//! 2. No call on a ring over such a region panics, moves more than there is room for,
//!    or changes a byte of the peer's.
//! 3. A violation stays: from then on nothing moves, and every call names it.

use std::io::Write;
use std::os::fd::OwnedFd;

use memenpsf::Name;
use memenpsf::layout::{Header, RegionLayout, RingKind, Shape};
use memenpsf::region::{OwnRegion, PeerRegion, SEALS};
use memenpsf_ring::memory::Split;
use memenpsf_ring::{PopError, PushError, Violation, index, packed};
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;

use super::{Script, Subject};

/// The longest region that either side maps.
const REGION: u64 = 1 << 16;

/// Runs the script that `bytes` are. The faults: a file without its seals passes for one
/// with them, and a handle forgets its violation.
///
/// # Panics
///
/// When a rule is broken.
pub fn run(bytes: &[u8], subject: Subject) {
    let mut script = Script(bytes);
    let choices = script.byte();
    // Up to nine pages.
    let capacity = (1 + script.index() % 20) << (choices >> 5);
    let kind = match choices & 2 {
        0 => RingKind::Index,
        _ => RingKind::Packed,
    };
    let block = match kind {
        RingKind::Index => index::producer_block::<u64>(capacity.next_power_of_two()),
        _ => packed::producer_block::<u64>(capacity),
    };
    let capacity = match kind {
        RingKind::Index => capacity.next_power_of_two(),
        _ => capacity,
    };
    let header = Header {
        shape: Shape::of::<u64>(kind, capacity as u64, ""),
        layout: RegionLayout::new(block.unwrap().size() as u64, REGION).unwrap(),
        nonce: 7,
    };
    if choices & 1 == 0 {
        offer(&mut script, &header, subject);
        return;
    }
    let regions = Regions::new(&header);
    let call: fn(&Regions, usize, bool) -> Box<dyn Handle> = match kind {
        RingKind::Index => Regions::index,
        _ => Regions::packed,
    };
    attack(
        &mut script,
        &regions,
        call,
        capacity,
        choices & 4 != 0,
        subject,
    );
}

/// Offers a file that differs from the announced region as the script says.
fn offer(script: &mut Script<'_>, header: &Header, subject: Subject) {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = memfd_create("fuzz", flags).unwrap();
    let announced = header.layout.len();
    // A page more or less, or none.
    let length = match script.byte() {
        1 => announced + 4096,
        2 => announced - 4096,
        3 => announced + script.index(),
        _ => announced,
    };
    let size = |length: usize| i64::try_from(length).unwrap();
    ftruncate(&file, size(length)).unwrap();
    // The last so many pages are holes.
    let holes = script.index() % 3;
    let filled = length.saturating_sub(holes * 4096);
    if filled > 0 {
        fallocate(&file, FallocateFlags::empty(), 0, size(filled)).unwrap();
    }
    let mut bytes = header.encode();
    let left = script.byte();
    let seals = SealFlag::from_bits_truncate(SEALS.bits() & !i32::from(left));
    while !script.is_over() {
        let at = script.index() % bytes.len();
        bytes[at] = script.byte();
    }
    if length >= bytes.len() {
        std::fs::File::from(file.try_clone().unwrap())
            .write_all(&bytes)
            .unwrap();
    }
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).unwrap();

    let sealed = seals == SEALS || subject == Subject::Faulty;
    let announced = length == announced && bytes == header.encode();
    // Blocks of 512 bytes. The header has taken memory even if that was left a hole.
    let allocated = fstat(&file).unwrap().st_blocks * 512 >= size(length);
    let opened = PeerRegion::open(file, header);
    assert_eq!(
        opened.is_ok(),
        sealed && announced && allocated,
        "{opened:?}"
    );
}

/// A region on each side, the peer's under our control as well: its owner's mapping
/// stays writable after it was sealed and opened.
struct Regions {
    ours: OwnRegion,
    theirs: OwnRegion,
    opened: PeerRegion,
}

impl Regions {
    fn new(header: &Header) -> Self {
        let create = || -> (OwnRegion, OwnedFd) {
            OwnRegion::create(&Name::new("fuzz").unwrap(), header).unwrap()
        };
        let (ours, _) = create();
        let (theirs, descriptor) = create();
        let opened = PeerRegion::open(descriptor, header).unwrap();
        Self {
            ours,
            theirs,
            opened,
        }
    }

    /// Returns the memory of our consumer, or of our producer.
    fn memory(&self, consumes: bool) -> Split<u64> {
        let (own, peer) = match consumes {
            true => (self.ours.consumer_block(), self.opened.producer_block()),
            false => (self.ours.producer_block(), self.opened.consumer_block()),
        };
        let peer = std::ptr::NonNull::new(peer.cast_mut()).unwrap();
        // SAFETY: the blocks are as large and aligned as the layout says, outlive
        // the handle, and are accessed by this thread only, between its calls.
        unsafe { Split::new(own, peer) }
    }

    /// Returns where the peer's half of the ring is, and how long that is.
    fn peer(&self, consumes: bool) -> (*mut u8, usize) {
        match consumes {
            true => (
                self.theirs.producer_block().as_ptr(),
                self.theirs.layout().producer_len(),
            ),
            false => (
                self.theirs.consumer_block().as_ptr(),
                memenpsf::layout::BLOCK_LEN,
            ),
        }
    }

    fn read(&self, consumes: bool) -> Vec<u8> {
        let (start, length) = self.peer(consumes);
        let mut bytes = vec![0; length];
        // SAFETY: the block has that length, and nobody writes meanwhile.
        unsafe { bytes.as_mut_ptr().copy_from(start, length) };
        bytes
    }

    fn write(&self, consumes: bool, at: usize, bytes: &[u8]) {
        let (start, length) = self.peer(consumes);
        let at = at % length;
        let fits = bytes.len().min(length - at);
        // SAFETY: `at + fits` is at most the block's length, and nobody reads
        // meanwhile.
        unsafe { start.wrapping_add(at).copy_from(bytes.as_ptr(), fits) };
    }
}

/// What a call did: how many elements it moved, or what it found.
type Outcome = Result<usize, Violation>;

/// Our end of a ring.
trait Handle {
    /// Makes one of the calls, with a number.
    fn call(&mut self, which: u8, number: usize) -> Outcome;
    fn position(&self) -> u64;
    fn violation(&self) -> Option<Violation>;
}

/// The handles of both rings have the same calls.
macro_rules! handles {
    ($ring:ident) => {
        impl Regions {
            fn $ring(&self, capacity: usize, consumes: bool) -> Box<dyn Handle> {
                let memory = self.memory(consumes);
                if consumes {
                    // SAFETY: it is the only consumer.
                    let consumer = unsafe { $ring::Consumer::attach(memory, capacity, 0) };
                    let consumer: $ring::Consumer<u64, Split<u64>> = consumer.unwrap();
                    Box::new(consumer)
                } else {
                    // SAFETY: it is the only producer.
                    let producer = unsafe { $ring::Producer::attach(memory, capacity, 0) };
                    let producer: $ring::Producer<u64, Split<u64>> = producer.unwrap();
                    Box::new(producer)
                }
            }
        }

        impl Handle for $ring::Consumer<u64, Split<u64>> {
            fn call(&mut self, which: u8, number: usize) -> Outcome {
                let popped = |result| match result {
                    Ok(_) => Ok(1),
                    Err(PopError::Empty) => Ok(0),
                    Err(PopError::Violation(violation)) => Err(violation),
                };
                match which % 6 {
                    0 => popped(self.pop()),
                    1 => self.pop_slice(&mut vec![0; number]),
                    2 => self.pop_into(&mut Vec::new(), number),
                    3 => popped(self.peek()).map(|_| 0),
                    4 => {
                        let there = self.slots();
                        assert!(there <= self.capacity());
                        let wanted = number.min(there);
                        match self.read_chunk(wanted) {
                            Ok(mut chunk) => {
                                let taken = chunk.by_ref().take(number / 2).count();
                                chunk.commit_all();
                                Ok(wanted.max(taken))
                            }
                            Err(error) => Err(violation(error)),
                        }
                    }
                    _ => {
                        self.is_empty();
                        self.violation().map_or(Ok(0), Err)
                    }
                }
            }

            fn position(&self) -> u64 {
                self.position()
            }

            fn violation(&self) -> Option<Violation> {
                self.violation()
            }
        }

        impl Handle for $ring::Producer<u64, Split<u64>> {
            fn call(&mut self, which: u8, number: usize) -> Outcome {
                match which % 4 {
                    0 => match self.push(number as u64) {
                        Ok(()) => Ok(1),
                        Err(PushError::Full(_)) => Ok(0),
                        Err(PushError::Violation(_, violation)) => Err(violation),
                    },
                    1 => self.push_slice(&vec![7; number]),
                    2 => {
                        let vacant = self.slots();
                        assert!(vacant <= self.capacity());
                        let wanted = number.min(vacant);
                        match self.reserve(wanted) {
                            Ok(mut chunk) => {
                                let filled = chunk.fill(std::iter::repeat_n(9, wanted));
                                chunk.commit_all();
                                Ok(filled)
                            }
                            Err(error) => Err(violation(error)),
                        }
                    }
                    _ => {
                        self.is_full();
                        self.violation().map_or(Ok(0), Err)
                    }
                }
            }

            fn position(&self) -> u64 {
                self.position()
            }

            fn violation(&self) -> Option<Violation> {
                self.violation()
            }
        }
    };
}

handles!(index);
handles!(packed);

/// What a chunk was refused for that was no longer than what there is.
fn violation(error: memenpsf_ring::ChunkError) -> Violation {
    match error {
        memenpsf_ring::ChunkError::Violation(violation) => violation,
        error @ memenpsf_ring::ChunkError::TooFew { .. } => panic!("{error}"),
    }
}

/// Lets the peer rewrite its half and our end work, in turn.
fn attack(
    script: &mut Script<'_>,
    regions: &Regions,
    attach: fn(&Regions, usize, bool) -> Box<dyn Handle>,
    capacity: usize,
    consumes: bool,
    subject: Subject,
) {
    let mut handle = attach(regions, capacity, consumes);
    let mut found: Option<Violation> = None;
    while !script.is_over() {
        match script.byte() % 5 {
            0 => regions.write(consumes, script.index() * 8, &script.word().to_ne_bytes()),
            1 => {
                // One small number, near our position: what gets on without a lie.
                let value = (handle.position()).wrapping_add(script.index() as u64);
                regions.write(consumes, 0, &value.to_ne_bytes());
            }
            2 => regions.write(consumes, script.index(), script.bytes()),
            _ => {
                let (which, number) = (script.byte(), script.index() % 64);
                let (before, position) = (regions.read(consumes), handle.position());
                let outcome = handle.call(which, number);
                assert_eq!(
                    regions.read(consumes),
                    before,
                    "the peer's bytes are its own"
                );
                let moved = handle.position().wrapping_sub(position);
                match (outcome, found) {
                    (Ok(count), None) => {
                        assert_eq!(moved, count as u64);
                        assert!(count <= capacity);
                        // A batch that has moved something before it met the lie
                        // returns that, and tells the lie from the next call on.
                        if count > 0 {
                            found = handle.violation();
                        }
                    }
                    (Err(violation), None) => {
                        assert_eq!(moved, 0);
                        found = Some(violation);
                    }
                    (outcome, Some(violation)) => {
                        assert_eq!((outcome, moved), (Err(violation), 0), "it stays");
                    }
                }
                assert_eq!(handle.violation(), found);
                if subject == Subject::Faulty && found.is_some() {
                    drop(handle);
                    handle = attach(regions, capacity, consumes);
                }
            }
        }
    }
}
