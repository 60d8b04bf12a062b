// SPDX-License-Identifier: GPL-2.0

//! Connection synchronisation: the master daemon tells other directors of connections, the backup daemon
//! takes over the connections that others tell of. A namespace may have one of each.
//!
//! Who handles packets puts entries into messages ([`master`]) and never waits. A work sends them, and
//! reads what was heard ([`backup`]); the sockets wake it.
//!
//! # Locking
//!
//! The daemons are under one mutex, which is held while messages are sent and read, and while sockets
//! are made, which takes RTNL. A queue of messages has a spinlock, with softirqs off, and nothing else is
//! taken under it.

mod backup;
mod master;

use self::{
    backup::Backup,
    master::{
        Master,
        Outbox, //
    }, //
};
use crate::{
    conn::ConnEntry,
    family::Carried,
    kapi::{
        inet::Device,
        multicast::{
            Group,
            Listener, //
        },
        netns::{
            Net,
            PerNet,
            Subsys, //
        },
        rcu::RcuPtr,
        time,
        work::{
            Deferred,
            DelayedWork, //
        }, //
    },
    netns::{
        NetState,
        Role, //
    },
    xmit::Way, //
};
use core::{
    net::{
        IpAddr,
        Ipv4Addr,
        Ipv6Addr, //
    },
    pin::Pin, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        rcu::{
            self,
            synchronize_rcu, //
        },
        Mutex, //
    }, //
};
use rlvs_core::{
    flow::Direction,
    uapi::IFNAME_MAX, //
};

/// What is set of a daemon.
#[derive(Clone, Copy)]
pub(crate) struct Spec {
    /// The name of the device, with a NUL.
    pub(crate) device: [u8; IFNAME_MAX + 1],
    /// The number of who sends; a backup with 0 takes what anybody sends.
    pub(crate) syncid: u32,
    /// The longest message, in bytes; 0 is as long as a packet.
    pub(crate) maxlen: u16,
    /// The group.
    pub(crate) group: IpAddr,
    /// Its first port.
    pub(crate) port: u16,
    /// How many hops messages live for.
    pub(crate) hops: u8,
}

impl Spec {
    /// The same with a length of messages that suits the device.
    fn sized(self, role: Role, device: Device) -> Self {
        let headers: u16 = match self.group {
            IpAddr::V4(_) => 20 + 8,
            IpAddr::V6(_) => 40 + 8,
        };
        let (least, mtu) = match role {
            Role::Master => (1, 1500),
            // CAST: It was made to fit.
            Role::Backup => (1024, device.mtu.clamp(1500, u16::MAX.into()) as u16),
        };
        let maxlen = match self.maxlen {
            0 => mtu.saturating_sub(headers),
            maxlen => maxlen.clamp(least, u16::MAX.saturating_sub(headers)),
        };
        Self { maxlen, ..self }
    }

    /// Where the sockets send to, or listen.
    fn groups(&self, device: Device, ports: u32) -> impl Iterator<Item = Group> + '_ {
        (0..ports).map(move |port| Group {
            device,
            addr: self.group,
            // CAST: There are few.
            port: self.port.wrapping_add(port as u16),
        })
    }
}

/// The daemons of a namespace.
#[derive(Default)]
struct Daemons {
    /// How many ports they use, while one runs.
    ports: u32,
    master: Option<Master>,
    backup: Option<Backup>,
}

/// What a namespace has for synchronisation. It comes after the namespace's [`NetState`] and goes before.
#[pin_data]
pub(crate) struct SyncState {
    #[pin]
    work: DelayedWork<Self>,
    /// Where entries are put, while there is a master.
    outbox: RcuPtr<Outbox>,
    #[pin]
    daemons: Mutex<Daemons>,
}

static SUBSYS: Subsys<SyncState> = Subsys::new();

impl PerNet for SyncState {
    const SUBSYS: &'static Subsys<Self> = &SUBSYS;

    fn new(_net: &Net) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            work <- DelayedWork::new(),
            outbox: RcuPtr::null(),
            daemons <- new_mutex!(Daemons::default()),
        }? Error)
    }

    fn ready(self: Pin<&Self>, net: &Net) {
        self.work.bind(self, net);
    }

    fn pre_exit(self: Pin<&Self>, net: &Net) {
        if let Some(state) = NetState::of(net) {
            for role in [Role::Master, Role::Backup] {
                // Most have none.
                let _ = self.stop(state, role);
            }
        }
        self.work.stop();
    }
}

