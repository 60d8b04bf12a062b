/* SPDX-License-Identifier: GPL-2.0 */
/* What rlvs needs of the kernel and kernel::bindings does not have; bindgen_parameters picks from it. */
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/siphash.h>
#include <linux/slab.h>
#include <linux/sysctl.h>
#include <net/genetlink.h>
#include <net/icmp.h>
#include <net/ip.h>
#include <net/netns/generic.h>
#include <net/route.h>

/* Exported to modules, declared in net/netfilter/nf_internals.h, which is not. */
void nf_queue_nf_hook_drop(struct net *net);
