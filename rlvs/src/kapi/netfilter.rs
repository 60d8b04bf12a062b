// SPDX-License-Identifier: GPL-2.0

//! Netfilter hooks of one namespace.
//!
//! C header: [`include/linux/netfilter.h`](srctree/include/linux/netfilter.h)

use super::{
    bindings,
    netns::{
        Net,
        PerNet, //
    },
    skb::{
        Glimpse,
        Packet,
        Verdict, //
    }, //
};
use core::{
    marker::PhantomData,
    ptr, //
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
        Full,
        Release, //
    },
    types::Opaque,
    warn_on, //
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

impl Point {
    /// The point whose place in the enumeration that is.
    #[inline(always)]
    const fn at(place: u8) -> Self {
        match place {
            0 => Self::LocalIn,
            1 => Self::Forward,
            _ => Self::LocalOut,
        }
    }

    const fn number(self) -> c_uint {
        match self {
            Self::LocalIn => bindings::nf_inet_hooks_NF_INET_LOCAL_IN,
            Self::Forward => bindings::nf_inet_hooks_NF_INET_FORWARD,
            Self::LocalOut => bindings::nf_inet_hooks_NF_INET_LOCAL_OUT,
        }
    }
}

/// Handles the packets that pass a point.
pub(crate) trait Handler: 'static {
    /// What it has in each namespace.
    type State: PerNet;

    /// Might the packet be one to handle? Every packet that passes is asked, so this must be cheap.
    fn concerns(state: &Self::State, point: Point, packet: &Glimpse<'_>) -> bool;

    /// Decides on such a packet. Softirq, or process context with softirqs on; under RCU.
    fn handle(state: &Self::State, net: &Net, point: Point, packet: Packet<'_>) -> Verdict;
}

/// A hook whose handler has state of type `S`, for a static.
#[repr(transparent)]
pub(crate) struct Hook<S>(bindings::nf_hook_ops, PhantomData<fn(&S)>);

// SAFETY: It is only read once it is in a static.
unsafe impl<S> Sync for Hook<S> {}

impl<S: PerNet> Hook<S> {
    /// A hook for IPv4 packets: `H` handles them at `point`, before those with larger priorities.
    pub(crate) const fn ipv4<H: Handler<State = S>>(point: Point, priority: i32) -> Self {
        Self::new::<H>(bindings::NFPROTO_IPV4, point, priority)
    }

    /// The same for IPv6.
    pub(crate) const fn ipv6<H: Handler<State = S>>(point: Point, priority: i32) -> Self {
        Self::new::<H>(bindings::NFPROTO_IPV6, point, priority)
    }

    const fn new<H: Handler<State = S>>(family: c_uint, point: Point, priority: i32) -> Self {
        let ops = bindings::nf_hook_ops {
            hook: Some(match point {
                Point::LocalIn => trampoline::<H, { Point::LocalIn as u8 }>,
                Point::Forward => trampoline::<H, { Point::Forward as u8 }>,
                Point::LocalOut => trampoline::<H, { Point::LocalOut as u8 }>,
            }),
            // CAST: Small constants of C.
            pf: family as u8,
            hooknum: point.number(),
            priority,
            ..pin_init::zeroed()
        };
        Self(ops, PhantomData)
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

/// What netfilter calls at the point with the number `AT`: of each point there is a copy that knows where it is.
///
/// # Safety
///
/// Netfilter calls it, lends `skb` and holds the RCU read lock. `own` leads to an `H::State`: see
/// `HookSet::register`.
unsafe extern "C" fn trampoline<H: Handler, const AT: u8>(
    own: *mut c_void,
    skb: *mut bindings::sk_buff,
    state: *const bindings::nf_hook_state,
) -> c_uint {
    // SAFETY: By the contract of this function.
    let (own, passing) = unsafe { (&*own.cast::<H::State>(), Glimpse::from_raw(&skb)) };
    if !H::concerns(own, Point::at(AT), &passing) {
        return bindings::NF_ACCEPT;
    }
    // SAFETY: By the contract of this function.
    unsafe { take::<H, AT>(own, skb, state) }
}

/// # Safety
///
/// `skb` and `state` are those that netfilter passes to a hook, and it holds the RCU read lock.
// A function of its own, lest packets that are let pass pay for its frame.
#[inline(never)]
unsafe fn take<H: Handler, const AT: u8>(
    own: &H::State,
    skb: *mut bindings::sk_buff,
    state: *const bindings::nf_hook_state,
) -> c_uint {
    // SAFETY: Netfilter passes valid pointers, and lends the packet to this hook alone.
    let (net, packet) = unsafe { (Net::from_raw((*state).net), Packet::from_raw(skb)) };
    match packet {
        Some(packet) => H::handle(own, net, Point::at(AT), packet).into_raw(),
        None => bindings::NF_ACCEPT,
    }
}

/// The most hooks that a set has.
const HOOKS: usize = 4;

/// The hooks of a module in one namespace, registered or not.
///
/// It is part of an `S`. Whoever owns it unregisters in [`PerNet::pre_exit`].
pub(crate) struct HookSet<S: 'static> {
    hooks: &'static [Hook<S>],
    /// What is registered: the hooks, with the namespace's `S`. Netfilter may look at it for a grace
    /// period after they were unregistered, as long as which the set lives.
    ops: Opaque<[bindings::nf_hook_ops; HOOKS]>,
    /// One of the three below; who turns it to `CHANGING` has `ops` for himself.
    state: Atomic<i32>,
}

/// The hooks are not registered.
const GONE: i32 = 0;
/// They are.
const THERE: i32 = 1;
/// Somebody is about to register or unregister them.
const CHANGING: i32 = 2;

// SAFETY: `ops` is written by `register` alone, before netfilter sees it.
unsafe impl<S> Send for HookSet<S> {}
// SAFETY: As above, and by one at a time: see `state`.
unsafe impl<S> Sync for HookSet<S> {}

impl<S: PerNet> HookSet<S> {
    /// Hooks that are not registered yet.
    pub(crate) const fn new(hooks: &'static [Hook<S>]) -> Self {
        Self {
            hooks,
            ops: Opaque::zeroed(),
            state: Atomic::new(GONE),
        }
    }

    /// Are the hooks registered?
    pub(crate) fn is_registered(&self) -> bool {
        self.state.load(Acquire) == THERE
    }

    /// Registers the hooks if they are not. Process context; `EBUSY` while another caller does so, or
    /// unregisters them.
    pub(crate) fn register(&self, net: &Net) -> Result {
        match self.state.cmpxchg(GONE, CHANGING, Full) {
            Ok(_) => {}
            Err(THERE) => return Ok(()),
            Err(_) => return Err(EBUSY),
        }
        let result = self.register_alone(net);
        let now = if result.is_ok() { THERE } else { GONE };
        self.state.store(now, Release);
        result
    }

    fn register_alone(&self, net: &Net) -> Result {
        let own = S::of(net).ok_or(ENOENT)?;
        let ops: *mut bindings::nf_hook_ops = self.ops.get().cast();
        for (at, hook) in self.hooks.iter().take(HOOKS).enumerate() {
            // SAFETY: `at` is below `HOOKS`. The state is `CHANGING`, and should netfilter still look
            // at what was registered before, it was the same. The state lives until `PerNet`'s exit, a
            // grace period after `pre_exit`, from where on no hook is registered.
            unsafe {
                ops.wrapping_add(at).write(bindings::nf_hook_ops {
                    priv_: ptr::from_ref(own).cast_mut().cast(),
                    ..hook.0
                });
            }
        }
        // SAFETY: So many hooks were filled in, and they stay.
        to_result(unsafe { bindings::nf_register_net_hooks(net.as_ptr(), ops, self.len()) })
    }

    /// Unregisters the hooks if they are registered. They may run for a grace period longer. Process
    /// context.
    pub(crate) fn unregister(&self, net: &Net) {
        if self.state.cmpxchg(THERE, CHANGING, Full).is_ok() {
            // SAFETY: These hooks were registered in this namespace.
            unsafe {
                bindings::nf_unregister_net_hooks(net.as_ptr(), self.ops.get().cast(), self.len());
            }
            self.state.store(GONE, Release);
        }
    }

    fn len(&self) -> c_uint {
        // CAST: At most `HOOKS`.
        self.hooks.len().min(HOOKS) as c_uint
    }
}

impl<S> Drop for HookSet<S> {
    fn drop(&mut self) {
        warn_on!(self.state.load(Acquire) != GONE);
    }
}

/// Drops what programs (NFQUEUE) hold of a namespace's packets, lest one of them goes on to a function of a module
/// that is gone. Process context, after the module's hooks were unregistered and a grace period.
///
/// Unregistering does the same, but a hook that still runs may queue another packet after that.
///
/// C source: [`net/netfilter/nf_queue.c`](srctree/net/netfilter/nf_queue.c)
pub(crate) fn drop_queued(net: &Net) {
    // SAFETY: The namespace is valid.
    unsafe { bindings::nf_queue_nf_hook_drop(net.as_ptr()) };
}
