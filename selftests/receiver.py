# SPDX-License-Identifier: GPL-2.0
"""rlvs-toa on a real server: every form of the option, from every packet, on sockets of every kind.

The balancer is a wire on which packets are written by hand, so no module is needed:

    balancer b1 ---- s1 server 10.3.0.11, 2001:db8:3::11
"""

import contextlib
import ctypes
import json
import os
import re
import socket
import struct
import subprocess
import time

import kernel
import packet
from lib import Namespace, TOP, each, run, wait_for
from packet import ACK, FIN, NOP, PSH, SYN

LOAD = False

TOOL = f"{TOP}/target/release/rlvs-toa"
SERVER4, SERVER6 = "10.3.0.11", "2001:db8:3::11"
LADDR4, LADDR6 = "10.3.0.201", "2001:db8:3::201"
STRANGER4, STRANGER6 = "10.3.0.66", "2001:db8:3::66"
CLIENT4, CLIENT6 = ("198.51.100.2", 40000), ("2001:db8:99::2", 40006)
FROM = ["10.3.0.192/26", "2001:db8:3::200/120"]
MAC_BALANCER, MAC_SERVER = "020000000301", "020000000302"
EXID = 0x544F


def colons(mac):
    """A hardware address as it is written."""
    return ":".join(mac[n:n + 2] for n in range(0, 12, 2))


def raw(addr):
    """The bytes of an address of either family."""
    return socket.inet_pton(socket.AF_INET6 if ":" in addr else socket.AF_INET, addr)


def option(client, kind=254, exid=None):
    """The option that tells a client, padded to words."""
    body = (b"" if exid is None else struct.pack("!H", exid)) + struct.pack("!H", client[1]) + raw(client[0])
    whole = bytes([kind, len(body) + 2]) + body
    return whole + NOP * (-len(whole) % 4)


def toa_tool(*words, check=True):
    """Runs rlvs-toa."""
    return run(TOOL, *words, check=check)


def status():
    """What rlvs-toa tells of itself."""
    return json.loads(toa_tool("status", "--json").stdout)


def counters():
    """Its counters, from when it was attached or a test began on."""
    before = _attached.get("counters", {})
    now = status()
    told = {**now["counters"], "without": now["without"]}
    return {name: value - before.get(name, 0) for name, value in told.items()}


def watched():
    """{balancer's address: client} of all connections that know one."""
    return {row["peer"]: row["client"] for row in json.loads(toa_tool("watch", "--json").stdout)}


def pinned(sock):
    """What the pinned map says of a socket: address, port, kind, source."""
    def bpf(command, attribute):
        buffer = ctypes.create_string_buffer(attribute, 128)
        done = ctypes.CDLL(None, use_errno=True).syscall(321, command, buffer, 128)
        if done < 0:
            raise OSError(ctypes.get_errno(), "bpf")
        return done

    path = ctypes.create_string_buffer(b"/sys/fs/bpf/rlvs-toa/clients")
    fd = bpf(7, struct.pack("Q", ctypes.addressof(path)))
    key, value = ctypes.c_int(sock.fileno()), ctypes.create_string_buffer(20)
    try:
        bpf(1, struct.pack("IIQQQ", fd, 0, ctypes.addressof(key), ctypes.addressof(value), 0))
    finally:
        os.close(fd)
    addr, port, kind, source = struct.unpack("!16sHBB", value.raw)
    return socket.inet_ntop(socket.AF_INET6, addr), port, kind, source


# How it is attached, and what it had counted when the test began.
_attached = {}


@contextlib.contextmanager
def attached(*words, prefixes=None):
    """rlvs-toa attached like that; it stays so for the next test, which may want the same."""
    how = ("attach", "--from", *(prefixes or FROM), *words)
    if _attached.get("how") != how:
        # Devices are those of the server's namespace.
        with the_wire().server:
            toa_tool(*how)
    _attached.clear()
    _attached.update(how=how, counters=counters())
    yield


