# SPDX-License-Identifier: GPL-2.0
"""Scenarios of decisions: who gets a connection, for how long it stays there, and what each setting changes."""

import random

import parity_craft as craft
from parity_errors import Report
from parity_flows import COMMON, METHODS, WAYS, Flow, at, label

SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sed", "nq", "fo", "ovf", "lblc", "lblcr", "dh", "sh", "mh", "none")
FLAGS = {"sh": ("sh-port", "sh-fallback", "sh-port,sh-fallback"), "mh": ("mh-port", "mh-fallback", "mh-port,mh-fallback")}
WEIGHTS = {1: 1, 2: 3, 3: 2}
CHUNKS = ("init", "init-ack", "cookie-echo", "cookie-ack", "data", "sack", "shutdown", "shutdown-ack",
          "shutdown-complete", "abort", "error", "heartbeat")


def flows(scene, proto, count, method="nat", outer=None, start=1, **how):
    """So many clients' flows."""
    return [Flow(scene, proto, method, outer, number=number, **how) for number in range(start, start + count)]


def scheduled(scene, sched, flags, proto):
    """Who gets whom, while weights change and servers come and go."""
    first = Flow(scene, proto)
    key, words = first.key(), f"-s {sched}" + (f" -b {flags}" if flags else "")
    scene.adm(f"-A {key} {words}", *(f"-a {key} -r {at(scene.server(number), 8080)} -m -w {weight}"
                                     for number, weight in WEIGHTS.items()))
    scene.c("clients", *(flow.first() for flow in flows(scene, proto, 14)))
    scene.adm(f"-e {key} -r {at(scene.server(2), 8080)} -m -w 0")
    scene.c("one rests", *(flow.first() for flow in flows(scene, proto, 8, start=20)))
    scene.adm(f"-d {key} -r {at(scene.server(1), 8080)}", f"-e {key} -r {at(scene.server(2), 8080)} -m -w 5")
    scene.c("one is gone", *(flow.first() for flow in flows(scene, proto, 8, start=30)))
    scene.adm(f"-e {key} -r {at(scene.server(2), 8080)} -m -w 0", f"-e {key} -r {at(scene.server(3), 8080)} -m -w 0")
    scene.c("all rest", *(flow.first() for flow in flows(scene, proto, 2, start=40)))
    scene.adm(f"-E {key} -s rr", f"-e {key} -r {at(scene.server(2), 8080)} -m -w 1")
    scene.c("another scheduler", *(flow.first() for flow in flows(scene, proto, 3, start=50)))


def crowded(scene, sched):
    """Servers with limits."""
    first = Flow(scene, "udp")
    key = first.key()
    scene.adm(f"-A {key} -s {sched}", f"-a {key} -r {at(scene.server(1), 8080)} -m -x 3 -y 2",
              f"-a {key} -r {at(scene.server(2), 8080)} -m -x 2")
    for number in range(1, 8):
        scene.c(f"client {number}", Flow(scene, "udp", number=number).first())
    scene.adm(f"-e {key} -r {at(scene.server(1), 8080)} -m -x 5 -y 2")
    for number in range(8, 12):
        scene.c(f"client {number}", Flow(scene, "udp", number=number).first())
    scene.c("an old one", Flow(scene, "udp", number=1).data())


def persistent(scene, way, proto, words, where):
    """Clients come back to their server; `where` is the service's port, or 0 for all of them."""
    method, _, outer = way
    ones = flows(scene, proto, 3, method, outer)
    flow = Flow(scene, proto, method, outer, vport=where, dport=None if where else 0)
    key = flow.key()
    flow.dport = 0 if not where else flow.dport
    scene.adm(f"-A {key} -s rr -p 300 {words}".rstrip(),
              *(f"-a {key} -r {at(scene.server(number, outer), flow.dport)} {METHODS[method]}" for number in (1, 2)))
    for one in ones:
        scene.c(f"client {one.number}", one.first())
    for one in ones:
        one.sport += 100
        scene.c(f"client {one.number} again", one.first())
        if not where:
            one.sport, one.vport = one.sport + 100, 443
            scene.c(f"client {one.number} at another port", one.first())
    for chosen in (1, 2):
        scene.adm(f"-e {key} -r {at(scene.server(chosen, outer), flow.dport)} {METHODS[method]} -w 0")
    for one in ones:
        one.sport += 1000
        scene.c(f"client {one.number} while all rest", one.first())
    scene.setting("expire_quiescent_template", 1)
    for chosen in (1,):
        scene.adm(f"-e {key} -r {at(scene.server(chosen, outer), flow.dport)} {METHODS[method]} -w 1")
    for one in ones:
        one.sport += 1000
        scene.c(f"client {one.number} when rest ends it", one.first())
    scene.adm(f"-d {key} -r {at(scene.server(1, outer), flow.dport)}",
              f"-e {key} -r {at(scene.server(2, outer), flow.dport)} {METHODS[method]} -w 1")
    for one in ones:
        one.sport += 1000
        scene.c(f"client {one.number} when the server is gone", one.first())


