// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// Neighbour discovery (RFC 4861): whose a solicitation is, and what workloads may not
// say.
//
// The responder has a packet socket of ETH_P_IPV6, which the kernel serves behind tc
// ingress, beside its own IPv6 (__netif_receive_skb_core). So the claim decides alone.
// A solicitation for a gateway it gives to the responder: it marks it, and makes it a
// frame to another host, which the socket gets and ipv6_rcv drops. Other solicitations
// the socket gets as copies of what the kernel has. A frame that is not IPv6 costs
// nothing of it.
//
// All of it ends with the process: where the responder's thread has died, or none has
// begun, no solicitation is taken from the kernel.

#define ND_HOPS 255 // what came by no router
#define ND_TARGET 8 // bytes before the target
#define MAX_HEADERS 6 // extension headers that are looked behind

enum {
	ND_ADVERTISEMENT = 134, // of a router
	ND_SOLICIT = 135,
	ND_ADVERT = 136,
	ND_REDIRECT = 137,
};

// Solicitations that the claim has given to the responder bear this mark.
#define MARK_ND 0x7061726e

// A target that the responder alone answers for. ifindex 0 is all workloads' interfaces.
struct ndkey {
	__u32 ifindex;
	struct addr6 target;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_TARGETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ndkey);
	__type(value, __u8);
} parp_nd_targets SEC(".maps");

// The type of a message that no extension header precedes, of which the kernel takes
// none for valid that came by a router; 0 for all else.
static __always_inline __u8 nd_type(struct __sk_buff *skb, const struct ip *ip)
{
	__u8 type;

	if (ip->hdr[IPV6_NEXT] != PROTO_ICMPV6 || ip->hdr[IPV6_HOPS] != ND_HOPS ||
	    bpf_skb_load_bytes(skb, ip->off + IPV6_LEN, &type, 1))
		return 0;
	return type;
}

// Is an IPv6 packet a solicitation that goes to the responder? It may be to an address
// of which the tables say that it is elsewhere: who asks whether a neighbour is still
// there asks the target itself (RFC 4861 section 7.3.3).
static __always_inline bool is_solicitation(struct __sk_buff *skb, const struct port *p, const struct ip *ip)
{
	return (p->flags & PORT_ND) && nd_type(skb, ip) == ND_SOLICIT;
}

// Does a packet hold a router advertisement or a redirect, or hide whether it does?
// Extension headers and fragments hide neither (RFC 7113): a packet that does not reach
// to the upper layer's header, which of a first fragment is forbidden (RFC 7112), and a
// chain of more headers than anybody needs are taken for one. So is a frame that goes on
// behind a packet with such headers, which no frame has to: what is read there would not
// be the packet's. A jumbogram has all of its frame (RFC 2675).
static __always_inline bool is_router_message(struct __sk_buff *skb, const struct ip *ip)
{
	__u32 at = ip->off + IPV6_LEN, len = bpf_ntohs(*(__be16 *)(ip->hdr + IPV6_PAYLOAD));
	__u8 next = ip->hdr[IPV6_NEXT], head[4];

	if (is_extension(next) && len && skb->len > at + len)
		return true;
#pragma unroll
	for (int i = 0; i < MAX_HEADERS; i++) {
		if (next != PROTO_ICMPV6 && !is_extension(next))
			return false;
		if (bpf_skb_load_bytes(skb, at, head, sizeof(head)))
			return true;
		if (next == PROTO_ICMPV6)
			return head[0] == ND_ADVERTISEMENT || head[0] == ND_REDIRECT;
		at += (head[1] + 1) * 8;
		if (next == PROTO_FRAGMENT) {
			if (head[2] || head[3] & 0xf8)
				return false; // not the first one
			at -= head[1] * 8; // which is reserved
		} else if (next == PROTO_AH) {
			at -= head[1] * 4;
		}
		next = head[0];
	}
	return true;
}

// By what the bucket of a message's sender is found: its address, or of a probe, which
// has none, its MAC.
static __always_inline __u64 nd_sender(struct __sk_buff *skb, const struct ip *ip)
{
	struct addr6 src;
	__u64 key = (__u64)skb->ifindex << 32 | 1ULL << 62;
	__u32 lo;

	src_of(&src, ip);
	if (is_zero(&src)) {
		if (bpf_skb_load_bytes(skb, ETH_ALEN + 2, &lo, sizeof(lo)))
			return 0;
		return key | lo | 1ULL << 63;
	}
	lo = mix(src.word[0] + mix(src.word[1] + mix(src.word[2] + mix(src.word[3]))));
	return key | lo;
}

