//! Where everything lies in a region, and what its header says: pure
//! arithmetic, no system calls.
//!
//! A region is one memfd that holds only words that its owner writes; the peer
//! maps it read-only.
//!
//! | offset | size | field | who writes it |
//! |---|---|---|---|
//! | 0 | 128 | header, see [`Header`] | owner, once, before the region is sealed |
//! | 128 | 128 | consumer block of the owner's inbound ring: head (`u64`), rest zero | owner |
//! | 256 | 128 | waiting words of the owner | owner |
//! | 384 | as the ring's layout asks | producer block of the owner's outbound ring, as [`memenpsf_ring`] describes it for each kind | owner |
//! | end | to the next multiple of 4096 | zero | nobody |
//!
//! Blocks begin 128 bytes apart: x86 prefetches cache lines in pairs of 64
//! bytes, and some arm64 cores have lines of 128. Zeroed memory is an empty ring
//! and an owner that is awake.

use std::fmt;

use crate::error::{Field, Mismatch, RegionError};

/// First bytes of every header and every handshake frame: `memenpsf`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"memenpsf");
/// Version of the layout, the handshake and the control frames.
pub const VERSION: u32 = 1;
/// The byte order of the words in a region: `0x0102_0304` on a little-endian
/// machine, `0x0403_0201` on a big-endian one. The two processes share a host, yet
/// one may run under an emulator.
pub const ENDIAN_TAG: u32 = u32::from_le_bytes(0x0102_0304_u32.to_ne_bytes());

/// Size of the header.
pub const HEADER_LEN: usize = 128;
/// Offset of the consumer block.
pub const CONSUMER_OFFSET: usize = 128;
/// Offset of the waiting words.
pub const WAITING_OFFSET: usize = 256;
/// Offset of the producer block.
pub const PRODUCER_OFFSET: usize = 384;
/// Size of the consumer block and of the waiting words.
pub const BLOCK_LEN: usize = 128;
/// Offset of the slots in a producer block.
pub const SLOTS_OFFSET: usize = 128;

/// A region's length is a multiple of this: the smallest page of any Linux. A
/// constant and not the page size of the host, so that the length follows from
/// the parameters alone; on larger pages the kernel rounds the mapping up.
pub const LENGTH_UNIT: u64 = 4096;

/// Default of the longest region that is created or mapped: 1 GiB. Both sides
/// pre-fault the whole region, so this is what one peer may make the other map
/// and wait for; larger rings are asked for by name.
pub const DEFAULT_REGION_LIMIT: u64 = 1 << 30;

/// The length of a region, checked.
///
/// ```
/// use memenpsf::layout::{DEFAULT_REGION_LIMIT, RegionLayout};
///
/// // An index ring of 512 slots of 8 bytes: 128 bytes of tail and its padding.
/// let layout = RegionLayout::new(128 + 512 * 8, DEFAULT_REGION_LIMIT)?;
/// assert_eq!(layout.len(), 8192);
/// # Ok::<(), memenpsf::RegionError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RegionLayout {
    producer_len: usize,
    len: usize,
}

impl RegionLayout {
    /// Lays out a region whose producer block is `producer_len` bytes long.
    ///
    /// # Errors
    ///
    /// [`RegionError::TooLarge`] if the region is longer than `limit`,
    /// [`RegionError::Overflow`] if its length fits into no address space.
    ///
    /// ```
    /// use memenpsf::{RegionError, layout::RegionLayout};
    ///
    /// let refused = RegionLayout::new(1 << 20, 1 << 16).unwrap_err();
    /// assert!(matches!(refused, RegionError::TooLarge { limit: 0x1_0000, .. }));
    /// ```
    pub fn new(producer_len: u64, limit: u64) -> Result<Self, RegionError> {
        let overflow = RegionError::Overflow { producer_len };
        let Some(needed) = producer_len
            .checked_add(PRODUCER_OFFSET as u64)
            .and_then(|used| used.checked_next_multiple_of(LENGTH_UNIT))
        else {
            return Err(overflow);
        };
        if needed > limit {
            return Err(RegionError::TooLarge { needed, limit });
        }
        // isize, because no object and no pointer offset may exceed it.
        match (isize::try_from(needed), usize::try_from(producer_len)) {
            (Ok(len), Ok(producer_len)) => Ok(Self {
                producer_len,
                len: len.unsigned_abs(),
            }),
            _ => Err(overflow),
        }
    }

