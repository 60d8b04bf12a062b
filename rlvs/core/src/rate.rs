// SPDX-License-Identifier: GPL-2.0

//! Counters, and the rates that IPVS derives from them.

/// How often [`Rate::update`] is to be called, in seconds.
pub const PERIOD: u32 = 2;

/// Into how many slices a period may be cut.
pub const MAX_SLICES: usize = 50;

/// Services of a slice, as long as the slices suffice.
const SLICE: usize = 64;

/// Into how many slices a period is cut if there are so many services: few services are updated in one
/// go, and many never are.
pub fn slices(services: usize) -> usize {
    services.div_ceil(SLICE).clamp(1, MAX_SLICES)
}

/// How many of the services are to be updated by the end of a slice, counted from 0; in the last slice
/// all.
pub fn due(services: usize, slice: usize, slices: usize) -> usize {
    let done = slice.saturating_add(1);
    if done >= slices {
        return services;
    }
    // No more than 50 slices, and no machine has that many services.
    services
        .saturating_mul(done)
        .checked_div(slices)
        .unwrap_or(services)
}

/// What is counted for a destination, a service or a namespace.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct Counters {
    /// Connections opened.
    pub conns: u64,
    /// Packets from clients.
    pub inpkts: u64,
    /// Packets to clients.
    pub outpkts: u64,
    /// Bytes from clients.
    pub inbytes: u64,
    /// Bytes to clients.
    pub outbytes: u64,
}

impl Counters {
    /// The sum of both, as over CPUs.
    #[inline]
    pub fn wrapping_add(&self, other: &Self) -> Self {
        Self {
            conns: self.conns.wrapping_add(other.conns),
            inpkts: self.inpkts.wrapping_add(other.inpkts),
            outpkts: self.outpkts.wrapping_add(other.outpkts),
            inbytes: self.inbytes.wrapping_add(other.inbytes),
            outbytes: self.outbytes.wrapping_add(other.outbytes),
        }
    }

    /// What was counted since `other`, as since the last time somebody zeroed.
    #[inline]
    pub fn wrapping_sub(&self, other: &Self) -> Self {
        Self {
            conns: self.conns.wrapping_sub(other.conns),
            inpkts: self.inpkts.wrapping_sub(other.inpkts),
            outpkts: self.outpkts.wrapping_sub(other.outpkts),
            inbytes: self.inbytes.wrapping_sub(other.inbytes),
            outbytes: self.outbytes.wrapping_sub(other.outbytes),
        }
    }
}

/// What is told of an estimator: units per second.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Rates {
    /// Connections.
    pub cps: u64,
    /// Packets from clients.
    pub inpps: u64,
    /// Packets to clients.
    pub outpps: u64,
    /// Bytes from clients.
    pub inbps: u64,
    /// Bytes to clients.
    pub outbps: u64,
}

/// Estimates rates from counters that are shown to it every two seconds.
///
/// Each rate is a moving average in which the last period weighs a quarter. Fractions are kept:
/// 10 bits of connections and packets, 5 of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Rate {
    last: Counters,
    scaled: Rates,
}

const COUNT_SCALE: u32 = 10;
const BYTE_SCALE: u32 = 5;

impl Rate {
    /// Starts with rates of 0, and with `now` as what has been counted so far.
    ///
    /// To zero the rates is to start again.
    pub fn new(now: Counters) -> Self {
        Self {
            last: now,
            scaled: Rates::default(),
        }
    }

    /// Takes the counters at the end of a period of [`PERIOD`] seconds.
    pub fn update(&mut self, now: Counters) {
        let seen = now.wrapping_sub(&self.last);
        self.last = now;
        average(&mut self.scaled.cps, seen.conns, COUNT_SCALE);
        average(&mut self.scaled.inpps, seen.inpkts, COUNT_SCALE);
        average(&mut self.scaled.outpps, seen.outpkts, COUNT_SCALE);
        average(&mut self.scaled.inbps, seen.inbytes, BYTE_SCALE);
        average(&mut self.scaled.outbps, seen.outbytes, BYTE_SCALE);
    }

    /// The rates per second, rounded to the nearest unit.
    pub fn read(&self) -> Rates {
        Rates {
            cps: unscale(self.scaled.cps, COUNT_SCALE),
            inpps: unscale(self.scaled.inpps, COUNT_SCALE),
            outpps: unscale(self.scaled.outpps, COUNT_SCALE),
            inbps: unscale(self.scaled.inbps, BYTE_SCALE),
            outbps: unscale(self.scaled.outbps, BYTE_SCALE),
        }
    }
}

