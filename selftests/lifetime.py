# SPDX-License-Identifier: GPL-2.0
"""Loading, unloading, namespaces that come and go, a table that grows: at any moment, under traffic."""

import concurrent.futures
import contextlib
import errno
import fcntl
import os
import re
import signal
import socket
import struct
import threading
import time

import kernel
import packet
import wire
from lib import (
    GHOST_CLIENTS,
    GHOST_SERVERS,
    LADDRS,
    MODULE,
    RLVS,
    TOOL,
    VIP,
    CommandFailed,
    Flow,
    Namespace,
    Tap,
    Unnamed,
    each,
    each_method,
    hexed,
    need_debug,
    need_rlvs,
    run,
    wait_for,
)
from packet import ACK, PSH, SYN, TCP, UDP

SERVER = GHOST_SERVERS[0]
CYCLES = 50


def need(method):
    """Skips FullNAT where there is none."""
    if method == "fullnat":
        need_rlvs()


def pour(tap, frames, seconds=600):
    """Sends frames round and round from a process of its own, until it is killed or the wire is gone."""
    child = os.fork()
    if child:
        return child
    # An inherited namespace would live on in here.
    keep = tap.sock.fileno()
    os.closerange(3, keep)
    os.closerange(keep + 1, 1024)
    os.nice(5)
    tap.sock.setblocking(True)
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            for number, frame in enumerate(frames):
                # An emulated processor must get around to what is tested, too.
                if number % 32 == 0:
                    time.sleep(0.003)
                tap.sock.send(frame)
    except OSError:
        pass
    os._exit(0)


def request(port, proto, number):
    """A packet from a client: of a new connection or of one that may be."""
    addr, sport = GHOST_CLIENTS[number % 4], 10000 + number
    if proto == UDP:
        return packet.ip(addr, VIP, UDP, packet.udp(addr, VIP, sport, port, b"request"))
    flags = SYN if number % 2 else ACK
    return packet.ip(addr, VIP, TCP, packet.tcp(addr, VIP, sport, port, flags, 1000, 1,
                                                options=packet.NOP * 4))


def answers():
    """Packets from a server: of connections that may be."""
    for number in range(100):
        for peer in (LADDRS[0], LADDRS[1], GHOST_CLIENTS[0]):
            lport = 1024 + number if peer in LADDRS else 10000 + number
            yield packet.ip(SERVER, peer, UDP, packet.udp(SERVER, peer, 8080, lport, b"answer"))
            yield packet.ip(SERVER, peer, TCP, packet.tcp(SERVER, peer, 8080, lport, SYN | ACK, 1, 1001))


@contextlib.contextmanager
def traffic(world, port):
    """Packets of old and of new connections, both ways and without end."""
    client, server = world.taps()
    requests = [request(port, proto, number) for number in range(200) for proto in (TCP, UDP)]
    with client, server:
        children = [pour(tap, [tap.framed(data) for data in packets])
                    for tap, packets in ((client, requests), (server, answers()))]
        try:
            yield
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def configuration(method, port):
    """Lines for a TCP and a UDP service on one port."""
    lines = []
    for kind in ("-t", "-u"):
        lines.append(f"-A {kind} {VIP}:{port} -s rr")
        if method == "fullnat":
            lines += [f"-P {kind} {VIP}:{port} -z {laddr}" for laddr in LADDRS[:2]]
        lines.append(f"-a {kind} {VIP}:{port} -r {SERVER}:8080 {'-m' if method == 'nat' else '--fullnat'}")
    return "\n".join(lines) + "\n"


def left_behind(world):
    """What of the balancer is still there; empty if nothing is."""
    found = [name for name in os.listdir("/proc/thread-self/net") if name.startswith(("ip_vs", "rlvs"))]
    with world.director:
        found += [name for name in os.listdir("/proc/thread-self/net") if name.startswith(("ip_vs", "rlvs"))]
        found += ["sysctl"] if os.path.exists("/proc/sys/net/ipv4/vs") else []
    found += [name for name in ("rlvs_conn", "ip_vs_conn") if kernel.slab(name)]
    return found + ([MODULE] if kernel.loaded(MODULE) else [])


@each_method
def test_loads_and_unloads(world, method):
    """50 times in and out again while packets for it arrive all the time; nothing is left of it."""
    need(method)
    port = world.port()
    # Both variants make 50.
    cycles = CYCLES // 2
    with traffic(world, port):
        for _ in range(cycles):
            kernel.unload(MODULE)
            assert not left_behind(world), f"left behind: {left_behind(world)}"
            kernel.load(MODULE, again=True)
            for proto in ("tcp", "udp"):
                world.service(method, [(SERVER, 8080)], port=port, proto=proto)
            wait_for(lambda: len(world.conns(port)) > 20, about="connections")
    world.adm("-C")


