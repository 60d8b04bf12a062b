# SPDX-License-Identifier: GPL-2.0
"""Connection synchronisation: what the daemons say and take over, in mainline's messages, and that a client notices
nothing when another director goes on.
"""

import contextlib
import random
import re
import select
import socket
import struct
import subprocess
import time

import farm
import genl
import kernel
import packet
import wire
from farm import V4, V6
from genl import Genl, Refused
from lib import CLIENT, RLVS, TOOL, VIP, CommandFailed, Flow, Namespace, Skip, each, need_rlvs, run, wait_for
from packet import ACK, FIN, PSH, RST, SYN
from sync_peer import (
    BACKUP,
    CLOSE_WAIT,
    DIRECT,
    ESTABLISHED,
    FIN_WAIT,
    GROUP,
    GROUP6,
    INACTIVE,
    MASTER,
    NAT,
    NO_CPORT,
    NO_OUTPUT,
    ONE_PACKET,
    PORT,
    SEQ,
    SERVER,
    TEMPLATE,
    TUNNEL,
    Entry,
    Peer,
    attrs,
    daemon,
    entry,
    known,
    listed,
    message,
    old_entry,
    old_message,
    packed,
    read,
    settle,
    told,
)

SPOILS_WORLD = True


def test_daemons(world):
    """Both daemons start, are listed and stop, each once."""
    start = "--start-daemon {} --mcast-interface ds --syncid {}"
    world.adm(start.format("master", 7))
    world.adm(start.format("backup", 200) +
              " --sync-maxlen 2000 --mcast-group 239.1.2.3 --mcast-port 99 --mcast-ttl 5")
    for role in ("master", "backup"):
        try:
            world.adm(start.format(role, 7))
            raise AssertionError(f"a second {role} was started")
        except CommandFailed:
            pass
    found = told(world)
    number = {2: "=H", 4: "=H", 7: "=H", 8: "=B", 3: "=I"}
    for role, expected in ((MASTER, {3: 7, 4: 1472, 7: PORT, 8: 1}), (BACKUP, {3: 200, 4: 2000, 7: 99, 8: 5})):
        seen = {kind: struct.unpack_from(number[kind], found[role][kind])[0] for kind in expected}
        assert seen == expected and found[role][2].rstrip(b"\0") == b"ds", found
    assert [found[role][5][:4] for role in (MASTER, BACKUP)] == [packed(GROUP), packed("239.1.2.3")]
    text = world.adm("-L --daemon")
    assert re.search(r"master sync daemon \(mcast=ds, syncid=7", text), text
    assert re.search(r"backup sync daemon \(mcast=ds, syncid=200, maxlen=2000, group=239.1.2.3, port=99, ttl=5",
                     text), text
    key = genl.service(V4.vip, 99, full=False)
    with world.director, Genl("IPVS") as ipvs:
        ipvs.call(genl.NEW_SERVICE, genl.service(V4.vip, 99))
        try:
            ipvs.call(genl.NEW_DEST, key + genl.dest("2001:db8::11", 80, method=TUNNEL))
            raise AssertionError("a destination of another family was added")
        except Refused as refused:
            assert refused.errno == 22, refused
        ipvs.call(genl.DEL_SERVICE, key)
    for role in ("master", "backup"):
        world.adm(f"--stop-daemon {role}")
        try:
            world.adm(f"--stop-daemon {role}")
            raise AssertionError(f"{role} was stopped twice")
        except CommandFailed:
            pass
    assert told(world) == {}


