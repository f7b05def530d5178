//! The fuzz target `hello_and_control`: frames that a peer makes up, cut into pieces
//! as the script says, and the same bytes in one piece.
//!
//! The script decides how bytes are cut, then which frames come and what is changed
//! in them. Rules:
//!
//! 1. What comes out does not depend on the cuts.
//! 2. A hello that reaches the verdict is byte for byte the one that the values which
//!    were read from it encode, and came with one descriptor; so no byte of it went
//!    unread. The same holds for an accept and for a control frame.
//! 3. A handshake that has ended, and a stream that was violated, stay so.
//! 4. Each ends after a number of steps that the bytes bound.

use memenpsf::control::{CONTROL_LEN, Control, Decoder};
use memenpsf::frame::{FRAME_LEN, Flags, Hello, Limits, Name, Role, encode_accept, encode_refusal};
use memenpsf::handshake::{Handshake, Wants};
use memenpsf::layout::{Header, RegionLayout, RingKind, Shape};
use memenpsf::{Reason, Refusal};

use super::{Script, Subject};

/// The longest region that either side maps.
const REGION: u64 = 1 << 20;
/// The most bytes that a script may let come.
const STREAM: usize = 2048;

/// Runs the script that `bytes` are. The fault: behind each cut one byte gets lost.
///
/// # Panics
///
/// When a rule is broken.
pub fn run(bytes: &[u8], subject: Subject) {
    let mut script = Script(bytes);
    let choices = script.byte();
    let cuts = Cuts {
        lengths: script.bytes(),
        lossy: subject == Subject::Faulty,
    };
    if choices & 1 == 0 {
        control(&mut script, &cuts);
    } else {
        handshake(&mut script, &cuts, choices);
    }
}

/// How bytes are cut: the lengths of the pieces less one, in turn.
#[derive(Debug, Clone)]
struct Cuts<'a> {
    lengths: &'a [u8],
    lossy: bool,
}

impl Cuts<'_> {
    const WHOLE: Self = Cuts {
        lengths: &[],
        lossy: false,
    };

    /// Returns how long the piece with this number is at most.
    fn piece(&self, number: usize) -> usize {
        match self.lengths.len() {
            0 => usize::MAX,
            count => 1 + usize::from(self.lengths[number % count]),
        }
    }

    /// Returns how many bytes get lost in front of it.
    fn lost(&self, number: usize) -> usize {
        usize::from(self.lossy && number > 0)
    }
}

fn control(script: &mut Script<'_>, cuts: &Cuts<'_>) {
    let mut stream = Vec::new();
    while !script.is_over() && stream.len() < STREAM {
        match script.byte() % 5 {
            0 => stream.extend(Control::Wake.encode()),
            1 => stream.extend(Control::Message([script.byte(), script.byte()]).encode()),
            2 => stream.extend(Control::Bye(script.byte()).encode()),
            3 => change(&mut stream, script),
            _ => stream.extend(script.bytes()),
        }
    }
    let whole = decode(&stream, &Cuts::WHOLE);
    assert_eq!(decode(&stream, cuts), whole, "the cuts decide nothing");

    let frames = whole.0.iter().flat_map(|frame| frame.encode());
    assert!(
        stream
            .iter()
            .copied()
            .zip(frames)
            .all(|(byte, frame)| byte == frame)
    );
}

/// Changes one byte among the last of the stream.
fn change(stream: &mut [u8], script: &mut Script<'_>) {
    let (back, value) = (script.index(), script.byte());
    if let Some(at) = stream.len().checked_sub(1 + back) {
        stream[at] = value;
    }
}

/// Returns the frames of a stream, and how it ends.
fn decode(stream: &[u8], cuts: &Cuts<'_>) -> (Vec<Control>, String) {
    let (mut decoder, mut frames) = (Decoder::new(), Vec::new());
    let (mut rest, mut number) = (stream, 0);
    while !rest.is_empty() {
        rest = &rest[cuts.lost(number)..];
        let (mut piece, behind) = rest.split_at(cuts.piece(number).min(rest.len()));
        (rest, number) = (behind, number + 1);
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break assert!(piece.is_empty(), "all is used up"),
                Err(violation) => {
                    let mut good = &Control::Wake.encode()[..];
                    assert_eq!(decoder.decode(&mut good), Err(violation), "it stays");
                    assert_eq!(decoder.finish(), Err(violation), "it stays");
                    return (frames, violation.to_string());
                }
            }
        }
        assert!(frames.len() <= stream.len() / CONTROL_LEN);
    }
    (frames, format!("{:?}", decoder.finish()))
}

/// A stream of handshake frames, and how our end deals with it.
#[derive(Debug, Default)]
struct Peer {
    stream: Vec<u8>,
    /// At which bytes descriptors are.
    descriptors: Vec<usize>,
    server: bool,
    /// Our end refuses the peer's region.
    refuses: bool,
    kind: Option<RingKind>,
}

