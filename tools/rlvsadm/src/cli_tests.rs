// SPDX-License-Identifier: GPL-2.0

use rlvs_core::uapi::{method, svc_flag};

use super::*;
use crate::{
    help,
    model::{DaemonState, Family, TunnelChecksum, TunnelKind},
    testdata,
};

fn parse(line: &str) -> Result<Request, Failure> {
    Parser::new().parse(line.split_whitespace())
}

fn action(line: &str) -> Action {
    match parse(line) {
        Ok(Request::Tables(action)) => action,
        other => panic!("{line}: {other:?}"),
    }
}

fn service(line: &str) -> Service {
    match action(line) {
        Action::ChangeService(_, service) => service,
        other => panic!("{line}: {other:?}"),
    }
}

fn destination(line: &str) -> Destination {
    match action(line) {
        Action::ChangeDestination(_, _, destination, _) => destination,
        other => panic!("{line}: {other:?}"),
    }
}

fn list(line: &str) -> List {
    match action(line) {
        Action::List(list) => list,
        other => panic!("{line}: {other:?}"),
    }
}

fn failure(line: &str) -> (u8, String) {
    match parse(line) {
        Err(failure) => (failure.status, failure.text),
        Ok(request) => panic!("{line}: {request:?}"),
    }
}

#[test]
fn a_service_with_defaults() {
    let expected = testdata::service(testdata::tcp("10.0.0.1", 80));
    for line in [
        "-A -t 10.0.0.1:80",
        "-At 10.0.0.1:80",
        "--add-service --tcp-service=10.0.0.1:80",
    ] {
        assert_eq!(service(line), expected, "{line}");
    }
}

#[test]
fn a_service_with_everything() {
    let service = service("-A -u 10.0.0.1:5060 -s sh -b sh-port -p 600 -M 255.255.0.0 --pe sip -o");
    assert_eq!(service.scheduler, "sh");
    assert_eq!(
        service.flags,
        svc_flag::PERSISTENT | svc_flag::ONEPACKET | svc_flag::SCHED2
    );
    assert_eq!(service.timeout, 600);
    assert_eq!(service.netmask.to_ne_bytes(), [255, 255, 0, 0]);
    assert_eq!(service.engine, "sip");
}

#[test]
fn persistence_may_go_without_its_time() {
    assert_eq!(service("-A -t 10.0.0.1:80 -p").timeout, 360);
    assert_eq!(service("-A -t 10.0.0.1:80 -p -s rr").timeout, 360);
    assert_eq!(service("-A -t 10.0.0.1:80 -p 20").timeout, 20);
    assert_eq!(service("-A -t 10.0.0.1:80 --persistent=20").timeout, 20);
    // Every port of an address is persistent or nothing.
    assert_eq!(
        service("-A -t 10.0.0.1 -p").id,
        testdata::tcp("10.0.0.1", 0)
    );
    assert!(failure("-A -t 10.0.0.1").1.contains("Zero port"));
}

#[test]
fn marks_of_both_families() {
    let mark = |mark, family| ServiceId::Mark { mark, family };
    assert_eq!(service("-A -f 5").id, mark(5, Family::V4));
    assert_eq!(
        service("-A -f 4294967295 -6").id,
        mark(u32::MAX, Family::V6)
    );
    assert_eq!(service("-A -6 -f 5 -p -M 64").netmask, 64);
    for line in [
        "-A -f 0",
        "-A -f 4294967296",
        "-A -f x",
        "-A -6 -t 10.0.0.1:80",
    ] {
        assert_eq!(failure(line).0, 2, "{line}");
    }
}

#[test]
fn methods_of_destinations() {
    let line = |options: &str| format!("-a -t 10.0.0.1:80 -r 10.1.0.1 {options}");
    let method = |options: &str| destination(&line(options)).method;
    assert_eq!(method(""), method::DROUTE);
    assert_eq!(method("-g"), method::DROUTE);
    assert_eq!(method("-m"), method::MASQ);
    assert_eq!(method("-i"), method::TUNNEL);
    assert_eq!(method("--fullnat"), method::FULLNAT);
    assert_eq!(failure(&line("-m --fullnat")).0, 2);
}

