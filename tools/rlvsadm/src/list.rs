// SPDX-License-Identifier: GPL-2.0

//! Listings of services as text, byte for byte as ipvsadm prints them.

use std::{
    io::{self, Write},
    net::Ipv4Addr,
};

use rlvs_core::uapi::{method, svc_flag};

use crate::{
    address::{self, Style},
    cli::{List, View},
    flags,
    model::{
        Daemon, Destination, Family, Info, LocalAddress, Service, ServiceId, Stats, TunnelChecksum,
        TunnelKind, SCTP, TCP, UDP,
    },
};

/// Widest name of an IPv4 service, and of an IPv4 destination.
const SERVICE_WIDTH: usize = 33;
const DESTINATION_WIDTH: usize = 28;

/// Prints the line that stands above a listing of all services.
pub fn banner(out: &mut impl Write, info: &Info) -> io::Result<()> {
    writeln!(
        out,
        "IP Virtual Server version {} (size={})",
        info.version(),
        info.table_size
    )
}

/// Prints the names of the columns.
pub fn title(out: &mut impl Write, view: View) -> io::Result<()> {
    const SERVICE: &str = "Prot LocalAddress:Port";
    const DESTINATION: &str = "  -> RemoteAddress:Port";
    match view {
        View::Plain => writeln!(
            out,
            "{SERVICE} Scheduler Flags\n{DESTINATION}           Forward Weight ActiveConn InActConn"
        ),
        View::Tunnels => writeln!(
            out,
            "{SERVICE} Scheduler Flags\n\
             {DESTINATION}           Forward TunnelInfo    Weight ActiveConn InActConn"
        ),
        View::Stats => writeln!(
            out,
            "{SERVICE:<33} {:>8} {:>8} {:>8} {:>8} {:>8}\n{DESTINATION}",
            "Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"
        ),
        View::Rates => writeln!(
            out,
            "{SERVICE:<33} {:>8} {:>8} {:>8} {:>8} {:>8}\n{DESTINATION}",
            "CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"
        ),
        View::Thresholds => writeln!(
            out,
            "{SERVICE:<33} {:<10} {:<10} {:<10} {:<10}\n{DESTINATION}",
            "Uthreshold", "Lthreshold", "ActiveConn", "InActConn"
        ),
        View::Persistence => writeln!(
            out,
            "{SERVICE:<33} {:<9} {:<11} {:<10} {:<10}\n{DESTINATION}",
            "Weight", "PersistConn", "ActiveConn", "InActConn"
        ),
    }
}

/// Prints a service.
pub fn service(out: &mut impl Write, service: &Service, list: &List) -> io::Result<()> {
    let name = service_name(&service.id, list.style);
    match list.view {
        View::Stats => {
            write!(out, "{name:<33}")?;
            numbers(out, counters(&service.stats), list.exact)
        }
        View::Rates => {
            write!(out, "{name:<33}")?;
            numbers(out, rates(&service.stats), list.exact)
        }
        _ => writeln!(out, "{name} {}{}", service.scheduler, settings(service)),
    }
}

/// Prints a destination of a service.
pub fn destination(
    out: &mut impl Write,
    of: &ServiceId,
    entry: &Destination,
    list: &List,
) -> io::Result<()> {
    let mut name = address::short_endpoint(entry.address, entry.port, of.protocol(), list.style);
    if entry.address.is_ipv4() {
        address::truncate(&mut name, DESTINATION_WIDTH);
    }
    write!(out, "  -> {name:<28}")?;
    let (active, inactive) = (entry.active, entry.inactive);
    let forward = forward_name(entry.method);
    match list.view {
        View::Plain => writeln!(
            out,
            " {forward:<7} {:<6} {active:<10} {inactive:<10}",
            entry.weight
        ),
        View::Tunnels => writeln!(
            out,
            " {forward:<7} {:<13} {:<6} {active:<10} {inactive:<10}",
            tunnel_info(entry),
            entry.weight
        ),
        View::Stats => numbers(out, counters(&entry.stats), list.exact),
        View::Rates => {
            let [conns, in_packets, out_packets, in_bytes, out_bytes] = rates(&entry.stats);
            write!(out, " {conns:>8} {in_packets:>8} {out_packets:>8}")?;
            numbers(out, [in_bytes, out_bytes], list.exact)
        }
        View::Thresholds => writeln!(
            out,
            " {:<10} {:<10} {active:<10} {inactive:<10}",
            entry.upper_threshold, entry.lower_threshold
        ),
        View::Persistence => writeln!(
            out,
            " {:<9} {:<11} {active:<10} {inactive:<10}",
            entry.weight, entry.persistent
        ),
    }
}

/// Prints the names of the columns of a listing of local addresses.
pub fn local_title(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<33} {:>10} {:>10}\n  -> LocalAddress",
        "Prot VirtualAddress:Port", "Conns", "Exhausted"
    )
}

/// Prints a service and its local addresses.
pub fn local_addresses(
    out: &mut impl Write,
    id: &ServiceId,
    addresses: &[LocalAddress],
    style: Style,
) -> io::Result<()> {
    writeln!(out, "{}", service_name(id, style))?;
    for entry in addresses {
        let name = address::host(entry.address, style);
        writeln!(
            out,
            "  -> {name:<28} {:>10} {:>10}",
            entry.conns, entry.exhausted
        )?;
    }
    Ok(())
}

