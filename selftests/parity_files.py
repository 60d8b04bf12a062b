# SPDX-License-Identifier: GPL-2.0
"""Scenarios of the parity tests: files, settings, who may do what, and what real connections look like."""

import os
import re
import subprocess

import genl
import kernel
import packet
import shapes
from packet import ACK, FIN, RST, SYN
from parity_box import IPVSADM, SETTINGS, Wire, write_setting

VIP, RS, CLIENT = "10.9.0.80", "10.2.0.11", "10.1.0.2"
FILES = ["ip_vs", "ip_vs_app", "ip_vs_conn", "ip_vs_conn_sync", "ip_vs_stats", "ip_vs_stats_percpu"]
# All that stands in that directory without a scheduler that brings its own.
NAMES = ["am_droprate", "amemthresh", "backup_only", "cache_bypass", "conn_lfactor", "conn_max", "conn_reuse_mode",
         "conntrack", "drop_entry", "drop_packet", "est_cpulist", "est_nice", "expire_nodest_conn",
         "expire_quiescent_template", "ignore_tunneled", "nat_icmp_send", "pmtu_disc", "run_estimation",
         "schedule_icmp", "secure_tcp", "sloppy_sctp", "sloppy_tcp", "snat_reroute", "svc_lfactor",
         "sync_persist_mode", "sync_ports", "sync_qlen_max", "sync_refresh_period", "sync_retries",
         "sync_sock_size", "sync_threshold", "sync_version"]


def files(box):
    """Which files there are, with which modes, and what stands in them while nothing is configured."""
    box.modes("/proc/thread-self/net", r"ip_vs.*")
    for name in FILES:
        box.proc(name)
    box.adm("-Lnc")
    box.adms(f"-A -t {VIP}:80 -s rr", "-A -f 1 -s rr -p 60")
    for name in FILES:
        box.proc(name)


def node_exporter(text):
    """Rows of /proc/net/ip_vs as node_exporter of Prometheus reads them; raises where it would fail or panic."""
    rows, service = [], None
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] in ("IP", "Prot") or words[1] == "RemoteAddress:Port":
            continue
        if words[0] in ("TCP", "UDP"):
            service = words[0], read_address(words[1])
        elif words[0] == "FWM":
            service = words[0], words[1]
        elif words[0] == "->" and len(words) >= 6:
            assert all(word.isdecimal() for word in words[3:6]), line
            rows.append((service, read_address(words[1]), *map(int, words[3:6])))
    return rows


def read_address(word):
    """An address of the one or the other of two lengths."""
    if len(word) == 13:
        return bytes.fromhex(word[:8]).hex(), int(word[9:], 16)
    assert len(word) == 46 and word[0] == "[" and word[40:42] == "]:", f"{word} is of length {len(word)}"
    return bytes.fromhex(word[1:40].replace(":", "")).hex(), int(word[42:], 16)


def monitored(box):
    """Every row that there can be is one that node_exporter can read, and says what was configured."""
    box.adms(f"-A -t {VIP}:80 -s wrr", f"-a -t {VIP}:80 -r {RS}:8080 -m -w 3", f"-a -t {VIP}:80 -r 10.2.0.12 -g",
             f"-A -u {VIP}:53 -s rr -o -p 60", f"-a -u {VIP}:53 -r {RS}:53 -i -w 65535", "-A -f 9 -s rr -p 60",
             f"-a -f 9 -r {RS} -m", "-A -t [2001:db8::80]:80 -s rr -p 60",
             "-a -t [2001:db8::80]:80 -r [2001:db8:2::11]:80 -m", "-a -t [2001:db8::80]:80 -r 10.2.0.11:80 -i")
    rows = sorted(map(repr, node_exporter(box.proc("ip_vs"))))
    box.step("rows", "\n".join(rows), None if len(rows) == 6 else f"6 destinations, not {rows}")
    lines = box.proc("ip_vs_stats").split("\n")
    words = lines[2].split()
    good = len(lines) >= 4 and len(words) == 5 and all(int(word, 16) >= 0 for word in words)
    box.step("totals", repr(words), None if good else f"not five numbers: {lines}")


