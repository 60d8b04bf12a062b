// SPDX-License-Identifier: GPL-2.0

//! The services of a configuration: by name for commands, by age for listings.
//!
//! Each service gets a number that no other has had. Listings go by it, and remember it from one
//! buffer to the next: what stands still is neither skipped nor repeated when others come and go.

use super::entry::Entry;
use crate::service::ServiceId;
use core::iter;
use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    }, //
};
use rlvs_core::flow::Family;

/// All services of a namespace.
pub(super) struct Services {
    by_age: RBTree<u64, Entry>,
    numbers: RBTree<ServiceId, u64>,
    last: u64,
    ipv4: usize,
    ipv6: usize,
}

/// Memory for one service more.
pub(super) struct Room {
    by_age: RBTreeNodeReservation<u64, Entry>,
    number: RBTreeNodeReservation<ServiceId, u64>,
}

impl Room {
    /// Process context.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            by_age: RBTreeNodeReservation::new(GFP_KERNEL)?,
            number: RBTreeNodeReservation::new(GFP_KERNEL)?,
        })
    }
}

impl Services {
    /// No services.
    pub(super) fn new() -> Self {
        Self {
            by_age: RBTree::new(),
            numbers: RBTree::new(),
            last: 0,
            ipv4: 0,
            ipv6: 0,
        }
    }

    /// How many there are of a family.
    pub(super) fn count(&self, family: Family) -> usize {
        match family {
            Family::V4 => self.ipv4,
            Family::V6 => self.ipv6,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ipv4.wrapping_add(self.ipv6)
    }

    /// The service of that name.
    pub(super) fn get(&self, id: &ServiceId) -> Option<&Entry> {
        self.by_age.get(self.numbers.get(id)?)
    }

    /// The service of that name, to be changed.
    pub(super) fn get_mut(&mut self, id: &ServiceId) -> Option<&mut Entry> {
        self.by_age.get_mut(self.numbers.get(id)?)
    }

    /// The oldest service whose number is at least `number`, with its number.
    pub(super) fn next(&self, number: u64) -> Option<(u64, &Entry)> {
        let (&number, _) = self.by_age.cursor_lower_bound(&number)?.current();
        Some((number, self.by_age.get(&number)?))
    }

    /// All from that number on, oldest first, each with its number.
    pub(super) fn from(&self, number: u64) -> impl Iterator<Item = (u64, &Entry)> {
        iter::successors(self.next(number), |(number, _)| {
            self.next(number.checked_add(1)?)
        })
    }

    /// All, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.by_age.values()
    }

    /// All, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.by_age.values_mut()
    }

    /// Calls `f` with each from that number on, oldest first, and with its number, as long as `f` says so.
    pub(super) fn walk(&mut self, from: u64, mut f: impl FnMut(u64, &mut Entry) -> bool) {
        let mut cursor = self.by_age.cursor_lower_bound_mut(&from);
        while let Some(mut here) = cursor {
            let (number, entry) = here.current_mut();
            if !f(*number, entry) {
                return;
            }
            cursor = here.move_next();
        }
    }

    /// Adds a service that is not there yet.
    pub(super) fn insert(&mut self, room: Room, entry: Entry) {
        let id = *entry.id();
        self.last = self.last.wrapping_add(1);
        self.counter(&id, |count| count.wrapping_add(1));
        self.numbers.insert(room.number.into_node(id, self.last));
        self.by_age.insert(room.by_age.into_node(self.last, entry));
    }

    /// Takes a service out.
    pub(super) fn remove(&mut self, id: &ServiceId) -> Option<Entry> {
        let number = self.numbers.remove(id)?;
        self.counter(id, |count| count.wrapping_sub(1));
        self.by_age.remove(&number)
    }

    /// Takes the oldest service out.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let id = *self.next(0)?.1.id();
        self.remove(&id)
    }

    fn counter(&mut self, id: &ServiceId, change: impl Fn(usize) -> usize) {
        let count = match id.family() {
            Family::V4 => &mut self.ipv4,
            Family::V6 => &mut self.ipv6,
        };
        *count = change(*count);
    }
}
