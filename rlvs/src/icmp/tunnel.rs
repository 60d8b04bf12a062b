// SPDX-License-Identifier: GPL-2.0

//! ICMP errors about packets on their way through a tunnel.
//!
//! Such an error quotes the outer packet, which is one of ours, and in it the client's. It comes to this
//! host; the client hears of it as if it were about its own packet, and of a path that takes less, less by
//! what the tunnel adds.

use crate::{
    conn::{
        ConnEntry,
        ORIGINAL, //
    },
    ext::Counter,
    family::Carried,
    kapi::{
        netfilter::Point,
        skb::{
            Packet,
            Verdict, //
        }, //
    },
    netns::NetState,
    xmit::{
        self,
        Way, //
    }, //
};
use core::net::{
    Ipv4Addr,
    Ipv6Addr, //
};
use rlvs_core::{
    flow::{
        Direction,
        Family,
        Tuple, //
    },
    wire::{
        self,
        icmp,
        ip::Header,
        tunnel::{
            self,
            Quoted, //
        }, //
    }, //
};

/// So much of an error is looked at: two IP headers, the longest GUE header, and ports.
const LOOK: usize = 320;

/// An error that quotes an outer packet of family `O`.
struct Error<O> {
    icmp: icmp::Header,
    /// Where the outer packet starts, in bytes.
    outer_at: usize,
    outer: Header<O>,
    quoted: Quoted,
    /// Where the inner packet starts, in bytes.
    inner_at: usize,
}

/// Handles an error about a packet of a tunnel; gives the packet back if it is none.
pub(super) fn handle<'p, O: Carried>(
    state: &NetState,
    way: &Way<'_>,
    mut packet: Packet<'p>,
    ip: &Header<O>,
) -> Result<Verdict, Packet<'p>> {
    let look = LOOK.saturating_add(ip.header_len);
    if way.point != Point::LocalIn || !packet.pull(look.min(packet.len() as usize)) {
        return Err(packet);
    }
    let Some(error) = read(packet.bytes(), ip) else {
        return Err(packet);
    };
    match error.quoted.inner {
        Family::V4 => about::<Ipv4Addr, O>(state, way, packet, ip, &error),
        Family::V6 => about::<Ipv6Addr, O>(state, way, packet, ip, &error),
    }
}

/// Reads an error and the headers of the outer packet; `None` if it is not about a tunnel.
fn read<O: Carried>(bytes: &[u8], ip: &Header<O>) -> Option<Error<O>> {
    let icmp = icmp::Header::parse(bytes.get(ip.header_len..)?).ok()?;
    let outer_at = ip.header_len.checked_add(icmp::LEN)?;
    let outer = O::parse(bytes.get(outer_at..)?, 0).ok()?;
    if !O::is_icmp_error(icmp.kind) || outer.fragment_offset != 0 {
        return None;
    }
    let between_at = outer_at.checked_add(outer.header_len)?;
    let quoted = tunnel::quoted(outer.proto, bytes.get(between_at..)?)?;
    let inner_at = between_at.checked_add(quoted.len)?;
    Some(Error {
        icmp,
        outer_at,
        outer,
        quoted,
        inner_at,
    })
}

/// Handles an error about a tunnel that had a packet of family `I` in it.
fn about<'p, I: Carried, O: Carried>(
    state: &NetState,
    way: &Way<'_>,
    mut packet: Packet<'p>,
    ip: &Header<O>,
    error: &Error<O>,
) -> Result<Verdict, Packet<'p>> {
    let Some((inner, entry)) = find::<I, O>(state, way, packet.bytes(), error) else {
        return Err(packet);
    };
    if !packet.icmp_checksum_ok::<O>(ip.header_len) {
        return Ok(way.drop(packet, Counter::IcmpChecksum));
    }
    Ok(relay(way, packet, error, &inner, entry))
}

/// The inner packet's header, and its connection, if it is one whose packets go through such a tunnel.
fn find<'g, I: Carried, O: Carried>(
    state: &'g NetState,
    way: &Way<'g>,
    bytes: &[u8],
    error: &Error<O>,
) -> Option<(Header<I>, &'g ConnEntry<I>)> {
    let bytes = bytes.get(error.inner_at..)?;
    let inner = I::parse(bytes, 0).ok()?;
    if inner.fragment_offset != 0 {
        return None;
    }
    let (proto, sport, dport) = wire::key(inner.proto, bytes.get(inner.header_len..)?)?;
    let tuple = Tuple {
        src: inner.src,
        dst: inner.dst,
        sport,
        dport,
        proto,
    };
    let hit = I::of(&state.conns).find(&tuple, way.guard)?;
    let ours = hit.index == ORIGINAL
        && hit.entry.is_tunneled()
        && hit.entry.dest.addr == error.outer.dst.into()
        && hit.entry.dest.tunnel().wraps_like(&error.quoted);
    ours.then_some((inner, hit.entry))
}

/// Tells the client.
fn relay<I: Carried, O: Carried>(
    way: &Way<'_>,
    mut packet: Packet<'_>,
    error: &Error<O>,
    inner: &Header<I>,
    entry: &ConnEntry<I>,
) -> Verdict {
    let (mut off, mut info) = (0, 0);
    if let Some(mtu) = O::next_hop_mtu(&error.icmp) {
        if !packet.strip(error.outer_at, 0) || !packet.learn_mtu::<O>(way.net, mtu) {
            return way.drop(packet, Counter::NoMemory);
        }
        off = error.outer_at;
        let front = error.inner_at.saturating_sub(off);
        match xmit::tunnel::path_mtu::<I, O>(way, error.outer.dst, front) {
            Some(mtu) if inner.dont_fragment => info = mtu,
            // The kernel fragments what comes next, or there is no way any more.
            _ => return packet.drop(),
        }
    }
    if !packet.strip(error.inner_at.saturating_sub(off), inner.header_len) {
        return way.drop(packet, Counter::NoMemory);
    }
    entry.count(Direction::Reply, packet.len(), way.bh);
    way.counters.count(Counter::IcmpTranslated);
    let (kind, code) = tunnel::relayed(O::FAMILY, I::FAMILY, error.icmp.kind, error.icmp.code);
    packet.relay::<I>(way.net, O::FAMILY != I::FAMILY, (kind, code, info))
}
