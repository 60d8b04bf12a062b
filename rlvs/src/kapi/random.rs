// SPDX-License-Identifier: GPL-2.0

//! Random numbers.
//!
//! C header: [`include/linux/random.h`](srctree/include/linux/random.h)

use super::bindings;

/// A random number. Any context.
pub(crate) fn u32() -> u32 {
    // SAFETY: Callable anywhere.
    unsafe { bindings::get_random_u32() }
}

/// A random number of 64 bits. Any context.
pub(crate) fn u64() -> u64 {
    // SAFETY: Callable anywhere.
    unsafe { bindings::get_random_u64() }
}
