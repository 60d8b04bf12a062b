# SPDX-License-Identifier: GPL-2.0
"""Schedulers beside ip_vs's: from the same configuration the same server, connection for connection.

Each scenario tells what it has configured and changed, and for each connection which server it went to. It
runs on ip_vs and on rlvs, and both must tell the same. On the debug kernel, which shows no differences but
splats, only rlvs runs.
"""

import os
import socket
import time

import genl
import ipv6
import kernel
import packet
import sched
from fwmark import marked
from genl import Genl
from lib import _MAC, GHOST_CLIENTS, GHOST_SERVERS, RLVS, VIP, Skip, Tap, each
from packet import UDP
from packet6 import ip6

SPOILS_WORLD = True

# Each pass loads its module.
LOAD = False

MODULES = ("ip_vs", "rlvs")
SERVERS = GHOST_SERVERS[:6]
# Addresses that the director takes for its own, and the mark that their service knows them by.
MANY, MARK = [f"10.9.2.{n}" for n in range(1, 41)], 77
VIP6, SERVERS6 = ipv6.VIP, [f"fd02::{n}" for n in range(103, 107)]
MANY6 = [f"fd09::{n}" for n in range(101, 109)]
FALLBACK, PORT = 0x8, 0x10
# Clients of a network behind c0, spread over it, with any ports.
CROWD = [(f"10.{64 + n % 64}.{n * 7 % 256}.{n * 31 % 256}", 1024 + n * 577 % 60000) for n in range(150)]
CROWD6_NET = "fd03::/16"
CROWD6 = [(f"fd03:{n * 7919 % 65536:x}:{n:x}::{n * 31 + 1:x}", 1024 + n * 577 % 60000) for n in range(100)]


def datagram(client, service):
    """A UDP packet from one (address, port) to another."""
    (src, sport), (dst, dport) = client, service
    make = ip6 if ":" in src else packet.ip
    return make(src, dst, UDP, packet.udp(src, dst, sport, dport, b""))


class Lab:
    """One scenario: a service of its own, and a record of what has become of connections."""

    def __init__(self, world):
        self.world, self.record = world, []
        self.ipvs = self.service = self.names = None
        self.at_client, self.at_server = Tap(world.client, "c0"), Tap(world.server, "s0")

    def close(self):
        """Takes all of it down."""
        if self.service:
            self.call(genl.DEL_SERVICE, self.service)
        for tap in (self.at_client, self.at_server):
            tap.sock.close()

    def call(self, command, payload):
        """Carries out a netlink command."""
        with self.world.director, Genl("IPVS") as ipvs:
            ipvs.call(command, payload)

    def serve(self, name, weights=(), *, flags=0, addr=VIP, port=None, servers=SERVERS):
        """Adds a service with a scheduler and with servers of these weights."""
        self.names = (addr, port or self.world.port(), UDP)
        self.service = genl.service(*self.names, full=False)
        self.call(genl.NEW_SERVICE, genl.service(*self.names, name.encode() + b"\0", flags=flags))
        for server, weight in zip(servers, weights):
            self.add(server, weight)

    def edit(self, name, flags=0):
        """Gives the service another scheduler."""
        self.call(genl.SET_SERVICE, genl.service(*self.names, name.encode() + b"\0", flags=flags))

    def add(self, server, weight):
        """Adds a server."""
        self.call(genl.NEW_DEST, self.service + genl.dest(server, 53, weight))

    def weigh(self, server, weight):
        """Gives a server another weight."""
        self.call(genl.SET_DEST, self.service + genl.dest(server, 53, weight))

    def remove(self, server):
        """Takes a server away."""
        self.call(genl.DEL_DEST, self.service + genl.dest(server, 53, full=False))

    def ask(self, clients, services=None):
        """Has clients send a datagram each, and records which server gets it, or none."""
        # Behind all of them one that some server always gets: then the others have been dealt with.
        last = (GHOST_CLIENTS[15], self.world.port())
        services = services or [self.names[:2]] * len(clients)
        self.at_client.send(*map(datagram, clients, services), datagram(last, LAST))
        got, end = {}, time.monotonic() + 20 * kernel.SLOW
        while last not in got:
            assert time.monotonic() < end, f"the last datagram did not arrive; {len(got)} did"
            for seen in self.at_server.heard():
                got[seen.src, seen.sport] = seen.dst
            time.sleep(0.01)
        self.record.append([got.get(client) for client in clients])


