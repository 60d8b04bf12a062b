# SPDX-License-Identifier: GPL-2.0
"""keepalived, unmodified, drives the balancer: the steps of its lab, each a test."""

import contextlib
import io
import os
import sys

from lib import TOP, each

sys.path.insert(0, os.path.join(TOP, "labs"))

from ha import HaLab  # noqa: E402

lab = None


def play(*steps):
    """Plays steps of the lab; what it says is shown if one fails."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            for step in steps:
                getattr(lab, step)()
    except Exception:
        for line in said.getvalue().splitlines() + [
                f"{director.name}: {line}" for director in lab.directors for line in director.said()[-30:]]:
            print(f"# {line}")
        raise


@each("spread", "health", "quorum", "group", "marks", "reload", "fail_over", "stop")
def test_lab(_, step):
    """What the lab promises of it comes true; stop comes last."""
    global lab  # pylint: disable=global-statement
    if not lab:
        with contextlib.redirect_stdout(io.StringIO()):
            # The tests' world has a client already.
            lab = HaLab(prefix="ha-")
        play("build", "start_servers", "start_keepalived")
    play(step)


def end():
    """The lab is taken down."""
    if lab:
        with contextlib.redirect_stdout(io.StringIO()):
            lab.clean()