impl Listener for SyncState {
    fn heard(&self) {
        self.work.kick();
    }
}

impl SyncState {
    /// Starts a daemon. `EEXIST` if it runs. Process context.
    pub(crate) fn start(
        &self,
        state: &NetState,
        net: &Net,
        role: Role,
        device: Device,
        spec: Spec,
    ) -> Result {
        let spec = spec.sized(role, device);
        let mut daemons = self.daemons.lock();
        let ports = match (&daemons.master, &daemons.backup) {
            (None, None) => state.settings.sync_ports(),
            _ => daemons.ports,
        };
        let size = state.settings.sync_sock_size();
        match role {
            Role::Master if daemons.master.is_none() => {
                let (master, outbox) = Master::new(net, spec, device, ports, size)?;
                daemons.master = Some(master);
                drop(self.outbox.replace(Some(outbox)));
            }
            Role::Backup if daemons.backup.is_none() => {
                daemons.backup = Some(Backup::new(net, spec, device, ports, size)?);
            }
            _ => return Err(EEXIST),
        }
        daemons.ports = ports;
        state.set_role(role, true);
        if role == Role::Master {
            watch(state, true);
        }
        Ok(())
    }

    /// Stops a daemon. `ESRCH` if it does not run. Process context.
    pub(crate) fn stop(&self, state: &NetState, role: Role) -> Result {
        let mut daemons = self.daemons.lock();
        // Sockets take their time: they are closed when nobody waits for us any more.
        let gone = match role {
            Role::Master => (daemons.master.take(), None),
            Role::Backup => (None, daemons.backup.take()),
        };
        if matches!(gone, (None, None)) {
            return Err(ESRCH);
        }
        state.set_role(role, false);
        if role == Role::Master {
            drop(self.outbox.replace(None));
            watch(state, false);
        }
        drop(daemons);
        drop(gone);
        Ok(())
    }

    /// The daemons that run. Process context.
    pub(crate) fn running(&self) -> [Option<(Role, Spec)>; 2] {
        let daemons = self.daemons.lock();
        let master = daemons.master.as_ref();
        let backup = daemons.backup.as_ref();
        [
            master.map(|master| (Role::Master, master.spec)),
            backup.map(|backup| (Role::Backup, backup.spec)),
        ]
    }
}

impl Deferred for SyncState {
    fn run(&self, net: &Net) {
        let Some(state) = NetState::of(net) else {
            return;
        };
        let mut daemons = self.daemons.lock();
        let more = match &mut daemons.backup {
            Some(backup) => backup.receive(state, net),
            None => false,
        };
        let later = daemons.master.as_ref().and_then(Master::send);
        drop(daemons);
        if more {
            self.work.queue(0);
        } else if let Some(delay) = later {
            self.work.queue(delay as usize);
        }
    }
}

/// Has the packets of all connections looked at by [`passed`], or no longer. The role is set already.
fn watch(state: &NetState, on: bool) {
    // Whoever has seen the role of before is done behind this: who opens a connection, and who passes.
    synchronize_rcu();
    watch_family::<Ipv4Addr>(state, on);
    watch_family::<Ipv6Addr>(state, on);
}

/// So many connections are looked at in one go.
const BATCH: usize = 256;

fn watch_family<A: Carried>(state: &NetState, on: bool) {
    let mut cursor = Some(0);
    while let Some(from) = cursor {
        // None is left out, be the table resized meanwhile.
        cursor = A::of(&state.conns).scan(from, BATCH, &rcu::read_lock(), |entry| entry.watch(on));
        time::cond_resched();
    }
}

/// A packet of a connection, with a mark, has passed that another director matters to.
#[cold]
pub(crate) fn passed<A: Carried>(
    state: &NetState,
    way: &Way<'_>,
    mark: u32,
    entry: &ConnEntry<A>,
    direction: Direction,
) {
    entry.unhear();
    // Who sees a master may look at our state: `stop` waits for him.
    if direction == Direction::Original && state.is_master() {
        if let Some(sync) = SyncState::of(way.net) {
            if let Some(outbox) = sync.outbox.load(way.guard) {
                master::tell(state, way, outbox, &sync.work, mark, entry);
            }
        }
    }
}
