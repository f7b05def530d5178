//! Regions: one memfd each, created and sealed by its owner, mapped read-only by
//! its peer. The only place that turns a descriptor into a pointer.
//!
//! ```text
//!   owner                                     peer
//!   memfd_create, ftruncate, fallocate
//!   map read-write, write the header
//!   add seals, check them
//!   send the descriptor, close it ──────────▶ access mode, seals, file system,
//!                                             length, allocation
//!                                             map read-only, close
//!                                             read the header once, compare it
//! ```
//!
//! [`crate::layout`] says what lies where in a region.
//!
//! # Invariants
//!
//! - I1. A mapping is exactly as long as its [`RegionLayout`], and the blocks of a
//!   layout lie within it.
//! - I2. An owned region is allocated to its last byte, and sealed against
//!   shrinking, growing, further seals, and any write that does not go through the
//!   mapping in [`OwnRegion`], before its descriptor leaves [`OwnRegion::create`].
//! - I3. No byte of a peer's region is accessed before its seals, file system,
//!   length and allocation were found good, in this order; so no access to it can
//!   raise a signal.
//! - I4. A peer's region is mapped without permission to write. Pointers into it
//!   are `*const`, and no reference is ever made.
//! - I5. Neither mapping is inherited by a fork, and no descriptor by an exec.
//!
//! # Memory ordering
//!
//! None: the header reaches the peer through the socket that the descriptor is
//! sent over, and the system calls order it. The copy of the header is relaxed
//! because the mapping is read-only: std documents every other atomic access to
//! read-only memory as undefined.
//!
//! # Trust
//!
//! The peer chooses the descriptor and everything in the file. Whatever the file is,
//! no call that is made before the seals are known can block on it:
//! `F_GETFL` and `F_GET_SEALS` are answered by the kernel's file layer, while
//! `fstat` and `fstatfs` may be sent to a file system that the peer runs itself
//! (FUSE). Seals prove that it is shmem or hugetlbfs. The owner may write every word
//! of its region at any time through the mapping that it made before sealing, so
//! the header is copied once and only the copy is looked at (A1).

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use memenpsf_ring::memory::copy_out;
use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::unistd::ftruncate;

use crate::error::{RegionError, Step};
use crate::frame::Name;
use crate::layout::{
    CONSUMER_OFFSET, HEADER_LEN, Header, PRODUCER_OFFSET, RegionLayout, WAITING_OFFSET,
};

/// The seals of a region. Without `F_SEAL_FUTURE_WRITE` (Linux 5.1) any holder of
/// the descriptor could write, and punch holes; `F_SEAL_WRITE` in its place would
/// be refused because of the owner's own mapping.
pub const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_FUTURE_WRITE)
    .union(SealFlag::F_SEAL_SEAL);

/// Makes the memfd not executable, for good. Linux 6.3; nix has no name for it.
const MFD_NOEXEC_SEAL: MFdFlags = MFdFlags::from_bits_retain(0x0008);

/// How much is allocated with one call at first. Where a signal makes `fallocate` on
/// tmpfs give up and free what the call had allocated (Linux 6.18 does not), one
/// call for a large region might never end under a storm of signals. 4 MiB take
/// about a millisecond.
const ALLOCATE_STEP: u64 = 4 << 20;

/// How much is allocated with one call at least: one page.
const SHORTEST_STEP: u64 = 4096;

/// A region that this process created: mapped for reading and writing.
///
/// Sealed; the kernel refuses every other write to it and every change of its
/// length, to this process as well. Unmapped by drop.
///
/// # Examples
///
/// ```
/// use memenpsf::layout::{Header, RegionLayout, RingKind, Shape};
/// use memenpsf::region::{OwnRegion, PeerRegion};
/// use memenpsf::{Name, RegionError};
///
/// let header = Header {
///     shape: Shape::of::<u64>(RingKind::Index, 16, ""),
///     layout: RegionLayout::new(128 + 16 * 8, 1 << 20)?,
///     nonce: 7,
/// };
/// let (own, descriptor) = OwnRegion::create(&Name::new("example")?, &header)?;
/// // The descriptor goes to the other process, which opens the region:
/// let peer = PeerRegion::open(descriptor, &header)?;
/// assert_eq!(own.layout().len(), peer.layout().len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct OwnRegion {
    map: MmapRaw,
    layout: RegionLayout,
}

