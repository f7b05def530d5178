//! The limits of the machine, which no ring and no transport can beat: what two
//! cores need to hand over a line, a buffer or a sleeping thread.
//!
//! Two sides, in one process or in two, map the same memory, their [`Ground`], and
//! play one [`Limit`] after the other on it:
//!
//! ```text
//!  Ground: | turn of the first | turn of the second | common word | buffer ... |
//!          0                   128                  256           4096
//! ```
//!
//! # Invariants
//!
//! - I1: a memfd of [`Ground::LENGTH`] bytes is mapped whole, as long as the ground
//!   lives.
//! - I2: a piece of the buffer is written by the first side only, and read by the
//!   second only, in turns: the Release store of a turn and the Acquire load that
//!   sees it order the two.
//!
//! # Trust
//!
//! Both sides are this program's own: nothing here is checked against the other.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use crate::exchange::GIVE_UP;
use crate::spin::{Backoff, PATIENT};

/// Bytes between the turns of the two sides, and before the buffer.
const PAIR: usize = 128;
/// Where the word lies that both sides write.
const COMMON: usize = 2 * PAIR;
/// Where the buffer begins: at a page, as buffers of programs do.
const START: usize = 4096;
/// Bytes of the buffer.
pub const BUFFER: usize = 1 << 20;
/// How long a futex sleeps at most, so that a side whose partner died gives up.
const NAP: Duration = Duration::from_secs(1);

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Limit {
    /// Both sides write one word in turns.
    OneLine,
    /// Each side writes a word of its own, and reads the other's.
    TwoLines,
    /// The first side fills a buffer of so many bytes; the second adds it up.
    FillSum(usize),
    /// Both copy a message of [`BUFFER`] bytes, in and out, in so many pieces, the
    /// second as soon as a piece is there.
    Copy(usize),
    /// Both sides sleep on a futex in turns.
    Futex,
}

impl Limit {
    /// Returns what reports call it.
    pub fn name(self) -> String {
        match self {
            Self::OneLine => "ping-pong on one line".to_owned(),
            Self::TwoLines => "ping-pong on two lines".to_owned(),
            Self::FillSum(bytes) => format!("fill and sum of {} KiB", bytes / 1024),
            Self::Copy(1) => "copy in and out of 1 MiB, whole".to_owned(),
            Self::Copy(pieces) => format!("copy in and out of 1 MiB, {pieces} pieces"),
            Self::Futex => "shared futex".to_owned(),
        }
    }

    /// Returns the bytes that one turn carries; `None` where only time counts.
    pub fn bytes(self) -> Option<usize> {
        match self {
            Self::FillSum(bytes) => Some(bytes),
            Self::Copy(_) => Some(BUFFER),
            _ => None,
        }
    }
}

/// Which side plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Player {
    /// Begins, and writes.
    First,
    /// Answers, and reads.
    Second,
}

/// Memory that two sides share.
///
/// ```
/// use memenpsf_benches::limits::{Ground, Limit, Player};
///
/// let mut ours = Ground::new()?;
/// let mut theirs = Ground::from_fd(ours.as_fd().try_clone_to_owned()?)?;
/// # use std::os::fd::AsFd;
/// let other = std::thread::spawn(move || theirs.play(Limit::OneLine, Player::Second, 100));
/// ours.play(Limit::OneLine, Player::First, 100)?;
/// other.join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Ground {
    map: MmapRaw,
    file: OwnedFd,
    /// How many turns there have been: both sides count them alike.
    turn: u64,
    private: Vec<u64>,
}

impl AsFd for Ground {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Ground {
    /// Length of the memory in bytes.
    pub const LENGTH: usize = START + BUFFER;

    /// Makes new memory.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn new() -> io::Result<Self> {
        let file = File::from(memfd_create(c"memenpsf-limits", MFdFlags::MFD_CLOEXEC)?);
        file.set_len(Self::LENGTH as u64)?;
        Self::from_fd(file.into())
    }

