// SPDX-License-Identifier: GPL-2.0

//! The options of one command line, and what they mean together.

use std::net::IpAddr;

use clap::ArgMatches;
use rlvs_core::uapi::{method, svc_flag, PE_NAME_MAX, SCHED_NAME_MAX};

use crate::{
    address::{self, Style},
    cli::{Action, ConnectionList, List, View},
    definition::{IPV6, SERVICE, SETTINGS},
    error::Failure,
    flags,
    kernel::Change,
    model::{
        Daemon, DaemonState, Destination, Family, Service, ServiceId, Stats, Timeouts, Tunnel,
        TunnelChecksum, TunnelKind, SCTP, TCP, UDP,
    },
};

/// The scheduler of a service that names none.
const DEFAULT_SCHEDULER: &str = "wlc";
/// The longest timeout that can be set, in seconds.
const TIMEOUT_MAX: u32 = 31 * 24 * 60 * 60;
/// The network device of a synchronisation daemon that names none.
const DEFAULT_INTERFACE: &str = "eth0";
/// The longest name of a network device.
const INTERFACE_MAX: usize = 15;
/// The longest synchronisation message: what a UDP packet holds.
const SYNC_MAX: u16 = 65535 - 20 - 8;
const MISPLACED_IPV6: &str =
    "-6 used before -f, or without it: it tells the family of a firewall mark, and an address \
     tells its family itself";

/// The options of one command line.
pub struct Options<'a>(pub &'a ArgMatches);