def one_packet(scene, way):
    """Each datagram is scheduled for itself."""
    flow = Flow(scene, "udp", way[0], way[2])
    flow.service("-s rr -o", (1, 2))
    for number in range(4):
        scene.c(f"datagram {number}", flow.data(number))
    if way[0] == "nat":
        scene.s("an answer", flow.back())
    flow.sport += 1
    scene.c("fragments", *craft.fragments(flow.data(1200, df=False), 400))


def marked(scene, way, proto, words):
    """A service by mark takes whatever address and port."""
    method, family, outer = way
    letter = "-f {}{}".format(scene.number, " -6" if family == 6 else "")
    scene.adm(f"-A {letter} -s rr {words}".rstrip(),
              *(f"-a {letter} -r {at(scene.server(number, outer), 0)} {METHODS[method]}" for number in (1, 2)))
    one = Flow(scene, proto, method, outer)
    scene.vip = scene.target(1)
    for number, port in ((1, 80), (1, 443), (2, 80), (3, 22)):
        one.src, one.sport, one.vport = scene.client(number), 6000 + number, port
        scene.c(f"client {number} to {port}", one.first())
    scene.vip = scene.target(2)
    for number, port in ((1, 80), (2, 443)):
        one.src, one.vport = scene.client(number), port
        scene.c(f"client {number} to {port} elsewhere", one.first())
        scene.c("data", one.data())
    if method == "nat":
        one.server, one.dport = scene.server(1), one.vport
        scene.s("a reply", one.back())


def bypassed(scene, proto, setting):
    """A mark's service without servers, in front of those that clients ask for."""
    letter = "-f {}{}".format(scene.number, " -6" if scene.family == 6 else "")
    scene.setting("cache_bypass", setting)
    scene.adm(f"-A {letter} -s rr")
    scene.vip = scene.target(1, True)
    one = Flow(scene, proto)
    scene.c("opens", one.first())
    scene.c("data", one.data())
    scene.c("too big", one.data(1400, ttl=1))
    scene.c("fragments", *craft.fragments(Flow(scene, "udp").data(1200, df=False), 400))


def removed(scene, way, proto, expire, other):
    """A server is taken away under an open connection, and comes back."""
    flow = Flow(scene, proto, way[0], way[2])
    scene.setting("expire_nodest_conn", expire)
    flow.service()
    flow.opens()
    key, method = flow.key(), METHODS[way[0]]
    rest = [f"-a {key} -r {at(scene.server(2, way[2]), flow.dport)} {method}"] if other else []
    scene.adm(f"-d {key} -r {at(flow.server, flow.dport)}", *rest, ends=expire)
    scene.c("data", flow.data())
    scene.c("data again", flow.data())
    scene.c("anew", flow.first())
    if way[0] == "nat":
        scene.s("reply", flow.back())
    scene.adm(f"-a {key} -r {at(flow.server, flow.dport)} {method}")
    scene.c("data after all", flow.data())
    scene.c("another client", Flow(scene, proto, way[0], way[2], number=2).first())


def renewed(scene, way, proto, expire):
    """A service is taken away under an open connection, and comes back."""
    flow = Flow(scene, proto, way[0], way[2])
    scene.setting("expire_nodest_conn", expire)
    flow.service()
    flow.opens()
    scene.adm(f"-D {flow.key()}", ends=expire)
    scene.c("data", flow.data())
    scene.c("anew", Flow(scene, proto, way[0], way[2], number=3).first())
    # It starts from 0, but for mainline that is what was summed up last, within two seconds.
    scene.counts = False
    flow.service()
    scene.c("data with a service", flow.data())


