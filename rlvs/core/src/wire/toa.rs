// SPDX-License-Identifier: GPL-2.0

//! TOA: the TCP option that carries the client's address and port to the real server.
//!
//! Kind, length, port, address, in network order: 8 bytes for IPv4, 20 for IPv6. The kind is
//! the caller's: 254, 253, 252 and 200 are all in use. It is never EOL, NOP or a standard option.

use core::net::Ipv4Addr;
use core::net::Ipv6Addr;

use super::checksum::Delta;
use super::checksum::L4Checksum;
use super::ip::Header;
use super::ip::Ip;
use super::options;
use super::options::Options;
use super::tcp;
use super::Error;

/// Length of the option with an IPv4 address, in bytes.
pub const V4_LEN: usize = 8;
/// Length of the option with an IPv6 address, in bytes.
pub const V6_LEN: usize = 20;

/// The option for an IPv4 client.
#[inline]
pub fn encode_v4(kind: u8, addr: Ipv4Addr, port: u16) -> [u8; V4_LEN] {
    let [p0, p1] = port.to_be_bytes();
    let [a, b, c, d] = addr.octets();
    [kind, 8, p0, p1, a, b, c, d]
}

/// The option for an IPv6 client.
#[inline]
pub fn encode_v6(kind: u8, addr: Ipv6Addr, port: u16) -> [u8; V6_LEN] {
    let [p0, p1] = port.to_be_bytes();
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = addr.octets();
    [
        kind, 20, p0, p1, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p,
    ]
}

/// Makes every option of `kind` unreadable, whatever its length, and fixes the checksum.
///
/// `tcp` holds the whole header with its options; more does no harm. Such an option becomes NOPs,
/// so all others stay where they are. Where the list ends early, by EOL or by a length that
/// cannot be, receivers differ in what they still read; there each byte that equals `kind`
/// becomes a NOP, so that wherever a receiver resumes it finds no option of that kind, and the
/// other bytes stay. Returns how many options and such bytes there were.
#[inline]
pub fn strip(tcp: &mut [u8], kind: u8, csum: L4Checksum) -> usize {
    if !may_hold(tcp, kind) {
        return 0;
    }
    tcp::edit_options(tcp, csum, |options| {
        let mut found: usize = 0;
        let mut at = 0;
        loop {
            let mut walk = Options::resume(options, at);
            let step = walk.next();
            at = walk.position();
            let Some(Ok(option)) = step else {
                break;
            };
            if option.kind == kind {
                if let Some(bytes) = options.get_mut(option.offset..at) {
                    bytes.fill(options::NOP);
                    found = found.wrapping_add(1);
                }
            }
        }
        for byte in options.get_mut(at..).unwrap_or_default() {
            if *byte == kind {
                *byte = options::NOP;
                found = found.wrapping_add(1);
            }
        }
        found
    })
}

/// Whether the options are worth a walk. Nearly every segment of an open connection has none or
/// timestamps alone, as everybody lays them out: NOP, NOP, timestamps.
#[inline]
fn may_hold(tcp: &[u8], kind: u8) -> bool {
    match tcp::options(tcp) {
        [] => false,
        [options::NOP, options::NOP, options::TIMESTAMPS, 10, _, _, _, _, _, _, _, _] => false,
        // At most 40 bytes: looking at all of them takes no branch and no call.
        list => {
            let matches = list.iter().map(|byte| u8::from(*byte == kind));
            matches.fold(0, |any, matches| any | matches) != 0
        }
    }
}

/// Whether an option of `option_len` bytes fits into a TCP header of `tcp_header_len` bytes.
#[inline]
pub fn room(tcp_header_len: usize, option_len: usize) -> bool {
    tcp_header_len.saturating_add(option_len) <= tcp::MAX_LEN
}

