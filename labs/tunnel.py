# SPDX-License-Identifier: GPL-2.0
"""The lab of tunnels: how it is set up, what a packet looks like on its way, and four traps.

    client              router                              director 203.0.113.10, VIP on eth0
    198.51.100.2  wan-  198.51.100.1 | 203.0.113.1  --lan--
                                     | 10.1.0.1     ------- web1 10.1.0.11, VIP on tunl0
                                     | 10.2.0.1     ------- web2 10.2.0.12, VIP on tunl0
                                     | 10.3.0.1     ------- web3 10.3.0.13, VIP on tunl0
"""

from classic import CLIENT, DIRECTOR, SERVICE, VIP, ClassicLab
from frames import GUE, IPIP
from stage import do, large_file, lines, say

# The library of the selftests, which stage.py has put in reach.
import kernel
from packet import ICMP, SYN

PICTURE = """
  client         router                     director  203.0.113.10  VIP on eth0
  198.51.100.2 - 198.51.100.1, 203.0.113.1 -
                               10.1.0.1 --- web1      10.1.0.11     VIP on tunl0
                 VIP           10.2.0.1 --- web2      10.2.0.12     VIP on tunl0
                 203.0.113.80  10.3.0.1 --- web3      10.3.0.13     VIP on tunl0

  The director puts each packet, as it is, into another one that is addressed to
  a server, which may stand anywhere. The server unpacks it, finds the virtual
  address in it, which it has, too, and answers to the client itself. The
  answers never see the director.
"""

WEBS = [("web1", "10.1.0.11", 3), ("web2", "10.2.0.12", 2), ("web3", "10.3.0.13", 1)]
FALLBACKS = "/proc/sys/net/core/fb_tunnels_only_for_init_net"
UPLOAD = 1 << 20


