# SPDX-License-Identifier: GPL-2.0
"""Parity: whatever drives ip_vs gets the same answers from rlvs, to the byte.

Each scenario of the parity_* files runs on both modules, in a network namespace of its own, driven by stock
ipvsadm and by raw netlink. What it records must be equal but for parity_deviations.py, and must be what the
scenario says it expects: one that fails on ip_vs is a wrong test. Both records are kept in build/parity/.
"""

import contextlib
import difflib
import json
import os
import re
import shutil
import time
import traceback

import kernel
import parity_config
import parity_deviations
import parity_files
import parity_wire
from lib import RLVS, TOP, Skip, each
from parity_box import Box

# Each pass loads its module.
LOAD = False

SCENARIOS = {scenario.__name__: scenario for part in (parity_config, parity_wire, parity_files)
             for scenario in part.SCENARIOS}
MODULES = ("ip_vs", "rlvs")
MODPROBE = "/etc/modprobe.d/rlvs.conf"


def modules():
    """Those that run here. On the debug kernel, where all takes long, rlvs shows that it does nothing wrong."""
    if not RLVS:
        return ["ip_vs"]
    return ["rlvs"] if kernel.DEBUG else list(MODULES)


_records = {module: {} for module in MODULES}


def record(module, names):
    """Runs scenarios on a module that is loaded; remembers what each has recorded."""
    log = kernel.Log()
    for name in names:
        start = time.monotonic()
        box = Box()
        try:
            SCENARIOS[name](box)
        except Exception:  # pylint: disable=broad-except
            box.wrong.append(traceback.format_exc())
        finally:
            box.close()
        splats, _ = log.splats(log.new())
        _records[module][name] = {"steps": box.steps, "wrong": box.wrong, "splats": splats,
                                  "seconds": round(time.monotonic() - start, 2)}


@contextlib.contextmanager
def installed(module):
    """A module is loaded for a while, as it is where it is installed."""
    kernel.load(module)
    if module == "ip_vs":
        # It is a part of rlvs.
        kernel.load("ip_vs_ftp")
    # ipvsadm loads ip_vs when it is refused, and where rlvs is installed that gives it rlvs.
    if module == "rlvs":
        shutil.copy(f"{TOP}/packaging/modprobe.d/rlvs.conf", MODPROBE)
    try:
        yield
    finally:
        if os.path.exists(MODPROBE):
            os.unlink(MODPROBE)
        kernel.unload(module)


def run_pass(module, names):
    """Loads a module, runs scenarios on it, unloads it."""
    with installed(module):
        record(module, names)
    os.makedirs(f"{TOP}/build/parity", exist_ok=True)
    kind = "debug" if kernel.DEBUG else "release"
    with open(f"{TOP}/build/parity/{module}-{kind}.json", "w", encoding="utf-8") as file:
        json.dump(_records[module], file, indent=1)


@each(*MODULES)
def test_pass(_, module):
    """All scenarios run on one module, which is loaded and unloaded once."""
    if module not in modules():
        raise Skip("only ip_vs is tested" if module == "rlvs" else "the release kernel compares")
    start = time.monotonic()
    run_pass(module, list(SCENARIOS))
    done = _records[module]
    steps = sum(len(one["steps"]) for one in done.values())
    longest = sorted(done, key=lambda name: -done[name]["seconds"])[:4]
    print(f"# {len(done)} scenarios, {steps} steps on {module} in {time.monotonic() - start:.1f} s; longest "
          + ", ".join(f"{name} {done[name]['seconds']}" for name in longest))
    wrong = {name: one["splats"] for name, one in done.items() if one["splats"]}
    assert not wrong, f"the kernel's log: {wrong}"


_used = set()


@each(*SCENARIOS)
def test_scenario(_, name):
    """A scenario meets its own expectations on ip_vs, and rlvs answers as ip_vs does."""
    for module in modules():
        if name not in _records[module]:
            run_pass(module, [name])
    if modules() == ["rlvs"]:
        wrong = [complaint for complaint in _records["rlvs"][name]["wrong"]
                 if not any(re.fullmatch(entry.scenario, name) and re.match(entry.step, complaint)
                            for entry in parity_deviations.DEVIATIONS if entry.text is None)]
        assert not wrong, "rlvs does otherwise than is expected of ip_vs:\n" + "\n".join(wrong)
        return
    theirs = _records["ip_vs"][name]
    assert not theirs["wrong"], "this test is wrong, ip_vs does otherwise:\n" + "\n".join(theirs["wrong"])
    if not RLVS:
        return
    ours = _records["rlvs"][name]
    labels = [[label for label, _ in one["steps"]] for one in (theirs, ours)]
    problems = [] if labels[0] == labels[1] else [f"steps differ: {labels}"] + ours["wrong"]
    for (label, expected), (_, found) in zip(theirs["steps"], ours["steps"]):
        if expected == found:
            continue
        if entries := parity_deviations.allowed(parity_deviations.DEVIATIONS, name, label, expected, found):
            _used.update(entries)
            continue
        problems.append(f"-- {label}")
        problems += list(difflib.unified_diff(expected.splitlines(), found.splitlines(), "ip_vs", "rlvs",
                                              n=0, lineterm=""))[2:40]
    assert not problems, "rlvs answers otherwise:\n" + "\n".join(problems)


def test_deviations(_):
    """Each deviation deviates, and the documentation speaks of it."""
    if not RLVS:
        raise Skip("only ip_vs is tested")
    if set(_records["rlvs"]) != set(SCENARIOS) or set(_records["ip_vs"]) != set(SCENARIOS):
        raise Skip("not all scenarios were run")
    idle = [entry for entry in parity_deviations.DEVIATIONS if entry not in _used]
    assert not idle, "these do not deviate any more: " + "; ".join(map(str, idle))
    unsaid = parity_deviations.unsaid(parity_deviations.DEVIATIONS)
    assert not unsaid, f"{parity_deviations.PAGES} do not say: {unsaid}"
