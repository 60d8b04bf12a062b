# SPDX-License-Identifier: GPL-2.0
"""Services and destinations by netlink, for what no command can say: every kind, every mistake, and many."""

import errno
import os
import socket
import time

import genl
import kernel
from config import cleared
from genl import Genl, Refused
from lib import (
    GHOST_SERVERS,
    RLVS,
    SERVERS,
    VIP,
    Flow,
    each,
    need_rlvs,
    wait_for,
)
from wire import udp_reply, udp_request


# Each kind of service: what names it, what else is set, the flags and the timeout that are told.
FORMS = {
    "ipv4": (("10.9.0.80", 80), {}, 2, 0),
    "ipv6": (("2001:db8::80", 80), {"netmask": b"\x40\0\0\0", "flags": 1, "timeout": 300}, 3, 300),
    "mark": ((77,), {"flags": 0x39, "timeout": 360, "netmask": b"\xff\xff\xff\0"}, 0x3b, 360),
    "mark-ipv6": ((77, socket.AF_INET6), {"flags": 4}, 6, 0),
    "sctp": (("10.9.0.80", 81, 132), {}, 2, 0),
    "all-ports": (("10.9.0.80", 0), {"flags": 1, "timeout": 1}, 3, 1),
    "no-scheduler": (("10.9.0.80", 82), {"sched": b"none\0"}, 2, 0),
    "odd-protocol": (("10.9.0.80", 0, 0x1234), {}, 2, 0),
    "unknown-flags": (("10.9.0.80", 83), {"flags": 0xff00, "mask": 0xf000}, 0xf002, 0),
}


@each(*FORMS)
def test_services(world, form):
    """Each kind of service is told as it was set, found by its name, changed and deleted."""
    cleared(world)
    name, rest, flags, timeout = FORMS[form]
    key, full = genl.service(*name, full=False), genl.service(*name, **rest)
    with world.director, Genl("IPVS") as ipvs:
        ipvs.call(genl.NEW_SERVICE, full)
        (_, one), = ipvs.call(genl.GET_SERVICE, key)
        (_, dumped), = ipvs.call(genl.GET_SERVICE, flags=genl.DUMP)
        genl.nothing_else(one)
        genl.nothing_else(dumped)
        told = genl.attributes(genl.attributes(one)[genl.SERVICE])
        assert told == genl.attributes(genl.attributes(dumped)[genl.SERVICE])
        for attribute in genl.key(*name):
            kind, value = next(iter(genl.attributes(attribute).items()))
            assert told[kind] == value, f"attribute {kind}: {told[kind]}, not {value}"
        assert (5 in told) != (3 in told), "a service has a mark or an address"
        seen = told[6], told[7], told[8], told[9]
        want = (rest.get("sched", b"rr\0"), genl.u32s(flags, 0xFFFFFFFF), genl.u32s(timeout),
                genl.attributes(genl.attributes(full)[genl.SERVICE])[9])
        assert seen == want, f"{seen}, not {want}"
        # Flags that are not in the mask stay.
        ipvs.call(genl.SET_SERVICE, genl.service(*name, sched=b"wlc\0", flags=0, mask=8, timeout=7))
        (_, one), = ipvs.call(genl.GET_SERVICE, key)
        told = genl.attributes(genl.attributes(one)[genl.SERVICE])
        assert (told[6], told[7][:4]) == (b"wlc\0", genl.u32s(flags & ~8)), told
        ipvs.call(genl.DEL_SERVICE, key)
        assert ipvs.call(genl.GET_SERVICE, flags=genl.DUMP) == []


# Each kind of destination: service, destination, what else is set of it.
V4, V6 = ("10.9.0.80", 80), ("2001:db8::80", 80)
MEMBERS = {
    **{f"method-{method}": (V4, ("10.2.0.11", 80), {"method": method}) for method in range(8)},
    "large": (V4, ("10.2.0.11", 0), {"weight": (1 << 31) - 1, "upper": (1 << 31) - 1, "lower": 1}),
    "gue": (V4, ("10.2.0.11", 80), {"method": 2, "extra": genl.attr(13, b"\1") + genl.be16(14, 6080)
                                    + genl.u16(15, 3)}),
    "ipv6": (V6, ("2001:db8::11", 80), {}),
    "own-link-local": (V6, ("::1", 80), {}),
    "mixed": (V4, ("2001:db8::11", 80), {"method": 2}),
    "mixed-other": (V6, ("10.2.0.11", 80), {"method": 2}),
    "mark": ((7,), ("10.2.0.11", 0), {"method": 3}),
}


