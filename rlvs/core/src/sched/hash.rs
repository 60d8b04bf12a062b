// SPDX-License-Identifier: GPL-2.0

//! Hashes of addresses, bit for bit mainline's, and tables that they lead into.
//!
//! They are not keyed: directors that know nothing of each other must agree. So clients can choose
//! whom they go to, which is what hashing by address is for.

use core::net::IpAddr;

use super::Candidate;
use super::NOBODY;

/// An address as one word: that of IPv4 in host order, the four of IPv6 xored.
#[inline]
pub(super) fn fold(addr: IpAddr) -> u32 {
    match addr {
        IpAddr::V4(addr) => addr.to_bits(),
        IpAddr::V6(addr) => {
            let [a, b, c, d] = words(addr.to_bits());
            a ^ b ^ c ^ d
        }
    }
}

/// The words of an IPv6 address, the first one first.
#[inline]
pub(super) fn words(bits: u128) -> [u32; 4] {
    // CAST: The low half of what is shifted there is meant.
    [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
}

/// The first 8 bits of the product with the golden ratio (`hash_32()` in `include/linux/hash.h`).
#[inline]
pub(super) fn golden(word: u32) -> u32 {
    word.wrapping_mul(0x61c8_8647) >> 24
}

/// SipHash-1-3 of a word, cut to 32 bits: `hsiphash_1u32()` of `lib/siphash.c` on 64-bit machines.
#[inline]
pub(super) fn hsiphash(word: u32, key: [u64; 2]) -> u32 {
    let [k0, k1] = key;
    let mut v = [
        0x736f_6d65_7073_6575 ^ k0,
        0x646f_7261_6e64_6f6d ^ k1,
        0x6c79_6765_6e65_7261 ^ k0,
        0x7465_6462_7974_6573 ^ k1,
    ];
    // The length in bytes stands in the last one.
    let block = 4 << 56 | u64::from(word);
    v[3] ^= block;
    round(&mut v);
    v[0] ^= block;
    v[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut v);
    }
    // CAST: The low half is meant.
    (v[0] ^ v[1] ^ v[2] ^ v[3]) as u32
}

#[inline]
fn round(v: &mut [u64; 4]) {
    let [a, b, c, d] = v;
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

/// The destination at `place(0)` of a table. If it takes no connection there is none, unless
/// `fallback`: then each place is tried once, from that of the first one's number on.
///
/// Places are below `len`; an empty one ends the search.
#[inline]
pub(super) fn look_up<C: Candidate>(
    dests: &[C],
    table: &[u16],
    len: u32,
    fallback: bool,
    place: impl Fn(u32) -> u32,
) -> Option<usize> {
    let at = |place: u32| match *table.get(place as usize)? {
        NOBODY => None,
        index => Some((usize::from(index), dests.get(usize::from(index))?)),
    };
    let first = place(0);
    let (index, dest) = at(first)?;
    if dest.available() {
        return Some(index);
    }
    // Where nobody is available the search would be a long one, for each packet.
    if !fallback || !dests.iter().any(C::available) {
        return None;
    }
    for offset in (first..len).chain(0..first) {
        let (index, dest) = at(place(offset))?;
        if dest.available() {
            return Some(index);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_fold_in_host_order() {
        assert_eq!(fold("192.0.2.1".parse().unwrap()), 0xc000_0201);
        let addr = "2001:db8:1:2:3:4:5:6".parse().unwrap();
        assert_eq!(
            fold(addr),
            0x2001_0db8 ^ 0x0001_0002 ^ 0x0003_0004 ^ 0x0005_0006
        );
    }

    #[test]
    fn siphash_is_the_kernels() {
        // `test_vectors_hsiphash[4]` of `lib/tests/siphash_kunit.c`.
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(hsiphash(0x0302_0100, key), 0x88d3_8328);
    }
}
