// SPDX-License-Identifier: GPL-2.0

//! What the `kernel` crate does not have yet, written as it would be sent upstream.
//!
//! All unsafe code of the module lives here, and nothing here knows of load balancing.

mod bindings;

pub(crate) mod bh;
pub(crate) mod conntrack;
pub(crate) mod family;
pub(crate) mod genl;
pub(crate) mod hash;
pub(crate) mod inet;
pub(crate) mod mem;
pub(crate) mod multicast;
pub(crate) mod netdev;
pub(crate) mod netfilter;
pub(crate) mod netns;
pub(crate) mod nla;
pub(crate) mod percpu;
pub(crate) mod proc;
pub(crate) mod random;
pub(crate) mod rcu;
pub(crate) mod route;
pub(crate) mod skb;
pub(crate) mod slab;
pub(crate) mod sysctl;
pub(crate) mod time;
pub(crate) mod tunnel;
pub(crate) mod work;
