// SPDX-License-Identifier: GPL-2.0

//! Rewriting packets and sending them on.
//!
//! What a packet is rewritten to stands in its connection's keys: the client's packets come with the
//! original tuple and leave with the reply tuple turned round, the server's the other way about. For
//! NAT the reply tuple has the client's own address, for FullNAT a local one. By other methods nothing is
//! rewritten, and the server's packets go to the client without us.

mod direct;
mod fullnat;
mod routes;
pub(crate) mod tunnel;

use self::routes::Caches;
pub(crate) use self::routes::Routes;

use crate::{
    conn::{
        ConnEntry,
        Via, //
    },
    ext::{
        Counter,
        ExtCounters, //
    },
    family::{
        Both,
        Carried, //
    },
    kapi::{
        bh::BhDisabled,
        conntrack::{
            self,
            Ends, //
        },
        family::Complaint,
        netfilter::Point,
        netns::Net,
        route::Dst,
        skb::{
            Packet,
            Verdict, //
        }, //
    },
    sysctl::Settings, //
};
use kernel::sync::rcu::Guard;
use rlvs_core::{
    flow::Tuple,
    wire::{
        headers::Headers,
        ip::Header,
        rewrite::{
            self,
            L4Checksum, //
        },
        tcp, //
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
    /// Routes to real servers and to clients.
    pub(crate) routes: &'a Routes,
    /// Softirqs are off.
    pub(crate) bh: &'a BhDisabled,
    /// What is found stays until the packet is done with.
    pub(crate) guard: &'a Guard,
}

impl<'a> Way<'a> {
    /// The route to a real server, for packets from `source`, or from whichever address.
    #[inline(always)]
    pub(crate) fn to_server<A: Carried>(&self, server: A, source: A) -> Option<&'a Dst<A>> {
        self.route(&self.routes.to_servers, server, source)
    }

    /// The route to a client, for packets from `source`.
    #[inline(always)]
    pub(crate) fn to_client<A: Carried>(&self, client: A, source: A) -> Option<&'a Dst<A>> {
        self.route(&self.routes.to_clients, client, source)
    }

    /// The route to a real server that is a neighbour, whatever the destination of its packets is.
    #[inline(always)]
    pub(crate) fn next_hop<A: Carried>(&self, server: A) -> Option<&'a Dst<A>> {
        let caches = A::of(&self.routes.to_servers);
        // Beside the one for packets to the server itself.
        let spread = server.fold().wrapping_add(1);
        caches.next_hop(self.net, server, spread, self.bh, self.guard)
    }

    /// The route to the far end of a tunnel, and the address of this end.
    #[inline]
    fn tunnel<A: Carried>(&self, server: A) -> Option<(&'a Dst<A>, A)> {
        let caches = A::of(&self.routes.to_servers);
        let spread = server.fold().wrapping_add(2);
        caches.tunnel(self.net, server, spread, self.bh, self.guard)
    }

    #[inline(always)]
    fn route<A: Carried>(&self, caches: &Both<Caches>, to: A, from: A) -> Option<&'a Dst<A>> {
        let spread = to.fold() ^ from.fold().rotate_left(7);
        A::of(caches).find(self.net, to, from, spread, self.bh, self.guard)
    }

    /// Drops a packet and counts why. A sender on this host is told that it may not send it.
    #[cold]
    pub(crate) fn drop(&self, packet: Packet<'_>, why: Counter) -> Verdict {
        self.counters.count(why);
        packet.drop()
    }

    /// Drops a packet that has a server but does not get there, and counts why. To a sender on this host it is
    /// lost on its way.
    #[cold]
    pub(crate) fn lose(&self, packet: Packet<'_>, why: Counter) -> Verdict {
        self.counters.count(why);
        packet.lose()
    }
}

