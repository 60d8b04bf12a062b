// SPDX-License-Identifier: GPL-2.0

//! Whole packets for the tests, built and checked without the code under test.

use core::net::Ipv4Addr;
use core::net::Ipv6Addr;

use proptest::collection::vec;
use proptest::prelude::*;

use super::checksum::L4Checksum;
use super::ip::Ip;
use super::sctp;
use super::IPPROTO_ESP;
use super::IPPROTO_SCTP;
use super::IPPROTO_TCP;
use super::IPPROTO_UDP;

/// What a packet is made of. Lengths and checksums follow from it.
#[derive(Clone, Debug)]
pub(crate) struct Packet<A = Ipv4Addr> {
    pub(crate) src: A,
    pub(crate) dst: A,
    pub(crate) sport: u16,
    pub(crate) dport: u16,
    /// In words; of IPv6 in pairs of words, a header of destination options each.
    pub(crate) ip_options: Vec<u8>,
    pub(crate) l4: L4,
    pub(crate) payload: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(crate) enum L4 {
    Tcp {
        options: Vec<u8>,
        flags: u8,
    },
    Udp {
        with_checksum: bool,
    },
    Sctp,
    /// It has no ports.
    Esp,
}

/// RFC 1071, word by word.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
        if sum > 0xffff {
            sum -= 0xffff;
        }
    }
    !(sum as u16)
}

/// How a family's packets are put together.
pub(crate) trait Build: Ip {
    fn any() -> BoxedStrategy<Self>;
    fn bytes(self) -> Vec<u8>;
    /// The header with its options, checksum and all, of a packet with so many bytes behind it.
    fn header(src: Self, dst: Self, options: &[u8], proto: u8, behind: usize) -> Vec<u8>;
}

impl Build for Ipv4Addr {
    fn any() -> BoxedStrategy<Self> {
        any::<u32>().prop_map(Self::from).boxed()
    }

    fn bytes(self) -> Vec<u8> {
        self.octets().to_vec()
    }

    fn header(src: Self, dst: Self, options: &[u8], proto: u8, behind: usize) -> Vec<u8> {
        let len = 20 + options.len();
        let mut header = vec![0x40 | (len / 4) as u8, 0x10];
        header.extend(((len + behind) as u16).to_be_bytes());
        header.extend([0x12, 0x34, 0x40, 0x00, 63, proto, 0, 0]);
        header.extend(src.octets());
        header.extend(dst.octets());
        header.extend(options);
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }
}

impl Build for Ipv6Addr {
    fn any() -> BoxedStrategy<Self> {
        any::<u128>().prop_map(Self::from).boxed()
    }

    fn bytes(self) -> Vec<u8> {
        self.octets().to_vec()
    }

    fn header(src: Self, dst: Self, options: &[u8], proto: u8, behind: usize) -> Vec<u8> {
        let headers = options.len() / 8;
        let mut header = vec![0x61, 0x01, 0x23, 0x45];
        header.extend(((headers * 8 + behind) as u16).to_be_bytes());
        header.extend([if headers > 0 { 60 } else { proto }, 63]);
        header.extend(src.octets());
        header.extend(dst.octets());
        for (i, option) in options.chunks_exact(8).enumerate() {
            header.extend([if i + 1 < headers { 60 } else { proto }, 0]);
            header.extend(&option[2..]);
        }
        header
    }
}

impl<A: Build> Packet<A> {
    pub(crate) fn proto(&self) -> u8 {
        match self.l4 {
            L4::Tcp { .. } => IPPROTO_TCP,
            L4::Udp { .. } => IPPROTO_UDP,
            L4::Sctp => IPPROTO_SCTP,
            L4::Esp => IPPROTO_ESP,
        }
    }

    pub(crate) fn ihl(&self) -> usize {
        A::header(self.src, self.dst, &self.ip_options, 0, 0).len()
    }

    /// Where the transport checksum stands, of TCP and UDP.
    pub(crate) fn checksum_at(&self) -> usize {
        self.ihl()
            + match self.l4 {
                L4::Tcp { .. } => 16,
                L4::Udp { .. } => 6,
                L4::Sctp | L4::Esp => unreachable!(),
            }
    }

    fn pseudo(&self, segment_len: usize) -> Vec<u8> {
        let mut pseudo = Vec::new();
        pseudo.extend(self.src.bytes());
        pseudo.extend(self.dst.bytes());
        pseudo.extend([0, self.proto()]);
        pseudo.extend((segment_len as u16).to_be_bytes());
        pseudo
    }

    fn segment(&self) -> Vec<u8> {
        let mut segment = Vec::new();
        if let L4::Esp = self.l4 {
            segment.extend([1, 2, 3, 4, 0, 0, 0, 9]);
            segment.extend(&self.payload);
            return segment;
        }
        segment.extend(self.sport.to_be_bytes());
        segment.extend(self.dport.to_be_bytes());
        match &self.l4 {
            L4::Tcp { options, flags } => {
                segment.extend(0x0102_0304_u32.to_be_bytes());
                segment.extend(0x0506_0708_u32.to_be_bytes());
                let words = 5 + options.len() / 4;
                // The low bits of the data offset's byte are reserved, and may be set.
                segment.extend([(words as u8) << 4 | 0x3, *flags, 0x20, 0x00, 0, 0, 0, 7]);
                segment.extend(options);
            }
            L4::Udp { .. } => {
                segment.extend((8 + self.payload.len() as u16).to_be_bytes());
                segment.extend([0, 0]);
            }
            L4::Sctp => segment.extend([1, 2, 3, 4, 0, 0, 0, 0]),
            L4::Esp => {}
        }
        segment.extend(&self.payload);
        segment
    }

