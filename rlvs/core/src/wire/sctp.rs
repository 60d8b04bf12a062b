// SPDX-License-Identifier: GPL-2.0

//! The SCTP common header and the chunk behind it that matters to a connection (RFC 9260).
//!
//! SCTP has no pseudo header: other addresses leave its checksum as it is. It is a CRC32c of the whole
//! packet, and a CRC is linear: what other ports do to it follows from the ports and the length alone.
//! So no byte of the payload is read, and one that was corrupted on its way here is still found out.

use super::checksum::L4Checksum;
use super::Error;

/// Length of the common header, in bytes.
pub const LEN: usize = 12;
/// Length of a chunk's own header, in bytes.
pub const CHUNK_LEN: usize = 4;

/// The type of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk(pub u8);

impl Chunk {
    /// The client's first packet.
    pub const INIT: Self = Self(1);
    /// The answer to it, with a cookie.
    pub const INIT_ACK: Self = Self(2);
    /// The association is over at once.
    pub const ABORT: Self = Self(6);
    /// The sender has nothing more to send.
    pub const SHUTDOWN: Self = Self(7);
    /// Nor has the other side.
    pub const SHUTDOWN_ACK: Self = Self(8);
    /// Something is wrong, though not with the association.
    pub const ERROR: Self = Self(9);
    /// The cookie returned.
    pub const COOKIE_ECHO: Self = Self(10);
    /// The answer to that.
    pub const COOKIE_ACK: Self = Self(11);
    /// Both have closed.
    pub const SHUTDOWN_COMPLETE: Self = Self(14);
}

/// What a connection needs of an SCTP packet; ports in host order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// The chunk that [`counts`]; `None` as long as nobody has looked for it.
    pub chunk: Option<Chunk>,
}

impl Header {
    /// Reads the ports from at least [`LEN`] bytes.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let &[s0, s1, d0, d1, ..]: &[u8; LEN] = bytes.first_chunk().ok_or(Error::Truncated)?;
        Ok(Self {
            sport: u16::from_be_bytes([s0, s1]),
            dport: u16::from_be_bytes([d0, d1]),
            chunk: None,
        })
    }
}

/// Where behind the common header a second chunk may matter, told by the first one's header: an ABORT may
/// stand behind a cookie that goes either way.
#[inline]
pub fn second_chunk(first: [u8; CHUNK_LEN]) -> Option<usize> {
    let [kind, _, l0, l1] = first;
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    match Chunk(kind) {
        Chunk::COOKIE_ECHO | Chunk::COOKIE_ACK if len >= CHUNK_LEN => Some(len.next_multiple_of(4)),
        _ => None,
    }
}

/// The chunk that counts: the first one, unless `second`, the type at [`second_chunk`] if there is one, is
/// that of an ABORT.
#[inline]
pub fn counts(first: [u8; CHUNK_LEN], second: Option<u8>) -> Chunk {
    let [first, ..] = first;
    match second.map(Chunk) {
        Some(Chunk::ABORT) => Chunk::ABORT,
        _ => Chunk(first),
    }
}

/// Gives a packet of `len` bytes, whose common header is `header`, other ports, and fixes its checksum
/// unless that is left to the device.
#[inline]
pub fn set_ports(header: &mut [u8; LEN], sport: u16, dport: u16, len: usize, csum: L4Checksum) {
    let [p0, p1, p2, p3, _, _, _, _, c0, c1, c2, c3] = header;
    let old = [*p0, *p1, *p2, *p3];
    [*p0, *p1] = sport.to_be_bytes();
    [*p2, *p3] = dport.to_be_bytes();
    let new = [*p0, *p1, *p2, *p3];
    if new != old && csum == L4Checksum::Full {
        // Bit 0 of the first byte is the highest power: little endian, as the CRC itself stands.
        let change = u32::from_le_bytes(old) ^ u32::from_le_bytes(new);
        let checksum = u32::from_le_bytes([*c0, *c1, *c2, *c3]) ^ shifted(change, len);
        [*c0, *c1, *c2, *c3] = checksum.to_le_bytes();
    }
}

/// The polynomial of CRC32c, bit 31 the lowest power, without x^32.
const POLY: u32 = 0x82f6_3b78;
/// The polynomial 1.
const ONE: u32 = 1 << 31;

/// x to the power of 8, 16, 32 and so on: one entry for each bit of a length in bytes.
static POWERS: [u32; 17] = {
    let mut powers = [ONE >> 8; 17];
    let mut power = ONE >> 8;
    let mut index = 1;
    while index < powers.len() {
        power = multiply(power, power);
        powers[index] = power;
        index += 1;
    }
    powers
};

/// What `change`, the first four bytes of `len`, is to the CRC of all of them.
#[inline]
fn shifted(change: u32, len: usize) -> u32 {
    let mut product = change;
    for (bit, power) in POWERS.iter().enumerate() {
        if len.wrapping_shr(bit as u32) & 1 != 0 {
            product = multiply(product, *power);
        }
    }
    product
}

