// SPDX-License-Identifier: GPL-2.0

//! What names a call in a SIP message (RFC 3261, section 20.8): the value of its Call-ID header.

/// The longest Call-ID that is told apart, in bytes.
pub const CALL_ID_MAX: usize = 255;

/// The header's long and its compact name, in lower case.
const NAMES: [&[u8]; 2] = [b"call-id", b"i"];

/// The Call-ID of the message that a datagram holds; `None` if it holds none, or one that no phone
/// sends. Never empty, and at most [`CALL_ID_MAX`] printable ASCII characters.
pub fn call_id(message: &[u8]) -> Option<&[u8]> {
    let mut rest = message;
    // The first line is the request or the status.
    while let Some(line) = next_line(rest) {
        rest = line;
        if let Some(value) = value(line) {
            // The line ends right behind it.
            let (id, behind) = split(value, call_id_len(value));
            if !id.is_empty() {
                let ended = matches!(behind, [b'\r' | b'\n', ..]);
                return (ended && id.len() <= CALL_ID_MAX).then_some(id);
            }
        }
    }
    None
}

/// What stands behind a Call-ID's colon, if that is the header that begins here.
fn value(line: &[u8]) -> Option<&[u8]> {
    let behind = NAMES.iter().find_map(|name| {
        let (start, behind) = line.split_at_checked(name.len())?;
        let last = behind.first()?;
        // The name ends here: others begin with the same letters.
        (start.eq_ignore_ascii_case(name) && !last.is_ascii_alphanumeric()).then_some(behind)
    })?;
    match skip_blanks(behind) {
        [b':', value @ ..] => Some(skip_blanks(value)),
        _ => None,
    }
}

/// What follows the end of the line, unless that goes on there; lines end in CR, LF or both.
fn next_line(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes;
    loop {
        let end = rest.iter().position(|byte| is_line_end(*byte))?;
        let next = behind_line_end(split(rest, end).1)?;
        if !matches!(next, [] | [b' ' | b'\t', ..]) {
            return Some(next);
        }
        rest = next;
    }
}

/// What follows a line's end that stands here.
fn behind_line_end(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        [b'\r', b'\n', rest @ ..] | [b'\r' | b'\n', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// What follows blanks, and a line's end if the header goes on behind it.
fn skip_blanks(bytes: &[u8]) -> &[u8] {
    let rest = behind_blanks(bytes);
    match behind_line_end(rest) {
        Some(next @ [b' ' | b'\t', ..]) => behind_blanks(next),
        _ => rest,
    }
}

fn behind_blanks(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// The length of the `word [ "@" word ]` that stands here; 0 if none does.
fn call_id_len(bytes: &[u8]) -> usize {
    let first = word_len(bytes);
    match split(bytes, first).1 {
        [b'@', host @ ..] if first > 0 => match word_len(host) {
            0 => 0,
            second => first.saturating_add(1).saturating_add(second),
        },
        _ => first,
    }
}

fn word_len(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| is_word(**byte)).count()
}

/// RFC 3261, section 25.1: `word`.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~()<>:\\\"/[]?{}".contains(&byte)
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// The first `at` bytes and the rest.
fn split(bytes: &[u8], at: usize) -> (&[u8], &[u8]) {
    bytes.split_at_checked(at).unwrap_or((bytes, &[]))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn text(message: &str) -> Option<&str> {
        call_id(message.as_bytes()).map(|id| core::str::from_utf8(id).unwrap())
    }

    #[test]
    fn finds_the_header_however_it_is_written() {
        for header in [
            "Call-ID: a84b4c76e66710@pc33.example.com\r\n",
            "CALL-id:a84b4c76e66710@pc33.example.com\n",
            "i: a84b4c76e66710@pc33.example.com\r",
            "I \t:\r\n \ta84b4c76e66710@pc33.example.com\r\n",
            "In-Reply-To: other\r\nInfo: other\r\nCall-ID2: other\r\ni: a84b4c76e66710@pc33.example.com\r\n",
            "Call-ID: @nothing\r\nCall-ID: a84b4c76e66710@pc33.example.com\r\n",
            "Subject: x\r\n Call-ID: other\r\nCall-ID: a84b4c76e66710@pc33.example.com\r\n",
        ] {
            let message = format!("INVITE sip:bob@example.com SIP/2.0\r\nCSeq: 1 INVITE\r\n{header}");
            assert_eq!(text(&message), Some("a84b4c76e66710@pc33.example.com"), "{header:?}");
        }
    }

    #[test]
    fn the_request_line_is_no_header_and_a_value_is_a_whole_one() {
        for message in [
            "",
            "Call-ID: 1234\r\n",
            "INVITE\r\nCall-ID: 1234",
            "INVITE\r\nCall-ID: 1234 5678\r\n",
            "INVITE\r\nCall-ID: 1234@\r\n",
            "INVITE\r\nCall-ID:\r\n",
            "INVITE\r\nCall-ID\r\n",
            "INVITE\r\nCall-ID: \u{e4}\r\n",
        ] {
            assert_eq!(text(message), None, "{message:?}");
        }
    }

    #[test]
    fn a_call_id_has_a_longest_length() {
        for (len, found) in [(CALL_ID_MAX, true), (CALL_ID_MAX + 1, false)] {
            let id = "x".repeat(len);
            let message = format!("INVITE\r\nCall-ID: {id}\r\n");
            assert_eq!(text(&message), found.then_some(&*id));
        }
    }

    proptest! {
        #[test]
        fn whatever_the_message_an_id_is_a_line_of_words(
            lines in vec(
                prop_oneof![
                    "[ -~\r\n\t]{0,20}",
                    Just("Call-ID:".into()),
                    Just("i:".into()),
                    Just("\r\n".into()),
                    Just("a@b".into()),
                ],
                0..12,
            ),
        ) {
            let message = lines.concat();
            if let Some(id) = text(&message) {
                prop_assert!(!id.is_empty() && id.len() <= CALL_ID_MAX);
                prop_assert!(id.bytes().all(|byte| is_word(byte) || byte == b'@'));
                let ended = ['\r', '\n'].iter().any(|end| message.contains(&format!("{id}{end}")));
                prop_assert!(ended);
            }
        }

        #[test]
        fn any_bytes_give_a_value_or_none(bytes in vec(any::<u8>(), 0..80)) {
            let _ = call_id(&bytes);
        }

        #[test]
        fn an_id_is_found_behind_other_headers(
            id in "[a-zA-Z0-9.!%*_+~-]{1,60}(@[a-z0-9.]{1,60})?",
            others in vec("[J-Z][a-z]{1,8}: [ -~]{0,20}\r\n", 0..5),
            ending in prop_oneof![Just("\r\n"), Just("\n"), Just("\r")],
        ) {
            let message = format!("OPTIONS sip:a SIP/2.0\r\n{}Call-ID: {id}{ending}\r\n", others.concat());
            prop_assert_eq!(text(&message), Some(&*id));
        }
    }
}
