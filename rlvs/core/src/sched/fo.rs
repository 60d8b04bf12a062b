// SPDX-License-Identifier: GPL-2.0

use super::all;
use super::Candidate;
use super::Pick;
use super::Scheduler;
use super::Setup;
use crate::flow::FlowKey;

/// Failover: the one of the greatest weight that is available, and nobody else.
#[derive(Clone, Copy, Debug)]
pub struct Fo;

impl Scheduler for Fo {
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
        let index = heaviest(dests, |_| true)?;
        Some(Pick { index, turn })
    }
}

/// The heaviest of the available ones that will do, of equals the first.
#[inline]
pub(super) fn heaviest<C: Candidate>(dests: &[C], will_do: impl Fn(&C) -> bool) -> Option<usize> {
    let mut heaviest = None;
    let mut most = 0;
    for (index, dest) in all(dests) {
        if dest.weight() > most && !dest.overloaded() && will_do(dest) {
            (heaviest, most) = (Some(index), dest.weight());
        }
    }
    heaviest
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
    fn one_has_it_all() {
        let mut dests = weighted(&[1, 9, 9, 3]);
        assert_eq!(fill::<Fo>(&mut dests, 4), [1; 4]);
        dests[1].overloaded = true;
        assert_eq!(fill::<Fo>(&mut dests, 4), [2; 4]);
        dests[2].weight = 0;
        assert_eq!(fill::<Fo>(&mut dests, 4), [3; 4]);
    }

    proptest! {
        #[test]
        fn nobody_available_weighs_more(dests in dests()) {
            let index = picked::<Fo>(SETUP, &dests, &KEY);
            let available = (0..dests.len()).filter(|i| dests[*i].available());
            // The last of equals of the reversed ones.
            let expected = available.rev().max_by_key(|i| dests[*i].weight);
            prop_assert_eq!(index, expected);
        }
    }
}
