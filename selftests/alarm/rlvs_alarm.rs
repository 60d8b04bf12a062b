// SPDX-License-Identifier: GPL-2.0

//! Writes out of bounds on purpose, so that the tests can tell that the debug kernel would notice.
//!
//! Loading it always fails with `ECANCELED`, after the write; so nothing has to be unloaded.

use kernel::prelude::*;

module! {
    type: Alarm,
    name: "rlvs_alarm",
    authors: ["The rlvs developers"],
    description: "One write out of bounds, for the debug kernel to catch",
    license: "GPL",
}

struct Alarm;

impl kernel::Module for Alarm {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let mut bytes = KVec::<u8>::with_capacity(64, GFP_KERNEL)?;
        let past_end = bytes.as_mut_ptr().wrapping_add(bytes.capacity());
        // SAFETY: None: the byte behind the allocation is not ours, and that is the point. The allocator's
        // smallest objects that hold 64 bytes are 64 bytes apart, and KASAN keeps a red zone between them.
        unsafe { past_end.write_volatile(0x5a) };
        Err(ECANCELED)
    }
}
