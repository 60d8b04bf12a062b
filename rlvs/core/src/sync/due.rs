// SPDX-License-Identifier: GPL-2.0

//! When others are told of a connection: after the first packets, then every so many, or every so often,
//! and when it closes.

use crate::proto::State;

/// What an operator has set. Times are in jiffies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// The packet that is told first, and of each period.
    pub threshold: u32,
    /// So many packets are a period; 0 is none.
    pub period: u32,
    /// What was told less than that ago is not told again; 0 sets no limit.
    pub refresh: u32,
    /// But so often, each an eighth of that later.
    pub retries: u32,
    /// A second.
    pub hz: u32,
}

/// What was told of a connection or a template. It fits a word, for an atomic.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Ledger {
    /// When it would have ended when others were told; 0: they were not. The low bits count retries.
    ends: u32,
    /// The client's packets, modulo 2^24.
    packets: u32,
    /// The state that was told.
    told: u8,
}

const PACKETS: u32 = (1 << 24) - 1;
const RETRIES: u32 = 3;

impl Ledger {
    /// From a word.
    pub fn unpack(word: u64) -> Self {
        // CAST: Each has the bits that it had.
        Self {
            ends: word as u32,
            packets: (word >> 32) as u32 & PACKETS,
            told: (word >> 56) as u8,
        }
    }

    /// As a word.
    pub fn pack(self) -> u64 {
        let high = u32::from(self.told) << 24 | self.packets & PACKETS;
        u64::from(high) << 32 | u64::from(self.ends)
    }

    /// Was there one packet so far?
    pub fn is_first(self) -> bool {
        self.packets == 1
    }

    /// Another packet of the client's has passed. `state` is that of the connection, none of a template,
    /// `timeout` how long that lasts; times are in jiffies. Returns the ledger of after that, and whether
    /// others are to be told.
    pub fn packet(
        self,
        rules: &Rules,
        state: Option<State>,
        timeout: u32,
        now: u32,
    ) -> (Self, bool) {
        let packets = self.packets.wrapping_add(1) & PACKETS;
        let counted = Self { packets, ..self };
        match self.is_due(rules, packets, state, timeout, now) {
            None => (counted, false),
            Some(retries) => {
                let ends = now.wrapping_add(timeout) & !RETRIES;
                let told = Self {
                    // 0 has a meaning.
                    ends: if ends == 0 { RETRIES + 1 } else { ends } | retries,
                    packets,
                    told: state.map_or(0, |state| state as u8),
                };
                (told, true)
            }
        }
    }

    /// Are others to be told, and as which retry?
    fn is_due(
        &self,
        rules: &Rules,
        packets: u32,
        state: Option<State>,
        timeout: u32,
        now: u32,
    ) -> Option<u32> {
        if let Some(state) = state {
            if !is_told(state) {
                return None;
            }
            let is_new = state as u8 != self.told;
            if is_new && state != State::Udp && !state.is_established() {
                return Some(0);
            }
        }
        let mut retry = 0;
        if rules.refresh > 0 && self.ends != 0 {
            let diff = now.wrapping_add(timeout).wrapping_sub(self.ends) as i32;
            let least = (timeout >> 1).max(rules.hz.saturating_mul(10));
            if diff.unsigned_abs() < rules.refresh.min(least) {
                let retries = self.ends & RETRIES;
                let told = self.ends.wrapping_sub(timeout);
                let since = now.wrapping_sub(told) as i32;
                if retries >= rules.retries || since < (rules.refresh >> 3) as i32 {
                    return None;
                }
                retry = (retries + 1) & RETRIES;
            }
        }
        let at_threshold = match packets.checked_rem(rules.period) {
            Some(packet) => state.is_none() || packet == rules.threshold,
            None => rules.refresh > 0 || packets == rules.threshold,
        };
        at_threshold.then_some(retry)
    }
}

