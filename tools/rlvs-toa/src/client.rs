// SPDX-License-Identifier: GPL-2.0

//! What the programs leave in their maps: `struct client` and `struct address` of bpf/common.h.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use serde::{Serialize, Serializer};

/// The size of `struct client`.
pub const SIZE: usize = 20;

/// Which packet told the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Syn,
    Ack,
    Data,
    Datagram,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Source::Syn => "SYN",
            Source::Ack => "ACK",
            Source::Data => "data",
            Source::Datagram => "datagram",
        })
    }
}

/// A client as a balancer has told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    pub addr: SocketAddr,
    /// The kind of the option; 0 where a connected UDP socket took it from a datagram.
    pub kind: u8,
    pub source: Source,
}

/// An address as the programs have it, IPv4 as mapped IPv6, and a port in network byte order.
pub fn socket_addr(addr: &[u8], port: &[u8]) -> Option<SocketAddr> {
    let addr: [u8; 16] = addr.try_into().ok()?;
    let port: [u8; 2] = port.try_into().ok()?;
    let addr = IpAddr::V6(Ipv6Addr::from(addr)).to_canonical();
    Some(SocketAddr::new(addr, u16::from_be_bytes(port)))
}

impl Client {
    /// Reads a `struct client`.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..SIZE)?;
        let source = [Source::Syn, Source::Ack, Source::Data, Source::Datagram];
        Some(Client {
            addr: socket_addr(&bytes[..16], &bytes[16..18])?,
            kind: bytes[18],
            source: *source.get(usize::from(bytes[19]))?,
        })
    }
}

/// An address in JSON: as it is written anywhere.
pub fn as_text<S: Serializer>(addr: &SocketAddr, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families() {
        let mut bytes = [0; SIZE];
        bytes[10..16].copy_from_slice(&[0xff, 0xff, 198, 51, 100, 2]);
        bytes[16..].copy_from_slice(&[0x9c, 0x40, 254, 1]);
        let client = Client::read(&bytes).unwrap();
        assert_eq!(client.addr.to_string(), "198.51.100.2:40000");
        assert_eq!((client.kind, client.source), (254, Source::Ack));
        bytes[..2].copy_from_slice(&[0x20, 0x01]);
        let client = Client::read(&bytes).unwrap();
        assert_eq!(client.addr.to_string(), "[2001::ffff:c633:6402]:40000");
    }

    #[test]
    fn too_short_or_unknown() {
        assert_eq!(Client::read(&[0; SIZE - 1]), None);
        let mut bytes = [0; SIZE];
        bytes[19] = 4;
        assert_eq!(Client::read(&bytes), None);
    }
}
