// SPDX-License-Identifier: GPL-2.0

use super::all;
use super::least;
use super::listed;
use super::overhead;
use super::Candidate;
use super::Pick;
use super::Scheduler;
use super::Setup;
use crate::flow::FlowKey;

/// Locality-based least connections: an address that clients ask for stays with one destination,
/// which so has its content at hand, as long as that is not too busy while others are idle.
///
/// The table names the destination that the address went to last, if that is remembered.
#[derive(Clone, Copy, Debug)]
pub struct Lblc;

impl Scheduler for Lblc {
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
        let last = listed(dests, table).next();
        let kept = last.filter(|(_, dest)| dest.available() && !is_too_busy(*dest, dests));
        let index = match kept {
            Some((index, _)) => index,
            None => least(all(dests), overhead, C::weight)?,
        };
        Some(Pick { index, turn })
    }
}

/// Whether it has more active connections than its weight says while another one has less than
/// half as many.
#[inline]
pub(super) fn is_too_busy<C: Candidate>(dest: &C, dests: &[C]) -> bool {
    dest.active() > dest.weight()
        && dests
            .iter()
            .any(|other| u64::from(other.active()).wrapping_mul(2) < u64::from(other.weight()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::dests;
    use super::super::testing::picked;
    use super::super::testing::weighted;
    use super::super::testing::KEY;
    use super::super::testing::SETUP;
    use super::super::Wlc;
    use super::*;

    #[test]
    fn an_address_stays_until_another_is_idle_enough() {
        let mut dests = weighted(&[10, 10]);
        let pick = |dests: &[_]| Lblc.pick(0, dests, &[0], &KEY).unwrap().index;
        dests[0].active = 10;
        assert_eq!(pick(&dests), 0, "it is full, not more than that");
        dests[0].active = 11;
        assert_eq!(pick(&dests), 1);
        dests[1].active = 5;
        assert_eq!(pick(&dests), 0, "the other one is half full");
        dests[0].overloaded = true;
        assert_eq!(pick(&dests), 1);
    }

    proptest! {
        #[test]
        fn it_stays_or_goes_to_the_least_loaded(dests in dests(), last in 0..14_u16) {
            let index = Lblc.pick(0, &dests, &[last], &KEY).map(|pick| pick.index);
            let wlc = picked::<Wlc>(SETUP, &dests, &KEY);
            let stays = dests.get(usize::from(last)).is_some_and(|dest| {
                dest.available() && (dest.active <= dest.weight
                    || dests.iter().all(|other| other.active >= other.weight.div_ceil(2)))
            });
            prop_assert_eq!(index, if stays { Some(last.into()) } else { wlc });
            prop_assert_eq!(picked::<Lblc>(SETUP, &dests, &KEY), wlc, "nothing is remembered");
        }
    }
}
