// SPDX-License-Identifier: GPL-2.0

use super::all;
use super::overhead;
use super::Candidate;
use super::Pick;
use super::Scheduler;
use super::Setup;
use crate::flow::FlowKey;

/// The power of two choices: draws two destinations by lot, by their weights, and takes the one
/// that has less to do for its weight.
///
/// That is nearly as good as looking for the least of all, and many directors do not all run to the
/// same one.
#[derive(Clone, Copy, Debug)]
pub struct Twos;

impl Scheduler for Twos {
    fn prepare<C: Candidate>(_setup: Setup, _dests: &[C], _table: &mut [u16]) -> Self {
        Self
    }

    /// The turn is a random word; of the next one it says nothing.
    #[inline]
    fn pick<C: Candidate>(
        &self,
        turn: u64,
        dests: &[C],
        _table: &[u16],
        _key: &FlowKey,
    ) -> Option<Pick> {
        let available = || all(dests).filter(|(_, dest)| dest.available());
        let total = available().fold(0u64, |sum, (_, dest)| {
            sum.saturating_add(u64::from(dest.weight()))
        });
        // Lots from 0 to the total, so the first has one more, as in mainline.
        let lot = |word: u64| {
            let product = u128::from(word & 0xffff_ffff) * (u128::from(total) + 1);
            (product >> 32) as u64
        };
        let (one, other) = (lot(turn >> 32), lot(turn));
        let (mut first, mut second) = (None, None);
        let mut sum = 0u64;
        for (index, dest) in available() {
            sum = sum.saturating_add(u64::from(dest.weight()));
            if sum >= one && first.is_none() {
                first = Some((index, dest));
            }
            if sum >= other && second.is_none() {
                second = Some((index, dest));
            }
            if first.is_some() && second.is_some() {
                break;
            }
        }
        let ((index, first), (other, second)) = (first?, second?);
        let load = overhead(first).saturating_mul(u64::from(second.weight()));
        let less = overhead(second).saturating_mul(u64::from(first.weight())) < load;
        Some(Pick {
            index: if less { other } else { index },
            turn,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::testing::weighted;
    use super::super::testing::Dest;
    use super::super::testing::KEY;
    use super::*;

    fn picked(word: u64, dests: &[Dest]) -> usize {
        Twos.pick(word, dests, &[], &KEY).unwrap().index
    }

    #[test]
    fn of_two_choices_the_better_one_is_taken() {
        let mut dests = weighted(&[10, 10]);
        dests[0].active = 1;
        let (first, second) = (0, u64::from(u32::MAX));
        assert_eq!(picked(first << 32 | second, &dests), 1);
        assert_eq!(picked(second << 32 | first, &dests), 1);
        assert_eq!(picked(first << 32 | first, &dests), 0);
        dests[0].weight = 0;
        assert_eq!(picked(first << 32 | first, &dests), 1);
    }

    proptest! {
        #[test]
        fn lots_fall_by_weight(weights in vec(0..9_u32, 1..8), words in vec(any::<u32>(), 2000)) {
            let dests = weighted(&weights);
            let total = weights.iter().sum::<u32>();
            prop_assume!(total > 0);
            let mut counts = vec![0; weights.len()];
            for word in &words {
                // Both lots are the same, so the loads do not matter.
                counts[picked(u64::from(*word) << 32 | u64::from(*word), &dests)] += 1;
            }
            for (count, weight) in counts.iter().zip(&weights) {
                let fair = words.len() as u32 * weight / (total + 1);
                prop_assert!((*count as u32).abs_diff(fair) <= 200 + 2000 / (total + 1), "{:?}", counts);
                prop_assert!(*weight > 0 || *count == 0);
            }
        }

        /// With one choice the fullest of n servers has about ln n / ln ln n too many, with two
        /// ln ln n: that is the point.
        #[test]
        fn nobody_is_far_fuller_than_the_others(words in vec(any::<u64>(), 1000)) {
            let mut dests = weighted(&[1; 100]);
            for word in words {
                let index = picked(word, &dests);
                dests[index].active += 1;
            }
            let most = dests.iter().map(|dest| dest.active).max().unwrap();
            prop_assert!(most <= 10 + 5, "{most}");
        }
    }
}
