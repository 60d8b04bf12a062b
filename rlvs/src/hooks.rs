// SPDX-License-Identifier: GPL-2.0

//! Where packets come in.
//!
//! One lookup answers which connection a packet belongs to and which way it goes. A packet that
//! belongs to none may open one, if it is for a service.

use crate::{
    conn::{
        ConnEntry,
        OPENED,
        ORIGINAL, //
    },
    ext::Counter,
    family::Carried,
    fast::{
        self,
        way, //
    },
    ftp,
    icmp,
    kapi::{
        bh::BhDisabled,
        hash::Hash,
        netfilter::{
            priority,
            Handler,
            Hook,
            Point, //
        },
        netns::Net,
        skb::{
            DefragUser,
            Glimpse,
            Packet,
            Verdict, //
        }, //
    },
    netns::{
        Hooks,
        NetState, //
    },
    open,
    sync,
    xmit::{
        self,
        Way, //
    }, //
};
use core::{
    marker::PhantomData,
    net::{
        Ipv4Addr,
        Ipv6Addr, //
    }, //
};
use kernel::sync::rcu;
use rlvs_core::{
    flow::{
        Direction,
        Family, //
    },
    proto::State,
    wire::{
        headers::{
            Headers,
            Segment, //
        },
        ip::Header,
        sctp,
        Error,
        IPPROTO_AH,
        IPPROTO_ESP,
        IPPROTO_SCTP,
        IPPROTO_TCP,
        IPPROTO_UDP, //
    }, //
};

/// The hooks of a namespace that has services.
///
/// At mainline's places: after the filter rules at `LOCAL_IN` and `FORWARD`, after the rules that may
/// mark a packet at `LOCAL_OUT`.
pub(crate) static HOOKS: Hooks = Hooks {
    ipv4: &[
        Hook::ipv4::<Director<Ipv4Addr>>(Point::LocalIn, priority::NAT_SRC - 2),
        Hook::ipv4::<Director<Ipv4Addr>>(Point::Forward, 100),
        Hook::ipv4::<Director<Ipv4Addr>>(Point::LocalOut, priority::NAT_DST + 1),
    ],
    ipv6: &[
        Hook::ipv6::<Director<Ipv6Addr>>(Point::LocalIn, priority::NAT_SRC - 2),
        Hook::ipv6::<Director<Ipv6Addr>>(Point::Forward, 100),
        Hook::ipv6::<Director<Ipv6Addr>>(Point::LocalOut, priority::NAT_DST + 1),
    ],
};

/// So much of a packet is looked at in search of its transport header.
const LOOK: usize = 256;

/// Handles the packets of a family.
struct Director<A>(PhantomData<A>);

impl<A: Carried> Handler for Director<A> {
    type State = NetState;

    /// Most packets of a router are not ours. A marked one may be for any address, but is only taken where it
    /// leaves the router or enters it; what passes through is ours if it comes from a real server.
    #[inline]
    fn concerns(state: &NetState, point: Point, packet: &Glimpse<'_>) -> bool {
        let bytes = packet.bytes();
        let Some((src, dst)) = A::addresses(bytes) else {
            return false;
        };
        if point == Point::Forward {
            return state.filter.has(src) || A::may_be_icmp(bytes);
        }
        !packet.is_claimed()
            && (state.filter.has(dst)
                || state.filter.has(src)
                || A::may_be_icmp(bytes)
                || state.services.has_mark(packet.mark()))
    }

    #[inline(always)]
    fn handle(state: &NetState, net: &Net, point: Point, packet: Packet<'_>) -> Verdict {
        let eligible = match point {
            Point::LocalIn => {
                packet.is_for_host() && !(state.settings.ignore_tunneled() && packet.is_tunneled())
            }
            Point::Forward => packet.has_route() && !packet.is_claimed(),
            Point::LocalOut => packet.has_route() && !packet.is_raw(),
        };
        if !eligible {
            return packet.accept();
        }
        if state.is_standby() {
            // The long way asks what is left to the host itself.
            return general::<A>(state, net, point, packet);
        }
        let (bh, guard) = (BhDisabled::new(), rcu::read_lock());
        let way = way(state, net, point, &bh, &guard);
        let Some(headers) = Headers::<A>::ordinary(packet.bytes(), packet.len() as usize) else {
            return general::<A>(state, net, point, packet);
        };
        let conns = A::of(&state.conns);
        let hash = conns.hash_of(&headers.tuple);
        let (packet, entry, index) = match conns.find_hashed(&headers.tuple, hash, &guard) {
            Some(hit) => (packet, hit.entry, hit.index),
            // Copies: whose address is taken is kept in memory from the beginning.
            None => match stranger(state, &Way { ..way }, packet, &{ headers }, hash) {
                Ok((packet, entry)) => (packet, entry, OPENED),
                Err(verdict) => return verdict,
            },
        };
        match fast::handle(state, &way, packet, &headers, entry, index) {
            Ok(verdict) => verdict,
            Err(packet) => known(state, net, point, packet, &{ headers }, entry, index),
        }
    }
}

