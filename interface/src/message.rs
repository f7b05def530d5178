//! What an interface carries, and through which rings.
//!
//! One interface, one transmitter and one receiver serve every kind of message: the
//! connection, the waiting, the looking at the socket and the end are the same for
//! all, and what differs is here. [`Rings`] says for a kind of message how its rings
//! are described, laid out and attached; [`Outbound`] and [`Inbound`] are what a half
//! asks of its ring without knowing its messages.
//!
//! | message | rings | calls |
//! |---|---|---|
//! | a [`Plain`] type | [`typed`] | `transmitter/typed.rs`, `receiver/typed.rs` |
//! | `[u8]` | [`bytes`] | `transmitter/bytes.rs`, `receiver/bytes.rs` |

use std::alloc::Layout;
use std::fmt;
use std::ptr::NonNull;

use memenpsf_ring::{LayoutError, Plain, Violation};

use crate::layout::Shape;
use crate::options::Options;

mod bytes;
mod typed;

pub(crate) use bytes::Awaited;
pub(crate) use typed::{Chunk, Consumer};

/// What an [`Interface`](crate::Interface) carries: [`Plain`] data of one type, or
/// `[u8]` for messages of any length ([`ByteInterface`](crate::ByteInterface)).
///
/// It is implemented for every plain type and for `[u8]`, and cannot be implemented
/// for anything else.
///
/// ```
/// use memenpsf::{Message, Server};
///
/// // Serves either.
/// fn serve<M: Message + ?Sized>(path: &str) -> Result<Server<M>, memenpsf::BindError> {
///     Server::bind(path)
/// }
/// serve::<u64>("@memenpsf-doc-plain")?;
/// serve::<[u8]>("@memenpsf-doc-bytes")?;
/// # Ok::<(), memenpsf::BindError>(())
/// ```
// The words are those of `Plain`, which every user of an interface has to do with.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot live in shared memory: it is not plain data",
    label = "not plain data",
    note = "for a struct: `#[repr(C)]`, fields of integers, floats or arrays without padding, and derive `Clone, Copy, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable`",
    note = "for `bool`, `char` and enums: send an integer and convert it where it arrives",
    note = "for `&[u8]`, `Vec<u8>`, `String`: send a fixed-size array, or use `ByteInterface` for messages of variable length"
)]
pub trait Message: Rings {}

#[diagnostic::do_not_recommend]
impl<T: Plain> Message for T {}

impl Message for [u8] {}

/// The rings of one kind of message. In a private module, so that nobody else
/// implements it.
pub trait Rings {
    /// The ring that this side fills.
    type Producer: Outbound;
    /// The ring that the peer fills.
    type Consumer: Inbound;

    /// Describes the own outbound ring, and tells how large its producer block is.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] when no ring can be as `options` say.
    fn describe(options: &Options) -> Result<(Shape, Layout), LayoutError>;

    /// Returns the length of the producer block of a ring, or nothing if there is no
    /// such ring.
    ///
    /// PEER: the shape is what a peer says; all arithmetic on it is the ring's own,
    /// which is checked.
    fn producer_len(shape: &Shape) -> Option<u64>;

    /// Prepares the own blocks of a region that nobody else has, for rings that
    /// begin at `start` and not at 0.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] when no ring of this shape begins there.
    ///
    /// # Safety
    ///
    /// 1. `producer` is valid for writes of a block as large as
    ///    [`producer_len`](Self::producer_len) says of `shape`, `consumer` of a
    ///    consumer block, both are zeroed and aligned to 128 bytes, and nothing else
    ///    accesses them.
    unsafe fn begin(
        producer: NonNull<u8>,
        consumer: NonNull<u8>,
        shape: &Shape,
        start: u64,
    ) -> Result<(), LayoutError>;

    /// Attaches both rings.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] when the shapes are not those of rings.
    ///
    /// # Safety
    ///
    /// 1. While either result lives, the four blocks are valid: the own ones for
    ///    reads and writes, the peer's for relaxed atomic loads; the producer blocks
    ///    are at least as long as [`producer_len`](Self::producer_len) says of their
    ///    shape.
    /// 2. All are aligned to 128 bytes, and nothing else in this process accesses
    ///    them.
    unsafe fn attach(
        blocks: Blocks,
        terms: &Terms,
    ) -> Result<(Self::Producer, Self::Consumer), LayoutError>;
}

/// Where the blocks of both rings are mapped.
#[derive(Debug, Clone, Copy)]
pub struct Blocks {
    /// The own producer block.
    pub producer: NonNull<u8>,
    /// The own consumer block.
    pub consumer: NonNull<u8>,
    /// The producer block of the peer. Never written.
    pub peer_producer: NonNull<u8>,
    /// The consumer block of the peer. Never written.
    pub peer_consumer: NonNull<u8>,
}

/// What both sides have agreed upon.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// The ring that this side fills.
    pub outbound: Shape,
    /// The ring that the peer fills.
    pub inbound: Shape,
    /// Position at which both begin.
    pub start: u64,
}

/// A producer, as a half sees it.
pub trait Outbound: fmt::Debug + Send {
    /// Returns the number of slots, or of bytes.
    fn capacity(&self) -> usize;
    /// Returns the number of messages so far, where it began included; it wraps.
    fn count(&self) -> u64;
    /// Tells whether there is room for what is waited for.
    fn has_room(&mut self) -> bool;
    /// Returns what the peer did, if it broke a rule.
    fn violation(&self) -> Option<Violation>;
}

/// A consumer, as a half sees it.
pub trait Inbound: fmt::Debug + Send {
    /// Returns the number of slots, or of bytes.
    fn capacity(&self) -> usize;
    /// Returns the number of messages so far, where it began included; it wraps.
    fn count(&self) -> u64;
    /// Tells whether a message is there.
    fn has_message(&mut self) -> bool;
    /// Returns what the peer did, if it broke a rule.
    fn violation(&self) -> Option<Violation>;
}

/// Returns a capacity as the rings take it.
fn capacity(shape: &Shape) -> usize {
    // A capacity that is no usize is refused by every ring, as is the largest usize.
    usize::try_from(shape.capacity).unwrap_or(usize::MAX)
}
