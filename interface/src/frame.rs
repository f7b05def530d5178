//! The frames of the handshake: bytes in, values out.
//!
//! Every frame is 256 bytes long and every number in it is little-endian. A frame
//! begins with
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic, `memenpsf` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | kind: 1 hello, 2 refusal, 3 accept |
//!
//! A hello goes on with the following; one descriptor travels with it.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 16 | 4 | endian tag |
//! | 20 | 4 | role: 0 client, 1 server |
//! | 24 | 4 | element size |
//! | 28 | 4 | element alignment |
//! | 32 | 8 | layout hash |
//! | 40 | 8 | capacity of the sender's outbound ring |
//! | 48 | 4 | kind of ring: 1 index, 2 packed, 3 bytes |
//! | 52 | 4 | flags, see [`Flags`] |
//! | 56 | 8 | length of the sender's region |
//! | 64 | 8 | nonce |
//! | 72 | 4 | length of the name |
//! | 76 | 4 | reserved, zero |
//! | 80 | 64 | name, UTF-8, rest zero |
//! | 144 | 8 | longest message of the sender's outbound ring, for a bytes ring; else zero |
//! | 152 | 8 | longest message that the sender accepts, for a bytes ring; else zero |
//! | 160 | 96 | reserved, zero |
//!
//! A refusal goes on with the following. It stays the same in every version, and
//! is understood whatever its version field says: a program of another version
//! can tell this one why it refuses.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 16 | 4 | code |
//! | 20 | 4 | length of the words |
//! | 24 | 8 | what was found |
//! | 32 | 8 | what was expected |
//! | 40 | 216 | words, UTF-8, rest zero |
//!
//! An accept goes on with the nonce of the hello that it answers, 8 bytes at
//! offset 16; the rest is zero.
//!
//! # Trust
//!
//! Every byte of a received frame is the peer's. Each field of a hello is
//! compared or bounded in [`Hello::decode`]; the words of a refusal are only
//! shown, and lose what could mislead a reader first.

use std::fmt;

use crate::error::{Field, Mismatch, NameError, Reason, Refusal, RegionError};
use crate::layout::{
    ENDIAN_TAG, Header, MAGIC, RegionLayout, RingKind, Shape, VERSION, all_zero, compare, put,
    u32_at, u64_at,
};

/// Length of every frame of the handshake.
pub const FRAME_LEN: usize = 256;
/// Most bytes that a name may have.
pub const NAME_LIMIT: usize = 64;
/// Most bytes of words that a refusal has room for.
pub const WORDS_LIMIT: usize = 216;

/// Kind of a hello.
pub const HELLO: u32 = 1;
/// Kind of a refusal.
pub const REFUSAL: u32 = 2;
/// Kind of an accept.
pub const ACCEPT: u32 = 3;

/// Which end of a connection an endpoint is.
///
/// ```
/// use memenpsf::Role;
///
/// assert_eq!(Role::from(0), Role::Client);
/// assert_eq!(Role::from(7), Role::Server);
/// assert_eq!(Role::Client.opposite(), Role::Server);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The end that says hello first.
    Client,
    /// The end that answers.
    Server,
}

impl Role {
    /// Returns the number that stands for the role in a hello.
    pub const fn code(self) -> u32 {
        match self {
            Self::Client => 0,
            Self::Server => 1,
        }
    }

