// SPDX-License-Identifier: GPL-2.0

//! The service table: what a packet that belongs to no connection is looked up in.

use crate::{
    kapi::hash::{
        Entry,
        Key,
        Seed,
        Table, //
    },
    service::{
        Service,
        ServiceId, //
    }, //
};
use core::net::IpAddr;
use kernel::{
    prelude::*,
    sync::{
        rcu::{
            self,
            Guard, //
        },
        Arc, //
    }, //
};

impl Key for ServiceId {
    fn hash(&self, seed: &Seed) -> u32 {
        match *self {
            Self::Address { proto, addr, port } => {
                let port = u32::from(port) << 8 | u32::from(proto);
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
        }
    }
}

/// The services of a namespace.
pub(crate) struct ServiceTable(Table<ServiceId, Arc<Service>, 1>);

impl ServiceTable {
    /// An empty table. Process context.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Table::new()?))
    }

    /// The service of that name.
    #[inline]
    pub(crate) fn find<'g>(&'g self, id: &ServiceId, guard: &'g Guard) -> Option<&'g Service> {
        Some(&**self.0.find(id, guard)?.entry)
    }

    /// Lets packets find a service from now on. Process context.
    pub(crate) fn insert(&self, service: Arc<Service>) -> Result {
        let entry = KBox::new(Entry::new([service.id], service), GFP_KERNEL)?;
        let guard = rcu::read_lock();
        self.0.insert(entry, [true], &guard).map_err(|_| EEXIST)?;
        let wanted = self.0.wanted_buckets(&guard);
        drop(guard);
        if let Some(buckets) = wanted {
            // A table of the old size is slower, nothing else.
            let _ = self.0.resize(buckets);
        }
        Ok(())
    }

    /// Packets do not find the service any more. Process context.
    pub(crate) fn remove(&self, id: &ServiceId) {
        let guard = rcu::read_lock();
        if let Some(hit) = self.0.find(id, &guard) {
            self.0.remove(hit.entry, &guard);
        }
    }
}
