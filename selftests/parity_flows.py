# SPDX-License-Identifier: GPL-2.0
"""Scenarios of packets that belong to connections, by every method: what leaves, and what the connection becomes."""

import parity_craft as craft

# How ipvsadm says it.
METHODS = {
    "nat": "-m", "dr": "-g", "ipip": "-i", "gre": "-i --tun-type gre", "gue": "-i --tun-type gue --tun-port 6080",
    "gre-csum": "-i --tun-type gre --tun-csum", "gue-csum": "-i --tun-type gue --tun-port 6080 --tun-csum",
    "gue-remcsum": "-i --tun-type gue --tun-port 6080 --tun-remcsum",
}
TUNNELS = [name for name, words in METHODS.items() if words.startswith("-i")]
# Families of the service and of the destination.
PLAIN = [(method, family, family) for method in METHODS for family in (4, 6)]
CROSS = [(method, family, 10 - family) for method in TUNNELS for family in (4, 6)]
MAIN = ("nat", "dr", "ipip", "gre", "gue")
# What tunnels of other kinds have in common with these need not be seen again.
COMMON = ("nat", "dr", "ipip")
WAYS = [way for way in PLAIN + CROSS if way[0] in MAIN]
PROTOCOLS = ("tcp", "udp", "sctp")
LETTER = {"tcp": "-t", "udp": "-u", "sctp": "--sctp-service"}


class Flow:
    """One client's flow to a service of a scene and how its packets look; `proto` is a name."""

    def __init__(self, scene, proto, method="nat", outer=None, *, number=1, server=1, vport=80, dport=None,
                 narrow=False):
        self.scene, self.proto, self.method, self.family = scene, proto, method, scene.family
        self.outer = outer or scene.family
        self.vport, self.dport = vport, dport or (8080 if method == "nat" else vport)
        self.number, self.chosen, self.narrow = number, server, narrow
        self.src, self.sport = scene.client(number), 5000 + number
        self.server = scene.server(server, self.outer, narrow)

    def key(self):
        """The service as ipvsadm names it."""
        return f"{LETTER[self.proto]} {at(self.scene.vip, self.vport)}"

    def service(self, words="-s rr", servers=None, dest=""):
        """Adds the service with destinations of the flow's method."""
        self.scene.adm(f"-A {self.key()} {words}",
                       *(f"-a {self.key()} -r {at(self.scene.server(number, self.outer, self.narrow), self.dport)} "
                         f"{METHODS[self.method]} {dest}".rstrip() for number in servers or [self.chosen]))

    def make(self, src, sport, dst, dport, what, how):
        """A packet of the flow's protocol."""
        if self.proto == "tcp":
            return craft.tcp(self.family, src, sport, dst, dport, what, **how)
        if self.proto == "udp":
            return craft.udp(self.family, src, sport, dst, dport, what, **how)
        return craft.stream(self.family, src, sport, dst, dport, *what.split("+"), **how)

    def request(self, what, **how):
        """A packet of the client: flags of TCP, data of UDP, chunks of SCTP."""
        return self.make(self.src, self.sport, self.scene.vip, self.vport, what, how)

    def arrived(self, what, **how):
        """The same as it arrives at a server by NAT, or in a tunnel by others, inside of it."""
        if self.method == "nat":
            return self.make(*self.scene.peer(self), self.server, self.dport, what, how)
        return self.request(what, **how)

    def reply(self, what, **how):
        """A packet of the server to the client: by NAT from its own address, else from the VIP."""
        if self.method == "nat":
            return self.make(self.server, self.dport, *self.scene.peer(self), what, how)
        return self.make(self.scene.vip, self.vport, self.src, self.sport, what, how)

    def first(self):
        """What opens it."""
        return self.request({"tcp": "S", "udp": b"first", "sctp": "init"}[self.proto])

    def opens(self):
        """Opens it, both ways if packets go both ways."""
        scene = self.scene
        scene.c("opens", self.first())
        if self.method == "nat":
            answer = {"tcp": lambda: self.reply("SA", seq=5000, ack=1001), "udp": lambda: self.reply(b"answer"),
                      "sctp": lambda: self.reply("init-ack", tag=0x11223344)}[self.proto]
            scene.s("answers", answer(), server=self.chosen)
        if self.proto == "tcp":
            scene.c("is open", self.request("A", seq=1001, ack=5001))
        if self.proto == "sctp":
            scene.c("cookie", self.request("cookie-echo"))
            if self.method == "nat":
                scene.s("cookie", self.reply("cookie-ack", tag=0x11223344), server=self.chosen)

    def talks(self):
        """Has a service for itself, is opened, and has data both ways."""
        self.service()
        self.opens()
        self.scene.c("data", self.data())
        if self.method == "nat":
            self.scene.s("data", self.back())

    def data(self, size=8, **how):
        """Data of the client on the open flow."""
        payload = bytes(n & 255 for n in range(size))
        if self.proto == "tcp":
            return self.request("PA", seq=1001, ack=5001, data=payload, **how)
        if self.proto == "udp":
            return self.request(payload, **how)
        return self.request("data", **how)

    def back(self, size=8, **how):
        """Data of the server on it."""
        payload = bytes(255 - n & 255 for n in range(size))
        if self.proto == "tcp":
            return self.reply("PA", seq=5001, ack=1001, data=payload, **how)
        if self.proto == "udp":
            return self.reply(payload, **how)
        return self.reply("data", tag=0x11223344, **how)


