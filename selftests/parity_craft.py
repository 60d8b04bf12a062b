# SPDX-License-Identifier: GPL-2.0
"""Packets of both families as bytes. scapy makes their headers, once for each kind, as it takes its time.

Addresses, lengths and what sums depend on them are put in behind it.
"""

import functools
import importlib
import socket
import struct

import packet
from parity_dissect import GUE_PORT, ICMPV6, IDENT, SCTP, TCP, UDP, pseudo


class Late:
    """A module that is imported when it is used first: scapy takes seconds."""

    def __init__(self, name):
        self.name = name

    def __getattr__(self, name):
        return getattr(importlib.import_module(self.name), name)


inet, inet6, sctp = Late("scapy.layers.inet"), Late("scapy.layers.inet6"), Late("scapy.layers.sctp")
CSUM, DATA_VALID = 1, 2
GSO = {(4, "tcp"): 1, (6, "tcp"): 4, (4, "udp"): 5, (6, "udp"): 5}
NUMBER = {"tcp": TCP, "udp": UDP, "sctp": SCTP}

# Extension headers of IPv6 by name.
HEADERS = {
    "hop": lambda: inet6.IPv6ExtHdrHopByHop(options=[inet6.PadN(optdata=b"\0" * 4)]),
    "dst": lambda: inet6.IPv6ExtHdrDestOpt(options=[inet6.PadN(optdata=b"\0" * 4)]),
    "long": lambda: inet6.IPv6ExtHdrDestOpt(options=[inet6.PadN(optdata=b"\0" * 100)]),
    "routing": lambda: inet6.IPv6ExtHdrRouting(type=253, segleft=0, addresses=["2001:db8::1"]),
    "atomic": lambda: inet6.IPv6ExtHdrFragment(offset=0, m=0, id=IDENT),
}
OPTIONS = {
    "alert": b"\x94\x04\0\0", "nop": b"\x01\x01\x01\x01",
    "timestamp": b"\x44\x0c\x05\x00" + bytes(8), "record": b"\x07\x0b\x04" + bytes(8) + b"\0",
    "loose": b"\x83\x07\x04\x0a\x02\x00\x0b\x00",
}


@functools.lru_cache(None)
def ip(family, proto, *, ttl=64, tos=0, df=True, ident=IDENT, headers=(), options=""):
    """Headers of IP for a protocol, without addresses and lengths."""
    if family == 4:
        head = inet.IP(src="0.0.0.0", dst="0.0.0.0", ttl=ttl, tos=tos, id=ident, flags="DF" if df else 0, proto=proto)
        if options:
            head.options = [inet.IPOption(OPTIONS[options])]
        return bytes(head)
    head = inet6.IPv6(src="::", dst="::", hlim=ttl, tc=tos)
    for name in headers:
        head = head / HEADERS[name]()
    head.lastlayer().nh = proto
    return bytes(head)


def other(family, src, dst, proto, body, **how):
    """A packet of any protocol; `how` is told by ip()."""
    head = ip(family, proto, **how)
    src, dst = address(src), address(dst)
    if family == 4:
        head = head[:2] + struct.pack("!H", len(head) + len(body)) + head[4:10] + b"\0\0" + src + dst + head[20:]
        return head[:10] + struct.pack("!H", packet.checksum(head)) + head[12:] + body
    return head[:4] + struct.pack("!H", len(head) + len(body) - 40) + head[6:8] + src + dst + head[40:] + body


def summed(src, dst, proto, body, field):
    """Puts the sum of a transport's packet at its field."""
    body = body[:field] + b"\0\0" + body[field + 2:]
    check = packet.checksum(pseudo(address(src), address(dst), proto, len(body)) + body)
    return body[:field] + struct.pack("!H", check or (0xFFFF if proto == UDP else 0)) + body[field + 2:]


@functools.lru_cache(None)
def segment(sport, dport, flags, seq, ack, opts, check, doff):
    """A header of TCP."""
    options = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (7, 0)), ("NOP", None), ("WScale", 7)] if opts == "syn" \
        else [("NOP", None), ("NOP", None), ("Timestamp", (7, 8))] if opts else []
    return bytes(inet.TCP(sport=sport, dport=dport, flags=flags, seq=seq, ack=ack, options=options, chksum=check or 0,
                          dataofs=doff))


def tcp(family, src, sport, dst, dport, flags, seq=1000, ack=0, data=b"", opts="", check=None, doff=None, **how):
    """A TCP segment; `flags` are letters."""
    body = segment(sport, dport, flags, seq, ack, opts, check, doff) + data
    return other(family, src, dst, TCP, summed(src, dst, TCP, body, 16) if check is None else body, **how)


def udp(family, src, sport, dst, dport, data=b"", check=None, length=None, **how):
    """A UDP datagram."""
    body = struct.pack("!HHHH", sport, dport, 8 + len(data) if length is None else length, check or 0) + data
    return other(family, src, dst, UDP, summed(src, dst, UDP, body, 6) if check is None else body, **how)


