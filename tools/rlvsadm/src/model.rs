// SPDX-License-Identifier: GPL-2.0

//! What the kernel's tables hold, as the commands and the listings see it.
//!
//! Ports and numbers are in host order; times are seconds.

use std::net::IpAddr;

/// Number of TCP, as in an IP header.
pub const TCP: u16 = 6;
/// Number of UDP, as in an IP header.
pub const UDP: u16 = 17;
/// Number of SCTP, as in an IP header.
pub const SCTP: u16 = 132;

/// Address family of a service or a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The netmask, as the kernel keeps it, that tells every client from every other.
    pub fn host_netmask(self) -> u32 {
        match self {
            Family::V4 => u32::MAX,
            Family::V6 => 128,
        }
    }
}

/// What names a virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceId {
    Address {
        protocol: u16,
        address: IpAddr,
        port: u16,
    },
    Mark {
        mark: u32,
        family: Family,
    },
}

impl ServiceId {
    pub fn family(&self) -> Family {
        match *self {
            ServiceId::Address { address, .. } => Family::of(address),
            ServiceId::Mark { family, .. } => family,
        }
    }

    /// The protocol, which a service of a firewall mark does not have.
    pub fn protocol(&self) -> Option<u16> {
        match *self {
            ServiceId::Address { protocol, .. } => Some(protocol),
            ServiceId::Mark { .. } => None,
        }
    }
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub id: ServiceId,
    pub scheduler: String,
    /// Bits of `uapi::svc_flag`.
    pub flags: u32,
    /// How long a client stays with its real server, where the service is persistent.
    pub timeout: u32,
    /// IPv4: the mask as it lies in memory in network order. IPv6: the prefix length.
    pub netmask: u32,
    /// Name of the persistence engine, empty for none.
    pub engine: String,
    pub stats: Stats,
}

/// A destination: a real server of one virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub address: IpAddr,
    pub port: u16,
    /// One of `uapi::method`.
    pub method: u32,
    pub weight: u32,
    pub upper_threshold: u32,
    pub lower_threshold: u32,
    pub active: u32,
    pub inactive: u32,
    pub persistent: u32,
    pub tunnel: Tunnel,
    pub stats: Stats,
}

/// How a tunnelling destination is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tunnel {
    pub kind: TunnelKind,
    /// Destination port of the outer header, for GUE.
    pub port: u16,
    pub checksum: TunnelChecksum,
}

/// Encapsulation of a tunnel; the values are the wire's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TunnelKind {
    #[default]
    Ipip = 0,
    Gue = 1,
    Gre = 2,
}

/// Checksums of a GUE or GRE tunnel; the values are the wire's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TunnelChecksum {
    #[default]
    Without = 0,
    With = 1,
    Remote = 2,
}

/// Counters since the last zeroing, and rates per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub conns: u64,
    pub in_packets: u64,
    pub out_packets: u64,
    pub in_bytes: u64,
    pub out_bytes: u64,
    pub conns_rate: u64,
    pub in_packets_rate: u64,
    pub out_packets_rate: u64,
    pub in_bytes_rate: u64,
    pub out_bytes_rate: u64,
}

/// A local address of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAddress {
    pub address: IpAddr,
    /// Connections of the service that hold a port of the address.
    pub conns: u32,
    /// How often it had no free port for a new connection of the service.
    pub exhausted: u64,
}

/// Timeouts of connections that can be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    pub tcp: u32,
    pub tcp_fin: u32,
    pub udp: u32,
}

/// A daemon that keeps the connections of several directors the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    pub state: DaemonState,
    /// The network device that it sends or listens on.
    pub interface: String,
    /// Directors with the same number belong together.
    pub sync_id: u8,
    /// Longest message in bytes; these four are the module's choice if absent.
    pub max_length: Option<u16>,
    pub group: Option<IpAddr>,
    pub port: Option<u16>,
    pub ttl: Option<u8>,
}

/// What a daemon does; the values are the wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DaemonState {
    /// It sends.
    Master = 1,
    /// It receives.
    Backup = 2,
}

impl DaemonState {
    /// The word for it on command lines and in listings.
    pub fn name(self) -> &'static str {
        match self {
            DaemonState::Master => "master",
            DaemonState::Backup => "backup",
        }
    }
}

/// What the module says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// Three numbers, the lowest eight bits last.
    pub version: u32,
    /// Buckets of the connection table.
    pub table_size: u32,
}

impl Info {
    /// The version in the usual notation.
    pub fn version(&self) -> String {
        let [_, major, minor, patch] = self.version.to_be_bytes();
        format!("{major}.{minor}.{patch}")
    }
}
