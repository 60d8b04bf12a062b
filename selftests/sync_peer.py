# SPDX-License-Identifier: GPL-2.0
"""The far end of connection synchronisation: daemons as they are started here, and another director by hand.

Messages are written and read here by hand, from the format in net/netfilter/ipvs/ip_vs_sync.c.
"""

import contextlib
import socket
import struct
import time
from collections import namedtuple

import genl
import kernel
from genl import Genl
from lib import RLVS, SERVERS, VIP, wait_for

GROUP, GROUP6, PORT = "224.0.0.81", "ff02::81", 8848
MASTER, BACKUP = 1, 2
NAT, LOCAL, TUNNEL, DIRECT = 0, 1, 2, 3
NO_OUTPUT, INACTIVE, SEQ, NO_CPORT, TEMPLATE, ONE_PACKET = 0x80, 0x100, 0x600, 0x800, 0x1000, 0x2000
NONE, ESTABLISHED, FIN_WAIT, CLOSE, CLOSE_WAIT = 0, 1, 4, 6, 7
SERVER = SERVERS[0]

Entry = namedtuple("Entry", "flags proto state client virtual server mark timeout params")


def packed(addr):
    """An address as bytes."""
    return socket.inet_pton(genl.family(addr), addr)


def entry(client, virtual, server, *, proto=6, state=ESTABLISHED, flags=NAT, mark=0, timeout=100, params=b""):
    """An entry of version 1; ends are (address, port)."""
    addrs = b"".join(packed(addr) for addr, _ in (client, virtual, server))
    ports = [port for _, port in (client, virtual, server)]
    size = 24 + len(addrs) + len(params)
    head = struct.pack("!BBHIHHHHII", len(addrs) > 12, proto, size, flags, state, *ports, mark, timeout)
    return head + addrs + params


def old_entry(client, virtual, server, *, proto=6, state=ESTABLISHED, flags=NAT):
    """The same of version 0."""
    ports = [port for _, port in (client, virtual, server)]
    return struct.pack("!BBHHH", 0, proto, *ports) + b"".join(
        packed(addr) for addr, _ in (client, virtual, server)) + struct.pack("!HH", flags, state)


def message(*entries, syncid=1):
    """A message of version 1."""
    body = b""
    for one in entries:
        body += bytes(-len(body) % 4) + one
    return struct.pack("!BBHBBH", 0, syncid, 8 + len(body), len(entries), 1, 0) + body


def old_message(*entries, syncid=1):
    """A message of version 0."""
    body = b"".join(entries)
    return struct.pack("!BBH", len(entries), syncid, 4 + len(body)) + body


def addresses(data):
    """Three addresses of one family."""
    size = len(data) // 3
    family = socket.AF_INET if size == 4 else socket.AF_INET6
    return [socket.inet_ntop(family, data[n * size:(n + 1) * size]) for n in range(3)]


def read(data):
    """(number of the sender, entries) of a message of either version; it must be without fault."""
    if data[0] == 0:
        _, syncid, size, count, version, spare = struct.unpack("!BBHBBH", data[:8])
        assert (size, version, spare) == (len(data), 1, 0), data[:8].hex()
        at = 8
    else:
        count, syncid, size = struct.unpack("!BBH", data[:4])
        assert size == len(data), data[:4].hex()
        at = 4
    found = []
    for _ in range(count):
        if data[0]:
            zero, proto, *ports, addrs, flags, state = struct.unpack("!BBHHH12sHH", data[at:at + 24])
            mark, timeout, params, at = None, None, {}, at + 24
            assert zero == 0
        else:
            at += -at % 4
            kind, proto, size, flags, state, *ports, mark, timeout = struct.unpack("!BBHIHHHHII", data[at:at + 24])
            addrs = data[at + 24:at + 24 + (48 if kind else 12)]
            assert kind in (0, 1) and size < 4096 and at + size <= len(data), data.hex()
            rest, params, at = data[at + 24 + len(addrs):at + size], {}, at + size
            while rest:
                params[rest[0]], rest = rest[2:2 + rest[1]], rest[2 + rest[1]:]
        found.append(Entry(flags, proto, state, *zip(addresses(addrs), ports), mark, timeout, params))
    assert at == len(data), data.hex()
    return syncid, found


