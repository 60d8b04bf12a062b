// SPDX-License-Identifier: GPL-2.0

//! The tables of a namespace: connections and services, read under RCU.

mod collect;
mod conns;
mod services;

pub(crate) use self::{
    collect::collect,
    conns::{
        ConnTable,
        Conns,
        CONN_CACHES, //
    },
    services::{
        ServiceTable,
        Wanted,
        FTP_DATA, //
    }, //
};
