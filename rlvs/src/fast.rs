// SPDX-License-Identifier: GPL-2.0

//! The short way: an ordinary packet of a connection that is open and stays so, if only since that packet.
//!
//! Nearly all packets are of that kind, and there is nothing about them to decide. What this way
//! does, the long one (`hooks`, `xmit`) does as well: whenever anything might be different, the packet
//! goes there as it came, and nothing was noted of it.

use crate::{
    conn::{
        ConnEntry,
        OPENED,
        ORIGINAL, //
    },
    ext::{
        Counter,
        ExtCounters, //
    },
    family::Carried,
    kapi::{
        bh::BhDisabled,
        netfilter::Point,
        netns::Net,
        route::Dst,
        skb::{
            Packet,
            Verdict, //
        },
        time, //
    },
    netns::NetState,
    sysctl::Settings,
    xmit::{
        self,
        Way, //
    }, //
};
use kernel::sync::rcu::{
    self,
    Guard, //
};
use rlvs_core::{
    flow::{
        Direction,
        Tuple, //
    },
    wire::{
        headers::{
            Headers,
            Segment, //
        },
        rewrite::{
            self,
            L4Checksum, //
        },
        tcp,
        toa, //
    }, //
};

/// What a packet has at hand.
#[inline(always)]
pub(crate) fn way<'a>(
    state: &'a NetState,
    net: &'a Net,
    point: Point,
    bh: &'a BhDisabled,
    guard: &'a Guard,
) -> Way<'a> {
    Way {
        net,
        point,
        now: time::now(),
        settings: &state.settings,
        counters: &state.counters,
        routes: &state.routes,
        bh,
        guard,
    }
}

/// Handles a packet of a connection, found by the key with that index or just opened; gives it back if it
/// cannot go the short way.
// All of it is one function: what the parts would hand to each other stays in registers.
#[inline(always)]
pub(crate) fn handle<'a, A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    packet: Packet<'a>,
    headers: &Headers<A>,
    entry: &ConnEntry<A>,
    index: u8,
) -> Result<Verdict, Packet<'a>> {
    if !headers.segment.keeps(entry.is_established())
        || !entry.is_plain()
        || !entry.dest.is_available()
        || entry.is_expired(way.now, &state.timeouts)
    {
        return Err(packet);
    }
    let original = matches!(index, ORIGINAL | OPENED);
    let (fullnat, point) = (entry.is_fullnat(), way.point);
    if original && point == Point::LocalIn {
        if entry.is_tunneled() {
            // A copy: see `hooks`.
            return Ok(through(state, way.net, packet, &{ *headers }, entry));
        }
        to_server(way, packet, headers, entry)
    } else if !original && fullnat && point == Point::LocalIn {
        to_client(way, packet, headers, entry)
    } else if !original && !fullnat && point == Point::Forward {
        back(way, packet, headers, entry)
    } else {
        Err(packet)
    }
}

/// The client's packet to the real server.
#[inline(always)]
fn to_server<'a, A: Carried>(
    way: &Way<'_>,
    packet: Packet<'a>,
    headers: &Headers<A>,
    entry: &ConnEntry<A>,
) -> Result<Verdict, Packet<'a>> {
    let [_, reply] = entry.keys();
    let (dst, ends) = match entry.is_direct() {
        true => {
            let server = A::from_ip(entry.dest.addr);
            (server.and_then(|server| way.next_hop(server)), None)
        }
        false => {
            let source = xmit::local_source(entry, reply);
            let ends = [(reply.dst, reply.dport), (reply.src, reply.sport)];
            (way.to_server(reply.src, source), Some(ends))
        }
    };
    match dst {
        Some(dst) if !headers.ip.src.is_loopback() => {
            send(way, packet, headers, entry, dst, Direction::Original, ends)
        }
        _ => Err(packet),
    }
}

/// The client's packet to a real server behind a tunnel: the same as the long way does, without looking at it
/// again.
// With a `Way` of its own: what other packets have is in registers.
#[inline(never)]
fn through<A: Carried>(
    state: &NetState,
    net: &Net,
    packet: Packet<'_>,
    headers: &Headers<A>,
    entry: &ConnEntry<A>,
) -> Verdict {
    let (bh, guard) = (BhDisabled::new(), rcu::read_lock());
    let way = way(state, net, Point::LocalIn, &bh, &guard);
    entry.passed(Direction::Original, packet.len(), way.now, way.bh);
    match headers.segment.header_len() > tcp::MIN_LEN {
        // One of the options may be a TOA.
        true => xmit::to_server(&way, packet, headers, entry),
        false => xmit::tunnel::to_server(&way, packet, &headers.ip, entry, entry.dest.tunnel()),
    }
}