@each(*MEMBERS)
def test_destinations(world, form):
    """Each kind of destination is told as it was set, found by its name, changed and deleted."""
    cleared(world)
    service, name, rest = MEMBERS[form]
    key = genl.service(*service, full=False)
    with world.director, Genl("IPVS") as ipvs:
        ipvs.call(genl.NEW_SERVICE, genl.service(*service))
        ipvs.call(genl.NEW_DEST, key + genl.dest(*name, **rest))
        for marker in (b"", genl.attr(64, 1)) if RLVS else (b"",):
            (_, reply), = ipvs.call(genl.GET_DEST, key + marker, flags=genl.DUMP)
            genl.nothing_else(reply)
            told = genl.attributes(genl.attributes(reply)[genl.DEST])
            sent = genl.attributes(genl.attributes(genl.dest(*name, **rest))[genl.DEST])
            if rest.get("method") == 5 and RLVS and not marker:
                sent[3] = genl.u32s(0)
            wrong = {kind: (told[kind], value) for kind, value in sent.items() if told[kind] != value}
            assert not wrong, f"told, sent: {wrong}"
        ipvs.call(genl.SET_DEST, key + genl.dest(*name, **(rest | {"weight": 7})))
        (_, reply), = ipvs.call(genl.GET_DEST, key, flags=genl.DUMP)
        assert genl.attributes(genl.attributes(reply)[genl.DEST])[4] == genl.u32s(7)
        ipvs.call(genl.DEL_DEST, key + genl.dest(*name, full=False))
        assert ipvs.call(genl.GET_DEST, key, flags=genl.DUMP) == []
    cleared(world)


def daemon(*attrs):
    """The DAEMON attribute."""
    return genl.nest(genl.DAEMON, *attrs)


