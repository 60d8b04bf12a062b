// SPDX-License-Identifier: GPL-2.0

use super::all;
use super::least;
use super::overhead;
use super::Candidate;
use super::Pick;
use super::Scheduler;
use super::Setup;
use crate::flow::FlowKey;

/// Weighted least connections: whoever has least to do for its weight.
#[derive(Clone, Copy, Debug)]
pub struct Wlc;

impl Scheduler for Wlc {
    fn prepare<C: Candidate>(_setup: Setup, _dests: &[C], _table: &mut [u16]) -> Self {
        Self
    }

    /// There is no turn.
    #[inline]
    fn pick<C: Candidate>(
        &self,
        turn: u64,
        dests: &[C],
        _table: &[u16],
        _key: &FlowKey,
    ) -> Option<Pick> {
        let index = least(all(dests), overhead, C::weight)?;
        Some(Pick { index, turn })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::testing::picked;
    use super::super::testing::weighted;
    use super::super::testing::Dest;
    use super::super::testing::KEY;
    use super::super::testing::SETUP;
    use super::*;

    #[test]
    fn of_equals_the_first_is_picked() {
        let mut dests = weighted(&[2, 1, 4]);
        assert_eq!(picked::<Wlc>(SETUP, &dests, &KEY).unwrap(), 0);
        for (dest, active) in dests.iter_mut().zip([4, 2, 8]) {
            dest.active = active;
        }
        assert_eq!(picked::<Wlc>(SETUP, &dests, &KEY).unwrap(), 0);
        dests[1].active = 1;
        assert_eq!(picked::<Wlc>(SETUP, &dests, &KEY).unwrap(), 1);
    }

    proptest! {
        #[test]
        fn open_connections_spread_by_weight(weights in vec(0..20_u32, 1..8)) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let mut dests = weighted(&weights);
            let rounds = 50;
            for _ in 0..rounds * weights.iter().sum::<u32>() {
                let index = picked::<Wlc>(SETUP, &dests, &KEY).unwrap();
                dests[index].active += 1;
            }
            for dest in dests {
                let fair = rounds * dest.weight;
                prop_assert!(dest.active.abs_diff(fair) <= dest.weight.max(1));
            }
        }

        #[test]
        fn nobody_has_less_for_their_weight(
            loads in vec((1..1_000_000_u32, 0..5_000_000_u32, 0..5_000_000_u32), 1..8),
        ) {
            let dest = |&(weight, active, inactive): &(u32, u32, u32)| Dest {
                weight, active, inactive, ..Dest::default()
            };
            let dests: Vec<Dest> = loads.iter().map(dest).collect();
            let load = |d: &Dest| u128::from(d.active) * 257 + u128::from(d.inactive);
            let picked = &dests[picked::<Wlc>(SETUP, &dests, &KEY).unwrap()];
            for dest in &dests {
                let less = load(dest) * u128::from(picked.weight)
                    < load(picked) * u128::from(dest.weight);
                prop_assert!(!less);
            }
        }
    }
}
