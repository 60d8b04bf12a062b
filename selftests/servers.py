# SPDX-License-Identifier: GPL-2.0
"""Unmodified servers behind FullNAT, with rlvs-toa: each sees who its clients are."""

import contextlib
import glob
import http.client
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import ipv6
import kernel
import packet
import receiver
from lib import CLIENT, GHOST_CLIENTS, LADDRS, SERVERS, VIP, Skip, Tap, each, need_debug, need_rlvs, wait_for
from packet import ACK, RST, SYN
from process import Process

SERVER = SERVERS[0]
ATTACH = ("attach", "--from", *LADDRS, *ipv6.LADDRS)
# Ends a connection with a RST.
RESET = struct.pack("ii", 1, 0)

# What the tests of this file share: {name: port of its service}, and processes.
_running = {}
_children = []
_files = []

NGINX = """
daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/nginx.err;
events {{ }}
http {{
	log_format who '$remote_addr $remote_port $uri $status'; access_log {dir}/access.log who;
	server {{
		listen {addr}:8101; root {dir};
		location /allowed {{ allow {client}; deny all; try_files /page =404; }}
		location /denied {{ deny {client}; allow all; try_files /page =404; }}
		location / {{ return 200 "$remote_addr $remote_port"; }}
	}}
}}
"""
HAPROXY = """
global
	log stdout format raw local0
defaults
	mode http
	log global
	log-format "%ci %cp %ST"
	timeout client 9s
	timeout server 9s
	timeout connect 9s
frontend web
	bind {addr}:8102
	http-request deny if {{ path /denied }} {{ src {client} }}
	http-request return status 200 content-type text/plain lf-string "%ci %cp"
"""
SSHD = """
ListenAddress {addr}:8103
HostKey {dir}/key
PidFile none
UsePAM no
LogLevel VERBOSE
"""
SPOILS_WORLD = True

ASYNCIO = """
import asyncio, sys

async def served(reader, writer):
    writer.write("{} {}".format(*writer.get_extra_info("peername")).encode())
    writer.close()
async def main():
    server = await asyncio.start_server(served, sys.argv[1], 8105)
    await server.serve_forever()
asyncio.run(main())
"""
PORTS = {"nginx": 8101, "haproxy": 8102, "sshd": 8103, "redis": 8104, "asyncio": 8105}


def server(name, directory):
    """The command line of a server, its files made."""
    def put(file, text):
        path = f"{directory}/{file}"
        with open(path, "w", encoding="ascii") as out:
            out.write(text.format(dir=directory, addr=SERVER, client=CLIENT) if text != ASYNCIO else text)
        return path

    if name == "nginx":
        put("page", "allowed")
        return ["nginx", "-c", put("nginx.conf", NGINX)]
    if name == "haproxy":
        return ["haproxy", "-f", put("haproxy.cfg", HAPROXY)]
    if name == "sshd":
        os.makedirs("/run/sshd", exist_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{directory}/key"], check=True)
        return ["/usr/sbin/sshd", "-D", "-e", "-f", put("sshd.conf", SSHD)]
    if name == "redis":
        return ["redis-server", "--bind", SERVER, "--port", "8104", "--protected-mode", "no", "--save", "",
                "--loglevel", "verbose", "--dir", directory]
    return [sys.executable, put("asyncio_server.py", ASYNCIO), SERVER]


def service_of(world, name):
    """The port of a service whose only server is that program, started if it does not run."""
    need_rlvs()
    if not _files:
        _files.append(tempfile.mkdtemp())
        os.chmod(_files[0], 0o755)
        receiver.toa_tool(*ATTACH)
    if name not in _running:
        directory = f"{_files[0]}/{name}"
        os.mkdir(directory)
        os.chmod(directory, 0o777)
        command = server(name, directory)
        with open(f"{directory}/log", "wb") as log, world.server:
            _children.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=directory))
        wait_for(lambda: listens(world, PORTS[name]), 30, 0.1, lambda: f"{name}: {log_of(name)}")
        _running[name] = world.service("fullnat", [(SERVER, PORTS[name])])
    return _running[name]


def listens(world, port):
    """Whether somebody listens in the server's namespace."""
    return f":{port:04X} 00000000:0000 0A" in world.server.proc("tcp")


def log_of(name, file="log"):
    """What a server has written."""
    with open(f"{_files[0]}/{name}/{file}", encoding="utf-8", errors="replace") as text:
        return text.read()


def end():
    """Stops the servers."""
    for child in _children:
        child.kill()
        child.wait()
    receiver.toa_tool("detach", check=False)
    for directory in _files:
        shutil.rmtree(directory)
    _running.clear()
    _children.clear()
    _files.clear()


@contextlib.contextmanager
def connected(world, where):
    """A client's connection, and its own end's port."""
    with world.client:
        sock = socket.create_connection(where, 10 * kernel.SLOW)
    with sock:
        yield sock, sock.getsockname()[1]


def both_ways(world, name):
    """Through the balancer, and past it."""
    return (VIP, service_of(world, name)), (SERVER, PORTS[name])


