// SPDX-License-Identifier: GPL-2.0

//! Routes, and a per-CPU cache of them.
//!
//! C headers: [`include/net/dst.h`](srctree/include/net/dst.h),
//! [`include/net/route.h`](srctree/include/net/route.h),
//! [`include/net/ip6_route.h`](srctree/include/net/ip6_route.h)

use super::{
    bh::BhDisabled,
    bindings,
    family::Inet,
    netns::Net,
    percpu::{
        self,
        PerCpu, //
    }, //
};
use core::{
    marker::PhantomData,
    mem,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        rcu::Guard, //
    },
    types::Opaque, //
};

/// A route of a family (`struct dst_entry`), borrowed under RCU.
#[repr(transparent)]
pub(crate) struct Dst<A>(Opaque<bindings::dst_entry>, PhantomData<A>);

impl<A: Inet> Dst<A> {
    pub(super) fn as_ptr(&self) -> *mut bindings::dst_entry {
        self.0.get()
    }

    /// The longest packet that the route takes.
    #[inline]
    pub(crate) fn mtu(&self) -> u32 {
        // SAFETY: A borrowed route is valid.
        unsafe { bindings::rlvs_dst_mtu(self.as_ptr()) }
    }

    /// Does the route lead to this host itself?
    #[inline]
    pub(crate) fn is_local(&self) -> bool {
        // SAFETY: A borrowed route is valid.
        unsafe { A::is_local(self.as_ptr()) }
    }

    /// How much room the device wants before the network header.
    pub(super) fn headroom(&self) -> u32 {
        // SAFETY: A borrowed route is valid.
        unsafe { bindings::rlvs_dst_headroom(self.as_ptr()) }
    }
}

/// # Invariants
///
/// `dst` is null or a route that the slot holds a reference to.
#[derive(Zeroable)]
struct Slot<R> {
    dst: *mut bindings::dst_entry,
    daddr: R,
    saddr: R,
    cookie: u32,
    purpose: u32,
}

/// Of `Slot::purpose`: for packets from `saddr`, which may be unspecified.
const PACKETS: u32 = 0;
/// For packets to a neighbour, whatever their destination is.
const NEXT_HOP: u32 = 1;
/// For packets that this host makes, which get the source `saddr`.
const TUNNEL: u32 = 2;

// SAFETY: A reference to a route may be dropped on any CPU.
unsafe impl<R: Send> Send for Slot<R> {}

impl<R: Copy + Eq> Slot<R> {
    /// The route for a purpose, its source and its cookie, if the slot at the place of `hash` has it.
    #[inline(always)]
    fn find<const PURPOSE: u32>(
        slots: &mut KVVec<Self>,
        (hash, daddr, saddr): (u64, R, R),
    ) -> Option<(NonNull<bindings::dst_entry>, R, u32)> {
        let slot = slots.get(place(hash, slots.len()))?;
        let same = slot.daddr == daddr
            && slot.purpose == PURPOSE
            && (PURPOSE == TUNNEL || slot.saddr == saddr);
        match NonNull::new(slot.dst) {
            Some(dst) if same => Some((dst, slot.saddr, slot.cookie)),
            _ => None,
        }
    }
}

impl<R> Slot<R> {
    /// Fills the slot at the place of `hash`; false if there is none.
    fn put(slots: &mut KVVec<Self>, (hash, slot): (u64, Self)) -> bool {
        let at = place(hash, slots.len());
        let kept = slots.get_mut(at).map(|place| *place = slot);
        kept.is_some()
    }

    fn release(&mut self) {
        let dst = mem::replace(&mut self.dst, ptr::null_mut());
        if !dst.is_null() {
            // SAFETY: By the type invariants the reference is ours, and it is gone from the slot.
            unsafe { bindings::rlvs_dst_release(dst) };
        }
    }
}

/// Spreads flows over slots.
#[inline(always)]
fn hash(spread: u32) -> u64 {
    // Fibonacci hashing: the upper bits of a product with 2^32 / phi spread neighbours best.
    spread.wrapping_mul(0x9e37_79b1).into()
}

/// The place of a hash among so many slots.
#[inline(always)]
fn place(hash: u64, len: usize) -> usize {
    // CAST: Below `len`.
    (hash.wrapping_mul(len as u64) >> u32::BITS) as usize
}

impl<R> Drop for Slot<R> {
    fn drop(&mut self) {
        self.release();
    }
}

/// Remembers the routes of the flows of a family, on each CPU for itself.
///
/// It begins without [room](Self::resize) for any, and as long as it has none it finds none either.
///
/// A route that the kernel has given up is noticed when it is used next, and looked up again. But a device
/// may have to wait for a route that nobody uses: when one goes, the cache must be [emptied](Self::clear).
pub(crate) struct RouteCache<A: Inet> {
    slots: PerCpu<KVVec<Slot<A::Raw>>>,
    /// How many slots each CPU has.
    len: Atomic<usize>,
    /// There may be a route in it.
    used: Atomic<bool>,
}

