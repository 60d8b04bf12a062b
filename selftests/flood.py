# SPDX-License-Identifier: GPL-2.0
"""Strangers who open connections without end: memory is bounded by conn_max, and who is in stays in."""

import ipaddress
import re
import threading
import time

import genl
import kernel
import packet
import wire
from fwmark import configured
from genl import Genl
from lib import (
    CROWD,
    GHOST_SERVERS,
    LADDRS,
    METHODS,
    MODULE,
    RLVS,
    VIP,
    Flow,
    Tap,
    each,
    each_method,
    need_rlvs,
    wait_for,
)
from packet import ACK, SYN, TCP, UDP

SERVER = GHOST_SERVERS[0]
LIMIT = 1000


def strangers(count):
    """Addresses out of the crowd."""
    first = int(ipaddress.ip_network(CROWD).network_address)
    return [str(ipaddress.ip_address(first + 1 + 257 * n)) for n in range(count)]


def total(world):
    """How many connections there are."""
    return len(world.conns())


def fresh():
    """Has no connections: those of other tests would end meanwhile and make room."""
    kernel.unload(MODULE)
    kernel.load(MODULE)


def slab():
    """Connections that the allocator holds; None where it does not tell."""
    return kernel.slab("rlvs_conn") if RLVS else kernel.slab("ip_vs_conn")


@each_method
def test_syn_flood(world, method):
    """SYNs from everywhere never make more connections than conn_max; an open one does not suffer."""
    fresh()
    port = world.service(method, [(SERVER, 8080)])
    with Flow(world, port) as flow:
        wire.open_tcp(flow)
        before = slab()
        flood(world, port, flow)
        # Given back objects may wait for a grace period, and each processor keeps some.
        grown = (slab() or 0) - (before or 0)
        assert grown <= LIMIT + 600, f"{grown} objects for {LIMIT} connections"
    # With room again, a newcomer gets in.
    with Flow(world, port) as newcomer:
        assert newcomer.request(wire.tcp_request(newcomer, SYN)).flags == SYN


def flood(world, port, flow):
    """Sends SYNs of three times as many strangers as may come in, and looks after the open connection."""
    limit = total(world) + LIMIT
    refused = world.counters()["conn_limit"] if RLVS else 0
    with world.settings(conn_max=limit):
        for part, addr in enumerate(strangers(3 * LIMIT), 1):
            flow.at_client.send(packet.ip(addr, VIP, TCP, packet.tcp(addr, VIP, 1025, port, SYN)))
            if part % 500 == 0:
                assert total(world) <= limit, f"{total(world)} connections"
                flow.clear()
                seen = flow.request(wire.tcp_request(flow, ACK, 1001, 5007, b"still here"))
                assert seen.payload == b"still here"
                assert flow.reply(wire.tcp_reply(flow, ACK, 5007, 1001, b"me too")).payload == b"me too"
        # Connections that have ended count until they are collected.
        assert total(world) > limit - LIMIT // 10, f"{total(world)} connections, {limit} may be"
    if RLVS:
        assert world.counters()["conn_limit"] - refused >= 2 * LIMIT


@each_method
def test_recovery(world, method):
    """At the limit nobody new gets in; when connections have ended, as many as before do."""
    fresh()
    port = world.service(method, [(SERVER, 53)], proto="udp")
    asked = {addr: packet.ip(addr, VIP, UDP, packet.udp(addr, VIP, 1025, port, b"?")) for addr in strangers(300)}
    try:
        with world.settings(conn_max=200), Flow(world, port, "udp") as flow:
            for _ in range(2):
                flow.clear()
                flow.at_client.send(*asked.values())
                arrived = {seen.flow[0] for seen in flow.at_server.heard()}
                assert len(arrived) == len(world.conns(port)) == 200, \
                    f"{len(arrived)} arrived, {len(world.conns(port))} connections"
                # All have come: only now are they to end.
                clients = [conn.client[0] for conn in world.conns(port)]
                world.udp_timeout(1)
                flow.at_client.send(*map(asked.get, clients))
                wait_for(lambda: not world.conns(port), 20, 0.2, "the connections to end")
                wait_for(lambda: world.dests(port, "UDP")[0].inactive == 0, 20, 0.2,
                         "the destination to count none")
                world.udp_timeout(300)
    finally:
        world.udp_timeout(300)


