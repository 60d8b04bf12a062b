# SPDX-License-Identifier: GPL-2.0
"""Scenarios of the parity tests: what programs send that ipvsadm does not, and every errno in mainline's order."""

import errno
import socket
import struct
import time

import genl
import kernel
from shapes import daemon, dest, dest_key, key, service

VIP, VIP6 = "10.9.0.80", "2001:db8:9::80"
RS, RS6 = "10.2.0.11", "2001:db8:2::11"
INVALID, NO_FAMILY, RANGE = errno.EINVAL, errno.EAFNOSUPPORT, errno.ERANGE
# Two mistakes at once tell which is looked for first.
HIGH = 1 << 31


def state(box):
    """What there is, as netlink and /proc tell it."""
    box.dump("GET_SERVICE", label="state")
    box.proc("ip_vs")


def each(box, command, cases):
    """Sends a command's payloads; a case is (label, payload, errno)."""
    for label, payload, code in cases:
        box.send(command, payload, code, label=label)


def family(box):
    """What the family says of itself: version, commands, and what each is allowed to."""
    about = genl.attributes(box.wire.about)
    operations = []
    data = about[6]
    while data:
        size = struct.unpack("=H", data[:2])[0]
        operation = genl.attributes(data[4:size])
        operations.append(f"command {int.from_bytes(operation[1], 'little')} flags "
                          f"{int.from_bytes(operation[2], 'little'):#x}")
        data = data[(size + 3) & ~3:]
    box.step("operations", "\n".join(operations))
    box.step("version", about[3].hex())
    box.step("header size", about[4].hex())
    box.step("groups", about.get(7, b"").hex())
    box.step("attributes at most", about[5].hex())


def information(box):
    """GET_INFO and GET_CONFIG, bare and with what they do not need."""
    for command in ("GET_INFO", "GET_CONFIG"):
        box.send(command)
        box.send(command, label="without ACK", flags=genl.REQUEST)
        box.send(command, service(VIP), label="with a service")
        box.send(command, error=errno.EOPNOTSUPP, label="as a dump", flags=genl.REQUEST | genl.DUMP)
        box.send(command, genl.attr(70, 1), label="with an unknown attribute")
        box.send(command, label="version 2", version=2)
    box.send("NEW_SERVICE", service(VIP))
    box.send("GET_INFO", label="with one service")


def unknown_commands(box):
    """Commands that nobody has; dumps of what has none."""
    for number in (0, 14, 18, 19, 63, 255):
        box.send(number, error=errno.EOPNOTSUPP)
        box.send(number, error=errno.EOPNOTSUPP, label="dump", flags=genl.REQUEST | genl.DUMP)
    for command in ("NEW_SERVICE", "DEL_DEST", "FLUSH", "ZERO", "SET_CONFIG", "NEW_DAEMON"):
        box.send(command, error=errno.EOPNOTSUPP, label="dump", flags=genl.REQUEST | genl.DUMP)
    for command in ("GET_DEST", "GET_DAEMON"):
        box.send(command, error=errno.EOPNOTSUPP, label="without dump")


