// SPDX-License-Identifier: GPL-2.0

//! The header of ICMP (RFC 792) and of ICMPv6 (RFC 4443).

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

/// ICMPv6: destination unreachable (RFC 4443).
pub const V6_DEST_UNREACH: u8 = 1;
/// Code of [`V6_DEST_UNREACH`]: no way to the address.
pub const V6_ADDR_UNREACH: u8 = 3;
/// ICMPv6: packet too big (RFC 4443).
pub const V6_PACKET_TOO_BIG: u8 = 2;
/// ICMPv6: the first type that is no error.
pub const V6_FIRST_INFO: u8 = 128;

/// The header of an ICMP or ICMPv6 message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Type of the message.
    pub kind: u8,
    /// Code within the type.
    pub code: u8,
    /// Checksum of header and body; with ICMPv6, of a pseudo header too.
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
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;
    use core::net::Ipv6Addr;

    use super::super::ip::Ip;
    use super::*;

    fn header(kind: u8, code: u8, rest: u32) -> Header {
        let mut bytes = [kind, code, 0, 0, 0, 0, 0, 0];
        bytes[4..].copy_from_slice(&rest.to_be_bytes());
        Header::parse(&bytes).unwrap()
    }

    #[test]
    fn only_errors_about_packets_are_related() {
        let errors: Vec<u8> = (0..=255).filter(|k| Ipv4Addr::is_icmp_error(*k)).collect();
        assert_eq!(errors, [3, 4, 11]);
        let errors = (0..=255).filter(|k| Ipv6Addr::is_icmp_error(*k));
        assert_eq!(errors.max(), Some(127));
    }

    #[test]
    fn an_mtu_is_only_in_errors_about_it() {
        let v4 = |kind, code| Ipv4Addr::next_hop_mtu(&header(kind, code, 0xffff_05dc));
        assert_eq!((v4(3, 4), v4(3, 3), v4(11, 4)), (Some(1500), None, None));
        let v6 = |kind| Ipv6Addr::next_hop_mtu(&header(kind, 0, 0x1_05dc));
        assert_eq!((v6(2), v6(1)), (Some(0x1_05dc), None));
    }
}
