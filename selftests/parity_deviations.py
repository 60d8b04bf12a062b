# SPDX-License-Identifier: GPL-2.0
"""Where rlvs answers otherwise than mainline, on purpose; docs/deviations.md says the same to users."""

import re
from collections import namedtuple

# The words that the page has for it; in which scenarios and steps (regular expressions that match all), and which
# text of a step may differ there (all, if there is no such expression).
Deviation = namedtuple("Deviation", "words scenario step text")

PAGES = ["deviations.md"]

DEVIATIONS = [
    # What is not there yet is refused as mainline refuses what it does not know.
    # Refused, so there is none to be listed and none to be stopped.
    Deviation("starting a synchronisation daemon", "daemon_to_come", r"netlink .*", None),
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


def allowed(scenario, label, expected, found):
    """The entry of the list that allows a difference, if any does."""
    for entry in DEVIATIONS:
        if re.fullmatch(entry.scenario, scenario) and re.fullmatch(entry.step, label, re.S):
            if not entry.text or re.sub(entry.text, "", expected) == re.sub(entry.text, "", found):
                return entry
    return None
