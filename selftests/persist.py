# SPDX-License-Identifier: GPL-2.0
"""Persistence: who comes again goes to the same server, how long that holds, and scheduling packet by packet."""

import contextlib
import errno
import ipaddress
import re
import select
import socket
import struct
import time

import genl
import kernel
import packet
from fwmark import configured, marked
from genl import Genl, Refused
from lib import (
    GHOST_CLIENTS,
    GHOST_SERVERS,
    LADDRS,
    METHODS,
    VIP,
    clean,
    each,
    each_method,
    need_rlvs,
    same,
    settled,
    wait_for,
)
from packet import ACK, RST, SYN, TCP, UDP

ONE, TWO = GHOST_SERVERS[:2]
PERSISTENT, ONE_PACKET = 1, 4
# Of another network than the ghosts, which are in 10.1.0.0/24.
STRANGERS = ["10.64.0.1", "10.65.0.1"]
NONE, ASSURED = "NONE", "ASSURED"


class Clients:
    """Clients without a stack, and the servers' wire."""

    def __init__(self, world, port, proto=UDP):
        self.world, self.port, self.proto = world, port, proto
        self.at_client, self.at_server = world.taps()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.at_client.sock.close()
        self.at_server.sock.close()

    def send(self, client, payload=b"ask", *, port=None, sport=None, flags=SYN, proto=None):
        """Sends the first packet of a connection, or the one that `sport` and `flags` say."""
        proto, port, sport = proto or self.proto, port or self.port, sport or self.world.port()
        if proto == TCP:
            data = packet.tcp(client, VIP, sport, port, flags)
        else:
            data = packet.udp(client, VIP, sport, port, payload)
        for tap in (self.at_client, self.at_server):
            for _ in tap.frames():
                pass
        self.at_client.send(packet.ip(client, VIP, proto, data))

    def ask(self, client, payload=b"ask", **how):
        """The same; returns what arrives at a server."""
        self.send(client, payload, **how)
        return self.at_server.wait(lambda seen: seen.proto in (TCP, UDP))

    def server(self, client, payload=b"ask", **how):
        """The same; returns the server."""
        return self.ask(client, payload, **how).dst

    def answer(self, seen, payload=b"told", flags=SYN | ACK):
        """The server answers what it has got; returns what arrives at the client."""
        if seen.proto == TCP:
            data = packet.tcp(seen.dst, seen.src, seen.dport, seen.sport, flags)
        else:
            data = packet.udp(seen.dst, seen.src, seen.dport, seen.sport, payload)
        self.at_server.send(packet.ip(seen.dst, seen.src, seen.proto, data))
        return self.at_client.wait()

    def call(self, server, client, payload, sport=53, dport=5060):
        """A server sends a packet of its own; returns what arrives at the client."""
        data = packet.udp(server, client, sport, dport, payload)
        self.at_server.send(packet.ip(server, client, UDP, data))
        return self.at_client.wait()


def service(port, proto=UDP, flags=PERSISTENT, timeout=300, **how):
    """A service at a port of the VIP, persistent if nothing else is said."""
    return genl.service(VIP, port, proto, flags=flags, timeout=timeout, **how)


def both(world, what, method="nat", dport=53):
    """That service with two destinations, ONE and TWO."""
    if method == "fullnat":
        need_rlvs()
    dests = [genl.dest(addr, dport, method=METHODS[method]) for addr in (ONE, TWO)]
    return configured(world, what, *dests, laddrs=LADDRS[:2] if method == "fullnat" else ())


def other(server):
    """The other one of both."""
    return {ONE: TWO, TWO: ONE}[server]


def templates(world, port):
    """What is listed of templates for a port: (protocol, clients, what they asked for, server, state), sorted."""
    return sorted(row[:5] for row in world.conns() if row.client[1] == 0 and row.virtual[1] == port)


def expires(world, port):
    """When the only template for a port expires, in seconds."""
    row, = [row for row in world.conns(port) if row.client[1] == 0]
    return row.expires


def persistent(world, port):
    """How many templates each destination has, by address."""
    lines = world.adm(f"-Ln --persistent-conn -u {VIP}:{port}").splitlines()[3:]
    return {word[1].partition(":")[0]: int(word[3]) for word in map(str.split, lines)}


