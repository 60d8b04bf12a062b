// SPDX-License-Identifier: GPL-2.0

//! A packet is given other addresses and ports, checksums hold, and the way back is exact.

#![no_main]

use core::net::Ipv4Addr;

use libfuzzer_sys::fuzz_target;
use rlvs_core::wire;
use rlvs_core::wire::checksum;
use rlvs_core::wire::ip::Ip;
use rlvs_core::wire::ipv4;
use rlvs_core::wire::rewrite;
use rlvs_core::wire::rewrite::L4Checksum;

type End = ([u8; 4], u16);

fuzz_target!(|input: (End, End, bool, &[u8])| {
    let (src, dst, full, bytes) = input;
    let csum = if full {
        L4Checksum::Full
    } else {
        L4Checksum::Partial
    };
    let Ok(ip) = Ipv4Addr::parse(bytes, 0) else {
        return;
    };
    let src = (Ipv4Addr::from(src.0), src.1);
    let dst = (Ipv4Addr::from(dst.0), dst.1);
    let mut packet = bytes.to_vec();
    if rewrite::transport(&mut packet, &ip, src, dst, csum).is_err() {
        assert_eq!(packet, bytes);
        return;
    }

    let new_ip = Ipv4Addr::parse(&packet, 0).unwrap();
    assert_eq!((new_ip.src, new_ip.dst), (src.0, dst.0));
    if !matches!(ip.proto, wire::IPPROTO_TCP | wire::IPPROTO_UDP) {
        return;
    }
    let l4 = &packet[ip.header_len..];
    assert_eq!(wire::key(ip.proto, l4), Some((ip.proto, src.1, dst.1)));
    let sum = |bytes: &[u8]| checksum::fold(checksum::sum(bytes)) % 0xffff;
    assert_eq!(sum(&packet[..ip.header_len]), sum(&bytes[..ip.header_len]));
    let at = if ip.proto == wire::IPPROTO_TCP { 16 } else { 6 };
    let old_l4 = &bytes[ip.header_len..];
    let no_checksum = at == 6 && old_l4[6..8] == [0, 0];
    if full && no_checksum {
        assert_eq!(l4[6..8], [0, 0]);
    } else if full {
        let whole = |ip: &ipv4::Header, l4: &[u8]| {
            let addresses = u64::from(u32::from(ip.src)) + u64::from(u32::from(ip.dst));
            checksum::fold(addresses + checksum::sum(l4)) % 0xffff
        };
        assert_eq!(whole(&new_ip, l4), whole(&ip, old_l4));
    }

    let (_, sport, dport) = wire::key(ip.proto, old_l4).unwrap();
    let (src, dst) = ((ip.src, sport), (ip.dst, dport));
    rewrite::transport(&mut packet, &ip, src, dst, csum).unwrap();
    // A checksum of either zero may come back as the other one: they are the same number.
    for at in [10, ip.header_len + at] {
        let field = |bytes: &[u8]| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        assert_eq!(field(&packet) % 0xffff, field(bytes) % 0xffff);
        packet[at..at + 2].copy_from_slice(&bytes[at..at + 2]);
    }
    assert_eq!(packet, bytes);
});
