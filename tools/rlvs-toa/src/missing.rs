// SPDX-License-Identifier: GPL-2.0

//! What a kernel lacks, when the programs cannot be loaded or attached.

use std::{fs, sync::Mutex};

use libbpf_rs::{MapType, PrintLevel, ProgramType};
use libbpf_sys::{BPF_FUNC_getsockopt, BPF_FUNC_load_hdr_opt, BPF_FUNC_sk_storage_get};
use nix::{sys::utsname::uname, unistd::geteuid};

use crate::error::Failure;

/// What libbpf had to say.
static LOG: Mutex<String> = Mutex::new(String::new());
const LOG_LINES: usize = 12;

pub const BPF: &str = "BPF programs (CONFIG_BPF_SYSCALL)";

/// Has libbpf's words kept, for when something fails.
pub fn keep_log() {
    libbpf_rs::set_print(Some((PrintLevel::Warn, |_, text| {
        if let Ok(mut log) = LOG.lock() {
            log.push_str(&text);
        }
    })));
}

/// Says why something could not be done: what the kernel lacks, if that is known.
pub fn explain(what: &str, error: &libbpf_rs::Error) -> Failure {
    let mut text = format!("cannot {what}: {error}");
    if !geteuid().is_root() {
        text += "\nthis needs root (or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON)";
        return Failure(text);
    }
    let lacking = lacking();
    if lacking.is_empty() {
        let log = LOG.lock().map(|log| log.clone()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            text += "\n  ";
            text += line;
        }
    }
    for what in lacking {
        text += "\n";
        text += &lacks(what);
    }
    Failure(text)
}

/// The words for what the kernel lacks.
pub fn lacks(what: &str) -> String {
    let release = uname().map(|name| name.release().to_string_lossy().into_owned());
    format!(
        "this kernel ({}) lacks {what}",
        release.as_deref().unwrap_or("unknown")
    )
}

/// Whether the kernel has file systems of a kind; true where it does not say.
pub fn has_filesystem(kind: &str) -> bool {
    fs::read_to_string("/proc/filesystems").map_or(true, |list| {
        list.lines()
            .any(|line| line.split_whitespace().last() == Some(kind))
    })
}

/// What of all that is needed is not there.
fn lacking() -> Vec<&'static str> {
    let map = |kind: MapType| kind.is_supported().unwrap_or(true);
    let helper = |kind: ProgramType, helper| kind.is_helper_supported(helper).unwrap_or(true);
    let program = |kind: ProgramType| kind.is_supported().unwrap_or(true);
    let needs: [(bool, &str); 6] = [
        (program(ProgramType::SockOps), BPF),
        (
            program(ProgramType::CgroupSockAddr),
            "BPF programs for cgroups (CONFIG_CGROUP_BPF)",
        ),
        (
            map(MapType::SkStorage),
            "BPF socket storage (CONFIG_NET, Linux 5.2)",
        ),
        (
            helper(ProgramType::SockOps, BPF_FUNC_load_hdr_opt),
            "TCP header options for BPF programs of sockets (Linux 5.10)",
        ),
        (
            helper(ProgramType::SockOps, BPF_FUNC_getsockopt),
            "socket options for BPF programs of sockets (CONFIG_INET)",
        ),
        (
            helper(ProgramType::CgroupSockAddr, BPF_FUNC_sk_storage_get),
            "socket storage for BPF programs of getpeername() (Linux 5.8)",
        ),
    ];
    needs
        .into_iter()
        .filter(|(there, _)| !there)
        .map(|(_, what)| what)
        .collect()
}