@each_method
def test_network(world, method):
    """Clients of a network share a server, others get the next; it is listed, and counted."""
    port = world.port()
    with both(world, service(port, netmask=b"\xff\xff\xff\0"), method), Clients(world, port) as clients:
        first = clients.ask(GHOST_CLIENTS[0])
        assert first.dport == 53
        assert [clients.server(client) for client in GHOST_CLIENTS[1:4]] == [first.dst] * 3
        assert [clients.server(client) for client in STRANGERS] == [other(first.dst), first.dst]
        ghosts = ("UDP", ("10.1.0.0", 0), (VIP, port), (first.dst, 53))
        strangers = [("UDP", (f"10.{net}.0.0", 0), (VIP, port), (server, 53), NONE)
                     for net, server in ((64, other(first.dst)), (65, first.dst))]
        assert templates(world, port) == [ghosts + (NONE,), *strangers]
        settled(lambda: persistent(world, port), {first.dst: 2, other(first.dst): 1})
        same(clients.answer(first), src=VIP, sport=port, dst=GHOST_CLIENTS[0])
        assert templates(world, port) == [ghosts + (ASSURED,), *strangers]
        # Six connections, and no template among them.
        dests = world.dests(port, "UDP")
        assert sum(dest.active + dest.inactive for dest in dests) == 6, dests


def test_timeout(world):
    """A template stays for the service's timeout since the last connection, and longer while there is one."""
    port = world.port()
    with both(world, service(port, timeout=2)), Clients(world, port) as clients:
        server = clients.server(GHOST_CLIENTS[0])
        assert expires(world, port) <= 2
        wait_for(lambda: expires(world, port) > 2, 10, 0.1, "the minute more")
        assert 50 < expires(world, port) <= 60
        assert clients.server(GHOST_CLIENTS[0]) == server
    # Whose packets leave no connection, is forgotten in time.
    port = world.port()
    with both(world, service(port, flags=PERSISTENT | ONE_PACKET, timeout=2)), Clients(world, port) as clients:
        server = clients.server(GHOST_CLIENTS[0])
        assert [clients.server(GHOST_CLIENTS[0]) for _ in range(3)] == [server] * 3
        assert len(world.conns(port)) == 1 and templates(world, port)
        wait_for(lambda: not templates(world, port), 10, 0.2, "its end")
        assert clients.server(GHOST_CLIENTS[0]) == other(server)
        settled(lambda: sum(persistent(world, port).values()), 1)


@each_method
def test_all_ports(world, method):
    """A service for all ports sends a client to one server, at the ports that it asks for."""
    port = world.port()
    # Templates outlive their service, and destinations that come back honour them.
    client, neighbour = GHOST_CLIENTS[4:6] if method == "nat" else GHOST_CLIENTS[6:8]
    with both(world, service(0, TCP), method, dport=8080), Clients(world, port, TCP) as clients:
        first = clients.ask(client)
        for more in (port, port + 5000):
            same(clients.ask(client, port=more), dst=first.dst, dport=more)
        assert clients.server(neighbour) == other(first.dst)
        row = ("TCP", (client, 0), (VIP, 0), (first.dst, 0))
        assert row + (NONE,) in templates(world, 0), templates(world, 0)
        answer = clients.answer(first)
        same(answer, src=VIP, sport=port)
        same(clients.ask(client, sport=answer.dport, flags=ACK), dst=first.dst, flags=ACK)
        assert row + (ASSURED,) in templates(world, 0), templates(world, 0)


def test_mark(world):
    """Whatever has a mark goes to one server, TCP and UDP, at the ports that the client asks for."""
    port = world.port()
    what = genl.service(77, flags=PERSISTENT, timeout=300)
    with marked(world, f"ip daddr {VIP} meta mark set 77"), both(world, what, dport=8080), \
            Clients(world, port) as clients:
        first = clients.ask(GHOST_CLIENTS[0])
        assert first.dport == port
        for proto, more in ((TCP, port), (UDP, port + 1), (TCP, port + 2)):
            same(clients.ask(GHOST_CLIENTS[0], proto=proto, port=more), dst=first.dst, dport=more)
        assert clients.server(GHOST_CLIENTS[1]) == other(first.dst)
        assert ("IP", (GHOST_CLIENTS[0], 0), ("0.0.0.77", 0), (first.dst, 0), NONE) in templates(world, 0)


def test_ftp(world):
    """FTP's data connections go where the client's control connection goes."""
    with both(world, service(21, TCP), dport=2121), Clients(world, 21, TCP) as clients:
        first = clients.ask(GHOST_CLIENTS[2])
        assert first.dport == 2121
        same(clients.ask(GHOST_CLIENTS[2], port=40007), dst=first.dst, dport=40007)
        assert ("TCP", (GHOST_CLIENTS[2], 0), (VIP, 0), (first.dst, 0), NONE) in templates(world, 0)


