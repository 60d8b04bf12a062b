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
use core::{
    net::IpAddr,
    ptr, //
};
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

/// What names a service or a destination, as the tables compare it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name {
    /// The address, in two halves; of a mark the mark.
    upper: u64,
    lower: u64,
    /// Port and protocol; of a mark neither. And what the address is of, or whose mark it is.
    rest: u64,
}

impl Name {
    #[inline]
    fn address(proto: u16, addr: IpAddr, port: u16) -> Self {
        let rest = u64::from(port) << 16 | u64::from(proto);
        match addr {
            IpAddr::V4(addr) => Self {
                upper: 0,
                lower: addr.to_bits().into(),
                rest: rest | 4 << 32,
            },
            IpAddr::V6(addr) => {
                let bits = addr.to_bits();
                // CAST: The upper half and the lower.
                Self {
                    upper: (bits >> 64) as u64,
                    lower: bits as u64,
                    rest: rest | 6 << 32,
                }
            }
        }
    }

    #[inline]
    fn mark(family: Family, mark: u32) -> Self {
        Self {
            upper: 0,
            lower: mark.into(),
            rest: 1 << 40 | u64::from(family.number()) << 32,
        }
    }

    fn of(id: &ServiceId) -> Self {
        match *id {
            ServiceId::Address { proto, addr, port } => Self::address(proto, addr, port),
            ServiceId::Mark { family, mark } => Self::mark(family, mark),
        }
    }

    /// That of a destination of a service.
    fn server(id: &ServiceId, dest: &Dest) -> Self {
        let proto = match *id {
            ServiceId::Address { proto, .. } => proto,
            ServiceId::Mark { .. } => 0,
        };
        Self::address(proto, dest.addr, dest.port)
    }
}

impl Key for Name {
    /// Without the secret: what is in these tables an operator has put there, and a stranger can only look.
    #[inline]
    fn hash(&self, _: &Seed) -> u32 {
        // Fibonacci hashing of each word, with odd numbers of 64 bits that have nothing in common.
        let sum = self
            .lower
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(self.upper.wrapping_mul(0xc2b2_ae3d_27d4_eb4f))
            .wrapping_add(self.rest.wrapping_mul(0xd6e8_feb8_6659_fd93));
        // CAST: The upper half, on which all bits have an effect.
        (sum >> 32) as u32
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
    table: Table<Name, Arc<Service>, 1>,
    /// How many services there are of each kind that takes a lookup of its own.
    marks: Atomic<i32>,
    ftp: Atomic<i32>,
    all_ports: Atomic<i32>,
    /// Those with a persistence engine.
    engines: RcuPtr<KVVec<Arc<Service>>>,
    has_engines: Atomic<bool>,
    /// Their destinations, by the protocol of the service (0 for that of a mark), address and port; once
    /// for each service that has one.
    servers: Table<Name, Arc<Dest>, 1>,
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
            let family = Family::of(wanted.addr);
            let found = self.get(&Name::mark(family, wanted.mark), guard);
            if found.is_some() {
                return found;
            }
        }
        let at = |port| {
            let name = Name::address(wanted.proto.into(), wanted.addr, port);
            self.get(&name, guard)
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
    fn get<'g>(&'g self, name: &Name, guard: &'g Guard) -> Option<&'g Service> {
        Some(&**self.table.find(name, guard)?.entry)
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
        let entry = KBox::new(Entry::new([Name::of(&id)], service), GFP_KERNEL)?;
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
        if let Some(hit) = self.table.find(&Name::of(id), &guard) {
            self.table.remove(hit.entry, &guard);
            self.count(id, -1);
        }
    }

    /// Is there a destination with such an address and port, reached by rewriting addresses?
    pub(crate) fn has_server(&self, proto: u8, addr: IpAddr, port: u16, guard: &Guard) -> bool {
        [u16::from(proto), 0].into_iter().any(|proto| {
            let name = Name::address(proto, addr, port);
            let hit = self
                .servers
                .find_where(&name, guard, |entry| entry.is_rewritten_to());
            hit.is_some()
        })
    }

    /// A service has a destination from now on. Process context.
    pub(crate) fn add_server(&self, id: &ServiceId, dest: &Arc<Dest>) -> Result {
        let entry = KBox::new(
            Entry::new([Name::server(id, dest)], dest.clone()),
            GFP_KERNEL,
        )?;
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
        let name = Name::server(id, dest);
        // Other services may have one with the same address and port.
        let is_it = |entry: &Entry<Name, Arc<Dest>, 1>| ptr::eq(&***entry, dest);
        if let Some(hit) = self.servers.find_where(&name, &guard, is_it) {
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
