# SPDX-License-Identifier: GPL-2.0
"""Packets that nobody should send: cut off, absurd, overlapping, mutated. The balancer stands them all.

Each packet has its own IP identification, which forwarding keeps, so what leaves is held against what
came. Nothing that leaves may be malformed, and a wrong checksum must not have become a right one.
"""

import os
import random
import socket

import kernel
import packet
import wire
from lib import (
    GHOST_CLIENTS,
    GHOST_SERVERS,
    LADDRS,
    RLVS,
    SERVERS,
    VIP,
    Flow,
    each_method,
)
from packet import ACK, DF, ICMP, MF, PSH, SYN, TCP, UDP, Malformed, Packet

SERVER = GHOST_SERVERS[0]
# No service has to do with it.
PLAIN = GHOST_SERVERS[9]
VIP_BYTES, SERVER_BYTES = socket.inet_aton(VIP), socket.inet_aton(SERVER)
CLIENT = GHOST_CLIENTS[0]
SEED = int(os.environ.get("RLVS_SEED", "0"))


class Stage:
    """An open connection of each protocol, the packets that would belong to it, and a judge."""

    def __init__(self, world, method):
        self.world = world
        self.tcp_port = world.service(method, [(SERVER, 8080)])
        self.udp_port = world.service(method, [(SERVER, 53)], proto="udp")
        self.tcp = Flow(world, self.tcp_port)
        self.udp = Flow(world, self.udp_port, "udp")
        wire.open_tcp(self.tcp)
        self.udp.request(wire.udp_request(self.udp, b"query"))
        self.ident = 1
        self.sent = {}
        self.listener = world.listen(SERVERS[0], world.port())
        self.check_port = world.service(
            method, [(SERVERS[0], self.listener.getsockname()[1])])
        self.left = {"client": 0, "server": 0}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for thing in (self.tcp.at_client.sock, self.tcp.at_server.sock, self.udp.at_client.sock,
                      self.udp.at_server.sock, self.listener):
            thing.close()

    def packets(self):
        """(side it is sent from, destination, protocol, what is behind the IP header) of good packets."""
        (addr, port), (server, sport), peer = self.tcp.client, self.tcp.server, self.tcp.peer
        syn = packet.tcp(addr, VIP, port + 1000, self.tcp_port, SYN, options=packet.syn_options())
        own = packet.tcp(addr, VIP, port + 1001, self.tcp_port, SYN, options=packet.MSS1460 +
                         packet.toa("192.0.2.1", 1) + packet.NOP * 2 + packet.TIMESTAMP)
        data = packet.tcp(addr, VIP, port, self.tcp_port, PSH | ACK, 1001, 5007, b"data",
                          options=packet.NOP * 2 + packet.TIMESTAMP)
        yield "client", addr, VIP, TCP, syn
        yield "client", addr, VIP, TCP, own
        yield "client", addr, VIP, TCP, data
        yield "client", addr, VIP, UDP, packet.udp(addr, VIP, self.udp.client[1], self.udp_port, b"data!")
        yield "client", addr, VIP, UDP, packet.udp(addr, VIP, 3333, self.udp_port, b"new")
        answer = packet.ip(VIP, addr, TCP, packet.tcp(VIP, addr, self.tcp_port, port, ACK, 1, 1))
        yield "client", addr, VIP, ICMP, packet.icmp_error(3, 3, answer)
        yield "client", addr, PLAIN, TCP, packet.tcp(addr, PLAIN, 9, 9, SYN)
        yield "server", server, peer[0], TCP, packet.tcp(
            server, peer[0], sport, peer[1], SYN | ACK, 5007, 1001, options=packet.syn_options())
        yield "server", server, peer[0], TCP, packet.tcp(
            server, peer[0], sport, peer[1], PSH | ACK, 5007, 1001, b"answer")
        quoted = packet.ip(peer[0], server, TCP,
                           packet.tcp(peer[0], server, peer[1], sport, ACK, 1, 1), options=b"\x94\x04\0\0")
        yield "server", server, peer[0], ICMP, packet.icmp_error(3, 4, quoted, mtu=1300)
        peer, server = self.udp.peer, self.udp.server
        yield "server", server[0], peer[0], UDP, packet.udp(
            server[0], peer[0], server[1], peer[1], b"reply")
        yield "server", server[0], LADDRS[0], UDP, packet.udp(server[0], LADDRS[0], 1, 2, b"stray")

    def send(self, side, src, dst, proto, body, **ip):
        """Sends a packet under an identification of its own."""
        self.ident = self.ident % 0xFFFF + 1
        data = packet.ip(src, dst, proto, body, ident=self.ident, **ip)
        self.send_raw(side, data)

    def send_raw(self, side, data):
        """Sends bytes whose identification, if they have one, is remembered."""
        if len(data) >= 20:
            self.sent[data[4:6]] = data
        (self.tcp.at_client if side == "client" else self.tcp.at_server).send(data)
        # The taps must not overflow: what they miss would not be judged.
        if len(self.sent) % 64 == 0:
            self.judge()

    def judge(self):
        """Holds all that has left against what was sent."""
        for side, tap in (("client", self.tcp.at_client), ("server", self.tcp.at_server)):
            for data in tap.frames():
                self.left[side] += 1
                try:
                    seen = Packet(data)
                except Malformed as error:
                    # What was not rewritten is forwarded by the kernel as it likes, and ip_vs lets more pass.
                    if RLVS and (data[12:16] == VIP_BYTES or data[16:20] == SERVER_BYTES):
                        raise AssertionError(f"malformed ({error}) to the {side}: {data[:80].hex()}") from None
                    continue
                wrong = seen.sums()
                assert "IP checksum" not in wrong, f"to the {side}: {seen}: {data[:80].hex()}"
                sent = self.sent.get(data[4:6])
                before, after = sent and residue(sent), residue(data)
                assert before is None or after is None or before == after, \
                    f"to the {side}: the checksum was off by {before:#x} and is by {after:#x}: " \
                    f"{sent[:60].hex()} became {data[:60].hex()}"

    def alive(self):
        """Asserts that a normal request works, and the connections opened before, too."""
        self.judge()
        self.world.works(self.check_port, self.listener)
        self.tcp.clear()
        assert self.tcp.request(wire.tcp_request(self.tcp, ACK, 1001, 5007, b"alive")).payload == b"alive"
        assert self.udp.request(wire.udp_request(self.udp, b"alive")).payload == b"alive"


