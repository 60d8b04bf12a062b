// SPDX-License-Identifier: GPL-2.0

//! A small address filter: is this packet possibly for one of our addresses?
//!
//! A set of [`BITS`] bits, one for each address by a cheap hash. An unset bit is a sure no, and
//! that is the answer for nearly everything a busy host forwards.

use crate::flow::Address;

/// Size of the filter, in bits.
pub const BITS: usize = 4096;
/// Size of the filter, in 64-bit words.
pub const WORDS: usize = BITS / 64;

/// Where an address's bit is: index of the word (below [`WORDS`]), and a word with that bit alone.
///
/// `seed` is random and fixed for a filter's life, so that nobody outside can choose addresses
/// that pass it.
#[inline]
pub fn slot<A: Address>(addr: A, seed: u32) -> (usize, u64) {
    // Fibonacci hashing: the upper bits of a product with 2^32 / phi spread neighbours best.
    let hash = (addr.fold() ^ seed).wrapping_mul(0x9e37_79b1) >> 20;
    ((hash >> 6) as usize, 1_u64.wrapping_shl(hash & 63))
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;
    use std::collections::HashSet;

    use super::*;

    fn slots(seed: u32, addrs: impl Iterator<Item = u32>) -> HashSet<(usize, u64)> {
        addrs.map(|addr| slot(Ipv4Addr::from(addr), seed)).collect()
    }

    #[test]
    fn every_slot_is_in_the_filter() {
        let all = slots(7, (0..1_000_000).map(|i: u32| i.wrapping_mul(0x0100_0193)));
        assert!(all
            .iter()
            .all(|(word, bit)| *word < WORDS && bit.count_ones() == 1));
        assert_eq!(all.len(), BITS);
    }

    #[test]
    fn neighbours_rarely_share_a_slot() {
        for seed in [0, 1, 0xdead_beef, u32::MAX, 0x5555_5555] {
            let subnet = slots(seed, (0..256).map(|host| 0xc000_0200 | host));
            assert!(
                subnet.len() >= 240,
                "{} of 256, seed {seed:#x}",
                subnet.len()
            );
            // The same host of many subnets.
            let hosts = slots(seed, (0..256).map(|net| 0x0a00_0001 | net << 8));
            assert!(hosts.len() >= 200, "{} of 256, seed {seed:#x}", hosts.len());
        }
    }

    #[test]
    fn who_passes_depends_on_the_seed() {
        let services = |seed| slots(seed, (0..64).map(|host| 0xc633_6400 | host));
        let passing = |seed: u32| -> HashSet<u32> {
            let set = services(seed);
            (0..65536)
                .map(|i| 0xcb00_7100 ^ i << 12)
                .filter(|addr| set.contains(&slot(Ipv4Addr::from(*addr), seed)))
                .collect()
        };
        let (one, other) = (passing(0x1234_5678), passing(0x9abc_def0));
        assert!(!one.is_empty() && one.len() < 65536 / 20, "{}", one.len());
        assert!(one.intersection(&other).count() < one.len() / 2);
    }
}
