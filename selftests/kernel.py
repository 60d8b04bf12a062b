# SPDX-License-Identifier: GPL-2.0
"""What the kernel under test says of itself: splats in its log, taint, leaks, loaded modules."""

import ctypes
import errno
import os
import re
import subprocess
import time

KMEMLEAK = "/sys/kernel/debug/kmemleak"
# Only the debug kernel has it; there all takes many times as long.
DEBUG = os.path.exists(KMEMLEAK)
SLOW = 8 if DEBUG else 1

# A tracker of references that gets no memory, which tests see to, has lost none.
SPLAT = re.compile(
    r"BUG:|kernel BUG at|WARNING:|KASAN|KFENCE|UBSAN|Oops|general protection|unable to handle"
    r"|possible (circular|recursive|irq lock|deadlock)|inconsistent lock state|INFO: trying to register"
    r"|INFO: possible|suspicious RCU|sleeping function called|scheduling while atomic|bad unlock balance"
    r"|ODEBUG|refcount_t|ref_tracker(?!: memory allocation failure)"
    r"|unregister_netdevice: waiting|(list_add|list_del) corruption"
    r"|Objects remaining|Slab cache still has objects|blocked for more than|soft lockup|Call Trace"
    r"|panicked at|Kernel panic|leaked|kmem_cache_destroy")
# Tells its stack when it is asked to, which is no news.
INJECTED = re.compile(r"FAULT_INJECTION: forcing a failure")
STALL = re.compile(r"rcu.*(detected|self-detected).*stall|rcu.*kthread starved")
OURS = re.compile(r"\brlvs|\[ip_vs")
# Out of tree, unsigned, a kernel made of test parts: what loading the module means by itself.
HARMLESS_TAINT = 1 << 0 | 1 << 12 | 1 << 13 | 1 << 18

# System calls of x86-64: a process for each would take many times as long.
DELETE_MODULE, FINIT_MODULE = 176, 313
_libc = ctypes.CDLL(None, use_errno=True)
# Where modules are.
_files = {}


# The runner's.
LOG = None


class Log:
    """The kernel log from the moment of creation on."""

    def __init__(self):
        self.fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self.fd, 0, os.SEEK_END)
        self.taint = taint()
        self.kept = []

    def keep(self):
        """Remembers what is there, before the ring overtakes us."""
        self.kept = self.new()

    def new(self):
        """The lines since the last call."""
        lines, self.kept = self.kept, []
        while True:
            try:
                record = os.read(self.fd, 8192).decode(errors="replace")
            except OSError as error:
                # EPIPE: the ring overtook us, and reading goes on behind the gap.
                if error.errno == errno.EPIPE:
                    lines.append("(lines of the kernel log were lost)")
                    continue
                return lines
            head, _, text = record.partition(";")
            lines.append(text.split("\n")[0])

    def splats(self, lines):
        """(what is wrong, remarks) of the lines and of a taint flag that appeared."""
        wrong, remarks = [], []
        # A stall tells many lines, the first of which decides: an emulated machine is slow enough to
        # stall by itself; it is ours if we stand in it.
        excused = injected = 0
        telling = False
        for at, line in enumerate(lines):
            injected += bool(INJECTED.search(line))
            if injected and line.startswith("Call Trace"):
                injected, telling = injected - 1, True
            elif telling and line.startswith(" "):
                telling = "</TASK>" not in line
            elif STALL.search(line):
                ours = any(OURS.search(later) for later in lines[at:at + 80])
                (wrong if ours else remarks).append(line)
                excused = 0 if ours else at + 80
            elif SPLAT.search(line) and not (at < excused and "Call Trace" in line):
                wrong.append(line)
        now = taint()
        if now & ~self.taint & ~HARMLESS_TAINT:
            wrong.append(f"taint flags went from {self.taint:#x} to {now:#x}")
        self.taint = now
        return wrong, remarks


def taint():
    """The taint mask."""
    with open("/proc/sys/kernel/tainted", encoding="ascii") as file:
        return int(file.read())


def leaks(pattern="rlvs"):
    """Blocks that nothing points to and whose allocation names `pattern`, as kmemleak tells them."""
    # An address may hide in a register or a stack during one scan, hardly during two.
    for _ in range(2):
        with open(KMEMLEAK, "w", encoding="ascii") as file:
            file.write("scan\n")
    with open(KMEMLEAK, encoding="utf-8", errors="replace") as file:
        reports = file.read().split("unreferenced object")[1:]
    return ["unreferenced object" + report for report in reports if pattern in report]


def loaded(module):
    """Whether a module is loaded."""
    return os.path.isdir(f"/sys/module/{module}")


def load(module, again=False):
    """Loads a module; raises with the command's words if that fails.

    `again` does it in a fraction of the time for one that was loaded before, whose needs are still there.
    """
    if again:
        if module not in _files:
            found = subprocess.run(["modinfo", "-n", module], capture_output=True, text=True, check=True)
            _files[module] = found.stdout.strip()
        with open(_files[module], "rb") as file:
            if _libc.syscall(FINIT_MODULE, file.fileno(), b"", 0):
                raise RuntimeError(f"loading {module}: {os.strerror(ctypes.get_errno())}")
        return
    done = subprocess.run(["modprobe", module], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"modprobe {module}: {done.stderr.strip()}")


def unload(module, seconds=10):
    """Unloads a module; a namespace on its way out may hold it for a moment."""
    end = time.monotonic() + seconds * SLOW
    while loaded(module):
        # Schedulers of ip_vs are modules that hold it.
        for name in (*os.listdir(f"/sys/module/{module}/holders"), module):
            if _libc.syscall(DELETE_MODULE, name.encode(), os.O_NONBLOCK):
                if time.monotonic() > end:
                    raise RuntimeError(f"unloading {name}: {os.strerror(ctypes.get_errno())}")
                time.sleep(0.1)
                break


def slab(name):
    """Active objects of a slab cache; None if there is no such cache, or no kernel that counts."""
    if not os.path.exists("/proc/slabinfo"):
        return None
    # KASAN keeps objects that were given back for a while; shrinking the cache is the end of that.
    shrink = f"/sys/kernel/slab/{name}/shrink"
    if os.path.exists(shrink):
        with open(shrink, "w", encoding="ascii") as file:
            file.write("1\n")
    with open("/proc/slabinfo", encoding="ascii") as file:
        for line in file:
            words = line.split()
            if words[0] == name:
                return int(words[1])
    return None
