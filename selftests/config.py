# SPDX-License-Identifier: GPL-2.0
"""Configuration: every command by ipvsadm and by rlvsadm, what is refused, what traffic does not notice."""

import errno
import hashlib
import itertools
import os
import signal
import socket
import threading

import genl
import kernel
import lifetime
import packet
import persist
import sync_peer
from genl import Genl, Lost, Refused
from lib import (
    GHOST_CLIENTS,
    LADDRS,
    RLVS,
    SERVERS,
    TOOL,
    VIP,
    each,
    each_method,
    need_debug,
    need_rlvs,
)
from packet import UDP

TOOLS = ["ipvsadm", TOOL] if RLVS else ["ipvsadm"]
tools = each(*(os.path.basename(tool) for tool in TOOLS))

PLAIN = """\
-A -t 10.9.0.80:80 -s wrr
-a -t 10.9.0.80:80 -r 10.2.0.11:8080 -m -w 3
-a -t 10.9.0.80:80 -r 10.2.0.12:8081 -m -w 0
-A -t 10.9.0.80:443 -s lc
-A -u 10.9.0.80:53 -s rr
-a -u 10.9.0.80:53 -r 10.2.0.11:53 -m -w 65535
-A -u 10.9.0.81:53 -s wlc
"""
FULL = """\
-A -t 10.9.0.80:90 -s wrr
-P -t 10.9.0.80:90 -z 10.2.0.201
-P -t 10.9.0.80:90 -z 10.2.0.202
-a -t 10.9.0.80:90 -r 10.2.0.11:8080 --fullnat -w 3 -x 100 -y 50
-A -u 10.9.0.80:90 -s rr
-P -u 10.9.0.80:90 -z 10.2.0.203
-a -u 10.9.0.80:90 -r 10.2.0.12:53 --fullnat -w 1
"""

# Protocol, scheduler, local addresses and destination of services at one port: FULL as messages have it.
SERVED = [(packet.TCP, b"wrr\0", LADDRS[:2], genl.dest(SERVERS[0], 8080, 3, 5, upper=100, lower=50)),
          (UDP, b"rr\0", LADDRS[2:3], genl.dest(SERVERS[1], 53, 1, 5))]


def run(world, tool, words, stdin=None, check=True):
    """Runs one of the commands in the director."""
    tool = TOOL if tool == "rlvsadm" else tool
    return world.director.run(tool, *words.split(), stdin=stdin, check=check)


def saved(world, tool):
    """What is configured, line by line without an order."""
    return sorted(line.strip() for line in run(world, tool, "-S -n").stdout.splitlines())


def cleared(world):
    """Starts with nothing."""
    world.adm("-C")


@tools
def test_round_trip(world, tool):
    """What -S has saved, -R restores, and -S saves the same again."""
    cleared(world)
    run(world, tool, "-R", PLAIN)
    assert saved(world, tool) == sorted(PLAIN.splitlines()), saved(world, tool)
    text = run(world, tool, "-S -n").stdout
    run(world, tool, "-C")
    assert saved(world, tool) == [] and world.director.proc("ip_vs").count("\n") == 3
    run(world, tool, "-R", text)
    assert saved(world, tool) == sorted(PLAIN.splitlines())
    cleared(world)


def test_round_trip_fullnat(world):
    """Local addresses, methods and thresholds survive saving and restoring."""
    need_rlvs()
    cleared(world)
    world.adm("-R", stdin=FULL)
    assert saved(world, "rlvsadm") == sorted(FULL.splitlines()), saved(world, "rlvsadm")
    text = world.adm("-S -n")
    world.adm("-C")
    world.adm("-R", stdin=text)
    assert saved(world, "rlvsadm") == sorted(FULL.splitlines())
    cleared(world)


