// SPDX-License-Identifier: GPL-2.0
/* Sockets of the kernel. Part of helpers.c. */

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
