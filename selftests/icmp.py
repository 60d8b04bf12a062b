# SPDX-License-Identifier: GPL-2.0
"""ICMP errors that belong to a connection: translated outside and inside, and path MTU discovery by them."""

import contextlib
import hashlib
import re
import socket
import threading

import kernel
import packet
import wire
from lib import (
    GHOST_CLIENTS,
    GHOST_SERVERS,
    LADDRS,
    SERVERS,
    VIP,
    Flow,
    Namespace,
    clean,
    each,
    each_method,
    need_rlvs,
    same,
    wait_for,
)
from packet import ACK, PSH, SYN, TCP, UDP, Embedded

SERVER = GHOST_SERVERS[0]
ROUTER_NEAR_SERVER = "10.2.0.116"
ROUTER_NEAR_CLIENT = "10.1.0.116"
# (type, code, next hop MTU)
ERRORS = {"port-unreachable": (3, 3, 0), "host-unreachable": (3, 1, 0), "frag-needed": (3, 4, 1400),
          "time-exceeded": (11, 0, 0)}
both = each("nat-udp", "nat-tcp", "fullnat-udp", "fullnat-tcp")


def error(kind, code, mtu, about, src, dst):
    """An ICMP error as a packet of its own."""
    return packet.ip(src, dst, packet.ICMP, packet.icmp_error(kind, code, about, mtu=mtu), ident=0xE0)


@contextlib.contextmanager
def opened(world, variant):
    """A flow over which a packet has gone each way; gives it and both packets as they arrived."""
    method, proto = variant.split("-")
    port = world.service(method, [(SERVER, 8080)], proto=proto)
    with Flow(world, port, proto) as flow:
        if proto == "tcp":
            wire.open_tcp(flow)
            arrived = flow.request(wire.tcp_request(flow, PSH | ACK, 1001, 5007, b"request" * 100))
            answered = flow.reply(wire.tcp_reply(flow, PSH | ACK, 5007, 1701, b"answer" * 100))
        else:
            arrived = flow.request(wire.udp_request(flow, b"request" * 100))
            answered = flow.reply(wire.udp_reply(flow, b"answer" * 100))
        yield flow, arrived, answered


@both
def test_server_to_client(world, variant):
    """An error about a client's packet reaches the client, about the packet that it has sent."""
    with opened(world, variant) as (flow, arrived, _):
        for name, (kind, code, mtu) in ERRORS.items():
            for size in (28, 48, 128):
                seen = clean(flow.reply(error(kind, code, mtu, arrived.data[:size], SERVER, arrived.src)))
                same(seen, proto=packet.ICMP, src=VIP, dst=flow.client[0], kind=kind, code=code, ttl=63)
                inner = Embedded(seen.payload)
                assert inner.flow == (flow.client, (VIP, flow.vport)), f"{name}: {inner.flow}"
                assert inner.sums_ok, f"{name}: the embedded header's checksum"
                # What is not an address or port is as it was.
                same(inner, total=arrived.total, ident=arrived.ident, ttl=arrived.ttl)
                if mtu:
                    assert seen.mtu == mtu, f"next hop MTU {seen.mtu}"


@both
def test_whole_packet_quoted(world, variant):
    """An error that quotes all of a packet: its transport checksum fits its new addresses."""
    need_rlvs()
    with opened(world, variant) as (flow, arrived, answered):
        seen = clean(flow.reply(error(3, 3, 0, arrived.data, SERVER, arrived.src)))
        clean(packet.Packet(seen.payload))
        seen = clean(flow.to_server(error(3, 3, 0, answered.data, flow.client[0], VIP)))
        clean(packet.Packet(seen.payload))


@both
def test_client_to_server(world, variant):
    """An error about a server's packet reaches the server, about the packet that it has sent."""
    with opened(world, variant) as (flow, arrived, answered):
        for name, (kind, code, mtu) in ERRORS.items():
            for size in (28, 48, 128):
                seen = clean(flow.to_server(
                    error(kind, code, mtu, answered.data[:size], flow.client[0], VIP)))
                same(seen, proto=packet.ICMP, dst=SERVER, kind=kind, code=code, ttl=63)
                if variant.startswith("fullnat"):
                    assert seen.src in LADDRS, f"from {seen.src}, whom the server may not reach"
                else:
                    same(seen, src=flow.client[0])
                inner = Embedded(seen.payload)
                assert inner.flow == (arrived.flow[1], arrived.flow[0]), f"{name}: {inner.flow}"
                assert inner.sums_ok, f"{name}: the embedded header's checksum"
                same(inner, total=answered.total, ident=answered.ident, ttl=answered.ttl)
                if mtu:
                    assert seen.mtu == mtu, f"next hop MTU {seen.mtu}"


