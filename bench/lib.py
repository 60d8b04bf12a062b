# SPDX-License-Identifier: GPL-2.0
"""What the benchmark and the profiler share: the cases, and the way into the guest."""

import os
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "rlvs")

BALANCERS = ("ip_vs", "rlvs")

METHODS = {"nat": "NAT", "dr": "direct routing", "tun": "tunnels", "fullnat": "FullNAT"}
# What is measured of each method.
KINDS = {
    "": "a packet of 1 flow and of 1000: -in client to server, -out back",
    "-dests": "1000 flows over 100 and over 1000 destinations",
    "-services": "10000 services beside the one: packets of connections, and that open some",
    "-flows": "a packet of each of 200000 flows",
    "-flows-million": "a packet of each of 1000000 flows",
    "-open": "200000 connections opened, table growing or grown; packets after; what having them costs",
    "-close": "200000 connections expired, or unloaded with the balancer",
}
# Cases of bench/guest: a figure's name begins with that of its case.
CASES = {
    "drop": "a packet for somebody else: the generator and nothing more",
    "forward": "plain forwarding, no service configured",
    "forward-service": "forwarding of unrelated traffic while there is a service",
    "forward6": "plain forwarding of IPv6",
    "forward6-service": "the same while there is a service",
    **{f"{method}{version}{kind}": f"{name}{of}: {text}"
       for kind, text in KINDS.items() for version, of in (("", ""), ("6", " of IPv6"))
       for method, name in METHODS.items()},
}
# A million FullNAT connections need more local addresses than the network has, and how a connection ends depends
# little on where its packets went.
for left_out in ("fullnat-flows-million", "fullnat6-flows-million", "dr-close", "tun-close", "dr6-close", "tun6-close",
                 "fullnat6-close"):
    del CASES[left_out]
# Mainline has no word for these.
RLVS_ONLY = {case for case in CASES if case.startswith("fullnat")}
# Not with --quick, unless named: they open many connections, or configure much.
LONG = {case for case in CASES if case.endswith(tuple(KINDS)[2:])} | {"tun-dests"}


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
