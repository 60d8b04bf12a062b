// SPDX-License-Identifier: GPL-2.0

//! The IPv6 header and what may stand between it and the transport header (RFC 8200).

use core::net::Ipv6Addr;

use super::Error;

/// Length of the header, in bytes.
pub const LEN: usize = 40;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// Where a packet goes and what it carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// Protocol of what follows the extension headers.
    pub proto: u8,
    /// Where that starts, in bytes from the start of the packet. It may lie outside of it.
    pub l4: usize,
    /// Whether this is a fragment without the start of the packet.
    pub is_later_fragment: bool,
}

impl Header {
    /// Reads the header at the start of `packet` and goes over its extension headers.
    pub fn parse(packet: &[u8]) -> Result<Self, Error> {
        let header: &[u8; LEN] = packet.first_chunk().ok_or(Error::Truncated)?;
        let [version, .., next, _] = *header.first_chunk::<8>().ok_or(Error::Truncated)?;
        if version >> 4 != 6 {
            return Err(Error::Malformed);
        }
        let address = |from: usize| {
            let bytes = header.get(from..).and_then(<[u8]>::first_chunk::<16>);
            bytes.map(|bytes| Ipv6Addr::from(*bytes))
        };
        let mut this = Self {
            src: address(8).ok_or(Error::Truncated)?,
            dst: address(24).ok_or(Error::Truncated)?,
            proto: next,
            l4: LEN,
            is_later_fragment: false,
        };
        // Each header is at least 8 bytes long, so this ends.
        while matches!(
            this.proto,
            HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION
        ) && !this.is_later_fragment
        {
            let rest = packet.get(this.l4..).ok_or(Error::Truncated)?;
            let &[next, len, offset @ ..] = rest.first_chunk::<4>().ok_or(Error::Truncated)?;
            let len = match this.proto {
                FRAGMENT => {
                    this.is_later_fragment = u16::from_be_bytes(offset) & !7 != 0;
                    8
                }
                AUTHENTICATION => usize::from(len).wrapping_add(2) << 2,
                _ => usize::from(len).wrapping_add(1) << 3,
            };
            this.proto = next;
            this.l4 = this.l4.wrapping_add(len);
        }
        Ok(this)
    }
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
        let header = Header::parse(&packet(6, &[])).unwrap();
        assert_eq!((header.proto, header.l4), (6, LEN));
        assert_eq!(header.src, "2001:db8::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(header.dst, "2001:db8::2".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn goes_over_extension_headers() {
        let mut rest = vec![0; 8 + 16 + 12 + 8];
        (rest[0], rest[1]) = (DESTINATION, 0);
        (rest[8], rest[9]) = (AUTHENTICATION, 1);
        (rest[24], rest[25]) = (FRAGMENT, 1);
        (rest[36], rest[39]) = (17, 1);
        let header = Header::parse(&packet(HOP_BY_HOP, &rest)).unwrap();
        assert_eq!((header.proto, header.l4), (17, LEN + rest.len()));
        assert!(!header.is_later_fragment);
        rest[39] = 8;
        assert!(
            Header::parse(&packet(HOP_BY_HOP, &rest))
                .unwrap()
                .is_later_fragment
        );
    }

    #[test]
    fn what_is_cut_off_or_no_ipv6_is_refused() {
        assert_eq!(Header::parse(&packet(6, &[])[..39]), Err(Error::Truncated));
        assert_eq!(
            Header::parse(&packet(HOP_BY_HOP, &[6, 0])),
            Err(Error::Truncated)
        );
        let mut other = packet(6, &[]);
        other[0] = 0x45;
        assert_eq!(Header::parse(&other), Err(Error::Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_an_error(
            next in prop::sample::select(vec![0u8, 6, 43, 44, 51, 60, 59]),
            rest in proptest::collection::vec(any::<u8>(), 0..120),
        ) {
            if let Ok(header) = Header::parse(&packet(next, &rest)) {
                prop_assert!(header.l4 >= LEN && header.l4 <= LEN + rest.len() + 2048);
            }
        }
    }
}
