// SPDX-License-Identifier: GPL-2.0

//! Persistence: which connections of a client go to the same server.
//!
//! A *template* remembers which server a client was given. What it is found by is its key: a network
//! of clients, the service, and for services that serve many ports no port. Connections have keys of
//! their own, [tuples](crate::flow::Tuple); the two cannot be taken for each other.

use core::net::IpAddr;
use core::net::Ipv4Addr;
use core::net::Ipv6Addr;

use crate::flow::Family;
use crate::flow::FlowKey;
use crate::wire::sip;

/// The protocol of a template of a mark, whose connections may be of any: `IPPROTO_IP`.
pub const ANY_PROTOCOL: u8 = 0;
/// The port where FTP servers are spoken to. Their data connections use others.
pub const FTP: u16 = 21;

/// What finds in a packet more to tell clients apart by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    /// The Call-ID of SIP over UDP.
    Sip,
}

impl Engine {
    /// The engine of that name, without a terminating NUL.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        (name == Self::Sip.name().as_bytes()).then_some(Self::Sip)
    }

    /// Its name in netlink messages and in `/proc/net/ip_vs_conn`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sip => "sip",
        }
    }

    /// What it finds in the payload of a UDP datagram; not empty. A packet without it is for nobody.
    pub fn data(self, payload: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Sip => sip::call_id(payload),
        }
    }
}

/// What the clients of a template have asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// An address.
    Address(IpAddr),
    /// Whatever has a firewall mark.
    Mark(u32),
}

impl Asked {
    /// What is shown of it beside clients of a family: a mark stands at the begin of an address.
    pub fn address(self, client: Family) -> IpAddr {
        match self {
            Self::Address(addr) => addr,
            Self::Mark(mark) => {
                let [a, b, c, d] = mark.to_be_bytes();
                client.address([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            }
        }
    }
}

/// What a template is found by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TemplateKey {
    /// The first address of the clients' network.
    pub client: IpAddr,
    /// What they have asked for.
    pub asked: Asked,
    /// The port there; 0 stands for every port.
    pub port: u16,
    /// Transport protocol, or [`ANY_PROTOCOL`].
    pub proto: u8,
    /// A digest of what an [`Engine`] found, so wide that no two are alike; 0 without one.
    pub digest: u64,
}

impl TemplateKey {
    /// The key as words for a keyed hash: they mean nothing on another machine.
    pub fn words(&self) -> [u32; 11] {
        let words = |addr| match addr {
            IpAddr::V4(addr) => [addr.to_bits(), 0, 0, 0],
            IpAddr::V6(addr) => {
                let [a, b, c, d, e, f, g, h] = addr.segments().map(u32::from);
                [a << 16 | b, c << 16 | d, e << 16 | f, g << 16 | h]
            }
        };
        let [a, b, c, d] = words(self.client);
        let [e, f, g, h] = match self.asked {
            Asked::Address(addr) => words(addr),
            Asked::Mark(mark) => [mark, 0, 0, 1],
        };
        let port = u32::from(self.port) << 16 | u32::from(self.proto);
        // CAST: The halves of the digest.
        let (low, high) = (self.digest as u32, (self.digest >> 32) as u32);
        [a, b, c, d, e, f, g, h, port, low, high]
    }
}

/// What of a persistent service decides on its templates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Its mark, if that is what names it.
    pub mark: Option<u32>,
    /// Its port; 0 if it has none.
    pub port: u16,
    /// The netmask of its clients, or the length of the prefix of IPv6 in the machine's byte order;
    /// as it stands in a message.
    pub netmask: [u8; 4],
}

impl Rules {
    /// The key of the template for a packet of that protocol. `digest` is of what an engine found.
    pub fn key(&self, flow: &FlowKey, proto: u8, digest: u64) -> TemplateKey {
        let address = Asked::Address(flow.service);
        let (asked, port, proto) = match self.mark {
            _ if self.is_own_port(flow.service_port) => (address, self.port, proto),
            Some(mark) => (Asked::Mark(mark), 0, ANY_PROTOCOL),
            None => (address, 0, proto),
        };
        TemplateKey {
            client: network(flow.client, self.netmask),
            asked,
            port: if port == FTP { 0 } else { port },
            proto,
            digest,
        }
    }