@each("nat", "direct", "version 0", "IPv6")
def test_taken_over(world, variant):
    """A connection that was told of is there with its state and time, and its packets go on."""
    farm.prepare(world)
    on, group = (V6, GROUP6) if variant == "IPv6" else (V4, GROUP)
    method = NAT if variant in ("nat", "IPv6") else DIRECT
    flags = 0 if method == NAT else DIRECT | NO_OUTPUT
    how = {"group6": GROUP6} if variant == "IPv6" else {}
    with farm.service(world, on, [(on.router, 80), (on.server, 80)], method=method) as port, \
            daemon(world, BACKUP, syncid=5, **how), Peer(world, group) as peer, farm.Flow(world, on, port) as flow:
        ends = (on.client, flow.cport), (on.vip, port), (on.server, 80)

        def say(state, syncid=5, inactive=0, timeout=50):
            if variant == "version 0":
                peer.say(old_message(old_entry(*ends, state=state, flags=flags | inactive), syncid=syncid))
            else:
                peer.say(message(entry(*ends, state=state, flags=flags | inactive, timeout=timeout), syncid=syncid))
        say(ESTABLISHED, syncid=6)
        say(ESTABLISHED)
        assert known(world, flow.cport, port) == ["ESTABLISHED", "SYNC"]
        left = int(listed(world, flow.cport, port)[9])
        most = 900 if variant == "version 0" else 50
        assert most - 10 * kernel.SLOW < left <= most, left
        if on is V4:
            assert [dest.active for dest in world.dests(port)] == [1, 0], world.dests(port)
        say(FIN_WAIT, inactive=INACTIVE)
        wait_for(lambda: known(world, flow.cport, port) == ["FIN_WAIT", "SYNC"])
        say(ESTABLISHED)
        wait_for(lambda: known(world, flow.cport, port) == ["ESTABLISHED", "SYNC"])
        seen = flow.request(flow.tcp(ACK | PSH, b"hello"))
        assert seen.dst == (on.server if method == NAT else on.vip) and seen.payload.endswith(b"hello"), seen
        # From now on it lasts as long as others here.
        assert int(listed(world, flow.cport, port)[9]) > 800
        if method == NAT:
            back = flow.error(farm.tcp(on.server, on.client, 80, flow.cport, ACK | PSH, b"answer"))
            assert back.src == on.vip and back.payload.endswith(b"answer"), back


def test_elsewhere(world):
    """A connection to a server that no service has works all the same, and one that moves goes to where it is said."""
    farm.prepare(world)
    with farm.service(world, V4, [(V4.router, 80)], method=NAT) as port, daemon(world, BACKUP), Peer(world) as peer, \
            farm.Flow(world, V4, port) as flow:
        client, virtual = (V4.client, flow.cport), (V4.vip, port)
        for server in ((V4.server, 81), (V4.router, 80), (V4.server, 82)):
            peer.say(message(entry(client, virtual, server)))
            wait_for(lambda at=server: (listed(world, flow.cport, port) or [""] * 7)[6] == f"{at[1]:04X}")
            seen = flow.request(flow.tcp(ACK | PSH, b"on"))
            assert (seen.dst, seen.payload[2:4]) == (server[0], struct.pack("!H", server[1])), seen
        # What ends elsewhere meanwhile is not this one.
        peer.say(message(entry(client, virtual, (V4.router, 80), state=FIN_WAIT, flags=INACTIVE)))
        settle(world, peer)
        assert listed(world, flow.cport, port)[6:8] == ["0052", "ESTABLISHED"]


def test_strange(world):
    """Entries that make no sense are left out, and those beside them are not; parameters that can be ignored are."""
    optional, mandatory = b"\x45\3abc", b"\5\3abc"
    good = {"plain": {}, "optional": {"params": optional}, "sequence": {"params": b"\1\x18" + bytes(24), "flags": SEQ},
            "no sequence": {"flags": SEQ}, "name alone": {"params": b"\3\3sip"},
            "all flags": {"flags": 0xFFFF0000 | 0x47A0}, "UDP": {"proto": 17, "state": 0},
            "SCTP": {"proto": 132, "state": 8}}
    bad = {"mandatory": {"params": mandatory}, "data alone": {"params": b"\2\1x"},
           "unknown engine": {"params": b"\2\1x\3\3abc"}, "state": {"state": 11},
           "state of UDP": {"proto": 17, "state": 1}, "protocol": {"proto": 99}, "one packet": {"flags": ONE_PACKET},
           "state of SCTP": {"proto": 132, "state": 14},
           "template without port": {"flags": TEMPLATE | NO_CPORT, "state": 0},
           "state of template": {"flags": TEMPLATE, "state": 2}}
    if RLVS:
        # Mainline may not have it.
        good["engine"] = {"params": b"\2\1x\3\3sip"}
    with daemon(world, BACKUP), Peer(world) as peer:
        ports = {name: 3000 + number for number, name in enumerate([*good, *bad])}
        for names in (list(bad), list(good)):
            peer.say(message(*(entry(("10.1.0.9", ports[name]), (VIP, 77), (SERVER, 80), **(good | bad)[name])
                               for name in names)))
        settle(world, peer)
        seen = [name for name, port in ports.items() if listed(world, port, 77)]
        assert seen == list(good), seen


