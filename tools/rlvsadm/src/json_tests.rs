// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::{
    model::{DaemonState, Stats, Tunnel},
    testdata,
};

/// What users are told about JSON.
const PAGE: &str = include_str!("../../../docs/json.md");

/// Asserts that the page shows this very text as an example.
fn documented(print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) {
    let mut out = Vec::new();
    print(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(
        PAGE.contains(&format!("```json\n{text}```\n")),
        "not in docs/json.md:\n{text}"
    );
}

fn stats(conns: u64, conns_rate: u64) -> Stats {
    Stats {
        conns,
        in_packets: 6 * conns,
        out_packets: 5 * conns,
        in_bytes: 700 * conns,
        out_bytes: 9000 * conns,
        conns_rate,
        in_packets_rate: 6 * conns_rate,
        out_packets_rate: 5 * conns_rate,
        in_bytes_rate: 700 * conns_rate,
        out_bytes_rate: 9000 * conns_rate,
    }
}

#[test]
fn services_with_all_that_they_can_have() {
    let mut by_address = testdata::service(testdata::tcp("203.0.113.80", 80));
    by_address.scheduler = "sh".to_owned();
    by_address.flags = svc_flag::PERSISTENT | svc_flag::SCHED2;
    by_address.timeout = 360;
    by_address.engine = "sip".to_owned();
    by_address.stats = stats(1200, 3);
    let fullnat = Destination {
        method: method::FULLNAT,
        port: 8080,
        weight: 3,
        upper_threshold: 1000,
        lower_threshold: 750,
        active: 12,
        inactive: 345,
        persistent: 6,
        stats: stats(1200, 3),
        ..testdata::destination("10.0.0.11")
    };
    let by_mark = testdata::service(ServiceId::Mark {
        mark: 7,
        family: Family::V6,
    });
    let tunnel = Destination {
        method: method::TUNNEL,
        tunnel: Tunnel {
            kind: TunnelKind::Gue,
            port: 6080,
            checksum: TunnelChecksum::Remote,
        },
        ..testdata::destination("2001:db8::11")
    };
    let info = Info {
        version: 0x01_02_01,
        table_size: 4096,
    };
    documented(|out| {
        let listed = vec![(by_address, vec![fullnat]), (by_mark, vec![tunnel])];
        services(out, &info, listed)
    });
}

#[test]
fn numbers_of_any_size_stay_numbers() {
    let mut service = testdata::service(testdata::tcp("10.0.0.1", 80));
    service.stats.in_bytes = u64::MAX;
    let info = Info {
        version: 0x01_02_01,
        table_size: 4096,
    };
    let mut out = Vec::new();
    services(&mut out, &info, vec![(service, Vec::new())]).unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(listed["services"][0]["stats"]["in_bytes"], u64::MAX);
}

#[test]
fn connections_with_and_without_an_engine() {
    let end = |address: &str, port| (address.parse().unwrap(), port);
    let connection = |protocol: &str, state: &str, engine| Connection {
        protocol: protocol.to_owned(),
        state: state.to_owned(),
        expires: 897,
        client: end("198.51.100.2", 44300),
        virtual_service: end("203.0.113.80", 80),
        destination: end("10.0.0.11", 8080),
        engine,
    };
    let engine = Some(("sip".to_owned(), "1234@phone".to_owned()));
    documented(|out| {
        let listed = [
            connection("TCP", "ESTABLISHED", None),
            connection("UDP", "UDP", engine),
        ];
        connections(out, &listed)
    });
}

#[test]
fn timeouts_as_three_numbers() {
    documented(|out| {
        timeouts(
            out,
            Timeouts {
                tcp: 900,
                tcp_fin: 120,
                udp: 300,
            },
        )
    });
}

#[test]
fn daemons_tell_what_the_module_tells() {
    let daemon = Daemon {
        state: DaemonState::Master,
        interface: "eth1".to_owned(),
        sync_id: 7,
        max_length: Some(1472),
        group: Some("224.0.0.81".parse().unwrap()),
        port: Some(8848),
        ttl: Some(1),
    };
    documented(|out| daemons(out, &[daemon]));
}

#[test]
fn local_addresses_of_services() {
    let local = LocalAddress {
        address: "10.0.0.101".parse().unwrap(),
        conns: 357,
        exhausted: 0,
    };
    documented(|out| {
        let id = testdata::tcp("203.0.113.80", 80);
        local_addresses(out, vec![(id, vec![local])])
    });
}
