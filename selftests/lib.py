# SPDX-License-Identifier: GPL-2.0
"""A client, a director and real servers in network namespaces, and how tests talk to each.

    client 10.1.0.2 ---- 10.1.0.1 director 10.2.0.1 ---- 10.2.0.11 .12 .13 server
           c0             dc  VIP 10.9.0.80  ds                   s0

Besides these addresses, which have an IP stack, 10.1.0.101-116 and 10.2.0.101-116 have none: the
director finds them behind c0 and s0, and only a Tap hears and speaks for them. Nothing answers a
crafted packet by itself there.
"""

import contextlib
import ctypes
import os
import select
import socket
import subprocess
import threading
import time
from collections import namedtuple

import genl
import kernel
import packet6
from genl import Genl

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODULE = os.environ.get("RLVS_BALANCER", "rlvs")
RLVS = MODULE == "rlvs"
TOOL = f"{TOP}/target/release/rlvsadm" if RLVS else "ipvsadm"

# As the destination's attribute names them.
METHODS = {"nat": 0, "fullnat": 5}
PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}
VIP = "10.9.0.80"
CLIENT = "10.1.0.2"
SERVERS = ["10.2.0.11", "10.2.0.12", "10.2.0.13"]
LADDRS = ["10.2.0.201", "10.2.0.202", "10.2.0.203", "10.2.0.204"]
GHOST_CLIENTS = [f"10.1.0.{n}" for n in range(101, 117)]
GHOST_SERVERS = [f"10.2.0.{n}" for n in range(101, 117)]
# A network of more addresses behind c0, for packets whose answers nobody waits for.
CROWD = "10.64.0.0/10"

_MAC = {"c0": "020000000102", "dc": "020000000101", "ds": "020000000201", "s0": "020000000202"}
_PEER = {"c0": "dc", "dc": "c0", "ds": "s0", "s0": "ds"}

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
_where = threading.local()


class Skip(Exception):
    """The kernel or the balancer at hand lacks what a test is about."""


class CommandFailed(AssertionError):
    """A command ended with another status than 0."""

    def __init__(self, argv, done):
        super().__init__(f"{' '.join(argv)}: exit status {done.returncode}: "
                         f"{done.stderr.strip()} {done.stdout.strip()}")
        self.done = done


