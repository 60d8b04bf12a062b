// SPDX-License-Identifier: GPL-2.0

//! The service table: what a packet that belongs to no connection is looked up in.

use crate::{
    dest::Dest,
    kapi::{
        hash::{
            Entry,
            Key,
            Role,
            Seed,
            Table, //
        },
        inet,
        netns::Net,
        rcu::{
            RcuBox,
            RcuPtr, //
        }, //
    },
    service::{
        Service,
        ServiceId,
        FTP, //
    }, //
};
use core::net::IpAddr;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        rcu::{
            self,
            Guard, //
        },
        Arc, //
    }, //
};
use rlvs_core::{
    flow::Family,
    wire::IPPROTO_TCP, //
};

/// Where an FTP server's own data connections come from.
pub(crate) const FTP_DATA: u16 = 20;

impl Key for ServiceId {
    fn hash(&self, seed: &Seed) -> u32 {
        match *self {
            Self::Address { proto, addr, port } => {
                let port = u32::from(port) << 16 | u32::from(proto);
                match addr {
                    IpAddr::V4(addr) => seed.hash([addr.to_bits(), port, 4, 0]),
                    IpAddr::V6(addr) => {
                        let [a, b, c, d, e, f, g, h] = addr.segments().map(u32::from);
                        let folded =
                            seed.hash([a << 16 | b, c << 16 | d, e << 16 | f, g << 16 | h]);
                        seed.hash([folded, port, 6, 0])
                    }
                }
            }
            Self::Mark { family, mark } => seed.hash([mark, u32::from(family.number()), 0, 1]),
        }
    }
}

/// What a packet has that a service may be found by.
pub(crate) struct Wanted {
    /// Its mark; 0 is none.
    pub(crate) mark: u32,
    /// Its protocol.
    pub(crate) proto: u8,
    /// Where it goes.
    pub(crate) addr: IpAddr,
    /// The port there.
    pub(crate) port: u16,
}

/// The services of a namespace.
pub(crate) struct ServiceTable {
    table: Table<ServiceId, Arc<Service>, 1>,
    /// How many services there are of each kind that takes a lookup of its own.
    marks: Atomic<i32>,
    ftp: Atomic<i32>,
    all_ports: Atomic<i32>,
    /// Those with a persistence engine.
    engines: RcuPtr<KVVec<Arc<Service>>>,
    has_engines: Atomic<bool>,
    /// Their destinations, by the protocol of the service (0 for that of a mark), address and port; once
    /// for each service that has one.
    servers: Table<ServiceId, Arc<Dest>, 1>,
}

/// What a destination of a service is found by.
fn server(id: &ServiceId, dest: &Dest) -> ServiceId {
    ServiceId::Address {
        proto: match *id {
            ServiceId::Address { proto, .. } => proto,
            ServiceId::Mark { .. } => 0,
        },
        addr: dest.addr,
        port: dest.port,
    }
}

