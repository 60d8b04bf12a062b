// SPDX-License-Identifier: GPL-2.0

//! The configuration of a namespace.
//!
//! It is plain data under one mutex. A change (`change`) first allocates all that it needs, the new
//! [`Snapshot`](crate::service::Snapshot) of the service included, and then takes effect without a
//! way to fail: a command that is refused has changed nothing.
//!
//! A destination that is deleted is laid in a *grave* (`departed`). Added again to the same service it
//! comes back with its connections and its statistics; otherwise the grave is closed two minutes after
//! the last connection has gone.

mod change;
mod departed;
mod entry;
mod pools;
mod round;
mod services;

pub(crate) use self::{
    change::{
        NO_SERVICE,
        SERVICE_EXISTS, //
    },
    entry::{
        Entry,
        Member,
        ServiceSpec, //
    },
    round::{
        Step,
        CHUNK, //
    }, //
};

use self::{
    departed::Departed,
    pools::Pools,
    round::Round,
    services::Services, //
};
use crate::{
    kapi::netns::Net,
    service::ServiceId,
    stats::Stats,
    table::ServiceTable, //
};
use core::net::IpAddr;
use kernel::{
    prelude::*,
    str::CStr, //
};
use rlvs_core::rate::Counters;

/// What a refusal is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The service that was named.
    Service,
    /// The destination or the local address that was named.
    Member,
}

/// Why a command was not carried out.
pub(crate) struct Refusal {
    /// The number for programs.
    pub(crate) errno: Error,
    /// The sentence for people.
    pub(crate) message: &'static CStr,
    /// What is to blame, if it was named in the command.
    pub(crate) subject: Option<Subject>,
}

impl Refusal {
    const fn new(errno: Error, subject: Subject, message: &'static CStr) -> Self {
        Self {
            errno,
            message,
            subject: Some(subject),
        }
    }
}

impl<E: Into<Error>> From<E> for Refusal {
    /// What can go wrong besides is a lack of memory, or an error of the kernel's.
    fn from(error: E) -> Self {
        let errno = error.into();
        Self {
            errno,
            message: if errno == ENOMEM {
                c"out of memory"
            } else {
                c"the kernel refused"
            },
            subject: None,
        }
    }
}

/// Where packets find what is configured.
pub(crate) trait Plane {
    /// The services that packets are looked up in.
    fn services(&self) -> &ServiceTable;

    /// Packets from and to the address are worth a look.
    fn learn(&self, addr: IpAddr);

    /// There are so many services of each family now: packets are looked at only while there are
    /// some. Process context, under the config's lock.
    fn services_changed(&self, net: &Net, ipv4: usize, ipv6: usize) -> Result;

    /// Destinations were deleted: their connections may be of no use any more.
    fn dismissed(&self);
}

/// The configuration of a namespace.
pub(crate) struct Config {
    services: Services,
    /// Destinations whose family is not that of their service.
    mixed: usize,
    /// The number of the youngest destination or local address.
    numbers: u64,
    departed: Departed,
    pools: Pools,
    round: KBox<Round>,
    generation: u32,
}

impl Config {
    /// The empty configuration. Process context.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            services: Services::new(),
            mixed: 0,
            numbers: 0,
            departed: Departed::new()?,
            pools: Pools::new(),
            round: KBox::new(Round::new(), GFP_KERNEL)?,
            generation: 1,
        })
    }

    /// The service of that name.
    pub(crate) fn find(&self, id: &ServiceId) -> Option<&Entry> {
        self.services.get(id)
    }

    /// The oldest service whose number is at least `number`, with its number: above 0, and no other
    /// service has had it.
    pub(crate) fn next_service(&self, number: u64) -> Option<(u64, &Entry)> {
        self.services.next(number)
    }

    /// All services from that number on, oldest first, each with its number.
    pub(crate) fn services_from(&self, number: u64) -> impl Iterator<Item = (u64, &Entry)> {
        self.services.from(number)
    }

    /// Whether a destination's family is not that of its service.
    pub(crate) fn is_mixed(&self) -> bool {
        self.mixed > 0
    }

    /// Another number after every change, never 0.
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// How many services there are.
    pub(crate) fn services(&self) -> usize {
        self.services.len()
    }

    /// What is shown of the traffic of all services there are and were.
    ///
    /// If there are many it is as old as the last [`step`](Self::step) that came by: whoever may read
    /// `/proc` must not hold up who configures.
    pub(crate) fn stats(&mut self) -> Stats {
        let few = [
            self.services.len(),
            self.round.members,
            self.departed.graves(),
        ];
        if few.iter().sum::<usize>() <= CHUNK {
            self.collect();
        }
        self.round.meter.stats(&self.total())
    }

    /// What each possible CPU has counted, never zeroed, of the same age.
    pub(crate) fn per_cpu(&self) -> &[(i32, Counters)] {
        self.departed.collected()
    }

    /// Collects what all have counted.
    fn collect(&mut self) {
        for member in self.services.iter().flat_map(Entry::members) {
            self.departed.collect(&member.dest);
        }
        self.departed.collect_graves();
    }

    /// What was collected of all.
    fn total(&self) -> Counters {
        let none = Counters::default();
        let each = self.per_cpu().iter();
        each.fold(none, |sum, (_, counters)| sum.wrapping_add(counters))
    }
}