def test_hostile(world):
    """No datagram does harm: cut at every byte, sizes that lie, every flag, any bytes."""
    dice = random.Random(8848)
    whole = message(entry(("10.1.0.9", 1), (VIP, 78), (SERVER, 80), params=b"\1\x18" + bytes(24) + b"\2\1x\3\3sip"),
                    entry(("fd01::9", 2), ("fd09::80", 78), ("fd02::1", 80), params=b"\x45\3abc"))
    old = old_message(old_entry(("10.1.0.9", 3), (VIP, 78), (SERVER, 80)),
                      old_entry(("10.1.0.9", 4), (VIP, 78), (SERVER, 80), flags=SEQ) + bytes(24))
    sent = []
    for text in (whole, old):
        for size in range(len(text)):
            sent.append(text[:size])
            if size >= 4:
                sent.append(text[:2] + struct.pack("!H", size) + text[4:size])
        for at in range(len(text)):
            for value in (0, 1, 255, dice.randrange(256)):
                sent.append(text[:at] + bytes([value]) + text[at + 1:])
    flags = [1 << bit for bit in range(32)] + list(range(8)) + [dice.getrandbits(32) for _ in range(100)]
    for bits in flags:
        for state in (0, 1, 65535):
            sent.append(message(entry(("10.1.0.9", dice.randrange(65536)), (VIP, 78), (SERVER, 80), flags=bits,
                                      state=state, timeout=dice.choice((0, 1, 0xFFFFFFFF)))))
    sent.append(message(entry(("10.1.0.9", 6), (VIP, 78), (SERVER, 80)), syncid=0) + bytes(60000))
    with daemon(world, BACKUP, syncid=0), Peer(world) as peer:
        for number, data in enumerate(sent):
            peer.say(data)
            if number % 64 == 0:
                settle(world, peer)
        settle(world, peer)
    assert not [line for line in world.director.proc("ip_vs_conn_sync").splitlines()
                if "LOCAL" in line and "004E" in line]


def flow_told(world, flow, peer, port, flags):
    """Sends the client's segments; returns what is told of its connection."""
    for flag in flags:
        flow.request(flow.tcp(flag))
    return peer.hear(lambda one: one.client[1] == flow.cport and one.virtual[1] == port)


@each("nat", "direct", "version 0", "IPv6")
def test_told(world, variant):
    """A connection is told of with its third packet, and when it ends; nobody is told of what is being opened."""
    farm.prepare(world)
    on, group = (V6, GROUP6) if variant == "IPv6" else (V4, GROUP)
    method = NAT if variant in ("nat", "IPv6") else DIRECT
    how = {"group6": GROUP6} if variant == "IPv6" else {}
    version = 0 if variant == "version 0" else 1
    with world.settings(sync_version=version), farm.service(world, on, [(on.server, 80)], method=method) as port, \
            farm.Flow(world, on, port) as before, farm.Flow(world, on, port) as flow, Peer(world, group) as peer:
        before.cport = world.port()
        for flag in (SYN, ACK):
            before.request(before.tcp(flag))
        with daemon(world, MASTER, syncid=9, **how):
            # One that was there before is told of, too.
            flags = 0 if method == NAT else DIRECT | NO_OUTPUT
            for each_flow, segments in ((before, [ACK] * 3), (flow, [SYN, ACK, ACK])):
                syncid, seen = flow_told(world, each_flow, peer, port, segments)
                expected = Entry(flags, 6, ESTABLISHED, (on.client, each_flow.cport), (on.vip, port), (on.server, 80),
                                 0 if version else None, 900 if version else None, {})
                assert (syncid, seen) == (9, expected), (syncid, seen)
            _, seen = flow_told(world, flow, peer, port, [FIN | ACK])
            assert (seen.state, seen.flags) == (CLOSE_WAIT if method == NAT else FIN_WAIT, flags | INACTIVE), seen


