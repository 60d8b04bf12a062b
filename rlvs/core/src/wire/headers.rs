// SPDX-License-Identifier: GPL-2.0

//! The headers of a packet of a protocol that has connections, read once and together.

use super::ip::Header;
use super::ip::Ip;
use super::sctp;
use super::tcp;
use super::udp;
use super::Error;
use super::IPPROTO_AH;
use super::IPPROTO_ESP;
use super::IPPROTO_SCTP;
use super::IPPROTO_TCP;
use super::IPPROTO_UDP;
use super::ISAKMP;
use crate::flow::Direction;
use crate::flow::Tuple;
use crate::proto;
use crate::proto::State;

/// The transport header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Segment {
    /// TCP.
    Tcp(tcp::Header),
    /// UDP; all that matters of it is in the tuple.
    Udp,
    /// SCTP; who reads it looks for its chunk.
    Sctp(sctp::Header),
    /// AH or ESP, which go with a connection of UDP.
    Ipsec,
}

impl Segment {
    /// Length of the header, in bytes; of what is behind SCTP's and IPsec's nothing is known.
    #[inline]
    pub fn header_len(&self) -> usize {
        match self {
            Self::Tcp(header) => header.header_len,
            Self::Udp => udp::LEN,
            Self::Sctp(_) => sctp::LEN,
            Self::Ipsec => 0,
        }
    }

    /// May it open a connection? With `sloppy`, anything of TCP but a RST and of SCTP but an ABORT may.
    #[inline]
    pub fn opens(&self, sloppy: bool) -> bool {
        match self {
            Self::Tcp(header) => proto::tcp::opens(header.flags, sloppy),
            Self::Udp => true,
            Self::Sctp(header) => proto::sctp::opens(header.chunk, sloppy),
            Self::Ipsec => false,
        }
    }

    /// Does it open a connection, whatever came before with the same tuple? UDP does not tell.
    #[inline]
    pub fn restarts(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Sctp(_) => self.opens(false),
            Self::Udp | Self::Ipsec => false,
        }
    }

    /// The state of a connection before its first packet.
    #[inline]
    pub fn first_state(&self) -> State {
        match self {
            Self::Tcp(_) => State::None,
            Self::Udp | Self::Ipsec => State::Udp,
            Self::Sctp(_) => State::SctpNone,
        }
    }

    /// Can it lead to another state?
    #[inline]
    pub fn has_states(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Sctp(_))
    }

    /// Does it leave a connection in the state it is in, whatever else there is to know? No is not certain.
    /// `established` says that this state is [`State::Established`].
    #[inline(always)]
    pub fn keeps(&self, established: bool) -> bool {
        let counts = tcp::Flags::SYN | tcp::Flags::FIN | tcp::Flags::RST | tcp::Flags::ACK;
        match self {
            Self::Tcp(header) => established && header.flags.0 & counts == tcp::Flags::ACK,
            Self::Udp | Self::Ipsec => true,
            Self::Sctp(_) => false,
        }
    }

    /// The state of a connection after it. `one_way` and `secure` are as in [`proto::tcp::step`].
    #[inline]
    pub fn step(&self, state: State, direction: Direction, one_way: bool, secure: bool) -> State {
        match self {
            Self::Tcp(header) => proto::tcp::step(state, direction, header.flags, one_way, secure),
            Self::Sctp(header) => proto::sctp::step(state, direction, header.chunk, one_way),
            Self::Udp | Self::Ipsec => state,
        }
    }
}

/// IP and transport header of a packet that is whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Headers<A> {
    /// The IP header.
    pub ip: Header<A>,
    /// The transport header.
    pub segment: Segment,
    /// Addresses, ports and protocol that the connection is known by.
    pub tuple: Tuple<A>,
}

impl<A: Ip> Headers<A> {
    /// The headers of a packet of which no more is known than who talks to whom: an error was about its
    /// answer. `ip` is that of the answer. `None` for a protocol without connections of its own.
    pub fn unseen(ip: Header<A>, tuple: Tuple<A>) -> Option<Self> {
        let segment = match tuple.proto {
            IPPROTO_TCP => Segment::Tcp(tcp::Header::bare(tuple.sport, tuple.dport)),
            // There is no datagram to look into.
            IPPROTO_UDP => Segment::Ipsec,
            IPPROTO_SCTP => Segment::Sctp(sctp::Header {
                sport: tuple.sport,
                dport: tuple.dport,
                chunk: None,
            }),
            _ => return None,
        };
        Some(Self { ip, segment, tuple })
    }

    /// How many bytes [`Headers::parse`] looks at; `None` for a protocol that it does not know.
    #[inline]
    pub fn needed(ip: &Header<A>) -> Option<usize> {
        let l4 = match ip.proto {
            IPPROTO_TCP => tcp::MIN_LEN,
            IPPROTO_UDP => udp::LEN,
            IPPROTO_SCTP => sctp::LEN,
            IPPROTO_AH | IPPROTO_ESP => 0,
            _ => return None,
        };
        Some(ip.header_len.wrapping_add(l4))
    }

