# SPDX-License-Identifier: GPL-2.0
"""Direct routing, local delivery and bypass: packets that are sent on as they are."""

import socket
import struct

import farm
import genl
import packet
from farm import FAMILY, V4, Flow, listen, service, upload
from fwmark import configured, marked
from lib import each, need_rlvs, same
from packet import ACK, FIN, PSH, RST, SYN

SPOILS_WORLD = True

families = each("4", "6")
DIRECT, LOCAL, TUNNEL, BYPASS = 3, 1, 2, 4


def aged(data):
    """The packet a hop later."""
    if data[0] >> 4 == 6:
        return data[:7] + bytes([data[7] - 1]) + data[8:]
    size = (data[0] & 15) * 4
    head = data[:8] + bytes([data[8] - 1, data[9]]) + b"\0\0" + data[12:size]
    return head[:10] + struct.pack("!H", packet.checksum(head)) + head[12:] + data[size:]


@families
def test_bytes(world, variant):
    """A packet arrives at the server as it was sent, but for the hop it has taken; TCP and UDP."""
    farm.prepare(world)
    on = FAMILY[variant]
    for proto in ("tcp", "udp"):
        with service(world, on, [(on.server, 8080)], proto=proto) as port, Flow(world, on, port) as flow:
            if proto == "tcp":
                sent = [flow.tcp(SYN), flow.tcp(ACK), flow.tcp(PSH | ACK, b"x" * 1400, ttl=2, tos=0xB9)]
            else:
                sent = [flow.udp(b"x" * size, tos=3) for size in (0, 1, 1400)]
            for data in sent:
                seen = flow.request(data)
                assert seen.data == aged(data), f"{seen.data[:60].hex()} is not {aged(data)[:60].hex()}"


@families
def test_forged_toa(world, variant):
    """An option that FullNAT's servers would believe does not reach them by this method either."""
    need_rlvs()
    farm.prepare(world)
    on = FAMILY[variant]
    forged = packet.toa("192.0.2.66", 666)
    with service(world, on, [(on.server, 8080)]) as port, Flow(world, on, port) as flow:
        for flags, payload in ((SYN, b""), (ACK, b""), (PSH | ACK, b"data")):
            expected = aged(flow.tcp(flags, payload, options=b"\1" * len(forged)))
            assert flow.request(flow.tcp(flags, payload, options=forged)).data == expected


@families
def test_connections(world, variant):
    """Real connections, whose answers do not pass here."""
    farm.prepare(world)
    on = FAMILY[variant]
    with service(world, on, [(on.real_server, 80)]) as port, listen(world, world.server, on, port) as listener:
        for size in (1, 500_000):
            upload(world, on, port, listener, size)


def listed(world, flow):
    """The words of the line about a flow's connection."""
    word, = [line.split() for line in world.director.proc("ip_vs_conn").splitlines()[1:]
             if line.split()[2] == f"{flow.cport:04X}"]
    return word


def state(world, flow):
    """The state of a flow's connection."""
    return listed(world, flow)[7]


def test_states(world):
    """The states of a connection of which one half is seen."""
    farm.prepare(world)
    life = [(SYN, "SYN_RECV"), (ACK, "ESTABLISHED"), (FIN | ACK, "FIN_WAIT"), (ACK, "FIN_WAIT"), (RST, "CLOSE")]
    for method in (DIRECT, TUNNEL):
        with service(world, V4, [(V4.server, 80)], method=method) as port, Flow(world, V4, port) as flow:
            for flags, expected in life:
                flow.request(flow.tcp(flags))
                assert state(world, flow) == expected, f"{flags:#x}: {state(world, flow)}, not {expected}"


def test_reused(world):
    """A new SYN finds a connection of which only one FIN was seen over, if conn_reuse_mode says so."""
    farm.prepare(world)
    with service(world, V4, [(V4.server, 80), (V4.router, 80)]) as port, Flow(world, V4, port) as flow:
        for mode, again in ((1, False), (2, True)):
            flow.cport = world.port()
            with world.settings(conn_reuse_mode=mode):
                for flags in (SYN, ACK, FIN | ACK):
                    flow.request(flow.tcp(flags))
                assert state(world, flow) == "FIN_WAIT"
                before = listed(world, flow)[5]
                flow.request(flow.tcp(SYN))
                after = listed(world, flow)[5]
                assert (after != before) == again, f"mode {mode}: from {before} to {after}"


@families
def test_last_hop(world, variant):
    """What has no hop left goes no further, and its sender is told."""
    farm.prepare(world)
    on = FAMILY[variant]
    with service(world, on, [(on.server, 80)]) as port, Flow(world, on, port) as flow:
        sent = flow.tcp(SYN, ttl=1)
        seen = flow.refused(sent)
        kind = 11 if variant == "4" else 3
        same(seen, dst=on.client)
        assert seen.payload[0] == kind and seen.payload[8:8 + len(sent)] == sent, seen.payload.hex()


