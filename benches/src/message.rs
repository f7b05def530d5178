//! Numbered and checksummed messages: what both sides of an exchange send, and
//! how each message is checked where it arrives.
//!
//! A message of `n` words:
//!
//! | word | field |
//! |---|---|
//! | 0 | bits 0 to 16: length in bytes; bits 17 to 63: sequence number |
//! | 1 to n - 2 | payload, which follows from word 0 and differs from message to message |
//! | n - 1 | [`checksum`] of all words before it |
//!
//! A message of one word is word 0 alone, without a checksum. In a buffer a
//! message may be followed by padding that nobody looks at.

use serde::{Deserialize, Serialize};

use crate::checksum::checksum;

/// Length of the shortest message in bytes: the word with the number.
pub const SHORTEST: usize = 8;
/// Length of the shortest message that carries a checksum, in bytes.
pub const SHORTEST_CHECKED: usize = 16;
/// Length of the longest message in bytes.
pub const LONGEST: usize = 65_536;

/// Number of bits of the length: [`LONGEST`] needs 17.
const LENGTH_BITS: u32 = 17;

/// Most gaps in the sequence that are remembered one by one: enough to tell what
/// a broken transport does, and no burden when it loses every second message.
const GAPS: usize = 1 << 16;

/// The shape of all messages of an exchange.
///
/// ```
/// use memenpsf_benches::message::Format;
///
/// let format = Format::new(100).unwrap();
/// assert_eq!((format.length(), format.words()), (100, 13));
/// assert!(Format::new(0).is_none());
/// assert!(Format::new(65_537).is_none());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Format {
    length: usize,
}

impl Format {
    /// Describes messages of `length` bytes; `None` unless that is within
    /// [`SHORTEST`]`..=`[`LONGEST`].
    pub fn new(length: usize) -> Option<Self> {
        (SHORTEST..=LONGEST)
            .contains(&length)
            .then_some(Self { length })
    }

    /// Returns the length of a message in bytes.
    pub fn length(self) -> usize {
        self.length
    }

    /// Returns the number of words that carry a message: its length, rounded up.
    pub fn words(self) -> usize {
        self.length.div_ceil(size_of::<u64>())
    }

    /// Returns word 0 of the message with this sequence number.
    fn header(self, sequence: u64) -> u64 {
        (sequence << LENGTH_BITS) | self.length as u64
    }
}

/// Composes messages, one number after the other.
#[derive(Debug)]
pub struct Composer {
    format: Format,
    next: u64,
}

impl Composer {
    /// Begins with number 0.
    pub fn new(format: Format) -> Self {
        Self { format, next: 0 }
    }

    /// Writes the next message to the front of `message`.
    ///
    /// # Panics
    ///
    /// When `message` is shorter than the format.
    ///
    /// ```
    /// use memenpsf_benches::message::{Checker, Composer, Format};
    ///
    /// let format = Format::new(24).unwrap();
    /// let mut message = [0; 3];
    /// Composer::new(format).compose(&mut message);
    /// let mut checker = Checker::new(format);
    /// checker.check(&message);
    /// assert!(checker.counts().is_flawless());
    /// ```
    #[inline]
    pub fn compose(&mut self, message: &mut [u64]) {
        let header = self.format.header(self.next);
        self.next += 1;
        let message = &mut message[..self.format.words()];
        message[0] = header;
        if let [_, payload @ .., _] = message {
            let mut value = header.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            for word in payload {
                *word = value;
                value = value.wrapping_add(0xd1b5_4a32_d192_ed03);
            }
        }
        if let [rest @ .., last] = message
            && !rest.is_empty()
        {
            *last = checksum(rest);
        }
    }
}

/// What was found out about the messages that arrived.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// How many arrived, whatever they were.
    pub received: u64,
    /// How many were awaited and have not arrived.
    pub lost: u64,
    /// How many arrived again.
    pub duplicated: u64,
    /// How many arrived after a later one.
    pub out_of_order: u64,
    /// How many were not what was sent.
    pub corrupt: u64,
}

impl Counts {
    /// Tells whether every message arrived once, in order and intact.
    pub fn is_flawless(self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.out_of_order == 0 && self.corrupt == 0
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
        self.corrupt += other.corrupt;
    }
}

/// Checks messages as they arrive.
#[derive(Debug)]
pub struct Checker {
    format: Format,
    /// Number of the message that is to come next.
    next: u64,
    /// Numbers that were passed over, as ranges in ascending order.
    missing: Vec<std::ops::Range<u64>>,
    /// How many were passed over before those in `missing`.
    forgotten: u64,
    counts: Counts,
}

impl Checker {
    /// Begins with number 0.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            next: 0,
            missing: Vec::new(),
            forgotten: 0,
            counts: Counts::default(),
        }
    }

    /// Returns the number of the message that is to come next.
    #[inline]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Checks the message at the front of `message`.
    ///
    /// # Panics
    ///
    /// When `message` is shorter than the format.
    #[inline]
    pub fn check(&mut self, message: &[u64]) {
        self.counts.received += 1;
        let message = &message[..self.format.words()];
        if is_intact(message) && message[0] == self.format.header(self.next) {
            self.next += 1;
        } else {
            self.judge(message);
        }
    }

    /// Gives up every message before number `end` that has not come.
    pub fn settle(&mut self, end: u64) {
        if self.next < end {
            self.pass_over(end);
        }
    }

    /// Returns what has been found out so far.
    pub fn counts(&self) -> Counts {
        let missing: u64 = self.missing.iter().map(|gap| gap.end - gap.start).sum();
        Counts {
            lost: self.forgotten + missing,
            ..self.counts
        }
    }

    /// Finds out what is wrong with a message that is not the next one.
    #[cold]
    fn judge(&mut self, message: &[u64]) {
        let sequence = message[0] >> LENGTH_BITS;
        if !is_intact(message) || message[0] != self.format.header(sequence) {
            // Its number says nothing: it stands where the next one should.
            self.counts.corrupt += 1;
            self.next += 1;
        } else if sequence > self.next {
            self.pass_over(sequence);
            self.next += 1;
        } else if self.find(sequence) {
            self.counts.out_of_order += 1;
        } else {
            self.counts.duplicated += 1;
        }
    }

    /// Takes the numbers from the next one up to `end` as missing.
    fn pass_over(&mut self, end: u64) {
        if self.missing.len() == GAPS {
            let oldest = self.missing.remove(0);
            self.forgotten += oldest.end - oldest.start;
        }
        self.missing.push(self.next..end);
        self.next = end;
    }

    /// Takes `sequence` off the missing ones; `false` if it was not missing.
    fn find(&mut self, sequence: u64) -> bool {
        let Some(at) = self.missing.iter().position(|gap| gap.contains(&sequence)) else {
            return false;
        };
        let gap = self.missing.remove(at);
        let parts = [gap.start..sequence, sequence + 1..gap.end];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        self.missing.splice(at..at, parts);
        true
    }
}

/// Tells whether the checksum at the end of a message is right.
#[inline]
fn is_intact(message: &[u64]) -> bool {
    match message {
        [rest @ .., last] if !rest.is_empty() => *last == checksum(rest),
        _ => true,
    }
}
