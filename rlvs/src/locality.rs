// SPDX-License-Identifier: GPL-2.0

//! What the schedulers lblc and lblcr remember: to which destinations each address went that clients
//! ask for.
//!
//! It stays with the service when its destinations change, so it names them by address and port. What
//! is remembered of an address is immutable: something else takes its place.

use crate::kapi::{
    hash::{
        Entry,
        Key,
        Role,
        Seed,
        Table, //
    },
    time, //
};
use core::net::IpAddr;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        rcu::{
            self,
            Guard, //
        },
        Arc, //
    }, //
};
use rlvs_core::{
    flow::FlowKey,
    sched::{
        Candidate,
        Kind,
        Lblcr,
        Sched,
        MEMORY, //
    }, //
};

/// Where there are more addresses than this, those are forgotten that nobody has asked for for
/// [`BRIEF`]; mainline's figures.
const CROWDED: usize = 1 << 14;
/// More addresses than this are not remembered.
const MOST: usize = CROWDED + CROWDED / 2;
/// In jiffies.
const BRIEF: u32 = 6 * 60 * time::HZ;
/// Uses closer together than this many jiffies are not told apart, so that the line of a busy address
/// stays clean.
const GRAIN: u32 = time::HZ;
/// Addresses that are seen to in one go.
const BATCH: usize = 16;

/// An address that clients ask for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Address(IpAddr);

impl Key for Address {
    fn hash(&self, seed: &Seed) -> u32 {
        match self.0 {
            IpAddr::V4(addr) => seed.hash([addr.to_bits(), 0, 0, 4]),
            IpAddr::V6(addr) => {
                let [a, b, c, d, e, f, g, h] = addr.segments().map(u32::from);
                seed.hash([a << 16 | b, c << 16 | d, e << 16 | f, g << 16 | h])
            }
        }
    }
}

/// A destination that was picked.
struct Picked {
    addr: IpAddr,
    port: u16,
    /// Its index when it was last looked for.
    index: Atomic<u32>,
}

impl Picked {
    fn new<C: Candidate>(dest: &C, index: usize) -> Self {
        Self {
            addr: dest.addr(),
            port: dest.port(),
            index: Atomic::new(u32::try_from(index).unwrap_or(u32::MAX)),
        }
    }

    fn copy(&self) -> Self {
        Self {
            index: Atomic::new(self.index.load(Relaxed)),
            ..*self
        }
    }

    fn is<C: Candidate>(&self, dest: &C) -> bool {
        dest.addr() == self.addr && dest.port() == self.port
    }

    /// Its index now, if it is there and schedulers can name it.
    fn find<C: Candidate>(&self, dests: &[C]) -> Option<u16> {
        let index = self.index.load(Relaxed);
        let hit = dests.get(index as usize).is_some_and(|dest| self.is(dest));
        let index = if hit {
            index
        } else {
            let found = dests.iter().position(|dest| self.is(dest))?;
            let found = u32::try_from(found).unwrap_or(u32::MAX);
            self.index.store(found, Relaxed);
            found
        };
        u16::try_from(index).ok()
    }
}

/// What is known of an address.
struct Known {
    /// The destinations that were picked for it, the last one first.
    picked: KVec<Picked>,
    /// Since when it is these, in jiffies.
    since: u32,
    /// When it was last asked for, in jiffies, late by up to [`GRAIN`].
    used: Atomic<u32>,
}

impl Known {
    /// The indices of its destinations, those that are there.
    fn list<'s, C: Candidate>(&self, dests: &[C], set: &'s mut [u16; MEMORY]) -> &'s [u16] {
        let mut len = 0usize;
        let found = self.picked.iter().filter_map(|picked| picked.find(dests));
        for (place, index) in set.iter_mut().zip(found) {
            *place = index;
            len = len.wrapping_add(1);
        }
        set.get(..len).unwrap_or(&[])
    }
}

/// The memory of a service's scheduler.
pub(crate) struct Locality {
    kind: Kind,
    table: Table<Address, Known, 1>,
    /// Where to go on with forgetting.
    cursor: Atomic<u32>,
}

impl Locality {
    /// That of a scheduler of a kind, if it has one. Process context.
    pub(crate) fn of(kind: Option<Kind>) -> Result<Option<Arc<Self>>> {
        let Some(kind) = kind.filter(|kind| kind.remembers() > 0) else {
            return Ok(None);
        };
        let locality = Self {
            kind,
            table: Table::new()?,
            cursor: Atomic::new(0),
        };
        Ok(Some(Arc::new(locality, GFP_KERNEL)?))
    }