def get(sock, path):
    """A request on a connection: status and text."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    answer = http.client.HTTPResponse(sock)
    answer.begin()
    return answer.status, answer.read().decode()


def logged(name, file, line):
    """Asserts that a server writes a line that matches."""
    wait_for(lambda: re.search(line, log_of(name, file), re.M), 10, 0.05,
             lambda: f"{line} in {log_of(name, file)[-600:]}")


def test_nginx(world):
    """What it answers, its access log, and its allow and deny go by the client."""
    for where in both_ways(world, "nginx"):
        with connected(world, where) as (sock, port):
            assert get(sock, "/who") == (200, f"{CLIENT} {port}"), where
            assert get(sock, "/allowed") == (200, "allowed"), where
            assert get(sock, "/denied")[0] == 403, where
        logged("nginx", "access.log", f"^{CLIENT} {port} /denied 403$")


def test_haproxy(world):
    """What it answers, its log and its access rules go by the client."""
    for where in both_ways(world, "haproxy"):
        with connected(world, where) as (sock, port):
            assert get(sock, "/who") == (200, f"{CLIENT} {port}"), where
            assert get(sock, "/denied")[0] == 403, where
        logged("haproxy", "log", f"^{CLIENT} {port} 403$")


def test_sshd(world):
    """Its log names the client; it speaks first."""
    for where in both_ways(world, "sshd"):
        with connected(world, where) as (sock, port):
            assert sock.recv(100).startswith(b"SSH-2.0-OpenSSH"), where
            logged("sshd", "log", f"^Connection from {CLIENT} port {port} on {SERVER}")


def test_redis(world):
    """CLIENT LIST and its log name the client."""
    for where in both_ways(world, "redis"):
        with connected(world, where) as (sock, port):
            sock.sendall(b"CLIENT LIST\r\n")
            listing = wait_for(lambda: sock.recv(4096).decode(), about="an answer")
            assert f" addr={CLIENT}:{port} " in listing, f"{where}: {listing}"
        logged("redis", "log", f"Accepted {CLIENT}:{port}$")


def test_asyncio(world):
    """Python's asyncio has it as its peername."""
    for where in both_ways(world, "asyncio"):
        with connected(world, where) as (sock, port):
            assert sock.recv(100).decode() == f"{CLIENT} {port}", where


def test_direct_is_untouched(world):
    """The kernel knows a client for what came through the balancer, and for nothing else."""
    balanced, direct = both_ways(world, "redis")
    with connected(world, balanced) as (_, port), connected(world, direct):
        told = wait_for(receiver.watched)
        assert list(told.values()) == [f"{CLIENT}:{port}"], told
        assert next(iter(told)).split(":")[0] in LADDRS, told
    wait_for(lambda: not receiver.watched(), about="the connection to be forgotten")


@each("balanced", "direct")
def test_forged(world, how):
    """A client that claims to be another is shown as what he is, by either way."""
    vport = service_of(world, "asyncio")
    where = (VIP, vport) if how == "balanced" else (SERVER, PORTS["asyncio"])
    lie, (addr, port) = packet.toa("192.0.2.66", 666), (GHOST_CLIENTS[0], world.port())

    def send(flags, seq, ack):
        segment = packet.tcp(addr, where[0], port, where[1], flags, seq, ack, options=lie + packet.MSS1460)
        tap.send(packet.ip(addr, where[0], packet.TCP, segment))

    with Tap(world.client, "c0") as tap:
        send(SYN, 1000, 0)
        answer = tap.wait(lambda seen: seen.dport == port and seen.flags == SYN | ACK)
        send(ACK, 1001, answer.seq + 1)
        said = tap.wait(lambda seen: seen.dport == port and seen.payload).payload
        send(RST, 1001, 0)
    assert said.decode() == f"{addr} {port}", said


