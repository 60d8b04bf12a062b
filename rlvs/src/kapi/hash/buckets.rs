// SPDX-License-Identifier: GPL-2.0

//! An array of buckets, each the head of a chain, and the search for a key in one.

use super::{
    entry::{
        Link,
        Node,
        Target, //
    },
    Key,
    HASH_BITS,
    MAX_BUCKETS,
    STRIPES, //
};
use core::ptr;
use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic, //
    }, //
};

/// An array of buckets.
///
/// # Invariants
///
/// `heads.len()` is 2 to the power of `HASH_BITS - shift`, and `shift` at most
/// `HASH_BITS - STRIPE_BITS`.
pub(super) struct Buckets<K> {
    /// Bits of the hash behind those that choose a bucket.
    pub(super) shift: u32,
    /// The array that the table is moving to, if it is.
    pub(super) future: Atomic<*mut Buckets<K>>,
    pub(super) heads: KVVec<Link<K>>,
}

pub(super) enum Search<K> {
    Found(Target<K>),
    Missing,
    /// A node moved under us and led to another bucket.
    Strayed,
}

#[inline]
pub(super) fn marker<K>(head: *const Link<K>) -> *mut Node<K> {
    // A head is aligned, so this sets the last bit.
    ptr::without_provenance_mut(head.addr().wrapping_add(1))
}

impl<K: Key> Buckets<K> {
    pub(super) fn new(len: usize) -> Result<KBox<Self>> {
        let len = len.clamp(STRIPES, MAX_BUCKETS).next_power_of_two();
        let mut heads = KVVec::with_capacity(len, GFP_KERNEL_ACCOUNT)?;
        // In eights, which have no need of a loop: `len` is a power of two, and there may be millions.
        for heads in heads.spare_capacity_mut().chunks_exact_mut(8).take(len / 8) {
            for head in heads {
                let marker = marker(head.as_ptr());
                head.write(Atomic::new(marker));
            }
        }
        // SAFETY: There was room for `len`, and they were written.
        unsafe { heads.inc_len(len) };
        // INVARIANT: `len` was rounded to a power of two, 256 at least.
        Ok(KBox::new(
            Self {
                shift: HASH_BITS.wrapping_sub(len.ilog2()),
                future: Atomic::new(ptr::null_mut()),
                heads,
            },
            GFP_KERNEL,
        )?)
    }

    #[inline]
    pub(super) fn head(&self, hash: u32) -> &Link<K> {
        // SAFETY: By the type invariants the index is below the length.
        // CAST: u32 to usize on the 64-bit machines we run on.
        unsafe { self.heads.get_unchecked((hash >> self.shift) as usize) }
    }

    /// The first hash of a hash's bucket.
    pub(super) fn start(&self, hash: u32) -> u32 {
        hash & u32::MAX.wrapping_shl(self.shift)
    }

    /// The first hash of the bucket after a hash's; `None` behind the last.
    pub(super) fn after(&self, hash: u32) -> Option<u32> {
        self.start(hash).checked_add(1u32.wrapping_shl(self.shift))
    }

    /// Looks for a key in the chain of its hash, of a node for which `f` says so.
    ///
    /// # Safety
    ///
    /// The caller holds the RCU read lock or the stripe of `hash`.
    #[inline]
    pub(super) unsafe fn search(
        &self,
        hash: u32,
        key: &K,
        f: impl Fn(&Target<K>) -> bool,
    ) -> Search<K> {
        let head = self.head(hash);
        let mut link = head.load(Acquire);
        while let Some(target) = Target::of(link) {
            // SAFETY: A target is a node, which is not freed before a grace period has passed since
            // it could be reached.
            let node = unsafe { target.node.as_ref() };
            if node.key == *key && f(&target) {
                return Search::Found(target);
            }
            link = node.next.load(Acquire);
        }
        if ptr::eq(link, marker(head)) {
            Search::Missing
        } else {
            Search::Strayed
        }
    }
}