impl<A: Inet> RouteCache<A> {
    /// An empty cache. Process context.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            slots: PerCpu::new(KVVec::new)?,
            len: Atomic::new(0),
            used: Atomic::new(false),
        })
    }

    /// Gives up all routes. Process context.
    ///
    /// IPv6 clones a route to a neighbour, and the clone keeps the device of its original for as long as it
    /// exists, whatever becomes of the device.
    pub(crate) fn clear(&self) {
        // Who sets it again while we are at it does so on a CPU that is visited later, or has been: what
        // is in the slots then is younger than this.
        if self.used.xchg(false, Full) {
            self.slots
                .for_each(|slots| slots.iter_mut().for_each(Slot::release));
        }
    }

    /// How many routes each CPU has room for.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Makes room for so many routes on each CPU, and gives up those that are there. Process context, one
    /// caller at a time.
    pub(crate) fn resize(&self, len: usize) -> Result {
        let mut spare = KVec::new();
        for _ in 0..percpu::possible_cpus() {
            spare.push(KVVec::zeroed(len, GFP_KERNEL_ACCOUNT)?, GFP_KERNEL)?;
        }
        let mut spares = spare.iter_mut();
        self.slots.for_each(|slots| {
            if let Some(spare) = spares.next() {
                mem::swap(slots, spare);
            }
        });
        self.len.store(len, Relaxed);
        Ok(())
    }

    /// The route of packets to `daddr` from `saddr` (unspecified: whichever the kernel would take);
    /// `None` if there is none. `spread` tells flows apart: the addresses, in any way folded. Any
    /// context but hard interrupts.
    #[inline(always)]
    pub(crate) fn find<'g>(
        &self,
        net: &Net,
        daddr: A,
        saddr: A,
        spread: u32,
        bh: &BhDisabled,
        guard: &'g Guard,
    ) -> Option<&'g Dst<A>> {
        let key = (daddr.raw(), saddr.raw());
        self.look::<PACKETS>(net, key, spread, bh, guard)
            .map(|(dst, _)| dst)
    }

    /// The route of packets to the neighbour `daddr`, whatever their destination is.
    #[inline(always)]
    pub(crate) fn next_hop<'g>(
        &self,
        net: &Net,
        daddr: A,
        spread: u32,
        bh: &BhDisabled,
        guard: &'g Guard,
    ) -> Option<&'g Dst<A>> {
        let key = (daddr.raw(), Zeroable::zeroed());
        self.look::<NEXT_HOP>(net, key, spread, bh, guard)
            .map(|(dst, _)| dst)
    }

    /// The route of packets that this host makes for `daddr`, and their source.
    #[inline]
    pub(crate) fn tunnel<'g>(
        &self,
        net: &Net,
        daddr: A,
        spread: u32,
        bh: &BhDisabled,
        guard: &'g Guard,
    ) -> Option<(&'g Dst<A>, A)> {
        let key = (daddr.raw(), Zeroable::zeroed());
        self.look::<TUNNEL>(net, key, spread, bh, guard)
            .map(|(dst, saddr)| (dst, A::from_raw(saddr)))
    }

    /// The route and its source.
    #[inline(always)]
    fn look<'g, const PURPOSE: u32>(
        &self,
        net: &Net,
        (daddr, saddr): (A::Raw, A::Raw),
        spread: u32,
        bh: &BhDisabled,
        _guard: &'g Guard,
    ) -> Option<(&'g Dst<A>, A::Raw)> {
        let hash = hash(spread);
        // SAFETY: Looking at slots leads nowhere.
        let kept = unsafe {
            self.slots
                .with(bh, (hash, daddr, saddr), Slot::find::<PURPOSE>)
        };
        let kept = kept.filter(|&(dst, _, cookie)| {
            // SAFETY: By the type invariants of `Slot` the route is valid, and with softirqs off the slot stays
            // as it is.
            unsafe { bindings::rlvs_dst_valid(dst.as_ptr(), cookie) }
        });
        let (dst, saddr) = match kept {
            Some((dst, saddr, _)) => (dst, saddr),
            None => self.fetch::<PURPOSE>(net, hash, (daddr, saddr), bh)?,
        };
        // SAFETY: The slot's reference keeps it now; should the slot drop it, the route is freed
        // a grace period later only, which the guard holds off. `Dst` is transparent.
        Some((unsafe { dst.cast::<Dst<A>>().as_ref() }, saddr))
    }

    /// Looks a route up for its slot.
    #[inline(never)]
    fn fetch<const PURPOSE: u32>(
        &self,
        net: &Net,
        hash: u64,
        (daddr, mut saddr): (A::Raw, A::Raw),
        bh: &BhDisabled,
    ) -> Option<(NonNull<bindings::dst_entry>, A::Raw)> {
        // SAFETY: The namespace is valid.
        let dst = NonNull::new(unsafe {
            match PURPOSE {
                NEXT_HOP => A::route_next_hop(net.as_ptr(), &daddr),
                TUNNEL => A::route_tunnel(net.as_ptr(), &daddr, &mut saddr),
                _ => A::route(net.as_ptr(), &daddr, &saddr),
            }
        })?;
        // INVARIANT: The call gave us a reference.
        let slot = Slot {
            dst: dst.as_ptr(),
            daddr,
            saddr,
            // SAFETY: The route is valid, and of the family.
            cookie: unsafe { A::cookie(dst.as_ptr()) },
            purpose: PURPOSE,
        };
        if !self.used.load(Relaxed) {
            self.used.store(true, Relaxed);
        }
        // SAFETY: Filling a slot leads nowhere, nor does giving up the route that was there.
        let is_kept = unsafe { self.slots.with(bh, (hash, slot), Slot::put) };
        is_kept.then_some((dst, saddr))
    }
}
