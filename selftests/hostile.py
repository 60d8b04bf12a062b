# SPDX-License-Identifier: GPL-2.0
"""Hostile netlink: whatever is sent to both families is answered, and what is configured stays consistent.

RLVS_HOSTILE_SEED=N repeats what a run has sent; RLVS_HOSTILE_MESSAGES=N sends more, or fewer (100000). Which
other process came between is left to chance.
"""

import ctypes
import os
import random
import re
import socket
import struct
import time

import genl
import lib
from hostile_messages import Corpus, each_attribute
from lib import RLVS, TOOL
from parity_box import Fresh, sorted_blocks
from process import Process

SEED = int(os.environ.get("RLVS_HOSTILE_SEED") or random.SystemRandom().getrandbits(32))
# ip_vs runs modprobe for each unknown scheduler, which takes its time.
MESSAGES = int(os.environ.get("RLVS_HOSTILE_MESSAGES") or (100_000 if RLVS else 5_000))
FAMILIES = ["IPVS", "RLVS"] if RLVS else ["IPVS"]
# So many at once: more would need a larger buffer for their answers.
BATCH = 64

_sent = {}


class Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint32), ("iov", ctypes.c_void_p),
                ("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t),
                ("flags", ctypes.c_int)]


class Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = [("header", Header), ("len", ctypes.c_uint32)]


class Crowd:
    """A socket that sends many messages in a system call, and takes their answers in a few."""

    SLOTS, SIZE = 128, 32768

    def __init__(self):
        self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)
        # Answers for which there is no room would be lost.
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE
        except PermissionError:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 20)
        self.sock.setsockopt(270, 10, 1)  # NETLINK_CAP_ACK
        self.sock.setsockopt(270, 11, 1)  # NETLINK_EXT_ACK
        self.sock.setblocking(False)
        self.buffer = bytearray(self.SLOTS * self.SIZE)
        start = ctypes.addressof((ctypes.c_char * len(self.buffer)).from_buffer(self.buffer))
        self.vectors = (ctypes.c_size_t * (2 * self.SLOTS))(*(
            value for slot in range(self.SLOTS) for value in (start + slot * self.SIZE, self.SIZE)))
        vector = ctypes.addressof(self.vectors)
        self.messages = (Message * self.SLOTS)(*(
            Message(Header(iov=vector + 16 * slot, iovlen=1)) for slot in range(self.SLOTS)))
        self.families = {name: self._resolve(name) for name in FAMILIES}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def _resolve(self, name):
        self.sock.send(struct.pack("=IHHIIBBH", 20 + 12, 16, 1, 0, 0, 3, 2, 0) + genl.attr(2, name.encode() + b"\0"))
        return struct.unpack("=H", genl.attributes(self.sock.recv(65536)[20:])[1][:2])[0]

    def answers(self):
        """(sequence number, errno) of each message that is answered: by an ACK, by an error or by the end of a dump."""
        found = []
        while True:
            count = lib._libc.recvmmsg(self.sock.fileno(), self.messages, self.SLOTS, socket.MSG_DONTWAIT, None)
            if count <= 0:
                code = ctypes.get_errno()
                assert code in (11, 4), f"receiving: {os.strerror(code)}"
                return found
            for slot in range(count):
                at = slot * self.SIZE
                end = at + self.messages[slot].len
                while at + 16 <= end:
                    size, kind, _, sequence = struct.unpack_from("=IHHI", self.buffer, at)
                    if kind in (2, 3):
                        found.append((sequence, -struct.unpack_from("=i", self.buffer, at + 16)[0]))
                    at += (size + 3) & ~3

    def ask(self, data, numbers):
        """Sends messages; asserts that each is answered once. Returns the errno of each, in no order."""
        self.sock.send(data)
        answers = self.answers()
        answered = sorted(number for number, _ in answers)
        # A dump may begin only when the one before it was read to its end; so some need a second look.
        assert answered == sorted(numbers), \
            f"unanswered: {sorted(set(numbers) - set(answered))}, unasked: {sorted(set(answered) - set(numbers))}"
        return [code for _, code in answers]


