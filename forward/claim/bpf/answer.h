// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// Answering: how the claim of --engine ebpf answers plain requests for a gateway, of ARP
// and of neighbour discovery.
//
// A request is plain if nothing but its answer comes of it: it is for a gateway, from a
// sender that the tables know by this MAC, and route to this interface, or from a
// link-local address. So there is nothing to learn of it, and nothing to be said. What arpd
// and arpd/ndp would not answer is not plain; what they would, gets the answer that they
// give.

// Whom ARP requests may ask for that are answered here.
#define MAX_GATEWAYS 8
volatile const __be32 gateways[MAX_GATEWAYS];
volatile const __u32 gateway_count = 0;

// An interface where requests are answered.
struct answerer {
	struct port *port;
	struct carried *carried;
	__u32 slot;
	__u8 own[8], answer[8]; // MACs, in the first six octets: its own, and the one that is told
};

static __always_inline void copy_mac(__u8 *to, const __u8 *from)
{
	__builtin_memcpy(to, from, ETH_ALEN);
}

static __always_inline bool no_mac(const __u8 *mac)
{
	return !(*(__u32 *)mac | *(__u16 *)(mac + 4));
}

// May a frame of a family be answered where it came in?
static __always_inline bool answers_at(struct __sk_buff *skb, const struct family *f, struct answerer *a)
{
	__u32 ifindex = skb->ifindex, flags = f->forward | PORT_WORKLOAD;

	if (!(f->six ? carry_on6 : carry_on) || skb->vlan_present || skb->gso_size)
		return false;
	struct port *p = bpf_map_lookup_elem(&parp_ports, &ifindex);
	if (!p || (p->flags & flags) != flags || p->l2len != ETH_HLEN)
		return false;
	__u32 slot = p->slot;
	struct way *in = bpf_map_lookup_elem(&parp_ways, &slot);
	a->port = p;
	a->slot = slot;
	a->carried = bpf_map_lookup_elem(&parp_carried, &slot);
	if (!in || !a->carried || !(in->in & IN_OK) || in->ifindex != ifindex)
		return false;
	__u64 own = in->mac;
	if (!(flags_of(own) & f->ok))
		return false;
	__builtin_memcpy(a->own, &own, sizeof(a->own));
	__builtin_memset(a->answer, 0, sizeof(a->answer));
	copy_mac(a->answer, p->answer);
	return !no_mac(a->answer);
}

// Is it the MAC of a station that is answered? JudgeStations of arpd/judge.go.
static __always_inline bool is_station(const struct answerer *a, const __u8 *mac)
{
	return !(mac[0] & 1) && !no_mac(mac) && !same_mac(mac, a->own) && !same_mac(mac, a->answer) &&
	       !same_mac(mac, a->port->alias[0]) && !same_mac(mac, a->port->alias[1]);
}

// Is a next hop the station with that MAC?
static __always_inline bool is_at(const struct hop *h, const __u8 *mac)
{
	__u64 known = h->mac;
	__u8 has[8];

	__builtin_memcpy(has, &known, sizeof(has));
	return (flags_of(known) & (HOP_VALID | HOP_SUBNET)) == HOP_VALID && same_mac(has, mac);
}

// Makes the frame as long as its answer, and copies it before that for who captures:
// true unless nothing comes of it.
static __always_inline bool begin_answer(struct __sk_buff *skb, const struct answerer *a, __u32 len, struct shown **s)
{
	*s = carry_shown ? show(skb, a->slot, skb->ifindex) : 0;
	if (skb->len == len || !bpf_skb_change_tail(skb, len, 0))
		return true;
	if (*s)
		bpf_ringbuf_discard(*s, 0);
	return false;
}

// The frame is the answer now.
static __always_inline void end_answer(struct __sk_buff *skb, const struct answerer *a, struct shown *s)
{
	struct decided d = { .ifindex = skb->ifindex };

	__builtin_memcpy(&d.src, a->answer, sizeof(d.src));
	tell(s, &d, SHOWN_ANSWER);
	if (carry_mark)
		skb->mark = carry_mark;
}

struct arp {
	__be16 hrd, pro;
	__u8 hln, pln;
	__be16 op;
	__u8 sha[6], spa[4], tha[6], tpa[4];
} __attribute__((packed));

#define ARP_FRAME (ETH_HLEN + sizeof(struct arp))

