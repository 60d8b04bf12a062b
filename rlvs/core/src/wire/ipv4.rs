// SPDX-License-Identifier: GPL-2.0

//! The IPv4 header (RFC 791).

use core::net::Ipv4Addr;

use super::checksum;
use super::checksum::Delta;
use super::Error;

/// Length of a header without options, in bytes.
pub const MIN_LEN: usize = 20;

/// An IPv4 header's fields; its options are not read.
///
/// # Invariants
///
/// `20 <= header_len <= 60`, a multiple of 4, and `header_len <= total_len`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Length of the header with its options, in bytes.
    pub header_len: usize,
    /// Length of the packet, header included, in bytes.
    pub total_len: u16,
    /// Identification, shared by the fragments of a packet.
    pub id: u16,
    /// Whether fragmenting is forbidden.
    pub dont_fragment: bool,
    /// Whether this is a fragment that is not the last.
    pub more_fragments: bool,
    /// Where the fragment belongs, in units of 8 bytes.
    pub fragment_offset: u16,
    /// Hops left.
    pub ttl: u8,
    /// Type of service: DSCP and ECN.
    pub tos: u8,
    /// Protocol of what follows.
    pub proto: u8,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
}

impl Header {
    /// Reads a header from at least 20 bytes.
    ///
    /// Neither the options nor the rest of the packet need to be in the slice, and the header's
    /// own checksum is not verified.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        Self::parse_within(bytes, 0)
    }

    /// Reads the header of a packet that the device handed over as `len` bytes.
    ///
    /// What is longer than the field can tell has 0 there (`iph_totlen()` in `include/linux/ip.h`):
    /// then `total_len` is as much as it can tell.
    #[inline]
    pub fn parse_within(bytes: &[u8], len: usize) -> Result<Self, Error> {
        let h: &[u8; MIN_LEN] = bytes.first_chunk().ok_or(Error::Truncated)?;
        let header_len = usize::from(h[0] & 0x0f) << 2;
        let total_len = match u16::from_be_bytes([h[2], h[3]]) {
            0 if len > usize::from(u16::MAX) => u16::MAX,
            total_len => total_len,
        };
        if h[0] >> 4 != 4 || header_len < MIN_LEN || header_len > usize::from(total_len) {
            return Err(Error::Malformed);
        }
        let fragment = u16::from_be_bytes([h[6], h[7]]);
        Ok(Self {
            header_len,
            total_len,
            id: u16::from_be_bytes([h[4], h[5]]),
            dont_fragment: fragment & 0x4000 != 0,
            more_fragments: fragment & 0x2000 != 0,
            fragment_offset: fragment & 0x1fff,
            ttl: h[8],
            tos: h[1],
            proto: h[9],
            src: Ipv4Addr::new(h[12], h[13], h[14], h[15]),
            dst: Ipv4Addr::new(h[16], h[17], h[18], h[19]),
        })
    }

    /// Whether this is one of several fragments.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }
}

/// Takes one hop from the packet and updates the header's checksum.
///
/// [`Error::Expired`] if that hop would be the last one: the packet must not be forwarded.
#[inline]
pub fn decrement_ttl(packet: &mut [u8]) -> Result<(), Error> {
    let h: &mut [u8; MIN_LEN] = packet.first_chunk_mut().ok_or(Error::Truncated)?;
    if h[8] <= 1 {
        return Err(Error::Expired);
    }
    let ttl = h[8].wrapping_sub(1);
    let delta = Delta::new().u16(
        u16::from_be_bytes([h[8], h[9]]),
        u16::from_be_bytes([ttl, h[9]]),
    );
    h[8] = ttl;
    [h[10], h[11]] = delta
        .apply(u16::from_be_bytes([h[10], h[11]]))
        .to_be_bytes();
    Ok(())
}

/// The checksum that belongs into a header of these bytes.
///
/// `header` is the whole header with its options; what stands in the field does not count.
#[inline]
pub fn header_checksum(header: &[u8]) -> u16 {
    let field = header.get(10..12).unwrap_or_default();
    Delta::new()
        .remove(field)
        .apply(!checksum::fold(checksum::sum(header)))
}

