# SPDX-License-Identifier: GPL-2.0
"""Strangers who open connections without end: memory is bounded by conn_max, and who is in stays in."""

import ipaddress
import time

import kernel
import packet
import wire
from lib import CROWD, GHOST_SERVERS, MODULE, RLVS, VIP, Flow, each, each_method, wait_for
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
    # Long enough that the first has not ended when the last is sent.
    world.adm(f"--set 0 0 {15 if kernel.DEBUG else 2}")
    try:
        with world.settings(conn_max=200), Flow(world, port, "udp") as flow:
            for _ in range(2):
                flow.clear()
                for addr in strangers(300):
                    flow.at_client.send(packet.ip(addr, VIP, UDP, packet.udp(addr, VIP, 1025, port, b"?")))
                arrived = {seen.flow[0] for seen in flow.at_server.heard()}
                assert len(arrived) == len(world.conns(port)) == 200, \
                    f"{len(arrived)} arrived, {len(world.conns(port))} connections"
                wait_for(lambda: not world.conns(port), 20, 0.2, "the connections to end")
                wait_for(lambda: world.dests(port, "UDP")[0].inactive == 0, 20, 0.2,
                         "the destination to count none")
    finally:
        world.adm("--set 0 0 300")


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
