//! What two ends do not have in common.

use std::fmt;

use crate::layout::RingKind;

/// Which field of a header or a frame is not what it has to be.
///
/// The numbers are the codes of a refusal on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum Field {
    /// The first eight bytes: the peer speaks another protocol.
    Magic = 1,
    /// The protocol's version.
    Version = 2,
    /// The byte order.
    Endian = 3,
    /// The kind of frame: one that has no place here.
    FrameKind = 4,
    /// The role: two clients, or two servers.
    Role = 5,
    /// The size of an element.
    ElementSize = 6,
    /// The alignment of an element.
    ElementAlign = 7,
    /// The structural hash of the layout.
    LayoutHash = 8,
    /// The kind of ring.
    RingKind = 9,
    /// A flag that this version does not know.
    Flags = 10,
    /// The capacity: in a hello one that the kind of ring cannot have (nothing
    /// is expected), in a header another than the hello announced.
    Capacity = 11,
    /// The region's length: another than follows from kind, element and capacity.
    RegionLength = 12,
    /// The nonce: the descriptor or the answer belongs to another hello.
    Nonce = 13,
    /// A reserved byte that is not zero.
    Reserved = 14,
    /// The length of the name.
    NameLength = 15,
    /// The name is not UTF-8 or has a character that a name must not have;
    /// `found` is its offset.
    NameText = 16,
    /// The number of descriptors that came with a frame.
    Descriptors = 17,
    /// The longest message: in a hello one that does not fit into the ring (nothing
    /// is expected), in a header another than the hello announced.
    Longest = 18,
}

impl Field {
    const ALL: [Self; 18] = [
        Self::Magic,
        Self::Version,
        Self::Endian,
        Self::FrameKind,
        Self::Role,
        Self::ElementSize,
        Self::ElementAlign,
        Self::LayoutHash,
        Self::RingKind,
        Self::Flags,
        Self::Capacity,
        Self::RegionLength,
        Self::Nonce,
        Self::Reserved,
        Self::NameLength,
        Self::NameText,
        Self::Descriptors,
        Self::Longest,
    ];

    pub(super) fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|&field| field as u32 == code)
    }

    fn words(self) -> &'static str {
        match self {
            Self::Magic => "magic",
            Self::Version => "protocol version",
            Self::Endian => "endian tag",
            Self::FrameKind => "kind of frame",
            Self::Role => "role",
            Self::ElementSize => "element size",
            Self::ElementAlign => "element alignment",
            Self::LayoutHash => "layout hash",
            Self::RingKind => "kind of ring",
            Self::Flags => "flags",
            Self::Capacity => "capacity",
            Self::RegionLength => "region length",
            Self::Nonce => "nonce",
            Self::Reserved => "reserved byte",
            Self::NameLength => "length of the name",
            Self::NameText => "name",
            Self::Descriptors => "number of descriptors",
            Self::Longest => "longest message",
        }
    }
}

/// One field of the peer's header or frame differs from what it has to be.
///
/// ```
/// use memenpsf::{Mismatch, error::Field};
///
/// let mismatch = Mismatch { field: Field::ElementSize, found: 4, expected: 8 };
/// assert_eq!(mismatch.to_string(), "element size is 4, expected 8");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mismatch {
    /// Which field.
    pub field: Field,
    /// What the peer said.
    pub found: u64,
    /// What it has to say.
    pub expected: u64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            found,
            expected,
        } = *self;
        let words = field.words();
        match field {
            Field::Magic | Field::Endian | Field::LayoutHash | Field::Nonce | Field::Flags => {
                write!(f, "{words} is {found:#x}, expected {expected:#x}")
            }
            Field::NameLength => write!(f, "{words} is {found}, at most {expected} is allowed"),
            Field::NameText => write!(f, "{words} has a forbidden character at offset {found}"),
            Field::Capacity if expected == 0 => {
                write!(f, "{words} {found} is not possible for this kind of ring")
            }
            Field::Longest if expected == 0 => {
                write!(f, "{words} of {found} bytes does not fit into the ring")
            }
            Field::RingKind => write!(
                f,
                "{words} is {}, expected {}",
                ring_kind(found),
                ring_kind(expected)
            ),
            _ => write!(f, "{words} is {found}, expected {expected}"),
        }
    }
}

/// Returns the name of the kind of ring that a code stands for.
fn ring_kind(code: u64) -> String {
    let kind = u32::try_from(code).ok().and_then(RingKind::from_code);
    kind.map_or_else(|| code.to_string(), |kind| kind.to_string())
}

impl std::error::Error for Mismatch {}
