// SPDX-License-Identifier: GPL-2.0

//! Counters, and the rates that IPVS derives from them.

/// How often [`Rate::update`] is to be called, in seconds.
pub const PERIOD: u32 = 2;

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

    #[test]
    fn counters_since_zero_are_the_difference() {
        let sum = counters(3).wrapping_add(&counters(4));
        assert_eq!(sum, counters(7));
        assert_eq!(sum.wrapping_sub(&counters(4)), counters(3));
        assert_eq!(counters(0).wrapping_sub(&counters(1)).conns, u64::MAX);
    }
}
