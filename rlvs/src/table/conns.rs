// SPDX-License-Identifier: GPL-2.0

//! The connection tables. One lookup tells which connection a packet belongs to, and its direction.

use crate::{
    conn::{
        Conn,
        ConnEntry, //
    },
    family::{
        Both,
        Carried,
        Kind, //
    },
    kapi::{
        hash::Table,
        slab::Cache, //
    }, //
};
use kernel::{
    prelude::*,
    sync::rcu::Guard, //
};
use rlvs_core::flow::Tuple;

/// The connections of a family in a namespace.
pub(crate) type ConnTable<A> = Table<Tuple<A>, Conn, 2>;

impl<A: Carried> ConnTable<A> {
    /// Ends a connection; true for the one caller who did it.
    pub(crate) fn end(&self, entry: &ConnEntry<A>, guard: &Guard) -> bool {
        let ended = self.remove(entry, guard);
        if ended {
            entry.ended();
        }
        ended
    }
}

/// Of each family a [`ConnTable`].
pub(crate) struct Tables;

impl Kind for Tables {
    type Of<A: Carried> = ConnTable<A>;
}

/// The connections of a namespace.
pub(crate) type Conns = Both<Tables>;

impl Conns {
    /// No connections. Process context.
    // Not inlined: nothing of it should stay on the caller's stack.
    #[inline(never)]
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            v4: Table::new()?,
            v6: Table::new()?,
        })
    }

    /// How many connections there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.v4.len().saturating_add(self.v6.len())
    }
}

/// Of each family the memory of its connections.
pub(crate) struct Caches;

impl Kind for Caches {
    type Of<A: Carried> = Cache<ConnEntry<A>>;
}

/// The memory of all connections.
pub(crate) static CONN_CACHES: Both<Caches> = Both {
    v4: Cache::new(),
    v6: Cache::new(),
};
