// SPDX-License-Identifier: GPL-2.0

//! Raw bindings: the kernel crate's, and what it lacks.
//!
//! Only `kapi` sees this module. A local definition shadows the globs, so that a type that both
//! sides know stays one type.

#![allow(
    clippy::all,
    clippy::arithmetic_side_effects,
    clippy::cast_lossless,
    clippy::indexing_slicing,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unnecessary_transmutes,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

use kernel::ffi;
use pin_init::{
    MaybeZeroable,
    Zeroable, //
};

pub(crate) use self::helpers::*;
pub(crate) use kernel::bindings::*;

include!(concat!(env!("RLVS_GEN"), "/bindings_generated.rs"));

// SAFETY: `__BindgenBitfieldUnit<Storage>` is a newtype around `Storage`.
unsafe impl<Storage: Zeroable> Zeroable for __BindgenBitfieldUnit<Storage> {}

mod helpers {
    use super::*;
    include!(concat!(env!("RLVS_GEN"), "/helpers_generated.rs"));
}
