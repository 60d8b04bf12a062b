# SPDX-License-Identifier: GPL-2.0
"""Generic netlink by hand, for what no command can say: odd messages, and one system call for each command.

The numbers are mainline's (include/uapi/linux/ip_vs.h) and, for family RLVS, those of
rlvs/core/src/uapi.rs.
"""

import os
import socket
import struct

NEW_SERVICE, SET_SERVICE, DEL_SERVICE, GET_SERVICE = 1, 2, 3, 4
NEW_DEST, SET_DEST, DEL_DEST, GET_DEST = 5, 6, 7, 8
NEW_DAEMON, DEL_DAEMON, GET_DAEMON = 9, 10, 11
SET_CONFIG, GET_CONFIG, GET_INFO, ZERO, FLUSH = 12, 13, 15, 16, 17
NEW_LADDR, DEL_LADDR, GET_LADDR = 1, 2, 3
SERVICE, DEST, DAEMON, TIMEOUT_TCP, TIMEOUT_FIN, TIMEOUT_UDP = 1, 2, 3, 4, 5, 6
NESTED = 0x8000
REQUEST, ACK, DUMP = 1, 4, 0x300


def attr(kind, data):
    """An attribute; integers are u32."""
    if isinstance(data, int):
        data = struct.pack("=I", data)
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def nest(kind, *attrs):
    """A nested attribute."""
    return attr(kind | NESTED, b"".join(attrs))


def u32s(*values):
    """Integers of 32 bits as bytes."""
    return struct.pack(f"={len(values)}I", *values)


def u16(kind, value):
    """An attribute of 16 bits."""
    return attr(kind, struct.pack("=H", value))


def be16(kind, value):
    """The same in network order."""
    return attr(kind, struct.pack("!H", value))


def family(addr):
    """The address family of an address's text."""
    return socket.AF_INET6 if ":" in addr else socket.AF_INET


def packed(addr):
    """An address as 16 bytes."""
    return socket.inet_pton(family(addr), addr).ljust(16, b"\0")


def key(addr, port=None, proto=socket.IPPROTO_TCP):
    """What names a service by its address, or by a mark, which is an integer, and its family."""
    if isinstance(addr, int):
        return [u16(1, port or socket.AF_INET), attr(5, addr)]
    return [u16(1, family(addr)), u16(2, proto), attr(3, packed(addr)), be16(4, port)]


def service(addr, port=None, proto=socket.IPPROTO_TCP, sched=b"rr\0", full=True, *, flags=0, mask=0xFFFFFFFF,
            timeout=0, netmask=None, engine=None):
    """The SERVICE attribute; of a mark `addr` is the mark and `port` the family."""
    names = key(addr, port, proto)
    if netmask is None:
        ipv6 = names[0] == u16(1, socket.AF_INET6)
        netmask = struct.pack("=I", 128) if ipv6 else b"\xff" * 4
    rest = [attr(6, sched), attr(7, struct.pack("=II", flags, mask)), attr(8, timeout), attr(9, netmask)]
    if engine:
        rest.append(attr(11, engine + b"\0"))
    return nest(SERVICE, *names, *(rest if full else []))


def dest(addr, port, weight=1, method=0, full=True, *, upper=0, lower=0, extra=b""):
    """The DEST attribute, with `extra` attributes at its end."""
    names = [u16(11, family(addr)), attr(1, packed(addr)), be16(2, port)]
    rest = [attr(3, method), attr(4, weight), attr(5, upper), attr(6, lower), extra]
    return nest(DEST, *names, *(rest if full else []))


def laddr(addr):
    """The LADDR attribute of family RLVS."""
    return nest(2, attr(1, socket.inet_pton(family(addr), addr)))


class Refused(Exception):
    """The kernel's error with what the extended acknowledgement says."""

    def __init__(self, errno, message):
        super().__init__(f"{os.strerror(errno)}: {message or 'no message'}")
        self.errno, self.message = errno, message


