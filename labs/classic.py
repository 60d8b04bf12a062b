# SPDX-License-Identifier: GPL-2.0
"""What the labs of direct routing and of tunnels have in common: a client behind a router, a director, servers.

    client              router                   director 203.0.113.10, VIP 203.0.113.80
    198.51.100.2  wan-  198.51.100.1 | 203.0.113.1  --lan--
"""

import json
import os
import re
import time

import frames
from stage import ADM, WIDTH, Capture, Lab, do, large_file, say, show, wrap

# The library of the selftests, which stage.py has put in reach.
import kernel
from lib import MODULE, RLVS, wait_for

CLIENT, VIP, ROUTER, DIRECTOR, LADDR = ("198.51.100.2", "203.0.113.80", "203.0.113.1", "203.0.113.10",
                                        "203.0.113.101")
SERVICE = f"{VIP}:80"
MACS = {"client": "02:00:00:00:00:02", "wan": "02:00:00:00:00:01", "lan": "02:00:00:00:01:01",
        "director": "02:00:00:00:01:10"}


class ClassicLab(Lab):
    """One run of such a lab: `webs` holds (server's name, address, weight), `how` is the option of the method."""

    def __init__(self, title, picture, total, how, webs, prefix="", size=20 << 20):
        super().__init__(title, picture, total, prefix)
        self.how, self.weights = how, {name: weight for name, _, weight in webs}
        self.addrs = {name: addr for name, addr, _ in webs}
        self.size = size
        # Names of Ethernet addresses, as captured frames are told.
        self.names = {mac: "router" if name in ("wan", "lan") else name for name, mac in MACS.items()}

    # -- helpers

    def adm(self, words, **how):
        """The balancer's command in the director."""
        return do(self.director, f"{ADM} {words}", **how)

    def capture(self, namespace, device, match, extra=""):
        """tcpdump in a namespace; `caught` ends it."""
        return Capture(namespace, device, f"{self.dir}/{namespace.name}-{device}.pcap", match, extra)

    @staticmethod
    def caught(*captures):
        """Ends captures; returns the frames of each."""
        for number, capture in enumerate(captures):
            capture.end(0 if number else 0.3)
        return [frames.read(capture.path) for capture in captures]

    def tell(self, heard, limit=6):
        """Prints frames."""
        frames.tell(heard, self.names, limit)

    def spelled(self, shares):
        """How often each server is named, as a text."""
        return ", ".join(f"{name} {shares.count(name)}" for name in sorted(set(shares)))

    def requests(self, count, url=f"http://{VIP}/", seconds=20, trouble=False, show_each=False):
        """Requests, each on a connection of its own; `trouble` has curl tell why some fail.

        Returns [(client, server's name, server's peer)] of those that were served, and why the others were not.
        """
        told = do(self.client, f"curl -sS{'v' if trouble else ''}m{seconds * kernel.SLOW} -H 'Connection: close' "
                  f"-w '%{{local_ip}}:%{{local_port}}\\n' {url}?[1-{count}] 2>&1", shell=True, may_fail=True)
        served, failed, why = [], [], None
        for line in told.splitlines():
            word = line.split()
            if reason := re.match(r"\* connect to .* failed: (.*)", line):
                why = reason[1]
            elif line.startswith("curl: "):
                timeout = re.search(r"timed out|timeout", line) and "Connection timed out"
                failed.append(why or timeout or line.removeprefix("curl: "))
                why = None
            elif re.fullmatch(r"\w+ [0-9a-f.:]+:\d+", line):
                served.append(["", *word])
            elif served and not served[-1][0] and re.fullmatch(r"[0-9a-f.:]+:\d+", line):
                served[-1][0] = line
        if show_each:
            for client, name, peer in served:
                say(f"    {client} was served by {name}, which saw {peer}")
        else:
            say(f"    served: {self.spelled([name for _, name, _ in served]) or 'none'}")
        for line in sorted(set(failed)):
            say(f"    {failed.count(line)} failed: {line}")
        return served, failed

    def spread_as_weighted(self):
        """Checks that requests are spread by weight again; returns all of them as `requests` does.

        Only if the director has counted others' connections among them are they made once more.
        """
        before = self.counted()[0]
        made, failed = self.requests(sum(self.weights.values()))
        served = made
        if not failed and self.counted()[0] - before > len(served):
            say("    others have opened connections meanwhile: once more")
            served, failed = self.requests(sum(self.weights.values()))
            made = made + served
        names = [name for _, name, _ in served]
        self.steps.check(not failed and {name: names.count(name) for name in self.weights} == self.weights,
                         "by weight again: " + ", ".join(f"{name} {weight}" for name, weight in self.weights.items()))
        return made

    def counted(self):
        """[connections, packets in, packets out, bytes in, bytes out] of the service so far."""
        listing = self.adm(f"-Ln -t {SERVICE} --stats --exact", quiet=True)
        return list(map(int, listing.splitlines()[2].split()[2:7]))

    def received(self, namespace, device):
        """Bytes that a device has received."""
        link = do(namespace, f"ip -s -j link show {device}", quiet=True)
        return json.loads(link)[0]["stats64"]["rx"]["bytes"]

    def settled(self):
        """Waits until nothing is on the wires any more."""
        before = None
        while before != (before := self.counted()):
            time.sleep(0.2 * kernel.SLOW)

    # -- the parts that both have

    def make_sites(self, *webs):
        """The client, the router, the director, and namespaces for the servers."""
        self.client, self.router, self.director = self.make("client", "router", "director")
        self.webs = dict(zip(webs, self.make(*webs)))
        self.ip(self.router, "link set lo up",
                f"link add wan address {MACS['wan']} type veth peer name eth0 address {MACS['client']} "
                f"netns {self.client.name}",
                f"link add lan address {MACS['lan']} type bridge",
                "link set wan up", "link set lan up",
                "addr add 198.51.100.1/24 dev wan", f"addr add {ROUTER}/24 dev lan")
        self.plug("director", self.director, MACS["director"])
        do(self.router, "sysctl -qw net.ipv4.ip_forward=1")
        self.ip(self.client, "link set eth0 up", f"addr add {CLIENT}/24 dev eth0",
                "route add default via 198.51.100.1")
        self.ip(self.director, "link set lo up", "link set eth0 up", f"addr add {DIRECTOR}/24 dev eth0",
                f"addr add {VIP}/32 dev eth0", f"route add default via {ROUTER}")

    def plug(self, name, namespace, address, port=""):
        """A wire from a machine's eth0 to the router: to its lan, or to a port of its own with an address."""
        self.names[address] = name
        if port:
            self.names[port] = "router"
        self.ip(self.router, f"link add {name}{port and ' address '}{port} type veth peer name eth0 address {address} "
                f"netns {namespace.name}", f"link set {name}{'' if port else ' master lan'} up")

    def start_balancer(self):
        """The module, and one service."""
        self.steps.step("The balancer")
        show("root", f"modprobe {MODULE}")
        kernel.load(MODULE)
        self.adm(f"-A -t {SERVICE} -s wrr")
        for name, weight in self.weights.items():
            self.adm(f"-a -t {SERVICE} -r {self.addrs[name]}:80 {self.how} -w {weight}")
        listing = self.adm("-Ln", echo=True)
        word = {"-g": "Route", "-i": "Tunnel"}[self.how]
        self.steps.equal(len(re.findall(rf"^  -> \S+:80 +{word} ", listing, re.M)), len(self.weights),
                         f"listed as {word}")
        if RLVS:
            self.steps.check(self.director.sysctl("net.ipv4.ip_forward") == "0", "the director need not forward: "
                             "ip_forward is 0")

    def spread(self):
        """Requests by weight; the servers see the client."""
        total = 2 * sum(self.weights.values())
        self.steps.step(f"{total} requests, spread by weight")
        self.wires = {name: self.capture(namespace, "eth0", f"host {CLIENT} or host {DIRECTOR}")
                      for name, namespace in [("client", self.client), ("director", self.director),
                                              *self.webs.items()]}
        self.served, failed = self.requests(total, show_each=True)
        self.steps.equal(self.spelled([name for _, name, _ in self.served]),
                         ", ".join(f"{name} {2 * weight}" for name, weight in self.weights.items()), "requests")
        self.steps.check(not failed and all(client == peer for client, _, peer in self.served),
                         "each server saw the client's own address")
        self.settled()
        self.wires = dict(zip(self.wires, self.caught(*self.wires.values())))

    def flow(self, name, client):
        """Frames captured at a machine's eth0 that belong to one of the requests, the client's end given."""
        return [frame for frame in self.wires[name] if frame.segment and frame.segment.flags is not None and
                client in (f"{frame.segment.src}:{frame.segment.sport}", f"{frame.segment.dst}:{frame.segment.dport}")]

    def half_the_traffic(self):
        """A download: the director sees the requests only."""
        mib = self.size >> 20
        self.steps.step(f"{mib} MiB: the answers do not pass the director")
        path = f"{self.files}/large"
        large_file(path, self.size)
        before, conns = self.received(self.director, "eth0"), self.counted()
        down = do(self.client, f"curl -sSm60 http://{VIP}/files/large | sha256sum", shell=True, echo=True)
        self.steps.check(down == do(None, f"sha256sum <{path}", shell=True, quiet=True), "it has arrived unharmed")
        self.settled()
        passed = self.received(self.director, "eth0") - before
        self.steps.check(passed < self.size // 10, f"of {mib} MiB the director has seen {passed >> 10} KiB, the "
                         "client's acknowledgements")
        now = self.counted()
        self.adm(f"-Ln -t {SERVICE} --stats", echo=True)
        self.steps.check(now[1] > conns[1] and now[2] == 0 and now[4] == 0, "so OutPkts and OutBytes are 0, always")
        os.unlink(path)

    def foreign(self, name, addr, weight, says, why):
        """The cure for a server that the method does not reach: FullNAT for that one."""
        if not RLVS:
            self.adm(f"-d -t {SERVICE} -r {addr}:80")
            return
        for line in wrap(f"The cure: {why}", WIDTH - 2):
            say(f"  {line}")
        self.ip(self.director, f"addr add {LADDR}/24 dev eth0")
        self.adm(f"-P -t {SERVICE} -z {LADDR}")
        self.adm(f"-e -t {SERVICE} -r {addr}:80 --fullnat -w {weight}")
        served, failed = self.requests(sum(self.weights.values()) + weight)
        names = [who for _, who, _ in served]
        self.steps.check(not failed and names.count(name) == weight, f"{name} serves {weight} of them")
        peers = {peer.split(":")[0] for _, who, peer in served if who == name}
        self.steps.check(peers == {LADDR}, f"{name} saw {LADDR}, the director's local address; {says}")
        self.adm("-Ln", echo=True)
        self.adm(f"-d -t {SERVICE} -r {addr}:80")
        self.adm(f"-Q -t {SERVICE} -z {LADDR}")
        self.ip(self.director, f"addr del {LADDR}/24 dev eth0")

    def wait_for_port(self, namespace, addr, port=80):
        """Waits until something listens there."""
        wait_for(lambda: do(namespace, f"ss -Hltn src {addr}:{port}", quiet=True).strip(), 10, 0.1,
                 f"port {port} of {addr}")
