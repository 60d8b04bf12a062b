// SPDX-License-Identifier: GPL-2.0

//! RCU-protected pointers.
//!
//! A [`RcuPtr`] publishes an immutable value; readers borrow it for as long as they hold a
//! [`Guard`]. A writer replaces it and gets the old value back as an [`RcuBox`], which is freed when
//! the last reader is gone. Writers are serialised by the owner of the pointer.
//!
//! C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)

use super::bindings;
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Deref,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full, //
        },
        rcu::{
            rcu_barrier,
            Guard, //
        }, //
    },
    types::Opaque, //
};

/// Waits for all RCU callbacks of this module when it is dropped.
///
/// The callbacks are text of the module: this must be the last thing that goes at unload.
pub(crate) struct BarrierOnDrop;

impl Drop for BarrierOnDrop {
    fn drop(&mut self) {
        rcu_barrier();
    }
}

#[repr(C)]
struct Inner<T> {
    head: Opaque<bindings::callback_head>,
    value: T,
}

/// An owned value that readers may still be using: it is freed a grace period after its drop.
///
/// # Invariants
///
/// The pointer comes from `KBox::into_raw` and nobody else will free it.
pub(crate) struct RcuBox<T: Send + Sync + 'static>(NonNull<Inner<T>>);

// SAFETY: The box owns its `T`; `T` is `Send`, and its drop may run on any CPU.
unsafe impl<T: Send + Sync + 'static> Send for RcuBox<T> {}
// SAFETY: A shared box gives out `&T` at most, and `T` is `Sync`.
unsafe impl<T: Send + Sync + 'static> Sync for RcuBox<T> {}

impl<T: Send + Sync + 'static> RcuBox<T> {
    /// Allocates memory for `value` and moves it there. Process context.
    pub(crate) fn new(value: T) -> Result<Self> {
        let inner = KBox::new(
            Inner {
                head: Opaque::zeroed(),
                value,
            },
            GFP_KERNEL,
        )?;
        // INVARIANT: The pointer comes from `KBox::into_raw` and is kept nowhere else.
        Ok(Self(NonNull::from(KBox::leak(inner))))
    }
}

impl<T: Send + Sync + 'static> Deref for RcuBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariants the memory is not freed before we are dropped.
        unsafe { &self.0.as_ref().value }
    }
}

/// # Safety
///
/// `head` must be the first field of an `Inner<T>` from `KBox::into_raw` that nobody uses any more.
unsafe extern "C" fn free_inner<T>(head: *mut bindings::callback_head) {
    // SAFETY: By the contract of this function. `head` is the first field of a `repr(C)` struct.
    drop(unsafe { KBox::from_raw(head.cast::<Inner<T>>()) });
}

impl<T: Send + Sync + 'static> Drop for RcuBox<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the memory is ours until the callback frees it, and the
        // head is not queued yet. `BarrierOnDrop` keeps the callback's text in place.
        unsafe {
            bindings::call_rcu(
                Opaque::cast_into(&raw const (*self.0.as_ptr()).head),
                Some(free_inner::<T>),
            );
        }
    }
}

/// A pointer that readers follow under RCU.
///
/// # Invariants
///
/// The pointer is null or comes from an [`RcuBox`] whose ownership was moved into `self`.
pub(crate) struct RcuPtr<T: Send + Sync + 'static> {
    ptr: Atomic<*mut Inner<T>>,
    _owns: PhantomData<RcuBox<T>>,
}

impl<T: Send + Sync + 'static> RcuPtr<T> {
    /// A pointer to nothing.
    pub(crate) fn null() -> Self {
        // INVARIANT: Null is allowed.
        Self {
            ptr: Atomic::new(ptr::null_mut()),
            _owns: PhantomData,
        }
    }

    /// A pointer that owns `value`.
    pub(crate) fn new(value: RcuBox<T>) -> Self {
        let this = Self::null();
        drop(this.replace(Some(value)));
        this
    }

    /// What is published now, for as long as `_guard` lives.
    #[inline]
    pub(crate) fn load<'a>(&'a self, _guard: &'a Guard) -> Option<&'a T> {
        let inner = self.ptr.load(Acquire);
        // SAFETY: By the type invariants the pointer is null or valid, and whoever takes it out
        // frees it only after a grace period, which `_guard` holds off.
        unsafe { inner.as_ref() }.map(|inner| &inner.value)
    }

    /// Publishes `new` and hands back what was there. Writers must be serialised by the caller for
    /// their own consistency; memory safety does not depend on it.
    pub(crate) fn replace(&self, new: Option<RcuBox<T>>) -> Option<RcuBox<T>> {
        let new = new.map_or(ptr::null_mut(), |new| ManuallyDrop::new(new).0.as_ptr());
        // INVARIANT: Ownership of `new` was moved here, that of the old value moves out. The
        // exchange is fully ordered: readers see an initialised value.
        let old = self.ptr.xchg(new, Full);
        // INVARIANT: By the invariants of `self`.
        NonNull::new(old).map(RcuBox)
    }
}

impl<T: Send + Sync + 'static> Drop for RcuPtr<T> {
    fn drop(&mut self) {
        drop(self.replace(None));
    }
}
