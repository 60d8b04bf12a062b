// SPDX-License-Identifier: GPL-2.0

//! FTP: data connections follow the control connection that arranges them.
//!
//! A server tells its address and port, and the client will come to them: the reply is rewritten to
//! the virtual address, and a connection awaits the client there, from whichever port. Or the client
//! tells its own: then a connection awaits the server's, from the port below that of the control
//! connection. Either way data go between the two hosts that talk already, whatever address is told.

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
    kapi::{
        hash::{
            Entry,
            Role, //
        },
        skb::{
            Packet,
            Verdict, //
        }, //
    },
    netns::NetState,
    session::{
        Member,
        Part,
        Session, //
    },
    table::CONN_CACHES,
    xmit::{
        self,
        Way, //
    }, //
};
use core::net::IpAddr;
use kernel::sync::Arc;
use rlvs_core::{
    flow::{
        Family,
        Tuple, //
    },
    proto::State,
    wire::{
        ftp::{
            self,
            Form,
            Target,
            Text, //
        },
        headers::{
            Headers,
            Segment, //
        },
        shift, //
    }, //
};

/// Sends a packet of a control connection to the real server.
#[cold]
#[inline(never)]
pub(crate) fn to_server<A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    mut packet: Packet<'_>,
    headers: &Headers<A>,
    entry: &ConnEntry<A>,
) -> Verdict {
    match request(state, way, &mut packet, headers, entry) {
        Some(()) => xmit::to_server(way, packet, headers, entry),
        // It will be sent again.
        None => way.drop(packet, Counter::NoMemory),
    }
}

/// Sends a packet of a control connection to the client.
#[cold]
#[inline(never)]
pub(crate) fn to_client<A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    mut packet: Packet<'_>,
    headers: &Headers<A>,
    entry: &ConnEntry<A>,
) -> Verdict {
    let mut headers = *headers;
    match reply(state, way, &mut packet, &mut headers, entry) {
        Some(()) => xmit::to_client(way, packet, &headers, entry),
        None => way.drop(packet, Counter::NoMemory),
    }
}

/// Reads a client's packet, and has it acknowledge what the server has sent.
fn request<A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    packet: &mut Packet<'_>,
    headers: &Headers<A>,
    entry: &ConnEntry<A>,
) -> Option<()> {
    let Some(session) = entry.session() else {
        return Some(());
    };
    let shift = session.shift();
    if shift.is_any() {
        let checksum = xmit::checksum_of(packet);
        let bytes = packet.writable(headers.len())?;
        let segment = bytes.get_mut(headers.ip.header_len..)?;
        shift::acknowledged(segment, &shift, checksum);
    }
    // By FullNAT the server would connect past us, or to a local address that is not its own.
    let may_ask = matches!(entry.via, Via::Nat) && entry.state() == State::Established;
    if may_ask && headers.payload() > 0 {
        let [original, _] = entry.keys();
        let client: IpAddr = original.src.into();
        let target = read(packet, headers, ftp::request);
        if let Some(target) = target.filter(|target| target.addr == Some(client)) {
            await_server(state, way, entry, session, target.port)?;
        }
    }
    Some(())
}

/// Reads a server's packet, rewrites it if it says where the client shall connect to, and numbers it as
/// the client counts.
fn reply<A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    packet: &mut Packet<'_>,
    headers: &mut Headers<A>,
    entry: &ConnEntry<A>,
) -> Option<()> {
    let (Segment::Tcp(tcp), Some(session)) = (headers.segment, entry.session()) else {
        return Some(());
    };
    let mut by = 0;
    let payload = headers.payload();
    if payload > 0 {
        let last = (headers.ip.total_len as usize).checked_sub(1)?;
        let ends_line = packet.byte(last) == Some(b'\n');
        // What a client has sent may come back in the middle of a line.
        if entry.state() == State::Established && session.is_line(tcp.seq) {
            let target = read(packet, headers, ftp::reply);
            if let Some(target) = target {
                await_client(state, way, entry, session, target.port)?;
                by = tell(packet, headers, entry, &target)?;
            }
        }
        if ends_line {
            // CAST: A packet is not so long.
            session.line(tcp.seq.wrapping_add(payload as u32));
        }
    }
    let shift = session.resized(tcp.seq, by);
    if shift.is_any() {
        let checksum = xmit::checksum_of(packet);
        let bytes = packet.writable(headers.len())?;
        let segment = bytes.get_mut(headers.ip.header_len..)?;
        shift::sent(segment, &shift, checksum);
    }
    Some(())
}

