//! A checksum over 64-bit words that costs little beside a copy of them.
//!
//! Eight lanes take the words in turn, so that their multiplications overlap; at
//! the end the lanes are added, each multiplied by a number of its own.
//!
//! # What it detects
//!
//! - Always: any change, however many bits, that is confined to one word. Each
//!   step is a bijection of the lane and of the word, and so is the rest of the
//!   way to the result.
//! - Otherwise (several words changed, swapped, torn between two messages, cut
//!   off): missed with a probability of about 2^-64, if the change does not know
//!   the algorithm. It is no defence against a forger.

/// Number of lanes: enough independent multiplications to hide the latency of
/// one, three to four cycles, and as many words as a cache line has.
const LANES: usize = 8;

/// Where each lane begins: the square roots of the first eight primes, as in
/// SHA-512. Different, so that equal words in two lanes differ.
const SEEDS: [u64; LANES] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// What a lane is multiplied by at each step: odd, so that nothing is lost.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// What each lane is multiplied by at the end: odd, and different, so that two
/// lanes cannot be exchanged.
const WEIGHTS: [u64; LANES] = [
    0xff51_afd7_ed55_8ccd,
    0xc4ce_b9fe_1a85_ec53,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
    0x8ebc_6af0_9c88_c6e3,
];

/// Returns the checksum of `words`.
///
/// ```
/// use memenpsf_benches::checksum::checksum;
///
/// assert_ne!(checksum(&[1, 2, 3]), checksum(&[1, 3, 2]));
/// assert_ne!(checksum(&[0, 0]), checksum(&[0, 0, 0]));
/// ```
#[inline]
pub fn checksum(words: &[u64]) -> u64 {
    let mut lanes = SEEDS;
    let (lines, rest) = words.as_chunks::<LANES>();
    for line in lines {
        for (lane, word) in lanes.iter_mut().zip(line) {
            *lane = step(*lane, *word);
        }
    }
    for (lane, word) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, *word);
    }
    let length = (words.len() as u64).wrapping_mul(STEP);
    let sum = lanes
        .iter()
        .zip(WEIGHTS)
        .fold(length, |sum, (lane, weight)| {
            sum.wrapping_add((lane ^ (lane >> 32)).wrapping_mul(weight))
        });
    sum ^ (sum >> 29)
}

/// Takes one word into a lane. The rotation brings the highest bits, which a
/// multiplication spreads least, to where the next one spreads them.
#[inline(always)]
fn step(lane: u64, word: u64) -> u64 {
    (lane ^ word).wrapping_mul(STEP).rotate_left(29)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(count: u64) -> Vec<u64> {
        (0..count)
            .map(|i| i.wrapping_mul(STEP) ^ (i << 40))
            .collect()
    }

    #[test]
    fn every_flip_of_one_bit_is_seen() {
        for count in [1, 2, 7, 8, 9, 31] {
            let mut message = words(count);
            let right = checksum(&message);
            for place in 0..message.len() {
                for bit in 0..64 {
                    message[place] ^= 1 << bit;
                    assert_ne!(checksum(&message), right, "bit {bit} of word {place}");
                    message[place] ^= 1 << bit;
                }
            }
        }
    }

    #[test]
    fn two_flips_of_the_same_bit_are_seen() {
        let mut message = words(24);
        let right = checksum(&message);
        for first in 0..message.len() {
            for second in first + 1..message.len() {
                for bit in 0..64 {
                    message[first] ^= 1 << bit;
                    message[second] ^= 1 << bit;
                    assert_ne!(
                        checksum(&message),
                        right,
                        "bit {bit} of {first} and {second}"
                    );
                    message[first] ^= 1 << bit;
                    message[second] ^= 1 << bit;
                }
            }
        }
    }

    #[test]
    fn swapped_words_and_cut_ends_are_seen() {
        let mut message = words(40);
        let right = checksum(&message);
        for first in 0..message.len() {
            assert_ne!(checksum(&message[..first]), right);
            for second in first + 1..message.len() {
                message.swap(first, second);
                assert_ne!(checksum(&message), right, "{first} and {second}");
                message.swap(first, second);
            }
        }
    }

    #[test]
    fn message_torn_at_any_word_is_seen() {
        let old = words(64);
        let new: Vec<u64> = old.iter().map(|word| word.wrapping_add(1)).collect();
        for torn in 1..old.len() {
            let mixed = [&new[..torn], &old[torn..]].concat();
            assert_ne!(checksum(&mixed), checksum(&new));
            assert_ne!(checksum(&mixed), checksum(&old));
        }
    }
}
