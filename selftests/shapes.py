# SPDX-License-Identifier: GPL-2.0
"""Messages of family IPVS in any shape: each attribute can be left out, doubled, cut, or be any bytes.

A field's value is an integer or text, packed as mainline expects it; bytes, taken as they are; None, which
leaves it out; or a list of values, which repeats the attribute.
"""

import socket
import struct

import genl

NEW_DAEMON, DEL_DAEMON, GET_DAEMON, SET_INFO = 9, 10, 11, 14
DAEMON = 3
COMMANDS = {"NEW_SERVICE": 1, "SET_SERVICE": 2, "DEL_SERVICE": 3, "GET_SERVICE": 4, "NEW_DEST": 5,
            "SET_DEST": 6, "DEL_DEST": 7, "GET_DEST": 8, "NEW_DAEMON": 9, "DEL_DAEMON": 10,
            "GET_DAEMON": 11, "SET_CONFIG": 12, "GET_CONFIG": 13, "SET_INFO": 14, "GET_INFO": 15,
            "ZERO": 16, "FLUSH": 17}

SERVICE_FIELDS = {"af": (1, "=H"), "protocol": (2, "=H"), "addr": (3, "addr"), "port": (4, "!H"),
                  "fwmark": (5, "=I"), "sched": (6, "text"), "flags": (7, "=II"), "timeout": (8, "=I"),
                  "netmask": (9, "=I"), "pe": (11, "text"), "stats": (10, "=I"), "unknown": (40, "=I")}
DEST_FIELDS = {"family": (11, "=H"), "addr": (1, "addr"), "port": (2, "!H"), "method": (3, "=I"),
               "weight": (4, "=I"), "tun_type": (13, "=B"), "tun_port": (14, "!H"), "tun_flags": (15, "=H"),
               "upper": (5, "=I"), "lower": (6, "=I"), "active": (7, "=I"), "unknown": (40, "=I")}
DAEMON_FIELDS = {"state": (1, "=I"), "ifn": (2, "text"), "syncid": (3, "=I"), "maxlen": (4, "=H"),
                 "group": (5, "addr"), "group6": (6, "addr"), "port": (7, "=H"), "ttl": (8, "=B")}


def packed(kind, value):
    """The bytes of a field's value."""
    if isinstance(value, bytes):
        return value
    if kind == "text":
        return value.encode() + b"\0"
    if kind == "addr":
        return socket.inet_pton(socket.AF_INET6 if ":" in value else socket.AF_INET, value)
    return struct.pack(kind, *(value if isinstance(value, tuple) else (value,)))


def fields(table, values):
    """The attributes of a nest, in the order of `values`."""
    parts = []
    for name, value in values.items():
        number, kind = table[name]
        for each in value if isinstance(value, list) else [value]:
            if each is not None:
                parts.append(genl.attr(number, packed(kind, each)))
    return b"".join(parts)


def key(addr, port=80, /, **other):
    """What names a service: an address, or an integer for a firewall mark."""
    if isinstance(addr, int):
        values = {"af": socket.AF_INET, "fwmark": addr}
    else:
        six = ":" in addr
        # As ipvsadm has it, an address is 16 bytes whatever its family.
        values = {"af": socket.AF_INET6 if six else socket.AF_INET, "protocol": socket.IPPROTO_TCP,
                  "addr": packed("addr", addr).ljust(16, b"\0"), "port": port}
    return genl.nest(genl.SERVICE, fields(SERVICE_FIELDS, values | other))


def service(addr, port=80, /, **other):
    """A service with all that one needs."""
    six = isinstance(addr, str) and ":" in addr
    values = {"sched": "rr", "flags": (0, 0xFFFFFFFF), "timeout": 0, "netmask": 128 if six else 0xFFFFFFFF}
    return key(addr, port, **(values | other))


def dest_key(addr, port=8080, /, **other):
    """What names a destination."""
    six = ":" in addr
    values = {"family": socket.AF_INET6 if six else socket.AF_INET,
              "addr": packed("addr", addr).ljust(16, b"\0"), "port": port}
    return genl.nest(genl.DEST, fields(DEST_FIELDS, values | other))


def dest(addr, port=8080, /, **other):
    """A destination with all that one needs."""
    return dest_key(addr, port, **({"method": 0, "weight": 1, "upper": 0, "lower": 0} | other))


def daemon(**values):
    """A synchronisation daemon."""
    return genl.nest(DAEMON, fields(DAEMON_FIELDS, values))


# Which attributes are nests, by the path of their numbers.
NESTS = {(1,), (2,), (3,), (1, 10), (1, 12), (2, 10), (2, 12)}


def told(data, path=(), indent="  ", nests=True):
    """The bytes of attributes as lines that hide nothing: type with its flags, length, padding, value."""
    lines = []
    while data:
        if len(data) < 4:
            lines.append(f"{indent}rest {data.hex()}")
            break
        size, kind = struct.unpack("=HH", data[:4])
        if size < 4 or size > len(data):
            lines.append(f"{indent}wrong length {data.hex()}")
            break
        body, padding = data[4:size], data[size:(size + 3) & ~3]
        number = kind & 0x3FFF
        head = f"{indent}{number}{'+nest' if kind & 0x8000 else ''} ({size})"
        if nests and path + (number,) in NESTS:
            lines.append(head)
            lines += told(body, path + (number,), indent + "  ")
        else:
            lines.append(f"{head} {body.hex()}")
        if padding.strip(b"\0"):
            lines.append(f"{indent}padding {padding.hex()}")
        data = data[(size + 3) & ~3:]
    return lines