def residue(data):
    """What the transport checksum of a packet is off by; None where it has none or is not whole."""
    try:
        seen = Packet(data)
    except Malformed:
        return None
    if seen.frag & (MF | 0x1FFF) or seen.proto not in (TCP, UDP) or seen.proto == UDP and not seen.check:
        return None
    return packet.checksum(packet.pseudo(seen.src, seen.dst, seen.proto, len(seen.l4)) + seen.l4) % 0xFFFF


@each_method
def test_cut_off(world, method):
    """Each packet, cut off at each byte, with an IP length that tells the truth and with one that does not."""
    with Stage(world, method) as scene:
        for side, src, dst, proto, body in scene.packets():
            for size in range(len(body)):
                scene.send(side, src, dst, proto, body[:size])
                scene.send(side, src, dst, proto, body[:size], total=20 + len(body))
        scene.alive()


@each_method
def test_cut_off_ip(world, method):
    """IP headers that end early, or say so, or say too much."""
    with Stage(world, method) as scene:
        for side, src, dst, proto, body in scene.packets():
            whole = packet.ip(src, dst, proto, body, ident=0xABCD)
            for size in range(0, 20, 3):
                scene.send_raw(side, whole[:size])
            for ihl in range(16):
                scene.send(side, src, dst, proto, body, ihl=ihl)
            for total in (0, 19, 20, 21, 27, 28, 65535):
                scene.send(side, src, dst, proto, body, total=total)
            scene.send(side, src, dst, proto, body, version=6)
            scene.send(side, src, dst, proto, body, ttl=0)
            scene.send(side, src, dst, proto, body, ttl=1)
        scene.alive()


