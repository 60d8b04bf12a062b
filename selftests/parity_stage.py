# SPDX-License-Identifier: GPL-2.0
"""A director between two wires that the test itself holds: it speaks for all clients and for all servers.

    clients 10.1.0.0/16 -- c 10.1.0.1  director  10.2.0.1 s -- servers 10.2.0.11 .12 .13, each with a MAC of its own
    2001:db8:c::/48        2001:db8:1::1         2001:db8:2::1   2001:db8:2::11 ...   VIPs 10.9.0.N, 2001:db8:9::N

The kernel does all work within the system call that puts a packet in, so what leaves is there when that returns:
nothing is waited for, not even what must not come. Devices tell with each packet what is left to them (checksum,
segmentation), and packets can be put in with anything left to the director.
"""

import fcntl
import os
import re
import socket
import struct
import subprocess
import time

import kernel
import lib
from parity_box import IPVSADM, SETTINGS, Fresh
from parity_dissect import ICMPV6, Dissector

CLIENT_GATE = "020000000102"
MACS = {"c": "020000000101", "s": "020000000201"}
# A server by its number; the last one has no neighbour who answers.
SERVERS = {number: f"0200000002{number:02x}" for number in (11, 12, 13, 14)}
NAMES = {CLIENT_GATE: "clients", **{mac: f"server {number - 10}" for number, mac in SERVERS.items()}}
# All timeouts that a state may have: a connection's is shown as the one that it started from. Those of 2 and 3 seconds
# are told as the same by chance.
TIMEOUTS = (3, 10, 30, 60, 120, 180, 300, 360, 600, 900)
SCTP_TIMEOUTS = (4, 61, 180, 300, 360, 600, 900)
# What the director's stack has if some other test has loaded it: SCTP's answers, and IPv6's datagrams in pieces.
STACK = ("sctp", "nf_defrag_ipv6")
TUN_OFFLOADS = 1 | 2 | 4 | 8 | 0x20 | 0x40
# Neighbour and group discovery: the stack's own business.
NOISE = (130, 131, 132, 133, 134, 135, 136, 143)

SETUP = [
    ("ipv4/ip_forward", 1), ("ipv6/conf/all/forwarding", 1), ("ipv4/icmp_ratelimit", 0), ("ipv6/icmp/ratelimit", 0),
    ("ipv4/icmp_msgs_per_sec", 1000000), ("ipv4/icmp_msgs_burst", 1000000), ("ipv4/conf/all/send_redirects", 0),
    ("ipv4/conf/default/send_redirects", 0), ("ipv4/conf/all/rp_filter", 0), ("ipv4/conf/default/rp_filter", 0),
    ("ipv6/conf/default/accept_dad", 0), ("ipv6/conf/default/router_solicitations", 0),
    # A listing that is read while mainline's table grows leaves some out.
    ("ipv4/vs/conn_lfactor", 8),
    # A datagram that stays in pieces is given up, and its sender told, when nobody counts any more.
    ("ipv4/ipfrag_time", 3600), ("ipv6/ip6frag_time", 3600), ("netfilter/nf_conntrack_frag6_timeout", 3600),
    # The stack's own packets would have labels of chance.
    ("ipv6/auto_flowlabels", 0), ("ipv4/conf/all/accept_source_route", 0), ("ipv4/ping_group_range", "1 0"),
]


def load_stack():
    """Loads what a stage's settings are of."""
    for part in STACK:
        if not kernel.loaded(part):
            kernel.load(part)


def colons(mac):
    """A MAC address as commands have it."""
    return ":".join(mac[n:n + 2] for n in range(0, 12, 2))


def in_order(blocks):
    """The lines of services, each with its destinations, which mainline tells in an order of chance."""
    return [line for block in sorted(blocks) for line in block]


