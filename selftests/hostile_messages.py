# SPDX-License-Identifier: GPL-2.0
"""Messages for both families that are wrong in every way: systematically, and at random from a seed."""

import random
import socket
import struct

import genl
import shapes

INET, INET6 = socket.AF_INET, socket.AF_INET6
EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
REQUEST, DUMP = genl.REQUEST | genl.ACK, genl.REQUEST | genl.DUMP
LADDR_FIELDS = {"addr": (1, "addr"), "conns": (2, "=I"), "exhausted": (3, "=I")}
TOP_FIELDS = {"timeout_tcp": (4, "=I"), "timeout_fin": (5, "=I"), "timeout_udp": (6, "=I"), "rlvs": (64, "=I")}

SERVICE = {"af": INET, "protocol": 6, "addr": bytes((10, 9, 0, 80)) + bytes(12), "port": 80, "fwmark": None,
           "sched": "rr", "flags": (0, 0xFFFFFFFF), "timeout": 0, "netmask": 0xFFFFFFFF, "pe": None, "stats": None,
           "unknown": None}
DEST = {"family": INET, "addr": bytes((10, 2, 0, 11)) + bytes(12), "port": 80, "method": 0, "weight": 1,
        "tun_type": 0, "tun_port": 0, "tun_flags": 0, "upper": 0, "lower": 0, "active": None, "unknown": None}
DAEMON = {"state": 1, "ifn": "nosuch", "syncid": 1, "maxlen": 1000, "group": "224.0.0.81", "group6": None, "port": 8848,
          "ttl": 1}
LADDR = {"addr": bytes((10, 2, 0, 201)), "conns": None, "exhausted": None}
TOP = {"timeout_tcp": 900, "timeout_fin": 120, "timeout_udp": 300, "rlvs": None}

# Which nests a command of a family takes: (number, table, plain values).
NESTS = {"IPVS": [(1, shapes.SERVICE_FIELDS, SERVICE), (2, shapes.DEST_FIELDS, DEST),
                  (3, shapes.DAEMON_FIELDS, DAEMON)],
         "RLVS": [(1, shapes.SERVICE_FIELDS, SERVICE), (2, LADDR_FIELDS, LADDR)]}
COMMANDS = {"IPVS": range(18), "RLVS": range(5)}


def frame(family, command, payload, number, flags=REQUEST, version=1, reserved=0):
    """A message; its number is what the answer is known by."""
    payload += bytes(-len(payload) % 4)
    return struct.pack("=IHHIIBBH", 20 + len(payload), family, flags, number, 0, command, version, reserved) + payload


def batches(messages, size):
    """(bytes, numbers) of so many messages at a time; each is numbered within its batch."""
    parts, numbers = [], []
    for build in messages:
        parts.append(build(len(parts)))
        numbers.append(len(numbers))
        if len(parts) == size:
            yield b"".join(parts), numbers
            parts, numbers = [], []
    if parts:
        yield b"".join(parts), numbers


def variants(number, kind, plain):
    """Attributes in place of one: missing, doubled, of each length, extreme, nested, lying about their length."""
    data = shapes.packed(kind, plain if plain is not None else {"text": "x", "addr": bytes(4)}.get(kind, b"\1\0\0\0"))
    good = genl.attr(number, data)
    yield b""
    yield good + good
    yield good + genl.attr(number, bytes(len(data)))
    for size in (*range(len(data) + 3), 15, 16, 17, 18, 64, 255):
        yield genl.attr(number, (data * 64)[:size] if data else bytes(size))
    for value in EXTREMES:
        yield genl.attr(number, struct.pack("=I", value)[:len(data)].ljust(len(data), b"\0"))
        yield genl.attr(number, struct.pack("!I", value)[-len(data) or 4:].ljust(len(data), b"\xff"))
    for flag in (0x8000, 0x4000, 0xC000):
        yield genl.attr(number | flag, data)
    yield genl.nest(number, good)
    yield genl.attr(number, b"x" * len(data))
    for size in (0, 3, 4, len(data) + 5, 200, 0xFFFF):
        yield struct.pack("=HH", size, number) + data + bytes(-len(data) % 4)


