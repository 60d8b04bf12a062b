# SPDX-License-Identifier: GPL-2.0
"""TOA, the option that tells a real server its client: where it is, where not, and what makes room for it."""

import hashlib
import threading

import kernel
import packet
import wire
from lib import (
    GHOST_SERVERS,
    SERVERS,
    VIP,
    Flow,
    Tap,
    clean,
    each,
    need_rlvs,
    same,
)
from packet import ACK, FIN, NOP, PSH, SYN, TOA

SERVER = GHOST_SERVERS[0]
FORGED = packet.toa("192.0.2.66", 666)
STAMPS = NOP * 2 + packet.TIMESTAMP


def carries(flow, seen, rest):
    """Asserts that a packet has the client's TOA directly behind the fixed header, and then `rest`."""
    expected = packet.toa(*flow.client) + rest
    assert seen.option_bytes == expected, \
        f"{seen}: options {seen.option_bytes.hex(' ')}, expected {expected.hex(' ')}"


def counted(world, name, action):
    """By how much a counter grows while something is done."""
    before = world.counters()[name]
    action()
    return world.counters()[name] - before


def test_where(world):
    """It is in the SYN and in all that the client sends until the server's first data, then never."""
    need_rlvs()
    port = world.service("fullnat", [(SERVER, 8080)])
    options = packet.syn_options()
    before = world.counters()["toa_inserted"]
    with Flow(world, port) as flow:
        carries(flow, clean(flow.request(wire.tcp_request(flow, SYN, options=options))), options)
        carries(flow, clean(flow.request(wire.tcp_request(flow, SYN, options=options))), options)
        flow.reply(wire.tcp_reply(flow, SYN | ACK, ack=1001, options=options))
        carries(flow, clean(flow.request(wire.tcp_request(flow, ACK, 1001, 5001, options=STAMPS))), STAMPS)
        data = b"GET / HTTP/1.0\r\n"
        seen = clean(flow.request(wire.tcp_request(flow, PSH | ACK, 1001, 5001, data, STAMPS)))
        carries(flow, seen, STAMPS)
        same(seen, payload=data, seq=1001, ack=5001, flags=PSH | ACK)
        # An acknowledgement is no data.
        seen = clean(flow.reply(wire.tcp_reply(flow, ACK, 5001, 1017, options=STAMPS)))
        same(seen, option_bytes=STAMPS)
        carries(flow, clean(flow.request(wire.tcp_request(flow, PSH | ACK, 1017, 5001, b"\r\n"))), b"")
        assert world.counters()["toa_inserted"] - before == 5
        seen = clean(flow.reply(wire.tcp_reply(flow, PSH | ACK, 5001, 1019, b"HTTP/1.0 200 OK")))
        same(seen, option_bytes=b"", payload=b"HTTP/1.0 200 OK")
        for flags, data in ((ACK, b""), (PSH | ACK, b"more"), (FIN | ACK, b"")):
            seen = clean(flow.request(wire.tcp_request(flow, flags, 1019, 5016, data, STAMPS)))
            same(seen, option_bytes=STAMPS, payload=data)
        assert world.counters()["toa_inserted"] - before == 5


def test_answers_that_end_here(world):
    """A server's packet that goes no further is quoted to it as it was sent, and nothing is learnt from it."""
    need_rlvs()
    port = world.service("fullnat", [(SERVER, 8080)])
    with Flow(world, port) as flow:
        def ended(data):
            flow.clear()
            flow.at_server.send(data)
            told = clean(flow.at_server.wait())
            same(told, proto=packet.ICMP, kind=11, code=0, dst=SERVER)
            assert told.payload == data, f"quoted {told.payload.hex(' ')}, sent {data.hex(' ')}"
        flow.request(wire.tcp_request(flow, SYN, options=packet.syn_options()))
        before = world.counters()["mss_lowered"]
        ended(wire.tcp_reply(flow, SYN | ACK, ack=1001, options=packet.syn_options(), ttl=1))
        assert world.counters()["mss_lowered"] == before
        ended(wire.tcp_reply(flow, PSH | ACK, 5001, 1001, b"banner", ttl=1))
        carries(flow, clean(flow.request(wire.tcp_request(flow, ACK, 1001, 5001))), b"")


