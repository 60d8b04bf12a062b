// SPDX-License-Identifier: GPL-2.0

//! The tables as command lines that `--restore` reads.

use std::io::{self, Write};

use rlvs_core::uapi::{method, svc_flag};

use crate::{
    address::{self, Style},
    flags, list,
    model::{
        Destination, Family, LocalAddress, Service, ServiceId, Tunnel, TunnelChecksum, TunnelKind,
        SCTP, TCP, UDP,
    },
};

/// Prints a service, its local addresses and its destinations, in the order in which they can be added.
pub fn service(
    out: &mut impl Write,
    service: &Service,
    local_addresses: &[LocalAddress],
    destinations: &[Destination],
    style: Style,
) -> io::Result<()> {
    let id = id_options(&service.id, style);
    writeln!(out, "-A {id} -s {}{}", service.scheduler, settings(service))?;
    for local in local_addresses {
        writeln!(out, "-P {id} -z {}", local.address)?;
    }
    for destination in destinations {
        let server = address::endpoint(
            destination.address,
            destination.port,
            service.id.protocol(),
            style,
        );
        let options = destination_options(destination);
        writeln!(out, "-a {id} -r {server} {options}")?;
    }
    Ok(())
}

fn id_options(id: &ServiceId, style: Style) -> String {
    match *id {
        ServiceId::Mark {
            mark,
            family: Family::V4,
        } => format!("-f {mark}"),
        ServiceId::Mark {
            mark,
            family: Family::V6,
        } => format!("-f {mark} -6"),
        ServiceId::Address {
            protocol,
            address,
            port,
        } => {
            let option = match protocol {
                TCP => "-t",
                UDP => "-u",
                SCTP => "--sctp-service",
                _ => "--xxx-service",
            };
            format!(
                "{option} {}",
                address::endpoint(address, port, Some(protocol), style)
            )
        }
    }
}

fn settings(service: &Service) -> String {
    let mut text = String::new();
    if service.flags & svc_flag::PERSISTENT != 0 {
        text += &format!(" -p {}", service.timeout);
        if let Some(mask) = list::netmask(service) {
            text += &format!(" -M {mask}");
        }
    }
    if !service.engine.is_empty() {
        text += &format!(" --pe {}", service.engine);
    }
    if service.flags & svc_flag::ONEPACKET != 0 {
        text += " -o";
    }
    if let Some(names) = flags::names(service.flags, &service.scheduler) {
        text += &format!(" -b {names}");
    }
    text
}

fn destination_options(destination: &Destination) -> String {
    let method = match destination.method {
        method::TUNNEL => "-i",
        method::MASQ => "-m",
        method::FULLNAT => "--fullnat",
        // A local real server is found to be one by the kernel, each time it is added.
        _ => "-g",
    };
    let mut text = format!("{method} -w {}", destination.weight);
    if destination.method == method::TUNNEL {
        text += &tunnel_options(destination.tunnel);
    }
    if destination.upper_threshold != 0 {
        text += &format!(" -x {}", destination.upper_threshold);
    }
    if destination.lower_threshold != 0 {
        text += &format!(" -y {}", destination.lower_threshold);
    }
    text
}

