//! What can go wrong with a ring, one type for each set of causes.

use core::error::Error;
use core::fmt;

/// The peer broke a rule of the shared layout.
///
/// It is found when the peer's position is loaded, before anything is done
/// with it. It is sticky: the handle that returned it once returns it from
/// every later call, and touches no slot again. A ring on the heap has an honest
/// peer and never returns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Violation {
    /// The consumer published a head outside `previous..=tail`.
    Head {
        /// What the peer published.
        head: u64,
        /// The head that it had published before.
        previous: u64,
        /// Our own tail.
        tail: u64,
    },
    /// The producer published a tail outside `previous..=head + capacity`.
    Tail {
        /// What the peer published.
        tail: u64,
        /// The tail that it had published before.
        previous: u64,
        /// Our own head.
        head: u64,
        /// Number of slots of the ring.
        capacity: u64,
    },
    /// The producer published a packed line with a header outside `previous..=most`
    /// elements of lap `expected`.
    Line {
        /// The lap that the peer published.
        lap: u32,
        /// The count that the peer published.
        count: u64,
        /// Our own lap.
        expected: u32,
        /// The count of our own lap that it had published before.
        previous: u64,
        /// How many elements the line can have now.
        most: u64,
    },
    /// The consumer published a head that is no multiple of 8 in a bytes ring.
    Unaligned {
        /// What the peer published.
        head: u64,
    },
    /// The producer published a record that is longer than the longest message of
    /// a bytes ring.
    Length {
        /// The length that the peer published.
        length: u64,
        /// Length of the longest message.
        longest: u64,
        /// Our own head, where the record begins.
        head: u64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Head {
                head,
                previous,
                tail,
            } => write!(
                f,
                "the peer published head {head}, allowed are {previous} to {tail}"
            ),
            Self::Tail {
                tail,
                previous,
                head,
                capacity,
            } => write!(
                f,
                "the peer published tail {tail}, allowed are {previous} to {}",
                head.wrapping_add(capacity)
            ),
            Self::Line {
                lap,
                count,
                expected,
                previous,
                most,
            } => write!(
                f,
                "the peer published {count} elements of lap {lap} in a line, \
                 allowed are {previous} to {most} of lap {expected}"
            ),
            Self::Unaligned { head } => {
                write!(f, "the peer published head {head}, no multiple of 8")
            }
            Self::Length {
                length,
                longest,
                head,
            } => write!(
                f,
                "the peer published a record of {length} bytes at {head}, allowed are {longest}"
            ),
        }
    }
}

impl Error for Violation {}

/// Why a push failed; gives the element back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
// The element lies at one place in all variants. Otherwise moves from variant to variant
// shift it, and LLVM (22) cuts such a move into pieces of the shift's size: one
// `push` of 64 KiB took minutes to compile.
#[repr(u8)]
pub enum PushError<T> {
    /// No slot is vacant.
    Full(T),
    /// The peer broke a rule of the shared layout.
    Violation(T, Violation),
}

impl<T> PushError<T> {
    /// Returns the element that was not pushed.
    ///
    /// ```
    /// let (mut producer, _consumer) = memenpsf_ring::index::ring(1)?;
    /// producer.push(1)?;
    /// assert_eq!(producer.push(2).unwrap_err().into_inner(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value) | Self::Violation(value, _) => value,
        }
    }
}

impl<T> fmt::Display for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the ring is full"),
            Self::Violation(_, violation) => violation.fmt(f),
        }
    }
}

impl<T: fmt::Debug> Error for PushError<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Full(_) => None,
            Self::Violation(_, violation) => Some(violation),
        }
    }
}

/// Why a message of bytes could not be pushed, or room for it not be reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordError {
    /// Not enough bytes are vacant now.
    Full {
        /// How many bytes the record takes, with header and padding.
        needed: usize,
        /// How many bytes are vacant.
        vacant: usize,
    },
    /// The message is longer than the ring's longest.
    TooLong {
        /// Length of the message.
        length: usize,
        /// Length of the longest message.
        longest: usize,
    },
    /// The peer broke a rule of the shared layout.
    Violation(Violation),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { needed, vacant } => write!(
                f,
                "the ring is full: the record takes {needed} bytes and {vacant} are vacant"
            ),
            Self::TooLong { length, longest } => write!(
                f,
                "the message has {length} bytes, the longest that the ring takes has {longest}"
            ),
            Self::Violation(violation) => violation.fmt(f),
        }
    }
}

