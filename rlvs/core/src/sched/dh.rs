// SPDX-License-Identifier: GPL-2.0

use super::hash::fold;
use super::hash::golden;
use super::hash::look_up;
use super::Candidate;
use super::Pick;
use super::Scheduler;
use super::Setup;
use crate::flow::FlowKey;

/// Places in the table.
const SIZE: u32 = 256;

/// Destination hashing: each address that clients ask for has one destination, whatever the
/// weights; if that takes no connections nobody does.
#[derive(Clone, Copy, Debug)]
pub struct Dh;

impl Scheduler for Dh {
    fn table_len(_dests: usize) -> usize {
        SIZE as usize
    }

    /// The destinations stand in the table one after the other, again and again.
    fn prepare<C: Candidate>(_setup: Setup, dests: &[C], table: &mut [u16]) -> Self {
        // CAST: There are no more places in the table.
        let round = 0..dests.len().min(table.len()) as u16;
        for (place, index) in table.iter_mut().zip(round.cycle()) {
            *place = index;
        }
        Self
    }

    /// There is no turn.
    #[inline]
    fn pick<C: Candidate>(
        &self,
        turn: u64,
        dests: &[C],
        table: &[u16],
        key: &FlowKey,
    ) -> Option<Pick> {
        let index = look_up(dests, table, SIZE, false, |_| golden(fold(key.service)))?;
        Some(Pick { index, turn })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::addr;
    use super::super::testing::dests;
    use super::super::testing::key;
    use super::super::testing::picked;
    use super::super::testing::prepared;
    use super::super::testing::weighted;
    use super::super::testing::SETUP;
    use super::*;

    #[test]
    fn everybody_has_the_same_share_whatever_the_weight() {
        let (_, table) = prepared::<Dh>(SETUP, &weighted(&[1, 100, 0]));
        let share = |index| table.iter().filter(|entry| **entry == index).count();
        assert_eq!([share(0), share(1), share(2)], [86, 85, 85]);
        let (_, table) = prepared::<Dh>(SETUP, &weighted(&[1; 300]));
        assert!(table.iter().copied().eq(0..256), "more do not fit");
    }

    proptest! {
        #[test]
        fn only_the_address_asked_for_decides(dests in dests(), one in key(), client in addr(), port: u16) {
            let other = FlowKey { client, client_port: port, service_port: port, ..one };
            let index = picked::<Dh>(SETUP, &dests, &one);
            prop_assert_eq!(index, picked::<Dh>(SETUP, &dests, &other));
        }

        #[test]
        fn only_whether_it_is_available_changes_it(dests in dests(), key in key()) {
            let all = weighted(&vec![1; dests.len()]);
            let expected = picked::<Dh>(SETUP, &all, &key).filter(|index| dests[*index].available());
            prop_assert_eq!(picked::<Dh>(SETUP, &dests, &key), expected);
        }
    }
}
