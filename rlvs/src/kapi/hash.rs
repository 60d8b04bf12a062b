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

use super::{
    bh::BhDisabled, //
    bindings,
};
use core::{
    marker::PhantomData,
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
        rcu::{
            synchronize_rcu,
            Guard, //
        }, //
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
/// Buckets that a resize moves under one lock.
const MOVE_BATCH: usize = 32;

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

/// A link of a chain: a [`Target`], or odd, the address of the bucket whose chain ends here.
type Link<K> = Atomic<*mut Node<K>>;

#[repr(C)]
struct Node<K> {
    next: Link<K>,
    key: K,
}

/// Where a link leads: to a node of an entry. Which one of its entry's nodes it is stands in the
/// low bits of the link, above the one that marks the end of a chain.
///
/// # Invariants
///
/// The pointer is aligned, and `index` is below 4 and the node's place in its entry.
struct Target<K> {
    node: NonNull<Node<K>>,
    index: u8,
}

impl<K> Target<K> {
    /// The link's target; `None` at the end of a chain.
    #[inline]
    fn of(link: *mut Node<K>) -> Option<Self> {
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
    fn link(node: &Node<K>, index: usize) -> *mut Node<K> {
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
    nodes: [Node<K>; N],
    value: V,
    /// 1 while the entry is in the table; whoever turns it to 0 takes the entry out.
    linked: Atomic<i32>,
    tail: Tail<N>,
}

/// Of a connection 8 bytes matter: with them it would take a third cache line.
#[repr(C)]
union Tail<const N: usize> {
    /// Of the keys, in the table that it was put into: a resize would else compute them all again.
    hashes: ManuallyDrop<[Atomic<u32>; N]>,
    rcu: ManuallyDrop<Opaque<bindings::callback_head>>,
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
    unsafe fn hashes(&self) -> &[Atomic<u32>; N] {
        // SAFETY: By the type invariants: `free_later` gets what no link leads to.
        unsafe { &self.tail.hashes }
    }

    /// The hash of the key with that index.
    ///
    /// # Safety
    ///
    /// As for [`hashes`](Self::hashes).
    #[inline]
    unsafe fn hash(&self, index: usize) -> u32 {
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

/// An array of buckets.
///
/// # Invariants
///
/// `heads.len()` is 2 to the power of `HASH_BITS - shift`, and `shift` at most
/// `HASH_BITS - STRIPE_BITS`.
struct Buckets<K> {
    /// Bits of the hash behind those that choose a bucket.
    shift: u32,
    /// The array that the table is moving to, if it is.
    future: Atomic<*mut Buckets<K>>,
    heads: KVVec<Link<K>>,
}

enum Search<K> {
    Found(Target<K>),
    Missing,
    /// A node moved under us and led to another bucket.
    Strayed,
}

#[inline]
fn marker<K>(head: *const Link<K>) -> *mut Node<K> {
    // A head is aligned, so this sets the last bit.
    ptr::without_provenance_mut(head.addr().wrapping_add(1))
}

impl<K: Key> Buckets<K> {
    fn new(len: usize) -> Result<KBox<Self>> {
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
    fn head(&self, hash: u32) -> &Link<K> {
        // SAFETY: By the type invariants the index is below the length.
        // CAST: u32 to usize on the 64-bit machines we run on.
        unsafe { self.heads.get_unchecked((hash >> self.shift) as usize) }
    }

    /// The first hash of a hash's bucket.
    fn start(&self, hash: u32) -> u32 {
        hash & u32::MAX.wrapping_shl(self.shift)
    }

    /// The first hash of the bucket after a hash's; `None` behind the last.
    fn after(&self, hash: u32) -> Option<u32> {
        self.start(hash).checked_add(1u32.wrapping_shl(self.shift))
    }

    /// Looks for a key in the chain of its hash, of a node for which `f` says so.
    ///
    /// # Safety
    ///
    /// The caller holds the RCU read lock or the stripe of `hash`.
    #[inline]
    unsafe fn search(&self, hash: u32, key: &K, f: impl Fn(&Target<K>) -> bool) -> Search<K> {
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

    /// Takes out the entries of a number of buckets for which `f` says so, tells `removed` of each, and returns
    /// the cursor for the next call, `None` at the end; starts at 0. Locks nothing to look: what is put in or moved meanwhile may be
    /// missed. What a cursor is, see [`scan`](Self::scan).
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
        // First reachable in the new array, then cut off the old: see the top of this file.
        node.next.store(target.load(Relaxed), Release);
        target.store(moved, Release);
        link.store(marker(head), Release);
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
