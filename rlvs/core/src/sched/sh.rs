// SPDX-License-Identifier: GPL-2.0

use super::all;
use super::hash::fold;
use super::hash::golden;
use super::hash::look_up;
use super::Candidate;
use super::Pick;
use super::Scheduler;
use super::Setup;
use crate::flow::FlowKey;
use crate::uapi::svc_flag;

/// Places in the table.
const SIZE: u32 = 256;

/// Source hashing: each client has one destination; the weight says how many clients it gets. If it
/// takes no connections nobody does, unless the service falls back to another one.
#[derive(Clone, Copy, Debug)]
pub struct Sh {
    fallback: bool,
    port: bool,
}

impl Scheduler for Sh {
    fn table_len(_dests: usize) -> usize {
        SIZE as usize
    }

    /// The destinations stand in the table one after the other, each as often as its weight says and
    /// at least once, again and again.
    fn prepare<C: Candidate>(setup: Setup, dests: &[C], table: &mut [u16]) -> Self {
        let mut places = table.iter_mut();
        while !dests.is_empty() && places.len() > 0 {
            for (index, dest) in all(dests) {
                let run = places.by_ref().take(dest.weight().max(1) as usize);
                // CAST: There are no more places in the table.
                run.for_each(|place| *place = index as u16);
            }
        }
        Self {
            fallback: setup.flags & svc_flag::SCHED1 != 0,
            port: setup.flags & svc_flag::SCHED2 != 0,
        }
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
        let port = if self.port { key.client_port } else { 0 };
        let hash = golden(fold(key.client).wrapping_add(port.into()));
        let place = |offset: u32| hash.wrapping_add(offset) % SIZE;
        let index = look_up(dests, table, SIZE, self.fallback, place)?;
        Some(Pick { index, turn })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::testing::addr;
    use super::super::testing::dests;
    use super::super::testing::key;
    use super::super::testing::picked;
    use super::super::testing::prepared;
    use super::super::testing::weighted;
    use super::super::testing::SETUP;
    use super::*;

    const FALLBACK: Setup = Setup {
        flags: svc_flag::SCHED1,
        ..SETUP
    };
    const PORT: Setup = Setup {
        flags: svc_flag::SCHED2,
        ..SETUP
    };

    proptest! {
        #[test]
        fn places_are_shared_by_weight(weights in vec(1..9_u32, 1..8)) {
            let (_, table) = prepared::<Sh>(SETUP, &weighted(&weights));
            let rounds = SIZE / weights.iter().sum::<u32>();
            for (index, weight) in weights.iter().enumerate() {
                let share = table.iter().filter(|entry| usize::from(**entry) == index).count() as u32;
                prop_assert!((rounds * weight..=(rounds + 1) * weight).contains(&share));
            }
        }

        #[test]
        fn only_the_client_decides(dests in dests(), one in key(), service in addr(), port: u16) {
            let other = FlowKey { service, service_port: port, ..one };
            let index = picked::<Sh>(PORT, &dests, &one);
            prop_assert_eq!(index, picked::<Sh>(PORT, &dests, &other));
            let other = FlowKey { client_port: port, ..other };
            prop_assert_eq!(picked::<Sh>(SETUP, &dests, &one), picked::<Sh>(SETUP, &dests, &other));
        }

        #[test]
        fn the_port_spreads_a_client(one in key()) {
            let dests = weighted(&[1; 2]);
            let pick = |client_port| picked::<Sh>(PORT, &dests, &FlowKey { client_port, ..one });
            prop_assert!((0..64).any(|port| pick(port) == Some(0)) && (0..64).any(|port| pick(port) == Some(1)));
        }

        #[test]
        fn falling_back_changes_nothing_for_others(
            weights in vec(1..9_u32, 2..8), full in vec(any::<bool>(), 8), key in key(),
        ) {
            let before = weighted(&weights);
            let mut dests = before.clone();
            for (dest, full) in dests.iter_mut().zip(full) {
                dest.overloaded = full;
            }
            let first = picked::<Sh>(SETUP, &before, &key).unwrap();
            let fallen = picked::<Sh>(FALLBACK, &dests, &key);
            if dests[first].available() {
                prop_assert_eq!(fallen, Some(first));
            } else {
                prop_assert_eq!(picked::<Sh>(SETUP, &dests, &key), None);
                prop_assert_eq!(fallen.is_some(), dests.iter().any(Candidate::available));
            }
        }
    }
}
