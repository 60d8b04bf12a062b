// SPDX-License-Identifier: GPL-2.0

//! The IPv4 header (RFC 791).

use core::net::Ipv4Addr;

use super::checksum;
use super::checksum::Delta;
use super::icmp;
use super::ip;
use super::ip::Ip;
use super::toa;
use super::Error;
use super::IPPROTO_ICMP;

/// Length of a header without options, in bytes.
pub const MIN_LEN: usize = 20;

/// In the field of the fragment: it must not become any.
const DONT_FRAGMENT: u16 = 0x4000;

/// An IPv4 header; its options are not read.
pub type Header = ip::Header<Ipv4Addr>;

impl Ip for Ipv4Addr {
    const MIN_LEN: usize = MIN_LEN;
    const LEAST_MTU: u32 = 68;
    const ICMP: u8 = IPPROTO_ICMP;
    const HEADER_CHECKSUM: bool = true;
    const TOA_LEN: u8 = toa::V4_LEN as u8;
    type Toa = [u8; toa::V4_LEN];

    /// As `iph_totlen()` (`include/linux/ip.h`) has it, a packet longer than the field can tell has 0
    /// there. The header's own checksum is not verified.
    #[inline]
    fn parse(bytes: &[u8], len: usize) -> Result<Header, Error> {
        let h: &[u8; MIN_LEN] = bytes.first_chunk().ok_or(Error::Truncated)?;
        let header_len = usize::from(h[0] & 0x0f) << 2;
        let total_len = match u16::from_be_bytes([h[2], h[3]]) {
            0 if len > usize::from(u16::MAX) => len as u32,
            total_len => u32::from(total_len),
        };
        if h[0] >> 4 != 4 || header_len < MIN_LEN || header_len as u32 > total_len {
            return Err(Error::Malformed);
        }
        let fragment = u16::from_be_bytes([h[6], h[7]]);
        Ok(Header {
            header_len,
            total_len,
            dont_fragment: fragment & DONT_FRAGMENT != 0,
            more_fragments: fragment & 0x2000 != 0,
            fragment_offset: fragment & 0x1fff,
            hops: h[8],
            tos: h[1],
            proto: h[9],
            src: Ipv4Addr::new(h[12], h[13], h[14], h[15]),
            dst: Ipv4Addr::new(h[16], h[17], h[18], h[19]),
        })
    }

    #[inline(always)]
    fn set_addresses(packet: &mut [u8], src: Self, dst: Self) -> Option<Delta> {
        let (old_src, old_dst) = Self::addresses(packet)?;
        let ip: &mut [u8; MIN_LEN] = packet.first_chunk_mut()?;
        let delta = Delta::new().addr(old_src, src).addr(old_dst, dst);
        [ip[12], ip[13], ip[14], ip[15]] = src.octets();
        [ip[16], ip[17], ip[18], ip[19]] = dst.octets();
        [ip[10], ip[11]] = delta
            .apply(u16::from_be_bytes([ip[10], ip[11]]))
            .to_be_bytes();
        Some(delta)
    }