@tools
def test_edit_and_delete(world, tool):
    """Each command does what it says, and no more."""
    cleared(world)
    run(world, tool, "-R", PLAIN)
    want = PLAIN.splitlines()
    for words, line, change in (
            ("-E -t 10.9.0.80:443 -s rr", 3, "-A -t 10.9.0.80:443 -s rr"),
            ("-e -t 10.9.0.80:80 -r 10.2.0.12:8081 -m -w 7", 2,
             "-a -t 10.9.0.80:80 -r 10.2.0.12:8081 -m -w 7"),
            ("-d -t 10.9.0.80:80 -r 10.2.0.11:8080", 1, None),
            ("-D -u 10.9.0.81:53", 6, None),
            ("-D -u 10.9.0.80:53", (4, 5), None)):
        run(world, tool, words)
        for number in line if isinstance(line, tuple) else (line,):
            want[number] = change
        assert saved(world, tool) == sorted(filter(None, want)), f"after {words}"
    cleared(world)


# Command, exit status, a part of what it says.
ERRORS = [
    ("-A -t 10.9.0.80:80 -s rr", 255, "Service already exists"),
    ("-A -t 10.9.0.80:82 -s nosuch", 255, "Scheduler or persistence engine not found"),
    ("-E -t 10.9.0.80:81 -s rr", 255, "No such service"),
    ("-D -t 10.9.0.80:81", 255, "No such service"),
    ("-Z -t 10.9.0.80:81", 255, "No such service"),
    ("-L -t 10.9.0.80:81", 1, "No such service"),
    ("-a -t 10.9.0.80:81 -r 10.2.0.11 -m", 255, "Service not defined"),
    ("-a -t 10.9.0.80:80 -r 10.2.0.11:8080 -m", 255, "Destination already exists"),
    ("-a -t 10.9.0.80:80 -r 224.0.0.9:80 -m", 255, ""),
    ("-a -t 10.9.0.80:80 -r 10.2.0.99:80 -m -x 1 -y 3", 255, "Numerical result out of range"),
    ("-a -t 10.9.0.80:80 -r 10.2.0.99:80 -m -w -1", 2, "weight"),
    ("-e -t 10.9.0.80:80 -r 10.2.0.99:80 -m", 255, "No such destination"),
    ("-d -t 10.9.0.80:80 -r 10.2.0.99:80", 255, "No such destination"),
    ("-A", 2, ""),
    ("-A -t 10.9.0.80", 2, ""),
    ("-A -t 10.9.0.80:99999", 2, ""),
    ("-A -t 10.9.0.80:80 -Z", 2, ""),
    ("--set 1 2", 2, "3 timeout values|three timeouts"),
]


@tools
def test_errors(world, tool):
    """Each refusal says what is wrong, has the exit status that scripts know, and changes nothing."""
    cleared(world)
    run(world, tool, "-R", PLAIN)
    before = world.director.proc("ip_vs")
    for words, status, text in ERRORS:
        done = run(world, tool, words, check=False)
        told = done.stderr + done.stdout
        assert done.returncode == status, f"{words}: status {done.returncode}, not {status}: {told}"
        assert told.strip() and any(part in told for part in text.split("|")), f"{words}: {told!r}"
        assert world.director.proc("ip_vs") == before, f"{words} has changed something"
    cleared(world)


def test_laddr_errors(world):
    """Local addresses: what is twice, missing or nonsense is refused with a word about it."""
    need_rlvs()
    cleared(world)
    world.adm("-R", stdin=FULL)
    before = saved(world, "rlvsadm")
    for words in ("-P -t 10.9.0.80:90 -z 10.2.0.201", "-Q -t 10.9.0.80:90 -z 10.2.0.204",
                  "-P -t 10.9.0.80:91 -z 10.2.0.201", "-P -t 10.9.0.80:90 -z 224.0.0.1",
                  "-P -t 10.9.0.80:90 -z 0.0.0.0", "-P -t 10.9.0.80:90 -z nonsense",
                  "-P -t 10.9.0.80:90", "-P -t 10.9.0.80:90 -z 10.2.0.9-10.2.0.1"):
        done = world.adm(words, check=False)
        assert done.returncode and done.stderr.strip(), f"{words}: {done.returncode} {done.stderr}"
        assert saved(world, "rlvsadm") == before, f"{words} has changed something"
    cleared(world)


