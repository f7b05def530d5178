//! Programs in the assemblers that herd7 knows, as compilers map C11 to them.
//!
//! | | release store | acquire load | SeqCst fence | AcqRel fence |
//! |---|---|---|---|---|
//! | AArch64 | `STLR` | `LDAR` | `DMB ISH` | `DMB ISH` |
//! | RISC-V | `fence rw,w` before | `fence r,rw` after | `fence rw,rw` | `fence.tso` |
//! | POWER | `lwsync` before | `lwsync` after | `sync` | `lwsync` |
//! | x86 | `MOV` | `MOV` | `MFENCE` | none |
//!
//! The mappings are those of the C/C++11 table of Sewell and Sevcik
//! (<https://www.cl.cam.ac.uk/~pes20/cpp/cpp0xmappings.html>), with `lwsync` for the
//! load of POWER.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use super::{Program, Register, Step, UNTOUCHED, Word};

/// A processor whose memory model herd7 has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// Arm's.
    AArch64,
    /// RISC-V's.
    RiscV,
    /// POWER's.
    Power,
    /// x86-TSO.
    X86,
}

impl Machine {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::AArch64, Self::RiscV, Self::Power, Self::X86];

    /// Returns herd7's file of the model.
    pub fn model(self) -> &'static str {
        match self {
            Self::AArch64 => "aarch64.cat",
            Self::RiscV => "riscv.cat",
            Self::Power => "ppc.cat",
            Self::X86 => "x86tso.cat",
        }
    }

    /// Returns the word that a file of this assembler begins with.
    fn title(self) -> &'static str {
        match self {
            Self::AArch64 => "AArch64",
            Self::RiscV => "RISCV",
            Self::Power => "PPC",
            Self::X86 => "X86",
        }
    }

    /// Returns the name of a register that is loaded into.
    fn register(self, register: Register) -> String {
        match self {
            Self::AArch64 => format!("X{register}"),
            Self::RiscV => format!("x{}", 20 + register),
            Self::Power => format!("r{}", 20 + register),
            Self::X86 => ["EAX", "EBX", "ECX", "EDX"][register].to_string(),
        }
    }

    /// Returns the name of the register that holds the address of the word number so
    /// and so; x86 needs none.
    fn address(self, word: usize) -> String {
        match self {
            Self::AArch64 => format!("X{}", 10 + word),
            Self::RiscV => format!("x{}", 10 + word),
            Self::Power | Self::X86 => format!("r{}", 10 + word),
        }
    }
}

fn releases(ordering: Ordering) -> bool {
    matches!(
        ordering,
        Ordering::Release | Ordering::AcqRel | Ordering::SeqCst
    )
}

fn acquires(ordering: Ordering) -> bool {
    matches!(
        ordering,
        Ordering::Acquire | Ordering::AcqRel | Ordering::SeqCst
    )
}

/// One thread's code.
struct Code<'a> {
    machine: Machine,
    words: &'a [Word],
    thread: usize,
    lines: Vec<String>,
}

