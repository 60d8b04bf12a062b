# SPDX-License-Identifier: GPL-2.0
"""IPv6 by NAT and FullNAT: bytes on the wire, its TOA, extension headers, fragments, ICMPv6, real sockets.

    client fd01::2 ---- fd01::1 director fd02::1 ---- fd02::11 server       VIP fd09::80
"""

import contextlib
import hashlib
import socket
import threading

import genl
import kernel
import packet
import packet6
from genl import Genl
from lib import (
    _MAC,
    Tap,
    clean,
    each,
    each_method,
    same,
    wait_for,
)
from packet import ACK, PSH, SYN, TCP, UDP
from packet6 import DESTINATION, ICMP6, icmp6, ip6

VIP = "fd09::80"
CLIENT, GHOST_CLIENT = "fd01::2", "fd01::101"
SERVER, GHOST_SERVER = "fd02::11", "fd02::101"
LADDRS = ["fd02::201", "fd02::202"]
ROUTER = "fd02::116"
HOST = socket.AF_INET6

# Who calls `ready` says so of itself.
SPOILS_WORLD = True


def ready(world):
    """Gives the world addresses of IPv6, once."""
    if getattr(world, "has_ipv6", False):
        return
    world.has_ipv6 = True
    mac = {device: ":".join(text[n:n + 2] for n in range(0, 12, 2)) for device, text in _MAC.items()}
    for namespace in (world.client, world.director, world.server):
        for name, value in (("all.disable_ipv6", 0), ("default.disable_ipv6", 0), ("all.accept_dad", 0),
                            ("default.accept_dad", 0)):
            namespace.sysctl(f"net.ipv6.conf.{name}", value)
    for namespace, device in ((world.client, "c0"), (world.director, "dc"), (world.director, "ds"),
                              (world.server, "s0")):
        namespace.sysctl(f"net.ipv6.conf.{device}.disable_ipv6", 0)
        namespace.sysctl(f"net.ipv6.conf.{device}.router_solicitations", 0)
    world.director.sysctl("net.ipv6.conf.lo.disable_ipv6", 0)
    world.director.sysctl("net.ipv6.conf.all.forwarding", 1)
    world.director.sysctl("net.ipv6.icmp.ratelimit", 0)
    world.director.ip(
        "addr replace fd01::1/64 dev dc nodad", "addr replace fd02::1/64 dev ds nodad",
        f"addr replace {VIP}/128 dev lo nodad", *(f"addr replace {addr}/64 dev ds nodad" for addr in LADDRS),
        *(f"neigh replace {addr} lladdr {mac['c0']} dev dc nud permanent" for addr in (CLIENT, GHOST_CLIENT)),
        *(f"neigh replace {addr} lladdr {mac['s0']} dev ds nud permanent"
          for addr in (SERVER, GHOST_SERVER, ROUTER)))
    world.client.ip(
        f"addr replace {CLIENT}/64 dev c0 nodad", f"neigh replace fd01::1 lladdr {mac['dc']} dev c0 nud permanent",
        "route replace ::/0 via fd01::1")
    world.server.ip(
        f"addr replace {SERVER}/64 dev s0 nodad",
        *(f"neigh replace {addr} lladdr {mac['ds']} dev s0 nud permanent" for addr in ["fd02::1"] + LADDRS),
        "route replace ::/0 via fd02::1")


def serve(world, method, server=GHOST_SERVER, dport=8080, proto=TCP, sched=b"rr\0"):
    """Adds a service on the VIP with one server; returns its port."""
    ready(world)
    port = world.port()
    key = genl.service(VIP, port, proto, full=False)
    with world.director, Genl("IPVS") as ipvs:
        ipvs.call(genl.NEW_SERVICE, genl.service(VIP, port, proto, sched))
        if method == "fullnat":
            with Genl("RLVS") as rlvs:
                for addr in LADDRS:
                    rlvs.call(genl.NEW_LADDR, key + genl.laddr(addr))
        if server:
            ipvs.call(genl.NEW_DEST, key + genl.dest(server, dport, method={"nat": 0, "fullnat": 5}[method]))
    return port


