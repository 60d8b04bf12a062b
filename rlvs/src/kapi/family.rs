// SPDX-License-Identifier: GPL-2.0

//! What the kernel does differently for the packets of the two families.
//!
//! C headers: [`include/net/ip.h`](srctree/include/net/ip.h),
//! [`include/net/ipv6.h`](srctree/include/net/ipv6.h),
//! [`include/net/netfilter/ipv6/nf_defrag_ipv6.h`](srctree/include/net/netfilter/ipv6/nf_defrag_ipv6.h)

use super::{
    bindings,
    netns::Net, //
};
use core::net::{
    Ipv4Addr,
    Ipv6Addr, //
};
use kernel::{
    error::to_result,
    ffi::c_int,
    prelude::*,
    sync::atomic::{
        Atomic,
        Full, //
    }, //
};

/// What is wrong with a packet, for its sender to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Complaint {
    /// It has nowhere to go.
    NoRoute,
    /// Nobody is there to answer it.
    NoPort,
    /// Its last hop was here.
    Expired,
    /// It is longer than the path takes, which is so much.
    TooBig(u32),
}

/// A family of the internet protocol, named by its addresses.
pub(crate) trait Inet: Copy + Eq + Send + Sync + 'static {
    /// An address as the C side has it.
    type Raw: Copy + Eq + Send + Sync + Zeroable;

    /// The number of the family, `AF_INET` or `AF_INET6`.
    const NUMBER: u16;

    /// The address as the C side has it.
    fn raw(self) -> Self::Raw;

    /// A route to `daddr` for packets from `saddr`, or from whichever address; null, or with a reference.
    ///
    /// # Safety
    ///
    /// `net` is valid.
    unsafe fn route(
        net: *mut bindings::net,
        daddr: &Self::Raw,
        saddr: &Self::Raw,
    ) -> *mut bindings::dst_entry;

    /// The address that the C side has.
    fn from_raw(raw: Self::Raw) -> Self;

    /// A route to the neighbour `daddr`, whatever the destination of its packets is; null, or with a
    /// reference.
    ///
    /// # Safety
    ///
    /// `net` is valid.
    unsafe fn route_next_hop(
        net: *mut bindings::net,
        daddr: &Self::Raw,
    ) -> *mut bindings::dst_entry;

    /// A route to `daddr` for packets that this host makes, and the source that it gives them; null, or
    /// with a reference.
    ///
    /// # Safety
    ///
    /// `net` is valid.
    unsafe fn route_tunnel(
        net: *mut bindings::net,
        daddr: &Self::Raw,
        saddr: &mut Self::Raw,
    ) -> *mut bindings::dst_entry;

    /// What tells later whether a route still holds.
    ///
    /// # Safety
    ///
    /// `dst` is a valid route of the family.
    unsafe fn cookie(dst: *mut bindings::dst_entry) -> u32;

    /// Does a route lead to this host itself?
    ///
    /// # Safety
    ///
    /// `dst` is a valid route of the family.
    unsafe fn is_local(dst: *mut bindings::dst_entry) -> bool;

    /// Sends a routed packet through `LOCAL_OUT`, and takes it.
    ///
    /// # Safety
    ///
    /// `net` is valid, and the caller gives away `skb`, a packet of the family with a route.
    unsafe fn send(net: *mut bindings::net, skb: *mut bindings::sk_buff);

    /// Routes a packet anew by its destination; 0 or an error.
    ///
    /// # Safety
    ///
    /// Both are valid, and the packet is one of the family with a route.
    unsafe fn reroute(net: *mut bindings::net, skb: *mut bindings::sk_buff) -> c_int;

    /// Routes a packet anew if rules may care for its source; 0 or an error.
    ///
    /// # Safety
    ///
    /// As [`Inet::reroute`].
    unsafe fn reroute_by_source(net: *mut bindings::net, skb: *mut bindings::sk_buff) -> c_int;

    /// Is the packet, or a piece of it, longer than `mtu`?
    ///
    /// # Safety
    ///
    /// `skb` is a valid packet of the family.
    unsafe fn exceeds(skb: *mut bindings::sk_buff, mtu: u32) -> bool;

    /// Is the checksum of ICMP right, which starts at `offset`?
    ///
    /// # Safety
    ///
    /// `skb` is a valid packet of the family.
    unsafe fn icmp_checksum_ok(skb: *mut bindings::sk_buff, offset: u32) -> bool;

    /// Tells the sender of a packet what is wrong with it.
    ///
    /// # Safety
    ///
    /// `net` is valid, and `skb` is a packet of the family as it was sent, with a route.
    unsafe fn complain(net: *mut bindings::net, skb: *mut bindings::sk_buff, what: Complaint);
}

