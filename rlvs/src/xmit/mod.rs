// SPDX-License-Identifier: GPL-2.0

//! Rewriting packets and sending them on.
//!
//! What a packet is rewritten to stands in its connection's keys: the client's packets come with the
//! original tuple and leave with the reply tuple turned round, the server's the other way about. For
//! NAT the reply tuple has the client's own address, for FullNAT a local one.

mod fullnat;

use crate::{
    conn::ConnEntry,
    ext::{
        Counter,
        ExtCounters, //
    },
    kapi::{
        bh::BhDisabled,
        netfilter::Point,
        netns::Net,
        route::{
            Dst,
            RouteCache, //
        },
        skb::{
            Packet,
            Verdict, //
        }, //
    },
    sysctl::Settings, //
};
use core::net::Ipv4Addr;
use kernel::sync::rcu::Guard;
use rlvs_core::{
    flow::Tuple,
    wire::{
        headers::Headers,
        icmp,
        ipv4,
        rewrite::{
            self,
            L4Checksum, //
        },
        toa, //
    }, //
};

/// What a packet on its way has at hand.
pub(crate) struct Way<'a> {
    /// The namespace.
    pub(crate) net: &'a Net,
    /// Where the packet came in.
    pub(crate) point: Point,
    /// The time, in jiffies.
    pub(crate) now: u32,
    /// What the operator has set.
    pub(crate) settings: &'a Settings,
    /// What happened beyond traffic.
    pub(crate) counters: &'a ExtCounters,
    /// Routes to real servers.
    pub(crate) to_servers: &'a RouteCache,
    /// Routes to clients.
    pub(crate) to_clients: &'a RouteCache,
    /// Softirqs are off.
    pub(crate) bh: &'a BhDisabled,
    /// What is found stays until the packet is done with.
    pub(crate) guard: &'a Guard,
}

impl Way<'_> {
    /// Drops a packet and counts why.
    #[cold]
    pub(crate) fn drop(&self, packet: Packet<'_>, why: Counter) -> Verdict {
        self.counters.count(why);
        packet.drop()
    }
}

/// Sends a client's packet to the real server.
pub(crate) fn to_server(
    way: &Way<'_>,
    mut packet: Packet<'_>,
    headers: &Headers,
    entry: &ConnEntry,
) -> Verdict {
    let [_, reply] = entry.keys();
    let source = local_source(entry, reply);
    let Some(dst) = way
        .to_servers
        .find(way.net, reply.src, source, way.bh, way.guard)
    else {
        return unreachable(way, packet);
    };
    let new = reply.reversed();
    if dst.is_local() {
        return to_ourselves(way, packet, headers, &new);
    }
    if headers.ip.src.is_loopback() && !entry.is_fullnat() {
        // Nobody else can answer it.
        return way.drop(packet, Counter::NoRoute);
    }
    let toa = fullnat::toa(way, &packet, headers, entry, dst);
    // The path to the server takes less of what the client sends by what is inserted.
    let mtu = match entry.carries_toa() {
        true => dst.mtu().saturating_sub(toa::V4_LEN as u32),
        false => dst.mtu(),
    };
    if let Some(problem) = forwardable(&packet, &headers.ip, dst.mtu()) {
        return refuse(way, packet, problem, mtu);
    }
    let checksum = checksum_of(&packet);
    let Some(bytes) = packet.writable(headers.len()) else {
        return way.drop(packet, Counter::NoMemory);
    };
    fullnat::strip(way, bytes, headers, checksum);
    if rewrite_and_age(bytes, headers, &new, checksum).is_none() {
        return way.drop(packet, Counter::Malformed);
    }
    let inserted = match toa {
        Some(option) => fullnat::insert(way, &mut packet, headers, &option, checksum, dst),
        None => Some(()),
    };
    match inserted {
        Some(()) => send(way, packet, dst),
        None => way.drop(packet, Counter::Malformed),
    }
}

/// Gives a client's packet to the real server on this host itself: it goes on to the host's sockets.
fn to_ourselves(
    way: &Way<'_>,
    mut packet: Packet<'_>,
    headers: &Headers,
    new: &Tuple<Ipv4Addr>,
) -> Verdict {
    if new.dst.is_loopback() && way.point == Point::LocalIn && !headers.ip.src.is_loopback() {
        // What listens there does so because the network cannot reach it.
        return way.drop(packet, Counter::NoRoute);
    }
    let checksum = checksum_of(&packet);
    let Some(bytes) = packet.writable(headers.len()) else {
        return way.drop(packet, Counter::NoMemory);
    };
    fullnat::strip(way, bytes, headers, checksum);
    if rewrite_to(bytes, headers, new, checksum).is_none() {
        return way.drop(packet, Counter::Malformed);
    }
    packet.claim();
    packet.accept()
}

