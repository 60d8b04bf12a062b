// SPDX-License-Identifier: GPL-2.0

//! Address translation in place, with incremental checksums.

use super::checksum::Delta;
pub use super::checksum::L4Checksum;
use super::headers::Segment;
use super::icmp;
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

/// Gives a packet new addresses and, but for AH and ESP, new ports, and fixes all checksums.
///
/// `packet` starts with the IP header `header`, and holds at least the fixed part of the transport
/// header: 20 bytes of TCP, 8 of UDP, 12 of SCTP. A complete UDP checksum of 0 (none) stays 0, and one
/// that becomes 0 is sent as 0xffff. An error ([`Error::Malformed`] for another protocol) leaves the
/// packet unchanged.
#[inline]
pub fn transport<A: Ip>(
    packet: &mut [u8],
    header: &Header<A>,
    src: (A, u16),
    dst: (A, u16),
    csum: L4Checksum,
) -> Result<(), Error> {
    let (ip, l4) = packet
        .split_at_mut_checked(header.header_len)
        .ok_or(Error::Truncated)?;
    match header.proto {
        IPPROTO_TCP => tcp(ip, l4, src, dst, csum)?,
        IPPROTO_UDP => udp(ip, l4, src, dst, csum)?,
        IPPROTO_SCTP => {
            let h: &mut [u8; sctp::LEN] = l4.first_chunk_mut().ok_or(Error::Truncated)?;
            let _ = A::set_addresses(ip, src.0, dst.0).ok_or(Error::Truncated)?;
            let len = (header.total_len as usize).saturating_sub(header.header_len);
            sctp::set_ports(h, src.1, dst.1, len, csum);
        }
        IPPROTO_AH | IPPROTO_ESP => {
            let _ = A::set_addresses(ip, src.0, dst.0).ok_or(Error::Truncated)?;
        }
        _ => return Err(Error::Malformed),
    }
    Ok(())
}

/// The same for a packet that [`Headers::ordinary`](super::headers::Headers::ordinary) reads, of TCP or UDP.
// Always, as that: the length of the IP header is known.
#[inline(always)]
pub fn ordinary<A: Ip>(
    packet: &mut [u8],
    segment: &Segment,
    src: (A, u16),
    dst: (A, u16),
    csum: L4Checksum,
) -> Result<(), Error> {
    let (ip, l4) = packet
        .split_at_mut_checked(A::MIN_LEN)
        .ok_or(Error::Truncated)?;
    match segment {
        Segment::Tcp(_) => tcp(ip, l4, src, dst, csum),
        Segment::Udp => udp(ip, l4, src, dst, csum),
        Segment::Sctp(_) | Segment::Ipsec => Err(Error::Malformed),
    }
}

#[inline(always)]
fn tcp<A: Ip>(
    ip: &mut [u8],
    l4: &mut [u8],
    src: (A, u16),
    dst: (A, u16),
    csum: L4Checksum,
) -> Result<(), Error> {
    let h: &mut [u8; tcp::MIN_LEN] = l4.first_chunk_mut().ok_or(Error::Truncated)?;
    let addrs = A::set_addresses(ip, src.0, dst.0).ok_or(Error::Truncated)?;
    let [p0, p1, p2, p3, .., c0, c1, _, _] = h;
    let ports = set_ports([p0, p1, p2, p3], src.1, dst.1);
    let field = u16::from_be_bytes([*c0, *c1]);
    [*c0, *c1] = match csum {
        L4Checksum::Partial => addrs.apply_partial(field),
        L4Checksum::Full => addrs.and(ports).apply(field),
    }
    .to_be_bytes();
    Ok(())
}

#[inline(always)]
fn udp<A: Ip>(
    ip: &mut [u8],
    l4: &mut [u8],
    src: (A, u16),
    dst: (A, u16),
    csum: L4Checksum,
) -> Result<(), Error> {
    let h: &mut [u8; udp::LEN] = l4.first_chunk_mut().ok_or(Error::Truncated)?;
    let addrs = A::set_addresses(ip, src.0, dst.0).ok_or(Error::Truncated)?;
    let [p0, p1, p2, p3, _, _, c0, c1] = h;
    let ports = set_ports([p0, p1, p2, p3], src.1, dst.1);
    let field = u16::from_be_bytes([*c0, *c1]);
    [*c0, *c1] = match csum {
        L4Checksum::Partial => addrs.apply_partial(field),
        L4Checksum::Full => udp_checksum(addrs.and(ports), field),
    }
    .to_be_bytes();
    Ok(())
}