def test_errors_in_order(world):
    """Of several mistakes the one is told that mainline tells, with its number."""
    cleared(world)
    key, good = genl.service(*V4, full=False), genl.service(*V4)
    key6, mark = genl.service(*V6, full=False), genl.service(7, full=False)
    server = genl.dest("10.2.0.11", 80)
    master, syncid = genl.attr(1, 1), genl.attr(3, 9)
    device = genl.attr(2, b"lo\0")
    unknown = genl.service("10.9.0.80", 81)

    def named(*attrs):
        return genl.nest(genl.SERVICE, *attrs)

    def destined(*attrs):
        return key + genl.nest(genl.DEST, *attrs)
    ipv4 = genl.key(*V4)
    port, addr = genl.be16(2, 80), genl.attr(1, genl.packed("10.2.0.12"))
    full = [genl.attr(3, 0), genl.attr(4, 1), genl.attr(5, 0), genl.attr(6, 0)]
    cases = {
        "service: nothing": (genl.NEW_SERVICE, b"", "EINVAL"),
        "service: no key, bad family": (genl.NEW_SERVICE, named(genl.u16(1, 77)), "EINVAL"),
        "service: bad family": (genl.NEW_SERVICE, named(genl.u16(1, 77), genl.attr(5, 1)), "EAFNOSUPPORT"),
        "service: short family": (genl.NEW_SERVICE, named(genl.attr(1, b"\2"), *ipv4[1:]), "EINVAL"),
        "service: short mark": (genl.NEW_SERVICE, named(ipv4[0], genl.attr(5, b"\1\2")), "EINVAL"),
        "service: long address": (genl.NEW_SERVICE, named(*ipv4, genl.attr(3, bytes(17))), "EINVAL"),
        "service: only its name": (genl.NEW_SERVICE, key, "EINVAL"),
        "service: exists, only its name": (genl.SET_SERVICE, key, "EINVAL"),
        "service: exists, no such scheduler": (genl.NEW_SERVICE, genl.service(*V4, sched=b"no\0"), "EEXIST"),
        "service: unknown, no such scheduler": (
            genl.SET_SERVICE, genl.service("10.9.0.80", 81, sched=b"no\0"), "ESRCH"),
        "service: unknown, only its name": (
            genl.SET_SERVICE, genl.service("10.9.0.80", 81, full=False), "EINVAL"),
        "service: no such scheduler": (genl.SET_SERVICE, genl.service(*V4, sched=b"no\0"), "ENOENT"),
        "service: no name of a scheduler": (genl.SET_SERVICE, genl.service(*V4, sched=b"\0"), "ENOENT"),
        "service: a name without an end": (genl.SET_SERVICE, genl.service(*V4, sched=b"rr"), "EINVAL"),
        "service: a long name": (genl.SET_SERVICE, genl.service(*V4, sched=b"r" * 16 + b"\0"), "EINVAL"),
        "service: no such engine": (
            genl.SET_SERVICE, named(*ipv4, genl.attr(6, b"rr\0"), genl.attr(7, bytes(8)), genl.attr(8, 0),
                                    genl.attr(9, 0), genl.attr(11, b"nosuch\0")), "ENOENT"),
        "service: no such scheduler, bad prefix": (
            genl.NEW_SERVICE, genl.service("2001:db8::81", 80, sched=b"no\0", netmask=0), "ENOENT"),
        "service: prefix 0": (genl.NEW_SERVICE, genl.service("2001:db8::81", 80, netmask=0), "EINVAL"),
        "service: prefix 129": (genl.SET_SERVICE, genl.service(*V6, netmask=129), "EINVAL"),
        "service: delete unknown": (genl.DEL_SERVICE, unknown, "ESRCH"),
        "service: zero unknown": (genl.ZERO, unknown, "ESRCH"),
        "service: get unknown": (genl.GET_SERVICE, unknown, "ESRCH"),
        "service: get nothing": (genl.GET_SERVICE, b"", "EINVAL"),
        "dest: none, unknown service": (genl.NEW_DEST, unknown, "ESRCH"),
        "dest: none": (genl.NEW_DEST, key, "EINVAL"),
        "dest: no port": (genl.NEW_DEST, destined(addr, *full), "EINVAL"),
        "dest: only its name": (genl.NEW_DEST, destined(addr, port), "EINVAL"),
        "dest: only its name, bad family": (genl.NEW_DEST, destined(genl.u16(11, 77), addr, port), "EINVAL"),
        "dest: bad family": (genl.NEW_DEST, destined(genl.u16(11, 77), addr, port, *full), "EAFNOSUPPORT"),
        "dest: another family": (genl.NEW_DEST, key + genl.dest("2001:db8::1", 80, 1 << 31), "EINVAL"),
        "dest: weight": (genl.NEW_DEST, key + genl.dest("10.2.0.12", 80, 1 << 31, upper=1 << 31), "ERANGE"),
        "dest: lower": (genl.NEW_DEST, key + genl.dest("10.2.0.12", 80, lower=1), "ERANGE"),
        "dest: upper": (genl.NEW_DEST, key + genl.dest("10.2.0.12", 80, upper=1 << 31), "EINVAL"),
        "dest: gue": (genl.NEW_DEST, key + genl.dest("10.2.0.12", 80, extra=genl.attr(13, b"\1")), "EINVAL"),
        "dest: exists, weight": (genl.NEW_DEST, key + genl.dest("10.2.0.11", 80, 1 << 31), "ERANGE"),
        "dest: exists": (genl.NEW_DEST, key + server, "EEXIST"),
        "dest: a group": (genl.NEW_DEST, key + genl.dest("224.0.0.1", 80), "EINVAL"),
        "dest: broadcast": (genl.NEW_DEST, key + genl.dest("255.255.255.255", 80), "EINVAL"),
        "dest: edit a group": (genl.SET_DEST, key + genl.dest("224.0.0.1", 80), "ENOENT"),
        "dest: edit unknown": (genl.SET_DEST, key + genl.dest("10.2.0.12", 80), "ENOENT"),
        "dest: delete unknown": (genl.DEL_DEST, key + genl.dest("10.2.0.12", 80, full=False), "ENOENT"),
        "dest: delete of another family": (
            genl.DEL_DEST, key + genl.dest("2001:db8::1", 80, full=False), "ENOENT"),
        "dest: IPv6 group": (genl.NEW_DEST, key6 + genl.dest("ff02::1", 80), "EINVAL"),
        "dest: IPv6 link-local": (genl.NEW_DEST, key6 + genl.dest("fe80::77", 80), "EINVAL"),
        "dest: IPv6 nothing": (genl.NEW_DEST, key6 + genl.dest("::", 80), "EINVAL"),
        "dest: of a mark": (genl.DEL_DEST, mark + server, "ENOENT"),
        "daemon: nothing": (genl.NEW_DAEMON, b"", "EINVAL"),
        "daemon: no number": (genl.NEW_DAEMON, daemon(master, device), "EINVAL"),
        "daemon: no device": (genl.NEW_DAEMON, daemon(master, syncid), "EINVAL"),
        "daemon: no such device": (
            genl.NEW_DAEMON, daemon(master, genl.attr(2, b"nosuch0\0"), syncid), "ENODEV"),
        "daemon: no group": (
            genl.NEW_DAEMON, daemon(master, device, syncid, genl.attr(5, genl.packed("10.0.0.1")[:4])), "EINVAL"),
        "daemon: no such daemon": (genl.NEW_DAEMON, daemon(genl.attr(1, 7), device, syncid), "EINVAL"),
        "daemon: delete nothing": (genl.DEL_DAEMON, daemon(syncid), "EINVAL"),
        "daemon: delete what does not run": (genl.DEL_DAEMON, daemon(master), "ESRCH"),
        "daemon: delete no such daemon": (genl.DEL_DAEMON, daemon(genl.attr(1, 3)), "EINVAL"),
        "config: a long timeout": (genl.SET_CONFIG, genl.attr(genl.TIMEOUT_UDP, 0x7FFFFFFF), "EINVAL"),
        "config: a short attribute": (genl.SET_CONFIG, genl.attr(genl.TIMEOUT_UDP, b"\1"), "ERANGE"),
    }
    with world.director, Genl("IPVS") as ipvs:
        for message in (good, genl.service(*V6), genl.service(7)):
            ipvs.call(genl.NEW_SERVICE, message)
        ipvs.call(genl.NEW_DEST, key + server)
        before = world.director.proc("ip_vs")
        wrong = []
        for what, (command, payload, code) in cases.items():
            try:
                ipvs.call(command, payload)
                wrong.append(f"{what}: accepted")
            except Refused as refused:
                if refused.errno != getattr(errno, code):
                    wrong.append(f"{what}: {refused}, not {code}")
                elif RLVS and not refused.message:
                    wrong.append(f"{what}: no message")
        assert not wrong, "\n".join(wrong)
        assert world.director.proc("ip_vs") == before
        # Of a mark that is 0 mainline thinks so.
        ipvs.call(genl.NEW_SERVICE, genl.service(0))
        ipvs.call(genl.DEL_SERVICE, genl.service("0.0.0.0", 0, full=False))
        # What is too short to say all says 0.
        ipvs.call(genl.NEW_SERVICE, named(ipv4[0], ipv4[1], genl.attr(3, b"\x0a"), ipv4[3], genl.attr(6, b"rr\0"),
                                          genl.attr(7, b"\x04\0\0\0"), genl.attr(8, 0), genl.attr(9, 0)))
        ipvs.call(genl.DEL_SERVICE, genl.service("10.0.0.0", 80, full=False))
    cleared(world)