class Flow6:
    """A flow of crafted packets between a client and a server that have no stack."""

    def __init__(self, world, port, proto=TCP):
        self.vport, self.proto = port, proto
        self.client = (GHOST_CLIENT, world.port())
        self.at_client, self.at_server = Tap(world.client, "c0"), Tap(world.server, "s0")
        self.peer = self.server = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.at_client.sock.close()
        self.at_server.sock.close()

    def packet(self, src, dst, what, **ip):
        """A packet between two ends; `what` are TCP's flags and more, or UDP's payload."""
        ends = (src[0], dst[0], src[1], dst[1])
        l4 = packet.tcp(*ends, *what[0], **what[1]) if self.proto == TCP else packet.udp(*ends, what)
        return ip6(src[0], dst[0], self.proto, l4, **ip)

    def request(self, what, **ip):
        """Sends a packet from the client; returns what reaches the server."""
        list(self.at_server.frames())
        self.at_client.send(self.packet(self.client, (VIP, self.vport), what, **ip))
        seen = clean(self.at_server.wait())
        self.peer, self.server = seen.flow
        return seen

    def reply(self, what, **ip):
        """Sends a packet from the server; returns what reaches the client."""
        list(self.at_client.frames())
        self.at_server.send(self.packet(self.server, self.peer, what, **ip))
        return clean(self.at_client.wait())


def tcp(flags, seq=1000, ack=0, payload=b"", **more):
    """What Flow6 makes a TCP packet of."""
    return (flags, seq, ack, payload), more


@each_method
def test_tcp(world, method):
    """Addresses, ports and hop limit change; traffic class, flow label and payload arrive as sent."""
    port = serve(world, method)
    with Flow6(world, port) as flow:
        seen = flow.request(tcp(SYN, options=packet.syn_options()), hops=33, tclass=0x28, label=0x12345)
        same(seen, dst=GHOST_SERVER, dport=8080, ttl=32, tos=0x28, label=0x12345, flags=SYN)
        if method == "nat":
            assert flow.peer == flow.client and seen.option_bytes == packet.syn_options()
        else:
            assert flow.peer[0] in LADDRS
            # 20 bytes beside the 20 of a usual SYN: the option has just room.
            assert seen.toa() == [flow.client], seen.toa()
        seen = flow.reply(tcp(SYN | ACK, 5000, 1001, options=packet.syn_options()), hops=9)
        same(seen, src=VIP, sport=port, dst=flow.client[0], dport=flow.client[1], ttl=8)
        mss = dict(seen.tcp_options())[2]
        assert int.from_bytes(mss[2:], "big") == 1460 - (20 if method == "fullnat" else 0)
        flow.request(tcp(ACK, 1001, 5001))
        same(flow.reply(tcp(PSH | ACK, 5001, 1001, b"banner")), payload=b"banner", seq=5001)
        for size in (0, 1, 536, 1439):
            data = bytes(n & 255 for n in range(size))
            seen = flow.request(tcp(PSH | ACK, 1001, 5007, data))
            same(seen, payload=data, option_bytes=b"", dst=GHOST_SERVER)
            same(flow.reply(tcp(PSH | ACK, 5007, 1001, data)), payload=data, src=VIP)
        conn, = world.conns(port)
        assert conn.client == flow.client and conn.virtual == (VIP, port), conn
        assert conn.server == (GHOST_SERVER, 8080) and conn.state == "ESTABLISHED", conn


@each_method
def test_udp(world, method):
    """UDP both ways, lengths even and odd."""
    with Flow6(world, serve(world, method, proto=UDP), UDP) as flow:
        for size in (0, 1, 2, 511, 1400):
            data = bytes((size + n) & 255 for n in range(size))
            same(flow.request(data), dst=GHOST_SERVER, dport=8080, payload=data)
            same(flow.reply(data), src=VIP, sport=flow.vport, payload=data)


@each_method
def test_extension_headers(world, method):
    """Extension headers before the transport header stay, and nothing behind them is mistaken."""
    options = packet6.extension(b"\x1e\x0c" + bytes(range(12)))
    chain = [(DESTINATION, options), (DESTINATION, packet6.extension())]
    port = serve(world, method)
    with Flow6(world, port) as flow:
        seen = flow.request(tcp(SYN, options=packet.MSS1460), ext=chain)
        same(seen, dst=GHOST_SERVER, dport=8080, ext=[DESTINATION] * 2)
        assert options in seen.data
        assert method == "nat" or seen.toa() == [flow.client]
        seen = flow.reply(tcp(SYN | ACK, 5000, 1001), ext=chain[1:])
        same(seen, src=VIP, sport=port, ext=[DESTINATION])
    with Flow6(world, serve(world, method, proto=UDP), UDP) as flow:
        same(flow.request(b"behind options", ext=chain), payload=b"behind options", dst=GHOST_SERVER)


