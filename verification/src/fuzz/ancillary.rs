//! The fuzz target `ancillary`: what a peer sends over a real socket, with
//! descriptors and other control data as the script says, to each call that receives.
//!
//! The descriptors are all ends for writing of one pipe, so its other end tells
//! whether any is left anywhere in the process. Rules:
//!
//! 1. When the calls are over and their results dropped, no descriptor is left.
//! 2. What arrives was sent: bytes in order, never more descriptors than were under
//!    way, each of them the pipe, each with close-on-exec.
//! 3. A call that names a number of descriptors gets that number or an error.
//! 4. An error is the one that the situation calls for: the end of the stream only if
//!    the peer ended it, lost control data only if there was some, and never the
//!    kernel's own word ([`ReceiveError::Io`]).

use std::io::{self, IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use memenpsf_fdpass::{
    Deadline, ReceiveError, Received, receive, receive_bytes, receive_bytes_exact, receive_exact,
    refuse_descriptors, try_receive, try_receive_bytes,
};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{
    ControlMessage, MsgFlags, UnixCredentials, sendmsg, setsockopt, sockopt::PassCred,
};
use nix::sys::stat::fstat;

use super::{Script, Subject};

/// Most descriptors that Linux lets travel with one message.
const MOST: usize = 253;
/// Most messages of a script, which bounds how many descriptors are under way.
const MESSAGES: usize = 8;

/// Runs the script that `bytes` are. The fault: the last descriptor that arrives is
/// kept.
///
/// # Panics
///
/// When a rule is broken.
pub fn run(bytes: &[u8], subject: Subject) {
    let mut script = Script(bytes);
    let (pipe, end) = io::pipe().unwrap();
    let mut kept = Vec::new();
    {
        let (theirs, ours) = UnixStream::pair().unwrap();
        let choices = script.byte();
        if choices & 1 != 0 {
            setsockopt(&ours, PassCred, &true).unwrap();
        }
        if choices & 2 != 0 {
            // Not every kernel can: then they come, and have to be dealt with.
            refuse_descriptors(&ours).unwrap();
        }
        let mut exchange = Exchange {
            theirs: Some(theirs),
            ours,
            end: end.into(),
            sent: Vec::new(),
            descriptors: 0,
            control: choices & 1 != 0,
            messages: 0,
            read: Some(0),
            kept: Vec::new(),
        };
        while !script.is_over() {
            exchange.step(&mut script);
        }
        if subject == Subject::Faulty {
            kept.append(&mut exchange.kept);
        }
    }
    assert!(is_last(pipe), "no descriptor is left");
}

/// Whether a pipe has no other end any more, without waiting for that.
fn is_last(mut pipe: io::PipeReader) -> bool {
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    matches!(pipe.read(&mut [0]), Ok(0))
}

struct Exchange {
    theirs: Option<UnixStream>,
    ours: UnixStream,
    /// What is sent.
    end: OwnedFd,
    /// All bytes that were.
    sent: Vec<u8>,
    /// Descriptors under way, at most.
    descriptors: usize,
    /// Whether there was control data that a call could lose.
    control: bool,
    messages: usize,
    /// How many bytes were received; unknown after a call that lost some.
    read: Option<usize>,
    /// What arrived last.
    kept: Vec<OwnedFd>,
}

impl Exchange {
    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 4 {
            0 | 1 => self.send(script),
            2 if script.byte() < 64 => self.theirs = None,
            _ => self.receive(script),
        }
    }

    /// Sends bytes with descriptors in one control message or several.
    fn send(&mut self, script: &mut Script<'_>) {
        let (length, control) = (script.index() % 64, script.byte());
        let Some(theirs) = self.theirs.as_ref().filter(|_| self.messages < MESSAGES) else {
            return;
        };
        let first = self.sent.len();
        let bytes: Vec<u8> = (first..first + length)
            .map(|at| at.to_le_bytes()[0])
            .collect();
        let ends = vec![self.end.as_raw_fd(); script.index().min(MOST)];
        let (head, tail) = ends.split_at(ends.len().min(script.index()));
        let credentials = UnixCredentials::new();
        let mut messages = Vec::new();
        if control & 1 != 0 {
            messages.push(ControlMessage::ScmRights(head));
        }
        if control & 2 != 0 {
            messages.push(ControlMessage::ScmCredentials(&credentials));
        }
        if control & 4 != 0 {
            messages.push(ControlMessage::ScmRights(tail));
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let parts = [IoSlice::new(&bytes)];
        let sent = sendmsg::<()>(theirs.as_raw_fd(), &parts, &messages, flags, None);
        self.messages += 1;
        // What the kernel refuses has not been sent; a stream drops the descriptors
        // of an empty message.
        if let Ok(sent) = sent {
            self.sent.extend(&bytes[..sent]);
            self.descriptors += ends.len();
            self.control |= control != 0;
        }
    }

    fn receive(&mut self, script: &mut Script<'_>) {
        let mut buffer = vec![0; script.index() % 80];
        let length = buffer.len();
        let expected = script.index() % 4;
        let now = Deadline::after(Duration::ZERO);
        let ours = &self.ours;
        let some = |result: Result<Received, _>| result.map(|all| (all.bytes, all.fds));
        let call = script.byte() % 6;
        let result = match call {
            0 => some(receive(ours, &mut buffer, now)),
            1 => some(try_receive(ours, &mut buffer)),
            2 => receive_exact(ours, &mut buffer, expected, now).map(|fds| (length, fds)),
            3 => receive_bytes(ours, &mut buffer, now).map(|bytes| (bytes, Vec::new())),
            4 => try_receive_bytes(ours, &mut buffer).map(|bytes| (bytes, Vec::new())),
            _ => receive_bytes_exact(ours, &mut buffer, now).map(|()| (length, Vec::new())),
        };
        match result {
            Ok((bytes, fds)) => {
                assert!(bytes > 0 || (length == 0 && fds.is_empty()));
                assert!(call != 2 || fds.len() == expected);
                self.arrived(&buffer[..bytes], fds);
            }
            Err(error) => self.failed(&error, length),
        }
    }

    fn arrived(&mut self, bytes: &[u8], fds: Vec<OwnedFd>) {
        if let Some(read) = &mut self.read {
            assert_eq!(*bytes, self.sent[*read..*read + bytes.len()], "in order");
            *read += bytes.len();
        }
        assert!(fds.len() <= self.descriptors, "none is made up");
        self.descriptors -= fds.len();
        let pipe = fstat(&self.end).unwrap();
        for fd in &fds {
            let flags = FdFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC));
            let stat = fstat(fd).unwrap();
            assert_eq!((stat.st_dev, stat.st_ino), (pipe.st_dev, pipe.st_ino));
        }
        if !fds.is_empty() {
            self.kept = fds;
        }
    }

    fn failed(&mut self, error: &ReceiveError, length: usize) {
        let left = self.read.map(|read| self.sent.len() - read);
        match *error {
            ReceiveError::EmptyBuffer => assert_eq!(length, 0),
            ReceiveError::WouldBlock => assert!(left.is_none_or(|left| left == 0)),
            ReceiveError::Timeout {
                received, expected, ..
            } => {
                assert!(received < expected && left.is_none_or(|left| left == received));
                self.lost(received);
            }
            ReceiveError::Closed {
                received, expected, ..
            } => {
                assert!(self.theirs.is_none() && received < expected);
                assert!(left.is_none_or(|left| left == received));
                self.lost(received);
            }
            ReceiveError::DescriptorCount {
                expected, received, ..
            } => {
                assert_ne!(expected, received);
                assert!(received <= self.descriptors);
                self.read = None;
            }
            ReceiveError::Truncated { received, .. } => {
                assert!(self.control && received <= self.descriptors);
                self.read = None;
            }
            _ => panic!("{error:?}"),
        }
    }

    /// So many bytes are gone with an error.
    fn lost(&mut self, count: usize) {
        self.read = self.read.map(|read| read + count);
    }
}
