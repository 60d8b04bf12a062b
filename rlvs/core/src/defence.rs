// SPDX-License-Identifier: GPL-2.0

//! Dropping packets that would open connections, while memory is short or always: `drop_packet`.
//!
//! Memory is counted in pages.

/// Never.
pub const OFF: i32 = 0;
/// While memory is short, which it is not.
pub const READY: i32 = 1;
/// While memory is short, which it is.
pub const ACTIVE: i32 = 2;
/// Always.
pub const ALWAYS: i32 = 3;

/// What a mode becomes: the two that depend on memory tell how it is.
pub fn mode(mode: i32, available: u64, threshold: i32) -> i32 {
    match mode {
        READY | ACTIVE if is_short(available, threshold) => ACTIVE,
        READY | ACTIVE => READY,
        other => other,
    }
}

/// Of how many packets one is dropped; 0 is none, and 1 is all. `always` is the number of the mode of
/// that name.
pub fn rate(mode: i32, available: u64, threshold: i32, always: i32) -> u32 {
    match mode {
        ACTIVE if is_short(available, threshold) => {
            let threshold = u64::from(threshold.unsigned_abs());
            let rate = threshold.checked_div(threshold.saturating_sub(available));
            rate.and_then(|rate| u32::try_from(rate).ok()).unwrap_or(0)
        }
        // Below 0 it counts like 1 in mainline, too.
        ALWAYS if always < 0 => 1,
        ALWAYS => always.unsigned_abs(),
        _ => 0,
    }
}

fn is_short(available: u64, threshold: i32) -> bool {
    u64::try_from(threshold).is_ok_and(|threshold| available < threshold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn automatic_modes_follow_memory() {
        for before in [READY, ACTIVE] {
            assert_eq!(mode(before, 1023, 1024), ACTIVE);
            assert_eq!(mode(before, 1024, 1024), READY);
            assert_eq!(mode(before, 0, -1), READY);
        }
        for fixed in [OFF, ALWAYS] {
            assert_eq!(mode(fixed, 0, 1024), fixed);
        }
    }

    #[test]
    fn the_less_memory_the_more_is_dropped() {
        assert_eq!(rate(ACTIVE, 1024, 1024, 10), 0);
        assert_eq!(rate(ACTIVE, 1023, 1024, 10), 1024);
        assert_eq!(rate(ACTIVE, 512, 1024, 10), 2);
        assert_eq!(rate(ACTIVE, 0, 1024, 10), 1);
        assert_eq!(rate(ACTIVE, 0, 0, 10), 0);
    }

    #[test]
    fn the_other_modes_know_no_memory() {
        assert_eq!(rate(OFF, 0, 1024, 10), 0);
        assert_eq!(rate(READY, 0, 1024, 10), 0);
        assert_eq!(
            [10, 1, 0, -5].map(|n| rate(ALWAYS, 0, 1024, n)),
            [10, 1, 0, 1]
        );
    }

    proptest! {
        #[test]
        fn short_memory_drops_something(available: u32, threshold in 1_i32..) {
            let now = mode(READY, available.into(), threshold);
            let rate = rate(now, available.into(), threshold, 10);
            prop_assert_eq!(rate > 0, now == ACTIVE);
        }
    }
}