@both
def test_from_a_router(world, variant):
    """Errors of routers on either side are for the connection as well as those of its ends."""
    with opened(world, variant) as (flow, arrived, answered):
        seen = clean(flow.reply(error(3, 4, 1300, arrived.data[:28], ROUTER_NEAR_SERVER, arrived.src)))
        same(seen, dst=flow.client[0], kind=3, code=4, mtu=1300)
        assert Embedded(seen.payload).flow == (flow.client, (VIP, flow.vport))
        seen = clean(flow.to_server(error(3, 4, 1300, answered.data[:28], ROUTER_NEAR_CLIENT, VIP)))
        same(seen, dst=SERVER, kind=3, code=4, mtu=1300)
        assert Embedded(seen.payload).flow == (arrived.flow[1], arrived.flow[0])


@both
def test_truncated(world, variant):
    """Too little of the quoted packet: nothing is translated, and the connection takes no harm."""
    with opened(world, variant) as (flow, arrived, answered):
        flow.clear()
        for size in range(24):
            flow.at_server.send(error(3, 3, 0, arrived.data[:size], SERVER, arrived.src))
            flow.at_client.send(error(3, 3, 0, answered.data[:size], flow.client[0], VIP))
        # They may be forwarded as plain packets; none may be taken for one of the connection.
        flow.at_client.silent(lambda seen: seen.src == VIP)
        flow.at_server.silent(lambda seen: seen.dst == SERVER)
        make = wire.udp_request if variant.endswith("udp") else \
            lambda flow, data: wire.tcp_request(flow, ACK, 1701, 5607, data)
        same(flow.request(make(flow, b"fine")), payload=b"fine")
        # Its ports are enough.
        for size in range(24, 28):
            seen = clean(flow.reply(error(3, 3, 0, arrived.data[:size], SERVER, arrived.src)))
            same(seen, src=VIP, dst=flow.client[0])
            assert seen.payload[20:24] == answered.data[22:24] + answered.data[20:22], seen.payload.hex()
            seen = clean(flow.to_server(error(3, 3, 0, answered.data[:size], flow.client[0], VIP)))
            same(seen, dst=SERVER)
            assert seen.payload[20:24] == arrived.data[22:24] + arrived.data[20:22], seen.payload.hex()


@both
def test_of_nobody(world, variant):
    """An error about a packet of no connection is left as it is."""
    method, proto = variant.split("-")
    world.service(method, [(SERVER, 8080)], proto=proto)
    client, number = GHOST_CLIENTS[5], UDP if proto == "udp" else TCP
    about = packet.ip(client, SERVER, number, b"\x12\x34\x1f\x90" + bytes(16))
    sent = error(3, 3, 0, about, SERVER, client)
    at_client, at_server = world.taps()
    with at_client, at_server:
        at_server.send(sent)
        seen = clean(at_client.wait())
        same(seen, src=SERVER, dst=client, ttl=63)
        assert seen.l4 == packet.Packet(sent).l4


@both
def test_bad_checksum(world, variant):
    """An error whose checksum is wrong is not made right by translating it."""
    with opened(world, variant) as (flow, arrived, _):
        flow.clear()
        bad = packet.icmp_error(3, 3, arrived.data[:28], check=0xBAD)
        flow.at_server.send(packet.ip(SERVER, arrived.src, packet.ICMP, bad))
        flow.at_client.silent(lambda seen: not seen.sums())


@contextlib.contextmanager
def narrow(world, device, mtu):
    """A smaller MTU on a device of the director for a while."""
    world.director.ip(f"link set {device} mtu {mtu}")
    try:
        yield
    finally:
        world.director.ip(f"link set {device} mtu 1500")


@both
def test_too_big_for_the_server_side(world, variant):
    """A packet with DF that is too big behind the director: the client is told, about its own packet."""
    with opened(world, variant) as (flow, _, _), narrow(world, "ds", 1300):
        make = wire.udp_request if variant.endswith("udp") else \
            lambda flow, data, **ip: wire.tcp_request(flow, ACK, 1701, 5607, data, **ip)
        flow.clear()
        flow.at_client.send(make(flow, bytes(1400)))
        seen = clean(flow.at_client.wait())
        same(seen, proto=packet.ICMP, dst=flow.client[0], kind=3, code=4, mtu=1300)
        inner = Embedded(seen.payload)
        assert inner.flow == (flow.client, (VIP, flow.vport)) and inner.sums_ok
        flow.at_server.silent()
        # Without DF it goes through in pieces.
        flow.at_client.send(make(flow, bytes(1400), frag=0))
        pieces = [flow.at_server.wait() for _ in range(2)]
        assert all(not piece.sums() and piece.total <= 1300 for piece in pieces), pieces
        assert sum(len(piece.l4) for piece in pieces) == 1400 + (8 if variant.endswith("udp") else 20)