def at(addr, port):
    """An address and a port as commands have them."""
    return f"[{addr}]:{port}" if ":" in addr else f"{addr}:{port}"


def conversation(scene, way, proto):
    """A connection from its first packet to its last."""
    flow = Flow(scene, proto, way[0], way[2])
    flow.talks()
    if proto == "tcp":
        scene.c("options", flow.request("PA", seq=1009, ack=5009, data=b"odd", opts="data"))
        scene.c("ends", flow.request("FA", seq=1012, ack=5009))
        if way[0] == "nat":
            scene.s("ends", flow.reply("FA", seq=5009, ack=1013))
        scene.c("last", flow.request("A", seq=1013, ack=5010))
        scene.c("resets", Flow(scene, proto, *way[::2], number=2).request("S"),
                Flow(scene, proto, *way[::2], number=2).request("R", seq=1001))
    elif proto == "udp":
        scene.c("empty", flow.request(b""))
        scene.c("without a sum", flow.request(b"none", check=0))
        if way[0] == "nat":
            scene.s("without a sum", flow.reply(b"none", check=0))
    else:
        scene.c("ends", flow.request("shutdown"))
        if way[0] == "nat":
            scene.s("ends", flow.reply("shutdown-ack", tag=0x11223344))
        scene.c("last", flow.request("shutdown-complete"))
    if way[0] != "nat":
        scene.s("a reply through the director", flow.back())


def offloads(scene, way, proto):
    """What was left to do to a packet is still left to do, or was done; never both, never neither."""
    flow = Flow(scene, proto, way[0], way[2])
    flow.service()
    flow.opens()
    for how, size in (("valid", 9), ("partial", 9), ("partial", 1300), ("gso", 4000), ("gso", 2500)):
        data, vnet = craft.vnet(flow.data(size, df=size < 1400), proto, how)
        scene.c(f"{how} {size}", data, vnet=vnet)
        if way[0] == "nat":
            data, vnet = craft.vnet(flow.back(size, df=size < 1400), proto, how)
            scene.s(f"{how} {size}", data, vnet=vnet)
    # The first packet too may come like this.
    for number, how in ((2, "valid"), (3, "partial")):
        data, vnet = craft.vnet(Flow(scene, proto, *way[::2], number=number).first(), proto, how)
        scene.c(f"{how} opens", data, vnet=vnet)


def fragmented(scene, way, order):
    """A datagram in fragments."""
    flow = Flow(scene, "udp", way[0], way[2])
    flow.service()
    scene.c("fragments", *craft.fragments(flow.data(1200, df=False), 400, order))
    scene.c("whole", flow.data(20))
    if way[0] == "nat":
        scene.s("fragments", *craft.fragments(flow.back(1200, df=False), 400, order))
    # A datagram that is more than a link carries.
    scene.c("many", *craft.fragments(flow.data(4000, df=False), 1400))
    scene.c("not all", *craft.fragments(flow.data(1201, df=False), 400, (0, 2)))