/// A packet with something unusual about it.
#[inline(never)]
fn general<A: Carried>(
    state: &NetState,
    net: &Net,
    point: Point,
    mut packet: Packet<'_>,
) -> Verdict {
    let (bh, guard) = (BhDisabled::new(), rcu::read_lock());
    let Some(ip) = header::<A>(&mut packet) else {
        return packet.accept();
    };
    dispatch(state, &way(state, net, point, &bh, &guard), packet, ip)
}

/// An ordinary packet of a connection that cannot go the short way.
#[inline(never)]
fn known<A: Carried>(
    state: &NetState,
    net: &Net,
    point: Point,
    packet: Packet<'_>,
    headers: &Headers<A>,
    entry: &ConnEntry<A>,
    index: u8,
) -> Verdict {
    let (bh, guard) = (BhDisabled::new(), rcu::read_lock());
    let way = way(state, net, point, &bh, &guard);
    if index == OPENED {
        return open::begin(state, &way, packet, headers, entry);
    }
    connection(state, &way, packet, headers, entry, index)
}

/// The IP header of a packet; `None` if it has no good one.
#[inline]
fn header<A: Carried>(packet: &mut Packet<'_>) -> Option<Header<A>> {
    let len = packet.len() as usize;
    match A::parse(packet.bytes(), len) {
        Ok(ip) => Some(ip),
        Err(Error::Truncated) if packet.pull(len.min(LOOK)) => A::parse(packet.bytes(), len).ok(),
        Err(_) => None,
    }
}

/// Packets go to where their protocol is handled, whole if it has to be seen.
fn dispatch<A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    mut packet: Packet<'_>,
    mut ip: Header<A>,
) -> Verdict {
    match ip.proto {
        IPPROTO_TCP | IPPROTO_UDP | IPPROTO_SCTP => {}
        IPPROTO_AH | IPPROTO_ESP => return ipsec(state, way, packet, ip),
        proto if proto == A::ICMP => {}
        _ => return packet.accept(),
    }
    if ip.is_fragment() {
        // Those of IPv6 were put together before they came here, if they could be.
        let user = match way.point {
            _ if A::FAMILY == Family::V6 => return packet.accept(),
            // `ip_local_deliver()` has put it together.
            Point::LocalIn => return packet.accept(),
            Point::Forward => DefragUser::Forward,
            Point::LocalOut => DefragUser::Output,
        };
        packet = match packet.defragment(way.net, user) {
            Ok(packet) => packet,
            Err(verdict) => return verdict,
        };
        ip = match header(&mut packet) {
            Some(ip) => ip,
            None => return packet.accept(),
        };
    }
    match ip.proto {
        IPPROTO_TCP | IPPROTO_UDP => transport(state, way, packet, ip),
        IPPROTO_SCTP => sctp(state, way, packet, ip),
        _ => icmp::handle(state, way, packet, ip),
    }
}

/// A packet of AH or ESP, which may be a fragment: only its addresses matter.
///
/// By FullNAT the real server cannot answer: what comes from all clients is from one address, and there
/// are no ports.
#[cold]
fn ipsec<A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    packet: Packet<'_>,
    ip: Header<A>,
) -> Verdict {
    let Ok(headers) = Headers::parse(ip, packet.bytes()) else {
        return packet.accept();
    };
    match A::of(&state.conns).find(&headers.tuple, way.guard) {
        Some(hit) if !hit.entry.is_fullnat() && !state.leaves(Some(hit.index)) => {
            connection(state, way, packet, &headers, hit.entry, hit.index)
        }
        _ => packet.accept(),
    }
}

/// An SCTP packet.
///
/// Its payload may be a chain of packets that the device sends one by one: nothing of it must be moved to
/// the headers.
#[cold]
fn sctp<A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    mut packet: Packet<'_>,
    ip: Header<A>,
) -> Verdict {
    let at = ip.header_len.saturating_add(sctp::LEN);
    let mut first = [0; sctp::CHUNK_LEN];
    let there = packet.pull(at) && packet.copy(at, &mut first);
    let second = sctp::second_chunk(first).and_then(|from| packet.byte(at.checked_add(from)?));
    match Headers::parse(ip, packet.bytes()) {
        Ok(mut headers) if there => {
            if let Segment::Sctp(header) = &mut headers.segment {
                header.chunk = Some(sctp::counts(first, second));
            }
            find(state, way, packet, &headers)
        }
        _ => malformed(way, packet),
    }
}

/// A TCP or UDP packet.
#[inline]
fn transport<A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    mut packet: Packet<'_>,
    ip: Header<A>,
) -> Verdict {
    let linear = Headers::needed(&ip)
        .is_some_and(|needed| packet.bytes().len() >= needed || packet.pull(needed));
    match Headers::parse(ip, packet.bytes()) {
        Ok(headers) if linear => find(state, way, packet, &headers),
        _ => malformed(way, packet),
    }
}

/// Of a packet with bad headers that came to this host nothing good can be made. What passes through may
/// be anybody's.
#[cold]
fn malformed(way: &Way<'_>, packet: Packet<'_>) -> Verdict {
    match way.point {
        Point::LocalIn => way.drop(packet, Counter::Malformed),
        _ => packet.accept(),
    }
}

