# SPDX-License-Identifier: GPL-2.0
"""Scenarios of the parity tests: what operators type."""

import shapes

VIP, VIP6 = "10.9.0.80", "[2001:db8:9::80]"


def shown(box, *, counts=True):
    """Everything that tells of the configuration."""
    box.adm("-Ln")
    box.adm("-Sn")
    box.proc("ip_vs")
    box.dump("GET_SERVICE")
    if counts:
        for words in ("-Ln --stats", "-Ln --rate", "-Ln --thresholds", "-Ln --persistent-conn"):
            box.adm(words)


def services_v4(box):
    """Services by IPv4 address: added, listed in each way, edited, deleted, cleared."""
    box.adm("-Ln")
    box.proc("ip_vs")
    box.adms(f"-A -t {VIP}:80 -s wrr", f"-A -u {VIP}:53 -s rr", f"-A -t {VIP}:443 -s lc",
             f"-A --sctp-service {VIP}:3868 -s wlc",
             f"-a -t {VIP}:80 -r 10.2.0.11:8080 -m -w 3", f"-a -t {VIP}:80 -r 10.2.0.12 -m",
             f"-a -t {VIP}:80 -r 10.2.0.13:8080 -m -w 0", f"-a -u {VIP}:53 -r 10.2.0.11:53 -m -w 65535",
             f"-a --sctp-service {VIP}:3868 -r 10.2.0.11:3868 -m")
    shown(box)
    for words in (f"-Ln -t {VIP}:80", f"-Ln -u {VIP}:53 --stats --exact", f"-Ln -t {VIP}:80 --rate", "-L", "-l -n",
                  "--list --numeric --nosort -t 10.9.0.80:80"):
        box.adm(words)
    for port in (80, 443):
        box.dump("GET_DEST", shapes.key(VIP, port), label=f"of {port}")
    box.adms(f"-E -t {VIP}:80 -s rr", f"-e -t {VIP}:80 -r 10.2.0.13:8080 -m -w 7",
             f"-e -t {VIP}:80 -r 10.2.0.12 -m -w 2", f"-d -t {VIP}:80 -r 10.2.0.11:8080", f"-D -t {VIP}:443")
    shown(box, counts=False)
    box.adms("-C")
    shown(box, counts=False)


def services_v6(box):
    """Services by IPv6 address."""
    box.adms(f"-A -t {VIP6}:80 -s wrr", f"-A -u {VIP6}:53 -s rr", f"-A --sctp-service {VIP6}:3868 -s wlc",
             f"-a -t {VIP6}:80 -r [2001:db8:2::11]:8080 -m -w 3", f"-a -t {VIP6}:80 -r [2001:db8:2::12]:80 -g",
             f"-a -t {VIP6}:80 -r [2001:db8:2::13]:80 -i", f"-a -u {VIP6}:53 -r [fd00::1]:53 -m")
    shown(box)
    box.adm(f"-Ln -t {VIP6}:80")
    box.adms(f"-E -t {VIP6}:80 -s lc -p 60", f"-e -t {VIP6}:80 -r [2001:db8:2::12]:80 -g -w 9",
             f"-d -t {VIP6}:80 -r [2001:db8:2::11]:8080")
    shown(box, counts=False)
    box.adm(f"-a -t {VIP6}:80 -r [fe80::1]:80 -m", 255)
    box.adm(f"-a -t {VIP6}:80 -r [ff02::1]:80 -m", 255)
    box.adm(f"-a -t {VIP6}:80 -r [::]:80 -m", 255)
    box.adm(f"-a -t {VIP6}:80 -r [::1]:80 -m")
    box.adms(f"-D -t {VIP6}:80", "-C")
    shown(box, counts=False)


def marks(box):
    """Services by firewall mark, of both families; the same mark may stand for one of each."""
    box.adms("-A -f 1 -s wrr", "-A -f 1 -6 -s rr", "-A -f 4294967295 -s lc", "-A -f 7 -s rr -p 120 -M 255.255.255.0",
             "-A -f 8 -6 -s rr -p 120 -M 64",
             "-a -f 1 -r 10.2.0.11 -m -w 3", "-a -f 1 -r 10.2.0.12:0 -m", "-a -f 1 -r 10.2.0.13:8080 -g",
             "-a -f 1 -6 -r [2001:db8:2::11]:0 -m", "-a -f 7 -r 10.2.0.11 -i")
    shown(box)
    for words in ("-Ln -f 1", "-Ln -f 1 -6", "-Z -f 1", "-E -f 1 -s lc", "-d -f 1 -r 10.2.0.12", "-D -f 1 -6"):
        box.adm(words)
    shown(box, counts=False)
    for words, status, says in (
            ("-A -f 1 -s rr", 255, "already exists"), ("-D -f 2", 255, "No such service"),
            ("-A -f 0 -s rr", 2, ""), ("-a -f 9 -r 10.2.0.11 -m", 255, "Service not defined"),
            ("-a -f 1 -r 10.2.0.11 -m", 255, "Destination already exists"),
            ("-A -f 4294967296 -s rr", 2, ""), ("-A -f x -s rr", 2, "")):
        box.adm(words, status, says)


