// SPDX-License-Identifier: GPL-2.0

//! Packets in packets: the outer IP header, and what stands between it and the inner one.
//!
//! ```text
//! IPIP   outer IP | inner IP ...
//! GRE    outer IP | GRE | inner IP ...            RFC 2784
//! GUE    outer IP | UDP | GUE | inner IP ...      draft-ietf-intarea-gue
//! ```
//!
//! GRE and UDP have a checksum if the operator wants one. With GUE the inner packet's own checksum may
//! be left to the far end instead (remote checksum offload): GUE then says what it covers and where it
//! belongs, and the outer one covers it meanwhile.

use core::net::Ipv4Addr;
use core::net::Ipv6Addr;

use super::icmp;
use super::ip::Header;
use super::ip::Ip;
use super::ipv4;
use super::ipv6;
use super::udp;
use super::IPPROTO_UDP;
use crate::flow::Family;
use crate::uapi::tunnel;

/// IPv4 in IP.
const IPPROTO_IPIP: u8 = 4;
/// IPv6 in IP.
const IPPROTO_IPV6: u8 = 41;
const IPPROTO_GRE: u8 = 47;

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

const GRE_LEN: usize = 4;
/// The GRE checksum and what is reserved beside it.
const GRE_CHECKSUM_LEN: usize = 4;
/// The flag that says it is there.
const GRE_CHECKSUM: u16 = 0x8000;

const GUE_LEN: usize = 4;
/// The private flags, and the two offsets of remote checksum offload.
const GUE_REMOTE_LEN: usize = 8;
/// Private flags follow.
const GUE_PRIVATE: u16 = 1;
/// The private flag for remote checksum offload.
const GUE_REMOTE: u32 = 1 << 31;

/// The longest that [`Tunnel::len`] can be.
pub const MAX_LEN: usize = udp::LEN + GUE_LEN + GUE_REMOTE_LEN;

/// How a destination's packets are wrapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tunnel {
    /// With an IP header and nothing else.
    Ipip,
    /// With GRE.
    Gre {
        /// GRE has a checksum.
        checksum: bool,
    },
    /// With GUE.
    Gue {
        /// The UDP port that is sent to, in host order.
        port: u16,
        /// UDP has a checksum.
        checksum: bool,
        /// Checksums that are not computed yet are left to the far end.
        remote: bool,
    },
}

/// What is left to the far end to compute: offsets in the inner packet, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remote {
    /// Where the checksum starts to cover it.
    pub start: u16,
    /// Where the checksum belongs.
    pub field: u16,
}

/// What the headers in front of a packet take over from its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inner {
    /// Its family.
    pub family: Family,
    /// Its type of service or traffic class.
    pub tos: u8,
    /// Its hops left.
    pub hops: u8,
    /// Whether the outer packet must not be fragmented either. IPv6 has no such flag.
    pub dont_fragment: bool,
}

impl Inner {
    /// Of a packet that takes one more hop before it is wrapped. `discover`: the sender is to learn how
    /// long packets may be.
    #[inline]
    pub fn of<A: Ip>(ip: &Header<A>, discover: bool) -> Self {
        let family = A::FAMILY;
        Self {
            family,
            tos: ip.tos,
            hops: ip.hops.saturating_sub(1),
            dont_fragment: discover && family == Family::V4 && ip.dont_fragment,
        }
    }
}

/// A wrapped packet, as an error quotes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quoted {
    /// How it is wrapped.
    kind: u8,
    /// The UDP port it was sent to, in host order; 0 without UDP.
    port: u16,
    /// The family of the inner packet.
    pub inner: Family,
    /// How many bytes stand between outer and inner IP header.
    pub len: usize,
}

impl Tunnel {
    /// A tunnel as an operator sets it. A kind that is unknown wraps like IPIP.
    pub fn new(kind: u8, port: u16, flags: u16) -> Self {
        let has = |flag: u16| flags & flag != 0;
        match kind {
            tunnel::GRE => Self::Gre {
                checksum: has(tunnel::CHECKSUM),
            },
            tunnel::GUE => Self::Gue {
                port,
                // The far end must know that what it computes from is right.
                checksum: has(tunnel::CHECKSUM | tunnel::REMOTE_CHECKSUM),
                remote: has(tunnel::REMOTE_CHECKSUM),
            },
            _ => Self::Ipip,
        }
    }

