# SPDX-License-Identifier: GPL-2.0
"""A director of the keepalived lab: its namespace, the keepalived in it and what that is told."""

import os
import re
import signal
import subprocess

from stage import do, show

# The library of the selftests, which stage.py has put in reach.
import kernel
from lib import RLVS, address

VIP = "198.51.100.80"
MARKED, MARK = "198.51.100.90", 7
# On the way out of the servers, if they need one.
GATEWAY = "10.0.0.1"
ETC = "/etc/keepalived"

CONFIG = """\
global_defs {{
    script_user root
    enable_script_security
    lvs_flush
    lvs_flush_on_stop
}}
vrrp_instance services {{
    interface wan
    track_interface {{
        lan
    }}
    virtual_router_id 80
    priority {priority}
    advert_int 1
    virtual_ipaddress {{
{addresses}
    }}
}}
virtual_server {vip} 80 {{
    delay_loop 1
    lvs_sched wrr
    lvs_method NAT
    protocol TCP
    quorum 2
    quorum_up "{etc}/quorum up {name} {vip}:80"
    quorum_down "{etc}/quorum down {name} {vip}:80"
    sorry_server 10.0.0.14 80
    real_server 10.0.0.11 80 {{
        weight {weights[0]}
        TCP_CHECK {{
            connect_timeout 10
        }}
    }}
    real_server 10.0.0.12 80 {{
        weight {weights[1]}
        HTTP_GET {{
            url {{
                path /put/health
                status_code 200
            }}
            connect_timeout 10
            retry 1
            delay_before_retry 1
        }}
    }}
    real_server 10.0.0.13 80 {{
        weight 1
        MISC_CHECK {{
            delay_loop 2
            misc_path "{etc}/weight 10.0.0.13"
            misc_timeout 20
            retry 1
            delay_before_retry 1
            misc_dynamic
        }}
    }}
}}
virtual_server_group pair {{
    198.51.100.81-82 80
}}
virtual_server group pair {{
    delay_loop 1
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    quorum_up "{etc}/quorum up {name} 198.51.100.81:80 198.51.100.82:80"
{pair}
}}
virtual_server fwmark {mark} {{
    delay_loop 1
    lvs_sched rr
    lvs_method NAT
    quorum_up "{etc}/quorum up {name} {mark}"
{pair}
}}
"""

SERVER = """\
    real_server {addr} 80 {{
        inhibit_on_failure
        TCP_CHECK {{
            connect_timeout 10
        }}
    }}
"""

QUORUM = """\
#!/bin/sh
# quorum up|down DIRECTOR SERVICE...
# keepalived runs it when a service gains or loses its quorum, and first of all
# when the service is new. SERVICE is ADDRESS:PORT, or a firewall mark.
state=$1 director=$2
shift 2
for service; do
    echo "$state $service" >>/run/quorum.$director
"""

LADDRS = """\
    case $director in
    director1) laddrs=10.0.0.101-10.0.0.102 ;;
    director2) laddrs=10.0.0.111-10.0.0.112 ;;
    esac
    case $service in
    *:*) by=-t ;;
    *) by=-f ;;
    esac
    # Only a new service has none.
    rlvsadm -G -n $by $service | grep -q -- '-> [0-9]' ||
        rlvsadm -P $by $service -z $laddrs
"""

WEIGHT = """\
#!/bin/sh
# weight SERVER: 2 + the weight that the server asks for, as misc_dynamic wants
# it; 1 if the server is dead.
weight=$(curl -fs "http://$1/put/weight") || exit 1
exit $((weight + 2))
"""


