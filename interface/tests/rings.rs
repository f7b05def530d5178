//! Which ring carries plain data, and what two ends say that disagree.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::os::unix::net::UnixStream;

use common::{pair, try_pair};
use memenpsf::options::Ring;
use memenpsf::{ConnectError, Interface, Options, Plain, Server, ServerOptions, XmitError};
use memenpsf_ring::LayoutError;

/// The words of a refusal, which both ends have to know of.
#[track_caller]
fn refused<T: Plain, U: Plain>(client: &Options, server: &Options) -> String {
    let (ours, theirs) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        let server = scope.spawn(|| Interface::<U>::establish(theirs, 1, server).unwrap_err());
        let client = Interface::<T>::establish(ours, 0, client).unwrap_err();
        let server = server.join().unwrap().to_string();
        let words = client.to_string();
        let words = words.strip_prefix("the peer refused: ").unwrap();
        assert_eq!(server, format!("the peer was refused: {words}"));
        words.to_owned()
    })
}

/// Why no connection can be made with these options.
fn impossible<T: Plain>(options: &Options) -> LayoutError {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    match Interface::<T>::establish(ours, 0, options).unwrap_err() {
        ConnectError::Capacity(error) => error,
        error => panic!("{error:?}"),
    }
}

#[test]
fn choice_of_what_the_rule_says_anyway_is_no_mismatch() {
    let fitting = Options::new();
    let packed = Options::new().ring(Ring::Packed);
    let index = Options::new().ring(Ring::Index);
    pair::<[u8; 56]>(&fitting, &packed);
    pair::<[u8; 57]>(&index, &fitting);
    pair::<[u128; 3]>(&packed, &fitting);
    pair::<[u128; 4]>(&fitting, &index);
}

#[test]
fn ends_over_different_rings_refuse_each_other_in_words() {
    let of = |ring| Options::new().ring(ring);
    assert_eq!(
        refused::<u64, u64>(&of(Ring::Packed), &of(Ring::Index)),
        "kind of ring is packed, expected index"
    );
    assert_eq!(
        refused::<u64, u64>(&of(Ring::Index), &Options::new()),
        "kind of ring is index, expected packed"
    );
}

#[test]
fn ends_of_different_types_are_told_of_the_types_and_not_of_their_rings() {
    let options = Options::new();
    assert_eq!(
        refused::<u64, [u8; 100]>(&options, &options),
        "element size is 8, expected 100: \
         elements of 8 bytes aligned to 8 meet elements of 100 bytes aligned to 1"
    );
    assert_eq!(
        refused::<[u64; 2], u128>(&options, &options),
        "element alignment is 8, expected 16: \
         elements of 16 bytes aligned to 8 meet elements of 16 bytes aligned to 16"
    );
}

#[test]
fn element_that_does_not_fit_into_a_line_cannot_be_packed() {
    let options = Options::new().ring(Ring::Packed);
    let (size, align) = (57, 1);
    let element = LayoutError::Element { size, align };
    assert_eq!(impossible::<[u8; 57]>(&options), element);
    let words = "an element of 64 bytes, aligned to 16, does not fit into a packed line";
    assert_eq!(impossible::<[u128; 4]>(&options).to_string(), words);
}

#[test]
fn capacity_is_exact_whatever_the_ring_and_a_power_of_two_unless_packed_was_chosen() {
    for ring in [Ring::Fitting, Ring::Index] {
        for given in [0, 3, 1000] {
            let options = Options::new().ring(ring).capacity(given);
            let expected = LayoutError::Capacity { given };
            assert_eq!(impossible::<u64>(&options), expected);
        }
    }
    let packed = Options::new().ring(Ring::Packed);
    assert_eq!(
        impossible::<u64>(&packed.clone().capacity(0)),
        LayoutError::Zero
    );

    for (ring, capacities) in [
        (Ring::Index, &[1, 2, 8, 64][..]),
        (Ring::Packed, &[1, 2, 3, 7, 8, 9, 14, 15, 64, 1000]),
    ] {
        for &capacity in capacities {
            let options = Options::new().ring(ring).capacity(capacity);
            let (mut client, mut server) = pair::<u64>(&options, &options);
            assert_eq!(
                (client.cap(), server.peer().capacity()),
                (capacity, capacity)
            );
            // More than once around, from every slot.
            for first in 0..3 * capacity as u64 {
                let messages: Vec<u64> = (first..).take(capacity).collect();
                assert_eq!(client.xmit_vectored(&messages), Ok(capacity));
                assert_eq!(client.xmit(7), Err(XmitError::Full(7)));
                assert_eq!(server.recv(), Ok(Some(first)));
                client.xmit(first).unwrap();
                assert_eq!(client.xmit(7), Err(XmitError::Full(7)));
                assert_eq!(server.recv_vectored().unwrap().len(), capacity);
            }
        }
    }
}

#[test]
fn capacity_that_no_region_holds_is_refused_for_either_ring() {
    for ring in common::RINGS {
        for capacity in [1 << 40, 1 << 62, 1 << 63] {
            let options = Options::new().ring(ring).capacity(capacity);
            let (client, _server) = try_pair::<u64>(&options, &Options::new().ring(ring));
            let error = client.unwrap_err();
            assert!(
                matches!(error, ConnectError::Region(_) | ConnectError::Capacity(_)),
                "{error}"
            );
        }
    }
}

#[test]
fn end_that_attaches_first_finds_an_empty_ring_wherever_it_begins() {
    let folder = tempfile::tempdir().unwrap();
    for ring in common::RINGS {
        // The second lap of two lines, the last positions of all, and the first.
        for start in [20, u64::MAX - 4, 0] {
            let options = Options::new().ring(ring).capacity(8).start_at(start);
            let path = folder.path().join(format!("{ring:?}{start}"));
            let served = ServerOptions::new().connection(options.clone());
            let mut server = Server::<u64>::bind_with(&path, &served).unwrap();
            let (began, wait) = std::sync::mpsc::channel();
            let client = std::thread::spawn(move || {
                let mut client = Interface::<u64>::connect_with(path, &options).unwrap();
                // The server goes on only when told to: mostly, it is not attached.
                assert_eq!(client.recv(), Ok(None));
                assert_eq!(client.xmit_vectored(&[1; 9]), Ok(8));
                assert_eq!(client.xmit(1), Err(XmitError::Full(1)));
                began.send(()).unwrap();
                client.recv_timeout(Some(common::HANG)).unwrap()
            });
            // A client counts from its hello on, which the server has answered. Now
            // and then it answers so fast that the server is done as well.
            let early = common::until(|| match server.try_accept().unwrap() {
                None => (server.stats().clients == 1).then_some(None),
                early => Some(early),
            });
            wait.recv_timeout(common::HANG).unwrap();
            let mut server = early.unwrap_or_else(|| server.accept().unwrap());
            assert_eq!(server.recv_vectored(), Ok(vec![1; 8]));
            server.xmit(2).unwrap();
            assert_eq!(client.join().unwrap(), Some(2));
        }
    }
}