impl Inet for Ipv4Addr {
    type Raw = u32;
    // CAST: A small constant of C.
    const NUMBER: u16 = bindings::AF_INET as u16;

    #[inline]
    fn raw(self) -> u32 {
        u32::from_ne_bytes(self.octets())
    }

    #[inline]
    unsafe fn route(net: *mut bindings::net, daddr: &u32, saddr: &u32) -> *mut bindings::dst_entry {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_route4(net, *daddr, *saddr) }
    }

    #[inline]
    fn from_raw(raw: u32) -> Self {
        Self::from(raw.to_ne_bytes())
    }

    unsafe fn route_next_hop(net: *mut bindings::net, daddr: &u32) -> *mut bindings::dst_entry {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_route4_next_hop(net, *daddr) }
    }

    unsafe fn route_tunnel(
        net: *mut bindings::net,
        daddr: &u32,
        saddr: &mut u32,
    ) -> *mut bindings::dst_entry {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_route4_tunnel(net, *daddr, saddr) }
    }

    #[inline]
    unsafe fn cookie(_dst: *mut bindings::dst_entry) -> u32 {
        0
    }

    #[inline]
    unsafe fn is_local(dst: *mut bindings::dst_entry) -> bool {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_dst_is_local(dst) }
    }

    #[inline]
    unsafe fn send(net: *mut bindings::net, skb: *mut bindings::sk_buff) {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_send4(net, skb) };
    }

    unsafe fn reroute(net: *mut bindings::net, skb: *mut bindings::sk_buff) -> c_int {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_reroute4(net, skb) }
    }

    #[inline]
    unsafe fn reroute_by_source(net: *mut bindings::net, skb: *mut bindings::sk_buff) -> c_int {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_reroute4_by_source(net, skb) }
    }

    #[inline]
    unsafe fn exceeds(skb: *mut bindings::sk_buff, mtu: u32) -> bool {
        // SAFETY: By the contract of the trait.
        unsafe { (*skb).len > mtu && bindings::rlvs_skb_exceeds(skb, mtu) }
    }

    unsafe fn icmp_checksum_ok(skb: *mut bindings::sk_buff, offset: u32) -> bool {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_skb_icmp_csum_ok(skb, offset) }
    }

    unsafe fn complain(_net: *mut bindings::net, skb: *mut bindings::sk_buff, what: Complaint) {
        // Types and codes of `include/uapi/linux/icmp.h`.
        let (kind, code, info) = match what {
            Complaint::NoRoute => (3, 1, 0),
            Complaint::NoPort => (3, 3, 0),
            Complaint::TooBig(mtu) => (3, 4, mtu),
            Complaint::Expired => (11, 0, 0),
        };
        // SAFETY: By the contract of the trait; the call reads the packet only.
        unsafe { bindings::rlvs_icmp_send(skb, kind, code, info) };
    }
}

impl Inet for Ipv6Addr {
    type Raw = [u32; 4];
    // CAST: A small constant of C.
    const NUMBER: u16 = bindings::AF_INET6 as u16;

    #[inline]
    fn raw(self) -> [u32; 4] {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.octets();
        [
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
            u32::from_ne_bytes([m, n, o, p]),
        ]
    }

