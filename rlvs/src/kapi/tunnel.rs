// SPDX-License-Identifier: GPL-2.0

//! Packets that travel in others: wrapped on their way out, and found in the errors that come back.
//!
//! A packet is wrapped in three steps: [`Packet::prepare`] makes room and its own headers private,
//! [`Packet::wrap`] opens the room for the outer headers, which the caller writes, and
//! [`Packet::send_wrapped`] completes them and sends it.
//!
//! C headers: [`include/net/ip_tunnels.h`](srctree/include/net/ip_tunnels.h),
//! [`include/net/gre.h`](srctree/include/net/gre.h),
//! [`include/net/gue.h`](srctree/include/net/gue.h)

use super::{
    bindings,
    family::Inet,
    netns::Net,
    route::Dst,
    skb::{
        Packet,
        Verdict, //
    }, //
};
use core::{
    net::{
        Ipv4Addr,
        Ipv6Addr, //
    },
    slice, //
};
use kernel::ffi::c_int;

/// A family whose packets travel in others, and others in them.
pub(crate) trait Nested: Inet {
    /// Length of its header without options and extensions, in bytes.
    const HEADER: u32;
    /// The number of its packets as what an IP header is followed by.
    const IN_IP: u8;
    /// Their number in a GRE header.
    const ETHER_TYPE: u16;
    /// How segments are made of what is in its packets.
    const GSO: i32;

    /// Computes the checksum of UDP in an outer packet of the family, or has the device do so.
    ///
    /// # Safety
    ///
    /// `skb` is a valid packet of the family, and its headers stand where its offsets say.
    unsafe fn udp_checksum(skb: *mut bindings::sk_buff);

    /// Completes the header of an outer packet and sends it through `LOCAL_OUT`; takes it.
    ///
    /// # Safety
    ///
    /// `net` is valid, and the caller gives away `skb`, a packet of the family with a route.
    unsafe fn send_outer(net: *mut bindings::net, skb: *mut bindings::sk_buff);

    /// Learns that the path of a packet takes no more than `mtu`.
    ///
    /// # Safety
    ///
    /// Both are valid, and the packet starts at a linear header of the family.
    unsafe fn learn_mtu(net: *mut bindings::net, skb: *mut bindings::sk_buff, mtu: u32);

    /// Gives a packet that has come in one of another family what its sender's errors want of it; 0 or an
    /// error.
    ///
    /// # Safety
    ///
    /// Both are valid, and the packet starts at a linear header of the family.
    unsafe fn route_as_sent(net: *mut bindings::net, skb: *mut bindings::sk_buff) -> c_int;

    /// Tells the sender of a packet what is wrong with it.
    ///
    /// # Safety
    ///
    /// `skb` is valid, and starts at a linear header of the family.
    unsafe fn relay(skb: *mut bindings::sk_buff, kind: u8, code: u8, info: u32);
}

impl Nested for Ipv4Addr {
    const HEADER: u32 = 20;
    const IN_IP: u8 = 4;
    const ETHER_TYPE: u16 = 0x0800;
    const GSO: i32 = bindings::SKB_GSO_IPXIP4;

    unsafe fn udp_checksum(skb: *mut bindings::sk_buff) {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_udp_csum4(skb) };
    }

    #[inline]
    unsafe fn send_outer(net: *mut bindings::net, skb: *mut bindings::sk_buff) {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_send_outer4(net, skb) };
    }

    unsafe fn learn_mtu(net: *mut bindings::net, skb: *mut bindings::sk_buff, mtu: u32) {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_path_mtu4(net, skb, mtu) };
    }

    unsafe fn route_as_sent(net: *mut bindings::net, skb: *mut bindings::sk_buff) -> c_int {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_skb_route_as_sent4(net, skb) }
    }

    unsafe fn relay(skb: *mut bindings::sk_buff, kind: u8, code: u8, info: u32) {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_icmp_send(skb, kind.into(), code.into(), info) };
    }
}

impl Nested for Ipv6Addr {
    const HEADER: u32 = 40;
    const IN_IP: u8 = 41;
    const ETHER_TYPE: u16 = 0x86dd;
    const GSO: i32 = bindings::SKB_GSO_IPXIP6;

