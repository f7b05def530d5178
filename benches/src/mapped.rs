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
use std::ptr::NonNull;

use memenpsf_ring::index::{Consumer, Producer, producer_block};
use memenpsf_ring::memory::{CONSUMER_BLOCK, Split};
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

/// Both handles of a ring over memfds.
pub type MappedRing = (
    Mapped<Producer<u64, Split<u64>>>,
    Mapped<Consumer<u64, Split<u64>>>,
);

/// Makes a ring of `capacity` numbers over two memfds, with its pages in place.
///
/// # Errors
///
/// [`InvalidInput`](io::ErrorKind::InvalidInput) for a capacity that is no power
/// of two; otherwise what the system says.
///
/// ```
/// let (mut producer, mut consumer) = memenpsf_benches::mapped::ring(64)?;
/// producer.get().push(7).unwrap();
/// assert_eq!(consumer.get().pop(), Ok(7));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn ring(capacity: usize) -> io::Result<MappedRing> {
    let block = producer_block::<u64>(capacity).map_err(invalid)?;
    let [producer_own, producer_peer] = map_twice(block.size())?;
    let [consumer_own, consumer_peer] = map_twice(CONSUMER_BLOCK)?;
    // SAFETY: pages are aligned to more than 128 bytes, both blocks are as long
    // as the ring's layout says (I1) and mapped as long as the handle lives
    // (I2), and only it has the own block in its hands (I3).
    let memory = unsafe { Split::new(start(&producer_own)?, start(&consumer_peer)?) };
    // SAFETY: the memory is that of a ring of this capacity, new, and this is
    // its only producer.
    let producer = unsafe { Producer::attach(memory, capacity, 0) }.map_err(invalid)?;
    // SAFETY: as for the producer's memory.
    let memory = unsafe { Split::new(start(&consumer_own)?, start(&producer_peer)?) };
    // SAFETY: as for the producer; this is its only consumer.
    let consumer = unsafe { Consumer::attach(memory, capacity, 0) }.map_err(invalid)?;
    Ok((
        Mapped {
            handle: producer,
            _own: producer_own,
            _peer: consumer_peer,
        },
        Mapped {
            handle: consumer,
            _own: consumer_own,
            _peer: producer_peer,
        },
    ))
}

/// Makes a memfd of `length` zeros and maps it read-write and read-only.
fn map_twice(length: usize) -> io::Result<[MmapRaw; 2]> {
    let file = File::from(memfd_create(c"memenpsf-benches", MFdFlags::MFD_CLOEXEC)?);
    file.set_len(length as u64)?;
    // Pages that are in place from the start: a first touch costs over a
    // microsecond and is not what is measured.
    let mut options = MmapOptions::new();
    options.len(length).populate();
    Ok([options.map_raw(&file)?, options.map_raw_read_only(&file)?])
}

fn start(mapping: &MmapRaw) -> io::Result<NonNull<u8>> {
    NonNull::new(mapping.as_mut_ptr()).ok_or_else(|| io::Error::other("a mapping at address 0"))
}

fn invalid(error: memenpsf_ring::LayoutError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}
