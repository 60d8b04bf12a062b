# SPDX-License-Identifier: GPL-2.0
"""Services by firewall mark, and services for many ports."""

import contextlib

import genl
import packet
from genl import Genl
from lib import (
    GHOST_CLIENTS,
    GHOST_SERVERS,
    LADDRS,
    METHODS,
    VIP,
    Flow,
    clean,
    each_method,
    need_rlvs,
    same,
)
from packet import ACK, ICMP, RST, SYN, TCP, UDP
from wire import from_expected_peer, tcp_reply, tcp_request, udp_reply, udp_request

SERVER = GHOST_SERVERS[0]
# An address that the director routes, and only takes for its own if the packet is marked.
FAR = "10.2.77.7"


@contextlib.contextmanager
def marked(world, *rules, family="ip"):
    """Packets that match a rule of nft are marked as they come into the director."""
    text = "".join(f"add rule {family} marks in {rule}\n" for rule in rules)
    world.director.run("nft", "-f", "-", stdin=f"add table {family} marks\nadd chain {family} marks in "
                       "{ type filter hook prerouting priority mangle; }\n" + text)
    try:
        yield
    finally:
        world.director.run("nft", "delete", "table", family, "marks")


@contextlib.contextmanager
def configured(world, service, *dests, laddrs=()):
    """A service with destinations, given as attributes; it is deleted again."""
    with world.director, Genl("IPVS") as ipvs:
        ipvs.call(genl.NEW_SERVICE, service)
        try:
            for laddr in laddrs:
                with Genl("RLVS") as rlvs:
                    rlvs.call(genl.NEW_LADDR, service + genl.laddr(laddr))
            for dest in dests:
                ipvs.call(genl.NEW_DEST, service + dest)
            yield
        finally:
            ipvs.call(genl.DEL_SERVICE, service)


def mark_service(world, mark, port, method="nat", sched=b"rr\0"):
    """A service of a mark with one destination, at a port or (0) at that of the packet."""
    if method == "fullnat":
        need_rlvs()
    return configured(world, genl.service(mark, sched=sched), genl.dest(SERVER, port, method=METHODS[method]),
                      laddrs=LADDRS[:2] if method == "fullnat" else ())


@each_method
def test_tcp(world, method):
    """Every port that is marked is served, from one address for the server; what is not marked is not."""
    with mark_service(world, 7, 8080, method), marked(world, f"ip daddr {VIP} tcp dport 3001-3002 meta mark set 7"):
        for port in (3001, 3002):
            with Flow(world, port) as flow:
                seen = clean(flow.request(tcp_request(flow, SYN)))
                same(seen, dst=SERVER, dport=8080, ttl=63)
                from_expected_peer(flow, method, seen)
                same(clean(flow.reply(tcp_reply(flow, SYN | ACK, ack=1001))),
                     src=VIP, sport=port, dst=flow.client[0], dport=flow.client[1])
                assert ours(world, flow).server == (SERVER, 8080)
        with Flow(world, 3003) as flow:
            same(answer(flow), flags=RST | ACK, src=VIP)


def ours(world, flow):
    """The connection of a flow."""
    conn, = [conn for conn in world.conns(flow.vport) if conn.client == flow.client]
    return conn


def answer(flow):
    """What the director itself answers to a SYN."""
    flow.clear()
    flow.at_client.send(tcp_request(flow, SYN))
    return flow.at_client.wait()


@each_method
def test_own_port(world, method):
    """A destination without a port is reached at the port that the client asked for, by TCP and UDP."""
    with mark_service(world, 8, 0, method), marked(world, f"ip daddr {VIP} meta mark set 8"):
        for port in (3011, 3012):
            with Flow(world, port) as flow:
                same(flow.request(tcp_request(flow, SYN)), dst=SERVER, dport=port)
                same(flow.reply(tcp_reply(flow, SYN | ACK, ack=1001)), src=VIP, sport=port)
                assert ours(world, flow).server == (SERVER, port)
            with Flow(world, port, "udp") as flow:
                same(clean(flow.request(udp_request(flow, b"ask"))), dst=SERVER, dport=port)
                same(clean(flow.reply(udp_reply(flow, b"told"))), src=VIP, sport=port)


@each_method
def test_only_the_first_is_marked(world, method):
    """A connection goes on when its later packets come without the mark, or with another."""
    syn = f"ip daddr {VIP} tcp dport 3021 tcp flags & (syn | ack) == syn meta mark set 9"
    with mark_service(world, 9, 8080, method), marked(world, syn), Flow(world, 3021) as flow:
        flow.request(tcp_request(flow, SYN))
        flow.reply(tcp_reply(flow, SYN | ACK, ack=1001))
        same(flow.request(tcp_request(flow, ACK, 1001, 5001)), dst=SERVER, dport=8080)


@contextlib.contextmanager
def far(world, method):
    """A service of marked packets for an address that is nobody's; gives a flow to it, and its first packet."""
    rule = f"ip daddr {FAR} udp dport 53 meta mark set 10"
    world.director.ip("rule add fwmark 10 lookup 100", "route add local default dev lo table 100")
    try:
        with mark_service(world, 10, 5353, method), marked(world, rule), Flow(world, 53, "udp") as flow:
            addr, port = flow.client
            yield flow, packet.ip(addr, FAR, UDP, packet.udp(addr, FAR, port, 53, b"ask"))
    finally:
        world.director.ip("route del local default dev lo table 100", "rule del fwmark 10 lookup 100")


