// SPDX-License-Identifier: GPL-2.0

//! Walks over a table.

use super::{
    entry::{
        Entry,
        Link,
        Target, //
    },
    BhDisabled,
    Key,
    Table,
    HASH_BITS, //
};
use kernel::sync::{
    atomic::{
        Acquire,
        Relaxed, //
    },
    rcu::Guard, //
};

impl<K: Key, V: Send + Sync + 'static, const N: usize> Table<K, V, N> {
    /// Shows `f` the entries of one step of a walk, not many more than `most`, and returns the cursor
    /// of the next, `None` at the end. Starts at 0. What is in the table from the start to the end of a
    /// walk is shown once, even if the table is resized meanwhile. `f` runs under a spinlock: it must
    /// not sleep or use the table.
    ///
    /// A cursor is a hash. A step is a bucket, or a part of one whose chain is long.
    pub(crate) fn scan<'g>(
        &'g self,
        cursor: u32,
        most: usize,
        guard: &'g Guard,
        mut f: impl FnMut(&'g Entry<K, V, N>),
    ) -> Option<u32> {
        let current = self.current(guard);
        if Target::of(current.head(cursor).load(Acquire)).is_none()
            && Self::future(current, guard).is_none()
        {
            // Empty, and nothing has moved from here: that would have to go somewhere.
            return current.after(cursor);
        }
        // The buckets of one step have their first bits in common, so they are all in this stripe and
        // nothing moves among them meanwhile.
        let bh = BhDisabled::new();
        let _stripe = self.lock(cursor, &bh);
        let current = self.current(guard);
        let (small, large) = match Self::future(current, guard) {
            None => (current, None),
            Some(future) if future.shift > current.shift => (future, Some(current)),
            Some(future) => (current, Some(future)),
        };
        let first = small.start(cursor);
        let after = small.after(cursor);
        let each = |f: &mut dyn FnMut(&'g Entry<K, V, N>)| {
            self.show(small.head(first), f);
            let mut bucket = large.map(|_| first);
            while let (Some(large), Some(hash)) = (large, bucket) {
                self.show(large.head(hash), f);
                bucket = large.after(hash).filter(|next| Some(*next) != after);
            }
        };

        let mut entries = 0usize;
        each(&mut |_| entries = entries.wrapping_add(1));
        // The first hash behind the last one is beyond 32 bits.
        let (from, bucket_end) = (u64::from(cursor), after.map_or(1 << HASH_BITS, u64::from));
        let end = if entries > most {
            // Hashes are spread evenly, so a part of them has that part of the entries.
            let all = bucket_end.wrapping_sub(u64::from(first));
            let part = all.saturating_mul(most as u64).checked_div(entries as u64);
            from.saturating_add(part.map_or(1, |part| part.max(1)))
                .min(bucket_end)
        } else {
            bucket_end
        };
        // After the table has shrunk the first bucket begins before the cursor.
        let whole = cursor == first && end == bucket_end;
        each(&mut |entry| {
            // SAFETY: It was found in its chain, whose stripe is held.
            let hash = unsafe { entry.hash(0) };
            if whole || (from..end).contains(&u64::from(hash)) {
                f(entry);
            }
        });
        u32::try_from(end).ok()
    }

    /// Takes out the entries of a number of buckets for which `f` says so, tells `removed` of each, and
    /// returns the cursor for the next call, `None` at the end; starts at 0. Locks nothing to look: what is
    /// put in or moved meanwhile may be missed. What a cursor is, see [`scan`](Self::scan).
    pub(crate) fn sweep(
        &self,
        cursor: u32,
        buckets: usize,
        guard: &Guard,
        mut f: impl FnMut(&Entry<K, V, N>) -> bool,
        removed: impl Fn(&Entry<K, V, N>),
    ) -> Option<u32> {
        let current = self.current(guard);
        let mut cursor = cursor;
        for _ in 0..buckets {
            let mut link = current.head(cursor).load(Acquire);
            while let Some(target) = Target::of(link) {
                // SAFETY: A target is a node of ours, which under the guard is not freed.
                let (node, entry) =
                    unsafe { (target.node.as_ref(), Self::entry_of(&target).as_ref()) };
                if target.index == 0 && f(entry) && self.remove(entry, guard) {
                    removed(entry);
                }
                link = node.next.load(Acquire);
            }
            cursor = current.after(cursor)?;
        }
        Some(cursor)
    }

    /// How many nodes the chain of a bucket has, at most `most`; `None` behind the last bucket. What
    /// a resize has moved already is not counted.
    pub(crate) fn chain_len(&self, bucket: usize, most: usize, guard: &Guard) -> Option<usize> {
        let mut link = self.current(guard).heads.get(bucket)?.load(Acquire);
        let mut len = 0usize;
        while len < most {
            let Some(target) = Target::of(link) else {
                break;
            };
            len = len.wrapping_add(1);
            // SAFETY: A target is a node, which under the guard is not freed.
            link = unsafe { target.node.as_ref() }.next.load(Acquire);
        }
        Some(len)
    }

    /// Shows `f` the entries whose first node is in a chain. The caller holds its stripe.
    fn show<'g>(&'g self, head: &'g Link<K>, f: &mut dyn FnMut(&'g Entry<K, V, N>)) {
        let mut link = head.load(Relaxed);
        while let Some(target) = Target::of(link) {
            // SAFETY: By the type invariants it is a node of ours; it was in the chain after the
            // caller's RCU read lock was taken, which keeps its entry.
            unsafe {
                if target.index == 0 {
                    f(Self::entry_of(&target).as_ref());
                }
                link = target.node.as_ref().next.load(Relaxed);
            }
        }
    }
}