fn handshake(script: &mut Script<'_>, cuts: &Cuts<'_>, choices: u8) {
    let kinds = [RingKind::Index, RingKind::Packed, RingKind::Bytes];
    let mut peer = Peer {
        server: choices & 2 != 0,
        refuses: choices & 4 != 0,
        kind: Some(kinds[usize::from(choices >> 4) % 3]),
        ..Peer::default()
    };
    let theirs = if peer.server {
        Role::Client
    } else {
        Role::Server
    };
    while !script.is_over() && peer.stream.len() < STREAM {
        match script.byte() % 6 {
            0 => {
                // A hello brings its descriptor.
                peer.descriptors.push(peer.stream.len());
                let mut hello = peer.hello(theirs, 16 << (script.byte() % 4));
                hello.flags = Flags::from_bits((script.byte() % 4).into()).unwrap();
                peer.stream.extend(hello.encode());
            }
            1 => peer.stream.extend(encode_accept(OUR_NONCE)),
            2 => {
                let limit = script.byte().into();
                let words = String::from_utf8_lossy(script.bytes());
                let refusal = Refusal::with_words(Reason::Busy { limit }, &words);
                peer.stream.extend(encode_refusal(&refusal));
            }
            3 => change(&mut peer.stream, script),
            4 => peer.stream.extend(script.bytes()),
            _ => peer.descriptors.push(peer.stream.len() + script.index()),
        }
    }
    if choices & 8 == 0 {
        let whole = peer.converse(&Cuts::WHOLE);
        assert_eq!(peer.converse(cuts), whole, "the cuts decide nothing");
    } else {
        let whole = peer.overwhelm(&Cuts::WHOLE);
        assert_eq!(peer.overwhelm(cuts), whole, "the cuts decide nothing");
    }
}

const OUR_NONCE: u64 = 0x1234;

impl Peer {
    fn hello(&self, role: Role, capacity: u64) -> Hello {
        let kind = self.kind.unwrap();
        let shape = match kind {
            RingKind::Bytes => Shape::of_bytes(capacity, 8, ""),
            _ => Shape::of::<u64>(kind, capacity, ""),
        };
        let layout = RegionLayout::new(producer_len(&shape).unwrap(), REGION).unwrap();
        let nonce = OUR_NONCE;
        let name = Name::new("fuzz").unwrap();
        Hello::new(
            role,
            Header {
                shape,
                layout,
                nonce,
            },
            name,
        )
    }

    fn begin(&self) -> Handshake {
        let role = Role::from(u8::from(self.server));
        let limits = Limits {
            region: REGION,
            producer_len,
        };
        Handshake::begin(self.hello(role, 64), limits)
    }

    /// Returns how many descriptors come with these bytes.
    fn descriptors(&self, from: usize, to: usize) -> usize {
        let come = |&&at: &&usize| (from..to).contains(&at);
        self.descriptors.iter().filter(come).count()
    }

    /// Lets our end read when it wants to. Returns how it ended, and what it said.
    fn converse(&self, cuts: &Cuts<'_>) -> (String, Vec<u8>) {
        let mut end = self.begin();
        let mut said = Vec::new();
        let (mut at, mut number) = (0, 0);
        // Each step moves at least a byte, but for the verdict and the last.
        for _ in 0..STREAM + 4 * FRAME_LEN {
            let wants = end.poll();
            match wants {
                Wants::Write => {
                    let out = end.transmit().unwrap();
                    assert!(!out.with_descriptor || said.is_empty());
                    let piece = cuts.piece(number).min(out.bytes.len());
                    said.extend(&out.bytes[..piece]);
                    end.sent(piece);
                }
                Wants::Read { .. } if at >= self.stream.len() => end.closed(),
                Wants::Read { bytes, descriptors } => {
                    assert!(bytes <= FRAME_LEN && descriptors <= 1);
                    at = (at + cuts.lost(number)).min(self.stream.len());
                    let rest = &self.stream[at..];
                    let piece = &rest[..rest.len().min(bytes).min(cuts.piece(number))];
                    let come = self.descriptors(at, at + piece.len());
                    assert_eq!(end.receive(piece, come), piece.len());
                    at += piece.len();
                }
                Wants::Verdict { peer } => {
                    assert_eq!(self.stream[at - FRAME_LEN..at], peer.encode());
                    assert_eq!(self.descriptors(at - FRAME_LEN, at), 1);
                    if self.refuses {
                        end.refuse(Reason::Busy { limit: 1 });
                    } else {
                        assert!(end.accept());
                    }
                }
                Wants::Done { .. } | Wants::Failed { .. } => {
                    if matches!(wants, Wants::Done { .. }) && self.server {
                        assert_eq!(self.stream[at - FRAME_LEN..at], encode_accept(OUR_NONCE));
                    }
                    let ending = format!("{wants:?}");
                    end.receive(&self.stream, 2);
                    end.closed();
                    end.refuse(Reason::OutOfTurn);
                    end.unsendable();
                    assert_eq!(format!("{:?}", end.poll()), ending, "it stays");
                    return (ending, said);
                }
            }
            number += 1;
        }
        panic!("the handshake does not end: {end:?}");
    }

    /// Gives our end everything, whatever it wants. All descriptors come at once: a
    /// read of several frames could not tell to which of them one belongs.
    fn overwhelm(&self, cuts: &Cuts<'_>) -> (String, usize) {
        let mut end = self.begin();
        let (mut at, mut number, mut taken) = (0, 0, 0);
        while at < self.stream.len() {
            at = (at + cuts.lost(number)).min(self.stream.len());
            let rest = &self.stream[at..];
            let piece = &rest[..rest.len().min(cuts.piece(number))];
            let come = if number == 0 {
                self.descriptors.len()
            } else {
                0
            };
            taken += end.receive(piece, come);
            at += piece.len();
            number += 1;
        }
        (format!("{:?} {:?}", end.poll(), end.transmit()), taken)
    }
}

/// As long as a producer block must be, for rings that the body makes up.
fn producer_len(shape: &Shape) -> Option<u64> {
    let longest = shape.longest.checked_mul(2)?;
    let slots = shape.capacity.checked_mul(shape.element_size.into())?;
    slots.checked_add(longest)?.checked_add(128)
}
