// SPDX-License-Identifier: GPL-2.0

use super::all;
use super::least;
use super::Candidate;
use super::Pick;
use super::Scheduler;
use super::Setup;
use crate::flow::FlowKey;

/// Shortest expected delay: whoever will have the fewest active connections for its weight once it
/// has this one too.
#[derive(Clone, Copy, Debug)]
pub struct Sed;

impl Scheduler for Sed {
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
        let index = least(all(dests), expected, C::weight)?;
        Some(Pick { index, turn })
    }
}

/// How many active connections it would have.
#[inline]
pub(super) fn expected<C: Candidate>(dest: &C) -> u64 {
    u64::from(dest.active()).wrapping_add(1)
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
    fn the_strong_one_begins_and_shares_in_time() {
        let order = fill::<Sed>(&mut weighted(&[1, 3]), 8);
        assert_eq!(order, [1, 1, 0, 1, 1, 1, 0, 1]);
    }

    #[test]
    fn inactive_connections_do_not_count() {
        let mut dests = weighted(&[1, 1]);
        dests[0].inactive = 1_000_000;
        assert_eq!(picked::<Sed>(SETUP, &dests, &KEY), Some(0));
    }

    proptest! {
        #[test]
        fn nobody_would_serve_sooner(dests in dests()) {
            let Some(index) = picked::<Sed>(SETUP, &dests, &KEY) else {
                return Ok(());
            };
            let delay = |dest: &super::super::testing::Dest, other: u32| {
                (u128::from(dest.active) + 1) * u128::from(other)
            };
            let picked = &dests[index];
            for (at, dest) in dests.iter().enumerate().filter(|(_, dest)| dest.available()) {
                let (one, other) = (delay(picked, dest.weight), delay(dest, picked.weight));
                prop_assert!(one < other || one == other && index <= at);
            }
        }
    }
}