def rested(scene, way, proto, expire):
    """Weight 0 under open connections."""
    flow = Flow(scene, proto, way[0], way[2], server=2)
    scene.setting("expire_nodest_conn", expire)
    flow.service(servers=(1, 2))
    flow.opens()
    for number in (1, 2):
        scene.adm(f"-e {flow.key()} -r {at(scene.server(number, way[2]), flow.dport)} {METHODS[way[0]]} -w 0")
    scene.c("data", flow.data())
    scene.c("anew", flow.first())
    scene.adm(f"-e {flow.key()} -r {at(scene.server(1, way[2]), flow.dport)} {METHODS[way[0]]} -w 1")
    scene.c("anew again", flow.first())


ENDINGS = {
    "time-wait": (("c", "FA"), ("s", "FA"), ("c", "A")), "close": (("c", "R"),), "fin-wait": (("s", "FA"), ("c", "A")),
    "close-wait": (("c", "FA"),), "open": (),
}


def reused(scene, way, mode, ending):
    """A client takes its port again."""
    flow = Flow(scene, "tcp", way[0], way[2], server=2)
    scene.setting("conn_reuse_mode", mode)
    flow.service(servers=(1, 2))
    flow.opens()
    for side, flags in ENDINGS[ending]:
        if side == "c":
            scene.c(flags, flow.request(flags, seq=1001, ack=5001))
        elif way[0] == "nat":
            for number in (1, 2):
                flow.server = scene.server(number, way[2])
                scene.s(f"{flags} of {number}", flow.reply(flags, seq=5001, ack=1002), server=number)
    scene.c("again", flow.request("S", seq=90000))
    scene.c("and again", flow.request("S", seq=90000))


def walk(scene, method, proto, seed, settings=()):
    """A connection that gets anything in any order: the states it takes."""
    chance = random.Random(f"{method}{proto}{seed}")
    for name, value in settings:
        scene.setting(name, value)
    flow = Flow(scene, proto, method)
    flow.service()
    scene.c("opens", flow.first())
    for _ in range(28):
        client = method != "nat" or chance.random() < 0.5
        if proto == "tcp":
            flags = chance.choice(("S", "SA", "A", "FA", "F", "R", "RA", "PA", "A", "FA"))
            data = flow.request(flags, seq=2000) if client else flow.reply(flags, seq=3000)
        else:
            chunks = chance.choice(CHUNKS)
            if chance.random() < 0.2:
                chunks += "+" + chance.choice(CHUNKS)
            data = flow.request(chunks) if client else flow.reply(chunks, tag=0x11223344)
            flags = chunks
        (scene.c if client else scene.s)(flags, data)


def sloppy(scene, way, proto, setting):
    """Connections whose beginning was not seen."""
    if proto != "udp":
        scene.setting(f"sloppy_{proto}", setting)
    flow = Flow(scene, proto, way[0], way[2])
    flow.service()
    scene.c("data", flow.data())
    others = flows(scene, proto, 4, way[0], way[2], start=2)
    if proto == "tcp":
        for one, flags in zip(others, ("SA", "FA", "R", "SR")):
            scene.c(flags, one.request(flags))
    else:
        for one, chunks in zip(others, ("init-ack", "cookie-echo", "abort", "sack")):
            scene.c(chunks, one.request(chunks))


def stray(scene, proto, setting):
    """Packets from a server's port that belong to no connection."""
    scene.setting("nat_icmp_send", setting)
    flow = Flow(scene, proto)
    flow.service()
    scene.s("data", flow.back())
    if proto == "tcp":
        scene.s("reset", flow.reply("R"))
    flow.dport += 1
    scene.s("another port", flow.back())


def tunnelled(scene, setting):
    """Packets in tunnels to the VIP."""
    scene.setting("ignore_tunneled", setting)
    flow = Flow(scene, "udp")
    flow.service()
    inner = flow.data()
    scene.c("ipip", craft.around("ipip", scene.family, scene.client(), scene.vip, inner))
    scene.c("gre", craft.around("gre", scene.family, scene.client(), scene.vip, inner))


def pmtu(scene, way, setting):
    """Whether tunnels and others tell senders of what is too big."""
    scene.setting("pmtu_disc", setting)
    flow = Flow(scene, "udp", way[0], way[2], narrow=True)
    flow.service()
    for size in (1200, 1260, 1400):
        scene.c(f"{size}", flow.data(size))
        scene.c(f"{size} without DF", flow.data(size, df=False))
    report = Report(flow)
    code = (3, 4, 1280) if report.family == 4 else (2, 0, 1280)
    scene.s("a router tells", report.error(*code, report.about(flow.arrived(bytes(1250)))[:500]))
    scene.c("1250", flow.data(1250))


