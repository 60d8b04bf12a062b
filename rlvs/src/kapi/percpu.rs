// SPDX-License-Identifier: GPL-2.0

//! Per-CPU memory.
//!
//! C header: [`include/linux/percpu.h`](srctree/include/linux/percpu.h)

use super::{
    bh::BhDisabled, //
    bindings,
};
use core::{
    ffi::c_void,
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::prelude::*;

#[cfg(all(CONFIG_PREEMPT_RT, not(CONFIG_PREEMPT_RT_NEEDS_BH_LOCK)))]
compile_error!(
    "PerCpu takes softirqs that are off for the only user of a CPU: set PREEMPT_RT_NEEDS_BH_LOCK"
);

/// Calls `f` with the number of every possible CPU.
fn for_each_possible_cpu(mut f: impl FnMut(i32)) {
    let mut cpu = -1;
    loop {
        // SAFETY: Any number is a valid start.
        let next = unsafe { bindings::rlvs_next_possible_cpu(cpu) };
        // SAFETY: Reads a variable that is constant after boot.
        if next >= unsafe { bindings::rlvs_nr_cpu_ids() } {
            return;
        }
        let Ok(next) = i32::try_from(next) else {
            return;
        };
        f(next);
        cpu = next;
    }
}

/// How many CPUs there may be.
pub(super) fn possible_cpus() -> usize {
    let mut count = 0usize;
    for_each_possible_cpu(|_| count = count.wrapping_add(1));
    count
}

/// Allocates zeroed per-CPU memory for one `T` a CPU. Process context.
fn alloc<T>() -> Result<NonNull<c_void>> {
    // SAFETY: Size and alignment are those of a type; `GFP_KERNEL` asks for process context.
    let ptr = unsafe {
        bindings::pcpu_alloc_noprof(
            size_of::<T>(),
            align_of::<T>(),
            false,
            bindings::GFP_KERNEL_ACCOUNT,
        )
    };
    NonNull::new(ptr).ok_or(ENOMEM)
}

/// `N` 64-bit counters on every CPU: one add is one instruction that no other CPU sees.
///
/// # Invariants
///
/// The pointer is per-CPU memory for a `[u64; N]`, owned by this object.
pub(crate) struct Counters<const N: usize>(NonNull<c_void>);

// SAFETY: Per-CPU memory belongs to no CPU or thread in particular; adds are atomic to their CPU.
unsafe impl<const N: usize> Send for Counters<N> {}
// SAFETY: As above; a sum reads aligned words that tear nowhere.
unsafe impl<const N: usize> Sync for Counters<N> {}

impl<const N: usize> Counters<N> {
    /// Allocates the counters, all zero. Process context.
    pub(crate) fn new() -> Result<Self> {
        // INVARIANT: Freshly allocated with that layout.
        Ok(Self(alloc::<[u64; N]>()?))
    }

    /// Adds `value` to a counter of this CPU; an index out of range counts nowhere. Any context.
    #[inline]
    pub(crate) fn add(&self, index: usize, value: u64) {
        if index < N {
            // SAFETY: By the type invariants and the check above the word is within the memory.
            unsafe {
                let word = self.0.as_ptr().cast::<u64>().wrapping_add(index);
                bindings::rlvs_this_cpu_add_u64(word, value);
            }
        }
    }

    /// The sum over all CPUs, wrapping. Any context.
    pub(crate) fn sum(&self, index: usize) -> u64 {
        let mut sum = 0u64;
        for_each_possible_cpu(|cpu| sum = sum.wrapping_add(self.on_cpu(cpu, index)));
        sum
    }

    fn on_cpu(&self, cpu: i32, index: usize) -> u64 {
        if index >= N {
            return 0;
        }
        // SAFETY: By the type invariants; callers pass possible CPUs only, and the index is checked.
        unsafe {
            let base = bindings::rlvs_per_cpu_ptr(self.0.as_ptr(), cpu).cast::<u64>();
            base.wrapping_add(index).read_volatile()
        }
    }
}

impl<const N: usize> Drop for Counters<N> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the memory is ours, and nobody uses it any more.
        unsafe { bindings::free_percpu(self.0.as_ptr()) };
    }
}

