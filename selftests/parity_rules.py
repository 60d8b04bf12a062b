# SPDX-License-Identifier: GPL-2.0
"""Scenarios of netfilter: which packets rules see where, what conntrack thinks of them, and what it keeps."""

import re

import lib
import parity_craft as craft
from parity_errors import REFUSED, Report, what
from parity_flows import COMMON, PROTOCOLS, WAYS, Flow, label

# Every hook, in front of conntrack and behind it, in front of the balancer and behind it.
HOOKS = {
    "prerouting": (-250, 0), "input": (0, 150), "forward": (0, 150), "output": (-250, -150, 0), "postrouting": (0, 250),
}
ADDRESSES = {"ip": "ipv4_addr", "ip6": "ipv6_addr"}
# Clients with this port are hidden behind the director, those with one of the others are dropped at a hook.
HIDDEN = 7100
DROPPED = {hook: 7101 + number for number, hook in enumerate(HOOKS)}
# Who asks for neighbours and groups is the stack itself.
SEEN = re.compile(r"(?!.*(?:ff02:|fe80:))(\S+ \. \S+ \. \S+ \. \S+) counter packets (\d+) bytes (\d+)")


def stand(stage):
    """Rules of a director that remember whom they have seen; scenes follow each other with them."""
    lines = ["table inet rules {"]
    for hook, priorities in HOOKS.items():
        for priority in priorities:
            name = f"{hook}_{priority}".replace("-", "before_")
            lines += [f"set {name}_{word} {{ type inet_proto . {addr} . {addr} . ct_state; size 65535; flags dynamic; "
                      "counter; }" for word, addr in ADDRESSES.items()]
            lines.append(f"chain {name} {{ type filter hook {hook} priority {priority};")
            lines += [f"update @{name}_{word} {{ meta l4proto . {word} saddr . {word} daddr . ct state }}"
                      for word in ADDRESSES]
            lines.append("}")
        lines += [f"chain {hook}_drops {{ type filter hook {hook} priority 10;",
                  *(f"udp {port} {DROPPED[hook]} drop" for port in ("sport", "dport")), "}"]
    lines += ["chain hides { type nat hook postrouting priority 100;",
              f"meta l4proto {{ tcp, udp }} th sport {HIDDEN} masquerade", "}", "}"]
    with stage.place:
        lib.run("nft", "-f", "-", stdin="\n".join(lines) + "\n")
    stage.seen = {}


def seen(scene):
    """Writes down what conntrack has, which then forgets it, and what the rules have seen."""
    before = scene.stage.seen
    with scene.stage.place:
        for family in ("ipv4", "ipv6"):
            text = lib.run("conntrack", "-L", "-f", family).stdout
            # Seconds left, and who is just looking.
            text = re.sub(r"^(\w+ +\d+) \d+ |use=\d+", r"\1 ", text, flags=re.M)
            scene.step(f"conntrack has of {family}", "\n".join(sorted(text.splitlines())))
        lib.run("conntrack", "-F")
        for block in lib.run("nft", "list", "sets", "table", "inet", "rules").stdout.split("set ")[1:]:
            name, rows = block.split()[0], []
            for found in SEEN.finditer(block):
                packets, size = int(found[2]), int(found[3])
                had = before.get((name, found[1]), (0, 0))
                if packets != had[0]:
                    rows.append(f"{found[1]}: {packets - had[0]} packets, {size - had[1]} bytes")
                before[name, found[1]] = packets, size
            scene.step(f"at {name}", "\n".join(sorted(rows)))


def watched(scene, way, protocols, conntrack):
    """Connections, errors about them, and the director's own.

    None is left in a state that ends within seconds, which is as long as a listing may take.
    """
    scene.setting("conntrack", conntrack)
    for proto in protocols:
        flow = Flow(scene, proto, way[0], way[2])
        flow.talks()
        report = Report(flow)
        if not report.tunnel or way[1:] == (4, 4):
            about = report.about(flow.arrived(what(proto)))
            scene.s("error", report.error(*REFUSED[report.family], 0, about, flow.server))
        if proto == "sctp":
            continue
        own = Flow(scene, proto, way[0], way[2])
        own.src, own.sport = scene.server(0), 7000
        scene.own("opens", own.first())
        answer = {"tcp": "SA", "udp": b"answer"}[proto]
        if way[0] == "nat" and proto == "udp":
            # Nobody has asked: the stack says so.
            scene.s("answers the director", own.reply(answer))
        about = own.make(scene.vip, own.vport, own.src, own.sport, answer, {})
        scene.own("error", craft.icmp(scene.family, own.src, scene.vip, *REFUSED[scene.family], about))
    seen(scene)


def masqueraded(scene, conntrack):
    """What goes to servers by NAT leaves with the director's own address."""
    scene.setting("conntrack", conntrack)
    for proto in ("tcp", "udp"):
        flow, hidden = Flow(scene, proto), Flow(scene, proto)
        flow.sport = hidden.sport = HIDDEN
        flow.service()
        hidden.src = scene.server(0)
        scene.c("opens", flow.first())
        scene.s("answers", hidden.reply("SA", seq=5000, ack=1001) if proto == "tcp" else hidden.reply(b"told"))
        scene.c("data", flow.data())
        told = scene.s("data", hidden.back())
        assert any(one.startswith("c to clients") for one in told) == bool(conntrack), told
    seen(scene)


def dropped(scene, way):
    """Rules of a hook drop what comes by."""
    flow = Flow(scene, "udp", way[0], way[2])
    flow.service()
    for hook, port in DROPPED.items():
        flow.src, flow.sport = scene.client(), port
        scene.c(f"dropped at {hook}", flow.first())
        scene.s(f"dropped at {hook}", flow.back())
        flow.src = scene.server(0)
        scene.own(f"dropped at {hook}", flow.first())


def scenarios():
    """(name, group, family, function, its arguments) of all of them."""
    for way in WAYS:
        method, family, _ = way
        if method not in COMMON:
            continue
        for setting in (0, 1) if family == way[2] else (1,):
            protocols = {"nat": PROTOCOLS, "dr": ("tcp", "udp")}.get(method, ("udp",))
            yield f"rules.{label(way)}.{setting}", f"rules-{family}", family, watched, (way, protocols, setting)
        yield f"drops.{label(way)}", f"rules-{family}", family, dropped, (way,)
    for family in (4, 6):
        for setting in (0, 1):
            yield f"masquerade.v{family}.{setting}", f"rules-{family}", family, masqueraded, (setting,)