def hops(scene, way, proto):
    """Hop limits that end here or behind."""
    flow = Flow(scene, proto, way[0], way[2])
    flow.service()
    for ttl in (1, 2):
        scene.c(f"opens {ttl}", Flow(scene, proto, *way[::2], number=ttl).request("S" if proto == "tcp" else b"x",
                                                                                   ttl=ttl))
    flow.opens()
    for ttl in (0, 1, 2, 255):
        scene.c(f"data {ttl}", flow.data(ttl=ttl))
        if way[0] == "nat":
            scene.s(f"data {ttl}", flow.back(ttl=ttl))


def fields(scene, way):
    """Class of service, ECN and DF, and what tunnels make of them."""
    flow = Flow(scene, "udp", way[0], way[2])
    flow.service()
    for tos in (0, 1, 2, 3, 0xB8, 0x2B):
        scene.c(f"tos {tos:#x}", flow.data(tos=tos))
    scene.c("no DF", flow.data(df=False))
    scene.c("no DF, large", flow.data(1460, df=False))
    scene.c("large", flow.data(1440))
    scene.c("largest", flow.data(1472 if scene.family == 4 else 1452))


def too_big(scene, way, proto):
    """Packets that do not fit behind the director."""
    flow = Flow(scene, proto, way[0], way[2], narrow=True)
    flow.service()
    flow.opens()
    for size in (1200, 1230, 1260, 1272, 1300, 1400):
        scene.c(f"{size}", flow.data(size))
    scene.c("1400 without DF", flow.data(1400, df=False))
    scene.c("1401 without DF", flow.data(1401, df=False))


def headers(scene, way, names):
    """Extension headers of IPv6 before every transport."""
    for proto in PROTOCOLS:
        flow = Flow(scene, proto, way[0], way[2])
        flow.service()
        scene.c(f"{proto} opens", flow.request({"tcp": "S", "udp": b"first", "sctp": "init"}[proto], headers=names))
        scene.c(f"{proto} data", flow.data(headers=names))
        if way[0] == "nat":
            scene.s(f"{proto} data", flow.back(headers=names))
    flow = Flow(scene, "udp", way[0], way[2])
    about = flow.arrived(b"first", headers=names)
    if way[0] != "nat":
        about = craft.around(way[0], way[2], scene.server(0, way[2]), flow.server, about)
    receiver = scene.peer(flow)[0] if way[0] == "nat" else scene.server(0, way[2])
    family = scene.family if way[0] == "nat" else way[2]
    kind = (3, 3) if family == 4 else (1, 4)
    scene.s("error about such a packet", craft.icmp(family, flow.server, receiver, *kind, about))
    if way[0] == "nat":
        scene.s("error with such headers", craft.icmp(family, flow.server, receiver, *kind, flow.arrived(b"first"),
                                                      headers=names))


def ip_options(scene, way, name):
    """Options of IPv4."""
    flow = Flow(scene, "udp", way[0], way[2])
    flow.service()
    scene.c("opens", flow.request(b"first", options=name))
    scene.c("data", flow.data(options=name))
    if way[0] == "nat":
        scene.s("data", flow.back(options=name))
    scene.c("last hop", flow.data(options=name, ttl=1))


def local(scene, method, proto):
    """The director is its own real server."""
    flow = Flow(scene, proto, method, server=0)
    flow.service()
    scene.c("opens", flow.first())
    scene.c("data", flow.data())
    if proto != "sctp":
        for how in ("partial", "valid"):
            data, vnet = craft.vnet(flow.data(9), proto, how)
            scene.c(how, data, vnet=vnet)
    scene.c("fragments", *craft.fragments(Flow(scene, "udp", method, server=0).data(1200, df=False), 400))


def own(scene, way, proto):
    """The director is a client of its own service."""
    flow = Flow(scene, proto, way[0], way[2])
    flow.src = scene.server(0)
    flow.service()
    scene.own("opens", flow.first())
    if way[0] == "nat":
        scene.s("answers", flow.reply({"tcp": "SA", "udp": b"answer", "sctp": "init-ack"}[proto]))
    scene.own("data", flow.data())
    scene.own("large", flow.data(1400))


