//! Litmus tests of the sites: small programs in which a site's ordering decides
//! whether a bad outcome can be.
//!
//! loom and the enumerator of ring outcomes have one blind spot: load buffering, in
//! which a store takes effect before a load that comes first in the program. These
//! programs are small enough for models that have it. Each is
//!
//! - judged by [`axioms`], in Rust, with load buffering and without;
//! - printed for herd7 in C and in four assemblers, and judged there by the C11 models
//!   and by those of the processors.
//!
//! [`shapes`] makes them from the table of [sites](crate::sites), as they ship and
//! with each site weakened. The verdicts are committed in litmus.md.

use std::sync::atomic::Ordering;

pub mod axioms;
mod c;
mod machine;
pub mod shapes;

pub use machine::Machine;

/// A shared word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Word(pub &'static str);

/// What a thread reads into, by number.
pub type Register = usize;

/// One step of a thread. Without an ordering an access is plain.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// Stores a value.
    Store(Word, u32, Option<Ordering>),
    /// Loads into a register.
    Load(Register, Word, Option<Ordering>),
    /// Stores a value and loads what was there, in one.
    Swap(Register, Word, u32, Ordering),
    /// A fence; a relaxed one is none.
    Fence(Ordering),
    /// Goes on only if the register holds the value.
    Only(Register, u32),
}

/// A thread's register holds a value at the end.
#[derive(Debug, Clone, Copy)]
pub struct Holds {
    /// The thread.
    pub thread: usize,
    /// Its register.
    pub register: Register,
    /// The value.
    pub value: u32,
}

/// What a register holds that was never loaded into: no value of any word.
pub const UNTOUCHED: u32 = 9;

/// A program, and what must not come out.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its name: letters, digits and underlines.
    pub name: String,
    /// The threads. Words are 0 at first.
    pub threads: Vec<Vec<Step>>,
    /// The bad outcomes: any one of these, of which all must hold.
    pub bad: Vec<Vec<Holds>>,
}

impl Program {
    /// Returns the words in the order of their first use.
    fn words(&self) -> Vec<Word> {
        let mut words = Vec::new();
        for step in self.threads.iter().flatten() {
            if let Step::Store(word, ..) | Step::Load(_, word, _) | Step::Swap(_, word, ..) = *step
                && !words.contains(&word)
            {
                words.push(word);
            }
        }
        words
    }

    /// Returns the registers of a thread.
    fn registers(&self, thread: usize) -> Vec<Register> {
        let steps = self.threads[thread].iter();
        steps
            .filter_map(|step| match step {
                Step::Load(register, ..) | Step::Swap(register, ..) => Some(*register),
                _ => None,
            })
            .collect()
    }

    /// Tells whether the word is accessed plainly.
    fn is_plain(&self, word: Word) -> bool {
        let mut steps = self.threads.iter().flatten();
        steps.any(|step| {
            matches!(step, Step::Store(of, _, None) | Step::Load(_, of, None) if *of == word)
        })
    }

    /// Returns the bad outcome as herd7 writes it, each register by its name.
    fn condition(&self, name: impl Fn(Register) -> String) -> String {
        let alternatives = self.bad.iter().map(|all| {
            let all = all
                .iter()
                .map(|holds| format!("{}:{}={}", holds.thread, name(holds.register), holds.value));
            format!("({})", all.collect::<Vec<_>>().join(" /\\ "))
        });
        format!(
            "exists ({})",
            alternatives.collect::<Vec<_>>().join(" \\/ ")
        )
    }

    /// Returns the program in herd7's C.
    pub fn in_c(&self) -> String {
        c::print(self)
    }

    /// Returns the program in an assembler of herd7's.
    pub fn on(&self, machine: Machine) -> String {
        machine::print(self, machine)
    }
}

/// What a model says of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The bad outcome cannot be.
    Never,
    /// It can.
    Allowed,
    /// The program has a data race, so that anything can be.
    Race,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Never => "never",
            Self::Allowed => "allowed",
            Self::Race => "race",
        })
    }
}