    /// Is the far end to compute the checksum of a packet that has none yet?
    #[inline]
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Gue { remote: true, .. })
    }

    /// How many bytes stand between the outer and the inner IP header. `remote`: the far end computes
    /// a checksum.
    #[inline]
    pub fn len(&self, remote: bool) -> usize {
        match self {
            Self::Ipip => 0,
            Self::Gre { checksum: false } => GRE_LEN,
            Self::Gre { checksum: true } => GRE_LEN + GRE_CHECKSUM_LEN,
            Self::Gue { .. } if remote => MAX_LEN,
            Self::Gue { .. } => udp::LEN + GUE_LEN,
        }
    }

    /// Writes what stands between the IP headers. `len` is the packet's from there on, `sport` the
    /// source port of UDP. Checksums are left 0.
    ///
    /// `None` if `between` has not the length that [`Tunnel::len`] tells.
    #[inline]
    pub fn write(
        &self,
        between: &mut [u8],
        inner: Family,
        len: usize,
        sport: u16,
        remote: Option<Remote>,
    ) -> Option<()> {
        if between.len() != self.len(remote.is_some()) {
            return None;
        }
        match *self {
            Self::Ipip => {}
            Self::Gre { checksum } => {
                let flags = if checksum { GRE_CHECKSUM } else { 0 };
                let ([f0, f1], [p0, p1]) = (flags.to_be_bytes(), ether_type(inner).to_be_bytes());
                let (header, rest) = between.split_first_chunk_mut::<GRE_LEN>()?;
                *header = [f0, f1, p0, p1];
                rest.fill(0);
            }
            Self::Gue { port, .. } => {
                let (udp, gue) = between.split_first_chunk_mut::<{ udp::LEN }>()?;
                // A GSO packet may be longer than the field can tell: its segments get their own.
                let len = u16::try_from(len).unwrap_or(0);
                let ([s0, s1], [d0, d1]) = (sport.to_be_bytes(), port.to_be_bytes());
                let [l0, l1] = len.to_be_bytes();
                *udp = [s0, s1, d0, d1, l0, l1, 0, 0];
                let (gue, options) = gue.split_first_chunk_mut::<GUE_LEN>()?;
                *gue = [0, ip_in_ip(inner), 0, 0];
                if let Some(remote) = remote {
                    let options: &mut [u8; GUE_REMOTE_LEN] = options.first_chunk_mut()?;
                    let [f0, f1] = GUE_PRIVATE.to_be_bytes();
                    let words = (GUE_REMOTE_LEN / 4) as u8;
                    *gue = [words, ip_in_ip(inner), f0, f1];
                    let [p0, p1, p2, p3] = GUE_REMOTE.to_be_bytes();
                    let [s0, s1] = remote.start.to_be_bytes();
                    let [c0, c1] = remote.field.to_be_bytes();
                    *options = [p0, p1, p2, p3, s0, s1, c0, c1];
                }
            }
        }
        Some(())
    }

    /// The protocol of what follows the outer IP header.
    #[inline]
    pub fn proto(&self, inner: Family) -> u8 {
        match self {
            Self::Ipip => ip_in_ip(inner),
            Self::Gre { .. } => IPPROTO_GRE,
            Self::Gue { .. } => IPPROTO_UDP,
        }
    }

    /// Could it have wrapped a packet that an error quotes?
    pub fn wraps_like(&self, quoted: &Quoted) -> bool {
        match *self {
            Self::Ipip => quoted.kind == tunnel::IPIP,
            Self::Gre { .. } => quoted.kind == tunnel::GRE,
            Self::Gue { port, .. } => quoted.kind == tunnel::GUE && quoted.port == port,
        }
    }
}

/// A family whose headers packets are wrapped in.
pub trait Outer: Ip {
    /// Writes the IP header at the start of `bytes`, and gives what follows it. What the kernel completes
    /// is left 0: its length, and of IPv4 identification and checksum. IPv6 gets no flow label. `None` if
    /// there is no room.
    fn write_outer<'b>(
        bytes: &'b mut [u8],
        src: Self,
        dst: Self,
        proto: u8,
        inner: &Inner,
    ) -> Option<&'b mut [u8]>;
}

impl Outer for Ipv4Addr {
    #[inline]
    fn write_outer<'b>(
        bytes: &'b mut [u8],
        src: Self,
        dst: Self,
        proto: u8,
        inner: &Inner,
    ) -> Option<&'b mut [u8]> {
        let (header, rest) = bytes.split_first_chunk_mut::<{ ipv4::MIN_LEN }>()?;
        let fragment = if inner.dont_fragment { 0x40 } else { 0 };
        let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (src.octets(), dst.octets());
        let (tos, hops) = (outer_tos(inner.tos), inner.hops);
        *header = [
            0x45, tos, 0, 0, 0, 0, fragment, 0, hops, proto, 0, 0, s0, s1, s2, s3, d0, d1, d2, d3,
        ];
        Some(rest)
    }
}

