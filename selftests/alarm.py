# SPDX-License-Identifier: GPL-2.0
"""The alarm itself: an out-of-bounds write from Rust must be heard."""

import kernel
from lib import Skip, need_debug, run

LOAD = False
# The runner wants this splat in the log of each test here, and fails the test without it.
SPLAT = r"KASAN: slab-out-of-bounds|KASAN: out-of-bounds|KASAN: slab-use-after"


def test_out_of_bounds_write(_):
    """Loading the module that writes behind its memory is reported by KASAN."""
    need_debug()
    known = run("modinfo", "rlvs_alarm", check=False)
    if known.returncode:
        raise Skip("rlvs_alarm is not built: make modules FLAVOUR=debug")
    told = run("modprobe", "rlvs_alarm", check=False).stderr
    # What the module says once it has written.
    assert "Operation canceled" in told, told
    if kernel.loaded("rlvs_alarm"):
        kernel.unload("rlvs_alarm")
