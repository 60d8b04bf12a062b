// SPDX-License-Identifier: GPL-2.0

//! Schedulers: which destination takes a new connection.
//!
//! A scheduler is prepared from the destinations of a service whenever these change, and is
//! immutable from then on. Destinations stand in mainline's order, the one that was added last
//! first: from the same configuration each scheduler chooses as `ip_vs_*` does.
//!
//! What it must remember from one connection to the next is its *turn*: one word that the caller
//! keeps with the service and passes in. Two packets may read the same turn at the same time; then
//! two connections go to the same destination, and nothing else happens. A turn of other
//! destinations or of another scheduler is harmless too.
//!
//! What it has planned is its *table*: indices of destinations, in memory of the caller's.

mod dh;
mod fo;
mod hash;
mod lblc;
mod lblcr;
mod lc;
mod mh;
mod nq;
mod ovf;
mod rr;
mod sed;
mod sh;
mod twos;
mod wlc;
mod wrr;

pub use dh::Dh;
pub use fo::Fo;
pub use lblc::Lblc;
pub use lblcr::Lblcr;
pub use lc::Lc;
pub use mh::Mh;
pub use nq::Nq;
pub use ovf::Ovf;
pub use rr::Rr;
pub use sed::Sed;
pub use sh::Sh;
pub use twos::Twos;
pub use wlc::Wlc;
pub use wrr::Wrr;

use core::net::IpAddr;

use crate::flow::Family;
use crate::flow::FlowKey;

/// A destination, as schedulers see it.
pub trait Candidate {
    /// Its address.
    fn addr(&self) -> IpAddr;
    /// Its port, in host order.
    fn port(&self) -> u16;
    /// Its weight; 0 takes no new connection.
    fn weight(&self) -> u32;
    /// The last weight it had that was not 0; 0 if it has had none.
    fn last_weight(&self) -> u32;
    /// How many active connections it has.
    fn active(&self) -> u32;
    /// How many inactive connections it has.
    fn inactive(&self) -> u32;
    /// Whether it has reached its upper threshold.
    fn overloaded(&self) -> bool;

    /// Whether it takes new connections.
    #[inline]
    fn available(&self) -> bool {
        self.weight() > 0 && !self.overloaded()
    }
}

/// How a service is set up, as far as its scheduler cares.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The family of its clients.
    pub family: Family,
    /// Of [`crate::uapi::svc_flag`].
    pub flags: u32,
}

/// What a scheduler chose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pick {
    /// Index of the destination.
    pub index: usize,
    /// The turn for the next connection.
    pub turn: u64,
}

/// What is different for the next connection.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// Nothing, but another scheduler takes over.
    Scheduler,
    /// There is another one, the first.
    Added,
    /// One is set up differently.
    Edited,
    /// The one with that index is not there any more.
    Removed(usize),
}

/// Stands in a table where no destination does.
pub const NOBODY: u16 = u16::MAX;

/// The most destinations that a scheduler wants to be reminded of.
pub const MEMORY: usize = 32;

/// One way to choose.
pub trait Scheduler: Sized {
    /// How long a table it needs for so many destinations.
    fn table_len(_dests: usize) -> usize {
        0
    }

    /// Reads from the destinations what stays the same until they change. `table` is of
    /// [`table_len`](Self::table_len), and full of [`NOBODY`].
    fn prepare<C: Candidate>(setup: Setup, dests: &[C], table: &mut [u16]) -> Self;

    /// The turn of the first connection.
    fn first_turn(&self) -> u64 {
        0
    }

    /// The turn that takes the place of `turn` when the destinations have changed and it was prepared
    /// anew.
    fn turn_after(&self, turn: u64, _change: Change) -> u64 {
        turn
    }