class TunnelLab(ClassicLab):
    """One run of the lab. Each step leaves things as it found them."""

    def __init__(self, **how):
        super().__init__("TUN: tunnels", PICTURE, 11, "-i", WEBS, **how)

    def play(self):
        """All steps; returns the exit status."""
        return self.run(self.build, self.start_servers, self.start_balancer, self.spread, self.way_of_a_packet,
                        self.half_the_traffic, self.reverse_path, self.source_filter, self.mtu, self.black_hole,
                        self.through_udp)

    def build(self):
        """Namespaces, wires, addresses."""
        self.steps.step("Namespaces, wires and addresses")
        with open(FALLBACKS, encoding="ascii") as file:
            before = file.read()
        try:
            # So every machine has tunl0, as one that has loaded ipip.
            with open(FALLBACKS, "w", encoding="ascii") as file:
                file.write("0\n")
            self.make_sites(*self.addrs)
        finally:
            with open(FALLBACKS, "w", encoding="ascii") as file:
                file.write(before)
        for number, (name, addr, _) in enumerate(WEBS, 1):
            self.plug(name, self.webs[name], f"02:00:00:00:0{number + 1}:1{number}", f"02:00:00:00:0{number + 1}:01")
            self.ip(self.router, f"addr add 10.{number}.0.1/24 dev {name}")
            self.ip(self.webs[name], "link set lo up", "link set eth0 up", f"addr add {addr}/24 dev eth0",
                    f"route add default via 10.{number}.0.1")

    def start_servers(self):
        """nginx, and what tunnels ask of a server."""
        self.steps.step("The servers: the VIP on tunl0, where packets are unpacked")
        self.directories("director", *self.webs)
        for name, namespace in self.webs.items():
            do(namespace, "modprobe ipip")
            self.ip(namespace, "link set tunl0 up", f"addr add {VIP}/32 dev tunl0")
            # What a distribution has set for all devices would count for tunl0.
            do(namespace, "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.tunl0.rp_filter=0")
            do(namespace, "sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2")
            self.nginx(namespace, name)
        do(self.director, "curl -sSm20 http://10.1.0.11/ http://10.2.0.12/ http://10.3.0.13/", echo=True)
        say("  The director needs no tunnel device, and no setting.")

    def way_of_a_packet(self):
        """The first request on the wires, packed and unpacked."""
        self.steps.step("The way of the first request, as captured on the wires")
        client, name, _ = self.served[0]
        addr = self.addrs[name]
        at = {where: self.flow(where, client) for where in ("client", "director", name)}
        for where, limit in (("client", 3), ("director", 2), (name, 3)):
            say(f"  at {where}'s eth0:")
            self.tell(at[where][:limit], limit)
        sent, came, left, got = at["client"][0].packet, *at["director"][:2], at[name][0]
        self.steps.check((left.packet.src, left.packet.dst, left.packet.proto) == (DIRECTOR, addr, IPIP),
                         "the outer header is from the director to the server, and says protocol 4: IPIP")
        self.steps.equal(left.packet.total - left.inner.total, 20, "bytes that the packet is longer by")
        self.steps.check(got.inner.flow == sent.flow and got.inner.l4 == sent.l4, "in it is what the client has sent, "
                         "to the byte")
        ttls = (came.packet.ttl, left.inner.ttl, got.inner.ttl)
        self.steps.check(ttls == (sent.ttl - 1, sent.ttl - 2, sent.ttl - 2), "the inner TTL comes to the director as "
                         f"{ttls[0]}, leaves it as {ttls[1]}, and the tunnel leaves it so")
        self.steps.check(not any(frame.packet.src == VIP for frame in at["director"]), "no answer passes the director")
        answer = next(frame for frame in at[name] if frame.packet.src == VIP)
        self.steps.check(answer.inner is None and answer.packet.dst == CLIENT,
                         f"{name} answers to the client, in the VIP's name and without a tunnel")

    # -- the traps

    def rejected(self, namespace):
        """Packets that a machine has dropped because their source would be reached by another way."""
        told = do(namespace, "nstat -asz TcpExtIPReversePathFilter", echo=True)
        return int(told.split("IPReversePathFilter")[1].split()[0])

    def reverse_path(self):
        """rp_filter on the server."""
        self.steps.step("Trap: rp_filter on a server")
        web = self.webs["web2"]
        say("  web2 has rp_filter=1, as many distributions have:")
        do(web, "sysctl -qw net.ipv4.conf.all.rp_filter=1")
        before = self.rejected(web)
        served, failed = self.requests(6, seconds=1)
        self.steps.check("web2" not in [name for _, name, _ in served] and failed == ["Connection timed out"] * 2,
                         "the symptom: what web2 should serve is not answered")
        dropped = self.rejected(web) - before
        self.steps.check(dropped >= 2, f"web2 has dropped {dropped} packets: they come from tunl0, and its way back to "
                         "their source is eth0")
        say("  The cure, on tunl0 and on all, as the larger one counts:")
        do(web, "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.tunl0.rp_filter=0")
        self.spread_as_weighted()

    def source_filter(self):
        """A router that lets out no foreign sources."""
        self.steps.step("Trap: the server's network lets out only its own addresses")
        say("  web3's router takes from there only what it would send there:")
        do(self.router, "sysctl -qw net.ipv4.conf.web3.rp_filter=1")
        capture = self.capture(self.webs["web3"], "eth0", f"host {VIP} or proto {IPIP}")
        self.adm(f"-e -t {SERVICE} -r {self.addrs['web1']}:80 -i -w 0")
        self.adm(f"-e -t {SERVICE} -r {self.addrs['web2']}:80 -i -w 0")
        served, failed = self.requests(1, seconds=1)
        heard, = self.caught(capture)
        say("  at web3's eth0:")
        self.tell(heard, 2)
        self.steps.check(not served and failed == ["Connection timed out"], "the symptom: no answer")
        self.steps.check(heard[1].packet.src == VIP and self.names[heard[1].dst] == "router",
                         "web3 does answer, in the VIP's name; the router drops that")
        do(self.router, "sysctl -qw net.ipv4.conf.web3.rp_filter=0")
        served, failed = self.requests(1)
        self.steps.check(not failed, "the cure: that network lets the VIP out")
        do(self.router, "sysctl -qw net.ipv4.conf.web3.rp_filter=1")
        for name in ("web1", "web2"):
            self.adm(f"-e -t {SERVICE} -r {self.addrs[name]}:80 -i -w {self.weights[name]}")
        weights, self.weights = self.weights, {name: self.weights[name] for name in ("web1", "web2")}
        self.foreign("web3", self.addrs["web3"], 1, "no address but its own leaves its network",
                     "or FullNAT for this one, if nobody there lets the VIP out:")
        self.weights = weights
        do(self.router, "sysctl -qw net.ipv4.conf.web3.rp_filter=0")
        self.adm(f"-a -t {SERVICE} -r {self.addrs['web3']}:80 -i -w {weights['web3']}")

    def upload(self, seconds=20):
        """Sends a file to the VIP; returns whether that was done within some seconds."""
        told = do(self.client, f"curl -sSm{seconds * kernel.SLOW} -T {self.files}/upload http://{VIP}/put/upload 2>&1",
                  shell=True, may_fail=True, echo=True)
        return "timed out" not in told

    def mtu(self):
        """A full packet does not fit into the tunnel, and the client learns that."""
        self.steps.step("Tunnel MTU: 1500 bytes and a header of 20 are too many")
        large_file(f"{self.files}/upload", UPLOAD)
        capture = self.capture(self.client, "eth0", "icmp")
        self.steps.check(self.upload(), "an upload of full packets arrives")
        heard, = self.caught(capture)
        say("  at client's eth0:")
        self.tell(heard, 1)
        self.steps.check(heard and all(frame.packet.proto == ICMP and frame.packet.mtu == 1480 for frame in heard),
                         "the director has told the client to send 1480 bytes at most")
        route = do(self.client, f"ip route get {VIP}", echo=True)
        self.steps.check("mtu 1480" in route, "the client remembers it for a while")

    def black_hole(self):
        """The client never learns it."""
        self.steps.step("Trap: a client that does not hear ICMP")
        self.ip(self.client, "route flush cache")
        do(self.client, "nft 'add table ip lab; add chain ip lab in { type filter hook input priority 0; }; "
           "add rule ip lab in icmp type destination-unreachable drop'")
        served, failed = self.requests(2)
        self.steps.check(len(served) == 2 and not failed, "pages are served")
        self.steps.check(not self.upload(2), "the symptom: what is small works, an upload hangs")
        say("  The cure: the servers ask for smaller packets, by the MSS in their SYN.")
        for number, (name, _, _) in enumerate(WEBS, 1):
            self.ip(self.webs[name], f"route replace default via 10.{number}.0.1 advmss 1440")
        capture = self.capture(self.client, "eth0", f"src {VIP} and tcp[tcpflags] & tcp-syn != 0")
        self.steps.check(self.upload(), "the upload arrives")
        heard, = self.caught(capture)
        options = dict(heard[0].packet.tcp_options())
        self.steps.equal(int.from_bytes(options[2][2:], "big"), 1440, "the server's MSS, 40 less than 1480")
        say("  Or the wires between director and servers carry 1520 bytes.")
        do(self.client, "nft delete table ip lab")

    def through_udp(self):
        """GUE, for firewalls that pass only UDP."""
        self.steps.step("GUE: the same in UDP, for networks that pass no IPIP")
        do(None, "modprobe fou")
        do(self.webs["web1"], f"ip fou add port {GUE} gue")
        self.adm(f"-e -t {SERVICE} -r {self.addrs['web1']}:80 -i --tun-type gue --tun-port {GUE} -w 3")
        capture = self.capture(self.webs["web1"], "eth0", f"udp port {GUE}", "-s 200")
        made = self.spread_as_weighted()
        heard, = self.caught(capture)
        say("  at web1's eth0:")
        self.tell(heard, 1)
        syns = [frame for frame in heard if frame.inner and frame.inner.flags == SYN]
        told = {f"{frame.inner.src}:{frame.inner.sport}" for frame in syns} & {client for client, _, _ in made}
        self.steps.check(told == {client for client, name, _ in made if name == "web1"},
                         f"of the requests those that web1 served came in UDP, and no other: {len(told)}")
        self.steps.equal(syns[0].packet.total - syns[0].inner.total, 32, "bytes that the packet is longer by, for IP, "
                         "UDP and GUE")
        self.adm("-Ln --tun-info", echo=True)
        served = sum(len(lines(f"{self.dir}/{name}/access.log", "GET")) for name in self.addrs)
        self.steps.check(served >= 12, f"the servers' logs have {served} requests in all")
