// SPDX-License-Identifier: GPL-2.0

use super::Candidate;
use super::Pick;
use super::Scheduler;
use crate::flow::FlowKey;

/// Round robin: one destination after the other; the weight only says whether.
#[derive(Clone, Copy, Debug)]
pub struct Rr;

impl Scheduler for Rr {
    fn prepare<C: Candidate>(_dests: &[C]) -> Self {
        Self
    }

    /// The turn is the index where the search begins.
    #[inline]
    fn pick<C: Candidate>(&self, turn: u64, dests: &[C], _key: &FlowKey) -> Option<Pick> {
        let start = usize::try_from(turn).ok().filter(|&i| i < dests.len());
        let start = start.unwrap_or(0);
        let (before, behind) = dests.split_at_checked(start)?;
        let index = match behind.iter().position(C::available) {
            Some(i) => start.wrapping_add(i),
            None => before.iter().position(C::available)?,
        };
        Some(Pick {
            index,
            turn: (index as u64).wrapping_add(1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::run;
    use super::super::testing::weighted;
    use super::*;

    #[test]
    fn everybody_has_a_turn_whatever_the_weight() {
        assert_eq!(run::<Rr>(&weighted(&[1, 100, 7]), 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn whoever_takes_none_is_passed_over() {
        let mut dests = weighted(&[0, 1, 0, 1, 1]);
        dests[3].overloaded = true;
        assert_eq!(run::<Rr>(&dests, 5), [1, 4, 1, 4, 1]);
        assert_eq!(run::<Rr>(&weighted(&[0, 0]), 5), []);
        assert_eq!(run::<Rr>(&[], 5), []);
    }
}
