// SPDX-License-Identifier: GPL-2.0
/* Packets: what they are, and what is done to their bytes. Part of helpers.c. */

__helper bool rust_helper_rlvs_skb_property(const struct sk_buff *skb)
{
	return skb->ipvs_property;
}

__helper int rust_helper_rlvs_skb_network_offset(const struct sk_buff *skb)
{
	return skb_network_offset(skb);
}

/* For who looks for lost packets it is as if netfilter had thrown it away. Takes the packet. */
__helper void rust_helper_rlvs_skb_free(struct sk_buff *skb)
{
	kfree_skb_reason(skb, SKB_DROP_REASON_NETFILTER_DROP);
}

/* The bytes are about to change: what the device summed up is no longer true. */
__helper void rust_helper_rlvs_skb_void_complete(struct sk_buff *skb)
{
	if (skb->ip_summed == CHECKSUM_COMPLETE)
		skb->ip_summed = CHECKSUM_NONE;
}

/* Makes the first `len` bytes private and linear; they are about to change. Of most packets they are both. */
__helper bool rust_helper_rlvs_skb_writable(struct sk_buff *skb, unsigned int len)
{
	if ((len > skb_headlen(skb) || skb_cloned(skb)) && skb_ensure_writable(skb, len))
		return false;
	rust_helper_rlvs_skb_void_complete(skb);
	return true;
}

__helper bool rust_helper_rlvs_skb_pull(struct sk_buff *skb, unsigned int len)
{
	return pskb_may_pull(skb, len);
}

__helper unsigned int rust_helper_rlvs_skb_ip_summed(const struct sk_buff *skb)
{
	return skb->ip_summed;
}

__helper bool rust_helper_rlvs_skb_is_gso(const struct sk_buff *skb)
{
	return skb_is_gso(skb);
}

/* Is the packet for this host on the link layer, and routed? Broadcasts and taps are not. */
__helper bool rust_helper_rlvs_skb_is_ours(const struct sk_buff *skb)
{
	return skb->pkt_type == PACKET_HOST && skb_dst(skb);
}

__helper u32 rust_helper_rlvs_skb_mark(const struct sk_buff *skb)
{
	return skb->mark;
}

__helper struct dst_entry *rust_helper_rlvs_skb_dst(const struct sk_buff *skb)
{
	return skb_dst(skb);
}

/* A raw socket that sends fragments as they are (IP_NODEFRAG) is left alone. */
__helper bool rust_helper_rlvs_skb_nodefrag(const struct sk_buff *skb)
{
	struct sock *sk = skb_to_full_sk(skb);

	return sk && sk->sk_family == PF_INET && inet_test_bit(NODEFRAG, sk);
}

/* Of a packet that is longer than `mtu`: is it still so once segmented? */
__helper bool rust_helper_rlvs_skb_exceeds(const struct sk_buff *skb, unsigned int mtu)
{
	return !(skb_is_gso(skb) && skb_gso_validate_network_len(skb, mtu));
}

/*
 * Makes the first `len` bytes private and linear, and `room` bytes before them free for a device's header
 * and what is inserted. 0 or -ENOMEM.
 */
__helper int rust_helper_rlvs_skb_cow(struct sk_buff *skb, unsigned int len, unsigned int room)
{
	int err = skb_ensure_writable(skb, len);

	return err ? err : skb_cow(skb, room);
}

/*
 * The headers are about to grow by `n` bytes in front of the payload: opens the gap before the IP header
 * and moves every offset that points to a header. The caller moves the bytes.
 */
__helper void rust_helper_rlvs_skb_grow_headers(struct sk_buff *skb, unsigned int n)
{
	__skb_push(skb, n);
	skb_reset_network_header(skb);
	skb->transport_header -= n;
	if (skb->ip_summed == CHECKSUM_PARTIAL)
		skb->csum_start -= n;
}