impl OwnRegion {
    /// Creates a region, writes its header, and seals it. Returns it with the
    /// descriptor that is for the peer: send it, then drop it. `name` shows up in
    /// `/proc/PID/maps`.
    ///
    /// All of the memory is taken at once. A memfd has no limit of its own: where
    /// more is asked for than is free, Linux does not refuse but ends processes,
    /// this one or others. The limit given to [`RegionLayout::new`] is what
    /// prevents it.
    ///
    /// # Errors
    ///
    /// [`RegionError::FileSize`] if the process may not make files so long,
    /// [`RegionError::System`] with the step that the system refused, or
    /// [`RegionError::SealsMissing`] if it did not set the seals.
    pub fn create(name: &Name, header: &Header) -> Result<(Self, OwnedFd), RegionError> {
        let layout = header.layout;
        check_file_limit(layout.len() as u64)?;
        let fd = create_memfd(&format!("memenpsf:{name}"))?;
        // I1 of RegionLayout: its length fits in isize, which is at most i64.
        let len = i64::try_from(layout.len()).unwrap_or(i64::MAX);
        ftruncate(&fd, len).map_err(system(Step::Resize))?;
        allocate(&fd, layout.len() as u64)?;

        // MAP_POPULATE for kernels before 5.14, `populate` for its errors.
        let map = MmapOptions::new()
            .len(layout.len())
            .populate()
            .map_raw(&fd)
            .map_err(system(Step::Map))?;
        keep_from_forks(&map)?;
        populate(&map, Advice::PopulateWrite)?;
        let bytes = header.encode();
        // SAFETY: source and destination are HEADER_LEN long, the destination by I1;
        // the memfd is new and no one else has a descriptor or a pointer.
        unsafe {
            map.as_mut_ptr()
                .copy_from_nonoverlapping(bytes.as_ptr(), HEADER_LEN);
        };

        fcntl(&fd, FcntlArg::F_ADD_SEALS(SEALS)).map_err(system(Step::Seal))?;
        check_seals(&fd)?;
        Ok((Self { map, layout }, fd))
    }

    /// Returns the layout that the region was created with.
    ///
    /// ```
    /// # use memenpsf::{Name, layout::*, region::OwnRegion};
    /// # let layout = RegionLayout::new(1152, 4096)?;
    /// # let header = Header { shape: Shape::of::<u64>(RingKind::Index, 128, ""), layout, nonce: 7 };
    /// let (own, _descriptor) = OwnRegion::create(&Name::new("example")?, &header)?;
    /// assert_eq!(own.layout(), layout);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn layout(&self) -> RegionLayout {
        self.layout
    }

    /// Returns the consumer block of the inbound ring, [`BLOCK_LEN`] bytes,
    /// aligned to 128; good for reads and writes as long as the region lives.
    ///
    /// [`BLOCK_LEN`]: crate::layout::BLOCK_LEN
    pub fn consumer_block(&self) -> NonNull<u8> {
        block(&self.map, CONSUMER_OFFSET)
    }

    /// Returns the owner's waiting words, [`BLOCK_LEN`] bytes, aligned to 128; good
    /// for reads and writes as long as the region lives.
    ///
    /// [`BLOCK_LEN`]: crate::layout::BLOCK_LEN
    pub fn waiting(&self) -> NonNull<u8> {
        block(&self.map, WAITING_OFFSET)
    }

    /// Returns the producer block of the outbound ring,
    /// [`RegionLayout::producer_len`] bytes, aligned to 128; good for reads and
    /// writes as long as the region lives.
    ///
    /// ```
    /// # use memenpsf::{Name, layout::*, region::*};
    /// # let layout = RegionLayout::new(1152, 4096)?;
    /// # let header = Header { shape: Shape::of::<u64>(RingKind::Index, 128, ""), layout, nonce: 7 };
    /// let (own, descriptor) = OwnRegion::create(&Name::new("example")?, &header)?;
    /// let peer = PeerRegion::open(descriptor, &header)?;
    /// // SAFETY: the block begins with a word, and nobody else accesses it.
    /// unsafe { own.producer_block().cast::<u64>().write(42) };
    /// // SAFETY: as above.
    /// assert_eq!(unsafe { peer.producer_block().cast::<u64>().read_volatile() }, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn producer_block(&self) -> NonNull<u8> {
        block(&self.map, PRODUCER_OFFSET)
    }
}