class Director:
    """One of the two; `number` is 1 or 2, and the first is preferred as master."""

    def __init__(self, number, namespace, home):
        self.number, self.namespace, self.name = number, namespace, f"director{number}"
        self.config, self.log = f"{ETC}/{self.name}.conf", f"{home}/{self.name}/keepalived.log"
        # What quorum_up and quorum_down have told.
        self.quorums = f"/run/quorum.{self.name}"
        self.laddrs = [f"10.0.0.1{number - 1}{n}" for n in (1, 2)]
        self.weights, self.keepalived = None, None

    def has(self, vip):
        """Whether the address is this director's at the moment."""
        return f"-- {vip}\n" in self.namespace.proc("fib_trie")

    def mark(self):
        """Has packets marked: the one director does it by nftables, the other by iptables."""
        if self.number == 1:
            do(self.namespace, "nft 'add table ip lab; "
               "add chain ip lab marks { type filter hook prerouting priority mangle; }; "
               f"add rule ip lab marks ip daddr {MARKED} tcp dport {{ 80, 8000-8099 }} meta mark set {MARK}'")
        else:
            for ports in ("80", "8000:8099"):
                do(self.namespace, f"iptables -t mangle -A PREROUTING -d {MARKED} -p tcp --dport {ports} "
                   f"-j MARK --set-mark {MARK}")

    def services(self):
        """What is configured in the kernel: {service: {server: weight}}; a service is ADDRESS:PORT, or a mark."""
        found = {}
        for line in self.namespace.proc("ip_vs").splitlines()[3:]:
            word = line.split()
            addr, _, port = word[1].partition(":")
            if word[0] == "->":
                servers[address(addr)] = int(word[3])
            else:
                name = f"{address(addr)}:{int(port, 16)}" if port else str(int(addr, 16))
                servers = found[name] = {}
        return found

    def configure(self, *weights):
        """Writes the configuration, with these weights of web1 and web2."""
        self.weights = weights
        addresses = [f"198.51.100.{n}/24" for n in (80, 81, 82, 90)] + ([] if RLVS else [f"{GATEWAY}/24 dev lan"])
        text = CONFIG.format(
            name=self.name, priority=160 - 10 * self.number, vip=VIP, mark=MARK, etc=ETC, weights=weights,
            addresses="\n".join(" " * 8 + line for line in addresses),
            pair="".join(SERVER.format(addr=addr) for addr in ("10.0.0.11", "10.0.0.12")).rstrip("\n"))
        # Where all takes longer, so many checks a second would leave no time for anything else.
        text = re.sub(r"(advert_int|delay_loop|delay_before_retry|_timeout) (\d+)",
                      lambda found: f"{found[1]} {int(found[2]) * kernel.SLOW}", text)
        with open(self.config, "w", encoding="ascii") as file:
            file.write(text)

    def start(self):
        """Starts keepalived."""
        command = f"keepalived -s {self.namespace.name} -f {self.config} --dont-fork --log-console --log-detail"
        show("root", command + " &")
        with open(self.log, "a", encoding="utf-8") as log:
            self.keepalived = subprocess.Popen(command.split(), stdout=log, stderr=subprocess.STDOUT,
                                               stdin=subprocess.DEVNULL)

    def signal(self, number):
        """Sends keepalived a signal."""
        show("root", f"kill -{signal.Signals(number).name[3:]} {self.keepalived.pid}")
        self.keepalived.send_signal(number)

    def kill(self, quiet=False):
        """Ends keepalived, parent and children, as a power cut does."""
        if self.keepalived and self.keepalived.poll() is None:
            children = do(None, f"pgrep -P {self.keepalived.pid}", quiet=True, may_fail=True)
            do(None, f"kill -KILL {self.keepalived.pid} {' '.join(children.split())}", quiet=quiet)
            self.keepalived.wait()

    def said(self):
        """The lines that keepalived has logged."""
        with open(self.log, encoding="utf-8") as file:
            return file.read().splitlines()

    def complaints(self):
        """Those of the lines that tell of trouble with IPVS, a script or the configuration."""
        trouble = re.compile(r"IPVS|ipvs|[Ee]rror|[Ww]arning|[Uu]nable|[Cc]an('t|not)|[Uu]nknown")
        return [line for line in self.said() if trouble.search(line) and not line.endswith("nitializing ipvs")]


def write_scripts():
    """Writes the scripts that keepalived runs."""
    os.makedirs(ETC, exist_ok=True)
    for name, text in (("quorum", QUORUM + (LADDRS if RLVS else "") + "done\n"), ("weight", WEIGHT)):
        with open(f"{ETC}/{name}", "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(f"{ETC}/{name}", 0o755)
