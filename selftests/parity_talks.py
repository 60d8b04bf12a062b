# SPDX-License-Identifier: GPL-2.0
"""Scenarios of real clients and servers: what each side sees of the other, by every method, and how connections end."""

import contextlib
import hashlib
import io
import os
import select
import shutil
import socket
import struct
import subprocess
import tempfile
import time

import ftp
import kernel
import lib
from parity_flows import COMMON, MAIN, METHODS, TUNNELS, Flow, at, label

# Families of the service and of the destination.
WAYS = [(method, family, family) for method in MAIN for family in (4, 6)]
LOCAL = [(method, family, family) for method in ("local_nat", "local_dr") for family in (4, 6)]
ALL = WAYS + [(method, family, 10 - family) for method in TUNNELS if method in MAIN for family in (4, 6)] + LOCAL
NAT = [way for way in WAYS if way[0] == "nat"]
SHORT = [way for way in WAYS if way[0] in COMMON]
FEW = [("nat", 4, 4), ("nat", 6, 6), ("dr", 4, 4), ("ipip", 6, 6)]
# Ends a connection with a RST or an ABORT; the socket options of TCP that make one end without a word, and of UDP.
LINGER = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
REPAIR, SEGMENT = (socket.IPPROTO_TCP, 19, 1), (socket.IPPROTO_UDP, 103)
UP, DOWN = (hashlib.shake_128(word).digest(512 << 10) for word in (b"up", b"down"))
WEB, FTP, DATA = 8090, 21, 20021
# So long another program may take until it goes on.
PROGRAM = 0.04 * kernel.SLOW

NGINX = """
daemon off; master_process off; pid {dir}/{number}.pid; error_log {dir}/{number}.err;
events {{ }}
http {{
	access_log off;
	server {{
		listen %d; listen [::]:%d; root {dir};
		location /who {{ return 200 "$server_addr $server_port $remote_addr $remote_port $connection_requests\\n"; }}
	}}
}}
""" % (WEB, WEB)


def digest(data):
    """Some bytes in few."""
    return f"{len(data)} bytes {hashlib.sha256(data).hexdigest()[:16]}"


def said(action):
    """What a call comes to."""
    try:
        got = action()
    except OSError as error:
        return error.strerror or str(error)
    return digest(got) if isinstance(got, bytes) and len(got) > 24 else repr(got)


@contextlib.contextmanager
def programs(farm):
    """nginx at both servers, and vsftpd at the first."""
    home, running = tempfile.mkdtemp(), []

    def put(name, text):
        path = f"{home}/{name}"
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        return path

    def start(place, *command):
        with place:
            running.append(subprocess.Popen(command))  # pylint: disable=consider-using-with

    for name in ("root", "empty"):
        os.mkdir(f"{home}/{name}", 0o755)
    os.chmod(home, 0o755)
    put("file", "a hundred thousand bytes, more or less, in lines\n" * 2000)
    shutil.copy(f"{home}/file", f"{home}/root/file")
    config = ftp.CONFIG.format(root=f"{home}/root", empty=f"{home}/empty")
    config += f"pasv_min_port={DATA}\npasv_max_port={DATA}\n"
    try:
        for number, place in enumerate(farm.servers, 1):
            start(place, "nginx", "-c", put(f"nginx{number}", NGINX.format(dir=home, number=number)))
        start(farm.servers[0], "/usr/sbin/vsftpd", put("ftp4", config))
        start(farm.servers[0], "/usr/sbin/vsftpd", put("ftp6", config.replace(
            "listen=YES", "listen=NO\nlisten_ipv6=YES\nlisten_address6=" + "2001:db8:2::11")))
        for number, place in enumerate(farm.servers):
            for port in (WEB, FTP)[:2 - number]:
                lib.wait_for(lambda port=port, place=place: all(f":{port:04X} " in place.proc(name) for name in
                                                                ("tcp", "tcp6")), 20, 0.05, "a program to listen")
        yield
    finally:
        for process in running:
            process.terminate()
            process.wait()
        shutil.rmtree(home)


