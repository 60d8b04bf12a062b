// SPDX-License-Identifier: GPL-2.0

//! Destinations that were deleted: their connections, and what they have counted.

use super::entry::Member;
use crate::{
    dest::Dest,
    service::ServiceId,
    stats::Traffic, //
};
use core::net::IpAddr;
use kernel::{
    alloc::AllocError,
    prelude::*, //
};
use rlvs_core::rate::Counters;

/// Counters of each possible CPU, in the order of the CPUs.
pub(super) type PerCpu = KVec<(i32, Counters)>;

/// A destination that was deleted and still has connections.
struct Grave {
    id: ServiceId,
    member: Member,
    /// What its service has taken over of its counters.
    counted: Counters,
}

/// A destination that comes back from its grave.
pub(super) struct Raised {
    /// The destination.
    pub(super) member: Member,
    /// What its service is to give back of its counters.
    pub(super) counted: Counters,
}

/// All destinations of a namespace that were deleted.
pub(super) struct Departed {
    graves: KVec<Grave>,
    /// What those without a grave have counted.
    counters: PerCpu,
}

impl Departed {
    /// None so far. Process context.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            graves: KVec::new(),
            counters: no_counters()?,
        })
    }

    /// Whether a grave waits for its last connection to go.
    pub(super) fn is_waiting(&self) -> bool {
        !self.graves.is_empty()
    }

    /// Makes room for so many graves.
    pub(super) fn reserve(&mut self, graves: usize) -> Result<(), AllocError> {
        self.graves.reserve(graves, GFP_KERNEL)
    }

    /// Takes a destination that its service lets go, and says what it has counted so far. There must
    /// be room for a grave, which it gets if connections go there.
    pub(super) fn bury(&mut self, id: ServiceId, member: Member) -> Counters {
        member.dest.dismiss();
        let counted = member.dest.traffic.total();
        if member.dest.is_idle() {
            add(&mut self.counters, &member.dest);
        } else if let Err(grave) = self.graves.push_within_capacity(Grave {
            id,
            member,
            counted,
        }) {
            add(&mut self.counters, &grave.0.member.dest);
        }
        counted
    }

    /// Where a destination of that service lies.
    pub(super) fn find(&self, id: &ServiceId, addr: IpAddr, port: u16) -> Option<usize> {
        self.graves
            .iter()
            .position(|grave| grave.id == *id && grave.member.is(addr, port))
    }

    /// The destination in a grave.
    pub(super) fn get(&self, grave: usize) -> Option<&Member> {
        self.graves.get(grave).map(|grave| &grave.member)
    }

    /// Opens a grave.
    pub(super) fn raise(&mut self, grave: usize) -> Option<Raised> {
        let Grave {
            member, counted, ..
        } = self.graves.remove(grave).ok()?;
        Some(Raised { member, counted })
    }

    /// Closes the graves of those whose last connection has gone.
    pub(super) fn settle(&mut self) {
        // Not `retain`: it can panic.
        let mut at = 0usize;
        while let Some(grave) = self.graves.get(at) {
            if grave.member.dest.is_idle() {
                add(&mut self.counters, &grave.member.dest);
                drop(self.graves.remove(at));
            } else {
                at = at.wrapping_add(1);
            }
        }
    }

    /// Puts what all of them have counted into `sums`.
    pub(super) fn count(&self, sums: &mut PerCpu) {
        for (sum, counters) in sums.iter_mut().zip(&self.counters) {
            *sum = *counters;
        }
        for grave in &self.graves {
            add(sums, &grave.member.dest);
        }
    }
}

/// Zeroes for each possible CPU. Process context.
pub(super) fn no_counters() -> Result<PerCpu> {
    let mut none = KVec::new();
    let mut result = Ok(());
    Traffic::new()?.for_each_cpu(|cpu, zero| {
        if let Err(error) = none.push((cpu, zero), GFP_KERNEL) {
            result = Err(error);
        }
    });
    result?;
    Ok(none)
}

/// Adds what each CPU has counted for a destination.
pub(super) fn add(sums: &mut PerCpu, dest: &Dest) {
    let mut sums = sums.iter_mut();
    dest.traffic.for_each_cpu(|_, counters| {
        if let Some((_, sum)) = sums.next() {
            *sum = sum.wrapping_add(&counters);
        }
    });
}