def run(*argv, stdin=None, check=True, timeout=60):
    """Runs a command where the calling thread stands; returns the completed process, as text."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False,
                          timeout=timeout * kernel.SLOW)
    if check and done.returncode:
        raise CommandFailed(argv, done)
    return done


def wait_for(what, seconds=15, step=0.01, about="it"):
    """Waits until `what()` is true and returns that; fails after a time that suits the kernel.

    `about` names what is waited for; a function is asked when it did not come.
    """
    end = time.monotonic() + seconds * kernel.SLOW
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < end, \
            f"waited {seconds * kernel.SLOW} s in vain for {about() if callable(about) else about}"
        time.sleep(step)


def settled(read, expected):
    """Asserts that `read()` comes to what is expected; ip_vs sums its counters every two seconds."""
    try:
        wait_for(lambda: read() == expected, 5, 0.2)
    except AssertionError:
        raise AssertionError(f"counted: {read()}, sent: {expected}") from None


def need_rlvs():
    """Skips what mainline has not."""
    if not RLVS:
        raise Skip("ip_vs has no FullNAT")


def need_debug():
    """Skips what only the debug kernel can show."""
    if not kernel.DEBUG:
        raise Skip("needs the debug kernel")


def each(*values):
    """Runs a test once for each value, which it gets as its second argument."""
    def mark(test):
        test.variants = values
        return test
    return mark


each_method = each("nat", "fullnat")


class Namespace:
    """A network namespace; as a context, the place where sockets and commands are made."""

    def __init__(self, name):
        self.name = name
        run("ip", "netns", "add", name)
        self.fd = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self):
        stack = _where.__dict__.setdefault("stack", [_home])
        stack.append(self.fd)
        _setns(self.fd)
        return self

    def __exit__(self, *_):
        _where.stack.pop()
        _setns(_where.stack[-1])

    def run(self, *argv, **how):
        """Runs a command in here."""
        with self:
            return run(*argv, **how)

    def ip(self, *lines, family=None):
        """Runs lines of ip(8) in one go, of a family if that must be told; returns what it prints."""
        how = [f"-{family}"] if family else []
        return self.run("ip", *how, "-batch", "-", stdin="\n".join(lines) + "\n").stdout

    def sysctl(self, name, value=None):
        """Reads a sysctl as text, or sets it."""
        path = "/proc/sys/" + name.replace(".", "/")
        with self, open(path, "r" if value is None else "w", encoding="ascii") as file:
            if value is None:
                return file.read().strip()
            file.write(f"{value}\n")
        return None

    def proc(self, name):
        """The text of /proc/net/NAME in here."""
        with self, open(f"/proc/thread-self/net/{name}", encoding="ascii") as file:
            return file.read()

    def close(self):
        """Deletes it; it goes when the last socket in it is closed."""
        os.close(self.fd)
        run("ip", "netns", "del", self.name)


class Unnamed(Namespace):
    """A namespace that is made and deleted without a command; it is there while it has a descriptor."""

    def __init__(self):  # pylint: disable=super-init-not-called
        self.name, self.fd = None, None
        if _libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        try:
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            _setns(_where.__dict__.get("stack", [_home])[-1])

    def close(self):
        os.close(self.fd)


def _setns(fd):
    if _libc.setns(fd, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Tap:
    """The wire at one device: sends frames past the IP stack and hears what arrives there."""

    def __init__(self, namespace, device, buffer=8 << 20):
        with namespace:
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.sock.setsockopt(socket.SOL_SOCKET, 33, buffer)  # SO_RCVBUFFORCE
            self.sock.bind((device, 3))
        self.sock.setblocking(False)
        mac = _MAC.get(device)
        self.head = mac and bytes.fromhex(_MAC[_PEER[device]] + mac)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def framed(self, data):
        """The frame that takes an IP packet to the neighbour."""
        return self.head + (b"\x86\xdd" if data[:1] and data[0] >> 4 == 6 else b"\x08\x00") + data

    def send(self, *packets):
        """Sends IP packets, given as bytes, to the neighbour."""
        for data in packets:
            frame = self.framed(data)
            while True:
                try:
                    self.sock.send(frame)
                    break
                except (BlockingIOError, OSError) as error:
                    if error.errno not in (11, 105):
                        raise
                    select.select([], [self.sock], [], 0.1)

    def frames(self):
        """The IP packets, as bytes, that have arrived since the last look."""
        while True:
            try:
                frame, where = self.sock.recvfrom(65600)
            except BlockingIOError:
                return
            # 4 is PACKET_OUTGOING, our own. What IPv6 sends to groups is noise.
            if where[2] != 4 and (frame[12:14] == b"\x08\x00"
                                  or frame[12:14] == b"\x86\xdd" and frame[38] != 0xFF):
                yield frame[14:]

    def heard(self):
        """The packets that have arrived since the last look."""
        return [packet6.read(data) for data in self.frames()]

    def wait(self, match=lambda packet: True, seconds=8):
        """The next packet for which `match` is true; others are dropped. Fails if none comes."""
        end = time.monotonic() + seconds * kernel.SLOW
        others = []
        while True:
            for data in self.frames():
                packet = packet6.read(data)
                if match(packet):
                    return packet
                others.append(packet)
            left = end - time.monotonic()
            assert left > 0, f"the packet did not arrive; others did: {others[:8]}"
            select.select([self.sock], [], [], left)

    def silent(self, match=lambda packet: True, seconds=0.05):
        """Fails if a packet for which `match` is true arrives within a short time."""
        time.sleep(seconds * kernel.SLOW)
        found = [packet for packet in self.heard() if match(packet)]
        assert not found, f"there should be silence: {found[:8]}"


Conn = namedtuple("Conn", "proto client virtual server state expires")
Dest = namedtuple("Dest", "server forward weight active inactive")
Stats = namedtuple("Stats", "conns inpkts outpkts inbytes outbytes")


class World:
    """The picture at the top of this file; the balancer's module works in the director."""

    def __init__(self):
        made = []
        try:
            for name in ("client", "director", "server"):
                made.append(Namespace(name))
        except CommandFailed:
            for namespace in made:
                namespace.close()
            raise
        self.client, self.director, self.server = made
        for namespace in made:
            # Neighbour discovery would only be noise on the wires.
            namespace.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
            namespace.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
        mac = {device: ":".join(text[n:n + 2] for n in range(0, 12, 2))
               for device, text in _MAC.items()}
        self.director.ip(
            f"link add dc address {mac['dc']} type veth peer name c0 address {mac['c0']} netns client",
            f"link add ds address {mac['ds']} type veth peer name s0 address {mac['s0']} netns server",
            "link set lo up", "link set dc up", "link set ds up",
            "addr add 10.1.0.1/24 dev dc", "addr add 10.2.0.1/24 dev ds", f"addr add {VIP}/32 dev lo",
            *(f"addr add {laddr}/24 dev ds" for laddr in LADDRS),
            *(f"neigh add {addr} lladdr {mac['c0']} dev dc nud permanent"
              for addr in [CLIENT] + GHOST_CLIENTS),
            *(f"neigh add {addr} lladdr {mac['s0']} dev ds nud permanent"
              for addr in SERVERS + GHOST_SERVERS),
            f"route add {CROWD} via {GHOST_CLIENTS[0]}")
        self.client.ip(
            "link set lo up", "link set c0 up", f"addr add {CLIENT}/24 dev c0",
            f"neigh add 10.1.0.1 lladdr {mac['dc']} dev c0 nud permanent",
            "route add default via 10.1.0.1")
        self.server.ip(
            "link set lo up", "link set s0 up", *(f"addr add {addr}/24 dev s0" for addr in SERVERS),
            *(f"neigh add {addr} lladdr {mac['ds']} dev s0 nud permanent"
              for addr in ["10.2.0.1"] + LADDRS),
            "route add default via 10.2.0.1")
        self.director.sysctl("net.ipv4.ip_forward", 1)
        # Errors are what some tests are about: they come one for one.
        self.director.sysctl("net.ipv4.icmp_ratelimit", 0)
        self._port = 20000

    def close(self):
        """Takes all of it down."""
        for namespace in (self.client, self.director, self.server):
            namespace.close()

    def port(self):
        """A port that no test has used yet."""
        self._port += 1
        return self._port

    def taps(self):
        """The wire at the client and the wire at the servers."""
        return Tap(self.client, "c0"), Tap(self.server, "s0")

    # -- the balancer

    def adm(self, words, stdin=None, check=True):
        """Runs the balancer's command with these words; returns what it prints."""
        done = self.director.run(TOOL, *words.split(), stdin=stdin, check=check)
        return done.stdout if check else done

    def service(self, method, dests, *, port=None, proto="tcp", sched="rr", laddrs=None, place=None):
        """Adds a service on the VIP, by netlink, which is quicker than a command; returns its port.

        `dests` holds (address, port) or (address, port, weight). A FullNAT service gets the local
        addresses before the destinations, as one that serves at once must have them. `place` is another
        namespace than the director.
        """
        if method == "fullnat":
            need_rlvs()
        port = port or self.port()
        number = PROTOCOLS[proto]
        key = genl.service(VIP, port, number, full=False)
        with place or self.director, Genl("IPVS") as ipvs:
            ipvs.call(genl.NEW_SERVICE, genl.service(VIP, port, number, sched.encode() + b"\0"))
            if method == "fullnat":
                with Genl("RLVS") as rlvs:
                    for laddr in LADDRS[:2] if laddrs is None else laddrs:
                        rlvs.call(genl.NEW_LADDR, key + genl.laddr(laddr))
            for addr, dport, *weight in dests:
                ipvs.call(genl.NEW_DEST, key + genl.dest(addr, dport, *weight, method=METHODS[method]))
        return port

    def udp_timeout(self, seconds):
        """Sets how long connections of UDP last. Mainline's do so from their next packet on."""
        with self.director, Genl("IPVS") as ipvs:
            ipvs.call(genl.SET_CONFIG, genl.attr(genl.TIMEOUT_UDP, seconds))

    def setting(self, name, value=None):
        """Reads or sets one of the balancer's sysctls."""
        return self.director.sysctl(f"net.ipv4.vs.{name}", value)

    @contextlib.contextmanager
    def settings(self, **values):
        """Sets some of the balancer's sysctls for a while."""
        before = {name: self.setting(name) for name in values}
        try:
            for name, value in values.items():
                self.setting(name, value)
            yield
        finally:
            for name, value in before.items():
                self.setting(name, value)

    def conns(self, port=None, place=None):
        """The connections in /proc/net/ip_vs_conn, of one service port or of all."""
        found = []
        for line in (place or self.director).proc("ip_vs_conn").splitlines()[1:]:
            word = line.split()
            ends = [(address(word[n]), int(word[n + 1], 16)) for n in (1, 3, 5)]
            found.append(Conn(word[0], *ends, word[7], int(word[8])))
        return [conn for conn in found if port is None or conn.virtual[1] == port]

    def dests(self, port, proto="TCP"):
        """The destinations of a service in /proc/net/ip_vs by address; None if there is no service."""
        found = None
        for line in self.director.proc("ip_vs").splitlines()[3:]:
            word = line.split()
            if word[0] != "->":
                ours = word[0] == proto and word[1] == hexed(VIP, port)
                if ours:
                    found = []
            elif ours:
                addr, dport = word[1].split(":")
                found.append(Dest((address(addr), int(dport, 16)), word[2], *map(int, word[3:6])))
        return found and sorted(found)

    def stats(self):
        """The totals in /proc/net/ip_vs_stats."""
        return Stats(*(int(word, 16) for word in self.director.proc("ip_vs_stats").splitlines()[2].split()))

    def listed_stats(self, port):
        """(service, [each destination]) as the command lists them with --stats --exact."""
        rows = []
        for line in self.adm(f"-Ln -t {VIP}:{port} --stats --exact").splitlines()[2:]:
            word = line.split()
            rows.append(Stats(*map(int, word[2:7])))
        return rows[0], rows[1:]

    def counters(self):
        """The extended statistics of rlvs by name."""
        return {name: int(value) for name, value in
                (line.split() for line in self.director.proc("rlvs_ext_stats").splitlines())}

    # -- real sockets

    def listen(self, addr=SERVERS[0], port=8080, kind=socket.SOCK_STREAM):
        """A socket of a real server."""
        with self.server:
            sock = socket.socket(socket.AF_INET, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.settimeout(5 * kernel.SLOW)
        sock.bind((addr, port))
        if kind == socket.SOCK_STREAM:
            sock.listen(512)
        return sock

    def connect(self, port, seconds=5):
        """A client's TCP connection to the VIP."""
        with self.client:
            sock = socket.socket()
        sock.settimeout(seconds * kernel.SLOW)
        sock.connect((VIP, port))
        return sock

    def works(self, port, listener):
        """Asserts that a request through the service is answered: one connection, both ways."""
        with self.connect(port) as ours:
            theirs, _ = listener.accept()
            with theirs:
                theirs.settimeout(5 * kernel.SLOW)
                ours.sendall(b"request")
                assert theirs.recv(100) == b"request"
                theirs.sendall(b"answer")
                assert ours.recv(100) == b"answer"


def address(text):
    """The usual form of an address of /proc/net/ip_vs_conn."""
    if ":" in text:
        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, text.strip("[]")))
    return socket.inet_ntoa(bytes.fromhex(text))