def detached():
    """Takes it away, so that it is attached anew; the command's result."""
    _attached.clear()
    with the_wire().server:
        return toa_tool("detach", check=False)


class Wire:
    """The balancer's end of the wire."""

    def __init__(self):
        self.balancer, self.server = Namespace("toabal"), Namespace("toasrv")
        self.server.ip(
            f"link add s1 address {colons(MAC_SERVER)} type veth peer name b1 address "
            f"{colons(MAC_BALANCER)} netns toabal",
            "link set lo up", "link set s1 up",
            f"addr add {SERVER4}/24 dev s1", f"addr add {SERVER6}/64 dev s1 nodad",
            *(f"neigh add {addr} lladdr {colons(MAC_BALANCER)} dev s1 nud permanent"
              for addr in (LADDR4, LADDR6, STRANGER4, STRANGER6)))
        for name in ("all", "default"):
            self.balancer.sysctl(f"net.ipv6.conf.{name}.disable_ipv6", 1)
        self.balancer.ip("link set b1 up")
        with self.balancer:
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.sock.bind(("b1", 3))
        self.sock.settimeout(3 * kernel.SLOW)
        self._port = 20000
        wait_for(lambda: "LOWER_UP" in self.server.run("ip", "link", "show", "s1").stdout, about="the wire")

    def port(self):
        """A port that was not used before."""
        self._port += 1
        return self._port

    def send(self, src, dst, proto, segment, options=b"", between=b""):
        """Sends an IP packet; `between` stands between the headers."""
        if ":" in src:
            body = between + segment
            data = struct.pack("!IHBB", 6 << 28, len(body), proto, 64) + raw(src) + raw(dst) + body
            kind = 0x86DD
        else:
            data, kind = packet.ip(src, dst, proto, between + segment, options=options), 0x0800
        head = bytes.fromhex(MAC_SERVER + MAC_BALANCER) + struct.pack("!H", kind)
        self.sock.send(head + data)

    def hear(self, match):
        """The next TCP or UDP packet of the server for which `match` is true: (src, dst, its bytes)."""
        end = time.monotonic() + 3 * kernel.SLOW
        while time.monotonic() < end:
            frame = self.sock.recv(65600)
            if frame[6:12] != bytes.fromhex(MAC_SERVER):
                continue
            if frame[12:14] == b"\x08\x00":
                seen = packet.Packet(frame[14:])
                found = (seen.proto, seen.src, seen.dst, seen.l4)
            elif frame[12:14] == b"\x86\xdd":
                found = (frame[20], *(socket.inet_ntop(socket.AF_INET6, frame[at:at + 16]) for at in (22, 38)),
                         frame[54:])
            else:
                continue
            if found[0] in (packet.TCP, packet.UDP) and match(*found):
                return found
        raise AssertionError("the server did not answer")

    def close(self):
        """Takes it down."""
        self.sock.close()
        self.balancer.close()
        self.server.close()


def pseudo(src, dst, proto, segment):
    """The segment with its checksum in place: TCP's is at 16, UDP's at 6."""
    at = 16 if proto == packet.TCP else 6
    head = raw(src) + raw(dst) + (struct.pack("!II", len(segment), proto) if ":" in src
                                  else struct.pack("!HH", proto, len(segment)))
    check = packet.checksum(head + segment[:at] + b"\0\0" + segment[at + 2:])
    return segment[:at] + struct.pack("!H", check or 0xFFFF) + segment[at + 2:]