/// Writes the checksum of the header at the start of `packet`, `ihl` bytes long.
///
/// An incremental update is not enough for a header with options: the kernel edits options on
/// the way and leaves the checksum for later.
#[inline]
pub fn refresh_checksum(packet: &mut [u8], ihl: usize) {
    if let Some(header) = packet.get_mut(..ihl) {
        let [c0, c1] = header_checksum(header).to_be_bytes();
        if let Some([f0, f1]) = header.get_mut(10..12) {
            (*f0, *f1) = (c0, c1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    /// A UDP packet from 192.168.0.1 to 192.168.0.199.
    const HEADER: [u8; 20] = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00,
        0x01, 0xc0, 0xa8, 0x00, 0xc7,
    ];

    #[test]
    fn known_header_has_its_known_checksum() {
        assert_eq!(header_checksum(&HEADER), 0xb861);
        let mut other = HEADER;
        other[10..12].fill(0xff);
        assert_eq!(header_checksum(&other), 0xb861);
    }

    #[test]
    fn a_packet_too_long_for_the_field_has_none() {
        let mut packet = HEADER;
        packet[2..4].fill(0);
        assert_eq!(Header::parse(&packet), Err(Error::Malformed));
        assert_eq!(Header::parse_within(&packet, 0xffff), Err(Error::Malformed));
        assert_eq!(
            Header::parse_within(&packet, 0x1_0000).unwrap().total_len,
            u16::MAX
        );
        assert_eq!(
            Header::parse_within(&HEADER, 0x1_0000).unwrap().total_len,
            0x73
        );
    }

    #[test]
    fn a_header_that_was_edited_gets_its_checksum_anew() {
        let mut packet = [0u8; 28];
        packet[..20].copy_from_slice(&HEADER);
        packet[0] = 0x46;
        packet[20..24].copy_from_slice(&[1, 1, 0, 0]);
        refresh_checksum(&mut packet, 24);
        assert_eq!(testing::checksum(&packet[..24]), 0);
        let before = packet;
        refresh_checksum(&mut packet, 29);
        assert_eq!(packet, before);
    }

    #[test]
    fn a_hop_is_taken_until_one_is_left() {
        let mut packet = HEADER;
        for ttl in (1..64).rev() {
            decrement_ttl(&mut packet).unwrap();
            assert_eq!(packet[8], ttl);
            assert_eq!(testing::checksum(&packet), 0);
        }
        let last = packet;
        assert_eq!(decrement_ttl(&mut packet), Err(Error::Expired));
        packet[8] = 0;
        assert_eq!(decrement_ttl(&mut packet), Err(Error::Expired));
        packet[8] = 1;
        assert_eq!(packet, last);
        assert_eq!(decrement_ttl(&mut packet[..19]), Err(Error::Truncated));
    }

    #[test]
    fn fragments_are_told_by_flag_or_offset() {
        let parse = |flags: u16| {
            let mut packet = HEADER;
            packet[6..8].copy_from_slice(&flags.to_be_bytes());
            Header::parse(&packet).unwrap()
        };
        assert!(!parse(0x4000).is_fragment());
        assert!(parse(0x2000).is_fragment());
        assert!(parse(0x0001).is_fragment());
        assert_eq!(parse(0x3fff).fragment_offset, 0x1fff);
        assert!(parse(0x4000).dont_fragment && !parse(0x2000).dont_fragment);
    }

    #[test]
    fn contradictions_are_refused() {
        let with = |at: usize, value: u8| {
            let mut packet = HEADER;
            packet[at] = value;
            Header::parse(&packet)
        };
        assert_eq!(with(0, 0x65), Err(Error::Malformed));
        assert_eq!(with(0, 0x44), Err(Error::Malformed));
        assert_eq!(with(3, 19), Err(Error::Malformed));
        assert_eq!(with(3, 20).map(|h| h.total_len), Ok(20));
        // 60 bytes of header, of which 20 are here.
        assert_eq!(with(0, 0x4f).map(|h| h.header_len), Ok(60));
        assert_eq!(Header::parse(&HEADER[..19]), Err(Error::Truncated));
    }
}