def persistence(box):
    """Persistent services with netmasks and prefixes, and those of one packet."""
    box.adms(f"-A -t {VIP}:80 -s rr -p", f"-A -t {VIP}:81 -s rr -p 60", f"-A -t {VIP}:82 -s rr -p 2678400",
             f"-A -t {VIP}:83 -s rr -p 60 -M 255.255.255.0", f"-A -t {VIP}:84 -s rr -p 60 -M 255.255.255.255",
             f"-A -u {VIP}:85 -s rr -o", f"-A -u {VIP}:86 -s wrr --ops -p 30", "-A -f 5 -s rr -o",
             f"-A -t {VIP6}:80 -s rr -p 60 -M 64", f"-A -t {VIP6}:81 -s rr -p 60 -M 128",
             f"-A -t {VIP6}:82 -s rr -p 60", f"-A -u {VIP6}:83 -s rr -o", "-A -f 6 -6 -s rr -o -p 77")
    shown(box)
    box.adms(f"-E -t {VIP}:81 -s rr", f"-E -t {VIP}:80 -s rr -p 1 -M 255.0.0.0", f"-E -u {VIP}:85 -s rr",
             f"-E -t {VIP6}:80 -s rr -p 60 -M 1")
    shown(box, counts=False)
    for words, status in ((f"-A -t {VIP}:90 -s rr -p 0", 2), (f"-A -t {VIP}:90 -s rr -p 2678401", 2),
                          (f"-A -t {VIP}:92 -s rr -p 60 -M 0.0.0.0", 0), (f"-A -t {VIP6}:90 -s rr -p 60 -M 0", 2),
                          (f"-A -t {VIP6}:90 -s rr -p 60 -M 129", 2), (f"-A -t {VIP}:91 -s rr -p 60 -M 24", 0),
                          (f"-A -t {VIP}:90 -s rr -o", 2)):
        box.adm(words, status)


def port_zero(box):
    """Port 0 is for persistent services and for marks; a scheduler called none schedules nothing."""
    box.adm(f"-A -t {VIP}:0 -s rr", 2)
    box.adms(f"-A -t {VIP}:0 -s rr -p", f"-a -t {VIP}:0 -r 10.2.0.11:0 -m", f"-a -t {VIP}:0 -r 10.2.0.12 -g",
             f"-A -t {VIP6}:0 -s rr -p", f"-A -t {VIP}:80 -s none", f"-a -t {VIP}:80 -r 10.2.0.11 -m",
             f"-A -u {VIP}:80 -s rr", f"-E -u {VIP}:80 -s none")
    shown(box)
    box.adms(f"-E -t {VIP}:80 -s rr")
    shown(box, counts=False)


def flags(box):
    """What schedulers may be told by flags."""
    box.adms(f"-A -t {VIP}:80 -s rr -b flag-1", f"-A -t {VIP}:81 -s rr -b flag-2,flag-3",
             f"-A -t {VIP}:82 -s wrr -b flag-1,flag-2,flag-3 -p 60", f"-A -t {VIP6}:80 -s rr -b flag-3",
             "-A -f 3 -s rr --sched-flags flag-2")
    shown(box)
    box.adms(f"-E -t {VIP}:82 -s wrr", f"-E -t {VIP}:80 -s rr -b flag-2")
    shown(box, counts=False)
    box.adm(f"-A -t {VIP}:83 -s rr -b flag-4", 2)
    box.adm(f"-A -t {VIP}:83 -s rr -b sh-port", 2)


