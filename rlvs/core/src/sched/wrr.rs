// SPDX-License-Identifier: GPL-2.0

use super::Candidate;
use super::Change;
use super::Pick;
use super::Scheduler;
use super::Setup;
use crate::flow::FlowKey;

/// Weighted round robin, interleaved: as many connections as the weight says, well mixed.
///
/// It goes round the destinations with a *level*: in one round it takes each whose weight
/// reaches the level, then the level sinks by the greatest common divisor of all weights, and
/// from the lowest it rises to the highest again.
///
/// # Invariants
///
/// `step > 0`; `top` is 0, or the highest level that a weight reaches and at least 1.
#[derive(Clone, Copy, Debug)]
pub struct Wrr {
    step: u32,
    top: u32,
}

impl Scheduler for Wrr {
    fn prepare<C: Candidate>(_setup: Setup, dests: &[C], _table: &mut [u16]) -> Self {
        let divisor = dests.iter().fold(0, |g, dest| gcd(g, dest.weight()));
        let step = divisor.max(1);
        let heaviest = dests.iter().map(C::weight).max().unwrap_or(0);
        // INVARIANT: The divisor of all weights is no greater than the heaviest; if all are 0, so
        // is `top`.
        Self {
            step,
            top: heaviest.saturating_sub(step.wrapping_sub(1)),
        }
    }

    fn first_turn(&self) -> u64 {
        u64::from(self.top)
    }

    /// The round begins anew, at the level where it was as far as there is one.
    fn turn_after(&self, turn: u64, _change: Change) -> u64 {
        // CAST: The low half is meant.
        let level = (turn & 0xffff_ffff) as u32;
        if level == 0 || level > self.top {
            return self.first_turn();
        }
        let steps = level.checked_div(self.step).unwrap_or(0);
        u64::from(if self.step > 1 {
            steps.wrapping_mul(self.step).wrapping_add(1)
        } else {
            level
        })
    }

    /// The turn is the index where the search begins, and the level below it.
    #[inline]
    fn pick<C: Candidate>(
        &self,
        turn: u64,
        dests: &[C],
        _table: &[u16],
        _key: &FlowKey,
    ) -> Option<Pick> {
        let start = usize::try_from(turn >> 32)
            .ok()
            .filter(|&i| i <= dests.len());
        let start = start.unwrap_or(0);
        let mut level = (turn & 0xffff_ffff) as u32;
        if level == 0 {
            level = self.top;
        }

        let reaches = |dest: &C, level| dest.available() && dest.weight() >= level;
        let rest = dests.get(start..)?;
        let index = match rest.iter().position(|dest| reaches(dest, level)) {
            Some(i) => start.wrapping_add(i),
            None => {
                level = match level.saturating_sub(self.step) {
                    0 => self.top,
                    lower => lower,
                };
                // Levels that nobody available reaches are empty rounds: with one heavy
                // destination overloaded there may be thousands of them.
                let heaviest = dests.iter().filter(|dest| dest.available());
                let heaviest = heaviest.map(C::weight).max()?;
                let highest = heaviest.saturating_sub(self.step.wrapping_sub(1)).max(1);
                level = level.min(highest);
                dests.iter().position(|dest| reaches(dest, level))?
            }
        };
        Some(Pick {
            index,
            turn: (index as u64).wrapping_add(1) << 32 | u64::from(level),
        })
    }
}