    unsafe fn udp_checksum(skb: *mut bindings::sk_buff) {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_udp_csum6(skb) };
    }

    #[inline]
    unsafe fn send_outer(net: *mut bindings::net, skb: *mut bindings::sk_buff) {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_send_outer6(net, skb) };
    }

    unsafe fn learn_mtu(net: *mut bindings::net, skb: *mut bindings::sk_buff, mtu: u32) {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_path_mtu6(net, skb, mtu) };
    }

    unsafe fn route_as_sent(_net: *mut bindings::net, skb: *mut bindings::sk_buff) -> c_int {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_skb_unroute6(skb) };
        0
    }

    unsafe fn relay(skb: *mut bindings::sk_buff, kind: u8, code: u8, info: u32) {
        // SAFETY: By the contract of the trait.
        unsafe { bindings::rlvs_relay6(skb, kind, code, info) };
    }
}

/// What stands between the outer and the inner IP header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Between {
    /// Nothing.
    Nothing,
    /// GRE.
    Gre {
        /// It has a checksum.
        checksum: bool,
    },
    /// UDP, and whatever belongs to the inner packet then.
    Udp {
        /// It has a checksum.
        checksum: bool,
        /// The far end computes what is missing of the inner packet's checksum.
        remote: bool,
    },
}

impl Between {
    /// How the segments of a GSO packet are to be made.
    #[inline]
    fn gso_type(self, ip_in_ip: i32) -> i32 {
        match self {
            Self::Nothing => ip_in_ip,
            Self::Gre { checksum: false } => bindings::SKB_GSO_GRE,
            Self::Gre { checksum: true } => bindings::SKB_GSO_GRE_CSUM,
            Self::Udp { checksum, remote } => {
                let udp = match checksum {
                    false => bindings::SKB_GSO_UDP_TUNNEL,
                    true => bindings::SKB_GSO_UDP_TUNNEL_CSUM,
                };
                let rest = match remote {
                    false => 0,
                    true => bindings::SKB_GSO_TUNNEL_REMCSUM,
                };
                ip_in_ip | udp | rest
            }
        }
    }
}

