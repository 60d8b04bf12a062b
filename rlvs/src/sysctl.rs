// SPDX-License-Identifier: GPL-2.0

//! What an operator may set in `/proc/sys/net/ipv4/vs`, in each namespace.
//!
//! Names, ranges, defaults and permissions are mainline's; what begins with `fullnat_` is ours. Not all
//! have an effect: `docs/sysctl.md` tells which.

use crate::kapi::{
    mem::{
        available_pages,
        buffer_pages, //
    },
    sysctl::{
        CpuList,
        Entry,
        Kind,
        Limit, //
    },
    time::HZ, //
};
use core::pin::Pin;
use kernel::{
    c_str,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};
use rlvs_core::{
    defence,
    sched,
    snat::PortRange,
    sync, //
};

/// The most connections that `conn_max` can allow.
const CONN_MAX: i32 = 1 << 30;
/// A day, in jiffies.
const DAY: i32 = 24 * 60 * 60 * HZ as i32;

/// Makes the settings of a namespace and their files.
///
/// `int` are integers with a default and a limit, `seconds` have a default in jiffies. In the namespaces
/// of other user namespaces than the first, those `for_root` can only be read.
macro_rules! settings {
    (
        int { $($int:ident = $int_default:expr, $limit:expr;)* }
        int for_root { $($root_int:ident = $root_default:expr, $root_limit:expr;)* }
        seconds { $($seconds:ident = $seconds_default:expr;)* }
        seconds for_root { $($root_seconds:ident = $root_seconds_default:expr;)* }
    ) => {
        /// The settings of a namespace. The C side writes them, we read.
        pub(crate) struct Settings {
            $($int: Atomic<i32>,)*
            $($root_int: Atomic<i32>,)*
            $($seconds: Atomic<i32>,)*
            $($root_seconds: Atomic<i32>,)*
            conn_max: Atomic<i32>,
            conn_max_ceiling: Atomic<i32>,
            sync_threshold: [Atomic<i32>; 2],
            sync_qlen_max: Atomic<usize>,
            est_cpulist: Pin<KBox<CpuList>>,
        }

        impl Settings {
            /// Their files.
            pub(crate) const ENTRIES: &'static [Entry<Self>] = &[
                $(Entry::new(
                    c_str!(stringify!($int)),
                    Kind::Int(|s: &Self| &s.$int, $limit),
                ),)*
                $(Entry::new(
                    c_str!(stringify!($root_int)),
                    Kind::Int(|s: &Self| &s.$root_int, $root_limit),
                ).for_root(),)*
                $(Entry::new(c_str!(stringify!($seconds)), Kind::Seconds(|s: &Self| &s.$seconds)),)*
                $(Entry::new(
                    c_str!(stringify!($root_seconds)),
                    Kind::Seconds(|s: &Self| &s.$root_seconds),
                ).for_root(),)*
                Entry::new(
                    c"conn_max",
                    Kind::Int(|s: &Self| &s.conn_max, Limit::Ceiling(|s: &Self| &s.conn_max_ceiling, CONN_MAX)),
                ),
                // How many packets before a connection is told, and every how many after that.
                Entry::new(
                    c"sync_threshold",
                    Kind::Pair(
                        |s: &Self| &s.sync_threshold,
                        |first, every| first >= 0 && every >= 0 && (first < every || every == 0),
                    ),
                ),
                Entry::new(c"sync_qlen_max", Kind::Ulong(|s: &Self| &s.sync_qlen_max)).for_root(),
                Entry::new(c"est_cpulist", Kind::Cpus(|s: &Self| &s.est_cpulist)).for_root(),
            ];

            /// What a new namespace starts with. It may have as many connections as the first one, if
            /// it is not that itself.
            pub(crate) fn new(first: Option<&Self>) -> Result<Arc<Self>> {
                let most = first.map_or(CONN_MAX, |first| first.conn_max.load(Relaxed));
                let settings = Self {
                    $($int: Atomic::new($int_default),)*
                    $($root_int: Atomic::new($root_default),)*
                    $($seconds: Atomic::new($seconds_default),)*
                    $($root_seconds: Atomic::new($root_seconds_default),)*
                    conn_max: Atomic::new(most),
                    conn_max_ceiling: Atomic::new(most),
                    sync_threshold: [Atomic::new(3), Atomic::new(50)],
                    sync_qlen_max: Atomic::new(buffer_pages() / 32),
                    est_cpulist: KBox::pin_init(CpuList::new(), GFP_KERNEL)?,
                };
                if first.is_some() {
                    // Tables of later namespaces may be fuller.
                    settings.conn_lfactor.store(-2, Relaxed);
                    settings.svc_lfactor.store(-2, Relaxed);
                }
                Ok(Arc::new(settings, GFP_KERNEL)?)
            }
        }
    };
}

