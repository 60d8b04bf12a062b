// SPDX-License-Identifier: GPL-2.0

//! Help, a screen a page: 24 lines of 80 columns.

use std::io::Write;

use rlvs_core::uapi;

use crate::error::Failure;

const OVERVIEW: &str = "\
rlvsadm sets up and shows the virtual services of rlvs, like ipvsadm for ip_vs.

  rlvsadm                           show all services and their destinations
  rlvsadm -A SERVICE [SETTINGS]     add a virtual service          (-E edit it)
  rlvsadm -D SERVICE                delete it
  rlvsadm -a SERVICE -r ADDRESS[:PORT] [SETTINGS]
                                    add a real server to it        (-e edit it)
  rlvsadm -d SERVICE -r ADDRESS[:PORT]         take it from the service
  rlvsadm -P SERVICE -z ADDRESSES   add local addresses, for FullNAT
  rlvsadm -Q SERVICE -z ADDRESSES   take them away        (-G show them)
  rlvsadm -L [SERVICE] [OPTIONS]    show services, connections, rates ...
  rlvsadm -Z [SERVICE]              set the counters to zero
  rlvsadm --set TCP TCPFIN UDP      set timeouts of connections, in seconds
  rlvsadm -S [-n], -R               save all as command lines, restore them
  rlvsadm -C                        delete all services
  rlvsadm --start-daemon STATE      share connections with other directors

SERVICE: -t ADDRESS:PORT (TCP), -u ADDRESS:PORT (UDP), --sctp-service
ADDRESS:PORT, or -f MARK for what a firewall marked (-6 if it is IPv6).
IPv6 addresses stand in brackets: [2001:db8::1]:80.

rlvsadm --help TOPIC tells more: services, destinations, fullnat, listings,
sync, save, json.
";

const SERVICES: &str = "\
Virtual services: -A adds one, -E edits one, -D deletes one.

  -s, --scheduler NAME       how a real server is chosen: rr, wrr, lc, wlc (the
                             default), sh, mh, sed, nq, fo ...
  -b, --sched-flags FLAGS    flags of the scheduler, with commas between: flag-1
                             flag-2 flag-3, sh-fallback sh-port (of sh),
                             mh-fallback mh-port (of mh)
  -p, --persistent [SECONDS] a client keeps its real server that long after its
                             last connection (360)
  -M, --netmask MASK         clients of one network count as one: 255.255.255.0,
                             or a prefix length for IPv6
      --pe NAME              persistence engine, such as sip
  -o, --ops                  each UDP packet is scheduled by itself

-E sets what it does not name to the default, as in ipvsadm.

  rlvsadm -A -t 192.0.2.1:80 -s wrr
  rlvsadm -A -t [2001:db8::1]:443 -s wlc -p 600
  rlvsadm -A -f 7 -s rr
";

const DESTINATIONS: &str = "\
Real servers of a service: -a adds one, -e edits one, -d takes one away.

  -r, --real-server ADDRESS[:PORT]  which one; the port is the service's if not
                             given, and always with -g and -i
  -g, --gatewaying           direct routing (the default)
  -i, --ipip                 through a tunnel: --tun-type ipip, gue or gre,
                             --tun-port PORT (gue), --tun-nocsum, --tun-csum,
                             --tun-remcsum (gue)
  -m, --masquerading         NAT: replies must come back through this machine.
                             FullNAT if the service has local addresses
      --fullnat              FullNAT: see rlvsadm --help fullnat
  -w, --weight NUMBER        share of the connections; 0: no new ones (1)
  -x, --u-threshold NUMBER   no new connections from that many on (0: no limit)
  -y, --l-threshold NUMBER   until there are fewer than that many again

-e sets what it does not name to the default, as in ipvsadm: name the method.

  rlvsadm -a -t 192.0.2.1:80 -r 10.0.0.2:8080 --fullnat -w 3
";

const FULLNAT: &str = "\
FullNAT: real servers see a local address of this machine as their client. So
they need no route to the clients, and may stand anywhere. With the TCP option
TOA they are told the client's own address.

  -P, --add-laddr            add local addresses to a service
  -Q, --del-laddr            take them away
  -G, --get-laddr [SERVICE]  show them, their connections, and how often one had
                             no free port left
  -z, --local-address ADDRESSES   192.0.2.5, 192.0.2.5-192.0.2.9 or
                             192.0.2.16/28 (all of it); at most 4096 at once

Of several addresses, all are added or none. The more there are, the more
connections a real server can have at a time.

  rlvsadm -A -t 198.51.100.1:80 -s wlc
  rlvsadm -P -t 198.51.100.1:80 -z 10.0.0.10-10.0.0.13
  rlvsadm -a -t 198.51.100.1:80 -r 10.0.1.2:8080 --fullnat
  rlvsadm -G -n
";

const LISTINGS: &str = "\
Listings: -L shows all services, or one.

  -n, --numeric              addresses and ports as numbers
      --stats                counters: connections, packets, bytes
      --rate                 the same each second
  -X, --exact                large numbers in full, instead of with K, M, G, T
      --thresholds           thresholds of the real servers
      --persistent-conn      connections of persistent services
      --tun-info             how tunnels are set up
      --nosort               in the kernel's order
  -c, --connection           connections instead of services (with
                             --persistent-conn: what engines know, too)
      --timeout              timeouts of connections instead of services
      --daemon               synchronisation daemons instead of services
      --json                 as JSON: see rlvsadm --help json

  rlvsadm -L -n
  rlvsadm -L -n --stats -t 192.0.2.1:80
  rlvsadm -L -n -c
