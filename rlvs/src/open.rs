// SPDX-License-Identifier: GPL-2.0

//! Opening a connection: service, destination, local address, entry.
//!
//! What is configured and not carried yet opens none: its packets are dropped, and each kind of them
//! has a counter.

use crate::{
    conn::{
        Conn,
        ConnEntry,
        Via,
        ORIGINAL, //
    },
    ext::Counter,
    family::Carried,
    kapi::{
        family::Complaint,
        hash::{
            Entry,
            Role, //
        },
        inet,
        netfilter::Point,
        netns::Net,
        skb::{
            Packet,
            Verdict, //
        }, //
    },
    netns::NetState,
    pool::Lease,
    service::{
        Admission,
        Method,
        Ports,
        Service,
        ServiceId,
        Slot,
        Snapshot, //
    },
    table::{
        Wanted,
        CONN_CACHES,
        FTP_DATA, //
    },
    xmit::{
        self,
        Way, //
    }, //
};
use kernel::{
    alloc::KBox,
    sync::rcu::Guard, //
};
use rlvs_core::{
    flow::{
        Direction,
        FlowKey,
        Tuple, //
    },
    uapi::svc_flag,
    wire::{
        headers::{
            Headers,
            Segment, //
        },
        IPPROTO_UDP, //
    }, //
};

/// How often another local port is tried if a connection that is older than the configuration
/// holds the tuple.
const LEASE_TRIES: usize = 8;

/// Why there is no connection.
enum Refusal {
    /// The packet is somebody else's.
    Pass,
    /// Drop the packet and count it.
    Drop(Counter),
    /// Drop the packet; it is counted: there is no local port.
    Exhausted,
    /// Somebody else has just opened it.
    Opened,
}

