// SPDX-License-Identifier: GPL-2.0

//! Numbers and names that the module and the tools share: both generic netlink families.
//!
//! Family `IPVS` is mainline's, number for number (C header: `include/uapi/linux/ip_vs.h`).
//! Family `RLVS` holds what mainline has no word for. Both are specified in `docs/netlink/`.
//! Integers are in host order unless a line says `be16`.

/// Largest length of a scheduler's name, without the terminating NUL.
pub const SCHED_NAME_MAX: usize = 15;
/// Largest length of a persistence engine's name, without the terminating NUL.
pub const PE_NAME_MAX: usize = 16;
/// Largest length of a device's name, without the terminating NUL.
pub const IFNAME_MAX: usize = 15;
/// The version that IPVS reports, `NVERSION(1, 2, 1)`.
pub const VERSION: u32 = 0x01_02_01;

/// Family `IPVS`: byte for byte what mainline speaks.
pub mod ipvs {
    /// Name of the family.
    pub const FAMILY: &str = "IPVS";
    /// Version of the family.
    pub const FAMILY_VERSION: u8 = 1;

    /// Commands.
    pub mod cmd {
        #![allow(missing_docs)]
        pub const NEW_SERVICE: u8 = 1;
        pub const SET_SERVICE: u8 = 2;
        pub const DEL_SERVICE: u8 = 3;
        pub const GET_SERVICE: u8 = 4;
        pub const NEW_DEST: u8 = 5;
        pub const SET_DEST: u8 = 6;
        pub const DEL_DEST: u8 = 7;
        pub const GET_DEST: u8 = 8;
        pub const NEW_DAEMON: u8 = 9;
        pub const DEL_DAEMON: u8 = 10;
        pub const GET_DAEMON: u8 = 11;
        pub const SET_CONFIG: u8 = 12;
        pub const GET_CONFIG: u8 = 13;
        pub const SET_INFO: u8 = 14;
        pub const GET_INFO: u8 = 15;
        pub const ZERO: u8 = 16;
        pub const FLUSH: u8 = 17;
    }

    /// Top-level attributes.
    pub mod attr {
        #![allow(missing_docs)]
        pub const SERVICE: u16 = 1;
        pub const DEST: u16 = 2;
        pub const DAEMON: u16 = 3;
        pub const TIMEOUT_TCP: u16 = 4;
        pub const TIMEOUT_TCP_FIN: u16 = 5;
        pub const TIMEOUT_UDP: u16 = 6;
        /// u32, ours: whoever sends it (any value) knows rlvs and is told method 5 for a FullNAT
        /// destination. Mainline ignores it. It stands after `SERVICE` and `DEST`.
        pub const RLVS: u16 = 64;
    }

    /// Attributes inside `SERVICE`.
    pub mod svc {
        #![allow(missing_docs)]
        pub const AF: u16 = 1; // u16
        pub const PROTOCOL: u16 = 2; // u16
        pub const ADDR: u16 = 3; // up to 16 bytes
        pub const PORT: u16 = 4; // be16
        pub const FWMARK: u16 = 5; // u32
        pub const SCHED_NAME: u16 = 6; // string
        pub const FLAGS: u16 = 7; // { u32 flags, u32 mask }
        pub const TIMEOUT: u16 = 8; // u32, seconds
        pub const NETMASK: u16 = 9; // be32, or the prefix length for IPv6
        pub const STATS: u16 = 10; // nest
        pub const PE_NAME: u16 = 11; // string
        pub const STATS64: u16 = 12; // nest
    }

    /// Attributes inside `DEST`.
    pub mod dest {
        #![allow(missing_docs)]
        pub const ADDR: u16 = 1; // up to 16 bytes
        pub const PORT: u16 = 2; // be16
        pub const FWD_METHOD: u16 = 3; // u32
        pub const WEIGHT: u16 = 4; // u32
        pub const U_THRESH: u16 = 5; // u32
        pub const L_THRESH: u16 = 6; // u32
        pub const ACTIVE_CONNS: u16 = 7; // u32
        pub const INACT_CONNS: u16 = 8; // u32
        pub const PERSIST_CONNS: u16 = 9; // u32
        pub const STATS: u16 = 10; // nest
        pub const ADDR_FAMILY: u16 = 11; // u16
        pub const STATS64: u16 = 12; // nest
        pub const TUN_TYPE: u16 = 13; // u8
        pub const TUN_PORT: u16 = 14; // be16
        pub const TUN_FLAGS: u16 = 15; // u16
    }