def test_many(world):
    """Many connections fill messages, none longer than was set, and none is left out; by FullNAT none is told of."""
    farm.prepare(world)
    count = 200
    with world.settings(sync_threshold="1 50"), \
            farm.service(world, V4, [(V4.server, 53)], proto="udp", method=NAT) as port, \
            daemon(world, MASTER, maxlen=400), Peer(world) as peer, farm.Flow(world, V4, port) as flow:
        ports = [world.port() for _ in range(count)]
        for flow.cport in ports:
            flow.request(flow.udp(b"?"))
        seen, longest = set(), 0
        while len(seen) < count:
            data = peer.sock.recv(65536)
            longest = max(longest, len(data))
            seen |= {one.client[1] for one in read(data)[1] if one.virtual == (VIP, port)}
        assert seen == set(ports) and 300 < longest <= 400, longest
        if RLVS:
            hidden = world.service("fullnat", [(V4.server, 53)], proto="udp")
            with Flow(world, hidden, "udp") as other:
                for _ in range(3):
                    other.request(wire.udp_request(other, b"?"))
            flow.cport = world.port()
            flow.request(flow.udp(b"?"))
            _, first = peer.hear(lambda one: one.virtual[1] in (port, hidden))
            assert first.virtual[1] == port


def asked(flow, count=1, cport=None):
    """Sends datagrams from a port, a new one if none is given; returns that."""
    flow.cport = cport or flow.world.port()
    for _ in range(count):
        flow.request(flow.udp(b"?"))
    return flow.cport


@contextlib.contextmanager
def telling(world, peers=1, maxlen=None, **settings):
    """A service of UDP and a master that tells of each connection with its first packet: a flow, and who hears it."""
    farm.prepare(world)
    settings = {"sync_threshold": "1 50"} | settings
    with world.settings(**settings), farm.service(world, V4, [(V4.server, 53)], proto="udp", method=NAT) as port, \
            daemon(world, MASTER, maxlen=maxlen), contextlib.ExitStack() as stack, farm.Flow(world, V4, port) as flow:
        yield flow, *(stack.enter_context(Peer(world, port=PORT + number)) for number in range(peers))


def test_persist_mode(world):
    """With sync_persist_mode nobody is told of a persistent service's connections, but of its templates; of those of
    other services as ever."""
    with telling(world, sync_threshold="0 1", sync_persist_mode=1) as (flow, peer), \
            farm.service(world, V4, [(V4.server, 53)], proto="udp", method=NAT) as persistent:
        other = flow.vport
        with world.director, Genl("IPVS") as ipvs:
            ipvs.call(genl.SET_SERVICE, genl.service(VIP, persistent, 17, flags=1, timeout=200))
        for mode in (1, 0):
            world.setting("sync_persist_mode", mode)
            flow.vport = persistent
            client = asked(flow, 3)
            flow.vport = other
            seen = [(one.client, bool(one.flags & TEMPLATE)) for one in peer.until(asked(flow), other)
                    if one.virtual[1] == persistent]
            conn, template = ((V4.client, client), False), ((V4.client, 0), True)
            assert set(seen) == ({template} if mode else {conn, template}), (mode, seen)


