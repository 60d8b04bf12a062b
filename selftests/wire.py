# SPDX-License-Identifier: GPL-2.0
"""Bytes on the wire: what the balancer changes in a packet, and that it changes nothing else."""

import packet
from lib import (
    GHOST_SERVERS,
    LADDRS,
    VIP,
    Flow,
    clean,
    each,
    each_method,
    same,
)
from packet import ACK, FIN, PSH, SYN, TCP, UDP

SERVER = GHOST_SERVERS[0]


def from_expected_peer(flow, method, seen):
    """Asserts the source a real server sees: the client for NAT, a local address for FullNAT."""
    if method == "nat":
        assert (seen.src, seen.sport) == flow.client, f"{seen} is not from {flow.client}"
    else:
        assert seen.src in LADDRS[:2], f"{seen} is not from a local address"
        assert 1024 <= seen.sport, f"{seen} is not from a port of the range"


def tcp_request(flow, flags, seq=1000, ack=0, payload=b"", options=b"", **ip):
    """A TCP packet from the client to the service."""
    addr, port = flow.client
    return packet.ip(addr, VIP, TCP, packet.tcp(addr, VIP, port, flow.vport, flags, seq, ack, payload,
                                                options=options), **ip)


def tcp_reply(flow, flags, seq=5000, ack=0, payload=b"", options=b"", **ip):
    """A TCP packet from the real server to whom it believes to talk to."""
    (addr, port), (peer, pport) = flow.server, flow.peer
    return packet.ip(addr, peer, TCP, packet.tcp(addr, peer, port, pport, flags, seq, ack, payload,
                                                 options=options), **ip)


def udp_request(flow, payload, **how):
    """A UDP packet from the client to the service."""
    addr, port = flow.client
    ip = {key: how.pop(key) for key in ("ttl", "tos", "ident", "frag", "options") if key in how}
    return packet.ip(addr, VIP, UDP, packet.udp(addr, VIP, port, flow.vport, payload, **how), **ip)


def udp_reply(flow, payload, **how):
    """A UDP packet from the real server to whom it believes to talk to."""
    (addr, port), (peer, pport) = flow.server, flow.peer
    ip = {key: how.pop(key) for key in ("ttl", "tos", "ident", "frag", "options") if key in how}
    return packet.ip(addr, peer, UDP, packet.udp(addr, peer, port, pport, payload, **how), **ip)


def open_tcp(flow):
    """Takes a flow through its handshake and the server's first data, after which no TOA is added."""
    flow.request(tcp_request(flow, SYN, options=packet.syn_options()))
    flow.reply(tcp_reply(flow, SYN | ACK, ack=1001, options=packet.syn_options()))
    flow.request(tcp_request(flow, ACK, 1001, 5001))
    flow.reply(tcp_reply(flow, PSH | ACK, 5001, 1001, b"banner"))
    flow.request(tcp_request(flow, ACK, 1001, 5007))


@each_method
def test_tcp(world, method):
    """TCP both ways: addresses, ports and TTL change, everything else arrives as it was sent."""
    port = world.service(method, [(SERVER, 8080)])
    with Flow(world, port) as flow:
        open_tcp(flow)
        assert flow.server == (SERVER, 8080), f"port mapping: {flow.server}"
        for size in (0, 1, 2, 7, 536, 1459, 1460):
            data = bytes((size + n) & 255 for n in range(size))
            seen = clean(flow.request(tcp_request(
                flow, PSH | ACK, 1001, 5007, data, ident=0x4242, tos=0x28, ttl=33)))
            from_expected_peer(flow, method, seen)
            same(seen, dst=SERVER, dport=8080, ttl=32, tos=0x28, ident=0x4242, frag=packet.DF,
                 seq=1001, ack=5007, flags=PSH | ACK, window=8192, payload=data, option_bytes=b"")
            seen = clean(flow.reply(tcp_reply(
                flow, PSH | ACK, 5007, 1001, data, ident=0x77, tos=0x10, ttl=9, frag=0)))
            same(seen, src=VIP, sport=port, dst=flow.client[0], dport=flow.client[1], ttl=8, tos=0x10,
                 ident=0x77, frag=0, seq=5007, ack=1001, flags=PSH | ACK, window=8192, payload=data,
                 option_bytes=b"")