def test_daemons(world):
    """No synchronisation daemon runs; with destinations of another family none may."""
    cleared(world)
    start = daemon(genl.attr(1, 1), genl.attr(2, b"lo\0"), genl.attr(3, 9))
    key = genl.service(*V4, full=False)
    with world.director, Genl("IPVS") as ipvs:
        assert ipvs.call(genl.GET_DAEMON, flags=genl.DUMP) == []
        ipvs.call(genl.NEW_SERVICE, genl.service(*V4))
        mixed = genl.dest("2001:db8::11", 80, method=2)
        for delete, payload in ((genl.DEL_DEST, key + mixed), (genl.DEL_SERVICE, key)):
            ipvs.call(genl.NEW_DEST, key + mixed)
            try:
                ipvs.call(genl.NEW_DAEMON, start)
                raise AssertionError("it was started")
            except Refused as refused:
                assert refused.errno == errno.EINVAL, refused
            ipvs.call(delete, payload)


def test_youngest_first(world):
    """Destinations are told in mainline's order; a dump in several parts has each of them once."""
    cleared(world)
    key = genl.service(*V4, full=False)
    with world.director, Genl("IPVS") as ipvs:
        ipvs.call(genl.NEW_SERVICE, genl.service(*V4))
        for number in range(300):
            ipvs.call(genl.NEW_DEST, key + genl.dest("10.2.0.11", 1000 + number))
        told = [genl.attributes(genl.attributes(reply)[genl.DEST])[2]
                for _, reply in ipvs.call(genl.GET_DEST, key, flags=genl.DUMP)]
        assert [int.from_bytes(port, "big") for port in told] == list(range(1299, 999, -1))
        for number in range(200):
            ipvs.call(genl.NEW_SERVICE, genl.service("10.9.0.80", 2000 + number))
        services = [genl.attributes(genl.attributes(reply)[genl.SERVICE])[4]
                    for _, reply in ipvs.call(genl.GET_SERVICE, flags=genl.DUMP)]
        assert len(services) == len(set(services)) == 201
    cleared(world)


