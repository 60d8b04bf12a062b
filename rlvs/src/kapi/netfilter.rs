// SPDX-License-Identifier: GPL-2.0

//! Netfilter hooks of one namespace.
//!
//! C header: [`include/linux/netfilter.h`](srctree/include/linux/netfilter.h)

use super::{
    bindings,
    netns::Net,
    skb::{
        Packet,
        Verdict, //
    }, //
};
use kernel::{
    error::to_result,
    ffi::{
        c_uint,
        c_void, //
    },
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Full, //
    }, //
};

/// Where in a packet's way a hook stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Point {
    /// Packets for this host.
    LocalIn,
    /// Packets passing through.
    Forward,
    /// Packets that this host sends.
    LocalOut,
}

/// Handles the packets that pass a point.
pub(crate) trait Handler: 'static {
    /// Decides on a packet. Softirq, or process context with softirqs on; under RCU.
    fn handle(net: &Net, point: Point, packet: Packet<'_>) -> Verdict;
}

/// A hook, for a static.
#[repr(transparent)]
pub(crate) struct Hook(bindings::nf_hook_ops);

// SAFETY: It is only read once it is in a static.
unsafe impl Sync for Hook {}

impl Hook {
    /// A hook for IPv4 packets: `H` handles them at `point`, before those with larger priorities.
    pub(crate) const fn ipv4<H: Handler>(point: Point, priority: i32) -> Self {
        Self::new::<H>(bindings::NFPROTO_IPV4, point, priority)
    }

    /// The same for IPv6.
    pub(crate) const fn ipv6<H: Handler>(point: Point, priority: i32) -> Self {
        Self::new::<H>(bindings::NFPROTO_IPV6, point, priority)
    }

    const fn new<H: Handler>(family: c_uint, point: Point, priority: i32) -> Self {
        Self(bindings::nf_hook_ops {
            hook: Some(trampoline::<H>),
            // CAST: Small constants of C.
            pf: family as u8,
            hooknum: match point {
                Point::LocalIn => bindings::nf_inet_hooks_NF_INET_LOCAL_IN,
                Point::Forward => bindings::nf_inet_hooks_NF_INET_FORWARD,
                Point::LocalOut => bindings::nf_inet_hooks_NF_INET_LOCAL_OUT,
            } as c_uint,
            priority,
            ..pin_init::zeroed()
        })
    }
}

/// Priorities of the hooks that others have at the same points.
pub(crate) mod priority {
    use super::bindings;

    /// Where source addresses are translated; IPv6 has it at the same place.
    pub(crate) const NAT_SRC: i32 = bindings::nf_ip_hook_priorities_NF_IP_PRI_NAT_SRC;
    /// Where destination addresses are translated.
    pub(crate) const NAT_DST: i32 = bindings::nf_ip_hook_priorities_NF_IP_PRI_NAT_DST;
}

/// # Safety
///
/// Called by netfilter, which lends `skb` and holds the RCU read lock.
unsafe extern "C" fn trampoline<H: Handler>(
    _private: *mut c_void,
    skb: *mut bindings::sk_buff,
    state: *const bindings::nf_hook_state,
) -> c_uint {
    // SAFETY: Netfilter passes valid pointers.
    let (net, hook) = unsafe { (Net::from_raw((*state).net), u32::from((*state).hook)) };
    let point = if hook == bindings::nf_inet_hooks_NF_INET_LOCAL_IN {
        Point::LocalIn
    } else if hook == bindings::nf_inet_hooks_NF_INET_FORWARD {
        Point::Forward
    } else {
        Point::LocalOut
    };
    // SAFETY: Netfilter lends the packet to this hook alone.
    match unsafe { Packet::from_raw(skb) } {
        Some(packet) => H::handle(net, point, packet).into_raw(),
        None => bindings::NF_ACCEPT,
    }
}

/// The hooks of a module in one namespace, registered or not.
///
/// Whoever owns it unregisters before the namespace or the module is gone.
pub(crate) struct HookSet {
    hooks: &'static [Hook],
    registered: Atomic<i32>,
}

impl HookSet {
    /// Hooks that are not registered yet.
    pub(crate) const fn new(hooks: &'static [Hook]) -> Self {
        Self {
            hooks,
            registered: Atomic::new(0),
        }
    }

    /// Are the hooks registered?
    pub(crate) fn is_registered(&self) -> bool {
        self.registered.load(Acquire) != 0
    }

    /// Registers the hooks if they are not. Process context, one caller at a time.
    pub(crate) fn register(&self, net: &Net) -> Result {
        if self.registered.load(Acquire) == 0 {
            let len = c_uint::try_from(self.hooks.len())?;
            // SAFETY: The hooks are static; `Hook` is transparent.
            to_result(unsafe {
                bindings::nf_register_net_hooks(net.as_ptr(), self.hooks.as_ptr().cast(), len)
            })?;
            self.registered.xchg(1, Full);
        }
        Ok(())
    }

    /// Unregisters the hooks if they are registered. They may run for a grace period longer. Process
    /// context.
    pub(crate) fn unregister(&self, net: &Net) {
        if self.registered.xchg(0, Full) != 0 {
            if let Ok(len) = c_uint::try_from(self.hooks.len()) {
                // SAFETY: These hooks were registered in this namespace.
                unsafe {
                    bindings::nf_unregister_net_hooks(
                        net.as_ptr(),
                        self.hooks.as_ptr().cast(),
                        len,
                    );
                }
            }
        }
    }
}
