# SPDX-License-Identifier: GPL-2.0
"""Real servers that answer past the director, and packets of both families: what direct routing and tunnels need.

    client 10.1.0.2 ---- director ---- 10.2.0.11 server
       c1 10.3.0.2 ----------------- 10.3.0.1 s1     what has the VIP as its source goes this way

The servers have the VIP themselves. Over IPv6 everything is the same with fd01::, fd02::, fd03:: and the VIP fd09::80.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import select
import socket
import struct
import threading
import time
from collections import namedtuple

import genl
import kernel
import packet
from genl import Genl
from lib import CLIENT, GHOST_CLIENTS, GHOST_SERVERS, SERVERS, VIP, _MAC, Tap
from packet import TCP, UDP

# The addresses of one family: the client and the server without a stack, and those with one.
Addresses = namedtuple("Addresses", "family vip client server real_client real_server director router bits")
V4 = Addresses(socket.AF_INET, VIP, GHOST_CLIENTS[0], GHOST_SERVERS[0], CLIENT, SERVERS[0], "10.2.0.1",
               "10.2.0.116", 32)
V6 = Addresses(socket.AF_INET6, "fd09::80", "fd01::101", "fd02::101", "fd01::2", "fd02::11", "fd02::1",
               "fd02::116", 128)
FAMILY = {"4": V4, "6": V6}


def prepare(world):
    """Gives the world IPv6 and the servers their own way to the client, once."""
    if getattr(world, "is_farm", False):
        return
    world.is_farm = True
    mac = {device: ":".join(text[n:n + 2] for n in range(0, 12, 2)) for device, text in _MAC.items()}
    world.server.ip("link add s1 type veth peer name c1 netns client")
    devices = {world.client: ("lo", "c0", "c1"), world.director: ("lo", "dc", "ds"), world.server: ("lo", "s0", "s1")}
    for namespace, names in devices.items():
        for name, value in (("accept_dad", 0), ("router_solicitations", 0), ("dad_transmits", 0),
                            ("disable_ipv6", 0)):
            for where in ("default", "all"):
                namespace.sysctl(f"net.ipv6.conf.{where}.{name}", value)
        for device in names:
            namespace.sysctl(f"net.ipv6.conf.{device}.disable_ipv6", 0)
        namespace.sysctl("net.ipv6.icmp.ratelimit", 0)
        namespace.sysctl("net.ipv4.conf.all.rp_filter", 0)
        namespace.sysctl("net.ipv4.conf.default.rp_filter", 0)
    world.director.sysctl("net.ipv6.conf.all.forwarding", 1)
    world.director.ip(
        "addr add fd01::1/64 dev dc nodad", "addr add fd02::1/64 dev ds nodad",
        f"addr add {V6.vip}/128 dev lo nodad",
        *(f"neigh replace {addr} lladdr {mac['c0']} dev dc nud permanent" for addr in (V6.client, V6.real_client)),
        *(f"neigh replace {addr} lladdr {mac['s0']} dev ds nud permanent"
          for addr in (V6.server, V6.real_server, V6.router)))
    world.client.ip(
        "addr add fd01::2/64 dev c0 nodad", "link set c1 up", "addr add 10.3.0.2/24 dev c1",
        "addr add fd03::2/64 dev c1 nodad", f"neigh replace fd01::1 lladdr {mac['dc']} dev c0 nud permanent",
        "route add default via fd01::1")
    world.server.ip(
        "addr add fd02::11/64 dev s0 nodad", "link set s1 up", "addr add 10.3.0.1/24 dev s1",
        "addr add fd03::1/64 dev s1 nodad", f"neigh replace fd02::1 lladdr {mac['ds']} dev s0 nud permanent",
        "route add default via fd02::1",
        f"addr add {VIP}/32 dev lo", f"addr add {V6.vip}/128 dev lo nodad",
        f"rule add from {VIP} lookup 100", "route add default via 10.3.0.2 dev s1 table 100",
        "route add default via fd03::2 dev s1 table 100")
    world.server.run("ip", "-6", "rule", "add", "from", V6.vip, "lookup", "100")


@contextlib.contextmanager
def service(world, addresses, dests, *, proto="tcp", port=None, method=3, extra=b""):
    """A service on the family's VIP; `dests` holds (address, port). Gives its port, is deleted again."""
    port = port or world.port()
    number = TCP if proto == "tcp" else UDP
    key = genl.service(addresses.vip, port, number, full=False)
    with world.director, Genl("IPVS") as ipvs:
        ipvs.call(genl.NEW_SERVICE, genl.service(addresses.vip, port, number))
        try:
            for addr, dport in dests:
                ipvs.call(genl.NEW_DEST, key + genl.dest(addr, dport, method=method, extra=extra))
            yield port
        finally:
            ipvs.call(genl.DEL_SERVICE, key)


