// SPDX-License-Identifier: GPL-2.0

//! What a namespace knows of IPv4 addresses.
//!
//! C header: [`include/net/route.h`](srctree/include/net/route.h)

use super::{
    bindings,
    netns::Net, //
};
use core::net::Ipv4Addr;

/// Whether an address is that of one host, this one or another: not a group's, not a broadcast
/// address, not 0. Process context.
pub(crate) fn is_one_host(net: &Net, addr: Ipv4Addr) -> bool {
    // SAFETY: The namespace is valid; any address may be asked for.
    unsafe { bindings::rlvs_is_one_host(net.as_ptr(), u32::from_ne_bytes(addr.octets())) }
}
