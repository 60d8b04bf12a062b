# SPDX-License-Identifier: GPL-2.0
"""FullNAT beside NAT: the same packets, but for who the client is to the server.

ip_vs has no FullNAT. What it is to do with fragments, offloads, options, errors, ends of connections and all else is
what NAT does, with a local address and port where the client's were: each scenario of parity_packets that is about NAT
runs by FullNAT too, without the TCP option, and must tell the same.
"""

import difflib
import functools
import re
import time

import kernel
import parity_packets
from fullnat_stage import Translated
from lib import Skip, each, need_rlvs
from parity_stage import Scene, Stage

# What is not the same.
OTHERWISE = {
    "ops": "each packet leaves from a port of its own",
    "sip": "is about one-packet scheduling",
    "ipsec": "AH and ESP are not for FullNAT",
    "conntrack": "conntrack is told other addresses",
    "rules": "rules see other addresses",
    "drops": "rules see other ports",
}
# Steps of scenarios that may differ, and why.
MAY = [
    (r"hops\.", r"server: data|counted", "what it says of a packet to it comes from the address that it was to"),
    (r"errors\.", r"counted", "an error is counted that may not be forwarded any more"),
    (r"options\..*\.record", r"server:", "the director records the address that the packet was to"),
    (r"local\.", r"client: partial", "the sum that is quoted was left to a device"),
    (r"errors_back\.", r"client: of ", "the error, too, comes from the local address"),
    (r"cut\.", r"server: .* about \d+ bytes", "a sum is cut through"),
]
# What a server or a router says, as it has said it.
UNTOUCHED = re.compile(r"c to clients: (IPv4 10\.2\.0\.1[1-4]|IPv6 2001:db8:2::1[1-4]) ")
# On the debug kernel one of so many scenarios has to do.
SAMPLE = 8


@functools.cache
def names():
    """The scenarios that are about NAT."""
    found = [name for name in parity_packets.scenarios() if ".nat.v" in name and name.split(".")[0] not in OTHERWISE]
    return found[::SAMPLE] if kernel.DEBUG else found


_records = {}
_used = set()


def record(kind):
    """Runs all scenarios with scenes of this kind; keeps what they told."""
    groups = {}
    for name in parity_packets.scenarios():
        groups.setdefault(parity_packets.scenarios()[name][0], []).append(name)
    stages, done = [], {}
    for group, members in groups.items():
        for start in range(0, len(members), parity_packets.CROWD):
            crowd = members[start:start + parity_packets.CROWD]
            if not set(crowd) & set(names()):
                continue
            stage = Stage(group.startswith("offload"))
            stages.append(stage)
            if group.startswith("marks"):
                stage.marks()
            for name in crowd:
                if name in names():
                    done[name] = parity_packets.act(stage, name, kind)
                else:
                    # Each scene has the addresses that parity_packets has given it.
                    stage.scenes.append(None)
    time.sleep(4.2)
    for stage in stages:
        counted = stage.counted()
        for scene in filter(None, stage.scenes):
            rows = counted.get(scene.number, ["no service"])
            scene.step("counted", "\n".join(row for row in rows if scene.counts or not row.startswith("->")))
        stage.adm.run(["-C"])
    _records[kind] = done
    assert not parity_packets.closed(stages), "devices are held"


@each("nat", "fullnat")
def test_pass(_, method):
    """All scenarios run."""
    need_rlvs()
    kind = Scene if method == "nat" else Translated
    done = parity_packets.records().get("rlvs", {})
    if kind is Scene and set(names()) <= set(done):
        _records[Scene] = done
        raise Skip("parity_packets has done it")
    record(kind)


def may(name, label):
    """Whether a step may differ."""
    for entry in MAY:
        if re.match(entry[0], name) and re.match(entry[1], label):
            _used.add(entry)
            return True
    return False


def same(nat, fullnat):
    """Whether one did as the other. What is of no connection NAT lets pass; by FullNAT it is for the director."""
    if nat != fullnat and any(UNTOUCHED.match(line) for line in nat):
        return (not any(line.startswith("c ") for line in fullnat)
                and [line for line in nat if line[0] in "+-"] == [line for line in fullnat if line[0] in "+-"])
    # The sum of what is quoted to a server is of other addresses.
    quoted = re.compile(r"^(s .*) sum (0x\w+|[0-9a-f]{8})\b")
    nat, fullnat = ([quoted.sub(r"\1", line) for line in lines] for lines in (nat, fullnat))
    return nat == fullnat


@each(*names())
def test_scenario(_, name):
    """One scenario is the same by FullNAT."""
    need_rlvs()
    for kind in (Scene, Translated):
        if kind not in _records:
            record(kind)
    nat, fullnat = _records[Scene][name], _records[Translated][name]
    assert not nat["wrong"] and not fullnat["wrong"], nat["wrong"] + fullnat["wrong"]
    problems = []
    for (label, expected), (other, found) in zip(nat["steps"], fullnat["steps"], strict=True):
        assert label == other, f"{label} is not {other}"
        if not same(expected.splitlines(), found.splitlines()) and not may(name, label):
            problems += [f"-- {label}", *difflib.unified_diff(expected.splitlines(), found.splitlines(), "NAT",
                                                              "FullNAT", n=0, lineterm="")][:24]
    assert not problems, "FullNAT does otherwise:\n" + "\n".join(problems)


def test_differences(_):
    """Each step that may differ does."""
    need_rlvs()
    if kernel.DEBUG or parity_packets.ONLY or len(_records) != 2:
        raise Skip("only where all of it is compared")
    idle = [entry for entry in MAY if entry not in _used]
    assert not idle, f"these do not differ any more: {idle}"