    /// The bytes on the wire, all checksums complete.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut segment = self.segment();
        if let L4::Sctp = self.l4 {
            let crc = sctp::tests::crc32c(&segment);
            segment[8..12].copy_from_slice(&crc.to_le_bytes());
        }
        let mut sum = self.pseudo(segment.len());
        sum.extend(&segment);
        let complete = match (&self.l4, checksum(&sum)) {
            (
                L4::Udp {
                    with_checksum: false,
                },
                _,
            ) => 0,
            (L4::Udp { .. }, 0) => 0xffff,
            (_, sum) => sum,
        };
        self.assemble(segment, complete)
    }

    /// The bytes as they reach a device that completes the transport checksum.
    pub(crate) fn build_partial(&self) -> Vec<u8> {
        let segment = self.segment();
        let pseudo = !checksum(&self.pseudo(segment.len()));
        self.assemble(segment, pseudo)
    }

    pub(crate) fn build_as(&self, csum: L4Checksum) -> Vec<u8> {
        match csum {
            L4Checksum::Full => self.build(),
            L4Checksum::Partial => self.build_partial(),
        }
    }

    fn assemble(&self, segment: Vec<u8>, l4_checksum: u16) -> Vec<u8> {
        let (options, proto) = (&self.ip_options, self.proto());
        let mut packet = A::header(self.src, self.dst, options, proto, segment.len());
        packet.extend(segment);
        if let L4::Sctp | L4::Esp = self.l4 {
            return packet;
        }
        let at = self.checksum_at();
        packet[at..at + 2].copy_from_slice(&l4_checksum.to_be_bytes());
        packet
    }
}

/// An ICMP error about a packet of which `quoted` came along.
pub(crate) fn icmp_error<A: Build>(
    src: A,
    dst: A,
    kind: u8,
    code: u8,
    rest: u32,
    quoted: &[u8],
) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest.to_be_bytes());
    message.extend(quoted);
    let mut summed = Vec::new();
    if !A::HEADER_CHECKSUM {
        summed.extend(src.bytes());
        summed.extend(dst.bytes());
        summed.extend((message.len() as u32).to_be_bytes());
        summed.extend([0, 0, 0, A::ICMP]);
    }
    summed.extend(&message);
    let sum = checksum(&summed);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = A::header(src, dst, &[], A::ICMP, message.len());
    packet.extend(message);
    packet
}

pub(crate) fn csum() -> impl Strategy<Value = L4Checksum> {
    prop_oneof![Just(L4Checksum::Full), Just(L4Checksum::Partial)]
}

/// One well-formed TCP option, or a NOP.
fn option() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(vec![1]),
        (any::<u16>()).prop_map(|mss| [vec![2, 4], mss.to_be_bytes().to_vec()].concat()),
        (any::<[u8; 8]>()).prop_map(|ts| [vec![8, 10], ts.to_vec()].concat()),
        (2..=255_u8, vec(any::<u8>(), 0..12)).prop_map(|(kind, data)| [
            vec![kind, data.len() as u8 + 2],
            data
        ]
        .concat()),
    ]
}

/// A well-formed list of options of at most `max` bytes, filled up to a multiple of 4 with EOL.
pub(crate) fn options(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(option(), 0..8).prop_map(move |list| {
        let mut bytes = Vec::new();
        for option in list {
            if bytes.len() + option.len() <= max {
                bytes.extend(option);
            }
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    })
}

pub(crate) fn tcp(max_options: usize) -> impl Strategy<Value = Packet> {
    tcp_of(max_options)
}

pub(crate) fn tcp_of<A: Build>(max_options: usize) -> impl Strategy<Value = Packet<A>> {
    (
        (A::any(), A::any(), any::<u16>(), any::<u16>()),
        vec(any::<u32>(), 0..=10),
        options(max_options),
        any::<u8>(),
        vec(any::<u8>(), 0..80),
    )
        .prop_map(
            |((src, dst, sport, dport), ip_options, options, flags, payload)| Packet {
                src,
                dst,
                sport,
                dport,
                ip_options: ip_options.into_iter().flat_map(u32::to_be_bytes).collect(),
                l4: L4::Tcp { options, flags },
                payload,
            },
        )
}

pub(crate) fn udp_of<A: Build>() -> impl Strategy<Value = Packet<A>> {
    (tcp_of(0), any::<bool>()).prop_map(|(packet, with_checksum)| Packet {
        l4: L4::Udp { with_checksum },
        ..packet
    })
}

pub(crate) fn packet() -> impl Strategy<Value = Packet> {
    packet_of()
}

pub(crate) fn packet_of<A: Build>() -> impl Strategy<Value = Packet<A>> {
    let without_options = || tcp_of(0);
    prop_oneof![
        tcp_of(40),
        udp_of(),
        without_options().prop_map(|packet| Packet {
            l4: L4::Sctp,
            ..packet
        }),
        without_options().prop_map(|packet| Packet {
            l4: L4::Esp,
            sport: super::ISAKMP,
            dport: super::ISAKMP,
            ..packet
        }),
    ]
}
