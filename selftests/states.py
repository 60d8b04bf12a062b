# SPDX-License-Identifier: GPL-2.0
"""Connection states and their timeouts, as /proc/net/ip_vs_conn shows them, and what ends a connection."""

import time

import kernel
import wire
from lib import GHOST_SERVERS, VIP, Flow, each_method, same, settled, wait_for
from packet import ACK, FIN, RST, SYN

SERVER = GHOST_SERVERS[0]

# c: from the client, s: from the server; what is sent, then state and timeout that follow.
OPEN = "cS sSA cA"
SEQUENCES = [
    ("cS", "SYN_RECV", 60),
    ("cS cS", "SYN_RECV", 60),
    ("cS sSA", "SYN_RECV", 60),
    ("cS sR", "CLOSE", 10),
    (OPEN, "ESTABLISHED", 900),
    (OPEN + " sA cA", "ESTABLISHED", 900),
    (OPEN + " sFA", "FIN_WAIT", 120),
    (OPEN + " sFA cA", "FIN_WAIT", 120),
    (OPEN + " sFA cA cFA", "TIME_WAIT", 120),
    (OPEN + " sFA cA cFA sA", "TIME_WAIT", 120),
    (OPEN + " cFA", "CLOSE_WAIT", 60),
    (OPEN + " cFA sA", "CLOSE_WAIT", 60),
    (OPEN + " cFA sFA", "TIME_WAIT", 120),
    (OPEN + " cR", "CLOSE", 10),
    (OPEN + " sR", "CLOSE", 10),
    (OPEN + " cFA cR", "CLOSE", 10),
    (OPEN + " sFA sR", "CLOSE", 10),
]
FLAGS = {"S": SYN, "A": ACK, "F": FIN, "R": RST}


def play(flow, sequence):
    """Sends what a sequence says; each packet has arrived before the next is sent."""
    for step in sequence.split():
        flags = sum(FLAGS[letter] for letter in step[1:])
        # The acknowledgement is set with ACK alone, as an endpoint does it.
        ack = 4001 if flags & ACK else 0
        if step[0] == "c":
            flow.request(wire.tcp_request(flow, flags, 1000, ack))
        else:
            flow.reply(wire.tcp_reply(flow, flags, 4000, ack))


@each_method
def test_tcp_states(world, method):
    """Each flag from each side leads to the state and the timeout that IPVS has."""
    port = world.service(method, [(SERVER, 8080)])
    for sequence, state, timeout in SEQUENCES:
        with Flow(world, port) as flow:
            play(flow, sequence)
            conn, = [conn for conn in world.conns(port) if conn.client == flow.client]
            assert conn.state == state, f"{sequence}: {conn.state}, not {state}"
            assert timeout - 1 - kernel.SLOW <= conn.expires <= timeout, \
                f"{sequence}: {state} expires in {conn.expires} s, not {timeout}"
            assert conn.proto == "TCP" and conn.server == (SERVER, 8080)


# With secure_tcp, what the client sends alone establishes nothing.
SECURE = [
    ("cS", "SYN_RECV", 60),
    ("cS cA", "SYN_RECV", 60),
    ("cS sSA", "SYNACK", 120),
    (OPEN, "SYNACK", 120),
    (OPEN + " cFA", "SYNACK", 120),
    (OPEN + " cS", "SYNACK", 120),
    (OPEN + " cR", "CLOSE", 10),
    (OPEN + " sA", "ESTABLISHED", 900),
    (OPEN + " sA cFA", "CLOSE_WAIT", 60),
    (OPEN + " sFA", "TIME_WAIT", 120),
]


