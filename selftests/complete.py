# SPDX-License-Identifier: GPL-2.0
"""Packets that the network card has summed up (CHECKSUM_COMPLETE): what others look at holds for them as well.

No virtual device sums, so a module does (selftests/complete). Whoever changes such a packet and keeps the sum is
found out: by the kernel where the packet is for a socket, by that module where it goes out.
"""

import contextlib
import socket

import dr
import farm
import ftp
import icmp
import ipv6
import kernel
import packet
import sctp
import toa
import tunnels
import wire
from lib import (
    GHOST_CLIENTS,
    GHOST_SERVERS,
    RLVS,
    SERVERS,
    VIP,
    Flow,
    Skip,
    Tap,
    clean,
    each,
    run,
)
from packet import SYN, TCP, UDP
from packet6 import ip6

SPOILS_WORLD = True

CARD = "rlvs_complete"
METHODS = ("nat", "fullnat") if RLVS else ("nat",)


def counted(name):
    """A counter of the module."""
    with open(f"/sys/module/{CARD}/parameters/{name}", encoding="ascii") as file:
        return int(file.read())


@contextlib.contextmanager
def card():
    """Packets come in summed up, and some must; none goes out like that."""
    if not kernel.loaded(CARD):
        if run("modinfo", CARD, check=False).returncode:
            raise Skip(f"{CARD} is not built: make modules")
        kernel.load(CARD)
    before = {name: counted(name) for name in ("summed", "left")}
    yield
    summed, left = (counted(name) - before[name] for name in ("summed", "left"))
    assert summed, "no packet came in with a sum"
    assert not left, f"{left} packets went out with the sum of what came in"


def end():
    """Takes the module out again."""
    ftp.end()
    kernel.unload(CARD)


# What is asked of other packets as well; those of `farm` first, which sets up more.
OTHERS = [
    (dr.test_bytes, "4", "6"),
    (dr.test_errors, "4", "6"),
    (tunnels.test_bytes, "ipip-4in4", "gre-csum-6in6", "gue-csum-4in6", "gue-remcsum-6in6"),
    (tunnels.test_errors, "ipip-4in4", "gue-csum-4in6", "gre-6in6"),
    (tunnels.test_path_mtu, "ipip-4in4", "gue-6in4"),
    (wire.test_tcp, *METHODS),
    (wire.test_udp, *METHODS),
    (wire.test_ip_options, *METHODS),
    (wire.test_fragments, *METHODS),
    (ipv6.test_tcp, *METHODS),
    (ipv6.test_udp, *METHODS),
    (ipv6.test_fragments, *METHODS),
    (ipv6.test_extension_headers, *METHODS),
    (ipv6.test_icmp_to_client, *(f"{method}-udp" for method in METHODS)),
    (ipv6.test_icmp_to_server, *METHODS),
    (icmp.test_server_to_client, *(f"{method}-{proto}" for method in METHODS for proto in ("tcp", "udp"))),
    (icmp.test_client_to_server, *(f"{method}-udp" for method in METHODS)),
    (icmp.test_truncated, *(f"{method}-udp" for method in METHODS)),
    (icmp.test_bad_checksum, *(f"{method}-udp" for method in METHODS)),
    (sctp.test_bytes, *METHODS),
    (sctp.test_damage_is_not_hidden, *METHODS),
]
if RLVS:
    OTHERS += [(toa.test_where,), (toa.test_syn_with_data,), (toa.test_forged_syn,), (ftp.test_numbers, *METHODS)]
CASES = {"-".join((f"{test.__module__}.{test.__name__.removeprefix('test_')}", *values)): (test, values)
         for test, *variants in OTHERS for values in ([(variant,) for variant in variants] or [()])}


@each(*CASES)
def test_as_others(world, what):
    """What other files ask of packets is true of packets with a sum."""
    test, variant = CASES[what]
    with card():
        test(world, *variant)


def damaged(data):
    """The packet with a bit of its last byte turned round: its checksum is wrong now."""
    return data[:-1] + bytes([data[-1] ^ 0x40])


