// SPDX-License-Identifier: GPL-2.0

//! The kernel's tables: families `IPVS` and `RLVS`, in the words of [`crate::model`].

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::{Command, Stdio},
};

use rlvs_core::uapi::{self, ipvs, rlvs};

use crate::{
    error::Failure,
    model::{
        Daemon, DaemonState, Destination, Family, Info, LocalAddress, Service, ServiceId, Stats,
        Timeouts, Tunnel, TunnelChecksum, TunnelKind,
    },
    netlink::{self, attr, bytes, nest, Attr, Attrs, Error, Socket},
};

const AF_INET: u16 = libc::AF_INET as u16;
const AF_INET6: u16 = libc::AF_INET6 as u16;

/// A change of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Add,
    Edit,
    Delete,
}

/// The module that is loaded, over one socket.
pub struct Kernel {
    socket: Socket,
    ipvs: netlink::Family,
    /// Absent if the module is mainline's.
    rlvs: Option<netlink::Family>,
}

impl Kernel {
    /// Reaches the module, loading rlvs if neither it nor mainline's ip_vs is there.
    pub fn connect() -> Result<Self, Failure> {
        let failed = |error| match error {
            Error::Broken(text) => Failure::usage(text),
            Error::Refused { errno, .. } => {
                Failure::usage(format!("generic netlink: error {errno}"))
            }
        };
        let mut socket = Socket::open().map_err(failed)?;
        let mut families = || {
            socket.families([
                (ipvs::FAMILY, ipvs::FAMILY_VERSION),
                (rlvs::FAMILY, rlvs::FAMILY_VERSION),
            ])
        };
        let mut found = families().map_err(failed)?;
        if found[0].is_none() && load_module() {
            found = families().map_err(failed)?;
        }
        let [Some(ipvs), rlvs] = found else {
            return Err(Failure::usage(
                "Can't initialize ipvs: neither rlvs nor ip_vs is loaded, and `modprobe rlvs' did not \
                 load it: run `modprobe rlvs' as root to see why",
            ));
        };
        Ok(Kernel { socket, ipvs, rlvs })
    }

    /// Whether the module is rlvs, and not mainline's ip_vs.
    pub fn is_rlvs(&self) -> bool {
        self.rlvs.is_some()
    }

    pub fn info(&mut self) -> Result<Info, Error> {
        let answers = self
            .socket
            .request(self.ipvs, ipvs::cmd::GET_INFO, Vec::new())?;
        let attrs = first(&answers)?;
        Ok(Info {
            version: attrs.number(ipvs::info::VERSION)?,
            table_size: attrs.number(ipvs::info::CONN_TAB_SIZE)?,
        })
    }

    pub fn timeouts(&mut self) -> Result<Timeouts, Error> {
        let answers = self
            .socket
            .request(self.ipvs, ipvs::cmd::GET_CONFIG, Vec::new())?;
        let attrs = first(&answers)?;
        Ok(Timeouts {
            tcp: attrs.number(ipvs::attr::TIMEOUT_TCP)?,
            tcp_fin: attrs.number(ipvs::attr::TIMEOUT_TCP_FIN)?,
            udp: attrs.number(ipvs::attr::TIMEOUT_UDP)?,
        })
    }