def rerouted(scene, proto, setting):
    """Replies by policy of the VIP's address."""
    scene.setting("snat_reroute", setting)
    flow = Flow(scene, proto)
    flow.service()
    where = f"from {scene.vip} lookup {100 + scene.number}"
    scene.stage.place.ip(f"rule add {where}",
                         f"route add default via {scene.server(3)} table {100 + scene.number}", family=scene.family)
    flow.opens()
    scene.s("data", flow.back())


def capped(scene, proto):
    """A limit of connections."""
    flow = Flow(scene, proto)
    flow.service()
    scene.c("one", flow.first())
    scene.setting("conn_max", 1)
    scene.c("another", Flow(scene, proto, number=2).first())
    scene.c("the first again", flow.first())


def followed(scene, way):
    """ESP and AH go where the key exchange went."""
    flow = Flow(scene, "udp", way[0], way[2], vport=500, dport=500)
    flow.service(servers=(1, 2))
    flow.sport = 500
    for number in (50, 51):
        scene.c(f"protocol {number} first", craft.other(scene.family, flow.src, scene.vip, number, bytes(24)))
    scene.c("keys", flow.first())
    for number in (50, 51):
        scene.c(f"protocol {number}", craft.other(scene.family, flow.src, scene.vip, number, bytes(24)))
        scene.s(f"protocol {number}", craft.other(scene.family, flow.server, flow.src, number, bytes(24)))


def calls(scene, way):
    """SIP: the calls of one identifier go to one server."""
    flow = Flow(scene, "udp", way[0], way[2], vport=5060, dport=5060)
    flow.service("-s rr -p 60 --pe sip -o", (1, 2))
    for number, call in enumerate(("one@x", "two@x", "one@x", "three@x", "two@x")):
        text = f"INVITE sip:a@b SIP/2.0\r\nCall-ID: {call}\r\nFrom: x\r\n\r\n".encode()
        flow.src, flow.sport = scene.client(number + 1), 5060 + number
        scene.c(f"call {call}", flow.request(text))
    scene.c("no call", flow.request(b"OPTIONS sip:a SIP/2.0\r\n\r\n"))


def files(scene, mode):
    """FTP: data connections follow their control connection."""
    flow = Flow(scene, "tcp", "nat", vport=21, dport=21)
    flow.service(servers=(1,))
    flow.opens()
    four = scene.family == 4
    if mode == "active":
        words = "PORT " + scene.client().replace(".", ",") + ",23,112\r\n" if four else \
            f"EPRT |2|{scene.client()}|6000|\r\n"
        scene.c("where to", flow.request("PA", seq=1001, ack=5001, data=words.encode()))
        data = Flow(scene, "tcp", "nat", vport=20, dport=20)
        data.sport = 6000
        scene.s("opens data", data.reply("S", seq=1))
        scene.c("answers data", data.request("SA", seq=9, ack=2))
        scene.c("goes on", flow.request("PA", seq=1001 + len(words), ack=5001, data=b"NOOP\r\n"))
    else:
        words = "227 Entering Passive Mode (" + flow.server.replace(".", ",") + ",23,112).\r\n" if four else \
            "229 Entering Extended Passive Mode (|||6000|)\r\n"
        scene.s("where to", flow.reply("PA", seq=5001, ack=1001, data=words.encode()))
        data = Flow(scene, "tcp", "nat", vport=6000, dport=6000)
        data.sport = 7000
        scene.c("opens data", data.request("S", seq=1))
        scene.s("answers data", data.reply("SA", seq=9, ack=2))
        scene.s("goes on", flow.reply("PA", seq=5001 + len(words), ack=1001, data=b"200 yes\r\n"))
        scene.c("goes on", flow.request("A", seq=1001, ack=5001 + len(words)))


def tracked(scene, way, proto):
    """With conntrack."""
    scene.setting("conntrack", 1)
    flow = Flow(scene, proto, way[0], way[2])
    flow.service(servers=(1, 2))
    flow.opens()
    scene.c("data", flow.data())
    if way[0] == "nat":
        for number in (1, 2):
            flow.server = scene.server(number)
            scene.s(f"data of {number}", flow.back(), server=number)
    scene.c("large", flow.data(1400))