class Service(Flow):
    """A service with real servers behind it."""

    def __init__(self, scene, way, proto, words="-s rr", servers=(1, 2), *, listens=True, mark=False, **how):
        method = way[0].removeprefix("local_")
        if way[0] != method:
            servers = (0,)
        super().__init__(scene, proto, method, way[2], **how)
        self.mark, self.translated = mark, method == "nat"
        # Where clients go.
        self.where = (scene.target(1) if mark else scene.vip, self.vport)
        self.service(words, servers)
        for number in servers if listens else ():
            scene.listen(number, proto, self.of(number), self.dport)

    def key(self):
        return "-f {}{}".format(self.scene.number, " -6" if self.family == 6 else "") if self.mark else super().key()

    def of(self, number):
        """The address that a server is asked at."""
        return self.scene.server(number) if self.translated else self.where[0]

    def dial(self, number=1, port=None):
        """A client's socket that is connected, or has failed to; and what came of it."""
        ours = self.scene.client_socket(self.proto, number, port)
        return ours, said(lambda: ours.connect(self.where))

    def open(self, number=1, port=None):
        """A connection: (the client's end, the server's)."""
        ours, told = self.dial(number, port)
        server, theirs, peer = self.scene.accept()
        self.scene.look("opens", f"the client is connected: {told} to {at(*ours.getpeername()[:2])}",
                        f"server {server} has {peer} at {at(*theirs.getsockname()[:2])}")
        return ours, theirs

    def ask(self, ours, theirs, request=b"request", answer=b"the answer"):
        """A request and its answer."""
        ours.sendall(request)
        got = said(lambda: theirs.recv(100))
        theirs.sendall(answer)
        self.scene.look("asks", f"the server got {got}", f"the client got {said(lambda: ours.recv(100))}")

    def closes(self, who, first, second):
        """One end closes the connection, then the other."""
        first.close()
        self.scene.look(f"{who} closes", f"the other got {said(lambda: second.recv(100))}")
        second.close()
        self.scene.look("the other closes")


def short(scene, way, proto):
    """Connections that clients and servers close."""
    service = Service(scene, way, proto)
    ours, theirs = service.open()
    service.ask(ours, theirs)
    service.closes("the client", ours, theirs)
    ours, theirs = service.open()
    service.ask(ours, theirs)
    service.closes("the server", theirs, ours)


def reset(scene, way, proto):
    """Connections that are reset, by either end."""
    service = Service(scene, way, proto)
    for who in ("the client", "the server"):
        ours, theirs = service.open()
        service.ask(ours, theirs)
        first, second = (ours, theirs) if who == "the client" else (theirs, ours)
        first.setsockopt(*LINGER)
        first.close()
        scene.look(f"{who} resets", f"the other got {said(lambda second=second: second.recv(100))}")


def half(scene, way):
    """An end that has no more to say still gets answers."""
    service = Service(scene, way, "tcp")
    for who in ("the client", "the server"):
        ours, theirs = service.open()
        first, second = (ours, theirs) if who == "the client" else (theirs, ours)
        first.sendall(b"all there is")
        first.shutdown(socket.SHUT_WR)
        got = [said(lambda second=second: second.recv(100)) for _ in range(2)]
        scene.look(f"{who} has said all", f"the other got {got}")
        second.sendall(b"a late answer")
        scene.look("the other answers", f"it got {said(lambda first=first: first.recv(100))}")
        second.close()
        got = said(lambda first=first: first.recv(100))
        first.close()
        scene.look("the other closes", f"it got {got}")


def again(scene, way):
    """A client opens a connection anew that its server has closed, from the same port."""
    service = Service(scene, way, "tcp")
    for _ in range(3):
        ours, theirs = service.open(port=21000)
        service.ask(ours, theirs)
        service.closes("the server", theirs, ours)


def refused(scene, way, proto):
    """Nobody listens."""
    service = Service(scene, way, proto, listens=False)
    for _ in range(2):
        ours, told = service.dial()
        if proto == "udp":
            # A datagram that nobody takes: whoever sends the next one hears of it.
            ours.send(b"for nobody")
            scene.look("a datagram")
            told = said(lambda ours=ours: ours.recv(100))
        scene.look("the client calls", f"it got {told}")


def dead(scene, way, proto):
    """The server does not answer, and the client gives up."""
    service = Service(scene, way, proto, servers=(3,), listens=False)
    ours = scene.client_socket(proto)
    ours.setblocking(False)
    ours.connect_ex(service.where)
    if proto == "udp":
        ours.send(b"for nobody")
    scene.look("the client calls")
    ours.close()
    scene.look("the client is gone")


def gone(scene, way):
    """A client vanishes without a word, and its server goes on."""
    service = Service(scene, way, "tcp")
    ours, theirs = service.open()
    service.ask(ours, theirs)
    ours.setsockopt(*REPAIR)
    ours.close()
    scene.look("the client vanishes")
    theirs.sendall(b"more")
    scene.look("the server goes on", f"it got {said(lambda: theirs.recv(100))}")


def drained(scene, way):
    """A server that rests keeps its clients, and gets no others."""
    service = Service(scene, way, "tcp")
    ours, theirs = service.open()
    server = at(scene.server(scene.chosen, service.outer), service.dport)
    scene.adm(f"-e {service.key()} -r {server} {METHODS[way[0]]} -w 0")
    service.ask(ours, theirs)
    for _ in range(2):
        service.closes("the client", *service.open())
    service.closes("the client", ours, theirs)