static __always_inline bool is_gateway(__be32 addr)
{
	for (__u32 i = 0; i < MAX_GATEWAYS; i++)
		if (i < gateway_count && gateways[i] == addr)
			return true;
	return false;
}

// Is a sender known at an interface by that MAC, and routed there? By way of another
// station it is that one that is known: no neighbour of that address is ever used.
static __always_inline bool knows(__u32 ifindex, __be32 addr, const __u8 *mac)
{
	struct hop *h = hop_at(parp_hop_to(addr));

	if (!h || h->ifindex != ifindex)
		return false;
	if (flags_of(h->mac) & HOP_SUBNET) {
		struct neighkey key = { .ifindex = ifindex, .addr = addr };
		__u32 *id = bpf_map_lookup_elem(&parp_neighs, &key);
		h = id ? hop_at(*id) : 0;
	}
	return h && is_at(h, mac);
}

// Answers an ARP request if it is plain.
static __always_inline bool answers(struct __sk_buff *skb)
{
	const struct family f = CARRY4;
	struct answerer at;
	struct shown *s;
	__u8 sender[8] = {};
	__be32 from, to;

	if ((skb->pkt_type != PACKET_HOST && skb->pkt_type != PACKET_BROADCAST) || !answers_at(skb, &f, &at))
		return false;
	__u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	if (data + ARP_FRAME > end)
		return false; // it is short, or lies in pieces
	struct arp *a = (void *)(data + ETH_HLEN);
	if (a->hrd != bpf_htons(1) || a->pro != bpf_htons(ETH_P_IP) || a->hln != 6 || a->pln != 4 || a->op != bpf_htons(1))
		return false;
	__builtin_memcpy(&from, a->spa, 4);
	__builtin_memcpy(&to, a->tpa, 4);
	copy_mac(sender, a->sha);
	// Who has a gateway's address himself is heard of in userspace (arpd.Claims).
	if (to_host(from) || to_host(to) || !is_gateway(to) || is_gateway(from) || !same_mac(data + ETH_ALEN, sender) ||
	    !is_station(&at, sender) || !knows(skb->ifindex, from, sender))
		return false;

	if (!begin_answer(skb, &at, ARP_FRAME, &s))
		return false;
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (data + ARP_FRAME > end) {
		if (s)
			bpf_ringbuf_discard(s, 0);
		return false;
	}
	a = (void *)(data + ETH_HLEN);
	copy_mac(data, sender);
	copy_mac(data + ETH_ALEN, at.answer);
	a->op = bpf_htons(2);
	copy_mac(a->sha, at.answer);
	copy_mac(a->tha, sender);
	__builtin_memcpy(a->spa, &to, 4);
	__builtin_memcpy(a->tpa, &from, 4);
	at.carried->answered++;
	end_answer(skb, &at, s);
	return true;
}

