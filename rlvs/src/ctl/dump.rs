// SPDX-License-Identifier: GPL-2.0

//! The configuration to attributes, in the order in which mainline emits them: some programs depend
//! on it.

use crate::{
    config::{
        Entry,
        Member, //
    },
    dest,
    kapi::{
        nla::Message,
        time, //
    },
    service::ServiceId,
    stats::Stats,
    sync::Spec, //
};
use core::net::IpAddr;
use kernel::prelude::*;
use rlvs_core::{
    flow::Family,
    uapi::{
        ipvs::{
            attr,
            daemon as daemon_attr,
            dest as dest_attr,
            stats,
            svc, //
        },
        method,
        svc_flag,
        PE_NAME_MAX, //
    }, //
};

/// Puts a service.
pub(super) fn service(entry: &Entry, message: &mut Message<'_>) -> Result {
    message.nest(attr::SERVICE, |nest| {
        nest.put_u16(svc::AF, entry.id().family().number())?;
        match *entry.id() {
            ServiceId::Mark { mark, .. } => nest.put_u32(svc::FWMARK, mark)?,
            ServiceId::Address { proto, addr, port } => {
                nest.put_u16(svc::PROTOCOL, proto)?;
                nest.put(svc::ADDR, &sixteen(addr))?;
                nest.put_be16(svc::PORT, port)?;
            }
        }
        let spec = entry.spec();
        let kind = spec.kind.map_or("none", |kind| kind.name());
        put_name(nest, svc::SCHED_NAME, kind)?;
        if let Some(engine) = spec.engine {
            put_name(nest, svc::PE_NAME, engine.name())?;
        }
        let [a, b, c, d] = (spec.flags | svc_flag::HASHED).to_ne_bytes();
        nest.put(svc::FLAGS, &[a, b, c, d, 0xff, 0xff, 0xff, 0xff])?;
        nest.put_u32(svc::TIMEOUT, spec.timeout_jiffies / time::HZ)?;
        nest.put(svc::NETMASK, &spec.netmask)?;
        both_stats(nest, svc::STATS, svc::STATS64, &entry.stats())
    })
}

/// Puts a name with its NUL.
fn put_name(message: &mut Message<'_>, attr: u16, name: &str) -> Result {
    let mut text = [0; PE_NAME_MAX + 1];
    for (to, from) in text.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    let len = name.len().saturating_add(1);
    message.put(attr, text.get(..len).unwrap_or(&text))
}

/// Puts a destination of `entry`. Whoever does not know rlvs is told that FullNAT is NAT: it has no
/// other word for it, and what it saves it must be able to restore.
pub(super) fn dest(
    entry: &Entry,
    member: &Member,
    knows_rlvs: bool,
    message: &mut Message<'_>,
) -> Result {
    message.nest(attr::DEST, |nest| {
        let (dest, spec) = (&member.dest, &member.spec);
        let told = match dest::fullnat(spec.method, !entry.laddrs().is_empty()) {
            true if knows_rlvs => method::FULLNAT,
            true => method::MASQ,
            false => spec.method,
        };
        nest.put(dest_attr::ADDR, &sixteen(dest.addr))?;
        nest.put_be16(dest_attr::PORT, dest.port)?;
        nest.put_u32(dest_attr::FWD_METHOD, told)?;
        nest.put_u32(dest_attr::WEIGHT, spec.weight)?;
        nest.put_u8(dest_attr::TUN_TYPE, spec.tunnel.kind)?;
        nest.put_be16(dest_attr::TUN_PORT, spec.tunnel.port)?;
        nest.put_u16(dest_attr::TUN_FLAGS, spec.tunnel.flags)?;
        nest.put_u32(dest_attr::U_THRESH, spec.upper)?;
        nest.put_u32(dest_attr::L_THRESH, spec.lower)?;
        nest.put_u32(dest_attr::ACTIVE_CONNS, dest.active())?;
        nest.put_u32(dest_attr::INACT_CONNS, dest.inactive())?;
        nest.put_u32(dest_attr::PERSIST_CONNS, dest.templates())?;
        nest.put_u16(dest_attr::ADDR_FAMILY, Family::of(dest.addr).number())?;
        both_stats(nest, dest_attr::STATS, dest_attr::STATS64, &member.stats())
    })
}

/// Puts a synchronisation daemon.
pub(super) fn daemon(state: u32, spec: &Spec, message: &mut Message<'_>) -> Result {
    message.nest(attr::DAEMON, |nest| {
        nest.put_u32(daemon_attr::STATE, state)?;
        let end = spec.device.iter().position(|byte| *byte == 0);
        let name = end.and_then(|end| spec.device.get(..=end));
        nest.put(daemon_attr::MCAST_IFN, name.unwrap_or(&spec.device))?;
        nest.put_u32(daemon_attr::SYNC_ID, spec.syncid)?;
        nest.put_u16(daemon_attr::SYNC_MAXLEN, spec.maxlen)?;
        nest.put_u16(daemon_attr::MCAST_PORT, spec.port)?;
        nest.put_u8(daemon_attr::MCAST_TTL, spec.hops)?;
        match spec.group {
            IpAddr::V4(group) => nest.put(daemon_attr::MCAST_GROUP, &group.octets()),
            IpAddr::V6(group) => nest.put(daemon_attr::MCAST_GROUP6, &group.octets()),
        }
    })
}

/// An address as the nests hold it: 16 bytes, of which IPv4 uses the first 4.
fn sixteen(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => {
            let [a, b, c, d] = addr.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(addr) => addr.octets(),
    }
}

fn both_stats(message: &mut Message<'_>, old: u16, new: u16, shown: &Stats) -> Result {
    let (counters, rates) = (&shown.counters, &shown.rates);
    message.nest(old, |nest| {
        // Programs of old read 32 bits of all but bytes, and take the low ones.
        let mut put = |attr, value| nest.put_u32(attr, value as u32);
        put(stats::CONNS, counters.conns)?;
        put(stats::INPKTS, counters.inpkts)?;
        put(stats::OUTPKTS, counters.outpkts)?;
        nest.put_u64(stats::INBYTES, counters.inbytes, stats::PAD)?;
        nest.put_u64(stats::OUTBYTES, counters.outbytes, stats::PAD)?;
        let mut put = |attr, value| nest.put_u32(attr, value as u32);
        put(stats::CPS, rates.cps)?;
        put(stats::INPPS, rates.inpps)?;
        put(stats::OUTPPS, rates.outpps)?;
        put(stats::INBPS, rates.inbps)?;
        put(stats::OUTBPS, rates.outbps)
    })?;
    message.nest(new, |nest| {
        let mut put = |attr, value| nest.put_u64(attr, value, stats::PAD);
        put(stats::CONNS, counters.conns)?;
        put(stats::INPKTS, counters.inpkts)?;
        put(stats::OUTPKTS, counters.outpkts)?;
        put(stats::INBYTES, counters.inbytes)?;
        put(stats::OUTBYTES, counters.outbytes)?;
        put(stats::CPS, rates.cps)?;
        put(stats::INPPS, rates.inpps)?;
        put(stats::OUTPPS, rates.outpps)?;
        put(stats::INBPS, rates.inbps)?;
        put(stats::OUTBPS, rates.outbps)
    })
}