def methods(box):
    """How a destination is reached, and what a tunnel is made of."""
    box.adms(f"-A -t {VIP}:80 -s rr", f"-a -t {VIP}:80 -r 10.2.0.1:80 -g", f"-a -t {VIP}:80 -r 10.2.0.2:80 -i",
             f"-a -t {VIP}:80 -r 10.2.0.3:80 -m", f"-a -t {VIP}:80 -r 10.2.0.4:80",
             f"-a -t {VIP}:80 -r 10.2.0.5:80 -i --tun-type ipip",
             f"-a -t {VIP}:80 -r 10.2.0.6:80 -i --tun-type gue --tun-port 6080",
             f"-a -t {VIP}:80 -r 10.2.0.7:80 -i --tun-type gue --tun-port 6080 --tun-csum",
             f"-a -t {VIP}:80 -r 10.2.0.8:80 -i --tun-type gue --tun-port 6080 --tun-remcsum",
             f"-a -t {VIP}:80 -r 10.2.0.9:80 -i --tun-type gre --tun-nocsum",
             f"-a -t {VIP}:80 -r 10.2.0.10:80 -i --tun-type gre --tun-csum", f"-a -t {VIP}:80 -r 127.0.0.1:80 -m",
             # A direct route cannot change a port, and nobody minds.
             f"-a -t {VIP}:80 -r 10.2.0.11:8080 -g", f"-a -t {VIP}:80 -r 10.2.0.12:8080 -i")
    shown(box)
    box.adm("-Ln --tun-info")
    box.adm(f"-Ln -t {VIP}:80 --tun-info")
    box.adms(f"-e -t {VIP}:80 -r 10.2.0.1:80 -m", f"-e -t {VIP}:80 -r 10.2.0.3:80 -g",
             f"-e -t {VIP}:80 -r 10.2.0.6:80 -i", f"-e -t {VIP}:80 -r 10.2.0.2:80 -i --tun-type gue --tun-port 99")
    shown(box, counts=False)
    box.adm("-Ln --tun-info")
    for words, status in (
            (f"-a -t {VIP}:80 -r 10.2.0.20:80 -i --tun-type gue", 2),
            (f"-a -t {VIP}:80 -r 10.2.0.20:80 -i --tun-type ipip --tun-port 80", 2),
            (f"-a -t {VIP}:80 -r 10.2.0.20:80 -i --tun-type gre --tun-remcsum", 2),
            (f"-a -t {VIP}:80 -r 10.2.0.20:80 -m --tun-type gue --tun-port 6080", 2),
            (f"-a -t {VIP}:80 -r 10.2.0.20:80 -i --tun-type vxlan", 2), (f"-a -t {VIP}:80 -r 10.2.0.20:80 -g -m", 2)):
        box.adm(words, status)


def thresholds(box):
    """Upper and lower thresholds, and weights at their ends."""
    box.adms(f"-A -t {VIP}:80 -s wrr", f"-a -t {VIP}:80 -r 10.2.0.1 -m -x 100 -y 50",
             f"-a -t {VIP}:80 -r 10.2.0.2 -m -x 100", f"-a -t {VIP}:80 -r 10.2.0.3 -m -x 65535 -y 65535 -w 65535",
             f"-a -t {VIP}:80 -r 10.2.0.4 -m -w 0", f"-a -t {VIP}:80 -r 10.2.0.5 -m -x 0 -y 0")
    shown(box)
    box.adms(f"-e -t {VIP}:80 -r 10.2.0.1 -m", f"-e -t {VIP}:80 -r 10.2.0.2 -m -x 5 -y 5 -w 3")
    shown(box)
    for words, status, says in (
            (f"-a -t {VIP}:80 -r 10.2.0.9 -m -x 1 -y 2", 255, "out of range"),
            (f"-e -t {VIP}:80 -r 10.2.0.1 -m -y 2", 255, "out of range"),
            (f"-a -t {VIP}:80 -r 10.2.0.9 -m -w -1", 2, "weight"),
            (f"-a -t {VIP}:80 -r 10.2.0.9 -m -w 2147483648", 2, "weight"),
            (f"-a -t {VIP}:80 -r 10.2.0.9 -m -x -1", 2, "threshold"),
            (f"-a -t {VIP}:80 -r 10.2.0.9 -m -x 99999999999", 2, "threshold")):
        box.adm(words, status, says)
    box.adm(f"-a -t {VIP}:80 -r 10.2.0.8 -m -w 2147483647")
    box.adm(f"-Ln -t {VIP}:80")


