// SPDX-License-Identifier: GPL-2.0

//! An ICMP error is translated inside and outside with its checksums held, or left alone.

#![no_main]

use core::net::Ipv4Addr;

use libfuzzer_sys::fuzz_target;
use rlvs_core::wire;
use rlvs_core::wire::checksum;
use rlvs_core::wire::icmp;
use rlvs_core::wire::ip::Ip;
use rlvs_core::wire::rewrite;

type End = ([u8; 4], u16);

fuzz_target!(|input: (End, End, Option<[u8; 4]>, Option<u16>, &[u8])| {
    let (src, dst, outer, mtu, bytes) = input;
    let Ok(ip) = Ipv4Addr::parse(bytes, 0) else {
        return;
    };
    let src = (Ipv4Addr::from(src.0), src.1);
    let dst = (Ipv4Addr::from(dst.0), dst.1);
    let outer = outer.map(Ipv4Addr::from);
    let to = rewrite::Translation {
        src: outer,
        dst: None,
        quoted_src: src,
        quoted_dst: dst,
        mtu: mtu.map(u32::from),
    };
    let mut packet = bytes.to_vec();
    if rewrite::icmp_error(&mut packet, ip.header_len, &to).is_err() {
        assert_eq!(packet, bytes);
        return;
    }

    let new_ip = Ipv4Addr::parse(&packet, 0).unwrap();
    assert_eq!((new_ip.src, new_ip.dst), (outer.unwrap_or(ip.src), ip.dst));
    let sum = |bytes: &[u8]| checksum::fold(checksum::sum(bytes)) % 0xffff;
    assert_eq!(sum(&packet[..ip.header_len]), sum(&bytes[..ip.header_len]));
    let message = &packet[ip.header_len..];
    assert_eq!(sum(message), sum(&bytes[ip.header_len..]));
    let header = icmp::Header::parse(message).unwrap();
    assert!(Ipv4Addr::is_icmp_error(header.kind));
    assert!(mtu.is_none() || Ipv4Addr::next_hop_mtu(&header).is_none_or(|new| Some(new) == to.mtu));

    let quoted = &message[icmp::LEN..];
    let old_quoted = &bytes[ip.header_len + icmp::LEN..];
    let inner = Ipv4Addr::parse(quoted, 0).unwrap();
    assert_eq!((inner.src, inner.dst), (src.0, dst.0));
    assert_eq!(
        sum(&quoted[..inner.header_len]),
        sum(&old_quoted[..inner.header_len])
    );
    let key = wire::key(inner.proto, &quoted[inner.header_len..]);
    let isakmp = (wire::IPPROTO_UDP, wire::ISAKMP, wire::ISAKMP);
    let expected = match inner.proto {
        wire::IPPROTO_AH | wire::IPPROTO_ESP => isakmp,
        proto => (proto, src.1, dst.1),
    };
    assert_eq!(key, Some(expected));
});
