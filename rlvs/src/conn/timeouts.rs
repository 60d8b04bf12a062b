// SPDX-License-Identifier: GPL-2.0

//! How long a connection lasts in each state.

use crate::kapi::time;
use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};
use rlvs_core::proto::{
    State,
    Timeouts, //
};

/// The timeouts of a namespace, which an operator may change at any time.
pub(crate) struct TimeoutTable([Atomic<u32>; State::ALL.len()]);

impl TimeoutTable {
    /// IPVS's own.
    pub(crate) fn new() -> Self {
        let defaults = Timeouts::default();
        Self(State::ALL.map(|state| Atomic::new(defaults.of(state))))
    }

    /// The timeout of a state, in seconds.
    #[inline]
    pub(crate) fn of(&self, state: State) -> u32 {
        self.0
            .get(usize::from(state as u8))
            .map_or(0, |timeout| timeout.load(Relaxed))
    }

    /// The same in jiffies; no longer than the clock can tell.
    #[inline]
    pub(super) fn jiffies(&self, state: State) -> u32 {
        self.of(state).saturating_mul(time::HZ).min(u32::MAX / 4)
    }

    /// Sets the timeout of a state, in seconds.
    pub(crate) fn set(&self, state: State, seconds: u32) {
        if let Some(timeout) = self.0.get(usize::from(state as u8)) {
            timeout.store(seconds, Relaxed);
        }
    }
}
