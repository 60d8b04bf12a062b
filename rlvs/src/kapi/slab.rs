// SPDX-License-Identifier: GPL-2.0

//! Slab caches: memory for objects of one type, without the waste of size classes.
//!
//! C header: [`include/linux/slab.h`](srctree/include/linux/slab.h)

use super::bindings;
use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Full, //
    }, //
};

/// A slab cache that a static holds; it exists while its [`Registration`] lives.
///
/// # Invariants
///
/// The pointer is null or a live `kmem_cache` whose objects fit a `T`.
pub(crate) struct Cache<T> {
    cache: Atomic<*mut bindings::kmem_cache>,
    _of: PhantomData<fn() -> T>,
}

/// Keeps a [`Cache`] alive; at its drop all objects must be back.
pub(crate) struct Registration {
    cache: &'static Atomic<*mut bindings::kmem_cache>,
}

impl<T> Cache<T> {
    /// A cache that does not exist yet.
    pub(crate) const fn new() -> Self {
        // INVARIANT: Null is allowed.
        Self {
            cache: Atomic::new(ptr::null_mut()),
            _of: PhantomData,
        }
    }

    /// Creates the cache under a name for `/proc/slabinfo`. Process context; once at a time.
    pub(crate) fn register(&'static self, name: &'static CStr) -> Result<Registration> {
        let mut args = bindings::kmem_cache_args {
            align: u32::try_from(align_of::<T>()).map_err(|_| EINVAL)?,
            ..Default::default()
        };
        let size = u32::try_from(size_of::<T>()).map_err(|_| EINVAL)?;
        // SAFETY: The name is static, the arguments are valid for the call.
        let cache = unsafe {
            bindings::__kmem_cache_create_args(name.as_char_ptr(), size, &raw mut args, 0)
        };
        if cache.is_null() {
            return Err(ENOMEM);
        }
        // INVARIANT: Created for `T`, lives until the registration is dropped.
        self.cache.xchg(cache, Full);
        Ok(Registration { cache: &self.cache })
    }

    /// Room for a new object. Any context. The box is freed by `kfree()`, which slab objects allow.
    #[inline]
    pub(crate) fn alloc(&self) -> Result<KBox<MaybeUninit<T>>> {
        let cache = self.cache.load(Acquire);
        if cache.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: By the type invariants the cache is live; `GFP_ATOMIC` is allowed everywhere.
        let object = unsafe { bindings::kmem_cache_alloc_noprof(cache, bindings::GFP_ATOMIC) };
        let object = NonNull::new(object.cast()).ok_or(ENOMEM)?;
        // SAFETY: The object has the size and alignment of a `T` and is ours. `kfree()` takes
        // objects of any cache (`mm/slub.c`), so a `KBox` may own it.
        Ok(unsafe { KBox::from_raw(object.as_ptr()) })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let cache = self.cache.xchg(ptr::null_mut(), Full);
        // SAFETY: The cache was created by `register` and is not reachable any more. C reports
        // objects that are still out.
        unsafe { bindings::kmem_cache_destroy(cache) };
    }
}
