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
            assert conn.expires <= 3, f"{conn} waits for its client"
        # The connection is one as any other.
        if proto == UDP:
            same(clean(flow.request(wire.udp_request(flow, b"more"))), dst=SERVER, dport=8080)
            conn, = world.conns(port)
            assert conn.expires > 60, conn


def test_stranger(world):
    """An error about what is for no service opens nothing."""
    world.service("nat", [(SERVER, 8080)])
    with world.settings(schedule_icmp=1), Flow(world, world.port()) as flow:
        flow.at_client.send(error(flow, TCP))
        flow.at_server.silent()
        assert not world.conns(flow.vport)


@each("tcp", "udp")
def test_answer_without_connection(world, name):
    """What a real server sends for a connection that is gone passes; with nat_icmp_send=1 the server is told."""
    port = world.service("nat", [(SERVER, 8090)], proto=name)
    client = (GHOST_CLIENTS[4], world.port())
    with Flow(world, port, name) as flow:
        def answer(server_port, flags=ACK):
            if name == "tcp":
                l4 = packet.tcp(SERVER, client[0], server_port, client[1], flags, 7, 8, b"late")
            else:
                l4 = packet.udp(SERVER, client[0], server_port, client[1], b"late")
            return packet.ip(SERVER, client[0], TCP if name == "tcp" else UDP, l4)
        same(flow.reply(answer(8090)), src=SERVER, sport=8090)
        with world.settings(nat_icmp_send=1):
            flow.clear()
            flow.at_server.send(answer(8090))
            told = clean(flow.at_server.wait())
            same(told, proto=ICMP, kind=3, code=3, dst=SERVER)
            flow.at_client.silent()
            # Another port is no server of ours, and a reset needs no answer.
            same(flow.reply(answer(8091)), src=SERVER, sport=8091)
            if name == "tcp":
                same(flow.reply(answer(8090, packet.RST)), flags=packet.RST)
            # Another service reaches the same server without translation: that changes nothing, nor is it mixed up.
            world.service("nat", [], port=8090, proto=name)
            world.adm(f"-a -{name[0]} {VIP}:8090 -r {SERVER} -g")
            flow.at_server.send(answer(8090))
            same(clean(flow.at_server.wait()), proto=ICMP, kind=3)
            world.adm(f"-d -{name[0]} {VIP}:{port} -r {SERVER}:8090")
            same(flow.reply(answer(8090)), src=SERVER, sport=8090)
