// SPDX-License-Identifier: GPL-2.0

//! Opening a connection: service, destination, local address, entry.

use crate::{
    conn::{
        Conn,
        ConnEntry,
        ORIGINAL, //
    },
    ext::Counter,
    kapi::{
        hash::Entry,
        netfilter::Point,
        skb::{
            Packet,
            Verdict, //
        }, //
    },
    netns::NetState,
    pool::Lease,
    service::{
        Service,
        ServiceId,
        Slot,
        Snapshot, //
    },
    table::CONN_CACHE,
    xmit::{
        self,
        Way, //
    }, //
};
use core::net::{
    IpAddr,
    Ipv4Addr, //
};
use rlvs_core::{
    flow::{
        Direction,
        FlowKey,
        Tuple, //
    },
    wire::{
        headers::{
            Headers,
            Segment, //
        },
        icmp, //
    }, //
};

/// How often another local port is tried if a connection that is older than the configuration
/// holds the tuple.
const LEASE_TRIES: usize = 8;

/// Why there is no connection.
enum Refusal {
    /// Drop the packet and count it.
    Drop(Counter),
    /// Drop the packet; it is counted: there is no local port.
    Exhausted,
    /// Somebody else has just opened it.
    Opened,
}

/// A packet that belongs to no connection: opens one, if it is for a service and may.
pub(crate) fn open(
    state: &NetState,
    way: &Way<'_>,
    packet: Packet<'_>,
    headers: &Headers,
) -> Verdict {
    if way.point == Point::Forward {
        return packet.accept();
    }
    let id = ServiceId::Address {
        proto: headers.tuple.proto,
        addr: IpAddr::V4(headers.tuple.dst),
        port: headers.tuple.dport,
    };
    let Some(service) = state.services.find(&id, way.guard) else {
        return packet.accept();
    };
    if !headers.segment.opens() {
        // The local stack knows the answer to a stray segment.
        return packet.accept();
    }
    let entry = match schedule(state, way, service, headers) {
        Ok(entry) => entry,
        Err(Refusal::Opened) => match state.conns.find(&headers.tuple, way.guard) {
            Some(hit) if hit.index == ORIGINAL => hit.entry,
            _ => return way.drop(packet, Counter::ConnConflict),
        },
        Err(Refusal::Drop(Counter::NoDest)) => {
            packet.icmp_error(icmp::DEST_UNREACH, icmp::PORT_UNREACH, 0);
            return way.drop(packet, Counter::NoDest);
        }
        Err(Refusal::Drop(why)) => return way.drop(packet, why),
        Err(Refusal::Exhausted) => return packet.drop(),
    };
    entry.saw(
        Direction::Original,
        packet.len(),
        headers.segment.flags(),
        way.now,
    );
    xmit::to_server(way, packet, headers, entry)
}

/// Chooses a destination and publishes the connection.
fn schedule<'g>(
    state: &'g NetState,
    way: &'g Way<'_>,
    service: &'g Service,
    headers: &Headers,
) -> Result<&'g ConnEntry, Refusal> {
    let tuple = &headers.tuple;
    if state.conns.len() >= state.settings.conn_max() {
        return Err(Refusal::Drop(Counter::ConnLimit));
    }
    let key = FlowKey {
        client: IpAddr::V4(tuple.src),
        client_port: tuple.sport,
        service: IpAddr::V4(tuple.dst),
        service_port: tuple.dport,
    };
    let (snapshot, slot) = service
        .pick(way.guard, &key)
        .ok_or(Refusal::Drop(Counter::NoDest))?;
    let IpAddr::V4(server) = slot.dest.addr else {
        return Err(Refusal::Drop(Counter::NoDest));
    };
    let mut tries = LEASE_TRIES;
    loop {
        let (entry, fullnat) = connection(state, snapshot, slot, server, headers)?;
        match state.conns.insert(entry, [true, fullnat], way.guard) {
            Ok(entry) => {
                slot.dest.traffic.opened();
                if state.conns.is_crowded(way.guard) {
                    state.kick();
                }
                return Ok(entry);
            }
            Err(0) => return Err(Refusal::Opened),
            Err(_) => state.counters.count(Counter::ConnConflict),
        }
        tries = tries
            .checked_sub(1)
            .ok_or(Refusal::Drop(Counter::ConnConflict))?;
    }
}

/// Makes the connection that a packet opens to a destination, and tells whether it is a FullNAT one.
fn connection(
    state: &NetState,
    snapshot: &Snapshot,
    slot: &Slot,
    server: Ipv4Addr,
    headers: &Headers,
) -> Result<(kernel::alloc::KBox<ConnEntry>, bool), Refusal> {
    let tuple = &headers.tuple;
    let fullnat = slot.dest.fullnat(!snapshot.laddrs.is_empty());
    let lease = if fullnat {
        // Clients spread over the local addresses, with nothing shared to count them. Client ports come
        // in steps: only the high bits of the product depend on all of them.
        let client = u64::from(tuple.src.to_bits()) << 16 | u64::from(tuple.sport);
        let spread = usize::from((client.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16);
        let range = state.settings.lports();
        let lease = Lease::take(&slot.pools, &snapshot.laddrs, range, spread);
        if lease.is_none() {
            state.exhausted();
            return Err(Refusal::Exhausted);
        }
        lease
    } else {
        None
    };
    let (source, sport) = lease.as_ref().map_or((tuple.src, tuple.sport), |lease| {
        (lease.addr(), lease.port())
    });
    let reply = Tuple {
        src: server,
        dst: source,
        sport: slot.dest.port,
        dport: sport,
        proto: tuple.proto,
    };
    let toa = fullnat && matches!(headers.segment, Segment::Tcp(_)) && state.settings.toa();
    let conn = Conn::new(slot.dest.clone(), headers.segment.first_state(), lease, toa);
    CONN_CACHE
        .alloc(Entry::new([*tuple, reply], conn))
        .map(|entry| (entry, fullnat))
        .map_err(|_| Refusal::Drop(Counter::ConnNoMemory))
}
