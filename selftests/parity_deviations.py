# SPDX-License-Identifier: GPL-2.0
"""Where rlvs answers otherwise than mainline, on purpose; docs/deviations.md says the same to users."""

import re
from collections import namedtuple

from lib import TOP

# The words that the page has for it; in which scenarios and steps (regular expressions that match all), and which
# text of a step, anywhere in it, may differ there (all, if there is no such expression).
Deviation = namedtuple("Deviation", "words scenario step text")

PAGES = ["deviations.md"]

# What is configured and listed, in the scenarios of parity.py.
DEVIATIONS = [
    # Who does not say that it knows rlvs is told what it can make sense of.
    Deviation("method told of a FullNAT destination", "methods_to_come", r"netlink GET_DEST .*",
              r"3 \(8\) 0[05]000000"),
    # The table is there from the start.
    Deviation("size of the connection table before the first service", r".*", r"ipvsadm -Ln.*|/proc/net/ip_vs.*",
              r"\(size=(0|256)\)"),
    Deviation("size of the connection table before the first service", r".*", r"netlink GET_INFO.*|.*command 15",
              r"2 \(8\) 00(00|01)0000"),
    Deviation("attribute 64 at the top of a message", "family", "attributes at most", None),
    Deviation("policies that the family tells", "family", "operations", r"command (8|11) flags 0x[5d]"),
]


ABOUT_IPV6 = r"(errors|nested|cut|pmtu_disc|headers)\.(ipip|gre|gue)\.v(6|4in6|6in4)(\..*)?"
# What becomes of packets, connections and counters, in the scenarios of parity_packets.py.
PACKETS = [
    Deviation("a template whose destination is gone", r"persistent\..*", r"client: .* when (the server is gone|rest ends it)",
              r"\n?[+] \w+ \S+ 0000 \S+ \S+ \S+ FFFF NONE \d+"),
    Deviation("the error that a client gets whose connection is ended for a new one", r"rest\.(dr|ipip|gre|gue)\..*\.1",
              "counted", r" \d+ \d+ \d+$"),
    # Fragments of IPv4 are not made larger than they came.
    Deviation("what the IP layer has noted about the inner packet of a tunnel",
              r"(ops|fragments)\.(ipip|gre|gue)\.v4(\.\d+)?", "client: (fragments|many)", r"^s to server .*\n?"),
    # Mainline takes errors about tunnels of IPv4 in IPv4 only.
    Deviation("ICMPv6 errors about the outer packet of a tunnel over IPv6", ABOUT_IPV6, r"server: .*",
              r"^(nothing leaves|c to clients: .*ICMPv[46] .*)$"),
    Deviation("teach the director the path's MTU", ABOUT_IPV6, r"client: (much data|1250|data).*", None),
    Deviation("errors about any tunnel that has IPv6 in it", ABOUT_IPV6, "counted", r" \d+ \d+ \d+$"),
    Deviation("the MTU that an ICMP error about a tunnel tells the client",
              r"(errors|pmtu_disc|cut)\.(ipip|gre|gue)\.v4\..*",
              r"server: (error 3/4|a router tells|3/4 about \d+ bytes)", r" rest 0000[0-9a-f]{4}\b"),
    # The link behind the director takes 1300 bytes: the tunnel has no room for IPv6, or is one of IPv6.
    Deviation("a tunnel whose path takes so little that less than 1280 bytes are left",
              r"(mtu|pmtu_disc)\.(ipip|gre|gue)\.v(6|4in6|6in4)(\..*)?",
              r"client: .*|server: a router tells|counted", None),
    Deviation("a UDP datagram without a checksum", r"conversation\.nat\..*\.udp", r"(client|server): without a sum",
              r"(?<= )(sum right|no sum)(?= )"),
    Deviation("header is cut off or says more than there is", r"malformed\..*",
              r"client: (offset|length|cut to) \d+|counted", None),
    Deviation("AH over IPv6", r"ipsec\.\w+\.v6(in4)?", r"client: protocol 51|counted", None),
    Deviation("a record-route option in a server's answer", r"options\.nat\.v4\.record", "server: data",
              r"(?<=options 070b08)[0-9a-f]{8}"),
    Deviation("checksums of the packet that an ICMP error quotes", r"\w+\.nat\..*", r"(client|server|director): .*",
              # Cut off behind it, it is only some bytes.
              r" sum (0x[0-9a-f]{4}|[0-9a-f]{8})\b|(?<=protocol 6 [0-9a-f]{32})[0-9a-f]{4}"),
    Deviation("the checksum of an SCTP packet whose ports change", r"malformed\.nat\..*\.sctp", "client: wrong sum",
              r"(?<= sum )(right|WRONG)"),
]


def allowed(entries, scenario, label, expected, found):
    """The entries of a list that together allow a difference; none, if they do not."""
    entries = [entry for entry in entries
               if re.fullmatch(entry.scenario, scenario) and re.fullmatch(entry.step, label, re.S)]

    def is_enough(some):
        texts = [expected, found]
        for entry in some:
            texts = [re.sub(entry.text, "", text, flags=re.M) if entry.text else "" for text in texts]
        return texts[0] == texts[1]

    if not is_enough(entries):
        return []
    needed = [entry for entry in entries if not is_enough([other for other in entries if other is not entry])]
    return needed or entries


def unsaid(entries):
    """What the documentation does not say of them."""
    pages = ""
    for name in PAGES:
        with open(f"{TOP}/docs/{name}", encoding="utf-8") as file:
            pages += " ".join(file.read().split())
    return sorted({entry.words for entry in entries if entry.words not in pages})
