// SPDX-License-Identifier: GPL-2.0

use super::all;
use super::lblc::is_too_busy;
use super::least;
use super::listed;
use super::overhead;
use super::Candidate;
use super::Pick;
use super::Scheduler;
use super::Setup;
use crate::flow::FlowKey;

/// Locality-based least connections with replication: an address that clients ask for stays with a
/// set of destinations. It grows by one whenever they are too busy while others are idle, and has
/// the busiest taken out when it has not grown for a while.
///
/// The table names the set, the youngest first.
#[derive(Clone, Copy, Debug)]
pub struct Lblcr;

impl Scheduler for Lblcr {
    fn prepare<C: Candidate>(_setup: Setup, _dests: &[C], _table: &mut [u16]) -> Self {
        Self
    }

    /// There is no turn.
    #[inline]
    fn pick<C: Candidate>(
        &self,
        turn: u64,
        dests: &[C],
        table: &[u16],
        _key: &FlowKey,
    ) -> Option<Pick> {
        let of_the_set = least(listed(dests, table), overhead, C::weight);
        let kept = of_the_set.filter(|&index| {
            let dest = dests.get(index);
            dest.is_some_and(|dest| !is_too_busy(dest, dests))
        });
        let index = match kept {
            Some(index) => index,
            None => least(all(dests), overhead, C::weight)?,
        };
        Some(Pick { index, turn })
    }
}

impl Lblcr {
    /// The one to take out of a set that is too large: the busiest for its weight, of equals the
    /// first. Those of weight 0 stay: they may come back.
    pub fn surplus<C: Candidate>(dests: &[C], set: &[u16]) -> Option<usize> {
        let mut most: Option<(usize, u64, u64)> = None;
        for (index, dest) in listed(dests, set).filter(|(_, dest)| dest.weight() > 0) {
            let (load, weight) = (overhead(dest), u64::from(dest.weight()));
            let more = most.is_none_or(|(_, most_load, most_weight)| {
                most_load.saturating_mul(weight) < load.saturating_mul(most_weight)
            });
            if more {
                most = Some((index, load, weight));
            }
        }
        most.map(|(index, ..)| index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::testing::dests;
    use super::super::testing::picked;
    use super::super::testing::weighted;
    use super::super::testing::KEY;
    use super::super::testing::SETUP;
    use super::super::Wlc;
    use super::*;

    #[test]
    fn the_least_loaded_of_the_set_is_picked() {
        let mut dests = weighted(&[10, 10, 10]);
        let pick = |dests: &[_], set: &[u16]| Lblcr.pick(0, dests, set, &KEY).unwrap().index;
        assert_eq!(pick(&dests, &[2, 1]), 2, "the youngest of equals");
        dests[2].active = 1;
        assert_eq!(pick(&dests, &[2, 1]), 1);
        dests[1].active = 11;
        dests[2].active = 12;
        assert_eq!(pick(&dests, &[2, 1]), 0, "both are too busy");
        dests[0].active = 5;
        assert_eq!(pick(&dests, &[2, 1]), 1, "so is everybody");
    }

    #[test]
    fn the_busiest_is_too_much() {
        let mut dests = weighted(&[1, 10, 10, 0]);
        (dests[0].active, dests[1].active, dests[2].active) = (2, 15, 15);
        dests[3].active = 1000;
        assert_eq!(Lblcr::surplus(&dests, &[3, 2, 1]), Some(2));
        assert_eq!(Lblcr::surplus(&dests, &[1, 0, 2]), Some(0));
        assert_eq!(Lblcr::surplus(&dests, &[3]), None);
    }

    proptest! {
        #[test]
        fn it_stays_in_the_set_or_goes_to_the_least_loaded(dests in dests(), set in vec(0..14_u16, 0..6)) {
            let index = Lblcr.pick(0, &dests, &set, &KEY).map(|pick| pick.index);
            let in_set = index.is_some_and(|index| set.contains(&(index as u16)));
            let wlc = picked::<Wlc>(SETUP, &dests, &KEY);
            prop_assert!(in_set || index == wlc);
            let calm = set.iter().filter_map(|i| dests.get(usize::from(*i))).any(Candidate::available)
                && dests.iter().all(|dest| dest.active <= dest.weight);
            prop_assert!(in_set || !calm, "nobody was too busy");
            prop_assert_eq!(picked::<Lblcr>(SETUP, &dests, &KEY), wlc, "nothing is remembered");
        }

        #[test]
        fn nobody_in_the_set_is_busier_than_the_surplus(dests in dests(), set in vec(0..12_u16, 0..6)) {
            let mut set: Vec<_> = set.into_iter().filter(|i| usize::from(*i) < dests.len()).collect();
            set.retain(|i| dests[usize::from(*i)].weight > 0);
            let Some(most) = Lblcr::surplus(&dests, &set) else {
                prop_assert!(set.is_empty());
                return Ok(());
            };
            let load = |i: usize| u128::from(dests[i].active) * 257 + u128::from(dests[i].inactive);
            for i in set.into_iter().map(usize::from) {
                let (one, other) = (u128::from(dests[most].weight), u128::from(dests[i].weight));
                prop_assert!(load(i) * one <= load(most) * other || load(i) * one > u64::MAX.into());
            }
        }
    }
}
