// SPDX-License-Identifier: GPL-2.0

//! What FTP's control connection says of data connections: PORT and the reply 227 (RFC 959), EPRT and
//! the reply 229 (RFC 2428).
//!
//! Each stands at the start of a line, and a segment is read only if a line starts with it and all that
//! matters is in it; so it is with every server and client that is known.

use core::net::IpAddr;
use core::net::Ipv4Addr;
use core::net::Ipv6Addr;

use super::checksum::Delta;
use super::checksum::L4Checksum;
use super::tcp;
use super::Error;
use crate::flow::Family;

/// How many bytes of a segment are looked at: more than any such line has up to its port.
pub const LOOK: usize = 256;

/// Where a data connection will be made to, as a line of the control connection says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// The address; `None` if it is that of the control connection.
    pub addr: Option<IpAddr>,
    /// The port, not 0.
    pub port: u16,
    /// How it is written.
    pub form: Form,
    /// Where that starts in the payload.
    pub at: usize,
    /// How many bytes it has.
    pub len: usize,
}

/// How address and port are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Six numbers with commas between them, as in PORT and 227.
    Commas,
    /// Between delimiters, as in EPRT and 229.
    Delimited,
}

/// What a client's segment tells the server to connect to; `None` if it does not.
///
/// `family` is that of the control connection: PORT is for IPv4 only, EPRT for either.
pub fn request(payload: &[u8], family: Family) -> Option<Target> {
    let mut line = Line::new(payload);
    if line.word(b"PORT") && family == Family::V4 {
        line.spaces()?;
        line.commas()
    } else if line.word(b"EPRT") {
        line.spaces()?;
        let target = line.delimited(family)?;
        // A client says where it is.
        target.addr.is_some().then_some(target)
    } else {
        None
    }
}

/// What a server's segment tells the client to connect to; `None` if it does not.
///
/// `family` is that of the control connection.
pub fn reply(payload: &[u8], family: Family) -> Option<Target> {
    let mut line = Line::new(payload);
    if line.word(b"227 ") && family == Family::V4 {
        // There should be parentheses. Some servers leave them out.
        line.until(|byte| byte == b'(' || byte.is_ascii_digit())?;
        line.word(b"(");
        line.commas()
    } else if line.word(b"229 ") {
        line.until(|byte| byte == b'(')?;
        line.word(b"(");
        line.delimited(family)
    } else {
        None
    }
}

/// A payload, read from its start to where the reader stands.
struct Line<'a> {
    payload: &'a [u8],
    at: usize,
}