def set_dest(world, what, *dests, command=genl.SET_DEST):
    """Changes destinations of a service."""
    with world.director, Genl("IPVS") as ipvs:
        for dest in dests:
            ipvs.call(command, what + dest)


def test_quiescent(world):
    """A server that takes no new clients keeps those it has, unless expire_quiescent_template says otherwise."""
    port = world.port()
    with both(world, service(port)), Clients(world, port) as clients:
        server = clients.server(GHOST_CLIENTS[0])
        set_dest(world, service(port), genl.dest(server, 53, 0))
        assert clients.server(GHOST_CLIENTS[0]) == server
        assert clients.server(GHOST_CLIENTS[1]) == other(server)
        with world.settings(expire_quiescent_template=1):
            assert clients.server(GHOST_CLIENTS[0]) == other(server)
        set_dest(world, service(port), genl.dest(server, 53, 1))
        assert clients.server(GHOST_CLIENTS[0]) == other(server)


def test_overload(world):
    """A server that has enough connections keeps the clients it has."""
    port = world.port()
    with both(world, service(port)), Clients(world, port) as clients:
        server = clients.server(GHOST_CLIENTS[0])
        set_dest(world, service(port), genl.dest(server, 53, upper=1))
        assert [clients.server(client) for client in GHOST_CLIENTS[1:4]] == [other(server)] * 3
        assert clients.server(GHOST_CLIENTS[0]) == server


def test_deleted_destination(world):
    """Clients of a server that was deleted get another and stay there; with a new connection, not with an old one."""
    port = world.port()
    with both(world, service(port)), Clients(world, port) as clients:
        first = clients.ask(GHOST_CLIENTS[0], sport=1234)
        set_dest(world, service(port), genl.dest(first.dst, 53, full=False), command=genl.DEL_DEST)
        clients.send(GHOST_CLIENTS[0], sport=1234)
        clients.at_server.silent()
        assert clients.server(GHOST_CLIENTS[0]) == other(first.dst)
        set_dest(world, service(port), genl.dest(first.dst, 53), command=genl.NEW_DEST)
        assert clients.server(GHOST_CLIENTS[0]) == other(first.dst)
        assert clients.server(GHOST_CLIENTS[0], sport=1234) == first.dst
        row, = [row for row in templates(world, port) if row[3][1] == 53]
        assert row[3] == (other(first.dst), 53)


def test_no_destination(world):
    """Without a destination a client is told so; who has one still goes there."""
    port = world.port()
    with configured(world, service(port), genl.dest(ONE, 53)), Clients(world, port) as clients:
        assert clients.server(GHOST_CLIENTS[0]) == ONE
        set_dest(world, service(port), genl.dest(ONE, 53, 0))
        clients.send(GHOST_CLIENTS[1])
        same(clients.at_client.wait(), kind=3, code=3)
        assert clients.server(GHOST_CLIENTS[0]) == ONE


def test_used_again(world):
    """A connection that is over is not opened anew under its template: its tuple goes on with it."""
    for flags, reaches in ((0, other), (PERSISTENT, lambda server: server)):
        port = world.port()
        with both(world, service(port, TCP, flags)), Clients(world, port, TCP) as clients, \
                world.settings(expire_quiescent_template=1):
            first = clients.ask(GHOST_CLIENTS[0], sport=1235)
            server = first.dst
            clients.answer(first)
            clients.ask(GHOST_CLIENTS[0], sport=1235, flags=ACK)
            clients.ask(GHOST_CLIENTS[0], sport=1235, flags=RST)
            state, = [row.state for row in world.conns(port) if row.client[1]]
            assert state == "CLOSE"
            set_dest(world, service(port, TCP), genl.dest(server, 53, 0))
            assert clients.server(GHOST_CLIENTS[0], sport=1235) == reaches(server), flags


def test_limit(world):
    """Templates count among what conn_max allows."""
    def used():
        return int(re.search(r"^Conns:\s*(\d+)", world.director.proc("ip_vs_status"), re.M)[1])
    port = world.port()
    with both(world, service(port)), Clients(world, port) as clients:
        before = used()
        with world.settings(conn_max=before + 3):
            server = clients.server(GHOST_CLIENTS[0])
            assert used() == before + 2
            clients.send(GHOST_CLIENTS[1])
            clients.at_server.silent()
        assert clients.server(GHOST_CLIENTS[0]) == server