class Lost(Exception):
    """The kernel had no memory for its answer: the command may have been carried out or not."""


class Genl:
    """A socket for one family, in the network namespace where it is made."""

    def __init__(self, family):
        self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)
        self.sock.setsockopt(270, 11, 1)  # NETLINK_EXT_ACK
        self.sock.settimeout(30)
        self.sequence = 0
        # Whether the last dump was not consistent (NLM_F_DUMP_INTR).
        self.interrupted = False
        (_, reply), = self.call(3, attr(2, family.encode() + b"\0"), family=16, version=2)
        self.family = struct.unpack("=H", attributes(reply)[1][:2])[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def call(self, command, payload=b"", *, family=None, version=1, flags=ACK, before=None, after=None):
        """Sends a command; returns its replies as (command, attributes as bytes), raises Refused.

        `before` and `after` are called around the system call in which the kernel does the work.
        """
        self.sequence += 1
        body = struct.pack("=BBH", command, version, 0) + payload
        message = struct.pack("=IHHII", 16 + len(body), family or self.family, REQUEST | flags,
                              self.sequence, 0) + body
        if before:
            before()
        try:
            self.sock.send(message)
        except OSError as error:
            raise Refused(error.errno, "sending") from None
        finally:
            if after:
                after()
        replies, self.interrupted = [], False
        while True:
            try:
                data = self.sock.recv(1 << 18)
            except OSError as error:
                raise Lost(error.errno, "receiving") from None
            while data:
                size, kind, told, sequence, _ = struct.unpack("=IHHII", data[:16])
                part, data = data[16:size], data[(size + 3) & ~3:]
                if sequence != self.sequence:
                    continue
                self.interrupted |= bool(told & 0x10)
                if kind == 2:
                    errno = -struct.unpack("=i", part[:4])[0]
                    if errno:
                        raise Refused(errno, self._message(part))
                    return replies
                if kind == 3:
                    return replies
                replies.append((part[0], part[4:]))

    def batch(self, messages):
        """Sends (command, payload) in one system call, raises Refused for the last one only."""
        *others, last = messages
        data = b""
        for command, payload in others:
            self.sequence += 1
            body = struct.pack("=BBH", command, 1, 0) + payload
            data += struct.pack("=IHHII", 16 + len(body), self.family, REQUEST, self.sequence, 0) + body
        self.sock.send(data)
        self.call(*last)

    @staticmethod
    def _message(part):
        """The text of an extended acknowledgement, behind the copy of the request's header."""
        # Either the whole request is repeated or, when capped, its header alone.
        size = struct.unpack("=I", part[4:8])[0]
        for start in (4 + size, 20):
            found = attributes(part[(start + 3) & ~3:])
            if 1 in found:
                return found[1].rstrip(b"\0").decode(errors="replace")
        return None


# Attributes that are attributes: SERVICE and DEST, and in both statistics, old and new.
_STATS = {10: {}, 12: {}}
_NESTS = {1: _STATS, 2: _STATS}


def nothing_else(data, nests=None):
    """Asserts that an answer has attributes and zeros between them: nothing that was left in memory."""
    nests = _NESTS if nests is None else nests
    while data:
        size, kind = struct.unpack("=HH", data[:4])
        assert 4 <= size <= len(data), f"{data.hex()} is no attribute"
        if (kind := kind & 0x3FFF) in nests:
            nothing_else(data[4:size], nests[kind])
        between, data = data[size:(size + 3) & ~3], data[(size + 3) & ~3:]
        assert not any(between), f"{between.hex()} behind attribute {kind}"


def attributes(data):
    """{type: bytes} of attributes; stops at what is none."""
    found = {}
    while len(data) >= 4:
        size, kind = struct.unpack("=HH", data[:4])
        if size < 4 or size > len(data):
            break
        found[kind & 0x3FFF] = data[4:size]
        data = data[(size + 3) & ~3:]
    return found