/// Sends a client's packet to the real server.
pub(crate) fn to_server<A: Carried>(
    way: &Way<'_>,
    mut packet: Packet<'_>,
    headers: &Headers<A>,
    entry: &ConnEntry<A>,
) -> Verdict {
    match entry.via {
        Via::Nat | Via::FullNat(_) => rewrite_to_server(way, packet, headers, entry),
        _ if headers.segment.header_len() > tcp::MIN_LEN => {
            let checksum = checksum_of(&packet);
            let Some(bytes) = packet.writable(headers.len()) else {
                return way.lose(packet, Counter::NoMemory);
            };
            fullnat::strip(way, bytes, headers, checksum);
            pass(way, packet, &headers.ip, entry)
        }
        _ => pass(way, packet, &headers.ip, entry),
    }
}

/// Sends a packet to the real server of a connection whose packets are not rewritten, be it the client's or
/// an error about the server's.
#[inline]
pub(crate) fn pass<A: Carried>(
    way: &Way<'_>,
    packet: Packet<'_>,
    ip: &Header<A>,
    entry: &ConnEntry<A>,
) -> Verdict {
    let dest = &entry.dest;
    match entry.via {
        Via::Direct => direct::to_server(way, packet, ip, entry),
        Via::Tunnel => tunnel::to_server(way, packet, ip, entry, dest.tunnel()),
        Via::Bypass => direct::bypass(way, packet, ip, entry),
        Via::Local | Via::Nat | Via::FullNat(_) => direct::let_go(packet, entry),
    }
}

/// Sends a client's packet to the real server with the server's address.
fn rewrite_to_server<A: Carried>(
    way: &Way<'_>,
    mut packet: Packet<'_>,
    headers: &Headers<A>,
    entry: &ConnEntry<A>,
) -> Verdict {
    let [_, reply] = entry.keys();
    let Some(dst) = way.to_server(reply.src, local_source(entry, reply)) else {
        return unreachable::<A>(way, packet);
    };
    let new = reply.reversed();
    if dst.is_local() {
        return to_ourselves(way, packet, headers, entry, &new);
    }
    if headers.ip.src.is_loopback() && !entry.is_fullnat() {
        // Nobody else can answer it.
        return way.lose(packet, Counter::NoRoute);
    }
    let toa = fullnat::toa(way, &packet, headers, entry, dst);
    // The path to the server takes less of what the client sends by what is inserted.
    let mtu = match entry.carries_toa() {
        true => dst.mtu().saturating_sub(u32::from(A::TOA_LEN)),
        false => dst.mtu(),
    };
    if let Some(problem) = problem(&packet, &headers.ip, dst.mtu(), mtu) {
        return refuse(way, packet, &headers.ip, problem);
    }
    let checksum = checksum_of(&packet);
    let Some(bytes) = packet.writable(headers.len()) else {
        return way.lose(packet, Counter::NoMemory);
    };
    fullnat::strip(way, bytes, headers, checksum);
    if rewrite_and_age(bytes, headers, &new, checksum).is_none() {
        return way.lose(packet, Counter::Malformed);
    }
    let inserted = match toa {
        Some(option) => fullnat::insert(way, &mut packet, headers, option.as_ref(), checksum, dst),
        None => Some(()),
    };
    match inserted {
        Some(()) => {
            claim(&mut packet, entry, Some(&new));
            send(way, packet, dst)
        }
        None => way.lose(packet, Counter::Malformed),
    }
}

/// Gives a client's packet to the real server on this host itself: it goes on to the host's sockets.
fn to_ourselves<A: Carried>(
    way: &Way<'_>,
    mut packet: Packet<'_>,
    headers: &Headers<A>,
    entry: &ConnEntry<A>,
    new: &Tuple<A>,
) -> Verdict {
    if new.dst.is_loopback() && way.point == Point::LocalIn && !headers.ip.src.is_loopback() {
        // What listens there does so because the network cannot reach it.
        return way.lose(packet, Counter::NoRoute);
    }
    let checksum = checksum_of(&packet);
    let Some(bytes) = packet.writable(headers.len()) else {
        return way.lose(packet, Counter::NoMemory);
    };
    fullnat::strip(way, bytes, headers, checksum);
    if rewrite_to(bytes, headers, new, checksum).is_none() {
        return way.lose(packet, Counter::Malformed);
    }
    claim(&mut packet, entry, Some(new));
    packet.accept()
}