    /// Maps the memory that another side has made, before anything was played.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn from_fd(file: OwnedFd) -> io::Result<Self> {
        let mut options = MmapOptions::new();
        // Pages that are in place: a first touch is not what is measured.
        options.len(Self::LENGTH).populate();
        Ok(Self {
            map: options.map_raw(&file)?,
            file,
            turn: 0,
            private: (0..BUFFER as u64 / 8).collect(),
        })
    }

    fn at(&self, offset: usize) -> NonNull<u8> {
        // SAFETY: the offsets in here are within the mapping (I1).
        let place = unsafe { self.map.as_mut_ptr().add(offset) };
        // SAFETY: no mapping is at address 0.
        unsafe { NonNull::new_unchecked(place) }
    }

    /// The word that a side writes when its turn is over.
    fn word(&self, player: Player) -> &AtomicU64 {
        let word = self.at(match player {
            Player::First => 0,
            Player::Second => PAIR,
        });
        // SAFETY: the word lies in the mapping (I1), aligned to a page plus 128, and
        // is only ever accessed as an atomic.
        unsafe { word.cast().as_ref() }
    }

    /// Plays `count` turns, and returns how long they took. The other side is to
    /// play the same at the same time.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](io::ErrorKind::TimedOut) when the other side does not; what
    /// the system says.
    pub fn play(&mut self, limit: Limit, player: Player, count: u64) -> io::Result<Duration> {
        let first = self.turn;
        // Both sides skip the same, so that no limit sees what another one left.
        self.turn += count.saturating_mul(PIECES) + PIECES;
        // The start is common: the clock does not run while the other side wakes up.
        self.word(player).store(first + 1, Ordering::Release);
        self.wait(other(player), first + 1)?;
        let began = Instant::now();
        let first = first + 1;
        match limit {
            Limit::OneLine => self.one_line(player, count)?,
            Limit::TwoLines => self.two_lines(player, first, count)?,
            Limit::FillSum(bytes) => self.fill_sum(player, first, count, bytes)?,
            Limit::Copy(pieces) => self.copy(player, first, count, pieces)?,
            Limit::Futex => self.futex(player, count)?,
        }
        let elapsed = began.elapsed();
        // Nobody goes on before both have done.
        self.word(player).store(self.turn, Ordering::Release);
        self.wait(other(player), self.turn)?;
        Ok(elapsed)
    }

    /// Waits until the word of `player` has come to `value`.
    #[inline]
    fn wait(&self, player: Player, value: u64) -> io::Result<()> {
        wait_until(|| self.word(player).load(Ordering::Acquire) >= value)
    }

    fn two_lines(&self, player: Player, first: u64, count: u64) -> io::Result<()> {
        for turn in first..first + count {
            match player {
                Player::First => {
                    self.word(player).store(turn + 1, Ordering::Release);
                    self.wait(Player::Second, turn + 1)?;
                }
                Player::Second => {
                    self.wait(Player::First, turn + 1)?;
                    self.word(player).store(turn + 1, Ordering::Release);
                }
            }
        }
        Ok(())
    }

    fn one_line(&self, player: Player, count: u64) -> io::Result<()> {
        // Whoever comes to an odd number writes
        // the next even one, and the other way round.
        let word = self.at(COMMON).cast::<AtomicU64>();
        // SAFETY: within the mapping (I1), aligned, only ever accessed as an atomic.
        let word = unsafe { word.as_ref() };
        let mine = u64::from(player == Player::Second);
        for turn in 0..count {
            let next = 2 * turn + mine;
            wait_until(|| word.load(Ordering::Acquire) == next)?;
            word.store(next + 1, Ordering::Release);
        }
        if player == Player::First {
            // The last word is the other's; the next game begins at 0.
            wait_until(|| word.load(Ordering::Acquire) == 2 * count)?;
            word.store(0, Ordering::Release);
        }
        Ok(())
    }

    fn fill_sum(&mut self, player: Player, first: u64, count: u64, bytes: usize) -> io::Result<()> {
        let words = bytes.min(BUFFER) / 8;
        let buffer = self.at(START).cast::<u64>().as_ptr();
        for turn in first..first + count {
            match player {
                Player::First => {
                    // SAFETY: within the mapping (I1), and this side's turn (I2).
                    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer, words) };
                    buffer.fill(turn);
                    self.word(player).store(turn + 1, Ordering::Release);
                    self.wait(Player::Second, turn + 1)?;
                }
                Player::Second => {
                    self.wait(Player::First, turn + 1)?;
                    // SAFETY: within the mapping (I1), and this side's turn (I2).
                    let buffer = unsafe { std::slice::from_raw_parts(buffer, words) };
                    let sum: u64 = buffer.iter().sum();
                    if sum != turn.wrapping_mul(words as u64) {
                        return Err(io::Error::other("the buffer changed on its way"));
                    }
                    self.word(player).store(turn + 1, Ordering::Release);
                }
            }
        }
        Ok(())
    }

    fn copy(&mut self, player: Player, first: u64, count: u64, pieces: usize) -> io::Result<()> {
        let length = BUFFER / pieces;
        let shared = self.at(START);
        let private = self.private.as_mut_ptr().cast::<u8>();
        for message in 0..count {
            let start = first + message * PIECES;
            for piece in 0..pieces {
                let (at, ready) = (piece * length, start + piece as u64 + 1);
                // SAFETY: within the mapping (I1), which the buffer is part of.
                let shared = unsafe { shared.as_ptr().add(at) };
                // SAFETY: the private memory is as long as the buffer.
                let private = unsafe { private.add(at) };
                match player {
                    Player::First => {
                        // SAFETY: both are as long as a piece; the shared one is this
                        // side's (I2): the message before was read to its end.
                        unsafe { shared.copy_from_nonoverlapping(private, length) };
                        self.word(player).store(ready, Ordering::Release);
                    }
                    Player::Second => {
                        self.wait(Player::First, ready)?;
                        // SAFETY: as above; the first side has handed it over (I2).
                        unsafe { private.copy_from_nonoverlapping(shared, length) };
                    }
                }
            }
            let read = start + PIECES;
            match player {
                Player::First => self.wait(Player::Second, read)?,
                Player::Second => self.word(player).store(read, Ordering::Release),
            }
        }
        Ok(())
    }

    fn futex(&self, player: Player, count: u64) -> io::Result<()> {
        let word = self.at(COMMON).cast::<AtomicU32>();
        // SAFETY: within the mapping (I1), aligned, only ever accessed as an atomic.
        let word = unsafe { word.as_ref() };
        let mine = u32::from(player == Player::Second);
        for _ in 0..count {
            futex_wait(word, 1 - mine, mine)?;
            word.store(1 - mine, Ordering::Release);
            futex_call(word, libc::FUTEX_WAKE, 1, None)?;
        }
        if player == Player::First {
            // After an even number of turns it is the first's again, and 0.
            futex_wait(word, 1, 0)?;
        }
        Ok(())
    }
}

