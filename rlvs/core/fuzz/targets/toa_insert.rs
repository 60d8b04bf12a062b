// SPDX-License-Identifier: GPL-2.0

//! An option is inserted into a packet that stays right, or the packet is left alone.

#![no_main]

use core::net::Ipv4Addr;

use libfuzzer_sys::fuzz_target;
use rlvs_core::wire::checksum;
use rlvs_core::wire::checksum::L4Checksum;
use rlvs_core::wire::ip::Ip;
use rlvs_core::wire::ipv4;
use rlvs_core::wire::tcp;
use rlvs_core::wire::toa;

/// The sum over segment and pseudo header: a right checksum keeps what it was.
fn sum(packet: &[u8], ip: &ipv4::Header) -> u16 {
    let len = u64::from(ip.total_len) - ip.header_len as u64;
    let addresses = u64::from(u32::from(ip.src)) + u64::from(u32::from(ip.dst));
    let pseudo = addresses + u64::from(ip.proto) + len;
    checksum::fold(pseudo + checksum::sum(&packet[ip.header_len..])) % 0xffff
}

fuzz_target!(|input: (bool, &[u8])| {
    let (v6, bytes) = input;
    let Ok(old_ip) = Ipv4Addr::parse(bytes, 0) else {
        return;
    };
    let ihl = old_ip.header_len;
    let option = if v6 {
        toa::encode_v6(253, core::net::Ipv6Addr::LOCALHOST, 1234).to_vec()
    } else {
        toa::encode_v4(254, Ipv4Addr::LOCALHOST, 1234).to_vec()
    };
    let mut packet = vec![0; option.len()];
    packet.extend(bytes);
    let before = packet.clone();
    if toa::insert(&mut packet, &old_ip, &option, L4Checksum::Full).is_err() {
        assert_eq!(packet, before);
        return;
    }

    let ip = Ipv4Addr::parse(&packet, 0).unwrap();
    let grow = option.len() as u32;
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