def malformed(scene, way, proto):
    """Wrong checksums and lengths, headers that are cut off."""
    flow = Flow(scene, proto, way[0], way[2])
    flow.service()
    flow.opens()
    if proto == "sctp":
        scene.c("wrong sum", flow.request("data", check=0x1234))
    else:
        scene.c("wrong sum", flow.data(check=0x1234))
        scene.c("wrong sum opens", Flow(scene, proto, *way[::2], number=3).request(
            "S" if proto == "tcp" else b"x", check=0x1234))
    if proto == "tcp":
        for doff in (0, 4, 15):
            scene.c(f"offset {doff}", flow.data(doff=doff))
    if proto == "udp":
        for length in (0, 7, 8, 15, 17, 65535):
            scene.c(f"length {length}", flow.data(length=length))
    whole = flow.data()
    head = 20 if scene.family == 4 else 40
    for size in (0, 1, 4, 7, 8, 11, 12, 13, 19, 20):
        cut = craft.other(scene.family, flow.src, scene.vip, craft.NUMBER[proto], whole[head:head + size])
        scene.c(f"cut to {size}", cut)
    scene.c("the rest of a frame", whole + b"padding")


def no_server(scene, proto):
    """A service without anybody to serve."""
    flow = Flow(scene, proto)
    scene.adm(f"-A {flow.key()} -s rr")
    scene.c("opens", flow.first())
    scene.c("again", flow.first())
    if proto == "tcp":
        scene.c("middle", flow.data())
    scene.adm(f"-a {flow.key()} -r {at(flow.server, 8080)} -m -w 0")
    scene.c("weight 0", flow.first())


def label(way):
    """A way's name."""
    return f"{way[0]}.v{way[1]}" + (f"in{way[2]}" if way[1] != way[2] else "")


def scenarios():
    """(name, group, family, function, its arguments) of all of them."""
    for way in PLAIN + CROSS:
        method, family, _ = way
        name, common = label(way), method in COMMON
        for proto in PROTOCOLS:
            yield f"conversation.{name}.{proto}", f"conversation-{family}", family, conversation, (way, proto)
        for proto in ("tcp", "udp"):
            for device in ("plain", "offload") if method in MAIN else ("plain",):
                yield f"offload.{name}.{proto}.{device}", f"{device}-{family}", family, offloads, (way, proto)
        if method not in MAIN:
            continue
        for order in ((0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 3, 2))[:3 if common else 1]:
            yield (f"fragments.{name}.{''.join(map(str, order))}", f"fragments-{family}", family, fragmented,
                   (way, order))
        for proto in ("tcp", "udp"):
            yield f"hops.{name}.{proto}", f"hops-{family}", family, hops, (way, proto)
            yield f"mtu.{name}.{proto}", f"mtu-{family}", family, too_big, (way, proto)
        for proto in PROTOCOLS if common else ("udp",):
            yield f"own.{name}.{proto}", f"own-{family}", family, own, (way, proto)
            yield f"malformed.{name}.{proto}", f"malformed-{family}", family, malformed, (way, proto)
        yield f"fields.{name}", f"hops-{family}", family, fields, (way,)
        if family == 6:
            for names in (("hop", "routing", "atomic", "dst"), ("hop",), ("dst",), ("long",), ("routing",), ("atomic",),
                          ("hop", "dst"))[:7 if common else 2]:
                yield f"headers.{name}.{'-'.join(names)}", "headers-6", 6, headers, (way, names)
        else:
            for option in list(craft.OPTIONS)[:5 if common else 1]:
                yield f"options.{name}.{option}", "options-4", 4, ip_options, (way, option)
    for family in (4, 6):
        for proto in PROTOCOLS:
            for method in COMMON:
                yield f"local.{method}.v{family}.{proto}", f"local-{family}", family, local, (method, proto)
            yield f"no_server.v{family}.{proto}", f"local-{family}", family, no_server, (proto,)
