# SPDX-License-Identifier: GPL-2.0
"""Tunnels to real servers: IPIP, GRE and GUE, either family in either one, on the wire and to the kernel's own."""

import contextlib
import itertools
import socket
import struct

import conntrack
import farm
import genl
import kernel
import packet
import packet6
from farm import FAMILY, Flow, l4_sum, listen, service, upload
from genl import Genl, attr, be16, u16
from lib import clean, each, need_rlvs, same, wait_for
from packet import ACK, DF, MF, PSH, SYN

SPOILS_WORLD = True

GUE_PORT = 6080
# Bytes: more than fit into a segment of any size.
UPLOAD = 150_000 if kernel.DEBUG else 400_000
# (kind, flags) of the destination's attributes, and bytes between the IP headers.
KINDS = {"ipip": (0, 0, 0), "gre": (2, 0, 4), "gre-csum": (2, 1, 8), "gue": (1, 0, 12), "gue-csum": (1, 1, 12),
         "gue-remcsum": (1, 2, 12)}
# The inner family, then the outer one.
PAIRS = ["4in4", "6in4", "4in6", "6in6"]
IN_IP = {4: 4, 6: 41}
TYPES = {4: 0x0800, 6: 0x86DD}

pairs = each(*PAIRS)
kinds = each(*(f"{kind}-{pair}" for kind, pair in itertools.product(KINDS, PAIRS)))


def extra(kind):
    """The attributes of a destination behind such a tunnel."""
    number, flags, _ = KINDS[kind]
    return attr(13, struct.pack("=B", number)) + (be16(14, GUE_PORT) if number == 1 else b"") + u16(15, flags)


def variant_of(name):
    """The kind of tunnel, inner and outer addresses, and the outer IP header's length with what follows."""
    kind, _, pair = name.rpartition("-")
    inner, outer = FAMILY[pair[0]], FAMILY[pair[-1]]
    return kind, inner, outer, (20 if outer.bits == 32 else 40) + KINDS[kind][2]


def tunnelled(world, inner, outer, kind, **how):
    """A service whose server without a stack is behind a tunnel."""
    farm.prepare(world)
    return service(world, inner, [(outer.server, 80)], method=2, extra=extra(kind), **how)


class Wrapped:
    """A packet of a tunnel, taken apart strictly: fails if it is not of that kind."""

    def __init__(self, outer, kind, family):
        self.outer, data = outer, outer.payload
        assert outer.sum_ok, f"{outer}: IP checksum"
        number, flags, size = KINDS[kind]
        self.sport = self.remote = None
        if number == 0:
            same(outer, proto=IN_IP[family])
        elif number == 2:
            same(outer, proto=47)
            expected = struct.pack("!HH", 0x8000 if flags else 0, TYPES[family])
            assert data[:4] == expected, f"GRE: {data[:8].hex()}"
            if flags:
                assert packet.checksum(data) == 0 and data[6:8] == b"\0\0", f"GRE: {data[:8].hex()}"
        else:
            same(outer, proto=17)
            self.sport, dport, length, check = struct.unpack("!HHHH", data[:8])
            assert dport == GUE_PORT and length == len(data), f"UDP: {data[:8].hex()}"
            if flags:
                assert check and l4_sum(outer.src, outer.dst, 17, data) == 0, f"UDP checksum {check:#x}"
            else:
                assert check == 0, f"UDP checksum {check:#x}"
            words, proto, gue = data[8], data[9], struct.unpack("!H", data[10:12])[0]
            assert proto == IN_IP[family], f"GUE: {data[8:12].hex()}"
            if words:
                assert (words, gue) == (2, 1) and data[12:16] == b"\x80\0\0\0", f"GUE: {data[8:20].hex()}"
                self.remote, size = struct.unpack("!HH", data[16:20]), size + 8
            else:
                assert gue == 0, f"GUE: {data[8:12].hex()}"
        self.inner = data[size:]


