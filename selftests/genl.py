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
SET_CONFIG, GET_CONFIG, GET_INFO, ZERO, FLUSH = 12, 13, 15, 16, 17
NEW_LADDR, DEL_LADDR, GET_LADDR = 1, 2, 3
SERVICE, DEST, TIMEOUT_TCP, TIMEOUT_FIN, TIMEOUT_UDP = 1, 2, 4, 5, 6
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


def service(addr, port, proto=socket.IPPROTO_TCP, sched=b"rr\0", full=True):
    """The SERVICE attribute."""
    key = [attr(1, struct.pack("=H", socket.AF_INET)), attr(2, struct.pack("=H", proto)),
           attr(3, socket.inet_aton(addr) + bytes(12)), attr(4, struct.pack("!H", port))]
    rest = [attr(6, sched), attr(7, struct.pack("=II", 0, 0xFFFFFFFF)), attr(8, 0), attr(9, b"\xff" * 4)]
    return nest(SERVICE, *key, *(rest if full else []))


def dest(addr, port, weight=1, method=0, full=True):
    """The DEST attribute."""
    key = [attr(11, struct.pack("=H", socket.AF_INET)), attr(1, socket.inet_aton(addr) + bytes(12)),
           attr(2, struct.pack("!H", port))]
    rest = [attr(3, method), attr(4, weight), attr(5, 0), attr(6, 0)]
    return nest(DEST, *key, *(rest if full else []))


def laddr(addr):
    """The LADDR attribute of family RLVS."""
    return nest(2, attr(1, socket.inet_aton(addr)))


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
        replies = []
        while True:
            try:
                data = self.sock.recv(1 << 18)
            except OSError as error:
                raise Lost(error.errno, "receiving") from None
            while data:
                size, kind, _, sequence, _ = struct.unpack("=IHHII", data[:16])
                part, data = data[16:size], data[(size + 3) & ~3:]
                if sequence != self.sequence:
                    continue
                if kind == 2:
                    errno = -struct.unpack("=i", part[:4])[0]
                    if errno:
                        raise Refused(errno, self._message(part))
                    return replies
                if kind == 3:
                    return replies
                replies.append((part[0], part[4:]))

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