def send_many(crowd, corpus, count):
    """Sends so many messages of a corpus, a batch at a time, and counts the answers by errno."""
    codes = {}
    for _ in range(-(-count // BATCH)):
        for code in crowd.ask(*corpus.batch(BATCH)):
            codes[code] = codes.get(code, 0) + 1
    return codes


def told(what, codes, started):
    """Says how many messages there were, of which seed, and how they were answered."""
    _sent[what] = sum(codes.values())
    rows = ", ".join(f"{os.strerror(code) if code else 'obeyed'} {count}" for code, count in
                     sorted(codes.items(), key=lambda pair: -pair[1]))
    print(f"# seed {SEED}: {_sent[what]} messages in {time.monotonic() - started:.1f} s: {rows}")


# -- what must be true afterwards

PROTOCOLS = {0: "IP", 1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}
METHODS = {1: "Local", 2: "Tunnel", 3: "Route"}


def written(family, raw, port, end):
    """An address and a port as /proc/net/ip_vs has them."""
    port = f"{int.from_bytes(port, 'big'):04X}"
    if family == socket.AF_INET6:
        return f"[{':'.join(raw[n:n + 2].hex() for n in range(0, 16, 2))}]:{port}{end}"
    return f"{raw[:4].hex().upper()}:{port}{end}"


def from_netlink(ipvs):
    """What /proc/net/ip_vs should say of services and destinations, from what netlink says."""
    blocks = []
    number = lambda attrs, kind: int.from_bytes(attrs[kind], "little")  # noqa: E731
    for _, body in ipvs.call(genl.GET_SERVICE, flags=genl.DUMP):
        nest = genl.attributes(body)[genl.SERVICE]
        svc = genl.attributes(nest)
        family, sched, flags = number(svc, 1), svc[6][:-1].decode(), number(svc, 7) & 0xFFFFFFFF
        ops = "ops " if flags & 4 else ""
        if 5 in svc:
            line = f"FWM  {number(svc, 5):08X} {sched} {ops}"
        else:
            proto = PROTOCOLS.get(number(svc, 2), f"IP_{number(svc, 2)}")
            line = f"{proto}  {written(family, svc[3], svc[4], '')} {sched} "
            if family == socket.AF_INET:
                line += f"{ops} "
        if flags & 1:
            line += f"persistent {number(svc, 8)} s {int.from_bytes(svc[9], 'big'):08X}"
        block = [line + "\n"]
        for _, reply in ipvs.call(genl.GET_DEST, genl.nest(genl.SERVICE, nest), flags=genl.DUMP):
            dest = genl.attributes(genl.attributes(reply)[genl.DEST])
            block.append("  -> " + written(number(dest, 11), dest[1], dest[2], "      ")
                         + f"{METHODS.get(number(dest, 3), 'Masq'):<7} {number(dest, 4):<6} {number(dest, 7):<10} "
                           f"{number(dest, 8):<10}\n")
        blocks.append("".join(block))
    return blocks


def from_proc(place):
    """What /proc/net/ip_vs says, with ticks as the seconds that netlink tells."""
    text = "".join(sorted_blocks(place.proc("ip_vs")).splitlines(keepends=True)[3:])
    # HZ is 250 in both kernels of the guest, and ticks are a C int.
    return re.sub(r"persistent (-?\d+)", lambda found: f"persistent {int(found[1]) % (1 << 32) // 250} s", text)


def consistent(place):
    """Asserts that netlink and /proc tell the same, and that -C leaves nothing of it."""
    with place, genl.Genl("IPVS") as ipvs:
        blocks = from_netlink(ipvs)
        ours = sorted_blocks("".join(blocks))
        # While ip_vs's table changes its size its listing may miss a service.
        lib.settled(lambda: from_proc(place), ours)
        place.run(TOOL, "-C")
        assert from_netlink(ipvs) == [] and place.proc("ip_vs").count("\n") == 3
    return len(blocks)


# -- the tests

def test_each_attribute(world):
    """Each command with each attribute missing, doubled, of each length, of extreme values, nested wrongly."""
    started, codes = time.monotonic(), {}
    world.adm("-C")
    with world.director, Crowd() as crowd:
        for data, numbers in each_attribute(crowd.families, BATCH):
            for code in crowd.ask(data, numbers):
                codes[code] = codes.get(code, 0) + 1
    told("each_attribute", codes, started)
    assert codes.get(0) and codes.get(22) and codes.get(34), codes
    consistent(world.director)


def test_random(world):
    """Messages of a seed: mostly right, each a little wrong."""
    started = time.monotonic()
    world.adm("-C")
    with world.director, Crowd() as crowd:
        codes = send_many(crowd, Corpus(SEED, crowd.families), MESSAGES * 40 // 100)
    told("random", codes, started)
    # If all were refused for the same reason nothing would have been tested.
    assert len(codes) >= 6 and codes.get(0, 0) > sum(codes.values()) // 20, codes
    assert consistent(world.director) < 5000


def test_frames(world):
    """Messages whose own lengths lie, and attributes without end: some get no answer; the next one does."""
    dice = random.Random(SEED + 1)
    codes = {}
    with world.director, Crowd() as crowd:
        for family in crowd.families.values():
            for _ in range(400):
                body = dice.randbytes(dice.choice((0, 1, 3, 4, 20, 200)))
                length = dice.choice((0, 1, 15, 16, 17, 19, 20, 21, len(body) + 16, len(body) + 17, 1 << 16,
                                      0xFFFFFFFF))
                crowd.sock.send(struct.pack("=IHHII", length, dice.choice((family, 0, 1, 2, 3, 17, 0xFFFF)),
                                            dice.choice((0, 1, 5, 0x301, 0xFFFF)), 7, 0) + body)
                crowd.answers()
            deep = b""
            for depth in range(1000):
                deep = genl.nest(1 + depth % 3, deep)
            for payload in (deep, genl.attr(1, b"") * 10000, genl.nest(1, genl.attr(1, b"\2\0") * 8000), bytes(60000),
                            genl.nest(1, genl.attr(3, bytes(60000))), b"\xff" * 60000):
                for command in range(18):
                    header = struct.pack("=IHHIIBBH", 20 + len(payload), family, 5, 9, 0, command, 1, 0)
                    for code in crowd.ask(header + payload, [9]):
                        codes[code] = codes.get(code, 0) + 1
            info = struct.pack("=IHHIIBBH", 20, crowd.families["IPVS"], 5, 8, 0, 15, 1, 0)
            assert crowd.ask(info, [8]) == [0]
    assert codes, "nothing was answered"
    consistent(world.director)


def unsettle():
    """Flushes, zeroes and lists, over and over."""
    with genl.Genl("IPVS") as ipvs:
        while True:
            for command, flags in ((genl.FLUSH, genl.ACK), (genl.GET_SERVICE, genl.DUMP), (genl.ZERO, genl.ACK)):
                ipvs.call(command, flags=flags)
            with open("/proc/thread-self/net/ip_vs", encoding="ascii") as file:
                file.read()


def test_while_flushed(world):
    """The same while another process flushes, zeroes and lists."""
    started = time.monotonic()
    with world.director, Crowd() as crowd:
        other = Process(unsettle)
        try:
            codes = send_many(crowd, Corpus(SEED + 2, crowd.families), MESSAGES * 15 // 100)
        finally:
            other.stop()
    told("while_flushed", codes, started)
    assert codes.get(0), codes
    consistent(world.director)


def in_namespaces(seed, count, messages):
    """Makes namespaces, each left with what hostile messages have made of it, a dump half read; they go so."""
    codes, last = {}, None
    for number in range(count):
        place = Fresh()
        with place, Crowd() as crowd:
            corpus = Corpus(seed + number, crowd.families, 100)
            for code, times in send_many(crowd, corpus, messages).items():
                codes[code] = codes.get(code, 0) + times
            # Its dump is never read to its end, and its last requests are never answered.
            for _ in range(3):
                crowd.sock.send(corpus.batch(BATCH)[0])
            crowd.sock.send(struct.pack("=IHHIIBBH", 20, crowd.families["IPVS"], 0x301, 9, 0, 4, 1, 0))
        # The one before is destroyed while this one is configured.
        if last:
            last.close()
        last = place
    last.close()
    return sorted(codes.items())


def test_dying_namespaces(world):
    """Namespaces are destroyed, full of services, while messages come in beside them."""
    started = time.monotonic()
    count, messages = max(MESSAGES // 4000, 2), 256
    with world.director, Crowd() as crowd:
        other = Process(lambda: in_namespaces(SEED + 1000, count, messages))
        codes = dict(in_namespaces(SEED + 2000, count, messages))
        for code, times in other.result():
            codes[code] = codes.get(code, 0) + times
        for code, times in send_many(crowd, Corpus(SEED + 3, crowd.families, 200), BATCH).items():
            codes[code] = codes.get(code, 0) + times
    told("dying_namespaces", codes, started)
    assert codes.get(0), codes
    consistent(world.director)


def as_stranger(seed, count):
    """What sends without the capability get for an answer."""
    with Crowd() as crowd:
        return sorted(send_many(crowd, Corpus(seed, crowd.families), count).items())


def test_strangers(world):
    """Without the capability nothing is obeyed and nothing is told, in whatever shape it is asked."""
    started, codes = time.monotonic(), {}
    world.adm("-C")
    world.service("nat", [(lib.SERVERS[0], 80)], port=80)
    before = world.director.proc("ip_vs")
    for number, how in enumerate(({"user": 65534}, {"namespace": True})):
        with world.director:
            answers = Process(lambda at=number: as_stranger(SEED + 4 + at, MESSAGES * 4 // 100), **how).result()
        for code, times in answers:
            codes[code] = codes.get(code, 0) + times
    told("strangers", codes, started)
    assert codes.get(1, 0) > sum(codes.values()) // 2, codes
    assert 0 not in codes, f"{codes[0]} messages of strangers were obeyed"
    assert world.director.proc("ip_vs") == before
    consistent(world.director)


def test_enough(_):
    """All of this was as much as was asked for."""
    whole = {"each_attribute", "random", "while_flushed", "dying_namespaces", "strangers"}
    if set(_sent) != whole:
        raise lib.Skip("not all of it was run")
    print(f"# {sum(_sent.values())} messages")
    assert sum(_sent.values()) >= MESSAGES, _sent
