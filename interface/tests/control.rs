//! Control frames in any pieces, and what is none.
#![cfg(not(loom))]

use memenpsf::ControlViolation;
use memenpsf::control::{CONTROL_LEN, Control, Decoder};
use proptest::prelude::*;

/// All that a decoder makes of a stream that is cut into pieces of `piece` bytes.
fn decode(stream: &[u8], piece: usize) -> (Vec<Control>, Result<(), ControlViolation>) {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    for mut bytes in stream.chunks(piece) {
        loop {
            match decoder.decode(&mut bytes) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(violation) => {
                    assert_eq!(decoder.decode(&mut bytes), Err(violation), "sticky");
                    assert_eq!(decoder.finish(), Err(violation), "sticky");
                    return (frames, Err(violation));
                }
            }
        }
        assert!(bytes.is_empty());
    }
    (frames, decoder.finish())
}

#[test]
fn frames_survive_pieces_of_any_size() {
    let frames = [
        Control::Wake,
        Control::Message([0, 0]),
        Control::Message([0xc5, 0xff]),
        Control::Wake,
        Control::Bye(255),
    ];
    let stream = frames.map(Control::encode).concat();
    for piece in 1..=stream.len() {
        assert_eq!(decode(&stream, piece), (frames.to_vec(), Ok(())), "{piece}");
    }
}

/// Every value of every byte of every frame: what is read back is what was written,
/// and everything else a violation.
#[test]
fn every_other_value_of_every_byte_is_told_apart() {
    for good in [Control::Wake, Control::Message([1, 2]), Control::Bye(3)] {
        for offset in 0..CONTROL_LEN {
            for value in 0..=255 {
                let mut bytes = good.encode();
                let original = std::mem::replace(&mut bytes[offset], value);
                let kind = bytes[1];
                let (frames, end) = decode(&bytes, CONTROL_LEN);
                if let [frame] = frames[..] {
                    assert_eq!(frame.encode(), bytes);
                    let free = match good {
                        Control::Message(_) => 2..4,
                        Control::Bye(_) => 2..3,
                        _ => 0..0,
                    };
                    let fits = |kind: u8| kind == 2 || (kind == 3 && bytes[3] == 0);
                    let kind_fits =
                        offset == 1 && (fits(value) || (value == 1 && bytes[2..4] == [0, 0]));
                    assert!(
                        value == original || free.contains(&offset) || kind_fits,
                        "{good:?} {offset} {value}"
                    );
                    continue;
                }
                let expected = match offset {
                    0 => ControlViolation::Marker { found: value },
                    1 if !(1..=3).contains(&value) => ControlViolation::Kind { found: value },
                    1 => {
                        let found = if value == 1 { bytes[2] } else { bytes[3] };
                        ControlViolation::Reserved { kind, found }
                    }
                    _ => ControlViolation::Reserved { kind, found: value },
                };
                assert_eq!(end, Err(expected), "{good:?} {offset} {value}");
            }
        }
    }
}

#[test]
fn nothing_comes_after_a_goodbye() {
    let stream = [&Control::Bye(0).encode()[..], &[0xc5]].concat();
    for piece in 1..=stream.len() {
        let expected = (vec![Control::Bye(0)], Err(ControlViolation::AfterBye));
        assert_eq!(decode(&stream, piece), expected);
    }
}

#[test]
fn stream_that_ends_inside_a_frame_is_a_violation() {
    for received in 1..CONTROL_LEN {
        let stream = &Control::Wake.encode()[..received];
        let expected = Err(ControlViolation::Truncated { received });
        assert_eq!(decode(stream, 3), (vec![], expected));
    }
    assert_eq!(decode(&[], 1), (vec![], Ok(())));
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_have_one_outcome(
        valid in 0..4_usize,
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        piece in 1..40_usize,
    ) {
        let mut stream = Control::Message([7, 8]).encode().repeat(valid);
        stream.extend(bytes);
        let (frames, end) = decode(&stream, piece);
        prop_assert!(frames.len() >= valid);
        prop_assert_eq!(decode(&stream, stream.len().max(1)), (frames, end));
    }
}