impl fmt::Debug for OwnRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnRegion")
            .field("base", &self.map.as_mut_ptr())
            .field("layout", &self.layout)
            .finish()
    }
}

/// A region that the peer created: mapped for reading only.
///
/// Its owner may change every byte at any time; it can neither take the memory
/// away nor be changed by this side. Unmapped by drop.
pub struct PeerRegion {
    map: MmapRaw,
    layout: RegionLayout,
}

impl PeerRegion {
    /// Opens the region behind a descriptor that came with a hello. `expected` is
    /// what the hello said, checked. The descriptor is closed, whatever the
    /// outcome.
    ///
    /// It may be open for reading alone or for reading and writing: the seals and
    /// not the descriptor keep writers out, and nothing is gained from a peer that
    /// gives less away.
    ///
    /// # Errors
    ///
    /// One variant of [`RegionError`] for each property of the file that is not as
    /// it has to be, and for each step that the system refused.
    ///
    /// ```
    /// use std::os::fd::OwnedFd;
    /// use memenpsf::{RegionError, layout::*, region::PeerRegion};
    ///
    /// let layout = RegionLayout::new(1152, 4096)?;
    /// let shape = Shape::of::<u64>(RingKind::Index, 128, "");
    /// let pipe = OwnedFd::from(std::io::pipe()?.0);
    /// let refused = PeerRegion::open(pipe, &Header { shape, layout, nonce: 7 });
    /// assert!(matches!(refused, Err(RegionError::NotSealable)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[allow(
        clippy::needless_pass_by_value,
        reason = "the descriptor has no use after the region is mapped"
    )]
    pub fn open(fd: OwnedFd, expected: &Header) -> Result<Self, RegionError> {
        let layout = expected.layout;
        check_access_mode(&fd)?;
        check_seals(&fd)?;
        check_file(&fd, layout.len() as u64)?;

        // MAP_POPULATE for kernels before 5.14, `populate` for its errors.
        let map = MmapOptions::new()
            .len(layout.len())
            .populate()
            .map_raw_read_only(&fd)
            .map_err(system(Step::Map))?;
        keep_from_forks(&map)?;
        // A file may have holes and yet the right number of blocks: some lie
        // beyond its end (FALLOC_FL_KEEP_SIZE). Filling a hole can fail for want
        // of memory, here with an error, at a later access with a signal.
        populate(&map, Advice::PopulateRead)?;
        drop(fd);

        let region = Self { map, layout };
        let header = region.copy_header();
        expected.check(&header).map_err(RegionError::Header)?;
        Ok(region)
    }

    /// Copies the header into private memory, each byte fetched once.
    fn copy_header(&self) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        let (from, to) = (block(&self.map, 0).as_ptr(), header.as_mut_ptr());
        // PEER: fetched once; Header::check bounds the copy (I3). No ordering: the
        // socket has ordered it.
        // SAFETY: the mapping begins with a header (I1), which may change meanwhile;
        // the array is that long.
        unsafe { copy_out(from, to, HEADER_LEN) };
        header
    }

    /// Returns the layout that the region was opened with.
    ///
    /// ```
    /// # use memenpsf::{Name, layout::*, region::*};
    /// # let layout = RegionLayout::new(1152, 4096)?;
    /// # let header = Header { shape: Shape::of::<u64>(RingKind::Index, 128, ""), layout, nonce: 7 };
    /// let (_own, descriptor) = OwnRegion::create(&Name::new("example")?, &header)?;
    /// assert_eq!(PeerRegion::open(descriptor, &header)?.layout(), layout);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn layout(&self) -> RegionLayout {
        self.layout
    }

    /// Returns the consumer block of the peer's inbound ring, which is our
    /// outbound one: [`BLOCK_LEN`] bytes, aligned to 128; good for relaxed atomic
    /// loads as long as the region lives.
    ///
    /// [`BLOCK_LEN`]: crate::layout::BLOCK_LEN
    pub fn consumer_block(&self) -> *const u8 {
        block(&self.map, CONSUMER_OFFSET).as_ptr()
    }

    /// Returns the peer's waiting words, [`BLOCK_LEN`] bytes, aligned to 128; good
    /// for relaxed atomic loads as long as the region lives.
    ///
    /// [`BLOCK_LEN`]: crate::layout::BLOCK_LEN
    pub fn waiting(&self) -> *const u8 {
        block(&self.map, WAITING_OFFSET).as_ptr()
    }

    /// Returns the producer block of the peer's outbound ring, which is our
    /// inbound one: [`RegionLayout::producer_len`] bytes, aligned to 128; good for
    /// relaxed atomic loads as long as the region lives.
    pub fn producer_block(&self) -> *const u8 {
        block(&self.map, PRODUCER_OFFSET).as_ptr()
    }
}