/* Makes the packet private, linear and, with zeros, at least `len` bytes long. 0 or -ENOMEM. */
__helper int rust_helper_rlvs_skb_stretch(struct sk_buff *skb, unsigned int len)
{
	unsigned int more = len > skb->len ? len - skb->len : 0;
	int err = skb_ensure_writable(skb, skb->len);

	if (!err && skb_tailroom(skb) < more)
		err = pskb_expand_head(skb, 0, more, GFP_ATOMIC);
	if (!err)
		skb_put_zero(skb, more);
	return err;
}

__helper void rust_helper_rlvs_skb_cut(struct sk_buff *skb, unsigned int len)
{
	skb_trim(skb, len);
}

__helper bool rust_helper_rlvs_skb_copy(const struct sk_buff *skb, int offset, u8 *to, int len)
{
	return skb_copy_bits(skb, offset, to, len) == 0;
}

/* Every segment of a GSO packet has `n` bytes of headers more, so it carries that much less. */
__helper void rust_helper_rlvs_skb_shrink_gso(struct sk_buff *skb, unsigned int n, unsigned int payload)
{
	struct skb_shared_info *shinfo = skb_shinfo(skb);

	shinfo->gso_size -= n;
	shinfo->gso_segs = DIV_ROUND_UP(payload, shinfo->gso_size);
}

__helper bool rust_helper_rlvs_skb_has_frag_list(const struct sk_buff *skb)
{
	return skb_has_frag_list(skb);
}

__helper u16 rust_helper_rlvs_skb_gso_size(const struct sk_buff *skb)
{
	return skb_shinfo(skb)->gso_size;
}

/* Is the ICMP checksum of a packet that starts at its IP header right? */
__helper bool rust_helper_rlvs_skb_icmp_csum_ok(struct sk_buff *skb, unsigned int offset)
{
	return nf_ip_checksum(skb, NF_INET_LOCAL_IN, offset, 0) == 0;
}

/* 0: reassembled; else the packet was taken. */
__helper int rust_helper_rlvs_defrag(struct net *net, struct sk_buff *skb, unsigned int user)
{
	int err;

	local_bh_disable();
	err = ip_defrag(net, skb, user);
	local_bh_enable();
	if (!err)
		ip_send_check(ip_hdr(skb));
	return err;
}

/* Of a packet that netfilter put together, the largest fragment must fit. */
__helper bool rust_helper_rlvs_skb_exceeds6(const struct sk_buff *skb, unsigned int mtu)
{
	unsigned int largest = IP6CB(skb)->frag_max_size;

	return largest ? largest > mtu : rust_helper_rlvs_skb_exceeds(skb, mtu);
}

__helper bool rust_helper_rlvs_skb_icmp6_csum_ok(struct sk_buff *skb, unsigned int offset)
{
	return nf_ip6_checksum(skb, NF_INET_LOCAL_IN, offset, IPPROTO_ICMPV6) == 0;
}

/*
 * Has whole packets of IPv6 reach the hooks of a namespace, and the other way about. The module that does so
 * is not one of ours: it is loaded when it is first needed, and kept.
 */
__helper int rust_helper_rlvs_defrag6_enable(struct net *net)
{
#if IS_ENABLED(CONFIG_IPV6)
	int (*enable)(struct net *net) = symbol_get(nf_defrag_ipv6_enable);
	int err;

	if (!enable) {
		request_module("nf_defrag_ipv6");
		enable = symbol_get(nf_defrag_ipv6_enable);
	}
	if (!enable)
		return -EOPNOTSUPP;
	err = enable(net);
	if (err)
		symbol_put(nf_defrag_ipv6_enable);
	return err;
#else
	return -EAFNOSUPPORT;
#endif
}

__helper void rust_helper_rlvs_defrag6_disable(struct net *net)
{
#if IS_ENABLED(CONFIG_IPV6)
	void (*disable)(struct net *net) = symbol_get(nf_defrag_ipv6_disable);

	if (disable) {
		disable(net);
		symbol_put(nf_defrag_ipv6_disable);
	}
	symbol_put(nf_defrag_ipv6_enable);
#endif
}