@each("fullnat")
def test_too_big_with_toa(world, method):
    """While the option travels, the client is told to leave room for it."""
    port = world.service(method, [(SERVER, 8080)])
    with Flow(world, port) as flow, narrow(world, "ds", 1300):
        flow.request(wire.tcp_request(flow, SYN))
        flow.reply(wire.tcp_reply(flow, SYN | ACK, ack=1001))
        flow.clear()
        flow.at_client.send(wire.tcp_request(flow, ACK, 1001, 5001, bytes(1400)))
        same(clean(flow.at_client.wait()), kind=3, code=4, mtu=1292)


@both
def test_too_big_for_the_client_side(world, variant):
    """A packet with DF that is too big before the director: the server is told, about its own packet."""
    with opened(world, variant) as (flow, arrived, _), narrow(world, "dc", 1300):
        make = wire.udp_reply if variant.endswith("udp") else \
            lambda flow, data, **ip: wire.tcp_reply(flow, ACK, 5607, 1701, data, **ip)
        flow.clear()
        flow.at_server.send(make(flow, bytes(1400)))
        seen = clean(flow.at_server.wait())
        same(seen, proto=packet.ICMP, dst=SERVER, kind=3, code=4, mtu=1300)
        inner = Embedded(seen.payload)
        assert inner.flow == (arrived.flow[1], arrived.flow[0]) and inner.sums_ok
        flow.at_client.silent()
        flow.at_server.send(make(flow, bytes(1400), frag=0))
        pieces = [flow.at_client.wait() for _ in range(2)]
        assert all(not piece.sums() and piece.src == VIP and piece.total <= 1300 for piece in pieces)


@contextlib.contextmanager
def beyond(world, router, device, net, far, gateway):
    """A host behind a router whose far side takes 1300 bytes; gives its namespace.

    `router` is a namespace of the world, `device` the director's on the way to it.
    """
    host = Namespace("beyond")
    try:
        router.ip("link add far mtu 1300 type veth peer name eth0 mtu 1500 netns beyond",
                  f"addr add {net}.1/24 dev far", "link set far up")
        host.ip("link set lo up", "link set eth0 up", f"addr add {far}/24 dev eth0",
                f"route add default via {net}.1")
        router.sysctl("net.ipv4.ip_forward", 1)
        router.sysctl("net.ipv4.icmp_ratelimit", 0)
        world.director.ip(f"route add {net}.0/24 via {gateway} dev {device}")
        yield host
    finally:
        world.director.run("ip", "route", "del", f"{net}.0/24", check=False)
        router.sysctl("net.ipv4.ip_forward", 0)
        router.run("ip", "link", "del", "far", check=False)
        host.close()


def transfer(sender, receiver, size=200_000):
    """Sends bytes from one socket to the other; asserts that they arrive as they were sent."""
    data = hashlib.shake_128(b"path").digest(size)
    got = bytearray()

    def receive():
        while more := receiver.recv(1 << 16):
            got.extend(more)

    receiver.settimeout(20 * kernel.SLOW)
    sender.settimeout(20 * kernel.SLOW)
    thread = threading.Thread(target=receive)
    thread.start()
    sender.sendall(data)
    sender.shutdown(1)
    thread.join()
    assert bytes(got) == data, f"{len(got)} of {size} bytes, or others"


def learnt(namespace, where):
    """The path MTU that a host has learnt towards an address."""
    found = re.search(r"mtu (\d+)", namespace.run("ip", "route", "get", where).stdout)
    return found and int(found.group(1))


@each_method
def test_path_to_the_server(world, method):
    """A client learns of a narrow link beyond the director, and its upload gets through."""
    with beyond(world, world.server, "ds", "10.3.0", "10.3.0.2", SERVERS[0]) as far:
        port = world.service(method, [("10.3.0.2", 8080)])
        with far:
            listener = socket.create_server(("10.3.0.2", 8080))
        with listener, world.connect(port) as ours:
            theirs, _ = listener.accept()
            with theirs:
                # The server speaks first, so no option travels any more.
                theirs.sendall(b"!")
                assert ours.recv(1) == b"!"
                transfer(ours, theirs)
        wait_for(lambda: learnt(world.client, VIP) is not None, about="a path MTU at the client")
        assert learnt(world.client, VIP) == 1300


@each_method
def test_path_to_the_client(world, method):
    """A server learns of a narrow link on the client's side, and its download gets through."""
    with beyond(world, world.client, "dc", "10.3.1", "10.3.1.2", "10.1.0.2") as far:
        port = world.service(method, [(SERVERS[1], 8081)])
        with far:
            ours = socket.socket()
        with world.listen(SERVERS[1], 8081) as listener, ours:
            ours.settimeout(10 * kernel.SLOW)
            ours.connect((VIP, port))
            theirs, peer = listener.accept()
            with theirs:
                ours.sendall(b"?")
                assert theirs.recv(1) == b"?"
                transfer(theirs, ours)
        towards = "10.3.1.2" if method == "nat" else peer[0]
        assert learnt(world.server, towards) == 1300
