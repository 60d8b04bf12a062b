// SPDX-License-Identifier: GPL-2.0

use core::net::IpAddr;

use super::hash::fold;
use super::hash::hsiphash;
use super::hash::look_up;
use super::hash::words;
use super::wrr::gcd;
use super::Candidate;
use super::Pick;
use super::Scheduler;
use super::Setup;
use super::NOBODY;
use crate::flow::Family;
use crate::flow::FlowKey;
use crate::uapi::svc_flag;

/// Places in the table, a prime number: mainline's default, and what distributions build.
const SIZE: u32 = 4093;
/// Weights are cut to so many bits.
const WEIGHT_BITS: u32 = 6;
/// Words of each destination behind the table, while it is being filled: the place it wants next,
/// how far it is to the one after that, how many it takes in a row.
const WISH: usize = 3;

/// Maglev hashing: each client has one destination, of the greater weights more clients. If a
/// destination goes, its clients are shared out and few others move.
///
/// The keys of the hash are fixed: every director that has the same destinations, added in the same
/// order, chooses the same for a client. That is so for ip_vs too.
///
/// Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", 3.4.
#[derive(Clone, Copy, Debug)]
pub struct Mh {
    fallback: bool,
    port: bool,
}

/// The first key, of the place that a destination wants first and of clients.
const FIRST: [u64; 2] = [2_654_435_761; 2];
/// The second key, of how far it is from one place that a destination wants to the next.
const SKIP: [u64; 2] = [2_654_446_892; 2];

impl Scheduler for Mh {
    fn table_len(dests: usize) -> usize {
        dests.saturating_mul(WISH).saturating_add(SIZE as usize)
    }

