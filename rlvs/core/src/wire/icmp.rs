// SPDX-License-Identifier: GPL-2.0

//! The ICMP header (RFC 792).

use super::Error;

/// Length of the header, in bytes.
pub const LEN: usize = 8;

/// Type: destination unreachable.
pub const DEST_UNREACH: u8 = 3;
/// Code of a destination unreachable: no route to the host.
pub const HOST_UNREACH: u8 = 1;
/// Code of a destination unreachable: nobody listens on the port.
pub const PORT_UNREACH: u8 = 3;
/// Code of [`DEST_UNREACH`]: fragmentation needed and don't-fragment set (RFC 1191).
pub const FRAG_NEEDED: u8 = 4;
/// Type: source quench.
pub const SOURCE_QUENCH: u8 = 4;
/// Type: time exceeded.
pub const TIME_EXCEEDED: u8 = 11;

/// An ICMP header's fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Type of the message.
    pub kind: u8,
    /// Code within the type.
    pub code: u8,
    /// Checksum of header and body; ICMP has no pseudo header.
    pub checksum: u16,
    /// The last four bytes, whose meaning depends on the type.
    pub rest: u32,
}

impl Header {
    /// Reads a header from at least 8 bytes.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let &[kind, code, c0, c1, r0, r1, r2, r3] = bytes.first_chunk().ok_or(Error::Truncated)?;
        Ok(Self {
            kind,
            code,
            checksum: u16::from_be_bytes([c0, c1]),
            rest: u32::from_be_bytes([r0, r1, r2, r3]),
        })
    }

    /// Whether it is an error that quotes a packet and may belong to a connection.
    ///
    /// The three types that IPVS relates; a redirect is between neighbours.
    #[inline]
    pub fn is_error(&self) -> bool {
        matches!(self.kind, DEST_UNREACH | SOURCE_QUENCH | TIME_EXCEEDED)
    }

    /// The MTU of the next hop, if the error is about that; 0 from routers older than RFC 1191.
    #[inline]
    pub fn next_hop_mtu(&self) -> Option<u16> {
        if self.kind == DEST_UNREACH && self.code == FRAG_NEEDED {
            Some((self.rest & 0xffff) as u16)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_about_packets_are_related() {
        let errors: Vec<u8> = (0..=255)
            .filter(|kind| {
                Header::parse(&[*kind, 0, 0, 0, 0, 0, 0, 0])
                    .unwrap()
                    .is_error()
            })
            .collect();
        assert_eq!(errors, [3, 4, 11]);
    }

    #[test]
    fn an_mtu_is_only_in_fragmentation_needed() {
        let mtu = |kind, code| {
            Header::parse(&[kind, code, 0, 0, 0xff, 0xff, 0x05, 0xdc])
                .unwrap()
                .next_hop_mtu()
        };
        assert_eq!(mtu(3, 4), Some(1500));
        assert_eq!(mtu(3, 3), None);
        assert_eq!(mtu(11, 4), None);
    }
}
