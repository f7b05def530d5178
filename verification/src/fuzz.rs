//! The bodies of the fuzz targets: each takes arbitrary bytes as a script of what
//! happens to one part of the product, and panics when a rule is broken.
//!
//! fuzz/ has a thin target for each, and `cargo test` runs all of them over the
//! corpus that is in the repository. A body that cannot fail shows nothing, so each
//! runs against two subjects: what ships, and the same with a fault in it that at
//! least one file of the corpus has to bring to light.
//!
//! | target | drives | fault |
//! |---|---|---|
//! | `ring_operations` | each ring, compared with a queue | the queue forgets a push |
//! | `ancillary` | every call that receives, over a real socket | a descriptor is kept |
//! | `hostile_region` | files offered as regions, and rings over one that changes | seals are not looked at, a violation is forgotten |
//! | `records` | consumer of a bytes ring whose storage is anything | the storage changes before the ring looks |
//! | `hello_and_control` | handshake and control frames, whole and in pieces | a byte gets lost at a cut |

pub mod ancillary;
pub mod hello_and_control;
pub mod hostile_region;
pub mod operations;
pub mod records;

/// What a body runs against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// What ships.
    Shipped,
    /// The same with the target's fault.
    Faulty,
}

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, which is also that of its folder in the corpus.
    pub name: &'static str,
    /// Its body.
    pub run: fn(&[u8], Subject),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "ancillary",
        run: ancillary::run,
    },
    Target {
        name: "hello_and_control",
        run: hello_and_control::run,
    },
    Target {
        name: "hostile_region",
        run: hostile_region::run,
    },
    Target {
        name: "records",
        run: records::run,
    },
    Target {
        name: "ring_operations",
        run: operations::run,
    },
];

/// The bytes that a body has not used yet. At the end they go on with zeros, so that
/// every input is a script.
#[derive(Debug, Clone)]
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        byte
    }

    fn index(&mut self) -> usize {
        self.byte().into()
    }

    fn word(&mut self) -> u64 {
        u64::from_le_bytes([(); 8].map(|()| self.byte()))
    }

    /// Takes as many bytes as the next one says, or all that are left.
    fn bytes(&mut self) -> &'a [u8] {
        let length = self.index().min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }
}
