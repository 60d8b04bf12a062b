// SPDX-License-Identifier: GPL-2.0

//! rlvs: IPVS and FullNAT as a kernel module.
//!
//! `hooks` is where packets come in, `ctl`, `proc` and `sysctl` where people and programs do. Between
//! them lie the state of a namespace (`netns`), what sends packets on (`xmit`) and what is
//! found under RCU (`table`). Decisions are made in `rlvs_core`; what is unsafe is in `kapi`.

#![deny(unsafe_code)]
// Nothing here may panic: see `Kbuild`.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

#[allow(unsafe_code)]
mod kapi;

mod config;
mod conn;
mod ctl;
mod dest;
mod ext;
mod family;
mod fast;
mod filter;
mod ftp;
mod hooks;
mod icmp;
mod locality;
mod netns;
mod open;
mod pool;
mod proc;
mod service;
mod session;
mod stats;
mod sync;
mod sysctl;
mod table;
mod template;
mod xmit;

use kapi::{
    netdev,
    netns::{
        PerNet,
        Registration, //
    },
    proc::{
        Entries,
        Files, //
    },
    rcu::BarrierOnDrop,
    slab,
    sysctl::{
        Registered,
        Values, //
    }, //
};
use kernel::prelude::*;
use netns::NetState;
use proc::ProcFiles;
use sync::SyncState;
use sysctl::Settings;

module! {
    type: Rlvs,
    name: "rlvs",
    authors: ["The rlvs developers"],
    description: "IP virtual server with FullNAT",
    license: "GPL",
}

/// What the module holds while it is loaded.
///
/// Fields are dropped in the order in which they stand. First nobody may ask for anything any more,
/// then the namespaces go, and with them hooks, works and connections; the memory of connections
/// is freed by RCU callbacks, so these are waited for before their cache goes, and last for whatever
/// else was freed that way.
struct Rlvs {
    _ctl: ctl::Registration,
    _proc: Registration<Entries<ProcFiles>>,
    _sysctl: Registration<Registered<Settings>>,
    _devices: netdev::Registration<NetState>,
    _sync: Registration<SyncState>,
    _netns: Registration<NetState>,
    _callbacks: BarrierOnDrop,
    _templates: slab::Registration,
    _conns: (slab::Registration, slab::Registration),
    _rcu: BarrierOnDrop,
}

impl kernel::Module for Rlvs {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // If one of these fails, those before it are dropped in the opposite order.
        let rcu = BarrierOnDrop;
        let conns = (
            table::CONN_CACHES.v4.register(c"rlvs_conn")?,
            table::CONN_CACHES.v6.register(c"rlvs_conn6")?,
        );
        let templates = table::TEMPLATE_CACHE.register(c"rlvs_template")?;
        let callbacks = BarrierOnDrop;
        // The families come before the namespaces' files: that is how we learn that ip_vs is
        // loaded before anything is touched. They answer nothing yet.
        let ctl = ctl::register()?;
        let netns = netns::register(&hooks::HOOKS)?;
        let sync = SyncState::SUBSYS.register()?;
        let devices = netns::watch_devices()?;
        let sysctl = Settings::SUBSYS.register()?;
        let proc = ProcFiles::SUBSYS.register()?;
        ctl.open();
        Ok(Self {
            _ctl: ctl,
            _proc: proc,
            _sysctl: sysctl,
            _devices: devices,
            _sync: sync,
            _netns: netns,
            _callbacks: callbacks,
            _templates: templates,
            _conns: conns,
            _rcu: rcu,
        })
    }
}