@families
def test_too_long(world, variant):
    """What is too long for the way to the server is refused, if it must not be fragmented."""
    farm.prepare(world)
    on = FAMILY[variant]
    with service(world, on, [(on.server, 80)]) as port, Flow(world, on, port) as flow:
        world.director.ip("link set ds mtu 1400")
        try:
            flow.request(flow.tcp(SYN))
            seen = flow.refused(flow.tcp(ACK, b"x" * 1430))
            expected = (3, 4, 1400) if variant == "4" else (2, 0, 1400)
            kind, code, _, mtu = struct.unpack("!BBHI", seen.payload[:8])
            assert (kind, code, mtu) == expected, f"{(kind, code, mtu)} is not {expected}"
            flow.request(flow.tcp(ACK, b"x" * 1200))
            if variant == "4":
                first = flow.request(flow.tcp(ACK, b"x" * 1430, frag=0))
                assert first.frag & packet.MF, f"{first} should be a fragment"
        finally:
            world.director.ip("link set ds mtu 1500")


@families
def test_errors(world, variant):
    """An error about the server's answer, which comes to the VIP, is the server's."""
    farm.prepare(world)
    on = FAMILY[variant]
    icmp = farm.icmp_error
    for method in (DIRECT, TUNNEL):
        with service(world, on, [(on.server, 80)], method=method) as port, Flow(world, on, port) as flow:
            flow.request(flow.tcp(SYN))
            answer = farm.tcp(on.vip, on.client, port, flow.cport, ACK, b"x" * 1400)
            kind, code = (3, 4) if variant == "4" else (2, 0)
            for size in (48, 128, 500):
                data = icmp("10.1.0.116" if variant == "4" else "fd01::116", on.vip, kind, code, 1280, answer[:size])
                seen = flow.request(data)
                inside = seen.data if method == DIRECT else seen.payload
                assert inside == aged(data), f"{inside.hex()} is not {aged(data).hex()}"


@families
def test_director_is_server(world, variant):
    """The director is its own real server, by any method, for clients elsewhere and its own."""
    farm.prepare(world)
    on = FAMILY[variant]
    for method, addr in ((LOCAL, on.director), (DIRECT, on.director), (TUNNEL, on.director), (DIRECT, on.vip)):
        with service(world, on, [(addr, 80)], method=method) as port, \
                listen(world, world.director, on, port) as listener:
            for where in (world.client, world.director):
                with where:
                    sock = socket.socket(on.family)
                with sock:
                    sock.settimeout(8)
                    sock.connect((on.vip, port))
                    theirs, _ = listener.accept()
                    with theirs:
                        theirs.sendall(b"hello")
                    assert sock.recv(10) == b"hello"
            assert len([line for line in world.director.proc("ip_vs_conn").splitlines()
                        if f" {port:04X} " in line]) == 2, "both should be connections of the service"


FAR = {"4": "10.2.77.7", "6": "fd02:77::7"}


@families
def test_bypass(world, variant):
    """With cache_bypass clients of a mark without servers get where they wanted; without it they are told."""
    farm.prepare(world)
    on, far = FAMILY[variant], FAR[variant]
    # On its way through, the client's packet is the director's own; what the director sends is not.
    rule = ["ip", f"-{variant}", "rule", "add", "fwmark", "10", "iif", "dc", "lookup", "100"]
    world.director.run(*rule)
    routes = [f"route add local {'::/0' if variant == '6' else '0.0.0.0/0'} dev lo table 100",
              f"route add {far} via {on.server}"]
    proto = "ip" if variant == "4" else "ip6"
    what = f"{proto} daddr {far} udp dport 53 meta mark set 10"
    world.director.ip(*routes)
    try:
        with configured(world, genl.service(10, on.family)), marked(world, what, family=proto), \
                Flow(world, on, 53) as flow:
            ask = farm.udp(on.client, far, flow.cport, 53, b"ask")
            flow.clear()
            flow.at_client.send(ask)
            if variant == "6":
                assert flow.at_client.wait().payload[:2] == b"\1\4"
            # IPv4 tells nothing in the name of an address that it has not.
            flow.at_client.silent()
            flow.at_server.silent()
            with world.settings(cache_bypass=1):
                assert flow.request(ask).data == aged(ask)
                assert flow.request(ask).data == aged(ask)
            server = listed(world, flow)[5:7]
            assert int("".join(server).replace(":", ""), 16) == 0, server
    finally:
        world.director.ip(*(line.replace(" add ", " del ") for line in routes))
        world.director.run(*(word.replace("add", "del") for word in rule))
