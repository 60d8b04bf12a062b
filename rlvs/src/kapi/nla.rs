// SPDX-License-Identifier: GPL-2.0

//! Netlink attributes: what they must look like, reading and writing them.
//!
//! Attributes are read as bytes: whatever a policy let through, the getters of [`Attr`] check again.
//!
//! C header: [`include/net/netlink.h`](srctree/include/net/netlink.h)

use super::bindings;
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    prelude::*, //
};

/// Set in the type of an attribute that holds attributes; new families do, old ones do not.
pub(crate) const NESTED: u16 = 1 << 15;
/// The bits of an attribute's type that are its number.
const TYPE_MASK: u16 = !(NESTED | 1 << 14);
/// Length of an attribute's header: its length and its type.
const HEADER: usize = 4;

/// What an attribute must look like.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// At least one byte.
    U8,
    /// At least two bytes.
    U16,
    /// At least four bytes.
    U32,
    /// At least so many bytes.
    AtLeast(u16),
    /// At most so many bytes.
    Binary(u16),
    /// A string of at most so many bytes and the NUL that ends it.
    NulString(u16),
    /// Attributes of which nothing is known.
    Nest,
    /// Attributes that a policy of their own describes.
    NestOf(Policy),
}

/// What each attribute of a message or of a nest must look like.
///
/// # Invariants
///
/// `table` points to `max + 1` entries that live and stay the same forever.
#[derive(Clone, Copy)]
pub(crate) struct Policy {
    pub(super) table: *const bindings::nla_policy,
    pub(super) max: u16,
}

/// The table behind a [`Policy`]: `N` is the largest attribute plus one.
#[repr(transparent)]
pub(crate) struct Table<const N: usize>([bindings::nla_policy; N]);

// SAFETY: The table is never written, and what its pointers lead to is not either.
unsafe impl<const N: usize> Sync for Table<N> {}

impl<const N: usize> Table<N> {
    /// A table of attributes that may look like anything.
    pub(crate) const fn new() -> Self {
        Self([pin_init::zeroed(); N])
    }

    /// The table with one attribute described. For statics: an attribute out of range does not
    /// compile.
    pub(crate) const fn with(mut self, attr: u16, kind: Kind) -> Self {
        let mut entry: bindings::nla_policy = pin_init::zeroed();
        let number = match kind {
            Kind::U8 => bindings::NLA_U8,
            Kind::U16 => bindings::NLA_U16,
            Kind::U32 => bindings::NLA_U32,
            Kind::AtLeast(len) => {
                entry.len = len;
                bindings::NLA_UNSPEC
            }
            Kind::Binary(len) => {
                entry.len = len;
                bindings::NLA_BINARY
            }
            Kind::NulString(len) => {
                entry.len = len;
                bindings::NLA_NUL_STRING
            }
            Kind::Nest => bindings::NLA_NESTED,
            Kind::NestOf(policy) => {
                entry.len = policy.max;
                entry.__bindgen_anon_1.nested_policy = policy.table;
                bindings::NLA_NESTED
            }
        };
        entry.type_ = number as u8;
        #[expect(clippy::indexing_slicing)]
        {
            self.0[attr as usize] = entry;
        }
        self
    }

    /// The policy that this table is.
    pub(crate) const fn policy(&'static self) -> Policy {
        // INVARIANT: A shared static is never written.
        Policy {
            table: self.0.as_ptr(),
            max: N.saturating_sub(1) as u16,
        }
    }
}

/// One attribute of a message: its header and its payload, without padding.
#[derive(Clone, Copy)]
pub(crate) struct Attr<'a>(pub(super) &'a [u8]);

impl<'a> Attr<'a> {
    /// The payload.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.0.get(HEADER..).unwrap_or_default()
    }

    fn kind(&self) -> Option<u16> {
        let &[_, _, low, high] = self.0.first_chunk()?;
        Some(u16::from_ne_bytes([low, high]) & TYPE_MASK)
    }

    /// An integer in host order. `EINVAL` if the payload is shorter; more bytes are ignored.
    pub(crate) fn u8(&self) -> Result<u8> {
        self.bytes().first().copied().ok_or(EINVAL)
    }

    /// See [`Attr::u8`].
    pub(crate) fn u16(&self) -> Result<u16> {
        self.chunk().map(u16::from_ne_bytes)
    }

    /// See [`Attr::u8`].
    pub(crate) fn u32(&self) -> Result<u32> {
        self.chunk().map(u32::from_ne_bytes)
    }

    /// An integer in network order. `EINVAL` if the payload is shorter; more bytes are ignored.
    pub(crate) fn be16(&self) -> Result<u16> {
        self.chunk().map(u16::from_be_bytes)
    }

    /// The first bytes, with zeroes in place of those that are not there.
    pub(crate) fn padded<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        for (to, from) in bytes.iter_mut().zip(self.bytes()) {
            *to = *from;
        }
        bytes
    }

    /// The bytes before the first NUL. `EINVAL` if there is none.
    pub(crate) fn string(&self) -> Result<&'a [u8]> {
        let mut parts = self.bytes().split(|byte| *byte == 0);
        let string = parts.next().ok_or(EINVAL)?;
        parts.next().map(|_| string).ok_or(EINVAL)
    }

    /// The attributes in it.
    pub(crate) fn attrs(&self) -> Attrs<'a> {
        Attrs(self.bytes())
    }

    fn chunk<const N: usize>(&self) -> Result<[u8; N]> {
        self.bytes().first_chunk().copied().ok_or(EINVAL)
    }
}