/// A packet that belongs to no connection: opens one, if it is for a service and may.
pub(crate) fn open<A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    packet: Packet<'_>,
    headers: &Headers<A>,
) -> Verdict {
    if way.point == Point::Forward {
        return packet.accept();
    }
    let wanted = Wanted {
        mark: packet.mark(),
        proto: headers.tuple.proto,
        addr: headers.tuple.dst.into(),
        port: headers.tuple.dport,
    };
    let Some(service) = state.services.find(way.net, &wanted, way.guard) else {
        return packet.accept();
    };
    let sloppy = state.settings.sloppy_tcp();
    if !headers.segment.opens(sloppy) || headers.tuple.sport == FTP_DATA {
        // The local stack knows the answer to a stray segment. And what a real server on this host
        // sends back by active FTP is no request.
        return packet.accept();
    }
    let entry = match schedule(state, way, service, headers) {
        Ok(entry) => entry,
        Err(Refusal::Opened) => match A::of(&state.conns).find(&headers.tuple, way.guard) {
            Some(hit) if hit.index == ORIGINAL => hit.entry,
            _ => return way.drop(packet, Counter::ConnConflict),
        },
        Err(Refusal::Pass) => return packet.accept(),
        Err(Refusal::Drop(Counter::NoDest)) => match bypass(state, way, service, headers) {
            Some(entry) => entry,
            None => {
                packet.complain::<A>(way.net, Complaint::NoPort);
                return way.drop(packet, Counter::NoDest);
            }
        },
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
fn schedule<'g, A: Carried>(
    state: &'g NetState,
    way: &'g Way<'_>,
    service: &'g Service,
    headers: &Headers<A>,
) -> Result<&'g ConnEntry<A>, Refusal> {
    let tuple = &headers.tuple;
    if state.is_to_drop() {
        return Err(Refusal::Drop(Counter::DropPacket));
    }
    let snapshot = service.snapshot.load(way.guard);
    let snapshot = snapshot.ok_or(Refusal::Drop(Counter::NoDest))?;
    match service.admit(snapshot, tuple.dport) {
        Admission::Open => {}
        Admission::Pass => return Err(Refusal::Pass),
        Admission::Refuse => return Err(Refusal::Drop(Counter::NoDest)),
        Admission::NotCarried => return Err(Refusal::Drop(Counter::NotCarriedPersistence)),
    }
    if snapshot.flags & svc_flag::ONEPACKET != 0 && tuple.proto == IPPROTO_UDP {
        return Err(Refusal::Drop(Counter::NotCarriedOnePacket));
    }
    let key = FlowKey {
        client: tuple.src.into(),
        client_port: tuple.sport,
        service: tuple.dst.into(),
        service_port: tuple.dport,
    };
    let slot = service
        .pick(snapshot, &key)
        .ok_or(Refusal::Drop(Counter::NoDest))?;
    if state.conns.len() >= state.settings.conn_max() {
        return Err(Refusal::Drop(Counter::ConnLimit));
    }
    if let ServiceId::Mark { .. } = service.id {
        // Later packets of the connection may come without the mark.
        state.filter.add(tuple.dst.into());
    }
    let mut tries = LEASE_TRIES;
    loop {
        let (entry, answers) = connection(state, snapshot, slot, headers)?;
        let conns = A::of(&state.conns);
        match conns.insert(entry, [Role::Unique, answers], way.guard) {
            Ok(entry) => {
                slot.dest.traffic.opened();
                if conns.is_crowded(way.guard) {
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

/// Makes the connection that a packet opens to a destination, and tells what the key of its answers
/// is good for.
fn connection<A: Carried>(
    state: &NetState,
    snapshot: &Snapshot,
    slot: &Slot,
    headers: &Headers<A>,
) -> Result<(KBox<ConnEntry<A>>, Role), Refusal> {
    let tuple = &headers.tuple;
    let (via, source, answers) = match &slot.method {
        Method::Nat => (Via::Nat, (tuple.src, tuple.sport), Role::Shared),
        Method::FullNat(ports) => {
            let (lease, source) = lease(state, snapshot, ports, tuple)?;
            (Via::FullNat(lease), source, Role::Unique)
        }
        Method::Direct => (Via::Direct, (tuple.src, tuple.sport), Role::Unused),
        Method::Tunnel => (Via::Tunnel, (tuple.src, tuple.sport), Role::Unused),
        Method::Local => (Via::Local, (tuple.src, tuple.sport), Role::Unused),
        Method::Bypass => (Via::Bypass, (tuple.src, tuple.sport), Role::Unused),
    };
    let server = match answers {
        // Only its port is of interest.
        Role::Unused => A::UNSPECIFIED,
        // Whatever rewrites addresses is of one family.
        _ => A::from_ip(slot.dest.addr).ok_or(Refusal::Drop(Counter::NoRoute))?,
    };
    let reply = Tuple {
        src: server,
        dst: source.0,
        sport: match slot.dest.port {
            0 => tuple.dport,
            port => port,
        },
        dport: source.1,
        proto: tuple.proto,
    };
    let toa = matches!(via, Via::FullNat(_))
        && matches!(headers.segment, Segment::Tcp(_))
        && state.settings.toa();
    let first = headers.segment.first_state();
    let conn = Conn::new(
        slot.dest.clone(),
        first,
        via,
        toa,
        state.settings.conntrack(),
    );
    A::of(&CONN_CACHES)
        .alloc(Entry::new([*tuple, reply], conn))
        .map(|entry| (entry, answers))
        .map_err(|_| Refusal::Drop(Counter::ConnNoMemory))
}

/// Opens a connection to where its client wants to go, if that is what the operator wants of a mark that
/// has no real server for it.
#[cold]
fn bypass<'g, A: Carried>(
    state: &'g NetState,
    way: &'g Way<'_>,
    service: &Service,
    headers: &Headers<A>,
) -> Option<&'g ConnEntry<A>> {
    let tuple = &headers.tuple;
    let wanted = state.settings.cache_bypass()
        && matches!(service.id, ServiceId::Mark { .. })
        && inet::is_elsewhere(way.net, tuple.dst.into());
    if !wanted || state.conns.len() >= state.settings.conn_max() {
        return None;
    }
    state.filter.add(tuple.dst.into());
    let nowhere = Tuple {
        src: A::UNSPECIFIED,
        dst: tuple.src,
        sport: 0,
        dport: tuple.sport,
        proto: tuple.proto,
    };
    let first = headers.segment.first_state();
    let conn = Conn::new(
        state.nowhere.clone(),
        first,
        Via::Bypass,
        false,
        state.settings.conntrack(),
    );
    let entry = A::of(&CONN_CACHES)
        .alloc(Entry::new([*tuple, nowhere], conn))
        .ok()?;
    let conns = A::of(&state.conns);
    conns
        .insert(entry, [Role::Unique, Role::Unused], way.guard)
        .ok()
}

/// Takes a local address and port for a connection.
fn lease<A: Carried>(
    state: &NetState,
    snapshot: &Snapshot,
    ports: &Ports,
    tuple: &Tuple<A>,
) -> Result<(Lease, (A, u16)), Refusal> {
    // Clients spread over the local addresses, with nothing shared to count them. Client ports come
    // in steps: only the high bits of the product depend on all of them.
    let client = u64::from(tuple.src.fold()) << 16 | u64::from(tuple.sport);
    let spread = usize::from((client.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16);
    let (pools, range) = (ports.of(tuple.proto), state.settings.lports());
    let Some(lease) = Lease::take(pools, &snapshot.laddrs, range, spread) else {
        state.exhausted();
        return Err(Refusal::Exhausted);
    };
    let addr = A::from_ip(lease.addr()).ok_or(Refusal::Drop(Counter::NoRoute))?;
    let port = lease.port();
    Ok((lease, (addr, port)))
}

/// A packet of a kind that is not carried yet, between these ports: it is dropped if it would open a
/// connection of a service.
pub(crate) fn refuse(
    state: &NetState,
    net: &Net,
    guard: &Guard,
    packet: Packet<'_>,
    wanted: &Wanted,
    sport: u16,
    why: Counter,
) -> Verdict {
    let service = state.services.find(net, wanted, guard);
    let admission = service.and_then(|service| {
        let snapshot = service.snapshot.load(guard)?;
        Some(service.admit(snapshot, wanted.port))
    });
    match admission {
        None | Some(Admission::Pass) => packet.accept(),
        _ if sport == FTP_DATA => packet.accept(),
        _ => {
            state.counters.count(why);
            packet.drop()
        }
    }
}