/// Takes a packet for ours, which will look like `new` if it is rewritten. conntrack keeps out of it, or if
/// it is to keep the connection, learns how the answers look.
#[inline]
pub(crate) fn claim<A: Carried>(
    packet: &mut Packet<'_>,
    entry: &ConnEntry<A>,
    new: Option<&Tuple<A>>,
) {
    if entry.is_tracked() {
        let answers = new.map(|new| Ends {
            src: (new.dst, new.dport),
            dst: (new.src, new.sport),
        });
        packet.claim_tracked(answers.as_ref());
        if entry.is_control() {
            packet.loosen_tracking();
        }
    } else {
        packet.claim();
    }
}

/// Has conntrack forget a connection that has ended, if it was to keep it.
#[cold]
pub(crate) fn untrack<A: Carried>(net: &Net, entry: &ConnEntry<A>) {
    if entry.is_tracked() {
        let [original, _] = entry.keys();
        let client = Ends {
            src: (original.src, original.sport),
            dst: (original.dst, original.dport),
        };
        conntrack::forget(net, original.proto, &client);
    }
}

/// Sends a real server's packet to the client.
pub(crate) fn to_client<A: Carried>(
    way: &Way<'_>,
    mut packet: Packet<'_>,
    headers: &Headers<A>,
    entry: &ConnEntry<A>,
) -> Verdict {
    let [original, _] = entry.keys();
    let new = original.reversed();
    if way.point == Point::LocalIn && entry.is_fullnat() {
        // It came to a local address: from here on it is ours to forward.
        let Some(dst) = way.to_client(new.dst, new.src) else {
            return unreachable::<A>(way, packet);
        };
        if dst.is_local() {
            return reinject(way, packet, headers, entry, &new);
        }
        if let Some(problem) = problem(&packet, &headers.ip, dst.mtu(), dst.mtu()) {
            return refuse(way, packet, &headers.ip, problem);
        }
        // Not before: what is refused is quoted to the server as it was sent.
        fullnat::heard(way, &mut packet, headers, entry);
        let checksum = checksum_of(&packet);
        let done = packet
            .writable(headers.len())
            .and_then(|bytes| rewrite_and_age(bytes, headers, &new, checksum));
        return match done {
            Some(()) => {
                claim(&mut packet, entry, Some(&new));
                send(way, packet, dst)
            }
            None => way.lose(packet, Counter::NoMemory),
        };
    }
    reinject(way, packet, headers, entry, &new)
}

/// Gives a packet its new addresses and lets it go on where it is.
fn reinject<A: Carried>(
    way: &Way<'_>,
    mut packet: Packet<'_>,
    headers: &Headers<A>,
    entry: &ConnEntry<A>,
    new: &Tuple<A>,
) -> Verdict {
    if entry.is_fullnat() {
        fullnat::heard(way, &mut packet, headers, entry);
    }
    match translate(&mut packet, headers, new) {
        Some(()) => {
            claim(&mut packet, entry, Some(new));
            let redirected = new.dst != headers.tuple.dst;
            resume::<A>(way, packet, redirected)
        }
        None => way.lose(packet, Counter::NoMemory),
    }
}

/// Lets a translated packet, which is claimed, go on where it is, with a new route if it needs one.
pub(crate) fn resume<A: Carried>(
    way: &Way<'_>,
    mut packet: Packet<'_>,
    redirected: bool,
) -> Verdict {
    let routed = match way.point {
        Point::LocalIn => true,
        _ if redirected => packet.reroute::<A>(way.net),
        _ if way.settings.snat_reroute() => packet.reroute_by_source::<A>(way.net),
        _ => true,
    };
    if routed {
        packet.accept()
    } else {
        way.lose(packet, Counter::NoRoute)
    }
}

/// The source that a route to the real server is looked up for: ours, if it will be.
pub(crate) fn local_source<A: Carried>(entry: &ConnEntry<A>, reply: &Tuple<A>) -> A {
    if entry.is_fullnat() {
        reply.dst
    } else {
        A::UNSPECIFIED
    }
}

