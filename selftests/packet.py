# SPDX-License-Identifier: GPL-2.0
"""IPv4 packets as bytes: built as a test wants them, wrong if it wants them wrong, and read back.

Addresses are dotted strings, ports and lengths are integers in host order. Every builder fills in
what it is not told: a length, an offset or a checksum that a caller gives is written as given.
"""

import socket
import struct

ICMP, TCP, UDP = socket.IPPROTO_ICMP, socket.IPPROTO_TCP, socket.IPPROTO_UDP
ESP, AH, SCTP = socket.IPPROTO_ESP, socket.IPPROTO_AH, 132
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
DF, MF = 0x4000, 0x2000
TOA = 254

NOP = b"\x01"
EOL = b"\x00"
MSS1460 = b"\x02\x04\x05\xb4"
SACK_OK = b"\x04\x02"
WSCALE7 = b"\x03\x03\x07"
TIMESTAMP = b"\x08\x0a\x00\x01\x02\x03\x04\x05\x06\x07"


def checksum(data):
    """The Internet checksum of some bytes, of odd length too."""
    if len(data) % 2:
        data += b"\0"
    # Reducing one big number modulo 0xffff is the one's complement sum, but for the name of zero.
    rest = int.from_bytes(data, "big") % 0xFFFF
    if rest == 0 and any(data):
        rest = 0xFFFF
    return rest ^ 0xFFFF


def pseudo(src, dst, proto, length):
    """The pseudo header that TCP and UDP checksums begin with."""
    if ":" in src:
        both = socket.inet_pton(socket.AF_INET6, src) + socket.inet_pton(socket.AF_INET6, dst)
        return both + struct.pack("!II", length, proto)
    return socket.inet_aton(src) + socket.inet_aton(dst) + struct.pack("!HH", proto, length)


def ip(src, dst, proto, payload, *, ttl=64, tos=0, ident=0x1234, frag=DF, options=b"",
       version=4, ihl=None, total=None, check=None):
    """An IPv4 packet. `ihl` counts words, `frag` holds the flags and the offset."""
    options += EOL * (-len(options) % 4)
    words = 5 + len(options) // 4 if ihl is None else ihl
    length = 20 + len(options) + len(payload) if total is None else total
    head = struct.pack("!BBHHHBBH4s4s", version << 4 | words, tos, length, ident, frag, ttl, proto,
                       0, socket.inet_aton(src), socket.inet_aton(dst)) + options
    if check is None:
        check = checksum(head)
    return head[:10] + struct.pack("!H", check) + head[12:] + payload


def tcp(src, dst, sport, dport, flags, seq=1000, ack=0, payload=b"", *, options=b"", window=8192,
        doff=None, check=None, urgent=0):
    """A TCP segment with the checksum it has between `src` and `dst`. `doff` counts words."""
    options += EOL * (-len(options) % 4)
    words = 5 + len(options) // 4 if doff is None else doff
    head = struct.pack("!HHIIBBHHH", sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF,
                       (words & 15) << 4, flags, window, 0, urgent) + options
    segment = head + payload
    if check is None:
        check = checksum(pseudo(src, dst, TCP, len(segment)) + segment)
    return segment[:16] + struct.pack("!H", check) + segment[18:]


def udp(src, dst, sport, dport, payload=b"", *, check=None, length=None):
    """A UDP datagram. `check=0` is a datagram without checksum."""
    size = 8 + len(payload) if length is None else length
    datagram = struct.pack("!HHHH", sport, dport, size, 0) + payload
    if check is None:
        check = checksum(pseudo(src, dst, UDP, len(datagram)) + datagram) or 0xFFFF
    return datagram[:6] + struct.pack("!H", check) + datagram[8:]


def _crc32c_table():
    table = []
    for entry in range(256):
        for _ in range(8):
            entry = entry >> 1 ^ (0x82F63B78 if entry & 1 else 0)
        table.append(entry)
    return table


_CRC32C = _crc32c_table()


