// SPDX-License-Identifier: GPL-2.0

//! Who talks to whom: the tuple of a packet, the direction it goes, the key of a new flow.

use core::net::IpAddr;
use core::net::Ipv4Addr;

/// Addresses, ports and protocol as they stand in a packet.
///
/// Ports are in host order, `proto` is the number in the IP header. For IPv4 it is 16 bytes, so
/// that four of them share a cache line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(4))]
pub struct Tuple<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Transport protocol.
    pub proto: u8,
}

impl<A: Copy> Tuple<A> {
    /// The tuple of a packet that answers this one.
    #[inline]
    pub fn reversed(&self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            sport: self.dport,
            dport: self.sport,
            proto: self.proto,
        }
    }
}

impl Tuple<Ipv4Addr> {
    /// The tuple as words for a keyed hash: source, destination, ports, protocol.
    ///
    /// Addresses are in the machine's own byte order: the words mean nothing on another machine.
    #[inline]
    pub fn words(&self) -> [u32; 4] {
        [
            u32::from_ne_bytes(self.src.octets()),
            u32::from_ne_bytes(self.dst.octets()),
            u32::from(self.sport) << 16 | u32::from(self.dport),
            u32::from(self.proto),
        ]
    }
}

/// Which way a packet of a connection goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the client to the service.
    Original,
    /// From the real server to the director.
    Reply,
}

/// What a scheduler may know of the packet that opens a connection.
///
/// Ports are in host order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowKey {
    /// The client's address.
    pub client: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// The address the client asked for.
    pub service: IpAddr,
    /// The port the client asked for.
    pub service_port: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_of_a_reply_is_the_original() {
        let tuple = Tuple {
            src: Ipv4Addr::new(192, 0, 2, 1),
            dst: Ipv4Addr::new(198, 51, 100, 2),
            sport: 40000,
            dport: 80,
            proto: 6,
        };
        assert_ne!(tuple.reversed(), tuple);
        assert_eq!(tuple.reversed().reversed(), tuple);
        assert_ne!(tuple.reversed().words(), tuple.words());
        assert_eq!(size_of::<Tuple<Ipv4Addr>>(), 16);
    }

    #[test]
    fn every_field_is_in_the_words() {
        let tuple = Tuple {
            src: Ipv4Addr::new(192, 0, 2, 1),
            dst: Ipv4Addr::new(198, 51, 100, 2),
            sport: 1,
            dport: 2,
            proto: 17,
        };
        let others = [
            Tuple {
                src: Ipv4Addr::new(192, 0, 2, 2),
                ..tuple
            },
            Tuple {
                dst: Ipv4Addr::new(198, 51, 100, 3),
                ..tuple
            },
            Tuple { sport: 3, ..tuple },
            Tuple { dport: 1, ..tuple },
            Tuple { proto: 6, ..tuple },
        ];
        for other in others {
            assert_ne!(other.words(), tuple.words());
        }
    }
}