    /// Attributes inside `DAEMON`.
    pub mod daemon {
        #![allow(missing_docs)]
        pub const STATE: u16 = 1; // u32
        pub const MCAST_IFN: u16 = 2; // string
        pub const SYNC_ID: u16 = 3; // u32
        pub const SYNC_MAXLEN: u16 = 4; // u16
        pub const MCAST_GROUP: u16 = 5; // be32
        pub const MCAST_GROUP6: u16 = 6; // 16 bytes
        pub const MCAST_PORT: u16 = 7; // u16
        pub const MCAST_TTL: u16 = 8; // u8
    }

    /// Attributes inside `STATS` (u32 but for the byte counters, u64) and `STATS64` (all u64).
    pub mod stats {
        #![allow(missing_docs)]
        pub const CONNS: u16 = 1;
        pub const INPKTS: u16 = 2;
        pub const OUTPKTS: u16 = 3;
        pub const INBYTES: u16 = 4;
        pub const OUTBYTES: u16 = 5;
        pub const CPS: u16 = 6;
        pub const INPPS: u16 = 7;
        pub const OUTPPS: u16 = 8;
        pub const INBPS: u16 = 9;
        pub const OUTBPS: u16 = 10;
        pub const PAD: u16 = 11;
    }

    /// Attributes of a `GET_INFO` reply (command `SET_INFO`), top level.
    pub mod info {
        #![allow(missing_docs)]
        pub const VERSION: u16 = 1; // u32
        pub const CONN_TAB_SIZE: u16 = 2; // u32
    }
}

/// What `daemon::STATE` may be.
pub mod daemon_state {
    #![allow(missing_docs)]
    pub const MASTER: u32 = 1;
    pub const BACKUP: u32 = 2;
}

/// How packets of the tunnel method are wrapped.
pub mod tunnel {
    #![allow(missing_docs)]
    pub const IPIP: u8 = 0;
    /// UDP, so there must be a port.
    pub const GUE: u8 = 1;
    pub const GRE: u8 = 2;
    /// Flag: GUE and GRE have a checksum.
    pub const CHECKSUM: u16 = 1;
    /// Flag: with GUE the far end computes the inner checksum.
    pub const REMOTE_CHECKSUM: u16 = 2;
}

/// Family `RLVS`: local addresses.
pub mod rlvs {
    /// Name of the family.
    pub const FAMILY: &str = "RLVS";
    /// Version of the family.
    pub const FAMILY_VERSION: u8 = 1;

    /// Commands.
    pub mod cmd {
        /// Adds a local address to a service: `SERVICE` and `LADDR`. `EEXIST` if it is there.
        pub const NEW_LADDR: u8 = 1;
        /// Takes a local address from a service: `SERVICE` and `LADDR`. `ENOENT` if it is not there.
        pub const DEL_LADDR: u8 = 2;
        /// Dump: the local addresses of a service, as `NEW_LADDR` messages, each with `LADDR`.
        /// Request: `SERVICE`. An unknown service is an empty dump.
        pub const GET_LADDR: u8 = 3;
    }

    /// Top-level attributes.
    pub mod attr {
        /// Nest: names a service by the attributes of `ipvs::svc`.
        pub const SERVICE: u16 = 1;
        /// Nest: a local address.
        pub const LADDR: u16 = 2;
    }

    /// Attributes inside `LADDR`.
    pub mod laddr {
        /// The address: 4 or 16 bytes, network order.
        pub const ADDR: u16 = 1;
        /// u32, reply only: connections of this service that hold a port of it.
        pub const CONNS: u16 = 2;
        /// u64, reply only: how often it had no free port for a new connection of this service.
        pub const EXHAUSTED: u16 = 3;
    }
}

/// How a destination is reached: an enumeration inside the mask 7, never a bit mask.
pub mod method {
    #![allow(missing_docs)]
    pub const MASQ: u32 = 0;
    pub const LOCALNODE: u32 = 1;
    pub const TUNNEL: u32 = 2;
    pub const DROUTE: u32 = 3;
    pub const BYPASS: u32 = 4;
    pub const FULLNAT: u32 = 5;
    /// The bits of `FWD_METHOD` that hold the method.
    pub const MASK: u32 = 7;
}

/// Flags of a service.
pub mod svc_flag {
    #![allow(missing_docs)]
    pub const PERSISTENT: u32 = 0x1;
    /// Mainline's own business: whatever user space sends, it is told that it is set.
    pub const HASHED: u32 = 0x2;
    pub const ONEPACKET: u32 = 0x4;
    pub const SCHED1: u32 = 0x8;
    pub const SCHED2: u32 = 0x10;
    pub const SCHED3: u32 = 0x20;
}
