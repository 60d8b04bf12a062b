// SPDX-License-Identifier: GPL-2.0

//! Where a new connection of a persistent service goes: to the destination of its template, and if
//! there is none that holds, to one that the scheduler picks, which a new template remembers.

use super::{
    Goal,
    Refusal, //
};
use crate::{
    ext::Counter,
    family::Carried,
    kapi::{
        hash::{
            Entry,
            Role, //
        },
        skb::Packet,
        time, //
    },
    netns::NetState,
    service::{
        Persistence,
        Service,
        Slot,
        Snapshot,
        FTP, //
    },
    table::TEMPLATE_CACHE,
    template::Template,
    xmit::Way, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::Relaxed,
        Arc, //
    }, //
};
use rlvs_core::{
    flow::FlowKey,
    persist::TemplateKey,
    wire::headers::{
        Headers,
        Segment, //
    }, //
};

/// Tries, if others make or remove the same template at the same time.
const TRIES: usize = 4;

/// Where the connection goes that a packet of that protocol opens, for which an engine has found `data`.
#[allow(clippy::too_many_arguments)]
#[inline(never)]
pub(super) fn choose<'g>(
    state: &'g NetState,
    way: &Way<'g>,
    service: &'g Service,
    snapshot: &'g Snapshot,
    persistence: &Persistence,
    proto: u8,
    flow: &FlowKey,
    data: Option<&[u8]>,
) -> Result<Goal<'g>, Refusal> {
    let digest = data.map_or(0, |data| state.templates.digest(data));
    let rules = &persistence.rules;
    let key = rules.key(flow, proto, digest);
    for _ in 0..TRIES {
        let (slot, template) = match find(state, way, snapshot, &key) {
            Some(found) => found,
            None => {
                let Some(slot) = service.pick(snapshot, flow) else {
                    return Err(no_dest(service, flow));
                };
                match remember(state, way, persistence, flow, key, slot, data)? {
                    Some(template) => (slot, template),
                    // Somebody else has just done so.
                    None => continue,
                }
            }
        };
        return Ok(Goal {
            slot,
            port: rules.server_port(flow.service_port, slot.dest.port),
            template: Some(template),
        });
    }
    Err(Refusal::Drop(Counter::ConnConflict))
}

/// Has the client's next connections go to a destination, unless they do already; returns the template.
pub(super) fn assign<'g>(
    state: &'g NetState,
    way: &Way<'g>,
    persistence: &Persistence,
    proto: u8,
    flow: &FlowKey,
    slot: &Slot,
    data: Option<&[u8]>,
) -> Result<Option<&'g Arc<Template>>, Refusal> {
    let digest = data.map_or(0, |data| state.templates.digest(data));
    let key = persistence.rules.key(flow, proto, digest);
    if let Some(hit) = state.templates.find(&key, way.guard) {
        if holds(way, hit.entry) && Arc::ptr_eq(&hit.entry.dest, &slot.dest) {
            hit.entry.renew();
            return Ok(Some(hit.entry));
        }
        state.templates.remove(hit.entry, way.guard);
    }
    remember(state, way, persistence, flow, key, slot, data)
}

/// Is a template of use?
fn holds(way: &Way<'_>, template: &Template) -> bool {
    let dest = &template.dest;
    let quiescent = dest.weight() == 0 && way.settings.expire_quiescent_template();
    dest.is_available() && !quiescent && template.left(time::now_long()).is_some()
}

/// The template there is, and its destination. One that does not hold any more is taken out.
fn find<'g>(
    state: &'g NetState,
    way: &Way<'g>,
    snapshot: &'g Snapshot,
    key: &TemplateKey,
) -> Option<(&'g Slot, &'g Arc<Template>)> {
    let entry = state.templates.find(key, way.guard)?.entry;
    let template: &Arc<Template> = entry;
    if holds(way, template) {
        if let Some(slot) = slot(snapshot, template) {
            template.renew();
            return Some((slot, template));
        }
    }
    state.templates.remove(entry, way.guard);
    None
}

/// The template's destination in a service's snapshot. Templates of FTP and of all ports have the same
/// keys: then it may be another destination on the same server.
fn slot<'g>(snapshot: &'g Snapshot, template: &Template) -> Option<&'g Slot> {
    let slots = &snapshot.slots;
    let dest = &template.dest;
    let same = |slot: &&Slot| Arc::ptr_eq(&slot.dest, dest);
    if let Some(slot) = slots.get(template.place.load(Relaxed)).filter(same) {
        return Some(slot);
    }
    let place = slots.iter().position(|slot| same(&slot));
    let place = place.or_else(|| slots.iter().position(|slot| slot.dest.addr == dest.addr))?;
    template.place.store(place, Relaxed);
    slots.get(place)
}

/// Makes a template for a destination; `None` if there is another.
fn remember<'g>(
    state: &'g NetState,
    way: &Way<'g>,
    persistence: &Persistence,
    flow: &FlowKey,
    key: TemplateKey,
    slot: &Slot,
    data: Option<&[u8]>,
) -> Result<Option<&'g Arc<Template>>, Refusal> {
    if state.is_full() {
        return Err(Refusal::Drop(Counter::ConnLimit));
    }
    let rules = &persistence.rules;
    let port = rules.template_port(flow.service_port, slot.dest.port);
    let template = template(persistence, key, slot, port, data).map_err(no_memory)?;
    let entry = TEMPLATE_CACHE
        .alloc()
        .map(|room| room.write(Entry::new([key], template)));
    let entry = entry.map_err(no_memory)?;
    let Ok(entry) = state.templates.insert(entry, [Role::Unique], way.guard) else {
        return Ok(None);
    };
    if state.templates.is_crowded(way.guard) {
        state.kick();
    }
    Ok(Some(entry))
}

/// A service at FTP's port is also asked for what is none of its own.
fn no_dest(service: &Service, flow: &FlowKey) -> Refusal {
    if service.id.port() == FTP && flow.service_port != FTP {
        Refusal::Pass
    } else {
        Refusal::Drop(Counter::NoDest)
    }
}

fn template(
    persistence: &Persistence,
    key: TemplateKey,
    slot: &Slot,
    port: u16,
    data: Option<&[u8]>,
) -> Result<Arc<Template>> {
    let found = match persistence.engine.zip(data) {
        None => None,
        Some((engine, data)) => {
            let mut copy = KVec::with_capacity(data.len(), GFP_ATOMIC)?;
            copy.extend_from_slice(data, GFP_ATOMIC)?;
            Some((engine, copy))
        }
    };
    let template = Template::new(key, slot.dest.clone(), port, persistence.timeout, found);
    Ok(Arc::new(template, GFP_ATOMIC)?)
}

fn no_memory(_: Error) -> Refusal {
    Refusal::Drop(Counter::ConnNoMemory)
}

/// What the service's engine finds in a packet, if it has one. A packet without it is for nobody.
pub(super) fn data<'p, A: Carried>(
    persistence: &Persistence,
    packet: &'p mut Packet<'_>,
    headers: &Headers<A>,
) -> Result<Option<&'p [u8]>, Refusal> {
    let Some(engine) = persistence.engine else {
        return Ok(None);
    };
    let len = packet.len() as usize;
    let linear = packet.bytes().len() >= len || packet.pull(len);
    let data = match headers.segment {
        Segment::Udp if linear => packet.bytes().get(headers.len()..),
        _ => None,
    };
    let data = data.and_then(|payload| engine.data(payload));
    data.ok_or(Refusal::Drop(Counter::NoPeData)).map(Some)
}