@each_method
def test_fragments(world, method):
    """A datagram in fragments arrives whole at the server, as one packet or as fragments."""
    data = bytes(n & 255 for n in range(2400))
    with Flow6(world, serve(world, method, proto=UDP), UDP) as flow:
        src, sport = flow.client
        whole = packet.udp(src, VIP, sport, flow.vport, data)
        for at in (0, 1200):
            more = 1 if at == 0 else 0
            part = whole[at:at + 1200] if more else whole[at:]
            flow.at_client.send(ip6(src, VIP, UDP, part, ext=[(packet6.FRAGMENT, packet6.fragment(at, more, 7))]))
        parts, have = {}, 0
        while have < len(whole):
            seen = flow.at_server.wait()
            same(seen, dst=GHOST_SERVER)
            parts[seen.frag & 0x1FFF] = seen.l4
            have = sum(map(len, parts.values()))
        datagram = b"".join(part for _, part in sorted(parts.items()))
        seen = clean(packet6.Packet6(ip6(seen.src, seen.dst, UDP, datagram)))
        same(seen, dport=8080, payload=data)


@each("nat-udp", "nat-tcp", "fullnat-udp", "fullnat-tcp")
def test_icmp_to_client(world, variant):
    """An error from behind the director reaches the client about the packet that the client has sent."""
    method, name = variant.split("-")
    proto = TCP if name == "tcp" else UDP
    port = serve(world, method, proto=proto)
    with Flow6(world, port, proto) as flow:
        what = tcp(SYN) if proto == TCP else b"request" * 20
        arrived = flow.request(what, ext=[(DESTINATION, packet6.extension())])
        if proto == TCP:
            flow.reply(tcp(SYN | ACK, 5000, 1001))
            arrived = flow.request(tcp(ACK, 1001, 5001))
        for kind, code, rest in ((1, 4, 0), (2, 0, 1400), (3, 0, 0), (4, 0, 6)):
            about = arrived.data[:600]
            error = ip6(ROUTER, arrived.src, ICMP6, icmp6(ROUTER, arrived.src, kind, code, rest, about))
            list(flow.at_client.frames())
            flow.at_server.send(error)
            seen = clean(flow.at_client.wait(lambda one: one.proto == ICMP6))
            same(seen, src=VIP, dst=flow.client[0], kind=kind, code=code)
            # The client's segments have the option still: they are shorter than what the router saw.
            shorter = 20 if kind == 2 and variant == "fullnat-tcp" else 0
            assert seen.rest == rest - shorter, seen.rest
            inner = packet6.Packet6(seen.payload)
            assert inner.flow == (flow.client, (VIP, port)), inner
            assert not clean(inner).sums()


@each("nat", "fullnat")
def test_icmp_to_server(world, method):
    """An error about the server's packet reaches the server, about the packet that the server has sent."""
    port = serve(world, method, proto=UDP)
    with Flow6(world, port, UDP) as flow:
        flow.request(b"request")
        answered = flow.reply(b"answer" * 50)
        flow.at_client.send(ip6(flow.client[0], VIP, ICMP6,
                                icmp6(flow.client[0], VIP, 1, 4, 0, answered.data)))
        seen = clean(flow.at_server.wait(lambda one: one.proto == ICMP6))
        same(seen, dst=GHOST_SERVER, kind=1, code=4)
        inner = packet6.Packet6(seen.payload)
        assert inner.flow == (flow.server, flow.peer), inner
        assert method == "nat" or seen.src == flow.peer[0]


@each_method
def test_hop_limit_and_size(world, method):
    """A packet whose last hop is here, or that is too long for the way, is answered by an error."""
    port = serve(world, method, proto=UDP)
    with Flow6(world, port, UDP) as flow:
        flow.request(b"hello")
        flow.at_client.send(flow.packet(flow.client, (VIP, port), b"last hop", hops=1))
        same(clean(flow.at_client.wait(lambda one: one.proto == ICMP6)), kind=3, code=0, dst=flow.client[0])
        world.director.ip("link set ds mtu 1300")
        try:
            flow.at_client.send(flow.packet(flow.client, (VIP, port), b"x" * 1400))
            seen = clean(flow.at_client.wait(lambda one: one.proto == ICMP6))
            same(seen, kind=2, rest=1300, dst=flow.client[0])
            flow.at_server.silent(lambda one: one.dst == GHOST_SERVER)
        finally:
            world.director.ip("link set ds mtu 1500")