def status(box):
    """The file of tables and estimators: its lines by name."""
    for _ in range(2):
        text = box.place.proc("ip_vs_status")
        # How full a table is, and how it is built, is each module's own.
        box.step("/proc/net/ip_vs_status", "\n".join(
            re.sub(r"-?\d+", "N", line) for line in text.splitlines() if "len-" not in line))
        box.adms(f"-A -t {VIP}:{80 + _} -s rr")


def settings(box):
    """The settings: names, modes, defaults."""
    box.modes(SETTINGS, r"(?!lblc|fullnat_).*")
    for name in NAMES:
        box.setting(name)


def settings_written(box):
    """Each setting takes what it should and refuses the rest."""
    odd = ("0", "1", "2", "3", "4", "-1", "64", "2147483647", "2147483648", "-2147483649", "x", "", "1 2", "0x10", "010",
           "1\n", " 5 ")
    for name in NAMES:
        for value in ODD.get(name, odd):
            box.setting(name, value, error=None)


ODD = {"sync_threshold": ("3 50", "0 0", "5 5", "6 5", "-1 5", "1 -1", "7", "0 1", "1 0", "1 2 3", "x", "",
                          "2147483647 0"),
       "est_cpulist": ("0", "1", "0-1", "7", "x", "", "0,1", "-1", "0-1\n"),
       "sync_ports": ("1", "2", "3", "4", "8", "64", "128", "65536", "0", "-1", "x"),
       "sync_qlen_max": ("0", "1", "100", "-1", "18446744073709551615", "18446744073709551616", "x", ""),
       "sync_refresh_period": ("0", "1", "10", "-1", "8589934", "8589935", "x")}


def settings_apart(box):
    """A setting of one namespace is not another's."""
    box.setting("expire_nodest_conn", "1")
    box.setting("conn_max", "1000")
    outer, box.place = box.place, type(box.place)()
    try:
        for name in ("expire_nodest_conn", "conn_max", "sync_threshold"):
            box.setting(name)
    finally:
        box.place.close()
        box.place = outer
    box.setting("expire_nodest_conn")


def commands(box):
    """Each command with nothing but its header, as whoever this is; what answers."""
    def ask():
        found = []
        try:
            with Wire() as wire:
                for command in shapes.COMMANDS.values():
                    for flags in (genl.REQUEST | genl.ACK, genl.REQUEST | genl.DUMP):
                        told = [wire.told(message).split("\n")[0] for message in
                                wire.exchange(command, shapes.service(VIP) + shapes.dest(RS), flags)]
                        found.append(f"command {command} flags {flags:#x}: {told}")
        except (OSError, RuntimeError) as error:
            found.append(repr(error))
        return "\n".join(found)
    return ask


def run_as(words):
    """ipvsadm as whoever this is."""
    def action():
        done = subprocess.run([IPVSADM, *words.split()], capture_output=True, text=True, check=False,
                              timeout=60 * kernel.SLOW, env={"LC_ALL": "C", "PATH": "/sbin"})
        return f"status {done.returncode}\n{done.stdout}{done.stderr}"
    return action


def read_as():
    """Every file as whoever this is."""
    told = []
    for name in FILES + ["ip_vs_status"]:
        try:
            with open(f"/proc/thread-self/net/{name}", encoding="ascii") as file:
                told.append(f"{name}: {len(file.read()) > 0}")
        except OSError as error:
            told.append(f"{name}: {error.strerror}")
    return "\n".join(told)


def settings_as():
    """Every setting's mode, and what happens when its own value is written to it."""
    told = []
    for name in NAMES:
        stat = os.stat(f"{SETTINGS}/{name}")
        value = write_setting(name)[1]
        told.append(f"{name}: {stat.st_mode:o} {stat.st_uid} {value!r} {write_setting(name, value)}")
    return "\n".join(told)


def strangers(box):
    """Who has no CAP_NET_ADMIN, or has it in a user namespace only, is refused by every command."""
    box.adms(f"-A -t {VIP}:80 -s rr")
    for who, how in (("nobody", {"user": 65534}), ("root of a user namespace", {"namespace": True})):
        for words in ("-Ln", f"-A -t {VIP}:81 -s rr", "-C", "-Lnc"):
            box.as_user(f"{who}: ipvsadm {words}", run_as(words), **how)
        box.as_user(f"{who}: every command", commands(box), **how)
        box.as_user(f"{who}: files", read_as, **how)
        box.as_user(f"{who}: settings", settings_as, **how)
    box.as_user("root of a user namespace: conn_max", lambda: [
        write_setting("conn_max", value) for value in ("5", "6", "1073741824", "1073741825", "-1")], namespace=True)
    box.proc("ip_vs")