    /// Returns the role of the other end.
    pub const fn opposite(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

impl From<u8> for Role {
    /// 0 is the client, everything else the server, as in memif.
    fn from(role: u8) -> Self {
        if role == 0 {
            Self::Client
        } else {
            Self::Server
        }
    }
}

/// The name of an endpoint: at most 64 bytes of UTF-8, empty allowed, with
/// nothing in it that could mislead who reads it on a terminal or in a log (control
/// characters, line and paragraph separators, marks that change the direction of
/// text).
///
/// ```
/// use memenpsf::Name;
///
/// let name = Name::new("camera 1")?;
/// assert_eq!(name.as_str(), "camera 1");
/// assert!(Name::new("\u{1b}[2J").is_err());
/// assert!(Name::new(&"x".repeat(65)).is_err());
/// # Ok::<(), memenpsf::error::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Makes a name of `text`.
    ///
    /// # Errors
    ///
    /// [`NameError`] if it is too long or has a forbidden character.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.len() > NAME_LIMIT {
            return Err(NameError::TooLong {
                len: text.len(),
                limit: NAME_LIMIT,
            });
        }
        match text.char_indices().find(|&(_, c)| misleads(c)) {
            Some((offset, _)) => Err(NameError::Forbidden { offset }),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Whether a character could make a terminal or a reader see something else
/// than is there. A list of our own and not std's notion of printable, which changes
/// with the compiler: two programs have to agree on what a name is.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            // Line and paragraph separator, marks of direction, zero-width no-break.
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

/// Returns `text` with misleading characters replaced, cut to `limit` bytes at
/// a character's boundary.
pub(crate) fn tame(text: &str, limit: usize) -> String {
    let mut tamed = String::new();
    for c in text.chars() {
        let c = if misleads(c) { '\u{fffd}' } else { c };
        if tamed.len() + c.len_utf8() > limit {
            break;
        }
        tamed.push(c);
    }
    tamed
}

/// How much a peer may ask for, and how its region's length follows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest region of a peer that is mapped.
    pub region: u64,
    /// Returns the length of the producer block of a ring, or nothing if its kind
    /// cannot have such a capacity. It is called with what a peer says, before
    /// anything else is done with it, and must not overflow.
    pub producer_len: fn(&Shape) -> Option<u64>,
}

/// How an end waits, as its hello says.
///
/// ```
/// use memenpsf::frame::Flags;
///
/// let flags = Flags { spins: true, barrier: false };
/// assert_eq!(Flags::from_bits(flags.bits()), Some(flags));
/// assert_eq!(Flags::from_bits(1 << 31), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags {
    /// Bit 0: this end never sleeps, and is never to be woken.
    pub spins: bool,
    /// Bit 1: this end's process takes part in `membarrier(GLOBAL_EXPEDITED)`.
    pub barrier: bool,
}

impl Flags {
    /// Every bit that has a meaning.
    pub const KNOWN: u32 = 0b11;

    /// Returns the flags as a field of a hello.
    pub const fn bits(self) -> u32 {
        self.spins as u32 | (self.barrier as u32) << 1
    }

    /// Returns the flags that `bits` stand for, unless there is an unknown one.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits & !Self::KNOWN != 0 {
            return None;
        }
        Some(Self {
            spins: bits & 1 != 0,
            barrier: bits & 2 != 0,
        })
    }
}

/// What one end tells the other of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Which end it is.
    pub role: Role,
    /// What its region looks like and what the region's header has to say.
    pub header: Header,
    /// How it waits.
    pub flags: Flags,
    /// Length of the longest message that it accepts through a bytes ring, 0 for the
    /// other kinds.
    pub accepts: u64,
    /// Its name.
    pub name: Name,
}

impl Hello {
    /// Returns the hello of an end without flags, which accepts messages as long as
    /// its own.
    pub fn new(role: Role, header: Header, name: Name) -> Self {
        Self {
            role,
            accepts: header.shape.longest,
            header,
            flags: Flags::default(),
            name,
        }
    }