/// What the start of a packet's payload tells.
#[inline(never)]
fn read<A: Carried>(
    packet: &Packet<'_>,
    headers: &Headers<A>,
    tells: fn(&[u8], Family) -> Option<Target>,
) -> Option<Target> {
    let mut line = [0; ftp::LOOK];
    let line = line.get_mut(..headers.payload().min(ftp::LOOK))?;
    if !packet.copy(headers.len(), line) {
        return None;
    }
    tells(line, A::FAMILY)
}

/// Has a reply tell the client the virtual address; returns by how much it got longer. `None` leaves a
/// packet that nobody must see.
fn tell<A: Carried>(
    packet: &mut Packet<'_>,
    headers: &mut Headers<A>,
    entry: &ConnEntry<A>,
    target: &Target,
) -> Option<i32> {
    let [original, _] = entry.keys();
    let service: IpAddr = original.dst.into();
    let text = match (target.form, service) {
        (Form::Commas, IpAddr::V4(addr)) => Text::commas(addr, target.port),
        _ => Text::delimited(target.port),
    };
    let new = text.as_bytes();
    let at = headers.len().checked_add(target.at)?;
    let is_same = new
        .iter()
        .enumerate()
        .all(|(n, byte)| packet.byte(at.wrapping_add(n)) == Some(*byte));
    if target.len == new.len() && is_same {
        return Some(0);
    }
    if packet.gso_size().is_some() {
        // It is short. Sent again it comes alone.
        return None;
    }
    let before = headers.ip.total_len as usize;
    let after = before.checked_add(new.len())?.checked_sub(target.len)?;
    let checksum = xmit::checksum_of(packet);
    let bytes = packet.stretch(after)?;
    A::set_total_len(bytes, after).ok()?;
    let segment = bytes.get_mut(headers.ip.header_len..before.max(after))?;
    let header_len = headers.segment.header_len();
    ftp::splice(segment, header_len, target.at, target.len, new, checksum).ok()?;
    packet.cut(after);
    headers.ip.total_len = u32::try_from(after).ok()?;
    i32::try_from(after)
        .ok()?
        .checked_sub_unsigned(u32::try_from(before).ok()?)
}

/// Awaits the client's data connection at that port.
fn await_client<A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    entry: &ConnEntry<A>,
    session: &Arc<Session>,
    port: u16,
) -> Option<()> {
    let [original, reply] = entry.keys();
    let original = Tuple {
        sport: 0,
        dport: port,
        ..*original
    };
    let reply = Tuple {
        sport: port,
        dport: 0,
        ..*reply
    };
    if is_awaited(state, way, &original) {
        return Some(());
    }
    let member = Member::new(session.clone(), Part::Awaited).ok()?;
    let mut conn = listening(state, entry, beside(entry), false);
    conn.join(member);
    publish(state, way, [original, reply], Role::Unused, conn)?;
    Some(())
}

/// Awaits the server's data connection to that port of the client.
fn await_server<A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    entry: &ConnEntry<A>,
    session: &Arc<Session>,
    port: u16,
) -> Option<()> {
    let [original, reply] = entry.keys();
    let original = Tuple {
        sport: port,
        dport: original.dport.wrapping_sub(1),
        ..*original
    };
    let reply = Tuple {
        sport: reply.sport.wrapping_sub(1),
        dport: port,
        ..*reply
    };
    if is_awaited(state, way, &original) {
        return Some(());
    }
    let member = Member::new(session.clone(), Part::Data).ok()?;
    let mut conn = listening(state, entry, Via::Nat, false);
    conn.join(member);
    publish(state, way, [original, reply], Role::Shared, conn)?;
    Some(())
}

