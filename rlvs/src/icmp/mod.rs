// SPDX-License-Identifier: GPL-2.0

//! ICMP errors that belong to a connection.
//!
//! An error quotes the packet that it is about, as whoever complains saw it: behind the director, if it
//! was on its way to the real server, and then the error is for the client; before it, if it was on
//! its way to the client, and then it is for the real server. The quoted packet is turned back into
//! what the receiver of the error has sent.

mod tunnel;

use crate::{
    conn::{
        ConnEntry,
        ORIGINAL, //
    },
    ext::Counter,
    family::Carried,
    kapi::{
        netfilter::Point,
        route::Dst,
        skb::{
            Packet,
            Verdict, //
        }, //
    },
    netns::NetState,
    open::{
        self,
        Refusal, //
    },
    xmit::{
        self,
        Way, //
    }, //
};
use rlvs_core::{
    flow::{
        Direction,
        Tuple, //
    },
    wire::{
        self,
        icmp,
        ip::Header,
        rewrite::{
            self,
            Translation, //
        },
        Error, //
    }, //
};

/// Handles an ICMP packet that starts at its IP header `ip`.
pub(crate) fn handle<A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    mut packet: Packet<'_>,
    ip: Header<A>,
) -> Verdict {
    let Some((header, inner, quoted)) = read(&mut packet, &ip) else {
        if state.leaves(None) {
            return packet.accept();
        }
        return tunnel::handle(state, way, packet, &ip).unwrap_or_else(Packet::accept);
    };
    // The quoted packet has been translated, if it is ours: its answers have a key.
    let tuple = quoted.reversed();
    let hit = A::of(&state.conns).find(&tuple, way.guard);
    if state.leaves(hit.as_ref().map(|hit| hit.index)) {
        return packet.accept();
    }
    let (entry, index) = match hit {
        Some(hit) => (hit.entry, hit.index),
        None => {
            if let Some(entry) = state.unasked(&tuple, way.now, way.guard) {
                // The client is told of its packet as it has sent it.
                entry.count(Direction::Reply, packet.len(), way.bh);
                xmit::claim(&mut packet, entry, None);
                return packet.accept();
            }
            packet = match tunnel::handle(state, way, packet, &ip) {
                Ok(verdict) => return verdict,
                Err(packet) => packet,
            };
            match open::by_error(state, way, &mut packet, inner, tuple) {
                Ok(entry) => (entry, ORIGINAL),
                Err(Refusal::Drop(why)) => return way.drop(packet, why),
                Err(Refusal::Exhausted) => return packet.drop(),
                Err(Refusal::Pass | Refusal::Opened) => return packet.accept(),
            }
        }
    };
    if !entry.is_rewritten() {
        entry.count(Direction::Original, packet.len(), way.bh);
        return xmit::pass(way, packet, &ip, entry);
    }
    if !packet.icmp_checksum_ok::<A>(ip.header_len) {
        return way.drop(packet, Counter::IcmpChecksum);
    }
    let headers = ip
        .header_len
        .saturating_add(icmp::LEN)
        .saturating_add(inner.header_len);
    let rest = (packet.len() as usize).saturating_sub(headers);
    let writable = headers.saturating_add(QUOTED.min(rest));
    if index == ORIGINAL {
        to_server(way, packet, &ip, entry, writable)
    } else {
        to_client(way, packet, &ip, &header, entry, writable)
    }
}

/// How much of the quoted transport header is looked at: enough for its checksum, if it is there.
const QUOTED: usize = 20;

/// So much of a quoted packet is looked at in search of its transport header.
const LOOK: usize = 256;

/// Reads an error and what it quotes; `None` if it is no error, or is about a protocol without
/// connections.
fn read<A: Carried>(
    packet: &mut Packet<'_>,
    ip: &Header<A>,
) -> Option<(icmp::Header, Header<A>, Tuple<A>)> {
    let at_inner = ip.header_len.checked_add(icmp::LEN)?;
    if !packet.pull(at_inner.checked_add(A::MIN_LEN)?) {
        return None;
    }
    let header = icmp::Header::parse(packet.bytes().get(ip.header_len..)?).ok()?;
    if !A::is_icmp_error(header.kind) {
        return None;
    }
    let mut inner = A::parse(packet.bytes().get(at_inner..)?, 0);
    if inner == Err(Error::Truncated) {
        let len = packet.len() as usize;
        if !packet.pull(len.min(at_inner.checked_add(LOOK)?)) {
            return None;
        }
        inner = A::parse(packet.bytes().get(at_inner..)?, 0);
    }
    let inner = inner.ok()?;
    if inner.fragment_offset != 0 {
        return None;
    }
    let at_l4 = at_inner.checked_add(inner.header_len)?;
    // Whoever quotes is asked for 8 bytes of it (RFC 792), but ports are enough.
    if !packet.pull(at_l4.checked_add(8)?.min(packet.len() as usize)) {
        return None;
    }
    let (proto, sport, dport) = wire::key(inner.proto, packet.bytes().get(at_l4..)?)?;
    let quoted = Tuple {
        src: inner.src,
        dst: inner.dst,
        sport,
        dport,
        proto,
    };
    Some((header, inner, quoted))
}

