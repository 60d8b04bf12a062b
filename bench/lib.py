# SPDX-License-Identifier: GPL-2.0
"""What the benchmark and the profiler share: the cases, and the way into the guest."""

import os
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "rlvs")

BALANCERS = ("ip_vs", "rlvs")

# Cases of bench/guest: a figure's name begins with that of its case.
CASES = {
    "drop": "a packet for somebody else: the generator and nothing more",
    "forward": "plain forwarding, no service configured",
    "forward-service": "forwarding of unrelated traffic while there is a service",
    "nat": "NAT: -in client to server, -out back; 1000 flows, or 1",
    "dr": "direct routing: -in client to server",
    "tun": "tunnel (IPIP), likewise",
    "fullnat": "FullNAT, likewise, and -out back",
    "forward6": "plain forwarding of IPv6",
    "forward6-service": "the same while there is a service",
    "nat6": "NAT of IPv6",
    "dr6": "direct routing of IPv6",
    "tun6": "tunnel (IPv6 in IPv6)",
    "fullnat6": "FullNAT of IPv6",
    "nat-dests": "1000 NAT flows over 100 and over 1000 destinations",
    "dr-dests": "likewise by direct routing",
    "nat-services": "10000 services beside the one: packets of others, of connections, and that open some",
    "nat-flows": "a packet of each of 200000 NAT flows",
    "nat-flows-million": "likewise 1000000",
    "dr-flows": "likewise 200000 by direct routing",
    "tun-flows": "likewise 200000 by tunnel",
    "fullnat-flows": "likewise 200000 by FullNAT",
    "nat-open": "200000 NAT connections opened, table growing or grown; packets after; what having them costs",
    "fullnat-open": "likewise FullNAT connections",
}
# Mainline has no word for these.
RLVS_ONLY = {"fullnat", "fullnat6", "fullnat-flows", "fullnat-open"}
# Not with --quick, unless named: they open many connections, or configure much.
LONG = {"nat-services", "nat-flows", "nat-flows-million", "dr-flows", "tun-flows", "fullnat-flows", "nat-open",
        "fullnat-open"}

def case_of(figure):
    """The case that gives a figure; None if there is none."""
    cases = (case for case in CASES if f"{figure}-".startswith(f"{case}-"))
    return max(cases, key=len, default=None)


def is_ipv6(name):
    """Is a case, or the case of a figure, one of IPv6?"""
    return name.split("-")[0].endswith("6")


def kernel():
    """The directory of the release kernel, built if it is not there yet."""
    return subprocess.run([os.path.join(TOP, "qemu", "kernel"), "release"], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.strip()


def known(cases):
    """Ends the program if there is no such case."""
    for case in cases:
        if case not in CASES:
            sys.exit(f"bench: there is no case {case}; there are: {' '.join(CASES)}")


def need(balancer, flavour="release"):
    """Ends the program if a balancer is not there to be measured."""
    if balancer == "rlvs":
        for path in f"build/{flavour}/rlvs.ko", "target/release/rlvsadm":
            if not os.path.exists(os.path.join(TOP, path)):
                sys.exit(f"bench: there is no {path}; make modules tools")
