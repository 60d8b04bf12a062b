# SPDX-License-Identifier: GPL-2.0
"""IPv6 packets as bytes, like packet.py's: built, wrong if wanted, and read back."""

import socket
import struct

import packet
from packet import TCP, UDP, Malformed, Packet, checksum, pseudo

ICMP6 = socket.IPPROTO_ICMPV6
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60


def extension(data=b""):
    """A hop-by-hop or destination options header with some padding: what follows its next header byte."""
    data = data or b"\x01\x04\0\0\0\0"
    assert len(data) % 8 == 6
    return bytes([len(data) // 8]) + data


def fragment(offset, more, ident):
    """A fragment header; the offset is in bytes."""
    return struct.pack("!BHI", 0, offset | more, ident)


def ip6(src, dst, proto, payload, *, hops=64, tclass=0, label=0, ext=(), length=None):
    """An IPv6 packet; `ext` holds extension headers as (number, bytes behind the next header byte)."""
    numbers = [number for number, _ in ext] + [proto]
    chain = b"".join(bytes([after]) + data for (_, data), after in zip(ext, numbers[1:]))
    size = len(chain) + len(payload) if length is None else length
    head = struct.pack("!IHBB", 6 << 28 | tclass << 20 | label, size, numbers[0], hops)
    return head + socket.inet_pton(socket.AF_INET6, src) + socket.inet_pton(socket.AF_INET6, dst) + chain + payload


def icmp6(src, dst, kind, code, rest, body, *, check=None):
    """An ICMPv6 message; `rest` is the 32 bits behind the checksum."""
    message = struct.pack("!BBHI", kind, code, 0, rest) + body
    if check is None:
        check = checksum(pseudo(src, dst, ICMP6, len(message)) + message)
    return message[:2] + struct.pack("!H", check) + message[4:]


class Packet6(Packet):
    """An IPv6 packet that was seen on a wire; `ext` holds the numbers of its extension headers."""

    def __init__(self, data):  # pylint: disable=super-init-not-called
        if len(data) < 40:
            raise Malformed(f"{len(data)} bytes")
        word, size, self.proto, self.ttl = struct.unpack("!IHBB", data[:8])
        self.tos, self.label = word >> 20 & 0xFF, word & 0xFFFFF
        self.src, self.dst = (socket.inet_ntop(socket.AF_INET6, data[at:at + 16]) for at in (8, 24))
        if word >> 28 != 6 or 40 + size > len(data):
            raise Malformed(f"version {word >> 28}, length {size} of {len(data)}")
        self.data, self.ihl, self.frag, self.ext = data[:40 + size], 40, 0, []
        while self.proto in (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION) and not self.frag & 0x1FFF:
            after, length, offset = struct.unpack("!BBH", self.data[self.ihl:self.ihl + 4])
            self.ext.append(self.proto)
            if self.proto == FRAGMENT:
                self.frag = offset >> 3 | (packet.MF if offset & 1 else 0)
                length = 0
            self.proto = after
            self.ihl += (length + 1) * 8
        self.l4 = self.payload = self.data[self.ihl:]
        self.sport = self.dport = self.flags = None
        if not self.frag & 0x1FFF:
            {TCP: self._tcp, UDP: self._udp, ICMP6: self._icmp}.get(self.proto, lambda: None)()

    def _icmp(self):
        super()._icmp()
        self.rest = int.from_bytes(self.l4[4:8], "big")

    def sums(self):
        wrong = []
        if not self.frag and self.proto in (TCP, UDP, ICMP6):
            if checksum(pseudo(self.src, self.dst, self.proto, len(self.l4)) + self.l4) != 0:
                wrong.append(f"checksum of protocol {self.proto}")
        return wrong

    def toa(self):
        return [(socket.inet_ntop(socket.AF_INET6, raw[4:20]), int.from_bytes(raw[2:4], "big"))
                for kind, raw in self.tcp_options() if kind == packet.TOA and len(raw) == 20]

    def is_noise(self):
        """Is it for a group: neighbour discovery, group membership?"""
        return self.dst.startswith("ff")


def read(data):
    """The packet of either family."""
    return Packet6(data) if data and data[0] >> 4 == 6 else Packet(data)