def test_extended_acks(world):
    """Every refusal over netlink carries a sentence; unknown attributes are ignored as ever."""
    need_rlvs()
    cleared(world)
    good, key = genl.service(VIP, 80), genl.service(VIP, 80, full=False)
    server = genl.dest(SERVERS[0], 80)
    with world.director, Genl("IPVS") as ipvs, Genl("RLVS") as rlvs:
        ipvs.call(genl.NEW_SERVICE, good + genl.attr(77, b"what is this"))
        cases = [
            (ipvs, genl.NEW_SERVICE, b"", errno.EINVAL),
            (ipvs, genl.NEW_SERVICE, key, errno.EINVAL),
            (ipvs, genl.NEW_SERVICE, good, errno.EEXIST),
            (ipvs, genl.NEW_SERVICE, genl.service(VIP, 81, sched=b"nosuch\0"), errno.ENOENT),
            (ipvs, genl.NEW_SERVICE, genl.nest(genl.SERVICE, genl.u16(1, 77)), errno.EINVAL),
            (ipvs, genl.NEW_SERVICE, genl.nest(genl.SERVICE, genl.u16(1, 77), genl.attr(5, 7)),
             errno.EAFNOSUPPORT),
            (ipvs, genl.SET_SERVICE, genl.service(VIP, 81), errno.ESRCH),
            (ipvs, genl.DEL_SERVICE, genl.service(VIP, 81), errno.ESRCH),
            (ipvs, genl.GET_SERVICE, genl.service(VIP, 81), errno.ESRCH),
            (ipvs, genl.ZERO, genl.service(VIP, 81), errno.ESRCH),
            (ipvs, genl.NEW_DEST, key, errno.EINVAL),
            (ipvs, genl.NEW_DEST, key + genl.dest(SERVERS[0], 80, full=False), errno.EINVAL),
            (ipvs, genl.NEW_DEST, genl.service(VIP, 81) + server, errno.ESRCH),
            (ipvs, genl.NEW_DEST, key + genl.dest(SERVERS[0], 80, weight=1 << 31), errno.ERANGE),
            (ipvs, genl.NEW_DEST, key + genl.dest("224.0.0.1", 80), errno.EINVAL),
            (ipvs, genl.SET_DEST, key + server, errno.ENOENT),
            (ipvs, genl.DEL_DEST, key + server, errno.ENOENT),
            (ipvs, genl.SET_CONFIG, genl.attr(genl.TIMEOUT_TCP, 1 << 31), errno.EINVAL),
            (rlvs, genl.NEW_LADDR, key, errno.EINVAL),
            (rlvs, genl.DEL_LADDR, key + genl.laddr(LADDRS[0]), errno.ENOENT),
            (rlvs, genl.NEW_LADDR, genl.service(VIP, 81) + genl.laddr(LADDRS[0]), errno.ESRCH),
        ]
        for number, (family, command, payload, code) in enumerate(cases):
            try:
                family.call(command, payload)
            except Refused as refused:
                assert refused.errno == code, f"case {number}, command {command}: {refused}"
                assert refused.message, f"case {number}, command {command}: no message"
            else:
                raise AssertionError(f"case {number}: command {command} was accepted")
        # An unknown service has no destinations, which is no error.
        assert ipvs.call(genl.GET_DEST, genl.service(VIP, 81), flags=genl.DUMP) == []
    assert saved(world, "rlvsadm") == [f"-A -t {VIP}:80 -s rr"]
    cleared(world)


@each_method
def test_edit_under_traffic(world, method):
    """A transfer does not notice that weights, schedulers and other servers change all the time."""
    with world.listen(SERVERS[0], 8085) as listener:
        port = world.service(method, [(SERVERS[0], 8085, 5)], sched="wrr")
        data = hashlib.shake_128(b"edit").digest(1 << 20) * (4 if kernel.DEBUG else 30)
        ours = world.connect(port)
        theirs, _ = listener.accept()
        for sock in (ours, theirs):
            sock.settimeout(60 * kernel.SLOW)
        seen = hashlib.sha256()

        def receive():
            while more := theirs.recv(1 << 18):
                seen.update(more)

        def send():
            ours.sendall(data)
            ours.shutdown(socket.SHUT_WR)

        threads = [threading.Thread(target=receive), threading.Thread(target=send)]
        for thread in threads:
            thread.start()
        how = "-m" if method == "nat" else "--fullnat"
        edits = itertools.cycle([
            f"-e -t {VIP}:{port} -r {SERVERS[0]}:8085 {how} -w 0",
            f"-E -t {VIP}:{port} -s lc",
            f"-a -t {VIP}:{port} -r {SERVERS[1]}:8085 {how}",
            f"-d -t {VIP}:{port} -r {SERVERS[1]}:8085",
            f"-e -t {VIP}:{port} -r {SERVERS[0]}:8085 {how} -w 9",
            f"-E -t {VIP}:{port} -s wrr",
        ] + ([f"-P -t {VIP}:{port} -z {LADDRS[3]}", f"-Q -t {VIP}:{port} -z {LADDRS[3]}"]
             if method == "fullnat" else []))
        done = 0
        while threads[0].is_alive():
            world.adm(next(edits))
            done += 1
        for thread in threads:
            thread.join()
        ours.close()
        theirs.close()
        assert done >= 5, f"only {done} edits"
        assert seen.hexdigest() == hashlib.sha256(data).hexdigest()
        world.adm(f"-D -t {VIP}:{port}")


