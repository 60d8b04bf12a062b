// SPDX-License-Identifier: GPL-2.0

//! Writing messages, into a buffer that holds what was written before.

use core::mem;
use core::net::IpAddr;

use super::flag;
use super::number;
use super::param;
use super::About;
use super::Entry;
use super::Version;
use super::TYPE_V6;
use crate::flow::Family;

/// Length of the longer header.
pub const HEADER_MAX: usize = 8;

/// Where in a header the size and, in version 1, the number of entries stand.
const SIZE: usize = 2;
const COUNT: usize = 4;

/// Begins a message of nobody; returns its length, `None` if the buffer is too small.
pub fn start(buffer: &mut [u8], version: Version, syncid: u8) -> Option<usize> {
    match version {
        Version::V0 => put(buffer, &[&[0, syncid, 0, 4]]),
        Version::V1 => put(buffer, &[&[0, syncid, 0, 8, 0, 1, 0, 0]]),
    }
}

/// Appends an entry to the message in the first `len` bytes of the buffer; returns its length then.
/// `None`, and the message is as it was, if there is no room, or the version has no word for it.
pub fn append(buffer: &mut [u8], len: usize, version: Version, entry: &Entry<'_>) -> Option<usize> {
    let at = match version {
        Version::V0 => 0,
        Version::V1 => COUNT,
    };
    let count = buffer.get(at)?.checked_add(1)?;
    let (_, room) = buffer.split_at_mut_checked(len)?;
    let added = match version {
        Version::V0 => put_v0(room, entry)?,
        Version::V1 => {
            // What is written into the gap changes nothing as long as it is no part of the message.
            let pad = len.wrapping_neg() & 3;
            let gap = put(room, &[[0; 3].get(..pad)?])?;
            gap.checked_add(put_v1(room.get_mut(gap..)?, entry)?)?
        }
    };
    let len = len.checked_add(added)?;
    let size = u16::try_from(len).ok()?;
    put(buffer.get_mut(SIZE..)?, &[&size.to_be_bytes()])?;
    put(buffer.get_mut(at..)?, &[&[count]])?;
    Some(len)
}

/// Writes bytes one behind the other; returns how many, `None` if there is no room.
fn put(mut room: &mut [u8], parts: &[&[u8]]) -> Option<usize> {
    let mut len = 0usize;
    for part in parts {
        let (place, rest) = mem::take(&mut room).split_at_mut_checked(part.len())?;
        for (to, from) in place.iter_mut().zip(*part) {
            *to = *from;
        }
        room = rest;
        len = len.checked_add(part.len())?;
    }
    Some(len)
}

/// The flags and the state of an entry.
fn flags(entry: &Entry<'_>) -> (u32, u16) {
    match entry.about {
        About::Conn(state) => (entry.flags & !flag::TEMPLATE, number(state)),
        About::Template(assured) => (entry.flags | flag::TEMPLATE, assured.into()),
    }
}

fn put_v0(room: &mut [u8], entry: &Entry<'_>) -> Option<usize> {
    let addr = |addr| match addr {
        IpAddr::V4(addr) => Some(addr.octets()),
        IpAddr::V6(_) => None,
    };
    let (flags, state) = flags(entry);
    put(
        room,
        &[
            &[0, entry.proto],
            &entry.client.1.to_be_bytes(),
            &entry.service.1.to_be_bytes(),
            &entry.server.1.to_be_bytes(),
            &addr(entry.client.0)?,
            &addr(entry.service.0)?,
            &addr(entry.server.0)?,
            &u16::try_from(flags).ok()?.to_be_bytes(),
            &state.to_be_bytes(),
        ],
    )
}

