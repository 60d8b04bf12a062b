# SPDX-License-Identifier: GPL-2.0
"""The labs of NAT, direct routing and tunnels: what each of their steps promises comes true."""

import contextlib
import io
import os
import sys

import kernel
from lib import TOP, Skip, each

sys.path.insert(0, os.path.join(TOP, "labs"))

from direct import DirectLab  # noqa: E402
from gateway import NatLab  # noqa: E402
from tunnel import TunnelLab  # noqa: E402

SMALL = 4 << 20


@each("nat", "dr", "tun")
def test_lab(_, name):
    """A lab, from its first step to its last; what it says is shown if one fails."""
    if kernel.DEBUG:
        raise Skip("many real programs, minutes on this kernel; what they ask of the module, others ask too")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        # The tests' world has a client already.
        lab = {"nat": NatLab, "dr": DirectLab, "tun": TunnelLab}[name](prefix=f"{name}-", size=SMALL)
        status = lab.play()
    if status:
        for line in said.getvalue().splitlines():
            print(f"# {line}")
    assert status == 0, f"the lab failed in step {lab.steps.number}"
    assert lab.steps.number == lab.steps.total, f"{lab.steps.number} of {lab.steps.total} steps were played"