// knows() of IPv6. Of a link-local address there is nothing to know: it is not routed, and
// userspace does not learn it (lessonOf of internal/daemon/learn.go).
static __always_inline bool knows6(__u32 ifindex, const struct addr6 *addr, const __u8 *mac)
{
	if ((addr->word[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000))
		return true;
	struct hop *h = hop_at(hop_to6((const __u8 *)addr));
	if (!h || h->ifindex != ifindex)
		return false;
	if (flags_of(h->mac) & HOP_SUBNET) {
		struct neighkey6 key = { .ifindex = ifindex, .addr = *addr };
		__u32 *id = bpf_map_lookup_elem(&parp_neighs6, &key);
		h = id ? hop_at(*id) : 0;
	}
	return h && is_at(h, mac);
}

#define ND_SOURCE 1 // options, RFC 4861 section 4.6
#define ND_TARGET_MAC 2
#define ND_MESSAGE 24 // without options, RFC 4861 sections 4.3 and 4.4
#define ND_OPTION 8
#define ND_FRAME (ETH_HLEN + sizeof(struct nd))

// An IPv6 packet with a solicitation or an advertisement that has one option, a
// link-layer address.
struct nd {
	__be32 version; // traffic class, flow label
	__be16 len; // of what is behind the header
	__u8 next, hops;
	struct addr6 src, dst;
	__u8 type, code;
	__be16 sum;
	__be32 flags;
	struct addr6 target;
	__u8 option, words, mac[6]; // words of 8 bytes
};

// The Internet checksum of a message with its pseudo-header, not complemented: 0xffff
// of one whose checksum is right. Behind one without an option are zeros.
static __always_inline __u16 nd_sum(struct nd *m)
{
	__u64 sum = (__u32)bpf_csum_diff(0, 0, (void *)&m->src, sizeof(*m) - 8, m->len + bpf_htons(PROTO_ICMPV6));

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

// Multicast, the unspecified and the loopback address: nobody's that asks.
static __always_inline bool no_sender(const struct addr6 *a)
{
	return (a->word[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000) ||
	       (!(a->word[0] | a->word[1] | a->word[2]) && bpf_ntohl(a->word[3]) <= 1);
}

static __always_inline bool same6(const struct addr6 *a, const struct addr6 *b)
{
	return !((a->word[0] ^ b->word[0]) | (a->word[1] ^ b->word[1]) | (a->word[2] ^ b->word[2]) | (a->word[3] ^ b->word[3]));
}

// Is it the solicited-node group of an address? RFC 4291 section 2.7.1.
static __always_inline bool is_group_of(const struct addr6 *group, const struct addr6 *a)
{
	return group->word[0] == bpf_htonl(0xff020000) && !group->word[1] && group->word[2] == bpf_htonl(1) &&
	       group->word[3] == (a->word[3] | bpf_htonl(0xff000000));
}

// Answers a solicitation for a gateway if it is plain. Who detects duplicates has no
// address, and is not known.
static __always_inline bool advertises(struct __sk_buff *skb)
{
	const struct family f = CARRY6;
	struct answerer at;
	struct shown *s;
	struct nd m = {};
	struct ndkey other = {};
	__u8 macs[2 * ETH_ALEN], sender[8] = {}, source[8] = {};

	if ((skb->pkt_type != PACKET_HOST && skb->pkt_type != PACKET_MULTICAST) || !answers_at(skb, &f, &at) ||
	    bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)) || bpf_skb_load_bytes(skb, ETH_HLEN, &m, sizeof(m) - ND_OPTION))
		return false;
	copy_mac(sender, macs + ETH_ALEN);
	if (m.len == bpf_htons(ND_MESSAGE + ND_OPTION)) {
		if (bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(m) - ND_OPTION, &m.option, ND_OPTION) || m.option != ND_SOURCE || m.words != 1)
			return false;
		copy_mac(source, m.mac);
		if (!same_mac(source, sender))
			return false;
	} else if (m.len != bpf_htons(ND_MESSAGE)) {
		return false;
	}
	if ((m.version & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000) || m.next != PROTO_ICMPV6 || m.hops != ND_HOPS ||
	    m.type != ND_SOLICIT || m.code || nd_sum(&m) != 0xffff || !(same6(&m.dst, &m.target) || is_group_of(&m.dst, &m.target)))
		return false;
	other.target = m.src; // who has a gateway's address himself is heard of in userspace
	if (no_sender(&m.src) || same6(&m.src, &m.target) || bpf_map_lookup_elem(&parp_nd_targets, &other) || !is_station(&at, sender) ||
	    !knows6(skb->ifindex, &m.src, sender))
		return false;

	m.version = bpf_htonl(0x60000000);
	m.len = bpf_htons(ND_MESSAGE + ND_OPTION);
	m.dst = m.src;
	m.src = m.target;
	m.type = ND_ADVERT;
	m.sum = 0;
	m.flags = bpf_htonl(0xe0000000); // of a router, solicited, to override
	m.option = ND_TARGET_MAC;
	m.words = 1;
	copy_mac(m.mac, at.answer);
	m.sum = ~nd_sum(&m);
	copy_mac(macs, sender);
	copy_mac(macs + ETH_ALEN, at.answer);
	if (!begin_answer(skb, &at, ND_FRAME, &s))
		return false;
	// The checksum of a frame that its device has computed does not count what is before
	// the packet. If the first fails nothing has changed; else the second does not.
	if (bpf_skb_store_bytes(skb, ETH_HLEN, &m, sizeof(m), BPF_F_RECOMPUTE_CSUM) || bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0)) {
		if (s)
			bpf_ringbuf_discard(s, 0);
		return false;
	}
	at.carried->answered_nd++;
	end_answer(skb, &at, s);
	return true;
}
