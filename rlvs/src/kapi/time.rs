// SPDX-License-Identifier: GPL-2.0

//! Jiffies, as 32 bits: enough for what lasts less than 2^31 of them.
//!
//! C header: [`include/linux/jiffies.h`](srctree/include/linux/jiffies.h)

use super::bindings;

/// Jiffies in a second.
pub(crate) const HZ: u32 = bindings::CONFIG_HZ;

/// The time now, in jiffies, wrapping.
#[inline]
pub(crate) fn now() -> u32 {
    // SAFETY: Reads a variable.
    // CAST: Wrapping is intended.
    unsafe { bindings::rlvs_jiffies() as u32 }
}

/// The time now, in jiffies, which do not wrap.
#[inline]
pub(crate) fn now_long() -> u64 {
    // SAFETY: Reads a variable.
    unsafe { bindings::rlvs_jiffies() as u64 }
}

/// Jiffies from `now` to `then`; 0 if it has come, or is further away than `most`.
pub(crate) fn until(then: u32, now: u32, most: u32) -> u32 {
    let left = then.wrapping_sub(now);
    if left > most {
        0
    } else {
        left
    }
}

/// Lets other tasks run. Process context.
pub(crate) fn cond_resched() {
    // SAFETY: Callers are in process context and hold nothing.
    unsafe { bindings::rlvs_cond_resched() };
}
