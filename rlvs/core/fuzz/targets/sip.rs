// SPDX-License-Identifier: GPL-2.0

//! A Call-ID is found in any bytes or it is not; one that is found is a line's end of words.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rlvs_core::wire::sip;

fuzz_target!(|message: &[u8]| {
    let Some(id) = sip::call_id(message) else {
        return;
    };
    assert!(!id.is_empty() && id.len() <= sip::CALL_ID_MAX);
    assert!(id.iter().all(|byte| byte.is_ascii_graphic()));
    let found = message
        .windows(id.len() + 1)
        .any(|window| window.starts_with(id) && matches!(window.last(), Some(b'\r' | b'\n')));
    assert!(found);
    // It is found again, whatever stands in front of it.
    let mut again = b"BYE sip:b SIP/2.0\r\nCall-ID: ".to_vec();
    again.extend_from_slice(id);
    again.extend_from_slice(b"\r\n");
    assert_eq!(sip::call_id(&again), Some(id));
});