def test_unload(world):
    """The module goes while there are templates, and takes them along."""
    need_rlvs()
    port = world.port()
    with Clients(world, port) as clients, world.director, Genl("IPVS") as ipvs:
        ipvs.call(genl.NEW_SERVICE, service(port))
        ipvs.call(genl.NEW_DEST, service(port) + genl.dest(ONE, 53))
        clients.ask(GHOST_CLIENTS[0])
        assert templates(world, port)
        kernel.unload("rlvs")
        kernel.load("rlvs")
    assert not world.conns()


@each("always", "by memory")
def test_drop_entry(world, when):
    """While memory is short, or always, half-open connections are dropped with templates that nobody needs."""
    port = world.port()
    with both(world, service(port, TCP)), Clients(world, port, TCP) as clients:
        first = clients.ask(GHOST_CLIENTS[0])
        sport = clients.answer(first).dport
        clients.ask(GHOST_CLIENTS[0], sport=sport, flags=ACK)
        for host in range(64):
            clients.ask(f"10.66.0.{host}")
        states = ["ASSURED"] + ["ESTABLISHED"] + ["NONE"] * 64 + ["SYN_RECV"] * 64

        def found():
            return sorted(row.state for row in world.conns(port))
        assert found() == states
        short = (1 << 31) - 1
        with world.settings(**({"drop_entry": 3} if when == "always" else {"amemthresh": short, "drop_entry": 1})):
            wait_for(lambda: min(map(found().count, ("NONE", "SYN_RECV"))) < 64 - 2, 20, 0.2, found)
            wait_for(lambda: found().count("NONE") < 64, 20, 0.2, found)
            assert found()[:2] == states[:2]
            if when == "by memory":
                assert world.setting("drop_entry") == "2"
                world.setting("amemthresh", 1)
                wait_for(lambda: world.setting("drop_entry") == "1", 5, 0.1, "memory to be there again")
            else:
                world.setting("drop_entry", 0)
            # It has no effect any more.
            left = found().count("SYN_RECV")
            time.sleep(1.5)
            assert found().count("SYN_RECV") == left


# -- one-packet scheduling


@each_method
def test_one_packet(world, method):
    """Every packet of a client goes to the next server and leaves nothing behind; answers are not translated."""
    port = world.port()
    with both(world, service(port, flags=ONE_PACKET), method), Clients(world, port) as clients:
        seen = [clients.ask(GHOST_CLIENTS[0], sport=1236) for _ in range(6)]
        servers = [data.dst for data in seen]
        assert servers == [servers[0], other(servers[0])] * 3, servers
        for data in seen:
            assert data.src in ([GHOST_CLIENTS[0]] if method == "nat" else LADDRS) and data.dport == 53
        assert not world.conns(port)
        dests = world.dests(port, "UDP")
        assert not any(dest.active + dest.inactive for dest in dests), dests
        stats = f"-Ln -u {VIP}:{port} --stats --exact"
        settled(lambda: world.adm(stats).splitlines()[2].split()[2:4], ["6", "6"])
        if method == "nat":
            same(clients.answer(seen[0]), src=seen[0].dst, sport=53, dst=GHOST_CLIENTS[0], dport=1236)


def test_one_packet_by_template(world):
    """A persistent service with that flag sends a client's packets to one server, one by one."""
    port = world.port()
    with both(world, service(port, flags=PERSISTENT | ONE_PACKET)), Clients(world, port) as clients:
        server = clients.server(GHOST_CLIENTS[0], sport=1237)
        assert [clients.server(GHOST_CLIENTS[0], sport=1237) for _ in range(3)] == [server] * 3
        assert clients.server(GHOST_CLIENTS[1]) == other(server)
        assert len(world.conns(port)) == len(templates(world, port)) == 2


# -- SIP

def sip(call, header="Call-ID"):
    """A SIP request."""
    return f"INVITE sip:bob@example.com SIP/2.0\r\nVia: x\r\n{header}: {call}\r\nCSeq: 1 INVITE\r\n\r\n".encode()


def calls(world, port):
    """What is listed of calls: (clients, server, engine, call)."""
    lines = world.director.proc("ip_vs_conn").splitlines()[1:]
    words = [line.split() for line in lines if f" {port:04X} " in line]
    return sorted((word[1], word[5], *word[9:]) for word in words if len(word) > 9)


def with_sip(port, **how):
    """A persistent service by Call-ID, whoever calls."""
    return service(port, engine=b"sip", netmask=bytes(4), **how)


