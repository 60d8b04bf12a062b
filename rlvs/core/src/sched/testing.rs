// SPDX-License-Identifier: GPL-2.0

//! Destinations for the tests of schedulers.

use core::net::IpAddr;
use core::net::Ipv4Addr;

use proptest::collection::vec;
use proptest::prelude::*;

use super::Candidate;
use super::Kind;
use super::Scheduler;
use super::Setup;
use super::NOBODY;
use crate::flow::Family;
use crate::flow::FlowKey;

#[derive(Clone, Debug)]
pub(crate) struct Dest {
    pub(crate) addr: IpAddr,
    pub(crate) port: u16,
    pub(crate) weight: u32,
    pub(crate) last_weight: u32,
    pub(crate) active: u32,
    pub(crate) inactive: u32,
    pub(crate) overloaded: bool,
}

impl Default for Dest {
    fn default() -> Self {
        Self {
            addr: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77)),
            port: 80,
            weight: 0,
            last_weight: 0,
            active: 0,
            inactive: 0,
            overloaded: false,
        }
    }
}

impl Candidate for Dest {
    fn addr(&self) -> IpAddr {
        self.addr
    }
    fn port(&self) -> u16 {
        self.port
    }
    fn weight(&self) -> u32 {
        self.weight
    }
    fn last_weight(&self) -> u32 {
        self.last_weight
    }
    fn active(&self) -> u32 {
        self.active
    }
    fn inactive(&self) -> u32 {
        self.inactive
    }
    fn overloaded(&self) -> bool {
        self.overloaded
    }
}

pub(crate) const KEY: FlowKey = FlowKey {
    client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    client_port: 40000,
    service: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    service_port: 80,
};

pub(crate) const SETUP: Setup = Setup {
    family: Family::V4,
    flags: 0,
};

/// Destinations of these weights, each with an address of its own, as neighbours have them.
pub(crate) fn weighted(weights: &[u32]) -> Vec<Dest> {
    let dest = |(weight, number): (&u32, u32)| Dest {
        addr: Ipv4Addr::from_bits(0x0a02_0001 + number).into(),
        weight: *weight,
        last_weight: *weight,
        ..Dest::default()
    };
    weights.iter().zip(0..).map(dest).collect()
}

/// An address of a client, or one that it asks for.
pub(crate) fn addr() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
        any::<[u8; 16]>().prop_map(IpAddr::from),
    ]
}

/// The key of a connection.
pub(crate) fn key() -> impl Strategy<Value = FlowKey> {
    (addr(), addr(), any::<u16>()).prop_map(|(client, service, client_port)| FlowKey {
        client,
        client_port,
        service,
        ..KEY
    })
}

/// Up to 12 destinations, some with weight 0, some overloaded, with any number of connections.
pub(crate) fn dests() -> impl Strategy<Value = Vec<Dest>> {
    let weight = || {
        prop_oneof![
            Just(0),
            1..8_u32,
            (1..20_u32).prop_map(|w| w * 50),
            any::<u32>()
        ]
    };
    let conns = || prop_oneof![0..5_u32, any::<u32>()];
    let dest = (
        (addr(), any::<u16>()),
        (weight(), weight()),
        (conns(), conns()),
        prop::bool::weighted(0.2),
    );
    let dest = dest.prop_map(
        |((addr, port), (weight, last_weight), (active, inactive), overloaded)| Dest {
            addr,
            port,
            weight,
            last_weight: if weight > 0 { weight } else { last_weight },
            active,
            inactive,
            overloaded,
        },
    );
    vec(dest, 0..12)
}

/// The table that a kind needs for so many destinations.
pub(crate) fn table(kind: Kind, dests: usize) -> Vec<u16> {
    vec![NOBODY; kind.table_len(dests)]
}

/// A scheduler with the table that it has made for these destinations.
pub(crate) fn prepared<S: Scheduler>(setup: Setup, dests: &[Dest]) -> (S, Vec<u16>) {
    let mut table = vec![NOBODY; S::table_len(dests.len())];
    let sched = S::prepare(setup, dests, &mut table);
    (sched, table)
}

/// Whom a scheduler without a turn picks for a connection.
pub(crate) fn picked<S: Scheduler>(setup: Setup, dests: &[Dest], key: &FlowKey) -> Option<usize> {
    let (sched, table) = prepared::<S>(setup, dests);
    let pick = sched.pick(0, dests, &table, key);
    pick.map(|pick| pick.index)
}

/// Whom `count` connections go to, one after the other, from the first turn on.
pub(crate) fn run<S: Scheduler>(dests: &[Dest], count: usize) -> Vec<usize> {
    let (sched, table) = prepared::<S>(SETUP, dests);
    let mut turn = sched.first_turn();
    let mut order = Vec::new();
    for _ in 0..count {
        let Some(pick) = sched.pick(turn, dests, &table, &KEY) else {
            break;
        };
        turn = pick.turn;
        order.push(pick.index);
    }
    order
}

/// The same for connections that stay open and are active, each on the destinations' list at once.
pub(crate) fn fill<S: Scheduler>(dests: &mut [Dest], count: usize) -> Vec<usize> {
    let (sched, table) = prepared::<S>(SETUP, dests);
    let mut order = Vec::new();
    for _ in 0..count {
        let Some(pick) = sched.pick(0, dests, &table, &KEY) else {
            break;
        };
        dests[pick.index].active += 1;
        order.push(pick.index);
    }
    order
}