/// What an ICMP error is to become.
#[derive(Clone, Copy, Debug)]
pub struct Translation<A> {
    /// Its own source; `None` leaves it as it is.
    pub src: Option<A>,
    /// Its own destination; `None` leaves it as it is.
    pub dst: Option<A>,
    /// Source of the packet that it quotes.
    pub quoted_src: (A, u16),
    /// Destination of the packet that it quotes.
    pub quoted_dst: (A, u16),
    /// The MTU that it tells; ignored if it is not about one.
    pub mtu: Option<u32>,
}

/// Translates an ICMP error and the packet that it quotes.
///
/// `packet` is the IP header of `header_len` bytes, the ICMP header, and the quoted IP header with
/// at least its ports behind it; more may follow. The quoted packet's checksums follow as far as it is
/// quoted. The ICMP checksum is always complete and is fixed for all that changed.
///
/// An error leaves the packet unchanged: [`Error::Malformed`] if it is not an ICMP error as
/// [`Ip::is_icmp_error`] has it, or quotes a protocol that [`super::key`] does not know, or a later
/// fragment.
#[inline]
pub fn icmp_error<A: Ip>(
    packet: &mut [u8],
    header_len: usize,
    to: &Translation<A>,
) -> Result<(), Error> {
    let (outer, message) = packet
        .split_at_mut_checked(header_len)
        .ok_or(Error::Truncated)?;
    let (outer_src, outer_dst) = A::addresses(outer).ok_or(Error::Truncated)?;
    let header = icmp::Header::parse(message)?;
    let (icmp, quoted) = message
        .split_first_chunk_mut::<{ icmp::LEN }>()
        .ok_or(Error::Truncated)?;
    let inner = A::parse(quoted, 0)?;
    if !A::is_icmp_error(header.kind) || inner.fragment_offset != 0 {
        return Err(Error::Malformed);
    }
    let (inner_ip, inner_l4) = quoted
        .split_at_mut_checked(inner.header_len)
        .ok_or(Error::Truncated)?;
    if super::key(inner.proto, inner_l4).is_none() {
        return Err(match inner_l4.len() {
            0..4 => Error::Truncated,
            _ => Error::Malformed,
        });
    }

    let (src, dst) = (to.quoted_src, to.quoted_dst);
    let addrs = A::set_addresses(inner_ip, src.0, dst.0).ok_or(Error::Truncated)?;
    let len = (inner.total_len as usize).saturating_sub(inner.header_len);
    let mut delta = quoted_ports(inner_l4, inner.proto, len, addrs, (src.1, dst.1));
    if !A::HEADER_CHECKSUM {
        // The sum of a header with a checksum stays the same if that follows an edit.
        delta = delta.and(addrs);
    }
    if let (Some(_), Some(mtu)) = (A::next_hop_mtu(&header), to.mtu) {
        delta = delta.and(A::set_next_hop_mtu(icmp, mtu));
    }
    let outer = A::set_addresses(
        outer,
        to.src.unwrap_or(outer_src),
        to.dst.unwrap_or(outer_dst),
    );
    if let (Some(outer), false) = (outer, A::HEADER_CHECKSUM) {
        delta = delta.and(outer);
    }
    [icmp[2], icmp[3]] = delta.apply(header.checksum).to_be_bytes();
    Ok(())
}

