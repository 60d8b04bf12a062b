// SPDX-License-Identifier: GPL-2.0

//! Listings as JSON. Programs rely on these names: what is here stays, and more may come.
//!
//! Numbers are numbers and never abbreviated; times are seconds, rates are per second; what does
//! not apply is left out. `docs/json.md` describes all of it to users, by the examples that the tests
//! make.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr},
};

use rlvs_core::uapi::{method, svc_flag};
use serde::Serialize;

use crate::{
    conns::Connection,
    flags,
    model::{
        self, Daemon, Destination, Family, Info, LocalAddress, Service, ServiceId, Timeouts,
        TunnelChecksum, TunnelKind, SCTP, TCP, UDP,
    },
};

#[derive(Serialize)]
struct ServicesView {
    version: String,
    connection_table_size: u32,
    services: Vec<ServiceView>,
}

#[derive(Serialize)]
struct ServiceView {
    #[serde(flatten)]
    id: IdView,
    scheduler: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduler_flags: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    persistence: Option<PersistenceView>,
    one_packet: bool,
    stats: Counters,
    rates: Counters,
    destinations: Vec<DestinationView>,
}

#[derive(Serialize)]
struct IdView {
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    firewall_mark: Option<u32>,
    family: &'static str,
}

#[derive(Serialize)]
struct PersistenceView {
    timeout: u32,
    netmask: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<String>,
}

#[derive(Serialize)]
struct DestinationView {
    address: IpAddr,
    port: u16,
    forward: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<TunnelView>,
    weight: u32,
    upper_threshold: u32,
    lower_threshold: u32,
    active_connections: u32,
    inactive_connections: u32,
    persistent_connections: u32,
    stats: Counters,
    rates: Counters,
}

#[derive(Serialize)]
struct TunnelView {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    checksum: &'static str,
}

#[derive(Serialize)]
struct Counters {
    connections: u64,
    in_packets: u64,
    out_packets: u64,
    in_bytes: u64,
    out_bytes: u64,
}

#[derive(Serialize)]
struct ConnectionsView<'a> {
    connections: Vec<ConnectionView<'a>>,
}

#[derive(Serialize)]
struct ConnectionView<'a> {
    protocol: String,
    state: &'a str,
    expires: u32,
    client: EndpointView,
    r#virtual: EndpointView,
    destination: EndpointView,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<EngineView<'a>>,
}

#[derive(Serialize)]
struct EndpointView {
    address: IpAddr,
    port: u16,
}

#[derive(Serialize)]
struct EngineView<'a> {
    name: &'a str,
    data: &'a str,
}

#[derive(Serialize)]
struct TimeoutsView {
    tcp: u32,
    tcp_fin: u32,
    udp: u32,
}

#[derive(Serialize)]
struct DaemonsView<'a> {
    daemons: Vec<DaemonView<'a>>,
}

#[derive(Serialize)]
struct DaemonView<'a> {
    state: &'static str,
    interface: &'a str,
    sync_id: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_length: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u8>,
}

#[derive(Serialize)]
struct LocalAddressesView {
    services: Vec<LocalServiceView>,
}

#[derive(Serialize)]
struct LocalServiceView {
    #[serde(flatten)]
    id: IdView,
    local_addresses: Vec<LocalAddressView>,
}

#[derive(Serialize)]
struct LocalAddressView {
    address: IpAddr,
    connections: u32,
    exhausted: u64,
}

/// Prints services with their destinations.
pub fn services(
    out: &mut impl Write,
    info: &Info,
    services: Vec<(Service, Vec<Destination>)>,
) -> io::Result<()> {
    let services = services
        .into_iter()
        .map(|(service, destinations)| service_view(service, &destinations));
    let view = ServicesView {
        version: info.version(),
        connection_table_size: info.table_size,
        services: services.collect(),
    };
    print(out, &view)
}

/// Prints connections.
pub fn connections(out: &mut impl Write, connections: &[Connection]) -> io::Result<()> {
    let endpoint = |(address, port)| EndpointView { address, port };
    let connections = connections.iter().map(|connection| ConnectionView {
        protocol: connection.protocol.to_ascii_lowercase(),
        state: &connection.state,
        expires: connection.expires,
        client: endpoint(connection.client),
        r#virtual: endpoint(connection.virtual_service),
        destination: endpoint(connection.destination),
        engine: connection
            .engine
            .as_ref()
            .map(|(name, data)| EngineView { name, data }),
    });
    let view = ConnectionsView {
        connections: connections.collect(),
    };
    print(out, &view)
}

/// Prints the timeouts.
pub fn timeouts(out: &mut impl Write, timeouts: Timeouts) -> io::Result<()> {
    let Timeouts { tcp, tcp_fin, udp } = timeouts;
    print(out, &TimeoutsView { tcp, tcp_fin, udp })
}