def aged(data):
    """The packet a hop later."""
    if data[0] >> 4 == 6:
        return data[:7] + bytes([data[7] - 1]) + data[8:]
    head = data[:8] + bytes([data[8] - 1, data[9]]) + b"\0\0" + data[12:20]
    return head[:10] + struct.pack("!H", packet.checksum(head)) + head[12:] + data[20:]


@kinds
def test_bytes(world, variant):
    """What stands in front of the client's packet, and that the packet itself is as it was sent."""
    kind, inner, outer, _ = variant_of(variant)
    for proto in ("tcp", "udp"):
        with tunnelled(world, inner, outer, kind, proto=proto) as port, Flow(world, inner, port) as flow, \
                farm.finished(world):
            ports = set()
            for size, ttl, tos in ((0, 64, 0), (1, 2, 0xB8), (1300, 255, 0x11), (7, 9, 0x12), (536, 33, 0x13)):
                how = {"ttl": ttl, "tos": tos, "frag": DF if size % 2 == 0 else 0}
                sent = flow.udp(b"x" * size, **how) if proto == "udp" else flow.tcp(
                    SYN if size == 0 else ACK, b"x" * size, **how)
                seen = Wrapped(flow.request(sent), kind, inner.family == socket.AF_INET6 and 6 or 4)
                assert seen.inner == aged(sent), f"inside {seen.inner[:48].hex()}, not {aged(sent)[:48].hex()}"
                # Congestion that was met is told inside only.
                same(seen.outer, src=outer.director, dst=outer.server, ttl=ttl - 1,
                     tos=tos & ~1 if tos & 3 == 3 else tos)
                if outer.bits == 32:
                    same(seen.outer, frag=DF if inner.bits == 32 and size % 2 == 0 else 0)
                else:
                    same(seen.outer, flow_label=0)
                ports.add(seen.sport)
            assert len(ports) == 1, f"one flow has the source ports {ports}"


def test_ports(world):
    """Flows have different source ports in GUE, so that who spreads by ports spreads them."""
    inner = FAMILY["4"]
    with tunnelled(world, inner, inner, "gue") as port, Flow(world, inner, port) as flow:
        ports = set()
        for _ in range(16):
            flow.cport = world.port()
            ports.add(Wrapped(flow.request(flow.tcp(SYN)), "gue", 4).sport)
        assert len(ports) > 8 and min(ports) >= 32768, sorted(ports)


@kinds
def test_too_long(world, variant):
    """Who sends what the tunnel does not take is told what it does take."""
    kind, inner, outer, head = variant_of(variant)
    with tunnelled(world, inner, outer, kind) as port, Flow(world, inner, port) as flow, farm.finished(world):
        most = 1500 - head
        size = most - (40 if inner.bits == 32 else 60)
        Wrapped(flow.request(flow.tcp(SYN, b"x" * size)), kind, 4 if inner.bits == 32 else 6)
        sent = flow.tcp(ACK, b"x" * (size + 1))
        seen = flow.refused(sent)
        same(seen, dst=inner.client)
        what, code, _, mtu = struct.unpack("!BBHI", seen.payload[:8])
        expected = (3, 4, most) if inner.bits == 32 else (2, 0, most)
        assert (what, code, mtu) == expected, f"{(what, code, mtu)} is not {expected}"
        quote = seen.payload[8:]
        assert aged(sent).startswith(quote) or quote.startswith(aged(sent)), quote.hex()
        if inner.bits == 32:
            whole(flow, flow.tcp(ACK, b"x" * (size + 1), frag=0))
            with world.settings(pmtu_disc=0):
                whole(flow, sent)