/// Gives the transport header of a quoted packet new ports, of which `len` bytes were sent and at least 4
/// are quoted if it has ports, and fixes its checksum if that is quoted, too; returns what changed. `addrs`
/// is what the new addresses are to a pseudo header.
#[inline]
fn quoted_ports(
    l4: &mut [u8],
    proto: u8,
    len: usize,
    addrs: Delta,
    (sport, dport): (u16, u16),
) -> Delta {
    // All that may change.
    let end = l4.len().min(18) & !1;
    let Some(head) = l4.get_mut(..end) else {
        return Delta::new();
    };
    let before = Delta::new().remove(head);
    match (proto, &mut *head) {
        (IPPROTO_UDP, [p0, p1, p2, p3, rest @ ..]) => {
            let ports = set_ports([p0, p1, p2, p3], sport, dport);
            if let [_, _, c0, c1, ..] = rest {
                let field = u16::from_be_bytes([*c0, *c1]);
                [*c0, *c1] = udp_checksum(addrs.and(ports), field).to_be_bytes();
            }
        }
        (IPPROTO_TCP, [p0, p1, p2, p3, rest @ ..]) => {
            let ports = set_ports([p0, p1, p2, p3], sport, dport);
            if let [_, _, _, _, _, _, _, _, _, _, _, _, c0, c1] = rest {
                let field = u16::from_be_bytes([*c0, *c1]);
                [*c0, *c1] = addrs.and(ports).apply(field).to_be_bytes();
            }
        }
        (IPPROTO_SCTP, head) => match head.first_chunk_mut() {
            Some(header) => sctp::set_ports(header, sport, dport, len, L4Checksum::Full),
            None => {
                if let [p0, p1, p2, p3, ..] = head {
                    let _ = set_ports([p0, p1, p2, p3], sport, dport);
                }
            }
        },
        _ => {}
    }
    before.append(head)
}

/// Sets both ports; every header that has ports begins with them.
// Always: what it is given are parts of an array, and four bytes in a row are one word only for who sees that.
#[inline(always)]
fn set_ports(bytes: [&mut u8; 4], sport: u16, dport: u16) -> Delta {
    let [s0, s1, d0, d1] = bytes;
    let old = u32::from_be_bytes([*s0, *s1, *d0, *d1]);
    let new = u32::from(sport) << 16 | u32::from(dport);
    [*s0, *s1, *d0, *d1] = new.to_be_bytes();
    Delta::new().u32(old, new)
}

