// SPDX-License-Identifier: GPL-2.0

//! The lines of the files in `/proc/net`, to the column: programs count them.
//!
//! Addresses are eight hexadecimal digits (IPv4) or eight groups of four (IPv6), ports four.

mod stats;
mod status;

pub use self::{
    stats::{
        AllCpus,
        Cpu,
        Stats,
        PERCPU_HEAD, //
    },
    status::{
        Census,
        Estimation,
        Table, //
    }, //
};

use crate::{
    uapi::method,
    wire::{
        IPPROTO_TCP,
        IPPROTO_UDP, //
    },
};
use core::{
    fmt::{
        self,
        Write as _, //
    },
    net::IpAddr, //
};

const IP: u16 = 0;
const ICMP: u16 = 1;
const TCP: u16 = IPPROTO_TCP as u16;
const UDP: u16 = IPPROTO_UDP as u16;
const ICMPV6: u16 = 58;
const SCTP: u16 = 132;

/// An address.
struct Address(IpAddr);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(addr) => write!(f, "{:08X}", addr.to_bits()),
            IpAddr::V6(addr) => {
                let [first, rest @ ..] = addr.segments();
                write!(f, "{first:04x}")?;
                rest.iter().try_for_each(|part| write!(f, ":{part:04x}"))
            }
        }
    }
}

/// An address and a port, as services and destinations have them.
struct Socket(IpAddr, u16);

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(addr, port) = *self;
        match addr {
            IpAddr::V4(_) => write!(f, "{}:{port:04X}", Address(addr)),
            IpAddr::V6(_) => write!(f, "[{}]:{port:04X}", Address(addr)),
        }
    }
}

/// A transport protocol.
struct Protocol(u16);

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IP => f.pad("IP"),
            UDP => f.pad("UDP"),
            TCP => f.pad("TCP"),
            SCTP => f.pad("SCTP"),
            ICMP => f.pad("ICMP"),
            ICMPV6 => f.pad("ICMPv6"),
            other => write!(f, "IP_{other}"),
        }
    }
}

/// `ip_vs`: its head.
pub struct Head {
    /// As [`crate::uapi::VERSION`].
    pub version: u32,
    /// Buckets of the connection table.
    pub size: u32,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, size } = self;
        let (major, minor, patch) = (version >> 16, version >> 8 & 0xff, version & 0xff);
        write!(
            f,
            "IP Virtual Server version {major}.{minor}.{patch} (size={size})\n\
             Prot LocalAddress:Port Scheduler Flags\n\
             \x20 -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
        )
    }
}

/// What names a service.
pub enum ServiceName {
    /// A transport protocol, which netlink takes in 16 bits, an address and a port.
    Address(u16, IpAddr, u16),
    /// A firewall mark.
    Mark(u32),
}

/// `ip_vs`: a service.
pub struct Service<'a> {
    /// Its name.
    pub name: ServiceName,
    /// Its scheduler.
    pub scheduler: &'a str,
    /// Whether it schedules every packet anew.
    pub one_packet: bool,
    /// If it is persistent, for how long, in jiffies, and by which netmask, as netlink has it.
    pub persistent: Option<(u32, [u8; 4])>,
}

impl fmt::Display for Service<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheduler = self.scheduler;
        let ops = if self.one_packet { "ops " } else { "" };
        match self.name {
            ServiceName::Address(proto, addr, port) => {
                write!(
                    f,
                    "{}  {} {scheduler} ",
                    Protocol(proto),
                    Socket(addr, port)
                )?;
                // Mainline has no place for it in IPv6's.
                if addr.is_ipv4() {
                    write!(f, "{ops} ")?;
                }
            }
            ServiceName::Mark(mark) => write!(f, "FWM  {mark:08X} {scheduler} {ops}")?,
        }
        if let Some((jiffies, netmask)) = self.persistent {
            let netmask = u32::from_be_bytes(netmask);
            // Mainline's is signed.
            let jiffies = jiffies as i32;
            write!(f, "persistent {jiffies} {netmask:08X}")?;
        }
        f.write_str("\n")
    }
}

/// `ip_vs`: a destination.
pub struct Dest {
    /// Its address.
    pub addr: IpAddr,
    /// Its port.
    pub port: u16,
    /// One of [`method`].
    pub method: u32,
    /// Its weight.
    pub weight: u32,
    /// Active connections.
    pub active: u32,
    /// Other connections.
    pub inactive: u32,
}

