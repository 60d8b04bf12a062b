# SPDX-License-Identifier: GPL-2.0
"""The NAT lab: the steps that it has in common with FullNAT, and three traps."""

import re

from stage import Capture, do, say, station
from web import CLIENT, GATEWAY, LADDRS, VIP, WEBS, WebLab

# The library of the selftests, which stage.py has put in reach.
import kernel
from lib import RLVS
from packet import SYN

PICTURE = """
  client             director                        servers
  198.51.100.2 ----- VIP 203.0.113.80 -- 10.0.0.1 -- web1  10.0.0.11  weight 3
                                                  -- web2  10.0.0.12  weight 2
                                                  -- web3  10.0.0.13  weight 1

  The director changes the destination of each packet on the way in and the
  source on the way out. The servers see the client's own address, and their
  default route must lead back through the director.
"""


class NatLab(WebLab):
    """One run of the lab."""

    def __init__(self, **how):
        super().__init__("nat", "NAT in five namespaces", PICTURE, 12, **how)

    def parts(self):
        return [*super().parts(), self.no_way_back, self.no_forwarding, self.same_subnet]

    def asked(self, namespace, count):
        """Requests of somebody; returns the names of the servers that answered, and how many did not in time."""
        told = do(namespace, f"curl -sSm{kernel.SLOW} -H 'Connection: close' http://{VIP}/?[1-{count}] 2>&1",
                  shell=True, may_fail=True, echo=True)
        return re.findall(r"^(web\d) ", told, re.M), len(re.findall(r"timed out|timeout", told))

    def no_way_back(self):
        """A server whose default gateway is not the director."""
        self.steps.step("Trap: a server whose gateway is not the director")
        web = self.webs[1]
        self.ip(web, "route del default")
        capture = Capture(web, "eth0", f"{self.dir}/trap.pcap", f"host {CLIENT}")
        served, silent = self.asked(self.client, 6)
        heard = capture.packets()
        say("  at web2's eth0:")
        for packet in heard[:2]:
            station(packet)
        self.steps.check(silent == 2 and "web2" not in served, "the symptom: web2's share is not answered")
        self.steps.check(heard and all(packet.src == CLIENT for packet in heard), "what the client sends arrives; "
                         "web2 knows no way back")
        say("  The cure, if it may not be FullNAT:")
        self.ip(web, f"route add default via {GATEWAY}")
        self.steps.check("web2" in self.asked(self.client, 6)[0], "web2 is back")

    def no_forwarding(self):
        """The servers' answers are forwarded as any packet."""
        self.steps.step("Trap: a director that does not forward")
        do(self.director, "sysctl -qw net.ipv4.ip_forward=0")
        capture = Capture(self.director, "lan", f"{self.dir}/trap.pcap", f"host {CLIENT}")
        served, silent = self.asked(self.client, 1)
        heard = capture.packets()
        say("  at director's lan:")
        for packet in heard[:2]:
            station(packet)
        self.steps.check(silent == 1 and not served, "the symptom: no answer")
        self.steps.check(any(packet.dst == CLIENT for packet in heard), "the server's answer is at the director, for "
                         "the client's address: it must be forwarded")
        say("  The cure:")
        do(self.director, "sysctl -qw net.ipv4.ip_forward=1")
        self.steps.equal(len(self.asked(self.client, 1)[0]), 1, "requests that are served")

    def same_subnet(self):
        """A server as client of the others."""
        self.steps.step("Trap: a client in the servers' own subnet")
        web = self.webs[0]
        capture = Capture(web, "eth0", f"{self.dir}/trap.pcap", "tcp port 80")
        served, silent = self.asked(web, 3)
        heard = capture.packets()
        say("  at web1's eth0:")
        others = [addr for _, addr, _ in WEBS[1:]]
        strays = [packet for packet in heard if packet.flags & SYN and packet.src in others]
        station(next(packet for packet in heard if packet.sport == strays[0].dport))
        station(strays[0])
        self.steps.check(silent == 3 and not served, "the symptom: no connection comes about")
        self.steps.check(strays[0].dst == WEBS[0][1], f"the server answers to its neighbour directly, as {strays[0].src}; "
                         f"web1 has asked {VIP}")
        if RLVS:
            say("  The cure is FullNAT, for which -m destinations need but local addresses:")
            self.ip(self.director, *(f"addr add {laddr}/24 dev lan" for laddr in LADDRS))
            self.adm(f"-P -t {VIP}:80 -z {LADDRS[0]}-{LADDRS[-1]}")
            served, silent = self.asked(web, 6)
            self.steps.check(not silent and set(served) == {"web1", "web2", "web3"}, "all serve web1, itself among them")
