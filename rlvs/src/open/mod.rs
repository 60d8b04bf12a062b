// SPDX-License-Identifier: GPL-2.0

//! Opening a connection: service, destination, local address, entry.
//!
//! What is configured and not carried yet opens none: its packets are dropped, and each kind of them
//! has a counter.

mod outward;
mod persist;

use crate::{
    conn::{
        Conn,
        ConnEntry,
        Traits,
        Via,
        ORIGINAL, //
    },
    ext::Counter,
    family::Carried,
    ftp,
    kapi::{
        family::Complaint,
        hash::{
            Entry,
            Hash,
            Role, //
        },
        inet,
        netfilter::Point,
        skb::{
            Packet,
            Verdict, //
        },
        time, //
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
        Snapshot,
        FTP, //
    },
    session::{
        Member,
        Part,
        Session, //
    },
    sync,
    table::{
        Wanted,
        CONN_CACHES,
        FTP_DATA, //
    },
    template::{
        Control,
        Template, //
    },
    xmit::{
        self,
        Way, //
    }, //
};
use kernel::{
    alloc::KBox,
    sync::Arc, //
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
        ip::Header,
        sctp, //
    }, //
};

/// How often another local port is tried if a connection that is older than the configuration
/// holds the tuple.
const LEASE_TRIES: usize = 8;

/// How long a connection of which nothing but an error was seen waits for its client, in jiffies.
const UNSEEN: u32 = 3 * time::HZ;

/// Why there is no connection.
pub(crate) enum Refusal {
    /// The packet is somebody else's.
    Pass,
    /// Drop the packet and count it.
    Drop(Counter),
    /// Drop the packet; it is counted: there is no local port.
    Exhausted,
    /// Somebody else has just opened it.
    Opened,
}

/// A packet that belongs to no connection: opens one, if it is for a service and may. Returns a packet that
/// may be sent as the connection's later packets are. `hash` is what its tuple was looked for by.
#[inline(always)]
pub(crate) fn open<'g, 'a, A: Carried>(
    state: &'g NetState,
    way: &Way<'g>,
    mut packet: Packet<'a>,
    headers: &Headers<A>,
    hash: Hash,
) -> Result<(Packet<'a>, &'g ConnEntry<A>), Verdict> {
    if way.point != Point::LocalIn && state.services.has_engines() {
        if let Some(opened) = outward::open(state, way, &mut packet, headers) {
            let entry = opened.entry();
            entry.saw(
                Direction::Reply,
                packet.len(),
                &headers.segment,
                way.now,
                || way.settings.secure_tcp(),
                way.bh,
            );
            return Err(xmit::to_client(way, packet, headers, entry));
        }
    }
    if state.settings.nat_icmp_send() && is_lost_answer(state, way, headers) {
        packet.complain::<A>(way.net, Complaint::NoPort);
        return Err(way.drop(packet, Counter::LostAnswer));
    }
    if way.point == Point::Forward {
        return Err(packet.accept());
    }
    if state.ftp.is_awaiting() && headers.segment.restarts() {
        if let Some(entry) = ftp::awaited(state, way, headers) {
            return Ok((packet, entry));
        }
    }
    let wanted = Wanted {
        mark: packet.mark(),
        proto: headers.tuple.proto,
        addr: headers.tuple.dst.into(),
        port: headers.tuple.dport,
    };
    let Some(service) = state.services.find(way.net, &wanted, way.guard) else {
        return Err(packet.accept());
    };
    let sloppy = match headers.segment {
        Segment::Sctp(_) => state.settings.sloppy_sctp(),
        _ => state.settings.sloppy_tcp(),
    };
    if !headers.segment.opens(sloppy) || headers.tuple.sport == FTP_DATA {
        // The local stack knows the answer to a stray segment. And what a real server on this host
        // sends back by active FTP is no request.
        return Err(packet.accept());
    }
    let opened = match schedule(state, way, service, &mut packet, headers, hash) {
        Ok(opened) => opened,
        Err(Refusal::Opened) => match A::of(&state.conns).find(&headers.tuple, way.guard) {
            Some(hit) if hit.index == ORIGINAL => Opened::Kept(hit.entry),
            _ => return Err(way.drop(packet, Counter::ConnConflict)),
        },
        Err(Refusal::Pass) => return Err(packet.accept()),
        Err(Refusal::Drop(Counter::NoDest)) => match bypass(state, way, service, headers) {
            Some(opened) => opened,
            None => {
                packet.complain::<A>(way.net, Complaint::NoPort);
                return Err(way.drop(packet, Counter::NoDest));
            }
        },
        Err(Refusal::Drop(why)) => return Err(way.drop(packet, why)),
        Err(Refusal::Exhausted) => return Err(packet.drop()),
    };
    match opened {
        Opened::Kept(entry) if headers.segment.keeps(entry.is_established()) => Ok((packet, entry)),
        opened => Err(begin(state, way, packet, headers, opened.entry())),
    }
}

