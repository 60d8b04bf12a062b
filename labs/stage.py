# SPDX-License-Identifier: GPL-2.0
"""What every lab is made with: commands that are shown as they run, checks, web servers, captured packets."""

import os
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(TOP, "selftests"))

import kernel  # noqa: E402
from lib import MODULE, RLVS, Namespace, wait_for  # noqa: E402
from packet import TOA, Packet  # noqa: E402

WIDTH = 80
ADM = "rlvsadm" if RLVS else "ipvsadm"

NGINX = """
daemon on; worker_processes 1; pid {dir}/pid; error_log {dir}/error.log;
events {{ worker_connections 256; }}
http {{
  log_format peer '$remote_addr:$remote_port "$request" $status $bytes_sent';
  access_log {dir}/access.log peer;
  sendfile on; tcp_nopush on; client_max_body_size 200m;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  server {{
    listen {listen};
    location = / {{ return 200 "{name} $remote_addr:$remote_port\\n"; }}
    location /files/ {{ alias {files}/; }}
    location /put/ {{ alias {dir}/put/; dav_methods PUT; }}
  }}
}}
"""

_colour = sys.stdout.isatty()


class LabFailed(Exception):
    """What the lab promised did not come true."""


def paint(code, text):
    """The text in a colour, on a terminal."""
    return f"\033[{code}m{text}\033[0m" if _colour else text


def say(text=""):
    """Prints lines, none longer than the screen is wide."""
    for line in text.splitlines() or [""]:
        print(line[:WIDTH], flush=True)


class Steps:
    """Headings with numbers, and checks that are counted."""

    def __init__(self, total):
        self.total, self.number, self.checks = total, 0, 0
        self.start = time.monotonic()

    def step(self, title):
        """Begins a step."""
        self.number += 1
        seconds = f"{time.monotonic() - self.start:.0f} s"
        head = f"[{self.number}/{self.total}] {title}"
        say()
        print(paint("1", f"{head:<{WIDTH - len(seconds) - 1}} {seconds}"), flush=True)

    def check(self, true, what):
        """Says what has been found true; ends the lab if it is not."""
        if not true:
            print(paint("1;31", f"  FAILED: {what}"), flush=True)
            raise LabFailed(what)
        self.checks += 1
        for number, line in enumerate(wrap(what, WIDTH - 7)):
            print("  " + (paint("32", "ok") + "   " if number == 0 else "     ") + line, flush=True)

    def equal(self, seen, expected, what):
        """Checks that two values are equal, and shows the value."""
        self.check(seen == expected, f"{what}: {seen}" +
                   ("" if seen == expected else f", not {expected}"))


def wrap(text, width):
    """Lines of words."""
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return lines + [line]


def show(where, command):
    """Prints a command as if it were typed in a namespace."""
    prompt = f"  {where}# "
    lines = wrap(command, WIDTH - len(prompt) - 2)
    for number, line in enumerate(lines):
        end = " \\" if number < len(lines) - 1 else ""
        lead = paint("36", prompt) if number == 0 else " " * len(prompt)
        print(f"{lead}{line}{end}", flush=True)


def do(namespace, command, *, echo=False, quiet=False, may_fail=False, shell=False):
    """Shows a command, runs it in a namespace (None: where we stand), returns what it prints.

    `echo` shows that too. A command that fails ends the lab unless `may_fail`.
    """
    if not quiet:
        show(namespace.name if namespace else "root", command)
    argv = ["bash", "-c", command] if shell else shlex.split(command)
    how = {"capture_output": True, "text": True, "check": False}
    if namespace:
        with namespace:
            done = subprocess.run(argv, **how)
    else:
        done = subprocess.run(argv, **how)
    if echo:
        for line in (done.stdout + done.stderr).rstrip().splitlines():
            say("  " + line)
    if done.returncode and not may_fail:
        raise LabFailed(f"'{command}' ended with status {done.returncode}: "
                        f"{(done.stderr or done.stdout).strip()}")
    return done.stdout


class Capture:
    """tcpdump on a device of a namespace, until it is stopped."""

    def __init__(self, namespace, device, path, match, extra=""):
        self.path = path
        quoted = shlex.quote(match) if set(match) & set("&|()[]!") else match
        command = " ".join(["tcpdump", "-i", device, "-U", *extra.split(), "-w", path, quoted, "&"])
        show(namespace.name, command)
        with namespace:
            # Immediate: else packets wait for a block to fill up, and the last ones are never written.
            self.process = subprocess.Popen(
                ["tcpdump", "--immediate-mode", "-i", device, "-U", "-Z", "root", *extra.split(), "-w", path,
                 match],
                stderr=subprocess.PIPE, text=True)
        # From this line on it misses nothing.
        for line in self.process.stderr:
            if "listening on" in line:
                break
        else:
            raise LabFailed(f"tcpdump does not run: {self.process.wait()}")

    def end(self, pause=0.3):
        """Ends it. What the kernel still holds for it is read before it hears the signal, so there is a pause."""
        if self.process.poll() is None:
            time.sleep(pause)
            self.process.send_signal(signal.SIGINT)
        self.process.communicate()

    def stop(self):
        """Ends it; returns [(time, length on the wire, captured IP packet as bytes)]."""
        self.end()
        with open(self.path, "rb") as file:
            data = file.read()
        at, records = 24, []
        while at + 16 <= len(data):
            seconds, micros, size, length = struct.unpack("<IIII", data[at:at + 16])
            records.append((seconds + micros / 1e6, length, data[at + 30:at + 16 + size]))
            at += 16 + size
        return records

    def packets(self):
        """Ends it; returns the packets, read."""
        return [Packet(data) for _, _, data in self.stop()]