    fn prepare<C: Candidate>(setup: Setup, dests: &[C], table: &mut [u16]) -> Self {
        // A weight that is 0 for a while takes no place away: who comes back finds its clients.
        let divisor = dests.iter().fold(0, |g, dest| gcd(g, dest.last_weight()));
        let heaviest = dests.iter().map(C::last_weight).max().unwrap_or(0);
        let bits = heaviest
            .checked_div(divisor)
            .map_or(0, |most| u32::BITS.wrapping_sub(most.leading_zeros()));
        let shift = bits.saturating_sub(WEIGHT_BITS);
        if let Some((places, wishes)) = table.split_at_mut_checked(SIZE as usize) {
            for (dest, wish) in dests.iter().zip(wishes.chunks_exact_mut(WISH)) {
                let name = name(setup.family, dest);
                let weight = dest.last_weight();
                let turns = weight.checked_div(divisor).unwrap_or(0) >> shift;
                let values = [
                    hsiphash(name, FIRST) % SIZE,
                    hsiphash(name, SKIP) % (SIZE - 1) + 1,
                    turns.max(u32::from(weight > 0)),
                ];
                for (word, value) in wish.iter_mut().zip(values) {
                    // CAST: Below `SIZE`, or of `WEIGHT_BITS`.
                    *word = value as u16;
                }
            }
            populate(places, wishes);
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
        let name = fold(key.client).wrapping_add(port.into());
        let place = |offset: u32| hsiphash(name.wrapping_add(offset), FIRST) % SIZE;
        let index = look_up(dests, table, SIZE, self.fallback, place)?;
        Some(Pick { index, turn })
    }
}

/// What a destination is hashed by. One of IPv6 in a service of IPv4 is known by its first word.
fn name<C: Candidate>(family: Family, dest: &C) -> u32 {
    let folded = match (family, dest.addr()) {
        (Family::V4, IpAddr::V6(addr)) => {
            let [first, ..] = words(addr.to_bits());
            first
        }
        (_, addr) => fold(addr),
    };
    folded.wrapping_add(dest.port().into())
}

/// Has the destinations take places, one after the other, until all are taken.
fn populate(places: &mut [u16], wishes: &mut [u16]) {
    let is_wanted = |wish: &[u16]| matches!(wish, [_, _, turns] if *turns > 0);
    if !wishes.chunks_exact(WISH).any(is_wanted) {
        return;
    }
    let mut left = places.len();
    loop {
        // The last number is `NOBODY`'s.
        for (index, wish) in (0..NOBODY).zip(wishes.chunks_exact_mut(WISH)) {
            let [place, skip, turns] = wish else {
                continue;
            };
            for _ in 0..*turns {
                // `SIZE` is prime, so each place comes up.
                while places
                    .get(usize::from(*place))
                    .is_some_and(|at| *at != NOBODY)
                {
                    // CAST: Below `SIZE`.
                    *place = ((u32::from(*place) + u32::from(*skip)) % SIZE) as u16;
                }
                if let Some(at) = places.get_mut(usize::from(*place)) {
                    *at = index;
                }
                left = left.wrapping_sub(1);
                if left == 0 {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use proptest::collection::btree_set;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::testing::addr;
    use super::super::testing::dests;
    use super::super::testing::key;
    use super::super::testing::picked;
    use super::super::testing::prepared;
    use super::super::testing::weighted;
    use super::super::testing::Dest;
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
    const PLACES: usize = SIZE as usize;

    /// Whose each place is.
    fn places(dests: &[Dest]) -> Vec<u16> {
        let (_, mut table) = prepared::<Mh>(SETUP, dests);
        table.truncate(PLACES);
        table
    }

    /// How many places each has.
    fn shares(dests: &[Dest]) -> Vec<usize> {
        let mut shares = vec![0; dests.len()];
        for index in places(dests) {
            shares[usize::from(index)] += 1;
        }
        shares
    }

    /// Destinations of the same weight at any addresses.
    fn equals(count: core::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<Dest>> {
        // A set of another kind would have another order each time it is made from the same seed.
        let addrs = btree_set(any::<u32>(), count).prop_map(Vec::from_iter);
        addrs.prop_shuffle().prop_map(|addrs| {
            let dest = |bits| Dest {
                addr: Ipv4Addr::from_bits(bits).into(),
                weight: 1,
                last_weight: 1,
                ..Dest::default()
            };
            addrs.into_iter().map(dest).collect()
        })
    }

    /// How many places have another destination, though theirs is still there, once that one is gone.
    fn moved(dests: &[Dest], gone: usize) -> usize {
        let mut fewer = dests.to_vec();
        fewer.remove(gone);
        let before = places(dests).into_iter().map(usize::from);
        let after = places(&fewer).into_iter().map(usize::from);
        let stays = |(before, after): &(usize, usize)| {
            *before == gone || *before - usize::from(*before > gone) == *after
        };
        before.zip(after).filter(|both| !stays(both)).count()
    }

    #[test]
    fn without_weight_there_are_no_places() {
        assert_eq!(places(&[]), [NOBODY; PLACES]);
        assert_eq!(places(&weighted(&[0, 0])), [NOBODY; PLACES]);
    }

    #[test]
    fn a_pause_takes_no_place_away() {
        let mut dests = weighted(&[3, 1, 2]);
        let before = places(&dests);
        dests[0].weight = 0;
        assert_eq!(places(&dests), before);
    }

    #[test]
    fn another_family_is_known_by_its_first_word() {
        let mut dests = weighted(&[1, 1, 1]);
        let before = places(&dests);
        dests[1].addr = "a02:2:77::1".parse().unwrap();
        assert_eq!(places(&dests), before);
        let setup = Setup {
            family: Family::V6,
            ..SETUP
        };
        let (_, table) = prepared::<Mh>(setup, &dests);
        assert_ne!(table[..PLACES], before);
    }

    /// The paper's rule for the size of the table: a hundred times as many places as destinations
    /// keep them within a percent of each other (3.4).
    #[test]
    fn nobody_has_a_percent_more_than_the_fair_share() {
        for count in 1..=40 {
            let shares = shares(&weighted(&vec![1; count]));
            let most = shares.iter().max().unwrap();
            assert!(most * count * 100 <= PLACES * 101, "{count}: {most}");
        }
    }

    /// Of its 5.3: hardly anybody moves but who has to. At the same size of the table a modulus would
    /// move 39 of 40.
    #[test]
    fn of_forty_one_goes_and_a_twenty_fifth_moves() {
        let dests = weighted(&[1; 40]);
        let sum: usize = (0..40).map(|gone| moved(&dests, gone)).sum();
        assert!(sum / 40 * 25 <= PLACES, "{sum}");
    }

    proptest! {
        #[test]
        fn shares_of_equals_differ_by_one(dests in equals(1..=300)) {
            let shares = shares(&dests);
            let (most, least) = (shares.iter().max().unwrap(), shares.iter().min().unwrap());
            prop_assert!(most - least <= 1);
        }

        #[test]
        fn shares_are_as_weights(weights in vec(0..64_u32, 1..12), times in prop_oneof![Just(1), Just(1000)]) {
            let sum = weights.iter().sum::<u32>();
            prop_assume!(sum > 0);
            let scaled: Vec<_> = weights.iter().map(|weight| weight * times).collect();
            for (share, weight) in shares(&weighted(&scaled)).into_iter().zip(weights) {
                let fair = (SIZE * weight / sum) as usize;
                // The last of the rounds is not a whole one.
                prop_assert!(share.abs_diff(fair) <= weight as usize + 1);
            }
        }

        #[test]
        fn few_move_when_one_goes(dests in equals(2..=40), gone in any::<prop::sample::Index>()) {
            let moved = moved(&dests, gone.index(dests.len()));
            // Of some eight servers that prefer nearly the same places a sixth has been seen to move.
            prop_assert!(moved * 4 <= PLACES);
        }

        #[test]
        fn only_the_client_decides(dests in dests(), one in key(), service in addr(), port: u16) {
            let other = FlowKey { service, service_port: port, ..one };
            let index = picked::<Mh>(PORT, &dests, &one);
            prop_assert_eq!(index, picked::<Mh>(PORT, &dests, &other));
            let other = FlowKey { client_port: port, ..other };
            prop_assert_eq!(picked::<Mh>(SETUP, &dests, &one), picked::<Mh>(SETUP, &dests, &other));
        }

        #[test]
        fn the_port_spreads_a_client(one in key()) {
            let dests = weighted(&[1; 2]);
            let pick = |client_port| picked::<Mh>(PORT, &dests, &FlowKey { client_port, ..one });
            prop_assert!((0..64).any(|port| pick(port) == Some(0)) && (0..64).any(|port| pick(port) == Some(1)));
        }

        #[test]
        fn falling_back_changes_nothing_for_others(
            before in equals(2..=20), full in vec(any::<bool>(), 20), key in key(),
        ) {
            let mut dests = before.clone();
            for (dest, full) in dests.iter_mut().zip(full) {
                dest.overloaded = full;
            }
            let first = picked::<Mh>(SETUP, &before, &key).unwrap();
            let fallen = picked::<Mh>(FALLBACK, &dests, &key);
            if dests[first].available() {
                prop_assert_eq!(fallen, Some(first));
            } else {
                prop_assert_eq!(picked::<Mh>(SETUP, &dests, &key), None);
                // As many places are tried as there are, so one of a twentieth of them is found.
                prop_assert_eq!(fallen.is_some(), dests.iter().any(Candidate::available));
            }
        }
    }
}