    /// Sets the timeouts; zero leaves one as it is.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<(), Error> {
        let attrs = vec![
            attr(ipvs::attr::TIMEOUT_TCP, timeouts.tcp),
            attr(ipvs::attr::TIMEOUT_TCP_FIN, timeouts.tcp_fin),
            attr(ipvs::attr::TIMEOUT_UDP, timeouts.udp),
        ];
        self.tell(ipvs::cmd::SET_CONFIG, attrs)
    }

    pub fn start_daemon(&mut self, daemon: &Daemon) -> Result<(), Error> {
        self.tell(ipvs::cmd::NEW_DAEMON, vec![daemon_nest(daemon)])
    }

    /// Stops the daemon in this state.
    pub fn stop_daemon(&mut self, daemon: &Daemon) -> Result<(), Error> {
        self.tell(ipvs::cmd::DEL_DAEMON, vec![daemon_nest(daemon)])
    }

    /// The daemons that run: none, one or both.
    pub fn daemons(&mut self) -> Result<Vec<Daemon>, Error> {
        let answers = self
            .socket
            .dump(self.ipvs, ipvs::cmd::GET_DAEMON, Vec::new())?;
        answers
            .iter()
            .map(|answer| read_daemon(&Attrs::of(answer)))
            .collect()
    }

    /// Removes every service.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.tell(ipvs::cmd::FLUSH, Vec::new())
    }

    /// Zeroes the counters of one service and its destinations, or of everything.
    pub fn zero(&mut self, id: Option<&ServiceId>) -> Result<(), Error> {
        let attrs = id.map(|id| service_nest(ipvs::attr::SERVICE, id));
        self.tell(ipvs::cmd::ZERO, attrs.into_iter().collect())
    }

    pub fn change_service(&mut self, change: Change, service: &Service) -> Result<(), Error> {
        let command = match change {
            Change::Add => ipvs::cmd::NEW_SERVICE,
            Change::Edit => ipvs::cmd::SET_SERVICE,
            Change::Delete => ipvs::cmd::DEL_SERVICE,
        };
        self.tell(command, vec![full_service_nest(service)])
    }

    pub fn change_destination(
        &mut self,
        change: Change,
        id: &ServiceId,
        destination: &Destination,
    ) -> Result<(), Error> {
        let command = match change {
            Change::Add => ipvs::cmd::NEW_DEST,
            Change::Edit => ipvs::cmd::SET_DEST,
            Change::Delete => ipvs::cmd::DEL_DEST,
        };
        let attrs = vec![
            service_nest(ipvs::attr::SERVICE, id),
            destination_nest(destination),
            attr(ipvs::attr::RLVS, 1u32),
        ];
        self.tell(command, attrs)
    }

    /// Every service, in the kernel's order.
    pub fn services(&mut self) -> Result<Vec<Service>, Error> {
        let answers = self
            .socket
            .dump(self.ipvs, ipvs::cmd::GET_SERVICE, Vec::new())?;
        answers
            .iter()
            .map(|answer| read_service(&Attrs::of(answer)))
            .collect()
    }

    pub fn service(&mut self, id: &ServiceId) -> Result<Service, Error> {
        let attrs = vec![service_nest(ipvs::attr::SERVICE, id)];
        let answers = self
            .socket
            .request(self.ipvs, ipvs::cmd::GET_SERVICE, attrs)?;
        read_service(&first(&answers)?)
    }

    /// The destinations of a service, in the kernel's order; none if there is no such service.
    pub fn destinations(&mut self, id: &ServiceId) -> Result<Vec<Destination>, Error> {
        let attrs = vec![
            service_nest(ipvs::attr::SERVICE, id),
            attr(ipvs::attr::RLVS, 1u32),
        ];
        let answers = self.socket.dump(self.ipvs, ipvs::cmd::GET_DEST, attrs)?;
        answers
            .iter()
            .map(|answer| read_destination(&Attrs::of(answer), id.family()))
            .collect()
    }

    /// The local addresses of a service; none on mainline's module.
    pub fn local_addresses(&mut self, id: &ServiceId) -> Result<Vec<LocalAddress>, Error> {
        let Some(family) = self.rlvs else {
            return Ok(Vec::new());
        };
        let attrs = vec![service_nest(rlvs::attr::SERVICE, id)];
        let answers = self.socket.dump(family, rlvs::cmd::GET_LADDR, attrs)?;
        answers
            .iter()
            .map(|answer| read_local_address(&Attrs::of(answer)))
            .collect()
    }

    /// Adds a local address to a service, or deletes it; mainline's module does not know the command.
    pub fn change_local_address(
        &mut self,
        change: Change,
        id: &ServiceId,
        address: IpAddr,
    ) -> Result<(), Error> {
        let Some(family) = self.rlvs else {
            return Err(Error::Refused {
                errno: libc::EOPNOTSUPP,
                message: None,
            });
        };
        let command = match change {
            Change::Add | Change::Edit => rlvs::cmd::NEW_LADDR,
            Change::Delete => rlvs::cmd::DEL_LADDR,
        };
        let octets = match address {
            IpAddr::V4(address) => bytes(rlvs::laddr::ADDR, &address.octets()),
            IpAddr::V6(address) => bytes(rlvs::laddr::ADDR, &address.octets()),
        };
        let attrs = vec![
            service_nest(rlvs::attr::SERVICE, id),
            nest(rlvs::attr::LADDR, &[octets]),
        ];
        self.socket.request(family, command, attrs).map(drop)
    }

    /// Sends a command of family `IPVS` that is only acknowledged.
    fn tell(&mut self, command: u8, attrs: Vec<Attr>) -> Result<(), Error> {
        self.socket.request(self.ipvs, command, attrs).map(drop)
    }
}

