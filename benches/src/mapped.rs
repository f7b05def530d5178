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
use memenpsf_ring::{LayoutError, Plain, bytes, index, packed};
use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// A handle of a ring, and the two mappings that it works on.
#[derive(Debug)]
pub struct Mapped<H> {
    // Before the mappings (I2).
    handle: H,
    own: MmapRaw,
    peer: MmapRaw,
}

impl<H> Mapped<H> {
    /// Returns the handle.
    pub fn get(&mut self) -> &mut H {
        &mut self.handle
    }

    /// Puts the pages of both mappings in place in this process. They are when they are
    /// mapped, and a forked process has to do so again.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn populate(&self) -> io::Result<()> {
        self.own.advise(Advice::PopulateWrite)?;
        self.peer.advise(Advice::PopulateRead)
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

    /// Maps the block `own` read-write and the other one read-only, and makes the
    /// handle of a ring on them, which has this block in its hands from now on (I3).
    fn attach<T: Plain, H>(
        &self,
        own: usize,
        handle: impl FnOnce(Split<T>) -> Result<H, LayoutError>,
    ) -> io::Result<Mapped<H>> {
        // Pages that are in place from the start: a first touch costs over a
        // microsecond and is not what is measured.
        let mut options = MmapOptions::new();
        options.populate();
        let peer = options.map_raw_read_only(&self.0[1 - own])?;
        let own = options.map_raw(&self.0[own])?;
        // SAFETY: pages are aligned to more than 128 bytes, both blocks are as long as
        // the ring's layout says (I1) and mapped as long as the handle lives (I2), and
        // only it has the own block in its hands (I3).
        let memory = unsafe { Split::new(start(&own)?, start(&peer)?) };
        Ok(Mapped {
            handle: handle(memory).map_err(invalid)?,
            own,
            peer,
        })
    }
}

macro_rules! rings {
    ($($name:ident, $ring:ident, $blocks:ident, $producer:ident, $consumer:ident;)*) => {$(
        #[doc = concat!("Makes the memory of a ring `", stringify!($ring), "`.")]
        ///
        /// # Errors
        ///
        /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a capacity or an element
        /// that it does not have; otherwise what the system says.
        pub fn $blocks<T: Plain>(capacity: usize) -> io::Result<Blocks> {
            Blocks::new($ring::producer_block::<T>(capacity).map_err(invalid)?.size())
        }

        #[doc = concat!("Makes the only producer of a ring `", stringify!($ring), "`.")]
        ///
        /// # Errors
        ///
        /// As for its memory, which is to be of this capacity.
        pub fn $producer<T: Plain>(
            blocks: &Blocks,
            capacity: usize,
        ) -> io::Result<Mapped<$ring::Producer<T, Split<T>>>> {
            blocks.attach(0, |memory| {
                // SAFETY: the memory is that of a ring of this capacity, new, and this
                // is its only producer.
                unsafe { $ring::Producer::attach(memory, capacity, 0) }
            })
        }

        #[doc = concat!("Makes the only consumer of a ring `", stringify!($ring), "`.")]
        ///
        /// # Errors
        ///
        /// As for its memory, which is to be of this capacity.
        pub fn $consumer<T: Plain>(
            blocks: &Blocks,
            capacity: usize,
        ) -> io::Result<Mapped<$ring::Consumer<T, Split<T>>>> {
            blocks.attach(1, |memory| {
                // SAFETY: as for the producer; this is its only consumer.
                unsafe { $ring::Consumer::attach(memory, capacity, 0) }
            })
        }

        #[doc = concat!("Makes a ring `", stringify!($ring), "` over two memfds.")]
        ///
        /// # Errors
        ///
        /// As for its memory.
        ///
        /// ```
        #[doc = concat!("let (mut producer, mut consumer) = memenpsf_benches::mapped::", stringify!($name), "(64)?;")]
        /// producer.get().push(7_u64).unwrap();
        /// assert_eq!(consumer.get().pop(), Ok(7));
        /// # Ok::<(), std::io::Error>(())
        /// ```
        pub fn $name<T: Plain>(
            capacity: usize,
        ) -> io::Result<Pair<$ring::Producer<T, Split<T>>, $ring::Consumer<T, Split<T>>>> {
            let blocks = $blocks::<T>(capacity)?;
            Ok(($producer(&blocks, capacity)?, $consumer(&blocks, capacity)?))
        }
    )*};
}

/// Both handles of a ring over memfds, with its pages in place.
pub type Pair<P, C> = (Mapped<P>, Mapped<C>);

rings! {
    index_ring, index, index_blocks, index_producer, index_consumer;
    packed_ring, packed, packed_blocks, packed_producer, packed_consumer;
}

/// Both handles of a bytes ring over memfds.
pub type BytesRing = Pair<bytes::Producer<Split<u64>>, bytes::Consumer<Split<u64>>>;

/// Makes a bytes ring of `capacity` bytes over two memfds, for messages of up to
/// `longest`.
///
/// # Errors
///
/// [`InvalidInput`](io::ErrorKind::InvalidInput) for a capacity that it does not have,
/// or too long a message; otherwise what the system says.
///
/// ```
/// let (mut producer, mut consumer) = memenpsf_benches::mapped::bytes_ring(1024, 100)?;
/// producer.get().push(b"hello").unwrap();
/// assert_eq!(consumer.get().pop().unwrap(), b"hello");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn bytes_ring(capacity: usize, longest: usize) -> io::Result<BytesRing> {
    let block = bytes::producer_block(capacity, longest).map_err(invalid)?;
    let blocks = Blocks::new(block.size())?;
    let producer = blocks.attach(0, |memory| {
        // SAFETY: the memory is that of a ring of this shape, new, and this is its
        // only producer.
        unsafe { bytes::Producer::attach(memory, capacity, longest, 0) }
    });
    let consumer = blocks.attach(1, |memory| {
        // SAFETY: as above; this is its only consumer.
        unsafe { bytes::Consumer::attach(memory, capacity, longest, 0) }
    });
    Ok((producer?, consumer?))
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
