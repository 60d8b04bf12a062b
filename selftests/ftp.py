# SPDX-License-Identifier: GPL-2.0
"""FTP: real clients and a real server, passive and active, and what happens to the control connection."""

import ftplib
import io
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time

import conntrack
import genl
import ipv6
import kernel
import packet
import sync_peer
import wire
from genl import Genl
from lib import (
    GHOST_SERVERS,
    METHODS,
    RLVS,
    VIP,
    Flow,
    clean,
    each,
    each_method,
    need_rlvs,
    same,
    wait_for,
)
from packet import ACK, PSH, SYN

SPOILS_WORLD = True

# Addresses that are written shorter, as long, and longer than the VIP is.
SHORT, SAME, LONG = "10.2.0.9", "10.2.0.11", "10.2.0.240"
FILE = bytes(n * 7 & 255 for n in range(100_000 if kernel.DEBUG else 300_000))

CONFIG = """listen=YES
background=NO
anonymous_enable=YES
local_enable=NO
write_enable=NO
no_anon_password=YES
anon_root={root}
secure_chroot_dir={empty}
connect_from_port_20=YES
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
xferlog_enable=NO
"""

_server = {}
_six = {}


def server(world):
    """vsftpd at all addresses of the real servers; it runs for all tests of this file."""
    if not _server:
        if not RLVS:
            kernel.load("ip_vs_ftp")
        home = tempfile.mkdtemp()
        os.chmod(home, 0o755)
        for name in ("root", "empty"):
            os.mkdir(f"{home}/{name}", 0o755)
        with open(f"{home}/root/file", "wb") as file:
            file.write(FILE)
        with open(f"{home}/config", "w", encoding="ascii") as file:
            file.write(CONFIG.format(root=f"{home}/root", empty=f"{home}/empty"))
        for addr in (SHORT, LONG):
            world.server.ip(f"addr add {addr}/24 dev s0")
        with world.server:
            process = subprocess.Popen(["/usr/sbin/vsftpd", f"{home}/config"])
        _server.update(home=home, process=process, world=world)
        wait_for(lambda: ":0015 " in world.server.proc("tcp"), 10, 0.05, "vsftpd to listen")


def server6(world):
    """Another one at an address of IPv6."""
    server(world)
    if not _six:
        ipv6.ready(world)
        with open(f"{_server['home']}/config6", "w", encoding="ascii") as file:
            config = CONFIG.replace("listen=YES", f"listen=NO\nlisten_ipv6=YES\nlisten_address6={ipv6.SERVER}")
            file.write(config.format(root=f"{_server['home']}/root", empty=f"{_server['home']}/empty"))
        with world.server:
            _six["process"] = subprocess.Popen(["/usr/sbin/vsftpd", file.name])
        wait_for(lambda: ":0015 " in world.server.proc("tcp6"), 10, 0.05, "vsftpd to listen")


def end():
    """Takes the servers down."""
    if _six:
        _six["process"].send_signal(signal.SIGTERM)
        _six["process"].wait()
        _six.clear()
    if _server:
        _server["process"].send_signal(signal.SIGTERM)
        _server["process"].wait()
        shutil.rmtree(_server["home"])
        for addr in (SHORT, LONG):
            _server["world"].server.ip(f"addr del {addr}/24 dev s0")
        _server.clear()


def service(world, method, host):
    """A service of FTP at the VIP; there is one at a time."""
    if world.dests(21) is not None:
        with world.director, Genl("IPVS") as ipvs:
            ipvs.call(genl.DEL_SERVICE, genl.service(VIP, 21, full=False))
    return world.service(method, [(host, 21)], port=21)


class Client(ftplib.FTP):
    """A client that goes where the server's reply sends it, as clients should not but do."""

    trust_server_pasv_ipv4_address = True
    # How this client asks: PASV or EPSV, PORT or EPRT.
    extended = False

    def makepasv(self):
        if self.extended:
            return ftplib.parse229(self.sendcmd("EPSV"), self.sock.getpeername())
        return super().makepasv()

    def sendport(self, host, port):
        return self.sendeprt(host, port) if self.extended else super().sendport(host, port)


