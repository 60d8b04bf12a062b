// SPDX-License-Identifier: GPL-2.0

//! What an operator may set in `/proc/sys/net/ipv4/vs`, in each namespace.

use crate::kapi::sysctl::Entry;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};
use rlvs_core::snat::PortRange;

/// The most connections that `conn_max` can allow.
const CONN_MAX: i32 = 1 << 30;

/// The settings of a namespace. The C side writes them, we read.
pub(crate) struct Settings {
    conn_max: Atomic<i32>,
    conn_max_ceiling: Atomic<i32>,
    conn_reuse_mode: Atomic<i32>,
    expire_nodest_conn: Atomic<i32>,
    snat_reroute: Atomic<i32>,
    fullnat_toa_entry: Atomic<i32>,
    fullnat_toa_kind: Atomic<i32>,
    fullnat_lport_min: Atomic<i32>,
    fullnat_lport_max: Atomic<i32>,
    fullnat_mss_adjust_entry: Atomic<i32>,
}

impl Settings {
    /// Their files.
    pub(crate) const ENTRIES: &'static [Entry<Self>] = &[
        Entry::ceiling(
            c"conn_max",
            |s| &s.conn_max,
            |s| &s.conn_max_ceiling,
            CONN_MAX,
        ),
        Entry::any(c"conn_reuse_mode", |s| &s.conn_reuse_mode),
        Entry::any(c"expire_nodest_conn", |s| &s.expire_nodest_conn),
        Entry::any(c"snat_reroute", |s| &s.snat_reroute),
        Entry::range(c"fullnat_toa_entry", |s| &s.fullnat_toa_entry, 0, 1),
        // 0 and 1 end and pad a list of options, 2 to 8 are what every TCP uses.
        Entry::range(c"fullnat_toa_kind", |s| &s.fullnat_toa_kind, 9, 255),
        Entry::range(c"fullnat_lport_min", |s| &s.fullnat_lport_min, 1, 65535),
        Entry::range(c"fullnat_lport_max", |s| &s.fullnat_lport_max, 1, 65535),
        Entry::range(
            c"fullnat_mss_adjust_entry",
            |s| &s.fullnat_mss_adjust_entry,
            0,
            1,
        ),
    ];

    /// What a new namespace starts with. It may have as many connections as the first one, if it is
    /// not that itself.
    pub(crate) fn new(first: Option<&Self>) -> Result<Arc<Self>> {
        let conn_max = first.map_or(CONN_MAX, |first| first.conn_max.load(Relaxed));
        Ok(Arc::new(
            Self {
                conn_max: Atomic::new(conn_max),
                conn_max_ceiling: Atomic::new(conn_max),
                conn_reuse_mode: Atomic::new(1),
                expire_nodest_conn: Atomic::new(0),
                snat_reroute: Atomic::new(1),
                fullnat_toa_entry: Atomic::new(1),
                fullnat_toa_kind: Atomic::new(254),
                fullnat_lport_min: Atomic::new(1024),
                fullnat_lport_max: Atomic::new(65535),
                fullnat_mss_adjust_entry: Atomic::new(1),
            },
            GFP_KERNEL,
        )?)
    }

    /// How many connections there may be.
    #[inline]
    pub(crate) fn conn_max(&self) -> usize {
        usize::try_from(self.conn_max.load(Relaxed)).unwrap_or(0)
    }

    /// Whether a new SYN on a connection that has ended opens another: bit 0; bit 1 adds those that
    /// only half of was seen.
    #[inline]
    pub(crate) fn conn_reuse_mode(&self) -> i32 {
        self.conn_reuse_mode.load(Relaxed)
    }

    /// Whether a connection whose destination is gone ends with its next packet.
    #[inline]
    pub(crate) fn expire_nodest_conn(&self) -> bool {
        self.expire_nodest_conn.load(Relaxed) != 0
    }

    /// Whether replies are routed anew once they have their new source.
    #[inline]
    pub(crate) fn snat_reroute(&self) -> bool {
        self.snat_reroute.load(Relaxed) != 0
    }

    /// Whether real servers are told the client's address.
    #[inline]
    pub(crate) fn toa(&self) -> bool {
        self.fullnat_toa_entry.load(Relaxed) != 0
    }

    /// The kind of the TCP option that tells it.
    #[inline]
    pub(crate) fn toa_kind(&self) -> u8 {
        // CAST: The range of the entry is within that of `u8`.
        self.fullnat_toa_kind.load(Relaxed) as u8
    }

    /// The ports of local addresses. Both ends are set one after the other, so they may for a
    /// while stand the wrong way round.
    #[inline]
    pub(crate) fn lports(&self) -> PortRange {
        // CAST: The ranges of the entries are within that of `u16`.
        let one = self.fullnat_lport_min.load(Relaxed) as u16;
        let other = self.fullnat_lport_max.load(Relaxed) as u16;
        PortRange::new(one.min(other), one.max(other)).unwrap_or(PortRange::ALL)
    }

    /// Whether the MSS of a FullNAT connection leaves room for the option.
    #[inline]
    pub(crate) fn mss_adjust(&self) -> bool {
        self.fullnat_mss_adjust_entry.load(Relaxed) != 0
    }
}
