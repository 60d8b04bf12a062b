# SPDX-License-Identifier: GPL-2.0
"""Schedulers: to which server each new connection goes, exactly."""

import select
import time

import kernel
import wire
from lib import GHOST_SERVERS, SERVERS, VIP, Flow, each, each_method, need_rlvs, wait_for


class Servers:
    """Three real servers behind one service, and connections that stay open."""

    def __init__(self, world, sched, weights, method="nat"):
        self.world = world
        self.listeners = [world.listen(addr, 8080) for addr in SERVERS]
        self.port = world.service(method, [(addr, 8080, weight)
                                           for addr, weight in zip(SERVERS, weights)], sched=sched)
        self.held = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for listener in self.listeners:
            listener.close()
        for _, ours, theirs in self.held:
            ours.close()
            theirs.close()

    def open(self, count):
        """Opens connections; returns the index of the server that each has got."""
        order = []
        for _ in range(count):
            ours = self.world.connect(self.port)
            ready, _, _ = select.select(self.listeners, [], [], 5 * kernel.SLOW)
            listener, = ready
            theirs, _ = listener.accept()
            index = self.listeners.index(listener)
            self.held.append((index, ours, theirs))
            order.append(index)
        return order

    def close(self, index):
        """Closes the connections of one server and waits until they are counted as closed."""
        for held in [held for held in self.held if held[0] == index]:
            held[1].close()
            held[2].close()
            self.held.remove(held)
        wait_for(lambda: self.world.dests(self.port)[index].active == 0)

    def weight(self, index, weight):
        """Sets a server's weight."""
        how = self.world.dests(self.port)[index].forward
        assert how == "Masq"
        self.world.adm(f"-e -t {VIP}:{self.port} -r {SERVERS[index]}:8080 -m -w {weight}")


def counts(order):
    """How many of the connections each server has got."""
    return [order.count(index) for index in range(3)]


@each_method
def test_rr(world, method):
    """Round robin takes one after the other, whatever the weights."""
    with Servers(world, "rr", [1, 5, 100], method) as servers:
        order = servers.open(9)
        assert all(len(set(order[n:n + 3])) == 3 for n in range(7)), order


@each_method
def test_wrr(world, method):
    """Weighted round robin gives 3:2:1 in each six connections, the heavy server not all at once."""
    with Servers(world, "wrr", [3, 2, 1], method) as servers:
        order = servers.open(12)
        assert counts(order[:6]) == [3, 2, 1] and counts(order[6:]) == [3, 2, 1], order


def test_wrr_common_divisor(world):
    """Weights count by their ratio."""
    with Servers(world, "wrr", [200, 0, 100]) as servers:
        order = servers.open(9)
        assert counts(order) == [6, 0, 3], order


@each_method
def test_lc(world, method):
    """Least connection fills up evenly, and fills up first what has become empty."""
    with Servers(world, "lc", [1, 7, 1], method) as servers:
        assert counts(servers.open(9)) == [3, 3, 3]
        servers.close(1)
        assert counts(servers.open(3)) == [0, 3, 0], "the empty server comes first"
        assert counts(servers.open(3)) == [1, 1, 1]


@each_method
def test_wlc(world, method):
    """Weighted least connection holds the ratio of the open connections."""
    with Servers(world, "wlc", [4, 1, 1], method) as servers:
        assert counts(servers.open(12)) == [8, 2, 2]
        servers.close(0)
        assert counts(servers.open(6)) == [6, 0, 0], "the empty server comes first"


@each("rr", "wrr", "lc", "wlc")
def test_weight_zero(world, sched):
    """A server of weight 0 gets no new connection, keeps its old ones, and comes back."""
    with Servers(world, sched, [1, 1, 1]) as servers:
        assert counts(servers.open(3)) == [1, 1, 1]
        servers.weight(1, 0)
        assert servers.open(6).count(1) == 0
        _, ours, theirs = next(held for held in servers.held if held[0] == 1)
        ours.sendall(b"still there?")
        assert theirs.recv(100) == b"still there?"
        servers.weight(1, 1)
        assert 1 in servers.open(6)


def refused(world, port):
    """Asserts that a client is refused at once, and nothing is left of it."""
    try:
        world.connect(port)
    except ConnectionRefusedError:
        pass
    else:
        raise AssertionError("somebody answered")
    assert not world.conns(port)


@each("rr", "wrr", "lc", "wlc", "sed", "nq", "fo", "ovf", "dh", "sh", "mh", "twos", "lblc", "lblcr")
def test_no_server(world, sched):
    """Without a server to take it, a connection is refused at once."""
    with Servers(world, sched, [0, 0, 0]) as servers:
        refused(world, servers.port)


def test_service_without_destinations(world):
    """A service that has no destination yet refuses, too."""
    refused(world, world.service("nat", []))


