/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the programs share: the configuration, the maps that are pinned, counters, and the search for the option.
 *
 * Only what a kernel 5.10 has: its helpers, its map types, loops it can see the end of. No kernel type is looked
 * into, so no kernel needs BTF of its own.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2
#define AF_INET6 10

#define PORTS 32

/* Written once, before the programs are loaded: src/config.rs has the same layout. */
struct config {
	__u8 kinds[256];	/* 1: an option of this kind tells the client */
	__u16 ports[PORTS];	/* local ports, host byte order; none: all ports */
	__u16 nr_ports;
	__u16 exid;		/* of the form of RFC 6994, host byte order */
};

const volatile struct config config SEC(".rodata.config");

/* Addresses are IPv6 or mapped IPv4, so that a socket of either family is told with one look. */
struct address {
	__u32 words[4];		/* network byte order */
};

enum source {
	FROM_SYN,
	FROM_ACK,
	FROM_DATA,
	FROM_DATAGRAM,
};

/* What is known of a socket's peer. docs/real-servers.md has the layout, for programs that read the map. */
struct client {
	struct address addr;
	__u16 port;		/* network byte order */
	__u8 kind;
	__u8 source;		/* enum source */
};

enum counter {
	CONNECTIONS,		/* opened by balancers */
	OPTIONS_SYN,
	OPTIONS_ACK,
	OPTIONS_DATA,
	STRANGERS,		/* options that were not believed */
	NO_MEMORY,
	ADDRESSES,		/* handed to applications */
	OTHER_FAMILY,		/* could not be: an IPv6 client on an IPv4 socket */
	UDP_OPTIONS,
	UDP_STRANGERS,
	UDP_UNWRAPPED,		/* packets of protocol 248 that were made UDP */
	UDP_RECEIVED,		/* datagrams that showed the client */
	UDP_SENT,		/* datagrams sent to a client */
	COUNTERS,
};

struct prefix {
	__u32 len;
	struct address addr;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct client);
} clients SEC(".maps");

/* Who is believed: the local addresses of balancers. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct prefix);
	__type(value, __u8);
} balancers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* The configuration as it was said, JSON; the programs do not read it. */
struct state {
	char text[16384];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct state);
} state SEC(".maps");

static __always_inline void count(__u32 which)
{
	__u64 *counter = bpf_map_lookup_elem(&counters, &which);

	if (counter)
		(*counter)++;
}

static __always_inline void mapped(struct address *addr, __u32 ip4)
{
	addr->words[0] = 0;
	addr->words[1] = 0;
	addr->words[2] = bpf_htonl(0xffff);
	addr->words[3] = ip4;
}

static __always_inline bool is_mapped(const struct address *addr)
{
	return !addr->words[0] && !addr->words[1] && addr->words[2] == bpf_htonl(0xffff);
}

static __always_inline bool believed(const struct address *peer)
{
	struct prefix key = { .len = 128, .addr = *peer };

	return bpf_map_lookup_elem(&balancers, &key) != NULL;
}

static __always_inline bool wanted_port(__u32 port)
{
	if (!config.nr_ports)
		return true;
	for (int i = 0; i < PORTS; i++)
		if (i < config.nr_ports && config.ports[i] == port)
			return true;
	return false;
}

/*
 * A header that is being read. In a map, because a variable offset into the stack is refused by kernels before 5.12;
 * and longer than what is valid, so that an option that claims too much is read from zeros or what was there before.
 */
#define ROOM 64
struct scratch {
	__u8 bytes[ROOM + ROOM];
	struct client found;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

static __always_inline struct scratch *scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratches, &zero);
}

#define IPOPT_UOA 31

/* Reads port and address at `at', which the caller has bounded. */
static __always_inline void read_client(const __u8 *at, bool ip6, struct client *client)
{
	__builtin_memcpy(&client->port, at, 2);
	if (ip6) {
		__builtin_memcpy(&client->addr, at + 2, 16);
	} else {
		__u32 ip4;

		__builtin_memcpy(&ip4, at + 2, 4);
		mapped(&client->addr, ip4);
	}
}

/*
 * Looks for the option in bytes[from..end) of the scratch, and leaves what it tells there; 1 if there is one. TCP and
 * IPv4 write their options alike: kind, length with these two bytes. The first one counts: balancers put theirs first.
 *
 * A global function, which kernels verify once instead of at each call.
 */
__attribute__((noinline)) int find_option(__u32 from, __u32 end, __u32 ip_option)
{
	struct scratch *head = scratch();
	__u32 at = from;

	if (!head)
		return 0;
	for (int i = 0; i < 40; i++) {
		__u8 kind, len;
		__u32 skip = 0;

		if (at + 2 > end)
			return 0;
		at &= ROOM - 1;
		kind = head->bytes[at];
		if (kind == 0)
			return 0;
		if (kind == 1) {
			at++;
			continue;
		}
		len = head->bytes[at + 1];
		if (len < 2 || at + len > end)
			return 0;
		if (ip_option ? kind == IPOPT_UOA : config.kinds[kind]) {
			/* The form of RFC 6994, in the two kinds that are for experiments. */
			if ((len == 10 || len == 22) && !ip_option && (kind == 253 || kind == 254) &&
			    head->bytes[at + 2] == config.exid >> 8 && head->bytes[at + 3] == (config.exid & 0xff))
				skip = 2;
			if (len == 8 || len == 20 || skip) {
				head->found.kind = kind;
				head->found.source = 0;
				read_client(&head->bytes[at + 2 + skip], len >= 20, &head->found);
				return 1;
			}
		}
		at += len;
	}
	return 0;
}
