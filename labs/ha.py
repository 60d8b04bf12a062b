# SPDX-License-Identifier: GPL-2.0
"""The keepalived lab: a client, two directors that stand in for each other, three web servers and an excuse.

    client            wan   director1 .11  10.0.0.21   lan    web1 web2 web3   sorry
    198.51.100.2 -----------director2 .12  10.0.0.22---------- 10.0.0.11 .12 .13 .14
                            VIPs 198.51.100.80-82, .90: of the one that is master
"""

import hashlib
import os
import re
import signal
import socket
import subprocess
import threading
import time

from circle import Circle
from director import ETC, GATEWAY, MARK, MARKED, VIP, Director, write_scripts
from stage import ADM, Lab, do, large_file, lines, say, show

# The library of the selftests, which stage.py has put in reach.
import kernel
from lib import MODULE, RLVS, wait_for

PICTURE = """
  client              director1                       web1 web2 web3   sorry
  198.51.100.2 -+---- 198.51.100.11, 10.0.0.21 --+--- 10.0.0.11 - .13, .14
                |                                |
                |     director2                  |
                +---- 198.51.100.12, 10.0.0.22 --+

  The virtual addresses 198.51.100.80 to .82 and .90 are those of the director
  that is master by VRRP; the other one stands by. Both run Debian's keepalived,
  which sets up the balancer and takes out of it what is sick.
"""

CLIENT = "198.51.100.2"
# Services that have web1 and web2, and an address of theirs to ask.
PAIRED = {f"{vip}:80": f"http://{vip}/" for vip in ("198.51.100.81", "198.51.100.82")}
PAIRED[str(MARK)] = f"http://{MARKED}:8000/"
WEBS = {"web1": "10.0.0.11", "web2": "10.0.0.12", "web3": "10.0.0.13", "sorry": "10.0.0.14"}
SIZE = 16 << 20


def ask(sock):
    """A request on an open connection; returns the answer, or nothing if the connection is reset."""
    try:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: {VIP}\r\n\r\n".encode())
        return sock.recv(4096)
    except ConnectionResetError:
        return b""


class Download:
    """curl with a reader that takes its time: some KiB, a pause."""

    def __init__(self, url):
        self.process = subprocess.Popen(["curl", "-sS", url], stdout=subprocess.PIPE)
        self.size, self.hash, self.hurry = 0, hashlib.sha256(), threading.Event()
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.finish()

    def read(self):
        """Reads to the end."""
        while block := os.read(self.process.stdout.fileno(), 16384):
            self.hash.update(block)
            self.size += len(block)
            self.hurry.wait(0.05 * kernel.SLOW)

    def runs(self):
        """Whether there is more to come."""
        return self.process.poll() is None and self.thread.is_alive()

    def finish(self):
        """Reads what is left without a pause; returns the SHA-256 of all of it."""
        self.hurry.set()
        self.thread.join()
        self.process.wait()
        return self.hash.hexdigest()


