// SPDX-License-Identifier: GPL-2.0

//! The backup: takes over what other directors tell of connections and templates.
//!
//! A connection goes to the destination that the service has here, by the method that it has here. If
//! there is no such service or destination it goes there nevertheless, to a *strange* one, until others
//! tell of it again and there is.

use super::Spec;
use crate::{
    conn::{
        Conn,
        Traits,
        Via,
        ORIGINAL, //
    },
    dest::Dest,
    family::Carried,
    kapi::{
        hash::{
            Entry as TableEntry,
            Role, //
        },
        inet::Device,
        multicast::Receiver,
        netns::Net,
        time, //
    },
    netns::NetState,
    service::{
        Method,
        Slot, //
    },
    table::{
        Wanted,
        CONN_CACHES,
        TEMPLATE_CACHE, //
    },
    template::Template,
    xmit, //
};
use core::net::{
    IpAddr,
    Ipv4Addr,
    Ipv6Addr, //
};
use kernel::{
    prelude::*,
    sync::{
        rcu::{
            self,
            Guard, //
        },
        Arc, //
    }, //
};
use rlvs_core::{
    flow::Tuple,
    persist::{
        Asked,
        Engine,
        TemplateKey,
        ANY_PROTOCOL, //
    },
    proto::State,
    sync::{
        flag,
        About,
        Entry,
        Message, //
    },
    uapi::method, //
};

/// Messages that are read in one go.
const BATCH: usize = 64;
/// So many strange destinations are known at a time.
const STRANGERS: usize = 1024;
/// How long a template lasts of which nobody says how long, in seconds.
const TEMPLATE_LASTS: u32 = 3 * 60;

/// The backup daemon.
pub(super) struct Backup {
    pub(super) spec: Spec,
    receivers: KVec<Receiver>,
    buffer: KVec<u8>,
    strangers: KVec<Arc<Dest>>,
}

/// Where a connection goes, and how.
enum Home {
    Known(Arc<Dest>, Via),
    Strange(Via),
}

impl Backup {
    /// A backup that listens. Process context.
    pub(super) fn new(
        net: &Net,
        spec: Spec,
        device: Device,
        ports: u32,
        size: i32,
    ) -> Result<Self> {
        let mut this = Self {
            spec,
            receivers: KVec::new(),
            buffer: KVec::new(),
            strangers: KVec::new(),
        };
        this.buffer.resize(spec.maxlen.into(), 0, GFP_KERNEL)?;
        for group in spec.groups(device, ports) {
            let receiver = Receiver::new::<super::SyncState>(net, &group, size)?;
            this.receivers.push(receiver, GFP_KERNEL)?;
        }
        Ok(this)
    }

    /// Reads messages; says whether there may be more. Process context.
    pub(super) fn receive(&mut self, state: &NetState, net: &Net) -> bool {
        let mut more = false;
        for receiver in &self.receivers {
            let mut left = BATCH;
            while let Some(datagram) = receiver.receive(&mut self.buffer) {
                read(state, net, &self.spec, &mut self.strangers, datagram);
                time::cond_resched();
                left = left.wrapping_sub(1);
                if left == 0 {
                    more = true;
                    break;
                }
            }
        }
        if state.conns_and_templates() > 0 {
            state.tend_later();
        }
        more
    }
}

/// Takes over what a message tells, if it is one for us.
fn read(
    state: &NetState,
    net: &Net,
    spec: &Spec,
    strangers: &mut KVec<Arc<Dest>>,
    datagram: &[u8],
) {
    let Some(message) = Message::parse(datagram) else {
        return;
    };
    if spec.syncid != 0 && spec.syncid != message.syncid().into() {
        return;
    }
    for entry in message.flatten() {
        // What cannot be taken over, for want of memory or of sense, is not.
        let _ = match (entry.about, entry.client.0) {
            (About::Template(assured), _) => template(state, net, strangers, &entry, assured),
            (About::Conn(of), IpAddr::V4(_)) => conn::<Ipv4Addr>(state, net, strangers, &entry, of),
            (About::Conn(of), IpAddr::V6(_)) => conn::<Ipv6Addr>(state, net, strangers, &entry, of),
        };
    }
}

