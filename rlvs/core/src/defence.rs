// SPDX-License-Identifier: GPL-2.0

//! What is done while memory is short, or always: packets that would open connections are dropped
//! (`drop_packet`), and connections that are not worth much (`drop_entry`).
//!
//! Memory is counted in pages.

use crate::proto::State;

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

/// Does a mode drop connections now?
pub fn drops(mode: i32) -> bool {
    matches!(mode, ACTIVE | ALWAYS)
}

/// What a connection is worth to `drop_entry`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Worth {
    /// Nothing: it may be a part of a flood.
    Nothing,
    /// If it has been idle for [`IDLE`] seconds, a [`Lottery`] decides.
    Little,
    /// It stays.
    Much,
}

/// Idle for so many seconds, a connection may be drawn.
pub const IDLE: u32 = 60;

/// What a connection in that state is worth.
pub fn worth(state: State) -> Worth {
    match state {
        State::SynRecv | State::SynAck | State::Init1 | State::Init => Worth::Nothing,
        State::Established | State::SctpEstablished | State::Udp => Worth::Little,
        _ => Worth::Much,
    }
}

/// Draws among connections: of those that few packets have come by, the more the fewer there were.
#[derive(Default)]
pub struct Lottery([u32; Lottery::MOST as usize]);

impl Lottery {
    /// Who has sent more packets is not drawn.
    pub const MOST: u32 = 8;

    /// Is one drawn that so many packets have come by? Of those with as many as that, one in that many
    /// is; the first one is.
    pub fn draws(&mut self, packets: u32) -> bool {
        let index = packets.checked_sub(1).and_then(|i| usize::try_from(i).ok());
        let Some(left) = index.and_then(|index| self.0.get_mut(index)) else {
            return false;
        };
        *left = left.saturating_sub(1);
        let drawn = *left == 0;
        if drawn {
            *left = packets;
        }
        drawn
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

    #[test]
    fn half_open_connections_are_worth_nothing() {
        for state in State::ALL {
            let worth = worth(state);
            assert_eq!(
                worth == Worth::Nothing,
                matches!(state.name(), "SYN_RECV" | "SYNACK" | "INIT1" | "INIT")
            );
            assert_eq!(
                worth == Worth::Little,
                matches!(state.name(), "ESTABLISHED" | "UDP")
            );
        }
        assert_eq!([0, 1, 2, 3].map(drops), [false, false, true, true]);
    }

    #[test]
    fn the_more_packets_the_fewer_are_drawn() {
        let mut lottery = Lottery::default();
        for packets in 0..20 {
            let drawn = (0..840).filter(|_| lottery.draws(packets)).count() as u32;
            let expected = 840u32.checked_div(packets).filter(|_| packets <= 8);
            assert_eq!(drawn, expected.unwrap_or(0), "{packets}");
        }
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
