// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// Carrying of IPv6: what it has of its own. A frame goes
//
//   header and length -> memo6 -> enters() -> hop_to6() -> leaves() -> source, flow -> in_turn()
//
// as one of IPv4 does, by the same next hops and interfaces. What is plain is what
// step6 and Table.Decide6 forward at once: hop-by-hop options go to the ring, other
// extension headers are no router's to look at (RFC 8200 section 4).
//
// Destinations are a hash of single addresses, which workloads have, in front of a
// trie of prefixes. Userspace writes both by system calls: a trie of sixteen levels
// in mapped memory would take as many look-ups. An entry that is replaced is there
// before or after, and what it names is used again only after a grace period.

#define MAX_DIRECT6 16384
#define ND_ROUTER_SOLICITATION 133 // the first of neighbour discovery's messages

// Next hops of single addresses, as many as there is room for.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_DIRECT6);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct addr6);
	__type(value, __u32);
} parp_direct6 SEC(".maps");

// Of prefixes, and of further single addresses.
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, MAX_NETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lpmkey6);
	__type(value, __u32);
} parp_routes6 SEC(".maps");

struct neighkey6 {
	__u32 ifindex;
	struct addr6 addr;
};

// Next hops of destinations on a subnet.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_DIRECT6);
	__type(key, struct neighkey6);
	__type(value, __u32);
} parp_neighs6 SEC(".maps");

// struct memo of IPv6. Flow label and traffic class do not matter.
struct memo6 {
	struct remembered way;
	__u64 src[2], dst[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1 << MEMO_BITS);
	__type(key, __u32);
	__type(value, struct memo6);
} parp_memo6 SEC(".maps");

#define CARRY6 { .six = true, .forward = PORT_FORWARD6, .kernel_forwards = PORT_KERNEL_FORWARDS6, .ok = OUT_OK6 }

// hop_to of IPv6.
static __always_inline __u32 hop_to6(const __u8 *addr)
{
	struct lpmkey6 key = { .prefixlen = 128 };

	__builtin_memcpy(&key.addr, addr, sizeof(key.addr));
	__u32 *word = bpf_map_lookup_elem(&parp_direct6, &key.addr);
	if (!word)
		word = bpf_map_lookup_elem(&parp_routes6, &key);
	return word ? *word : AS_ABOVE;
}

// Table.validateSource6 of forward/route/decide6.go, of a plain route back.
static __always_inline bool source_ok6(const __u8 *src, const struct way *in)
{
	__u32 rp = in->in & (IN_STRICT6 | IN_LOOSE6);

	if (!rp)
		return true;
	struct hop *back = hop_at(hop_to6(src));
	return back && (rp == IN_LOOSE6 || leads_by(back, in->ifindex));
}

// May a packet be a message of neighbour discovery, which whose() and the claim look
// at? Extension headers hide which.
static __always_inline bool may_discover(struct __sk_buff *skb, const struct ip *ip)
{
	__u8 next = ip->hdr[IPV6_NEXT], type;

	if (ip->hdr[IPV6_HOPS] != ND_HOPS)
		return false;
	if (next != PROTO_ICMPV6)
		return is_extension(next);
	return bpf_skb_load_bytes(skb, ETH_HLEN + IPV6_LEN, &type, 1) || (type >= ND_ROUTER_SOLICITATION && type <= ND_REDIRECT);
}

// carry4 of IPv6.
static __always_inline bool carry6(struct __sk_buff *skb, __u32 slot, bool sees)
{
	const struct family f = CARRY6;
	struct passage x = {};
	struct ip ip;
	__u8 *hdr = ip.hdr;
	__u32 ifindex = skb->ifindex, generation = carry_generation;

	if (!ipv6 || !carry_on6 || skb->vlan_present || skb->mark == MARK_RETURNED)
		return false;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, hdr, IPV6_LEN) || hdr[0] >> 4 != 6 || hdr[IPV6_HOPS] <= 1 ||
	    hdr[IPV6_NEXT] == PROTO_HOP_BY_HOP)
		return false;
	ip.off = ETH_HLEN;
	ip.six = true;
	__u32 len = skb->len - ETH_HLEN, total = bpf_ntohs(*(__be16 *)(hdr + 4));
	if (!skb->gso_size || total)
		total += IPV6_LEN;
	if (skb->gso_size && is_extension(hdr[IPV6_NEXT]))
		return false; // where TCP's header is takes a walk
	__u32 need = length_of(skb, IPV6_LEN, hdr[IPV6_NEXT], len, total, sees);
	if (!need || may_discover(skb, &ip))
		return false;
	x.how = SIX;
	if (total && total < len) {
		if (total > 0xffff)
			return false; // more than struct decided can say
		x.how |= TRIM;
	}

	const __u64 *src = (const __u64 *)(hdr + IPV6_SRC), *dst = (const __u64 *)(hdr + IPV6_DST);
	__u32 at = (src[0] * 0x9e3779b97f4a7c15 ^ src[1] * 0xbf58476d1ce4e5b9 ^ dst[0] * 0x94d049bb133111eb ^
		    dst[1] * 0xd6e8feb86659fd93 ^ ifindex * 0xc2b2ae3d27d4eb4f) >> (64 - MEMO_BITS);
	struct memo6 *memo = bpf_map_lookup_elem(&parp_memo6, &at);
	if (!memo)
		return false;
	if (memo->src[1] == src[1] && memo->dst[1] == dst[1] && memo->src[0] == src[0] && memo->dst[0] == dst[0] &&
	    recalls(skb, &memo->way, generation, need))
		return decide_as(&memo->way, &x, slot, total);

	if (!enters(skb, &f, &x) || to_host6(hdr + IPV6_DST) || to_host6(hdr + IPV6_SRC))
		return false;
	x.id = hop_to6(hdr + IPV6_DST);
	x.hop = hop_at(x.id);
	if (!x.hop)
		return false;
	x.mtu = x.hop->mtu;
	if (flags_of(x.hop->mac) & HOP_SUBNET) {
		struct neighkey6 key = { .ifindex = x.hop->ifindex };
		__builtin_memcpy(&key.addr, hdr + IPV6_DST, sizeof(key.addr));
		__u32 *own = bpf_map_lookup_elem(&parp_neighs6, &key);
		if (!own)
			return false;
		x.id = *own;
		x.hop = hop_at(x.id);
		if (!x.hop)
			return false;
	}
	struct way *out = leaves(skb, &f, &x, need, sees);
	if (!out || !source_ok6(hdr + IPV6_SRC, x.in) ||
	    (translates && (x.port->flags & PORT_KERNEL_FORWARDS6) && parp_translated(skb)))
		return false;
	bool holds;
	if (!in_turn(&x, out, &holds))
		return false;
	if (holds) {
		memo->src[0] = src[0];
		memo->src[1] = src[1];
		memo->dst[0] = dst[0];
		memo->dst[1] = dst[1];
		remember(&memo->way, &x, ifindex, generation, out->mtu6);
	}
	leave_decided(slot, &x, x.hop->ifindex, total);
	return true;
}