@each_method
def test_absurd_fields(world, method):
    """TCP headers of each length, UDP of absurd lengths, at a full and at a short packet."""
    with Stage(world, method) as scene:
        (addr, port), tcp_port, udp_port = scene.tcp.client, scene.tcp_port, scene.udp_port
        for doff in range(16):
            for flags in (SYN, ACK):
                for options in (b"", packet.syn_options()):
                    scene.send("client", addr, VIP, TCP, packet.tcp(
                        addr, VIP, port, tcp_port, flags, 1001, 5007, options=options, doff=doff))
        for length in (0, 1, 7, 8, 9, 12, 13, 14, 100, 65535):
            scene.send("client", addr, VIP, UDP, packet.udp(
                addr, VIP, scene.udp.client[1], udp_port, b"12345", length=length))
        # Every combination of flags is somebody's idea of a scan.
        for flags in range(64):
            scene.send("client", addr, VIP, TCP, packet.tcp(addr, VIP, 4000 + flags, tcp_port, flags))
            scene.send("client", addr, VIP, TCP, packet.tcp(addr, VIP, 0, tcp_port, flags))
        scene.judge()
        world.works(scene.check_port, scene.listener)


@each_method
def test_bad_options(world, method):
    """TCP options of each kind and length, cut off and overlong, in a SYN and in an open connection."""
    with Stage(world, method) as scene:
        (addr, port), tcp_port = scene.tcp.client, scene.tcp_port
        for kind in (0, 1, 2, 3, 5, 8, 30, 34, 253, 254, 255):
            for length in (0, 1, 2, 3, 4, 8, 10, 39, 40, 41, 255):
                raw = (bytes([kind, length]) + packet.toa("192.0.2.1", 1) * 4)[:20]
                for flags, sport in ((ACK, port), (SYN, 5000 + kind)):
                    scene.send("client", addr, VIP, TCP, packet.tcp(
                        addr, VIP, sport, tcp_port, flags, 1001, 5007, options=raw))
        scene.alive()


@each_method
def test_fragments(world, method):
    """First, middle and last fragments alone, tiny ones, overlapping ones, the longest offset."""
    with Stage(world, method) as scene:
        for side, src, dst, proto, body in scene.packets():
            for at, more in ((0, MF), (8, MF), (8, 0), (65528, 0), (65528, MF)):
                scene.send(side, src, dst, proto, body, frag=more | at // 8)
            scene.send(side, src, dst, proto, body[:8], frag=MF)
            # Overlapping pieces share an identification.
            for at, more in ((0, MF), (0, MF), (8, MF), (16, 0)):
                piece = body[at:at + 24] if more else body[at:]
                scene.send_raw(side, packet.ip(src, dst, proto, piece, ident=7, frag=more | at // 8))
            scene.send(side, src, dst, proto, body, frag=DF | MF)
        scene.judge()
        world.works(scene.check_port, scene.listener)


@each_method
def test_mutations(world, method):
    """Good packets with random bytes in them; RLVS_SEED repeats a run."""
    seed = SEED or random.SystemRandom().getrandbits(32)
    dice = random.Random(seed)
    with Stage(world, method) as scene:
        print(f"# RLVS_SEED={seed}")
        good = list(scene.packets())
        for _ in range(500 if kernel.DEBUG else 3000):
            side, src, dst, proto, body = dice.choice(good)
            data = bytearray(packet.ip(src, dst, proto, body, ident=scene.ident,
                                       options=dice.choice((b"", b"", b"\x94\x04\0\0", b"\x01" * 40))))
            scene.ident = scene.ident % 0xFFFF + 1
            for _ in range(dice.choice((1, 1, 2, 4, 8))):
                # Addresses and identification stay: it shall reach us, and be told apart.
                at = dice.choice([n for n in range(len(data)) if not 4 <= n < 6 and not 12 <= n < 20])
                data[at] = dice.choice((0, 255, data[at] ^ 1 << dice.randrange(8), dice.randrange(256)))
            size = (data[0] & 15) * 4
            if dice.random() < 0.9 and 20 <= size <= len(data):
                data[10:12] = bytes(2)
                data[10:12] = packet.checksum(bytes(data[:size])).to_bytes(2, "big")
            scene.send_raw(side, bytes(data[:dice.choice((len(data), len(data), dice.randrange(len(data))))]))
        scene.judge()
        world.works(scene.check_port, scene.listener)