impl Outer for Ipv6Addr {
    #[inline]
    fn write_outer<'b>(
        bytes: &'b mut [u8],
        src: Self,
        dst: Self,
        proto: u8,
        inner: &Inner,
    ) -> Option<&'b mut [u8]> {
        let (header, rest) = bytes.split_first_chunk_mut::<{ ipv6::LEN }>()?;
        let (start, addresses) = header.split_first_chunk_mut::<8>()?;
        let tos = outer_tos(inner.tos);
        *start = [0x60 | tos >> 4, tos << 4, 0, 0, 0, 0, proto, inner.hops];
        let (from, to) = addresses.split_first_chunk_mut::<16>()?;
        *from = src.octets();
        *to.first_chunk_mut()? = dst.octets();
        Some(rest)
    }
}

/// What the outer header says of service and congestion (RFC 3168, 9.1.1): congestion that was met
/// before the tunnel is the inner header's to tell.
#[inline]
fn outer_tos(inner: u8) -> u8 {
    const ECN: u8 = 3;
    const ECT_0: u8 = 2;
    if inner & ECN == ECN {
        inner & !ECN | ECT_0
    } else {
        inner
    }
}

#[inline]
fn ip_in_ip(inner: Family) -> u8 {
    match inner {
        Family::V4 => IPPROTO_IPIP,
        Family::V6 => IPPROTO_IPV6,
    }
}

#[inline]
fn ether_type(inner: Family) -> u16 {
    match inner {
        Family::V4 => ETH_P_IP,
        Family::V6 => ETH_P_IPV6,
    }
}

/// Reads what follows the outer IP header, with that protocol, of a packet that an error quotes; `None`
/// if it is nothing that [`Tunnel::write`] writes. The inner packet need not be there.
pub fn quoted(proto: u8, bytes: &[u8]) -> Option<Quoted> {
    let family = |proto| match proto {
        IPPROTO_IPIP => Some(Family::V4),
        IPPROTO_IPV6 => Some(Family::V6),
        _ => None,
    };
    let of = |kind, port, inner, len| {
        Some(Quoted {
            kind,
            port,
            inner,
            len,
        })
    };
    match proto {
        IPPROTO_IPIP | IPPROTO_IPV6 => of(tunnel::IPIP, 0, family(proto)?, 0),
        IPPROTO_GRE => {
            let &[f0, f1, p0, p1] = bytes.first_chunk()?;
            let inner = match u16::from_be_bytes([p0, p1]) {
                ETH_P_IP => Family::V4,
                ETH_P_IPV6 => Family::V6,
                _ => return None,
            };
            match u16::from_be_bytes([f0, f1]) {
                0 => of(tunnel::GRE, 0, inner, GRE_LEN),
                GRE_CHECKSUM => of(tunnel::GRE, 0, inner, GRE_LEN + GRE_CHECKSUM_LEN),
                _ => None,
            }
        }
        IPPROTO_UDP => {
            let &[_, _, d0, d1, _, _, _, _, first, inner, ..] =
                bytes.first_chunk::<{ udp::LEN + GUE_LEN }>()?;
            // The highest bits are version and control.
            let options = match first {
                0..=31 => usize::from(first) << 2,
                _ => return None,
            };
            let port = u16::from_be_bytes([d0, d1]);
            of(
                tunnel::GUE,
                port,
                family(inner)?,
                udp::LEN + GUE_LEN + options,
            )
        }
        _ => None,
    }
}

/// The type and code with which an error about the outer packet is told to the sender of the inner one.
///
/// Within a family they stay. Between families a packet too big is a packet too big, and whatever else
/// happens in a tunnel leaves the other end out of reach (RFC 2473, 8.2).
pub fn relayed(outer: Family, inner: Family, kind: u8, code: u8) -> (u8, u8) {
    let too_big = is_too_big(outer, kind, code);
    match (outer, inner) {
        (Family::V4, Family::V6) if too_big => (icmp::V6_PACKET_TOO_BIG, 0),
        (Family::V4, Family::V6) => (icmp::V6_DEST_UNREACH, icmp::V6_ADDR_UNREACH),
        (Family::V6, Family::V4) if too_big => (icmp::DEST_UNREACH, icmp::FRAG_NEEDED),
        (Family::V6, Family::V4) => (icmp::DEST_UNREACH, icmp::HOST_UNREACH),
        _ => (kind, code),
    }
}