/// Greatest common divisor; that of 0 and `b` is `b`.
pub(super) fn gcd(mut a: u32, mut b: u32) -> u32 {
    while let Some(rest) = a.checked_rem(b) {
        (a, b) = (b, rest);
    }
    a
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::testing::prepared;
    use super::super::testing::run;
    use super::super::testing::weighted;
    use super::super::testing::Dest;
    use super::super::testing::KEY;
    use super::super::testing::SETUP;
    use super::*;

    /// Interleaved weighted round robin as it is usually told: round after round, level by level.
    fn told(dests: &[Dest], count: usize) -> Vec<usize> {
        let divisor = i64::from(dests.iter().fold(0, |g, dest| gcd(g, dest.weight)));
        let top = dests
            .iter()
            .map(|dest| i64::from(dest.weight))
            .max()
            .unwrap_or(0);
        let mut order = Vec::new();
        if !dests.iter().any(Candidate::available) {
            return order;
        }
        loop {
            let mut level = top;
            while level > 0 {
                for (index, dest) in dests.iter().enumerate() {
                    if !dest.overloaded && i64::from(dest.weight) >= level {
                        order.push(index);
                        if order.len() == count {
                            return order;
                        }
                    }
                }
                level -= divisor;
            }
        }
    }

    #[test]
    fn four_three_two_is_interleaved() {
        let order = run::<Wrr>(&weighted(&[4, 3, 2]), 9);
        assert_eq!(order, [0, 0, 1, 0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_common_divisor_makes_no_runs() {
        assert_eq!(run::<Wrr>(&weighted(&[200, 100]), 6), [0, 0, 1, 0, 0, 1]);
        assert_eq!(run::<Wrr>(&weighted(&[100, 100]), 4), [0, 1, 0, 1]);
    }

    #[test]
    fn weight_zero_takes_none() {
        assert_eq!(run::<Wrr>(&weighted(&[0, 5, 0]), 3), [1, 1, 1]);
        assert_eq!(run::<Wrr>(&weighted(&[0, 0]), 3), []);
        assert_eq!(run::<Wrr>(&[], 3), []);
    }

    #[test]
    fn heavy_and_overloaded_costs_no_search() {
        let mut dests = weighted(&[u32::MAX, 1, 1]);
        dests[0].overloaded = true;
        // Level by level this would never end.
        assert_eq!(run::<Wrr>(&dests, 5), [1, 2, 1, 2, 1]);
    }

    proptest! {
        #[test]
        fn shares_are_exactly_the_weights(weights in vec(0..50_u32, 1..10)) {
            let divisor = weights.iter().fold(0, |g, weight| gcd(g, *weight));
            prop_assume!(divisor > 0);
            let cycle = weights.iter().sum::<u32>() / divisor;
            let order = run::<Wrr>(&weighted(&weights), 3 * cycle as usize);
            for (index, weight) in weights.iter().enumerate() {
                let share = order.iter().filter(|picked| **picked == index).count();
                prop_assert_eq!(share as u32, 3 * weight / divisor);
            }
        }

        #[test]
        fn order_is_that_of_the_textbook(
            weights in vec(prop_oneof![0..9_u32, (0..9_u32).prop_map(|w| 30 * w)], 0..8),
            overloaded in vec(any::<bool>(), 8),
        ) {
            let mut dests = weighted(&weights);
            for (dest, overloaded) in dests.iter_mut().zip(overloaded) {
                dest.overloaded = overloaded;
            }
            prop_assert_eq!(run::<Wrr>(&dests, 100), told(&dests, 100));
        }

        /// As mainline does it, which has a mark instead of a turn: where it was in the list, 0 for
        /// the list's head, and at which level.
        #[test]
        fn a_change_begins_a_round_at_the_level_that_was(
            steps in vec((0..8_u32, prop_oneof![0..9_u32, Just(50), Just(100)], any::<prop::sample::Index>()), 1..60),
        ) {
            let mut weights: Vec<u32> = Vec::new();
            let mut wrr = prepared::<Wrr>(SETUP, &[]).0;
            let mut turn = wrr.first_turn();
            let (mut at, mut level) = (0, 0);
            for (step, weight, which) in steps {
                let change = match step {
                    0 | 1 => {
                        weights.insert(0, weight);
                        Change::Added
                    }
                    2 if !weights.is_empty() => {
                        let index = which.index(weights.len());
                        weights.remove(index);
                        Change::Removed(index)
                    }
                    3 if !weights.is_empty() => {
                        let index = which.index(weights.len());
                        weights[index] = weight;
                        Change::Edited
                    }
                    _ => {
                        let dests = weighted(&weights);
                        let step = weights.iter().fold(0, |g, weight| gcd(g, *weight));
                        let step = i64::from(step.max(1));
                        let top = i64::from(weights.iter().copied().max().unwrap_or(0)) - (step - 1);
                        let pick = wrr.pick(turn, &dests, &[], &KEY);
                        prop_assert_eq!(pick.is_some(), top > 0);
                        if let Some(pick) = pick {
                            loop {
                                let rest = weights.iter().skip(at).position(|w| i64::from(*w) >= level);
                                if let Some(found) = rest {
                                    at += found + 1;
                                    break;
                                }
                                at = 0;
                                level -= step;
                                if level <= 0 {
                                    level = top;
                                }
                            }
                            prop_assert_eq!(pick.index + 1, at);
                            turn = pick.turn;
                        }
                        continue;
                    }
                };
                wrr = prepared::<Wrr>(SETUP, &weighted(&weights)).0;
                turn = wrr.turn_after(turn, change);
                let step = weights.iter().fold(0, |g, weight| gcd(g, *weight));
                let step = i64::from(step.max(1));
                let top = i64::from(weights.iter().copied().max().unwrap_or(0)) - (step - 1);
                at = 0;
                if level > top || level == 0 {
                    level = top;
                } else if step > 1 {
                    level = level / step * step + 1;
                }
            }
        }
    }
}