impl fmt::Debug for PeerRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerRegion")
            .field("base", &self.map.as_ptr())
            .field("layout", &self.layout)
            .finish()
    }
}

/// Returns a pointer to the block at one of the offsets of [`crate::layout`].
fn block(map: &MmapRaw, offset: usize) -> NonNull<u8> {
    // SAFETY: a mapping without a fixed address never begins at zero.
    let base = unsafe { NonNull::new_unchecked(map.as_mut_ptr()) };
    // SAFETY: the mapping is as long as its layout (I1), and every layout has at
    // least PRODUCER_OFFSET bytes, the largest of the offsets.
    unsafe { base.add(offset) }
}

fn create_memfd(name: &str) -> Result<OwnedFd, RegionError> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    match memfd_create(name, flags | MFD_NOEXEC_SEAL) {
        // A kernel before 6.3 does not know the flag.
        Err(Errno::EINVAL) => memfd_create(name, flags),
        answer => answer,
    }
    .map_err(system(Step::Create))
}

/// Checks that the process may make a file of `len` bytes. A memfd counts as one, and
/// `ftruncate` beyond the limit raises SIGXFSZ, whose default is to end the process.
fn check_file_limit(len: u64) -> Result<(), RegionError> {
    let (limit, _) = getrlimit(Resource::RLIMIT_FSIZE).map_err(system(Step::Resize))?;
    if len > limit {
        return Err(RegionError::FileSize { needed: len, limit });
    }
    Ok(())
}

/// Puts memory behind every byte, so that no write ever finds the system out of
/// memory and raises a signal.
fn allocate(fd: &OwnedFd, len: u64) -> Result<(), RegionError> {
    allocate_by(len, |offset, count| {
        // Both are at most `len`, which fits in isize.
        let (offset, count) = (offset.cast_signed(), count.cast_signed());
        fallocate(fd, FallocateFlags::empty(), offset, count)
    })
    .map_err(system(Step::Allocate))
}

