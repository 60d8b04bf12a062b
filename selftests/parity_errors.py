# SPDX-License-Identifier: GPL-2.0
"""Scenarios of ICMP: errors from either side about a connection's packets, cut off anywhere, and echoes."""

import parity_craft as craft
from parity_flows import COMMON, METHODS, PROTOCOLS, WAYS, Flow, label

KINDS = {4: [(3, 0, 0), (3, 1, 0), (3, 2, 0), (3, 3, 0), (3, 13, 0), (3, 4, 1200), (4, 0, 0), (11, 0, 0), (11, 1, 0),
             (12, 0, 0x14000000), (5, 1, 0x0A02000E)],
         6: [(1, 0, 0), (1, 1, 0), (1, 3, 0), (1, 4, 0), (2, 0, 1280), (3, 0, 0), (3, 1, 0), (4, 0, 6), (4, 1, 6)]}
REFUSED = {4: (3, 3), 6: (1, 4)}


class Report:
    """Who tells of a flow's packets, how they look there, and whom it tells."""

    def __init__(self, flow):
        self.flow, scene = flow, flow.scene
        self.tunnel = flow.method in METHODS and METHODS[flow.method].startswith("-i")
        self.family = flow.outer if self.tunnel else scene.family
        self.director = scene.server(0, self.family)
        self.receiver = self.director if self.tunnel else scene.peer(flow)[0]
        # A router on the way.
        self.router = scene.server(4, self.family)

    def about(self, data):
        """A packet of the client as it is where the error comes from."""
        if self.tunnel:
            return craft.around(self.flow.method, self.family, self.director, self.flow.server, data)
        return data

    def error(self, kind, code, rest, about, sender=None, **how):
        """An error about it."""
        return craft.icmp(self.family, sender or self.router, self.receiver, kind, code, about, rest, **how)


def what(proto):
    """The first packet's flags, data or chunk."""
    return {"tcp": "S", "udp": b"first", "sctp": "init"}[proto]


def from_servers(scene, way, proto):
    """Errors of all kinds about packets that went to a server."""
    flow = Flow(scene, proto, way[0], way[2])
    flow.service()
    flow.opens()
    report = Report(flow)
    whole = report.about(flow.arrived(what(proto)))
    for kind, code, rest in KINDS[report.family]:
        scene.s(f"error {kind}/{code}", report.error(kind, code, rest, whole), server=4)
    scene.s("of the server itself", report.error(*REFUSED[report.family], 0, whole, flow.server))
    scene.s("wrong sum", report.error(*REFUSED[report.family], 0, whole, check=0x1234))
    scene.s("last hop", report.error(*REFUSED[report.family], 0, whole, ttl=1))
    scene.c("much data", flow.data(1400))
    scene.c("much data without DF", flow.data(1400, df=False))


def from_clients(scene, way, proto):
    """Errors of all kinds about packets that went to the client."""
    flow = Flow(scene, proto, way[0], way[2])
    flow.service()
    flow.opens()
    answer = {"tcp": "SA", "udp": b"answer", "sctp": "init-ack"}[proto]
    about = flow.make(scene.vip, flow.vport, flow.src, flow.sport, answer, {})
    for kind, code, rest in KINDS[scene.family]:
        scene.c(f"error {kind}/{code}", craft.icmp(scene.family, flow.src, scene.vip, kind, code, about, rest))
    scene.c("of a router", craft.icmp(scene.family, scene.client(99), scene.vip, *REFUSED[scene.family], about))
    scene.c("wrong sum", craft.icmp(scene.family, flow.src, scene.vip, *REFUSED[scene.family], about, check=0x1234))
    stranger = flow.make(scene.vip, flow.vport, scene.client(77), flow.sport, answer, {})
    scene.c("of nobody", craft.icmp(scene.family, scene.client(77), scene.vip, *REFUSED[scene.family], stranger))
    scene.setting("schedule_icmp", 1)
    scene.c("of nobody, scheduled", craft.icmp(scene.family, scene.client(77), scene.vip, *REFUSED[scene.family],
                                               stranger))


def cut(scene, way, proto):
    """Errors that end at every byte of what they are about."""
    flow = Flow(scene, proto, way[0], way[2])
    flow.service()
    flow.opens()
    report = Report(flow)
    whole = report.about(flow.arrived(what(proto)))
    for kind, code, rest in ((*REFUSED[report.family], 0), KINDS[report.family][5 if report.family == 4 else 4]):
        for size in range(0, len(whole) + 1):
            if not way[0] == "nat" and size % 3 and size > 60:
                continue
            scene.s(f"{kind}/{code} about {size} bytes", report.error(kind, code, rest, whole[:size]), server=4)
    scene.c("data", flow.data())