/// Puts `option` directly behind the fixed part of the TCP header.
///
/// `packet` is as many free bytes as the option has, then the IP header `ip` of a packet, then the
/// TCP header with all its options; payload may follow. The IP header and the fixed part of the
/// TCP header move to the start of the slice; what stands behind them stays where it is. Data
/// offset, length of the packet and checksums follow.
///
/// An error leaves the packet unchanged: [`Error::NoRoom`] if the options would exceed 40 bytes
/// or the packet the IP header's length field, [`Error::Malformed`] if the option's length is
/// not a multiple of 4 or a header contradicts itself.
#[inline]
pub fn insert<A: Ip>(
    packet: &mut [u8],
    ip: &Header<A>,
    option: &[u8],
    csum: L4Checksum,
) -> Result<(), Error> {
    let header_len = ip.header_len;
    let old = packet.get(option.len()..).ok_or(Error::Truncated)?;
    let l4 = old.get(header_len..).ok_or(Error::Truncated)?;
    let tcp = tcp::Header::parse(l4)?;
    if l4.len() < tcp.header_len {
        return Err(Error::Truncated);
    }
    let total_len = ip.total_len as usize;
    let segment_len = total_len.saturating_sub(header_len);
    if segment_len < tcp.header_len || (option.len() | header_len) & 3 != 0 {
        return Err(Error::Malformed);
    }
    // With room for it the option has at most 40 bytes, so no cast below loses anything.
    if !room(tcp.header_len, option.len()) {
        return Err(Error::NoRoom);
    }
    let new_len = total_len.wrapping_add(option.len());
    if new_len > usize::from(u16::MAX) {
        return Err(Error::NoRoom);
    }
    let (old_segment, new_segment) = (
        segment_len as u16,
        segment_len.wrapping_add(option.len()) as u16,
    );
    let data_offset = (tcp.header_len.wrapping_add(option.len()) as u8) << 2;

    let head_len = header_len.wrapping_add(tcp::MIN_LEN);
    move_down(packet, option.len(), head_len).ok_or(Error::Truncated)?;
    let (head, rest) = packet
        .split_at_mut_checked(head_len)
        .ok_or(Error::Truncated)?;
    for (to, from) in rest.iter_mut().zip(option) {
        *to = *from;
    }

    let (ip_header, fixed) = head
        .split_at_mut_checked(header_len)
        .ok_or(Error::Truncated)?;
    A::set_total_len(ip_header, new_len)?;
    let t: &mut [u8; tcp::MIN_LEN] = fixed.first_chunk_mut().ok_or(Error::Truncated)?;
    let old_word = u16::from_be_bytes([t[12], t[13]]);
    t[12] = (t[12] & 0x0f) | data_offset;
    let delta = Delta::new().u16(old_segment, new_segment);
    let checksum = match csum {
        L4Checksum::Partial => delta.apply_partial(tcp.checksum),
        L4Checksum::Full => delta
            .u16(old_word, u16::from_be_bytes([t[12], t[13]]))
            .append(option)
            .apply(tcp.checksum),
    };
    [t[16], t[17]] = checksum.to_be_bytes();
    Ok(())
}