class Talk:
    """One TCP connection through the box, packet by packet."""

    def __init__(self, box, client, port, vport=80, server=(RS, 8080)):
        self.box, self.client, self.port, self.vport, self.server = box, client, port, vport, server

    def up(self, flags, label, **how):
        """From the client."""
        return self.box.packet(f"{self.port} {label}", packet.ip(self.client, VIP, packet.TCP, packet.tcp(
            self.client, VIP, self.port, self.vport, flags, **how)))

    def down(self, flags, label, **how):
        """From the server."""
        server, port = self.server
        return self.box.packet(f"{self.port} {label}", packet.ip(server, self.client, packet.TCP, packet.tcp(
            server, self.client, port, self.port, flags, **how)))


def look(box):
    """What tells of connections."""
    box.proc("ip_vs_conn")
    box.proc("ip_vs_conn_sync")
    box.adm("-Lnc")
    box.adm("-Ln")


def connections(box):
    """TCP and UDP through NAT: the packets to the byte, the states, the listings."""
    box.network()
    box.adms(f"-A -t {VIP}:80 -s rr", f"-a -t {VIP}:80 -r {RS}:8080 -m", f"-A -u {VIP}:53 -s rr",
             f"-a -u {VIP}:53 -r {RS}:5353 -m")
    one, two, three = (Talk(box, CLIENT, port) for port in (40001, 40002, 40003))
    one.up(SYN, "syn", options=packet.syn_options())
    look(box)
    one.down(SYN | ACK, "syn ack", ack=1001)
    one.up(ACK, "ack", seq=1001, ack=1001)
    look(box)
    one.up(ACK, "data", seq=1001, ack=1001, payload=b"request")
    one.down(ACK, "data back", seq=1001, ack=1008, payload=b"answer")
    two.up(SYN, "syn")
    two.down(RST | ACK, "refused", ack=1001)
    three.up(SYN, "syn")
    three.down(SYN | ACK, "syn ack", ack=1001)
    three.up(ACK, "ack", seq=1001, ack=1001)
    three.up(FIN | ACK, "fin", seq=1001, ack=1001)
    look(box)
    three.down(FIN | ACK, "fin back", seq=1001, ack=1002)
    three.up(ACK, "last ack", seq=1002, ack=1002)
    box.packet("udp", packet.ip(CLIENT, VIP, packet.UDP, packet.udp(CLIENT, VIP, 40004, 53, b"query")))
    box.packet("udp back", packet.ip(RS, CLIENT, packet.UDP, packet.udp(RS, CLIENT, 5353, 40004, b"reply")))
    look(box)
    box.counted(4, 9)
    for words in ("-Ln --stats --exact", f"-Ln -t {VIP}:80 --stats --exact", f"-Ln -u {VIP}:53 --stats"):
        box.adm(words)
    # The rates, which are the rest of that file, depend on when it is read.
    text = box.place.proc("ip_vs_stats")
    box.step("counters of ip_vs_stats", "\n".join(text.splitlines()[:5]))
    box.adm(f"-Z -t {VIP}:80")
    box.adm("-Ln --stats --exact")
    box.adm("-Z")
    box.adm("-Ln --stats --exact")
    box.proc("ip_vs_stats")


def refused_packets(box):
    """What is not balanced: no service, no server, the middle of a connection; who answers what."""
    box.network()
    box.adms(f"-A -t {VIP}:80 -s rr", f"-A -t {VIP}:81 -s rr", f"-a -t {VIP}:81 -r {RS}:8080 -m -w 0",
             f"-A -u {VIP}:53 -s rr", f"-A -t {VIP}:82 -s none", f"-a -t {VIP}:82 -r {RS}:8080 -m")
    for port, vport in ((41000, 80), (41001, 81), (41002, 79), (41003, 82)):
        Talk(box, CLIENT, port, vport).up(SYN, f"syn to {vport}")
    box.packet("udp", packet.ip(CLIENT, VIP, packet.UDP, packet.udp(CLIENT, VIP, 41004, 53, b"query")))
    box.adms(f"-a -t {VIP}:80 -r {RS}:8080 -m")
    stray = Talk(box, CLIENT, 41005)
    stray.up(ACK, "stray ack")
    stray.up(RST, "stray rst")
    stray.up(FIN | ACK, "stray fin")
    look(box)


