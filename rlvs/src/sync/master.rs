// SPDX-License-Identifier: GPL-2.0

//! The master: what is told of connections, and the messages that tell it.

use super::{
    Spec,
    SyncState, //
};
use crate::{
    conn::{
        ConnEntry,
        Via, //
    },
    family::Carried,
    kapi::{
        bh::BhDisabled,
        inet::Device,
        multicast::Sender,
        netns::Net,
        rcu::RcuBox,
        time,
        work::DelayedWork, //
    },
    netns::NetState,
    service::ServiceId,
    table::Wanted,
    template::Template,
    xmit::Way, //
};
use core::mem;
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        Arc,
        SpinLock, //
    }, //
};
use rlvs_core::{
    flow::Family,
    persist::Asked,
    sync::{
        self,
        flag,
        About,
        Entry,
        Found,
        Version, //
    },
    uapi::method, //
};

/// An entry waits no longer than that for others that go with it, in jiffies.
const FLUSH: u32 = time::HZ;
/// The longest entry: of IPv6, with all that an engine may have found.
const LONGEST: usize = 72 + 2 + 255 + 2 + 16;

/// The master daemon.
pub(super) struct Master {
    pub(super) spec: Spec,
    senders: KVec<(Sender, Arc<Port>)>,
}

/// Where who handles packets puts entries.
pub(super) struct Outbox {
    syncid: u8,
    maxlen: usize,
    ports: KVec<Arc<Port>>,
}

/// The messages to a port.
#[pin_data]
pub(super) struct Port {
    /// Taken with softirqs off.
    #[pin]
    queue: SpinLock<Queue>,
}

#[derive(Default)]
struct Queue {
    /// The message that entries are put into.
    draft: Option<Draft>,
    /// What has no room for more.
    full: KVec<Draft>,
}

/// A message that is being written.
struct Draft {
    version: Version,
    buffer: KVec<u8>,
    len: usize,
    /// When it was begun, in jiffies.
    since: u32,
}

impl Draft {
    fn new(outbox: &Outbox, version: Version, entry: &Entry<'_>, since: u32) -> Result<Self> {
        let mut room = outbox.maxlen;
        loop {
            let mut buffer = KVec::new();
            buffer.resize(room, 0, GFP_ATOMIC)?;
            let empty = sync::start(&mut buffer, version, outbox.syncid);
            let len = empty.and_then(|len| sync::append(&mut buffer, len, version, entry));
            match len {
                Some(len) => {
                    return Ok(Self {
                        version,
                        buffer,
                        len,
                        since,
                    })
                }
                // A message has one entry at least.
                None if room < sync::HEADER_MAX + LONGEST => room = sync::HEADER_MAX + LONGEST,
                None => return Err(EMSGSIZE),
            }
        }
    }

    fn append(&mut self, version: Version, entry: &Entry<'_>) -> bool {
        if version != self.version {
            return false;
        }
        let len = sync::append(&mut self.buffer, self.len, version, entry);
        self.len = len.unwrap_or(self.len);
        len.is_some()
    }
}

impl Master {
    /// A master and its outbox. Process context.
    pub(super) fn new(
        net: &Net,
        spec: Spec,
        device: Device,
        ports: u32,
        size: i32,
    ) -> Result<(Self, RcuBox<Outbox>)> {
        let mut senders = KVec::new();
        let mut outbox = Outbox {
            // CAST: Messages have a byte for it.
            syncid: spec.syncid as u8,
            maxlen: spec.maxlen.into(),
            ports: KVec::new(),
        };
        for group in spec.groups(device, ports) {
            let init = pin_init!(Port {
                queue <- new_spinlock!(Queue::default()),
            });
            let port = Arc::pin_init(init, GFP_KERNEL)?;
            let sender = Sender::new(net, &group, spec.hops, size)?;
            outbox.ports.push(port.clone(), GFP_KERNEL)?;
            senders.push((sender, port), GFP_KERNEL)?;
        }
        Ok((Self { spec, senders }, RcuBox::new(outbox)?))
    }

    /// Sends what is full or has waited for long enough; returns in how many jiffies something is due.
    /// Process context.
    pub(super) fn send(&self) -> Option<u32> {
        let mut next = None;
        for (sender, port) in &self.senders {
            let (full, draft, left) = port.take(time::now());
            for draft in Iterator::chain(full.into_iter(), draft) {
                // Nobody is told twice: what is lost is lost.
                let _ = sender.send(draft.buffer.get(..draft.len).unwrap_or(&[]));
            }
            next = match (next, left) {
                (Some(next), Some(left)) => Some(left.min(next)),
                (next, left) => left.or(next),
            };
        }
        next
    }
}

impl Port {
    /// Puts an entry into a message, behind at most `most` others; says whether the sender is to run, at
    /// once or later. With softirqs off.
    fn put(
        &self,
        outbox: &Outbox,
        version: Version,
        entry: &Entry<'_>,
        most: usize,
        now: u32,
        work: &DelayedWork<SyncState>,
    ) {
        let mut queue = self.queue.lock();
        if let Some(draft) = &mut queue.draft {
            if draft.append(version, entry) {
                return;
            }
        }
        let full = queue.draft.take();
        // Without memory it is not told.
        queue.draft = Draft::new(outbox, version, entry, now).ok();
        let first = queue.full.is_empty();
        match full {
            Some(draft) if queue.full.len() < most => {
                if queue.full.push(draft, GFP_ATOMIC).is_ok() && first {
                    work.kick();
                }
            }
            _ => work.queue(FLUSH as usize),
        }
    }