/// Takes over a connection; `None` if that is not possible.
fn conn<A: Carried>(
    state: &NetState,
    net: &Net,
    strangers: &mut KVec<Arc<Dest>>,
    told: &Entry<'_>,
    conn_state: State,
) -> Option<()> {
    let original = Tuple {
        src: A::from_ip(told.client.0)?,
        dst: A::from_ip(told.service.0)?,
        sport: told.client.1,
        dport: told.service.1,
        proto: told.proto,
    };
    if let Some(found) = &told.found {
        // Who has an unknown engine has a service that is unknown here.
        Engine::from_name(found.engine)?;
    }
    let lasts = jiffies(told.timeout);
    let conns = A::of(&state.conns);
    let home = {
        let guard = rcu::read_lock();
        let home = home(state, net, told, &guard)?;
        if let Some(hit) = conns.find(&original, &guard) {
            let entry = hit.entry;
            if hit.index != ORIGINAL {
                return None;
            }
            let [_, reply] = entry.keys();
            let same = (entry.dest.addr, reply.sport) == told.server;
            let moves = matches!(home, Home::Known(..)) && entry.dest.is_strange;
            if entry.is_expired(time::now(), &state.timeouts) || same && moves {
                // Another one takes its place.
            } else if same {
                entry.hear(conn_state, lasts, time::now());
                return Some(());
            } else if told.flags & flag::INACTIVE != 0 {
                // It is over, and the client has opened another one meanwhile.
                return None;
            }
            conns.end(entry, &guard);
            xmit::untrack(net, entry);
        }
        home
    };
    if state.is_full() {
        return None;
    }
    let (dest, via) = match home {
        Home::Known(dest, via) => (dest, via),
        Home::Strange(Via::Bypass) => (state.nowhere.clone(), Via::Bypass),
        Home::Strange(via) => (strange(strangers, told.server)?, via),
    };
    let (server, answers) = match via {
        Via::Nat => (A::from_ip(dest.addr)?, Role::Shared),
        _ => (A::UNSPECIFIED, Role::Unused),
    };
    let reply = Tuple {
        src: server,
        dst: original.src,
        sport: told.server.1,
        dport: told.client.1,
        proto: told.proto,
    };
    state.filter.add(told.service.0);
    if answers != Role::Unused {
        state.filter.add(dest.addr);
    }
    let traits = Traits::default()
        .tracked(state.settings.conntrack())
        .synced();
    let conn = Conn::new(dest, State::None, via, traits, None);
    conn.hear(conn_state, lasts, time::now());
    if state.is_master() {
        conn.watch(true);
    }
    let entry = A::of(&CONN_CACHES)
        .alloc()
        .ok()?
        .write(TableEntry::new([original, reply], conn));
    let guard = rcu::read_lock();
    conns.insert(entry, [Role::Unique, answers], &guard).ok()?;
    if conns.is_crowded(&guard) {
        state.kick();
    }
    Some(())
}

