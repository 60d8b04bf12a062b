// SPDX-License-Identifier: GPL-2.0

//! A resizable hash table with RCU readers, for objects that are found under one or several keys.
//!
//! An [`Entry`] holds `N` nodes, one a key, and the value behind them; the table owns it. Readers
//! hold a [`Guard`], take no lock and write nothing. Writers lock a stripe of buckets. The hash is
//! keyed, so strangers cannot choose collisions.
//!
//! # Resizing under readers
//!
//! A chain ends in a marker that names its bucket. While the table moves to a new array, nodes go
//! over one at a time, always the last of a chain, first linked into the new array and then cut off the
//! old: at any moment a node can be reached from the old array or, a moment later, from the new one,
//! which readers try second. A reader that stood on a node while it moved ends at a marker that is not
//! its bucket's and starts again. (`lib/rhashtable.c` is built on the same idea.)
//!
//! # Locking
//!
//! Bucket and stripe are the first bits of the hash, and no array is shorter than the stripes are
//! many: a node's buckets in the old and in the new array are under one lock. Stripes do not nest and
//! nothing else is taken under them.
//!
//! The buckets of any array are in the order of the hash, so a walk goes on where it was after the
//! table was resized.

mod buckets;
mod entry;
mod resize;
mod walk;

pub(crate) use self::entry::Entry;

use self::{
    buckets::{
        marker,
        Buckets,
        Search, //
    },
    entry::{
        Node,
        Tail,
        Target, //
    }, //
};
use super::{
    bh::BhDisabled, //
    bindings,
};
use core::{
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed,
            Release, //
        },
        rcu::Guard, //
    },
    types::Opaque, //
};

/// Bits of the hash that choose a stripe: there are 256, each under a lock of its own.
const STRIPE_BITS: u32 = 8;
/// Also the length of the shortest array.
const STRIPES: usize = 1 << STRIPE_BITS;
/// The longest array: 2^27 buckets, as in mainline.
const MAX_BUCKETS: usize = 1 << 27;
/// The binary logarithm of the load at which a table grows, in entries a bucket; negative. An entry may
/// have several nodes.
pub(crate) const LFACTOR: i32 = -1;
/// Bits of a hash.
const HASH_BITS: u32 = u32::BITS;

/// The stripe of a hash.
#[inline]
fn stripe_of(hash: u32) -> usize {
    // CAST: u32 to usize on the 64-bit machines we run on.
    (hash >> (HASH_BITS - STRIPE_BITS)) as usize
}

/// The secret key of a table's hash.
pub(crate) struct Seed(bindings::hsiphash_key_t);

impl Seed {
    fn random() -> Self {
        let mut key = bindings::hsiphash_key_t::default();
        // SAFETY: The pointer leads to memory of that size, and every bit pattern is a key.
        unsafe {
            bindings::get_random_bytes((&raw mut key).cast(), size_of_val(&key));
        }
        Self(key)
    }

    /// Hashes four words.
    #[inline]
    pub(crate) fn hash(&self, words: [u32; 4]) -> u32 {
        let [a, b, c, d] = words;
        // SAFETY: The key is valid for the call.
        unsafe { bindings::hsiphash_4u32(a, b, c, d, &raw const self.0) }
    }

    /// Hashes any number of words.
    #[inline]
    pub(crate) fn hash_all(&self, words: &[u32]) -> u32 {
        if let &[a, b, c] = words {
            // SAFETY: The key is valid for the call.
            return unsafe { bindings::hsiphash_3u32(a, b, c, &raw const self.0) };
        }
        // SAFETY: So many bytes are there, and the key is valid for the call.
        unsafe { bindings::rlvs_hsiphash(words.as_ptr(), size_of_val(words), &raw const self.0) }
    }
}

/// What an entry is found by.
pub(crate) trait Key: Copy + Eq + Send + Sync + 'static {
    /// The keyed hash of the key.
    fn hash(&self, seed: &Seed) -> u32;
}