def test_dump_under_change(world):
    """A dump of several parts: what stands still is told once, and who asked learns of the change."""
    need_rlvs()
    cleared(world)
    key = genl.service(*V4, full=False)
    with world.director, Genl("IPVS") as ipvs, Genl("IPVS") as other:
        def ports(what, nested):
            return [int.from_bytes(genl.attributes(genl.attributes(reply)[what])[nested], "big")
                    for _, reply in told]
        ipvs.call(genl.NEW_SERVICE, genl.service(*V4))
        for number in range(300):
            ipvs.call(genl.NEW_DEST, key + genl.dest("10.2.0.11", 1000 + number))
            ipvs.call(genl.NEW_SERVICE, genl.service("10.9.0.80", 2000 + number))

        def change():
            # What comes first in both dumps, and something new.
            other.call(genl.DEL_DEST, key + genl.dest("10.2.0.11", 1299, full=False))
            other.call(genl.NEW_DEST, key + genl.dest("10.2.0.12", 80))
            other.call(genl.DEL_SERVICE, genl.service(*V4 if gone else ("10.9.0.80", 2000), full=False))
            other.call(genl.NEW_SERVICE, genl.service("10.9.0.81", 80))
        gone = False
        told = ipvs.call(genl.GET_DEST, key, flags=genl.DUMP, after=change)
        assert ipvs.interrupted
        assert sorted(ports(genl.DEST, 2)) == list(range(1000, 1300))
        other.call(genl.NEW_DEST, key + genl.dest("10.2.0.11", 1299))
        other.call(genl.DEL_DEST, key + genl.dest("10.2.0.12", 80, full=False))
        other.call(genl.DEL_SERVICE, genl.service("10.9.0.81", 80, full=False))
        gone = True
        told = ipvs.call(genl.GET_SERVICE, flags=genl.DUMP, after=change)
        assert ipvs.interrupted
        seen = ports(genl.SERVICE, 4)
        assert sorted(seen)[2:] == list(range(2001, 2300)) and sorted(seen)[:2] == [80, 80], sorted(seen)[:5]
        told = ipvs.call(genl.GET_SERVICE, flags=genl.DUMP)
        assert not ipvs.interrupted
        # Half of a service that is gone is not to be taken for all of it.
        ipvs.call(genl.NEW_SERVICE, genl.service(*V4))
        for number in range(300):
            ipvs.call(genl.NEW_DEST, key + genl.dest("10.2.0.11", 1000 + number))
        told = ipvs.call(genl.GET_DEST, key, flags=genl.DUMP, after=lambda: other.call(genl.DEL_SERVICE, key))
        assert 0 < len(told) < 300 and ipvs.interrupted, len(told)
    cleared(world)