def test_sip(world):
    """A call stays with its server, whatever address it comes from; a packet of no call is dropped."""
    port = world.port()
    with both(world, with_sip(port)), Clients(world, port) as clients:
        server = clients.server(GHOST_CLIENTS[0], sip("one@phone"))
        for client, header in ((GHOST_CLIENTS[1], "call-id"), (STRANGERS[0], "i"), (STRANGERS[1], "Call-ID ")):
            assert clients.server(client, sip("one@phone", header)) == server
        assert clients.server(GHOST_CLIENTS[0], sip("two@phone")) == other(server)
        assert clients.server(GHOST_CLIENTS[0], sip("three")) == server
        raw = {addr: "".join(f"{int(part):02X}" for part in addr.split(".")) for addr in (ONE, TWO)}
        expected = sorted([("00000000", raw[server], "sip", "one@phone"),
                           ("00000000", raw[other(server)], "sip", "two@phone"),
                           ("00000000", raw[server], "sip", "three")])
        assert calls(world, port) == expected, calls(world, port)
        for payload in (b"ask", sip(""), sip("x" * 256), b"Call-ID: one@phone\r\n", sip("one@phone two")):
            clients.send(GHOST_CLIENTS[0], payload)
            clients.at_server.silent()
            assert not clients.at_client.heard()
        longest = "y" * 255
        assert clients.server(GHOST_CLIENTS[0], sip(longest)) == clients.server(GHOST_CLIENTS[1], sip(longest))


def test_sip_configured(world):
    """The engine is listed and saved, can be taken away and set again, and only one that there is."""
    port = world.port()
    with both(world, with_sip(port)), Clients(world, port) as clients:
        assert re.search(rf"^-A -u {VIP}:{port} -s rr -p 300 .*pe sip", world.adm("-Sn"), re.M), world.adm("-Sn")
        assert re.search(rf"UDP +{VIP}:{port} rr persistent 300 mask 0.0.0.0 pe sip", world.adm("-Ln"))
        with world.director, Genl("IPVS") as ipvs:
            ipvs.call(genl.SET_SERVICE, service(port, netmask=bytes(4)))
            assert "pe sip" not in world.adm(f"-Ln -u {VIP}:{port}")
            clients.ask(GHOST_CLIENTS[0], b"no call")
            ipvs.call(genl.SET_SERVICE, with_sip(port))
            try:
                ipvs.call(genl.SET_SERVICE, service(port, engine=b"rtsp"))
            except Refused as refusal:
                assert refusal.errno == errno.ENOENT
            else:
                raise AssertionError("there is no such engine")
        clients.send(GHOST_CLIENTS[0], b"no call")
        clients.at_server.silent()


def test_sip_calls_out(world):
    """A server's own call leaves with the service's address; what the client says goes to that server."""
    port = world.port()
    with both(world, with_sip(port)), Clients(world, port) as clients:
        # Of two servers that call the same port of a client it answers the last one.
        for server in (TWO, ONE):
            call = sip(f"from-{world.port()}")
            same(clean(clients.call(server, GHOST_CLIENTS[8], call)), src=VIP, sport=port, dport=5060)
            assert clients.server(GHOST_CLIENTS[8], call, sport=5060) == server
            assert clients.server(GHOST_CLIENTS[9], call) == server
        # What comes from another port, or is no call, is none of the service's.
        same(clients.call(ONE, GHOST_CLIENTS[10], sip("other"), sport=54), src=ONE, sport=54)
        same(clients.call(ONE, GHOST_CLIENTS[10], b"no call"), src=ONE, sport=53)
    same(clients_after(world, port), src=ONE, sport=53)


def clients_after(world, port):
    """What a server's call becomes when there is no service any more."""
    with Clients(world, port) as clients:
        return clients.call(ONE, GHOST_CLIENTS[11], sip("after"))


def test_sip_one_packet(world):
    """With one-packet scheduling the answers of a call are translated though no connection is left."""
    port = world.port()
    with both(world, with_sip(port, flags=PERSISTENT | ONE_PACKET)), Clients(world, port) as clients:
        first = clients.ask(GHOST_CLIENTS[0], sip("short"), sport=5061)
        same(clean(clients.answer(first, sip("short"))), src=VIP, sport=port, dst=GHOST_CLIENTS[0], dport=5061)
        assert clients.server(GHOST_CLIENTS[1], sip("short")) == first.dst
        assert [row.client[1] for row in world.conns(port)] == [0]


# -- IPv6