/// Is it what a real server sends to a client that it still knows, and nobody here does?
#[cold]
fn is_lost_answer<A: Carried>(state: &NetState, way: &Way<'_>, headers: &Headers<A>) -> bool {
    let tuple = &headers.tuple;
    let ends = match headers.segment {
        Segment::Tcp(header) => header.flags.rst(),
        Segment::Sctp(header) => header.chunk == Some(sctp::Chunk::ABORT),
        Segment::Udp => false,
        Segment::Ipsec => true,
    };
    let (addr, port) = (tuple.src.into(), tuple.sport);
    !ends
        && state
            .services
            .has_server(tuple.proto, addr, port, way.guard)
}

/// The first packet of a connection.
pub(crate) fn begin<A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    packet: Packet<'_>,
    headers: &Headers<A>,
    entry: &ConnEntry<A>,
) -> Verdict {
    let secure = || way.settings.secure_tcp();
    entry.saw(
        Direction::Original,
        packet.len(),
        &headers.segment,
        way.now,
        secure,
        way.bh,
    );
    if entry.is_shared() {
        sync::passed(state, way, packet.mark(), entry, Direction::Original);
    }
    xmit::to_server(way, packet, headers, entry)
}

/// Opens the connection that an error is about and that nobody knows here, if the operator wants that:
/// another director may have opened it, and a scheduler that goes by addresses chooses as it did. `tuple`
/// is that of the packets that the client would send, `quoted` the header of an answer to them.
#[cold]
pub(crate) fn by_error<'g, A: Carried>(
    state: &'g NetState,
    way: &Way<'g>,
    packet: &mut Packet<'_>,
    quoted: Header<A>,
    tuple: Tuple<A>,
) -> Result<&'g ConnEntry<A>, Refusal> {
    if !state.settings.schedule_icmp() || way.point == Point::Forward {
        return Err(Refusal::Pass);
    }
    let headers = Headers::unseen(quoted, tuple).ok_or(Refusal::Pass)?;
    let wanted = Wanted {
        mark: packet.mark(),
        proto: tuple.proto,
        addr: tuple.dst.into(),
        port: tuple.dport,
    };
    let service = state.services.find(way.net, &wanted, way.guard);
    let service = service.ok_or(Refusal::Pass)?;
    let hash = A::of(&state.conns).hash_of(&tuple);
    match schedule(state, way, service, packet, &headers, hash)? {
        Opened::Kept(entry) => {
            entry.hear(entry.state(), UNSEEN, way.now);
            Ok(entry)
        }
        Opened::Once(_) => Err(Refusal::Pass),
    }
}

/// A connection that was opened.
enum Opened<'g, A: Carried> {
    /// It was published.
    Kept(&'g ConnEntry<A>),
    /// It is for this packet alone.
    Once(KBox<ConnEntry<A>>),
}

