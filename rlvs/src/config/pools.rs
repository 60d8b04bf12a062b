// SPDX-License-Identifier: GPL-2.0

//! The port pools of a namespace. Services that share a real server share its pools, because they
//! share its tuples.

use super::entry::Entry;
use crate::{
    dest::Dest,
    pool::{
        Pool,
        PoolKey, //
    },
    service::ServiceId, //
};
use core::net::{
    IpAddr,
    Ipv4Addr, //
};
use kernel::{
    prelude::*,
    rbtree::RBTree,
    sync::Arc, //
};

/// All pools.
pub(super) struct Pools {
    tree: RBTree<PoolKey, Kept>,
    stale: bool,
}

/// A pool, and whether a service wants it.
struct Kept {
    pool: Arc<Pool>,
    wanted: bool,
    unwanted_before: bool,
}

impl Pools {
    /// No pools.
    pub(super) fn new() -> Self {
        Self {
            tree: RBTree::new(),
            stale: false,
        }
    }

    /// The pool for a destination of a service and a local address, made if need be.
    pub(super) fn get(
        &mut self,
        id: &ServiceId,
        dest: &Dest,
        laddr: Ipv4Addr,
    ) -> Result<Arc<Pool>> {
        let key = key(id, dest, laddr).ok_or(EAFNOSUPPORT)?;
        if let Some(kept) = self.tree.get(&key) {
            return Ok(kept.pool.clone());
        }
        let pool = Pool::new(key)?;
        let kept = Kept {
            pool: pool.clone(),
            wanted: false,
            unwanted_before: false,
        };
        self.tree.try_create_and_insert(key, kept, GFP_KERNEL)?;
        // The command that asked may yet be refused.
        self.outdate();
        Ok(pool)
    }

    /// Whether there may be pools that nobody needs.
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Some pools may not be wanted any more.
    pub(super) fn outdate(&mut self) {
        self.stale = true;
    }

    /// Forgets the pools that none of the services wants and no connection uses.
    ///
    /// A packet on its way may still take a port of a pool that has just become unwanted, so a pool
    /// goes when it is found so twice.
    pub(super) fn sweep(&mut self, services: &[Entry]) {
        if !self.stale {
            return;
        }
        for kept in self.tree.values_mut() {
            kept.unwanted_before = !kept.wanted;
            kept.wanted = false;
        }
        for entry in services {
            for laddr in entry.laddrs() {
                for member in entry.members() {
                    let kept = key(entry.id(), &member.dest, laddr.addr)
                        .and_then(|key| self.tree.get_mut(&key));
                    if let Some(kept) = kept {
                        kept.wanted = true;
                    }
                }
            }
        }
        self.stale = false;
        let mut cursor = self.tree.cursor_front_mut();
        while let Some(here) = cursor {
            let (_, kept) = here.current();
            if !kept.wanted && kept.unwanted_before && kept.pool.used() == 0 {
                // What comes after the last entry is the one before it.
                let is_last = here.peek_next().is_none();
                let (neighbour, _removed) = here.remove_current();
                cursor = neighbour.filter(|_| !is_last);
            } else {
                self.stale |= !kept.wanted;
                cursor = here.move_next();
            }
        }
    }
}

fn key(id: &ServiceId, dest: &Dest, laddr: Ipv4Addr) -> Option<PoolKey> {
    let ServiceId::Address { proto, .. } = *id;
    let IpAddr::V4(server) = dest.addr else {
        return None;
    };
    Some(PoolKey {
        proto,
        server,
        port: dest.port,
        laddr,
    })
}
