// SPDX-License-Identifier: GPL-2.0

//! Integers in `/proc/sys/net`, in every namespace.
//!
//! C header: [`include/linux/sysctl.h`](srctree/include/linux/sysctl.h)

use super::{
    bindings,
    netns::{
        Net,
        PerNet,
        Subsys, //
    }, //
};
use core::{
    pin::Pin,
    ptr::NonNull, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

/// One integer that an operator may set.
pub(crate) struct Entry<V: 'static> {
    name: &'static CStr,
    value: fn(&V) -> &Atomic<i32>,
    limit: Limit<V>,
}

/// Which values an operator may choose.
enum Limit<V: 'static> {
    /// From the first to the second.
    Range(i32, i32),
    /// From 0 to the ceiling that is kept here. Who has CAP_NET_ADMIN in the first user namespace
    /// may go up to the number instead, and moves the ceiling.
    Ceiling(fn(&V) -> &Atomic<i32>, i32),
}

impl<V> Entry<V> {
    /// The integer `name`, whatever its value.
    pub(crate) const fn any(name: &'static CStr, value: fn(&V) -> &Atomic<i32>) -> Self {
        Self::range(name, value, i32::MIN, i32::MAX)
    }

    /// The integer `name`, from `min` to `max`.
    pub(crate) const fn range(
        name: &'static CStr,
        value: fn(&V) -> &Atomic<i32>,
        min: i32,
        max: i32,
    ) -> Self {
        Self {
            name,
            value,
            limit: Limit::Range(min, max),
        }
    }

    /// The integer `name`, from 0 to `ceiling`, which is whatever CAP_NET_ADMIN in the first user
    /// namespace has last chosen, at most `max`.
    pub(crate) const fn ceiling(
        name: &'static CStr,
        value: fn(&V) -> &Atomic<i32>,
        ceiling: fn(&V) -> &Atomic<i32>,
        max: i32,
    ) -> Self {
        Self {
            name,
            value,
            limit: Limit::Ceiling(ceiling, max),
        }
    }

    /// What the C side needs to know of the integer in `values`, which must outlive it.
    fn table(&'static self, values: &V) -> bindings::ctl_table {
        let (handler, low, high): (bindings::proc_handler, *const i32, *const i32) = match &self
            .limit
        {
            Limit::Range(min, max) => (Some(bindings::proc_dointvec_minmax), min, max),
            Limit::Ceiling(ceiling, max) => (Some(below_ceiling), ceiling(values).as_ptr(), max),
        };
        bindings::ctl_table {
            procname: self.name.as_char_ptr(),
            data: (self.value)(values).as_ptr().cast(),
            maxlen: size_of::<i32>() as c_int,
            mode: 0o644,
            proc_handler: handler,
            extra1: low.cast_mut().cast(),
            extra2: high.cast_mut().cast(),
            ..Default::default()
        }
    }
}

/// Handles an [`Entry::ceiling`].
///
/// # Safety
///
/// As `proc_sys_call_handler()` calls the handler of an entry that [`Entry::table`] made.
unsafe extern "C" fn below_ceiling(
    table: *const bindings::ctl_table,
    write: c_int,
    buffer: *mut c_void,
    lenp: *mut usize,
    ppos: *mut bindings::loff_t,
) -> c_int {
    // SAFETY: By the contract of this function and by what `Entry::table` puts there.
    let (value, ceiling, max) = unsafe {
        (
            Atomic::from_ptr((*table).data.cast::<i32>()),
            Atomic::from_ptr((*table).extra1.cast::<i32>()),
            *(*table).extra2.cast::<i32>(),
        )
    };
    // A write may hold no number at all: then this is what stays.
    const UNSET: i32 = i32::MIN;
    let mut number = if write != 0 {
        UNSET
    } else {
        value.load(Relaxed)
    };
    let copy = bindings::ctl_table {
        data: (&raw mut number).cast(),
        maxlen: size_of::<i32>() as c_int,
        ..Default::default()
    };
    // SAFETY: By the contract of this function; `copy` has an integer of our own.
    let ret = unsafe { bindings::proc_dointvec(&raw const copy, write, buffer, lenp, ppos) };
    if write == 0 || ret != 0 || number == UNSET {
        return ret;
    }
    // SAFETY: The current task writes the file.
    let privileged = unsafe { bindings::capable(bindings::CAP_NET_ADMIN as c_int) };
    let limit = if privileged {
        max
    } else {
        ceiling.load(Relaxed)
    };
    if number < 0 || number > limit {
        return EINVAL.to_errno();
    }
    if privileged {
        ceiling.store(number, Relaxed);
    }
    value.store(number, Relaxed);
    0
}

/// The integers of every namespace.
pub(crate) trait Values: Send + Sync + Sized + 'static {
    /// Where they are, below `/proc/sys`.
    const PATH: &'static CStr;
    /// What they are.
    const ENTRIES: &'static [Entry<Self>];
    /// A static of their own: to register it is to make the files.
    const SUBSYS: &'static Subsys<Registered<Self>>;

    /// The values of a namespace; `None` refuses it.
    fn of(net: &Net) -> Option<Arc<Self>>;
}

/// The integers of one namespace.
///
/// # Invariants
///
/// `header` is that of a registered table, which is `_table`, whose entries point into `_values`. The
/// namespace is valid while this lives.
pub(crate) struct Registered<V: Values> {
    header: NonNull<bindings::ctl_table_header>,
    _table: KVec<bindings::ctl_table>,
    _values: Arc<V>,
}

// SAFETY: The table is never written once registered, and the C side takes care of itself.
unsafe impl<V: Values> Send for Registered<V> {}
// SAFETY: A shared reference is of no use.
unsafe impl<V: Values> Sync for Registered<V> {}

impl<V: Values> Registered<V> {
    fn new(net: &Net) -> Result<Self> {
        let values = V::of(net).ok_or(ENODEV)?;
        let mut table = KVec::with_capacity(V::ENTRIES.len(), GFP_KERNEL)?;
        for entry in V::ENTRIES {
            table.push(entry.table(&values), GFP_KERNEL)?;
        }
        // SAFETY: The namespace is valid and the path static; the table and what it points to stay
        // until `drop` has unregistered it.
        let header = unsafe {
            bindings::register_net_sysctl_sz(
                net.as_ptr(),
                V::PATH.as_char_ptr(),
                table.as_ptr(),
                table.len(),
            )
        };
        // INVARIANT: Just registered. Only `PerNet::new` calls us, and the pernet core drops its
        // state before the namespace goes. Moving the vector does not move the table.
        Ok(Self {
            header: NonNull::new(header).ok_or(ENOMEM)?,
            _table: table,
            _values: values,
        })
    }
}

impl<V: Values> Drop for Registered<V> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants. The call waits for handlers that run.
        unsafe { bindings::unregister_net_sysctl_table(self.header.as_ptr()) };
    }
}

impl<V: Values> PerNet for Registered<V> {
    const SUBSYS: &'static Subsys<Self> = V::SUBSYS;

    fn new(net: &Net) -> impl PinInit<Self, Error> {
        let registered = Self::new(net);
        // SAFETY: The slot is initialised if and only if `Ok` is returned, by a plain move: a
        // `Registered` does not care where it lies.
        unsafe {
            pin_init::pin_init_from_closure(move |slot: *mut Self| {
                slot.write(registered?);
                Ok(())
            })
        }
    }

    fn pre_exit(self: Pin<&Self>, _net: &Net) {}
}