def each_attribute(families, size):
    """Batches of every command with every attribute in every variant, the rest being right."""
    def messages():
        for name, family in families.items():
            nests = NESTS[name]
            plain = {kind: shapes.fields(table, values) for kind, table, values in nests}
            top = shapes.fields(TOP_FIELDS, TOP) if name == "IPVS" else b""
            whole = b"".join(genl.nest(kind, plain[kind]) for kind, _, _ in nests) + top
            for command in COMMANDS[name]:
                for flags in (REQUEST, DUMP):
                    yield lambda at, f=family, c=command, l=flags: frame(f, c, whole, at, l)
                for kind, table, values in nests:
                    others = [(other, body) for other, body in plain.items() if other != kind]
                    # The nest itself is an attribute, too.
                    for odd in variants(kind, "addr", plain[kind]):
                        payload = b"".join(genl.nest(*pair) for pair in others) + odd
                        yield lambda at, f=family, c=command, p=payload: frame(f, c, p, at)
                    rest = b"".join(genl.nest(*pair) for pair in others)
                    for field, (number, packing) in table.items():
                        before = shapes.fields(table, {key: value for key, value in values.items() if key != field})
                        for odd in variants(number, packing, values[field]):
                            payload = rest + genl.nest(kind, before + odd)
                            yield lambda at, f=family, c=command, p=payload: frame(f, c, p, at)
                if name == "IPVS" and command in (12, 13, 15):
                    for number, packing in TOP_FIELDS.values():
                        for odd in variants(number, packing, 5):
                            yield lambda at, f=family, c=command, p=odd: frame(f, c, p, at)
                yield lambda at, f=families["IPVS"]: frame(f, 17, b"", at)
    return batches(messages(), size)