@each_method
def test_any_address(world, method):
    """Marked packets for an address that is nobody's are served if they are routed to the director."""
    with far(world, method) as (flow, ask):
        addr, port = flow.client
        same(clean(flow.request(ask)), dst=SERVER, dport=5353)
        same(clean(flow.reply(udp_reply(flow, b"told"))), src=FAR, sport=53, dst=addr, dport=port)
        # Unmarked they are routed like any others.
        flow.clear()
        flow.at_client.send(packet.ip(addr, FAR, UDP, packet.udp(addr, FAR, port, 54, b"on")))
        flow.at_server.silent(lambda seen: seen.dst == SERVER)


@each_method
def test_errors(world, method):
    """What a client's side reports about such an address reaches the server, though the address is routed on."""
    with far(world, method) as (flow, ask):
        addr = flow.client[0]
        asked = flow.request(ask)
        told = clean(flow.reply(udp_reply(flow, b"told" * 50)))
        world.director.ip(f"route add {FAR} dev ds")
        try:
            seen = clean(flow.to_server(packet.ip(addr, FAR, ICMP, packet.icmp_error(3, 4, told.data, mtu=1300))))
        finally:
            world.director.ip(f"route del {FAR} dev ds")
        same(seen, proto=ICMP, dst=SERVER, kind=3, code=4, mtu=1300)
        assert packet.Embedded(seen.payload).flow == (asked.flow[1], asked.flow[0])


def test_which_service(world):
    """The mark decides before the address and port, and these before the service for all ports."""
    exact = genl.service(VIP, 3031)
    rest = genl.service(VIP, 0)
    with marked(world, f"ip daddr {VIP} tcp dport 3031 tcp sport 30000-30999 meta mark set 11"), \
            configured(world, exact, genl.dest(GHOST_SERVERS[1], 80)), \
            configured(world, rest, genl.dest(GHOST_SERVERS[2], 80)), \
            mark_service(world, 11, 80), Flow(world, 3031) as flow:
        for sport, server in ((30001, SERVER), (31001, GHOST_SERVERS[1])):
            flow.client = (GHOST_CLIENTS[0], sport)
            same(flow.request(tcp_request(flow, SYN)), dst=server, dport=80)
        # As in mainline: a service for all ports must be persistent, or it refuses.
        flow.vport = 3032
        same(answer(flow), proto=ICMP, kind=3, code=3)


def test_edit_and_delete(world):
    """A service of a mark is edited and deleted like any other; then marks mean nothing."""
    service = genl.service(12)
    with marked(world, f"ip daddr {VIP} tcp dport 3041 meta mark set 12"), Flow(world, 3041) as flow:
        with configured(world, service, genl.dest(SERVER, 80)):
            same(flow.request(tcp_request(flow, SYN)), dst=SERVER)
            with world.director, Genl("IPVS") as ipvs:
                ipvs.call(genl.SET_SERVICE, genl.service(12, sched=b"wlc\0"))
                ipvs.call(genl.SET_DEST, service + genl.dest(SERVER, 80, 0))
            same(flow.request(tcp_request(flow, ACK, 1001, 5001)), dst=SERVER)
            flow.client = (GHOST_CLIENTS[1], 40000)
            same(answer(flow), proto=ICMP)
        flow.client = (GHOST_CLIENTS[2], 40000)
        same(answer(flow), flags=RST | ACK)


def test_passing_through(world):
    """Marked traffic that passes through is left alone: only what comes to the director is served."""
    with mark_service(world, 13, 80), marked(world, "meta mark set 13"):
        at_client, at_server = world.taps()
        with at_client, at_server:
            through = packet.ip(GHOST_CLIENTS[0], GHOST_SERVERS[3], TCP,
                                packet.tcp(GHOST_CLIENTS[0], GHOST_SERVERS[3], 1234, 80, SYN))
            at_client.send(through)
            same(at_server.wait(), src=GHOST_CLIENTS[0], dst=GHOST_SERVERS[3], dport=80)
    assert not [conn for conn in world.conns() if conn.virtual[0] == GHOST_SERVERS[3]]


def test_one_packet_is_for_udp(world):
    """A TCP service with that flag is carried: the flag means nothing there."""
    with configured(world, genl.service(VIP, 3061, flags=4), genl.dest(SERVER, 80)), \
            Flow(world, 3061) as flow:
        same(flow.request(tcp_request(flow, SYN)), dst=SERVER, dport=80)


def test_ftp_data(world):
    """A persistent FTP service is asked for the ports of its data too, one that is not leaves them alone."""
    with Flow(world, 40000) as flow:
        with configured(world, genl.service(VIP, 21, flags=1, timeout=360)):
            # It has no destination: what is none of its own is somebody else's.
            same(answer(flow), flags=RST | ACK)
            flow.vport = 21
            same(answer(flow), proto=ICMP, kind=3, code=3)
        with configured(world, genl.service(VIP, 21, flags=1, timeout=360), genl.dest(SERVER, 2121)):
            for flow.vport, dport in ((40000, 40000), (21, 2121)):
                same(flow.request(tcp_request(flow, SYN)), dst=SERVER, dport=dport)
            flow.vport = 22
            same(answer(flow), flags=RST | ACK)
        flow.vport = 40001
        with configured(world, genl.service(VIP, 21), genl.dest(SERVER, 21)):
            same(answer(flow), flags=RST | ACK)
