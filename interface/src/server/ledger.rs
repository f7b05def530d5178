//! Who has which place: the counts that the limits on clients are about.
//!
//! # Invariants
//!
//! - I1: the counts are the sums over all [`Place`]s that exist. A place belongs to
//!   a handshake after its hello, then to the connection, and counts until the
//!   connection's mappings are gone, whoever holds it by then.
//! - I2: [`Ledger::take`] is the only way to a place, and never exceeds a limit.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Reason, Refusal};
use crate::frame::Name;

/// What the clients of a server may have together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quota {
    pub(super) clients: usize,
    pub(super) clients_per_user: usize,
    pub(super) memory: u64,
    pub(super) unique_names: bool,
}

/// The counts of one server.
#[derive(Debug)]
pub(super) struct Ledger {
    quota: Quota,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    clients: usize,
    memory: u64,
    by_user: HashMap<u32, usize>,
    names: HashSet<Name>,
}

/// One client's share of the counts, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    ledger: Arc<Ledger>,
    user: u32,
    memory: u64,
    /// The name, where names are unique and the client has one.
    name: Option<Name>,
}

impl Ledger {
    pub(super) fn new(quota: Quota) -> Arc<Self> {
        Arc::new(Self {
            quota,
            counts: Mutex::default(),
        })
    }

    /// Tells whether `user` could have a place now, before anything is spent.
    pub(super) fn has_room(&self, user: u32) -> Result<(), Refusal> {
        self.check(&self.lock(), user)
    }

    fn check(&self, counts: &Counts, user: u32) -> Result<(), Refusal> {
        let busy = |limit: usize| Reason::Busy {
            limit: limit as u64,
        };
        let limit = self.quota.clients;
        if counts.clients >= limit {
            return Err(busy(limit).into());
        }
        let limit = self.quota.clients_per_user;
        if counts.by_user.get(&user).copied().unwrap_or(0) >= limit {
            let words = format!("no user may have more, and user {user} has them");
            return Err(Refusal::with_words(busy(limit), &words));
        }
        Ok(())
    }

    /// Takes a place for a client of `user` whose two regions have `memory` bytes.
    pub(super) fn take(
        self: &Arc<Self>,
        user: u32,
        memory: u64,
        name: &Name,
    ) -> Result<Place, Refusal> {
        let mut counts = self.lock();
        self.check(&counts, user)?;
        let left = self.quota.memory.saturating_sub(counts.memory);
        if memory > left {
            let reason = Reason::Memory {
                needed: memory,
                limit: left,
            };
            let words = format!(
                "both regions count, and other clients leave so much of {}",
                self.quota.memory
            );
            return Err(Refusal::with_words(reason, &words));
        }
        // Nobody has chosen the empty name, so nobody has it alone.
        let unique = self.quota.unique_names && !name.as_str().is_empty();
        let name = unique.then(|| name.clone());
        if let Some(name) = &name
            && !counts.names.insert(name.clone())
        {
            return Err(Reason::NameInUse.into());
        }
        counts.clients += 1;
        counts.memory += memory;
        *counts.by_user.entry(user).or_default() += 1;
        Ok(Place {
            ledger: Arc::clone(self),
            user,
            memory,
            name,
        })
    }

    /// Returns how many clients there are, and how many bytes their regions have.
    pub(super) fn totals(&self) -> (usize, u64) {
        let counts = self.lock();
        (counts.clients, counts.memory)
    }

    /// Locks the counts. No step between a change and the next can panic, so a
    /// poisoned lock holds whole counts.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.ledger.lock();
        counts.clients -= 1;
        counts.memory -= self.memory;
        if let Some(name) = &self.name {
            counts.names.remove(name);
        }
        // Forgotten at zero: the map has as many entries as there are users.
        if let Some(count) = counts.by_user.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                counts.by_user.remove(&self.user);
            }
        }
    }
}
