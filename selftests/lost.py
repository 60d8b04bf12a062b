# SPDX-License-Identifier: GPL-2.0
"""Errors about connections that this director has not: schedule_icmp."""

import packet
import wire
from lib import (
    GHOST_CLIENTS,
    GHOST_SERVERS,
    VIP,
    Flow,
    clean,
    each,
    same,
)
from packet import ACK, ICMP, TCP, UDP

SERVER = GHOST_SERVERS[0]
ROUTER = "10.1.0.116"


def error(flow, proto):
    """A router tells the VIP that an answer to the client was too long; nobody here has sent one."""
    (addr, port), vip = flow.client, (VIP, flow.vport)
    if proto == TCP:
        l4 = packet.tcp(VIP, addr, vip[1], port, ACK, 5000, 1000, b"x" * 40)
    else:
        l4 = packet.udp(VIP, addr, vip[1], port, b"x" * 40)
    answer = packet.ip(VIP, addr, proto, l4, ttl=60)
    return packet.ip(ROUTER, VIP, ICMP, packet.icmp_error(3, 4, answer, mtu=1400))


@each("tcp", "udp")
def test_error_without_connection(world, name):
    """By default it is for the host itself; with schedule_icmp=1 the server gets it that the client's packets get."""
    proto = TCP if name == "tcp" else UDP
    port = world.service("nat", [(SERVER, 8080)], proto=name)
    with Flow(world, port, name, client=GHOST_CLIENTS[3]) as flow:
        flow.at_client.send(error(flow, proto))
        flow.at_server.silent()
        assert not world.conns(port)
        with world.settings(schedule_icmp=1):
            flow.at_client.send(error(flow, proto))
            seen = clean(flow.at_server.wait())
            same(seen, proto=ICMP, kind=3, code=4, mtu=1400, dst=SERVER)
            inner = packet.Embedded(seen.payload)
            assert inner.flow == ((SERVER, 8080), flow.client) and inner.sums_ok, inner.flow
            conn, = world.conns(port)
            assert conn.client == flow.client and conn.server == (SERVER, 8080), conn
        # The connection is one as any other.
        if proto == UDP:
            same(clean(flow.request(wire.udp_request(flow, b"more"))), dst=SERVER, dport=8080)


def test_stranger(world):
    """An error about what is for no service opens nothing."""
    world.service("nat", [(SERVER, 8080)])
    with world.settings(schedule_icmp=1), Flow(world, world.port()) as flow:
        flow.at_client.send(error(flow, TCP))
        flow.at_server.silent()
        assert not world.conns(flow.vport)