def test_refresh(world):
    """What was told is not told again before sync_refresh_period has passed, but sync_retries times."""
    with telling(world, sync_threshold="3 0", sync_refresh_period=100, sync_retries=0) as (flow, peer):
        client = asked(flow)

        def is_told(**settings):
            """Is another packet told? What comes behind it is, up to two seconds later."""
            for name, value in settings.items():
                world.setting(name, value)
            asked(flow, cport=client)
            time.sleep(0.1)
            return client in [one.client[1] for one in peer.until(asked(flow), flow.vport)]
        peer.until(client, flow.vport)
        assert not is_told()
        # A retry may follow after an eighth of the time.
        assert is_told(sync_refresh_period=8, sync_retries=1)
        assert not is_told(sync_refresh_period=100)
        assert not is_told(sync_refresh_period=8)
        assert is_told(sync_refresh_period=1)


def test_ports(world):
    """With sync_ports connections are told to as many ports, each to one, and what comes at any is taken over."""
    with world.settings(sync_ports=2), telling(world, peers=2) as (flow, *peers):
        with daemon(world, BACKUP):
            clients, seen = {asked(flow) for _ in range(40)}, [set(), set()]
            while len(set.union(*seen)) < len(clients):
                for heard, peer in zip(seen, peers):
                    if select.select([peer.sock], [], [], 8 * kernel.SLOW)[0]:
                        heard |= {one.client[1] for one in read(peer.sock.recv(65536))[1]}
            assert set.union(*seen) == clients and all(seen) and not set.intersection(*seen), seen
            for peer in peers:
                settle(world, peer)


def test_queue(world):
    """No more than sync_qlen_max messages wait to be sent; others are lost."""
    with telling(world, maxlen=100) as (flow, peer):
        count = 60
        for most in (0, world.setting("sync_qlen_max")):
            with world.settings(sync_qlen_max=most):
                sent = [asked(flow) for _ in range(count)]
                heard = {one.client[1] for one in peer.until(sent[-1], flow.vport)} & set(sent)
            # Messages that are not full are sent after a second or two.
            assert len(heard) < count // 2 if not most else len(heard) == count, f"{len(heard)} with {most}"


def test_buffers(world):
    """The sockets' buffers have the size that sync_sock_size says."""
    for size in (0, 20000):
        with world.settings(sync_sock_size=size), daemon(world, MASTER), daemon(world, BACKUP):
            text = world.director.run("ss", "-H", "-u", "-a", "-n", "-m").stdout
        found = [tuple(map(int, words)) for words in
                 re.findall(rf":{PORT}\s.*\n?.*skmem:\(r\d+,rb(\d+),t\d+,tb(\d+)", text)]
        assert len(found) == 2, text
        (rb, tb), (rb2, tb2) = found
        # The kernel counts its own needs, too.
        if size:
            assert 2 * size in (rb, rb2) and 2 * size in (tb, tb2), found
        else:
            assert 2 * 20000 not in (rb, tb, rb2, tb2), found


def test_templates(world):
    """Who a template was told of goes to its server, and a template is told with its first connection."""
    farm.prepare(world)
    port = world.port()
    key = genl.service(VIP, port, full=False)
    with world.director, Genl("IPVS") as ipvs:
        ipvs.call(genl.NEW_SERVICE, genl.service(VIP, port, flags=1, timeout=200))
        for server in (V4.server, V4.router):
            ipvs.call(genl.NEW_DEST, key + genl.dest(server, 80))
    with daemon(world, BACKUP), daemon(world, MASTER), Peer(world) as peer, farm.Flow(world, V4, port) as flow:
        for server in (V4.router, V4.server):
            client = "10.1.0.105" if server == V4.router else "10.1.0.106"
            peer.say(message(entry((client, 0), (VIP, port), (server, 80), flags=TEMPLATE | INACTIVE, state=0,
                                   timeout=70)))
            line = wait_for(lambda who=client: [line for line in world.director.proc("ip_vs_conn_sync").splitlines()
                                                if line.split()[1:5] == [packed(who).hex().upper(), "0000",
                                                                         packed(VIP).hex().upper(), f"{port:04X}"]])
            assert line[0].split()[7:9] == ["NONE", "SYNC"] and int(line[0].split()[9]) <= 70, line
            for _ in range(2):
                flow.clear()
                flow.at_client.send(farm.tcp(client, VIP, world.port(), port, SYN))
                seen = flow.at_server.wait()
                assert seen.dst == server, seen
        for flag in (SYN, ACK, ACK):
            flow.request(flow.tcp(flag))
        _, seen = peer.hear(lambda one: one.flags & TEMPLATE and one.client[0] == V4.client)
        assert seen.client == (V4.client, 0) and seen.virtual == (VIP, port) and seen.server[1] == 80, seen
        assert (seen.proto, seen.timeout, seen.mark) == (6, 200, 0), seen
    with world.director, Genl("IPVS") as ipvs:
        ipvs.call(genl.DEL_SERVICE, key)