def session(world, mode, addr=VIP):
    """A client that has logged in."""
    with world.client:
        ftp = Client(timeout=8 * kernel.SLOW)
        ftp.set_pasv(mode in ("pasv", "epsv"))
        ftp.extended = mode in ("epsv", "eprt")
        ftp.connect(addr)
        ftp.login()
    return ftp


def fetch(world, ftp):
    """Gets the file."""
    got = io.BytesIO()
    with world.client:
        ftp.retrbinary("RETR file", got.write)
    assert got.getvalue() == FILE, f"{len(got.getvalue())} bytes"


VARIANTS = [f"{method}-{mode}-{size}" for method, mode, size in (
    ("nat", "pasv", "longer"), ("nat", "pasv", "shorter"), ("nat", "pasv", "same"), ("nat", "epsv", "same"),
    ("nat", "port", "same"), ("nat", "eprt", "same"),
    ("fullnat", "pasv", "longer"), ("fullnat", "pasv", "shorter"), ("fullnat", "epsv", "same"))]


@each(*VARIANTS)
def test_transfers(world, variant):
    """File after file in one session, each over a data connection of its own to the same server."""
    method, mode, size = variant.split("-")
    server(world)
    host = {"longer": SHORT, "same": SAME, "shorter": LONG}[size]
    service(world, method, host)
    before = {conn[:4] for conn in world.conns()}
    with session(world, mode) as ftp:
        for _ in range(8):
            fetch(world, ftp)
            assert ftp.sendcmd("NOOP").startswith("200")
        port = 21 if mode in ("pasv", "epsv") else 20
        new = [conn for conn in world.conns() if conn[:4] not in before]
        assert {21, port} <= {conn.virtual[1] for conn in new}, new
        assert {conn.server[0] for conn in new} == {host}, new


def test_conntrack(world):
    """With conntrack=1 rules that drop what conntrack finds invalid let sessions and files pass."""
    server(world)
    service(world, "nat", SHORT)
    rules = "\n".join(f"chain {hook} {{ type filter hook {hook} priority 0; ct state invalid counter drop; }}"
                      for hook in ("input", "forward", "output"))
    with world.settings(conntrack=1), conntrack.ruled(world, rules), session(world, "pasv") as ftp:
        for _ in range(3):
            fetch(world, ftp)


@each("nat-epsv", "nat-eprt", "fullnat-epsv")
def test_ipv6(world, variant):
    """The same in IPv6, which has the extended commands only."""
    method, mode = variant.split("-")
    if method == "fullnat":
        need_rlvs()
    server6(world)
    key = genl.service(ipv6.VIP, 21, packet.TCP, full=False)
    with world.director, Genl("IPVS") as ipvs:
        ipvs.call(genl.NEW_SERVICE, genl.service(ipv6.VIP, 21, packet.TCP))
        try:
            if method == "fullnat":
                with Genl("RLVS") as rlvs:
                    rlvs.call(genl.NEW_LADDR, key + genl.laddr(ipv6.LADDRS[0]))
            ipvs.call(genl.NEW_DEST, key + genl.dest(ipv6.SERVER, 21, method=METHODS[method]))
            with session(world, mode, ipv6.VIP) as ftp:
                for _ in range(3):
                    fetch(world, ftp)
        finally:
            ipvs.call(genl.DEL_SERVICE, key)