def service_errors(box):
    """Services: every mistake, and of two the one that mainline tells."""
    cases = [
        ("nothing", b"", INVALID), ("no nest", genl.attr(1, b""), INVALID), ("an empty nest", genl.nest(1), INVALID),
        ("a number for a nest", genl.attr(1, 5), INVALID), ("short family", key(VIP, af=b"\2"), INVALID),
        ("no family", key(VIP, af=None), INVALID), ("no address", key(VIP, addr=None), INVALID),
        ("no port", key(VIP, port=None), INVALID), ("no protocol", key(VIP, protocol=None), INVALID),
        ("no key, wrong family", key(VIP, af=77, port=None), INVALID), ("family 0", service(VIP, af=0), NO_FAMILY),
        ("family 77", service(VIP, af=77), NO_FAMILY), ("family 65535", service(VIP, af=65535), NO_FAMILY),
        ("family 77, not full", key(VIP, af=77), NO_FAMILY), ("address of 17", service(VIP, addr=bytes(17)), INVALID),
        ("address of 256", service(VIP, addr=bytes(256)), INVALID), ("port of 1", service(VIP, port=b"\1"), INVALID),
        ("mark of 2", service(1, fwmark=b"\1\0"), INVALID), ("protocol of 1", service(VIP, protocol=b"\6"), INVALID),
        ("scheduler of 16", service(VIP, sched="s" * 16), INVALID),
        ("scheduler of 15", service(VIP, sched="s" * 15), errno.ENOENT),
        ("scheduler without end", service(VIP, sched=b"rr"), INVALID),
        ("scheduler of nothing", service(VIP, sched=""), errno.ENOENT),
        ("scheduler of no bytes", service(VIP, sched=b""), INVALID),
        ("engine of 17", service(VIP, pe="p" * 17), INVALID),
        ("engine of 16", service(VIP, pe="p" * 16), errno.ENOENT),
        ("engine of 15", service(VIP, pe="p" * 15), errno.ENOENT),
        ("flags of 9", service(VIP, flags=bytes(9)), INVALID), ("timeout of 2", service(VIP, timeout=b"\1\0"), INVALID),
        ("netmask of 1", service(VIP, netmask=b"\1"), INVALID),
        ("statistics of 3", service(VIP, stats=b"\1\2\3"), INVALID),
        ("no scheduler", service(VIP, sched=None), INVALID), ("no flags", service(VIP, flags=None), INVALID),
        ("no timeout", service(VIP, timeout=None), INVALID), ("no netmask", service(VIP, netmask=None), INVALID),
        ("no flags, unknown scheduler", service(VIP, sched="nosuch", flags=None), INVALID),
        ("unknown scheduler", service(VIP, sched="nosuch"), errno.ENOENT),
        ("unknown engine", service(VIP, pe="nosuch"), errno.ENOENT),
        ("prefix 0", service(VIP6, netmask=0), INVALID), ("prefix 129", service(VIP6, netmask=129), INVALID),
        ("prefix of a mask", service(VIP6, netmask=0xFFFFFFFF), INVALID),
        ("prefix 0, unknown scheduler", service(VIP6, netmask=0, sched="nosuch"), errno.ENOENT),
        ("prefix 0, unknown engine", service(VIP6, netmask=0, pe="nosuch"), errno.ENOENT),
        ("mark, no address", key(1), INVALID),
    ]
    each(box, "NEW_SERVICE", cases)
    state(box)
    box.send("NEW_SERVICE", service(VIP))
    box.send("NEW_SERVICE", service(VIP6))
    each(box, "NEW_SERVICE", [
        ("exists", service(VIP), errno.EEXIST),
        ("exists, unknown scheduler", service(VIP, sched="nosuch"), errno.EEXIST),
        ("exists, not full", key(VIP), INVALID), ("exists, prefix 0", service(VIP6, netmask=0), errno.EEXIST)])
    each(box, "SET_SERVICE", [
        ("nothing", b"", INVALID), ("not full", key(VIP), INVALID), ("not full, unknown", key(VIP, 81), INVALID),
        ("unknown", service(VIP, 81), errno.ESRCH),
        ("unknown, unknown scheduler", service(VIP, 81, sched="nosuch"), errno.ESRCH),
        ("unknown scheduler", service(VIP, sched="nosuch"), errno.ENOENT),
        ("unknown engine", service(VIP, pe="nosuch"), errno.ENOENT),
        ("prefix 0", service(VIP6, netmask=0), INVALID), ("prefix 129", service(VIP6, netmask=129), INVALID),
        ("family 0", service(VIP, af=0), NO_FAMILY)])
    for command in ("DEL_SERVICE", "GET_SERVICE", "ZERO"):
        each(box, command, [
            ("no nest", b"", INVALID if command != "ZERO" else 0), ("an empty nest", genl.nest(1), INVALID),
            ("unknown", key(VIP, 81), errno.ESRCH), ("unknown mark", key(7), errno.ESRCH),
            ("no family", key(VIP, af=None), INVALID), ("family 77", key(VIP, af=77), NO_FAMILY),
            ("udp", key(VIP, protocol=17), errno.ESRCH), ("other family", key(VIP, af=socket.AF_INET6), errno.ESRCH),
            ("protocol 262", key(VIP, protocol=262), errno.ESRCH)])
    state(box)