class Corpus:
    """Random messages for both families from a seed. Making one takes Python long, so some thousand are made, which
    are then sent again and again in another order, with other bytes of theirs spoilt."""

    def __init__(self, seed, families, count=2000):
        self.dice = random.Random(seed)
        self.families = families
        self.messages = [self._message(number) for number in range(count)]

    def batch(self, size):
        """(bytes, numbers) of so many messages, chosen and spoilt anew."""
        dice = self.dice
        chosen = dice.choices(range(len(self.messages)), k=size)
        data = bytearray(b"".join([self.messages[number] for number in chosen]))
        if dice.random() < 0.5:
            starts, at = [], 0
            for number in chosen:
                starts.append(at)
                at += len(self.messages[number])
            for _ in range(size // 4):
                which = dice.randrange(size)
                room = len(self.messages[chosen[which]]) - 20
                if room > 0:
                    data[starts[which] + 20 + dice.randrange(room)] = dice.randrange(256)
        return data, chosen

    def _message(self, at):
        dice = self.dice
        name = dice.choice(("IPVS", "IPVS", "IPVS", "RLVS")) if "RLVS" in self.families else "IPVS"
        family = self.families[name]
        chance = dice.random()
        if chance < 0.01:
            return frame(self.families["IPVS"], 17, b"", at)
        if chance < 0.04:
            return frame(family, dice.randrange(256), dice.randbytes(dice.randrange(200)), at,
                         dice.choice((REQUEST, DUMP, REQUEST | 0xF0F0)), dice.randrange(3), dice.randrange(3))
        if name == "RLVS":
            command = dice.choice((1, 1, 1, 2, 3))
            parts = [self._service(False)] + [self._nest(2, LADDR_FIELDS, self._laddr())] * (command != 3)
        else:
            command = dice.choices(range(1, 17), (30, 12, 8, 6, 30, 12, 8, 6, 2, 2, 2, 3, 2, 1, 2, 3))[0]
            parts = [self._service(command in (1, 2))] if command <= 8 or command == 16 else []
            if 5 <= command <= 7:
                parts.append(self._nest(2, shapes.DEST_FIELDS, self._dest()))
            elif command in (9, 10):
                parts.append(self._nest(3, shapes.DAEMON_FIELDS, DAEMON | {"state": dice.randrange(4)}))
            elif command == 12:
                parts.append(self._fields(TOP_FIELDS, {field: dice.choice((0, 1, 60, 900)) for field in TOP_FIELDS}))
        if dice.random() < 0.04:
            dice.shuffle(parts)
            parts = parts[dice.randrange(2):] * dice.choice((1, 2))
        if dice.random() < 0.04:
            kind = dice.choice((0, 7, 40, 63, 64, 65, 0x3FFF, 0xFFFF))
            parts.append(genl.attr(kind, dice.randbytes(dice.randrange(9))))
        flags = DUMP if command in (4, 8, 11) and name == "IPVS" or command == 3 and name == "RLVS" else REQUEST
        if dice.random() < 0.03:
            flags = dice.choice((REQUEST, DUMP))
        return frame(family, command, b"".join(parts), at, flags)

    def _service(self, full):
        dice = self.dice
        kind = dice.random()
        addr = bytes((10, 9, 0, dice.randrange(80, 83))) + bytes(dice.choice((0, 12, 12, 12)))
        values = {"af": INET, "protocol": dice.choice((6, 6, 17, 132)), "addr": addr,
                  "port": dice.choice((80, 80, 81, 443, 0))}
        if kind < 0.2:
            values |= {"af": INET6, "addr": bytes.fromhex("20010db8") + bytes(11) + bytes([dice.randrange(2)])}
        elif kind < 0.35:
            values = {"af": dice.choice((INET, INET, INET6)), "fwmark": dice.randrange(3)}
        if full or dice.random() < 0.2:
            values |= {"sched": dice.choice(("rr", "wrr", "lc", "wlc", "none", "rr", "wrr", "nosuch")),
                       "flags": (dice.choice((0, 0, 0, 1, 4, 8, 0x3D, 0xFFFFFFFF)),
                                 dice.choice((0xFFFFFFFF,) * 3 + (0, 5))),
                       "timeout": dice.choice((0, 60, 300)),
                       "netmask": dice.choice((64, 128, 1)) if values["af"] == INET6 else 0xFFFFFFFF}
        return self._nest(1, shapes.SERVICE_FIELDS, values)

    def _dest(self):
        dice = self.dice
        six = dice.random() < 0.15
        addr = bytes((10, 2, 0, dice.randrange(11, 17))) + bytes(12)
        if six:
            addr = bytes.fromhex("20010db8") + bytes(11) + b"\2"
        return {"family": dice.choice((INET6, None) if six else (INET, INET, None, 0)), "addr": addr,
                "port": dice.choice((80, 8080, 0)), "method": dice.choice((0, 0, 0, 5, 5, 1, 2, 3, 4, 6, 7)),
                "weight": dice.choice((0, 1, 1, 5, 65535)), "tun_type": dice.choice((None, 0, 0, 1, 2, 9)),
                "tun_port": dice.choice((None, 0, 6080)), "tun_flags": dice.choice((None, 0, 1)),
                "upper": dice.choice((0, 0, 10)), "lower": dice.choice((0, 0, 5))}

    def _laddr(self):
        return {"addr": bytes((10, 2, 0, self.dice.randrange(201, 205))) + bytes(self.dice.choice((0, 0, 0, 12)))}

    def _nest(self, kind, table, values):
        body = self._fields(table, values)
        return genl.attr(kind, body) if self.dice.random() < 0.02 else genl.nest(kind, body)

    def _fields(self, table, values):
        dice = self.dice
        parts = []
        for field, value in values.items():
            number, packing = table[field]
            if value is None:
                continue
            data = shapes.packed(packing, value)
            chance = dice.random()
            if chance > 0.08:
                parts.append(genl.attr(number, data))
            elif chance > 0.065:
                pass
            elif chance > 0.05:
                parts.append(genl.attr(number, data) * 2)
            elif chance > 0.03:
                parts.append(genl.attr(number, dice.randbytes(dice.choice((0, 1, 2, 3, 4, 5, 8, 15, 16, 17, 40)))))
            elif chance > 0.015:
                extreme = struct.pack("=I", dice.choice(EXTREMES)).ljust(len(data), b"\0")
                parts.append(genl.attr(number, extreme[:max(len(data), 1)]))
            elif chance > 0.01:
                parts.append(genl.nest(number, genl.attr(number, data)))
            elif chance > 0.005:
                parts.append(struct.pack("=HH", dice.choice((0, 2, 3, 5, 300)), number) + data + bytes(-len(data) % 4))
            else:
                parts.append(genl.attr(dice.randrange(80), data))
        if dice.random() < 0.1:
            dice.shuffle(parts)
        return b"".join(parts)
