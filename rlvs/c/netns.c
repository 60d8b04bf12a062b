// SPDX-License-Identifier: GPL-2.0
/* Network namespaces. Part of helpers.c. */

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

/* The namespace of the device that a notifier of devices is told about. */
__helper struct net *rust_helper_rlvs_netdev_event_net(const void *info)
{
	return dev_net(netdev_notifier_info_to_dev(info));
}
