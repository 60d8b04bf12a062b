// SPDX-License-Identifier: GPL-2.0

//! The options of one command line, and what they mean together.

use std::net::Ipv4Addr;

use clap::ArgMatches;
use rlvs_core::uapi::{method, svc_flag, PE_NAME_MAX, SCHED_NAME_MAX};

use crate::{
    address::{self, Style},
    cli::{Action, ConnectionList, List, View, SERVICES, VIEWS},
    error::Failure,
    flags,
    kernel::Change,
    model::{
        Destination, Family, Service, ServiceId, Stats, Timeouts, Tunnel, TunnelChecksum,
        TunnelKind, SCTP, TCP, UDP,
    },
};

/// The scheduler of a service that names none.
const DEFAULT_SCHEDULER: &str = "wlc";
/// The longest timeout that can be set, in seconds.
const TIMEOUT_MAX: u32 = 31 * 24 * 60 * 60;

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

    /// The value of an option.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.get_one::<String>(name).map(String::as_str)
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
            if self.has("ipv6") {
                return Err(Failure::usage(
                    "-6 belongs to -f: an address tells its family itself",
                ));
            }
            let (address, port) = address::parse_endpoint(text, Some(protocol))
                .map_err(|why| Failure::usage(format!("virtual service `{text}': {why}")))?;
            return Ok(ServiceId::Address {
                protocol,
                address,
                port: port.unwrap_or(0),
            });
        }
        let text = self.value("fwmark-service").unwrap_or_default();
        let mark = text.parse().ok().filter(|&mark| mark > 0).ok_or_else(|| {
            Failure::usage(format!(
                "firewall mark `{text}': not a number from 1 to {}",
                u32::MAX
            ))
        })?;
        let family = match self.has("ipv6") {
            true => Family::V6,
            false => Family::V4,
        };
        Ok(ServiceId::Mark { mark, family })
    }

    fn optional_id(&self) -> Result<Option<ServiceId>, Failure> {
        if self.one_of(SERVICES).is_some() {
            return self.id().map(Some);
        }
        match self.has("ipv6") {
            true => Err(Failure::usage("-6 belongs to -f")),
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
            service.timeout = number("persistence timeout", text, 1, TIMEOUT_MAX)?;
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
                    "Zero port specified for non-persistent service: give a port, or -p for every port",
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
        let (address, port) = address::parse_endpoint(text, id.protocol())
            .map_err(|why| Failure::usage(format!("real server `{text}': {why}")))?;
        let method = match self.one_of(&["ipip", "masquerading", "fullnat"]) {
            Some("ipip") => method::TUNNEL,
            Some("masquerading") => method::MASQ,
            Some(_) => method::FULLNAT,
            None => method::DROUTE,
        };
        let translates = method == method::MASQ || method == method::FULLNAT;
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
                "Different address family is allowed only for tunneling servers (-i)",
            ));
        }
        let limit = |name, default| match self.value(name) {
            Some(text) => number(name, text, 0, i32::MAX as u32),
            None => Ok(default),
        };
        let destination = Destination {
            address,
            port,
            method,
            weight: limit("weight", 1)?,
            upper_threshold: limit("u-threshold", 0)?,
            lower_threshold: limit("l-threshold", 0)?,
            active: 0,
            inactive: 0,
            persistent: 0,
            tunnel: self.tunnel(method)?,
            stats: Stats::default(),
        };
        Ok(Action::ChangeDestination(change, id, destination))
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
                "--{name} is for tunneling servers (-i) only"
            )));
        }
        let kind = match self.value("tun-type") {
            None | Some("ipip") => TunnelKind::Ipip,
            Some("gue") => TunnelKind::Gue,
            Some("gre") => TunnelKind::Gre,
            Some(other) => {
                return Err(Failure::usage(format!(
                    "tunnel type `{other}': not one of ipip, gue and gre"
                )));
            }
        };
        let checksum = match self.one_of(&names[2..]) {
            Some("tun-csum") => TunnelChecksum::With,
            Some("tun-remcsum") => TunnelChecksum::Remote,
            _ => TunnelChecksum::Without,
        };
        let taken: &[&str] = match kind {
            TunnelKind::Ipip => &["tun-type"],
            TunnelKind::Gue => &names,
            TunnelKind::Gre => &["tun-type", "tun-nocsum", "tun-csum"],
        };
        if let Some(name) = names
            .iter()
            .find(|name| self.has(name) && !taken.contains(name))
        {
            let kind = self.value("tun-type").unwrap_or("ipip");
            return Err(Failure::usage(format!(
                "--{name} is not for tunnels of type {kind}"
            )));
        }
        let port = match self.value("tun-port") {
            Some(text) => number("tunnel port", text, 1, u16::MAX.into())? as u16,
            None if kind == TunnelKind::Gue => {
                return Err(Failure::usage("a tunnel of type gue needs --tun-port PORT"));
            }
            None => 0,
        };
        Ok(Tunnel {
            kind,
            port,
            checksum,
        })
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
        let values = texts
            .map(|text| number("timeout", text, 0, TIMEOUT_MAX))
            .collect::<Result<Vec<u32>, Failure>>()?;
        let &[tcp, tcp_fin, udp] = values.as_slice() else {
            return Err(Failure::usage(
                "--set needs three timeouts: tcp, tcpfin and udp",
            ));
        };
        Ok(Action::SetTimeouts(Timeouts { tcp, tcp_fin, udp }))
    }

    fn style(&self) -> Style {
        match self.has("numeric") {
            true => Style::Numeric,
            false => Style::Names,
        }
    }

    /// How services are to be listed.
    pub fn list(&self) -> Result<List, Failure> {
        let view = match self.one_of(VIEWS) {
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
        let json = self.has("json");
        let whole = self.one_of(&["connection", "timeout"]);
        let Some(whole) = whole else {
            return self.list().map(Action::List);
        };
        let conflicts = match whole {
            "connection" => ["timeout", "stats", "rate", "thresholds", "tun-info"],
            _ => ["stats", "rate", "thresholds", "tun-info", "persistent-conn"],
        };
        let other = self.one_of(&conflicts).or(self.one_of(SERVICES));
        if let Some(other) = other {
            return Err(Failure::usage(format!(
                "--{whole} and --{other} do not go together"
            )));
        }
        Ok(match whole {
            "connection" => Action::ListConnections(ConnectionList {
                style: self.style(),
                engines: self.has("persistent-conn"),
                json,
            }),
            _ => Action::ListTimeouts { json },
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

fn number(what: &str, text: &str, min: u32, max: u32) -> Result<u32, Failure> {
    let parsed = text.parse().ok();
    parsed
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| Failure::usage(format!("{what} `{text}': not a number from {min} to {max}")))
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
        Family::V4 => text
            .parse::<Ipv4Addr>()
            .map(|mask| u32::from_ne_bytes(mask.octets()))
            .map_err(|_| {
                Failure::usage(format!("netmask `{text}': not a mask like 255.255.255.0"))
            }),
        Family::V6 => number("netmask", text, 1, 128),
    }
}
