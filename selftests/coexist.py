# SPDX-License-Identifier: GPL-2.0
"""rlvs beside ip_vs: the second to come is refused, and the first does not notice."""

import os
import shutil

import kernel
from lib import TOP, Skip, need_rlvs, run

# Nothing is loaded beforehand.
LOAD = False


def test_refused_beside_ip_vs(_):
    """modprobe rlvs fails with one clear line while ip_vs is loaded; ip_vs goes on working."""
    need_rlvs()
    kernel.load("ip_vs")
    try:
        run("ipvsadm", "-A", "-t", "192.0.2.1:80", "-s", "rr")
        before = sorted(os.listdir("/proc/sys/net/ipv4/vs"))
        log = kernel.Log()
        done = run("modprobe", "rlvs", check=False)
        assert done.returncode, "rlvs was loaded beside ip_vs"
        lines = [line for line in log.new() if "rlvs" in line and "taint" not in line]
        assert len(lines) == 1 and "ip_vs" in lines[0], lines
        assert not kernel.loaded("rlvs") and kernel.slab("rlvs_conn") is None
        assert "192.0.2.1:80" in run("ipvsadm", "-Ln").stdout
        assert sorted(os.listdir("/proc/sys/net/ipv4/vs")) == before
        run("ipvsadm", "-C")
    finally:
        kernel.unload("ip_vs")


def test_loads_after_ip_vs(_):
    """With ip_vs gone, rlvs loads, takes stock ipvsadm's commands, and leaves nothing."""
    need_rlvs()
    if not os.path.exists("/usr/sbin/ipvsadm"):
        raise Skip("no ipvsadm")
    kernel.load("rlvs")
    run("ipvsadm", "-A", "-t", "192.0.2.1:80", "-s", "rr")
    assert "192.0.2.1:80" in run("ipvsadm", "-Ln").stdout
    kernel.unload("rlvs")
    assert not os.path.exists("/proc/sys/net/ipv4/vs") and not os.path.exists("/proc/net/ip_vs")


def test_packaged(_):
    """With the packaged modprobe.d whoever asks for ip_vs gets rlvs, for a scheduler nothing, for xt_ipvs an error."""
    need_rlvs()
    os.makedirs("/run/modprobe.d", exist_ok=True)
    conf = shutil.copy(f"{TOP}/packaging/modprobe.d/rlvs.conf", "/run/modprobe.d/rlvs.conf")
    try:
        # As Docker and kube-proxy do it, and as they do it again.
        for _ in range(2):
            run("modprobe", "-va", "ip_vs", "ip_vs_rr", "ip_vs_sh")
            assert kernel.loaded("rlvs") and not kernel.loaded("ip_vs")
        assert run("modprobe", "xt_ipvs", check=False).returncode
        kernel.unload("rlvs")
        # As the kernel does it for who asks for the family: ipvsadm, keepalived.
        run("ipvsadm", "-A", "-t", "192.0.2.1:80", "-s", "rr")
        assert kernel.loaded("rlvs") and not kernel.loaded("ip_vs")
        run("ipvsadm", "-C")
        kernel.unload("rlvs")
    finally:
        os.unlink(conf)


def test_aliases(_):
    """Both families' names lead to the module, and each is said once."""
    need_rlvs()
    aliases = run("modinfo", "-F", "alias", "rlvs").stdout.split()
    assert sorted(aliases) == [f"net-pf-16-proto-16-family-{name}" for name in ("IPVS", "RLVS")], aliases