def crc32c(data):
    """The CRC32c of some bytes, as SCTP writes it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    return struct.pack("<I", crc ^ 0xFFFFFFFF)


def chunk(kind, data=b"", flags=0):
    """An SCTP chunk, filled up to whole words."""
    return struct.pack("!BBH", kind, flags, 4 + len(data)) + data + bytes(-len(data) % 4)


def sctp(sport, dport, *chunks, tag=0x01020304, check=None):
    """An SCTP packet. `check` holds the four bytes of the checksum."""
    head = struct.pack("!HHI", sport, dport, tag)
    body = b"".join(chunks)
    return head + (check or crc32c(head + bytes(4) + body)) + body


def icmp_error(kind, code, about, *, mtu=0, check=None):
    """An ICMP error about the packet (or the first bytes of one) `about`."""
    message = struct.pack("!BBHHH", kind, code, 0, 0, mtu) + about
    if check is None:
        check = checksum(message)
    return message[:2] + struct.pack("!H", check) + message[4:]


def toa(addr, port):
    """The option that tells a real server its client's address and port."""
    raw = socket.inet_pton(socket.AF_INET6, addr) if ":" in addr else socket.inet_aton(addr)
    return struct.pack("!BBH", TOA, 4 + len(raw), port) + raw


def syn_options():
    """What Linux puts into a SYN: 20 bytes."""
    return MSS1460 + SACK_OK + TIMESTAMP + NOP + WSCALE7


class Malformed(ValueError):
    """These bytes are no packet that a balancer may send."""