fn tunnel_options(tunnel: Tunnel) -> String {
    let checksum = match tunnel.checksum {
        TunnelChecksum::Without => "--tun-nocsum",
        TunnelChecksum::With => "--tun-csum",
        TunnelChecksum::Remote => "--tun-remcsum",
    };
    match tunnel.kind {
        TunnelKind::Ipip => " --tun-type ipip".to_owned(),
        TunnelKind::Gue => format!(" --tun-type gue --tun-port {} {checksum}", tunnel.port),
        TunnelKind::Gre => format!(" --tun-type gre {checksum}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::{Action, Parser, Request},
        kernel::Change,
        model::Stats,
        testdata,
    };

    fn saved(
        service: &Service,
        locals: &[LocalAddress],
        destinations: &[Destination],
    ) -> Vec<String> {
        let mut out = Vec::new();
        super::service(&mut out, service, locals, destinations, Style::Numeric).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn replayed(line: &str) -> Action {
        match Parser::new().parse(line.split_whitespace()).unwrap() {
            Request::Tables(action) => action,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_service_comes_back_as_it_was() {
        let ids = [
            testdata::tcp("10.0.0.1", 80),
            testdata::tcp("2001:db8::1", 0),
            ServiceId::Address {
                protocol: SCTP,
                address: "10.0.0.1".parse().unwrap(),
                port: 9,
            },
            ServiceId::Mark {
                mark: u32::MAX,
                family: Family::V4,
            },
            ServiceId::Mark {
                mark: 7,
                family: Family::V6,
            },
        ];
        for id in ids {
            let mut service = testdata::service(id);
            service.scheduler = "sh".to_owned();
            service.engine = "sip".to_owned();
            service.timeout = 99;
            service.netmask = match service.id.family() {
                Family::V4 => u32::from_ne_bytes([255, 255, 255, 0]),
                Family::V6 => 64,
            };
            service.flags =
                svc_flag::PERSISTENT | svc_flag::SCHED1 | svc_flag::SCHED2 | svc_flag::SCHED3;
            let lines = saved(&service, &[], &[]);
            assert_eq!(
                replayed(&lines[0]),
                Action::ChangeService(Change::Add, service)
            );
        }
    }

    #[test]
    fn one_packet_services_come_back() {
        let mut service = testdata::service(ServiceId::Address {
            protocol: UDP,
            address: "10.0.0.1".parse().unwrap(),
            port: 53,
        });
        service.flags = svc_flag::ONEPACKET;
        let lines = saved(&service, &[], &[]);
        assert_eq!(
            replayed(&lines[0]),
            Action::ChangeService(Change::Add, service)
        );
    }

    #[test]
    fn destinations_come_back_with_method_and_thresholds() {
        let service = testdata::service(testdata::tcp("10.0.0.1", 80));
        for forward in [method::MASQ, method::FULLNAT] {
            let destination = Destination {
                method: forward,
                port: 8080,
                weight: 0,
                upper_threshold: 100,
                lower_threshold: 50,
                ..testdata::destination("10.1.0.1")
            };
            let lines = saved(&service, &[], std::slice::from_ref(&destination));
            let expected =
                Action::ChangeDestination(Change::Add, service.id.clone(), destination, None);
            assert_eq!(replayed(&lines[1]), expected);
        }
    }

    #[test]
    fn tunnels_come_back() {
        let service = testdata::service(testdata::tcp("10.0.0.1", 80));
        let tunnels = [
            Tunnel::default(),
            Tunnel {
                kind: TunnelKind::Gue,
                port: 6080,
                checksum: TunnelChecksum::Remote,
            },
            Tunnel {
                kind: TunnelKind::Gre,
                port: 0,
                checksum: TunnelChecksum::With,
            },
        ];
        for tunnel in tunnels {
            let destination = Destination {
                method: method::TUNNEL,
                tunnel,
                ..testdata::destination("2001:db8::5")
            };
            let lines = saved(&service, &[], std::slice::from_ref(&destination));
            let expected =
                Action::ChangeDestination(Change::Add, service.id.clone(), destination, None);
            assert_eq!(replayed(&lines[1]), expected);
        }
    }

    #[test]
    fn local_addresses_stand_between_service_and_destinations() {
        let service = testdata::service(testdata::tcp("10.0.0.1", 80));
        let local = LocalAddress {
            address: "10.2.0.1".parse().unwrap(),
            conns: 3,
            exhausted: 4,
        };
        let destination = Destination {
            method: method::FULLNAT,
            stats: Stats::default(),
            ..testdata::destination("10.1.0.1")
        };
        assert_eq!(
            saved(&service, &[local], &[destination]),
            [
                "-A -t 10.0.0.1:80 -s wlc",
                "-P -t 10.0.0.1:80 -z 10.2.0.1",
                "-a -t 10.0.0.1:80 -r 10.1.0.1:80 --fullnat -w 1",
            ]
        );
        let lines = saved(&service, &[local], &[]);
        let expected = Action::ChangeLocalAddresses(Change::Add, service.id, vec![local.address]);
        assert_eq!(replayed(&lines[1]), expected);
    }
}
