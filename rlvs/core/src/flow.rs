// SPDX-License-Identifier: GPL-2.0

//! Who talks to whom: the tuple of a packet, the direction it goes, the key of a new flow.

use core::fmt::Debug;
use core::net::IpAddr;
use core::net::Ipv4Addr;
use core::net::Ipv6Addr;

/// An address of one of the two families.
pub trait Address: Copy + Eq + Ord + Debug + Send + Sync + Into<IpAddr> + 'static {
    /// Its family.
    const FAMILY: Family;
    /// The address that stands for none, or any.
    const UNSPECIFIED: Self;
    /// What a tuple is to a keyed hash.
    type Words: AsRef<[u32]>;

    /// The tuple as words for a keyed hash: source, destination, ports. The few protocols that share these
    /// are not worth a word.
    ///
    /// Addresses are in the machine's own byte order: the words mean nothing on another machine.
    fn words(tuple: &Tuple<Self>) -> Self::Words;

    /// The address, if it is of this family.
    fn from_ip(addr: IpAddr) -> Option<Self>;

    /// Whether it is one of the host's own that no network reaches.
    fn is_loopback(self) -> bool;

    /// The address in 32 bits: all that matters of it to spread by it.
    fn fold(self) -> u32;
}

impl Address for Ipv4Addr {
    const FAMILY: Family = Family::V4;
    const UNSPECIFIED: Self = Self::UNSPECIFIED;
    type Words = [u32; 3];

    #[inline]
    fn words(tuple: &Tuple<Self>) -> [u32; 3] {
        [
            u32::from_ne_bytes(tuple.src.octets()),
            u32::from_ne_bytes(tuple.dst.octets()),
            tuple.ports(),
        ]
    }

    #[inline]
    fn from_ip(addr: IpAddr) -> Option<Self> {
        match addr {
            IpAddr::V4(addr) => Some(addr),
            IpAddr::V6(_) => None,
        }
    }

    #[inline]
    fn is_loopback(self) -> bool {
        Ipv4Addr::is_loopback(&self)
    }

    #[inline]
    fn fold(self) -> u32 {
        u32::from(self)
    }
}

/// An IPv6 address as words, in the machine's own byte order.
#[inline]
fn words(addr: Ipv6Addr) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = addr.octets();
    [
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
        u32::from_ne_bytes([i, j, k, l]),
        u32::from_ne_bytes([m, n, o, p]),
    ]
}

impl Address for Ipv6Addr {
    const FAMILY: Family = Family::V6;
    const UNSPECIFIED: Self = Self::UNSPECIFIED;
    type Words = [u32; 9];

    #[inline]
    fn words(tuple: &Tuple<Self>) -> [u32; 9] {
        let ([a, b, c, d], [e, f, g, h]) = (words(tuple.src), words(tuple.dst));
        [a, b, c, d, e, f, g, h, tuple.ports()]
    }

    #[inline]
    fn from_ip(addr: IpAddr) -> Option<Self> {
        match addr {
            IpAddr::V4(_) => None,
            IpAddr::V6(addr) => Some(addr),
        }
    }

    #[inline]
    fn is_loopback(self) -> bool {
        Ipv6Addr::is_loopback(&self)
    }

    #[inline]
    fn fold(self) -> u32 {
        // Prefixes differ in the first half, hosts in the second: rotated, they do not cancel out.
        let [a, b, c, d] = words(self).map(u32::from_be);
        let high = a.rotate_left(7) ^ b.rotate_left(19);
        (high ^ c).wrapping_mul(0x85eb_ca6b) ^ d
    }
}

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

    #[inline]
    fn ports(&self) -> u32 {
        u32::from(self.sport) << 16 | u32::from(self.dport)
    }
}

/// Which internet protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[inline]
    pub fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The family with that number (`AF_INET`, `AF_INET6`).
    pub fn from_number(number: u16) -> Option<Self> {
        match number {
            2 => Some(Self::V4),
            10 => Some(Self::V6),
            _ => None,
        }
    }

    /// Its number, `AF_INET` or `AF_INET6`.
    pub fn number(self) -> u16 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }

    /// An address of this family, whose first bytes it is, in network order.
    pub fn address(self, bytes: [u8; 16]) -> IpAddr {
        let [a, b, c, d, ..] = bytes;
        match self {
            Self::V4 => IpAddr::from([a, b, c, d]),
            Self::V6 => IpAddr::from(bytes),
        }
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
        assert_ne!(Address::words(&tuple.reversed()), Address::words(&tuple));
        assert_eq!(size_of::<Tuple<Ipv4Addr>>(), 16);
    }

    #[test]
    fn a_family_has_its_number_and_its_addresses() {
        for family in [Family::V4, Family::V6] {
            assert_eq!(Family::from_number(family.number()), Some(family));
            assert_eq!(Family::of(family.address([1; 16])), family);
        }
        assert_eq!(Family::from_number(0), None);
        let mut bytes = [9; 16];
        bytes[..4].copy_from_slice(&[192, 0, 2, 1]);
        assert_eq!(Family::V4.address(bytes), IpAddr::from([192, 0, 2, 1]));
    }

    #[test]
    fn addresses_and_ports_are_in_the_words() {
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
        ];
        for other in others {
            assert_ne!(Address::words(&other), Address::words(&tuple));
        }
    }

    #[test]
    fn every_byte_of_an_ipv6_tuple_is_in_the_words() {
        let addr = |last: u8| Ipv6Addr::from([last; 16]);
        let tuple = Tuple {
            src: addr(1),
            dst: addr(2),
            sport: 1,
            dport: 2,
            proto: 17,
        };
        for at in 0..16 {
            let mut bytes = [1; 16];
            bytes[at] = 9;
            let src = Ipv6Addr::from(bytes);
            assert_ne!(
                Address::words(&Tuple { src, ..tuple }),
                Address::words(&tuple)
            );
            assert_ne!(
                Address::words(&Tuple { dst: src, ..tuple }),
                Address::words(&tuple)
            );
            assert_ne!(Address::fold(src), Address::fold(addr(1)));
        }
        for other in [Tuple { sport: 3, ..tuple }, Tuple { dport: 3, ..tuple }] {
            assert_ne!(Address::words(&other), Address::words(&tuple));
        }
    }
}