def test_nat_has_none(world):
    """A NAT server sees the client itself and gets no option."""
    port = world.service("nat", [(SERVER, 8080)])
    with Flow(world, port) as flow:
        seen = clean(flow.request(wire.tcp_request(flow, SYN, options=packet.syn_options())))
        same(seen, option_bytes=packet.syn_options())


def test_syn_with_data(world):
    """Data in a SYN (TCP Fast Open) stays behind the options."""
    need_rlvs()
    port = world.service("fullnat", [(SERVER, 8080)])
    cookie = b"\x22\x0a" + bytes(range(8)) + NOP * 2
    with Flow(world, port) as flow:
        options = packet.syn_options() + cookie
        seen = clean(flow.request(wire.tcp_request(flow, SYN, 1, 0, b"early", options)))
        carries(flow, seen, options)
        same(seen, payload=b"early", doff=60)


def test_ip_options(world):
    """IP options in front of the TCP header do not move its place."""
    need_rlvs()
    port = world.service("fullnat", [(SERVER, 8080)])
    alert = b"\x94\x04\0\0"
    with Flow(world, port) as flow:
        segment = packet.tcp(flow.client[0], VIP, flow.client[1], port, SYN, options=packet.MSS1460)
        seen = clean(flow.request(packet.ip(flow.client[0], VIP, packet.TCP, segment, options=alert)))
        same(seen, options=alert, ihl=24)
        carries(flow, seen, packet.MSS1460)


# What a client sends, and what must be left of it in the established connection.
FORGERIES = {
    "alone": (FORGED, NOP * 8),
    "first": (FORGED + STAMPS, NOP * 8 + STAMPS),
    "last": (STAMPS + FORGED, STAMPS + NOP * 8),
    "twice": (FORGED + NOP * 4 + FORGED, NOP * 20),
    "short": (b"\xfe\x02" + STAMPS + NOP * 2, NOP * 2 + STAMPS + NOP * 2),
    "long": (b"\xfe\x14" + bytes(18) + STAMPS, NOP * 20 + STAMPS),
    "behind-unknown": (b"\xfd\x04\x01\x02" + FORGED, b"\xfd\x04\x01\x02" + NOP * 8),
}


@each(*FORGERIES)
def test_forged_is_removed(world, what):
    """A client's own option of that kind becomes NOPs, others stay where they are."""
    need_rlvs()
    forged, left = FORGERIES[what]
    port = world.service("fullnat", [(SERVER, 8080)])
    with Flow(world, port) as flow:
        wire.open_tcp(flow)

        def send():
            seen = clean(flow.request(wire.tcp_request(flow, ACK, 1001, 5007, b"data", forged)))
            assert seen.option_bytes == left, seen.option_bytes.hex(" ")
            same(seen, payload=b"data")

        assert counted(world, "toa_stripped", send) == 1


def test_forged_syn(world):
    """In a SYN with a forged option the server finds one option of the kind, and it is true."""
    need_rlvs()
    port = world.service("fullnat", [(SERVER, 8080)])
    for forged in (FORGED + packet.MSS1460, packet.MSS1460 + FORGED, packet.syn_options() + FORGED):
        with Flow(world, port) as flow:
            seen = clean(flow.request(wire.tcp_request(flow, SYN, options=forged)))
            assert seen.toa() == [flow.client], f"{seen}: {seen.option_bytes.hex(' ')}"
            kept = [raw for kind, raw in seen.tcp_options() if kind != TOA]
            assert kept == [raw for kind, raw in packet.tcp_options(forged) if kind != TOA]