class Wire(Tap):
    """The wire at one device, which gives packets of either family as they are."""

    def heard(self):
        return [Ip(data) for data in self.frames()]

    def wait(self, match=lambda packet: True, seconds=8):
        end = time.monotonic() + seconds * kernel.SLOW
        others = []
        while True:
            for data in self.frames():
                found = Ip(data)
                if match(found):
                    return found
                others.append(found)
            left = end - time.monotonic()
            assert left > 0, f"the packet did not arrive; others did: {others[:8]}"
            select.select([self.sock], [], [], left)


class Flow:
    """One flow of crafted packets from the client without a stack towards the server without one."""

    def __init__(self, world, addresses, port):
        self.world, self.on, self.vport = world, addresses, port
        self.cport = world.port()
        self.at_client, self.at_server = Wire(world.client, "c0"), Wire(world.server, "s0")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.at_client.sock.close()
        self.at_server.sock.close()

    def tcp(self, flags, payload=b"", **how):
        """A segment of the client to the VIP."""
        return tcp(self.on.client, self.on.vip, self.cport, self.vport, flags, payload, **how)

    def udp(self, payload=b"", **how):
        """A datagram of the client to the VIP."""
        return udp(self.on.client, self.on.vip, self.cport, self.vport, payload, **how)

    def clear(self):
        """Forgets what has been heard."""
        self.at_client.heard()
        self.at_server.heard()

    def request(self, data):
        """Sends a packet from the client side; returns the one that reaches the server side."""
        self.clear()
        self.at_client.send(data)
        return self.at_server.wait()

    def refused(self, data):
        """The same; returns what comes back to the client side."""
        self.clear()
        self.at_client.send(data)
        return self.at_client.wait()

    def error(self, data):
        """Sends a packet from the server side; returns the one that reaches the client side."""
        self.clear()
        self.at_server.send(data)
        return self.at_client.wait()


class Ip:
    """An IP packet of either family: the fields of its header, and what follows."""

    def __init__(self, data):
        self.family = data[0] >> 4
        if self.family == 4:
            (_, self.tos, self.total, self.ident, self.frag, self.ttl, self.proto, _, src, dst) = \
                struct.unpack("!BBHHHBBH4s4s", data[:20])
            self.len = (data[0] & 15) * 4
            self.src, self.dst = socket.inet_ntoa(src), socket.inet_ntoa(dst)
            self.sum_ok = packet.checksum(data[:self.len]) == 0
        else:
            word, length, self.proto, self.ttl, src, dst = struct.unpack("!IHBB16s16s", data[:40])
            self.tos, self.flow_label, self.total = word >> 20 & 255, word & 0xFFFFF, length + 40
            self.len, self.sum_ok, self.ident, self.frag = 40, True, None, None
            self.src, self.dst = (socket.inet_ntop(socket.AF_INET6, addr) for addr in (src, dst))
        self.data, self.payload = data[:self.total], data[self.len:self.total]

    def l4_ok(self):
        """Is the transport checksum right?"""
        return l4_sum(self.src, self.dst, self.proto, self.payload) == 0

    def __repr__(self):
        return f"<IPv{self.family} {self.src} > {self.dst} proto {self.proto} ttl {self.ttl} +{len(self.payload)}>"


def packed(addr):
    """An address as bytes."""
    return socket.inet_pton(socket.AF_INET6 if ":" in addr else socket.AF_INET, addr)