def pump(*ends):
    """Sends and receives at both ends at once, (socket, what it sends, how much it gets); returns what they got."""
    left = {sock: memoryview(data) for sock, data, _ in ends}
    got, wanted = {sock: bytearray() for sock in left}, {sock: size for sock, _, size in ends}
    limit = time.monotonic() + 30 * kernel.SLOW
    for sock in left:
        sock.setblocking(False)
    while any(left.values()) or any(len(got[sock]) < wanted[sock] for sock in got):
        assert time.monotonic() < limit, f"left: {list(map(len, left.values()))}, got {list(map(len, got.values()))}"
        readable, writable, _ = select.select(list(got), [sock for sock in left if left[sock]], [], 1)
        for sock in readable:
            data = sock.recv(1 << 18)
            assert data, "the connection ended too early"
            got[sock] += data
        for sock in writable:
            left[sock] = left[sock][sock.send(left[sock][:1 << 18]):]
    for sock in got:
        sock.settimeout(5 * kernel.SLOW)
    return [bytes(got[sock]) for sock in got]


def bulk(scene, way, gathers):
    """Much of both directions at once, in large packets."""
    scene.exact = False
    scene.stage.lines(gathers)
    service = Service(scene, way, "tcp", servers=(1,))
    ours, theirs = service.open()
    # A device that puts packets together has room for a few hundred of them.
    size = 200 << 10 if gathers else len(UP)
    below, above = pump((ours, UP[:size], size), (theirs, DOWN[:size], size))
    assert (above, below) == (UP[:size], DOWN[:size]), f"{digest(above)}, {digest(below)}"
    scene.look("much", f"the server got {digest(above)}", f"the client got {digest(below)}")
    service.closes("the client", ours, theirs)
    scene.step("size", "there were large packets" if scene.large else "all packets were small")


def datagrams(scene, way):
    """Requests and answers of several sizes, from two clients."""
    service = Service(scene, way, "udp")
    for number in (1, 2):
        ours, _ = service.dial(number)
        for size in (7, 0, 100, 1400):
            ours.send(UP[:size])
            answered(scene, ours, 2)


def answered(scene, ours, answers=1):
    """A datagram arrives at some server, which answers; the client gets that."""
    number, theirs = scene.ready()
    data, peer = theirs.recvfrom(1 << 16)
    for _ in range(answers):
        theirs.sendto(DOWN[:len(data)], peer)
    got = [said(lambda: ours.recv(1 << 16)) for _ in range(answers)]
    scene.look("a datagram", f"server {number} got {digest(data)} from {at(*peer[:2])}", f"the client got {got}")


def pieces(scene, way):
    """Datagrams that no link takes whole, both ways."""
    scene.plain = False
    service = Service(scene, way, "udp")
    ours, _ = service.dial()
    for _ in range(2):
        ours.send(UP[:4000])
        answered(scene, ours)


def segmented(scene, way):
    """Datagrams that are sent as one."""
    service = Service(scene, way, "udp", servers=(1,))
    ours, _ = service.dial()
    ours.setsockopt(*SEGMENT, 700)
    for _ in range(2):
        ours.send(UP[:7000])
        _, theirs = scene.ready()
        got = [theirs.recvfrom(2000) for _ in range(10)]
        peer = got[0][1]
        theirs.setsockopt(*SEGMENT, 600)
        theirs.sendto(DOWN[:6000], peer)
        back = b"".join(ours.recv(2000) for _ in range(10))
        scene.look("many", f"the server got {digest(b''.join(data for data, _ in got))} from {at(*peer[:2])}",
                   f"the client got {digest(back)}")
        theirs.setsockopt(*SEGMENT, 0)


def one_packet(scene, way):
    """Every datagram is for another server."""
    scene.plain = False
    service = Service(scene, way, "udp", "-s rr -o")
    ours, _ = service.dial()
    # Nobody waits long for an answer that cannot be for this socket.
    ours.settimeout(0.1 * kernel.SLOW)
    for number in range(1, 5):
        ours.send(b"request %d" % number)
        answered(scene, ours)


def persistent(scene, way):
    """A client comes back to its server; another one has another."""
    service = Service(scene, way, "tcp", "-s rr -p 60")
    for number in (1, 1, 2, 1):
        ours, theirs = service.open(number)
        service.ask(ours, theirs)
        service.closes("the client", ours, theirs)


