//! A client that speaks the protocol by hand, and may stop keeping its rules.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};

use memenpsf::Name;
use memenpsf::frame::Limits;
use memenpsf::handshake::{Handshake, Wants};
use memenpsf::layout::Header;
use memenpsf::region::{OwnRegion, PeerRegion};
use memenpsf_fdpass::{Deadline, receive, send_all};

/// The forger, after a handshake in which it has kept the rules.
pub struct Forger {
    pub stream: UnixStream,
    own: OwnRegion,
    theirs: PeerRegion,
}

impl Forger {
    pub fn connect(stream: UnixStream, header: Header, limits: Limits) -> Self {
        let name = Name::new("forger").unwrap();
        let (own, descriptor) = OwnRegion::create(&name, &header).unwrap();
        let mut handshake = Handshake::client(header, name, limits);
        let mut received = Vec::new();
        let mut theirs = None;
        loop {
            match handshake.poll() {
                Wants::Read { bytes, .. } => {
                    let mut buffer = vec![0; bytes];
                    let deadline = Deadline::after(super::HANG);
                    let got = receive(&stream, &mut buffer, deadline).unwrap();
                    handshake.receive(&buffer[..got.bytes], got.fds.len());
                    received.extend(got.fds);
                }
                Wants::Write => {
                    let out = handshake.transmit().unwrap();
                    let fds = [descriptor.as_fd()];
                    let fds = &fds[..usize::from(out.with_descriptor)];
                    send_all(&stream, out.bytes, fds, Deadline::never()).unwrap();
                    let sent = out.bytes.len();
                    handshake.sent(sent);
                }
                Wants::Verdict { peer } => {
                    let descriptor = received.pop().unwrap();
                    theirs = Some(PeerRegion::open(descriptor, &peer.header).unwrap());
                    assert!(handshake.accept());
                }
                Wants::Done { .. } => break,
                Wants::Failed { error } => panic!("{error}"),
            }
        }
        Self {
            stream,
            own,
            theirs: theirs.unwrap(),
        }
    }

    /// A word of the block that carries what the forger sends.
    pub fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= self.own.layout().producer_len());
        // SAFETY: the word lies in the block.
        let word = unsafe { self.own.producer_block().add(at) };
        // SAFETY: it is aligned, lives as long as `self`, and this process accesses
        // it only by atomics.
        unsafe { word.cast().as_ref() }
    }

    /// The word that says how much the forger has sent, in an index ring.
    pub fn tail(&self) -> &AtomicU64 {
        self.word(0)
    }

    /// The word that says how much the forger has received.
    pub fn head(&self) -> &AtomicU64 {
        // SAFETY: the block begins with the position, lives as long as `self`, and
        // this process accesses it only by atomics.
        unsafe { self.own.consumer_block().cast().as_ref() }
    }

    /// The word that says, when it is odd, that the forger sleeps until there is data.
    pub fn sleeps(&self) -> &AtomicU64 {
        // SAFETY: the block begins with that word, lives as long as `self`, and this
        // process accesses it only by atomics.
        unsafe { self.own.waiting().cast().as_ref() }
    }

    /// Writes the element of a slot of an index ring.
    pub fn put(&self, index: usize, value: u64) {
        // The slots begin 128 bytes behind the tail.
        self.word(128 + index * 8).store(value, Ordering::Relaxed);
    }

    /// A word of the block that carries what the victim sends.
    pub fn victims_word(&self, at: usize) -> u64 {
        assert!(at.is_multiple_of(8) && at + 8 <= self.theirs.layout().producer_len());
        let word: *const AtomicU64 = self.theirs.producer_block().wrapping_add(at).cast();
        // SAFETY: the word lies in the block, which lives as long as `self`.
        unsafe { &*word }.load(Ordering::Relaxed)
    }

    /// How much the victim has sent, in an index ring.
    pub fn victims_tail(&self) -> u64 {
        self.victims_word(0)
    }

    /// Waits for the end of the stream, and returns what came before.
    pub fn read_to_end(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut stream = &self.stream;
        stream.set_read_timeout(Some(super::HANG)).unwrap();
        match stream.read_to_end(&mut bytes) {
            Ok(_) => bytes,
            // Because the victim has not read all that we sent.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => bytes,
            Err(error) => panic!("{error}"),
        }
    }
}
