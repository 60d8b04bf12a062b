// SPDX-License-Identifier: GPL-2.0

//! The template table: which destination a client's next connection goes to.

use crate::{
    kapi::{
        hash::Table,
        slab::Cache, //
    },
    template::{
        Template,
        TemplateEntry, //
    }, //
};
use kernel::sync::Arc;
use rlvs_core::persist::TemplateKey;

/// The templates of a namespace, of both families.
pub(crate) type TemplateTable = Table<TemplateKey, Arc<Template>, 1>;

/// The memory of what the tables hold.
pub(crate) static TEMPLATE_CACHE: Cache<TemplateEntry> = Cache::new();
