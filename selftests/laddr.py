# SPDX-License-Identifier: GPL-2.0
"""Local addresses: how ports are given out, what happens when there are none, and how they come back."""

import time

import kernel
import packet
import wire
from lib import (
    GHOST_SERVERS,
    LADDRS,
    VIP,
    Flow,
    Tap,
    each,
    need_rlvs,
    wait_for,
)
from packet import ACK, SYN

SERVER = GHOST_SERVERS[0]
NARROW = {"fullnat_lport_min": 5000, "fullnat_lport_max": 5015}


def open_many(flow, count, make):
    """Sends `count` openings from different client ports; returns the tuples that servers see."""
    flow.clear()
    for _ in range(count):
        flow.client = (flow.client[0], flow.world.port())
        flow.at_client.send(make(flow))
    end = time.monotonic() + 0.5 * kernel.SLOW
    seen = []
    while len(seen) < count and time.monotonic() < end:
        seen += [one.flow for one in flow.at_server.heard()]
        time.sleep(0.01)
    return seen


def hello(flow):
    """A datagram that opens a connection."""
    return wire.udp_request(flow, b"hello")


def syn(flow):
    """A segment that opens a connection."""
    return wire.tcp_request(flow, SYN)


def listed(world, kind, port):
    """{local address: (connections, exhausted)} of a service as the command lists them."""
    found = {}
    for line in world.adm(f"-G {kind} {VIP}:{port} -n").splitlines():
        word = line.split()
        if word[0] == "->" and word[1] in LADDRS:
            found[word[1]] = (int(word[2]), int(word[3]))
    return found


@each("tcp", "udp")
def test_exhaustion(world, proto):
    """Each tuple is used, then the next connection is dropped and counted, and logged with restraint."""
    need_rlvs()
    kind, make = ("-t", syn) if proto == "tcp" else ("-u", hello)
    log = kernel.Log()
    with world.settings(**NARROW):
        port = world.service("fullnat", [(SERVER, 7000)], proto=proto)
        with Flow(world, port, proto) as flow:
            seen = open_many(flow, 32, make)
            sources = {source for source, _ in seen}
            expected = {(laddr, lport) for laddr in LADDRS[:2] for lport in range(5000, 5016)}
            assert sources == expected and len(seen) == 32, \
                f"{len(seen)} arrived, unused: {sorted(expected - sources)}"
            # Towards the end one of them may have had to pass a connection on to the other.
            full = listed(world, kind, port)
            assert [full[laddr][0] for laddr in LADDRS[:2]] == [16, 16], full
            # What another test had logged must not hold back what this one is to log.
            time.sleep(1.1)
            before, start = world.counters()["laddr_exhausted"], time.monotonic()
            assert not open_many(flow, 100, make), "more connections than tuples"
            assert not flow.at_client.heard(), "a dropped opening is not answered"
            assert world.counters()["laddr_exhausted"] - before == 100
            assert len(world.conns(port)) == 32
            told = listed(world, kind, port)
            assert told == {laddr: (16, full[laddr][1] + 100) for laddr in LADDRS[:2]}, (full, told)
            lines = [line for line in log.new() if "rlvs" in line]
            allowed = 2 + time.monotonic() - start
            assert 1 <= len(lines) <= allowed, f"{len(lines)} log lines for 100 packets: {lines[:4]}"
            # What is open goes on.
            flow.client = world.conns(port)[0].client
            assert flow.request(make(flow)).flow in seen


def test_recovery(world):
    """Tuples come back when their connections end, all of them."""
    need_rlvs()
    world.adm("--set 0 0 2")
    try:
        with world.settings(**NARROW):
            port = world.service("fullnat", [(SERVER, 7001)], proto="udp")
            with Flow(world, port, "udp") as flow:
                for _ in range(2):
                    assert len(set(open_many(flow, 40, hello))) == 32
                    wait_for(lambda: not world.conns(port), 20, 0.2, "the connections to end")
                    wait_for(lambda: listed(world, "-u", port)[LADDRS[0]][0] == 0, 20, 0.2,
                             "the tuples to come back")
    finally:
        world.adm("--set 0 0 300")


def test_per_server(world):
    """Two servers take the same tuples independently of each other."""
    need_rlvs()
    with world.settings(**NARROW):
        port = world.service("fullnat", [(addr, 7002) for addr in GHOST_SERVERS[:2]], proto="udp")
        with Flow(world, port, "udp") as flow:
            seen = open_many(flow, 64, hello)
            for server in GHOST_SERVERS[:2]:
                sources = [source for source, dest in seen if dest == (server, 7002)]
                assert len(set(sources)) == len(sources) == 32, f"{server}: {len(sources)}"


def test_shared_by_services(world):
    """Two services with one server share its tuples, as the server could not tell them apart."""
    need_rlvs()
    with world.settings(**NARROW):
        ports = [world.service("fullnat", [(SERVER, 7003)], proto="udp") for _ in range(2)]
        seen = []
        for port in ports:
            with Flow(world, port, "udp") as flow:
                seen += open_many(flow, 20, hello)
        assert len(seen) == len(set(seen)) == 32, f"{len(seen)} connections, {len(set(seen))} tuples"


@each("rr", "wrr", "lc")
def test_spread(world, sched):
    """Connections spread over the local addresses, for each server, whatever the scheduler's rhythm."""
    need_rlvs()
    port = world.service("fullnat", [(addr, 7004) for addr in GHOST_SERVERS[:2]], proto="udp",
                         sched=sched, laddrs=LADDRS)
    with Flow(world, port, "udp") as flow:
        seen = open_many(flow, 160, hello)
        assert len(seen) == 160
        for server in GHOST_SERVERS[:2]:
            got = [source for (source, _), (addr, _) in seen if addr == server]
            shares = {laddr: got.count(laddr) for laddr in LADDRS}
            assert all(count >= 5 for count in shares.values()), f"{server}: {shares}"


