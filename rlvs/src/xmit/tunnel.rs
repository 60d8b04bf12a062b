// SPDX-License-Identifier: GPL-2.0

//! Packets that travel inside of others to their real server, which may be anywhere.
//!
//! A tunnel takes longer packets than the path to the server does by what is put in front of them. Who
//! asks for that by forbidding fragments is told; with `pmtu_disc` 0 the outer packets are fragmented
//! instead.

use super::Way;
use crate::{
    conn::ConnEntry,
    ext::Counter,
    family::Carried,
    kapi::{
        family::Complaint,
        netfilter::Point,
        route::Dst,
        skb::{
            Packet,
            Verdict, //
        },
        tunnel::Between, //
    }, //
};
use core::net::IpAddr;
use rlvs_core::{
    flow::Family,
    wire::{
        ip::Header,
        tunnel::{
            Inner,
            Remote,
            Tunnel,
            LEAST_MTU_V4,
            LEAST_MTU_V6, //
        }, //
    }, //
};

/// Sends a client's packet of one family through a tunnel of the server's.
#[inline]
pub(crate) fn to_server<A: Carried>(
    way: &Way<'_>,
    packet: Packet<'_>,
    ip: &Header<A>,
    entry: &ConnEntry<A>,
    tunnel: Tunnel,
) -> Verdict {
    match entry.dest.addr {
        IpAddr::V4(server) => through(way, packet, ip, entry, server, tunnel),
        IpAddr::V6(server) => through(way, packet, ip, entry, server, tunnel),
    }
}

/// Sends a packet of family `I` in one of family `O`.
fn through<I: Carried, O: Carried>(
    way: &Way<'_>,
    mut packet: Packet<'_>,
    ip: &Header<I>,
    entry: &ConnEntry<I>,
    server: O,
    tunnel: Tunnel,
) -> Verdict {
    let Some((dst, source)) = way.tunnel(server) else {
        return super::unreachable::<I>(way, packet);
    };
    if dst.is_local() {
        return super::direct::to_ourselves(way, packet, entry);
    }
    if ip.src.is_loopback() {
        // Nobody else can answer it.
        return way.lose(packet, Counter::NoRoute);
    }
    let remote = match tunnel.is_remote() {
        true => packet.missing_checksum(),
        false => None,
    };
    // CAST: At most `tunnel::MAX_LEN`.
    let between_len = tunnel.len(remote.is_some()) as u8;
    let front = O::HEADER.wrapping_add(u32::from(between_len));
    let Some(mtu) = mtu::<I, O>(dst, front) else {
        return way.lose(packet, Counter::NoRoute);
    };
    if way.point == Point::LocalOut {
        packet.tell_mtu(mtu);
    }
    let discover = way.settings.pmtu_disc();
    match super::problem(&packet, ip, mtu, mtu) {
        Some(Complaint::TooBig(_)) if !discover && I::FAMILY == Family::V4 => {}
        Some(problem) => return super::refuse(way, packet, ip, problem),
        None => {}
    }
    if entry.is_tracked() && !packet.confirm_tracked() {
        return packet.drop();
    }
    let sport = match tunnel {
        Tunnel::Gue { .. } => packet.flow_port(way.net),
        _ => 0,
    };
    let len = packet.len().saturating_add(u32::from(between_len));
    if !packet.prepare(front, dst) || super::age(&mut packet, ip).is_none() {
        return way.lose(packet, Counter::NoMemory);
    }
    let between = between(&tunnel, remote.is_some());
    let remote = remote.map(|(start, field)| Remote { start, field });
    let inner = Inner::of(ip, discover);
    let wrapped = packet.wrap::<I, O>(between, between_len).and_then(|bytes| {
        let proto = tunnel.proto(I::FAMILY);
        let rest = O::write_outer(bytes, source, server, proto, &inner)?;
        tunnel.write(rest, I::FAMILY, len as usize, sport, remote)
    });
    match wrapped {
        Some(()) => packet.send_wrapped(way.net, between, dst),
        None => way.lose(packet, Counter::NoMemory),
    }
}

/// How long the packets of family `I` may be that get `front` bytes of headers on their way to a server
/// of family `O`; `None` if it cannot be reached.
pub(crate) fn path_mtu<I: Carried, O: Carried>(
    way: &Way<'_>,
    server: O,
    front: usize,
) -> Option<u32> {
    let (dst, _) = way.tunnel(server)?;
    mtu::<I, O>(dst, u32::try_from(front).ok()?)
}

/// The same over a route.
#[inline]
fn mtu<I: Carried, O: Carried>(dst: &Dst<O>, front: u32) -> Option<u32> {
    let mtu = dst.mtu().checked_sub(front)?;
    match I::FAMILY {
        Family::V4 if mtu < LEAST_MTU_V4 => None,
        Family::V4 => Some(mtu),
        // Less than that no sender of IPv6 understands: if it must be, the outer packets are fragmented.
        Family::V6 => Some(mtu.max(LEAST_MTU_V6)),
    }
}

/// What the kernel must know of a tunnel.
#[inline]
fn between(tunnel: &Tunnel, remote: bool) -> Between {
    match *tunnel {
        Tunnel::Ipip => Between::Nothing,
        Tunnel::Gre { checksum } => Between::Gre { checksum },
        Tunnel::Gue { checksum, .. } => Between::Udp { checksum, remote },
    }
}