/// `N` such counters, and how far each was when somebody has last collected them.
///
/// # Invariants
///
/// The pointer is per-CPU memory for a `[[u64; N]; 2]`, owned by this object: first the counters, then
/// what was collected of them, which only [`collect`](Self::collect) writes.
pub(crate) struct Collected<const N: usize>(NonNull<c_void>);

// SAFETY: As for `Counters`.
unsafe impl<const N: usize> Send for Collected<N> {}
// SAFETY: As for `Counters`.
unsafe impl<const N: usize> Sync for Collected<N> {}

impl<const N: usize> Collected<N> {
    /// Allocates the counters, all zero. Process context.
    pub(crate) fn new() -> Result<Self> {
        // INVARIANT: Freshly allocated with that layout.
        Ok(Self(alloc::<[[u64; N]; 2]>()?))
    }

    /// Adds `value` to a counter of this CPU; an index out of range counts nowhere.
    #[inline]
    pub(crate) fn add(&self, index: usize, value: u64, _bh: &BhDisabled) {
        if index < N {
            // SAFETY: By the type invariants and the check above the word is one of the counters. With
            // softirqs off nobody else adds to it: in a hard interrupt there is no `BhDisabled`.
            unsafe {
                let word = self.0.as_ptr().cast::<u64>().wrapping_add(index);
                bindings::rlvs_bh_cpu_add_u64(word, value);
            }
        }
    }

    /// Calls `f` with each possible CPU and its counters.
    pub(crate) fn for_each_cpu(&self, mut f: impl FnMut(i32, [u64; N])) {
        for_each_possible_cpu(|cpu| f(cpu, self.rows(cpu).0));
    }

    /// Calls `f` with each possible CPU, its counters, and what they have grown by since the last call
    /// of this. One caller at a time, lest something be collected twice.
    pub(crate) fn collect(&self, mut f: impl FnMut(i32, [u64; N], [u64; N])) {
        for_each_possible_cpu(|cpu| {
            let (now, before) = self.rows(cpu);
            if now != before {
                // SAFETY: By the type invariants, on a possible CPU.
                unsafe {
                    let rows = bindings::rlvs_per_cpu_ptr(self.0.as_ptr(), cpu).cast::<[u64; N]>();
                    rows.wrapping_add(1).write_volatile(now);
                }
            }
            let mut grown = now;
            for (grown, before) in grown.iter_mut().zip(before) {
                *grown = grown.wrapping_sub(before);
            }
            f(cpu, now, grown);
        });
    }

    /// The counters of a possible CPU, and what was collected of them.
    fn rows(&self, cpu: i32) -> ([u64; N], [u64; N]) {
        // SAFETY: By the type invariants; callers pass possible CPUs only. Each word is read for
        // itself: its CPU may be adding to it.
        unsafe {
            let words = bindings::rlvs_per_cpu_ptr(self.0.as_ptr(), cpu).cast::<u64>();
            let row = |from: usize| {
                core::array::from_fn(|i| words.wrapping_add(from).wrapping_add(i).read_volatile())
            };
            (row(0), row(N))
        }
    }
}

impl<const N: usize> Drop for Collected<N> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the memory is ours, and nobody uses it any more.
        unsafe { bindings::free_percpu(self.0.as_ptr()) };
    }
}

/// One `T` on every CPU, for code that softirqs cannot interrupt.
///
/// # Invariants
///
/// The pointer is per-CPU memory for a `T`, initialised on every possible CPU, owned by this object.
pub(crate) struct PerCpu<T> {
    ptr: NonNull<c_void>,
    _owns: PhantomData<T>,
}