    /// Whose memory it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Has the scheduler choose, remembers what it chose, and returns its index. Any context.
    pub(crate) fn pick<C: Candidate>(
        &self,
        sched: &Sched,
        dests: &[C],
        key: &FlowKey,
    ) -> Option<usize> {
        let guard = rcu::read_lock();
        let address = Address(key.service);
        let known = self.table.find(&address, &guard).map(|hit| hit.entry);
        let (now, mut set) = (time::now(), [0; MEMORY]);
        let set = known.map_or(&[][..], |known| {
            if now.wrapping_sub(known.used.load(Relaxed)) >= GRAIN {
                known.used.store(now, Relaxed);
            }
            known.list(dests, &mut set)
        });
        let index = sched.pick(0, dests, set, key)?.index;
        if !set.iter().any(|one| usize::from(*one) == index) {
            let picked = Picked::new(dests.get(index)?, index);
            let _ = self.remember(address, known, picked, now, &guard);
        }
        Some(index)
    }

    /// Adds a destination to what is known of an address. It may be too much to remember, or another
    /// CPU may have been quicker: nothing depends on it.
    fn remember(
        &self,
        address: Address,
        known: Option<&Entry<Address, Known, 1>>,
        last: Picked,
        now: u32,
        guard: &Guard,
    ) -> Result {
        if known.is_none() && self.table.len() >= MOST {
            return Err(ENOSPC);
        }
        let before = known.map_or(&[][..], |known| &known.picked);
        let len = before.len().saturating_add(1).min(self.kind.remembers());
        let mut picked = KVec::with_capacity(len, GFP_ATOMIC)?;
        picked.push(last, GFP_ATOMIC)?;
        for one in before.iter().take(len.saturating_sub(1)) {
            picked.push(one.copy(), GFP_ATOMIC)?;
        }
        self.replace(address, known, picked, now, now, guard)
    }

    fn replace(
        &self,
        address: Address,
        known: Option<&Entry<Address, Known, 1>>,
        picked: KVec<Picked>,
        since: u32,
        used: u32,
        guard: &Guard,
    ) -> Result {
        let new = Known {
            picked,
            since,
            used: Atomic::new(used),
        };
        let new = KBox::new(Entry::new([address], new), GFP_ATOMIC)?;
        if known.is_some_and(|known| !self.table.remove(known, guard)) {
            return Err(EEXIST);
        }
        self.table
            .insert(new, [Role::Unique], guard)
            .map_err(|_| EEXIST)?;
        Ok(())
    }

    /// Forgets some of the addresses that nobody has asked for for so many jiffies, and takes the
    /// busiest out of sets that have been the same for so long. The whole table takes less than a minute
    /// of calls, one every two seconds. Process context.
    pub(crate) fn tend<C: Candidate>(&self, dests: &[C], expiration: u32, guard: &Guard) {
        let patience = if self.table.len() > CROWDED {
            expiration.min(BRIEF)
        } else {
            expiration
        };
        let (now, mut cursor) = (time::now(), self.cursor.load(Relaxed));
        for _ in 0..(self.table.buckets(guard) / 16).saturating_add(256) {
            // The bucket is locked while it is shown.
            let mut due: [Option<&Entry<Address, Known, 1>>; BATCH] = [None; BATCH];
            let mut free = due.iter_mut();
            let next = self.table.scan(cursor, BATCH, guard, |known| {
                let surplus = known.picked.len() > 1 && since(known.since, now) >= expiration;
                if surplus || since(known.used.load(Relaxed), now) >= patience {
                    if let Some(place) = free.next() {
                        *place = Some(known);
                    }
                }
            });
            for known in due.iter().flatten() {
                if since(known.used.load(Relaxed), now) >= patience {
                    self.table.remove(known, guard);
                } else {
                    let _ = self.shrink(known, dests, now, guard);
                }
            }
            cursor = next.unwrap_or(0);
            if next.is_none() {
                break;
            }
        }
        self.cursor.store(cursor, Relaxed);
    }

    /// Takes the busiest destination out of a set.
    fn shrink<C: Candidate>(
        &self,
        known: &Entry<Address, Known, 1>,
        dests: &[C],
        now: u32,
        guard: &Guard,
    ) -> Result {
        let mut set = [0; MEMORY];
        let surplus = Lblcr::surplus(dests, known.list(dests, &mut set));
        let Some(surplus) = surplus.and_then(|index| dests.get(index)) else {
            return Ok(());
        };
        let mut picked = KVec::with_capacity(known.picked.len(), GFP_ATOMIC)?;
        for one in known.picked.iter().filter(|one| !one.is(surplus)) {
            picked.push(one.copy(), GFP_ATOMIC)?;
        }
        let ([address], used) = (known.keys(), known.used.load(Relaxed));
        self.replace(*address, Some(known), picked, now, used, guard)
    }

    /// Gives the table the size that it wants. Sleeps.
    pub(crate) fn resize(&self) {
        let wanted = self.table.wanted_buckets(&rcu::read_lock());
        if let Some(buckets) = wanted {
            // A table of the old size is slower, nothing else.
            let _ = self.table.resize(buckets);
        }
    }
}

/// Jiffies from one time to a later one. Another CPU's may be later than the caller's: then none.
fn since(then: u32, now: u32) -> u32 {
    match now.wrapping_sub(then) {
        passed if passed > u32::MAX / 2 => 0,
        passed => passed,
    }
}