def test_no_destination(world):
    """A service without a destination answers by an error; what is for no service, the host itself."""
    port = serve(world, "nat", None, proto=UDP)
    with Flow6(world, port, UDP) as flow:
        flow.at_client.send(flow.packet(flow.client, (VIP, port), b"anybody?"))
        same(clean(flow.at_client.wait()), proto=ICMP6, kind=1, code=4)


def test_stranger_cannot_forge(world):
    """An option of TOA's kind that a client itself has sent is made unreadable, of either length."""
    forged = packet.toa("2001:db8::66", 666)
    with Flow6(world, serve(world, "fullnat")) as flow:
        assert flow.request(tcp(SYN, options=forged)).toa() == [flow.client]
    with Flow6(world, serve(world, "nat")) as flow:
        seen = flow.request(tcp(SYN, options=forged))
        assert seen.option_bytes == packet.NOP * 20, seen.option_bytes


@contextlib.contextmanager
def listening(namespace, addr, port):
    """A listening socket."""
    with namespace:
        sock = socket.socket(HOST)
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.settimeout(5 * kernel.SLOW)
        sock.bind((addr, port))
        sock.listen(64)
        yield sock


def transfer(namespace, port, listener, size):
    """Sends so many bytes to the VIP and takes as many back; both arrive unharmed."""
    data = bytes(n * 7 & 255 for n in range(251)) * (size // 251 + 1)
    want = hashlib.sha256(data).digest()

    def serve_one():
        conn, _ = listener.accept()
        with conn:
            conn.settimeout(20 * kernel.SLOW)
            got = b"".join(iter(lambda: conn.recv(1 << 16), b""))
            conn.sendall(hashlib.sha256(got).digest() + got)
    thread = threading.Thread(target=serve_one)
    thread.start()
    with namespace:
        sock = socket.socket(HOST)
    with sock:
        sock.settimeout(20 * kernel.SLOW)
        sock.connect((VIP, port))
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        back = b"".join(iter(lambda: sock.recv(1 << 16), b""))
    thread.join()
    assert back == want + data, f"{len(back)} bytes came back of {len(data)} and a sum"


@each_method
def test_real_sockets(world, method):
    """A megabyte each way over TCP, in large segments."""
    port = serve(world, method, SERVER, 8080)
    with listening(world.server, SERVER, 8080) as listener:
        transfer(world.client, port, listener, 1 << 20)


@each_method
def test_director_is_the_client(world, method):
    """The director itself opens a connection to the VIP."""
    port = serve(world, method, SERVER, 8080)
    with listening(world.server, SERVER, 8080) as listener:
        transfer(world.director, port, listener, 100000)


def test_director_is_the_server(world):
    """A real server on the director itself."""
    port = serve(world, "nat", "fd02::1", 8089)
    with listening(world.director, "fd02::1", 8089) as listener:
        transfer(world.client, port, listener, 100000)


def test_mark(world):
    """A service of a mark takes packets of IPv6 with that mark, whichever their port."""
    ready(world)
    key = genl.service(66, HOST, full=False)
    with world.director, Genl("IPVS") as ipvs:
        ipvs.call(genl.NEW_SERVICE, genl.service(66, HOST))
        ipvs.call(genl.NEW_DEST, key + genl.dest(SERVER, 8081))
    with listening(world.server, SERVER, 8081) as listener:
        with world.director:
            sock = socket.socket(HOST)
        with sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 66)
            sock.settimeout(5 * kernel.SLOW)
            sock.connect((VIP, 4711))
            listener.accept()[0].close()


def test_conns_end(world):
    """Connections of IPv6 expire, too."""
    port = serve(world, "nat", proto=UDP)
    world.adm("--set 0 0 2")
    with Flow6(world, port, UDP) as flow:
        flow.request(b"short")
        assert len(world.conns(port)) == 1
        wait_for(lambda: not world.conns(port), 20, 0.2, "the connection to end")
