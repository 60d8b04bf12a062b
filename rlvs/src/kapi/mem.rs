// SPDX-License-Identifier: GPL-2.0

//! How much memory there is, in pages.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::bindings;

/// What buffers may be in.
pub(crate) fn buffer_pages() -> usize {
    // SAFETY: Reads counters.
    unsafe { bindings::nr_free_buffer_pages() as usize }
}

/// What is free, or could be soon: what holds blocks of devices.
pub(crate) fn available_pages() -> u64 {
    let mut info = bindings::sysinfo::default();
    // SAFETY: `info` is ours.
    unsafe { bindings::si_meminfo(&raw mut info) };
    info.freeram.wrapping_add(info.bufferram) as u64
}
