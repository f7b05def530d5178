//! The table of layers.
//!
//! `cargo verify --list` prints it. In the tests of a step, `--nocapture` lets the
//! lines through that say how many were checked.

use crate::step::{Layer, Need, Step};
use crate::world::{Sanitizer, World};

/// The other tools that a step may lack.
const NIGHTLY: Need = Need {
    probe: &["cargo", "+nightly", "--version"],
    missing: "nightly: rustup toolchain install nightly --profile minimal",
};
const CARGO_FUZZ: Need = Need {
    probe: &["cargo", "fuzz", "--version"],
    missing: "cargo-fuzz: cargo install --locked cargo-fuzz",
};

/// A test target of the verification package, run by itself.
macro_rules! target {
    ($name:literal) => {
        Step::cargo(&[
            "test",
            "--package=memenpsf-verification",
            concat!("--test=", $name),
            "--",
            "--nocapture",
        ])
    };
}

const ASAN: World = World::Sanitized(Sanitizer::Address);
const MSAN: World = World::Sanitized(Sanitizer::Memory);
const TSAN: World = World::Sanitized(Sanitizer::Thread);

/// The tests of the rings, by the words in their names: all binaries but those that
/// send elements of every size, which take a minute to compile.
macro_rules! ring_tests {
    ($($filter:literal)*) => {
        Step::cargo(&[
            "test",
            "--package=memenpsf-ring",
            "--lib",
            "--test=bytes*",
            "--test=chunks",
            "--test=index",
            "--test=mapped",
            "--test=packed_[!s]*",
            "--test=packed_st*",
            "--test=state_machine",
            "--test=streams",
            "--test=teardown",
            "--test=words",
            "--",
            $($filter),*
        ])
        .needs(&[NIGHTLY])
    };
}

/// One defect of verification/examples/seeded.rs, or the rings as they ship.
macro_rules! seeded {
    ($name:literal) => {
        Step::cargo(&[
            "run",
            "--quiet",
            "--package=memenpsf-verification",
            "--example=seeded",
            $name,
        ])
        .needs(&[NIGHTLY])
    };
}

/// A test target of the interface, run by itself.
macro_rules! memenpsf {
    ($name:literal) => {
        Step::cargo(&[
            "test",
            "--package=memenpsf",
            "--all-features",
            concat!("--test=", $name),
            "--",
            "--nocapture",
        ])
    };
}

