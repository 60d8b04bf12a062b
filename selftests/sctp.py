# SPDX-License-Identifier: GPL-2.0
"""SCTP: what the balancer changes in a packet, the states of a connection, and real associations."""

import socket
import struct

import ipv6
import kernel
import packet
from lib import (
    CLIENT,
    GHOST_SERVERS,
    LADDRS,
    RLVS,
    SERVERS,
    VIP,
    Flow,
    clean,
    each,
    each_method,
    need_rlvs,
    run,
    same,
)
from packet import SCTP

SPOILS_WORLD = True

SERVER = GHOST_SERVERS[0]

# c: from the client, s: from the server; what is sent, then state and timeout that follow.
CHUNKS = {"D": 0, "I": 1, "IA": 2, "K": 3, "AB": 6, "S": 7, "SA": 8, "E": 9, "CE": 10, "CA": 11, "SC": 14}
OPEN = "cI sIA cCE sCA"
SEQUENCES = [
    ("cI", "INIT1", 4),
    ("cI cI", "INIT", 61),
    ("cI sIA", "C-SENT", 61),
    ("cI sAB", "REJECTED", 4),
    ("cI cI sAB", "CLOSED", 61),
    ("cI sIA cCE", "C-REPLIED", 61),
    ("cI sI", "C-WAIT", 61),
    ("cI sI cIA", "COOKIE", 61),
    ("cI sI cIA sCE", "C-ECHOED", 61),
    ("cI sI cIA sCE cCA", "ESTABLISHED", 900),
    (OPEN, "ESTABLISHED", 900),
    (OPEN + " sD cK", "ESTABLISHED", 900),
    (OPEN + " cI", "ESTABLISHED", 900),
    (OPEN + " cS", "S-RECEIVED", 61),
    (OPEN + " sS", "S-SENT", 61),
    (OPEN + " cS sSA", "S-ACK-SENT", 61),
    (OPEN + " cS sSA cSC", "CLOSED", 61),
    (OPEN + " sS cSA", "CLOSED", 61),
    (OPEN + " cAB", "CLOSED", 61),
    (OPEN + " sAB", "CLOSED", 61),
]


def request(flow, *chunks, **how):
    """An SCTP packet from the client to the service."""
    (addr, port), ip = flow.client, {key: how.pop(key) for key in ("ttl", "tos", "ident") if key in how}
    return packet.ip(addr, VIP, SCTP, packet.sctp(port, flow.vport, *chunks, **how), **ip)


def reply(flow, *chunks, **how):
    """An SCTP packet from the real server to whom it believes to talk to."""
    (addr, port), (peer, pport) = flow.server, flow.peer
    ip = {key: how.pop(key) for key in ("ttl", "tos", "ident") if key in how}
    return packet.ip(addr, peer, SCTP, packet.sctp(port, pport, *chunks, **how), **ip)


def play(flow, sequence):
    """Sends what a sequence says; each packet has arrived before the next is sent."""
    for step in sequence.split():
        chunk = packet.chunk(CHUNKS[step[1:]], b"data")
        if step[0] == "c":
            flow.request(request(flow, chunk))
        else:
            flow.reply(reply(flow, chunk))


def conn_of(world, flow):
    """The one connection of a flow."""
    conn, = [conn for conn in world.conns(flow.vport) if conn.client == flow.client]
    return conn


@each_method
def test_states(world, method):
    """Each chunk from each side leads to the state and the timeout that IPVS has."""
    port = world.service(method, [(SERVER, 3868)], proto="sctp")
    for sequence, state, timeout in SEQUENCES:
        with Flow(world, port, "sctp") as flow:
            play(flow, sequence)
            conn = conn_of(world, flow)
            assert conn.state == state, f"{sequence}: {conn.state}, not {state}"
            assert timeout - 1 - kernel.SLOW <= conn.expires <= timeout, \
                f"{sequence}: {state} expires in {conn.expires} s, not {timeout}"
            assert conn.proto == "SCTP" and conn.server == (SERVER, 3868)


@each_method
def test_active(world, method):
    """Only what is established is active."""
    port = world.service(method, [(SERVER, 3868)], proto="sctp")

    def counted():
        dest, = world.dests(port, "SCTP")
        return dest.active, dest.inactive

    with Flow(world, port, "sctp") as flow:
        for sequence, expected in ((" cI sIA cCE", (0, 1)), ("sCA", (1, 0)), ("cS", (0, 1))):
            play(flow, sequence)
            assert counted() == expected, f"{sequence}: {counted()}"


@each_method
def test_bytes(world, method):
    """Addresses, ports and TTL change, the checksum follows, everything else arrives as it was sent."""
    port = world.service(method, [(SERVER, 3868)], proto="sctp")
    with Flow(world, port, "sctp") as flow:
        play(flow, OPEN)
        assert flow.server == (SERVER, 3868)
        for size in (0, 1, 3, 536, 1400):
            data = packet.chunk(0, bytes((size + n) & 255 for n in range(size)), 3)
            seen = clean(flow.request(request(flow, data, ident=0x4242, tos=0x28, ttl=33)))
            same(seen, dst=SERVER, dport=3868, ttl=32, tos=0x28, ident=0x4242, frag=packet.DF, payload=data,
                 tag=0x01020304)
            if method == "nat":
                assert (seen.src, seen.sport) == flow.client
            else:
                assert seen.src in LADDRS[:2] and seen.sport >= 1024
            seen = clean(flow.reply(reply(flow, data, packet.chunk(3), ident=7, ttl=9)))
            same(seen, src=VIP, sport=port, dst=flow.client[0], dport=flow.client[1], ttl=8, ident=7,
                 payload=data + packet.chunk(3), tag=0x01020304)


