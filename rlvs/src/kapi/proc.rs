// SPDX-License-Identifier: GPL-2.0

//! Files in `/proc/net`, in every namespace.
//!
//! A file is a sequence of numbered records. Only the number of the next record is kept from one
//! read to the next, so nothing stays locked or referenced while a reader is away.
//!
//! C headers: [`include/linux/proc_fs.h`](srctree/include/linux/proc_fs.h),
//! [`include/linux/seq_file_net.h`](srctree/include/linux/seq_file_net.h)

use super::{
    bindings,
    netns::{
        Net,
        PerNet,
        Subsys, //
    }, //
};
use core::{
    marker::PhantomData,
    pin::Pin,
    ptr, //
};
use kernel::{
    prelude::*,
    seq_file::SeqFile, //
};

/// What a file shows.
pub(crate) trait Show: 'static {
    /// Prints the record of that number, and says which is the next one: any higher number that
    /// `i64` holds too, or `None` at the end. Process context.
    ///
    /// The first record is 0. A record that does not fit the reader's buffer is asked for again,
    /// and a number may be that of a record that has meanwhile gone.
    fn show(net: &Net, record: u64, out: &SeqFile) -> Option<u64>;
}

/// Where a reader stands.
#[repr(C)]
struct Cursor {
    net: bindings::seq_net_private,
    record: u64,
    /// The record after it; 0 at the end.
    next: u64,
}

/// A file, to be read only.
pub(crate) struct File {
    name: &'static CStr,
    mode: bindings::umode_t,
    ops: bindings::seq_operations,
}

impl File {
    /// The file `name`, which shows everybody what `S` says.
    pub(crate) const fn new<S: Show>(name: &'static CStr) -> Self {
        Self {
            name,
            mode: 0o444,
            ops: bindings::seq_operations {
                start: Some(start),
                next: Some(next),
                stop: Some(stop),
                show: Some(show::<S>),
            },
        }
    }

    /// The same file, for root and the namespace's own root only.
    pub(crate) const fn private(self) -> Self {
        Self {
            mode: 0o440,
            ..self
        }
    }
}

/// # Safety
///
/// `seq` must be a valid `seq_file` of a [`File`], whose lock the caller holds.
unsafe fn cursor<'a>(seq: *mut bindings::seq_file) -> &'a mut Cursor {
    // SAFETY: By the contract of this function; `seq_open_net()` has allocated a zeroed `Cursor`,
    // which nobody else uses while the file is locked.
    unsafe { &mut *(*seq).private.cast::<Cursor>() }
}

/// # Safety
///
/// As `seq_read_iter()` calls the `start` of a file.
unsafe extern "C" fn start(
    seq: *mut bindings::seq_file,
    pos: *mut bindings::loff_t,
) -> *mut c_void {
    // SAFETY: By the contract of this function.
    let (cursor, pos) = unsafe { (cursor(seq), *pos) };
    // A negative position is the end.
    match u64::try_from(pos) {
        Ok(record) => {
            cursor.record = record;
            ptr::from_mut(cursor).cast()
        }
        Err(_) => ptr::null_mut(),
    }
}

/// # Safety
///
/// As `seq_read_iter()` calls the `next` of a file.
unsafe extern "C" fn next(
    seq: *mut bindings::seq_file,
    _record: *mut c_void,
    pos: *mut bindings::loff_t,
) -> *mut c_void {
    // SAFETY: By the contract of this function.
    let cursor = unsafe { cursor(seq) };
    // What `loff_t` does not hold there is not.
    let next = bindings::loff_t::try_from(cursor.next).unwrap_or(0);
    // SAFETY: By the contract of this function.
    unsafe { *pos = if next == 0 { -1 } else { next } };
    // SAFETY: By the contract of this function.
    unsafe { start(seq, pos) }
}

/// # Safety
///
/// As `seq_read_iter()` calls the `stop` of a file.
unsafe extern "C" fn stop(_seq: *mut bindings::seq_file, _record: *mut c_void) {}

/// # Safety
///
/// As `seq_read_iter()` calls the `show` of a file.
unsafe extern "C" fn show<S: Show>(seq: *mut bindings::seq_file, _record: *mut c_void) -> c_int {
    // SAFETY: By the contract of this function; the open file holds the namespace.
    let (cursor, net) = unsafe { (cursor(seq), Net::from_raw(bindings::rlvs_seq_file_net(seq))) };
    // SAFETY: By the contract of this function.
    let out = unsafe { SeqFile::from_raw(seq) };
    cursor.next = S::show(net, cursor.record, out).unwrap_or(0);
    0
}

/// A set of files that every namespace has.
pub(crate) trait Files: Send + Sync + Sized + 'static {
    /// The files.
    const FILES: &'static [File];
    /// A static of this set's own: to register it is to make the files.
    const SUBSYS: &'static Subsys<Entries<Self>>;
}

/// The files of a set in one namespace.
///
/// # Invariants
///
/// `net` is valid while this lives, and the first `made` of the files are in its `/proc/net`.
pub(crate) struct Entries<F: Files> {
    net: *const Net,
    made: usize,
    _files: PhantomData<F>,
}

// SAFETY: A namespace may be used from any thread.
unsafe impl<F: Files> Send for Entries<F> {}
// SAFETY: A shared reference is of no use.
unsafe impl<F: Files> Sync for Entries<F> {}

impl<F: Files> Entries<F> {
    fn new(net: &Net) -> Result<Self> {
        // INVARIANT: No file is there yet. Only `PerNet::new` calls us, and the pernet core drops
        // its state before the namespace goes.
        let mut this = Self {
            net,
            made: 0,
            _files: PhantomData,
        };
        for file in F::FILES {
            // SAFETY: The namespace is valid, name and operations are static, and a `Cursor`
            // begins with what `seq_open_net()` expects.
            let entry = unsafe {
                bindings::proc_create_net_data(
                    file.name.as_char_ptr(),
                    file.mode,
                    (*net.as_ptr()).proc_net,
                    &raw const file.ops,
                    size_of::<Cursor>() as c_uint,
                    ptr::null_mut(),
                )
            };
            if entry.is_null() {
                return Err(ENOMEM);
            }
            // INVARIANT: One more is there.
            this.made = this.made.wrapping_add(1);
        }
        Ok(this)
    }
}

impl<F: Files> Drop for Entries<F> {
    fn drop(&mut self) {
        for file in F::FILES.iter().take(self.made) {
            // SAFETY: By the type invariants. The call waits for readers that are in our text.
            unsafe {
                bindings::remove_proc_entry(
                    file.name.as_char_ptr(),
                    (*(*self.net).as_ptr()).proc_net,
                );
            }
        }
    }
}

impl<F: Files> PerNet for Entries<F> {
    const SUBSYS: &'static Subsys<Self> = F::SUBSYS;

    fn new(net: &Net) -> impl PinInit<Self, Error> {
        let entries = Self::new(net);
        // SAFETY: The slot is initialised if and only if `Ok` is returned, by a plain move: an
        // `Entries` does not care where it lies.
        unsafe {
            pin_init::pin_init_from_closure(move |slot: *mut Self| {
                slot.write(entries?);
                Ok(())
            })
        }
    }

    fn pre_exit(self: Pin<&Self>, _net: &Net) {}
}
