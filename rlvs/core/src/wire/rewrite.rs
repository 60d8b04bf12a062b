// SPDX-License-Identifier: GPL-2.0

//! Address translation in place, with incremental checksums.

use core::net::Ipv4Addr;

use super::checksum::Delta;
pub use super::checksum::L4Checksum;
use super::icmp;
use super::ipv4;
use super::tcp;
use super::udp;
use super::Error;
use super::IPPROTO_TCP;
use super::IPPROTO_UDP;

/// Gives a TCP or UDP packet new addresses and ports, and fixes both checksums.
///
/// `packet` starts at the IP header, whose length is `ihl`, and holds at least the transport
/// header: 20 bytes of TCP, 8 of UDP. A complete UDP checksum of 0 (none) stays 0, and one that
/// becomes 0 is sent as 0xffff. An error ([`Error::Malformed`] for another protocol) leaves the
/// packet unchanged.
#[inline]
pub fn v4(
    packet: &mut [u8],
    ihl: usize,
    proto: u8,
    src: (Ipv4Addr, u16),
    dst: (Ipv4Addr, u16),
    csum: L4Checksum,
) -> Result<(), Error> {
    let (ip, l4) = packet.split_at_mut_checked(ihl).ok_or(Error::Truncated)?;
    let ip: &mut [u8; ipv4::MIN_LEN] = ip.first_chunk_mut().ok_or(Error::Truncated)?;
    match proto {
        IPPROTO_TCP => {
            let h: &mut [u8; tcp::MIN_LEN] = l4.first_chunk_mut().ok_or(Error::Truncated)?;
            let addrs = set_addresses(ip, src.0, dst.0);
            let [p0, p1, p2, p3, .., c0, c1, _, _] = h;
            let ports = set_ports([p0, p1, p2, p3], src.1, dst.1);
            let field = u16::from_be_bytes([*c0, *c1]);
            [*c0, *c1] = match csum {
                L4Checksum::Partial => addrs.apply_partial(field),
                L4Checksum::Full => addrs.and(ports).apply(field),
            }
            .to_be_bytes();
        }
        IPPROTO_UDP => {
            let h: &mut [u8; udp::LEN] = l4.first_chunk_mut().ok_or(Error::Truncated)?;
            let addrs = set_addresses(ip, src.0, dst.0);
            let [p0, p1, p2, p3, _, _, c0, c1] = h;
            let ports = set_ports([p0, p1, p2, p3], src.1, dst.1);
            let field = u16::from_be_bytes([*c0, *c1]);
            [*c0, *c1] = match csum {
                L4Checksum::Partial => addrs.apply_partial(field),
                L4Checksum::Full => udp_checksum(addrs.and(ports), field),
            }
            .to_be_bytes();
        }
        _ => return Err(Error::Malformed),
    }
    Ok(())
}

/// Translates the packet that an ICMP error quotes, and the error's own addresses.
///
/// `packet` is the IP header of `outer_ihl` bytes, the ICMP header, and the quoted IP header with
/// at least 8 bytes behind it; more may follow. The quoted packet gets `inner_src` and
/// `inner_dst`, its IP checksum and, as far as quoted, its transport checksum follow. `None`
/// leaves an outer address as it is. `mtu` is put into a fragmentation-needed error and
/// ignored in every other one. The ICMP checksum is always complete and is fixed for all that
/// changed.
///
/// An error leaves the packet unchanged: [`Error::Malformed`] if it is not an ICMP error as
/// [`icmp::Header::is_error`] has it, or quotes neither TCP nor UDP, or a later fragment.
#[inline]
pub fn icmp_v4(
    packet: &mut [u8],
    outer_ihl: usize,
    outer_src: Option<Ipv4Addr>,
    outer_dst: Option<Ipv4Addr>,
    inner_src: (Ipv4Addr, u16),
    inner_dst: (Ipv4Addr, u16),
    mtu: Option<u16>,
) -> Result<(), Error> {
    let (outer, message) = packet
        .split_at_mut_checked(outer_ihl)
        .ok_or(Error::Truncated)?;
    let outer: &mut [u8; ipv4::MIN_LEN] = outer.first_chunk_mut().ok_or(Error::Truncated)?;
    let header = icmp::Header::parse(message)?;
    let (icmp, quoted) = message
        .split_first_chunk_mut::<{ icmp::LEN }>()
        .ok_or(Error::Truncated)?;
    let inner = ipv4::Header::parse(quoted)?;
    if !header.is_error() || inner.fragment_offset != 0 {
        return Err(Error::Malformed);
    }
    let (inner_ip, inner_l4) = quoted
        .split_at_mut_checked(inner.header_len)
        .ok_or(Error::Truncated)?;
    let inner_ip: &mut [u8; ipv4::MIN_LEN] = inner_ip.first_chunk_mut().ok_or(Error::Truncated)?;
    let (l4, beyond) = inner_l4
        .split_first_chunk_mut::<8>()
        .ok_or(Error::Truncated)?;
    let [p0, p1, p2, p3, _, _, u0, u1] = l4;
    let checksum = match inner.proto {
        IPPROTO_UDP => Some([u0, u1]),
        IPPROTO_TCP => match beyond {
            [_, _, _, _, _, _, _, _, t0, t1, ..] => Some([t0, t1]),
            _ => None,
        },
        _ => return Err(Error::Malformed),
    };

    // The sum of an IP header stays the same if its checksum follows an edit, so of the quoted
    // packet only the transport part concerns the ICMP checksum.
    let addrs = set_addresses(inner_ip, inner_src.0, inner_dst.0);
    let mut delta = set_ports([p0, p1, p2, p3], inner_src.1, inner_dst.1);
    if let Some([c0, c1]) = checksum {
        let old = u16::from_be_bytes([*c0, *c1]);
        let new = if inner.proto == IPPROTO_UDP {
            udp_checksum(addrs.and(delta), old)
        } else {
            addrs.and(delta).apply(old)
        };
        [*c0, *c1] = new.to_be_bytes();
        delta = delta.u16(old, new);
    }
    if let (Some(old), Some(new)) = (header.next_hop_mtu(), mtu) {
        [icmp[6], icmp[7]] = new.to_be_bytes();
        delta = delta.u16(old, new);
    }
    [icmp[2], icmp[3]] = delta.apply(header.checksum).to_be_bytes();

    let (old_src, old_dst) = addresses(outer);
    // The outer addresses are in no pseudo header: ICMP has none.
    let _ = set_addresses(
        outer,
        outer_src.unwrap_or(old_src),
        outer_dst.unwrap_or(old_dst),
    );
    Ok(())
}

