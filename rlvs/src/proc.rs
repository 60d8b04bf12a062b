// SPDX-License-Identifier: GPL-2.0

//! The files in `/proc/net`: what mainline has, byte for byte, and what happened beyond that.

use crate::{
    config::{
        Entry,
        Member, //
    },
    conn::{
        Conn,
        ConnEntry, //
    },
    ext::Counter,
    kapi::{
        netns::{
            Net,
            PerNet,
            Subsys, //
        },
        proc::{
            Entries,
            File,
            Files,
            Show, //
        },
        time, //
    },
    netns::NetState,
    service::ServiceId,
};
use core::net::IpAddr;
use kernel::{
    fmt,
    seq_file::SeqFile,
    seq_print,
    sync::rcu, //
};
use rlvs_core::{
    proto::State,
    rate::{
        Counters,
        Rates, //
    },
    uapi::{
        method,
        VERSION, //
    },
    wire::IPPROTO_TCP, //
};

/// The files. To register their [`Files::SUBSYS`] is to make them; [`NetState`] must be there first.
pub(crate) struct ProcFiles;

static SUBSYS: Subsys<Entries<ProcFiles>> = Subsys::new();

impl Files for ProcFiles {
    const FILES: &'static [File] = &[
        File::new::<Services>(c"ip_vs"),
        File::new::<Stats>(c"ip_vs_stats"),
        File::new::<PerCpuStats>(c"ip_vs_stats_percpu"),
        File::new::<Conns<false>>(c"ip_vs_conn"),
        File::new::<Conns<true>>(c"ip_vs_conn_sync"),
        File::new::<ExtStats>(c"rlvs_ext_stats"),
    ];
    const SUBSYS: &'static Subsys<Entries<Self>> = &SUBSYS;
}

/// An address as these files print it.
struct Hex(IpAddr);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(addr) => write!(f, "{:08X}", addr.to_bits()),
            IpAddr::V6(addr) => {
                let [first, rest @ ..] = addr.segments();
                write!(f, "{first:04x}")?;
                rest.iter().try_for_each(|part| write!(f, ":{part:04x}"))
            }
        }
    }
}

fn protocol(number: u16) -> &'static str {
    if number == u16::from(IPPROTO_TCP) {
        "TCP"
    } else {
        "UDP"
    }
}

/// `ip_vs`: a head, then one record a service with its destinations.
struct Services;

impl Show for Services {
    fn show(net: &Net, record: u64, out: &SeqFile) -> Option<u64> {
        let state = NetState::of(net)?;
        let config = state.config.lock();
        if record == 0 {
            let (major, minor, patch) = (VERSION >> 16, VERSION >> 8 & 0xff, VERSION & 0xff);
            let size = state.conn_table_size();
            seq_print!(
                out,
                "IP Virtual Server version {major}.{minor}.{patch} (size={size})\n\
                 Prot LocalAddress:Port Scheduler Flags\n\
                 \x20 -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
            );
            return Some(1);
        }
        let (number, entry) = config.next_service(record)?;
        service(entry, out);
        number.checked_add(1)
    }
}

fn service(entry: &Entry, out: &SeqFile) {
    let scheduler = entry.spec().kind.map_or("none", |kind| kind.name());
    match *entry.id() {
        ServiceId::Address { proto, addr, port } => {
            let (protocol, addr) = (protocol(proto), Hex(addr));
            seq_print!(out, "{protocol}  {addr}:{port:04X} {scheduler}  \n");
        }
        ServiceId::Mark { mark, .. } => seq_print!(out, "FWM  {mark:08X} {scheduler}  \n"),
    }
    for Member { dest, spec, .. } in entry.members() {
        // FullNAT has no name that programs know.
        let forward = match spec.method {
            method::LOCALNODE => "Local",
            method::TUNNEL => "Tunnel",
            method::DROUTE => "Route",
            _ => "Masq",
        };
        let (addr, port, weight) = (Hex(dest.addr), dest.port, spec.weight);
        let (active, inactive) = (dest.active(), dest.inactive());
        seq_print!(
            out,
            "  -> {addr}:{port:04X}      {forward:<7} {weight:<6} {active:<10} {inactive:<10}\n"
        );
    }
}

