// SPDX-License-Identifier: GPL-2.0

//! Collecting connections and templates that are over.

use crate::kapi::{
    hash::{
        Entry,
        Key,
        Table, //
    },
    time, //
};
use kernel::sync::rcu;

/// Buckets that are looked at under one RCU read lock.
const BATCH: usize = 64;
/// Entries that are taken out in one go.
const VICTIMS: usize = 16;

/// Takes what `is_over` out of `steps` buckets from `cursor` on; returns where to go on, 0 at the end
/// of the table. `ended` is told of each. Process context.
pub(crate) fn collect<K: Key, V: Send + Sync, const N: usize>(
    table: &Table<K, V, N>,
    mut cursor: u32,
    steps: usize,
    mut is_over: impl FnMut(&Entry<K, V, N>) -> bool,
    ended: impl Fn(&Entry<K, V, N>),
) -> u32 {
    let mut left = steps;
    while left > 0 {
        let guard = rcu::read_lock();
        for _ in 0..left.min(BATCH) {
            left = left.wrapping_sub(1);
            // The bucket is locked while it is shown, so what is found is taken out afterwards.
            let mut victims: [Option<&Entry<K, V, N>>; VICTIMS] = [None; VICTIMS];
            let mut free = victims.iter_mut();
            let next = table.scan(cursor, VICTIMS, &guard, |entry| {
                if is_over(entry) {
                    if let Some(place) = free.next() {
                        *place = Some(entry);
                    }
                }
            });
            for entry in victims.iter().flatten() {
                if table.remove(entry, &guard) {
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
