// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::{
    model::{DaemonState, Tunnel},
    testdata,
};

fn list(view: View, exact: bool) -> List {
    List {
        service: None,
        view,
        style: Style::Numeric,
        exact,
        sorted: true,
        json: false,
    }
}

fn service_line(entry: &Service, view: View) -> String {
    let mut out = Vec::new();
    service(&mut out, entry, &list(view, false)).unwrap();
    String::from_utf8(out).unwrap()
}

fn destination_line(entry: &Destination, view: View, exact: bool) -> String {
    let mut out = Vec::new();
    let of = testdata::tcp("10.0.0.1", 80);
    destination(&mut out, &of, entry, &list(view, exact)).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn services_with_their_settings() {
    let mut entry = testdata::service(testdata::tcp("10.0.0.1", 80));
    assert_eq!(service_line(&entry, View::Plain), "TCP  10.0.0.1:80 wlc\n");
    entry.flags = svc_flag::PERSISTENT | svc_flag::SCHED1 | svc_flag::SCHED3;
    entry.timeout = 360;
    entry.netmask = u32::from_ne_bytes([255, 255, 255, 0]);
    assert_eq!(
        service_line(&entry, View::Thresholds),
        "TCP  10.0.0.1:80 wlc (flag-1,flag-3) persistent 360 mask 255.255.255.0\n"
    );
    entry.id = ServiceId::Address {
        protocol: SCTP,
        address: "2001:db8::1".parse().unwrap(),
        port: 5060,
    };
    entry.flags = svc_flag::PERSISTENT | svc_flag::ONEPACKET;
    entry.netmask = 64;
    entry.engine = "sip".to_owned();
    assert_eq!(
        service_line(&entry, View::Plain),
        "SCTP [2001:db8::1]:5060 wlc persistent 360 mask 64 pe sip ops\n"
    );
}

#[test]
fn marks_of_both_families() {
    let mark = |family| testdata::service(ServiceId::Mark { mark: 5, family });
    assert_eq!(service_line(&mark(Family::V4), View::Plain), "FWM  5 wlc\n");
    assert_eq!(
        service_line(&mark(Family::V6), View::Plain),
        "FWM  5 IPv6 wlc\n"
    );
    assert_eq!(
        service_line(&mark(Family::V6), View::Stats),
        "FWM  5 IPv6                              0        0        0        0        0\n"
    );
}

#[test]
fn destinations_in_columns() {
    let mut entry = testdata::destination("10.1.0.1");
    entry.method = method::FULLNAT;
    entry.weight = 100;
    entry.active = 12;
    entry.inactive = 3456;
    assert_eq!(
        destination_line(&entry, View::Plain, false),
        "  -> 10.1.0.1:80                  FullNat 100    12         3456      \n"
    );
    entry.method = method::TUNNEL;
    entry.tunnel = Tunnel {
        kind: TunnelKind::Gue,
        port: 6080,
        checksum: TunnelChecksum::Remote,
    };
    assert_eq!(
        destination_line(&entry, View::Tunnels, false),
        "  -> 10.1.0.1:80                  Tunnel  gue:6080:r+c  100    12         3456      \n"
    );
    entry.upper_threshold = 9;
    assert_eq!(
        destination_line(&entry, View::Thresholds, false),
        "  -> 10.1.0.1:80                  9          0          12         3456      \n"
    );
    entry.persistent = 8;
    assert_eq!(
        destination_line(&entry, View::Persistence, false),
        "  -> 10.1.0.1:80                  100       8           12         3456      \n"
    );
}

#[test]
fn counters_are_abbreviated_unless_exact() {
    let mut entry = testdata::destination("10.1.0.1");
    entry.stats = Stats {
        conns: 99_999_999,
        in_packets: 100_000_000,
        out_packets: 99_999_999_999,
        in_bytes: 99_999_999_999_999,
        out_bytes: u64::MAX,
        ..Stats::default()
    };
    assert_eq!(
        destination_line(&entry, View::Stats, false),
        "  -> 10.1.0.1:80                  99999999  100000K   99999M   99999G18446744T\n"
    );
    assert_eq!(
        destination_line(&entry, View::Stats, true),
        "  -> 10.1.0.1:80                  99999999 100000000 99999999999 99999999999999 \
         18446744073709551615\n"
    );
}

#[test]
fn rates_of_destinations_abbreviate_bytes_only() {
    let mut entry = testdata::destination("10.1.0.1");
    entry.stats.in_packets_rate = 123_456_789;
    entry.stats.in_bytes_rate = 123_456_789;
    assert_eq!(
        destination_line(&entry, View::Rates, false),
        "  -> 10.1.0.1:80                         0 123456789        0  123456K        0\n"
    );
}

#[test]
fn a_daemon_tells_what_it_has() {
    let mut entry = Daemon {
        state: DaemonState::Backup,
        interface: "eth1".to_owned(),
        sync_id: 7,
        max_length: None,
        group: None,
        port: None,
        ttl: None,
    };
    let line = |entry: &Daemon| {
        let mut out = Vec::new();
        daemon(&mut out, entry).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(line(&entry), "backup sync daemon (mcast=eth1, syncid=7)\n");
    entry.max_length = Some(1472);
    entry.group = Some("224.0.0.81".parse().unwrap());
    entry.port = Some(8848);
    entry.ttl = Some(1);
    assert_eq!(
        line(&entry),
        "backup sync daemon (mcast=eth1, syncid=7, maxlen=1472, group=224.0.0.81, port=8848, \
         ttl=1)\n"
    );
}

#[test]
fn local_addresses_below_their_service() {
    let local = LocalAddress {
        address: "10.2.0.1".parse().unwrap(),
        conns: 60000,
        exhausted: 7,
    };
    let mut out = Vec::new();
    local_title(&mut out).unwrap();
    local_addresses(
        &mut out,
        &testdata::tcp("10.0.0.1", 80),
        &[local],
        Style::Numeric,
    )
    .unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "Prot VirtualAddress:Port               Conns  Exhausted\n\
         \x20 -> LocalAddress\n\
         TCP  10.0.0.1:80\n\
         \x20 -> 10.2.0.1                          60000          7\n"
    );
}
