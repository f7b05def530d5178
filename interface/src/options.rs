//! What a connection is made with.

use std::time::Duration;

use memenpsf_fdpass::Deadline;

use crate::layout::DEFAULT_REGION_LIMIT;
use crate::wait::{LONGEST_SPIN, Waiting};

/// Number of slots unless one is chosen: with elements of up to 128 bytes the
/// slots fit into 128 KiB, so that the ring stays in a core's second-level cache.
pub const DEFAULT_CAPACITY: usize = 1024;

/// Number of bytes of a ring of messages of variable length unless one is chosen:
/// with the overhang of a quarter, less than half of a second-level cache of 1 MiB.
pub const DEFAULT_BYTES: usize = 256 << 10;

/// How long the whole handshake may take unless a deadline is chosen: a local
/// peer answers within milliseconds, and a stopped one is not to keep us.
pub const DEFAULT_HANDSHAKE: Duration = Duration::from_secs(5);

/// Which kind of ring carries plain data.
///
/// | | index | packed |
/// |---|---|---|
/// | elements | any | up to 56 bytes |
/// | one message | two cache lines change hands | one does |
/// | [`reserve`](crate::Interface::reserve) | one or two slices | a slice for each line |
/// | capacity | a power of two | any |
///
/// ```
/// use memenpsf::options::Ring;
/// use memenpsf::{Interface, Options};
/// use std::os::unix::net::UnixStream;
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let options = Options::new().ring(Ring::Packed).capacity(1000);
/// let other = options.clone();
/// let other = std::thread::spawn(move || Interface::<u64>::establish(theirs, 0, &other));
/// let mut interface = Interface::<u64>::establish(ours, 1, &options)?;
/// let _other = other.join().unwrap()?;
/// assert_eq!(interface.xmit_vectored(&[7; 1001])?, 1000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Ring {
    /// The one that measured best for the element's size: packed where an element
    /// and its flag fit into one cache line, which is up to 56 bytes (48 when it is
    /// aligned to 16), index for all others. It follows from the type alone, so both
    /// ends come to the same.
    #[default]
    Fitting,
    /// An index ring: long runs of slots to fill in place.
    Index,
    /// A packed ring: element and flag travel together.
    Packed,
}

