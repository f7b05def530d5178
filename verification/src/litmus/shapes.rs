//! The programs, from the table of sites.

use std::sync::atomic::Ordering;

use super::{Holds, Program, Step, Word};
use crate::sites::{Litmus, MUTANTS, Mutant, SITES, Site};

/// How the elements of a ring are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Plain accesses, as on the heap.
    Plain,
    /// Relaxed words, as over regions.
    Words,
}

impl Payload {
    fn ordering(self) -> Option<Ordering> {
        match self {
            Self::Plain => None,
            Self::Words => Some(Ordering::Relaxed),
        }
    }
}

/// A program, and the site that is weakened in it.
#[derive(Debug, Clone)]
pub struct Test {
    /// The program.
    pub program: Program,
    /// The shape.
    pub shape: Litmus,
    /// The payload.
    pub payload: Payload,
    /// The mutant; `None` as it ships.
    pub mutant: Option<&'static Mutant>,
}

/// Returns a program for each shape, payload and mutant of a site of the shape.
///
/// The rings share the shape of a slot and differ in its first pair: P1, P4 and P5.
pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for payload in [Payload::Plain, Payload::Words] {
        for (publish, refresh) in [
            ("PUBLISH_TAIL", "REFRESH_TAIL"),
            ("PUBLISH_LINE", "REFRESH_LINE"),
            ("PUBLISH_RECORD", "REFRESH_RECORD"),
        ] {
            let sites = [publish, refresh, "VACATE_HEAD", "REFRESH_HEAD"];
            add(&mut tests, Litmus::Slot, payload, &sites, |order| {
                slot(payload.ordering(), order)
            });
        }
        add(&mut tests, Litmus::Leave, payload, &["ABANDON"], |order| {
            leave(payload.ordering(), order)
        });
        let sites = ["ABANDON", "OBSERVE_ABANDONED"];
        add(&mut tests, Litmus::Leave, payload, &sites, |order| {
            observe(payload.ordering(), order)
        });
    }
    let sites = ["WAKE_BARRIER", "SLEEP_BARRIER"];
    add(&mut tests, Litmus::Sleep, Payload::Words, &sites, sleep);
    tests
}

fn site(name: &str) -> &'static Site {
    SITES.iter().find(|site| site.name == name).unwrap()
}

/// Adds a shape as it ships, and with each mutant of its sites.
fn add(
    tests: &mut Vec<Test>,
    shape: Litmus,
    payload: Payload,
    sites: &[&str],
    make: impl Fn(&dyn Fn(usize) -> Ordering) -> (Vec<Vec<Step>>, Vec<Vec<Holds>>),
) {
    let mutants = MUTANTS.iter().filter(|mutant| sites.contains(&mutant.site));
    for mutant in std::iter::once(None).chain(mutants.map(Some)) {
        let order = |number: usize| {
            let site = site(sites[number]);
            assert_eq!(site.litmus, shape);
            match mutant {
                Some(mutant) if mutant.site == site.name => mutant.ordering,
                _ => site.ships,
            }
        };
        let (threads, bad) = make(&order);
        let mutant_name = mutant.map_or("Shipped", |mutant| mutant.name);
        let name = format!("{}_{payload:?}_{mutant_name}", sites.join("_"));
        tests.push(Test {
            program: Program { name, threads, bad },
            shape,
            payload,
            mutant,
        });
    }
}

const fn holds(thread: usize, register: usize, value: u32) -> Holds {
    Holds {
        thread,
        register,
        value,
    }
}

/// Two elements through one slot. Bad: the first element is read as what was there
/// before it, or as the second.
fn slot(
    payload: Option<Ordering>,
    order: &dyn Fn(usize) -> Ordering,
) -> (Vec<Vec<Step>>, Vec<Vec<Holds>>) {
    let (element, published, vacated) = (Word("slot"), Word("published"), Word("vacated"));
    let [publish, refresh, vacate, reclaim] = std::array::from_fn(order);
    let producer = vec![
        Step::Store(element, 1, payload),
        Step::Store(published, 1, Some(publish)),
        Step::Load(0, vacated, Some(reclaim)),
        Step::Only(0, 1),
        Step::Store(element, 2, payload),
        Step::Store(published, 2, Some(publish)),
    ];
    let consumer = vec![
        Step::Load(0, published, Some(refresh)),
        Step::Only(0, 1),
        Step::Load(1, element, payload),
        Step::Store(vacated, 1, Some(vacate)),
    ];
    let bad = vec![vec![holds(1, 1, 0)], vec![holds(1, 1, 2)]];
    (vec![producer, consumer], bad)
}

/// Each side does something and leaves; the last one sees what the first has done.
fn leave(
    payload: Option<Ordering>,
    order: &dyn Fn(usize) -> Ordering,
) -> (Vec<Vec<Step>>, Vec<Vec<Holds>>) {
    let (left, abandon) = (Word("abandoned"), order(0));
    let side = |own, peer| {
        vec![
            Step::Store(own, 1, payload),
            Step::Swap(0, left, 1, abandon),
            Step::Only(0, 1),
            Step::Load(1, peer, payload),
        ]
    };
    let (a, b) = (Word("a"), Word("b"));
    let bad = vec![vec![holds(0, 1, 0)], vec![holds(1, 1, 0)]];
    (vec![side(a, b), side(b, a)], bad)
}

/// A side asks whether the other has left, and then sees what it has done.
fn observe(
    payload: Option<Ordering>,
    order: &dyn Fn(usize) -> Ordering,
) -> (Vec<Vec<Step>>, Vec<Vec<Holds>>) {
    let (left, done) = (Word("abandoned"), Word("a"));
    let leaver = vec![
        Step::Store(done, 1, payload),
        Step::Swap(0, left, 1, order(0)),
    ];
    let asker = vec![
        Step::Load(0, left, Some(order(1))),
        Step::Only(0, 1),
        Step::Load(1, done, payload),
    ];
    (vec![leaver, asker], vec![vec![holds(1, 1, 0)]])
}

/// A side publishes and asks whether the other sleeps, which announces it and looks
/// again. Bad: neither sees the other.
fn sleep(order: &dyn Fn(usize) -> Ordering) -> (Vec<Vec<Step>>, Vec<Vec<Holds>>) {
    let (published, waiting) = (Word("published"), Word("waiting"));
    let waker = vec![
        Step::Store(published, 1, Some(Ordering::Release)),
        Step::Fence(order(0)),
        Step::Load(0, waiting, Some(Ordering::Relaxed)),
    ];
    let sleeper = vec![
        Step::Store(waiting, 1, Some(Ordering::Relaxed)),
        Step::Fence(order(1)),
        Step::Load(0, published, Some(Ordering::Acquire)),
    ];
    let bad = vec![vec![holds(0, 0, 0), holds(1, 0, 0)]];
    (vec![waker, sleeper], bad)
}