def removed(box):
    """A destination goes while it has connections, and comes back: its counters and connections do too."""
    box.network()
    box.adms(f"-A -t {VIP}:80 -s rr", f"-a -t {VIP}:80 -r {RS}:8080 -m")
    one = Talk(box, CLIENT, 42001)
    one.up(SYN, "syn")
    one.down(SYN | ACK, "syn ack", ack=1001)
    one.up(ACK, "ack", seq=1001, ack=1001)
    box.counted(1, 2)
    box.adm(f"-d -t {VIP}:80 -r {RS}:8080")
    look(box)
    one.up(ACK, "to nobody", seq=1001, ack=1001, payload=b"x")
    box.adm(f"-a -t {VIP}:80 -r {RS}:8080 -m -w 5")
    look(box)
    box.adm("-Ln --stats --exact")
    one.up(ACK, "again", seq=1001, ack=1001, payload=b"x")
    one.down(ACK, "and back", seq=1001, ack=1002)
    # The service goes as a whole; connections stay until their time is over.
    box.adm("-C")
    look(box)
    one.up(ACK, "without a service", seq=1001, ack=1001, payload=b"x")
    box.adms(f"-A -t {VIP}:80 -s wrr", f"-a -t {VIP}:80 -r {RS}:8080 -m")
    look(box)
    one.up(ACK, "with another service", seq=1001, ack=1001, payload=b"x")


def edited(box):
    """Methods, weights and schedulers change under connections, which do not notice."""
    box.network()
    box.adms(f"-A -t {VIP}:80 -s rr", f"-a -t {VIP}:80 -r {RS}:8080 -m")
    one = Talk(box, CLIENT, 43001)
    one.up(SYN, "syn")
    one.down(SYN | ACK, "syn ack", ack=1001)
    one.up(ACK, "ack", seq=1001, ack=1001)
    for words in (f"-E -t {VIP}:80 -s lc", f"-e -t {VIP}:80 -r {RS}:8080 -m -w 0", f"-E -t {VIP}:80 -s none",
                  f"-E -t {VIP}:80 -s wlc -b flag-1", f"-e -t {VIP}:80 -r {RS}:8080 -m -w 2 -x 5"):
        box.adm(words)
        one.up(ACK, f"after {words}", seq=1001, ack=1001, payload=b"x")
        one.down(ACK, f"back after {words}", seq=1001, ack=1002)
    look(box)


def marked(box):
    """A firewall mark finds the service; the address stays the packet's own."""
    box.network()
    box.place.run("nft", "-f", "-", stdin="""
        table ip t {
            chain c {
                type filter hook prerouting priority -150
                ip daddr 10.9.0.80 tcp dport { 80, 81 } meta mark set 7
            }
        }""")
    box.adms("-A -f 7 -s rr", f"-a -f 7 -r {RS}:0 -m")
    for port, vport in ((44001, 80), (44002, 81), (44003, 82)):
        one = Talk(box, CLIENT, port, vport, (RS, vport))
        one.up(SYN, f"syn to {vport}")
        one.down(SYN | ACK, "syn ack", ack=1001)
        one.up(ACK, "ack", seq=1001, ack=1001)
    # The mark goes before the address.
    box.adms(f"-A -t {VIP}:80 -s rr", f"-a -t {VIP}:80 -r 10.2.0.12:8080 -m")
    Talk(box, CLIENT, 44004, 80).up(SYN, "syn to 80, too")
    box.adm("-e -f 7 -r 10.2.0.11:0 -m -w 0")
    Talk(box, CLIENT, 44005, 80).up(SYN, "syn to 80, no server")
    box.adm("-d -f 7 -r 10.2.0.11:0")
    box.adm(f"-a -f 7 -r {RS}:9090 -m")
    Talk(box, CLIENT, 44006, 81).up(SYN, "syn to 81, other port")
    look(box)


SCENARIOS = [files, monitored, status, settings, settings_written, settings_apart, strangers, connections,
             refused_packets, removed, edited, marked]