/// Asks modprobe for rlvs. Quiet: the caller says what it means if it did not work.
fn load_module() -> bool {
    Command::new("/sbin/modprobe")
        .args(["-q", "--", "rlvs"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn first(answers: &[netlink::Message]) -> Result<Attrs<'_>, Error> {
    match answers {
        [answer, ..] => Ok(Attrs::of(answer)),
        [] => Err(Error::Broken(
            "netlink: the kernel gave no answer".to_owned(),
        )),
    }
}

fn family_number(family: Family) -> u16 {
    match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    }
}

/// Sixteen bytes, as every client sends; an IPv4 address lies in the first four.
fn padded(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

fn id_attrs(id: &ServiceId) -> Vec<Attr> {
    let family = attr(ipvs::svc::AF, family_number(id.family()));
    match *id {
        ServiceId::Address {
            protocol,
            address,
            port,
        } => vec![
            family,
            attr(ipvs::svc::PROTOCOL, protocol),
            bytes(ipvs::svc::ADDR, &padded(address)),
            attr(ipvs::svc::PORT, port.to_be()),
        ],
        ServiceId::Mark { mark, .. } => vec![family, attr(ipvs::svc::FWMARK, mark)],
    }
}

/// A service by what names it.
fn service_nest(kind: u16, id: &ServiceId) -> Attr {
    nest(kind, &id_attrs(id))
}

/// A service with all its settings.
fn full_service_nest(service: &Service) -> Attr {
    let mut attrs = id_attrs(&service.id);
    attrs.push(attr(ipvs::svc::SCHED_NAME, service.scheduler.as_str()));
    if !service.engine.is_empty() {
        attrs.push(attr(ipvs::svc::PE_NAME, service.engine.as_str()));
    }
    let mut flags = Vec::from(service.flags.to_ne_bytes());
    flags.extend(u32::MAX.to_ne_bytes());
    attrs.push(bytes(ipvs::svc::FLAGS, &flags));
    attrs.push(attr(ipvs::svc::TIMEOUT, service.timeout));
    attrs.push(attr(ipvs::svc::NETMASK, service.netmask));
    nest(ipvs::attr::SERVICE, &attrs)
}

fn destination_nest(destination: &Destination) -> Attr {
    let tunnel = destination.tunnel;
    nest(
        ipvs::attr::DEST,
        &[
            attr(
                ipvs::dest::ADDR_FAMILY,
                family_number(Family::of(destination.address)),
            ),
            bytes(ipvs::dest::ADDR, &padded(destination.address)),
            attr(ipvs::dest::PORT, destination.port.to_be()),
            attr(ipvs::dest::FWD_METHOD, destination.method),
            attr(ipvs::dest::WEIGHT, destination.weight),
            attr(ipvs::dest::TUN_TYPE, tunnel.kind as u8),
            attr(ipvs::dest::TUN_PORT, tunnel.port.to_be()),
            attr(ipvs::dest::TUN_FLAGS, tunnel.checksum as u16),
            attr(ipvs::dest::U_THRESH, destination.upper_threshold),
            attr(ipvs::dest::L_THRESH, destination.lower_threshold),
        ],
    )
}

fn daemon_nest(daemon: &Daemon) -> Attr {
    use ipvs::daemon::*;
    let mut attrs = vec![
        attr(STATE, daemon.state as u32),
        attr(MCAST_IFN, daemon.interface.as_str()),
        attr(SYNC_ID, u32::from(daemon.sync_id)),
    ];
    attrs.extend(daemon.max_length.map(|length| attr(SYNC_MAXLEN, length)));
    attrs.extend(daemon.port.map(|port| attr(MCAST_PORT, port)));
    attrs.extend(daemon.ttl.map(|ttl| attr(MCAST_TTL, ttl)));
    attrs.extend(daemon.group.map(|group| match group {
        IpAddr::V4(group) => bytes(MCAST_GROUP, &group.octets()),
        IpAddr::V6(group) => bytes(MCAST_GROUP6, &group.octets()),
    }));
    nest(ipvs::attr::DAEMON, &attrs)
}

fn read_daemon(message: &Attrs<'_>) -> Result<Daemon, Error> {
    use ipvs::daemon::*;
    let attrs = message.nest(ipvs::attr::DAEMON)?;
    let group = match (attrs.has(MCAST_GROUP), attrs.has(MCAST_GROUP6)) {
        (true, _) => Some(read_address(attrs.bytes(MCAST_GROUP)?, Family::V4)?),
        (_, true) => Some(read_address(attrs.bytes(MCAST_GROUP6)?, Family::V6)?),
        _ => None,
    };
    Ok(Daemon {
        state: match attrs.number::<u32>(STATE)? {
            1 => DaemonState::Master,
            2 => DaemonState::Backup,
            other => {
                return Err(Error::Broken(format!(
                    "netlink: a daemon in the unknown state {other}"
                )));
            }
        },
        interface: attrs.string(MCAST_IFN)?,
        sync_id: attrs.number::<u32>(SYNC_ID)? as u8,
        max_length: attrs.optional(SYNC_MAXLEN)?,
        group,
        port: attrs.optional(MCAST_PORT)?,
        ttl: attrs.optional(MCAST_TTL)?,
    })
}

fn read_family(number: u16) -> Result<Family, Error> {
    match number {
        AF_INET => Ok(Family::V4),
        AF_INET6 => Ok(Family::V6),
        other => Err(Error::Broken(format!(
            "netlink: address family {other} is unknown"
        ))),
    }
}

fn read_address(octets: &[u8], family: Family) -> Result<IpAddr, Error> {
    let address = match family {
        Family::V4 => octets
            .first_chunk::<4>()
            .map(|&octets| Ipv4Addr::from(octets).into()),
        Family::V6 => octets
            .first_chunk::<16>()
            .map(|&octets| Ipv6Addr::from(octets).into()),
    };
    address.ok_or_else(|| Error::Broken("netlink: an address is too short".to_owned()))
}

fn read_service(message: &Attrs<'_>) -> Result<Service, Error> {
    use ipvs::svc;
    let attrs = message.nest(ipvs::attr::SERVICE)?;
    let family = read_family(attrs.number(svc::AF)?)?;
    let id = if attrs.has(svc::FWMARK) {
        ServiceId::Mark {
            mark: attrs.number(svc::FWMARK)?,
            family,
        }
    } else {
        ServiceId::Address {
            protocol: attrs.number(svc::PROTOCOL)?,
            address: read_address(attrs.bytes(svc::ADDR)?, family)?,
            port: attrs.port(svc::PORT)?,
        }
    };
    let engine = match attrs.has(svc::PE_NAME) {
        true => attrs.string(svc::PE_NAME)?,
        false => String::new(),
    };
    Ok(Service {
        id,
        scheduler: attrs.string(svc::SCHED_NAME)?,
        flags: attrs.number(svc::FLAGS)?,
        timeout: attrs.number(svc::TIMEOUT)?,
        netmask: attrs.number(svc::NETMASK)?,
        engine,
        stats: read_stats(&attrs, svc::STATS64, svc::STATS)?,
    })
}

fn read_destination(message: &Attrs<'_>, service_family: Family) -> Result<Destination, Error> {
    use ipvs::dest;
    let attrs = message.nest(ipvs::attr::DEST)?;
    let family = match attrs.has(dest::ADDR_FAMILY) {
        true => read_family(attrs.number(dest::ADDR_FAMILY)?)?,
        false => service_family,
    };
    Ok(Destination {
        address: read_address(attrs.bytes(dest::ADDR)?, family)?,
        port: attrs.port(dest::PORT)?,
        method: attrs.number::<u32>(dest::FWD_METHOD)? & uapi::method::MASK,
        weight: attrs.number(dest::WEIGHT)?,
        upper_threshold: attrs.number(dest::U_THRESH)?,
        lower_threshold: attrs.number(dest::L_THRESH)?,
        active: attrs.number(dest::ACTIVE_CONNS)?,
        inactive: attrs.number(dest::INACT_CONNS)?,
        persistent: attrs.number(dest::PERSIST_CONNS)?,
        tunnel: read_tunnel(&attrs)?,
        stats: read_stats(&attrs, dest::STATS64, dest::STATS)?,
    })
}

fn read_tunnel(attrs: &Attrs<'_>) -> Result<Tunnel, Error> {
    use ipvs::dest;
    let unknown = || Error::Broken("netlink: a tunnel of an unknown type".to_owned());
    if !attrs.has(dest::TUN_TYPE) {
        return Ok(Tunnel::default());
    }
    Ok(Tunnel {
        kind: match attrs.number::<u8>(dest::TUN_TYPE)? {
            0 => TunnelKind::Ipip,
            1 => TunnelKind::Gue,
            2 => TunnelKind::Gre,
            _ => return Err(unknown()),
        },
        port: attrs.port(dest::TUN_PORT)?,
        checksum: match attrs.number::<u16>(dest::TUN_FLAGS)? {
            0 => TunnelChecksum::Without,
            1 => TunnelChecksum::With,
            2 => TunnelChecksum::Remote,
            _ => return Err(unknown()),
        },
    })
}

/// Reads the 64-bit statistics, or the old ones where a kernel has only those.
fn read_stats(attrs: &Attrs<'_>, wide: u16, narrow: u16) -> Result<Stats, Error> {
    use ipvs::stats;
    let (attrs, wide) = match attrs.has(wide) {
        true => (attrs.nest(wide)?, true),
        false => (attrs.nest(narrow)?, false),
    };
    let bytes = |kind| attrs.number::<u64>(kind);
    let count = |kind| match wide {
        true => attrs.number::<u64>(kind),
        false => attrs.number::<u32>(kind).map(u64::from),
    };
    Ok(Stats {
        conns: count(stats::CONNS)?,
        in_packets: count(stats::INPKTS)?,
        out_packets: count(stats::OUTPKTS)?,
        in_bytes: bytes(stats::INBYTES)?,
        out_bytes: bytes(stats::OUTBYTES)?,
        conns_rate: count(stats::CPS)?,
        in_packets_rate: count(stats::INPPS)?,
        out_packets_rate: count(stats::OUTPPS)?,
        in_bytes_rate: count(stats::INBPS)?,
        out_bytes_rate: count(stats::OUTBPS)?,
    })
}

fn read_local_address(message: &Attrs<'_>) -> Result<LocalAddress, Error> {
    use rlvs::laddr;
    let attrs = message.nest(rlvs::attr::LADDR)?;
    let octets = attrs.bytes(laddr::ADDR)?;
    let family = match octets.len() {
        4 => Family::V4,
        _ => Family::V6,
    };
    Ok(LocalAddress {
        address: read_address(octets, family)?,
        conns: attrs.number(laddr::CONNS)?,
        exhausted: attrs.number(laddr::EXHAUSTED)?,
    })
}
