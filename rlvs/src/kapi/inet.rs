// SPDX-License-Identifier: GPL-2.0

//! What a namespace knows of addresses, ports and devices.
//!
//! C headers: [`include/net/route.h`](srctree/include/net/route.h),
//! [`include/net/ipv6.h`](srctree/include/net/ipv6.h)

use super::{
    bindings,
    family::Inet,
    netns::Net, //
};
use core::net::IpAddr;
use kernel::prelude::*;

/// Whether an address is that of one host, this one or another: not a group's, not a broadcast
/// address, not 0, and of link-local IPv6 addresses this host's only. Process context.
pub(crate) fn is_one_host(net: &Net, addr: IpAddr) -> bool {
    // SAFETY: The namespace is valid; any address may be asked for, and an IPv6 one is 16 bytes.
    unsafe {
        match addr {
            IpAddr::V4(addr) => {
                bindings::rlvs_is_one_host(net.as_ptr(), u32::from_ne_bytes(addr.octets()))
            }
            IpAddr::V6(addr) => {
                bindings::rlvs_is_one_host6(net.as_ptr(), addr.octets().as_ptr().cast())
            }
        }
    }
}

/// Whether an address is that of one host, and, of IPv4, not of this one. Any context.
pub(crate) fn is_elsewhere(net: &Net, addr: IpAddr) -> bool {
    // SAFETY: The namespace is valid; any address may be asked for, and an IPv6 one is 16 bytes.
    unsafe {
        match addr {
            IpAddr::V4(addr) => bindings::rlvs_is_elsewhere4(net.as_ptr(), addr.raw()),
            IpAddr::V6(addr) => bindings::rlvs_is_elsewhere6(addr.raw().as_ptr()),
        }
    }
}

/// Does this host speak IPv6? It may be disabled when it boots.
pub(crate) fn has_ipv6() -> bool {
    // SAFETY: Reads what is known since boot.
    unsafe { bindings::rlvs_has_ipv6() }
}

/// May only a privileged program listen at the port?
pub(crate) fn is_privileged_port(net: &Net, port: u16) -> bool {
    // SAFETY: The namespace is valid.
    unsafe { bindings::rlvs_port_is_privileged(net.as_ptr(), port) }
}

/// A network device, as it was when somebody asked.
#[derive(Clone, Copy)]
pub(crate) struct Device {
    /// Its number.
    pub(crate) index: c_int,
    /// The longest packet that it takes, in bytes.
    pub(crate) mtu: u32,
}

/// The network device of that name. Process context.
pub(crate) fn device(net: &Net, name: &[u8]) -> Option<Device> {
    let mut bytes = [0u8; bindings::IFNAMSIZ as usize];
    let mut room = bytes.iter_mut();
    for byte in name {
        match room.next() {
            Some(place) => *place = *byte,
            None => return None,
        }
    }
    // The NUL has room, too.
    room.next()?;
    let mut mtu = 0;
    // SAFETY: The namespace is valid, the name ends in a NUL, and `mtu` may be written.
    let index = unsafe { bindings::rlvs_device(net.as_ptr(), bytes.as_ptr().cast(), &raw mut mtu) };
    (index != 0).then_some(Device { index, mtu })
}
