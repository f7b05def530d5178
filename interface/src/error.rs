//! What can go wrong, one type for each set of causes.

use std::fmt;
use std::io;

use thiserror::Error;

use crate::frame;
use crate::layout::RingKind;

mod connect;
mod exchange;
mod serve;

pub use connect::ConnectError;
pub(crate) use exchange::Ended;
pub use exchange::{
    ByteXmitError, ControlError, Departure, RecvError, TransmitError, Violation, XmitError,
};
pub use serve::{AcceptError, BindError};

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

    fn from_code(code: u32) -> Option<Self> {
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

/// Why text is no name of an endpoint.
///
/// ```
/// use memenpsf::{Name, error::NameError};
///
/// assert_eq!(Name::new("a\nb"), Err(NameError::Forbidden { offset: 1 }));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum NameError {
    /// More bytes than a hello has room for.
    #[error("the name has {len} bytes, at most {limit} fit")]
    TooLong {
        /// How many bytes the text has.
        len: usize,
        /// How many a name may have.
        limit: usize,
    },
    /// A character that could mislead who reads it on a terminal or in a log.
    #[error("the name has a forbidden character at offset {offset}")]
    Forbidden {
        /// Its offset in bytes.
        offset: usize,
    },
}

/// Which step of creating or opening a region the system refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// `memfd_create`
    Create,
    /// `ftruncate`
    Resize,
    /// `fallocate`
    Allocate,
    /// `mmap`
    Map,
    /// `madvise(MADV_DONTFORK)`
    DontFork,
    /// `madvise(MADV_POPULATE_READ)` or `MADV_POPULATE_WRITE`
    Populate,
    /// `fcntl(F_ADD_SEALS)`
    Seal,
    /// `fcntl(F_GET_SEALS)`
    ReadSeals,
    /// `fcntl(F_GETFL)`
    ReadFlags,
    /// `fstatfs`
    FileSystem,
    /// `fstat`
    Stat,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create the memfd",
            Self::Resize => "set the length",
            Self::Allocate => "allocate the memory",
            Self::Map => "map the region",
            Self::DontFork => "keep the mapping out of forks",
            Self::Populate => "fault the pages in",
            Self::Seal => "seal the region",
            Self::ReadSeals => "read the seals",
            Self::ReadFlags => "read the access mode",
            Self::FileSystem => "ask for the file system",
            Self::Stat => "ask for the length",
        })
    }
}

