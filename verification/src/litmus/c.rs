//! Programs in herd7's C.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use super::{Program, Step, UNTOUCHED};

fn order(ordering: Ordering) -> &'static str {
    match ordering {
        Ordering::Relaxed => "memory_order_relaxed",
        Ordering::Acquire => "memory_order_acquire",
        Ordering::Release => "memory_order_release",
        Ordering::AcqRel => "memory_order_acq_rel",
        _ => "memory_order_seq_cst",
    }
}

pub(super) fn print(program: &Program) -> String {
    let mut text = format!("C {}\n{{ ", program.name);
    for word in program.words() {
        write!(text, "[{}]=0; ", word.0).unwrap();
    }
    text.push_str("}\n");
    let parameters: Vec<_> = program
        .words()
        .into_iter()
        .map(|word| {
            let kind = if program.is_plain(word) {
                "int"
            } else {
                "atomic_int"
            };
            format!("{kind}* {}", word.0)
        })
        .collect();
    for (number, thread) in program.threads.iter().enumerate() {
        writeln!(text, "P{number} ({}) {{", parameters.join(", ")).unwrap();
        for register in program.registers(number) {
            writeln!(text, "  int r{register} = {UNTOUCHED};").unwrap();
        }
        let mut open = 0;
        for step in thread {
            match *step {
                Step::Store(word, value, None) => writeln!(text, "  *{} = {value};", word.0),
                Step::Store(word, value, Some(ordering)) => writeln!(
                    text,
                    "  atomic_store_explicit({}, {value}, {});",
                    word.0,
                    order(ordering)
                ),
                Step::Load(register, word, None) => writeln!(text, "  r{register} = *{};", word.0),
                Step::Load(register, word, Some(ordering)) => writeln!(
                    text,
                    "  r{register} = atomic_load_explicit({}, {});",
                    word.0,
                    order(ordering)
                ),
                Step::Swap(register, word, value, ordering) => writeln!(
                    text,
                    "  r{register} = atomic_exchange_explicit({}, {value}, {});",
                    word.0,
                    order(ordering)
                ),
                Step::Fence(Ordering::Relaxed) => Ok(()),
                Step::Fence(ordering) => {
                    writeln!(text, "  atomic_thread_fence({});", order(ordering))
                }
                Step::Only(register, value) => {
                    open += 1;
                    writeln!(text, "  if (r{register} == {value}) {{")
                }
            }
            .unwrap();
        }
        writeln!(text, "{}}}", "}".repeat(open)).unwrap();
    }
    text.push_str(&program.condition(|register| format!("r{register}")));
    text.push('\n');
    text
}