/// Five counters in the widths of both statistics files.
struct Row(Counters);

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counters {
            conns,
            inpkts,
            outpkts,
            inbytes,
            outbytes,
        } = self.0;
        write!(
            f,
            "{conns:8X} {inpkts:8X} {outpkts:8X} {inbytes:16X} {outbytes:16X}"
        )
    }
}

impl From<Rates> for Row {
    fn from(rates: Rates) -> Self {
        Self(Counters {
            conns: rates.cps,
            inpkts: rates.inpps,
            outpkts: rates.outpps,
            inbytes: rates.inbps,
            outbytes: rates.outbps,
        })
    }
}

/// `ip_vs_stats`.
struct Stats;

impl Show for Stats {
    fn show(net: &Net, _record: u64, out: &SeqFile) -> Option<u64> {
        let stats = NetState::of(net)?.config.lock().stats();
        let (total, rates) = (Row(stats.counters), Row::from(stats.rates));
        seq_print!(
            out,
            "   Total Incoming Outgoing         Incoming         Outgoing\n\
             \x20  Conns  Packets  Packets            Bytes            Bytes\n\
             {total}\n\n\
             \x20Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n\
             {rates}\n"
        );
        None
    }
}

/// `ip_vs_stats_percpu`.
struct PerCpuStats;

impl Show for PerCpuStats {
    fn show(net: &Net, _record: u64, out: &SeqFile) -> Option<u64> {
        let mut config = NetState::of(net)?.config.lock();
        seq_print!(
            out,
            "       Total Incoming Outgoing         Incoming         Outgoing\n\
             CPU    Conns  Packets  Packets            Bytes            Bytes\n"
        );
        for (cpu, counters) in config.per_cpu() {
            let row = Row(*counters);
            seq_print!(out, "{cpu:3X} {row}\n");
        }
        let stats = config.stats();
        let (total, rates) = (Row(stats.counters), Row::from(stats.rates));
        seq_print!(
            out,
            "\x20 ~ {total}\n\n\
             \x20    Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n\
             \x20   {rates}\n"
        );
        None
    }
}

/// `ip_vs_conn`, or `ip_vs_conn_sync` if `SYNC`: a head, then one record a step through the table.
struct Conns<const SYNC: bool>;

impl<const SYNC: bool> Show for Conns<SYNC> {
    fn show(net: &Net, record: u64, out: &SeqFile) -> Option<u64> {
        let state = NetState::of(net)?;
        let Some(cursor) = record.checked_sub(1) else {
            let columns = if SYNC {
                "Origin Expires"
            } else {
                "Expires PEName PEData"
            };
            seq_print!(
                out,
                "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       {columns}\n"
            );
            return Some(1);
        };
        let cursor = u32::try_from(cursor).ok()?;
        let now = time::now();
        let next = state.conns.scan(cursor, &rcu::read_lock(), |entry| {
            // What has expired is gone, collected or not.
            if let Some(expires) = entry.expires_in(now, &state.timeouts) {
                conn::<SYNC>(entry, expires, out);
            }
        });
        // Empty steps are many, and none of them returns to user space.
        time::cond_resched();
        u64::from(next?).checked_add(1)
    }
}

fn conn<const SYNC: bool>(entry: &ConnEntry, expires: u32, out: &SeqFile) {
    let [original, reply] = entry.keys();
    let conn: &Conn = entry;
    let protocol = protocol(original.proto.into());
    let (client, cport) = (Hex(original.src.into()), original.sport);
    let (service, vport) = (Hex(original.dst.into()), original.dport);
    let (server, dport) = (Hex(conn.dest.addr), reply.sport);
    let state: State = conn.state();
    let state = state.name();
    seq_print!(
        out,
        "{protocol:<3} {client} {cport:04X} {service} {vport:04X} {server} {dport:04X} {state:<11} "
    );
    if SYNC {
        seq_print!(out, "LOCAL  ");
    }
    seq_print!(out, "{expires:7}\n");
}

/// `rlvs_ext_stats`: a name and a number a line.
struct ExtStats;

impl Show for ExtStats {
    fn show(net: &Net, _record: u64, out: &SeqFile) -> Option<u64> {
        let state = NetState::of(net)?;
        for counter in Counter::ALL {
            let (name, value) = (counter.name(), state.counters.get(*counter));
            seq_print!(out, "{name} {value}\n");
        }
        None
    }
}