    /// Returns the length of the region in bytes, never zero.
    ///
    /// ```
    /// let layout = memenpsf::layout::RegionLayout::new(0, 4096)?;
    /// assert_eq!(layout.len(), 4096);
    /// # Ok::<(), memenpsf::RegionError>(())
    /// ```
    #[allow(
        clippy::len_without_is_empty,
        reason = "a region holds at least its header"
    )]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns the length of the producer block in bytes, as it was given.
    ///
    /// ```
    /// let layout = memenpsf::layout::RegionLayout::new(1152, 4096)?;
    /// assert_eq!(layout.producer_len(), 1152);
    /// # Ok::<(), memenpsf::RegionError>(())
    /// ```
    pub const fn producer_len(&self) -> usize {
        self.producer_len
    }
}

/// Which of the rings a region carries.
///
/// ```
/// use memenpsf::layout::RingKind;
///
/// assert_eq!(RingKind::from_code(RingKind::Packed.code()), Some(RingKind::Packed));
/// assert_eq!(RingKind::from_code(0), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RingKind {
    /// Separate tail and head, slots of one element.
    Index,
    /// Cache lines that carry their own state.
    Packed,
    /// Records of variable length.
    Bytes,
}

impl RingKind {
    /// Returns the number that stands for the kind in headers and frames.
    pub const fn code(self) -> u32 {
        match self {
            Self::Index => 1,
            Self::Packed => 2,
            Self::Bytes => 3,
        }
    }

    /// Returns the kind that `code` stands for.
    pub const fn from_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::Index),
            2 => Some(Self::Packed),
            3 => Some(Self::Bytes),
            _ => None,
        }
    }
}

impl fmt::Display for RingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Index => "index",
            Self::Packed => "packed",
            Self::Bytes => "bytes",
        })
    }
}

/// What one ring carries, and how much of it.
///
/// Everything but the capacity and the longest message must be equal on both sides;
/// the two directions of a connection may differ in those.
///
/// ```
/// use memenpsf::layout::{RingKind, Shape};
///
/// let shape = Shape::of::<u64>(RingKind::Index, 1024, "");
/// assert_eq!(shape, Shape::new(RingKind::Index, 8, 8, 1024, ""));
/// // Another meaning of the same eight bytes:
/// let other = Shape::of::<u64>(RingKind::Index, 1024, "nanoseconds");
/// assert_ne!(shape.layout_hash, other.layout_hash);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Which ring.
    pub kind: RingKind,
    /// Size of one element in bytes.
    pub element_size: u32,
    /// Alignment of one element in bytes.
    pub element_align: u32,
    /// [`layout_hash`] of the kind, the element and the schema.
    pub layout_hash: u64,
    /// Number of slots, in a bytes ring of bytes.
    pub capacity: u64,
    /// Length of the longest message of a bytes ring, 0 in the others.
    pub longest: u64,
}

impl Shape {
    /// Describes a ring of `capacity` slots; `schema` is the user's own word for
    /// what an element means, compared through the hash only.
    pub const fn new(
        kind: RingKind,
        element_size: u32,
        element_align: u32,
        capacity: u64,
        schema: &str,
    ) -> Self {
        Self {
            kind,
            element_size,
            element_align,
            layout_hash: layout_hash(kind, element_size, element_align, schema),
            capacity,
            longest: 0,
        }
    }

    /// Describes a bytes ring of `capacity` bytes for messages of up to `longest`.
    /// Its element is the byte.
    ///
    /// ```
    /// use memenpsf::layout::Shape;
    ///
    /// let shape = Shape::of_bytes(65_536, 1500, "");
    /// assert_eq!((shape.element_size, shape.longest), (1, 1500));
    /// ```
    pub const fn of_bytes(capacity: u64, longest: u64, schema: &str) -> Self {
        Self {
            longest,
            ..Self::new(RingKind::Bytes, 1, 1, capacity, schema)
        }
    }

