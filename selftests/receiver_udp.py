# SPDX-License-Identifier: GPL-2.0
"""rlvs-toa and UDP: the two forms of DPVS, read and undone."""

import socket
import struct

import kernel
import packet
import receiver
from lib import each
from receiver import (
    CLIENT4,
    CLIENT6,
    LADDR4,
    LADDR6,
    SERVER4,
    SERVER6,
    STRANGER4,
    attached,
    counters,
    pseudo,
    raw,
    the_wire,
    watched,
)

LOAD = False
UOA, OPP = 31, 248

end = receiver.end


def uoa(client):
    """IP option 31, as DPVS has it; in a header of protocol 248 it is the same."""
    body = struct.pack("!H", client[1]) + raw(client[0])
    return bytes([UOA, len(body) + 2]) + body


def opp(client):
    """DPVS's header between IP and UDP."""
    told = uoa(client)
    return bytes([0x10 if len(told) == 8 else 0x20, packet.UDP]) + struct.pack("!H", 4 + len(told)) + told


def datagram(sport, dport, src, dst, payload, form, client):
    """Sends one; `form` is how the client is told."""
    segment = pseudo(src, dst, packet.UDP, struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload)
    wire = the_wire()
    if form == "opp":
        wire.send(src, dst, OPP, segment, between=opp(client))
    else:
        wire.send(src, dst, packet.UDP, segment, options=uoa(client) if form == "ipo" else b"")


def udp_socket(addr, port=0):
    """A socket of the server."""
    with the_wire().server:
        sock = socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.settimeout(3 * kernel.SLOW)
    sock.bind((addr, port))
    return sock


def answered(sport, laddr, payload):
    """Asserts that the server's datagram went to the balancer."""
    def match(proto, _, dst, data):
        return proto == packet.UDP and dst == laddr and data[2:4] == struct.pack("!H", sport)
    data = the_wire().hear(match)[3]
    assert data[8:] == payload, data.hex(" ")


def udp_attached():
    """rlvs-toa for UDP."""
    return attached("--udp", "--device", "s1")


@each("ipo", "opp", "opp-ip6", "opp-mapped")
def test_udp(_, form):
    """recvfrom() shows the client, sendto() to him goes to the balancer; also when the packets tell no more."""
    ip6 = form == "opp-ip6"
    client, src, dst = (CLIENT6, LADDR6, SERVER6) if ip6 else (CLIENT4, LADDR4, SERVER4)
    bound = {"opp-ip6": SERVER6, "opp-mapped": "::"}.get(form, "0.0.0.0")
    expected = ("::ffff:" + client[0], client[1]) if form == "opp-mapped" else client
    with udp_attached(), udp_socket(bound) as sock:
        port, sport = sock.getsockname()[1], the_wire().port()
        for number, how in enumerate((form.split("-", maxsplit=1)[0], "plain", "plain")):
            datagram(sport, port, src, dst, b"ask%d" % number, how, client)
            data, peer = sock.recvfrom(100)
            assert (data, peer[:2]) == (b"ask%d" % number, expected), f"{data} from {peer}"
            sock.sendto(b"answer%d" % number, peer)
            answered(sport, src, b"answer%d" % number)
        told = counters()
        assert (told["udp_options"], told["udp_received"], told["udp_sent"]) == (1, 3, 3), told
        assert told["udp_unwrapped"] == (form != "ipo"), told


def test_udp_connected(_):
    """A socket that is connected to the client is connected to the balancer, and says the client."""
    with udp_attached(), udp_socket(SERVER4) as sock:
        port, sport = sock.getsockname()[1], the_wire().port()
        datagram(sport, port, LADDR4, SERVER4, b"ask", "ipo", CLIENT4)
        _, peer = sock.recvfrom(100)
        with udp_socket(SERVER4, port) as own:
            own.connect(peer)
            assert own.getpeername() == CLIENT4, own.getpeername()
            own.send(b"answer")
            answered(sport, LADDR4, b"answer")
            datagram(sport, port, LADDR4, SERVER4, b"more", "plain", CLIENT4)
            assert own.recvfrom(100) == (b"more", CLIENT4)
        assert watched()[f"{LADDR4}:{sport}"] == "198.51.100.2:40000", watched()


def test_udp_strangers(_):
    """Who is no balancer is not believed, and two clients of one socket are kept apart."""
    with udp_attached(), udp_socket("0.0.0.0") as sock:
        port, sport = sock.getsockname()[1], the_wire().port()
        for form in ("ipo", "opp"):
            datagram(sport, port, STRANGER4, SERVER4, b"lie", form, CLIENT4)
            assert sock.recvfrom(100) == (b"lie", (STRANGER4, sport))
        assert counters()["udp_strangers"] == 2
        clients = [(CLIENT4[0], 1000 + number) for number in range(20)]
        for number, client in enumerate(clients):
            datagram(30000 + number, port, LADDR4, SERVER4, b"x", "ipo", client)
        assert [sock.recvfrom(10)[1] for _ in clients] == clients
        for number, client in enumerate(clients):
            sock.sendto(b"to%d" % number, client)
            answered(30000 + number, LADDR4, b"to%d" % number)


def test_udp_detached(_):
    """Without --udp and after detaching, UDP is what it was, and protocol 248 is unknown."""
    with udp_attached():
        pass
    with attached(), udp_socket("0.0.0.0") as sock:
        port, sport = sock.getsockname()[1], the_wire().port()
        datagram(sport, port, LADDR4, SERVER4, b"ask", "opp", CLIENT4)
        datagram(sport, port, LADDR4, SERVER4, b"tell", "ipo", CLIENT4)
        assert sock.recvfrom(100) == (b"tell", (LADDR4, sport))
    filters = the_wire().server.run("tc", "filter", "show", "dev", "s1", "ingress").stdout
    assert not filters, filters
