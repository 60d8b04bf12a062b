# SPDX-License-Identifier: GPL-2.0
"""keepalived, unmodified, drives the balancer: the steps of its lab, each a test."""

import contextlib
import io
import os
import shutil
import subprocess
import sys

import kernel
from lib import TOP, Skip, each, need_rlvs, wait_for

sys.path.insert(0, os.path.join(TOP, "labs"))

from ha import HaLab  # noqa: E402

lab = None

SMALL = """\
virtual_server 192.0.2.1 80 {
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    real_server 192.0.2.2 80 {
    }
}
"""


def test_module_on_demand(world):
    """With the packaged modprobe.d file a keepalived that finds no balancer gets rlvs, never ip_vs."""
    need_rlvs()
    kernel.unload("rlvs")
    packaged = "/etc/modprobe.d/rlvs.conf"
    shutil.copy(os.path.join(TOP, "packaging/modprobe.d/rlvs.conf"), packaged)
    with open("/run/small.conf", "w", encoding="ascii") as file:
        file.write(SMALL)
    with world.director, open("/run/small.log", "w", encoding="ascii") as log:
        keepalived = subprocess.Popen(["keepalived", "-n", "-l", "-f", "/run/small.conf"], stdout=log, stderr=log)
    try:
        wait_for(lambda: os.path.exists("/proc/net/ip_vs") and "C0000202:0050" in world.director.proc("ip_vs"),
                 20, 0.1, lambda: open("/run/small.log", encoding="ascii").read())
        assert kernel.loaded("rlvs") and not kernel.loaded("ip_vs")
        keepalived.terminate()
        assert keepalived.wait(20 * kernel.SLOW) == 0
        assert "C0000201" not in world.director.proc("ip_vs"), "it has left its service behind"
    finally:
        keepalived.kill()
        keepalived.wait()
        os.unlink(packaged)


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


@each("spread", "health", "quorum", "group", "marks", "reload", "fail_over", "stop", "circle", "cure")
def test_lab(_, step):
    """What the lab promises of it comes true; stop is the end of that configuration, the circle has its own."""
    global lab  # pylint: disable=global-statement
    if kernel.DEBUG and step in ("health", "quorum", "group", "circle", "cure"):
        raise Skip("all in keepalived's own time, minutes on this kernel; what it asks of the module, others ask too")
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
