// SPDX-License-Identifier: GPL-2.0

//! Any bytes are a header whose fields agree with each other, or an error.

#![no_main]

use core::net::Ipv4Addr;
use core::net::Ipv6Addr;

use libfuzzer_sys::fuzz_target;
use rlvs_core::wire;
use rlvs_core::wire::icmp;
use rlvs_core::wire::ip::Ip;
use rlvs_core::wire::ipv4;
use rlvs_core::wire::tcp;
use rlvs_core::wire::udp;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(ip) = Ipv4Addr::parse(bytes, 0) {
        assert!((20..=60).contains(&ip.header_len) && ip.header_len % 4 == 0);
        assert!(ip.header_len <= ip.total_len as usize);
        if let Some(header) = bytes.get(..ip.header_len) {
            let mut fixed = header.to_vec();
            fixed[10..12].copy_from_slice(&ipv4::header_checksum(header).to_be_bytes());
            assert_eq!(ipv4::header_checksum(&fixed), ipv4::header_checksum(header));
            if Ipv4Addr::decrement_hops(&mut fixed).is_ok() {
                assert_eq!(fixed[8], ip.hops - 1);
                assert_eq!(fixed[10..12], ipv4::header_checksum(&fixed).to_be_bytes());
            }
        }
        if let Some(l4) = bytes.get(ip.header_len..) {
            let _ = wire::key(ip.proto, l4);
        }
    }
    if let Ok(ip) = Ipv6Addr::parse(bytes, 0) {
        assert!(ip.header_len >= 40 && ip.total_len >= 40 && ip.dont_fragment);
        assert!(ip.header_len <= bytes.len() + 8 * 256);
    }
    if let Ok(tcp) = tcp::Header::parse(bytes) {
        assert!((20..=60).contains(&tcp.header_len) && tcp.header_len % 4 == 0);
    }
    if let Ok(udp) = udp::Header::parse(bytes) {
        assert!(udp.len >= 8);
    }
    if let Ok(icmp) = icmp::Header::parse(bytes) {
        assert!(Ipv4Addr::next_hop_mtu(&icmp).is_none() || Ipv4Addr::is_icmp_error(icmp.kind));
        assert!(Ipv6Addr::next_hop_mtu(&icmp).is_none() || Ipv6Addr::is_icmp_error(icmp.kind));
    }
});