def whole(flow, sent):
    """A packet is sent in an outer one that is fragmented; puts that together."""
    first = flow.request(sent)
    parts = [first]
    if first.family == 4:
        assert first.frag & MF and not first.frag & DF, f"{first.frag:#x}: no fragment"
        while parts[-1].frag & MF:
            parts.append(flow.at_server.wait())
        data = b"".join(part.payload for part in parts)
    else:
        same(first, proto=44)
        while struct.unpack("!H", parts[-1].payload[2:4])[0] & 1:
            parts.append(flow.at_server.wait())
        data = b"".join(part.payload[8:] for part in parts)
    assert data.endswith(aged(sent)), "what arrived in fragments is not what was sent"


@pairs
def test_small_path(world, variant):
    """A path too small for IPv6 in a tunnel takes it in fragments."""
    need_rlvs()
    inner, outer = FAMILY[variant[0]], FAMILY[variant[-1]]
    with tunnelled(world, inner, outer, "ipip") as port, Flow(world, inner, port) as flow:
        world.director.ip("link set ds mtu 1290")
        try:
            if inner.bits == 128:
                whole(flow, flow.tcp(SYN, b"x" * 1220))
            else:
                flow.request(flow.tcp(SYN, b"x" * 1000))
        finally:
            world.director.ip("link set ds mtu 1500")


@kinds
def test_errors(world, variant):
    """An error about the outer packet reaches the client about its own, wherever it is cut off."""
    kind, inner, outer, head = variant_of(variant)
    if variant[-4:] != "4in4":
        need_rlvs()
    v4 = outer.bits == 32
    with tunnelled(world, inner, outer, kind) as port, Flow(world, inner, port) as flow:
        sent = flow.tcp(SYN, b"x" * 300)
        about = flow.request(sent).data
        before = world.stats().outpkts
        seen = flow.error(farm.icmp_error(outer.router, outer.director, *((3, 1, 0) if v4 else (1, 3, 0)), about))
        same(seen, src=inner.vip, dst=inner.client)
        assert seen.payload[:2] == (b"\3\1" if inner.bits == 32 else b"\1\3"), seen.payload.hex()
        assert aged(sent).startswith(seen.payload[8:8 + 100]), seen.payload.hex()
        wait_for(lambda: world.stats().outpkts > before, 5, 0.2)
        # Ports are the least that must be there.
        enough = head + (24 if inner.bits == 32 else 44)
        flow.clear()
        for size in range(head + 70):
            flow.at_server.send(farm.icmp_error(outer.router, outer.director, *((3, 1, 0) if v4 else (1, 3, 0)),
                                                about[:size]))
        told = []
        wait_for(lambda: told.extend(flow.at_client.heard()) or len(told) >= head + 70 - enough, 5,
                 about=lambda: f"{head + 70 - enough} errors of which {len(told)} came")
        assert all(len(each.payload) >= 32 for each in told), told
        # A bad checksum, and a tunnel that is not ours.
        bad = bytearray(farm.icmp_error(outer.router, outer.director, *((3, 1, 0) if v4 else (1, 3, 0)), about))
        bad[-1] ^= 1
        flow.at_server.send(bytes(bad))
        other = bytearray(about)
        other[19 if v4 else 39] ^= 1
        flow.at_server.send(farm.icmp_error(outer.router, outer.director, *((3, 1, 0) if v4 else (1, 3, 0)),
                                            bytes(other)))
        flow.at_client.silent()


@contextlib.contextmanager
def learnt(world, outer):
    """What the director has learnt of paths is forgotten afterwards."""
    try:
        yield
    finally:
        if outer.bits == 32:
            # What ip does, without a process.
            world.director.sysctl("net.ipv4.route.flush", -1)
        else:
            world.director.ip("route flush cache", family=6)