    /// Chooses a destination for a new connection; `None` if none takes it.
    ///
    /// `dests` and `table` are those it was prepared with; others give a fair choice of `dests`, no
    /// more. The time it takes is bounded by the lengths of both.
    fn pick<C: Candidate>(
        &self,
        turn: u64,
        dests: &[C],
        table: &[u16],
        key: &FlowKey,
    ) -> Option<Pick>;
}

/// Makes the enumerations of all schedulers.
macro_rules! schedulers {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// The schedulers there are.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// Every scheduler.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// Its name in netlink messages and in `/proc/net/ip_vs`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// As [`Scheduler::table_len`].
            pub fn table_len(self, dests: usize) -> usize {
                match self {
                    $(Self::$kind => $kind::table_len(dests),)*
                }
            }
        }

        /// A prepared scheduler of any kind.
        ///
        /// An enumeration, not a trait object: an indirect call costs a retpoline.
        #[derive(Clone, Copy, Debug)]
        pub enum Sched {
            $($(#[$doc])* $kind($kind),)*
        }

        impl Sched {
            /// Prepares a scheduler of `kind` as [`Scheduler::prepare`] does.
            pub fn prepare<C: Candidate>(
                kind: Kind,
                setup: Setup,
                dests: &[C],
                table: &mut [u16],
            ) -> Self {
                match kind {
                    $(Kind::$kind => Self::$kind($kind::prepare(setup, dests, table)),)*
                }
            }

            /// Which kind it is.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// The turn that takes the place of `turn` after a change.
            pub fn turn_after(&self, turn: u64, change: Change) -> u64 {
                match (self, change) {
                    $(
                        (Self::$kind(sched), Change::Scheduler) => sched.first_turn(),
                        (Self::$kind(sched), _) => sched.turn_after(turn, change),
                    )*
                }
            }

            /// Chooses as [`Scheduler::pick`] does.
            #[inline]
            pub fn pick<C: Candidate>(
                &self,
                turn: u64,
                dests: &[C],
                table: &[u16],
                key: &FlowKey,
            ) -> Option<Pick> {
                match self {
                    $(Self::$kind(sched) => sched.pick(turn, dests, table, key),)*
                }
            }
        }
    };
}

schedulers! {
    /// Round robin.
    Rr = "rr",
    /// Weighted round robin.
    Wrr = "wrr",
    /// Least connections.
    Lc = "lc",
    /// Weighted least connections.
    Wlc = "wlc",
    /// Shortest expected delay.
    Sed = "sed",
    /// Never queue.
    Nq = "nq",
    /// Failover by weight.
    Fo = "fo",
    /// Overflow by weight.
    Ovf = "ovf",
    /// Destination hashing.
    Dh = "dh",
    /// Source hashing.
    Sh = "sh",
    /// Maglev hashing.
    Mh = "mh",
    /// The better one of two choices.
    Twos = "twos",
    /// Locality, or least connections.
    Lblc = "lblc",
    /// Locality with replication, or least connections.
    Lblcr = "lblcr",
}

impl Kind {
    /// The scheduler of that name, without a terminating NUL.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|kind| kind.name().as_bytes() == name)
    }

    /// Whether its turn is a random word, another one each time.
    #[inline]
    pub fn is_random(self) -> bool {
        self == Self::Twos
    }

    /// How many destinations it wants to be reminded of for each address that clients ask for: those
    /// that it has picked for it, the last one first. Its table is what the caller remembers of the
    /// address at hand.
    pub fn remembers(self) -> usize {
        match self {
            Self::Lblc => 1,
            Self::Lblcr => MEMORY,
            _ => 0,
        }
    }
}

/// All destinations with their indices.
#[inline]
fn all<C>(dests: &[C]) -> impl Iterator<Item = (usize, &C)> {
    // Not `enumerate`: its count is checked for overflow.
    (0..dests.len()).zip(dests)
}

/// Those destinations that a table names, with their indices.
#[inline]
fn listed<'a, C>(dests: &'a [C], table: &'a [u16]) -> impl Iterator<Item = (usize, &'a C)> {
    table.iter().filter_map(|&index| {
        let index = usize::from(index);
        Some((index, dests.get(index)?))
    })
}

