// SPDX-License-Identifier: GPL-2.0
/*
 * C inline functions and macros, made callable from Rust: one function per step, no decisions.
 *
 * On a kernel with CONFIG_RUST_INLINE_HELPERS they are inlined into the Rust code; __always_inline is
 * needed because the target attributes of C and Rust functions differ, which would forbid it otherwise.
 */
#include <linux/cpu.h>
#include <linux/cpumask.h>
#include <linux/ip.h>
#include <linux/icmpv6.h>
#include <linux/if_arp.h>
#include <linux/igmp.h>
#include <linux/inetdevice.h>
#include <linux/ipv6.h>
#include <linux/jiffies.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/sched/isolation.h>
#include <linux/seq_file_net.h>
#include <linux/siphash.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <net/addrconf.h>
#include <net/dst.h>
#include <net/genetlink.h>
#include <net/gre.h>
#include <net/gso.h>
#include <net/icmp.h>
#include <net/ip.h>
#include <net/ip6_checksum.h>
#include <net/ip6_fib.h>
#include <net/ip6_route.h>
#include <net/ip_tunnels.h>
#include <net/ipv6.h>
#include <net/l3mdev.h>
#include <net/netfilter/ipv6/nf_defrag_ipv6.h>
#include <net/netfilter/nf_conntrack.h>
#include <net/netfilter/nf_conntrack_core.h>
#include <net/netfilter/nf_conntrack_zones.h>
#include <net/netns/generic.h>
#include <net/route.h>
#include <net/sock.h>
#include <net/udp.h>
#include <net/xfrm.h>

#ifdef __BINDGEN__
#define __helper
#else
#define __helper __always_inline
#endif

/* -- locks, per-CPU memory */

__helper void rust_helper_rlvs_spin_lock(spinlock_t *lock)
{
	spin_lock(lock);
}

__helper void rust_helper_rlvs_spin_unlock(spinlock_t *lock)
{
	spin_unlock(lock);
}

__helper void rust_helper_rlvs_local_bh_disable(void)
{
	local_bh_disable();
}

__helper void rust_helper_rlvs_local_bh_enable(void)
{
	local_bh_enable();
}

__helper bool rust_helper_rlvs_softirqs_are_off(void)
{
	return softirq_count();
}

__helper void *rust_helper_rlvs_this_cpu_ptr(void *percpu)
{
	return raw_cpu_ptr((void __percpu *)percpu);
}

__helper void *rust_helper_rlvs_per_cpu_ptr(void *percpu, int cpu)
{
	return per_cpu_ptr((void __percpu *)percpu, cpu);
}

__helper void rust_helper_rlvs_this_cpu_add_u64(u64 *percpu, u64 value)
{
	this_cpu_add(*(u64 __percpu *)percpu, value);
}

/*
 * For words that no interrupt handler adds to, with softirqs off. Where adding takes several instructions the
 * other one turns interrupts off for it, which under User-Mode Linux is two system calls.
 */
__helper void rust_helper_rlvs_bh_cpu_add_u64(u64 *percpu, u64 value)
{
	__this_cpu_add(*(u64 __percpu *)percpu, value);
}

/* Calls `fn` with `arg` on a CPU; here, and while that cannot come up, if it is down. Process context. */
__helper void rust_helper_rlvs_call_on_cpu(int cpu, long (*fn)(void *), void *arg)
{
	cpus_read_lock();
	if (cpu_online(cpu))
		work_on_cpu(cpu, fn, arg);
	else
		fn(arg);
	cpus_read_unlock();
}

/* The next possible CPU after `cpu` (-1 starts), or nr_cpu_ids. */
__helper unsigned int rust_helper_rlvs_next_possible_cpu(int cpu)
{
	return cpumask_next(cpu, cpu_possible_mask);
}

__helper unsigned int rust_helper_rlvs_nr_cpu_ids(void)
{
	return nr_cpu_ids;
}

__helper void rust_helper_rlvs_cond_resched(void)
{
	cond_resched();
}

