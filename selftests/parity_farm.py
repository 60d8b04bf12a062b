# SPDX-License-Identifier: GPL-2.0
"""A director between hosts that have stacks of their own: real sockets speak, and what passes the wires is heard.

    clients 10.1.N.n -- c0 10.1.0.2 --- 10.1.0.1 c  director  s 10.2.0.1 --- s0 10.2.0.11 server 1
            2001:db8:c:N::n     2001:db8:1::            2001:db8:2::   s2 --- s0 10.2.0.12 server 2
         c1, c2 --------------------------------------------------------- s1   the way of what a server sends as the VIP

Addresses are those of parity_stage.py: scene N's clients, VIPs and targets of marks are all local where they belong.
Everything happens on one processor, and acknowledgements do not wait for timers: so a short exchange has the same
packets each time, in the same order.
"""

import ctypes
import fcntl
import re
import select
import socket
import struct
import time

import kernel
import lib
from parity_dissect import GRE, GUE_PORT, IPIP, IPV6, SCTP, TCP, UDP, Dissector
from parity_flows import at
from parity_stage import SETUP, Adm, Scene, Stage, Wire, colons

KINDS = {"tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP), "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
         "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP)}
# Who answers does so with another TOS than who asks.
ASKS, ANSWERS = 0x28, 0x48
# The one port that the clients' stack chooses by itself.
CHOSEN = 24000
# The director's devices and their addresses; the peer of each has the next one.
DIRECTOR = {"c": 0x101, "s": 0x201, "s2": 0x211}
# VIPs and targets of marks.
VIRTUAL = {4: ("10.9.0.0/16", "10.8.0.0/16"), 6: ("2001:db8:9::/64", "2001:db8:8::/48")}
# No timer of TCP comes into a connection, but for the first one.
PATH = "quickack 1 rto_min 5s"
HOST = [("ipv6/conf/all/accept_dad", 0), ("ipv6/conf/default/accept_dad", 0),
        ("ipv6/conf/default/router_solicitations", 0), ("ipv4/conf/all/rp_filter", 0),
        ("ipv4/conf/default/rp_filter", 0), ("ipv6/auto_flowlabels", 0), ("ipv6/ip_nonlocal_bind", 1),
        ("ipv4/icmp_ratelimit", 0), ("ipv6/icmp/ratelimit", 0), ("ipv4/tcp_no_metrics_save", 1),
        ("ipv4/tcp_early_retrans", 0), ("ipv4/ip_local_port_range", f"{CHOSEN} {CHOSEN}")]


def mac(number):
    """A device's address."""
    return colons(f"02000000{number:04x}")


def offload(place, device, command, value):
    """Sets one of a device's offloads, as ethtool(8) does."""
    what = ctypes.create_string_buffer(struct.pack("=II", command, value))
    with place, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, 0x8946, struct.pack("16sP16x", device.encode(), ctypes.addressof(what)))  # SIOCETHTOOL


def inside(data):
    """The packet that a tunnel carries, or the packet itself."""
    proto, start = (data[9], (data[0] & 15) * 4) if data[0] >> 4 == 4 else (data[6], 40)
    if proto == GRE:
        start += 8 if data[start] & 0x80 else 4
    elif proto == UDP and data[start + 2:start + 4] == struct.pack("!H", GUE_PORT):
        start += 12 + (data[start + 8] & 31) * 4
    elif proto not in (IPIP, IPV6):
        return data
    return inside(data[start:])


def lasting(data):
    """What the balancer must not change of a packet: all but addresses, ports, the TTL and sums."""
    data = inside(data)
    if data[0] >> 4 == 4:
        size, proto = (data[0] & 15) * 4, data[9]
        head = data[:8] + data[9:10] + data[20:size]
    else:
        size, proto = 40, data[6]
        head = data[:7]
    rest = data[size:]
    return head + {TCP: rest[4:16] + rest[18:], UDP: rest[4:6] + rest[8:], SCTP: rest[4:8] + rest[12:]}.get(proto, rest)


def chunks(data):
    """The kinds of an SCTP packet's chunks; the rest of them is of chance."""
    start = ((data[0] & 15) * 4 if data[0] >> 4 == 4 else 40) + 12
    while start + 4 <= len(data):
        kind, flags, size = struct.unpack("!BBH", data[start:start + 4])
        yield f"{kind}/{flags}"
        start += max(size + 3 & ~3, 4)