    #[inline]
    unsafe fn route(
        net: *mut bindings::net,
        daddr: &[u32; 4],
        saddr: &[u32; 4],
    ) -> *mut bindings::dst_entry {
        // SAFETY: By the contract of the trait; both are 16 bytes.
        unsafe { bindings::rlvs_route6(net, daddr.as_ptr(), saddr.as_ptr()) }
    }

    #[inline]
    fn from_raw(raw: [u32; 4]) -> Self {
        let [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]] = raw.map(u32::to_ne_bytes);
        Self::from([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    unsafe fn route_next_hop(
        net: *mut bindings::net,
        daddr: &[u32; 4],
    ) -> *mut bindings::dst_entry {
        // SAFETY: By the contract of the trait; it is 16 bytes.
        unsafe { bindings::rlvs_route6_next_hop(net, daddr.as_ptr()) }
    }

    unsafe fn route_tunnel(
        net: *mut bindings::net,
        daddr: &[u32; 4],
        saddr: &mut [u32; 4],
    ) -> *mut bindings::dst_entry {
        // SAFETY: By the contract of the trait; both are 16 bytes.
        unsafe { bindings::rlvs_route6_tunnel(net, daddr.as_ptr(), saddr.as_mut_ptr()) }
    }

    #[inline]
    unsafe fn cookie(dst: *mut bindings::dst_entry) -> u32 {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_dst_cookie6(dst) }
    }

    #[inline]
    unsafe fn is_local(dst: *mut bindings::dst_entry) -> bool {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_dst_is_local6(dst) }
    }

    #[inline]
    unsafe fn send(net: *mut bindings::net, skb: *mut bindings::sk_buff) {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_send6(net, skb) };
    }

    unsafe fn reroute(net: *mut bindings::net, skb: *mut bindings::sk_buff) -> c_int {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_reroute6(net, skb) }
    }

    #[inline]
    unsafe fn reroute_by_source(net: *mut bindings::net, skb: *mut bindings::sk_buff) -> c_int {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_reroute6_by_source(net, skb) }
    }

    #[inline]
    unsafe fn exceeds(skb: *mut bindings::sk_buff, mtu: u32) -> bool {
        // SAFETY: By the contract of the trait.
        unsafe { (*skb).len > mtu && bindings::rlvs_skb_exceeds6(skb, mtu) }
    }

    unsafe fn icmp_checksum_ok(skb: *mut bindings::sk_buff, offset: u32) -> bool {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_skb_icmp6_csum_ok(skb, offset) }
    }

    unsafe fn complain(net: *mut bindings::net, skb: *mut bindings::sk_buff, what: Complaint) {
        // Types and codes of `include/uapi/linux/icmpv6.h`.
        let (kind, code, info) = match what {
            Complaint::NoRoute => (1, 3, 0),
            Complaint::NoPort => (1, 4, 0),
            Complaint::TooBig(mtu) => (2, 0, mtu),
            Complaint::Expired => (3, 0, 0),
        };
        // SAFETY: By the contract of the trait; the call leaves the packet as it was.
        unsafe { bindings::rlvs_icmp6_send(net, skb, kind, code, info) };
    }
}

/// Has the fragments of IPv6 packets put together before the hooks of a namespace see them; those of
/// IPv4 are put together as they come.
pub(crate) struct Defrag6(Atomic<i32>);

impl Defrag6 {
    /// Not yet.
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// From now on. Process context, one caller at a time.
    pub(crate) fn enable(&self, net: &Net) -> Result {
        if self.0.xchg(1, Full) == 0 {
            // SAFETY: The namespace is valid.
            let result = to_result(unsafe { bindings::rlvs_defrag6_enable(net.as_ptr()) });
            if result.is_err() {
                self.0.xchg(0, Full);
            }
            return result;
        }
        Ok(())
    }

    /// No longer. Process context, one caller at a time.
    pub(crate) fn disable(&self, net: &Net) {
        if self.0.xchg(0, Full) != 0 {
            // SAFETY: The namespace is valid, and this is the other half of a call that succeeded.
            unsafe { bindings::rlvs_defrag6_disable(net.as_ptr()) };
        }
    }
}