    /// Returns the bytes of the frame.
    ///
    /// ```
    /// use memenpsf::frame::{Hello, Limits};
    /// use memenpsf::layout::{Header, RegionLayout, RingKind, Shape};
    /// use memenpsf::{Name, Role};
    ///
    /// let shape = Shape::of::<u64>(RingKind::Index, 16, "");
    /// let layout = RegionLayout::new(128 + 16 * 8, 1 << 20)?;
    /// let header = Header { shape, layout, nonce: 7 };
    /// let hello = Hello::new(Role::Client, header, Name::new("a")?);
    ///
    /// let limits = Limits {
    ///     region: 1 << 20,
    ///     producer_len: |shape| Some(128 + shape.capacity * 8),
    /// };
    /// let read = Hello::decode(&hello.encode(), Role::Client, &shape, &limits);
    /// assert_eq!(read, Ok(hello));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn encode(&self) -> [u8; FRAME_LEN] {
        let shape = &self.header.shape;
        let name = self.name.as_str().as_bytes();
        // A name is at most NAME_LIMIT long.
        let name_len = u32::try_from(name.len()).unwrap_or(0);
        let mut bytes = prefix(HELLO);
        put(&mut bytes, 16, &ENDIAN_TAG.to_le_bytes());
        put(&mut bytes, 20, &self.role.code().to_le_bytes());
        put(&mut bytes, 24, &shape.element_size.to_le_bytes());
        put(&mut bytes, 28, &shape.element_align.to_le_bytes());
        put(&mut bytes, 32, &shape.layout_hash.to_le_bytes());
        put(&mut bytes, 40, &shape.capacity.to_le_bytes());
        put(&mut bytes, 48, &shape.kind.code().to_le_bytes());
        put(&mut bytes, 52, &self.flags.bits().to_le_bytes());
        put(&mut bytes, 56, &self.header.region_length().to_le_bytes());
        put(&mut bytes, 64, &self.header.nonce.to_le_bytes());
        put(&mut bytes, 72, &name_len.to_le_bytes());
        put(&mut bytes, 80, name);
        put(&mut bytes, 144, &shape.longest.to_le_bytes());
        put(&mut bytes, 152, &self.accepts.to_le_bytes());
        bytes
    }

    /// Reads a hello from an end that has to be `role` and to carry what `own`
    /// says, but for the capacity and the longest message.
    ///
    /// # Errors
    ///
    /// The first field that is not what it has to be.
    pub fn decode(
        bytes: &[u8; FRAME_LEN],
        role: Role,
        own: &Shape,
        limits: &Limits,
    ) -> Result<Self, Reason> {
        check_prefix(bytes, HELLO)?;
        let word = |at| u64::from(u32_at(bytes, at));
        compare(Field::Endian, word(16), ENDIAN_TAG.into())?;
        compare(Field::Role, word(20), role.code().into())?;
        // What is specific comes before the hash, which covers all of it. Bytes have
        // no element to compare; of plain data the kind follows from the element.
        let kinds = [word(48), own.kind.code().into()];
        if kinds.contains(&RingKind::Bytes.code().into()) {
            compare(Field::RingKind, kinds[0], kinds[1])?;
        }
        compare(Field::ElementSize, word(24), own.element_size.into())?;
        compare(Field::ElementAlign, word(28), own.element_align.into())?;
        compare(Field::RingKind, kinds[0], kinds[1])?;
        compare(Field::LayoutHash, u64_at(bytes, 32), own.layout_hash)?;
        let bits = u32_at(bytes, 52);
        let flags = Flags::from_bits(bits).ok_or(Reason::Mismatch(Mismatch {
            field: Field::Flags,
            found: bits.into(),
            expected: Flags::KNOWN.into(),
        }))?;

        let (mut longest, mut accepts) = (0, 0);
        if own.kind == RingKind::Bytes {
            (longest, accepts) = (u64_at(bytes, 144), u64_at(bytes, 152));
        } else {
            all_zero(&bytes[144..160])?;
        }
        let shape = Shape {
            capacity: u64_at(bytes, 40),
            longest,
            ..*own
        };
        let layout = peer_layout(&shape, limits)?;
        // The length is computed from checked parameters; the peer's is only
        // compared with it (C4).
        let region_length = u64_at(bytes, 56);
        compare(Field::RegionLength, region_length, layout.len() as u64)?;

        let name_len = u32_at(bytes, 72);
        let Some((name, rest)) = usize::try_from(name_len)
            .ok()
            .and_then(|len| bytes[80..144].split_at_checked(len))
        else {
            return Err(Reason::Mismatch(Mismatch {
                field: Field::NameLength,
                found: name_len.into(),
                expected: NAME_LIMIT as u64,
            }));
        };
        all_zero(&bytes[76..80])?;
        all_zero(rest)?;
        all_zero(&bytes[160..])?;
        Ok(Self {
            role,
            header: Header {
                shape,
                layout,
                nonce: u64_at(bytes, 64),
            },
            flags,
            accepts,
            name: decode_name(name)?,
        })
    }
}

/// Puts words to the refusal of a hello: where the messages differ, all that is
/// known of them at both ends and not only the field that was compared first.
pub(crate) fn refusal_of(reason: Reason, hello: &[u8; FRAME_LEN], own: &Shape) -> Refusal {
    let Reason::Mismatch(Mismatch { field, .. }) = reason else {
        return reason.into();
    };
    match field {
        Field::ElementSize | Field::ElementAlign => {
            // PEER: two numbers, which are only shown.
            let (size, align) = (u32_at(hello, 24), u32_at(hello, 28));
            let words = format!(
                "elements of {size} bytes aligned to {align} meet elements of {} bytes aligned to {}",
                own.element_size, own.element_align
            );
            Refusal::with_words(reason, &words)
        }
        // The hash covers what was compared before it, and the schema.
        Field::LayoutHash => {
            Refusal::with_words(reason, "the elements are alike and the schemas differ")
        }
        _ => reason.into(),
    }
}

/// Lays out the region that a peer of this shape has to have.
fn peer_layout(shape: &Shape, limits: &Limits) -> Result<RegionLayout, Reason> {
    let no_message = Shape {
        longest: 0,
        ..*shape
    };
    // Which of the two is it?
    let (field, found) = match (limits.producer_len)(&no_message) {
        Some(_) => (Field::Longest, shape.longest),
        None => (Field::Capacity, shape.capacity),
    };
    let impossible = Reason::Mismatch(Mismatch {
        field,
        found,
        expected: 0,
    });
    let producer_len = (limits.producer_len)(shape).ok_or(impossible)?;
    RegionLayout::new(producer_len, limits.region).map_err(|error| match error {
        RegionError::TooLarge { needed, limit } => Reason::Memory { needed, limit },
        _ => impossible,
    })
}