@kinds
def test_path_mtu(world, variant):
    """A router that takes less is believed: the client is told at once, and from then on beforehand."""
    kind, inner, outer, head = variant_of(variant)
    if variant[-4:] != "4in4":
        need_rlvs()
    v4, v4_inside = outer.bits == 32, inner.bits == 32
    with tunnelled(world, inner, outer, kind) as port, Flow(world, inner, port) as flow, learnt(world, outer):
        about = flow.request(flow.tcp(SYN, b"x" * 1200)).data
        kind, code = (3, 4) if v4 else (2, 0)
        seen = flow.error(farm.icmp_error(outer.router, outer.director, kind, code, 1400, about[:500]))
        expected = (3, 4, 1400 - head) if v4_inside else (2, 0, 1400 - head)
        told = struct.unpack("!BBHI", seen.payload[:8])
        assert (told[0], told[1], told[3]) == expected, f"{told} is not {expected}"
        seen = flow.refused(flow.tcp(ACK, b"x" * (1400 - head - (39 if v4_inside else 59))))
        told = struct.unpack("!BBHI", seen.payload[:8])
        assert (told[0], told[1], told[3]) == expected, f"{told} is not {expected}"
        flow.request(flow.tcp(ACK, b"x" * (1400 - head - (40 if v4_inside else 60))))


@contextlib.contextmanager
def device(world, kind, inner, outer):
    """The kernel's own end of a tunnel on the server."""
    number, flags, _ = KINDS[kind]
    v4, v4_inside = outer.bits == 32, inner.bits == 32
    lines = []
    if number == 2:
        csum = "icsum" if flags else ""
        lines.append(f"link add tun type {'gre' if v4 else 'ip6gre'} local {outer.real_server} remote any {csum}"
                     if v4 else f"link add tun type ip6gre local {outer.real_server} remote :: {csum}")
    elif not v4:
        lines.append(f"link add tun type ip6tnl mode any local {outer.real_server} remote ::")
    elif v4_inside:
        lines.append(f"link add tun type ipip local {outer.real_server} remote any")
    else:
        lines.append(f"link add tun type sit local {outer.real_server} remote any")
    lines.append("link set tun up")
    port = [f"fou {{}} port {GUE_PORT} {{}}"] if number == 1 else []
    world.server.ip(*lines, *(line.format("add", "gue") for line in port), family=4 if v4 else 6)
    try:
        yield
    finally:
        world.server.ip(*(line.format("del", "") for line in port), "link del tun", family=4 if v4 else 6)


@each("ipip-4in4", "gre-6in6", "gue-4in6")
def test_forged_toa(world, variant):
    """An option that FullNAT's servers would believe does not reach them through a tunnel either."""
    need_rlvs()
    kind, inner, outer, _ = variant_of(variant)
    forged = packet.toa("192.0.2.66", 666)
    with tunnelled(world, inner, outer, kind) as port, Flow(world, inner, port) as flow:
        # The first ones go the long way, those of an open connection the short one.
        for flags, payload in ((SYN, b""), (ACK, b""), (ACK, b""), (PSH | ACK, b"data")):
            seen = Wrapped(flow.request(flow.tcp(flags, payload, options=forged)), kind, 6 if inner.bits == 128 else 4)
            assert seen.inner == aged(flow.tcp(flags, payload, options=b"\1" * len(forged))), seen.inner.hex()


@kinds
def test_connections(world, variant):
    """The kernel's own tunnel devices take what we send: real connections, large segments, path MTU."""
    kind, inner, outer, head = variant_of(variant)
    farm.prepare(world)
    with device(world, kind, inner, outer), \
            service(world, inner, [(outer.real_server, 80)], method=2, extra=extra(kind)) as port, \
            listen(world, world.server, inner, port) as listener:
        family = 6 if inner.bits == 128 else 4
        # What errors of other tests have taught the client.
        world.client.ip("route flush cache", family=family)
        upload(world, inner, port, listener, UPLOAD)
        route = world.client.ip(f"route get {inner.vip}", "route flush cache", family=family)
        if kind != "gue-remcsum":
            assert f"mtu {1500 - head} " in route, route


