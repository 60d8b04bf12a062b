# SPDX-License-Identifier: GPL-2.0
"""Parity of real clients and servers: what each sees of the other, what leaves and what is counted is as with ip_vs.

Every scenario of parity_talks.py is configured by stock ipvsadm and runs once on ip_vs and once on rlvs, on a farm
as parity_farm.py has it. RLVS_BALANCER=ip_vs runs all of it twice on ip_vs: that shows what is chance. The records are
kept in build/parity/. With RLVS_SCENARIOS=EXPRESSION there are only scenarios that match it.
"""

import functools
import json
import os
import re
import time
import traceback

import kernel
import parity_talks
from lib import TOP, Skip, each
from parity import installed
from parity_farm import Farm, Talk
from parity_packets import ONLY, PASSES, differences
from parity_stage import load_stack

# Each pass loads its module.
LOAD = False

# On the debug kernel one of so many scenarios has to do.
SAMPLE = 10

_records = {}


@functools.cache
def scenarios():
    """{name: (family, function, arguments)} of those that run here."""
    found = {name: one for name, one in parity_talks.scenarios().items() if re.search(ONLY, name)}
    return dict(list(found.items())[::SAMPLE]) if kernel.DEBUG else found


def act(farm, name):
    """Runs one scenario; returns its record, but for what was counted."""
    family, function, arguments = scenarios()[name]
    begin, wrong = time.monotonic(), ""
    scene = Talk(farm, family)
    try:
        function(scene, *arguments)
    except Exception:  # pylint: disable=broad-except
        wrong = traceback.format_exc()
    scene.end()
    return {"steps": scene.steps, "wrong": wrong, "seconds": round(time.monotonic() - begin, 3)}


def record(farm, names):
    """Runs scenarios on the module that is loaded; returns {name: its record}."""
    log, done = kernel.Log(), {}
    with parity_talks.programs(farm):
        for name in names:
            done[name] = act(farm, name)
            done[name]["splats"], _ = log.splats(log.new())
    # ip_vs sums its counters every two seconds.
    time.sleep(4.2)
    counted = farm.counted()
    for scene in farm.scenes:
        scene.counted(counted.get(scene.number, ["no service"]))
    return done


def run_pass(label, names):
    """Records what scenarios do on a module, and keeps it."""
    module, cpus = label.split()[0], os.sched_getaffinity(0)
    load_stack()
    # Nothing overtakes anything on one processor.
    os.sched_setaffinity(0, {min(cpus)})
    try:
        with installed(module):
            if module == "ip_vs":
                kernel.load("ip_vs_ftp")
            farm = Farm()
            try:
                _records[label] = _records.get(label, {}) | record(farm, names)
            finally:
                # Services and FTP's connections hold mainline's module.
                farm.adm.run(["-C"])
                farm.close()
    finally:
        os.sched_setaffinity(0, cpus)
    os.makedirs(f"{TOP}/build/parity", exist_ok=True)
    with open(f"{TOP}/build/parity/clients-{label.replace(' ', '-')}.json", "w", encoding="utf-8") as file:
        json.dump(_records[label], file, indent=1)


@each(*PASSES)
def test_pass(_, label):
    """All scenarios run on one module."""
    if label == "ip_vs" and kernel.DEBUG:
        raise Skip("the release kernel compares")
    start = time.monotonic()
    run_pass(label, list(scenarios()))
    done = _records[label]
    longest = sorted(done, key=lambda name: -done[name]["seconds"])[:6]
    steps = sum(len(one["steps"]) for one in done.values())
    print(f"# {len(done)} scenarios, {steps} steps on {label} in {time.monotonic() - start:.1f} s; longest "
          + ", ".join(f"{name} {done[name]['seconds']}" for name in longest))
    wrong = {name: one["splats"] for name, one in done.items() if one["splats"]}
    assert not wrong, f"the kernel's log: {wrong}"


@each(*scenarios())
def test_scenario(_, name):
    """One scenario does the same on both modules."""
    labels = PASSES[1:] if kernel.DEBUG else PASSES
    for label in labels:
        if name not in _records.get(label, {}):
            run_pass(label, [name])
    for label in labels:
        done = _records[label][name]
        assert not done["wrong"], f"on {label}: {done['wrong']}"
        told = done["steps"][-1][1]
        assert not re.search(r"on the wire \d", told), f"{label} has not counted what passed: {told}"
    if not kernel.DEBUG:
        problems = differences(name, *(_records[label][name] for label in labels), (), set())
        assert not problems, "rlvs does otherwise:\n" + "\n".join(problems)