impl ServiceTable {
    /// An empty table. Process context.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            table: Table::new()?,
            marks: Atomic::new(0),
            ftp: Atomic::new(0),
            all_ports: Atomic::new(0),
            engines: RcuPtr::null(),
            has_engines: Atomic::new(false),
            servers: Table::new()?,
        })
    }

    /// Might there be a service for packets with that mark?
    #[inline]
    pub(crate) fn has_mark(&self, mark: u32) -> bool {
        mark != 0 && self.marks.load(Relaxed) != 0
    }

    /// The service that a packet is for: that of its mark, that of its address and port, that of an
    /// FTP server whose data it may be, that of all ports, in this order.
    #[inline]
    pub(crate) fn find<'g>(
        &'g self,
        net: &Net,
        wanted: &Wanted,
        guard: &'g Guard,
    ) -> Option<&'g Service> {
        if self.has_mark(wanted.mark) {
            let id = ServiceId::Mark {
                family: Family::of(wanted.addr),
                mark: wanted.mark,
            };
            let found = self.get(&id, guard);
            if found.is_some() {
                return found;
            }
        }
        let at = |port| {
            let id = ServiceId::Address {
                proto: wanted.proto.into(),
                addr: wanted.addr,
                port,
            };
            self.get(&id, guard)
        };
        let found = at(wanted.port);
        if found.is_some() {
            return found;
        }
        if wanted.proto == IPPROTO_TCP
            && self.ftp.load(Relaxed) != 0
            && (wanted.port == FTP_DATA || !inet::is_privileged_port(net, wanted.port))
        {
            let found = at(FTP);
            if found.is_some() {
                return found;
            }
        }
        if self.all_ports.load(Relaxed) == 0 {
            return None;
        }
        at(0)
    }

    /// Are there services with a persistence engine?
    #[inline]
    pub(crate) fn has_engines(&self) -> bool {
        self.has_engines.load(Relaxed)
    }

    /// Those services.
    pub(crate) fn with_engines<'g>(&'g self, guard: &'g Guard) -> Option<&'g [Arc<Service>]> {
        self.engines.load(guard).map(|services| &**services)
    }

    /// These are all services with a persistence engine. The caller is alone.
    pub(crate) fn set_engines(&self, services: Option<RcuBox<KVVec<Arc<Service>>>>) {
        self.has_engines.store(services.is_some(), Relaxed);
        drop(self.engines.replace(services));
    }

    #[inline]
    fn get<'g>(&'g self, id: &ServiceId, guard: &'g Guard) -> Option<&'g Service> {
        Some(&**self.table.find(id, guard)?.entry)
    }

    /// How many buckets the table has.
    pub(crate) fn buckets(&self, guard: &Guard) -> usize {
        self.table.buckets(guard)
    }

    /// As [`Table::chain_len`].
    pub(crate) fn chain_len(&self, bucket: usize, most: usize, guard: &Guard) -> Option<usize> {
        self.table.chain_len(bucket, most, guard)
    }

    /// Lets packets find a service from now on. Process context.
    pub(crate) fn insert(&self, service: Arc<Service>) -> Result {
        let id = service.id;
        let entry = KBox::new(Entry::new([id], service), GFP_KERNEL)?;
        let guard = rcu::read_lock();
        self.table
            .insert(entry, [Role::Unique], &guard)
            .map_err(|_| EEXIST)?;
        let wanted = self.table.wanted_buckets(&guard);
        drop(guard);
        self.count(&id, 1);
        if let Some(buckets) = wanted {
            // A table of the old size is slower, nothing else.
            let _ = self.table.resize(buckets);
        }
        Ok(())
    }

    /// Packets do not find the service any more. Process context.
    pub(crate) fn remove(&self, id: &ServiceId) {
        let guard = rcu::read_lock();
        if let Some(hit) = self.table.find(id, &guard) {
            self.table.remove(hit.entry, &guard);
            self.count(id, -1);
        }
    }

    /// Is there a destination with such an address and port, reached by rewriting addresses?
    pub(crate) fn has_server(&self, proto: u8, addr: IpAddr, port: u16, guard: &Guard) -> bool {
        [u16::from(proto), 0].into_iter().any(|proto| {
            let key = ServiceId::Address { proto, addr, port };
            let hit = self.servers.find(&key, guard);
            hit.is_some_and(|hit| hit.entry.is_rewritten_to())
        })
    }

    /// A service has a destination from now on. Process context.
    pub(crate) fn add_server(&self, id: &ServiceId, dest: &Arc<Dest>) -> Result {
        let entry = KBox::new(Entry::new([server(id, dest)], dest.clone()), GFP_KERNEL)?;
        let guard = rcu::read_lock();
        // What may be shared is never refused.
        let _ = self.servers.insert(entry, [Role::Shared], &guard);
        let wanted = self.servers.wanted_buckets(&guard);
        drop(guard);
        if let Some(buckets) = wanted {
            // A table of the old size is slower, nothing else.
            let _ = self.servers.resize(buckets);
        }
        Ok(())
    }

    /// A service has a destination no longer. Process context.
    pub(crate) fn remove_server(&self, id: &ServiceId, dest: &Dest) {
        let guard = rcu::read_lock();
        if let Some(hit) = self.servers.find(&server(id, dest), &guard) {
            self.servers.remove(hit.entry, &guard);
        }
    }

    fn count(&self, id: &ServiceId, by: i32) {
        match *id {
            ServiceId::Mark { .. } => self.marks.add(by, Relaxed),
            ServiceId::Address { port: FTP, .. } => self.ftp.add(by, Relaxed),
            ServiceId::Address { port: 0, .. } => self.all_ports.add(by, Relaxed),
            ServiceId::Address { .. } => {}
        }
    }
}