def dest_errors(box):
    """Destinations: every mistake, and of two the one that mainline tells."""
    box.send("NEW_SERVICE", service(VIP))
    box.send("NEW_SERVICE", service(VIP6))
    box.send("NEW_DEST", key(VIP) + dest(RS))
    box.send("NEW_DEST", key(VIP6) + dest(RS6))
    here, six = key(VIP), key(VIP6)
    unchanging = [
        ("nothing", b"", INVALID), ("no service", dest(RS), INVALID), ("no destination", here, INVALID),
        ("unknown service, no destination", key(VIP, 81), errno.ESRCH),
        ("unknown service, bad destination", key(VIP, 81) + genl.nest(2), errno.ESRCH),
        ("bad service, bad destination", genl.nest(1) + genl.nest(2), INVALID),
        ("an empty nest", here + genl.nest(2), INVALID), ("no address", here + dest(RS, addr=None), INVALID),
        ("no port", here + dest(RS, port=None), INVALID), ("port of 1", here + dest(RS, port=b"\1"), INVALID),
        ("address of 17", here + dest(RS, addr=bytes(17)), INVALID),
        ("family of 1", here + dest(RS, family=b"\2"), INVALID),
        ("weight of 2", here + dest(RS, weight=b"\1\0"), INVALID),
        ("type of none", here + dest(RS, tun_type=b""), INVALID),
        ("tunnel port of 1", here + dest(RS, tun_port=b"\1"), INVALID),
        ("tunnel flags of 1", here + dest(RS, tun_flags=b"\1"), INVALID),
        ("family 77", here + dest(RS, family=77), NO_FAMILY),
        ("family 77, no port", here + dest(RS, family=77, port=None), INVALID)]
    for command in ("NEW_DEST", "SET_DEST", "DEL_DEST"):
        each(box, command, unchanging)
    full = [
        ("no method", here + dest(RS, 9, method=None), INVALID),
        ("no weight", here + dest(RS, 9, weight=None), INVALID),
        ("no upper", here + dest(RS, 9, upper=None), INVALID), ("no lower", here + dest(RS, 9, lower=None), INVALID),
        ("no weight, family 77", here + dest(RS, 9, weight=None, family=77), INVALID),
        ("mixed, method 0", here + dest(RS6, 9), INVALID), ("mixed, method 3", here + dest(RS6, 9, method=3), INVALID),
        ("mixed, method 0, weight -1", here + dest(RS6, 9, weight=HIGH), INVALID),
        ("mixed, tunnel, weight -1", here + dest(RS6, 9, method=2, weight=HIGH), RANGE),
        ("weight -1", here + dest(RS, 9, weight=0xFFFFFFFF), RANGE),
        ("weight at the sign", here + dest(RS, 9, weight=HIGH), RANGE),
        ("lower above upper", here + dest(RS, 9, upper=1, lower=2), RANGE),
        ("lower above upper, weight -1", here + dest(RS, 9, upper=1, lower=2, weight=HIGH), RANGE),
        ("upper too high", here + dest(RS, 9, upper=HIGH), INVALID),
        ("upper too high, lower above", here + dest(RS, 9, upper=HIGH, lower=0xFFFFFFFF), RANGE),
        ("gue without port", here + dest(RS, 9, method=2, tun_type=1), INVALID),
        ("gue without port, by nat", here + dest(RS, 9, method=0, tun_type=1), INVALID),
        ("gue without port, weight -1", here + dest(RS, 9, method=2, tun_type=1, weight=HIGH), RANGE),
        ("gue without port, upper too high", here + dest(RS, 9, method=2, tun_type=1, upper=HIGH), INVALID)]
    each(box, "NEW_DEST", full + [
        ("exists", here + dest(RS), errno.EEXIST), ("exists, weight -1", here + dest(RS, weight=HIGH), RANGE),
        ("exists, gue without port", here + dest(RS, tun_type=1), INVALID),
        ("exists by absent family", here + dest(RS, family=None), errno.EEXIST),
        ("exists by family 0", here + dest(RS, family=0), errno.EEXIST),
        ("multicast", here + dest("224.0.0.1"), INVALID), ("broadcast", here + dest("255.255.255.255"), INVALID),
        ("any", here + dest("0.0.0.0"), INVALID), ("zero net", here + dest("0.1.2.3"), 0),
        ("multicast, weight -1", here + dest("224.0.0.1", weight=HIGH), RANGE),
        ("multicast of IPv6", six + dest("ff02::1"), INVALID), ("any of IPv6", six + dest("::"), INVALID),
        ("link-local", six + dest("fe80::1"), INVALID), ("loopback of IPv6", six + dest("::1"), 0),
        ("mapped", six + dest("::ffff:10.2.0.11"), INVALID),
        ("mixed, multicast", six + dest("224.0.0.1", method=2), INVALID)])
    each(box, "SET_DEST", full + [
        ("unknown", here + dest(RS, 9), errno.ENOENT), ("unknown, multicast", here + dest("224.0.0.1"), errno.ENOENT),
        ("unknown, mixed by tunnel", here + dest(RS6, method=2), errno.ENOENT)])
    each(box, "DEL_DEST", [
        ("unknown", here + dest_key(RS, 9), errno.ENOENT), ("unknown, mixed", here + dest_key(RS6), errno.ENOENT),
        ("unknown, nonsense beside", here + dest(RS, 9, weight=HIGH, upper=1, lower=2), errno.ENOENT)])
    state(box)
    box.dump("GET_DEST", here)
    box.dump("GET_DEST", six)