def test_backup_only(world):
    """While a backup runs, backup_only leaves packets to the host itself: directors that are each other's servers
    do not send them round."""
    farm.prepare(world)
    with farm.service(world, V4, [(V4.server, 80)], method=DIRECT) as port, farm.Flow(world, V4, port) as flow:
        with world.settings(backup_only=1):
            flow.request(flow.tcp(SYN))
            with daemon(world, BACKUP):
                answer = flow.refused(flow.tcp(SYN))
                assert answer.src == VIP and answer.payload[13] & RST, answer
                assert not [seen for seen in flow.at_server.heard() if seen.dst == VIP]
            flow.request(flow.tcp(SYN))


def test_backup_only_answers(world):
    """What servers answer goes on meanwhile, to the host's own clients and by FullNAT: they have asked through it."""
    port = world.service("nat", [(SERVER, 53)], proto="udp")
    with world.director:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock, Flow(world, port, "udp") as flow, world.settings(backup_only=1):
        sock.settimeout(8 * kernel.SLOW)
        sock.connect((VIP, port))
        sock.send(b"ask")
        seen = flow.at_server.wait(lambda one: one.dst == SERVER)
        with daemon(world, BACKUP):
            flow.at_server.send(packet.ip(SERVER, seen.src, seen.proto, packet.udp(
                SERVER, seen.src, 53, seen.sport, b"told")))
            assert sock.recv(100) == b"told"
    if not RLVS:
        return
    port = world.service("fullnat", [(SERVER, 53)], proto="udp")
    with Flow(world, port, "udp") as flow, world.settings(backup_only=1):
        flow.request(wire.udp_request(flow, b"ask"))
        with daemon(world, BACKUP):
            seen = flow.reply(wire.udp_reply(flow, b"told"))
            assert (seen.src, seen.payload) == (VIP, b"told"), seen
            # But nothing is asked through it.
            flow.at_client.send(wire.udp_request(flow, b"ask"))
            refused = flow.at_client.wait()
            assert refused.proto == packet.ICMP and refused.src == VIP, refused
            assert not [one for one in flow.at_server.heard() if one.dst == SERVER]


