// SPDX-License-Identifier: GPL-2.0

//! The IPv6 header and what may stand between it and the transport header (RFC 8200).

use core::net::Ipv6Addr;

use super::checksum::Delta;
use super::icmp;
use super::ip;
use super::ip::Ip;
use super::toa;
use super::Error;
use super::IPPROTO_ICMPV6;
use super::IPPROTO_TCP;
use super::IPPROTO_UDP;

/// Length of the header without extensions, in bytes.
pub const LEN: usize = 40;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// An IPv6 header with its extensions. An authentication header is no extension here: it is a
/// transport protocol, as in IPVS.
pub type Header = ip::Header<Ipv6Addr>;

impl Ip for Ipv6Addr {
    const MIN_LEN: usize = LEN;
    const LEAST_MTU: u32 = 1280;
    const ICMP: u8 = IPPROTO_ICMPV6;
    const HEADER_CHECKSUM: bool = false;
    const TOA_LEN: u8 = toa::V6_LEN as u8;
    type Toa = [u8; toa::V6_LEN];

    #[inline]
    fn parse(bytes: &[u8], len: usize) -> Result<Header, Error> {
        let h: &[u8; LEN] = bytes.first_chunk().ok_or(Error::Truncated)?;
        if h[0] >> 4 != 6 {
            return Err(Error::Malformed);
        }
        let (src, dst) = Self::addresses(h).ok_or(Error::Truncated)?;
        let total_len = match u16::from_be_bytes([h[4], h[5]]) {
            0 if len > LEN.wrapping_add(usize::from(u16::MAX)) => len as u32,
            payload => u32::from(payload).wrapping_add(LEN as u32),
        };
        let mut header = Header {
            header_len: LEN,
            total_len,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            hops: h[7],
            tos: h[0] << 4 | h[1] >> 4,
            proto: h[6],
            src,
            dst,
        };
        if matches!(header.proto, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
            extensions(&mut header, bytes)?;
        }
        Ok(header)
    }

    #[inline(always)]
    fn set_addresses(packet: &mut [u8], src: Self, dst: Self) -> Option<Delta> {
        let (old_src, old_dst) = Self::addresses(packet)?;
        let ip: &mut [u8; LEN] = packet.first_chunk_mut()?;
        let (_, addresses) = ip.split_first_chunk_mut::<8>()?;
        let (from, to) = addresses.split_first_chunk_mut::<16>()?;
        *from = src.octets();
        *to.first_chunk_mut()? = dst.octets();
        Some(Delta::new().addr6(old_src, src).addr6(old_dst, dst))
    }

    #[inline]
    fn addresses(packet: &[u8]) -> Option<(Self, Self)> {
        let ip: &[u8; LEN] = packet.first_chunk()?;
        let (_, addresses) = ip.split_first_chunk::<8>()?;
        let (src, rest) = addresses.split_first_chunk::<16>()?;
        let dst: &[u8; 16] = rest.first_chunk()?;
        Some((Ipv6Addr::from(*src), Ipv6Addr::from(*dst)))
    }

    #[inline(always)]
    fn ordinary(packet: &[u8], len: usize) -> Option<Header> {
        let h: &[u8; LEN] = packet.first_chunk()?;
        let payload = usize::from(u16::from_be_bytes([h[4], h[5]]));
        if h[0] >> 4 != 6 || payload.wrapping_add(LEN) != len || h[7] <= 1 {
            return None;
        }
        let (src, dst) = Self::addresses(packet)?;
        Some(Header {
            header_len: LEN,
            total_len: len as u32,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            hops: h[7],
            tos: h[0] << 4 | h[1] >> 4,
            proto: h[6],
            src,
            dst,
        })
    }

    #[inline]
    fn may_be_icmp(packet: &[u8]) -> bool {
        !matches!(packet.get(6), Some(&IPPROTO_TCP | &IPPROTO_UDP))
    }

    #[inline]
    fn set_total_len(packet: &mut [u8], total_len: usize) -> Result<(), Error> {
        let h: &mut [u8; LEN] = packet.first_chunk_mut().ok_or(Error::Truncated)?;
        let payload = total_len.checked_sub(LEN).ok_or(Error::Malformed)?;
        let payload = u16::try_from(payload).map_err(|_| Error::NoRoom)?;
        [h[4], h[5]] = payload.to_be_bytes();
        Ok(())
    }

    #[inline(always)]
    fn decrement_hops(packet: &mut [u8]) -> Result<(), Error> {
        let h: &mut [u8; LEN] = packet.first_chunk_mut().ok_or(Error::Truncated)?;
        if h[7] <= 1 {
            return Err(Error::Expired);
        }
        h[7] = h[7].wrapping_sub(1);
        Ok(())
    }

    #[inline]
    fn refresh_checksum(_packet: &mut [u8], _header_len: usize) {}

    #[inline]
    fn is_icmp_error(kind: u8) -> bool {
        kind < icmp::V6_FIRST_INFO
    }

    #[inline]
    fn next_hop_mtu(icmp: &icmp::Header) -> Option<u32> {
        (icmp.kind == icmp::V6_PACKET_TOO_BIG).then_some(icmp.rest)
    }