LAST = (VIP, 19999)


def turns(lab):
    """Servers come, go and change between the connections of a round; another scheduler takes over."""
    at = 0

    def some(count):
        nonlocal at
        lab.ask(CROWD[at:at + count])
        at += count
    lab.serve("rr")
    for name in ("rr", "wrr"):
        lab.edit(name)
        for server, weight in zip(SERVERS, (3, 1, 2, 6)):
            lab.add(server, weight)
            some(5)
        lab.remove(SERVERS[1])
        some(5)
        lab.weigh(SERVERS[0], 0)
        some(4)
        lab.add(SERVERS[4], 4)
        lab.weigh(SERVERS[0], 9)
        some(9)
        lab.weigh(SERVERS[0], 8)
        lab.remove(SERVERS[3])
        some(7)
        for server in SERVERS[0], SERVERS[2], SERVERS[4]:
            lab.remove(server)


def turns_from(name):
    """A service that has its servers before it has its scheduler."""
    def scenario(lab):
        lab.serve("fo", (4, 2, 6, 4))
        lab.edit(name)
        lab.weigh(SERVERS[1], 8)
        lab.ask(CROWD[:30])
    return scenario


def counts(name):
    """UDP's connections count as inactive ones."""
    def scenario(lab):
        lab.serve(name, (2, 1, 0, 3, 5))
        lab.ask(CROWD[:40])
        lab.weigh(SERVERS[2], 4)
        lab.weigh(SERVERS[4], 0)
        lab.ask(CROWD[40:60])
    return scenario


def hashed(name, flags=0):
    """By client, with servers that pause, go and come back in another order."""
    def scenario(lab):
        lab.serve(name, (1, 3, 0, 2, 200), flags=flags)
        lab.ask(CROWD)
        lab.weigh(SERVERS[1], 0)
        lab.ask([(addr, port + 1) for addr, port in CROWD])
        lab.remove(SERVERS[3])
        lab.add(SERVERS[3], 2)
        lab.weigh(SERVERS[4], 1)
        lab.ask([(addr, port + 2) for addr, port in CROWD])
    return scenario


def hashed6(name, flags=0):
    """The same for IPv6."""
    def scenario(lab):
        lab.serve(name, (1, 3, 2, 0), flags=flags, addr=VIP6, servers=SERVERS6)
        lab.ask(CROWD6)
        lab.weigh(SERVERS6[1], 0)
        lab.ask([(addr, port + 1) for addr, port in CROWD6])
    return scenario


def addresses6(lab):
    """Services at several addresses of IPv6."""
    for addr in MANY6:
        if lab.service:
            lab.call(genl.DEL_SERVICE, lab.service)
        lab.serve("dh", (1, 3, 2, 0), addr=addr, servers=SERVERS6)
        lab.ask(CROWD6[:3])


def by_address(name):
    """By the address that clients ask for, while servers pause, come and go."""
    def scenario(lab):
        lab.serve(name, (1, 2, 3), addr=MARK, port=socket.AF_INET)
        services, at = [(addr, 53) for addr in MANY], 0

        def all_addresses():
            nonlocal at
            at += 1
            lab.ask([(addr, port + at) for addr, port in CROWD[:len(MANY)]], services)
        all_addresses()
        all_addresses()
        lab.weigh(SERVERS[2], 0)
        lab.add(SERVERS[3], 5)
        all_addresses()
        lab.weigh(SERVERS[2], 3)
        lab.remove(SERVERS[0])
        all_addresses()
        lab.add(SERVERS[0], 1)
        all_addresses()
    return scenario


