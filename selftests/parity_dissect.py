# SPDX-License-Identifier: GPL-2.0
"""Frames as text: every field of every header that leaves, but for what chance has put there.

Checksums are verified and told as right, wrong, missing or left to the device. An identifier that no test has sent
is somebody's own choice, and so is the source port of a GUE tunnel.
"""

import hashlib
import socket
import struct

from packet import checksum

ICMP, IPIP, TCP, UDP, IPV6, GRE, ESP, AH, ICMPV6, SCTP = 1, 4, 6, 17, 41, 47, 50, 51, 58, 132
EXTENSIONS = {0: "hop-by-hop", 43: "routing", 60: "destination"}
FRAGMENT = 44
# What tests send; segments count on from it.
IDENT = 0x5352
GUE_PORT = 6080
# The director's own packets have identifiers of chance, any: tunnels, and errors, which are of another precedence.
OWN = (bytes((10, 1, 0, 1)), bytes((10, 2, 0, 1)))
# Messages that hold the packet they are about.
ERRORS = {4: (3, 4, 5, 11, 12), 6: (1, 2, 3, 4)}

_crc = []
for _number in range(256):
    for _ in range(8):
        _number = _number >> 1 ^ (0x82F63B78 if _number & 1 else 0)
    _crc.append(_number)


def crc32c(data):
    """SCTP's checksum, as it stands in the packet."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _crc[(crc ^ byte) & 0xFF]
    return struct.pack("<I", crc ^ 0xFFFFFFFF)


def pseudo(src, dst, proto, length):
    """The pseudo header of both families; addresses are bytes."""
    if len(src) == 4:
        return src + dst + struct.pack("!HH", proto, length)
    return src + dst + struct.pack("!II", length, proto)


def bytes_told(data):
    """Bytes, or that much of them that tells them apart."""
    if len(data) <= 24:
        return data.hex() or "-"
    return f"{len(data)} bytes {hashlib.sha256(data).hexdigest()[:8]}"


def address(data):
    """An address's text."""
    return socket.inet_ntop(socket.AF_INET if len(data) == 4 else socket.AF_INET6, data)


