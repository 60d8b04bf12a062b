// SPDX-License-Identifier: GPL-2.0

//! Bytes to headers and back.
//!
//! Headers are read once and by value: what a packet says later, after somebody else has had
//! the buffer, does not matter any more. Everything that writes checks all it needs first, so an
//! error means an unchanged packet.

pub mod checksum;
pub mod ftp;
pub mod headers;
pub mod icmp;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod options;
pub mod rewrite;
pub mod sctp;
pub mod shift;
pub mod sip;
pub mod tcp;
pub mod toa;
pub mod tunnel;
pub mod udp;

#[cfg(test)]
mod testing;

/// ICMP's number in the IP header.
pub const IPPROTO_ICMP: u8 = 1;
/// ICMPv6's number in the IP header.
pub const IPPROTO_ICMPV6: u8 = 58;
/// TCP's number in the IP header.
pub const IPPROTO_TCP: u8 = 6;
/// UDP's number in the IP header.
pub const IPPROTO_UDP: u8 = 17;
/// The number of an encapsulated security payload in the IP header.
pub const IPPROTO_ESP: u8 = 50;
/// An authentication header's number in the IP header.
pub const IPPROTO_AH: u8 = 51;
/// SCTP's number in the IP header.
pub const IPPROTO_SCTP: u8 = 132;

/// Why bytes were refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// There are fewer bytes than the header needs.
    Truncated,
    /// A field contradicts another one, or the protocol.
    Malformed,
    /// The packet has no hop left.
    Expired,
    /// The option does not fit: into 40 bytes of TCP options, or into the IP packet's length.
    NoRoom,
}

/// The port of ISAKMP (RFC 2408): over UDP, two hosts negotiate there what AH and ESP carry.
pub const ISAKMP: u16 = 500;

/// Protocol, source and destination port that a packet's connection is known by, in host order. `proto`
/// is the number in its IP header and `l4` what follows that.
///
/// Four bytes are enough, as an ICMP error quotes them. AH and ESP belong to the connection that has
/// negotiated them. `None` for a protocol without connections.
#[inline]
pub fn key(proto: u8, l4: &[u8]) -> Option<(u8, u16, u16)> {
    match proto {
        IPPROTO_TCP | IPPROTO_UDP | IPPROTO_SCTP => {
            let &[s0, s1, d0, d1] = l4.first_chunk()?;
            let (sport, dport) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
            Some((proto, sport, dport))
        }
        IPPROTO_AH | IPPROTO_ESP => Some((IPPROTO_UDP, ISAKMP, ISAKMP)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::ip::Ip;
    use super::*;

    #[test]
    fn what_a_connection_is_known_by() {
        let quoted = [0x1f, 0x90, 0, 53];
        for proto in [IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP] {
            assert_eq!(key(proto, &quoted), Some((proto, 8080, 53)));
            assert_eq!(key(proto, &quoted[..3]), None);
        }
        for proto in [IPPROTO_AH, IPPROTO_ESP] {
            assert_eq!(key(proto, &[]), Some((IPPROTO_UDP, 500, 500)));
        }
        assert_eq!(key(IPPROTO_ICMP, &quoted), None);
    }

    proptest! {
        #[test]
        fn every_packet_is_read_as_it_was_built(packet in testing::packet()) {
            let bytes = packet.build();
            let ip = Ipv4Addr::parse(&bytes, 0).unwrap();
            prop_assert_eq!(ip.header_len, packet.ihl());
            prop_assert_eq!(ip.total_len as usize, bytes.len());
            prop_assert_eq!((ip.src, ip.dst, ip.proto), (packet.src, packet.dst, packet.proto()));
            prop_assert_eq!((ip.hops, ip.tos), (63, 0x10));
            prop_assert!(ip.dont_fragment && !ip.is_fragment());
            let l4 = &bytes[ip.header_len..];
            let proto = if ip.proto == IPPROTO_ESP { IPPROTO_UDP } else { ip.proto };
            prop_assert_eq!(key(ip.proto, l4), Some((proto, packet.sport, packet.dport)));
            match &packet.l4 {
                testing::L4::Tcp { options, flags } => {
                    let tcp = tcp::Header::parse(l4).unwrap();
                    prop_assert_eq!((tcp.sport, tcp.dport), (packet.sport, packet.dport));
                    prop_assert_eq!((tcp.seq, tcp.ack), (0x0102_0304, 0x0506_0708));
                    prop_assert_eq!(tcp.header_len, 20 + options.len());
                    prop_assert_eq!((tcp.flags.0, tcp.window), (*flags, 0x2000));
                }
                testing::L4::Udp { with_checksum } => {
                    let udp = udp::Header::parse(l4).unwrap();
                    prop_assert_eq!((udp.sport, udp.dport), (packet.sport, packet.dport));
                    prop_assert_eq!(usize::from(udp.len), 8 + packet.payload.len());
                    prop_assert_eq!(udp.checksum != 0, *with_checksum);
                }
                testing::L4::Sctp => {
                    let sctp = sctp::Header::parse(l4).unwrap();
                    prop_assert_eq!((sctp.sport, sctp.dport), (packet.sport, packet.dport));
                }
                testing::L4::Esp => {}
            }
        }

        #[test]
        fn any_bytes_are_a_header_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..70)) {
            if let Ok(ip) = Ipv4Addr::parse(&bytes, 0) {
                prop_assert!((20..=60).contains(&ip.header_len));
                prop_assert!(ip.header_len <= ip.total_len as usize);
            }
            if let Ok(tcp) = tcp::Header::parse(&bytes) {
                prop_assert!((20..=60).contains(&tcp.header_len));
            }
            if let Ok(udp) = udp::Header::parse(&bytes) {
                prop_assert!(udp.len >= 8);
            }
            prop_assert_eq!(icmp::Header::parse(&bytes).is_ok(), bytes.len() >= 8);
        }
    }
}
