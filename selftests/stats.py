# SPDX-License-Identifier: GPL-2.0
"""Counters that equal what was sent, and the files in /proc to the byte."""

import re
import time

import wire
from lib import (
    GHOST_SERVERS,
    LADDRS,
    RLVS,
    SERVERS,
    VIP,
    Flow,
    Stats,
    each_method,
    hexed,
    settled,
    wait_for,
)
from packet import ACK, SYN

HEAD = """IP Virtual Server version 1.2.1 (size=SIZE)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
"""


def exchange(flow, sizes_in, sizes_out):
    """Sends datagrams of these payload sizes; returns (bytes in, bytes out) as IP counts them."""
    for size in sizes_in:
        flow.request(wire.udp_request(flow, bytes(size)))
    for size in sizes_out:
        flow.reply(wire.udp_reply(flow, bytes(size)))
    return sum(28 + size for size in sizes_in), sum(28 + size for size in sizes_out)


@each_method
def test_udp_counters(world, method):
    """Destination, service and total count each packet and byte, both ways."""
    port = world.service(method, [(addr, 53) for addr in GHOST_SERVERS[:2]], proto="udp")
    before = world.stats()
    rows = {}
    for number in range(4):
        with Flow(world, port, "udp") as flow:
            into, out = exchange(flow, range(number, number + 5), [100, 1000 + number])
            row = rows.setdefault(flow.server[0], [0] * 5)
            rows[flow.server[0]] = [a + b for a, b in zip(row, (1, 5, 2, into, out))]
    expected = [Stats(*rows[addr]) for addr in GHOST_SERVERS[:2]]
    summed = Stats(*map(sum, zip(*expected)))
    settled(lambda: udp_stats(world, port), (summed, expected))
    settled(lambda: Stats(*(after - old for after, old in zip(world.stats(), before))), summed)


def udp_stats(world, port):
    """(service, [destinations by address]) of a UDP service."""
    listing = world.adm(f"-Ln -u {VIP}:{port} --stats --exact").splitlines()[2:]
    service, *dests = [line.split() for line in listing]
    dests.sort(key=lambda word: word[1])
    return Stats(*map(int, service[2:7])), [Stats(*map(int, word[2:7])) for word in dests]


@each_method
def test_tcp_counters(world, method):
    """What is counted is what clients and servers sent: TOA is the balancer's own."""
    port = world.service(method, [(GHOST_SERVERS[0], 80)])
    with Flow(world, port) as flow:
        wire.open_tcp(flow)
        data = bytes(1000)
        flow.request(wire.tcp_request(flow, ACK, 1001, 5007, data))
        flow.reply(wire.tcp_reply(flow, ACK, 5007, 2001))
    # SYN, ACK, ACK, data; SYN-ACK, banner, ACK: with 20 bytes of options in each SYN.
    sent = Stats(1, 4, 3, 60 + 40 + 40 + 1040, 60 + 46 + 40)
    settled(lambda: world.listed_stats(port), (sent, [sent]))


def test_dropped_is_not_counted_as_connection(world):
    """A connection that no server takes is none."""
    port = world.service("nat", [(GHOST_SERVERS[0], 80, 0)])
    with Flow(world, port) as flow:
        flow.at_client.send(wire.tcp_request(flow, SYN))
        flow.at_server.silent()
    service, _ = world.listed_stats(port)
    assert service.conns == 0


@each_method
def test_zero(world, method):
    """-Z sets what is shown to zero, and counting goes on from there; connections stay."""
    port = world.service(method, [(GHOST_SERVERS[0], 53)], proto="udp")
    with Flow(world, port, "udp") as flow:
        into, out = exchange(flow, [10, 20], [30])
        settled(lambda: udp_stats(world, port)[0], Stats(1, 2, 1, into, out))
        world.adm(f"-Z -u {VIP}:{port}")
        nothing = Stats(0, 0, 0, 0, 0)
        assert udp_stats(world, port) == (nothing, [nothing])
        assert world.stats() != nothing, "the total is not this service's"
        assert len(world.conns(port)) == 1
        into, out = exchange(flow, [5], [6, 7])
        again = Stats(0, 1, 2, into, out)
        settled(lambda: udp_stats(world, port), (again, [again]))
        world.adm("-Z")
        assert udp_stats(world, port) == (nothing, [nothing])
        assert world.stats() == nothing


@each_method
def test_counters_outlive_destinations(world, method):
    """What a deleted destination has carried stays in the service and in the total."""
    port = world.service(method, [(addr, 53) for addr in GHOST_SERVERS[:2]], proto="udp")
    for _ in range(2):
        with Flow(world, port, "udp") as flow:
            exchange(flow, [10], [20])
    one, both = Stats(1, 1, 1, 38, 48), Stats(2, 2, 2, 76, 96)
    settled(lambda: udp_stats(world, port), (both, [one, one]))
    total = world.stats()
    world.adm(f"-d -u {VIP}:{port} -r {GHOST_SERVERS[0]}:53")
    assert udp_stats(world, port) == (both, [one])
    world.adm(f"-D -u {VIP}:{port}")
    assert world.stats() == total