def nested(scene, way):
    """Errors about fragments, about packets with options or headers, about errors, in fragments."""
    flow = Flow(scene, "udp", way[0], way[2])
    flow.service()
    flow.opens()
    report = Report(flow)
    refused = REFUSED[report.family]
    parts = craft.fragments(flow.arrived(bytes(1200), df=False), 400)
    scene.s("about a first fragment", report.error(*refused, 0, report.about(parts[0])[:500]))
    scene.s("about a later fragment", report.error(*refused, 0, report.about(parts[1])[:500]))
    extra = {"options": "record"} if scene.family == 4 else {"headers": ("dst",)}
    scene.s("about options", report.error(*refused, 0, report.about(flow.arrived(b"first", **extra))))
    inner = craft.icmp(scene.family, flow.server if way[0] == "nat" else scene.vip, scene.peer(flow)[0],
                       *REFUSED[scene.family], flow.arrived(b"first"))
    scene.s("about an error", report.error(*refused, 0, report.about(inner)))
    whole = report.error(*refused, 0, report.about(flow.arrived(bytes(800))), df=False)
    scene.s("in fragments", *craft.fragments(whole, 400))
    if report.family == 4:
        scene.s("with a timestamp", report.error(*refused, 0, report.about(flow.arrived(b"first")),
                                                 options="timestamp"))
    else:
        scene.s("behind a header", report.error(*refused, 0, report.about(flow.arrived(b"first")), headers=("hop",)))


def echo(scene, which):
    """Echoes to the VIP, with a service there or without, and other messages that are no errors."""
    if which != "bare":
        Flow(scene, "udp").service()
    family = scene.family
    request, reply = ((8, 0), (0, 0)) if family == 4 else ((128, 0), (129, 0))
    scene.c("request", craft.icmp(family, scene.client(), scene.vip, *request, b"echoes", 0x00010002))
    scene.c("reply", craft.icmp(family, scene.client(), scene.vip, *reply, b"echoes", 0x00010002))
    scene.c("request of a server", craft.icmp(family, scene.client(), scene.server(), *request, b"echoes", 1))
    if family == 4:
        scene.c("timestamp", craft.icmp(4, scene.client(), scene.vip, 14, 0, bytes(12), 1))
    scene.c("unknown", craft.icmp(family, scene.client(), scene.vip, 200, 9, b"unknown"))
    scene.c("too short", craft.other(family, scene.client(), scene.vip, 1 if family == 4 else 58, b"\x08\0\0"))
    scene.own("request", craft.icmp(family, scene.server(0), scene.vip, *request, b"echoes", 0x00010002))


def unreachable(scene, way, proto):
    """Servers that no route leads to, for clients behind the wire and for the director's own."""
    flow = Flow(scene, proto, way[0], way[2])
    flow.server = "10.200.0.1" if way[2] == 4 else "2001:db8:dead::1"
    where = f"[{flow.server}]" if way[2] == 6 else flow.server
    scene.adm(f"-A {flow.key()} -s rr", f"-a {flow.key()} -r {where}:{flow.dport} {METHODS[way[0]]}")
    scene.c("opens", flow.first())
    scene.c("again", flow.first())
    flow.src = scene.server(0)
    scene.own("opens", flow.first())
    scene.own("again", flow.first())


def scenarios():
    """(name, group, family, function, its arguments) of all of them."""
    for method, family, outer in WAYS:
        way = (method, family, outer)
        name = label(way)
        for proto in PROTOCOLS if method in COMMON else ("udp",):
            yield f"errors.{name}.{proto}", f"errors-{family}", family, from_servers, (way, proto)
            yield f"errors_back.{name}.{proto}", f"errors-back-{family}", family, from_clients, (way, proto)
        for proto in PROTOCOLS if method == "nat" else ("udp",):
            yield f"cut.{name}.{proto}", f"cut-{family}", family, cut, (way, proto)
        yield f"nested.{name}", f"nested-{family}", family, nested, (way,)
        yield f"unreachable.{name}", f"nested-{family}", family, unreachable, (way, "udp")
    for family in (4, 6):
        for which in ("bare", "service"):
            yield f"echo.v{family}.{which}", f"nested-{family}", family, echo, (which,)
