# SPDX-License-Identifier: GPL-2.0
"""What has broken other balancers: devices that go, packets that others hold too, headers where none were expected.

docs/hardening.md names the bugs and for each the tests that would show it here.
"""

import contextlib
import importlib
import mmap
import os
import re
import socket
import struct
import threading
import time

import farm
import files
import fwmark
import genl
import kernel
import lib
import parity_craft as craft
import parity_errors
import parity_flows
import persist
import wire
from fullnat_stage import Translated
from lib import GHOST_CLIENTS, GHOST_SERVERS, TOP, VIP, Flow, Skip, each, need_rlvs
from packet import PSH, SYN, TCP, UDP, ip, tcp, udp
from parity_stage import Scene, Stage, colons
from process import Process

WAYS = ("nat-44", "nat-66", "fullnat-44", "fullnat-66", "dr-44", "dr-66", "ipip-44", "ipip-66", "ipip-46", "ipip-64",
        "gre-44", "gue-66")
each_way = each(*WAYS)
each_few = each("nat-44", "nat-66", "fullnat-44", "fullnat-66", "dr-66", "ipip-44", "gue-66", "ipip-64")


def parts(variant):
    """(kind of scene, (method, family of the service, family of the servers)). FullNAT is NAT in its own scenes."""
    method, families = variant.rsplit("-", 1)
    kind = Scene
    if method == "fullnat":
        need_rlvs()
        kind, method = Translated, "nat"
    return kind, (method, int(families[0]), int(families[1]))


@contextlib.contextmanager
def stage(offload=False):
    """A stage; its services are gone before its devices."""
    made = Stage(offload)
    try:
        yield made
    finally:
        made.adm.run(["-C"])
        made.close()


def arrives(scene, told):
    """Asserts that something has reached a server; returns the text."""
    found = [line for line in told if line.startswith("s to server")]
    assert found, f"nothing has reached a server: {told}"
    return found[0]


def right(scene):
    """Asserts that no packet that left has a wrong checksum."""
    wrong = [step for step in scene.steps if "wrong" in step[1].lower() and "wrong" not in step[0]]
    assert not wrong, wrong


# -- devices and routes that go


def neighbours(made):
    """Gives the stage its neighbours behind s again, which a device that went down has forgotten."""
    made.place.ip("link set s up", *(f"neigh replace {addr} lladdr {colons(mac)} dev s nud permanent"
                               for number, mac in ((11, "02000000020b"), (14, "02000000020e"))
                               for addr in (f"10.2.0.{number}", f"2001:db8:2::{number}")))


@each_few
def test_link_flaps(_, variant):
    """Under traffic the servers' device goes down and comes up, and in the end goes for good: nothing holds it."""
    kind, way = parts(variant)
    method, family, outer = way
    made = Stage()
    over = threading.Event()
    try:
        with made.place:
            with open("/proc/sys/net/ipv6/conf/s/keep_addr_on_down", "w", encoding="ascii") as file:
                file.write("1")
        scene = kind(made, family)
        flow = parity_flows.Flow(scene, "udp", method, outer)
        flow.service()
        arrives(scene, scene.c("opens", flow.first()))
        packets = [parity_flows.Flow(scene, "udp", method, outer, number=number).first() for number in range(1, 9)]

        def pour():
            while not over.is_set():
                for data in packets:
                    made.client.put(data)
                time.sleep(0.001)

        thread = threading.Thread(target=pour)
        thread.start()
        try:
            for _ in range(3):
                made.place.ip("link set s down")
                time.sleep(0.01)
                neighbours(made)
                time.sleep(0.01)
            made.server.got()
            lib.wait_for(made.server.got, about="packets after the device came back")
            # Closing the last descriptor deletes the device, which waits for whoever holds it.
            closing = threading.Thread(target=os.close, args=(made.server.fd,), daemon=True)
            closing.start()
            closing.join(8 * kernel.SLOW)
            assert not closing.is_alive(), "the device is held by somebody"
        finally:
            over.set()
            thread.join()
        made.client.got()
        made.client.put(packets[0])
    finally:
        made.adm.run(["-C"])
        made.adm.close()
        os.close(made.client.fd)
        made.place.close()


@each_way
def test_no_route(_, variant):
    """No route to a server, for clients and for the director's own packets: they are told, and nothing breaks."""
    kind, way = parts(variant)
    with stage() as made:
        scene = kind(made, way[1])
        parity_errors.unreachable(scene, way, "udp")
        right(scene)
        told = dict(scene.steps)["client: opens"]
        assert "ICMP" in told, f"nobody was told: {told}"


# -- packets that somebody else holds


