// SPDX-License-Identifier: GPL-2.0

//! Moving a table to a longer or a shorter array, under its readers: see the top of [`super`].

use super::{
    bindings,
    buckets::{
        marker,
        Buckets, //
    },
    entry::{
        Link,
        Node,
        Target, //
    },
    BhDisabled,
    Key,
    Table,
    STRIPES, //
};
use core::ptr;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Full,
            Relaxed,
            Release, //
        },
        rcu::synchronize_rcu, //
    }, //
};

/// Buckets that are moved under one lock.
const MOVE_BATCH: usize = 32;

impl<K: Key, V: Send + Sync + 'static, const N: usize> Table<K, V, N> {
    /// Moves all entries to an array of `len` buckets. Sleeps. One at a time: a second caller gets
    /// `EBUSY`.
    pub(crate) fn resize(&self, len: usize) -> Result {
        self.resizing.cmpxchg(0, 1, Full).map_err(|_| EBUSY)?;
        let result = self.resize_alone(len);
        self.resizing.store(0, Release);
        result
    }

    fn resize_alone(&self, len: usize) -> Result {
        let new_ptr = KBox::into_raw(Buckets::<K>::new(len)?);
        let old_ptr = self.current.load(Acquire);
        // SAFETY: Only `resize` frees arrays, and we are the only one in it.
        let (old, new) = unsafe { (&*old_ptr, &*new_ptr) };
        // INVARIANT: `future` comes from `KBox::into_raw` and is the table's from here on.
        old.future.store(new_ptr, Release);
        let mut hash = Some(0u32);
        // By the type invariants there are 2 to the power of `STRIPE_BITS` times as many heads as a stripe has.
        let batch = (old.heads.len() / STRIPES).clamp(1, MOVE_BATCH);
        for heads in old.heads.chunks(batch) {
            let Some(first) = hash else {
                break;
            };
            let bh = BhDisabled::new();
            let stripe = self.lock(first, &bh);
            for head in heads {
                // SAFETY: We hold the stripe of the batch.
                unsafe { self.move_chain(head, new) };
            }
            drop(stripe);
            drop(bh);
            // CAST: At most `MOVE_BATCH`.
            hash = first.checked_add((batch as u32).wrapping_shl(old.shift));
            // SAFETY: Process context, nothing is held.
            unsafe { bindings::rlvs_cond_resched() };
        }
        self.current.store(new_ptr, Release);
        synchronize_rcu();
        // SAFETY: Nobody can reach the old array any more: it was replaced a grace period ago.
        drop(unsafe { KBox::from_raw(old_ptr) });
        Ok(())
    }

    /// Moves the nodes of a chain to the array `to`, the last one first.
    ///
    /// # Safety
    ///
    /// The caller holds the chain's stripe.
    #[inline]
    unsafe fn move_chain(&self, head: &Link<K>, to: &Buckets<K>) {
        while let Some(first) = Target::of(head.load(Relaxed)) {
            let (mut link, mut last) = (head, first);
            let node = loop {
                // SAFETY: By the type invariants it is a node; the stripe keeps it linked.
                let node = unsafe { &*last.node.as_ptr() };
                match Target::of(node.next.load(Relaxed)) {
                    Some(next) => (link, last) = (&node.next, next),
                    None => break node,
                }
            };
            // SAFETY: It is the last one, and the caller holds the stripe.
            unsafe { self.move_last(head, link, last, node, to) };
            if ptr::eq(link, head) {
                return;
            }
        }
    }

    /// Moves the last node of a chain, to which `link` leads, to the array `to`.
    ///
    /// # Safety
    ///
    /// `last` is that node's and `head` that chain's. The caller holds its stripe.
    #[inline]
    unsafe fn move_last(
        &self,
        head: &Link<K>,
        link: &Link<K>,
        last: Target<K>,
        node: &Node<K>,
        to: &Buckets<K>,
    ) {
        let moved = link.load(Relaxed);
        // SAFETY: By the type invariants it is a node of ours, of an entry that the stripe keeps here.
        let entry = unsafe { Self::entry_of(&last).as_ref() };
        // SAFETY: It is in its chain, whose stripe the caller holds.
        let target = to.head(unsafe { entry.hash(usize::from(last.index)) });
        // First reachable in the new array, then cut off the old: see the top of [`super`].
        node.next.store(target.load(Relaxed), Release);
        target.store(moved, Release);
        link.store(marker(head), Release);
    }
}
