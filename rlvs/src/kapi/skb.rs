// SPDX-License-Identifier: GPL-2.0

//! Packets that netfilter lends to a hook.
//!
//! A [`Packet`] is lent: it ends in a [`Verdict`], which can only be had by giving the packet away.
//! Slices of its bytes borrow it, so none survives a call that may move them.
//!
//! C header: [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h)

use super::{
    bindings,
    family::{
        Complaint,
        Inet, //
    },
    netns::Net,
    route::Dst, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull,
    slice, //
};
use kernel::prelude::*;

/// What becomes of a packet. Only giving up a [`Packet`] makes one.
#[must_use]
pub(crate) struct Verdict(u32);

impl Verdict {
    /// The number that netfilter wants.
    pub(super) fn into_raw(self) -> u32 {
        self.0
    }
}

/// Who asks for the fragments of a packet to be put together.
#[derive(Clone, Copy)]
pub(crate) enum DefragUser {
    /// Packets passing through.
    Forward,
    /// Packets that this host sends.
    Output,
}

/// A packet that passes a netfilter hook, looked at in passing: is it worth being a [`Packet`]?
///
/// # Invariants
///
/// The pointer is a valid `sk_buff`, which nobody changes for `'a`.
pub(crate) struct Glimpse<'a> {
    skb: NonNull<bindings::sk_buff>,
    _lent: PhantomData<&'a bindings::sk_buff>,
}

impl Glimpse<'_> {
    /// # Safety
    ///
    /// `skb` is not null and lent by netfilter for `'a`.
    #[inline]
    pub(super) unsafe fn from_raw(skb: &*mut bindings::sk_buff) -> Self {
        // INVARIANT: By the contract of this function.
        Self {
            // SAFETY: By the contract of this function.
            skb: unsafe { NonNull::new_unchecked(*skb) },
            _lent: PhantomData,
        }
    }

    /// The linear part. In hooks it starts with the network header.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        let skb = self.skb.as_ptr();
        // SAFETY: By the type invariants; `data` is followed by `len - data_len` linear bytes.
        unsafe {
            let linear = (*skb).len.wrapping_sub((*skb).data_len);
            slice::from_raw_parts((*skb).data, linear as usize)
        }
    }

    /// As [`Packet::is_claimed`].
    #[inline]
    pub(crate) fn is_claimed(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { bindings::rlvs_skb_property(self.skb.as_ptr()) }
    }

    /// As [`Packet::mark`].
    #[inline]
    pub(crate) fn mark(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { bindings::rlvs_skb_mark(self.skb.as_ptr()) }
    }
}

/// A packet (`struct sk_buff`) in a netfilter hook, starting at its network header.
///
/// # Invariants
///
/// The pointer is a valid, unshared `sk_buff` lent for `'a`, and `data` is the network header.
pub(crate) struct Packet<'a> {
    skb: NonNull<bindings::sk_buff>,
    _lent: PhantomData<&'a mut bindings::sk_buff>,
}

