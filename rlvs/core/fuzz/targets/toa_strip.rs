// SPDX-License-Identifier: GPL-2.0

//! After stripping, no reader of whatever tolerance finds the kind, and nothing else changed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rlvs_core::wire::checksum;
use rlvs_core::wire::checksum::L4Checksum;
use rlvs_core::wire::options::Options;
use rlvs_core::wire::tcp;
use rlvs_core::wire::toa;

fuzz_target!(|segment: &[u8]| {
    const KIND: u8 = 254;
    let mut after = segment.to_vec();
    let found = toa::strip(&mut after, KIND, L4Checksum::Full);
    let mut partial = segment.to_vec();
    assert_eq!(toa::strip(&mut partial, KIND, L4Checksum::Partial), found);

    let sum = |bytes: &[u8]| checksum::fold(checksum::sum(bytes)) % 0xffff;
    assert_eq!(sum(&after), sum(segment));
    if found == 0 {
        assert_eq!(after, segment);
    }
    let Ok(header) = tcp::Header::parse(segment) else {
        assert_eq!(found, 0);
        return;
    };
    let end = header.header_len.min(segment.len());
    assert_eq!(after[..16], segment[..16]);
    assert_eq!(after[18..20], segment[18..20]);
    assert_eq!(after[end..], segment[end..]);
    assert_eq!(partial[..20], segment[..20]);
    assert_eq!(partial[20..], after[20..]);

    let (before, after) = (&segment[20..end], &after[20..end]);
    let mut list_end = 0;
    for option in Options::new(before).filter_map(Result::ok) {
        list_end = option.offset + option.len;
        let at = option.offset..list_end;
        if option.kind == KIND {
            assert!(after[at].iter().all(|byte| *byte == 1));
        } else {
            assert_eq!(after[at.clone()], before[at]);
        }
    }
    assert!(!after[list_end..].contains(&KIND));
    for (new, old) in after[list_end..].iter().zip(&before[list_end..]) {
        assert!(new == old || *old == KIND && *new == 1);
    }
});
