// SPDX-License-Identifier: GPL-2.0

//! An option is inserted into a packet that stays right, or the packet is left alone.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rlvs_core::wire::checksum;
use rlvs_core::wire::checksum::L4Checksum;
use rlvs_core::wire::ipv4;
use rlvs_core::wire::tcp;
use rlvs_core::wire::toa;

/// The sum over segment and pseudo header: a right checksum keeps what it was.
fn sum(packet: &[u8], ip: &ipv4::Header) -> u16 {
    let len = ip.total_len - ip.header_len as u16;
    let pseudo = checksum::pseudo_v4(ip.src, ip.dst, ip.proto, len);
    checksum::fold(pseudo + checksum::sum(&packet[ip.header_len..])) % 0xffff
}

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (v6, ihl, bytes) = input;
    let ihl = usize::from(ihl % 80);
    let option = if v6 {
        toa::encode_v6(253, core::net::Ipv6Addr::LOCALHOST, 1234).to_vec()
    } else {
        toa::encode_v4(254, core::net::Ipv4Addr::LOCALHOST, 1234).to_vec()
    };
    let mut packet = vec![0; option.len()];
    packet.extend(bytes);
    let before = packet.clone();
    if toa::insert(&mut packet, ihl, &option, L4Checksum::Full).is_err() {
        assert_eq!(packet, before);
        return;
    }

    let old_ip = ipv4::Header::parse(bytes).unwrap();
    let ip = ipv4::Header::parse(&packet).unwrap();
    let grow = option.len() as u16;
    assert_eq!(
        (ip.total_len, ip.header_len),
        (old_ip.total_len + grow, ihl)
    );
    let header_sum = |bytes: &[u8]| checksum::fold(checksum::sum(&bytes[..ihl])) % 0xffff;
    assert_eq!(header_sum(&packet), header_sum(bytes));
    assert_eq!(sum(&packet, &ip), sum(bytes, &old_ip));

    let old_tcp = tcp::Header::parse(&bytes[ihl..]).unwrap();
    let tcp = tcp::Header::parse(&packet[ihl..]).unwrap();
    assert_eq!(tcp.header_len, old_tcp.header_len + option.len());
    assert_eq!(
        (tcp.seq, tcp.ack, tcp.flags),
        (old_tcp.seq, old_tcp.ack, old_tcp.flags)
    );
    let options = ihl + 20;
    assert_eq!(packet[options..options + option.len()], option);
    assert_eq!(packet[options + option.len()..], bytes[options..]);
});