/// Prints a synchronisation daemon.
pub fn daemon(out: &mut impl Write, daemon: &Daemon) -> io::Result<()> {
    write!(
        out,
        "{} sync daemon (mcast={}, syncid={}",
        daemon.state.name(),
        daemon.interface,
        daemon.sync_id
    )?;
    let told = [
        ("maxlen", daemon.max_length.map(|length| length.to_string())),
        ("group", daemon.group.map(|group| group.to_string())),
        ("port", daemon.port.map(|port| port.to_string())),
        ("ttl", daemon.ttl.map(|ttl| ttl.to_string())),
    ];
    for (name, value) in told {
        if let Some(value) = value {
            write!(out, ", {name}={value}")?;
        }
    }
    writeln!(out, ")")
}

fn service_name(id: &ServiceId, style: Style) -> String {
    match *id {
        ServiceId::Mark {
            mark,
            family: Family::V4,
        } => format!("FWM  {mark}"),
        ServiceId::Mark {
            mark,
            family: Family::V6,
        } => format!("FWM  {mark} IPv6"),
        ServiceId::Address {
            protocol,
            address,
            port,
        } => {
            let name = address::short_endpoint(address, port, Some(protocol), style);
            let mut text = format!("{:<4} {name}", protocol_name(protocol));
            if address.is_ipv4() {
                address::truncate(&mut text, SERVICE_WIDTH);
            }
            text
        }
    }
}

fn protocol_name(protocol: u16) -> &'static str {
    match protocol {
        TCP => "TCP",
        UDP => "UDP",
        SCTP => "SCTP",
        _ => "???",
    }
}

/// What a service's line says after its scheduler.
fn settings(service: &Service) -> String {
    let mut text = String::new();
    if service.flags & flags::ALL != 0 {
        text += &format!(" ({})", flags::own_names(service.flags, &service.scheduler));
    }
    if service.flags & svc_flag::PERSISTENT != 0 {
        text += &format!(" persistent {}", service.timeout);
        if let Some(mask) = netmask(service) {
            text += &format!(" mask {mask}");
        }
        if !service.engine.is_empty() {
            text += &format!(" pe {}", service.engine);
        }
    }
    if service.flags & svc_flag::ONEPACKET != 0 {
        text += " ops";
    }
    text
}

/// The netmask of a service, unless it is the default.
pub fn netmask(service: &Service) -> Option<String> {
    let family = service.id.family();
    if service.netmask == family.host_netmask() {
        return None;
    }
    Some(match family {
        Family::V4 => Ipv4Addr::from(service.netmask.to_ne_bytes()).to_string(),
        Family::V6 => service.netmask.to_string(),
    })
}

/// The word for a forwarding method.
pub fn forward_name(forward: u32) -> &'static str {
    match forward {
        method::MASQ => "Masq",
        method::LOCALNODE => "Local",
        method::TUNNEL => "Tunnel",
        method::DROUTE => "Route",
        method::FULLNAT => "FullNat",
        method::BYPASS => "Bypass",
        _ => "?",
    }
}

fn tunnel_info(destination: &Destination) -> String {
    let tunnel = destination.tunnel;
    let checksum = match tunnel.checksum {
        TunnelChecksum::Without => "-c",
        TunnelChecksum::With => "+c",
        TunnelChecksum::Remote => "r+c",
    };
    match tunnel.kind {
        _ if destination.method != method::TUNNEL => "n/a".to_owned(),
        TunnelKind::Ipip => "ipip".to_owned(),
        TunnelKind::Gue => format!("gue:{}:{checksum}", tunnel.port),
        TunnelKind::Gre => format!("gre:{checksum}"),
    }
}

fn counters(stats: &Stats) -> [u64; 5] {
    [
        stats.conns,
        stats.in_packets,
        stats.out_packets,
        stats.in_bytes,
        stats.out_bytes,
    ]
}

fn rates(stats: &Stats) -> [u64; 5] {
    [
        stats.conns_rate,
        stats.in_packets_rate,
        stats.out_packets_rate,
        stats.in_bytes_rate,
        stats.out_bytes_rate,
    ]
}

fn numbers<const N: usize>(out: &mut impl Write, numbers: [u64; N], exact: bool) -> io::Result<()> {
    for number in numbers {
        write!(out, "{}", large(number, exact))?;
    }
    writeln!(out)
}

/// A number nine columns wide, abbreviated or, if exact, wider where it must be.
fn large(number: u64, exact: bool) -> String {
    match number {
        _ if exact => format!(" {number:>8}"),
        0..100_000_000 => format!("{number:>9}"),
        100_000_000..1_000_000_000 => format!("{:>8}K", number / 1_000),
        1_000_000_000..100_000_000_000 => format!("{:>8}M", number / 1_000_000),
        100_000_000_000..100_000_000_000_000 => format!("{:>8}G", number / 1_000_000_000),
        _ => format!("{:>8}T", number / 1_000_000_000_000),
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
