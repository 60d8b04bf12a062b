// SPDX-License-Identifier: GPL-2.0

//! The Internet checksum: whole (RFC 1071) and incremental (RFC 1624, equation 3).
//!
//! A *sum* is an unfolded one's complement sum of 16-bit words; a *checksum* is the complement
//! of the folded sum, as it stands in a header. Words are read in network order.

use core::net::Ipv4Addr;
use core::net::Ipv6Addr;

/// How much of the transport checksum stands in the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum L4Checksum {
    /// The field is a complete checksum.
    Full,
    /// The field is the folded sum of the pseudo header, not complemented; the device completes
    /// it (`CHECKSUM_PARTIAL`). Changes inside the segment do not concern it.
    Partial,
}

/// The sum of `bytes`; an odd last byte counts as if a zero followed.
///
/// Sums of several parts may be added if all parts but the last have an even length.
#[inline]
pub fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(2);
    let mut sum: u64 = 0;
    for word in &mut words {
        if let &[high, low] = word {
            sum = sum.wrapping_add(u64::from(u16::from_be_bytes([high, low])));
        }
    }
    if let &[high] = words.remainder() {
        sum = sum.wrapping_add(u64::from(high) << 8);
    }
    sum
}

/// Folds a sum into 16 bits with end-around carry.
#[inline]
pub fn fold(sum: u64) -> u16 {
    // Added to itself with its halves exchanged, the upper half is the sum of both with the carry that went
    // out of it at the top.
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// What a series of edits does to a checksum.
///
/// Every edit concerns bytes at an even offset of what the checksum covers.
// The sum is that of words as they lie in memory, which is another one with its bytes exchanged: what is read from
// a packet and written into it is in no other order on the way.
#[derive(Clone, Copy, Default, Debug)]
#[must_use]
pub struct Delta(u64);

impl Delta {
    /// No edit yet.
    #[inline]
    pub fn new() -> Self {
        Self(0)
    }

    /// A 16-bit field changes from `old` to `new`.
    #[inline]
    pub fn u16(self, old: u16, new: u16) -> Self {
        self.add(u64::from(!old.to_be()))
            .add(u64::from(new.to_be()))
    }

    /// A 32-bit field changes from `old` to `new`.
    #[inline]
    pub fn u32(self, old: u32, new: u32) -> Self {
        self.add(u64::from(!old.to_be()))
            .add(u64::from(new.to_be()))
    }

    /// An IPv4 address changes from `old` to `new`.
    #[inline]
    pub fn addr(self, old: Ipv4Addr, new: Ipv4Addr) -> Self {
        self.u32(u32::from(old), u32::from(new))
    }

    /// An IPv6 address changes from `old` to `new`.
    #[inline]
    pub fn addr6(self, old: Ipv6Addr, new: Ipv6Addr) -> Self {
        let words = |addr: Ipv6Addr| {
            let bits = u128::from_ne_bytes(addr.octets());
            // CAST: A word each.
            [
                bits as u32,
                (bits >> 32) as u32,
                (bits >> 64) as u32,
                (bits >> 96) as u32,
            ]
        };
        let old = words(old).map(|word| u64::from(!word));
        let new = words(new).map(u64::from);
        old.into_iter().chain(new).fold(self, Self::add)
    }

    /// Bytes appear. If their number is odd, they are the last ones.
    #[inline]
    pub fn append(self, bytes: &[u8]) -> Self {
        self.add(u64::from(fold(sum(bytes)).to_be()))
    }

    /// Bytes disappear. If their number is odd, they were the last ones.
    #[inline]
    pub fn remove(self, bytes: &[u8]) -> Self {
        self.add(u64::from(!fold(sum(bytes)).to_be()))
    }

    /// The edits of both.
    #[inline]
    pub fn and(self, other: Self) -> Self {
        self.add(other.0)
    }

    /// The checksum after the edits.
    #[inline]
    pub fn apply(self, checksum: u16) -> u16 {
        u16::from_be(!fold(self.0.wrapping_add(u64::from(!checksum.to_be()))))
    }

    /// The uncomplemented sum of [`L4Checksum::Partial`] after edits of the pseudo header.
    #[inline]
    pub fn apply_partial(self, field: u16) -> u16 {
        u16::from_be(fold(self.0.wrapping_add(u64::from(field.to_be()))))
    }

    // One edit adds less than 2^33: the sum could wrap after 2^31 edits, which no packet has.
    #[inline]
    fn add(self, sum: u64) -> Self {
        Self(self.0.wrapping_add(sum))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::testing;
    use super::*;

    proptest! {
        #[test]
        fn sum_is_that_of_rfc_1071(bytes in vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(!fold(sum(&bytes)), testing::checksum(&bytes));
        }

        #[test]
        fn any_sum_folds_to_its_remainder(
            words: [u16; 4],
            // Carries travel furthest through words of all ones.
            ones in vec(any::<bool>(), 4),
        ) {
            let word = |i: usize| if ones[i] { 0xffff } else { words[i] >> (words[i] & 15) };
            let sum = (0..4).fold(0, |sum, i| sum << 16 | u64::from(word(i)));
            prop_assert_eq!(u64::from(fold(sum)) % 0xffff, sum % 0xffff);
            prop_assert_eq!(fold(sum) == 0, sum == 0);
        }

        #[test]
        fn edits_give_the_checksum_of_the_edited_bytes(
            mut bytes in vec(any::<u8>(), 20..100),
            short in any::<u16>(),
            long in any::<u32>(),
            tail in vec(any::<u8>(), 0..9),
        ) {
            // A sum of zero has two checksums; no packet has it.
            bytes[0] = 0x45;
            bytes.truncate(bytes.len() & !1);
            let before = testing::checksum(&bytes);
            let old_short = u16::from_be_bytes([bytes[4], bytes[5]]);
            let old_long = Ipv4Addr::new(bytes[10], bytes[11], bytes[12], bytes[13]);
            let gone = bytes.split_off(bytes.len() - 4);
            bytes[4..6].copy_from_slice(&short.to_be_bytes());
            bytes[10..14].copy_from_slice(&long.to_be_bytes());
            bytes.extend(&tail);
            let delta = Delta::new()
                .u16(old_short, short)
                .remove(&gone)
                .and(Delta::new().addr(old_long, Ipv4Addr::from(long)))
                .append(&tail);
            prop_assert_eq!(delta.apply(before), testing::checksum(&bytes));
            prop_assert_eq!(delta.apply_partial(!before), !testing::checksum(&bytes));
        }
    }

    #[test]
    fn the_last_carry_is_not_lost() {
        assert_eq!(fold(0x0001_0000_ffff_ffff), 1);
        assert_eq!(fold(u64::MAX), 0xffff);
    }
}