impl Packet<'_> {
    /// # Safety
    ///
    /// `skb` is lent by netfilter for `'a`, and nobody else uses it meanwhile.
    ///
    /// `None` if its data does not start at the network header.
    #[inline]
    pub(super) unsafe fn from_raw(skb: *mut bindings::sk_buff) -> Option<Self> {
        // SAFETY: By the contract of this function.
        if unsafe { bindings::rlvs_skb_network_offset(skb) } != 0 {
            return None;
        }
        // INVARIANT: By the contract of this function and the check above.
        NonNull::new(skb).map(|skb| Self {
            skb,
            _lent: PhantomData,
        })
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> *mut bindings::sk_buff {
        self.skb.as_ptr()
    }

    /// Length from the network header to the end.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { (*self.as_ptr()).len }
    }

    /// The linear part.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        let skb = self.as_ptr();
        // SAFETY: By the type invariants; `data` is followed by `len - data_len` linear bytes. The
        // borrow of `self` keeps them where they are.
        unsafe {
            let linear = (*skb).len.wrapping_sub((*skb).data_len);
            slice::from_raw_parts((*skb).data, linear as usize)
        }
    }

    /// Makes at least `len` bytes linear; false if the packet is shorter or memory is out.
    #[inline]
    pub(crate) fn pull(&mut self, len: usize) -> bool {
        let Ok(len) = u32::try_from(len) else {
            return false;
        };
        // SAFETY: By the type invariants.
        unsafe { bindings::rlvs_skb_pull(self.as_ptr(), len) }
    }

    /// The first `len` bytes, private to us and linear; `None` if the packet is shorter or memory is
    /// out. The caller keeps the checksums right; the device's verdict on the old ones is void.
    #[inline(always)]
    pub(crate) fn writable(&mut self, len: usize) -> Option<&mut [u8]> {
        let c_len = u32::try_from(len).ok()?;
        let skb = self.as_ptr();
        // SAFETY: By the type invariants. The call makes the bytes linear and private.
        unsafe {
            bindings::rlvs_skb_writable(skb, c_len)
                .then(|| slice::from_raw_parts_mut((*skb).data, len))
        }
    }

    /// All of the packet, private to us and linear, with zeros behind it up to `len` bytes; `None` if
    /// memory is out. The caller keeps lengths and checksums right.
    pub(crate) fn stretch(&mut self, len: usize) -> Option<&mut [u8]> {
        let c_len = u32::try_from(len).ok()?;
        let skb = self.as_ptr();
        // SAFETY: By the type invariants. The call makes all bytes linear and private.
        unsafe {
            if bindings::rlvs_skb_stretch(skb, c_len) != 0 {
                return None;
            }
            bindings::rlvs_skb_void_complete(skb);
            Some(slice::from_raw_parts_mut((*skb).data, (*skb).len as usize))
        }
    }

    /// Takes away what stands behind the first `len` bytes of a packet that is linear.
    pub(crate) fn cut(&mut self, len: usize) {
        if let Ok(len) = u32::try_from(len) {
            // SAFETY: By the type invariants; C leaves a shorter packet as it is.
            unsafe { bindings::rlvs_skb_cut(self.as_ptr(), len) };
        }
    }

    /// Copies the bytes at an offset, which stay where they are, linear or not; false if the packet does
    /// not have them.
    pub(crate) fn copy(&self, offset: usize, to: &mut [u8]) -> bool {
        let (Ok(offset), Ok(len)) = (i32::try_from(offset), i32::try_from(to.len())) else {
            return false;
        };
        // SAFETY: By the type invariants; so many bytes are written, and C looks whether they are there.
        unsafe { bindings::rlvs_skb_copy(self.as_ptr(), offset, to.as_mut_ptr(), len) }
    }

    /// The byte at an offset, linear or not.
    pub(crate) fn byte(&self, offset: usize) -> Option<u8> {
        let mut bytes = [0];
        let found = self.copy(offset, &mut bytes);
        found.then(|| {
            let [byte] = bytes;
            byte
        })
    }

    /// Makes room for headers to grow: the packet starts `by` bytes earlier, its first `headers + by` bytes are
    /// private, and its offsets are those of headers moved to the front. The caller moves them and
    /// fills the gap behind them. `None`, and nothing changed, if memory is out.
    pub(crate) fn grow_headers<A: Inet>(
        &mut self,
        headers: usize,
        by: u8,
        dst: &Dst<A>,
    ) -> Option<&mut [u8]> {
        let c_headers = u32::try_from(headers).ok()?;
        let by_32 = u32::from(by);
        let room = by_32.checked_add(dst.headroom())?;
        let len = headers.checked_add(usize::from(by))?;
        let skb = self.as_ptr();
        // SAFETY: By the type invariants. There is room in front once `cow` has made it.
        // INVARIANT: The network header is set to the new start.
        unsafe {
            if bindings::rlvs_skb_cow(skb, c_headers, room) != 0 {
                return None;
            }
            bindings::rlvs_skb_void_complete(skb);
            bindings::rlvs_skb_grow_headers(skb, by_32);
            Some(slice::from_raw_parts_mut((*skb).data, len))
        }
    }

    /// How much payload each segment carries, if this is a GSO packet.
    #[inline]
    pub(crate) fn gso_size(&self) -> Option<u16> {
        // SAFETY: By the type invariants.
        unsafe {
            bindings::rlvs_skb_is_gso(self.as_ptr())
                .then(|| bindings::rlvs_skb_gso_size(self.as_ptr()))
        }
    }

    /// Is the payload a chain of packets? Such a GSO packet falls into the pieces it was made of and no
    /// others: `skb_segment()` (`net/core/skbuff.c`) cannot cut the linear part of a chained packet.
    #[inline]
    pub(crate) fn is_chained(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { bindings::rlvs_skb_has_frag_list(self.as_ptr()) }
    }

    /// Each segment of this GSO packet carries `by` bytes less, `payload` bytes in all. False, and
    /// nothing changed, if that leaves nothing or the packet is chained.
    pub(crate) fn shrink_gso(&mut self, by: u8, payload: u32) -> bool {
        match self.gso_size() {
            Some(size) if size > u16::from(by) && !self.is_chained() => {
                // SAFETY: By the type invariants; the size stays above 0.
                unsafe {
                    bindings::rlvs_skb_shrink_gso(self.as_ptr(), u32::from(by), payload);
                }
                true
            }
            _ => false,
        }
    }

    /// Is the transport checksum left to the device? Then its field holds the sum of the pseudo
    /// header only.
    #[inline]
    pub(crate) fn is_checksum_partial(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { bindings::rlvs_skb_ip_summed(self.as_ptr()) == bindings::CHECKSUM_PARTIAL }
    }

    /// Is the ICMP checksum right? `offset` is where ICMP starts.
    pub(crate) fn icmp_checksum_ok<A: Inet>(&mut self, offset: usize) -> bool {
        u32::try_from(offset).is_ok_and(|offset| {
            // SAFETY: By the type invariants.
            unsafe { A::icmp_checksum_ok(self.as_ptr(), offset) }
        })
    }

    /// The mark that firewall rules have set; 0 if none has.
    #[inline]
    pub(crate) fn mark(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { bindings::rlvs_skb_mark(self.as_ptr()) }
    }

    /// Was the packet for this host's link address, and is it routed?
    #[inline]
    pub(crate) fn is_for_host(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { bindings::rlvs_skb_is_ours(self.as_ptr()) }
    }

    /// Is the packet routed?
    #[inline]
    pub(crate) fn has_route(&self) -> bool {
        // SAFETY: By the type invariants.
        !unsafe { bindings::rlvs_skb_dst(self.as_ptr()) }.is_null()
    }

    /// Does it come from a raw socket that wants its packets left alone?
    pub(crate) fn is_raw(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { bindings::rlvs_skb_nodefrag(self.as_ptr()) }
    }

    /// Has a load balancer handled the packet?
    #[inline]
    pub(crate) fn is_claimed(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { bindings::rlvs_skb_property(self.as_ptr()) }
    }

    /// Has the packet come out of a tunnel that ends here?
    pub(crate) fn is_tunneled(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { bindings::rlvs_skb_is_tunneled(self.as_ptr()) }
    }

    /// Marks the packet as handled by a load balancer and keeps conntrack away from it.
    #[inline]
    pub(crate) fn claim(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::rlvs_skb_claim(self.as_ptr()) };
    }

    /// Is the packet, or a segment of it, longer than `mtu`?
    #[inline]
    pub(crate) fn exceeds<A: Inet>(&self, mtu: u32) -> bool {
        // SAFETY: By the type invariants.
        unsafe { A::exceeds(self.as_ptr(), mtu) }
    }

    /// Gives the packet another route. The route is not counted: it lives under the hook's RCU lock.
    #[inline]
    pub(crate) fn set_route<A: Inet>(&mut self, dst: &Dst<A>) {
        // SAFETY: By the type invariants. `dst` was found under RCU and netfilter holds the lock
        // until the packet has left our hands.
        unsafe { bindings::rlvs_skb_set_dst_noref(self.as_ptr(), dst.as_ptr()) };
    }

    /// Routes the packet anew after its source changed, if policy rules may care; false if there is
    /// no route.
    #[inline]
    pub(crate) fn reroute_by_source<A: Inet>(&mut self, net: &Net) -> bool {
        // SAFETY: By the type invariants.
        unsafe { A::reroute_by_source(net.as_ptr(), self.as_ptr()) == 0 }
    }

    /// Routes a packet of this host anew after its destination changed; false if there is no route.
    pub(crate) fn reroute<A: Inet>(&mut self, net: &Net) -> bool {
        // SAFETY: By the type invariants.
        unsafe { A::reroute(net.as_ptr(), self.as_ptr()) == 0 }
    }

    /// Tells the sender what is wrong with the packet, which must still be as it was sent but for its hops.
    pub(crate) fn complain<A: Inet>(&self, net: &Net, what: Complaint) {
        // SAFETY: By the type invariants.
        unsafe { A::complain(net.as_ptr(), self.as_ptr(), what) };
    }

    /// Puts a packet of IPv4 together from its fragments: the whole packet, or the verdict on a
    /// fragment that has to wait.
    pub(crate) fn defragment(self, net: &Net, user: DefragUser) -> Result<Self, Verdict> {
        let user = match user {
            DefragUser::Forward => bindings::ip_defrag_users_IP_DEFRAG_VS_FWD,
            DefragUser::Output => bindings::ip_defrag_users_IP_DEFRAG_VS_OUT,
        };
        // SAFETY: By the type invariants. If it does not return 0 the packet is taken.
        if unsafe { bindings::rlvs_defrag(net.as_ptr(), self.as_ptr(), user) } != 0 {
            return Err(Verdict(bindings::NF_STOLEN));
        }
        // INVARIANT: The whole packet starts where its first fragment did.
        Ok(self)
    }

    /// Somebody else has the packet.
    #[inline]
    pub(super) fn taken(self) -> Verdict {
        Verdict(bindings::NF_STOLEN)
    }

    /// Lets the packet go on.
    #[inline]
    pub(crate) fn accept(self) -> Verdict {
        Verdict(bindings::NF_ACCEPT)
    }

    /// Throws the packet away; a sender on this host gets `EPERM`.
    #[inline]
    pub(crate) fn drop(self) -> Verdict {
        Verdict(bindings::NF_DROP)
    }

    /// Throws the packet away, and no sender notices.
    pub(crate) fn lose(self) -> Verdict {
        // SAFETY: By the type invariants; the call takes the packet, and with `NF_STOLEN` netfilter
        // gives up its claim.
        unsafe { bindings::rlvs_skb_free(self.as_ptr()) };
        Verdict(bindings::NF_STOLEN)
    }

    /// Sends the packet where it is routed to, through the rules of `LOCAL_OUT` and `POST_ROUTING`.
    #[inline]
    pub(crate) fn send<A: Inet>(self, net: &Net) -> Verdict {
        // SAFETY: By the type invariants; the call takes the packet, and with `NF_STOLEN`
        // netfilter gives up its claim.
        unsafe { A::send(net.as_ptr(), self.as_ptr()) };
        Verdict(bindings::NF_STOLEN)
    }
}
