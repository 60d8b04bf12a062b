// SPDX-License-Identifier: GPL-2.0
/* Routes, and what is known of them. Part of helpers.c. */

#if IS_ENABLED(CONFIG_IPV6)
/* The route of a flow to `daddr`, of 16 bytes, with a reference; NULL if there is none. */
static __always_inline struct dst_entry *rlvs_route_flow6(struct net *net, struct flowi6 *fl6, const u32 *daddr)
{
	struct dst_entry *dst;

	memcpy(&fl6->daddr, daddr, sizeof(fl6->daddr));
	dst = ip6_route_output(net, NULL, fl6);
	if (!dst->error)
		return dst;
	dst_release(dst);
	return NULL;
}
#endif

/* A route to `daddr`, for packets from `saddr` (0: any), with a reference; NULL if there is none. */
__helper struct dst_entry *rust_helper_rlvs_route4(struct net *net, __be32 daddr, __be32 saddr)
{
	struct flowi4 fl4 = {
		.daddr = daddr,
		.saddr = saddr,
		.flowi4_flags = FLOWI_FLAG_ANYSRC,
	};
	struct rtable *rt = ip_route_output_key(net, &fl4);

	return IS_ERR(rt) ? NULL : &rt->dst;
}

/* The same of IPv6; addresses are 16 bytes. */
__helper struct dst_entry *rust_helper_rlvs_route6(struct net *net, const u32 *daddr, const u32 *saddr)
{
#if IS_ENABLED(CONFIG_IPV6)
	struct flowi6 fl6 = {};

	memcpy(&fl6.saddr, saddr, sizeof(fl6.saddr));
	return rlvs_route_flow6(net, &fl6, daddr);
#else
	return NULL;
#endif
}

/* What tells later whether the route still holds. */
__helper u32 rust_helper_rlvs_dst_cookie6(const struct dst_entry *dst)
{
#if IS_ENABLED(CONFIG_IPV6)
	return rt6_get_cookie(dst_rt6_info(dst));
#else
	return 0;
#endif
}

__helper bool rust_helper_rlvs_dst_valid(struct dst_entry *dst, u32 cookie)
{
	return dst_check(dst, cookie);
}

__helper void rust_helper_rlvs_dst_release(struct dst_entry *dst)
{
	dst_release(dst);
}

__helper bool rust_helper_rlvs_dst_is_local(const struct dst_entry *dst)
{
	return dst_rtable(dst)->rt_flags & RTCF_LOCAL;
}

__helper bool rust_helper_rlvs_dst_is_local6(const struct dst_entry *dst)
{
	return dst_dev(dst)->flags & IFF_LOOPBACK;
}

__helper unsigned int rust_helper_rlvs_dst_mtu(const struct dst_entry *dst)
{
	return dst_mtu(dst);
}

__helper unsigned int rust_helper_rlvs_dst_headroom(const struct dst_entry *dst)
{
	return LL_RESERVED_SPACE(dst_dev(dst));
}

__helper void rust_helper_rlvs_skb_set_dst_noref(struct sk_buff *skb, struct dst_entry *dst)
{
	skb_dst_drop(skb);
	skb_dst_set_noref(skb, dst);
}

/* 0, or an error with the packet still the caller's. */
__helper int rust_helper_rlvs_reroute4(struct net *net, struct sk_buff *skb)
{
	return ip_route_me_harder(net, skb->sk, skb, RTN_UNSPEC);
}

/*
 * The same for a packet whose source changed: only rules that look at sources could send it another way, or
 * into an IPsec tunnel.
 */
__helper int rust_helper_rlvs_reroute4_by_source(struct net *net, struct sk_buff *skb)
{
	bool rules = false;

#ifdef CONFIG_IP_MULTIPLE_TABLES
	rules |= net->ipv4.fib_has_custom_rules;
#endif
#ifdef CONFIG_XFRM
	rules |= READ_ONCE(net->xfrm.policy_count[XFRM_POLICY_OUT]) > 0;
#endif
	if (rules && !(skb_rtable(skb)->rt_flags & RTCF_LOCAL))
		return ip_route_me_harder(net, skb->sk, skb, RTN_LOCAL);
	return 0;
}

