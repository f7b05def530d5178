//! Free-running position arithmetic.
//!
//! A position counts elements since the ring was made and never wraps at the
//! capacity; it wraps only at the width of its type, where every function here
//! still holds, because it compares distances and never positions. The index
//! of a slot is `position & (capacity - 1)`.
//!
//! ```text
//!        head            tail
//!  ───────┼───────────────┼──────────────┼─────▶ positions
//!         │◀──  length  ─▶│◀── vacant ──▶│
//!         │◀─────────  capacity  ───────▶│
//! ```
//!
//! # Invariants
//!
//! - I1: `tail - head <= capacity`, in wrapping arithmetic.
//! - I2: a published position never moves backwards.
//!
//! The rings use `u64`. The functions are generic so that the test below runs
//! every pair of `u8` positions with every capacity: 524 288 cases.

/// An unsigned integer that counts elements and wraps at its own width.
pub(crate) trait Position: Copy + Ord {
    /// Returns how far `self` is ahead of `other`.
    fn since(self, other: Self) -> Self;
}

macro_rules! positions {
    ($($width:ty),*) => {$(
        impl Position for $width {
            #[inline(always)]
            fn since(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
        }
    )*};
}

positions!(u64);
#[cfg(test)]
positions!(u8);

/// Tells whether a producer may believe `head`: not behind the head that it
/// saw before (I2) and not ahead of its own tail (I1).
#[inline(always)]
pub(crate) fn head_is_legal<P: Position>(head: P, previous: P, tail: P) -> bool {
    head.since(previous) <= tail.since(previous)
}

/// Tells whether a consumer may believe `tail`: not behind the tail that it
/// saw before (I2) and not more than `capacity` ahead of its own head (I1).
#[inline(always)]
pub(crate) fn tail_is_legal<P: Position>(tail: P, previous: P, head: P, capacity: P) -> bool {
    // `previous` was legal, so its distance from `head` is at most `capacity`
    // and the subtraction on the right cannot wrap.
    tail.since(previous) <= capacity.since(previous.since(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every head, tail and capacity that `u8` can hold.
    fn cases() -> impl Iterator<Item = (u8, u8, u8)> {
        (0..8).flat_map(|log| {
            (0..=u8::MAX).flat_map(move |head| (0..=u8::MAX).map(move |d| (1 << log, head, d)))
        })
    }

    #[test]
    fn legality_equals_plain_arithmetic_on_every_u8_case() {
        let mut count = 0_u32;
        for (capacity, base, offered) in cases() {
            count += 1;
            // In a world of plain integers the peer's last legal position lies
            // `seen` after `base`; try the smallest, a middle and the largest.
            for seen in [0, capacity / 2, capacity] {
                // Consumer: own head is `base`, the previous tail `base + seen`,
                // the offered tail `base + seen + offered`.
                let previous = base.wrapping_add(seen);
                let tail = previous.wrapping_add(offered);
                let legal = u16::from(seen) + u16::from(offered) <= u16::from(capacity);
                assert_eq!(
                    tail_is_legal(tail, previous, base, capacity),
                    legal,
                    "tail {tail} previous {previous} head {base} capacity {capacity}"
                );
                // Producer: own tail is `base + seen`, the previous head
                // `base`, the offered head `base + offered`.
                let head = base.wrapping_add(offered);
                let legal = offered <= seen;
                assert_eq!(
                    head_is_legal(head, base, base.wrapping_add(seen)),
                    legal,
                    "head {head} previous {base} tail {}",
                    base.wrapping_add(seen)
                );
            }
        }
        assert_eq!(count, 524_288);
    }
}