class Wire:
    """One end of a wire: a TAP device in the director."""

    def __init__(self, name, offload):
        self.name = name
        self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        # IFF_TAP, IFF_NO_PI, IFF_VNET_HDR
        fcntl.ioctl(self.fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x5002))
        fcntl.ioctl(self.fd, 0x400454D0, TUN_OFFLOADS if offload else 0)
        self.peer = CLIENT_GATE if name == "c" else SERVERS[11]

    def put(self, data, vnet=bytes(10), mac=None):
        """Puts an IP packet in; `vnet` tells what is left to do, `mac` who sends it."""
        kind = b"\x08\x00" if data[0] >> 4 == 4 else b"\x86\xdd"
        os.write(self.fd, vnet + bytes.fromhex(MACS[self.name] + (mac or self.peer)) + kind + data)

    def got(self):
        """What has left here, as text."""
        found = []
        while True:
            try:
                frame = os.read(self.fd, 70000)
            except BlockingIOError:
                return found
            flags, kind, _, size, start, offset = struct.unpack("=BBHHHH", frame[:10])
            mac, data = frame[10:16].hex(), frame[24:]
            ether = frame[22:24]
            if ether == b"\x86\xdd" and self.noise(data):
                continue
            if ether not in (b"\x08\x00", b"\x86\xdd"):
                continue
            told = f"to {NAMES.get(mac, mac)}: " + Dissector(data, start - 14 if flags & 1 else None).told()
            if kind:
                told += f" | segments of {size}, kind {kind}"
            found.append(told)
            del offset

    @staticmethod
    def noise(data):
        """Whether it is the stack's talk with its neighbours."""
        at = 48 if data[6] == 0 else 40
        proto = data[40] if data[6] == 0 else data[6]
        return proto == ICMPV6 and len(data) > at and data[at] in NOISE


class Adm:
    """Stock ipvsadm, which goes on reading lines (-R): a process for each scenario would take most of the time."""

    def __init__(self, place):
        self.place, self.process = place, None

    def run(self, lines):
        """Has lines carried out; returns what it says. One that it refuses may be its end, and others take over."""
        if not self.process:
            with self.place:
                self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                    [IPVSADM, "-R"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                    env={"LC_ALL": "C", "PATH": "/sbin"})
            os.set_blocking(self.process.stdout.fileno(), False)
        told = ""
        for line in lines:
            os.write(self.process.stdin.fileno(), line.encode() + b"\n")
            status = self.idle()
            told += (self.process.stdout.read() or b"").decode()
            if status is not None:
                self.close()
                return told + f"status {status}\n" + (self.run(lines[lines.index(line) + 1:]) if line != lines[-1]
                                                      else "")
        return told

    def idle(self):
        """Waits until all that it got is done: it has read that and is in read(0, ...) again."""
        end = time.monotonic() + 60 * kernel.SLOW
        while time.monotonic() < end:
            if (status := self.process.poll()) is not None:
                return status
            left = struct.unpack("=i", fcntl.ioctl(self.process.stdin, 0x541B, bytes(4)))[0]
            with open(f"/proc/{self.process.pid}/syscall", encoding="ascii") as file:
                if not left and file.read().startswith("0 0x0 "):
                    return None
            time.sleep(0.0005)
        raise TimeoutError("ipvsadm does not come back")

    def close(self):
        """Its end."""
        if self.process:
            self.process.stdin.close()
            self.process.wait()
            self.process.stdout.close()
            self.process = None