/// Calls `allocate` with an offset and a count until all of `len` is allocated. Smaller
/// steps after each interruption: whatever the time between two signals, one of
/// them is short enough.
fn allocate_by(len: u64, mut allocate: impl FnMut(u64, u64) -> nix::Result<()>) -> nix::Result<()> {
    let (mut done, mut step) = (0, ALLOCATE_STEP);
    while done < len {
        let count = step.min(len - done);
        match allocate(done, count) {
            Ok(()) => done += count,
            Err(Errno::EINTR) => step = (step / 2).max(SHORTEST_STEP),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// A fork would be a second producer (C5).
fn keep_from_forks(map: &MmapRaw) -> Result<(), RegionError> {
    map.advise(Advice::DontFork).map_err(system(Step::DontFork))
}

fn populate(map: &MmapRaw, advice: Advice) -> Result<(), RegionError> {
    match map.advise(advice) {
        // A kernel before 5.14; MAP_POPULATE has done what can be done.
        Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => Ok(()),
        answer => answer.map_err(system(Step::Populate)),
    }
}

fn check_access_mode(fd: impl AsFd) -> Result<(), RegionError> {
    let flags = fcntl(fd, FcntlArg::F_GETFL).map_err(system(Step::ReadFlags))?;
    let known = OFlag::from_bits_retain(flags);
    if known.contains(OFlag::O_PATH) {
        return Err(RegionError::PathOnly);
    }
    let mode = known & OFlag::O_ACCMODE;
    // The fourth value of O_ACCMODE, for device drivers, allows neither.
    if mode != OFlag::O_RDONLY && mode != OFlag::O_RDWR {
        return Err(RegionError::NotReadable { flags });
    }
    Ok(())
}

fn check_seals(fd: impl AsFd) -> Result<(), RegionError> {
    let have = match fcntl(fd, FcntlArg::F_GET_SEALS) {
        Err(Errno::EINVAL) => return Err(RegionError::NotSealable),
        answer => answer.map_err(system(Step::ReadSeals))?,
    };
    let need = SEALS.bits();
    // The needed bits, and not equality: a memfd born with NOEXEC_SEAL carries EXEC
    // and more with it (C3).
    if have & need != need {
        return Err(RegionError::SealsMissing { have, need });
    }
    Ok(())
}

/// Checks everything else that a signal could come from, once the seals make the
/// answers last (C1).
fn check_file(fd: impl AsFd, len: u64) -> Result<(), RegionError> {
    let file_system = fstatfs(&fd)
        .map_err(system(Step::FileSystem))?
        .filesystem_type();
    if file_system != TMPFS_MAGIC {
        return Err(RegionError::FileSystem {
            found: file_system.0,
            expected: TMPFS_MAGIC.0,
        });
    }
    let stat = fstat(&fd).map_err(system(Step::Stat))?;
    // Nothing but a regular file of tmpfs has seals; a kernel that changes this
    // finds us prepared.
    if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return Err(RegionError::FileKind { mode: stat.st_mode });
    }
    if u64::try_from(stat.st_size) != Ok(len) {
        return Err(RegionError::Length {
            found: stat.st_size,
            expected: len,
        });
    }
    // Blocks of 512 bytes, whatever st_blksize says.
    let allocated = u64::try_from(stat.st_blocks)
        .unwrap_or(0)
        .saturating_mul(512);
    if allocated < len {
        return Err(RegionError::Sparse {
            allocated,
            length: len,
        });
    }
    Ok(())
}

/// Names the step that the system refused.
fn system<E: Into<io::Error>>(step: Step) -> impl Fn(E) -> RegionError {
    move |error| RegionError::System {
        step,
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kernels that give up whatever takes longer than the time between two signals.
    #[test]
    fn allocation_ends_however_short_the_calls_have_to_be() {
        for longest in [SHORTEST_STEP, 64 << 10, 1 << 20, 1 << 30] {
            let (len, mut end) = ((9 << 20) + 4096, 0);
            let mut interruptions = 0;
            let answer = allocate_by(len, |offset, count| {
                assert_eq!(offset, end, "without a gap");
                assert!(offset + count <= len);
                if count > longest {
                    interruptions += 1;
                    assert!(interruptions < 100, "never ends");
                    return Err(Errno::EINTR);
                }
                end += count;
                Ok(())
            });
            assert_eq!((answer, end), (Ok(()), len));
        }
        let refused = allocate_by(1 << 20, |_, _| Err(Errno::ENOSPC));
        assert_eq!(refused, Err(Errno::ENOSPC));
    }
}