def test_edit_engine_under_traffic(world):
    """A service is given its persistence engine and loses it while clients and servers call; it works in the end."""
    port = world.port()
    how = {"flags": persist.PERSISTENT | persist.ONE_PACKET}
    plain, engine = persist.service(port, netmask=bytes(4), **how), persist.with_sip(port, **how)
    client, server = GHOST_CLIENTS[0], persist.ONE
    to_vip, out = [], []
    for number in range(100):
        call, sport = persist.sip(f"call-{number}"), 7000 + number
        to_vip.append(packet.ip(client, VIP, UDP, packet.udp(client, VIP, sport, port, call)))
        out.append(packet.ip(server, client, UDP, packet.udp(server, client, 53, sport, call)))
    with persist.both(world, engine), persist.Clients(world, port) as clients, world.director, Genl("IPVS") as ipvs:
        # Of their own: who pours waits for the wire.
        children = [lifetime.pour(tap, [tap.framed(data) for data in packets])
                    for tap, packets in zip(world.taps(), (to_vip, out))]
        try:
            for _ in range(200):
                ipvs.call(genl.SET_SERVICE, plain)
                ipvs.call(genl.SET_SERVICE, engine)
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        found = set()
        for caller in GHOST_CLIENTS[:4]:
            clients.send(caller, persist.sip("the last"))
            clients.send(caller, persist.sip("last"))
            found.add(clients.at_server.wait(lambda seen: b": last" in seen.payload).dst)
        assert len(found) == 1, f"one call went to {found}"


class Failing:
    """Lets the N-th memory allocation of this thread fail; says whether there were as many."""

    def __init__(self, number):
        self.number, self.unused = number, None
        # Opened before: to open a file takes memory, too.
        self.file = os.open("/proc/thread-self/fail-nth", os.O_RDWR)

    def before(self):
        """Arms it."""
        os.pwrite(self.file, str(self.number).encode(), 0)

    def after(self):
        """Disarms it."""
        self.unused = int(os.pread(self.file, 16, 0)) > 0
        os.pwrite(self.file, b"0", 0)
        os.close(self.file)


@each("add-service", "add-service-sip", "add-service-lblc", "edit-service", "delete-service", "add-destination",
      "edit-destination", "delete-destination", "add-laddr", "delete-laddr", "start-master", "start-backup", "set",
      "zero", "flush")
