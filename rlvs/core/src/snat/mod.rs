// SPDX-License-Identifier: GPL-2.0

//! Local ports: which of an address's ports a new connection may take.
//!
//! The ports of one address that are taken towards one real server are a bitmap of 65536 bits,
//! in 1024 words of 64: port `p` is bit `p % 64` of word `p / 64`. Only words in which there is
//! something to find are worth touching, so a search asks for one word at a time.

/// Bits of a bitmap of all ports, in words.
pub const WORDS: usize = 1024;

/// A range of ports, both ends included.
///
/// # Invariants
///
/// `0 < min <= max`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortRange {
    min: u16,
    max: u16,
}

impl PortRange {
    /// Every port there is.
    pub const ALL: Self = Self {
        min: 1,
        max: u16::MAX,
    };

    /// The range from `min` to `max`; `None` if it is empty or begins with 0.
    pub fn new(min: u16, max: u16) -> Option<Self> {
        // INVARIANT: Checked here.
        (0 < min && min <= max).then_some(Self { min, max })
    }

    /// The lowest port.
    #[inline]
    pub fn min(&self) -> u16 {
        self.min
    }

    /// The highest port.
    #[inline]
    pub fn max(&self) -> u16 {
        self.max
    }

    /// Whether `port` is in it.
    #[inline]
    pub fn contains(&self, port: u16) -> bool {
        self.min <= port && port <= self.max
    }
}

/// Where a port's bit is: index of the word, and a word with that bit alone.
#[inline]
pub fn position(port: u16) -> (usize, u64) {
    (
        usize::from(port >> 6),
        1_u64.wrapping_shl(u32::from(port & 63)),
    )
}

/// The port of bit `bit` (0 to 63) in word `word` (below [`WORDS`]).
#[inline]
pub fn port(word: usize, bit: u8) -> u16 {
    ((word as u16) << 6) | u16::from(bit & 63)
}

/// The lowest bit that is allowed and not set.
#[inline]
pub fn first_free(word: u64, allowed: u64) -> Option<u8> {
    match allowed & !word {
        0 => None,
        free => Some(free.trailing_zeros() as u8),
    }
}

/// The words of a bitmap in the order in which to look for a free port.
///
/// Each item is the index of a word and which of its bits are wanted, never none. Together they
/// are every port of the range exactly once, upwards from the start and round to below it, in
/// at most 1025 items.
#[derive(Clone, Debug)]
pub struct Probe {
    at: u32,
    end: u32,
    second: Option<(u32, u32)>,
}

impl Probe {
    /// Starts at `start`, or at the lowest port if the range does not have that one.
    #[inline]
    pub fn new(range: PortRange, start: u16) -> Self {
        let start = if range.contains(start) {
            start
        } else {
            range.min
        };
        Self {
            at: u32::from(start),
            end: u32::from(range.max).wrapping_add(1),
            second: Some((u32::from(range.min), u32::from(start))),
        }
    }
}

impl Iterator for Probe {
    type Item = (usize, u64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            (self.at, self.end) = self.second.take()?;
            if self.at >= self.end {
                return None;
            }
        }
        let base = self.at & !63;
        let from = u64::MAX.wrapping_shl(self.at & 63);
        let below = match self.end.wrapping_sub(base) {
            n @ 0..64 => 1_u64.wrapping_shl(n).wrapping_sub(1),
            _ => u64::MAX,
        };
        self.at = base.wrapping_add(64);
        Some(((base >> 6) as usize, from & below))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range() -> impl Strategy<Value = PortRange> {
        let end = || prop_oneof![1..=u16::MAX, 1..=200_u16, 65300..=u16::MAX];
        (end(), end()).prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap())
    }

    fn ports(probe: Probe) -> Vec<u16> {
        let bits = |(word, mask): (usize, u64)| {
            (0..64)
                .filter(move |bit| mask >> bit & 1 == 1)
                .map(move |bit| port(word, bit))
        };
        probe.flat_map(bits).collect()
    }

    #[test]
    fn a_range_is_not_empty_and_has_no_port_zero() {
        assert_eq!(PortRange::new(0, 10), None);
        assert_eq!(PortRange::new(10, 9), None);
        assert_eq!(ports(Probe::new(PortRange::new(9, 9).unwrap(), 0)), [9]);
        assert_eq!(PortRange::new(1, 65535), Some(PortRange::ALL));
    }

    proptest! {
        #[test]
        fn every_port_is_probed_once_upwards_from_the_start(range in range(), start in any::<u16>()) {
            let probe = Probe::new(range, start);
            prop_assert!(probe.clone().count() <= 1025);
            prop_assert!(probe.clone().all(|(word, mask)| word < WORDS && mask != 0));
            let inside = (range.min()..=range.max()).contains(&start);
            let start = if inside { start } else { range.min() };
            let expected: Vec<u16> = (start..=range.max()).chain(range.min()..start).collect();
            prop_assert_eq!(ports(probe), expected);
        }

        #[test]
        fn a_port_has_its_own_bit(p in any::<u16>(), other in any::<u16>()) {
            let (word, mask) = position(p);
            prop_assert!(word < WORDS);
            prop_assert_eq!(mask.count_ones(), 1);
            prop_assert_eq!(port(word, mask.trailing_zeros() as u8), p);
            prop_assert_eq!(position(other) == (word, mask), other == p);
        }

        #[test]
        fn the_first_free_bit_is_free_and_allowed(word in any::<u64>(), allowed in any::<u64>()) {
            let free: Vec<u8> = (0..64).filter(|b| !word >> b & allowed >> b & 1 == 1).collect();
            prop_assert_eq!(first_free(word, allowed), free.first().copied());
        }

        #[test]
        fn ports_are_all_given_before_none_is_left(
            range in (1..=60000_u16, 0..300_u16).prop_map(|(min, n)| PortRange::new(min, min + n).unwrap()),
            starts in proptest::collection::vec(any::<u16>(), 310),
        ) {
            let mut taken = vec![0_u64; WORDS];
            let mut given = Vec::new();
            for start in starts {
                let found = Probe::new(range, range.min() + start % 310)
                    .find_map(|(word, allowed)| Some(port(word, first_free(taken[word], allowed)?)));
                if let Some(port) = found {
                    let (word, mask) = position(port);
                    prop_assert_eq!(taken[word] & mask, 0);
                    taken[word] |= mask;
                    given.push(port);
                }
            }
            given.sort_unstable();
            prop_assert_eq!(given, (range.min()..=range.max()).collect::<Vec<_>>());
        }
    }
}
