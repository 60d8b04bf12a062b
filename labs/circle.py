# SPDX-License-Identifier: GPL-2.0
"""The circle of the keepalived lab: two directors that are each other's servers, by direct routing.

Both machines are on the client's wire, and each is a director and a web server. That is enough for a site of two
machines, and the classical mistake of one.
"""

import os
import re

import frames
from director import VIP
from stage import Capture, do, say, show

# The library of the selftests, which stage.py has put in reach.
import kernel
from packet import ICMP, SYN

CLIENT = "198.51.100.2"
FWMARK = 80

CONFIG = """\
global_defs {{
    lvs_flush
    lvs_flush_on_stop
}}
vrrp_instance pair {{
    interface wan
    virtual_router_id 81
    priority {priority}
    advert_int 1
    virtual_ipaddress {{
        {vip}/32 dev wan
    }}
}}
virtual_server {service} {{
    delay_loop 1
    lvs_sched rr
    lvs_method DR
    protocol TCP
    real_server 198.51.100.11 80 {{
        TCP_CHECK {{
            connect_timeout 10
        }}
    }}
    real_server 198.51.100.12 80 {{
        TCP_CHECK {{
            connect_timeout 10
        }}
    }}
}}
"""


class Circle:
    """Two steps of the lab: the circle, and the cure. `lab` has the client and the directors."""

    def __init__(self, lab):
        self.lab, self.steps, self.directors, self.names = lab, lab.steps, lab.directors, {}

    def configure(self, service):
        """Writes the configuration of both, with the service by address or by mark."""
        for director in self.directors:
            text = CONFIG.format(priority=160 - 10 * director.number, vip=VIP, service=service)
            text = re.sub(r"(advert_int|delay_loop|_timeout) (\d+)",
                          lambda found: f"{found[1]} {int(found[2]) * kernel.SLOW}", text)
            with open(director.config, "w", encoding="ascii") as file:
                file.write(text)

    @staticmethod
    def master(director):
        """Whether it is: the VIP is on the lo of both."""
        return f"inet {VIP}/" in do(director.namespace, "ip addr show dev wan", quiet=True)

    def ready(self, service):
        """Waits until both directors have both servers, and the first one is master."""
        both = {"198.51.100.11": 1, "198.51.100.12": 1}
        for director in self.directors:
            self.lab.until(lambda d=director: d.services() == {service: both},
                           lambda d=director: f"two servers in {d.name}; it has {d.services()}")
        self.lab.until(lambda: self.master(self.directors[0]), "director1 to be master")

    def mac(self, namespace, device):
        """The Ethernet address of a machine."""
        return re.search(r"link/ether (\S+)", do(namespace, f"ip link show {device}", quiet=True))[1]

    def requests(self, count):
        """Requests of the client, while the wire is listened to.

        Returns the servers' names, how many failed, and {the client's port: frames of its first SYN}, errors included.
        """
        capture = Capture(self.lab.switch, "wan", f"{self.lab.dir}/circle.pcap",
                          f"host {CLIENT} and (dst {VIP} and tcp[tcpflags] & tcp-syn != 0 or icmp)", "-s 128")
        told = do(self.lab.client, f"curl -sSm{2 * kernel.SLOW} -H 'Connection: close' http://{VIP}/?[1-{count}] 2>&1",
                  shell=True, may_fail=True, echo=True)
        capture.end()
        flows = {}
        for frame in frames.read(capture.path):
            packet = frame.packet
            port = int.from_bytes(packet.payload[20:22], "big") if packet.proto == ICMP else packet.sport
            flows.setdefault(port, []).append(frame)
        return re.findall(r"^(director\d) ", told, re.M), told.count("curl:"), flows

    def show(self):
        """Both serve, both balance, and neither knows that the other has balanced already."""
        self.steps.step("The circle: two directors that are each other's servers, DR")
        client = self.lab.client
        self.names = {self.mac(client, "eth0"): "client"}
        for director in self.directors:
            namespace = director.namespace
            self.names[self.mac(namespace, "wan")] = director.name
            do(namespace, "sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2")
            self.lab.ip(namespace, f"addr add {VIP}/32 dev lo")
            self.lab.nginx(namespace, director.name)
        self.configure(f"{VIP} 80")
        do(None, f"sed -n '/^virtual_server/,$p' {self.directors[0].config}", echo=True)
        for director in self.directors:
            director.start()
        self.ready(f"{VIP}:80")
        self.lab.listing(self.directors[0])
        served, failed, flows = self.requests(8)
        self.steps.check(served and failed, f"{len(served)} of 8 requests are served, {failed} fail")
        circling = [flow for flow in flows.values() if len(flow) > 10]
        say("  On the wire, one SYN:")
        frames.tell(circling[0][:5], self.names)
        say("    ...")
        frames.tell(circling[0][-2:], self.names)
        ttls = [frame.packet.ttl for frame in circling[0] if frame.packet.proto != ICMP]
        self.steps.check(len(ttls) > 60 and ttls == sorted(ttls, reverse=True), f"one packet of the client is "
                         f"{len(ttls)} on the wire: director1 has chosen director2, which has chosen director1")
        self.steps.equal(ttls[-1], 1, "only the TTL ends it; the last one is")
        self.steps.equal(len(circling), failed, "requests that went in a circle")

    def cure(self):
        """What the other director sends has been balanced: it is not marked, and so it is for this host."""
        self.steps.step("The cure: a mark for all that does not come from the other director")
        one, two = (director.namespace for director in self.directors)
        mac = {name: address for address, name in self.names.items()}
        do(one, "nft 'add table ip circle; "
           "add chain ip circle marks { type filter hook prerouting priority mangle; }; "
           f"add rule ip circle marks ip daddr {VIP} tcp dport 80 ether saddr != {mac['director2']} "
           f"meta mark set {FWMARK}'")
        do(two, f"iptables -t mangle -A PREROUTING -d {VIP} -p tcp --dport 80 -m mac ! --mac-source "
           f"{mac['director1']} -j MARK --set-mark {FWMARK}")
        self.configure(f"fwmark {FWMARK}")
        for director in self.directors:
            do(None, f"grep ^virtual_server {director.config}", echo=True)
            director.signal(1)
        self.ready(str(FWMARK))
        self.lab.listing(self.directors[0])
        served, failed, flows = self.requests(8)
        self.steps.check(not failed and len(served) == 8, "all requests are served")
        self.steps.check(served.count("director1") == served.count("director2") == 4, "half of them by each of the two")
        longest = max(flows.values(), key=len)
        say("  On the wire, one SYN for the other one:")
        frames.tell(longest, self.names)
        self.steps.equal(len(longest), 2, "frames, the client's and director1's")
        self.directors[0].signal(15)
        self.lab.until(lambda: self.master(self.directors[1]), "director2 to be master")
        served, failed, flows = self.requests(8)
        self.steps.check(not failed and set(served) == {"director1", "director2"}, "the other way round, too: director2 "
                         "is master, and director1 serves")
        self.steps.equal(max(map(len, flows.values())), 2, "frames of a SYN at most")
        self.directors[1].signal(15)
        for director in self.directors:
            self.steps.equal(director.keepalived.wait(), 0, f"{director.name}'s keepalived ends with status")
