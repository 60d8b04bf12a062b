// SPDX-License-Identifier: GPL-2.0

//! ICMP errors that belong to a connection.
//!
//! An error quotes the packet that it is about, as whoever complains saw it: behind the director, if it
//! was on its way to the real server, and then the error is for the client; before it, if it was on
//! its way to the client, and then it is for the real server. The quoted packet is turned back into
//! what the receiver of the error has sent.

use crate::{
    conn::{
        ConnEntry,
        ORIGINAL, //
    },
    ext::Counter,
    kapi::{
        netfilter::Point,
        route::Dst,
        skb::{
            Packet,
            Verdict, //
        }, //
    },
    netns::NetState,
    xmit::{
        self,
        Problem,
        Way, //
    }, //
};
use core::net::Ipv4Addr;
use rlvs_core::{
    flow::{
        Direction,
        Tuple, //
    },
    wire::{
        self,
        icmp,
        ipv4,
        rewrite,
        toa, //
    }, //
};

/// How an error has to change.
struct Change {
    outer_src: Option<Ipv4Addr>,
    outer_dst: Option<Ipv4Addr>,
    /// The quoted packet as the receiver of the error has sent it.
    quoted: Tuple<Ipv4Addr>,
    mtu: Option<u16>,
}

/// Handles an ICMP packet that starts at its IP header `ip`.
pub(crate) fn handle(
    state: &NetState,
    way: &Way<'_>,
    mut packet: Packet<'_>,
    ip: ipv4::Header,
) -> Verdict {
    let Some((header, inner, quoted)) = read(&mut packet, &ip) else {
        return packet.accept();
    };
    // The quoted packet has been translated, if it is ours: its answers have a key.
    let Some(hit) = state.conns.find(&quoted.reversed(), way.guard) else {
        return packet.accept();
    };
    if !packet.icmp_checksum_ok(ip.header_len) {
        return way.drop(packet, Counter::IcmpChecksum);
    }
    let entry = hit.entry;
    let writable = ip
        .header_len
        .saturating_add(icmp::LEN)
        .saturating_add(inner.header_len)
        .saturating_add(QUOTED.min(packet_rest(&packet, &ip, &inner)));
    if hit.index == ORIGINAL {
        to_server(way, packet, &ip, entry, writable)
    } else {
        to_client(way, packet, &ip, &header, entry, writable)
    }
}

/// How much of the quoted transport header is looked at: enough for its checksum, if it is there.
const QUOTED: usize = 20;

/// How many bytes of the quoted transport header there are.
fn packet_rest(packet: &Packet<'_>, ip: &ipv4::Header, inner: &ipv4::Header) -> usize {
    let before = ip
        .header_len
        .saturating_add(icmp::LEN)
        .saturating_add(inner.header_len);
    usize::try_from(packet.len()).map_or(0, |len| len.saturating_sub(before))
}

/// Reads an error and what it quotes; `None` if it is no error, or is not about TCP or UDP.
fn read(
    packet: &mut Packet<'_>,
    ip: &ipv4::Header,
) -> Option<(icmp::Header, ipv4::Header, Tuple<Ipv4Addr>)> {
    let at_inner = ip.header_len.checked_add(icmp::LEN)?;
    if !packet.pull(at_inner.checked_add(ipv4::MIN_LEN)?) {
        return None;
    }
    let header = icmp::Header::parse(packet.bytes().get(ip.header_len..)?).ok()?;
    if !header.is_error() {
        return None;
    }
    let inner = ipv4::Header::parse(packet.bytes().get(at_inner..)?).ok()?;
    if inner.fragment_offset != 0 {
        return None;
    }
    let at_l4 = at_inner.checked_add(inner.header_len)?;
    if !packet.pull(at_l4.checked_add(8)?) {
        return None;
    }
    let (sport, dport) = wire::ports(inner.proto, packet.bytes().get(at_l4..)?)?;
    let quoted = Tuple {
        src: inner.src,
        dst: inner.dst,
        sport,
        dport,
        proto: inner.proto,
    };
    Some((header, inner, quoted))
}