    #[inline]
    fn set_next_hop_mtu(icmp: &mut [u8; icmp::LEN], mtu: u32) -> Delta {
        let old = u32::from_be_bytes([icmp[4], icmp[5], icmp[6], icmp[7]]);
        [icmp[4], icmp[5], icmp[6], icmp[7]] = mtu.to_be_bytes();
        Delta::new().u32(old, mtu)
    }

    #[inline]
    fn toa(kind: u8, addr: Self, port: u16) -> Self::Toa {
        toa::encode_v6(kind, addr, port)
    }
}

/// Goes over the extension headers, to the transport header or to where a later fragment begins.
#[cold]
fn extensions(header: &mut Header, packet: &[u8]) -> Result<(), Error> {
    while matches!(header.proto, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION)
        && header.fragment_offset == 0
    {
        let rest = packet.get(header.header_len..).ok_or(Error::Truncated)?;
        let &[next, len, offset @ ..] = rest.first_chunk::<4>().ok_or(Error::Truncated)?;
        let len = match header.proto {
            FRAGMENT => {
                let word = u16::from_be_bytes(offset);
                header.more_fragments = word & 1 != 0;
                header.fragment_offset = word >> 3;
                8
            }
            _ => usize::from(len).wrapping_add(1) << 3,
        };
        header.proto = next;
        header.header_len = header.header_len.wrapping_add(len);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A packet from 2001:db8::1 to 2001:db8::2 with what follows the header.
    fn packet(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; LEN];
        (packet[0], packet[6], packet[7]) = (0x60, next, 64);
        for (at, last) in [(8, 1), (24, 2)] {
            packet[at..at + 4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
            packet[at + 15] = last;
        }
        packet.extend_from_slice(rest);
        packet
    }

    #[test]
    fn finds_what_follows_at_once() {
        let header = Ipv6Addr::parse(&packet(6, &[]), 0).unwrap();
        assert_eq!((header.proto, header.header_len), (6, LEN));
        assert_eq!(header.src, "2001:db8::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(header.dst, "2001:db8::2".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn goes_over_extension_headers() {
        let parse = |rest: &[u8]| Ipv6Addr::parse(&packet(HOP_BY_HOP, rest), 0).unwrap();
        let mut rest = vec![0; 8 + 16 + 8];
        (rest[0], rest[1]) = (DESTINATION, 0);
        (rest[8], rest[9]) = (FRAGMENT, 1);
        (rest[24], rest[27]) = (17, 1);
        let header = parse(&rest);
        assert_eq!((header.proto, header.header_len), (17, LEN + rest.len()));
        assert_eq!((header.more_fragments, header.fragment_offset), (true, 0));
        rest[27] = 16;
        assert_eq!(parse(&rest).fragment_offset, 2);
        rest[27] = 0;
        assert!(!parse(&rest).is_fragment());
        rest[24] = 51;
        assert_eq!(parse(&rest).proto, 51);
    }

    #[test]
    fn what_is_cut_off_or_no_ipv6_is_refused() {
        assert_eq!(
            Ipv6Addr::parse(&packet(6, &[])[..39], 0),
            Err(Error::Truncated)
        );
        assert_eq!(
            Ipv6Addr::parse(&packet(HOP_BY_HOP, &[6, 0]), 0),
            Err(Error::Truncated)
        );
        let mut other = packet(6, &[]);
        other[0] = 0x45;
        assert_eq!(Ipv6Addr::parse(&other, 0), Err(Error::Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_an_error(
            next in prop::sample::select(vec![0u8, 6, 43, 44, 51, 60, 59]),
            rest in proptest::collection::vec(any::<u8>(), 0..120),
        ) {
            if let Ok(header) = Ipv6Addr::parse(&packet(next, &rest), 0) {
                prop_assert!(header.header_len >= LEN && header.header_len <= LEN + rest.len() + 2048);
            }
        }
    }

    #[test]
    fn the_fields_are_where_they_belong() {
        let mut bytes = packet(6, &[0; 20]);
        (bytes[0], bytes[1], bytes[5]) = (0x6a, 0xbc, 20);
        let header = Ipv6Addr::parse(&bytes, 0).unwrap();
        assert_eq!((header.tos, header.hops, header.total_len), (0xab, 64, 60));
        Ipv6Addr::decrement_hops(&mut bytes).unwrap();
        Ipv6Addr::set_total_len(&mut bytes, 61).unwrap();
        assert_eq!((bytes[7], bytes[4], bytes[5]), (63, 0, 21));
        bytes[7] = 1;
        assert_eq!(Ipv6Addr::decrement_hops(&mut bytes), Err(Error::Expired));
        let longest = LEN + usize::from(u16::MAX);
        assert_eq!(Ipv6Addr::set_total_len(&mut bytes, longest), Ok(()));
        assert_eq!(
            Ipv6Addr::set_total_len(&mut bytes, longest + 1),
            Err(Error::NoRoom)
        );
        bytes[4..6].fill(0);
        let header = Ipv6Addr::parse(&bytes, longest + 1).unwrap();
        assert_eq!(header.total_len as usize, longest + 1);
    }
}