/// What a key of a new entry is good for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The entry is found by it, and no other one may have it.
    Unique,
    /// The entry is found by it, unless another one has it, too.
    Shared,
    /// The entry is not found by it. Never that of the first key.
    Unused,
}

/// The hash of a key, in the table that has told it.
#[derive(Clone, Copy)]
pub(crate) struct Hash(u32);

/// What a lookup found: the entry, and by which of its keys.
pub(crate) struct Hit<'g, K, V, const N: usize> {
    /// The entry.
    pub(crate) entry: &'g Entry<K, V, N>,
    /// The index of the key.
    pub(crate) index: u8,
}

/// The table.
///
/// # Invariants
///
/// - `current` is a `Buckets` from `KBox::into_raw` that the table owns, and so is its `future` if
///   that is not null. Either is freed only after a grace period since it could be reached.
/// - Every link leads to a node of an entry that the table owns, or is a marker.
/// - A chain changes under the lock of its stripe only.
pub(crate) struct Table<K: Key, V: Send + Sync + 'static, const N: usize> {
    current: Atomic<*mut Buckets<K>>,
    seed: Seed,
    stripes: KVec<Opaque<bindings::spinlock_t>>,
    count: Atomic<i64>,
    resizing: Atomic<i32>,
    _owns: PhantomData<KBox<Entry<K, V, N>>>,
}

// SAFETY: The table owns its entries, whose parts are `Send`.
unsafe impl<K: Key, V: Send + Sync + 'static, const N: usize> Send for Table<K, V, N> {}
// SAFETY: Shared access hands out `&V` at most; links are atomics and change under locks.
unsafe impl<K: Key, V: Send + Sync + 'static, const N: usize> Sync for Table<K, V, N> {}

/// Holds a stripe's lock; softirqs, which take it too, are off meanwhile.
struct Stripe<'a> {
    lock: &'a Opaque<bindings::spinlock_t>,
    _bh: &'a BhDisabled,
}

impl Drop for Stripe<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: The lock was taken when the guard was made.
        unsafe { bindings::rlvs_spin_unlock(self.lock.get()) };
    }
}

/// # Safety
///
/// `head` must be the `tail` of an `Entry` from `KBox::into_raw` that nobody uses any more.
unsafe extern "C" fn free_entry<K, V, const N: usize>(head: *mut bindings::callback_head) {
    let tail: *mut Tail<N> = head.cast();
    // SAFETY: By the contract of this function.
    drop(unsafe { KBox::from_raw(kernel::container_of!(tail, Entry<K, V, N>, tail)) });
}