/// An error about a packet on its way to the real server: tells the client.
fn to_client(
    way: &Way<'_>,
    mut packet: Packet<'_>,
    ip: &ipv4::Header,
    header: &icmp::Header,
    entry: &ConnEntry,
    writable: usize,
) -> Verdict {
    let [original, _] = entry.keys();
    // The client's packets are longer behind us by what we put in.
    let mtu = header
        .next_hop_mtu()
        .filter(|_| entry.carries_toa())
        .map(|mtu| mtu.saturating_sub(toa::V4_LEN as u16));
    let change = Change {
        outer_src: Some(original.dst),
        outer_dst: entry.is_fullnat().then_some(original.src),
        quoted: *original,
        mtu,
    };
    entry.count(Direction::Reply, packet.len());
    if way.point != Point::LocalIn || !entry.is_fullnat() {
        if translate(&mut packet, ip, &change, writable, false).is_none() {
            return packet.accept();
        }
        way.counters.count(Counter::IcmpTranslated);
        return xmit::resume(way, packet, entry.is_fullnat());
    }
    let Some(dst) = way
        .to_clients
        .find(way.net, original.src, original.dst, way.bh, way.guard)
    else {
        return way.drop(packet, Counter::NoRoute);
    };
    forward(way, packet, ip, &change, writable, dst)
}

/// An error about a packet on its way to the client: tells the real server.
fn to_server(
    way: &Way<'_>,
    packet: Packet<'_>,
    ip: &ipv4::Header,
    entry: &ConnEntry,
    writable: usize,
) -> Verdict {
    if way.point == Point::LocalOut {
        return packet.accept();
    }
    let [_, reply] = entry.keys();
    let change = Change {
        // The server may have no route to whoever complains: to it the director does.
        outer_src: entry.is_fullnat().then_some(reply.dst),
        outer_dst: Some(reply.src),
        quoted: *reply,
        mtu: None,
    };
    let source = xmit::local_source(entry, reply);
    let Some(dst) = way
        .to_servers
        .find(way.net, reply.src, source, way.bh, way.guard)
    else {
        return way.drop(packet, Counter::NoRoute);
    };
    entry.count(Direction::Original, packet.len());
    forward(way, packet, ip, &change, writable, dst)
}

/// Translates an error and sends it over a route. Errors about errors are not sent.
fn forward(
    way: &Way<'_>,
    mut packet: Packet<'_>,
    ip: &ipv4::Header,
    change: &Change,
    writable: usize,
    dst: &Dst,
) -> Verdict {
    let local = dst.is_local();
    match xmit::forwardable(&packet, ip, dst.mtu()) {
        Some(Problem::Ttl) if !local => return way.drop(packet, Counter::TtlExceeded),
        Some(Problem::TooBig) if !local => return way.drop(packet, Counter::TooBig),
        _ => {}
    }
    if translate(&mut packet, ip, change, writable, !local).is_none() {
        return packet.accept();
    }
    way.counters.count(Counter::IcmpTranslated);
    if local {
        xmit::resume(way, packet, false)
    } else {
        xmit::send(way, packet, dst)
    }
}

fn translate(
    packet: &mut Packet<'_>,
    ip: &ipv4::Header,
    change: &Change,
    writable: usize,
    age: bool,
) -> Option<()> {
    let quoted = &change.quoted;
    let bytes = packet.writable(writable)?;
    rewrite::icmp_v4(
        bytes,
        ip.header_len,
        change.outer_src,
        change.outer_dst,
        (quoted.src, quoted.sport),
        (quoted.dst, quoted.dport),
        change.mtu,
    )
    .ok()?;
    if age {
        ipv4::decrement_ttl(bytes).ok()?;
    }
    if ip.header_len > ipv4::MIN_LEN {
        ipv4::refresh_checksum(bytes, ip.header_len);
    }
    Some(())
}