@each_method
def test_templates(world, method):
    """Clients of a persistent service, each from two sides at once: one server each, and nothing of them stays."""
    if method == "fullnat":
        need_rlvs()
    fresh()
    clients, port = strangers(300 if kernel.DEBUG else 1500), world.port()
    service = genl.service(VIP, port, UDP, flags=1, timeout=300)
    dests = [genl.dest(addr, 53, method=METHODS[method]) for addr in GHOST_SERVERS[:4]]

    def counted():
        """The servers' connections and templates."""
        rows = [line.split() for line in world.adm(f"-Ln --persistent-conn -u {VIP}:{port}").splitlines()[3:]]
        return sum(dest.inactive for dest in world.dests(port, "UDP")), sum(int(row[3]) for row in rows)

    def used():
        return int(re.search(r"^Conns:\s*(\d+)", world.director.proc("ip_vs_status"), re.M)[1])

    def send(sport):
        """Sends a packet of each client; by FullNAT only its payload tells the server whose it is."""
        with Tap(world.client, "c0") as tap:
            for addr in clients:
                tap.send(packet.ip(addr, VIP, UDP, packet.udp(addr, VIP, sport, port, addr.encode())))

    with configured(world, service, *dests, laddrs=LADDRS[:2] if method == "fullnat" else ()), \
            Tap(world.server, "s0", 32 << 20) as at_server:
        before = held()
        senders = [threading.Thread(target=send, args=(sport,)) for sport in (1025, 1026)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        servers = {}
        for seen in at_server.heard():
            servers.setdefault(seen.payload.decode(), []).append(seen.dst)
        assert sorted(servers) == sorted(clients), f"{len(servers)} of {len(clients)} clients were served"
        astray = {client: found for client, found in servers.items() if len(found) != 2 or len(set(found)) != 1}
        rows = world.conns(port)
        owners = [row.client[0] for row in rows if row.client[1] == 0]
        # Of ip_vs a client may get two templates.
        assert len(astray) <= (0 if RLVS else 15), f"{len(astray)} clients, such as {list(astray.items())[:5]}"
        assert set(owners) == set(clients), f"{len(owners)} templates, {len(set(owners))} of them different"
        assert len(owners) - len(clients) <= (0 if RLVS else 15), f"{len(owners)} templates"
        assert len(rows) == used() == 2 * len(clients) + len(owners), f"{len(rows)} are listed, {used()} counted"
        assert counted() == (2 * len(clients), len(owners)), counted()
        with world.settings(expire_nodest_conn=1), world.director, Genl("IPVS") as ipvs:
            for addr in GHOST_SERVERS[:4]:
                ipvs.call(genl.DEL_DEST, service + genl.dest(addr, 53, full=False))
            wait_for(lambda: not world.conns(port) and used() == 0, 30, 0.2, lambda: f"{used()} to end")
            wait_for(lambda: held() - before < len(clients) // 2, 10, 0.2, lambda: f"{held() - before} objects")
            # They come back with what they counted.
            for dest in dests:
                ipvs.call(genl.NEW_DEST, service + dest)
        assert counted() == (0, 0), counted()


def held():
    """Connections and templates that the allocator holds; 0 where it does not tell."""
    names = ("rlvs_conn", "rlvs_template") if RLVS else ("ip_vs_conn",)
    return sum(kernel.slab(name) or 0 for name in names)


def test_log_is_bounded(world):
    """A flood of any kind writes at most a line a second."""
    port = world.service("nat", [(SERVER, 8080)])
    log, start = kernel.Log(), time.monotonic()
    with world.settings(conn_max=total(world)), Flow(world, port) as flow:
        for addr in strangers(1000):
            flow.at_client.send(packet.ip(addr, VIP, TCP, packet.tcp(addr, VIP, 1025, port, SYN)))
        flow.at_server.silent()
    lines = log.new()
    assert len(lines) <= 2 + time.monotonic() - start, f"{len(lines)} lines: {lines[:5]}"


@each("tcp", "udp")
def test_no_service_no_state(world, proto):
    """What is for no service leaves nothing behind, however much it is."""
    before, held = total(world), slab()
    at_client, at_server = world.taps()
    with at_client, at_server:
        for addr in strangers(500):
            body = packet.tcp(addr, VIP, 1, 9, SYN) if proto == "tcp" else packet.udp(addr, VIP, 1, 9)
            at_client.send(packet.ip(addr, VIP, TCP if proto == "tcp" else UDP, body))
    assert total(world) <= before, "connections to no service"
    assert slab() is None or slab() - held < 100