impl<K: Key, V: Send + Sync + 'static, const N: usize> Table<K, V, N> {
    /// An empty table. Process context.
    pub(crate) fn new() -> Result<Self> {
        let mut stripes = KVec::with_capacity(STRIPES, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..STRIPES {
            stripes.push(Opaque::<bindings::spinlock_t>::zeroed(), GFP_KERNEL)?;
        }
        for stripe in &stripes {
            // SAFETY: The memory is ours and stays where it is; name and class are static.
            unsafe {
                bindings::__spin_lock_init(
                    stripe.get(),
                    c"rlvs_table".as_char_ptr(),
                    static_lock_class!().as_ptr(),
                );
            }
        }
        // INVARIANT: A fresh array holds only markers.
        Ok(Self {
            current: Atomic::new(KBox::into_raw(Buckets::new(STRIPES)?)),
            seed: Seed::random(),
            stripes,
            count: Atomic::new(0),
            resizing: Atomic::new(0),
            _owns: PhantomData,
        })
    }

    /// How many entries the table holds.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.count.load(Relaxed)).unwrap_or(0)
    }

    /// How many buckets the table has.
    pub(crate) fn buckets(&self, guard: &Guard) -> usize {
        self.current(guard).heads.len()
    }

    /// Does the table want another size, and which?
    ///
    /// It grows once there are more than 2 to the power of [`LFACTOR`] entries a bucket, and shrinks at
    /// an eighth of that.
    #[inline]
    pub(crate) fn wanted_buckets(&self, guard: &Guard) -> Option<usize> {
        let least = self.least_buckets();
        let buckets = self.buckets(guard);
        let wanted = least
            .saturating_mul(2)
            .clamp(STRIPES, MAX_BUCKETS)
            .next_power_of_two();
        if least > buckets || least.saturating_mul(8) < buckets {
            (wanted != buckets).then_some(wanted)
        } else {
            None
        }
    }

    /// Does it want to grow, while nobody is seeing to it?
    #[inline]
    pub(crate) fn is_crowded(&self, guard: &Guard) -> bool {
        let buckets = self.buckets(guard);
        self.least_buckets() > buckets && buckets < MAX_BUCKETS && self.resizing.load(Relaxed) == 0
    }

    /// How many buckets the entries need.
    #[inline]
    fn least_buckets(&self) -> usize {
        self.len().saturating_mul(1 << -LFACTOR)
    }

    #[inline]
    fn current<'g>(&'g self, _guard: &'g Guard) -> &'g Buckets<K> {
        // SAFETY: By the type invariants the array lives at least until the guard is gone.
        unsafe { &*self.current.load(Acquire) }
    }

    #[inline]
    fn future<'g>(buckets: &'g Buckets<K>, _guard: &'g Guard) -> Option<&'g Buckets<K>> {
        // SAFETY: By the type invariants the array lives at least until the guard is gone.
        unsafe { buckets.future.load(Acquire).as_ref() }
    }

    #[inline]
    fn lock<'a>(&'a self, hash: u32, bh: &'a BhDisabled) -> Stripe<'a> {
        // SAFETY: There are 2 to the power of `STRIPE_BITS` locks, and all are initialised.
        let lock = unsafe { self.stripes.get_unchecked(stripe_of(hash)) };
        // SAFETY: The lock is initialised, and no softirq that takes it can interrupt who holds it.
        unsafe { bindings::rlvs_spin_lock(lock.get()) };
        Stripe { lock, _bh: bh }
    }

    /// A keyed digest of bytes, wide enough to stand for them: strangers cannot choose two that are alike.
    pub(crate) fn digest(&self, bytes: &[u8]) -> u64 {
        let key = bindings::siphash_key_t {
            // CAST: Of the same width on the 64-bit machines we run on.
            key: self.seed.0.key.map(|word| word as u64),
        };
        // SAFETY: The bytes and the key are valid for the call, whatever their alignment.
        unsafe { bindings::__siphash_unaligned(bytes.as_ptr().cast(), bytes.len(), &raw const key) }
    }

    #[inline]
    fn hash(&self, key: &K) -> u32 {
        key.hash(&self.seed)
    }

    /// What the table knows a key by: who looks for it and puts it in if it is not there, has it hashed once.
    #[inline]
    pub(crate) fn hash_of(&self, key: &K) -> Hash {
        Hash(self.hash(key))
    }

    /// The entry that a target is part of.
    ///
    /// # Safety
    ///
    /// The target must have been found in this table.
    #[inline]
    unsafe fn entry_of(target: &Target<K>) -> NonNull<Entry<K, V, N>> {
        // SAFETY: `index` nodes before it the entry begins, `repr(C)`.
        unsafe { target.node.sub(usize::from(target.index)) }.cast()
    }

    /// Finds an entry by any of its keys.
    // Always: it is most of what a packet takes.
    #[inline(always)]
    pub(crate) fn find<'g>(&'g self, key: &K, guard: &'g Guard) -> Option<Hit<'g, K, V, N>> {
        self.find_hashed(key, self.hash_of(key), guard)
    }

    /// The same of a key whose hash is known.
    #[inline(always)]
    pub(crate) fn find_hashed<'g>(
        &'g self,
        key: &K,
        Hash(hash): Hash,
        guard: &'g Guard,
    ) -> Option<Hit<'g, K, V, N>> {
        self.look(hash, key, guard, |_| true)
    }

    /// Finds the entry for which `f` says so, of those that have a [shared](Role::Shared) key in common.
    pub(crate) fn find_where<'g>(
        &'g self,
        key: &K,
        guard: &'g Guard,
        f: impl Fn(&Entry<K, V, N>) -> bool,
    ) -> Option<Hit<'g, K, V, N>> {
        self.look(key.hash(&self.seed), key, guard, |target| {
            // SAFETY: A target is a node of ours, which under the guard is not freed.
            f(unsafe { Self::entry_of(target).as_ref() })
        })
    }

    #[inline(always)]
    fn look<'g>(
        &'g self,
        hash: u32,
        key: &K,
        guard: &'g Guard,
        f: impl Fn(&Target<K>) -> bool,
    ) -> Option<Hit<'g, K, V, N>> {
        let mut buckets = self.current(guard);
        loop {
            // SAFETY: `guard` is the RCU read lock.
            match unsafe { buckets.search(hash, key, &f) } {
                Search::Found(target) => {
                    return Some(Hit {
                        // SAFETY: By the type invariants the target is one of ours, and under the
                        // guard it lives.
                        entry: unsafe { Self::entry_of(&target).as_ref() },
                        index: target.index,
                    });
                }
                Search::Missing => buckets = Self::future(buckets, guard)?,
                Search::Strayed => buckets = self.current(guard),
            }
        }
    }

    /// Puts an entry into the table, last key first. `Err` gives the index of the key that should be
    /// unique and that another entry has; then nothing was changed. Any context.
    pub(crate) fn insert<'g>(
        &'g self,
        entry: KBox<Entry<K, V, N>>,
        roles: [Role; N],
        guard: &'g Guard,
    ) -> Result<&'g Entry<K, V, N>, usize> {
        let entry = NonNull::from(KBox::leak(entry));
        // SAFETY: The entry is ours; from here on it is shared and freed by RCU only.
        let shared: &'g Entry<K, V, N> = unsafe { entry.as_ref() };
        let bh = BhDisabled::new();
        for index in (0..N).rev() {
            let (Some(node), Some(&role)) = (shared.nodes.get(index), roles.get(index)) else {
                continue;
            };
            if role == Role::Unused {
                continue;
            }
            // SAFETY: Nobody takes out what is not `linked`, so it is not freed before this returns.
            let Some(kept) = unsafe { shared.hashes() }.get(index) else {
                continue;
            };
            let hash = match kept.load(Relaxed) {
                0 => self.hash(&node.key),
                known => known,
            };
            kept.store(hash, Relaxed);
            if !self.link(node, hash, index, role == Role::Unique, &bh, guard) {
                for (index, node) in shared.nodes.iter().enumerate().skip(index.wrapping_add(1)) {
                    // SAFETY: As above.
                    let hash = unsafe { shared.hash(index) };
                    self.unlink(node, hash, &bh, guard);
                }
                // SAFETY: No link leads to the entry any more.
                unsafe { Self::free_later(entry) };
                return Err(index);
            }
        }
        self.count.add(1, Relaxed);
        shared.linked.store(1, Release);
        Ok(shared)
    }

    /// Takes an entry out; it is freed after a grace period. True for the one caller who did it, false for one of
    /// another table.
    pub(crate) fn remove(&self, entry: &Entry<K, V, N>, guard: &Guard) -> bool {
        if entry.linked.xchg(0, Full) == 0 {
            return false;
        }
        let bh = BhDisabled::new();
        for (index, node) in entry.nodes.iter().enumerate() {
            // SAFETY: Who has turned `linked` is the only one to free it.
            let hash = unsafe { entry.hash(index) };
            let is_ours = self.unlink(node, hash, &bh, guard);
            if index == 0 && !is_ours {
                entry.linked.store(1, Release);
                return false;
            }
        }
        self.count.fetch_sub(1, Relaxed);
        // SAFETY: The first key is always in use, so it was in this table, and no link leads to the entry now.
        unsafe { Self::free_later(NonNull::from(entry)) };
        true
    }

    /// # Safety
    ///
    /// The entry is the table's, nobody else frees it, and no link leads to it.
    unsafe fn free_later(entry: NonNull<Entry<K, V, N>>) {
        // SAFETY: By the contract of this function; the callback's text stays until the module's
        // `BarrierOnDrop`.
        unsafe {
            // INVARIANT: From here on the tail is the kernel's.
            let tail = &raw mut (*entry.as_ptr()).tail;
            bindings::call_rcu(tail.cast(), Some(free_entry::<K, V, N>));
        }
    }

    /// Links a node at the head of its chain in the newest array; false if it should be unique and
    /// is not.
    #[inline]
    fn link(
        &self,
        node: &Node<K>,
        hash: u32,
        index: usize,
        unique: bool,
        bh: &BhDisabled,
        guard: &Guard,
    ) -> bool {
        let _stripe = self.lock(hash, bh);
        let mut buckets = self.current(guard);
        loop {
            // SAFETY: We hold the stripe of `hash`.
            let search = || unsafe { buckets.search(hash, &node.key, |_| true) };
            if unique && matches!(search(), Search::Found(_)) {
                return false;
            }
            match Self::future(buckets, guard) {
                Some(future) => buckets = future,
                None => break,
            }
        }
        let head = buckets.head(hash);
        node.next.store(head.load(Relaxed), Relaxed);
        // INVARIANT: The node is one of an entry that the table owns.
        head.store(Target::link(node, index), Release);
        true
    }

    /// Cuts a node out of its chain, if it is in one of this table. The node keeps its own link for readers
    /// that stand on it.
    fn unlink(&self, node: &Node<K>, hash: u32, bh: &BhDisabled, guard: &Guard) -> bool {
        if node.next.load(Relaxed).is_null() {
            // A chain ends in a marker: this node was never in one.
            return false;
        }
        let _stripe = self.lock(hash, bh);
        let mut buckets = Some(self.current(guard));
        while let Some(array) = buckets {
            let mut link = array.head(hash);
            while let Some(target) = Target::of(link.load(Relaxed)) {
                if ptr::eq(target.node.as_ptr(), node) {
                    link.store(node.next.load(Relaxed), Release);
                    return true;
                }
                // SAFETY: By the type invariants it is a node; the stripe keeps it linked.
                link = unsafe { &(*target.node.as_ptr()).next };
            }
            buckets = Self::future(array, guard);
        }
        false
    }
}