def l4_sum(src, dst, proto, data):
    """The checksum of a segment with its pseudo header; 0 if it holds the right one."""
    if ":" in src:
        pseudo = packed(src) + packed(dst) + struct.pack("!IxxxB", len(data), proto)
    else:
        pseudo = packet.pseudo(src, dst, proto, len(data))
    return packet.checksum(pseudo + data)


def ip(src, dst, proto, payload, *, ttl=64, tos=0, frag=packet.DF, ident=0x1234):
    """An IP packet of the addresses' family."""
    if ":" not in src:
        return packet.ip(src, dst, proto, payload, ttl=ttl, tos=tos, frag=frag, ident=ident)
    return struct.pack("!IHBB16s16s", 6 << 28 | tos << 20, len(payload), proto, ttl, packed(src), packed(dst)) + payload


def tcp(src, dst, sport, dport, flags, payload=b"", seq=1000, options=b"", **how):
    """A TCP packet of the addresses' family."""
    segment = packet.tcp("0.0.0.0", "0.0.0.0", sport, dport, flags, seq, payload=payload, options=options, check=0)
    check = l4_sum(src, dst, TCP, segment)
    return ip(src, dst, TCP, segment[:16] + struct.pack("!H", check) + segment[18:], **how)


def udp(src, dst, sport, dport, payload=b"", **how):
    """A UDP packet of the addresses' family."""
    datagram = packet.udp("0.0.0.0", "0.0.0.0", sport, dport, payload, check=0)
    check = l4_sum(src, dst, UDP, datagram) or 0xFFFF
    return ip(src, dst, UDP, datagram[:6] + struct.pack("!H", check) + datagram[8:], **how)


def icmp_error(src, dst, kind, code, info, about, **how):
    """An ICMP or ICMPv6 error; `info` is the MTU of the next hop."""
    message = struct.pack("!BBHI", kind, code, 0, info) + about
    v6 = ":" in src
    check = l4_sum(src, dst, 58, message) if v6 else packet.checksum(message)
    return ip(src, dst, 58 if v6 else 1, message[:2] + struct.pack("!H", check) + message[4:], **how)


@contextlib.contextmanager
def finished(world):
    """For a while packets leave the director as they will be on a wire: segmented, with their checksums."""
    def offloads(value):
        """As `ethtool -K ds tx VALUE gso VALUE`, of which there would be two processes for each test."""
        with world.director, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for command in (0x17, 0x24):  # ETHTOOL_STXCSUM, ETHTOOL_SGSO
                data = ctypes.create_string_buffer(struct.pack("=II", command, value))
                fcntl.ioctl(sock, 0x8946, struct.pack("16sP16x", b"ds", ctypes.addressof(data)))  # SIOCETHTOOL
    offloads(0)
    try:
        yield
    finally:
        offloads(1)


def listen(world, where, addresses, port, kind=socket.SOCK_STREAM):
    """A socket on the family's VIP in a namespace."""
    with where:
        sock = socket.socket(addresses.family, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.settimeout(10 * kernel.SLOW)
    sock.bind((addresses.vip, port))
    if kind == socket.SOCK_STREAM:
        sock.listen(16)
    return sock


def upload(world, addresses, port, listener, size, *, where=None, source=None):
    """A client sends so many bytes through the service and gets their digest back, past the director."""
    def serve():
        theirs, _ = listener.accept()
        with theirs:
            theirs.settimeout(20 * kernel.SLOW)
            digest, left = hashlib.sha256(), size
            while left:
                data = theirs.recv(1 << 20)
                if not data:
                    break
                digest.update(data)
                left -= len(data)
            theirs.sendall(digest.digest())

    data = bytes(range(251)) * (size // 251 + 1)
    server = threading.Thread(target=serve)
    server.start()
    with where or world.client:
        ours = socket.socket(addresses.family)
    with ours:
        ours.settimeout(20 * kernel.SLOW)
        if source:
            ours.bind((source, 0))
        ours.connect((addresses.vip, port))
        ours.sendall(data[:size])
        told = ours.recv(32, socket.MSG_WAITALL)
    server.join()
    assert told == hashlib.sha256(data[:size]).digest(), f"of {size} bytes others arrived: {told.hex()}"