@each("rr", "wrr", "lc", "wlc")
def test_udp(world, sched):
    """Each UDP flow is scheduled once and then stays."""
    port = world.service("nat", [(addr, 53) for addr in GHOST_SERVERS[:3]], proto="udp", sched=sched)
    got = []
    for _ in range(6):
        with Flow(world, port, "udp") as flow:
            first = flow.request(wire.udp_request(flow, b"1")).dst
            for data in (b"2", b"3"):
                assert flow.request(wire.udp_request(flow, data)).dst == first
            got.append(first)
    assert sorted(got) == sorted(GHOST_SERVERS[:3] * 2), got


def test_twos(world):
    """Of two servers drawn by lot the less loaded one is taken: all are used, none is for the most part."""
    with Servers(world, "twos", [1, 1, 1]) as servers:
        found = counts(servers.open(24))
        assert min(found) >= 1 and max(found) <= 14, found
        servers.weight(1, 0)
        assert servers.open(12).count(1) == 0


def test_locality(world):
    """With lblc an address stays with its server while others have less to do, until nobody asks for it any more."""
    need_rlvs()
    port = world.service("nat", [(addr, 53, 10) for addr in GHOST_SERVERS[:2]], proto="udp", sched="lblc")

    def server():
        with Flow(world, port, "udp") as flow:
            return flow.request(wire.udp_request(flow, b"1")).dst
    first = server()
    assert [server() for _ in range(3)] == [first] * 3
    with world.settings(lblc_expiration=1):
        # As long as it takes to come by, which is every two seconds.
        time.sleep(5)
        assert server() != first


@each(86400, 6)
def test_replication(world, expiration):
    """With lblcr an address has a second server once its own is too busy, and after a while only the calmer one."""
    need_rlvs()
    with Servers(world, "lblcr", [2, 4, 0]) as servers, world.settings(lblcr_expiration=expiration):
        assert servers.open(6) == [1] * 5 + [0], "five are too many for a weight of 4"
        if expiration == 6:
            time.sleep(5)
        assert servers.open(1) == [0], "the less loaded one"
        if expiration == 6:
            # Asked for within six seconds, but with the same servers for more than that.
            time.sleep(3.5)
        servers.close(1)
        assert servers.open(1) == [0 if expiration == 6 else 1]


def test_none(world):
    """With none nobody gets a connection, whatever servers there are, until there is a scheduler."""
    with Servers(world, "none", [1, 1, 1]) as servers:
        refused(world, servers.port)
        world.adm(f"-E -t {VIP}:{servers.port} -s rr")
        assert counts(servers.open(3)) == [1, 1, 1]


def test_change_of_scheduler(world):
    """A service can change its scheduler; the next connection follows the new one."""
    with Servers(world, "rr", [3, 2, 1]) as servers:
        assert counts(servers.open(3)) == [1, 1, 1]
        world.adm(f"-E -t {VIP}:{servers.port} -s wrr")
        assert counts(servers.open(6)) == [3, 2, 1]


def test_threshold(world):
    """A server above its upper threshold is passed over until it is below the lower one."""
    with Servers(world, "rr", [1, 1, 1]) as servers:
        world.adm(f"-e -t {VIP}:{servers.port} -r {SERVERS[0]}:8080 -m -w 1 -x 2 -y 1")
        order = servers.open(9)
        assert counts(order)[0] == 2, order


@each((1, 1), (0, 3))
def test_lower_threshold(world, low_and_least):
    """It comes back once it has fewer connections than its lower threshold; none is three quarters of the upper."""
    low, least = low_and_least
    port = world.service("nat", [(addr, 53) for addr in GHOST_SERVERS[:2]], proto="udp")
    world.adm(f"-e -u {VIP}:{port} -r {GHOST_SERVERS[0]}:53 -m -w 1 -x 4 -y {low}")

    with Flow(world, port, "udp") as flow:
        def ask(ports):
            """Which of the clients' ports have got the first server."""
            chosen = []
            for flow.client in [(flow.client[0], number) for number in ports]:
                if flow.request(wire.udp_request(flow, b"x")).dst == GHOST_SERVERS[0]:
                    chosen.append(flow.client[1])
            return chosen

        def only(stay, others):
            """Lets the others of the connections to the first server end."""
            def ended():
                assert ask(stay) == stay
                return sum(world.dests(port, "UDP")[0][3:]) == len(stay)
            assert ask(stay) == stay
            # So long that who waits gets around to ask in between.
            world.udp_timeout(6 if kernel.DEBUG else 2)
            ask(others)
            wait_for(ended, 20, 0.2, "the other connections to end")
            world.udp_timeout(300)
            assert ask(stay) == stay
        try:
            first = ask([world.port() for _ in range(12)])
            assert len(first) == 4
            only(first[:least], first[least:])
            assert not ask([world.port() for _ in range(2)]), "it has as many as the threshold"
            only(first[:least - 1], first[least - 1:least])
            assert ask([world.port() for _ in range(2)]), "it has fewer"
        finally:
            world.udp_timeout(300)