// Is it a frame of an Ethernet interface, and of none that stands on it?
static __always_inline bool nd_frame(struct __sk_buff *skb, const struct port *p)
{
	return p->l2len == ETH_HLEN && !in_vlan(skb) && (skb->pkt_type != PACKET_OTHERHOST || alias_mac(skb, p));
}

// Answers a solicitation for a gateway if it is plain: answer.h.
static __always_inline bool advertises(struct __sk_buff *skb);

// The claim's part, of an IPv6 frame that no ring has taken: true if it is decided,
// and how.
static __always_inline bool discovers(struct __sk_buff *skb, bool carries, int *verdict)
{
	struct ip ip;
	struct ndkey key = {};
	__u32 ifindex = skb->ifindex, at = READER_ND;
	struct port *p = bpf_map_lookup_elem(&parp_ports, &ifindex);
	struct reader *responder = bpf_map_lookup_elem(&parp_reader, &at);

	if (!p || (p->flags & (PORT_ND | PORT_WORKLOAD)) != (PORT_ND | PORT_WORKLOAD) || !responder || !nd_frame(skb, p) ||
	    !read_ip(skb, ETH_HLEN, &ip) || ip.hdr[IPV6_HOPS] != ND_HOPS)
		return false;
	__u32 owner = *(volatile __u32 *)&responder->owner, slot = p->slot;
	struct portstat *st = bpf_map_lookup_elem(&parp_stats, &slot);
	if (!st || (owner & OWNER_DIED))
		return false;
	*verdict = TC_ACT_SHOT;
	if (is_router_message(skb, &ip)) {
		count(st->left[OWNER_RA_GUARD]);
		return true;
	}
	if (!owner || nd_type(skb, &ip) != ND_SOLICIT ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + IPV6_LEN + ND_TARGET, &key.target, sizeof(key.target)))
		return false;
	key.ifindex = ifindex;
	if (!bpf_map_lookup_elem(&parp_nd_targets, &key)) {
		key.ifindex = 0;
		if (!bpf_map_lookup_elem(&parp_nd_targets, &key))
			return false;
	}
	if (carries && advertises(skb)) {
		*verdict = bpf_redirect(ifindex, 0);
		return true;
	}
	if (!police(slot, nd_sender(skb, &ip)))
		return true;
	*verdict = TC_ACT_UNSPEC;
	skb->mark = MARK_ND;
	bpf_skb_change_type(skb, PACKET_OTHERHOST);
	return true;
}

// Does the responder see a frame, and show it?
static __always_inline bool shown_as_nd(struct __sk_buff *skb)
{
	struct ip ip;
	__u32 ifindex = skb->ifindex;
	struct port *p = bpf_map_lookup_elem(&parp_ports, &ifindex);

	if (!p || !(p->flags & PORT_ND) || !nd_frame(skb, p) || !read_ip(skb, ETH_HLEN, &ip))
		return false;
	__u8 type = nd_type(skb, &ip);
	return type == ND_SOLICIT || type == ND_ADVERT;
}

// What the responder gets: what the claim gives it, and as copies all other
// solicitations and advertisements of neighbours, policed as ARP is (parp_arp). Those
// of interfaces that userspace has not named yet, too.
SEC("socket")
int parp_nd(struct __sk_buff *skb)
{
	struct ip ip;
	__u32 ifindex = skb->ifindex, slot = 0;
	struct port *p = bpf_map_lookup_elem(&parp_ports, &ifindex);

	if (skb->mark == MARK_ND)
		return TAKE_ALL; // which has policed it
	if (p) {
		if (!(p->flags & PORT_ND) || !nd_frame(skb, p))
			return 0;
		slot = p->slot;
	} else if (skb->pkt_type == PACKET_OTHERHOST || in_vlan(skb)) {
		return 0;
	}
	if (!read_ip(skb, ETH_HLEN, &ip))
		return 0;
	__u8 type = nd_type(skb, &ip);
	if (type != ND_SOLICIT && type != ND_ADVERT)
		return 0;
	return police(slot, nd_sender(skb, &ip)) ? TAKE_ALL : 0;
}
