/* SPDX-License-Identifier: GPL-2.0 */
/*
 * UDP, as DPVS tells clients: an IPv4 option of kind 31 in the first packets of a flow, or a header of IP protocol 248
 * between IP and UDP. The latter is turned in place into IP options when it comes in from the device. What a socket
 * receives is looked at in its cgroup; recvmsg() then shows the client, and what is sent to the client goes to the
 * balancer.
 */
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>

/* A flow as its socket knows it. */
struct udp_flow {
	__u64 socket;		/* cookie */
	struct address addr;	/* the balancer's */
	__u16 port;		/* network byte order */
	__u16 pad[3];
};

/* Whom a reply is for. Not the socket: a server may answer from another one than it has read from. */
struct udp_client {
	__u64 netns;		/* cookie */
	struct address addr;
	__u16 port;		/* network byte order */
	__u16 local_port;	/* host byte order */
	__u32 pad;
};

struct udp_peer {
	struct address addr;
	__u16 port;		/* network byte order */
	__u16 pad;
};

#define UDP_FLOWS 65536

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, UDP_FLOWS);
	__type(key, struct udp_flow);
	__type(value, struct client);
} udp_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, UDP_FLOWS);
	__type(key, struct udp_client);
	__type(value, struct udp_peer);
} udp_peers SEC(".maps");

#define IP_HEADER 20
#define IP6_HEADER 40
#define IPPROTO_OPP 248
#define IPPROTO_DSTOPTS 60
#define OPP_HEADER 4
/* Experimental, and to be skipped by who does not know it (RFC 4727). */
#define DSTOPT_UOA 0x1e

/* A destination options header as unwrap6() makes it. */
struct uoa6 {
	__u8 next, len;
	__u8 padn, padlen;
	__u8 kind, optlen;
	__u8 client[18];
};

SEC("cgroup_skb/ingress")
int rlvs_udp_ingress(struct __sk_buff *skb)
{
	__u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct udp_flow flow = {};
	struct client client;
	struct scratch *head;
	__u32 offset;

	if (data + IP_HEADER > end)
		return 1;
	if (data[0] >> 4 == 4) {
		/* No options, nothing to read: that is nearly every packet. */
		if (data[0] == 0x45 || data[9] != IPPROTO_UDP)
			return 1;
		offset = (data[0] & 15) * 4;
		if (offset <= IP_HEADER)
			return 1;
		head = scratch();
		if (!head || bpf_skb_load_bytes(skb, 0, head->bytes, offset) < 0)
			return 1;
		if (!find_option(IP_HEADER, offset, 1))
			return 1;
		client = head->found;
		mapped(&flow.addr, *(__u32 *)&head->bytes[12]);
	} else {
		struct uoa6 *uoa = (void *)(data + IP6_HEADER);

		if (data + IP6_HEADER + sizeof(*uoa) > end || data[6] != IPPROTO_DSTOPTS)
			return 1;
		if (uoa->next != IPPROTO_UDP || uoa->len != 2 || uoa->kind != DSTOPT_UOA || uoa->optlen != 18)
			return 1;
		client.kind = uoa->kind;
		read_client(uoa->client, true, &client);
		__builtin_memcpy(&flow.addr, data + 8, 16);
		offset = IP6_HEADER + sizeof(*uoa);
	}
	if (bpf_skb_load_bytes(skb, offset, &flow.port, sizeof(flow.port)) < 0)
		return 1;
	if (!believed(&flow.addr)) {
		count(UDP_STRANGERS);
		return 1;
	}
	client.source = FROM_DATAGRAM;
	flow.socket = bpf_get_socket_cookie(skb);
	if (bpf_map_update_elem(&udp_flows, &flow, &client, BPF_ANY) < 0)
		count(NO_MEMORY);
	else
		count(UDP_OPTIONS);
	return 1;
}

/* The program's own address of a sockaddr, for either family. */
static __always_inline void said(struct bpf_sock_addr *ctx, bool ip6, struct address *addr)
{
	if (!ip6) {
		mapped(addr, ctx->user_ip4);
		return;
	}
	addr->words[0] = ctx->user_ip6[0];
	addr->words[1] = ctx->user_ip6[1];
	addr->words[2] = ctx->user_ip6[2];
	addr->words[3] = ctx->user_ip6[3];
}

