// SPDX-License-Identifier: GPL-2.0

//! Where packets come in.
//!
//! One lookup answers which connection a packet belongs to and which way it goes. A packet that
//! belongs to none may open one, if it is for a service.

use crate::{
    conn::{
        ConnEntry,
        ORIGINAL, //
    },
    ext::Counter,
    icmp,
    kapi::{
        bh::BhDisabled,
        netfilter::{
            priority,
            Handler,
            Hook,
            Point, //
        },
        netns::{
            Net,
            PerNet, //
        },
        skb::{
            DefragUser,
            Packet,
            Verdict, //
        },
        time, //
    },
    netns::NetState,
    open,
    xmit::{
        self,
        Way, //
    }, //
};
use kernel::sync::rcu;
use rlvs_core::{
    flow::Direction,
    proto::{
        self,
        State, //
    },
    wire::{
        headers::Headers,
        ipv4,
        tcp,
        IPPROTO_ICMP,
        IPPROTO_TCP,
        IPPROTO_UDP, //
    }, //
};

/// The hooks of a namespace that has services.
///
/// At mainline's places: after the filter rules at `LOCAL_IN` and `FORWARD`, after the rules that may
/// mark a packet at `LOCAL_OUT`.
pub(crate) static HOOKS: &[Hook] = &[
    Hook::ipv4::<Director>(Point::LocalIn, priority::NAT_SRC - 2),
    Hook::ipv4::<Director>(Point::Forward, 100),
    Hook::ipv4::<Director>(Point::LocalOut, priority::NAT_DST + 1),
];

struct Director;

impl Handler for Director {
    #[inline]
    fn handle(net: &Net, point: Point, packet: Packet<'_>) -> Verdict {
        let Some(state) = NetState::of(net) else {
            return packet.accept();
        };
        if packet.is_claimed() {
            return packet.accept();
        }
        let eligible = match point {
            Point::LocalIn => packet.is_for_host(),
            Point::Forward => packet.has_route(),
            Point::LocalOut => packet.has_route() && !packet.is_raw(),
        };
        let Ok(ip) = ipv4::Header::parse_within(packet.bytes(), packet.len() as usize) else {
            return packet.accept();
        };
        // Most packets of a router are not ours: these stop here.
        let known = state.filter.has(ip.dst) || state.filter.has(ip.src);
        if !eligible || !(known || ip.proto == IPPROTO_ICMP) {
            return packet.accept();
        }
        let (bh, guard) = (BhDisabled::new(), rcu::read_lock());
        let way = Way {
            net,
            point,
            now: time::now(),
            settings: &state.settings,
            counters: &state.counters,
            to_servers: &state.to_servers,
            to_clients: &state.to_clients,
            bh: &bh,
            guard: &guard,
        };
        dispatch(state, &way, packet, ip)
    }
}

/// Whole packets go to where their protocol is handled.
fn dispatch(
    state: &NetState,
    way: &Way<'_>,
    mut packet: Packet<'_>,
    mut ip: ipv4::Header,
) -> Verdict {
    if !matches!(ip.proto, IPPROTO_TCP | IPPROTO_UDP | IPPROTO_ICMP) {
        return packet.accept();
    }
    if ip.is_fragment() {
        let user = match way.point {
            // `ip_local_deliver()` has put it together.
            Point::LocalIn => return packet.accept(),
            Point::Forward => DefragUser::Forward,
            Point::LocalOut => DefragUser::Output,
        };
        packet = match packet.defragment(way.net, user) {
            Ok(packet) => packet,
            Err(verdict) => return verdict,
        };
        ip = match ipv4::Header::parse(packet.bytes()) {
            Ok(ip) => ip,
            Err(_) => return packet.accept(),
        };
    }
    if ip.proto == IPPROTO_ICMP {
        icmp::handle(state, way, packet, ip)
    } else {
        transport(state, way, packet, ip)
    }
}

/// A TCP or UDP packet.
#[inline]
fn transport(state: &NetState, way: &Way<'_>, mut packet: Packet<'_>, ip: ipv4::Header) -> Verdict {
    let linear = Headers::needed(&ip)
        .is_some_and(|needed| packet.bytes().len() >= needed || packet.pull(needed));
    let headers = match Headers::parse(ip, packet.bytes()) {
        Ok(headers) if linear => headers,
        // Of what came to this host nothing good can be made. What passes through may be
        // anybody's.
        _ if way.point == Point::LocalIn => return way.drop(packet, Counter::Malformed),
        _ => return packet.accept(),
    };
    match state.conns.find(&headers.tuple, way.guard) {
        Some(hit) => connection(state, way, packet, &headers, hit.entry, hit.index),
        None => open::open(state, way, packet, &headers),
    }
}

/// A packet of a connection, found by the key with that index.
#[inline]
fn connection(
    state: &NetState,
    way: &Way<'_>,
    packet: Packet<'_>,
    headers: &Headers,
    entry: &ConnEntry,
    index: u8,
) -> Verdict {
    let flags = headers.segment.flags();
    if entry.is_expired(way.now, &state.timeouts) {
        state.conns.remove(entry, way.guard);
        return open::open(state, way, packet, headers);
    }
    if index != ORIGINAL {
        entry.saw(Direction::Reply, packet.len(), flags, way.now);
        return xmit::to_client(way, packet, headers, entry);
    }
    if is_over(way, entry, flags) {
        state.conns.remove(entry, way.guard);
        return open::open(state, way, packet, headers);
    }
    if !entry.dest.is_available() {
        return way.drop(packet, Counter::DestGone);
    }
    entry.saw(Direction::Original, packet.len(), flags, way.now);
    xmit::to_server(way, packet, headers, entry)
}

/// Does the client open a new connection with the tuple of one that is over, or that has lost its real
/// server while the operator wants such connections expired?
#[inline]
fn is_over(way: &Way<'_>, entry: &ConnEntry, flags: Option<tcp::Flags>) -> bool {
    if !entry.dest.is_available() {
        return way.settings.expire_nodest_conn();
    }
    if !flags.is_some_and(proto::tcp::opens) {
        return false;
    }
    if way.settings.expire_nodest_conn() && entry.dest.weight() == 0 {
        return true;
    }
    let reused = way.settings.conn_reuse_mode() != 0
        && matches!(entry.state(), State::TimeWait | State::Close);
    if reused {
        way.counters.count(Counter::ConnReused);
    }
    reused
}
