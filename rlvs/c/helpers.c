// SPDX-License-Identifier: GPL-2.0
/*
 * C inline functions and macros, made callable from Rust: one function per step, no decisions. Each subject has a
 * file of its own; together they are one.
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

#include "cpu.c"
#include "netns.c"
#include "skb.c"
#include "route.c"
#include "conntrack.c"
#include "tunnel.c"
#include "send.c"
#include "control.c"
#include "socket.c"

#ifndef RLVS_INLINE
MODULE_ALIAS_GENL_FAMILY("IPVS");
MODULE_ALIAS_GENL_FAMILY("RLVS");
#endif