/// What a destination's connections cost: IPVS's estimate is that an active one costs 257 inactive
/// ones.
#[inline]
fn overhead<C: Candidate>(dest: &C) -> u64 {
    u64::from(dest.active())
        .wrapping_mul(257)
        .wrapping_add(u64::from(dest.inactive()))
}

/// The available destination with the least load for its weight, of equals the first.
///
/// `load` and `weight` are only asked of available destinations; `weight` is never 0.
#[inline]
fn least<'a, C: Candidate + 'a>(
    dests: impl Iterator<Item = (usize, &'a C)>,
    load: impl Fn(&C) -> u64,
    weight: impl Fn(&C) -> u32,
) -> Option<usize> {
    let mut least: Option<(usize, u64, u64)> = None;
    for (index, dest) in dests {
        if !dest.available() {
            continue;
        }
        let load = load(dest);
        let weight = u64::from(weight(dest));
        // load / weight < least_load / least_weight, without a division.
        let less = least.is_none_or(|(_, least_load, least_weight)| {
            load.saturating_mul(least_weight) < least_load.saturating_mul(weight)
        });
        if less {
            least = Some((index, load, weight));
        }
    }
    least.map(|(index, ..)| index)
}

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::testing::dests;
    use super::testing::key;
    use super::testing::table;
    use super::testing::Dest;
    use super::testing::SETUP;
    use super::*;
    use crate::uapi::svc_flag;

    #[test]
    fn names_are_found_and_others_are_not() {
        for &kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name().as_bytes()), Some(kind));
            let mut table = table(kind, 0);
            let sched = Sched::prepare::<Dest>(kind, SETUP, &[], &mut table);
            assert_eq!(sched.kind(), kind);
        }
        for other in [&b""[..], b"w", b"rr ", b"rr\0", b"RR", b"wlcc", b"none"] {
            assert_eq!(Kind::from_name(other), None);
        }
    }

    /// Whether it finds a destination whenever one is available.
    fn always_finds(kind: Kind, flags: u32) -> bool {
        match kind {
            Kind::Dh | Kind::Ovf | Kind::Mh => false,
            Kind::Sh => flags & svc_flag::SCHED1 != 0,
            _ => true,
        }
    }

    proptest! {
        #[test]
        fn whoever_is_picked_is_available_and_someone_is_if_possible(
            dests in dests(),
            prepared_from in dests(),
            flags in any::<u32>(),
            keys in vec((any::<u64>(), key()), 1..20),
            memory in vec(any::<u16>(), 0..20),
        ) {
            let setup = Setup { flags, ..SETUP };
            let possible = dests.iter().any(Candidate::available);
            for &kind in Kind::ALL {
                let mut plan = table(kind, dests.len());
                let sched = Sched::prepare(kind, setup, &dests, &mut plan);
                for (turn, key) in &keys {
                    let pick = sched.pick(*turn, &dests, &plan, key);
                    prop_assert!(pick.is_none_or(|pick| dests[pick.index].available()));
                    // A table of 256 entries has no room for those of great weights behind the first.
                    let room = kind != Kind::Sh || dests.iter().all(|dest| dest.weight < 8);
                    if always_finds(kind, flags) && room {
                        prop_assert_eq!(pick.is_some(), possible, "{:?}", kind);
                    }
                }
                // Somebody else's destinations, table and turn must not do any harm either.
                let mut other = table(kind, prepared_from.len());
                let stale = Sched::prepare(kind, setup, &prepared_from, &mut other);
                for (turn, key) in &keys {
                    for table in [&other, &memory] {
                        let pick = stale.pick(*turn, &dests, table, key);
                        prop_assert!(pick.is_none_or(|pick| dests[pick.index].available()));
                    }
                }
            }
        }
    }
}