def scenarios():
    """(name, group, family, function, its arguments) of all of them."""
    for family in (4, 6):
        for sched in SCHEDULERS:
            proto = "tcp" if family == 4 else "udp"
            yield f"sched.{sched}.v{family}", f"sched-{family}", family, scheduled, (sched, "", proto)
            for flags in FLAGS.get(sched, ()):
                yield f"sched.{sched}.v{family}.{flags}", f"sched-{family}", family, scheduled, (sched, flags, proto)
        for sched in ("rr", "wlc", "sh"):
            yield f"thresholds.{sched}.v{family}", f"sched-{family}", family, crowded, (sched,)
        for proto in ("tcp", "udp"):
            for setting in (0, 1):
                yield f"bypass.v{family}.{proto}.{setting}", f"marks-{family}", family, bypassed, (proto, setting)
                yield f"nat_icmp_send.v{family}.{proto}.{setting}", f"settings-{family}", family, stray, (proto, setting)
                yield f"snat_reroute.v{family}.{proto}.{setting}", f"reroute-{family}", family, rerouted, (proto, setting)
            yield f"conn_max.v{family}.{proto}", f"limit-{family}-{proto}", family, capped, (proto,)
        for setting in (0, 1):
            yield f"ignore_tunneled.v{family}.{setting}", f"settings-{family}", family, tunnelled, (setting,)
        for mode in ("active", "passive"):
            yield f"ftp.v{family}.{mode}", f"ftp-{family}", family, files, (mode,)
        for method in ("nat", "dr"):
            for seed in range(6 if family == 4 else 2):
                yield f"walk.{method}.v{family}.tcp.{seed}", f"walk-{family}", family, walk, (method, "tcp", seed)
                yield f"walk.{method}.v{family}.sctp.{seed}", f"walk-{family}", family, walk, (method, "sctp", seed)
            for seed in range(3 if family == 4 else 1):
                yield (f"walk.{method}.v{family}.secure.{seed}", f"secure-{family}", family, walk,
                       (method, "tcp", f"secure{seed}", (("secure_tcp", 3),)))
    for way in WAYS:
        method, family, _ = way
        name, common = label(way), method in COMMON
        mask = "-M 255.255.255.0" if family == 4 else "-M 64"
        for proto, words, where in (("tcp", mask, 80), ("tcp", "", 80), ("tcp", "", 0), ("udp", mask, 0))[:4 if common else 1]:
            which = ("net" if words else "host") + ("" if where else ".all")
            yield (f"persistent.{name}.{proto}.{which}", f"persistent-{family}", family, persistent,
                   (way, proto, words, where))
        for words in ("", "-p 300"):
            yield (f"mark.{name}.{'persistent' if words else 'plain'}", f"marks-{family}", family, marked,
                   (way, "udp" if words else "tcp", words))
        for expire in (0, 1):
            yield f"rest.{name}.{expire}", f"removal-{family}", family, rested, (way, "tcp", expire)
            for proto, other in (("tcp", True), ("udp", False)):
                yield (f"removal.{name}.{proto}.{expire}.{'other' if other else 'alone'}", f"removal-{family}", family,
                       removed, (way, proto, expire, other))
                if common:
                    yield f"renewal.{name}.{proto}.{expire}", f"removal-{family}", family, renewed, (way, proto, expire)
        yield f"ops.{name}", f"settings-{family}", family, one_packet, (way,)
        for setting in (0, 1):
            yield f"pmtu_disc.{name}.{setting}", f"pmtu-{family}", family, pmtu, (way, setting)
        if not common:
            continue
        for proto in ("tcp", "sctp"):
            for setting in (0, 1):
                yield f"sloppy.{name}.{proto}.{setting}", f"settings-{family}", family, sloppy, (way, proto, setting)
        for mode in (1, 0, 2)[:3 if way in (("nat", 4, 4), ("dr", 4, 4)) else 1]:
            for ending in ENDINGS:
                if method == "nat" or ending not in ("time-wait", "fin-wait"):
                    yield f"reuse.{name}.{mode}.{ending}", f"reuse-{family}", family, reused, (way, mode, ending)
        yield f"ipsec.{name}", f"settings-{family}", family, followed, (way,)
        yield f"sip.{name}", f"sip-{family}", family, calls, (way,)
        for proto in ("tcp", "udp"):
            yield f"conntrack.{name}.{proto}", f"conntrack-{family}", family, tracked, (way, proto)