@each("ipip", "gre-csum", "gue-csum", "gue-remcsum")
def test_segmented(world, kind):
    """The same where no device helps, and the director itself makes the segments."""
    farm.prepare(world)
    on = FAMILY["4"]
    with device(world, kind, on, on), farm.finished(world), \
            service(world, on, [(on.real_server, 80)], method=2, extra=extra(kind)) as port, \
            listen(world, world.server, on, port) as listener:
        upload(world, on, port, listener, UPLOAD)
        world.client.sysctl("net.ipv4.route.flush", -1)


def test_remote_checksum(world):
    """A checksum that is left to the far end is left out here, and stands there where GUE says."""
    inner = FAMILY["4"]
    with tunnelled(world, inner, inner, "gue-remcsum") as port, farm.Wire(world.server, "s0") as wire, \
            farm.finished(world):
        with world.client:
            sock = socket.socket()
        with sock:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect((inner.vip, port))
            seen = Wrapped(wire.wait(), "gue-remcsum", 4)
            assert seen.remote == (20, 36), seen.remote
            data = bytearray(seen.inner)
            # What the far end does (RFC draft-herbert-remotecsumoffload).
            data[36:38] = struct.pack("!H", packet.checksum(bytes(data[20:])))
            clean(packet.Packet(bytes(data)))




@each("ipip", "gue-csum")
def test_from_here(world, kind):
    """The director as a client: its socket learns what the tunnel takes, and what it sends arrives."""
    farm.prepare(world)
    on = FAMILY["4"]
    world.server.ip(f"rule add from {on.vip} to {on.director} lookup main prio 1")
    world.director.sysctl("net.ipv4.conf.ds.accept_local", 1)
    try:
        with device(world, kind, on, on), \
                service(world, on, [(on.real_server, 80)], method=2, extra=extra(kind)) as port, \
                listen(world, world.server, on, port) as listener:
            farm.upload(world, on, port, listener, UPLOAD, where=world.director, source=on.director)
    finally:
        world.director.sysctl("net.ipv4.conf.ds.accept_local", 0)
        world.server.ip(f"rule del from {on.vip} to {on.director} lookup main prio 1")
        world.director.sysctl("net.ipv4.route.flush", -1)


def test_last_server_of_the_other_family(world):
    """With the last server of IPv6 the router's packets of IPv6 are nobody's business any more: fragments pass."""
    need_rlvs()
    farm.prepare(world)
    inner, outer = FAMILY["4"], FAMILY["6"]
    # Whoever waits for the others of a first fragment would say after a while that they have not come.
    lone = packet6.ip6(outer.client, outer.server, 17, bytes(24),
                       ext=[(packet6.FRAGMENT, packet6.fragment(64, 0, world.port()))])
    with service(world, inner, [(inner.server, 80)], method=2, extra=extra("ipip")) as port, \
            Flow(world, inner, port) as flow:
        assert flow.request(lone).data[40:] == lone[40:]
        key = genl.service(inner.vip, port, packet.TCP, full=False)
        dest = genl.dest(outer.server, 80, method=2, extra=extra("ipip"))
        with world.director, Genl("IPVS") as ipvs:
            ipvs.call(genl.NEW_DEST, key + dest)
            flow.at_client.send(lone)
            flow.at_server.silent()
            ipvs.call(genl.DEL_DEST, key + dest)
        assert flow.request(lone).data[40:] == lone[40:]


@each("4in4", "4in6")
def test_conntrack(world, pair):
    """With conntrack=1 the client's half of the connection is kept there."""
    inner, outer = FAMILY[pair[0]], FAMILY[pair[-1]]
    with world.settings(conntrack=1), conntrack.ruled(world, conntrack.WATCH), \
            tunnelled(world, inner, outer, "ipip") as port, Flow(world, inner, port) as flow:
        flow.request(flow.tcp(SYN))
        flow.request(flow.tcp(ACK))
        line, = conntrack.known(world, port)
        assert f"src={inner.client} dst={inner.vip} sport={flow.cport} dport={port}" in line, line
