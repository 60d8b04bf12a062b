# SPDX-License-Identifier: GPL-2.0
"""Captured frames, read: who sent them to whom on the wire, and what is in them, tunnels included."""

import socket
import struct

from stage import LabFailed, say

# The library of the selftests, which stage.py has put in reach.
from packet import ICMP, Malformed, Packet

IPIP, GUE = 4, 6080
ETHERNET, RAW = 1, 101
NEIGHBOUR = {135: "who has", 136: "I have"}
REASONS = {(11, 0): "time exceeded", (3, 4): "too long"}


class Arp:
    """An ARP message for IPv4 on Ethernet."""

    def __init__(self, data):
        self.operation, self.sender_mac, sender, _, target = struct.unpack("!6xH6s4s6s4s", data[:28])
        self.sender, self.target = socket.inet_ntoa(sender), socket.inet_ntoa(target)

    def told(self, names):
        """The line about it."""
        if self.operation == 1:
            return f"ARP who has {self.target}? Tell {self.sender}"
        return f"ARP {self.sender} is at {mac(self.sender_mac)} ({names.get(mac(self.sender_mac), '?')})"


class Packet6:
    """An IPv6 packet, as far as it is told: the ends, TCP's flags, who is asked for by neighbour discovery."""

    def __init__(self, data):
        if len(data) < 40:
            raise Malformed(f"{len(data)} bytes")
        self.proto, self.ttl = data[6], data[7]
        self.src, self.dst = (socket.inet_ntop(socket.AF_INET6, data[at:at + 16]) for at in (8, 24))
        self.sport = self.dport = self.flags = self.target = self.kind = None
        self.payload, self.l4 = b"", data[40:]
        if self.proto == socket.IPPROTO_TCP:
            self.sport, self.dport = struct.unpack("!HH", self.l4[:4])
            self.flags, self.payload = self.l4[13], self.l4[(self.l4[12] >> 4) * 4:]
        elif self.proto == socket.IPPROTO_ICMPV6 and self.l4[0] in NEIGHBOUR:
            self.kind, self.target = self.l4[0], socket.inet_ntop(socket.AF_INET6, self.l4[8:24])


class Frame:
    """A frame: `packet` is what it carries, `inner` what that carries if it is a tunnel's."""

    def __init__(self, when, link, data):
        self.when, self.dst, self.src, self.packet, self.arp = when, "", "", None, None
        kind = 0x0800
        if link == ETHERNET:
            self.dst, self.src = mac(data[:6]), mac(data[6:12])
            kind, = struct.unpack("!H", data[12:14])
            data = data[14:]
        if kind == 0x0806:
            self.arp = Arp(data)
        elif kind == 0x0800:
            self.packet = Packet(data)
        elif kind == 0x86DD:
            self.packet = Packet6(data)
        self.inner = decapsulated(self.packet) if kind == 0x0800 else None

    @property
    def segment(self):
        """The packet between client and server, whatever it is wrapped in."""
        return self.inner or self.packet


def mac(data):
    """The usual notation of an Ethernet address."""
    return data.hex(":")


def decapsulated(packet):
    """What an IPIP or GUE packet carries; None if it is neither."""
    data = None
    if packet.proto == IPIP:
        data = packet.l4
    elif packet.dport == GUE and packet.proto == socket.IPPROTO_UDP:
        # The low five bits of the first byte count words behind the first one.
        data = packet.payload[4 + 4 * (packet.payload[0] & 31):]
    try:
        return data and Packet(data)
    except Malformed:
        return None


def read(path):
    """The frames of a capture file in order."""
    with open(path, "rb") as file:
        data = file.read()
    link, = struct.unpack("<I", data[20:24])
    if link not in (ETHERNET, RAW):
        raise LabFailed(f"{path}: link type {link}")
    at, frames = 24, []
    while at + 16 <= len(data):
        seconds, micros, size, _ = struct.unpack("<IIII", data[at:at + 16])
        if at + 16 + size > len(data):
            break
        try:
            frames.append(Frame(seconds + micros / 1e6, link, data[at + 16:at + 16 + size]))
        except Malformed:
            pass
        at += 16 + size
    return frames


def about(packet):
    """What is said of a packet: ends, flags, size, TTL."""
    if packet.proto == ICMP:
        return (f"{packet.src} > {packet.dst} ICMP " +
                REASONS.get((packet.kind, packet.code), f"{packet.kind}/{packet.code}") +
                (f", mtu {packet.mtu}" if (packet.kind, packet.code) == (3, 4) else ""))
    if packet.proto == socket.IPPROTO_ICMPV6:
        return f"{NEIGHBOUR.get(packet.kind, 'ICMPv6')} {packet.target}"
    ends = [f"[{addr}]" if ":" in addr else addr for addr in (packet.src, packet.dst)]
    text = f"{ends[0]}:{packet.sport} > {ends[1]}:{packet.dport}"
    if packet.flags is not None:
        words = [word for word, bit in (("SYN", 2), ("FIN", 1), ("RST", 4), ("ACK", 16)) if packet.flags & bit]
        text += " " + " ".join(words)
        if packet.payload:
            text += f" +{len(packet.payload)}"
    return f"{text} ttl {packet.ttl}"


def tell(frames, names, limit=6):
    """Prints frames: a line about who sends to whom on this wire, if it has that, and the packet's.

    `names` are those of the Ethernet addresses; more than `limit` frames are counted only.
    """
    for frame in frames[:limit]:
        ends = f"{names.get(frame.src, frame.src)} > {names.get(frame.dst, frame.dst)}: " if frame.src else ""
        if frame.arp:
            if frame.dst == "ff:ff:ff:ff:ff:ff":
                ends = f"{names.get(frame.src, frame.src)} > all: "
            say(f"    {ends}{frame.arp.told(names)}")
        elif frame.inner:
            outer = frame.packet
            kind = "IPIP" if outer.proto == IPIP else f"UDP {outer.sport} > {outer.dport}, GUE"
            say(f"    {ends}{outer.src} > {outer.dst} {kind} ttl {outer.ttl}")
            say(f"      [ {about(frame.inner)} ]")
        elif frame.packet:
            say(f"    {ends}{about(frame.packet)}")
    if len(frames) > limit:
        say(f"    ... {len(frames) - limit} more")
