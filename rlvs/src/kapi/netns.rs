// SPDX-License-Identifier: GPL-2.0

//! Network namespaces, and a module's state in each of them.
//!
//! C headers: [`include/net/net_namespace.h`](srctree/include/net/net_namespace.h),
//! [`include/net/netns/generic.h`](srctree/include/net/netns/generic.h)

use super::bindings;
use core::{
    marker::PhantomData,
    pin::Pin, //
};
use kernel::{
    error::{
        from_result,
        to_result, //
    },
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Relaxed,
        Release, //
    },
    types::Opaque, //
};

/// A network namespace (`struct net`), borrowed from somebody who keeps it alive.
#[repr(transparent)]
pub(crate) struct Net(Opaque<bindings::net>);

// SAFETY: The kernel serialises what it does with a namespace.
unsafe impl Sync for Net {}

impl Net {
    /// # Safety
    ///
    /// `net` must be valid for `'a`.
    pub(super) unsafe fn from_raw<'a>(net: *const bindings::net) -> &'a Self {
        // SAFETY: By the contract of this function; `Net` is transparent.
        unsafe { &*net.cast() }
    }

    /// The first namespace, which is always there.
    pub(crate) fn first() -> &'static Self {
        // SAFETY: `init_net` is never freed.
        unsafe { Self::from_raw(&raw const bindings::init_net) }
    }

    /// The C object.
    pub(super) fn as_ptr(&self) -> *mut bindings::net {
        self.0.get()
    }
}

/// State that exists once in every namespace while its [`Registration`] lives.
pub(crate) trait PerNet: Sized + Send + Sync + 'static {
    /// The subsystem that the state belongs to.
    const SUBSYS: &'static Subsys<Self>;

    /// Makes the state of a namespace. Process context.
    fn new(net: &Net) -> impl PinInit<Self, Error>;

    /// The state is in its place and can be found.
    fn ready(self: Pin<&Self>, _net: &Net) {}

    /// The namespace is going away: take down whatever could still find the state. After this and
    /// a grace period it is dropped. Process context.
    fn pre_exit(self: Pin<&Self>, net: &Net);

    /// Nobody can find the state any more; it is dropped next. Process context.
    fn exit(self: Pin<&Self>, _net: &Net) {}

    /// The state of a namespace; `None` before it was made and where there is none.
    #[inline]
    fn of(net: &Net) -> Option<&Self> {
        Self::SUBSYS.of(net)
    }
}

/// What the kernel allocates for each namespace, zeroed.
#[repr(C)]
struct Slot<T> {
    ready: Atomic<i32>,
    state: Opaque<T>,
}

/// A pernet subsystem, for a static.
///
/// # Invariants
///
/// `id` is 0 or the `net_generic()` number of slots of type `Slot<T>`.
pub(crate) struct Subsys<T> {
    id: Atomic<u32>,
    ops: Opaque<bindings::pernet_operations>,
    _state: PhantomData<T>,
}

// SAFETY: `ops` is the kernel's once registered and not touched by us; `id` is atomic.
unsafe impl<T: PerNet> Sync for Subsys<T> {}

/// A registered subsystem; dropping it ends the state of every namespace.
pub(crate) struct Registration<T: PerNet>(PhantomData<T>);

impl<T: PerNet> Subsys<T> {
    /// A subsystem that is not registered yet.
    pub(crate) const fn new() -> Self {
        // INVARIANT: 0 is allowed.
        Self {
            id: Atomic::new(0),
            ops: Opaque::zeroed(),
            _state: PhantomData,
        }
    }

    /// Makes the state of every namespace there is and will be. Once at a time.
    pub(crate) fn register(&'static self) -> Result<Registration<T>> {
        const { assert!(align_of::<Slot<T>>() <= 8) };
        let ops = bindings::pernet_operations {
            init: Some(Self::init),
            pre_exit: Some(Self::pre_exit),
            exit: Some(Self::exit),
            id: self.id.as_ptr(),
            size: size_of::<Slot<T>>(),
            ..Default::default()
        };
        // SAFETY: Nobody uses `ops` before it is registered, which happens once at a time.
        unsafe { self.ops.get().write(ops) };
        // SAFETY: `ops` is static and filled in.
        // INVARIANT: The call stores the number of slots of the size given.
        to_result(unsafe { bindings::register_pernet_subsys(self.ops.get()) })?;
        Ok(Registration(PhantomData))
    }

    #[inline]
    fn slot<'a>(&self, net: &'a Net) -> Option<&'a Slot<T>> {
        // SAFETY: The namespace is valid; the helper checks the number. By the type invariants the
        // memory holds a `Slot<T>`, zeroed or initialised, until the namespace is gone.
        unsafe {
            bindings::rlvs_net_generic(net.as_ptr(), self.id.load(Relaxed))
                .cast::<Slot<T>>()
                .as_ref()
        }
    }

    #[inline]
    fn of<'a>(&self, net: &'a Net) -> Option<&'a T> {
        let slot = self.slot(net)?;
        if slot.ready.load(Acquire) == 0 {
            return None;
        }
        // SAFETY: `ready` says that it is initialised. It ends only with the namespace, after
        // `pre_exit` and a grace period: who may still come here holds a reference or is in one.
        Some(unsafe { &*slot.state.get() })
    }

    /// # Safety
    ///
    /// Called by the pernet core for a namespace whose slot is allocated.
    unsafe extern "C" fn init(net: *mut bindings::net) -> kernel::ffi::c_int {
        // SAFETY: The core passes a valid namespace.
        let net = unsafe { Net::from_raw(net) };
        from_result(|| {
            let slot = T::SUBSYS.slot(net).ok_or(ENOENT)?;
            // SAFETY: The slot is ours, pinned, and nobody looks at it while `ready` is 0.
            unsafe {
                pin_init::raw_try_init(slot.state.get(), T::new(net))?;
            }
            slot.ready.store(1, Release);
            // SAFETY: The state lies in the slot until it is dropped there.
            unsafe { Pin::new_unchecked(&*slot.state.get()) }.ready(net);
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the pernet core for a namespace that is going away.
    unsafe extern "C" fn pre_exit(net: *mut bindings::net) {
        // SAFETY: The core passes a valid namespace.
        let net = unsafe { Net::from_raw(net) };
        if let Some(state) = T::SUBSYS.of(net) {
            // SAFETY: The state lies in the slot until it is dropped there.
            unsafe { Pin::new_unchecked(state) }.pre_exit(net);
        }
    }

    /// # Safety
    ///
    /// Called by the pernet core a grace period after `pre_exit`, before it frees the slot.
    unsafe extern "C" fn exit(net: *mut bindings::net) {
        // SAFETY: The core passes a valid namespace.
        let net = unsafe { Net::from_raw(net) };
        if let Some(slot) = T::SUBSYS.slot(net) {
            if slot.ready.xchg(0, kernel::sync::atomic::Full) != 0 {
                // SAFETY: It is initialised, and lies in the slot until it is dropped there.
                unsafe { Pin::new_unchecked(&*slot.state.get()) }.exit(net);
                // SAFETY: It is initialised, and by the contract of `pre_exit` nobody finds it any
                // more.
                unsafe { slot.state.get().drop_in_place() };
            }
        }
    }
}

impl<T: PerNet> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: The object exists, so the subsystem is registered.
        unsafe { bindings::unregister_pernet_subsys(T::SUBSYS.ops.get()) };
    }
}