@each_method
def test_secure_tcp(world, method):
    """While secure_tcp is active, always or while memory is short, other states follow; its readiness alone changes
    nothing."""
    port = world.service(method, [(SERVER, 8080)])

    def state(sequence):
        with Flow(world, port) as flow:
            play(flow, sequence)
            conn, = [conn for conn in world.conns(port) if conn.client == flow.client]
            return conn

    for mode in (0, 1):
        with world.settings(secure_tcp=mode):
            assert state(OPEN).state == "ESTABLISHED", f"in mode {mode}"
    with world.settings(secure_tcp=3):
        # Mainline looks once a second.
        wait_for(lambda: state(OPEN).state == "SYNACK", 5, 0.2, "secure_tcp to be active")
        for sequence, expected, timeout in SECURE:
            conn = state(sequence)
            assert conn.state == expected, f"{sequence}: {conn.state}, not {expected}"
            assert timeout - 1 - kernel.SLOW <= conn.expires <= timeout, \
                f"{sequence}: {expected} expires in {conn.expires} s, not {timeout}"
        assert {conn.state for conn in world.conns(port)} >= {"SYNACK", "ESTABLISHED"}
    wait_for(lambda: state(OPEN).state == "ESTABLISHED", 5, 0.2, "secure_tcp to be off")
    with world.settings(amemthresh=(1 << 31) - 1, secure_tcp=1):
        wait_for(lambda: state(OPEN).state == "SYNACK", 5, 0.2, "memory to be short")
        assert world.setting("secure_tcp") == "2"
        world.setting("amemthresh", 1)
        wait_for(lambda: state(OPEN).state == "ESTABLISHED", 5, 0.2, "memory to be there again")
        assert world.setting("secure_tcp") == "1"


@each_method
def test_udp_state(world, method):
    """A UDP connection is UDP for 300 seconds, whoever speaks."""
    port = world.service(method, [(SERVER, 53)], proto="udp")
    with Flow(world, port, "udp") as flow:
        flow.request(wire.udp_request(flow, b"?"))
        flow.reply(wire.udp_reply(flow, b"!"))
        conn, = world.conns(port)
        same(conn, proto="UDP", client=flow.client, server=(SERVER, 53), state="UDP")
        assert 299 - kernel.SLOW <= conn.expires <= 300


@each_method
def test_active_and_inactive(world, method):
    """Half open and open connections are active, closing ones are not."""
    port = world.service(method, [(SERVER, 8080)])

    def counted():
        dest, = world.dests(port)
        return dest.active, dest.inactive

    flows = [Flow(world, port) for _ in range(4)]
    for flow in flows:
        play(flow, "cS")
    assert counted() == (4, 0), "SYN_RECV is active"
    for flow in flows:
        play(flow, "sSA cA")
    assert counted() == (4, 0)
    play(flows[0], "cFA")
    play(flows[1], "sR")
    assert counted() == (2, 2), "CLOSE_WAIT and CLOSE are not active"
    play(flows[0], "sFA")
    assert counted() == (2, 2), "no connection is counted twice"
    for flow in flows:
        flow.__exit__()


@each_method
def test_expiry(world, method):
    """Timeouts that --set gives hold for UDP, open and closing connections, and then all is as before."""
    tcp = world.service(method, [(SERVER, 8080)])
    udp = world.service(method, [(SERVER, 53)], proto="udp")
    world.adm("--set 8 8 8" if kernel.DEBUG else "--set 2 2 2")
    try:
        with Flow(world, udp, "udp") as query, Flow(world, tcp) as idle, Flow(world, tcp) as closing:
            start = time.monotonic()
            query.request(wire.udp_request(query, b"?"))
            play(idle, OPEN)
            play(closing, OPEN + " sFA")
            assert len(world.conns(udp)) == 1 and len(world.conns(tcp)) == 2
            wait_for(lambda: not world.conns(udp) and not world.conns(tcp), 20, 0.05,
                     lambda: f"the timeouts of {world.conns(udp) + world.conns(tcp)}")
            assert time.monotonic() - start >= 1.5, "gone before their time"
            for port, proto in ((tcp, "TCP"), (udp, "UDP")):
                wait_for(lambda port=port, proto=proto: world.dests(port, proto)[0][3:] == (0, 0), 20, 0.1,
                         "the destinations to count none")
            # The connection is unknown now: the director's own stack refuses what comes for it.
            idle.clear()
            idle.at_client.send(wire.tcp_request(idle, ACK, 1001, 4001))
            same(idle.at_client.wait(), src=VIP, dst=idle.client[0], flags=RST)
            idle.at_server.silent(lambda seen: seen.dst == SERVER)
            # And its tuple is free again.
            play(idle, OPEN)
            assert [conn.state for conn in world.conns(tcp)] == ["ESTABLISHED"]
    finally:
        world.adm("--set 900 120 300")


