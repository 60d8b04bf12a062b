// SPDX-License-Identifier: GPL-2.0

//! Local ports in use: one pool for each (protocol, real server, its port, local address).
//!
//! All services that reach a real server from a local address share the pool, for the real server
//! sees one tuple space. Ports are given out upwards and round, so a port rests for as long as
//! possible before it is used again.

use core::net::IpAddr;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed, //
        },
        Arc, //
    }, //
};
use rlvs_core::snat::{
    self,
    PortRange,
    Probe, //
};

/// What the ports of a pool are unique for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PoolKey {
    /// Transport protocol.
    pub(crate) proto: u8,
    /// The real server.
    pub(crate) server: IpAddr,
    /// Its port; 0 stands for whichever its clients ask for.
    pub(crate) port: u16,
    /// The local address.
    pub(crate) laddr: IpAddr,
}

/// The ports of a local address towards one real server.
pub(crate) struct Pool {
    key: PoolKey,
    taken: KVec<Atomic<u64>>,
    next: Atomic<u32>,
    used: Atomic<i32>,
    /// How many ports were given back, wrapping.
    freed: Atomic<u32>,
    /// `freed` when a search of a range found nothing, and the range: no use to search again.
    barren: Atomic<u64>,
}

impl Pool {
    /// A pool with all ports free. Process context.
    pub(crate) fn new(key: PoolKey) -> Result<Arc<Self>> {
        let mut taken = KVec::with_capacity(snat::WORDS, GFP_KERNEL)?;
        for _ in 0..snat::WORDS {
            taken.push(Atomic::new(0), GFP_KERNEL)?;
        }
        Ok(Arc::new(
            Self {
                key,
                taken,
                next: Atomic::new(0),
                used: Atomic::new(0),
                freed: Atomic::new(0),
                barren: Atomic::new(0),
            },
            GFP_KERNEL,
        )?)
    }

    /// How many ports are taken.
    pub(crate) fn used(&self) -> u32 {
        u32::try_from(self.used.load(Relaxed)).unwrap_or(0)
    }

    /// Takes a free port of the range; `None` if there is none. Looks at each word once.
    fn take(&self, range: PortRange) -> Option<u16> {
        let search = u64::from(self.freed.load(Acquire)) << 32
            | u64::from(range.min()) << 16
            | u64::from(range.max());
        if self.barren.load(Relaxed) == search {
            return None;
        }
        // CAST: Only a hint where to start.
        let start = self.next.load(Relaxed) as u16;
        for (index, allowed) in Probe::new(range, start) {
            let Some(word) = self.taken.get(index) else {
                continue;
            };
            let mut seen = word.load(Relaxed);
            while let Some(bit) = snat::first_free(seen, allowed) {
                match word.cmpxchg(seen, seen | 1u64.wrapping_shl(u32::from(bit)), Full) {
                    Ok(_) => {
                        let port = snat::port(index, bit);
                        self.next.store(u32::from(port).wrapping_add(1), Relaxed);
                        self.used.add(1, Relaxed);
                        return Some(port);
                    }
                    // Somebody took or gave back a port of this word: look at it again.
                    Err(now) => seen = now,
                }
            }
        }
        self.barren.store(search, Relaxed);
        None
    }

    fn give_back(&self, port: u16) {
        let (index, bit) = snat::position(port);
        if let Some(word) = self.taken.get(index) {
            // The bit is set, so taking it away borrows from no other.
            word.fetch_sub(bit, Full);
            self.used.fetch_sub(1, Relaxed);
            self.freed.fetch_add(1, Full);
        }
    }
}

/// A local address of a service.
pub(crate) struct LocalAddress {
    /// The address.
    pub(crate) addr: IpAddr,
    /// No other local address has had that number, and younger ones have larger ones.
    pub(crate) number: u64,
    /// Connections of the service that hold a port of it.
    pub(crate) conns: Atomic<i32>,
    /// How often it had no free port for a new connection of the service.
    pub(crate) exhausted: Atomic<u64>,
}

/// A local address of a service, towards one of its real servers.
pub(crate) struct Source {
    pool: Arc<Pool>,
    laddr: Arc<LocalAddress>,
}

impl Source {
    /// The address, with the pool of its ports towards the server. Process context.
    pub(crate) fn new(pool: Arc<Pool>, laddr: Arc<LocalAddress>) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { pool, laddr }, GFP_KERNEL)?)
    }
}

/// A local address and port that a connection holds; given back when it is dropped, if it is its own.
pub(crate) struct Lease {
    source: Arc<Source>,
    port: u16,
    /// It was taken from the pool for this connection.
    own: bool,
}

impl Lease {
    /// Takes a port of one of `sources`, starting with the one that `spread` falls on; `None` if all are
    /// exhausted. Any context.
    pub(crate) fn take(sources: &[Arc<Source>], range: PortRange, spread: usize) -> Option<Self> {
        let start = spread.checked_rem(sources.len())?;
        let (before, from) = sources.split_at_checked(start)?;
        for source in Iterator::chain(from.iter(), before) {
            if let Some(port) = source.pool.take(range) {
                source.laddr.conns.add(1, Relaxed);
                return Some(Self {
                    source: source.clone(),
                    port,
                    own: true,
                });
            }
            source.laddr.exhausted.add(1, Relaxed);
        }
        None
    }

    /// The same address and port for another connection, to another port of the server.
    pub(crate) fn beside(&self) -> Self {
        self.source.laddr.conns.add(1, Relaxed);
        Self {
            source: self.source.clone(),
            port: self.port,
            own: false,
        }
    }

    /// The local address.
    pub(crate) fn addr(&self) -> IpAddr {
        self.source.pool.key.laddr
    }

    /// The local port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.source.laddr.conns.fetch_sub(1, Relaxed);
        if self.own {
            self.source.pool.give_back(self.port);
        }
    }
}