/// Why a region was not created or not opened.
///
/// ```
/// use memenpsf::{RegionError, layout::RegionLayout};
///
/// let error = RegionLayout::new(5000, 4096).unwrap_err();
/// assert_eq!(error.to_string(), "the region needs 8192 bytes, the limit is 4096");
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegionError {
    /// The region is longer than the caller's limit.
    #[error("the region needs {needed} bytes, the limit is {limit}")]
    TooLarge {
        /// Length that the region would have.
        needed: u64,
        /// The limit.
        limit: u64,
    },
    /// The region fits into no address space.
    #[error("a producer block of {producer_len} bytes does not fit into the address space")]
    Overflow {
        /// Length of the producer block.
        producer_len: u64,
    },
    /// The system refused a step.
    #[error("cannot {step}")]
    System {
        /// Which step.
        step: Step,
        /// The system's answer.
        source: io::Error,
    },
    /// The descriptor names a path and opens nothing (`O_PATH`).
    #[error("the descriptor is a mere path (O_PATH)")]
    PathOnly,
    /// The descriptor cannot be read from.
    #[error("the descriptor is not open for reading (flags {flags:#x})")]
    NotReadable {
        /// The flags of the open file.
        flags: i32,
    },
    /// The descriptor is of a kind that has no seals: no memfd.
    #[error("the descriptor is no memfd: it has no seals")]
    NotSealable,
    /// A seal is missing.
    #[error("the seals are {have:#x}, needed are {need:#x}")]
    SealsMissing {
        /// The seals that are set.
        have: i32,
        /// The seals that have to be set.
        need: i32,
    },
    /// The file lies in a file system other than tmpfs, such as hugetlbfs.
    #[error("the file system is {found:#x}, expected tmpfs, {expected:#x}")]
    FileSystem {
        /// Magic number of the file system.
        found: i64,
        /// Magic number of tmpfs.
        expected: i64,
    },
    /// The file is not a regular one.
    #[error("the file is not a regular one (mode {mode:#o})")]
    FileKind {
        /// Its mode.
        mode: u32,
    },
    /// The file is not as long as the hello says.
    #[error("the file has {found} bytes, expected {expected}")]
    Length {
        /// Length of the file.
        found: i64,
        /// Length of the region.
        expected: u64,
    },
    /// Parts of the file have no memory behind them.
    #[error("only {allocated} of {length} bytes are allocated")]
    Sparse {
        /// How many bytes are allocated.
        allocated: u64,
        /// How many the file has.
        length: u64,
    },
    /// The header says something else than the hello.
    #[error("the region's header does not match")]
    Header(#[source] Mismatch),
}

/// Why a side ends a handshake.
///
/// It travels in a refusal as a code and two numbers.
///
/// ```
/// use memenpsf::Reason;
///
/// assert_eq!(Reason::Busy { limit: 64 }.to_string(), "all 64 places for clients are taken");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Reason {
    /// A field is not what it has to be.
    #[error(transparent)]
    Mismatch(Mismatch),
    /// A frame came when it was not the peer's turn.
    #[error("a frame came out of turn")]
    OutOfTurn,
    /// The server has as many clients as it takes.
    #[error("all {limit} places for clients are taken")]
    Busy {
        /// How many it takes.
        limit: u64,
    },
    /// The server has as many unfinished handshakes as it takes.
    #[error("all {limit} places for unfinished handshakes are taken")]
    HalfOpen {
        /// How many it takes.
        limit: u64,
    },
    /// The server's policy refuses this peer.
    #[error("not permitted")]
    NotPermitted,
    /// The region is longer than the other side maps.
    #[error("the region needs {needed} bytes, the limit is {limit}")]
    Memory {
        /// How much is needed.
        needed: u64,
        /// How much is allowed.
        limit: u64,
    },
    /// The handshake took too long.
    #[error("the handshake took too long")]
    Deadline,
    /// Another client has this name.
    #[error("the name is in use")]
    NameInUse,
    /// The server is about to end.
    #[error("shutting down")]
    ShuttingDown,
    /// The region behind the descriptor was not accepted, or could not be made;
    /// the words of the refusal say why.
    #[error("the region was not accepted")]
    Region,
    /// A reason that this version does not know, or one of the application's:
    /// those begin at [`Reason::APPLICATION`].
    #[error("reason {code} ({found}, {expected})")]
    Other {
        /// The code.
        code: u32,
        /// The first number.
        found: u64,
        /// The second number.
        expected: u64,
    },
}

impl Reason {
    /// The first code that the project itself never uses.
    pub const APPLICATION: u32 = 0x1_0000;

    /// Returns the code and the two numbers that stand for the reason.
    ///
    /// ```
    /// use memenpsf::Reason;
    ///
    /// let reason = Reason::Memory { needed: 8192, limit: 4096 };
    /// let (code, found, expected) = reason.to_parts();
    /// assert_eq!(Reason::from_parts(code, found, expected), reason);
    /// ```
    pub const fn to_parts(self) -> (u32, u64, u64) {
        match self {
            Self::Mismatch(Mismatch {
                field,
                found,
                expected,
            }) => (field as u32, found, expected),
            Self::OutOfTurn => (64, 0, 0),
            Self::Busy { limit } => (65, 0, limit),
            Self::HalfOpen { limit } => (66, 0, limit),
            Self::NotPermitted => (67, 0, 0),
            Self::Memory { needed, limit } => (68, needed, limit),
            Self::Deadline => (69, 0, 0),
            Self::NameInUse => (70, 0, 0),
            Self::ShuttingDown => (71, 0, 0),
            Self::Region => (72, 0, 0),
            Self::Other {
                code,
                found,
                expected,
            } => (code, found, expected),
        }
    }

    /// Returns the reason that a code and two numbers stand for: any code stands
    /// for one.
    pub fn from_parts(code: u32, found: u64, expected: u64) -> Self {
        match code {
            64 => Self::OutOfTurn,
            65 => Self::Busy { limit: expected },
            66 => Self::HalfOpen { limit: expected },
            67 => Self::NotPermitted,
            68 => Self::Memory {
                needed: found,
                limit: expected,
            },
            69 => Self::Deadline,
            70 => Self::NameInUse,
            71 => Self::ShuttingDown,
            72 => Self::Region,
            _ => match Field::from_code(code) {
                Some(field) => Self::Mismatch(Mismatch {
                    field,
                    found,
                    expected,
                }),
                None => Self::Other {
                    code,
                    found,
                    expected,
                },
            },
        }
    }
}