/// An error about a packet on its way to the real server: tells the client.
fn to_client<A: Carried>(
    way: &Way<'_>,
    mut packet: Packet<'_>,
    ip: &Header<A>,
    header: &icmp::Header,
    entry: &ConnEntry<A>,
    writable: usize,
) -> Verdict {
    let [original, _] = entry.keys();
    // The client's packets are longer behind us by what we put in.
    let mtu = A::next_hop_mtu(header)
        .filter(|_| entry.carries_toa())
        .map(|mtu| mtu.saturating_sub(u32::from(A::TOA_LEN)));
    let change = Translation {
        src: Some(original.dst),
        dst: entry.is_fullnat().then_some(original.src),
        quoted_src: (original.src, original.sport),
        quoted_dst: (original.dst, original.dport),
        mtu,
    };
    entry.count(Direction::Reply, packet.len(), way.bh);
    if way.point != Point::LocalIn || !entry.is_fullnat() {
        if translate(&mut packet, ip, &change, writable, false).is_none() {
            return packet.accept();
        }
        way.counters.count(Counter::IcmpTranslated);
        xmit::claim(&mut packet, entry, None);
        return xmit::resume::<A>(way, packet, entry.is_fullnat());
    }
    let Some(dst) = way.to_client(original.src, original.dst) else {
        return way.drop(packet, Counter::NoRoute);
    };
    forward(way, packet, ip, entry, &change, writable, dst)
}

/// An error about a packet on its way to the client: tells the real server.
fn to_server<A: Carried>(
    way: &Way<'_>,
    packet: Packet<'_>,
    ip: &Header<A>,
    entry: &ConnEntry<A>,
    writable: usize,
) -> Verdict {
    let [_, reply] = entry.keys();
    let change = Translation {
        // The server may have no route to whoever complains: to it the director does.
        src: entry.is_fullnat().then_some(reply.dst),
        dst: Some(reply.src),
        quoted_src: (reply.src, reply.sport),
        quoted_dst: (reply.dst, reply.dport),
        mtu: None,
    };
    let Some(dst) = way.to_server(reply.src, xmit::local_source(entry, reply)) else {
        return way.drop(packet, Counter::NoRoute);
    };
    entry.count(Direction::Original, packet.len(), way.bh);
    forward(way, packet, ip, entry, &change, writable, dst)
}

/// Translates an error and sends it over a route. Errors about errors are not sent.
fn forward<A: Carried>(
    way: &Way<'_>,
    mut packet: Packet<'_>,
    ip: &Header<A>,
    entry: &ConnEntry<A>,
    change: &Translation<A>,
    writable: usize,
    dst: &Dst<A>,
) -> Verdict {
    let local = dst.is_local();
    if let (Some(problem), false) = (xmit::problem(&packet, ip, dst.mtu(), 0), local) {
        return way.drop(packet, xmit::counter(problem));
    }
    if translate(&mut packet, ip, change, writable, !local).is_none() {
        return packet.accept();
    }
    way.counters.count(Counter::IcmpTranslated);
    xmit::claim(&mut packet, entry, None);
    if local {
        xmit::resume::<A>(way, packet, false)
    } else {
        xmit::send(way, packet, dst)
    }
}

fn translate<A: Carried>(
    packet: &mut Packet<'_>,
    ip: &Header<A>,
    change: &Translation<A>,
    writable: usize,
    age: bool,
) -> Option<()> {
    let bytes = packet.writable(writable)?;
    rewrite::icmp_error(bytes, ip.header_len, change).ok()?;
    if age {
        A::decrement_hops(bytes).ok()?;
    }
    A::refresh_checksum(bytes, ip.header_len);
    Some(())
}
