// SPDX-License-Identifier: GPL-2.0

use super::Candidate;
use super::Change;
use super::Pick;
use super::Scheduler;
use super::Setup;
use crate::flow::FlowKey;

/// Round robin: one destination after the other; the weight only says whether.
#[derive(Clone, Copy, Debug)]
pub struct Rr;

impl Scheduler for Rr {
    fn prepare<C: Candidate>(_setup: Setup, _dests: &[C], _table: &mut [u16]) -> Self {
        Self
    }

    /// The one behind whom the search begins is still the same; if it is gone, the one before it.
    fn turn_after(&self, turn: u64, change: Change) -> u64 {
        match change {
            Change::Added if turn > 0 => turn.wrapping_add(1),
            Change::Removed(index) if (index as u64) < turn => turn.wrapping_sub(1),
            _ => turn,
        }
    }

    /// The turn is the index where the search begins.
    #[inline]
    fn pick<C: Candidate>(
        &self,
        turn: u64,
        dests: &[C],
        _table: &[u16],
        _key: &FlowKey,
    ) -> Option<Pick> {
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
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::testing::run;
    use super::super::testing::weighted;
    use super::super::testing::KEY;
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

    proptest! {
        /// As mainline does it, whose turn is a link of the list: 0 is the list's head.
        #[test]
        fn the_round_goes_on_where_it_was(steps in vec((0..5_u32, any::<prop::sample::Index>()), 1..60)) {
            let (mut list, mut last, mut turn, mut number) = (Vec::new(), 0, 0, 0);
            for (step, which) in steps {
                if step == 0 {
                    number += 1;
                    list.insert(0, number);
                    turn = Rr.turn_after(turn, Change::Added);
                } else if step == 1 && !list.is_empty() {
                    let at = which.index(list.len());
                    if list.remove(at) == last {
                        last = if at == 0 { 0 } else { list[at - 1] };
                    }
                    turn = Rr.turn_after(turn, Change::Removed(at));
                } else if let Some(pick) = Rr.pick(turn, &weighted(&vec![1; list.len()]), &[], &KEY) {
                    let behind = list.iter().position(|one| *one == last).map_or(0, |at| at + 1);
                    last = list[behind % list.len()];
                    prop_assert_eq!(list[pick.index], last);
                    turn = pick.turn;
                }
            }
        }
    }
}
