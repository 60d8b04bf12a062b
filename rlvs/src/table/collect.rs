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
        let batch = left.min(BATCH);
        left = left.wrapping_sub(batch);
        cursor = match table.sweep(cursor, batch, &rcu::read_lock(), &mut is_over, &ended) {
            Some(next) => next,
            None => return 0,
        };
        time::cond_resched();
    }
    cursor
}
