// SPDX-License-Identifier: GPL-2.0

//! The tables of a namespace: connections, templates and services, read under RCU.

mod collect;
mod conns;
mod services;
mod templates;

pub(crate) use self::{
    collect::collect,
    conns::{
        Conns,
        CONN_CACHES, //
    },
    services::{
        ServiceTable,
        Wanted,
        FTP_DATA, //
    },
    templates::{
        TemplateTable,
        TEMPLATE_CACHE, //
    }, //
};