def config_errors(box):
    """SET_CONFIG, partial and out of range: nothing is half done."""
    limit = 2147483647 // 250
    box.send("GET_CONFIG")
    for label, payload, code in (
            ("nothing", b"", 0), ("tcp", genl.attr(4, 100), 0), ("fin", genl.attr(5, 20), 0),
            ("udp", genl.attr(6, 30), 0),
            ("0", genl.attr(4, 0) + genl.attr(5, 0) + genl.attr(6, 0), 0), ("highest", genl.attr(4, limit), 0),
            ("too high", genl.attr(4, limit + 1), INVALID), ("negative", genl.attr(5, 0xFFFFFFFF), INVALID),
            ("sign", genl.attr(6, HIGH), INVALID), ("good and bad", genl.attr(4, 5) + genl.attr(6, HIGH), INVALID),
            ("bad and good", genl.attr(4, HIGH) + genl.attr(6, 5), INVALID),
            ("of 2", genl.attr(4, b"\1\0"), RANGE), ("of 8", genl.attr(4, struct.pack("=II", 77, 1)), 0),
            ("doubled", genl.attr(4, 55) + genl.attr(4, 66), 0), ("with a service", key(VIP) + genl.attr(4, 77), 0)):
        box.send("SET_CONFIG", payload, code, label=label)
        box.send("GET_CONFIG", label=f"after {label}")


def daemon_errors(box):
    """The daemon's mistakes that need no daemon to be told."""
    for command in ("NEW_DAEMON", "DEL_DAEMON"):
        each(box, command, [
            ("nothing", b"", INVALID), ("an empty nest", daemon(), INVALID),
            ("state of 2", daemon(state=b"\1\0", ifn="lo", syncid=1), INVALID),
            ("no state", daemon(ifn="lo", syncid=1), INVALID)])
    each(box, "NEW_DAEMON", [
        ("no interface", daemon(state=1, syncid=1), INVALID), ("no id", daemon(state=1, ifn="lo"), INVALID),
        ("interface of 16", daemon(state=1, ifn="i" * 16, syncid=1), INVALID),
        ("interface without end", daemon(state=1, ifn=b"lo", syncid=1), INVALID),
        ("no multicast", daemon(state=1, ifn="lo", syncid=1, group="10.1.1.1"), INVALID),
        ("no multicast of IPv6", daemon(state=1, ifn="lo", syncid=1, group6="2001:db8::1"), INVALID),
        ("group of 3", daemon(state=1, ifn="lo", syncid=1, group=b"\1\2\3"), INVALID),
        ("group of 8 for IPv6", daemon(state=1, ifn="lo", syncid=1, group6=bytes(8)), INVALID),
        ("unknown interface", daemon(state=1, ifn="nosuch", syncid=1), errno.ENODEV),
        ("state 0", daemon(state=0, ifn="lo", syncid=1), INVALID),
        ("state 9", daemon(state=9, ifn="lo", syncid=1), INVALID)])
    each(box, "DEL_DAEMON", [
        ("none runs", daemon(state=1), errno.ESRCH), ("no backup runs", daemon(state=2), errno.ESRCH),
        ("state 3", daemon(state=3), INVALID), ("state 0", daemon(state=0), INVALID)])
    # Families may be mixed only where no daemon can run.
    box.send("NEW_SERVICE", service(VIP))
    box.send("NEW_DEST", key(VIP) + dest(RS6, method=2))
    box.send("NEW_DAEMON", daemon(state=1, ifn="nosuch", syncid=1), INVALID, label="with mixed families")