/* For what RCU callbacks drop, too. */
__helper void rust_helper_rlvs_cond_resched_in_task(void)
{
	if (!in_interrupt())
		cond_resched();
}

__helper unsigned long rust_helper_rlvs_jiffies(void)
{
	return jiffies;
}

/* The length is in bytes, a multiple of 8 or short of it by 4. */
__helper u32 rust_helper_rlvs_hsiphash(const u32 *words, size_t len, const hsiphash_key_t *key)
{
	return hsiphash(words, len, key);
}

/* -- deferred work */

__helper void rust_helper_rlvs_delayed_work_init(struct delayed_work *work, work_func_t func)
{
	INIT_DELAYED_WORK(work, func);
}

__helper void rust_helper_rlvs_delayed_work_queue(struct delayed_work *work, unsigned long delay)
{
	queue_delayed_work(system_dfl_wq, work, delay);
}

__helper void rust_helper_rlvs_delayed_work_kick(struct delayed_work *work)
{
	mod_delayed_work(system_dfl_wq, work, 0);
}

/* -- namespaces */

/* Like net_generic(), but a number that the namespace has no slot for yet is no error. */
__helper void *rust_helper_rlvs_net_generic(const struct net *net, unsigned int id)
{
	struct net_generic *ng;
	void *ptr = NULL;

	rcu_read_lock();
	ng = rcu_dereference(net->gen);
	if (id && id < ng->s.len)
		ptr = ng->ptr[id];
	rcu_read_unlock();
	return ptr;
}

/* -- packets */

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

