// SPDX-License-Identifier: GPL-2.0

//! Settings in `/proc/sys/net`, in every namespace.
//!
//! What is read is text that the kernel makes of a copy, what is written is made a copy of by the
//! kernel, looked at, and stored if it is in order. So a write that is refused has changed nothing.
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
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    cpumask::CpumaskVar,
    error::{
        from_result,
        to_result, //
    },
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    }, //
};

/// A setting of the values `V`.
pub(crate) struct Entry<V: 'static> {
    name: &'static CStr,
    kind: Kind<V>,
    is_for_root: bool,
}

/// What a setting holds.
pub(crate) enum Kind<V: 'static> {
    /// An integer.
    Int(fn(&V) -> &Atomic<i32>, Limit<V>),
    /// An integer, told in seconds and kept in jiffies.
    Seconds(fn(&V) -> &Atomic<i32>),
    /// Two integers. Which two are in order?
    Pair(fn(&V) -> &[Atomic<i32>; 2], fn(i32, i32) -> bool),
    /// A number of the size of a pointer.
    Ulong(fn(&V) -> &Atomic<usize>),
    /// A list of CPUs.
    Cpus(fn(&V) -> &CpuList),
}

/// Which integers are in order.
pub(crate) enum Limit<V: 'static> {
    /// All.
    None,
    /// From the first to the second.
    Range(i32, i32),
    /// For which this gives what is to be stored.
    As(fn(&V, i32) -> Option<i32>),
    /// From 0 to the ceiling that is kept here. Who has CAP_NET_ADMIN in the first user namespace
    /// may go up to the number instead, and moves the ceiling.
    Ceiling(fn(&V) -> &Atomic<i32>, i32),
}

impl<V: Send + Sync> Entry<V> {
    /// The setting `name`.
    pub(crate) const fn new(name: &'static CStr, kind: Kind<V>) -> Self {
        Self {
            name,
            kind,
            is_for_root: false,
        }
    }

    /// The same, but in the namespaces of other user namespaces than the first it can only be read.
    pub(crate) const fn for_root(self) -> Self {
        Self {
            is_for_root: true,
            ..self
        }
    }

    /// What the C side needs to know of the setting in `values`, which must outlive it.
    fn table(&'static self, values: &V, privileged: bool) -> bindings::ctl_table {
        bindings::ctl_table {
            procname: self.name.as_char_ptr(),
            data: ptr::from_ref(values).cast_mut().cast(),
            mode: if self.is_for_root && !privileged {
                0o444
            } else {
                0o644
            },
            proc_handler: Some(handle::<V>),
            extra1: ptr::from_ref(self).cast_mut().cast(),
            ..Default::default()
        }
    }

    fn access(&self, values: &V, access: &mut Access) -> Result {
        match &self.kind {
            Kind::Int(value, limit) => {
                let value = value(values);
                let old = value.load(Relaxed);
                // A write may hold no number at all: then it is this one that comes back, which no
                // ceiling lets anybody write.
                let unset = match limit {
                    Limit::Ceiling(..) if access.is_write => i32::MIN,
                    _ => old,
                };
                let mut new = unset;
                access.with(&mut new, bindings::proc_dointvec)?;
                if access.is_write && new != unset {
                    value.store(limit.admit(values, new)?, Relaxed);
                }
            }
            Kind::Seconds(value) => {
                let value = value(values);
                let mut new = value.load(Relaxed);
                access.with(&mut new, bindings::proc_dointvec_jiffies)?;
                if access.is_write {
                    value.store(new, Relaxed);
                }
            }
            Kind::Pair(pair, is_in_order) => {
                let [first, second] = pair(values);
                let mut new = [first.load(Relaxed), second.load(Relaxed)];
                access.with(&mut new, bindings::proc_dointvec)?;
                if access.is_write {
                    let [one, two] = new;
                    if !is_in_order(one, two) {
                        return Err(EINVAL);
                    }
                    first.store(one, Relaxed);
                    second.store(two, Relaxed);
                }
            }
            Kind::Ulong(value) => {
                let value = value(values);
                let mut new = value.load(Relaxed);
                access.with(&mut new, bindings::proc_doulongvec_minmax)?;
                if access.is_write {
                    value.store(new, Relaxed);
                }
            }
            Kind::Cpus(cpus) => cpus(values).access(access)?,
        }
        Ok(())
    }
}

impl<V> Limit<V> {
    /// What is to be stored of an integer, if it is in order for who writes it now.
    fn admit(&self, values: &V, new: i32) -> Result<i32> {
        let is_in_order = match self {
            Self::None => true,
            Self::Range(min, max) => (*min..=*max).contains(&new),
            Self::As(stored) => return stored(values, new).ok_or(EINVAL),
            Self::Ceiling(ceiling, max) => {
                let ceiling = ceiling(values);
                // SAFETY: The current task writes the file.
                let privileged = unsafe { bindings::capable(bindings::CAP_NET_ADMIN as c_int) };
                let limit = if privileged {
                    *max
                } else {
                    ceiling.load(Relaxed)
                };
                let is_in_order = (0..=limit).contains(&new);
                if is_in_order && privileged {
                    ceiling.store(new, Relaxed);
                }
                is_in_order
            }
        };
        if is_in_order {
            Ok(new)
        } else {
            Err(EINVAL)
        }
    }
}