def mixed_families(box):
    """A tunnel, and nothing else, leads to servers of the other family."""
    box.adms(f"-A -t {VIP}:80 -s rr", f"-A -t {VIP6}:80 -s rr", f"-a -t {VIP}:80 -r [2001:db8:2::11]:80 -i",
             f"-a -t {VIP6}:80 -r 10.2.0.11:80 -i", f"-a -t {VIP6}:80 -r 10.2.0.12:80 -i --tun-type gue --tun-port 99",
             f"-a -t {VIP}:80 -r 10.2.0.11:80 -m")
    shown(box)
    for how in ("-m", "-g", ""):
        box.adm(f"-a -t {VIP}:80 -r [2001:db8:2::12]:80 {how}", 2)
        box.adm(f"-e -t {VIP6}:80 -r 10.2.0.11:80 {how}", 2)
    box.adms(f"-d -t {VIP}:80 -r [2001:db8:2::11]:80", f"-d -t {VIP6}:80 -r 10.2.0.12:80")
    shown(box, counts=False)


def timeouts(box):
    """The three timeouts; 0 leaves one as it is."""
    box.adm("-Ln --timeout")
    for words in ("--set 100 20 30", "--set 0 0 31", "--set 0 0 0", "--set 2147483 2147483 2147483",
                  "--set 900 120 300"):
        box.adm(words)
        box.adm("-L --timeout")
        box.send("GET_CONFIG")
    for words, status in (("--set 1 2", 2), ("--set -1 2 3", 255), ("--set 1 2 x", 2), ("--set 2678401 1 1", 2)):
        box.adm(words, status)
    box.adm("-L --timeout")


def before_loopback(box):
    """Where no address was ever configured no IPv4 server is anybody's."""
    box.loopback("down")
    box.adms(f"-A -t {VIP}:80 -s rr", f"-A -t {VIP6}:80 -s rr")
    box.adm(f"-a -t {VIP}:80 -r 10.2.0.11 -m", 255, "address not unicast")
    box.adm(f"-a -t {VIP6}:80 -r [2001:db8:2::11]:80 -m")
    box.loopback("up")
    box.adm(f"-a -t {VIP}:80 -r 10.2.0.11 -m")
    shown(box, counts=False)


def saved(box):
    """What -S has written, -R brings back: each kind of service and destination."""
    text = "\n".join((
        f"-A -t {VIP}:80 -s wrr", f"-a -t {VIP}:80 -r 10.2.0.11:80 -g -w 3 -x 9 -y 3",
        f"-a -t {VIP}:80 -r 10.2.0.12:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum",
        f"-A -u {VIP}:53 -s rr -o", "-A -f 1 -s lc -p 60 -M 255.255.0.0", "-a -f 1 -r 10.2.0.11:0 -m -w 1",
        f"-A -t {VIP6}:80 -s wlc -p 360 -M 64", f"-a -t {VIP6}:80 -r [2001:db8::1]:80 -m -w 1",
        f"-A -t {VIP}:81 -s wrr -b flag-1,flag-2")) + "\n"
    box.adm("-R", stdin=text)
    first = box.adm("-Sn")
    box.adm("-C")
    box.adm("-R", stdin=first)
    shown(box)
    # A line that fails does not show in the status.
    box.adm("-R", 0, "already exists", stdin=f"-A -t {VIP}:90 -s rr\n-A -t {VIP}:80 -s rr\n-A -t {VIP}:91 -s rr\n")
    box.adm("-R", 255, stdin="nonsense\n")
    box.adm("-Ln")


def zeroed(box):
    """-Z, of one service, of all, of none."""
    box.adms(f"-A -t {VIP}:80 -s rr", f"-Z -t {VIP}:80", "-Z")
    box.adm(f"-Z -t {VIP}:81", 255, "No such service")
    box.adm("-Ln --stats")
    box.proc("ip_vs_stats")
    box.proc("ip_vs_stats_percpu")