def test_ip6(world):
    """One listener for both families sees clients of either, each as it is."""
    service_of(world, "asyncio")
    ipv6.ready(world)
    with world.server, socket.create_server(("::", 8109), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        listener.settimeout(5 * kernel.SLOW)
        for where, mapped in (((ipv6.VIP, ipv6.serve(world, "fullnat", ipv6.SERVER, 8109)), ""),
                              ((ipv6.SERVER, 8109), ""),
                              ((VIP, world.service("fullnat", [(SERVER, 8109)])), "::ffff:")):
            with connected(world, where) as (sock, port):
                theirs, addr = listener.accept()
                with theirs:
                    true = (mapped + sock.getsockname()[0], port)
                    assert addr[:2] == theirs.getpeername()[:2] == true, f"{where}: {addr}, {true}"


def ask(port):
    """Opens a connection, and no TIME_WAIT: (what the server saw, what is so)."""
    with socket.socket() as sock:
        sock.connect((VIP, port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        said = b""
        while len(said) < 6:
            more = sock.recv(6)
            assert more, "closed without an answer"
            said += more
        return (socket.inet_ntoa(said[:4]), *struct.unpack("!H", said[4:])), sock.getsockname()


def wrong_ones(listener, port, count):
    """Opens so many connections one after the other and resets them: those of which the server saw another client."""
    wrong = []
    for _ in range(count):
        with socket.socket() as ours:
            ours.connect((VIP, port))
            theirs, accepted = listener.accept()
            true, asked = ours.getsockname(), theirs.getpeername()
            if not accepted == asked == true:
                wrong.append((accepted, asked, true))
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        theirs.close()
    return wrong


def every_one(world, connections):
    """Asserts that the server sees each of so many connections right, which come from two processes."""
    before, each_of = receiver.counters(), connections // 2
    with world.listen(SERVER, 8110) as one, world.listen(SERVER, 8113) as other, world.client:
        processes = [Process(lambda: wrong_ones(listener, port, each_of)) for listener, port in (
            (listener, world.service("fullnat", [(SERVER, receiver.port_of(listener))], laddrs=LADDRS))
            for listener in (one, other))]
        wrong = [seen for process in processes for seen in process.result()]
    assert not wrong, f"{len(wrong)} of {connections} wrong: {wrong[:5]}"
    after = receiver.counters()
    assert after["connections"] - before["connections"] == connections, after
    assert after["addresses"] - before["addresses"] == 2 * connections, after
    wait_for(lambda: not receiver.watched(), about="closed connections to be forgotten")


def left(world):
    """What the kernel keeps: its memory in kB, and the sockets of the server."""
    # A batch of what RCU gives back may wait for the next one.
    for _ in range(3):
        time.sleep(1)
        for cache in glob.glob("/sys/kernel/slab/*/shrink"):
            with contextlib.suppress(OSError), open(cache, "w", encoding="ascii") as shrink:
                shrink.write("1\n")
    with open("/proc/meminfo", encoding="ascii") as lines:
        memory = dict(re.findall(r"(\w+): +(\d+)", lines.read()))
    sockets = re.search(r"^TCP: inuse (\d+) orphan (\d+) tw (\d+) alloc (\d+)", world.server.proc("sockstat"), re.M)
    return {name: int(memory[name]) for name in ("SUnreclaim", "Percpu", "VmallocUsed")}, sockets[0]


def test_many(world):
    """Ten thousand connections: the server sees each one right."""
    service_of(world, "asyncio")
    every_one(world, 500 if kernel.DEBUG else 10000)


def test_nothing_kept(world):
    """RLVS_CONNECTIONS, a million say: each right, and then the kernel has the memory and the sockets it had before."""
    connections = int(os.environ.get("RLVS_CONNECTIONS", "0"))
    if not connections:
        raise Skip("takes RLVS_CONNECTIONS=1000000 and half an hour")
    service_of(world, "asyncio")
    # What the first ones make the kernel keep for later is no leak.
    every_one(world, 10000)
    wait_for(lambda: not world.conns(), 30, 0.5, "the director to forget them")
    memory, sockets = left(world)
    start = time.monotonic()
    every_one(world, connections)
    took = time.monotonic() - start
    wait_for(lambda: not world.conns(), 30, 0.5, "the director to forget them")
    after, now = left(world)
    told = f"{connections} connections in {took:.0f} s: before {memory} {sockets}, after {after} {now}"
    print(f"# {told}")
    assert now == sockets, told
    # A client takes 96 bytes, so one of a hundred of a million that stayed would be more than this.
    assert all(after[name] - memory[name] < 1024 for name in memory), told


def test_detach_under_load(world):
    """While connections come and go and carry data, attaching and detaching harms none."""
    service_of(world, "asyncio")
    stop, problems, rounds = threading.Event(), [], []
    with world.listen(SERVER, 8111) as echo, world.listen(SERVER, 8112) as listener:
        through = world.service("fullnat", [(SERVER, 8111)])
        port = world.service("fullnat", [(SERVER, 8112)])
        ours = world.connect(through)
        theirs, _ = echo.accept()

        def answer():
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    sock, (addr, number) = listener.accept()
                    with sock:
                        sock.sendall(socket.inet_aton(addr) + struct.pack("!H", number))

        def load():
            try:
                while not stop.is_set():
                    with world.client:
                        seen, true = ask(port)
                    assert seen == true or seen[0] in LADDRS, f"{seen} for {true}"
                    ours.sendall(b"ping")
                    assert theirs.recv(100) == b"ping"
                    theirs.sendall(b"pong")
                    assert ours.recv(100) == b"pong"
                    rounds.append(seen == true)
            except BaseException as error:  # pylint: disable=broad-except
                problems.append(error)

        listener.settimeout(0.2)
        threads = [threading.Thread(target=what) for what in (answer, load)]
        for thread in threads:
            thread.start()
        try:
            for words in (("detach",), ATTACH, (*ATTACH, "--port", "1"), ("detach",), ATTACH):
                enough = len(rounds) + 5
                wait_for(lambda enough=enough: problems or len(rounds) >= enough, 30, 0.02, "rounds of load")
                receiver.toa_tool(*words)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            ours.close()
            theirs.close()
    assert not problems, problems
    assert True in rounds and False in rounds, f"{sum(rounds)} of {len(rounds)} saw the client"


def test_nothing_left(world):
    """Closed connections' memory is given back."""
    need_debug()
    service_of(world, "asyncio")
    time.sleep(1)
    found = kernel.leaks("bpf_")
    assert not found, found[0]