@each_method
def test_tcp_options_pass(world, method):
    """Options of an established connection pass unchanged in both directions."""
    port = world.service(method, [(SERVER, 8080)])
    stamps = packet.NOP * 2 + packet.TIMESTAMP
    sack = packet.NOP * 2 + b"\x05\x0a" + bytes(range(8))
    unknown = b"\xfd\x04\xf9\x89" + b"\x1c\x04\x11\x22"
    with Flow(world, port) as flow:
        open_tcp(flow)
        for options in (stamps, stamps + sack, unknown, stamps + sack + unknown + packet.NOP * 4):
            seen = clean(flow.request(tcp_request(flow, ACK, 1001, 5007, b"x", options)))
            same(seen, option_bytes=options, payload=b"x")
            seen = clean(flow.reply(tcp_reply(flow, ACK, 5007, 1001, b"y", options)))
            same(seen, option_bytes=options, payload=b"y")


@each_method
def test_tcp_fin_and_urgent(world, method):
    """Flags and the urgent pointer are nobody's business but the endpoints'."""
    port = world.service(method, [(SERVER, 8080)])
    with Flow(world, port) as flow:
        open_tcp(flow)
        addr, cport = flow.client
        segment = packet.tcp(addr, VIP, cport, port, packet.URG | ACK, 1001, 5007, b"!", urgent=1)
        same(clean(flow.request(packet.ip(addr, VIP, TCP, segment))), urgent=1, payload=b"!",
             flags=packet.URG | ACK)
        same(clean(flow.request(tcp_request(flow, FIN | ACK, 1002, 5007))), flags=FIN | ACK)
        same(clean(flow.reply(tcp_reply(flow, FIN | ACK, 5007, 1003))), flags=FIN | ACK)


@each_method
def test_udp(world, method):
    """UDP both ways, lengths even and odd."""
    port = world.service(method, [(SERVER, 5353)], proto="udp")
    with Flow(world, port, "udp") as flow:
        for size in (0, 1, 2, 3, 511, 1472):
            data = bytes((3 * size + n) & 255 for n in range(size))
            seen = clean(flow.request(udp_request(flow, data, ident=0x1001, tos=0xB8, ttl=64)))
            from_expected_peer(flow, method, seen)
            same(seen, dst=SERVER, dport=5353, ttl=63, tos=0xB8, ident=0x1001, payload=data)
            assert seen.check, "a datagram with a checksum arrived without"
            seen = clean(flow.reply(udp_reply(flow, data, ident=0x2002, tos=1, ttl=2)))
            same(seen, src=VIP, sport=port, dst=flow.client[0], dport=flow.client[1], ttl=1, tos=1,
                 ident=0x2002, payload=data)
            assert seen.check, "a datagram with a checksum arrived without"


@each_method
def test_udp_without_checksum(world, method):
    """A datagram without checksum stays right: none, or a true one."""
    port = world.service(method, [(SERVER, 5353)], proto="udp")
    with Flow(world, port, "udp") as flow:
        seen = flow.request(udp_request(flow, b"odd", check=0))
        same(clean(seen), dst=SERVER, dport=5353, payload=b"odd")
        same(clean(flow.reply(udp_reply(flow, b"even", check=0))), src=VIP, payload=b"even")


@each_method
def test_udp_checksum_ffff(world, method):
    """A checksum that comes out as zero is written as ffff: zero would mean none."""
    port = world.service(method, [(SERVER, 5353)], proto="udp")
    with Flow(world, port, "udp") as flow:
        flow.request(udp_request(flow, b"\0\0"))
        (addr, sport), (dst, dport) = flow.peer, flow.server
        bare = packet.udp(addr, dst, sport, dport, b"\0\0", check=0)
        rest = packet.checksum(packet.pseudo(addr, dst, UDP, len(bare)) + bare)
        # With this payload the sum of what the server gets is ffff, so its complement is zero.
        seen = flow.request(udp_request(flow, rest.to_bytes(2, "big")))
        assert seen.flow == (flow.peer, flow.server)
        same(clean(seen), check=0xFFFF)


