//! The limits of the machine, which no ring and no transport can beat: what two
//! cores need to hand over a line, a buffer or a sleeping thread.
//!
//! Two sides, in one process or in two, map the same memory, their [`Ground`], and
//! play one [`Limit`] after the other on it:
//!
//! ```text
//!  Ground: | turn of each | common word | filled, read: a line a block | buffer ... |
//!          0              256           4096                           69632
//! ```
//!
//! Bytes cross in blocks, several of them in flight: the first side works on one
//! block while the second works on another, as the two sides of a ring do. Sides
//! that take turns would reach half of that, and would bound nothing.
//!
//! # Invariants
//!
//! - I1: a memfd of [`Ground::LENGTH`] bytes is mapped whole, as long as the ground
//!   lives.
//! - I2: a block of the buffer is written by the first side only, and read by the
//!   second only, in turns: the first one's Release store of "filled" and the
//!   second one's of "read", and the Acquire loads that see them, order the two.
//!
//! # Trust
//!
//! Both sides are this program's own: nothing here is checked against the other.

use std::fmt;
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

use crate::latency::Laps;
use crate::message::{Checker, Composer, Format};
use crate::spin::{GIVE_UP, wait_until};

/// Bytes between the turns of the two sides, and before the buffer.
const PAIR: usize = 128;
/// Where the word lies that both sides write.
const COMMON: usize = 2 * PAIR;
/// Where the lines begin that say which block is filled, and which is read.
const FLAGS: usize = 4096;
/// The most blocks in flight.
const DEPTH: usize = 256;
/// Where the buffer begins: at a page, as buffers of programs do.
const START: usize = FLAGS + 2 * DEPTH * PAIR;
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
    /// The first side fills blocks; the second adds each up.
    FillSum(Blocks),
    /// The first side copies blocks in; the second copies each out.
    Copy(Blocks),
    /// The first side composes each block before it copies it in; the second checks
    /// what it has copied out: the work of a row of messages.
    Messages(Blocks),
    /// Both sides sleep on a futex in turns.
    Futex,
}

/// How bytes cross from one side to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Blocks {
    /// Bytes of a block.
    pub bytes: usize,
    /// How many blocks the first side may be ahead: 1 to 256, and no more than
    /// [`BUFFER`] has room for.
    pub in_flight: usize,
}

impl Blocks {
    /// Tells whether the ground has room for them.
    fn fit(self) -> bool {
        let length = self.bytes.checked_mul(self.in_flight);
        self.bytes > 0
            && self.bytes.is_multiple_of(size_of::<u64>())
            && (1..=DEPTH).contains(&self.in_flight)
            && length.is_some_and(|length| length <= BUFFER)
    }
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, in_flight } = self;
        let plural = if *in_flight == 1 { "" } else { "s" };
        match bytes {
            0..1024 => write!(f, "{in_flight} block{plural} of {bytes} B"),
            _ => write!(f, "{in_flight} block{plural} of {} KiB", bytes / 1024),
        }
    }
}

impl Limit {
    /// Returns what reports call it.
    pub fn name(self) -> String {
        match self {
            Self::OneLine => "ping-pong on one line".to_owned(),
            Self::TwoLines => "ping-pong on two lines".to_owned(),
            Self::FillSum(blocks) => format!("fill and sum, {blocks}"),
            Self::Copy(blocks) => format!("copy in and out, {blocks}"),
            Self::Messages(blocks) => format!("compose, copy, check, {blocks}"),
            Self::Futex => "shared futex".to_owned(),
        }
    }

    /// Returns the blocks in which bytes cross; `None` where only time counts.
    fn blocks(self) -> Option<Blocks> {
        match self {
            Self::FillSum(blocks) | Self::Copy(blocks) | Self::Messages(blocks) => Some(blocks),
            Self::OneLine | Self::TwoLines | Self::Futex => None,
        }
    }

    /// Returns the bytes that one turn carries; `None` where only time counts.
    pub fn bytes(self) -> Option<usize> {
        self.blocks().map(|blocks| blocks.bytes)
    }