class Peer:
    """A TCP connection to the server, written by hand."""

    def __init__(self, wire, port, src=LADDR4, dst=SERVER4, sport=None):
        self.wire, self.src, self.dst = wire, src, dst
        self.sport, self.dport = sport or wire.port(), port
        self.seq, self.acked, self.options = 1000, 0, b""
        self.name = f"[{src}]:{self.sport}" if ":" in src else f"{src}:{self.sport}"

    def send(self, flags, options=b"", payload=b""):
        """Sends a segment."""
        options += b"\0" * (-len(options) % 4)
        segment = struct.pack("!HHIIBBHHH", self.sport, self.dport, self.seq, self.acked,
                              (5 + len(options) // 4) << 4, flags, 8192, 0, 0) + options + payload
        self.wire.send(self.src, self.dst, packet.TCP, pseudo(self.src, self.dst, packet.TCP, segment))
        self.seq += len(payload) + bool(flags & (SYN | FIN))

    def hear(self, flags):
        """The server's next segment with these flags: its payload."""
        def match(proto, _, dst, data):
            return proto == packet.TCP and dst == self.src and data[:4] == struct.pack("!HH", self.dport, self.sport) \
                and data[13] & flags == flags
        data = self.wire.hear(match)[3]
        seq, = struct.unpack("!I", data[4:8])
        head = (data[12] >> 4) * 4
        self.options, payload = data[20:head], data[head:]
        self.acked = seq + len(payload) + bool(data[13] & (SYN | FIN))
        return payload

    def open(self, syn=b"", ack=b"", mss=True):
        """The handshake."""
        self.send(SYN, syn + (packet.MSS1460 if mss else b""))
        self.hear(SYN | ACK)
        self.send(ACK, ack)
        return self

    def reset(self, sock):
        """Ends the connection, whose other end is `sock`, at once."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        self.hear(packet.RST)


_WIRE = []


def the_wire():
    """The wire, made when it is needed first."""
    if not _WIRE:
        _WIRE.append(Wire())
    return _WIRE[0]


def end():
    """Takes it down."""
    detached()
    while _WIRE:
        _WIRE.pop().close()


def listen(addr=SERVER4, port=None, **options):
    """A listener of the server; `options` are TCP's by name."""
    wire = the_wire()
    with wire.server:
        sock = socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for name, value in options.items():
        sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    sock.settimeout(3 * kernel.SLOW)
    sock.bind((addr, port or wire.port()))
    sock.listen(64)
    return sock


def port_of(listener):
    """Its port."""
    return listener.getsockname()[1]


def shown(listener):
    """What accept() and then getpeername() show of the next connection, and its socket."""
    sock, addr = listener.accept()
    sock.settimeout(3 * kernel.SLOW)
    return addr[:2], sock.getpeername()[:2], sock


# A time stamp that echoes none: newer kernels look at what is echoed.
STAMP = packet.TIMESTAMP[:6] + bytes(4) + NOP * 2
FORMS = {
    "254": option(CLIENT4), "253": option(CLIENT4, 253), "200": option(CLIENT4, 200), "252": option(CLIENT4, 252),
    "254-exid": option(CLIENT4, 254, EXID), "253-exid": option(CLIENT4, 253, EXID),
    "behind": STAMP + option(CLIENT4), "last": NOP * 32 + option(CLIENT4),
}
FORMS6 = {
    "254": option(CLIENT6), "253": option(CLIENT6, 253), "254-exid": option(CLIENT6, 254, EXID),
    "behind": NOP * 20 + option(CLIENT6),
}


@each("SYN", "ACK", "SYN-and-ACK")
def test_forms(_, where):
    """Both families, every kind and form, wherever it stands among the options."""
    with attached(), listen() as ip4, listen(SERVER6) as ip6:
        for listener, forms, client, src, dst in ((ip4, FORMS, CLIENT4, LADDR4, SERVER4),
                                                  (ip6, FORMS6, CLIENT6, LADDR6, SERVER6)):
            for name, form in forms.items():
                if where != "ACK" and len(form) > 36:
                    continue
                peer = Peer(the_wire(), port_of(listener), src, dst).open(
                    form if "SYN" in where else b"", form if "ACK" in where else b"")
                accepted, asked, sock = shown(listener)
                assert accepted == asked == client, f"{name}: {accepted} and {asked}, expected {client}"
                # Once for a family is enough of what takes long on the debug kernel.
                if name == "254":
                    told = watched().get(peer.name)
                    assert told == (f"[{client[0]}]:{client[1]}" if ":" in client[0]
                                    else f"{client[0]}:{client[1]}"), told
                peer.reset(sock)
        told = counters()
        opened = told["connections"]
        assert opened >= 10 and told["options_syn" if where == "SYN" else "options_ack"] == opened, told
        assert told["addresses"] == 2 * opened, told


def test_first_data(_):
    """An option that comes with data only: from then on getpeername() shows the client."""
    with attached(), listen() as listener:
        peer = Peer(the_wire(), port_of(listener)).open()
        accepted, asked, sock = shown(listener)
        assert accepted == asked == (LADDR4, peer.sport), f"{accepted}, {asked}"
        peer.send(PSH | ACK, payload=b"one")
        peer.send(PSH | ACK, option(CLIENT4), b"two")
        wait_for(lambda: sock.recv(100, socket.MSG_PEEK) == b"onetwo", about="data")
        assert sock.getpeername() == CLIENT4, sock.getpeername()
        assert counters()["options_data"] == 1
        sock.close()


def test_not_after_the_answer(_):
    """What has the option's form behind the server's first data is nothing a balancer sends."""
    with attached(), listen() as listener:
        peer = Peer(the_wire(), port_of(listener)).open()
        _, _, sock = shown(listener)
        peer.send(PSH | ACK, payload=b"ask")
        sock.recv(100)
        sock.sendall(b"answer")
        assert peer.hear(PSH | ACK) == b"answer"
        peer.send(ACK)
        peer.send(PSH | ACK, option(CLIENT4), b"more")
        assert sock.recv(100) == b"more"
        assert sock.getpeername() == (LADDR4, peer.sport), sock.getpeername()
        assert counters()["without"] == 1
        sock.close()


@each(1, 3)
def test_port_of_fast_open(_, fast_open):
    """A client's port that makes the kernel take the option for one of Fast Open's, which the server may have."""
    client, wire = (CLIENT4[0], 0xF989), the_wire()
    wire.server.sysctl("net.ipv4.tcp_fastopen", fast_open)
    try:
        with attached(), listen(TCP_FASTOPEN=16) as listener:
            for where in ("SYN", "ACK", "data"):
                peer = Peer(wire, port_of(listener))
                peer.open(*(option(client) if where == name else b"" for name in ("SYN", "ACK")))
                _, _, sock = shown(listener)
                # A cookie nobody has asked for is all that comes of it.
                unasked = option(client)[:1] + b"\x0c\xf9\x89" in peer.options
                assert unasked == (where == "SYN" and fast_open == 3), f"{where}: {peer.options.hex(' ')}"
                peer.send(PSH | ACK, option(client) if where == "data" else b"", b"x")
                assert sock.recv(10) == b"x"
                assert sock.getpeername() == client, f"{where}: {sock.getpeername()}"
                sock.close()
    finally:
        wire.server.sysctl("net.ipv4.tcp_fastopen", 1)


def test_syn_cookies(_):
    """The SYN is forgotten; the ACK tells."""
    wire = the_wire()
    wire.server.sysctl("net.ipv4.tcp_syncookies", 2)
    try:
        with attached(), listen() as listener, listen(SERVER6) as listener6:
            Peer(wire, port_of(listener)).open(option(CLIENT4), option(CLIENT4))
            assert shown(listener)[:2] == (CLIENT4, CLIENT4)
            Peer(wire, port_of(listener6), LADDR6, SERVER6).open(b"", option(CLIENT6))
            assert shown(listener6)[:2] == (CLIENT6, CLIENT6)
            assert counters()["options_ack"] == 2
    finally:
        wire.server.sysctl("net.ipv4.tcp_syncookies", 1)


def test_defer_accept(_):
    """With TCP_DEFER_ACCEPT the packet with data opens the connection, and tells."""
    with attached(), listen(TCP_DEFER_ACCEPT=10) as listener:
        peer = Peer(the_wire(), port_of(listener)).open()
        peer.send(PSH | ACK, option(CLIENT4), b"GET /")
        accepted, asked, sock = shown(listener)
        assert accepted == asked == CLIENT4, f"{accepted}, {asked}"
        assert sock.recv(100) == b"GET /" and counters()["options_data"] == 1
        sock.close()


def test_fast_open(_):
    """With Fast Open the SYN opens the connection, and tells."""
    wire = the_wire()
    wire.server.sysctl("net.ipv4.tcp_fastopen", 0x602)
    try:
        with attached(), listen(TCP_FASTOPEN=16) as listener:
            peer = Peer(wire, port_of(listener))
            peer.send(SYN, option(CLIENT4) + packet.MSS1460, b"early")
            accepted, asked, sock = shown(listener)
            assert accepted == asked == CLIENT4, f"{accepted}, {asked}"
            assert sock.recv(100) == b"early" and counters()["options_syn"] == 1
            sock.close()
    finally:
        wire.server.sysctl("net.ipv4.tcp_fastopen", 1)


def test_families(_):
    """What a socket can say it says; where it cannot, watch and the pinned map tell."""
    mapped = ("::ffff:" + CLIENT4[0], CLIENT4[1])
    with attached(), listen() as ip4, listen("::") as dual, listen(SERVER6) as ip6:
        for listener, src, dst, client, expected in (
                (dual, LADDR4, SERVER4, CLIENT4, mapped), (dual, LADDR6, SERVER6, CLIENT6, CLIENT6),
                (dual, LADDR4, SERVER4, CLIENT6, CLIENT6), (ip6, LADDR6, SERVER6, CLIENT4, mapped)):
            Peer(the_wire(), port_of(listener), src, dst).open(b"", option(client))
            assert shown(listener)[:2] == (expected, expected), f"{src} to {dst}, {client}"
        peer = Peer(the_wire(), port_of(ip4)).open(b"", option(CLIENT6))
        accepted, asked, sock = shown(ip4)
        assert accepted == asked == (LADDR4, peer.sport), f"{accepted}, {asked}"
        assert watched()[peer.name] == f"[{CLIENT6[0]}]:{CLIENT6[1]}", watched()
        assert pinned(sock) == (*CLIENT6, 254, 1), pinned(sock)
        assert counters()["other_family"] == 2
        sock.close()


def test_strangers(_):
    """Who is no balancer is not believed, in either family, wherever he claims it."""
    claim4, claim6 = option(("192.0.2.1", 1)), option(("2001:db8::1", 1))
    with attached(), listen() as ip4, listen(SERVER6) as ip6:
        for listener, src, dst, claim in ((ip4, STRANGER4, SERVER4, claim4), (ip6, STRANGER6, SERVER6, claim6)):
            peer = Peer(the_wire(), port_of(listener), src, dst).open(claim, claim)
            accepted, asked, sock = shown(listener)
            peer.send(PSH | ACK, claim, b"x")
            assert sock.recv(10) == b"x"
            assert accepted == asked == sock.getpeername()[:2] == (src, peer.sport), f"{accepted}, {asked}"
            sock.close()
        told = counters()
        assert (told["strangers"], told["connections"], told["addresses"]) == (2, 0, 0), told
        assert STRANGER4 not in str(watched()) and STRANGER6 not in str(watched()), watched()
    with attached(prefixes=["any"]), listen() as ip4:
        Peer(the_wire(), port_of(ip4), STRANGER4).open(b"", claim4)
        assert shown(ip4)[0] == ("192.0.2.1", 1)


NONSENSE = {
    "zero-length": b"\x05\x00" + NOP * 2 + option(CLIENT4), "length-one": b"\x08\x01" + NOP * 2 + option(CLIENT4),
    "overlong": NOP * 4 + option(CLIENT4)[:1] + b"\x28", "cut-off": NOP * 4 + option(CLIENT4)[:4],
    "behind-end": b"\0" * 4 + option(CLIENT4), "other-length": b"\xfe\x0c" + bytes(10),
    "other-exid": option(CLIENT4, 254, EXID ^ 1), "other-kind": option(CLIENT4, 77),
}


def test_nonsense(_):
    """Malformed options and those of others tell nothing and harm nothing."""
    with attached(), listen() as listener:
        for name, options in NONSENSE.items():
            peer = Peer(the_wire(), port_of(listener)).open(b"", options)
            accepted, asked, sock = shown(listener)
            assert accepted == asked == (LADDR4, peer.sport), f"{name}: {accepted}, {asked}"
            sock.close()
        assert counters()["without"] == len(NONSENSE)


def test_chosen(_):
    """--kind, --exid and --port leave others as they are."""
    other = listen()
    with other, listen() as listener, attached("--kind", "77", "--exid", "0x1234", "--port", str(port_of(listener))):
        for options, expected in ((option(CLIENT4, 77), True), (option(CLIENT4), False),
                                  (option(CLIENT4, 254, 0x1234), False), (option(CLIENT4, 77, 0x1234), False)):
            Peer(the_wire(), port_of(listener)).open(b"", options)
            assert (shown(listener)[0] == CLIENT4) == expected, options.hex(" ")
        Peer(the_wire(), port_of(other)).open(b"", option(CLIENT4, 77))
        assert shown(other)[0][0] == LADDR4
    with listen() as listener, attached("--kind", "254", "--exid", "0x1234"):
        Peer(the_wire(), port_of(listener)).open(b"", option(CLIENT4, 254, 0x1234))
        assert shown(listener)[0] == CLIENT4


def test_cgroup(_):
    """Attached to a cgroup, only its processes see clients."""
    group = "/sys/fs/cgroup/rlvs-toa-test"
    os.mkdir(group)
    try:
        with attached("--cgroup", group), listen() as outside:
            Peer(the_wire(), port_of(outside)).open(b"", option(CLIENT4))
            assert shown(outside)[0][0] == LADDR4
            with open("/sys/fs/cgroup/cgroup.procs", "w", encoding="ascii") as home, \
                    open(f"{group}/cgroup.procs", "w", encoding="ascii") as procs:
                procs.write("0\n")
                procs.flush()
                try:
                    inside = listen()
                finally:
                    home.write("0\n")
            with inside:
                Peer(the_wire(), port_of(inside)).open(option(CLIENT4))
                assert shown(inside)[0] == CLIENT4
    finally:
        wait_for(lambda: not removed(group), about="the cgroup to go")


def removed(group):
    """Tries to remove a cgroup: None, or why not."""
    try:
        os.rmdir(group)
    except OSError as error:
        return error
    return None


def unit(line, arguments=""):
    """The words behind the command in a line of the systemd unit, ARGS among them as systemd splits it."""
    with open(f"{TOP}/packaging/systemd/rlvs-toa.service", encoding="ascii") as file:
        command, *words = re.search(f"^{line}=(.*)$", file.read(), re.M)[1].split()
    assert command.endswith("/sbin/rlvs-toa"), command
    return [part for word in words for part in (arguments.split() if word == "$ARGS" else [word])]


def test_attach_again(_):
    """The systemd unit's lines: reloading changes what is configured and keeps what sockets know, stopping ends it."""
    with attached(), listen() as listener:
        Peer(the_wire(), port_of(listener)).open(b"", option(CLIENT4))
        _, _, sock = shown(listener)
        toa_tool(*unit("ExecReload", f"--from {STRANGER4}"))
        assert sock.getpeername() == CLIENT4
        assert status()["config"]["from"] == [STRANGER4]
        Peer(the_wire(), port_of(listener), STRANGER4).open(b"", option(CLIENT4))
        Peer(the_wire(), port_of(listener)).open(b"", option(CLIENT4))
        assert [shown(listener)[0] for _ in range(2)][0] == CLIENT4
        assert counters()["strangers"] == 1
        links = status()["links"]
        assert links == 3, links
        toa_tool(*unit("ExecStop"))
        _attached.clear()
        assert sock.getpeername()[0] == LADDR4
        assert not [name for name in os.listdir("/sys/fs/bpf") if "toa" in name]
        sock.close()
    toa_tool(*unit("ExecStart", f"--from {LADDR4} {LADDR6}"))
    assert status()["counters"]["connections"] == 0 and status()["config"]["from"] == [LADDR4, LADDR6]


def test_listening_before(_):
    """A listener from before attaching is told by the ACK and by data, not by a SYN."""
    detached()
    with listen() as listener, attached():
        for syn, ack, expected in ((b"", option(CLIENT4), CLIENT4[0]), (option(CLIENT4), b"", LADDR4)):
            Peer(the_wire(), port_of(listener)).open(syn, ack)
            assert shown(listener)[0][0] == expected


def test_saved_syn(_):
    """Whoever reads saved SYNs himself still gets them, as he has asked for them."""
    save = 27
    with attached(), listen() as listener:
        fresh = listen()
        with fresh:
            fresh.setsockopt(socket.IPPROTO_TCP, save, 1)
            peer = Peer(the_wire(), port_of(fresh)).open(option(CLIENT4))
            accepted, _, sock = shown(fresh)
            assert accepted == CLIENT4
            syn = sock.getsockopt(socket.IPPROTO_TCP, save + 1, 200)
            assert syn[0] >> 4 == 4 and syn[20:22] == struct.pack("!H", peer.sport), syn.hex(" ")
            sock.close()
        assert listener.getsockopt(socket.IPPROTO_TCP, save) == 1


def test_mistakes(_):
    """What cannot be done is said, and changes nothing."""
    detached()
    for words, told in ((["--from", "10.0.0.0/8", "--cgroup", "/tmp"], "/tmp: not a cgroup of version 2"),
                        (["--from", "10.0.0.0/8", "--cgroup", "/nowhere"], "/nowhere: ENOENT"),
                        (["--from", "any", "--udp", "--device", "eth9"], "there is no network device eth9"),
                        (["--from", "0.0.0.0/0"], "everybody is `any'"), ([], "--from")):
        done = toa_tool("attach", *words, check=False)
        assert done.returncode and told in done.stderr, f"{words}: {done.returncode}, {done.stderr}"
        assert toa_tool("status", check=False).returncode == 3
    done = detached()
    assert done.returncode == 3 and "nothing is attached" in done.stderr, done.stderr
    done = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", TOOL, "attach", "--from", "any"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "root" in done.stderr, done.stderr


@each("bpf", "cgroup")
def test_missing(_, what):
    """What is missing is named: a mount, with the command that makes it, or else what the kernel lacks."""
    detached()
    kind, lacks = {"bpf": ("bpf", "BPF programs (CONFIG_BPF_SYSCALL)"),
                   "cgroup": ("cgroup2", "cgroups of version 2 (CONFIG_CGROUPS)")}[what]
    script = f"""umount -l /sys/fs/{what}
                 grep -v '\\<{kind}$' /proc/filesystems >/tmp/kinds
                 mount --bind /tmp/kinds /proc/filesystems; {TOOL} attach --from any; echo $?
                 umount /proc/filesystems; told=$({TOOL} attach --from any 2>&1); echo $?
                 eval "${{told##*: }}" && {TOOL} attach --from any && {TOOL} detach; echo $?"""
    first, one, other, last = run("unshare", "-m", "sh", "-c", "exec 2>&1\n" + script).stdout.splitlines()
    assert first.endswith(f"this kernel ({os.uname().release}) lacks {lacks}"), first
    assert (one, other, last) == ("1", "1", "0"), (one, other, last)


def test_closed(_):
    """Connections that are closed leave nothing behind."""
    with attached(), listen() as listener:
        peers = [Peer(the_wire(), port_of(listener)).open(b"", option(CLIENT4)) for _ in range(10)]
        socks = [shown(listener)[2] for _ in peers]
        names = {peer.name for peer in peers}
        assert names <= watched().keys(), watched()
        for peer, sock in zip(peers, socks):
            peer.reset(sock)
        assert not names & watched().keys(), watched()
