// SPDX-License-Identifier: GPL-2.0

//! Collecting connections that have expired.

use super::ConnTable;
use crate::{
    conn::{
        ConnEntry,
        TimeoutTable, //
    },
    family::Carried,
    kapi::time, //
};
use kernel::sync::rcu;

/// Buckets that are looked at under one RCU read lock.
const BATCH: usize = 64;
/// Connections that are taken out in one go.
const VICTIMS: usize = 16;

/// Takes expired connections out of `steps` buckets from `cursor` on, and with `orphans` those whose
/// destination was deleted; returns where to go on, 0 at the end of the table. `ended` is told of each.
/// Process context.
pub(crate) fn collect<A: Carried>(
    conns: &ConnTable<A>,
    timeouts: &TimeoutTable,
    orphans: bool,
    mut cursor: u32,
    steps: usize,
    ended: impl Fn(&ConnEntry<A>),
) -> u32 {
    let mut left = steps;
    while left > 0 {
        let guard = rcu::read_lock();
        for _ in 0..left.min(BATCH) {
            left = left.wrapping_sub(1);
            let now = time::now();
            // The bucket is locked while it is shown, so what is found is taken out afterwards.
            let mut victims: [Option<&ConnEntry<A>>; VICTIMS] = [None; VICTIMS];
            let mut free = victims.iter_mut();
            let next = conns.scan(cursor, VICTIMS, &guard, |entry| {
                let orphan = orphans && !entry.dest.is_available();
                if orphan || entry.is_expired(now, timeouts) {
                    if let Some(place) = free.next() {
                        *place = Some(entry);
                    }
                }
            });
            for entry in victims.iter().flatten() {
                if conns.remove(entry, &guard) {
                    ended(entry);
                }
            }
            cursor = match next {
                Some(next) => next,
                None => return 0,
            };
        }
        drop(guard);
        time::cond_resched();
    }
    cursor
}
