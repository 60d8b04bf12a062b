# SPDX-License-Identifier: GPL-2.0
"""Transfers over lines that lose, double, reorder, corrupt and delay, by every method: every byte is looked at.

    client ---- director ---- server    netem both ways on both lines, and on the third, which answers of direct
      |_________________________|       routing and tunnels take; nothing of it may reach an application

RLVS_TRANSFERS is the number of all transfers together. `RLVS_TRANSFERS=10000 RLVS_TIMEOUT=3600 qemu/run --
selftests/run -k ^netem` is the whole of it.
"""

import asyncio
import hashlib
import os
import socket
import struct
import time

import kernel
from lib import TOOL, Namespace, each, need_rlvs, run
from process import Process

TRANSFERS = int(os.environ.get("RLVS_TRANSFERS", "120" if kernel.DEBUG else "1800"))
AT_ONCE = 60
METHODS = {"nat": "-m", "fullnat": "--fullnat", "dr": "-g", "ipip": "-i --tun-type ipip",
           "gre": "-i --tun-type gre", "gue": "-i --tun-type gue --tun-port 6080"}
# Families of the service and of the servers.
WAYS = [f"{method}-{family}{family}" for method in METHODS for family in "46"] + [
    f"{method}-{ways}" for method in ("ipip", "gre", "gue") for ways in ("46", "64")]
NETEM = "netem delay 2ms 1ms loss 0.5% duplicate 0.5% reorder 5% 50% corrupt 0.3% limit 20000"
MACS = {"c0": "02:00:00:00:05:01", "d0": "02:00:00:00:05:02", "d1": "02:00:00:00:05:03", "s0": "02:00:00:00:05:04",
        "c1": "02:00:00:00:05:05", "s1": "02:00:00:00:05:06"}
NETS = {"4": "10.{}.0.{}", "6": "2001:db8:{}::{}"}
SERVERS = (11, 12)


def addr(family, net, number):
    """An address: net 1 is the clients', 2 the servers', 9 the VIPs', 5 the local addresses'."""
    return NETS[family].format(net, number)


def size_of(number):
    """How much a transfer moves, up and down."""
    return number * 7919 % 3000 + 1, number * 104729 % 9000 + 1


def content(number, which, size):
    """The bytes of a transfer."""
    return hashlib.shake_128(f"{number} {which}".encode()).digest(size)


