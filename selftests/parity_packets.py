# SPDX-License-Identifier: GPL-2.0
"""Parity of packets: what leaves, what becomes of connections and what is counted is as with ip_vs, field by field.

Every scenario is configured by stock ipvsadm and runs once on ip_vs and once on rlvs, on a stage as parity_stage.py
has it. RLVS_BALANCER=ip_vs runs all of it twice on ip_vs: that shows what is chance. The records are kept in
build/parity/; RLVS_PARITY=saved takes those of ip_vs from there, if they are of the same scenarios. With
RLVS_SCENARIOS=EXPRESSION there are only scenarios that match it.
"""

import difflib
import functools
import glob
import hashlib
import json
import os
import re
import subprocess
import threading
import time
import traceback

import kernel
import parity_deviations
import parity_errors
import parity_flows
import parity_policy
import parity_rules
from lib import RLVS, TOP, Skip, each
from parity import installed
from parity_stage import Scene, Stage

# Each pass loads its module.
LOAD = False

PASSES = ("ip_vs", "rlvs" if RLVS else "ip_vs again")
# So many scenes share a director: the more, the longer are its lists.
CROWD = 30
# On the debug kernel one of so many scenarios has to do.
SAMPLE = 6
RECORD = f"{TOP}/build/parity/packets-{{}}.json"
# What mainline has in modules of its own and does not load by itself.
EXTRA = ("ip_vs_ftp",)

ONLY = os.environ.get("RLVS_SCENARIOS", "")

_records = {}


@functools.cache
def scenarios():
    """{name: (group, family, function, arguments)} of all scenarios."""
    found = {}
    for part in (parity_flows, parity_errors, parity_policy, parity_rules):
        for name, *rest in part.scenarios():
            assert name not in found, f"two scenarios are called {name}"
            if re.search(ONLY, name):
                found[name] = rest
    return found


def records():
    """{module: {name: record}} of what has run."""
    return _records


def here(names):
    """Those of the names that run on this kernel."""
    return names[::SAMPLE] if kernel.DEBUG else names


@functools.cache
def version():
    """What the scenarios are made of."""
    digest = hashlib.sha256()
    for path in sorted(glob.glob(f"{TOP}/selftests/parity_*.py")):
        if not path.endswith(("parity_packets.py", "parity_deviations.py")):
            with open(path, "rb") as file:
                digest.update(file.read())
    return digest.hexdigest()


def act(stage, name, kind=Scene):
    """Runs one scenario on a stage, as a scene of a kind; returns its record, but for what was counted."""
    _, family, function, arguments = scenarios()[name]
    begin = time.monotonic()
    scene = kind(stage, family)
    wrong = ""
    try:
        function(scene, *arguments)
    except Exception:  # pylint: disable=broad-except
        wrong = traceback.format_exc()
    scene.end()
    return {"steps": scene.steps, "wrong": wrong, "seconds": round(time.monotonic() - begin, 3)}


def record(names, stages):
    """Runs scenarios on the module that is loaded; returns {name: its record} and leaves the stages behind."""
    groups, done = {}, {}
    for name in names:
        groups.setdefault(scenarios()[name][0], []).append(name)
    log = kernel.Log()
    for group, members in groups.items():
        for start in range(0, len(members), CROWD):
            stage = Stage(group.startswith("offload"))
            stage.group = group
            stages.append(stage)
            if group.startswith("marks"):
                stage.marks()
            if group.startswith("rules"):
                parity_rules.stand(stage)
            for name in members[start:start + CROWD]:
                done[name] = act(stage, name)
                done[name]["splats"], _ = log.splats(log.new())
    # ip_vs sums its counters every two seconds.
    time.sleep(4.2)
    for stage in stages:
        counted = stage.counted()
        for scene in stage.scenes:
            rows = counted.get(scene.number, ["no service"])
            scene.step("counted", "\n".join(row for row in rows if scene.counts or not row.startswith("->")))
    return done


def run_pass(label, names):
    """Records what scenarios do on a module, and keeps it; returns what is wrong with the devices' end."""
    module, stages = label.split()[0], []
    try:
        with installed(module):
            if module == "ip_vs":
                for extra in EXTRA:
                    subprocess.run(["modprobe", extra], check=True)
            try:
                done = record(names, stages)
            finally:
                # Services hold mainline's module.
                for stage in stages:
                    stage.adm.run(["-C"])
            _records[label] = _records.get(label, {}) | done
            if len(names) > 1 and not ONLY and not kernel.DEBUG:
                save(label)
            # Connections hold mainline's helper and its persistence engine as long as they live.
            holding = [stage for stage in stages if stage.group.startswith(("ftp", "sip"))]
            stages = [stage for stage in stages if stage not in holding]
            closed(holding)
    finally:
        # What a balancer has kept of a route would keep the devices.
        held = closed(stages)
    return held