def station(packet):
    """A line about a TCP packet on a wire, and one about the client's address if it carries it."""
    flags = " ".join(word for word, bit in (("SYN", 2), ("FIN", 1), ("RST", 4), ("ACK", 16))
                     if packet.flags & bit)
    line = f"    {packet.src}:{packet.sport} > {packet.dst}:{packet.dport} {flags}"
    if packet.payload:
        line += f", {len(packet.payload)} bytes"
    say(line)
    for kind, raw in packet.tcp_options():
        if kind == TOA:
            (addr, port), *_ = packet.toa()
            say(f"      TOA {raw.hex(' ')} = {addr}:{port}")


def large_file(path, size):
    """Makes a file of some MiB, no two of which are alike: what is lost, doubled or moved shows in a hash."""
    block = os.urandom((1 << 20) - 8)
    with open(path, "wb") as file:
        for number in range(size >> 20):
            file.write(number.to_bytes(8, "big"))
            file.write(block)


def lines(path, part):
    """The lines of a file that hold `part`."""
    with open(path, encoding="utf-8") as file:
        return [line.rstrip("\n") for line in file if part in line]


class Lab:
    """One run of a lab: its namespaces, what runs in them, and the parts that it is made of."""

    def __init__(self, title, picture, total, prefix=""):
        self.steps = Steps(total)
        self.dir, self.files = "/tmp/lab", "/tmp/lab/files"
        # Names of namespaces begin with the prefix, where others have namespaces, too.
        self.prefix, self.namespaces, self.children = prefix, [], []
        self.logs = f"{self.dir}/*/error.log"
        say(paint("1", title))
        say(picture)

    def run(self, *parts):
        """Plays the parts; returns the exit status. Nothing is left behind, whatever happens."""
        try:
            for part in parts:
                part()
            self.summary()
        except (LabFailed, AssertionError, OSError, RuntimeError, subprocess.SubprocessError) as error:
            say()
            say(paint("1;31", f"The lab failed in step {self.steps.number}: {error}"))
            for command in ("dmesg | tail -n 20", f"tail -n 5 {self.logs}"):
                do(None, command, echo=True, may_fail=True, shell=True)
            return 1
        finally:
            self.clean()
            kernel.unload(MODULE)
        return 0

    def clean(self):
        """Ends all that was started; the module stays."""
        for child in self.children:
            child.kill()
            child.wait()
        do(None, f"kill $(cat {self.dir}/*/pid)", quiet=True, may_fail=True, shell=True)
        for namespace in self.namespaces:
            namespace.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def summary(self):
        """What has been found true, in a line."""
        say()
        say(paint("1;32", f"{self.steps.checks} checks passed in "
                  f"{time.monotonic() - self.steps.start:.0f} s."))

    def make(self, *names):
        """Makes namespaces; returns them."""
        for name in names:
            name = self.prefix + name
            show("root", f"ip netns add {name}")
            self.namespaces.append(Namespace(name))
            for scope in ("all", "default"):
                # Neighbour discovery would be counted beside what we send.
                self.namespaces[-1].sysctl(f"net.ipv6.conf.{scope}.disable_ipv6", 1)
        return self.namespaces[-len(names):]

    def ip(self, namespace, *lines):
        """Shows and runs commands of ip(8)."""
        for line in lines:
            show(namespace.name, "ip " + line)
        namespace.ip(*lines)

    def directories(self, *names):
        """Makes the lab's own directories anew, one for what is served and one for each name."""
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.files)
        for path in (self.dir, *(os.path.join(self.dir, name) for name in names)):
            os.makedirs(path, exist_ok=True)
            # nginx's workers run as another user.
            os.chmod(path, 0o777)

    def nginx(self, namespace, name, listen="80"):
        """Starts a web server that tells its name and its peer, serves files and takes them."""
        home = os.path.join(self.dir, name)
        put = os.path.join(home, "put")
        os.makedirs(put, exist_ok=True)
        os.chmod(put, 0o777)
        with open(os.path.join(home, "nginx.conf"), "w", encoding="ascii") as file:
            file.write(NGINX.format(dir=home, name=name, files=self.files, listen=listen))
        do(namespace, f"nginx -p {home} -c nginx.conf -e error.log")

    def nginx_again(self, name, namespace):
        """The web server is started again, with the configuration that it has."""
        home = f"{self.dir}/{name}"
        # It removes the file when it has ended; then its port is free.
        wait_for(lambda: not os.path.exists(f"{home}/pid"), 20, 0.1, f"nginx on {name} to end")
        do(namespace, f"nginx -p {home} -c nginx.conf -e error.log")
