// SPDX-License-Identifier: GPL-2.0
/*
 * Stands for a network card that sums up what it receives: packets without a verdict on their checksum
 * become CHECKSUM_COMPLETE, before anybody else looks at them. No virtual device does that.
 *
 * And counts who goes out like that: on the way out nobody keeps the sum up to date, so whoever forwards a
 * packet must have given it up (skb_forward_csum()).
 */

#include <linux/module.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6.h>
#include <linux/skbuff.h>
#include <net/net_namespace.h>

/* Counted roughly: two CPUs may count one packet. */
static unsigned long summed;
module_param(summed, ulong, 0444);
MODULE_PARM_DESC(summed, "Packets that came in");

static unsigned long left;
module_param(left, ulong, 0444);
MODULE_PARM_DESC(left, "Packets that went out with the sum of what came in");

static unsigned int comes(void *priv, struct sk_buff *skb, const struct nf_hook_state *state)
{
	if (skb->ip_summed == CHECKSUM_NONE) {
		skb->csum = skb_checksum(skb, 0, skb->len, 0);
		skb->ip_summed = CHECKSUM_COMPLETE;
		skb->csum_complete_sw = 0;
		skb->csum_valid = 0;
		summed++;
	}
	return NF_ACCEPT;
}

static unsigned int goes(void *priv, struct sk_buff *skb, const struct nf_hook_state *state)
{
	if (skb->ip_summed == CHECKSUM_COMPLETE)
		left++;
	return NF_ACCEPT;
}

#define HOOK(family, number, function, when) \
	{ .pf = family, .hooknum = number, .hook = function, .priority = when }

static const struct nf_hook_ops hooks[] = {
	HOOK(NFPROTO_IPV4, NF_INET_PRE_ROUTING, comes, NF_IP_PRI_FIRST),
	HOOK(NFPROTO_IPV6, NF_INET_PRE_ROUTING, comes, NF_IP6_PRI_FIRST),
	HOOK(NFPROTO_IPV4, NF_INET_POST_ROUTING, goes, NF_IP_PRI_LAST),
	HOOK(NFPROTO_IPV6, NF_INET_POST_ROUTING, goes, NF_IP6_PRI_LAST),
};

static int __net_init in(struct net *net)
{
	return nf_register_net_hooks(net, hooks, ARRAY_SIZE(hooks));
}

static void __net_exit out(struct net *net)
{
	nf_unregister_net_hooks(net, hooks, ARRAY_SIZE(hooks));
}

static struct pernet_operations namespaces = {
	.init = in,
	.exit = out,
};

static int __init load(void)
{
	return register_pernet_subsys(&namespaces);
}
module_init(load);

static void __exit unload(void)
{
	unregister_pernet_subsys(&namespaces);
}
module_exit(unload);

MODULE_DESCRIPTION("Received packets become CHECKSUM_COMPLETE, for the tests of rlvs");
MODULE_LICENSE("GPL");