impl Options<'_> {
    /// The long names of the options that were given, the command's among them.
    pub fn given(&self) -> impl Iterator<Item = &str> {
        self.0.ids().map(clap::Id::as_str)
    }

    pub fn has(&self, name: &str) -> bool {
        self.given().any(|given| given == name)
    }

    /// The value of an option; nothing, too, if the command does not know the option.
    pub fn value(&self, name: &str) -> Option<&str> {
        let value = self.0.try_get_one::<String>(name);
        value.ok().flatten().map(String::as_str)
    }

    /// The first option of a set that was given.
    pub fn one_of(&self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|name| self.has(name))
    }

    /// What a command with these options is to do.
    pub fn action(&self, command: &str) -> Result<Action, Failure> {
        Ok(match command {
            "add-service" => Action::ChangeService(Change::Add, self.service()?),
            "edit-service" => Action::ChangeService(Change::Edit, self.service()?),
            "delete-service" => Action::ChangeService(Change::Delete, plain_service(self.id()?)),
            "add-server" => self.destination(Change::Add)?,
            "edit-server" => self.destination(Change::Edit)?,
            "delete-server" => self.destination(Change::Delete)?,
            "add-laddr" => self.local_addresses(Change::Add)?,
            "del-laddr" => self.local_addresses(Change::Delete)?,
            "get-laddr" => Action::ListLocalAddresses(self.list()?),
            "list" => self.listing()?,
            "clear" => Action::Clear,
            "zero" => Action::Zero(self.optional_id()?),
            "set" => self.timeouts()?,
            "start-daemon" => Action::StartDaemon(self.daemon(command)?),
            "stop-daemon" => Action::StopDaemon(self.daemon(command)?),
            _ => Action::Save(self.style()),
        })
    }

    fn id(&self) -> Result<ServiceId, Failure> {
        let by_address = [
            ("tcp-service", TCP),
            ("udp-service", UDP),
            ("sctp-service", SCTP),
        ];
        for (name, protocol) in by_address {
            let Some(text) = self.value(name) else {
                continue;
            };
            if self.has(IPV6) {
                return Err(Failure::usage(MISPLACED_IPV6));
            }
            let (address, port) = address::parse_endpoint(text, protocol)
                .map_err(|why| illegal("virtual server address[:port]", text, &why))?;
            return Ok(ServiceId::Address {
                protocol,
                address,
                port: port.unwrap_or(0),
            });
        }
        let text = self.value("fwmark-service").unwrap_or_default();
        let mark = text.parse().ok().filter(|&mark| mark > 0).ok_or_else(|| {
            Failure::usage(format!(
                "invalid fwmark value `{text}' specified: not a number from 1 to {}",
                u32::MAX
            ))
        })?;
        let family = match self.has(IPV6) {
            true => Family::V6,
            false => Family::V4,
        };
        Ok(ServiceId::Mark { mark, family })
    }

    /// Whether options of this kind were given.
    fn has_kind(&self, kind: &str) -> bool {
        SETTINGS
            .iter()
            .any(|setting| setting.kind == kind && self.has(setting.name))
    }

    fn optional_id(&self) -> Result<Option<ServiceId>, Failure> {
        if self.has_kind(SERVICE) {
            return self.id().map(Some);
        }
        match self.has(IPV6) {
            true => Err(Failure::usage(MISPLACED_IPV6)),
            false => Ok(None),
        }
    }

    fn service(&self) -> Result<Service, Failure> {
        let mut service = plain_service(self.id()?);
        if let Some(name) = self.value("scheduler") {
            service.scheduler = checked_name("scheduler", name, SCHED_NAME_MAX)?;
        }
        if let Some(name) = self.value("pe") {
            service.engine = checked_name("persistence engine", name, PE_NAME_MAX)?;
        }
        if let Some(text) = self.value("persistent") {
            service.flags |= svc_flag::PERSISTENT;
            service.timeout = timeout(text, 1)?;
        }
        if let Some(text) = self.value("netmask") {
            service.netmask = netmask(text, service.id.family())?;
        }
        if let Some(text) = self.value("sched-flags") {
            service.flags |= flags::parse(text, &service.scheduler).map_err(Failure::usage)?;
        }
        if self.has("ops") {
            service.flags |= svc_flag::ONEPACKET;
        }
        let persistent = service.flags & svc_flag::PERSISTENT != 0;
        if let ServiceId::Address { protocol, port, .. } = service.id {
            if port == 0 && !persistent {
                return Err(Failure::usage(
                    "Zero port specified for non-persistent service: \
                     give a port, or -p for every port",
                ));
            }
            if self.has("ops") && protocol != UDP {
                return Err(Failure::usage(
                    "One-Packet Scheduling is only for UDP virtual services",
                ));
            }
        }
        Ok(service)
    }

    fn destination(&self, change: Change) -> Result<Action, Failure> {
        let id = self.id()?;
        let text = self.value("real-server").unwrap_or_default();
        // A mark has no protocol; ipvsadm looks for the names of ports under TCP then.
        let (address, port) = address::parse_endpoint(text, id.protocol().unwrap_or(TCP))
            .map_err(|why| illegal("real server address[:port]", text, &why))?;
        let method = match self.one_of(&["ipip", "masquerading", "fullnat"]) {
            Some("ipip") => method::TUNNEL,
            Some("masquerading") => method::MASQ,
            Some(_) => method::FULLNAT,
            None => method::DROUTE,
        };
        let translates = method == method::MASQ || method == method::FULLNAT;
        // A packet that is passed on as it is arrives at the port that the client asked for.
        let service_port = match id {
            ServiceId::Address { port, .. } => port,
            ServiceId::Mark { .. } => 0,
        };
        let unused = port
            .filter(|&port| change != Change::Delete && !translates && port != service_port)
            .filter(|&port| port != 0);
        let port = match id {
            // These send to the service's own port, whatever the real server's is said to be.
            ServiceId::Address { port, .. } if change != Change::Delete && !translates => port,
            ServiceId::Address { port: default, .. } => port.unwrap_or(default),
            ServiceId::Mark { .. } => port.unwrap_or(0),
        };
        if change != Change::Delete
            && method != method::TUNNEL
            && Family::of(address) != id.family()
        {
            return Err(Failure::usage(
                "Different address family is allowed only for tunneling servers: -i",
            ));
        }
        let limit = |name, what, default| match self.value(name) {
            Some(text) => number(what, text, 0, i32::MAX as u32),
            None => Ok(default),
        };
        let destination = Destination {
            address,
            port,
            method,
            weight: limit("weight", "weight", 1)?,
            upper_threshold: limit("u-threshold", "u_threshold", 0)?,
            lower_threshold: limit("l-threshold", "l_threshold", 0)?,
            active: 0,
            inactive: 0,
            persistent: 0,
            tunnel: self.tunnel(method)?,
            stats: Stats::default(),
        };
        Ok(Action::ChangeDestination(change, id, destination, unused))
    }

    fn tunnel(&self, method: u32) -> Result<Tunnel, Failure> {
        let names = [
            "tun-type",
            "tun-port",
            "tun-nocsum",
            "tun-csum",
            "tun-remcsum",
        ];
        let given = self.one_of(&names);
        if let (Some(name), true) = (given, method != method::TUNNEL) {
            return Err(Failure::usage(format!(
                "Tunnel options conflict with forward method: --{name} goes with -i"
            )));
        }
        let told = self.value("tun-type").unwrap_or("ipip");
        let kind = match told {
            "ipip" => TunnelKind::Ipip,
            "gue" => TunnelKind::Gue,
            "gre" => TunnelKind::Gre,
            other => {
                return Err(illegal(
                    "tunnel type",
                    other,
                    "not one of ipip, gue and gre",
                ))
            }
        };
        let taken: &[&str] = match kind {
            TunnelKind::Ipip => &["tun-type"],
            TunnelKind::Gue => &names,
            TunnelKind::Gre => &["tun-type", "tun-nocsum", "tun-csum"],
        };
        if kind == TunnelKind::Gue && !self.has("tun-port") {
            return Err(Failure::usage(
                "You need to supply the 'tun-port' option for the 'gue' tunnel type: \
                 --tun-port PORT",
            ));
        }
        if let Some(name) = names
            .iter()
            .find(|name| self.has(name) && !taken.contains(name))
        {
            return Err(Failure::usage(format!(
                "Illegal '{name}' option with the '{told}' tunnel type"
            )));
        }
        let mut checksums = names[2..].iter().filter(|name| self.has(name));
        let checksum = checksums.next();
        if let (Some(one), Some(other)) = (checksum, checksums.next()) {
            return Err(Failure::usage(format!(
                "The option '{other}' conflicts with the '{one}' option in the '{told}' tunnel type"
            )));
        }
        Ok(Tunnel {
            kind,
            port: match self.value("tun-port") {
                Some(text) => number("tunnel port", text, 1, u16::MAX)?,
                None => 0,
            },
            checksum: match checksum {
                Some(&"tun-csum") => TunnelChecksum::With,
                Some(&"tun-remcsum") => TunnelChecksum::Remote,
                _ => TunnelChecksum::Without,
            },
        })
    }

    fn daemon(&self, command: &str) -> Result<Daemon, Failure> {
        let state = match (self.value(command), command) {
            (Some("master"), _) => DaemonState::Master,
            (Some("backup"), _) => DaemonState::Backup,
            (other, _) => {
                // These are ipvsadm's words, as different as they are.
                let what = match command {
                    "start-daemon" => "start-daemon parameter",
                    _ => "start_daemon",
                };
                let other = other.unwrap_or_default();
                return Err(illegal(what, other, "not one of master and backup"));
            }
        };
        let interface = self.value("mcast-interface").unwrap_or(DEFAULT_INTERFACE);
        if interface.is_empty() || interface.len() > INTERFACE_MAX {
            let why = format!("a name has 1 to {INTERFACE_MAX} characters");
            return Err(illegal("mcast-interface", interface, &why));
        }
        Ok(Daemon {
            state,
            interface: interface.to_owned(),
            sync_id: match self.value("syncid") {
                Some(text) => number("syncid", text, 0, u8::MAX)?,
                None => 0,
            },
            max_length: self.optional_number("sync-maxlen", 1, SYNC_MAX)?,
            group: self.value("mcast-group").map(multicast_group).transpose()?,
            port: self.optional_number("mcast-port", 1, u16::MAX)?,
            ttl: self.optional_number("mcast-ttl", 1, u8::MAX)?,
        })
    }

    fn optional_number<N: Number>(&self, name: &str, min: N, max: N) -> Result<Option<N>, Failure> {
        self.value(name)
            .map(|text| number(name, text, min, max))
            .transpose()
    }

    fn local_addresses(&self, change: Change) -> Result<Action, Failure> {
        let id = self.id()?;
        let text = self.value("local-address").unwrap_or_default();
        let wrong = |why: &str| Failure::usage(format!("local address `{text}': {why}"));
        let addresses = address::parse_local_addresses(text).map_err(|why| wrong(&why))?;
        if addresses
            .iter()
            .any(|&address| Family::of(address) != id.family())
        {
            return Err(wrong("not of the address family of the service"));
        }
        Ok(Action::ChangeLocalAddresses(change, id, addresses))
    }

    fn timeouts(&self) -> Result<Action, Failure> {
        let texts = self.0.get_many::<String>("set").into_iter().flatten();
        let texts: Vec<&str> = texts.map(String::as_str).collect();
        match texts.as_slice() {
            &[tcp, tcp_fin, udp] => Ok(Action::SetTimeouts(Timeouts {
                tcp: timeout(tcp, 0)?,
                tcp_fin: timeout(tcp_fin, 0)?,
                udp: timeout(udp, 0)?,
            })),
            [_, _, _, other, ..] => Err(Failure::usage(format!("unexpected argument {other}"))),
            _ => Err(Failure::usage(
                "--set option requires 3 timeout values: TCP TCPFIN UDP, in seconds",
            )),
        }
    }

    fn style(&self) -> Style {
        match self.has("numeric") {
            true => Style::Numeric,
            false => Style::Names,
        }
    }

    /// How services are to be listed.
    pub fn list(&self) -> Result<List, Failure> {
        // Of several, ipvsadm shows the first of this order.
        let views = ["stats", "rate", "thresholds", "persistent-conn", "tun-info"];
        let view = match self.one_of(&views) {
            Some("stats") => View::Stats,
            Some("rate") => View::Rates,
            Some("thresholds") => View::Thresholds,
            Some("persistent-conn") => View::Persistence,
            Some("tun-info") => View::Tunnels,
            _ => View::Plain,
        };
        Ok(List {
            service: self.optional_id()?,
            view,
            style: self.style(),
            exact: self.has("exact"),
            sorted: !self.has("nosort"),
            json: self.has("json"),
        })
    }

    fn listing(&self) -> Result<Action, Failure> {
        let mut instead = ["connection", SERVICE, "timeout", "daemon"]
            .into_iter()
            .filter(|kind| self.has_kind(kind));
        let what = instead.next();
        if let (Some(one), Some(other)) = (what, instead.next()) {
            return Err(Failure::usage(format!(
                "The option '{other}' conflicts with the '{one}' option in the 'list' command"
            )));
        }
        let conflicts: &[&str] = match what {
            Some("connection") => &["stats", "rate", "thresholds"],
            Some("timeout" | "daemon") => &["stats", "rate", "thresholds", "persistent-conn"],
            _ => &[],
        };
        if let (Some(one), Some(other)) = (what, self.one_of(conflicts)) {
            return Err(Failure::usage(format!(
                "options conflicts in the list command: --{one} and --{other}"
            )));
        }
        let json = self.has("json");
        let list = self.list()?;
        Ok(match what {
            Some("connection") => Action::ListConnections(ConnectionList {
                style: list.style,
                engines: self.has("persistent-conn"),
                json,
            }),
            Some("timeout") => Action::ListTimeouts { json },
            Some("daemon") => Action::ListDaemons { json },
            _ => Action::List(list),
        })
    }
}