";

const SYNC: &str = "\
Synchronisation: the master sends its connections to the network, and backups
take them in. So one director can take over what another one served.

      --start-daemon STATE   start the daemon that is master, or backup; a
                             director may run both
      --stop-daemon STATE    stop it
      --mcast-interface NAME network device (eth0)
      --syncid NUMBER        directors with the same number belong together:
                             0 to 255 (0; a backup with 0 listens to all)
      --sync-maxlen NUMBER   longest message in bytes (by the device's MTU)
      --mcast-group ADDRESS  multicast group, IPv4 or IPv6 (224.0.0.81)
      --mcast-port PORT      UDP port (8848)
      --mcast-ttl NUMBER     how many routers a message passes (1)

  -L, --list --daemon        show the daemons that run

  rlvsadm --start-daemon master --mcast-interface eth1 --syncid 7
  rlvsadm --start-daemon backup --mcast-interface eth1 --syncid 7
  rlvsadm -L --daemon
";

const SAVE: &str = "\
Saving and restoring: -S prints all services, local addresses and real servers
as command lines, and -R reads such lines from its input.

  rlvsadm -S -n >rules
  rlvsadm -C
  rlvsadm -R <rules

Each line is a command line of rlvsadm. It may begin with `ipvsadm' or
`rlvsadm'; empty lines and lines that begin with # are passed over. What
ipvsadm -S wrote can be restored.

If a line makes no sense, all such lines are told and nothing is changed. If the
kernel refuses a line, it is told, and the others are carried out.

Exit status: 0 all was done; 1 a listing failed; 2 the input makes no sense,
privilege is missing, or no module is there; 255 the kernel refused, or there is
no such option.
";

const JSON: &str = "\
JSON (--json): these names stay; more may come. What does not apply is absent.

-L     {version, connection_table_size, services: [{SERVICE, scheduler,
         scheduler_flags, persistence: {timeout, netmask, engine}, one_packet,
         stats: COUNTERS, rates: COUNTERS, destinations: [{address, port,
         forward, tunnel: {type, port, checksum}, weight, upper_threshold,
         lower_threshold, active_connections, inactive_connections,
         persistent_connections, stats: COUNTERS, rates: COUNTERS}]}]}
-L -c  {connections: [{protocol, state, expires, client: END, virtual: END,
         destination: END, engine: {name, data}}]}
-L --timeout  {tcp, tcp_fin, udp}
-L --daemon   {daemons: [{state, interface, sync_id, max_length, group, port,
         ttl}]}
-G     {services: [{SERVICE, local_addresses: [{address, connections,
         exhausted}]}]}

SERVICE: protocol, address, port, family; or firewall_mark, family
COUNTERS: {connections, in_packets, out_packets, in_bytes, out_bytes}
END: {address, port}
forward: gatewaying, tunnel, masquerading, fullnat, local or bypass
family: ipv4 or ipv6; protocol: tcp, udp or sctp (and ip, of a mark, in -L -c)
--stats and --rate change nothing here. Times are seconds; rates are per second.
";

/// The pages, by topic.
pub const TOPICS: [(&str, &str); 8] = [
    ("", OVERVIEW),
    ("services", SERVICES),
    ("destinations", DESTINATIONS),
    ("fullnat", FULLNAT),
    ("listings", LISTINGS),
    ("sync", SYNC),
    ("save", SAVE),
    ("json", JSON),
];

/// Prints the page of a topic; the empty topic is the overview.
pub fn print(topic: &str, out: &mut impl Write) -> Result<(), Failure> {
    let Some((_, page)) = TOPICS.iter().find(|(name, _)| *name == topic) else {
        let names: Vec<&str> = TOPICS[1..].iter().map(|(name, _)| *name).collect();
        return Err(Failure::usage(format!(
            "no help on `{topic}': there are {}",
            names.join(", ")
        )));
    };
    Ok(out.write_all(page.as_bytes())?)
}

/// Prints the version; under ipvsadm's name, that of the ipvsadm whose command line this is, in the
/// words that scripts take apart.
pub fn print_version(program: &str, out: &mut impl Write) -> Result<(), Failure> {
    let [_, major, minor, patch] = uapi::VERSION.to_be_bytes();
    let ipvs = format!("IPVS v{major}.{minor}.{patch}");
    match program {
        "ipvsadm" => writeln!(
            out,
            "ipvsadm v1.31 2019/12/24 (compiled with popt and {ipvs})"
        )?,
        _ => writeln!(out, "rlvsadm v{} ({ipvs})", env!("CARGO_PKG_VERSION"))?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fits_a_screen() {
        for (topic, page) in TOPICS {
            assert!(page.lines().count() <= 24, "{topic}: too many lines");
            for line in page.lines() {
                assert!(line.chars().count() <= 80, "{topic}: too wide: {line}");
            }
        }
    }

    #[test]
    fn the_version_of_ipvsadm_goes_with_its_name() {
        let version = |program| {
            let mut out = Vec::new();
            print_version(program, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert!(version("rlvsadm").starts_with("rlvsadm v"));
        assert!(version("ipvsadm").starts_with("ipvsadm v1.31 "));
    }

    #[test]
    fn an_unknown_topic_names_the_known_ones() {
        let failure = print("fulnat", &mut Vec::new()).unwrap_err();
        assert!(failure.text.contains("fullnat"));
        assert_eq!(failure.status, 2);
    }
}
