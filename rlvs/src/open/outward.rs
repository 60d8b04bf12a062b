// SPDX-License-Identifier: GPL-2.0

//! What a real server of a service with a persistence engine sends by itself: a request of its own, or
//! the answer to a packet whose connection was for that packet alone. It leaves with the service's
//! address, and what the client sends back goes to that server.

use super::{
    connection,
    persist,
    Goal,
    Opened, //
};
use crate::{
    family::Carried,
    kapi::{
        hash::Role,
        skb::Packet, //
    },
    netns::NetState,
    service::{
        Method,
        Service,
        ServiceId,
        Slot,
        Snapshot, //
    },
    xmit::Way, //
};
use core::net::IpAddr;
use rlvs_core::{
    flow::{
        FlowKey,
        Tuple, //
    },
    wire::{
        headers::Headers,
        IPPROTO_UDP, //
    }, //
};

/// Opens a connection for a server's packet that belongs to none; `None` if it is no such packet.
#[inline(never)]
pub(super) fn open<'g, A: Carried>(
    state: &'g NetState,
    way: &Way<'g>,
    packet: &mut Packet<'_>,
    headers: &Headers<A>,
) -> Option<Opened<'g, A>> {
    let tuple = &headers.tuple;
    if tuple.proto != IPPROTO_UDP || tuple.sport == 0 {
        return None;
    }
    let services = state.services.with_engines(way.guard)?;
    let (service, snapshot, slot) = services.iter().find_map(|service| {
        let snapshot = service.snapshot.load(way.guard)?;
        let slot = server(service, snapshot, tuple.src.into(), tuple.sport)?;
        Some((service, snapshot, slot))
    })?;
    let (addr, port) = match service.id {
        ServiceId::Address { addr, port, .. } => (A::from_ip(addr)?, port),
        ServiceId::Mark { .. } => return None,
    };
    let original = Tuple {
        src: tuple.dst,
        dst: addr,
        sport: tuple.dport,
        dport: port,
        proto: tuple.proto,
    };
    let flow = FlowKey {
        client: original.src.into(),
        client_port: original.sport,
        service: addr.into(),
        service_port: port,
    };
    let template = match &snapshot.persistence {
        None => None,
        Some(persistence) => {
            let data = persist::data(persistence, packet, headers).ok()?;
            persist::assign(state, way, persistence, tuple.proto, &flow, slot, data).ok()?
        }
    };
    if state.is_full() {
        return None;
    }
    let goal = Goal {
        slot,
        port: tuple.sport,
        template,
    };
    let hash = A::of(&state.conns).hash_of(&original);
    let make = || connection(state, snapshot, &goal, &original, hash, &headers.segment).ok();
    let opened = if snapshot.one_packet {
        Opened::Once(make()?.0)
    } else {
        let conns = A::of(&state.conns);
        let publish = |(entry, answers)| conns.insert(entry, [Role::Unique, answers], way.guard);
        let published = publish(make()?).or_else(|_| {
            // The client has spoken to another server from there. The last one that it heard of is
            // whom it answers.
            if let Some(hit) = conns.find(&original, way.guard) {
                conns.end(hit.entry, way.guard);
            }
            make().map_or(Err(0), publish)
        });
        Opened::Kept(published.ok()?)
    };
    slot.dest.traffic.opened(way.bh);
    Some(opened)
}

/// The destination of a service at that address and port, if its packets come back by NAT.
fn server<'g>(
    service: &Service,
    snapshot: &'g Snapshot,
    addr: IpAddr,
    port: u16,
) -> Option<&'g Slot> {
    if service.id.port() == 0 || service.id.protocols() != [IPPROTO_UDP] {
        return None;
    }
    snapshot.slots.iter().find(|slot| {
        slot.dest.addr == addr && slot.dest.port == port && matches!(slot.method, Method::Nat)
    })
}
