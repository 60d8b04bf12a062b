// SPDX-License-Identifier: GPL-2.0

//! The list of TCP options (RFC 9293, section 3.2).

use super::Error;

/// End of the list.
pub const EOL: u8 = 0;
/// No operation: one byte of padding.
pub const NOP: u8 = 1;
/// Maximum segment size: length 4.
pub const MSS: u8 = 2;
/// Selective acknowledgement: length 2 and 8 for each block.
pub const SACK: u8 = 5;
/// Timestamps: length 10.
pub const TIMESTAMPS: u8 = 8;

/// Most bytes that options can have.
pub const MAX_LEN: usize = 40;

/// Where an option stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpOption {
    /// What it is.
    pub kind: u8,
    /// Offset of its kind byte in the list.
    pub offset: usize,
    /// Its length in bytes, kind and length byte included; the list holds all of it.
    pub len: usize,
}

/// Walks a list of options.
///
/// NOPs are passed over, EOL ends the walk. A length that cannot be is an error and the last
/// item: what follows it has no meaning that two readers would agree on.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Options<'a> {
    /// Starts at the first option: `bytes` is what follows the fixed 20 bytes of the header.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self::resume(bytes, 0)
    }

    /// Goes on behind an option, for who edits the list between two steps.
    #[inline]
    pub(super) fn resume(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// The offset behind the last good option; once the walk has ended, where the list ends.
    #[inline]
    pub(super) fn position(&self) -> usize {
        self.at
    }

    #[inline]
    fn read(&self, kind: u8) -> Result<TcpOption, Error> {
        let length_at = self.at.wrapping_add(1);
        let len = usize::from(*self.bytes.get(length_at).ok_or(Error::Truncated)?);
        if len < 2 {
            return Err(Error::Malformed);
        }
        if self.bytes.len().saturating_sub(self.at) < len {
            return Err(Error::Truncated);
        }
        Ok(TcpOption {
            kind,
            offset: self.at,
            len,
        })
    }
}

impl Iterator for Options<'_> {
    type Item = Result<TcpOption, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match *self.bytes.get(self.at)? {
                NOP => self.at = self.at.wrapping_add(1),
                EOL => {
                    self.bytes = &[];
                    return None;
                }
                kind => {
                    let option = self.read(kind);
                    match option {
                        Ok(TcpOption { len, .. }) => self.at = self.at.wrapping_add(len),
                        Err(_) => self.bytes = &[],
                    }
                    return Some(option);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn walk(bytes: &[u8]) -> Vec<Result<(u8, usize, usize), Error>> {
        Options::new(bytes)
            .map(|o| o.map(|o| (o.kind, o.offset, o.len)))
            .collect()
    }

    #[test]
    fn a_linux_syn_is_read() {
        let syn = [
            2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
        ];
        assert_eq!(
            walk(&syn),
            [Ok((2, 0, 4)), Ok((4, 4, 2)), Ok((8, 6, 10)), Ok((3, 17, 3))]
        );
    }

    #[test]
    fn the_list_ends_at_eol() {
        assert_eq!(walk(&[1, 4, 2, 0, 2, 4, 0, 0]), [Ok((4, 1, 2))]);
        assert_eq!(walk(&[]), []);
    }

    #[test]
    fn a_bad_length_is_the_last_item() {
        assert_eq!(
            walk(&[4, 2, 254, 0, 4, 2]),
            [Ok((4, 0, 2)), Err(Error::Malformed)]
        );
        assert_eq!(walk(&[254, 1, 4, 2]), [Err(Error::Malformed)]);
        assert_eq!(walk(&[254, 5, 4, 2]), [Err(Error::Truncated)]);
        assert_eq!(walk(&[4, 2, 254]), [Ok((4, 0, 2)), Err(Error::Truncated)]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_to_an_end(bytes in vec(any::<u8>(), 0..=40)) {
            let mut last = 0;
            for option in Options::new(&bytes).filter_map(Result::ok) {
                prop_assert!(option.offset >= last && option.len >= 2);
                prop_assert_eq!(bytes[option.offset], option.kind);
                last = option.offset + option.len;
                prop_assert!(last <= bytes.len());
            }
        }
    }
}