/// A service without settings.
fn plain_service(id: ServiceId) -> Service {
    let netmask = id.family().host_netmask();
    Service {
        id,
        scheduler: DEFAULT_SCHEDULER.to_owned(),
        flags: 0,
        timeout: 0,
        netmask,
        engine: String::new(),
        stats: Stats::default(),
    }
}

/// The failure for a value that makes no sense.
fn illegal(what: &str, text: &str, why: &str) -> Failure {
    Failure::usage(format!("illegal {what} specified: `{text}': {why}"))
}

/// What is read by [`number`].
trait Number: std::str::FromStr + PartialOrd + std::fmt::Display {}

impl<N: std::str::FromStr + PartialOrd + std::fmt::Display> Number for N {}

fn number<N: Number>(what: &str, text: &str, min: N, max: N) -> Result<N, Failure> {
    let parsed = text.parse().ok();
    parsed
        .filter(|number| (&min..=&max).contains(&number))
        .ok_or_else(|| illegal(what, text, &format!("not a number from {min} to {max}")))
}

/// Reads a timeout in seconds.
fn timeout(text: &str, min: u32) -> Result<u32, Failure> {
    number("timeout", text, min, TIMEOUT_MAX).map_err(|_| {
        Failure::usage(format!(
            "invalid timeout value `{text}' specified: not a number from {min} to {TIMEOUT_MAX}"
        ))
    })
}

fn checked_name(what: &str, name: &str, max: usize) -> Result<String, Failure> {
    match name.len() {
        0 => Err(Failure::usage(format!("{what}: the name is empty"))),
        length if length > max => Err(Failure::usage(format!(
            "{what} `{name}': the name is longer than {max} characters"
        ))),
        _ => Ok(name.to_owned()),
    }
}

fn netmask(text: &str, family: Family) -> Result<u32, Failure> {
    match family {
        Family::V4 => address::parse_netmask(text)
            .map(|mask| u32::from_ne_bytes(mask.octets()))
            .map_err(|why: String| illegal("virtual server persistent mask", text, &why)),
        Family::V6 => number("ipv6 netmask", text, 1, 128),
    }
}

fn multicast_group(text: &str) -> Result<IpAddr, Failure> {
    let (version, parsed) = match text.contains(':') {
        true => (6, text.parse().ok().map(IpAddr::V6)),
        false => (4, text.parse().ok().map(IpAddr::V4)),
    };
    parsed.filter(IpAddr::is_multicast).ok_or_else(|| {
        Failure::usage(format!(
            "invalid IPv{version} mcast-group `{text}': not a multicast address"
        ))
    })
}