/// Moves `len` bytes, a multiple of 4, from offset `by` to the start.
#[inline]
fn move_down(packet: &mut [u8], by: usize, len: usize) -> Option<()> {
    let mut to: usize = 0;
    while to < len {
        let from = to.wrapping_add(by);
        let word: [u8; 4] = *packet.get(from..)?.first_chunk()?;
        *packet.get_mut(to..)?.first_chunk_mut()? = word;
        to = to.wrapping_add(4);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::testing;
    use super::super::testing::Build;
    use super::super::testing::Packet;
    use super::super::testing::L4;
    use super::*;

    const KIND: u8 = 254;

    /// Inserts into a packet of IPv4 that stands behind the gap.
    fn insert_v4(packet: &mut [u8], option: &[u8], csum: L4Checksum) -> Result<(), Error> {
        let old = packet.get(option.len()..).ok_or(Error::Truncated)?;
        let ip = Ipv4Addr::parse(old, 0)?;
        insert(packet, &ip, option, csum)
    }

    fn with_options<A: Build>(packet: &Packet<A>, list: Vec<u8>) -> Packet<A> {
        Packet {
            l4: L4::Tcp {
                options: list,
                flags: 0x10,
            },
            ..packet.clone()
        }
    }

    fn options_of<A>(packet: &Packet<A>) -> &[u8] {
        match &packet.l4 {
            L4::Tcp { options, .. } => options,
            _ => unreachable!(),
        }
    }

    #[test]
    fn layout_is_that_of_every_receiver() {
        let client = Ipv4Addr::new(192, 0, 2, 33);
        assert_eq!(
            encode_v4(254, client, 0x1f90),
            [254, 8, 0x1f, 0x90, 192, 0, 2, 33]
        );
        let client = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        assert_eq!(
            encode_v6(253, client, 443),
            [253, 20, 1, 187, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
        );
    }

    proptest! {
        #[test]
        fn every_byte_has_its_place(kind in any::<u8>(), v4: [u8; 4], v6: [u8; 16], port: u16) {
            let [high, low] = port.to_be_bytes();
            prop_assert_eq!(&encode_v4(kind, v4.into(), port)[..], [&[kind, 8, high, low][..], &v4].concat());
            prop_assert_eq!(&encode_v6(kind, v6.into(), port)[..], [&[kind, 20, high, low][..], &v6].concat());
        }

        #[test]
        fn an_inserted_option_stands_first_and_all_else_stays(
            packet in testing::tcp(40),
            v6 in any::<bool>(),
            csum in testing::csum(),
        ) {
            let option = if v6 {
                encode_v6(KIND, Ipv6Addr::LOCALHOST, 40000).to_vec()
            } else {
                encode_v4(KIND, Ipv4Addr::new(192, 0, 2, 33), 40000).to_vec()
            };
            let packet = with_options(&packet, options_of(&packet).to_vec());
            let mut bytes = vec![0xee; option.len()];
            bytes.extend(packet.build_as(csum));
            let before = bytes.clone();
            let result = insert_v4(&mut bytes, &option, csum);
            let list = [&option, options_of(&packet)].concat();
            prop_assert_eq!(result.is_ok(), list.len() <= 40);
            prop_assert_eq!(result.is_ok(), room(20 + options_of(&packet).len(), option.len()));
            if result.is_ok() {
                prop_assert_eq!(bytes, with_options(&packet, list).build_as(csum));
            } else {
                prop_assert_eq!(result, Err(Error::NoRoom));
                prop_assert_eq!(bytes, before);
            }
        }

        #[test]
        fn an_option_finds_its_place_behind_extension_headers(
            packet in testing::tcp_of::<Ipv6Addr>(20),
            csum in testing::csum(),
        ) {
            let packet = with_options(&packet, options_of(&packet).to_vec());
            let option = Ipv6Addr::toa(KIND, packet.src, packet.sport);
            let mut bytes = vec![0xee; option.len()];
            bytes.extend(packet.build_as(csum));
            let ip = Ipv6Addr::parse(&bytes[option.len()..], 0).unwrap();
            insert(&mut bytes, &ip, &option, csum).unwrap();
            let list = [&option, options_of(&packet)].concat();
            prop_assert_eq!(bytes, with_options(&packet, list).build_as(csum));
        }

        #[test]
        fn stripping_leaves_the_other_options_where_they_are(
            packet in testing::tcp(40),
            csum in testing::csum(),
        ) {
            let mut expected = options_of(&packet).to_vec();
            // Any kind, so that options with their data and several of a kind are met.
            let kind = Options::new(&expected).filter_map(Result::ok).map(|o| o.kind).last();
            prop_assume!(kind.is_some_and(|kind| kind != options::TIMESTAMPS));
            let kind = kind.unwrap();
            let mut count = 0;
            for option in Options::new(options_of(&packet)).filter_map(Result::ok) {
                if option.kind == kind {
                    expected[option.offset..option.offset + option.len].fill(options::NOP);
                    count += 1;
                }
            }
            let packet = with_options(&packet, options_of(&packet).to_vec());
            let mut bytes = packet.build_as(csum);
            prop_assert_eq!(strip(&mut bytes[packet.ihl()..], kind, csum), count);
            prop_assert_eq!(bytes, with_options(&packet, expected).build_as(csum));
        }

        #[test]
        fn inserted_and_stripped_leaves_only_padding(packet in testing::tcp(32), csum in testing::csum()) {
            let list = options_of(&packet).to_vec();
            prop_assume!(list.iter().all(|byte| *byte != KIND));
            let packet = with_options(&packet, list.clone());
            let mut bytes = vec![0; V4_LEN];
            bytes.extend(packet.build_as(csum));
            let option = encode_v4(KIND, packet.src, packet.sport);
            insert_v4(&mut bytes, &option, csum).unwrap();
            prop_assert_eq!(strip(&mut bytes[packet.ihl()..], KIND, csum), 1);
            let padded = [vec![options::NOP; V4_LEN], list].concat();
            prop_assert_eq!(bytes, with_options(&packet, padded).build_as(csum));
        }

        #[test]
        fn no_receiver_finds_a_stripped_option(
            packet in testing::tcp(0),
            mut list in vec(prop_oneof![Just(KIND), 0..12_u8, any::<u8>()], 0..=40),
            csum in testing::csum(),
        ) {
            list.truncate(list.len() & !3);
            let ihl = packet.ihl();
            let mut bytes = with_options(&packet, list.clone()).build_as(csum);
            let found = strip(&mut bytes[ihl..], KIND, csum);
            let after = bytes[ihl + 20..ihl + 20 + list.len()].to_vec();
            prop_assert_eq!(found == 0, after == list);
            prop_assert_eq!(&bytes, &with_options(&packet, after.clone()).build_as(csum));
            // As far as everybody agrees, by walking; behind that, wherever one might resume.
            let mut end = 0;
            for option in Options::new(&list).filter_map(Result::ok) {
                let bytes = option.offset..option.offset + option.len;
                end = bytes.end;
                if option.kind == KIND {
                    prop_assert!(after[bytes].iter().all(|byte| *byte == options::NOP));
                } else {
                    prop_assert_eq!(&after[bytes.clone()], &list[bytes]);
                }
            }
            prop_assert!(after[end..].iter().all(|byte| *byte != KIND));
            for (new, old) in after[end..].iter().zip(&list[end..]) {
                prop_assert!(new == old || *old == KIND && *new == options::NOP);
            }
        }

        #[test]
        fn any_bytes_are_stripped_without_touching_the_payload(
            mut segment in vec(prop_oneof![Just(KIND), any::<u8>()], 0..100),
        ) {
            let before = segment.clone();
            strip(&mut segment, KIND, L4Checksum::Full);
            let header = before.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4).max(20);
            if segment.len() > header {
                prop_assert_eq!(&segment[header..], &before[header..]);
            }
        }

        #[test]
        fn any_bytes_take_an_option_or_stay(
            mut bytes in vec(any::<u8>(), 0..150),
            sane in any::<bool>(),
            option in vec(any::<u8>(), 0..45),
        ) {
            // Mostly random bytes fail at once: let half of them begin like IPv4.
            if let Some(start) = bytes.get_mut(option.len()..option.len() + 4) {
                if sane {
                    start.copy_from_slice(&[0x45, 0, 0, 130]);
                }
            }
            let before = bytes.clone();
            if insert_v4(&mut bytes, &option, L4Checksum::Full).is_err() {
                prop_assert_eq!(bytes, before);
            }
        }
    }

    #[test]
    fn contradictions_are_refused_unchanged() {
        let mut packet = vec![0; 8 + 20 + 60];
        packet[8..12].copy_from_slice(&[0x45, 0, 0, 80]);
        packet[8 + 32] = 0x60;
        let refused = |at: usize, value: u8, option: &[u8]| {
            let mut packet = packet.clone();
            packet[at] = value;
            let before = packet.clone();
            let result = insert_v4(&mut packet, option, L4Checksum::Full);
            assert_eq!(packet, before);
            result.unwrap_err()
        };
        let option = encode_v4(KIND, Ipv4Addr::LOCALHOST, 1);
        // The IP packet ends inside the TCP header.
        assert_eq!(refused(11, 43, &option), Error::Malformed);
        assert_eq!(refused(8 + 32, 0x40, &option), Error::Malformed);
        // An option of 7 bytes would misalign all that follows.
        assert_eq!(refused(0, 0, &option[..7]), Error::Malformed);
    }

    #[test]
    fn timestamps_alone_are_passed_over() {
        let mut header = vec![0; 20];
        header[12] = 0x80;
        header.extend([1, 1, 8, 10, 254, 8, 0, 80, 192, 0, 2, 1]);
        let before = header.clone();
        assert_eq!(strip(&mut header, KIND, L4Checksum::Full), 0);
        assert_eq!(header, before);
    }

    #[test]
    fn timestamps_that_reach_into_the_payload_are_no_excuse() {
        // The header ends after 8 bytes of options; a reader may make an option of the last 4.
        let mut segment = vec![0; 20];
        segment[12] = 0x70;
        segment.extend([1, 1, 8, 10, 254, 8, 0, 80]);
        segment.extend([192, 0, 2, 1]);
        assert_eq!(strip(&mut segment, KIND, L4Checksum::Full), 1);
        assert_eq!(segment[20..], [1, 1, 8, 10, 1, 8, 0, 80, 192, 0, 2, 1]);
    }

    #[test]
    fn an_option_behind_timestamps_is_found() {
        let mut header = vec![0; 20];
        header[12] = 0xd0;
        header.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        header.extend(encode_v4(KIND, Ipv4Addr::new(192, 0, 2, 1), 80));
        header.resize(52, 0);
        assert_eq!(strip(&mut header, KIND, L4Checksum::Full), 1);
        assert_eq!(header[32..40], [1; 8]);
    }

    #[test]
    fn the_largest_packet_has_no_room() {
        let mut packet = vec![0; 65535 + 8];
        packet[8..12].copy_from_slice(&[0x45, 0, 0xff, 0xff]);
        packet[8 + 32] = 0x50;
        let option = encode_v4(KIND, Ipv4Addr::LOCALHOST, 1);
        assert_eq!(
            insert_v4(&mut packet, &option, L4Checksum::Full),
            Err(Error::NoRoom)
        );
        packet[11] = 0xf7;
        assert_eq!(insert_v4(&mut packet, &option, L4Checksum::Full), Ok(()));
        assert_eq!(packet[2..4], [0xff, 0xff]);
    }
}