# Identifiers, TCP's numbers, window, and options with the time in them, SCTP's tags, and sums that are quoted.
CHANCE = re.compile(r" id \S+| seq \d+ ack \d+ window \d+| options \w+| tag 0x\w+|(?<= sum) (0x)?[0-9a-f]{4,8}\b")
# What makes packets of one kind different: how much there is in them.
SIZES = re.compile(r" \| (\d+ bytes )?[0-9a-f-]+$| length \d+| \[\w*\]| header \d+")


class Heard:
    """One packet at a device; `size` is that of the segments that are still to be made of it."""

    def __init__(self, frame, outgoing):
        flags, kind, _, size, start, _ = struct.unpack("=BBHHHH", frame[:10])
        self.outgoing, self.data = outgoing, frame[24:]
        self.partial, self.size = start - 14 if flags & 1 else None, size if kind else 0

    def told(self, sent):
        """As text: numbers of chance are left out; whether they are as they were sent is told instead."""
        text = Dissector(self.data, self.partial).told()
        text = CHANCE.sub("", text)
        # Who fills it in makes no difference on a wire.
        text = text.replace("sum left to the device", "sum right")
        if "SCTP" in text:
            text = re.sub(r" \| [^|]*$", f" | chunks {' '.join(chunks(inside(self.data)))}", text)
        kept = lasting(self.data)
        if kept in sent:
            sent.remove(kept)
            return text + " | as sent"
        return text


class Ear:
    """All packets that pass a device, both ways, as they are there."""

    def __init__(self, place, device):
        with place:
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sock.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE
        self.sock.setsockopt(263, 15, 1)  # SOL_PACKET, PACKET_VNET_HDR
        self.sock.bind((device, 3))
        self.sock.setblocking(False)

    def heard(self):
        """What has passed since the last look."""
        found = []
        while True:
            try:
                frame, where = self.sock.recvfrom(70000)
            except BlockingIOError:
                return found
            ether = frame[22:24]
            if ether == b"\x08\x00" or ether == b"\x86\xdd" and not Wire.noise(frame[24:]):
                # 4 is PACKET_OUTGOING.
                found.append(Heard(frame, where[2] == 4))