__helper void rust_helper_rlvs_icmp_send(struct sk_buff *skb, int type, int code, u32 info)
{
	icmp_send(skb, type, code, htonl(info));
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

/* The namespace of the device that a notifier of devices is told about. */
__helper struct net *rust_helper_rlvs_netdev_event_net(const void *info)
{
	return dev_net(netdev_notifier_info_to_dev(info));
}

/* -- routes */

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
	struct dst_entry *dst;

	memcpy(&fl6.daddr, daddr, sizeof(fl6.daddr));
	memcpy(&fl6.saddr, saddr, sizeof(fl6.saddr));
	dst = ip6_route_output(net, NULL, &fl6);
	if (!dst->error)
		return dst;
	dst_release(dst);
#endif
	return NULL;
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

/* Marks the packet as ours; conntrack keeps what it knows of it. */
__helper void rust_helper_rlvs_skb_claim_tracked(struct sk_buff *skb)
{
	skb->ipvs_property = 1;
	if (skb->dev)
		skb_orphan(skb);
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
 * Tells conntrack of a connection that it has just met where the answers come from and where they go, unless it
 * knows by now. Addresses have `len` bytes.
 */
__helper void rust_helper_rlvs_ct_expect_answers(struct sk_buff *skb, const void *from, const void *to,
						 size_t len, u16 sport, u16 dport)
{
#if IS_ENABLED(CONFIG_NF_CONNTRACK)
	enum ip_conntrack_info ctinfo;
	struct nf_conn *ct = nf_ct_get(skb, &ctinfo);
	struct nf_conntrack_tuple answers;

	if (!ct || nf_ct_is_confirmed(ct) || nf_ct_is_dying(ct) || CTINFO2DIR(ctinfo) != IP_CT_DIR_ORIGINAL)
		return;
	answers = ct->tuplehash[IP_CT_DIR_REPLY].tuple;
	memcpy(&answers.src.u3, from, len);
	memcpy(&answers.dst.u3, to, len);
	if (answers.dst.protonum != IPPROTO_ICMP && answers.dst.protonum != IPPROTO_ICMPV6) {
		answers.src.u.all = htons(sport);
		answers.dst.u.all = htons(dport);
	}
	nf_conntrack_alter_reply(ct, &answers);
#endif
}

/* Does conntrack know the packet's connection from earlier packets? */
__helper bool rust_helper_rlvs_ct_is_old(const struct sk_buff *skb)
{
#if IS_ENABLED(CONFIG_NF_CONNTRACK)
	enum ip_conntrack_info ctinfo;
	struct nf_conn *ct = nf_ct_get(skb, &ctinfo);

	return ct && nf_ct_is_confirmed(ct);
#else
	return false;
#endif
}

/* Has conntrack not mind the windows of a TCP connection that it has just met. */
__helper void rust_helper_rlvs_ct_be_liberal(struct sk_buff *skb)
{
#if IS_ENABLED(CONFIG_NF_CONNTRACK)
	enum ip_conntrack_info ctinfo;
	struct nf_conn *ct = nf_ct_get(skb, &ctinfo);

	if (!ct || nf_ct_is_confirmed(ct) || nf_ct_protonum(ct) != IPPROTO_TCP)
		return;
	ct->proto.tcp.seen[IP_CT_DIR_ORIGINAL].flags |= IP_CT_TCP_FLAG_BE_LIBERAL;
	ct->proto.tcp.seen[IP_CT_DIR_REPLY].flags |= IP_CT_TCP_FLAG_BE_LIBERAL;
#endif
}

/* Has conntrack keep a connection that it has just met. False: the packet must not go on. */
__helper bool rust_helper_rlvs_ct_confirm(struct sk_buff *skb)
{
#if IS_ENABLED(CONFIG_NF_CONNTRACK)
	const struct nf_ct_hook *hook = rcu_dereference(nf_ct_hook);
	enum ip_conntrack_info ctinfo;
	struct nf_conn *ct = nf_ct_get(skb, &ctinfo);

	if (hook && ct && !nf_ct_is_confirmed(ct))
		return hook->confirm(skb) == NF_ACCEPT;
#endif
	return true;
}

/* Has conntrack forget a connection. Its module is not one of ours, and may not be there. */
__helper void rust_helper_rlvs_ct_forget(struct net *net, u16 family, u8 proto, const void *src, const void *dst,
					 size_t len, u16 sport, u16 dport)
{
#if IS_ENABLED(CONFIG_NF_CONNTRACK)
	const struct nf_conntrack_zone zone = {
		.id = NF_CT_DEFAULT_ZONE_ID,
		.dir = NF_CT_DEFAULT_ZONE_DIR,
	};
	struct nf_conntrack_tuple tuple = {};
	struct nf_conntrack_tuple_hash *found;
	typeof(nf_conntrack_find_get) *find = symbol_get(nf_conntrack_find_get);
	typeof(nf_ct_delete) *delete = symbol_get(nf_ct_delete);

	tuple.src.l3num = family;
	tuple.dst.protonum = proto;
	memcpy(&tuple.src.u3, src, len);
	memcpy(&tuple.dst.u3, dst, len);
	tuple.src.u.all = htons(sport);
	tuple.dst.u.all = htons(dport);
	found = find && delete ? find(net, &zone, &tuple) : NULL;
	if (found) {
		struct nf_conn *ct = nf_ct_tuplehash_to_ctrack(found);

		delete(ct, 0, 0);
		nf_conntrack_put(&ct->ct_general);
	}
	if (find)
		symbol_put(nf_conntrack_find_get);
	if (delete)
		symbol_put(nf_ct_delete);
#endif
}

/* Marks the packet as ours and keeps conntrack away from it. */
__helper void rust_helper_rlvs_skb_claim(struct sk_buff *skb)
{
	skb->ipvs_property = 1;
	/* What early demux found is the socket of the packet as it was. */
	if (skb->dev)
		skb_orphan(skb);
#if IS_ENABLED(CONFIG_NF_CONNTRACK)
	if (skb_get_nfct(skb) != IP_CT_UNTRACKED) {
		nf_reset_ct(skb);
		nf_ct_set(skb, NULL, IP_CT_UNTRACKED);
	}
#endif
}

/*
 * Is there nobody at a point but ourselves, who have nothing to say about our own packets? Whoever sends packets has
 * its hooks there.
 */
static __always_inline bool rlvs_hooks_alone(struct nf_hook_entries __rcu **at)
{
	const struct nf_hook_entries *hooks = rcu_dereference(*at);

	return !hooks || hooks->num_hook_entries == 1;
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

/* -- tunnels: a packet goes into another one, and errors about that come out again */

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

/* Marks an outer packet as ours. To conntrack it is a new one. */
__helper void rust_helper_rlvs_skb_claim_outer(struct sk_buff *skb)
{
	skb->ipvs_property = 1;
	if (skb->dev) {
		skb_orphan(skb);
		skb_clear_tstamp(skb);
	}
	nf_reset_ct(skb);
	skb_forward_csum(skb);
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
	struct dst_entry *dst;

	memcpy(&fl6.daddr, daddr, sizeof(fl6.daddr));
	dst = ip6_route_output(net, NULL, &fl6);
	if (!dst->error)
		return dst;
	dst_release(dst);
#endif
	return NULL;
}

__helper struct dst_entry *rust_helper_rlvs_route6_tunnel(struct net *net, const u32 *daddr, u32 *saddr)
{
#if IS_ENABLED(CONFIG_IPV6)
	struct flowi6 fl6 = {};
	struct dst_entry *dst;

	memcpy(&fl6.daddr, daddr, sizeof(fl6.daddr));
	dst = ip6_route_output(net, NULL, &fl6);
	if (dst->error || (ipv6_addr_any(&fl6.saddr) &&
			   ipv6_dev_get_saddr(net, ip6_dst_idev(dst)->dev, &fl6.daddr, 0, &fl6.saddr) < 0)) {
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

/* Takes `len` bytes off the front: the packet starts at the IP header behind them. */
__helper void rust_helper_rlvs_skb_strip(struct sk_buff *skb, unsigned int len)
{
	__skb_pull(skb, len);
	skb_reset_network_header(skb);
	memset(IPCB(skb), 0, sizeof(*IPCB(skb)));
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

#ifndef RLVS_INLINE
MODULE_ALIAS_GENL_FAMILY("IPVS");
MODULE_ALIAS_GENL_FAMILY("RLVS");
#endif

/* -- control: generic netlink, /proc, addresses */

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

/* -- sockets */

__helper int rust_helper_rlvs_udp_socket(struct net *net, bool v6, struct socket **sock)
{
	return sock_create_kern(net, v6 ? AF_INET6 : AF_INET, SOCK_DGRAM, IPPROTO_UDP, sock);
}

__helper struct net *rust_helper_rlvs_sock_net(const struct sock *sk)
{
	return sock_net(sk);
}

/* What is sent to groups leaves by that device, does not come back, and may be fragmented. */
__helper void rust_helper_rlvs_sock_send_by(struct socket *sock, int index, u8 hops)
{
	struct sock *sk = sock->sk;

	lock_sock(sk);
	inet_sk(sk)->mc_index = index;
	WRITE_ONCE(inet_sk(sk)->mc_ttl, hops);
	WRITE_ONCE(inet_sk(sk)->pmtudisc, IP_PMTUDISC_DONT);
	inet_clear_bit(MC_LOOP, sk);
#if IS_ENABLED(CONFIG_IPV6)
	if (sk->sk_family == AF_INET6) {
		WRITE_ONCE(inet6_sk(sk)->mcast_oif, index);
		WRITE_ONCE(inet6_sk(sk)->mcast_hops, hops);
		WRITE_ONCE(inet6_sk(sk)->pmtudisc, IPV6_PMTUDISC_DONT);
		inet6_clear_bit(MC6_LOOP, sk);
	}
#endif
	release_sock(sk);
}

/* Hears what comes by that device; `ready` is told in softirq context. Others may hear it, too. */
__helper void rust_helper_rlvs_sock_hear_by(struct socket *sock, int index, void (*ready)(struct sock *sk))
{
	struct sock *sk = sock->sk;

	lock_sock(sk);
	sk->sk_reuse = SK_CAN_REUSE;
	sk->sk_bound_dev_if = index;
	WRITE_ONCE(sk->sk_data_ready, ready);
	release_sock(sk);
}

/* Sizes both buffers as SO_SNDBUF and SO_RCVBUF do. */
__helper void rust_helper_rlvs_sock_size(struct socket *sock, int bytes)
{
	struct sock *sk = sock->sk;

	lock_sock(sk);
	WRITE_ONCE(sk->sk_sndbuf, max_t(int, 2 * min_t(u32, bytes, READ_ONCE(sysctl_wmem_max)), SOCK_MIN_SNDBUF));
	WRITE_ONCE(sk->sk_rcvbuf, max_t(int, 2 * min_t(u32, bytes, READ_ONCE(sysctl_rmem_max)), SOCK_MIN_RCVBUF));
	sk->sk_userlocks |= SOCK_SNDBUF_LOCK | SOCK_RCVBUF_LOCK;
	release_sock(sk);
}

/* Sends wait no longer than that for room, in jiffies. */
__helper void rust_helper_rlvs_sock_patience(struct socket *sock, long patience)
{
	WRITE_ONCE(sock->sk->sk_sndtimeo, patience);
}

static __always_inline int rlvs_address(struct sockaddr_storage *to, bool v6, const u8 *addr, u16 port)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)to;
	struct sockaddr_in *in = (struct sockaddr_in *)to;

	memset(to, 0, sizeof(*to));
	if (v6) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		memcpy(&in6->sin6_addr, addr, sizeof(in6->sin6_addr));
		return sizeof(*in6);
	}
	in->sin_family = AF_INET;
	in->sin_port = htons(port);
	memcpy(&in->sin_addr, addr, sizeof(in->sin_addr));
	return sizeof(*in);
}

__helper int rust_helper_rlvs_sock_bind(struct socket *sock, bool v6, const u8 *addr, u16 port)
{
	struct sockaddr_storage to;
	int len = rlvs_address(&to, v6, addr, port);

	return kernel_bind(sock, (struct sockaddr_unsized *)&to, len);
}

__helper int rust_helper_rlvs_sock_connect(struct socket *sock, bool v6, const u8 *addr, u16 port)
{
	struct sockaddr_storage to;
	int len = rlvs_address(&to, v6, addr, port);

	return kernel_connect(sock, (struct sockaddr_unsized *)&to, len, 0);
}

/* Joins a group at a device. */
__helper int rust_helper_rlvs_sock_join(struct socket *sock, int index, bool v6, const u8 *group)
{
	struct ip_mreqn mreq = { .imr_ifindex = index };
	struct sock *sk = sock->sk;
	struct in6_addr in6;
	int err;

	rtnl_lock();
	lock_sock(sk);
	if (v6) {
		memcpy(&in6, group, sizeof(in6));
#if IS_ENABLED(CONFIG_IPV6)
		err = ipv6_sock_mc_join(sk, index, &in6);
#else
		err = -EAFNOSUPPORT;
#endif
	} else {
		memcpy(&mreq.imr_multiaddr, group, sizeof(mreq.imr_multiaddr));
		err = ip_mc_join_group(sk, &mreq);
	}
	release_sock(sk);
	rtnl_unlock();
	return err;
}

__helper int rust_helper_rlvs_sock_send(struct socket *sock, const u8 *bytes, size_t len)
{
	struct msghdr msg = { .msg_flags = MSG_NOSIGNAL };
	struct kvec iov = { .iov_base = (void *)bytes, .iov_len = len };

	return kernel_sendmsg(sock, &msg, &iov, 1, len);
}

/* The next datagram, as much of it as there is room for; its length, or -EAGAIN. */
__helper int rust_helper_rlvs_sock_receive(struct socket *sock, u8 *bytes, size_t len)
{
	struct msghdr msg = {};
	struct kvec iov = { .iov_base = bytes, .iov_len = len };

	return kernel_recvmsg(sock, &msg, &iov, 1, len, MSG_DONTWAIT);
}
