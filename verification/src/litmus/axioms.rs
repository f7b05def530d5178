//! Which outcomes a program has, by the axioms of RC11, computed from first
//! principles and without herd7: every choice of which write each read reads from,
//! and of the order of the writes to each word.
//!
//! The axioms are those of Lahav, Vafeiadis, Kang, Hur and Dreyer, "Repairing
//! Sequential Consistency in C/C++11" (PLDI 2017), for atomics up to AcqRel and
//! SeqCst fences. Without the last one, that program order and reads-from have no
//! cycle, loads may be buffered, as C11 permits.

use std::sync::atomic::Ordering;

use super::{Program, Register, Step, UNTOUCHED, Verdict, Word};

/// Whether a store may take effect before a load that precedes it in the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadBuffering {
    /// As RC11: no.
    Forbidden,
    /// As C11: yes.
    Permitted,
}

/// One access or fence of an execution.
#[derive(Debug, Clone, Copy)]
struct Event {
    /// `None` for the writes that were there before all threads.
    thread: Option<usize>,
    word: Option<Word>,
    reads: Option<Register>,
    writes: Option<u32>,
    /// `None` for a plain access.
    ordering: Option<Ordering>,
}

impl Event {
    fn releases(&self) -> bool {
        use Ordering::{AcqRel, Release, SeqCst};
        self.thread.is_some() && matches!(self.ordering, Some(Release | AcqRel | SeqCst))
    }

    fn acquires(&self) -> bool {
        use Ordering::{AcqRel, Acquire, SeqCst};
        self.thread.is_some() && matches!(self.ordering, Some(Acquire | AcqRel | SeqCst))
    }

    fn is_fence(&self) -> bool {
        self.word.is_none()
    }

    fn is_full_fence(&self) -> bool {
        self.is_fence() && self.ordering == Some(Ordering::SeqCst)
    }
}

/// A relation between events, by their numbers: at most 64 of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Relation(Vec<u64>);

impl Relation {
    fn new(size: usize, holds: impl Fn(usize, usize) -> bool) -> Self {
        assert!(size <= 64);
        let row = |a| {
            (0..size)
                .filter(|&b| holds(a, b))
                .fold(0, |row, b| row | 1 << b)
        };
        Self((0..size).map(row).collect())
    }

    fn holds(&self, a: usize, b: usize) -> bool {
        self.0[a] >> b & 1 == 1
    }

    fn or(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a | b).collect())
    }

    /// `self ; other`
    fn then(&self, other: &Self) -> Self {
        let size = self.0.len();
        Self::new(size, |a, c| {
            (0..size).any(|b| self.holds(a, b) && other.holds(b, c))
        })
    }

    fn closed(mut self) -> Self {
        for through in 0..self.0.len() {
            let onward = self.0[through];
            for row in &mut self.0 {
                if *row >> through & 1 == 1 {
                    *row |= onward;
                }
            }
        }
        self
    }

    fn is_irreflexive(&self) -> bool {
        (0..self.0.len()).all(|event| !self.holds(event, event))
    }
}

/// One way through all threads: the events, and what registers must hold for it.
#[derive(Debug, Clone, Default)]
struct Path {
    events: Vec<Event>,
    /// Thread, register, value, and whether it is to be equal.
    demands: Vec<(usize, Register, u32, bool)>,
}

/// Returns every way through one thread: to its end, or to any [`Step::Only`].
fn ways(thread: usize, steps: &[Step]) -> Vec<Path> {
    let mut ways = Vec::new();
    let mut path = Path::default();
    for step in steps {
        let mut event = Event {
            thread: Some(thread),
            word: None,
            reads: None,
            writes: None,
            ordering: None,
        };
        match *step {
            Step::Store(word, value, ordering) => {
                (event.word, event.writes, event.ordering) = (Some(word), Some(value), ordering);
            }
            Step::Load(register, word, ordering) => {
                (event.word, event.reads, event.ordering) = (Some(word), Some(register), ordering);
            }
            Step::Swap(register, word, value, ordering) => {
                (event.word, event.reads) = (Some(word), Some(register));
                (event.writes, event.ordering) = (Some(value), Some(ordering));
            }
            Step::Fence(Ordering::Relaxed) => continue,
            Step::Fence(ordering) => event.ordering = Some(ordering),
            Step::Only(register, value) => {
                let mut stops = path.clone();
                stops.demands.push((thread, register, value, false));
                ways.push(stops);
                path.demands.push((thread, register, value, true));
                continue;
            }
        }
        path.events.push(event);
    }
    ways.push(path);
    ways
}

