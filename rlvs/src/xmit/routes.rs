// SPDX-License-Identifier: GPL-2.0

//! The routes that are in use, and how many are remembered.
//!
//! A route to a real server is worth room for as long as the server is configured. Clients come and go:
//! what is remembered of them has a fixed size, whoever sends.

use crate::{
    family::{
        Both,
        Carried,
        Kind, //
    },
    kapi::{
        family::Inet,
        route::RouteCache, //
    }, //
};
use kernel::prelude::*;

/// Of each family a [`RouteCache`].
pub(super) struct Caches;

impl Kind for Caches {
    type Of<A: Carried> = RouteCache<A>;
}

/// Routes to clients that each CPU remembers, and the fewest to servers.
const LEAST: usize = 128;
/// The most routes to servers that each CPU remembers.
const MOST: usize = 1 << 14;
/// Slots for a route: with one for each, every third route would find its slot taken.
const SPARE: usize = 4;

/// Routes that are in use.
pub(crate) struct Routes {
    pub(super) to_servers: Both<Caches>,
    pub(super) to_clients: Both<Caches>,
}

impl Routes {
    /// None yet, nor room for any. Process context.
    // Not inlined: nothing of it should stay on the caller's stack.
    #[inline(never)]
    pub(crate) fn new() -> Result<Self> {
        let caches = || {
            Ok::<_, Error>(Both {
                v4: RouteCache::new()?,
                v6: RouteCache::new()?,
            })
        };
        Ok(Self {
            to_servers: caches()?,
            to_clients: caches()?,
        })
    }

    /// Makes room for routes of a family whose packets are to be handled. Process context, one caller
    /// at a time.
    pub(crate) fn open<A: Carried>(&self) -> Result {
        for caches in [&self.to_servers, &self.to_clients] {
            let cache = A::of(caches);
            if cache.len() == 0 {
                cache.resize(LEAST)?;
            }
        }
        Ok(())
    }

    /// There are about so many routes to servers. Process context, one caller at a time.
    pub(crate) fn fit(&self, routes: usize) {
        let slots = routes.saturating_mul(SPARE).clamp(LEAST, MOST);
        fit(&self.to_servers.v4, slots);
        fit(&self.to_servers.v6, slots);
    }

    /// Gives all of them up; they are found again. Process context.
    pub(crate) fn clear(&self) {
        for caches in [&self.to_servers, &self.to_clients] {
            caches.v4.clear();
            caches.v6.clear();
        }
    }
}

/// Gives a cache that is in use about so many slots: every other server more is no reason to forget the routes
/// to all.
fn fit<A: Inet>(cache: &RouteCache<A>, slots: usize) {
    let has = cache.len();
    let is_far_off = has < slots || has / SPARE > slots;
    if has > 0 && is_far_off {
        // Without memory it stays as it is, slower.
        let _ = cache.resize(slots.next_power_of_two());
    }
}