@each(*(f"{method}-{kind}" for method in METHODS for kind in ("tcp4", "udp4", "tcp6", "udp6")))
def test_wrong_stays_wrong(world, variant):
    """A packet that was damaged on its way to the director is still damaged behind it, either way."""
    method, kind = variant.split("-")
    proto, family = (TCP if kind[:3] == "tcp" else UDP), kind[3]
    make = (lambda *ends: packet.tcp(*ends, SYN, payload=b"data")) if proto == TCP else \
        (lambda *ends: packet.udp(*ends, b"data"))
    if family == "6":
        port = ipv6.serve(world, method, proto=proto)
        client, vip, outer = ipv6.GHOST_CLIENT, ipv6.VIP, ip6
    else:
        port = world.service(method, [(GHOST_SERVERS[0], 8080)], proto=kind[:3])
        client, vip, outer = GHOST_CLIENTS[0], VIP, packet.ip
    sport = world.port()
    with card(), Flow(world, port) as flow:
        data = outer(client, vip, proto, make(client, vip, sport, port))
        seen = clean(flow.to_server(data))
        flow.clear()
        flow.at_client.send(damaged(data))
        assert flow.at_server.wait(lambda one: one.dst == seen.dst).sums(), "a damaged request was made right"
        data = outer(seen.dst, seen.src, proto, make(seen.dst, seen.src, seen.dport, seen.sport))
        clean(flow.reply(data))
        flow.clear()
        flow.at_server.send(damaged(data))
        assert flow.at_client.wait(lambda one: one.src == vip).sums(), "a damaged answer was made right"


@contextlib.contextmanager
def socket_of(space, family, addr, kind):
    """A socket at an address, and its port."""
    with space, socket.socket(family, kind) as sock:
        sock.bind((addr, 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        sock.settimeout(8 * kernel.SLOW)
        yield sock, sock.getsockname()[1]


WAYS = {"nat": 0, "tunnel": 2, "dr": 3}


@each("nat-4", "nat-6", "dr-4", "dr-6")
def test_local(world, variant):
    """The director is the server itself: its stack takes what is right, and not what is damaged."""
    method, family = variant.split("-")
    farm.prepare(world)
    on = farm.FAMILY[family]
    addr = on.director if method == "nat" else on.vip
    outer = packet.ip if family == "4" else ip6
    with card(), Tap(world.client, "c0") as tap:
        with socket_of(world.director, on.family, addr, socket.SOCK_DGRAM) as (sock, dport), \
                farm.service(world, on, [(on.director, dport)], proto="udp", port=dport, method=WAYS[method]):
            for text in (b"damaged", b"right"):
                data = outer(on.client, on.vip, UDP, packet.udp(on.client, on.vip, 4000, dport, text))
                tap.send(damaged(data) if text == b"damaged" else data)
            assert sock.recv(100) == b"right"
        with socket_of(world.director, on.family, addr, socket.SOCK_STREAM) as (sock, dport), \
                farm.service(world, on, [(on.director, dport)], port=dport, method=WAYS[method]):
            for sport in (4001, 4002):
                syn = packet.tcp(on.client, on.vip, sport, dport, SYN, payload=b"data")
                data = outer(on.client, on.vip, TCP, syn)
                tap.send(damaged(data) if sport == 4001 else data)
            answers = tap.wait(lambda seen: seen.sport == dport)
            assert answers.dport == 4002 and answers.flags & packet.ACK, answers


@each(*(f"{method}-{family}" for method in METHODS for family in "46"))
def test_real_server(world, variant):
    """A server elsewhere, whose kernel looks at the checksums of what it gets."""
    method, family = variant.split("-")
    addr = SERVERS[0] if family == "4" else ipv6.SERVER
    with card(), Tap(world.client, "c0") as tap:
        ipv6.ready(world)
        with socket_of(world.server, socket.AF_INET if family == "4" else socket.AF_INET6, addr,
                       socket.SOCK_DGRAM) as (sock, dport):
            if family == "4":
                port, client, vip, outer = world.service(method, [(addr, dport)], proto="udp"), GHOST_CLIENTS[0], VIP, \
                    packet.ip
            else:
                port = ipv6.serve(world, method, addr, dport, UDP)
                client, vip, outer = ipv6.GHOST_CLIENT, ipv6.VIP, ip6
            for text in (b"damaged", b"right"):
                data = outer(client, vip, UDP, packet.udp(client, vip, 4000, port, text))
                tap.send(damaged(data) if text == b"damaged" else data)
            assert sock.recv(100) == b"right"