/// All layers, cheap ones first.
pub(crate) const LAYERS: &[Layer] = &[
    Layer {
        name: "static",
        checks: "formatting, lints, documentation, rules of the source, generated code",
        steps: &[
            Step::cargo(&["fmt", "--all", "--check"]),
            Step::cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--all-features",
                "--quiet",
                "--",
                "--deny=warnings",
            ]),
            Step::cargo(&[
                "doc",
                "--workspace",
                "--all-features",
                "--no-deps",
                "--quiet",
            ])
            .with(&[("RUSTDOCFLAGS", "-D warnings")]),
            Step::cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--quiet",
                "--",
                "--deny=warnings",
            ])
            .world(World::Loom),
            target!("source"),
            Step::cargo(&[
                "test",
                "--package=memenpsf-verification",
                "--test=codegen",
                "--",
                "--ignored",
                "--nocapture",
            ]),
        ],
    },
    Layer {
        name: "tests",
        checks: "sequential semantics, processes, hostile peers: all tests of all crates",
        steps: &[Step::cargo(&["test", "--workspace", "--all-features"])],
    },
    Layer {
        name: "loom",
        checks: "every interleaving and weak-memory effect of RC11 within bounds",
        steps: &[
            target!("enumerator").world(World::Loom),
            target!("loom_index").world(World::Loom),
            target!("loom_packed").world(World::Loom),
            target!("loom_bytes").world(World::Loom),
            target!("loom_wake").world(World::Loom),
            // Both sides sleep in turn: millions of executions a shape.
            Step::cargo(&[
                "test",
                "--package=memenpsf-verification",
                "--test=loom_wake",
                "--",
                "--ignored",
                "--nocapture",
            ])
            .world(World::Loom)
            .deep(),
        ],
    },
    Layer {
        name: "mutants",
        checks: "every ordering weakened and every step left out, against the models",
        steps: &[target!("loom_mutants").world(World::Loom)],
    },
    Layer {
        name: "litmus",
        checks: "each site's litmus test under six memory models",
        steps: &[target!("litmus")],
    },
    Layer {
        name: "spin",
        checks: "sleep and wake: nobody sleeps for ever",
        steps: &[target!("spin")],
    },
    Layer {
        name: "death",
        checks: "a process that dies at any place; sleepers that are always woken; signals",
        steps: &[
            memenpsf!("death").quick(),
            memenpsf!("processes").quick(),
            memenpsf!("waiting").quick(),
            memenpsf!("storm").quick(),
            memenpsf!("faults"),
            memenpsf!("death")
                .with(&[("MEMENPSF_KILLS", "1000")])
                .deep(),
            memenpsf!("processes")
                .with(&[("MEMENPSF_KILLS", "1000")])
                .deep(),
            memenpsf!("waiting")
                .with(&[("MEMENPSF_HANDOFFS", "2000000")])
                .deep(),
            memenpsf!("storm")
                .with(&[("MEMENPSF_OPERATIONS", "1000000")])
                .deep(),
        ],
    },
    Layer {
        name: "adversary",
        checks: "rings under a peer that lies at every access",
        steps: &[
            target!("adversary").quick(),
            Step::cargo(&[
                "test",
                "--release",
                "--package=memenpsf-verification",
                "--test=adversary",
                "--",
                "--nocapture",
            ])
            .with(&[("MEMENPSF_OPERATIONS", "100000000")])
            .deep(),
        ],
    },
    Layer {
        name: "defects",
        checks: "each cure of SECURITY.md removed in turn turns a test red (--deep)",
        steps: &[
            // Hours are not needed, but a build for each.
            Step::cargo(&[
                "test",
                "--package=memenpsf-verify",
                "--bin=defects",
                "--",
                "--nocapture",
            ])
            .quick(),
            Step::cargo(&["run", "--package=memenpsf-verify", "--bin=defects"]).deep(),
        ],
    },
    Layer {
        name: "sanitizers",
        checks: "races, bounds, leaks and uninitialised reads in the rings' tests",
        steps: &[
            // On the heap: ThreadSanitizer does not know the fence that follows a load
            // from a region, and reports what it publishes.
            ring_tests!("heap" "chunk").world(TSAN),
            seeded!("shipped").world(TSAN),
            seeded!("race")
                .world(TSAN)
                .reports("WARNING: ThreadSanitizer: data race"),
            // It looks for the report of each by itself.
            seeded!("weaker").world(TSAN),
            ring_tests!().world(ASAN),
            // A large build, and the longest tests once more. They start the examples.
            Step::cargo(&[
                "build",
                "--package=memenpsf",
                "--all-features",
                "--examples",
            ])
            .world(ASAN)
            .needs(&[NIGHTLY])
            .deep(),
            Step::cargo(&[
                "test",
                "--package=memenpsf-ring",
                "--package=memenpsf-fdpass",
                "--package=memenpsf",
                "--all-features",
                "--tests",
            ])
            .world(ASAN)
            .needs(&[NIGHTLY])
            .deep(),
            seeded!("shipped").world(ASAN),
            seeded!("overflow")
                .world(ASAN)
                .reports("AddressSanitizer: heap-buffer-overflow"),
            seeded!("use-after-free")
                .world(ASAN)
                .reports("AddressSanitizer: heap-use-after-free"),
            seeded!("leak")
                .world(ASAN)
                .reports("LeakSanitizer: detected memory leaks"),
            ring_tests!().world(MSAN),
            seeded!("shipped").world(MSAN),
            seeded!("uninitialised")
                .world(MSAN)
                .reports("MemorySanitizer: use-of-uninitialized-value"),
        ],
    },
    Layer {
        name: "fuzz",
        checks: "the fuzz targets, for 10 seconds each (ten minutes with --deep)",
        steps: &[
            fuzz(&["run", "--package=memenpsf-verify", "--bin=fuzz", "--", "10"]).quick(),
            fuzz(&[
                "run",
                "--package=memenpsf-verify",
                "--bin=fuzz",
                "--",
                "600",
            ])
            .deep(),
        ],
    },
    Layer {
        name: "coverage",
        checks: "lines of ring, fdpass and interface that tests run (--deep)",
        steps: &[
            // A build of its own, with counters.
            Step::cargo(COVERAGE).deep(),
        ],
    },
];

/// The floors are what was reached: 98.8, 98.4 and 96.5 percent of the lines.
const COVERAGE: &[&str] = &[
    "run",
    "--package=memenpsf-verify",
    "--bin=coverage",
    "--",
    "ring=98",
    "fdpass=98",
    "interface=96",
];

const fn fuzz(arguments: &'static [&'static str]) -> Step {
    Step::cargo(arguments).needs(&[NIGHTLY, CARGO_FUZZ])
}