class Packet:
    """An IPv4 packet that was seen on a wire; the headers are read strictly.

    `l4` is everything behind the IP header; TCP, UDP and ICMP have their fields beside it.
    """

    def __init__(self, data):
        if len(data) < 20:
            raise Malformed(f"{len(data)} bytes")
        (first, self.tos, self.total, self.ident, self.frag, self.ttl, self.proto,
         self.ip_check, src, dst) = struct.unpack("!BBHHHBBH4s4s", data[:20])
        self.ihl = (first & 15) * 4
        self.src, self.dst = socket.inet_ntoa(src), socket.inet_ntoa(dst)
        if first >> 4 != 4 or self.ihl < 20 or self.total < self.ihl or self.total > len(data):
            raise Malformed(f"version/ihl {first:#x}, total length {self.total} of {len(data)}")
        self.data = data[:self.total]
        self.options = data[20:self.ihl]
        self.l4 = data[self.ihl:self.total]
        self.sport = self.dport = self.flags = None
        self.payload = self.l4
        # A later fragment has no header of its own.
        if not self.frag & 0x1FFF:
            {TCP: self._tcp, UDP: self._udp, ICMP: self._icmp, SCTP: self._sctp}.get(self.proto, lambda: None)()

    def _tcp(self):
        if len(self.l4) < 20:
            raise Malformed(f"{len(self.l4)} bytes of TCP")
        (self.sport, self.dport, self.seq, self.ack, words, self.flags, self.window,
         self.check, self.urgent) = struct.unpack("!HHIIBBHHH", self.l4[:20])
        self.doff = (words >> 4) * 4
        if self.doff < 20 or self.doff > len(self.l4):
            raise Malformed(f"TCP header of {self.doff} in {len(self.l4)} bytes")
        self.option_bytes = self.l4[20:self.doff]
        self.payload = self.l4[self.doff:]

    def _udp(self):
        if len(self.l4) < 8:
            raise Malformed(f"{len(self.l4)} bytes of UDP")
        self.sport, self.dport, self.length, self.check = struct.unpack("!HHHH", self.l4[:8])
        # The first fragment holds the length of the whole datagram.
        if self.length < 8 or self.length > len(self.l4) and not self.frag & MF:
            raise Malformed(f"UDP length {self.length} in {len(self.l4)} bytes")
        self.payload = self.l4[8:self.length]

    def _sctp(self):
        if len(self.l4) < 12:
            raise Malformed(f"{len(self.l4)} bytes of SCTP")
        self.sport, self.dport, self.tag = struct.unpack("!HHI", self.l4[:8])
        self.check, self.payload = self.l4[8:12], self.l4[12:]

    def _icmp(self):
        if len(self.l4) < 8:
            raise Malformed(f"{len(self.l4)} bytes of ICMP")
        self.kind, self.code, self.check, _, self.mtu = struct.unpack("!BBHHH", self.l4[:8])
        self.payload = self.l4[8:]

    @property
    def flow(self):
        """Source and destination, each with its port."""
        return (self.src, self.sport), (self.dst, self.dport)

    def sums(self):
        """What is wrong with the checksums, as text; empty if nothing is."""
        wrong = []
        if checksum(self.data[:self.ihl]) != 0:
            wrong.append("IP checksum")
        if self.frag & (MF | 0x1FFF):
            return wrong
        if self.proto == TCP:
            if checksum(pseudo(self.src, self.dst, TCP, len(self.l4)) + self.l4) != 0:
                wrong.append("TCP checksum")
        elif self.proto == UDP and self.check:
            body = self.l4[:self.length]
            if checksum(pseudo(self.src, self.dst, UDP, len(body)) + body) != 0:
                wrong.append("UDP checksum")
        elif self.proto == SCTP:
            if crc32c(self.l4[:8] + bytes(4) + self.l4[12:]) != self.check:
                wrong.append("SCTP checksum")
        elif self.proto == ICMP and checksum(self.l4) != 0:
            wrong.append("ICMP checksum")
        return wrong

    def tcp_options(self):
        """The TCP options in order as (kind, bytes of the whole option), without padding."""
        return tcp_options(self.option_bytes)

    def toa(self):
        """(address, port) of each TOA option in the packet."""
        return [(socket.inet_ntoa(raw[4:8]), int.from_bytes(raw[2:4], "big"))
                for kind, raw in self.tcp_options() if kind == TOA and len(raw) == 8]

    def __repr__(self):
        text = f"{self.src}:{self.sport} > {self.dst}:{self.dport}"
        if self.proto == TCP and self.flags is not None:
            names = "".join(n for n, bit in zip("FSRPAU", (1, 2, 4, 8, 16, 32)) if self.flags & bit)
            return f"<TCP {text} [{names}] seq {self.seq} ack {self.ack} +{len(self.payload)}>"
        if self.proto == UDP and self.sport is not None:
            return f"<UDP {text} +{len(self.payload)}>"
        if self.proto == ICMP and not self.frag & 0x1FFF:
            return f"<ICMP {self.src} > {self.dst} {self.kind}/{self.code}>"
        return f"<IP {self.src} > {self.dst} proto {self.proto} frag {self.frag:#x}>"


def tcp_options(raw):
    """Splits option bytes into (kind, bytes); padding is left out, nonsense raises Malformed."""
    found, at = [], 0
    while at < len(raw) and raw[at] != 0:
        if raw[at] == 1:
            at += 1
            continue
        size = raw[at + 1] if at + 1 < len(raw) else 0
        if size < 2 or at + size > len(raw):
            raise Malformed(f"option {raw[at]} of length {size} at {at} of {len(raw)}")
        found.append((raw[at], raw[at:at + size]))
        at += size
    return found


class Embedded:
    """The start of a packet inside an ICMP error: fields as far as there are bytes for them."""

    def __init__(self, data):
        first, self.tos, self.total, self.ident, self.frag, self.ttl, self.proto, self.check = \
            struct.unpack("!BBHHHBBH", data[:12])
        self.ihl = (first & 15) * 4
        self.src, self.dst = socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
        self.sums_ok = checksum(data[:self.ihl]) == 0
        self.l4 = data[self.ihl:]
        self.sport, self.dport = struct.unpack("!HH", self.l4[:4])

    @property
    def flow(self):
        """Source and destination, each with its port."""
        return (self.src, self.sport), (self.dst, self.dport)