/// One of [`defence`]'s modes, which tells at once whether memory is short.
const MODE: Limit<Settings> = Limit::As(|settings, mode| {
    let threshold = settings.amemthresh.load(Relaxed);
    let is_one = (defence::OFF..=defence::ALWAYS).contains(&mode);
    is_one.then(|| defence::mode(mode, available_pages(), threshold))
});
/// A power of two.
const PORTS: Limit<Settings> =
    Limit::As(|_, ports| (ports > 0 && ports.count_ones() == 1).then_some(ports));
/// Off or on.
const SWITCH: Limit<Settings> = Limit::Range(0, 1);
/// The binary logarithm of a load.
const LOAD: Limit<Settings> = Limit::Range(-8, 8);
const NICE: Limit<Settings> = Limit::Range(-20, 19);
const PORT: Limit<Settings> = Limit::Range(1, 65535);
const ANY: Limit<Settings> = Limit::None;

settings! {
    int {
        amemthresh = 1024, ANY;
        am_droprate = 10, ANY;
        drop_entry = 0, MODE;
        drop_packet = 0, MODE;
        conntrack = 0, ANY;
        secure_tcp = 0, MODE;
        snat_reroute = 1, ANY;
        sync_version = 1, SWITCH;
        sync_ports = 1, PORTS;
        sync_persist_mode = 0, ANY;
        cache_bypass = 0, ANY;
        expire_nodest_conn = 0, ANY;
        sloppy_tcp = 0, ANY;
        sloppy_sctp = 0, ANY;
        expire_quiescent_template = 0, ANY;
        sync_retries = 0, Limit::Range(0, 3);
        nat_icmp_send = 0, ANY;
        pmtu_disc = 1, ANY;
        backup_only = 0, ANY;
        conn_reuse_mode = 1, ANY;
        schedule_icmp = 0, ANY;
        ignore_tunneled = 0, ANY;
        fullnat_toa_entry = 1, SWITCH;
        // 0 and 1 end and pad a list of options, 2 to 8 are what every TCP uses.
        fullnat_toa_kind = 254, Limit::Range(9, 255);
        fullnat_lport_min = 1024, PORT;
        fullnat_lport_max = 65535, PORT;
        fullnat_mss_adjust_entry = 1, SWITCH;
    }
    int for_root {
        sync_sock_size = 0, ANY;
        run_estimation = 1, ANY;
        est_nice = 0, NICE;
        conn_lfactor = -4, LOAD;
        svc_lfactor = -3, LOAD;
    }
    seconds {
        sync_refresh_period = 0;
    }
    seconds for_root {
        lblc_expiration = DAY;
        lblcr_expiration = DAY;
    }
}

impl Settings {
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

    /// Whether conntrack keeps the connections, too.
    #[inline]
    pub(crate) fn conntrack(&self) -> bool {
        self.conntrack.load(Relaxed) != 0
    }

    /// Whether an error about a connection that is not known opens one.
    #[inline]
    pub(crate) fn schedule_icmp(&self) -> bool {
        self.schedule_icmp.load(Relaxed) != 0
    }

    /// Whether a real server is told that what it sends belongs to no connection.
    #[inline]
    pub(crate) fn nat_icmp_send(&self) -> bool {
        self.nat_icmp_send.load(Relaxed) != 0
    }

    /// Whether packets in a tunnel that ends here are left alone.
    #[inline]
    pub(crate) fn ignore_tunneled(&self) -> bool {
        self.ignore_tunneled.load(Relaxed) != 0
    }

    /// Whether templates of a destination that takes no new connections are used no more.
    pub(crate) fn expire_quiescent_template(&self) -> bool {
        self.expire_quiescent_template.load(Relaxed) != 0
    }

    /// Whether a connection may be opened by any of its packets.
    #[inline]
    pub(crate) fn sloppy_tcp(&self) -> bool {
        self.sloppy_tcp.load(Relaxed) != 0
    }

    /// The same for SCTP.
    #[inline]
    pub(crate) fn sloppy_sctp(&self) -> bool {
        self.sloppy_sctp.load(Relaxed) != 0
    }

