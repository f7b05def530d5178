//! The limit of the machine: one cache line that two cores hand to each other.
//! No ring and no message can turn around faster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::spin::{Backoff, PATIENT};

/// One word with two cache lines of its own, so that neither a neighbour nor the
/// adjacent-line prefetcher disturbs it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(AtomicU64);

/// One player of a ping-pong over one cache line.
///
/// ```
/// let (mut ping, mut pong) = memenpsf_benches::raw::players();
/// let other = std::thread::spawn(move || pong.play(100));
/// ping.play(100);
/// other.join().unwrap();
/// assert_eq!(ping.turns(), 200);
/// ```
#[derive(Debug)]
pub struct Player {
    line: Arc<Line>,
    /// What the line says when it is this player's turn.
    turn: u64,
}

/// Makes two players; the first begins.
pub fn players() -> (Player, Player) {
    let line = Arc::new(Line::default());
    let player = |turn| Player {
        line: Arc::clone(&line),
        turn,
    };
    (player(0), player(1))
}

impl Player {
    /// Takes `count` turns.
    pub fn play(&mut self, count: u64) {
        for _ in 0..count {
            let mut backoff = Backoff::new(PATIENT);
            // Acquire and Release pair with each other, as in a ring, although
            // nothing but the word itself changes hands here.
            while self.line.0.load(Ordering::Acquire) != self.turn {
                backoff.wait();
            }
            self.line.0.store(self.turn + 1, Ordering::Release);
            self.turn += 2;
        }
    }

    /// Returns how many turns both have taken, if it is this player's turn next.
    pub fn turns(&self) -> u64 {
        self.turn
    }
}