def daemon_runs(box):
    """A daemon is started, listed and stopped."""
    box.send("NEW_DAEMON", daemon(state=2, ifn="lo", syncid=1))
    box.dump("GET_DAEMON")
    # One that has not run yet is stopped without an answer.
    time.sleep(0.2 * kernel.SLOW)
    box.send("DEL_DAEMON", daemon(state=2))


def shapes_of_services(box):
    """What a SERVICE nest may look like and still be one, and what the kernel makes of it."""
    plain = genl.attr(1, service(VIP, 90)[4:])
    for label, payload in (
            ("nest without its flag", plain), ("address of 4", service(VIP, 91, addr="10.9.0.80")),
            ("address of 1", service(VIP, 92, addr=b"\x0a")), ("address of none", service(VIP, 93, addr=b"")),
            ("address with a tail", service(VIP, 94, addr=b"\x0a\x09\0\x50" + b"\xff" * 12)),
            ("mark and address", service(VIP, 95, fwmark=9)), ("mark 0", service(0)),
            ("protocol 0", service(VIP, 96, protocol=0)),
            ("protocol 47", service(VIP, 97, protocol=47)), ("protocol 255", service(VIP, 98, protocol=255)),
            ("protocol 257", service(VIP, 99, protocol=257)), ("protocol 50", service(VIP, 99, protocol=50)),
            ("doubled port", service(VIP, [100, 101])), ("unknown attribute", service(VIP, 102, unknown=7)),
            ("two services", service(VIP, 103) + service(VIP, 104)),
            ("destination before", dest(RS) + service(VIP, 105)),
            ("timeout at its end", service(VIP, 106, timeout=0xFFFFFFFF, flags=(1, 1))),
            ("timeout of a day", service(VIP, 107, timeout=86400, flags=(1, 1))),
            ("odd netmask", service(VIP, 108, netmask=0x00FF00FF, flags=(1, 1))),
            ("netmask 0", service(VIP, 109, netmask=0, flags=(1, 1))),
            ("flags of 4", service(VIP, 110, flags=b"\1\0\0\0")),
            ("flags of none", service(VIP, 111, flags=b"")),
            ("all flags", service(VIP, 112, flags=(0xFFFFFFFF, 0xFFFFFFFF))),
            ("masked flags", service(VIP, 113, flags=(0xFFFFFFFF, 4))), ("hashed", service(VIP, 114, flags=(2, 2))),
            ("empty engine", service(VIP, 115, pe="")), ("port 0", service(VIP, 0)),
            ("port 65535", service(VIP, 65535)),
            ("persistent port 0", service(VIP, 0, protocol=17, flags=(1, 1), timeout=60)),
            ("no address family's length", service(VIP6, 116, addr=socket.inet_pton(socket.AF_INET6, VIP6)[:8])),
            ("any address", service("0.0.0.0", 117)), ("multicast", service("224.0.0.1", 118)),
            ("loopback", service("127.0.0.1", 119)),
            ("any of IPv6", service("::", 120)), ("prefix 1", service(VIP6, 121, netmask=1)),
            ("mark of IPv6", service(7, af=socket.AF_INET6, netmask=128)),
            ("padding at the end", service(VIP, 122) + b"\0\0\0\0"), ("short rest", service(VIP, 123) + b"\0\0"),
            ("a scheduler called none", service(VIP, 124, sched="none")),
            ("scheduler with a tail", service(VIP, 125, sched=b"rr\0xyz\0"))):
        box.send("NEW_SERVICE", payload, label=label)
    for port in (90, 91, 92, 94, 95, 100, 106, 108, 112, 113, 114, 115, 0):
        messages = box.wire.exchange(4, key(VIP, port), genl.REQUEST)
        box.step(f"GET_SERVICE {port}", "\n".join(box.wire.told(message) for message in messages))
    box.send("GET_SERVICE", key(9), label="by mark")
    state(box)
    box.send("FLUSH", service(VIP), label="with a service")
    state(box)


