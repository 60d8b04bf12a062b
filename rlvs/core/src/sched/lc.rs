// SPDX-License-Identifier: GPL-2.0

use super::all;
use super::least;
use super::overhead;
use super::Candidate;
use super::Pick;
use super::Scheduler;
use super::Setup;
use crate::flow::FlowKey;

/// Least connections: whoever has least to do; the weight only says whether.
#[derive(Clone, Copy, Debug)]
pub struct Lc;

impl Scheduler for Lc {
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
        let index = least(all(dests), overhead, |_| 1)?;
        Some(Pick { index, turn })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::dests;
    use super::super::testing::picked;
    use super::super::testing::weighted;
    use super::super::testing::KEY;
    use super::super::testing::SETUP;
    use super::*;

    #[test]
    fn an_active_connection_counts_as_257_inactive_ones() {
        let mut dests = weighted(&[1, 100]);
        let pick = |dests: &[_]| picked::<Lc>(SETUP, dests, &KEY).unwrap();
        dests[0].active = 1;
        dests[1].inactive = 256;
        assert_eq!(pick(&dests), 1);
        dests[1].inactive = 257;
        assert_eq!(pick(&dests), 0);
        dests[1].inactive = 258;
        assert_eq!(pick(&dests), 0);
    }

    proptest! {
        #[test]
        fn nobody_available_before_or_behind_has_less(dests in dests()) {
            let load = |i: usize| u64::from(dests[i].active) * 257 + u64::from(dests[i].inactive);
            let available = (0..dests.len()).filter(|i| dests[*i].available());
            let expected = available.min_by_key(|i| load(*i));
            prop_assert_eq!(picked::<Lc>(SETUP, &dests, &KEY), expected);
        }
    }
}