/// Why a packet cannot be forwarded as it is over a path that takes `mtu`; its sender is to be told
/// that it takes `told`.
#[inline]
pub(crate) fn problem<A: Carried>(
    packet: &Packet<'_>,
    ip: &Header<A>,
    mtu: u32,
    told: u32,
) -> Option<Complaint> {
    if ip.hops <= 1 {
        Some(Complaint::Expired)
    } else if ip.dont_fragment && packet.exceeds::<A>(mtu) {
        Some(Complaint::TooBig(told))
    } else {
        None
    }
}

/// Drops a packet that cannot be forwarded and tells its sender why.
#[cold]
pub(crate) fn refuse<A: Carried>(
    way: &Way<'_>,
    mut packet: Packet<'_>,
    ip: &Header<A>,
    problem: Complaint,
) -> Verdict {
    if matches!(problem, Complaint::TooBig(_)) {
        // It would leave with a hop less, and is quoted so.
        let _ = age(&mut packet, ip);
    }
    packet.complain::<A>(way.net, problem);
    way.lose(packet, counter(problem))
}

/// What counts the packets that were dropped for a reason.
pub(crate) fn counter(problem: Complaint) -> Counter {
    match problem {
        Complaint::NoRoute => Counter::NoRoute,
        Complaint::NoPort => Counter::NoDest,
        Complaint::Expired => Counter::TtlExceeded,
        Complaint::TooBig(_) => Counter::TooBig,
    }
}

/// Drops a packet that has nowhere to go and tells its sender.
#[cold]
pub(crate) fn unreachable<A: Carried>(way: &Way<'_>, packet: Packet<'_>) -> Verdict {
    packet.complain::<A>(way.net, Complaint::NoRoute);
    way.lose(packet, Counter::NoRoute)
}

/// Sends a packet that is ready and claimed over a route.
#[inline]
pub(crate) fn send<A: Carried>(way: &Way<'_>, mut packet: Packet<'_>, dst: &Dst<A>) -> Verdict {
    packet.set_route(dst);
    packet.send::<A>(way.net)
}

/// How the transport checksum of a packet stands.
#[inline]
pub(crate) fn checksum_of(packet: &Packet<'_>) -> L4Checksum {
    if packet.is_checksum_partial() {
        L4Checksum::Partial
    } else {
        L4Checksum::Full
    }
}

/// Gives a packet its new addresses.
fn translate<A: Carried>(
    packet: &mut Packet<'_>,
    headers: &Headers<A>,
    new: &Tuple<A>,
) -> Option<()> {
    let checksum = checksum_of(packet);
    let bytes = packet.writable(headers.len())?;
    rewrite_to(bytes, headers, new, checksum)
}

/// Takes a hop from a packet that is forwarded with the addresses it has.
#[inline]
fn age<A: Carried>(packet: &mut Packet<'_>, ip: &Header<A>) -> Option<()> {
    // What follows the fixed part of IPv6 is no business of ours.
    let len = match A::HEADER_CHECKSUM {
        true => ip.header_len,
        false => A::MIN_LEN,
    };
    let bytes = packet.writable(len)?;
    A::decrement_hops(bytes).ok()?;
    A::refresh_checksum(bytes, len);
    Some(())
}

/// Gives a packet that is being forwarded its new addresses, and a hop less to live.
#[inline]
fn rewrite_and_age<A: Carried>(
    bytes: &mut [u8],
    headers: &Headers<A>,
    new: &Tuple<A>,
    checksum: L4Checksum,
) -> Option<()> {
    A::decrement_hops(bytes).ok()?;
    rewrite_to(bytes, headers, new, checksum)
}

#[inline]
fn rewrite_to<A: Carried>(
    bytes: &mut [u8],
    headers: &Headers<A>,
    new: &Tuple<A>,
    checksum: L4Checksum,
) -> Option<()> {
    rewrite::transport(
        bytes,
        &headers.ip,
        (new.src, new.sport),
        (new.dst, new.dport),
        checksum,
    )
    .ok()?;
    A::refresh_checksum(bytes, headers.ip.header_len);
    Some(())
}