def test_proc_ip_vs(world):
    """/proc/net/ip_vs has mainline's columns to the byte."""
    world.adm("-C")
    tcp = world.service("nat", [(SERVERS[0], 8080, 3), (SERVERS[1], 8080, 65535)], port=80, sched="wrr")
    udp = world.service("nat", [(GHOST_SERVERS[0], 53)], port=53, proto="udp", sched="rr")
    with Flow(world, udp, "udp") as flow:
        exchange(flow, [1], [])
    seen = world.director.proc("ip_vs")
    size = re.match(r"IP Virtual Server version 1\.2\.1 \(size=(\d+)\)\n", seen)
    assert size, seen
    head = HEAD.replace("SIZE", size.group(1))
    assert seen.startswith(head), seen
    blocks = [
        f"TCP  {hexed(VIP, tcp)} wrr  \n",
        f"  -> {hexed(SERVERS[0], 8080)}      Masq    3      0          0         \n",
        f"  -> {hexed(SERVERS[1], 8080)}      Masq    65535  0          0         \n",
        f"UDP  {hexed(VIP, udp)} rr  \n",
        f"  -> {hexed(GHOST_SERVERS[0], 53)}      Masq    1      0          1         \n",
    ]
    # Neither the services' order nor the destinations' is promised.
    assert sorted(seen[len(head):].splitlines(True)) == sorted(blocks), seen
    world.adm("-C")


def percpu(world):
    """The sums of the processors' rows in ip_vs_stats_percpu."""
    rows = [line.split() for line in world.director.proc("ip_vs_stats_percpu").splitlines()[2:]]
    rows = rows[:next(n for n, row in enumerate(rows) if row[0] == "~")]
    return [sum(int(word, 16) for word in column) for column in list(zip(*rows))[1:]]


def test_proc_ip_vs_stats(world):
    """/proc/net/ip_vs_stats and ip_vs_stats_percpu have mainline's columns to the byte, in hexadecimal."""
    port = world.service("nat", [(GHOST_SERVERS[0], 53)], proto="udp")
    if not RLVS:
        time.sleep(2.5)  # what ip_vs has not summed yet would come after the zero
    world.adm("-Z")
    before = percpu(world)
    with Flow(world, port, "udp") as flow:
        into, out = exchange(flow, [1000] * 11, [500] * 12)
    row = f"{1:8X} {11:8X} {12:8X} {into:16X} {out:16X}\n"
    settled(lambda: world.director.proc("ip_vs_stats").splitlines(True)[2], row)
    seen = world.director.proc("ip_vs_stats")
    assert seen.startswith("   Total Incoming Outgoing         Incoming         Outgoing\n"
                           "   Conns  Packets  Packets            Bytes            Bytes\n"
                           + row + "\n"
                           " Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n"), seen
    rate = r"[ 0-9A-F]{8} [ 0-9A-F]{8} [ 0-9A-F]{8} [ 0-9A-F]{16} [ 0-9A-F]{16}\n"
    assert re.fullmatch(rate, seen.splitlines(True)[5]) and len(seen.splitlines()) == 6, seen
    seen = world.director.proc("ip_vs_stats_percpu").splitlines(True)
    assert seen[:2] == ["       Total Incoming Outgoing         Incoming         Outgoing\n",
                        "CPU    Conns  Packets  Packets            Bytes            Bytes\n"], seen
    total = seen.index("  ~ " + row)
    assert [int(line.split()[0], 16) for line in seen[2:total]] == list(range(total - 2))
    # Here -Z changes nothing: each processor's counters have been running since the module was loaded.
    assert [new - old for new, old in zip(percpu(world), before)] == [1, 11, 12, into, out]
    assert seen[total + 1:total + 3] == [
        "\n", "     Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n"]
    assert re.fullmatch("    " + rate, seen[total + 3])


@each_method
def test_proc_ip_vs_conn(world, method):
    """/proc/net/ip_vs_conn has mainline's columns to the byte."""
    port = world.service(method, [(GHOST_SERVERS[0], 8080)])
    with Flow(world, port) as flow:
        flow.request(wire.tcp_request(flow, SYN))
        text = world.director.proc("ip_vs_conn")
    head, *rows = text.splitlines(True)
    assert head == ("Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n")
    ends = " ".join(hexed(*end).replace(":", " ")
                    for end in (flow.client, (VIP, port), (GHOST_SERVERS[0], 8080)))
    row, = [row for row in rows if f" {port:04X} " in row]
    assert re.fullmatch(f"TCP {ends} SYN_RECV         (60|5[0-9])\n", row), repr(row)
    assert LADDRS[0] not in text


def test_rates(world):
    """The rates rise with the traffic and fall when it ends."""
    port = world.service("nat", [(GHOST_SERVERS[0], 53)], proto="udp")

    def rate():
        return int(world.adm(f"-Ln -u {VIP}:{port} --rate").splitlines()[2].split()[3])

    with Flow(world, port, "udp") as flow:
        def busy():
            exchange(flow, [1] * 40, [])
            return rate() > 0
        wait_for(busy, 10, about="packets a second to show")
    high = rate()
    wait_for(lambda: rate() < high / 2, 30, 0.5, about="the rate to fall")