    /// Describes a ring of elements of type `T`. A `T` of 4 GiB or more does not
    /// compile.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "checked by the assertion, at compile time"
    )]
    pub const fn of<T>(kind: RingKind, capacity: u64, schema: &str) -> Self {
        const { assert!(size_of::<T>() <= u32::MAX as usize) };
        // An alignment is never above the size, or 2^29 for an empty type.
        const { assert!(align_of::<T>() <= u32::MAX as usize) };
        Self::new(
            kind,
            size_of::<T>() as u32,
            align_of::<T>() as u32,
            capacity,
            schema,
        )
    }
}

/// Returns the structural hash of a layout: two programs that disagree on
/// anything that decides where a byte lies and what it means get different
/// values.
///
/// It is FNV-1a with 64 bits (Fowler, Noll, Vo; RFC 9923) over these numbers,
/// each as eight little-endian bytes, and then the bytes of `schema`: protocol
/// version, kind, element size, element alignment, offsets of consumer block,
/// waiting words, producer block and slots, bits of a position. It finds
/// mistakes; it does not keep anybody out.
///
/// ```
/// use memenpsf::layout::{RingKind, layout_hash};
///
/// let hash = layout_hash(RingKind::Index, 8, 8, "");
/// assert_eq!(hash, layout_hash(RingKind::Index, 8, 8, ""));
/// assert_ne!(hash, layout_hash(RingKind::Packed, 8, 8, ""));
/// assert_ne!(hash, layout_hash(RingKind::Index, 8, 4, ""));
/// ```
pub const fn layout_hash(
    kind: RingKind,
    element_size: u32,
    element_align: u32,
    schema: &str,
) -> u64 {
    // FNV-1a's offset basis.
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let numbers = [
        VERSION as u64,
        kind.code() as u64,
        element_size as u64,
        element_align as u64,
        CONSUMER_OFFSET as u64,
        WAITING_OFFSET as u64,
        PRODUCER_OFFSET as u64,
        SLOTS_OFFSET as u64,
        u64::BITS as u64,
    ];
    // Loops by index: iterators are not const.
    let mut next = 0;
    while next < numbers.len() {
        hash = fnv1a(hash, &numbers[next].to_le_bytes());
        next += 1;
    }
    fnv1a(hash, schema.as_bytes())
}

const fn fnv1a(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut next = 0;
    while next < bytes.len() {
        hash ^= bytes[next] as u64;
        // FNV's prime of 64 bits.
        hash = hash.wrapping_mul(0x0100_0000_01b3);
        next += 1;
    }
    hash
}

/// What the header of a region says. Written once by the owner; read once by the
/// peer, and compared with what the hello announced.
///
/// Every number is stored little-endian.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 8 | magic, [`MAGIC`] |
/// | 8 | 4 | version, [`VERSION`] |
/// | 12 | 4 | endian tag, [`ENDIAN_TAG`] |
/// | 16 | 4 | element size |
/// | 20 | 4 | element alignment |
/// | 24 | 8 | layout hash |
/// | 32 | 8 | capacity |
/// | 40 | 4 | kind of the ring |
/// | 44 | 4 | flags, zero |
/// | 48 | 8 | region length |
/// | 56 | 8 | nonce |
/// | 64 | 8 | longest message of a bytes ring, else zero |
/// | 72 | 56 | reserved, zero |
///
/// ```
/// use memenpsf::layout::{Header, RegionLayout, RingKind, Shape};
///
/// let header = Header {
///     shape: Shape::of::<u64>(RingKind::Index, 16, ""),
///     layout: RegionLayout::new(128 + 16 * 8, 1 << 20)?,
///     nonce: 7,
/// };
/// let written = header.encode();
/// assert_eq!(header.check(&written), Ok(()));
///
/// let other = Header { nonce: 8, ..header };
/// let mismatch = other.check(&written).unwrap_err();
/// assert_eq!((mismatch.found, mismatch.expected), (7, 8));
/// # Ok::<(), memenpsf::RegionError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header {
    /// The owner's outbound ring.
    pub shape: Shape,
    /// The region that holds it.
    pub layout: RegionLayout,
    /// A number that ties a descriptor to the hello that it came with.
    pub nonce: u64,
}