fn average(scaled: &mut u64, seen: u64, scale: u32) {
    // Half of what two seconds brought is a second's.
    let sample = seen.wrapping_shl(scale.wrapping_sub(1));
    // The difference may be negative, so the quarter of it is taken as signed.
    let step = (sample.wrapping_sub(*scaled) as i64) >> 2;
    *scaled = scaled.wrapping_add(step as u64);
}

fn unscale(scaled: u64, scale: u32) -> u64 {
    // One less than half a unit: half a unit counts as none.
    let half = 1_u64.wrapping_shl(scale.wrapping_sub(1)).wrapping_sub(1);
    scaled.wrapping_add(half).wrapping_shr(scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{
        collection::vec,
        prelude::*, //
    };

    fn counters(n: u64) -> Counters {
        Counters {
            conns: n,
            inpkts: 2 * n,
            outpkts: 3 * n,
            inbytes: 400 * n,
            outbytes: 500 * n,
        }
    }

    fn after(start: u64, periods: u64, per_period: u64) -> Rate {
        let mut rate = Rate::new(counters(start));
        for period in 1..=periods {
            rate.update(counters(start + period * per_period));
        }
        rate
    }

    #[test]
    fn a_steady_load_becomes_its_rate_per_second() {
        let rates = after(1_000_000, 60, 200).read();
        assert_eq!(
            rates,
            Rates {
                cps: 100,
                inpps: 200,
                outpps: 300,
                inbps: 40_000,
                outbps: 50_000
            }
        );
    }

    #[test]
    fn the_last_period_weighs_a_quarter() {
        assert_eq!(after(0, 1, 800).read().cps, 100);
        assert_eq!(after(0, 2, 800).read().cps, 175);
    }

    #[test]
    fn an_idle_service_goes_to_zero() {
        let mut rate = after(0, 40, 2000);
        assert_eq!(rate.read().cps, 1000);
        for _ in 0..60 {
            rate.update(counters(40 * 2000));
        }
        assert_eq!(rate.read(), Rates::default());
    }

    #[test]
    fn starting_again_zeroes_and_keeps_counting() {
        let rate = Rate::new(counters(5000));
        assert_eq!(rate.read(), Rates::default());
        assert_eq!(after(5000, 1, 0).read(), Rates::default());
    }

    #[test]
    fn a_counter_that_wraps_is_an_ordinary_period() {
        let mut rate = Rate::new(Counters {
            conns: u64::MAX - 99,
            ..Counters::default()
        });
        rate.update(Counters {
            conns: 700,
            ..Counters::default()
        });
        assert_eq!(rate.read().cps, 100);
    }

    /// The arithmetic of mainline's estimator in its own words: net/netfilter/ipvs/ip_vs_est.c,
    /// `ip_vs_chain_estimation()` and `ip_vs_read_estimator()`.
    fn mainline(seen: &[u64], scale: u32) -> u64 {
        let mut average = 0_i64;
        for units in seen {
            let rate = (units << (scale - 1)) as i64;
            average += (rate - average) >> 2;
        }
        (average as u64 + ((1 << (scale - 1)) - 1)) >> scale
    }

    proptest! {
        #[test]
        fn rates_are_those_of_mainline(seen in vec(0_u64..1 << 40, 0..50)) {
            let mut rate = Rate::default();
            let mut now = Counters::default();
            for units in &seen {
                now.conns += units;
                now.outbytes += units;
                rate.update(now);
            }
            prop_assert_eq!(rate.read().cps, mainline(&seen, 10));
            prop_assert_eq!(rate.read().outbps, mainline(&seen, 5));
        }

        #[test]
        fn every_service_is_updated_once_in_a_period(services in 0_usize..1 << 24) {
            let slices = slices(services);
            prop_assert!((1..=MAX_SLICES).contains(&slices));
            let mut before = 0;
            for slice in 0..slices {
                let now = due(services, slice, slices);
                let share = now.checked_sub(before);
                prop_assert!(share.is_some_and(|share| share <= SLICE.max(services / MAX_SLICES + 1)));
                before = now;
            }
            prop_assert_eq!(before, services);
        }
    }

    #[test]
    fn few_services_are_updated_in_one_go() {
        assert_eq!([0, 1, 64, 65, 1_000_000].map(slices), [1, 1, 1, 2, 50]);
        assert_eq!(due(100, 7, 2), 100);
    }

    #[test]
    fn counters_since_zero_are_the_difference() {
        let sum = counters(3).wrapping_add(&counters(4));
        assert_eq!(sum, counters(7));
        assert_eq!(sum.wrapping_sub(&counters(4)), counters(3));
        assert_eq!(counters(0).wrapping_sub(&counters(1)).conns, u64::MAX);
    }
}