def shapes_of_dests(box):
    """What a DEST nest may look like and still be one, and what the kernel makes of it."""
    for payload in (service(VIP), service(VIP6), service(3)):
        box.send("NEW_SERVICE", payload)
    here = key(VIP)
    for label, payload in (
            ("address of 4", here + dest(RS, 1, addr=RS)), ("family absent", here + dest(RS, 2, family=None)),
            ("family 0", here + dest(RS, 3, family=0)),
            ("address of 4, family absent", here + dest(RS, 4, addr=RS, family=None)),
            ("unknown attribute", here + dest(RS, 5, unknown=9)), ("method 1", here + dest(RS, 6, method=1)),
            ("method 2", here + dest(RS, 7, method=2)), ("method 3", here + dest(RS, 8, method=3)),
            ("method 4", here + dest(RS, 9, method=4)),
            ("method 8", here + dest(RS, 12, method=8)), ("all of the method", here + dest(RS, 13, method=0xFFFFFFF8)),
            ("port 0", here + dest(RS, 0)),
            ("upper at its end", here + dest(RS, 14, upper=0x7FFFFFFF, lower=0x7FFFFFFF)),
            ("weight at its end", here + dest(RS, 15, weight=0x7FFFFFFF)),
            ("tunnel type 9", here + dest(RS, 16, method=2, tun_type=9)),
            ("tunnel of nat", here + dest(RS, 17, tun_type=1, tun_port=99, tun_flags=7)),
            ("all tunnel flags", here + dest(RS, 18, method=2, tun_type=2, tun_flags=0xFFFF)),
            ("active of 4", here + dest(RS, 19, active=77)), ("two destinations", here + dest(RS, 20) + dest(RS, 21)),
            ("destination before service", dest(RS, 22) + here), ("doubled weight", here + dest(RS, 23, weight=[3, 4])),
            ("service in full", service(VIP, sched="nosuch") + dest(RS, 24)), ("by mark", key(3) + dest(RS, 25)),
            ("address with a tail", here + dest(RS, 26, addr=b"\x0a\x02\0\x0b" + b"\xff" * 12)),
            ("mixed by tunnel", here + dest(RS6, 27, method=2)), ("mixed, method 10", here + dest(RS6, 28, method=10)),
            ("of IPv6, family absent", key(VIP6) + dest(RS6, 29, family=None)),
            ("of IPv6", key(VIP6) + dest(RS6, 30, method=3)),
            ("own address", here + dest(VIP, 80)), ("class E", here + dest("240.0.0.1", 31))):
        box.send("NEW_DEST", payload, label=label)
    for label, payload in (("service", here), ("service of IPv6", key(VIP6)), ("mark", key(3))):
        box.dump("GET_DEST", payload, label=f"of {label}")
    state(box)
    each(box, "SET_DEST", [
        ("all that can change", here + dest(RS, 1, method=2, weight=9, upper=8, lower=7, tun_type=1, tun_port=6,
                                            tun_flags=1), 0),
        ("back to the defaults", here + dest(RS, 1), 0), ("method 4", here + dest(RS, 4, method=4), 0),
        ("tunnel is forgotten", here + dest(RS, 17), 0),
        ("address of 4", here + dest(RS, 5, addr=RS, family=None, weight=5), 0)])
    box.dump("GET_DEST", here, label="of service, edited")
    each(box, "DEL_DEST", [
        ("key alone", here + dest_key(RS, 1), 0), ("twice", here + dest_key(RS, 1), errno.ENOENT),
        ("address of 4", here + dest_key(RS, 2, addr=RS, family=None), 0), ("in full", service(VIP) + dest(RS, 3), 0),
        ("mixed", here + dest_key(RS6, 27), 0),
        ("mixed without its family", here + dest_key(RS6, 28, family=None), errno.ENOENT)])
    box.dump("GET_DEST", here, label="of service, fewer")
    box.send("DEL_SERVICE", service(VIP, sched="nosuch"), label="in full")
    state(box)


def methods_to_come(box):
    """Methods that mainline has no name for; 5 is FullNAT here."""
    box.send("NEW_SERVICE", service(VIP))
    for method in (5, 6, 7, 13):
        box.send("NEW_DEST", key(VIP) + dest(RS, method, method=method), label=f"method {method}")
    box.dump("GET_DEST", key(VIP))
    box.proc("ip_vs")