class Stage:
    """One director; scenes follow each other on it, each with addresses of its own."""

    def __init__(self, offload=False):
        load_stack()
        self.place = Fresh()
        self.scenes = []
        self.adm = Adm(self.place)
        with self.place:
            for name, value in SETUP:
                with open(f"/proc/sys/net/{name}", "w", encoding="ascii") as file:
                    file.write(str(value))
            self.client, self.server = Wire("c", offload), Wire("s", offload)
            neighbours = [("10.1.0.2", "c", CLIENT_GATE), ("2001:db8:1::2", "c", CLIENT_GATE)]
            for number, mac in SERVERS.items():
                neighbours += [(f"10.2.0.{number}", "s", mac), (f"2001:db8:2::{number}", "s", mac)]
            lib.run("ip", "-batch", "-", stdin="\n".join([
                "link set lo up", *(f"link set {name} address {colons(mac)} up" for name, mac in MACS.items()),
                "addr add 10.1.0.1/24 dev c", "addr add 10.2.0.1/24 dev s", "addr add 2001:db8:1::1/64 dev c nodad",
                "addr add 2001:db8:2::1/64 dev s nodad",
                *(f"neigh add {addr} lladdr {colons(mac)} dev {name} nud permanent" for addr, name, mac in neighbours),
                "route add 10.1.0.0/16 via 10.1.0.2", "route add 2001:db8:c::/48 via 2001:db8:1::2",
                "route add local 10.9.0.0/16 dev lo", "route add local 2001:db8:9::/64 dev lo",
                # FullNAT's local addresses.
                "route add local 10.4.0.0/24 dev lo", "route add local 2001:db8:4::/64 dev lo",
                # Servers that are reached through something narrow.
                "route add 10.3.0.0/24 via 10.2.0.14 mtu lock 1300",
                "route add 2001:db8:3::/64 via 2001:db8:2::14 mtu lock 1300",
            ]) + "\n")

    def marks(self):
        """Packets to a scene's targets get the scene's number as their mark; those of far ones come here by policy."""
        numbers = range(1, 33)
        with self.place:
            lib.run("nft", "-f", "-", stdin="table inet marks {\nchain pre {\ntype filter hook prerouting priority -150\n"
                    + "".join(f"ip daddr {{ 10.8.{n}.0/24, 10.7.{n}.0/24 }} meta mark set {n}\n"
                              f"ip6 daddr {{ 2001:db8:8:{n}::/64, 2001:db8:7:{n}::/64 }} meta mark set {n}\n"
                              for n in numbers) + "}\n}\n")
        for family, near, far, gate in ((4, "10.8.0.0/16", "10.7.0.0/16", "10.2.0.13"),
                                        (6, "2001:db8:8::/48", "2001:db8:7::/48", "2001:db8:2::13")):
            everything = "0.0.0.0/0" if family == 4 else "::/0"
            self.place.ip(f"route add local {near} dev lo", f"route add {far} via {gate}",
                          f"rule add iif c to {far} lookup 99", f"route add local {everything} dev lo table 99",
                          family=family)

    def conns(self, ours=re.compile("^(?!Pro ).+", re.M)):
        """(words, seconds left) of the rows of /proc/net/ip_vs_conn that match. Mainline is about to end those with 0."""
        rows = []
        for found in ours.finditer(self.place.proc("ip_vs_conn")):
            word = found[0].split()
            left = int(word.pop(8))
            rows.append((tuple(word), left))
        return rows

    def counted(self):
        """{scene's number: rows}: the counters of services and destinations, of each VIP or mark."""
        found, block = {}, []
        with self.place:
            for line in lib.run(IPVSADM, "-Ln", "--stats", "--exact").stdout.splitlines()[3:]:
                if not line.lstrip().startswith("->"):
                    where = re.search(r"10\.9\.0\.(\d+)|2001:db8:9::(\w+)|FWM +(\d+)", line)
                    block = []
                    found.setdefault(where and int(where[1] or where[2] or where[3]), []).append(block)
                block.append(" ".join(line.split()))
        return {number: in_order(blocks) for number, blocks in found.items()}

    def close(self):
        """Takes it down."""
        self.adm.close()
        os.close(self.client.fd)
        os.close(self.server.fd)
        self.place.close()


