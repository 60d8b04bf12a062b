# SPDX-License-Identifier: GPL-2.0
"""Where a scenario of the parity tests takes place: what is done there and what came of it is written down.

Every scenario is a function of a Box. Whatever it does there becomes a step: a label, which is the same for
both modules, and a text, which should be. A scenario may state what it expects; that must hold for ip_vs.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import select
import socket
import struct
import subprocess
import time

import genl
import kernel
import lib
import shapes
from packet import ICMP, Packet
from process import NEWNET, Process, unshare

IPVSADM = "/usr/sbin/ipvsadm"
SETTINGS = "/proc/sys/net/ipv4/vs"


class Fresh(lib.Namespace):
    """A network namespace without a name, made without a process; it goes when it is closed."""

    def __init__(self):  # pylint: disable=super-init-not-called
        unshare(NEWNET)
        self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        lib._setns(lib._where.__dict__.setdefault("stack", [lib._home])[-1])

    def close(self):
        os.close(self.fd)


class Wire:
    """A netlink socket that takes bytes and gives bytes: no extended acks, so nothing but what mainline sends."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)
        self.sock.setblocking(False)
        self.sock.bind((0, 0))
        self.sequence = 0
        self.port = self.sock.getsockname()[0]
        try:
            reply, = self.exchange(3, genl.attr(2, b"IPVS\0"), genl.REQUEST, 16, 2)
            self.about = reply[20:]
            self.family = struct.unpack("=H", genl.attributes(self.about)[1][:2])[0]
        except (ValueError, KeyError):
            self.sock.close()
            raise RuntimeError("there is no family IPVS") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def exchange(self, command, payload, flags, family=None, version=1):
        """Sends one message; returns all messages that answer it.

        The kernel works within the system calls, so all there is to hear is there at once.
        """
        self.sequence += 1
        body = struct.pack("=BBH", command, version, 0) + payload
        self.sock.send(struct.pack("=IHHII", 16 + len(body), family or self.family, flags,
                                   self.sequence, self.port) + body)
        messages = []
        while True:
            try:
                data = self.sock.recv(1 << 18)
            except BlockingIOError:
                return messages
            while data:
                size = max(struct.unpack("=I", data[:4])[0], 16)
                messages.append(data[:size])
                data = data[(size + 3) & ~3:]

    def told(self, message):
        """A message as text: what is random of it is checked and left out."""
        size, kind, flags, sequence, port = struct.unpack("=IHHII", message[:16])
        ours = [] if (sequence, port) == (self.sequence, self.port) else [f"sequence {sequence} of {port}"]
        if size != len(message):
            ours.append(f"length {size} of {len(message)}")
        if kind == 2:
            code = -struct.unpack("=i", message[16:20])[0]
            # What it repeats of the request is masked by its length.
            return "\n".join([f"error {errno.errorcode.get(code, code)} flags {flags:#x} ({size})", *ours])
        if kind == 3:
            return "\n".join([f"done flags {flags:#x} {message[16:].hex()}", *ours])
        name = "family" if kind == self.family else f"type {kind}"
        command, version, reserved = struct.unpack("=BBH", message[16:20])
        return "\n".join([f"{name} command {command} version {version} flags {flags:#x} ({size})"
                          + (f" reserved {reserved}" if reserved else ""), *ours,
                          *shapes.told(message[20:], nests=command != shapes.SET_INFO)])


def sorted_blocks(text):
    """A listing whose services, which the kernel tells in an order of chance, are put into one."""
    head, blocks = [], []
    for line in text.splitlines(keepends=True):
        if re.match(r"(TCP|UDP|FWM|SCTP|ICMP|ICMPv6|IP_\d+) |IP  |-A ", line):
            blocks.append([line])
        else:
            (blocks[-1] if blocks else head).append(line)
    return "".join(head + [line for block in sorted(blocks) for line in block])