def held(name, weights=(1, 3, 2)):
    """Connections of TCP that stay open, then those of one server end, then there are more of them."""
    def scenario(lab):
        with sched.Servers(lab.world, name, weights) as servers:
            lab.record.append(opened(servers, 9))
            servers.close(1)
            lab.record.append(opened(servers, 4))
            servers.weight(0, 5)
            lab.record.append(opened(servers, 4))
    return scenario


def opened(servers, count):
    """The server of each new connection; None if it was refused."""
    order = []
    for _ in range(count):
        try:
            order += servers.open(1)
        except ConnectionRefusedError:
            order.append(None)
    return order


SCENARIOS = {
    "turns": turns,
    **{f"turns_from_{name}": turns_from(name) for name in ("rr", "wrr")},
    **{f"count_{name}": counts(name) for name in ("lc", "wlc", "sed", "nq", "fo", "ovf")},
    **{f"{name}{suffix}": hashed(name, flags) for name in ("sh", "mh") for suffix, flags in
       (("", 0), ("_fallback", FALLBACK), ("_port", PORT), ("_both", FALLBACK | PORT))},
    **{f"{name}_ipv6": hashed6(name, FALLBACK | PORT) for name in ("sh", "mh")},
    "rr_ipv6": hashed6("rr"),
    "dh_ipv6": addresses6,
    **{f"address_{name}": by_address(name) for name in ("dh", "lblc", "lblcr")},
    **{f"held_{name}": held(name) for name in ("rr", "wrr", "lc", "wlc", "sed", "nq", "fo", "ovf", "lblc", "lblcr")},
}

_ready = []
_records = {module: {} for module in MODULES}


def modules():
    """Those that run here."""
    if not RLVS:
        return ["ip_vs"]
    return ["rlvs"] if kernel.DEBUG else list(MODULES)


def run_pass(world, module):
    """Loads a module, runs all scenarios on it, unloads it."""
    kernel.load(module)
    # Packets stay in order if nothing takes them to another CPU.
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    last = Lab(world)
    try:
        with marked(world, "ip daddr 10.9.2.0/24 meta mark set 77"):
            last.serve("rr", (1,), port=LAST[1], servers=GHOST_SERVERS[15:])
            for name, scenario in SCENARIOS.items():
                start, lab = time.monotonic(), Lab(world)
                try:
                    scenario(lab)
                finally:
                    lab.close()
                _records[module][name] = lab.record
                print(f"# {name} {time.monotonic() - start:.2f} s")
    finally:
        last.close()
        os.sched_setaffinity(0, cpus)
        with world.director, Genl("IPVS") as ipvs:
            ipvs.call(genl.FLUSH)
        kernel.unload(module)


@each(*MODULES)
def test_pass(world, module):
    """All scenarios run on one module."""
    if module not in modules():
        raise Skip("only ip_vs is tested" if module == "rlvs" else "the release kernel compares")
    if not _ready:
        _ready.append(True)
        ipv6.ready(world)
        mac = bytes.fromhex(_MAC["s0"]).hex(":")
        world.director.ip(
            *(f"addr add {addr}/32 dev lo" for addr in MANY),
            *(f"addr add {addr}/128 dev lo nodad" for addr in MANY6),
            f"route add {CROWD6_NET} via {ipv6.GHOST_CLIENT}",
            *(f"neigh add {addr} lladdr {mac} dev ds nud permanent" for addr in SERVERS6))
    run_pass(world, module)


@each(*SCENARIOS)
def test_same(_, name):
    """Both modules choose the same."""
    records = [_records[module].get(name) for module in modules()]
    assert all(records), "the scenario did not run"
    assert len({server for part in records[0] for server in part} - {None}) > 1, records[0]
    if len(records) == 2:
        theirs, ours = records
        assert ours == theirs, "\n".join(f"{step}: {our}\ninstead of {their}" for step, (our, their)
                                         in enumerate(zip(ours, theirs)) if our != their)