    /// Whether a client of TCP has to be answered before it counts.
    #[inline]
    pub(crate) fn secure_tcp(&self) -> bool {
        self.secure_tcp.load(Relaxed) >= defence::ACTIVE
    }

    /// Of how many packets that open connections one is dropped, if so many pages of memory are
    /// available; 0 is none.
    #[inline]
    pub(crate) fn drop_rate(&self, available: impl FnOnce() -> u64) -> u32 {
        match self.drop_packet.load(Relaxed) {
            defence::OFF | defence::READY => 0,
            mode => {
                let threshold = self.amemthresh.load(Relaxed);
                let always = self.am_droprate.load(Relaxed);
                defence::rate(mode, available(), threshold, always)
            }
        }
    }

    /// Whether connections are dropped that are not worth much.
    pub(crate) fn drops_entries(&self) -> bool {
        defence::drops(self.drop_entry.load(Relaxed))
    }

    /// Has the modes of defence tell whether memory is short.
    pub(crate) fn defend(&self, available: u64) {
        let threshold = self.amemthresh.load(Relaxed);
        for mode in [&self.drop_entry, &self.drop_packet, &self.secure_tcp] {
            let old = mode.load(Relaxed);
            let new = defence::mode(old, available, threshold);
            if new != old {
                // Who has written another meanwhile, has the last word.
                let _ = mode.cmpxchg(old, new, Relaxed);
            }
        }
    }

    /// After how many jiffies without a connection a scheduler forgets an address.
    pub(crate) fn locality_expiration(&self, kind: sched::Kind) -> u32 {
        let expiration = match kind {
            sched::Kind::Lblcr => &self.lblcr_expiration,
            _ => &self.lblc_expiration,
        };
        u32::try_from(expiration.load(Relaxed)).unwrap_or(0)
    }

    /// Whether rates are estimated.
    pub(crate) fn estimates(&self) -> bool {
        self.run_estimation.load(Relaxed) != 0 && !self.est_cpulist.is_empty()
    }

    /// When others are told of a connection.
    pub(crate) fn sync_rules(&self) -> sync::Rules {
        let value = |setting: &Atomic<i32>| u32::try_from(setting.load(Relaxed)).unwrap_or(0);
        let [threshold, period] = &self.sync_threshold;
        sync::Rules {
            threshold: value(threshold),
            period: value(period),
            refresh: value(&self.sync_refresh_period),
            retries: value(&self.sync_retries),
            hz: HZ,
        }
    }

    /// The format in which they are told.
    pub(crate) fn sync_version(&self) -> sync::Version {
        match self.sync_version.load(Relaxed) {
            0 => sync::Version::V0,
            _ => sync::Version::V1,
        }
    }

    /// Whether of persistent services only templates are told.
    pub(crate) fn sync_persist_mode(&self) -> bool {
        self.sync_persist_mode.load(Relaxed) != 0
    }

    /// To how many ports.
    pub(crate) fn sync_ports(&self) -> u32 {
        let ports = u32::try_from(self.sync_ports.load(Relaxed)).unwrap_or(1);
        ports.clamp(1, sync::PORTS_MAX)
    }

    /// How many messages may wait to be sent to each.
    pub(crate) fn sync_qlen_max(&self) -> usize {
        self.sync_qlen_max.load(Relaxed)
    }

    /// How much the sockets' buffers hold, in bytes; not above 0: as much as usual.
    pub(crate) fn sync_sock_size(&self) -> i32 {
        self.sync_sock_size.load(Relaxed)
    }

    /// Whether who runs a backup daemon balances nothing.
    #[inline]
    pub(crate) fn backup_only(&self) -> bool {
        self.backup_only.load(Relaxed) != 0
    }

    /// Whether replies are routed anew once they have their new source.
    #[inline]
    pub(crate) fn snat_reroute(&self) -> bool {
        self.snat_reroute.load(Relaxed) != 0
    }

    /// Whether who sends what no tunnel takes is told; else the outer packets are fragmented.
    #[inline]
    pub(crate) fn pmtu_disc(&self) -> bool {
        self.pmtu_disc.load(Relaxed) != 0
    }

    /// Whether who asks for a mark that has no real server gets where he wanted to go.
    pub(crate) fn cache_bypass(&self) -> bool {
        self.cache_bypass.load(Relaxed) != 0
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