@each_method
def test_flush_under_traffic(world, method):
    """Configuration that comes and goes under traffic; at the end a connection works as ever."""
    need(method)
    port = world.port()
    with traffic(world, port):
        for _ in range(10):
            world.adm("-R", stdin=configuration(method, port))
            world.adm("-C")
    world.adm("-R", stdin=configuration(method, port))
    with Flow(world, port) as flow:
        wire.open_tcp(flow)
    world.adm("-C")


def doomed(world, number):
    """A namespace with a wire to the client's: clients and servers are at its other end."""
    space = Unnamed()
    space.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    space.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
    space.ip(f"link add in address 02:00:00:00:03:01 up type veth peer name near{number} netns {world.client.name}",
             "link set lo up", f"addr add {VIP}/32 dev lo",
             *(f"addr add {addr}/24 dev in" for addr in ("10.1.0.1", "10.2.0.1", *LADDRS[:2])),
             f"neigh add {SERVER} lladdr 02:00:00:00:02:02 dev in nud permanent")
    with world.client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, 0x8914, struct.pack("16sH14x", f"near{number}".encode(), 1))  # SIOCSIFFLAGS: IFF_UP
    space.sysctl("net.ipv4.ip_forward", 1)
    return space


# The data connections that an FTP server awaits: the client opens the second one alone.
AWAITED = (8080, 8081)


def control():
    """FTP's control connection, of which the server tells where it awaits data, and one for data. The answers are
    to the client itself, which the servers of NAT see."""
    client, seq = GHOST_CLIENTS[0], 5001

    def segment(*ends, flags, payload=b"", seq=1000, ack=5001):
        (src, sport), (dst, dport) = ends
        return packet.ip(src, dst, TCP, packet.tcp(src, dst, sport, dport, flags, seq, ack, payload))
    ask = ((client, 5021), (VIP, 21))
    tell = ((SERVER, 21), (client, 5021))
    yield segment(*ask, flags=SYN)
    yield segment(*tell, flags=SYN | ACK, seq=5000, ack=1001)
    yield segment(*ask, flags=ACK, seq=1001)
    passive = (f"227 Entering Passive Mode ({SERVER.replace('.', ',')},{port >> 8},{port & 255})." for port in AWAITED)
    for line in ("220 ready", *passive):
        yield segment(*tell, flags=PSH | ACK, payload=line.encode() + b"\r\n", seq=seq, ack=1001)
        seq += len(line) + 2
    yield segment((client, 6000), (VIP, AWAITED[1]), flags=SYN)


def test_namespaces(world):
    """50 namespaces with services, live connections and FTP's, awaited ones too, are destroyed while packets arrive
    in them."""
    # No connections of other tests.
    kernel.unload(MODULE)
    kernel.load(MODULE)
    if not RLVS:
        kernel.load("ip_vs_ftp")
    method = "fullnat" if RLVS else "nat"
    head = bytes.fromhex("020000000301" "020000000102" "0800")
    frames = [head + data for data in control()]
    frames += [head + request(80, proto, number) for number in range(20) for proto in (TCP, UDP)]
    wanted = {((GHOST_CLIENTS[0], 5021), (VIP, 21))}
    if RLVS:
        # Mainline wants conntrack for these.
        wanted |= {((GHOST_CLIENTS[0], 0), (VIP, AWAITED[0])), ((GHOST_CLIENTS[0], 6000), (VIP, AWAITED[1]))}
    children = []
    for number in range(CYCLES):
        space = doomed(world, number)
        for proto in ("tcp", "udp"):
            world.service(method, [(SERVER, 8080)], port=80, proto=proto, place=space)
        world.service("nat", [(SERVER, 21)], port=21, place=space)
        with Tap(world.client, f"near{number}") as tap:
            children.append(pour(tap, frames, 60 * kernel.SLOW))
        # Those of namespaces on their way out must not keep them from going.
        os.setpriority(os.PRIO_PROCESS, children[-1], 19)
        wait_for(lambda space=space: len(world.conns(place=space)) > 10, about="connections")
        wait_for(lambda space=space: wanted <= {conn[1:3] for conn in world.conns(place=space)},
                 about=lambda space=space: f"FTP's connections: {space.proc('ip_vs_conn')}")
        space.close()
    start = time.monotonic()
    for child in children:
        os.waitpid(child, 0)
    assert time.monotonic() - start < 30 * kernel.SLOW, "wires into dead namespaces are still there"
    left = world.client.run("ip", "-br", "link").stdout
    assert "near" not in left, left
    wait_for(lambda: slab_of_module() in (0, None), 5, 0.2,
             lambda: f"{slab_of_module()} connections to go")


