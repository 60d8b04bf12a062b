// SPDX-License-Identifier: GPL-2.0

//! Bytes to headers and back.
//!
//! Headers are read once and by value: what a packet says later, after somebody else has had
//! the buffer, does not matter any more. Everything that writes checks all it needs first, so an
//! error means an unchanged packet.

pub mod checksum;
pub mod headers;
pub mod icmp;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod options;
pub mod rewrite;
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

/// Source and destination port of a TCP or UDP header, in host order.
///
/// Four bytes are enough, as an ICMP error quotes them. `None` for another protocol.
#[inline]
pub fn ports(proto: u8, l4: &[u8]) -> Option<(u16, u16)> {
    match proto {
        IPPROTO_TCP | IPPROTO_UDP => {
            let &[s0, s1, d0, d1] = l4.first_chunk()?;
            Some((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])))
        }
        _ => None,
    }
}

/// The ports of a packet that may open a connection, of any protocol that has connections: `l4` is
/// what follows its IP header.
///
/// A SYN of TCP, with `sloppy` anything but a RST, an INIT of SCTP and any UDP packet open one.
pub fn opens(proto: u8, l4: &[u8], sloppy: bool) -> Option<(u16, u16)> {
    /// The type of an SCTP chunk, and where the first one's stands.
    const INIT: u8 = 1;
    const CHUNK: usize = 12;
    let opens = match proto {
        IPPROTO_TCP => crate::proto::tcp::opens(tcp::Header::parse(l4).ok()?.flags, sloppy),
        IPPROTO_UDP => udp::Header::parse(l4).is_ok(),
        IPPROTO_SCTP => l4.get(CHUNK) == Some(&INIT),
        _ => false,
    };
    let &[s0, s1, d0, d1] = l4.first_chunk()?;
    opens.then_some((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])))
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::ip::Ip;
    use super::*;

    #[test]
    fn ports_need_four_bytes_and_a_protocol_that_has_them() {
        let quoted = [0x1f, 0x90, 0, 53];
        assert_eq!(ports(IPPROTO_TCP, &quoted), Some((8080, 53)));
        assert_eq!(ports(IPPROTO_UDP, &quoted), Some((8080, 53)));
        assert_eq!(ports(IPPROTO_ICMP, &quoted), None);
        assert_eq!(ports(IPPROTO_TCP, &quoted[..3]), None);
    }

    #[test]
    fn what_opens_a_connection() {
        let mut l4 = [0; 20];
        l4[..4].copy_from_slice(&[0x1f, 0x90, 0, 53]);
        (l4[12], l4[13]) = (0x50, tcp::Flags::SYN);
        assert_eq!(opens(IPPROTO_TCP, &l4, false), Some((8080, 53)));
        assert_eq!(opens(IPPROTO_TCP, &l4[..19], false), None);
        for flags in [tcp::Flags::ACK, tcp::Flags::SYN | tcp::Flags::RST] {
            l4[13] = flags;
            assert_eq!(opens(IPPROTO_TCP, &l4, false), None);
            let sloppy = flags == tcp::Flags::ACK;
            assert_eq!(opens(IPPROTO_TCP, &l4, true).is_some(), sloppy);
        }
        l4[12] = 1;
        assert_eq!(opens(IPPROTO_SCTP, &l4, false), Some((8080, 53)));
        assert_eq!(opens(IPPROTO_SCTP, &l4[..12], false), None);
        l4[12] = 3;
        assert_eq!(opens(IPPROTO_SCTP, &l4, false), None);
        l4[5] = 8;
        assert_eq!(opens(IPPROTO_UDP, &l4, false), Some((8080, 53)));
        assert_eq!(opens(IPPROTO_ICMP, &l4, false), None);
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
            prop_assert_eq!(ports(ip.proto, l4), Some((packet.sport, packet.dport)));
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