class Sniffer:
    """Holds a reference to whatever passes a device, as tcpdump does."""

    def __init__(self, made, device):
        with made.place:
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.sock.bind((device, 3))
        self.sock.setblocking(False)

    def heard(self):
        """The IP packets it has."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.sock.recv(70000)[14:])
        return found


@each("nat-44", "nat-66", "fullnat-44", "fullnat-66", "dr-44", "ipip-44", "ipip-66", "ipip-46")
def test_clones(_, variant):
    """What tcpdump and a mirroring port have of a packet stays as it came, whatever is made of the packet."""
    kind, way = parts(variant)
    method, family, outer = way
    with stage() as made:
        made.place.ip("link add name mirror type dummy", "link set mirror up")
        with made.place:
            lib.run("tc", "qdisc", "add", "dev", "c", "clsact")
            lib.run("tc", "filter", "add", "dev", "c", "ingress", "matchall", "action", "mirred", "egress", "mirror",
                    "dev", "mirror")
            lib.run("tc", "qdisc", "add", "dev", "s", "clsact")
            lib.run("tc", "filter", "add", "dev", "s", "egress", "matchall", "action", "mirred", "egress", "mirror",
                    "dev", "mirror")
        for proto in ("tcp", "udp", "sctp"):
            scene = kind(made, family)
            flow = parity_flows.Flow(scene, proto, method, outer)
            flow.service()
            sniffers = [Sniffer(made, device) for device in ("c", "mirror")]
            told = scene.c("opens", flow.first())
            arrives(scene, told)
            sent = [flow.data(size, ttl=33) for size in (0, 9, 1000)]
            for data in sent:
                made.client.put(data)
            told = made.server.got()
            assert len(told) == 3, told
            for sniffer in sniffers:
                heard = sniffer.heard()
                missing = [data for data in sent if data not in heard]
                assert not missing, f"{proto}: another one sees {heard}, not {missing}"
                sniffer.sock.close()
            if method == "nat":
                back = flow.back(ttl=44)
                sniffer = Sniffer(made, "s")
                made.server.put(back)
                assert len(made.client.got()) == 1
                assert back in sniffer.heard(), "an answer was changed under its sniffer"
                sniffer.sock.close()
            right(scene)


@each("nat-44", "nat-66", "fullnat-44", "fullnat-66", "dr-44", "ipip-44", "gue-66")
def test_paged(_, variant):
    """Packets of whose headers nothing but Ethernet's is in the linear part."""
    kind, way = parts(variant)
    method, family, outer = way
    with stage() as made:
        made.place.ip("link set c mtu 9000", "link set s mtu 9200")
        for proto in ("tcp", "udp"):
            scene = kind(made, family)
            flow = parity_flows.Flow(scene, proto, method, outer)
            flow.service()
            arrives(scene, scene.c("opens", flow.first()))
            # The length of the headers decides how much a device of this kind makes linear.
            vnet = struct.pack("=BBHHHH", 0, 0, 14, 0, 0, 0)
            told = scene.c("large", flow.data(8000), vnet=vnet)
            assert "8000 bytes" in arrives(scene, told) and len(told) == 1, told
            if method == "nat":
                told = scene.s("large", flow.back(8000), vnet=vnet)
                assert len(told) == 1 and "8000 bytes" in told[0], told
            right(scene)