@each_method
def test_damage_is_not_hidden(world, method):
    """A packet that was damaged on its way to the director is still damaged behind it."""
    port = world.service(method, [(SERVER, 3868)], proto="sctp")
    with Flow(world, port, "sctp") as flow:
        play(flow, OPEN)
        data = packet.chunk(0, b"as it was sent")
        good = packet.sctp(flow.client[1], port, data)[8:12]
        seen = flow.request(request(flow, packet.chunk(0, b"as it came out"), check=good))
        # Mainline makes the checksum anew.
        assert bool(seen.sums()) == RLVS, seen.sums()


@each_method
def test_what_opens(world, method):
    """An INIT opens a connection; with sloppy_sctp anything else but an ABORT does, too."""
    port = world.service(method, [(SERVER, 3868)], proto="sctp")
    others = ["D", "IA", "CE", "CA", "S", "SC", "E", "AB"]
    for kind in others:
        with Flow(world, port, "sctp") as flow:
            flow.at_client.send(request(flow, packet.chunk(CHUNKS[kind])))
            flow.at_server.silent(seconds=0.02)
    assert not world.conns(port)
    with world.settings(sloppy_sctp=1):
        for kind in others:
            with Flow(world, port, "sctp") as flow:
                flow.at_client.send(request(flow, packet.chunk(CHUNKS[kind])))
                if kind == "AB":
                    flow.at_server.silent(seconds=0.02)
                else:
                    clean(flow.at_server.wait())
    assert len(world.conns(port)) == len(others) - 1


@each_method
def test_an_abort_behind_a_cookie(world, method):
    """A cookie with an ABORT behind it ends the association."""
    port = world.service(method, [(SERVER, 3868)], proto="sctp")
    with Flow(world, port, "sctp") as flow:
        play(flow, "cI sIA")
        # Longer than what a hook has at hand by itself.
        flow.request(request(flow, packet.chunk(10, bytes(333)), packet.chunk(6)))
        assert conn_of(world, flow).state == "CLOSED"


@each_method
def test_reuse(world, method):
    """An INIT on a tuple that is closed is a new connection, scheduled anew; with the mode 0 it is not."""
    port = world.service(method, [(SERVER, 3868), (GHOST_SERVERS[1], 3868)], proto="sctp")
    for mode, moves in ((1, True), (0, False)):
        with world.settings(conn_reuse_mode=mode), Flow(world, port, "sctp") as flow:
            play(flow, OPEN + " cS sSA cSC")
            before = flow.server
            flow.request(request(flow, packet.chunk(1, b"init")))
            assert (flow.server != before) == moves, f"mode {mode}: {before}, then {flow.server}"
            # Mainline's old one waits for its timer.
            states = [conn.state for conn in world.conns(port) if conn.client == flow.client]
            assert ("INIT1" if moves else "INIT") in states, states


@each_method
def test_icmp(world, method):
    """An error about a packet on its way to the server reaches the client, about the client's own packet."""
    port = world.service(method, [(SERVER, 3868)], proto="sctp")
    with Flow(world, port, "sctp") as flow:
        sent = request(flow, packet.chunk(1, b"init"))
        seen = flow.request(sent)
        about = seen.data[:28]
        flow.clear()
        flow.at_server.send(packet.ip(SERVER, seen.src, packet.ICMP, packet.icmp_error(3, 2, about)))
        told = clean(flow.at_client.wait(lambda heard: heard.proto == packet.ICMP))
        same(told, src=VIP, dst=flow.client[0], kind=3, code=2)
        inner = packet.Embedded(told.payload)
        assert inner.flow == (flow.client, (VIP, port)), inner.flow
        # SCTP's next four bytes are the tag, by which the client knows that it is true.
        assert inner.l4[4:8] == sent[24:28]


@each("nat-4", "fullnat-4", "nat-6", "fullnat-6")
def test_association(world, variant):
    """Real ends talk through the service, with checksums that are left to the device and long messages."""
    run("modprobe", "sctp")
    method, version = variant.split("-")
    if version == "4":
        port = world.service(method, [(SERVERS[0], 3868)], proto="sctp")
        family, addrs, local = socket.AF_INET, (CLIENT, VIP, SERVERS[0]), LADDRS
    else:
        if method == "fullnat":
            need_rlvs()
        port = ipv6.serve(world, method, ipv6.SERVER, 3868, SCTP)
        family, addrs, local = socket.AF_INET6, (ipv6.CLIENT, ipv6.VIP, ipv6.SERVER), ipv6.LADDRS
    client, virtual, real = addrs

    def end(namespace, addr):
        with namespace:
            sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
        sock.settimeout(10 * kernel.SLOW)
        sock.bind((addr, 3868 if namespace is world.server else 0))
        return sock

    with end(world.server, real) as listener, end(world.client, client) as ours:
        listener.listen(5)
        ours.connect((virtual, port))
        theirs, peer = listener.accept()
        with theirs:
            theirs.settimeout(10 * kernel.SLOW)
            assert (peer[0] in local) == (method == "fullnat"), peer
            for size in (1, 1400, 60000):
                data = struct.pack("!I", size) * (size // 4 + 1)
                for sender, receiver in ((ours, theirs), (theirs, ours)):
                    sender.sendall(data)
                    got = b""
                    while len(got) < len(data):
                        got += receiver.recv(100000)
                    assert got == data
            state, = [line.split()[7] for line in world.director.proc("ip_vs_conn").splitlines()[1:]
                      if int(line.split()[4], 16) == port]
            assert state == "ESTABLISHED", state
    assert not [line for line in world.client.proc("sctp/snmp").splitlines()
                if line.startswith("SctpChecksumErrors") and line.split()[1] != "0"]