class HaLab(Lab):
    """One run of the lab. Each step leaves things as it found them, but for the last."""

    def __init__(self, prefix=""):
        super().__init__("keepalived: two directors, health checks, fail-over", PICTURE, 13, prefix)
        self.logs += f" {self.dir}/*/keepalived.log"
        self.directors, self.pair = [], None

    def play(self):
        """All steps; returns the exit status."""
        return self.run(self.build, self.start_servers, self.start_keepalived, self.spread, self.health,
                        self.quorum, self.group, self.marks, self.reload, self.fail_over, self.stop, self.circle,
                        self.cure)

    def clean(self):
        for director in self.directors:
            director.kill(quiet=True)
            if os.path.exists(director.quorums):
                os.unlink(director.quorums)
        super().clean()

    # -- helpers

    def until(self, what, about, step=0.1):
        """Waits until `what()` is true, looking every so often; returns how many seconds that took."""
        start = time.monotonic()
        wait_for(what, 20, step, about)
        return time.monotonic() - start

    def servers(self, expected, service=f"{VIP}:80", directors=None):
        """Waits until a service has just these servers, by name and with these weights, in the directors."""
        expected = {WEBS[name]: weight for name, weight in expected.items()}
        for director in directors or self.directors:
            self.until(lambda d=director: d.services().get(service) == expected,
                       lambda d=director: f"{service} of {d.name} to have {expected}; it has {d.services()}")

    def active(self):
        """(the director that has the virtual addresses, the other one)."""
        one, other = self.directors
        return (one, other) if one.has(VIP) else (other, one)

    def fetch(self, count, url=f"http://{VIP}/"):
        """Requests, each on a connection of its own: [(server's name, its peer)]."""
        told = do(self.client, f"curl -sSm20 -H 'Connection: close' {url}?[1-{count}]").split()
        answers = list(zip(told[::2], told[1::2]))
        for name, peer in answers:
            say(f"    {name} saw {peer}")
        return answers

    def served(self, count, names, url=f"http://{VIP}/", director=None):
        """Requests, which these servers answer, each of them, and which come from the director's local addresses."""
        answers = self.fetch(count, url)
        self.steps.check({name for name, _ in answers} == set(names), f"served by {' and '.join(names)}")
        peers = {peer.split(":")[0] for _, peer in answers}
        mine = set((director or self.active()[0]).laddrs) if RLVS else {CLIENT}
        whose = "local addresses of the director" if RLVS else "the client"
        self.steps.check(peers <= mine, f"the servers saw {' and '.join(sorted(peers))}: {whose}")
        return answers

    def listing(self, director, service=""):
        """Shows what the balancer lists."""
        return do(director.namespace, f"{ADM} -Ln {service}".strip(), echo=True)

    def web(self, name):
        """The namespace of a web server."""
        return self.webs[list(WEBS).index(name)]

    def start_nginx(self, name):
        """The web server is started again."""
        self.nginx_again(name, self.web(name))

    def stop_nginx(self, name):
        """The web server ends."""
        do(self.web(name), f"nginx -p {self.dir}/{name} -c nginx.conf -e error.log -s stop")

    def put(self, name, file, text):
        """Writes a file that the web server serves."""
        do(self.web(name), f"echo {text} >{self.dir}/{name}/put/{file}", shell=True)

    def remove(self, name, file):
        """Removes a file that the web server serves."""
        do(self.web(name), f"rm {self.dir}/{name}/put/{file}")

    # -- the steps

    def build(self):
        """Namespaces, wires, addresses."""
        self.steps.step("Namespaces, wires and addresses")
        self.client, self.switch, one, two, *self.webs = self.make("client", "switch", "director1", "director2", *WEBS)
        self.directors = [Director(1, one, self.dir), Director(2, two, self.dir)]
        wires = [("wan", "client", self.client, "eth0")]
        wires += [(bridge, f"{director.name[0]}{director.number}-{bridge}", director.namespace, bridge)
                  for director in self.directors for bridge in ("wan", "lan")]
        wires += [("lan", name, namespace, "eth0") for name, namespace in zip(WEBS, self.webs)]
        self.ip(self.switch, "link add wan type bridge", "link add lan type bridge",
                "link set wan up", "link set lan up",
                *(line for bridge, near, namespace, far in wires for line in (
                    f"link add {near} type veth peer name {far} netns {namespace.name}",
                    f"link set {near} master {bridge} up")))
        self.ip(self.client, "link set eth0 up", f"addr add {CLIENT}/24 dev eth0")
        for director in self.directors:
            self.ip(director.namespace, "link set lo up", "link set wan up", "link set lan up",
                    f"addr add 198.51.100.1{director.number}/24 dev wan",
                    f"addr add 10.0.0.2{director.number}/24 dev lan",
                    *(f"addr add {laddr}/24 dev lan" for laddr in director.laddrs if RLVS))
            do(director.namespace, "sysctl -qw net.ipv4.ip_forward=1")
        for namespace, addr in zip(self.webs, WEBS.values()):
            self.ip(namespace, "link set lo up", "link set eth0 up", f"addr add {addr}/24 dev eth0",
                    *([] if RLVS else [f"route add default via {GATEWAY}"]))

    def start_servers(self):
        """nginx on each server, what the checks ask for, and a file to serve."""
        self.steps.step("Real web servers: three, and one that says sorry")
        self.directories(*WEBS, *(director.name for director in self.directors))
        large_file(f"{self.files}/large", SIZE)
        for name, namespace in zip(WEBS, self.webs):
            self.nginx(namespace, name)
        self.put("web2", "health", "fine")
        self.put("web3", "weight", "1")
        do(self.directors[0].namespace, "curl -sSm20 http://10.0.0.1[1-4]/", echo=True)

    def start_keepalived(self):
        """The module, keepalived in both directors, and who is master."""
        self.steps.step("Two directors under keepalived")
        show("root", f"modprobe {MODULE}")
        kernel.load(MODULE)
        write_scripts()
        for director in self.directors:
            director.configure(3, 2)
        do(None, f"cat {ETC}/quorum", echo=True)
        say("  Of its configuration, the first service:")
        do(None, f"sed -n '/^virtual_server {VIP}/,/^}}/p' {self.directors[0].config}", echo=True)
        for director in self.directors:
            director.mark()
            director.start()
        self.ready()
        self.until(lambda: self.directors[0].has(VIP), "director1 to become master")
        self.steps.check(not self.directors[1].has(VIP), f"director1 is master and has {VIP}; director2 has not")
        self.listing(self.directors[0])

    def ready(self, directors=None):
        """Waits until keepalived has set up all services."""
        for director in directors or self.directors:
            self.servers({"web1": director.weights[0], "web2": director.weights[1], "web3": 1}, directors=[director])
            for service in PAIRED:
                self.servers({"web1": 1, "web2": 1}, service, [director])
            self.bound(director)

    def bound(self, director):
        """Waits until all services have their local addresses."""
        if RLVS:
            want = len(director.services()) * len(director.laddrs)
            self.until(lambda: do(director.namespace, "rlvsadm -G -n", quiet=True).count("-> 10.0.0.1") == want,
                       f"{want} local addresses in {director.name}", 0.5)

    def spread(self):
        """Requests by weight; the service is FullNAT though keepalived says NAT."""
        self.steps.step("keepalived says NAT; with local addresses it is FullNAT" if RLVS else "NAT")
        answers = self.served(6, ["web1", "web2", "web3"])
        names = [name for name, _ in answers]
        self.steps.equal([names.count(name) for name in ("web1", "web2", "web3")], [3, 2, 1], "by weight")
        listing = self.listing(self.directors[0], f"-t {VIP}:80")
        method = "FullNat" if RLVS else "Masq"
        self.steps.equal(len(re.findall(rf"^  -> 10\.\S+ +{method} ", listing, re.M)), 3, f"listed as {method}")
        if RLVS:
            do(self.directors[0].namespace, f"rlvsadm -G -n -t {VIP}:80", echo=True)
            routes = do(self.web("web1"), "ip route", echo=True)
            self.steps.check("default" not in routes, "the servers have no route to the client")

    def health(self):
        """Three kinds of checks take servers out and bring them back."""
        self.steps.step("Health checks take servers out and bring them back")
        full = {"web1": 3, "web2": 2, "web3": 1}
        for kind, name, weight, sick, well in (
                ("TCP_CHECK", "web1", 3, lambda: self.stop_nginx("web1"), lambda: self.start_nginx("web1")),
                ("HTTP_GET", "web2", 2, lambda: self.remove("web2", "health"),
                 lambda: self.put("web2", "health", "fine")),
                ("MISC_CHECK", "web3", 4, lambda: self.remove("web3", "weight"),
                 lambda: self.put("web3", "weight", "4"))):
            sick()
            del full[name]
            self.servers(full)
            self.steps.check(True, f"{kind}: {name} is out, in both directors")
            self.served(4, list(full))
            well()
            full[name] = weight
            self.servers(full)
            self.steps.check(True, f"{kind}: {name} is back")
        self.listing(self.directors[0], f"-t {VIP}:80")
        self.steps.check(True, "misc_dynamic: web3 has asked for weight 4, and has it")
        self.put("web3", "weight", "1")
        self.servers({**full, "web3": 1})

    def quorum(self):
        """Without quorum the sorry server stands in."""
        self.steps.step("Quorum: the servers' weights must add up to 2")
        for director in self.directors:
            open(director.quorums, "w", encoding="ascii").close()
        self.stop_nginx("web1")
        self.remove("web2", "health")
        self.servers({"sorry": 1})
        self.listing(self.directors[0], f"-t {VIP}:80")
        self.served(3, ["sorry"])
        self.put("web2", "health", "fine")
        self.start_nginx("web1")
        self.servers({"web1": 3, "web2": 2, "web3": 1})
        self.served(6, ["web1", "web2", "web3"])
        for director in self.directors:
            expected = [f"down {VIP}:80", f"up {VIP}:80"]
            self.until(lambda d=director: len(lines(d.quorums, f" {VIP}:80")) == 2, "quorum_up to run")
            self.steps.equal(lines(director.quorums, f" {VIP}:80"), expected,
                             f"{director.name} has run quorum_down and quorum_up")

    def group(self):
        """Several addresses, one set of servers; a sick one is kept with weight 0."""
        self.steps.step("virtual_server_group, and inhibit_on_failure")
        for url in PAIRED.values():
            self.served(2, ["web1", "web2"], url)
        self.stop_nginx("web2")
        for service in PAIRED:
            self.servers({"web1": 1, "web2": 0}, service)
        self.listing(self.active()[0])
        self.steps.check(True, "web2 has weight 0 in each of them")
        for url in PAIRED.values():
            self.served(2, ["web1"], url)
        self.start_nginx("web2")
        for service in PAIRED:
            self.servers({"web1": 1, "web2": 1}, service)
        self.steps.check(True, "web2 has its weight again")
        self.servers({"web1": 3, "web2": 2, "web3": 1})

    def marks(self):
        """One service for many ports, by firewall mark."""
        self.steps.step("virtual_server fwmark: a hundred and one ports, one service")
        for port in (80, 8000, 8099):
            self.served(2, ["web1", "web2"], f"http://{MARKED}:{port}/")
        told = do(self.client, f"curl -sSm20 http://{MARKED}:8100/ 2>&1", shell=True, may_fail=True, echo=True)
        self.steps.check("Failed to connect" in told, "a port that is not marked is not served")
        listing = self.listing(self.active()[0], f"-f {MARK}")
        method = "FullNat" if RLVS else "Masq"
        self.steps.equal(len(re.findall(rf"^  -> 10\.\S+ +{method} ", listing, re.M)), 2, f"listed as {method}")

    def reload(self):
        """A new configuration while a download goes on."""
        self.steps.step("Reload: other weights, while a slow download goes on")
        director = self.active()[0]
        with open(f"{self.files}/large", "rb") as file:
            true = hashlib.sha256(file.read()).hexdigest()
        show(self.client.name, f"curl -sS http://{VIP}/files/large | sha256sum &")
        with self.client, Download(f"http://{VIP}/files/large") as download:
            self.until(lambda: download.size > 0, "the first bytes")
            for weights in ((1, 4), (3, 2)):
                before = download.size
                director.configure(*weights)
                do(None, f"grep '^  *weight' {director.config}", echo=True)
                director.signal(signal.SIGHUP)
                self.servers({"web1": weights[0], "web2": weights[1], "web3": 1}, directors=[director])
                self.until(lambda b=before: download.size > b, "the download to go on")
                say(f"    {download.size >> 10} KiB have arrived")
            self.listing(director, f"-t {VIP}:80")
            self.steps.check(download.runs() and download.size < SIZE,
                             "two reloads have taken effect, and the download goes on")
            self.steps.check(director.has(VIP), f"{director.name} has kept the virtual addresses")
            self.steps.equal(download.finish(), true, "the SHA-256 of what arrived is the file's")
        self.bound(director)
        self.served(6, ["web1", "web2", "web3"])

    def fail_over(self):
        """A director dies, and comes back."""
        self.steps.step("A director dies: no power, no network")
        one, two = self.directors
        with self.client:
            old = socket.create_connection((VIP, 80), 20 * kernel.SLOW)
        self.steps.check(ask(old), "a connection stays open")
        start = time.monotonic()
        # Cables first: a dying program must not say goodbye.
        self.ip(self.switch, "link set d1-wan down", "link set d1-lan down")
        one.kill()
        answer = []
        self.until(lambda: answer.append(do(self.client, f"curl -sm1 http://{VIP}/", quiet=True, may_fail=True))
                   or answer[-1], "an answer from the other director")
        took = time.monotonic() - start
        limit = 10 * kernel.SLOW
        self.steps.check(took < limit, f"new connections are served after {took:.1f} s (asserted: {limit} s)")
        self.steps.check(two.has(VIP), f"director2 is master and has {VIP}")
        with old:
            self.steps.check(not ask(old), "the open connection was reset: its client knows at once")
        self.served(6, ["web1", "web2", "web3"], director=two)
        for url in PAIRED.values():
            self.served(2, ["web1", "web2"], url, two)
        say("  It is switched on again. It has lost the virtual addresses; what else is")
        say("  left of its former life, lvs_flush removes.")
        self.ip(one.namespace, "addr flush dev wan", f"addr add 198.51.100.1{one.number}/24 dev wan")
        self.ip(self.switch, "link set d1-wan up", "link set d1-lan up")
        one.start()
        self.ready([one])
        self.until(lambda: one.has(VIP) and not two.has(VIP), "director1 to be master again")
        self.steps.check(True, "director1, with the higher priority, is master again")
        self.served(6, ["web1", "web2", "web3"], director=one)

    def stop(self):
        """keepalived is stopped in good order; nothing stays configured, and nothing was complained about."""
        self.steps.step("keepalived is stopped: lvs_flush_on_stop")
        one, two = self.directors
        do(one.namespace, f"{ADM} -A -t 198.51.100.11:9999 -s rr")
        one.signal(signal.SIGTERM)
        took = self.until(lambda: two.has(VIP), "director2 to take over")
        self.steps.check(took < 10 * kernel.SLOW, f"it said goodbye: director2 took over after {took:.1f} s")
        self.served(6, ["web1", "web2", "web3"], director=two)
        self.steps.equal(one.keepalived.wait(), 0, "keepalived's exit status")
        listing = self.listing(one)
        self.steps.check("198.51.100" not in listing, "no service is left, not even the one made by hand")
        two.signal(signal.SIGTERM)
        self.steps.equal(two.keepalived.wait(), 0, "keepalived's exit status")
        for director in self.directors:
            self.steps.equal(director.complaints(), [], "complaints in the "
                             f"{len(director.said())} lines that keepalived has logged in {director.name}")

    def circle(self):
        """Two directors that are each other's servers."""
        self.pair = Circle(self)
        self.pair.show()

    def cure(self):
        """What a director got from the other one is not balanced again."""
        self.pair.cure()