class Farm(Stage):
    """The picture at the top."""

    def __init__(self):  # pylint: disable=super-init-not-called
        self.scenes, self.gathers = [], False
        self.place, self.clients, *self.servers = (lib.Namespace(f"farm-{name}") for name in ("d", "c", "1", "2"))
        self.hosts = [self.place, *self.servers]
        self.adm = Adm(self.place)
        self.place.ip(*(f"link add {near} address {mac(number)} type veth peer name {far} address {mac(number + 1)} "
                        f"netns farm-{place}" for (near, number), (far, place) in
                        zip(DIRECTOR.items(), (("c0", "c"), ("s0", "1"), ("s0", "2")))))
        for number, place in enumerate(self.servers, 1):
            self.clients.ip(f"link add c{number} address {mac(0x300 + number)} type veth peer name s1 "
                            f"address {mac(0x310 + number)} netns {place.name}")
        for place in (self.clients, *self.hosts):
            with place:
                for name, value in SETUP + [("ipv6/ip_nonlocal_bind", 1)] if place is self.place else HOST:
                    with open(f"/proc/sys/net/{name}", "w", encoding="ascii") as file:
                        file.write(str(value))
        self.place.ip(
            *(f"link set {device} up" for device in ("lo", *DIRECTOR)),
            "addr add 10.1.0.1/24 dev c", "addr add 10.2.0.1/24 dev s", "addr add 2001:db8:1::1/64 dev c nodad",
            "addr add 2001:db8:2::1/64 dev s nodad",
            *self.know("c", 0x102, "10.1.0.2", "2001:db8:1::2"),
            *self.know("s", 0x202, "10.2.0.11", "2001:db8:2::11"),
            # Nobody has the second one.
            *self.know("s2", 0x212, "10.2.0.12", "2001:db8:2::12", "10.2.0.13", "2001:db8:2::13"),
            *(f"route add {net}{number} dev s2 src {net}1" for net in ("10.2.0.", "2001:db8:2::")
              for number in (12, 13)),
            f"route add 10.1.0.0/16 via 10.1.0.2 {PATH}", f"route add 2001:db8:c::/48 via 2001:db8:1::2 {PATH}",
            "route add local 10.9.0.0/16 dev lo", "route add local 2001:db8:9::/64 dev lo")
        self.marks()
        self.clients.ip(
            *(f"link set {device} up" for device in ("lo", "c0", "c1", "c2")),
            "addr add 10.1.0.2/24 dev c0", "addr add 2001:db8:1::2/64 dev c0 nodad",
            *self.know("c0", DIRECTOR["c"], "10.1.0.1", "2001:db8:1::1"),
            f"route add default via 10.1.0.1 {PATH}", f"route add default via 2001:db8:1::1 {PATH}",
            # All of 10.1.0.0/16 but for the director's network.
            *(f"route add local 10.1.{1 << bit}.0/{24 - bit} dev lo" for bit in range(8)),
            "route add local 2001:db8:c::/48 dev lo")
        for number, place in enumerate(self.servers, 1):
            self.stand(number, place)
        self.ears = [Ear(self.clients, "c0"), *(Ear(place, "s0") for place in self.servers)]

    @staticmethod
    def know(device, number, *addrs):
        """Lines that make neighbours known."""
        return [f"neigh add {addr} lladdr {mac(number)} dev {device} nud permanent" for addr in addrs]

    def stand(self, number, place):
        """Sets a server up, with the ends of all kinds of tunnels."""
        four, six = f"10.2.0.{10 + number}", f"2001:db8:2::{10 + number}"
        near, far = f"10.3.{number}", f"2001:db8:3:{number}:"
        v4, v6 = f"remote 10.2.0.1 local {four}", f"remote 2001:db8:2::1 local {six}"
        self.clients.ip(*(f"addr add {end} dev c{number}" for end in (f"{near}.2/24", f"{far}:2/64 nodad")),
                        *self.know(f"c{number}", 0x310 + number, f"{near}.1", f"{far}:1"))
        place.ip(
            *(f"link set {device} up" for device in ("lo", "s0", "s1")),
            f"addr add {four}/24 dev s0", f"addr add {six}/64 dev s0 nodad",
            f"addr add {near}.1/24 dev s1", f"addr add {far}:1/64 dev s1 nodad",
            *self.know("s0", DIRECTOR["s" if number == 1 else "s2"], "10.2.0.1", "2001:db8:2::1"),
            *self.know("s1", 0x300 + number, f"{near}.2", f"{far}:2"),
            *(f"route add local {net} dev lo" for nets in VIRTUAL.values() for net in nets),
            f"route add default via 10.2.0.1 {PATH}", f"route add default via 2001:db8:2::1 {PATH}",
            f"link add i4 type ipip {v4}", f"link add s4 type sit {v4}", f"link add g4 type gre {v4}",
            f"link add i6 type ip6tnl mode any {v6}", f"link add g6 type ip6gre {v6}",
            *(f"link set {device} up" for device in ("i4", "s4", "g4", "i6", "g6")))
        for family, gate in ((4, f"{near}.2"), (6, f"{far}:2")):
            place.run("ip", f"-{family}", "-batch", "-", stdin="\n".join([
                *(f"rule add from {net} lookup 100" for net in VIRTUAL[family]),
                f"route add default via {gate} dev s1 table 100 {PATH}", f"fou add port {GUE_PORT} gue"]) + "\n")

    def lines(self, gathers):
        """Whether hosts segment what they send and the director puts it together, or it comes in large packets."""
        if gathers == self.gathers:
            return
        self.gathers = gathers
        for place, device in zip((self.clients, *self.servers), ("c0", "s0", "s0")):
            # ETHTOOL_STSO, ETHTOOL_SGSO and ETHTOOL_SGRO
            offload(place, device, 0x1F, not gathers)
            offload(place, device, 0x24, not gathers)
        for device in DIRECTOR:
            offload(self.place, device, 0x2C, gathers)

    def heard(self, patience):
        """What each ear has heard, when so many seconds nothing has come any more."""
        found = [ear.heard() for ear in self.ears]
        while True:
            time.sleep(patience)
            more = [ear.heard() for ear in self.ears]
            if not any(more):
                return found
            found = [one + other for one, other in zip(found, more)]

    def close(self):
        """Takes it down."""
        self.adm.close()
        for ear in self.ears:
            ear.sock.close()
        for place in (self.clients, *self.hosts):
            place.close()