CHUNKS = {
    "init": lambda: sctp.SCTPChunkInit(init_tag=0x11223344, a_rwnd=106496, n_out_streams=10, n_in_streams=10,
                                       init_tsn=77),
    "init-ack": lambda: sctp.SCTPChunkInitAck(init_tag=0x55667788, a_rwnd=106496, n_out_streams=10, n_in_streams=10,
                                              init_tsn=99, params=[sctp.SCTPChunkParamStateCookie(cookie=b"cook")]),
    "cookie-echo": lambda: sctp.SCTPChunkCookieEcho(cookie=b"cook"),
    "cookie-ack": lambda: sctp.SCTPChunkCookieAck(),
    "data": lambda: sctp.SCTPChunkData(data=b"datum123", tsn=77, ending=1, beginning=1),
    "sack": lambda: sctp.SCTPChunkSACK(cumul_tsn_ack=77, a_rwnd=1000),
    "shutdown": lambda: sctp.SCTPChunkShutdown(cumul_tsn_ack=99),
    "shutdown-ack": lambda: sctp.SCTPChunkShutdownAck(),
    "shutdown-complete": lambda: sctp.SCTPChunkShutdownComplete(),
    "abort": lambda: sctp.SCTPChunkAbort(),
    "error": lambda: sctp.SCTPChunkError(error_causes=b"\0\x01\0\x04"),
    "heartbeat": lambda: sctp.SCTPChunkHeartbeatReq(params=[sctp.SCTPChunkParamHeartbeatInfo(data=b"beat")]),
}


@functools.lru_cache(None)
def chunks_of(sport, dport, names, tag, check):
    """A packet of SCTP."""
    body = sctp.SCTP(sport=sport, dport=dport, tag=0 if names[:1] == ("init",) else tag, chksum=check)
    for name in names:
        body = body / CHUNKS[name]()
    return bytes(body)


def stream(family, src, sport, dst, dport, *chunks, tag=0x55667788, check=None, **how):
    """An SCTP packet with these chunks."""
    return other(family, src, dst, SCTP, chunks_of(sport, dport, chunks, tag, check), **how)


def icmp(family, src, dst, kind, code, data=b"", rest=0, check=None, **how):
    """An ICMP message: an error about `data`, with `rest` in the word before it, or anything else."""
    body = struct.pack("!BBHI", kind, code, 0, rest) + data
    if check is None:
        whole = body
        if family == 6:
            whole = pseudo(address(src), address(dst), ICMPV6, len(body)) + body
        check = packet.checksum(whole)
    body = body[:2] + struct.pack("!H", check) + body[4:]
    return other(family, src, dst, 1 if family == 4 else ICMPV6, body, **how)


@functools.lru_cache(None)
def address(text):
    """An address as bytes."""
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def around(method, outer, src, dst, inner):
    """A packet as a tunnel carries it, with headers that nobody checks filled in."""
    proto = 4 if inner[0] >> 4 == 4 else 41
    if method == "ipip":
        return other(outer, src, dst, proto, inner, df=False)
    if method.startswith("gre"):
        head = struct.pack("!HH", 0, 0x0800 if proto == 4 else 0x86DD)
        if method == "gre-csum":
            head = struct.pack("!HHI", 0x8000, 0x0800 if proto == 4 else 0x86DD, 0)
            head = head[:4] + struct.pack("!HH", packet.checksum(head + inner), 0)
        return other(outer, src, dst, 47, head + inner, df=False)
    return udp(outer, src, 40000, dst, GUE_PORT, struct.pack("!BBH", 0, proto, 0) + inner, df=False)


def fragments(data, size, order=None):
    """The fragments of a packet; `size` is a multiple of 8. `order` holds their numbers as they are sent."""
    family = data[0] >> 4
    if family == 4:
        at = (data[0] & 15) * 4
        body, made = data[at:], []
        for start in range(0, len(body), size):
            more = 0x2000 if start + size < len(body) else 0
            head = data[:2] + struct.pack("!HHH", at + len(body[start:start + size]), IDENT, more | start // 8) \
                + data[8:10] + b"\0\0" + data[12:at]
            head = head[:10] + struct.pack("!H", packet.checksum(head)) + head[12:]
            made.append(head + body[start:start + size])
    else:
        body, made = data[40:], []
        for start in range(0, len(body), size):
            more = 1 if start + size < len(body) else 0
            part = struct.pack("!BBHI", data[6], 0, start | more, IDENT) + body[start:start + size]
            made.append(data[:4] + struct.pack("!HB", len(part), 44) + data[7:40] + part)
    return made if order is None else [made[number] for number in order]


def vnet(data, proto, how):
    """(the packet, what the device tells of it): `how` is plain, valid, partial or gso."""
    if how == "plain":
        return data, bytes(10)
    if how == "valid":
        return data, struct.pack("=BBHHHH", DATA_VALID, 0, 0, 0, 0, 0)
    family = data[0] >> 4
    at = (data[0] & 15) * 4 if family == 4 else 40
    field = 16 if proto == "tcp" else 6
    src, dst = (data[12:16], data[16:20]) if family == 4 else (data[8:24], data[24:40])
    check = packet.checksum(pseudo(src, dst, NUMBER[proto], len(data) - at)) ^ 0xFFFF
    data = data[:at + field] + struct.pack("!H", check) + data[at + field + 2:]
    kind, size, head = 0, 0, at + 14
    if how == "gso":
        head += 20 if proto == "tcp" else 8
        kind, size = GSO[family, proto], 1000
    return data, struct.pack("=BBHHHH", CSUM, kind, head, size, at + 14, field)
