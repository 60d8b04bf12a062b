# SPDX-License-Identifier: GPL-2.0
"""The lab of direct routing: how it is set up, what a packet looks like on its way, and five traps.

    client              router                              director 203.0.113.10, VIP on eth0
    198.51.100.2  wan-  198.51.100.1 | 203.0.113.1  --lan-- web1 web2 web3 .11 .12 .13, VIP on lo
                                     | 192.0.2.1    ------- web4 192.0.2.14
"""

from classic import CLIENT, DIRECTOR, ROUTER, SERVICE, VIP, ClassicLab
from stage import ADM, WIDTH, do, say, wrap

# The library of the selftests, which stage.py has put in reach.
import kernel
from lib import RLVS
from packet import ICMP, SYN

PICTURE = """
  client         router                        director  203.0.113.10  VIP on eth0
  198.51.100.2 - 198.51.100.1, 203.0.113.1 -+- web1      203.0.113.11  VIP on lo
                                            +- web2      203.0.113.12  VIP on lo
                     VIP 203.0.113.80       +- web3      203.0.113.13  VIP on lo

  The director changes nothing in a packet. It sends it on to the Ethernet
  address of a server, which must stand on the same wire. As the server has the
  virtual address, too, it takes the packet for its own and answers to the
  client itself, by its own default gateway. The answers, which are most of the
  traffic, never see the director.
"""

WEBS = [("web1", "203.0.113.11", 3), ("web2", "203.0.113.12", 2), ("web3", "203.0.113.13", 1)]
FAR = "192.0.2.14"
CLIENT6, VIP6 = "2001:db8:51::2", "2001:db8:113::80"


