//! The table of sites: every ordering that the rings and the wake-up need, with its
//! partner, what the pair makes visible, and what shows that it is needed.
//!
//! The orderings themselves are the constants of
//! [`memenpsf_ring::ordering::Orderings`]; a mutant is another implementation of
//! that trait. From this table come the mutants, their kill matrix and the litmus
//! tests, so a site that is missing here is missing nowhere else in silence: a test
//! compares it with the trait.

use std::fmt;
use std::sync::atomic::Ordering;

use memenpsf_ring::ordering::Orderings;

/// One ordering of the shipping code.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    /// The constant's name.
    pub name: &'static str,
    /// The pair in the table of [`memenpsf_ring::ordering`].
    pub pair: &'static str,
    /// The other site of the pair.
    pub partner: &'static str,
    /// What kind of access has the ordering.
    pub access: Access,
    /// The ordering that ships.
    pub ships: Ordering,
    /// The structures that use the site.
    pub used_by: &'static [Subject],
    /// The shape of its litmus test.
    pub litmus: Litmus,
}

/// A kind of access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// An atomic load.
    Load,
    /// An atomic store.
    Store,
    /// An atomic swap.
    Swap,
    /// A fence.
    Fence,
}

/// What is modelled: a ring, or the wake-up around any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The index ring.
    Index,
    /// The packed ring.
    Packed,
    /// The bytes ring.
    Bytes,
    /// Sleeping and waking.
    Wake,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Index => "index ring",
            Self::Packed => "packed ring",
            Self::Bytes => "bytes ring",
            Self::Wake => "wake-up",
        })
    }
}

/// The shape of a litmus test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Litmus {
    /// A ring of one slot, whose second element overwrites the first: message
    /// passing there, load buffering back.
    Slot,
    /// The last of two sides to leave reads what the first has done.
    Leave,
    /// Each side stores its own word and loads the other's: store buffering.
    Sleep,
}

/// The rings among the subjects.
pub const RINGS: [Subject; 3] = [Subject::Index, Subject::Packed, Subject::Bytes];

/// All sites, in the order of their pairs.
pub const SITES: [Site; 12] = [
    Site {
        name: "PUBLISH_TAIL",
        pair: "P1",
        partner: "REFRESH_TAIL",
        access: Access::Store,
        ships: Ordering::Release,
        used_by: &[Subject::Index],
        litmus: Litmus::Slot,
    },
    Site {
        name: "REFRESH_TAIL",
        pair: "P1",
        partner: "PUBLISH_TAIL",
        access: Access::Load,
        ships: Ordering::Acquire,
        used_by: &[Subject::Index],
        litmus: Litmus::Slot,
    },
    Site {
        name: "VACATE_HEAD",
        pair: "P2",
        partner: "REFRESH_HEAD",
        access: Access::Store,
        ships: Ordering::Release,
        used_by: &RINGS,
        litmus: Litmus::Slot,
    },
    Site {
        name: "REFRESH_HEAD",
        pair: "P2",
        partner: "VACATE_HEAD",
        access: Access::Load,
        ships: Ordering::Acquire,
        used_by: &RINGS,
        litmus: Litmus::Slot,
    },
    Site {
        name: "ABANDON",
        pair: "P3",
        partner: "ABANDON",
        access: Access::Swap,
        ships: Ordering::AcqRel,
        used_by: &RINGS,
        litmus: Litmus::Leave,
    },
    Site {
        name: "OBSERVE_ABANDONED",
        pair: "P3",
        partner: "ABANDON",
        access: Access::Load,
        ships: Ordering::Acquire,
        used_by: &RINGS,
        litmus: Litmus::Leave,
    },
    Site {
        name: "PUBLISH_LINE",
        pair: "P4",
        partner: "REFRESH_LINE",
        access: Access::Store,
        ships: Ordering::Release,
        used_by: &[Subject::Packed],
        litmus: Litmus::Slot,
    },
    Site {
        name: "REFRESH_LINE",
        pair: "P4",
        partner: "PUBLISH_LINE",
        access: Access::Load,
        ships: Ordering::Acquire,
        used_by: &[Subject::Packed],
        litmus: Litmus::Slot,
    },
    Site {
        name: "PUBLISH_RECORD",
        pair: "P5",
        partner: "REFRESH_RECORD",
        access: Access::Store,
        ships: Ordering::Release,
        used_by: &[Subject::Bytes],
        litmus: Litmus::Slot,
    },
    Site {
        name: "REFRESH_RECORD",
        pair: "P5",
        partner: "PUBLISH_RECORD",
        access: Access::Load,
        ships: Ordering::Acquire,
        used_by: &[Subject::Bytes],
        litmus: Litmus::Slot,
    },
    Site {
        name: "WAKE_BARRIER",
        pair: "F1",
        partner: "SLEEP_BARRIER",
        access: Access::Fence,
        ships: Ordering::SeqCst,
        used_by: &[Subject::Wake],
        litmus: Litmus::Sleep,
    },
    Site {
        name: "SLEEP_BARRIER",
        pair: "F1",
        partner: "WAKE_BARRIER",
        access: Access::Fence,
        ships: Ordering::SeqCst,
        used_by: &[Subject::Wake],
        litmus: Litmus::Sleep,
    },
];