def test_failing_allocations(world, what):
    """Whichever allocation fails, a command that reports it has changed nothing, and nothing is leaked."""
    need_debug()
    need_rlvs()
    # All allocations count, those that may sleep included, and none tells its stack.
    for name, value in (("ignore-gfp-wait", "N"), ("verbose", "0"), ("cache-filter", "N")):
        with open(f"/sys/kernel/debug/failslab/{name}", "w", encoding="ascii") as file:
            file.write(value)
    key = genl.service(VIP, 90, full=False)
    command, payload, family = {
        "add-service": (genl.NEW_SERVICE, genl.service(VIP, 95), "IPVS"),
        "add-service-sip": (genl.NEW_SERVICE, persist.with_sip(95), "IPVS"),
        "add-service-lblc": (genl.NEW_SERVICE, genl.service(VIP, 95, sched=b"lblc\0"), "IPVS"),
        "start-master": (genl.NEW_DAEMON, sync_peer.attrs(sync_peer.MASTER), "IPVS"),
        "start-backup": (genl.NEW_DAEMON, sync_peer.attrs(sync_peer.BACKUP), "IPVS"),
        "edit-service": (genl.SET_SERVICE, genl.service(VIP, 90, sched=b"wlc\0"), "IPVS"),
        "delete-service": (genl.DEL_SERVICE, key, "IPVS"),
        "add-destination": (genl.NEW_DEST, key + genl.dest(SERVERS[2], 80, 2, 5), "IPVS"),
        "edit-destination": (genl.SET_DEST, key + genl.dest(SERVERS[0], 8080, 9, 5), "IPVS"),
        "delete-destination": (genl.DEL_DEST, key + genl.dest(SERVERS[0], 8080, full=False), "IPVS"),
        "add-laddr": (genl.NEW_LADDR, key + genl.laddr(LADDRS[3]), "RLVS"),
        "delete-laddr": (genl.DEL_LADDR, key + genl.laddr(LADDRS[0]), "RLVS"),
        "set": (genl.SET_CONFIG, genl.attr(genl.TIMEOUT_TCP, 900), "IPVS"),
        "zero": (genl.ZERO, key, "IPVS"),
        "flush": (genl.FLUSH, b"", "IPVS"),
    }[what]

    def configured():
        """What is configured, told by no process: it is asked for often."""
        if "start" in what:
            return list(sync_peer.told(world))
        laddrs = [rlvs.call(genl.GET_LADDR, genl.service(VIP, 90, proto, full=False), flags=genl.DUMP)
                  for proto in (packet.TCP, UDP)]
        return laddrs, [line.split()[:4] for line in world.director.proc("ip_vs").splitlines()]

    def restore():
        """As it was."""
        for role in sync_peer.told(world):
            ipvs.call(genl.DEL_DAEMON, genl.nest(genl.DAEMON, genl.attr(1, role)))
        ipvs.call(genl.FLUSH)
        for proto, sched, laddrs, dest in SERVED:
            service = genl.service(VIP, 90, proto, sched)
            ipvs.call(genl.NEW_SERVICE, service)
            for laddr in laddrs:
                rlvs.call(genl.NEW_LADDR, service + genl.laddr(laddr))
            ipvs.call(genl.NEW_DEST, service + dest)

    failures = 0
    with world.director, Genl(family) as sock, Genl("IPVS") as ipvs, Genl("RLVS") as rlvs:
        restore()
        before = configured()
        for number in range(1, 500):
            failing = Failing(number)
            try:
                sock.call(command, payload, before=failing.before, after=failing.after)
            except Lost:
                restore()
            except Refused as refused:
                failures += 1
                # The last one is what the kernel says of a socket that cannot be made.
                assert refused.errno in (errno.ENOMEM, errno.ENOBUFS, errno.ENFILE), f"failure {number}: {refused}"
                assert configured() == before, f"failure {number} has changed something"
            else:
                if failing.unused:
                    break
                # It got by without that memory; it must have done its work all the same.
                if what not in ("set", "zero", "edit-service"):
                    assert configured() != before, f"failure {number} went unnoticed"
                restore()
        else:
            raise AssertionError("there is no end of allocations")
        restore()
        ipvs.call(genl.FLUSH)
    print(f"# {what}: {failures} failures injected")


def test_unknown_commands_of_the_tool(world):
    """A line that -R cannot obey is named by its number, and the exit status tells."""
    need_rlvs()
    cleared(world)
    done = world.adm("-R", stdin=f"-A -t {VIP}:80 -s rr\n\n# fine\n-A -t {VIP}:80 -s rr\n", check=False)
    assert done.returncode and "4" in done.stderr and "exists" in done.stderr, done.stderr
    cleared(world)


def test_unprivileged(world):
    """Without CAP_NET_ADMIN nothing can be read or changed, whatever the user is called."""
    done = world.director.run("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin",
                              *TOOLS[-1:], "-A", "-t", f"{VIP}:80", "-s", "rr", check=False)
    assert done.returncode and "denied" in (done.stderr + done.stdout).lower(), done.stderr
    assert saved(world, TOOLS[-1]) == []