#[test]
fn ports_of_destinations() {
    let port = |line: &str| destination(line).port;
    assert_eq!(port("-a -t 10.0.0.1:80 -r 10.1.0.1 -m"), 80);
    assert_eq!(port("-a -t 10.0.0.1:80 -r 10.1.0.1:8080 -m"), 8080);
    assert_eq!(port("-a -t 10.0.0.1:80 -r 10.1.0.1:8080 --fullnat"), 8080);
    // Direct routing and tunnels leave the packet as it is.
    assert_eq!(port("-a -t 10.0.0.1:80 -r 10.1.0.1:8080"), 80);
    assert_eq!(port("-a -f 5 -r 10.1.0.1:8080"), 8080);
    // Deleting names no method, so the port counts.
    assert_eq!(port("-d -t 10.0.0.1:80 -r 10.1.0.1:8080"), 8080);
}

#[test]
fn weights_and_thresholds() {
    let with = destination("-e -t 10.0.0.1:80 -r 10.1.0.1 -m -w 0 -x 100 -y 50");
    assert_eq!(
        (with.weight, with.upper_threshold, with.lower_threshold),
        (0, 100, 50)
    );
    let without = destination("-e -t 10.0.0.1:80 -r 10.1.0.1 -m");
    assert_eq!(
        (
            without.weight,
            without.upper_threshold,
            without.lower_threshold
        ),
        (1, 0, 0)
    );
    let (status, text) = failure("-a -t 10.0.0.1:80 -r 10.1.0.1 -w -1");
    assert_eq!(status, 2);
    assert!(
        text.contains("`-1': not a number from 0 to 2147483647"),
        "{text}"
    );
    assert_eq!(failure("-a -t 10.0.0.1:80 -r 10.1.0.1 -w 2147483648").0, 2);
}

#[test]
fn tunnels_take_what_their_type_takes() {
    let line = |options: &str| format!("-a -t 10.0.0.1:80 -r [2001:db8::1]:80 {options}");
    let gue = destination(&line("-i --tun-type gue --tun-port 6080 --tun-csum")).tunnel;
    assert_eq!(
        (gue.kind, gue.port, gue.checksum),
        (TunnelKind::Gue, 6080, TunnelChecksum::With)
    );
    for options in [
        "-m",
        "-i --tun-type gue",
        "-i --tun-type gre --tun-port 5",
        "-i --tun-type ipip --tun-csum",
        "-i --tun-csum",
        "-i --tun-type vxlan",
        "-i --tun-type gre --tun-csum --tun-nocsum",
    ] {
        assert_eq!(failure(&line(options)).0, 2, "{options}");
    }
    assert_eq!(
        failure("-a -t 10.0.0.1:80 -r 10.1.0.1 -m --tun-type gue").0,
        2
    );
}

#[test]
fn local_addresses_of_a_service() {
    let expected: Vec<IpAddr> = vec!["10.2.0.1".parse().unwrap(), "10.2.0.2".parse().unwrap()];
    let id = testdata::tcp("10.0.0.1", 80);
    assert_eq!(
        action("-P -t 10.0.0.1:80 -z 10.2.0.1-10.2.0.2"),
        Action::ChangeLocalAddresses(Change::Add, id.clone(), expected.clone())
    );
    assert_eq!(
        action("--del-laddr -t 10.0.0.1:80 --local-address 10.2.0.1-10.2.0.2"),
        Action::ChangeLocalAddresses(Change::Delete, id, expected)
    );
    assert!(failure("-P -t 10.0.0.1:80 -z fd00::1")
        .1
        .contains("address family"));
    assert!(failure("-P -t 10.0.0.1:80").1.contains("-z"));
}

#[test]
fn listings() {
    assert_eq!(list("").view, View::Plain);
    assert_eq!(list("-L -n").style, Style::Numeric);
    assert_eq!(list("-ln").style, Style::Numeric);
    assert_eq!(list("-Ln --stats --rate").view, View::Stats);
    assert_eq!(list("-L --rate").view, View::Rates);
    assert!(list("-L -t 10.0.0.1:80").service.is_some());
    assert!(!list("-L --nosort").sorted);
    assert!(list("-L --sort --json").sorted);
    assert!(matches!(
        action("-Lnc"),
        Action::ListConnections(ConnectionList {
            style: Style::Numeric,
            ..
        })
    ));
    assert_eq!(action("-L --timeout"), Action::ListTimeouts { json: false });
    for line in [
        "-L -c --stats",
        "-L -c --timeout",
        "-L --timeout --rate",
        "-L -c -t 10.0.0.1:80",
    ] {
        assert_eq!(failure(line).0, 2, "{line}");
    }
}