/* A datagram is handed to a program: from the client, if that is known. */
static __always_inline void show_client(struct bpf_sock_addr *ctx, bool ip6)
{
	struct udp_flow flow = {};
	struct udp_client back = {};
	struct udp_peer peer = {}, *known;
	struct bpf_sock *sk = ctx->sk;
	struct client *client;

	said(ctx, ip6, &flow.addr);
	flow.port = ctx->user_port;
	flow.socket = bpf_get_socket_cookie(ctx);
	client = bpf_map_lookup_elem(&udp_flows, &flow);
	/* A connected socket has been told when it was connected. */
	if (!client)
		client = client_of(ctx);
	if (!client || !sk)
		return;
	/* What is sent to an IPv6 address cannot be made IPv4: then the balancer's address is the one to answer. */
	if (is_mapped(&client->addr) != is_mapped(&flow.addr)) {
		count(OTHER_FAMILY);
		return;
	}
	back.netns = bpf_get_netns_cookie(ctx);
	back.addr = client->addr;
	back.port = client->port;
	back.local_port = sk->src_port;
	known = bpf_map_lookup_elem(&udp_peers, &back);
	if (!known || known->port != flow.port ||
	    __builtin_memcmp(&known->addr, &flow.addr, sizeof(flow.addr))) {
		peer.addr = flow.addr;
		peer.port = flow.port;
		/* Without the way back an answer would go past the balancer. */
		if (bpf_map_update_elem(&udp_peers, &back, &peer, BPF_ANY) < 0) {
			count(NO_MEMORY);
			return;
		}
	}
	if (ip6)
		say6(ctx, &client->addr, client->port);
	else
		say4(ctx, &client->addr, client->port);
	count(UDP_RECEIVED);
}

/* A program sends to a client, or connects to it: to the balancer, if the client is behind one. */
static __always_inline bool to_balancer(struct bpf_sock_addr *ctx, bool ip6, struct udp_client *client)
{
	struct bpf_sock *sk = ctx->sk;
	struct udp_peer *peer;

	if (!sk)
		return false;
	client->netns = bpf_get_netns_cookie(ctx);
	client->port = ctx->user_port;
	client->local_port = sk->src_port;
	said(ctx, ip6, &client->addr);
	peer = bpf_map_lookup_elem(&udp_peers, client);
	if (!peer)
		return false;
	if (ip6)
		say6(ctx, &peer->addr, peer->port);
	else
		say4(ctx, &peer->addr, peer->port);
	return true;
}

static __always_inline void sends(struct bpf_sock_addr *ctx, bool ip6)
{
	struct udp_client client = {};

	if (to_balancer(ctx, ip6, &client))
		count(UDP_SENT);
}

static __always_inline void connects(struct bpf_sock_addr *ctx, bool ip6)
{
	struct udp_client client = {};
	struct bpf_sock *sk = ctx->sk;
	struct client *kept;

	if (ctx->protocol != IPPROTO_UDP || !sk || !to_balancer(ctx, ip6, &client))
		return;
	kept = bpf_sk_storage_get(&clients, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!kept) {
		count(NO_MEMORY);
		return;
	}
	kept->addr = client.addr;
	kept->port = client.port;
	kept->kind = 0;
	kept->source = FROM_DATAGRAM;
}

SEC("cgroup/recvmsg4")
int rlvs_recvmsg4(struct bpf_sock_addr *ctx)
{
	show_client(ctx, false);
	return 1;
}

SEC("cgroup/recvmsg6")
int rlvs_recvmsg6(struct bpf_sock_addr *ctx)
{
	show_client(ctx, true);
	return 1;
}

SEC("cgroup/sendmsg4")
int rlvs_sendmsg4(struct bpf_sock_addr *ctx)
{
	sends(ctx, false);
	return 1;
}

SEC("cgroup/sendmsg6")
int rlvs_sendmsg6(struct bpf_sock_addr *ctx)
{
	sends(ctx, true);
	return 1;
}

SEC("cgroup/connect4")
int rlvs_connect4(struct bpf_sock_addr *ctx)
{
	connects(ctx, false);
	return 1;
}

SEC("cgroup/connect6")
int rlvs_connect6(struct bpf_sock_addr *ctx)
{
	connects(ctx, true);
	return 1;
}