/// The most pieces of a message, and so the turns that one may take.
const PIECES: u64 = 1024;

fn other(player: Player) -> Player {
    match player {
        Player::First => Player::Second,
        Player::Second => Player::First,
    }
}

/// Waits until `ready`, at most [`GIVE_UP`].
#[inline]
fn wait_until(ready: impl Fn() -> bool) -> io::Result<()> {
    let mut backoff = Backoff::new(PATIENT);
    let mut since: Option<Instant> = None;
    while !ready() {
        if !backoff.is_spinning() && since.get_or_insert_with(Instant::now).elapsed() > GIVE_UP {
            return Err(io::ErrorKind::TimedOut.into());
        }
        backoff.wait();
    }
    Ok(())
}

/// Sleeps until `word`, which says `not_yet`, says `wanted`.
fn futex_wait(word: &AtomicU32, not_yet: u32, wanted: u32) -> io::Result<()> {
    let since = Instant::now();
    while word.load(Ordering::Acquire) != wanted {
        futex_call(word, libc::FUTEX_WAIT, not_yet, Some(NAP))?;
        if since.elapsed() > GIVE_UP {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}

fn futex_call(
    word: &AtomicU32,
    operation: libc::c_int,
    value: u32,
    limit: Option<Duration>,
) -> io::Result<()> {
    let limit = limit.map(|limit| libc::timespec {
        tv_sec: limit.as_secs().try_into().unwrap_or(1),
        tv_nsec: 0,
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the word and the time live through the call, which writes neither.
    let result = unsafe { libc::syscall(libc::SYS_futex, word, operation, value, limit) };
    if result >= 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // The word had changed already, a signal came, or the nap is over.
        error
            if matches!(
                error.raw_os_error(),
                Some(libc::EAGAIN | libc::EINTR | libc::ETIMEDOUT)
            ) =>
        {
            Ok(())
        }
        error => Err(error),
    }
}
