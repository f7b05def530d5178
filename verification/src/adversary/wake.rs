//! Sleeping and waking under attack: whatever the peer's waiting word is, it decides
//! no more than whether a wake-up is sent.

use memenpsf_ring::wake::{For, Sleeper, WAITING_BLOCK, Waker};

use super::world::{Access, Hint, Tricks, View, World, begin, end};
use super::{Defect, Report};
use crate::random::Random;

pub(super) fn episode(mut random: Random, defect: Option<Defect>) -> Report {
    let world = World::new(
        Random::new(random.next()),
        defect,
        WAITING_BLOCK,
        WAITING_BLOCK,
    );
    let what = if random.one_in(2) {
        For::Data
    } else {
        For::Space
    };
    let word = match what {
        For::Data => 0,
        For::Space => 64,
    };
    let mut sleeper: Sleeper<View> = Sleeper::new(View(world.clone()), what);
    let mut waker: Waker<View> = Waker::new(View(world.clone()), what, random.one_in(2));
    let mut report = Report {
        rings: 1,
        ..Report::default()
    };
    // The model: the own word, and the value for which a wake-up was sent last.
    let (mut count, mut woken) = (0_u64, 0_u64);
    for _ in 0..50 + random.below(200) {
        let honest = [0, 1, woken, woken.wrapping_add(1), woken.wrapping_add(2)];
        let hints = |values: &[u64]| values.iter().map(|&value| Hint { word, value }).collect();
        let tricks = Tricks {
            honest: hints(&honest),
            false_ones: hints(&[u64::MAX, u64::MAX - 1, 1 << 63]),
            payload: Vec::new(),
        };
        begin(&world, tricks);
        report.operations += 1;
        match random.below(4) {
            0 => {
                sleeper.announce(random.one_in(2));
                // The next odd number, so that each sleep has its own.
                count = (count + 1) | 1;
                let store = Access::Store { word, value: count };
                assert_eq!(end(&world), [store], "one store announces");
                assert!(sleeper.is_announced());
            }
            1 => {
                sleeper.awake();
                count = (count | 1) + 1;
                let store = Access::Store { word, value: count };
                assert_eq!(end(&world), [store], "one store withdraws");
                assert!(!sleeper.is_announced());
            }
            _ => {
                let must_wake = waker.must_wake();
                let log = end(&world);
                let [Access::Load { word: at, value }] = log[..] else {
                    panic!("one fetch decides: {log:?}");
                };
                assert_eq!(at, word);
                assert_eq!(must_wake, value % 2 == 1 && value != woken);
                if must_wake {
                    woken = value;
                    report.elements += 1;
                }
                report.fetches += 1;
            }
        }
    }
    report
}
