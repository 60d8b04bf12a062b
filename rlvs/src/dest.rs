// SPDX-License-Identifier: GPL-2.0

//! Destinations: the real servers of a service, each with its port.
//!
//! A [`Dest`] outlives its place in a service for as long as connections go there. What an operator
//! sets of it is a [`DestSpec`]; the packet path reads the same values from atomics.

use crate::stats::Traffic;
use core::net::{
    IpAddr,
    Ipv4Addr, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        Arc, //
    }, //
};
use rlvs_core::{
    uapi::method,
    wire, //
};

/// How packets of the tunnel method are wrapped, as it was set.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tunnel {
    /// The kind of tunnel.
    pub(crate) kind: u8,
    /// The port of a tunnel that has one.
    pub(crate) port: u16,
    /// The flags of a tunnel that has some.
    pub(crate) flags: u16,
}

impl Tunnel {
    /// All of it in one word, for an atomic.
    fn pack(self) -> u64 {
        u64::from(self.kind) << 32 | u64::from(self.port) << 16 | u64::from(self.flags)
    }

    #[inline]
    fn unpack(word: u64) -> Self {
        // CAST: Each has the bits that it had.
        Self {
            kind: (word >> 32) as u8,
            port: (word >> 16) as u16,
            flags: word as u16,
        }
    }
}

/// What an operator sets of a destination.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct DestSpec {
    /// How packets reach it: at most [`rlvs_core::uapi::method::MASK`], as it was set.
    pub(crate) method: u32,
    /// At most `i32::MAX`. 0 takes no new connections.
    pub(crate) weight: u32,
    /// So many connections are enough; 0 sets no limit. At most `i32::MAX`.
    pub(crate) upper: u32,
    /// Fewer connections than that are few enough again; 0 stands for three quarters of `upper`.
    pub(crate) lower: u32,
    /// How packets are wrapped.
    pub(crate) tunnel: Tunnel,
}

/// A destination.
pub(crate) struct Dest {
    /// The real server's address.
    pub(crate) addr: IpAddr,
    /// The real server's port.
    pub(crate) port: u16,
    /// What went there.
    pub(crate) traffic: Traffic,
    /// No service has it: another director has told of it.
    pub(crate) is_strange: bool,
    tunnel: Atomic<u64>,
    rewritten: Atomic<bool>,
    available: Atomic<bool>,
    weight: Atomic<u32>,
    last_weight: Atomic<u32>,
    upper: Atomic<i32>,
    lower: Atomic<i32>,
    overloaded: Atomic<bool>,
    active: Atomic<i32>,
    conns: Atomic<i32>,
    templates: Atomic<i32>,
}

impl Dest {
    /// A destination that no service has yet. Process context.
    pub(crate) fn new(addr: IpAddr, port: u16) -> Result<Arc<Self>> {
        Self::alloc(addr, port, false)
    }

    fn alloc(addr: IpAddr, port: u16, is_strange: bool) -> Result<Arc<Self>> {
        Ok(Arc::new(
            Self {
                addr,
                port,
                traffic: Traffic::new()?,
                is_strange,
                tunnel: Atomic::new(0),
                rewritten: Atomic::new(false),
                available: Atomic::new(false),
                weight: Atomic::new(0),
                last_weight: Atomic::new(0),
                upper: Atomic::new(0),
                lower: Atomic::new(0),
                overloaded: Atomic::new(false),
                active: Atomic::new(0),
                conns: Atomic::new(0),
                templates: Atomic::new(0),
            },
            GFP_KERNEL,
        )?)
    }