    /// Reads the transport header of `packet`, which starts at its IP header `ip`.
    ///
    /// [`Error::Truncated`] if there are fewer bytes than [`Headers::needed`], or than the lengths
    /// in the headers say; [`Error::Malformed`] for another protocol.
    #[inline(always)]
    pub fn parse(ip: Header<A>, packet: &[u8]) -> Result<Self, Error> {
        let payload = (ip.total_len as usize)
            .checked_sub(ip.header_len)
            .ok_or(Error::Malformed)?;
        let l4 = packet.get(ip.header_len..).ok_or(Error::Truncated)?;
        let mut proto = ip.proto;
        let (sport, dport, segment) = match ip.proto {
            IPPROTO_TCP => {
                let header = tcp::Header::parse(l4)?;
                (header.sport, header.dport, Segment::Tcp(header))
            }
            IPPROTO_UDP => {
                let header = udp::Header::parse(l4)?;
                if usize::from(header.len) > payload {
                    return Err(Error::Truncated);
                }
                (header.sport, header.dport, Segment::Udp)
            }
            IPPROTO_SCTP => {
                let header = sctp::Header::parse(l4)?;
                (header.sport, header.dport, Segment::Sctp(header))
            }
            IPPROTO_AH | IPPROTO_ESP => {
                proto = IPPROTO_UDP;
                (ISAKMP, ISAKMP, Segment::Ipsec)
            }
            _ => return Err(Error::Malformed),
        };
        if segment.header_len() > payload {
            return Err(Error::Truncated);
        }
        Ok(Self {
            ip,
            segment,
            tuple: Tuple {
                src: ip.src,
                dst: ip.dst,
                sport,
                dport,
                proto,
            },
        })
    }

    /// Reads a packet of `len` bytes if there is nothing unusual about it, as with nearly all packets: TCP or
    /// UDP, whole, with no options in its IP header, hops left, and both headers in the slice. What this
    /// reads, [`Ip::parse`] and [`Headers::parse`] read likewise.
    // Always, these and what they call: a result that goes through memory costs as much as reading it.
    #[inline(always)]
    pub fn ordinary(packet: &[u8], len: usize) -> Option<Self> {
        let ip = A::ordinary(packet, len)?;
        if !matches!(ip.proto, IPPROTO_TCP | IPPROTO_UDP) {
            return None;
        }
        let headers = Self::parse(ip, packet).ok()?;
        (headers.len() <= packet.len()).then_some(headers)
    }

