// SPDX-License-Identifier: GPL-2.0

use super::all;
use super::least;
use super::sed::expected;
use super::Candidate;
use super::Pick;
use super::Scheduler;
use super::Setup;
use crate::flow::FlowKey;

/// Never queue: the first one that has no active connection, otherwise as [`Sed`](super::Sed).
#[derive(Clone, Copy, Debug)]
pub struct Nq;

impl Scheduler for Nq {
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
        let idle = dests
            .iter()
            .position(|dest| dest.available() && dest.active() == 0);
        let index = idle.or_else(|| least(all(dests), expected, C::weight))?;
        Some(Pick { index, turn })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::dests;
    use super::super::testing::fill;
    use super::super::testing::picked;
    use super::super::testing::weighted;
    use super::super::testing::KEY;
    use super::super::testing::SETUP;
    use super::super::Sed;
    use super::*;

    #[test]
    fn each_gets_one_before_anybody_gets_two() {
        let order = fill::<Nq>(&mut weighted(&[1, 3, 1]), 8);
        assert_eq!(order, [0, 1, 2, 1, 1, 1, 1, 0]);
    }

    proptest! {
        #[test]
        fn nobody_idle_is_passed_over(dests in dests()) {
            let index = picked::<Nq>(SETUP, &dests, &KEY);
            let mut available = dests.iter().zip(0..).filter(|(dest, _)| dest.available());
            match available.find(|(dest, _)| dest.active == 0) {
                Some((_, first)) => prop_assert_eq!(index, Some(first)),
                None => prop_assert_eq!(index, picked::<Sed>(SETUP, &dests, &KEY)),
            }
        }
    }
}
