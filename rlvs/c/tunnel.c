// SPDX-License-Identifier: GPL-2.0
/* Packets that go into others. Part of helpers.c. */

/* Makes what stands before the payload private, and `room` bytes in front of it free. 0 or -ENOMEM. */
__helper int rust_helper_rlvs_skb_cow_head(struct sk_buff *skb, unsigned int room)
{
	return skb_cow_head(skb, room);
}

__helper unsigned int rust_helper_rlvs_skb_headroom(const struct sk_buff *skb)
{
	return skb_headroom(skb);
}

/* The source port that tells the flow of a packet to who spreads by ports. Host order. */
__helper u16 rust_helper_rlvs_skb_flow_port(struct net *net, struct sk_buff *skb)
{
	return ntohs(udp_flow_src_port(net, skb, 0, 0, false));
}

/* Where the checksum of a packet whose checksum is CHECKSUM_PARTIAL starts, and where its field is. */
__helper unsigned int rust_helper_rlvs_skb_csum_start(const struct sk_buff *skb)
{
	return skb_checksum_start_offset(skb);
}

__helper unsigned int rust_helper_rlvs_skb_csum_offset(const struct sk_buff *skb)
{
	return skb->csum_offset;
}

/* The far end computes the checksum of a packet that is no GSO packet. */
__helper void rust_helper_rlvs_skb_leave_csum(struct sk_buff *skb)
{
	if (!skb_is_gso(skb)) {
		skb->ip_summed = CHECKSUM_NONE;
		skb->encapsulation = 0;
	}
}

/* The headers of the packet become the inner ones. 0 or an error. */
__helper int rust_helper_rlvs_skb_become_inner(struct sk_buff *skb, int gso_type)
{
	int err = iptunnel_handle_offloads(skb, gso_type);

	if (!err)
		skb_set_inner_mac_header(skb, skb_inner_network_offset(skb));
	return err;
}

__helper void rust_helper_rlvs_skb_inner_ipproto(struct sk_buff *skb, u8 proto)
{
	skb_set_inner_ipproto(skb, proto);
}

__helper void rust_helper_rlvs_skb_inner_protocol(struct sk_buff *skb, u16 ethertype)
{
	skb_set_inner_protocol(skb, htons(ethertype));
}

/*
 * Opens `network + transport` bytes in front of a packet, for an IP header and what follows that. What the
 * IP layer has noted about the packet is about the inner one.
 */
__helper void rust_helper_rlvs_skb_push_outer(struct sk_buff *skb, unsigned int network, unsigned int transport)
{
	__skb_push(skb, transport);
	skb_reset_transport_header(skb);
	__skb_push(skb, network);
	skb_reset_network_header(skb);
	BUILD_BUG_ON(sizeof(struct inet6_skb_parm) > sizeof(struct inet_skb_parm));
	memset(IPCB(skb), 0, sizeof(*IPCB(skb)));
}

/* The checksum of the GRE header that an outer packet has; of a GSO packet its segments get it. */
__helper void rust_helper_rlvs_gre_csum(struct sk_buff *skb)
{
	__sum16 *field = (__sum16 *)(skb_transport_header(skb) + sizeof(struct gre_base_hdr));

	if (skb_is_gso(skb))
		return;
	if (skb->ip_summed == CHECKSUM_PARTIAL) {
		*field = csum_fold(lco_csum(skb));
	} else {
		skb->ip_summed = CHECKSUM_PARTIAL;
		skb->csum_start = skb_transport_header(skb) - skb->head;
		skb->csum_offset = sizeof(struct gre_base_hdr);
	}
}

/* The checksum of the UDP header that an outer packet has. */
__helper void rust_helper_rlvs_udp_csum4(struct sk_buff *skb)
{
	const struct iphdr *iph = ip_hdr(skb);

	udp_set_csum(false, skb, iph->saddr, iph->daddr, skb->len - sizeof(*iph));
}

__helper void rust_helper_rlvs_udp_csum6(struct sk_buff *skb)
{
#if IS_ENABLED(CONFIG_IPV6)
	const struct ipv6hdr *iph = ipv6_hdr(skb);

	udp6_set_csum(false, skb, &iph->saddr, &iph->daddr, skb->len - sizeof(*iph));
#endif
}

/* Takes `len` bytes off the front: the packet starts at the IP header behind them. */
__helper void rust_helper_rlvs_skb_strip(struct sk_buff *skb, unsigned int len)
{
	__skb_pull(skb, len);
	skb_reset_network_header(skb);
	memset(IPCB(skb), 0, sizeof(*IPCB(skb)));
}