/// Returns all orders of `items`.
fn permutations(items: &[usize]) -> Vec<Vec<usize>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (index, &first) in items.iter().enumerate() {
        let mut rest = items.to_vec();
        rest.remove(index);
        for mut order in permutations(&rest) {
            order.insert(0, first);
            all.push(order);
        }
    }
    all
}

/// Returns all ways to choose one of each list.
fn choices<T: Clone>(lists: &[Vec<T>]) -> Vec<Vec<T>> {
    let mut all = vec![Vec::new()];
    for list in lists {
        all = all
            .iter()
            .flat_map(|chosen| {
                list.iter().map(|item| {
                    let mut longer = chosen.clone();
                    longer.push(item.clone());
                    longer
                })
            })
            .collect();
    }
    all
}

/// Returns what the axioms say of a program.
pub fn judge(program: &Program, buffering: LoadBuffering) -> Verdict {
    let threads: Vec<_> = (program.threads.iter().enumerate())
        .map(|(thread, steps)| ways(thread, steps))
        .collect();
    let mut verdict = Verdict::Never;
    for paths in choices(&threads) {
        let mut whole = Path::default();
        // What the words hold before all threads.
        for word in program.words() {
            whole.events.push(Event {
                thread: None,
                word: Some(word),
                reads: None,
                writes: Some(0),
                ordering: None,
            });
        }
        for path in paths {
            whole.events.extend(path.events);
            whole.demands.extend(path.demands);
        }
        verdict = verdict.max(judge_path(program, &whole, buffering));
    }
    verdict
}

/// Returns what the axioms say of one way through the program.
fn judge_path(program: &Program, path: &Path, buffering: LoadBuffering) -> Verdict {
    let events = &path.events;
    let of_word = |word| {
        (0..events.len()).filter(move |&e| events[e].word == word && events[e].writes.is_some())
    };
    let reads: Vec<usize> = (0..events.len())
        .filter(|&e| events[e].reads.is_some())
        .collect();
    // A swap does not read from itself.
    let sources: Vec<Vec<usize>> = reads
        .iter()
        .map(|&read| {
            of_word(events[read].word)
                .filter(|&write| write != read)
                .collect()
        })
        .collect();
    let orders: Vec<Vec<Vec<usize>>> = program
        .words()
        .into_iter()
        .map(|word| {
            let writes: Vec<_> = of_word(Some(word)).collect();
            // The write before all threads is the first.
            permutations(&writes[1..])
                .into_iter()
                .map(|order| [&writes[..1], &order].concat())
                .collect()
        })
        .collect();
    let mut verdict = Verdict::Never;
    for chosen in choices(&sources) {
        let mut rf = vec![None; events.len()];
        for (&read, &write) in reads.iter().zip(&chosen) {
            rf[read] = Some(write);
        }
        let value = |thread: usize, register: Register| {
            let read = reads.iter().rev().find(|&&read| {
                (events[read].thread, events[read].reads) == (Some(thread), Some(register))
            });
            read.map_or(UNTOUCHED, |&read| {
                rf[read]
                    .and_then(|write| events[write].writes)
                    .unwrap_or(UNTOUCHED)
            })
        };
        let lives_up = |&(thread, register, wanted, equal): &(usize, Register, u32, bool)| {
            (value(thread, register) == wanted) == equal
        };
        if !path.demands.iter().all(lives_up) {
            continue;
        }
        let bad = program.bad.iter().any(|all| {
            all.iter()
                .all(|holds| value(holds.thread, holds.register) == holds.value)
        });
        for order in choices(&orders) {
            match judge_execution(events, &rf, &order.concat(), buffering) {
                None => {}
                Some(true) => return Verdict::Race,
                Some(false) if bad => verdict = Verdict::Allowed,
                Some(false) => {}
            }
        }
    }
    verdict
}

