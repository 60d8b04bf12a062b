# SPDX-License-Identifier: GPL-2.0
"""Where rlvs answers otherwise than mainline, on purpose; docs/deviations.md says the same to users."""

from collections import namedtuple

# The words that docs/deviations.md has for it; in which scenarios and steps (regular expressions that match all).
Deviation = namedtuple("Deviation", "words scenario step")

DEVIATIONS = [
    # A scheduler that is not there yet is refused as mainline refuses an unknown one.
    Deviation("Schedulers to come", "schedulers_to_come", r"ipvsadm -[AD] .*"),
    # The same for the only persistence engine that mainline has.
    Deviation("Persistence engines", "engine_to_come", r"ipvsadm .*"),
    # Refused, so there is none to be listed and none to be stopped.
    Deviation("The synchronisation daemon", "daemon_to_come", r"netlink .*"),
    # Who does not say that it knows rlvs is told what it can make sense of.
    Deviation("FullNAT is told as Masq", "methods_to_come", r"netlink GET_DEST .*"),
    # It is there from the beginning, mainline makes it with the first service.
    Deviation("Size of the connection table", r"services_v4|files|namespaces", r"ipvsadm -Ln|/proc/net/ip_vs"),
    Deviation("Size of the connection table", "information", r"netlink GET_INFO.*"),
    # An attribute more, and a policy for each command.
    Deviation("What the family says of itself", "family", r"operations|attributes at most"),
]
