// SPDX-License-Identifier: GPL-2.0

//! Statistics: what is counted, and what is shown of it.
//!
//! A packet is counted once, in the [`Traffic`] of its destination. What a service has seen is the sum
//! of its destinations and of what was deleted below it, taken when somebody asks. What a namespace has
//! seen is collected from all destinations, again and again. A [`Meter`] turns such a sum into what is
//! shown: relative to the last time somebody zeroed it, and with rates.

use crate::kapi::{
    bh::BhDisabled,
    percpu, //
};
use kernel::prelude::*;
use rlvs_core::{
    flow::Direction,
    rate::{
        Counters,
        Rate,
        Rates, //
    }, //
};

const CONNS: usize = 0;
const INPKTS: usize = 1;
const OUTPKTS: usize = 2;
const INBYTES: usize = 3;
const OUTBYTES: usize = 4;

/// The counters of one destination, on every CPU.
pub(crate) struct Traffic(percpu::Collected<5>);

impl Traffic {
    /// Allocates counters, all zero. Process context.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(percpu::Collected::new()?))
    }

    /// Counts a new connection.
    #[inline]
    pub(crate) fn opened(&self, bh: &BhDisabled) {
        self.0.add(CONNS, 1, bh);
    }

    /// Counts a packet of so many bytes, from its network header on.
    #[inline]
    pub(crate) fn packet(&self, direction: Direction, bytes: u32, bh: &BhDisabled) {
        let (packets, octets) = match direction {
            Direction::Original => (INPKTS, INBYTES),
            Direction::Reply => (OUTPKTS, OUTBYTES),
        };
        self.0.add(packets, 1, bh);
        self.0.add(octets, u64::from(bytes), bh);
    }

    /// What all CPUs have counted.
    pub(crate) fn total(&self) -> Counters {
        let mut total = Counters::default();
        self.0
            .for_each_cpu(|_, words| total = total.wrapping_add(&counters(words)));
        total
    }

    /// The same; and calls `f` with each possible CPU, in their order, and what it has counted since
    /// the last call of this. One caller at a time.
    pub(crate) fn collect(&self, mut f: impl FnMut(i32, Counters)) -> Counters {
        let mut total = Counters::default();
        self.0.collect(|cpu, words, grown| {
            total = total.wrapping_add(&counters(words));
            f(cpu, counters(grown));
        });
        total
    }
}

fn counters(words: [u64; 5]) -> Counters {
    let [conns, inpkts, outpkts, inbytes, outbytes] = words;
    Counters {
        conns,
        inpkts,
        outpkts,
        inbytes,
        outbytes,
    }
}

/// What is shown of a sum of counters.
#[derive(Clone, Copy)]
pub(crate) struct Stats {
    /// Counted since the last zeroing.
    pub(crate) counters: Counters,
    /// Per second.
    pub(crate) rates: Rates,
}

/// Shows a sum of counters. It does not hold the sum: whoever asks brings it along.
pub(crate) struct Meter {
    zero: Counters,
    rate: Rate,
}

impl Meter {
    /// A meter that shows 0 for `now`.
    pub(crate) fn new(now: Counters) -> Self {
        Self {
            zero: now,
            rate: Rate::new(now),
        }
    }

    /// Shows 0 for `now` from here on.
    pub(crate) fn zero(&mut self, now: Counters) {
        *self = Self::new(now);
    }

    /// Takes the sum at the end of a period of [`rlvs_core::rate::PERIOD`].
    pub(crate) fn update(&mut self, now: Counters) {
        self.rate.update(now);
    }

    /// What is shown of `now`.
    pub(crate) fn stats(&self, now: &Counters) -> Stats {
        Stats {
            counters: now.wrapping_sub(&self.zero),
            rates: self.rate.read(),
        }
    }
}