def test_thousands(world):
    """Many services, and many destinations of one, are added and deleted in a time that fits their number."""
    cleared(world)
    services, members = (200, 100) if kernel.DEBUG else (2000, 500)
    with world.director, Genl("IPVS") as ipvs:
        start = time.monotonic()
        for number in range(services):
            ipvs.call(genl.NEW_SERVICE, genl.service("10.9.1.1", 1 + number))
        middle = time.monotonic()
        for number in range(services):
            ipvs.call(genl.NEW_DEST, genl.service("10.9.1.1", 1 + number, full=False) + genl.dest("10.2.0.11", 80))
        added = time.monotonic()
        for number in range(services):
            ipvs.call(genl.DEL_SERVICE, genl.service("10.9.1.1", 1 + number, full=False))
        deleted = time.monotonic()
        ipvs.call(genl.NEW_SERVICE, genl.service(*V4))
        for number in range(members):
            ipvs.call(genl.NEW_DEST, genl.service(*V4, full=False) + genl.dest("10.2.0.11", 1 + number))
        grown = time.monotonic()
        print(f"# {services} services {middle - start:.2f} s, a destination each {added - middle:.2f} s, "
              f"deleted {deleted - added:.2f} s; {members} destinations of one {grown - deleted:.2f} s")
        per = (middle - start) / services
        assert (added - middle) / services < 5 * per and (deleted - added) / services < 5 * per
        assert (grown - deleted) / members < 20 * per, "the thousandth takes much longer than the first"
    cleared(world)


@each("destination", "service", "both")
def test_comes_back(world, what):
    """A destination that is deleted and added again finds its connections, and of the same service
    its statistics."""
    with world.listen(SERVERS[0], 8086) as listener:
        port = world.service("nat", [(SERVERS[0], 8086)])
        key, dest = genl.service(VIP, port, full=False), genl.dest(SERVERS[0], 8086)
        with world.connect(port) as ours:
            theirs, _ = listener.accept()
            with theirs:
                theirs.settimeout(5 * kernel.SLOW)
                # ip_vs sums its counters every two seconds.
                time.sleep(0 if RLVS else 3)
                with world.director, Genl("IPVS") as ipvs:
                    if what != "service":
                        ipvs.call(genl.DEL_DEST, key + dest)
                    if what != "destination":
                        ipvs.call(genl.DEL_SERVICE, key)
                        ipvs.call(genl.NEW_SERVICE, genl.service(VIP, port))
                    assert not world.dests(port)
                    ipvs.call(genl.NEW_DEST, key + dest)
                ours.sendall(b"still")
                assert theirs.recv(10) == b"still"
        found, = world.dests(port)
        assert found.active + found.inactive == 1, found
        time.sleep(0 if RLVS else 3)
        shown = world.listed_stats(port)[1][0]
        assert shown.conns == (1 if what == "destination" else 0) and shown.inpkts > 0, shown
        world.adm(f"-D -t {VIP}:{port}")


def test_comes_back_idle(world):
    """So does one that has no connections any more."""
    port = world.service("nat", [(GHOST_SERVERS[0], 53)], proto="udp")
    udp = socket.IPPROTO_UDP
    key, dest = genl.service(VIP, port, udp, full=False), genl.dest(GHOST_SERVERS[0], 53)

    def shown():
        return world.adm(f"-Ln -u {VIP}:{port} --stats --exact").splitlines()[3].split()[2:7]
    world.adm("--set 0 0 1")
    try:
        with Flow(world, port, "udp") as flow:
            flow.request(udp_request(flow, b"ask"))
            flow.reply(udp_reply(flow, b"told"))
        wait_for(lambda: not world.conns(port), 20, 0.2, "the connection to end")
    finally:
        world.adm("--set 0 0 300")
    wait_for(lambda: shown()[0] == "1", 5, 0.2, "the connection to be counted")
    before = shown()
    with world.director, Genl("IPVS") as ipvs:
        ipvs.call(genl.DEL_DEST, key + dest)
        time.sleep(5)
        ipvs.call(genl.NEW_DEST, key + dest)
    assert shown() == before, (shown(), before)
    world.adm(f"-D -u {VIP}:{port}")


def test_user_namespace(world):
    """Root of a user namespace, in a network namespace that belongs to it, may ask for nothing."""
    script = ("import sys; sys.path.insert(0, sys.argv[1])\nimport genl\n"
              "for command, flags in ((genl.GET_INFO, genl.ACK), (genl.GET_SERVICE, genl.DUMP), (genl.FLUSH, 4)):\n"
              "    try:\n        genl.Genl('IPVS').call(command, flags=flags)\n"
              "    except genl.Refused as refused:\n        print(refused.errno)\n"
              "    else:\n        print('answered')\n")
    done = world.director.run("unshare", "--user", "--map-root-user", "--net", "python3", "-c", script,
                              os.path.dirname(os.path.abspath(__file__)))
    assert done.stdout.split() == [str(errno.EPERM)] * 3, done.stdout
