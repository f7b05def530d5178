//! A ring over two memfds, each mapped twice: read-write for the side that owns
//! it and read-only for the other. The same memory as between two processes,
//! without a connection.
//!
//! # Invariants
//!
//! - I1: a memfd is as long as the block in it, and is mapped whole, twice: once
//!   by each side.
//! - I2: a handle is dropped before its mappings are (the order of the fields).
//! - I3: the read-write mapping of a block is in the hands of one handle only.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use memenpsf_ring::memory::{CONSUMER_BLOCK, Split};
use memenpsf_ring::{LayoutError, index, packed};
use memmap2::{MmapOptions, MmapRaw};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// A handle of a ring, and the two mappings that it works on.
#[derive(Debug)]
pub struct Mapped<H> {
    // Before the mappings (I2).
    handle: H,
    _own: MmapRaw,
    _peer: MmapRaw,
}

impl<H> Mapped<H> {
    /// Returns the handle.
    pub fn get(&mut self) -> &mut H {
        &mut self.handle
    }
}

/// The memory of one ring that no side works on yet: the producer's block and the
/// consumer's. It may go to another process.
#[derive(Debug)]
pub struct Blocks([OwnedFd; 2]);

impl Blocks {
    /// Makes zeroed blocks, the producer's of `producer` bytes: an empty ring.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn new(producer: usize) -> io::Result<Self> {
        Ok(Self([memfd(producer)?, memfd(CONSUMER_BLOCK)?]))
    }

    /// Takes blocks that came from another process, the producer's first.
    pub fn from_fds(fds: [OwnedFd; 2]) -> Self {
        Self(fds)
    }

    /// Returns the descriptors, the producer's block first.
    pub fn fds(&self) -> &[OwnedFd; 2] {
        &self.0
    }

    /// Maps the block `own` read-write, and the other one read-only.
    fn map(&self, own: usize) -> io::Result<[MmapRaw; 2]> {
        // Pages that are in place from the start: a first touch costs over a
        // microsecond and is not what is measured.
        let mut options = MmapOptions::new();
        options.populate();
        Ok([
            options.map_raw(&self.0[own])?,
            options.map_raw_read_only(&self.0[1 - own])?,
        ])
    }
}

macro_rules! rings {
    ($($ring:ident, $blocks:ident, $producer:ident, $consumer:ident;)*) => {$(
        #[doc = concat!("Makes the memory of a ring `", stringify!($ring), "` of numbers.")]
        ///
        /// # Errors
        ///
        /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a capacity that it does
        /// not have; otherwise what the system says.
        pub fn $blocks(capacity: usize) -> io::Result<Blocks> {
            Blocks::new($ring::producer_block::<u64>(capacity).map_err(invalid)?.size())
        }

        #[doc = concat!("Makes the only producer of a ring `", stringify!($ring), "`.")]
        ///
        /// # Errors
        ///
        /// As for its memory, which is to be of this capacity.
        pub fn $producer(
            blocks: &Blocks,
            capacity: usize,
        ) -> io::Result<Mapped<$ring::Producer<u64, Split<u64>>>> {
            let [own, peer] = blocks.map(0)?;
            // SAFETY: pages are aligned to more than 128 bytes, both blocks are as
            // long as the ring's layout says (I1) and mapped as long as the handle
            // lives (I2), and only it has the own block in its hands (I3).
            let memory = unsafe { Split::new(start(&own)?, start(&peer)?) };
            // SAFETY: the memory is that of a ring of this capacity, new, and this is
            // its only producer.
            let handle = unsafe { $ring::Producer::attach(memory, capacity, 0) }.map_err(invalid)?;
            Ok(Mapped { handle, _own: own, _peer: peer })
        }

        #[doc = concat!("Makes the only consumer of a ring `", stringify!($ring), "`.")]
        ///
        /// # Errors
        ///
        /// As for its memory, which is to be of this capacity.
        pub fn $consumer(
            blocks: &Blocks,
            capacity: usize,
        ) -> io::Result<Mapped<$ring::Consumer<u64, Split<u64>>>> {
            let [own, peer] = blocks.map(1)?;
            // SAFETY: as for the producer.
            let memory = unsafe { Split::new(start(&own)?, start(&peer)?) };
            // SAFETY: as for the producer; this is its only consumer.
            let handle = unsafe { $ring::Consumer::attach(memory, capacity, 0) }.map_err(invalid)?;
            Ok(Mapped { handle, _own: own, _peer: peer })
        }
    )*};
}

rings! {
    index, index_blocks, index_producer, index_consumer;
    packed, packed_blocks, packed_producer, packed_consumer;
}

/// Both handles of an index ring over memfds.
pub type MappedRing = (
    Mapped<index::Producer<u64, Split<u64>>>,
    Mapped<index::Consumer<u64, Split<u64>>>,
);

/// Makes an index ring of `capacity` numbers over two memfds, with its pages in
/// place.
///
/// # Errors
///
/// As [`index_blocks`].
///
/// ```
/// let (mut producer, mut consumer) = memenpsf_benches::mapped::ring(64)?;
/// producer.get().push(7).unwrap();
/// assert_eq!(consumer.get().pop(), Ok(7));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn ring(capacity: usize) -> io::Result<MappedRing> {
    let blocks = index_blocks(capacity)?;
    Ok((
        index_producer(&blocks, capacity)?,
        index_consumer(&blocks, capacity)?,
    ))
}

/// Makes a memfd of `length` zeros.
fn memfd(length: usize) -> io::Result<OwnedFd> {
    let file = File::from(memfd_create(c"memenpsf-benches", MFdFlags::MFD_CLOEXEC)?);
    file.set_len(length as u64)?;
    Ok(file.into())
}

fn start(mapping: &MmapRaw) -> io::Result<NonNull<u8>> {
    NonNull::new(mapping.as_mut_ptr()).ok_or_else(|| io::Error::other("a mapping at address 0"))
}

fn invalid(error: LayoutError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}