// SAFETY: A `T` is only reached on its own CPU with softirqs off, or by the owner at drop.
unsafe impl<T: Send> Send for PerCpu<T> {}
// SAFETY: As above: two CPUs never share a `T`, so `T: Send` is enough.
unsafe impl<T: Send> Sync for PerCpu<T> {}

impl<T> PerCpu<T> {
    /// Makes a `T` for every CPU. Process context.
    pub(crate) fn new(make: impl Fn() -> T) -> Result<Self> {
        let ptr = alloc::<T>()?;
        for_each_possible_cpu(|cpu| {
            // SAFETY: The memory was allocated for a `T` on each possible CPU, and nobody else knows it.
            unsafe {
                bindings::rlvs_per_cpu_ptr(ptr.as_ptr(), cpu)
                    .cast::<T>()
                    .write(make());
            }
        });
        // INVARIANT: All were just written.
        Ok(Self {
            ptr,
            _owns: PhantomData,
        })
    }

    /// Calls `f` with this CPU's `T` and with `input`: a function can be one that is always inlined, which a
    /// closure cannot.
    ///
    /// # Safety
    ///
    /// `f` must not come back here with the same object.
    #[inline(always)]
    pub(crate) unsafe fn with<I, R>(
        &self,
        _bh: &BhDisabled,
        input: I,
        f: impl for<'a> FnOnce(&'a mut T, I) -> R,
    ) -> R {
        // SAFETY: By the type invariants the pointer leads to this CPU's `T`. With softirqs off
        // nobody else runs this on the same CPU: hooks are not entered from hard interrupts. Nor does `f`.
        let this = unsafe { &mut *bindings::rlvs_this_cpu_ptr(self.ptr.as_ptr()).cast::<T>() };
        f(this, input)
    }
}

impl<T: Send> PerCpu<T> {
    /// Calls `f` with the `T` of each CPU, one after the other, and there. Process context, without a
    /// lock that a work may wait for.
    pub(crate) fn for_each<F: FnMut(&mut T) + Send>(&self, mut f: F) {
        for_each_possible_cpu(|cpu| {
            // SAFETY: By the type invariants the CPU has a `T`.
            let this = unsafe { bindings::rlvs_per_cpu_ptr(self.ptr.as_ptr(), cpu) };
            let mut visit = Visit {
                this: this.cast::<T>(),
                f: &mut f,
            };
            // SAFETY: The call returns when `run` has. It is made on the CPU, or the CPU is down, and such calls
            // are made one after the other.
            unsafe {
                bindings::rlvs_call_on_cpu(cpu, Some(Visit::<T, F>::run), (&raw mut visit).cast());
            }
        });
    }
}

/// What is to be done with the `T` of a CPU.
struct Visit<'a, T, F> {
    this: *mut T,
    f: &'a mut F,
}

impl<T, F: FnMut(&mut T)> Visit<'_, T, F> {
    /// # Safety
    ///
    /// `visit` must lead to a `Visit` of the CPU that this runs on, or of one that is down and stays so, and that
    /// nobody else visits meanwhile.
    unsafe extern "C" fn run(visit: *mut c_void) -> kernel::ffi::c_long {
        let _bh = BhDisabled::new();
        // SAFETY: By the contract of this function. On its CPU nobody else has the `T` with softirqs off;
        // of one that is down only visitors have it.
        unsafe {
            let visit = &mut *visit.cast::<Self>();
            (visit.f)(&mut *visit.this);
        }
        0
    }
}

impl<T> Drop for PerCpu<T> {
    fn drop(&mut self) {
        for_each_possible_cpu(|cpu| {
            // SAFETY: By the type invariants each possible CPU has a valid `T`, and `&mut self`
            // says that nobody uses them.
            unsafe {
                bindings::rlvs_per_cpu_ptr(self.ptr.as_ptr(), cpu)
                    .cast::<T>()
                    .drop_in_place();
            }
        });
        // SAFETY: The memory is ours, and what was in it is dropped.
        unsafe { bindings::free_percpu(self.ptr.as_ptr()) };
    }
}