    /// Takes out what is to be sent at `now`; tells in how many jiffies what stays is.
    fn take(&self, now: u32) -> (KVec<Draft>, Option<Draft>, Option<u32>) {
        let _bh = BhDisabled::new();
        let mut queue = self.queue.lock();
        let full = mem::take(&mut queue.full);
        let left = queue
            .draft
            .as_ref()
            .map(|draft| time::until(draft.since.wrapping_add(FLUSH), now, FLUSH));
        match left {
            Some(0) => (full, queue.draft.take(), None),
            left => (full, None, left),
        }
    }
}

/// Tells of a connection, and of the template that it was opened by, if it is time to: a packet of the
/// client's with a mark has passed.
pub(super) fn tell<A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    outbox: &Outbox,
    work: &DelayedWork<SyncState>,
    mark: u32,
    entry: &ConnEntry<A>,
) {
    let rules = way.settings.sync_rules();
    let Some((ledger, due)) = entry.is_due(&rules, way.now, &state.timeouts) else {
        return;
    };
    let [original, _] = entry.keys();
    let spread = original.src.fold() ^ u32::from(original.sport);
    let version = way.settings.sync_version();
    // It knows no IPv6.
    if version == Version::V0 && A::FAMILY == Family::V6 {
        return;
    }
    let put = |entry: &Entry<'_>| {
        // There are some, a power of two.
        let port = spread as usize & outbox.ports.len().wrapping_sub(1);
        if let Some(port) = outbox.ports.get(port) {
            let most = way.settings.sync_qlen_max();
            port.put(outbox, version, entry, most, way.now, work);
        }
    };
    let mark = service_mark(state, way, mark, entry);
    let template = entry.template();
    let Some(method) = method_of(&entry.via) else {
        return;
    };
    if due && !(template.is_some() && way.settings.sync_persist_mode()) && is_told(entry) {
        put(&about_conn(state, method, mark, entry));
    }
    // Each packet of theirs would have a template told: the first is enough, and those that have the
    // connection told.
    let template =
        template.filter(|template| (due || ledger.is_first()) && template.is_due(&rules, way.now));
    if let Some(template) = template {
        put(&about_template(template, method));
    }
}

/// The mark of the service that a connection is of; 0 if it is not one of a mark.
fn service_mark<A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    mark: u32,
    entry: &ConnEntry<A>,
) -> u32 {
    if !state.services.has_mark(mark) {
        return 0;
    }
    let [original, _] = entry.keys();
    let wanted = Wanted {
        mark,
        proto: original.proto,
        addr: original.dst.into(),
        port: original.dport,
    };
    match state.services.find(way.net, &wanted, way.guard) {
        Some(service) if matches!(service.id, ServiceId::Mark { .. }) => mark,
        _ => 0,
    }
}

/// The flags of a method; `None` if there is no word for it.
fn method_of(via: &Via) -> Option<u32> {
    match via {
        Via::Nat => Some(method::MASQ),
        Via::Direct => Some(method::DROUTE | flag::NO_OUTPUT),
        Via::Tunnel => Some(method::TUNNEL | flag::NO_OUTPUT),
        Via::Local => Some(method::LOCALNODE | flag::NO_OUTPUT),
        Via::FullNat(_) | Via::Bypass => None,
    }
}

/// Could others go on with a connection? Not if a client is awaited, or FTP's replies were rewritten.
fn is_told<A: Carried>(entry: &ConnEntry<A>) -> bool {
    let session = entry.session().filter(|_| entry.is_control());
    let rewritten = session.is_some_and(|session| session.shift().is_any());
    !rewritten && entry.awaited().is_none()
}

/// What is told of a connection.
fn about_conn<A: Carried>(
    state: &NetState,
    method: u32,
    mark: u32,
    entry: &ConnEntry<A>,
) -> Entry<'static> {
    let (conn_state, [original, reply]) = (entry.state(), entry.keys());
    let inactive = match conn_state.is_active() {
        true => 0,
        false => flag::INACTIVE,
    };
    Entry {
        about: About::Conn(conn_state),
        flags: method | inactive,
        proto: original.proto,
        client: (original.src.into(), original.sport),
        service: (original.dst.into(), original.dport),
        server: (entry.dest.addr, reply.sport),
        mark,
        timeout: state.timeouts.of(conn_state),
        found: None,
    }
}

/// What is told of a template.
fn about_template(template: &Template, method: u32) -> Entry<'_> {
    let key = &template.key;
    let found = template.found.as_ref().map(|(engine, data)| Found {
        engine: engine.name().as_bytes(),
        data,
    });
    Entry {
        about: About::Template(template.is_assured()),
        flags: method | flag::INACTIVE,
        proto: key.proto,
        client: (key.client, 0),
        service: (key.asked.address(Family::of(key.client)), key.port),
        server: (template.dest.addr, template.port),
        mark: match key.asked {
            Asked::Mark(mark) => mark,
            Asked::Address(_) => 0,
        },
        timeout: template.timeout() / time::HZ,
        found,
    }
}