/// What a connection is made with; every option has a default.
///
/// ```
/// use memenpsf::{Interface, Options};
/// use std::os::unix::net::UnixStream;
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let options = Options::new().name("camera").capacity(64).schema("frame/v2");
/// let other = options.clone();
/// let other = std::thread::spawn(move || Interface::<u64>::establish(theirs, 0, &other));
/// let interface = Interface::<u64>::establish(ours, 1, &options)?;
/// assert_eq!((interface.name(), interface.cap()), ("camera", 64));
/// # drop(other.join());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub(crate) name: String,
    pub(crate) ring: Ring,
    pub(crate) capacity: Option<usize>,
    pub(crate) max_message: Option<usize>,
    pub(crate) accepts: u64,
    pub(crate) schema: String,
    pub(crate) handshake: Option<Duration>,
    pub(crate) wait_for_server: Duration,
    pub(crate) region_limit: u64,
    pub(crate) waiting: Waiting,
    pub(crate) longest_spin: Duration,
    pub(crate) asymmetric: bool,
    pub(crate) start: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// Returns the defaults: no name, [`DEFAULT_CAPACITY`] slots or
    /// [`DEFAULT_BYTES`], no schema,
    /// [`DEFAULT_HANDSHAKE`] for the handshake, no waiting for a server, and
    /// regions of at most [`DEFAULT_REGION_LIMIT`] bytes.
    pub fn new() -> Self {
        Self {
            name: String::new(),
            ring: Ring::Fitting,
            capacity: None,
            max_message: None,
            accepts: u64::MAX,
            schema: String::new(),
            handshake: Some(DEFAULT_HANDSHAKE),
            wait_for_server: Duration::ZERO,
            region_limit: DEFAULT_REGION_LIMIT,
            waiting: Waiting::Adaptive,
            longest_spin: LONGEST_SPIN,
            asymmetric: true,
            start: 0,
        }
    }

    /// Sets the name that the peer sees: at most 64 bytes, without control
    /// characters.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Sets the number of slots of the outbound ring, of a
    /// [`ByteInterface`](crate::ByteInterface) its number of bytes: a power of two,
    /// and any number for a ring that was chosen to be [packed](Ring::Packed). The
    /// peer chooses the capacity of its own outbound ring.
    #[must_use]
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = Some(capacity);
        self
    }

    /// Sets the kind of both rings, the same at both ends. Only for plain data.
    ///
    /// ```
    /// use memenpsf::options::Ring;
    /// use memenpsf::{Interface, Options};
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// // By the rule, a `u64` goes into a packed ring.
    /// let other = std::thread::spawn(move || Interface::<u64>::new("", 8, theirs, 0));
    /// let options = Options::new().ring(Ring::Index);
    /// let error = Interface::<u64>::establish(ours, 1, &options).unwrap_err();
    /// let words = "the peer was refused: kind of ring is packed, expected index";
    /// assert_eq!(error.to_string(), words);
    /// # drop(other.join());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn ring(mut self, ring: Ring) -> Self {
        self.ring = ring;
        self
    }

    /// Sets the length in bytes of the longest message that a
    /// [`ByteInterface`](crate::ByteInterface) transmits: a quarter of its ring by
    /// default, so that the peer reads one message while the next is written. The
    /// ring takes at most 16 bytes less than its capacity
    /// ([`longest_message`](memenpsf_ring::bytes::longest_message)).
    ///
    /// The peer may [accept](Self::accept_message) less.
    ///
    /// ```
    /// use memenpsf::{ByteInterface, ByteXmitError, Options};
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let careful = Options::new().accept_message(100);
    /// let other = std::thread::spawn(move || ByteInterface::establish(theirs, 0, &careful));
    /// let options = Options::new().capacity(4096).max_message(1500);
    /// let mut interface = ByteInterface::establish(ours, 1, &options)?;
    /// let _other = other.join().unwrap()?;
    /// assert_eq!(interface.max_message(), 100);
    /// let too_long = ByteXmitError::TooLong { length: 101, longest: 100 };
    /// assert_eq!(interface.xmit(&[0; 101]), Err(too_long));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = Some(bytes);
        self
    }

    /// Sets the length in bytes of the longest message that a
    /// [`ByteInterface`](crate::ByteInterface) accepts: the peer cannot transmit a
    /// longer one. By default it is what the peer's region holds, which
    /// [`region_limit`](Self::region_limit) bounds.
    #[must_use]
    pub fn accept_message(mut self, bytes: u64) -> Self {
        self.accepts = bytes;
        self
    }

    /// Sets a word for what the messages mean, such as `"orders/v2"`. Only ends
    /// with the same schema connect, beyond the same size and alignment.
    #[must_use]
    pub fn schema(mut self, schema: &str) -> Self {
        schema.clone_into(&mut self.schema);
        self
    }

    /// Sets how long the handshake may take; `None` is for ever.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.handshake = timeout;
        self
    }

    /// Sets how long [`Interface::connect`](crate::Interface::connect) waits for
    /// a server to appear at its address; none by default.
    #[must_use]
    pub fn wait_for_server(mut self, patience: Duration) -> Self {
        self.wait_for_server = patience;
        self
    }

    /// Sets the length in bytes of the longest region that this side makes or
    /// maps. A peer can make this side map that much.
    #[must_use]
    pub fn region_limit(mut self, bytes: u64) -> Self {
        self.region_limit = bytes;
        self
    }

    /// Sets how this end waits: adaptive by default. Each end chooses for itself.
    #[must_use]
    pub fn waiting(mut self, waiting: Waiting) -> Self {
        self.waiting = waiting;
        self
    }

    /// Sets how long an end that waits adaptively spins at most before it sleeps,
    /// 64 us by default. With zero it sleeps at once: right where both ends share
    /// one core, on which a spin only keeps the peer from running.
    ///
    /// ```
    /// use memenpsf::{Interface, Options};
    /// use std::os::unix::net::UnixStream;
    /// use std::time::Duration;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let options = Options::new().longest_spin(Duration::ZERO);
    /// let other = std::thread::spawn(move || Interface::<u64>::new("b", 8, theirs, 0));
    /// let mut interface = Interface::<u64>::establish(ours, 1, &options)?;
    /// let mut other = other.join().unwrap()?;
    /// let other = std::thread::spawn(move || other.xmit_timeout(1, None));
    /// assert_eq!(interface.recv_timeout(None)?, Some(1));
    /// # other.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn longest_spin(mut self, time: Duration) -> Self {
        self.longest_spin = time;
        self
    }

    /// Sets whether this end offers to take part in `membarrier(GLOBAL_EXPEDITED)`,
    /// as it does by default where the kernel has it: for measuring and testing the
    /// barriers that are executed otherwise.
    #[doc(hidden)]
    #[must_use]
    pub fn asymmetric_barrier(mut self, offer: bool) -> Self {
        self.asymmetric = offer;
        self
    }

    /// Sets the position at which both rings begin, the same at both ends: for
    /// tests of wrap-around.
    #[doc(hidden)]
    #[must_use]
    pub fn start_at(mut self, position: u64) -> Self {
        self.start = position;
        self
    }

    /// Returns until when a client waits for a server to appear, and until when
    /// for its backlog to have room.
    pub(crate) fn dial_deadlines(&self) -> (Deadline, Deadline) {
        (
            Deadline::after(self.wait_for_server),
            self.handshake_deadline(),
        )
    }

    /// Returns how long the handshake may take.
    #[cfg(feature = "tokio")]
    pub(crate) fn handshake_timeout_value(&self) -> Option<Duration> {
        self.handshake
    }

    /// Returns the deadline of a handshake that begins now.
    pub(crate) fn handshake_deadline(&self) -> Deadline {
        self.handshake.map_or(Deadline::never(), Deadline::after)
    }
}