/// Takes over a template; `None` if that is not possible.
fn template(
    state: &NetState,
    net: &Net,
    strangers: &mut KVec<Arc<Dest>>,
    told: &Entry<'_>,
    assured: bool,
) -> Option<()> {
    let found = match &told.found {
        None => None,
        Some(found) => {
            let mut data = KVec::with_capacity(found.data.len(), GFP_KERNEL).ok()?;
            data.extend_from_slice(found.data, GFP_KERNEL).ok()?;
            Some((Engine::from_name(found.engine)?, data))
        }
    };
    let key = TemplateKey {
        client: told.client.0,
        asked: match (told.proto, told.service.0) {
            (ANY_PROTOCOL, _) => Asked::Mark(told.mark),
            (_, addr) => Asked::Address(addr),
        },
        port: told.service.1,
        proto: told.proto,
        digest: told
            .found
            .map_or(0, |found| state.templates.digest(found.data)),
    };
    let lasts = jiffies(match told.timeout {
        0 => TEMPLATE_LASTS,
        seconds => seconds,
    });
    let home = {
        let guard = rcu::read_lock();
        let home = home(state, net, told, &guard)?;
        if let Some(hit) = state.templates.find(&key, &guard) {
            let known: &Arc<Template> = hit.entry;
            let same = (known.dest.addr, known.port) == told.server;
            let moves = matches!(home, Home::Known(..)) && known.dest.is_strange;
            if same && !moves && known.dest.is_available() {
                known.extend(lasts);
                if assured {
                    known.assure();
                }
                return Some(());
            }
            state.templates.remove(hit.entry, &guard);
        }
        home
    };
    if state.is_full() {
        return None;
    }
    let dest = match home {
        Home::Known(dest, _) => dest,
        Home::Strange(_) => strange(strangers, told.server)?,
    };
    let template = Template::new(key, dest, told.server.1, lasts, found).synced();
    if assured {
        template.assure();
    }
    let template = Arc::new(template, GFP_KERNEL).ok()?;
    let entry = TEMPLATE_CACHE
        .alloc()
        .ok()?
        .write(TableEntry::new([key], template));
    let guard = rcu::read_lock();
    state.templates.insert(entry, [Role::Unique], &guard).ok()?;
    if state.templates.is_crowded(&guard) {
        state.kick();
    }
    Some(())
}

/// Where a connection goes that another director has told of; `None` if there is no way.
fn home(state: &NetState, net: &Net, told: &Entry<'_>, guard: &Guard) -> Option<Home> {
    let wanted = Wanted {
        mark: told.mark,
        proto: told.proto,
        addr: told.service.0,
        port: told.service.1,
    };
    let service = state.services.find(net, &wanted, guard);
    let snapshot = service.and_then(|service| service.snapshot.load(guard));
    let Some(slot) = snapshot.and_then(|snapshot| slot(&snapshot.slots, told)) else {
        return Some(Home::Strange(match told.flags & method::MASK {
            method::MASQ => Via::Nat,
            method::DROUTE => Via::Direct,
            method::TUNNEL => Via::Tunnel,
            method::LOCALNODE => Via::Local,
            method::BYPASS => Via::Bypass,
            _ => return None,
        }));
    };
    let via = match slot.method {
        Method::Nat => Via::Nat,
        Method::Direct => Via::Direct,
        Method::Tunnel => Via::Tunnel,
        Method::Local => Via::Local,
        Method::Bypass => Via::Bypass,
        // A template holds no local address. Of a connection nobody has told it.
        Method::FullNat(_) if matches!(told.about, About::Template(_)) => Via::Nat,
        Method::FullNat(_) => return None,
    };
    Some(Home::Known(slot.dest.clone(), via))
}

/// The destination there, at the port or at all of them.
fn slot<'a>(slots: &'a [Slot], told: &Entry<'_>) -> Option<&'a Slot> {
    let (addr, port) = told.server;
    let at = |port| {
        let mut slots = slots.iter();
        slots.find(|slot| slot.dest.addr == addr && slot.dest.port == port)
    };
    match told.flags & method::MASK {
        method::MASQ => at(port).or_else(|| at(0)),
        _ => at(0).or_else(|| at(port)),
    }
}

/// The strange destination there.
fn strange(strangers: &mut KVec<Arc<Dest>>, server: (IpAddr, u16)) -> Option<Arc<Dest>> {
    let known = strangers
        .iter()
        .find(|dest| (dest.addr, dest.port) == server);
    if let Some(known) = known {
        return Some(known.clone());
    }
    if strangers.len() >= STRANGERS {
        let idle = strangers.iter().position(|dest| dest.is_idle())?;
        strangers.remove(idle).ok()?;
    }
    let (addr, port) = server;
    let dest = Dest::strange(addr, port).ok()?;
    strangers.push(dest.clone(), GFP_KERNEL).ok()?;
    Some(dest)
}

/// Seconds in jiffies, as many as the clock can tell.
fn jiffies(seconds: u32) -> u32 {
    seconds.saturating_mul(time::HZ).min(u32::MAX / 4)
}
