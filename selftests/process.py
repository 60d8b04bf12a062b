# SPDX-License-Identifier: GPL-2.0
"""A part of a test in a process of its own: as another user, or beside the test."""

import json
import os
import signal
import sys
import traceback

import lib

NEWUSER, NEWNET = 0x10000000, 0x40000000


def unshare(flags):
    """unshare(2)."""
    if lib._libc.unshare(flags):  # pylint: disable=protected-access
        raise OSError(lib.ctypes.get_errno(), "unshare")


class Process:
    """Runs `action()` where the caller stands; what it returns must be of JSON's types.

    `user` is a number to become, without capabilities; `namespace` makes it root of a user namespace that owns
    a network namespace. `stop` is the signal that ends it.
    """

    def __init__(self, action, user=None, namespace=False):
        reader, writer = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid:
            os.close(writer)
            self.reader = os.fdopen(reader)
            return
        try:
            os.close(reader)
            if namespace:
                unshare(NEWUSER | NEWNET)
                for name, text in (("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")):
                    with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                        file.write(text)
            if user:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            answer = [action(), None]
        except BaseException:  # pylint: disable=broad-except
            answer = [None, traceback.format_exc()]
        try:
            with os.fdopen(writer, "w") as file:
                json.dump(answer, file)
        finally:
            os._exit(0)

    def result(self):
        """Waits for its end; returns what it has returned, or raises with what it has raised."""
        with self.reader:
            text = self.reader.read()
        status = os.waitpid(self.pid, 0)[1]
        assert text, f"the process ended with status {status:#x}"
        value, wrong = json.loads(text)
        assert wrong is None, wrong
        return value

    def stop(self):
        """Kills it."""
        os.kill(self.pid, signal.SIGKILL)
        self.reader.close()
        os.waitpid(self.pid, 0)