    /// Length of both headers, in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.ip.header_len.wrapping_add(self.segment.header_len())
    }

    /// Never: there are headers.
    #[inline]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Length of what follows them, in bytes.
    #[inline]
    pub fn payload(&self) -> usize {
        (self.ip.total_len as usize).saturating_sub(self.len())
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    /// A TCP packet of 20 + 20 + 4 bytes.
    fn packet() -> Vec<u8> {
        let mut packet = vec![0u8; 44];
        packet[0] = 0x45;
        packet[3] = 44;
        packet[8] = 64;
        packet[9] = IPPROTO_TCP;
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        packet[20..24].copy_from_slice(&[0x12, 0x34, 0, 80]);
        packet[32] = 0x50;
        packet[33] = tcp::Flags::SYN;
        packet
    }

    fn parse(packet: &[u8]) -> Result<Headers<Ipv4Addr>, Error> {
        Headers::parse(Ipv4Addr::parse(packet, 0)?, packet)
    }

    #[test]
    fn reads_tcp() {
        let headers = parse(&packet()).unwrap();
        assert_eq!((headers.tuple.sport, headers.tuple.dport), (0x1234, 80));
        assert_eq!((headers.len(), headers.payload()), (40, 4));
        assert!(headers.segment.opens(false));
        assert_eq!(Headers::needed(&headers.ip), Some(40));
    }

    /// Both parsers of a packet, of which the first is content with less.
    fn agree<A: Ip>(bytes: &[u8]) -> Result<(), TestCaseError> {
        if let Some(ordinary) = Headers::<A>::ordinary(bytes, bytes.len()) {
            let ip = A::parse(bytes, bytes.len());
            prop_assert!(ip.is_ok_and(|ip| !ip.is_fragment() && ip.hops > 1));
            prop_assert_eq!(ip.and_then(|ip| Headers::parse(ip, bytes)), Ok(ordinary));
            prop_assert_eq!(ordinary.ip.header_len, A::MIN_LEN);
            prop_assert!(ordinary.len() <= bytes.len());
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn ordinary_packets_are_read_alike(
            mut bytes in proptest::collection::vec(any::<u8>(), 40..110),
            good in any::<[bool; 5]>(),
            six in any::<bool>(),
        ) {
            let len = bytes.len() as u16;
            let (ip, proto) = if six { (40, 6) } else { (20, 9) };
            if good[0] {
                bytes[0] = if six { 0x60 } else { 0x45 };
            }
            if good[1] && six {
                bytes[4..6].copy_from_slice(&(len - 40).to_be_bytes());
            } else if good[1] {
                bytes[2..4].copy_from_slice(&len.to_be_bytes());
            }
            if good[2] && !six {
                let flags = bytes[6] & 0x40;
                bytes[6..8].copy_from_slice(&[flags, 0]);
            }
            if good[3] {
                bytes[proto] = if bytes[proto] & 1 == 0 { IPPROTO_TCP } else { IPPROTO_UDP };
            }
            if good[4] && bytes.len() >= ip + 20 {
                bytes[ip + 4..ip + 6].copy_from_slice(&(len - ip as u16).to_be_bytes());
                bytes[ip + 12] = 0x50 | bytes[ip + 12] & 0x10;
            }
            if six {
                agree::<core::net::Ipv6Addr>(&bytes)?;
            } else {
                agree::<Ipv4Addr>(&bytes)?;
            }
        }
    }

    #[test]
    fn what_is_ordinary() {
        let ordinary = |bytes: &[u8]| Headers::<Ipv4Addr>::ordinary(bytes, bytes.len());
        let good = packet();
        assert_eq!(ordinary(&good), parse(&good).ok());
        assert!(ordinary(&good).is_some());
        // Fragments, IP options, the last hop, another length, other protocols, TCP options that are not there.
        for (at, byte) in [
            (6, 0x20),
            (7, 1),
            (0, 0x46),
            (8, 1),
            (3, 43),
            (9, 1),
            (32, 0x70),
        ] {
            let mut odd = good.clone();
            odd[at] = byte;
            assert_eq!(ordinary(&odd), None, "{at}");
        }
    }

    #[test]
    fn what_opens_a_connection() {
        let tcp = |flags| {
            let mut bytes = packet();
            bytes[33] = flags;
            let segment = parse(&bytes).unwrap().segment;
            (segment.opens(false), segment.opens(true))
        };
        let (fin, syn, rst, ack) = (1, 2, 4, 16);
        assert_eq!(tcp(syn), (true, true));
        assert_eq!(tcp(syn | ack), (true, true));
        assert_eq!(tcp(ack), (false, true));
        assert_eq!(tcp(fin | ack), (false, true));
        assert_eq!(tcp(rst), (false, false));
        assert_eq!(tcp(syn | rst), (false, false));
    }

    #[test]
    fn a_state_that_is_kept_is_kept_in_every_table() {
        let mut kept = 0;
        for (flags, state) in (0..=u8::MAX).flat_map(|flags| State::ALL.map(|state| (flags, state)))
        {
            let mut bytes = packet();
            bytes[33] = flags;
            let segment = parse(&bytes).unwrap().segment;
            if !segment.keeps(state == State::Established) {
                continue;
            }
            kept += 1;
            for direction in [Direction::Original, Direction::Reply] {
                for (one_way, secure) in
                    [(false, false), (false, true), (true, false), (true, true)]
                {
                    assert_eq!(segment.step(state, direction, one_way, secure), state);
                }
            }
        }
        // With PSH, URG, ECE and CWR or without.
        assert_eq!(kept, 16);
    }

    #[test]
    fn a_header_longer_than_the_packet_is_refused() {
        let mut bytes = packet();
        bytes[32] = 0xf0;
        assert_eq!(parse(&bytes), Err(Error::Truncated));
    }

    #[test]
    fn a_udp_length_beyond_the_packet_is_refused() {
        let mut bytes = packet();
        bytes[9] = IPPROTO_UDP;
        bytes[25] = 24;
        assert!(matches!(parse(&bytes).unwrap().segment, Segment::Udp));
        bytes[25] = 25;
        assert_eq!(parse(&bytes), Err(Error::Truncated));
    }

    #[test]
    fn sctp_opens_with_its_chunk() {
        let mut bytes = packet();
        bytes[9] = IPPROTO_SCTP;
        let mut headers = parse(&bytes).unwrap();
        assert!(!headers.segment.opens(true));
        let Segment::Sctp(header) = &mut headers.segment else {
            panic!("{headers:?}");
        };
        header.chunk = Some(sctp::Chunk::INIT);
        assert!(headers.segment.opens(false) && headers.segment.restarts());
        assert_eq!(headers.segment.first_state(), State::SctpNone);
        assert_eq!(
            (headers.tuple.proto, headers.tuple.dport, headers.len()),
            (132, 80, 32)
        );
        assert_eq!(Headers::needed(&headers.ip), Some(32));
        bytes[3] = 31;
        assert_eq!(parse(&bytes), Err(Error::Truncated));
    }

    #[test]
    fn ah_and_esp_go_with_isakmp() {
        for proto in [IPPROTO_AH, IPPROTO_ESP] {
            let mut bytes = packet();
            bytes[9] = proto;
            let headers = parse(&bytes).unwrap();
            let (tuple, segment) = (headers.tuple, headers.segment);
            assert_eq!((tuple.proto, tuple.sport, tuple.dport), (17, 500, 500));
            assert!(!segment.opens(true) && !segment.restarts() && !segment.has_states());
            assert_eq!(headers.len(), 20);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(headers) = parse(&bytes) {
                prop_assert!(headers.len() <= headers.ip.total_len as usize);
            }
        }
    }
}