class Farm:
    """The picture at the top, for as long as this file's tests run."""

    def __init__(self):
        self.client, self.director, self.server = (Namespace(f"netem-{name}") for name in ("c", "d", "s"))
        for place, near, far, other in ((self.director, "d0", "c0", "netem-c"), (self.director, "d1", "s0", "netem-s"),
                                        (self.client, "c1", "s1", "netem-s")):
            place.ip(f"link add {near} address {MACS[near]} type veth peer name {far} address {MACS[far]} netns {other}")
        for place in (self.client, self.director, self.server):
            for name, value in (("ipv4.conf.all.rp_filter", 0), ("ipv4.conf.default.rp_filter", 0),
                                ("ipv4.ip_forward", 1), ("ipv6.conf.all.forwarding", 1),
                                ("ipv6.conf.default.accept_dad", 0), ("ipv4.tcp_rto_min_us", 60000)):
                place.sysctl("net." + name, value)
        self.director.ip("link set lo up", *self.ends(1, "d0", 1, {2: "c0"}),
                         *self.ends(2, "d1", 1, {number: "s0" for number in SERVERS}),
                         *(f"addr add {addr('4', 2, number)}/24 dev d1" for number in (101, 102)),
                         # Nobody's choice as a tunnel's source.
                         *(f"addr add {addr('6', 2, number)}/64 dev d1 nodad preferred_lft 0" for number in (101, 102)),
                         *(f"addr add {addr(family, 9, 80)} dev lo" for family in "46"))
        self.client.ip("link set lo up", "link set c1 up", *self.ends(1, "c0", 2, {1: "d0"}),
                       *(f"route add {net} via {addr(family, 1, 1)}" for family in "46" for net in self.nets(family, 2, 9)))
        self.server.ip("link set lo up", "link set s1 up", *self.ends(2, "s0", SERVERS[0], {
            1: "d1", 101: "d1", 102: "d1"}), f"addr add {addr('4', 2, SERVERS[1])}/24 dev s0",
            f"addr add {addr('6', 2, SERVERS[1])}/64 dev s0 nodad",
            *(f"addr add {addr(family, 9, 80)} dev lo" for family in "46"),
            *(f"route add {self.nets(family, 1)[0]} via {addr(family, 2, 1)}" for family in "46"),
            # What the servers answer as the VIP goes the short way.
            *(f"neigh add {addr(family, 1, 2)} lladdr {MACS['c1']} dev s1 nud permanent" for family in "46"))
        for family in "46":
            self.server.run("ip", f"-{family}", "-batch", "-",
                            stdin=f"rule add from {addr(family, 9, 80)} lookup 77\n"
                            f"route add {addr(family, 1, 2)} dev s1 table 77\n")
        self.tunnels()
        for place, device in ((self.client, "c0"), (self.director, "d0"), (self.director, "d1"), (self.server, "s0"),
                              (self.server, "s1")):
            place.run("tc", "qdisc", "add", "dev", device, "root", *NETEM.split())
        with self.server:
            self.serving = Process(serve)
        self.numbers = 0

    @staticmethod
    def ends(net, device, number, neighbours):
        """Lines for a device, its addresses and whom it knows."""
        lines = [f"link set {device} up", f"addr add {addr('4', net, number)}/24 dev {device}",
                 f"addr add {addr('6', net, number)}/64 dev {device} nodad"]
        return lines + [f"neigh add {addr(family, net, other)} lladdr {MACS[peer]} dev {device} nud permanent"
                        for family in "46" for other, peer in neighbours.items()]

    @staticmethod
    def nets(family, *numbers):
        """Networks by their numbers."""
        return [addr(family, number, 0).removesuffix("0") + "0/24" if family == "4" else f"2001:db8:{number}::/64"
                for number in numbers]

    def tunnels(self):
        """The servers' ends of all kinds of tunnels."""
        lines = []
        for number in SERVERS:
            four = f"remote {addr('4', 2, 1)} local {addr('4', 2, number)}"
            six = f"remote {addr('6', 2, 1)} local {addr('6', 2, number)}"
            # A tunnel of IPv4 in UDP takes off the same headers as one without.
            lines += [f"link add i4-{number} type ipip {four}", f"link add s4-{number} type sit {four}",
                      f"link add i6-{number} type ip6tnl mode any {six}", f"link add g4-{number} type gre {four}",
                      f"link add g6-{number} type ip6gre {six}"]
            lines += [f"link set {name}-{number} up" for name in ("i4", "s4", "i6", "g4", "g6")]
        self.server.ip(*lines)
        self.server.run("ip", "fou", "add", "port", "6080", "gue")
        self.server.run("ip", "-6", "fou", "add", "port", "6080", "gue")
        for name in ("i4-11", "s4-11", "g4-11"):
            self.server.sysctl(f"net.ipv4.conf.{name}.rp_filter", 0)

    def close(self):
        """Takes all of it down."""
        self.serving.stop()
        for place in (self.client, self.director, self.server):
            place.close()


def request(number):
    """What a client sends."""
    up, down = size_of(number)
    return struct.pack("!III", number, up, down) + content(number, "up", up)


async def answer(reader, writer):
    """One transfer at a server: what came is told by its hash, and what was asked for is sent."""
    try:
        number, up, down = struct.unpack("!III", await reader.readexactly(12))
        got = await reader.readexactly(up)
        writer.write(hashlib.sha256(got).digest() + content(number, "down", down))
        await writer.drain()
        await reader.read()
    except (OSError, asyncio.IncompleteReadError):
        pass
    writer.close()


def serve():
    """The servers: at their own port by NAT, at the service's by others."""
    async def forever():
        for port in (80, 8080):
            for family, any_ in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                await asyncio.start_server(answer, any_, port, family=family, backlog=512)
        await asyncio.Event().wait()
    asyncio.run(forever())