/// Prints the synchronisation daemons.
pub fn daemons(out: &mut impl Write, daemons: &[Daemon]) -> io::Result<()> {
    let daemons = daemons.iter().map(|daemon| DaemonView {
        state: daemon.state.name(),
        interface: &daemon.interface,
        sync_id: daemon.sync_id,
        max_length: daemon.max_length,
        group: daemon.group,
        port: daemon.port,
        ttl: daemon.ttl,
    });
    let view = DaemonsView {
        daemons: daemons.collect(),
    };
    print(out, &view)
}

/// Prints services with their local addresses.
pub fn local_addresses(
    out: &mut impl Write,
    services: Vec<(ServiceId, Vec<LocalAddress>)>,
) -> io::Result<()> {
    let services = services
        .into_iter()
        .map(|(id, addresses)| LocalServiceView {
            id: id_view(&id),
            local_addresses: addresses
                .into_iter()
                .map(|entry| LocalAddressView {
                    address: entry.address,
                    connections: entry.conns,
                    exhausted: entry.exhausted,
                })
                .collect(),
        });
    let view = LocalAddressesView {
        services: services.collect(),
    };
    print(out, &view)
}

fn print(out: &mut impl Write, view: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, view)?;
    writeln!(out)
}

fn service_view(service: Service, destinations: &[Destination]) -> ServiceView {
    let persistent = service.flags & svc_flag::PERSISTENT != 0;
    ServiceView {
        id: id_view(&service.id),
        scheduler_flags: flags::names(service.flags, &service.scheduler),
        persistence: persistent.then(|| PersistenceView {
            timeout: service.timeout,
            netmask: match service.id.family() {
                Family::V4 => Ipv4Addr::from(service.netmask.to_ne_bytes()).to_string(),
                Family::V6 => service.netmask.to_string(),
            },
            engine: Some(service.engine).filter(|name| !name.is_empty()),
        }),
        one_packet: service.flags & svc_flag::ONEPACKET != 0,
        stats: counters(&service.stats),
        rates: rates(&service.stats),
        destinations: destinations.iter().map(destination_view).collect(),
        scheduler: service.scheduler,
    }
}

fn id_view(id: &ServiceId) -> IdView {
    let family = match id.family() {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    match *id {
        ServiceId::Address {
            protocol,
            address,
            port,
        } => IdView {
            protocol: Some(match protocol {
                TCP => "tcp",
                UDP => "udp",
                SCTP => "sctp",
                _ => "unknown",
            }),
            address: Some(address),
            port: Some(port),
            firewall_mark: None,
            family,
        },
        ServiceId::Mark { mark, .. } => IdView {
            protocol: None,
            address: None,
            port: None,
            firewall_mark: Some(mark),
            family,
        },
    }
}

fn destination_view(destination: &Destination) -> DestinationView {
    let tunnel = destination.tunnel;
    let is_tunnel = destination.method == method::TUNNEL;
    DestinationView {
        address: destination.address,
        port: destination.port,
        forward: match destination.method {
            method::MASQ => "masquerading",
            method::LOCALNODE => "local",
            method::TUNNEL => "tunnel",
            method::DROUTE => "gatewaying",
            method::FULLNAT => "fullnat",
            method::BYPASS => "bypass",
            _ => "unknown",
        },
        tunnel: is_tunnel.then(|| TunnelView {
            r#type: match tunnel.kind {
                TunnelKind::Ipip => "ipip",
                TunnelKind::Gue => "gue",
                TunnelKind::Gre => "gre",
            },
            port: (tunnel.kind == TunnelKind::Gue).then_some(tunnel.port),
            checksum: match tunnel.checksum {
                TunnelChecksum::Without => "none",
                TunnelChecksum::With => "full",
                TunnelChecksum::Remote => "remote",
            },
        }),
        weight: destination.weight,
        upper_threshold: destination.upper_threshold,
        lower_threshold: destination.lower_threshold,
        active_connections: destination.active,
        inactive_connections: destination.inactive,
        persistent_connections: destination.persistent,
        stats: counters(&destination.stats),
        rates: rates(&destination.stats),
    }
}

fn counters(stats: &model::Stats) -> Counters {
    Counters {
        connections: stats.conns,
        in_packets: stats.in_packets,
        out_packets: stats.out_packets,
        in_bytes: stats.in_bytes,
        out_bytes: stats.out_bytes,
    }
}

fn rates(stats: &model::Stats) -> Counters {
    Counters {
        connections: stats.conns_rate,
        in_packets: stats.in_packets_rate,
        out_packets: stats.out_packets_rate,
        in_bytes: stats.in_bytes_rate,
        out_bytes: stats.out_bytes_rate,
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