impl<A: Carried> Opened<'_, A> {
    fn entry(&self) -> &ConnEntry<A> {
        match self {
            Self::Kept(entry) => entry,
            Self::Once(entry) => entry,
        }
    }
}

/// Chooses a destination and publishes the connection.
#[inline(always)]
fn schedule<'g, A: Carried>(
    state: &'g NetState,
    way: &Way<'g>,
    service: &'g Service,
    packet: &mut Packet<'_>,
    headers: &Headers<A>,
    hash: Hash,
) -> Result<Opened<'g, A>, Refusal> {
    let tuple = &headers.tuple;
    if state.is_to_drop() {
        return Err(Refusal::Drop(Counter::DropPacket));
    }
    let snapshot = service.snapshot.load(way.guard);
    let no_dest = Refusal::Drop(Counter::NoDest);
    let snapshot = snapshot.ok_or(no_dest)?;
    match service.admit(snapshot, tuple.dport) {
        Admission::Open => {}
        Admission::Pass => return Err(Refusal::Pass),
        Admission::Refuse => return Err(Refusal::Drop(Counter::NoDest)),
    }
    let key = FlowKey {
        client: tuple.src.into(),
        client_port: tuple.sport,
        service: tuple.dst.into(),
        service_port: tuple.dport,
    };
    let goal = match &snapshot.persistence {
        None => {
            let slot = service.pick(snapshot, &key);
            let slot = slot.ok_or(Refusal::Drop(Counter::NoDest))?;
            Goal {
                slot,
                port: match slot.dest.port {
                    0 => tuple.dport,
                    port => port,
                },
                template: None,
            }
        }
        Some(persistence) => {
            let proto = tuple.proto;
            let data = persist::data(persistence, packet, headers)?;
            persist::choose(
                state,
                way,
                service,
                snapshot,
                persistence,
                proto,
                &key,
                data,
            )?
        }
    };
    if state.is_full() {
        return Err(Refusal::Drop(Counter::ConnLimit));
    }
    if let ServiceId::Mark { .. } = service.id {
        // Later packets of the connection may come without the mark.
        state.filter.add(tuple.dst.into());
    }
    let traffic = &goal.slot.dest.traffic;
    let mut tries = LEASE_TRIES;
    loop {
        let (entry, answers) = connection(state, snapshot, &goal, tuple, hash, &headers.segment)?;
        if snapshot.is_alone(tuple.proto) {
            if let Some(template) = goal.template {
                template.count();
            }
            traffic.opened(way.bh);
            return Ok(Opened::Once(entry));
        }
        let conns = A::of(&state.conns);
        match conns.insert(entry, [Role::Unique, answers], way.guard) {
            Ok(entry) => {
                traffic.opened(way.bh);
                if conns.is_crowded(way.guard) {
                    state.kick();
                }
                return Ok(Opened::Kept(entry));
            }
            Err(0) => return Err(Refusal::Opened),
            Err(_) => state.counters.count(Counter::ConnConflict),
        }
        tries = tries
            .checked_sub(1)
            .ok_or(Refusal::Drop(Counter::ConnConflict))?;
    }
}

/// Where a new connection goes.
struct Goal<'g> {
    /// The destination.
    slot: &'g Slot,
    /// The port there.
    port: u16,
    /// The template that says so.
    template: Option<&'g Arc<Template>>,
}