/* What stands behind the IP header in a packet of protocol 248. */
struct opp {
	__u8 version;		/* in the upper half: 1 for an IPv4 client, 2 for IPv6 */
	__u8 protocol;
	__u16 length;		/* of this and the option, network byte order */
	__u8 kind, optlen;
	__u8 client[18];	/* 6 for IPv4 */
};

#define OPP4 12
#define OPP6 24

static __always_inline bool is_opp(const struct opp *opp, __u32 len)
{
	return opp->version >> 4 == (len == OPP4 ? 1 : 2) && opp->protocol == IPPROTO_UDP &&
	       opp->length == bpf_htons(len) && opp->kind == IPOPT_UOA && opp->optlen == len - OPP_HEADER;
}

/*
 * The header becomes IP options of the same length: its first four bytes NOPs, the rest is an option already. Nothing
 * moves, so neither the UDP checksum nor any length changes, but that of the IP header.
 */
static __always_inline bool unwrap4(struct __sk_buff *skb, struct scratch *head, __u32 len)
{
	__u8 *ip = head->bytes;
	__s64 sum;

	ip[0] = 0x40 | (IP_HEADER + len) / 4;
	ip[9] = IPPROTO_UDP;
	ip[10] = 0;
	ip[11] = 0;
	__builtin_memset(ip + IP_HEADER, 1, OPP_HEADER);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)ip, IP_HEADER + len, 0);
	if (sum < 0)
		return false;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	*(__u16 *)(ip + 10) = ~sum;
	return bpf_skb_store_bytes(skb, ETH_HLEN, ip, IP_HEADER + len, BPF_F_RECOMPUTE_CSUM) == 0;
}

static __always_inline bool unwrap6(struct __sk_buff *skb, struct scratch *head)
{
	struct opp *opp = (void *)(head->bytes + IP6_HEADER);
	struct uoa6 *uoa = (void *)opp;

	/* The client is in the same place of both. */
	uoa->next = IPPROTO_UDP;
	uoa->len = 2;
	uoa->kind = DSTOPT_UOA;
	uoa->optlen = sizeof(opp->client);
	uoa->padn = 1;
	uoa->padlen = 0;
	head->bytes[6] = IPPROTO_DSTOPTS;
	return bpf_skb_store_bytes(skb, ETH_HLEN, head->bytes, IP6_HEADER + OPP6, BPF_F_RECOMPUTE_CSUM) == 0;
}

SEC("tc")
int rlvs_unwrap(struct __sk_buff *skb)
{
	struct scratch *head;
	__u8 proto;
	bool done = false;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		__u16 fragment;

		if (bpf_skb_load_bytes(skb, ETH_HLEN + 9, &proto, 1) < 0 || proto != IPPROTO_OPP)
			return TC_ACT_UNSPEC;
		head = scratch();
		if (!head || bpf_skb_load_bytes(skb, ETH_HLEN, head->bytes, IP_HEADER + OPP4) < 0)
			return TC_ACT_UNSPEC;
		/* Only the first fragment would have the header. */
		fragment = *(__u16 *)(head->bytes + 6) & bpf_htons(0x3fff);
		if (head->bytes[0] != 0x45 || fragment)
			return TC_ACT_UNSPEC;
		if (is_opp((void *)(head->bytes + IP_HEADER), OPP4))
			done = unwrap4(skb, head, OPP4);
		else if (bpf_skb_load_bytes(skb, ETH_HLEN, head->bytes, IP_HEADER + OPP6) == 0 &&
			 is_opp((void *)(head->bytes + IP_HEADER), OPP6))
			done = unwrap4(skb, head, OPP6);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (bpf_skb_load_bytes(skb, ETH_HLEN + 6, &proto, 1) < 0 || proto != IPPROTO_OPP)
			return TC_ACT_UNSPEC;
		head = scratch();
		if (head && bpf_skb_load_bytes(skb, ETH_HLEN, head->bytes, IP6_HEADER + OPP6) == 0 &&
		    is_opp((void *)(head->bytes + IP6_HEADER), OPP6))
			done = unwrap6(skb, head);
	}
	if (done)
		count(UDP_UNWRAPPED);
	return TC_ACT_UNSPEC;
}
