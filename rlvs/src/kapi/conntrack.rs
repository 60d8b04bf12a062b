// SPDX-License-Identifier: GPL-2.0

//! What conntrack is told of packets whose connections it is to keep.
//!
//! C header: [`include/net/netfilter/nf_conntrack.h`](srctree/include/net/netfilter/nf_conntrack.h)

use super::{
    bindings,
    family::Inet,
    netns::Net,
    skb::Packet, //
};

/// Source and destination of packets, each with its port in host order.
pub(crate) struct Ends<A> {
    /// Where they come from.
    pub(crate) src: (A, u16),
    /// Where they go.
    pub(crate) dst: (A, u16),
}

impl Packet<'_> {
    /// Marks the packet as handled by a load balancer. If conntrack has just met its connection, it
    /// learns that this is how the answers look.
    pub(crate) fn claim_tracked<A: Inet>(&mut self, answers: Option<&Ends<A>>) {
        // SAFETY: By the type invariants of `Packet`; the addresses have that length.
        unsafe {
            bindings::rlvs_skb_claim_tracked(self.as_ptr());
            if let Some(Ends { src, dst }) = answers {
                let (from, to) = (src.0.raw(), dst.0.raw());
                bindings::rlvs_ct_expect_answers(
                    self.as_ptr(),
                    (&raw const from).cast(),
                    (&raw const to).cast(),
                    size_of_val(&from),
                    src.1,
                    dst.1,
                );
            }
        }
    }

    /// If conntrack has just met the packet's TCP connection, it is not to mind sequence numbers: bytes come
    /// and go on their way between the ends.
    pub(crate) fn loosen_tracking(&mut self) {
        // SAFETY: By the type invariants of `Packet`.
        unsafe { bindings::rlvs_ct_be_liberal(self.as_ptr()) }
    }

    /// Has conntrack keep the packet's connection, if it has just met it: at the end of the packet's way
    /// that would be done, and another packet is to go there. False leaves one that must not go on.
    ///
    /// The caller holds the RCU read lock, as every hook does.
    pub(crate) fn confirm_tracked(&mut self) -> bool {
        // SAFETY: By the type invariants of `Packet`.
        unsafe { bindings::rlvs_ct_confirm(self.as_ptr()) }
    }

    /// Does conntrack know the packet's connection from earlier packets?
    pub(crate) fn is_tracked_already(&self) -> bool {
        // SAFETY: By the type invariants of `Packet`.
        unsafe { bindings::rlvs_ct_is_old(self.as_ptr()) }
    }
}

/// Has conntrack forget the connection of such packets. Any context but hard interrupts.
pub(crate) fn forget<A: Inet>(net: &Net, proto: u8, packets: &Ends<A>) {
    let (src, dst) = (packets.src.0.raw(), packets.dst.0.raw());
    // SAFETY: The namespace is valid, and the addresses have that length.
    unsafe {
        bindings::rlvs_ct_forget(
            net.as_ptr(),
            A::NUMBER,
            proto,
            (&raw const src).cast(),
            (&raw const dst).cast(),
            size_of_val(&src),
            packets.src.1,
            packets.dst.1,
        );
    }
}