impl Header {
    /// Returns the bytes of the header.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        put(&mut bytes, 0, &MAGIC.to_le_bytes());
        put(&mut bytes, 8, &VERSION.to_le_bytes());
        put(&mut bytes, 12, &ENDIAN_TAG.to_le_bytes());
        put(&mut bytes, 16, &self.shape.element_size.to_le_bytes());
        put(&mut bytes, 20, &self.shape.element_align.to_le_bytes());
        put(&mut bytes, 24, &self.shape.layout_hash.to_le_bytes());
        put(&mut bytes, 32, &self.shape.capacity.to_le_bytes());
        put(&mut bytes, 40, &self.shape.kind.code().to_le_bytes());
        put(&mut bytes, 48, &self.region_length().to_le_bytes());
        put(&mut bytes, 56, &self.nonce.to_le_bytes());
        put(&mut bytes, 64, &self.shape.longest.to_le_bytes());
        bytes
    }

    /// Compares the header that was read from a region with this one, field by
    /// field.
    ///
    /// # Errors
    ///
    /// The first field that differs, with both values.
    pub fn check(&self, bytes: &[u8; HEADER_LEN]) -> Result<(), Mismatch> {
        let word = |at| u64::from(u32_at(bytes, at));
        let shape = &self.shape;
        compare(Field::Magic, u64_at(bytes, 0), MAGIC)?;
        compare(Field::Version, word(8), VERSION.into())?;
        compare(Field::Endian, word(12), ENDIAN_TAG.into())?;
        compare(Field::ElementSize, word(16), shape.element_size.into())?;
        compare(Field::ElementAlign, word(20), shape.element_align.into())?;
        compare(Field::RingKind, word(40), shape.kind.code().into())?;
        compare(Field::Flags, word(44), 0)?;
        compare(Field::LayoutHash, u64_at(bytes, 24), shape.layout_hash)?;
        compare(Field::Capacity, u64_at(bytes, 32), shape.capacity)?;
        compare(Field::RegionLength, u64_at(bytes, 48), self.region_length())?;
        compare(Field::Nonce, u64_at(bytes, 56), self.nonce)?;
        compare(Field::Longest, u64_at(bytes, 64), shape.longest)?;
        all_zero(&bytes[72..])
    }

    /// Returns the region's length as it stands in headers and hellos.
    pub const fn region_length(&self) -> u64 {
        self.layout.len as u64
    }
}

/// Refuses anything but the expected value.
pub(crate) fn compare(field: Field, found: u64, expected: u64) -> Result<(), Mismatch> {
    if found == expected {
        Ok(())
    } else {
        Err(Mismatch {
            field,
            found,
            expected,
        })
    }
}

/// Refuses reserved bytes that are not zero.
pub(crate) fn all_zero(reserved: &[u8]) -> Result<(), Mismatch> {
    let found = reserved.iter().copied().find(|&byte| byte != 0);
    compare(Field::Reserved, found.unwrap_or(0).into(), 0)
}

/// Writes a field. `at` is one of the constants of a frame's table.
pub(crate) fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..][..field.len()].copy_from_slice(field);
}

/// Reads a field of four bytes. `at` is one of the constants of a frame's table.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..][..4]);
    u32::from_le_bytes(field)
}

/// Reads a field of eight bytes. `at` is one of the constants of a frame's table.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..][..8]);
    u64::from_le_bytes(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv1a_agrees_with_published_vectors() {
        // From the reference test suite of FNV (RFC 9923, appendix).
        assert_eq!(fnv1a(0xcbf2_9ce4_8422_2325, b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(0xcbf2_9ce4_8422_2325, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(
            fnv1a(0xcbf2_9ce4_8422_2325, b"foobar"),
            0x8594_4171_f739_67e8
        );
    }

    #[test]
    fn layout_rounds_up_and_refuses_what_does_not_fit() {
        let len = |block| RegionLayout::new(block, u64::MAX).map(|layout| layout.len());
        assert_eq!(len(0).unwrap(), 4096);
        assert_eq!(len(4096 - 384).unwrap(), 4096);
        assert_eq!(len(4096 - 383).unwrap(), 8192);
        for block in [u64::MAX, u64::MAX - 384, u64::MAX - 4479, 1 << 63] {
            assert!(
                matches!(len(block), Err(RegionError::Overflow { producer_len }) if producer_len == block),
                "{block:#x}"
            );
        }
        assert!(RegionLayout::new(4096 - 384, 4096).is_ok());
        assert!(matches!(
            RegionLayout::new(4096 - 383, 8191),
            Err(RegionError::TooLarge {
                needed: 8192,
                limit: 8191
            })
        ));
    }
}