impl fmt::Display for Dest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = Socket(self.addr, self.port);
        // FullNAT has no name that programs know.
        let forward = match self.method {
            method::LOCALNODE => "Local",
            method::TUNNEL => "Tunnel",
            method::DROUTE => "Route",
            _ => "Masq",
        };
        let (weight, active, inactive) = (self.weight, self.active, self.inactive);
        writeln!(
            f,
            "  -> {socket}      {forward:<7} {weight:<6} {active:<10} {inactive:<10}"
        )
    }
}

/// `ip_vs_conn`: its head.
pub const CONN_HEAD: &str =
    "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n";

/// `ip_vs_conn_sync`: its head.
pub const CONN_SYNC_HEAD: &str =
    "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires\n";

/// `ip_vs_conn` and `ip_vs_conn_sync`: a connection.
pub struct Conn<'a> {
    /// Its transport protocol.
    pub proto: u8,
    /// The client.
    pub client: (IpAddr, u16),
    /// The virtual service.
    pub service: (IpAddr, u16),
    /// The real server, which may be of another address family.
    pub server: (IpAddr, u16),
    /// The name of its state.
    pub state: &'a str,
    /// Where it comes from; only `ip_vs_conn_sync` tells.
    pub origin: Option<&'a str>,
    /// When it expires, in seconds from now.
    pub expires: u32,
    /// The name of the persistence engine that it was found by, and what that found.
    pub found: Option<(&'a str, &'a [u8])>,
}

impl fmt::Display for Conn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<3}", Protocol(self.proto.into()))?;
        for (addr, port) in [self.client, self.service, self.server] {
            write!(f, " {} {port:04X}", Address(addr))?;
        }
        write!(f, " {:<11} ", self.state)?;
        if let Some(origin) = self.origin {
            write!(f, "{origin:<6} ")?;
        }
        write!(f, "{:7}", self.expires)?;
        if let Some((engine, data)) = self.found {
            write!(f, " {engine} ")?;
            data.iter()
                .try_for_each(|byte| f.write_char(char::from(*byte)))?;
        }
        f.write_str("\n")
    }
}

/// `ip_vs_app`: its head.
pub const APP_HEAD: &str = "prot port    usecnt name\n";

/// `ip_vs_app`: an application helper of TCP.
pub struct App {
    /// The port of the connections that it looks at.
    pub port: u16,
    /// How many of them there are.
    pub users: i32,
    /// Its name.
    pub name: &'static str,
}

