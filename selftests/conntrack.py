# SPDX-License-Identifier: GPL-2.0
"""What conntrack knows of balanced packets: nothing, or with the sysctl what it needs to."""

import contextlib

import farm
import wire
from lib import (
    GHOST_SERVERS,
    METHODS,
    RLVS,
    VIP,
    Flow,
    clean,
    each,
    each_method,
    same,
    wait_for,
)
from packet import ACK, PSH, SYN

SPOILS_WORLD = True

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
    """A client that opens again with the same port is served."""
    port = world.service("nat", [(SERVER, 8080)])
    with world.settings(conntrack=1), ruled(world, WATCH), Flow(world, port) as flow:
        handshake(flow)
        flow.request(wire.tcp_request(flow, 4 | ACK, 1001, 5005))
        same(clean(flow.request(wire.tcp_request(flow, SYN, 90000))), seq=90000, dst=SERVER, dport=8080)
        assert len(known(world, port)) == 1


def test_reuse_while_tracked(world):
    """A client that opens again where conntrack still has the old connection loses its SYN, and is served by the next.

    That one would take the new server's packets for the old one's.
    """
    port = world.service("nat", [(SERVER, 8080)])
    key = f"-t {VIP}:{port}"
    with world.settings(conntrack=1, expire_nodest_conn=1), ruled(world, WATCH), Flow(world, port) as flow:
        handshake(flow)
        world.adm(f"-e {key} -r {SERVER}:8080 -m -w 0")
        world.adm(f"-a {key} -r {GHOST_SERVERS[1]}:8080 -m")
        flow.clear()
        flow.at_client.send(wire.tcp_request(flow, SYN, 90000))
        flow.at_server.silent()
        same(clean(flow.request(wire.tcp_request(flow, SYN, 90000))), seq=90000, dst=GHOST_SERVERS[1])
        line, = known(world, port)
        assert f"src={GHOST_SERVERS[1]} " in line, line


@each_method
def test_rules_around(world, method):
    """Rules of INPUT see what comes for the service, those of OUTPUT what goes to its server; each may drop it."""
    port = world.service(method, [(SERVER, 8080)])
    hooks = """
        counter passed {{ }}
        chain {0} {{
            type filter hook {0} priority 0
            ip daddr {1} tcp dport {2} counter name passed
            ip daddr {1} tcp dport {2} tcp flags & ack == ack drop
        }}
    """
    for hook, addr, dport in (("input", VIP, port), ("output", SERVER, 8080)):
        with ruled(world, hooks.format(hook, addr, dport)), Flow(world, port) as flow:
            same(clean(flow.request(wire.tcp_request(flow, SYN))), dst=SERVER, dport=8080)
            flow.reply(wire.tcp_reply(flow, SYN | ACK, ack=1001))
            assert count(world, "passed") == 1
            flow.at_client.send(wire.tcp_request(flow, ACK, 1001, 5001))
            flow.at_server.silent()
            assert count(world, "passed") == 2
            conn, = [conn for conn in world.conns(port) if conn.client == flow.client]
            assert conn.state == ("SYN_RECV" if hook == "input" else "ESTABLISHED"), conn


# The tunnels that end in a director: the protocol that brings their packets, and what comes before those.
TUNNELS = {"ipip": (4, b""), "gre": (47, b"\0\0\x08\0"), "sit": (41, b""), "ip6tnl": (4, b""),
           "ip6gre": (47, b"\0\0\x08\0")}


@each(*TUNNELS)
def test_ignore_tunneled(world, kind):
    """With ignore_tunneled=1 what a tunnel brings to this host is not balanced; else it is."""
    farm.prepare(world)
    outer = farm.V6 if kind.startswith("ip6") else farm.V4
    on = farm.V6 if kind == "sit" else farm.V4
    here = "fd01::1" if outer is farm.V6 else "10.1.0.1"
    proto, head = TUNNELS[kind]
    mode = "mode any" if kind == "ip6tnl" else ""
    world.director.ip(f"link add tunl9 type {kind} local {here} remote {outer.client} {mode}", "link set tunl9 up")
    try:
        with farm.service(world, on, [(on.server, 8080)], method=METHODS["nat"]) as port, \
                farm.Flow(world, on, port) as flow:
            def wrapped():
                return farm.ip(outer.client, here, proto, head + flow.tcp(SYN))
            same(flow.request(wrapped()), dst=on.server, proto=6)
            with world.settings(ignore_tunneled=1):
                flow.cport = world.port()
                flow.clear()
                flow.at_client.send(wrapped())
                flow.at_server.silent(lambda seen: seen.dst == on.server)
            flow.request(wrapped())
    finally:
        world.director.ip("link del tunl9")