/// A site made weaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mutant {
    /// The type's name.
    pub name: &'static str,
    /// The site's name.
    pub site: &'static str,
    /// What it is weakened to.
    pub ordering: Ordering,
}

/// Returns the mutants of all sites that `subject` uses.
pub fn mutants_of(subject: Subject) -> impl Iterator<Item = &'static Mutant> {
    MUTANTS.iter().filter(move |mutant| {
        let mut sites = SITES.iter().filter(|site| site.name == mutant.site);
        sites.any(|site| site.used_by.contains(&subject))
    })
}

/// Something to be done with a set of orderings.
pub trait With {
    /// Does it.
    fn with<O: Orderings + Send + 'static>(self);
}

/// Declares the mutants.
macro_rules! mutants {
    ($($mutant:ident: $site:ident = $ordering:ident;)*) => {
        $(
            #[doc = concat!("`", stringify!($site), "` as ", stringify!($ordering), ".")]
            #[derive(Debug, Clone, Copy)]
            pub struct $mutant;

            // SAFETY: it runs inside checkers that are to find the weakness.
            unsafe impl Orderings for $mutant {
                const $site: Ordering = Ordering::$ordering;
            }
        )*

        /// All mutants: each site with every ordering that is just weaker, and with
        /// the weakest.
        pub const MUTANTS: &[Mutant] = &[$(
            Mutant {
                name: stringify!($mutant),
                site: stringify!($site),
                ordering: Ordering::$ordering,
            },
        )*];

        /// Does something with the orderings of a mutant, by its name.
        ///
        /// # Panics
        ///
        /// When there is no such mutant.
        pub fn with_mutant(name: &str, what: impl With) {
            match name {
                $(stringify!($mutant) => what.with::<$mutant>(),)*
                unknown => panic!("no mutant is called {unknown}"),
            }
        }

        /// The orderings that ship, by the names of the sites that have mutants.
        #[cfg(test)]
        fn shipped(site: &str) -> Ordering {
            use memenpsf_ring::ordering::Shipped;
            match site {
                $(stringify!($site) => Shipped::$site,)*
                unknown => panic!("no site is called {unknown}"),
            }
        }
    };
}

#[allow(
    unreachable_patterns,
    reason = "a site with several mutants has several arms"
)]
mod declared {
    use super::{Mutant, Ordering, Orderings, With};

    mutants! {
        PublishTailRelaxed: PUBLISH_TAIL = Relaxed;
        RefreshTailRelaxed: REFRESH_TAIL = Relaxed;
        VacateHeadRelaxed: VACATE_HEAD = Relaxed;
        RefreshHeadRelaxed: REFRESH_HEAD = Relaxed;
        AbandonAcquire: ABANDON = Acquire;
        AbandonRelease: ABANDON = Release;
        AbandonRelaxed: ABANDON = Relaxed;
        ObserveAbandonedRelaxed: OBSERVE_ABANDONED = Relaxed;
        PublishLineRelaxed: PUBLISH_LINE = Relaxed;
        RefreshLineRelaxed: REFRESH_LINE = Relaxed;
        PublishRecordRelaxed: PUBLISH_RECORD = Relaxed;
        RefreshRecordRelaxed: REFRESH_RECORD = Relaxed;
        WakeBarrierAcqRel: WAKE_BARRIER = AcqRel;
        WakeBarrierNone: WAKE_BARRIER = Relaxed;
        SleepBarrierAcqRel: SLEEP_BARRIER = AcqRel;
        SleepBarrierNone: SLEEP_BARRIER = Relaxed;
    }

    /// What the trait says of a site's ordering must be what the table says.
    #[cfg(test)]
    mod tests {
        use std::collections::BTreeSet;

        use super::super::{MUTANTS, SITES};
        use super::shipped;

        /// The constants of the trait, read from its source.
        fn constants() -> BTreeSet<&'static str> {
            include_str!("../../ring/src/ordering.rs")
                .lines()
                .filter_map(|line| line.trim().strip_prefix("const "))
                .filter_map(|line| line.split_once(':'))
                .map(|(name, _)| name)
                .collect()
        }

        #[test]
        fn every_ordering_has_its_site_partner_and_mutant() {
            let sites: BTreeSet<_> = SITES.iter().map(|site| site.name).collect();
            assert_eq!(sites, constants());
            for site in SITES {
                let partner = SITES.iter().find(|other| other.name == site.partner);
                let partner = partner.expect("a partner in the table");
                assert_eq!(partner.pair, site.pair, "{}", site.name);
                assert!(
                    MUTANTS.iter().any(|mutant| mutant.site == site.name),
                    "{} has no mutant",
                    site.name
                );
                assert_eq!(shipped(site.name), site.ships, "{}", site.name);
            }
            println!(
                "evidence: {} sites, each with its partner, its mutants and its litmus test",
                SITES.len()
            );
        }

        #[test]
        fn mutants_are_weaker_than_what_ships() {
            for mutant in MUTANTS {
                assert_ne!(shipped(mutant.site), mutant.ordering, "{}", mutant.name);
            }
        }
    }
}

pub use declared::*;