impl From<Mismatch> for Reason {
    fn from(mismatch: Mismatch) -> Self {
        Self::Mismatch(mismatch)
    }
}

/// A reason, and the words that go with it.
///
/// The words of a refusal that came from the peer are the peer's: they are
/// shown, never acted upon, and have no character that could deceive a
/// terminal.
///
/// ```
/// use memenpsf::{Reason, Refusal};
///
/// let plain = Refusal::from(Reason::ShuttingDown);
/// assert_eq!(plain.to_string(), "shutting down");
///
/// let told = Refusal::with_words(Reason::NotPermitted, "uid 1000 only\u{7}");
/// assert_eq!(told.to_string(), "not permitted: uid 1000 only\u{fffd}");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Refusal {
    reason: Reason,
    words: String,
}

impl Refusal {
    /// Returns a refusal with words beyond those of the reason itself. Cut to
    /// what a frame has room for; characters that could mislead who reads them
    /// become U+FFFD.
    pub fn with_words(reason: Reason, words: &str) -> Self {
        Self {
            reason,
            words: frame::tame(words, frame::WORDS_LIMIT),
        }
    }

    /// Returns why.
    ///
    /// ```
    /// use memenpsf::{Reason, Refusal};
    ///
    /// assert_eq!(Refusal::from(Reason::Deadline).reason(), Reason::Deadline);
    /// ```
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Returns the words.
    ///
    /// ```
    /// use memenpsf::{Reason, Refusal};
    ///
    /// assert_eq!(Refusal::from(Reason::NameInUse).words(), "the name is in use");
    /// ```
    pub fn words(&self) -> &str {
        &self.words
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason.to_string();
        f.write_str(&reason)?;
        if !self.words.is_empty() && self.words != reason {
            write!(f, ": {}", self.words)?;
        }
        Ok(())
    }
}

impl<R: Into<Reason>> From<R> for Refusal {
    fn from(reason: R) -> Self {
        let reason = reason.into();
        Self::with_words(reason, &reason.to_string())
    }
}

impl From<&RegionError> for Refusal {
    fn from(error: &RegionError) -> Self {
        match error {
            RegionError::TooLarge { needed, limit } => Reason::Memory {
                needed: *needed,
                limit: *limit,
            }
            .into(),
            // The peer needs the cause, which the error's own words leave to
            // `source`.
            RegionError::Header(mismatch) => {
                Self::with_words(Reason::Region, &format!("{error}: {mismatch}"))
            }
            _ => Self::with_words(Reason::Region, &error.to_string()),
        }
    }
}

/// Why a handshake did not succeed.
///
/// ```
/// use memenpsf::{HandshakeError, Reason};
///
/// let error = HandshakeError::Refused(Reason::NameInUse.into());
/// assert_eq!(error.to_string(), "the peer refused: the name is in use");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// This side refused the peer, and told it so where that was possible.
    #[error("the peer was refused: {0}")]
    Refusing(Refusal),
    /// The peer refused this side.
    #[error("the peer refused: {0}")]
    Refused(Refusal),
    /// The peer went away.
    #[error("the peer closed the connection during the handshake, {received} bytes into a frame")]
    Closed {
        /// How many bytes of an unfinished frame had come.
        received: usize,
    },
}

/// The peer broke a rule of the control frames. The connection ends.
///
/// ```
/// use memenpsf::{ControlViolation, control::Decoder};
///
/// let error = Decoder::new().decode(&mut &b"GET / HT"[..]).unwrap_err();
/// assert_eq!(error, ControlViolation::Marker { found: b'G' });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum ControlViolation {
    /// The first byte of a frame is not the marker.
    #[error("a control frame begins with {found:#04x}")]
    Marker {
        /// The byte.
        found: u8,
    },
    /// A kind of frame that does not exist.
    #[error("there is no control frame of kind {found}")]
    Kind {
        /// The kind.
        found: u8,
    },
    /// A reserved byte is not zero.
    #[error("a reserved byte of a control frame of kind {kind} is {found:#04x}")]
    Reserved {
        /// The kind of frame.
        kind: u8,
        /// The byte.
        found: u8,
    },
    /// A byte came after the peer had said goodbye.
    #[error("a byte came after the goodbye")]
    AfterBye,
    /// The stream ended inside a frame.
    #[error("the stream ended {received} bytes into a control frame")]
    Truncated {
        /// How many bytes of the frame had come.
        received: usize,
    },
}