/// Makes the connection that a packet opens, and tells what the key of its answers is good for.
fn connection<A: Carried>(
    state: &NetState,
    snapshot: &Snapshot,
    goal: &Goal<'_>,
    tuple: &Tuple<A>,
    hash: Hash,
    segment: &Segment,
) -> Result<(KBox<ConnEntry<A>>, Role), Refusal> {
    // First of all: then nothing has to be kept over the call.
    let Ok(room) = A::of(&CONN_CACHES).alloc() else {
        return Err(Refusal::Drop(Counter::ConnNoMemory));
    };
    let (via, source, answers) = match &goal.slot.method {
        Method::Nat => (Via::Nat, (tuple.src, tuple.sport), Role::Shared),
        Method::FullNat(ports) => {
            let (lease, source) = lease(state, ports, tuple)?;
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
        _ => A::from_ip(goal.slot.dest.addr).ok_or(Refusal::Drop(Counter::NoRoute))?,
    };
    let reply = Tuple {
        src: server,
        dst: source.0,
        sport: goal.port,
        dport: source.1,
        proto: tuple.proto,
    };
    let toa = matches!(via, Via::FullNat(_))
        && matches!(segment, Segment::Tcp(_))
        && state.settings.toa();
    let is_ftp = tuple.dport == FTP
        && matches!(segment, Segment::Tcp(_))
        && matches!(via, Via::Nat | Via::FullNat(_));
    let (is_alone, first) = (snapshot.is_alone(tuple.proto), segment.first_state());
    // Where the next packet of one-packet scheduling goes has nothing to do with this one.
    let traits = Traits::default()
        .toa(toa)
        .tracked(state.settings.conntrack() && !is_alone);
    let (dest, template) = (goal.slot.dest.clone(), goal.template.map(Control::new));
    let conn = Conn::new(dest, first, via, traits, template);
    let mut entry = room.write(Entry::new([*tuple, reply], conn).hashed(hash));
    if is_ftp {
        entry.join(control(state).ok_or(Refusal::Drop(Counter::ConnNoMemory))?);
    }
    if state.is_master() && !is_alone {
        entry.watch(true);
    }
    Ok((entry, answers))
}

/// The control connection of a new FTP session.
#[cold]
fn control(state: &NetState) -> Option<KBox<Member>> {
    let session = Session::new(&state.ftp).ok()?;
    Member::new(session, Part::Control).ok()
}

/// Opens a connection to where its client wants to go, if that is what the operator wants of a mark that
/// has no real server for it.
#[cold]
fn bypass<'g, A: Carried>(
    state: &'g NetState,
    way: &Way<'g>,
    service: &Service,
    headers: &Headers<A>,
) -> Option<Opened<'g, A>> {
    let tuple = &headers.tuple;
    let wanted = state.settings.cache_bypass()
        && matches!(service.id, ServiceId::Mark { .. })
        && inet::is_elsewhere(way.net, tuple.dst.into());
    if !wanted || state.is_full() {
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
        Traits::default().tracked(state.settings.conntrack()),
        None,
    );
    let entry = A::of(&CONN_CACHES)
        .alloc()
        .ok()?
        .write(Entry::new([*tuple, nowhere], conn));
    let snapshot = service.snapshot.load(way.guard)?;
    if snapshot.is_alone(tuple.proto) {
        return Some(Opened::Once(entry));
    }
    let conns = A::of(&state.conns);
    let entry = conns.insert(entry, [Role::Unique, Role::Unused], way.guard);
    entry.ok().map(Opened::Kept)
}

/// Takes a local address and port for a connection.
fn lease<A: Carried>(
    state: &NetState,
    ports: &Ports,
    tuple: &Tuple<A>,
) -> Result<(Lease, (A, u16)), Refusal> {
    // Clients spread over the local addresses, with nothing shared to count them. Client ports come
    // in steps: only the high bits of the product depend on all of them.
    let client = u64::from(tuple.src.fold()) << 16 | u64::from(tuple.sport);
    let spread = usize::from((client.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16);
    let Some(lease) = Lease::take(ports.of(tuple.proto), state.settings.lports(), spread) else {
        state.exhausted();
        return Err(Refusal::Exhausted);
    };
    let addr = A::from_ip(lease.addr()).ok_or(Refusal::Drop(Counter::NoRoute))?;
    let port = lease.port();
    Ok((lease, (addr, port)))
}
