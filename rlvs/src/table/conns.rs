// SPDX-License-Identifier: GPL-2.0

//! The connection table. One lookup tells which connection a packet belongs to, and its direction.

use crate::{
    conn::{
        Conn,
        ConnEntry, //
    },
    kapi::{
        hash::Table,
        slab::Cache, //
    }, //
};
use core::net::Ipv4Addr;
use rlvs_core::flow::Tuple;

/// The connections of a namespace.
pub(crate) type ConnTable = Table<Tuple<Ipv4Addr>, Conn, 2>;

/// The memory of all connections.
pub(crate) static CONN_CACHE: Cache<ConnEntry> = Cache::new();