class Talk(Scene):
    """A scenario in which real sockets speak."""

    def __init__(self, farm, family):
        super().__init__(farm, family)
        # Whether it has the same packets each time, and whether each of them is one to the director, too.
        self.exact, self.plain = True, True
        # What clients have sent to the director and what it has sent them, in packets and bytes.
        self.wire = [0, 0, 0, 0]
        # How many packets left that are to be segmented; which server was asked last; how long a silence is the end.
        self.large, self.chosen, self.patience = 0, None, 0.001
        self._listening, self._open, self._shapes = {}, [], set()
        self._port = 20000
        self._mine = (bytes((10, 1, self.number)),
                      socket.inet_pton(socket.AF_INET6, f"2001:db8:c:{self.number}::")[:8])[family == 6]

    # -- sockets

    def socket(self, place, proto, tos):
        """A socket in a place."""
        v4 = self.family == 4
        with place:
            sock = socket.socket(socket.AF_INET if v4 else socket.AF_INET6, *KINDS[proto])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(*((socket.IPPROTO_IP, socket.IP_TOS) if v4 else (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)), tos)
        sock.settimeout(5 * kernel.SLOW)
        self._open.append(sock)
        return sock

    def listen(self, number, proto, addr, port):
        """A server's socket; 0 is the director."""
        sock = self.socket(self.stage.hosts[number], proto, ANSWERS)
        sock.bind((addr, port))
        if proto != "udp":
            sock.listen(16)
        self._listening[sock] = number

    def client_socket(self, proto, number=1, port=None):
        """A client's socket."""
        sock = self.socket(self.stage.clients, proto, ASKS)
        self._port += 1
        sock.bind((self.client(number), port or self._port))
        return sock

    def ready(self):
        """(the server's number, its socket) where somebody has come."""
        found = select.select(list(self._listening), [], [], 5 * kernel.SLOW)[0]
        assert found, "nobody has come to any server"
        self.chosen = self._listening[found[0]]
        return self.chosen, found[0]

    def accept(self):
        """(the server's number, its connection, who it says has come)."""
        number, listener = self.ready()
        sock, peer = listener.accept()
        sock.settimeout(5 * kernel.SLOW)
        self._open.append(sock)
        return number, sock, at(*peer[:2])

    # -- what is written down

    def look(self, label, *told):
        """Writes down what sockets have said, what has left the director and what has become of connections."""
        self.step(label, "\n".join([*told, *self.late(), *self.changes()]))

    def late(self):
        heard = [[one for one in ear if self._mine in one.data[:140]] for ear in self.stage.heard(self.patience)]
        near, servers = heard[0], heard[1:]
        from_clients = [lasting(one.data) for one in near if one.outgoing and self.exact]
        from_servers = [lasting(one.data) for ear in servers for one in ear if one.outgoing and self.exact]
        told = []
        for name, ear, sent in (*((f"server {number}", ear, from_clients) for number, ear in enumerate(servers, 1)),
                                ("clients", near, from_servers)):
            for one in ear:
                if one.outgoing:
                    continue
                self.large += bool(one.size)
                if self.exact:
                    told.append(f"to {name}: {one.told(sent)}" + (f" | segments of {one.size}" if one.size else ""))
                else:
                    self._shapes.add(f"to {name}: {shape(one)}")
        # Where the director puts packets together, only those behind it are those that it counts.
        gathers = self.stage.gathers
        asks = [one for ear in (servers if gathers else [near]) for one in ear if one.outgoing != gathers]
        for way, some in enumerate((asks, [one for one in near if not one.outgoing])):
            self.wire[way] += len(some)
            self.wire[2 + way] += sum(len(inside(one.data)) for one in some)
        return told

    def end(self):
        """All sockets are closed, and what has left and was not seen yet."""
        for sock in self._open:
            sock.close()
        super().end()
        if not self.exact:
            self.step("packets of these kinds leave", "\n".join(sorted(self._shapes)))

    def counted(self, rows):
        """Writes down what was counted: exactly, or as what was heard."""
        told = []
        for row in rows:
            words = row.split()
            if not self.exact:
                row = " ".join(words[:-4])
            if words[0] != "->" and self.plain:
                heard = [str(number) for number in self.wire]
                row += f" | on the wire {'the same' if words[-4:] == heard else ' '.join(heard)}"
            told.append(row)
        self.step("counted", "\n".join(told))


def shape(one):
    """What all packets of a kind have in common."""
    return SIZES.sub("", one.told([]))
