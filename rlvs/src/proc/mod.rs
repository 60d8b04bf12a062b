// SPDX-License-Identifier: GPL-2.0

//! The files in `/proc/net`: what mainline has, byte for byte ([`rlvs_core::listing`]), and what
//! happened beyond that.
//!
//! Nothing is held from one record to the next: a reader who takes his time, or all there is, stops
//! nobody.

mod conns;
mod status;

use crate::{
    config::{
        Entry,
        Member, //
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
        }, //
    },
    netns::NetState,
    service::{
        ServiceId,
        FTP, //
    }, //
};
use kernel::{
    fmt,
    seq_file::SeqFile,
    seq_print, //
};
use rlvs_core::{
    listing::{
        self,
        ServiceName, //
    },
    uapi::{
        svc_flag,
        VERSION, //
    }, //
};

/// The files. To register their [`Files::SUBSYS`] is to make them; [`NetState`] must be there first.
pub(crate) struct ProcFiles;

static SUBSYS: Subsys<Entries<ProcFiles>> = Subsys::new();

impl Files for ProcFiles {
    const FILES: &'static [File] = &[
        File::new::<Services>(c"ip_vs"),
        File::new::<Stats>(c"ip_vs_stats"),
        File::new::<PerCpuStats>(c"ip_vs_stats_percpu"),
        File::new::<status::Status>(c"ip_vs_status").private(),
        File::new::<conns::Conns<false>>(c"ip_vs_conn"),
        File::new::<conns::Conns<true>>(c"ip_vs_conn_sync"),
        File::new::<Apps>(c"ip_vs_app"),
        File::new::<ExtStats>(c"rlvs_ext_stats"),
    ];
    const SUBSYS: &'static Subsys<Entries<Self>> = &SUBSYS;
}

/// What the core formats, for the kernel's macros.
struct Text<T>(T);

impl<T: core::fmt::Display> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn print(out: &SeqFile, text: impl core::fmt::Display) {
    let text = Text(text);
    seq_print!(out, "{text}");
}

/// `ip_vs`: a head, then one record a service with its destinations. The number of a service's record
/// is its own: others may come and go between two reads.
struct Services;

impl Show for Services {
    fn show(net: &Net, record: u64, out: &SeqFile) -> Option<u64> {
        let state = NetState::of(net)?;
        if record == 0 {
            print(
                out,
                listing::Head {
                    version: VERSION,
                    size: state.conn_table_size(),
                },
            );
            return Some(1);
        }
        let config = state.config.lock();
        let (number, entry) = config.next_service(record)?;
        service(entry, out);
        number.checked_add(1)
    }
}

fn service(entry: &Entry, out: &SeqFile) {
    let name = match *entry.id() {
        ServiceId::Address { proto, addr, port } => ServiceName::Address(proto, addr, port),
        ServiceId::Mark { mark, .. } => ServiceName::Mark(mark),
    };
    let spec = entry.spec();
    let persistent = spec.flags & svc_flag::PERSISTENT != 0;
    print(
        out,
        listing::Service {
            name,
            scheduler: spec.kind.map_or("none", |kind| kind.name()),
            one_packet: spec.flags & svc_flag::ONEPACKET != 0,
            persistent: persistent.then_some((spec.timeout_jiffies, spec.netmask)),
        },
    );
    for Member { dest, spec, .. } in entry.members() {
        print(
            out,
            listing::Dest {
                addr: dest.addr,
                port: dest.port,
                method: spec.method,
                weight: spec.weight,
                active: dest.active(),
                inactive: dest.inactive(),
            },
        );
    }
}

/// `ip_vs_stats`.
struct Stats;

impl Show for Stats {
    fn show(net: &Net, _record: u64, out: &SeqFile) -> Option<u64> {
        let stats = NetState::of(net)?.config.lock().stats();
        print(out, listing::Stats(stats.counters, stats.rates));
        None
    }
}

/// `ip_vs_stats_percpu`.
struct PerCpuStats;

impl Show for PerCpuStats {
    fn show(net: &Net, _record: u64, out: &SeqFile) -> Option<u64> {
        let mut config = NetState::of(net)?.config.lock();
        let stats = config.stats();
        print(out, listing::PERCPU_HEAD);
        for (cpu, counters) in config.per_cpu() {
            print(out, listing::Cpu(*cpu, *counters));
        }
        print(out, listing::AllCpus(stats.counters, stats.rates));
        None
    }
}

/// `ip_vs_app`: there is one application helper.
struct Apps;

impl Show for Apps {
    fn show(net: &Net, _record: u64, out: &SeqFile) -> Option<u64> {
        let state = NetState::of(net)?;
        print(out, listing::APP_HEAD);
        let users = state.ftp.controls();
        print(
            out,
            listing::App {
                port: FTP,
                users,
                name: "ftp",
            },
        );
        None
    }
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