fn decode_name(bytes: &[u8]) -> Result<Name, Mismatch> {
    let offset = match str::from_utf8(bytes) {
        Ok(text) => match Name::new(text) {
            Ok(name) => return Ok(name),
            Err(NameError::Forbidden { offset }) => offset,
            Err(NameError::TooLong { .. }) => NAME_LIMIT,
        },
        Err(error) => error.valid_up_to(),
    };
    Err(Mismatch {
        field: Field::NameText,
        found: offset as u64,
        expected: 0,
    })
}

/// Returns the bytes of a refusal.
///
/// ```
/// use memenpsf::frame::{decode_refusal, encode_refusal};
/// use memenpsf::{Reason, Refusal};
///
/// let refusal = Refusal::with_words(Reason::Busy { limit: 3 }, "come back at noon");
/// assert_eq!(decode_refusal(&encode_refusal(&refusal)), refusal);
/// ```
pub fn encode_refusal(refusal: &Refusal) -> [u8; FRAME_LEN] {
    let (code, found, expected) = refusal.reason().to_parts();
    let words = refusal.words().as_bytes();
    // The words of a Refusal are at most WORDS_LIMIT long.
    let words_len = u32::try_from(words.len()).unwrap_or(0);
    let mut bytes = prefix(REFUSAL);
    put(&mut bytes, 16, &code.to_le_bytes());
    put(&mut bytes, 20, &words_len.to_le_bytes());
    put(&mut bytes, 24, &found.to_le_bytes());
    put(&mut bytes, 32, &expected.to_le_bytes());
    put(&mut bytes, 40, words);
    bytes
}

/// Reads a refusal. Nothing in it can be wrong: it ends the handshake whatever
/// it says, so what cannot be shown is left out.
pub fn decode_refusal(bytes: &[u8; FRAME_LEN]) -> Refusal {
    let reason = Reason::from_parts(u32_at(bytes, 16), u64_at(bytes, 24), u64_at(bytes, 32));
    let room = &bytes[40..];
    let len = usize::try_from(u32_at(bytes, 20)).unwrap_or(usize::MAX);
    let words = &room[..len.min(room.len())];
    Refusal::with_words(reason, &String::from_utf8_lossy(words))
}

/// Returns the bytes of the accept that answers the hello with this nonce.
///
/// ```
/// use memenpsf::frame::{check_accept, encode_accept};
///
/// assert!(check_accept(&encode_accept(7), 7).is_ok());
/// assert_eq!(check_accept(&encode_accept(7), 8).unwrap_err().found, 7);
/// ```
pub fn encode_accept(nonce: u64) -> [u8; FRAME_LEN] {
    let mut bytes = prefix(ACCEPT);
    put(&mut bytes, 16, &nonce.to_le_bytes());
    bytes
}

/// Checks an accept of the hello with this nonce.
///
/// # Errors
///
/// The first field that is not what it has to be.
pub fn check_accept(bytes: &[u8; FRAME_LEN], nonce: u64) -> Result<(), Mismatch> {
    check_prefix(bytes, ACCEPT)?;
    compare(Field::Nonce, u64_at(bytes, 16), nonce)?;
    all_zero(&bytes[24..])
}

/// Whether this is a refusal, of any version.
pub(crate) fn is_refusal(bytes: &[u8; FRAME_LEN]) -> bool {
    check_magic(bytes).is_ok() && u32_at(bytes, 12) == REFUSAL
}

/// Refuses what does not begin with the magic.
pub(crate) fn check_magic(bytes: &[u8]) -> Result<(), Mismatch> {
    compare(Field::Magic, u64_at(bytes, 0), MAGIC)
}

/// Refuses a frame of another protocol, version or kind.
pub(crate) fn check_prefix(bytes: &[u8; FRAME_LEN], kind: u32) -> Result<(), Mismatch> {
    check_magic(bytes)?;
    compare(Field::Version, u32_at(bytes, 8).into(), VERSION.into())?;
    compare(Field::FrameKind, u32_at(bytes, 12).into(), kind.into())
}

fn prefix(kind: u32) -> [u8; FRAME_LEN] {
    let mut bytes = [0; FRAME_LEN];
    put(&mut bytes, 0, &MAGIC.to_le_bytes());
    put(&mut bytes, 8, &VERSION.to_le_bytes());
    put(&mut bytes, 12, &kind.to_le_bytes());
    bytes
}
