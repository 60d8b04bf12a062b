// SPDX-License-Identifier: GPL-2.0
/* Whose a packet is: marks, and what conntrack is told. Part of helpers.c. */

/* Marks the packet as ours; conntrack keeps what it knows of it. */
__helper void rust_helper_rlvs_skb_claim_tracked(struct sk_buff *skb)
{
	skb->ipvs_property = 1;
	if (skb->dev)
		skb_orphan(skb);
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
	/* One that conntrack makes nothing of is invalid to rules, and stays that. */
	if (skb_nfct(skb)) {
		nf_reset_ct(skb);
		nf_ct_set(skb, NULL, IP_CT_UNTRACKED);
	}
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