class DirectLab(ClassicLab):
    """One run of the lab. Each step leaves things as it found them."""

    def __init__(self, **how):
        super().__init__("DR: direct routing", PICTURE, 13, "-g", WEBS, **how)

    def play(self):
        """All steps; returns the exit status."""
        return self.run(self.build, self.start_servers, self.start_balancer, self.spread, self.way_of_a_packet,
                        self.half_the_traffic, self.arp_answered, self.arp_announced, self.other_port,
                        self.other_subnet, self.own_server, self.server_as_client, self.ipv6)

    def build(self):
        """Namespaces, wires, addresses."""
        self.steps.step("Namespaces, wires and addresses")
        self.make_sites(*self.addrs, "web4")
        for number, (name, addr, _) in enumerate(WEBS, 1):
            self.plug(name, self.webs[name], f"02:00:00:00:01:1{number}")
            self.ip(self.webs[name], "link set lo up", "link set eth0 up", f"addr add {addr}/24 dev eth0",
                    f"route add default via {ROUTER}")
        self.plug("web4", self.webs["web4"], "02:00:00:00:02:14", "02:00:00:00:02:01")
        self.ip(self.router, "addr add 192.0.2.1/24 dev web4")
        self.ip(self.webs["web4"], "link set lo up", "link set eth0 up", f"addr add {FAR}/24 dev eth0",
                "route add default via 192.0.2.1")

    def start_servers(self):
        """nginx, and what direct routing asks of a server."""
        self.steps.step("The servers: the VIP on lo, and silence about it")
        self.directories("director", *self.webs)
        say("  arp_ignore=1: an address is told only on the wire that it belongs to.")
        say("  arp_announce=2: questions are asked in the name of the wire's own address.")
        for name, namespace in self.webs.items():
            do(namespace, "sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2")
            self.ip(namespace, f"addr add {VIP}/32 dev lo")
            self.nginx(namespace, name, "80; listen [::]:80")
        do(self.director, "curl -sSm20 http://203.0.113.1[1-3]/", echo=True)

    def way_of_a_packet(self):
        """The first request on the wires: only Ethernet addresses and the TTL change, and the answer goes past."""
        self.steps.step("The way of the first request, as captured on the wires")
        client, name, _ = self.served[0]
        at = {where: self.flow(where, client) for where in ("client", "director", name)}
        for where, limit in (("client", 3), ("director", 4), (name, 3)):
            say(f"  at {where}'s eth0:")
            self.tell(at[where][:limit], limit)
        sent, passed, got = at["client"][0].packet, at["director"][1].packet, at[name][0].packet
        came = at["director"][0].packet
        self.steps.check(passed.flow == sent.flow == got.flow, "the addresses are the client's and the VIP, all the way")
        self.steps.check(got.l4 == sent.l4, "the TCP segment that the server gets is what the client sent, "
                         "to the byte")
        self.steps.check(at["director"][0].dst == at["director"][1].src, "the director's Ethernet address is the "
                         "target on the way in, and the source on the way out")
        self.steps.check((came.ttl, passed.ttl) == (sent.ttl - 1, sent.ttl - 2), "the director is a hop: the TTL comes as "
                         f"{came.ttl} and leaves as {passed.ttl}")
        self.steps.check(all(frame.packet.src == CLIENT for frame in at["director"]), "no answer passes the director")
        answer = next(frame for frame in at[name] if frame.packet.src == VIP)
        self.steps.check(self.names[answer.dst] == "router", f"{name} answers by the router, in the VIP's name")

    # -- the traps

    def learned(self):
        """Whose Ethernet address the router has for the VIP."""
        told = do(self.router, f"ip neigh show {VIP} dev lan", echo=True)
        return self.names.get(told.split("lladdr ")[1].split()[0]) if "lladdr" in told else None

    def forget(self):
        """The router asks anew."""
        do(self.router, "ip neigh flush dev lan")

    def arp_answered(self):
        """A server without arp_ignore answers for the VIP."""
        self.steps.step("Trap: a server answers ARP for the VIP")
        web = self.webs["web2"]
        say("  web2 has no arp_ignore, and today it is quicker than the director:")
        do(web, "sysctl -qw net.ipv4.conf.all.arp_ignore=0")
        delay = 200 * kernel.SLOW
        do(self.director, f"tc qdisc add dev eth0 root netem delay {delay}ms")
        self.forget()
        capture = self.capture(self.router, "lan", f"arp and host {VIP}")
        before = self.counted()[0]
        served, failed = self.requests(6)
        heard, = self.caught(capture)
        self.tell(heard, 3)
        answers = {self.names[frame.src] for frame in heard if frame.arp.operation == 2}
        self.steps.equal(" and ".join(sorted(answers)), "director and web2", "who said that the VIP is his")
        self.steps.equal(self.learned(), "web2", "whom the router believes")
        self.steps.check(not failed and {name for _, name, _ in served} == {"web2"}, "the symptom: web2 serves all, "
                         "whatever the weights")
        self.steps.equal(self.counted()[0] - before, 0, "new connections that the director counts")
        say("  The cure:")
        do(web, "sysctl -qw net.ipv4.conf.all.arp_ignore=1")
        do(self.director, "tc qdisc del dev eth0 root")
        self.forget()
        self.spread_as_weighted()
        self.steps.equal(self.learned(), "director", "whom the router believes")

    def arp_announced(self):
        """A server without arp_announce asks for its gateway in the VIP's name."""
        self.steps.step("Trap: a server asks in the VIP's name")
        web = self.webs["web2"]
        say("  web2 has arp_ignore, but no arp_announce. It has forgotten where its gateway")
        say("  is, and asks when it is to answer a client:")
        do(web, "sysctl -qw net.ipv4.conf.all.arp_announce=0")
        do(web, "ip neigh flush dev eth0")
        capture = self.capture(self.router, "lan", f"arp and host {ROUTER} and host {VIP}")
        served, failed = self.requests(12)
        heard, = self.caught(capture)
        self.tell(heard, 2)
        asked = [frame.arp for frame in heard if frame.arp.operation == 1]
        self.steps.check(asked and all((arp.sender, arp.target) == (VIP, ROUTER) for arp in asked),
                         "web2 asks in the VIP's name; who hears that, learns where the VIP is")
        self.steps.equal(self.learned(), "web2", "whom the router believes")
        names = [name for _, name, _ in served]
        self.steps.check(not failed and set(names[names.index("web2"):]) == {"web2"}, "the symptom: it works, until "
                         "web2 has asked; then web2 serves all")
        say("  The cure:")
        do(web, "sysctl -qw net.ipv4.conf.all.arp_announce=2")
        self.forget()
        do(web, "ip neigh flush dev eth0")
        self.spread_as_weighted()
        self.steps.equal(self.learned(), "director", "whom the router believes")

    def other_port(self):
        """Direct routing changes no port."""
        self.steps.step("Trap: another port")
        say("  Port 8080 of the VIP is to be served at port 80 of the servers:")
        self.adm(f"-A -t {VIP}:8080 -s rr")
        told = do(self.director, f"{ADM} -a -t {VIP}:8080 -r {self.addrs['web1']}:80 -g 2>&1", shell=True)
        for line in wrap(told.strip(), WIDTH - 2) if told else ():
            say(f"  {line}")
        if RLVS:
            self.steps.check("port 80 is not used" in told, "rlvsadm warns on stderr")
        listing = self.adm(f"-Ln -t {VIP}:8080", echo=True)
        self.steps.check(f"{self.addrs['web1']}:8080 " in listing, "the listing has the service's port")
        capture = self.capture(self.webs["web1"], "eth0", "tcp port 8080")
        _, failed = self.requests(1, f"http://{VIP}:8080/", trouble=True)
        heard, = self.caught(capture)
        say("  at web1's eth0:")
        self.tell(heard)
        self.steps.check(heard[0].packet.dport == 8080, "the packet arrives unchanged, at port 8080")
        self.steps.equal(", ".join(failed), "Connection refused", "the symptom, as nothing listens there")
        say("  The cure: a server that listens on the service's port, a method that changes")
        say("  ports (-m, --fullnat), or the server changes it:")
        do(self.webs["web1"], "nft 'add table ip lab; "
           "add chain ip lab ports { type nat hook prerouting priority dstnat; }; "
           f"add rule ip lab ports ip daddr {VIP} tcp dport 8080 redirect to :80'")
        served, _ = self.requests(1, f"http://{VIP}:8080/")
        self.steps.equal(" ".join(name for _, name, _ in served), "web1", "served by")
        do(self.webs["web1"], "nft delete table ip lab")
        self.adm(f"-D -t {VIP}:8080")

    def other_subnet(self):
        """A server behind a router cannot be reached by an Ethernet address."""
        self.steps.step("Trap: a server in another subnet")
        say(f"  web4 is {FAR}, behind the router. It has the VIP on lo as the others.")
        self.adm(f"-a -t {SERVICE} -r {FAR}:80 -g -w 2")
        capture = self.capture(self.director, "eth0", f"tcp[tcpflags] & tcp-syn != 0 or (icmp and host {CLIENT})",
                               "-s 128")
        served, failed = self.requests(8, seconds=2, trouble=True)
        self.settled()
        heard, = self.caught(capture)
        names = [name for _, name, _ in served]
        self.steps.check(len(failed) == 2 and "web4" not in names, "the symptom: what web4 should serve fails")
        end = next(frame for frame in heard if frame.packet.proto == ICMP)
        ours = [frame for frame in heard if frame.packet.flags == SYN and
                frame.packet.sport == int.from_bytes(end.packet.payload[20:22], "big")]
        say("  at director's eth0, one SYN:")
        self.tell(ours[:4])
        say("    ...")
        self.tell(ours[-1:] + [end])
        self.steps.check(len(ours) > 50, f"the router is on the way to web4, but the packet is for the VIP: so it "
                         f"comes back, {len(ours)} frames until its TTL is used up")
        self.foreign("web4", FAR, 2, "the VIP on its lo is not needed",
                     "a method that gives the packet another address. FullNAT for this one, or a tunnel (-i):")

    def own_server(self):
        """The director serves, too."""
        self.steps.step("Trap: the director as a server of its own")
        self.nginx(self.director, "director", f"{DIRECTOR}:80")
        self.wait_for_port(self.director, DIRECTOR)
        self.adm(f"-a -t {SERVICE} -r {DIRECTOR}:80 -g -w 2")
        do(self.director, f"curl -sSm20 http://{DIRECTOR}/", echo=True)
        say("  The web server is well. Nevertheless:")
        served, failed = self.requests(8, trouble=True)
        self.steps.equal(", ".join(failed), "Connection refused, Connection refused", "the symptom")
        do(self.director, "ss -Hltn", echo=True)
        self.steps.check(True, f"nginx listens on {DIRECTOR}; packets come for {VIP}, unchanged")
        say("  The cure: a server listens on the VIP, or on all addresses.")
        home = f"{self.dir}/director"
        do(self.director, f"sed -i 's/listen {DIRECTOR}:80/listen 80/' {home}/nginx.conf")
        do(self.director, f"nginx -p {home} -c nginx.conf -e error.log -s stop")
        self.nginx_again("director", self.director)
        served, failed = self.requests(8)
        self.steps.check(not failed and [name for _, name, _ in served].count("director") == 2, "the director serves "
                         "two of eight, and sees the client as they all do")
        say("  Two directors that are each other's servers hand packets back and forth:")
        say("  make lab LAB=keepalived shows that, and the cure.")
        self.adm(f"-d -t {SERVICE} -r {DIRECTOR}:80")

    def server_as_client(self):
        """On a server the VIP is local."""
        self.steps.step("Trap: a server as client of the VIP")
        told = do(self.webs["web3"], f"curl -sSm20 http://{VIP}/?[1-4]", echo=True)
        self.steps.check({line.split()[0] for line in told.splitlines()} == {"web3"}, "it asks itself, as it has the VIP")
        say("  What must be balanced from there takes FullNAT and no VIP on lo.")
        self.adm("-Ln", echo=True)

    def ipv6(self):
        """Neighbour discovery has no ARP problem."""
        self.steps.step("IPv6: the same, and no trap in neighbour discovery")
        for namespace, device in ((self.client, "eth0"), (self.router, "wan"), (self.router, "lan"),
                                  (self.director, "eth0"), *((self.webs[name], "eth0") for name in self.addrs)):
            for where in ("lo", device):
                namespace.sysctl(f"net.ipv6.conf.{where}.disable_ipv6", 0)
        self.ip(self.client, f"addr add {CLIENT6}/64 dev eth0 nodad", "route add ::/0 via 2001:db8:51::1")
        self.ip(self.router, "addr add 2001:db8:51::1/64 dev wan nodad", "addr add 2001:db8:113::1/64 dev lan nodad")
        do(self.router, "sysctl -qw net.ipv6.conf.all.forwarding=1")
        self.ip(self.director, "addr add 2001:db8:113::10/64 dev eth0 nodad", f"addr add {VIP6}/128 dev eth0 nodad",
                "route add ::/0 via 2001:db8:113::1")
        self.adm(f"-A -t [{VIP6}]:80 -s wrr")
        for number, (name, weight) in enumerate(self.weights.items(), 1):
            self.ip(self.webs[name], f"addr add 2001:db8:113::1{number}/64 dev eth0 nodad",
                    f"addr add {VIP6}/128 dev lo nodad", "route add ::/0 via 2001:db8:113::1")
            self.adm(f"-a -t [{VIP6}]:80 -r [2001:db8:113::1{number}]:80 -g -w {weight}")
        say("  IPv6 knows no arp_ignore, and no other setting is made for it.")
        capture = self.capture(self.router, "lan", "tcp port 80 or icmp6[0] == 136", "-s 128")
        served, failed = self.requests(6, f"http://[{VIP6}]/")
        heard, = self.caught(capture)
        have = [frame for frame in heard if frame.packet.target == VIP6]
        self.tell(have + [frame for frame in heard if frame.packet.flags == SYN], 3)
        names = [name for _, name, _ in served]
        self.steps.check(not failed and {name: names.count(name) for name in self.weights} == self.weights,
                         "by weight: " + self.spelled(names))
        self.steps.check(all(peer.startswith(CLIENT6) for _, _, peer in served), f"the servers saw {CLIENT6}: the client")
        self.steps.equal(", ".join({self.names[frame.src] for frame in have}), "director", "who said that the VIP is "
                         "his; an address on lo is told on no wire")
