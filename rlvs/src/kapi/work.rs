// SPDX-License-Identifier: GPL-2.0

//! Delayed work that can be stopped.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use super::{
    bindings,
    netns::{
        Net,
        PerNet, //
    }, //
};
use core::{
    marker::PhantomPinned,
    pin::Pin,
    ptr, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Relaxed,
        Release, //
    },
    types::Opaque,
    warn_on, //
};

/// What a [`DelayedWork`] does, for the state of a namespace that it is a field of.
pub(crate) trait Deferred: PerNet + Sync {
    /// Runs in process context, never twice at a time for one work.
    fn run(&self, net: &Net);
}

/// A delayed work embedded in the `T` that it works for.
///
/// It is stopped for good when it is dropped, or earlier by [`stop`](Self::stop).
///
/// # Invariants
///
/// `owner` is null or points to the `T` that this object is a field of; then `net` points to the
/// namespace whose state that is.
#[pin_data(PinnedDrop)]
pub(crate) struct DelayedWork<T: Deferred> {
    #[pin]
    work: Opaque<bindings::delayed_work>,
    owner: Atomic<*const T>,
    net: Atomic<*const Net>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: The workqueue takes works on any CPU, and `T` may be used from there.
unsafe impl<T: Deferred> Send for DelayedWork<T> {}
// SAFETY: Queueing is safe at any time from anywhere; `T` is `Sync`.
unsafe impl<T: Deferred> Sync for DelayedWork<T> {}

impl<T: Deferred> DelayedWork<T> {
    /// A work that nobody owns yet: it cannot be queued.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            work <- Opaque::ffi_init(|work| {
                // SAFETY: `work` is valid for writes and pinned.
                unsafe { bindings::rlvs_delayed_work_init(work, Some(Self::trampoline)) }
            }),
            owner: Atomic::new(ptr::null()),
            net: Atomic::new(ptr::null()),
            _pin: PhantomPinned,
        })
    }

    /// Says whom the work is for: the pinned state that holds it, and its namespace. For anybody else it
    /// warns and stays unbound: such a work never runs.
    pub(crate) fn bind(&self, owner: Pin<&T>, net: &Net) {
        let owner = ptr::from_ref(owner.get_ref());
        let offset = ptr::from_ref(self).addr().wrapping_sub(owner.addr());
        if warn_on!(
            offset > size_of::<T>().saturating_sub(size_of::<Self>())
                || !T::of(net).is_some_and(|state| ptr::eq(state, owner))
        ) {
            return;
        }
        self.net.store(net, Relaxed);
        // INVARIANT: We lie within the owner. It is pinned, so it is not moved away from around
        // us, and it is not freed before our drop has run.
        self.owner.store(owner, Release);
    }

    /// Has the work run in `delay` jiffies, unless it is queued already. Any context.
    pub(crate) fn queue(&self, delay: usize) {
        if !self.owner.load(Relaxed).is_null() {
            // SAFETY: The work is initialised; queueing a stopped one does nothing.
            unsafe { bindings::rlvs_delayed_work_queue(self.work.get(), delay) };
        }
    }

    /// Has the work run at once, even if it is queued for later. Any context.
    pub(crate) fn kick(&self) {
        if !self.owner.load(Relaxed).is_null() {
            // SAFETY: As above.
            unsafe { bindings::rlvs_delayed_work_kick(self.work.get()) };
        }
    }

    /// Waits for a run in progress; there is none after it. Sleeps.
    pub(crate) fn stop(&self) {
        // SAFETY: The work is initialised; process context.
        unsafe { bindings::disable_delayed_work_sync(self.work.get()) };
    }

    /// # Safety
    ///
    /// `work` is the `delayed_work.work` of a bound `DelayedWork<T>`.
    unsafe extern "C" fn trampoline(work: *mut bindings::work_struct) {
        // SAFETY: By the contract of this function; `Opaque` is transparent.
        let this = unsafe {
            let work: *mut bindings::delayed_work =
                kernel::container_of!(work, bindings::delayed_work, work);
            &*kernel::container_of!(work.cast::<Opaque<bindings::delayed_work>>(), Self, work)
        };
        // SAFETY: By the type invariants, and the owner outlives us: our drop waits for this run.
        if let Some(owner) = unsafe { this.owner.load(Acquire).as_ref() } {
            // SAFETY: By the type invariants; the namespace outlives its state.
            if let Some(net) = unsafe { this.net.load(Relaxed).as_ref() } {
                owner.run(net);
            }
        }
    }
}

#[pinned_drop]
impl<T: Deferred> PinnedDrop for DelayedWork<T> {
    fn drop(self: Pin<&mut Self>) {
        self.stop();
    }
}
