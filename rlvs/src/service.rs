// SPDX-License-Identifier: GPL-2.0

//! Virtual services, as packets find them.
//!
//! A [`Service`] publishes one immutable [`Snapshot`] of all that a new connection needs. Whoever
//! changes the configuration publishes another ([`crate::config`]); readers finish on the one they
//! have and never wait.

use crate::{
    dest::Dest,
    kapi::rcu::RcuPtr,
    pool::{
        LocalAddress,
        Pool, //
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
        rcu::Guard,
        Arc, //
    }, //
};
use rlvs_core::{
    flow::FlowKey,
    sched::{
        Candidate,
        Sched, //
    }, //
};

/// What names a virtual service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ServiceId {
    /// A transport protocol, an address and a port in host order.
    Address {
        /// The number in the IP header.
        proto: u8,
        /// The virtual address.
        addr: IpAddr,
        /// The virtual port.
        port: u16,
    },
}

/// A virtual service.
pub(crate) struct Service {
    /// Its name.
    pub(crate) id: ServiceId,
    /// What the scheduler remembers from one connection to the next.
    pub(crate) turn: Atomic<u64>,
    /// How it is set up now.
    pub(crate) snapshot: RcuPtr<Snapshot>,
}

impl Service {
    /// The destination for a new connection, and the snapshot that it is of; `None` if none takes
    /// any. Any context.
    #[inline]
    pub(crate) fn pick<'g>(
        &'g self,
        guard: &'g Guard,
        key: &FlowKey,
    ) -> Option<(&'g Snapshot, &'g Slot)> {
        let snapshot = self.snapshot.load(guard)?;
        let turn = self.turn.load(Relaxed);
        let pick = snapshot.sched.as_ref()?.pick(turn, &snapshot.slots, key)?;
        // Schedulers without a turn must not take the line from other CPUs for nothing.
        if pick.turn != turn {
            self.turn.store(pick.turn, Relaxed);
        }
        Some((snapshot, snapshot.slots.get(pick.index)?))
    }
}

/// How a service is set up. It never changes: another takes its place.
pub(crate) struct Snapshot {
    /// Its scheduler; `None` schedules nothing.
    pub(crate) sched: Option<Sched>,
    /// The local addresses that FullNAT connections leave from.
    pub(crate) laddrs: KVec<Arc<LocalAddress>>,
    /// Its destinations.
    pub(crate) slots: KVec<Slot>,
}

/// A destination in a snapshot.
pub(crate) struct Slot {
    /// The destination.
    pub(crate) dest: Arc<Dest>,
    /// Its weight when the snapshot was made.
    pub(crate) weight: u32,
    /// The ports to reach it from, one pool a local address of the snapshot, in the same order.
    pub(crate) pools: KVec<Arc<Pool>>,
}

impl Candidate for Slot {
    #[inline]
    fn weight(&self) -> u32 {
        self.weight
    }

    #[inline]
    fn active(&self) -> u32 {
        self.dest.active()
    }

    #[inline]
    fn inactive(&self) -> u32 {
        self.dest.inactive()
    }

    #[inline]
    fn overloaded(&self) -> bool {
        self.dest.is_overloaded()
    }
}