/// Judges one execution: `None` when it is not consistent, and otherwise whether it
/// has a data race. In `order` the writes to each word are in modification order.
fn judge_execution(
    events: &[Event],
    rf: &[Option<usize>],
    order: &[usize],
    buffering: LoadBuffering,
) -> Option<bool> {
    let size = events.len();
    let relation = |holds: &dyn Fn(usize, usize) -> bool| Relation::new(size, holds);
    let position = |e| order.iter().position(|&write| write == e);
    let same_word =
        |a: usize, b: usize| events[a].word.is_some() && events[a].word == events[b].word;

    // Sequenced before; the writes before all threads precede everything.
    let sb = relation(&|a, b| match (events[a].thread, events[b].thread) {
        (None, Some(_)) => true,
        (Some(of_a), Some(of_b)) => of_a == of_b && a < b,
        _ => false,
    });
    let reads_from = relation(&|a, b| rf[b] == Some(a));
    let mo =
        relation(&|a, b| same_word(a, b) && position(a).is_some() && position(a) < position(b));
    let reads_before =
        relation(&|a, b| rf[a].is_some_and(|write| write != b && mo.holds(write, b)) && a != b);
    let eco = reads_from.or(&mo).or(&reads_before).closed();

    // A swap is next to what it reads in modification order.
    let atomic = (0..size).all(|e| {
        let between = |write| mo.holds(rf[e].unwrap(), write) && mo.holds(write, e);
        rf[e].is_none() || events[e].writes.is_none() || !(0..size).any(between)
    });

    let is_write = |e: usize| events[e].writes.is_some();
    let is_atomic = |e: usize| events[e].ordering.is_some() && !events[e].is_fence();
    // Release sequences: the write, a later one of its thread to the word, and swaps.
    let swaps = relation(&|a, b| reads_from.holds(a, b) && is_write(b));
    let own = relation(&|a, b| {
        is_write(a) && is_write(b) && is_atomic(b) && (a == b || sb.holds(a, b) && same_word(a, b))
    });
    let identity = relation(&|a, b| a == b);
    let sequence = own.then(&swaps.closed().or(&identity));
    let from = relation(&|a, b| {
        events[a].releases() && (a == b || events[a].is_fence() && sb.holds(a, b))
    });
    let to = relation(&|a, b| {
        events[b].acquires() && (a == b || events[b].is_fence() && sb.holds(a, b))
    });
    let atomic_reads = relation(&|a, b| reads_from.holds(a, b) && is_atomic(b));
    let sw = from.then(&sequence).then(&atomic_reads).then(&to);
    let hb = sb.or(&sw).closed();

    let coherent = hb.is_irreflexive() && hb.then(&eco).is_irreflexive();
    // Full fences: no cycle through them of happens-before and what follows from it.
    let between = hb.or(&hb.then(&eco).then(&hb));
    let fences = relation(&|a, b| {
        events[a].is_full_fence() && events[b].is_full_fence() && between.holds(a, b)
    });
    let in_order = fences.closed().is_irreflexive();
    let causal =
        buffering == LoadBuffering::Permitted || sb.or(&reads_from).closed().is_irreflexive();
    if !(coherent && atomic && in_order && causal) {
        return None;
    }
    let race = (0..size).any(|a| {
        (0..size).any(|b| {
            let conflict = same_word(a, b) && a != b && (is_write(a) || is_write(b));
            let plain = [a, b]
                .iter()
                .any(|&e| events[e].thread.is_some() && !is_atomic(e));
            conflict && plain && !hb.holds(a, b) && !hb.holds(b, a)
        })
    });
    Some(race)
}