def full_minutes(seconds):
    """A timeout that is running, as the next multiple of a minute."""
    return -(-seconds // 60) * 60


class Box:
    """One scenario's namespace and record."""

    def __init__(self):
        self.steps, self.wrong = [], []
        self.place = Fresh()
        self._seen = {}
        self._wire = self._tun = None
        # Without a table of local addresses none is unicast.
        self.loopback("up")

    def loopback(self, how):
        """Sets the device lo up, or gives the namespace in exchange for one where it never was."""
        if how == "down":
            self.place.close()
            self.place = Fresh()
            return
        with self.place, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, 0x8914, struct.pack("16sH22x", b"lo", 0x1))  # SIOCSIFFLAGS, IFF_UP

    def close(self):
        """The namespace goes; the record stays."""
        for resource in (self._wire and self._wire.sock, self._tun):
            if resource:
                resource.close()
        self.place.close()

    # -- the record

    def step(self, label, text, complaint=None):
        """Writes down a step; labels are made unique by their number."""
        self._seen[label] = self._seen.get(label, 0) + 1
        if self._seen[label] > 1:
            label += f" [{self._seen[label]}]"
        self.steps.append((label, text))
        if complaint:
            self.wrong.append(f"{label}: {complaint}")

    # -- stock ipvsadm

    def adm(self, words, status=0, says="", stdin=None):
        """Runs ipvsadm; `status` and what it `says` (a part of it) are what mainline's users know, None is any."""
        with self.place:
            done = subprocess.run([IPVSADM, *words.split()], input=stdin, capture_output=True, text=True,
                                  check=False, timeout=60 * kernel.SLOW, env={"LC_ALL": "C", "PATH": "/sbin"})
        # A connection's timeout runs while it is looked at.
        told = re.sub(r"^(\w+) +(\d+):(\d\d) ",
                      lambda found: f"{found[1]} {full_minutes(int(found[2]) * 60 + int(found[3]))} s ",
                      done.stdout + done.stderr, flags=re.M)
        complaint = None
        if status is not None and done.returncode != status or says not in told:
            complaint = f"expected status {status} and {says!r}, not {done.returncode} and {told!r}"
        text = sorted_blocks(told)
        if words.startswith("-L") and " -c" in words or words.startswith("-Lc"):
            text = "".join(sorted(text.splitlines(keepends=True)))
        self.step("ipvsadm " + words + ("".join(f" < {line}" for line in (stdin or "").splitlines())),
                  f"status {done.returncode}\n{text}", complaint)
        return done.stdout

    def adms(self, *lines):
        """Runs ipvsadm once for each line; all of them must be accepted."""
        for words in lines:
            self.adm(words)

    # -- raw netlink

    @property
    def wire(self):
        """The socket for raw messages."""
        if not self._wire:
            with self.place:
                self._wire = Wire()
        return self._wire

    def send(self, command, payload=b"", error=0, *, label="", flags=genl.REQUEST | genl.ACK, version=1):
        """Sends a message of a command, by name or number; all answers are compared byte for byte.

        `error` is the errno that ends it; 0 for an ACK or, of a dump, DONE.
        """
        number = shapes.COMMANDS.get(command, command)
        messages = self.wire.exchange(number, payload, flags, version=version)
        told = [self.wire.told(message) for message in messages]
        ends = [line.split()[1] for line in told if line.startswith("error")]
        wanted = [errno.errorcode.get(error, "0")] if error or not ends else ["0"]
        complaint = None
        if ends != wanted and (error or ends):
            complaint = f"expected {wanted}, not {told}"
        if not error and not messages and flags & genl.ACK:
            complaint = "no answer"
        if flags & genl.DUMP == genl.DUMP:
            told[:-1] = sorted(told[:-1]) if number == 4 else told[:-1]
        name = f"{command} {label}".strip()
        self.step(f"netlink {name}", "\n".join(told), complaint)
        return messages

    def dump(self, command, payload=b"", error=0, label=""):
        """Sends a message that asks for a dump."""
        return self.send(command, payload, error, label=label or "dump", flags=genl.REQUEST | genl.DUMP)

    # -- files

    def proc(self, name):
        """The text of /proc/net/NAME; running timeouts are rounded."""
        text = self.place.proc(name)
        if name in ("ip_vs_conn", "ip_vs_conn_sync"):
            head, *lines = text.splitlines(keepends=True)
            before = 8 if name == "ip_vs_conn_sync" else 7
            lines = [re.sub(r"^((?:\S+ +){%d}\S+)( +\d+)" % before, lambda found: found[1] + str(
                full_minutes(int(found[2]))).rjust(len(found[2])), line) for line in lines]
            text = head + "".join(sorted(lines))
        else:
            text = sorted_blocks(text)
        self.step(f"/proc/net/{name}", text)
        return text

    def modes(self, directory, pattern):
        """Names, modes and owners of files."""
        with self.place:
            found = [(name, os.stat(f"{directory}/{name}")) for name in sorted(os.listdir(directory))
                     if re.fullmatch(pattern, name)]
        self.step(f"modes of {directory}", "\n".join(
            f"{stat.st_mode:o} {stat.st_uid}:{stat.st_gid} {name}" for name, stat in found))

    def setting(self, name, value=None, error=0):
        """Writes a sysctl, or only reads it; tells the errno, which may be expected, and what stands there then."""
        with self.place:
            result = write_setting(name, value)
        complaint = None
        if error is not None and result[0] != error:
            complaint = f"expected errno {error}, not {result}"
        self.step(f"sysctl {name}" + ("" if value is None else f" = {value!r}"),
                  f"{errno.errorcode.get(result[0], '0')} {result[1]!r}", complaint)

    # -- other users

    def as_user(self, label, action, *, user=None, namespace=False):
        """Runs `action()` in a process of another user, or as root of a user namespace that owns its network.

        What it returns, anything that JSON can say, is the step's text.
        """
        with self.place:
            answer = Process(action, user, namespace).result()
        self.step(label, answer if isinstance(answer, str) else json.dumps(answer, indent=1))
        return answer

    # -- packets

    def network(self):
        """Gives the namespace a device at whose other end the box itself speaks for all clients and servers."""
        with self.place:
            self._tun = open("/dev/net/tun", "r+b", buffering=0)  # pylint: disable=consider-using-with
            fcntl.ioctl(self._tun, 0x400454CA, struct.pack("16sH22x", b"t0", 0x1001))
            for name, value in (("ipv4/ip_forward", 1), ("ipv6/conf/all/forwarding", 1),
                                ("ipv6/conf/default/accept_dad", 0), ("ipv6/conf/t0/accept_dad", 0),
                                ("ipv6/conf/t0/router_solicitations", 0), ("ipv4/icmp_ratelimit", 0),
                                # Clients and servers are behind the same device, which is nobody's business.
                                ("ipv4/conf/all/send_redirects", 0), ("ipv4/conf/t0/send_redirects", 0)):
                with open(f"/proc/sys/net/{name}", "w", encoding="ascii") as file:
                    file.write(str(value))
            lib.run("ip", "-batch", "-", stdin="link set lo up\nlink set t0 up\naddr add 10.1.0.1/16 dev t0\n"
                    "addr add 10.2.0.1/16 dev t0\naddr add 10.9.0.80/32 dev lo\n"
                    "addr add 2001:db8:1::1/64 dev t0 nodad\naddr add 2001:db8:9::80/128 dev lo nodad\n")
        os.set_blocking(self._tun.fileno(), False)

    def packet(self, label, data, seconds=0.5):
        """Sends a packet into the director; what comes out, all headers and checksums, is the step's text."""
        self._arrived()
        self._tun.write(data)
        end = time.monotonic() + seconds * kernel.SLOW
        out = []
        # Nothing may be the answer, so it is waited for in vain; whatever comes, comes at once.
        while not out and (left := end - time.monotonic()) > 0:
            select.select([self._tun], [], [], left)
            out = self._arrived()
        self.step(f"packet {label}", "\n".join(out) or "nothing")
        return out

    def _arrived(self):
        found = []
        with contextlib.suppress(BlockingIOError):
            while data := self._tun.read(65536):
                # Of IPv6 nothing is balanced yet, but the stack speaks of itself.
                if data[0] >> 4 == 4:
                    packet = Packet(data)
                    # The host's own packets have identifiers of chance.
                    found.append(f"{packet} {(packet.l4 if packet.proto == ICMP else data).hex()}")
        return found

    def counted(self, conns, packets):
        """Waits until so many connections and packets of clients were counted; ip_vs sums every two seconds."""
        lib.settled(lambda: [int(word, 16) for word in self.place.proc("ip_vs_stats").splitlines()[2].split()[:2]],
                    [conns, packets])
        # Services and destinations have their turns within the same period.
        time.sleep(2.2)


def write_setting(name, value=None):
    """(errno, text) of a sysctl after a value was written to it."""
    code = 0
    try:
        if value is not None:
            fd = os.open(f"{SETTINGS}/{name}", os.O_WRONLY)
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)
    except OSError as error:
        code = error.errno
    try:
        with open(f"{SETTINGS}/{name}", encoding="ascii") as file:
            return code, file.read()
    except OSError as error:
        return code or error.errno, "unreadable"
