//! Operations of the rings as functions of their own, for `tests/codegen.rs`, which
//! looks at what the compiler makes of them.

#![allow(missing_docs, reason = "the names say it: ring, memory, operation")]
#![allow(
    improper_ctypes_definitions,
    reason = "nobody calls them: they are compiled to be read"
)]

#[cfg(not(loom))]
mod probes {
    use memenpsf_ring::index;
    use memenpsf_ring::memory::{Heap, Split};
    use memenpsf_ring::ordering::{Orderings, Shipped};
    use memenpsf_ring::packed;

    /// The control of the check: the producer publishes without Release.
    #[derive(Debug)]
    pub struct Weak;

    // SAFETY: nobody calls what has it.
    unsafe impl Orderings for Weak {
        const PUBLISH_TAIL: std::sync::atomic::Ordering = std::sync::atomic::Ordering::Relaxed;
    }

    macro_rules! probes {
        ($($name:ident: $ring:ident, $memory:ident, $orderings:ident;)*) => {
            $(pub mod $name {
                use super::*;

                #[unsafe(export_name = concat!("probe_", stringify!($name), "_push"))]
                pub extern "C" fn push(
                    producer: &mut $ring::Producer<u64, $memory<u64>, $orderings>,
                    value: u64,
                ) -> bool {
                    producer.push(value).is_ok()
                }

                #[unsafe(export_name = concat!("probe_", stringify!($name), "_pop"))]
                pub extern "C" fn pop(
                    consumer: &mut $ring::Consumer<u64, $memory<u64>, $orderings>,
                ) -> u64 {
                    consumer.pop().unwrap_or(0)
                }
            })*
        };
    }

    probes! {
        index_heap: index, Heap, Shipped;
        index_split: index, Split, Shipped;
        packed_heap: packed, Heap, Shipped;
        packed_split: packed, Split, Shipped;
        weak: index, Heap, Weak;
    }
}

#[cfg(not(loom))]
pub use probes::*;
