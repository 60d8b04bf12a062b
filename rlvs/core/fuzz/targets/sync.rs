// SPDX-License-Identifier: GPL-2.0

//! A synchronisation message of any bytes is read to its end; what it tells is written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rlvs_core::sync;
use rlvs_core::sync::Message;
use rlvs_core::sync::Version;

fuzz_target!(|bytes: &[u8]| {
    let mut datagram = bytes.to_vec();
    let size = (datagram.len() as u16).to_be_bytes();
    if let Some(place) = datagram.get_mut(2..4) {
        place.copy_from_slice(&size);
    }
    let Some(message) = Message::parse(&datagram) else {
        return;
    };
    for entry in message.flatten() {
        let mut buffer = [0; 1024];
        let len = sync::start(&mut buffer, Version::V1, 1).unwrap();
        let len = sync::append(&mut buffer, len, Version::V1, &entry).unwrap();
        let again = Message::parse(&buffer[..len]).unwrap().next().unwrap();
        assert_eq!(again, Ok(entry));
    }
});