    /// The port of a server, whose own is `dest_port`, for what clients send to port `asked`: a service
    /// without a port of its own leaves theirs alone.
    pub fn server_port(&self, asked: u16, dest_port: u16) -> u16 {
        if self.is_own_port(asked) && dest_port != 0 {
            dest_port
        } else {
            asked
        }
    }

    /// The port of that server that its template for port `asked` tells; 0 if it has many.
    pub fn template_port(&self, asked: u16, dest_port: u16) -> u16 {
        if self.is_own_port(asked) && self.port != FTP {
            dest_port
        } else {
            0
        }
    }

    fn is_own_port(&self, asked: u16) -> bool {
        asked == self.port
    }
}

/// The first address of a client's network.
fn network(client: IpAddr, netmask: [u8; 4]) -> IpAddr {
    match client {
        IpAddr::V4(addr) => {
            Ipv4Addr::from_bits(addr.to_bits() & u32::from_be_bytes(netmask)).into()
        }
        IpAddr::V6(addr) => {
            let host = 128u32.saturating_sub(u32::from_ne_bytes(netmask));
            let mask = u128::MAX.checked_shl(host).unwrap_or(0);
            Ipv6Addr::from_bits(addr.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::IPPROTO_TCP;
    use crate::wire::IPPROTO_UDP;

    const ALL: [u8; 4] = [255; 4];

    fn rules(mark: Option<u32>, port: u16) -> Rules {
        Rules {
            mark,
            port,
            netmask: ALL,
        }
    }

    fn flow(client: &str, service: &str, service_port: u16) -> FlowKey {
        FlowKey {
            client: client.parse().unwrap(),
            client_port: 40000,
            service: service.parse().unwrap(),
            service_port,
        }
    }

    fn asked(key: TemplateKey) -> (Asked, u16, u8) {
        (key.asked, key.port, key.proto)
    }

    #[test]
    fn what_a_template_is_for() {
        let vip = Asked::Address([10, 9, 0, 80].into());
        let to = |port| flow("10.1.0.2", "10.9.0.80", port);
        let tcp = IPPROTO_TCP;
        let table = [
            // A service at a port, FTP's, one for all ports, a mark.
            (rules(None, 80), 80, (vip, 80, tcp)),
            (rules(None, 21), 21, (vip, 0, tcp)),
            (rules(None, 21), 2000, (vip, 0, tcp)),
            (rules(None, 0), 80, (vip, 0, tcp)),
            (rules(None, 0), 0, (vip, 0, tcp)),
            (rules(Some(7), 0), 80, (Asked::Mark(7), 0, ANY_PROTOCOL)),
            (rules(Some(7), 0), 21, (Asked::Mark(7), 0, ANY_PROTOCOL)),
            // Mainline's: its mark is not asked for if the port is the service's own, which is none.
            (rules(Some(7), 0), 0, (vip, 0, tcp)),
        ];
        for (rules, port, expected) in table {
            assert_eq!(
                asked(rules.key(&to(port), tcp, 0)),
                expected,
                "{rules:?} {port}"
            );
        }
    }

    #[test]
    fn ports_of_servers_and_of_templates() {
        let table = [
            (rules(None, 80), 80, 8080, (8080, 8080)),
            (rules(None, 80), 80, 0, (80, 0)),
            (rules(None, 21), 21, 2121, (2121, 0)),
            (rules(None, 21), 2000, 2121, (2000, 0)),
            (rules(None, 0), 80, 8080, (80, 0)),
            (rules(Some(7), 0), 80, 8080, (80, 0)),
        ];
        for (rules, port, dest, expected) in table {
            let ports = (
                rules.server_port(port, dest),
                rules.template_port(port, dest),
            );
            assert_eq!(ports, expected, "{rules:?} {port}");
        }
    }

    #[test]
    fn a_mark_is_shown_where_the_address_is() {
        let mark = Asked::Mark(0x0102_0304);
        assert_eq!(mark.address(Family::V4), IpAddr::from([1, 2, 3, 4]));
        let six: IpAddr = "102:304::".parse().unwrap();
        assert_eq!(mark.address(Family::V6), six);
        assert_eq!(Asked::Address(six).address(Family::V6), six);
    }

    #[test]
    fn engines_have_names() {
        assert_eq!(Engine::from_name(b"sip"), Some(Engine::Sip));
        for other in [&b""[..], b"SIP", b"sip\0", b"si"] {
            assert_eq!(Engine::from_name(other), None);
        }
        let payload = b"BYE sip:a SIP/2.0\r\nCall-ID: 77\r\n\r\n";
        assert_eq!(Engine::Sip.data(payload), Some(&b"77"[..]));
    }

    /// Two addresses of a family that have `len` bits in common and no more.
    fn pair() -> impl Strategy<Value = (Family, u32, [u8; 16], [u8; 16])> {
        let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
        (family, any::<u128>(), any::<u128>(), 1u32..=127).prop_map(|(family, one, other, at)| {
            let len = match family {
                Family::V4 => at % 32,
                Family::V6 => at,
            };
            let flipped = 1u128 << (127 - len);
            let behind = flipped - 1;
            let other = (one ^ flipped) & !behind | other & behind;
            (family, len, one.to_be_bytes(), other.to_be_bytes())
        })
    }

    fn netmask(family: Family, len: u32) -> [u8; 4] {
        match family {
            Family::V4 => u32::MAX.checked_shl(32 - len).unwrap_or(0).to_be_bytes(),
            Family::V6 => len.to_ne_bytes(),
        }
    }

    proptest! {
        #[test]
        fn a_network_shares_a_template_and_no_more((family, len, one, other) in pair()) {
            let [one, other] = [one, other].map(|bytes| family.address(bytes));
            let with = |client, len| {
                let flow = FlowKey { client, client_port: 1, service: one, service_port: 53 };
                let netmask = netmask(family, len);
                Rules { mark: None, port: 53, netmask }.key(&flow, IPPROTO_UDP, 0)
            };
            if len > 0 {
                prop_assert_eq!(with(one, len), with(other, len));
                prop_assert_eq!(with(with(one, len).client, len), with(one, len));
            }
            prop_assert_ne!(with(one, len + 1), with(other, len + 1));
        }

        #[test]
        fn the_clients_port_is_no_part_of_it(mark in any::<Option<u32>>(), port: u16, asked: u16, ports: (u16, u16)) {
            let key = |client_port| {
                let flow = FlowKey { client_port, ..flow("2001:db8::1", "2001:db8::80", asked) };
                let netmask = 64u32.to_ne_bytes();
                Rules { mark, port, netmask }.key(&flow, IPPROTO_TCP, 9)
            };
            prop_assert_eq!(key(ports.0), key(ports.1));
        }

        #[test]
        fn every_field_is_in_the_words(client: u32, asked: u32, port: u16, proto: u8, digest: u64, bit in 0u32..64) {
            let key = TemplateKey {
                client: Ipv4Addr::from(client).into(),
                asked: Asked::Mark(asked),
                port,
                proto,
                digest,
            };
            let flip = 1u32 << (bit % 32);
            for other in [
                TemplateKey { client: Ipv4Addr::from(client ^ flip).into(), ..key },
                TemplateKey { asked: Asked::Mark(asked ^ flip), ..key },
                TemplateKey { asked: Asked::Address(Ipv4Addr::from(asked).into()), ..key },
                TemplateKey { port: port ^ (1 << (bit % 16)), ..key },
                TemplateKey { proto: proto ^ (1 << (bit % 8)), ..key },
                TemplateKey { digest: digest ^ (1 << bit), ..key },
            ] {
                prop_assert_ne!(other.words(), key.words());
            }
        }

        #[test]
        fn no_netmask_does_harm(netmask: [u8; 4], client: [u8; 16]) {
            for family in [Family::V4, Family::V6] {
                let client = family.address(client);
                prop_assert_eq!(Family::of(network(client, netmask)), family);
            }
        }
    }
}
