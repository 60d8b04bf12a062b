// SPDX-License-Identifier: GPL-2.0

//! Destinations for the tests of schedulers.

use core::net::IpAddr;
use core::net::Ipv4Addr;

use proptest::collection::vec;
use proptest::prelude::*;

use super::Candidate;
use super::Scheduler;
use crate::flow::FlowKey;

#[derive(Clone, Debug, Default)]
pub(crate) struct Dest {
    pub(crate) weight: u32,
    pub(crate) active: u32,
    pub(crate) inactive: u32,
    pub(crate) overloaded: bool,
}

impl Candidate for Dest {
    fn weight(&self) -> u32 {
        self.weight
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

pub(crate) fn weighted(weights: &[u32]) -> Vec<Dest> {
    let dest = |weight: &u32| Dest {
        weight: *weight,
        ..Dest::default()
    };
    weights.iter().map(dest).collect()
}

/// Up to 12 destinations, some with weight 0, some overloaded, with any number of connections.
pub(crate) fn dests() -> impl Strategy<Value = Vec<Dest>> {
    let weight = prop_oneof![
        Just(0),
        1..8_u32,
        (1..20_u32).prop_map(|w| w * 50),
        any::<u32>()
    ];
    let conns = || prop_oneof![0..5_u32, any::<u32>()];
    let dest = (weight, conns(), conns(), prop::bool::weighted(0.2)).prop_map(
        |(weight, active, inactive, overloaded)| Dest {
            weight,
            active,
            inactive,
            overloaded,
        },
    );
    vec(dest, 0..12)
}

/// Whom `count` connections go to, one after the other, from the first turn on.
pub(crate) fn run<S: Scheduler>(dests: &[Dest], count: usize) -> Vec<usize> {
    let sched = S::prepare(dests);
    let mut turn = 0;
    let mut order = Vec::new();
    for _ in 0..count {
        let Some(pick) = sched.pick(turn, dests, &KEY) else {
            break;
        };
        turn = pick.turn;
        order.push(pick.index);
    }
    order
}
