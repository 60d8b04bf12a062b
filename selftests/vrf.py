# SPDX-License-Identifier: GPL-2.0
"""The director's legs in VRFs of their own: NAT, FullNAT, direct routing and tunnels from one to the other.

    client ---- dc in red, which has the VIP ---- ds in blue, which has the local addresses ---- server

What the balancer sends is routed by the main table, which names the devices; what a server sends, by that of blue.
"""

import farm
import genl
from farm import FAMILY, Flow, Ip, tcp
from fwmark import configured
from ipv6 import LADDRS as LADDRS6
from lib import _MAC, GHOST_CLIENTS, GHOST_SERVERS, LADDRS, METHODS, VIP, each, need_rlvs, same
from packet import ACK, SYN

SPOILS_WORLD = True

NUMBERS = METHODS | {"dr": 3, "ipip": 2}
# Methods by which a packet arrives at the server as the client has sent it, and the ports with it.
WHOLE = ("dr", "ipip")
WAYS = [f"{method}.{family}" for method in NUMBERS for family in FAMILY]
LOCAL = {"4": LADDRS[:2], "6": LADDRS6}
NETS = {"4": ("10.1.0.0/24", "10.2.0.0/24"), "6": ("fd01::/64", "fd02::/64")}


def ready(world):
    """Puts the legs into their VRFs, once."""
    if getattr(world, "has_vrfs", False):
        return
    world.has_vrfs = True
    farm.prepare(world)
    mac = {device: ":".join(text[n:n + 2] for n in range(0, 12, 2)) for device, text in _MAC.items()}
    six = FAMILY["6"]
    world.director.ip(
        "link add red type vrf table 10", "link add blue type vrf table 20", "link set red up", "link set blue up",
        "link set dc master red", "link set ds master blue",
        f"addr del {VIP}/32 dev lo", f"addr add {VIP}/32 dev red",
        f"addr del {six.vip}/128 dev lo", f"addr add {six.vip}/128 dev red nodad",
        # A device forgets these as it moves.
        "addr replace fd01::1/64 dev dc nodad", "addr replace fd02::1/64 dev ds nodad",
        *(f"addr replace {laddr}/64 dev ds nodad" for laddr in LADDRS6),
        *(f"neigh replace {addr} lladdr {mac['c0']} dev dc nud permanent"
          for addr in GHOST_CLIENTS + [FAMILY[family].real_client for family in FAMILY] + [six.client]),
        *(f"neigh replace {addr} lladdr {mac['s0']} dev ds nud permanent"
          for addr in GHOST_SERVERS + [FAMILY[family].real_server for family in FAMILY] + [six.server]),
        *(f"route add {clients} dev dc{table}" for clients, _ in NETS.values() for table in ("", " table 20")),
        *(f"route add {servers} dev ds" for _, servers in NETS.values()))
    world.server.ip(*(f"neigh replace {laddr} lladdr {mac['ds']} dev s0 nud permanent" for laddr in LADDRS6))


def served(world, way, server=None):
    """(addresses, port, context) of a service that is forwarded in that way."""
    method, family = way.split(".")
    if method == "fullnat":
        need_rlvs()
    ready(world)
    on, port = FAMILY[family], world.port()
    dest = genl.dest(server or on.server, port if method in WHOLE else 8080, method=NUMBERS[method])
    return on, port, configured(world, genl.service(on.vip, port), dest,
                                laddrs=LOCAL[family] if method == "fullnat" else ())


@each(*WAYS)
def test_bytes(world, way):
    """A connection's packets go from the client's VRF to the server's and back."""
    on, port, service = served(world, way)
    method, family = way.split(".")
    with service, Flow(world, on, port) as flow:
        seen = flow.request(flow.tcp(SYN))
        same(seen, dst=on.vip if method == "dr" else on.server, ttl=63)
        if method == "ipip":
            same(seen, proto=4 if family == "4" else 41)
            assert seen.src in (on.director, *LOCAL[family]), seen
            seen = Ip(seen.payload)
            same(seen, dst=on.vip, ttl=63)
        assert seen.src in LOCAL[family] if method == "fullnat" else seen.src == on.client, seen
        sport, dport = (int.from_bytes(seen.payload[at:at + 2], "big") for at in (0, 2))
        assert seen.l4_ok() and dport == (port if method in WHOLE else 8080), seen
        if method not in WHOLE:
            answer = flow.error(tcp(seen.dst, seen.src, dport, sport, SYN | ACK))
            same(answer, src=on.vip, dst=on.client)
            assert answer.l4_ok() and answer.payload[:4] == port.to_bytes(2, "big") + flow.cport.to_bytes(2, "big")


@each("nat.4", "fullnat.4")
def test_connections(world, way):
    """Real clients are answered by real servers."""
    on, port, service = served(world, way, server=FAMILY["4"].real_server)
    with service, world.listen(on.real_server, 8080) as listener:
        world.works(port, listener)


@each(*WAYS)
def test_no_route(world, way):
    """A server that only its VRF knows cannot be reached: the client is told, in its VRF."""
    on, port, service = served(world, way)
    family = way[-1]
    with service, Flow(world, on, port) as flow:
        world.director.ip(f"route del {NETS[family][1]} dev ds")
        try:
            seen = flow.refused(flow.tcp(SYN))
            same(seen, dst=on.client)
            assert tuple(seen.payload[:2]) == {"4": (3, 1), "6": (1, 3)}[family], seen.payload.hex()
            flow.at_server.silent()
        finally:
            world.director.ip(f"route add {NETS[family][1]} dev ds")
        flow.request(flow.tcp(SYN))