impl<'a> Line<'a> {
    fn new(payload: &'a [u8]) -> Self {
        let payload = payload.get(..LOOK).unwrap_or(payload);
        Self { payload, at: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        self.payload.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at = self.at.wrapping_add(1);
        Some(byte)
    }

    /// Passes over that word, in either case of letters, if it is next.
    fn word(&mut self, word: &[u8]) -> bool {
        let is_next = self
            .rest()
            .get(..word.len())
            .is_some_and(|next| next.eq_ignore_ascii_case(word));
        if is_next {
            self.at = self.at.wrapping_add(word.len());
        }
        is_next
    }

    /// Passes over at least one space.
    fn spaces(&mut self) -> Option<()> {
        let spaces = self.word(b" ");
        while self.word(b" ") {}
        spaces.then_some(())
    }

    /// Passes over what comes before the first such byte of the line.
    fn until(&mut self, is_it: impl Fn(u8) -> bool) -> Option<()> {
        loop {
            match self.peek()? {
                b'\r' | b'\n' => return None,
                byte if is_it(byte) => return Some(()),
                _ => self.at = self.at.wrapping_add(1),
            }
        }
    }

    /// A number of at least one digit, with another byte behind it: the last digit may not have come
    /// yet.
    fn number(&mut self, most: u16) -> Option<u16> {
        let mut number: Option<u16> = None;
        loop {
            let byte = self.peek()?;
            if !byte.is_ascii_digit() {
                return number;
            }
            let digit = u16::from(byte.wrapping_sub(b'0'));
            let longer = number.unwrap_or(0).checked_mul(10)?.checked_add(digit)?;
            number = Some(longer).filter(|number| *number <= most);
            number?;
            self.at = self.at.wrapping_add(1);
        }
    }

    fn byte(&mut self) -> Option<u8> {
        u8::try_from(self.number(255)?).ok()
    }

    fn commas(&mut self) -> Option<Target> {
        let start = self.at;
        let mut bytes = [self.byte()?, 0, 0, 0, 0, 0];
        for byte in bytes.iter_mut().skip(1) {
            if self.next()? != b',' {
                return None;
            }
            *byte = self.byte()?;
        }
        let [a, b, c, d, high, low] = bytes;
        self.target(
            start,
            Some(IpAddr::from([a, b, c, d])),
            u16::from_be_bytes([high, low]),
            Form::Commas,
        )
    }

    fn delimited(&mut self, family: Family) -> Option<Target> {
        let start = self.at;
        let delimiter = self.next().filter(u8::is_ascii_graphic)?;
        let number = match family {
            Family::V4 => b'1',
            Family::V6 => b'2',
        };
        let addr = match self.next()? {
            byte if byte == delimiter => {
                if self.next()? != delimiter {
                    return None;
                }
                None
            }
            byte if byte == number && self.next()? == delimiter => {
                let text = self.rest();
                let len = text.iter().position(|byte| *byte == delimiter)?;
                let text = core::str::from_utf8(text.get(..len)?).ok()?;
                self.at = self.at.wrapping_add(len).wrapping_add(1);
                Some(match family {
                    Family::V4 => IpAddr::V4(text.parse::<Ipv4Addr>().ok()?),
                    Family::V6 => IpAddr::V6(text.parse::<Ipv6Addr>().ok()?),
                })
            }
            _ => return None,
        };
        let port = self.number(u16::MAX)?;
        if self.next()? != delimiter {
            return None;
        }
        self.target(start, addr, port, Form::Delimited)
    }

    fn target(&self, at: usize, addr: Option<IpAddr>, port: u16, form: Form) -> Option<Target> {
        (port != 0).then_some(Target {
            addr,
            port,
            form,
            at,
            len: self.at.wrapping_sub(at),
        })
    }
}

/// Address and port as they are written in a reply.
#[derive(Clone, Copy)]
pub struct Text {
    bytes: [u8; Self::MAX],
    len: usize,
}

impl Text {
    /// Length of the longest.
    const MAX: usize = "255,255,255,255,255,255".len();

    /// Six numbers with commas between them.
    pub fn commas(addr: Ipv4Addr, port: u16) -> Self {
        let [a, b, c, d] = addr.octets();
        let [high, low] = port.to_be_bytes();
        let mut text = Self::empty();
        for (index, byte) in [a, b, c, d, high, low].into_iter().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            text.number(byte.into());
        }
        text
    }

    /// A port between delimiters: the address is that of the control connection.
    pub fn delimited(port: u16) -> Self {
        let mut text = Self::empty();
        text.push(b'|');
        text.push(b'|');
        text.push(b'|');
        text.number(port);
        text.push(b'|');
        text
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn empty() -> Self {
        Self {
            bytes: [0; Self::MAX],
            len: 0,
        }
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len = self.len.wrapping_add(1);
        }
    }

    fn number(&mut self, number: u16) {
        let mut leading = true;
        for power in [10_000, 1000, 100, 10, 1] {
            let digit = number / power % 10;
            leading &= digit == 0 && power > 1;
            if !leading {
                // CAST: A digit.
                self.push(b'0'.wrapping_add(digit as u8));
            }
        }
    }
}