impl fmt::Display for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { port, users, name } = self;
        writeln!(f, "TCP  {port:<7} {users:<6} {name:<17}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn v4(d: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 9, 0, d))
    }

    fn v6(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn service(name: ServiceName) -> Service<'static> {
        Service {
            name,
            scheduler: "wrr",
            one_packet: false,
            persistent: None,
        }
    }

    #[test]
    fn the_head_names_version_and_size() {
        let head = Head {
            version: 0x01_02_01,
            size: 4096,
        };
        assert_eq!(
            head.to_string(),
            "IP Virtual Server version 1.2.1 (size=4096)\n\
             Prot LocalAddress:Port Scheduler Flags\n  \
             -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
        );
    }

    #[test]
    fn services_of_every_kind() {
        let tcp = || ServiceName::Address(6, v4(80), 80);
        assert_eq!(service(tcp()).to_string(), "TCP  0A090050:0050 wrr  \n");
        let unknown = service(ServiceName::Address(0x1234, v4(80), 80));
        assert_eq!(unknown.to_string(), "IP_4660  0A090050:0050 wrr  \n");
        let sctp = service(ServiceName::Address(132, v4(80), 0xabcd));
        assert_eq!(sctp.to_string(), "SCTP  0A090050:ABCD wrr  \n");
        let six = service(ServiceName::Address(17, v6("2001:db8::1"), 53));
        assert_eq!(
            six.to_string(),
            "UDP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0035 wrr \n"
        );
        let mark = service(ServiceName::Mark(0x1f));
        assert_eq!(mark.to_string(), "FWM  0000001F wrr \n");
    }

    #[test]
    fn flags_of_services() {
        let persistent = |name, netmask| Service {
            persistent: Some((75_000, netmask)),
            ..service(name)
        };
        let tcp = || ServiceName::Address(6, v4(80), 80);
        assert_eq!(
            persistent(tcp(), [255, 255, 255, 0]).to_string(),
            "TCP  0A090050:0050 wrr  persistent 75000 FFFFFF00\n"
        );
        assert_eq!(
            persistent(ServiceName::Mark(1), [255; 4]).to_string(),
            "FWM  00000001 wrr persistent 75000 FFFFFFFF\n"
        );
        let endless = Service {
            persistent: Some((u32::MAX - 249, [255; 4])),
            ..service(tcp())
        };
        assert_eq!(
            endless.to_string(),
            "TCP  0A090050:0050 wrr  persistent -250 FFFFFFFF\n"
        );
        // A prefix length is in the host's order in the message, and mainline takes it for a mask.
        assert_eq!(
            persistent(ServiceName::Address(6, v6("::1"), 443), [128, 0, 0, 0]).to_string(),
            "TCP  [0000:0000:0000:0000:0000:0000:0000:0001]:01BB wrr persistent 75000 80000000\n"
        );
        let ops = |name| Service {
            one_packet: true,
            ..service(name)
        };
        assert_eq!(ops(tcp()).to_string(), "TCP  0A090050:0050 wrr ops  \n");
        assert_eq!(
            ops(ServiceName::Mark(1)).to_string(),
            "FWM  00000001 wrr ops \n"
        );
        assert_eq!(
            ops(ServiceName::Address(17, v6("::1"), 53)).to_string(),
            "UDP  [0000:0000:0000:0000:0000:0000:0000:0001]:0035 wrr \n"
        );
    }

    #[test]
    fn destinations_of_every_method_and_family() {
        let dest = |addr, method| Dest {
            addr,
            port: 8080,
            method,
            weight: 3,
            active: 12,
            inactive: 345,
        };
        for (method, name) in [
            (method::MASQ, "Masq   "),
            (method::LOCALNODE, "Local  "),
            (method::TUNNEL, "Tunnel "),
            (method::DROUTE, "Route  "),
            (method::BYPASS, "Masq   "),
            (method::FULLNAT, "Masq   "),
        ] {
            assert_eq!(
                dest(v4(11), method).to_string(),
                format!("  -> 0A09000B:1F90      {name} 3      12         345       \n")
            );
        }
        assert_eq!(
            dest(v6("fe80::a:b"), method::TUNNEL).to_string(),
            "  -> [fe80:0000:0000:0000:0000:0000:000a:000b]:1F90      \
             Tunnel  3      12         345       \n"
        );
    }

    #[test]
    fn an_exporter_finds_what_it_expects() {
        // prometheus/procfs knows an address by the length of its token, 13 or 46.
        let rows = [
            service(ServiceName::Address(6, v4(1), 1)).to_string(),
            service(ServiceName::Address(6, v6("::"), 65535)).to_string(),
        ];
        let lengths = rows.map(|row| row.split_whitespace().nth(1).unwrap().len());
        assert_eq!(lengths, [13, 46]);
    }

    #[test]
    fn connections_of_both_families() {
        let conn = |client, service, server| Conn {
            proto: 6,
            client: (client, 44300),
            service: (service, 80),
            server: (server, 8080),
            state: "ESTABLISHED",
            origin: None,
            expires: 899,
            found: None,
        };
        assert_eq!(
            conn(v4(2), v4(80), v4(11)).to_string(),
            "TCP 0A090002 AD0C 0A090050 0050 0A09000B 1F90 ESTABLISHED     899\n"
        );
        assert_eq!(
            conn(v6("2001:db8::2"), v6("2001:db8::80"), v4(11)).to_string(),
            "TCP 2001:0db8:0000:0000:0000:0000:0000:0002 AD0C \
             2001:0db8:0000:0000:0000:0000:0000:0080 0050 0A09000B 1F90 ESTABLISHED     899\n"
        );
        let udp = Conn {
            proto: 17,
            state: "UDP",
            origin: Some("LOCAL"),
            expires: 1_234_567_890,
            ..conn(v4(2), v4(80), v4(11))
        };
        assert_eq!(
            udp.to_string(),
            "UDP 0A090002 AD0C 0A090050 0050 0A09000B 1F90 UDP         LOCAL  1234567890\n"
        );
        let template = Conn {
            proto: 0,
            client: (v4(2), 0),
            service: (v4(7), 0),
            state: "NONE",
            ..conn(v4(2), v4(80), v4(11))
        };
        assert_eq!(
            template.to_string(),
            "IP  0A090002 0000 0A090007 0000 0A09000B 1F90 NONE            899\n"
        );
        let call = Conn {
            found: Some(("sip", b"1234@phone")),
            ..template
        };
        assert_eq!(
            call.to_string(),
            "IP  0A090002 0000 0A090007 0000 0A09000B 1F90 NONE            899 sip 1234@phone\n"
        );
        let other = Conn {
            proto: 50,
            ..conn(v4(2), v4(80), v4(11))
        };
        assert!(other.to_string().starts_with("IP_50 0A090002 "));
    }
}