def dumps(box):
    """Dumps of what is not there, of nothing, of much."""
    box.dump("GET_SERVICE", label="of nothing")
    box.dump("GET_SERVICE", genl.attr(1, b""), label="with an empty attribute")
    box.dump("GET_SERVICE", genl.nest(1, genl.attr(1, b"x")), label="with a wrong nest")
    box.dump("GET_DEST", label="without a service")
    box.dump("GET_DEST", genl.nest(1), label="with an empty nest")
    box.dump("GET_DEST", key(VIP), label="of an unknown service")
    box.dump("GET_DEST", key(VIP, af=77), label="of an unknown family")
    box.dump("GET_DAEMON", label="of none")
    box.dump("GET_SERVICE", genl.attr(1, b"\1\2"), label="with a short attribute")
    box.send("NEW_SERVICE", service(VIP))
    box.dump("GET_DEST", key(VIP), label="of no destinations")
    for number in range(60):
        box.wire.exchange(5, key(VIP) + dest(f"10.2.1.{number}", 80, weight=number), genl.REQUEST)
        box.wire.exchange(1, service(VIP, 1000 + number), genl.REQUEST)
    box.dump("GET_DEST", key(VIP), label="of many")
    box.dump("GET_SERVICE", label="of many")
    box.dump("GET_DEST", service(VIP) + dest(RS), label="with more than needed")
    box.proc("ip_vs")


def flags_merged(box):
    """Flags change where the mask says so; a service that is edited keeps the rest."""
    box.send("NEW_SERVICE", service(VIP, flags=(0x1D, 0xFFFFFFFF)))
    for flags in ((0, 1), (1, 1), (0, 0), (0xFFFFFFFF, 0), (0x20, 0x20), (2, 2), (0, 2), (0, 0xFFFFFFFF),
                  (0xFFFFFFFF, 0xFFFFFFFF)):
        box.send("SET_SERVICE", service(VIP, flags=flags), label=f"flags {flags}")
        box.send("GET_SERVICE", key(VIP), label=f"after flags {flags}")
        box.proc("ip_vs")


def zeroes(box):
    """ZERO and FLUSH with and without what they may be given."""
    box.send("ZERO")
    box.send("FLUSH")
    box.send("NEW_SERVICE", service(VIP))
    box.send("NEW_DEST", key(VIP) + dest(RS))
    for label, payload, code in (
            ("all", b"", 0), ("one", key(VIP), 0), ("one in full", service(VIP), 0),
            ("unknown", key(VIP, 81), errno.ESRCH),
            ("with a destination", dest(RS), 0), ("an empty attribute", genl.attr(1, b""), INVALID)):
        box.send("ZERO", payload, code, label=label)
    box.send("FLUSH", dest(RS), label="with a destination")
    state(box)


def moby(box):
    """What Docker and kube-proxy send: 4 byte addresses, an empty SERVICE in dumps."""
    box.dump("GET_SERVICE", genl.attr(1, b""), label="as moby asks")
    four = service(VIP, 20000, addr=VIP, sched="rr", flags=(0, 0xFFFFFFFF), netmask=0xFFFFFFFF)
    box.send("NEW_SERVICE", four)
    nest = dest(RS, 80, addr=RS, family=socket.AF_INET)
    box.send("NEW_DEST", service(VIP, 20000, addr=VIP) + nest)
    box.send("GET_SERVICE", service(VIP, 20000, addr=VIP), label="doit")
    box.dump("GET_DEST", service(VIP, 20000, addr=VIP))
    box.send("SET_DEST", service(VIP, 20000, addr=VIP) + dest(RS, 80, addr=RS, weight=0), label="weight 0")
    box.send("SET_SERVICE", service(VIP, 20000, addr=VIP, sched="wrr", flags=(1, 0xFFFFFFFF), timeout=10800))
    box.dump("GET_SERVICE", genl.attr(1, b""), label="as moby asks again")
    box.send("GET_CONFIG")
    box.send("SET_CONFIG", genl.attr(4, 900) + genl.attr(5, 120) + genl.attr(6, 300))
    box.send("DEL_DEST", service(VIP, 20000, addr=VIP) + dest(RS, 80, addr=RS, weight=0))
    box.send("DEL_SERVICE", service(VIP, 20000, addr=VIP))
    # The probe of kube-proxy.
    box.send("NEW_SERVICE", service("198.51.100.0", 20000, addr="198.51.100.0"), label="probe")
    box.send("GET_SERVICE", service("198.51.100.0", 20000, addr="198.51.100.0"), label="probe")
    box.send("DEL_SERVICE", service("198.51.100.0", 20000, addr="198.51.100.0"), label="probe")
    state(box)