def attrs(role, device="ds", syncid=1, **how):
    """The DAEMON attribute."""
    more = [genl.attr(number, value) for number, value in
            ((5, how.get("group") and packed(how["group"])), (6, how.get("group6") and packed(how["group6"])),
             (4, how.get("maxlen") and struct.pack("=H", how["maxlen"]))) if value]
    names = genl.attr(1, role), genl.attr(2, device.encode() + b"\0"), genl.attr(3, syncid)
    return genl.nest(genl.DAEMON, *names, *more)


@contextlib.contextmanager
def daemon(world, role, where=None, **how):
    """A daemon in the director, or elsewhere."""
    with where or world.director, Genl("IPVS") as ipvs:
        ipvs.call(genl.NEW_DAEMON, attrs(role, **how))
    if not RLVS:
        # One that has not run yet is stopped without an answer.
        time.sleep(0.2 * kernel.SLOW)
    try:
        yield
    finally:
        with where or world.director, Genl("IPVS") as ipvs:
            ipvs.call(genl.DEL_DAEMON, genl.nest(genl.DAEMON, genl.attr(1, role)))


class Peer:
    """Another director, in the servers' network."""

    def __init__(self, world, group=GROUP, port=PORT):
        self.group, self.port = group, port
        with world.server:
            six = ":" in group
            index = socket.if_nametoindex("s0")
            self.sock = socket.socket(genl.family(group), socket.SOCK_DGRAM)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.sock.bind((group, port, 0, index) if six else (group, port))
            if six:
                mreq = packed(group) + struct.pack("=I", index)
                self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, mreq)
                self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
                self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            else:
                mreq = packed(group) + packed("0.0.0.0") + struct.pack("=i", index)
                self.sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreq)
                self.sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, mreq)
                self.sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        self.sock.settimeout(8 * kernel.SLOW)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def say(self, data):
        """Sends a datagram to the group."""
        self.sock.sendto(data, (self.group, self.port))

    def hear(self, match=lambda one: True):
        """The next entry for which `match` is true, and who has sent it."""
        while True:
            syncid, found = read(self.sock.recv(65536))
            for one in found:
                if match(one):
                    return syncid, one

    def until(self, client, port):
        """All entries up to that of a client's port at a service's."""
        found = []
        while not any((one.client[1], one.virtual[1]) == (client, port) for one in found):
            found += read(self.sock.recv(65536))[1]
        return found


def listed(world, client, port):
    """The words of a line of ip_vs_conn_sync by the client's and the service's port; None if there is none."""
    for line in world.director.proc("ip_vs_conn_sync").splitlines()[1:]:
        words = line.split()
        if (words[2], words[4]) == (f"{client:04X}", f"{port:04X}"):
            return words
    return None


def known(world, client, port):
    """(state, origin) of a connection, once there is one."""
    return wait_for(lambda: listed(world, client, port), about="the connection")[7:9]


def settle(world, peer, syncid=1):
    """Waits until all that was said is taken over."""
    port = world.port()
    peer.say(message(entry(("10.1.0.9", port), (VIP, 9), (SERVER, 9), state=FIN_WAIT), syncid=syncid))
    known(world, port, 9)


def told(world):
    """What the family tells of daemons, by their role."""
    with world.director, Genl("IPVS") as ipvs:
        found = {}
        for command, reply in ipvs.call(genl.GET_DAEMON, flags=genl.DUMP):
            assert command == genl.NEW_DAEMON
            one = genl.attributes(genl.attributes(reply)[genl.DAEMON])
            found[struct.unpack("=I", one[1])[0]] = one
        return found