impl Error for RecordError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Full { .. } | Self::TooLong { .. } => None,
            Self::Violation(violation) => Some(violation),
        }
    }
}

impl From<Violation> for RecordError {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// Why a pop or a peek failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PopError {
    /// No element is in the ring.
    Empty,
    /// The peer broke a rule of the shared layout.
    Violation(Violation),
}

impl fmt::Display for PopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the ring is empty"),
            Self::Violation(violation) => violation.fmt(f),
        }
    }
}

impl Error for PopError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Empty => None,
            Self::Violation(violation) => Some(violation),
        }
    }
}

impl From<Violation> for PopError {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// Why a chunk of the wanted number of slots could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkError {
    /// Fewer slots than wanted are there now.
    TooFew {
        /// How many were asked for.
        wanted: usize,
        /// How many there are.
        available: usize,
    },
    /// The peer broke a rule of the shared layout.
    Violation(Violation),
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFew { wanted, available } => {
                write!(
                    f,
                    "{wanted} slots were asked for and {available} are available"
                )
            }
            Self::Violation(violation) => violation.fmt(f),
        }
    }
}

impl Error for ChunkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::TooFew { .. } => None,
            Self::Violation(violation) => Some(violation),
        }
    }
}

impl From<Violation> for ChunkError {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// Why a ring of the wanted shape cannot be laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayoutError {
    /// The capacity is not a power of two of at least 1.
    Capacity {
        /// What was asked for.
        given: usize,
    },
    /// The slots would not fit into the address space.
    TooLarge {
        /// Number of slots asked for.
        capacity: usize,
        /// Size of one slot in bytes.
        slot: usize,
    },
    /// There is no memory for the ring.
    NoMemory {
        /// Size of the allocation in bytes.
        bytes: usize,
    },
    /// The capacity of a packed ring is 0.
    Zero,
    /// The elements do not fit into the lines of a packed ring.
    Element {
        /// Size of an element in bytes.
        size: usize,
        /// Its alignment in bytes.
        align: usize,
    },
    /// The capacity of a bytes ring is not a power of two of at least 16.
    Bytes {
        /// What was asked for.
        given: usize,
    },
    /// The longest message of a bytes ring does not fit into it.
    Message {
        /// What was asked for.
        given: usize,
        /// The longest message that a ring of the wanted capacity takes.
        limit: usize,
    },
    /// The first position of a bytes ring is no multiple of 8.
    Start {
        /// What was asked for.
        given: u64,
    },
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capacity { given } => {
                write!(f, "capacity {given} is not a power of two of at least 1")
            }
            Self::TooLarge { capacity, slot } => write!(
                f,
                "{capacity} slots of {slot} bytes do not fit into the address space"
            ),
            Self::NoMemory { bytes } => write!(f, "no memory for a ring of {bytes} bytes"),
            Self::Zero => f.write_str("capacity 0 holds nothing"),
            Self::Element { size, align } => write!(
                f,
                "an element of {size} bytes, aligned to {align}, does not fit into a packed line"
            ),
            Self::Bytes { given } => write!(
                f,
                "capacity {given} is not a power of two of at least 16 bytes"
            ),
            Self::Message { given, limit } => write!(
                f,
                "messages of {given} bytes do not fit, the limit at this capacity is {limit}"
            ),
            Self::Start { given } => write!(f, "start position {given} is no multiple of 8"),
        }
    }
}

impl Error for LayoutError {}

#[cfg(test)]
mod tests {
    use core::ptr;

    use super::*;

    /// Returns where the element is.
    fn offset<T>(error: &PushError<T>) -> usize {
        let (PushError::Full(value) | PushError::Violation(value, _)) = error;
        ptr::from_ref(value).addr() - ptr::from_ref(error).addr()
    }

    #[test]
    fn an_element_lies_at_one_place_in_every_push_error() {
        fn check<T: Copy>(value: T) {
            let violation = Violation::Head {
                head: 1,
                previous: 0,
                tail: 0,
            };
            assert_eq!(
                offset(&PushError::Full(value)),
                offset(&PushError::Violation(value, violation))
            );
        }
        check(0_u8);
        check([0_u8; 57]);
        check(0_u32);
        check([0_u64; 9]);
        check(0_u128);
    }
}
