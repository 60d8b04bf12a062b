// SPDX-License-Identifier: GPL-2.0
/* Packets that leave, and errors that are told. Part of helpers.c. */

__helper void rust_helper_rlvs_icmp_send(struct sk_buff *skb, int type, int code, u32 info)
{
	icmp_send(skb, type, code, htonl(info));
}

/* A packet of this host has no device yet, and the sender of errors wants one. */
__helper void rust_helper_rlvs_icmp6_send(struct net *net, struct sk_buff *skb, int type, int code, u32 info)
{
#if IS_ENABLED(CONFIG_IPV6)
	struct net_device *dev = skb->dev;

	if (!dev)
		skb->dev = net->loopback_dev;
	icmpv6_send(skb, type, code, info);
	skb->dev = dev;
#endif
}

/*
 * Is there nobody at a point but ourselves, who have nothing to say about our own packets? A single hook may be
 * somebody else's: packets are sent while our hooks come, one by one, and for a grace period after they have gone.
 */
static __always_inline bool rlvs_hooks_alone(struct nf_hook_entries __rcu **at)
{
	const struct nf_hook_entries *hooks = rcu_dereference(*at);

	return !hooks || (hooks->num_hook_entries == 1 &&
			  within_module_mem_type((unsigned long)hooks->hooks[0].hook, THIS_MODULE, MOD_TEXT));
}

/* Sends a routed packet on its way through LOCAL_OUT. Takes the packet. */
__helper void rust_helper_rlvs_send4(struct net *net, struct sk_buff *skb)
{
	skb->ignore_df = 1;
	if (skb->dev)
		skb_clear_tstamp(skb);
	skb_forward_csum(skb);
	if (rlvs_hooks_alone(&net->nf.hooks_ipv4[NF_INET_LOCAL_OUT]))
		dst_output(net, NULL, skb);
	else
		NF_HOOK(NFPROTO_IPV4, NF_INET_LOCAL_OUT, net, NULL, skb, NULL, skb_dst(skb)->dev, dst_output);
}

__helper void rust_helper_rlvs_send6(struct net *net, struct sk_buff *skb)
{
	skb->ignore_df = 1;
	if (skb->dev)
		skb_clear_tstamp(skb);
	skb_forward_csum(skb);
	if (rlvs_hooks_alone(&net->nf.hooks_ipv6[NF_INET_LOCAL_OUT]))
		dst_output(net, NULL, skb);
	else
		NF_HOOK(NFPROTO_IPV6, NF_INET_LOCAL_OUT, net, NULL, skb, NULL, skb_dst(skb)->dev, dst_output);
}

/*
 * Sends a routed outer packet through LOCAL_OUT. Takes the packet. If nobody but ourselves is there, what
 * ip_local_out() does beside is done here.
 */
__helper void rust_helper_rlvs_send_outer4(struct net *net, struct sk_buff *skb)
{
	skb->ignore_df = 0;
	ip_select_ident(net, skb, NULL);
	skb->ignore_df = 1;
	if (!rlvs_hooks_alone(&net->nf.hooks_ipv4[NF_INET_LOCAL_OUT])) {
		ip_local_out(net, skb->sk, skb);
		return;
	}
	IP_INC_STATS(net, IPSTATS_MIB_OUTREQUESTS);
	iph_set_totlen(ip_hdr(skb), skb->len);
	ip_send_check(ip_hdr(skb));
	skb = l3mdev_ip_out(skb->sk, skb);
	if (!skb)
		return;
	skb->protocol = htons(ETH_P_IP);
	dst_output(net, skb->sk, skb);
}

__helper void rust_helper_rlvs_send_outer6(struct net *net, struct sk_buff *skb)
{
#if IS_ENABLED(CONFIG_IPV6)
	skb->ignore_df = 1;
	ip6_local_out(net, skb->sk, skb);
#else
	kfree_skb(skb);
#endif
}

/* Tells the socket that has sent a packet how long packets may be on its way. */
__helper void rust_helper_rlvs_skb_tell_mtu(struct sk_buff *skb, u32 mtu)
{
	struct dst_entry *dst = skb_dst(skb);
	struct sock *sk = skb->sk;

	if (!skb->dev && sk && sk_fullsock(sk))
		dst->ops->update_pmtu(dst, sk, NULL, mtu, true);
}

/* The path of a packet of ours takes no more than `mtu`: the packet starts at its IP header. */
__helper void rust_helper_rlvs_path_mtu4(struct net *net, struct sk_buff *skb, u32 mtu)
{
	ipv4_update_pmtu(skb, net, mtu, 0, 0);
}

__helper void rust_helper_rlvs_path_mtu6(struct net *net, struct sk_buff *skb, u32 mtu)
{
#if IS_ENABLED(CONFIG_IPV6)
	ip6_update_pmtu(skb, net, htonl(mtu), 0, 0, sock_net_uid(net, NULL));
#endif
}

/*
 * Of a packet that came in one of the other family, starting at its IP header: gives it the route that it would
 * have if its sender had sent it here. 0 or an error.
 */
__helper int rust_helper_rlvs_skb_route_as_sent4(struct net *net, struct sk_buff *skb)
{
	const struct iphdr *iph = ip_hdr(skb);
	struct flowi4 fl4 = {
		.daddr = iph->saddr,
	};
	struct rtable *rt;

	skb_dst_drop(skb);
	skb->protocol = htons(ETH_P_IP);
	rt = ip_route_output_key(net, &fl4);
	if (IS_ERR(rt))
		return PTR_ERR(rt);
	skb->dev = dst_dev(&rt->dst);
	ip_rt_put(rt);
	return ip_route_input_noref(skb, iph->daddr, iph->saddr, ip4h_dscp(iph), skb->dev) ? -EHOSTUNREACH : 0;
}

/* The errors of IPv6 want none, and no other one. */
__helper void rust_helper_rlvs_skb_unroute6(struct sk_buff *skb)
{
	skb_dst_drop(skb);
	skb->protocol = htons(ETH_P_IPV6);
}

/* Tells the sender of a packet, which starts at its IPv6 header, what is wrong with it. */
__helper void rust_helper_rlvs_relay6(struct sk_buff *skb, u8 type, u8 code, u32 info)
{
#if IS_ENABLED(CONFIG_IPV6)
	IP6CB(skb)->iif = skb->skb_iif;
	icmpv6_send(skb, type, code, info);
#endif
}