def all_ports(scene, way):
    """A persistent service for all ports."""
    service = Service(scene, way, "tcp", "-s rr -p 60", listens=False, vport=0, dport=0)
    for port in (80, 8443):
        for number in (1, 2):
            scene.listen(number, "tcp", service.of(number), port)
    for number, port in ((1, 80), (1, 8443), (2, 80), (2, 8443)):
        service.where = (scene.vip, port)
        ours, theirs = service.open(number)
        service.ask(ours, theirs)
        service.closes("the client", ours, theirs)


def marked(scene, way, proto, words):
    """A service of a firewall mark, for two addresses."""
    # With persistence servers are asked at the client's port: a mark's service has none that could be translated.
    service = Service(scene, way, proto, f"-s rr {words}".rstrip(), mark=True, dport=80 if words else None)
    if not service.translated:
        for number in (1, 2):
            scene.listen(number, proto, scene.target(2), 80)
    for target in (1, 2, 1):
        service.where = (scene.target(target), 80)
        if proto == "udp":
            ours, _ = service.dial()
            ours.send(b"request")
            answered(scene, ours)
        else:
            ours, theirs = service.open()
            service.ask(ours, theirs)
            service.closes("the client", ours, theirs)


def web(scene, way):
    """curl asks nginx, several times over one connection."""
    scene.exact, scene.patience = False, PROGRAM
    service = Service(scene, way, "tcp", listens=False, vport=WEB, dport=WEB)
    with scene.stage.clients:
        got = lib.run("curl", "-sS", "--max-time", str(8 * kernel.SLOW),
                      "--interface", scene.client(), "--local-port", "21001",
                      "-w", "%{http_code} %{num_connects} %{local_ip} %{local_port}\n",
                      *(f"http://{at(*service.where)}/{path}" for path in ("who", "who", "missing", "file"))).stdout
    scene.look("curl", *(line for line in got.splitlines() if "1" in line), digest(got.encode()))


def files(scene, way, mode):
    """A session of FTP that fetches a file."""
    scene.exact, scene.plain, scene.patience = False, False, PROGRAM
    Service(scene, way, "tcp", listens=False, servers=(1,), vport=FTP, dport=FTP)
    with scene.stage.clients:
        session = ftp.Client(timeout=8 * kernel.SLOW)
        session.set_pasv(mode in ("pasv", "epsv"))
        session.extended = mode in ("epsv", "eprt")
        told = session.connect(scene.vip, source_address=(scene.client(), 21000))
        session.source_address = (scene.client(), 0)
        scene.look("opens", told)
        scene.look("logs in", session.login())
        got = io.BytesIO()
        told = session.retrbinary("RETR file", got.write)
        scene.look("fetches", told, digest(got.getvalue()))
        told = session.quit()
    scene.look("quits", told)


def scenarios():
    """{name: (family, function, arguments)} of all of them; those of marks come first."""
    found = {}

    def add(name, way, function, *arguments):
        found[f"{name.split('.')[0]}.{label(way)}" + "".join(f".{part}" for part in name.split(".")[1:])] = (
            way[1], function, (way, *arguments))

    for way in FEW:
        add("mark.tcp", way, marked, "tcp", "")
        add("mark.udp", way, marked, "udp", "")
        add("mark.persistent", way, marked, "tcp", "-p 60")
    for way in ALL:
        add("short.tcp", way, short, "tcp")
        add("datagrams", way, datagrams)
        add("bulk.whole", way, bulk, False)
    for way in SHORT + LOCAL:
        add("reset.tcp", way, reset, "tcp")
        add("refused.tcp", way, refused, "tcp")
        add("refused.udp", way, refused, "udp")
    for way in SHORT:
        add("dead.tcp", way, dead, "tcp")
        add("dead.udp", way, dead, "udp")
        add("short.sctp", way, short, "sctp")
        # A datagram that comes in pieces leaves whole, and no tunnel of IPv6 takes it.
        if way != ("ipip", 6, 6):
            add("pieces", way, pieces)
    for way in FEW:
        add("reset.sctp", way, reset, "sctp")
        add("half", way, half)
        add("again", way, again)
        add("gone", way, gone)
        add("drained", way, drained)
        add("segmented", way, segmented)
        add("one_packet", way, one_packet)
        add("persistent", way, persistent)
        add("all_ports", way, all_ports)
        if way != ("nat", 6, 6):
            add("web", way, web)
    for way in NAT:
        add("refused.sctp", way, refused, "sctp")
        for mode in ("pasv", "epsv", "port", "eprt") if way[1] == 4 else ("epsv", "eprt"):
            add(f"ftp.{mode}", way, files, mode)
    # They come last: the lines stay so.
    for way in WAYS:
        if way[0] in ("nat", "dr"):
            add("bulk.gathered", way, bulk, True)
    return found