/// Is a connection in that state told at all? One that is being opened is not.
fn is_told(state: State) -> bool {
    matches!(
        state,
        State::Established
            | State::FinWait
            | State::Close
            | State::CloseWait
            | State::TimeWait
            | State::Udp
            | State::SctpEstablished
            | State::ShutdownSent
            | State::ShutdownReceived
            | State::ShutdownAckSent
            | State::Closed
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HZ: u32 = 250;
    const RULES: Rules = Rules {
        threshold: 3,
        period: 50,
        refresh: 0,
        retries: 0,
        hz: HZ,
    };

    /// Which of so many packets are told, in a state, one a second.
    fn told(rules: Rules, state: Option<State>, packets: u32) -> Vec<u32> {
        let mut ledger = Ledger::default();
        let mut now = u32::MAX - 20 * HZ;
        (1..=packets)
            .filter(|_| {
                now = now.wrapping_add(HZ);
                let (next, due) = ledger.packet(&rules, state, 900 * HZ, now);
                ledger = Ledger::unpack(next.pack());
                due
            })
            .collect()
    }

    #[test]
    fn by_packets() {
        for state in [State::Established, State::Udp, State::SctpEstablished] {
            assert_eq!(told(RULES, Some(state), 110), [3, 53, 103]);
        }
        for state in [State::SynRecv, State::None, State::SynAck, State::Init] {
            assert_eq!(told(RULES, Some(state), 110), []);
        }
        // Of a template each packet counts.
        assert_eq!(told(RULES, None, 4), [1, 2, 3, 4]);
    }

    #[test]
    fn once() {
        let rules = Rules { period: 0, ..RULES };
        for state in [Some(State::Established), None] {
            assert_eq!(told(rules, state, 110), [3]);
        }
    }

    #[test]
    fn by_time() {
        let rules = Rules {
            period: 0,
            refresh: 40 * HZ,
            ..RULES
        };
        for state in [Some(State::Established), None] {
            assert_eq!(told(rules, state, 100), [1, 41, 81]);
            let retried = Rules {
                retries: 2,
                ..rules
            };
            // The count of retries stands where the time has its last jiffies.
            assert_eq!(told(retried, state, 70), [1, 6, 11, 52, 57, 62]);
        }
        // Both: a packet that is due for both.
        let both = Rules {
            refresh: 40 * HZ,
            ..RULES
        };
        assert_eq!(told(both, Some(State::Established), 110), [3, 53, 103]);
        let frequent = Rules {
            threshold: 1,
            period: 2,
            ..both
        };
        assert_eq!(told(frequent, Some(State::Established), 90), [1, 41, 81]);
    }

    #[test]
    fn a_connection_that_closes_is_told_at_once() {
        let ledger = Ledger::default();
        for state in [
            State::FinWait,
            State::Close,
            State::CloseWait,
            State::TimeWait,
        ] {
            let (after, due) = ledger.packet(&RULES, Some(state), HZ, 0);
            assert!(due, "{state:?}");
            assert!(!after.packet(&RULES, Some(state), HZ, 1).1, "{state:?}");
        }
        let (_, due) = ledger.packet(&RULES, Some(State::LastAck), HZ, 0);
        assert!(!due);
    }

    proptest! {
        #[test]
        fn a_ledger_fits_a_word(word: u64, packet: (u32, u32), state in 0u8..26) {
            prop_assert_eq!(Ledger::unpack(word).pack(), word);
            let rules = Rules { refresh: 100, retries: 3, ..RULES };
            let (next, _) = Ledger::unpack(word).packet(&rules, Some(State::from_u8(state)), packet.0, packet.1);
            prop_assert_eq!(Ledger::unpack(next.pack()), next);
        }

        #[test]
        fn no_rules_do_harm(
            threshold: u32, period: u32, refresh: u32, retries: u32, hz: u32,
            word: u64, timeout: u32, now: u32,
        ) {
            let rules = Rules { threshold, period, refresh, retries, hz };
            for state in [None, Some(State::Established), Some(State::Close)] {
                let (next, due) = Ledger::unpack(word).packet(&rules, state, timeout, now);
                prop_assert!(!due || next.ends != 0);
            }
        }
    }
}
