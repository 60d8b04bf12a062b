# SPDX-License-Identifier: GPL-2.0
"""The NAT and the FullNAT lab: a client, a director, three web servers, and nine steps or ten.

    client              director                            web1 web2 web3
    198.51.100.2  wan-  198.51.100.1 | 10.0.0.1  --lan----  10.0.0.11 .12 .13
                        VIP 203.0.113.80
"""

import json
import os
import re
import socket
import subprocess
import time

from stage import ADM, Capture, Lab, LabFailed, do, large_file, lines, paint, say, show, station

# The library of the selftests, which stage.py has put in reach.
import kernel
from lib import MODULE, wait_for
from packet import SYN

CLIENT, VIP, GATEWAY = "198.51.100.2", "203.0.113.80", "10.0.0.1"
LADDRS = ["10.0.0.101", "10.0.0.102"]
WEBS = [("web1", "10.0.0.11", 3), ("web2", "10.0.0.12", 2), ("web3", "10.0.0.13", 1)]
SIZE = 100 << 20


class WebLab(Lab):
    """One run of the steps; `method` is "nat" or "fullnat"."""

    def __init__(self, method, title, picture, total=9, prefix="", size=SIZE):
        super().__init__(title, picture, total, prefix)
        self.size, self.mib = size, f"{size >> 20}M"
        self.method, self.fullnat = method, method == "fullnat"
        self.how = "--fullnat" if self.fullnat else "-m"
        # Each request: the client's address and port, who answered, and the peer that one saw.
        self.requests, self.told, self.opened = [], {}, 0

    def play(self):
        """All steps; returns the exit status."""
        return self.run(*self.parts())

    def parts(self):
        """The steps in order."""
        return [self.build, self.start_servers, self.start_balancer, self.spread, self.way_of_a_packet,
                *([self.true_clients] if self.fullnat else []),
                self.bulk, self.datagrams, self.drain, self.tables]

    def adm(self, words, **how):
        """The balancer's command in the director."""
        return do(self.director, f"{ADM} {words}", **how)

    def each_service(self):
        """Option and port of both services, and the scheduler each gets."""
        return (("-t", 80, "wrr"), ("-u", 5353, "rr"))

    def build(self):
        """Namespaces, wires, addresses."""
        self.steps.step("Namespaces, wires and addresses")
        self.client, self.director, *self.webs = self.make("client", "director", *(web for web, _, _ in WEBS))
        self.ip(self.director,
                "link add wan address 02:00:00:00:00:01 type veth peer name eth0 "
                f"address 02:00:00:00:00:02 netns {self.client.name}",
                "link add lan type bridge",
                *(line for (name, _, _), web in zip(WEBS, self.webs) for line in (
                    f"link add {name} type veth peer name eth0 netns {web.name}",
                    f"link set {name} master lan up")),
                "link set lo up", "link set wan up", "link set lan up",
                "addr add 198.51.100.1/24 dev wan", f"addr add {GATEWAY}/24 dev lan",
                f"addr add {VIP}/32 dev lo",
                *(f"addr add {laddr}/24 dev lan" for laddr in LADDRS if self.fullnat),
                f"neigh add {CLIENT} lladdr 02:00:00:00:00:02 dev wan")
        self.ip(self.client, "link set eth0 up", f"addr add {CLIENT}/24 dev eth0",
                "neigh add 198.51.100.1 lladdr 02:00:00:00:00:01 dev eth0",
                "route add default via 198.51.100.1")
        for web, (_, addr, _) in zip(self.webs, WEBS):
            self.ip(web, "link set lo up", "link set eth0 up", f"addr add {addr}/24 dev eth0",
                    *([] if self.fullnat else [f"route add default via {GATEWAY}"]))
        do(self.director, "sysctl -qw net.ipv4.ip_forward=1")
        if self.fullnat:
            for web in self.webs:
                routes = do(web, "ip route", echo=True)
                self.steps.check("default" not in routes and "198.51" not in routes,
                                 f"{web.name} has no route to the client")

    def start_servers(self):
        """nginx and a UDP service on each server, and a file to serve."""
        self.steps.step("A real web server in each of the three")
        self.directories(*(name for name, _, _ in WEBS))
        self.file = os.path.join(self.files, self.mib)
        large_file(self.file, self.size)
        for web, (name, _, _) in zip(self.webs, WEBS):
            self.nginx(web, name)
            answer = f"SYSTEM:echo {name} $SOCAT_PEERADDR\\:$SOCAT_PEERPORT"
            show(name, f"socat -t 30 UDP4-RECVFROM:5353,fork '{answer}' &")
            with web:
                self.children.append(subprocess.Popen(["socat", "-t", "30", "UDP4-RECVFROM:5353,fork", answer]))
        do(self.webs[0], "curl -sSm60 http://10.0.0.11/", echo=True)

    def start_balancer(self):
        """The module and its configuration."""
        self.steps.step("The balancer")
        show("root", f"modprobe {MODULE}")
        kernel.load(MODULE)
        for kind, port, sched in self.each_service():
            self.adm(f"-A {kind} {VIP}:{port} -s {sched}")
            if self.fullnat:
                self.adm(f"-P {kind} {VIP}:{port} -z {LADDRS[0]}-{LADDRS[-1]}")
            for _, addr, weight in WEBS:
                self.adm(f"-a {kind} {VIP}:{port} -r {addr}:{port} {self.how} -w {weight}")
        listing = self.adm("-Ln", echo=True)
        self.steps.equal(len(re.findall(r"^  -> 10\.", listing, re.M)), 6, "destinations")
        self.wire_before = self.wire()

    def wire(self):
        """Packets that the director has received from the client, and sent to it."""
        link = json.loads(do(self.director, "ip -s -j link show wan", quiet=True))[0]["stats64"]
        return link["rx"]["packets"], link["tx"]["packets"]

    def curl_roots(self, count):
        """Requests, each on a connection of its own: [(client, server's name, server's peer)]."""
        told = do(self.client, "curl -sSm60 -H 'Connection: close' "
                  f"-w '%{{local_ip}}:%{{local_port}}\\n' http://{VIP}/?[1-{count}]").split()
        self.opened += count
        return [(told[n + 2], told[n], told[n + 1]) for n in range(0, len(told), 3)]

    def spread(self):
        """Requests, spread by weight."""
        self.steps.step("Twelve requests, spread by weight 3:2:1")
        self.at = {name: Capture(namespace, "eth0", f"{self.dir}/{name}.pcap", "tcp port 80")
                   for name, namespace in zip(("client", *(name for name, _, _ in WEBS)), [self.client, *self.webs])}
        self.requests = self.curl_roots(12)
        for client, name, peer in self.requests:
            say(f"    {client} was served by {name}, which saw {peer}")
        self.steps.equal(shares(web for _, web, _ in self.requests), "web1 6, web2 4, web3 2", "requests")
        for name, _, _ in WEBS:
            # The lines are written when a connection ends.
            log = wait_for(lambda path=f"{self.dir}/{name}/access.log": lines(path, '"GET /?'))
            self.steps.check({line.split()[0] for line in log} ==
                             {peer for _, web, peer in self.requests if web == name},
                             f"{name}'s access log names the same peers")
        self.at = {name: capture.packets() for name, capture in self.at.items()}

    def way_of_a_packet(self):
        """What the first request looked like at each station, and what the servers were told."""
        self.steps.step("The way of the first request, as captured on the wires")
        client, name, peer = self.requests[0]
        for end, mine, where in (("client", client, "the client"), (name, peer, name)):
            say(f"  at {where}'s eth0:")
            flow = [seen for seen in self.at[end]
                    if mine in (f"{seen.src}:{seen.sport}", f"{seen.dst}:{seen.dport}")]
            for seen in flow[:6]:
                station(seen)
        if not self.fullnat:
            self.steps.check(all(client == peer for client, _, peer in self.requests),
                             "each server saw the client's own address")
            return
        for name, _, _ in WEBS:
            for seen in self.at[name]:
                for addr, port in seen.toa():
                    self.told.setdefault((name, f"{seen.src}:{seen.sport}"), set()).add(f"{addr}:{port}")
        self.steps.check(all(peer.split(":")[0] in LADDRS for _, _, peer in self.requests),
                         "each server saw one of the local addresses as its peer")
        self.steps.check(all(self.told.get((name, peer)) == {client}
                             for client, name, peer in self.requests),
                         "TOA told each server the client's true address and port, 12 of 12")
        syns = [seen for name, _, _ in WEBS for seen in self.at[name] if seen.flags == SYN]
        self.steps.check(len(syns) == 12 and all(seen.toa() for seen in syns), "it is in each SYN")
        heard = self.at["client"]
        self.steps.check(heard and not any(seen.toa() for seen in heard), "the client never sees it")
        self.steps.check(all(not seen.toa() for name, _, _ in WEBS for seen in self.at[name]
                             if seen.src not in LADDRS), "no server sends it")

    def true_clients(self):
        """rlvs-toa on the servers, which are nginx as before: its access log names the client."""
        self.steps.step("The servers are shown their clients")
        do(None, f"rlvs-toa attach --from {' '.join(LADDRS)}", echo=True)
        requests = self.curl_roots(6)
        for client, name, peer in requests:
            say(f"    {client} was served by {name}, which saw {peer}")
        self.steps.check(all(client == peer for client, _, peer in requests),
                         "each server saw the client's own address and port")
        for name, _, _ in WEBS:
            ours = {peer for _, web, peer in requests if web == name}
            log = wait_for(lambda path=f"{self.dir}/{name}/access.log", ours=ours:
                           [line for line in lines(path, '"GET /?') if line.split()[0] in ours])
            self.steps.check({line.split()[0] for line in log} == ours, f"{name}'s access log names them")
        with self.client:
            sock = socket.create_connection((VIP, 80), 10)
        self.opened += 1
        with sock:
            ask(sock)
            watched = do(None, "rlvs-toa watch", echo=True)
            own = f"{CLIENT}:{sock.getsockname()[1]}"
            self.steps.check(own in watched, f"an open connection is {own}")
        do(None, "rlvs-toa detach", echo=True)

    def bulk(self):
        """A large file down and up."""
        mib = self.size >> 20
        self.steps.step(f"{mib} MiB down and {mib} MiB up, segmentation offload on")
        offload = do(self.director, "ethtool -k wan", quiet=True)
        for feature in ("tx-checksumming", "tcp-segmentation-offload"):
            self.steps.check(f"{feature}: on" in offload, f"{feature} is on")
        true = do(None, f"sha256sum <{self.file}", shell=True, echo=True)
        capture = Capture(self.director, "lan", f"{self.dir}/lan.pcap", "tcp port 80", "-s 96 -c 500")
        start = time.monotonic()
        down = do(self.client, f"curl -sSm60 http://{VIP}/files/{self.mib} | sha256sum", shell=True, echo=True)
        say(f"    {mib / (time.monotonic() - start):.0f} MiB/s, hashing included")
        self.steps.check(down == true, "the download has the same SHA-256")
        start = time.monotonic()
        do(self.client, f"curl -sSm60 -T {self.file} http://{VIP}/put/{self.mib}", shell=True)
        say(f"    {mib / (time.monotonic() - start):.0f} MiB/s")
        self.opened += 2
        stored = [name for name, _, _ in WEBS if os.path.exists(f"{self.dir}/{name}/put/{self.mib}")]
        self.steps.equal(len(stored), 1, "servers that have the upload")
        up = do(None, f"sha256sum <{self.dir}/{stored[0]}/put/{self.mib}", shell=True, echo=True)
        os.unlink(f"{self.dir}/{stored[0]}/put/{self.mib}")
        self.steps.check(up == true, f"the upload to {stored[0]} has the same SHA-256")
        largest = max(length for _, length, _ in capture.stop())
        self.steps.check(largest > 10000, f"the director forwards packets of {largest} bytes as one")

    def datagrams(self):
        """UDP there and back."""
        self.steps.step("UDP")
        self.udp_bytes = [0, 0]
        seen = []
        for number in range(6):
            with self.client:
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with sock:
                sock.settimeout(10)
                sock.connect((VIP, 5353))
                sock.send(b"hello")
                answer = sock.recv(100)
                self.udp_bytes = [self.udp_bytes[0] + 33, self.udp_bytes[1] + 28 + len(answer)]
                seen.append(answer.decode().split())
                say(f"    {CLIENT}:{sock.getsockname()[1]} says hello, {' saw '.join(seen[-1])}")
        self.steps.equal(shares(who for who, _ in seen), "web1 2, web2 2, web3 2", "datagrams")
        peers = {peer.split(":")[0] for _, peer in seen}
        self.steps.check(peers <= set(LADDRS) if self.fullnat else peers == {CLIENT},
                         f"the servers saw {' and '.join(sorted(peers))}")

    def drain(self):
        """A server is taken out of service without breaking what it serves."""
        self.steps.step("A server is taken out: weight 0")
        with self.client:
            sock = socket.create_connection((VIP, 80), 10)
        self.opened += 1
        with sock:
            name, peer = ask(sock)
            addr = dict((web, addr) for web, addr, _ in WEBS)[name]
            say(f"    a connection stays open to {name}, which sees {peer}")
            self.adm(f"-e -t {VIP}:80 -r {addr}:80 {self.how} -w 0")
            others = [web for _, web, _ in self.curl_roots(6)]
            say(f"    six new requests: {' '.join(others)}")
            self.steps.check(name not in others, f"{name} gets no new connection")
            self.steps.check(ask(sock) == (name, peer), f"the open one goes on with {name}")
            listing = self.adm(f"-Ln -t {VIP}:80", echo=True)
            row = re.search(rf"-> {re.escape(addr)}:80 +\w+ +(\d+) +(\d+)", listing)
            self.steps.check(row and row.groups() == ("0", "1"),
                             f"{name} is listed with weight 0 and one active connection")
        weight = dict((web, weight) for web, _, weight in WEBS)[name]
        self.adm(f"-e -t {VIP}:80 -r {addr}:80 {self.how} -w {weight}")
        self.steps.check(name in [web for _, web, _ in self.curl_roots(6)], f"{name} is back")

    def tables(self):
        """What the balancer has counted."""
        self.steps.step("Tables and counters")
        # The last FINs may still be on their way.
        before = None
        while before != (before := self.wire()):
            time.sleep(0.3)
        self.adm("-Ln", echo=True)
        conns = self.adm("-Lnc")
        for line in conns.splitlines()[:6]:
            say("    " + line)
        say(f"    ... {len(conns.splitlines()) - 2} connections in all")
        if self.fullnat:
            self.adm("-G -n", echo=True)
            counters = do(self.director, "cat /proc/net/rlvs_ext_stats")
            for line in counters.splitlines():
                if not line.endswith(" 0"):
                    say("    " + line)
        stats = {}
        for kind, port, _ in self.each_service():
            self.adm(f"-Ln {kind} {VIP}:{port} --stats", echo=True)
            listing = self.adm(f"-Ln {kind} {VIP}:{port} --stats --exact", quiet=True)
            rows = [list(map(int, line.split()[2:7])) for line in listing.splitlines()[2:]]
            self.steps.check(rows[0] == [sum(column) for column in zip(*rows[1:])],
                             "the destinations add up to the service")
            stats[kind] = rows[0]
        self.steps.equal(stats["-t"][0], self.opened, "TCP connections, as many as were opened")
        self.steps.check(min(stats["-t"][3:5]) > self.size, f"{self.size >> 20} MiB each way are counted")
        self.steps.equal(stats["-u"], [6, 6, 6, *self.udp_bytes], "UDP connections, packets, bytes")
        wire = [after - before for before, after in zip(self.wire_before, self.wire())]
        counted = [sum(column) for column in zip(*(row[1:3] for row in stats.values()))]
        self.steps.equal(counted, wire, "packets from and to the client, as the wire counted them")

    def summary(self):
        """Who was served by whom, and whom each server saw."""
        say()
        say(paint("1", "Who was served by whom"))
        columns = "  {:<3}{:<21}{:<7}{:<20}{}"
        last = "TOA said" if self.fullnat else ""
        say(columns.format("", "client", "server", "the server's peer", last).rstrip())
        for number, (client, name, peer) in enumerate(self.requests, 1):
            toa = " ".join(self.told.get((name, peer), ()))
            say(columns.format(number, client, name, peer, toa).rstrip())
        super().summary()


def shares(names):
    """How often each server is named."""
    names = list(names)
    return ", ".join(f"{name} {names.count(name)}" for name, _, _ in WEBS)


def ask(sock):
    """A request on a connection that stays open: (server's name, its peer)."""
    sock.sendall(f"GET / HTTP/1.1\r\nHost: {VIP}\r\n\r\n".encode())
    answer = b""
    while not re.search(rb"\r\n\r\n.*\n", answer):
        more = sock.recv(4096)
        if not more:
            raise LabFailed("the connection was closed")
        answer += more
    return tuple(answer.split(b"\r\n\r\n")[1].decode().split())