def test_double_fetch(world):
    """The header's length changes in memory that the sender still has, while the packet is on its way."""
    port = world.service("nat", [(GHOST_SERVERS[0], 8080)])
    upd = world.service("nat", [(GHOST_SERVERS[0], 8080)], proto="udp")
    client = GHOST_CLIENTS[0]
    frames = [tcp(client, VIP, 4000, port, SYN), tcp(client, VIP, 4000, port, PSH, payload=bytes(200)),
              udp(client, VIP, 4000, upd, bytes(300))]
    packets = [ip(client, VIP, proto, body) for proto, body in zip((TCP, TCP, UDP), frames)]
    count, size = 32, 2048
    with world.client:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with sock, lib.Flow(world, port) as flow:
        sock.setsockopt(263, 10, struct.pack("=i", 1))  # SOL_PACKET, PACKET_VERSION: TPACKET_V2
        sock.setsockopt(263, 13, struct.pack("=IIII", 4096, count // 2, size, count))  # PACKET_TX_RING
        sock.bind(("c0", 0x0800))
        ring = mmap.mmap(sock.fileno(), count * size)
        # TPACKET2_HDRLEN without the address behind it.
        data = 32
        for slot in range(count):
            frame = flow.at_client.head[:12] + b"\x08\x00" + packets[slot % len(packets)]
            ring[slot * size + data:slot * size + data + len(frame)] = frame
            ring[slot * size:slot * size + 12] = struct.pack("=III", 0, len(frame), 0)

        def mutate():
            end = time.monotonic() + 2 * kernel.SLOW
            spots = [slot * size + data + 14 + at for slot in range(count) for at in (0, 2, 3, 6, 9, 32)]
            values = bytes((0x45, 0x4F, 0x40, 0x46, 0x00, 0xFF, 0x50, 0xF0))
            number = 0
            while time.monotonic() < end:
                for spot in spots:
                    number += 1
                    kept = ring[spot]
                    ring[spot] = values[number % len(values)]
                    ring[spot] = kept
            return number

        child = Process(mutate)
        end, sent = time.monotonic() + 2 * kernel.SLOW, 0
        while time.monotonic() < end:
            for slot in range(count):
                status = struct.unpack("=I", ring[slot * size:slot * size + 4])[0]
                if status in (0, 4):  # TP_STATUS_AVAILABLE, TP_STATUS_WRONG_FORMAT
                    ring[slot * size:slot * size + 4] = struct.pack("=I", 1)  # TP_STATUS_SEND_REQUEST
            with contextlib.suppress(OSError):
                sock.send(b"")
            sent += 1
        assert child.result() > 1000
        assert sent > 10, f"only {sent} rounds were sent"
        ring.close()
    seen = 0
    with Flow(world, port, client=client) as flow:
        wire.open_tcp(flow)
        seen += 1
    assert seen


# -- headers where none were expected


@each("nat-66", "fullnat-66", "dr-66", "ipip-66", "gre-66", "gue-66", "ipip-64")
def test_extension_headers(_, variant):
    """Extension headers before TCP, UDP, SCTP and in errors: the transport is found behind them, and nothing else."""
    kind, way = parts(variant)
    with stage() as made:
        for names in (("hop",), ("dst",), ("long",), ("hop", "routing", "atomic", "dst")):
            scene = kind(made, 6)
            parity_flows.headers(scene, way, names)
            right(scene)
            steps = dict(scene.steps)
            for proto, port in (("tcp", "> 8080"), ("udp", "> 8080"), ("sctp", "> 8080")):
                told = arrives(scene, steps[f"client: {proto} data"].splitlines())
                wanted = f"{proto.upper()} 5001 " + (port if way[0] == "nat" else "> 80")
                assert wanted in told and "sum right" in told, told


@each("nat-44", "nat-66", "fullnat-44", "fullnat-66", "dr-44", "ipip-44", "ipip-66", "ipip-46", "ipip-64", "gre-44",
      "gre-66", "gre-csum-44", "gue-44", "gue-66", "gue-46")
def test_truncated_errors(_, variant):
    """ICMP errors that end at every byte of what they are about, tunnels and options included."""
    kind, way = parts(variant)
    with stage() as made:
        scene = kind(made, way[1])
        parity_errors.cut(scene, way, "udp")
        parity_errors.nested(kind(made, way[1]), way)
        arrives(scene, dict(scene.steps)["client: data"].splitlines())
        right(scene)


@each("nat-44", "fullnat-44", "dr-44", "ipip-44", "gre-44", "gue-44")
def test_options_in_errors(_, variant):
    """Packets with options of IPv4 for which the director itself has to tell of an error."""
    kind, way = parts(variant)
    with stage() as made:
        for name in craft.OPTIONS:
            scene = kind(made, 4)
            parity_flows.ip_options(scene, way, name)
            narrow = parity_flows.Flow(scene, "udp", way[0], narrow=True, vport=81)
            narrow.service()
            told = scene.c("too big", narrow.data(1400, options=name))
            if name not in ("loose",):
                assert any("ICMPv4 3/4" in line for line in told), told
            right(scene)
        scene = kind(made, 4)
        parity_errors.nested(scene, way)
        right(scene)


# -- memory that strangers fill


# Clients' targets: addresses of the director that nobody has asked for before.
TARGETS = "10.128.0.0/16"
# So many addresses are remembered at most.
MOST = 24576


@each("lblc", "lblcr")
def test_cache_is_bounded(world, sched):
    """A flood of invented addresses does not grow what these schedulers remember without end: of more than there is
    room for nobody knows afterwards to whom they went, and those before them are not forgotten for that."""
    if kernel.DEBUG and sched == "lblcr":
        raise Skip("it shares its memory with lblc, and so many take a minute there")
    # UDP leaves no connections, TCP does.
    service = genl.service(1, sched=sched.encode() + b"\0", flags=persist.ONE_PACKET)
    dests = [genl.dest(addr, 0, 1000) for addr in GHOST_SERVERS[:2]]
    world.director.ip(f"route replace local {TARGETS} dev lo")
    with fwmark.configured(world, service, *dests), Flow(world, 80) as flow, \
            fwmark.marked(world, f"ip daddr {TARGETS} meta mark set 1"):
        def servers(target, count):
            """To whom so many connections to an address go: the first one to who has fewer."""
            client = GHOST_CLIENTS[0]
            packets = [ip(client, target, TCP, tcp(client, target, world.port(), 80, SYN)) for _ in range(count)]
            return {flow.to_server(data).dst for data in packets}
        early = servers("10.128.200.1", 3)
        assert len(early) == 1, f"{sched} does not remember: {early}"
        generator = files.Generator(world, 53)
        # What becomes of them afterwards is of no interest, and takes as long again.
        world.director.run("nft", "-f", "-", stdin="table ip unsent { chain output {"
                           " type filter hook output priority 0; ip protocol udp drop; }; }\n")
        try:
            for line in ("dst_min 10.128.0.1", f"dst_max 10.128.{MOST >> 8}.0", "src_min 10.64.0.1",
                         "src_max 10.64.0.1", "udp_src_min 1024", "udp_src_max 1025", f"count {MOST}"):
                generator.write("dc", line)
            generator.write("pgctrl", "start")
        finally:
            world.director.run("nft", "delete", "table", "ip", "unsent")
            generator.close()
        assert len(servers("10.128.200.2", 9)) == 2, f"after {MOST} addresses yet another is remembered"
        assert servers("10.128.200.1", 3) == early, "it has forgotten"


# -- what must not leave this host, nor come in


def director_sends(world, addr, port):
    """The director's own datagram to the VIP, from one of its addresses."""
    with world.director, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((addr, 0))
        # Who is told that it was dropped is told no more than that.
        with contextlib.suppress(PermissionError):
            sock.sendto(b"own", (VIP, port))


@each("nat", "dr", "ipip")
def test_loopback(world, method):
    """What has an address of the loopback network as its source does not leave for a server."""
    farm.prepare(world)
    dport = 53 if method == "nat" else 0
    with farm.service(world, farm.V4, [(GHOST_SERVERS[0], dport)], proto="udp",
                      method={"nat": 0, "ipip": 2, "dr": 3}[method]) as port, Flow(world, port, "udp") as flow:
        for addr in ("10.1.0.1", "127.0.0.1"):
            flow.clear()
            director_sends(world, addr, port)
            if addr == "127.0.0.1":
                flow.at_server.silent()
            else:
                flow.at_server.wait()


def test_loopback_server(world):
    """A server on the loopback network is there for this host's own clients, and not for others."""
    with world.director, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inner, Flow(world, 0, "udp") as flow:
        inner.bind(("127.0.0.1", 0))
        inner.settimeout(8 * kernel.SLOW)
        flow.vport = world.service("nat", [inner.getsockname()], proto="udp")
        director_sends(world, "127.0.0.1", flow.vport)
        assert inner.recv(100) == b"own"
        flow.at_client.send(wire.udp_request(flow, b"foreign"))
        inner.settimeout(0.2 * kernel.SLOW)
        with contextlib.suppress(TimeoutError):
            raise AssertionError(f"who listens there got {inner.recv(100)}")


def test_nodefrag(world):
    """What a raw socket sends that wants no fragment touched (IP_NODEFRAG) is not balanced."""
    # An address that is not the director's: what goes out to that does not come back in.
    world.director.ip(f"route replace {fwmark.FAR} dev ds")
    with fwmark.mark_service(world, 10, 53), Flow(world, 53, "udp") as flow, \
            world.director, socket.socket(socket.AF_INET, socket.SOCK_RAW, UDP) as sock:
        sock.setsockopt(socket.SOL_SOCKET, 36, 10)  # SO_MARK
        for nodefrag in (0, 1, 0):
            sock.setsockopt(socket.IPPROTO_IP, 22, nodefrag)  # IP_NODEFRAG
            flow.clear()
            sock.sendto(udp("10.2.0.1", fwmark.FAR, world.port(), 53, b"own"), (fwmark.FAR, 0))
            if nodefrag:
                flow.at_server.silent(lambda seen: seen.dst == fwmark.SERVER)
            else:
                flow.at_server.wait(lambda seen: seen.dst == fwmark.SERVER)


# -- the table


def test_table(_):
    """Each bug in docs/hardening.md has tests, and those tests exist."""
    with open(f"{TOP}/docs/hardening.md", encoding="utf-8") as file:
        rows = [line for line in file if line.startswith("| ") and not line.startswith(("| bug", "|--"))]
    assert len(rows) >= 24, f"{len(rows)} rows"
    for row in rows:
        names = re.findall(r"`(\w+\.\w+)`", row.split("|")[3])
        assert names or "none:" in row.split("|")[3], f"no test: {row}"
        for name in names:
            part, test = name.split(".")
            if os.path.isdir(f"{TOP}/rlvs/core/src/{part}"):
                continue
            found = importlib.import_module(part)
            assert hasattr(found, f"test_{test}"), f"there is no test {name}"


