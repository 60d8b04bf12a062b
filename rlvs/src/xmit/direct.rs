// SPDX-License-Identifier: GPL-2.0

//! Packets that go as they are: to a real server in the same network (direct routing), to the sockets of
//! this host, or where they wanted to go without any balancer (bypass).

use super::Way;
use crate::{
    conn::ConnEntry,
    ext::Counter,
    family::Carried,
    kapi::{
        route::Dst,
        skb::{
            Packet,
            Verdict, //
        }, //
    }, //
};
use rlvs_core::wire::ip::Header;

/// Sends a client's packet to a real server that has the virtual address, too.
#[inline]
pub(super) fn to_server<A: Carried>(
    way: &Way<'_>,
    packet: Packet<'_>,
    ip: &Header<A>,
    entry: &ConnEntry<A>,
) -> Verdict {
    match A::from_ip(entry.dest.addr).and_then(|server| way.next_hop(server)) {
        Some(dst) if dst.is_local() => to_ourselves(way, packet, entry),
        Some(dst) => forward(way, packet, ip, entry, dst),
        None => super::unreachable::<A>(way, packet),
    }
}

/// Sends a client's packet where it wanted to go, if that is not here.
pub(super) fn bypass<A: Carried>(
    way: &Way<'_>,
    packet: Packet<'_>,
    ip: &Header<A>,
    entry: &ConnEntry<A>,
) -> Verdict {
    match way.to_server(ip.dst, A::UNSPECIFIED) {
        Some(dst) if dst.is_local() => way.lose(packet, Counter::NoRoute),
        Some(dst) => forward(way, packet, ip, entry, dst),
        None => super::unreachable::<A>(way, packet),
    }
}

/// Lets a client's packet go on to the sockets of this host, which is the real server, if it is on its
/// way there.
pub(super) fn to_ourselves<A: Carried>(
    way: &Way<'_>,
    packet: Packet<'_>,
    entry: &ConnEntry<A>,
) -> Verdict {
    if packet.goes_here::<A>() {
        let_go(packet, entry)
    } else {
        way.lose(packet, Counter::NoRoute)
    }
}

/// Lets a packet go on, and nobody balance it again.
pub(super) fn let_go<A: Carried>(mut packet: Packet<'_>, entry: &ConnEntry<A>) -> Verdict {
    super::claim(&mut packet, entry, None);
    packet.accept()
}

/// Sends a packet over a route with a hop less to live, and no other change.
#[inline]
fn forward<A: Carried>(
    way: &Way<'_>,
    mut packet: Packet<'_>,
    ip: &Header<A>,
    entry: &ConnEntry<A>,
    dst: &Dst<A>,
) -> Verdict {
    if ip.src.is_loopback() {
        // Nobody else can answer it.
        return way.lose(packet, Counter::NoRoute);
    }
    if let Some(problem) = super::problem(&packet, ip, dst.mtu(), dst.mtu()) {
        return super::refuse(way, packet, ip, problem);
    }
    match super::age(&mut packet, ip) {
        Some(()) => {
            super::claim(&mut packet, entry, None);
            super::send(way, packet, dst)
        }
        None => way.lose(packet, Counter::NoMemory),
    }
}