def cloudflare(box):
    """What cloudflare/ipvs sends: 16 byte addresses, marks, IPv6, tunnels."""
    box.send("GET_INFO")
    box.send("GET_CONFIG")
    for payload in (service(VIP, 443), service(VIP6, 443, flags=(1, 0xFFFFFFFF), timeout=60, netmask=64), service(99)):
        box.send("NEW_SERVICE", payload)
    for name, address in ((VIP, RS), (VIP6, RS6)):
        box.send("NEW_DEST", key(name, 443) + dest(address, 443, method=2, tun_type=1, tun_port=5555, tun_flags=0))
        box.dump("GET_DEST", key(name, 443))
    box.dump("GET_SERVICE")
    box.send("GET_SERVICE", key(VIP6, 443), label="doit")


def keepalived(box):
    """What keepalived sends from its start to its end."""
    box.send("GET_INFO")
    box.send("GET_CONFIG")
    box.send("SET_CONFIG", genl.attr(4, 100) + genl.attr(5, 10) + genl.attr(6, 30))
    box.send("FLUSH")
    box.send("NEW_SERVICE", service(VIP, sched="wrr"))
    box.send("NEW_SERVICE", service(VIP, sched="wrr"), errno.EEXIST, label="again")
    box.send("SET_SERVICE", service(VIP, sched="rr", flags=(1, 0xFFFFFFFF), timeout=50))
    full = {"tun_type": 0, "tun_port": 0, "tun_flags": 0}
    box.send("SET_DEST", service(VIP) + dest(RS, 80), errno.ENOENT)
    box.send("NEW_DEST", service(VIP) + dest(RS, 80, upper=10, lower=5))
    box.send("NEW_DEST", service(VIP) + dest("10.2.0.12", 80, method=2, **full))
    box.send("SET_DEST", service(VIP) + dest(RS, 80, weight=0), label="down")
    box.send("GET_SERVICE", key(VIP), label="for snmp")
    box.dump("GET_DEST", key(VIP), label="for snmp")
    box.send("DEL_DEST", service(VIP) + dest(RS, 80))
    box.send("DEL_DEST", service(VIP) + dest(RS, 80), errno.ENOENT, label="again")
    box.send("NEW_SERVICE", service(5, sched="wlc"), label="mark")
    box.send("NEW_DEST", service(5) + dest(RS, 0), label="mark")
    state(box)
    box.send("DEL_SERVICE", service(VIP))
    box.send("DEL_SERVICE", service(VIP), errno.ESRCH, label="again")
    box.send("SET_CONFIG", genl.attr(4, 900) + genl.attr(5, 120) + genl.attr(6, 300), label="back")
    state(box)


def odd_messages(box):
    """Lengths and flags of the message itself."""
    wire = box.wire
    family = wire.family
    body = struct.pack("=BBH", 15, 1, 0)
    for label, length, data in (
            ("without a header", 16, b""), ("half a header", 18, body[:2]), ("a bare header", 20, body),
            ("an attribute cut", 26, body + struct.pack("=HHH", 8, 4, 0)),
            ("an attribute of length 0", 24, body + bytes(4)),
            ("an attribute of length 3", 24, body + struct.pack("=HH", 3, 4)),
            ("an attribute beyond the end", 24, body + struct.pack("=HH", 200, 1))):
        for command in (15, 12):
            wire.sequence += 1
            payload = bytes([command]) + data[1:] if data else b""
            wire.sock.send(struct.pack("=IHHII", length, family, 5, wire.sequence, wire.port) + payload)
            answers = []
            try:
                while True:
                    answers.append(wire.told(wire.sock.recv(65536)[:65536]))
            except BlockingIOError:
                pass
            box.step(f"{label}, command {command}", "\n".join(answers))
    box.send("GET_CONFIG", label="still")


SCENARIOS = [family, information, unknown_commands, service_errors, dest_errors, config_errors, daemon_errors,
             daemon_runs, shapes_of_services, shapes_of_dests, methods_to_come, dumps, flags_merged, zeroes, moby, cloudflare,
             keepalived, odd_messages]