/// The real server's packet, which came to a local address, to the client.
#[inline(always)]
fn to_client<'a, A: Carried>(
    way: &Way<'_>,
    packet: Packet<'a>,
    headers: &Headers<A>,
    entry: &ConnEntry<A>,
) -> Result<Verdict, Packet<'a>> {
    let [original, _] = entry.keys();
    match way.to_client(original.src, original.dst) {
        Some(dst) if !entry.is_unassured() => {
            let ends = Some(ends_of_reply(original));
            send(way, packet, headers, entry, dst, Direction::Reply, ends)
        }
        _ => Err(packet),
    }
}

/// Source and destination of what the client gets.
#[inline(always)]
fn ends_of_reply<A: Carried>(original: &Tuple<A>) -> [(A, u16); 2] {
    [
        (original.dst, original.dport),
        (original.src, original.sport),
    ]
}

/// Sends a packet over a route with a hop less to live, and with another source and destination if it is to
/// have these.
#[inline(always)]
fn send<'a, A: Carried>(
    way: &Way<'_>,
    mut packet: Packet<'a>,
    headers: &Headers<A>,
    entry: &ConnEntry<A>,
    dst: &Dst<A>,
    direction: Direction,
    ends: Option<[(A, u16); 2]>,
) -> Result<Verdict, Packet<'a>> {
    let fits = !headers.ip.dont_fragment
        || packet.len() <= A::LEAST_MTU
        || !packet.exceeds::<A>(dst.mtu());
    if dst.is_local() || !fits {
        return Err(packet);
    }
    entry.passed(direction, packet.len(), way.now, way.bh);
    let checksum = xmit::checksum_of(&packet);
    let Some(bytes) = packet.writable(headers.len()) else {
        return Ok(drop(way, packet, Counter::NoMemory));
    };
    if let (Segment::Tcp(_), Direction::Original) = (headers.segment, direction) {
        strip::<A>(way.settings, way.counters, bytes, checksum);
    }
    let aged = A::decrement_hops(bytes);
    let rewritten = match ends {
        Some([src, dst]) => rewrite::ordinary(bytes, &headers.segment, src, dst, checksum),
        None => Ok(()),
    };
    if aged.is_err() || rewritten.is_err() {
        return Ok(drop(way, packet, Counter::Malformed));
    }
    packet.claim();
    Ok(xmit::send(way, packet, dst))
}

/// The real server's packet, which the host is forwarding to the client: it goes on, from the service.
#[inline(always)]
fn back<'a, A: Carried>(
    way: &Way<'_>,
    mut packet: Packet<'a>,
    headers: &Headers<A>,
    entry: &ConnEntry<A>,
) -> Result<Verdict, Packet<'a>> {
    let [original, _] = entry.keys();
    if original.src != headers.ip.dst || entry.is_unassured() {
        return Err(packet);
    }
    entry.passed(Direction::Reply, packet.len(), way.now, way.bh);
    let checksum = xmit::checksum_of(&packet);
    let Some(bytes) = packet.writable(headers.len()) else {
        return Ok(drop(way, packet, Counter::NoMemory));
    };
    let [src, dst] = ends_of_reply(original);
    if rewrite::ordinary(bytes, &headers.segment, src, dst, checksum).is_err() {
        return Ok(drop(way, packet, Counter::Malformed));
    }
    packet.claim();
    if way.settings.snat_reroute() && !packet.reroute_by_source::<A>(way.net) {
        return Ok(drop(way, packet, Counter::NoRoute));
    }
    Ok(packet.accept())
}

/// Blanks out what a client itself sent as TOA.
fn strip<A: Carried>(
    settings: &Settings,
    counters: &ExtCounters,
    bytes: &mut [u8],
    checksum: L4Checksum,
) {
    if let Some(tcp) = bytes.get_mut(A::MIN_LEN..) {
        if toa::strip(tcp, settings.toa_kind(), checksum) > 0 {
            counters.count(Counter::ToaStripped);
        }
    }
}

/// As [`Way::drop`], which would have the `Way` in memory.
#[inline(always)]
fn drop(way: &Way<'_>, packet: Packet<'_>, why: Counter) -> Verdict {
    way.counters.count(why);
    packet.drop()
}