@each("zero-length", "length-one", "overlong", "cut-off", "behind-end")
def test_forged_among_nonsense(world, what):
    """Malformed neighbours do not smuggle the option past: a tolerant reader finds none either."""
    need_rlvs()
    options = {
        "zero-length": FORGED + b"\x05\x00" + NOP * 2 + FORGED,
        "length-one": b"\x08\x01" + NOP * 2 + FORGED,
        "overlong": FORGED + NOP * 2 + b"\x05\x28",
        "cut-off": NOP * 4 + FORGED[:4],
        "behind-end": NOP * 3 + b"\x00" + FORGED,
    }[what]
    port = world.service("fullnat", [(SERVER, 8080)])
    with Flow(world, port) as flow:
        wire.open_tcp(flow)
        flow.clear()
        flow.at_client.send(wire.tcp_request(flow, ACK, 1001, 5007, b"data", options))
        # A probe behind it tells when it has passed, if it does.
        flow.at_client.send(wire.tcp_request(flow, ACK, 1005, 5007, b"probe"))
        raw = []
        flow.at_server.wait(lambda seen: raw.append(seen) or seen.payload == b"probe")
        for seen in raw[:-1]:
            clean(seen)
            assert TOA not in seen.option_bytes, seen.option_bytes.hex(" ")


def test_option_room(world):
    """Options that leave no 8 bytes go through as they are, without it, and are counted."""
    need_rlvs()
    port = world.service("fullnat", [(SERVER, 8080)])
    for size in (28, 32, 36, 40):
        # One option that fills the room, so that a shift or a cut would show.
        options = bytes([253, size]) + bytes(range(size - 2))
        with Flow(world, port) as flow:
            def send():
                return clean(flow.request(wire.tcp_request(flow, SYN, options=options)))
            if size <= 32:
                carries(flow, send(), options)
            else:
                seen = []
                assert counted(world, "toa_no_room", lambda: seen.append(send())) == 1
                same(seen[0], option_bytes=options)


def test_mtu(world):
    """The option never makes a packet longer than the path: a full segment goes without it."""
    need_rlvs()
    port = world.service("fullnat", [(SERVER, 8080)])
    with Flow(world, port) as flow:
        flow.request(wire.tcp_request(flow, SYN))
        flow.reply(wire.tcp_reply(flow, SYN | ACK, ack=1001))
        for size, room in ((1451, True), (1452, True), (1453, False), (1460, False)):
            for frag in (packet.DF, 0):
                data = bytes(size)
                seen = []
                grown = counted(world, "toa_too_long", lambda: seen.append(clean(flow.request(
                    wire.tcp_request(flow, ACK, 1001, 5001, data, frag=frag)))))
                assert seen[0].total <= 1500, f"{seen[0].total} bytes on a wire of 1500"
                same(seen[0], payload=data, frag=frag)
                if room:
                    carries(flow, seen[0], b"")
                else:
                    same(seen[0], option_bytes=b"")
                assert grown == (0 if room else 1)


def test_mss(world):
    """The MSS in the server's SYN-ACK is 8 lower for the client, everything else in it is the server's."""
    need_rlvs()
    port = world.service("fullnat", [(SERVER, 8080)])
    rest = packet.SACK_OK + packet.TIMESTAMP + NOP + packet.WSCALE7
    with Flow(world, port) as flow:
        flow.request(wire.tcp_request(flow, SYN))
        for mss in (1460, 536, 8960):
            head = b"\x02\x04" + mss.to_bytes(2, "big")
            seen = clean(flow.reply(wire.tcp_reply(flow, SYN | ACK, ack=1001, options=head + rest)))
            same(seen, option_bytes=b"\x02\x04" + (mss - 8).to_bytes(2, "big") + rest)
        seen = clean(flow.reply(wire.tcp_reply(flow, SYN | ACK, ack=1001, options=rest + packet.MSS1460)))
        same(seen, option_bytes=rest + b"\x02\x04\x05\xac" + packet.EOL * (-len(rest) % 4))
        with world.settings(fullnat_mss_adjust_entry=0):
            seen = clean(flow.reply(wire.tcp_reply(flow, SYN | ACK, ack=1001, options=packet.MSS1460)))
            same(seen, option_bytes=packet.MSS1460)