/// Has an older connection with that tuple wait again, if there is one.
fn is_awaited<A: Carried>(state: &NetState, way: &Way<'_>, original: &Tuple<A>) -> bool {
    let conns = A::of(&state.conns);
    match conns.find(original, way.guard) {
        Some(hit) if hit.index != ORIGINAL => false,
        Some(hit) if hit.entry.is_expired(way.now, &state.timeouts) => {
            conns.end(hit.entry, way.guard);
            xmit::untrack(way.net, hit.entry);
            false
        }
        Some(hit) => {
            hit.entry.listen(way.now);
            true
        }
        None => false,
    }
}

/// The data connection that a client opens, if it is awaited.
#[cold]
#[inline(never)]
pub(crate) fn awaited<'g, A: Carried>(
    state: &'g NetState,
    way: &Way<'g>,
    headers: &Headers<A>,
) -> Option<&'g ConnEntry<A>> {
    let unknown = Tuple {
        sport: 0,
        ..headers.tuple
    };
    let conns = A::of(&state.conns);
    let hit = conns.find(&unknown, way.guard)?;
    let entry = hit.entry;
    let member = entry.awaited()?;
    let is_good = hit.index == ORIGINAL
        && !entry.is_expired(way.now, &state.timeouts)
        && entry.dest.is_available();
    if !is_good {
        return None;
    }
    let via = beside(entry);
    let (port, answers) = match &via {
        Via::FullNat(lease) => (lease.port(), Role::Unique),
        _ => (headers.tuple.sport, Role::Shared),
    };
    let [_, reply] = entry.keys();
    let reply = Tuple {
        dport: port,
        ..*reply
    };
    let toa = answers == Role::Unique && state.settings.toa();
    let member = Member::new(member.session().clone(), Part::Data).ok()?;
    let mut conn = listening(state, entry, via, toa);
    conn.join(member);
    let Some(opened) = publish(state, way, [headers.tuple, reply], answers, conn) else {
        // The same packet may have come twice, and the other one been quicker.
        let hit = conns.find(&headers.tuple, way.guard);
        return hit.filter(|hit| hit.index == ORIGINAL).map(|hit| hit.entry);
    };
    // Who takes out the one that was awaited has its place: nobody else may come.
    if !conns.end(entry, way.guard) {
        conns.end(opened, way.guard);
        return None;
    }
    Some(opened)
}

/// How a connection beside this one reaches its server: by FullNAT from the same address and port, since
/// the server may compare.
fn beside<A: Carried>(entry: &ConnEntry<A>) -> Via {
    match &entry.via {
        Via::FullNat(lease) => Via::FullNat(lease.beside()),
        _ => Via::Nat,
    }
}

/// A connection to the same server that waits for its first packet.
fn listening<A: Carried>(state: &NetState, entry: &ConnEntry<A>, via: Via, toa: bool) -> Conn {
    let traits = Traits::default()
        .toa(toa)
        .tracked(state.settings.conntrack());
    let conn = Conn::new(entry.dest.clone(), State::Listen, via, traits, None);
    if state.is_master() {
        conn.watch(true);
    }
    conn
}

fn publish<'g, A: Carried>(
    state: &'g NetState,
    way: &Way<'g>,
    keys: [Tuple<A>; 2],
    answers: Role,
    conn: Conn,
) -> Option<&'g ConnEntry<A>> {
    if state.is_full() {
        return None;
    }
    let entry = A::of(&CONN_CACHES)
        .alloc()
        .ok()?
        .write(Entry::new(keys, conn));
    let conns = A::of(&state.conns);
    let entry = conns
        .insert(entry, [Role::Unique, answers], way.guard)
        .ok()?;
    if conns.is_crowded(way.guard) {
        state.kick();
    }
    Some(entry)
}