class Dissector:
    """One packet's text. `partial` is the offset whose checksum the device has to fill in, `sealed` what is known."""

    def __init__(self, data, partial=None):
        self.data, self.partial = data, partial
        self.words = []

    def told(self):
        """The text."""
        self.packet(0, False)
        return " | ".join(self.words)

    def packet(self, at, quoted):
        """An IP packet; `quoted` is the beginning of one in an error."""
        data = self.data[at:]
        if len(data) >= 20 and data[0] >> 4 == 4:
            self.ipv4(at, quoted)
        elif len(data) >= 40 and data[0] >> 4 == 6:
            self.ipv6(at, quoted)
        else:
            self.words.append(f"bytes {bytes_told(data)}")

    def ipv4(self, at, quoted):
        """The header of IPv4 and what follows."""
        first, tos, total, ident, frag, ttl, proto, _, src, dst = struct.unpack("!BBHHHBBH4s4s", self.data[at:at + 20])
        size = (first & 15) * 4
        mark = f"{ident - IDENT:+}" if 0 <= ident - IDENT < 64 else "0" if not ident else "*"
        if not quoted and (src in OWN or proto == ICMP and tos & 0xE0 == 0xC0):
            mark = "*" if ident or not frag & 0x4000 else "0"
        flags = "".join(name for name, bit in (("RF ", 0x8000), ("DF ", 0x4000), ("MF ", 0x2000)) if frag & bit)
        # The stack writes its time into options of what it quotes, and leaves the sum.
        sums = "" if quoted or checksum(self.data[at:at + size]) == 0 else " sum wrong"
        options = self.data[at + 20:at + size].hex()
        if options.startswith("44"):
            options = options[:8] + "*"
        self.words.append(f"IPv4 {address(src)} > {address(dst)} ttl {ttl} tos {tos:#x} id {mark} {flags}"
                          f"at {(frag & 0x1FFF) * 8} length {total}{sums}"
                          + (f" options {options}" if options else ""))
        end = len(self.data) if quoted else min(len(self.data), at + total)
        if len(self.data) > at + total:
            self.words.append(f"{len(self.data) - at - total} bytes more")
        self.transport(proto, at + size, end, src, dst, frag & 0x3FFF, quoted)

    def ipv6(self, at, quoted):
        """The header of IPv6, those of extensions and what follows."""
        first, length, proto, hops, src, dst = struct.unpack("!IHBB16s16s", self.data[at:at + 40])
        self.words.append(f"IPv6 {address(src)} > {address(dst)} hops {hops} class {first >> 20 & 0xFF:#x} "
                          f"label {first & 0xFFFFF:#x} length {length}")
        end = len(self.data) if quoted else min(len(self.data), at + 40 + length)
        at, frag = at + 40, 0
        while at + 8 <= end:
            if proto in EXTENSIONS:
                size = self.data[at + 1] * 8 + 8
                self.words.append(f"{EXTENSIONS[proto]} {self.data[at + 2:at + size].hex()}")
            elif proto == FRAGMENT:
                size = 8
                frag, ident = struct.unpack("!HI", self.data[at + 2:at + 8])
                mark = f"{ident - IDENT:+}" if 0 <= ident - IDENT < 64 else "*"
                self.words.append(f"fragment at {frag & 0xFFF8}{' more' if frag & 1 else ''} id {mark}")
            else:
                break
            proto = self.data[at]
            at += size
        self.transport(proto, at, end, src, dst, frag & 0xFFF9, quoted)

    def sum_told(self, at, end, head, field, quoted, part):
        """What a checksum is worth; of what is quoted or cut there is only the number."""
        check = int.from_bytes(self.data[field:field + 2], "big")
        if quoted or part:
            return f"sum {check:#06x}" if quoted else "sum of the whole"
        if self.partial == at:
            wanted = checksum(head) ^ 0xFFFF
            return "sum left to the device" if check == wanted else "sum left to the device wrongly"
        return "sum right" if checksum(head + self.data[at:end]) == 0 else "sum WRONG"

    def transport(self, proto, at, end, src, dst, part, quoted):
        """What is behind the headers of IP."""
        body = self.data[at:end]
        if part & 0x1FFF and len(src) == 4 or part & 0xFFF8 and len(src) == 16:
            self.words.append(f"part of protocol {proto} {bytes_told(body)}")
            return
        head = pseudo(src, dst, proto, len(body))
        if proto == TCP and len(body) >= 20:
            sport, dport, seq, ack, words, flags, window, _, urgent = struct.unpack("!HHIIBBHHH", body[:20])
            size = (words >> 4) * 4
            names = "".join(name for name, bit in zip("FSRPAUEC", (1, 2, 4, 8, 16, 32, 64, 128)) if flags & bit)
            self.words.append(f"TCP {sport} > {dport} [{names}] seq {seq} ack {ack} window {window} urgent {urgent} "
                              f"header {size} " + self.sum_told(at, end, head, at + 16, quoted, part)
                              + (f" options {body[20:size].hex()}" if size > 20 else ""))
            self.words.append(bytes_told(body[max(size, 20):]))
        elif proto == UDP and len(body) >= 8:
            sport, dport, length, check = struct.unpack("!HHHH", body[:8])
            gue = dport == GUE_PORT and sport > 1023
            sums = "no sum" if not check else self.sum_told(at, end, head, at + 6, quoted, part)
            # The hash that spreads tunnels over paths has a random key.
            if gue and sums.startswith("sum 0x"):
                sums = "sum"
            self.words.append(f"UDP {'*' if gue else sport} > {dport} length {length} {sums}")
            if gue:
                self.gue(at + 8)
            else:
                self.words.append(bytes_told(body[8:]))
        elif proto == SCTP and len(body) >= 12:
            sport, dport, tag = struct.unpack("!HHI", body[:8])
            if quoted or part:
                sums = f"sum {body[8:12].hex()}"
            elif self.partial == at:
                sums = "sum left to the device"
            else:
                sums = "sum right" if crc32c(body[:8] + bytes(4) + body[12:]) == body[8:12] else "sum WRONG"
            self.words.append(f"SCTP {sport} > {dport} tag {tag:#x} {sums}")
            self.words.append(bytes_told(body[12:]))
        elif proto == ICMP and len(body) >= 8 or proto == ICMPV6 and len(body) >= 8:
            family = 4 if proto == ICMP else 6
            kind, code, _, rest = struct.unpack("!BBH4s", body[:8])
            sums = self.sum_told(at, end, b"" if family == 4 else head, at + 2, quoted, part)
            self.words.append(f"ICMPv{family} {kind}/{code} rest {rest.hex()} {sums}")
            if kind in ERRORS[family] and not quoted:
                self.packet(at + 8, True)
            else:
                self.words.append(bytes_told(body[8:]))
        elif proto in (IPIP, IPV6):
            self.packet(at, quoted)
        elif proto == GRE and len(body) >= 4:
            flags, kind = struct.unpack("!HH", body[:4])
            size = 4 + (4 if flags & 0x8000 else 0) + (4 if flags & 0x2000 else 0) + (4 if flags & 0x1000 else 0)
            sums = ""
            if flags & 0x8000:
                sums = " sum right" if checksum(body) == 0 else " sum WRONG"
                if quoted:
                    sums = " sum"
                elif self.partial == at:
                    sums = " sum left to the device"
            self.words.append(f"GRE flags {flags:#x} type {kind:#x}{sums}")
            self.packet(at + size, quoted)
        elif proto == AH and len(body) >= 12:
            self.words.append(f"AH {body[:12].hex()}")
            self.words.append(bytes_told(body[12:]))
        else:
            self.words.append(f"protocol {proto} {bytes_told(body)}")

    def gue(self, at):
        """Generic UDP encapsulation, variant 0."""
        if len(self.data) < at + 4:
            self.words.append(f"bytes {bytes_told(self.data[at:])}")
            return
        first, proto, flags = struct.unpack("!BBH", self.data[at:at + 4])
        size = 4 + (first & 31) * 4
        self.words.append(f"GUE {first:#x} protocol {proto} flags {flags:#x} {self.data[at + 4:at + size].hex()}".rstrip())
        self.packet(at + size, False)
