// SPDX-License-Identifier: GPL-2.0

//! What is to be done about everything that is configured, every [`rate::PERIOD`] seconds: counters are
//! collected, rates estimated, graves closed, pools forgotten.
//!
//! However much is configured, nobody waits for it. A round is made of steps, each of which does a
//! little; the lock is free between them. Services are updated in the slices of a period
//! ([`rate::slices`]), so that each is updated a period after the last time, and in the order of their
//! age, which others that come and go do not change. Graves and pools come last.

use super::Config;
use crate::{
    stats::Meter,
    sysctl::Settings, //
};
use rlvs_core::rate::{
    self,
    Counters, //
};

/// How many services and destinations a step updates at most, but for those of its last service.
pub(crate) const CHUNK: usize = 128;

/// What is to be done next.
enum Place {
    /// The service of that number, or the next one.
    Service(u64),
    /// Graves.
    Graves,
    /// Pools.
    Pools,
}

/// When the next step is due.
pub(crate) enum Step {
    /// As soon as others have had their turn.
    Now,
    /// When that part of the period is over.
    Slice {
        /// So many slices,
        done: usize,
        /// of how many.
        slices: usize,
    },
    /// With the next round.
    Round {
        /// There is something to do in it.
        busy: bool,
        /// About how many routes lead to all destinations.
        routes: usize,
    },
}

/// A round.
pub(crate) struct Round {
    place: Place,
    slice: usize,
    /// Into how many slices the period is cut.
    pub(crate) slices: usize,
    /// Services that were updated in this round.
    services: usize,
    /// Services and destinations that were.
    updated: usize,
    /// The same of the round before.
    pub(crate) members: usize,
    /// From so many local addresses, one or more, to destinations.
    routes: usize,
    /// Shows the traffic of the namespace.
    pub(super) meter: Meter,
}

impl Round {
    /// The first one.
    pub(super) fn new() -> Self {
        Self {
            place: Place::Service(0),
            slice: 0,
            slices: 1,
            services: 0,
            updated: 0,
            members: 0,
            routes: 0,
            meter: Meter::new(Counters::default()),
        }
    }

    /// The next one.
    fn next(&mut self) {
        self.place = Place::Service(0);
        self.slice = 0;
        self.services = 0;
        self.members = self.updated;
        self.updated = 0;
        self.routes = 0;
    }
}

impl Config {
    /// The round that is being made.
    pub(crate) fn round(&self) -> &Round {
        &self.round
    }

    /// Does the next step of a round.
    pub(crate) fn step(&mut self, settings: &Settings) -> Step {
        match self.round.place {
            Place::Service(from) => self.update_services(from, settings),
            Place::Graves => {
                if !self.departed.settle(CHUNK) {
                    self.round.place = Place::Pools;
                }
                Step::Now
            }
            Place::Pools => {
                if self.pools.sweep(CHUNK) {
                    return Step::Now;
                }
                if settings.estimates() {
                    let total = self.total();
                    self.round.meter.update(total);
                }
                let routes = self.round.routes;
                self.round.next();
                Step::Round {
                    routes,
                    busy: self.services.len() > 0
                        || self.departed.graves() > 0
                        || self.pools.is_stale(),
                }
            }
        }
    }

    fn update_services(&mut self, from: u64, settings: &Settings) -> Step {
        let estimate = settings.estimates();
        let (departed, pools, round) = (&mut self.departed, &mut self.pools, &mut *self.round);
        let services = self.services.len();
        if from == 0 {
            round.slices = rate::slices(services);
        }
        let is_last = round.slice.saturating_add(1) >= round.slices;
        let due = rate::due(services, round.slice, round.slices);
        let (mut updated, mut routes, mut more) = (0usize, 0usize, false);
        self.services.walk(from, |number, entry| {
            more = is_last || round.services < due;
            if !more || updated >= CHUNK {
                return false;
            }
            entry.update(departed, estimate);
            entry.tend_locality(settings);
            pools.want(entry);
            updated = updated
                .saturating_add(1)
                .saturating_add(entry.members.len());
            let sources = entry.laddrs.len().max(1);
            routes = routes.saturating_add(entry.members.len().saturating_mul(sources));
            round.services = round.services.saturating_add(1);
            round.place = Place::Service(number.saturating_add(1));
            more = false;
            true
        });
        round.updated = round.updated.saturating_add(updated);
        round.routes = round.routes.saturating_add(routes);
        if more {
            return Step::Now;
        }
        round.slice = round.slice.saturating_add(1);
        if is_last {
            round.place = Place::Graves;
            return Step::Now;
        }
        Step::Slice {
            done: round.slice,
            slices: round.slices,
        }
    }
}
