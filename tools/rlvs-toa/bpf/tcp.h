/* SPDX-License-Identifier: GPL-2.0 */
/*
 * TCP: sock_ops reads the option when a connection is established, and from its first data if it was not there; the
 * socket keeps it, and it goes with the socket. accept() and getpeername() ask the cgroup's hooks what to say.
 */

static __always_inline void remote(struct bpf_sock_ops *ctx, struct address *addr)
{
	__u32 ip4 = ctx->remote_ip4, last = ctx->remote_ip6[3];

	/* The compiler must not choose a place in the context and then read there: no kernel lets it. */
	barrier_var(ip4);
	barrier_var(last);
	if (ctx->family == AF_INET) {
		mapped(addr, ip4);
		return;
	}
	addr->words[0] = ctx->remote_ip6[0];
	addr->words[1] = ctx->remote_ip6[1];
	addr->words[2] = ctx->remote_ip6[2];
	addr->words[3] = last;
}

#define TCP_HEADER 20

/* The option in the packet that the callback is about. */
static __always_inline struct client *in_packet(struct bpf_sock_ops *ctx)
{
	__u8 *data = ctx->skb_data, *end = ctx->skb_data_end;
	struct scratch *head;
	__u32 len = TCP_HEADER;

	/* No room for the shortest that tells a client. */
	if (data + TCP_HEADER + 8 > end)
		return NULL;
	head = scratch();
	if (!head)
		return NULL;
#pragma unroll
	for (int at = TCP_HEADER; at < 60; at += 4) {
		if (data + at + 4 > end)
			break;
		*(__u32 *)&head->bytes[at] = *(__u32 *)(data + at);
		len = at + 4;
	}
	/* The time stamps alone: that is nearly every packet without it. */
	if (len == TCP_HEADER + 12 && *(__u32 *)&head->bytes[TCP_HEADER] == bpf_htonl(0x0101080a))
		return NULL;
	return find_option(TCP_HEADER, len, 0) ? &head->found : NULL;
}

/* The option in the SYN, which a listener keeps since it has been told to. */
static __always_inline struct client *in_syn(struct bpf_sock_ops *ctx)
{
	struct scratch *head = scratch();

	if (!head)
		return NULL;
	/* A SYN without options is shorter than what is asked for, and all of it arrives nevertheless. */
	if (bpf_getsockopt(ctx, IPPROTO_TCP, TCP_BPF_SYN, head->bytes, 60) < 0)
		return NULL;
	return find_option(TCP_HEADER, head->bytes[12] >> 4 << 2, 0) ? &head->found : NULL;
}

static __always_inline void keep(struct bpf_sock_ops *ctx, const struct client *client)
{
	struct bpf_sock *sk = ctx->sk;
	struct client *kept;

	if (!sk)
		return;
	kept = bpf_sk_storage_get(&clients, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!kept) {
		count(NO_MEMORY);
		return;
	}
	*kept = *client;
	count(client->source == FROM_SYN ? OPTIONS_SYN : client->source == FROM_ACK ? OPTIONS_ACK : OPTIONS_DATA);
}

/* Also for Fast Open, where the SYN opens the connection. */
#define TCPHDR_SYN 0x02

static __always_inline void established(struct bpf_sock_ops *ctx)
{
	struct client *client;
	struct address peer;

	if (!wanted_port(ctx->local_port))
		return;
	client = in_packet(ctx);
	remote(ctx, &peer);
	if (!believed(&peer)) {
		if (client)
			count(STRANGERS);
		return;
	}
	count(CONNECTIONS);
	if (client) {
		__u32 header = (__u8 *)(long)ctx->skb_data_end - (__u8 *)(long)ctx->skb_data;

		/* The handshake's ACK may have been lost, or put off till there is data. */
		client->source = ctx->skb_tcp_flags & TCPHDR_SYN ? FROM_SYN :
				 ctx->skb_len > header ? FROM_DATA : FROM_ACK;
		keep(ctx, client);
		return;
	}
	client = in_syn(ctx);
	if (client) {
		client->source = FROM_SYN;
		keep(ctx, client);
		return;
	}
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG);
}

/*
 * Balancers repeat the option until the server has sent data. All options are asked for, not only those that the
 * kernel does not know: it takes a kind 254 whose port is 63881 for a Fast Open cookie.
 */
static __always_inline void received(struct bpf_sock_ops *ctx)
{
	struct client *client = ctx->bytes_acked ? NULL : in_packet(ctx);

	if (client) {
		client->source = FROM_DATA;
		keep(ctx, client);
	}
	if (client || ctx->bytes_acked)
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags &
					       ~BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG);
}

#define TCP_SAVE_SYN 27

static __always_inline void listening(struct bpf_sock_ops *ctx)
{
	int save = 0;

	if (!wanted_port(ctx->local_port))
		return;
	/* Whoever has asked for it, perhaps with the link header, gets what he asked for. */
	if (bpf_getsockopt(ctx, IPPROTO_TCP, TCP_SAVE_SYN, &save, sizeof(save)) == 0 && save)
		return;
	save = 1;
	bpf_setsockopt(ctx, IPPROTO_TCP, TCP_SAVE_SYN, &save, sizeof(save));
}

SEC("sockops")
int rlvs_sockops(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		listening(ctx);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		established(ctx);
		break;
	case BPF_SOCK_OPS_PARSE_HDR_OPT_CB:
		received(ctx);
		break;
	}
	return 1;
}

static __always_inline struct client *client_of(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	return sk ? bpf_sk_storage_get(&clients, sk, NULL, 0) : NULL;
}

/* Says `client' instead of the peer; false: an IPv4 socket cannot say it. */
static __always_inline bool say4(struct bpf_sock_addr *ctx, const struct address *addr, __u16 port)
{
	if (!is_mapped(addr))
		return false;
	ctx->user_ip4 = addr->words[3];
	ctx->user_port = port;
	return true;
}

static __always_inline bool say6(struct bpf_sock_addr *ctx, const struct address *addr, __u16 port)
{
	ctx->user_ip6[0] = addr->words[0];
	ctx->user_ip6[1] = addr->words[1];
	ctx->user_ip6[2] = addr->words[2];
	ctx->user_ip6[3] = addr->words[3];
	ctx->user_port = port;
	return true;
}

SEC("cgroup/getpeername4")
int rlvs_getpeername4(struct bpf_sock_addr *ctx)
{
	struct client *client = client_of(ctx);

	if (client)
		count(say4(ctx, &client->addr, client->port) ? ADDRESSES : OTHER_FAMILY);
	return 1;
}

SEC("cgroup/getpeername6")
int rlvs_getpeername6(struct bpf_sock_addr *ctx)
{
	struct client *client = client_of(ctx);

	if (client)
		count(say6(ctx, &client->addr, client->port) ? ADDRESSES : OTHER_FAMILY);
	return 1;
}