fn put_v1(room: &mut [u8], entry: &Entry<'_>) -> Option<usize> {
    let family = Family::of(entry.client.0);
    let (kind, addr_len) = match family {
        Family::V4 => (0, 4),
        Family::V6 => (TYPE_V6, 16),
    };
    let octets = |addr| match addr {
        IpAddr::V4(addr) if family == Family::V4 => {
            let [a, b, c, d] = addr.octets();
            Some([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        }
        IpAddr::V6(addr) if family == Family::V6 => Some(addr.octets()),
        _ => None,
    };
    let (engine, data) = match &entry.found {
        None => (&[][..], &[][..]),
        Some(found) => (found.engine, found.data),
    };
    let param = |kind: u8, value: &[u8]| {
        let len = u8::try_from(value.len()).ok()?;
        Some(([kind, len], if len == 0 { 0 } else { 2 }))
    };
    let (data_head, data_head_len) = param(param::PE_DATA, data)?;
    let (engine_head, engine_head_len) = param(param::PE_NAME, engine)?;
    let (flags, state) = flags(entry);
    let (client, service) = (octets(entry.client.0)?, octets(entry.service.0)?);
    let server = octets(entry.server.0)?;
    let len = put(
        room,
        &[
            &[kind, entry.proto, 0, 0],
            &flags.to_be_bytes(),
            &state.to_be_bytes(),
            &entry.client.1.to_be_bytes(),
            &entry.service.1.to_be_bytes(),
            &entry.server.1.to_be_bytes(),
            &entry.mark.to_be_bytes(),
            &entry.timeout.to_be_bytes(),
            client.get(..addr_len)?,
            service.get(..addr_len)?,
            server.get(..addr_len)?,
            data_head.get(..data_head_len)?,
            data,
            engine_head.get(..engine_head_len)?,
            engine,
        ],
    )?;
    let size = u16::try_from(len).ok().filter(|size| size >> 12 == 0)?;
    put(room.get_mut(SIZE..)?, &[&size.to_be_bytes()])?;
    Some(len)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::proto::State;
    use crate::sync::Found;
    use crate::sync::Message;
    use crate::sync::Unfit;
    use crate::uapi::method;

    fn addr(family: Family) -> impl Strategy<Value = IpAddr> {
        any::<[u8; 16]>().prop_map(move |bytes| family.address(bytes))
    }

    fn about() -> impl Strategy<Value = (About, u8)> {
        prop_oneof![
            (0u8..26).prop_map(|state| {
                let proto = match state {
                    0..=10 => 6,
                    11 => 17,
                    _ => 132,
                };
                (About::Conn(State::from_u8(state)), proto)
            }),
            (any::<bool>(), any::<u8>())
                .prop_map(|(assured, proto)| (About::Template(assured), proto)),
        ]
    }

    /// An entry, without what parameters tell.
    fn entry(family: Family) -> impl Strategy<Value = Entry<'static>> {
        let end = || (addr(family), any::<u16>());
        let bits = (0..=method::BYPASS, any::<bool>(), any::<bool>());
        (
            about(),
            bits,
            end(),
            end(),
            end(),
            any::<u32>(),
            any::<u32>(),
        )
            .prop_map(
                |(
                    (about, proto),
                    (method, inactive, one_way),
                    client,
                    service,
                    server,
                    mark,
                    timeout,
                )| {
                    let inactive = if inactive { flag::INACTIVE } else { 0 };
                    let one_way = if one_way { flag::NO_OUTPUT } else { 0 };
                    let template = match about {
                        About::Template(_) => flag::TEMPLATE,
                        About::Conn(_) => 0,
                    };
                    Entry {
                        about,
                        flags: method | inactive | one_way | template,
                        proto,
                        client,
                        service,
                        server,
                        mark,
                        timeout,
                        found: None,
                    }
                },
            )
    }

    fn any_entry() -> impl Strategy<Value = Entry<'static>> {
        prop_oneof![entry(Family::V4), entry(Family::V6)]
    }

    fn written(version: Version, room: usize, entries: &[Entry<'_>]) -> Vec<u8> {
        let mut buffer = vec![0xa5; room];
        let mut len = start(&mut buffer, version, 7).unwrap();
        for entry in entries {
            match append(&mut buffer, len, version, entry) {
                Some(longer) => len = longer,
                None => break,
            }
        }
        buffer.truncate(len);
        buffer
    }

    #[test]
    fn an_entry_has_mainlines_bytes() {
        let end = |text: &str, port| (text.parse::<IpAddr>().unwrap(), port);
        let mut entry = Entry {
            about: About::Conn(State::Established),
            flags: 3 | flag::NO_OUTPUT,
            proto: 6,
            client: end("10.1.0.2", 40000),
            service: end("10.9.0.80", 80),
            server: end("10.2.0.11", 8080),
            mark: 5,
            timeout: 900,
            found: None,
        };
        assert_eq!(
            written(Version::V1, 1000, &[entry]),
            [
                0, 7, 0, 44, 1, 1, 0, 0, // the header
                0, 6, 0, 36, 0, 0, 0, 0x83, 0, 1, 0x9c, 0x40, 0, 80, 0x1f, 0x90, 0, 0, 0, 5, 0, 0,
                3, 0x84, 10, 1, 0, 2, 10, 9, 0, 80, 10, 2, 0, 11
            ]
        );
        assert_eq!(
            written(Version::V0, 1000, &[entry]),
            [
                1, 7, 0, 28, 0, 6, 0x9c, 0x40, 0, 80, 0x1f, 0x90, 10, 1, 0, 2, 10, 9, 0, 80, 10, 2,
                0, 11, 0, 0x83, 0, 1
            ]
        );
        entry.about = About::Template(true);
        entry.found = Some(Found {
            engine: b"sip",
            data: b"7@x",
        });
        let message = written(Version::V1, 1000, &[entry, entry]);
        assert_eq!(message.len(), 8 + 46 + 2 + 46);
        assert_eq!(message[44..56], *b"\x02\x037@x\x03\x03sip\0\0");
        assert_eq!(message[8..12], [0, 6, 0, 46]);
    }

    #[test]
    fn what_version_0_has_no_word_for_is_not_written() {
        let end = |text: &str| (text.parse::<IpAddr>().unwrap(), 1);
        let entry = Entry {
            about: About::Conn(State::Udp),
            flags: 0,
            proto: 17,
            client: end("2001:db8::1"),
            service: end("2001:db8::2"),
            server: end("2001:db8::3"),
            mark: 0,
            timeout: 1,
            found: None,
        };
        assert_eq!(written(Version::V0, 1000, &[entry]).len(), 4);
    }

    #[test]
    fn a_message_has_255_entries_at_most() {
        let end = (IpAddr::from([1, 2, 3, 4]), 1);
        let entry = Entry {
            about: About::Conn(State::Udp),
            flags: 0,
            proto: 17,
            client: end,
            service: end,
            server: end,
            mark: 0,
            timeout: 1,
            found: None,
        };
        for (version, len) in [(Version::V0, 4 + 255 * 24), (Version::V1, 8 + 255 * 36)] {
            assert_eq!(written(version, 60000, &[entry; 300]).len(), len);
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(entries in vec(any_entry(), 0..20), room in 8usize..1500) {
            let message = written(Version::V1, room, &entries);
            let read = Message::parse(&message).unwrap();
            prop_assert_eq!(read.syncid(), 7);
            let read: Vec<_> = read.map(Result::unwrap).collect();
            prop_assert_eq!(&read[..], &entries[..read.len()]);
            // Nothing is left out that there was room for.
            if let Some(next) = entries.get(read.len()) {
                let longer = match next.client.0 {
                    IpAddr::V4(_) => 36,
                    IpAddr::V6(_) => 72,
                };
                prop_assert!(message.len() + longer > room);
            }
        }

        #[test]
        fn and_so_it_is_in_version_0(entries in vec(entry(Family::V4), 0..20)) {
            let message = written(Version::V0, 1000, &entries);
            let read: Vec<_> = Message::parse(&message).unwrap().map(Result::unwrap).collect();
            let kept = |entry: &Entry<'static>| Entry { mark: 0, timeout: 0, ..*entry };
            prop_assert_eq!(read, entries.iter().map(kept).collect::<Vec<_>>());
        }

        #[test]
        fn what_an_engine_found_comes_along(
            entry in any_entry(),
            data in vec(any::<u8>(), 1..256),
            name in vec(any::<u8>(), 1..17),
        ) {
            let entry = Entry { found: Some(Found { engine: &name, data: &data }), ..entry };
            let message = written(Version::V1, 1000, &[entry, entry]);
            let read: Vec<_> = Message::parse(&message).unwrap().collect();
            prop_assert_eq!(read, [Ok(entry), Ok(entry)]);
        }

        #[test]
        fn a_message_that_was_cut_tells_what_is_whole(entries in vec(any_entry(), 1..6), cut in 0usize..400) {
            let mut message = written(Version::V1, 1000, &entries);
            message.truncate(cut.max(8));
            let size = (message.len() as u16).to_be_bytes();
            message[2..4].copy_from_slice(&size);
            let read: Vec<_> = Message::parse(&message).unwrap().collect();
            let whole = read.iter().take_while(|entry| entry.is_ok()).count();
            prop_assert!(read[whole..].iter().all(|entry| *entry == Err(Unfit::Rest)));
            prop_assert!(read.len() <= whole + 1);
            for (read, entry) in read.iter().take(whole).zip(&entries) {
                prop_assert_eq!(read.as_ref(), Ok(entry));
            }
        }

        #[test]
        fn any_bytes_are_read_to_an_end(mut bytes in vec(any::<u8>(), 4..300), old: bool) {
            let size = (bytes.len() as u16).to_be_bytes();
            bytes[2..4].copy_from_slice(&size);
            if !old && bytes.len() >= 8 {
                bytes[0] = 0;
                bytes[5..8].copy_from_slice(&[1, 0, 0]);
            }
            for entry in Message::parse(&bytes).unwrap().flatten() {
                prop_assert_eq!(entry.flags & (flag::ONE_PACKET | flag::NO_CLIENT_PORT), 0);
                prop_assert!(entry.flags & method::MASK <= method::BYPASS);
            }
        }
    }
}