def closed(stages):
    """Closes stages; returns the scenarios of those whose devices somebody holds."""
    held = []
    for stage in stages:
        # A device that is held lets whoever deletes it wait for ever.
        thread = threading.Thread(target=stage.close, daemon=True)
        thread.start()
        thread.join(5 * kernel.SLOW)
        if thread.is_alive():
            held.append(f"{len(stage.scenes)} scenes of {stage.group}")
    return held


def save(label):
    """Keeps a record in a file."""
    os.makedirs(f"{TOP}/build/parity", exist_ok=True)
    with open(RECORD.format(label.replace(" ", "-")), "w", encoding="utf-8") as file:
        json.dump({"version": version(), "scenarios": _records[label]}, file, indent=1)


def saved():
    """What ip_vs did when it was last asked, if it was asked the same."""
    try:
        with open(RECORD.format("ip_vs"), encoding="utf-8") as file:
            kept = json.load(file)
    except OSError:
        return {}
    return kept["scenarios"] if kept["version"] == version() else {}


@each(*PASSES)
def test_pass(_, label):
    """All scenarios run on one module."""
    names = here(list(scenarios()))
    if label == "ip_vs" and (kernel.DEBUG or os.environ.get("RLVS_PARITY") == "saved") and RLVS:
        _records[label] = saved()
        raise Skip("taken from an earlier run" if _records[label] else "there is no earlier run")
    start = time.monotonic()
    held = run_pass(label, names)
    done = _records[label]
    longest = sorted(done, key=lambda name: -done[name]["seconds"])[:6]
    steps = sum(len(one["steps"]) for one in done.values())
    print(f"# {len(done)} scenarios, {steps} steps on {label} in {time.monotonic() - start:.1f} s; longest "
          + ", ".join(f"{name} {done[name]['seconds']}" for name in longest))
    wrong = {name: one["splats"] for name, one in done.items() if one["splats"]}
    assert not wrong, f"the kernel's log: {wrong}"
    assert not held, f"devices are held after: {held}"


_used = set()


def differences(name, theirs, ours, entries=parity_deviations.PACKETS, used=_used):
    """Lines that tell where two records of a scenario differ, but for what may; those entries are `used` then."""
    problems = []
    labels = [[label for label, _ in one["steps"]] for one in (theirs, ours)]
    if labels[0] != labels[1]:
        problems += ["-- other steps", *difflib.unified_diff(*labels, *PASSES, n=0, lineterm="")][:12]
    for (label, expected), (_, found) in zip(theirs["steps"], ours["steps"]):
        if expected == found:
            continue
        if needed := parity_deviations.allowed(entries, name, label, expected, found):
            used.update(needed)
            continue
        problems.append(f"-- {label}")
        problems += list(difflib.unified_diff(expected.splitlines(), found.splitlines(), *PASSES, n=0,
                                              lineterm=""))[2:24]
    return problems


@each(*scenarios())
def test_scenario(_, name):
    """One scenario does the same on both modules."""
    if kernel.DEBUG and name not in here(list(scenarios())):
        raise Skip("the debug kernel gets a sample")
    for label in PASSES:
        if name not in _records.get(label, {}) and not (kernel.DEBUG and label == "ip_vs"):
            if label == "ip_vs" and os.environ.get("RLVS_PARITY") == "saved" and name in saved():
                _records.setdefault(label, {})[name] = saved()[name]
                continue
            run_pass(label, [name])
    ours = _records[PASSES[1]][name]
    assert not ours["wrong"], ours["wrong"]
    theirs = _records.get("ip_vs", {}).get(name)
    if theirs is None:
        return
    assert not theirs["wrong"], theirs["wrong"]
    problems = differences(name, theirs, ours)
    assert not problems, "rlvs does otherwise:\n" + "\n".join(problems)


def test_deviations(_):
    """Each deviation deviates, and the documentation speaks of it."""
    if not RLVS or kernel.DEBUG:
        raise Skip("only where all of it is compared")
    if ONLY or any(set(_records.get(label, {})) != set(scenarios()) for label in PASSES):
        raise Skip("not all scenarios were run")
    idle = [entry for entry in parity_deviations.PACKETS if entry not in _used]
    assert not idle, "these do not deviate any more: " + "; ".join(map(str, idle))
    unsaid = parity_deviations.unsaid(parity_deviations.PACKETS)
    assert not unsaid, f"{parity_deviations.PAGES} do not say: {unsaid}"
