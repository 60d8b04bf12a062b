// SPDX-License-Identifier: GPL-2.0

//! The decisions of rlvs, as pure functions: bytes to headers and back, flows, protocol states,
//! schedulers, local ports. It knows no kernel, allocates nothing and has no `unsafe`; time,
//! randomness and hashing are arguments. The kernel module and the tools are built on it.
//!
//! Nothing here panics, whatever the bytes: a panic in the module is a dead machine. So there is
//! no indexing the compiler cannot prove and no arithmetic that could overflow; what a header
//! says is either checked or wraps on purpose.
//!
//! Addresses are [`core::net`]'s; ports are `u16` in host order.

#![crate_name = "rlvs_core"]
#![cfg_attr(not(any(MODULE, test)), no_std)]
#![forbid(unsafe_code)]

pub mod defence;
pub mod filter;
pub mod flow;
pub mod listing;
pub mod persist;
pub mod proto;
pub mod rate;
pub mod sched;
pub mod snat;
pub mod sync;
pub mod uapi;
pub mod wire;
