// SPDX-License-Identifier: GPL-2.0

//! Softirqs (bottom halves): keeping them off.
//!
//! Packets are handled in softirq context, but what the host itself sends, or what a program has given back to
//! netfilter (NFQUEUE), in process context with softirqs on. Whatever both touch needs this.
//!
//! C header: [`include/linux/bottom_half.h`](srctree/include/linux/bottom_half.h)

use super::bindings;
use kernel::types::NotThreadSafe;

/// Evidence that softirqs are off on this CPU.
///
/// # Invariants
///
/// Softirqs stay off for as long as the object lives.
pub(crate) struct BhDisabled {
    /// We have turned them off and shall turn them on again.
    ours: bool,
    _here: NotThreadSafe,
}

impl BhDisabled {
    /// Turns softirqs off, if they are not.
    #[inline]
    pub(crate) fn new() -> Self {
        // SAFETY: Reads a per-CPU variable that only this context changes.
        let ours = !unsafe { bindings::rlvs_softirqs_are_off() };
        if ours {
            // SAFETY: Always allowed outside hard interrupts; balanced in `drop`.
            unsafe { bindings::rlvs_local_bh_disable() };
        }
        // INVARIANT: They were just turned off, or have been by somebody who will turn them on again
        // only when we have returned: the object cannot leave this context.
        Self {
            ours,
            _here: NotThreadSafe,
        }
    }
}

impl Drop for BhDisabled {
    #[inline]
    fn drop(&mut self) {
        if self.ours {
            // SAFETY: This balances the call in `new`.
            unsafe { bindings::rlvs_local_bh_enable() };
        }
    }
}