@each_method
def test_traffic_prolongs(world, method):
    """Each packet sets the clock of its connection back, from either side."""
    port = world.service(method, [(SERVER, 53)], proto="udp")
    world.adm("--set 0 0 2")
    try:
        with Flow(world, port, "udp") as flow:
            flow.request(wire.udp_request(flow, b"?"))
            start = time.monotonic()
            while time.monotonic() - start < 3.5:
                time.sleep(0.3)
                flow.reply(wire.udp_reply(flow, b"!"))
            assert world.conns(port), "expired while it was in use"
    finally:
        world.adm("--set 0 0 300")


@each_method
def test_only_syn_opens(world, method):
    """What is not a SYN opens no TCP connection: the director refuses it."""
    port = world.service(method, [(SERVER, 8080)])
    for flags in (ACK, FIN | ACK, RST, SYN | RST):
        with Flow(world, port) as flow:
            flow.at_client.send(wire.tcp_request(flow, flags, 1, 2))
            flow.at_server.silent()
    assert not world.conns(port)


@each_method
def test_reuse(world, method):
    """A SYN on a tuple in TIME_WAIT is a new connection, scheduled anew."""
    port = world.service(method, [(SERVER, 8080)])
    with Flow(world, port) as flow:
        play(flow, OPEN + " sFA cA cFA sA")
        old = flow.peer
        seen = flow.request(wire.tcp_request(flow, SYN, 99000))
        same(seen, flags=SYN, dst=SERVER)
        if method == "fullnat":
            assert flow.peer != old, "the server still holds the old tuple in TIME_WAIT"
        play(flow, "sSA cA")
        mine = [conn.state for conn in world.conns(port) if conn.client == flow.client]
        assert "ESTABLISHED" in mine, mine
        settled(lambda: world.listed_stats(port)[0].conns, 2)


@each_method
def test_destination_deleted(world, method):
    """Packets of a deleted destination's connections are dropped in silence by default."""
    port = world.service(method, [(SERVER, 8080)])
    with Flow(world, port) as flow:
        play(flow, OPEN)
        world.adm(f"-d -t {VIP}:{port} -r {SERVER}:8080")
        flow.clear()
        flow.at_client.send(wire.tcp_request(flow, ACK, 1001, 4001, b"lost"))
        flow.at_server.silent()
        assert not flow.at_client.heard(), "the client is not to be told"


@each_method
def test_expire_nodest_conn(world, method):
    """With expire_nodest_conn the connection ends with its destination, and a new one goes elsewhere."""
    port = world.service(method, [(SERVER, 8080)])
    with world.settings(expire_nodest_conn=1), Flow(world, port) as flow:
        play(flow, OPEN)
        world.adm("-R", stdin=f"-d -t {VIP}:{port} -r {SERVER}:8080\n"
                  f"-a -t {VIP}:{port} -r {GHOST_SERVERS[1]}:8080 "
                  f"{'-m' if method == 'nat' else '--fullnat'}\n")
        flow.clear()
        flow.at_client.send(wire.tcp_request(flow, ACK, 1001, 4001, b"lost"))
        flow.at_server.silent()
        same(flow.request(wire.tcp_request(flow, SYN, 99000)), dst=GHOST_SERVERS[1], flags=SYN)
        # It need not wait for a packet, either.
        world.adm(f"-d -t {VIP}:{port} -r {GHOST_SERVERS[1]}:8080")
        wait_for(lambda: not world.conns(port), 10, 0.2, "connections without a destination to end")


@each_method
def test_service_deleted(world, method):
    """Connections outlive their service and end by themselves; the table says so."""
    port = world.service(method, [(SERVER, 8080)])
    with Flow(world, port) as flow:
        play(flow, OPEN)
        world.adm(f"-D -t {VIP}:{port}")
        assert world.dests(port) is None
        flow.at_client.send(wire.tcp_request(flow, ACK, 1001, 4001, b"lost"))
        flow.at_server.silent(lambda seen: seen.payload == b"lost")