#[inline]
fn addresses(ip: &[u8; ipv4::MIN_LEN]) -> (Ipv4Addr, Ipv4Addr) {
    (
        Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]),
        Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]),
    )
}

/// Sets both addresses and the header's checksum; returns what that is to a pseudo header.
#[inline]
fn set_addresses(ip: &mut [u8; ipv4::MIN_LEN], src: Ipv4Addr, dst: Ipv4Addr) -> Delta {
    let (old_src, old_dst) = addresses(ip);
    let delta = Delta::new().addr(old_src, src).addr(old_dst, dst);
    [ip[12], ip[13], ip[14], ip[15]] = src.octets();
    [ip[16], ip[17], ip[18], ip[19]] = dst.octets();
    [ip[10], ip[11]] = delta
        .apply(u16::from_be_bytes([ip[10], ip[11]]))
        .to_be_bytes();
    delta
}

/// Sets both ports; TCP and UDP begin with them.
#[inline]
fn set_ports(bytes: [&mut u8; 4], sport: u16, dport: u16) -> Delta {
    let [s0, s1, d0, d1] = bytes;
    let delta = Delta::new()
        .u16(u16::from_be_bytes([*s0, *s1]), sport)
        .u16(u16::from_be_bytes([*d0, *d1]), dport);
    [*s0, *s1] = sport.to_be_bytes();
    [*d0, *d1] = dport.to_be_bytes();
    delta
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
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::testing;
    use super::super::testing::Packet;
    use super::super::testing::L4;
    use super::*;

    fn end() -> impl Strategy<Value = (Ipv4Addr, u16)> {
        (testing::addr(), any::<u16>())
    }

    fn moved(packet: &Packet, src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) -> Packet {
        Packet {
            src: src.0,
            dst: dst.0,
            sport: src.1,
            dport: dst.1,
            ..packet.clone()
        }
    }

    proptest! {
        #[test]
        fn a_rewritten_packet_is_the_one_built_anew(
            packet in testing::packet(),
            src in end(),
            dst in end(),
            csum in testing::csum(),
        ) {
            let mut bytes = packet.build_as(csum);
            v4(&mut bytes, packet.ihl(), packet.proto(), src, dst, csum).unwrap();
            prop_assert_eq!(bytes, moved(&packet, src, dst).build_as(csum));
        }

        #[test]
        fn there_and_back_changes_nothing(
            packet in testing::packet(),
            src in end(),
            dst in end(),
            csum in testing::csum(),
        ) {
            let before = packet.build_as(csum);
            let mut bytes = before.clone();
            v4(&mut bytes, packet.ihl(), packet.proto(), src, dst, csum).unwrap();
            let (src, dst) = ((packet.src, packet.sport), (packet.dst, packet.dport));
            v4(&mut bytes, packet.ihl(), packet.proto(), src, dst, csum).unwrap();
            prop_assert_eq!(bytes, before);
        }

        #[test]
        fn a_udp_checksum_of_zero_is_sent_as_ones(packet in testing::udp(), src in end(), dst in end()) {
            let mut target = moved(&packet, src, dst);
            target.l4 = L4::Udp { with_checksum: true };
            // Adding its checksum to a packet makes the checksum 0.
            target.payload = vec![0, 0];
            let at = target.checksum_at();
            let sum = target.build()[at..at + 2].to_vec();
            prop_assume!(sum != [0xff, 0xff]);
            target.payload = sum;
            let mut bytes = moved(&target, (packet.src, packet.sport), (packet.dst, packet.dport)).build();
            v4(&mut bytes, target.ihl(), IPPROTO_UDP, src, dst, L4Checksum::Full).unwrap();
            prop_assert_eq!(&bytes[at..at + 2], [0xff, 0xff]);
            prop_assert_eq!(bytes, target.build());
        }

        #[test]
        fn a_truncated_packet_is_refused_unchanged(packet in testing::packet(), src in end(), dst in end()) {
            let l4_len = if packet.proto() == IPPROTO_TCP { 20 } else { 8 };
            let whole = packet.build();
            for len in 0..packet.ihl() + l4_len {
                let mut bytes = whole[..len].to_vec();
                let result = v4(&mut bytes, packet.ihl(), packet.proto(), src, dst, L4Checksum::Full);
                prop_assert_eq!(result, Err(Error::Truncated));
                prop_assert_eq!(&bytes, &whole[..len]);
            }
            let mut bytes = whole.clone();
            let result = v4(&mut bytes, packet.ihl(), 132, src, dst, L4Checksum::Full);
            prop_assert_eq!(result, Err(Error::Malformed));
            prop_assert_eq!(bytes, whole);
        }

        #[test]
        fn a_translated_error_is_the_one_built_anew(
            packet in testing::packet(),
            ends in (end(), end()),
            outer in (testing::addr(), testing::addr()),
            new_outer in (proptest::option::of(testing::addr()), proptest::option::of(testing::addr())),
            (kind, code) in prop_oneof![Just((3, 4)), Just((3, 3)), Just((11, 0))],
            mtu in proptest::option::of(any::<u16>()),
            quoted in 0..200_usize,
        ) {
            let new = moved(&packet, ends.0, ends.1);
            let (mut old_quote, mut new_quote) = (packet.build(), new.build());
            let len = (packet.ihl() + 8 + quoted).min(old_quote.len());
            old_quote.truncate(len);
            new_quote.truncate(len);
            let new_rest = match mtu {
                Some(mtu) if (kind, code) == (3, 4) => 0xabcd_0000 | u32::from(mtu),
                _ => 0xabcd_05dc,
            };
            let mut bytes = testing::icmp_error(outer.0, outer.1, kind, code, 0xabcd_05dc, &old_quote);
            icmp_v4(&mut bytes, 20, new_outer.0, new_outer.1, ends.0, ends.1, mtu).unwrap();
            let outer = (new_outer.0.unwrap_or(outer.0), new_outer.1.unwrap_or(outer.1));
            let expected = testing::icmp_error(outer.0, outer.1, kind, code, new_rest, &new_quote);
            // The tail of a quoted TCP checksum that is cut in the middle is nobody's to update.
            if packet.proto() == IPPROTO_TCP && len < packet.checksum_at() + 2 {
                prop_assert_eq!(&bytes[28..packet.ihl() + 28 + 8], &expected[28..packet.ihl() + 28 + 8]);
                prop_assert_eq!(testing::checksum(&bytes[20..]), 0);
                prop_assert_eq!(&bytes[..20], &expected[..20]);
            } else {
                prop_assert_eq!(bytes, expected);
            }
        }

        #[test]
        fn a_refused_error_is_unchanged(
            packet in testing::packet(),
            ends in (end(), end()),
            cut in 0..28_usize,
        ) {
            let outer = Ipv4Addr::new(192, 0, 2, 1);
            let quote = &packet.build()[..packet.ihl() + 8];
            let whole = testing::icmp_error(outer, outer, 3, 3, 0, quote);
            let refused = |bytes: &[u8]| {
                let mut copy = bytes.to_vec();
                let result = icmp_v4(&mut copy, 20, Some(outer), None, ends.0, ends.1, Some(1400));
                assert_eq!(copy, bytes);
                result.unwrap_err()
            };
            prop_assert_eq!(refused(&whole[..whole.len() - 1 - cut]), Error::Truncated);
            let echo = testing::icmp_error(outer, outer, 8, 0, 0, quote);
            prop_assert_eq!(refused(&echo), Error::Malformed);
            let mut fragment = whole.clone();
            fragment[28 + 7] = 1;
            prop_assert_eq!(refused(&fragment), Error::Malformed);
            let mut sctp = whole.clone();
            sctp[28 + 9] = 132;
            prop_assert_eq!(refused(&sctp), Error::Malformed);
        }

        #[test]
        fn any_bytes_are_rewritten_or_refused(
            mut bytes in vec(any::<u8>(), 0..150),
            ihl in 0..80_usize,
            proto in prop_oneof![Just(IPPROTO_TCP), Just(IPPROTO_UDP), any::<u8>()],
            ends in (end(), end()),
            csum in testing::csum(),
        ) {
            let before = bytes.clone();
            if v4(&mut bytes, ihl, proto, ends.0, ends.1, csum).is_err() {
                prop_assert_eq!(&bytes, &before);
            }
            let before = bytes.clone();
            if icmp_v4(&mut bytes, ihl, None, None, ends.0, ends.1, Some(576)).is_err() {
                prop_assert_eq!(&bytes, &before);
            }
        }
    }
}