/// Sends a real server's packet to the client.
pub(crate) fn to_client(
    way: &Way<'_>,
    mut packet: Packet<'_>,
    headers: &Headers,
    entry: &ConnEntry,
) -> Verdict {
    let [original, _] = entry.keys();
    let new = original.reversed();
    if entry.is_fullnat() {
        fullnat::heard(way, &mut packet, headers, entry);
    }
    if way.point == Point::LocalIn && entry.is_fullnat() {
        // It came to a local address: from here on it is ours to forward.
        let Some(dst) = way
            .to_clients
            .find(way.net, new.dst, new.src, way.bh, way.guard)
        else {
            return unreachable(way, packet);
        };
        if dst.is_local() {
            return reinject(way, packet, headers, &new);
        }
        if let Some(problem) = forwardable(&packet, &headers.ip, dst.mtu()) {
            return refuse(way, packet, problem, dst.mtu());
        }
        let checksum = checksum_of(&packet);
        let done = packet
            .writable(headers.len())
            .and_then(|bytes| rewrite_and_age(bytes, headers, &new, checksum));
        return match done {
            Some(()) => send(way, packet, dst),
            None => way.drop(packet, Counter::NoMemory),
        };
    }
    reinject(way, packet, headers, &new)
}

/// Gives a packet its new addresses and lets it go on where it is.
fn reinject(
    way: &Way<'_>,
    mut packet: Packet<'_>,
    headers: &Headers,
    new: &Tuple<Ipv4Addr>,
) -> Verdict {
    match translate(&mut packet, headers, new) {
        Some(()) => {
            let redirected = new.dst != headers.tuple.dst;
            resume(way, packet, redirected)
        }
        None => way.drop(packet, Counter::NoMemory),
    }
}

/// Lets a translated packet go on where it is, with a new route if it needs one.
pub(crate) fn resume(way: &Way<'_>, mut packet: Packet<'_>, redirected: bool) -> Verdict {
    packet.claim();
    let routed = match way.point {
        Point::LocalIn => true,
        _ if redirected => packet.reroute(way.net),
        _ if way.settings.snat_reroute() => packet.reroute_by_source(way.net),
        _ => true,
    };
    if routed {
        packet.accept()
    } else {
        way.drop(packet, Counter::NoRoute)
    }
}

/// The source that a route to the real server is looked up for: ours, if it will be.
pub(crate) fn local_source(entry: &ConnEntry, reply: &Tuple<Ipv4Addr>) -> Ipv4Addr {
    if entry.is_fullnat() {
        reply.dst
    } else {
        Ipv4Addr::UNSPECIFIED
    }
}

/// Why a packet cannot be forwarded as it is.
pub(crate) enum Problem {
    /// Its last hop was here.
    Ttl,
    /// It is too long for the path and must not be fragmented.
    TooBig,
}

/// Can the packet be forwarded over a path?
#[inline]
pub(crate) fn forwardable(packet: &Packet<'_>, ip: &ipv4::Header, mtu: u32) -> Option<Problem> {
    if ip.ttl <= 1 {
        Some(Problem::Ttl)
    } else if ip.dont_fragment && packet.exceeds(mtu) {
        Some(Problem::TooBig)
    } else {
        None
    }
}

/// Drops a packet that cannot be forwarded and tells its sender why.
#[cold]
pub(crate) fn refuse(way: &Way<'_>, packet: Packet<'_>, problem: Problem, mtu: u32) -> Verdict {
    match problem {
        Problem::Ttl => {
            packet.icmp_error(icmp::TIME_EXCEEDED, 0, 0);
            way.drop(packet, Counter::TtlExceeded)
        }
        Problem::TooBig => {
            packet.icmp_error(icmp::DEST_UNREACH, icmp::FRAG_NEEDED, mtu);
            way.drop(packet, Counter::TooBig)
        }
    }
}

/// Drops a packet that has nowhere to go and tells its sender.
#[cold]
pub(crate) fn unreachable(way: &Way<'_>, packet: Packet<'_>) -> Verdict {
    packet.icmp_error(icmp::DEST_UNREACH, icmp::HOST_UNREACH, 0);
    way.drop(packet, Counter::NoRoute)
}

/// Sends a packet that is ready over a route.
#[inline]
pub(crate) fn send(way: &Way<'_>, mut packet: Packet<'_>, dst: &Dst) -> Verdict {
    packet.set_route(dst);
    packet.claim();
    packet.send(way.net)
}

/// How the transport checksum of a packet stands.
#[inline]
fn checksum_of(packet: &Packet<'_>) -> L4Checksum {
    if packet.is_checksum_partial() {
        L4Checksum::Partial
    } else {
        L4Checksum::Full
    }
}

/// Gives a packet its new addresses.
fn translate(packet: &mut Packet<'_>, headers: &Headers, new: &Tuple<Ipv4Addr>) -> Option<()> {
    let checksum = checksum_of(packet);
    let bytes = packet.writable(headers.len())?;
    rewrite_to(bytes, headers, new, checksum)
}

/// Gives a packet that is being forwarded its new addresses, and a hop less to live.
#[inline]
fn rewrite_and_age(
    bytes: &mut [u8],
    headers: &Headers,
    new: &Tuple<Ipv4Addr>,
    checksum: L4Checksum,
) -> Option<()> {
    ipv4::decrement_ttl(bytes).ok()?;
    rewrite_to(bytes, headers, new, checksum)
}

#[inline]
fn rewrite_to(
    bytes: &mut [u8],
    headers: &Headers,
    new: &Tuple<Ipv4Addr>,
    checksum: L4Checksum,
) -> Option<()> {
    rewrite::v4(
        bytes,
        headers.ip.header_len,
        headers.tuple.proto,
        (new.src, new.sport),
        (new.dst, new.dport),
        checksum,
    )
    .ok()?;
    if headers.ip.header_len > ipv4::MIN_LEN {
        ipv4::refresh_checksum(bytes, headers.ip.header_len);
    }
    Some(())
}