async def transfer(vip, number, gate, wrong):
    """One transfer at a client; whatever is not as it should be is written down."""
    async with gate:
        up, down = size_of(number)
        for attempt in range(3):
            try:
                reader, writer = await asyncio.wait_for(asyncio.open_connection(vip, 80), 30 * kernel.SLOW)
                break
            except OSError as error:
                # A corrupted address may bring a reset or an unreachable host; before there is a connection that is fair.
                if attempt == 2:
                    wrong.append(f"{number}: {error!r}")
                    return
        try:
            writer.write(request(number))
            want = hashlib.sha256(content(number, "up", up)).digest() + content(number, "down", down)
            got = await asyncio.wait_for(reader.readexactly(len(want)), 60 * kernel.SLOW)
            if got[:32] != want[:32]:
                wrong.append(f"{number}: another content of {up} bytes reached the server")
            elif got != want:
                wrong.append(f"{number}: another content of {down} bytes reached the client")
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            wrong.append(f"{number}: {error!r}")
        finally:
            writer.close()


def transfers(vip, first, count):
    """Many of them."""
    async def everything():
        gate, wrong = asyncio.Semaphore(AT_ONCE), []
        await asyncio.gather(*(transfer(vip, number, gate, wrong) for number in range(first, first + count)))
        return wrong
    return asyncio.run(everything())


_farm = []


def farm():
    """The picture, made when it is first needed."""
    if not _farm:
        _farm.append(Farm())
    return _farm[0]


def end():
    """After the last test."""
    while _farm:
        _farm.pop().close()


@each(*WAYS)
def test_transfers(_, way):
    """As many transfers as there are, at once as many as lines like these take."""
    method, families = way.split("-")
    family, outer = families
    if method == "fullnat":
        need_rlvs()
    here = farm()
    vip = addr(family, 9, 80)
    where = f"[{vip}]:80" if family == "6" else f"{vip}:80"
    port = 8080 if method.endswith("nat") else 80
    lines = [f"-A -t {where} -s rr"]
    if method == "fullnat":
        lines += [f"-P -t {where} -z {addr(family, 2, number)}" for number in (101, 102)]
    for number in SERVERS:
        server = addr(outer, 2, number)
        lines.append(f"-a -t {where} -r " + (f"[{server}]:{port}" if outer == "6" else f"{server}:{port}")
                     + " " + METHODS[method])
    run_here = here.director.run
    run_here(TOOL, "-C")
    run_here(TOOL, "-R", stdin="\n".join(lines) + "\n")
    count, start = -(-TRANSFERS // len(WAYS)), time.monotonic()
    first, here.numbers = here.numbers, here.numbers + count
    with here.client:
        wrong = Process(lambda: transfers(vip, first, count)).result()
    print(f"# {count} transfers in {time.monotonic() - start:.1f} s")
    assert not wrong, f"{len(wrong)} of {count}: " + "; ".join(wrong[:5])


def test_lines(_):
    """The lines were as bad as was meant: all of them have lost, and the last sums of TCP have seen corruption."""
    here = farm()
    dropped = 0
    for place, device, peer in ((here.client, "c0", addr("4", 1, 1)), (here.director, "d0", addr("4", 1, 2)),
                                (here.director, "d1", addr("4", 2, SERVERS[0])), (here.server, "s0", addr("4", 2, 1))):
        def lost(place=place, device=device):
            told = place.run("tc", "-s", "qdisc", "show", "dev", device).stdout
            return int(told.split("dropped ")[1].split(",")[0])
        # Of the few packets that the debug kernel sends over a line none may have been lost so far.
        for _ in range(20):
            if lost():
                break
            with place, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for _ in range(500):
                    sock.sendto(b"x", (peer, 9))
        assert lost(), f"{device} has lost nothing"
        dropped += lost()
    print(f"# {dropped} packets lost")
    wrong = 0
    for place in (here.client, here.server):
        with place:
            text = run("cat", "/proc/thread-self/net/snmp").stdout
            names, values = [line.split() for line in text.splitlines() if line.startswith("Tcp:")]
            wrong += int(values[names.index("InCsumErrors")])
    assert wrong, "no corruption has come as far as TCP"
    print(f"# {wrong} segments with a wrong checksum were dropped by TCP")