    #[inline]
    fn addresses(packet: &[u8]) -> Option<(Self, Self)> {
        let ip: &[u8; MIN_LEN] = packet.first_chunk()?;
        Some((
            Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]),
            Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]),
        ))
    }

    #[inline(always)]
    fn ordinary(packet: &[u8], len: usize) -> Option<Header> {
        let h: &[u8; MIN_LEN] = packet.first_chunk()?;
        let fragment = u16::from_be_bytes([h[6], h[7]]);
        let total_len = usize::from(u16::from_be_bytes([h[2], h[3]]));
        if h[0] != 0x45 || total_len != len || fragment & !DONT_FRAGMENT != 0 || h[8] <= 1 {
            return None;
        }
        Some(Header {
            header_len: MIN_LEN,
            total_len: total_len as u32,
            dont_fragment: fragment != 0,
            more_fragments: false,
            fragment_offset: 0,
            hops: h[8],
            tos: h[1],
            proto: h[9],
            src: Ipv4Addr::new(h[12], h[13], h[14], h[15]),
            dst: Ipv4Addr::new(h[16], h[17], h[18], h[19]),
        })
    }

    #[inline]
    fn may_be_icmp(packet: &[u8]) -> bool {
        packet.get(9) == Some(&IPPROTO_ICMP)
    }

    #[inline]
    fn set_total_len(packet: &mut [u8], total_len: usize) -> Result<(), Error> {
        let h: &mut [u8; MIN_LEN] = packet.first_chunk_mut().ok_or(Error::Truncated)?;
        let new = u16::try_from(total_len).map_err(|_| Error::NoRoom)?;
        let delta = Delta::new().u16(u16::from_be_bytes([h[2], h[3]]), new);
        [h[2], h[3]] = new.to_be_bytes();
        [h[10], h[11]] = delta
            .apply(u16::from_be_bytes([h[10], h[11]]))
            .to_be_bytes();
        Ok(())
    }

    #[inline(always)]
    fn decrement_hops(packet: &mut [u8]) -> Result<(), Error> {
        let h: &mut [u8; MIN_LEN] = packet.first_chunk_mut().ok_or(Error::Truncated)?;
        if h[8] <= 1 {
            return Err(Error::Expired);
        }
        h[8] = h[8].wrapping_sub(1);
        // The upper half of a word is less by one, and its complement more; a carry is added at the other
        // end, and of both zeros this is the one that a complement of a sum is. As in `ip_decrease_ttl()`
        // (`include/net/ip.h`).
        let checksum = u32::from(u16::from_be_bytes([h[10], h[11]])).wrapping_add(0x0100);
        let carry = u32::from(checksum >= 0xffff);
        // CAST: The carry is in.
        [h[10], h[11]] = (checksum.wrapping_add(carry) as u16).to_be_bytes();
        Ok(())
    }

    #[inline]
    fn refresh_checksum(packet: &mut [u8], header_len: usize) {
        if header_len > MIN_LEN {
            refresh_checksum(packet, header_len);
        }
    }

    #[inline]
    fn is_icmp_error(kind: u8) -> bool {
        // The three types that IPVS relates; a redirect is between neighbours.
        matches!(
            kind,
            icmp::DEST_UNREACH | icmp::SOURCE_QUENCH | icmp::TIME_EXCEEDED
        )
    }

    #[inline]
    fn next_hop_mtu(icmp: &icmp::Header) -> Option<u32> {
        let about_mtu = icmp.kind == icmp::DEST_UNREACH && icmp.code == icmp::FRAG_NEEDED;
        about_mtu.then_some(icmp.rest & 0xffff)
    }

    #[inline]
    fn set_next_hop_mtu(icmp: &mut [u8; icmp::LEN], mtu: u32) -> Delta {
        let old = u16::from_be_bytes([icmp[6], icmp[7]]);
        let new = u16::try_from(mtu).unwrap_or(u16::MAX);
        [icmp[6], icmp[7]] = new.to_be_bytes();
        Delta::new().u16(old, new)
    }

    #[inline]
    fn toa(kind: u8, addr: Self, port: u16) -> Self::Toa {
        toa::encode_v4(kind, addr, port)
    }
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
        assert_eq!(Ipv4Addr::parse(&packet, 0), Err(Error::Malformed));
        assert_eq!(Ipv4Addr::parse(&packet, 0xffff), Err(Error::Malformed));
        assert_eq!(
            Ipv4Addr::parse(&packet, 0x1_0000).unwrap().total_len,
            0x1_0000
        );
        assert_eq!(Ipv4Addr::parse(&HEADER, 0x1_0000).unwrap().total_len, 0x73);
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
            Ipv4Addr::decrement_hops(&mut packet).unwrap();
            assert_eq!(packet[8], ttl);
            assert_eq!(testing::checksum(&packet), 0);
        }
        let last = packet;
        assert_eq!(Ipv4Addr::decrement_hops(&mut packet), Err(Error::Expired));
        packet[8] = 0;
        assert_eq!(Ipv4Addr::decrement_hops(&mut packet), Err(Error::Expired));
        packet[8] = 1;
        assert_eq!(packet, last);
        assert_eq!(
            Ipv4Addr::decrement_hops(&mut packet[..19]),
            Err(Error::Truncated)
        );
    }

    #[test]
    fn fragments_are_told_by_flag_or_offset() {
        let parse = |flags: u16| {
            let mut packet = HEADER;
            packet[6..8].copy_from_slice(&flags.to_be_bytes());
            Ipv4Addr::parse(&packet, 0).unwrap()
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
            Ipv4Addr::parse(&packet, 0)
        };
        assert_eq!(with(0, 0x65), Err(Error::Malformed));
        assert_eq!(with(0, 0x44), Err(Error::Malformed));
        assert_eq!(with(3, 19), Err(Error::Malformed));
        assert_eq!(with(3, 20).map(|h| h.total_len), Ok(20));
        // 60 bytes of header, of which 20 are here.
        assert_eq!(with(0, 0x4f).map(|h| h.header_len), Ok(60));
        assert_eq!(Ipv4Addr::parse(&HEADER[..19], 0), Err(Error::Truncated));
    }
}