def hexed(addr, port):
    """An address and port as /proc/net/ip_vs has them."""
    return f"{socket.inet_aton(addr).hex().upper()}:{port:04X}"


def same(seen, **expected):
    """Asserts that the fields of a packet have these values, naming each that has not."""
    wrong = [f"{name} is {getattr(seen, name)!r}, not {value!r}" for name, value in expected.items()
             if getattr(seen, name) != value]
    assert not wrong, f"{seen}: {'; '.join(wrong)}"


def clean(packet):
    """Asserts that a packet's checksums are right; returns it."""
    assert not packet.sums(), f"{packet}: wrong {packet.sums()}"
    return packet


class Flow:
    """One flow of crafted packets from a client without a stack to a server without one."""

    def __init__(self, world, port, proto="tcp", client=None):
        self.world, self.vport, self.proto = world, port, proto
        self.client = (client or GHOST_CLIENTS[0], world.port())
        self.at_client, self.at_server = world.taps()
        self.peer = self.server = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.at_client.sock.close()
        self.at_server.sock.close()

    def clear(self):
        """Forgets what has been heard: another flow's packets, say."""
        for tap in (self.at_client, self.at_server):
            for _ in tap.frames():
                pass

    def to_server(self, data):
        """Sends a packet from the client side; returns the one that reaches the server side."""
        self.clear()
        self.at_client.send(data)
        return self.at_server.wait()

    def request(self, data):
        """The same, and takes what arrives for the flow's: replies will answer it."""
        seen = self.to_server(data)
        self.peer, self.server = seen.flow
        return seen

    def reply(self, data):
        """Sends a packet from the server side; returns the one that reaches the client side."""
        self.clear()
        self.at_server.send(data)
        return self.at_client.wait()