    /// The destination of connections that have none: always available. Process context.
    pub(crate) fn nowhere() -> Result<Arc<Self>> {
        let this = Self::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)?;
        this.available.store(true, Relaxed);
        Ok(this)
    }

    /// The destination of connections that another director has told of, and that no service here has:
    /// always available. Process context.
    pub(crate) fn strange(addr: IpAddr, port: u16) -> Result<Arc<Self>> {
        let this = Self::alloc(addr, port, true)?;
        this.available.store(true, Relaxed);
        Ok(this)
    }

    /// Takes over what an operator has set, and is available from now on.
    pub(crate) fn configure(&self, spec: &DestSpec) {
        self.weight.store(spec.weight, Relaxed);
        self.tunnel.store(spec.tunnel.pack(), Relaxed);
        let rewritten = matches!(spec.method, method::MASQ | method::FULLNAT);
        self.rewritten.store(rewritten, Relaxed);
        self.last_weight
            .store(self.last_weight_with(spec.weight), Relaxed);
        let lower = match spec.lower {
            0 => spec.upper.wrapping_sub(spec.upper >> 2),
            lower => lower,
        };
        self.upper.store(signed(spec.upper), Relaxed);
        self.lower.store(signed(lower), Relaxed);
        let conns = self.conns.load(Relaxed);
        if spec.upper == 0 || conns < signed(lower) {
            self.overloaded.store(false, Relaxed);
        } else if conns >= signed(spec.upper) {
            self.overload();
        }
        self.available.store(true, Relaxed);
    }

    /// Is no longer available: its service has let it go.
    pub(crate) fn dismiss(&self) {
        self.available.store(false, Relaxed);
        self.last_weight.store(0, Relaxed);
    }

    /// Whether its packets get its address.
    pub(crate) fn is_rewritten_to(&self) -> bool {
        self.rewritten.load(Relaxed)
    }

    /// How packets of the tunnel method are wrapped.
    #[inline]
    pub(crate) fn tunnel(&self) -> wire::tunnel::Tunnel {
        let Tunnel { kind, port, flags } = Tunnel::unpack(self.tunnel.load(Relaxed));
        wire::tunnel::Tunnel::new(kind, port, flags)
    }

    /// Whether a service has it. Connections may go on without.
    #[inline]
    pub(crate) fn is_available(&self) -> bool {
        self.available.load(Relaxed)
    }

    /// Its weight; 0 takes no new connections.
    #[inline]
    pub(crate) fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    /// The last weight that is not 0 of those that its service has set, `weight` being the next; 0 if
    /// there is none.
    pub(crate) fn last_weight_with(&self, weight: u32) -> u32 {
        match weight {
            0 => self.last_weight.load(Relaxed),
            weight => weight,
        }
    }

    /// Whether it has reached its upper threshold and not yet come back under the lower one.
    #[inline]
    pub(crate) fn is_overloaded(&self) -> bool {
        self.overloaded.load(Relaxed)
    }

    /// How many active connections it has.
    #[inline]
    pub(crate) fn active(&self) -> u32 {
        unsigned(self.active.load(Relaxed))
    }

    /// How many inactive connections it has.
    #[inline]
    pub(crate) fn inactive(&self) -> u32 {
        let (conns, active) = (self.conns.load(Relaxed), self.active.load(Relaxed));
        unsigned(conns.saturating_sub(active))
    }

    /// How many templates it has.
    pub(crate) fn templates(&self) -> u32 {
        unsigned(self.templates.load(Relaxed))
    }

    /// Whether no connections go there any more, and none will because of a template.
    pub(crate) fn is_idle(&self) -> bool {
        self.conns.load(Relaxed) == 0 && self.templates.load(Relaxed) == 0
    }

    /// Counts a new template. Any context.
    pub(crate) fn bind_template(&self) {
        self.templates.add(1, Relaxed);
    }

    /// Counts a template that ends. Any context.
    pub(crate) fn unbind_template(&self) {
        self.templates.add(-1, Relaxed);
    }

    /// Counts a new connection, an inactive one. Any context.
    #[inline]
    pub(crate) fn bind(&self) {
        let conns = self.conns.fetch_add(1, Full).wrapping_add(1);
        let upper = self.upper.load(Relaxed);
        if upper != 0 && conns >= upper {
            self.overload();
        }
    }

    /// Counts a connection that ends, an active or an inactive one. Any context.
    #[inline]
    pub(crate) fn unbind(&self, active: bool) {
        if active {
            self.active.add(-1, Relaxed);
        }
        let conns = self.conns.fetch_sub(1, Full).wrapping_sub(1);
        if self.is_overloaded() && conns < self.lower.load(Relaxed) {
            self.overloaded.store(false, Relaxed);
        }
    }

    /// Counts a connection that becomes active or inactive. Any context.
    #[inline]
    pub(crate) fn set_active(&self, active: bool) {
        self.active.add(if active { 1 } else { -1 }, Relaxed);
    }

    /// Sets the flag. Connections may have ended since the caller counted them, all of them even, so
    /// it counts again once the flag can be seen: else nobody might be left to clear it.
    #[cold]
    fn overload(&self) {
        self.overloaded.xchg(true, Full);
        if self.conns.load(Relaxed) < self.lower.load(Relaxed) {
            self.overloaded.store(false, Relaxed);
        }
    }
}

/// Whether a destination set to `method` is reached by FullNAT: it was added so, or by NAT to a service
/// that has local addresses.
pub(crate) fn fullnat(method: u32, has_local_addresses: bool) -> bool {
    method == method::FULLNAT || method == method::MASQ && has_local_addresses
}

/// For values that were checked to be in range.
fn signed(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// For counters that may for a moment be seen below 0.
#[inline]
fn unsigned(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}
