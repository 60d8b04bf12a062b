# SPDX-License-Identifier: GPL-2.0
"""What the benchmark and the profiler share: the cases, and the way into the guest."""

import os
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "rlvs")

# Cases of bench/guest: a figure's name begins with that of its case.
CASES = {
    "drop": "a packet for somebody else: the generator and nothing more",
    "forward": "plain forwarding, no service configured",
    "forward-service": "forwarding of unrelated traffic while there is a service",
    "nat": "NAT: -in client to server, -out back; 1000 flows, or 1",
    "fullnat": "FullNAT, likewise",
    "nat-open": "packets that open 200000 NAT connections, table growing or grown; packets after",
    "fullnat-open": "likewise FullNAT connections",
}
# Mainline has no word for these.
RLVS_ONLY = {"fullnat", "fullnat-open"}


def case_of(figure):
    """The case that gives a figure; None if there is none."""
    cases = (case for case in CASES if f"{figure}-".startswith(f"{case}-"))
    return max(cases, key=len, default=None)


def kernel():
    """The directory of the release kernel, built if it is not there yet."""
    return subprocess.run([os.path.join(TOP, "qemu", "kernel"), "release"], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.strip()


def need(balancer):
    """Ends the program if a balancer is not there to be measured."""
    if balancer == "rlvs":
        for path in "build/release/rlvs.ko", "target/release/rlvsadm":
            if not os.path.exists(os.path.join(TOP, path)):
                sys.exit(f"bench: there is no {path}; make modules tools")