impl<K: Key, V: Send + Sync + 'static, const N: usize> Drop for Table<K, V, N> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, and `&mut self` says that nobody else uses the table; a
        // resize would borrow it.
        let buckets = unsafe { KBox::from_raw(self.current.load(Relaxed)) };
        // An entry has nodes in several chains, and none may be looked at after the entry is gone:
        // first keep one node of each entry, then free.
        for head in &buckets.heads {
            let mut link = head.load(Relaxed);
            let mut kept = marker(head);
            while let Some(target) = Target::of(link) {
                // SAFETY: By the type invariants it is a node of ours; nothing was freed yet.
                let node = unsafe { target.node.as_ref() };
                let next = node.next.load(Relaxed);
                if target.index == 0 {
                    node.next.store(kept, Relaxed);
                    kept = link;
                }
                link = next;
            }
            head.store(kept, Relaxed);
        }
        for head in &buckets.heads {
            let mut link = head.load(Relaxed);
            while let Some(target) = Target::of(link) {
                // SAFETY: By the type invariants it is a node of ours, the only one left of its
                // entry, which came from a `KBox`.
                unsafe {
                    link = target.node.as_ref().next.load(Relaxed);
                    drop(KBox::from_raw(Self::entry_of(&target).as_ptr()));
                    bindings::rlvs_cond_resched_in_task();
                }
            }
        }
    }
}
