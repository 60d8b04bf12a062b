// SPDX-License-Identifier: GPL-2.0

//! Any bytes are walked to an end, option behind option, and MSS goes only down.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rlvs_core::wire::checksum;
use rlvs_core::wire::checksum::L4Checksum;
use rlvs_core::wire::options::Options;
use rlvs_core::wire::tcp;

fn mss(options: &[u8]) -> Vec<u16> {
    Options::new(options)
        .filter_map(Result::ok)
        .filter(|option| option.kind == 2 && option.len == 4)
        .map(|option| u16::from_be_bytes([options[option.offset + 2], options[option.offset + 3]]))
        .collect()
}

fuzz_target!(|input: (u16, &[u8])| {
    let (less, list) = input;
    let list = &list[..list.len().min(40) & !3];
    let mut end = 0;
    let mut failed = false;
    for option in Options::new(list) {
        assert!(!failed);
        match option {
            Ok(option) => {
                assert!(option.offset >= end && option.len >= 2);
                assert!(list[end..option.offset].iter().all(|byte| *byte == 1));
                end = option.offset + option.len;
            }
            Err(_) => failed = true,
        }
    }

    let mut header = vec![0x5a; 20];
    header[12] = (5 + list.len() as u8 / 4) << 4;
    header.extend(list);
    let sum = checksum::fold(checksum::sum(&header)) % 0xffff;
    let changed = tcp::clamp_mss(&mut header, less, L4Checksum::Full);
    assert_eq!(checksum::fold(checksum::sum(&header)) % 0xffff, sum);
    assert_eq!(changed, header[20..] != *list);
    for (new, old) in mss(&header[20..]).into_iter().zip(mss(list)) {
        assert!(new <= old && (new >= 88 || new == old) && old - new <= less);
    }
});
