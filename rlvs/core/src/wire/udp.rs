// SPDX-License-Identifier: GPL-2.0

//! The UDP header (RFC 768).

use super::Error;

/// Length of the header, in bytes.
pub const LEN: usize = 8;

/// A UDP header's fields; ports in host order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Length of the datagram, header included, in bytes: at least 8.
    pub len: u16,
    /// Checksum; 0 is none.
    pub checksum: u16,
}

impl Header {
    /// Reads a header from at least 8 bytes.
    #[inline(always)]
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let &[s0, s1, d0, d1, l0, l1, c0, c1] = bytes.first_chunk().ok_or(Error::Truncated)?;
        let len = u16::from_be_bytes([l0, l1]);
        if usize::from(len) < LEN {
            return Err(Error::Malformed);
        }
        Ok(Self {
            sport: u16::from_be_bytes([s0, s1]),
            dport: u16::from_be_bytes([d0, d1]),
            len,
            checksum: u16::from_be_bytes([c0, c1]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_below_the_header_is_refused() {
        assert_eq!(
            Header::parse(&[0, 1, 0, 2, 0, 8, 0, 0]).map(|h| h.len),
            Ok(8)
        );
        assert_eq!(
            Header::parse(&[0, 1, 0, 2, 0, 7, 0, 0]),
            Err(Error::Malformed)
        );
        assert_eq!(Header::parse(&[0, 1, 0, 2, 0, 8, 0]), Err(Error::Truncated));
    }
}
