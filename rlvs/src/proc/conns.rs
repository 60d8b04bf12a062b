// SPDX-License-Identifier: GPL-2.0

//! `ip_vs_conn` and `ip_vs_conn_sync`: a head, then one record a step through the table.
//!
//! A record's number is a hash: that of the next connection to come, in the order in which the table
//! has them whatever its size. So a reader finds its place again after the table was resized, and
//! what stands still is listed once.

use super::print;
use crate::{
    conn::{
        Conn,
        ConnEntry,
        Via, //
    },
    family::Carried,
    kapi::{
        netns::{
            Net,
            PerNet, //
        },
        proc::Show,
        time, //
    },
    netns::NetState,
    template::TemplateEntry, //
};
use core::net::{
    Ipv4Addr,
    Ipv6Addr, //
};
use kernel::{
    seq_file::SeqFile,
    sync::rcu, //
};
use rlvs_core::{
    flow::Family,
    listing, //
};

/// Jiffies in a second.
const HZ: u64 = time::HZ as u64;
/// Connections that are listed in one go, under a lock that keeps new ones out of their buckets.
const MOST: usize = 32;

/// `ip_vs_conn_sync` if `SYNC`, else `ip_vs_conn`.
pub(super) struct Conns<const SYNC: bool>;

impl<const SYNC: bool> Show for Conns<SYNC> {
    fn show(net: &Net, record: u64, out: &SeqFile) -> Option<u64> {
        let state = NetState::of(net)?;
        let Some(cursor) = record.checked_sub(1) else {
            print(
                out,
                if SYNC {
                    listing::CONN_SYNC_HEAD
                } else {
                    listing::CONN_HEAD
                },
            );
            return Some(1);
        };
        // First all of IPv4, then all of IPv6, then templates.
        // CAST: The hash.
        let hash = cursor as u32;
        let next = match cursor {
            0..V6 => some::<Ipv4Addr, SYNC>(state, hash, out).or(Some(V6)),
            V6..TEMPLATES => {
                let next = some::<Ipv6Addr, SYNC>(state, hash, out);
                next.map(|next| next | V6).or(Some(TEMPLATES))
            }
            _ => templates::<SYNC>(state, hash, out).map(|next| next | TEMPLATES),
        };
        // Empty steps are many, and none of them returns to user space.
        time::cond_resched();
        next?.checked_add(1)
    }
}

/// Where the hashes of IPv6 begin among the cursors, and where those of templates do.
const V6: u64 = 1 << 32;
const TEMPLATES: u64 = 2 << 32;

/// Prints some connections of a family; returns the hash where the next ones begin.
fn some<A: Carried, const SYNC: bool>(state: &NetState, cursor: u32, out: &SeqFile) -> Option<u64> {
    let now = time::now();
    let next = A::of(&state.conns).scan(cursor, MOST, &rcu::read_lock(), |entry| {
        // What has expired is gone, collected or not.
        if let Some(expires) = entry.expires_in(now, &state.timeouts) {
            conn::<A, SYNC>(entry, expires, out);
        }
    });
    next.map(u64::from)
}

/// The same for templates.
fn templates<const SYNC: bool>(state: &NetState, cursor: u32, out: &SeqFile) -> Option<u64> {
    let now = time::now_long();
    let templates = &state.templates;
    let next = templates.scan(cursor, MOST, &rcu::read_lock(), |entry| {
        if let Some(left) = entry.left(now) {
            template::<SYNC>(entry, left, out);
        }
    });
    next.map(u64::from)
}

fn template<const SYNC: bool>(entry: &TemplateEntry, left: u64, out: &SeqFile) {
    let [key] = entry.keys();
    // Mainline has no place for it in the other file.
    let found = entry.found.as_ref().filter(|_| !SYNC);
    print(
        out,
        listing::Conn {
            proto: key.proto,
            client: (key.client, 0),
            service: (key.asked.address(Family::of(key.client)), key.port),
            server: (entry.dest.addr, entry.port),
            state: match entry.is_assured() {
                true => "ASSURED",
                false => "NONE",
            },
            origin: SYNC.then_some(origin(entry.is_synced)),
            expires: u32::try_from(left / HZ).unwrap_or(u32::MAX),
            found: found.map(|(engine, data)| (engine.name(), &**data)),
        },
    );
}

/// Who knew of it first: this director or another one.
fn origin(is_synced: bool) -> &'static str {
    match is_synced {
        true => "SYNC",
        false => "LOCAL",
    }
}

fn conn<A: Carried, const SYNC: bool>(entry: &ConnEntry<A>, expires: u32, out: &SeqFile) {
    let [original, reply] = entry.keys();
    let conn: &Conn = entry;
    print(
        out,
        listing::Conn {
            proto: original.proto,
            client: (original.src.into(), original.sport),
            service: (original.dst.into(), original.dport),
            server: match conn.via {
                Via::Bypass => (A::UNSPECIFIED.into(), 0),
                _ => (conn.dest.addr, reply.sport),
            },
            state: conn.state().name(),
            origin: SYNC.then_some(origin(conn.is_synced())),
            expires,
            found: None,
        },
    );
}