/// The product of two polynomials, modulo that of CRC32c.
const fn multiply(a: u32, b: u32) -> u32 {
    let (mut rest, mut shifted, mut product) = (a, b, 0);
    while rest != 0 {
        // All ones if the bit is set: there is nothing to guess for a branch.
        product ^= shifted & 0u32.wrapping_sub(rest >> 31);
        rest <<= 1;
        shifted = shifted >> 1 ^ POLY & 0u32.wrapping_sub(shifted & 1);
    }
    product
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// RFC 9260, appendix A, bit by bit.
    pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 {
                    crc >> 1 ^ POLY
                } else {
                    crc >> 1
                };
            }
        }
        !crc
    }

    /// A packet with a right checksum.
    pub(crate) fn packet(sport: u16, dport: u16, chunks: &[u8]) -> Vec<u8> {
        let mut packet = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
        packet.extend([1, 2, 3, 4, 0, 0, 0, 0]);
        packet.extend(chunks);
        let crc = crc32c(&packet);
        packet[8..12].copy_from_slice(&crc.to_le_bytes());
        packet
    }

    #[test]
    fn the_check_value_of_crc32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    /// The chunk that counts among those.
    fn chunk(chunks: &[u8]) -> Chunk {
        let first = *chunks.first_chunk().unwrap();
        let second = second_chunk(first).and_then(|at| chunks.get(at).copied());
        counts(first, second)
    }

    #[test]
    fn the_first_chunk_counts() {
        assert_eq!(chunk(&[1, 0, 0, 20]), Chunk::INIT);
        assert_eq!(chunk(&[3, 0, 0, 4, 6, 0, 0, 4]), Chunk(3));
        assert_eq!(Header::parse(&[0; 11]), Err(Error::Truncated));
    }

    #[test]
    fn an_abort_behind_a_cookie_counts() {
        for cookie in [10, 11] {
            // The length of a chunk does not count the bytes that fill it up.
            for len in [5, 8] {
                let mut chunks = vec![cookie, 0, 0, len, 9, 9, 9, 9, 6, 0, 0, 4];
                assert_eq!(chunk(&chunks), Chunk::ABORT);
                chunks[8] = 0;
                assert_eq!(chunk(&chunks), Chunk(cookie));
            }
            assert_eq!(chunk(&[cookie, 0, 0, 8, 9]), Chunk(cookie));
            assert_eq!(chunk(&[cookie, 0, 0, 3, 6, 0, 0, 4]), Chunk(cookie));
            assert_eq!(second_chunk([cookie, 0, 255, 255]), Some(65536));
        }
    }

    proptest! {
        #[test]
        fn other_ports_give_the_packet_built_anew(
            old: [u16; 2],
            new: [u16; 2],
            chunks in prop_oneof![vec(any::<u8>(), 0..64), vec(any::<u8>(), 1400..1500)],
        ) {
            let mut bytes = packet(old[0], old[1], &chunks);
            let len = bytes.len();
            let header = bytes.first_chunk_mut().unwrap();
            set_ports(header, new[0], new[1], len, L4Checksum::Full);
            prop_assert_eq!(&bytes, &packet(new[0], new[1], &chunks));
            let header = Header::parse(&bytes).unwrap();
            prop_assert_eq!((header.sport, header.dport), (new[0], new[1]));
        }

        #[test]
        fn a_wrong_checksum_stays_wrong_by_as_much(ports: [u16; 4], wrong: u32, chunks in vec(any::<u8>(), 0..64)) {
            let mut bytes = packet(ports[0], ports[1], &chunks);
            let right = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
            bytes[8..12].copy_from_slice(&(right ^ wrong).to_le_bytes());
            let len = bytes.len();
            set_ports(bytes.first_chunk_mut().unwrap(), ports[2], ports[3], len, L4Checksum::Full);
            let now = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
            let anew = packet(ports[2], ports[3], &chunks);
            prop_assert_eq!((now ^ wrong).to_le_bytes(), &anew[8..12]);
        }

        #[test]
        fn what_the_device_sums_up_is_left_to_it(ports: [u16; 4], chunks in vec(any::<u8>(), 0..64)) {
            let before = packet(ports[0], ports[1], &chunks);
            let mut bytes = before.clone();
            let len = bytes.len();
            set_ports(bytes.first_chunk_mut().unwrap(), ports[2], ports[3], len, L4Checksum::Partial);
            prop_assert_eq!(&bytes[4..], &before[4..]);
            prop_assert_eq!(&bytes[..4], &packet(ports[2], ports[3], &[])[..4]);
        }

        #[test]
        fn the_longest_packet_has_its_checksum(ports: [u16; 4], byte: u8) {
            let chunks = vec![byte; 65535 - 20 - LEN];
            let mut bytes = packet(ports[0], ports[1], &chunks);
            let len = bytes.len();
            set_ports(bytes.first_chunk_mut().unwrap(), ports[2], ports[3], len, L4Checksum::Full);
            prop_assert!(bytes == packet(ports[2], ports[3], &chunks));
        }

        #[test]
        fn any_bytes_are_a_header_or_an_error(bytes in vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(Header::parse(&bytes).is_ok(), bytes.len() >= LEN);
        }
    }
}