def test_failover(world):
    """A client's connection goes on through a director that has only been told of it."""
    standby = Namespace("standby")
    try:
        run("ip", "link", "add", "sy0", "netns", "director", "type", "veth", "peer", "name", "sy0", "netns", "standby")
        run("ip", "link", "add", "bc", "netns", "standby", "type", "veth", "peer", "name", "b0", "netns", "client")
        run("ip", "link", "add", "bs", "netns", "standby", "type", "veth", "peer", "name", "b1", "netns", "server")
        world.director.ip("addr add 10.8.0.1/24 dev sy0", "link set sy0 up")
        standby.ip("link set lo up", "link set sy0 up", "link set bc up", "link set bs up",
                   "addr add 10.8.0.2/24 dev sy0", "addr add 10.4.0.1/24 dev bc", "addr add 10.5.0.1/24 dev bs",
                   f"addr add {VIP}/32 dev lo", "route add 10.1.0.0/24 dev bc", "route add 10.2.0.0/24 dev bs")
        standby.sysctl("net.ipv4.ip_forward", 1)
        world.client.ip("link set b0 up", "addr add 10.4.0.2/24 dev b0")
        world.server.ip("link set b1 up", "addr add 10.5.0.2/24 dev b1")
        port = world.service("nat", [(SERVER, 8080)])
        standby.run(TOOL, "-A", "-t", f"{VIP}:{port}")
        standby.run(TOOL, "-a", "-t", f"{VIP}:{port}", "-r", f"{SERVER}:8080", "-m")
        with world.settings(sync_threshold="0 1"), daemon(world, MASTER, device="sy0", syncid=3), \
                daemon(world, BACKUP, where=standby, device="sy0", syncid=3), world.listen(port=8080) as listener, \
                world.connect(port) as ours:
            theirs, _ = listener.accept()
            theirs.settimeout(8 * kernel.SLOW)
            for text in (b"one", b"two", b"three"):
                ours.sendall(text)
                assert theirs.recv(100) == text
            wait_for(lambda: f"{ours.getsockname()[1]:04X}" in standby.proc("ip_vs_conn_sync"), about="the standby")
            # The first director is gone from both sides.
            world.director.ip("link set dc down", "link set ds down")
            world.client.ip(f"route replace {VIP}/32 via 10.4.0.1")
            world.server.ip(f"route replace {CLIENT}/32 via 10.5.0.1")
            for text in (b"four", b"five"):
                ours.sendall(text)
                assert theirs.recv(100) == text
                theirs.sendall(text * 2)
                assert ours.recv(100) == text * 2
            theirs.close()
    finally:
        world.director.ip("link set dc up", "link set ds up")
        world.adm("-C")
        standby.close()


KEEPALIVED = """\
global_defs {
    lvs_sync_daemon ds ONE id 33
}
vrrp_instance ONE {
    state MASTER
    interface ds
    virtual_router_id 7
    priority 200
    advert_int 0.5
    version 3
    virtual_ipaddress {
        10.2.0.250/24
    }
}
"""


def test_keepalived(world):
    """keepalived's lvs_sync_daemon starts the daemon that suits its state, and stops it when it goes."""
    if kernel.DEBUG:
        raise Skip("about a program")
    with open("/run/sync.conf", "w", encoding="ascii") as file:
        file.write(KEEPALIVED)
    with world.director, open("/run/sync.log", "w", encoding="ascii") as log, \
            subprocess.Popen(["keepalived", "-n", "-l", "-f", "/run/sync.conf"], stdout=log, stderr=log) as keepalived:
        try:
            wait_for(lambda: MASTER in told(world), 20, 0.1, lambda: open("/run/sync.log", encoding="ascii").read())
            found = told(world)[MASTER]
            assert struct.unpack("=I", found[3])[0] == 33 and found[2].rstrip(b"\0") == b"ds", found
            keepalived.terminate()
            assert keepalived.wait(20 * kernel.SLOW) == 0
        finally:
            keepalived.kill()
    assert told(world) == {}


def test_end(world):
    """Namespaces and the module go while daemons work."""
    with contextlib.closing(Namespace("gone")) as gone:
        gone.ip("link set lo up", "link set lo multicast on")
        for role in (MASTER, BACKUP):
            with gone, Genl("IPVS") as ipvs:
                ipvs.call(genl.NEW_DAEMON, attrs(role, device="lo"))
    need_rlvs()
    with Peer(world) as peer:
        for _ in range(3):
            with world.director, Genl("IPVS") as ipvs:
                for role in (MASTER, BACKUP):
                    ipvs.call(genl.NEW_DAEMON, attrs(role))
            for number in range(300):
                peer.say(message(entry(("10.1.0.9", number), (VIP, 79), (SERVER, 80))))
            kernel.unload("rlvs")
            for number in range(10):
                peer.say(message(entry(("10.1.0.9", number), (VIP, 79), (SERVER, 80))))
            kernel.load("rlvs")
    time.sleep(0.1)