@each("epsv", "pasv", "eprt", "port")
def test_curl(world, how):
    """curl, which asks for all it can do, gets the file, and so it does when told to be plain."""
    server(world)
    service(world, "nat", SHORT)
    words = {"epsv": ["--ftp-pasv"], "pasv": ["--disable-epsv", "--no-ftp-skip-pasv-ip"],
             "eprt": ["--ftp-port", "-"], "port": ["--disable-eprt", "--ftp-port", "-"]}[how]
    with world.client:
        done = subprocess.run(["curl", "-sS", "--max-time", str(10 * kernel.SLOW), *words, f"ftp://{VIP}/file"],
                              capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == FILE


def test_app_file(world):
    """/proc/net/ip_vs_app tells how many connections the helper looks at."""
    server(world)

    def users():
        line, = [line.split() for line in world.director.proc("ip_vs_app").splitlines()[1:]]
        assert line[:2] + line[3:] == ["TCP", "21", "ftp"], line
        return int(line[2])

    # What others have left would end in between.
    with world.settings(expire_nodest_conn=1):
        service(world, "nat", SAME)
        world.adm(f"-D -t {VIP}:21")
        wait_for(lambda: users() == 0, about="the connections of others to end")
    service(world, "nat", SAME)
    with session(world, "pasv") as ftp:
        assert users() == 1
        fetch(world, ftp)
        assert users() == 1, "data connections are not looked at"


def control(world, method="nat", client=None):
    """A crafted control connection that is open."""
    service(world, method, GHOST_SERVERS[0])
    flow = Flow(world, 21, client=client)
    flow.request(wire.tcp_request(flow, SYN))
    flow.reply(wire.tcp_reply(flow, SYN | ACK, 5000, 1001))
    flow.request(wire.tcp_request(flow, ACK, 1001, 5001))
    flow.reply(wire.tcp_reply(flow, PSH | ACK, 5001, 1001, b"220 ready\r\n"))
    flow.request(wire.tcp_request(flow, PSH | ACK, 1001, 5012, b"PASV\r\n"))
    return flow


PASSIVE = b"227 Entering Passive Mode (10,2,0,101,195,80).\r\n"
REWRITTEN = PASSIVE.replace(b"10,2,0,101", b"10,9,0,80")


@each_method
def test_numbers(world, method):
    """What follows a reply that got shorter is numbered as if it had been sent so, and acknowledged as it was."""
    need_rlvs()
    with control(world, method) as flow:
        seen = clean(flow.reply(wire.tcp_reply(flow, PSH | ACK, 5012, 1007, PASSIVE)))
        same(seen, payload=REWRITTEN, seq=5012, src=VIP)
        # Sent again, it is the same again.
        seen = clean(flow.reply(wire.tcp_reply(flow, PSH | ACK, 5012, 1007, PASSIVE)))
        same(seen, payload=REWRITTEN, seq=5012)
        sent, got = 5012 + len(PASSIVE), 5012 + len(REWRITTEN)
        assert sent == got + 1
        same(clean(flow.request(wire.tcp_request(flow, ACK, 1007, got))), ack=sent, seq=1007)
        same(clean(flow.request(wire.tcp_request(flow, ACK, 1007, 5012))), ack=5012, seq=1007)
        same(clean(flow.reply(wire.tcp_reply(flow, PSH | ACK, sent, 1007, b"150 here\r\n"))),
             seq=got, payload=b"150 here\r\n")
        sack = packet.NOP * 2 + struct.pack("!BBII", 5, 10, got + 10, got + 20)
        seen = clean(flow.request(wire.tcp_request(flow, ACK, 1007, got, options=sack)))
        same(seen, ack=sent, option_bytes=packet.NOP * 2 + struct.pack("!BBII", 5, 10, sent + 10, sent + 20))
        # A second reply adds to the first one's difference.
        flow.reply(wire.tcp_reply(flow, PSH | ACK, sent + 10, 1007, b"226 done\r\n"))
        seen = clean(flow.reply(wire.tcp_reply(flow, PSH | ACK, sent + 20, 1013, PASSIVE)))
        same(seen, seq=got + 20, payload=REWRITTEN)
        same(clean(flow.reply(wire.tcp_reply(flow, ACK, sent + 20 + len(PASSIVE), 1013))),
             seq=got + 20 + len(REWRITTEN))


@each_method
def test_passive_data(world, method):
    """The client's connection to the port that was told goes to the same server, from whatever port it comes."""
    # Whose connections no other test has.
    client = {"nat": "10.1.0.110", "fullnat": "10.1.0.111"}[method]

    def conns():
        return [conn for conn in world.conns(50000) if conn.client[0] == client]

    with control(world, method, client) as flow:
        if not RLVS:
            return
        flow.reply(wire.tcp_reply(flow, PSH | ACK, 5012, 1007, PASSIVE))
        data = Flow(world, 50000, client=client)
        with data:
            assert [conn.state for conn in conns()] == ["LISTEN"]
            seen = clean(data.request(wire.tcp_request(data, SYN)))
            same(seen, dst=GHOST_SERVERS[0], dport=50000)
            # The server compares the address with that of the control connection.
            assert seen.src == flow.peer[0]
            conn, = conns()
            assert conn.client == data.client and conn.state == "SYN_RECV", conn
            clean(data.reply(wire.tcp_reply(data, SYN | ACK, 1, 1001)))
            data.request(wire.tcp_request(data, ACK, 1001, 2))
            conn, = conns()
            assert conn.state == "ESTABLISHED", conn
        # Nobody else may come, nor this client a second time.
        for client in (flow.client[0], "10.1.0.116"):
            with Flow(world, 50000, client=client) as other:
                other.at_client.send(wire.tcp_request(other, SYN))
                other.at_server.silent()


def test_told(world):
    """Other directors are told of a data connection, which goes on when they take over."""
    need_rlvs()
    client = "10.1.0.112"
    with sync_peer.daemon(world, sync_peer.MASTER), sync_peer.Peer(world) as peer, \
            control(world, "nat", client) as flow:
        flow.reply(wire.tcp_reply(flow, PSH | ACK, 5012, 1007, PASSIVE))
        with Flow(world, 50000, client=client) as data:
            data.request(wire.tcp_request(data, SYN))
            data.reply(wire.tcp_reply(data, SYN | ACK, 1, 1001))
            for _ in range(3):
                data.request(wire.tcp_request(data, ACK, 1001, 2))
            _, told = peer.hear(lambda one: one.virtual[1] == 50000)
            assert told.client == data.client and told.server == (GHOST_SERVERS[0], 50000), told


@each_method
def test_from_port_20(world, method):
    """What comes from FTP's data port asks for nothing: it is left to the host, whatever the service is."""
    port = world.service(method, [(GHOST_SERVERS[0], 80)])
    with Flow(world, port) as flow:
        for number in (20, 19):
            flow.client = (flow.client[0], number)
            flow.clear()
            flow.at_client.send(wire.tcp_request(flow, SYN))
            if number == 20:
                assert flow.at_client.wait().flags & packet.RST
            else:
                flow.at_server.wait(lambda seen: seen.dst == GHOST_SERVERS[0])


def test_what_is_not_believed(world):
    """A client cannot have others connected to, and what only looks like a reply opens nothing."""
    need_rlvs()
    with control(world) as flow:
        before = len(world.conns())
        flow.request(wire.tcp_request(flow, PSH | ACK, 1007, 5012, b"PORT 10,1,0,102,4,1\r\n"))
        flow.request(wire.tcp_request(flow, PSH | ACK, 1028, 5012, b"EPRT |1|10.1.0.102|1025|\r\n"))
        assert len(world.conns()) == before
        # The middle of a line: what the client has sent may be repeated there.
        flow.reply(wire.tcp_reply(flow, PSH | ACK, 5012, 1055, b"550 no file "))
        seen = clean(flow.reply(wire.tcp_reply(flow, PSH | ACK, 5024, 1055, PASSIVE)))
        same(seen, payload=PASSIVE)
        assert len(world.conns()) == before
        # Its own address is fine.
        addr = flow.client[0].replace(".", ",").encode()
        flow.request(wire.tcp_request(flow, PSH | ACK, 1055, 5012, b"PORT " + addr + b",4,1\r\n"))
        conn, = [conn for conn in world.conns() if conn[1:3] == ((flow.client[0], 1025), (VIP, 20))]
        assert (conn.server, conn.state) == ((GHOST_SERVERS[0], 20), "LISTEN")


def test_a_long_transfer(world):
    """A control connection outlives its timeout while a data connection is open."""
    need_rlvs()
    world.adm("--set 2 2 2")
    try:
        with control(world) as flow, Flow(world, 50000) as data:
            flow.reply(wire.tcp_reply(flow, PSH | ACK, 5012, 1007, PASSIVE))
            data.request(wire.tcp_request(data, SYN))
            clean(data.reply(wire.tcp_reply(data, SYN | ACK, 1, 1001)))
            for _ in range(14):
                data.request(wire.tcp_request(data, ACK, 1001, 2))
                time.sleep(0.3)
            flow.clear()
            same(clean(flow.reply(wire.tcp_reply(flow, PSH | ACK, 5012 + len(PASSIVE), 1007, b"226 done\r\n"))),
                 payload=b"226 done\r\n")
            data.request(wire.tcp_request(data, packet.RST, 1001, 0))
    finally:
        world.adm("--set 900 120 300")
