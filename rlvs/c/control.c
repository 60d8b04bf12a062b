// SPDX-License-Identifier: GPL-2.0
/* Generic netlink, /proc, addresses and devices. Part of helpers.c. */

__helper struct net *rust_helper_rlvs_genl_info_net(const struct genl_info *info)
{
	return genl_info_net(info);
}

/* Takes the message, sent or not. */
__helper int rust_helper_rlvs_genl_reply(struct sk_buff *skb, struct genl_info *info)
{
	return genlmsg_reply(skb, info);
}

__helper void rust_helper_rlvs_genl_dump_check(struct netlink_callback *cb, void *hdr)
{
	genl_dump_check_consistent(cb, hdr);
}

__helper struct nlattr *rust_helper_rlvs_nla_nest_start(struct sk_buff *skb, int type)
{
	return nla_nest_start_noflag(skb, type);
}

__helper void rust_helper_rlvs_nla_nest_end(struct sk_buff *skb, struct nlattr *nest)
{
	nla_nest_end(skb, nest);
}

__helper void rust_helper_rlvs_nla_nest_cancel(struct sk_buff *skb, struct nlattr *nest)
{
	nla_nest_cancel(skb, nest);
}

__helper int rust_helper_rlvs_nla_put_u64(struct sk_buff *skb, int type, u64 value, int pad)
{
	return nla_put_u64_64bit(skb, type, value, pad);
}

/* Only CPUs that the current task may use. */
__helper int rust_helper_rlvs_cpulist_parse(const char *text, struct cpumask *mask)
{
	int ret = cpulist_parse(text, mask);

	if (!ret)
		cpumask_and(mask, mask, &current->cpus_mask);
	return ret;
}

/* Without a mask those of the housekeeping for kernel threads. */
__helper size_t rust_helper_rlvs_cpulist_print(char *text, size_t size, const struct cpumask *mask)
{
	size_t len;

	rcu_read_lock();
	if (!mask)
		mask = housekeeping_cpumask(HK_TYPE_KTHREAD);
	len = scnprintf(text, size, "%*pbl\n", cpumask_pr_args(mask));
	rcu_read_unlock();
	return len;
}

__helper struct net *rust_helper_rlvs_seq_file_net(struct seq_file *seq)
{
	return seq_file_net(seq);
}

/* Is the address that of one host, and not this one? */
__helper bool rust_helper_rlvs_is_elsewhere4(struct net *net, __be32 addr)
{
	return inet_addr_type(net, addr) == RTN_UNICAST;
}

__helper bool rust_helper_rlvs_is_elsewhere6(const u32 *bytes)
{
	struct in6_addr addr;

	memcpy(&addr, bytes, sizeof(addr));
	return ipv6_addr_type(&addr) & IPV6_ADDR_UNICAST;
}

__helper bool rust_helper_rlvs_is_one_host(struct net *net, __be32 addr)
{
	unsigned int type = inet_addr_type(net, addr);

	return type == RTN_UNICAST || type == RTN_LOCAL;
}

/* Like mainline: a link-local address names no host without an interface, unless it is our own. */
__helper bool rust_helper_rlvs_is_one_host6(struct net *net, const u8 *bytes)
{
#if IS_ENABLED(CONFIG_IPV6)
	struct flowi6 fl6 = {};
	struct dst_entry *dst;
	bool ours;
	int type;

	memcpy(&fl6.daddr, bytes, sizeof(fl6.daddr));
	type = ipv6_addr_type(&fl6.daddr);
	if (type & IPV6_ADDR_UNICAST && !(type & IPV6_ADDR_LINKLOCAL))
		return true;
	dst = ip6_route_output(net, NULL, &fl6);
	ours = !dst->error && dst_dev(dst) && dst_dev(dst)->flags & IFF_LOOPBACK;
	dst_release(dst);
	return ours;
#else
	return false;
#endif
}

__helper bool rust_helper_rlvs_has_ipv6(void)
{
#if IS_ENABLED(CONFIG_IPV6)
	return ipv6_mod_enabled();
#else
	return false;
#endif
}

__helper bool rust_helper_rlvs_port_is_privileged(const struct net *net, u16 port)
{
	return inet_port_requires_bind_service((struct net *)net, port);
}

/* The number of a device and its MTU; 0 if there is none of that name. */
__helper int rust_helper_rlvs_device(struct net *net, const char *name, unsigned int *mtu)
{
	struct net_device *dev;
	int index = 0;

	rcu_read_lock();
	dev = dev_get_by_name_rcu(net, name);
	if (dev) {
		index = dev->ifindex;
		*mtu = READ_ONCE(dev->mtu);
	}
	rcu_read_unlock();
	return index;
}

/* An address of a device's; 0 if it has none. */
__helper __be32 rust_helper_rlvs_device_addr(struct net *net, int index)
{
	struct net_device *dev;
	__be32 addr = 0;

	rcu_read_lock();
	dev = dev_get_by_index_rcu(net, index);
	if (dev)
		addr = inet_select_addr(dev, 0, RT_SCOPE_UNIVERSE);
	rcu_read_unlock();
	return addr;
}