def test_kind(world):
    """Another kind by sysctl: that is inserted and removed, 254 is any other option then."""
    need_rlvs()
    port = world.service("fullnat", [(SERVER, 8080)])
    with world.settings(fullnat_toa_kind=253), Flow(world, port) as flow:
        other = b"\xfd" + FORGED[1:]
        seen = clean(flow.request(wire.tcp_request(flow, SYN, options=FORGED + other)))
        expected = b"\xfd" + packet.toa(*flow.client)[1:] + FORGED + NOP * 8
        assert seen.option_bytes == expected, seen.option_bytes.hex(" ")


def test_off(world):
    """Switched off, nothing is inserted, and a forged one is removed all the same."""
    need_rlvs()
    port = world.service("fullnat", [(SERVER, 8080)])
    with world.settings(fullnat_toa_entry=0), Flow(world, port) as flow:
        seen = clean(flow.request(wire.tcp_request(flow, SYN, options=packet.MSS1460)))
        same(seen, option_bytes=packet.MSS1460)
        seen = clean(flow.reply(wire.tcp_reply(flow, SYN | ACK, ack=1001, options=packet.MSS1460)))
        same(seen, option_bytes=packet.MSS1460)
        seen = clean(flow.request(wire.tcp_request(flow, ACK, 1001, 5001, b"x", FORGED)))
        same(seen, option_bytes=NOP * 8, payload=b"x")


def upload(world, port, size, listener):
    """Sends bytes over a real connection whose server only listens; asserts that they arrive as sent."""
    data = hashlib.shake_128(b"rlvs").digest(size)
    got = bytearray()
    ours = world.connect(port, 20)
    theirs, _ = listener.accept()
    theirs.settimeout(20 * kernel.SLOW)

    def receive():
        while more := theirs.recv(1 << 16):
            got.extend(more)

    thread = threading.Thread(target=receive)
    thread.start()
    ours.sendall(data)
    ours.close()
    thread.join()
    theirs.close()
    assert bytes(got) == data, f"{len(got)} of {len(data)} bytes, or others"


@each("mss-lowered", "mss-as-is")
def test_segmentation(world, how):
    """Super-packets of a real sender become segments that each carry the option and fit the wire."""
    need_rlvs()
    port = world.service("fullnat", [(SERVERS[0], 8090)])
    # The director cuts them up and computes the checksums itself, where we can see both.
    world.director.run("ethtool", "-K", "ds", "tx", "off", "gso", "off")
    try:
        with world.listen(SERVERS[0], 8090) as listener, Tap(world.server, "s0") as tap, \
                world.settings(fullnat_mss_adjust_entry=int(how == "mss-lowered")):
            upload(world, port, 300_000, listener)
            segments = [clean(seen) for seen in tap.heard() if seen.dport == 8090]
    finally:
        world.director.run("ethtool", "-K", "ds", "tx", "on", "gso", "on")
    filled = [seen for seen in segments if seen.payload]
    assert len(filled) > 200, f"{len(filled)} segments"
    longest = max(seen.total for seen in segments)
    assert longest <= 1500, f"{longest} bytes on a wire of 1500"
    bare = [seen for seen in filled if len(seen.toa()) != 1]
    if how == "mss-lowered":
        assert not bare, f"{len(bare)} of {len(filled)} segments without the option: {bare[:3]}"
    # Without the lower MSS a full segment that travels alone has no room for it.
    assert all(seen.total == 1500 for seen in bare), bare[:3]
    assert {addr for seen in filled for addr, _ in seen.toa()} == {"10.1.0.2"}


def test_super_packets_stay(world):
    """The balancer itself cuts nothing up: the server's wire carries packets of several segments."""
    need_rlvs()
    port = world.service("fullnat", [(SERVERS[0], 8091)])
    with world.listen(SERVERS[0], 8091) as listener, Tap(world.server, "s0") as tap:
        upload(world, port, 1_000_000, listener)
        seen = [seen for seen in tap.heard() if seen.dport == 8091 and seen.payload]
    longest = max(packet.total for packet in seen)
    # How many depends on the sender's pace: on a slow machine they are few.
    assert longest > 1500, f"the longest packet has {longest} bytes"
    assert all(len(packet.toa()) == 1 for packet in seen)
