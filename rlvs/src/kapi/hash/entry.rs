// SPDX-License-Identifier: GPL-2.0

//! What chains are made of: entries, and the links between their nodes.

use super::{
    bindings,
    Hash,
    Key, //
};
use core::{
    mem::ManuallyDrop,
    ops::{
        Deref,
        DerefMut, //
    },
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    types::Opaque, //
};

/// A link of a chain: a [`Target`], or odd, the address of the bucket whose chain ends here.
pub(super) type Link<K> = Atomic<*mut Node<K>>;

#[repr(C)]
pub(super) struct Node<K> {
    pub(super) next: Link<K>,
    pub(super) key: K,
}

/// Where a link leads: to a node of an entry. Which one of its entry's nodes it is stands in the
/// low bits of the link, above the one that marks the end of a chain.
///
/// # Invariants
///
/// The pointer is aligned, and `index` is below 4 and the node's place in its entry.
pub(super) struct Target<K> {
    pub(super) node: NonNull<Node<K>>,
    pub(super) index: u8,
}

impl<K> Target<K> {
    /// The link's target; `None` at the end of a chain.
    #[inline]
    pub(super) fn of(link: *mut Node<K>) -> Option<Self> {
        let addr = link.addr();
        if addr & 1 == 1 {
            return None;
        }
        // INVARIANT: Links are made by `link` or are markers.
        NonNull::new(link.map_addr(|addr| addr & !7)).map(|node| Self {
            node,
            index: (addr >> 1 & 3) as u8,
        })
    }

    /// The link to a node.
    #[inline]
    pub(super) fn link(node: &Node<K>, index: usize) -> *mut Node<K> {
        ptr::from_ref(node)
            .cast_mut()
            .map_addr(|addr| addr | (index & 3) << 1)
    }
}

/// An object of a table.
///
/// The nodes come first and the value right behind them: lookup and use share cache lines.
///
/// # Invariants
///
/// `tail.hashes` is what is valid of the tail until [`Table::free_later`] has got the entry.
#[repr(C)]
pub(crate) struct Entry<K, V, const N: usize> {
    pub(super) nodes: [Node<K>; N],
    pub(super) value: V,
    /// 1 while the entry is in the table; whoever turns it to 0 takes the entry out.
    pub(super) linked: Atomic<i32>,
    pub(super) tail: Tail<N>,
}

/// Of a connection 8 bytes matter: with them it would take a third cache line.
#[repr(C)]
pub(super) union Tail<const N: usize> {
    /// Of the keys, in the table that it was put into: a resize would else compute them all again.
    pub(super) hashes: ManuallyDrop<[Atomic<u32>; N]>,
    pub(super) rcu: ManuallyDrop<Opaque<bindings::callback_head>>,
}

impl<K: Key, V, const N: usize> Entry<K, V, N> {
    /// An entry that is in no table yet.
    #[inline]
    pub(crate) fn new(keys: [K; N], value: V) -> Self {
        const { assert!(N <= 4) };
        Self {
            nodes: keys.map(|key| Node {
                next: Atomic::new(ptr::null_mut()),
                key,
            }),
            value,
            linked: Atomic::new(0),
            // INVARIANT: The hashes are valid.
            tail: Tail {
                hashes: ManuallyDrop::new([const { Atomic::new(0) }; N]),
            },
        }
    }

    /// The same, as the hash of the first key is known.
    #[inline]
    pub(crate) fn hashed(self, hash: Hash) -> Self {
        // SAFETY: By the type invariants: whoever owns an entry has not given it to `free_later`.
        if let Some(first) = unsafe { self.hashes() }.first() {
            first.store(hash.0, Relaxed);
        }
        self
    }

    /// The keys, in the order in which they were given.
    #[inline]
    pub(crate) fn keys(&self) -> [&K; N] {
        self.nodes.each_ref().map(|node| &node.key)
    }

    /// The hashes of the keys; 0 is not known yet.
    ///
    /// # Safety
    ///
    /// A link leads to the entry and does so until the caller is done, or nobody else knows of the entry.
    #[inline]
    pub(super) unsafe fn hashes(&self) -> &[Atomic<u32>; N] {
        // SAFETY: By the type invariants: `free_later` gets what no link leads to.
        unsafe { &self.tail.hashes }
    }

    /// The hash of the key with that index.
    ///
    /// # Safety
    ///
    /// As for [`hashes`](Self::hashes).
    #[inline]
    pub(super) unsafe fn hash(&self, index: usize) -> u32 {
        // SAFETY: By the contract of this function.
        let hash = unsafe { self.hashes() }.get(index);
        hash.map_or(0, |hash| hash.load(Relaxed))
    }
}

impl<K, V, const N: usize> Deref for Entry<K, V, N> {
    type Target = V;

    #[inline]
    fn deref(&self) -> &V {
        &self.value
    }
}

impl<K, V, const N: usize> DerefMut for Entry<K, V, N> {
    #[inline]
    fn deref_mut(&mut self) -> &mut V {
        &mut self.value
    }
}
