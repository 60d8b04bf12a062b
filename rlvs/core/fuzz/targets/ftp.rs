// SPDX-License-Identifier: GPL-2.0

//! What a control connection says is read inside the segment, and replaced without a trace.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rlvs_core::flow::Family;
use rlvs_core::wire::checksum;
use rlvs_core::wire::checksum::L4Checksum;
use rlvs_core::wire::ftp;
use rlvs_core::wire::ftp::Form;
use rlvs_core::wire::ftp::Text;

fuzz_target!(|input: (bool, [u8; 4], u16, &[u8])| {
    let (v6, addr, port, payload) = input;
    let family = if v6 { Family::V6 } else { Family::V4 };
    for target in [ftp::request(payload, family), ftp::reply(payload, family)] {
        let Some(target) = target else {
            continue;
        };
        assert!(target.port > 0);
        assert!(target.addr.is_none_or(|addr| Family::of(addr) == family));
        let old = &payload[target.at..target.at + target.len];

        let text = match target.form {
            Form::Commas => Text::commas(addr.into(), port),
            Form::Delimited => Text::delimited(port),
        };
        let new = text.as_bytes();
        let mut segment = vec![0x5a; 20];
        segment.extend(payload);
        let sum = |segment: &[u8]| {
            let len = segment.len() as u64;
            checksum::fold(checksum::sum(segment).wrapping_add(len)) % 0xffff
        };
        let before = sum(&segment);
        segment.resize(segment.len() + new.len().saturating_sub(old.len()), 0);
        ftp::splice(
            &mut segment,
            20,
            target.at,
            target.len,
            new,
            L4Checksum::Full,
        )
        .unwrap();
        segment.truncate(20 + payload.len() + new.len() - old.len());
        assert_eq!(sum(&segment), before);
        let (head, rest) = segment[20..].split_at(target.at);
        assert_eq!(head, &payload[..target.at]);
        assert!(rest.starts_with(new));
        assert_eq!(rest[new.len()..], payload[target.at + target.len..]);
    }
});