/// Somebody reads or writes a setting.
///
/// # Invariants
///
/// The pointers are those that `proc_sys_call_handler()` gives a handler.
struct Access {
    is_write: bool,
    buffer: *mut c_void,
    lenp: *mut usize,
    ppos: *mut bindings::loff_t,
}

/// What the kernel has for values of one kind. It reads and writes as many of them as fit the `maxlen`
/// bytes at `data`.
type CHandler = unsafe extern "C" fn(
    *const bindings::ctl_table,
    c_int,
    *mut c_void,
    *mut usize,
    *mut bindings::loff_t,
) -> c_int;

/// What the kernel can read and write: integers of the size that the handler is for.
trait Plain: Copy {}
impl Plain for i32 {}
impl Plain for [i32; 2] {}
impl Plain for usize {}

impl Access {
    /// Has the kernel read or write our copy.
    fn with<T: Plain>(&mut self, copy: &mut T, handler: CHandler) -> Result {
        let table = bindings::ctl_table {
            data: ptr::from_mut(copy).cast(),
            maxlen: size_of::<T>() as c_int,
            ..Default::default()
        };
        // SAFETY: By the type invariants; the table has memory of our own, and without limits the
        // handlers look at nothing else.
        to_result(unsafe {
            handler(
                &raw const table,
                self.is_write.into(),
                self.buffer,
                self.lenp,
                self.ppos,
            )
        })
    }
}

/// Handles every [`Entry`].
///
/// # Safety
///
/// As `proc_sys_call_handler()` calls the handler of an entry that [`Entry::table`] made.
unsafe extern "C" fn handle<V: Send + Sync + 'static>(
    table: *const bindings::ctl_table,
    write: c_int,
    buffer: *mut c_void,
    lenp: *mut usize,
    ppos: *mut bindings::loff_t,
) -> c_int {
    // SAFETY: By the contract of this function and by what `Entry::table` puts there.
    let (entry, values) = unsafe {
        (
            &*(*table).extra1.cast_const().cast::<Entry<V>>(),
            &*(*table).data.cast_const().cast::<V>(),
        )
    };
    // INVARIANT: By the contract of this function.
    let mut access = Access {
        is_write: write != 0,
        buffer,
        lenp,
        ppos,
    };
    from_result(|| entry.access(values, &mut access).map(|()| 0))
}

/// A list of CPUs. Until somebody sets it, it is the list of those that may do housekeeping for the
/// kernel's threads.
#[pin_data]
pub(crate) struct CpuList {
    #[pin]
    cpus: Mutex<Option<KBox<Mask>>>,
}

struct Mask(CpumaskVar);

// SAFETY: A mask is plain memory, perhaps behind a pointer that it owns.
unsafe impl Send for Mask {}

impl CpuList {
    /// The list that nobody has set.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            cpus <- new_mutex!(None),
        })
    }

    /// Has it been set to no CPUs at all?
    pub(crate) fn is_empty(&self) -> bool {
        let cpus = self.cpus.lock();
        cpus.as_ref().is_some_and(|cpus| cpus.0.empty())
    }

    fn access(&self, access: &mut Access) -> Result {
        // SAFETY: By the type invariants of `Access`.
        let (len, pos) = unsafe { (&mut *access.lenp, &mut *access.ppos) };
        // A list comes in one piece.
        if *pos != 0 || *len == 0 {
            *len = 0;
            return Ok(());
        }
        let done = if access.is_write {
            let cpus = KBox::new(Mask(CpumaskVar::new_zero(GFP_KERNEL)?), GFP_KERNEL)?;
            // SAFETY: The caller of handlers ends what was written with a NUL; the mask is ours.
            to_result(unsafe {
                bindings::rlvs_cpulist_parse(access.buffer.cast(), cpus.0.as_raw())
            })?;
            let old = self.cpus.lock().replace(cpus);
            drop(old);
            *len
        } else {
            let cpus = self.cpus.lock();
            let cpus = cpus
                .as_ref()
                .map_or(ptr::null_mut(), |cpus| cpus.0.as_raw());
            // SAFETY: The caller of handlers has room for a NUL behind the buffer; the mask is locked.
            unsafe {
                bindings::rlvs_cpulist_print(access.buffer.cast(), len.saturating_add(1), cpus)
            }
        };
        *len = done;
        *pos = bindings::loff_t::try_from(done).unwrap_or(bindings::loff_t::MAX);
        Ok(())
    }
}

/// The settings of every namespace.
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

/// The settings of one namespace.
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
        // SAFETY: The namespace is valid.
        let privileged = unsafe { (*net.as_ptr()).user_ns == &raw mut bindings::init_user_ns };
        for entry in V::ENTRIES {
            table.push(entry.table(&values, privileged), GFP_KERNEL)?;
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
