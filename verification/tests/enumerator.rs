//! The enumerator against the counts that GenMC and loom agree with, and against
//! itself with each ordering weakened. It runs in both worlds.

use memenpsf_verification::enumerator::{Asking, Run, Strength};

fn run(capacity: u64, attempts: usize, asking: Asking, strength: Strength) -> Run {
    Run {
        capacity,
        attempts,
        asking,
        strength,
    }
}

fn weakenings() -> [(&'static str, Strength); 4] {
    let shipped = Strength::SHIPPED;
    [
        (
            "publish_tail",
            Strength {
                publish_tail: false,
                ..shipped
            },
        ),
        (
            "refresh_tail",
            Strength {
                refresh_tail: false,
                ..shipped
            },
        ),
        (
            "vacate_head",
            Strength {
                vacate_head: false,
                ..shipped
            },
        ),
        (
            "refresh_head",
            Strength {
                refresh_head: false,
                ..shipped
            },
        ),
    ]
}

#[test]
fn number_of_outcomes_is_the_known_one() {
    let expected = [2, 9, 47, 256, 1427, 8082];
    for (attempts, expected) in (1..).zip(expected) {
        let explored = run(2, attempts, Asking::Always, Strength::SHIPPED).explore();
        println!(
            "n = {attempts}: {expected} outcomes, {} states",
            explored.states
        );
        assert_eq!(explored.outcomes.len(), expected, "n = {attempts}");
        assert!(!explored.races);
    }
}

#[test]
fn shipped_orderings_never_race_and_each_weaker_one_does() {
    for asking in [Asking::Always, Asking::AtLimit] {
        for capacity in [1, 2] {
            for attempts in 1..=5 {
                let explored = run(capacity, attempts, asking, Strength::SHIPPED).explore();
                assert!(!explored.races);
            }
            for (site, strength) in weakenings() {
                let explored = run(capacity, 4, asking, strength).explore();
                assert!(explored.races, "{site} at capacity {capacity}, {asking:?}");
            }
        }
    }
}

#[test]
fn head_orderings_matter_only_once_a_slot_is_used_again() {
    for (site, strength) in weakenings() {
        let head = site.ends_with("head");
        let explored = run(2, 2, Asking::Always, strength).explore();
        assert_eq!(explored.races, !head, "{site}");
    }
}

/// A side learns about its own word only what it knows already, so the
/// positions alone do not show a missing ordering: the payload must.
#[test]
fn outcomes_do_not_depend_on_the_orderings() {
    let shipped = run(2, 4, Asking::Always, Strength::SHIPPED).explore();
    for (site, strength) in weakenings() {
        let weaker = run(2, 4, Asking::Always, strength).explore();
        assert_eq!(weaker.outcomes, shipped.outcomes, "{site}");
    }
}

#[test]
fn asking_at_the_limit_asks_less_and_reaches_less() {
    let always = run(2, 4, Asking::Always, Strength::SHIPPED).explore();
    let at_limit = run(2, 4, Asking::AtLimit, Strength::SHIPPED).explore();
    assert!(at_limit.outcomes.len() < always.outcomes.len());
    let first = at_limit.outcomes.first().unwrap();
    assert_eq!(
        first.heads[..2],
        [None, None],
        "two slots are vacant at first"
    );
    assert!(
        at_limit
            .outcomes
            .iter()
            .all(|outcome| outcome.tails[0].is_some())
    );
}