/// Finds out whose packet it is.
#[inline]
fn find<A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    packet: Packet<'_>,
    headers: &Headers<A>,
) -> Verdict {
    let conns = A::of(&state.conns);
    let hash = conns.hash_of(&headers.tuple);
    let hit = conns.find_hashed(&headers.tuple, hash, way.guard);
    if state.leaves(hit.as_ref().map(|hit| hit.index)) {
        return packet.accept();
    }
    match hit {
        Some(hit) => connection(state, way, packet, headers, hit.entry, hit.index),
        None => first(
            state,
            way,
            headers,
            stranger(state, way, packet, headers, hash),
        ),
    }
}

/// Handles the packet that has opened a connection, if it has.
fn first<A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    headers: &Headers<A>,
    opened: Result<(Packet<'_>, &ConnEntry<A>), Verdict>,
) -> Verdict {
    match opened {
        Ok((packet, entry)) => open::begin(state, way, packet, headers, entry),
        Err(verdict) => verdict,
    }
}

/// A packet that no connection has a key for: returns it with the connection that it has opened.
#[inline(never)]
fn stranger<'g, 'a, A: Carried>(
    state: &'g NetState,
    way: &Way<'g>,
    mut packet: Packet<'a>,
    headers: &Headers<A>,
    hash: Hash,
) -> Result<(Packet<'a>, &'g ConnEntry<A>), Verdict> {
    match state.unasked(&headers.tuple, way.now, way.guard) {
        Some(entry) => {
            entry.answered();
            let secure = || way.settings.secure_tcp();
            entry.saw(
                Direction::Reply,
                packet.len(),
                &headers.segment,
                way.now,
                secure,
                way.bh,
            );
            xmit::claim(&mut packet, entry, None);
            Err(packet.accept())
        }
        None => open::open(state, way, packet, headers, hash),
    }
}

/// A packet of a connection, found by the key with that index.
#[inline]
fn connection<A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    packet: Packet<'_>,
    headers: &Headers<A>,
    entry: &ConnEntry<A>,
    index: u8,
) -> Verdict {
    let segment = &headers.segment;
    if index == ORIGINAL && way.point == Point::Forward {
        // Only what is routed to this host is scheduled: see `open::open`.
        return packet.accept();
    }
    if entry.is_expired(way.now, &state.timeouts)
        || index == ORIGINAL && is_over(way, entry, segment)
    {
        return anew(state, way, packet, headers, entry);
    }
    let direction = match index {
        ORIGINAL if !entry.dest.is_available() => return way.drop(packet, Counter::DestGone),
        ORIGINAL => Direction::Original,
        _ => Direction::Reply,
    };
    entry.saw(
        direction,
        packet.len(),
        segment,
        way.now,
        || way.settings.secure_tcp(),
        way.bh,
    );
    if entry.is_shared() {
        sync::passed(state, way, packet.mark(), entry, direction);
    }
    match (direction, entry.is_control()) {
        (Direction::Original, true) => ftp::to_server(state, way, packet, headers, entry),
        (Direction::Original, false) => xmit::to_server(way, packet, headers, entry),
        (Direction::Reply, true) => ftp::to_client(state, way, packet, headers, entry),
        (Direction::Reply, false) => xmit::to_client(way, packet, headers, entry),
    }
}

/// A packet that comes when its connection has ended.
#[cold]
fn anew<A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    packet: Packet<'_>,
    headers: &Headers<A>,
    entry: &ConnEntry<A>,
) -> Verdict {
    A::of(&state.conns).end(entry, way.guard);
    if entry.is_tracked() {
        let known = packet.is_tracked_already();
        xmit::untrack(way.net, entry);
        if known {
            // What conntrack knows is attached to the packet: the client's next one will do.
            return packet.drop();
        }
    }
    let hash = A::of(&state.conns).hash_of(&headers.tuple);
    first(
        state,
        way,
        headers,
        open::open(state, way, packet, headers, hash),
    )
}

/// Does the client open a new connection with the tuple of one that is over, or that has lost its real
/// server while the operator wants such connections expired?
#[inline]
fn is_over<A: Carried>(way: &Way<'_>, entry: &ConnEntry<A>, segment: &Segment) -> bool {
    if !entry.dest.is_available() {
        return way.settings.expire_nodest_conn();
    }
    if !segment.restarts() {
        return false;
    }
    if way.settings.expire_nodest_conn() && entry.dest.weight() == 0 {
        return true;
    }
    // Who a template sends to the same server again has no use for another connection.
    let mode = match entry.is_controlled() {
        true => 0,
        false => way.settings.conn_reuse_mode(),
    };
    let reused = match entry.state() {
        State::TimeWait | State::Close | State::Closed => mode != 0,
        State::FinWait => mode & 2 != 0 && entry.is_one_way(),
        _ => false,
    };
    if reused {
        way.counters.count(Counter::ConnReused);
    }
    reused
}