impl Code<'_> {
    fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    fn address(&self, word: Word) -> String {
        let word = self.words.iter().position(|known| *known == word).unwrap();
        self.machine.address(word)
    }

    fn step(&mut self, step: Step) {
        let relaxed = Ordering::Relaxed;
        match step {
            Step::Store(word, value, ordering) => {
                self.store(word, value, ordering.unwrap_or(relaxed));
            }
            Step::Load(register, word, ordering) => {
                self.load(register, word, ordering.unwrap_or(relaxed));
            }
            Step::Swap(register, word, value, ordering) => {
                self.swap(register, word, value, ordering);
            }
            Step::Fence(ordering) => self.fence(ordering),
            Step::Only(register, value) => self.only(register, value),
        }
    }

    fn store(&mut self, word: Word, value: u32, ordering: Ordering) {
        let release = releases(ordering);
        let to = self.address(word);
        match self.machine {
            Machine::AArch64 => {
                self.say(format!("MOV W9,#{value}"));
                let store = if release { "STLR" } else { "STR" };
                self.say(format!("{store} W9,[{to}]"));
            }
            Machine::RiscV => {
                self.say(format!("ori x5,x0,{value}"));
                if release {
                    self.say("fence rw,w");
                }
                self.say(format!("sw x5,0({to})"));
            }
            Machine::Power => {
                self.say(format!("li r1,{value}"));
                if release {
                    self.say("lwsync");
                }
                self.say(format!("stw r1,0({to})"));
            }
            Machine::X86 => self.say(format!("MOV [{}],${value}", word.0)),
        }
    }

    fn load(&mut self, register: Register, word: Word, ordering: Ordering) {
        let acquire = acquires(ordering);
        let (into, from) = (self.machine.register(register), self.address(word));
        match self.machine {
            Machine::AArch64 => {
                let load = if acquire { "LDAR" } else { "LDR" };
                self.say(format!("{load} W{register},[{from}]"));
            }
            Machine::RiscV => {
                self.say(format!("lw {into},0({from})"));
                if acquire {
                    self.say("fence r,rw");
                }
            }
            Machine::Power => {
                self.say(format!("lwz {into},0({from})"));
                if acquire {
                    self.say("lwsync");
                }
            }
            Machine::X86 => self.say(format!("MOV {into},[{}]", word.0)),
        }
    }

    fn swap(&mut self, register: Register, word: Word, value: u32, ordering: Ordering) {
        let (acquire, release) = (acquires(ordering), releases(ordering));
        let (into, at) = (self.machine.register(register), self.address(word));
        match self.machine {
            Machine::AArch64 => {
                self.say(format!("MOV W9,#{value}"));
                let swap = match (acquire, release) {
                    (true, true) => "SWPAL",
                    (true, false) => "SWPA",
                    (false, true) => "SWPL",
                    (false, false) => "SWP",
                };
                self.say(format!("{swap} W9,W{register},[{at}]"));
            }
            Machine::RiscV => {
                self.say(format!("ori x5,x0,{value}"));
                let suffix = match (acquire, release) {
                    (true, true) => ".aq.rl",
                    (true, false) => ".aq",
                    (false, true) => ".rl",
                    (false, false) => "",
                };
                self.say(format!("amoswap.w{suffix} {into},x5,({at})"));
            }
            Machine::Power => {
                self.say(format!("li r1,{value}"));
                if release {
                    self.say("lwsync");
                }
                self.say(format!("lwarx {into},r0,{at}"));
                self.say(format!("stwcx. r1,r0,{at}"));
                // A loop in a real program. An execution in which the store fails ends
                // the thread here, before anything that a bad outcome needs.
                self.say(format!("bne L{}", self.thread));
                if acquire {
                    self.say("lwsync");
                }
            }
            Machine::X86 => {
                self.say(format!("MOV {into},${value}"));
                self.say(format!("XCHG [{}],{into}", word.0));
            }
        }
    }

    fn fence(&mut self, ordering: Ordering) {
        let full = ordering == Ordering::SeqCst;
        if ordering == Ordering::Relaxed || (self.machine == Machine::X86 && !full) {
            return;
        }
        self.say(match (self.machine, full) {
            (Machine::AArch64, _) => "DMB ISH",
            (Machine::RiscV, true) => "fence rw,rw",
            (Machine::RiscV, false) => "fence.tso",
            (Machine::Power, true) => "sync",
            (Machine::Power, false) => "lwsync",
            (Machine::X86, _) => "MFENCE",
        });
    }

    fn only(&mut self, register: Register, value: u32) {
        let (of, thread) = (self.machine.register(register), self.thread);
        match self.machine {
            Machine::AArch64 => {
                self.say(format!("CMP W{register},#{value}"));
                self.say(format!("B.NE L{thread}"));
            }
            Machine::RiscV => {
                self.say(format!("ori x6,x0,{value}"));
                self.say(format!("bne {of},x6,L{thread}"));
            }
            Machine::Power => {
                self.say(format!("cmpwi {of},{value}"));
                self.say(format!("bne L{thread}"));
            }
            Machine::X86 => {
                self.say(format!("CMP {of},${value}"));
                self.say(format!("JNE L{thread}"));
            }
        }
    }
}

pub(super) fn print(program: &Program, machine: Machine) -> String {
    let words = program.words();
    let columns: Vec<Vec<String>> = program
        .threads
        .iter()
        .enumerate()
        .map(|(thread, steps)| {
            let mut code = Code {
                machine,
                words: &words,
                thread,
                lines: vec![format!("P{thread}")],
            };
            steps.iter().for_each(|&step| code.step(step));
            code.say(format!("L{thread}:"));
            code.lines
        })
        .collect();
    let mut text = format!("{} {}\n{{\n", machine.title(), program.name);
    for word in &words {
        write!(text, "{}=0; ", word.0).unwrap();
    }
    text.push('\n');
    for thread in 0..columns.len() {
        for (number, word) in words.iter().enumerate() {
            if machine != Machine::X86 {
                write!(text, "{thread}:{}={}; ", machine.address(number), word.0).unwrap();
            }
        }
        for register in program.registers(thread) {
            let register = machine.register(register);
            write!(text, "{thread}:{register}={UNTOUCHED}; ").unwrap();
        }
        text.push('\n');
    }
    text.push_str("}\n");
    let width = columns.iter().flatten().map(String::len).max().unwrap_or(0);
    for row in 0..columns.iter().map(Vec::len).max().unwrap_or(0) {
        let cells = columns.iter().map(|column| {
            let cell = column.get(row).map_or("", String::as_str);
            format!(" {cell:<width$} ")
        });
        writeln!(text, "{};", cells.collect::<Vec<_>>().join("|")).unwrap();
    }
    text.push_str(&program.condition(|register| machine.register(register)));
    text.push('\n');
    text
}
