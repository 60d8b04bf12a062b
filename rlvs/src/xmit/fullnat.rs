// SPDX-License-Identifier: GPL-2.0

//! What FullNAT adds to NAT: the client's address travels in a TCP option (TOA), and there is room
//! for it.
//!
//! The option is in the client's SYN and in every packet of the client until the server has sent
//! data: whichever of them the server builds its socket from, the option is there, lost packets or
//! not. It never makes a packet longer than the path takes: a segment that is full goes without, the
//! segments of a GSO packet shrink, and the server's MSS is told lower to the client.

use super::Way;
use crate::{
    conn::ConnEntry,
    ext::Counter,
    family::Carried,
    kapi::{
        route::Dst,
        skb::Packet, //
    }, //
};
use rlvs_core::wire::{
    headers::{
        Headers,
        Segment, //
    },
    rewrite::L4Checksum,
    tcp,
    toa, //
};

/// The option that a client's packet will carry; `None` if it needs none or cannot take it.
pub(super) fn toa<A: Carried>(
    way: &Way<'_>,
    packet: &Packet<'_>,
    headers: &Headers<A>,
    entry: &ConnEntry<A>,
    dst: &Dst<A>,
) -> Option<A::Toa> {
    let Segment::Tcp(header) = headers.segment else {
        return None;
    };
    if !entry.carries_toa() || header.flags.rst() {
        return None;
    }
    let counters = &way.counters;
    if !toa::room(header.header_len, usize::from(A::TOA_LEN)) {
        counters.count(Counter::ToaNoRoom);
        return None;
    }
    let longer = packet.len().saturating_add(u32::from(A::TOA_LEN));
    let fits = match packet.gso_size() {
        // Small segments are not worth many more of them, and a client could ask for that.
        Some(segment) => {
            longer <= u32::from(u16::MAX) && segment >= tcp::MSS_FLOOR && !packet.is_chained()
        }
        None => longer <= dst.mtu(),
    };
    if !fits {
        counters.count(Counter::ToaTooLong);
        return None;
    }
    let [original, _] = entry.keys();
    let kind = way.settings.toa_kind();
    Some(A::toa(kind, original.src, original.sport))
}

/// Blanks out what a client itself sent as such an option: real servers may believe it, whatever method
/// they are reached by.
pub(super) fn strip<A: Carried>(
    way: &Way<'_>,
    bytes: &mut [u8],
    headers: &Headers<A>,
    checksum: L4Checksum,
) {
    let Segment::Tcp(_) = headers.segment else {
        return;
    };
    if let Some(tcp) = bytes.get_mut(headers.ip.header_len..) {
        if toa::strip(tcp, way.settings.toa_kind(), checksum) > 0 {
            way.counters.count(Counter::ToaStripped);
        }
    }
}

/// Puts the option into a packet that [`toa`] found fit for it. Without memory it goes without; `None`
/// leaves a packet that nobody must see.
pub(super) fn insert<A: Carried>(
    way: &Way<'_>,
    packet: &mut Packet<'_>,
    headers: &Headers<A>,
    option: &[u8],
    checksum: L4Checksum,
    dst: &Dst<A>,
) -> Option<()> {
    let by = A::TOA_LEN;
    let Some(bytes) = packet.grow_headers(headers.len(), by, dst) else {
        way.counters.count(Counter::ToaNoMemory);
        return Some(());
    };
    toa::insert(bytes, &headers.ip, option, checksum).ok()?;
    if packet.gso_size().is_some() {
        let payload = u32::try_from(headers.payload()).unwrap_or(u32::MAX);
        packet.shrink_gso(by, payload);
    }
    way.counters.count(Counter::ToaInserted);
    Some(())
}

/// A packet of the server: with data, the client's address need not travel any more; as the answer to
/// a SYN, it must leave room for it.
pub(super) fn heard<A: Carried>(
    way: &Way<'_>,
    packet: &mut Packet<'_>,
    headers: &Headers<A>,
    entry: &ConnEntry<A>,
) {
    let Segment::Tcp(header) = headers.segment else {
        return;
    };
    if header.flags.syn() {
        if entry.carries_toa() && way.settings.mss_adjust() {
            lower_mss(way, packet, headers);
        }
    } else if headers.payload() > 0 && entry.carries_toa() {
        entry.server_spoke();
    }
}

fn lower_mss<A: Carried>(way: &Way<'_>, packet: &mut Packet<'_>, headers: &Headers<A>) {
    let checksum = super::checksum_of(packet);
    let lowered = packet
        .writable(headers.len())
        .and_then(|bytes| bytes.get_mut(headers.ip.header_len..))
        .is_some_and(|tcp| tcp::clamp_mss(tcp, u16::from(A::TOA_LEN), checksum));
    if lowered {
        way.counters.count(Counter::MssLowered);
    }
}