impl Packet<'_> {
    /// Makes the packet's own headers private, and room for `len` bytes in front of them and for what the
    /// device of the route wants. False if memory is out.
    #[inline]
    pub(crate) fn prepare<A: Inet>(&mut self, len: u32, dst: &Dst<A>) -> bool {
        let room = len.saturating_add(dst.headroom());
        // SAFETY: By the type invariants.
        unsafe { bindings::rlvs_skb_cow_head(self.as_ptr(), room) == 0 }
    }

    /// The source port for the packet's flow, in host order.
    #[inline]
    pub(crate) fn flow_port(&mut self, net: &Net) -> u16 {
        // SAFETY: By the type invariants; the namespace is valid.
        unsafe { bindings::rlvs_skb_flow_port(net.as_ptr(), self.as_ptr()) }
    }

    /// Where the checksum that the device is to compute starts, and where it belongs, as offsets in the
    /// packet; `None` if there is nothing left to compute.
    pub(crate) fn missing_checksum(&self) -> Option<(u16, u16)> {
        if !self.is_checksum_partial() {
            return None;
        }
        // SAFETY: By the type invariants.
        let (start, offset) = unsafe {
            (
                bindings::rlvs_skb_csum_start(self.as_ptr()),
                bindings::rlvs_skb_csum_offset(self.as_ptr()),
            )
        };
        let field = start.checked_add(offset)?;
        Some((u16::try_from(start).ok()?, u16::try_from(field).ok()?))
    }

    /// Makes the packet, of family `I`, the inner one of a packet of family `O`: the bytes returned stand in
    /// front of it, for an IP header and `len` bytes that stand between. `None` if [`Packet::prepare`] has
    /// not made the room, or memory is out: then nobody must see the packet any more.
    #[inline]
    pub(crate) fn wrap<I: Nested, O: Nested>(
        &mut self,
        between: Between,
        len: u8,
    ) -> Option<&mut [u8]> {
        let skb = self.as_ptr();
        let len = u32::from(len);
        let whole = O::HEADER.wrapping_add(len);
        // SAFETY: By the type invariants; there is room in front once that is checked.
        // INVARIANT: The network header is set to the new start.
        unsafe {
            if bindings::rlvs_skb_headroom(skb) < whole
                || bindings::rlvs_skb_become_inner(skb, between.gso_type(O::GSO)) != 0
            {
                return None;
            }
            match between {
                Between::Gre { .. } => bindings::rlvs_skb_inner_protocol(skb, I::ETHER_TYPE),
                _ => bindings::rlvs_skb_inner_ipproto(skb, I::IN_IP),
            }
            if let Between::Udp { remote: true, .. } = between {
                bindings::rlvs_skb_leave_csum(skb);
            }
            bindings::rlvs_skb_push_outer(skb, O::HEADER, len);
            Some(slice::from_raw_parts_mut((*skb).data, whole as usize))
        }
    }

    /// Sends a packet whose outer headers are written over a route, through the rules of `LOCAL_OUT` and
    /// `POST_ROUTING`.
    #[inline]
    pub(crate) fn send_wrapped<O: Nested>(
        mut self,
        net: &Net,
        between: Between,
        dst: &Dst<O>,
    ) -> Verdict {
        self.set_route(dst);
        let skb = self.as_ptr();
        // SAFETY: By the type invariants, and by `wrap`, which has set the offsets of the headers. The last
        // call takes the packet.
        unsafe {
            match between {
                Between::Gre { checksum: true } => bindings::rlvs_gre_csum(skb),
                Between::Udp { checksum: true, .. } => O::udp_checksum(skb),
                _ => {}
            }
            bindings::rlvs_skb_claim_outer(skb);
            O::send_outer(net.as_ptr(), skb);
        }
        self.taken()
    }

    /// Is the packet, of that family, on its way to this host itself?
    #[inline]
    pub(crate) fn goes_here<A: Nested>(&self) -> bool {
        // SAFETY: By the type invariants; who handles a packet has seen that it has a route.
        unsafe { A::is_local(bindings::rlvs_skb_dst(self.as_ptr())) }
    }

    /// Tells the socket on this host that has sent the packet how long packets may be on its way.
    pub(crate) fn tell_mtu(&mut self, mtu: u32) {
        // SAFETY: By the type invariants.
        unsafe { bindings::rlvs_skb_tell_mtu(self.as_ptr(), mtu) };
    }

    /// Takes `len` bytes off the front: the packet then starts at an IP header, of which `headers` bytes are
    /// linear. False, and nothing changed, if it is shorter or memory is out.
    pub(crate) fn strip(&mut self, len: usize, headers: usize) -> bool {
        let Ok(off) = u32::try_from(len) else {
            return false;
        };
        if !len
            .checked_add(headers)
            .is_some_and(|needed| self.pull(needed))
        {
            return false;
        }
        // SAFETY: By the type invariants; so much is linear.
        // INVARIANT: The network header is set to the new start.
        unsafe { bindings::rlvs_skb_strip(self.as_ptr(), off) };
        true
    }

    /// Learns that the path of the packet, one of ours of family `A` as an error quotes it, takes no more
    /// than `mtu`. False if its IP header is not there.
    pub(crate) fn learn_mtu<A: Nested>(&mut self, net: &Net, mtu: u32) -> bool {
        if !self.pull(A::HEADER as usize) {
            return false;
        }
        // SAFETY: By the type invariants; an IP header is linear.
        unsafe { A::learn_mtu(net.as_ptr(), self.as_ptr(), mtu) };
        true
    }

    /// Tells the sender of the packet, of family `A`, which has been found in another one, what is wrong with
    /// it: type, code and what else an ICMP error of that family says. `foreign`: that one was of the
    /// other family.
    pub(crate) fn relay<A: Nested>(
        mut self,
        net: &Net,
        foreign: bool,
        (kind, code, info): (u8, u8, u32),
    ) -> Verdict {
        if self.pull(A::HEADER as usize) {
            let skb = self.as_ptr();
            // SAFETY: By the type invariants; an IP header is linear.
            unsafe {
                if !foreign || A::route_as_sent(net.as_ptr(), skb) == 0 {
                    A::relay(skb, kind, code, info);
                }
            }
        }
        self.drop()
    }
}
