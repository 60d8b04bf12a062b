// SPDX-License-Identifier: GPL-2.0

//! The two families of the internet protocol: packets of each have tables of their own.

use crate::kapi::{
    family::Inet,
    tunnel::Nested, //
};
use core::net::{
    Ipv4Addr,
    Ipv6Addr, //
};
use rlvs_core::wire::{
    ip::Ip,
    tunnel::Outer, //
};

/// What there is one of for each family.
pub(crate) trait Kind {
    /// That of a family.
    type Of<A: Carried>;
}

/// One for each family.
pub(crate) struct Both<K: Kind> {
    /// That of IPv4.
    pub(crate) v4: K::Of<Ipv4Addr>,
    /// That of IPv6.
    pub(crate) v6: K::Of<Ipv6Addr>,
}

/// A family whose packets are balanced.
pub(crate) trait Carried: Ip + Outer + Inet + Nested {
    /// The one of this family.
    fn of<K: Kind>(both: &Both<K>) -> &K::Of<Self>;
}

impl Carried for Ipv4Addr {
    #[inline]
    fn of<K: Kind>(both: &Both<K>) -> &K::Of<Self> {
        &both.v4
    }
}

impl Carried for Ipv6Addr {
    #[inline]
    fn of<K: Kind>(both: &Both<K>) -> &K::Of<Self> {
        &both.v6
    }
}
