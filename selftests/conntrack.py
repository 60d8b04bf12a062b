# SPDX-License-Identifier: GPL-2.0
"""What conntrack knows of balanced packets: nothing, or with the sysctl what it needs to."""

import contextlib

import wire
from lib import (
    GHOST_CLIENTS,
    GHOST_SERVERS,
    RLVS,
    VIP,
    Flow,
    clean,
    each_method,
    same,
    wait_for,
)
from packet import ACK, PSH, SYN

SERVER = GHOST_SERVERS[0]


@contextlib.contextmanager
def ruled(world, rules):
    """nftables rules in the director for a while."""
    world.director.run("nft", "-f", "-", stdin=f"table ip t {{\n{rules}\n}}\n")
    try:
        yield
    finally:
        world.director.run("nft", "delete", "table", "ip", "t")


def known(world, port):
    """The lines that conntrack has about a service's port."""
    text = world.director.run("conntrack", "-L", "-p", "tcp", check=False).stdout
    return [line for line in text.splitlines() if f"dport={port} " in line]


# Counts what conntrack thinks of packets on their way, and has it see them.
WATCH = """
    counter seen_new { }
    counter seen_established { }
    counter seen_untracked { }
    chain forward {
        type filter hook forward priority 0;
        ct state new counter name seen_new
        ct state established counter name seen_established
        ct state untracked counter name seen_untracked
    }
    chain post {
        type filter hook postrouting priority 200;
        ct state untracked counter name seen_untracked
    }
"""


def count(world, name):
    """The value of a counter."""
    text = world.director.run("nft", "list", "counter", "ip", "t", name).stdout
    return int(text.split("packets")[1].split()[0])


def handshake(flow):
    """Three packets and an answer with data."""
    flow.request(wire.tcp_request(flow, SYN))
    same(clean(flow.reply(wire.tcp_reply(flow, SYN | ACK, ack=1001))), src=VIP, sport=flow.vport)
    flow.request(wire.tcp_request(flow, ACK, 1001, 5001))
    same(clean(flow.reply(wire.tcp_reply(flow, PSH | ACK, 5001, 1001, b"data"))), src=VIP, payload=b"data")


@each_method
def test_untracked(world, method):
    """By default conntrack keeps nothing of a connection."""
    port = world.service(method, [(SERVER, 8080)])
    with ruled(world, WATCH), Flow(world, port) as flow:
        handshake(flow)
        assert not known(world, port), known(world, port)
        assert count(world, "seen_untracked") >= 2


@each_method
def test_tracked(world, method):
    """With conntrack=1 it keeps the connection, knows the server's end of it, and forgets it with us."""
    port = world.service(method, [(SERVER, 8080)])
    with world.settings(conntrack=1), ruled(world, WATCH), Flow(world, port) as flow:
        handshake(flow)
        line, = known(world, port)
        for word in (f"src={flow.client[0]} dst={VIP} sport={flow.client[1]} dport={port}",
                     f"src={SERVER} dst={flow.peer[0]} sport=8080 dport={flow.peer[1]}", "ESTABLISHED"):
            assert word in line, line
        if method == "nat":
            # The server's packets pass the rules of the router as answers.
            assert count(world, "seen_established") == 2, count(world, "seen_established")
        assert count(world, "seen_new") == 0
        assert count(world, "seen_untracked") == 0
        if not RLVS:
            # There a timeout that is set is for later connections.
            return
        world.adm("--set 1 1 1")
        try:
            wait_for(lambda: not world.conns(port), 20, 0.2, "the connection to end")
            wait_for(lambda: not known(world, port), 5, 0.1, "conntrack to forget it")
        finally:
            world.adm("--set 900 120 300")


def test_reuse_of_a_tracked_connection(world):
    """A client that opens again with the same port is served, at the latest by its second SYN."""
    port = world.service("nat", [(SERVER, 8080)])
    with world.settings(conntrack=1), ruled(world, WATCH), Flow(world, port) as flow:
        handshake(flow)
        flow.request(wire.tcp_request(flow, 4 | ACK, 1001, 5005))
        flow.at_client.send(wire.tcp_request(flow, SYN, 90000))
        same(clean(flow.request(wire.tcp_request(flow, SYN, 90000))), seq=90000, dst=SERVER, dport=8080)
        assert len(known(world, port)) == 1


def test_ignore_tunneled(world):
    """With ignore_tunneled=1 what a tunnel brings to this host is not balanced; else it is."""
    port = world.service("nat", [(SERVER, 8080)])
    world.director.ip("link add tunl9 type ipip local 10.1.0.1 remote any", "link set tunl9 up")
    world.director.sysctl("net.ipv4.conf.tunl9.rp_filter", 0)
    world.director.sysctl("net.ipv4.conf.all.rp_filter", 0)
    try:
        with Flow(world, port, client=GHOST_CLIENTS[1]) as flow:
            def wrapped():
                return wire.packet.ip(GHOST_CLIENTS[2], "10.1.0.1", 4, wire.tcp_request(flow, SYN))
            same(clean(flow.request(wrapped())), dst=SERVER, dport=8080)
            with world.settings(ignore_tunneled=1):
                flow.client = (flow.client[0], world.port())
                flow.at_client.send(wrapped())
                flow.at_server.silent()
                assert flow.client not in [conn.client for conn in world.conns(port)]
    finally:
        world.director.ip("link del tunl9")