def slab_of_module():
    """Connections that the allocator holds."""
    return kernel.slab("rlvs_conn" if RLVS else "ip_vs_conn")


@each_method
def test_table_growth(world, method):
    """Ten thousand connections and more, opened while the table grows: each is found again."""
    port = world.service(method, [(SERVER, 53)], proto="udp")
    count = 3000 if kernel.DEBUG else 12000
    with Flow(world, port, "udp") as flow:
        def send_all():
            """A datagram of each connection; {client: the tuple that the server sees}."""
            seen = {}
            for number in range(count):
                addr, sport = GHOST_CLIENTS[number % 16], 1024 + number // 16
                data = number.to_bytes(4, "big")
                flow.at_client.send(packet.ip(addr, VIP, UDP, packet.udp(addr, VIP, sport, port, data)))
                if number % 256 == 255:
                    collect(seen)
            wait_for(lambda: collect(seen) or len(seen) >= count, 5, about="all datagrams")
            return seen

        def collect(seen):
            for one in flow.at_server.heard():
                seen[int.from_bytes(one.payload, "big")] = one.flow

        flow.clear()
        first = send_all()
        assert len(first) == count and len(set(first.values())) == count
        assert len(world.conns(port)) == count
        second = send_all()
        assert second == first, "connections were opened twice"
        assert len(world.conns(port)) == count
        # And back: each is known by its reply tuple, too.
        wrong = 0
        for number, (peer, server) in first.items():
            if number % 8:
                continue
            flow.at_server.send(packet.ip(server[0], peer[0], UDP, packet.udp(
                server[0], peer[0], server[1], peer[1], number.to_bytes(4, "big"))))
            got = flow.at_client.wait(lambda one: one.src == VIP)
            wrong += got.dst != GHOST_CLIENTS[number % 16] or got.dport != 1024 + number // 16
        assert not wrong, f"{wrong} answers went to the wrong client"
    world.adm(f"-D -u {VIP}:{port}")


@each_method
def test_links_go_away(world, method):
    """The way to the servers goes down and comes back under traffic; connections go on."""
    need(method)
    port = world.port()
    world.adm("-R", stdin=configuration(method, port))
    with traffic(world, port):
        for _ in range(5):
            world.director.ip("link set ds down")
            time.sleep(0.05)
            world.director.ip("link set ds up",
                              *(f"neigh replace {addr} lladdr 02:00:00:00:02:02 dev ds nud permanent"
                                for addr in GHOST_SERVERS[:2]))
    with Flow(world, port) as flow:
        wire.open_tcp(flow)
    world.adm("-C")


@each("198.51.100.", "2001:db8:9::")
def test_device_goes(_, net):
    """A device goes when it is told to, though direct routing has used it: no cached route holds it, of how many
    servers' ever, and whether before or after the cache was made to fit them."""
    servers = 40
    namespace = Namespace("leaving")
    try:
        length, family = (64, socket.AF_INET6) if ":" in net else (24, socket.AF_INET)
        bracket = "[{}]" if ":" in net else "{}"
        vip = bracket.format(net + "80") + ":53"
        nodad = " nodad" if ":" in net else ""
        namespace.ip("link set lo up", "link add goes type veth peer name peer", "link set goes up", "link set peer up",
                     f"addr add {net}1/{length} dev goes{nodad}", f"addr add {net}80/{length * 2 if nodad else 32} "
                     f"dev goes{nodad}")
        lines = [f"-A -u {vip} -s rr"]
        lines += [f"-a -u {vip} -r {bracket.format(net + str(100 + n))}:53 -g" for n in range(servers)]
        namespace.run(TOOL, "-R", stdin="\n".join(lines) + "\n")

        def ask():
            for _ in range(servers):
                with namespace, socket.socket(family, socket.SOCK_DGRAM) as sock:
                    sock.sendto(b"request", (f"{net}80", 53))
            return len(namespace.proc("ip_vs_conn").splitlines()) - 1
        assert ask() == servers, "not all were balanced"
        # As long as two rounds of the configuration take.
        time.sleep(4.5)
        assert ask() == 2 * servers, "not all were balanced"
        namespace.run("ip", "link", "del", "goes", timeout=9)
    finally:
        namespace.close()


def test_unload_with_connections(world):
    """Unloading needs nobody's leave: neither services nor connections hold the module."""
    need_rlvs()
    port = world.port()
    world.adm("-R", stdin=configuration("fullnat", port))
    with Flow(world, port) as flow:
        wire.open_tcp(flow)
        done = run("rmmod", MODULE, check=False)
        assert done.returncode == 0, done.stderr
        assert not left_behind(world), left_behind(world)
        # Without it the director's own stack answers.
        flow.clear()
        flow.at_client.send(wire.tcp_request(flow, ACK, 1001, 5007))
        assert flow.at_client.wait().flags & packet.RST
    try:
        world.adm("-Ln")
    except CommandFailed:
        pass
    kernel.load(MODULE)