/// A stream of attributes. It ends where it stops making sense.
#[derive(Clone, Copy)]
pub(crate) struct Attrs<'a>(pub(super) &'a [u8]);

impl<'a> Attrs<'a> {
    /// The attribute of that number; of several the last, as everywhere in netlink.
    pub(crate) fn get(self, number: u16) -> Option<Attr<'a>> {
        self.filter(|attr| attr.kind() == Some(number)).last()
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Attr<'a>;

    fn next(&mut self) -> Option<Attr<'a>> {
        let bytes = self.0;
        let header: &[u8; HEADER] = bytes.first_chunk()?;
        let [low, high, ..] = *header;
        let len = usize::from(u16::from_ne_bytes([low, high]));
        let raw = bytes.get(..len).filter(|raw| raw.len() >= HEADER)?;
        // The last attribute may lack its padding.
        self.0 = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Attr(raw))
    }
}

/// A message that is being written. All writers fail with `EMSGSIZE` if it is full.
///
/// # Invariants
///
/// `skb` is valid, for `'a` nobody else uses it, and its last message has a header.
pub(crate) struct Message<'a> {
    skb: NonNull<bindings::sk_buff>,
    _borrows: PhantomData<&'a mut bindings::sk_buff>,
}

impl<'a> Message<'a> {
    /// # Safety
    ///
    /// For `'a`, `skb` must be valid and the caller's alone, and its last message must have a header.
    pub(super) unsafe fn new(skb: NonNull<bindings::sk_buff>) -> Self {
        // INVARIANT: By the contract of this function.
        Self {
            skb,
            _borrows: PhantomData,
        }
    }
}

impl Message<'_> {
    /// Puts an attribute of these bytes.
    pub(crate) fn put(&mut self, attr: u16, bytes: &[u8]) -> Result {
        // The length in the header is 16 bits and counts the header.
        let len = u16::try_from(bytes.len().saturating_add(HEADER))
            .map_err(|_| EMSGSIZE)?
            .saturating_sub(HEADER as u16);
        // SAFETY: By the type invariants; the bytes are valid for their length.
        to_result(unsafe {
            bindings::nla_put(
                self.skb.as_ptr(),
                c_int::from(attr),
                c_int::from(len),
                bytes.as_ptr().cast(),
            )
        })
    }

    /// Puts an integer, in host order.
    pub(crate) fn put_u8(&mut self, attr: u16, value: u8) -> Result {
        self.put(attr, &[value])
    }

    /// See [`Message::put_u8`].
    pub(crate) fn put_u16(&mut self, attr: u16, value: u16) -> Result {
        self.put(attr, &value.to_ne_bytes())
    }

    /// See [`Message::put_u8`].
    pub(crate) fn put_u32(&mut self, attr: u16, value: u32) -> Result {
        self.put(attr, &value.to_ne_bytes())
    }

    /// Puts an integer, in host order and aligned: by `pad`, an attribute without a meaning, where
    /// the machine needs it.
    pub(crate) fn put_u64(&mut self, attr: u16, value: u64, pad: u16) -> Result {
        // SAFETY: By the type invariants.
        to_result(unsafe {
            bindings::rlvs_nla_put_u64(
                self.skb.as_ptr(),
                c_int::from(attr),
                value,
                c_int::from(pad),
            )
        })
    }

    /// Puts an integer, in network order.
    pub(crate) fn put_be16(&mut self, attr: u16, value: u16) -> Result {
        self.put(attr, &value.to_be_bytes())
    }

    /// Puts a nest and what `fill` puts into it; nothing if that fails.
    pub(crate) fn nest(&mut self, attr: u16, fill: impl FnOnce(&mut Self) -> Result) -> Result {
        // SAFETY: By the type invariants.
        let nest = unsafe { bindings::rlvs_nla_nest_start(self.skb.as_ptr(), c_int::from(attr)) };
        if nest.is_null() {
            return Err(EMSGSIZE);
        }
        let result = fill(self);
        // SAFETY: `nest` is where the nest began in this buffer.
        unsafe {
            if result.is_ok() {
                bindings::rlvs_nla_nest_end(self.skb.as_ptr(), nest);
            } else {
                bindings::rlvs_nla_nest_cancel(self.skb.as_ptr(), nest);
            }
        }
        result
    }
}