    /// Tells whether the ground has room for it, and there are such messages.
    fn fits(self) -> bool {
        let is_message = |blocks: Blocks| Format::new(blocks.bytes).is_some();
        self.blocks().is_none_or(|blocks| {
            blocks.fit() && (!matches!(self, Self::Messages(_)) || is_message(blocks))
        })
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
/// use memenpsf_benches::latency::Laps;
/// use memenpsf_benches::limits::{Ground, Limit, Player};
///
/// let mut ours = Ground::new()?;
/// let mut theirs = Ground::from_fd(ours.as_fd().try_clone_to_owned()?)?;
/// # use std::os::fd::AsFd;
/// let other = std::thread::spawn(move || {
///     theirs.play(Limit::OneLine, Player::Second, 200, &mut Laps::new())
/// });
/// let mut laps = Laps::new();
/// ours.play(Limit::OneLine, Player::First, 200, &mut laps)?;
/// assert!(laps.median().unwrap() > 0.0);
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

    /// Plays `count` turns, and returns how long they took; `laps` learns of each.
    /// The other side is to play the same at the same time.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for blocks that do not fit, or
    /// messages of a length that no message has;
    /// [`TimedOut`](io::ErrorKind::TimedOut) when the other side does not play; what
    /// the system says.
    pub fn play(
        &mut self,
        limit: Limit,
        player: Player,
        count: u64,
        laps: &mut Laps,
    ) -> io::Result<Duration> {
        if !limit.fits() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let first = self.turn;
        // Both sides skip the same, so that no limit sees what another one left.
        self.turn += count + 2;
        // The start is common: the clock does not run while the other side wakes up.
        self.word(player).store(first + 1, Ordering::Release);
        self.wait(other(player), first + 1)?;
        let began = Instant::now();
        laps.begin();
        let first = first + 1;
        match limit {
            Limit::OneLine => self.one_line(player, count, laps)?,
            Limit::TwoLines => self.two_lines(player, first, count, laps)?,
            Limit::FillSum(blocks) => self.fill_sum(player, first, count, blocks)?,
            Limit::Copy(blocks) => self.copy(player, first, count, blocks)?,
            Limit::Messages(blocks) => self.messages(player, first, count, blocks)?,
            Limit::Futex => self.futex(player, count, laps)?,
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

    fn two_lines(&self, player: Player, first: u64, count: u64, laps: &mut Laps) -> io::Result<()> {
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
            laps.turn();
        }
        Ok(())
    }

    fn one_line(&self, player: Player, count: u64, laps: &mut Laps) -> io::Result<()> {
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
            laps.turn();
        }
        if player == Player::First {
            // The last word is the other's; the next game begins at 0.
            wait_until(|| word.load(Ordering::Acquire) == 2 * count)?;
            word.store(0, Ordering::Release);
        }
        Ok(())
    }

    /// The word that says which block of a place was filled last, or read last.
    fn flag(&self, player: Player, place: usize) -> &AtomicU64 {
        let row = match player {
            Player::First => 0,
            Player::Second => DEPTH,
        };
        let word = self.at(FLAGS + (row + place) * PAIR);
        // SAFETY: a place is below `DEPTH`, so the word lies in the mapping (I1); it is
        // aligned, and only ever accessed as an atomic.
        unsafe { word.cast().as_ref() }
    }

    /// Lets `count` blocks cross, numbered from `first`: `work` gets the number of
    /// each, and where it lies in the buffer, when it is this side's (I2).
    fn blocks(
        &self,
        player: Player,
        first: u64,
        count: u64,
        Blocks { bytes, in_flight }: Blocks,
        mut work: impl FnMut(u64, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let depth = in_flight as u64;
        let mut place = 0;
        for number in first..first + count {
            let filled = self.flag(Player::First, place);
            let read = self.flag(Player::Second, place);
            let (before, after) = match player {
                // In the first places nothing lies that was not read.
                Player::First if number < first + depth => (None, filled),
                Player::First => (Some((read, number + 1 - depth)), filled),
                Player::Second => (Some((filled, number + 1)), read),
            };
            if let Some((flag, value)) = before {
                wait_until(|| flag.load(Ordering::Acquire) >= value)?;
            }
            work(number, place * bytes)?;
            after.store(number + 1, Ordering::Release);
            if player == Player::First && number + 1 == first + count {
                // The clock stops when the last block has been read.
                wait_until(|| read.load(Ordering::Acquire) > number)?;
            }
            place = if place + 1 == in_flight { 0 } else { place + 1 };
        }
        Ok(())
    }

    fn fill_sum(&self, player: Player, first: u64, count: u64, blocks: Blocks) -> io::Result<()> {
        let words = blocks.bytes / size_of::<u64>();
        self.blocks(player, first, count, blocks, |number, offset| {
            let block = self.at(START + offset).cast::<u64>().as_ptr();
            match player {
                Player::First => {
                    // SAFETY: within the mapping (I1), and this side's turn (I2).
                    unsafe { std::slice::from_raw_parts_mut(block, words) }.fill(number);
                }
                Player::Second => {
                    // SAFETY: within the mapping (I1), and this side's turn (I2).
                    let block = unsafe { std::slice::from_raw_parts(block, words) };
                    let sum = block
                        .iter()
                        .fold(0, |sum: u64, word| sum.wrapping_add(*word));
                    if sum != number.wrapping_mul(words as u64) {
                        return Err(io::Error::other("a block changed on its way"));
                    }
                }
            }
            Ok(())
        })
    }

    fn copy(&mut self, player: Player, first: u64, count: u64, blocks: Blocks) -> io::Result<()> {
        let private = self.private.as_mut_ptr().cast::<u8>();
        let bytes = blocks.bytes;
        self.blocks(player, first, count, blocks, |_, offset| {
            let shared = self.at(START + offset).as_ptr();
            // SAFETY: the private memory is as long as the buffer.
            let private = unsafe { private.add(offset) };
            match player {
                // SAFETY: both are as long as a block; the shared one is this side's
                // (I2).
                Player::First => unsafe { shared.copy_from_nonoverlapping(private, bytes) },
                // SAFETY: as above; the first side has handed it over (I2).
                Player::Second => unsafe { private.copy_from_nonoverlapping(shared, bytes) },
            }
            Ok(())
        })
    }

    fn messages(
        &mut self,
        player: Player,
        first: u64,
        count: u64,
        blocks: Blocks,
    ) -> io::Result<()> {
        let format = Format::new(blocks.bytes).ok_or(io::ErrorKind::InvalidInput)?;
        let mut message = std::mem::take(&mut self.private);
        let mut composer = Composer::new(format);
        let mut checker = Checker::new(format);
        let result = self.blocks(player, first, count, blocks, |_, offset| {
            let shared = self.at(START + offset).as_ptr();
            let private = message.as_mut_ptr().cast::<u8>();
            match player {
                Player::First => {
                    composer.compose(&mut message);
                    // SAFETY: both are as long as a block; the shared one is this
                    // side's (I2).
                    unsafe { shared.copy_from_nonoverlapping(private, blocks.bytes) };
                }
                Player::Second => {
                    // SAFETY: as above; the first side has handed it over (I2).
                    unsafe { private.copy_from_nonoverlapping(shared, blocks.bytes) };
                    checker.check(&message);
                }
            }
            Ok(())
        });
        self.private = message;
        result?;
        if checker.counts().is_flawless() {
            Ok(())
        } else {
            Err(io::Error::other("a message changed on its way"))
        }
    }

    fn futex(&self, player: Player, count: u64, laps: &mut Laps) -> io::Result<()> {
        let word = self.at(COMMON).cast::<AtomicU32>();
        // SAFETY: within the mapping (I1), aligned, only ever accessed as an atomic.
        let word = unsafe { word.as_ref() };
        let mine = u32::from(player == Player::Second);
        for _ in 0..count {
            futex_wait(word, 1 - mine, mine)?;
            word.store(1 - mine, Ordering::Release);
            futex_call(word, libc::FUTEX_WAKE, 1, None)?;
            laps.turn();
        }
        if player == Player::First {
            // After an even number of turns it is the first's again, and 0.
            futex_wait(word, 1, 0)?;
        }
        Ok(())
    }
}

fn other(player: Player) -> Player {
    match player {
        Player::First => Player::Second,
        Player::Second => Player::First,
    }
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