@each_method
def test_ip_options(world, method):
    """IP options of a client pass through, and so do a server's."""
    port = world.service(method, [(SERVER, 5353)], proto="udp")
    # A router alert is the option that a router has to leave alone.
    alert = b"\x94\x04\0\0"
    with Flow(world, port, "udp") as flow:
        seen = clean(flow.request(udp_request(flow, b"opt", options=alert)))
        same(seen, options=alert, dst=SERVER, dport=5353, payload=b"opt", ihl=24)
        seen = clean(flow.reply(udp_reply(flow, b"back", options=alert)))
        same(seen, options=alert, src=VIP, sport=port, payload=b"back", ihl=24)


@each("nat-tcp", "nat-udp", "fullnat-tcp", "fullnat-udp")
def test_ttl_ends(world, variant):
    """A packet whose TTL ends at the director goes no further, and its sender is told."""
    method, proto = variant.split("-")
    port = world.service(method, [(SERVER, 8080)], proto=proto)
    with Flow(world, port, proto) as flow:
        make = tcp_request if proto == "tcp" else udp_request
        what = SYN if proto == "tcp" else b"hello"
        flow.request(make(flow, what))
        flow.at_client.send(make(flow, what, ttl=1))
        told = clean(flow.at_client.wait(lambda seen: seen.proto == packet.ICMP))
        same(told, kind=11, code=0, dst=flow.client[0])
        flow.at_server.silent()


@each_method
def test_fragments(world, method):
    """A datagram in fragments arrives whole at the server, as one packet or as fragments."""
    port = world.service(method, [(SERVER, 5353)], proto="udp")
    data = bytes(n & 255 for n in range(2400))
    with Flow(world, port, "udp") as flow:
        addr, cport = flow.client
        whole = packet.udp(addr, VIP, cport, port, data)
        for at in (0, 800, 1600):
            more = packet.MF if at < 1600 else 0
            part = whole[at:at + 800] if more else whole[at:]
            flow.at_client.send(packet.ip(addr, VIP, UDP, part, ident=99, frag=more | at // 8))
        parts, have = {}, 0
        while have < len(whole):
            seen = clean(flow.at_server.wait())
            same(seen, dst=SERVER)
            parts[seen.frag & 0x1FFF] = seen.l4
            have = sum(map(len, parts.values()))
        datagram = b"".join(part for _, part in sorted(parts.items()))
        seen = packet.Packet(packet.ip(seen.src, seen.dst, UDP, datagram))
        same(clean(seen), dport=5353, payload=data)
        from_expected_peer(flow, method, seen)


@each_method
def test_two_clients_one_port(world, method):
    """Two clients with the same source port are two connections, each answered at its own address."""
    port = world.service(method, [(SERVER, 5353)], proto="udp")
    with Flow(world, port, "udp") as one, Flow(world, port, "udp", client="10.1.0.102") as two:
        two.client = ("10.1.0.102", one.client[1])
        first = one.request(udp_request(one, b"one"))
        second = one.request(udp_request(two, b"two"))
        assert (first.src, first.sport) != (second.src, second.sport), "one address for both"
        for flow, seen in ((one, first), (two, second)):
            flow.peer, flow.server = seen.flow
            back = one.reply(udp_reply(flow, b"answer"))
            same(clean(back), dst=flow.client[0], dport=flow.client[1], src=VIP, sport=port)


def test_unrelated_traffic(world):
    """What is for no service is forwarded as if there were no balancer."""
    world.service("nat", [(SERVER, 8080)], port=81)
    at_client, at_server = world.taps()
    with at_client, at_server:
        client, cport = "10.1.0.103", world.port()
        for make, proto in ((packet.tcp, TCP), (packet.udp, UDP)):
            rest = (SYN, 7, 0, b"") if proto == TCP else (b"plain",)
            at_client.send(packet.ip(client, SERVER, proto, make(client, SERVER, cport, 8080, *rest)))
            same(clean(at_server.wait()), src=client, sport=cport, dst=SERVER, dport=8080, ttl=63)
            at_server.send(packet.ip(SERVER, client, proto, make(SERVER, client, 8080, cport, *rest)))
            same(clean(at_client.wait()), src=SERVER, sport=8080, dst=client, dport=cport, ttl=63)