class FailingNamespace:
    """The making of a network namespace whose N-th allocation fails, in a thread that makes no other."""

    def __init__(self, number):
        log = kernel.Log()
        # Opened before: to open a file takes memory, too.
        file = os.open("/proc/thread-self/fail-nth", os.O_RDWR)
        os.pwrite(file, str(number).encode(), 0)
        self.space = problem = None
        try:
            self.space = Unnamed()
        except OSError as error:
            problem = error
        finally:
            # How many more there would have to be.
            self.left = int(os.pread(file, 16, 0))
            os.pwrite(file, b"0", 0)
            os.close(file)
        text = "\n".join(log.new())
        os.close(log.fd)
        stacks = re.findall(rf"PID: {threading.get_native_id()} Comm.*?</TASK>", text, re.DOTALL)
        # Whose it was, if that was told: kmemleak's, of which each of the others has one, are silent.
        self.ours = "".join(re.findall(r"\S+ \[rlvs\]", "".join(stacks)))
        self.strange = bool(stacks) and not self.ours
        assert not (problem and self.ours and problem.errno != errno.ENOMEM), f"allocation {number}: {problem}"

    def whole(self):
        """Asserts that a namespace that was made has all that others have; deletes it."""
        if self.space:
            assert faces(self.space) == faces(None), f"only a part was made: {faces(self.space)}"
            self.space.close()
        return self


def faces(space):
    """What of the module is to be seen in a namespace, or here."""
    with space or contextlib.nullcontext():
        return sorted(os.listdir("/proc/sys/net/ipv4/vs")) + sorted(
            name for name in os.listdir("/proc/thread-self/net") if name.startswith(("ip_vs", "rlvs")))


@contextlib.contextmanager
def failures_told():
    """Any allocation may fail, those that may sleep included, and each tells its stack in the kernel's log."""
    def write(**values):
        for name, value in values.items():
            for kind in ("failslab", "fail_page_alloc"):
                path = f"/sys/kernel/debug/{kind}/{name}"
                if os.path.exists(path):
                    with open(path, "w", encoding="ascii") as file:
                        file.write(value)
    write(**{"ignore-gfp-wait": "N", "cache-filter": "N", "verbose": "2", "verbose_ratelimit_interval_ms": "0"})
    try:
        yield
    finally:
        write(verbose="0")


def told(number):
    """The first one from a number on of which it is told whose allocation has failed."""
    for at in range(number, number + 9):
        one = FailingNamespace(at).whole()
        if one.ours or one.strange:
            break
    return one


def test_half_made(world):
    """Allocations of the module's fail one by one while a namespace is made, a window of them that has most: the
    namespace is not there, or whole, and the next one works."""
    need_debug()
    need_rlvs()
    enough = 1 << 20
    kernel.unload(MODULE)
    with failures_told():
        # What is registered last comes last, but for devices.
        others = enough - FailingNamespace(enough).left
        kernel.load(MODULE)
        total = enough - FailingNamespace(enough).whole().left
        count = total - others
        print(f"# {total} allocations, {count} are ours", flush=True)
        assert count > 20
        inside = next(number for number in range(total - count // 2, 0, -count // 2) if told(number).ours)
        # It is in their upper half; but nobody makes the same number each time: slabs and tools of debugging
        # allocate for themselves now and then.
        done = []
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            numbers = range(inside - count, inside + count // 2)
            for one in pool.map(lambda number: FailingNamespace(number).whole(), numbers):
                kernel.LOG.keep()
                done.append(one)
    # Ours: the namespace was not made (o), or it was (O); others' (.), and those that are silent (?).
    print("# " + "".join(("O" if one.space else "o") if one.ours else "." if one.strange else "?" for one in done))
    failed = [one.ours for one in done if one.ours and not one.space]
    print(f"# {len(failed)} failed in {len(set(failed))} places")
    assert len(failed) > count // 10, f"{len(failed)} of {count} failed"
    space = Unnamed()
    world.service("nat", [], port=80, place=space)
    assert hexed(VIP, 80) in space.proc("ip_vs"), space.proc("ip_vs")
    space.close()


def test_leaks(world):
    """All that has happened here has left no memory that nothing points to."""
    need_debug()
    world.adm("-C")
    kernel.unload(MODULE)
    found = kernel.leaks(MODULE)
    assert not found, f"{len(found)} leaks: {found[0]}"
    kernel.load(MODULE)
