// SPDX-License-Identifier: GPL-2.0

//! What happened to packets beyond the traffic counters: `/proc/net/rlvs_ext_stats`.

use crate::kapi::percpu::Counters;
use kernel::prelude::*;

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// One of the extended counters.
        #[derive(Clone, Copy)]
        pub(crate) enum Counter {
            $($(#[$doc])* $variant,)*
        }

        impl Counter {
            /// All of them, in the order of their numbers.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name that users see.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

counters! {
    /// A packet got the client's address as a TCP option.
    ToaInserted = "toa_inserted",
    /// No room for it among the options.
    ToaNoRoom = "toa_no_room",
    /// The packet would have become longer than the path takes.
    ToaTooLong = "toa_too_long",
    /// No memory to make room for it.
    ToaNoMemory = "toa_no_memory",
    /// A client sent an option of that kind itself; it was blanked out.
    ToaStripped = "toa_stripped",
    /// The MSS of a server's SYN was lowered to leave room for it.
    MssLowered = "mss_lowered",
    /// No local address had a port left for a new connection.
    LaddrExhausted = "laddr_exhausted",
    /// A new connection was dropped at `conn_max`.
    ConnLimit = "conn_limit",
    /// A new connection was dropped as `drop_packet` says.
    DropPacket = "drop_packet",
    /// No memory for a new connection.
    ConnNoMemory = "conn_no_memory",
    /// A connection that is older than the configuration held the tuple; another port was tried.
    ConnConflict = "conn_conflict",
    /// A client used a closed connection's tuple again and was scheduled anew.
    ConnReused = "conn_reused",
    /// No destination would take a new connection.
    NoDest = "no_dest",
    /// A packet for a service with a persistence engine had nothing that the engine looks for.
    NoPeData = "no_pe_data",
    /// The destination of a connection was gone.
    DestGone = "dest_gone",
    /// There was no route to the real server or to the client.
    NoRoute = "no_route",
    /// A packet came to its last hop.
    TtlExceeded = "ttl_exceeded",
    /// A packet that must not be fragmented was too long for the path.
    TooBig = "too_big",
    /// No memory to change a packet.
    NoMemory = "no_memory",
    /// A packet for a service that was no packet of its protocol.
    Malformed = "malformed",
    /// An ICMP error was translated for the other side.
    IcmpTranslated = "icmp_translated",
    /// An ICMP error was dropped for its checksum.
    IcmpChecksum = "icmp_checksum",
    /// A real server's packet belonged to no connection, and it was told so.
    LostAnswer = "lost_answer",
}

const COUNT: usize = Counter::ALL.len();

/// The extended counters of a namespace.
pub(crate) struct ExtCounters(Counters<COUNT>);

impl ExtCounters {
    /// All zero. Process context.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Counters::new()?))
    }

    /// Counts one. Any context.
    #[inline]
    pub(crate) fn count(&self, counter: Counter) {
        self.0.add(counter as usize, 1);
    }

    /// How often it happened.
    pub(crate) fn get(&self, counter: Counter) -> u64 {
        self.0.sum(counter as usize)
    }
}
