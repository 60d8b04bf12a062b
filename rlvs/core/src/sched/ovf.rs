// SPDX-License-Identifier: GPL-2.0

use super::fo::heaviest;
use super::Candidate;
use super::Pick;
use super::Scheduler;
use super::Setup;
use crate::flow::FlowKey;

/// Overflow: the one of the greatest weight that has no more active connections than that; when all
/// are full nobody takes any.
#[derive(Clone, Copy, Debug)]
pub struct Ovf;

impl Scheduler for Ovf {
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
        let index = heaviest(dests, |dest| dest.active() <= dest.weight())?;
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
    use super::*;

    #[test]
    fn what_one_does_not_take_the_next_does() {
        // As many as the weight are not more than the weight: each takes one more than that.
        let order = fill::<Ovf>(&mut weighted(&[1, 3, 2]), 20);
        assert_eq!(order, [1, 1, 1, 1, 2, 2, 2, 0, 0]);
    }

    proptest! {
        #[test]
        fn nobody_who_has_room_weighs_more(dests in dests()) {
            let room = |i: &usize| dests[*i].available() && dests[*i].active <= dests[*i].weight;
            let expected = (0..dests.len()).filter(room).rev().max_by_key(|i| dests[*i].weight);
            prop_assert_eq!(picked::<Ovf>(SETUP, &dests, &KEY), expected);
        }
    }
}