__helper int rust_helper_rlvs_reroute6(struct net *net, struct sk_buff *skb)
{
#if IS_ENABLED(CONFIG_IPV6)
	return ip6_route_me_harder(net, skb->sk, skb);
#else
	return -EAFNOSUPPORT;
#endif
}

__helper int rust_helper_rlvs_reroute6_by_source(struct net *net, struct sk_buff *skb)
{
#if IS_ENABLED(CONFIG_IPV6)
	bool rules = fib6_routes_require_src(net);

#ifdef CONFIG_IPV6_MULTIPLE_TABLES
	rules |= net->ipv6.fib6_has_custom_rules;
#endif
#ifdef CONFIG_XFRM
	rules |= READ_ONCE(net->xfrm.policy_count[XFRM_POLICY_OUT]) > 0;
#endif
	if (rules && !(dst_dev(skb_dst(skb))->flags & IFF_LOOPBACK))
		return ip6_route_me_harder(net, skb->sk, skb);
#endif
	return 0;
}

/* Has the packet come out of a tunnel that ends here? */
__helper bool rust_helper_rlvs_skb_is_tunneled(const struct sk_buff *skb)
{
	switch (skb->dev ? skb->dev->type : ARPHRD_VOID) {
	case ARPHRD_TUNNEL:
	case ARPHRD_TUNNEL6:
	case ARPHRD_SIT:
	case ARPHRD_IPGRE:
	case ARPHRD_IP6GRE:
		return true;
	default:
		return false;
	}
}

/*
 * Routes from here, with a reference; NULL if there is none. For a next hop: to a neighbour, whatever the
 * packets' own destination is. For a tunnel: with the source that packets get.
 */
__helper struct dst_entry *rust_helper_rlvs_route4_next_hop(struct net *net, __be32 daddr)
{
	struct flowi4 fl4 = {
		.daddr = daddr,
		.flowi4_flags = FLOWI_FLAG_KNOWN_NH,
	};
	struct rtable *rt = ip_route_output_key(net, &fl4);

	return IS_ERR(rt) ? NULL : &rt->dst;
}

__helper struct dst_entry *rust_helper_rlvs_route4_tunnel(struct net *net, __be32 daddr, __be32 *saddr)
{
	struct flowi4 fl4 = {
		.daddr = daddr,
	};
	struct rtable *rt = ip_route_output_key(net, &fl4);

	/* With the source, rules about sources count. */
	if (!IS_ERR(rt) && fl4.saddr) {
		ip_rt_put(rt);
		flowi4_update_output(&fl4, 0, daddr, fl4.saddr);
		rt = ip_route_output_key(net, &fl4);
	}
	if (IS_ERR(rt))
		return NULL;
	*saddr = fl4.saddr;
	return &rt->dst;
}

__helper struct dst_entry *rust_helper_rlvs_route6_next_hop(struct net *net, const u32 *daddr)
{
#if IS_ENABLED(CONFIG_IPV6)
	struct flowi6 fl6 = {
		.flowi6_flags = FLOWI_FLAG_KNOWN_NH,
	};

	return rlvs_route_flow6(net, &fl6, daddr);
#else
	return NULL;
#endif
}

__helper struct dst_entry *rust_helper_rlvs_route6_tunnel(struct net *net, const u32 *daddr, u32 *saddr)
{
#if IS_ENABLED(CONFIG_IPV6)
	struct flowi6 fl6 = {};
	struct dst_entry *dst = rlvs_route_flow6(net, &fl6, daddr);

	if (!dst)
		return NULL;
	if (ipv6_addr_any(&fl6.saddr) &&
	    ipv6_dev_get_saddr(net, ip6_dst_idev(dst)->dev, &fl6.daddr, 0, &fl6.saddr) < 0) {
		dst_release(dst);
		return NULL;
	}
	dst = xfrm_lookup(net, dst, flowi6_to_flowi(&fl6), NULL, 0);
	if (IS_ERR(dst))
		return NULL;
	memcpy(saddr, &fl6.saddr, sizeof(fl6.saddr));
	return dst;
#else
	return NULL;
#endif
}
