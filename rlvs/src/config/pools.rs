// SPDX-License-Identifier: GPL-2.0

//! The port pools of a namespace. Services that share a real server share its pools, because they
//! share its tuples.

use super::entry::Entry;
use crate::{
    dest,
    pool::{
        LocalAddress,
        Pool,
        PoolKey,
        Source, //
    },
    service::{
        Ports,
        ServiceId, //
    }, //
};
use core::net::IpAddr;
use kernel::{
    prelude::*,
    rbtree::RBTree,
    sync::Arc, //
};
use rlvs_core::wire::{
    IPPROTO_TCP,
    IPPROTO_UDP, //
};

/// All pools.
pub(super) struct Pools {
    tree: RBTree<PoolKey, Kept>,
    /// Counts sweeps.
    sweep: u32,
    /// Where the sweep goes on.
    place: Option<PoolKey>,
    stale: bool,
    /// Pools that this sweep has found unwanted and not forgotten yet.
    unwanted: bool,
}

/// A pool, and the last sweep before which somebody wanted it.
struct Kept {
    pool: Arc<Pool>,
    wanted: u32,
}

impl Pools {
    /// No pools.
    pub(super) fn new() -> Self {
        Self {
            tree: RBTree::new(),
            sweep: 0,
            place: None,
            stale: false,
            unwanted: false,
        }
    }

    /// Where a service reaches a real server and its port from; pools are made if need be.
    // Not inlined: its keys should not stay on the caller's stack.
    #[inline(never)]
    pub(super) fn ports(
        &mut self,
        id: &ServiceId,
        server: IpAddr,
        port: u16,
        laddrs: &[Arc<LocalAddress>],
    ) -> Result<Ports> {
        let mut ports = Ports::default();
        for proto in id.protocols() {
            let mut sources = KVec::with_capacity(laddrs.len(), GFP_KERNEL)?;
            for laddr in laddrs {
                let key = key(id, *proto, server, port, laddr.addr);
                let source = Source::new(self.get(key)?, laddr.clone())?;
                sources.push(source, GFP_KERNEL)?;
            }
            match *proto {
                IPPROTO_TCP => ports.tcp = sources,
                IPPROTO_UDP => ports.udp = sources,
                _ => ports.sctp = sources,
            }
        }
        Ok(ports)
    }

    fn get(&mut self, key: PoolKey) -> Result<Arc<Pool>> {
        if let Some(kept) = self.tree.get_mut(&key) {
            kept.wanted = self.sweep;
            return Ok(kept.pool.clone());
        }
        let pool = Pool::new(key)?;
        let kept = Kept {
            pool: pool.clone(),
            wanted: self.sweep,
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

    /// A service wants its pools. To be said of every service before a sweep.
    pub(super) fn want(&mut self, entry: &Entry) {
        if !self.stale {
            return;
        }
        let has_laddrs = !entry.laddrs().is_empty();
        for member in entry.members() {
            let server = member.dest.addr;
            if !dest::fullnat(member.spec.method, has_laddrs) {
                continue;
            }
            for proto in entry.id().protocols() {
                for laddr in entry.laddrs() {
                    let port = entry.spec().server_port(entry.id(), member.dest.port);
                    let key = key(entry.id(), *proto, server, port, laddr.addr);
                    if let Some(kept) = self.tree.get_mut(&key) {
                        kept.wanted = self.sweep;
                    }
                }
            }
        }
    }

    /// Looks at some pools, and forgets those that no service wants and no connection uses; true if
    /// there are more to look at.
    ///
    /// A packet on its way may still take a port of a pool that has just become unwanted, so a pool
    /// goes when it is found so twice.
    pub(super) fn sweep(&mut self, pools: usize) -> bool {
        if !self.stale {
            return false;
        }
        let mut cursor = match self.place.take() {
            Some(key) => self.tree.cursor_lower_bound_mut(&key),
            None => self.tree.cursor_front_mut(),
        };
        for _ in 0..pools {
            let Some(here) = cursor else {
                break;
            };
            let (_, kept) = here.current();
            let age = self.sweep.wrapping_sub(kept.wanted);
            if age >= 2 && kept.pool.used() == 0 {
                // What comes after the last entry is the one before it.
                let is_last = here.peek_next().is_none();
                let (neighbour, _removed) = here.remove_current();
                cursor = neighbour.filter(|_| !is_last);
            } else {
                self.unwanted |= age > 0;
                cursor = here.move_next();
            }
        }
        if let Some(here) = cursor {
            self.place = Some(*here.current().0);
            return true;
        }
        self.stale = self.unwanted;
        self.unwanted = false;
        self.sweep = self.sweep.wrapping_add(1);
        false
    }
}

/// A destination without a port is reached at the port of the service. One of a mark may have none
/// either: then the ports of its pool are unique whichever port of the server the packets are for.
fn key(id: &ServiceId, proto: u8, server: IpAddr, port: u16, laddr: IpAddr) -> PoolKey {
    PoolKey {
        proto,
        server,
        port: if port == 0 { id.port() } else { port },
        laddr,
    }
}
