// SPDX-License-Identifier: GPL-2.0

//! A packet is read as far as it goes, and other ports change its checksum as a CRC made anew does.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rlvs_core::wire::checksum::L4Checksum;
use rlvs_core::wire::sctp;

fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ 0x82f6_3b78 & 0u32.wrapping_sub(crc & 1);
        }
    }
    !crc
}

fuzz_target!(|input: (u16, u16, &[u8])| {
    let (sport, dport, bytes) = input;
    let Ok(header) = sctp::Header::parse(bytes) else {
        assert!(bytes.len() < sctp::LEN);
        return;
    };
    assert_eq!(header.chunk, None);
    if let Some(first) = bytes[sctp::LEN..].first_chunk() {
        let second = sctp::second_chunk(*first);
        assert!(second.is_none_or(|at| at >= sctp::CHUNK_LEN && at % 4 == 0));
        let counts = sctp::counts(
            *first,
            second.and_then(|at| bytes.get(sctp::LEN + at).copied()),
        );
        assert!(counts.0 == first[0] || counts == sctp::Chunk::ABORT);
    }

    // How far the checksum is from the right one.
    let error = |bytes: &[u8]| {
        let mut blank = bytes.to_vec();
        blank[8..12].fill(0);
        crc32c(&blank) ^ u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]])
    };
    let mut packet = bytes.to_vec();
    let first = packet.first_chunk_mut().unwrap();
    sctp::set_ports(first, sport, dport, bytes.len(), L4Checksum::Full);
    assert_eq!(error(&packet), error(bytes));
    let after = sctp::Header::parse(&packet).unwrap();
    assert_eq!(
        (after.sport, after.dport, after.chunk),
        (sport, dport, header.chunk)
    );
    assert_eq!(packet[12..], bytes[12..]);
});