/// Is the error about a packet that is too big for the path?
pub fn is_too_big(family: Family, kind: u8, code: u8) -> bool {
    match family {
        Family::V4 => kind == icmp::DEST_UNREACH && code == icmp::FRAG_NEEDED,
        Family::V6 => kind == icmp::V6_PACKET_TOO_BIG,
    }
}

/// Every path takes IPv4 packets of this length (RFC 791).
pub const LEAST_MTU_V4: u32 = 68;
/// Every path takes IPv6 packets of this length (RFC 8200).
pub const LEAST_MTU_V6: u32 = 1280;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing;
    use super::*;

    const V4: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 2, 0, 1), Ipv4Addr::new(10, 2, 0, 11));

    fn inner(tos: u8, dont_fragment: bool) -> Inner {
        Inner {
            family: Family::V4,
            tos,
            hops: 63,
            dont_fragment,
        }
    }

    fn written(tunnel: Tunnel, family: Family, remote: Option<Remote>) -> Vec<u8> {
        let mut bytes = vec![0xaa; tunnel.len(remote.is_some())];
        tunnel
            .write(&mut bytes, family, 100, 0xc350, remote)
            .unwrap();
        bytes
    }

    #[test]
    fn what_stands_between() {
        let gre = |checksum| Tunnel::Gre { checksum };
        assert_eq!(written(Tunnel::Ipip, Family::V4, None), []);
        assert_eq!(written(gre(false), Family::V4, None), [0, 0, 8, 0]);
        let with = [0x80, 0, 0x86, 0xdd, 0, 0, 0, 0];
        assert_eq!(written(gre(true), Family::V6, None), with);
        let gue = Tunnel::new(tunnel::GUE, 6080, tunnel::REMOTE_CHECKSUM);
        let udp = [0xc3, 0x50, 0x17, 0xc0, 0, 100, 0, 0];
        assert_eq!(
            written(gue, Family::V4, None),
            [&udp[..], &[0, 4, 0, 0]].concat()
        );
        let remote = Remote {
            start: 20,
            field: 36,
        };
        let options = [2, 41, 0, 1, 0x80, 0, 0, 0, 0, 20, 0, 36];
        let whole = [&udp[..], &options].concat();
        assert_eq!(written(gue, Family::V6, Some(remote)), whole);
        assert_eq!(whole.len(), MAX_LEN);
    }

    #[test]
    fn tunnels_as_operators_set_them() {
        let gue = |flags| Tunnel::new(tunnel::GUE, 6080, flags);
        let (port, checksum, remote) = (6080, true, true);
        assert_eq!(
            gue(2),
            Tunnel::Gue {
                port,
                checksum,
                remote
            }
        );
        let remote = false;
        assert_eq!(
            gue(1),
            Tunnel::Gue {
                port,
                checksum,
                remote
            }
        );
        let checksum = false;
        assert_eq!(
            gue(0),
            Tunnel::Gue {
                port,
                checksum,
                remote
            }
        );
        // There is nothing remote about GRE, and no such kind as 9.
        assert_eq!(Tunnel::new(tunnel::GRE, 0, 2), Tunnel::Gre { checksum });
        assert_eq!(Tunnel::new(9, 1, 1), Tunnel::Ipip);
    }

    #[test]
    fn outer_headers() {
        let mut v4 = [0; 20];
        Ipv4Addr::write_outer(&mut v4, V4.0, V4.1, 47, &inner(0x10, true)).unwrap();
        let addresses = [10, 2, 0, 1, 10, 2, 0, 11];
        let start = [0x45, 0x10, 0, 0, 0, 0, 0x40, 0, 63, 47, 0, 0];
        assert_eq!(v4[..12], start);
        assert_eq!(v4[12..], addresses);
        Ipv4Addr::write_outer(&mut v4, V4.0, V4.1, 47, &inner(0x10, false)).unwrap();
        assert_eq!(v4[6], 0);
        let (src, dst) = (V4.0.to_ipv6_mapped(), V4.1.to_ipv6_mapped());
        let mut v6 = [0; 41];
        let rest = Ipv6Addr::write_outer(&mut v6, src, dst, 4, &inner(0xab, true));
        assert_eq!(rest.map(|rest| rest.len()), Some(1));
        assert_eq!(v6[..8], [0x6a, 0xa0, 0, 0, 0, 0, 4, 63]);
        assert_eq!(v6[8..24], src.octets());
        assert_eq!(v6[24..40], dst.octets());
        assert!(Ipv6Addr::write_outer(&mut v6[..39], src, dst, 4, &inner(0, true)).is_none());
    }

    #[test]
    fn congestion_stays_inside() {
        let outer: Vec<u8> = (0..4).map(|ecn| outer_tos(0xb8 | ecn)).collect();
        assert_eq!(outer, [0xb8, 0xb9, 0xba, 0xba]);
    }

    #[test]
    fn errors_between_families() {
        use Family::{V4, V6};
        assert_eq!(relayed(V4, V4, 11, 1), (11, 1));
        assert_eq!(relayed(V6, V6, 2, 0), (2, 0));
        assert_eq!(relayed(V4, V6, 3, 4), (2, 0));
        assert_eq!(relayed(V4, V6, 3, 1), (1, 3));
        assert_eq!(relayed(V6, V4, 2, 0), (3, 4));
        assert_eq!(relayed(V6, V4, 3, 0), (3, 1));
    }

    #[test]
    fn what_nobody_here_has_wrapped() {
        // GRE with a key, of version 1, with Ethernet in it.
        assert_eq!(quoted(IPPROTO_GRE, &[0x20, 0, 8, 0]), None);
        assert_eq!(quoted(IPPROTO_GRE, &[0, 1, 8, 0]), None);
        assert_eq!(quoted(IPPROTO_GRE, &[0, 0, 0x65, 0x58]), None);
        // GUE of version 1, a control message, with TCP in it.
        for [first, proto] in [[0x40, 4], [0x20, 4], [0, 6]] {
            assert_eq!(
                quoted(17, &[0, 1, 0, 2, 0, 9, 0, 0, first, proto, 0, 0]),
                None
            );
        }
        assert_eq!(quoted(6, &[0; 40]), None);
    }

    fn tunnels() -> impl Strategy<Value = Tunnel> {
        (0u8..3, any::<u16>(), 0u16..4)
            .prop_map(|(kind, port, flags)| Tunnel::new(kind, port, flags))
    }

    fn families() -> impl Strategy<Value = Family> {
        prop::sample::select(vec![Family::V4, Family::V6])
    }

    proptest! {
        #[test]
        fn what_is_written_is_recognised_when_quoted(
            tunnel in tunnels(),
            other in tunnels(),
            family in families(),
            len in 12usize..70000,
            sport: u16,
            remote in any::<Option<(u16, u16)>>(),
        ) {
            let remote = remote.filter(|_| tunnel.is_remote());
            let remote = remote.map(|(start, field)| Remote { start, field });
            let mut bytes = vec![0; tunnel.len(remote.is_some())];
            tunnel.write(&mut bytes, family, len, sport, remote).unwrap();
            let proto = tunnel.proto(family);
            let read = quoted(proto, &bytes).unwrap();
            prop_assert_eq!((read.inner, read.len), (family, bytes.len()));
            prop_assert!(tunnel.wraps_like(&read));
            let same_kind = core::mem::discriminant(&tunnel) == core::mem::discriminant(&other);
            prop_assert!(same_kind || !other.wraps_like(&read));
            // Cut off anywhere it is something shorter or nothing, never something else.
            for len in 0..bytes.len() {
                prop_assert!(quoted(proto, &bytes[..len]).is_none_or(|cut| cut == read));
            }
            bytes.push(0);
            prop_assert!(tunnel.write(&mut bytes, family, len, sport, remote).is_none());
        }

        #[test]
        fn any_bytes_are_a_tunnel_or_not(
            proto in prop::sample::select(vec![4u8, 41, 47, 17, 6]),
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            if let Some(read) = quoted(proto, &bytes) {
                prop_assert!(read.len <= udp::LEN + GUE_LEN + 31 * 4);
            }
        }

        #[test]
        fn outer_headers_are_read_as_they_were_written(
            tos: u8, hops: u8, df: bool, proto: u8, src: [u8; 4], dst: [u8; 4],
        ) {
            let inner = Inner { family: Family::V4, tos, hops, dont_fragment: df };
            let mut packet = [0; 20];
            Ipv4Addr::write_outer(&mut packet, src.into(), dst.into(), proto, &inner).unwrap();
            // What is left to the kernel.
            packet[3] = 20;
            let check = ipv4::header_checksum(&packet).to_be_bytes();
            packet[10..12].copy_from_slice(&check);
            prop_assert_eq!(testing::checksum(&packet), 0);
            let read = Ipv4Addr::parse(&packet, 0).unwrap();
            prop_assert_eq!((read.hops, read.dont_fragment, read.proto), (hops, df, proto));
            prop_assert_eq!((read.src.octets(), read.dst.octets()), (src, dst));
            prop_assert_eq!(read.tos & !3, tos & !3);
            prop_assert!(read.tos & 3 != 3);
        }
    }
}