/// Puts `new` in the place of `old_len` bytes at `at` of the payload of a TCP segment, and fixes the
/// checksum, in which the segment's length counts.
///
/// `segment` starts at the TCP header of `header_len` bytes. If the segment grows, as many bytes stand
/// behind it, and they are overwritten; if it shrinks, as many are left over at the end. The length in
/// the IP header is the caller's. An error ([`Error::Truncated`], [`Error::NoRoom`] beyond 65535 bytes)
/// leaves the segment unchanged.
pub fn splice(
    segment: &mut [u8],
    header_len: usize,
    at: usize,
    old_len: usize,
    new: &[u8],
    csum: L4Checksum,
) -> Result<(), Error> {
    let grown = new.len().saturating_sub(old_len);
    let before = segment.len().checked_sub(grown).ok_or(Error::Truncated)?;
    let after = before
        .checked_add(new.len())
        .and_then(|len| len.checked_sub(old_len))
        .ok_or(Error::Truncated)?;
    let (old_word, new_word) = match (u16::try_from(before), u16::try_from(after)) {
        (Ok(before), Ok(after)) => (before, after),
        _ => return Err(Error::NoRoom),
    };
    if header_len < tcp::MIN_LEN {
        return Err(Error::Truncated);
    }
    let start = header_len.checked_add(at).ok_or(Error::Truncated)?;
    let old_end = start.checked_add(old_len).ok_or(Error::Truncated)?;
    // What follows the replaced bytes moves, and may come to odd places: the payload counts as a whole.
    let payload = segment.get(header_len..before).ok_or(Error::Truncated)?;
    let delta = Delta::new().u16(old_word, new_word);
    let full = delta.remove(payload);
    if old_end > before {
        return Err(Error::Truncated);
    }
    let new_end = start.saturating_add(new.len());
    let mut copy = |from: usize, to: usize| {
        if let Some(byte) = segment.get(from).copied() {
            if let Some(place) = segment.get_mut(to) {
                *place = byte;
            }
        }
    };
    let tail = 0..before.saturating_sub(old_end);
    match new_end > old_end {
        true => tail
            .rev()
            .for_each(|n| copy(old_end.wrapping_add(n), new_end.wrapping_add(n))),
        false => tail.for_each(|n| copy(old_end.wrapping_add(n), new_end.wrapping_add(n))),
    }
    if let Some(places) = segment.get_mut(start..new_end) {
        for (place, byte) in places.iter_mut().zip(new) {
            *place = *byte;
        }
    }
    let full = full.append(segment.get(header_len..after).unwrap_or_default());
    if let Some([.., c0, c1, _, _]) = segment.first_chunk_mut::<{ tcp::MIN_LEN }>() {
        let field = u16::from_be_bytes([*c0, *c1]);
        [*c0, *c1] = match csum {
            L4Checksum::Partial => delta.apply_partial(field),
            L4Checksum::Full => full.apply(field),
        }
        .to_be_bytes();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::testing;
    use super::*;

    fn v4(text: &str) -> Option<IpAddr> {
        Some(IpAddr::V4(text.parse().unwrap()))
    }

    fn read(target: Option<Target>, payload: &str) -> Option<(Option<IpAddr>, u16, &str)> {
        target.map(|t| (t.addr, t.port, &payload[t.at..t.at + t.len]))
    }

    fn says(payload: &str) -> Option<(Option<IpAddr>, u16, &str)> {
        read(reply(payload.as_bytes(), Family::V4), payload)
    }

    fn asks(payload: &str) -> Option<(Option<IpAddr>, u16, &str)> {
        read(request(payload.as_bytes(), Family::V4), payload)
    }

    #[test]
    fn passive_replies_of_servers_are_read() {
        let expected = Some((v4("10.2.0.11"), 0xc350, "10,2,0,11,195,80"));
        // vsftpd, ProFTPD, and one without parentheses.
        assert_eq!(
            says("227 Entering Passive Mode (10,2,0,11,195,80).\r\n"),
            expected
        );
        assert_eq!(
            says("227 Entering Passive Mode (10,2,0,11,195,80)\r\n"),
            expected
        );
        assert_eq!(
            says("227 Entering Passive Mode. 10,2,0,11,195,80\r\n"),
            expected
        );
        let extended = Some((None, 50000, "|||50000|"));
        assert_eq!(
            says("229 Entering Extended Passive Mode (|||50000|)\r\n"),
            extended
        );
        assert_eq!(
            says("229 Ok (|1|10.2.0.11|50000|)\r\n"),
            Some((v4("10.2.0.11"), 50000, "|1|10.2.0.11|50000|"))
        );
        assert_eq!(says("229 Ok (!!!7!)\r\n"), Some((None, 7, "!!!7!")));
    }

    #[test]
    fn commands_of_clients_are_read() {
        let expected = Some((v4("10.1.0.2"), 256, "10,1,0,2,1,0"));
        assert_eq!(asks("PORT 10,1,0,2,1,0\r\n"), expected);
        assert_eq!(asks("port   10,1,0,2,1,0\n"), expected);
        let extended = Some((v4("10.1.0.2"), 6275, "|1|10.1.0.2|6275|"));
        assert_eq!(asks("EPRT |1|10.1.0.2|6275|\r\n"), extended);
        assert_eq!(asks("eprt $1$10.1.0.2$6275$\r\n").map(|t| t.1), Some(6275));
    }

    #[test]
    fn ipv6_has_the_extended_forms_only() {
        let line = "EPRT |2|2001:db8::2|5282|\r\n";
        let target = request(line.as_bytes(), Family::V6).unwrap();
        assert_eq!(
            (target.addr, target.port),
            (Some("2001:db8::2".parse().unwrap()), 5282)
        );
        assert_eq!(request(b"EPRT |1|10.1.0.2|6275|\r\n", Family::V6), None);
        assert_eq!(request(line.as_bytes(), Family::V4), None);
        assert_eq!(request(b"PORT 10,1,0,2,1,0\r\n", Family::V6), None);
        assert_eq!(reply(b"227 Ok (10,2,0,11,195,80)\r\n", Family::V6), None);
        assert_eq!(
            reply(b"229 Ok (|||5282|)\r\n", Family::V6).map(|t| t.port),
            Some(5282)
        );
    }

    #[test]
    fn what_is_cut_off_or_wrong_is_no_target() {
        for line in [
            "227 Entering Passive Mode (10,2,0,11,195,80",
            "227 Entering Passive Mode (10,2,0,11,195)",
            "227 Entering Passive Mode (10,2,0,256,195,80)",
            "227 Entering Passive Mode (10,2,0,11,0,0)",
            "227 Entering Passive Mode (10,,0,11,195,80)",
            "227 nothing here\r\n(10,2,0,11,195,80)\r\n",
            "226-227 (10,2,0,11,195,80)\r\n",
            "227-Entering (10,2,0,11,195,80)\r\n",
            "229 Ok (|||50000",
            "229 Ok (|||0|)",
            "229 Ok (|||65536|)",
            "229 Ok (|2|2001:db8::1|5|)",
            "229 Ok |||50000|",
            "229 Ok (||50000|)",
            "",
        ] {
            assert_eq!(says(line), None, "{line}");
            assert_eq!(asks(line), None, "{line}");
        }
        for line in [
            "PORT10,1,0,2,1,0\r\n",
            "XPORT 10,1,0,2,1,0\r\n",
            "PORT 10,1,0,2,1\r\n",
            "EPRT |||6275|\r\n",
            "EPRT |1|10.1.0.2|6275\r\n",
            "EPRT |1|010.1.0.2|6275|\r\n",
            "EPRT  1 10.1.0.2 6275 \r\n",
        ] {
            assert_eq!(asks(line), None, "{line}");
        }
    }

    #[test]
    fn only_the_start_of_a_segment_is_looked_at() {
        let far = format!("227 {}(10,2,0,11,195,80)\r\n", ".".repeat(LOOK));
        assert_eq!(says(&far), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bits: u32, port in 1..=u16::MAX) {
            let addr = Ipv4Addr::from(bits);
            let text = Text::commas(addr, port);
            let text = core::str::from_utf8(text.as_bytes()).unwrap();
            let [a, b, c, d] = addr.octets();
            prop_assert_eq!(text, format!("{a},{b},{c},{d},{},{}", port >> 8, port & 255));
            let line = format!("227 Entering Passive Mode ({text}).\r\n");
            prop_assert_eq!(says(&line), Some((Some(IpAddr::V4(addr)), port, text)));
            let line = format!("PORT {text}\r\n");
            prop_assert_eq!(asks(&line), Some((Some(IpAddr::V4(addr)), port, text)));
            let text = Text::delimited(port);
            let text = core::str::from_utf8(text.as_bytes()).unwrap();
            prop_assert_eq!(text, format!("|||{port}|"));
            let line = format!("229 Entering Extended Passive Mode ({text})\r\n");
            prop_assert_eq!(says(&line), Some((None, port, text)));
        }

        #[test]
        fn every_ipv6_address_is_read(bits: u128, port in 1..=u16::MAX) {
            let addr = Ipv6Addr::from(bits);
            let line = format!("EPRT |2|{addr}|{port}|\r\n");
            let target = request(line.as_bytes(), Family::V6).unwrap();
            prop_assert_eq!((target.addr, target.port), (Some(IpAddr::V6(addr)), port));
        }

        #[test]
        fn a_beginning_is_no_target(bits: u32, port in 1..=u16::MAX) {
            let addr = Ipv4Addr::from(bits);
            let text = Text::commas(addr, port);
            let text = core::str::from_utf8(text.as_bytes()).unwrap();
            for line in [format!("227 Ok ({text})"), format!("229 Ok (|||{port}|)")] {
                for len in 0..line.len() - 1 {
                    prop_assert_eq!(says(&line[..len]), None);
                }
            }
            for line in [format!("PORT {text}\r"), format!("EPRT |1|{addr}|{port}|")] {
                for len in 0..line.len() {
                    prop_assert_eq!(asks(&line[..len]), None);
                }
            }
        }

        #[test]
        fn any_bytes_are_a_target_inside_them_or_none(
            start in prop_oneof![Just("227 "), Just("229 ("), Just("PORT "), Just("EPRT |"), Just("")],
            rest in vec(prop_oneof![any::<u8>(), Just(b','), Just(b'|'), Just(b'1'), 48..58_u8], 0..60),
        ) {
            let payload = [start.as_bytes(), &rest].concat();
            for family in [Family::V4, Family::V6] {
                for target in [reply(&payload, family), request(&payload, family)].into_iter().flatten() {
                    prop_assert!(target.port > 0 && target.at + target.len <= payload.len());
                    prop_assert!(target.addr.is_none_or(|addr| Family::of(addr) == family));
                }
            }
        }

        #[test]
        fn a_spliced_segment_is_the_one_built_anew(
            packet in testing::tcp(12),
            at in 0..80_usize,
            old in 0..30_usize,
            new in vec(any::<u8>(), 0..30),
            csum in testing::csum(),
        ) {
            let (at, ihl) = (at.min(packet.payload.len()), packet.ihl());
            let old = old.min(packet.payload.len() - at);
            let testing::L4::Tcp { options, .. } = &packet.l4 else { unreachable!() };
            let header_len = 20 + options.len();
            let mut other = packet.clone();
            other.payload.splice(at..at + old, new.clone());
            let mut segment = packet.build_as(csum).split_off(ihl);
            let grown = new.len().saturating_sub(old);
            segment.resize(segment.len() + grown, 0xee);
            splice(&mut segment, header_len, at, old, &new, csum).unwrap();
            segment.truncate(header_len + other.payload.len());
            prop_assert_eq!(segment, other.build_as(csum).split_off(ihl));
        }

        #[test]
        fn any_bytes_are_spliced_or_left_alone(
            bytes in vec(any::<u8>(), 0..80),
            header_len in 0..70_usize,
            at in 0..70_usize,
            old in 0..70_usize,
            new in vec(any::<u8>(), 0..30),
        ) {
            let mut segment = bytes.clone();
            if splice(&mut segment, header_len, at, old, &new, L4Checksum::Full).is_err() {
                prop_assert_eq!(segment, bytes);
            }
        }
    }
}