VIP6, SERVERS6 = "fd00:9::80", ["fd00:2::11", "fd00:2::12"]
LADDRS6 = ["fd00:2::201", "fd00:2::202"]
CLIENTS6 = ["fd00:1::1", "fd00:1::ffff:1", "fd00:1:0:1::1"]


@contextlib.contextmanager
def alone(world, method="nat"):
    """Clients and servers on the director itself; yields what sends from a client and tells its server."""
    addrs = [VIP6, *SERVERS6, *CLIENTS6, *LADDRS6]
    world.director.sysctl("net.ipv6.conf.lo.disable_ipv6", 0)
    world.director.ip(*(f"addr add {addr}/128 dev lo nodad" for addr in addrs))
    with contextlib.ExitStack() as stack:
        stack.callback(world.director.sysctl, "net.ipv6.conf.lo.disable_ipv6", 1)
        stack.callback(world.director.ip, *(f"addr del {addr}/128 dev lo" for addr in addrs))

        def bound(addr, port=0):
            with world.director:
                sock = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            sock.bind((addr, port))
            sock.settimeout(3 * kernel.SLOW)
            return sock
        servers = {bound(addr, 53): addr for addr in SERVERS6}

        def server(client, port, mark=0):
            sock = bound(client)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            sock.sendto(b"ask", (VIP6, port))
            ready, _, _ = select.select(list(servers), [], [], 3 * kernel.SLOW)
            assert len(ready) == 1, "the packet reached no server"
            _, peer = ready[0].recvfrom(100)
            assert peer[0] in LADDRS6 if method == "fullnat" else peer[0] == client, peer
            ready[0].sendto(b"told", peer)
            assert sock.recvfrom(100)[1][:2] == (VIP6, port)
            return servers[ready[0]]
        yield server


def rows6(world):
    """What is listed of templates of IPv6: (protocol, clients, port, what they asked for, port, server, port, state)."""
    words = [line.split()[:8] for line in world.director.proc("ip_vs_conn").splitlines()[1:]]
    return sorted((word[0], *(part if len(part) < 5 else str(ipaddress.ip_address(part)) for part in word[1:7]), word[7])
                  for word in words if len(word[1]) == 39 and word[2] == "0000")


@each_method
def test_ipv6(world, method):
    """Clients of a prefix share a server, by address and by mark; templates are listed."""
    if method == "fullnat":
        need_rlvs()
    port, mark = world.port(), {"nat": 78, "fullnat": 79}[method]
    prefix = struct.pack("=I", 64)
    by_addr = genl.service(VIP6, port, UDP, flags=PERSISTENT, timeout=300, netmask=prefix)
    by_mark = genl.service(mark, socket.AF_INET6, flags=PERSISTENT, timeout=300, netmask=prefix)
    dests = [genl.dest(addr, 53, method=METHODS[method]) for addr in SERVERS6]
    laddrs = LADDRS6 if method == "fullnat" else ()
    with alone(world, method) as server, configured(world, by_addr, *dests, laddrs=laddrs):
        first = server(CLIENTS6[0], port)
        second, = set(SERVERS6) - {first}
        assert [server(client, port) for client in CLIENTS6] == [first, first, second]
        with configured(world, by_mark, *dests, laddrs=laddrs):
            first_by_mark = server(CLIENTS6[0], 53, mark)
            assert server(CLIENTS6[1], 53, mark) == first_by_mark != server(CLIENTS6[2], 53, mark)
        asked, marked_so = f"{port:04X}", f"0:{mark:x}::"
        expected = [("UDP", "fd00:1::", "0000", VIP6, asked, first, "0035", ASSURED),
                    ("UDP", "fd00:1:0:1::", "0000", VIP6, asked, second, "0035", ASSURED),
                    ("IP", "fd00:1::", "0000", marked_so, "0000", first_by_mark, "0000", ASSURED)]
        listed = [row for row in rows6(world) if row[3] == marked_so or row[4] == asked]
        assert set(expected) <= set(listed) and len(listed) == 4, listed


def test_orphans(world):
    """With expire_nodest_conn a deleted destination takes its connections and templates along."""
    port = world.port()
    with world.settings(expire_nodest_conn=1):
        with both(world, service(port)), Clients(world, port) as clients:
            clients.ask(GHOST_CLIENTS[0])
            assert len(world.conns(port)) == 2
        # All there are: of ip_vs those of a call would keep its module from going.
        wait_for(lambda: not world.conns(), 20, 0.2, world.conns)
