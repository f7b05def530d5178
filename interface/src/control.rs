//! The frames that follow the handshake: waking the peer, small messages, and
//! goodbye. Bytes in, values out; no I/O.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | marker, `0xC5` |
//! | 1 | 1 | kind: 1 wake, 2 message, 3 goodbye |
//! | 2 | 2 | message: its two bytes; goodbye: the reason, then zero; wake: zero |
//! | 4 | 4 | reserved, zero |
//!
//! # Trust
//!
//! Every byte is the peer's. A frame that is not exactly as above ends the
//! connection: on a stream there is no way to find the beginning of the next.

use crate::error::ControlViolation;

/// Length of every control frame: one word, so that a full socket buffer holds
/// whole frames in practice and a read never needs a length first.
pub const CONTROL_LEN: usize = 8;

/// First byte of every control frame. No byte of UTF-8 text or of a handshake
/// frame's magic is equal to it at that place.
const MARKER: u8 = 0xc5;

const WAKE: u8 = 1;
const MESSAGE: u8 = 2;
const BYE: u8 = 3;

/// What one side tells the other beside the rings.
///
/// ```
/// use memenpsf::control::{Control, Decoder};
///
/// let frame = Control::Message([1, 2]).encode();
/// assert_eq!(Decoder::new().decode(&mut &frame[..]), Ok(Some(Control::Message([1, 2]))));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Control {
    /// Something was published that the peer may be asleep for.
    Wake,
    /// A small message of the application.
    Message([u8; 2]),
    /// The peer ends the connection; nothing comes after it. The byte says why and
    /// is zero for an ordinary end.
    Bye(u8),
}

impl Control {
    /// Returns the bytes of the frame.
    pub const fn encode(self) -> [u8; CONTROL_LEN] {
        let (kind, [first, second]) = match self {
            Self::Wake => (WAKE, [0, 0]),
            Self::Message(bytes) => (MESSAGE, bytes),
            Self::Bye(reason) => (BYE, [reason, 0]),
        };
        [MARKER, kind, first, second, 0, 0, 0, 0]
    }

    /// Reads a whole frame.
    fn parse(frame: [u8; CONTROL_LEN]) -> Result<Self, ControlViolation> {
        let [marker, kind, first, second, reserved @ ..] = frame;
        if marker != MARKER {
            return Err(ControlViolation::Marker { found: marker });
        }
        let zero = |bytes: &[u8]| match bytes.iter().copied().find(|&byte| byte != 0) {
            Some(found) => Err(ControlViolation::Reserved { kind, found }),
            None => Ok(()),
        };
        let frame = match kind {
            WAKE => {
                zero(&[first, second])?;
                Self::Wake
            }
            MESSAGE => Self::Message([first, second]),
            BYE => {
                zero(&[second])?;
                Self::Bye(first)
            }
            found => return Err(ControlViolation::Kind { found }),
        };
        zero(&reserved)?;
        Ok(frame)
    }
}

/// Puts control frames together from bytes that come in any pieces.
///
/// ```
/// use memenpsf::control::{Control, Decoder};
///
/// let stream = [Control::Wake.encode(), Control::Bye(0).encode()].concat();
/// let mut decoder = Decoder::new();
/// let mut frames = Vec::new();
/// for mut piece in stream.chunks(3) {
///     while let Some(frame) = decoder.decode(&mut piece)? {
///         frames.push(frame);
///     }
/// }
/// assert_eq!(frames, [Control::Wake, Control::Bye(0)]);
/// assert_eq!(decoder.finish(), Ok(()));
/// # Ok::<(), memenpsf::ControlViolation>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Decoder {
    frame: [u8; CONTROL_LEN],
    filled: usize,
    bye: bool,
    violation: Option<ControlViolation>,
}

impl Decoder {
    /// Returns a decoder at the beginning of a stream.
    pub const fn new() -> Self {
        Self {
            frame: [0; CONTROL_LEN],
            filled: 0,
            bye: false,
            violation: None,
        }
    }

    /// Takes bytes from the front of `input` up to the end of one frame and
    /// returns it; returns nothing when the input is used up before.
    ///
    /// # Errors
    ///
    /// [`ControlViolation`] at the first frame that is not one; the same again at
    /// every later call.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Control>, ControlViolation> {
        if let Some(violation) = self.violation {
            return Err(violation);
        }
        if self.bye && !input.is_empty() {
            return Err(self.violated(ControlViolation::AfterBye));
        }
        let take = input.len().min(CONTROL_LEN - self.filled);
        let (piece, rest) = input.split_at(take);
        self.frame[self.filled..][..take].copy_from_slice(piece);
        self.filled += take;
        *input = rest;
        if self.filled < CONTROL_LEN {
            return Ok(None);
        }
        self.filled = 0;
        match Control::parse(self.frame) {
            Ok(frame) => {
                self.bye = matches!(frame, Control::Bye(_));
                Ok(Some(frame))
            }
            Err(violation) => Err(self.violated(violation)),
        }
    }

    /// Tells that the stream has ended.
    ///
    /// # Errors
    ///
    /// [`ControlViolation::Truncated`] if it ended inside a frame, and any earlier
    /// violation again.
    pub fn finish(&self) -> Result<(), ControlViolation> {
        match self.violation {
            Some(violation) => Err(violation),
            None if self.filled > 0 => Err(ControlViolation::Truncated {
                received: self.filled,
            }),
            None => Ok(()),
        }
    }

    fn violated(&mut self, violation: ControlViolation) -> ControlViolation {
        self.violation = Some(violation);
        violation
    }
}
