// SPDX-License-Identifier: GPL-2.0

//! Schedulers: which destination takes a new connection.
//!
//! A scheduler is prepared from the destinations of a service whenever these change, and is
//! immutable from then on. What it must remember from one connection to the next is its *turn*:
//! one word, 0 at first, that the caller keeps with the service and passes in. Two packets may
//! read the same turn at the same time; then two connections go to the same destination, and
//! nothing else happens. A turn of other destinations or of another scheduler is harmless too.

mod lc;
mod rr;
mod wlc;
mod wrr;

pub use lc::Lc;
pub use rr::Rr;
pub use wlc::Wlc;
pub use wrr::Wrr;

use crate::flow::FlowKey;

/// A destination, as schedulers see it.
pub trait Candidate {
    /// Its weight; 0 takes no new connection.
    fn weight(&self) -> u32;
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

/// What a scheduler chose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pick {
    /// Index of the destination.
    pub index: usize,
    /// The turn for the next connection.
    pub turn: u64,
}

/// One way to choose.
pub trait Scheduler: Sized {
    /// Reads from the destinations what stays the same until they change.
    fn prepare<C: Candidate>(dests: &[C]) -> Self;

    /// Chooses a destination for a new connection; `None` if none is available.
    ///
    /// `dests` are those it was prepared from; others give a fair choice of them, no more.
    /// The time it takes is bounded by their number.
    fn pick<C: Candidate>(&self, turn: u64, dests: &[C], key: &FlowKey) -> Option<Pick>;
}

/// The schedulers there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Least connections.
    Lc,
    /// Weighted least connections.
    Wlc,
}

impl Kind {
    /// Every scheduler.
    pub const ALL: [Self; 4] = [Self::Rr, Self::Wrr, Self::Lc, Self::Wlc];

    /// The scheduler of that name, without a terminating NUL.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name().as_bytes() == name)
    }

    /// Its name in netlink messages and in `/proc/net/ip_vs`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
        }
    }
}

/// A prepared scheduler of any kind.
///
/// An enumeration, not a trait object: an indirect call costs a retpoline.
#[derive(Clone, Copy, Debug)]
pub enum Sched {
    /// Round robin.
    Rr(Rr),
    /// Weighted round robin.
    Wrr(Wrr),
    /// Least connections.
    Lc(Lc),
    /// Weighted least connections.
    Wlc(Wlc),
}

impl Sched {
    /// Prepares a scheduler of `kind` for these destinations.
    pub fn prepare<C: Candidate>(kind: Kind, dests: &[C]) -> Self {
        match kind {
            Kind::Rr => Self::Rr(Rr::prepare(dests)),
            Kind::Wrr => Self::Wrr(Wrr::prepare(dests)),
            Kind::Lc => Self::Lc(Lc::prepare(dests)),
            Kind::Wlc => Self::Wlc(Wlc::prepare(dests)),
        }
    }

    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Rr(_) => Kind::Rr,
            Self::Wrr(_) => Kind::Wrr,
            Self::Lc(_) => Kind::Lc,
            Self::Wlc(_) => Kind::Wlc,
        }
    }

    /// Chooses as [`Scheduler::pick`] does.
    #[inline]
    pub fn pick<C: Candidate>(&self, turn: u64, dests: &[C], key: &FlowKey) -> Option<Pick> {
        match self {
            Self::Rr(rr) => rr.pick(turn, dests, key),
            Self::Wrr(wrr) => wrr.pick(turn, dests, key),
            Self::Lc(lc) => lc.pick(turn, dests, key),
            Self::Wlc(wlc) => wlc.pick(turn, dests, key),
        }
    }
}

/// The available destination with the least overhead for its weight, of equals the first.
///
/// The overhead is IPVS's estimate: an active connection costs 257 inactive ones. `weight` is
/// only asked of available destinations and is never 0.
#[inline]
fn least<C: Candidate>(dests: &[C], weight: impl Fn(&C) -> u32) -> Option<usize> {
    let mut least: Option<(usize, u64, u64)> = None;
    // Not `enumerate`: its count is checked for overflow.
    for (index, dest) in (0..dests.len()).zip(dests) {
        if !dest.available() {
            continue;
        }
        let load = u64::from(dest.active())
            .wrapping_mul(257)
            .wrapping_add(u64::from(dest.inactive()));
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
    use super::testing::Dest;
    use super::testing::KEY;
    use super::*;

    #[test]
    fn names_are_found_and_others_are_not() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name().as_bytes()), Some(kind));
            assert_eq!(Sched::prepare::<Dest>(kind, &[]).kind(), kind);
        }
        for other in [&b""[..], b"w", b"rr ", b"rr\0", b"RR", b"wlcc"] {
            assert_eq!(Kind::from_name(other), None);
        }
    }

    proptest! {
        #[test]
        fn whoever_is_picked_is_available_and_someone_is_if_possible(
            dests in dests(),
            prepared_from in dests(),
            turns in vec(any::<u64>(), 1..20),
        ) {
            for kind in Kind::ALL {
                let possible = dests.iter().any(Candidate::available);
                let sched = Sched::prepare(kind, &dests);
                for turn in &turns {
                    let pick = sched.pick(*turn, &dests, &KEY);
                    prop_assert_eq!(pick.is_some(), possible, "{:?}", kind);
                    prop_assert!(pick.is_none_or(|pick| dests[pick.index].available()));
                }
                // Somebody else's destinations and turn must not do any harm either.
                let stale = Sched::prepare(kind, &prepared_from);
                for turn in &turns {
                    let pick = stale.pick(*turn, &dests, &KEY);
                    prop_assert!(pick.is_none_or(|pick| dests[pick.index].available()));
                }
            }
        }
    }
}