class Scene:
    """What is done in one scenario, and what came of it."""

    def __init__(self, stage, family):
        stage.scenes.append(self)
        self.stage, self.family, self.number = stage, family, len(stage.scenes)
        number = self.number
        # Whether what its destinations have counted tells anything.
        self.counts = True
        self.steps = []
        self._labels, self._rows, self._before = {}, {}, {}
        self.vip = f"10.9.0.{number}" if family == 4 else f"2001:db8:9::{number}"
        self._net = (f"0A01{number:02X}", f"0A0900{number:02X}",
                     f"2001:0db8:000c:{number:04d}:", f"2001:0db8:0009:0000:0000:0000:0000:{number:04d}")
        client, vip = self._net[:2] if family == 4 else self._net[2:]
        self._ours = re.compile(rf"^\S+ +(?:{client}\S* \S+ \S+|\S+ \S+ {vip}) .*", re.M)

    def client(self, number=1):
        """A client's address."""
        return f"10.1.{self.number}.{number}" if self.family == 4 else f"2001:db8:c:{self.number}::{number}"

    def server(self, number=1, family=None, narrow=False):
        """A server's address; 0 is the director's own. Those behind a narrow link have their own network."""
        net = 3 if narrow else 2
        number = 10 + number if number else 1
        return f"10.{net}.0.{number}" if (family or self.family) == 4 else f"2001:db8:{net}::{number}"

    def peer(self, flow):
        """Who a flow's client is to servers that are reached by NAT: (address, port)."""
        return flow.src, flow.sport

    def target(self, number, far=False):
        """An address that a mark is for; packets to those far away are meant for others than the director."""
        net = 7 if far else 8
        return f"10.{net}.{self.number}.{number}" if self.family == 4 else f"2001:db8:{net}:{self.number}::{number}"

    def step(self, label, text):
        """Writes a step down."""
        self._labels[label] = self._labels.get(label, 0) + 1
        if self._labels[label] > 1:
            label += f" [{self._labels[label]}]"
        self.steps.append((label, text))

    def command(self, lines):
        """Has lines carried out; returns what is said of them."""
        return self.stage.adm.run(lines)

    def adm(self, *lines, ends=False):
        """Runs stock ipvsadm with these lines; what `ends` all connections does so a little later."""
        told = self.command(lines).splitlines()
        limit = time.monotonic() + 2 * kernel.SLOW
        while ends and any(left for _, left in self.stage.conns(self._ours)) and time.monotonic() < limit:
            time.sleep(0.002)
        self.step("ipvsadm: " + "; ".join(lines), "\n".join(told + self.changes()))

    def setting(self, name, value):
        """Writes one of the balancer's sysctls; the scene's end sets it back."""
        with self.stage.place, open(f"{SETTINGS}/{name}", "r+", encoding="ascii") as file:
            self._before.setdefault(name, file.read())
            # Behind the beginning what is written has no effect.
            file.seek(0)
            file.write(f"{value}\n")

    def changes(self):
        """Rows of this scene's connections that are not as they were; a timeout that runs is as where it started."""
        now, rows = time.monotonic(), {}
        for words, left in self.stage.conns(self._ours):
            if not left:
                continue
            text, before, since = self._rows.get(words, ("", 0, now))
            if not 0 <= before - left <= now - since + 1:
                timeouts = SCTP_TIMEOUTS if words[0] == "SCTP" else TIMEOUTS
                text = next((known for known in timeouts if left <= known), left)
            rows[words] = (text, left, now)
        was, told = [sorted(f"{' '.join(words)} {text}" for words, (text, *_) in found.items())
                     for found in (self._rows, rows)]
        self._rows = rows
        return [f"- {row}" for row in was if row not in told] + [f"+ {row}" for row in told if row not in was]

    def _left(self, label):
        told = [f"c {text}" for text in self.stage.client.got()] + [f"s {text}" for text in self.stage.server.got()]
        self.step(label, "\n".join((told or ["nothing leaves"]) + self.changes()))
        return told

    def c(self, label, *packets, vnet=bytes(10)):
        """Packets from the clients."""
        for data in packets:
            self.stage.client.put(data, vnet)
        return self._left(f"client: {label}")

    def s(self, label, *packets, vnet=bytes(10), server=1):
        """Packets from a server."""
        for data in packets:
            self.stage.server.put(data, vnet, SERVERS.get(10 + server))
        return self._left(f"server: {label}")

    def own(self, label, data):
        """A packet of the director's own."""
        with self.stage.place:
            if self.family == 4:
                sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            else:
                sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        with sock:
            try:
                sock.sendto(data, (self.vip, 0))
                told = ""
            except OSError as error:
                told = f" ({error.strerror})"
        return self._left(f"director: {label}{told}")

    def wait(self, seconds):
        """For what comes with time."""
        time.sleep(seconds * kernel.SLOW)
        return self._left(f"after {seconds} s")

    def listed(self):
        """What /proc/net/ip_vs has of the scene's services: weights and connections."""
        head = (f"{self._net[1]}:", f"[{self._net[3]}]:", f"{self.number:08X}")
        blocks = []
        for line in self.stage.place.proc("ip_vs").splitlines()[3:]:
            word = line.split()
            if word[0] != "->":
                blocks.append([word[1].startswith(head)])
            blocks[-1].append(" ".join(word))
        return in_order(block[1:] for block in blocks if block[0])

    def end(self):
        """What has left and was not seen yet; settings are as they were."""
        for name, value in self._before.items():
            self.setting(name, value.strip())
        # What mainline is about to end still counts. Others are not waited for: they end by themselves.
        begin = time.monotonic()
        while time.monotonic() < begin + 0.05 and not all(left for _, left in self.stage.conns()):
            time.sleep(0.002)
        self.step("listed", "\n".join(self.listed()))
        if late := self.late():
            self.step("late", "\n".join(late))

    def late(self):
        """What has left since the last step."""
        return self.stage.client.got() + self.stage.server.got()
