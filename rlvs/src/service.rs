// SPDX-License-Identifier: GPL-2.0

//! Virtual services, as packets find them.
//!
//! A [`Service`] publishes one immutable [`Snapshot`] of all that a new connection needs. Whoever
//! changes the configuration publishes another ([`crate::config`]); readers finish on the one they
//! have and never wait.

use crate::{
    dest::Dest,
    kapi::{
        random,
        rcu::RcuPtr, //
    },
    locality::Locality,
    pool::Source, //
};
use core::net::IpAddr;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};
use rlvs_core::{
    flow::{
        Family,
        FlowKey, //
    },
    persist::{
        self,
        Engine,
        Rules, //
    },
    sched::{
        Candidate,
        Sched, //
    },
    wire::{
        IPPROTO_SCTP,
        IPPROTO_TCP,
        IPPROTO_UDP, //
    }, //
};

/// The port where FTP servers are spoken to: a service there is also asked for the ports that it
/// opens for data.
pub(crate) const FTP: u16 = persist::FTP;

/// What names a virtual service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum ServiceId {
    /// A transport protocol, an address and a port in host order.
    Address {
        /// The number in the IP header; mainline lets people set numbers that no IP header holds.
        proto: u16,
        /// The virtual address.
        addr: IpAddr,
        /// The virtual port; 0 stands for every port that has no service of its own.
        port: u16,
    },
    /// All packets with a mark.
    Mark {
        /// Of these packets.
        family: Family,
        /// What firewall rules set; not 0.
        mark: u32,
    },
}

impl ServiceId {
    /// The family of its packets.
    pub(crate) fn family(&self) -> Family {
        match *self {
            Self::Address { addr, .. } => Family::of(addr),
            Self::Mark { family, .. } => family,
        }
    }

    /// Its port; 0 if it has none.
    pub(crate) fn port(&self) -> u16 {
        match *self {
            Self::Address { port, .. } => port,
            Self::Mark { .. } => 0,
        }
    }

    /// The protocols of its connections, of those that are carried.
    pub(crate) fn protocols(&self) -> &'static [u8] {
        const TCP: u16 = IPPROTO_TCP as u16;
        const UDP: u16 = IPPROTO_UDP as u16;
        const SCTP: u16 = IPPROTO_SCTP as u16;
        match *self {
            Self::Address { proto: TCP, .. } => &[IPPROTO_TCP],
            Self::Address { proto: UDP, .. } => &[IPPROTO_UDP],
            Self::Address { proto: SCTP, .. } => &[IPPROTO_SCTP],
            Self::Address { .. } => &[],
            Self::Mark { .. } => &[IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP],
        }
    }
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
    /// What it does with the first packet of a connection, to a port.
    #[inline]
    pub(crate) fn admit(&self, snapshot: &Snapshot, port: u16) -> Admission {
        match self.id {
            _ if snapshot.persistence.is_some() => Admission::Open,
            ServiceId::Address { port: FTP, .. } if port != FTP => Admission::Pass,
            ServiceId::Address { port: 0, .. } if port != 0 => Admission::Refuse,
            _ => Admission::Open,
        }
    }

    /// The destination for a new connection; `None` if none takes any. Any context.
    #[inline]
    pub(crate) fn pick<'g>(&self, snapshot: &'g Snapshot, key: &FlowKey) -> Option<&'g Slot> {
        let (sched, slots) = (snapshot.sched.as_ref()?, &snapshot.slots);
        if let Some(locality) = &snapshot.locality {
            return slots.get(locality.pick(sched, slots, key)?);
        }
        let turn = if sched.kind().is_random() {
            random::u64()
        } else {
            self.turn.load(Relaxed)
        };
        let pick = sched.pick(turn, slots, &snapshot.table, key)?;
        // Schedulers without a turn must not take the line from other CPUs for nothing.
        if pick.turn != turn {
            self.turn.store(pick.turn, Relaxed);
        }
        slots.get(pick.index)
    }
}

/// What a service does with the first packet of a connection.
pub(crate) enum Admission {
    /// Opens the connection.
    Open,
    /// Leaves it to others: the port is not the service's, though it may have data connections there.
    Pass,
    /// Refuses it: a service for all ports is meant to be persistent.
    Refuse,
}

/// What a persistent service is set to.
pub(crate) struct Persistence {
    /// Which connections belong together.
    pub(crate) rules: Rules,
    /// What else tells clients apart.
    pub(crate) engine: Option<Engine>,
    /// How long a client is remembered, in jiffies.
    pub(crate) timeout: u32,
}

/// How a service is set up. It never changes: another takes its place.
pub(crate) struct Snapshot {
    /// Its scheduler; `None` schedules nothing.
    pub(crate) sched: Option<Sched>,
    /// Whether every UDP packet is scheduled anew.
    pub(crate) one_packet: bool,
    /// Whether clients stay with their server.
    pub(crate) persistence: Option<Persistence>,
    /// What the scheduler has planned.
    pub(crate) table: KVVec<u16>,
    /// What was picked for each address, for a scheduler that wants to know.
    pub(crate) locality: Option<Arc<Locality>>,
    /// Its destinations, youngest first as mainline has them.
    pub(crate) slots: KVVec<Slot>,
}

impl Snapshot {
    /// Is each packet of a protocol scheduled anew?
    pub(crate) fn is_alone(&self, proto: u8) -> bool {
        self.one_packet && proto == IPPROTO_UDP
    }
}

/// A destination in a snapshot.
pub(crate) struct Slot {
    /// The destination.
    pub(crate) dest: Arc<Dest>,
    /// Its weight when the snapshot was made.
    pub(crate) weight: u32,
    /// The last weight that was not 0.
    pub(crate) last_weight: u32,
    /// How new connections reach it.
    pub(crate) method: Method,
}

/// How new connections reach a destination.
pub(crate) enum Method {
    /// By NAT.
    Nat,
    /// By FullNAT, from these ports.
    FullNat(Ports),
    /// Directly, in the same network.
    Direct,
    /// Through a tunnel.
    Tunnel,
    /// Not at all: this host is it.
    Local,
    /// Not at all: packets go where they wanted to.
    Bypass,
}

/// Where a destination is reached from: for each protocol of the service its local addresses.
#[derive(Default)]
pub(crate) struct Ports {
    /// For TCP.
    pub(crate) tcp: KVec<Arc<Source>>,
    /// For UDP.
    pub(crate) udp: KVec<Arc<Source>>,
    /// For SCTP.
    pub(crate) sctp: KVec<Arc<Source>>,
}

impl Ports {
    /// Those of a protocol.
    #[inline]
    pub(crate) fn of(&self, proto: u8) -> &[Arc<Source>] {
        match proto {
            IPPROTO_TCP => &self.tcp,
            IPPROTO_UDP => &self.udp,
            _ => &self.sctp,
        }
    }
}

impl Candidate for Slot {
    #[inline]
    fn addr(&self) -> IpAddr {
        self.dest.addr
    }

    #[inline]
    fn port(&self) -> u16 {
        self.dest.port
    }

    #[inline]
    fn weight(&self) -> u32 {
        self.weight
    }

    #[inline]
    fn last_weight(&self) -> u32 {
        self.last_weight
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