#[test]
fn daemons_with_defaults_and_with_everything() {
    let plain = Daemon {
        state: DaemonState::Master,
        interface: "eth0".to_owned(),
        sync_id: 0,
        max_length: None,
        group: None,
        port: None,
        ttl: None,
    };
    assert_eq!(
        action("--start-daemon master"),
        Action::StartDaemon(plain.clone())
    );
    let full = Daemon {
        state: DaemonState::Backup,
        interface: "bond0".to_owned(),
        sync_id: 255,
        max_length: Some(65507),
        group: Some("ff02::81".parse().unwrap()),
        port: Some(8900),
        ttl: Some(9),
    };
    let line = "--start-daemon=backup --mcast-interface bond0 --syncid 255 --sync-maxlen 65507 \
                --mcast-group ff02::81 --mcast-port 8900 --mcast-ttl 9";
    assert_eq!(action(line), Action::StartDaemon(full));
    assert_eq!(
        action("--stop-daemon master --syncid 3"),
        Action::StopDaemon(Daemon {
            sync_id: 3,
            ..plain
        })
    );
    assert_eq!(
        action("-L --daemon --json"),
        Action::ListDaemons { json: true }
    );
    for line in [
        "--start-daemon master --mcast-group 10.0.0.1",
        "--start-daemon master --mcast-interface a-name-of-16-chr",
        "--stop-daemon master --mcast-ttl 1",
        "-L --daemon -t 10.0.0.1:80",
    ] {
        assert_eq!(failure(line).0, 2, "{line}");
    }
}

#[test]
fn the_order_of_options_does_not_matter() {
    let (line, other) = (
        "-a -t 10.0.0.1:80 -r 10.1.0.1 -m",
        "-r 10.1.0.1 -m -t 10.0.0.1:80 -a",
    );
    assert_eq!(action(line), action(other));
    assert_eq!(action("-A -f 5 -6"), action("-6 -f 5 -6 -A --sort --sort"));
}

#[test]
fn timeouts_come_in_threes() {
    let expected = Timeouts {
        tcp: 900,
        tcp_fin: 120,
        udp: 0,
    };
    assert_eq!(action("--set 900 120 0"), Action::SetTimeouts(expected));
    for line in [
        "--set",
        "--set 1 2",
        "--set 1 2 3 4",
        "--set a 2 3",
        "--set 2678401 2 3",
    ] {
        assert_eq!(failure(line).0, 2, "{line}");
    }
}

#[test]
fn help_with_and_without_topic() {
    assert_eq!(parse("-h"), Ok(Request::Help(String::new())));
    assert_eq!(
        parse("--help fullnat"),
        Ok(Request::Help("fullnat".to_owned()))
    );
}

#[test]
fn mistakes_have_the_status_of_ipvsadm() {
    for (line, status) in [
        ("-A", 2),
        ("-A -L", 2),
        ("-A -t 10.0.0.1:80 -w 3", 2),
        ("-a -t 10.0.0.1:80", 2),
        ("-a -t 10.0.0.1:80 -r", 255),
        ("-A -t 10.0.0.1:80 foo", 2),
        ("-A -t 10.0.0.1:80 -t 10.0.0.1:80", 2),
        ("-A -t 10.0.0.1:80 -u 10.0.0.1:80", 2),
        ("-A -s", 255),
        ("--bogus", 255),
        ("-L --bogus", 255),
        ("-t 10.0.0.1:80", 255),
        ("-A -u 10.0.0.1:53 -s rr -b sh-port", 2),
        ("-A -t 10.0.0.1:80 -o", 2),
        ("-A -t 10.0.0.1:80 -M 24", 2),
        ("-A -t 10.0.0.1:80 -s a-name-of-16-chars", 2),
    ] {
        assert_eq!(failure(line).0, status, "{line}");
    }
}

#[test]
fn every_option_is_explained() {
    let pages: String = help::TOPICS.iter().map(|(_, page)| *page).collect();
    let command = definition::command();
    let options = command.get_arguments().filter_map(clap::Arg::get_long);
    let missing: Vec<&str> = options
        .filter(|name| !pages.contains(&format!("--{name}")))
        .collect();
    // Commands are known by their letter, and sorting is the default.
    let by_letter = [
        "add-service",
        "edit-service",
        "delete-service",
        "clear",
        "restore",
        "save",
        "add-server",
        "edit-server",
        "delete-server",
        "list",
        "zero",
        "version",
        "tcp-service",
        "udp-service",
        "fwmark-service",
        "ipv6",
        "sort",
    ];
    let unexplained: Vec<&&str> = missing
        .iter()
        .filter(|name| !by_letter.contains(name))
        .collect();
    assert!(unexplained.is_empty(), "not explained: {unexplained:?}");
}