#[inline]
fn udp_checksum(delta: Delta, old: u16) -> u16 {
    match (old, delta.apply(old)) {
        (0, _) => 0,
        (_, 0) => 0xffff,
        (_, new) => new,
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;
    use core::net::Ipv6Addr;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::testing;
    use super::super::testing::Build;
    use super::super::testing::Packet;
    use super::super::testing::L4;
    use super::*;

    fn end<A: Build>() -> impl Strategy<Value = (A, u16)> {
        (A::any(), any::<u16>())
    }

    fn header<A: Build>(packet: &[u8]) -> Header<A> {
        A::parse(packet, 0).unwrap()
    }

    fn moved<A: Build>(packet: &Packet<A>, src: (A, u16), dst: (A, u16)) -> Packet<A> {
        Packet {
            src: src.0,
            dst: dst.0,
            sport: src.1,
            dport: dst.1,
            ..packet.clone()
        }
    }

    /// An ICMP message of each family: type and code, and whether it tells an MTU.
    trait Errors: Build {
        const KINDS: [(u8, u8, bool); 3];
        const ECHO: u8;
        /// Where the offset of a fragment stands, in a header of those options.
        fn make_later_fragment(header: &mut [u8]);
    }

    impl Errors for Ipv4Addr {
        const KINDS: [(u8, u8, bool); 3] = [(3, 4, true), (3, 3, false), (11, 0, false)];
        const ECHO: u8 = 8;
        fn make_later_fragment(header: &mut [u8]) {
            header[7] = 1;
        }
    }

    impl Errors for Ipv6Addr {
        const KINDS: [(u8, u8, bool); 3] = [(2, 0, true), (1, 4, false), (3, 0, false)];
        const ECHO: u8 = 128;
        fn make_later_fragment(header: &mut [u8]) {
            (header[6], header[40], header[42]) = (44, 6, 1);
        }
    }

    macro_rules! of_both_families {
        ($($family:ident: $addr:ty),*) => { $(mod $family {
            use super::*;
            type A = $addr;

    proptest! {
        #[test]
        fn a_rewritten_packet_is_the_one_built_anew(
            packet in testing::packet_of::<A>(),
            src in end(),
            dst in end(),
            csum in testing::csum(),
        ) {
            let mut bytes = packet.build_as(csum);
            let ip = header(&bytes);
            transport::<A>(&mut bytes, &ip, src, dst, csum).unwrap();
            prop_assert_eq!(bytes, moved(&packet, src, dst).build_as(csum));
        }

        #[test]
        fn there_and_back_changes_nothing(
            packet in testing::packet_of::<A>(),
            src in end(),
            dst in end(),
            csum in testing::csum(),
        ) {
            let before = packet.build_as(csum);
            let mut bytes = before.clone();
            let ip = header(&bytes);
            transport::<A>(&mut bytes, &ip, src, dst, csum).unwrap();
            let (src, dst) = ((packet.src, packet.sport), (packet.dst, packet.dport));
            transport::<A>(&mut bytes, &ip, src, dst, csum).unwrap();
            prop_assert_eq!(bytes, before);
        }

        #[test]
        fn a_udp_checksum_of_zero_is_sent_as_ones(
            packet in testing::udp_of::<A>(),
            src in end(),
            dst in end(),
        ) {
            let mut target = moved(&packet, src, dst);
            target.l4 = L4::Udp { with_checksum: true };
            // Adding its checksum to a packet makes the checksum 0.
            target.payload = vec![0, 0];
            let at = target.checksum_at();
            let sum = target.build()[at..at + 2].to_vec();
            prop_assume!(sum != [0xff, 0xff]);
            target.payload = sum;
            let mut bytes = moved(&target, (packet.src, packet.sport), (packet.dst, packet.dport)).build();
            let ip = header(&bytes);
            transport::<A>(&mut bytes, &ip, src, dst, L4Checksum::Full).unwrap();
            prop_assert_eq!(&bytes[at..at + 2], [0xff, 0xff]);
            prop_assert_eq!(bytes, target.build());
        }

        #[test]
        fn a_truncated_packet_is_refused_unchanged(
            packet in testing::packet_of::<A>(),
            src in end(),
            dst in end(),
        ) {
            let l4_len = match packet.proto() {
                IPPROTO_TCP => 20,
                IPPROTO_UDP => 8,
                IPPROTO_SCTP => 12,
                _ => 0,
            };
            let whole = packet.build();
            let mut ip = header(&whole);
            for len in 0..packet.ihl() + l4_len {
                let mut bytes = whole[..len].to_vec();
                let result = transport::<A>(&mut bytes, &ip, src, dst, L4Checksum::Full);
                prop_assert_eq!(result, Err(Error::Truncated));
                prop_assert_eq!(&bytes, &whole[..len]);
            }
            let mut bytes = whole.clone();
            ip.proto = A::ICMP;
            let result = transport::<A>(&mut bytes, &ip, src, dst, L4Checksum::Full);
            prop_assert_eq!(result, Err(Error::Malformed));
            prop_assert_eq!(bytes, whole);
        }

        #[test]
        fn a_translated_error_is_the_one_built_anew(
            packet in testing::packet_of::<A>(),
            ends in (end(), end()),
            outer in (A::any(), A::any()),
            new_outer in (proptest::option::of(A::any()), proptest::option::of(A::any())),
            (kind, code, about_mtu) in proptest::sample::select(A::KINDS.to_vec()),
            mtu in proptest::option::of(0..=0xffff_u32),
            quoted in 0..200_usize,
        ) {
            let new = moved(&packet, ends.0, ends.1);
            let (mut old_quote, mut new_quote) = (packet.build(), new.build());
            let len = (packet.ihl() + 4 + quoted).min(old_quote.len());
            old_quote.truncate(len);
            new_quote.truncate(len);
            let new_rest = match mtu {
                Some(mtu) if about_mtu => mtu,
                _ => 0x05dc,
            };
            let mut bytes = testing::icmp_error(outer.0, outer.1, kind, code, 0x05dc, &old_quote);
            let to = Translation {
                src: new_outer.0,
                dst: new_outer.1,
                quoted_src: ends.0,
                quoted_dst: ends.1,
                mtu,
            };
            icmp_error::<A>(&mut bytes, A::MIN_LEN, &to).unwrap();
            let outer = (new_outer.0.unwrap_or(outer.0), new_outer.1.unwrap_or(outer.1));
            let expected = testing::icmp_error(outer.0, outer.1, kind, code, new_rest, &new_quote);
            // The tail of a quoted checksum that is cut in the middle is nobody's to update.
            let cut = match packet.proto() {
                IPPROTO_TCP => len < packet.ihl() + 18,
                IPPROTO_UDP => len < packet.ihl() + 8,
                IPPROTO_SCTP => len < packet.ihl() + 12,
                _ => false,
            };
            if cut {
                let quote = A::MIN_LEN + 8..A::MIN_LEN + 8 + packet.ihl() + 4;
                prop_assert_eq!(&bytes[quote.clone()], &expected[quote]);
                prop_assert_eq!(&bytes[..A::MIN_LEN], &expected[..A::MIN_LEN]);
                let anew = testing::icmp_error(
                    outer.0, outer.1, kind, code, new_rest, &bytes[A::MIN_LEN + 8..],
                );
                prop_assert_eq!(bytes, anew);
            } else {
                prop_assert_eq!(bytes, expected);
            }
        }

        #[test]
        fn a_refused_error_is_unchanged(
            packet in testing::packet_of::<A>(),
            ends in (end(), end()),
            cut in 0..24_usize,
        ) {
            let outer = ends.0.0;
            let to = Translation {
                src: Some(outer),
                dst: None,
                quoted_src: ends.0,
                quoted_dst: ends.1,
                mtu: Some(1400),
            };
            // What has no ports can be told from its addresses.
            let ports = if packet.proto() == IPPROTO_ESP { 0 } else { 4 };
            let quote = &packet.build()[..packet.ihl() + ports];
            let (kind, code, _) = A::KINDS[1];
            let whole = testing::icmp_error(outer, outer, kind, code, 0, quote);
            let refused = |bytes: &[u8]| {
                let mut copy = bytes.to_vec();
                let result = icmp_error::<A>(&mut copy, A::MIN_LEN, &to);
                assert_eq!(copy, bytes);
                result.unwrap_err()
            };
            prop_assert_eq!(refused(&whole[..whole.len() - 1 - cut]), Error::Truncated);
            let echo = testing::icmp_error(outer, outer, A::ECHO, 0, 0, quote);
            prop_assert_eq!(refused(&echo), Error::Malformed);
            let quote = &packet.build()[..packet.ihl() + 8];
            let mut fragment = testing::icmp_error(outer, outer, kind, code, 0, quote);
            A::make_later_fragment(&mut fragment[A::MIN_LEN + 8..]);
            prop_assert_eq!(refused(&fragment), Error::Malformed);
        }

        #[test]
        fn any_bytes_are_rewritten_or_refused(
            mut bytes in vec(any::<u8>(), 0..150),
            (header_len, total_len) in (0..80_usize, any::<u32>()),
            proto in prop_oneof![
                proptest::sample::select(vec![IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP, IPPROTO_ESP]),
                any::<u8>(),
            ],
            ends in (end(), end()),
            csum in testing::csum(),
        ) {
            let before = bytes.clone();
            let ip = Header {
                header_len,
                total_len,
                proto,
                ..header(&A::header(ends.0.0, ends.1.0, &[], IPPROTO_TCP, 0))
            };
            if transport::<A>(&mut bytes, &ip, ends.0, ends.1, csum).is_err() {
                prop_assert_eq!(&bytes, &before);
            }
            let before = bytes.clone();
            let to = Translation {
                src: None,
                dst: None,
                quoted_src: ends.0,
                quoted_dst: ends.1,
                mtu: Some(576),
            };
            if icmp_error::<A>(&mut bytes, header_len, &to).is_err() {
                prop_assert_eq!(&bytes, &before);
            }
        }
    }

        })* };
    }

    of_both_families!(v4: Ipv4Addr, v6: Ipv6Addr);
}