def errors(box):
    """What operators get wrong: status and words, and that nothing has changed."""
    box.adms(f"-A -t {VIP}:80 -s wrr", f"-a -t {VIP}:80 -r 10.2.0.11:8080 -m -w 3")
    for words, status, says in (
            (f"-A -t {VIP}:80 -s rr", 255, "Service already exists"),
            (f"-A -t {VIP}:82 -s nosuch", 255, "Scheduler or persistence engine not found"),
            (f"-A -t {VIP}:80 -s nosuch", 255, "Service already exists"),
            (f"-A -t {VIP}:82 -s rr -p 60 --pe nosuch", 255, "Scheduler or persistence engine not found"),
            (f"-E -t {VIP}:80 -s nosuch", 255, ""),
            (f"-E -t {VIP}:81 -s rr", 255, "No such service"),
            (f"-D -t {VIP}:81", 255, "No such service"), (f"-D -u {VIP}:80", 255, "No such service"),
            (f"-Z -t {VIP}:81", 255, "No such service"), (f"-L -t {VIP}:81", 1, "No such service"),
            (f"-Ln -u {VIP}:80 --stats", 1, "No such service"), ("-Ln -f 1", 1, "No such service"),
            (f"-a -t {VIP}:81 -r 10.2.0.11 -m", 255, "Service not defined"),
            (f"-e -t {VIP}:81 -r 10.2.0.11 -m", 255, "Service not defined"),
            (f"-d -t {VIP}:81 -r 10.2.0.11", 255, "Service not defined"),
            (f"-a -t {VIP}:80 -r 10.2.0.11:8080 -m", 255, "Destination already exists"),
            (f"-e -t {VIP}:80 -r 10.2.0.99:80 -m", 255, "No such destination"),
            (f"-d -t {VIP}:80 -r 10.2.0.99:80", 255, "No such destination"),
            (f"-a -t {VIP}:80 -r 224.0.0.9:80 -m", 255, ""), (f"-a -t {VIP}:80 -r 255.255.255.255:80 -m", 255, ""),
            (f"-a -t {VIP}:80 -r 0.0.0.0:80 -m", 255, ""), (f"-a -t {VIP}:80 -r 240.0.0.1:80 -m", 0, ""),
            (f"-d -t {VIP}:80 -r 240.0.0.1:80", 0, ""),
            ("-A", 2, ""), (f"-A -t {VIP}", 2, ""), (f"-A -t {VIP}:99999", 2, ""), (f"-A -t {VIP}:80 -Z", 2, ""),
            (f"-A -t 300.1.1.1:80 -s rr", 2, ""), (f"-a -t {VIP}:80", 2, ""), ("-L --nonsense", 255, "unknown option")):
        box.adm(words, status, says)
        box.proc("ip_vs")


def edits(box):
    """A service is edited again and again: its destinations stay."""
    box.adms(f"-A -t {VIP}:80 -s wrr", f"-a -t {VIP}:80 -r 10.2.0.11 -m -w 3", f"-a -t {VIP}:80 -r 10.2.0.12 -m -w 2")
    for words in ("-s rr", "-s lc -p 60", "-s wlc -p 70 -M 255.255.255.0", "-s none", "-s wrr -b flag-1", "-s wrr"):
        box.adm(f"-E -t {VIP}:80 {words}")
        shown(box, counts=False)
    # A destination that was deleted is a new one when it is added again.
    box.adms(f"-d -t {VIP}:80 -r 10.2.0.11", f"-a -t {VIP}:80 -r 10.2.0.11 -m -w 9")
    box.proc("ip_vs")


def schedulers(box):
    """Each of mainline's schedulers by name."""
    for name in ("rr", "wrr", "lc", "wlc", "sed", "nq", "fo", "ovf", "dh", "sh", "mh", "twos", "lblc", "lblcr", "none"):
        box.adm(f"-A -t {VIP}:80 -s {name}")
        box.adm("-Ln")
        box.adm("-C")


def engine(box):
    """The persistence engine that mainline has; ip_vs loads a module for it."""
    box.adm(f"-A -u {VIP}:5060 -s rr -p 60 --pe sip")
    box.adm("-Sn")


def daemons(box):
    """Mistakes about the synchronisation daemon."""
    box.adm("-L --daemon")
    box.dump("GET_DAEMON")
    for words, status in (("--start-daemon nonsense", 2), ("--start-daemon master --syncid 256", 2),
                          ("--start-daemon master --mcast-group 10.1.1.1", 2), ("--stop-daemon master", 255),
                          ("--stop-daemon backup", 255), ("--start-daemon master --mcast-interface nosuch", 255)):
        box.adm(words, status)
    box.adm("-L --daemon")


def namespaces(box):
    """What is configured in one network namespace is not in another."""
    box.adms(f"-A -t {VIP}:80 -s rr", "--set 111 22 33")
    outer, box.place = box.place, type(box.place)()
    try:
        shown(box, counts=False)
        box.adm("-L --timeout")
        box.adms(f"-A -t {VIP}:80 -s wrr")
        box.adm("-Sn")
        box.adm("-C")
    finally:
        box.place.close()
        box.place = outer
    shown(box, counts=False)


SCENARIOS = [services_v4, services_v6, marks, persistence, port_zero, flags, methods, thresholds, mixed_families,
             timeouts, before_loopback, saved, zeroed, errors, edits, schedulers, engine, daemons, namespaces]
