# SPDX-License-Identifier: GPL-2.0
"""AH and ESP follow the connection over which the same hosts have negotiated them: UDP, port 500 to 500."""

import packet
import wire
from lib import GHOST_SERVERS, VIP, Flow, clean, each, same, settled
from packet import AH, ESP

SERVER = GHOST_SERVERS[0]


class Isakmp(Flow):
    """A flow from port 500."""

    def __init__(self, world, port, client):
        super().__init__(world, port, "udp")
        self.client = (client, 500)


def service(world):
    """The service of ISAKMP; it stays for all tests of this file."""
    if world.dests(500, "UDP") is None:
        world.service("nat", [(SERVER, 0)], port=500, proto="udp")


@each(ESP, AH)
def test_follows(world, proto):
    """Packets both ways get the addresses of the connection, and nothing else of them changes."""
    service(world)
    with Isakmp(world, 500, f"10.1.0.{100 + proto % 7 + 1}") as flow:
        client = flow.client[0]
        flow.at_client.send(packet.ip(client, VIP, proto, b"too early"))
        flow.at_server.silent()
        flow.request(wire.udp_request(flow, b"negotiate"))
        same(flow, server=(SERVER, 500), peer=flow.client)
        before = world.stats()
        for data in (b"", b"odd", bytes(range(256)) * 5):
            seen = clean(flow.to_server(packet.ip(client, VIP, proto, data, ttl=9, ident=5, tos=4)))
            same(seen, src=client, dst=SERVER, proto=proto, payload=data, ttl=8, ident=5, tos=4)
            seen = clean(flow.reply(packet.ip(SERVER, client, proto, data, ttl=7, ident=6)))
            same(seen, src=VIP, dst=client, proto=proto, payload=data, ttl=6, ident=6)
        conn, = [conn for conn in world.conns(500) if conn.client == flow.client]
        assert conn.state == "UDP" and conn.proto == "UDP"
        settled(lambda: world.stats().inpkts - before.inpkts >= 3
                     and world.stats().outpkts - before.outpkts >= 3, True)


@each(ESP, AH)
def test_fragments_pass_alone(world, proto):
    """Fragments that come back are not put together for it."""
    service(world)
    with Isakmp(world, 500, f"10.1.0.{110 + proto % 3}") as flow:
        flow.request(wire.udp_request(flow, b"negotiate"))
        for at, more in ((0, packet.MF), (80, packet.MF), (160, 0)):
            frag = more | at // 8
            seen = clean(flow.reply(packet.ip(SERVER, flow.client[0], proto, bytes(80), frag=frag, ident=77)))
            same(seen, src=VIP, dst=flow.client[0], frag=frag, ident=77, payload=bytes(80))