def test_ports_rest(world):
    """A port that has become free is not the next to be used."""
    need_rlvs()
    world.adm("--set 0 0 1")
    try:
        port = world.service("fullnat", [(SERVER, 7005)], proto="udp", laddrs=LADDRS[:1])
        with Flow(world, port, "udp") as flow:
            used = []
            for _ in range(3):
                used += open_many(flow, 3, hello)
                wait_for(lambda: not world.conns(port), 20, 0.2)
            assert len(set(used)) == 9, f"used again at once: {used}"
    finally:
        world.adm("--set 0 0 300")


def test_range(world):
    """Ports outside the range are never used; a range that makes no sense is refused."""
    need_rlvs()
    with world.settings(fullnat_lport_min=61000, fullnat_lport_max=61003):
        port = world.service("fullnat", [(SERVER, 7006)], proto="udp", laddrs=LADDRS[:1])
        with Flow(world, port, "udp") as flow:
            seen = open_many(flow, 4, hello)
            assert {lport for (_, lport), _ in seen} == {61000, 61001, 61002, 61003}
    for name, value in (("fullnat_lport_min", 70000), ("fullnat_lport_max", -1), ("fullnat_toa_kind", 256)):
        before = world.setting(name)
        try:
            world.setting(name, value)
        except OSError:
            pass
        assert world.setting(name) == before, f"{name} is {world.setting(name)}"


def test_add_and_delete(world):
    """An added address is used, a deleted one is not; connections that hold it go on."""
    need_rlvs()
    with world.settings(**NARROW):
        port = world.service("fullnat", [(SERVER, 7007)], proto="udp", laddrs=LADDRS[:1])
        with Flow(world, port, "udp") as flow:
            assert len(open_many(flow, 20, hello)) == 16
            world.adm(f"-P -u {VIP}:{port} -z {LADDRS[1]}")
            seen = open_many(flow, 3, hello)
            assert [source[0] for source, _ in seen] == [LADDRS[1]] * 3
            held = flow.client
            world.adm(f"-Q -u {VIP}:{port} -z {LADDRS[1]}")
            assert not open_many(flow, 3, hello), "a deleted address was used"
            flow.client = held
            assert flow.request(hello(flow)).src == LADDRS[1]
            flow.reply(wire.udp_reply(flow, b"answer"))
            assert set(listed(world, "-u", port)) == {LADDRS[0]}


def test_no_conflict_with_the_past(world):
    """A service deleted and added again does not give out what its old connections still hold."""
    need_rlvs()
    with world.settings(**NARROW):
        port = world.service("fullnat", [(SERVER, 7008)], proto="udp", laddrs=LADDRS[:1])
        with Flow(world, port, "udp") as flow:
            old = open_many(flow, 10, hello)
            world.adm(f"-D -u {VIP}:{port}")
            world.service("fullnat", [(SERVER, 7008)], port=port, proto="udp", laddrs=LADDRS[:1])
            new = open_many(flow, 10, hello)
            assert not set(old) & set(new), f"given out twice: {sorted(set(old) & set(new))}"
            assert len(new) == 6, f"{len(new)} connections, 6 tuples were left"


def test_masq_with_laddrs(world):
    """A -m destination of a service with local addresses is FullNAT; ipvsadm is told Masq."""
    need_rlvs()
    port = world.port()
    world.adm("-R", stdin=f"-A -u {VIP}:{port} -s rr\n-P -u {VIP}:{port} -z {LADDRS[0]}\n"
              f"-a -u {VIP}:{port} -r {SERVER}:7009 -m\n")
    with Flow(world, port, "udp") as flow:
        assert flow.request(hello(flow)).src == LADDRS[0]
        assert flow.reply(wire.udp_reply(flow, b"back")).src == VIP
    assert "FullNat" in world.adm(f"-Ln -u {VIP}:{port}")
    stock = world.director.run("ipvsadm", "-Ln", "-u", f"{VIP}:{port}").stdout
    assert "Masq" in stock and "FullNat" not in stock, stock
    # Without its last local address the service forwards by NAT.
    world.adm(f"-Q -u {VIP}:{port} -z {LADDRS[0]}")
    with Flow(world, port, "udp") as flow:
        assert flow.request(hello(flow)).src == flow.client[0]


def test_fullnat_without_laddr(world):
    """A FullNAT destination without any local address takes nothing, rather than forward in another way."""
    need_rlvs()
    port = world.service("fullnat", [(SERVER, 7010)], proto="udp", laddrs=[])
    with Flow(world, port, "udp") as flow:
        assert not open_many(flow, 2, hello)
    world.adm(f"-P -u {VIP}:{port} -z {LADDRS[2]}")
    with Flow(world, port, "udp") as flow:
        assert flow.request(hello(flow)).src == LADDRS[2]


def test_stray_packets_to_a_local_address(world):
    """What comes to a local address and belongs to no connection is the director's own business."""
    need_rlvs()
    world.service("fullnat", [(SERVER, 7011)], proto="udp")
    with Tap(world.server, "s0") as at_server, Tap(world.client, "c0") as at_client:
        segment = packet.tcp(SERVER, LADDRS[0], 7011, 4444, ACK)
        at_server.send(packet.ip(SERVER, LADDRS[0], packet.TCP, segment))
        answer = at_server.wait()
        assert answer.src == LADDRS[0] and answer.flags & packet.RST, answer
        at_client.silent()
