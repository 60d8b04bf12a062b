// SPDX-License-Identifier: GPL-2.0

//! Destinations that were deleted, and what all have counted, those that are left and those that
//! are gone.

use super::entry::Member;
use crate::{
    dest::Dest,
    kapi::time,
    service::ServiceId,
    stats::{
        Meter,
        Traffic, //
    }, //
};
use core::net::{
    IpAddr,
    Ipv4Addr, //
};
use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::Arc, //
};
use rlvs_core::rate::Counters;

/// For so many jiffies a grave stays open once nobody goes there any more, as in mainline.
const GRACE: u32 = 120 * time::HZ;
/// So many graves at most are kept for destinations without connections.
const IDLE_GRAVES: usize = 1 << 16;

/// Counters of each possible CPU, in the order of the CPUs.
pub(super) type PerCpu = KVec<(i32, Counters)>;

/// What names a destination that was deleted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GraveKey {
    /// The service that it was of.
    pub(super) id: ServiceId,
    /// Its address.
    pub(super) addr: IpAddr,
    /// Its port.
    pub(super) port: u16,
}

/// A destination that was deleted, and may be added again.
struct Grave {
    dest: Arc<Dest>,
    meter: Meter,
    /// What its service has taken over of its counters.
    counted: Counters,
    /// Since when it is known to have no connections, in jiffies.
    idle_since: Option<u32>,
}

/// Memory for graves.
pub(super) struct Plots(KVVec<RBTreeNodeReservation<GraveKey, Grave>>);

impl Plots {
    /// For so many. Process context.
    pub(super) fn new(graves: usize) -> Result<Self> {
        let mut plots = KVVec::with_capacity(graves, GFP_KERNEL)?;
        for _ in 0..graves {
            plots.push(RBTreeNodeReservation::new(GFP_KERNEL)?, GFP_KERNEL)?;
        }
        Ok(Self(plots))
    }
}

/// All destinations of a namespace that were deleted.
pub(super) struct Departed {
    graves: RBTree<GraveKey, Grave>,
    /// How many graves there are.
    count: usize,
    /// Where to go on with closing them.
    place: Option<GraveKey>,
    /// What was collected of all destinations, deleted or not.
    collected: PerCpu,
}

impl Departed {
    /// None so far. Process context.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            graves: RBTree::new(),
            count: 0,
            place: None,
            collected: no_counters()?,
        })
    }

    /// How many graves wait to be closed.
    pub(super) fn graves(&self) -> usize {
        self.count
    }

    /// Takes a destination that its service lets go, and says what it has counted so far.
    pub(super) fn bury(&mut self, plots: &mut Plots, id: ServiceId, member: Member) -> Counters {
        let Member { dest, meter, .. } = member;
        dest.dismiss();
        let counted = self.collect(&dest);
        let plot = match plots.0.pop() {
            Some(plot) if self.count < IDLE_GRAVES || !dest.is_idle() => plot,
            _ => return counted,
        };
        let key = GraveKey {
            id,
            addr: dest.addr,
            port: dest.port,
        };
        let grave = Grave {
            dest,
            meter,
            counted,
            idle_since: None,
        };
        self.graves.insert(plot.into_node(key, grave));
        self.count = self.count.wrapping_add(1);
        counted
    }

    /// Has the destinations that were of a service start from 0, should they be added to one of the
    /// same name later.
    pub(super) fn zero(&mut self, id: &ServiceId) {
        let first = GraveKey {
            id: *id,
            addr: Ipv4Addr::UNSPECIFIED.into(),
            port: 0,
        };
        let mut cursor = self.graves.cursor_lower_bound_mut(&first);
        while let Some(mut here) = cursor {
            let (key, grave) = here.current_mut();
            if key.id != *id {
                break;
            }
            grave.meter.zero(grave.dest.traffic.total());
            cursor = here.move_next();
        }
    }

    /// The destination in a grave.
    pub(super) fn find(&self, key: &GraveKey) -> Option<&Arc<Dest>> {
        self.graves.get(key).map(|grave| &grave.dest)
    }

    /// Opens a grave, if there is one: `meter` goes on as the destination's, and its service gives
    /// back what it has taken over of its counters.
    #[inline(never)]
    pub(super) fn raise(&mut self, key: &GraveKey, meter: &mut Meter) -> Counters {
        match self.graves.remove(key) {
            Some(grave) => {
                self.count = self.count.wrapping_sub(1);
                *meter = grave.meter;
                grave.counted
            }
            None => Counters::default(),
        }
    }

    /// Collects what a destination has counted since the last time, and gives all that it has counted.
    pub(super) fn collect(&mut self, dest: &Dest) -> Counters {
        collect(&mut self.collected, dest)
    }

    /// What was collected.
    pub(super) fn collected(&self) -> &PerCpu {
        &self.collected
    }

    /// Collects from all graves.
    pub(super) fn collect_graves(&mut self) {
        self.place = None;
        while self.settle(usize::MAX) {}
    }

    /// Collects from some graves and closes those where nobody has gone for a while; true if there are
    /// more to look at.
    pub(super) fn settle(&mut self, graves: usize) -> bool {
        let now = time::now();
        let mut cursor = match self.place.take() {
            Some(key) => self.graves.cursor_lower_bound_mut(&key),
            None => self.graves.cursor_front_mut(),
        };
        for _ in 0..graves {
            let Some(mut here) = cursor else {
                return false;
            };
            let (_, grave) = here.current_mut();
            collect(&mut self.collected, &grave.dest);
            let since = match grave.idle_since {
                _ if !grave.dest.is_idle() => None,
                None => Some(now),
                since => since,
            };
            grave.idle_since = since;
            cursor = if since.is_some_and(|since| now.wrapping_sub(since) >= GRACE) {
                self.count = self.count.wrapping_sub(1);
                // What comes after the last entry is the one before it.
                let is_last = here.peek_next().is_none();
                let (neighbour, _removed) = here.remove_current();
                neighbour.filter(|_| !is_last)
            } else {
                here.move_next()
            };
        }
        self.place = cursor.map(|here| *here.current().0);
        self.place.is_some()
    }
}

fn collect(collected: &mut PerCpu, dest: &Dest) -> Counters {
    let mut sums = collected.iter_mut();
    dest.traffic.collect(|_, counters| {
        if let Some((_, sum)) = sums.next() {
            *sum = sum.wrapping_add(&counters);
        }
    })
}

/// Zeroes for each possible CPU. Process context.
fn no_counters() -> Result<PerCpu> {
    let mut none = KVec::new();
    let mut result = Ok(());
    Traffic::new()?.collect(|cpu, zero| {
        if let Err(error) = none.push((cpu, zero), GFP_KERNEL) {
            result = Err(error);
        }
    });
    result?;
    Ok(none)
}
